package adapt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"scrawl/engine/tensor"
)

// HindsightConfig holds the constants of learning from finished slices.
type HindsightConfig struct {
	// Steps of gradient descent when a slice is accepted, on batches of Batch stages, at LearningRate.
	Steps        int     `yaml:"steps"`
	Batch        int     `yaml:"batch"`
	LearningRate float64 `yaml:"learning_rate"`
	// FirstStage is the share of examples that are stage 0: no strokes and the neighbour's mask. NewestSlice is the share
	// drawn from the slice just accepted; the others come from earlier ones.
	FirstStage  float64 `yaml:"first_stage"`
	NewestSlice float64 `yaml:"newest_slice"`
	// StrokeWeight is how much more a pixel under a stroke counts.
	StrokeWeight float64 `yaml:"stroke_weight"`
	// Alphas are the inertias of the averages kept beside the student.
	Alphas []float64 `yaml:"alphas"`
	// Decay is the memory of the candidates' scores; Margin is by how much one must beat the source to answer. Without a margin candidates were
	// chosen for a few thousandths, which on some volumes was worth less than nothing a few slices on.
	Decay  float64 `yaml:"decay"`
	Margin float64 `yaml:"margin"`
	// Memory is the number of slices kept to learn from.
	Memory int    `yaml:"memory"`
	Seed   uint64 `yaml:"seed"`
	// Augment is the intensity augmentation of the learned examples.
	Augment Config `yaml:"augment"`
}

// Hindsight returns the constants found by measurement on CT and MR volumes.
func Hindsight() HindsightConfig {
	return HindsightConfig{
		Steps: 10, Batch: 4, LearningRate: 1e-2, FirstStage: 0.4, NewestSlice: 0.5, StrokeWeight: 2,
		Alphas: []float64{0.99, 0.9}, Decay: 0.7, Margin: 0.02, Memory: 12, Seed: 5, Augment: Thesis(),
	}
}

// Validate reports the first constant that makes no sense.
func (c HindsightConfig) Validate() error {
	share := func(v float64) bool { return 0 <= v && v <= 1 }
	switch {
	case c.Steps < 0 || c.Steps > 1000 || c.Batch < 1 || c.Batch > 64 || c.Memory < 1:
		return fmt.Errorf("%d steps on batches of %d from %d slices: 0…1000, 1…64 and at least 1 are wanted", c.Steps, c.Batch, c.Memory)
	case !share(c.FirstStage) || !share(c.NewestSlice) || !share(c.Decay):
		return fmt.Errorf("shares of first stages %g and newest slice %g, decay %g: 0…1 is wanted", c.FirstStage, c.NewestSlice, c.Decay)
	case !(c.LearningRate >= 0 && c.StrokeWeight >= 0 && c.Margin >= 0):
		return fmt.Errorf("learning rate %g, stroke weight %g and margin %g must not be negative", c.LearningRate, c.StrokeWeight, c.Margin)
	case slices.ContainsFunc(c.Alphas, func(a float64) bool { return !share(a) }):
		return fmt.Errorf("alphas %v: 0…1 is wanted", c.Alphas)
	}
	return nil
}

// Stage is one answer on the way to a finished slice, with what the answer should have been. It is immutable.
type Stage struct {
	// X is the network's input [1,C,H,W].
	X *tensor.Tensor
	// Target is the accepted mask, the number of each pixel's class (0 is background, 1 the object of a network of two classes), strokes
	// written in; Stroked is 1 under strokes. Both [1,1,H,W], on X's grid.
	Target, Stroked *tensor.Tensor
	// Valid [1,1,H,W] is 0 on padding, which is not learned; nil when there is none.
	Valid *tensor.Tensor
}

// Episode is the annotation of one finished slice: its stages in the order they were answered. The first has no
// strokes and, in its prior channel, the neighbouring slice's mask.
type Episode []Stage

// Memory is what hindsight has learned for one lineage: weight sets, the slices they were learned from, and how well
// each candidate has predicted slices before it had learned them. It is a value: learning returns a new one.
type Memory struct {
	Sets     Sets
	Episodes []Episode
	// Scores of the candidates: the source, the averages, the student.
	Scores []float64
	// Lessons counts the slices learned.
	Lessons uint64
}

// NewMemory returns the memory of a lineage that has learned nothing.
func (e *Engine) NewMemory(c HindsightConfig) Memory {
	return Memory{Sets: e.NewSets(len(c.Alphas)), Scores: make([]float64, len(c.Alphas)+2)}
}

// candidates lists the weight sets that may answer.
func (e *Engine) candidates(m Memory) []Weights {
	return append(append([]Weights{e.net.source}, m.Sets.Averages...), m.Sets.Student)
}

