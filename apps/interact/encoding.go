package interact

import (
	"math"

	"scrawl/adapters/morph"
	"scrawl/adapters/volume"
)

// strokePlane shows strokes of one sign to the network, on its grid.
func (in Input) strokePlane(plane []float32, strokes morph.Mask) {
	if in.Prompts != PromptDisc && in.Prompts != PromptDistance {
		fill(plane, strokes)
		return
	}
	if strokes.Empty() {
		if in.Prompts == PromptDistance {
			for i := range plane {
				plane[i] = 1
			}
		}
		return
	}
	for i, d := range strokes.Distance([2]float64{1, 1}) {
		switch {
		case in.Prompts == PromptDistance:
			plane[i] = float32(math.Tanh(2 * float64(d) / in.Radius))
		case float64(d) <= in.Radius:
			plane[i] = 1
		}
	}
}

// PointMap shows strokes as up to Points points, spread along them, on a plane of zeros: a point on the object is one pixel above 0, a point
// beside it one below. Magnitudes fall from point to point, which is the order in which a decoder is given them: see
// [adapt.TwoParts]. Both kinds share the points by halves, unless one needs fewer.
func (in Input) PointMap(plane []float32, positive, negative morph.Mask) {
	on, beside := in.spread(positive.AndNot(negative)), in.spread(negative)
	few := min(len(beside), in.Points/2)
	on = on[:min(len(on), in.Points-few)]
	beside = beside[:min(len(beside), in.Points-len(on))]
	for i, p := range on {
		plane[p.Y*positive.W+p.X] = float32(in.Points - i)
	}
	for i, p := range beside {
		plane[p.Y*positive.W+p.X] = -float32(in.Points - len(on) - i)
	}
}

// pointGap is how many points fit side by side along the grid: nearer ones would say the same. A click is one point.
const pointGap = 32

// spread picks points of strokes: first the one nearest to their middle, then always the one farthest from those picked, so that
// every stroke gets one before any gets many.
func (in Input) spread(strokes morph.Mask) []morph.Point {
	all := strokes.Points()
	if len(all) == 0 {
		return nil
	}
	var x, y float64
	for _, p := range all {
		x, y = x+float64(p.X)/float64(len(all)), y+float64(p.Y)/float64(len(all))
	}
	next := 0
	for i, p := range all {
		if math.Hypot(float64(p.X)-x, float64(p.Y)-y) < math.Hypot(float64(all[next].X)-x, float64(all[next].Y)-y) {
			next = i
		}
	}
	away := make([]float64, len(all)) // squared, from the nearest picked
	for i := range away {
		away[i] = math.Inf(1)
	}
	gap := max(float64(in.Grid)/pointGap, 2)
	var picked []morph.Point
	for len(picked) < in.Points && away[next] >= gap*gap {
		at := all[next]
		picked = append(picked, at)
		for i, p := range all {
			dx, dy := float64(p.X-at.X), float64(p.Y-at.Y)
			if away[i] = min(away[i], dx*dx+dy*dy); away[i] > away[next] || i == 0 {
				next = i
			}
		}
	}
	return picked
}

// boxMask is the request's box on a slice, for networks that are shown it; nil when there is none.
func (r *run) boxMask(key SliceKey) *morph.Mask {
	b := r.req.Box
	if b == nil || !r.Input.has(ChannelBox) {
		return nil
	}
	w, h := r.size(key.Axis)
	m := morph.New(w, h)
	if key.Slice < b[0][key.Axis] || key.Slice >= b[1][key.Axis] {
		return &m
	}
	x, y := volume.Plane(key.Axis).Axes()
	for j := b[0][y]; j < b[1][y]; j++ {
		for i := b[0][x]; i < b[1][x]; i++ {
			m.Bits[j*w+i] = true
		}
	}
	return &m
}

// mostLogit bounds logits of previous predictions.
const mostLogit = 10

// previousPlane shows the previous prediction to the network, on its grid; nil when there is none.
func (in Input) previousPlane(plane, previous []float32) {
	for i, p := range previous {
		switch in.Previous {
		case PreviousLogits:
			plane[i] = float32(min(max(math.Log(float64(p)/(1-float64(p))), -mostLogit), mostLogit))
		case PreviousMask:
			if p > 0.5 {
				plane[i] = 1
			}
		default:
			plane[i] = p
		}
	}
}
