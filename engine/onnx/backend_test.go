package onnx_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"scrawl/engine/onnx"
	"scrawl/engine/onnx/refexec"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
)

// backendCase is one of ONNX's own backend node tests; testdata/make_backend.py packs them.
type backendCase struct {
	Name            string
	Model           []byte
	Inputs, Outputs map[string]int
	RTol, ATol      float64
	tensors         []*packed
}

func backendCases(tb testing.TB) []*backendCase {
	tb.Helper()
	data, err := os.ReadFile("testdata/backend.json.gz")
	if err != nil {
		tb.Fatal(err)
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		tb.Fatal(err)
	}
	var file struct {
		Tensors []*packed
		Cases   []*backendCase
	}
	if err := json.NewDecoder(r).Decode(&file); err != nil {
		tb.Fatal(err)
	}
	for _, c := range file.Cases {
		c.tensors = file.Tensors
	}
	return file.Cases
}

func (c *backendCase) pick(of map[string]int) map[string]*tensor.Tensor {
	m := map[string]*tensor.Tensor{}
	for name, i := range of {
		m[name] = c.tensors[i].Tensor
	}
	return m
}

// normalizedAway are operators of the files that Normalize writes in terms of others.
var normalizedAway = []string{"Attention", "Gelu", "GroupNormalization", "RMSNormalization", "Swish", "Scatter", "Upsample", "Dropout", "CastLike"}

// TestBackendOperators prints the operators that make_backend.py is to be called with.
func TestBackendOperators(t *testing.T) {
	ops := append(slices.Clone(normalizedAway), refexec.Operators()...)
	slices.Sort(ops)
	t.Log(strings.Join(slices.Compact(ops), " "))
}

// exceptions are forms that are not supported somewhere, by a part of the case's name, and what the error must say there. load is where
// models are read, the stage of users; the interpreter is for tests only, and the runtime is not ours.
var exceptions = []struct{ name, stage, says string }{
	{"past_and_present", "load", "cache"}, {"nonpad", "load", "cache"}, {"padded_kv", "load", "cache"}, {"ext_cache", "load", "cache"}, {"qk_matmul", "load", "more outputs"},
	{"local_window_with_past", "load", "cache"}, {"local_window_gqa", "load", "more outputs"}, {"local_window", "load", "attribute"}, {"bidirectional_window", "load", "attribute"},
	{"training_mode", "load", "training mode"}, {"training_dropout", "load", "training mode"},
	{"averagepool_2d_dilations", "load", "dilations"}, {"averagepool_3d_dilations_small", "load", "dilations"},
	{"wrap_pad", "load", "wrap"}, {"half_pixel_symmetric", "load", "half_pixel_symmetric"}, {"spacetodepth_crd", "load", "CRD"},
	{"resize_tf_crop_and_resize", "interpreter", "tf_crop_and_resize"}, {"antialias", "interpreter", "antialias"}, {"not_larger", "interpreter", "keep_aspect_ratio"}, {"not_smaller", "interpreter", "keep_aspect_ratio"},
	{"maxpool_with_argmax_2d_precomputed_strides", "interpreter", "not computed"},
	{"constant$", "runtime", "no inputs"}, // a graph without inputs is no network
	// What ONNX Runtime 1.32 refuses of the newest opsets' forms.
	{"affine_grid_2d_expanded", "runtime", "Range"}, {"affine_grid_2d_align_corners_expanded", "runtime", "Range"},
	{"fmod_0", "runtime", "Mod"},
	// ONNX Runtime, and PyTorch's exporters with it, take the whole number of elements of the output for the scale's own.
	{"downsample_scales_linear_align_corners", "answer", ""}, {"downsample_scales_cubic_align_corners", "answer", ""},
}

// exception returns what is not supported of the case, and where; "" when all is.
func (c *backendCase) exception() (stage, says string) {
	for _, e := range exceptions {
		// The same cases written with simpler operators are supported.
		expanded := strings.HasSuffix(c.Name, "_expanded") && !strings.HasSuffix(e.name, "_expanded")
		if (strings.Contains(c.Name, e.name) || "test_"+strings.TrimSuffix(e.name, "$") == c.Name) && !expanded {
			return e.stage, e.says
		}
	}
	return "", ""
}

// TestBackend runs ONNX's own node tests, normalised, on the reference interpreter and on ONNX Runtime.
func TestBackend(t *testing.T) {
	lib := orttest.Library(t)
	covered := map[string]bool{}
	for _, c := range backendCases(t) {
		t.Run(c.Name, func(t *testing.T) {
			m, err := onnx.Parse(c.Model)
			if err == nil {
				for _, n := range m.Graph.Nodes {
					covered[n.Op] = true
				}
				m, err = onnx.Normalize(m)
			}
			if err == nil {
				err = onnx.Check(m.Graph)
			}
			stage, says := c.exception()
			refused := func(at string, err error) bool {
				if stage == at && (err == nil || !strings.Contains(err.Error(), says)) {
					t.Errorf("error %v, want one that says %q", err, says)
				}
				if stage != at && err != nil {
					t.Fatal(err)
				}
				return stage == at
			}
			if refused("load", err) || stage == "answer" {
				return
			}
			if _, err := onnx.Infer(m.Graph); err != nil {
				t.Errorf("shapes: %v", err)
			}
			t.Run("interpreter", func(t *testing.T) {
				got, err := refexec.Run(m.Graph, c.pick(c.Inputs))
				if !refused("interpreter", err) {
					c.compare(t, got)
				}
			})
			t.Run("runtime", func(t *testing.T) {
				data, err := m.Marshal()
				if err != nil {
					t.Fatal(err)
				}
				got, err := runOnce(t, lib, data, c.pick(c.Inputs))
				if !refused("runtime", err) {
					c.compare(t, got)
				}
			})
		})
	}
	for _, op := range append(slices.Clone(normalizedAway), refexec.Operators()...) {
		if !covered[op] && !slices.Contains(untested, op) {
			t.Errorf("no node test has the operator %s", op)
		}
	}
}

// untested are operators without a node test of their own here: ONNX has none of a form that a tensor can hold.
var untested = []string{"Scatter", "Upsample", "If", "Loop", "CastLike"}

func runOnce(t *testing.T, lib *ort.Library, model []byte, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	t.Helper()
	s, err := lib.NewSession(model, ort.Options{Threads: 1})
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	return s.Run(t.Context(), in, nil)
}

// compare holds answers against the case's with its tolerances, as ONNX's own runner does: |got − want| ≤ atol + rtol·|want|.
func (c *backendCase) compare(t *testing.T, got map[string]*tensor.Tensor) {
	t.Helper()
	for name, want := range c.pick(c.Outputs) {
		g := got[name]
		if g == nil {
			t.Errorf("no output %q", name)
			continue
		}
		if !slices.Equal(g.Shape(), want.Shape()) {
			t.Errorf("output %q has shape %v, want %v", name, g.Shape(), want.Shape())
			continue
		}
		a, b := numbers(g), numbers(want)
		for i := range b {
			same := a[i] == b[i] || math.IsNaN(a[i]) && math.IsNaN(b[i])
			if !same && !(math.Abs(a[i]-b[i]) <= c.ATol+c.RTol*math.Abs(b[i])) {
				t.Errorf("element %d of output %q is %g, want %g", i, name, a[i], b[i])
				break
			}
		}
	}
}
