package autodiff

import (
	"maps"
	"slices"
)

// vjp takes the cotangents of a node's outputs to those of its inputs, "" for an input that gets none. It may skip inputs
// that do not want one.
type vjp func(*tape, call) ([]string, error)

// table maps each operator of the default domain to its vector-Jacobian product. Formulas and their sources stand at
// the functions.
func table() map[string]vjp {
	return map[string]vjp{
		// element-wise.go
		"Relu": vjpRelu, "LeakyRelu": vjpLeakyRelu, "PRelu": vjpPRelu, "Elu": vjpElu, "Selu": vjpSelu, "Celu": vjpCelu,
		"Sigmoid": vjpSigmoid, "HardSigmoid": vjpHardSigmoid, "HardSwish": vjpHardSwish, "Mish": vjpMish,
		"Softplus": vjpSoftplus, "Tanh": vjpTanh, "Erf": vjpErf, "Exp": vjpExp, "Log": vjpLog, "Sqrt": vjpSqrt,
		"Neg": vjpNeg, "Abs": vjpAbs, "Reciprocal": vjpReciprocal, "Sin": vjpSin, "Cos": vjpCos, "Clip": vjpClip,
		"Identity": vjpIdentity, "Cast": vjpCast, "Add": vjpAdd, "Sub": vjpSub, "Mul": vjpMul, "Div": vjpDiv, "Pow": vjpPow,
		"Softsign": vjpSoftsign, "Tan": vjpTan, "Atan": vjpAtan, "ThresholdedRelu": vjpThresholdedRelu,
		"Sum": vjpSum, "Mean": vjpMean, "Min": vjpExtremum, "Max": vjpExtremum, "Where": vjpWhere,
		"Floor": vjpZero, "Ceil": vjpZero, "Round": vjpZero, "Sign": vjpZero,
		// reduce.go
		"Softmax": vjpSoftmax, "LogSoftmax": vjpLogSoftmax, "ReduceSum": vjpReduceSum, "ReduceMean": vjpReduceMean,
		"ReduceMax": vjpReduceExtremum, "ReduceMin": vjpReduceExtremum, "ReduceL1": vjpReduceL1, "ReduceL2": vjpReduceL2,
		"ReduceSumSquare": vjpReduceSumSquare, "ReduceLogSumExp": vjpReduceLogSumExp, "ReduceLogSum": vjpReduceLogSum, "CumSum": vjpCumSum,
		// shape.go
		"Reshape": vjpReshape, "Flatten": vjpReshape, "Squeeze": vjpReshape, "Unsqueeze": vjpReshape,
		"Transpose": vjpTranspose, "Concat": vjpConcat, "Split": vjpSplit, "Slice": vjpSlice, "Pad": vjpPad,
		"Expand": vjpExpand, "Tile": vjpTile, "Gather": vjpGather, "GatherElements": vjpGatherElements,
		"DepthToSpace": vjpDepthToSpace, "SpaceToDepth": vjpSpaceToDepth,
		// selection.go
		"Trilu": vjpTrilu, "GatherND": vjpGatherND, "ScatterND": vjpScatterND, "ScatterElements": vjpScatterElements, "TopK": vjpTopK,
		// linear.go
		"MatMul": vjpMatMul, "Gemm": vjpGemm, "Einsum": vjpEinsum,
		// conv.go
		"Conv": vjpConv, "ConvTranspose": vjpConvTranspose,
		// normalization.go
		"BatchNormalization": vjpBatchNormalization, "InstanceNormalization": vjpInstanceNormalization,
		"LayerNormalization": vjpLayerNormalization, "LpNormalization": vjpLpNormalization,
		// pool.go
		"MaxPool": vjpMaxPool, "AveragePool": vjpAveragePool, "GlobalAveragePool": vjpGlobalAveragePool,
		"GlobalMaxPool": vjpGlobalMaxPool,
		// resize.go
		"Resize": vjpResize,
	}
}

// Operators returns the names of the operators of the default domain that can be differentiated, sorted.
func Operators() []string { return slices.Sorted(maps.Keys(table())) }
