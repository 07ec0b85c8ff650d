package interact

import (
	"fmt"
	"testing"

	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/apps/recognise"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/train"
)

// defaultModel is a network of the default one's shape with random weights that sees the object everywhere, so that it is carried
// through all slices: times are real, masks are not.
func defaultModel(b *testing.B) *Model {
	b.Helper()
	m, err := train.UNet(train.UNetShape{Input: 4, Channels: []int{32, 48, 96, 128, 192}, Groups: 4, Classes: 2}, 1)
	if err != nil {
		b.Fatal(err)
	}
	m.Graph.Initializer("head.bias").Float32s()[1] = 100
	n, err := adapt.NewNetwork(m, adapt.Trainable{})
	if err != nil {
		b.Fatal(err)
	}
	lib := orttest.Library(b)
	e, err := adapt.NewEngine(n, []int{0}, func(model *onnx.Model) (adapt.Session, error) {
		s, err := lib.Compile(model, ort.Options{})
		if err == nil {
			b.Cleanup(func() { _ = s.Close() })
		}
		return s, err
	})
	if err != nil {
		b.Fatal(err)
	}
	in := Input{Channels: []Channel{ChannelImage, ChannelPositive, ChannelNegative, ChannelPrevious}, Grid: 128, Multiple: 16, Range: &[2]float64{0, 1}}
	return &Model{Engine: e, Input: in, Thesis: adapt.Thesis(), Hindsight: adapt.Hindsight(), Recognise: recognise.Default(), Thickness: scribble.DefaultThickness()}
}

func line(axis, slice, y, x0, x1 int) scribble.Stroke { return stroke(axis, slice, true, y, x0, x1) }

// BenchmarkFirstMask answers the first stroke on one slice of 256².
func BenchmarkFirstMask(b *testing.B) {
	m := defaultModel(b)
	v := volume.NewVolume(volume.New([3]int{256, 256, 1}, [3]float64{1, 1, 1}))
	for i := range v.Voxels {
		v.Voxels[i] = float32(i%977) / 977
	}
	req := Request{Strokes: scribble.NewSet(v.Size, line(2, 0, 128, 110, 140)), Options: Options{Profile: ProfileHindsight}}
	timed(b, m, v, req, Learned{}, State{})
}

// BenchmarkVolume carries a mask through all 30 slices of 122×101, on which the user has drawn in the middle.
func BenchmarkVolume(b *testing.B) {
	m := defaultModel(b)
	v := volume.NewVolume(volume.New([3]int{122, 101, 30}, [3]float64{1, 1, 3}))
	for i := range v.Voxels {
		v.Voxels[i] = float32(i%977) / 977
	}
	strokes := []scribble.Stroke{line(2, 15, 50, 40, 80)}
	first := Request{Strokes: scribble.NewSet(v.Size, strokes...), Options: Options{Profile: ProfileHindsight}}
	_, learned, state, err := m.Interact(b.Context(), m.Prepare(v), first, Learned{}, State{})
	if err != nil {
		b.Fatal(err)
	}
	second := Request{Strokes: scribble.NewSet(v.Size, append(strokes, line(2, 20, 50, 40, 80))...), Options: Options{Profile: ProfileHindsight}}
	later := second
	later.LearnLater = true
	b.Run("first", func(b *testing.B) { timed(b, m, v, first, Learned{}, State{}) })
	b.Run("second, learning", func(b *testing.B) { timed(b, m, v, second, learned, state) })
	b.Run("second, learning later", func(b *testing.B) { timed(b, m, v, later, learned, state) })
}

// timed repeats one interaction and reports where the time goes.
func timed(b *testing.B, m *Model, v *volume.Volume, req Request, learned Learned, st State) {
	b.Helper()
	img := m.Prepare(v)
	total, runs, carried := map[string]float64{}, 0, 0
	for b.Loop() {
		res, _, _, err := m.Interact(b.Context(), img, req, learned, st)
		if err != nil {
			b.Fatal(err)
		}
		for stage, t := range res.Report.Seconds {
			total[stage] += t
		}
		runs, carried = runs+1, res.Report.Carried
	}
	for stage, t := range total {
		b.ReportMetric(1000*t/float64(runs), fmt.Sprintf("ms-%s", stage))
	}
	b.ReportMetric(float64(carried), "carried")
}
