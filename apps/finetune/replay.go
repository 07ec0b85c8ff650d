package finetune

import (
	"context"
	"fmt"

	"scrawl/adapters/measure"
	"scrawl/adapters/morph"
	"scrawl/apps/interact"
	"scrawl/apps/synth"
	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

// replay draws the synthetic examples that keep a network what it was. A nil replay draws none: what synthetic examples ask of networks
// that see the image alone is what training shall replace.
type replay struct {
	input    interact.Input
	settings Settings
	batcher  *synth.Batcher
	first    uint64
	fixed    *synth.Batch // measured again and again
}

// measuredSeed is that of the synthetic examples measured: none that is learned has it.
const measuredSeed = 1 << 40

func (p *replay) close() {
	if p != nil && p.batcher != nil {
		p.batcher.Close()
	}
}

// next is a batch after its rounds with a simulated annotator.
func (p *replay) next(ctx context.Context, t *train.Trainer) (train.Batch, error) {
	if p.batcher == nil {
		p.batcher = synth.NewBatcher(p.settings.Seed, synth.BatchOptions{Options: synth.Options{Size: p.input.Grid}, Batch: p.settings.Batch, First: p.first})
	}
	b, err := p.batcher.Next(ctx)
	if err != nil {
		return train.Batch{}, fmt.Errorf("synthetic examples: %w", err)
	}
	for range b.Corrections {
		prob, err := t.Predict(ctx, p.seen(b))
		if err != nil {
			return train.Batch{}, err
		}
		if err := b.Correct(prob); err != nil {
			return train.Batch{}, err
		}
	}
	return train.Batch{X: p.seen(b), Target: b.Target}, nil
}

// seen puts a batch's channels into the network's order.
func (p *replay) seen(b *synth.Batch) *tensor.Tensor {
	at := map[interact.Channel]int{interact.ChannelImage: 0, interact.ChannelPositive: 1, interact.ChannelNegative: 2, interact.ChannelPrevious: 3, interact.ChannelLikeness: 4}
	s := b.Input.Shape()
	n, k := s[2]*s[3], len(p.input.Channels)
	x := tensor.Zeros[float32](s[0], k, s[2], s[3])
	for i := range s[0] {
		shown := func(c interact.Channel) []float32 { return b.Input.Float32s()[(i*s[1]+at[c])*n:][:n] }
		for c, name := range p.input.Channels {
			plane := x.Float32s()[(i*k+c)*n:][:n]
			if name == interact.ChannelPoints {
				p.input.PointMap(plane, morph.Threshold(shown(interact.ChannelPositive), s[3], s[2], 0.5), morph.Threshold(shown(interact.ChannelNegative), s[3], s[2], 0.5))
			} else if _, ok := at[name]; ok {
				copy(plane, shown(name))
			}
		}
	}
	return x
}

// measuredExamples is how many synthetic examples are measured.
const measuredExamples = 16

// measure is the mean Dice on fixed synthetic examples, in their first round.
func (p *replay) measure(ctx context.Context, e *adapt.Engine, w adapt.Weights) (float64, error) {
	if p.fixed == nil {
		b := synth.NewBatcher(measuredSeed, synth.BatchOptions{Options: synth.Options{Size: p.input.Grid}, Batch: measuredExamples})
		defer b.Close()
		var err error
		if p.fixed, err = b.Next(ctx); err != nil {
			return 0, err
		}
	}
	x := p.seen(p.fixed)
	s := x.Shape()
	one, n := x.Len()/s[0], s[2]*s[3]
	sum := 0.0
	for i := range s[0] {
		slice, err := tensor.New([]int{1, s[1], s[2], s[3]}, x.Float32s()[i*one:(i+1)*one])
		if err != nil {
			return 0, err
		}
		prob, err := e.Predict(ctx, w, slice)
		if err != nil {
			return 0, err
		}
		got, want := make([]bool, n), make([]bool, n)
		for k := range n {
			got[k], want[k] = prob.Float32s()[k] < 0.5, p.fixed.Target.Float32s()[i*n+k] > 0.5
		}
		sum += measure.Dice(got, want)
	}
	return sum / float64(s[0]), nil
}
