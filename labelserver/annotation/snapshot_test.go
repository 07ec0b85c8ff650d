package annotation

import (
	"bytes"
	"encoding/gob"
	"reflect"
	"testing"

	"scrawl/apps/interact"
	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// What was learned comes back from a snapshot as it was, remembered images among it.
func TestSnapshotRoundTrip(t *testing.T) {
	number := float32(0)
	some := func(shape ...int) *tensor.Tensor {
		x := tensor.Zeros[float32](shape...)
		for i := range x.Float32s() {
			number++
			x.Float32s()[i] = number
		}
		return x
	}
	stage := func(padded bool) adapt.Stage {
		s := adapt.Stage{X: some(1, 1, 2, 3), Target: some(1, 1, 2, 3), Stroked: some(1, 1, 2, 3)}
		if padded {
			s.Valid = some(1, 1, 2, 3)
		}
		return s
	}
	sets := func(seen ...adapt.Stage) adapt.Sets {
		return adapt.Sets{Student: adapt.Weights{some(2), some(3)}, Averages: []adapt.Weights{{some(2), some(3)}}, Seen: seen}
	}
	remembering, plain := sets(stage(true), stage(false)), sets()
	for name, want := range map[string]interact.Learned{
		"nothing":     {},
		"weights":     {Interactions: 3, Sets: &plain},
		"with images": {Interactions: 4, Sets: &remembering},
		"hindsight": {Memory: &adapt.Memory{Sets: sets(), Episodes: []adapt.Episode{{stage(false), stage(true)}, {stage(true)}},
			Scores: []float64{0, 0.5, 1}, Lessons: 2}},
	} {
		var b bytes.Buffer
		if err := encodeLearned(gob.NewEncoder(&b), want); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := decodeLearned(gob.NewDecoder(&b))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}
