package tensor_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"scrawl/engine/tensor"
)

func TestNew(t *testing.T) {
	for name, tc := range map[string]struct {
		shape []int
		n     int
		want  string
	}{
		"scalar":    {nil, 1, ""},
		"matrix":    {[]int{2, 3}, 6, ""},
		"empty":     {[]int{0, 3}, 0, ""},
		"too few":   {[]int{2, 3}, 5, "holds 6 elements, got 5"},
		"too many":  {nil, 2, "holds 1 elements, got 2"},
		"negative":  {[]int{-1, -1}, 1, "negative dimension"},
		"overflow":  {[]int{1 << 40, 1 << 40}, 0, "too large"},
		"zero last": {[]int{1 << 40, 0}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tensor.New(tc.shape, make([]float32, tc.n))
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error is %v, want %q", err, tc.want)
			}
		})
	}
}

func TestNewCopiesShapeNotData(t *testing.T) {
	shape, data := []int{2}, []int64{1, 2}
	x := tensor.Must(shape, data)
	shape[0], data[0] = 9, 7
	if x.Shape()[0] != 2 || x.Int64s()[0] != 7 {
		t.Errorf("shape %v, data %v; the shape is copied, the data are shared", x.Shape(), x.Int64s())
	}
}

func TestReshape(t *testing.T) {
	x := tensor.Zeros[float32](2, 3, 4)
	for _, tc := range []struct{ to, want []int }{
		{[]int{24}, []int{24}}, {[]int{-1}, []int{24}}, {[]int{2, -1}, []int{2, 12}}, {[]int{4, 3, 2}, []int{4, 3, 2}},
		{[]int{5, -1}, nil}, {[]int{-1, -1}, nil}, {[]int{23}, nil}, {[]int{-2, -12}, nil}, {[]int{0, -1}, nil},
	} {
		y, err := x.Reshape(tc.to...)
		if (err == nil) != (tc.want != nil) {
			t.Errorf("reshape to %v: error %v", tc.to, err)
		} else if err == nil && !slices.Equal(y.Shape(), tc.want) {
			t.Errorf("reshape to %v gives %v, want %v", tc.to, y.Shape(), tc.want)
		}
	}
}

// check runs f for a tensor of every element type.
func check(t *testing.T, f func(t *testing.T, x *tensor.Tensor)) {
	for _, x := range []*tensor.Tensor{
		tensor.Vector[float32](1, -2, 3.5), tensor.Vector[float64](1, -2, 3.5), tensor.Vector[int64](1, -2, 1<<60), tensor.Vector[int32](1, -2, 3),
		tensor.Vector[uint8](1, 255), tensor.Vector[int8](1, -128), tensor.Vector(true, false), tensor.Scalar[float32](7), tensor.Zeros[float64](0, 4),
	} {
		t.Run(x.DType().String(), func(t *testing.T) { f(t, x) })
	}
}

func TestCloneIsDeep(t *testing.T) {
	check(t, func(t *testing.T, x *tensor.Tensor) {
		c, z := x.Clone(), tensor.ZerosLike(x)
		if !reflect.DeepEqual(c, x) || c.DType() != x.DType() {
			t.Errorf("clone is %v, want %v", c, x)
		}
		if z.DType() != x.DType() || !slices.Equal(z.Shape(), x.Shape()) || z.Len() != x.Len() || z.Bytes() != x.Bytes() {
			t.Errorf("zeros are of type %s, shape %v", z.DType(), z.Shape())
		}
	})
	x := tensor.Vector[float32](1, 2)
	x.Clone().Float32s()[0] = 9
	if x.Float32s()[0] != 1 {
		t.Error("a clone shares its data")
	}
}

func TestBinaryRoundTrip(t *testing.T) {
	check(t, func(t *testing.T, x *tensor.Tensor) {
		data, err := x.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var y tensor.Tensor
		if err := y.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		if again, _ := y.MarshalBinary(); y.DType() != x.DType() || !slices.Equal(y.Shape(), x.Shape()) || !slices.Equal(again, data) {
			t.Errorf("read back as %s %v", y.DType(), y.Shape())
		}
		for n := range data {
			if err := y.UnmarshalBinary(data[:n]); err == nil && x.Len() > 0 {
				t.Errorf("the first %d of %d bytes are taken for a tensor", n, len(data))
			}
		}
	})
}

func TestBinaryRoundTripOfAnyShape(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.SliceOfN(rapid.IntRange(0, 4), 0, 5).Draw(t, "shape")
		x := tensor.Zeros[int32](shape...)
		for i, d := range tensor.Data[int32](x) {
			tensor.Data[int32](x)[i] = d + rapid.Int32().Draw(t, "element")
		}
		data, err := x.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var y tensor.Tensor
		if err := y.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(x.Shape(), y.Shape()) || !slices.Equal(tensor.Data[int32](x), tensor.Data[int32](&y)) {
			t.Fatalf("%v %v became %v %v", x.Shape(), tensor.Data[int32](x), y.Shape(), tensor.Data[int32](&y))
		}
	})
}

func FuzzUnmarshalBinary(f *testing.F) {
	for _, x := range []*tensor.Tensor{tensor.Scalar[float32](1), tensor.Zeros[int64](2, 3), tensor.Vector(true, false)} {
		data, err := x.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var x tensor.Tensor
		if err := x.UnmarshalBinary(data); err != nil {
			return
		}
		again, err := x.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if len(again) != len(data) {
			t.Errorf("%d bytes became %d", len(data), len(again))
		}
	})
}
