package annotation

import (
	"errors"
	"slices"
	"testing"

	"github.com/rs/zerolog"

	"scrawl/apps/interact"
	"scrawl/engine/ort"
	"scrawl/labelserver/api"
)

// clickAnnotator serves one network as scribbles and under the types that take clicks.
func clickAnnotator(t *testing.T) *Annotator {
	t.Helper()
	m := testModel(t)
	entry := func(name, kind string, dimension int) Entry {
		return Entry{Name: name, Type: kind, Network: "scribbles", Dimension: dimension, Labels: []string{"liver", "spleen"}, Model: m,
			Profile: interact.ProfileHindsight, Weights: "w", Device: "CPU"}
	}
	a, err := NewAnnotator([]Entry{entry("scribbles", "scribbles", 0), entry("deepgrow", deepGrow, 3), entry("deepgrow_2d", deepGrow, 2), entry("deepedit", deepEdit, 0)},
		Options{Dir: t.TempDir(), SnapshotBudget: 1 << 30, CacheBytes: 1 << 30, Gate: ort.NewGate(1, 4), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func (u *user) clicks(model string, params *api.Object, foreground, background []Click) *Request {
	r := u.request()
	return &Request{Model: model, ClientID: u.name, LabelName: "liver", Image: r.Image, Foreground: foreground, Background: background, Params: params}
}

func (u *user) at(v Click) int { return u.v.Index(v[0], v[1], v[2]) }

// Clicks stand for strokes: they keep their label, a set answered before comes back, and what they teach the network by one model the
// other models know.
func TestClicksAdaptAsScribblesDo(t *testing.T) {
	a := clickAnnotator(t)
	u := newUser(t, a, "ann", "case", 1)
	one, two, beside := Click{9, 10, 2}, Click{13, 14, 5}, Click{20, 20, 2}
	first, _ := u.send(u.clicks("deepgrow", nil, []Click{one}, []Click{beside}))
	if !first[u.at(one)] || first[u.at(beside)] {
		t.Error("clicks do not keep their label")
	}
	second, told := u.send(u.clicks("deepgrow", nil, []Click{one, two}, []Click{beside}))
	if undone(told) || !second[u.at(two)] {
		t.Error("a further click is no interaction")
	}
	if s, _ := u.learned(); s == 0 {
		t.Error("the scribbles' lineage of the label does not know what clicks taught")
	}
	if back, told := u.send(u.clicks("deepgrow", nil, []Click{one}, []Click{beside})); !undone(told) || !slices.Equal(back, first) {
		t.Error("taking a click back does not take the answer back")
	}
	// Strokes for the same segment are another model's, and not erased by clicks that come without them.
	strokes, _ := u.draw(row(4, 6, 6))
	u.send(u.clicks("deepgrow", nil, []Click{one, two}, []Click{beside}))
	u.learned()
	if again, told := u.draw(row(4, 6, 6)); !slices.Equal(again, strokes) {
		t.Errorf("clicks changed what scribbles had answered: %v", told)
	}
}

func TestClicksOutside(t *testing.T) {
	u := newUser(t, clickAnnotator(t), "ann", "case", 1)
	inside, outside := Click{9, 10, 2}, Click{900, 10, 2}
	_, told := u.send(u.clicks("deepgrow", nil, []Click{inside, outside}, nil))
	if n, _ := told.Number("clicks_outside"); n != 1 {
		t.Errorf("%v clicks are told to lie outside, want 1", n)
	}
	for _, r := range []*Request{
		u.clicks("deepgrow", nil, []Click{outside}, nil),
		u.clicks("deepgrow", nil, nil, []Click{outside}),
		u.clicks("deepgrow_2d", api.NewObject("slice", 8), []Click{inside}, nil),
		u.clicks("deepgrow_2d", api.NewObject("slice", 1.5), []Click{inside}, nil),
	} {
		if _, err := u.a.Infer(t.Context(), r); !errors.Is(err, Invalid) {
			t.Errorf("%v, %v: error %v, want an invalid request", r.Foreground, r.Params, err)
		}
	}
	near := NewBox([6]int{4, 12, 5, 15, 0, 5})
	boxed := u.clicks("deepgrow", nil, []Click{inside, {20, 20, 2}}, nil)
	boxed.ROI = &near
	mask, told := u.send(boxed)
	if n, _ := told.Number("clicks_outside_roi"); n != 1 || mask[u.at(Click{20, 20, 2})] {
		t.Errorf("%v clicks are told to lie outside the box, want 1", n)
	}
	boxed.Foreground = boxed.Foreground[1:]
	if _, err := u.a.Infer(t.Context(), boxed); !errors.Is(err, Invalid) {
		t.Errorf("clicks outside the box alone: error %v, want an invalid request", err)
	}
	box := NewBox([6]int{100, 200, 0, 5, 0, 5})
	r := u.clicks("deepgrow", nil, []Click{inside}, nil)
	r.ROI = &box
	if _, err := u.a.Infer(t.Context(), r); !errors.Is(err, Invalid) {
		t.Errorf("a box outside: error %v, want an invalid request", err)
	}
}

// A model of dimension 2 answers the slice it is asked about and keeps what it knows of the others.
func TestClicksOnOneSlice(t *testing.T) {
	a := clickAnnotator(t)
	u := newUser(t, a, "ann", "case", 1)
	area := u.v.Size[0] * u.v.Size[1]
	filled := func(mask []bool) []int {
		var ks []int
		for k := range u.v.Size[2] {
			if slices.Contains(mask[k*area:(k+1)*area], true) {
				ks = append(ks, k)
			}
		}
		return ks
	}
	first, _ := u.send(u.clicks("deepgrow_2d", api.NewObject("slice", 2), []Click{{9, 10, 2}}, nil))
	if got := filled(first); !slices.Equal(got, []int{2}) {
		t.Errorf("slices %v are answered, want 2 alone", got)
	}
	second, told := u.send(u.clicks("deepgrow_2d", nil, []Click{{13, 14, 5}}, nil))
	if got := filled(second); !slices.Equal(got, []int{5}) {
		t.Errorf("slices %v are answered, want 5 alone", got)
	}
	if n, _ := told.Number("answered"); n != 1 {
		t.Errorf("%v slices were answered anew, want 1: the other was left as it was", n)
	}
	if s, _ := u.learned(); s == 0 {
		t.Error("the slice the user has left was not learned from")
	}
	again, told := u.send(u.clicks("deepgrow_2d", api.NewObject("slice", 2), []Click{{9, 10, 2}}, nil))
	if n, _ := told.Number("answered"); n != 0 || !slices.Equal(again, first) {
		t.Errorf("the first slice asked again: %v slices answered, same %v", n, slices.Equal(again, first))
	}
	none, _ := u.send(u.clicks("deepgrow_2d", api.NewObject("slice", 5), nil, nil))
	if slices.Contains(none, true) {
		t.Error("a slice whose clicks are gone has an object")
	}
}

// Several labels are answered at once, numbered as the model numbers them.
func TestClicksOnSeveralLabels(t *testing.T) {
	a := clickAnnotator(t)
	u := newUser(t, a, "ann", "case", 1)
	liver, spleen, own, beside := Click{9, 10, 2}, Click{20, 18, 2}, Click{5, 20, 6}, Click{16, 4, 2}
	ask := func(clicks ...LabelClicks) *Reply {
		t.Helper()
		r := u.clicks("deepedit", nil, nil, []Click{beside})
		r.LabelClicks = clicks
		reply, err := a.Infer(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	reply := ask(LabelClicks{"liver", []Click{liver}}, LabelClicks{"spleen", []Click{spleen}}, LabelClicks{"my lesion", []Click{own}})
	if want := []Segment{{"liver", 1}, {"spleen", 2}, {"my lesion", 3}}; !slices.Equal(reply.LabelNames, want) {
		t.Errorf("labels %v, want %v", reply.LabelNames, want)
	}
	for v, want := range map[Click]uint16{liver: 1, spleen: 2, own: 3, beside: 0} {
		if got := reply.Label.Labels[u.at(v)]; got != want {
			t.Errorf("the voxel clicked on at %v has label %d, want %d", v, got, want)
		}
	}
	if c, _ := reply.Params.Object("centroids"); c.Len() != 3 {
		t.Errorf("%d centroids, want one of each label", c.Len())
	}
	both := ask(LabelClicks{"liver", []Click{liver}}, LabelClicks{"spleen", []Click{spleen}})
	if slices.Contains(both.Label.Labels, 3) {
		t.Error("a label whose clicks are gone is in the answer")
	}
	if want := []Segment{{"liver", 1}, {"spleen", 2}}; !slices.Equal(both.LabelNames, want) {
		t.Errorf("labels %v, want %v", both.LabelNames, want)
	}
	again := ask(LabelClicks{"spleen", []Click{spleen}}, LabelClicks{"liver", []Click{liver}})
	if !slices.Equal(again.Label.Labels, both.Label.Labels) {
		t.Error("the same clicks in another order get another answer")
	}
	if empty := ask(); slices.Max(empty.Label.Labels) != 0 {
		t.Error("without clicks the answer is not empty")
	}
	// Each label has the lineage that scribbles for it have.
	if _, log := u.learned(); len(log) == 0 {
		t.Error("the liver's lineage knows nothing of its clicks")
	}
}

// A request for several labels is answered whole or leaves no trace.
func TestSeveralLabelsOrNone(t *testing.T) {
	a := clickAnnotator(t)
	u := newUser(t, a, "ann", "case", 1)
	r := u.clicks("deepedit", nil, nil, nil)
	r.LabelClicks = []LabelClicks{{"liver", []Click{{9, 10, 2}}}, {"spleen", []Click{{99, 10, 2}}}}
	if _, err := a.Infer(t.Context(), r); !errors.Is(err, Invalid) {
		t.Errorf("error %v, want an invalid request", err)
	}
	if _, log := u.learned(); len(log) != 0 {
		t.Errorf("%d entries of a request that failed", len(log))
	}
}
