package interact

import (
	"math"
	"slices"

	"scrawl/adapters/morph"
	"scrawl/adapters/transform"
)

// How far an object can reach from one slice to the next: leastReach in mm, plus a share of its size. What lies further is a leak.
const (
	leastReach = 6
	reachShare = 0.2
)

// within keeps what lies inside the neighbour's mask or no further from it than an object moves between slices, so that a leak in one
// slice cannot grow through the volume.
func within(p Probability, before morph.Mask, spacing [2]float64) Probability {
	size := math.Sqrt(float64(before.Count()) * spacing[0] * spacing[1])
	reach := float32(leastReach + reachShare*size)
	out := slices.Clone(p)
	for i, d := range before.Distance(spacing) {
		if d > reach {
			out[i] = 0
		}
	}
	return out
}

// appearance is the range of intensities of an object on the anchor it is carried from.
type appearance struct{ low, high float32 }

// appearanceBlur is the width in pixels over which intensities are averaged before they are compared, and appearanceSlack by how
// much they may leave the anchor's range, as a share of that range.
const (
	appearanceBlur  = 1
	appearanceSlack = 0.25
)

func appearanceOf(v view, object morph.Mask) appearance {
	smooth := morph.Blur(v.pixels, v.w, v.h, appearanceBlur, 3)
	inside := transform.Under(smooth, object)
	if len(inside) == 0 {
		return appearance{0, 1}
	}
	a := appearance{transform.Rank(inside, 2), transform.Rank(inside, 98)}
	slack := appearanceSlack * (a.high - a.low)
	return appearance{a.low - slack, a.high + slack}
}

// keep leaves out what does not look like the object did on its anchor: tissue that a leak has reached, or what lies where the object
// has ended.
func (a appearance) keep(p Probability, v view) Probability {
	out := slices.Clone(p)
	for i, x := range morph.Blur(v.pixels, v.w, v.h, appearanceBlur, 3) {
		if x < a.low || x > a.high {
			out[i] = 0
		}
	}
	return out
}

// connected keeps those parts of an answer that touch the neighbour's mask: what is carried is one object, not
// everything that looks like it.
func connected(p Probability, before morph.Mask) Probability {
	m := p.mask(before.W, before.H)
	parts := m.Components(morph.Eight)
	keep := make([]bool, parts.N()+1)
	for i, l := range parts.Labels {
		if l > 0 && before.Bits[i] {
			keep[l] = true
		}
	}
	out := slices.Clone(p)
	for i, l := range parts.Labels {
		if l > 0 && !keep[l] {
			out[i] = 0
		}
	}
	return out
}
