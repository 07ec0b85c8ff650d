package interact

import (
	"bytes"
	"context"
	"encoding/gob"
	"reflect"
	"slices"
	"testing"

	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/apps/recognise"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/onnx/refexec"
	"scrawl/engine/tensor"
)

// interpreted runs graphs on the reference interpreter, so that these tests need no ONNX Runtime.
type interpreted struct{ g *onnx.Graph }

func onInterpreter(m *onnx.Model) (adapt.Session, error) {
	return interpreted{m.Graph}, nil
}

func (s interpreted) Run(ctx context.Context, in, _ map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	values, err := refexec.Run(s.g, in)
	if err != nil {
		return nil, err
	}
	out := map[string]*tensor.Tensor{}
	for _, o := range s.g.Outputs {
		d := tensor.Data[float64](values[o.Name])
		f := make([]float32, len(d))
		for i, x := range d {
			f[i] = float32(x)
		}
		out[o.Name] = tensor.Must(values[o.Name].Shape(), f)
	}
	return out, nil
}

// perPixel is a network that looks at one pixel at a time: the foreground's logit is bias + Σ weight·channel.
func perPixel(bias float32, weights ...float32) *onnx.Model {
	dims := func(c int) onnx.Shape {
		return onnx.Shape{{Symbol: "N"}, {Size: int64(c)}, {Symbol: "H"}, {Symbol: "W"}}
	}
	c := len(weights)
	g := &onnx.Graph{Name: "per_pixel",
		Inputs:  []onnx.Value{{Name: "x", DType: tensor.Float32, Shape: dims(c)}},
		Outputs: []onnx.Value{{Name: "y", DType: tensor.Float32, Shape: dims(2)}},
		Initializers: []onnx.Initializer{
			{Name: "weight", Tensor: tensor.Must([]int{2, c, 1, 1}, append(make([]float32, c), weights...))},
			{Name: "bias", Tensor: tensor.Vector(0, bias)}}}
	b := onnx.NewBuilder(g, "")
	b.Alias(b.Op("Conv", []string{"x", "weight", "bias"}, onnx.WithInts("kernel_shape", 1, 1)), "y")
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": onnx.Opset}, Graph: g}
}

func model(tb testing.TB, m *onnx.Model, in Input) *Model {
	tb.Helper()
	n, err := adapt.NewNetwork(m, adapt.Trainable{})
	if err != nil {
		tb.Fatal(err)
	}
	e, err := adapt.NewEngine(n, in.ImageChannels(), onInterpreter)
	if err != nil {
		tb.Fatal(err)
	}
	if err := in.Validate(); err != nil {
		tb.Fatal(err)
	}
	thesis := adapt.Thesis()
	thesis.Steps = 3
	hindsight := adapt.Hindsight()
	hindsight.Steps, hindsight.Batch = 2, 2
	return &Model{Engine: e, Input: in, Thesis: thesis, Hindsight: hindsight, Recognise: recognise.Default(), Thickness: scribble.DefaultThickness()}
}

// bright sees strokes, and takes for the object what is bright, what is under a positive stroke, and what the previous mask had
// when it is neither bright nor dark.
func bright(tb testing.TB) *Model {
	return model(tb, perPixel(-12, 20, 10, -10, 4), Input{
		Channels: []Channel{ChannelImage, ChannelPositive, ChannelNegative, ChannelPrevious}, Grid: 32, Multiple: 1, Range: &[2]float64{0, 1}})
}

// imageOnly sees the image alone and takes for the object what is bright.
func imageOnly(tb testing.TB) *Model {
	return model(tb, perPixel(-6, 12), Input{Channels: []Channel{ChannelImage}, Grid: 48, Multiple: 1, Range: &[2]float64{0, 1}})
}

var sceneSize = [3]int{40, 36, 12}

