package morph

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type goldenSlice struct {
	W, H                                    int
	Bits, Dilated, Eroded, Filled, Boundary string
	Spacing                                 [2]float64
	Four, Eight                             []int
	Labels8                                 []int32
	Distance, Depth, Values, Blurred        []float32
}

type goldenVolume struct {
	Size     [3]int
	Bits     string
	Spacing  [3]float64
	Sizes    [3][]int
	Distance []float32
}

// golden reads what scipy.ndimage answered; testdata/make_golden.py wrote it.
func golden(t *testing.T) (g struct {
	Slices  []goldenSlice
	Volumes []goldenVolume
}) {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func parse(s string) []bool {
	b := make([]bool, len(s))
	for i := range s {
		b[i] = s[i] == '1'
	}
	return b
}

// picture reads a mask drawn with # for set pixels.
func picture(rows ...string) Mask {
	m := New(len(rows[0]), len(rows))
	for y, row := range rows {
		for x := range row {
			m.Set(x, y, row[x] == '#')
		}
	}
	return m
}

func (m Mask) draw() string {
	var s strings.Builder
	for i, b := range m.Bits {
		if i%m.W == 0 {
			s.WriteByte('\n')
		}
		s.WriteByte(map[bool]byte{true: '#', false: '.'}[b])
	}
	return s.String()
}

func near(t *testing.T, what string, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !(math.Abs(float64(got[i]-want[i])) <= tolerance) {
			t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

func TestSlicesAgainstScipy(t *testing.T) {
	for _, g := range golden(t).Slices {
		m := Mask{g.W, g.H, parse(g.Bits)}
		same := func(what string, got Mask, want string) {
			if w := (Mask{g.W, g.H, parse(want)}); !got.Same(w) {
				t.Errorf("%dx%d %s:%s\nwant%s", g.W, g.H, what, got.draw(), w.draw())
			}
		}
		same("dilate", m.Dilate(2.3), g.Dilated)
		same("erode", m.Erode(2.3), g.Eroded)
		same("fill holes", m.FillHoles(), g.Filled)
		same("boundary", m.Boundary(), g.Boundary)
		if c := m.Components(Four); !slices.Equal(c.Sizes, g.Four) {
			t.Errorf("sizes of 4-connected components %v, want %v", c.Sizes, g.Four)
		}
		if c := m.Components(Eight); !slices.Equal(c.Sizes, g.Eight) || !slices.Equal(c.Labels, g.Labels8) {
			t.Errorf("8-connected components %v %v, want %v %v", c.Sizes, c.Labels, g.Eight, g.Labels8)
		}
		near(t, "distance", m.Distance(g.Spacing), g.Distance, 2e-5)
		near(t, "depth", m.Depth(g.Spacing), g.Depth, 2e-5)
		near(t, "blur", Blur(g.Values, g.W, g.H, 1.3, 3), g.Blurred, 2e-5)
	}
}

func TestVolumesAgainstScipy(t *testing.T) {
	for _, g := range golden(t).Volumes {
		bits := parse(g.Bits)
		for i, c := range []Connectivity{Six, Eighteen, TwentySix} {
			if _, sizes := Components3(bits, g.Size, c); !slices.Equal(sizes, g.Sizes[i]) {
				t.Errorf("%v, %d neighbours: sizes %v, want %v", g.Size, c, sizes, g.Sizes[i])
			}
		}
		near(t, "distance", Distance3(bits, g.Size, g.Spacing), g.Distance, 2e-5)
	}
}

func TestEmptyMasks(t *testing.T) {
	for _, m := range []Mask{New(0, 0), New(5, 0), New(4, 3), New(-1, 2)} {
		if _, ok := m.Bounds(); ok || !m.Empty() || m.Count() != 0 || len(m.Points()) != 0 {
			t.Errorf("%dx%d is not empty", m.W, m.H)
		}
		for name, r := range map[string]Mask{"thin": m.Thin(), "largest": m.Largest(Eight), "fill": m.FillHoles(), "boundary": m.Boundary(),
			"dilate": m.Dilate(2), "erode": m.Erode(2), "close": m.Close(2), "open": m.Open(2), "shift": m.Shift(1, 1)} {
			if !r.Same(m) {
				t.Errorf("%s of an empty %dx%d mask is %dx%d with %d pixels", name, m.W, m.H, r.W, r.H, r.Count())
			}
		}
		for _, d := range m.Distance([2]float64{1, 1}) {
			if !math.IsInf(float64(d), 1) {
				t.Errorf("distance to nothing is %v, want +Inf", d)
			}
		}
	}
}

func TestThinKnownShapes(t *testing.T) {
	for name, c := range map[string]struct{ in, want Mask }{
		"point":  {picture("...", ".#.", "..."), picture("...", ".#.", "...")},
		"bar":    {picture(".......", "#######", "......."), picture(".......", "#######", ".......")},
		"ring":   {picture("###", "#.#", "###"), picture(".#.", "#.#", ".#.")},
		"square": {picture("##", "##"), picture("..", "##")},
	} {
		got := c.in.Thin()
		if !got.Same(c.want) {
			t.Errorf("%s:%s\nwant%s", name, got.draw(), c.want.draw())
		}
	}
}

func anyMask() *rapid.Generator[Mask] {
	return rapid.Custom(func(t *rapid.T) Mask {
		m := New(rapid.IntRange(1, 22).Draw(t, "w"), rapid.IntRange(1, 22).Draw(t, "h"))
		for range rapid.IntRange(0, 6).Draw(t, "shapes") {
			x, y := rapid.IntRange(0, m.W-1).Draw(t, "x"), rapid.IntRange(0, m.H-1).Draw(t, "y")
			r := rapid.Float64Range(0, 7).Draw(t, "r")
			disc := FromPoints(m.W, m.H, []Point{{x, y}}).Dilate(r)
			if rapid.Bool().Draw(t, "add") {
				m = m.Or(disc)
			} else {
				m = m.AndNot(disc)
			}
		}
		for range rapid.IntRange(0, 20).Draw(t, "specks") {
			i := rapid.IntRange(0, len(m.Bits)-1).Draw(t, "at")
			m.Bits[i] = !m.Bits[i]
		}
		return m
	})
}

func TestThinKeepsTopology(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMask().Draw(t, "mask")
		s := m.Thin()
		if !s.AndNot(m).Empty() {
			t.Fatalf("not a subset:%s\nof%s", s.draw(), m.draw())
		}
		if a, b := s.Components(Eight).N(), m.Components(Eight).N(); a != b {
			t.Fatalf("%d components, want %d:%s\nof%s", a, b, s.draw(), m.draw())
		}
		outside := func(m Mask) int { return m.Crop(Rect{-1, -1, m.W + 1, m.H + 1}).Not().Components(Four).N() }
		if a, b := outside(s), outside(m); a != b {
			t.Fatalf("%d holes, want %d:%s\nof%s", a-1, b-1, s.draw(), m.draw())
		}
		if !s.Thin().Same(s) {
			t.Fatalf("thinning again changes it:%s\nof%s", s.draw(), m.draw())
		}
		// One pixel wide: a block of 2 by 2 stays only where each of its pixels holds something together.
		for _, p := range s.Points() {
			if s.At(p.X+1, p.Y) && s.At(p.X, p.Y+1) && s.At(p.X+1, p.Y+1) {
				for _, q := range []Point{p, {p.X + 1, p.Y}, {p.X, p.Y + 1}, {p.X + 1, p.Y + 1}} {
					cut := s.Clone()
					cut.Set(q.X, q.Y, false)
					if cut.Components(Eight).N() <= s.Components(Eight).N() && outside(cut) == outside(s) {
						t.Fatalf("two pixels wide at %v:%s\nof%s", p, s.draw(), m.draw())
					}
				}
			}
		}
	})
}

func TestDistanceIsTheNearest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMask().Draw(t, "mask")
		spacing := [2]float64{rapid.Float64Range(.2, 5).Draw(t, "sx"), rapid.Float64Range(.2, 5).Draw(t, "sy")}
		d := m.Distance(spacing)
		points := m.Points()
		for i := range m.Bits {
			want := math.Inf(1)
			for _, p := range points {
				want = min(want, math.Hypot(float64(i%m.W-p.X)*spacing[0], float64(i/m.W-p.Y)*spacing[1]))
			}
			if got := float64(d[i]); got != want && math.Abs(got-want) > 1e-4 {
				t.Fatalf("pixel %d: %v, want %v", i, got, want)
			}
		}
	})
}

