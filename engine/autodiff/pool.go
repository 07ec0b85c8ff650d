package autodiff

import (
	"scrawl/engine/onnx"
)

// upsampled repeats each element of v, of rank d+2, over its window: nearest-neighbour enlargement by the kernel's size.
func (t *tape) upsampled(v string, kernel []int64) string {
	scales := []float32{1, 1}
	for _, k := range kernel {
		scales = append(scales, float32(k))
	}
	return t.b.Op("Resize", []string{v, "", t.b.Float32s(scales...)}, onnx.WithString("mode", "nearest"),
		onnx.WithString("coordinate_transformation_mode", "asymmetric"), onnx.WithString("nearest_mode", "floor"))
}

// tiles reports pooling whose windows cover the input without overlap or padding, save for a remainder at the end.
func tiles(w window) bool {
	for i := range w.kernel {
		if w.stride[i] != w.kernel[i] || w.dilation[i] != 1 || w.begin[i] != 0 || w.end[i] != 0 {
			return false
		}
	}
	return true
}

// filled pads v, the windows of a tiling laid side by side, with zeros to the size of x, where a remainder was not pooled.
func (t *tape) filled(v, x string, win window) string {
	exact := true
	var ends []string
	for i := range win.kernel {
		d := t.shape(x)[i+2]
		exact = exact && onnx.Divisible(d, win.kernel[i])
		k := t.b.Int64s(win.kernel[i])
		dim := t.dim(x, i+2)
		ends = append(ends, t.sub(dim, t.mul(t.div(dim, k), k)))
	}
	if exact {
		return v
	}
	return t.pad(v, win.d()+2, t.b.Int64s(repeat(0, win.d())...), t.joined(ends), win.axes()...)
}

// MaxPool: dy goes to each window's largest element (https://onnx.ai/onnx/operators/onnx__MaxPool.html). Where windows tile the
// input, equal largest elements share it; otherwise the element that the operator's Indices name gets it.
func vjpMaxPool(t *tape, c call) ([]string, error) {
	x, y, dy := c.Inputs[0], c.y(), c.dy()
	if dy == "" {
		return one("")
	}
	win, err := t.readWindow(c, "")
	if err != nil {
		return nil, err
	}
	if _, err := t.rank(c.Node, x); err != nil {
		return nil, err
	}
	if tiles(win) && c.Int("ceil_mode", 0) == 0 {
		ismax := t.mask(t.op("Equal", x, t.filled(t.upsampled(y, win.kernel), x, win)))
		count := t.scale(t.averagePool(ismax, win), area(win.kernel))
		share := t.upsampled(t.div(dy, count), win.kernel)
		return one(t.mul(ismax, t.filled(share, x, win)))
	}
	indices := t.maxIndices(c)
	flat := t.zeros(t.op("ReduceProd", t.shapeOf(x)))
	dx := t.b.Op("ScatterElements", []string{flat, t.reshape(indices, -1), t.reshape(dy, -1)}, onnx.WithString("reduction", "add"))
	return one(t.reshapeLike(dx, x))
}

// maxIndices names the node's optional second output, adding it when it was omitted.
func (t *tape) maxIndices(c call) string {
	if len(c.Outputs) < 2 {
		c.Outputs = append(c.Outputs, t.b.Fresh("Indices"))
	}
	return c.Outputs[1]
}

func area(kernel []int64) float64 {
	a := 1.0
	for _, k := range kernel {
		a *= float64(k)
	}
	return a
}

// averagePool averages v over the windows of a tiling.
func (t *tape) averagePool(v string, win window) string {
	return t.b.Op("AveragePool", []string{v}, onnx.WithInts("kernel_shape", win.kernel...), onnx.WithInts("strides", win.stride...))
}

// AveragePool: each element of a window gets dy divided by the window's count
// (https://onnx.ai/onnx/operators/onnx__AveragePool.html).
func vjpAveragePool(t *tape, c call) ([]string, error) {
	x, dy := c.Inputs[0], c.dy()
	win, err := t.readWindow(c, "")
	if err != nil {
		return nil, err
	}
	if _, err := t.rank(c.Node, x); err != nil {
		return nil, err
	}
	if c.Int("ceil_mode", 0) != 0 {
		return nil, unsupported(c.Node, "ceil_mode is not handled; export the model with ceil_mode=False")
	}
	if tiles(win) {
		share := t.upsampled(t.scale(dy, 1/area(win.kernel)), win.kernel)
		return one(t.filled(share, x, win))
	}
	// Treat every channel as an image of its own, so that one kernel of ones serves whatever the number of channels.
	image := func(v, like string) string {
		dims := []string{t.b.Int64s(-1, 1)}
		for i := range win.kernel {
			dims = append(dims, t.dim(like, i+2))
		}
		return t.op("Reshape", v, t.concat(0, dims...))
	}
	kernel := t.op("Expand", t.f(1), t.b.Int64s(append([]int64{1, 1}, win.kernel...)...))
	if c.Int("count_include_pad", 0) == 1 || allZero(win.begin) && allZero(win.end) {
		dy = t.scale(dy, 1/area(win.kernel))
	} else {
		dims := []string{t.b.Int64s(1, 1)}
		for i := range win.kernel {
			dims = append(dims, t.dim(x, i+2))
		}
		ones := t.op("Expand", t.f(1), t.concat(0, dims...))
		count := t.b.Op("Conv", []string{ones, kernel}, onnx.WithInts("strides", win.stride...),
			onnx.WithInts("dilations", win.dilation...), onnx.WithInts("pads", append(append([]int64{}, win.begin...), win.end...)...))
		dy = t.div(dy, count)
	}
	dx := t.transposedConv(image(dy, c.y()), x, kernel, win)
	return one(t.reshapeLike(dx, x))
}

// GlobalAveragePool: dx = dy / n, repeated over the spatial axes.
func vjpGlobalAveragePool(t *tape, c call) ([]string, error) {
	x := c.Inputs[0]
	axes, err := t.spatialAxes(c)
	if err != nil {
		return nil, err
	}
	return one(t.op("Expand", t.div(c.dy(), t.countAlong(x, axes)), t.shapeOf(x)))
}

// GlobalMaxPool: the elements that attain the maximum share dy equally.
func vjpGlobalMaxPool(t *tape, c call) ([]string, error) {
	axes, err := t.spatialAxes(c)
	if err != nil {
		return nil, err
	}
	m := t.mask(t.op("Equal", c.Inputs[0], c.y()))
	return one(t.mul(m, t.div(c.dy(), t.sum(m, true, axes...))))
}

func (t *tape) spatialAxes(c call) ([]int64, error) {
	r, err := t.rank(c.Node, c.Inputs[0])
	if err != nil {
		return nil, err
	}
	var axes []int64
	for i := 2; i < r; i++ {
		axes = append(axes, int64(i))
	}
	return axes, nil
}
