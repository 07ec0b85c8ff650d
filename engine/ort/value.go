package ort

import (
	"fmt"
	"runtime"

	binding "github.com/yalue/onnxruntime_go"

	"scrawl/engine/tensor"
)

// value is one C tensor for the time of one run.
type value struct {
	c binding.Value
	// read copies a rank-0 result into its tensor; nil where ONNX Runtime writes into the tensor's own memory.
	read func()
}

// lend makes a C tensor over t's memory, which is pinned until the run is over: the binding keeps no reference to it.
func lend(t *tensor.Tensor, pin *runtime.Pinner) (value, error) {
	switch t.DType() {
	case tensor.Float32:
		return lendAs[float32](t, pin)
	case tensor.Float64:
		return lendAs[float64](t, pin)
	case tensor.Int64:
		return lendAs[int64](t, pin)
	case tensor.Int32:
		return lendAs[int32](t, pin)
	case tensor.Uint8:
		return lendAs[uint8](t, pin)
	case tensor.Int8:
		return lendAs[int8](t, pin)
	case tensor.Bool:
		return lendAs[bool](t, pin)
	}
	return value{}, fmt.Errorf("element type %s cannot be passed to onnx runtime", t.DType())
}

func lendAs[T tensor.Element](t *tensor.Tensor, pin *runtime.Pinner) (value, error) {
	data := tensor.Data[T](t)
	if t.Rank() == 0 {
		// The binding makes rank-0 tensors over memory of its own only. A new one each run: its Set does not reach C.
		s, err := binding.NewScalar(data[0])
		if err != nil {
			return value{}, err
		}
		return value{c: s, read: func() { data[0] = s.GetData() }}, nil
	}
	if len(data) > 0 {
		pin.Pin(&data[0])
	}
	c, err := binding.NewTensor(shapeOf(t), data)
	if err != nil {
		return value{}, err
	}
	return value{c: c}, nil
}

func shapeOf(t *tensor.Tensor) binding.Shape {
	s := make(binding.Shape, t.Rank())
	for i, d := range t.Shape() {
		s[i] = int64(d)
	}
	return s
}

// newScalar returns a rank-0 tensor of the given element type to receive an output.
func newScalar(d tensor.DType) *tensor.Tensor {
	switch d {
	case tensor.Float64:
		return tensor.Scalar[float64](0)
	case tensor.Int64:
		return tensor.Scalar[int64](0)
	case tensor.Int32:
		return tensor.Scalar[int32](0)
	case tensor.Uint8:
		return tensor.Scalar[uint8](0)
	case tensor.Int8:
		return tensor.Scalar[int8](0)
	case tensor.Bool:
		return tensor.Scalar(false)
	}
	return tensor.Scalar[float32](0)
}

// take turns an output that the binding allocated into a tensor. The binding has copied the elements into Go memory
// already; they outlive the C tensor around them.
func take(v binding.Value) (*tensor.Tensor, error) {
	switch c := v.(type) {
	case *binding.Tensor[float32]:
		return takeAs[float32](c)
	case *binding.Tensor[float64]:
		return takeAs[float64](c)
	case *binding.Tensor[int64]:
		return takeAs[int64](c)
	case *binding.Tensor[int32]:
		return takeAs[int32](c)
	case *binding.Tensor[uint8]:
		return takeAs[uint8](c)
	case *binding.Tensor[int8]:
		return takeAs[int8](c)
	case *binding.Tensor[bool]:
		return takeAs[bool](c)
	}
	return nil, fmt.Errorf("onnx runtime gave a %T, which is no tensor that can be read", v)
}

func takeAs[T tensor.Element](c *binding.Tensor[T]) (*tensor.Tensor, error) {
	shape := c.GetShape()
	dims := make([]int, len(shape))
	for i, d := range shape {
		dims[i] = int(d)
	}
	return tensor.New(dims, c.GetData())
}

// supported reports whether tensors of this element type can be passed.
func supported(d tensor.DType) bool {
	switch d {
	case tensor.Float32, tensor.Float64, tensor.Int64, tensor.Int32, tensor.Uint8, tensor.Int8, tensor.Bool:
		return true
	}
	return false
}
