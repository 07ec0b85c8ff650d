package annotation

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/apps/phantom"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/train"
	"scrawl/labelserver/api"
)

// testModel is a small untrained network: what it answers is nonsense, but it answers and learns as any other does.
func testModel(t *testing.T) *interact.Model {
	t.Helper()
	m, err := train.UNet(train.UNetShape{Input: 4, Channels: []int{4, 8}, Groups: 2, Classes: 2}, 3)
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
	hindsight := adapt.Hindsight()
	hindsight.Margin = 0 // what this network learns is little
	hindsight.Steps = 2
	return &interact.Model{Engine: engine, Hindsight: hindsight, Thesis: adapt.Thesis(), Thickness: scribble.DefaultThickness(),
		Input: interact.Input{Channels: []interact.Channel{"image", "positive", "negative", "previous"}, Grid: 32, Multiple: 2, Percentiles: [2]float64{0.5, 99.5}}}
}

func compiler(t *testing.T) adapt.Compiler {
	t.Helper()
	lib := orttest.Library(t)
	return func(model *onnx.Model) (adapt.Session, error) {
		s, err := lib.Compile(model, ort.Options{Threads: 1, NoSpinning: true})
		if err == nil {
			t.Cleanup(func() { _ = s.Close() })
		}
		return s, err
	}
}

