package transform

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"scrawl/adapters/morph"
)

func window(t interface{ Fatal(...any) }, region morph.Rect, w, h int) Window {
	win, err := NewWindow(region, w, h)
	if err != nil {
		t.Fatal(err)
	}
	return win
}

func TestAgainstPyTorch(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		W, H, TW, TH    int
		Values, Out     []float32
		Labels, Nearest []int
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		win := window(t, morph.Rect{X1: c.W, Y1: c.H}, c.TW, c.TH)
		for i, v := range win.Forward(c.Values, c.W, c.H, Edge) {
			if math.Abs(float64(v-c.Out[i])) > 2e-6 {
				t.Errorf("%dx%d to %dx%d: value %d is %v, want %v", c.W, c.H, c.TW, c.TH, i, v, c.Out[i])
				break
			}
		}
		if got := ForwardNearest(win, c.Labels, c.W, c.H, -1); !slices.Equal(got, c.Nearest) {
			t.Errorf("%dx%d to %dx%d: labels %v, want %v", c.W, c.H, c.TW, c.TH, got, c.Nearest)
		}
	}
}

func TestEmptyWindowsAreRefused(t *testing.T) {
	for _, r := range []morph.Rect{{}, {X0: 3, X1: 2, Y1: 4}, {X1: 4}} {
		if _, err := NewWindow(r, 8, 8); err == nil {
			t.Errorf("region %v was accepted", r)
		}
	}
	if _, err := NewWindow(morph.Rect{X1: 4, Y1: 4}, 0, 8); err == nil {
		t.Error("a grid without columns was accepted")
	}
	if _, err := Around(morph.Rect{X1: 4, Y1: 4}, 2, 8, 0); err == nil {
		t.Error("a grid without rows was accepted")
	}
}

func TestIdentityCopiesBits(t *testing.T) {
	odd := []float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.NaN()), 1e-45, 0.1}
	win := window(t, morph.Rect{X1: 3, Y1: 2}, 3, 2)
	there := win.Forward(odd, 3, 2, Zero)
	back := win.Backward(there, 3, 2)
	for i, v := range odd {
		if math.Float32bits(there[i]) != math.Float32bits(v) || math.Float32bits(back[i]) != math.Float32bits(v) {
			t.Errorf("value %d: %v became %v and %v", i, v, there[i], back[i])
		}
	}
}

func TestPadding(t *testing.T) {
	slice := []float32{1, 2, 3, 4}
	win := window(t, morph.Rect{X0: -1, Y0: -1, X1: 3, Y1: 3}, 4, 4)
	if got, want := win.Forward(slice, 2, 2, Edge), []float32{1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4}; !slices.Equal(got, want) {
		t.Errorf("edge: %v, want %v", got, want)
	}
	if got, want := win.Forward(slice, 2, 2, Zero), []float32{0, 0, 0, 0, 0, 1, 2, 0, 0, 3, 4, 0, 0, 0, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("zero: %v, want %v", got, want)
	}
	if got, want := win.Inside(2, 2).Points(), []morph.Point{{X: 1, Y: 1}, {X: 2, Y: 1}, {X: 1, Y: 2}, {X: 2, Y: 2}}; !slices.Equal(got, want) {
		t.Errorf("inside: %v, want %v", got, want)
	}
	away := window(t, morph.Rect{X0: 10, Y0: 10, X1: 14, Y1: 14}, 2, 2)
	if got := away.Forward(slice, 2, 2, Edge); !slices.Equal(got, []float32{4, 4, 4, 4}) {
		t.Errorf("a region off the slice holds %v, want its corner", got)
	}
	if got := away.Backward([]float32{1, 1, 1, 1}, 2, 2); !slices.Equal(got, make([]float32, 4)) {
		t.Errorf("a region off the slice wrote %v", got)
	}
}

func TestBackwardIntoKeepsTheRest(t *testing.T) {
	slice := []float32{1, 2, 3, 4, 5, 6, 7, 8, 9}
	window(t, morph.Rect{X0: 1, Y0: 1, X1: 4, Y1: 2}, 3, 1).BackwardInto(slice, 3, 3, []float32{50, 60, 70})
	if want := []float32{1, 2, 3, 4, 50, 60, 7, 8, 9}; !slices.Equal(slice, want) {
		t.Errorf("%v, want %v", slice, want)
	}
}

// A ramp shows any shift: half a pixel would be half a unit.
func TestRampDoesNotMove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(30, 60).Draw(t, "w"), rapid.IntRange(30, 60).Draw(t, "h")
		ramp := make([]float32, w*h)
		for i := range ramp {
			ramp[i] = float32(i%w) + 3*float32(i/w)
		}
		region := morph.Rect{X0: rapid.IntRange(2, 8).Draw(t, "x0"), Y0: rapid.IntRange(2, 8).Draw(t, "y0"), X1: w - 3, Y1: h - 2}
		win := window(t, region, rapid.IntRange(4, 90).Draw(t, "W"), rapid.IntRange(4, 90).Draw(t, "H"))
		there := win.Forward(ramp, w, h, Edge)
		var bias float64
		for i, v := range there {
			x := float64(region.X0) + (float64(i%win.W)+.5)*float64(region.W())/float64(win.W) - .5
			y := float64(region.Y0) + (float64(i/win.W)+.5)*float64(region.H())/float64(win.H) - .5
			off := float64(v) - (x + 3*y)
			if math.Abs(off) > 4*.13 { // an average over a fraction of a pixel is off by up to an eighth of one
				t.Fatalf("pixel %d holds %v, want %v", i, v, x+3*y)
			}
			bias += off / float64(len(there))
		}
		if math.Abs(bias) > 1e-3 {
			t.Fatalf("the ramp moved by %v on average", bias)
		}
	})
}

func TestThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(40, 70).Draw(t, "w"), rapid.IntRange(40, 70).Draw(t, "h")
		smooth := make([]float32, w*h)
		for i := range smooth {
			smooth[i] = float32(.5 + .5*math.Sin(float64(i%w)/14)*math.Cos(float64(i/w)/11))
		}
		region := morph.Rect{X0: rapid.IntRange(-5, 9).Draw(t, "x0"), Y0: rapid.IntRange(-5, 9).Draw(t, "y0")}
		region.X1, region.Y1 = region.X0+rapid.IntRange(28, 60).Draw(t, "rw"), region.Y0+rapid.IntRange(28, 60).Draw(t, "rh")
		win := window(t, region, rapid.IntRange(30, 120).Draw(t, "W"), rapid.IntRange(30, 120).Draw(t, "H"))
		back := win.Backward(win.Forward(smooth, w, h, Edge), w, h)
		for i, v := range back {
			x, y := i%w, i/w
			if x < region.X0 || x >= region.X1 || y < region.Y0 || y >= region.Y1 {
				if v != 0 {
					t.Fatalf("(%d,%d) outside the region holds %v", x, y, v)
				}
			} else if math.Abs(float64(v-smooth[i])) > .06 {
				t.Fatalf("(%d,%d) holds %v, want %v", x, y, v, smooth[i])
			}
		}
	})
}

func TestMasksThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := morph.New(rapid.IntRange(5, 30).Draw(t, "w"), rapid.IntRange(5, 30).Draw(t, "h"))
		for i := range m.Bits {
			m.Bits[i] = rapid.Bool().Draw(t, "bit")
		}
		n := rapid.IntRange(1, 3).Draw(t, "times")
		win := window(t, morph.Rect{X0: -1, Y0: -2, X1: m.W + 2, Y1: m.H + 1}, (m.W+3)*n, (m.H+3)*n)
		if back := win.BackwardMask(win.ForwardMask(m), m.W, m.H); !back.Same(m) {
			t.Fatal("enlarging and putting back changed a mask")
		}
		small := window(t, win.Region, max(1, win.Region.W()/2), max(1, win.Region.H()/3))
		if !m.Empty() && small.ForwardStroke(m).Empty() {
			t.Fatal("shrinking lost a stroke")
		}
		if !win.ForwardMask(m).AndNot(win.ForwardStroke(m)).Empty() {
			t.Fatal("a stroke lost pixels that the mask keeps")
		}
	})
}

func TestAround(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		box := morph.Rect{X0: rapid.IntRange(0, 200).Draw(t, "x0"), Y0: rapid.IntRange(0, 200).Draw(t, "y0")}
		box.X1, box.Y1 = box.X0+rapid.IntRange(1, 300).Draw(t, "w"), box.Y0+rapid.IntRange(1, 300).Draw(t, "h")
		margin := rapid.IntRange(0, 40).Draw(t, "margin")
		w, h := rapid.IntRange(1, 256).Draw(t, "W"), rapid.IntRange(1, 256).Draw(t, "H")
		win, err := Around(box, margin, w, h)
		if err != nil {
			t.Fatal(err)
		}
		r := win.Region
		if r.X0 > box.X0-margin || r.Y0 > box.Y0-margin || r.X1 < box.X1+margin || r.Y1 < box.Y1+margin {
			t.Fatalf("%v does not hold %v with %d around it", r, box, margin)
		}
		if r.W() < w || r.H() < h {
			t.Fatalf("%v is smaller than %dx%d", r, w, h)
		}
		if box.W()+2*margin <= w && box.H()+2*margin <= h && !win.Identity() {
			t.Fatalf("%v is resampled though it fits", box)
		}
	})
}

func TestWhole(t *testing.T) {
	win, err := Whole(122, 96, 16)
	if err != nil || win.W != 128 || win.H != 96 || !win.Identity() {
		t.Errorf("%+v, %v, want 128x96 without resampling", win, err)
	}
}

func TestRescale(t *testing.T) {
	nan := float32(math.NaN())
	got := Rescale([]float32{-2000, -160, 40, 240, 3000, nan, float32(math.Inf(1))}, -160, 240)
	if want := []float32{0, 0, .5, 1, 1, 0, 1}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := Rescale([]float32{1, 2}, 3, 3); !slices.Equal(got, []float32{0, 0}) {
		t.Errorf("no contrast: %v, want zeros", got)
	}
}

func TestPercentiles(t *testing.T) {
	values := []float32{4, 1, 3, 2, float32(math.NaN()), float32(math.Inf(-1))}
	if got := Percentiles(values, 0, 50, 75, 100); !slices.Equal(got, []float32{1, 2.5, 3.25, 4}) {
		t.Errorf("%v", got)
	}
	if got := Percentiles(nil, 50); !slices.Equal(got, []float32{0}) {
		t.Errorf("of nothing: %v, want 0", got)
	}
	many := make([]float32, 3_000_000)
	for i := range many {
		many[i] = float32(i)
	}
	if got := Percentiles(many, 25)[0]; math.Abs(float64(got)-750_000) > 10 {
		t.Errorf("25th of 3 million: %v, want 750000", got)
	}
}

func BenchmarkWindow512(b *testing.B) {
	slice := make([]float32, 512*512)
	win := window(b, morph.Rect{X0: 50, Y0: 40, X1: 450, Y1: 440}, 256, 256)
	prob := make([]float32, 256*256)
	b.Run("forward", func(b *testing.B) {
		for b.Loop() {
			win.Forward(slice, 512, 512, Edge)
		}
	})
	b.Run("backward", func(b *testing.B) {
		for b.Loop() {
			win.Backward(prob, 512, 512)
		}
	})
}
