package onnx

import (
	"math"

	"scrawl/engine/tensor"
)

// Rules that follow elements: arithmetic on small values.

func elementwise(c *inferCall) ([]known, error) {
	x := c.arg(0)
	out := known{Fact: Fact{DType: x.DType, Shape: x.Shape}}
	return []known{out}, nil
}

// unaryFold is elementwise with a function on elements.
func unaryFold(f func(c *inferCall, e elem) elem) rule {
	return func(c *inferCall) ([]known, error) {
		x := c.arg(0)
		return []known{folded(x.DType, x.Shape, mapElems(x.elems, func(e elem) elem { return f(c, e) }))}, nil
	}
}

func mapElems(in []elem, f func(elem) elem) []elem {
	if in == nil {
		return nil
	}
	out := make([]elem, len(in))
	for i, e := range in {
		if e.kind != unknownElem {
			out[i] = f(e)
		}
	}
	return out
}

func floorElem(c *inferCall, e elem) elem {
	if e.kind == realElem {
		return floatElem(math.Floor(e.real))
	}
	return exact(c.floorDiv(e.num, e.den))
}

func ceilElem(c *inferCall, e elem) elem {
	if e.kind == realElem {
		return floatElem(math.Ceil(e.real))
	}
	return exact(c.ceilDiv(e.num, e.den))
}

func negElem(_ *inferCall, e elem) elem {
	if e.kind == realElem {
		return elem{kind: realElem, real: -e.real}
	}
	return elem{kind: exactElem, num: e.num.scale(-1), den: e.den}
}

func castRule(c *inferCall) ([]known, error) {
	return []known{c.cast(c.arg(0), tensor.DType(c.Int("to", 0)))}, nil
}

func castLikeRule(c *inferCall) ([]known, error) {
	return []known{c.cast(c.arg(0), c.arg(1).DType)}, nil
}

func (c *inferCall) cast(x known, d tensor.DType) known {
	return folded(d, x.Shape, mapElems(x.elems, func(e elem) elem { return c.castElem(e, x.DType, d) }))
}

func (c *inferCall) castElem(e elem, from, to tensor.DType) elem {
	switch {
	case to == tensor.Bool:
		if v, ok := e.constant(); ok {
			return boolElem(v != 0)
		}
		return elem{}
	case to.IsFloat() || !from.IsFloat():
		return e
	}
	if v, ok := e.constant(); ok {
		return floatElem(math.Trunc(v))
	}
	return floorElem(c, e) // sizes are not negative
}

func boolElem(b bool) elem {
	if b {
		return exactInt(1)
	}
	return exactInt(0)
}

// binaryFold broadcasts; a nil f does not follow elements.
func binaryFold(f func(c *inferCall, a, b elem, d tensor.DType) elem) rule {
	return func(c *inferCall) ([]known, error) {
		out, err := c.combine(c.arg(0), c.arg(1), f)
		return []known{out}, err
	}
}

func (c *inferCall) combine(a, b known, f func(c *inferCall, a, b elem, d tensor.DType) elem) (known, error) {
	s, err := c.broadcastShapes(a.Shape, b.Shape)
	if err != nil {
		return known{}, err
	}
	d := a.DType
	if d == tensor.Undefined {
		d = b.DType
	}
	if f == nil || a.elems == nil || b.elems == nil {
		return known{Fact: Fact{DType: d, Shape: s}}, nil
	}
	pa, pb := broadcastElems(a, s), broadcastElems(b, s)
	if pa == nil || pb == nil {
		return known{Fact: Fact{DType: d, Shape: s}}, nil
	}
	elems := make([]elem, len(pa))
	for i := range elems {
		if pa[i].kind != unknownElem && pb[i].kind != unknownElem {
			elems[i] = f(c, pa[i], pb[i], d)
		}
	}
	return folded(d, s, elems), nil
}

