package scribble

import "scrawl/adapters/morph"

// Thickness says how strokes are widened for the loss: by a Gaussian of Sigma pixels, cut off at three sigma, whose values above
// Epsilon count. The zero value widens nothing.
type Thickness struct{ Sigma, Epsilon float64 }

// DefaultThickness makes a line of one pixel five pixels wide.
func DefaultThickness() Thickness { return Thickness{Sigma: 1, Epsilon: 0.05} }

// LossMaps are the thesis's scribble mask (3.2.2) of the strokes that lie in a plane, W·H values each, x fastest. Every stroke is
// blurred on its own, and every pixel that the blurred stroke still reaches gets the stroke's label, as do the stroke's own. m is
// 1 where labels say something, and y is 1 where they say object; where strokes of both signs reach, both are 0.
func (s Set) LossMaps(p Plane, t Thickness) (m, y []float32) {
	ax, ay := planeAxes(p.Axis)
	w, h := s.Size[ax], s.Size[ay]
	signs := make([]uint8, w*h)
	for _, stroke := range s.Strokes {
		if stroke.Plane() == p {
			t.widen(stroke, w, h, func(x, y int) { signs[y*w+x] |= sign(stroke.Positive) })
		}
	}
	m, y = make([]float32, w*h), make([]float32, w*h)
	for i, v := range signs {
		switch v {
		case signPositive:
			m[i], y[i] = 1, 1
		case signNegative:
			m[i] = 1
		}
	}
	return m, y
}

// cutOff is how many sigma a Gaussian reaches.
const cutOff = 3

// widen calls mark for every pixel that a stroke reaches on a slice of w by h. Only the stroke's surroundings are blurred.
func (t Thickness) widen(stroke Stroke, w, h int, mark func(x, y int)) {
	for _, at := range stroke.Pixels {
		mark(at.X, at.Y)
	}
	if !(t.Sigma > 0) || len(stroke.Pixels) == 0 {
		return
	}
	box := morph.Rect{X0: w, Y0: h}
	for _, at := range stroke.Pixels {
		box = morph.Rect{X0: min(box.X0, at.X), Y0: min(box.Y0, at.Y), X1: max(box.X1, at.X+1), Y1: max(box.Y1, at.Y+1)}
	}
	box = box.Grow(int(cutOff*t.Sigma+0.5), w, h)
	ink := morph.New(box.W(), box.H())
	for _, at := range stroke.Pixels {
		ink.Set(at.X-box.X0, at.Y-box.Y0, true)
	}
	for i, v := range morph.Blur(ink.Floats(), ink.W, ink.H, t.Sigma, cutOff) {
		if float64(v) > t.Epsilon {
			mark(box.X0+i%ink.W, box.Y0+i/ink.W)
		}
	}
}
