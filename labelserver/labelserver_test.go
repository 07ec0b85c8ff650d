package labelserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/apps/phantom"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/train"
	"scrawl/labelserver/config"
)

const testYAML = `
name: test
labels: [liver, spleen]
models:
  - name: scribbles
    type: scribbles
    file: net.onnx
    input: {channels: [image, positive, negative, previous], grid: 32, multiple: 2}
    profile: hindsight
  - {name: deepgrow, type: deepgrow, network: scribbles}
  - {name: deepgrow_2d, type: deepgrow, network: scribbles, dimension: 2}
  - {name: deepedit, type: deepedit, network: scribbles}
  - name: organs
    type: segmentation
    file: organs.onnx
    input: {channels: [image], patch: [32, 32], fit: resize, multiple: 2}
    classes: {liver: 2, spleen: 1}
    profile: thesis
`

// writeApp makes an app folder with small untrained networks, net.onnx that sees strokes and organs.onnx with two classes beside
// background: what they segment is nonsense, how they are asked is not.
func writeApp(t *testing.T, yaml string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("app.yaml", []byte(yaml))
	for name, shape := range map[string]train.UNetShape{
		"net.onnx":    {Input: 4, Channels: []int{4, 8}, Groups: 2, Classes: 2},
		"organs.onnx": {Input: 1, Channels: []int{4, 8}, Groups: 2, Classes: 3},
	} {
		m, err := train.UNet(shape, 3)
		if err != nil {
			t.Fatal(err)
		}
		data, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		write(name, data)
	}
	return dir
}

func encode(t *testing.T, name string, write func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// startServer serves a folder with one image, case_0, and returns its address and the image.
func startServer(t *testing.T) (address string, image *volume.Volume) {
	t.Helper()
	image, _ = phantom.Abdomen([3]int{40, 32, 9}, [3]float64{8, 8, 15}, 1)
	return serveApp(t, writeApp(t, testYAML), map[string]*volume.Volume{"case_0": image}), image
}

// serveApp serves an app on a folder of images and returns its address.
func serveApp(t *testing.T, app string, images map[string]*volume.Volume) (address string) {
	t.Helper()
	studies := t.TempDir()
	for id, image := range images {
		encode(t, filepath.Join(studies, id+".nii.gz"), func(w io.Writer) error {
			return format.Encode("x.nii.gz", w, image, format.Options{DType: "int16", Compress: true})
		})
	}
	return serveFolder(t, app, studies)
}

// serveFolder serves an app on a folder and returns its address.
func serveFolder(t *testing.T, app, studies string) (address string) {
	t.Helper()
	return serveConfig(t, map[string]any{"app": app, "studies": studies, "state.dir": t.TempDir()})
}

// serveConfig serves on a free port with the settings given.
func serveConfig(t *testing.T, settings map[string]any) (address string) {
	t.Helper()
	return serveParts(t, settings, Parts{Log: zerolog.New(zerolog.NewTestWriter(t))})
}

// serveParts is serveConfig with a log of the test's own.
func serveParts(t *testing.T, settings map[string]any, parts Parts) (address string) {
	t.Helper()
	parts.Library, parts.Version = orttest.Library(t), "test"
	settings["server.port"], settings["runtime.measure"] = 0, false
	cfg, err := config.Load("", nil, settings)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	s, err := New(ctx, cfg, parts)
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

// layers makes the label map that Slicer would upload: the segment, then background and foreground scribbles.
func layers(g volume.Geometry, foreground, background [][3]int) *volume.LabelMap {
	m := volume.NewLabelMap(g)
	for _, v := range background {
		m.Labels[g.Index(v[0], v[1], v[2])] = 2
	}
	for _, v := range foreground {
		m.Labels[g.Index(v[0], v[1], v[2])] = 3
	}
	return m
}

func line(from [3]int, axis, n int) [][3]int {
	var vs [][3]int
	for i := range n {
		v := from
		v[axis] += i
		vs = append(vs, v)
	}
	return vs
}

const labelInfo = `[{"name":"liver","id":1},{"name":"background_scribbles","id":2},{"name":"foreground_scribbles","id":3}]`

// tour is what testdata/client_tour.py reports.
type tour struct {
	Models, Labels []string
	Config         bool
	TrainRunning   bool `json:"train_running"`
	Sample, Name   string
	Heads          [][]string
	Names          []json.RawMessage
	Sizes, Voxels  []int
	Values         [][]int
	Undone         []bool
	RolledBack     bool `json:"rolled_back"`
	Session        bool
	SessionVoxels  int  `json:"session_voxels"`
	SessionGone    bool `json:"session_gone"`
	Uploaded       string
	Saved          map[string]string
	LabelEqual     bool `json:"label_equal"`
	Objects        map[string][]string
	Completed      int
	UnknownModel   any `json:"unknown_model"`

	Trainers      []string
	TrainStarted  []any          `json:"train_started"`
	TrainStopped  []any          `json:"train_stopped"`
	TrainDone     string         `json:"train_done"`
	TrainStats    map[string]any `json:"train_stats"`
	TrainStopNone any            `json:"train_stop_none"`
	Batch, Scores []any

	Grown      []int          // voxels of the deepgrow answers
	Clicked    []int          // labels of the voxels clicked on, by the last of them
	GrownBack  bool           `json:"grown_back"`
	FlatSlices []int          `json:"flat_slices"`
	Edited     []int          // labels of the voxels clicked on for two labels and beside them
	EditNames  map[string]int `json:"edit_names"`
	Outside    any            // what came of a click outside
	AutoNames  map[string]int `json:"auto_names"`
	AutoValues []int          `json:"auto_values"`
	Strategies []string
	Ranked     map[string]any // the sample by uncertainty
	Slides     map[string]any // of /infer/wsi
}

// pythonClient finds a Python that has MONAI Label's client.
func pythonClient(t *testing.T) string {
	t.Helper()
	python := os.Getenv("SCRAWL_PYTHON")
	if python == "" {
		python = "python3"
	}
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import monailabel.client, requests").CombinedOutput(); err != nil {
		const how = "`pip install requests && pip install --no-deps monailabel`, and SCRAWL_PYTHON set to that Python"
		if os.Getenv("SCRAWL_REQUIRE") == "1" {
			t.Fatalf("SCRAWL_REQUIRE=1, but the Python client is missing (%v: %s); get it with %s", err, out, how)
		}
		t.Skipf("SKIPPED, no Python client of MONAI Label here; get it with %s", how)
	}
	return python
}

// The unmodified Python client of MONAI Label works against the whole server, and what it gets is right.
func TestPythonClient(t *testing.T) {
	python := pythonClient(t)
	address, image := startServer(t)
	dir := t.TempDir()
	foreground, background := line([3]int{10, 12, 4}, 0, 6), line([3]int{2, 3, 4}, 0, 5)
	write := func(name string, m *volume.LabelMap) string {
		return encode(t, filepath.Join(dir, name), func(w io.Writer) error {
			return format.EncodeLabels(name, w, m, format.Options{DType: "uint8", Compress: true})
		})
	}
	first := write("scribbles.nii.gz", layers(image.Geometry, foreground, background))
	second := write("more.nii.gz", layers(image.Geometry, append(foreground, line([3]int{20, 12, 6}, 1, 5)...), background))
	volumeFile := encode(t, filepath.Join(dir, "volume.nii.gz"), func(w io.Writer) error {
		return format.Encode("x.nii.gz", w, image, format.Options{DType: "int16", Compress: true})
	})
	_, truth := phantom.Abdomen(image.Size, image.Spacing, 1)
	finished := write("finished.nii.gz", liverAndSpleen(truth))
	cmd := exec.CommandContext(t.Context(), python, "testdata/client_tour.py", address, volumeFile, first, second, labelInfo, finished)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("client: %v\n%s", err, stderr.String())
	}
	var got tour
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	checkTour(t, got, image.Geometry, foreground)
}

