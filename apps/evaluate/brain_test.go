package evaluate

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"scrawl/adapters/format"
	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/apps/segment"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
)

// brainCase is a crop of a skull-stripped T1-weighted head with its cerebral white matter. As in T2-weighted images, what is bright in the
// brain is shown dark and the reverse (v → largest − v); outside the brain it stays black.
func brainCase(t *testing.T, dir string) Case {
	t.Helper()
	read := func(name string) *volume.Volume {
		f, err := os.Open(filepath.Join(dir, "volumes", "mr_brain_vxm", name))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		v, err := format.Decode(name, f, volume.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	image, labels := read("image.nii.gz"), read("label.nii.gz")
	lo, size := [3]int{38, 50, 76}, [3]int{72, 64, 48}
	c := Case{Image: "mr_brain_vxm, T2-like", Target: "white matter", Volume: volume.NewVolume(image.Crop(lo, size))}
	largest := slices.Max(image.Voxels)
	for k := range size[2] {
		for j := range size[1] {
			for i := range size[0] {
				from := image.Index(lo[0]+i, lo[1]+j, lo[2]+k)
				v := image.Voxels[from]
				if v > 0 {
					v = largest - v
				}
				c.Volume.Voxels[c.Volume.Index(i, j, k)] = v
				c.Truth = append(c.Truth, labels.Voxels[from] == 2 || labels.Voxels[from] == 41) // FreeSurfer's cerebral white matter
			}
		}
	}
	return c
}

// brainModel is one of the brainchop project's networks of volumes, trained on T1-weighted heads; D, H and W run towards L, I and A.
func brainModel(t *testing.T, dir, file string) *segment.Model {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "weights_brainchop", "onnx", file))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := onnx.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	net, err := adapt.NewNetwork(parsed, adapt.Trainable{})
	if err != nil {
		t.Fatal(err)
	}
	lib := orttest.Library(t)
	engine, err := adapt.NewEngine(net, []int{0}, func(m *onnx.Model) (adapt.Session, error) {
		s, err := lib.Compile(m, ort.Options{Threads: 1, NoSpinning: true})
		if err == nil {
			t.Cleanup(func() { _ = s.Close() })
		}
		return s, err
	})
	if err != nil {
		t.Fatal(err)
	}
	m := &segment.Model{Engine: engine, Classes: []segment.Class{{Label: "white matter", Index: 1}, {Label: "grey matter", Index: 2}},
		Input:  segment.Input{Multiple: 1, Orientation: "LIA", Percentiles: [2]float64{0, 100}},
		Thesis: adapt.Thesis(), Thickness: scribble.DefaultThickness()}
	m.Thesis.Steps, m.Thesis.LearningRate, m.Thesis.Alpha, m.Thesis.MaxCopies = 8, 0.01, 0.7, 4
	m.Thesis.Inversion, m.Thesis.Temperature = false, 1
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	return m
}

// A network trained on one contrast follows strokes on another, where it knows nothing by itself.
func TestBrainOfAnotherContrast(t *testing.T) {
	dir := sharedData(t)
	c := brainCase(t, dir)
	m := brainModel(t, dir, "model5_gw_ae.onnx")
	p := Protocol{Mode: ByVolume, Interactions: 2, Every: 1, MinPixels: 100, Seeds: []uint64{1}, Methods: profiles(interact.ProfileFrozen, interact.ProfileThesis)}
	for i := range p.Methods {
		p.Methods[i].Classes = m
	}
	all, err := Evaluation{Protocol: p}.Run(t.Context(), []Case{c})
	if err != nil {
		t.Fatal(err)
	}
	var last []float64
	for _, course := range all {
		var dice []float64
		for _, at := range course.Series[0].Points {
			dice = append(dice, at.Dice)
		}
		t.Logf("%s after 0, 1, … strokes: %.3f", course.Method, dice)
		last = append(last, dice[len(dice)-1])
	}
	if last[1] < last[0]+0.1 {
		t.Errorf("white matter with Dice %.3f adapted and %.3f frozen", last[1], last[0])
	}
}

// sharedData is a folder of real images and networks, beside the repository or where SCRAWL_SHARED says.
func sharedData(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("SCRAWL_SHARED")
	if dir == "" {
		t.Skip("SKIPPED, no real images: run SCRAWL_SHARED=/folder/with/data go test ./apps/evaluate")
	}
	dir = filepath.Join(dir, "data")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED, no real images: %v", err)
	}
	return dir
}
