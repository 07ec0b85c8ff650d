package finetune_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"scrawl/adapters/volume"
	"scrawl/apps"
	"scrawl/apps/finetune"
	"scrawl/apps/interact"
	"scrawl/apps/phantom"
	"scrawl/apps/segment"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

func compiler(t *testing.T) adapt.Compiler {
	t.Helper()
	lib := orttest.Library(t)
	return func(model *onnx.Model) (adapt.Session, error) {
		s, err := lib.Compile(model, ort.Options{Threads: 2, NoSpinning: true})
		if err == nil {
			t.Cleanup(func() { _ = s.Close() })
		}
		return s, err
	}
}

// abdomens are cases of one phantom each, with the liver and the spleen labelled.
func abdomens(n int) []finetune.Case {
	numbers := phantom.Labels()
	var cases []finetune.Case
	for i := range n {
		cases = append(cases, finetune.Case{ID: fmt.Sprintf("case %d", i), Content: "1", Open: func(context.Context) (finetune.Labelled, error) {
			v, m := phantom.Abdomen([3]int{40, 32, 8}, [3]float64{8, 8, 20}, uint64(i+1))
			return finetune.Labelled{Volume: v, Labels: m, Names: map[uint16]string{numbers["liver"]: "liver", numbers["spleen"]: "spleen"}}, nil
		}})
	}
	return cases
}

// tubes are cases of a bright tube's wall: inside, it looks like outside, which is what networks that see strokes fill.
func tubes(n int) []finetune.Case {
	var cases []finetune.Case
	for i := range n {
		cases = append(cases, finetune.Case{ID: fmt.Sprintf("tube %d", i), Content: "1", Open: func(context.Context) (finetune.Labelled, error) {
			rng := rand.New(rand.NewPCG(uint64(i), 3))
			v := volume.NewVolume(volume.New([3]int{48, 48, 5}, [3]float64{1, 1, 4}))
			m := volume.NewLabelMap(v.Geometry)
			cx, cy, r, wall := 20+8*rng.Float64(), 20+8*rng.Float64(), 9+5*rng.Float64(), 3+1.5*rng.Float64()
			for at := range v.Voxels {
				x, y, z := float64(at%48), float64(at/48%48), float64(at/(48*48))
				d := math.Hypot(x-cx-z, (y-cy)*1.2)
				v.Voxels[at] = float32(100 + 12*rng.NormFloat64())
				if d < r && d > r-wall {
					v.Voxels[at] += 40
					m.Labels[at] = 7
				}
			}
			return finetune.Labelled{Volume: v, Labels: m, Names: map[uint16]string{7: "wall"}}, nil
		}})
	}
	return cases
}

// imageOnly is an untrained network that sees the image alone.
func imageOnly(t *testing.T, classes int) (*interact.Model, *adapt.Network) {
	t.Helper()
	m, err := train.UNet(train.UNetShape{Input: 1, Channels: []int{8, 16, 24}, Groups: 4, Classes: classes}, 3)
	if err != nil {
		t.Fatal(err)
	}
	n, err := adapt.NewNetwork(m, adapt.Trainable{})
	if err != nil {
		t.Fatal(err)
	}
	return &interact.Model{Input: interact.Input{Channels: []interact.Channel{interact.ChannelImage}, Grid: 32, Multiple: 4, Percentiles: [2]float64{0.5, 99.5}}}, n
}

// withClasses is a network that knows the spleen and the liver.
func withClasses(in segment.Input) *segment.Model {
	return &segment.Model{Input: in, Classes: []segment.Class{{Label: "spleen", Index: 1}, {Label: "liver", Index: 2}}}
}

