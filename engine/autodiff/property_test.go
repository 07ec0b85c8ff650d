package autodiff_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"scrawl/engine/onnx"
	"scrawl/engine/onnx/refexec"
	"scrawl/engine/tensor"
)

// The goldens hold the geometries that networks use; these properties look for the ones nobody thought of: whatever the window, the
// gradient is the numeric one, with sizes known while the graph is built and without.

// checkRandom differentiates a graph of one node from x (and the other inputs) to y and compares with numeric differences. Geometries
// that leave nothing of the input are passed over.
func checkRandom(t *rapid.T, symbolic bool, op string, attrs map[string]onnx.Attr, args []string, in map[string]*tensor.Tensor, inits map[string]*tensor.Tensor) {
	build := func() *onnx.Model {
		g := &onnx.Graph{Outputs: []onnx.Value{{Name: "y", DType: tensor.Float32}}}
		for _, name := range sortedKeys(in) {
			shape := fixedShape(in[name])
			if symbolic && name == "x" {
				for axis := 2; axis < len(shape); axis++ {
					shape[axis] = onnx.Dim{Symbol: fmt.Sprintf("axis%d", axis)}
				}
			}
			g.Inputs = append(g.Inputs, onnx.Value{Name: name, DType: tensor.Float32, Shape: shape})
		}
		for _, name := range sortedKeys(inits) {
			g.Initializers = append(g.Initializers, onnx.Initializer{Name: name, Tensor: inits[name]})
		}
		outputs := []string{"y"}
		if op == "Split" {
			outputs = append(outputs, "rest")
		}
		g.Nodes = []*onnx.Node{{Name: "node", Op: op, Inputs: args, Outputs: outputs, Attrs: attrs}}
		return &onnx.Model{IRVersion: 8, Opsets: map[string]int64{"": onnx.Opset}, Graph: g}
	}
	forward, m := build(), build()
	values, err := refexec.Run(forward.Graph, in)
	if err != nil || values["y"].Len() == 0 {
		t.Skip("an empty or impossible geometry")
	}
	wrt := sortedKeys(in)
	differentiate(t, m, []string{"y"}, wrt)
	rng := rand.New(rand.NewPCG(5, 6))
	dy := map[string]*tensor.Tensor{"y": tensor.Must(values["y"].Shape(), unitVector(rng, values["y"].Len()))}
	grads := run(t, m.Graph, withSeeds(in, dy))
	if !checkNumerically(t, forward.Graph, in, dy, grads, wrt) {
		t.Errorf("the gradient of %s with %v is wrong", op, attrs)
	}
}

func drawSymbolic(t *rapid.T) bool { return rapid.Bool().Draw(t, "symbolic") }

// spread is a tensor of numbers that all differ by more than a central difference moves them.
func spread(t *rapid.T, shape ...int) *tensor.Tensor {
	n, err := tensor.Count(shape)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	v := make([]float64, n)
	for i, p := range rng.Perm(n) {
		v[i] = (float64(p) + 0.3 - float64(n)/2) * 2 / float64(n)
	}
	return tensor.Must(shape, v)
}

func intsAttr(v []int) onnx.Attr {
	w := make([]int64, len(v))
	for i, x := range v {
		w[i] = int64(x)
	}
	return onnx.Attr{Kind: onnx.AttrInts, Ints: w}
}

func intAttr(v int) onnx.Attr { return onnx.Attr{Kind: onnx.AttrInt, Int: int64(v)} }

// several draws one number for each of n axes.
func several(t *rapid.T, name string, n, lo, hi int) []int {
	return rapid.SliceOfN(rapid.IntRange(lo, hi), n, n).Draw(t, name)
}

// windowAttrs draws kernel, strides, dilations and pads for d axes.
func windowAttrs(t *rapid.T, d, maxPad int) ([]int, map[string]onnx.Attr) {
	kernel := several(t, "kernel", d, 1, 3)
	return kernel, map[string]onnx.Attr{
		"kernel_shape": intsAttr(kernel), "strides": intsAttr(several(t, "strides", d, 1, 3)),
		"dilations": intsAttr(several(t, "dilations", d, 1, 2)), "pads": intsAttr(several(t, "pads", 2*d, 0, maxPad)),
	}
}

