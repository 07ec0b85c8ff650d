package morph

// Connectivity says which neighbours belong together, by their number as the field counts them.
type Connectivity int

// Four and Eight are for slices; Six (faces), Eighteen (faces and edges) and TwentySix (faces, edges and corners) for volumes.
// A single slice in a volume sees Six as Four, and the other two as Eight.
const (
	Four      Connectivity = 4
	Six       Connectivity = 6
	Eight     Connectivity = 8
	Eighteen  Connectivity = 18
	TwentySix Connectivity = 26
)

// axes is how many indices may differ by one between neighbours.
func (c Connectivity) axes() int {
	switch {
	case c < Eight:
		return 1
	case c < TwentySix:
		return 2
	default:
		return 3
	}
}

// Components are the connected parts of a mask.
type Components struct {
	W, H int
	// Labels numbers every pixel's component from 1, in the order in which their first pixels stand in memory; 0 is unset.
	Labels []int32
	// Sizes holds the number of pixels by label; Sizes[0] counts the unset ones.
	Sizes []int
}

// N is the number of components.
func (c Components) N() int { return len(c.Sizes) - 1 }

// Mask is component number label by itself.
func (c Components) Mask(label int) Mask {
	m := New(c.W, c.H)
	for i, l := range c.Labels {
		m.Bits[i] = l != 0 && int(l) == label
	}
	return m
}

// Components finds the connected parts of a mask, with Four or Eight.
func (m Mask) Components(c Connectivity) Components {
	labels, sizes := Components3(m.Bits, [3]int{m.W, m.H, 1}, c)
	return Components{W: m.W, H: m.H, Labels: labels, Sizes: sizes}
}

// Largest keeps the component with the most pixels, of equal ones the first in memory. It is empty when m is.
func (m Mask) Largest(c Connectivity) Mask {
	parts := m.Components(c)
	best := 0
	for l := 1; l <= parts.N(); l++ {
		if best == 0 || parts.Sizes[l] > parts.Sizes[best] {
			best = l
		}
	}
	return parts.Mask(best)
}

// Components3 labels the connected parts of a volume of size[0]·size[1]·size[2] voxels, i fastest, with Six, Eighteen or
// TwentySix. Labels start at 1 in the order of the first voxel in memory; sizes counts voxels by label, sizes[0] the unset ones.
//
// It is the two-pass algorithm: provisional labels with a union-find of equivalences, then one pass that numbers the roots.
func Components3(bits []bool, size [3]int, c Connectivity) (labels []int32, sizes []int) {
	labels = make([]int32, len(bits))
	back := precedingNeighbours(c.axes())
	parent := []int32{0}
	w, h := size[0], size[1]
	for i := range bits {
		if !bits[i] {
			continue
		}
		x, y, z := i%w, i/w%h, i/(w*h)
		mine := int32(0)
		for _, d := range back {
			nx, ny, nz := x+d[0], y+d[1], z+d[2]
			if nx < 0 || nx >= w || ny < 0 || ny >= h || nz < 0 {
				continue
			}
			other := labels[(nz*h+ny)*w+nx]
			if other == 0 {
				continue
			}
			if mine == 0 {
				mine = root(parent, other)
			} else if mine != other {
				mine = unite(parent, mine, other)
			}
		}
		if mine == 0 {
			mine = int32(len(parent))
			parent = append(parent, mine)
		}
		labels[i] = mine
	}
	return renumber(labels, parent)
}

// precedingNeighbours lists the offsets that a scan has passed already, with at most n indices that differ.
func precedingNeighbours(n int) [][3]int {
	var out [][3]int
	for dz := -1; dz <= 0; dz++ {
		for dy := -1; dy <= 1; dy++ {
			for dx := -1; dx <= 1; dx++ {
				before := dz < 0 || dz == 0 && (dy < 0 || dy == 0 && dx < 0)
				if before && dx*dx+dy*dy+dz*dz <= n {
					out = append(out, [3]int{dx, dy, dz})
				}
			}
		}
	}
	return out
}

func root(parent []int32, l int32) int32 {
	for parent[l] != l {
		parent[l] = parent[parent[l]]
		l = parent[l]
	}
	return l
}

// unite keeps the smaller root, so that a root is always the label that was given first.
func unite(parent []int32, a, b int32) int32 {
	a, b = root(parent, a), root(parent, b)
	lo, hi := min(a, b), max(a, b)
	parent[hi] = lo
	return lo
}

func renumber(labels, parent []int32) ([]int32, []int) {
	final := make([]int32, len(parent))
	n := int32(0)
	for l := int32(1); l < int32(len(parent)); l++ {
		if r := root(parent, l); r == l {
			n++
			final[l] = n
		} else {
			final[l] = final[r]
		}
	}
	sizes := make([]int, n+1)
	for i, l := range labels {
		labels[i] = final[l]
		sizes[final[l]]++
	}
	return labels, sizes
}

// FillHoles sets every unset pixel that cannot reach the grid's border over unset neighbours (Four).
func (m Mask) FillHoles() Mask {
	// One pixel of margin joins everything around the object to its first corner, from which it is walked over.
	part, box, ok := m.around(1)
	if !ok {
		return m.Clone()
	}
	filled, w := New(part.W, part.H).Not(), part.W
	waiting := append(make([]int, 0, len(part.Bits)/2), 0)
	filled.Bits[0] = false
	visit := func(i int) {
		if filled.Bits[i] && !part.Bits[i] {
			filled.Bits[i] = false
			waiting = append(waiting, i)
		}
	}
	for len(waiting) > 0 {
		i := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		x := i % w
		if x > 0 {
			visit(i - 1)
		}
		if x < w-1 {
			visit(i + 1)
		}
		if i >= w {
			visit(i - w)
		}
		if i+w < len(part.Bits) {
			visit(i + w)
		}
	}
	return filled.back(box, m.W, m.H)
}

// Boundary keeps the set pixels that have an unset neighbour (Four), the grid's outside included.
func (m Mask) Boundary() Mask {
	r := New(m.W, m.H)
	for y := range m.H {
		for x := range m.W {
			inner := m.At(x-1, y) && m.At(x+1, y) && m.At(x, y-1) && m.At(x, y+1)
			r.Bits[y*m.W+x] = m.Bits[y*m.W+x] && !inner
		}
	}
	return r
}

// Largest3 keeps the component of a volume with the most voxels, of equal ones the first in memory. size and c are those of
// [Components3].
func Largest3(bits []bool, size [3]int, c Connectivity) []bool {
	labels, sizes := Components3(bits, size, c)
	best := 0
	for l := 1; l < len(sizes); l++ {
		if best == 0 || sizes[l] > sizes[best] {
			best = l
		}
	}
	out := make([]bool, len(bits))
	for i, l := range labels {
		out[i] = l != 0 && int(l) == best
	}
	return out
}