func newTestAnnotator(t *testing.T, dir string, m *interact.Model) *Annotator {
	t.Helper()
	a, err := NewAnnotator([]Entry{{Name: "scribbles", Type: "scribbles", Labels: []string{"liver"}, Model: m, Profile: interact.ProfileHindsight, Weights: "w", Device: "CPU"}},
		Options{Dir: dir, SnapshotBudget: 1 << 30, CacheBytes: 1 << 30, Gate: ort.NewGate(1, 4), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// user draws on one image.
type user struct {
	t     *testing.T
	a     *Annotator
	name  string
	image string
	v     *volume.Volume
	// segment is the last answer, which goes along with the next request as Slicer has it; nil sends none.
	segment []bool
	echo    bool
}

func newUser(t *testing.T, a *Annotator, name, image string, seed uint64) *user {
	v, _ := phantom.Abdomen([3]int{32, 28, 8}, [3]float64{9, 9, 15}, seed)
	return &user{t: t, a: a, name: name, image: image, v: v}
}

// row is a stroke of five voxels.
func row(x, y, z int) [][3]int {
	var vs [][3]int
	for i := range 5 {
		vs = append(vs, [3]int{x + i, y, z})
	}
	return vs
}

func (u *user) request(strokes ...[][3]int) *Request {
	m := volume.NewLabelMap(u.v.Geometry)
	for i, b := range u.segment {
		if b && u.echo {
			m.Labels[i] = 1
		}
	}
	for _, s := range strokes {
		for _, v := range s {
			m.Labels[u.v.Index(v[0], v[1], v[2])] = 3
		}
	}
	return &Request{Model: "scribbles", ClientID: u.name, LabelName: "liver", Label: m,
		LabelInfo: []Segment{{"liver", 1}, {backgroundLayer, 2}, {foregroundLayer, 3}},
		Image: Image{Key: ImageKey{Stored, u.image}, Ext: ".nii.gz", Version: "1",
			Open: func(context.Context) (*volume.Volume, error) { return u.v, nil }}}
}

func (u *user) send(r *Request) (mask []bool, told *api.Object) {
	u.t.Helper()
	reply, err := u.a.Infer(u.t.Context(), r)
	if err != nil {
		u.t.Fatal(err)
	}
	if err := reply.Label.SameGrid(u.v.Geometry); err != nil {
		u.t.Error(err)
	}
	mask = make([]bool, len(reply.Label.Labels))
	for i, l := range reply.Label.Labels {
		mask[i] = l == 1
	}
	u.segment = mask
	told, _ = reply.Params.Object("scrawl")
	return mask, told
}

func (u *user) draw(strokes ...[][3]int) ([]bool, *api.Object) {
	u.t.Helper()
	return u.send(u.request(strokes...))
}

// lineage is the user's, as it lies in memory.
func (u *user) lineage(t *testing.T) *lineage {
	t.Helper()
	h, release, err := u.a.hold(t.Context(), identityOf(u.name, "scribbles", "liver", hashText(u.v), "w"))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	return h.lineage
}

// learned is the number of the snapshot that the user's lineage has now, once background learning is done.
func (u *user) learned() (snapshot int, log []entry) {
	u.t.Helper()
	h, release, err := u.a.hold(u.t.Context(), identityOf(u.name, "scribbles", "liver", hashText(u.v), "w"))
	if err != nil {
		u.t.Fatal(err)
	}
	defer release()
	return h.lineage.head().Learned, slices.Clone(h.lineage.log)
}

func undone(told *api.Object) bool { b, _ := told.Bool("undone"); return b }

// The story of one annotator: strokes on two slices, the first of which is learned from; then undo, redo, the same again.
func TestUndoRedo(t *testing.T) {
	for _, echo := range []bool{false, true} {
		a := newTestAnnotator(t, t.TempDir(), testModel(t))
		u := newUser(t, a, "ann", "case", 1)
		u.echo = echo
		one, two := row(8, 10, 2), row(12, 14, 5)
		first, _ := u.draw(one)
		if s, _ := u.learned(); s != 0 {
			t.Errorf("a slice the user is still at was learned from")
		}
		second, told := u.draw(one, two)
		if undone(told) {
			t.Error("a new stroke counts as an undo")
		}
		learned, _ := u.learned()
		if learned == 0 {
			t.Fatal("the slice the user left was not learned from")
		}
		_, log := u.learned()
		again, told := u.draw(one, two)
		if _, now := u.learned(); len(now) != len(log) || !slices.Equal(again, second) || undone(told) {
			t.Error("the same strokes again changed something")
		}
		back, told := u.draw(one)
		if s, _ := u.learned(); !undone(told) || !slices.Equal(back, first) || s != 0 {
			t.Errorf("taking the stroke back: undone %v, same mask %v, weights %d; want the first state and no weights", undone(told), slices.Equal(back, first), s)
		}
		redo, told := u.draw(one, two)
		if s, _ := u.learned(); !undone(told) || !slices.Equal(redo, second) || s != learned {
			t.Errorf("drawing it again: same mask %v, weights %d, want those of before, %d", slices.Equal(redo, second), s, learned)
		}
		none, told := u.draw()
		if s, _ := u.learned(); !undone(told) || slices.Contains(none, true) || s != 0 {
			t.Error("erasing everything does not give the untouched image back")
		}
	}
}

// What was learned and undoable before a restart is so after it.
func TestRestart(t *testing.T) {
	dir, m := t.TempDir(), testModel(t)
	a := newTestAnnotator(t, dir, m)
	u := newUser(t, a, "ann", "case", 1)
	one, two := row(8, 10, 2), row(12, 14, 5)
	first, _ := u.draw(one)
	second, _ := u.draw(one, two)
	learned, log := u.learned()
	a.Close()

	u.a = newTestAnnotator(t, dir, m)
	if s, now := u.learned(); s != learned || len(now) != len(log) {
		t.Fatalf("after the restart the log has %d entries and snapshot %d, want %d and %d", len(now), s, len(log), learned)
	}
	if again, _ := u.draw(one, two); !slices.Equal(again, second) {
		t.Error("the same strokes get another answer after the restart")
	}
	if back, told := u.draw(one); !undone(told) || !slices.Equal(back, first) {
		t.Error("undo does not reach over the restart")
	}
	three := row(4, 6, 6)
	next, _ := u.draw(one, three)
	u.learned()

	// The same story without a restart gives the same bits.
	other := newUser(t, newTestAnnotator(t, t.TempDir(), m), "ann", "case", 1)
	other.draw(one)
	other.draw(one, two)
	other.learned()
	other.draw(one)
	if straight, _ := other.draw(one, three); !slices.Equal(straight, next) {
		t.Error("a restart changes later answers")
	}
}

// A log cut short in the middle of a line loses that line alone; a snapshot that is gone is said to be.
func TestBrokenFiles(t *testing.T) {
	dir, m := t.TempDir(), testModel(t)
	a := newTestAnnotator(t, dir, m)
	u := newUser(t, a, "ann", "case", 1)
	u.draw(row(8, 10, 2))
	u.draw(row(8, 10, 2), row(12, 14, 5))
	_, log := u.learned()
	a.Close()
	names, err := filepath.Glob(filepath.Join(dir, "*", logFile))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v: want one log", names, err)
	}
	f, err := os.OpenFile(names[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"Seq":4,"Ima`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	u.a = newTestAnnotator(t, dir, m)
	if _, now := u.learned(); len(now) != len(log) {
		t.Errorf("%d entries after a cut line, want %d", len(now), len(log))
	}
	u.draw(row(4, 6, 6))
	if _, now := u.learned(); len(now) <= len(log) {
		t.Error("the log does not go on after a cut line")
	}
}

// Weights go with the user and the label over images; without a user they stay with the image.
func TestLineages(t *testing.T) {
	a := newTestAnnotator(t, t.TempDir(), testModel(t))
	ann, bob, nobody := newUser(t, a, "ann", "case", 1), newUser(t, a, "bob", "case", 1), newUser(t, a, "", "case", 1)
	for _, u := range []*user{ann, bob, nobody} {
		u.draw(row(8, 10, 2))
	}
	ann.draw(row(8, 10, 2), row(12, 14, 5))
	if s, _ := ann.learned(); s == 0 {
		t.Error("ann's lineage learned nothing")
	}
	if s, _ := bob.learned(); s != 0 {
		t.Error("bob's lineage learned from ann")
	}
	other := newUser(t, a, "ann", "another", 2)
	other.draw(row(8, 10, 2))
	before, _ := ann.learned()
	if s, _ := other.learned(); s != before {
		t.Error("ann's weights do not go along to her next image")
	}
	// Taking back a stroke of the first image leaves the weights, since the second has been worked on since.
	back, told := ann.draw(row(8, 10, 2))
	if s, _ := ann.learned(); !undone(told) || s != before || !slices.Contains(back, true) {
		t.Errorf("undo on an older image: undone %v, weights %d, want %d", undone(told), s, before)
	}
	if note, _ := told.Text("note"); !strings.Contains(note, "weights stay") {
		t.Errorf("the reply's note %q does not say that the weights stay", note)
	}
	anotherNobody := newUser(t, a, "", "another", 2)
	anotherNobody.draw(row(8, 10, 2))
	if _, log := anotherNobody.learned(); len(log) != 1 {
		t.Errorf("a client without a name shares %d entries between images, want 1", len(log))
	}
}

// An image of the same name with other content starts clean.
func TestSameNameOtherContent(t *testing.T) {
	a := newTestAnnotator(t, t.TempDir(), testModel(t))
	u := newUser(t, a, "ann", "case", 1)
	u.draw(row(8, 10, 2))
	other := newUser(t, a, "ann", "case", 9)
	r := other.request()
	r.Image.Version = "2"
	if mask, told := other.send(r); slices.Contains(mask, true) || undone(told) {
		t.Error("state of another image of that name shows up")
	}
}

func TestForgetAndReset(t *testing.T) {
	dir := t.TempDir()
	a := newTestAnnotator(t, dir, testModel(t))
	u := newUser(t, a, "ann", "case", 1)
	u.draw(row(8, 10, 2))
	u.draw(row(8, 10, 2), row(12, 14, 5))
	u.learned()
	if err := a.Forget(t.Context(), ImageKey{Stored, "case"}); err != nil {
		t.Fatal(err)
	}
	if states, _ := filepath.Glob(filepath.Join(dir, "*", "state-*")); len(states) > 0 {
		t.Errorf("files of a forgotten image are left: %v", states)
	}
	if _, told := u.draw(row(8, 10, 2)); undone(told) {
		t.Error("a forgotten image is remembered")
	}
	r := u.request(row(8, 10, 2))
	r.Params = api.NewObject("reset", resetEverything)
	u.send(r)
	if s, log := u.learned(); s != 0 || len(log) != 1 {
		t.Errorf("after a reset there are %d entries and snapshot %d, want a fresh start", len(log), s)
	}
	if err := a.Forget(t.Context(), ImageKey{Stored, "nobody"}); err != nil {
		t.Errorf("forgetting an unknown image: %v", err)
	}
}

// Submitting a label is the user's word that every slice is right.
func TestSubmittedIsLearned(t *testing.T) {
	a := newTestAnnotator(t, t.TempDir(), testModel(t))
	u := newUser(t, a, "ann", "case", 1)
	u.draw(row(8, 10, 2))
	s := Submission{Image: ImageKey{Stored, "case"}, Tag: "version_2", ClientID: "ann"}
	if err := a.Submitted(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if s, _ := u.learned(); s != 0 {
		t.Error("a label that is not final was learned from")
	}
	s.Tag = "final"
	if err := a.Submitted(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if s, _ := u.learned(); s == 0 {
		t.Error("the submitted slice was not learned from")
	}
}

// A run that is cancelled leaves no trace.
func TestCancelledLeavesNoTrace(t *testing.T) {
	a := newTestAnnotator(t, t.TempDir(), testModel(t))
	u := newUser(t, a, "ann", "case", 1)
	u.draw(row(8, 10, 2))
	_, before := u.learned()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Infer(ctx, u.request(row(8, 10, 2), row(12, 14, 5))); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want the context's", err)
	}
	if _, after := u.learned(); len(after) != len(before) {
		t.Error("a cancelled run is in the log")
	}
}

// Edits by hand stand, and the segments beside are left alone.
func TestEditsAndProtectedSegments(t *testing.T) {
	a := newTestAnnotator(t, t.TempDir(), testModel(t))
	u := newUser(t, a, "ann", "case", 1)
	u.echo = true
	u.draw(row(8, 10, 2))
	erased, added := u.v.Index(9, 11, 4), u.v.Index(1, 1, 6)
	u.segment = slices.Clone(u.segment)
	for x := range 32 {
		for y := range 28 {
			u.segment[u.v.Index(x, y, 4)] = false
		}
	}
	u.segment[added] = true
	r := u.request(row(8, 10, 2), row(12, 14, 5))
	spared := u.v.Index(12, 15, 5)
	r.Label.Labels[spared] = 7
	r.LabelInfo = append(r.LabelInfo, Segment{"spleen", 7})
	mask, _ := u.send(r)
	if mask[erased] {
		t.Error("a slice the user erased by hand is filled again")
	}
	if !mask[added] {
		t.Error("a voxel the user drew by hand is gone")
	}
	if mask[spared] {
		t.Error("a voxel of another segment is claimed")
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		params *api.Object
		ok     bool
		want   interact.Options
	}{
		{nil, true, interact.Options{Profile: interact.ProfileHindsight, LearnLater: true}},
		{api.NewObject("profile", "thesis"), true, interact.Options{Profile: interact.ProfileThesis, LearnLater: true}},
		{api.NewObject("profile", []any{"frozen", "thesis"}), true, interact.Options{Profile: interact.ProfileFrozen, LearnLater: true}},
		{api.NewObject("adapt", false), true, interact.Options{Profile: interact.ProfileFrozen, LearnLater: true}},
		{api.NewObject("propagate", "slice"), true, interact.Options{Profile: interact.ProfileHindsight, SliceOnly: true, LearnLater: true}},
		{api.NewObject("profile", "magic"), false, interact.Options{}},
		{api.NewObject("reset", 3), false, interact.Options{}},
	} {
		j := &job{entry: Entry{Profile: interact.ProfileHindsight}}
		err := j.readOptions(c.params)
		if (err == nil) != c.ok {
			t.Errorf("%v: error %v", c.params, err)
		}
		if err != nil && !errors.Is(err, Invalid) {
			t.Errorf("%v: error %v is not of the kind Invalid", c.params, err)
		}
		if c.ok && j.options != c.want {
			t.Errorf("%v: options %+v, want %+v", c.params, j.options, c.want)
		}
	}
}
