package annotation

import (
	"errors"
	"slices"
	"testing"

	"github.com/rs/zerolog"

	"scrawl/adapters/graphcut"
	"scrawl/engine/ort"
	"scrawl/labelserver/api"
)

// cutUser works with a model without a network, on a phantom's liver.
func cutUser(t *testing.T) *user {
	t.Helper()
	o := graphcut.Defaults()
	a, err := NewAnnotator([]Entry{{Name: "Histogram+GraphCut", Type: "scribbles", Labels: []string{"liver"}, Cut: &o, Device: "cpu"}},
		Options{Dir: t.TempDir(), SnapshotBudget: 1 << 30, CacheBytes: 1 << 30, Gate: ort.NewGate(1, 4), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return newUser(t, a, "ann", "case", 1)
}

// cut is a request with strokes on the object and beside it, all rows of five voxels.
func (u *user) cut(params *api.Object, on, beside [][3]int) *Request {
	r := u.request(on)
	for _, v := range beside {
		r.Label.Labels[u.v.Index(v[0], v[1], v[2])] = 2
	}
	r.Model, r.Params = "Histogram+GraphCut", params
	return r
}

func TestCutOffersTheIncumbentsConstants(t *testing.T) {
	m := cutUser(t).a.Models()[0]
	if m.Type != "scribbles" || m.Config.Has("profile") {
		t.Errorf("model %+v", m)
	}
	if connected, ok := m.Config.Bool("connected"); !ok || !connected {
		t.Error("connected is not offered, or off")
	}
	for name, want := range map[string]float64{"num_bins": 64, "lamda": 1, "sigma": 0.1} {
		if got, _ := m.Config.Number(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func TestCutAnswersStrokes(t *testing.T) {
	u := cutUser(t)
	on, beside := row(8, 12, 4), row(1, 1, 4)
	first, told := u.send(u.cut(nil, on, beside))
	for _, v := range on {
		if !first[u.v.Index(v[0], v[1], v[2])] {
			t.Fatal("a stroke on the object is not in the answer")
		}
	}
	for _, v := range beside {
		if first[u.v.Index(v[0], v[1], v[2])] {
			t.Fatal("a stroke beside the object is in the answer")
		}
	}
	if told.Has("note") {
		t.Errorf("told %v", told)
	}
	// What an answer is does not depend on those before.
	u.send(u.cut(nil, row(20, 20, 2), row(1, 1, 4)))
	if again, told := u.send(u.cut(nil, on, beside)); !slices.Equal(again, first) || undone(told) {
		t.Error("the same strokes have another answer")
	}
	// Another segment's voxels are not claimed.
	r := u.cut(nil, on, beside)
	r.LabelInfo = append(r.LabelInfo, Segment{"spleen", 7})
	for i, b := range first {
		if b && r.Label.Labels[i] == 0 {
			r.Label.Labels[i] = 7
		}
	}
	if mask, _ := u.send(r); slices.Contains(both(mask, where(r.Label, func(l uint16) bool { return l == 7 })), true) {
		t.Error("voxels of another segment were claimed")
	}
	if err := u.a.Forget(t.Context(), r.Image.Key); err != nil {
		t.Error(err)
	}
}

func not(a []bool) []bool {
	out := make([]bool, len(a))
	for i := range a {
		out[i] = !a[i]
	}
	return out
}

func both(a, b []bool) []bool {
	out := make([]bool, len(a))
	for i := range a {
		out[i] = a[i] && b[i]
	}
	return out
}

// The constants of a request count, also spelt as text as Slicer's table may send them, and so does its box.
func TestCutParameters(t *testing.T) {
	u := cutUser(t)
	on, beside := row(8, 12, 4), row(1, 1, 4)
	usual, _ := u.send(u.cut(nil, on, beside))
	if other, _ := u.send(u.cut(api.NewObject("lamda", "40", "sigma", 0.5), on, beside)); slices.Equal(other, usual) {
		t.Error("other constants give the same answer")
	}
	// Without a price on borders single voxels elsewhere look like the object.
	part, _ := u.send(u.cut(api.NewObject("lamda", 0), on, beside))
	if all, _ := u.send(u.cut(api.NewObject("lamda", 0, "connected", false), on, beside)); slices.Equal(all, part) || slices.Contains(both(part, not(all)), true) {
		t.Error("with parts that hold no stroke the answer is not a larger one")
	}
	for name, value := range map[string]any{"num_bins": 1, "lamda": -1.0, "sigma": 0.0} {
		if _, err := u.a.Infer(t.Context(), u.cut(api.NewObject(name, value), on, beside)); !errors.Is(err, Invalid) {
			t.Errorf("%s %v: %v, want an invalid request", name, value, err)
		}
	}
	if _, err := u.a.Infer(t.Context(), u.cut(api.NewObject("num_bins", 2.5), on, beside)); !errors.Is(err, Invalid) {
		t.Errorf("half a bin: %v, want an invalid request", err)
	}
	box := NewBox([6]int{6, 16, 8, 18, 2, 6})
	r := u.cut(nil, on, nil)
	r.ROI = &box
	mask, _ := u.send(r)
	for i, b := range mask {
		v := [3]int{i % u.v.Size[0], i / u.v.Size[0] % u.v.Size[1], i / (u.v.Size[0] * u.v.Size[1])}
		if b && (v[0] < 6 || v[0] >= 16 || v[1] < 8 || v[1] >= 18 || v[2] < 2 || v[2] >= 6) {
			t.Fatalf("voxel %v lies outside the box", v)
		}
	}
}

// Nothing on the object is an empty answer with a word, where the incumbent fills the volume.
func TestCutWithoutStrokes(t *testing.T) {
	u := cutUser(t)
	for _, r := range []*Request{u.cut(nil, nil, nil), u.cut(nil, nil, row(1, 1, 4))} {
		mask, told := u.send(r)
		if slices.Contains(mask, true) || !told.Has("note") {
			t.Errorf("an answer without strokes: told %v", told)
		}
	}
}

// What is remembered of other models is nothing here, and nothing fails.
func TestCutRemembersNothing(t *testing.T) {
	u := cutUser(t)
	r := u.cut(nil, row(8, 12, 4), nil)
	u.send(r)
	w := Work{Model: r.Model, Image: r.Image, ClientID: u.name, LabelName: "liver"}
	if labels, err := u.a.Labels(t.Context(), w); err != nil || len(labels) != 0 {
		t.Errorf("labels %v, %v", labels, err)
	}
	if m, err := u.a.Strokes(t.Context(), w); err != nil || m != nil {
		t.Errorf("strokes %v, %v", m, err)
	}
	if l, err := u.a.Learned(t.Context(), w); err != nil || l.Interactions != 0 {
		t.Errorf("learned %+v, %v", l, err)
	}
	if _, err := u.a.ImageUncertainty(t.Context(), r.Model, u.name, r.Image); !errors.Is(err, Invalid) {
		t.Errorf("uncertainty: %v", err)
	}
	if err := u.a.Submitted(t.Context(), Submission{Tag: "final", ClientID: u.name, Image: r.Image.Key}); err != nil {
		t.Error(err)
	}
}
