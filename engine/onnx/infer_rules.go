package onnx

// rules maps the operators of the default domain to their shape inference. Check takes an operator that is not here for
// unknown.
func rules() map[string]rule {
	table := map[string]rule{
		"Cast": castRule, "CastLike": castLikeRule, "Identity": identityRule, "Dropout": dropoutRule,
		"Floor": unaryFold(floorElem), "Ceil": unaryFold(ceilElem), "Neg": unaryFold(negElem), "Not": unaryFold(notElem),
		"IsNaN": predicateRule, "IsInf": predicateRule,
		"Add": binaryFold(addElems(1)), "Sub": binaryFold(addElems(-1)), "Mul": binaryFold(mulElems), "Div": binaryFold(divElems),
		"Mod": binaryFold(modElems), "Pow": binaryFold(powElems), "PRelu": elementwise,
		"Max": variadicFold(extremumElems("max")), "Min": variadicFold(extremumElems("min")),
		"Sum": variadicFold(addElems(1)), "Mean": variadicFold(nil),
		"Equal": comparisonFold(func(s int) bool { return s == 0 }),
		"Less":  comparisonFold(func(s int) bool { return s < 0 }), "LessOrEqual": comparisonFold(func(s int) bool { return s <= 0 }),
		"Greater": comparisonFold(func(s int) bool { return s > 0 }), "GreaterOrEqual": comparisonFold(func(s int) bool { return s >= 0 }),
		"And": logicFold(func(a, b bool) bool { return a && b }), "Or": logicFold(func(a, b bool) bool { return a || b }),
		"Xor": logicFold(func(a, b bool) bool { return a != b }), "Where": whereRule,

		"Conv": convRule, "ConvTranspose": convTransposeRule, "MaxPool": poolRule, "AveragePool": poolRule, "LpPool": poolRule,
		"GlobalAveragePool": globalPoolRule, "GlobalMaxPool": globalPoolRule, "LayerNormalization": layerNormRule,
		"ArgMax": argRule, "ArgMin": argRule, "TopK": topKRule,
		"MatMul": matMulRule, "Gemm": gemmRule, "Einsum": einsumRule, "Resize": resizeRule, "Upsample": resizeRule,

		"Shape": shapeRule, "Size": sizeRule, "Constant": constantRule, "ConstantOfShape": constantOfShapeRule,
		"Reshape": reshapeRule, "Flatten": flattenRule, "Squeeze": squeezeRule, "Unsqueeze": unsqueezeRule,
		"Transpose": transposeRule, "Concat": concatRule, "Split": splitRule, "Slice": sliceRule, "Pad": padRule,
		"Expand": expandRule, "Tile": tileRule, "Gather": gatherRule, "GatherElements": likeInput(1), "GatherND": gatherNDRule,
		"ScatterElements": elementwise, "ScatterND": elementwise, "DepthToSpace": depthToSpaceRule, "SpaceToDepth": spaceToDepthRule,
		"Range": rangeRule, "OneHot": oneHotRule, "NonZero": nonZeroRule, "If": ifRule, "Loop": loopRule,
	}
	for _, op := range []string{
		"Relu", "LeakyRelu", "ThresholdedRelu", "Elu", "Selu", "Celu", "Gelu", "Erf", "Sigmoid", "HardSigmoid", "HardSwish", "Mish",
		"Softplus", "Softsign", "Tanh", "Sqrt", "Exp", "Log", "Sin", "Cos", "Tan", "Atan", "Round", "Reciprocal", "Abs", "Sign", "Clip",
		"BatchNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization", "Softmax", "LogSoftmax", "Hardmax",
		"CumSum", "Trilu",
	} {
		table[op] = elementwise
	}
	for _, op := range []string{
		"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp",
	} {
		table[op] = reduceRule
	}
	return table
}
