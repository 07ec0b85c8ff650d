package inspect

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"scrawl/apps"
	"scrawl/apps/interact"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
)

// Pair is a network that comes as two files, as Segment Anything does: an encoder of the image, which stays as it is, and a decoder, which is
// prompted and learns.
type Pair struct {
	Encoder, Decoder []byte
	// Swapped says that the files were given the other way round.
	Swapped bool
	// Joined is the one network that both make, for [Look].
	Joined []byte
	// Masks is how many answers the decoder gives, of which one is taken; 0 when that is only known when it is asked.
	Masks int64
	model apps.Model
	notes []string
}

// usualPoints are what strokes become at most for a decoder that takes any number of points.
const usualPoints = 16

// NewPair finds out how two files go together: which is the encoder, what the decoder is prompted with, and on which grid. The names of the files
// in the app are those of w with _encoder.onnx and _decoder.onnx at their ends.
func NewPair(one, other []byte, w Wishes) (Pair, error) {
	p := Pair{Encoder: one, Decoder: other}
	encoder, err := onnx.Parse(one)
	if err != nil {
		return Pair{}, fmt.Errorf("the first file: %w", err)
	}
	decoder, err := onnx.Parse(other)
	if err != nil {
		return Pair{}, fmt.Errorf("the second file: %w", err)
	}
	if len(encoder.Graph.Inputs) > 1 && len(decoder.Graph.Inputs) == 1 {
		p.Swapped, p.Encoder, p.Decoder, encoder, decoder = true, other, one, decoder, encoder
	}
	if p.model, err = p.describe(encoder, decoder, w); err != nil {
		return Pair{}, err
	}
	p.Masks = masks(decoder)
	p.Joined, err = p.model.Join(encoder, decoder)
	return p, err
}

// describe is the app's model.
func (p *Pair) describe(encoder, decoder *onnx.Model, w Wishes) (apps.Model, error) {
	m := apps.Model{Name: w.Name, Type: apps.Scribbles, Encoder: w.Name + "_encoder.onnx", File: w.Name + "_decoder.onnx", Mask: w.Mask,
		Profile: string(interact.ProfileHindsight)}
	in := encoder.Graph.Inputs
	if len(in) != 1 || len(in[0].Shape) != 4 || !in[0].Shape[1].Known() {
		return m, fmt.Errorf("neither file is an encoder: one with a single image input [1,C,G,G], of a known number of channels, is wanted; found %s and %s", inputsOf(encoder), inputsOf(decoder))
	}
	m.Input.Percentiles, m.Input.Multiple, m.Input.Grid = []float64{0.5, 99.5}, 1, p.grid(in[0].Shape, w)
	if in[0].Shape[1].Size == 3 && !w.Plain {
		m.Input.Mean, m.Input.Std = imageNetMean, imageNetStd
		p.note("the encoder sees three channels: the image is shown in each, standardised as ImageNet's are; --plain leaves that out")
	}
	var err error
	if m.Input.Channels, err = p.shown(encoder, decoder, w); err != nil {
		return m, err
	}
	if slices.Contains(m.Input.Channels, string(interact.ChannelPoints)) {
		m.Input.Points = w.Points
		fixed, _ := adapt.TakesPoints(decoder)
		switch {
		case fixed > 0:
			m.Input.Points = fixed
		case w.Points == 0:
			m.Input.Points = usualPoints
			p.note(fmt.Sprintf("the decoder takes any number of points: strokes become %d at most, spread along them; --points says otherwise", usualPoints))
		}
	}
	if adapt.TakesMask(decoder) {
		m.Input.Previous = string(interact.PreviousLogits)
	}
	m.Trainable.Exclude = frequencies(decoder)
	return m, nil
}

// Channels are what the network is shown.
func (p Pair) Channels() []string { return p.model.Input.Channels }

func (p *Pair) note(text string) { p.notes = append(p.notes, text) }

