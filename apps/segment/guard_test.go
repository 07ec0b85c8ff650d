package segment

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"scrawl/adapters/volume"
	"scrawl/engine/adapt"
)

// stained is a picture whose left part is dark and whose right part is bright.
func stained(dark int) Image {
	v := volume.NewVolume(volume.New([3]int{24, 16, 1}, [3]float64{1, 1, 1}))
	for i := range v.Voxels {
		v.Voxels[i] = 0.9
		if i%24 < dark {
			v.Voxels[i] = 0.1
		}
	}
	return Image{Volume: v, High: 1}
}

// A network that knows bright objects finds dark ones from the first strokes on, and on the next image before any.
func TestGuardChoosesTheNegative(t *testing.T) {
	m := newModel(t, stairs(2), Input{})
	m.Thesis.Guard, m.Thesis.Anchor, m.Thesis.LearningRate, m.Thesis.Replay = true, 0.5, 1e-3, 4
	img := stained(10)
	if n := count(segmented(t, m, img), 3); n != 14*16 {
		t.Fatalf("unasked, %d voxels have the label high; this test wants the bright ones", n)
	}
	marks := []Mark{{3, stroke(img, true, 2, 4, 0, 5).Merge(stroke(img, false, 14, 8, 0, 6))}}
	l, st, r := draw(t, m, img, Request{Marks: marks}, Learned{}, State{})
	dark := func(labels []uint8, width int) int {
		right := 0
		for i, label := range labels {
			if (label == 3) == (i%24 < width) {
				right++
			}
		}
		return right
	}
	if n := dark(st.Labels, 10); n != 24*16 || r.Windows != 1 {
		t.Errorf("after strokes %d of %d voxels are right, %d windows learned from", n, 24*16, r.Windows)
	}
	if again, same, r := draw(t, m, img, Request{Marks: marks}, l, st); r.Windows != 0 || again != l || !slices.Equal(same.Labels, st.Labels) {
		t.Errorf("the same strokes again: %d windows learned from, same answer %v", r.Windows, slices.Equal(same.Labels, st.Labels))
	}
	next := stained(6)
	labels, err := m.Untouched(t.Context(), next, l, Alone)
	if err != nil {
		t.Fatal(err)
	}
	if n := dark(labels, 6); n != 24*16 {
		t.Errorf("of the next image %d of %d voxels are right before any stroke", n, 24*16)
	}
	if labels, err = m.Untouched(t.Context(), next, Learned{}, Alone); err != nil || count(labels, 3) != 18*16 {
		t.Errorf("another user's first mask has the label high in %d voxels, %v", count(labels, 3), err)
	}
	// What was drawn is taken back: so is what it had changed.
	_, st, _ = draw(t, m, next, Request{Marks: []Mark{{3, stroke(next, false, 1, 4, 0, 3)}}}, l, State{})
	_, st, _ = draw(t, m, next, Request{}, l, st)
	if n := dark(st.Labels, 6); n != 24*16 {
		t.Errorf("without strokes %d of %d voxels are as they were", n, 24*16)
	}
}

// picture draws labels 0 to 2 of a small image.
func picture(rt *rapid.T, name string) []uint8 {
	return rapid.SliceOfN(rapid.Uint8Range(0, 2), 35, 35).Draw(rt, name)
}

