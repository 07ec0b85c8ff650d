package interact

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"scrawl/adapters/morph"
	"scrawl/adapters/scribble"
	"scrawl/adapters/transform"
	"scrawl/adapters/volume"
	"scrawl/engine/adapt"
)

// run is one interaction under way.
type run struct {
	*Model
	img     Image
	req     Request
	learned Learned
	state   State
	report  Report
	turn    int  // of the anchors that this interaction answers
	fresh   bool // strokes or masks are not those of the last answer
	sights  sights
}

// Interact answers one interaction: the whole current set of strokes on an image whose state is st, by a user who has
// taught the network learned. It returns the answer with the new state and what is learned now. The arguments stay as
// they were; when an error is returned nothing has changed. The same arguments give the same answer, bit for bit, on
// the same execution provider.
func (m *Model) Interact(ctx context.Context, img Image, req Request, learned Learned, st State) (Result, Learned, State, error) {
	if err := checkSizes(img, req, st); err != nil {
		return Result{}, Learned{}, State{}, err
	}
	if req.Profile == ProfileHindsight && !m.Input.Conditioned() {
		// A network that does not see strokes can only follow them by learning.
		req.Profile = ProfileThesis
	}
	r := &run{Model: m, img: img, req: req, learned: learned, state: st.clone(), report: Report{Seconds: map[string]float64{}}}
	if err := r.steps(ctx); err != nil {
		return Result{}, Learned{}, State{}, err
	}
	return Result{Mask: r.state.Answer, Report: r.report}, r.learned, r.state, nil
}

// checkSizes reports strokes and masks that belong to another image.
func checkSizes(img Image, req Request, st State) error {
	for _, m := range []struct {
		name string
		bits []bool
	}{{"previous segment", req.Previous}, {"protected segments", req.Protected}, {"last answer", st.Answer}} {
		if m.bits != nil && len(m.bits) != len(img.Volume.Voxels) {
			return fmt.Errorf("%s has %d voxels, the image %d", m.name, len(m.bits), len(img.Volume.Voxels))
		}
	}
	if !req.Strokes.Empty() && req.Strokes.Size != img.Volume.Size {
		return fmt.Errorf("strokes were drawn on %v voxels, the image has %v", req.Strokes.Size, img.Volume.Size)
	}
	return nil
}

func (st State) clone() State {
	st.Anchors, st.Carried = cloneMap(st.Anchors), cloneMap(st.Carried)
	return st
}

func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	c := maps.Clone(m)
	if c == nil {
		c = map[K]V{}
	}
	return c
}

func (r *run) steps(ctx context.Context) error {
	for _, s := range []*scribble.Set{&r.state.Strokes, &r.req.Strokes} {
		if s.Empty() {
			s.Size = r.img.Volume.Size
		}
	}
	added, removed := r.req.Strokes.Added(r.state.Strokes), r.req.Strokes.Removed(r.state.Strokes)
	changed := changedSlices(added, removed)
	r.fresh = len(changed) > 0 || r.req.SliceOnly != r.state.SliceOnly || !sameBox(r.req.Box, r.state.Box)
	for _, a := range r.state.Anchors {
		r.turn = max(r.turn, a.Turn)
	}
	r.turn++
	for _, stage := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"edits", func(context.Context) error { r.takeEdits(); return nil }},
		{"learn", func(ctx context.Context) error {
			r.markAccepted(changed, !added.Empty())
			if r.req.LearnLater {
				return nil
			}
			return r.learnAccepted(ctx)
		}},
		{"slices", func(ctx context.Context) error { return r.answerSlices(ctx, changed) }},
		{"carry", r.carry},
		{"compose", func(context.Context) error { r.compose(); return nil }},
	} {
		start := time.Now()
		r.progress(stage.name, 0, 0)
		if err := stage.do(ctx); err != nil {
			return err
		}
		r.report.Seconds[stage.name] = time.Since(start).Seconds()
	}
	r.state.Strokes, r.state.Box, r.state.SliceOnly = r.req.Strokes, r.req.Box, r.req.SliceOnly
	return nil
}

func (r *run) progress(stage string, done, total int) {
	if r.req.Progress != nil {
		r.req.Progress(stage, done, total)
	}
}

func sameBox(a, b *[2][3]int) bool { return a == b || a != nil && b != nil && *a == *b }

