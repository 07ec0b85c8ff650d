package adapt_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

func readModel(t *testing.T, name string) *onnx.Model {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "onnx", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Exported U-Nets of several kinds: the decoder is a true part that ends at the answer, and only affine maps count as normalisation.
func TestParts(t *testing.T) {
	for _, file := range []string{"unet_batch_bilinear_11.onnx", "unet_group_corners_13.onnx", "unet_group_transposed_18.onnx", "unet_instance_nearest_17.onnx"} {
		t.Run(file, func(t *testing.T) {
			params := map[adapt.Part][]string{}
			for _, p := range []adapt.Part{adapt.PartAll, adapt.PartDecoder, adapt.PartNormalisation} {
				n, err := adapt.NewNetwork(readModel(t, file), adapt.Trainable{Part: p})
				if p == adapt.PartNormalisation && strings.Contains(file, "batch") {
					// The exporter has folded it into the convolutions.
					if err == nil || !strings.Contains(err.Error(), "choose all") {
						t.Errorf("a network without normalisation: %v", err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%s: %v", p, err)
				}
				params[p] = n.Params()
			}
			all := params[adapt.PartAll]
			for p, some := range params {
				for _, name := range some {
					if !slices.Contains(all, name) {
						t.Errorf("%s has %s, which is not among all weights", p, name)
					}
				}
			}
			if d := len(params[adapt.PartDecoder]); d == 0 || d >= len(all) {
				t.Errorf("the decoder has %d of %d weights", d, len(all))
			}
			shapes := readModel(t, file).Graph
			for _, name := range params[adapt.PartNormalisation] {
				if w := shapes.Initializer(name); w == nil || len(w.Shape()) > 3 || w.Len() > 256 {
					t.Errorf("%s is no scale or shift", name)
				}
			}
		})
	}
	if _, err := adapt.NewNetwork(readModel(t, "unet_batch_bilinear_11.onnx"), adapt.Trainable{Part: "encoder"}); err == nil || !strings.Contains(err.Error(), "decoder") {
		t.Errorf("an unknown part: %v", err)
	}
	if _, err := adapt.NewNetwork(readModel(t, "unet_batch_bilinear_11.onnx"), adapt.Trainable{Part: adapt.PartDecoder, Include: []string{"nothing*"}}); err == nil {
		t.Error("patterns that leave nothing of the part were taken")
	}
}

// A network with the standardisation in front answers to intensities as the bare one does to standardised ones.
func TestStandardised(t *testing.T) {
	m := readModel(t, "unet_instance_nearest_17.onnx")
	channels := int(m.Graph.Inputs[0].Shape[1].Size)
	mean, std := make([]float32, channels), make([]float32, channels)
	for c := range channels {
		mean[c], std[c] = 0.4+0.1*float32(c), 0.2+0.05*float32(c)
	}
	s, err := adapt.Standardised(m, mean, std, false)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := adapt.NewNetwork(m, adapt.Trainable{})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := adapt.NewNetwork(s, adapt.Trainable{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(bare.Params(), whole.Params()) {
		t.Errorf("the weights differ: %v and %v", bare.Params(), whole.Params())
	}
	x, standard := tensor.Zeros[float32](1, channels, 16, 16), tensor.Zeros[float32](1, channels, 16, 16)
	for i := range x.Float32s() {
		c := i / 256
		x.Float32s()[i] = float32(i%97) / 97
		standard.Float32s()[i] = (x.Float32s()[i] - mean[c]) / std[c]
	}
	run := func(n *adapt.Network, x *tensor.Tensor) []float32 {
		e, err := adapt.NewEngine(n, []int{0}, onRuntime(t))
		if err != nil {
			t.Fatal(err)
		}
		p, err := e.Predict(t.Context(), n.Source(), x)
		if err != nil {
			t.Fatal(err)
		}
		return p.Float32s()
	}
	got, want := run(whole, x), run(bare, standard)
	for i, w := range want {
		if d := got[i] - w; d > 1e-5 || d < -1e-5 {
			t.Fatalf("pixel %d: %g, want %g", i, got[i], w)
		}
	}
	if _, err := adapt.Standardised(m, mean[:0], std[:0], false); err == nil {
		t.Error("no means for a network with channels were taken")
	}
}
