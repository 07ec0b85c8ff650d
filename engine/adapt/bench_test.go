package adapt_test

import (
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/ort"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

// benchmarked is a network of the default one's shape, on as many threads as there are cores.
func benchmarked(b *testing.B) *adapt.Engine {
	b.Helper()
	m, err := train.UNet(train.UNetShape{Input: 4, Channels: []int{32, 48, 96, 128, 192}, Groups: 4, Classes: 2}, 1)
	if err != nil {
		b.Fatal(err)
	}
	return engine(b, network(b, m, adapt.Trainable{}), lowered(b, ort.Options{}))
}

func BenchmarkPredict(b *testing.B) {
	e := benchmarked(b)
	adapted := append(adapt.Weights{e.Network().Source()[0].Clone()}, e.Network().Source()[1:]...)
	for what, w := range map[string]adapt.Weights{"source": e.Network().Source(), "adapted": adapted} {
		for _, size := range []int{128, 256} {
			b.Run(name("%s/%d", what, size), func(b *testing.B) {
				x := noise(1, 1, 4, size, size)
				for b.Loop() {
					if _, err := e.Predict(b.Context(), w, x); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// seconds reports the mean time of each stage in milliseconds.
func seconds(b *testing.B, total map[string]float64, runs int) {
	for stage, s := range total {
		b.ReportMetric(1000*s/float64(runs), name("ms-%s", stage))
	}
}

func BenchmarkThesisInteraction(b *testing.B) {
	e := benchmarked(b)
	const size = 128
	s := adapt.Slice{X: noise(1, 1, 4, size, size), Scribble: filled(0.5, 1, 2, size, size), Marked: filled(1, 1, 1, size, size)}
	total, runs := map[string]float64{}, 0
	for b.Loop() {
		_, _, r, err := e.Interact(b.Context(), adapt.Thesis(), e.NewSets(1), s, 1)
		if err != nil {
			b.Fatal(err)
		}
		for stage, t := range r.Seconds {
			total[stage] += t
		}
		runs++
	}
	seconds(b, total, runs)
}

func BenchmarkAccept(b *testing.B) {
	e := benchmarked(b)
	const size = 128
	c := adapt.Hindsight()
	st := adapt.Stage{X: noise(1, 1, 4, size, size), Target: tensor.Zeros[float32](1, 1, size, size), Stroked: tensor.Zeros[float32](1, 1, size, size)}
	m, _, err := e.Accept(b.Context(), c, e.NewMemory(c), adapt.Episode{st, st})
	if err != nil {
		b.Fatal(err)
	}
	total, runs := map[string]float64{}, 0
	for b.Loop() {
		_, r, err := e.Accept(b.Context(), c, m, adapt.Episode{st, st})
		if err != nil {
			b.Fatal(err)
		}
		for stage, t := range r.Seconds {
			total[stage] += t
		}
		runs++
	}
	seconds(b, total, runs)
}