func TestSetAlgebra(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMask().Draw(t, "mask")
		o := anyMask().Draw(t, "other")
		r := rapid.Float64Range(0, 5).Draw(t, "r")
		if m.And(o).Count()+m.AndNot(o).Count() != m.Count() {
			t.Fatal("intersection and difference do not make up the mask")
		}
		if m.Or(o).Count() != m.Count()+o.Crop(Rect{0, 0, m.W, m.H}).AndNot(m).Count() {
			t.Fatal("union has the wrong size")
		}
		if !m.AndNot(m.Dilate(r)).Empty() || !m.Erode(r).AndNot(m).Empty() {
			t.Fatal("a mask does not lie between its erosion and its dilation")
		}
		if !m.Open(r).AndNot(m).Empty() || !m.AndNot(m.Close(r)).Empty() {
			t.Fatal("a mask does not lie between its opening and its closing")
		}
		if !m.Open(r).Open(r).Same(m.Open(r)) {
			t.Fatal("opening twice differs from opening once")
		}
		if b, ok := m.Bounds(); ok && m.Crop(b).Count() != m.Count() {
			t.Fatal("the bounds leave pixels out")
		}
		if f := m.FillHoles(); !m.AndNot(f).Empty() || !f.FillHoles().Same(f) {
			t.Fatal("filled holes lose pixels or leave holes")
		}
	})
}

