package ort_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
)

func TestOpenOncePerProcess(t *testing.T) {
	lib := orttest.Library(t)
	again, err := ort.Open(lib.Path())
	if err != nil || again != lib {
		t.Fatalf("second Open: want the same library, got %p, %v", again, err)
	}
	link := filepath.Join(t.TempDir(), "link.so")
	if err := os.Symlink(lib.Path(), link); err != nil {
		t.Fatal(err)
	}
	if again, err = ort.Open(link); err != nil || again != lib {
		t.Fatalf("Open through a link: want the same library, got %p, %v", again, err)
	}
	other := fakeLibrary(t, t.TempDir(), "libonnxruntime.so.1.31.1")
	if _, err := ort.Open(other); err == nil || !strings.Contains(err.Error(), "already loaded "+lib.Path()) {
		t.Errorf("Open of another library: %v", err)
	}
	for range 2 {
		if err := lib.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if lib.Version().Less(ort.MinVersion) {
		t.Errorf("version %s", lib.Version())
	}
}

func TestLibraryCloses(t *testing.T) {
	lib, err := ort.Open(orttest.Path(t))
	if err != nil {
		t.Fatal(err)
	}
	s, err := lib.NewSession(model(t, "affine"), ort.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := lib.Close(); err == nil || !strings.Contains(err.Error(), "1 sessions are still open") {
		t.Errorf("last Close under a session: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := lib.Close(); err != nil {
		t.Fatal(err)
	}
	if err := lib.Close(); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("Close of a closed library: want ErrClosed, got %v", err)
	}
	if _, err := lib.NewSession(model(t, "affine"), ort.Options{}); !errors.Is(err, ort.ErrClosed) {
		t.Errorf("session of a closed library: want ErrClosed, got %v", err)
	}
	// Unloading is not the end: the library can be loaded again.
	same[float32](t, "mean", run(t, newSession(t, "affine"), tensors{"x": tensor.Zeros[float32](1, 3)}, nil)["mean"], []int{}, 1)
}

func TestOpenRefuses(t *testing.T) {
	if _, err := ort.Open(""); err == nil {
		t.Error("no path: want an error")
	}
	if _, err := ort.Open(filepath.Join(t.TempDir(), "none.so")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := ort.Open(fakeLibrary(t, t.TempDir(), "libonnxruntime.so")); err == nil {
		t.Error("no library: want an error")
	}
}

func TestSignature(t *testing.T) {
	n, three := onnx.Dim{Symbol: "N"}, onnx.Dim{Size: 3}
	for _, name := range []string{"affine", "affine_ir3"} {
		s := newSession(t, name)
		if d := cmp.Diff([]onnx.Value{{Name: "x", DType: tensor.Float32, Shape: onnx.Shape{n, three}}}, s.Inputs()); d != "" {
			t.Errorf("%s: inputs (-want +got):\n%s", name, d)
		}
		want := []onnx.Value{{Name: "y", DType: tensor.Float32, Shape: onnx.Shape{n, three}}, {Name: "mean", DType: tensor.Float32, Shape: onnx.Shape{}}}
		if d := cmp.Diff(want, s.Outputs()); d != "" {
			t.Errorf("%s: outputs (-want +got):\n%s", name, d)
		}
	}
	if out := newSession(t, "reshape").Outputs(); out[1].Shape != nil {
		t.Errorf("undeclared rank: want a nil shape, got %v", out[1].Shape)
	}
}

func TestSessionWithIO(t *testing.T) {
	lib := orttest.Library(t)
	s, err := lib.NewSessionWithIO(model(t, "names"), []string{"b_long_name", "a"}, []string{"beta_long"}, ort.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	got := run(t, s, tensors{"a": tensor.Vector[float32](1, 2), "b_long_name": tensor.Vector[float32](10, 20)}, nil)
	same[float32](t, "beta_long", got["beta_long"], []int{2}, 11, 22)
	if len(got) != 1 {
		t.Errorf("want one output, got %v", got)
	}
}

// Trap 5: the binding's I/O binding cuts output names after the first. Names come from the model here.
func TestNamesAreWhole(t *testing.T) {
	s := newSession(t, "names")
	got := run(t, s, tensors{"a": tensor.Vector[float32](1, 2), "b_long_name": tensor.Vector[float32](10, 20)}, nil)
	same[float32](t, "alpha", got["alpha"], []int{2}, -1, -2)
	same[float32](t, "beta_long", got["beta_long"], []int{2}, 11, 22)
}

func TestNewSessionRefuses(t *testing.T) {
	lib := orttest.Library(t)
	names := model(t, "names")
	for _, c := range []struct {
		name string
		make func() (*ort.Session, error)
		want string
	}{
		// Trap 2: the binding cannot allocate float16 outputs.
		{"float16", func() (*ort.Session, error) { return lib.NewSession(model(t, "float16"), ort.Options{}) }, `input "x" has element type float16`},
		{"sequence", func() (*ort.Session, error) { return lib.NewSession(model(t, "sequence"), ort.Options{}) }, `output "y"`},
		{"no inputs", func() (*ort.Session, error) { return lib.NewSession(model(t, "no_inputs"), ort.Options{}) }, "no inputs"},
		{"empty", func() (*ort.Session, error) { return lib.NewSession(nil, ort.Options{}) }, "is it an .onnx file?"},
		{"cut", func() (*ort.Session, error) { return lib.NewSession(names[:len(names)/2], ort.Options{}) }, "read onnx model"},
		{"text", func() (*ort.Session, error) { return lib.NewSession([]byte("version https://git-lfs"), ort.Options{}) }, "read onnx model"},
		{"device", func() (*ort.Session, error) { return lib.NewSession(names, ort.Options{Device: "tpu"}) }, "must be cpu, cuda, cuda:N or auto"},
		{"unknown input", func() (*ort.Session, error) {
			return lib.NewSessionWithIO(names, []string{"a", "c"}, []string{"alpha"}, ort.Options{})
		}, `no input "c"; it has ["a" "b_long_name"]`},
		{"output twice", func() (*ort.Session, error) {
			return lib.NewSessionWithIO(names, []string{"a"}, []string{"alpha", "alpha"}, ort.Options{})
		}, `output "alpha" is named twice`},
		{"no names", func() (*ort.Session, error) { return lib.NewSessionWithIO(names, nil, nil, ort.Options{}) }, "must be named"},
		{"unknown option", func() (*ort.Session, error) {
			return lib.NewSession(names, ort.Options{Config: map[string]string{"": "1"}})
		}, "session options"},
	} {
		s, err := c.make()
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want an error with %q, got %v", c.name, c.want, err)
		}
	}
}

func TestParseDevice(t *testing.T) {
	for s, want := range map[string]ort.Device{
		"": {}, "cpu": {}, "Cpu": {}, "cuda": {Kind: ort.CUDA}, "cuda:1": {Kind: ort.CUDA, Index: 1}, "auto": {Kind: ort.Auto},
	} {
		if got, err := ort.ParseDevice(s); err != nil || got != want {
			t.Errorf("%q: want %v, got %v, %v", s, want, got, err)
		}
	}
	for _, s := range []string{"gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "auto:1", "cuda:999"} {
		if got, err := ort.ParseDevice(s); err == nil {
			t.Errorf("%q: want an error, got %v", s, got)
		}
	}
}

// A device that is not there must not become another one in silence.
func TestProviderIsTrue(t *testing.T) {
	lib := orttest.Library(t)
	cpu := newSession(t, "affine")
	if cpu.Provider() != "CPU" || cpu.Device() != (ort.Device{}) || cpu.Note() != "" {
		t.Errorf("on the CPU: provider %s, device %s, note %q", cpu.Provider(), cpu.Device(), cpu.Note())
	}
	devices := lib.Devices()
	if devices[0].Err != nil {
		t.Errorf("the CPU: %v", devices[0].Err)
	}
	cudaWorks := devices[1].Err == nil
	s, err := lib.NewSession(model(t, "affine"), ort.Options{Device: "cuda"})
	var why *ort.CUDAError
	switch {
	case err == nil:
		if !cudaWorks || s.Provider() != "CUDA" {
			t.Errorf("a session on %s although CUDA does not work: %v", s.Provider(), devices[1].Err)
		}
		_ = s.Close()
	case cudaWorks:
		t.Errorf("CUDA works, but: %v", err)
	case !errors.As(err, &why) || !strings.Contains(err.Error(), "scrawl runtime install --gpu"):
		t.Errorf("want a CUDAError with the way out, got %v", err)
	}
	if s, err = lib.NewSession(model(t, "affine"), ort.Options{Device: "auto"}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if (s.Provider() == "CUDA") != cudaWorks || (s.Note() == "") != cudaWorks {
		t.Errorf("auto: provider %s, note %q, CUDA works: %v", s.Provider(), s.Note(), cudaWorks)
	}
	same[float32](t, "mean", run(t, s, tensors{"x": tensor.Zeros[float32](1, 3)}, nil)["mean"], []int{}, 1)
}

// Options reach ONNX Runtime: a profile is written at Close.
func TestProfile(t *testing.T) {
	lib := orttest.Library(t)
	prefix := filepath.Join(t.TempDir(), "trace")
	s, err := lib.NewSession(model(t, "affine"), ort.Options{Profile: prefix, Config: map[string]string{"session.set_denormal_as_zero": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	run(t, s, tensors{"x": tensor.Zeros[float32](1, 3)}, nil)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(prefix + "*.json")
	if len(files) != 1 {
		t.Fatalf("want one trace, got %v", files)
	}
}

// residentBytes reads the process's memory from /proc.
func residentBytes(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("no /proc/self/statm on this system")
	}
	pages, err := strconv.Atoi(string(bytes.Fields(data)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// Every run makes C tensors for inputs, outputs and options; all must go with it.
func TestRunsDoNotLeak(t *testing.T) {
	affine, reshape := newSession(t, "affine"), newSession(t, "reshape")
	const rows = 20_000 // 240 kB in, as much out
	x := tensor.Zeros[float32](rows, 3)
	once := func() {
		run(t, affine, tensors{"x": x}, nil)
		run(t, affine, tensors{"x": x}, tensors{"y": tensor.Zeros[float32](rows, 3)})
		run(t, reshape, tensors{"x": tensor.Vector[float32](5), "shape": tensor.Vector[int64]()}, nil)
		if _, err := affine.Run(t.Context(), tensors{"x": x}, tensors{"y": tensor.Zeros[float32](1, 3)}); err == nil {
			t.Fatal("a misshapen output went through")
		}
	}
	for range 100 {
		once()
	}
	runtime.GC()
	before := residentBytes(t)
	for range 2000 {
		once()
	}
	runtime.GC()
	if grown := residentBytes(t) - before; grown > 64<<20 {
		t.Errorf("2000 rounds took %d MiB; one leaked tensor a round would be 460", grown>>20)
	}
}

func BenchmarkNewSession(b *testing.B) {
	lib := orttest.Library(b)
	data := model(b, "affine")
	for b.Loop() {
		s, err := lib.NewSession(data, ort.Options{Threads: 1})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRunOverhead is what a run of a trivial graph costs.
func BenchmarkRunOverhead(b *testing.B) {
	s := newSession(b, "affine")
	in := tensors{"x": tensor.Zeros[float32](1, 3)}
	for _, c := range []struct {
		name string
		out  tensors
	}{{"allocated", nil}, {"given", tensors{"y": tensor.Zeros[float32](1, 3), "mean": tensor.Scalar[float32](0)}}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Run(b.Context(), in, c.out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
