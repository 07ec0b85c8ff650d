package scribble

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"scrawl/adapters/volume"
)

func labelMap(size [3]int, spacing [3]float64) *volume.LabelMap {
	m := &volume.LabelMap{Labels: make([]uint16, size[0]*size[1]*size[2])}
	m.Size, m.Spacing = size, spacing
	m.Direction = [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}
	return m
}

// paint sets voxels of a map with spacing 1, 1, 3, so that the acquisition plane is k.
func paint(size [3]int, label uint16, voxels ...[3]int) *volume.LabelMap {
	m := labelMap(size, [3]float64{1, 1, 3})
	for _, v := range voxels {
		m.Labels[(v[2]*size[1]+v[1])*size[0]+v[0]] = label
	}
	return m
}

func mustRead(t testing.TB, m *volume.LabelMap) Set {
	t.Helper()
	set, err := FromLabels(m, 4, 5)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func digits(s string) []float32 {
	f := make([]float32, len(s))
	for i := range s {
		f[i] = float32(s[i] - '0')
	}
	return f
}

func TestAgainstScipy(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Size         [3]int
		Spacing      [3]float64
		Labels, M, Y string
		Slice        int
		Strokes      [][4]json.RawMessage
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		m := labelMap(c.Size, c.Spacing)
		for i := range m.Labels {
			m.Labels[i] = uint16(c.Labels[i] - '0')
		}
		got := mustRead(t, m)
		var want []Stroke
		for _, raw := range c.Strokes {
			var s Stroke
			var pixels [][2]int
			for i, to := range []any{&s.Axis, &s.Slice, &s.Positive, &pixels} {
				if err := json.Unmarshal(raw[i], to); err != nil {
					t.Fatal(err)
				}
			}
			for _, p := range pixels {
				s.Pixels = append(s.Pixels, Point{X: p[0], Y: p[1]})
			}
			want = append(want, s)
		}
		if w := NewSet(c.Size, want...); !reflect.DeepEqual(got, w) {
			t.Errorf("size %v: strokes\n%v\nwant\n%v", c.Size, got.Strokes, w.Strokes)
		}
		lm, ly := got.LossMaps(Plane{2, c.Slice}, Thickness{Sigma: 1.2, Epsilon: 0.03})
		if !slices.Equal(lm, digits(c.M)) || !slices.Equal(ly, digits(c.Y)) {
			t.Errorf("size %v: loss maps\n%v\n%v\nwant\n%s\n%s", c.Size, lm, ly, c.M, c.Y)
		}
	}
}

func TestPlanes(t *testing.T) {
	size := [3]int{10, 10, 10}
	for _, c := range []struct {
		name   string
		voxels [][3]int
		want   []Plane
	}{
		{"speck", [][3]int{{3, 4, 5}}, []Plane{{2, 5}}},
		{"line in the acquisition plane", [][3]int{{3, 4, 5}, {4, 4, 5}, {5, 4, 5}}, []Plane{{2, 5}}},
		{"line across it", [][3]int{{3, 4, 5}, {3, 4, 6}, {3, 4, 7}}, []Plane{{1, 4}}},
		{"sagittal bend", [][3]int{{3, 4, 5}, {3, 5, 6}, {3, 4, 7}}, []Plane{{0, 3}}},
		{"on two slices", [][3]int{{3, 4, 5}, {4, 4, 5}, {4, 5, 6}}, []Plane{{2, 5}, {2, 6}}},
		{"corner to corner", [][3]int{{0, 0, 5}, {1, 1, 5}}, []Plane{{2, 5}}},
		{"apart", [][3]int{{0, 0, 5}, {2, 0, 5}}, []Plane{{2, 5}, {2, 5}}},
		{"no wrap from row to row", [][3]int{{9, 0, 5}, {0, 1, 5}}, []Plane{{2, 5}, {2, 5}}},
	} {
		set := mustRead(t, paint(size, 4, c.voxels...))
		var got []Plane
		for _, s := range set.Strokes {
			got = append(got, s.Plane())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: strokes on %v, want %v", c.name, got, c.want)
		}
	}
}

func TestAcquisitionAxis(t *testing.T) {
	for _, c := range []struct {
		size    [3]int
		spacing [3]float64
		want    int
	}{
		{[3]int{9, 9, 9}, [3]float64{1, 1, 1}, 2},
		{[3]int{9, 9, 9}, [3]float64{3, 1, 1}, 0},
		{[3]int{9, 9, 9}, [3]float64{3, 3, 1}, 1},
		{[3]int{9, 9, 1}, [3]float64{3, 3, 1}, 2},
	} {
		if got := acquisitionAxis(volume.Geometry{Size: c.size, Spacing: c.spacing}); got != c.want {
			t.Errorf("%v spaced %v: axis %d, want %d", c.size, c.spacing, got, c.want)
		}
	}
}

