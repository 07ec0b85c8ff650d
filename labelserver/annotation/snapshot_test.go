package annotation

import (
	"bytes"
	"encoding/gob"
	"reflect"
	"testing"

	"scrawl/apps/interact"
	"scrawl/apps/recognise"
	"scrawl/engine/adapt"
)

// TestSnapshotKeepsWhatIsKnown: a target's look and the record of who answers best come back from disk as they were, and nothing when nothing is
// known.
func TestSnapshotKeepsWhatIsKnown(t *testing.T) {
	c := recognise.Default()
	beliefs := make([]recognise.Belief, 400)
	pixels := make([]float32, 400)
	for i := range beliefs {
		beliefs[i], pixels[i] = recognise.Belief(i%3), float32(i%7)
	}
	known := recognise.Knowledge{}.With(c, recognise.NewLesson(c, recognise.NewPicture(pixels, 20, 20, 1), beliefs, 1))
	known.Evidence = known.Evidence.Then(c, recognise.Evidence{}, recognise.Word{Strokes: 2, Confirmed: 2})
	trusted := adapt.Sets{Student: adapt.Weights{}, Trust: adapt.Trust{Image: "a", Trial: [adapt.Experts]float64{0.1, 0.9, 0.2}, Tried: true}.On("b", true).Turned()}
	for name, want := range map[string]interact.Learned{
		"experts": {Interactions: 1, Sets: &trusted},
		"known":   {Interactions: 3, Known: &known}, "nothing known": {Interactions: 2},
	} {
		var buf bytes.Buffer
		if err := encodeLearned(gob.NewEncoder(&buf), want); err != nil {
			t.Fatal(err)
		}
		back, err := decodeLearned(gob.NewDecoder(&buf))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(back, want) {
			t.Errorf("%s: %+v comes back as %+v", name, want, back)
		}
		if back.Known != nil && !back.Known.Shows(c) {
			t.Errorf("%s: what was shown is hidden after coming back", name)
		}
	}
}