// volumetric is an untrained network of volumes with three classes.
func volumetric(t *testing.T) *adapt.Network {
	t.Helper()
	dims := func(c int64) onnx.Shape {
		return onnx.Shape{{Symbol: "N"}, {Size: c}, {Symbol: "D"}, {Symbol: "H"}, {Symbol: "W"}}
	}
	g := &onnx.Graph{Name: "volumetric", Inputs: []onnx.Value{{Name: "image", DType: tensor.Float32, Shape: dims(1)}},
		Outputs: []onnx.Value{{Name: "logits", DType: tensor.Float32, Shape: dims(3)}}}
	b := onnx.NewBuilder(g, "")
	rng := rand.New(rand.NewPCG(4, 4))
	x, in := "image", 1
	for i, out := range []int{8, 8, 3} {
		w, bias := tensor.Zeros[float32](out, in, 3, 3, 3), tensor.Zeros[float32](out)
		for k := range w.Float32s() {
			w.Float32s()[k] = float32(rng.NormFloat64() * math.Sqrt(2/float64(27*in)))
		}
		name := fmt.Sprintf("layer%d", i)
		g.Initializers = append(g.Initializers, onnx.Initializer{Name: name + ".weight", Tensor: w}, onnx.Initializer{Name: name + ".bias", Tensor: bias})
		x = b.Op("Conv", []string{x, name + ".weight", name + ".bias"}, onnx.WithInts("kernel_shape", 3, 3, 3), onnx.WithInts("pads", 1, 1, 1, 1, 1, 1))
		if in = out; i < 2 {
			x = b.Op("Relu", []string{x})
		}
	}
	b.Alias(x, "logits")
	n, err := adapt.NewNetwork(&onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": onnx.Opset}, Graph: g}, adapt.Trainable{})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// shipped is the network that comes with Scrawl, on a smaller grid.
func shipped(t *testing.T, compile adapt.Compiler) (*interact.Model, *adapt.Network) {
	t.Helper()
	app, err := apps.Open("scribbles")
	if err != nil {
		t.Fatal(err)
	}
	app.Models[0].Input.Grid = 48
	loaded, err := app.Load(app.Models[0], compile)
	if err != nil {
		t.Fatal(err)
	}
	return loaded.Model, loaded.Engine.Network()
}

func training(t *testing.T, m *interact.Model, n *adapt.Network, cases []finetune.Case) *finetune.Training {
	t.Helper()
	return &finetune.Training{Model: m, Network: n, Compile: compiler(t), Cases: cases, Settings: finetune.Defaults(), Memory: 1 << 28,
		Note: func(s string) { t.Log(s) }}
}

// unseen measures weights on cases that training never saw, from a file made of them.
func unseen(t *testing.T, tr *finetune.Training, n *adapt.Network, w adapt.Weights, cases []finetune.Case) finetune.Figures {
	t.Helper()
	file, err := n.Model(w)
	if err != nil {
		t.Fatal(err)
	}
	data, err := file.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if file, err = onnx.Parse(data); err != nil {
		t.Fatal(err)
	}
	m := *tr
	m.Cases, m.Checkpoint = cases, ""
	if m.Network, err = adapt.NewNetwork(file, adapt.Trainable{}); err != nil {
		t.Fatal(err)
	}
	f, err := m.Measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// From ten labelled images the answers on other images get better: the whole point.
func TestTrainingHelps(t *testing.T) {
	t.Run("one object, image alone", func(t *testing.T) {
		m, n := imageOnly(t, 2)
		tr := training(t, m, n, abdomens(10))
		tr.Settings.Epochs, tr.Settings.LearningRate, tr.Settings.Labels = 8, 3e-3, []string{"liver"}
		helps(t, tr, abdomens(14)[10:], 0.4)
	})
	t.Run("two classes of slices", func(t *testing.T) {
		_, n := imageOnly(t, 3)
		tr := training(t, nil, n, abdomens(10))
		tr.Segment = withClasses(segment.Input{Multiple: 4, Percentiles: [2]float64{0.5, 99.5}})
		tr.Settings.Epochs, tr.Settings.LearningRate, tr.Settings.Weights = 12, 3e-3, []string{"*"}
		f := helps(t, tr, abdomens(14)[10:], 0.2)
		if len(f.Labels) != 2 {
			t.Errorf("figures of %v, want both labels", f.Labels)
		}
	})
	t.Run("two classes of volumes, in windows", func(t *testing.T) {
		tr := training(t, nil, volumetric(t), abdomens(10))
		tr.Segment = withClasses(segment.Input{Patch: []int{8, 16, 16}, Multiple: 1, Percentiles: [2]float64{0.5, 99.5}})
		tr.Settings.Epochs, tr.Settings.LearningRate = 14, 1e-2
		helps(t, tr, abdomens(14)[10:], 0.15)
	})
	t.Run("strokes, the network that is shipped", func(t *testing.T) {
		m, n := shipped(t, compiler(t))
		tr := training(t, m, n, tubes(10))
		tr.Settings.Epochs, tr.Settings.Slices = 3, 6
		// It is right to within 0.03 before it has seen a wall of this kind.
		f := helps(t, tr, tubes(14)[10:], 0.005)
		if f.Source < 0.4 {
			t.Errorf("Dice on synthetic examples is %.2f: the network has forgotten what it knew", f.Source)
		}
	})
}

func helps(t *testing.T, tr *finetune.Training, others []finetune.Case, by float64) finetune.Figures {
	t.Helper()
	before := unseen(t, tr, tr.Network, tr.Network.Source(), others)
	steps, epochs := 0, 0
	tr.Progress = func(p finetune.Progress) {
		if p.Done != nil {
			epochs++
		} else {
			steps++
		}
		if p.Epoch < 1 || p.Epoch > p.Epochs || p.Step < 1 || p.Step > p.Steps {
			t.Errorf("progress %+v", p)
		}
	}
	res, err := tr.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	after := unseen(t, tr, res.Network, res.Weights, others)
	t.Logf("unseen: %+v before, %+v after", before, after)
	if !res.Helped() || after.Dice < before.Dice+by {
		t.Errorf("Dice on unseen cases is %.3f, was %.3f: at least %.3f more is wanted (helped: %t)", after.Dice, before.Dice, by, res.Helped())
	}
	if len(res.Trained) != 8 || len(res.Held) != 2 || len(res.Epochs) != tr.Settings.Epochs || epochs != len(res.Epochs) || steps == 0 {
		t.Errorf("%d cases learned from, %d set aside, %d epochs, told of %d and %d steps", len(res.Trained), len(res.Held), len(res.Epochs), epochs, steps)
	}
	return after
}

// Training that was cut off goes on from its checkpoint to the very weights it would have come to.
func TestResume(t *testing.T) {
	m, n := imageOnly(t, 2)
	make := func(checkpoint string) *finetune.Training {
		tr := training(t, m, n, abdomens(4))
		tr.Settings.Epochs, tr.Settings.Labels, tr.Settings.Patience, tr.Checkpoint = 4, []string{"liver"}, 0, checkpoint
		return tr
	}
	straight, err := make("").Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "checkpoint")
	ctx, stop := context.WithCancel(t.Context())
	first := make(file)
	first.Progress = func(p finetune.Progress) {
		if p.Epoch == 3 && p.Step == 2 {
			stop()
		}
	}
	if _, err := first.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("cut off: %v", err)
	}
	second := make(file)
	var notes []string
	second.Note = func(s string) { notes = append(notes, s) }
	resumed, err := second.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(notes, "\n"), "going on after epoch 2 of 4") {
		t.Errorf("notes %q", notes)
	}
	for i, w := range straight.Weights {
		if !slices.Equal(w.Float32s(), resumed.Weights[i].Float32s()) {
			t.Fatal("training that went on from a checkpoint gave other weights")
		}
	}
	if resumed.Best.Dice != straight.Best.Dice || len(resumed.Epochs) != 4 {
		t.Errorf("resumed %+v, straight %+v", resumed.Best, straight.Best)
	}

	// More epochs may be asked for; with anything else changed, training begins anew and says so.
	other := make(file)
	other.Settings.LearningRate = 1e-3
	notes, other.Note = nil, second.Note
	if _, err := other.Run(t.Context()); err != nil || !strings.Contains(strings.Join(notes, "\n"), "begins anew") {
		t.Errorf("another learning rate: %v, %q", err, notes)
	}
}

