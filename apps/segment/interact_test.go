package segment

import (
	"slices"
	"testing"

	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/engine/adapt"
)

// blocks is a volume whose left half is dark and whose right half is bright, with a slice more along k than a patch needs.
func blocks() Image {
	v := volume.NewVolume(volume.New([3]int{24, 16, 6}, [3]float64{1, 1, 3}))
	for i := range v.Voxels {
		v.Voxels[i] = 0.2
		if i%24 >= 12 {
			v.Voxels[i] = 0.8
		}
	}
	return Image{Volume: v, High: 1}
}

// stroke is a line along i on an axial slice.
func stroke(img Image, positive bool, x, y, k, n int) scribble.Set {
	s := scribble.Stroke{Axis: 2, Slice: k, Positive: positive}
	for i := range n {
		s.Pixels = append(s.Pixels, scribble.Point{X: x + i, Y: y})
	}
	return scribble.NewSet(img.Volume.Size, s)
}

func draw(t *testing.T, m *Model, img Image, req Request, l Learned, st State) (Learned, State, Report) {
	t.Helper()
	l, st, r, err := m.Interact(t.Context(), img, req, l, st, Alone)
	if err != nil {
		t.Fatal(err)
	}
	return l, st, r
}

func count(labels []uint8, number uint8) int {
	n := 0
	for _, l := range labels {
		if l == number {
			n++
		}
	}
	return n
}

// Strokes of a label teach its class, those on the background class 0, in slices as in volumes: the whole of each half follows.
func TestStrokesTeachTheirClass(t *testing.T) {
	for _, axes := range []int{2, 3} {
		m := newModel(t, looking(axes, 4), Input{})
		img := blocks()
		marks := []Mark{{2, stroke(img, true, 14, 8, 2, 8)}, {3, stroke(img, false, 2, 8, 2, 8)}, {1, stroke(img, true, 14, 2, 2, 0)}}
		var l Learned
		var st State
		before := count(segmented(t, m, img), 2)
		for n := range 4 {
			// Further strokes on other slices; the earlier ones are still there.
			marks[0].Strokes = marks[0].Strokes.Merge(stroke(img, true, 14, 4+n, n, 8))
			marks[1].Strokes = marks[1].Strokes.Merge(stroke(img, false, 2, 4+n, n, 8))
			var r Report
			l, st, r = draw(t, m, img, Request{Marks: slices.Clone(marks)}, l, st)
			if r.Windows == 0 || r.Diverged > 0 {
				t.Errorf("%d axes: %+v, want windows learned from", axes, r)
			}
		}
		right, wrong := 0, 0
		for i, label := range st.Labels {
			switch bright := i%24 >= 12; {
			case bright && label == 2, !bright && label == 0:
				right++
			default:
				wrong++
			}
		}
		if wrong*5 > right {
			t.Errorf("%d axes: %d voxels right and %d wrong after four interactions; %d had label 2 before any", axes, right, wrong, before)
		}
		// What was learned answers images without strokes.
		labels, err := m.Segment(t.Context(), img, m.Teacher(l), Alone)
		if err != nil {
			t.Fatal(err)
		}
		if n := count(labels, 2); n < len(labels)*4/10 {
			t.Errorf("%d axes: the teacher gives %d of %d voxels label 2 without strokes", axes, n, len(labels))
		}
	}
}

func TestStrokesKeepTheirLabel(t *testing.T) {
	m := newModel(t, stairs(2), Input{})
	img := blocks()
	marks := []Mark{{2, stroke(img, true, 1, 8, 2, 6)}, {1, stroke(img, true, 14, 8, 2, 6)}, {1, stroke(img, false, 14, 3, 2, 4)}}
	for _, frozen := range []bool{true, false} {
		l, st, _ := draw(t, m, img, Request{Marks: marks, Frozen: frozen}, Learned{}, State{})
		if (l.Sets == nil) != frozen {
			t.Errorf("frozen %v: weights learned %v", frozen, l.Sets != nil)
		}
		at := func(x, y, k int) uint8 { return st.Labels[img.Volume.Index(x, y, k)] }
		if at(3, 8, 2) != 2 || at(15, 8, 2) != 1 || at(15, 3, 2) != 0 {
			t.Errorf("frozen %v: stroke voxels have labels %d, %d, %d, want 2, 1, 0", frozen, at(3, 8, 2), at(15, 8, 2), at(15, 3, 2))
		}
	}
	// Voxels that two labels claim say nothing.
	crossing := []Mark{{1, stroke(img, true, 14, 8, 2, 6)}, {2, stroke(img, true, 16, 8, 2, 1)}}
	_, st, _ := draw(t, m, img, Request{Marks: crossing, Frozen: true}, Learned{}, State{})
	if got := st.Labels[img.Volume.Index(16, 8, 2)]; got != 3 {
		t.Errorf("a voxel claimed by two labels has %d, want the network's own 3", got)
	}
}

