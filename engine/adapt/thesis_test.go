package adapt_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

func TestInteractIsTheSameOnInterpreterAndRuntime(t *testing.T) {
	n := smallUNet(t, 2, 2, adapt.Trainable{})
	a, b := engine(t, n, onInterpreter), engine(t, n, onRuntime(t))
	s := scribbled(2, 2)
	pa, sa, ra := interact(t, a, quick(), a.NewSets(1), s, 1)
	pb, sb, rb := interact(t, b, quick(), b.NewSets(1), s, 1)
	expectClose(t, "answer", pb.Float32s(), pa.Float32s(), 1e-5)
	expectClose(t, "student", moves(sb.Student, n.Source()), moves(sa.Student, n.Source()), 1e-3)
	expectClose(t, "teacher", moves(sb.Averages[0], n.Source()), moves(sa.Averages[0], n.Source()), 1e-3)
	if ra.Copies != 6 || rb.Copies != 6 || ra.LowVariance != rb.LowVariance || ra.Marked != 12 || len(ra.Losses) != 2 || math.Abs(ra.Moved-0.75) > 1e-12 {
		t.Errorf("reports %+v and %+v", ra, rb)
	}
}

// TestInteractLearnsFromStrokes is the thesis in one sentence: the marked pixels come to have the label the user gave them.
func TestInteractLearnsFromStrokes(t *testing.T) {
	n := smallUNet(t, 1, 2, adapt.Trainable{})
	e := engine(t, n, onRuntime(t))
	s := scribbled(1, 2)
	c := adapt.Thesis()
	c.Steps, c.LearningRate, c.Alpha = 20, 0.05, 0.9
	sets := e.NewSets(1)
	wrong := func(w adapt.Weights) (count int) {
		p, err := e.Predict(t.Context(), w, s.X)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range s.Marked.Float32s() {
			if m > 0 && (p.Float32s()[side*side+i] > 0.5) != (s.Scribble.Float32s()[side*side+i] > 0.5) {
				count++
			}
		}
		return count
	}
	if wrong(n.Source()) == 0 {
		t.Fatal("the untrained network is right by chance: take another seed")
	}
	for k := range 4 {
		_, sets, _ = interact(t, e, c, sets, s, uint64(k))
	}
	if k := wrong(sets.Averages[0]); k > 0 {
		t.Errorf("%d of 12 marked pixels are still wrong after 4 interactions", k)
	}
}

// TestPseudoMask makes the augmented copies in Go and compares the graph's mean and variance with theirs.
func TestPseudoMask(t *testing.T) {
	n := smallUNet(t, 3, 2, adapt.Trainable{})
	compile := onRuntime(t)
	for _, images := range [][]int{{0}, {1}, {2, 0}, {0, 1, 2}} {
		e, err := adapt.NewEngine(n, images, compile)
		if err != nil {
			t.Fatal(err)
		}
		for _, copies := range []int{1, 4, 6, 9} {
			c := adapt.Thesis()
			s := scribbled(3, 2)
			p, err := e.Predict(t.Context(), n.Source(), s.X)
			if err != nil {
				t.Fatal(err)
			}
			mean, variance, err := adapt.PseudoMask(e, t.Context(), c, n.Source(), s, p, copies, 5)
			if err != nil {
				t.Fatal(err)
			}
			wantMean, wantVariance := pseudoMaskInGo(t, e, c, images, s.X, copies, 5)
			expectClose(t, name("mean of %d copies of channels %v", copies, images), mean.Float32s(), wantMean, 1e-5)
			for i, v := range variance.Float32s() {
				if math.Abs(float64(v)-wantVariance[i]) > 1e-5 {
					t.Fatalf("%d copies of channels %v: variance of pixel %d is %g, want %g", copies, images, i, v, wantVariance[i])
				}
			}
		}
	}
}

