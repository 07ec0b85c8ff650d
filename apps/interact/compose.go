package interact

import (
	"slices"

	"scrawl/adapters/morph"
	"scrawl/adapters/volume"
)

// compose puts the answers of all slices together, as one segment. Where slices cross, what comes later wins: carried slices,
// anchors along the axis of carrying, anchors in other planes, slices drawn by hand, and the strokes, which always keep their
// label. Voxels of protected segments and outside the box are left out.
func (r *run) compose() {
	out := make([]bool, len(r.img.Volume.Voxels))
	for _, key := range sorted(r.state.Carried) {
		w, h := r.size(key.Axis)
		r.set(out, key, r.state.Carried[key].mask(w, h))
	}
	for _, key := range r.ranked() {
		r.set(out, key, r.anchorMask(r.state.Anchors[key], key))
	}
	r.req.Strokes.Voxels(func(at int, positive bool) { out[at] = positive })
	r.limit(out)
	r.state.Answer = out
}

// ranked lists the anchors so that, where they cross, what comes later wins.
func (r *run) ranked() []SliceKey {
	axis := r.carryAxis()
	rank := func(key SliceKey) int {
		switch {
		case r.state.Anchors[key].Edited != nil:
			return 2
		case key.Axis != axis:
			return 1
		}
		return 0
	}
	keys := sorted(r.state.Anchors)
	slices.SortStableFunc(keys, func(a, b SliceKey) int { return rank(a) - rank(b) })
	return keys
}

// Confidence is the probability of the object at each voxel of the answer, in steps of 1/255, and 0 elsewhere: it says which of two
// objects that claim a voxel is surer of it. Where slices cross, the surest counts.
func (st State) Confidence(size [3]int) []uint8 {
	out := make([]uint8, len(st.Answer))
	put := func(key SliceKey, p Probability) {
		at := indexer(size, key.Axis, key.Slice)
		a, b := volume.Plane(key.Axis).Axes()
		for y := range size[b] {
			for x := range size[a] {
				if i := at(x, y); st.Answer[i] {
					out[i] = max(out[i], p[y*size[a]+x], half)
				}
			}
		}
	}
	for key, p := range st.Carried {
		put(key, p)
	}
	for key, a := range st.Anchors {
		put(key, a.shown())
	}
	return out
}

func (r *run) anchorMask(a Anchor, key SliceKey) morph.Mask {
	if a.Edited != nil {
		return *a.Edited
	}
	w, h := r.size(key.Axis)
	return a.shown().mask(w, h)
}

func (r *run) limit(out []bool) {
	if r.req.Protected != nil {
		for i, p := range r.req.Protected {
			if p {
				out[i] = false
			}
		}
	}
	if b := r.req.Box; b != nil {
		s := r.img.Volume.Size
		i := 0
		for z := range s[2] {
			for y := range s[1] {
				for x := range s[0] {
					if x < b[0][0] || x >= b[1][0] || y < b[0][1] || y >= b[1][1] || z < b[0][2] || z >= b[1][2] {
						out[i] = false
					}
					i++
				}
			}
		}
	}
}

// indexer returns the position in a volume of pixel (x,y) of a slice.
func indexer(size [3]int, axis, n int) func(x, y int) int {
	stride := [3]int{1, size[0], size[0] * size[1]}
	a, b := volume.Plane(axis).Axes()
	base := n * stride[axis]
	return func(x, y int) int { return base + x*stride[a] + y*stride[b] }
}

// set writes a slice's mask into a volume of bits.
func (r *run) set(out []bool, key SliceKey, m morph.Mask) {
	at := indexer(r.img.Volume.Size, key.Axis, key.Slice)
	for y := range m.H {
		for x := range m.W {
			out[at(x, y)] = m.Bits[y*m.W+x]
		}
	}
}

// bits reads a slice's mask from a volume of bits.
func (r *run) bits(from []bool, axis, n int) morph.Mask {
	w, h := r.size(axis)
	m := morph.New(w, h)
	at := indexer(r.img.Volume.Size, axis, n)
	for y := range h {
		for x := range w {
			m.Bits[y*w+x] = from[at(x, y)]
		}
	}
	return m
}
