package volume

import "fmt"

// Plane names one of the three families of slices of a grid by the index axis that stays constant in a slice. Which of them is
// axial, coronal or sagittal depends on the Direction: NearestAxis tells.
//
// The pixels of a slice run over the other two axes in index order: the lower axis is x, which is fastest, the higher is y. So a
// slice of PlaneK has x = i, y = j; of PlaneJ x = i, y = k; of PlaneI x = j, y = k. Nothing is flipped.
type Plane int

// The three planes: slices of constant i, j or k.
const (
	PlaneI Plane = iota
	PlaneJ
	PlaneK
)

// Axes are the index axes that run along x and y of a slice.
func (p Plane) Axes() (x, y int) {
	switch p {
	case PlaneI:
		return 1, 2
	case PlaneJ:
		return 0, 2
	}
	return 0, 1
}

// String is "i", "j" or "k".
func (p Plane) String() string {
	if p < PlaneI || p > PlaneK {
		return fmt.Sprintf("Plane(%d)", int(p))
	}
	return string("ijk"[p])
}

// Slice2D is a slice of a Volume.
type Slice2D struct {
	W, H int
	// Pixels holds W·H values with x fastest.
	Pixels []float32
	// Spacing is the distance of pixel centres along x and y in mm.
	Spacing [2]float64
}

// LabelSlice is a slice of a LabelMap.
type LabelSlice struct {
	W, H int
	// Labels holds W·H values with x fastest.
	Labels []uint16
	// Spacing is the distance of pixel centres along x and y in mm.
	Spacing [2]float64
}

// SliceSize is the number of pixels along x and y of a slice of plane p.
func (g Geometry) SliceSize(p Plane) (w, h int) {
	x, y := p.Axes()
	return g.Size[x], g.Size[y]
}

// SliceSpacing is the spacing along x and y of a slice of plane p, in mm.
func (g Geometry) SliceSpacing(p Plane) [2]float64 {
	x, y := p.Axes()
	return [2]float64{g.Spacing[x], g.Spacing[y]}
}

// SliceIndex is the voxel under pixel (x,y) of slice n of plane p.
func SliceIndex(p Plane, n, x, y int) (i, j, k int) {
	switch p {
	case PlaneI:
		return n, x, y
	case PlaneJ:
		return x, n, y
	}
	return x, y, n
}

// Slice copies slice n of plane p.
func (v *Volume) Slice(p Plane, n int) (Slice2D, error) {
	walk, err := v.walk(p, n, len(v.Voxels))
	if err != nil {
		return Slice2D{}, err
	}
	s := Slice2D{W: walk.w, H: walk.h, Pixels: make([]float32, walk.w*walk.h), Spacing: v.SliceSpacing(p)}
	gather(walk, s.Pixels, v.Voxels)
	return s, nil
}

// Slice copies slice n of plane p.
func (m *LabelMap) Slice(p Plane, n int) (LabelSlice, error) {
	walk, err := m.walk(p, n, len(m.Labels))
	if err != nil {
		return LabelSlice{}, err
	}
	s := LabelSlice{W: walk.w, H: walk.h, Labels: make([]uint16, walk.w*walk.h), Spacing: m.SliceSpacing(p)}
	gather(walk, s.Labels, m.Labels)
	return s, nil
}

// SetSlice overwrites slice n of plane p with s, whose size must fit.
func (m *LabelMap) SetSlice(p Plane, n int, s LabelSlice) error {
	walk, err := m.walk(p, n, len(m.Labels))
	if err != nil {
		return err
	}
	if s.W != walk.w || s.H != walk.h || len(s.Labels) != walk.w*walk.h {
		return fmt.Errorf("slice of %d×%d pixels with %d labels, want %d×%d", s.W, s.H, len(s.Labels), walk.w, walk.h)
	}
	for y := range walk.h {
		at := walk.start + y*walk.dy
		for _, label := range s.Labels[y*walk.w : (y+1)*walk.w] {
			m.Labels[at] = label
			at += walk.dx
		}
	}
	return nil
}

// walk is the way through the voxels of one slice: steps are counted in voxels.
type walk struct{ w, h, start, dx, dy int }

func (g Geometry) walk(p Plane, n, values int) (walk, error) {
	if p < PlaneI || p > PlaneK {
		return walk{}, fmt.Errorf("plane %d: want 0, 1 or 2", int(p))
	}
	if n < 0 || n >= g.Size[p] {
		return walk{}, fmt.Errorf("slice %d along %v: want 0 to %d", n, p, g.Size[p]-1)
	}
	if values != g.Voxels() {
		return walk{}, fmt.Errorf("%d values for a grid of %s", values, g.sizeText())
	}
	step := [3]int{1, g.Size[0], g.Size[0] * g.Size[1]}
	x, y := p.Axes()
	return walk{w: g.Size[x], h: g.Size[y], start: n * step[p], dx: step[x], dy: step[y]}, nil
}

func gather[T any](w walk, dst, src []T) {
	for y := range w.h {
		at := w.start + y*w.dy
		if w.dx == 1 {
			copy(dst[y*w.w:(y+1)*w.w], src[at:])
			continue
		}
		for x := range w.w {
			dst[y*w.w+x] = src[at]
			at += w.dx
		}
	}
}
