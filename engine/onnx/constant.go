package onnx

import (
	"errors"
	"fmt"

	"scrawl/engine/tensor"
)

// constantValue is the tensor of a Constant node, in any of the forms its page lists but strings and sparse tensors
// (https://onnx.ai/onnx/operators/onnx__Constant.html).
func constantValue(n *Node) (*tensor.Tensor, error) {
	if len(n.Attrs) != 1 {
		return nil, fmt.Errorf("has %d attributes; a Constant has one", len(n.Attrs))
	}
	for name, a := range n.Attrs {
		switch name {
		case "value":
			if a.Tensor != nil {
				return a.Tensor, nil
			}
		case "value_float":
			return tensor.Scalar(a.Float), nil
		case "value_floats":
			return tensor.New([]int{len(a.Floats)}, a.Floats)
		case "value_int":
			return tensor.Scalar(a.Int), nil
		case "value_ints":
			return tensor.New([]int{len(a.Ints)}, a.Ints)
		default:
			return nil, fmt.Errorf("holds %q, which is not supported; want a numeric tensor", name)
		}
	}
	return nil, errors.New("holds no tensor")
}