// broadcastElems lays out a value's elements in the broadcast shape; nil when that is not small.
func broadcastElems(k known, s Shape) []elem {
	sizes, ok := smallSizes(s)
	if !ok || k.elems == nil {
		return nil
	}
	own, ok := smallSizes(k.Shape)
	if !ok {
		return nil
	}
	stride := make([]int, len(sizes))
	n := 1
	for i := len(own) - 1; i >= 0; i-- {
		if own[i] != 1 {
			stride[len(sizes)-len(own)+i] = n
		}
		n *= own[i]
	}
	return pickElems(k.elems, sizes, stride, 0)
}

// smallSizes returns a shape's sizes when they are known and few elements have them.
func smallSizes(s Shape) ([]int, bool) {
	if s == nil {
		return nil, false
	}
	sizes, n := make([]int, len(s)), int64(1)
	for i, d := range s {
		if !d.Known() || d.Size > maxFolded || d.Size < 0 {
			return nil, false
		}
		if n *= d.Size; n > maxFolded {
			return nil, false
		}
		sizes[i] = int(d.Size)
	}
	return sizes, true
}

// pickElems reads elements at base + Σ index·stride for every index of the given sizes, in order.
func pickElems(from []elem, sizes, stride []int, base int) []elem {
	n := 1
	for _, d := range sizes {
		n *= d
	}
	out := make([]elem, n)
	index := make([]int, len(sizes))
	p := base
	for k := range out {
		if p < 0 || p >= len(from) {
			return nil
		}
		out[k] = from[p]
		for a := len(sizes) - 1; a >= 0; a-- {
			index[a]++
			p += stride[a]
			if index[a] < sizes[a] {
				break
			}
			p -= stride[a] * sizes[a]
			index[a] = 0
		}
	}
	return out
}

// real2 applies a function to two constants.
func real2(a, b elem, f func(x, y float64) float64) elem {
	x, okA := a.constant()
	y, okB := b.constant()
	if !okA || !okB {
		return elem{}
	}
	return floatElem(f(x, y))
}

func addElems(sign int64) func(c *inferCall, a, b elem, d tensor.DType) elem {
	return func(_ *inferCall, a, b elem, _ tensor.DType) elem {
		if a.kind == exactElem && b.kind == exactElem && a.den < math.MaxInt32 && b.den < math.MaxInt32 {
			return rational(a.num.scale(b.den).plus(b.num.scale(a.den), sign), a.den*b.den)
		}
		return real2(a, b, func(x, y float64) float64 { return x + float64(sign)*y })
	}
}

// rational is num/den in lowest terms.
func rational(num poly, den int64) elem {
	g := den
	for _, c := range num {
		g = gcd(g, c)
	}
	if g > 1 {
		reduced := poly{}
		for m, c := range num {
			reduced[m] = c / g
		}
		num, den = reduced, den/g
	}
	return elem{kind: exactElem, num: num, den: den}
}

func mulElems(c *inferCall, a, b elem, _ tensor.DType) elem {
	if a.kind == exactElem && b.kind == exactElem && a.den < math.MaxInt32 && b.den < math.MaxInt32 {
		return rational(c.mul(a.num, b.num), a.den*b.den)
	}
	return real2(a, b, func(x, y float64) float64 { return x * y })
}

func divElems(c *inferCall, a, b elem, d tensor.DType) elem {
	if d.IsFloat() {
		if n, ok := b.num.constant(); ok && a.kind == exactElem && b.kind == exactElem && n > 0 && n < math.MaxInt32 && a.den < math.MaxInt32 {
			return rational(a.num.scale(b.den), a.den*n)
		}
		if a.kind == exactElem && b.kind == exactElem && a.num.equal(b.num) && len(a.num) > 0 { // H/H
			return rational(number(b.den), a.den)
		}
		return real2(a, b, func(x, y float64) float64 { return x / y })
	}
	p, okA := a.integer()
	q, okB := b.integer()
	if !okA || !okB {
		return elem{}
	}
	x, okX := p.constant()
	if y, okY := q.constant(); okX && okY {
		if y == 0 {
			return elem{}
		}
		return exactInt(x / y)
	}
	if !q.positive() {
		return elem{}
	}
	return exact(c.quotient(p, q))
}

