package interact

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/engine/adapt"
)

var (
	inObject = stroke(2, 6, true, 18, 16, 24)
	beside   = stroke(2, 6, false, 4, 4, 12)
)

// TestOneStrokeFindsTheObject carries one slice's answer through the volume: outward, until the object ends, and to nothing that
// does not touch it.
func TestOneStrokeFindsTheObject(t *testing.T) {
	for _, m := range []*Model{bright(t), imageOnly(t)} {
		u, object := begin(t, m)
		res := u.draw(inObject, beside)
		anchor := SliceKey{Axis: 2, Slice: 6}
		if !slices.Equal(res.Report.Answered, []SliceKey{anchor}) || res.Report.Carried < 7 || res.Report.Carried > 9 {
			t.Errorf("report %+v", res.Report)
		}
		for k := range 12 {
			if d := overlap(slab(res.Mask, k), slab(object, k)); d < 0.9 && count(slab(object, k)) > 20 {
				t.Errorf("%v: Dice %.3f in slice %d", m.Input.Channels, d, k)
			}
		}
		if count(slab(res.Mask, 0))+count(slab(res.Mask, 11)) > 0 {
			t.Error("the object was carried beyond its end")
		}
	}
}

func TestAnchorsStayAsAnswered(t *testing.T) {
	u, _ := begin(t, bright(t))
	first := u.draw(inObject, beside)
	second := u.draw(inObject, beside, stroke(2, 3, true, 18, 18, 22))
	if !slices.Equal(slab(first.Mask, 6), slab(second.Mask, 6)) {
		t.Error("slice 6 has changed, though its strokes have not")
	}
	if !slices.Equal(second.Report.Answered, []SliceKey{{Axis: 2, Slice: 3}}) || !slices.Equal(second.Report.Learned, []SliceKey{{Axis: 2, Slice: 6}}) {
		t.Errorf("answered %v, learned %v; want slice 3 answered and slice 6 learned", second.Report.Answered, second.Report.Learned)
	}
	stages := u.state.Anchors[SliceKey{Axis: 2, Slice: 3}].Stages
	if len(stages) != 2 || !slices.Equal(stages[0].Prior, u.state.Carried[SliceKey{Axis: 2, Slice: 4}]) && stages[0].Prior == nil {
		t.Errorf("slice 3 has %d stages", len(stages))
	}
	third := u.draw(inObject, beside, stroke(2, 3, true, 18, 18, 22), stroke(2, 9, true, 18, 18, 20))
	if len(third.Report.Learned) != 1 || u.learned.Memory.Lessons != 2 || len(third.Report.Lessons[0].Foreseen) != 4 {
		t.Errorf("learned %v in the third interaction, %d lessons in all", third.Report.Learned, u.learned.Memory.Lessons)
	}
}

// TestFirstStageComesFromTheAnchor: a slice's first mask was carried to it from the nearest anchor, not from slices beyond.
func TestFirstStageComesFromTheAnchor(t *testing.T) {
	u, _ := begin(t, bright(t))
	u.draw(inObject)
	carried := u.state.Carried
	for _, k := range []int{4, 8} {
		u.draw(inObject, stroke(2, k, true, 18, 18, 22))
		towards := SliceKey{Axis: 2, Slice: k + 1}
		if k > 6 {
			towards.Slice = k - 1
		}
		if got := u.state.Anchors[SliceKey{Axis: 2, Slice: k}].Stages[0].Prior; !slices.Equal(got, carried[towards]) {
			t.Errorf("slice %d: its first prior is not slice %d's answer", k, towards.Slice)
		}
		u.draw(inObject)
		carried = u.state.Carried
	}
}

