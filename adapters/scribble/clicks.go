package scribble

import (
	"fmt"

	"scrawl/adapters/volume"
)

// FromClicks makes a disc of radius pixels of every click, on the acquisition plane: see [FromClicksAcross].
func FromClicks(g volume.Geometry, positive, negative [][3]int, radius float64) (set Set, outside int) {
	return FromClicksAcross(acquisitionAxis(g), g.Size, positive, negative, radius)
}

// FromClicksAcross makes a disc of radius pixels of every click, on the plane across an index axis. Clicks are voxels (i,j,k) of an
// image of that size as it is stored. Clicks outside the image, which clients do send, are left out and counted.
//
// Where discs of both signs would overlap, a pixel goes to the nearer click, and to none of them at equal distance, so that two
// clicks close together both keep their say.
func FromClicksAcross(axis int, size [3]int, positive, negative [][3]int, radius float64) (set Set, outside int) {
	var clicks []click
	for n, v := range append(append([][3]int{}, positive...), negative...) {
		if !inside(size, v) {
			outside++
			continue
		}
		x, y := planeAxes(axis)
		clicks = append(clicks, click{Plane{axis, v[axis]}, Point{X: v[x], Y: v[y]}, n < len(positive)})
	}
	strokes := make([]Stroke, 0, len(clicks))
	for _, c := range clicks {
		strokes = append(strokes, Stroke{Axis: axis, Slice: c.plane.Slice, Positive: c.positive, Pixels: c.disc(radius, clicks)})
	}
	return NewSet(size, strokes...), outside
}

func inside(size, v [3]int) bool {
	for a, i := range v {
		if i < 0 || i >= size[a] {
			return false
		}
	}
	return true
}

type click struct {
	plane    Plane
	at       Point
	positive bool
}

// disc lists the pixels within radius of the click that no click of the other sign is as near to.
func (c click) disc(radius float64, all []click) []Point {
	var rivals []Point
	for _, o := range all {
		if o.plane == c.plane && o.positive != c.positive {
			rivals = append(rivals, o.at)
		}
	}
	n := int(max(radius, 0))
	var pixels []Point
	for y := c.at.Y - n; y <= c.at.Y+n; y++ {
		for x := c.at.X - n; x <= c.at.X+n; x++ {
			at := Point{X: x, Y: y}
			d := squared(at, c.at)
			own := float64(d) <= radius*radius || d == 0
			for _, r := range rivals {
				own = own && d < squared(at, r)
			}
			if own {
				pixels = append(pixels, at)
			}
		}
	}
	return pixels
}

func squared(a, b Point) int {
	return (a.X-b.X)*(a.X-b.X) + (a.Y-b.Y)*(a.Y-b.Y)
}

// Box is a box of voxels, half open: Lo ≤ index < Hi along every axis.
type Box struct{ Lo, Hi [3]int }

// Empty tells whether no voxel is in the box.
func (b Box) Empty() bool {
	return b.Lo[0] >= b.Hi[0] || b.Lo[1] >= b.Hi[1] || b.Lo[2] >= b.Hi[2]
}

// Contains tells whether a voxel is in the box.
func (b Box) Contains(v [3]int) bool {
	for a, i := range v {
		if i < b.Lo[a] || i >= b.Hi[a] {
			return false
		}
	}
	return true
}

// FromROI reads a region of interest [i0,i1,j0,j1,k0,k1] as clients send it: each pair is sorted, since 3D Slicer makes them of corners in
// patient space and sends i and j backwards for the usual orientation, and then clipped to the image. No numbers mean no region,
// the whole image. A region without any voxel in the image is an error, as is any other number of values than 6.
func FromROI(roi []int, size [3]int) (Box, error) {
	if len(roi) == 0 {
		return Box{Hi: size}, nil
	}
	if len(roi) != 6 {
		return Box{}, fmt.Errorf("roi has %d values, want 6: i0,i1,j0,j1,k0,k1", len(roi))
	}
	var b Box
	for a := range 3 {
		lo, hi := roi[2*a], roi[2*a+1]
		b.Lo[a], b.Hi[a] = max(min(lo, hi), 0), min(max(lo, hi), size[a])
	}
	if b.Empty() {
		return Box{}, fmt.Errorf("roi %v holds no voxel of the image, want a box that overlaps its %v voxels", roi, size)
	}
	return b, nil
}

// Within is the part of the set that lies in a box. Strokes that are cut apart become several.
func (s Set) Within(b Box) Set {
	var kept []Stroke
	for _, stroke := range s.Strokes {
		var pixels []Point
		for _, at := range stroke.Pixels {
			if b.Contains(stroke.Plane().Voxel(at)) {
				pixels = append(pixels, at)
			}
		}
		kept = append(kept, split(stroke.Plane(), stroke.Positive, pixels)...)
	}
	return NewSet(s.Size, kept...)
}
