package pretrain_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"scrawl/adapters/volume"
	"scrawl/apps/finetune"
	"scrawl/apps/pretrain"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
)

// discs are pictures of bright discs on a noisy dark ground, the last two of which are set aside.
func discs(n int) []finetune.Case {
	var cases []finetune.Case
	for i := range n {
		open := func(context.Context) (finetune.Labelled, error) {
			rng := rand.New(rand.NewPCG(uint64(i), 9))
			v := volume.NewVolume(volume.New([3]int{40, 32, 1}, [3]float64{1, 1, 1}))
			m := volume.NewLabelMap(v.Geometry)
			cx, cy, r := 10+20*rng.Float64(), 10+12*rng.Float64(), 5+3*rng.Float64()
			for at := range v.Voxels {
				v.Voxels[at] = float32(20 + 5*rng.NormFloat64())
				if math.Hypot(float64(at%40)-cx, float64(at/40)-cy) < r {
					v.Voxels[at] += 60
					m.Labels[at] = 3
				}
			}
			return finetune.Labelled{Volume: v, Labels: m, Names: map[uint16]string{3: "disc"}}, nil
		}
		cases = append(cases, finetune.Case{ID: fmt.Sprintf("disc %d", i), Content: "1", Held: i >= n-2, Open: open})
	}
	return cases
}

// A network of one's own comes of a handful of pictures; those that are named as held are what it is judged by.
func TestNetworkFromLabelledPictures(t *testing.T) {
	lib := orttest.Library(t)
	compile := func(m *onnx.Model) (adapt.Session, error) {
		s, err := lib.Compile(m, ort.Options{Threads: 1, NoSpinning: true})
		if err == nil {
			t.Cleanup(func() { _ = s.Close() })
		}
		return s, err
	}
	r := pretrain.NewLabelled([]string{"disc"})
	r.Channels = []int{8, 16}
	r.Settings.Epochs, r.Settings.Slices, r.Settings.Batch, r.Settings.Window, r.Settings.LearningRate = 16, 6, 4, 32, 1e-2
	m, result, err := pretrain.RunLabelled(t.Context(), r, discs(8), compile, "", pretrain.Watch{Note: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"disc 6", "disc 7"}; !slices.Equal(result.Held, want) || len(result.Trained) != 6 {
		t.Errorf("set aside %v and learned %v; the two held ones are to be set aside", result.Held, result.Trained)
	}
	if result.Best.Dice < 0.8 {
		t.Errorf("Dice %.3f on the pictures set aside", result.Best.Dice)
	}
	if _, err := m.Marshal(); err != nil {
		t.Error(err)
	}
	r.Classes = nil
	if _, _, err := pretrain.RunLabelled(t.Context(), r, discs(3), compile, "", pretrain.Watch{}); err == nil {
		t.Error("a recipe without labels is accepted")
	}
}
