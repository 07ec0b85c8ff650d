package lower

import (
	"fmt"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// The blocked kernels read a weight [O,C,h,w] of K = h·w taps as
//
//	[O/B, C/B, K, B(c), B(o)]   where C is a multiple of B,
//	[O/B, C, K, B(o)]           where C < B: the image is then plain.
//
// Its tensor keeps the shape [O,C,h,w]. Conversions move one axis at a time, which is many times faster than a general
// transposition: ReorderInput on a suitable view transposes matrices of B rows.

// window is the geometry of a two-dimensional convolution, in the order of its attributes.
type window struct {
	kernel, stride, dilation, pads []int64
}

// extent is the number of rows (axis 0) or columns (1) that a dilated kernel covers.
func (w window) extent(axis int) int64 { return (w.kernel[axis]-1)*w.dilation[axis] + 1 }

func (w window) taps() int64 { return w.kernel[0] * w.kernel[1] }

func (w window) options() []onnx.AttrOption {
	return []onnx.AttrOption{inBlockedDomain(), onnx.WithInts("kernel_shape", w.kernel...), onnx.WithInts("strides", w.stride...),
		onnx.WithInts("dilations", w.dilation...), onnx.WithInts("pads", w.pads...)}
}

// readWindow reads a node's geometry; ok is false for anything but an ungrouped two-dimensional convolution.
func (s *scope) readWindow(n *onnx.Node, weight string) (win window, sizes []int64, ok bool) {
	sizes, ok = s.fixed(weight)
	if !ok || len(sizes) != 4 || n.Int("group", 1) != 1 || n.Str("auto_pad", "NOTSET") != "NOTSET" || s.facts[weight].DType != tensor.Float32 {
		return win, nil, false
	}
	or := func(name string, def ...int64) []int64 {
		if v := n.Ints(name); v != nil {
			return v
		}
		return def
	}
	win = window{kernel: sizes[2:], stride: or("strides", 1, 1), dilation: or("dilations", 1, 1), pads: or("pads", 0, 0, 0, 0)}
	return win, sizes, len(win.stride) == 2 && len(win.dilation) == 2 && len(win.pads) == 4
}

// hasKernelForm reports whether a weight of these sizes can be laid out for the blocked kernels.
func (t Target) hasKernelForm(sizes []int64) bool {
	return sizes[0]%t.Block == 0 && (sizes[1]%t.Block == 0 || sizes[1] < t.Block)
}

// kernel returns a weight's name in the kernels' layout.
func (s *scope) kernel(w string, sizes []int64) string {
	if s.has(kernel, w) {
		return s.others[kernel][w]
	}
	if s.outer != nil && !s.plainly[w] { // made around the Loop, where it is converted once
		s.others[kernel][w] = s.outer.kernel(w, sizes)
		return s.others[kernel][w]
	}
	if t := s.constant(w); t != nil {
		s.others[kernel][w] = s.b.Const(s.layOut(t, sizes))
	} else {
		s.others[kernel][w] = s.toKernel(s.plain(w), sizes)
	}
	return s.others[kernel][w]
}

// toKernel lays out a plain weight.
func (s *scope) toKernel(w string, sizes []int64) string {
	b, o, c, k := s.Block, sizes[0], sizes[1], sizes[2]*sizes[3]
	v := s.b.Op("ReorderInput", []string{s.reshape(w, o/b, b, c, k)}, inBlockedDomain()) // [O/B, C, K, B(o)]
	if c%b == 0 && k > 1 {
		v = s.transpose(s.reshape(v, o/b*c/b, b, k, b), 0, 2, 1, 3)
	}
	return s.reshape(v, sizes...)
}

// fromKernel makes the plain weight of one that exists in the kernels' layout.
func (s *scope) fromKernel(w string) {
	sizes, _ := s.fixed(w)
	b, o, c, k := s.Block, sizes[0], sizes[1], sizes[2]*sizes[3]
	v := s.others[kernel][w]
	if c%b == 0 && k > 1 {
		v = s.transpose(s.reshape(v, o/b*c/b, k, b, b), 0, 2, 1, 3)
	}
	v = s.b.Op("ReorderOutput", []string{s.reshape(v, o/b, b, c, k)}, inBlockedDomain(), onnx.WithInt("channels", b))
	s.emit(w, "Reshape", []string{v, s.b.Int64s(sizes...)})
}

// layOut is toKernel for constants.
func (t Target) layOut(w *tensor.Tensor, sizes []int64) *tensor.Tensor {
	b, o, c, k := int(t.Block), int(sizes[0]), int(sizes[1]), int(sizes[2]*sizes[3])
	out := tensor.Zeros[float32](w.Shape()...)
	src, dst := w.Float32s(), out.Float32s()
	cb := b
	if c < b {
		cb = c
	}
	for i := range o {
		for j := range c {
			for tap := range k {
				at := (((i/b*(c/cb)+j/cb)*k+tap)*cb+j%cb)*b + i%b
				if c < b {
					at = ((i/b*c+j)*k+tap)*b + i%b
				}
				dst[at] = src[(i*c+j)*k+tap]
			}
		}
	}
	return out
}

// tilesTransposed transposes the last two axes of a value whose elements are matrices [B,B].
func (s *scope) tilesTransposed(v string, tiles int64) string {
	return s.b.Op("ReorderInput", []string{s.reshape(v, tiles, s.Block, s.Block/4, 4)}, inBlockedDomain())
}

// turned is a weight in the kernels' layout for the gradient of the input: rotated by 180°, its channel axes exchanged. sizes are those
// of the weight itself, which is [O,C,h,w]; the result holds the input channels from ≤ c < to, whole blocks: [to−from,O,h,w].
func (s *scope) turned(w string, sizes []int64, from, to int64) string {
	return s.once(fmt.Sprint("turned ", w, from, to), func() string {
		o, c, k := sizes[0], sizes[1], sizes[2]*sizes[3]
		part := to - from
		back := []int64{part, o, sizes[2], sizes[3]}
		if t := s.constant(w); t != nil {
			per := int(o * k)
			turned := tensor.Must([]int{int(part), int(o), int(sizes[2]), int(sizes[3])}, turn(t).Float32s()[int(from)*per:int(to)*per])
			return s.b.Const(s.layOut(turned, back))
		}
		if !s.hasKernelForm(sizes) {
			v := s.op("Slice", s.plain(w), s.b.Int64s(from), s.b.Int64s(to), s.b.Int64s(1))
			v = s.gather(s.transpose(s.reshape(v, o, part, k), 1, 0, 2), 2, reversed(k))
			return s.toKernel(s.reshape(v, back...), back)
		}
		ob, cb := o/s.Block, c/s.Block
		order := make([]int64, 0, ob*cb*k)
		for j := from / s.Block; j < to/s.Block; j++ {
			for i := range ob {
				for tap := range k {
					order = append(order, (i*cb+j)*k+k-1-tap)
				}
			}
		}
		v := s.gather(s.reshape(s.kernel(w, sizes), ob*cb*k, s.Block*s.Block), 0, order)
		return s.reshape(s.tilesTransposed(v, int64(len(order))), back...)
	})
}

// turn rotates the kernels of a constant by 180° and exchanges its channel axes.
func turn(w *tensor.Tensor) *tensor.Tensor {
	s := w.Shape()
	o, c, k := s[0], s[1], s[2]*s[3]
	out := tensor.Zeros[float32](c, o, s[2], s[3])
	for i := range o {
		for j := range c {
			for tap := range k {
				out.Float32s()[(j*o+i)*k+k-1-tap] = w.Float32s()[(i*c+j)*k+tap]
			}
		}
	}
	return out
}

func reversed(n int64) []int64 {
	order := make([]int64, n)
	for i := range order {
		order[i] = n - 1 - int64(i)
	}
	return order
}