// A budget of memory that holds one case at a time changes no figure but the order of examples.
func TestMemory(t *testing.T) {
	m, n := imageOnly(t, 2)
	cases := abdomens(6)
	tr := training(t, m, n, cases)
	tr.Settings.Epochs, tr.Settings.Labels, tr.Settings.LearningRate, tr.Memory = 2, []string{"liver"}, 3e-3, 1
	opened := 0
	for i, c := range cases {
		tr.Cases[i].Open = func(ctx context.Context) (finetune.Labelled, error) {
			opened++
			return c.Open(ctx)
		}
	}
	res, err := tr.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Once each to look, then once each an epoch, and for each measurement.
	if len(res.Epochs) != 2 || opened < 18 || opened > 24 {
		t.Errorf("%d epochs, images opened %d times", len(res.Epochs), opened)
	}
}

// A blend goes a part of the way from the weights that training began with to the trained ones.
func TestBlend(t *testing.T) {
	m, n := imageOnly(t, 2)
	run := func(blend float64) adapt.Weights {
		tr := training(t, m, n, abdomens(3))
		tr.Settings.Epochs, tr.Settings.Labels, tr.Settings.Validation, tr.Settings.Blend = 1, []string{"liver"}, 0, blend
		res, err := tr.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return res.Weights
	}
	all, quarter := run(0), run(0.25)
	for i, source := range n.Source() {
		for k, from := range source.Float32s() {
			want := float64(from) + 0.25*(float64(all[i].Float32s()[k])-float64(from))
			if got := float64(quarter[i].Float32s()[k]); math.Abs(got-want) > 1e-6 {
				t.Fatalf("weight %s[%d] is %g, want %g", n.Params()[i], k, got, want)
			}
		}
	}
}