// pseudoMaskInGo draws the same augmentations, applies them pixel by pixel and averages the softened answers.
func pseudoMaskInGo(t *testing.T, e *adapt.Engine, c adapt.Config, images []int, x *tensor.Tensor, copies int, draw uint64) (mean []float32, variance []float64) {
	t.Helper()
	lo, hi := adapt.IntensityRange(x, nil, images)
	rng := rand.New(rand.NewPCG(c.Seed, draw))
	channels := slices.Sorted(slices.Values(images))
	const pixels = side * side
	sum, squares := make([]float64, 2*pixels), make([]float64, 2*pixels)
	for _, a := range c.Augmentations(rng, copies, lo, hi, len(images), side, side) {
		y := x.Clone()
		for at, channel := range channels {
			plane := y.Float32s()[channel*pixels:][:pixels]
			v := convolved(convolved(plane, a.Blur, side), a.Blur, 1)
			for i := range plane {
				plane[i] = a.Gain*v[i] + a.Offset + a.Noise[at*pixels+i]
			}
		}
		p, err := e.Predict(t.Context(), e.Network().Source(), y)
		if err != nil {
			t.Fatal(err)
		}
		for i := range pixels {
			// The softmax of logits/T is the probabilities to the power 1/T, normalised.
			a := math.Pow(float64(p.Float32s()[i]), 1/c.Temperature)
			b := math.Pow(float64(p.Float32s()[pixels+i]), 1/c.Temperature)
			for class, v := range []float64{a / (a + b), b / (a + b)} {
				sum[class*pixels+i] += v
				squares[class*pixels+i] += v * v
			}
		}
	}
	variance = make([]float64, pixels)
	for i, v := range sum {
		m := v / float64(copies)
		mean = append(mean, float32(m))
		variance[i%pixels] = max(variance[i%pixels], squares[i]/float64(copies)-m*m)
	}
	return mean, variance
}

// convolved blurs along rows (step 1) or columns (step side), repeating the border.
func convolved(v, taps []float32, step int) []float32 {
	out := make([]float32, len(v))
	for i := range v {
		at := i / step % side
		for k := range adapt.BlurTaps {
			to := min(max(at+k-adapt.BlurTaps/2, 0), side-1)
			out[i] += taps[k] * v[i+(to-at)*step]
		}
	}
	return out
}

func TestBlurOfLearnedExamples(t *testing.T) {
	v := noise(4, side, side).Float32s()
	taps := make([]float32, adapt.BlurTaps)
	sum := float32(0)
	for i := range taps {
		taps[i] = float32(math.Exp(-math.Pow(float64(i-adapt.BlurTaps/2), 2) / (2 * 0.9 * 0.9)))
		sum += taps[i]
	}
	for i := range taps {
		taps[i] /= sum
	}
	expectClose(t, "blurred", adapt.Blur(v, 0.9, side, side), convolved(convolved(v, taps, side), taps, 1), 1e-6)
	if !same(adapt.Blur(v, 0, side, side), v) {
		t.Error("no blur changes the image")
	}
}

// TestEverySwitchCounts changes one constant at a time; each must change the answer.
func TestEverySwitchCounts(t *testing.T) {
	n := smallUNet(t, 2, 2, adapt.Trainable{})
	e := engine(t, n, onRuntime(t))
	s := scribbled(2, 2)
	base := quick()
	want, _, _ := interact(t, e, base, e.NewSets(1), s, 1)
	for what, change := range map[string]func(*adapt.Config){
		"λ": func(c *adapt.Config) { c.Lambda = 2.5 }, "α": func(c *adapt.Config) { c.Alpha = 0.6 },
		"steps": func(c *adapt.Config) { c.Steps = 3 }, "learning rate": func(c *adapt.Config) { c.LearningRate = 0.02 },
		"no consistency": func(c *adapt.Config) { c.Consistency = false }, "no strokes": func(c *adapt.Config) { c.Interactive = false },
		"no augmentation": func(c *adapt.Config) { c.Noise, c.Blur, c.Inversion = false, false, false },
		"no noise":        func(c *adapt.Config) { c.Noise = false }, "no blur": func(c *adapt.Config) { c.Blur = false },
		"no inversion": func(c *adapt.Config) { c.Inversion = false },
		"adaptive":     func(c *adapt.Config) { c.FixedCopies = 0 }, "more copies": func(c *adapt.Config) { c.FixedCopies = 16 },
		"sums": func(c *adapt.Config) { c.SumLosses, c.LearningRate = true, 1e-4 }, "once": func(c *adapt.Config) { c.AveragePerStep = false },
		"student": func(c *adapt.Config) { c.StudentAnswers = true }, "temperature": func(c *adapt.Config) { c.Temperature = 1 },
		"variance": func(c *adapt.Config) { c.Variance = 1e-3 }, "seed": func(c *adapt.Config) { c.Seed = 2 },
	} {
		c := base
		change(&c)
		if got, _, _ := interact(t, e, c, e.NewSets(1), s, 1); same(got.Float32s(), want.Float32s()) {
			t.Errorf("%s: the answer is the same", what)
		}
	}
	if got, _, _ := interact(t, e, base, e.NewSets(1), s, 2); same(got.Float32s(), want.Float32s()) {
		t.Error("another interaction's draw: the answer is the same")
	}
	sets := e.NewSets(1)
	teacher := slices.Clone(sets.Averages[0])
	teacher[0] = teacher[0].Clone()
	teacher[0].Float32s()[3] += 0.05
	sets.Averages = []adapt.Weights{teacher}
	if got, _, _ := interact(t, e, base, sets, s, 1); same(got.Float32s(), want.Float32s()) {
		t.Error("one weight of the teacher: the answer is the same")
	}
}

