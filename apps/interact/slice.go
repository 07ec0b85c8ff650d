package interact

import (
	"context"
	"fmt"
	"math"
	"slices"

	"scrawl/adapters/morph"
	"scrawl/adapters/transform"
	"scrawl/adapters/volume"
	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// view is one slice of an image, ready to be looked at.
type view struct {
	key     SliceKey
	w, h    int
	spacing [2]float64 // mm along x and y
	pixels  []float32  // 0…1
}

func (img Image) view(key SliceKey) (view, error) {
	s, err := img.Volume.Slice(volume.Plane(key.Axis), key.Slice)
	if err != nil {
		return view{}, err
	}
	return view{key: key, w: s.W, h: s.H, spacing: s.Spacing,
		pixels: transform.Rescale(s.Pixels, float32(img.Low), float32(img.High))}, nil
}

// prompt is all that is said of a slice: strokes, and the previous prediction.
type prompt struct {
	positive, negative morph.Mask
	prior              Probability
	familiar           *familiar   // what is known of the target's look; nil for nothing
	box                *morph.Mask // that the answer is limited to; nil for none
}

// bounds is the smallest rectangle that holds the strokes and the prior's object.
func (p prompt) bounds(w, h int) (morph.Rect, bool) {
	m := morph.New(w, h)
	for i := range m.Bits {
		m.Bits[i] = p.positive.Bits[i] || p.negative.Bits[i] || p.prior != nil && p.prior[i] > half
	}
	return m.Bounds()
}

// half is a probability of one half: what lies above is object.
const half = 127

// zoom is by how much small objects are enlarged at most.
const zoom = 2

// around is how many times larger than the object a window's side is.
const around = 1.8

// window chooses the region of a slice that the network looks at: around the object when there is one, the whole slice
// otherwise. Regions are square in the patient, whatever the spacing, so that nothing is seen distorted.
func (m *Model) window(v view, box morph.Rect, known bool) (transform.Window, error) {
	g := float64(m.Input.Grid)
	fine := min(v.spacing[0], v.spacing[1])
	whole := max(g*fine, float64(v.w)*v.spacing[0], float64(v.h)*v.spacing[1])
	side := whole
	cx, cy := float64(v.w)/2, float64(v.h)/2
	if known {
		object := max(float64(box.W())*v.spacing[0], float64(box.H())*v.spacing[1])
		side = min(max(object*around, g*fine/zoom), whole)
		if side < whole {
			cx, cy = float64(box.X0+box.X1)/2, float64(box.Y0+box.Y1)/2
		}
	}
	rw, rh := max(int(side/v.spacing[0]+0.5), 1), max(int(side/v.spacing[1]+0.5), 1)
	x0, y0 := int(math.Floor(cx-float64(rw)/2+0.5)), int(math.Floor(cy-float64(rh)/2+0.5))
	return transform.NewWindow(morph.Rect{X0: x0, Y0: y0, X1: x0 + rw, Y1: y0 + rh}, m.Input.Grid, m.Input.Grid)
}

// inputs is the network's input [1,C,G,G] for a slice seen through a window.
func (m *Model) inputs(v view, win transform.Window, p prompt) *tensor.Tensor {
	g := m.Input.Grid
	x := tensor.Zeros[float32](1, len(m.Input.Channels), g, g)
	positive, negative := win.ForwardStroke(p.positive), win.ForwardStroke(p.negative)
	var previous []float32
	if p.prior != nil {
		previous = win.Forward(p.prior.floats(), v.w, v.h, transform.Zero)
	}
	for c, name := range m.Input.Channels {
		plane := x.Float32s()[c*g*g : (c+1)*g*g]
		switch name {
		case ChannelImage:
			copy(plane, win.Forward(v.pixels, v.w, v.h, transform.Edge))
			if m.Input.Focus > 0 {
				transform.Focus(plane, win.Inside(v.w, v.h), objectOf(previous, positive, negative), m.Input.Focus)
			}
		case ChannelPositive:
			m.Input.strokePlane(plane, positive)
		case ChannelNegative:
			m.Input.strokePlane(plane, negative)
		case ChannelPoints:
			m.Input.PointMap(plane, positive, negative)
		case ChannelPrevious:
			m.Input.previousPlane(plane, previous)
		case ChannelLikeness:
			p.familiar.show(plane, v, win, p.positive, p.negative)
		case ChannelBox:
			if p.box != nil {
				fill(plane, win.ForwardMask(*p.box))
			}
		}
	}
	return x
}

func fill(plane []float32, m morph.Mask) {
	for i, b := range m.Bits {
		if b {
			plane[i] = 1
		}
	}
}

func (p Probability) floats() []float32 {
	f := make([]float32, len(p))
	for i, v := range p {
		f[i] = float32(v) / 255
	}
	return f
}

// quantized brings probabilities to steps of 1/255. Priors are always used in this form, so that a state read back from
// disk gives the same answers.
func quantized(f []float32) Probability {
	p := make(Probability, len(f))
	for i, v := range f {
		p[i] = uint8(min(max(v, 0), 1)*255 + 0.5)
	}
	return p
}

// mask is where the probability is above one half.
func (p Probability) mask(w, h int) morph.Mask {
	m := morph.New(w, h)
	for i, v := range p {
		m.Bits[i] = v > half
	}
	return m
}

func maskProbability(m morph.Mask) Probability {
	p := make(Probability, len(m.Bits))
	for i, b := range m.Bits {
		if b {
			p[i] = 255
		}
	}
	return p
}

// any reports whether a pixel lies above one half.
func (p Probability) any() bool {
	return slices.ContainsFunc(p, func(v uint8) bool { return v > half })
}

// answer runs the network on a slice. When the object turns out much smaller than the region looked at, it looks again, closer. A
// network that sees only the image knows the object from its surroundings, and always looks at everything.
func (m *Model) answer(ctx context.Context, w adapt.Weights, v view, p prompt) (Probability, error) {
	if !m.Input.Conditioned() {
		prob, _, err := m.look(ctx, w, v, p, morph.Rect{}, false)
		return prob, err
	}
	box, known := p.bounds(v.w, v.h)
	// Strokes alone say where the object is, not how large: look at everything first.
	known = known && p.prior.any()
	prob, win, err := m.look(ctx, w, v, p, box, known)
	if err != nil {
		return nil, err
	}
	seen := prompt{positive: p.positive, negative: p.negative, prior: prob, box: p.box}
	if found, ok := seen.bounds(v.w, v.h); ok {
		closer, err := m.window(v, found, true)
		if err != nil {
			return nil, err
		}
		if 3*closer.Region.W() <= 2*win.Region.W() {
			if prob, _, err = m.look(ctx, w, v, p, found, true); err != nil {
				return nil, err
			}
		}
	}
	return m.reconsider(ctx, w, v, p, prob)
}

// reconsider looks once more at a slice with strokes, now with the answer as the previous prediction. A stroke alone says little of
// how far the object goes, and the first answer stays too close to it. Without strokes a second look would only repeat its own errors.
func (m *Model) reconsider(ctx context.Context, w adapt.Weights, v view, p prompt, answer Probability) (Probability, error) {
	if !m.Input.has(ChannelPrevious) || p.positive.Empty() && p.negative.Empty() {
		return answer, nil
	}
	p.prior = answer
	box, known := p.bounds(v.w, v.h)
	answer, _, err := m.look(ctx, w, v, p, box, known)
	return answer, err
}

// What is more than a correction: more added than so large a share of the mask's area. It counts no farther from a stroke than a share of
// the stroke's length. Where a network misunderstands a stroke it spills; what goes may well have been spilled before.
const (
	mostAdded   = 0.3
	strokeReach = 0.5
)

// correction is an answer to the first strokes on a mask as the user means it. They correct the mask: where the answer adds so much that it
// has misunderstood them, what is added counts close to the strokes alone. A user who goes on drawing on a slice insists, and is
// answered as the network has it.
func (p prompt) correction(answer Probability) Probability {
	w, h := p.positive.W, p.positive.H
	was := p.prior.mask(w, h)
	added := answer.mask(w, h).AndNot(was)
	if float64(added.Count()) <= mostAdded*float64(was.Count()) {
		return answer
	}
	near := p.near()
	out := slices.Clone(answer)
	for i := range out {
		if !near.Bits[i] && added.Bits[i] {
			out[i] = p.prior[i]
		}
	}
	return out
}

// near is where strokes count whatever the network makes of them.
func (p prompt) near() morph.Mask {
	near := morph.New(p.positive.W, p.positive.H)
	for _, stroke := range connectedParts(p.positive.Or(p.negative)) {
		box, _ := stroke.Bounds()
		near = near.Or(stroke.Dilate(strokeReach * float64(max(box.W(), box.H()))))
	}
	return near
}

func (m *Model) look(ctx context.Context, w adapt.Weights, v view, p prompt, box morph.Rect, known bool) (Probability, transform.Window, error) {
	win, err := m.window(v, box, known)
	if err != nil {
		return nil, win, err
	}
	out, err := m.Engine.Predict(ctx, w, m.inputs(v, win, p))
	if err != nil {
		return nil, win, fmt.Errorf("slice %d of axis %d: %w", v.key.Slice, v.key.Axis, err)
	}
	return quantized(win.Backward(foreground(out), v.w, v.h)), win, nil
}

// foreground is 1 − the probability of class 0, of an answer [1,K,G,G].
func foreground(out *tensor.Tensor) []float32 {
	s := out.Shape()
	n := s[2] * s[3]
	f := make([]float32, n)
	for i, b := range out.Float32s()[:n] {
		f[i] = 1 - b
	}
	return f
}

// plane turns a mask into a tensor [1,1,G,G] of 0 and 1.
func plane(m morph.Mask) *tensor.Tensor {
	t := tensor.Zeros[float32](1, 1, m.H, m.W)
	fill(t.Float32s(), m)
	return t
}