// Best returns the index of the candidate that makes the first mask of an untouched slice (0 is the source) and its weights: the one
// with the best score so far, if it beats the source by the margin.
func (e *Engine) Best(c HindsightConfig, m Memory) (int, Weights) {
	best, candidates := 0, e.candidates(m)
	for i := 1; i < min(len(m.Scores), len(candidates)); i++ {
		if m.Scores[i] > m.Scores[best] && m.Scores[i] > m.Scores[0]+c.Margin {
			best = i
		}
	}
	return best, candidates[best]
}

// LessonReport tells what learning from a finished slice did.
type LessonReport struct {
	// Foreseen is the Dice coefficient of each candidate's first mask against the accepted one, before learning it.
	Foreseen []float64
	Losses   [][2]float32
	Seconds  map[string]float64
}

// Accept learns from a finished slice: it first scores every candidate on what it would have answered to stage 0, then takes
// some steps on all stages of this slice and of remembered ones, with the accepted masks as targets. m is left as it was.
func (e *Engine) Accept(ctx context.Context, c HindsightConfig, m Memory, ep Episode) (Memory, LessonReport, error) {
	r := LessonReport{Seconds: map[string]float64{}}
	if err := c.Validate(); err != nil {
		return Memory{}, r, err
	}
	if err := e.checkMemory(c, m); err != nil {
		return Memory{}, r, err
	}
	if err := e.checkEpisode(ep); err != nil {
		return Memory{}, r, err
	}
	watch := stopwatch(r.Seconds)
	next := Memory{Sets: m.Sets, Scores: slices.Clone(m.Scores), Lessons: m.Lessons + 1}
	next.Episodes = append(slices.Clone(m.Episodes), ep)
	if over := len(next.Episodes) - c.Memory; over > 0 {
		next.Episodes = next.Episodes[over:]
	}
	// Before anything was learned all candidates equal the source and their scores say nothing.
	if m.Lessons > 0 {
		if err := e.score(ctx, c, m, ep[0], &next, &r); err != nil {
			return Memory{}, r, err
		}
	}
	watch("score")
	if c.Steps == 0 {
		return next, r, nil
	}
	o := StepOptions{Batch: c.Batch, Averages: len(c.Alphas), AveragePerStep: true}
	var err error
	if next.Sets, r.Losses, err = e.learn(ctx, o, m.Sets, e.hindsightLesson(c, next)); err != nil {
		return Memory{}, r, err
	}
	watch("steps")
	return next, r, nil
}

// score books how well each candidate would have made the first mask of a slice it has not learned yet.
func (e *Engine) score(ctx context.Context, c HindsightConfig, m Memory, first Stage, next *Memory, r *LessonReport) error {
	for i, w := range e.candidates(m) {
		p, err := e.Predict(ctx, w, first.X)
		if err != nil {
			return err
		}
		d := foregroundDice(p, first.Target, first.Valid)
		r.Foreseen = append(r.Foreseen, d)
		next.Scores[i] = c.Decay*m.Scores[i] + (1-c.Decay)*d
	}
	return nil
}

// checkMemory reports a memory that was made with other averages.
func (e *Engine) checkMemory(c HindsightConfig, m Memory) error {
	if len(m.Sets.Averages) != len(c.Alphas) || len(m.Scores) != len(c.Alphas)+2 {
		return fmt.Errorf("memory of %d averages and %d scores for %d alphas: begin with NewMemory when the alphas change", len(m.Sets.Averages), len(m.Scores), len(c.Alphas))
	}
	return nil
}

// checkEpisode reports stages that do not fit the network or each other.
func (e *Engine) checkEpisode(ep Episode) error {
	if len(ep) == 0 {
		return errors.New("a finished slice has at least stage 0; got none")
	}
	for i, st := range ep {
		size, err := e.checkInput(st.X)
		if err == nil {
			err = checkMap("target", st.Target, 1, size)
		}
		if err == nil {
			err = checkClasses(st.Target, e.net.Classes)
		}
		if err == nil {
			err = checkMap("stroked", st.Stroked, 1, size)
		}
		if err == nil && st.Valid != nil {
			err = checkMap("valid", st.Valid, 1, size)
		}
		if err == nil && !slices.Equal(st.X.Shape(), ep[0].X.Shape()) {
			err = fmt.Errorf("input %v, stage 0 has %v: one grid for all stages is wanted", st.X.Shape(), ep[0].X.Shape())
		}
		if err != nil {
			return fmt.Errorf("stage %d: %w", i, err)
		}
	}
	return nil
}