func TestIdenticalRequestKeepsTheAnswer(t *testing.T) {
	for _, profile := range []Profile{ProfileHindsight, ProfileThesis, ProfileFrozen} {
		u, _ := begin(t, bright(t))
		req := Request{Strokes: drawn(inObject, beside, stroke(2, 3, true, 18, 18, 22)), Options: Options{Profile: profile}}
		first := u.ask(req)
		learned := u.learned
		req.Previous = first.Mask
		second := u.ask(req)
		if !slices.Equal(first.Mask, second.Mask) || learned != u.learned || len(second.Report.Answered)+len(second.Report.Learned)+len(second.Report.Thesis) > 0 {
			t.Errorf("%s: the same request again: %+v", profile, second.Report)
		}
		// Also when the network has learned from another image since.
		other, _ := begin(t, u.m)
		other.learned = u.learned
		other.draw(inObject)
		other.draw(inObject, stroke(2, 8, true, 18, 18, 22))
		u.learned = other.learned
		if third := u.ask(req); !slices.Equal(first.Mask, third.Mask) {
			t.Errorf("%s: what was learned elsewhere changed a finished answer", profile)
		}
	}
}

func TestErasedStrokes(t *testing.T) {
	u, _ := begin(t, bright(t))
	one := u.draw(inObject)
	both := u.draw(inObject, stroke(2, 6, true, 2, 2, 6))
	if !both.Mask[voxel(3, 2, 6)] || one.Mask[voxel(3, 2, 6)] {
		t.Error("a stroke in the dark must be the object, and only after it was drawn")
	}
	back := u.draw(inObject)
	if back.Mask[voxel(3, 2, 6)] {
		t.Error("an erased stroke is still in the answer")
	}
	none := u.draw()
	if count(none.Mask) != 0 || len(u.state.Anchors) != 0 || len(u.state.Carried) != 0 {
		t.Errorf("all strokes were erased: %d voxels, %d anchors and %d carried slices are left", count(none.Mask), len(u.state.Anchors), len(u.state.Carried))
	}
}

func TestEditsByHandSurvive(t *testing.T) {
	u, _ := begin(t, bright(t))
	strokes := drawn(inObject, beside)
	res := u.ask(Request{Strokes: strokes, Options: Options{Profile: ProfileHindsight}})
	edited := slices.Clone(res.Mask)
	for i := range 5 {
		edited[voxel(2+i, 2, 4)] = true                          // added in the dark
		edited[voxel(18+i, 18, 4)] = false                       // taken from the middle
		edited[voxel(16+i, 18, 8)] = !edited[voxel(16+i, 18, 8)] // on another slice
	}
	keep := slices.Clone(edited)
	res = u.ask(Request{Strokes: strokes, Previous: edited, Options: Options{Profile: ProfileHindsight}})
	for _, k := range []int{4, 8} {
		if !slices.Equal(slab(res.Mask, k), slab(keep, k)) {
			t.Errorf("slice %d is not what the user drew", k)
		}
		if a := u.state.Anchors[SliceKey{Axis: 2, Slice: k}]; a.Edited == nil || !a.Learned {
			t.Errorf("slice %d: an edit must count as accepted and be learned", k)
		}
	}
	if len(res.Report.Answered) != 0 || !slices.Equal(slab(res.Mask, 6), slab(keep, 6)) {
		t.Error("an edit elsewhere changed slice 6")
	}
	// A stroke on another slice leaves the edits alone, a stroke on an edited slice leaves what it does not touch.
	more := drawn(inObject, beside, stroke(2, 10, false, 4, 4, 8))
	res = u.ask(Request{Strokes: more, Previous: res.Mask, Options: Options{Profile: ProfileHindsight}})
	if !slices.Equal(slab(res.Mask, 4), slab(keep, 4)) {
		t.Error("a stroke elsewhere undid an edit")
	}
	more = drawn(inObject, beside, stroke(2, 10, false, 4, 4, 8), stroke(2, 4, false, 2, 2, 4))
	res = u.ask(Request{Strokes: more, Previous: res.Mask, Options: Options{Profile: ProfileHindsight}})
	if res.Mask[voxel(2, 2, 4)] || !res.Mask[voxel(5, 2, 4)] || res.Mask[voxel(20, 18, 4)] {
		t.Error("after a stroke over a part of an edit, the rest of the edit must stand")
	}
	// With that stroke gone the edits still stand.
	more = drawn(inObject, beside, stroke(2, 10, false, 4, 4, 8))
	res = u.ask(Request{Strokes: more, Previous: res.Mask, Options: Options{Profile: ProfileHindsight}})
	if !res.Mask[voxel(5, 2, 4)] || res.Mask[voxel(20, 18, 4)] {
		t.Error("an erased stroke took the edits with it")
	}
}

