package sample

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"scrawl/adapters/volume"
)

// LabelType is the type in which to write labels: the one asked for, checked to hold every label, or where none is asked for the
// smaller of uint8 and uint16 that does.
func LabelType(labels []uint16, want volume.DType, size [3]int) (volume.DType, error) {
	top, where := uint16(0), 0
	for i, label := range labels {
		if label > top {
			top, where = label, i
		}
	}
	if want == "" {
		if top <= math.MaxUint8 {
			return volume.Uint8, nil
		}
		return volume.Uint16, nil
	}
	if _, err := volume.ParseDType(string(want)); err != nil {
		return "", err
	}
	if _, hi := bounds(want); float64(top) > hi {
		return "", fmt.Errorf("%w: label %d at voxel %v does not fit %s, which ends at %g", volume.ErrUnsupported, top, at(size, where), want, hi)
	}
	return want, nil
}

// VoxelType is the type in which to write an image: the one asked for, or float32. Integer types take voxels rounded to the
// nearest integer (halves to even); a voxel beyond their range or not finite is an error, before anything is written.
func VoxelType(voxels []float32, want volume.DType, size [3]int) (volume.DType, error) {
	if want == "" {
		return volume.Float32, nil
	}
	if _, err := volume.ParseDType(string(want)); err != nil || want.IsFloat() {
		return want, err
	}
	lo, hi := bounds(want)
	for i, x := range voxels {
		if v := math.RoundToEven(float64(x)); !(v >= lo && v <= hi) {
			return "", fmt.Errorf("%w: value %g at voxel %v does not fit %s", volume.ErrUnsupported, x, at(size, i), want)
		}
	}
	return want, nil
}

// bounds are the least and the largest float64 whose conversion to t is defined.
func bounds(t volume.DType) (lo, hi float64) {
	switch t {
	case volume.Uint64:
		return 0, math.Nextafter(1<<64, 0)
	case volume.Int64:
		return -1 << 63, math.Nextafter(1<<63, 0)
	case volume.Float32, volume.Float64:
		return math.Inf(-1), math.Inf(1)
	}
	bits := uint(8 * t.Bytes())
	if t[0] == 'u' {
		return 0, float64(uint64(1)<<bits - 1)
	}
	return -float64(uint64(1) << (bits - 1)), float64(uint64(1)<<(bits-1) - 1)
}

// WriteVoxels writes voxels as f says, which VoxelType has approved. Slope and Inter are not used.
func WriteVoxels(w io.Writer, voxels []float32, f Format) error {
	return write(w, voxels, f, func(x float32) int64 {
		if x >= 1<<63 { // only uint64 goes there: the same bits as an int64
			return int64(uint64(x))
		}
		return int64(math.RoundToEven(float64(x)))
	})
}

// WriteLabels writes labels as f says, which LabelType has approved. Slope and Inter are not used.
func WriteLabels(w io.Writer, labels []uint16, f Format) error {
	return write(w, labels, f, func(x uint16) int64 { return int64(x) })
}

func write[T float32 | uint16](w io.Writer, values []T, f Format, whole func(T) int64) error {
	width := f.Type.Bytes()
	if width == 0 {
		return fmt.Errorf("voxel type %q: %w", f.Type, volume.ErrUnsupported)
	}
	buf := make([]byte, chunk*width)
	for len(values) > 0 {
		n := min(chunk, len(values))
		b := buf[:n*width]
		if f.Type.IsFloat() {
			encodeFloats(b, values[:n], f.Type)
		} else {
			encodeIntegers(b, values[:n], width, whole)
		}
		if f.Order == binary.BigEndian {
			swap(b, width)
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

func encodeFloats[T float32 | uint16](b []byte, values []T, t volume.DType) {
	if t == volume.Float32 {
		for i, v := range values {
			binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(float32(v)))
		}
		return
	}
	for i, v := range values {
		binary.LittleEndian.PutUint64(b[8*i:], math.Float64bits(float64(v)))
	}
}

// encodeIntegers writes the low bytes of the two's complement, which are those of signed and unsigned types alike.
func encodeIntegers[T float32 | uint16](b []byte, values []T, width int, whole func(T) int64) {
	switch width {
	case 1:
		for i, v := range values {
			b[i] = byte(whole(v))
		}
	case 2:
		for i, v := range values {
			binary.LittleEndian.PutUint16(b[2*i:], uint16(whole(v)))
		}
	case 4:
		for i, v := range values {
			binary.LittleEndian.PutUint32(b[4*i:], uint32(whole(v)))
		}
	default:
		for i, v := range values {
			binary.LittleEndian.PutUint64(b[8*i:], uint64(whole(v)))
		}
	}
}
