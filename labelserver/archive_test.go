package labelserver

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scrawl/adapters/dicomweb/dicomwebtest"
	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/labelserver/api"
)

// Series in the archive of the tests. The first two count their instances downwards along the normal.
const (
	siemensStudy  = "2.25.3001"
	siemensSeries = "2.25.3002"                                                   // CT, 512×512×20, JPEG 2000
	liverSeries   = "1.2.392.200103.20080913.113635.1.2009.6.22.21.43.10.23430.1" // CT, 512×512×3, with a segmentation by dcmqi
)

// archive is an Orthanc with real series, and a server on it.
type archive struct {
	t       *testing.T
	orthanc *dicomwebtest.Orthanc
	address string
	odd     string // the series of 23×38×3 voxels
	siemens [][]byte
}

func newArchive(t *testing.T) *archive {
	t.Helper()
	a := &archive{t: t, siemens: dicomwebtest.ReadFiles(t, dicomwebtest.Shared(t, "dicom", "ct_abdomen_siemens_j2k", "series"))}
	for i := range a.siemens {
		a.siemens[i] = dicomwebtest.FillUIDs(t, a.siemens[i], siemensStudy, siemensSeries)
	}
	a.orthanc = dicomwebtest.NewOrthanc(t)
	a.orthanc.Put(t, a.siemens...)
	for _, dir := range []string{"seg_ct3slice/series", "seg_ct3slice/seg", "seg_tiny_23x38x3/image"} {
		a.orthanc.Put(t, dicomwebtest.ReadFiles(t, dicomwebtest.Shared(t, "dicom", filepath.FromSlash(dir)))...)
	}
	a.address = serveConfig(t, map[string]any{
		"app": writeApp(t, testYAML), "studies": a.orthanc.URL(), "dicomweb.username": a.orthanc.Username, "dicomweb.password": a.orthanc.Password,
		"dicomweb.refresh": "1ns", "dicomweb.retries": 1, "state.dir": t.TempDir(),
	})
	for _, id := range a.images() {
		if id != siemensSeries && id != liverSeries {
			a.odd = id
		}
	}
	return a
}

// get asks the server and returns the answer's status and body.
func (a *archive) get(path string, query ...string) (int, []byte) {
	a.t.Helper()
	return a.do(http.MethodGet, path, form{}, query...)
}

func (a *archive) do(method, path string, f form, query ...string) (int, []byte) {
	a.t.Helper()
	values := url.Values{}
	for i := 0; i < len(query); i += 2 {
		values.Set(query[i], query[i+1])
	}
	status, _, text := sendForm(a.t, method, a.address+path+"?"+values.Encode(), f)
	return status, text
}

func (a *archive) object(path string, query ...string) *api.Object {
	a.t.Helper()
	status, text := a.get(path, query...)
	o, err := api.DecodeObject(text)
	if status != http.StatusOK || err != nil {
		a.t.Fatalf("GET %s: %d, %v: %.300s", path, status, err, text)
	}
	return o
}

// images are the ids of all images, completed how many of them have a final label.
func (a *archive) images() []string {
	a.t.Helper()
	objects, _ := a.object("/datastore/", "output", "all").Object("objects")
	return objects.Names()
}

func (a *archive) completed() float64 {
	a.t.Helper()
	store, _ := a.object("/info/").Object("datastore")
	n, _ := store.Number("completed")
	return n
}

// submit sends a final label as Slicer does and returns the status and the answer.
func (a *archive) submit(id string, m *volume.LabelMap) (int, string) {
	a.t.Helper()
	status, text := a.do(http.MethodPut, "/datastore/label", form{
		params: `{"label_info":[{"name":"liver","idx":2},{"name":"spleen","idx":3}],"model":"scribbles","client_id":"me"}`,
		files:  map[string]upload{"label": {"x.nii.gz", labelBytes(a.t, m)}},
	}, "image", id)
	return status, string(text)
}

// state is what became of a final label.
func (a *archive) state(id string) string {
	a.t.Helper()
	archive, _ := a.object("/datastore/label/info", "label", id, "tag", "final").Object("archive")
	state, _ := archive.Text("state")
	return state
}

// checked is what testdata/check_segmentation.py says.
type checked struct {
	Type     string
	Masks    map[string]string // SHA-256 of one byte a voxel
	Series   string
	Modality string
	Patient  bool     `json:"patient_kept"`
	Study    bool     `json:"study_kept"`
	Frame    bool     `json:"frame_kept"`
	Refers   []string `json:"referenced_series"`
}

