package main

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"scrawl/apps/evaluate"
	"scrawl/apps/interact"
)

// pictureSet writes three pictures of squares: a bright one, and two dark ones that people drew on.
func pictureSet(dir string) error {
	paint := func(folder, name string, at func(x, y int) uint8) error {
		img := image.NewGray(image.Rect(0, 0, 40, 30))
		for y := range 30 {
			for x := range 40 {
				img.SetGray(x, y, color.Gray{Y: at(x, y)})
			}
		}
		var b bytes.Buffer
		return errors.Join(png.Encode(&b, img), os.WriteFile(filepath.Join(dir, folder, name), b.Bytes(), 0o600))
	}
	var err error
	for _, folder := range []string{"images", "labels", "scribbles"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, folder), 0o700))
	}
	for i, name := range []string{"a", "b", "c"} {
		inside := func(x, y int) bool { return x >= 8+4*i && x < 22+4*i && y >= 8 && y < 22 }
		err = errors.Join(err, paint("images", name+".png", func(x, y int) uint8 {
			if inside(x, y) {
				return uint8(200 - 60*i)
			}
			return uint8(20 + (7*x+13*y)%9)
		}), paint("labels", name+".png", func(x, y int) uint8 {
			if inside(x, y) {
				return 2
			}
			return 0
		}))
		if i == 0 {
			continue
		}
		err = errors.Join(err, paint("scribbles", name+".anna.png", func(x, y int) uint8 {
			switch {
			case y == 14 && inside(x, y):
				return drawnObject
			case y == 2:
				return drawnBackground
			}
			return 0
		}))
	}
	for name, text := range map[string]string{"index.csv": "id,source\na,bright\nb,dark\nc,dark\n", "labels.json": `{"2": "square"}`} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return err
}