// When nothing gets better training stops, and the weights stay those it began with.
func TestNoHelp(t *testing.T) {
	m, n := imageOnly(t, 2)
	tr := training(t, m, n, abdomens(5))
	tr.Settings.Labels, tr.Settings.LearningRate, tr.Settings.Patience = []string{"spleen"}, 1e-9, 2
	res, err := tr.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if res.Helped() || res.Stopped == "" || len(res.Epochs) != 2 {
		t.Errorf("helped %t, stopped %q after %d epochs, Dice %g then %g", res.Helped(), res.Stopped, len(res.Epochs), res.Before.Dice, res.Best.Dice)
	}
	for i, w := range res.Weights {
		if !slices.Equal(w.Float32s(), res.Network.Source()[i].Float32s()) {
			t.Fatal("weights that did not help were kept")
		}
	}
}

func TestRefusals(t *testing.T) {
	m, n := imageOnly(t, 2)
	broken := finetune.Case{ID: "broken", Open: func(context.Context) (finetune.Labelled, error) {
		return finetune.Labelled{}, errors.New("no image at all")
	}}
	for _, c := range []struct {
		name   string
		change func(*finetune.Training)
		says   string
	}{
		{"no case", func(tr *finetune.Training) { tr.Cases = nil }, "no labelled image"},
		{"broken cases alone", func(tr *finetune.Training) { tr.Cases = []finetune.Case{broken} }, "1 of 1"},
		{"an unknown label", func(tr *finetune.Training) { tr.Settings.Labels = []string{"tail"} }, `"tail"`},
		{"two labels for one object", func(tr *finetune.Training) { tr.Settings.Labels = []string{"liver", "spleen"} }, "one label"},
		{"classes without names", func(tr *finetune.Training) { tr.Network = three(t) }, "4 classes"},
		{"classes that nobody has labelled", func(tr *finetune.Training) {
			tr.Model, tr.Network = nil, three(t)
			tr.Segment = &segment.Model{Input: segment.Input{Multiple: 4}, Classes: []segment.Class{{Label: "tail", Index: 1}}}
		}, "[tail]"},
		{"no epoch", func(tr *finetune.Training) { tr.Settings.Epochs = 0 }, "epochs"},
		{"no slices", func(tr *finetune.Training) { tr.Settings.Slices = 0 }, "slices"},
		{"all set aside", func(tr *finetune.Training) { tr.Settings.Validation = 1 }, "validation"},
		{"not a number", func(tr *finetune.Training) { tr.Settings.LearningRate = math.NaN() }, "learning rate"},
		{"no batch", func(tr *finetune.Training) { tr.Settings.Batch = 65 }, "batches"},
		{"negative patience", func(tr *finetune.Training) { tr.Settings.Patience = -1 }, "patience"},
		{"replay alone", func(tr *finetune.Training) { tr.Settings.Replay = 1 }, "replay"},
		{"more than all of the way", func(tr *finetune.Training) { tr.Settings.Blend = 1.5 }, "blend"},
		{"no weights", func(tr *finetune.Training) { tr.Settings.Weights = nil }, "weights"},
		{"weights nobody has", func(tr *finetune.Training) { tr.Settings.Weights = []string{"encoder.*"} }, "encoder.*"},
		{"a bad pattern", func(tr *finetune.Training) { tr.Settings.Weights = []string{"["} }, "pattern"},
	} {
		tr := training(t, m, n, abdomens(2))
		tr.Settings.Epochs = 1
		c.change(tr)
		if _, err := tr.Run(t.Context()); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.says)
		}
	}
	tr := training(t, m, n, append(abdomens(3), broken))
	tr.Settings.Epochs, tr.Settings.Labels = 1, []string{"liver"}
	res, err := tr.Run(t.Context())
	if err != nil || len(res.Skipped) != 1 || !strings.Contains(res.Skipped[0], "broken: no image at all") {
		t.Errorf("a broken case among others: %v, %v", res, err)
	}
}

func three(t *testing.T) *adapt.Network {
	_, n := imageOnly(t, 4)
	return n
}
