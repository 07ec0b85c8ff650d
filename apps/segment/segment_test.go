package segment

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/engine/tensor"
)

// steps is the label of an intensity by the network stairs.
func steps(x float32) uint8 { return uint8(min(int(x*4), 3)) }

// However the windows lie, a network that looks at single voxels answers as it does on the whole: windows cover everything once or
// are blended by weights that add up to 1.
func TestWindowsCoverEverything(t *testing.T) {
	nets := map[int]*Model{2: newModel(t, stairs(2), Input{}), 3: newModel(t, stairs(3), Input{})}
	rapid.Check(t, func(rt *rapid.T) {
		axes := rapid.IntRange(2, 3).Draw(rt, "axes")
		m := *nets[axes]
		m.Input.Overlap = rapid.Float64Range(0, 0.9).Draw(rt, "overlap")
		for range axes {
			m.Input.Patch = append(m.Input.Patch, rapid.IntRange(1, 9).Draw(rt, "patch"))
		}
		if rapid.Bool().Draw(rt, "whole") {
			m.Input.Patch, m.Input.Multiple = nil, rapid.IntRange(1, 4).Draw(rt, "multiple")
		} else if axes == 3 && rapid.Bool().Draw(rt, "oriented") {
			m.Input.Orientation = rapid.SampledFrom([]string{"RAS", "LPS", "LIA", "SPR", "IRA"}).Draw(rt, "orientation")
		}
		side := rapid.IntRange(1, 14)
		img := noisy([3]int{side.Draw(rt, "x"), side.Draw(rt, "y"), side.Draw(rt, "z")}, [3]float64{1, rapid.SampledFrom([]float64{1, 3}).Draw(rt, "spacing"), 2}, 3)
		labels, err := m.Segment(t.Context(), img, m.Engine.Network().Source(), Alone)
		if err != nil {
			rt.Fatal(err)
		}
		for i, x := range img.Volume.Voxels {
			if labels[i] != steps(x) && math.Abs(float64(x*4)-math.Round(float64(x*4))) > 1e-3 {
				rt.Fatalf("voxel %d of intensity %g has label %d, want %d", i, x, labels[i], steps(x))
			}
		}
	})
}

// A volume stored along other axes gets the same answer, voxel by voxel: the network always sees it lying as it was trained.
func TestOrientation(t *testing.T) {
	m := newModel(t, looking(3, 4), Input{Orientation: "RAS", Patch: []int{6, 7, 8}, Overlap: 0.5})
	img := noisy([3]int{9, 8, 7}, [3]float64{1, 1, 1}, 5)
	want := segmented(t, m, img)
	if slices.Max(want) == slices.Min(want) {
		t.Fatal("the network tells nothing apart")
	}
	// The same patient with the axes in the order k, i, j, and j running the other way.
	turned := volume.NewVolume(volume.New([3]int{7, 9, 8}, [3]float64{1, 1, 1}))
	turned.Direction = [3][3]float64{{0, 1, 0}, {0, 0, -1}, {1, 0, 0}}
	turned.Origin = [3]float64{0, 7, 0}
	place := func(i, j, k int) int { return turned.Index(k, i, 7-j) }
	for k := range 7 {
		for j := range 8 {
			for i := range 9 {
				turned.Voxels[place(i, j, k)] = img.Volume.Voxels[img.Volume.Index(i, j, k)]
				p, q := img.Volume.IndexToWorld([3]float64{float64(i), float64(j), float64(k)}), turned.IndexToWorld([3]float64{float64(k), float64(i), float64(7 - j)})
				if math.Abs(p[0]-q[0])+math.Abs(p[1]-q[1])+math.Abs(p[2]-q[2]) > 1e-9 {
					t.Fatalf("voxel (%d,%d,%d) lies at %v and %v", i, j, k, p, q)
				}
			}
		}
	}
	got := segmented(t, m, Image{Volume: turned, High: 1})
	for k := range 7 {
		for j := range 8 {
			for i := range 9 {
				if a, b := want[img.Volume.Index(i, j, k)], got[place(i, j, k)]; a != b {
					t.Fatalf("voxel (%d,%d,%d) has label %d and turned %d", i, j, k, a, b)
				}
			}
		}
	}
}

