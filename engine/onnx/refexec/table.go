package refexec

import (
	"maps"
	"math"
	"slices"
)

// Operators returns the names of the operators of the default domain that Run knows, sorted.
func Operators() []string { return slices.Sorted(maps.Keys(kernels())) }

// kernels maps operators to their meaning.
func kernels() map[string]kernel {
	abs := func(x int64) int64 { return max(x, -x) }
	both := func(f func(a, b bool) bool) kernel {
		return comparison(func(x, y float64) bool { return f(x != 0, y != 0) }, func(x, y int64) bool { return f(x != 0, y != 0) })
	}
	return map[string]kernel{
		// elementwise.go: one input
		"Relu":            numeric(func(x float64) float64 { return max(x, 0) }, func(x int64) int64 { return max(x, 0) }),
		"LeakyRelu":       withAlpha(0.01, func(x, a float64) float64 { return max(x, 0) + a*min(x, 0) }),
		"ThresholdedRelu": withAlpha(1, func(x, a float64) float64 { return x * float64(truth(x > a)) }),
		"PRelu":           prelu,
		"Elu":             withAlpha(1, elu),
		"Selu":            selu,
		"Celu":            withAlpha(1, func(x, a float64) float64 { return max(x, 0) + min(0, a*math.Expm1(x/a)) }),
		"Gelu":            gelu,
		"Erf":             unary(math.Erf),
		"Sigmoid":         unary(sigmoid),
		"HardSigmoid":     hardSigmoid,
		"HardSwish":       unary(func(x float64) float64 { return x * min(max(x/6+0.5, 0), 1) }),
		"Mish":            unary(func(x float64) float64 { return x * math.Tanh(softplus(x)) }),
		"Softplus":        unary(softplus),
		"Softsign":        unary(func(x float64) float64 { return x / (1 + math.Abs(x)) }),
		"Tanh":            unary(math.Tanh),
		"Sqrt":            unary(math.Sqrt),
		"Exp":             unary(math.Exp),
		"Log":             unary(math.Log),
		"Sin":             unary(math.Sin),
		"Cos":             unary(math.Cos),
		"Tan":             unary(math.Tan),
		"Atan":            unary(math.Atan),
		"Floor":           unary(math.Floor),
		"Ceil":            unary(math.Ceil),
		"Round":           unary(math.RoundToEven),
		"Reciprocal":      unary(func(x float64) float64 { return 1 / x }),
		"Neg":             numeric(func(x float64) float64 { return -x }, func(x int64) int64 { return -x }),
		"Abs":             numeric(math.Abs, abs),
		"Sign":            numeric(sign, func(x int64) int64 { return int64(sign(float64(x))) }),
		"Clip":            clip,
		"Cast":            castNode,
		"CastLike":        castLike,
		"Identity":        identity,
		"Dropout":         dropout,
		"Not":             predicate(func(x float64) bool { return x == 0 }),
		"IsNaN":           predicate(math.IsNaN),
		"IsInf":           isInf,
		// elementwise.go: several inputs
		"Add": binary(func(x, y float64) float64 { return x + y }, func(x, y int64) int64 { return x + y }),
		"Sub": binary(func(x, y float64) float64 { return x - y }, func(x, y int64) int64 { return x - y }),
		"Mul": binary(func(x, y float64) float64 { return x * y }, func(x, y int64) int64 { return x * y }),
		"Div": div, "Pow": pow, "Mod": mod,
		"Min":            variadic(math.Min, func(x, y int64) int64 { return min(x, y) }),
		"Max":            variadic(math.Max, func(x, y int64) int64 { return max(x, y) }),
		"Sum":            variadic(func(x, y float64) float64 { return x + y }, nil),
		"Mean":           mean,
		"Equal":          comparison(func(x, y float64) bool { return x == y }, func(x, y int64) bool { return x == y }),
		"Less":           comparison(func(x, y float64) bool { return x < y }, func(x, y int64) bool { return x < y }),
		"LessOrEqual":    comparison(func(x, y float64) bool { return x <= y }, func(x, y int64) bool { return x <= y }),
		"Greater":        comparison(func(x, y float64) bool { return x > y }, func(x, y int64) bool { return x > y }),
		"GreaterOrEqual": comparison(func(x, y float64) bool { return x >= y }, func(x, y int64) bool { return x >= y }),
		"And":            both(func(a, b bool) bool { return a && b }),
		"Or":             both(func(a, b bool) bool { return a || b }),
		"Xor":            both(func(a, b bool) bool { return a != b }),
		"Where":          where,
		// window.go
		"Conv": conv, "ConvTranspose": convTranspose, "MaxPool": maxPool, "AveragePool": averagePool,
		"GlobalAveragePool": globalPool(0, func(a, x float64) float64 { return a + x }, func(a float64, n int) float64 { return a / float64(n) }),
		"GlobalMaxPool":     globalPool(math.Inf(-1), math.Max, func(a float64, _ int) float64 { return a }),
		// normalization.go
		"BatchNormalization": batchNormalization, "InstanceNormalization": instanceNormalization,
		"GroupNormalization": groupNormalization, "LayerNormalization": layerNormalization, "LpNormalization": lpNormalization,
		"Softmax": softmax(false), "LogSoftmax": softmax(true),
		// reduce.go
		"ReduceSum":       reduce(sum(same)),
		"ReduceMean":      reduce(func(v []float64) float64 { return sum(same)(v) / float64(len(v)) }),
		"ReduceMax":       reduce(extreme(math.Inf(-1), math.Max)),
		"ReduceMin":       reduce(extreme(math.Inf(1), math.Min)),
		"ReduceProd":      reduce(product),
		"ReduceL1":        reduce(sum(math.Abs)),
		"ReduceL2":        reduce(func(v []float64) float64 { return math.Sqrt(sum(square)(v)) }),
		"ReduceSumSquare": reduce(sum(square)),
		"ReduceLogSum":    reduce(func(v []float64) float64 { return math.Log(sum(same)(v)) }),
		"ReduceLogSumExp": reduce(logSumExp),
		"ArgMax":          argExtreme(1), "ArgMin": argExtreme(-1), "CumSum": cumSum, "TopK": topK,
		// shape.go
		"Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Transpose": transpose,
		"Concat": concat, "Split": split, "Slice": slice, "Pad": pad, "Expand": expand, "Tile": tile,
		"Gather": gather, "GatherElements": gatherElements, "GatherND": gatherND,
		"ScatterElements": scatterElements, "ScatterND": scatterND,
		"DepthToSpace": depthToSpace, "SpaceToDepth": spaceToDepth,
		"Shape": shapeOf, "Size": sizeOf, "Constant": constant, "ConstantOfShape": constantOfShape,
		"Range": rangeOf, "OneHot": oneHot, "Trilu": trilu, "NonZero": nonZero,
		// linear.go, resize.go, control.go
		"MatMul": matMul, "Gemm": gemm, "Einsum": einsum, "Resize": resize, "If": ifNode, "Loop": loop,
	}
}
