package adapt_test

import (
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

// blockedUNet is a U-Net whose channels fill the blocks of every CPU's kernels, save at its ends.
func blockedUNet(tb testing.TB, choice adapt.Trainable) *adapt.Network {
	tb.Helper()
	m, err := train.UNet(train.UNetShape{Input: 4, Channels: []int{16, 32, 48}, Groups: 4, Classes: 2}, 3)
	if err != nil {
		tb.Fatal(err)
	}
	return network(tb, m, choice)
}

// TestLoweredStep holds the step graphs that are rewritten for the CPU and for GPUs against the standard one. (The one for GPUs is made
// of standard operators, so a CPU can judge it.)
func TestLoweredStep(t *testing.T) {
	decoder := adapt.Trainable{Include: []string{"up*", "head*"}}
	for _, c := range []struct {
		name   string
		choice adapt.Trainable
		o      adapt.StepOptions
		h, w   int
	}{
		{"average per step", adapt.Trainable{}, adapt.StepOptions{Batch: 1, Averages: 1, AveragePerStep: true}, 32, 48},
		{"average at the end", adapt.Trainable{}, adapt.StepOptions{Batch: 1, Averages: 2}, 24, 40},
		{"batch, clipped AdamW, Dice", adapt.Trainable{}, adapt.StepOptions{Batch: 3, Averages: 1, AveragePerStep: true, Optimizer: adapt.AdamW, Dice: true, ClipNorm: 1}, 16, 24},
		{"odd size", adapt.Trainable{}, adapt.StepOptions{Batch: 2}, 12, 20},
		{"decoder only", decoder, adapt.StepOptions{Batch: 1, Averages: 1, AveragePerStep: true}, 32, 32},
	} {
		n := blockedUNet(t, c.choice)
		l := randomLesson(c.o, 4, c.h, c.w, 3)
		sets := startSets(n, c.o)
		want, wantLosses, err := engine(t, n, onRuntime(t)).Step(t.Context(), c.o, sets, l)
		if err != nil {
			t.Fatal(err)
		}
		lib := orttest.Library(t)
		forGPU := closing(t, func(m *onnx.Model) (*ort.Session, error) {
			m, err := lower.CUDA(m)
			if err != nil {
				return nil, err
			}
			return lib.Compile(m, ort.Options{Device: os.Getenv("SCRAWL_DEVICE"), Threads: 1, NoSpinning: true})
		})
		compare := func(t *testing.T, compile adapt.Compiler) {
			fast := engine(t, n, compile)
			got, gotLosses, err := fast.Step(t.Context(), c.o, sets, l)
			if err != nil {
				t.Fatal(err)
			}
			for i := range want {
				for j, w := range want[i] {
					// What the steps have changed, not the weights themselves, must agree.
					if d := distance(minus(got[i][j], sets[i][j]), minus(w, sets[i][j])); d > 2e-3 {
						t.Errorf("set %d, %s: the change is off by a share of %.2g", i, n.Params()[j], d)
					}
				}
			}
			for k := range wantLosses {
				for i := range 2 {
					if math.Abs(float64(gotLosses[k][i]-wantLosses[k][i])) > 1e-4*math.Abs(float64(wantLosses[k][i]))+1e-6 {
						t.Errorf("step %d: losses %v, standard %v", k, gotLosses[k], wantLosses[k])
					}
				}
			}
			again, _, err := fast.Step(t.Context(), c.o, sets, l)
			if err != nil {
				t.Fatal(err)
			}
			for i := range again {
				for j := range again[i] {
					if !slices.Equal(again[i][j].Float32s(), got[i][j].Float32s()) {
						t.Errorf("set %d, %s: the same step twice gives two answers", i, n.Params()[j])
					}
				}
			}
		}
		t.Run(c.name, func(t *testing.T) { compare(t, lowered(t, ort.Options{Threads: 1, NoSpinning: true})) })
		t.Run(c.name+", for GPUs", func(t *testing.T) { compare(t, forGPU) })
	}
}

func minus(a, b *tensor.Tensor) []float32 {
	c := slices.Clone(a.Float32s())
	for i, v := range b.Float32s() {
		c[i] -= v
	}
	return c
}

func startSets(n *adapt.Network, o adapt.StepOptions) []adapt.Weights {
	sets := []adapt.Weights{n.Source()}
	for range o.Averages {
		sets = append(sets, n.Source())
	}
	if o.Optimizer == adapt.AdamW {
		zero := make(adapt.Weights, len(n.Source()))
		for i, w := range n.Source() {
			zero[i] = tensor.ZerosLike(w)
		}
		sets = append(sets, zero, zero)
	}
	return sets
}

func randomLesson(o adapt.StepOptions, channels, h, w, steps int) adapt.Lesson {
	rng := rand.New(rand.NewPCG(7, 8))
	random := func(f func() float64, channels int) *tensor.Tensor {
		t := tensor.Zeros[float32](2, o.Batch, channels, h, w)
		for i := range t.Float32s() {
			t.Float32s()[i] = float32(f())
		}
		return t
	}
	distribution := func() *tensor.Tensor {
		t := random(rng.Float64, 2)
		for i := range 2 * o.Batch {
			for p := range h * w {
				t.Float32s()[(2*i+1)*h*w+p] = 1 - t.Float32s()[2*i*h*w+p]
			}
		}
		return t
	}
	share := func() float64 { return rng.Float64() / float64(o.Batch*h*w) }
	l := adapt.Lesson{X: random(rng.NormFloat64, channels), Target: distribution(), Scribble: distribution(), Weight: random(share, 1), Marked: random(share, 1),
		Lambda: 2, LearningRate: 1e-2, Steps: steps, Decay: 1e-5}
	if o.Optimizer == adapt.AdamW {
		l.LearningRate = 1e-3
	}
	for k := range o.Averages {
		l.Alphas = append(l.Alphas, 0.99-0.09*float64(k))
	}
	return l
}

// TestLoweredPrediction does the same for the answer, from constants and from weights that are inputs, and for augmented copies.
func TestLoweredPrediction(t *testing.T) {
	n := blockedUNet(t, adapt.Trainable{})
	standard, fast := engine(t, n, onRuntime(t)), engine(t, n, lowered(t, ort.Options{Threads: 1, NoSpinning: true}))
	moved := append(adapt.Weights{n.Source()[0].Clone()}, n.Source()[1:]...)
	for name, w := range map[string]adapt.Weights{"constants": n.Source(), "inputs": moved} {
		for _, batch := range []int{1, 3} {
			x := noise(5, batch, 4, 20, 36)
			want, err := standard.Predict(t.Context(), w, x)
			if err != nil {
				t.Fatal(err)
			}
			got, err := fast.Predict(t.Context(), w, x)
			if err != nil {
				t.Fatal(err)
			}
			if d := distance(got.Float32s(), want.Float32s()); d > 1e-5 {
				t.Errorf("%s, batch of %d: answers differ by a share of %.2g", name, batch, d)
			}
		}
	}
}
