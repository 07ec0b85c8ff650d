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
