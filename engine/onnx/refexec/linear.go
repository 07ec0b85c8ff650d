package refexec

import (
	"slices"
	"strings"
)

// matMul follows numpy.matmul: batched over the leading axes, vectors taken as a row or a column.
func matMul(c *call) []*array {
	a, b := c.arg(0), c.arg(1)
	if a.rank() == 0 || b.rank() == 0 || a.f == nil || b.f == nil {
		c.fail("needs float matrices, got shapes %v and %v", a.shape, b.shape)
	}
	row, col := a.rank() == 1, b.rank() == 1
	if row {
		a = a.view(1, a.shape[0])
	}
	if col {
		b = b.view(b.shape[0], 1)
	}
	m, k, n := a.shape[a.rank()-2], a.shape[a.rank()-1], b.shape[b.rank()-1]
	if b.shape[b.rank()-2] != k {
		c.fail("shapes %v and %v cannot be multiplied", a.shape, b.shape)
	}
	batch := c.broadcastShape(a.shape[:a.rank()-2], b.shape[:b.rank()-2])
	pa, pb := broadcastPlaces(a.shape[:a.rank()-2], batch), broadcastPlaces(b.shape[:b.rank()-2], batch)
	shape := slices.Clone(batch)
	if !row {
		shape = append(shape, m)
	}
	if !col {
		shape = append(shape, n)
	}
	y := floats(shape...)
	for t := range pa {
		product2D(y.f[t*m*n:][:m*n], a.f[pa[t]*m*k:], b.f[pb[t]*k*n:], m, k, n)
	}
	return []*array{y}
}

// product2D adds the product of an m×k and a k×n matrix to y.
func product2D(y, a, b []float64, m, k, n int) {
	for i := range m {
		out := y[i*n:][:n]
		for l := range k {
			v := a[i*k+l]
			for j, w := range b[l*n:][:n] {
				out[j] += v * w
			}
		}
	}
}

// gemm computes α·A'·B' + β·C.
func gemm(c *call) []*array {
	a, b := c.arg(0), c.arg(1)
	if a.rank() != 2 || b.rank() != 2 {
		c.fail("needs matrices, got shapes %v and %v", a.shape, b.shape)
	}
	flip := func(x *array) *array {
		shape := []int{x.shape[1], x.shape[0]}
		return x.take(shape, places(shape, []int{1, x.shape[1]}, 0), nil)
	}
	if c.Int("transA", 0) != 0 {
		a = flip(a)
	}
	if c.Int("transB", 0) != 0 {
		b = flip(b)
	}
	m, k, n := a.shape[0], a.shape[1], b.shape[1]
	if b.shape[0] != k {
		c.fail("shapes %v and %v cannot be multiplied", a.shape, b.shape)
	}
	y := floats(m, n)
	product2D(y.f, a.f, b.f, m, k, n)
	alpha, beta := float64(c.Float("alpha", 1)), float64(c.Float("beta", 1))
	for p := range y.f {
		y.f[p] *= alpha
	}
	if bias := c.opt(2); bias != nil {
		bias = bias.expand(c.broadcastShape(bias.shape, y.shape))
		for p := range y.f {
			y.f[p] += beta * bias.f[p]
		}
	}
	return []*array{y}
}

// einsum sums, for every assignment of the output's labels, the products over all assignments of the others.
func einsum(c *call) []*array {
	equation := strings.ReplaceAll(c.Str("equation", ""), " ", "")
	if strings.Contains(equation, "...") {
		c.fail("an ellipsis in equation %q is not supported", equation)
	}
	left, right, explicit := strings.Cut(equation, "->")
	terms := strings.Split(left, ",")
	if len(terms) != len(c.in) {
		c.fail("equation %q has %d terms for %d inputs", equation, len(terms), len(c.in))
	}
	size := map[byte]int{}
	uses := map[byte]int{}
	for t, term := range terms {
		if len(term) != c.arg(t).rank() {
			c.fail("term %q does not fit shape %v", term, c.arg(t).shape)
		}
		for k := range len(term) {
			d := c.arg(t).shape[k]
			if old, ok := size[term[k]]; ok && old != d {
				c.fail("label %q stands for both %d and %d", term[k], old, d)
			}
			size[term[k]] = d
			uses[term[k]]++
		}
	}
	labels := make([]byte, 0, len(size))
	for l := range size {
		labels = append(labels, l)
	}
	slices.Sort(labels)
	if !explicit {
		for _, l := range labels {
			if uses[l] == 1 {
				right += string(l)
			}
		}
	}
	return []*array{c.contract(terms, right, labels, size)}
}

// contract evaluates an explicit einsum.
func (c *call) contract(terms []string, right string, labels []byte, size map[byte]int) *array {
	var shape []int
	order := []byte(right)
	for _, l := range order {
		if _, ok := size[l]; !ok {
			c.fail("output label %q is in no input", l)
		}
		shape = append(shape, size[l])
	}
	full := slices.Clone(shape)
	for _, l := range labels {
		if !slices.Contains(order, l) {
			order, full = append(order, l), append(full, size[l])
		}
	}
	sources := make([][]int, len(terms))
	for t, term := range terms {
		own, stride := strides(c.in[t].shape), make([]int, len(order))
		for k := range len(term) {
			stride[slices.Index(order, term[k])] += own[k] // a label that repeats walks the diagonal
		}
		sources[t] = places(full, stride, 0)
	}
	y := floats(shape...)
	inner := count(full[len(shape):])
	for k := range count(full) {
		p := 1.0
		for t := range terms {
			p *= c.in[t].float(sources[t][k])
		}
		y.f[k/inner] += p
	}
	return y
}
