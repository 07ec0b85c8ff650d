package annotation

import (
	"encoding/gob"
	"fmt"

	"scrawl/apps/interact"
	"scrawl/apps/recognise"
	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// A snapshot is what was learned, as a gob stream: its head, then tensor after tensor. Encoded as one value it would be in
// memory two more times.
type snapshotHead struct {
	Interactions uint64
	Thesis       []int  // number of weights of the student and of each average; nil when nothing was learned by the thesis's method
	Seen         []bool // by image that the thesis's method remembers: whether it has a mask of valid pixels
	Trust        adapt.Trust
	Memory       *memoryHead
	Known        *recognise.Knowledge // of the target's look, small enough to stand here
}

// memoryHead is hindsight's memory without its tensors.
type memoryHead struct {
	Sets    []int  // as above
	Stages  []int  // of each episode
	Padded  []bool // by stage: whether it has a mask of valid pixels
	Scores  []float64
	Lessons uint64
}

// maxTensors bounds what a head is believed.
const maxTensors = 1 << 20

func setsHead(s adapt.Sets) []int {
	n := []int{len(s.Student)}
	for _, w := range s.Averages {
		n = append(n, len(w))
	}
	return n
}

func headOf(l interact.Learned) snapshotHead {
	h := snapshotHead{Interactions: l.Interactions, Known: l.Known}
	if l.Sets != nil {
		h.Thesis, h.Trust = setsHead(*l.Sets), l.Sets.Trust
		for _, s := range l.Sets.Seen {
			h.Seen = append(h.Seen, s.Valid != nil)
		}
	}
	if m := l.Memory; m != nil {
		h.Memory = &memoryHead{Sets: setsHead(m.Sets), Scores: m.Scores, Lessons: m.Lessons}
		for _, ep := range m.Episodes {
			h.Memory.Stages = append(h.Memory.Stages, len(ep))
			for _, s := range ep {
				h.Memory.Padded = append(h.Memory.Padded, s.Valid != nil)
			}
		}
	}
	return h
}

// emptied is a value of the head's form whose tensors are yet to be read.
func (h snapshotHead) emptied() (interact.Learned, error) {
	l := interact.Learned{Interactions: h.Interactions, Known: h.Known}
	if h.Thesis != nil {
		s, err := emptySets(h.Thesis)
		if err != nil {
			return l, err
		}
		for _, padded := range h.Seen {
			s.Seen = append(s.Seen, emptyStage(padded))
		}
		s.Trust = h.Trust
		l.Sets = &s
	}
	if h.Memory == nil {
		return l, nil
	}
	sets, err := emptySets(h.Memory.Sets)
	if err != nil {
		return l, err
	}
	m := adapt.Memory{Sets: sets, Scores: h.Memory.Scores, Lessons: h.Memory.Lessons}
	at := 0
	for _, n := range h.Memory.Stages {
		if n < 0 || at+n > len(h.Memory.Padded) {
			return l, fmt.Errorf("snapshot with %d stages in one episode", n)
		}
		ep := make(adapt.Episode, n)
		for i := range ep {
			ep[i] = emptyStage(h.Memory.Padded[at+i])
		}
		at += n
		m.Episodes = append(m.Episodes, ep)
	}
	l.Memory = &m
	return l, nil
}

func emptyStage(padded bool) adapt.Stage {
	s := adapt.Stage{X: &tensor.Tensor{}, Target: &tensor.Tensor{}, Stroked: &tensor.Tensor{}}
	if padded {
		s.Valid = &tensor.Tensor{}
	}
	return s
}

func emptySets(counts []int) (adapt.Sets, error) {
	var s adapt.Sets
	for i, n := range counts {
		if n < 0 || n > maxTensors {
			return s, fmt.Errorf("snapshot with %d weights in one set", n)
		}
		w := make(adapt.Weights, n)
		for k := range w {
			w[k] = &tensor.Tensor{}
		}
		if i == 0 {
			s.Student = w
		} else {
			s.Averages = append(s.Averages, w)
		}
	}
	return s, nil
}

// tensorsOf lists all tensors of what was learned, in the order of the stream.
func tensorsOf(l interact.Learned) []*tensor.Tensor {
	var all []*tensor.Tensor
	add := func(s adapt.Sets) {
		all = append(all, s.Student...)
		for _, w := range s.Averages {
			all = append(all, w...)
		}
	}
	stages := func(list []adapt.Stage) {
		for _, s := range list {
			all = append(all, s.X, s.Target, s.Stroked)
			if s.Valid != nil {
				all = append(all, s.Valid)
			}
		}
	}
	if l.Sets != nil {
		add(*l.Sets)
		stages(l.Sets.Seen)
	}
	if l.Memory != nil {
		add(l.Memory.Sets)
		for _, ep := range l.Memory.Episodes {
			stages(ep)
		}
	}
	return all
}

func encodeLearned(enc *gob.Encoder, l interact.Learned) error {
	if err := enc.Encode(headOf(l)); err != nil {
		return err
	}
	for _, t := range tensorsOf(l) {
		if err := enc.Encode(t); err != nil {
			return err
		}
	}
	return nil
}

func decodeLearned(dec *gob.Decoder) (interact.Learned, error) {
	var h snapshotHead
	if err := dec.Decode(&h); err != nil {
		return interact.Learned{}, err
	}
	l, err := h.emptied()
	if err != nil {
		return l, err
	}
	for _, t := range tensorsOf(l) {
		if err := dec.Decode(t); err != nil {
			return l, err
		}
	}
	return l, nil
}
