package adapt_test

import (
	"math"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// probabilities makes [1,K,1,n] from the rows of the classes other than background.
func probabilities(rows ...[]float32) *tensor.Tensor {
	n := len(rows[0])
	t := tensor.Zeros[float32](1, len(rows)+1, 1, n)
	for i := range n {
		rest := float32(1)
		for c, row := range rows {
			t.Float32s()[(c+1)*n+i] = row[i]
			rest -= row[i]
		}
		t.Float32s()[i] = rest
	}
	return t
}

func TestUncertainRatio(t *testing.T) {
	valid := func(v ...float32) *tensor.Tensor { return tensor.Must([]int{1, 1, 1, len(v)}, v) }
	for _, c := range []struct {
		name  string
		prob  *tensor.Tensor
		valid *tensor.Tensor
		want  float64
	}{
		{"nothing could be the object", probabilities([]float32{0, 0.1, 0.39}), nil, 0},
		{"all sure", probabilities([]float32{0.9, 1, 0.61}), nil, 0},
		{"all uncertain", probabilities([]float32{0.45, 0.5, 0.55}), nil, 1},
		{"bounds count as uncertain", probabilities([]float32{0.5, 0.25, 0.75, 1}), nil, 1.0 / 3},
		{"background does not dilute", probabilities([]float32{0, 0, 0, 0, 0, 0, 0.5, 0.9}), nil, 0.5},
		{"the largest of several classes counts", probabilities([]float32{0.1, 0.3, 0.2}, []float32{0.5, 0.3, 0.7}), nil, 0.5},
		{"padding does not count", probabilities([]float32{0.5, 0.5, 0.9}), valid(1, 0, 1), 0.5},
		{"only padding", probabilities([]float32{0.5, 0.5}), valid(0, 0), 0},
	} {
		low, high := 0.4, 0.6
		if c.name == "bounds count as uncertain" {
			low, high = 0.5, 0.5
		}
		if got := adapt.UncertainRatio(c.prob, c.valid, low, high); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %g, want %g", c.name, got, c.want)
		}
	}
}

func TestCopiesFor(t *testing.T) {
	full := adapt.Thesis()
	full.MaxCopies = 32
	unbounded := adapt.Thesis()
	unbounded.MaxCopies = 0
	fixed := adapt.Thesis()
	fixed.FixedCopies = 6
	for _, c := range []struct {
		name   string
		config adapt.Config
		ratio  float64
		want   int
	}{
		{"thesis", adapt.Thesis(), 0, 4}, {"thesis", adapt.Thesis(), 0.3, 4}, {"thesis", adapt.Thesis(), 0.3001, 16},
		{"thesis", adapt.Thesis(), 0.7, 16}, {"thesis", adapt.Thesis(), 0.7001, 16}, {"thesis", adapt.Thesis(), 1, 16},
		{"at most 32", full, 0.3, 4}, {"at most 32", full, 0.7, 16}, {"at most 32", full, 0.7001, 32}, {"at most 32", full, 1, 32},
		{"no cap", unbounded, 0.9, 32}, {"fixed", fixed, 0, 6}, {"fixed", fixed, 1, 6},
	} {
		if got := c.config.CopiesFor(c.ratio); got != c.want {
			t.Errorf("%s, ratio %g: %d copies, want %d", c.name, c.ratio, got, c.want)
		}
	}
}

func TestValidate(t *testing.T) {
	if err := adapt.Thesis().Validate(); err != nil {
		t.Error(err)
	}
	if err := adapt.Hindsight().Validate(); err != nil {
		t.Error(err)
	}
	for what, change := range map[string]func(*adapt.Config){
		"bounds":       func(c *adapt.Config) { c.UncertainLow = 0.7 },
		"no table":     func(c *adapt.Config) { c.Copies = nil },
		"table falls":  func(c *adapt.Config) { c.Copies = []adapt.CopyRule{{0.5, 4}, {0.3, 8}} },
		"no copies":    func(c *adapt.Config) { c.Copies = []adapt.CopyRule{{1, 0}} },
		"temperature":  func(c *adapt.Config) { c.Temperature = math.NaN() },
		"lambda":       func(c *adapt.Config) { c.Lambda = -1 },
		"alpha":        func(c *adapt.Config) { c.Alpha = 1.1 },
		"steps":        func(c *adapt.Config) { c.Steps = -1 },
		"noise":        func(c *adapt.Config) { c.NoiseSigma = -1 },
		"blur":         func(c *adapt.Config) { c.BlurSigma = [2]float64{2, 1} },
		"variance":     func(c *adapt.Config) { c.Variance = math.NaN() },
		"fixed copies": func(c *adapt.Config) { c.FixedCopies = 257 },
	} {
		c := adapt.Thesis()
		if change(&c); c.Validate() == nil {
			t.Errorf("%s: no error", what)
		}
	}
	for what, change := range map[string]func(*adapt.HindsightConfig){
		"memory": func(c *adapt.HindsightConfig) { c.Memory = 0 },
		"batch":  func(c *adapt.HindsightConfig) { c.Batch = 0 },
		"share":  func(c *adapt.HindsightConfig) { c.FirstStage = 2 },
		"rate":   func(c *adapt.HindsightConfig) { c.LearningRate = math.NaN() },
		"alphas": func(c *adapt.HindsightConfig) { c.Alphas = []float64{-0.1} },
	} {
		c := adapt.Hindsight()
		if change(&c); c.Validate() == nil {
			t.Errorf("hindsight's %s: no error", what)
		}
	}
}