// TestWhatHidesTheSegmentIsNoEdit: in a client's label map strokes and other segments lie over the segment.
func TestWhatHidesTheSegmentIsNoEdit(t *testing.T) {
	u, _ := begin(t, bright(t))
	res := u.draw(inObject, beside)
	// The new strokes are sagittal, and cross many of the other slices.
	strokes := drawn(inObject, beside, stroke(0, 20, true, 6, 2, 34), stroke(0, 2, false, 6, 2, 34), stroke(0, 20, false, 9, 10, 26))
	previous, protected := slices.Clone(res.Mask), make([]bool, len(res.Mask))
	strokes.Voxels(func(at int, positive bool) { previous[at] = positive })
	for i := range 4 {
		previous[voxel(18+i, 20, 5)], protected[voxel(18+i, 20, 5)] = false, true
	}
	res = u.ask(Request{Strokes: strokes, Previous: previous, Protected: protected, Options: Options{Profile: ProfileHindsight}})
	for key, a := range u.state.Anchors {
		if a.Edited != nil || a.Corrected != nil {
			t.Errorf("slice %v counts as edited by hand", key)
		}
	}
	if len(res.Report.Answered) != 2 || len(u.state.Anchors) != 3 {
		t.Errorf("answered %v; want the two sagittal slices", res.Report.Answered)
	}
}

// TestSegmentFromElsewhere starts from a segment that another tool made: it stands, and strokes may shrink it.
func TestSegmentFromElsewhere(t *testing.T) {
	u, object := begin(t, bright(t))
	found := slices.Clone(object)
	for x := range 8 {
		found[voxel(2+x, 2, 6)] = true
	}
	res := u.ask(Request{Strokes: drawn(stroke(2, 6, false, 2, 4, 6)), Previous: found, Options: Options{Profile: ProfileFrozen}})
	if !slices.Equal(slab(res.Mask, 5), slab(found, 5)) {
		t.Error("a slice without strokes has changed")
	}
	if res.Mask[voxel(8, 2, 6)] {
		t.Error("a stroke cannot correct a segment from elsewhere")
	}
}

func TestProtectedAndBox(t *testing.T) {
	u, _ := begin(t, bright(t))
	protected := make([]bool, len(u.img.Volume.Voxels))
	for i := range protected {
		protected[i] = i%40 < 20
	}
	box := &[2][3]int{{10, 0, 5}, {30, 36, 8}}
	strokes := drawn(inObject, beside)
	res := u.ask(Request{Strokes: strokes, Protected: protected, Box: box, Options: Options{Profile: ProfileFrozen}})
	for i, b := range res.Mask {
		x, z := i%40, i/(40*36)
		if b && (x < 20 || x >= 30 || z < 5 || z >= 8) {
			t.Fatalf("voxel (%d,·,%d) lies outside the box", x, z)
		}
	}
	if count(slab(res.Mask, 5)) == 0 || count(slab(res.Mask, 7)) == 0 {
		t.Error("the object was not carried inside the box")
	}
	res = u.ask(Request{Strokes: strokes, Previous: res.Mask, Options: Options{Profile: ProfileFrozen}})
	if !res.Mask[voxel(12, 18, 6)] || count(slab(res.Mask, 3)) == 0 {
		t.Error("without box and other segments the object is as it was, and carried on")
	}
}

