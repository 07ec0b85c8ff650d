package annotation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

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
	// OnImage are the interactions with the image of the work alone, for its segment.
	OnImage uint64
	// UserSeconds and MachineSeconds are those spent on the image for its segment: between the answers and the strokes after them, and
	// on the answers. Pauses of more than five minutes are no work.
	UserSeconds, MachineSeconds float64
	// Distance is how far the weights have moved; see [interact.Distance].
	Distance float64
	// Loss is the course of the last lesson, step by step, since the server started.
	Loss []float64
	// Busy tells that something is being learned at this moment; Lessons, Distance and Loss are then empty.
	Busy bool
}

// Recall shows what is remembered. All methods are safe for concurrent use; none changes anything, and none waits for a lesson under way.
type Recall interface {
	// Labels lists the segments for which the user's strokes on the image are remembered. LabelName of the work is not looked at.
	Labels(ctx context.Context, w Work) ([]string, error)
	// Strokes are the last strokes and their answer, in the values Recalled…; nil when there are none.
	Strokes(ctx context.Context, w Work) (*volume.LabelMap, error)
	// Uncertainty is that of the last answer, 0 to 255; nil when there is none.
	Uncertainty(ctx context.Context, w Work) (*volume.LabelMap, error)
	// Learned tells what was learned.
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

// key names what is known of the image for a label.
func (f found) key(label string) string {
	if f.entry.Segment != nil && f.entry.Type != deepEdit {
		return classKey(f.entry, f.img.hash, label)
	}
	return stateKey(f.entry, f.img.hash)
}

// Labels implements Recall.
func (a *Annotator) Labels(ctx context.Context, w Work) ([]string, error) {
	f, err := a.find(ctx, w)
	if err != nil {
		return nil, err
	}
	labels := []string{}
	if f.entry.Segment != nil {
		l, err := a.journal.read(f.id, false)
		if err != nil {
			return nil, err
		}
		for _, label := range f.entry.Labels {
			if l.remembers(f.key(label)) {
				labels = append(labels, label)
			}
		}
		return labels, nil
	}
	ids, err := a.journal.identities()
	if err != nil {
		return nil, fmt.Errorf("list what was learned: %w", err)
	}
	for _, id := range ids {
		if id.User != w.ClientID || id.Model != f.entry.Network || id.Weights != f.entry.Weights || id.Label == "" {
			continue
		}
		l, err := a.journal.read(id, false)
		if err != nil {
			return nil, err
		}
		if l.remembers(f.key(id.Label)) {
			labels = append(labels, id.Label)
		}
	}
	return labels, nil
}

// remembers tells whether there are strokes on an image.
func (l *lineage) remembers(image string) bool {
	last, known := l.last(image)
	return known && last.StateOf > 0
}

// recalled is the state of a piece of work; it has no answer when there is none. It is read from disk, where states once written stay as
// they are, since whoever learns holds the lineage's lock.
func (a *Annotator) recalled(ctx context.Context, w Work) (found, imageState, error) {
	f, err := a.find(ctx, w)
	if err != nil {
		return f, imageState{}, err
	}
	l, err := a.journal.read(f.id, false)
	if err != nil {
		return f, imageState{}, err
	}
	last, known := l.last(f.key(w.LabelName))
	if !known {
		return f, imageState{}, nil
	}
	state, err := a.journal.state(l, last)
	if errors.Is(err, fs.ErrNotExist) {
		return f, imageState{}, nil // forgotten meanwhile
	}
	return f, state, err
}

// Strokes implements Recall.
func (a *Annotator) Strokes(ctx context.Context, w Work) (*volume.LabelMap, error) {
	f, state, err := a.recalled(ctx, w)
	if err != nil || !state.answered() {
		return nil, err
	}
	m := volume.NewLabelMap(f.img.Volume.Geometry)
	mark := func(at int, positive bool) {
		m.Labels[at] = RecalledBackground
		if positive {
			m.Labels[at] = RecalledForeground
		}
	}
	if state.Classes != nil {
		number := uint8(slices.Index(f.entry.Labels, w.LabelName) + 1)
		for at, l := range state.Classes.Labels {
			if l == number && l != 0 {
				m.Labels[at] = RecalledSegment
			}
		}
		for _, drawn := range state.Classes.Marks {
			drawn.Strokes.Voxels(mark)
		}
		return m, nil
	}
	for at, inside := range state.Answer {
		if inside {
			m.Labels[at] = RecalledSegment
		}
	}
	state.Strokes.Voxels(mark)
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
	log, err := a.journal.read(f.id, false)
	if err != nil {
		return Learning{}, err
	}
	key := f.key(w.LabelName)
	learning := Learning{Interactions: log.interactions(), OnImage: log.interactionsOn(key)}
	learning.UserSeconds, learning.MachineSeconds = log.secondsOn(key)
	a.mu.Lock()
	h := a.lineages[f.id]
	learning.Busy = h != nil && len(h.lock) > 0
	a.mu.Unlock()
	if learning.Busy {
		return learning, nil
	}
	h, release, err := a.hold(ctx, f.id)
	if err != nil {
		return Learning{}, err
	}
	defer release()
	l := h.lineage
	learning.Distance, learning.Loss = interact.Distance(f.entry.Engine().Network().Source(), l.learned), l.loss
	if m := l.learned.Memory; m != nil {
		learning.Lessons = m.Lessons
	}
	learning.Lessons += l.learned.Interactions
	return learning, nil
}

// longPause is the longest time between an answer and the next stroke that counts as work.
const longPause = 5 * time.Minute

// secondsOn are the seconds that the user and the server have spent on one image, since it was last forgotten.
func (l *lineage) secondsOn(image string) (user, machine float64) {
	var answered time.Time
	for _, e := range l.log {
		switch {
		case e.Image != image || e.Took == 0 && !e.Forgotten:
			continue
		case e.Forgotten:
			user, machine, answered = 0, 0, time.Time{}
			continue
		}
		machine += e.Took
		asked := e.Time.Add(-time.Duration(e.Took * float64(time.Second)))
		if pause := asked.Sub(answered); !answered.IsZero() && pause > 0 && pause < longPause {
			user += pause.Seconds()
		}
		answered = e.Time
	}
	return user, machine
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
