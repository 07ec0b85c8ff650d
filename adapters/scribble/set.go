// Package scribble brings what a user draws into one form. Label maps with scribble layers, clicks and boxes come in, as the
// clients of MONAI Label's protocol send them; a Set of strokes comes out, in an order that depends on its content alone. Sets can
// be compared, so that a request which repeats the whole drawing can be told apart from one that adds to it.
//
// A stroke lies in a plane of voxels: Axis names the index that stays the same over it, Slice its value. Pixels are counted in
// the plane's own frame, whose x and y are the other two indices in their order: (i,j) for axis 2, (i,k) for axis 1, (j,k) for axis 0.
//
// Sets are values that nothing here changes, so they may be shared between goroutines.
package scribble

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"scrawl/adapters/morph"
)

// Point is a pixel in a stroke's plane.
type Point = morph.Point

// Stroke is one connected mark in one plane.
type Stroke struct {
	// Axis is the index that is the same all over the stroke: 0, 1 or 2 for i, j or k.
	Axis int
	// Slice is that index's value.
	Slice int
	// Positive marks the object, otherwise what is not the object.
	Positive bool
	// Pixels are in the order of y, then x.
	Pixels []Point
}

// Plane is one slice of a volume.
type Plane struct{ Axis, Slice int }

// Plane is where the stroke lies.
func (s Stroke) Plane() Plane { return Plane{s.Axis, s.Slice} }

// Voxel is where a pixel of the plane lies in the volume, as i, j, k.
func (p Plane) Voxel(at Point) [3]int {
	x, y := planeAxes(p.Axis)
	var v [3]int
	v[p.Axis], v[x], v[y] = p.Slice, at.X, at.Y
	return v
}

// planeAxes are the indices that run along x and y of a plane.
func planeAxes(axis int) (x, y int) {
	switch axis {
	case 0:
		return 1, 2
	case 1:
		return 0, 2
	default:
		return 0, 1
	}
}

// Set is everything drawn on one image. Its strokes are ordered by axis, slice, sign (positive first) and pixels, and no two are
// the same.
type Set struct {
	// Size is the image's number of voxels along i, j and k.
	Size    [3]int
	Strokes []Stroke
}

// NewSet puts strokes in order. Pixels outside the volume, pixels given twice, and strokes without any other pixels are dropped, as
// are strokes whose axis is none of 0, 1 and 2. The strokes given are not changed.
func NewSet(size [3]int, strokes ...Stroke) Set {
	set := Set{Size: size}
	for _, s := range strokes {
		if s.Axis < 0 || s.Axis > 2 || s.Slice < 0 || s.Slice >= size[s.Axis] {
			continue
		}
		x, y := planeAxes(s.Axis)
		var kept []Point
		for _, p := range s.Pixels {
			if p.X >= 0 && p.Y >= 0 && p.X < size[x] && p.Y < size[y] {
				kept = append(kept, p)
			}
		}
		slices.SortFunc(kept, comparePoints)
		if kept = slices.Compact(kept); len(kept) > 0 {
			s.Pixels = kept
			set.Strokes = append(set.Strokes, s)
		}
	}
	slices.SortFunc(set.Strokes, compareStrokes)
	set.Strokes = slices.CompactFunc(set.Strokes, func(a, b Stroke) bool { return compareStrokes(a, b) == 0 })
	return set
}

func comparePoints(a, b Point) int {
	return cmp.Or(cmp.Compare(a.Y, b.Y), cmp.Compare(a.X, b.X))
}