// changedSlices are the slices on which strokes came or went, in a fixed order.
func changedSlices(added, removed scribble.Set) []SliceKey {
	seen := map[SliceKey]bool{}
	for _, set := range []scribble.Set{added, removed} {
		for _, p := range set.Planes() {
			seen[p] = true
		}
	}
	return sorted(seen)
}

func sorted[V any](m map[SliceKey]V) []SliceKey {
	return slices.SortedFunc(maps.Keys(m), func(a, b SliceKey) int {
		if a.Axis != b.Axis {
			return a.Axis - b.Axis
		}
		return a.Slice - b.Slice
	})
}

// answerSlices answers the slices whose strokes changed.
func (r *run) answerSlices(ctx context.Context, changed []SliceKey) error {
	for i, key := range changed {
		r.progress("slices", i, len(changed))
		positive, negative := r.req.Strokes.Masks(key)
		if positive.Count()+negative.Count() == 0 {
			// All strokes of the slice were erased: it is untouched again, unless it was drawn by hand.
			if a := r.state.Anchors[key]; a.Edited == nil && a.Corrected == nil {
				delete(r.state.Anchors, key)
			}
			continue
		}
		if err := r.answerSlice(ctx, key, positive, negative); err != nil {
			return err
		}
		r.report.Answered = append(r.report.Answered, key)
	}
	return nil
}

func (r *run) answerSlice(ctx context.Context, key SliceKey, positive, negative morph.Mask) error {
	v, err := r.img.view(key)
	if err != nil {
		return err
	}
	a, known := r.state.Anchors[key]
	if !known {
		a.Stages = []Stage{r.firstStage(key)}
		if !r.state.Recognised { // what was recognised is no answer of the network's
			a.Answer = r.state.Carried[key]
		}
	}
	p := prompt{positive: positive, negative: negative, prior: a.prompted(), box: r.boxMask(key)}
	if f := r.familiar(key); f != nil && (f.fitted != nil || !p.prior.any()) {
		p.familiar = f
	}
	var answer Probability
	if r.req.Profile == ProfileThesis {
		answer, err = r.thesis(ctx, v, p)
	} else {
		answer, err = r.prompted(ctx, v, p, !known)
	}
	if err != nil {
		return err
	}
	shown := r.recognise(v, &a, p, answer)
	a.Stages = append(slices.Clone(a.Stages), Stage{Positive: positive, Negative: negative, Prior: p.prior})
	a.Corrected = a.Corrected.without(positive, negative)
	if err := r.acquaint(v, &a, answer.mask(v.w, v.h).Or(positive).AndNot(negative), false); err != nil {
		return err
	}
	a.Answer, a.Prompted, a.Revised, a.Accepted, a.Learned, a.Edited = a.Corrected.applied(answer), nil, nil, false, false, nil
	a.Turn = r.turn
	if shown != nil {
		a.Answer, a.Prompted = a.Corrected.applied(shown), a.Answer
	}
	r.state.Anchors[key] = a
	delete(r.state.Carried, key)
	return nil
}

// prompted answers a slice's strokes by the network as it came; first tells that they are the first on the slice.
func (r *run) prompted(ctx context.Context, v view, p prompt, first bool) (Probability, error) {
	known := p.prior.any()
	if !known && !p.positive.Empty() {
		p.prior = r.beside(v.key)
	}
	answer, err := r.answer(ctx, r.Engine.Network().Source(), v, p)
	if err != nil || !known || !first || !r.Input.has(ChannelPrevious) {
		return answer, err
	}
	return p.correction(answer), nil
}

// besideReach is how many slices away a mask still says where the object may be.
const besideReach = 3

// beside is the nearest answer of the same plane: where nothing was carried as far as a slice that the user finds the object on, it is
// the best guess of what the object is. Nil when there is none close by.
func (r *run) beside(key SliceKey) Probability {
	for d := 1; d <= besideReach; d++ {
		for _, n := range []int{key.Slice - d, key.Slice + d} {
			if p := r.known(SliceKey{Axis: key.Axis, Slice: n}); p.any() {
				return p
			}
		}
	}
	return nil
}