func TestAnyConv(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.IntRange(1, 3).Draw(t, "axes")
		kernel, attrs := windowAttrs(t, d, 3)
		group := rapid.IntRange(1, 2).Draw(t, "group")
		attrs["group"] = intAttr(group)
		c, o := group*rapid.IntRange(1, 2).Draw(t, "channels"), group*rapid.IntRange(1, 2).Draw(t, "filters")
		x := spread(t, append([]int{rapid.IntRange(1, 2).Draw(t, "batch"), c}, several(t, "size", d, 1, 6)...)...)
		w := spread(t, append([]int{o, c / group}, kernel...)...)
		checkRandom(t, drawSymbolic(t), "Conv", attrs, []string{"x", "w", "b"}, map[string]*tensor.Tensor{"x": x, "w": w, "b": spread(t, o)}, nil)
	})
}

func TestAnyConvTranspose(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.IntRange(1, 2).Draw(t, "axes")
		kernel, attrs := windowAttrs(t, d, 2)
		extra := make([]int, d)
		for i := range extra { // output_padding must stay below the stride or the dilation
			limit := max(attrs["strides"].Ints[i], attrs["dilations"].Ints[i])
			extra[i] = rapid.IntRange(0, int(limit)-1).Draw(t, "output padding")
		}
		attrs["output_padding"] = intsAttr(extra)
		group := rapid.IntRange(1, 2).Draw(t, "group")
		attrs["group"] = intAttr(group)
		c, o := group*rapid.IntRange(1, 2).Draw(t, "channels"), rapid.IntRange(1, 2).Draw(t, "filters")
		x := spread(t, append([]int{rapid.IntRange(1, 2).Draw(t, "batch"), c}, several(t, "size", d, 1, 4)...)...)
		w := spread(t, append([]int{c, o}, kernel...)...)
		checkRandom(t, drawSymbolic(t), "ConvTranspose", attrs, []string{"x", "w", "b"}, map[string]*tensor.Tensor{"x": x, "w": w, "b": spread(t, o*group)}, nil)
	})
}

func TestAnyPool(t *testing.T) {
	for _, op := range []string{"MaxPool", "AveragePool"} {
		t.Run(op, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				d := rapid.IntRange(1, 3).Draw(t, "axes")
				kernel, attrs := windowAttrs(t, d, 0)
				pads := make([]int, 2*d) // less than the kernel, or windows of padding alone would appear
				for i := range pads {
					pads[i] = rapid.IntRange(0, kernel[i%d]-1).Draw(t, "pad")
				}
				attrs["pads"] = intsAttr(pads)
				if op == "AveragePool" {
					delete(attrs, "dilations") // came with opset 19
					attrs["count_include_pad"] = intAttr(rapid.IntRange(0, 1).Draw(t, "count_include_pad"))
				} else {
					attrs["ceil_mode"] = intAttr(rapid.IntRange(0, 1).Draw(t, "ceil_mode"))
				}
				x := spread(t, append([]int{rapid.IntRange(1, 2).Draw(t, "batch"), 2}, several(t, "size", d, 3, 6)...)...)
				checkRandom(t, drawSymbolic(t), op, attrs, []string{"x"}, map[string]*tensor.Tensor{"x": x}, nil)
			})
		})
	}
}

func TestAnySlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		symbolic, lo := drawSymbolic(t), 1
		if symbolic {
			lo = 8 // a size that is a symbol is taken to be longer than the constants it is cut with
		}
		size := append([]int{2, 3}, several(t, "size", 2, lo, lo+3)...)
		axes := rapid.SliceOfNDistinct(rapid.IntRange(0, 3), 1, 3, rapid.ID).Draw(t, "axes")
		n := len(axes)
		steps := make([]int, n)
		for i := range steps {
			steps[i] = rapid.SampledFrom([]int{-3, -2, -1, 1, 2, 3}).Draw(t, "step")
		}
		checkRandom(t, symbolic, "Slice", map[string]onnx.Attr{}, []string{"x", "starts", "ends", "axes", "steps"}, map[string]*tensor.Tensor{"x": spread(t, size...)},
			map[string]*tensor.Tensor{
				"starts": tensor.Vector(intsAttr(several(t, "starts", n, -7, 7)).Ints...), "ends": tensor.Vector(intsAttr(several(t, "ends", n, -7, 7)).Ints...),
				"axes": tensor.Vector(intsAttr(axes).Ints...), "steps": tensor.Vector(intsAttr(steps).Ints...),
			})
	})
}