// TestSwitchesDoWhatTheySay checks the reports and losses of the ablations.
func TestSwitchesDoWhatTheySay(t *testing.T) {
	n := smallUNet(t, 2, 2, adapt.Trainable{})
	e := engine(t, n, onRuntime(t))
	s := scribbled(2, 2)
	run := func(change func(*adapt.Config)) (adapt.Sets, adapt.Report) {
		c := quick()
		change(&c)
		_, next, r := interact(t, e, c, e.NewSets(1), s, 1)
		return next, r
	}
	if _, r := run(func(c *adapt.Config) { c.Consistency = false }); r.Copies != 0 || r.LowVariance != 0 || r.Losses[0][0] != 0 || r.Losses[0][1] <= 0 {
		t.Errorf("no consistency: %+v", r)
	}
	if _, r := run(func(c *adapt.Config) { c.Interactive = false }); r.Marked != 0 || r.Losses[0][1] != 0 || r.Losses[0][0] <= 0 {
		t.Errorf("no strokes: %+v", r)
	}
	if _, r := run(func(c *adapt.Config) { c.Noise, c.Blur, c.Inversion = false, false, false }); r.Copies != 0 || r.LowVariance != side*side {
		t.Errorf("no augmentation: %+v", r)
	}
	for limit := range map[int]bool{16: true, 32: true} {
		_, r := run(func(c *adapt.Config) {
			c.FixedCopies, c.MaxCopies, c.Copies = 0, limit, []adapt.CopyRule{{-1, 4}, {1, 32}}
		})
		if r.Copies != limit {
			t.Errorf("at most %d copies: %d were made", limit, r.Copies)
		}
	}
	_, means := run(func(*adapt.Config) {})
	_, sums := run(func(c *adapt.Config) { c.SumLosses, c.LearningRate = true, 1e-5 })
	if a, b := float64(sums.Losses[0][1]), 12*float64(means.Losses[0][1]); math.Abs(a-b) > 1e-3*b {
		t.Errorf("the sum over 12 marked pixels is %g, 12 means are %g", a, b)
	}
	next, r := run(func(c *adapt.Config) { c.Consistency, c.Interactive = false, false })
	if r.Losses != nil || !same(flat(next.Averages[0]), flat(n.Source())) {
		t.Error("without losses something was learned")
	}
	if next, r := run(func(c *adapt.Config) { c.Steps = 0 }); r.Moved != 0 || !same(flat(next.Student), flat(n.Source())) {
		t.Error("in no steps something was learned")
	}
	once, _ := run(func(c *adapt.Config) { c.AveragePerStep = false })
	expectClose(t, "an average taken once", moves(once.Averages[0], n.Source()), halved(moves(once.Student, n.Source())), 1e-5)
}

func halved(v []float32) []float32 {
	for i := range v {
		v[i] /= 2
	}
	return v
}

// pointwise is a network whose answer at a pixel depends on that pixel alone: 1×1 convolutions with a ReLU between them.
func pointwise(classes int) *onnx.Model {
	dims := func(c int) onnx.Shape {
		return onnx.Shape{{Symbol: "N"}, {Size: int64(c)}, {Symbol: "H"}, {Symbol: "W"}}
	}
	g := &onnx.Graph{Name: "pointwise",
		Inputs:  []onnx.Value{{Name: "x", DType: tensor.Float32, Shape: dims(1)}},
		Outputs: []onnx.Value{{Name: "y", DType: tensor.Float32, Shape: dims(classes)}}}
	b := onnx.NewBuilder(g, "")
	weight := func(name string, seed uint64, shape ...int) string {
		g.Initializers = append(g.Initializers, onnx.Initializer{Name: name, Tensor: noise(seed, shape...)})
		return name
	}
	// The names are those that the engine's own graphs would use, if they did not keep theirs apart.
	h := b.Op("Relu", []string{b.Op("Conv", []string{"x", weight("weight", 21, 4, 1, 1, 1), weight("target", 22, 4)}, onnx.WithInts("kernel_shape", 1, 1))})
	b.Alias(b.Op("Conv", []string{h, weight("student:weight", 23, classes, 4, 1, 1), weight("learning_rate", 24, classes)}, onnx.WithInts("kernel_shape", 1, 1)), "y")
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": onnx.Opset}, Graph: g}
}

