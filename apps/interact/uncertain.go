package interact

import (
	"context"
	"math"

	"scrawl/adapters/morph"
	"scrawl/engine/adapt"
)

// How an image's uncertainty is sampled: so many slices, questions to each, and augmented copies of each question.
const (
	sampledSlices = 3
	sampledClicks = 4
	sampledCopies = 4
)

// Uncertainty says how much the network's answers differ between augmented copies of an image, from 0 towards 1, with the weights that a
// user's first masks come from: see [adapt.Engine.Disagreement]. A network that sees strokes answers nothing unasked, so it is asked
// what a click segments, at a few places spread over some slices: where it hesitates there, an annotator would have to
// correct much. turn runs each question on the device. The same arguments give the same answer.
func (m *Model) Uncertainty(ctx context.Context, img Image, profile Profile, learned Learned, turn func(ctx context.Context, work func() error) error) (float64, error) {
	r := &run{Model: m, img: img, req: Request{Options: Options{Profile: profile}}, learned: learned}
	w := r.carrier()
	axis := int(img.Volume.AcquisitionPlane())
	c := m.Thesis
	c.Inversion = false // no scanner inverts; networks that cannot stand it would be as unsure of every image
	n := min(sampledSlices, img.Volume.Size[axis])
	total, asked := 0.0, 0
	for i := range n {
		v, err := img.view(SliceKey{Axis: axis, Slice: (2*i + 1) * img.Volume.Size[axis] / (2 * n)})
		if err != nil {
			return 0, err
		}
		win, err := m.window(v, morph.Rect{}, false)
		if err != nil {
			return 0, err
		}
		for _, at := range m.questions(v) {
			p := prompt{positive: morph.New(v.w, v.h), negative: morph.New(v.w, v.h)}
			if at != nil {
				p.positive = morph.FromPoints(v.w, v.h, []morph.Point{*at}).Dilate(clickRadius)
			}
			s := adapt.Slice{X: m.inputs(v, win, p), Valid: plane(win.Inside(v.w, v.h))}
			err := turn(ctx, func() error {
				d, err := m.Engine.Disagreement(ctx, c, w, s, sampledCopies, uint64(asked))
				total += d
				return err
			})
			if err != nil {
				return 0, err
			}
			asked++
		}
	}
	return total / float64(asked), nil
}

// clickRadius is the radius in pixels of the disc that a click stands for.
const clickRadius = 2

// questions are the places on a slice to click on, or nil for a network that sees no clicks: on a ring around the middle of what is not
// black, half-way to its edge, where organs are.
func (m *Model) questions(v view) []*morph.Point {
	if !m.Input.Conditioned() {
		return []*morph.Point{nil}
	}
	box, ok := morph.Threshold(v.pixels, v.w, v.h, 0.1).Bounds()
	if !ok {
		box = morph.Rect{X1: v.w, Y1: v.h}
	}
	var all []*morph.Point
	for i := range sampledClicks {
		sin, cos := math.Sincos(2 * math.Pi * (float64(i) + 0.5) / sampledClicks)
		all = append(all, &morph.Point{
			X: min(max(int(float64(box.X0+box.X1)/2+cos*float64(box.W())/4), 0), v.w-1),
			Y: min(max(int(float64(box.Y0+box.Y1)/2+sin*float64(box.H())/4), 0), v.h-1),
		})
	}
	return all
}