func TestBlurKeepsConstants(t *testing.T) {
	f := make([]float32, 30*20)
	for i := range f {
		f[i] = 0.75
	}
	for i, v := range Blur(f, 30, 20, 2.7, 4) {
		if math.Abs(float64(v)-0.75) > 1e-6 {
			t.Fatalf("value %d is %v, want 0.75", i, v)
		}
	}
	if got := Blur(f, 30, 20, 0, 3); !slices.Equal(got, f) || &got[0] == &f[0] {
		t.Error("a sigma of 0 must return a copy")
	}
}

// organ is a slice-sized blob with a hole, as benchmarks meet it.
func organ(n int) Mask {
	m := FromPoints(n, n, []Point{{n / 2, n / 2}, {n * 5 / 8, n / 2}, {n / 2, n * 3 / 4}}).Dilate(float64(n) / 6)
	return m.AndNot(FromPoints(n, n, []Point{{n / 2, n / 2}}).Dilate(float64(n) / 20))
}

func BenchmarkSlice512(b *testing.B) {
	m := organ(512)
	f := m.Floats()
	for name, run := range map[string]func(){
		"distance":   func() { m.Distance([2]float64{1, 1}) },
		"components": func() { m.Components(Eight) },
		"thin":       func() { m.Thin() },
		"dilate":     func() { m.Dilate(5) },
		"holes":      func() { m.FillHoles() },
		"blur":       func() { Blur(f, 512, 512, 2, 3) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				run()
			}
		})
	}
}

func BenchmarkVolume(b *testing.B) {
	size := [3]int{128, 128, 64}
	bits := make([]bool, size[0]*size[1]*size[2])
	m := organ(128)
	for k := 10; k < 50; k++ {
		copy(bits[k*len(m.Bits):], m.Bits)
	}
	b.Run("distance", func(b *testing.B) {
		for b.Loop() {
			Distance3(bits, size, [3]float64{1, 1, 3})
		}
	})
	b.Run("components", func(b *testing.B) {
		for b.Loop() {
			Components3(bits, size, TwentySix)
		}
	})
}
