package interact

import (
	"context"
	"slices"

	"scrawl/adapters/measure"
)

// contradiction is the Dice coefficient of an anchor's answer and what is carried to it below which they contradict each other.
const contradiction = 0.8

// leastLeft is the share of an anchor's answer that what is carried to it must have to speak against the rest.
const leastLeft = 0.3

// revise carries the newest corrections through older anchors. An anchor was answered from its strokes and from the mask that it had
// then; its first strokes often spill, and what was carried from there spilled with them. Where a later correction elsewhere is carried
// to the anchor as something smaller that contradicts its answer, the answer is no longer what the user's strokes together say: the
// anchor is answered again, from its own strokes and what is carried to it now, and the correction goes on from there. The later word is
// only taken for what is to go: strokes that took nothing away say nothing about what others have found.
//
// A revised answer is worked out anew each time, so that it goes with the strokes that it came from. How much pixels look like the target has
// no part in it: as long as a spill stands, what has been spilled looks like the target.
func (c *carrying) revise(ctx context.Context) error {
	changed := map[int]bool{}
	for _, n := range c.anchors {
		if a := c.state.Anchors[c.key(n)]; n >= c.first && n <= c.last {
			changed[n] = a.Revised != nil
			a.Revised = nil
			c.state.Anchors[c.key(n)] = a
		}
	}
	if c.req.Profile == ProfileThesis || !c.Input.Conditioned() || !c.Input.has(ChannelPrevious) {
		return nil // a mask from elsewhere would not change the answer
	}
	newestFirst := slices.Clone(c.anchors)
	slices.SortStableFunc(newestFirst, func(a, b int) int { return c.turn(b) - c.turn(a) })
	settled := map[int]bool{}
	for _, n := range newestFirst {
		settled[n] = true
		for _, step := range []int{-1, +1} {
			if err := c.reviseOn(ctx, walk{n, step}, c.turn(n), settled); err != nil {
				return err
			}
		}
	}
	return c.acquaintAgain(changed)
}

// acquaintAgain keeps what revised anchors show of the target's look now, and those that were revised before.
func (c *carrying) acquaintAgain(changed map[int]bool) error {
	for _, n := range c.anchors {
		a := c.state.Anchors[c.key(n)]
		if !changed[n] && a.Revised == nil || a.Edited != nil {
			continue
		}
		v, err := c.img.view(c.key(n))
		if err != nil {
			return err
		}
		if err := c.acquaint(v, &a, a.shown().mask(v.w, v.h), false); err != nil {
			return err
		}
		c.state.Anchors[c.key(n)] = a
	}
	return nil
}

func (c *carrying) turn(n int) int { return c.state.Anchors[c.key(n)].Turn }

// reviseOn revises one older anchor after the other in a direction, as far as they contradict what is carried to them.
func (c *carrying) reviseOn(ctx context.Context, w walk, turn int, settled map[int]bool) error {
	for {
		to, isAnchor := c.next(w)
		if !isAnchor || settled[to] || c.turn(to) >= turn || to < c.first || to > c.last {
			return nil
		}
		at, err := c.walk(ctx, w)
		if err != nil || at.answer == nil {
			return err
		}
		settled[to] = true
		prior, err := c.carried(ctx, to, at)
		if err != nil || !c.contradicts(to, prior) {
			return err
		}
		if err := c.answerAgain(ctx, to, prior); err != nil {
			return err
		}
		w.from = to
	}
}

// contradicts tells whether what is carried to an anchor says that a part of its answer is not the object. What would take most of
// it away does not: an object that had to grow on the way, from an organ's end to its middle, has hardly kept up.
func (c *carrying) contradicts(n int, carried Probability) bool {
	a := c.state.Anchors[c.key(n)]
	if a.Edited != nil || a.Prompted != nil || carried == nil {
		return false
	}
	was, now := a.Answer.mask(c.size(c.axis)), carried.mask(c.size(c.axis))
	smaller, enoughLeft := now.Count() < was.Count(), float64(now.Count()) >= leastLeft*float64(was.Count())
	return smaller && enoughLeft && measure.Dice(was.Bits, now.Bits) < contradiction
}

// answerAgain answers an anchor from all its strokes and what is carried to it.
func (c *carrying) answerAgain(ctx context.Context, n int, prior Probability) error {
	v, err := c.img.view(c.key(n))
	if err != nil {
		return err
	}
	a := c.state.Anchors[c.key(n)]
	p := prompt{prior: prior, box: c.boxMask(c.key(n))}
	p.positive, p.negative = c.req.Strokes.Masks(c.key(n))
	answer, err := c.answer(ctx, c.Engine.Network().Source(), v, p)
	if err != nil {
		return err
	}
	a.Revised = a.Corrected.applied(answer)
	c.state.Anchors[c.key(n)] = a
	return nil
}
