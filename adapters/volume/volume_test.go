package volume_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"scrawl/adapters/volume"
)

// signedPermutations are the 48 ways to lay index axes along patient axes.
func signedPermutations() [][3][3]float64 {
	var all [][3][3]float64
	for _, p := range [6][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		for signs := range 8 {
			var d [3][3]float64
			for c, r := range p {
				d[r][c] = 1 - 2*float64(signs>>c&1)
			}
			all = append(all, d)
		}
	}
	return all
}

// rotate turns a direction about z, then about x.
func rotate(d [3][3]float64, a, b float64) [3][3]float64 {
	z := [3][3]float64{{math.Cos(a), -math.Sin(a), 0}, {math.Sin(a), math.Cos(a), 0}, {0, 0, 1}}
	x := [3][3]float64{{1, 0, 0}, {0, math.Cos(b), -math.Sin(b)}, {0, math.Sin(b), math.Cos(b)}}
	return product(x, product(z, d))
}

func product(a, b [3][3]float64) (c [3][3]float64) {
	for i := range 3 {
		for j := range 3 {
			for k := range 3 {
				c[i][j] += a[i][k] * b[k][j]
			}
		}
	}
	return c
}

func drawGeometry(t *rapid.T, maxSize int) volume.Geometry {
	var g volume.Geometry
	for c := range 3 {
		g.Size[c] = rapid.IntRange(1, maxSize).Draw(t, "size")
		g.Spacing[c] = rapid.Float64Range(0.01, 20).Draw(t, "spacing")
		g.Origin[c] = rapid.Float64Range(-2000, 2000).Draw(t, "origin")
	}
	d := rapid.SampledFrom(signedPermutations()).Draw(t, "orientation")
	g.Direction = rotate(d, rapid.Float64Range(-0.5, 0.5).Draw(t, "a"), rapid.Float64Range(-0.5, 0.5).Draw(t, "b"))
	return g
}

func TestIndexToWorldInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := drawGeometry(t, 600)
		if err := g.Validate(); err != nil {
			t.Fatal(err)
		}
		var ijk [3]float64
		for c := range 3 {
			ijk[c] = rapid.Float64Range(-700, 700).Draw(t, "index")
		}
		back := g.WorldToIndex(g.IndexToWorld(ijk))
		for c := range 3 {
			if math.Abs(back[c]-ijk[c]) > 1e-8*(700+2000/g.Spacing[c]) {
				t.Fatalf("index %v came back as %v", ijk, back)
			}
		}
		again, err := volume.FromAffine(g.Affine(), g.Size)
		if err != nil {
			t.Fatal(err)
		}
		if !again.Equal(g, 1e-9) {
			t.Fatalf("affine and back: %s", g.Difference(again))
		}
		if ras := g.Affine().SwapLPSRAS().SwapLPSRAS(); ras != g.Affine() {
			t.Fatalf("to RAS and back: %v", ras)
		}
	})
}

func TestIndexToWorldAt48Orientations(t *testing.T) {
	for _, d := range signedPermutations() {
		g := volume.New([3]int{4, 5, 6}, [3]float64{0.5, 2, 3})
		g.Origin, g.Direction = [3]float64{10, -20, 30}, d
		patient, sign := g.NearestAxis()
		for c, r := range patient {
			var step [3]float64
			step[c] = 1
			want := g.Origin
			want[r] += g.Spacing[c] * float64(sign[c])
			if got := g.IndexToWorld(step); got != want {
				t.Errorf("%s: a step along axis %d leads to %v, want %v", g.Orientation(), c, got, want)
			}
			letter := "LPS"
			if sign[c] < 0 {
				letter = "RAI"
			}
			if g.Orientation()[c] != letter[r] {
				t.Errorf("orientation %s, want %c at %d", g.Orientation(), letter[r], c)
			}
		}
		if g.RightHanded() != (g.Determinant() == 1) {
			t.Errorf("%s: handedness against determinant %g", g.Orientation(), g.Determinant())
		}
	}
}

