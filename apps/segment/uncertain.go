package segment

import (
	"context"

	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// How an image's uncertainty is sampled: so many windows spread over it, and augmented copies of each.
const (
	sampledSlices  = 6
	sampledVolumes = 2
	sampledCopies  = 4
)

// Uncertainty says how much the network's answers, by what a user has taught it, differ between augmented copies of parts of an image, from 0
// towards 1: see [adapt.Engine.Disagreement]. The same arguments give the same answer.
func (m *Model) Uncertainty(ctx context.Context, img Image, l Learned, turn Turn) (float64, error) {
	g := m.gridOf(img.Volume.Geometry)
	w, negative := m.begins(l)
	work := polarised(g.cut(img), negative)
	c := m.Thesis
	c.Inversion = false // no scanner inverts; networks that cannot stand it would be as unsure of every image
	total := 0.0
	windows := m.sampled(g)
	for i, win := range windows {
		s := adapt.Slice{X: m.tensorOf(g.see(work, win), win), Valid: m.valid(g, win)}
		err := turn(ctx, func() error {
			d, err := m.Engine.Disagreement(ctx, c, w, s, sampledCopies, uint64(i))
			total += d
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return total / float64(len(windows)), nil
}

// sampled are windows in the middle of evenly spaced slices, or for a network of volumes along D.
func (m *Model) sampled(g grid) []window {
	depths, rows, columns := m.windows(g)
	n := sampledVolumes
	if len(m.Engine.Network().Size) == 2 {
		n = sampledSlices
	}
	n = min(n, len(depths))
	var all []window
	for i := range n {
		all = append(all, window{depths[(2*i+1)*len(depths)/(2*n)], rows[len(rows)/2], columns[len(columns)/2]})
	}
	return all
}

// valid is 1 where a window lies on the grid.
func (m *Model) valid(g grid, w window) *tensor.Tensor {
	t := tensor.Zeros[float32](append([]int{1, 1}, w.extent(len(m.Engine.Network().Size))...)...)
	w.each(func(at int, p [3]int) {
		if g.inside(p) {
			t.Float32s()[at] = 1
		}
	})
	return t
}