func TestFromLabelsRefuses(t *testing.T) {
	m := labelMap([3]int{2, 2, 2}, [3]float64{1, 1, 1})
	if _, err := FromLabels(m, 3, 3); err == nil {
		t.Error("one label for both layers was accepted")
	}
	m.Labels = m.Labels[1:]
	if _, err := FromLabels(m, 3, 4); err == nil {
		t.Error("a short label map was accepted")
	}
}

func TestAbsentLayers(t *testing.T) {
	m := paint([3]int{3, 3, 3}, 4, [3]int{1, 1, 1})
	for _, layers := range [][2]uint16{{0, 0}, {0, 7}, {7, 0}} {
		if set, err := FromLabels(m, layers[0], layers[1]); err != nil || !set.Empty() {
			t.Errorf("layers %v: %v, %v, want no strokes", layers, set, err)
		}
	}
}

func TestClicks(t *testing.T) {
	g := volume.Geometry{Size: [3]int{20, 20, 5}, Spacing: [3]float64{1, 1, 4}}
	set, outside := FromClicks(g, [][3]int{{5, 5, 2}, {-1, 3, 0}, {0, 0, 1}}, [][3]int{{7, 5, 2}, {3, 3, 5}}, 2)
	if outside != 2 {
		t.Errorf("%d clicks outside, want 2", outside)
	}
	if len(set.Strokes) != 3 {
		t.Fatalf("%d strokes, want 3", len(set.Strokes))
	}
	positive, negative := set.Masks(Plane{2, 2})
	if !positive.At(5, 5) || !negative.At(7, 5) || positive.At(6, 5) || negative.At(6, 5) || positive.At(7, 5) {
		t.Errorf("two close clicks do not both keep their side: %v %v", positive.Points(), negative.Points())
	}
	if corner, _ := set.Masks(Plane{2, 1}); corner.Count() != 6 {
		t.Errorf("a disc of radius 2 in the corner has %d pixels, want 6", corner.Count())
	}
	single, _ := FromClicks(g, [][3]int{{5, 5, 2}}, nil, 0)
	if len(single.Strokes[0].Pixels) != 1 {
		t.Errorf("a disc of radius 0 has %d pixels, want 1", len(single.Strokes[0].Pixels))
	}
}

func TestROI(t *testing.T) {
	size := [3]int{10, 20, 30}
	for _, c := range []struct {
		roi  []int
		want Box
		ok   bool
	}{
		{nil, Box{Hi: size}, true},
		{[]int{2, 5, 3, 6, 4, 7}, Box{[3]int{2, 3, 4}, [3]int{5, 6, 7}}, true},
		{[]int{5, 2, 6, 3, 4, 7}, Box{[3]int{2, 3, 4}, [3]int{5, 6, 7}}, true},
		{[]int{-5, 99, 19, -3, 0, 30}, Box{[3]int{0, 0, 0}, [3]int{10, 19, 30}}, true},
		{[]int{2, 2, 3, 6, 4, 7}, Box{}, false},
		{[]int{11, 12, 3, 6, 4, 7}, Box{}, false},
		{[]int{1, 2, 3}, Box{}, false},
	} {
		got, err := FromROI(c.roi, size)
		if (err == nil) != c.ok || got != c.want && c.ok {
			t.Errorf("roi %v: %v, %v, want %v", c.roi, got, err, c.want)
		}
	}
}

func TestStrokeThatGrowsIntoAnOldOne(t *testing.T) {
	size := [3]int{10, 10, 4}
	before := mustRead(t, paint(size, 4, [3]int{1, 1, 2}, [3]int{2, 1, 2}))
	after := mustRead(t, paint(size, 4, [3]int{1, 1, 2}, [3]int{2, 1, 2}, [3]int{3, 1, 2}, [3]int{3, 2, 3}))
	want := NewSet(size, Stroke{2, 2, true, []Point{{X: 3, Y: 1}}}, Stroke{2, 3, true, []Point{{X: 3, Y: 2}}})
	if got := after.Added(before); !reflect.DeepEqual(got, want) {
		t.Errorf("added %v, want %v", got.Strokes, want.Strokes)
	}
	if got := after.Removed(before); !got.Empty() {
		t.Errorf("removed %v, want nothing", got.Strokes)
	}
}

func TestBothSignsSayNothing(t *testing.T) {
	set := NewSet([3]int{4, 4, 1}, Stroke{2, 0, true, []Point{{X: 0}, {X: 1}}}, Stroke{2, 0, false, []Point{{X: 1}, {X: 2}}})
	positive, negative := set.Masks(Plane{2, 0})
	if positive.Count() != 1 || negative.Count() != 1 || positive.At(1, 0) {
		t.Errorf("positive %v, negative %v", positive.Points(), negative.Points())
	}
	set.Voxels(func(at int, _ bool) {
		if at == 1 {
			t.Error("a voxel of both signs was visited")
		}
	})
	m, y := set.LossMaps(Plane{2, 0}, Thickness{})
	if want := []float32{1, 0, 1, 0}; !slices.Equal(m[:4], want) || y[0] != 1 || y[2] != 0 {
		t.Errorf("m %v, y %v", m[:4], y[:4])
	}
}

