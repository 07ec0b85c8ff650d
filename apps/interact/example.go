package interact

import (
	"context"
	"fmt"

	"scrawl/adapters/morph"
	"scrawl/adapters/transform"
	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// Prompt is all that is said of a slice: strokes, and the previous prediction or nil.
type Prompt struct {
	Positive, Negative morph.Mask
	Prior              Probability
}

func (p Prompt) prompt() prompt {
	return prompt{positive: p.Positive, negative: p.Negative, prior: p.Prior}
}

// NewProbability brings the probabilities of a slice, x fastest, to steps of 1/255.
func NewProbability(values []float32) Probability { return quantized(values) }

// Mask is where the probability is above one half, on a slice of w by h.
func (p Probability) Mask(w, h int) morph.Mask { return p.mask(w, h) }

// Box is the smallest rectangle that holds what a prompt says of the object, and false when it says nothing.
func (p Prompt) Box() (morph.Rect, bool) { return p.prompt().bounds(p.Positive.W, p.Positive.H) }

// AnswerSlice answers one slice with the given weights, as Interact does before anything else is known. A slice with
// nothing said of it is what a network that sees the image alone makes of it.
func (m *Model) AnswerSlice(ctx context.Context, w adapt.Weights, img Image, key SliceKey, p Prompt) (Probability, error) {
	v, err := img.view(key)
	if err != nil {
		return nil, err
	}
	if p.Positive.W != v.w || p.Positive.H != v.h {
		return nil, fmt.Errorf("strokes on a slice of %d×%d pixels, slice %d has %d×%d", p.Positive.W, p.Positive.H, key.Slice, v.w, v.h)
	}
	return m.answer(ctx, w, v, p.prompt())
}

// ClassifySlice gives every pixel of a slice the number of its likeliest class, by a network that sees the image alone.
func (m *Model) ClassifySlice(ctx context.Context, w adapt.Weights, img Image, key SliceKey) ([]uint16, error) {
	v, err := img.view(key)
	if err != nil {
		return nil, err
	}
	win, err := m.window(v, morph.Rect{}, false)
	if err != nil {
		return nil, err
	}
	none := morph.New(v.w, v.h)
	out, err := m.Engine.Predict(ctx, w, m.inputs(v, win, prompt{positive: none, negative: none}))
	if err != nil {
		return nil, fmt.Errorf("slice %d of axis %d: %w", key.Slice, key.Axis, err)
	}
	classes := make([]uint16, v.w*v.h)
	transform.BackwardNearest(win, classes, v.w, v.h, likeliest(out))
	return classes, nil
}

// likeliest is the class with the largest of the probabilities [1,K,G,G] at each pixel.
func likeliest(prob *tensor.Tensor) []uint16 {
	s := prob.Shape()
	n, p := s[2]*s[3], prob.Float32s()
	out := make([]uint16, n)
	for i := range out {
		for c := range s[1] {
			if p[c*n+i] > p[int(out[i])*n+i] {
				out[i] = uint16(c)
			}
		}
	}
	return out
}

// Example is a slice as the network sees it, with what it should answer: X [1,C,G,G], Target [1,1,G,G] of class numbers, and Valid
// [1,1,G,G], which is 0 where the slice has no pixel.
type Example struct{ X, Target, Valid *tensor.Tensor }

// Example looks at a slice as an interaction would: around box, or at the whole slice when known is false. classes holds the class of
// every pixel of the slice, x fastest.
func (m *Model) Example(img Image, key SliceKey, p Prompt, box morph.Rect, known bool, classes []uint16) (Example, error) {
	v, err := img.view(key)
	if err != nil {
		return Example{}, err
	}
	if len(classes) != v.w*v.h {
		return Example{}, fmt.Errorf("%d class numbers for a slice of %d×%d pixels", len(classes), v.w, v.h)
	}
	win, err := m.window(v, box, known && m.Input.Conditioned())
	if err != nil {
		return Example{}, err
	}
	target := tensor.Zeros[float32](1, 1, win.H, win.W)
	for i, c := range transform.ForwardNearest(win, classes, v.w, v.h, 0) {
		target.Float32s()[i] = float32(c)
	}
	return Example{X: m.inputs(v, win, p.prompt()), Target: target, Valid: plane(win.Inside(v.w, v.h))}, nil
}