// highdicom reads a segmentation against its source with an independent implementation.
func highdicom(t *testing.T, seg []byte, source [][]byte) checked {
	t.Helper()
	python := os.Getenv("SCRAWL_PYTHON")
	if python == "" {
		python = "python3"
	}
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import highdicom").CombinedOutput(); err != nil {
		const how = "`pip install highdicom`, and SCRAWL_PYTHON set to that Python"
		if os.Getenv("SCRAWL_REQUIRE") == "1" {
			t.Fatalf("SCRAWL_REQUIRE=1, but highdicom is missing (%v: %s); get it with %s", err, out, how)
		}
		t.Skipf("SKIPPED, no highdicom here; get it with %s", how)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "seg.dcm")
	if err := os.WriteFile(file, seg, 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "series")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for i, f := range source {
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%03d.dcm", i)), f, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/check_segmentation.py", file, folder)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("highdicom: %v\n%s", err, stderr.String())
	}
	var c checked
	if err := json.Unmarshal(out, &c); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return c
}

// maskOf is the hash of one label's mask, as the scripts print it.
func maskOf(m *volume.LabelMap, label uint16) string {
	mask := make([]byte, len(m.Labels))
	for i, v := range m.Labels {
		if v == label {
			mask[i] = 1
		}
	}
	return fmt.Sprintf("%x", sha256.Sum256(mask))
}

