package refexec

import (
	"math"

	"scrawl/engine/tensor"
)

// unary makes a kernel of a function of one number.
func unary(f func(x float64) float64) kernel {
	return func(c *call) []*array { return []*array{c.mapFloats(f)} }
}

func (c *call) mapFloats(f func(x float64) float64) *array {
	x := c.arg(0)
	if x.f == nil {
		c.fail("needs a float input, not %s", x.dtype)
	}
	y := floats(x.shape...)
	for k, v := range x.f {
		y.f[k] = f(v)
	}
	return y
}

// numeric makes a kernel of a function with a float and an integer form.
func numeric(f func(x float64) float64, g func(x int64) int64) kernel {
	return func(c *call) []*array {
		x := c.arg(0)
		if x.f != nil {
			return []*array{c.mapFloats(f)}
		}
		y := newArray(x.dtype, x.shape...)
		for k, v := range x.i {
			y.i[k] = g(v)
		}
		return []*array{y}
	}
}

// withAlpha makes a kernel of a function of one number and the attribute alpha.
func withAlpha(def float32, f func(x, alpha float64) float64) kernel {
	return func(c *call) []*array {
		alpha := float64(c.Float("alpha", def))
		return []*array{c.mapFloats(func(x float64) float64 { return f(x, alpha) })}
	}
}

// binary makes a kernel of a function of two numbers, with broadcasting.
func binary(f func(x, y float64) float64, g func(x, y int64) int64) kernel {
	return func(c *call) []*array { return []*array{c.combine(c.arg(0), c.arg(1), f, g)} }
}

func (c *call) combine(a, b *array, f func(x, y float64) float64, g func(x, y int64) int64) *array {
	shape := c.broadcastShape(a.shape, b.shape)
	a, b = a.expand(shape), b.expand(shape)
	if a.f != nil || b.f != nil {
		out := floats(shape...)
		for k := range out.f {
			out.f[k] = f(a.float(k), b.float(k))
		}
		return out
	}
	if g == nil {
		c.fail("has no integer form")
	}
	out := newArray(a.dtype, shape...)
	for k := range out.i {
		out.i[k] = g(a.i[k], b.i[k])
	}
	return out
}

// variadic folds a binary function over all inputs.
func variadic(f func(x, y float64) float64, g func(x, y int64) int64) kernel {
	return func(c *call) []*array {
		out := c.arg(0)
		for k := 1; k < len(c.in); k++ {
			out = c.combine(out, c.arg(k), f, g)
		}
		return []*array{out}
	}
}

func mean(c *call) []*array {
	sum := variadic(func(x, y float64) float64 { return x + y }, nil)(c)[0].clone()
	for k := range sum.f {
		sum.f[k] /= float64(len(c.in))
	}
	return []*array{sum}
}

// comparison makes a kernel whose result is boolean.
func comparison(f func(x, y float64) bool, g func(x, y int64) bool) kernel {
	return func(c *call) []*array {
		out := c.combine(c.arg(0), c.arg(1), func(x, y float64) float64 { return float64(truth(f(x, y))) },
			func(x, y int64) int64 { return truth(g(x, y)) })
		return []*array{asBool(out)}
	}
}

func asBool(a *array) *array {
	out := newArray(tensor.Bool, a.shape...)
	for k := range out.i {
		out.i[k] = truth(a.float(k) != 0)
	}
	return out
}

// predicate makes a kernel that asks a question of every element.
func predicate(f func(x float64) bool) kernel {
	return func(c *call) []*array {
		x := c.arg(0)
		out := newArray(tensor.Bool, x.shape...)
		for k := range out.i {
			out.i[k] = truth(f(x.float(k)))
		}
		return []*array{out}
	}
}

func isInf(c *call) []*array {
	negative, positive := c.Int("detect_negative", 1) != 0, c.Int("detect_positive", 1) != 0
	return predicate(func(x float64) bool { return positive && math.IsInf(x, 1) || negative && math.IsInf(x, -1) })(c)
}

