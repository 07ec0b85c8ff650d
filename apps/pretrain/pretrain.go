// Package pretrain trains Scrawl's default networks: it joins the synthetic examples of [scrawl/apps/synth] to the trainer of
// [scrawl/engine/train]. No image of any patient takes part.
//
// Three things happen at a time, so that neither a GPU nor the cores wait for each other: workers draw examples; simulated users
// correct the answers that the network, as it is, gives to the batches to come; and the network learns from the batches before those.
package pretrain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

// Recipe says which network to train and how long. Without a limit, the same recipe gives the same network on the same processor.
type Recipe struct {
	Shape train.UNetShape
	// Start, when not nil, is a network of the same shape whose weights training begins with, in place of random ones. It may have fewer
	// input channels: those it does not know count nothing at first.
	Start *onnx.Model
	// Prompted networks see strokes and the previous mask; others the image alone, and learn to find bright, dark or large objects, which
	// is enough to be adapted from.
	Prompted bool
	// Stages are trained one after the other, from small images to large ones. Their shares add up to 1.
	Stages []Stage
	// Steps is the length of the whole training, unless there is a Limit.
	Steps int
	// Limit, when positive, ends training after so much time, the making of the graphs included. The learning rate and the stages then
	// follow the time that has passed, so how many steps there are depends on the machine.
	Limit time.Duration
	// PerRun is the number of steps that one run of the step graph takes, at least 1. On a GPU the weights stay there for so long; the
	// simulated users then correct answers of weights that are up to twice as many steps old.
	PerRun int
	// Workers is the number of goroutines that draw examples. It changes nothing but the speed.
	Workers int
	Seed    uint64
	Options train.Options
}

// Stage is a share of the training on square images of one size.
type Stage struct {
	Size  int
	Share float64
}

// Scribbles is the recipe of the default network. Its channels fill the blocks of the CPU's convolution kernels.
func Scribbles() Recipe {
	o := train.Defaults()
	o.Batch, o.LearningRate, o.Warmup, o.Average = 16, 1.5e-3, 300, 0.999
	return Recipe{
		Shape:    train.UNetShape{Input: 5, Channels: []int{32, 48, 96, 128, 192}, Groups: 4, Classes: 2},
		Prompted: true, Stages: []Stage{{64, 0.12}, {96, 0.13}, {128, 0.75}}, Steps: 12000, PerRun: 1, Workers: 1, Seed: 1, Options: o,
	}
}

// ImageOnly is the recipe of the small network that sees the image alone.
func ImageOnly() Recipe {
	return Recipe{
		Shape:  train.UNetShape{Input: 1, Channels: []int{16, 16, 32}, Groups: 4, Classes: 2},
		Stages: []Stage{{64, 1}}, Steps: 600, PerRun: 1, Workers: 1, Seed: 2, Options: train.Defaults(),
	}
}

// Validate reports what is wrong with a recipe.
func (r Recipe) Validate() error {
	sum := 0.0
	for _, s := range r.Stages {
		if s.Size <= 0 || s.Size%r.Shape.Multiple() != 0 || s.Share < 0 {
			return fmt.Errorf("a stage on images of %d² pixels for a share of %g: a multiple of %d and 0 or more are wanted", s.Size, s.Share, r.Shape.Multiple())
		}
		sum += s.Share
	}
	switch {
	case sum < 0.999 || sum > 1.001:
		return fmt.Errorf("the shares of the stages add up to %g; 1 is wanted", sum)
	case r.Options.Batch < 1 || r.PerRun < 1:
		return fmt.Errorf("%d steps a run on batches of %d: 1 or more are wanted of both", r.PerRun, r.Options.Batch)
	case r.Steps < 1 && r.Limit <= 0:
		return errors.New("neither a number of steps nor a time limit: one of them is wanted")
	}
	return r.Shape.Validate()
}

// stage is what is trained on after a fraction of all training.
func (r Recipe) stage(fraction float64) Stage {
	for _, s := range r.Stages {
		if fraction -= s.Share; fraction < 0 {
			return s
		}
	}
	return r.Stages[len(r.Stages)-1]
}

// Progress is told after every run of the step graph.
type Progress struct {
	Step  int
	Steps int // 0 where time decides
	// Done is the fraction of the whole training that is over.
	Done  float64
	Size  int
	Batch int
	// Loss is the mean of the steps of this run.
	Loss float64
	// Learning is the time spent in the step graph since training began or was taken up again, and Waiting the time spent waiting for
	// batches in between, of which Drawing was for want of examples.
	Learning, Waiting, Drawing time.Duration
}

// Run trains by a recipe. With a checkpoint file, training goes on from where it was left and is saved now and then and at
// the end, also when ctx ends. It returns the network with its averaged weights.
func Run(ctx context.Context, r Recipe, compile adapt.Compiler, checkpoint string, progress func(Progress)) (*onnx.Model, error) {
	begun := time.Now()
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("train a default network: %w", err)
	}
	net, err := r.network()
	if err != nil {
		return nil, err
	}
	engine, err := adapt.NewEngine(net, []int{0}, compile)
	if err != nil {
		return nil, err
	}
	t := &training{recipe: r, engine: engine, trainer: train.NewTrainer(engine, r.Options), checkpoint: checkpoint,
		now: time.Now, begun: begun, saved: begun, progress: progress}
	if err := t.load(); err != nil {
		return nil, err
	}
	if err := errors.Join(t.run(ctx), t.save()); err != nil {
		return nil, err
	}
	return net.Model(t.trainer.Weights())
}

// network is the network before training.
func (r Recipe) network() (*adapt.Network, error) {
	m, err := train.UNet(r.Shape, r.Seed)
	if err != nil {
		return nil, err
	}
	net, err := adapt.NewNetwork(m, adapt.Trainable{})
	if err != nil || r.Start == nil {
		return net, err
	}
	for i, p := range m.Graph.Initializers {
		if !slices.Contains(net.Params(), p.Name) {
			continue
		}
		w := widened(r.Start.Graph.Initializer(p.Name), p.Tensor)
		if w == nil || !slices.Equal(w.Shape(), p.Tensor.Shape()) || w.DType() != p.Tensor.DType() {
			return nil, fmt.Errorf("the network to start from has no weight %q of shape %v; one made by the same recipe is wanted", p.Name, p.Tensor.Shape())
		}
		m.Graph.Initializers[i].Tensor = w
	}
	return adapt.NewNetwork(m, adapt.Trainable{})
}

// widened is a convolution's weight w with as many input channels as like has; those that w does not have count nothing.
func widened(w, like *tensor.Tensor) *tensor.Tensor {
	if w == nil || w.DType() != tensor.Float32 || len(w.Shape()) != 4 || len(like.Shape()) != 4 {
		return w
	}
	a, b := w.Shape(), like.Shape()
	if a[0] != b[0] || a[1] >= b[1] || a[2] != b[2] || a[3] != b[3] {
		return w
	}
	out := tensor.Zeros[float32](b...)
	n := a[1] * a[2] * a[3]
	for i := range a[0] {
		copy(out.Float32s()[i*b[1]*b[2]*b[3]:], w.Float32s()[i*n:(i+1)*n])
	}
	return out
}
