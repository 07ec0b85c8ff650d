package interact

import (
	"math"

	"scrawl/adapters/volume"
	"scrawl/engine/adapt"
)

// Uncertainty tells for each voxel how unsure the last answer is: 0 where the probability of the object is 0 or 1, 255 where it is one
// half. Slices that nothing was answered for are sure. Where slices of different planes cross, the less sure one counts.
func (st State) Uncertainty(g volume.Geometry) *volume.LabelMap {
	m := volume.NewLabelMap(g)
	stride := [3]int{1, g.Size[0], g.Size[0] * g.Size[1]}
	put := func(key SliceKey, p Probability) {
		x, y := volume.Plane(key.Axis).Axes()
		w := g.Size[x]
		for i, v := range p {
			at := key.Slice*stride[key.Axis] + (i%w)*stride[x] + (i/w)*stride[y]
			m.Labels[at] = max(m.Labels[at], 255-uint16(math.Abs(2*float64(v)-255)))
		}
	}
	for key, p := range st.Carried {
		put(key, p)
	}
	for key, a := range st.Anchors {
		if a.Edited == nil {
			put(key, a.shown())
		}
	}
	return m
}

// Distance is how far what was learned has moved the weights of a network from source, as ‖w − w₀‖ / ‖w₀‖ over all trainable weights: of the student
// in hindsight, of the teacher in the thesis's method, the larger of both. 0 when nothing was learned.
func Distance(source adapt.Weights, l Learned) float64 {
	d := 0.0
	if l.Memory != nil {
		d = max(d, distance(source, l.Memory.Sets.Student))
	}
	if l.Sets != nil {
		d = max(d, distance(source, l.Sets.Averages[0]))
	}
	return d
}

func distance(source, moved adapt.Weights) float64 {
	var apart, norm float64
	for i, t := range source {
		now := moved[i].Float32s()
		for j, v := range t.Float32s() {
			d := float64(now[j]) - float64(v)
			apart += d * d
			norm += float64(v) * float64(v)
		}
	}
	return math.Sqrt(apart / max(norm, math.SmallestNonzeroFloat64))
}

// LossCurve is the loss of the last lesson or interaction that learned, step by step: the sum of its terms. Nil when it learned nothing.
func (r Report) LossCurve() []float64 {
	var terms [][2]float32
	switch {
	case len(r.Lessons) > 0:
		terms = r.Lessons[len(r.Lessons)-1].Losses
	case len(r.Thesis) > 0:
		terms = r.Thesis[len(r.Thesis)-1].Losses
	}
	var curve []float64
	for _, t := range terms {
		curve = append(curve, float64(t[0])+float64(t[1]))
	}
	return curve
}