// firstStage is the slice as it was before any stroke: the prior is the answer of the neighbour it was carried from, which lies
// towards the nearest anchor.
func (r *run) firstStage(key SliceKey) Stage {
	w, h := r.size(key.Axis)
	s := Stage{Positive: morph.New(w, h), Negative: morph.New(w, h)}
	below, above := r.nearestAnchors(key)
	sides := []int{-1, +1}
	if above < below {
		sides = []int{+1, -1}
	}
	for _, step := range sides {
		if step < 0 && below == far || step > 0 && above == far {
			continue
		}
		if p := r.known(SliceKey{Axis: key.Axis, Slice: key.Slice + step}); p != nil {
			s.Prior = p
			break
		}
	}
	return s
}

// far is the distance of an anchor that there is none of.
const far = 1 << 30

// nearestAnchors is the distance in slices to the next anchors of the same plane below and above a slice.
func (r *run) nearestAnchors(key SliceKey) (below, above int) {
	below, above = far, far
	for k := range r.state.Anchors {
		switch d := k.Slice - key.Slice; {
		case k.Axis != key.Axis || d == 0:
		case d < 0:
			below = min(below, -d)
		default:
			above = min(above, d)
		}
	}
	return below, above
}

// known is what is known of a slice: its answer as an anchor, or the one carried to it.
func (r *run) known(key SliceKey) Probability {
	if a, ok := r.state.Anchors[key]; ok {
		return a.shown()
	}
	return r.state.Carried[key]
}

// thesis is one interaction of the published method on a slice.
func (r *run) thesis(ctx context.Context, v view, p prompt) (Probability, error) {
	sets := r.learned.Sets
	if sets == nil {
		s := r.Engine.NewSets(1)
		sets = &s
	}
	win, err := r.thesisWindow(v, p)
	if err != nil {
		return nil, err
	}
	object, other := r.lossMasks(v, win)
	marked := object.Or(other)
	// A pixel across the slice's edge counts where it was drawn on.
	s := adapt.Slice{X: r.inputs(v, win, p), Valid: plane(win.Inside(v.w, v.h).Or(marked)),
		Marked: plane(marked), Scribble: oneHot(object, r.Engine.Network().Classes)}
	out, next, report, err := r.Engine.Interact(ctx, r.Thesis, *sets, s, r.learned.Interactions)
	if errors.Is(err, adapt.ErrDiverged) {
		// The user still gets an answer: that of the weights as they were.
		r.report.Diverged++
		if out, err = r.Engine.Predict(ctx, sets.Averages[0], s.X); err != nil {
			return nil, err
		}
		return quantized(win.Backward(foreground(out), v.w, v.h)), nil
	}
	if err != nil {
		return nil, err
	}
	r.learned.Sets = &next
	r.learned.Interactions++
	r.report.Thesis = append(r.report.Thesis, report)
	return quantized(win.Backward(foreground(out), v.w, v.h)), nil
}

// lossMasks are the widened strokes of a slice on a window's grid: where they say object, and where they say something else. However
// coarse the grid, no stroke vanishes; pixels of it that both kinds reach say nothing.
func (r *run) lossMasks(v view, win transform.Window) (object, other morph.Mask) {
	marked, label := r.req.Strokes.LossMaps(v.key, r.Thickness)
	positive := morph.Threshold(label, v.w, v.h, 0.5)
	negative := morph.Threshold(marked, v.w, v.h, 0.5).AndNot(positive)
	object, other = win.ForwardStroke(positive), win.ForwardStroke(negative)
	return object.AndNot(other), other.AndNot(object)
}

// thesisWindow looks at the whole slice with a network that sees only the image: it knows the object from its surroundings.
func (r *run) thesisWindow(v view, p prompt) (transform.Window, error) {
	if !r.Input.Conditioned() {
		return r.window(v, morph.Rect{}, false)
	}
	box, known := p.bounds(v.w, v.h)
	return r.window(v, box, known && p.prior.any())
}

// size is the number of columns and rows of the slices along an axis.
func (r *run) size(axis int) (w, h int) { return r.img.Volume.SliceSize(volume.Plane(axis)) }

// carryAxis is the axis along which the object is carried: that of most anchors and strokes, the acquisition's in doubt.
func (r *run) carryAxis() int {
	best := int(r.img.Volume.AcquisitionPlane())
	var count [3]int
	for _, p := range r.req.Strokes.Planes() {
		count[p.Axis]++
	}
	for axis, n := range count {
		if n > count[best] {
			best = axis
		}
	}
	return best
}
