package refexec

import (
	"slices"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

func (c *call) graphAttr(name string) *onnx.Graph {
	g := c.Attrs[name].Graph
	if g == nil {
		c.fail("has no graph %q", name)
	}
	return g
}

func (c *call) run(g *onnx.Graph, args []*array) []*array {
	out, err := c.env.body(g, args)
	if err != nil {
		panic(failure{err})
	}
	return out
}

func ifNode(c *call) []*array {
	branch := "else_branch"
	if c.scalarAt(0, 0) != 0 {
		branch = "then_branch"
	}
	return c.run(c.graphAttr(branch), nil)
}

// loop runs its body with (iteration, condition, carried…) → (condition, carried…, scanned…) until the trip count or the
// condition ends it; scanned values are stacked along a new first axis.
func loop(c *call) []*array {
	body := c.graphAttr("body")
	trips := int64(-1)
	if m := c.opt(0); m != nil {
		trips = m.i[0]
	}
	cond := newArray(tensor.Bool)
	cond.i[0] = 1
	if v := c.opt(1); v != nil {
		cond = v
	}
	carried := slices.Clone(c.in[min(2, len(c.in)):])
	scans := len(body.Outputs) - 1 - len(carried)
	if scans < 0 {
		c.fail("the body has %d outputs; want a condition and %d carried values at least", len(body.Outputs), len(carried))
	}
	stacked := make([][]*array, scans)
	for k := int64(0); (trips < 0 || k < trips) && cond.float(0) != 0; k++ {
		out := c.run(body, append([]*array{intVector(int(k)).view(), cond}, carried...))
		cond, carried = out[0], out[1:1+len(carried)]
		for s := range stacked {
			stacked[s] = append(stacked[s], out[1+len(carried)+s])
		}
	}
	result := slices.Clone(carried)
	for s, list := range stacked {
		result = append(result, c.stack(list, body.Outputs[1+len(carried)+s]))
	}
	return result
}

func (c *call) stack(list []*array, declared onnx.Value) *array {
	if len(list) == 0 {
		shape := []int{0}
		for _, d := range declared.Shape {
			shape = append(shape, int(d.Size))
		}
		d := declared.DType
		if d.IsFloat() || d == tensor.Undefined {
			d = tensor.Float64
		} else if d != tensor.Bool {
			d = tensor.Int64
		}
		return newArray(d, shape...)
	}
	y := newArray(list[0].dtype, append([]int{len(list)}, list[0].shape...)...)
	n := list[0].len()
	for k, v := range list {
		if !slices.Equal(v.shape, list[0].shape) {
			c.fail("scan output %q changes its shape from %v to %v", declared.Name, list[0].shape, v.shape)
		}
		for p := range n {
			y.set(k*n+p, v, p)
		}
	}
	return y
}

func identity(c *call) []*array { return []*array{c.arg(0)} }

// dropout is the identity outside training; its mask keeps everything.
func dropout(c *call) []*array {
	if c.scalarAt(2, 0) != 0 {
		c.fail("training_mode is not supported")
	}
	mask := newArray(tensor.Bool, c.arg(0).shape...)
	for k := range mask.i {
		mask.i[k] = 1
	}
	return []*array{c.arg(0), mask}
}