func (p *Pair) grid(image onnx.Shape, w Wishes) int {
	switch d := image[2]; {
	case d.Known():
		return int(d.Size)
	case w.Grid > 0:
		return w.Grid
	}
	p.note("the encoder takes images of any size: they are shown to it at 256×256 pixels; --grid says otherwise")
	return 256
}

// shown says what the network is shown: the image, and what the decoder's inputs are for.
func (p *Pair) shown(encoder, decoder *onnx.Model, w Wishes) ([]string, error) {
	if w.Channels != nil {
		return w.Channels, nil
	}
	channels := []string{string(interact.ChannelImage)}
	_, points := adapt.TakesPoints(decoder)
	if points {
		channels = append(channels, string(interact.ChannelPoints))
	}
	previous := adapt.TakesMask(decoder)
	if previous {
		channels = append(channels, string(interact.ChannelPrevious))
	}
	if points || previous {
		return channels, nil
	}
	// A decoder that is shown maps: an input of four axes that the encoder does not answer.
	for _, in := range decoder.Graph.Inputs {
		if len(in.Shape) != 4 || !in.Shape[1].Known() || slices.ContainsFunc(encoder.Graph.Outputs, func(o onnx.Value) bool { return o.Name == in.Name }) {
			continue
		}
		usual := map[int64][]string{2: {"positive", "negative"}, 3: {"positive", "negative", "previous"}, 4: {"box", "positive", "negative", "previous"}}[in.Shape[1].Size]
		if usual == nil {
			continue
		}
		p.note(fmt.Sprintf("the decoder's input %q has %d channels: taken to be %s; --channels says otherwise (with image in front)", in.Name, len(usual), strings.Join(usual, ", ")))
		return append(channels, usual...), nil
	}
	return nil, fmt.Errorf("the decoder takes %s: none is known by name (point_coords and point_labels, or input_points and input_labels; mask_input and has_mask_input): say with --channels what its maps show, image first, out of image, positive, negative, previous and box", inputsOf(decoder))
}

// frequencies are the names of tensors that place points in space and are no weights, as a pattern.
func frequencies(m *onnx.Model) []string {
	const pattern = "*positional_embedding*"
	if slices.ContainsFunc(m.Graph.Initializers, func(i onnx.Initializer) bool { return strings.Contains(i.Name, "positional_embedding") }) {
		return []string{pattern}
	}
	return nil
}

// masks is the number of answers that the decoder declares.
func masks(decoder *onnx.Model) int64 {
	if len(decoder.Graph.Outputs) == 0 {
		return 0 // which cannot be joined
	}
	out := adapt.Logits(decoder)
	if n := len(out.Shape); n >= 4 && out.Shape[n-3].Known() {
		return out.Shape[n-3].Size
	}
	return 0
}

func inputsOf(m *onnx.Model) string {
	var names []string
	for _, in := range m.Graph.Inputs {
		names = append(names, fmt.Sprintf("%s %v", in.Name, in.Shape))
	}
	return strings.Join(names, ", ")
}

// Draft describes how to serve the pair, whose joined network is n.
func (p Pair) Draft(n Network, w Wishes) (Draft, error) {
	m := p.model
	m.Description = w.Description
	if w.Part != "" && w.Part != string(adapt.PartAll) {
		m.Trainable.Part = w.Part
	}
	// The encoder would run on every augmented copy.
	m.Hindsight = adapt.Hindsight()
	m.Hindsight.Augment.Noise, m.Hindsight.Augment.Blur, m.Hindsight.Augment.Inversion = false, false, false
	d := Draft{App: apps.App{Name: w.Name, Description: w.Description, Version: "1.0", Labels: w.Labels, Models: []apps.Model{m}}, Notes: p.notes}
	if p.Swapped {
		d.note("the second file is the encoder and the first the decoder")
	}
	if p.Masks > 1 {
		d.note(fmt.Sprintf("the decoder gives %d answers: number %d is taken; --mask takes another, from 0 to %d", p.Masks, m.Mask, p.Masks-1))
	}
	if n.Classes != 2 {
		return Draft{}, errors.New("a network of two files answers with one object")
	}
	return d, nil
}
