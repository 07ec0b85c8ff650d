package autodiff

import "scrawl/engine/onnx"

// perChannel gives a vector over channels the shape [1,C,1,…] that broadcasts against an [N,C,…] value of that rank.
func (t *tape) perChannel(v string, rank int) string {
	return t.reshape(v, append([]int64{1, -1}, repeat(1, rank-2)...)...)
}

// overAllButChannel are the axes 0, 2, 3, …
func overAllButChannel(rank int) []int64 {
	axes := []int64{0}
	for i := 2; i < rank; i++ {
		axes = append(axes, int64(i))
	}
	return axes
}

// BatchNormalization at inference: y = γ(x−μ)/√(σ²+ε) + β with the statistics constant
// (https://onnx.ai/onnx/operators/onnx__BatchNormalization.html). They stay frozen: they get no gradient.
func vjpBatchNormalization(t *tape, c call) ([]string, error) {
	x, gamma, mean, variance, dy := c.Inputs[0], c.Inputs[1], c.Inputs[3], c.Inputs[4], c.dy()
	r, err := t.rank(c.Node, x)
	if err != nil {
		return nil, err
	}
	rstd := t.op("Reciprocal", t.op("Sqrt", t.add(variance, t.f(float64(c.Float("epsilon", 1e-5))))))
	dxs := make([]string, 5)
	if c.want[0] {
		dxs[0] = t.mul(dy, t.perChannel(t.mul(gamma, rstd), r))
	}
	if c.want[1] {
		// Σ dy·(x−μ)/σ from two sums over dy, without a normalised copy of x.
		s1 := t.sum(dy, false, overAllButChannel(r)...)
		s2 := t.sum(t.mul(dy, x), false, overAllButChannel(r)...)
		dxs[1] = t.mul(t.sub(s2, t.mul(mean, s1)), rstd)
		dxs[2] = s1
	} else if c.want[2] {
		dxs[2] = t.sum(dy, false, overAllButChannel(r)...)
	}
	return dxs, nil
}

// normalized is the cotangent of x in x̂ = (x−μ)/σ, where μ and σ are the mean and deviation of x over some axes:
// dx = (dx̂ − mean(dx̂) − x̂ ⊙ mean(dx̂ ⊙ x̂)) / σ (Ba et al. 2016; Ioffe and Szegedy 2015, section 3).
func (t *tape) normalized(dxhat, xhat, rstd string, axes []int64) string {
	m1 := t.mean(dxhat, axes...)
	m2 := t.mean(t.mul(dxhat, xhat), axes...)
	dx := t.mul(t.sub(t.sub(dxhat, m1), t.mul(xhat, m2)), rstd)
	t.b.Summarize(dx, NormalizedGradient, []string{dxhat, xhat, rstd}, onnx.WithInts("axes", axes...))
	return dx
}

// NormalizedGradient is the operator of [onnx.SummaryDomain] that takes the cotangent of x̂ = (x−μ)/σ to that of x, where μ and σ are taken
// over the attribute's axes. Its inputs are the cotangent, x̂ and 1/σ.
const NormalizedGradient = "NormalizedGradient"

// InstanceNormalization: y = γx̂ + β, x̂ normalised over the spatial axes of each image and channel
// (https://onnx.ai/onnx/operators/onnx__InstanceNormalization.html).
func vjpInstanceNormalization(t *tape, c call) ([]string, error) {
	x, gamma, beta, dy := c.Inputs[0], c.Inputs[1], c.Inputs[2], c.dy()
	r, err := t.rank(c.Node, x)
	if err != nil {
		return nil, err
	}
	var axes []int64
	for i := 2; i < r; i++ {
		axes = append(axes, int64(i))
	}
	centred := t.sub(x, t.mean(x, axes...))
	variance := t.mean(t.mul(centred, centred), axes...)
	rstd := t.op("Reciprocal", t.op("Sqrt", t.add(variance, t.f(float64(c.Float("epsilon", 1e-5))))))
	plain := t.allEqual(gamma, 1)
	xhat := c.y()
	if !plain || !t.allEqual(beta, 0) {
		xhat = t.mul(centred, rstd)
	}
	dxs := make([]string, 3)
	if c.want[0] {
		dxhat := dy
		if !plain {
			dxhat = t.mul(dy, t.perChannel(gamma, r))
		}
		dxs[0] = t.normalized(dxhat, xhat, rstd, axes)
	}
	if c.want[1] {
		dxs[1] = t.sum(t.mul(dy, xhat), false, overAllButChannel(r)...)
	}
	if c.want[2] {
		dxs[2] = t.sum(dy, false, overAllButChannel(r)...)
	}
	return dxs, nil
}

// LayerNormalization: y = γ ⊙ x̂ + β, x̂ normalised over the last axes
// (https://onnx.ai/onnx/operators/onnx__LayerNormalization.html).
func vjpLayerNormalization(t *tape, c call) ([]string, error) {
	x, gamma, dy := c.Inputs[0], c.Inputs[1], c.dy()
	if dy == "" {
		return nil, unsupported(c.Node, "only its first output can carry a gradient")
	}
	r, err := t.rank(c.Node, x)
	if err != nil {
		return nil, err
	}
	first, err := t.axis(c, -1)
	if err != nil {
		return nil, err
	}
	var axes []int64
	for i := first; i < int64(r); i++ {
		axes = append(axes, i)
	}
	rstd, mean := t.layerStatistics(c)
	plain := t.allEqual(gamma, 1)
	xhat := c.y()
	if !plain || c.Input(2) != "" {
		xhat = t.mul(t.sub(x, mean), rstd)
	}
	dxs := make([]string, len(c.Inputs))
	if c.want[0] {
		dxhat := dy
		if !plain {
			dxhat = t.mul(dy, gamma)
		}
		dxs[0] = t.normalized(dxhat, xhat, rstd, axes)
	}
	if c.want[1] {
		if dxs[1], err = t.unbroadcast(c.Node, t.mul(dy, xhat), c.y(), gamma); err != nil {
			return nil, err
		}
	}
	if len(c.Inputs) > 2 && c.want[2] {
		if dxs[2], err = t.unbroadcast(c.Node, dy, c.y(), c.Inputs[2]); err != nil {
			return nil, err
		}
	}
	return dxs, nil
}

// layerStatistics names the node's optional outputs, the mean and the inverse deviation, adding them when they were omitted.
func (t *tape) layerStatistics(c call) (rstd, mean string) {
	for len(c.Outputs) < 3 {
		c.Outputs = append(c.Outputs, "")
	}
	for i := 1; i < 3; i++ {
		if c.Outputs[i] == "" {
			c.Outputs[i] = t.b.Fresh("LayerNormalization")
		}
	}
	return c.Outputs[2], c.Outputs[1]
}

// LpNormalization: y = x/n, n the 1- or 2-norm along the axis. For p = 2, dx = (dy − y·Σ dy⊙y)/n; for p = 1 the y before the sum is sign(x).
func vjpLpNormalization(t *tape, c call) ([]string, error) {
	x := c.Inputs[0]
	a, err := t.axis(c, -1)
	if err != nil {
		return nil, err
	}
	norm, direction := "ReduceL2", c.y()
	if c.Int("p", 2) == 1 {
		norm, direction = "ReduceL1", t.op("Sign", x)
	}
	n := t.reduce(norm, x, true, a)
	along := t.mul(direction, t.sum(t.mul(c.dy(), c.y()), true, a))
	return one(t.div(t.sub(c.dy(), along), n))
}
