package train_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
	"scrawl/engine/onnx/refexec"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

const side = 16

var tiny = train.UNetShape{Input: 2, Channels: []int{4, 8}, Groups: 2, Classes: 2}

func tinyEngine(t *testing.T) *adapt.Engine {
	t.Helper()
	m, err := train.UNet(tiny, 5)
	if err != nil {
		t.Fatal(err)
	}
	n, err := adapt.NewNetwork(m, adapt.Trainable{})
	if err != nil {
		t.Fatal(err)
	}
	lib := orttest.Library(t)
	e, err := adapt.NewEngine(n, []int{0}, func(model *onnx.Model) (adapt.Session, error) {
		s, err := lib.Compile(model, ort.Options{Threads: 1, NoSpinning: true})
		if err == nil {
			t.Cleanup(func() { _ = s.Close() })
		}
		return s, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// discs is a batch of noisy images of bright discs, with their masks.
func discs(seed uint64, batch int) (x, target *tensor.Tensor) {
	rng := rand.New(rand.NewPCG(seed, 0))
	x, target = tensor.Zeros[float32](batch, 2, side, side), tensor.Zeros[float32](batch, 1, side, side)
	for b := range batch {
		cy, cx := 4+rng.IntN(8), 4+rng.IntN(8)
		for i := range side * side {
			dy, dx := i/side-cy, i%side-cx
			v := 0.3 * rng.Float32()
			if dy*dy+dx*dx < 12 {
				v += 0.6
				target.Float32s()[b*side*side+i] = 1
			}
			x.Float32s()[2*b*side*side+i] = v
		}
	}
	return x, target
}

func options() train.Options {
	o := train.Defaults()
	o.Warmup, o.LearningRate, o.Batch = 1, 1e-2, 2
	return o
}

func TestUNetShapes(t *testing.T) {
	for _, c := range []struct {
		shape train.UNetShape
		ok    bool
	}{
		{tiny, true}, {train.UNetShape{Input: 1, Channels: []int{4, 4, 8}, Groups: 4, Classes: 1}, true},
		{train.UNetShape{Input: 1, Channels: []int{4, 6}, Groups: 4, Classes: 2}, false}, {train.UNetShape{Input: 1, Channels: []int{4}, Groups: 2, Classes: 2}, false},
		{train.UNetShape{}, false}, {train.UNetShape{Input: 1, Channels: []int{4, 8}, Groups: 2}, false},
	} {
		m, err := train.UNet(c.shape, 1)
		if (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.shape, err)
		}
		if err != nil {
			continue
		}
		if err := onnx.Check(m.Graph); err != nil {
			t.Errorf("%+v: %v", c.shape, err)
		}
		h := 3 * c.shape.Multiple()
		out, err := refexec.Run(m.Graph, map[string]*tensor.Tensor{"image": tensor.Zeros[float32](2, c.shape.Input, h, 2*h)})
		if err != nil || !slices.Equal(out["logits"].Shape(), []int{2, c.shape.Classes, h, 2 * h}) {
			t.Errorf("%+v: logits %v, %v", c.shape, out["logits"].Shape(), err)
		}
	}
	a, _ := train.UNet(tiny, 1)
	b, _ := train.UNet(tiny, 1)
	d, _ := train.UNet(tiny, 2)
	w := func(m *onnx.Model) []float32 { return m.Graph.Initializer("down1.b.weight").Float32s() }
	if !slices.Equal(w(a), w(b)) || slices.Equal(w(a), w(d)) {
		t.Error("weights must follow from the seed")
	}
}

// TestUNetGradients compares gradients of Σ logits·r with numeric differences, in float64.
func TestUNetGradients(t *testing.T) {
	m, err := train.UNet(tiny, 5)
	if err != nil {
		t.Fatal(err)
	}
	params := []string{"down0.a.weight", "down0.a.scale", "down1.b.weight", "down1.b.shift", "up0.a.weight", "head.weight", "head.bias"}
	g := *m.Graph
	g.Nodes = slices.Clone(g.Nodes)
	b := onnx.NewBuilder(&g, "test/")
	g.Inputs = append(slices.Clone(g.Inputs), onnx.Value{Name: "r", DType: tensor.Float32, Shape: onnx.Shape{{Symbol: "N"}, {Size: 2}, {Symbol: "H"}, {Symbol: "W"}}})
	loss := b.Op("ReduceSum", []string{b.Op("Mul", []string{"logits", "r"})}, onnx.WithInt("keepdims", 0))
	grads, err := autodiff.Gradients(b, map[string]string{loss: b.Float(1)}, params)
	if err != nil {
		t.Fatal(err)
	}
	x, target := discs(1, 1)
	r := tensor.Zeros[float32](1, 2, side, side)
	copy(r.Float32s()[side*side:], target.Float32s())
	in := map[string]*tensor.Tensor{"image": x, "r": r}
	run := func() map[string]*tensor.Tensor {
		out, err := refexec.Run(&g, in)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	analytic := run()
	for _, p := range params {
		w := g.Initializer(p).Float32s()
		for _, at := range []int{0, len(w) / 2, len(w) - 1} {
			const h = 1.0 / 4096 // exact in float32, as are the sums near 1
			was := w[at]
			w[at] = was + h
			up := tensor.Data[float64](run()[loss])[0]
			hi := w[at]
			w[at] = was - h
			down := tensor.Data[float64](run()[loss])[0]
			numeric := (up - down) / (float64(hi) - float64(w[at]))
			w[at] = was
			got := tensor.Data[float64](analytic[grads[p]])[at]
			if math.Abs(got-numeric) > 0.02*math.Max(1, math.Abs(numeric)) {
				t.Errorf("gradient of %s[%d] is %g, differences give %g", p, at, got, numeric)
			}
		}
	}
}

func TestTrainingReducesTheLoss(t *testing.T) {
	tr := train.NewTrainer(tinyEngine(t), options())
	x, target := discs(1, 2)
	var losses []float64
	for k := range 60 {
		l, err := tr.Step(t.Context(), x, target, float64(k)/120)
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, l)
	}
	if last := losses[len(losses)-1]; !(last < 0.5*losses[0]) || tr.Steps() != 60 {
		t.Errorf("loss %g at the start and %g after %d steps", losses[0], last, tr.Steps())
	}
	p, err := tr.Predict(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	right := 0
	for b := range 2 {
		for i := range side * side {
			if (p.Float32s()[(2*b+1)*side*side+i] > 0.5) == (target.Float32s()[b*side*side+i] > 0.5) {
				right++
			}
		}
	}
	if right < 2*side*side*9/10 {
		t.Errorf("%d of %d pixels are right", right, 2*side*side)
	}
}

// TestFirstStep holds the very first step against AdamW by hand: with corrected moments each weight moves by the learning rate,
// against its gradient, and the average takes a part of that.
func TestFirstStep(t *testing.T) {
	e := tinyEngine(t)
	o := options()
	o.WeightDecay = 0
	tr := train.NewTrainer(e, o)
	x, target := discs(1, 2)
	if _, err := tr.Step(t.Context(), x, target, 1); err != nil { // at the end of training: a hundredth of the rate
		t.Fatal(err)
	}
	for i, p := range e.Network().Params() {
		if p != "head.bias" && p != "up0.b.shift" { // elsewhere gradients may be zero
			continue
		}
		for k, v := range tr.Weights()[i].Float32s() {
			// α = 1/10 for the first average: nine tenths of the step are taken.
			moved := math.Abs(float64(v)-float64(e.Network().Source()[i].Float32s()[k])) / 0.9
			if math.Abs(moved-1e-4) > 2e-6 {
				t.Errorf("%s[%d] moved by %g, want the learning rate, 1e-4", p, k, moved)
			}
		}
	}
}

func TestCheckpoint(t *testing.T) {
	e := tinyEngine(t)
	run := func(tr *train.Trainer, from, to int) (last float64) {
		for k := from; k < to; k++ {
			x, target := discs(uint64(k), 2)
			var err error
			if last, err = tr.Step(t.Context(), x, target, float64(k)/10); err != nil {
				t.Fatal(err)
			}
		}
		return last
	}
	straight := train.NewTrainer(e, options())
	want := run(straight, 0, 6)

	first := train.NewTrainer(e, options())
	run(first, 0, 3)
	var file bytes.Buffer
	if err := first.Save(&file); err != nil {
		t.Fatal(err)
	}
	saved := file.Bytes()
	second := train.NewTrainer(e, options())
	if err := second.Load(bytes.NewReader(saved)); err != nil {
		t.Fatal(err)
	}
	if got := run(second, 3, 6); math.Float64bits(got) != math.Float64bits(want) {
		t.Errorf("loss %g after going on from a checkpoint, %g without", got, want)
	}
	for i, w := range second.Weights() {
		if !slices.Equal(w.Float32s(), straight.Weights()[i].Float32s()) {
			t.Fatal("training that went on from a checkpoint gave other weights")
		}
	}

	before := second.Steps()
	if err := second.Load(bytes.NewReader(saved[:len(saved)/2])); err == nil {
		t.Error("half a checkpoint: no error")
	}
	wide := tiny
	wide.Channels = []int{4, 12}
	m, err := train.UNet(wide, 1)
	if err != nil {
		t.Fatal(err)
	}
	n, err := adapt.NewNetwork(m, adapt.Trainable{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := adapt.NewEngine(n, []int{0}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := train.NewTrainer(other, options()).Load(bytes.NewReader(saved)); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Errorf("a checkpoint of another network: %v", err)
	}
	if second.Steps() != before {
		t.Error("a failed load changed the trainer")
	}
}

// TestLearnEach sees that a lesson of several batches does what its batches do one after the other, but for the learning rate's decay.
func TestLearnEach(t *testing.T) {
	e := tinyEngine(t)
	o := options()
	o.Average = 0.05 // the same for all steps
	together, apart := train.NewTrainer(e, o), train.NewTrainer(e, o)
	warm := func(tr *train.Trainer) {
		for k := range 4 {
			x, target := discs(uint64(k), 2)
			if _, err := tr.Step(t.Context(), x, target, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	warm(together)
	warm(apart)
	var batches []train.Batch
	var want []float64
	for k := range 3 {
		x, target := discs(uint64(10+k), 2)
		batches = append(batches, train.Batch{X: x, Target: target})
		l, err := apart.Step(t.Context(), x, target, 0)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, l)
	}
	lesson, err := together.Lesson(batches)
	if err != nil || lesson.Steps() != 3 {
		t.Fatalf("a lesson of %d steps, %v", lesson.Steps(), err)
	}
	got, err := together.LearnEach(t.Context(), lesson, 0)
	if err != nil || together.Steps() != 7 {
		t.Fatalf("%d steps, %v", together.Steps(), err)
	}
	for i := range want {
		if math.Abs(got[i]-want[i]) > 0.03*want[i] { // the corrections of AdamW's moments differ
			t.Errorf("losses %v in one run, %v in three", got, want)
		}
	}
	if math.Float64bits(got[0]) != math.Float64bits(want[0]) || got[1] == got[0] {
		t.Errorf("losses %v in one run, %v in three", got, want)
	}
	if _, err := together.Lesson(nil); err == nil {
		t.Error("a lesson of no batch: no error")
	}
	if _, err := together.LearnEach(t.Context(), train.Lesson{}, 0); err == nil {
		t.Error("an empty lesson: no error")
	}
	one, target := discs(1, 1)
	if _, err := together.Lesson(append(batches, train.Batch{X: one, Target: target})); err == nil {
		t.Error("batches of two shapes: no error")
	}
}

func TestStepRefusesWhatDoesNotFit(t *testing.T) {
	tr := train.NewTrainer(tinyEngine(t), options())
	x, target := discs(1, 2)
	if _, err := tr.Step(t.Context(), x, x, 0); err == nil {
		t.Error("targets of two channels: no error")
	}
	if _, err := tr.Step(t.Context(), target, target, 0); err == nil || tr.Steps() != 0 {
		t.Error("images of one channel: no error")
	}
}
