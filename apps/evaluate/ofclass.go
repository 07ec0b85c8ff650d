package evaluate

import (
	"context"
	"fmt"

	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/apps/segment"
)

// ofClass is a network with classes as a [Segmenter] of one of them. Everything but the profile frozen learns by the published
// method. It answers before any stroke, too: see [unasked].
type ofClass struct {
	model *segment.Model
	class int
	// state is that of the image under way: an [interact.State] holds no more than a mask of it.
	state *segment.State
}

// of is the method as it segments a target: for a network with classes, the class of that name.
func (m Method) of(target string) (Method, error) {
	if m.Classes == nil {
		return m, nil
	}
	class, ok := m.Classes.ClassOf(target)
	if !ok {
		return m, fmt.Errorf("method %q: the network has no class of the name %q", m.Name, target)
	}
	m.Model = ofClass{m.Classes, class, new(segment.State)}
	return m, nil
}

// unasked is a [Segmenter] that answers an image before any stroke.
type unasked interface {
	Unasked(ctx context.Context, img interact.Image, learned interact.Learned) (mask []bool, err error)
}

func (s ofClass) Prepare(v *volume.Volume) interact.Image { return s.model.Prepare(v) }

// Unasked is the answer of the weights as they are.
func (s ofClass) Unasked(ctx context.Context, img interact.Image, learned interact.Learned) ([]bool, error) {
	labels, err := s.model.Untouched(ctx, img, taught(learned), segment.Alone)
	return s.mask(labels), err
}

func (s ofClass) Interact(ctx context.Context, img interact.Image, req interact.Request, learned interact.Learned, st interact.State) (interact.Result, interact.Learned, interact.State, error) {
	request := segment.Request{Marks: []segment.Mark{{Class: s.class, Strokes: req.Strokes}}, Frozen: req.Profile == interact.ProfileFrozen,
		PartOnly: req.SliceOnly && s.state.Labels != nil}
	next, after, report, err := s.model.Interact(ctx, img, request, taught(learned), *s.state, segment.Alone)
	if err != nil {
		return interact.Result{}, interact.Learned{}, interact.State{}, err
	}
	*s.state = after
	learned.Sets, learned.Interactions = next.Sets, next.Interactions
	st.Strokes, st.Answer = req.Strokes, s.mask(after.Labels)
	r := interact.Report{Thesis: report.Thesis, Diverged: report.Diverged, Seconds: map[string]float64{}}
	for _, t := range report.Thesis {
		for stage, seconds := range t.Seconds {
			r.Seconds[stage] += seconds
		}
	}
	return interact.Result{Mask: st.Answer, Report: r}, learned, st, nil
}

// Finish changes nothing: all there was to learn was learned from each stroke.
func (s ofClass) Finish(_ context.Context, _ interact.Image, _ interact.Options, learned interact.Learned, st interact.State) (interact.Learned, interact.State, interact.Report, error) {
	return learned, st, interact.Report{}, nil
}

func taught(l interact.Learned) segment.Learned {
	return segment.Learned{Sets: l.Sets, Interactions: l.Interactions}
}

// number is the class's number in answers.
func (s ofClass) number() uint8 {
	for i, c := range s.model.Classes {
		if c.Index == s.class {
			return uint8(i + 1)
		}
	}
	return 0
}

// mask is where the answer is the class.
func (s ofClass) mask(labels []uint8) []bool {
	mask, number := make([]bool, len(labels)), s.number()
	for i, l := range labels {
		mask[i] = l == number
	}
	return mask
}