func modElems(c *inferCall, a, b elem, _ tensor.DType) elem {
	p, okA := a.integer()
	q, okB := b.integer()
	n, ok := q.constant()
	if !okA || !okB || !ok || n <= 0 || c.Int("fmod", 0) != 0 {
		return elem{}
	}
	return exact(p.sub(c.floorDiv(p, n).scale(n)))
}

func extremumElems(name string) func(c *inferCall, a, b elem, d tensor.DType) elem {
	return func(c *inferCall, a, b elem, _ tensor.DType) elem {
		p, okA := a.integer()
		q, okB := b.integer()
		if okA && okB {
			return exact(c.extremum(name, p, q))
		}
		if name == "max" {
			return real2(a, b, math.Max)
		}
		return real2(a, b, math.Min)
	}
}

func powElems(_ *inferCall, a, b elem, _ tensor.DType) elem { return real2(a, b, math.Pow) }

// variadicFold folds a binary rule over all inputs.
func variadicFold(f func(c *inferCall, a, b elem, d tensor.DType) elem) rule {
	return func(c *inferCall) ([]known, error) {
		out := c.arg(0)
		out.Value = nil
		for i := 1; i < len(c.in); i++ {
			var err error
			if out, err = c.combine(out, c.arg(i), f); err != nil {
				return nil, err
			}
		}
		return []known{out}, nil
	}
}

// comparisonFold decides a comparison from what is known of a − b; its result is boolean.
func comparisonFold(decide func(sign int) bool) rule {
	return func(c *inferCall) ([]known, error) {
		out, err := c.combine(c.arg(0), c.arg(1), func(_ *inferCall, a, b elem, _ tensor.DType) elem {
			sign, ok := compareElems(a, b)
			if !ok {
				return elem{}
			}
			return boolElem(decide(sign))
		})
		out.DType = tensor.Bool
		return []known{out}, err
	}
}

// compareElems is the sign of a − b where sizes alone decide it.
func compareElems(a, b elem) (int, bool) {
	if x, ok := a.constant(); ok {
		if y, ok := b.constant(); ok {
			switch {
			case x < y:
				return -1, true
			case x > y:
				return 1, true
			}
			return 0, true
		}
	}
	if a.kind != exactElem || b.kind != exactElem || a.den > math.MaxInt32 || b.den > math.MaxInt32 {
		return 0, false
	}
	d := a.num.scale(b.den).sub(b.num.scale(a.den))
	switch {
	case len(d) == 0:
		return 0, true
	case d.positive():
		return 1, true
	case d.scale(-1).positive():
		return -1, true
	}
	return 0, false
}

func logicFold(f func(a, b bool) bool) rule {
	return func(c *inferCall) ([]known, error) {
		out, err := c.combine(c.arg(0), c.arg(1), func(_ *inferCall, a, b elem, _ tensor.DType) elem {
			x, okA := a.constant()
			y, okB := b.constant()
			if !okA || !okB {
				return elem{}
			}
			return boolElem(f(x != 0, y != 0))
		})
		out.DType = tensor.Bool
		return []known{out}, err
	}
}

func notElem(_ *inferCall, e elem) elem {
	if v, ok := e.constant(); ok {
		return boolElem(v == 0)
	}
	return elem{}
}

// predicate has its input's shape and is boolean.
func predicateRule(c *inferCall) ([]known, error) { return as(tensor.Bool, c.arg(0).Shape), nil }

func whereRule(c *inferCall) ([]known, error) {
	cond, x, y := c.arg(0), c.arg(1), c.arg(2)
	s, err := c.broadcastShapes(cond.Shape, x.Shape, y.Shape)
	if err != nil {
		return nil, err
	}
	d := x.DType
	if d == tensor.Undefined {
		d = y.DType
	}
	ec, ex, ey := broadcastElems(cond, s), broadcastElems(x, s), broadcastElems(y, s)
	if ec == nil || ex == nil || ey == nil {
		return as(d, s), nil
	}
	elems := make([]elem, len(ec))
	for i := range elems {
		if v, ok := ec[i].constant(); ok {
			if elems[i] = ey[i]; v != 0 {
				elems[i] = ex[i]
			}
		}
	}
	return []known{folded(d, s, elems)}, nil
}