// TestPlanes answers strokes in each of the three planes, single voxels too.
func TestPlanes(t *testing.T) {
	m := bright(t)
	for _, c := range []struct {
		name    string
		strokes []scribble.Stroke
		least   float64
	}{
		{"axial", []scribble.Stroke{inObject}, 0.9}, {"one voxel", []scribble.Stroke{stroke(2, 6, true, 18, 20, 21)}, 0.9},
		{"coronal", []scribble.Stroke{stroke(1, 18, true, 6, 16, 24)}, 0.85}, {"sagittal", []scribble.Stroke{stroke(0, 20, true, 6, 14, 22)}, 0.85},
		{"one sagittal voxel", []scribble.Stroke{stroke(0, 20, true, 6, 18, 19)}, 0.85},
		{"all planes", []scribble.Stroke{inObject, stroke(1, 18, true, 6, 16, 24), stroke(0, 20, true, 6, 14, 22)}, 0.85},
		{"at the edge", []scribble.Stroke{inObject, stroke(2, 0, false, 0, 0, 1), stroke(2, 11, false, 35, 39, 40)}, 0.85},
	} {
		u, object := begin(t, m)
		res := u.draw(c.strokes...)
		// A slice that crosses the second object holds it too: a network that looks at pixels cannot tell them apart.
		for i := range res.Mask {
			if x, y := i%40-20, i/40%36-18; x > 15 && y > 12 {
				res.Mask[i] = false
			}
		}
		if d := overlap(res.Mask, object); d < c.least {
			t.Errorf("%s: Dice %.3f, want %g", c.name, d, c.least)
		}
	}
}

func TestLopsidedStrokes(t *testing.T) {
	u, _ := begin(t, bright(t))
	if res := u.draw(); count(res.Mask) != 0 || res.Mask == nil {
		t.Error("no strokes: the answer must be an empty mask")
	}
	if res := u.draw(beside); res.Mask[voxel(5, 4, 6)] {
		t.Error("background alone")
	}
	contradiction := stroke(2, 5, false, 18, 18, 22)
	also := stroke(2, 5, true, 18, 18, 22)
	if res := u.draw(contradiction, also); len(res.Mask) == 0 {
		t.Error("strokes that contradict each other")
	}
}

func TestOneSlice(t *testing.T) {
	v := volume.NewVolume(volume.New([3]int{40, 36, 1}, [3]float64{1, 1, 1}))
	for i := range v.Voxels {
		if x, y := i%40-20, i/40-18; x*x+y*y < 80 {
			v.Voxels[i] = 1
		}
	}
	m := bright(t)
	set := scribble.NewSet(v.Size, scribble.Stroke{Axis: 2, Positive: true, Pixels: []scribble.Point{{X: 20, Y: 18}}})
	res, _, st, err := m.Interact(t.Context(), m.Prepare(v), Request{Strokes: set, Options: Options{Profile: ProfileHindsight}}, Learned{}, State{})
	if err != nil {
		t.Fatal(err)
	}
	truth := make([]bool, len(v.Voxels))
	for i, x := range v.Voxels {
		truth[i] = x > 0
	}
	if d := overlap(res.Mask, truth); d < 0.9 || len(st.Carried) != 0 {
		t.Errorf("Dice %.3f on an image of one slice, %d slices carried", d, len(st.Carried))
	}
}

func TestUnfitIntensities(t *testing.T) {
	m := bright(t)
	m.Input.Range, m.Input.Percentiles = nil, [2]float64{0.5, 99.5}
	for name, value := range map[string]func(i int) float32{
		"all NaN": func(int) float32 { return float32(math.NaN()) }, "constant": func(int) float32 { return 7 },
		"infinite": func(i int) float32 { return float32(math.Inf(1 - 2*(i%2))) },
		"NaN and numbers": func(i int) float32 {
			if i%3 == 0 {
				return float32(math.NaN())
			}
			return float32(i % 7)
		},
	} {
		v := volume.NewVolume(volume.New(sceneSize, [3]float64{1, 1, 3}))
		for i := range v.Voxels {
			v.Voxels[i] = value(i)
		}
		img := m.Prepare(v)
		if !(img.Low < img.High) {
			t.Errorf("%s: intensities %g … %g", name, img.Low, img.High)
		}
		for _, p := range []Profile{ProfileHindsight, ProfileThesis} {
			u := &user{t: t, m: m, img: img}
			u.ask(Request{Strokes: drawn(inObject, beside), Options: Options{Profile: p}})
			u.ask(Request{Strokes: drawn(inObject, beside, stroke(2, 2, true, 3, 3, 9)), Options: Options{Profile: p}})
		}
	}
}

