package adapt_test

import (
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// Answers to copies that do not differ agree; stronger augmentation makes them disagree more, and the same draw repeats.
func TestDisagreement(t *testing.T) {
	n := smallUNet(t, 1, 3, adapt.Trainable{})
	e := engine(t, n, onRuntime(t))
	s := adapt.Slice{X: noise(5, 1, 1, side, side)}
	ask := func(c adapt.Config, s adapt.Slice, draw uint64) float64 {
		t.Helper()
		d, err := e.Disagreement(t.Context(), c, n.Source(), s, 4, draw)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	plain := adapt.Thesis()
	plain.Noise, plain.Blur, plain.Inversion = false, false, false
	weak, strong := plain, plain
	weak.Noise, weak.NoiseSigma = true, 0.02
	strong.Noise, strong.NoiseSigma = true, 0.5
	if d := ask(plain, s, 1); d > 1e-6 {
		t.Errorf("copies without augmentation disagree by %g", d)
	}
	a, b := ask(weak, s, 1), ask(strong, s, 1)
	if !(0 < a && a < b && b < 1) {
		t.Errorf("weak noise gives %g and strong noise %g", a, b)
	}
	if again := ask(strong, s, 1); again != b {
		t.Errorf("the same draw gives %g and %g", b, again)
	}
	if other := ask(strong, s, 2); other == b {
		t.Error("another draw gives the same copies")
	}
	// The answer of two networks and of one are told apart by their variance alone: by hand, on the reference interpreter.
	i := engine(t, n, onInterpreter)
	d, err := i.Disagreement(t.Context(), strong, n.Source(), s, 4, 1)
	if err != nil {
		t.Fatal(err)
	}
	expectClose(t, "disagreement", []float32{float32(b)}, []float32{float32(d)}, 1e-5)
	nothing := s
	nothing.Valid = tensor.Zeros[float32](1, 1, side, side)
	if d := ask(strong, nothing, 1); d != 0 {
		t.Errorf("padding alone disagrees by %g", d)
	}
	for name, f := range map[string]func() error{
		"one copy": func() error {
			_, err := e.Disagreement(t.Context(), plain, n.Source(), s, 1, 1)
			return err
		},
		"no input": func() error {
			_, err := e.Disagreement(t.Context(), plain, n.Source(), adapt.Slice{}, 4, 1)
			return err
		},
		"other weights": func() error {
			_, err := e.Disagreement(t.Context(), plain, n.Source()[1:], s, 4, 1)
			return err
		},
	} {
		if f() == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
