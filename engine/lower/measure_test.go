package lower_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
)

// TestMeasure holds that what a compiler meets is measured in the background, one geometry a turn and each once, kept for compilers made later,
// and changes nothing of what the compiler itself makes.
func TestMeasure(t *testing.T) {
	lib := orttest.Library(t) // found before the cache is another one
	target(t, lib)
	cache := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", cache)
	o := ort.Options{Threads: 1, NoSpinning: true}
	c := lower.NewCompiler(lib, o)
	m, in := tunable.model(t)
	wider := tunable
	wider.in = 32
	other, _ := wider.model(t)
	gradient := func(m *onnx.Model) []float32 {
		s, err := c.Compile(m)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		if m != other {
			out, err := s.Run(t.Context(), in, nil)
			if err != nil {
				t.Fatal(err)
			}
			return out["dw"].Float32s()
		}
		return nil
	}
	before := gradient(m)
	gradient(other)
	gradient(other)

	ctx, stop := context.WithCancel(t.Context())
	turns, left := 0, 0
	done := make(chan error)
	go func() {
		done <- c.Measure(ctx, func(ctx context.Context) (func(), error) {
			turns++
			return func() {
				if left++; left == 2 {
					stop()
				}
			}, ctx.Err()
		})
	}()
	if err := <-done; !errors.Is(err, context.Canceled) || turns != 2 || left != 2 {
		t.Fatalf("%d turns taken, %d given back (%v); two of each are wanted, until the context is done", turns, left, err)
	}
	if !slices.Equal(before, gradient(m)) {
		t.Error("the compiler's own graphs have changed while it runs")
	}
	files, err := filepath.Glob(filepath.Join(cache, "scrawl", "forms", "*"))
	if err != nil || len(files) != 1 || !strings.HasSuffix(files[0], ".json") {
		t.Fatalf("files %v (%v); one is wanted", files, err)
	}
	_, known, err := lower.Tune(t.Context(), lib, o, []*onnx.Model{m, other}, func(_, total int) {
		if total > 0 {
			t.Errorf("%d geometries are measured again", total)
		}
	})
	if err != nil || known != 2 {
		t.Errorf("%d geometries are known (%v), two have been measured", known, err)
	}

	// A file that cannot be read is replaced, and whoever grants no turn is heard.
	if err := os.WriteFile(files[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = lower.NewCompiler(lib, o)
	gradient(m)
	refused := errors.New("refused")
	if err := c.Measure(t.Context(), func(context.Context) (func(), error) { return nil, refused }); !errors.Is(err, refused) {
		t.Errorf("a turn that is refused: %v", err)
	}
	c = lower.NewCompiler(lib, o)
	gradient(m)
	ctx, stop = context.WithCancel(t.Context())
	if err := c.Measure(ctx, func(context.Context) (func(), error) { return stop, nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, known, err := lower.Tune(t.Context(), lib, o, nil, func(int, int) {}); err != nil || known != 1 {
		t.Errorf("%d geometries are known after a broken file (%v), one has been measured", known, err)
	}
}