func checkTour(t *testing.T, got tour, g volume.Geometry, foreground [][3]int) {
	t.Helper()
	want := func(what string, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("%s: got %+v", what, got)
		}
	}
	want("the models", slices.Equal(got.Models, []string{"scribbles", "deepgrow", "deepgrow_2d", "deepedit", "organs"}))
	want("the labels as a list", slices.Equal(got.Labels, []string{"liver", "spleen"}))
	want("no config on top, no training", !got.Config && !got.TrainRunning)
	want("a sample with an extension in its name", got.Sample == "case_0" && got.Name == "case_0.nii.gz")
	for i := range got.Sizes {
		want("a full-size uint8 volume", got.Sizes[i] == g.Voxels())
		want("values 0 and 1 only", slices.Equal(got.Values[i], []int{0, 1}))
		want("raw encoding, unsigned char", slices.Contains(got.Heads[i], "encoding: raw") && slices.Contains(got.Heads[i], "type: unsigned char"))
		want("the segment's name", string(got.Names[i]) == `{"liver": 1}`)
	}
	want("strokes in the answer", len(got.Voxels) == 3 && got.Voxels[0] >= len(foreground))
	want("an erased stroke takes the answer back", got.RolledBack && slices.Equal(got.Undone, []bool{false, false, true}))
	want("a session that works and goes", got.Session && got.SessionVoxels > 0 && got.SessionGone)
	want("an odd name kept", got.Uploaded == "My Volume 1+2")
	want("a label saved as final and read back", got.Saved["label"] == "case_0" && got.LabelEqual && got.Completed == 1)
	want("the objects", slices.Equal(got.Objects["case_0"], []string{"final"}) && got.Objects["My Volume 1+2"] != nil)
	want("an unknown model refused", got.UnknownModel == float64(404))
	want("trainers", slices.Equal(got.Trainers, []string{"scribbles", "organs"}))
	want("a training that runs", slices.Equal(got.TrainStarted, []any{"SUBMITTED", true}))
	want("a training that stops", slices.Equal(got.TrainStopped, []any{"STOPPED", true, true, false}) && got.TrainStopNone == nil)
	want("a training that ends", got.TrainDone == "DONE" && got.TrainStats["epoch"] == 1.0 && got.TrainStats["total_time"] != nil && got.TrainStats["best_metric"] != nil)
	want("all images answered and scored", fmt.Sprint(got.Batch) == "[200 [My Volume 1+2 case_0]]" && fmt.Sprint(got.Scores) == "[200 [case_0]]")
	want("clicks that grow a segment", len(got.Grown) == 2 && got.Grown[0] > 0 && slices.Equal(got.Clicked, []int{1, 1, 0}) && got.GrownBack)
	want("one slice of dimension 2", slices.Equal(got.FlatSlices, []int{4}))
	want("clicks on two labels", slices.Equal(got.Edited, []int{1, 2, 0}) && got.EditNames["liver"] == 1 && got.EditNames["spleen"] == 2)
	want("a click outside refused", got.Outside == float64(400))
	want("an automatic segmentation", got.AutoNames["liver"] == 1 && got.AutoNames["spleen"] == 2 && slices.Max(got.AutoValues) <= 2)
	want("strategies", slices.Equal(got.Strategies, []string{"random", "first", "last", "scribbles_epistemic", "organs_epistemic"}) && got.Ranked["id"] == "case_0" && got.Ranked["epistemic_entropy"] != nil)
	want("a plain image for a slide", got.Slides["label_names"] != nil)
}
