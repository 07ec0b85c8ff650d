package train

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// Options are the constants of training.
type Options struct {
	Batch int
	// LearningRate is reached by a linear warm-up over Warmup steps, and falls by half a cosine to a hundredth of it at the end.
	LearningRate float64
	Warmup       int
	WeightDecay  float64
	ClipNorm     float64
	// Average is the inertia of the averaged weights, which are the result of training.
	Average float64
}

// Defaults returns the constants the default network was trained with.
func Defaults() Options {
	return Options{Batch: 8, LearningRate: 1e-3, Warmup: 100, WeightDecay: 1e-4, ClipNorm: 1, Average: 0.998}
}

// Trainer trains one network with AdamW on the sum of cross-entropy and soft Dice, over any number of classes. It is not safe for
// concurrent use.
type Trainer struct {
	engine *adapt.Engine
	opts   Options
	step   int
	sets   []adapt.Weights // student, average, first moment, second moment
}

// NewTrainer starts training from the network's own weights.
func NewTrainer(e *adapt.Engine, o Options) *Trainer {
	source := e.Network().Source()
	zeros := func() adapt.Weights {
		w := make(adapt.Weights, len(source))
		for i, t := range source {
			w[i] = tensor.ZerosLike(t)
		}
		return w
	}
	return &Trainer{engine: e, opts: o, sets: []adapt.Weights{source, source, zeros(), zeros()}}
}

// Steps returns the number of steps taken.
func (t *Trainer) Steps() int { return t.step }

// Predict returns the probabilities of the weights in training on x [B,C,H,W].
func (t *Trainer) Predict(ctx context.Context, x *tensor.Tensor) (*tensor.Tensor, error) {
	return t.engine.Predict(ctx, t.sets[0], x)
}

// Student returns the weights in training themselves, with which Predict answers.
func (t *Trainer) Student() adapt.Weights { return t.sets[0] }

// Weights returns the averaged weights.
func (t *Trainer) Weights() adapt.Weights { return t.sets[1] }

// rate is the learning rate after a fraction of all training.
func (t *Trainer) rate(fraction float64) float64 {
	k := float64(t.step + 1)
	warm := math.Min(1, k/float64(max(t.opts.Warmup, 1)))
	decay := 0.5*(1+math.Cos(math.Pi*math.Min(fraction, 1))) + 0.01
	return t.opts.LearningRate * warm * decay
}

// correction is AdamW's correction for moments that began at zero (Kingma and Ba 2015, end of section 2).
func (t *Trainer) correction() float64 {
	k := float64(t.step + 1)
	return math.Sqrt(1-math.Pow(0.999, k)) / (1 - math.Pow(0.9, k))
}

// Batch is what one step learns from.
type Batch struct {
	X *tensor.Tensor // [B,C,H,W], or [B,C,D,H,W] for networks of volumes
	// Target [B,1,…] holds the number of each pixel's class, 0 for background.
	Target *tensor.Tensor
	// Valid [B,1,…] is 1 where a pixel counts and 0 where it is padding; nil when all count.
	Valid *tensor.Tensor
}

// Step takes one step on images x [B,C,H,W] and their foreground masks target [B,1,H,W] of 0 and 1; see [Trainer.Learn].
func (t *Trainer) Step(ctx context.Context, x, target *tensor.Tensor, fraction float64) (float64, error) {
	return t.Learn(ctx, Batch{X: x, Target: target}, fraction)
}

// Learn takes one step on a batch. fraction tells how much of all training is done. It returns the loss before the step; when it
// fails the trainer is as it was.
func (t *Trainer) Learn(ctx context.Context, batch Batch, fraction float64) (float64, error) {
	l, err := t.Lesson([]Batch{batch})
	if err != nil {
		return 0, err
	}
	losses, err := t.LearnEach(ctx, l, fraction)
	if err != nil {
		return 0, err
	}
	return losses[0], nil
}

// Lesson is batches that are ready to be learned from, one after the other.
type Lesson struct{ lesson adapt.Lesson }

// Steps is the number of steps that learning from it takes.
func (l Lesson) Steps() int { return l.lesson.Steps }

// Lesson joins batches of one shape. It may be called while the trainer learns.
func (t *Trainer) Lesson(batches []Batch) (Lesson, error) {
	l, err := t.lesson(batches)
	return Lesson{l}, err
}

// LearnEach takes a step on each batch of a lesson in turn, in one run of the graph: on a GPU the weights stay there in between. All
// steps have the learning rate of the first. It returns the loss before each step; when it fails the trainer is as it was.
func (t *Trainer) LearnEach(ctx context.Context, given Lesson, fraction float64) ([]float64, error) {
	l := given.lesson
	if l.Steps == 0 {
		return nil, errNoBatch
	}
	rate := t.rate(fraction)
	l.LearningRate, l.Decay = rate*t.correction(), rate*t.opts.WeightDecay
	// Early on the average follows closely, so that it does not carry the random weights it started from.
	l.Alphas = []float64{math.Min(t.opts.Average, float64(t.step+1)/float64(t.step+10))}
	o := adapt.StepOptions{Batch: l.X.Shape()[1], Averages: 1, AveragePerStep: true, Optimizer: adapt.AdamW, Dice: true, ClipNorm: float32(t.opts.ClipNorm)}
	sets, losses, err := t.engine.Step(ctx, o, t.sets, l)
	if err != nil {
		return nil, err
	}
	t.sets = sets
	t.step += l.Steps
	out := make([]float64, len(losses))
	for i, pair := range losses {
		out[i] = float64(pair[0])
	}
	return out, nil
}

