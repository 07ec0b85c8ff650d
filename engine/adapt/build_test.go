package adapt_test

import (
	"testing"
	"time"

	"scrawl/engine/adapt"
	"scrawl/engine/lower"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
)

// BenchmarkBuild is the time from an ONNX model in memory to the sessions of its whole interaction (answer, augmented copies, steps), with
// nothing built before, and the number of sessions that a second image, and one of a second size, add.
func BenchmarkBuild(b *testing.B) {
	for _, r := range rivals(b, startTwin(b, twinThreads(b)), "unet34", "default") {
		b.Run(r.name, func(b *testing.B) {
			lib := orttest.Library(b)
			config := adapt.Thesis()
			config.FixedCopies, config.Steps, config.LearningRate = 4, 1, 1e-6
			building, processor := 0.0, 0.0
			var more [2]int
			for b.Loop() {
				start, cpu := time.Now(), cpuSeconds()
				compiler := lower.NewCompiler(lib, ort.Options{})
				e, err := adapt.NewEngine(network(b, r.model, adapt.Trainable{}), r.images, closing(b, compiler.Compile))
				if err != nil {
					b.Fatal(err)
				}
				interact := func(size int) float64 {
					s := adapt.Slice{X: noise(1, 1, r.channels, size, size), Scribble: filled(0.5, 1, 2, size, size), Marked: filled(1, 1, 1, size, size)}
					_, _, report, err := e.Interact(b.Context(), config, e.NewSets(1), s, 1)
					if err != nil {
						b.Fatal(err)
					}
					total := 0.0
					for _, t := range report.Seconds {
						total += t
					}
					return total
				}
				interact(32)
				all := time.Since(start).Seconds()
				before := e.Sessions()
				processor += cpuSeconds() - cpu
				building += all - interact(32) // the same once more, without building
				more[0] = e.Sessions() - before
				interact(64)
				more[1] = e.Sessions() - before
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(building/float64(b.N), "s")
			b.ReportMetric(processor/float64(b.N), "cpu-s")
			b.ReportMetric(float64(more[0]), "more-sessions")
			b.ReportMetric(float64(more[1]), "more-sessions-2nd-size")
		})
	}
}
