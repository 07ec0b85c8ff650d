package annotation

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/rs/zerolog"

	"scrawl/adapters/scribble"
	"scrawl/apps/interact"
	"scrawl/apps/segment"
	"scrawl/engine/adapt"
	"scrawl/engine/ort"
	"scrawl/engine/train"
	"scrawl/labelserver/api"
)

// classAnnotator serves one network with three classes beside background under every type.
func classAnnotator(t *testing.T, dir string, change ...func(*adapt.Config)) *Annotator {
	t.Helper()
	m, err := train.UNet(train.UNetShape{Input: 1, Channels: []int{4, 8}, Groups: 2, Classes: 4}, 7)
	if err != nil {
		t.Fatal(err)
	}
	net, err := adapt.NewNetwork(m, adapt.Trainable{})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := adapt.NewEngine(net, []int{0}, compiler(t))
	if err != nil {
		t.Fatal(err)
	}
	thesis := adapt.Thesis()
	thesis.LearningRate, thesis.Steps, thesis.Alpha, thesis.MaxCopies = 0.05, 10, 0.5, 4
	for _, c := range change {
		c(&thesis)
	}
	s := &segment.Model{Engine: engine, Thesis: thesis, Thickness: scribble.DefaultThickness(),
		Input:   segment.Input{Patch: []int{32, 32}, Resize: true, Multiple: 2, Percentiles: [2]float64{0.5, 99.5}},
		Classes: []segment.Class{{Label: "liver", Index: 2}, {Label: "Left Kidney", Index: 1}, {Label: "spleen", Index: 3}}}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	var entries []Entry
	for _, kind := range []string{"scribbles", deepGrow, deepEdit, segmentation} {
		entries = append(entries, Entry{Name: kind, Type: kind, Network: "organs", Labels: []string{"liver", "Left Kidney", "spleen"}, Segment: s,
			Profile: interact.ProfileThesis, Weights: "w", Device: "CPU"})
	}
	a, err := NewAnnotator(entries, Options{Dir: dir, SnapshotBudget: 1 << 30, CacheBytes: 1 << 30, Gate: ort.NewGate(1, 4), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func infer(t *testing.T, a *Annotator, r *Request) *Reply {
	t.Helper()
	reply, err := a.Infer(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func automatic(u *user, params *api.Object) *Request {
	return &Request{Model: segmentation, ClientID: u.name, Image: u.request().Image, Params: params}
}

// Strokes for one label train its class; the automatic answer, with all labels, is by the weights that the same user has taught.
func TestClassesAdapt(t *testing.T) {
	dir := t.TempDir()
	a := classAnnotator(t, dir)
	ann, bob := newUser(t, a, "ann", "case", 1), newUser(t, a, "bob", "case", 1)
	source := infer(t, a, automatic(ann, nil))
	if want := []Segment{{"liver", 1}, {"Left Kidney", 2}, {"spleen", 3}}; !slices.Equal(source.LabelNames, want) {
		t.Errorf("labels %v, want %v", source.LabelNames, want)
	}
	if slices.Max(source.Label.Labels) > 3 {
		t.Error("the answer holds numbers without a label")
	}
	r := ann.request(row(8, 10, 2), row(8, 11, 2), row(12, 14, 5))
	first := infer(t, a, r)
	for _, v := range [][3]int{{9, 10, 2}, {13, 14, 5}} {
		if first.Label.Labels[ann.v.Index(v[0], v[1], v[2])] != 1 {
			t.Errorf("the stroke at %v has lost its label", v)
		}
	}
	if slices.Max(first.Label.Labels) > 1 || !slices.Equal(first.LabelNames, []Segment{{"liver", 1}}) {
		t.Errorf("an answer to strokes of one label holds %d and %v", slices.Max(first.Label.Labels), first.LabelNames)
	}
	taught := infer(t, a, automatic(ann, nil))
	if slices.Equal(taught.Label.Labels, source.Label.Labels) {
		t.Error("what was taught does not show in the automatic answer")
	}
	if n := inferred(taught, 1); n <= inferred(source, 1) {
		t.Errorf("strokes on the liver leave it %d voxels of %d", n, inferred(source, 1))
	}
	for name, r := range map[string]*Request{"another user": automatic(bob, nil), "nobody": automatic(newUser(t, a, "", "case", 1), nil),
		"ann asking for the source": automatic(ann, api.NewObject("adapt", false))} {
		if got := infer(t, a, r); !slices.Equal(got.Label.Labels, source.Label.Labels) {
			t.Errorf("%s gets what ann has taught", name)
		}
	}
	// It lasts, and other models of the network know it.
	a.Close()
	again := classAnnotator(t, dir)
	ann.a = again
	if got := infer(t, again, automatic(ann, nil)); !slices.Equal(got.Label.Labels, taught.Label.Labels) {
		t.Error("what was taught is gone after a restart")
	}
	if got := infer(t, again, r); !slices.Equal(got.Label.Labels, first.Label.Labels) {
		t.Error("the same strokes get another answer after a restart")
	}
	// Erasing everything takes the weights back.
	infer(t, again, ann.request())
	if got := infer(t, again, automatic(ann, nil)); !slices.Equal(got.Label.Labels, source.Label.Labels) {
		t.Error("erased strokes leave their weights")
	}
	if got := infer(t, again, r); !slices.Equal(got.Label.Labels, first.Label.Labels) {
		t.Error("drawing them again is another story")
	}
}

// A guarded network gives the same strokes the same answer, before and after a restart, and untouched images their first mask back when
// all strokes are erased.
func TestGuardedClasses(t *testing.T) {
	dir := t.TempDir()
	guarded := func(c *adapt.Config) { c.Guard, c.Anchor, c.Replay, c.StrokeArea = true, 0.25, 8, true }
	a := classAnnotator(t, dir, guarded)
	ann := newUser(t, a, "ann", "case", 1)
	source := infer(t, a, automatic(ann, nil))
	r, more := ann.request(row(8, 10, 2), row(8, 11, 2)), ann.request(row(8, 10, 2), row(8, 11, 2), row(12, 14, 5))
	first := infer(t, a, r)
	if same := infer(t, a, r); !slices.Equal(same.Label.Labels, first.Label.Labels) {
		t.Error("the same strokes get another answer")
	}
	second := infer(t, a, more)
	if second.Label.Labels[ann.v.Index(13, 14, 5)] != 1 {
		t.Error("a stroke has lost its label")
	}
	a.Close()
	again := classAnnotator(t, dir, guarded)
	ann.a = again
	if got := infer(t, again, more); !slices.Equal(got.Label.Labels, second.Label.Labels) {
		t.Error("the same strokes get another answer after a restart")
	}
	infer(t, again, ann.request())
	if got := infer(t, again, automatic(ann, nil)); !slices.Equal(got.Label.Labels, source.Label.Labels) {
		t.Error("erased strokes leave what they taught")
	}
	if got := infer(t, again, r); !slices.Equal(got.Label.Labels, first.Label.Labels) {
		t.Error("drawing them again is another story")
	}
}

func inferred(r *Reply, label uint16) int {
	n := 0
	for _, l := range r.Label.Labels {
		if l == label {
			n++
		}
	}
	return n
}

// Labels drawn one after the other each have their own strokes and teach the same weights.
func TestClassesOneAfterTheOther(t *testing.T) {
	a := classAnnotator(t, t.TempDir())
	u := newUser(t, a, "ann", "case", 1)
	liver := u.request(row(8, 10, 2))
	first := infer(t, a, liver)
	spleen := u.request(row(20, 16, 2))
	spleen.LabelName = "spleen"
	infer(t, a, spleen)
	if again := infer(t, a, liver); !slices.Equal(again.Label.Labels, first.Label.Labels) {
		t.Error("drawing the spleen has changed the answer on record for the liver")
	}
	other := u.request(row(20, 16, 2))
	other.LabelName = "left_kidney" // spelled as people do
	if got := infer(t, a, other); got.LabelNames[0] != (Segment{"Left Kidney", 1}) {
		t.Errorf("labels %v, want the model's spelling", got.LabelNames)
	}
	other.LabelName = "femur"
	if _, err := a.Infer(t.Context(), other); !errors.Is(err, Invalid) {
		t.Errorf("a label that the network does not know: %v", err)
	}
	if back := infer(t, a, u.request()); inferred(back, 2) > 0 {
		t.Error("an answer for one label holds another's number")
	}
}

func TestClicksOnClasses(t *testing.T) {
	a := classAnnotator(t, t.TempDir())
	u := newUser(t, a, "ann", "case", 1)
	r := &Request{Model: deepEdit, ClientID: u.name, LabelName: "liver", Image: u.request().Image, Background: []Click{{2, 2, 2}},
		LabelClicks: []LabelClicks{{"liver", []Click{{9, 10, 2}}}, {"spleen", []Click{{20, 18, 4}}}, {"Left Kidney", nil}}}
	reply := infer(t, a, r)
	for v, want := range map[Click]uint16{{9, 10, 2}: 1, {20, 18, 4}: 3, {2, 2, 2}: 0} {
		if got := reply.Label.Labels[u.at(v)]; got != want {
			t.Errorf("the voxel clicked on at %v has label %d, want %d", v, got, want)
		}
	}
	scrawl, _ := reply.Params.Object("scrawl")
	if n, _ := scrawl.Number("windows"); n != 2 {
		t.Errorf("%v windows learned from, want one of each slice", n)
	}
	again := infer(t, a, r)
	scrawl, _ = again.Params.Object("scrawl")
	if note, _ := scrawl.Text("note"); !slices.Equal(again.Label.Labels, reply.Label.Labels) || note == "" {
		t.Error("the same clicks are another interaction")
	}
	r.LabelClicks[0].Clicks = append(r.LabelClicks[0].Clicks, Click{12, 14, 5})
	infer(t, a, r)
	r.LabelClicks[0].Clicks = r.LabelClicks[0].Clicks[:1]
	back := infer(t, a, r)
	scrawl, _ = back.Params.Object("scrawl")
	if u, _ := scrawl.Bool("undone"); !u || !slices.Equal(back.Label.Labels, reply.Label.Labels) {
		t.Error("a click taken back does not take the answer back")
	}
	r.LabelClicks = append(r.LabelClicks, LabelClicks{"femur", []Click{{1, 1, 1}}})
	if _, err := a.Infer(t.Context(), r); !errors.Is(err, Invalid) {
		t.Errorf("clicks on an unknown label: %v", err)
	}
	one := &Request{Model: deepGrow, ClientID: u.name, LabelName: "spleen", Image: r.Image, Foreground: []Click{{20, 18, 4}}}
	if got := infer(t, a, one); got.Label.Labels[u.at(Click{20, 18, 4})] != 1 || slices.Max(got.Label.Labels) > 1 {
		t.Error("a deepgrow answer is not 0 and 1, with the click as 1")
	}
}

func TestAutomaticOptions(t *testing.T) {
	a := classAnnotator(t, t.TempDir())
	u := newUser(t, a, "ann", "case", 1)
	var told []int
	first := automatic(u, nil)
	first.Progress = func(stage string, done, total int) {
		if stage == "slices" && total == u.v.Size[2] {
			told = append(told, done)
		}
	}
	all := infer(t, a, first)
	if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8}; !slices.Equal(told, want) {
		t.Errorf("progress %v, want %v of the image's slices", told, want)
	}
	for _, l := range []uint16{1, 2, 3} {
		if inferred(all, l) == 0 {
			t.Fatalf("the untrained network never answers %d: another seed is wanted", l)
		}
	}
	params := api.NewObject("label_prompt", []any{json.Number("3"), json.Number("1")})
	some := infer(t, a, automatic(u, params))
	for i, l := range all.Label.Labels {
		if want := l * (l % 2); some.Label.Labels[i] != want {
			t.Fatalf("voxel %d has label %d, want %d with labels 1 and 3 asked for", i, some.Label.Labels[i], want)
		}
	}
	box := NewBox([6]int{20, 4, 3, 30, 5, 2})
	r := automatic(u, nil)
	r.ROI = &box
	inBox := infer(t, a, r)
	for i, l := range inBox.Label.Labels {
		x, y, z := i%u.v.Size[0], i/u.v.Size[0]%u.v.Size[1], i/(u.v.Size[0]*u.v.Size[1])
		in := x >= 4 && x < 20 && y >= 3 && y < 30 && z >= 2 && z < 5
		if in && l != all.Label.Labels[i] || !in && l != 0 {
			t.Fatalf("voxel (%d,%d,%d) has label %d", x, y, z, l)
		}
	}
	largest := infer(t, a, automatic(u, api.NewObject("largest_cc", true)))
	if n, m := inferred(largest, 1), inferred(all, 1); n == 0 || n > m {
		t.Errorf("the largest part has %d voxels of %d", n, m)
	}
	for _, bad := range []any{"liver", []any{json.Number("4")}, []any{json.Number("-1")}, []any{"x"}, []any{json.Number("1.5")}} {
		if _, err := a.Infer(t.Context(), automatic(u, api.NewObject("label_prompt", bad))); !errors.Is(err, Invalid) {
			t.Errorf("label_prompt %v: %v", bad, err)
		}
	}
}

// A segment that comes back changed by hand stays so through the next answers, and parts that were never shown are no edits.
func TestClassEdits(t *testing.T) {
	for _, largest := range []bool{false, true} {
		a := classAnnotator(t, t.TempDir())
		u := newUser(t, a, "ann", "case", 1)
		u.echo = true
		params := api.NewObject("largest_cc", largest)
		request := func(strokes ...[][3]int) *Request {
			r := u.request(strokes...)
			r.Params = params
			return r
		}
		first, _ := u.send(request(row(8, 10, 2)))
		same, told := u.send(request(row(8, 10, 2)))
		if note, _ := told.Text("note"); note == "" || !slices.Equal(same, first) {
			t.Errorf("largest %v: an unchanged segment counts as edited: %v", largest, told)
		}
		added, removed := slices.Index(first, false), len(first)-1
		for !first[removed] || removed/(u.v.Size[0]*u.v.Size[1]) == 2 { // the strokes' slice is left alone
			removed--
		}
		u.segment = slices.Clone(u.segment)
		u.segment[added], u.segment[removed] = true, false
		edited, _ := u.send(request(row(8, 10, 2)))
		if !largest && !edited[added] {
			t.Error("a voxel added by hand is not in the answer")
		}
		later, _ := u.send(request(row(8, 10, 2), row(12, 14, 5)))
		if !largest && !later[added] {
			t.Error("a voxel added by hand is gone after the next stroke")
		}
		if edited[removed] || later[removed] {
			t.Error("a voxel taken away by hand is back")
		}
	}
}
