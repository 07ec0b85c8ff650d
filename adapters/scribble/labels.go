package scribble

import (
	"fmt"

	"scrawl/adapters/volume"
)

// FromLabels reads the strokes off a label map in which some voxels hold the number of the foreground scribbles' layer and others
// that of the background scribbles'. A layer whose number is 0 is absent; other values in the map are other segments, and no
// scribbles.
//
// Connected voxels (26 neighbours) of one layer belong together. They lie in the plane in which they are flat. What is flat two
// ways, such as a line or a single voxel, lies in the acquisition plane if that is one of them, else in the one with the higher
// axis. What is flat in no way, as when neighbouring slices were painted on, is cut along the acquisition axis into
// strokes of one slice each.
func FromLabels(m *volume.LabelMap, foreground, background uint16) (Set, error) {
	if want := m.Size[0] * m.Size[1] * m.Size[2]; len(m.Labels) != want {
		return Set{}, fmt.Errorf("scribble label map holds %d voxels, want %d for its size %v", len(m.Labels), want, m.Size)
	}
	if foreground == background && foreground != 0 {
		return Set{}, fmt.Errorf("foreground and background scribbles both have label %d, want two labels", foreground)
	}
	axis := acquisitionAxis(m.Geometry)
	var positive, negative []int
	for at, label := range m.Labels {
		if label == 0 {
			continue // most voxels, and what an absent layer would match
		}
		switch label {
		case foreground:
			positive = append(positive, at)
		case background:
			negative = append(negative, at)
		}
	}
	strokes := layerStrokes(m.Size, positive, axis, true)
	strokes = append(strokes, layerStrokes(m.Size, negative, axis, false)...)
	return NewSet(m.Size, strokes...), nil
}

// acquisitionAxis is the index along which slices were taken. An image of one slice was taken along k, whatever its spacing says.
func acquisitionAxis(g volume.Geometry) int {
	if g.Size[2] == 1 {
		return int(volume.PlaneK)
	}
	return int(g.AcquisitionPlane())
}

// layerStrokes makes strokes of one layer's voxels, given as indices in ascending order.
func layerStrokes(size [3]int, voxels []int, axis int, positive bool) []Stroke {
	var strokes []Stroke
	for _, part := range connected(size, voxels) {
		a := planeOf(size, part, axis)
		bySlice := make(map[int][]Point)
		x, y := planeAxes(a)
		for _, at := range part {
			v := unravel(size, at)
			bySlice[v[a]] = append(bySlice[v[a]], Point{X: v[x], Y: v[y]})
		}
		for slice, pixels := range bySlice {
			strokes = append(strokes, split(Plane{a, slice}, positive, pixels)...)
		}
	}
	return strokes
}

func unravel(size [3]int, at int) [3]int {
	return [3]int{at % size[0], at / size[0] % size[1], at / (size[0] * size[1])}
}

// planeOf is the axis across which a part is flat, else the acquisition axis.
func planeOf(size [3]int, part []int, acquisition int) int {
	lo := unravel(size, part[0])
	hi := lo
	for _, at := range part {
		for a, i := range unravel(size, at) {
			lo[a], hi[a] = min(lo[a], i), max(hi[a], i)
		}
	}
	for _, a := range [4]int{acquisition, 2, 1, 0} {
		if lo[a] == hi[a] {
			return a
		}
	}
	return acquisition
}

// connected groups voxels that touch, corners included. It works on the list of voxels, not on the grid: a few thousand voxels drawn in a
// hundred million need no array of that size. Since the list is in ascending order, one cursor for each of the neighbours that
// precede a voxel finds them all in a single pass.
func connected(size [3]int, voxels []int) [][]int {
	type neighbour struct{ dx, dy, dz, offset, cursor int }
	var back []neighbour
	for dz := -1; dz <= 0; dz++ {
		for dy := -1; dy <= 1; dy++ {
			for dx := -1; dx <= 1; dx++ {
				if dz < 0 || dy < 0 || dy == 0 && dx < 0 {
					back = append(back, neighbour{dx: dx, dy: dy, dz: dz, offset: (dz*size[1]+dy)*size[0] + dx})
				}
			}
		}
	}
	parent := make([]int, len(voxels))
	for n, at := range voxels {
		parent[n] = n
		v := unravel(size, at)
		for b := range back {
			d := &back[b]
			for d.cursor < n && voxels[d.cursor] < at+d.offset {
				d.cursor++
			}
			x, y := v[0]+d.dx, v[1]+d.dy
			if voxels[d.cursor] == at+d.offset && x >= 0 && x < size[0] && y >= 0 && y < size[1] {
				unite(parent, n, d.cursor)
			}
		}
	}
	var parts [][]int
	place := make(map[int]int)
	for n, at := range voxels {
		r := root(parent, n)
		if _, seen := place[r]; !seen {
			place[r] = len(parts)
			parts = append(parts, nil)
		}
		parts[place[r]] = append(parts[place[r]], at)
	}
	return parts
}

func root(parent []int, n int) int {
	for parent[n] != n {
		parent[n] = parent[parent[n]]
		n = parent[n]
	}
	return n
}

func unite(parent []int, a, b int) {
	a, b = root(parent, a), root(parent, b)
	parent[max(a, b)] = min(a, b)
}