func TestOnlyWhatChangedIsLearned(t *testing.T) {
	m := newModel(t, looking(2, 4), Input{Patch: []int{8, 8}, Overlap: 0.25})
	img := blocks()
	one := Mark{2, stroke(img, true, 14, 8, 2, 4)}
	l, st, r := draw(t, m, img, Request{Marks: []Mark{one}}, Learned{}, State{})
	if r.Windows != 1 {
		t.Errorf("%d windows for one short stroke, want 1", r.Windows)
	}
	same, _, r := draw(t, m, img, Request{Marks: []Mark{one}}, l, st)
	if r.Windows != 0 || same != l {
		t.Error("the same strokes again were learned from")
	}
	// A stroke longer than a window needs several, one on each of two slices two.
	_, _, r = draw(t, m, img, Request{Marks: []Mark{one, {1, stroke(img, true, 0, 3, 2, 20)}, {1, stroke(img, true, 2, 3, 4, 3)}}}, l, st)
	if r.Windows < 4 {
		t.Errorf("%d windows for a stroke of 20 pixels in windows of 8 and one on another slice", r.Windows)
	}
	erased, next, r := draw(t, m, img, Request{}, l, st)
	if r.Windows != 0 || erased != l || len(next.Labels) != len(st.Labels) {
		t.Error("erased strokes were learned from")
	}
	again, st2, _ := draw(t, m, img, Request{Marks: []Mark{one}}, Learned{}, State{})
	if !slices.Equal(st2.Labels, st.Labels) || !sameWeights(again.Sets, l.Sets) {
		t.Error("the same story gives other weights")
	}
}

func sameWeights(a, b *adapt.Sets) bool {
	for i := range a.Student {
		if !slices.Equal(a.Student[i].Float32s(), b.Student[i].Float32s()) {
			return false
		}
	}
	return true
}

// Asked for the changed part alone, the other slices stay as they were.
func TestPartOnly(t *testing.T) {
	for _, axes := range []int{2, 3} {
		in := Input{}
		if axes == 3 {
			in = Input{Patch: []int{2, 16, 24}}
		}
		m := newModel(t, looking(axes, 4), in)
		img := blocks()
		_, st, _ := draw(t, m, img, Request{Frozen: true}, Learned{}, State{})
		marks := []Mark{{2, stroke(img, true, 14, 8, 3, 8)}, {2, stroke(img, false, 1, 8, 3, 8)}}
		_, next, _ := draw(t, m, img, Request{Marks: marks, PartOnly: true}, Learned{}, st)
		_, whole, _ := draw(t, m, img, Request{Marks: marks}, Learned{}, st)
		area := 24 * 16
		if !slices.Equal(next.Labels[:2*area], st.Labels[:2*area]) || !slices.Equal(next.Labels[5*area:], st.Labels[5*area:]) {
			t.Errorf("%d axes: slices without strokes have changed", axes)
		}
		if !slices.Equal(next.Labels[3*area:4*area], whole.Labels[3*area:4*area]) || slices.Equal(next.Labels[3*area:4*area], st.Labels[3*area:4*area]) {
			t.Errorf("%d axes: the slice with strokes is not answered as it is with all others", axes)
		}
	}
}

