package segment

import (
	"slices"

	"scrawl/adapters/volume"
	"scrawl/engine/tensor"
)

// Example is a window as the network sees it, with what it should answer: X [1,1,H,W] or [1,1,D,H,W], and Target and Valid of the same
// shape: the number of each voxel's class, and 0 where the window reaches beyond the image.
type Example struct{ X, Target, Valid *tensor.Tensor }

// Cut is a labelled volume on a network's grid, from which windows are cut to learn from. It is immutable.
type Cut struct {
	m       *Model
	g       grid
	work    []float32
	classes []uint8
	patch   []int
}

// Cut brings a volume and the classes of its voxels, i fastest, onto the network's grid. patch is the windows' size, [H,W] or [D,H,W],
// for networks that take any; nil is the network's own patch.
func (m *Model) Cut(img Image, classes []uint8, patch []int) *Cut {
	c := &Cut{m: m, g: m.gridOf(img.Volume.Geometry), patch: patch}
	if m.Input.Patch != nil {
		c.patch = m.Input.Patch
	}
	c.work = c.g.cut(img)
	c.classes = make([]uint8, len(c.work))
	whole := window{{0, c.g.size[0]}, {0, c.g.size[1]}, {0, c.g.size[2]}}
	whole.each(func(at int, p [3]int) { c.classes[at] = classes[c.g.toVolume(p)] })
	return c
}

// Extent is the size of the grid that a volume would be cut onto, along the network's axes: [H,W] or [D,H,W].
func (m *Model) Extent(v volume.Geometry) []int {
	g := m.gridOf(v)
	return g.size[3-len(m.Engine.Network().Size):]
}

// Bytes is what the cut takes in memory.
func (c *Cut) Bytes() int64 { return 5 * int64(len(c.work)) }

// Around is the window that holds a voxel of the volume, given by its place in memory, moved by shift along D, H and W as far as the
// image allows.
func (c *Cut) Around(voxel int, shift [3]int) Example {
	p := c.g.toGrid(voxel)
	var w window
	for t := range 3 {
		w[t] = around(p[t]+shift[t], p[t]+shift[t], c.g.size[t], c.side(t), c.m.Input.Multiple)
	}
	return c.example(w)
}

// side is a window's size along an axis of the grid; of a network of slices it is one slice thick.
func (c *Cut) side(t int) int {
	first := 3 - len(c.m.Engine.Network().Size)
	switch {
	case t < first:
		return 1
	case c.patch == nil:
		return 0
	}
	return c.patch[t-first]
}

// Spread gives n windows, or fewer when there are not so many, spread evenly over the image.
func (c *Cut) Spread(n int) []Example {
	var sides [3][]span
	for t := range 3 {
		multiple := c.m.Input.Multiple
		if t < 3-len(c.m.Engine.Network().Size) {
			multiple = 1
		}
		sides[t] = spans(c.g.size[t], c.side(t), multiple, 0)
	}
	var all []window
	for _, d := range sides[0] {
		for _, h := range sides[1] {
			for _, x := range sides[2] {
				all = append(all, window{d, h, x})
			}
		}
	}
	n = min(n, len(all))
	examples := make([]Example, n)
	for i := range examples {
		examples[i] = c.example(all[(2*i+1)*len(all)/(2*n)])
	}
	return examples
}

func (c *Cut) example(w window) Example {
	shape := append([]int{1, 1}, w.extent(len(c.m.Engine.Network().Size))...)
	e := Example{X: tensor.Must(shape, c.g.see(c.work, w)), Target: tensor.Zeros[float32](shape...), Valid: tensor.Zeros[float32](shape...)}
	w.each(func(at int, p [3]int) {
		if c.g.inside(p) {
			e.Valid.Float32s()[at] = 1
			e.Target.Float32s()[at] = float32(c.classes[c.g.index(p)])
		}
	})
	return e
}

// Likeliest is the class with the largest of the probabilities [1,K,…] at each voxel.
func Likeliest(prob *tensor.Tensor) []uint16 {
	p, classes := prob.Float32s(), prob.Shape()[1]
	n := len(p) / classes
	out := make([]uint16, n)
	for i := range out {
		for c := range classes {
			if p[c*n+i] > p[int(out[i])*n+i] {
				out[i] = uint16(c)
			}
		}
	}
	return out
}

// Indices are the classes by label.
func (m *Model) Indices() map[string]uint16 {
	indices := map[string]uint16{}
	for _, c := range slices.Backward(m.Classes) {
		indices[c.Label] = uint16(c.Index)
	}
	return indices
}