func TestCrossing(t *testing.T) {
	set := NewSet([3]int{5, 6, 7}, Stroke{0, 3, true, []Point{{X: 4, Y: 2}, {X: 4, Y: 3}}})
	if positive, _ := set.Crossing(Plane{2, 2}); !slices.Equal(positive.Points(), []Point{{X: 3, Y: 4}}) {
		t.Errorf("a sagittal stroke crosses slice 2 at %v, want (3,4)", positive.Points())
	}
	if positive, _ := set.Masks(Plane{2, 2}); !positive.Empty() {
		t.Errorf("a sagittal stroke lies in no axial slice, got %v", positive.Points())
	}
}

func anyMap() *rapid.Generator[*volume.LabelMap] {
	return rapid.Custom(func(t *rapid.T) *volume.LabelMap {
		size := [3]int{rapid.IntRange(1, 7).Draw(t, "i"), rapid.IntRange(1, 7).Draw(t, "j"), rapid.IntRange(1, 7).Draw(t, "k")}
		return anyMapOf(t, size)
	})
}

func anyMapOf(t *rapid.T, size [3]int) *volume.LabelMap {
	m := labelMap(size, [3]float64{1, rapid.SampledFrom([]float64{.5, 1, 2}).Draw(t, "sj"), rapid.SampledFrom([]float64{1, 3}).Draw(t, "sk")})
	value := rapid.SampledFrom([]uint16{0, 0, 0, 0, 1, 4, 5})
	for i := range m.Labels {
		m.Labels[i] = value.Draw(t, "label")
	}
	return m
}

func painted(s Set) map[int]bool {
	v := make(map[int]bool)
	s.Voxels(func(at int, positive bool) { v[at] = positive })
	return v
}

func TestStrokesAreTheDrawing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMap().Draw(t, "map")
		set, err := FromLabels(m, 4, 5)
		if err != nil {
			t.Fatal(err)
		}
		voxels := painted(set)
		for at, label := range m.Labels {
			positive, drawn := voxels[at]
			if drawn != (label == 4 || label == 5) || positive != (label == 4) {
				t.Fatalf("voxel %d with label %d: drawn %v, positive %v", at, label, drawn, positive)
			}
		}
		again := NewSet(set.Size, reversed(set.Strokes)...)
		if !reflect.DeepEqual(set, again) || set.Key() != again.Key() {
			t.Fatal("order of the strokes matters")
		}
		for _, s := range set.Strokes {
			if parts := split(s.Plane(), s.Positive, s.Pixels); len(parts) != 1 {
				t.Fatalf("stroke %v is in %d pieces", s, len(parts))
			}
		}
	})
}

func TestAddedAndRemovedMakeUpTheDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := anyMap().Draw(t, "first")
		second := anyMapOf(t, first.Size)
		a, errA := FromLabels(first, 4, 5)
		b, errB := FromLabels(second, 4, 5)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		want := painted(a)
		for at, positive := range painted(b.Removed(a)) {
			if was, ok := want[at]; !ok || was != positive {
				t.Fatalf("voxel %d was not there to be removed", at)
			}
			delete(want, at)
		}
		for at, positive := range painted(b.Added(a)) {
			want[at] = positive
		}
		if !reflect.DeepEqual(want, painted(b)) {
			t.Fatalf("%v, want %v", want, painted(b))
		}
		if (a.Key() == b.Key()) != reflect.DeepEqual(a, b) {
			t.Fatal("keys do not tell the sets apart")
		}
	})
}

func TestWithin(t *testing.T) {
	set := NewSet([3]int{9, 9, 3}, Stroke{2, 1, true, []Point{{X: 0, Y: 4}, {X: 1, Y: 4}, {X: 2, Y: 4}, {X: 3, Y: 4}}})
	got := set.Within(Box{[3]int{1, 0, 0}, [3]int{3, 9, 3}})
	if want := NewSet(set.Size, Stroke{2, 1, true, []Point{{X: 1, Y: 4}, {X: 2, Y: 4}}}); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got.Strokes, want.Strokes)
	}
}

func BenchmarkFromLabels(b *testing.B) {
	size := [3]int{512, 512, 64}
	m := labelMap(size, [3]float64{1, 1, 3})
	for k := range 60 {
		for i := 100; i < 400; i++ {
			m.Labels[(k*512+200)*512+i] = uint16(4 + k/2%2)
		}
	}
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			mustRead(b, m)
		}
	})
	set := mustRead(b, m)
	b.Run("loss maps", func(b *testing.B) {
		for b.Loop() {
			set.LossMaps(Plane{2, 10}, DefaultThickness())
		}
	})
	b.Run("added", func(b *testing.B) {
		for b.Loop() {
			set.Added(set)
		}
	})
	b.Run("key", func(b *testing.B) {
		for b.Loop() {
			set.Key()
		}
	})
}

func reversed(strokes []Stroke) []Stroke {
	out := slices.Clone(strokes)
	slices.Reverse(out)
	return out
}