// checkClasses reports a mask with anything but numbers of classes.
func checkClasses(mask *tensor.Tensor, classes int) error {
	for i, v := range mask.Float32s() {
		if !(v >= 0 && v < float32(classes)) || v != float32(int(v)) {
			return fmt.Errorf("target of pixel %d is %g; the number of a class, 0…%d, is wanted", i, v, classes-1)
		}
	}
	return nil
}

// hindsightLesson draws the batches: a different one for each step.
func (e *Engine) hindsightLesson(c HindsightConfig, m Memory) Lesson {
	rng := rand.New(rand.NewPCG(c.Seed, m.Lessons))
	s := m.Episodes[len(m.Episodes)-1][0].X.Shape()
	ch, size := s[1], s[2:]
	n := pixels(size)
	l := Lesson{
		X:      planes(size, c.Steps, c.Batch, ch),
		Target: planes(size, c.Steps, c.Batch, e.net.Classes), Scribble: planes(size, c.Steps, c.Batch, e.net.Classes),
		Weight: planes(size, c.Steps, c.Batch, 1), Marked: planes(size, c.Steps, c.Batch, 1),
		LearningRate: c.LearningRate, Alphas: c.Alphas, Steps: c.Steps,
	}
	scratch := make([]float32, n)
	for step := range c.Steps {
		total := float32(0)
		weights := l.Weight.Float32s()[step*c.Batch*n : (step+1)*c.Batch*n]
		for b := range c.Batch {
			st := c.draw(rng, m.Episodes)
			i := step*c.Batch + b
			x := l.X.Float32s()[i*ch*n : (i+1)*ch*n]
			copy(x, st.X.Float32s())
			e.augmentImage(c.Augment, rng, x, st, scratch, size)
			target := l.Target.Float32s()[i*e.net.Classes*n:]
			for p, class := range st.Target.Float32s() {
				target[int(class)*n+p] = 1
			}
			total += pixelWeights(weights[b*n:(b+1)*n], st, float32(c.StrokeWeight))
		}
		for p := range weights {
			weights[p] /= total
		}
	}
	return l
}

func (e *Engine) augmentImage(c Config, rng *rand.Rand, x []float32, st Stage, scratch []float32, size []int) {
	lo, hi := intensityRange(st.X, st.Valid, e.images)
	a := c.drawAugmentation(rng, lo, hi)
	for i, channel := range e.images {
		a.apply(x[channel*len(scratch):][:len(scratch)], i, scratch, size)
	}
}

// pixelWeights fills dst and returns its sum.
func pixelWeights(dst []float32, st Stage, stroke float32) float32 {
	total := float32(0)
	for p := range dst {
		v := 1 + stroke*st.Stroked.Float32s()[p]
		if st.Valid != nil {
			v *= st.Valid.Float32s()[p]
		}
		dst[p] = v
		total += v
	}
	return max(total, 1)
}

// draw picks an example: a slice, and one of its stages.
func (c HindsightConfig) draw(rng *rand.Rand, episodes []Episode) Stage {
	newest := len(episodes) - 1
	i := newest
	if rng.Float64() >= c.NewestSlice {
		i = rng.IntN(len(episodes))
	}
	// Only stages on the newest slice's grid can share a batch with it.
	if !slices.Equal(episodes[i][0].X.Shape(), episodes[newest][0].X.Shape()) {
		i = newest
	}
	ep := episodes[i]
	if len(ep) == 1 || rng.Float64() < c.FirstStage {
		return ep[0]
	}
	return ep[1+rng.IntN(len(ep)-1)]
}

// foregroundDice compares the likeliest classes of prob [1,K,H,W] with a mask: the mean Dice coefficient over the classes but background that
// occur in either; 1 when none does.
func foregroundDice(prob, target, valid *tensor.Tensor) float64 {
	k, p := prob.Shape()[1], prob.Float32s()
	both, sizes := make([]float64, k), make([]float64, k)
	for i, t := range target.Float32s() {
		if valid != nil && valid.Float32s()[i] == 0 {
			continue
		}
		likeliest := 0
		for c := range k {
			if p[c*target.Len()+i] > p[likeliest*target.Len()+i] {
				likeliest = c
			}
		}
		sizes[likeliest]++
		sizes[int(t)]++
		if likeliest == int(t) {
			both[likeliest]++
		}
	}
	sum, n := 0.0, 0
	for c := 1; c < k; c++ {
		if sizes[c] > 0 {
			sum += 2 * both[c] / sizes[c]
			n++
		}
	}
	if n == 0 {
		return 1
	}
	return sum / float64(n)
}