// scene is a dark volume of 3 mm slices with a bright ellipsoid around (20,18,6), which reaches from slice 2 to slice 10, and a second
// object: a bright block in the corner of the slices above and below, where it touches the first in none.
func scene() (*volume.Volume, []bool) {
	v := volume.NewVolume(volume.New(sceneSize, [3]float64{1, 1, 3}))
	object := make([]bool, len(v.Voxels))
	for i := range v.Voxels {
		x, y, z := i%40-20, i/40%36-18, i/(40*36)-6
		v.Voxels[i] = 0.1
		switch {
		case float64(x*x)/100+float64(y*y)/80+float64(z*z)/20 <= 1:
			v.Voxels[i], object[i] = 0.9, true
		case x > 15 && y > 12 && (z < -2 || z > 1):
			v.Voxels[i] = 0.9
		}
	}
	return v, object
}

// stroke is a horizontal line of a slice.
func stroke(axis, slice int, positive bool, y, x0, x1 int) scribble.Stroke {
	s := scribble.Stroke{Axis: axis, Slice: slice, Positive: positive}
	for x := x0; x < x1; x++ {
		s.Pixels = append(s.Pixels, scribble.Point{X: x, Y: y})
	}
	return s
}

func drawn(strokes ...scribble.Stroke) scribble.Set { return scribble.NewSet(sceneSize, strokes...) }

// user is somebody at work on one image.
type user struct {
	t       *testing.T
	m       *Model
	img     Image
	learned Learned
	state   State
}

func begin(t *testing.T, m *Model) (*user, []bool) {
	v, object := scene()
	return &user{t: t, m: m, img: m.Prepare(v)}, object
}

// ask sends a request, checks that no argument is changed, that strokes keep their label and that others' voxels stay theirs.
func (u *user) ask(req Request) Result {
	u.t.Helper()
	before := []any{through(u.t, u.state), through(u.t, u.learned), slices.Clone(req.Previous), slices.Clone(req.Protected)}
	res, learned, state, err := u.m.Interact(u.t.Context(), u.img, req, u.learned, u.state)
	if err != nil {
		u.t.Fatal(err)
	}
	after := []any{through(u.t, u.state), through(u.t, u.learned), slices.Clone(req.Previous), slices.Clone(req.Protected)}
	if !reflect.DeepEqual(before, after) {
		u.t.Error("the request changed its arguments")
	}
	req.Strokes.Voxels(func(at int, positive bool) {
		hidden := req.Protected != nil && req.Protected[at] || req.Box != nil
		if !hidden && res.Mask[at] != positive {
			u.t.Errorf("voxel %d under a stroke of sign %v is %v", at, positive, res.Mask[at])
		}
	})
	for i, p := range req.Protected {
		if p && res.Mask[i] {
			u.t.Fatal("the answer claims a protected voxel")
		}
	}
	u.learned, u.state = learned, state
	return res
}

// draw asks with strokes alone.
func (u *user) draw(strokes ...scribble.Stroke) Result {
	u.t.Helper()
	return u.ask(Request{Strokes: drawn(strokes...), Options: Options{Profile: ProfileHindsight}})
}

// through is a value as it comes back from disk.
func through[T any](t *testing.T, v T) T {
	t.Helper()
	var buf bytes.Buffer
	var back T
	if err := gob.NewEncoder(&buf).Encode(&v); err != nil {
		t.Fatal(err)
	}
	if err := gob.NewDecoder(&buf).Decode(&back); err != nil {
		t.Fatal(err)
	}
	return back
}

// overlap is the Dice coefficient.
func overlap(a, b []bool) float64 {
	var both, sum int
	for i := range a {
		if a[i] && b[i] {
			both += 2
		}
		for _, v := range [2]bool{a[i], b[i]} {
			if v {
				sum++
			}
		}
	}
	if sum == 0 {
		return 1
	}
	return float64(both) / float64(sum)
}

// slab is slice k of a mask.
func slab(mask []bool, k int) []bool { return mask[k*40*36 : (k+1)*40*36] }

func count(mask []bool) (n int) {
	for _, b := range mask {
		if b {
			n++
		}
	}
	return n
}

func voxel(i, j, k int) int { return (k*36+j)*40 + i }
