package annotation

import (
	"fmt"
	"slices"
	"time"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
)

// Taught is what one user has taught one network for one label: a lineage, as it is told to others.
type Taught struct {
	User, Network, Label string
	// Image is the content's hash of the one image it belongs to, or "" when it spans images.
	Image string
	// Weights is the hash of the network's file that it began with.
	Weights string
	// Learned counts the steps that changed the weights and were not undone.
	Learned int
	// Time is that of the newest entry.
	Time time.Time

	dir string
	id  identity
}

// ListTaught reads what is below a folder of lineages, the newest first, also while a server works on it. It changes nothing.
func ListTaught(dir string) ([]Taught, error) {
	j := journal{dir: dir}
	ids, err := j.identities()
	if err != nil {
		return nil, fmt.Errorf("list what was learned: %w", err)
	}
	var all []Taught
	for _, id := range ids {
		l, err := j.read(id, false)
		if err != nil {
			return nil, err
		}
		t := Taught{User: id.User, Network: id.Model, Label: id.Label, Image: id.Image, Weights: id.Weights, Time: l.head().Time, dir: dir, id: id}
		snapshots := map[int]bool{}
		for _, e := range l.log {
			if e.Learned <= l.head().Learned && e.Learned > 0 {
				snapshots[e.Learned] = true
			}
		}
		if t.Learned = len(snapshots); t.Learned > 0 {
			all = append(all, t)
		}
	}
	slices.SortStableFunc(all, func(a, b Taught) int { return b.Time.Compare(a.Time) })
	return all, nil
}

// File is the network that an entry serves, with what the lineage has learned: with the weights that answer untouched
// slices. set says which of the lineage's sets of weights these are. It is an error when none has done better than the network itself.
func (t Taught) File(e Entry) (file *onnx.Model, set string, err error) {
	j := journal{dir: t.dir}
	l, err := j.read(t.id, false)
	if err != nil {
		return nil, "", err
	}
	learned, err := j.learned(l, l.head().Learned)
	if err != nil {
		return nil, "", fmt.Errorf("weights taught by %q: %w", t.User, err)
	}
	engine := e.Engine()
	w := adapt.Weights(nil)
	switch {
	case learned.Memory != nil && e.Model != nil:
		best, weights := engine.Best(e.Model.Hindsight, *learned.Memory)
		if best == 0 {
			return nil, "", fmt.Errorf("what %q has taught for %q has not done better than the network itself so far: %w", t.User, t.Label, Invalid)
		}
		w, set = weights, "student"
		if best <= len(learned.Memory.Sets.Averages) {
			set = fmt.Sprintf("average %d", best)
		}
	case learned.Sets != nil:
		w, set = learned.Sets.Averages[0], "teacher"
	default:
		return nil, "", fmt.Errorf("%q has taught nothing for %q: %w", t.User, t.Label, Invalid)
	}
	file, err = engine.Network().Model(w)
	return file, set, err
}

// Engine runs the entry's network; nil for an entry without one.
func (e Entry) Engine() *adapt.Engine {
	switch {
	case e.Segment != nil:
		return e.Segment.Engine
	case e.Model != nil:
		return e.Model.Engine
	}
	return nil
}