func TestAnyPad(t *testing.T) {
	for _, mode := range []string{"constant", "reflect", "edge"} {
		t.Run(mode, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				size := several(t, "size", 3, 3, 5)
				pads := several(t, "pads", 6, -1, 2) // at most what a reflection of the cropped axis can fill, which has 1 element or more
				if mode == "reflect" {
					for i := range 3 {
						if pads[i] < 0 || pads[i+3] < 0 { // reflecting what a crop has left is not the same in every runtime
							pads[i], pads[i+3] = max(pads[i], 0), max(pads[i+3], 0)
						}
					}
				}
				checkRandom(t, drawSymbolic(t), "Pad", map[string]onnx.Attr{"mode": {Kind: onnx.AttrString, String: mode}}, []string{"x", "pads"},
					map[string]*tensor.Tensor{"x": spread(t, size...)}, map[string]*tensor.Tensor{"pads": tensor.Vector(intsAttr(pads).Ints...)})
			})
		})
	}
}

func TestAnyResize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := several(t, "size", 2, 1, 5)
		attrs := map[string]onnx.Attr{}
		text := func(name string, choices ...string) {
			attrs[name] = onnx.Attr{Kind: onnx.AttrString, String: rapid.SampledFrom(choices).Draw(t, name)}
		}
		text("mode", "nearest", "linear")
		text("coordinate_transformation_mode", "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
		text("nearest_mode", "floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
		x := map[string]*tensor.Tensor{"x": spread(t, append([]int{1, 2}, size...)...)}
		if rapid.Bool().Draw(t, "by sizes") {
			to := several(t, "sizes", 2, 1, 9)
			checkRandom(t, drawSymbolic(t), "Resize", attrs, []string{"x", "", "", "sizes"}, x, map[string]*tensor.Tensor{"sizes": tensor.Vector(1, 2, int64(to[0]), int64(to[1]))})
			return
		}
		scale := rapid.SampledFrom([]float32{0.5, 1, 1.5, 2, 2.5, 3})
		scales := tensor.Vector(1, 1, scale.Draw(t, "scale"), scale.Draw(t, "scale"))
		checkRandom(t, drawSymbolic(t), "Resize", attrs, []string{"x", "", "scales"}, x, map[string]*tensor.Tensor{"scales": scales})
	})
}

// broadcastable draws two shapes that broadcast together, of ranks up to 4.
func broadcastable(t *rapid.T) (a, b []int) {
	for _, n := range several(t, "size", 4, 1, 4) {
		switch rapid.IntRange(0, 2).Draw(t, "repeated") {
		case 0:
			a, b = append(a, n), append(b, n)
		case 1:
			a, b = append(a, 1), append(b, n)
		default:
			a, b = append(a, n), append(b, 1)
		}
	}
	return a, b[rapid.IntRange(0, 4).Draw(t, "missing axes"):]
}

func TestAnyBroadcast(t *testing.T) {
	for _, op := range []string{"Add", "Sub", "Mul", "Div", "Max"} {
		t.Run(op, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				a, b := broadcastable(t)
				x, y := spread(t, a...), spread(t, b...)
				for i, v := range floats(y) {
					floats(y)[i] = 1.5 + v + 0.011
				}
				args := []string{"x", "b"}
				if rapid.Bool().Draw(t, "swapped") && op != "Div" {
					args = []string{"b", "x"}
				}
				checkRandom(t, drawSymbolic(t), op, map[string]onnx.Attr{}, args, map[string]*tensor.Tensor{"x": x, "b": y}, nil)
			})
		})
	}
}

func TestAnyMatMul(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := broadcastable(t)
		k := rapid.IntRange(1, 4).Draw(t, "inner")
		a, b = append(a[2:], rapid.IntRange(1, 3).Draw(t, "rows"), k), append(b[:max(len(b)-2, 0)], k, rapid.IntRange(1, 3).Draw(t, "columns"))
		checkRandom(t, false, "MatMul", map[string]onnx.Attr{}, []string{"x", "b"}, map[string]*tensor.Tensor{"x": spread(t, a...), "b": spread(t, b...)}, nil)
	})
}

func TestAnyReduction(t *testing.T) {
	for _, op := range []string{"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"} {
		t.Run(op, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				axes := rapid.SliceOfNDistinct(rapid.IntRange(0, 3), 0, 4, rapid.ID).Draw(t, "axes")
				for i := range axes {
					axes[i] -= 4 * rapid.IntRange(0, 1).Draw(t, "from the end")
				}
				attrs := map[string]onnx.Attr{"keepdims": intAttr(rapid.IntRange(0, 1).Draw(t, "keepdims")),
					"noop_with_empty_axes": intAttr(rapid.IntRange(0, 1).Draw(t, "noop"))}
				checkRandom(t, drawSymbolic(t), op, attrs, []string{"x", "axes"}, map[string]*tensor.Tensor{"x": spread(t, several(t, "size", 4, 1, 4)...)},
					map[string]*tensor.Tensor{"axes": tensor.Vector(intsAttr(axes).Ints...)})
			})
		})
	}
}
