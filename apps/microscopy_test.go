package apps_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/apps"
	"scrawl/apps/evaluate"
	"scrawl/apps/interact"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
)

// stained are crops of stained nuclei, a kind of image that the network was not trained on.
func stained(t *testing.T) []evaluate.Case {
	t.Helper()
	folder := filepath.Join("testdata", "stained")
	files, err := filepath.Glob(filepath.Join(folder, "images", "*.png"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%d pictures, want 4: %v", len(files), err)
	}
	var cases []evaluate.Case
	for _, file := range files {
		v := decoded(t, file, format.Decode)
		m := decoded(t, filepath.Join(folder, "labels", filepath.Base(file)), format.DecodeLabels)
		c, err := evaluate.NewCase(filepath.Base(file), "nucleus", v, m, 1)
		if err != nil {
			t.Fatal(err)
		}
		c.Set = "stained"
		cases = append(cases, c)
	}
	return cases
}

func decoded[T any](t *testing.T, file string, decode func(string, io.Reader, volume.Limits) (T, error)) T {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	out, err := decode(file, f, volume.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What strokes on two stained images teach the network helps with two others that nobody has touched, and goes on helping there: it is so
// for the network that is shown negatives when it is trained, and for the one that is not, which has to be told that stains are dark. Neither is
// worse for having learned, after any number of interactions.
func TestMicroscopyLearnsAnotherStain(t *testing.T) {
	app, err := apps.Open("microscopy")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nuclei", "fluorescence"} {
		t.Run(name, func(t *testing.T) {
			at := slices.IndexFunc(app.Models, func(m apps.Model) bool { return m.Name == name })
			courses := annotated(t, app, app.Models[at], stained(t))
			var untouched, corrected [2]float64 // frozen and adapted
			for i, course := range courses {
				var dice []float64
				for k := range 4 {
					dice = append(dice, course.Series[0].At(k).Dice)
				}
				t.Logf("%s, %s: Dice after 0, 1, … interactions %.3f", course.Image, course.Method, dice)
				if i >= len(courses)/2 { // the two images that come last
					untouched[i%2] += dice[0] / 2
					corrected[i%2] += dice[3] / 2
				}
			}
			if untouched[1] < untouched[0]+0.1 {
				t.Errorf("Dice %.3f on images that nobody has touched, %.3f without learning", untouched[1], untouched[0])
			}
			if corrected[1] < 0.8 {
				t.Errorf("Dice %.3f after three interactions", corrected[1])
			}
			for k := range 4 {
				var gain float64
				for i := range len(courses) / 2 {
					gain += courses[2*i+1].Series[0].At(k).Dice - courses[2*i].Series[0].At(k).Dice
				}
				if gain < -0.005 {
					t.Errorf("after %d interactions learning costs %.3f Dice in all", k, -gain)
				}
			}
		})
	}
}

// annotated are the courses of a simulated annotator through a series, frozen and adapted in turn.
func annotated(t *testing.T, app *apps.App, m apps.Model, cases []evaluate.Case) []evaluate.Course {
	t.Helper()
	lib := orttest.Library(t)
	loaded, err := app.Load(m, func(m *onnx.Model) (adapt.Session, error) {
		s, err := lib.Compile(m, ort.Options{Threads: 2, NoSpinning: true})
		if err == nil {
			t.Cleanup(func() { _ = s.Close() })
		}
		return s, err
	})
	if err != nil {
		t.Fatal(err)
	}
	p := evaluate.Protocol{Mode: evaluate.BySlice, Interactions: 3, Every: 1, MinPixels: 100, Seeds: []uint64{1}, KeepLearned: true}
	for _, profile := range []interact.Profile{interact.ProfileFrozen, interact.ProfileThesis} {
		p.Methods = append(p.Methods, evaluate.Method{Name: string(profile), Profile: profile, Classes: loaded.Segment})
	}
	courses, err := evaluate.Evaluation{Protocol: p}.Run(t.Context(), cases)
	if err != nil {
		t.Fatal(err)
	}
	return courses
}
