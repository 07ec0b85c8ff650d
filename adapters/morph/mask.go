// Package morph is mathematical morphology on small binary masks: set operations, connected components, exact Euclidean
// distances, discs, thinning, holes, and a Gaussian blur.
//
// A Mask is one slice, a value without any geometry: distances take the pixel spacing as an argument, in the unit the answer
// is wanted in. What lies outside a mask's grid counts as unset, in every operation. The functions whose names end in 3 work on
// voxels stored with i fastest, as the package volume stores them.
//
// Nothing here changes its arguments, except Set, so everything may be called concurrently.
package morph

// Mask is a set of pixels on a grid of W by H. Bits holds W·H values with x fastest: pixel (x,y) is Bits[y*W+x].
type Mask struct {
	W, H int
	Bits []bool
}

// Point is a pixel: x runs along rows, y counts the rows.
type Point struct{ X, Y int }

// Rect is a rectangle of pixels, half open: X0 ≤ x < X1 and Y0 ≤ y < Y1.
type Rect struct{ X0, Y0, X1, Y1 int }

// W is the number of columns.
func (r Rect) W() int { return r.X1 - r.X0 }

// H is the number of rows.
func (r Rect) H() int { return r.Y1 - r.Y0 }

// Grow moves every side outwards by n pixels and clips the result to a grid of w by h.
func (r Rect) Grow(n, w, h int) Rect {
	return Rect{max(r.X0-n, 0), max(r.Y0-n, 0), min(r.X1+n, w), min(r.Y1+n, h)}
}

// New makes an empty mask. Negative sizes count as 0.
func New(w, h int) Mask {
	w, h = max(w, 0), max(h, 0)
	return Mask{W: w, H: h, Bits: make([]bool, w*h)}
}

// FromPoints makes a mask of the points that lie on the grid.
func FromPoints(w, h int, points []Point) Mask {
	m := New(w, h)
	for _, p := range points {
		m.Set(p.X, p.Y, true)
	}
	return m
}

// Threshold makes a mask of the values above t. values holds at least w·h numbers, x fastest; not-a-number is below everything.
func Threshold(values []float32, w, h int, t float32) Mask {
	m := New(w, h)
	for i := range m.Bits {
		m.Bits[i] = values[i] > t
	}
	return m
}

// Equal makes a mask of the labels that equal one. labels holds at least w·h numbers, x fastest.
func Equal(labels []uint16, w, h int, label uint16) Mask {
	m := New(w, h)
	for i := range m.Bits {
		m.Bits[i] = labels[i] == label
	}
	return m
}

// At tells whether a pixel is set. Pixels outside the grid are not.
func (m Mask) At(x, y int) bool {
	return x >= 0 && y >= 0 && x < m.W && y < m.H && m.Bits[y*m.W+x]
}

// Set changes one pixel in place. Pixels outside the grid are ignored.
func (m Mask) Set(x, y int, v bool) {
	if x >= 0 && y >= 0 && x < m.W && y < m.H {
		m.Bits[y*m.W+x] = v
	}
}

// Count is the number of pixels that are set.
func (m Mask) Count() int {
	n := 0
	for _, b := range m.Bits {
		if b {
			n++
		}
	}
	return n
}

// Empty tells whether no pixel is set.
func (m Mask) Empty() bool {
	for _, b := range m.Bits {
		if b {
			return false
		}
	}
	return true
}

// Clone returns a copy that shares nothing with m.
func (m Mask) Clone() Mask {
	return Mask{W: m.W, H: m.H, Bits: append(make([]bool, 0, len(m.Bits)), m.Bits...)}
}

// Points lists the pixels that are set, row by row.
func (m Mask) Points() []Point {
	points := make([]Point, 0, 64)
	for i, b := range m.Bits {
		if b {
			points = append(points, Point{i % m.W, i / m.W})
		}
	}
	return points
}

// Floats gives 1 for every set pixel and 0 for every other one, x fastest.
func (m Mask) Floats() []float32 {
	f := make([]float32, len(m.Bits))
	for i, b := range m.Bits {
		if b {
			f[i] = 1
		}
	}
	return f
}

// And is the intersection, on m's grid.
func (m Mask) And(o Mask) Mask {
	r, other := New(m.W, m.H), o.on(m)
	for i, a := range m.Bits {
		r.Bits[i] = a && other[i]
	}
	return r
}

// Or is the union, on m's grid.
func (m Mask) Or(o Mask) Mask {
	r, other := New(m.W, m.H), o.on(m)
	for i, a := range m.Bits {
		r.Bits[i] = a || other[i]
	}
	return r
}

// AndNot is what is in m and not in o, on m's grid.
func (m Mask) AndNot(o Mask) Mask {
	r, other := New(m.W, m.H), o.on(m)
	for i, a := range m.Bits {
		r.Bits[i] = a && !other[i]
	}
	return r
}

// Not is the complement within the grid.
func (m Mask) Not() Mask {
	r := New(m.W, m.H)
	for i, a := range m.Bits {
		r.Bits[i] = !a
	}
	return r
}

// on is m's pixels on another mask's grid, unset where m has none.
func (m Mask) on(grid Mask) []bool {
	if m.W == grid.W && m.H == grid.H {
		return m.Bits
	}
	return m.Crop(Rect{0, 0, grid.W, grid.H}).Bits
}

// Same tells whether two masks have the same grid and the same pixels.
func (m Mask) Same(o Mask) bool {
	if m.W != o.W || m.H != o.H {
		return false
	}
	for i, b := range m.Bits {
		if b != o.Bits[i] {
			return false
		}
	}
	return true
}

// Bounds is the smallest rectangle around the set pixels, and false when there are none.
func (m Mask) Bounds() (Rect, bool) {
	r := Rect{X0: m.W, Y0: m.H}
	for y := range m.H {
		row := m.Bits[y*m.W : (y+1)*m.W]
		for x, b := range row {
			if b {
				r.X0, r.X1 = min(r.X0, x), max(r.X1, x+1)
				r.Y0, r.Y1 = min(r.Y0, y), max(r.Y1, y+1)
			}
		}
	}
	if r.X1 == 0 {
		return Rect{}, false
	}
	return r, true
}

// Crop cuts a rectangle out. It may reach beyond the grid: what is there is unset.
func (m Mask) Crop(r Rect) Mask {
	c := New(r.W(), r.H())
	x0, x1 := max(r.X0, 0), min(r.X1, m.W)
	if x0 >= x1 {
		return c
	}
	for y := max(r.Y0, 0); y < min(r.Y1, m.H); y++ {
		copy(c.Bits[(y-r.Y0)*c.W+x0-r.X0:], m.Bits[y*m.W+x0:y*m.W+x1])
	}
	return c
}

// around cuts out the rectangle that holds all set pixels and a margin, which may reach beyond the grid, and is false when none are set.
func (m Mask) around(margin int) (Mask, Rect, bool) {
	box, ok := m.Bounds()
	if !ok {
		return Mask{}, Rect{}, false
	}
	box = Rect{box.X0 - margin, box.Y0 - margin, box.X1 + margin, box.Y1 + margin}
	return m.Crop(box), box, true
}

// back puts what was cut out at a rectangle back onto an empty grid of w by h.
func (m Mask) back(r Rect, w, h int) Mask { return m.Crop(Rect{-r.X0, -r.Y0, w - r.X0, h - r.Y0}) }

// Shift moves the pixels by (dx,dy) on the same grid. What leaves the grid is lost.
func (m Mask) Shift(dx, dy int) Mask {
	return m.Crop(Rect{-dx, -dy, m.W - dx, m.H - dy})
}
