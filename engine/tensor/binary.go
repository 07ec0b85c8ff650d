package tensor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// MarshalBinary writes the tensor as its element type, rank and dimensions (int64 each) and its elements, little endian.
func (t *Tensor) MarshalBinary() ([]byte, error) {
	var b bytes.Buffer
	b.Grow(8*(2+len(t.shape)) + t.Bytes())
	head := []int64{int64(t.DType()), int64(len(t.shape))}
	for _, d := range t.shape {
		head = append(head, int64(d))
	}
	if err := binary.Write(&b, binary.LittleEndian, head); err != nil {
		return nil, err
	}
	if err := binary.Write(&b, binary.LittleEndian, t.data); err != nil {
		return nil, fmt.Errorf("encode a tensor of %s: %w", t.DType(), err)
	}
	return b.Bytes(), nil
}

// maxRank bounds what UnmarshalBinary believes.
const maxRank = 16

// UnmarshalBinary reads what MarshalBinary wrote. Lengths are checked against the data before anything is allocated.
func (t *Tensor) UnmarshalBinary(data []byte) error {
	if len(data) < 16 {
		return errors.New("decode tensor: the data end within the header")
	}
	dtype, rank := DType(int64(binary.LittleEndian.Uint64(data))), int64(binary.LittleEndian.Uint64(data[8:]))
	data = data[16:]
	if rank < 0 || rank > maxRank || int64(len(data)) < 8*rank {
		return fmt.Errorf("decode tensor: rank %d does not fit the data", rank)
	}
	shape := make([]int, rank)
	for i := range shape {
		shape[i] = int(int64(binary.LittleEndian.Uint64(data[8*i:])))
	}
	data = data[8*rank:]
	n, err := Count(shape)
	if err != nil {
		return fmt.Errorf("decode tensor: %w", err)
	}
	switch dtype {
	case Float32:
		return fill[float32](t, shape, n, data)
	case Float64:
		return fill[float64](t, shape, n, data)
	case Int64:
		return fill[int64](t, shape, n, data)
	case Int32:
		return fill[int32](t, shape, n, data)
	case Uint8:
		return fill[uint8](t, shape, n, data)
	case Int8:
		return fill[int8](t, shape, n, data)
	case Bool:
		return fill[bool](t, shape, n, data)
	}
	return fmt.Errorf("decode tensor: element type %s is not known", dtype)
}

func fill[T Element](t *Tensor, shape []int, n int, data []byte) error {
	var zero T
	size := binary.Size(zero)
	if len(data)/size != n || len(data)%size != 0 {
		return fmt.Errorf("decode tensor: %d bytes for %d elements of %d bytes", len(data), n, size)
	}
	v := make([]T, n)
	if _, err := binary.Decode(data, binary.LittleEndian, v); err != nil {
		return fmt.Errorf("decode tensor: %w", err)
	}
	t.shape, t.data = shape, v
	return nil
}
