package rtstruct

import (
	"math"
	"slices"
)

// point is a place in a slice in half voxels: {2i, 2j} is the centre of voxel (i,j).
type point struct{ x, y int }

// mask is one segment in one slice, background all around.
type mask struct {
	labels []uint16 // [height][width]
	width  int
	label  uint16
	box    box
}

// box is the voxels from lo to hi, both included, that a segment does not leave.
type box struct{ lo, hi [2]int }

// boxes finds the box of every label in a slice.
func boxes(labels []uint16, width int) map[uint16]box {
	found := map[uint16]box{}
	for n := 0; n < len(labels); {
		label, i, j := labels[n], n%width, n/width
		end := n + 1
		for end < len(labels) && end%width != 0 && labels[end] == label {
			end++
		}
		if label != 0 {
			b, ok := found[label]
			if !ok {
				b = box{[2]int{i, j}, [2]int{i, j}}
			}
			b.lo[0], b.hi[0], b.hi[1] = min(b.lo[0], i), max(b.hi[0], (end-1)%width), j
			found[label] = b
		}
		n = end
	}
	return found
}

func (m mask) at(i, j int) bool {
	return i >= m.box.lo[0] && j >= m.box.lo[1] && i <= m.box.hi[0] && j <= m.box.hi[1] && m.labels[j*m.width+i] == m.label
}

// trace finds the borders of a mask as closed polygons whose vertices lie between neighbouring voxel centres. Voxels that touch at a
// corner only are apart. Borders around the mask run one way, those around its holes the other.
func (m mask) trace() [][]point {
	next := map[point]point{}
	var starts []point
	for y := m.box.lo[1] - 1; y <= m.box.hi[1]; y++ {
		for x := m.box.lo[0] - 1; x <= m.box.hi[0]; x++ {
			m.cell(x, y, func(from, to point) {
				next[from] = to
				starts = append(starts, from)
			})
		}
	}
	var polygons [][]point
	for _, start := range starts {
		if _, left := next[start]; !left {
			continue
		}
		var polygon []point
		for p := start; ; {
			to, left := next[p]
			if !left {
				break
			}
			polygon = append(polygon, p)
			delete(next, p)
			p = to
		}
		polygons = append(polygons, straighten(polygon))
	}
	return polygons
}

// cell yields the pieces of the border in the square between four voxel centres. Going round the corners, a run of inside corners is
// cut off by a piece from the edge where it ends to the edge where it began; the neighbouring squares go round the other way, so
// pieces join.
func (m mask) cell(x, y int, yield func(from, to point)) {
	in := [4]bool{m.at(x, y), m.at(x+1, y), m.at(x+1, y+1), m.at(x, y+1)}
	if in == [4]bool{} || in == [4]bool{true, true, true, true} {
		return
	}
	edges := [4]point{{2*x + 1, 2 * y}, {2*x + 2, 2*y + 1}, {2*x + 1, 2*y + 2}, {2 * x, 2*y + 1}}
	for e := range 4 {
		if !in[e] || in[(e+1)%4] {
			continue // no run ends on this edge
		}
		begin := e
		for in[(begin+3)%4] {
			begin = (begin + 3) % 4
		}
		yield(edges[e], edges[(begin+3)%4])
	}
}

// straighten leaves out the points on the way between others.
func straighten(polygon []point) []point {
	out := polygon[:0:0]
	for n, p := range polygon {
		before, after := polygon[(n+len(polygon)-1)%len(polygon)], polygon[(n+1)%len(polygon)]
		if (p.x-before.x)*(after.y-p.y) != (p.y-before.y)*(after.x-p.x) {
			out = append(out, p)
		}
	}
	return out
}

// area is twice the signed area.
func area(polygon []point) (sum int) {
	for n, p := range polygon {
		q := polygon[(n+1)%len(polygon)]
		sum += p.x*q.y - q.x*p.y
	}
	return sum
}

// contains tells whether a point that is on none of its edges lies in a polygon.
func contains(polygon []point, p point) (in bool) {
	for n, a := range polygon {
		b := polygon[(n+1)%len(polygon)]
		if (a.y > p.y) != (b.y > p.y) && float64(p.x) < float64(a.x)+float64(p.y-a.y)*float64(b.x-a.x)/float64(b.y-a.y) {
			in = !in
		}
	}
	return in
}

// outline is a border around something, with what holes are looked up by.
type outline struct {
	border, joined []point
	area           int
	lo, hi         point
}

func newOutline(border []point) outline {
	o := outline{border: border, joined: border, area: area(border), lo: border[0], hi: border[0]}
	for _, p := range border {
		o.lo = point{min(o.lo.x, p.x), min(o.lo.y, p.y)}
		o.hi = point{max(o.hi.x, p.x), max(o.hi.y, p.y)}
	}
	return o
}

func (o outline) contains(p point) bool {
	return p.x > o.lo.x && p.y > o.lo.y && p.x < o.hi.x && p.y < o.hi.y && contains(o.border, p)
}

// maxJoining bounds the work of joining holes of one slice, in pairs of points compared. A mask like noise has more; its other holes stay
// borders of their own, which read the same.
const maxJoining = 1 << 24

// keyholes joins holes to the polygons around them, by a way there and back from the nearest point.
func keyholes(polygons [][]point) [][]point {
	var outer []outline
	var holes, out [][]point
	for _, p := range polygons {
		if area(p) > 0 {
			outer = append(outer, newOutline(p))
		} else {
			holes = append(holes, p)
		}
	}
	work := 0
	for _, hole := range holes {
		best := -1
		for n, o := range outer {
			if work < maxJoining && (best < 0 || o.area < outer[best].area) && o.contains(hole[0]) {
				best = n
			}
		}
		work += len(outer)
		if best < 0 {
			out = append(out, hole)
			continue
		}
		work += len(outer[best].joined) * len(hole)
		outer[best].joined = join(outer[best].joined, hole)
	}
	for _, o := range outer {
		out = append(out, o.joined)
	}
	return out
}

func join(outer, hole []point) []point {
	at, from, nearest := 0, 0, math.MaxInt
	for i, p := range outer {
		for j, q := range hole {
			if d := (p.x-q.x)*(p.x-q.x) + (p.y-q.y)*(p.y-q.y); d < nearest {
				at, from, nearest = i, j, d
			}
		}
	}
	joined := slices.Clone(outer[:at+1])
	joined = append(joined, hole[from:]...)
	joined = append(joined, hole[:from+1]...)
	return append(joined, outer[at:]...)
}
