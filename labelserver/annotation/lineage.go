package annotation

import (
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"io"
	"time"

	"scrawl/apps/interact"
	"scrawl/apps/segment"
)

// identity says whose weights a lineage holds: those a user has taught one model for one label, over all images. A client
// that names no user or no label cannot be told from the next one, so its lineage is bound to the one image.
type identity struct {
	User, Model, Label string // Model is the network's name: several models may share it
	// Image is the content hash of the only image of the lineage, or "" when it spans images.
	Image string
	// Weights is the hash of the network the lineage started from: a network that was replaced starts anew.
	Weights string
}

func identityOf(user, model, label, image, weights string) identity {
	id := identity{User: user, Model: model, Label: label, Weights: weights}
	if user == "" || label == "" {
		id.Image = image
	}
	return id
}

// folder is the name of the lineage's folder: names from outside never become file names.
func (id identity) folder() string {
	h := sha256.New()
	for _, s := range []string{id.User, id.Model, id.Label, id.Image, id.Weights} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// entry is one step of a lineage's log. The log is only ever added to: undo writes a new entry that repeats an old state.
type entry struct {
	Seq  int
	Time time.Time
	// Image is the state key of the image, its content hash, and Key what it was called.
	Image string
	Key   ImageKey
	// Strokes is the key of the stroke set the entry answered.
	Strokes string
	// Learned is the number of the snapshot of weights that held after the entry; 0 is the network as it came.
	Learned int
	// StateOf is the number of the entry whose state file holds this entry's state: its own, or for undo that of the state gone
	// back to. 0 is the untouched image.
	StateOf int
	// Undo tells that the entry went back to an earlier state.
	Undo bool
	// Took is how many seconds the answer took; 0 where the entry is no answer.
	Took float64 `json:",omitempty"`
	// Forgotten tells that the image was deleted; its earlier entries no longer count.
	Forgotten bool
}

// imageState is what a lineage knows of one image.
type imageState struct {
	interact.State                // of a network that segments what is marked
	Classes        *segment.State // of a network with classes, otherwise nil
}

// answered tells whether there is an answer to repeat.
func (s imageState) answered() bool {
	return s.Answer != nil || s.Classes != nil && s.Classes.Labels != nil
}

// encode writes the state of networks with classes as a second value, which streams of others do not have.
func (s imageState) encode(enc *gob.Encoder) error {
	if err := enc.Encode(s.State); err != nil || s.Classes == nil {
		return err
	}
	return enc.Encode(*s.Classes)
}

func (s *imageState) decode(dec *gob.Decoder) error {
	if err := dec.Decode(&s.State); err != nil {
		return err
	}
	var classes segment.State
	switch err := dec.Decode(&classes); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	s.Classes = &classes
	return nil
}

// lineage is a lineage in memory. Its lock is held by whoever works on it.
type lineage struct {
	id  identity
	dir string
	log []entry
	// learned is what the newest entry's snapshot holds.
	learned interact.Learned
	// states holds the newest state of images that were worked on lately, by state key.
	states map[string]imageState
	// loss is the loss curve of the last lesson since the lineage was read.
	loss []float64
}

func (l *lineage) head() entry {
	if len(l.log) == 0 {
		return entry{}
	}
	return l.log[len(l.log)-1]
}

// last is the newest entry of an image; ok is false when nobody has worked on it.
func (l *lineage) last(image string) (entry, bool) {
	for i := len(l.log) - 1; i >= 0; i-- {
		if e := l.log[i]; e.Image == image {
			return e, !e.Forgotten
		}
	}
	return entry{}, false
}

// earlier finds the newest entry of an image, before its last one, that answered the same strokes. The untouched image counts as the
// entry before all others. newest reports whether every later entry of the lineage is of the same image, so that its weights
// can go back too.
func (l *lineage) earlier(image, strokes, untouched string) (found entry, newest, ok bool) {
	newest = true
	skipped := false
	for i := len(l.log) - 1; i >= 0; i-- {
		e := l.log[i]
		if e.Image != image {
			newest = false
			continue
		}
		if e.Forgotten {
			break
		}
		if skipped && e.Strokes == strokes {
			return e, newest, true
		}
		skipped = true
	}
	if !skipped || strokes != untouched {
		return entry{}, false, false
	}
	// Before its first entry the image was untouched, and the weights were those of the entry before.
	base := 0
	for i := len(l.log) - 1; i >= 0; i-- {
		if l.log[i].Image == image && l.log[i].Forgotten {
			break
		}
		if l.log[i].Image == image {
			base = 0
			if i > 0 {
				base = l.log[i-1].Learned
			}
		}
	}
	return entry{Image: image, Strokes: strokes, Learned: base}, newest, true
}
