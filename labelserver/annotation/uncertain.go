package annotation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"scrawl/apps/interact"
	"scrawl/apps/segment"
)

// ImageUncertainty says how unsure a model is about an image, from 0 towards 1, by how much its answers to augmented copies differ. It judges
// by the weights that the user has worked with last on the model's network, or by the network as it came. It runs in the
// background of the device: interactions go first.
func (a *Annotator) ImageUncertainty(ctx context.Context, model, user string, im Image) (float64, error) {
	e, err := a.entry(model)
	if err != nil {
		return 0, err
	}
	if e.Cut != nil {
		return 0, fmt.Errorf("model %q has no network that could be unsure: %w", model, Invalid)
	}
	img, err := a.images.get(ctx, e, im)
	if err != nil {
		return 0, err
	}
	learned, err := a.newestLearned(ctx, e, user)
	if err != nil {
		return 0, err
	}
	if e.Segment != nil {
		l := segment.Learned{Sets: learned.Sets, Interactions: learned.Interactions}
		return e.Segment.Uncertainty(ctx, img.Image, l, a.background)
	}
	return e.Model.Uncertainty(ctx, img.Image, e.Profile, learned, a.background)
}

// WeightsVersion names the weights by which ImageUncertainty would judge now: it changes when the user has taught the network something, or
// works for another label, and when the network is replaced.
func (a *Annotator) WeightsVersion(_ context.Context, model, user string) (string, error) {
	e, err := a.entry(model)
	if err != nil {
		return "", err
	}
	id, changed, err := a.newestLineage(e, user)
	if err != nil || changed.IsZero() {
		return e.Weights, err
	}
	l, err := a.journal.read(id, false)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s %d", e.Weights, id.folder(), l.head().Learned), nil
}

// backgroundGate is a Gate that has a queue for work that can always wait.
type backgroundGate interface {
	EnterBackground(ctx context.Context) (leave func(), err error)
}

func (a *Annotator) background(ctx context.Context, work func() error) error {
	enter := a.o.Gate.Enter
	if g, ok := a.o.Gate.(backgroundGate); ok {
		enter = g.EnterBackground
	}
	leave, err := enter(ctx)
	if err != nil {
		return fmt.Errorf("wait for the device: %w", err)
	}
	defer leave()
	return work()
}

// newestLineage is the lineage of a user and a network that was taught last, over all labels, and when; a zero time says
// that there is none. Lineages of single images do not count: what they have learned says nothing about others.
func (a *Annotator) newestLineage(e Entry, user string) (newest identity, changed time.Time, err error) {
	if user == "" {
		return identity{}, time.Time{}, nil
	}
	ids, err := a.journal.identities()
	if err != nil {
		return identity{}, time.Time{}, fmt.Errorf("list what was learned: %w", err)
	}
	for _, id := range ids {
		if id.User != user || id.Model != e.Network || id.Weights != e.Weights || id.Image != "" {
			continue
		}
		info, err := os.Stat(filepath.Join(a.journal.dir, id.folder(), logFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return identity{}, time.Time{}, err
		}
		if info.ModTime().After(changed) {
			newest, changed = id, info.ModTime()
		}
	}
	return newest, changed, nil
}

func (a *Annotator) newestLearned(ctx context.Context, e Entry, user string) (interact.Learned, error) {
	id, changed, err := a.newestLineage(e, user)
	if err != nil || changed.IsZero() {
		return interact.Learned{}, err
	}
	h, release, err := a.hold(ctx, id)
	if err != nil {
		return interact.Learned{}, err
	}
	defer release()
	return h.lineage.learned, nil
}
