package autodiff

import (
	"math"

	"scrawl/engine/onnx"
)

// Operators that act on each element on its own. Below, ⊙ is the element-wise product and [·] is 1 where the condition
// holds and 0 elsewhere. Where an operator has a kink, the derivative chosen is PyTorch's.

// Relu: dx = dy ⊙ [y > 0].
func vjpRelu(t *tape, c call) ([]string, error) { return one(t.mul(c.dy(), t.positive(c.y()))) }

// LeakyRelu: dx = dy ⊙ (α + (1−α)[x > 0]).
func vjpLeakyRelu(t *tape, c call) ([]string, error) {
	a := float64(c.Float("alpha", 0.01))
	return one(t.mul(c.dy(), t.add(t.scale(t.positive(c.Inputs[0]), 1-a), t.f(a))))
}

// PRelu: dx = dy ⊙ ([x > 0] + s ⊙ [x ≤ 0]); ds = dy ⊙ min(x, 0), summed to the slope's shape.
func vjpPRelu(t *tape, c call) ([]string, error) {
	x, s := c.Inputs[0], c.Inputs[1]
	dxs := make([]string, 2)
	if c.want[0] {
		pos := t.positive(x)
		slope := t.add(pos, t.mul(s, t.sub(t.f(1), pos)))
		dxs[0] = t.mul(c.dy(), slope)
	}
	if c.want[1] {
		ds, err := t.unbroadcast(c.Node, t.mul(c.dy(), t.op("Min", x, t.f(0))), c.y(), s)
		if err != nil {
			return nil, err
		}
		dxs[1] = ds
	}
	return dxs, nil
}

// negativeBranch is dy ⊙ ([x > 0]·above + [x ≤ 0]·(a·y + b)), for the exponential units, whose derivative left of 0 is
// linear in y.
func (t *tape) negativeBranch(c call, above, a, b float64) ([]string, error) {
	pos := t.positive(c.Inputs[0])
	left := t.add(t.scale(c.y(), a), t.f(b))
	slope := t.add(t.scale(pos, above), t.mul(t.sub(t.f(1), pos), left))
	return one(t.mul(c.dy(), slope))
}

// Elu: y = α(eˣ−1) for x ≤ 0, so dy/dx = y + α there.
func vjpElu(t *tape, c call) ([]string, error) {
	return t.negativeBranch(c, 1, 1, float64(c.Float("alpha", 1)))
}

// Selu: y = γα(eˣ−1) for x ≤ 0, so dy/dx = y + γα there, and γ elsewhere.
func vjpSelu(t *tape, c call) ([]string, error) {
	a, g := float64(c.Float("alpha", 1.67326319217681884765625)), float64(c.Float("gamma", 1.05070102214813232421875))
	return t.negativeBranch(c, g, 1, a*g)
}

// Celu: y = α(e^{x/α}−1) for x ≤ 0, so dy/dx = y/α + 1 there.
func vjpCelu(t *tape, c call) ([]string, error) {
	return t.negativeBranch(c, 1, 1/float64(c.Float("alpha", 1)), 1)
}

// Sigmoid: dx = dy ⊙ y ⊙ (1−y).
func vjpSigmoid(t *tape, c call) ([]string, error) {
	return one(t.mul(c.dy(), t.mul(c.y(), t.sub(t.f(1), c.y()))))
}

// strictlyInside is 1 where lo < v < hi.
func (t *tape) strictlyInside(v string, lo, hi float64) string {
	return t.mask(t.op("And", t.op("Greater", v, t.f(lo)), t.op("Less", v, t.f(hi))))
}

// HardSigmoid: y = clip(αx+β, 0, 1); dx = α dy ⊙ [0 < y < 1].
func vjpHardSigmoid(t *tape, c call) ([]string, error) {
	a := float64(c.Float("alpha", 0.2))
	return one(t.scale(t.mul(c.dy(), t.strictlyInside(c.y(), 0, 1)), a))
}

// HardSwish: y = x·h(x), h = clip(x/6+1/2, 0, 1); dx = dy ⊙ (h + x/6 ⊙ [|x| < 3]).
func vjpHardSwish(t *tape, c call) ([]string, error) {
	x := c.Inputs[0]
	h := t.b.Op("HardSigmoid", []string{x}, onnx.WithFloat("alpha", 1.0/6), onnx.WithFloat("beta", 0.5))
	inner := t.scale(t.mul(x, t.strictlyInside(x, -3, 3)), 1.0/6)
	return one(t.mul(c.dy(), t.add(h, inner)))
}

