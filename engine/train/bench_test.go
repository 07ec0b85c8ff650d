package train_test

import (
	"fmt"
	"os"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

// BenchmarkLearn is one training step, and one forward pass as in a correction round, of U-Nets of several widths: on the CPU, or on
// the device that SCRAWL_DEVICE names.
func BenchmarkLearn(b *testing.B) {
	lib := orttest.Library(b)
	for _, channels := range [][]int{{16, 32, 64, 96, 128}, {24, 48, 96, 144, 192}, {32, 64, 96, 128, 192, 192}} {
		for _, at := range []struct{ batch, size int }{{8, 128}, {16, 128}, {32, 128}} {
			if at.batch > 8 && os.Getenv("SCRAWL_DEVICE") == "" {
				continue // a matter of seconds on a CPU
			}
			name := fmt.Sprintf("%d channels, %d levels/%d×%d²", channels[0], len(channels), at.batch, at.size)
			compiler := lower.NewCompiler(lib, ort.Options{Device: os.Getenv("SCRAWL_DEVICE"), NoSpinning: true})
			m, err := train.UNet(train.UNetShape{Input: 4, Channels: channels, Groups: 4, Classes: 2}, 1)
			if err != nil {
				b.Fatal(err)
			}
			n, err := adapt.NewNetwork(m, adapt.Trainable{})
			if err != nil {
				b.Fatal(err)
			}
			e, err := adapt.NewEngine(n, []int{0}, func(m *onnx.Model) (adapt.Session, error) { return compiler.Compile(m) })
			if err != nil {
				b.Fatal(err)
			}
			x, target := tensor.Zeros[float32](at.batch, 4, at.size, at.size), tensor.Zeros[float32](at.batch, 1, at.size, at.size)
			for i := range x.Float32s() {
				x.Float32s()[i] = float32(i*7919%1000) / 1000
			}
			for i := range target.Float32s() {
				target.Float32s()[i] = float32(i / 64 % 2)
			}
			t := train.NewTrainer(e, train.Defaults())
			b.Run("step/"+name, func(b *testing.B) {
				for b.Loop() {
					if _, err := t.Step(b.Context(), x, target, 0); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("predict/"+name, func(b *testing.B) {
				for b.Loop() {
					if _, err := t.Predict(b.Context(), x); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
