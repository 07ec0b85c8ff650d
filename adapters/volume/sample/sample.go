// Package sample turns the numbers that files hold into voxels and back: streams of one type and byte order, with small buffers,
// so that reading takes little more memory than the voxels and no more than the file has data for.
package sample

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"

	"scrawl/adapters/volume"
)

// chunk is the number of values that are converted at a time.
const chunk = 8192

// firstAllocation is the number of voxels for which memory is taken on a header's word. Beyond it memory follows the data.
const firstAllocation = 32 << 20

// Format says how numbers are stored.
type Format struct {
	Type volume.DType
	// Order is binary.LittleEndian or binary.BigEndian; nil stands for the former.
	Order binary.ByteOrder
	// Slope and Inter make a value of a stored number: slope·x + inter. A slope of 0 stands for 1 and 0.
	Slope, Inter float64
}

func (f Format) scaled() bool { return f.Slope != 0 && (f.Slope != 1 || f.Inter != 0) }

// ReadVoxels reads the voxels of a grid of the given size. Not-a-number and infinities are kept. Data that ends early or that
// cannot be decompressed is volume.ErrFormat; other errors of the reader are passed on.
func ReadVoxels(r io.Reader, f Format, size [3]int) ([]float32, error) {
	return read(r, f, size, func(dst []float32, src []float64, _ int) error {
		for i, x := range src {
			dst[i] = float32(x)
		}
		return nil
	})
}

// ReadLabels reads labels. Values have to be integers from 0 to 65535, whatever their type; scaled ones to 1e-3, since slopes
// are rarely exact. Others are volume.ErrUnsupported, naming the first voxel in the way.
func ReadLabels(r io.Reader, f Format, size [3]int) ([]uint16, error) {
	slack := 0.0
	if f.scaled() {
		slack = 1e-3
	}
	return read(r, f, size, func(dst []uint16, src []float64, first int) error {
		for i, x := range src {
			if label := uint16(int32(x)); float64(label) == x { // whatever the conversion makes of other values, it is not equal
				dst[i] = label
				continue
			}
			label := math.Round(x)
			if !(label >= 0 && label <= math.MaxUint16 && math.Abs(x-label) <= slack) {
				return fmt.Errorf("%w: value %v at voxel %v, want labels: integers from 0 to %d", volume.ErrUnsupported, x, at(size, first+i), math.MaxUint16)
			}
			dst[i] = uint16(label)
		}
		return nil
	})
}

func at(size [3]int, n int) [3]int {
	return [3]int{n % size[0], n / size[0] % size[1], n / size[0] / size[1]}
}

func read[T any](r io.Reader, f Format, size [3]int, convert func(dst []T, src []float64, first int) error) ([]T, error) {
	total := size[0] * size[1] * size[2]
	raw := make([]byte, chunk*f.Type.Bytes())
	values := make([]float64, chunk)
	out := make([]T, 0, min(total, firstAllocation))
	for len(out) < total {
		n := min(chunk, total-len(out))
		b := raw[:n*f.Type.Bytes()]
		if got, err := io.ReadFull(r, b); err != nil {
			have := len(out) + got/f.Type.Bytes()
			return nil, fmt.Errorf("voxel data ends after %d of %d voxels: %w", have, total, Broken(err))
		}
		if err := decode(values[:n], b, f); err != nil {
			return nil, err
		}
		if len(out)+n > cap(out) {
			grown := make([]T, len(out), min(total, 2*cap(out)))
			copy(grown, out)
			out = grown
		}
		first := len(out)
		out = out[:first+n]
		if err := convert(out[first:], values[:n], first); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func decode(dst []float64, b []byte, f Format) error {
	if f.Order == binary.BigEndian {
		swap(b, f.Type.Bytes())
	}
	order := binary.LittleEndian // called directly, which is several times as fast as through the interface
	switch f.Type {
	case volume.Uint8:
		for i := range dst {
			dst[i] = float64(b[i])
		}
	case volume.Int8:
		for i := range dst {
			dst[i] = float64(int8(b[i]))
		}
	case volume.Uint16:
		for i := range dst {
			dst[i] = float64(order.Uint16(b[2*i:]))
		}
	case volume.Int16:
		for i := range dst {
			dst[i] = float64(int16(order.Uint16(b[2*i:])))
		}
	case volume.Uint32:
		for i := range dst {
			dst[i] = float64(order.Uint32(b[4*i:]))
		}
	case volume.Int32:
		for i := range dst {
			dst[i] = float64(int32(order.Uint32(b[4*i:])))
		}
	case volume.Uint64:
		for i := range dst {
			dst[i] = float64(order.Uint64(b[8*i:]))
		}
	case volume.Int64:
		for i := range dst {
			dst[i] = float64(int64(order.Uint64(b[8*i:])))
		}
	case volume.Float32:
		for i := range dst {
			dst[i] = float64(math.Float32frombits(order.Uint32(b[4*i:])))
		}
	case volume.Float64:
		for i := range dst {
			dst[i] = math.Float64frombits(order.Uint64(b[8*i:]))
		}
	default:
		return fmt.Errorf("voxel type %q: %w", f.Type, volume.ErrUnsupported)
	}
	if f.scaled() {
		for i, x := range dst {
			dst[i] = f.Slope*x + f.Inter
		}
	}
	return nil
}

// swap reverses the bytes of every value.
func swap(b []byte, width int) {
	if width == 1 {
		return
	}
	for ; len(b) >= width; b = b[width:] {
		for i, j := 0, width-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
	}
}

// Broken marks what decompressors and io.ReadFull report about damaged or truncated data as volume.ErrFormat, and leaves other
// errors, which are the reader's, as they are.
func Broken(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case err == nil || errors.Is(err, volume.ErrFormat):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: truncated", volume.ErrFormat)
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt):
		return fmt.Errorf("%w: compressed data: %w", volume.ErrFormat, err)
	}
	return err
}

// Finish reads on for a little after the last voxel, where a gzip stream holds its checksum, and reports damage. What else
// follows is padding and ignored; it is not followed without end.
func Finish(r io.Reader) error {
	_, err := io.CopyN(io.Discard, r, 1<<20)
	if err == nil || errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return fmt.Errorf("after the voxels: %w", Broken(err))
}