// TestThesisOnImageOnlyNetwork: such a network can only follow strokes by learning, whatever profile was asked for.
func TestThesisOnImageOnlyNetwork(t *testing.T) {
	for _, p := range []Profile{ProfileThesis, ProfileHindsight} {
		u, _ := begin(t, imageOnly(t))
		res := u.ask(Request{Strokes: drawn(inObject, beside), Options: Options{Profile: p}})
		if len(res.Report.Thesis) != 1 || u.learned.Sets == nil || u.learned.Interactions != 1 || len(res.Report.Thesis[0].Losses) != 3 || res.Report.Expert != 1 {
			t.Errorf("%s: %+v", p, res.Report)
		}
		if r := res.Report.Thesis[0]; r.Marked == 0 || r.Losses[2][1] >= r.Losses[0][1] {
			t.Errorf("%s: %+v", p, r)
		}
	}
	u, _ := begin(t, imageOnly(t))
	if res := u.ask(Request{Strokes: drawn(inObject), Options: Options{Profile: ProfileFrozen}}); u.learned != (Learned{}) || len(res.Report.Thesis) != 0 {
		t.Error("a frozen network has learned")
	}
}

// TestNoStrokeVanishes: one voxel on a slice many times larger than the network's grid still enters the loss.
func TestNoStrokeVanishes(t *testing.T) {
	m := imageOnly(t)
	m.Thickness = scribble.Thickness{}
	v := volume.NewVolume(volume.New([3]int{500, 400, 1}, [3]float64{1, 1, 1}))
	for _, at := range []scribble.Point{{X: 0, Y: 0}, {X: 133, Y: 201}, {X: 499, Y: 399}} {
		set := scribble.NewSet(v.Size, scribble.Stroke{Axis: 2, Positive: true, Pixels: []scribble.Point{at}})
		res, _, _, err := m.Interact(t.Context(), m.Prepare(v), Request{Strokes: set, Options: Options{Profile: ProfileThesis}}, Learned{}, State{})
		if err != nil {
			t.Fatal(err)
		}
		if res.Report.Thesis[0].Marked == 0 {
			t.Errorf("the stroke at %v marks nothing", at)
		}
	}
}

// TestOverlappingStrokesSayNothing: widened strokes of both kinds meet in between, and neither is believed there.
func TestOverlappingStrokesSayNothing(t *testing.T) {
	u, _ := begin(t, imageOnly(t))
	v, err := u.img.view(SliceKey{Axis: 2, Slice: 6})
	if err != nil {
		t.Fatal(err)
	}
	r := &run{Model: u.m, img: u.img, req: Request{Strokes: drawn(stroke(2, 6, true, 10, 10, 20), stroke(2, 6, false, 13, 10, 20))}}
	win, err := r.thesisWindow(v, prompt{})
	if err != nil {
		t.Fatal(err)
	}
	object, other := r.lossMasks(v, win)
	// The network sees the slice as it is, in the middle of its grid of 48².
	row := func(y int) (bool, bool) { return object.At(15+4, y+6), other.At(15+4, y+6) }
	for y, want := range map[int][2]bool{8: {true, false}, 10: {true, false}, 11: {false, false}, 12: {false, false}, 13: {false, true}, 15: {false, true}, 5: {}} {
		if a, b := row(y); a != want[0] || b != want[1] {
			t.Errorf("row %d: object %v, other %v, want %v", y, a, b, want)
		}
	}
}

