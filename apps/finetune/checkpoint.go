package finetune

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"scrawl/apps/atomicfile"
	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// checkpoint is the file form of a training under way: gob of this.
type checkpoint struct {
	Progress progress
	Trainer  []byte
}

// maxCheckpoint bounds what is read back: weights of the largest networks, six times.
const maxCheckpoint = 8 << 30

// key names all that a checkpoint depends on: the network, how it sees images, the cases and the settings. The number of epochs and the
// patience may change.
func (r *run) key() string {
	s := r.Settings
	s.Epochs, s.Patience = 0, 0
	h := sha256.New()
	fmt.Fprintf(h, "%+v|%v|%v|%v|", s, r.labels, r.network.Params(), r.patch)
	if r.segment != nil {
		fmt.Fprintf(h, "%+v %v|", r.segment.Input, r.segment.Classes)
	} else {
		fmt.Fprintf(h, "%+v|", r.model.Input)
	}
	for _, c := range append(r.train[:len(r.train):len(r.train)], r.held...) {
		fmt.Fprintf(h, "%q %q %v|", c.ID, c.Content, c.objects)
	}
	for _, w := range r.network.Source() {
		_ = binary.Write(h, binary.LittleEndian, w.Float32s()) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))
}

// save writes a checkpoint.
func (r *run) save() error {
	if r.Checkpoint == "" {
		return nil
	}
	var trainer bytes.Buffer
	if err := r.trainer.Save(&trainer); err != nil {
		return err
	}
	r.state.Key = r.key()
	return atomicfile.Write(r.Checkpoint, func(w io.Writer) error {
		return gob.NewEncoder(w).Encode(checkpoint{Progress: r.state, Trainer: trainer.Bytes()})
	})
}

// load goes on from a checkpoint if there is one that fits; one of something else is left alone and written over later.
func (r *run) load() (bool, error) {
	if r.Checkpoint == "" {
		return false, nil
	}
	f, err := os.Open(r.Checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // only read
	var c checkpoint
	if err := gob.NewDecoder(io.LimitReader(f, maxCheckpoint)).Decode(&c); err != nil {
		r.note("the checkpoint cannot be read (%v): training begins anew", err)
		return false, nil
	}
	if c.Progress.Key != r.key() {
		r.note("the checkpoint is of other images, labels, settings or weights: training begins anew")
		return false, nil
	}
	if err := r.trainer.Load(bytes.NewReader(c.Trainer)); err != nil {
		r.note("the checkpoint does not fit (%v): training begins anew", err)
		return false, nil
	}
	r.state = c.Progress
	if r.replay != nil {
		r.replay.first = uint64(r.state.Epoch * r.replays())
	}
	return true, nil
}

func floats(w adapt.Weights) [][]float32 {
	all := make([][]float32, len(w))
	for i, t := range w {
		all[i] = t.Float32s()
	}
	return all
}

func weightsOf(n *adapt.Network, values [][]float32) (adapt.Weights, error) {
	if len(values) != len(n.Source()) {
		return nil, fmt.Errorf("%d weights in the checkpoint, the network has %d", len(values), len(n.Source()))
	}
	w := make(adapt.Weights, len(values))
	for i, s := range n.Source() {
		t, err := tensor.New(s.Shape(), values[i])
		if err != nil {
			return nil, fmt.Errorf("the checkpoint's weights do not fit the network: %w", err)
		}
		w[i] = t
	}
	return w, nil
}
