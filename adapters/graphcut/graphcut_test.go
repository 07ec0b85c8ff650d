package graphcut

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"scrawl/adapters/measure"
	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
)

// phantom is an ellipsoid in noise, bright on dark unless the intensities say otherwise, with its truth.
func phantom(size [3]int, spacing [3]float64, inside, outside, noise float64) (*volume.Volume, []bool) {
	v := volume.NewVolume(volume.New(size, spacing))
	truth := make([]bool, len(v.Voxels))
	rng := rand.New(rand.NewPCG(4, 4))
	for k := range size[2] {
		for j := range size[1] {
			for i := range size[0] {
				d := 0.0
				for axis, x := range [3]int{i, j, k} {
					r := (float64(x) - float64(size[axis]-1)/2) / (0.3 * float64(max(size[axis], 2)))
					d += r * r
				}
				at := v.Index(i, j, k)
				truth[at] = d <= 1
				v.Voxels[at] = float32(outside + noise*rng.NormFloat64())
				if truth[at] {
					v.Voxels[at] = float32(inside + noise*rng.NormFloat64())
				}
			}
		}
	}
	return v, truth
}

// bar is a stroke along x.
func bar(slice, y, x0, x1 int, positive bool) scribble.Stroke {
	s := scribble.Stroke{Axis: 2, Slice: slice, Positive: positive}
	for x := x0; x < x1; x++ {
		s.Pixels = append(s.Pixels, scribble.Point{X: x, Y: y})
	}
	return s
}

func middleAndEdge(size [3]int) scribble.Set {
	return scribble.NewSet(size, bar(size[2]/2, size[1]/2, size[0]/2-6, size[0]/2+6, true), bar(size[2]/2, 2, 2, size[0]-2, false))
}