func TestPaddingEntersNoLoss(t *testing.T) {
	n := network(t, pointwise(2), adapt.Trainable{})
	e := engine(t, n, onRuntime(t))
	s := scribbled(1, 2)
	c := quick()
	c.Blur = false // it looks across the border of the padding, where interact repeats the slice's own edge
	s.Valid = filled(1, 1, 1, side, side)
	clear(s.Valid.Float32s()[:3*side])
	clear(s.Marked.Float32s()[:3*side])
	_, want, wr := interact(t, e, c, e.NewSets(1), s, 1)
	if wr.LowVariance != 13*side || wr.Marked != 6 {
		t.Errorf("%d pixels in the one loss and %d in the other, want %d and 6", wr.LowVariance, wr.Marked, 13*side)
	}
	other := s
	other.X, other.Scribble, other.Marked = s.X.Clone(), s.Scribble.Clone(), s.Marked.Clone()
	for i := range 3 * side {
		other.X.Float32s()[i] = 40 - float32(i)
		other.Scribble.Float32s()[i], other.Scribble.Float32s()[side*side+i] = 0, 1
		other.Marked.Float32s()[i] = 1
	}
	_, got, r := interact(t, e, c, e.NewSets(1), other, 1)
	if !slices.Equal(r.Losses, wr.Losses) || !same(flat(got.Student), flat(want.Student)) {
		t.Errorf("what lies in the padding changed the losses from %v to %v", wr.Losses, r.Losses)
	}
}

func TestDeterminism(t *testing.T) {
	n := smallUNet(t, 2, 2, adapt.Trainable{})
	compile := onRuntime(t)
	a, b := engine(t, n, compile), engine(t, n, compile)
	s := scribbled(2, 2)
	pa, sa, _ := interact(t, a, quick(), a.NewSets(1), s, 3)
	for _, e := range []*adapt.Engine{a, b} {
		p, sets, _ := interact(t, e, quick(), e.NewSets(1), s, 3)
		if !same(p.Float32s(), pa.Float32s()) || !same(flat(sets.Student), flat(sa.Student)) || !same(flat(sets.Averages[0]), flat(sa.Averages[0])) {
			t.Error("the same interaction gave other bits")
		}
	}
}

func TestFailedInteractionsLeaveNoTrace(t *testing.T) {
	n := smallUNet(t, 2, 2, adapt.Trainable{})
	e := engine(t, n, onRuntime(t))
	s := scribbled(2, 2)
	_, sets, _ := interact(t, e, quick(), e.NewSets(1), s, 1)
	student, teacher := flat(sets.Student), flat(sets.Averages[0])
	absurd := quick()
	absurd.LearningRate, absurd.Steps = 1e30, 5
	if _, next, _, err := e.Interact(t.Context(), absurd, sets, s, 2); !errors.Is(err, adapt.ErrDiverged) || next.Student != nil {
		t.Errorf("an absurd learning rate gave %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, _, err := e.Interact(ctx, quick(), sets, s, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for what, change := range map[string]func(*adapt.Slice){
		"no image":   func(s *adapt.Slice) { s.X = nil },
		"channels":   func(s *adapt.Slice) { s.X = noise(1, 1, 3, side, side) },
		"batch":      func(s *adapt.Slice) { s.X = noise(1, 2, 2, side, side) },
		"scribble":   func(s *adapt.Slice) { s.Scribble = s.Marked },
		"marked":     func(s *adapt.Slice) { s.Marked = noise(1, 1, 1, side, side+1) },
		"valid":      func(s *adapt.Slice) { s.Valid = noise(1, 1, 1, side) },
		"wrong type": func(s *adapt.Slice) { s.Marked = tensor.Zeros[int64](1, 1, side, side) },
	} {
		wrong := s
		change(&wrong)
		if _, _, _, err := e.Interact(t.Context(), quick(), sets, wrong, 2); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if _, _, _, err := e.Interact(t.Context(), quick(), e.NewSets(2), s, 2); err == nil {
		t.Error("two averages: no error")
	}
	if !same(flat(sets.Student), student) || !same(flat(sets.Averages[0]), teacher) {
		t.Error("the caller's weights have changed")
	}
}

// TestConcurrentInteractions shares one engine, whose sessions are compiled while both ask for them.
func TestConcurrentInteractions(t *testing.T) {
	n := smallUNet(t, 2, 2, adapt.Trainable{})
	e := engine(t, n, onRuntime(t))
	s := scribbled(2, 2)
	answers := make(chan *tensor.Tensor, 4)
	for range cap(answers) {
		go func() {
			p, _, _, err := e.Interact(context.Background(), quick(), e.NewSets(1), s, 1)
			if err != nil {
				t.Error(err)
			}
			answers <- p
		}()
	}
	first := <-answers
	for range cap(answers) - 1 {
		if p := <-answers; first == nil || p == nil || !same(p.Float32s(), first.Float32s()) {
			t.Error("concurrent interactions differ")
		}
	}
	if e.Sessions() != 4 {
		t.Errorf("%d graphs were compiled, want predict, its frozen form, pseudo and step", e.Sessions())
	}
}
