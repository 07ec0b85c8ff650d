package interact

import (
	"context"
	"errors"

	"scrawl/adapters/morph"
	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// markAccepted marks the slices that the user has accepted: those whose strokes stayed as they were while strokes were
// added elsewhere, and those drawn by hand.
func (r *run) markAccepted(changed []SliceKey, added bool) {
	touched := map[SliceKey]bool{}
	for _, k := range changed {
		touched[k] = true
	}
	for key, a := range r.state.Anchors {
		if !touched[key] && (added || a.Edited != nil) && !a.Accepted {
			a.Accepted = true
			r.state.Anchors[key] = a
		}
	}
}

// learnAccepted learns from the accepted slices, each once until it changes.
func (r *run) learnAccepted(ctx context.Context) error {
	if r.req.Profile != ProfileHindsight || !r.Input.Conditioned() {
		return nil
	}
	for _, key := range sorted(r.state.Anchors) {
		a := r.state.Anchors[key]
		if !a.Accepted || a.Learned || len(a.Stages) == 0 {
			continue
		}
		switch err := r.learnFrom(ctx, key, a); {
		case errors.Is(err, adapt.ErrDiverged):
			// The answer does not depend on this lesson, and the next request must not fail on it again.
			r.report.Diverged++
		case err != nil:
			return err
		default:
			r.report.Learned = append(r.report.Learned, key)
			r.fresh = true
		}
		a.Learned, a.Lesson, a.Look = true, nil, nil
		r.state.Anchors[key] = a
	}
	return nil
}

func (r *run) learnFrom(ctx context.Context, key SliceKey, a Anchor) error {
	if r.img.Volume.Size[key.Axis] == 1 {
		// A picture has no slices to carry anything to, which is all that the weights are learned for.
		return r.remember(key, a)
	}
	episode, err := r.episode(key, a)
	if err != nil {
		return err
	}
	memory := r.learned.Memory
	if memory == nil {
		fresh := r.Engine.NewMemory(r.Hindsight)
		memory = &fresh
	}
	next, report, err := r.Engine.Accept(ctx, r.Hindsight, *memory, episode)
	if err != nil {
		return err
	}
	r.learned.Memory = &next
	r.report.Lessons = append(r.report.Lessons, report)
	return r.remember(key, a)
}

// episode turns a finished slice into training inputs: each stage as the network saw it, with the accepted mask.
func (r *run) episode(key SliceKey, a Anchor) (adapt.Episode, error) {
	v, err := r.img.view(key)
	if err != nil {
		return nil, err
	}
	target := r.final(a)
	stroked := morph.New(v.w, v.h)
	for _, s := range a.Stages {
		for i := range stroked.Bits {
			stroked.Bits[i] = stroked.Bits[i] || s.Positive.Bits[i] || s.Negative.Bits[i]
		}
	}
	var ep adapt.Episode
	for _, s := range a.Stages {
		p := prompt{positive: s.Positive, negative: s.Negative, prior: s.Prior, familiar: r.familiar(key)}
		seen := p
		if !s.Prior.any() {
			seen.prior = maskProbability(target)
		}
		box, known := seen.bounds(v.w, v.h)
		win, err := r.window(v, box, known)
		if err != nil {
			return nil, err
		}
		ep = append(ep, adapt.Stage{X: r.inputs(v, win, p), Target: plane(win.ForwardMask(target)),
			Stroked: plane(win.ForwardStroke(stroked)), Valid: plane(win.Inside(v.w, v.h))})
	}
	return ep, nil
}

// final is the mask of a finished slice: the answer, or what was drawn by hand, with the strokes written in.
func (r *run) final(a Anchor) morph.Mask {
	last := a.Stages[len(a.Stages)-1]
	m := a.shown().mask(last.Positive.W, last.Positive.H)
	for i := range m.Bits {
		m.Bits[i] = last.Positive.Bits[i] || m.Bits[i] && !last.Negative.Bits[i]
	}
	return m
}

// HasLesson reports whether Learn would learn something.
func (m *Model) HasLesson(o Options, st State) bool {
	if o.Profile != ProfileHindsight || !m.Input.Conditioned() {
		return false
	}
	for _, a := range st.Anchors {
		if a.Accepted && !a.Learned && len(a.Stages) > 0 {
			return true
		}
	}
	return false
}

// Learn learns from the accepted slices of an image that were left for later.
func (m *Model) Learn(ctx context.Context, img Image, o Options, learned Learned, st State) (Learned, State, Report, error) {
	r := m.between(img, o, learned, st)
	err := r.learnAccepted(ctx)
	return r.learned, r.state, r.report, err
}

// Finish accepts all slices of an image, since the user has submitted the label, and learns from those that have not been.
func (m *Model) Finish(ctx context.Context, img Image, o Options, learned Learned, st State) (Learned, State, Report, error) {
	r := m.between(img, o, learned, st)
	r.markAccepted(nil, true)
	err := r.learnAccepted(ctx)
	return r.learned, r.state, r.report, err
}

// between is a run without an interaction.
func (m *Model) between(img Image, o Options, learned Learned, st State) *run {
	return &run{Model: m, img: img, req: Request{Strokes: st.Strokes, Options: o}, learned: learned, state: st.clone(),
		report: Report{Seconds: map[string]float64{}}}
}

// oneHot turns a mask into [1,K,G,G]: class 1 where it is set, class 0 elsewhere.
func oneHot(m morph.Mask, classes int) *tensor.Tensor {
	n := m.W * m.H
	t := tensor.Zeros[float32](1, classes, m.H, m.W)
	for i, b := range m.Bits {
		if b {
			t.Float32s()[n+i] = 1
		} else {
			t.Float32s()[i] = 1
		}
	}
	return t
}