// Whatever the answers and strokes are, every voxel of their merger comes from one of them; without the rival's lead no voxel changes in whose
// region no stroke speaks for the change, nor more than the strokes there reach.
func TestMergedChangesWhatStrokesSpeakFor(t *testing.T) {
	size := [3]int{7, 5, 1}
	rapid.Check(t, func(rt *rapid.T) {
		shown, rival := picture(rt, "shown"), picture(rt, "rival")
		drawn := rapid.MapOf(rapid.IntRange(0, 34), rapid.Uint8Range(0, 2)).Draw(rt, "drawn")
		careful, bold := merged(size, shown, rival, drawn, false), merged(size, shown, rival, drawn, true)
		changed, speaking := 0, 0
		for i := range shown {
			for _, l := range []uint8{careful[i], bold[i]} {
				if l != shown[i] && l != rival[i] {
					rt.Fatalf("voxel %d has %d, of %d and %d", i, l, shown[i], rival[i])
				}
			}
			if careful[i] != shown[i] {
				changed++
			}
		}
		for at, l := range drawn {
			if l == rival[at] && l != shown[at] {
				speaking++
			}
		}
		if changed > reach*speaking {
			rt.Fatalf("%d voxels changed by %d of strokes", changed, speaking)
		}
		if len(drawn) == 0 && !slices.Equal(bold, rival) {
			rt.Fatal("no stroke speaks against the rival, which leads, and yet the answer is not its own")
		}
	})
}

func TestMergedGoesByRegions(t *testing.T) {
	// Two regions of label 1 in the rival's answer: a stroke takes its side in the first.
	shown, rival := make([]uint8, 60), make([]uint8, 60)
	for i := range 5 {
		rival[i], rival[i+50] = 1, 1
	}
	size := [3]int{60, 1, 1}
	for name, c := range map[string]struct {
		drawn       map[int]uint8
		leads       bool
		left, right int
	}{
		"spoken for":           {map[int]uint8{2: 1}, false, 5, 0},
		"spoken for, it leads": {map[int]uint8{2: 1}, true, 5, 5},
		"spoken against":       {map[int]uint8{2: 0}, true, 0, 5},
		"spoken both ways":     {map[int]uint8{2: 0, 3: 1}, false, 0, 0},
		"beside it":            {map[int]uint8{20: 1}, false, 0, 0},
	} {
		got := merged(size, shown, rival, c.drawn, c.leads)
		if l, r := count(got[:30], 1), count(got[30:], 1); l != c.left || r != c.right {
			t.Errorf("%s: %d and %d voxels, want %d and %d", name, l, r, c.left, c.right)
		}
	}
	// A large region is followed as far as the stroke reaches, nearest first.
	for i := range rival {
		rival[i] = 1
	}
	got := merged(size, shown, rival, map[int]uint8{0: 1}, false)
	if n := count(got, 1); n != reach || count(got[:reach], 1) != reach {
		t.Errorf("a stroke of one voxel changes %d, want the nearest %d", n, reach)
	}
}

func TestExplained(t *testing.T) {
	shown, rival := []uint8{0, 0, 1, 1, 0}, []uint8{1, 1, 0, 1, 0}
	for name, c := range map[string]struct {
		drawn map[int]uint8
		want  float64
	}{
		"nothing drawn":       {nil, 0},
		"all right":           {map[int]uint8{0: 1, 1: 1, 2: 0}, 1},
		"half of one label":   {map[int]uint8{0: 1, 4: 1, 2: 0}, 0.5},
		"the shown was right": {map[int]uint8{0: 0}, -1},
		"both were right":     {map[int]uint8{3: 1}, 0},
	} {
		if got := explained(shown, rival, c.drawn); got != c.want {
			t.Errorf("%s: %g, want %g", name, got, c.want)
		}
	}
}

// Frozen requests to a guarded model learn nothing and are no business of the guard.
func TestGuardLeavesFrozenAlone(t *testing.T) {
	m := newModel(t, stairs(2), Input{})
	m.Thesis.Guard = true
	img := stained(10)
	l, st, _ := draw(t, m, img, Request{Marks: []Mark{{3, stroke(img, true, 2, 4, 0, 5)}}, Frozen: true}, Learned{}, State{})
	if l.Sets != nil || st.Guard != nil || count(st.Labels, 3) != 14*16+5 {
		t.Errorf("learned %v, guard %v, %d voxels", l.Sets != nil, st.Guard != nil, count(st.Labels, 3))
	}
	if _, err := m.Untouched(t.Context(), img, Learned{Sets: &adapt.Sets{}}, Alone); err != nil {
		t.Errorf("first mask by a record without any entry: %v", err)
	}
}