var errNoBatch = errors.New("nothing to learn from; at least one batch is wanted")

// lesson joins batches to the tensors [S,B,…] of a lesson of as many steps.
func (t *Trainer) lesson(batches []Batch) (adapt.Lesson, error) {
	if len(batches) == 0 {
		return adapt.Lesson{}, errNoBatch
	}
	var x, classes, weight []float32
	var shapes [3][]int
	for i, b := range batches {
		c, w, err := t.targets(b)
		if err != nil {
			return adapt.Lesson{}, err
		}
		if i > 0 && !slices.Equal(b.X.Shape(), shapes[0][1:]) {
			return adapt.Lesson{}, fmt.Errorf("training batches of shapes %v and %v in one run; one shape is wanted", shapes[0][1:], b.X.Shape())
		}
		for k, s := range [3][]int{b.X.Shape(), c.Shape()[1:], w.Shape()[1:]} {
			shapes[k] = append([]int{len(batches)}, s...)
		}
		if len(batches) == 1 { // nothing to join
			x, classes, weight = b.X.Float32s(), c.Float32s(), w.Float32s()
			break
		}
		x, classes, weight = append(x, b.X.Float32s()...), append(classes, c.Float32s()...), append(weight, w.Float32s()...)
	}
	l := adapt.Lesson{Steps: len(batches), X: tensor.Must(shapes[0], x), Target: tensor.Must(shapes[1], classes), Weight: tensor.Must(shapes[2], weight)}
	l.Scribble, l.Marked = tensor.ZerosLike(l.Target), tensor.ZerosLike(l.Weight)
	return l, nil
}

// targets turns class numbers into distributions [1,B,K,…], and gives every pixel that counts the same weight [1,B,1,…].
func (t *Trainer) targets(batch Batch) (classes, weight *tensor.Tensor, err error) {
	s := batch.X.Shape()
	axes := len(t.engine.Network().Size)
	if len(s) != 2+axes || !slices.Equal(batch.Target.Shape(), append([]int{s[0], 1}, s[2:]...)) {
		return nil, nil, fmt.Errorf("training batch of shape %v with targets %v; [B,C,…] and [B,1,…] with the network's %d axes are wanted", s, batch.Target.Shape(), axes)
	}
	if batch.Valid != nil && !slices.Equal(batch.Valid.Shape(), batch.Target.Shape()) {
		return nil, nil, fmt.Errorf("training batch with targets %v and valid pixels %v; the same shape is wanted", batch.Target.Shape(), batch.Valid.Shape())
	}
	b, k := s[0], t.engine.Network().Classes
	n := batch.Target.Len() / b
	classes = tensor.Zeros[float32](append([]int{1, b, k}, s[2:]...)...)
	weight = tensor.Zeros[float32](append([]int{1, b, 1}, s[2:]...)...)
	counted := float32(0)
	for i, v := range batch.Target.Float32s() {
		class := int(v)
		if float32(class) != v || class < 0 || class >= k {
			return nil, nil, fmt.Errorf("target %g of a training batch: the number of one of the network's %d classes is wanted", v, k)
		}
		classes.Float32s()[(i/n*k+class)*n+i%n] = 1
		if batch.Valid == nil || batch.Valid.Float32s()[i] != 0 {
			weight.Float32s()[i] = 1
			counted++
		}
	}
	for i := range weight.Float32s() {
		weight.Float32s()[i] /= max(counted, 1)
	}
	return classes, weight, nil
}

// checkpoint is the file form of a Trainer's state.
type checkpoint struct {
	Step int
	Sets [][][]float32
}

// Save writes the state of training, from which Load goes on.
func (t *Trainer) Save(w io.Writer) error {
	c := checkpoint{Step: t.step}
	for _, set := range t.sets {
		var data [][]float32
		for _, p := range set {
			data = append(data, p.Float32s())
		}
		c.Sets = append(c.Sets, data)
	}
	if err := gob.NewEncoder(w).Encode(c); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}

// Load restores a state written by Save for the same network. When it fails the trainer is as it was.
func (t *Trainer) Load(r io.Reader) error {
	var c checkpoint
	if err := gob.NewDecoder(r).Decode(&c); err != nil {
		return fmt.Errorf("read checkpoint: %w", err)
	}
	if len(c.Sets) != len(t.sets) {
		return fmt.Errorf("checkpoint holds %d weight sets, training needs %d", len(c.Sets), len(t.sets))
	}
	source := t.engine.Network().Source()
	sets := make([]adapt.Weights, len(c.Sets))
	for k, data := range c.Sets {
		if len(data) != len(source) {
			return fmt.Errorf("checkpoint holds %d weights, the network has %d", len(data), len(source))
		}
		set := make(adapt.Weights, len(source))
		for i, p := range source {
			v, err := tensor.New(p.Shape(), data[i])
			if err != nil {
				return fmt.Errorf("checkpoint does not fit the network: %w", err)
			}
			set[i] = v
		}
		sets[k] = set
	}
	if c.Step < 0 {
		return fmt.Errorf("checkpoint was made after %d steps; 0 or more are wanted", c.Step)
	}
	t.step, t.sets = c.Step, sets
	return nil
}