// Mish: y = x·tanh(s), s = softplus(x); dx = dy ⊙ (tanh s + x ⊙ (1−tanh² s) ⊙ σ(x)).
func vjpMish(t *tape, c call) ([]string, error) {
	x := c.Inputs[0]
	th := t.op("Tanh", t.op("Softplus", x))
	slope := t.add(th, t.mul(t.mul(x, t.op("Sigmoid", x)), t.sub(t.f(1), t.mul(th, th))))
	return one(t.mul(c.dy(), slope))
}

// Softplus: dx = dy ⊙ σ(x).
func vjpSoftplus(t *tape, c call) ([]string, error) {
	return one(t.mul(c.dy(), t.op("Sigmoid", c.Inputs[0])))
}

// Tanh: dx = dy ⊙ (1−y²).
func vjpTanh(t *tape, c call) ([]string, error) {
	return one(t.mul(c.dy(), t.sub(t.f(1), t.mul(c.y(), c.y()))))
}

// Erf: dx = dy ⊙ 2/√π · e^{−x²}.
func vjpErf(t *tape, c call) ([]string, error) {
	x := c.Inputs[0]
	return one(t.scale(t.mul(c.dy(), t.op("Exp", t.op("Neg", t.mul(x, x)))), 2/math.Sqrt(math.Pi)))
}

// Exp: dx = dy ⊙ y.
func vjpExp(t *tape, c call) ([]string, error) { return one(t.mul(c.dy(), c.y())) }

// Log: dx = dy / x.
func vjpLog(t *tape, c call) ([]string, error) { return one(t.div(c.dy(), c.Inputs[0])) }

// Sqrt: dx = dy / (2y).
func vjpSqrt(t *tape, c call) ([]string, error) { return one(t.div(t.scale(c.dy(), 0.5), c.y())) }

// Neg: dx = −dy.
func vjpNeg(t *tape, c call) ([]string, error) { return one(t.op("Neg", c.dy())) }

// Abs: dx = dy ⊙ sign(x).
func vjpAbs(t *tape, c call) ([]string, error) { return one(t.mul(c.dy(), t.op("Sign", c.Inputs[0]))) }

// Reciprocal: dx = −dy ⊙ y².
func vjpReciprocal(t *tape, c call) ([]string, error) {
	return one(t.op("Neg", t.mul(c.dy(), t.mul(c.y(), c.y()))))
}

// Sin: dx = dy ⊙ cos x.
func vjpSin(t *tape, c call) ([]string, error) { return one(t.mul(c.dy(), t.op("Cos", c.Inputs[0]))) }

// Cos: dx = −dy ⊙ sin x.
func vjpCos(t *tape, c call) ([]string, error) {
	return one(t.op("Neg", t.mul(c.dy(), t.op("Sin", c.Inputs[0]))))
}

// Tan: dx = dy ⊙ (1 + y²).
func vjpTan(t *tape, c call) ([]string, error) {
	return one(t.mul(c.dy(), t.add(t.mul(c.y(), c.y()), t.f(1))))
}

// Atan: dx = dy / (1 + x²).
func vjpAtan(t *tape, c call) ([]string, error) {
	x := c.Inputs[0]
	return one(t.div(c.dy(), t.add(t.mul(x, x), t.f(1))))
}

// Softsign: y = x / (1+|x|); dx = dy ⊙ (1−|y|)².
func vjpSoftsign(t *tape, c call) ([]string, error) {
	s := t.sub(t.f(1), t.op("Abs", c.y()))
	return one(t.mul(c.dy(), t.mul(s, s)))
}

// ThresholdedRelu: dx = dy ⊙ [x > α].
func vjpThresholdedRelu(t *tape, c call) ([]string, error) {
	return one(t.mul(c.dy(), t.mask(t.op("Greater", c.Inputs[0], t.f(float64(c.Float("alpha", 1)))))))
}

// Clip: dx = dy ⊙ [min ≤ x ≤ max]; the bounds get no gradient.
func vjpClip(t *tape, c call) ([]string, error) {
	x, dx := c.Inputs[0], c.dy()
	if lo := c.Input(1); lo != "" {
		dx = t.mul(dx, t.mask(t.op("GreaterOrEqual", x, lo)))
	}
	if hi := c.Input(2); hi != "" {
		dx = t.mul(dx, t.mask(t.op("LessOrEqual", x, hi)))
	}
	return one(dx)
}

// Identity: dx = dy.
func vjpIdentity(_ *tape, c call) ([]string, error) { return one(c.dy()) }

