package interact

import (
	"context"
	"math"
	"slices"

	"scrawl/adapters/morph"
	"scrawl/adapters/transform"
	"scrawl/engine/adapt"
)

// smallest is the number of pixels below which an object counts as ended.
const smallest = 4

// carry brings the object from the anchors to the slices between and beyond them.
func (r *run) carry(ctx context.Context) error {
	axis := r.carryAxis()
	var anchors []int
	for key := range r.state.Anchors {
		if key.Axis == axis {
			anchors = append(anchors, key.Slice)
		}
	}
	slices.Sort(anchors)
	// Nothing new: what was carried stays, also when the user has taught the network on other images since.
	settled := !r.fresh && r.state.Answer != nil
	if len(r.state.Anchors) > 0 && (settled || r.req.SliceOnly) {
		return nil
	}
	r.state.Carried, r.state.Recognised = map[SliceKey]Probability{}, false
	if len(r.state.Anchors) == 0 {
		return r.foresee(ctx, axis)
	}
	if r.req.SliceOnly || len(anchors) == 0 {
		return nil
	}
	weights := r.carrier()
	first, last := r.shown(axis)
	up, down := map[int]Probability{}, map[int]Probability{}
	for i, n := range anchors {
		end, begin := r.img.Volume.Size[axis], -1
		if i+1 < len(anchors) {
			end = anchors[i+1]
		}
		if i > 0 {
			begin = anchors[i-1]
		}
		if first < end {
			if err := r.walk(ctx, weights, axis, n, min(end, last+1), +1, up); err != nil {
				return err
			}
		}
		if last > begin {
			if err := r.walk(ctx, weights, axis, n, max(begin, first-1), -1, down); err != nil {
				return err
			}
		}
	}
	r.blend(axis, anchors, up, down)
	return nil
}

// shown is the first and the last slice that the request's box lets the answer have: there is no point in going beyond.
func (r *run) shown(axis int) (first, last int) {
	if b := r.req.Box; b != nil {
		return b[0][axis], b[1][axis] - 1
	}
	return 0, r.img.Volume.Size[axis] - 1
}

// carrier chooses the weights that make the first mask of untouched slices.
func (r *run) carrier() adapt.Weights {
	switch {
	case r.req.Profile == ProfileHindsight && r.learned.Memory != nil:
		i, w := r.Engine.Best(r.Hindsight, *r.learned.Memory)
		r.report.Expert = i
		return w
	case r.req.Profile == ProfileThesis && r.learned.Sets != nil:
		if r.Thesis.StudentAnswers {
			r.report.Expert = 2
			return r.learned.Sets.Student
		}
		r.report.Expert = 1
		return r.learned.Sets.Averages[0]
	}
	return r.Engine.Network().Source()
}

// walk answers slice after slice from an anchor up to, not including, end, each with its neighbour's answer as prior,
// until the object ends.
func (r *run) walk(ctx context.Context, w adapt.Weights, axis, from, end, step int, out map[int]Probability) error {
	prior := r.state.Anchors[SliceKey{Axis: axis, Slice: from}].Answer
	width, height := r.size(axis)
	none := morph.New(width, height)
	anchor, err := r.img.view(SliceKey{Axis: axis, Slice: from})
	if err != nil {
		return err
	}
	seen := appearanceOf(anchor, prior.mask(width, height))
	for n := from + step; (end-n)*step > 0; n += step {
		before := prior.mask(width, height)
		if before.Count() < smallest {
			return nil
		}
		v, err := r.img.view(SliceKey{Axis: axis, Slice: n})
		if err != nil {
			return err
		}
		answer, err := r.answer(ctx, w, v, prompt{positive: none, negative: none, prior: prior, box: r.boxMask(v.key)})
		if err != nil {
			return err
		}
		answer = connected(seen.keep(within(answer, before, v.spacing), v), before)
		if answer.mask(width, height).Count() < smallest {
			return nil
		}
		out[n] = answer
		prior = answer
		r.report.Carried++
		r.progress("carry", r.report.Carried, r.img.Volume.Size[axis])
	}
	return nil
}

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

// blend joins what was carried upward and downward: between two anchors both answers count, the nearer anchor's more.
func (r *run) blend(axis int, anchors []int, up, down map[int]Probability) {
	for n := range r.img.Volume.Size[axis] {
		u, d := up[n], down[n]
		i, isAnchor := slices.BinarySearch(anchors, n)
		if isAnchor || u == nil && d == nil {
			continue
		}
		inside := i > 0 && i < len(anchors)
		var p Probability
		switch {
		case !inside && u != nil:
			p = u
		case !inside:
			p = d
		default:
			p = mixed(u, d, float64(anchors[i]-n)/float64(anchors[i]-anchors[i-1]))
		}
		r.state.Carried[SliceKey{Axis: axis, Slice: n}] = p
	}
}

// mixed is share·u + (1−share)·d, where a missing side counts as nothing there.
func mixed(u, d Probability, share float64) Probability {
	out := make(Probability, max(len(u), len(d)))
	for i := range out {
		v := 0.5
		if u != nil {
			v += share * float64(u[i])
		}
		if d != nil {
			v += (1 - share) * float64(d[i])
		}
		out[i] = uint8(v)
	}
	return out
}
