// Package refexec interprets ONNX graphs, slowly and in float64, so that tests have a judge: gradients are held against
// numeric differences of it, rewritten graphs against the originals, ONNX Runtime against both. It is written to be read
// beside the operator pages (https://onnx.ai/onnx/operators/): every kernel is the definition, spelled out in loops.
//
// It reads the forms of opset 18, to which onnx.Normalize brings every model, and the default domain only.
package refexec

import (
	"fmt"
	"maps"
	"slices"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// Run evaluates g and returns every value of it, inputs and initializers included, but not those inside the bodies of Loop
// and If. Values of the float types are computed in float64 whatever type is declared, and returned as float64 tensors;
// integers are int64 inside and out, except that a Cast to a narrower type wraps; booleans stay booleans.
//
// Inputs are not changed. An error names the node. Concurrent calls are safe.
func Run(g *onnx.Graph, inputs map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	e := &env{values: map[string]*array{}, kernels: kernels()}
	for _, in := range g.Inputs {
		t := inputs[in.Name]
		if t == nil {
			return nil, fmt.Errorf("graph %q: input %q is missing; got %v", g.Name, in.Name, slices.Sorted(maps.Keys(inputs)))
		}
		if err := admits(in, t); err != nil {
			return nil, fmt.Errorf("graph %q: input %q: %w", g.Name, in.Name, err)
		}
	}
	for name, t := range inputs {
		e.values[name] = fromTensor(t)
	}
	if err := e.graph(g); err != nil {
		return nil, err
	}
	out := make(map[string]*tensor.Tensor, len(e.values))
	for name, a := range e.values {
		out[name] = a.tensor()
	}
	return out, nil
}

// admits checks a tensor's rank and sizes against those declared; symbols admit every size.
func admits(in onnx.Value, t *tensor.Tensor) error {
	if in.Shape == nil {
		return nil
	}
	if len(in.Shape) != t.Rank() {
		return fmt.Errorf("has shape %v; want %v", t.Shape(), in.Shape)
	}
	for i, d := range in.Shape {
		if d.Known() && d.Size != int64(t.Shape()[i]) {
			return fmt.Errorf("has shape %v; want %v", t.Shape(), in.Shape)
		}
	}
	return nil
}

// env holds the values of one graph; names it does not hold are looked up in the graph around it.
type env struct {
	values  map[string]*array
	outer   *env
	kernels map[string]kernel
}

func (e *env) lookup(name string) *array {
	for s := e; s != nil; s = s.outer {
		if v, ok := s.values[name]; ok {
			return v
		}
	}
	return nil
}

// graph evaluates g's nodes into e.
func (e *env) graph(g *onnx.Graph) error {
	for _, in := range g.Initializers {
		if _, ok := e.values[in.Name]; !ok { // an input of that name overrides it
			e.values[in.Name] = fromTensor(in.Tensor)
		}
	}
	for _, n := range g.Nodes {
		if err := e.node(n); err != nil {
			return fmt.Errorf("node %q (%s): %w", n.Name, n.Op, err)
		}
	}
	for _, o := range g.Outputs {
		if e.lookup(o.Name) == nil {
			return fmt.Errorf("graph %q: output %q is computed by no node", g.Name, o.Name)
		}
	}
	return nil
}

// body evaluates a Loop's or If's graph in a scope of its own and returns its outputs in order.
func (e *env) body(g *onnx.Graph, args []*array) ([]*array, error) {
	inner := &env{values: map[string]*array{}, outer: e, kernels: e.kernels}
	if len(args) != len(g.Inputs) {
		return nil, fmt.Errorf("body %q takes %d inputs, got %d", g.Name, len(g.Inputs), len(args))
	}
	for i, in := range g.Inputs {
		inner.values[in.Name] = args[i]
	}
	if err := inner.graph(g); err != nil {
		return nil, err
	}
	out := make([]*array, len(g.Outputs))
	for i, o := range g.Outputs {
		out[i] = inner.lookup(o.Name)
	}
	return out, nil
}

// kernel computes the outputs of one node. Kernels report what is wrong with a node through call.fail, which env.node
// turns into an error: they would otherwise be half error handling.
type kernel func(c *call) []*array

// call is a node with the values of its inputs; those left out are nil.
type call struct {
	*onnx.Node
	env *env
	in  []*array
}

type failure struct{ error }

func (c *call) fail(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func (e *env) node(n *onnx.Node) (err error) {
	k, ok := e.kernels[n.Op]
	if !ok || n.Domain != "" {
		return fmt.Errorf("the reference interpreter has no operator %q of domain %q", n.Op, n.Domain)
	}
	defer func() {
		if r := recover(); r != nil {
			f, ok := r.(failure)
			if !ok {
				panic(r)
			}
			err = f.error
		}
	}()
	c := &call{Node: n, env: e, in: make([]*array, len(n.Inputs))}
	for i, name := range n.Inputs {
		if name == "" {
			continue
		}
		if c.in[i] = e.lookup(name); c.in[i] == nil {
			return fmt.Errorf("input %q has no value; are the nodes in topological order?", name)
		}
	}
	out := k(c)
	for i, name := range n.Outputs {
		if name == "" {
			continue
		}
		if i >= len(out) || out[i] == nil {
			return fmt.Errorf("output %d (%q) is not computed by the reference interpreter", i, name)
		}
		e.values[name] = out[i]
	}
	return nil
}

// arg is the i-th input, which must be there.
func (c *call) arg(i int) *array {
	a := c.opt(i)
	if a == nil {
		c.fail("input %d is missing", i)
	}
	return a
}

// opt is the i-th input, or nil.
func (c *call) opt(i int) *array {
	if i < len(c.in) {
		return c.in[i]
	}
	return nil
}

// intsAt is the i-th input as a list of integers, or nil when it is absent.
func (c *call) intsAt(i int) []int {
	a := c.opt(i)
	if a == nil {
		return nil
	}
	if a.dtype.IsFloat() {
		c.fail("input %d must hold integers, not %s", i, a.dtype)
	}
	out := make([]int, len(a.i))
	for k, v := range a.i {
		out[k] = int(v)
	}
	return out
}

// scalarAt is the only element of the i-th input as a number, or def when it is absent.
func (c *call) scalarAt(i int, def float64) float64 {
	a := c.opt(i)
	if a == nil {
		return def
	}
	if a.len() != 1 {
		c.fail("input %d must be one number, not of shape %v", i, a.shape)
	}
	return a.float(0)
}

// axis resolves a possibly negative axis against a rank.
func (c *call) axis(a int64, rank int) int {
	if a < 0 {
		a += int64(rank)
	}
	if a < 0 || a >= int64(rank) {
		c.fail("axis %d is outside a tensor of rank %d", a, rank)
	}
	return int(a)
}

func (c *call) attrInts(name string, n int, def int) []int {
	v := c.Ints(name)
	if v == nil {
		return slices.Repeat([]int{def}, n)
	}
	if len(v) != n {
		c.fail("attribute %q has %d elements, want %d", name, len(v), n)
	}
	return toInts(v)
}

func toInts(v []int64) []int {
	out := make([]int, len(v))
	for i, x := range v {
		out[i] = int(x)
	}
	return out
}