func where(c *call) []*array {
	cond, x, y := c.arg(0), c.arg(1), c.arg(2)
	shape := c.broadcastShape(cond.shape, x.shape, y.shape)
	cond, x, y = cond.expand(shape), x.expand(shape), y.expand(shape)
	out := newArray(x.dtype, shape...)
	for k, yes := range cond.i {
		if yes != 0 {
			out.set(k, x, k)
		} else {
			out.set(k, y, k)
		}
	}
	return []*array{out}
}

func clip(c *call) []*array {
	lo, hi := c.scalarAt(1, math.Inf(-1)), c.scalarAt(2, math.Inf(1))
	return numeric(
		func(x float64) float64 { return min(max(x, lo), hi) },
		func(x int64) int64 { return int64(min(max(float64(x), lo), hi)) })(c)
}

func prelu(c *call) []*array {
	return []*array{c.combine(c.arg(0), c.arg(1), func(x, s float64) float64 {
		if x < 0 {
			return s * x
		}
		return x
	}, nil)}
}

func selu(c *call) []*array {
	alpha, gamma := float64(c.Float("alpha", 1.67326319217681884765625)), float64(c.Float("gamma", 1.05070102214813232421875))
	return []*array{c.mapFloats(func(x float64) float64 { return gamma * elu(x, alpha) })}
}

func elu(x, alpha float64) float64 {
	if x < 0 {
		return alpha * math.Expm1(x)
	}
	return x
}

func hardSigmoid(c *call) []*array {
	alpha, beta := float64(c.Float("alpha", 0.2)), float64(c.Float("beta", 0.5))
	return []*array{c.mapFloats(func(x float64) float64 { return min(max(alpha*x+beta, 0), 1) })}
}

func gelu(c *call) []*array {
	if c.Str("approximate", "none") == "tanh" {
		return []*array{c.mapFloats(func(x float64) float64 {
			return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
		})}
	}
	return []*array{c.mapFloats(func(x float64) float64 { return 0.5 * x * (1 + math.Erf(x/math.Sqrt2)) })}
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func softplus(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

func sign(x float64) float64 {
	switch {
	case x > 0:
		return 1
	case x < 0:
		return -1
	}
	return x // zero or NaN
}

// mod follows the divisor's sign, or with fmod the dividend's.
func mod(c *call) []*array {
	trunc := c.Int("fmod", 0) == 1
	return binary(
		func(x, y float64) float64 {
			m := math.Mod(x, y)
			if !trunc && m != 0 && (m < 0) != (y < 0) {
				m += y
			}
			return m
		},
		func(x, y int64) int64 {
			if y == 0 {
				c.fail("the divisor is zero")
			}
			m := x % y
			if !trunc && m != 0 && (m < 0) != (y < 0) {
				m += y
			}
			return m
		})(c)
}

func div(c *call) []*array {
	return binary(func(x, y float64) float64 { return x / y }, func(x, y int64) int64 {
		if y == 0 {
			c.fail("integer division by zero")
		}
		return x / y
	})(c)
}

func pow(c *call) []*array {
	x := c.arg(0)
	out := c.combine(x, c.arg(1), math.Pow, func(x, y int64) int64 { return int64(math.Pow(float64(x), float64(y))) })
	if x.f != nil {
		return []*array{out}
	}
	return []*array{cast(out, tensor.Int64)} // the result has the base's type
}

func castNode(c *call) []*array {
	return []*array{cast(c.arg(0), tensor.DType(c.Int("to", 0)))}
}

func castLike(c *call) []*array { return []*array{cast(c.arg(0), c.arg(1).dtype)} }

// cast converts element types; narrow integers wrap, as C's do.
func cast(x *array, d tensor.DType) *array {
	if d.IsFloat() {
		out := floats(x.shape...)
		for k := range out.f {
			out.f[k] = x.float(k)
		}
		return out
	}
	if d == tensor.Bool {
		return asBool(x)
	}
	out := newArray(tensor.Int64, x.shape...)
	for k := range out.i {
		v := int64(0)
		if x.f != nil {
			v = int64(x.f[k])
		} else {
			v = x.i[k]
		}
		switch d {
		case tensor.Int32:
			v = int64(int32(v))
		case tensor.Uint8:
			v = int64(uint8(v))
		case tensor.Int8:
			v = int64(int8(v))
		}
		out.i[k] = v
	}
	return out
}
