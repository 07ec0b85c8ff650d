package interact

import (
	"context"
	"slices"

	"scrawl/adapters/morph"
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
	c := &carrying{run: r, axis: axis, anchors: anchors, weights: r.carrier()}
	c.first, c.last = r.shown(axis)
	c.setOut()
	if err := c.revise(ctx); err != nil {
		return err
	}
	if known := r.familiar(nowhere); known != nil && known.fitted != nil {
		c.known = known
		c.setOut()
	}
	for _, n := range anchors {
		for _, step := range []int{-1, +1} {
			if _, err := c.walk(ctx, walk{n, step}); err != nil {
				return err
			}
		}
	}
	c.cut()
	c.blend()
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

// carrying is the carrying of one interaction along one axis.
type carrying struct {
	*run
	axis        int
	anchors     []int // slices, in order
	first, last int   // slices that the answer may have
	weights     adapt.Weights
	known       *familiar
	up, down    map[int]Probability // what walks upward and downward have answered
	reached     map[walk]arrival    // how far walks have come
}

// walk is the way from an anchor to the next one, or to the volume's end, in a direction of ±1.
type walk struct{ from, step int }

// arrival is the answer on a walk's last slice, and how the object looked on its anchor. The answer is nil where the object has ended.
type arrival struct {
	answer Probability
	seen   appearance
}

// setOut forgets where walks have led.
func (c *carrying) setOut() {
	c.up, c.down, c.reached = map[int]Probability{}, map[int]Probability{}, map[walk]arrival{}
	c.report.Carried = 0
}

func (c *carrying) key(n int) SliceKey { return SliceKey{Axis: c.axis, Slice: n} }

// anchor is the answer of an anchor as it is shown.
func (c *carrying) anchor(n int) Probability { return c.state.Anchors[c.key(n)].shown() }

// next is the anchor that a walk leads to, or the slice beyond the volume.
func (c *carrying) next(w walk) (n int, isAnchor bool) {
	i, _ := slices.BinarySearch(c.anchors, w.from)
	switch i += w.step; {
	case i < 0:
		return -1, false
	case i >= len(c.anchors):
		return c.img.Volume.Size[c.axis], false
	}
	return c.anchors[i], true
}

// walk answers slice after slice from an anchor up to, not including, the next one, each with its neighbour's answer as prior, until
// the object ends. A walk is gone once.
func (c *carrying) walk(ctx context.Context, w walk) (arrival, error) {
	if at, gone := c.reached[w]; gone {
		return at, nil
	}
	v, err := c.img.view(c.key(w.from))
	if err != nil {
		return arrival{}, err
	}
	at := arrival{answer: c.anchor(w.from)}
	at.seen = appearanceOf(v, at.answer.mask(v.w, v.h))
	end, out := c.end(w), c.down
	if w.step > 0 {
		out = c.up
	}
	for n := w.from + w.step; (end-n)*w.step > 0 && at.answer != nil; n += w.step {
		if at.answer, err = c.carried(ctx, n, at); err != nil {
			return arrival{}, err
		}
		if at.answer != nil {
			out[n] = at.answer
			c.report.Carried++
			c.progress("carry", c.report.Carried, c.img.Volume.Size[c.axis])
		}
	}
	c.reached[w] = at
	return at, nil
}

// end is the slice that a walk goes up to. Only an anchor that holds nothing can change what lies before it: see [carrying.cut].
func (c *carrying) end(w walk) int {
	n, isAnchor := c.next(w)
	switch {
	case isAnchor && !c.holds(n):
		return n
	case w.step > 0:
		return min(n, c.last+1)
	}
	return max(n, c.first-1)
}

// carried answers a slice from its neighbour's answer; nil when the object has ended.
func (c *carrying) carried(ctx context.Context, n int, from arrival) (Probability, error) {
	v, err := c.img.view(c.key(n))
	if err != nil {
		return nil, err
	}
	before := from.answer.mask(v.w, v.h)
	if before.Count() < smallest {
		return nil, nil
	}
	none := morph.New(v.w, v.h)
	answer, err := c.answer(ctx, c.weights, v, prompt{positive: none, negative: none, prior: from.answer, familiar: c.known, box: c.boxMask(v.key)})
	if err != nil {
		return nil, err
	}
	answer = connected(from.seen.keep(within(answer, before, v.spacing), v), before)
	if answer.mask(v.w, v.h).Count() < smallest {
		return nil, nil
	}
	return answer, nil
}

// neckShare is the share of the anchor's area below which a carried object counts as pinched.
const neckShare = 0.5

// cut lets the object end before anchors that hold nothing of it: what was carried as far as there is wrong. It has ended at its neck,
// the slice where it was smallest, for beyond a neck lies what it has leaked into; where it is never pinched, half-way.
func (c *carrying) cut() {
	for i := 1; i < len(c.anchors); i++ {
		below, above := c.anchors[i-1], c.anchors[i]
		switch {
		case c.holds(below) && !c.holds(above):
			for n := c.neck(below, above, c.up); n < above; n++ {
				delete(c.up, n)
			}
		case c.holds(above) && !c.holds(below):
			for n := c.neck(above, below, c.down); n > below; n-- {
				delete(c.down, n)
			}
		}
	}
}

// holds tells whether an anchor holds any of the object.
func (c *carrying) holds(n int) bool { return c.area(c.anchor(n)) >= smallest }

func (c *carrying) area(p Probability) int { return p.mask(c.size(c.axis)).Count() }

// neck is the slice where the object has ended between an anchor that holds it and one that does not; the latter when nothing came as
// far as there.
func (c *carrying) neck(from, to int, out map[int]Probability) int {
	step, at := 1, (from+to+1)/2
	if to < from {
		step, at = -1, (from+to)/2
	}
	least := neckShare * float64(c.area(c.anchor(from)))
	for n := from + step; n != to; n += step {
		if out[n] == nil {
			return to
		}
		if a := float64(c.area(out[n])); a < least {
			least, at = a, n
		}
	}
	return at
}

// blend joins what was carried upward and downward: between two anchors with the object both answers count, the nearer anchor's more.
func (c *carrying) blend() {
	for n := range c.img.Volume.Size[c.axis] {
		u, d := c.up[n], c.down[n]
		i, isAnchor := slices.BinarySearch(c.anchors, n)
		if isAnchor || u == nil && d == nil {
			continue
		}
		between := i > 0 && i < len(c.anchors) && c.holds(c.anchors[i-1]) && c.holds(c.anchors[i])
		p := u
		switch {
		case between:
			p = mixed(u, d, float64(c.anchors[i]-n)/float64(c.anchors[i]-c.anchors[i-1]))
		case u == nil:
			p = d
		}
		c.state.Carried[c.key(n)] = p
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