func TestValidate(t *testing.T) {
	good := volume.New([3]int{2, 3, 4}, [3]float64{1, 1, 1})
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(g *volume.Geometry){
		"voxel":    func(g *volume.Geometry) { g.Size[1] = 0 },
		"counted":  func(g *volume.Geometry) { g.Size = [3]int{1 << 40, 1 << 40, 2} },
		"spacing":  func(g *volume.Geometry) { g.Spacing[2] = -1 },
		"positive": func(g *volume.Geometry) { g.Spacing[2] = math.NaN() },
		"origin":   func(g *volume.Geometry) { g.Origin[0] = math.Inf(-1) },
		"length":   func(g *volume.Geometry) { g.Direction[0][0] = 2 },
		"plane":    func(g *volume.Geometry) { g.Direction = [3][3]float64{{1, 1, 0}, {0, 0, 0}, {0, 0, 1}} },
	} {
		g := good
		spoil(&g)
		if err := g.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := (&volume.Volume{Geometry: good, Voxels: make([]float32, 3)}).Validate(); err == nil {
		t.Error("3 voxels for 24 were accepted")
	}
	if _, err := volume.FromAffine(volume.Affine{}, [3]int{1, 1, 1}); !errors.Is(err, volume.ErrFormat) {
		t.Errorf("affine of zeros: %v", err)
	}
}

func TestDifference(t *testing.T) {
	g := volume.New([3]int{100, 100, 30}, [3]float64{0.8, 0.8, 5})
	same := g
	same.Origin[0] += 2e-4
	if d := g.Difference(same); d != "" {
		t.Errorf("a shift of 0.2 µm counts: %s", d)
	}
	for want, change := range map[string]func(g *volume.Geometry){
		"size 100×100×30 against 100×100×31":               func(g *volume.Geometry) { g.Size[2] = 31 },
		"spacing (0.8,0.8,5) against (0.8,0.8,4) mm":       func(g *volume.Geometry) { g.Spacing[2] = 4 },
		"origin (0,0,0) against (0,0,7) mm (LPS)":          func(g *volume.Geometry) { g.Origin[2] = 7 },
		"direction of i, j, k (1,0,0) (0,1,0) (0,0,1) aga": func(g *volume.Geometry) { g.Direction[0][0] = -1 },
	} {
		other := g
		change(&other)
		if got := g.Difference(other); !strings.HasPrefix(got, want) || strings.Contains(got, ";") {
			t.Errorf("got %q, want %q", got, want)
		}
		if err := g.SameGrid(other); !errors.Is(err, volume.ErrGeometry) {
			t.Errorf("SameGrid: %v", err)
		}
	}
	drift := g
	drift.Spacing[0] += 0.9e-3 / 99
	drift.Origin[0] += 0.9e-3
	if d := g.Difference(drift); !strings.Contains(d, "voxel [99 ") {
		t.Errorf("two deviations that only together exceed the tolerance: %q", d)
	}
}

func TestAcquisitionPlane(t *testing.T) {
	for _, test := range []struct {
		spacing [3]float64
		want    volume.Plane
	}{
		{[3]float64{0.8, 0.8, 5}, volume.PlaneK}, {[3]float64{5, 0.8, 0.8}, volume.PlaneI}, {[3]float64{1, 3, 1}, volume.PlaneJ},
		{[3]float64{1, 1, 1}, volume.PlaneK}, {[3]float64{1.001, 1, 1}, volume.PlaneK}, {[3]float64{3, 3, 1}, volume.PlaneJ},
	} {
		if got := volume.New([3]int{9, 9, 9}, test.spacing).AcquisitionPlane(); got != test.want {
			t.Errorf("%v: plane %v, want %v", test.spacing, got, test.want)
		}
	}
}

func TestCrop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := drawGeometry(t, 50)
		lo := [3]int{rapid.IntRange(-5, 20).Draw(t, "i"), rapid.IntRange(-5, 20).Draw(t, "j"), 3}
		c := g.Crop(lo, [3]int{4, 5, 6})
		p := c.IndexToWorld([3]float64{1, 2, 3})
		q := g.IndexToWorld([3]float64{float64(lo[0] + 1), float64(lo[1] + 2), float64(lo[2] + 3)})
		for r := range 3 {
			if math.Abs(p[r]-q[r]) > 1e-8 {
				t.Fatalf("voxel moved from %v to %v", q, p)
			}
		}
		if c.Size != [3]int{4, 5, 6} {
			t.Fatal(c.Size)
		}
	})
}

func TestSlices(t *testing.T) {
	v := volume.NewVolume(volume.New([3]int{3, 4, 5}, [3]float64{1, 2, 3}))
	m := volume.NewLabelMap(v.Geometry)
	for n := range v.Voxels {
		v.Voxels[n], m.Labels[n] = float32(n), uint16(n)
	}
	for p := volume.PlaneI; p <= volume.PlaneK; p++ {
		copied := volume.NewLabelMap(m.Geometry)
		ax, ay := p.Axes()
		for n := range v.Size[p] {
			s, err := v.Slice(p, n)
			if err != nil {
				t.Fatal(err)
			}
			if s.W != v.Size[ax] || s.H != v.Size[ay] || s.Spacing != [2]float64{v.Spacing[ax], v.Spacing[ay]} {
				t.Fatalf("plane %v: %d×%d pixels of %v mm", p, s.W, s.H, s.Spacing)
			}
			for y := range s.H {
				for x := range s.W {
					if got, want := s.Pixels[y*s.W+x], v.Voxels[v.Index(volume.SliceIndex(p, n, x, y))]; got != want {
						t.Fatalf("plane %v slice %d pixel (%d,%d) is %g, want %g", p, n, x, y, got, want)
					}
				}
			}
			ls, err := m.Slice(p, n)
			if err != nil {
				t.Fatal(err)
			}
			if err := copied.SetSlice(p, n, ls); err != nil {
				t.Fatal(err)
			}
		}
		if copied.Hash() != m.Hash() {
			t.Errorf("plane %v: slices out and in are another label map", p)
		}
		if _, err := v.Slice(p, v.Size[p]); err == nil {
			t.Errorf("plane %v: a slice beyond the last one", p)
		}
		if err := m.SetSlice(p, 0, volume.LabelSlice{W: 1, H: 1, Labels: []uint16{1}}); err == nil {
			t.Errorf("plane %v: a slice of another size was taken", p)
		}
	}
	if _, err := v.Slice(3, 0); err == nil {
		t.Error("plane 3 was accepted")
	}
}