func TestDivergedLearningStillAnswers(t *testing.T) {
	m := bright(t)
	m.Hindsight.LearningRate, m.Thesis.LearningRate = math.Inf(1), math.Inf(1)
	for _, p := range []Profile{ProfileHindsight, ProfileThesis} {
		u, object := begin(t, m)
		u.ask(Request{Strokes: drawn(inObject), Options: Options{Profile: p}})
		res := u.ask(Request{Strokes: drawn(inObject, stroke(2, 4, true, 18, 18, 22)), Options: Options{Profile: p}})
		if res.Report.Diverged != 1 || overlap(slab(res.Mask, 5), slab(object, 5)) < 0.9 || u.learned != (Learned{}) {
			t.Errorf("%s: %d times diverged; want the answer of the network as it was", p, res.Report.Diverged)
		}
		if again := u.ask(Request{Strokes: drawn(inObject, stroke(2, 4, true, 18, 18, 22)), Options: Options{Profile: p}}); again.Report.Diverged != 0 {
			t.Errorf("%s: the lesson was tried again", p)
		}
	}
}

func TestSliceOnly(t *testing.T) {
	u, _ := begin(t, bright(t))
	ask := func(only bool, strokes ...scribble.Stroke) Result {
		return u.ask(Request{Strokes: drawn(strokes...), Options: Options{Profile: ProfileFrozen, SliceOnly: only}})
	}
	if res := ask(true, inObject); count(res.Mask) != count(slab(res.Mask, 6)) {
		t.Error("more than the one slice was answered")
	}
	whole := ask(false, inObject)
	if count(slab(whole.Mask, 4)) == 0 {
		t.Fatal("nothing was carried")
	}
	res := ask(true, inObject, stroke(2, 8, true, 2, 2, 8))
	for k := range 12 {
		if k != 8 && !slices.Equal(slab(res.Mask, k), slab(whole.Mask, k)) {
			t.Errorf("slice %d has changed", k)
		}
	}
	if res := ask(true); count(res.Mask) != 0 {
		t.Error("the strokes are gone, the carried slices are not")
	}
}

func TestLearnLater(t *testing.T) {
	m := bright(t)
	now, _ := begin(t, m)
	later, _ := begin(t, m)
	for _, strokes := range [][]scribble.Stroke{{inObject}, {inObject, stroke(2, 4, true, 18, 18, 22)}} {
		now.ask(Request{Strokes: drawn(strokes...), Options: Options{Profile: ProfileHindsight}})
		later.ask(Request{Strokes: drawn(strokes...), Options: Options{Profile: ProfileHindsight, LearnLater: true}})
	}
	o := Options{Profile: ProfileHindsight}
	if later.learned.Memory != nil || !m.HasLesson(o, later.state) || m.HasLesson(o, now.state) || m.HasLesson(Options{Profile: ProfileFrozen}, later.state) {
		t.Fatal("the lesson must wait, and only there")
	}
	before := through(t, later.state)
	learned, state, report, err := m.Learn(t.Context(), later.img, o, later.learned, later.state)
	if err != nil || len(report.Learned) != 1 || m.HasLesson(o, state) {
		t.Fatalf("learned %v, %v", report.Learned, err)
	}
	if after := through(t, later.state); !m.HasLesson(o, after) || len(before.Anchors) != len(after.Anchors) {
		t.Error("Learn changed the state it was given")
	}
	if !sameWeights(learned.Memory.Sets.Student, now.learned.Memory.Sets.Student) {
		t.Error("learned later, the same lesson gave other weights")
	}
	done, finished, report, err := m.Finish(t.Context(), later.img, o, learned, state)
	if err != nil || len(report.Learned) != 1 || done.Memory.Lessons != 2 {
		t.Errorf("finishing learned %v, %v", report.Learned, err)
	}
	if _, _, report, err = m.Finish(t.Context(), later.img, o, done, finished); err != nil || len(report.Learned) != 0 {
		t.Errorf("finishing twice learned %v, %v", report.Learned, err)
	}
}

func sameWeights(a, b adapt.Weights) bool {
	for i := range a {
		if !slices.Equal(a[i].Float32s(), b[i].Float32s()) {
			return false
		}
	}
	return len(a) == len(b)
}

