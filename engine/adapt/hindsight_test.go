package adapt_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// disc is [1,1,side,side], 1 in a disc.
func disc(cy, cx, r int) *tensor.Tensor {
	t := tensor.Zeros[float32](1, 1, side, side)
	for i := range t.Float32s() {
		if y, x := i/side-cy, i%side-cx; y*y+x*x <= r*r {
			t.Float32s()[i] = 1
		}
	}
	return t
}

// episode is the annotation of one slice with a bright disc, by a network that sees image, two kinds of strokes and the previous mask.
func episode(seed uint64, r int) adapt.Episode {
	object, neighbour, stroke := disc(8, 8, r), disc(7, 8, r), disc(8, 8, 1)
	const n = side * side
	image := noise(seed, 1, 1, side, side).Float32s()
	for i, v := range object.Float32s() {
		image[i] = 0.3*image[i] + 0.7*v
	}
	stage := func(positive, previous []float32) adapt.Stage {
		x := tensor.Zeros[float32](1, 4, side, side)
		copy(x.Float32s(), image)
		copy(x.Float32s()[n:2*n], positive)
		copy(x.Float32s()[3*n:], previous)
		return adapt.Stage{X: x, Target: object, Stroked: stroke}
	}
	return adapt.Episode{stage(nil, neighbour.Float32s()), stage(stroke.Float32s(), neighbour.Float32s())}
}

func conditioned(t testing.TB) *adapt.Engine {
	return engine(t, smallUNet(t, 4, 2, adapt.Trainable{}), onRuntime(t))
}

func accept(t *testing.T, e *adapt.Engine, c adapt.HindsightConfig, m adapt.Memory, ep adapt.Episode) (adapt.Memory, adapt.LessonReport) {
	t.Helper()
	next, r, err := e.Accept(t.Context(), c, m, ep)
	if err != nil {
		t.Fatal(err)
	}
	return next, r
}

// loss is the mean cross-entropy of the answers to all stages against their target.
func loss(t *testing.T, e *adapt.Engine, w adapt.Weights, ep adapt.Episode) float64 {
	t.Helper()
	sum := 0.0
	for _, st := range ep {
		p, err := e.Predict(t.Context(), w, st.X)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range st.Target.Float32s() {
			q := p.Float32s()[i]
			if v > 0 {
				q = p.Float32s()[side*side+i]
			}
			sum -= math.Log(float64(q)) / float64(len(ep)*side*side)
		}
	}
	return sum
}

func TestAcceptImprovesItsOwnStages(t *testing.T) {
	e := conditioned(t)
	c := adapt.Hindsight()
	m := e.NewMemory(c)
	ep := episode(1, 4)
	before := loss(t, e, e.Network().Source(), ep)
	next, r := accept(t, e, c, m, ep)
	if after := loss(t, e, next.Sets.Student, ep); after >= before {
		t.Errorf("loss %g before and %g after the lesson", before, after)
	}
	if len(r.Losses) != c.Steps || r.Losses[len(r.Losses)-1][0] >= r.Losses[0][0] || r.Losses[0][1] != 0 {
		t.Errorf("losses %v", r.Losses)
	}
	if r.Foreseen != nil || next.Lessons != 1 || len(next.Episodes) != 1 {
		t.Errorf("after the first lesson: foreseen %v, %d lessons, %d slices", r.Foreseen, next.Lessons, len(next.Episodes))
	}
	// The average with α = 0.9 has gone further than that with 0.99, the student furthest.
	var moved []float64
	for _, w := range []adapt.Weights{next.Sets.Averages[0], next.Sets.Averages[1], next.Sets.Student} {
		moved = append(moved, distance(flat(w), flat(e.Network().Source())))
	}
	if !(0 < moved[0] && moved[0] < moved[1] && moved[1] < moved[2]) {
		t.Errorf("the candidates moved by %v", moved)
	}
}

