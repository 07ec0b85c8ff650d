package autodiff

import (
	"scrawl/engine/onnx"
)

// axis is a node's axis attribute as a non-negative number.
func (t *tape) axis(c call, def int64) (int64, error) {
	r, err := t.rank(c.Node, c.Inputs[0])
	if err != nil {
		return 0, err
	}
	a := c.Int("axis", def)
	if a < 0 {
		a += int64(r)
	}
	return a, nil
}

// Softmax: dx = (dy − Σ dy ⊙ y) ⊙ y, the sum along the axis.
func vjpSoftmax(t *tape, c call) ([]string, error) {
	a, err := t.axis(c, -1)
	if err != nil {
		return nil, err
	}
	s := t.sum(t.mul(c.dy(), c.y()), true, a)
	return one(t.mul(t.sub(c.dy(), s), c.y()))
}

// LogSoftmax: dx = dy − eʸ ⊙ Σ dy.
func vjpLogSoftmax(t *tape, c call) ([]string, error) {
	a, err := t.axis(c, -1)
	if err != nil {
		return nil, err
	}
	return one(t.sub(c.dy(), t.mul(t.op("Exp", c.y()), t.sum(c.dy(), true, a))))
}

// reduction describes a Reduce* node: which axes it reduces.
type reduction struct {
	axes []int64 // non-negative
	none bool    // reduces nothing (noop_with_empty_axes)
}

func (t *tape) reduction(c call) (reduction, error) {
	r, err := t.rank(c.Node, c.Inputs[0])
	if err != nil {
		return reduction{}, err
	}
	var axes []int64
	if in := c.Input(1); in != "" {
		a, ok := t.constInts(in)
		if !ok {
			return reduction{}, unsupported(c.Node, "its axes are computed at run time; export the model with constant axes")
		}
		axes = a
	}
	if len(axes) == 0 {
		if c.Int("noop_with_empty_axes", 0) == 1 {
			return reduction{none: true}, nil
		}
		for i := range r {
			axes = append(axes, int64(i))
		}
		return reduction{axes: axes}, nil
	}
	abs := make([]int64, len(axes))
	for i, a := range axes {
		if a < 0 {
			a += int64(r)
		}
		abs[i] = a
	}
	return reduction{axes: abs}, nil
}

// kept gives v, which has the shape of the reduction's result, its reduced axes back with size 1.
func (t *tape) kept(c call, r reduction, v string) string {
	if r.none || c.Int("keepdims", 1) == 1 {
		return v
	}
	return t.op("Unsqueeze", v, t.b.Int64s(r.axes...))
}

// spread is dy, broadcast back over the reduced axes to the input's rank (not yet to its size).
func (t *tape) spread(c call) (string, reduction, error) {
	r, err := t.reduction(c)
	if err != nil {
		return "", r, err
	}
	return t.kept(c, r, c.dy()), r, nil
}

// ReduceSum: dx = dy, repeated.
func vjpReduceSum(t *tape, c call) ([]string, error) {
	dy, _, err := t.spread(c)
	if err != nil {
		return nil, err
	}
	return one(t.op("Expand", dy, t.shapeOf(c.Inputs[0])))
}

// ReduceMean: dx = dy / n, repeated, n the number of elements averaged.
func vjpReduceMean(t *tape, c call) ([]string, error) {
	dy, r, err := t.spread(c)
	if err != nil {
		return nil, err
	}
	return one(t.op("Expand", t.div(dy, t.countAlong(c.Inputs[0], r.axes)), t.shapeOf(c.Inputs[0])))
}

// countAlong is the number of elements of a forward value along some axes, as a float scalar or vector of one.
func (t *tape) countAlong(v string, axes []int64) string {
	s, n := t.shape(v), int64(1)
	for _, a := range axes {
		if !s[a].Known() {
			return t.countAtRunTime(v, axes)
		}
		n *= s[a].Size
	}
	return t.f(float64(n))
}

func (t *tape) countAtRunTime(v string, axes []int64) string {
	n := ""
	for _, a := range axes {
		if d := t.dim(v, int(a)); n == "" {
			n = d
		} else {
			n = t.mul(n, d)
		}
	}
	return t.b.Op("Cast", []string{n}, onnx.WithInt("to", 1))
}

// ReduceMax and ReduceMin: the elements that attain the result share dy equally, as in PyTorch's amax.
func vjpReduceExtremum(t *tape, c call) ([]string, error) {
	dy, r, err := t.spread(c)
	if err != nil {
		return nil, err
	}
	if r.none {
		return one(dy)
	}
	m := t.mask(t.op("Equal", c.Inputs[0], t.kept(c, r, c.y())))
	return one(t.mul(m, t.div(dy, t.sum(m, true, r.axes...))))
}

// ReduceL1: dx = dy ⊙ sign(x).
func vjpReduceL1(t *tape, c call) ([]string, error) {
	dy, _, err := t.spread(c)
	if err != nil {
		return nil, err
	}
	return one(t.mul(dy, t.op("Sign", c.Inputs[0])))
}

// ReduceL2: dx = dy ⊙ x / y, and 0, the least subgradient, where y = 0.
func vjpReduceL2(t *tape, c call) ([]string, error) {
	dy, r, err := t.spread(c)
	if err != nil {
		return nil, err
	}
	const tiny = 1e-30 // keeps 0·dy/y from becoming NaN
	return one(t.mul(c.Inputs[0], t.div(dy, t.op("Max", t.kept(c, r, c.y()), t.f(tiny)))))
}

// ReduceSumSquare: dx = 2 dy ⊙ x.
func vjpReduceSumSquare(t *tape, c call) ([]string, error) {
	dy, _, err := t.spread(c)
	if err != nil {
		return nil, err
	}
	return one(t.mul(c.Inputs[0], t.scale(dy, 2)))
}

// ReduceLogSumExp: dx = dy ⊙ e^{x−y}.
func vjpReduceLogSumExp(t *tape, c call) ([]string, error) {
	dy, r, err := t.spread(c)
	if err != nil {
		return nil, err
	}
	return one(t.mul(dy, t.op("Exp", t.sub(c.Inputs[0], t.kept(c, r, c.y())))))
}

// ReduceLogSum: y = ln Σx, so dx = dy ⊙ e^{−y}, repeated.
func vjpReduceLogSum(t *tape, c call) ([]string, error) {
	dy, r, err := t.spread(c)
	if err != nil {
		return nil, err
	}
	if r.none { // each element is its own sum
		return one(t.div(dy, c.Inputs[0]))
	}
	return one(t.op("Expand", t.mul(dy, t.op("Exp", t.op("Neg", t.kept(c, r, c.y())))), t.shapeOf(c.Inputs[0])))
}

// CumSum: dx is the cumulative sum of dy from the other end.
func vjpCumSum(t *tape, c call) ([]string, error) {
	return one(t.b.Op("CumSum", []string{c.dy(), c.Inputs[1]},
		onnx.WithInt("exclusive", c.Int("exclusive", 0)), onnx.WithInt("reverse", 1-c.Int("reverse", 0))))
}
