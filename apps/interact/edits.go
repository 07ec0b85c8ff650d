package interact

import (
	"slices"

	"scrawl/adapters/morph"
)

// takeEdits finds where the user has changed our last answer by hand: those slices become anchors whose mask stands.
func (r *run) takeEdits() {
	if r.req.Previous == nil {
		return
	}
	was := r.state.Answer
	if was == nil {
		was = make([]bool, len(r.req.Previous))
	}
	now := asShown(r.img, r.req, r.state, was)
	axis := r.carryAxis()
	for n := range r.img.Volume.Size[axis] {
		a, b := r.bits(now, axis, n), r.bits(was, axis, n)
		if !slices.Equal(a.Bits, b.Bits) {
			r.takeEdit(SliceKey{Axis: axis, Slice: n}, a, b)
		}
	}
}

// Edited reports whether the segment that a request came with is not the last answer: the user has changed it by hand.
func Edited(img Image, req Request, st State) bool {
	if req.Previous == nil {
		return false
	}
	was := st.Answer
	if was == nil {
		was = make([]bool, len(req.Previous))
	}
	return !slices.Equal(asShown(img, req, st, was), was)
}

// asShown is the segment as the client has it. A stroke over the segment and other segments hide it there; what they hide is no edit,
// so it is taken to be as it was.
func asShown(img Image, req Request, st State, was []bool) []bool {
	now := slices.Clone(req.Previous)
	for i, p := range req.Protected {
		if p {
			now[i] = was[i]
		}
	}
	size := img.Volume.Size
	for _, s := range slices.Concat(req.Strokes.Strokes, st.Strokes.Strokes) {
		for _, at := range s.Pixels {
			v := s.Plane().Voxel(at)
			i := (v[2]*size[1]+v[1])*size[0] + v[0]
			now[i] = was[i]
		}
	}
	return now
}

func (r *run) takeEdit(key SliceKey, now, was morph.Mask) {
	r.fresh = true
	a := r.state.Anchors[key]
	if a.Stages == nil {
		a.Stages = []Stage{r.firstStage(key)}
	}
	// A segment that was there before our first answer is where we start from, not a correction of ours.
	if r.state.Answer != nil {
		a.Corrected = a.Corrected.with(now, was)
	}
	a.Edited, a.Answer, a.Prompted, a.Revised, a.Accepted, a.Learned = &now, maskProbability(now), nil, nil, true, false
	a.Turn = r.turn
	r.state.Anchors[key] = a
	delete(r.state.Carried, key)
}

// with adds what has changed from was to now. Like the other methods it leaves c as it is; c may be nil.
func (c *Corrections) with(now, was morph.Mask) *Corrections {
	added, removed := now.AndNot(was), was.AndNot(now)
	if c == nil {
		return &Corrections{Added: added, Removed: removed}
	}
	return &Corrections{Added: c.Added.AndNot(removed).Or(added), Removed: c.Removed.AndNot(added).Or(removed)}
}

// without takes away corrections that strokes contradict: the strokes are the user's newer word.
func (c *Corrections) without(positive, negative morph.Mask) *Corrections {
	if c == nil {
		return nil
	}
	return &Corrections{Added: c.Added.AndNot(negative), Removed: c.Removed.AndNot(positive)}
}

// applied is an answer with the corrections written in.
func (c *Corrections) applied(p Probability) Probability {
	if c == nil {
		return p
	}
	out := slices.Clone(p)
	for i := range out {
		switch {
		case c.Added.Bits[i]:
			out[i] = 255
		case c.Removed.Bits[i]:
			out[i] = 0
		}
	}
	return out
}