// TestScoresDecay holds the scores against their definition: each candidate's Dice on stage 0 before it is learned, decayed by 0.7.
func TestScoresDecay(t *testing.T) {
	e := conditioned(t)
	c := adapt.Hindsight()
	m, _ := accept(t, e, c, e.NewMemory(c), episode(1, 4))
	want := make([]float64, 4)
	for k := range 3 {
		ep := episode(uint64(2+k), 3+k)
		candidates := []adapt.Weights{e.Network().Source(), m.Sets.Averages[0], m.Sets.Averages[1], m.Sets.Student}
		for i, w := range candidates {
			want[i] = 0.7*want[i] + 0.3*dice(t, e, w, ep[0])
		}
		next, r := accept(t, e, c, m, ep)
		for i := range want {
			if math.Abs(next.Scores[i]-want[i]) > 1e-9 || len(r.Foreseen) != 4 {
				t.Fatalf("lesson %d: scores %v, want %v", k, next.Scores, want)
			}
		}
		m = next
	}
}

func dice(t *testing.T, e *adapt.Engine, w adapt.Weights, st adapt.Stage) float64 {
	t.Helper()
	p, err := e.Predict(t.Context(), w, st.X)
	if err != nil {
		t.Fatal(err)
	}
	var both, sum float64
	for i, v := range st.Target.Float32s() {
		q := 0.0
		if p.Float32s()[side*side+i] > 0.5 {
			q = 1
		}
		both += q * float64(v)
		sum += q + float64(v)
	}
	return 2 * both / sum
}

func TestBest(t *testing.T) {
	e := conditioned(t)
	c := adapt.Hindsight()
	m := e.NewMemory(c)
	for i := range m.Sets.Averages {
		m.Sets.Averages[i] = slices.Clone(m.Sets.Averages[i])
	}
	m.Sets.Student = slices.Clone(m.Sets.Student)
	sets := []adapt.Weights{e.Network().Source(), m.Sets.Averages[0], m.Sets.Averages[1], m.Sets.Student}
	for _, k := range []struct {
		scores []float64
		margin float64
		want   int
	}{
		{[]float64{0, 0, 0, 0}, 0, 0}, {[]float64{0.5, 0.6, 0.7, 0.65}, 0, 2}, {[]float64{0.5, 0.6, 0.7, 0.8}, 0, 3},
		{[]float64{0.9, 0.6, 0.7, 0.8}, 0, 0}, {[]float64{0.5, 0.6, 0.6, 0.6}, 0, 1}, {[]float64{0.5, 0.55, 0.58, 0.1}, 0.1, 0},
		{[]float64{0.5, 0.55, 0.7, 0.1}, 0.1, 2}, {nil, 0, 0},
	} {
		c.Margin, m.Scores = k.margin, k.scores
		if i, w := e.Best(c, m); i != k.want || &w[0] != &sets[k.want][0] {
			t.Errorf("scores %v, margin %g: candidate %d, want %d", k.scores, k.margin, i, k.want)
		}
	}
}

func TestMemoryIsAValue(t *testing.T) {
	e := conditioned(t)
	c := adapt.Hindsight()
	c.Memory = 2
	m, _ := accept(t, e, c, e.NewMemory(c), episode(1, 4))
	m, _ = accept(t, e, c, m, episode(2, 4))
	student, scores, first, second := flat(m.Sets.Student), slices.Clone(m.Scores), m.Episodes[0][0].X, m.Episodes[1][0].X
	image := slices.Clone(first.Float32s())
	a, _ := accept(t, e, c, m, episode(3, 4))
	b, _ := accept(t, e, c, m, episode(3, 4))
	if len(a.Episodes) != 2 || a.Episodes[0][0].X != second {
		t.Errorf("a memory of two slices holds %d", len(a.Episodes))
	}
	if !same(flat(a.Sets.Student), flat(b.Sets.Student)) || !slices.Equal(a.Scores, b.Scores) {
		t.Error("the same lesson gave other bits")
	}
	if !same(flat(m.Sets.Student), student) || !slices.Equal(m.Scores, scores) || m.Episodes[0][0].X != first || !same(first.Float32s(), image) || m.Lessons != 2 {
		t.Error("a lesson changed the memory it started from")
	}
	c.Seed++
	if d, _ := accept(t, e, c, m, episode(3, 4)); same(flat(a.Sets.Student), flat(d.Sets.Student)) {
		t.Error("another seed gave the same weights")
	}
}