func TestHash(t *testing.T) {
	make := func() *volume.Volume {
		v := volume.NewVolume(volume.New([3]int{3, 4, 5}, [3]float64{1, 2, 3}))
		v.Voxels[7] = 42
		return v
	}
	a, b := make(), make()
	b.Voxels[0] = float32(math.Copysign(0, -1))
	b.Origin[0] = math.Copysign(0, -1)
	if a.Hash() != b.Hash() {
		t.Error("negative zeros change the hash")
	}
	for name, change := range map[string]func(v *volume.Volume){
		"voxel":   func(v *volume.Volume) { v.Voxels[8] = 1e-30 },
		"origin":  func(v *volume.Volume) { v.Origin[1] = 1e-9 },
		"spacing": func(v *volume.Volume) { v.Spacing[1] = 2.5 },
		"size":    func(v *volume.Volume) { v.Size = [3]int{4, 3, 5} },
	} {
		c := make()
		change(c)
		if c.Hash() == a.Hash() {
			t.Errorf("another %s has the same hash", name)
		}
	}
}

func TestPercentiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float32Range(-1e6, 1e6), 1, 300).Draw(t, "voxels")
		v := &volume.Volume{Geometry: volume.New([3]int{len(values), 1, 1}, [3]float64{1, 1, 1}), Voxels: values}
		sorted := append([]float32{}, values...)
		sort.Slice(sorted, func(i, j int) bool { return sorted[i] < sorted[j] })
		ps := []float64{0, 0.5, 2, 50, 99.5, 100, rapid.Float64Range(0, 100).Draw(t, "p")}
		for i, got := range v.Percentiles(ps...) {
			at := ps[i] / 100 * float64(len(sorted)-1)
			lo := int(at)
			hi := min(lo+1, len(sorted)-1)
			want := float64(sorted[lo]) + (float64(sorted[hi])-float64(sorted[lo]))*(at-float64(lo))
			if math.Abs(got-want) > 1e-9*(1+math.Abs(want)) {
				t.Fatalf("percentile %g is %g, want %g", ps[i], got, want)
			}
		}
	})
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	v := &volume.Volume{Geometry: volume.New([3]int{5, 1, 1}, [3]float64{1, 1, 1}), Voxels: []float32{nan, 3, inf, 1, -inf}}
	if got := v.Percentiles(0, 50, 100); got[0] != 1 || got[1] != 2 || got[2] != 3 {
		t.Errorf("with voxels that are not finite: %v", got)
	}
	v.Voxels = []float32{nan, nan, nan, nan, nan}
	if got := v.Percentiles(50); !math.IsNaN(got[0]) {
		t.Errorf("of nothing: %v", got)
	}
}

func TestLimits(t *testing.T) {
	l := volume.Limits{MaxVoxels: 1000, MaxBytes: 1500}
	for _, test := range []struct {
		size  [3]int
		bytes int
		want  error
	}{
		{[3]int{10, 10, 10}, 1, nil}, {[3]int{10, 10, 11}, 1, volume.ErrTooLarge}, {[3]int{10, 10, 10}, 2, volume.ErrTooLarge},
		{[3]int{10, 0, 10}, 1, volume.ErrFormat}, {[3]int{math.MaxInt, math.MaxInt, math.MaxInt}, 8, volume.ErrTooLarge},
	} {
		if err := l.Check(test.size, test.bytes); !errors.Is(err, test.want) {
			t.Errorf("%v of %d bytes: %v, want %v", test.size, test.bytes, err, test.want)
		}
	}
	if err := (volume.Limits{}).Check([3]int{512, 512, 100}, 4); err != nil {
		t.Errorf("an ordinary CT within the default limits: %v", err)
	}
}

func ctSized() *volume.Volume {
	v := volume.NewVolume(volume.New([3]int{512, 512, 100}, [3]float64{0.8, 0.8, 2}))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range v.Voxels {
		v.Voxels[i] = float32(r.IntN(4096) - 1024)
	}
	return v
}

func BenchmarkPercentiles(b *testing.B) {
	v := ctSized()
	b.SetBytes(int64(len(v.Voxels)) * 4)
	for b.Loop() {
		v.Percentiles(0.5, 99.5)
	}
}

func BenchmarkHash(b *testing.B) {
	v := ctSized()
	b.SetBytes(int64(len(v.Voxels)) * 4)
	for b.Loop() {
		v.Hash()
	}
}
