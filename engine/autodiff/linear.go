package autodiff

import (
	"strings"

	"scrawl/engine/onnx"
)

// MatMul: dA = dY·Bᵀ, dB = Aᵀ·dY, batch axes broadcast as in numpy.matmul and summed back.
func vjpMatMul(t *tape, c call) ([]string, error) {
	a, b, dy := c.Inputs[0], c.Inputs[1], c.dy()
	ra, err := t.rank(c.Node, a)
	if err != nil {
		return nil, err
	}
	rb, err := t.rank(c.Node, b)
	if err != nil {
		return nil, err
	}
	if ra == 1 || rb == 1 {
		return t.matVec(c, ra, rb)
	}
	dxs := make([]string, 2)
	if c.want[0] {
		dxs[0], err = t.unbroadcastBatch(c, t.op("MatMul", dy, t.swapLast(b, rb)), a, ra, max(ra, rb))
		if err != nil {
			return nil, err
		}
	}
	if c.want[1] {
		if rb == 2 && ra > 2 {
			// A shared weight: one product over all rows instead of a sum over the batch.
			rows := func(v, like string, r int) string {
				return t.op("Reshape", v, t.concat(0, t.b.Int64s(-1), t.dim(like, r-1)))
			}
			at := t.transpose(rows(a, a, ra), 1, 0)
			dxs[1] = t.op("MatMul", at, rows(dy, b, rb))
			return dxs, nil
		}
		dxs[1], err = t.unbroadcastBatch(c, t.op("MatMul", t.swapLast(a, ra), dy), b, rb, max(ra, rb))
		if err != nil {
			return nil, err
		}
	}
	return dxs, nil
}

// swapLast transposes the last two axes.
func (t *tape) swapLast(v string, rank int) string {
	perm := make([]int64, rank)
	for i := range perm {
		perm[i] = int64(i)
	}
	perm[rank-1], perm[rank-2] = perm[rank-2], perm[rank-1]
	return t.transpose(v, perm...)
}

// unbroadcastBatch sums g over the batch axes that the forward value in lacks or has with size 1.
func (t *tape) unbroadcastBatch(c call, g, in string, rank, rankOut int) (string, error) {
	si, sy := t.shape(in), t.shape(c.y())
	lead := rankOut - rank
	var axes []int64
	for i := range lead {
		axes = append(axes, int64(i))
	}
	for i := range rank - 2 {
		d, o := si[i], sy[lead+i]
		if d == o {
			continue
		}
		if !d.Known() {
			return "", unsupported(c.Node, "batch axis %d of %q (%v) may or may not be broadcast", i, in, d)
		}
		if d.Size == 1 {
			axes = append(axes, int64(lead+i))
		}
	}
	if len(axes) == 0 {
		return g, nil
	}
	return t.reshapeLike(t.sum(g, true, axes...), in), nil
}

// matVec is MatMul where an operand is a vector, which ONNX treats as a matrix of one row or column.
func (t *tape) matVec(c call, ra, rb int) ([]string, error) {
	if ra > 2 || rb > 2 {
		return nil, unsupported(c.Node, "a vector times a batch of matrices is not handled; reshape the vector to a matrix")
	}
	a, b := c.Inputs[0], c.Inputs[1]
	am, bm := a, b
	if ra == 1 {
		am = t.reshape(a, 1, -1)
	}
	if rb == 1 {
		bm = t.reshape(b, -1, 1)
	}
	rows, cols := t.b.Int64s(1), t.b.Int64s(1)
	if ra == 2 {
		rows = t.dim(a, 0)
	}
	if rb == 2 {
		cols = t.dim(b, 1)
	}
	dy := t.op("Reshape", c.dy(), t.concat(0, rows, cols))
	return []string{
		t.reshapeLike(t.op("MatMul", dy, t.transpose(bm, 1, 0)), a),
		t.reshapeLike(t.op("MatMul", t.transpose(am, 1, 0), dy), b),
	}, nil
}

// gemm emits α·op(a)·op(b).
func (t *tape) gemm(a, b string, transA, transB bool, alpha float32) string {
	opts := []onnx.AttrOption{onnx.WithFloat("alpha", alpha)}
	if transA {
		opts = append(opts, onnx.WithInt("transA", 1))
	}
	if transB {
		opts = append(opts, onnx.WithInt("transB", 1))
	}
	return t.b.Op("Gemm", []string{a, b}, opts...)
}

// Gemm: Y = α·A'B' + β·C, with A' = A or Aᵀ, B' = B or Bᵀ; dA' = α·dY·B'ᵀ, dB' = α·A'ᵀ·dY, dC = β·dY summed to its shape.
func vjpGemm(t *tape, c call) ([]string, error) {
	a, b, dy := c.Inputs[0], c.Inputs[1], c.dy()
	ta, tb := c.Int("transA", 0) != 0, c.Int("transB", 0) != 0
	alpha := c.Float("alpha", 1)
	dxs := make([]string, len(c.Inputs))
	if c.want[0] {
		if ta {
			dxs[0] = t.gemm(b, dy, tb, true, alpha)
		} else {
			dxs[0] = t.gemm(dy, b, false, !tb, alpha)
		}
	}
	if c.want[1] {
		if tb {
			dxs[1] = t.gemm(dy, a, true, ta, alpha)
		} else {
			dxs[1] = t.gemm(a, dy, !ta, false, alpha)
		}
	}
	if len(c.Inputs) > 2 && c.want[2] {
		dc, err := t.unbroadcast(c.Node, t.scale(dy, float64(c.Float("beta", 1))), c.y(), c.Inputs[2])
		if err != nil {
			return nil, err
		}
		dxs[2] = dc
	}
	return dxs, nil
}

// Einsum of two operands without repeated or summed-away letters: each gradient is the Einsum of dY and the other operand.
func vjpEinsum(t *tape, c call) ([]string, error) {
	eq := strings.ReplaceAll(c.Str("equation", ""), " ", "")
	lhs, out, ok := strings.Cut(eq, "->")
	terms := strings.Split(lhs, ",")
	if !ok || strings.Contains(eq, "...") || len(terms) != len(c.Inputs) || len(terms) > 2 {
		return nil, unsupported(c.Node, "equation %q is not of the form \"ab,bc->ac\" with one or two operands", eq)
	}
	dxs := make([]string, len(terms))
	for i := range terms {
		if !c.want[i] {
			continue
		}
		ins, have := []string{c.dy()}, out
		lhs := out
		if len(terms) == 2 {
			ins = append(ins, c.Inputs[1-i])
			have += terms[1-i]
			lhs += "," + terms[1-i]
		}
		for k, letter := range terms[i] {
			if !strings.ContainsRune(have, letter) || strings.ContainsRune(terms[i][:k], letter) {
				return nil, unsupported(c.Node, "equation %q repeats letter %q or sums it away in one operand", eq, letter)
			}
		}
		dxs[i] = t.b.Op("Einsum", ins, onnx.WithString("equation", lhs+"->"+terms[i]))
	}
	return dxs, nil
}
