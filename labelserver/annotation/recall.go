package annotation

import (
	"context"
	"fmt"

	"scrawl/adapters/volume"
	"scrawl/apps/interact"
)

// Work names what one user did on one image with a model, for one segment.
type Work struct {
	Model string
	Image Image
	// ClientID and LabelName are those of the requests that did it.
	ClientID, LabelName string
}

// The values of the label map that Recall.Strokes returns.
const (
	RecalledSegment    = 1
	RecalledBackground = 2 // under a stroke beside the segment
	RecalledForeground = 3 // under a stroke on the segment
)

// Learning is what the network has learned from a user, for one segment.
type Learning struct {
	// Interactions and Lessons are counted over all images of the lineage.
	Interactions, Lessons uint64
	// OnImage are the interactions with the image of the work alone; 0 for networks with classes, whose strokes are not recalled.
	OnImage uint64
	// Distance is how far the weights have moved; see [interact.Distance].
	Distance float64
	// Loss is the course of the last lesson, step by step, since the server started.
	Loss []float64
	// Busy tells that something is being learned at this moment; the other fields are then empty.
	Busy bool
}

// Recall shows what is remembered. All methods are safe for concurrent use; none changes anything.
type Recall interface {
	// Labels lists the segments for which the user's strokes on the image are remembered. LabelName of the work is not looked at.
	Labels(ctx context.Context, w Work) ([]string, error)
	// Strokes are the last strokes and their answer, in the values Recalled…; nil when there are none.
	Strokes(ctx context.Context, w Work) (*volume.LabelMap, error)
	// Uncertainty is that of the last answer, 0 to 255; nil when there is none.
	Uncertainty(ctx context.Context, w Work) (*volume.LabelMap, error)
	// Learned tells what was learned. It does not wait for a lesson under way.
	Learned(ctx context.Context, w Work) (Learning, error)
}

// found is a piece of work with its image and its lineage's name.
type found struct {
	entry Entry
	img   *image
	id    identity
}

func (a *Annotator) find(ctx context.Context, w Work) (found, error) {
	e, err := a.entry(w.Model)
	if err != nil {
		return found{}, err
	}
	img, err := a.images.get(ctx, e, w.Image)
	if err != nil {
		return found{}, err
	}
	return found{e, img, identityOf(w.ClientID, e.Network, e.lineageLabel(w.LabelName), img.hash, e.Weights)}, nil
}

// Labels implements Recall.
func (a *Annotator) Labels(ctx context.Context, w Work) ([]string, error) {
	f, err := a.find(ctx, w)
	if err != nil {
		return nil, err
	}
	ids, err := a.journal.identities()
	if err != nil {
		return nil, fmt.Errorf("list what was learned: %w", err)
	}
	labels := []string{}
	if f.entry.Segment != nil {
		return labels, nil // one lineage is of all its labels
	}
	for _, id := range ids {
		if id.User != w.ClientID || id.Model != f.entry.Network || id.Weights != f.entry.Weights || id.Label == "" {
			continue
		}
		h, release, err := a.hold(ctx, id)
		if err != nil {
			return nil, err
		}
		last, known := h.lineage.last(stateKey(f.entry, f.img.hash))
		release()
		if known && last.StateOf > 0 {
			labels = append(labels, id.Label)
		}
	}
	return labels, nil
}

// recalled is the state of a piece of work; its Answer is nil when there is none.
func (a *Annotator) recalled(ctx context.Context, w Work) (found, interact.State, error) {
	f, err := a.find(ctx, w)
	if err != nil {
		return f, interact.State{}, err
	}
	h, release, err := a.hold(ctx, f.id)
	if err != nil {
		return f, interact.State{}, err
	}
	defer release()
	state, err := a.stateOf(h.lineage, stateKey(f.entry, f.img.hash))
	return f, state.State, err
}

// Strokes implements Recall.
func (a *Annotator) Strokes(ctx context.Context, w Work) (*volume.LabelMap, error) {
	f, state, err := a.recalled(ctx, w)
	if err != nil || state.Answer == nil {
		return nil, err
	}
	m := volume.NewLabelMap(f.img.Volume.Geometry)
	for at, inside := range state.Answer {
		if inside {
			m.Labels[at] = RecalledSegment
		}
	}
	state.Strokes.Voxels(func(at int, positive bool) {
		m.Labels[at] = RecalledBackground
		if positive {
			m.Labels[at] = RecalledForeground
		}
	})
	return m, nil
}

// Uncertainty implements Recall.
func (a *Annotator) Uncertainty(ctx context.Context, w Work) (*volume.LabelMap, error) {
	f, state, err := a.recalled(ctx, w)
	if err != nil || state.Answer == nil {
		return nil, err
	}
	return state.Uncertainty(f.img.Volume.Geometry), nil
}

// Learned implements Recall.
func (a *Annotator) Learned(ctx context.Context, w Work) (Learning, error) {
	f, err := a.find(ctx, w)
	if err != nil || f.entry.Cut != nil {
		return Learning{}, err
	}
	a.mu.Lock()
	h := a.lineages[f.id]
	busy := h != nil && len(h.lock) > 0
	a.mu.Unlock()
	if busy {
		return Learning{Busy: true}, nil
	}
	h, release, err := a.hold(ctx, f.id)
	if err != nil {
		return Learning{}, err
	}
	defer release()
	l := h.lineage
	learning := Learning{Interactions: l.interactions(), OnImage: l.interactionsOn(stateKey(f.entry, f.img.hash)), Distance: interact.Distance(f.entry.Engine().Network().Source(), l.learned), Loss: l.loss}
	if m := l.learned.Memory; m != nil {
		learning.Lessons = m.Lessons
	}
	learning.Lessons += l.learned.Interactions
	return learning, nil
}

// interactions counts the log's entries that answered strokes.
func (l *lineage) interactions() uint64 {
	n := uint64(0)
	for _, e := range l.log {
		if !e.Forgotten && !e.Undo {
			n++
		}
	}
	return n
}

// interactionsOn counts those with one image, since it was last forgotten. An answer for one slice and then, to the same strokes, for the
// volume are one interaction.
func (l *lineage) interactionsOn(image string) uint64 {
	n, strokes := uint64(0), ""
	for _, e := range l.log {
		if e.Image != image {
			continue
		}
		switch {
		case e.Forgotten:
			n = 0
		case !e.Undo && e.Strokes != strokes:
			n++
		}
		strokes = e.Strokes
	}
	return n
}

// noteLoss keeps the loss curve of what was just learned, to be shown.
func (l *lineage) noteLoss(r interact.Report) {
	if curve := r.LossCurve(); curve != nil {
		l.loss = curve
	}
}
