package finetune

import (
	"context"
	"math/rand/v2"
	"slices"

	"scrawl/adapters/measure"
	"scrawl/adapters/morph"
	"scrawl/apps/interact"
	"scrawl/apps/segment"
	"scrawl/apps/simulate"
	"scrawl/engine/adapt"
)

// How much is measured: so many slices of one object at most, so many answers in all, and of networks that see the image alone so many
// slices of a case.
const (
	mostSlices   = 4
	mostMeasured = 120
	mostPlain    = 24
)

// measure finds out how good weights are on the cases set aside. It always asks the same questions.
func (r *run) measure(ctx context.Context, w adapt.Weights) (Figures, error) {
	cases := r.held
	if len(cases) == 0 {
		cases = r.train[:min(len(r.train), 4)]
	}
	sums := map[string]*tally{}
	for _, c := range cases {
		o, err := r.pool.get(ctx, c)
		if err != nil {
			return Figures{}, err
		}
		switch {
		case r.segment != nil:
			err = r.measureWindows(ctx, w, o, sums)
		case r.prompted():
			err = r.measurePrompted(ctx, w, o, r.slicesEach(cases), sums)
		default:
			err = r.measurePlain(ctx, w, o, sums)
		}
		if err != nil {
			return Figures{}, err
		}
	}
	f := Figures{Labels: map[string]float64{}}
	n := float64(len(sums))
	for _, name := range r.labels {
		t, ok := sums[name]
		if !ok {
			continue
		}
		f.Labels[name] = t.mean()
		f.Dice += t.mean() / n
		if !r.prompted() {
			continue
		}
		f.Carried += t.part(0) / n
		f.Stroke += t.part(1) / n
		f.Corrected += t.part(2) / n
	}
	var err error
	if r.replay != nil {
		f.Source, err = r.replay.measure(ctx, r.engine, w)
	}
	return f, err
}

// slicesEach is how many slices of each object are asked about.
func (r *run) slicesEach(cases []*surveyed) int {
	objects := 0
	for _, c := range cases {
		objects += len(c.objects)
	}
	return min(max(mostMeasured/max(3*objects, 1), 1), mostSlices)
}

// tally sums Dice coefficients, of several kinds of answers side by side.
type tally struct {
	kinds [3]float64
	n     [3]int
}

func (t *tally) add(kind int, dice float64) {
	t.kinds[kind] += dice
	t.n[kind]++
}

func (t *tally) part(kind int) float64 {
	if t.n[kind] == 0 {
		return 0
	}
	return t.kinds[kind] / float64(t.n[kind])
}

func (t *tally) mean() float64 {
	sum, kinds := 0.0, 0
	for k := range t.kinds {
		if t.n[k] > 0 {
			sum += t.part(k)
			kinds++
		}
	}
	return sum / float64(max(kinds, 1))
}

func tallyOf(sums map[string]*tally, name string) *tally {
	if sums[name] == nil {
		sums[name] = &tally{}
	}
	return sums[name]
}

// measurePrompted asks what an annotator would see: the answer carried from the neighbour, that to a first stroke, and that to a
// correction of it.
func (r *run) measurePrompted(ctx context.Context, w adapt.Weights, c *opened, each int, sums map[string]*tally) error {
	for _, o := range c.objects {
		t := tallyOf(sums, o.name)
		for _, slice := range spread(o.slices, each) {
			rng := rand.New(rand.NewPCG(hash(c.ID+"/"+o.name), uint64(slice)))
			truth, err := c.mask(o.name, slice)
			if err != nil {
				return err
			}
			nothing := interact.Prompt{Positive: morph.New(truth.W, truth.H), Negative: morph.New(truth.W, truth.H)}
			ask := func(kind int, p interact.Prompt) (interact.Probability, error) {
				prob, err := r.model.AnswerSlice(ctx, w, c.img, c.key(slice), p)
				if err == nil {
					t.add(kind, measure.Dice(prob.Mask(truth.W, truth.H).Bits, truth.Bits))
				}
				return prob, err
			}
			if c.count > 1 {
				carried := nothing
				if carried.Prior, err = c.neighbour(rng, o.name, slice, 1-2*rng.IntN(2)); err != nil {
					return err
				}
				if _, err := ask(0, carried); err != nil {
					return err
				}
			}
			p := nothing
			for kind := 1; kind <= 2; kind++ {
				positive, negative := simulate.Strokes(rng, truth, known(p, truth), simulate.Options{})
				p.Positive, p.Negative = p.Positive.Or(positive), p.Negative.Or(negative)
				if p.Prior, err = ask(kind, p); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// measurePlain compares the classes of a case's slices, all slices of the case together.
func (r *run) measurePlain(ctx context.Context, w adapt.Weights, c *opened, sums map[string]*tally) error {
	all := make([]int, c.count)
	for i := range all {
		all[i] = i
	}
	var got, want []uint16
	for _, slice := range spread(all, mostPlain) {
		answer, err := r.model.ClassifySlice(ctx, w, c.img, c.key(slice))
		if err != nil {
			return err
		}
		truth, err := r.classesOf(c, slice)
		if err != nil {
			return err
		}
		got, want = append(got, answer...), append(want, truth...)
	}
	r.tallyClasses(sums, got, want)
	return nil
}

// tallyClasses books the Dice of each class that there is.
func (r *run) tallyClasses(sums map[string]*tally, got, want []uint16) {
	for _, name := range r.labels {
		class := r.classes[name]
		if slices.Contains(want, class) {
			tallyOf(sums, name).add(0, measure.DiceOf(got, want, class))
		}
	}
}

// measureWindows compares the classes of windows, all windows of the case together.
func (r *run) measureWindows(ctx context.Context, w adapt.Weights, c *opened, sums map[string]*tally) error {
	var got, want []uint16
	for _, e := range c.cut.Spread(mostPlain) {
		prob, err := r.engine.Predict(ctx, w, e.X)
		if err != nil {
			return err
		}
		for i, class := range segment.Likeliest(prob) {
			if e.Valid.Float32s()[i] != 0 {
				got, want = append(got, class), append(want, uint16(e.Target.Float32s()[i]))
			}
		}
	}
	r.tallyClasses(sums, got, want)
	return nil
}

// spread takes n elements of a list, from the middles of as many equal parts.
func spread(list []int, n int) []int {
	n = min(n, len(list))
	out := make([]int, n)
	for i := range out {
		out[i] = list[(2*i+1)*len(list)/(2*n)]
	}
	return out
}
