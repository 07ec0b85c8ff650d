package autodiff

import (
	"math"

	"scrawl/engine/onnx"
)

// Resize interpolates along each axis on its own, so it is a product with one matrix per axis, and its VJP is the
// product with their transposes (https://onnx.ai/onnx/operators/onnx__Resize.html). Enlargement of the nearest kind by whole
// numbers, and the ×2 linear kind that decoders use, have faster forms.
func vjpResize(t *tape, c call) ([]string, error) {
	x, dy := c.Inputs[0], c.dy()
	r, err := t.rank(c.Node, x)
	if err != nil {
		return nil, err
	}
	if c.Str("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize" || c.Ints("axes") != nil {
		return nil, unsupported(c.Node, "mode tf_crop_and_resize and the axes attribute are not handled")
	}
	scales, haveScales := t.resizeScales(c, r)
	if haveScales && blocks(c.Node, scales) {
		return one(t.blockSums(dy, scales))
	}
	if haveScales && doublesLinearly(c.Node, scales) {
		if dx, ok := t.undouble(c, dy); ok {
			return one(dx)
		}
	}
	for axis := range r {
		if haveScales && scales[axis] == 1 {
			continue
		}
		if sx, sy := t.shape(x)[axis], t.shape(c.y())[axis]; sx == sy {
			continue
		}
		dy = t.contract(dy, t.interpolation(c, axis, scales, haveScales), axis, r)
	}
	return one(dy)
}

// resizeScales returns the factor of each axis when the node has them as constants, or has sizes that are known multiples of its input's.
func (t *tape) resizeScales(c call, rank int) ([]float64, bool) {
	if in := c.Input(2); in != "" {
		if s, ok := t.constFloats(in); ok && len(s) == rank {
			return s, true
		}
		return nil, false
	}
	x, y := t.shape(c.Inputs[0]), t.shape(c.y())
	if len(x) != rank || len(y) != rank {
		return nil, false
	}
	scales := make([]float64, rank)
	for i := range scales {
		k, ok := onnx.Multiple(y[i], x[i])
		if !ok {
			return nil, false
		}
		scales[i] = float64(k)
	}
	return scales, true
}

// blocks reports enlargement that repeats each element over a block.
func blocks(n *onnx.Node, scales []float64) bool {
	if n.Str("mode", "nearest") != "nearest" {
		return false
	}
	for i, s := range scales {
		if s != math.Trunc(s) || s < 1 || i < 2 && s != 1 {
			return false
		}
	}
	switch n.Str("coordinate_transformation_mode", "half_pixel") {
	case "asymmetric":
		return n.Str("nearest_mode", "round_prefer_floor") == "floor"
	case "half_pixel":
		m := n.Str("nearest_mode", "round_prefer_floor")
		return m == "round_prefer_floor" || m == "round_prefer_ceil"
	}
	return false
}

// blockSums adds up each block of dy; a scaled average is the fastest sum.
func (t *tape) blockSums(dy string, scales []float64) string {
	kernel := make([]int64, len(scales)-2)
	for i := range kernel {
		kernel[i] = int64(scales[i+2])
	}
	win := window{kernel: kernel, stride: kernel}
	return t.scale(t.averagePool(dy, win), area(kernel))
}

// doublesLinearly reports bilinear enlargement by 2 with the half-pixel grid, PyTorch's align_corners=False.
func doublesLinearly(n *onnx.Node, scales []float64) bool {
	m := n.Str("coordinate_transformation_mode", "half_pixel")
	return n.Str("mode", "nearest") == "linear" && len(scales) == 4 && scales[0] == 1 && scales[1] == 1 &&
		scales[2] == 2 && scales[3] == 2 && (m == "half_pixel" || m == "pytorch_half_pixel")
}

// undouble is the adjoint of ×2 bilinear enlargement: each element of x reaches four of y along an axis with weights
// ¼ ¾ ¾ ¼, and the edge, repeated by the interpolation, is repeated in dy too. It needs the number of channels.
func (t *tape) undouble(c call, dy string) (string, bool) {
	ch := t.shape(c.y())[1]
	if !ch.Known() {
		return "", false
	}
	padded := t.b.Op("Pad", []string{dy, t.b.Int64s(0, 0, 1, 1, 0, 0, 1, 1)}, onnx.WithString("mode", "edge"))
	w := []float32{0.25, 0.75, 0.75, 0.25}
	kernel := make([]float32, 0, 16)
	for _, a := range w {
		for _, b := range w {
			kernel = append(kernel, a*b)
		}
	}
	weight := t.op("Expand", t.reshape(t.b.Float32s(kernel...), 1, 1, 4, 4), t.b.Int64s(ch.Size, 1, 4, 4))
	return t.b.Op("Conv", []string{padded, weight}, onnx.WithInts("strides", 2, 2), onnx.WithInt("group", ch.Size),
		onnx.WithInts("kernel_shape", 4, 4)), true
}

// interpolation is the matrix R [size of y, size of x] with y = R·x along one axis, made by resizing the identity matrix.
func (t *tape) interpolation(c call, axis int, scales []float64, haveScales bool) string {
	x := c.Inputs[0]
	n := t.dim(x, axis)
	index := t.op("Range", t.b.Int64(0), t.op("Squeeze", n), t.b.Int64(1))
	identity := t.mask(t.op("Equal", t.reshape(index, -1, 1), t.reshape(index, 1, -1)))
	identity = t.op("Unsqueeze", identity, t.b.Int64s(0, 1))
	inputs := []string{identity, ""}
	switch {
	case haveScales:
		inputs = append(inputs, t.b.Float32s(1, 1, float32(scales[axis]), 1))
	case c.Input(2) != "":
		s := t.op("Gather", c.Inputs[2], t.b.Int64s(int64(axis)))
		inputs = append(inputs, t.concat(0, t.b.Float32s(1, 1), s, t.b.Float32s(1)))
	default:
		inputs = append(inputs, "", t.concat(0, t.b.Int64s(1, 1), t.dim(c.y(), axis), n))
	}
	node := &onnx.Node{Op: "Resize", Inputs: inputs, Outputs: []string{t.b.Fresh("interpolation")}, Attrs: c.Attrs}
	node.Name = node.Outputs[0]
	t.b.Graph.Nodes = append(t.b.Graph.Nodes, node)
	return t.op("Squeeze", node.Outputs[0], t.b.Int64s(0, 1))
}

// contract multiplies dy by Rᵀ along one axis.
func (t *tape) contract(dy, r string, axis, rank int) string {
	if axis == rank-1 {
		return t.op("MatMul", dy, r)
	}
	if axis == rank-2 {
		return t.op("MatMul", t.transpose(r, 1, 0), dy)
	}
	perm := make([]int64, rank)
	for i := range perm {
		perm[i] = int64(i)
	}
	perm[axis], perm[rank-1] = perm[rank-1], perm[axis]
	return t.transpose(t.op("MatMul", t.transpose(dy, perm...), r), perm...)
}
