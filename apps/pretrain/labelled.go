package pretrain

import (
	"context"
	"errors"
	"fmt"

	"scrawl/apps/finetune"
	"scrawl/apps/segment"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/train"
)

// Labelled is the recipe of a network with classes that sees slices, trained from random weights on images that people have labelled.
// The same recipe and images give the same network on the same processor.
type Labelled struct {
	// Channels of the U-Net's levels, from the finest.
	Channels []int
	// Classes are the labels to learn; class 0 is everything else.
	Classes  []segment.Class
	Settings finetune.Settings
	// Percentiles of an image's intensities that become 0 and 1.
	Percentiles [2]float64
}

// NewLabelled is a recipe for some labels, in this order, that suits pictures: a small U-Net, windows of 128 pixels, mirrored at will.
func NewLabelled(labels []string) Labelled {
	s := finetune.Defaults()
	s.Epochs, s.Patience, s.Slices, s.LearningRate, s.Batch, s.Window, s.Mirror = 20, 0, 2, 3e-3, 8, 128, true
	r := Labelled{Channels: []int{8, 16, 32, 48}, Settings: s, Percentiles: [2]float64{0.5, 99.5}}
	for i, l := range labels {
		r.Classes = append(r.Classes, segment.Class{Label: l, Index: i + 1})
	}
	return r
}

// groups is the number of groups of the network's normalisation.
const groups = 4

// Multiple is what the network needs heights and widths to be multiples of.
func (r Labelled) Multiple() int { return r.shape().Multiple() }

func (r Labelled) shape() train.UNetShape {
	return train.UNetShape{Input: 1, Channels: r.Channels, Groups: groups, Classes: len(r.Classes) + 1}
}

// Watch is told how training goes. Both may be nil.
type Watch struct {
	Progress func(finetune.Progress)
	Note     func(string)
}

// memory bounds the decoded images of a training in bytes.
const memory = 1 << 30

// RunLabelled trains by a recipe, going on from a checkpoint file if there is one. It returns the network with the weights that did
// best on the cases set aside, and how that came about.
func RunLabelled(ctx context.Context, r Labelled, cases []finetune.Case, compile adapt.Compiler, checkpoint string, w Watch) (*onnx.Model, *finetune.Result, error) {
	if len(r.Classes) == 0 {
		return nil, nil, errors.New("train a network: at least one label to learn is wanted")
	}
	m, err := train.UNet(r.shape(), r.Settings.Seed)
	if err != nil {
		return nil, nil, fmt.Errorf("train a network: %w", err)
	}
	net, err := adapt.NewNetwork(m, adapt.Trainable{})
	if err != nil {
		return nil, nil, err
	}
	engine, err := adapt.NewEngine(net, []int{0}, compile)
	if err != nil {
		return nil, nil, err
	}
	s := &segment.Model{Engine: engine, Input: segment.Input{Multiple: r.Multiple(), Percentiles: r.Percentiles}, Classes: r.Classes}
	training := finetune.Training{Segment: s, Network: net, Compile: compile, Cases: cases, Settings: r.Settings, Memory: memory, Checkpoint: checkpoint,
		Progress: w.Progress, Note: w.Note}
	result, err := training.Run(ctx)
	if err != nil {
		return nil, nil, err
	}
	if !result.Helped() {
		return nil, result, errors.New("train a network: nothing was learned; more epochs or another learning rate may help")
	}
	out, err := net.Model(result.Weights)
	return out, result, err
}