// However coarse the network's grid is, a stroke of one voxel reaches it.
func TestNoStrokeVanishes(t *testing.T) {
	m := newModel(t, looking(2, 4), Input{Resize: true, Patch: []int{4, 4}})
	img := blocks()
	g := m.gridOf(img.Volume.Geometry)
	for x := range 24 {
		marks := []Mark{{2, stroke(img, true, x, 5, 1, 1)}}
		parts := m.parts(g, changed(voxels(marks), nil))
		if len(parts) != 1 {
			t.Fatalf("%d windows for one voxel", len(parts))
		}
		if _, any := m.lesson(g, g.cut(img), parts[0], voxels(marks)); !any {
			t.Errorf("a stroke at %d is lost on the grid", x)
		}
	}
}

func TestInteractRefuses(t *testing.T) {
	m := newModel(t, stairs(2), Input{})
	img := blocks()
	for _, mark := range []Mark{{4, stroke(img, true, 1, 1, 1, 1)}, {-1, scribble.Set{}}, {1, scribble.NewSet([3]int{5, 5, 5}, scribble.Stroke{Axis: 2, Pixels: []scribble.Point{{}}})}} {
		if _, _, _, err := m.Interact(t.Context(), img, Request{Marks: []Mark{mark}}, Learned{}, State{}, Alone); err == nil {
			t.Errorf("strokes %+v were accepted", mark)
		}
	}
}

func TestKey(t *testing.T) {
	img := blocks()
	a, b := Mark{1, stroke(img, true, 1, 1, 1, 3)}, Mark{2, stroke(img, true, 1, 4, 1, 3)}
	if Key([]Mark{a, b}) != Key([]Mark{b, {3, scribble.NewSet(img.Volume.Size)}, a}) {
		t.Error("the same strokes have two keys")
	}
	if Key([]Mark{a, b}) == Key([]Mark{{2, a.Strokes}, {1, b.Strokes}}) || Key(nil) == Key([]Mark{a}) {
		t.Error("other strokes have the same key")
	}
}

// What the user changed by hand stands, is learned from, and gives way to strokes drawn over it.
func TestEdits(t *testing.T) {
	m := newModel(t, looking(2, 4), Input{})
	img := blocks()
	marks := []Mark{{2, stroke(img, true, 14, 8, 2, 8)}}
	l, st, _ := draw(t, m, img, Request{Marks: marks}, Learned{}, State{})
	at := func(x, y, k int) int { return img.Volume.Index(x, y, k) }
	edits := make([]uint8, len(img.Volume.Voxels))
	for x := 14; x < 22; x++ {
		edits[at(x, 4, 3)] = 2 + 1 // the second label
		edits[at(x-12, 4, 3)] = 1  // background
	}
	l2, edited, r := draw(t, m, img, Request{Marks: marks, Edits: edits}, l, st)
	if r.Windows != 1 || l2 == l {
		t.Errorf("%d windows learned from, want that of the slice changed by hand", r.Windows)
	}
	if edited.Labels[at(15, 4, 3)] != 2 || edited.Labels[at(3, 4, 3)] != 0 {
		t.Error("what was changed by hand is not in the answer")
	}
	more := append(slices.Clone(marks), Mark{1, stroke(img, true, 14, 4, 3, 2)}, Mark{2, stroke(img, true, 14, 8, 4, 8)})
	_, later, _ := draw(t, m, img, Request{Marks: more}, l2, edited)
	if later.Labels[at(16, 4, 3)] != 2 || later.Labels[at(3, 4, 3)] != 0 {
		t.Error("what was changed by hand is gone after the next strokes")
	}
	if later.Labels[at(15, 4, 3)] != 1 {
		t.Error("a stroke over what was changed by hand is not the newer word")
	}
	_, again, r := draw(t, m, img, Request{Marks: more}, l2, later)
	if r.Windows != 0 || !slices.Equal(again.Edits, later.Edits) {
		t.Error("edits that were learned from are learned again")
	}
	for _, bad := range [][]uint8{make([]uint8, 7), slices.Repeat([]uint8{9}, len(edits))} {
		if _, _, _, err := m.Interact(t.Context(), img, Request{Edits: bad}, l, st, Alone); err == nil {
			t.Error("edits that do not fit the image were accepted")
		}
	}
}
