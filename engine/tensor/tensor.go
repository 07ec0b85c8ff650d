// Package tensor holds dense, row-major arrays: the values that flow between the image code, the ONNX graphs and ONNX
// Runtime. A tensor is a shape and a typed Go slice; it owns no C memory and knows nothing of images.
package tensor

import (
	"fmt"
	"slices"
)

// DType is the element type of a tensor. The values are ONNX's TensorProto.DataType numbers
// (https://onnx.ai/onnx/api/classes.html#tensorproto), so that no table is needed at the border.
type DType int32

// The element types that Scrawl handles. Float16 and BFloat16 exist on disk only: the loader widens them to Float32.
const (
	Undefined DType = 0
	Float32   DType = 1
	Uint8     DType = 2
	Int8      DType = 3
	Int32     DType = 6
	Int64     DType = 7
	Bool      DType = 9
	Float16   DType = 10
	Float64   DType = 11
	BFloat16  DType = 16
)

func (d DType) String() string {
	switch d {
	case Float32:
		return "float32"
	case Uint8:
		return "uint8"
	case Int8:
		return "int8"
	case Int32:
		return "int32"
	case Int64:
		return "int64"
	case Bool:
		return "bool"
	case Float16:
		return "float16"
	case Float64:
		return "float64"
	case BFloat16:
		return "bfloat16"
	}
	return fmt.Sprintf("dtype(%d)", int32(d))
}

// IsFloat reports whether gradients can flow through values of this type.
func (d DType) IsFloat() bool {
	return d == Float32 || d == Float64 || d == Float16 || d == BFloat16
}

// Element is the set of Go types a tensor can hold.
type Element interface {
	float32 | float64 | int64 | int32 | uint8 | int8 | bool
}

// Tensor is a dense array in row-major order (the last axis runs fastest). The zero shape [] is a scalar of one
// element. A Tensor may be shared between goroutines as long as nobody writes to its data.
type Tensor struct {
	shape []int
	data  any // []T for an Element T
}

// New wraps data, without copying it, as a tensor of the given shape. It fails when a dimension is negative or when
// the number of elements differs from len(data).
func New[T Element](shape []int, data []T) (*Tensor, error) {
	n, err := Count(shape)
	if err != nil {
		return nil, err
	}
	if n != len(data) {
		return nil, fmt.Errorf("tensor of shape %v holds %d elements, got %d", shape, n, len(data))
	}
	return &Tensor{shape: slices.Clone(shape), data: data}, nil
}

// Must is New for shapes and data that the calling code has itself made to fit; a mismatch is a bug there.
func Must[T Element](shape []int, data []T) *Tensor {
	t, err := New(shape, data)
	if err != nil {
		panic(err)
	}
	return t
}

// Zeros returns a tensor of the given shape, filled with zeros.
func Zeros[T Element](shape ...int) *Tensor {
	n, err := Count(shape)
	if err != nil {
		panic(err)
	}
	return Must(shape, make([]T, n))
}

// Scalar returns a tensor of shape [].
func Scalar[T Element](v T) *Tensor { return Must(nil, []T{v}) }

// Vector returns a tensor of shape [len(v)].
func Vector[T Element](v ...T) *Tensor { return Must([]int{len(v)}, v) }

// Count returns the number of elements of a shape, or an error when it is negative or does not fit an int.
func Count(shape []int) (int, error) {
	n := 1
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		if d > 0 && n > (1<<62)/d {
			return 0, fmt.Errorf("shape %v is too large", shape)
		}
		n *= d
	}
	return n, nil
}

// Shape returns the tensor's dimensions. The caller must not change them.
func (t *Tensor) Shape() []int { return t.shape }

// Rank returns the number of dimensions.
func (t *Tensor) Rank() int { return len(t.shape) }

// Len returns the number of elements.
func (t *Tensor) Len() int {
	n := 1
	for _, d := range t.shape {
		n *= d
	}
	return n
}

// DType returns the element type.
func (t *Tensor) DType() DType {
	switch t.data.(type) {
	case []float32:
		return Float32
	case []float64:
		return Float64
	case []int64:
		return Int64
	case []int32:
		return Int32
	case []uint8:
		return Uint8
	case []int8:
		return Int8
	case []bool:
		return Bool
	}
	return Undefined
}

// Data returns the tensor's elements, shared and not copied, or nil when they are not of type T.
func Data[T Element](t *Tensor) []T {
	d, _ := t.data.([]T)
	return d
}

// Float32s is Data[float32], the case that nearly every caller means.
func (t *Tensor) Float32s() []float32 { return Data[float32](t) }

// Int64s is Data[int64].
func (t *Tensor) Int64s() []int64 { return Data[int64](t) }

// Reshape returns a tensor of another shape that shares t's data. One dimension may be -1 and is inferred.
func (t *Tensor) Reshape(shape ...int) (*Tensor, error) {
	s := slices.Clone(shape)
	infer, known := -1, 1
	for i, d := range s {
		if d == -1 && infer < 0 {
			infer = i
			continue
		}
		known *= d
	}
	if infer >= 0 && known > 0 {
		s[infer] = t.Len() / known
	}
	n, err := Count(s)
	if err != nil {
		return nil, err
	}
	if n != t.Len() {
		return nil, fmt.Errorf("cannot reshape %v to %v", t.shape, shape)
	}
	return &Tensor{shape: s, data: t.data}, nil
}

// Clone returns a deep copy.
func (t *Tensor) Clone() *Tensor {
	c := &Tensor{shape: slices.Clone(t.shape)}
	switch d := t.data.(type) {
	case []float32:
		c.data = slices.Clone(d)
	case []float64:
		c.data = slices.Clone(d)
	case []int64:
		c.data = slices.Clone(d)
	case []int32:
		c.data = slices.Clone(d)
	case []uint8:
		c.data = slices.Clone(d)
	case []int8:
		c.data = slices.Clone(d)
	case []bool:
		c.data = slices.Clone(d)
	}
	return c
}

// ZerosLike returns a tensor of t's shape and element type, filled with zeros.
func ZerosLike(t *Tensor) *Tensor {
	c := &Tensor{shape: slices.Clone(t.shape)}
	switch d := t.data.(type) {
	case []float32:
		c.data = make([]float32, len(d))
	case []float64:
		c.data = make([]float64, len(d))
	case []int64:
		c.data = make([]int64, len(d))
	case []int32:
		c.data = make([]int32, len(d))
	case []uint8:
		c.data = make([]uint8, len(d))
	case []int8:
		c.data = make([]int8, len(d))
	case []bool:
		c.data = make([]bool, len(d))
	}
	return c
}

// Bytes returns the size of the elements in bytes.
func (t *Tensor) Bytes() int {
	size := 1
	switch t.DType() {
	case Float64, Int64:
		size = 8
	case Float32, Int32:
		size = 4
	}
	return size * t.Len()
}