// From the archive and back: list, next sample, download, scribbles, submission, the segmentation there, and what is there found again.
func TestArchive(t *testing.T) {
	a := newArchive(t)
	if images := a.images(); len(images) != 3 || a.odd == "" {
		t.Fatalf("images are %v", images)
	}
	if n := a.completed(); n != 1 {
		t.Errorf("%v images are completed, want the one with a segmentation", n)
	}
	status, text := a.do(http.MethodPost, "/activelearning/last", form{})
	sample, err := api.DecodeObject(text)
	if err != nil || status != 200 {
		t.Fatalf("next sample: %d %s", status, text)
	}
	for name, want := range map[string]string{"id": siemensSeries, "SeriesInstanceUID": siemensSeries, "StudyInstanceUID": siemensStudy, "Modality": "CT", "StudyDate": "20221208",
		"StudyTime": "000000", "PatientID": "UNK", "name": siemensSeries + ".nii.gz", "RetrieveURL": a.orthanc.URL() + "/studies/" + siemensStudy + "/series/" + siemensSeries} {
		if got, _ := sample.Text(name); got != want {
			t.Errorf("next sample has %s %q, want %q", name, got, want)
		}
	}
	if path, _ := sample.Text("path"); !sample.Has("checksum") || !fileExists(path) {
		t.Errorf("next sample lies at %q", path)
	}

	status, text = a.get("/datastore/image", "image", siemensSeries)
	if status != 200 {
		t.Fatalf("image: %d %s", status, text)
	}
	image, err := format.Decode("x.nii.gz", bytes.NewReader(text), volume.DefaultLimits())
	if err != nil || image.Size != [3]int{512, 512, 20} {
		t.Fatalf("image of %v, %v", image.Size, err)
	}
	scribbles := layers(image.Geometry, line([3]int{200, 220, 7}, 0, 20), line([3]int{20, 20, 7}, 0, 20))
	status, text = a.do(http.MethodPost, "/infer/scribbles", form{scribbleParams, map[string]upload{"label": {"m.nii.gz", labelBytes(t, scribbles)}}}, "image", siemensSeries, "output", "image")
	answer, err := format.DecodeLabels("x.nrrd", bytes.NewReader(text), volume.DefaultLimits())
	if status != 200 || err != nil || answer.SameGrid(image.Geometry) != nil || answer.Labels[image.Index(205, 220, 7)] != 1 {
		t.Fatalf("scribbles: %d, %v: %.200s", status, err, text)
	}

	// Slicer counts its segments with a removed one: liver 2 and spleen 3 are 1 and 2 in the voxels.
	final := volume.NewLabelMap(image.Geometry)
	for i := range 40 {
		final.Labels[final.Index(210+i%5, 220+i/5, 3)] = 1
		final.Labels[final.Index(300+i%8, 120+i/8, 17)] = 2
	}
	status, reply := a.submit(siemensSeries, final)
	if status != 200 || !strings.Contains(reply, `"archive":{"state":"stored"`) {
		t.Fatalf("submit: %d %s", status, reply)
	}
	if n := a.completed(); n != 2 {
		t.Errorf("%v images are completed right after a submission, want 2", n)
	}
	series, _ := a.object("/datastore/label/info", "label", siemensSeries, "tag", "final").Text("SeriesInstanceUID")
	files := a.orthanc.Files(t, series)
	if len(files) != 1 {
		t.Fatalf("the archive has %d segmentations", len(files))
	}
	got := highdicom(t, files[0], a.siemens)
	want := checked{Type: "BINARY", Series: series, Modality: "SEG", Patient: true, Study: true, Frame: true, Refers: []string{siemensSeries},
		Masks: map[string]string{"liver": maskOf(final, 1), "spleen": maskOf(final, 2)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the segmentation as highdicom reads it (-want +got):\n%s", diff)
	}

	// Labels come back: the one submitted, and the one that lay in the archive.
	for id, size := range map[string]int{siemensSeries: 512 * 512 * 20, liverSeries: 512 * 512 * 3} {
		status, text = a.get("/datastore/label", "label", id, "tag", "final")
		m, err := format.DecodeLabels("x.nii.gz", bytes.NewReader(text), volume.DefaultLimits())
		if status != 200 || err != nil || len(m.Labels) != size || slices.Max(m.Labels) == 0 {
			t.Errorf("label of %s: %d, %v: %.200s", id, status, err, text)
		}
	}
	status, text = a.do(http.MethodPost, "/infer/scribbles", form{scribbleParams, map[string]upload{"label": {"m.nii.gz", labelBytes(t, scribbles)}}}, "image", siemensSeries, "output", "dicom_seg")
	if status != 200 {
		t.Fatalf("scribbles as a segmentation: %d %s", status, text)
	}
	if got = highdicom(t, text, a.siemens); len(got.Masks) != 1 || got.Masks["liver"] != maskOf(answer, 1) {
		t.Errorf("the answer as a segmentation has segments %v, want a liver as in the answer", got.Masks)
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// The archive fails at every step and comes back.
func TestArchiveFailures(t *testing.T) {
	a := newArchive(t)
	status, text := a.get("/datastore/image", "image", a.odd)
	if status != 200 {
		t.Fatalf("image: %d %s", status, text)
	}
	image, err := format.Decode("x.nii.gz", bytes.NewReader(text), volume.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	final := volume.NewLabelMap(image.Geometry)
	final.Labels[100] = 1

	a.orthanc.Stop(t)
	if n := a.completed(); n != 1 {
		t.Errorf("%v images are completed while the archive is down", n)
	}
	for what, query := range map[string][]string{"an image not fetched yet": {"/datastore/image", "image", liverSeries}, "the archive's own answers": {"/proxy/dicom/qido/series"}} {
		if status, text = a.get(query[0], query[1:]...); status != 503 || !strings.Contains(string(text), "not available") {
			t.Errorf("%s while the archive is down: %d %s", what, status, text)
		}
	}
	if status, text = a.get("/datastore/image", "image", a.odd); status != 200 {
		t.Errorf("a fetched image while the archive is down: %d %s", status, text)
	}
	status, reply := a.submit(a.odd, final)
	if status != 200 || !strings.Contains(reply, `"state":"pending"`) {
		t.Errorf("submission while the archive is down: %d %s", status, reply)
	}
	if n := a.completed(); n != 2 {
		t.Errorf("%v images are completed, want the one submitted too", n)
	}
	a.orthanc.Start(t)
	for range 600 {
		if a.state(a.odd) == "stored" {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if state := a.state(a.odd); state != "stored" {
		t.Fatalf("the label is %s after the archive came back", state)
	}
	series, _ := a.object("/datastore/label/info", "label", a.odd, "tag", "final").Text("SeriesInstanceUID")
	if n := len(a.orthanc.Files(t, series)); n != 1 {
		t.Errorf("the archive has the segmentation %d times", n)
	}

	a.orthanc.Delete(t, liverSeries)
	if status, text = a.get("/datastore/image", "image", liverSeries); status != 404 {
		t.Errorf("a series that was deleted: %d %s", status, text)
	}
	if images := a.images(); slices.Contains(images, liverSeries) {
		t.Errorf("images are %v", images)
	}
}