// Without an orientation D, H and W are k, j and i, and for slices those of the acquisition.
func TestAxesAsStored(t *testing.T) {
	m := newModel(t, looking(3, 4), Input{})
	img := noisy([3]int{6, 5, 4}, [3]float64{1, 1, 1}, 6)
	p, err := m.Engine.Predict(t.Context(), m.Engine.Network().Source(), tensor.Must([]int{1, 1, 4, 5, 6}, img.Volume.Voxels))
	if err != nil {
		t.Fatal(err)
	}
	if got := segmented(t, m, img); !slices.Equal(got, likeliest(p)) {
		t.Error("a volume of one window is not answered as the network answers it")
	}
	flat := newModel(t, looking(2, 4), Input{})
	coronal := noisy([3]int{6, 3, 5}, [3]float64{1, 4, 1}, 6)
	got := segmented(t, flat, coronal)
	for j := range 3 {
		s, err := coronal.Volume.Slice(volume.PlaneJ, j)
		if err != nil {
			t.Fatal(err)
		}
		p, err := flat.Engine.Predict(t.Context(), flat.Engine.Network().Source(), tensor.Must([]int{1, 1, 5, 6}, s.Pixels))
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range likeliest(p) {
			if l := got[coronal.Volume.Index(i%6, j, i/6)]; l != want {
				t.Fatalf("pixel %d of coronal slice %d has label %d, want %d", i, j, l, want)
			}
		}
	}
}

func likeliest(p *tensor.Tensor) []uint8 {
	n := p.Len() / p.Shape()[1]
	out := make([]uint8, n)
	for i := range out {
		for c := range p.Shape()[1] {
			if p.Float32s()[c*n+i] > p.Float32s()[int(out[i])*n+i] {
				out[i] = uint8(c)
			}
		}
	}
	return out
}

// ramp grows from 0 to 1 along i, so that resampling hardly changes it.
func ramp(size [3]int, spacing [3]float64) Image {
	v := volume.NewVolume(volume.New(size, spacing))
	for i := range v.Voxels {
		v.Voxels[i] = (float32(i%size[0]) + 0.5) / float32(size[0])
	}
	return Image{Volume: v, High: 1}
}

// Resampling to the network's spacing or size and back moves no border by more than a voxel of the coarser grid.
func TestResampling(t *testing.T) {
	for name, c := range map[string]struct {
		axes    int
		in      Input
		size    [3]int
		spacing [3]float64
		within  int
	}{
		"slices shrunk":    {2, Input{Resize: true, Patch: []int{32, 32}}, [3]int{100, 80, 3}, [3]float64{1, 1, 5}, 2},
		"slices oblong":    {2, Input{Resize: true, Patch: []int{16, 40}}, [3]int{100, 20, 2}, [3]float64{1, 2, 5}, 2},
		"slices enlarged":  {2, Input{Spacing: []float64{0.5, 0.5}, Patch: []int{48, 48}, Overlap: 0.25}, [3]int{40, 30, 3}, [3]float64{1, 1, 5}, 1},
		"volume coarser":   {3, Input{Spacing: []float64{2, 2, 2}, Patch: []int{16, 16, 16}, Overlap: 0.5}, [3]int{60, 30, 20}, [3]float64{1, 1, 1.5}, 2},
		"volume finer":     {3, Input{Spacing: []float64{1, 1, 1}}, [3]int{24, 10, 8}, [3]float64{2, 2, 3}, 1},
		"volume of a size": {3, Input{Resize: true, Patch: []int{16, 16, 16}}, [3]int{60, 30, 20}, [3]float64{1, 1, 1}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			img := ramp(c.size, c.spacing)
			for i, got := range segmented(t, newModel(t, stairs(c.axes), c.in), img) {
				x := img.Volume.Voxels[i]
				slack := float32(c.within) / float32(c.size[0])
				if got < steps(max(x-slack, 0)) || got > steps(x+slack) {
					t.Fatalf("voxel %d of intensity %.3f has label %d", i, x, got)
				}
			}
		})
	}
}

func TestLabelsAreNumberedByPosition(t *testing.T) {
	m := newModel(t, stairs(2), Input{}, Class{"bright", 3}, Class{"dark", 1})
	img := ramp([3]int{8, 1, 1}, [3]float64{1, 1, 1})
	if got := segmented(t, m, img); !slices.Equal(got, []uint8{0, 0, 2, 2, 0, 0, 1, 1}) {
		t.Errorf("labels %v, want dark as 2, bright as 1 and the class without a label as background", got)
	}
}