func segment(t testing.TB, v *volume.Volume, s scribble.Set, box *scribble.Box, o Options) []bool {
	t.Helper()
	answer, err := Segment(context.Background(), v, s, box, o)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// CT and MR, thick slices and single ones, bright and dark objects: the scale is the strokes'.
func TestObjectsOfManyKinds(t *testing.T) {
	for name, c := range map[string]struct {
		size                   [3]int
		spacing                [3]float64
		inside, outside, noise float64
	}{
		"CT":                 {[3]int{48, 40, 24}, [3]float64{1.5, 1.5, 3}, 80, 20, 15},
		"MR":                 {[3]int{48, 40, 24}, [3]float64{1, 1, 1}, 900, 400, 120},
		"a map of fractions": {[3]int{48, 40, 12}, [3]float64{1, 1, 6}, 2e-4, 8e-4, 1e-4},
		"one slice":          {[3]int{64, 64, 1}, [3]float64{1, 1, 1}, 30000, 20000, 2500},
	} {
		v, truth := phantom(c.size, c.spacing, c.inside, c.outside, c.noise)
		if d := measure.Dice(segment(t, v, middleAndEdge(c.size), nil, Defaults()), truth); d < 0.93 {
			t.Errorf("%s: Dice %.3f after two strokes", name, d)
		}
	}
}

// A second object that looks the same, elsewhere, is part of the answer only if that is asked for.
func TestConnected(t *testing.T) {
	size := [3]int{40, 20, 1}
	v := volume.NewVolume(volume.New(size, [3]float64{1, 1, 1}))
	for j := 5; j < 15; j++ {
		for i := 5; i < 15; i++ {
			v.Voxels[v.Index(i, j, 0)], v.Voxels[v.Index(i+20, j, 0)] = 100, 100
		}
	}
	strokes := scribble.NewSet(size, bar(0, 9, 7, 13, true), bar(0, 1, 2, 38, false))
	for connected, want := range map[bool]int{true: 100, false: 200} {
		o := Defaults()
		o.Connected = connected
		if got := count(segment(t, v, strokes, nil, o)); got != want {
			t.Errorf("connected %v: %d voxels, want %d", connected, got, want)
		}
	}
}

func count(bits []bool) int {
	n := 0
	for _, b := range bits {
		if b {
			n++
		}
	}
	return n
}

func TestStrokesOfOneKindAndNone(t *testing.T) {
	size := [3]int{48, 40, 8}
	v, truth := phantom(size, [3]float64{1, 1, 2}, 100, 0, 10)
	on, beside := middleAndEdge(size).Positive(), middleAndEdge(size).Negative()
	if d := measure.Dice(segment(t, v, on, nil, Defaults()), truth); d < 0.9 {
		t.Errorf("strokes on the object alone: Dice %.3f", d)
	}
	for name, s := range map[string]scribble.Set{"no strokes": {}, "strokes beside the object alone": beside} {
		if n := count(segment(t, v, s, nil, Defaults())); n != 0 {
			t.Errorf("%s: %d voxels, want an empty answer", name, n)
		}
	}
	// A box with nothing drawn on the object: its middle is taken for it.
	box := &scribble.Box{Lo: [3]int{8, 6, 0}, Hi: [3]int{40, 34, 8}}
	if d := measure.Dice(segment(t, v, scribble.Set{}, box, Defaults()), truth); d < 0.85 {
		t.Errorf("a box alone: Dice %.3f", d)
	}
	for _, empty := range []*scribble.Box{{Lo: [3]int{5, 5, 5}, Hi: [3]int{5, 9, 7}}, {Lo: [3]int{60, 0, 0}, Hi: [3]int{70, 9, 7}}} {
		if n := count(segment(t, v, on, empty, Defaults())); n != 0 {
			t.Errorf("a box without voxels: %d voxels", n)
		}
	}
}

// Whatever is drawn: strokes keep their label, nothing lies outside the box, on grids as fine as the image and coarser, and the same
// question has the same answer.
func TestStrokesAndBoxesHold(t *testing.T) {
	size := [3]int{20, 18, 6}
	v, _ := phantom(size, [3]float64{1, 1, 3}, 100, 0, 40)
	rapid.Check(t, func(t *rapid.T) {
		number := func(name string, most int) int { return rapid.IntRange(0, most).Draw(t, name) }
		var strokes []scribble.Stroke
		for range number("strokes", 4) {
			x := number("x", size[0]-1)
			strokes = append(strokes, bar(number("slice", size[2]-1), number("y", size[1]-1), x, x+1+number("length", 8), rapid.Bool().Draw(t, "positive")))
		}
		set := scribble.NewSet(size, strokes...)
		var box *scribble.Box
		if rapid.Bool().Draw(t, "boxed") {
			box = &scribble.Box{Lo: [3]int{number("x0", 10), number("y0", 10), number("z0", 3)}, Hi: [3]int{number("x1", 25), number("y1", 25), number("z1", 8)}}
		}
		o := Defaults()
		o.MaxVoxels = rapid.SampledFrom([]int{1, 50, 700, 1 << 20}).Draw(t, "most")
		o.Bins, o.Lambda = rapid.IntRange(2, 100).Draw(t, "bins"), rapid.Float64Range(0, 100).Draw(t, "lambda")
		answer, err := Segment(context.Background(), v, set, box, o)
		if err != nil {
			t.Fatal(err)
		}
		set.Voxels(func(at int, positive bool) {
			in := box == nil || box.Contains([3]int{at % size[0], at / size[0] % size[1], at / (size[0] * size[1])})
			if in && answer[at] != positive || !in && answer[at] {
				t.Fatalf("voxel %d under a stroke (%v) in the box %v: %v", at, positive, in, answer[at])
			}
		})
		for at, object := range answer {
			if object && box != nil && !box.Contains([3]int{at % size[0], at / size[0] % size[1], at / (size[0] * size[1])}) {
				t.Fatalf("voxel %d lies outside the box", at)
			}
		}
		if again, _ := Segment(context.Background(), v, set, box, o); !slices.Equal(answer, again) {
			t.Fatal("the same question has another answer")
		}
	})
}

// On a coarser grid the answer is as good as blocks allow.
func TestCoarseGrid(t *testing.T) {
	size := [3]int{64, 64, 20}
	v, truth := phantom(size, [3]float64{1, 1, 2}, 100, 0, 20)
	o := Defaults()
	o.MaxVoxels = 64 * 64 * 20 / 8
	if d := measure.Dice(segment(t, v, middleAndEdge(size), nil, o), truth); d < 0.9 {
		t.Errorf("Dice %.3f on an eighth of the voxels", d)
	}
}

func TestVoxelsThatAreNoNumbers(t *testing.T) {
	size := [3]int{24, 20, 3}
	v, _ := phantom(size, [3]float64{1, 1, 1}, 100, 0, 5)
	for i := range v.Voxels {
		switch i % 7 {
		case 0:
			v.Voxels[i] = float32(math.NaN())
		case 1:
			v.Voxels[i] = float32(math.Inf(1 - 2*(i%2)))
		}
	}
	if n := count(segment(t, v, middleAndEdge(size), nil, Defaults())); n == 0 || n == len(v.Voxels) {
		t.Errorf("%d voxels", n)
	}
	flat := volume.NewVolume(v.Geometry)
	segment(t, flat, middleAndEdge(size), nil, Defaults())
}

func TestRefusalsOfCut(t *testing.T) {
	v, _ := phantom([3]int{24, 20, 3}, [3]float64{1, 1, 1}, 100, 0, 5)
	s := middleAndEdge(v.Size)
	for want, change := range map[string]func(*Options){
		"num_bins":   func(o *Options) { o.Bins = 1 },
		"lamda":      func(o *Options) { o.Lambda = math.NaN() },
		"sigma":      func(o *Options) { o.Sigma = 0 },
		"max_voxels": func(o *Options) { o.MaxVoxels = 0 },
	} {
		o := Defaults()
		change(&o)
		if _, err := Segment(t.Context(), v, s, nil, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %s", err, want)
		}
	}
	if _, err := Segment(t.Context(), v, scribble.NewSet([3]int{9, 9, 9}, bar(0, 1, 1, 2, true)), nil, Defaults()); err == nil {
		t.Error("strokes of another image were accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Segment(ctx, v, s, nil, Defaults()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A whole CT of 512² pixels.
func BenchmarkSegment(b *testing.B) {
	size := [3]int{512, 512, 20}
	v, truth := phantom(size, [3]float64{0.8, 0.8, 5}, 80, 20, 20)
	s := middleAndEdge(size)
	b.ReportAllocs()
	for b.Loop() {
		answer := segment(b, v, s, nil, Defaults())
		b.ReportMetric(measure.Dice(answer, truth), "Dice")
	}
}
