package apps

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"scrawl/adapters/graphcut"
	"scrawl/apps/interact"
	"scrawl/apps/segment"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

// noSession is for tests that compile nothing.
func noSession(*onnx.Model) (adapt.Session, error) {
	return nil, errors.New("nothing is to be compiled here")
}

func TestBuiltinApps(t *testing.T) {
	for _, name := range []string{"scribbles", "apps/scribbles", `apps\scribbles`} {
		app, err := Open(name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, m := range app.Models {
			if m.GraphCut != nil {
				continue
			}
			loaded, err := app.Load(m, noSession)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if len(loaded.Hash) != 64 {
				t.Errorf("model %s has hash %q, want 64 digits", m.Name, loaded.Hash)
			}
			if m, err = app.Owner(m); err != nil {
				t.Fatal(err)
			}
			if conditioned := interact.Profile(m.Profile) == interact.ProfileHindsight; loaded.Input.Conditioned() != conditioned {
				t.Errorf("model %s has profile %s, which does not suit its channels %v", m.Name, m.Profile, loaded.Input.Channels)
			}
		}
	}
	if _, err := Open("no such app"); err == nil || !strings.Contains(err.Error(), "scribbles") {
		t.Errorf("error %v does not say which apps there are", err)
	}
}

const goodYAML = `
name: x
models:
  - name: net
    type: scribbles
    file: net.onnx
    input: {channels: [image], grid: 32, multiple: 2}
    profile: thesis
`

func writeApp(t *testing.T, yaml string, network []byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string][]byte{"app.yaml": []byte(yaml), "net.onnx": network} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestConstantsAreConfiguration(t *testing.T) {
	yaml := goodYAML + `
    thesis: {lambda: 3, alpha: 0.5, copies: [{up_to: 1, copies: 8}], blur_sigma: [1, 2], noise: false}
    hindsight: {steps: 4, alphas: [0.5], augment: {inversion: false}}
    thickness: {sigma: 2}
`
	app, err := Open(writeApp(t, yaml, nil))
	if err != nil {
		t.Fatal(err)
	}
	m := app.Models[0]
	d := adapt.Thesis()
	if m.Thesis.Lambda != 3 || m.Thesis.Alpha != 0.5 || m.Thesis.Noise || m.Thesis.BlurSigma != [2]float64{1, 2} || m.Thesis.Copies[0].Copies != 8 {
		t.Errorf("thesis %+v does not have what app.yaml says", m.Thesis)
	}
	if m.Thesis.Steps != d.Steps || m.Thesis.Temperature != d.Temperature || !m.Thesis.Blur {
		t.Errorf("thesis %+v lost defaults that app.yaml leaves alone", m.Thesis)
	}
	if h := m.Hindsight; h.Steps != 4 || len(h.Alphas) != 1 || h.Augment.Inversion || !h.Augment.Noise || h.Batch != adapt.Hindsight().Batch {
		t.Errorf("hindsight %+v does not have what app.yaml says over the defaults", h)
	}
	if m.Thickness.Sigma != 2 || m.Thickness.Epsilon == 0 {
		t.Errorf("thickness %+v, want sigma 2 and the default epsilon", m.Thickness)
	}
}

func TestBadApps(t *testing.T) {
	change := func(old, new string) string { return strings.Replace(goodYAML, old, new, 1) }
	for name, c := range map[string]struct{ yaml, says string }{
		"no yaml":                {"{", "app.yaml"},
		"unknown key":            {goodYAML + "colour: red\n", "colour"},
		"unknown constant":       {goodYAML + "    thesis: {lamda: 2}\n", "lamda"},
		"no model":               {"name: x\n", "at least one model"},
		"two of one name":        {goodYAML + strings.SplitAfter(goodYAML, "models:\n")[1], "twice"},
		"blank in a name":        {change("name: net", "name: my net"), "without spaces"},
		"file outside":           {change("net.onnx", "../net.onnx"), "inside"},
		"unknown profile":        {change("profile: thesis", "profile: magic"), "magic"},
		"unknown channel":        {change("[image]", "[image, smell]"), "smell"},
		"no image":               {change("[image]", "[previous]"), "image"},
		"grid that does not":     {change("grid: 32", "grid: 33"), "33"},
		"unknown type":           {change("type: scribbles", "type: detection"), "detection"},
		"flat scribbles":         {goodYAML + "    dimension: 2\n", "dimension 2"},
		"network of nobody":      {goodYAML + "  - {name: more, type: deepgrow, network: other}\n", "other"},
		"network at second hand": {goodYAML + "  - {name: more, type: deepgrow, network: net}\n  - {name: third, type: deepgrow, network: more}\n", "more"},
		"two networks":           {goodYAML + "  - {name: more, type: deepgrow, network: net, file: net.onnx}\n", "leave them out"},
		"two profiles":           {goodYAML + "  - {name: more, type: deepgrow, network: net, profile: frozen}\n", "leave them out"},
		"label background":       {goodYAML + "labels: [liver, Background]\n", "Background"},
		"labels alike":           {goodYAML + "labels: [left kidney, Left_Kidney]\n", "Left_Kidney"},
		"empty label":            {goodYAML + "labels: ['']\n", "label"},
		"blank at the end":       {goodYAML + "labels: ['liver ']\n", "blanks"},
		"label and parameter":    {goodYAML + "labels: [roi]\n", "request parameter"},
		"bad percentiles":        {change("grid: 32", "percentiles: [99, 1], grid: 32"), "percentiles"},
		"bad alpha":              {goodYAML + "    thesis: {alpha: 7}\n", "alpha"},
		"bad batch":              {goodYAML + "    hindsight: {batch: 0}\n", "batch"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(writeApp(t, c.yaml, nil))
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that speaks of %q", err, c.says)
			}
		})
	}
}

