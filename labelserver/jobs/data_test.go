package jobs

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scrawl/labelserver/api"
)

func decode(t *testing.T, text string) *api.Object {
	t.Helper()
	o, err := api.DecodeObject([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// What the numbers of a label file mean, as the clients say it.
func TestNamesOf(t *testing.T) {
	for _, c := range []struct {
		name, info string
		labels     []uint16
		want       map[uint16]string
	}{
		{"nothing said: the model's numbering", `{}`, []uint16{0, 1, 2, 5}, map[uint16]string{1: "liver", 2: "spleen", 5: "label_5"}},
		{"Slicer's idx", `{"label_info":[{"name":"a","idx":1},{"name":"b","idx":3}]}`, []uint16{1, 3}, map[uint16]string{1: "a", 3: "b"}},
		{"Slicer's idx shifted by a segment left out", `{"label_info":[{"name":"a","idx":2},{"name":"b","idx":3}]}`, []uint16{0, 1, 2}, map[uint16]string{1: "a", 2: "b"}},
		{"OHIF's labelID", `{"label_info":[{"name":"a","labelID":4}]}`, []uint16{4}, map[uint16]string{4: "a"}},
		{"a number nobody named", `{"label_info":[{"name":"a","idx":1}]}`, []uint16{1, 2}, map[uint16]string{1: "a", 2: "label_2"}},
		{"a model's answer", `{"params":{"label_names":{"b":2,"a":1}}}`, []uint16{2}, map[uint16]string{1: "a", 2: "b"}},
		{"nonsense is passed over", `{"label_info":[{"idx":1},7,{"name":"","idx":2},{"name":"c","idx":"x"},{"name":"d","idx":1e9}]}`, []uint16{1, 2, 3}, map[uint16]string{1: "label_1", 2: "label_2", 3: "label_3"}},
		{"no list", `{"label_info":"x"}`, []uint16{1}, map[uint16]string{1: "liver"}},
		{"an empty label", `{}`, []uint16{0, 0}, map[uint16]string{}},
	} {
		if d := cmp.Diff(c.want, namesOf(decode(t, c.info), []string{"liver", "spleen"}, c.labels)); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

// Labels are compared by their names, whatever numbers they have.
func TestMeanDice(t *testing.T) {
	for _, c := range []struct {
		name     string
		a, b     []uint16
		inA, inB map[string]uint16
		want     float64
	}{
		{"the same", []uint16{0, 1, 2, 2}, []uint16{0, 1, 2, 2}, map[string]uint16{"x": 1, "y": 2}, map[string]uint16{"x": 1, "y": 2}, 1},
		{"other numbers", []uint16{0, 1, 2, 2}, []uint16{0, 2, 1, 1}, map[string]uint16{"x": 1, "y": 2}, map[string]uint16{"x": 2, "y": 1}, 1},
		{"half missed", []uint16{1, 1, 0, 0}, []uint16{1, 0, 0, 0}, map[string]uint16{"x": 1}, map[string]uint16{"x": 1}, 2.0 / 3},
		{"one label missed altogether", []uint16{1, 2, 0, 0}, []uint16{1, 0, 0, 0}, map[string]uint16{"x": 1, "y": 2}, map[string]uint16{"x": 1}, 0.5},
		{"one label too many", []uint16{1, 0, 0, 0}, []uint16{1, 2, 0, 0}, map[string]uint16{"x": 1}, map[string]uint16{"x": 1, "z": 2}, 0.5},
		{"other names", []uint16{1, 0}, []uint16{1, 0}, map[string]uint16{"x": 1}, map[string]uint16{"z": 1}, 0},
		{"both empty", []uint16{0, 0}, []uint16{0, 0}, nil, nil, 1},
		{"names without voxels", []uint16{1, 0}, []uint16{1, 0}, map[string]uint16{"x": 1, "y": 2}, map[string]uint16{"x": 1, "y": 2}, 1},
	} {
		if got := meanDice(c.a, c.b, c.inA, c.inB); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%s: %g, want %g", c.name, got, c.want)
		}
	}
}

// Options come as clients send them: numbers, texts, and whole lists that nobody has touched.
func TestReadSettings(t *testing.T) {
	s, resume, err := readSettings(decode(t, `{"max_epochs":"12","early_stop_patience":-1,"val_split":0,"learning_rate":[0.001],"weights":["all","decoder","normalization"],
		"labels":["all","liver"],"resume":["true"],"device":["cpu"],"unknown":{},"name":null,"train_batch_size":2.0}`))
	if err != nil || !resume || s.Epochs != 12 || s.Patience != 0 || s.Validation != 0 || s.LearningRate != 0.001 || s.Batch != 2 ||
		!cmp.Equal(s.Weights, []string{"all"}) || len(s.Labels) != 0 {
		t.Errorf("%+v, %t, %v", s, resume, err)
	}
	s, _, err = readSettings(decode(t, `{"weights":"up*.weight, head.*","labels":"liver, spleen"}`))
	if err != nil || !cmp.Equal(s.Weights, []string{"up*.weight", "head.*"}) || !cmp.Equal(s.Labels, []string{"liver", "spleen"}) {
		t.Errorf("%+v, %v", s, err)
	}
}

// A room lets in what fits, and what is larger than itself alone.
func TestRoom(t *testing.T) {
	r := newRoom(10)
	leave, err := r.enter(t.Context(), 6)
	if err != nil {
		t.Fatal(err)
	}
	in := make(chan func())
	go func() {
		leave, err := r.enter(t.Context(), 1000)
		if err != nil {
			t.Error(err)
		}
		in <- leave
	}()
	select {
	case <-in:
		t.Error("two were let in that do not fit together")
	default:
	}
	leave()
	(<-in)()
	if r.free != 10 {
		t.Errorf("%d free in the end", r.free)
	}
}