func TestDeterminism(t *testing.T) {
	for _, profile := range []Profile{ProfileHindsight, ProfileThesis} {
		var want *user
		var masks [][]bool
		for run := range 2 {
			u, _ := begin(t, bright(t))
			for k, strokes := range [][]scribble.Stroke{{inObject}, {inObject, beside}, {inObject, beside, stroke(2, 4, true, 18, 18, 22)}} {
				res := u.ask(Request{Strokes: drawn(strokes...), Options: Options{Profile: profile}})
				if run == 0 {
					masks = append(masks, res.Mask)
				} else if !slices.Equal(masks[k], res.Mask) {
					t.Errorf("%s: interaction %d gave another answer", profile, k)
				}
				// What was kept on disk must go on like what was kept in memory.
				if run == 1 {
					u.state, u.learned = through(t, u.state), through(t, u.learned)
				}
			}
			if want == nil {
				want = u
				continue
			}
			if profile == ProfileThesis && !sameWeights(u.learned.Sets.Averages[0], want.learned.Sets.Averages[0]) ||
				profile == ProfileHindsight && !sameWeights(u.learned.Memory.Sets.Student, want.learned.Memory.Sets.Student) {
				t.Errorf("%s: other weights", profile)
			}
		}
	}
}

func TestFailedRequestsLeaveNoTrace(t *testing.T) {
	u, _ := begin(t, bright(t))
	u.draw(inObject)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wrongSize := scribble.NewSet([3]int{41, 36, 12}, inObject)
	for name, c := range map[string]struct {
		ctx  context.Context
		req  Request
		want error
	}{
		"cancelled": {ctx, Request{Strokes: drawn(inObject, beside), Options: Options{Profile: ProfileHindsight}}, context.Canceled},
		"previous":  {t.Context(), Request{Strokes: drawn(inObject), Previous: make([]bool, 5)}, nil},
		"protected": {t.Context(), Request{Strokes: drawn(inObject), Protected: make([]bool, 5)}, nil},
		"strokes":   {t.Context(), Request{Strokes: wrongSize}, nil},
	} {
		before := through(t, u.state)
		_, learned, state, err := u.m.Interact(c.ctx, u.img, c.req, u.learned, u.state)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: error %v", name, err)
		}
		if learned != (Learned{}) || state.Anchors != nil || len(before.Anchors) != len(u.state.Anchors) {
			t.Errorf("%s: a failed request left a trace", name)
		}
	}
}

// TestConcurrentUsers shares a model, an image and a state.
func TestConcurrentUsers(t *testing.T) {
	u, _ := begin(t, bright(t))
	u.draw(inObject)
	req := Request{Strokes: drawn(inObject, stroke(2, 4, true, 18, 18, 22)), Options: Options{Profile: ProfileHindsight}}
	masks := make(chan []bool, 3)
	for range cap(masks) {
		go func() {
			res, _, _, err := u.m.Interact(context.Background(), u.img, req, u.learned, u.state)
			if err != nil {
				t.Error(err)
			}
			masks <- res.Mask
		}()
	}
	first := <-masks
	for range cap(masks) - 1 {
		if !slices.Equal(first, <-masks) {
			t.Error("concurrent requests differ")
		}
	}
}

// TestAnyStrokes draws anything anywhere: ask checks strokes, other segments and arguments, here in several requests in turn.
func TestAnyStrokes(t *testing.T) {
	m := bright(t)
	rapid.Check(t, func(rt *rapid.T) {
		u, _ := begin(t, m)
		var strokes []scribble.Stroke
		for range rapid.IntRange(1, 3).Draw(rt, "requests") {
			axis := rapid.IntRange(0, 2).Draw(rt, "axis")
			x0 := rapid.IntRange(0, 30).Draw(rt, "x")
			strokes = append(strokes, stroke(axis, rapid.IntRange(0, sceneSize[axis]-1).Draw(rt, "slice"), rapid.Bool().Draw(rt, "positive"),
				rapid.IntRange(0, 30).Draw(rt, "y"), x0, x0+rapid.IntRange(1, 8).Draw(rt, "length")))
			req := Request{Strokes: drawn(strokes...), Options: Options{Profile: ProfileFrozen, SliceOnly: rapid.Bool().Draw(rt, "slice only")}}
			if rapid.Bool().Draw(rt, "edited") && u.state.Answer != nil {
				req.Previous = slices.Clone(u.state.Answer)
				at := rapid.IntRange(0, len(req.Previous)-50).Draw(rt, "edit")
				for i := range 40 {
					req.Previous[at+i] = !req.Previous[at+i]
				}
			}
			if rapid.Bool().Draw(rt, "others") {
				req.Protected = make([]bool, len(u.img.Volume.Voxels))
				for i := range req.Protected {
					req.Protected[i] = i%7 == 0
				}
			}
			u.ask(req)
			if rapid.Bool().Draw(rt, "erase") {
				strokes = strokes[1:]
			}
		}
	})
}