func compareStrokes(a, b Stroke) int {
	return cmp.Or(cmp.Compare(a.Axis, b.Axis), cmp.Compare(a.Slice, b.Slice), compareBools(b.Positive, a.Positive),
		slices.CompareFunc(a.Pixels, b.Pixels, comparePoints))
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// Merge is the set of all strokes of both, on s's image.
func (s Set) Merge(o Set) Set {
	return NewSet(s.Size, slices.Concat(s.Strokes, o.Strokes)...)
}

// Empty tells whether nothing is drawn.
func (s Set) Empty() bool { return len(s.Strokes) == 0 }

// Key names the set by its content: equal sets have equal keys, and others, for all practical purposes, do not. It is hexadecimal.
func (s Set) Key() string {
	hash := sha256.New()
	var buf []byte
	put := func(v int) { buf = binary.AppendVarint(buf, int64(v)) }
	for _, n := range s.Size {
		put(n)
	}
	for _, stroke := range s.Strokes {
		put(stroke.Axis)
		put(stroke.Slice)
		put(int(sign(stroke.Positive)))
		put(len(stroke.Pixels))
		for _, p := range stroke.Pixels {
			put(p.X)
			put(p.Y)
		}
		hash.Write(buf)
		buf = buf[:0]
	}
	hash.Write(buf) // the size alone, of an empty set
	return hex.EncodeToString(hash.Sum(nil))
}

// Planes lists the planes that hold strokes, in order.
func (s Set) Planes() []Plane {
	var planes []Plane
	for _, stroke := range s.Strokes {
		if p := stroke.Plane(); len(planes) == 0 || planes[len(planes)-1] != p {
			planes = append(planes, p)
		}
	}
	return planes
}

// On is the part of the set that lies in one plane.
func (s Set) On(p Plane) Set {
	return s.filter(func(stroke Stroke) bool { return stroke.Plane() == p })
}

// Positive is the part of the set that marks the object.
func (s Set) Positive() Set { return s.filter(func(stroke Stroke) bool { return stroke.Positive }) }

// Negative is the part of the set that marks what is not the object.
func (s Set) Negative() Set { return s.filter(func(stroke Stroke) bool { return !stroke.Positive }) }

func (s Set) filter(keep func(Stroke) bool) Set {
	out := Set{Size: s.Size}
	for _, stroke := range s.Strokes {
		if keep(stroke) {
			out.Strokes = append(out.Strokes, stroke)
		}
	}
	return out
}

// Masks unites the strokes that lie in a plane. A pixel that strokes of both signs claim says nothing: it is in neither mask.
func (s Set) Masks(p Plane) (positive, negative morph.Mask) {
	return s.masks(p, func(stroke Stroke, put func(Point)) {
		if stroke.Plane() == p {
			for _, at := range stroke.Pixels {
				put(at)
			}
		}
	})
}

// Crossing unites everything that was drawn on a plane's voxels, also by strokes that lie in other planes and cross this one.
// Pixels of both signs are in neither mask.
func (s Set) Crossing(p Plane) (positive, negative morph.Mask) {
	x, y := planeAxes(p.Axis)
	return s.masks(p, func(stroke Stroke, put func(Point)) {
		for _, at := range stroke.Pixels {
			if v := stroke.Plane().Voxel(at); v[p.Axis] == p.Slice {
				put(Point{X: v[x], Y: v[y]})
			}
		}
	})
}

func (s Set) masks(p Plane, draw func(stroke Stroke, put func(Point))) (positive, negative morph.Mask) {
	x, y := planeAxes(p.Axis)
	positive, negative = morph.New(s.Size[x], s.Size[y]), morph.New(s.Size[x], s.Size[y])
	for _, stroke := range s.Strokes {
		on := negative
		if stroke.Positive {
			on = positive
		}
		draw(stroke, func(at Point) { on.Set(at.X, at.Y, true) })
	}
	for i, b := range positive.Bits {
		if b && negative.Bits[i] {
			positive.Bits[i], negative.Bits[i] = false, false
		}
	}
	return positive, negative
}

// Voxels calls visit for every voxel that is drawn on, in no order, with its index in memory (i fastest). Voxels of both signs are
// left out.
func (s Set) Voxels(visit func(at int, positive bool)) {
	for at, signs := range s.signs() {
		if signs != signPositive|signNegative {
			visit(at, signs == signPositive)
		}
	}
}

const (
	signNegative uint8 = 1 << iota
	signPositive
)

func sign(positive bool) uint8 {
	if positive {
		return signPositive
	}
	return signNegative
}

func (s Set) index(p Plane, at Point) int {
	v := p.Voxel(at)
	return (v[2]*s.Size[1]+v[1])*s.Size[0] + v[0]
}

func (s Set) signs() map[int]uint8 {
	signs := make(map[int]uint8)
	for _, stroke := range s.Strokes {
		for _, at := range stroke.Pixels {
			signs[s.index(stroke.Plane(), at)] |= sign(stroke.Positive)
		}
	}
	return signs
}

// Added is what s has and an earlier set of the same image had not: the new interaction. Voxels are compared, not strokes, since a new
// stroke that touches an old one has become one stroke with it. Where the images' sizes differ, everything is new.
func (s Set) Added(earlier Set) Set {
	if s.Size != earlier.Size {
		return s
	}
	old := earlier.signs()
	var fresh []Stroke
	for _, stroke := range s.Strokes {
		var pixels []Point
		for _, at := range stroke.Pixels {
			if old[s.index(stroke.Plane(), at)]&sign(stroke.Positive) == 0 {
				pixels = append(pixels, at)
			}
		}
		fresh = append(fresh, split(stroke.Plane(), stroke.Positive, pixels)...)
	}
	return NewSet(s.Size, fresh...)
}

// Removed is what an earlier set of the same image had and s has no more: what the user erased.
func (s Set) Removed(earlier Set) Set { return earlier.Added(s) }

// split makes a stroke of every connected group (eight neighbours) of pixels in a plane.
func split(p Plane, positive bool, pixels []Point) []Stroke {
	if len(pixels) == 0 {
		return nil
	}
	lo, hi := pixels[0], pixels[0]
	for _, at := range pixels {
		lo = Point{X: min(lo.X, at.X), Y: min(lo.Y, at.Y)}
		hi = Point{X: max(hi.X, at.X), Y: max(hi.Y, at.Y)}
	}
	m := morph.New(hi.X-lo.X+1, hi.Y-lo.Y+1)
	for _, at := range pixels {
		m.Set(at.X-lo.X, at.Y-lo.Y, true)
	}
	parts := m.Components(morph.Eight)
	strokes := make([]Stroke, parts.N())
	for i := range strokes {
		strokes[i] = Stroke{Axis: p.Axis, Slice: p.Slice, Positive: positive, Pixels: make([]Point, 0, parts.Sizes[i+1])}
	}
	for i, label := range parts.Labels {
		if label > 0 {
			s := &strokes[label-1]
			s.Pixels = append(s.Pixels, Point{X: lo.X + i%m.W, Y: lo.Y + i/m.W})
		}
	}
	return strokes
}