// Cast between float types: dx = dy, cast back. A cast to or from another type carries no gradient.
func vjpCast(t *tape, c call) ([]string, error) {
	from, to := t.facts[c.Inputs[0]].DType, t.facts[c.y()].DType
	if !from.IsFloat() || !to.IsFloat() {
		return one("")
	}
	if from == to {
		return one(c.dy())
	}
	return one(t.b.Op("Cast", []string{c.dy()}, onnx.WithInt("to", int64(from))))
}

// vjpZero is for step functions: their derivative is 0 wherever it exists.
func vjpZero(_ *tape, _ call) ([]string, error) { return one("") }

// broadcasted gives each input that wants one the cotangent that grad returns for it, summed to the input's shape.
func (t *tape) broadcasted(c call, grad func(i int) string) ([]string, error) {
	dxs := make([]string, len(c.Inputs))
	for i, in := range c.Inputs {
		if !c.want[i] {
			continue
		}
		dx, err := t.unbroadcast(c.Node, grad(i), c.y(), in)
		if err != nil {
			return nil, err
		}
		dxs[i] = dx
	}
	return dxs, nil
}

// Add: da = dy, db = dy.
func vjpAdd(t *tape, c call) ([]string, error) {
	return t.broadcasted(c, func(int) string { return c.dy() })
}

// Sum, of any number of inputs: each gets dy.
func vjpSum(t *tape, c call) ([]string, error) { return vjpAdd(t, c) }

// Mean, of n inputs: each gets dy / n.
func vjpMean(t *tape, c call) ([]string, error) {
	dy := t.scale(c.dy(), 1/float64(len(c.Inputs)))
	return t.broadcasted(c, func(int) string { return dy })
}

// Sub: da = dy, db = −dy.
func vjpSub(t *tape, c call) ([]string, error) {
	return t.broadcasted(c, func(i int) string {
		if i == 0 {
			return c.dy()
		}
		return t.op("Neg", c.dy())
	})
}

// Mul: da = dy ⊙ b, db = dy ⊙ a.
func vjpMul(t *tape, c call) ([]string, error) {
	return t.broadcasted(c, func(i int) string { return t.mul(c.dy(), c.Inputs[1-i]) })
}

// Div: da = dy / b, db = −dy ⊙ y / b.
func vjpDiv(t *tape, c call) ([]string, error) {
	return t.broadcasted(c, func(i int) string {
		q := t.div(c.dy(), c.Inputs[1])
		if i == 0 {
			return q
		}
		return t.op("Neg", t.mul(q, c.y()))
	})
}

// Pow: da = dy ⊙ b ⊙ a^{b−1}; db = dy ⊙ y ⊙ ln a, taken as 0 where a = 0.
func vjpPow(t *tape, c call) ([]string, error) {
	a, b := c.Inputs[0], c.Inputs[1]
	if from := t.facts[a].DType; t.facts[b].DType != from {
		b = t.b.Op("Cast", []string{b}, onnx.WithInt("to", int64(from))) // Pow alone among the arithmetic operators mixes types
	}
	return t.broadcasted(c, func(i int) string {
		if i == 1 {
			zero := t.op("Equal", a, t.f(0))
			safe := t.op("Where", zero, t.f(1), a)
			return t.mul(c.dy(), t.mul(c.y(), t.op("Log", safe)))
		}
		if e, ok := t.constFloats(c.Inputs[1]); ok && len(e) == 1 && e[0] == 2 {
			return t.mul(c.dy(), t.scale(a, 2))
		}
		return t.mul(c.dy(), t.mul(b, t.op("Pow", a, t.sub(b, t.f(1)))))
	})
}

// Min and Max: the inputs that attain the result share dy equally.
func vjpExtremum(t *tape, c call) ([]string, error) {
	masks := make([]string, len(c.Inputs))
	count := ""
	for i, in := range c.Inputs {
		masks[i] = t.mask(t.op("Equal", in, c.y()))
		if count == "" {
			count = masks[i]
		} else {
			count = t.add(count, masks[i])
		}
	}
	share := t.div(c.dy(), count)
	return t.broadcasted(c, func(i int) string { return t.mul(share, masks[i]) })
}

// Where: da = dy where the condition holds, db = dy elsewhere.
func vjpWhere(t *tape, c call) ([]string, error) {
	return t.broadcasted(c, func(i int) string {
		if i == 1 {
			return t.op("Where", c.Inputs[0], c.dy(), t.f(0))
		}
		return t.op("Where", c.Inputs[0], t.f(0), c.dy())
	})
}