// network marshals a U-Net after change has been at it.
func network(t *testing.T, channels int, change func(*onnx.Model)) []byte {
	t.Helper()
	m, err := train.UNet(train.UNetShape{Input: channels, Channels: []int{4, 8}, Groups: 2, Classes: 2}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(m)
	}
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A network that cannot be used is refused when the app is loaded, or at the first step for an operator that only cannot be differentiated,
// with the reason.
func TestBadNetworks(t *testing.T) {
	unknown := func(m *onnx.Model) {
		for _, n := range m.Graph.Nodes {
			if n.Op == "MaxPool" {
				n.Op = "Frobnicate"
			}
		}
	}
	for name, c := range map[string]struct {
		data []byte
		says []string
	}{
		"no network":         {[]byte("hello"), []string{"net.onnx"}},
		"cut short":          {network(t, 1, nil)[:500], []string{"net.onnx"}},
		"unknown operator":   {network(t, 1, unknown), []string{"Frobnicate", "18"}},
		"too many channels":  {network(t, 3, nil), []string{"3 input channels", "1"}},
		"external data":      {external(t), []string{"external"}},
		"two outputs of one": {network(t, 1, func(m *onnx.Model) { m.Graph.Outputs = nil }), []string{"output"}},
	} {
		t.Run(name, func(t *testing.T) {
			app, err := Open(writeApp(t, goodYAML, c.data))
			if err != nil {
				t.Fatal(err)
			}
			_, err = app.Load(app.Models[0], noSession)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, says := range c.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("error %v does not speak of %q", err, says)
				}
			}
		})
	}
}