func TestSetsOfPictures(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "squares")
	if err := pictureSet(dir); err != nil {
		t.Fatal(err)
	}
	f := &evalFlags{sets: []string{dir}, minPixels: 100}
	cases, hashes, err := f.cases(&strings.Builder{})
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) != 3 || len(hashes) != 3 {
		t.Fatalf("%d cases and %d hashes, want 3 of each", len(cases), len(hashes))
	}
	for i, c := range cases {
		kind, drawn := []string{"bright", "dark", "dark"}[i], min(i, 1)
		if c.Set != "squares" || c.Kind != kind || c.Image != []string{"a", "b", "c"}[i] || c.Target != "square" || len(c.Drawn) != drawn {
			t.Errorf("case %d: %s %s %s %s, %d drawings", i, c.Set, c.Kind, c.Image, c.Target, len(c.Drawn))
		}
		if n := len(slices.DeleteFunc(slices.Clone(c.Truth), func(b bool) bool { return !b })); n != 196 {
			t.Errorf("case %d holds %d pixels, want 196", i, n)
		}
	}
	if d := cases[1].Drawn[0]; d.Person != "anna" || len(d.Strokes.Positive().Strokes) != 1 || len(d.Strokes.Negative().Strokes) != 1 {
		t.Errorf("%s drew %+v", d.Person, d.Strokes)
	}
	f.take = 2
	if few, _, err := f.cases(&strings.Builder{}); err != nil || len(few) != 2 || few[0].Image != "a" || few[1].Image != "b" {
		t.Errorf("two of three: %d, %v", len(few), err)
	}
	// Without names, labels are called by their numbers.
	if err := os.Remove(filepath.Join(dir, "labels.json")); err != nil {
		t.Fatal(err)
	}
	if numbered, _, err := f.cases(&strings.Builder{}); err != nil || numbered[0].Target != "2" {
		t.Errorf("labels without names: %v", err)
	}
	// An image may name its own.
	for _, name := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, "labels", name+".json"), []byte(`{"2": "box of `+name+`"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if own, _, err := f.cases(&strings.Builder{}); err != nil || own[1].Target != "box of b" {
		t.Errorf("labels with names of their own: %v", err)
	}
	// What does not hold enough of it is left out with a remark.
	f.minPixels = 1000
	var said strings.Builder
	if _, _, err := f.cases(&said); err == nil || strings.Count(said.String(), "left out") != 2 {
		t.Errorf("no image holds enough: %v, said %q", err, said.String())
	}
}

// The recorded human strokes: eighteen images of four origins, three people each.
func TestRecordedStrokesOfPeople(t *testing.T) {
	dir := filepath.Join(os.Getenv("SCRAWL_SHARED"), "data", "scribbles_medscribble")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("SCRAWL_REQUIRE") == "1" && os.Getenv("SCRAWL_SHARED") != "" {
			t.Fatal(err)
		}
		t.Skip("SKIPPED, no recorded strokes: set SCRAWL_SHARED")
	}
	f := &evalFlags{sets: []string{dir}, minPixels: 100}
	cases, _, err := f.cases(&strings.Builder{})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, c := range cases {
		kinds[c.Kind]++
		for _, d := range c.Drawn {
			if d.Strokes.Positive().Empty() || d.Strokes.Negative().Empty() {
				t.Errorf("%s: %s drew on one side alone", c.Image, d.Person)
			}
		}
		if len(c.Drawn) != 3 {
			t.Errorf("%s: %d people drew, want 3", c.Image, len(c.Drawn))
		}
	}
	if want := map[string]int{"BTCV": 5, "HipXRay": 5, "OCTA500": 5, "SCD": 3}; !maps.Equal(kinds, want) {
		t.Errorf("kinds %v, want %v", kinds, want)
	}
}

func TestMethodsByName(t *testing.T) {
	names := func(f evalFlags) []string {
		t.Helper()
		methods, err := f.chosenMethods(interact.ProfileHindsight)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, m := range methods {
			all = append(all, m.Name+":"+string(m.Profile)+string(m.Hand)+":"+strings.Join(m.Changes, " "))
		}
		return all
	}
	if got := names(evalFlags{methods: []string{"frozen", "full", "graphcut", "copy", "full"}}); !slices.Equal(got,
		[]string{"frozen:frozen:", "full:hindsight:", "graphcut:frozen:", "copy:copy:"}) {
		t.Errorf("%q", got)
	}
	if got := names(evalFlags{methods: []string{"augmentation"}, own: []string{"slow=thesis,thesis.lambda=3,thesis.steps=2"}}); !slices.Equal(got, []string{
		"no-augmentation:thesis:thesis.noise=false thesis.blur=false thesis.inversion=false thesis.fixed_copies=1", "fixed-6:thesis:thesis.fixed_copies=6",
		"up-to-16:thesis:thesis.fixed_copies=0 thesis.max_copies=16", "up-to-32:thesis:thesis.fixed_copies=0 thesis.max_copies=32",
		"slow:thesis:thesis.lambda=3 thesis.steps=2"}) {
		t.Errorf("%q", got)
	}
	all := names(evalFlags{methods: []string{"ablation"}})
	if len(all) != 3+4+5+6 || !slices.Contains(all, "alpha=0.995:thesis:thesis.alpha=0.995") {
		t.Errorf("the ablations are %q", all)
	}
}

// Each method gets the model with its own constants, and leaves the others' alone.
func TestMethodsHaveTheirConstants(t *testing.T) {
	f := &evalFlags{app: "scribbles", model: "scribbles"}
	app, m, err := f.described()
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := f.readNetwork(app, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	methods := []evaluate.Method{{Name: "a", Changes: []string{"thesis.lambda=3"}}, {Name: "b", Changes: []string{"hindsight.steps=4"}}, {Name: "c", Hand: evaluate.Copy}}
	if err := equip(methods, loaded, []string{"thesis.steps=7"}); err != nil {
		t.Fatal(err)
	}
	a, b := methods[0].Model.(*interact.Model), methods[1].Model.(*interact.Model)
	if a.Thesis.Lambda != 3 || b.Thesis.Lambda != loaded.Thesis.Lambda || a.Thesis.Steps != 7 || b.Thesis.Steps != 7 || b.Hindsight.Steps != 4 || methods[2].Model != nil {
		t.Errorf("λ %v and %v, steps %d and %d, lessons of %d", a.Thesis.Lambda, b.Thesis.Lambda, a.Thesis.Steps, b.Thesis.Steps, b.Hindsight.Steps)
	}
	for _, bad := range []string{"lambda=3", "thesis.lambda", "thesis.lamda=3", "thesis.steps=-1", "hindsight.steps=many"} {
		if err := equip([]evaluate.Method{{Name: "x", Changes: []string{bad}}}, loaded, nil); err == nil {
			t.Errorf("constant %q was taken", bad)
		}
	}
	f.model = "Histogram+GraphCut"
	if _, _, err := f.described(); err == nil || !strings.Contains(err.Error(), "graphcut") {
		t.Errorf("a model without a network: %v", err)
	}
}

// Of a network with classes the methods get a model of its own kind, which has the published method's constants alone; its answers may
// be put right by hand.
func TestMethodsOfNetworksWithClasses(t *testing.T) {
	f := &evalFlags{app: "microscopy", model: "nuclei_strokes"}
	app, m, err := f.described()
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := f.readNetwork(app, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	methods := []evaluate.Method{{Name: "a", Changes: []string{"thesis.lambda=3"}}, {Name: "corrected", Hand: evaluate.Corrected}, {Name: "manual", Hand: evaluate.Manual}}
	if err := equip(methods, loaded, nil); err != nil {
		t.Fatal(err)
	}
	if methods[0].Classes.Thesis.Lambda != 3 || methods[1].Classes.Thesis.Lambda != loaded.Segment.Thesis.Lambda || methods[2].Classes != nil {
		t.Errorf("methods %+v", methods)
	}
	if err := equip([]evaluate.Method{{Name: "x", Changes: []string{"hindsight.steps=4"}}}, loaded, nil); err == nil {
		t.Error("a constant of hindsight was taken for a network with classes")
	}
	f.app, f.model = "scribbles", "scribbles"
	if app, m, err = f.described(); err != nil {
		t.Fatal(err)
	}
	if loaded, err = f.readNetwork(app, m, nil); err != nil {
		t.Fatal(err)
	}
	if err := equip([]evaluate.Method{{Name: "corrected", Hand: evaluate.Corrected}}, loaded, nil); err == nil {
		t.Error("a network that answers nothing unasked can be put right by hand")
	}
}
