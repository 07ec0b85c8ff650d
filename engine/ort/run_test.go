package ort_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
)

type tensors = map[string]*tensor.Tensor

// model reads a file made by testdata/make_models.py.
func model(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name+".onnx"))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

func newSession(tb testing.TB, name string) *ort.Session {
	tb.Helper()
	s, err := orttest.Library(tb).NewSession(model(tb, name), ort.Options{Threads: 1, NoSpinning: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func run(tb testing.TB, s *ort.Session, in, out tensors) tensors {
	tb.Helper()
	got, err := s.Run(tb.Context(), in, out)
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

func same[T tensor.Element](tb testing.TB, name string, got *tensor.Tensor, shape []int, want ...T) {
	tb.Helper()
	if got == nil {
		tb.Fatalf("%s is missing", name)
	}
	if d := cmp.Diff(shape, append([]int{}, got.Shape()...)); d != "" {
		tb.Errorf("%s: shape (-want +got):\n%s", name, d)
	}
	if d := cmp.Diff(append([]T{}, want...), append([]T{}, tensor.Data[T](got)...)); d != "" {
		tb.Errorf("%s (-want +got):\n%s", name, d)
	}
}

func TestRunAllocates(t *testing.T) {
	for _, name := range []string{"affine", "affine_ir3"} {
		s := newSession(t, name)
		got := run(t, s, tensors{"x": tensor.Must([]int{2, 3}, []float32{1, 2, 3, 4, 5, 6})}, nil)
		same[float32](t, "y", got["y"], []int{2, 3}, 3, 7, 13, 9, 16, 25)
		same[float32](t, "mean", got["mean"], []int{}, 73./6)
	}
}

func TestRunWritesIntoGivenTensors(t *testing.T) {
	s := newSession(t, "affine")
	out := tensors{"y": tensor.Zeros[float32](1, 3), "mean": tensor.Scalar[float32](-1)}
	in := tensors{"x": tensor.Must([]int{1, 3}, []float32{1, 2, 3})}
	got := run(t, s, in, out)
	if got["y"] != out["y"] || got["mean"] != out["mean"] {
		t.Error("the given tensors are not the returned ones")
	}
	same[float32](t, "y", out["y"], []int{1, 3}, 3, 7, 13)
	same[float32](t, "mean", out["mean"], []int{}, 23./3)

	partly := tensors{"y": nil, "mean": out["mean"]}
	got = run(t, s, in, partly)
	same[float32](t, "y", got["y"], []int{1, 3}, 3, 7, 13)
	if partly["y"] != nil {
		t.Error("Run has changed the caller's map")
	}
}

// Weights that go in and come out are kept in two sets, fed and written in turn.
func TestRunPingPong(t *testing.T) {
	s := newSession(t, "affine")
	a, b := tensor.Must([]int{1, 3}, []float32{1, 1, 1}), tensor.Zeros[float32](1, 3)
	for range 3 {
		run(t, s, tensors{"x": a}, tensors{"y": b})
		a, b = b, a
	}
	same[float32](t, "y", a, []int{1, 3}, 15, 40, 85)
}

func each[T tensor.Element](name string, shape []int, data ...T) (string, *tensor.Tensor) {
	return name, tensor.Must(shape, data)
}

// allTypes has one tensor of every element type.
func allTypes(shape []int, n int) tensors {
	all := tensors{}
	add := func(name string, t *tensor.Tensor) { all[name] = t }
	add(each("bool", shape, []bool{true, false, true}[:n]...))
	add(each("int8", shape, []int8{-128, 0, 127}[:n]...))
	add(each("int32", shape, []int32{-1 << 31, 0, 1<<31 - 1}[:n]...))
	add(each("int64", shape, []int64{-1 << 63, 0, 1<<63 - 1}[:n]...))
	add(each("uint8", shape, []uint8{255, 1, 0}[:n]...))
	add(each("float32", shape, []float32{-1.5, 0, 3e38}[:n]...))
	add(each("float64", shape, []float64{1e300, 0, -1}[:n]...))
	return all
}

func prefixed(prefix string, ts tensors) tensors {
	out := tensors{}
	for name, t := range ts {
		out[prefix+name] = t
	}
	return out
}

func zerosLike(ts tensors) tensors {
	out := tensors{}
	for name, t := range ts {
		out[name] = tensor.ZerosLike(t)
	}
	return out
}

func TestRunTypes(t *testing.T) {
	for _, c := range []struct {
		model string
		shape []int
		n     int
	}{{"vectors", []int{3}, 3}, {"vectors", []int{1}, 1}, {"vectors", []int{0}, 0}, {"scalars", nil, 1}} {
		s := newSession(t, c.model)
		want := prefixed("out_", allTypes(c.shape, c.n))
		in := prefixed("in_", allTypes(c.shape, c.n))
		for how, out := range map[string]tensors{"allocated": nil, "given": zerosLike(want)} {
			got := run(t, s, in, out)
			if d := cmp.Diff(want, got, cmp.Comparer(equal)); d != "" {
				t.Errorf("%s %v, %s (-want +got):\n%s", c.model, c.shape, how, d)
			}
		}
	}
}

func equal(a, b *tensor.Tensor) bool {
	return a.DType() == b.DType() && cmp.Equal(append([]int{}, a.Shape()...), append([]int{}, b.Shape()...)) &&
		cmp.Equal(values(a), values(b))
}

func values(t *tensor.Tensor) any {
	switch t.DType() {
	case tensor.Float64:
		return tensor.Data[float64](t)
	case tensor.Int64:
		return tensor.Data[int64](t)
	case tensor.Int32:
		return tensor.Data[int32](t)
	case tensor.Uint8:
		return tensor.Data[uint8](t)
	case tensor.Int8:
		return tensor.Data[int8](t)
	case tensor.Bool:
		return tensor.Data[bool](t)
	}
	return tensor.Data[float32](t)
}

// Trap 3: what is written into a rank-0 tensor between runs must reach the next run.
func TestScalarInputIsReadAgain(t *testing.T) {
	s := newSession(t, "scalars")
	in := prefixed("in_", allTypes(nil, 1))
	for _, v := range []float32{1, 2, 3} {
		in["in_float32"].Float32s()[0] = v
		same[float32](t, "float32", run(t, s, in, nil)["out_float32"], []int{}, v)
	}
}

// Trap 4: the binding cannot allocate outputs of rank 0, here of outputs whose rank only the run shows.
func TestUndeclaredScalarOutput(t *testing.T) {
	s := newSession(t, "reshape")
	scalar := tensors{"x": tensor.Vector[float32](5), "shape": tensor.Vector[int64]()}
	for range 3 {
		got := run(t, s, scalar, nil)
		same[float32](t, "y", got["y"], []int{}, 5)
		same[float32](t, "z", got["z"], []int{}, 5)
		same[float32](t, "neg", got["neg"], []int{1}, -5)
	}
	// A rank seen once is no promise.
	got := run(t, s, tensors{"x": tensor.Vector[float32](5, 6), "shape": tensor.Vector[int64](1, 2)}, nil)
	same[float32](t, "y", got["y"], []int{1, 2}, 5, 6)
	same[float32](t, "y", run(t, s, scalar, nil)["y"], []int{}, 5)
}

func TestZeroSizeTensors(t *testing.T) {
	s := newSession(t, "reshape_int64")
	got := run(t, s, tensors{"x": tensor.Vector[int64](), "shape": tensor.Vector[int64](0, 3)}, tensors{"neg": tensor.Vector[int64]()})
	same[int64](t, "y", got["y"], []int{0, 3})
	same[int64](t, "neg", got["neg"], []int{0})
}

// Trap 1: the binding holds bare pointers during a run, so a collection in its midst must not take the inputs.
func TestInputsLiveThroughTheRun(t *testing.T) {
	s := newSession(t, "loop")
	var collected atomic.Int64
	watched := func(steps int64) tensors {
		in := slowInputs(steps)
		runtime.AddCleanup(&in["x"].Float32s()[0], func(int) { collected.Add(1) }, 0)
		return in
	}
	// A run that does not end by itself: whatever is collected before it is cancelled is collected during it.
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := s.Run(ctx, watched(1<<40), nil)
		failed <- err
	}()
	for range 20 {
		time.Sleep(5 * time.Millisecond)
		runtime.GC()
	}
	early := collected.Load()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Fatalf("the run ended with %v", err)
	}
	if early != 0 {
		t.Error("the input was collected during the run")
	}
	got, err := s.Run(t.Context(), watched(20_000), nil)
	if err != nil {
		t.Fatal(err)
	}
	same[float32](t, "largest", maxOf(got["s"]), []int{}, 1)
}

func maxOf(t *tensor.Tensor) *tensor.Tensor {
	m := t.Float32s()[0]
	for _, v := range t.Float32s() {
		m = max(m, v)
	}
	return tensor.Scalar(m)
}

func slowInputs(steps int64) tensors {
	x := tensor.Zeros[float32](64, 64)
	for i := range x.Float32s() {
		x.Float32s()[i] = 1
	}
	return tensors{"x": x, "n": tensor.Scalar(steps)}
}

func TestCancel(t *testing.T) {
	s := newSession(t, "loop")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	if _, err := s.Run(ctx, slowInputs(1<<40), nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("want context.Canceled, got %v", err)
	}
	if _, err := s.Run(ctx, slowInputs(1), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("started after cancellation: want context.Canceled, got %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := s.Run(ctx, slowInputs(1<<40), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("want context.DeadlineExceeded, got %v", err)
	}
	same[float32](t, "largest, after cancelled runs", maxOf(run(t, s, slowInputs(3), nil)["s"]), []int{}, 1)
}

// One run's cancellation is its own.
func TestCancelOneOfTwo(t *testing.T) {
	s := newSession(t, "loop")
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := s.Run(ctx, slowInputs(1<<40), nil)
		first <- err
	}()
	second := make(chan error, 1)
	go func() {
		_, err := s.Run(t.Context(), slowInputs(2000), nil)
		second <- err
	}()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("want context.Canceled, got %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("the other run: %v", err)
	}
}

// Trap 6: destroying a session under a run is a use after free.
func TestCloseWaitsForRuns(t *testing.T) {
	s := newSession(t, "loop")
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		close(started)
		_, err := s.Run(ctx, slowInputs(1<<40), nil)
		if !errors.Is(err, context.Canceled) && !errors.Is(err, ort.ErrClosed) {
			t.Errorf("want context.Canceled or ErrClosed, got %v", err)
		}
	})
	<-started
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if _, err := s.Run(t.Context(), slowInputs(1), nil); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("a run after Close: want ErrClosed, got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestRunRefuses(t *testing.T) {
	affine, names, scalars := newSession(t, "affine"), newSession(t, "names"), newSession(t, "scalars")
	x := tensor.Zeros[float32](1, 3)
	two := tensor.Zeros[float32](2)
	typeless := prefixed("in_", allTypes(nil, 1))
	typeless["in_bool"] = tensor.Vector(true)
	for _, c := range []struct {
		name    string
		s       *ort.Session
		in, out tensors
		want    string
	}{
		{"missing", affine, tensors{}, nil, `input "x" is missing: it must be float32 [N,3]`},
		{"nil", affine, tensors{"x": nil}, nil, `input "x" is missing`},
		{"extra", affine, tensors{"x": x, "w": x}, nil, `no input "w"; it has ["x"]`},
		{"type", affine, tensors{"x": tensor.Zeros[float64](1, 3)}, nil, `input "x" must be float32 [N,3], got float64 [1 3]`},
		{"rank", affine, tensors{"x": tensor.Zeros[float32](3)}, nil, `input "x" must be float32 [N,3], got float32 [3]`},
		{"size", affine, tensors{"x": tensor.Zeros[float32](1, 4)}, nil, `got float32 [1 4]`},
		{"rank 0", scalars, typeless, nil, `input "in_bool" must be bool [], got bool [1]`},
		{"unknown output", affine, tensors{"x": x}, tensors{"z": x}, `no output "z"; it has ["y" "mean"]`},
		{"output type", affine, tensors{"x": x}, tensors{"y": tensor.Zeros[int64](1, 3)}, `output "y" is float32 [N,3], the tensor given for it is int64 [1 3]`},
		{"output size that only the run knows", affine, tensors{"x": x}, tensors{"y": tensor.Zeros[float32](2, 3)}, `{2,3}`},
		{"alias", affine, tensors{"x": x}, tensors{"y": x}, `output "y" must not use the memory of "x"`},
		{"alias of outputs", names, tensors{"a": tensor.Zeros[float32](2), "b_long_name": tensor.Zeros[float32](2)}, tensors{"alpha": two, "beta_long": two}, `output "beta_long" must not use the memory of "alpha"`},
	} {
		_, err := c.s.Run(t.Context(), c.in, c.out)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want an error with %q, got %v", c.name, c.want, err)
		}
	}
	same[float32](t, "mean, after refusals", run(t, affine, tensors{"x": x}, nil)["mean"], []int{}, 1)
}

func TestConcurrentRuns(t *testing.T) {
	s := newSession(t, "affine")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 100 {
				v := float32(g*100 + i)
				got, err := s.Run(t.Context(), tensors{"x": tensor.Must([]int{1, 3}, []float32{v, v, v})}, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if y := got["y"].Float32s(); y[0] != 2*v+1 || y[2] != 4*v+1 {
					t.Errorf("x=%v: y=%v", v, y)
				}
			}
		})
	}
	wg.Wait()
}
