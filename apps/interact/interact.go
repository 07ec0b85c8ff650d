package interact

import (
	"context"
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
}

// Interact answers one interaction: the whole current set of strokes on an image whose state is st, by a user who has
// taught the network learned. It returns the answer with the new state and what is learned now. The arguments stay as
// they were; when an error is returned nothing has changed. The same arguments give the same answer, bit for bit, on
// the same execution provider.
func (m *Model) Interact(ctx context.Context, img Image, req Request, learned Learned, st State) (Result, Learned, State, error) {
	voxels := len(img.Volume.Voxels)
	for name, bits := range map[string][]bool{"previous segment": req.Previous, "protected segments": req.Protected, "last answer": st.Answer} {
		if bits != nil && len(bits) != voxels {
			return Result{}, Learned{}, State{}, fmt.Errorf("%s has %d voxels, the image %d", name, len(bits), voxels)
		}
	}
	r := &run{Model: m, img: img, req: req, learned: learned, state: st.clone(), report: Report{Seconds: map[string]float64{}}}
	if err := r.steps(ctx); err != nil {
		return Result{}, Learned{}, State{}, err
	}
	return Result{Mask: r.state.Answer, Report: r.report}, r.learned, r.state, nil
}

func (st State) clone() State {
	return State{Strokes: st.Strokes, Anchors: cloneMap(st.Anchors), Carried: cloneMap(st.Carried), Answer: st.Answer}
}

func cloneMap[K comparable, V any](m map[K]V) map[K]V {
	c := maps.Clone(m)
	if c == nil {
		c = map[K]V{}
	}
	return c
}

func (r *run) steps(ctx context.Context) error {
	if r.state.Strokes.Empty() {
		r.state.Strokes.Size = r.img.Volume.Size
	}
	added, removed := r.req.Strokes.Added(r.state.Strokes), r.req.Strokes.Removed(r.state.Strokes)
	changed := changedSlices(added, removed)
	for _, stage := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"edits", func(context.Context) error { return r.takeEdits() }},
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
		if err := stage.do(ctx); err != nil {
			return err
		}
		r.report.Seconds[stage.name] = time.Since(start).Seconds()
	}
	r.state.Strokes = r.req.Strokes
	return nil
}

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

// takeEdits finds where the user has changed our last answer by hand: those slices become anchors whose mask stands.
func (r *run) takeEdits() error {
	if r.req.Previous == nil {
		return nil
	}
	axis := r.carryAxis()
	for n := range r.img.Volume.Size[axis] {
		now := r.bits(r.req.Previous, axis, n)
		was := morph.New(now.W, now.H)
		if r.state.Answer != nil {
			was = r.bits(r.state.Answer, axis, n)
		}
		if slices.Equal(now.Bits, was.Bits) {
			continue
		}
		key := SliceKey{Axis: axis, Slice: n}
		a := r.state.Anchors[key]
		a.Edited, a.Answer, a.Accepted, a.Learned = &now, maskProbability(now), true, false
		if a.Stages == nil {
			a.Stages = []Stage{r.firstStage(key)}
		}
		r.state.Anchors[key] = a
		delete(r.state.Carried, key)
	}
	return nil
}

// answerSlices answers the slices whose strokes changed.
func (r *run) answerSlices(ctx context.Context, changed []SliceKey) error {
	for _, key := range changed {
		positive, negative := r.req.Strokes.Masks(key)
		if positive.Count()+negative.Count() == 0 {
			// All strokes of the slice were erased: it is untouched again, unless it was drawn by hand.
			if a := r.state.Anchors[key]; a.Edited == nil {
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
		a.Answer = r.state.Carried[key]
	}
	p := prompt{positive: positive, negative: negative, prior: a.Answer}
	var answer Probability
	if r.req.Profile == ProfileThesis {
		answer, err = r.thesis(ctx, v, p)
	} else {
		answer, err = r.answer(ctx, r.Engine.Network().Source(), v, p)
	}
	if err != nil {
		return err
	}
	a.Stages = append(slices.Clone(a.Stages), Stage{Positive: positive, Negative: negative, Prior: a.Answer})
	a.Answer, a.Accepted, a.Learned, a.Edited = answer, false, false, nil
	r.state.Anchors[key] = a
	delete(r.state.Carried, key)
	return nil
}

// firstStage is the slice as it was before any stroke: the prior is the answer of the neighbour it was carried from.
func (r *run) firstStage(key SliceKey) Stage {
	w, h := r.size(key.Axis)
	s := Stage{Positive: morph.New(w, h), Negative: morph.New(w, h)}
	for _, n := range []int{key.Slice - 1, key.Slice + 1} {
		if p := r.known(SliceKey{Axis: key.Axis, Slice: n}); p != nil {
			s.Prior = p
			break
		}
	}
	return s
}

// known is what is known of a slice: its answer as an anchor, or the one carried to it.
func (r *run) known(key SliceKey) Probability {
	if a, ok := r.state.Anchors[key]; ok {
		return a.Answer
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
	marked, label := r.req.Strokes.LossMaps(v.key, r.Thickness)
	s := adapt.Slice{
		X: r.inputs(v, win, p), Valid: plane(win.Inside(v.w, v.h)),
		Marked: plane(win.ForwardMask(threshold(marked, v.w, v.h))),
	}
	s.Scribble = oneHot(win.ForwardMask(threshold(label, v.w, v.h)), r.Engine.Network().Classes)
	out, next, report, err := r.Engine.Interact(ctx, r.Thesis, *sets, s, r.learned.Interactions)
	if err != nil {
		return nil, err
	}
	r.learned.Sets = &next
	r.learned.Interactions++
	r.report.Thesis = append(r.report.Thesis, report)
	return quantized(win.Backward(foreground(out), v.w, v.h)), nil
}

// thesisWindow looks at the whole slice with a network that sees only the image: it knows the object from its surroundings.
func (r *run) thesisWindow(v view, p prompt) (transform.Window, error) {
	if !r.Input.Conditioned() {
		return r.window(v, morph.Rect{}, false)
	}
	box, known := p.box(v.w, v.h)
	return r.window(v, box, known && p.prior != nil)
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