// The slice that is worth a scribble is the least sure of those the object was carried to.
func TestNextSlice(t *testing.T) {
	at := func(axis, slice int) SliceKey { return SliceKey{Axis: axis, Slice: slice} }
	unsure, sure, edge := Probability{0, 255, 128, 100}, Probability{0, 255, 250, 3}, Probability{0, 128, 128, 128}
	st := State{Carried: map[SliceKey]Probability{at(2, 3): unsure, at(2, 4): sure, at(2, 5): unsure, at(0, 1): edge},
		Anchors: map[SliceKey]Anchor{at(2, 6): {Answer: edge}}}
	next, ok := st.Next([3]float64{2, 3, 1})
	if want := (SliceKey{Axis: 2, Slice: 3}); !ok || next.Slice != want || math.Abs(next.Wrong-(127+100)/255.0*6) > 1e-9 {
		t.Errorf("next %+v, %v, want slice %v with %g mm²", next, ok, want, (127+100)/255.0*6)
	}
	// In mm² the other plane is larger.
	if next, _ := st.Next([3]float64{1, 3, 4}); next.Slice != (SliceKey{Axis: 0, Slice: 1}) {
		t.Errorf("next %+v, want the slice of large pixels", next)
	}
	if _, ok := (State{Carried: map[SliceKey]Probability{at(2, 1): {0, 255}}}).Next([3]float64{1, 1, 1}); ok {
		t.Error("an answer without a doubt asks for a scribble")
	}
	m := bright(t)
	v, _ := scene()
	_, _, st, err := m.Interact(t.Context(), m.Prepare(v), Request{Strokes: scribble.NewSet(v.Size, line(2, 6, 18, 15, 25)), Options: Options{Profile: ProfileFrozen}}, Learned{}, State{})
	if err != nil {
		t.Fatal(err)
	}
	if next, ok := st.Next(v.Spacing); !ok || next.Slice.Axis != 2 || next.Slice.Slice == 6 {
		t.Errorf("next %+v, %v, want a slice that the object was carried to", next, ok)
	}
}

// Uncertainty is asked at the same places each time, and a network of images alone is less certain of a faint picture than of a clear one.
func TestUncertainty(t *testing.T) {
	questions := map[*Model]int{bright(t): sampledSlices * sampledClicks, imageOnly(t): sampledSlices}
	for m, want := range questions {
		v, _ := scene()
		asked := 0
		ask := func() float64 {
			asked = 0
			u, err := m.Uncertainty(t.Context(), m.Prepare(v), ProfileThesis, Learned{}, func(_ context.Context, work func() error) error {
				asked++
				return work()
			})
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
		clear := ask()
		if again := ask(); asked != want || again != clear {
			t.Errorf("%d questions with the answers %g and %g, want %d and the same", asked, clear, again, want)
		}
		for i := range v.Voxels {
			v.Voxels[i] = 0.5 + (v.Voxels[i]-0.5)*0.2 // everything lies near the network's threshold
			if area := sceneSize[0] * sceneSize[1]; i%area < 2 {
				v.Voxels[i] = float32(i % area) // and noise is as strong as before
			}
		}
		if faint := ask(); want == sampledSlices && !(faint > clear) {
			t.Errorf("a faint picture has uncertainty %g, a clear one %g", faint, clear)
		}
		stop := errors.New("stop")
		if _, err := m.Uncertainty(t.Context(), m.Prepare(v), ProfileThesis, Learned{}, func(context.Context, func() error) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("error %v, want the one of the device", err)
		}
	}
}
