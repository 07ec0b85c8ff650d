package sample_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"scrawl/adapters/volume"
	"scrawl/adapters/volume/sample"
)

// TestEveryTypeAndOrder compares with what encoding/binary makes of the same numbers.
func TestEveryTypeAndOrder(t *testing.T) {
	voxels := []float32{0, 1, 2, 100, 127, 3, 4}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for dtype, native := range map[volume.DType]any{
			volume.Uint8: []uint8{0, 1, 2, 100, 127, 3, 4}, volume.Int8: []int8{0, 1, 2, 100, 127, 3, 4},
			volume.Uint16: []uint16{0, 1, 2, 100, 127, 3, 4}, volume.Int16: []int16{0, 1, 2, 100, 127, 3, 4},
			volume.Uint32: []uint32{0, 1, 2, 100, 127, 3, 4}, volume.Int32: []int32{0, 1, 2, 100, 127, 3, 4},
			volume.Uint64: []uint64{0, 1, 2, 100, 127, 3, 4}, volume.Int64: []int64{0, 1, 2, 100, 127, 3, 4},
			volume.Float32: voxels, volume.Float64: []float64{0, 1, 2, 100, 127, 3, 4},
		} {
			var want, got bytes.Buffer
			if err := binary.Write(&want, order, native); err != nil {
				t.Fatal(err)
			}
			f := sample.Format{Type: dtype, Order: order}
			if err := sample.WriteVoxels(&got, voxels, f); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want.Bytes()) {
				t.Errorf("%s %v: % x, want % x", dtype, order, got.Bytes(), want.Bytes())
			}
			back, err := sample.ReadVoxels(iotest.OneByteReader(&got), f, [3]int{7, 1, 1})
			if err != nil {
				t.Fatal(err)
			}
			labels, err := sample.ReadLabels(&want, f, [3]int{1, 7, 1})
			if err != nil {
				t.Fatal(err)
			}
			for i, x := range voxels {
				if back[i] != x || labels[i] != uint16(x) {
					t.Errorf("%s %v: value %d is %g and label %d, want %g", dtype, order, i, back[i], labels[i], x)
				}
			}
		}
	}
}

func TestBounds(t *testing.T) {
	for _, test := range []struct {
		t    volume.DType
		x    float64
		fits bool
	}{
		{volume.Uint8, 255.4, true}, {volume.Uint8, 255.6, false}, {volume.Uint8, -0.4, true}, {volume.Uint8, -1, false},
		{volume.Int8, -128, true}, {volume.Int8, -129, false}, {volume.Int16, 32767, true}, {volume.Int16, 32768, false},
		{volume.Uint32, 4294967040, true}, {volume.Uint32, 1 << 32, false}, {volume.Int32, -1 << 31, true}, {volume.Int32, 1 << 31, false},
		{volume.Int64, -1 << 63, true}, {volume.Int64, 1 << 63, false}, {volume.Uint64, 1 << 63, true}, {volume.Uint64, 1 << 64, false},
		{volume.Uint16, math.NaN(), false}, {volume.Float32, math.NaN(), true}, {volume.Float64, math.Inf(1), true},
	} {
		v := []float32{float32(test.x)}
		_, err := sample.VoxelType(v, test.t, [3]int{1, 1, 1})
		if (err == nil) != test.fits {
			t.Errorf("%g as %s: %v", test.x, test.t, err)
		}
		if err != nil || math.IsNaN(test.x) {
			continue
		}
		var b bytes.Buffer
		if err := sample.WriteVoxels(&b, v, sample.Format{Type: test.t}); err != nil {
			t.Fatal(err)
		}
		back, err := sample.ReadVoxels(&b, sample.Format{Type: test.t}, [3]int{1, 1, 1})
		if err != nil || !(back[0] == v[0] || math.Abs(float64(back[0]-v[0])) <= 0.5) {
			t.Errorf("%g as %s came back as %v, %v", test.x, test.t, back, err)
		}
	}
	if _, err := sample.LabelType([]uint16{200}, volume.Int8, [3]int{1, 1, 1}); err == nil {
		t.Error("label 200 as int8")
	}
}

// TestLabelsOrError holds that a value becomes the label that equals it, or an error.
func TestLabelsOrError(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.OneOf(rapid.Float64(), rapid.Float64Range(-70000, 140000), rapid.Map(rapid.IntRange(-70000, 140000), func(n int) float64 { return float64(n) })).Draw(t, "value")
		var b bytes.Buffer
		if err := binary.Write(&b, binary.LittleEndian, x); err != nil {
			t.Fatal(err)
		}
		labels, err := sample.ReadLabels(&b, sample.Format{Type: volume.Float64}, [3]int{1, 1, 1})
		isLabel := x >= 0 && x <= 65535 && x == math.Trunc(x)
		switch {
		case isLabel && (err != nil || float64(labels[0]) != x):
			t.Fatalf("%g: %v, %v", x, labels, err)
		case !isLabel && !errors.Is(err, volume.ErrUnsupported):
			t.Fatalf("%g: %v, %v", x, labels, err)
		}
	})
}

// TestMemoryFollowsData reads more voxels than are allocated on a header's word.
func TestMemoryFollowsData(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 200 MB")
	}
	size := [3]int{1024, 1024, 33}
	labels, err := sample.ReadLabels(io.LimitReader(ones{}, 1024*1024*33), sample.Format{Type: volume.Uint8}, size)
	if err != nil || len(labels) != 1024*1024*33 || labels[len(labels)-1] != 1 {
		t.Fatalf("%d labels, %v", len(labels), err)
	}
}

type ones struct{}

func (ones) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 1
	}
	return len(p), nil
}