func TestFailedLessonsLeaveNoTrace(t *testing.T) {
	e := conditioned(t)
	c := adapt.Hindsight()
	m, _ := accept(t, e, c, e.NewMemory(c), episode(1, 4))
	student := flat(m.Sets.Student)
	absurd := c
	absurd.LearningRate = 1e30
	if _, _, err := e.Accept(t.Context(), absurd, m, episode(2, 4)); !errors.Is(err, adapt.ErrDiverged) {
		t.Errorf("an absurd learning rate gave %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := e.Accept(ctx, c, m, episode(2, 4)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	fewer := c
	fewer.Alphas = []float64{0.9}
	wrong := episode(2, 4)
	wrong[1].Target = tensor.Zeros[float32](1, 1, side, 2*side)
	for what, f := range map[string]func() error{
		"no stages":      func() error { _, _, err := e.Accept(t.Context(), c, m, nil); return err },
		"other averages": func() error { _, _, err := e.Accept(t.Context(), fewer, m, episode(2, 4)); return err },
		"target's shape": func() error { _, _, err := e.Accept(t.Context(), c, m, wrong); return err },
		"empty memory":   func() error { _, _, err := e.Accept(t.Context(), c, adapt.Memory{}, episode(2, 4)); return err },
		"config is wrong": func() error {
			_, _, err := e.Accept(t.Context(), adapt.HindsightConfig{}, m, episode(2, 4))
			return err
		},
	} {
		if f() == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if !same(flat(m.Sets.Student), student) {
		t.Error("a failed lesson changed the memory")
	}
}

// TestLessonBatches checks what is learned: whole-slice weights of 1 and 1 plus the stroke weight under strokes that add up to 1 a step, nothing in the
// padding, prompts as they were, and only examples of the newest slice's size.
func TestLessonBatches(t *testing.T) {
	e := conditioned(t)
	c := adapt.Hindsight()
	m := e.NewMemory(c)
	other := adapt.Stage{X: tensor.Zeros[float32](1, 4, side, 2*side), Target: tensor.Zeros[float32](1, 1, side, 2*side), Stroked: tensor.Zeros[float32](1, 1, side, 2*side)}
	ep := episode(1, 4)
	valid := filled(1, 1, 1, side, side)
	clear(valid.Float32s()[:4*side])
	for i := range ep {
		ep[i].Valid = valid
	}
	m.Episodes = []adapt.Episode{{other}, ep}
	l := e.HindsightLesson(c, m)
	const n = side * side
	if !slices.Equal(l.X.Shape(), []int{c.Steps, c.Batch, 4, side, side}) {
		t.Fatalf("batches of shape %v", l.X.Shape())
	}
	first := 0
	for s := range c.Steps {
		weights := l.Weight.Float32s()[s*c.Batch*n:][:c.Batch*n]
		sum := float32(0)
		for i, w := range weights {
			sum += w
			under := ep[0].Stroked.Float32s()[i%n] > 0
			switch plain := weights[5*side]; {
			case i%n < 4*side && w != 0:
				t.Fatal("padding is learned")
			case i%n >= 4*side && !under && w != plain, under && math.Abs(float64(w/plain)-1-c.StrokeWeight) > 1e-4:
				t.Fatalf("weight %g of pixel %d, others have %g", w, i, plain)
			}
		}
		if math.Abs(float64(sum)-1) > 1e-4 {
			t.Errorf("the weights of step %d add up to %g", s, sum)
		}
		for b := range c.Batch {
			x := l.X.Float32s()[(s*c.Batch+b)*4*n:][:4*n]
			stage := 1
			if slices.Max(x[n:2*n]) == 0 {
				stage = 0
				first++
			}
			if !same(x[n:], ep[stage].X.Float32s()[n:]) {
				t.Fatal("an augmented example has other prompts than its stage")
			}
			if target := l.Target.Float32s()[(s*c.Batch+b)*2*n:][n : 2*n]; !same(target, ep[0].Target.Float32s()) {
				t.Fatal("an example has another target than its stage")
			}
		}
	}
	if share := float64(first) / float64(c.Steps*c.Batch); share < 0.2 || share > 0.6 {
		t.Errorf("a share of %g of the examples are first stages; about 0.4 is wanted", share)
	}
}