// external is a model whose first weight lies in another file.
func external(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "external_data.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// An operator that runs but has no derivative is reported at the first lesson, by node, operator and opset.
func TestUndifferentiableOperator(t *testing.T) {
	data := network(t, 1, func(m *onnx.Model) {
		g := m.Graph
		for _, n := range g.Nodes {
			if n.Op == "Relu" {
				n.Op, n.Name = "Hardmax", "the odd one"
				break
			}
		}
	})
	app, err := Open(writeApp(t, goodYAML, data))
	if err != nil {
		t.Fatal(err)
	}
	m, err := app.Load(app.Models[0], noSession)
	if err != nil {
		t.Fatal(err)
	}
	zeros := func(c int) *tensor.Tensor { return tensor.Zeros[float32](1, 1, c, 8, 8) }
	_, _, err = m.Engine.Step(context.Background(), adapt.StepOptions{Batch: 1}, []adapt.Weights{m.Engine.Network().Source()},
		adapt.Lesson{X: zeros(1), Target: zeros(2), Scribble: zeros(2), Weight: zeros(1), Marked: zeros(1), Steps: 1})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, says := range []string{"the odd one", "Hardmax", "18"} {
		if !strings.Contains(err.Error(), says) {
			t.Errorf("error %v does not speak of %q", err, says)
		}
	}
}

// Models that share a network have one file and one hash.
func TestSharedNetworks(t *testing.T) {
	app, err := Open("scribbles")
	if err != nil {
		t.Fatal(err)
	}
	hashes := map[string]string{}
	for _, m := range app.Models {
		if m.GraphCut != nil {
			continue
		}
		loaded, err := app.Load(m, noSession)
		if err != nil {
			t.Fatal(err)
		}
		hashes[m.Name] = loaded.Hash
	}
	for _, name := range []string{"deepgrow", "deepgrow_2d", "deepedit"} {
		if hashes[name] == "" || hashes[name] != hashes["scribbles"] {
			t.Errorf("model %s has network %.8s, want that of scribbles, %.8s", name, hashes[name], hashes["scribbles"])
		}
	}
}

// A model without a network takes its constants from app.yaml and the rest from the defaults; the built-in app has the one that MONAI
// Label's workflows name.
func TestGraphCuts(t *testing.T) {
	builtin, err := Open("scribbles")
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(builtin.Models, func(m Model) bool { return m.Name == "Histogram+GraphCut" })
	if at < 0 || builtin.Models[at].GraphCut == nil || *builtin.Models[at].GraphCut != GraphCut(graphcut.Defaults()) {
		t.Fatal("the app scribbles lacks Histogram+GraphCut with its usual constants")
	}
	if _, err := builtin.Load(builtin.Models[at], noSession); err == nil || !strings.Contains(err.Error(), "no network") {
		t.Errorf("loading its network: %v", err)
	}
	const yaml = "name: x\nmodels:\n  - {name: cut, type: scribbles, graphcut: {lamda: 5}}\n"
	app, err := Open(writeApp(t, yaml, nil))
	if err != nil {
		t.Fatal(err)
	}
	want := graphcut.Defaults()
	want.Lambda = 5
	if m := app.Models[0]; *m.GraphCut != GraphCut(want) || m.HasNetwork() {
		t.Errorf("constants %+v, want %+v", *m.GraphCut, want)
	}
	for says, text := range map[string]string{
		"answers scribbles": strings.Replace(yaml, "scribbles", "deepgrow", 1),
		"sigma -1":          strings.Replace(yaml, "lamda: 5", "sigma: -1", 1),
		"lambda":            strings.Replace(yaml, "lamda", "lambda", 1), // MONAI Label's spelling counts
		"leave out file":    strings.Replace(yaml, "graphcut", "file: a.onnx, graphcut", 1),
		"that has a file":   yaml + "  - {name: clicks, type: deepgrow, network: cut}\n",
	} {
		if _, err := Open(writeApp(t, text, nil)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one that speaks of %q", err, says)
		}
	}
}

const classesYAML = `
name: organs
models:
  - name: organs
    type: segmentation
    file: net.onnx
    input: {channels: [image], patch: [32, 48], fit: windows, overlap: 0.25, multiple: 2, range: [-100, 300]}
    classes: {spleen: 3, Left Kidney: 1}
    profile: thesis
  - {name: organs_strokes, type: scribbles, network: organs}
  - {name: organs_clicks, type: deepedit, network: organs}
`

func organNetwork(t *testing.T, input int) []byte {
	t.Helper()
	m, err := train.UNet(train.UNetShape{Input: input, Channels: []int{4, 8}, Groups: 2, Classes: 4}, 3)
	if err != nil {
		t.Fatal(err)
	}
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A network with classes is asked without prompts, and by strokes and clicks, as app.yaml says.
func TestNetworksWithClasses(t *testing.T) {
	app, err := Open(writeApp(t, classesYAML, organNetwork(t, 1)))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range app.Models {
		loaded, err := app.Load(m, noSession)
		if err != nil {
			t.Fatal(err)
		}
		s := loaded.Segment
		if s == nil || loaded.Model != nil {
			t.Fatalf("model %s is not one with classes", m.Name)
		}
		want := []segment.Class{{Label: "spleen", Index: 3}, {Label: "Left Kidney", Index: 1}}
		if !slices.Equal(s.Classes, want) {
			t.Errorf("classes %v, want %v in the order of app.yaml", s.Classes, want)
		}
		if in := s.Input; !slices.Equal(in.Patch, []int{32, 48}) || in.Resize || in.Overlap != 0.25 || *in.Range != [2]float64{-100, 300} {
			t.Errorf("input %+v is not what app.yaml says", in)
		}
	}
	change := func(old, new string) string { return strings.Replace(classesYAML, old, new, 1) }
	for name, c := range map[string]struct{ yaml, says string }{
		"nothing to segment":  {strings.Replace(goodYAML, "scribbles", "segmentation", 1), "network with classes"},
		"hindsight":           {change("profile: thesis", "profile: hindsight"), "hindsight"},
		"prompt channels":     {change("[image]", "[image, positive, negative]"), "image alone"},
		"grid":                {change("patch: [32, 48]", "grid: 32"), "patch"},
		"fit":                 {change("fit: windows", "fit: perfectly"), "perfectly"},
		"slices of one label": {change("organs_clicks, type: deepedit", "organs_clicks, type: deepgrow, dimension: 2"), "dimension 2"},
		"label twice":         {change("Left Kidney", "Spleen"), "case"},
		"label of the app":    {classesYAML + "labels: [left kidney]\n", "left kidney"},
		"no mapping":          {change("{spleen: 3, Left Kidney: 1}", "[spleen]"), "mapping"},
		"no number":           {change("spleen: 3", "spleen: three"), "three"},
		"patch elsewhere":     {strings.Replace(goodYAML, "grid: 32", "grid: 32, patch: [4, 4]", 1), "networks with classes"},
	} {
		if _, err := Open(writeApp(t, c.yaml, nil)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that speaks of %q", name, err, c.says)
		}
	}
	for name, c := range map[string]struct {
		yaml, says string
		input      int
	}{
		"class too high":     {change("spleen: 3", "spleen: 4"), "1 to 3", 1},
		"patch of a volume":  {change("[32, 48]", "[32, 48, 48]"), "2 sizes", 1},
		"too many channels":  {classesYAML, "input channels", 2},
		"orientation":        {change("overlap: 0.25", "orientation: RAS"), "slices", 1},
		"patch and multiple": {change("[32, 48]", "[31, 48]"), "multiples of 2", 1},
	} {
		app, err := Open(writeApp(t, c.yaml, organNetwork(t, c.input)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := app.Load(app.Models[0], noSession); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that speaks of %q", name, err, c.says)
		}
	}
}
