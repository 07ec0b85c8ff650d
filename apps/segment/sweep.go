package segment

import (
	"context"
	"fmt"
	"math"

	"scrawl/adapters/transform"
	"scrawl/adapters/volume"
	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// Turn runs one piece of work of the network on the device. It is where a server lets others in between the windows of a large
// volume; [Alone] is that of a caller who has the device to itself.
type Turn func(ctx context.Context, work func() error) error

// Alone runs the work at once.
func Alone(_ context.Context, work func() error) error { return work() }

// sweep answers the grid's slices from first up to, not including, end with weights w: emit gets each slice's probabilities, K·H·W values, in
// ascending order.
func (m *Model) sweep(ctx context.Context, g grid, work []float32, w adapt.Weights, first, end int, turn Turn, emit func(d int, probabilities []float32) error) error {
	depths, rows, columns := m.windows(g)
	b := &blender{size: g.size, classes: m.Engine.Network().Classes, slices: map[int]*blend{}, plain: len(rows) == 1 && len(columns) == 1 && len(depths) == 1}
	done := first
	for i, depth := range depths {
		if depth.start+depth.n <= first || depth.start >= end {
			continue
		}
		for _, row := range rows {
			for _, column := range columns {
				win := window{depth, row, column}
				var out *tensor.Tensor
				err := turn(ctx, func() (err error) {
					out, err = m.Engine.Predict(ctx, w, m.tensorOf(g.see(work, win), win))
					return err
				})
				if err != nil {
					return fmt.Errorf("window at %v: %w", [3]int{depth.start, row.start, column.start}, err)
				}
				b.add(win, out.Float32s(), first, end)
			}
		}
		// Slices that no later window reaches are finished.
		upTo := end
		if i+1 < len(depths) {
			upTo = min(end, depths[i+1].start)
		}
		for ; done < upTo; done++ {
			if err := emit(done, b.take(done)); err != nil {
				return err
			}
		}
	}
	return nil
}

// windows are the places of the windows along D, H and W that cover the grid.
func (m *Model) windows(g grid) (depths, rows, columns []span) {
	var each [3][]span
	for t := range 3 {
		patch, multiple := m.side(t, g.size[t])
		each[t] = spans(g.size[t], patch, multiple, m.Input.Overlap)
	}
	return each[0], each[1], each[2]
}

// side is a window's side along an axis of the grid that has n voxels: the patch, one voxel across the slices of a network of slices, or
// 0 for all n, padded to a multiple. A network that takes any size is shown what is smaller than the patch as it is.
func (m *Model) side(t, n int) (patch, multiple int) {
	size := m.Engine.Network().Size
	a := t - (3 - len(size))
	switch {
	case a < 0:
		return 1, 1
	case m.Input.Patch == nil || size[a] == 0 && n <= m.Input.Patch[a]:
		return 0, m.Input.Multiple
	}
	return m.Input.Patch[a], 1
}

// Windows is the number of windows that cover a volume: as many turns a whole answer takes.
func (m *Model) Windows(v volume.Geometry) int {
	depths, rows, columns := m.windows(m.gridOf(v))
	return len(depths) * len(rows) * len(columns)
}

// tensorOf gives a window's values the shape [1,1,H,W] or [1,1,D,H,W].
func (m *Model) tensorOf(values []float32, w window) *tensor.Tensor {
	return tensor.Must(append([]int{1, 1}, w.extent(len(m.Engine.Network().Size))...), values)
}

// blender adds up the answers of overlapping windows, slice by slice of the grid.
type blender struct {
	size    [3]int
	classes int
	plain   bool // there is but one window
	slices  map[int]*blend
}

// blend is a slice under way: weighted probabilities K·H·W, and the weights H·W.
type blend struct{ sum, weight []float32 }

// bell weighs a window's voxels along one axis: a Gaussian an eighth of the window wide, and nowhere nothing.
func bell(n int) []float32 {
	w := make([]float32, n)
	for i := range w {
		d := (float64(i) - float64(n-1)/2) / (float64(n) / 8)
		w[i] = float32(max(math.Exp(-d*d/2), 1e-3))
	}
	return w
}

func (b *blender) add(w window, probabilities []float32, first, end int) {
	plane := b.size[1] * b.size[2]
	bells := [3][]float32{bell(w[0].n), bell(w[1].n), bell(w[2].n)}
	for d := range w[0].n {
		z := w[0].start + d
		if z < max(first, 0) || z >= min(end, b.size[0]) {
			continue
		}
		s := b.slices[z]
		if s == nil {
			s = &blend{make([]float32, b.classes*plane), make([]float32, plane)}
			b.slices[z] = s
		}
		for h := range w[1].n {
			y := w[1].start + h
			if y < 0 || y >= b.size[1] {
				continue
			}
			for x := max(-w[2].start, 0); x < w[2].n && w[2].start+x < b.size[2]; x++ {
				weight := float32(1)
				if !b.plain {
					weight = bells[0][d] * bells[1][h] * bells[2][x]
				}
				at := y*b.size[2] + w[2].start + x
				s.weight[at] += weight
				from := (d*w[1].n+h)*w[2].n + x
				for c := range b.classes {
					s.sum[c*plane+at] += weight * probabilities[c*w.voxels()+from]
				}
			}
		}
	}
}

// take gives a finished slice out.
func (b *blender) take(d int) []float32 {
	s := b.slices[d]
	delete(b.slices, d)
	for i := range s.sum {
		s.sum[i] /= s.weight[i%len(s.weight)]
	}
	return s.sum
}

// painter brings the probabilities of the grid's slices back onto the volume's grid as they come, and chooses the likeliest class
// once all that a slice of the volume depends on is known.
type painter struct {
	g       grid
	classes int
	number  []uint8 // of the label of each class, 0 for none
	taps    []transform.Taps
	open    map[int][]float32 // slices of the volume along D under way
	next    int               // the first that is not finished
	out     []uint8
	doubt   []float64 // by slice of the volume along D: Σ 1 − max p, the pixels expected to be wrong
}

func (m *Model) painter(g grid, out []uint8, doubt []float64) *painter {
	p := &painter{g: g, classes: m.Engine.Network().Classes, number: make([]uint8, m.Engine.Network().Classes),
		taps: transform.Resampling(g.size[0], g.native[0]), open: map[int][]float32{}, out: out, doubt: doubt}
	for i, c := range m.Classes {
		p.number[c.Index] = uint8(i + 1)
	}
	return p
}

// from makes the painter begin at the first slice of the volume all of whose sources lie in the grid's slices from d on.
func (p *painter) from(d int) {
	for p.next < len(p.taps) && p.taps[p.next].First < d {
		p.next++
	}
}

// put takes the grid's slice d.
func (p *painter) put(d int, probabilities []float32) error {
	flat := p.inPlane(probabilities)
	for n := p.next; n < len(p.taps) && p.taps[n].First <= d; n++ {
		t := p.taps[n]
		if k := d - t.First; k < len(t.Weight) {
			acc := p.open[n]
			switch weight := t.Weight[k]; {
			case acc == nil && weight == 1:
				acc = flat
			default:
				if acc == nil {
					acc = make([]float32, len(flat))
				}
				for i, v := range flat {
					acc[i] += weight * v
				}
			}
			p.open[n] = acc
		}
		if d >= t.First+len(t.Weight)-1 && n == p.next {
			p.paint(n, p.open[n])
			delete(p.open, n)
			p.next++
		}
	}
	return nil
}

// inPlane resamples each class along H and W.
func (p *painter) inPlane(probabilities []float32) []float32 {
	if p.g.size[1] == p.g.native[1] && p.g.size[2] == p.g.native[2] {
		return probabilities
	}
	from, to := p.g.size[1]*p.g.size[2], p.g.native[1]*p.g.native[2]
	out := make([]float32, 0, p.classes*to)
	for c := range p.classes {
		out = append(out, transform.Resize3(probabilities[c*from:(c+1)*from], [3]int{p.g.size[2], p.g.size[1], 1}, [3]int{p.g.native[2], p.g.native[1], 1})...)
	}
	return out
}

func (p *painter) paint(n int, probabilities []float32) {
	stride, origin := p.g.strides()
	plane := p.g.native[1] * p.g.native[2]
	p.doubt[n] = 0
	for h := range p.g.native[1] {
		at := origin + n*stride[0] + h*stride[1]
		for x := range p.g.native[2] {
			i := h*p.g.native[2] + x
			best := 0
			for c := 1; c < p.classes; c++ {
				if probabilities[c*plane+i] > probabilities[best*plane+i] {
					best = c
				}
			}
			p.out[at] = p.number[best]
			p.doubt[n] += float64(1 - probabilities[best*plane+i])
			at += stride[2]
		}
	}
}

// Segment answers a whole volume with weights w, which must be the network's: the label numbers of its voxels, i fastest.
func (m *Model) Segment(ctx context.Context, img Image, w adapt.Weights, turn Turn) ([]uint8, error) {
	return m.whole(ctx, img, w, false, turn)
}