func TestValidate(t *testing.T) {
	good := newModel(t, stairs(3), Input{})
	change := func(f func(*Model)) *Model { m := *good; f(&m); return &m }
	for name, c := range map[string]struct {
		m    *Model
		says string
	}{
		"patch of two":          {change(func(m *Model) { m.Input.Patch = []int{4, 4} }), "3 sizes"},
		"patch and multiple":    {change(func(m *Model) { m.Input.Multiple, m.Input.Patch = 8, []int{12, 8, 8} }), "multiples of 8"},
		"no multiple":           {change(func(m *Model) { m.Input.Multiple = 0 }), "multiple 0"},
		"resize to nothing":     {change(func(m *Model) { m.Input.Resize = true }), "patch"},
		"overlap":               {change(func(m *Model) { m.Input.Overlap = 1 }), "overlap"},
		"spacing":               {change(func(m *Model) { m.Input.Spacing = []float64{1, -1, 1} }), "spacing"},
		"orientation":           {change(func(m *Model) { m.Input.Orientation = "RAL" }), "RAL"},
		"orientation too short": {change(func(m *Model) { m.Input.Orientation = "RA" }), "RAS"},
		"class too high":        {change(func(m *Model) { m.Classes = []Class{{"x", 4}} }), "1 to 3"},
		"background":            {change(func(m *Model) { m.Classes = []Class{{"x", 0}} }), "background"},
		"class twice":           {change(func(m *Model) { m.Classes = []Class{{"x", 1}, {"y", 1}} }), "both"},
		"no class":              {change(func(m *Model) { m.Classes = nil }), "1 to 255"},
	} {
		if err := c.m.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that speaks of %q", name, err, c.says)
		}
	}
}

// An error between windows ends the run, and each window has its turn.
func TestTurns(t *testing.T) {
	m := newModel(t, stairs(3), Input{Patch: []int{4, 4, 4}})
	img := noisy([3]int{8, 8, 8}, [3]float64{1, 1, 1}, 1)
	turns := 0
	stop := errors.New("stop")
	_, err := m.Segment(t.Context(), img, m.Engine.Network().Source(), func(_ context.Context, work func() error) error {
		if turns++; turns == 4 {
			return stop
		}
		return work()
	})
	if !errors.Is(err, stop) || turns != 4 {
		t.Errorf("error %v after %d turns, want the one of the fourth", err, turns)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Segment(ctx, img, m.Engine.Network().Source(), Alone); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v of a cancelled run", err)
	}
}

// Intensities at the border of two classes are less certain than those in the middle of one.
func TestUncertainty(t *testing.T) {
	for _, axes := range []int{2, 3} {
		m := newModel(t, stairs(axes), Input{Patch: []int{8, 8, 8}[:axes], Overlap: 0.25})
		ask := func(level float32) float64 {
			img := noisy([3]int{20, 14, 9}, [3]float64{1, 1, 3}, 2)
			for i, v := range img.Volume.Voxels {
				img.Volume.Voxels[i] = level + (v-0.5)*0.02
			}
			img.Volume.Voxels[0], img.Volume.Voxels[1] = 0, 1
			u, err := m.Uncertainty(t.Context(), img, Learned{}, Alone)
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
		middle, border := ask(0.625), ask(0.75)
		if !(border > middle && border < 1) || ask(0.75) != border {
			t.Errorf("%d axes: uncertainty %g at a border and %g in a class's middle", axes, border, middle)
		}
	}
}

// The next slice is the one most of which lies near a border of classes, wherever the network's axes run.
func TestNextSlice(t *testing.T) {
	for _, in := range []Input{{}, {Orientation: "IRA"}} {
		m := newModel(t, stairs(3), in)
		img := blocks()
		g := m.gridOf(img.Volume.Geometry)
		axis := g.axis[0]
		for k := range img.Volume.Size[2] {
			for j := range img.Volume.Size[1] {
				for i := range img.Volume.Size[0] {
					if at := [3]int{i, j, k}; at[axis] == 3 {
						img.Volume.Voxels[img.Volume.Index(i, j, k)] = 0.74
					}
				}
			}
		}
		_, st, _ := draw(t, m, img, Request{Frozen: true}, Learned{}, State{})
		next, ok := m.Next(img, st)
		if !ok || next.Slice.Axis != axis || next.Slice.Slice != 3 || next.Wrong <= 0 {
			t.Errorf("%q: next %+v, %v, want slice 3 of axis %d", in.Orientation, next, ok, axis)
		}
		st.Marks = []Mark{{1, scribble.NewSet(img.Volume.Size, scribble.Stroke{Axis: axis, Slice: 3, Positive: true, Pixels: []scribble.Point{{X: 1, Y: 1}}})}}
		if next, _ := m.Next(img, st); next.Slice.Slice == 3 {
			t.Errorf("%q: a slice with strokes is recommended", in.Orientation)
		}
	}
}
