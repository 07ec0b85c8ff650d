// Package pretrain trains Scrawl's default networks: it joins the synthetic examples of [scrawl/apps/synth] to the trainer of
// [scrawl/engine/train]. No image of any patient takes part.
package pretrain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"scrawl/apps/atomicfile"
	"scrawl/apps/synth"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

// Recipe says which network to train and how long. The same recipe gives the same network on the same processor.
type Recipe struct {
	Shape train.UNetShape
	// Prompted networks see strokes and the previous mask; others the image alone, and learn to find bright, dark or large objects, which
	// is enough to be adapted from.
	Prompted bool
	// Stages are trained one after the other, from small images to large ones.
	Stages  []Stage
	Seed    uint64
	Options train.Options
}

// Stage is a number of steps on square images of one size.
type Stage struct{ Size, Steps int }

// Steps is the length of the whole training.
func (r Recipe) Steps() int {
	n := 0
	for _, s := range r.Stages {
		n += s.Steps
	}
	return n
}

// Scribbles is the recipe of the default network.
func Scribbles() Recipe {
	return Recipe{
		Shape:    train.UNetShape{Input: 4, Channels: []int{16, 32, 64, 96, 128}, Groups: 4, Classes: 2},
		Prompted: true, Stages: []Stage{{64, 3000}, {96, 2500}, {128, 1800}}, Seed: 1, Options: train.Defaults(),
	}
}

// ImageOnly is the recipe of the small network that sees the image alone.
func ImageOnly() Recipe {
	return Recipe{
		Shape:  train.UNetShape{Input: 1, Channels: []int{16, 16, 32}, Groups: 4, Classes: 2},
		Stages: []Stage{{64, 600}}, Seed: 2, Options: train.Defaults(),
	}
}

// Progress is told after every step.
type Progress struct {
	Step, Steps int
	Size        int
	Loss        float64
}

// Run trains by a recipe. With a checkpoint file, training goes on from where it was left and is saved now and then and at
// the end, also when ctx ends. It returns the network with its averaged weights.
func Run(ctx context.Context, r Recipe, compile adapt.Compiler, checkpoint string, progress func(Progress)) (*onnx.Model, error) {
	m, err := train.UNet(r.Shape, r.Seed)
	if err != nil {
		return nil, err
	}
	net, err := adapt.NewNetwork(m, adapt.Trainable{})
	if err != nil {
		return nil, err
	}
	engine, err := adapt.NewEngine(net, []int{0}, compile)
	if err != nil {
		return nil, err
	}
	t := train.NewTrainer(engine, r.Options)
	if err := load(t, checkpoint); err != nil {
		return nil, err
	}
	begun := 0
	for _, s := range r.Stages {
		if err := runStage(ctx, r, t, s, begun, checkpoint, progress); err != nil {
			return nil, errors.Join(err, save(t, checkpoint))
		}
		begun += s.Steps
	}
	if err := save(t, checkpoint); err != nil {
		return nil, err
	}
	return net.Model(t.Weights())
}

// saveEvery is the number of steps between checkpoints.
const saveEvery = 200

func runStage(ctx context.Context, r Recipe, t *train.Trainer, s Stage, begun int, checkpoint string, progress func(Progress)) error {
	if t.Steps() >= begun+s.Steps {
		return nil
	}
	// A batch is named by the step it belongs to, so training that was interrupted sees the ones it would have seen.
	batches := synth.NewBatcher(r.Seed, synth.BatchOptions{Options: synth.Options{Size: s.Size}, Batch: r.Options.Batch,
		Workers: 1, First: uint64(t.Steps())})
	defer batches.Close()
	for t.Steps() < begun+s.Steps {
		b, err := batches.Next(ctx)
		if err != nil {
			return err
		}
		loss, err := r.step(ctx, t, b)
		if err != nil {
			return fmt.Errorf("training step %d: %w", t.Steps()+1, err)
		}
		progress(Progress{Step: t.Steps(), Steps: r.Steps(), Size: s.Size, Loss: loss})
		if t.Steps()%saveEvery == 0 {
			if err := save(t, checkpoint); err != nil {
				return err
			}
		}
	}
	return nil
}

// step lets the simulated user correct the network's answers, then learns from what the network sees by then.
func (r Recipe) step(ctx context.Context, t *train.Trainer, b *synth.Batch) (float64, error) {
	x := b.Input
	if r.Prompted {
		for range b.Corrections {
			p, err := t.Predict(ctx, x)
			if err != nil {
				return 0, err
			}
			if err := b.Correct(p); err != nil {
				return 0, err
			}
		}
	} else {
		x = firstChannel(x)
	}
	return t.Step(ctx, x, b.Target, float64(t.Steps())/float64(r.Steps()))
}

// firstChannel is the image of a batch's input: [B,1,S,S].
func firstChannel(x *tensor.Tensor) *tensor.Tensor {
	s := x.Shape()
	n := s[2] * s[3]
	out := tensor.Zeros[float32](s[0], 1, s[2], s[3])
	for i := range s[0] {
		copy(out.Float32s()[i*n:(i+1)*n], x.Float32s()[i*s[1]*n:])
	}
	return out
}

func load(t *train.Trainer, checkpoint string) error {
	if checkpoint == "" {
		return nil
	}
	f, err := os.Open(checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return t.Load(f)
}

func save(t *train.Trainer, checkpoint string) error {
	if checkpoint == "" {
		return nil
	}
	return atomicfile.Write(checkpoint, t.Save)
}
