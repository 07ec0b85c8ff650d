package labelserver

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/apps/phantom"
	"scrawl/labelserver/recorded"
)

// replayYAML names its models as the recorded server did.
const replayYAML = `
name: replay
labels: [spleen]
models:
  - name: Histogram+GraphCut
    type: scribbles
    graphcut: {}
  - name: scribbles
    type: scribbles
    file: net.onnx
    input: {channels: [image, positive, negative, previous], grid: 32, multiple: 2}
    profile: hindsight
  - {name: deepgrow_2d, type: deepgrow, network: scribbles, dimension: 2}
  - name: segmentation_spleen
    type: segmentation
    file: organs.onnx
    input: {channels: [image], patch: [32, 32], fit: resize, multiple: 2}
    classes: {spleen: 1}
    profile: thesis
`

// replayedInferences are the recordings whose answer is a volume, beside those that are refused with a sentence here and without one
// there.
var replayedInferences = map[string]int{
	"dg2d": 200, "seg": 200, "seg_nobody": 200, "scr_default": 200, "scr_all": 200, "scr_image": 200, "scr_u16": 200, "scr_compress": 200, "scr_segnrrd": 200,
	"scr_noext": 200, "scr_case1": 200, "scr_defaultids": 200, "scr_emptyscrib": 200, "roi_ok": 200, "roi_inverted": 200, "roi_only": 200,
	"scr_json": 200, "scr_plus_unescaped": 200, "wsi": 200, "wsi2": 200,
	"scr_badshape": 400,
	"scr_nolabel":  200, // nothing is drawn: an empty answer, where the incumbent fails
}

// Recorded requests, sent to a whole server with an image on the recorded grid, get volumes of the recorded layout: header by header,
// the same grid, type and encoding.
func TestReplayOfInferences(t *testing.T) {
	shared := os.Getenv("SCRAWL_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "shared")
	}
	dir := filepath.Join(shared, "monailabel", "captures")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("SCRAWL_REQUIRE") == "1" && os.Getenv("SCRAWL_SHARED") != "" {
			t.Fatalf("no recorded traffic: %v", err)
		}
		t.Skipf("SKIPPED, no recorded traffic at %s: run SCRAWL_SHARED=/folder/with/monailabel/captures go test ./labelserver", dir)
	}
	image, _ := phantom.Abdomen([3]int{48, 40, 24}, [3]float64{1.5, 1.5, 3}, 1)
	image.Origin = [3]float64{-30, -40, -20}
	other, _ := phantom.Abdomen([3]int{40, 36, 20}, [3]float64{2, 2, 4}, 2)
	other.Origin, other.Direction = [3]float64{}, [3][3]float64{{-1, 0, 0}, {0, -1, 0}, {0, 0, 1}}
	address := serveApp(t, writeApp(t, replayYAML), map[string]*volume.Volume{"case_0": image, "case_1": other})
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range replayedInferences {
			if !yield(n) {
				return
			}
		}
	}) {
		t.Run(name, func(t *testing.T) {
			want, err := recorded.ReadAnswer(dir, name)
			if err != nil {
				t.Fatal(err)
			}
			g := image.Geometry
			if name == "scr_case1" {
				g = other.Geometry
			}
			status, header, body := replay(t, address, dir, name, g)
			if status != replayedInferences[name] {
				t.Fatalf("status %d, want %d: %.300s", status, replayedInferences[name], body)
			}
			if want.Status == http.StatusOK && status == http.StatusOK {
				compareVolumes(t, volumeOf(t, want.Header, []byte(want.Body)), volumeOf(t, header, body))
			}
		})
	}
}

// replay sends a recorded request with masks on the image's grid in place of the recorded ones.
func replay(t *testing.T, address, dir, name string, g volume.Geometry) (int, http.Header, []byte) {
	t.Helper()
	r, err := recorded.ReadRequest(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.NewBufferString(r.Body)
	if len(r.Parts) > 0 {
		body.Reset()
		w := multipart.NewWriter(body)
		for _, p := range r.Parts {
			if p.File == "" {
				err = w.WriteField(p.Field, p.Content)
			} else {
				var part io.Writer
				if part, err = w.CreateFormFile(p.Field, p.FileName); err == nil {
					_, err = part.Write(labelBytes(t, recordedMask(p.File, g)))
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", w.FormDataContentType())
	}
	req, err := http.NewRequestWithContext(t.Context(), r.Method, address+r.Path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = r.Header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, data
}

// recordedMask stands in for a mask of the recordings by its name.
func recordedMask(name string, g volume.Geometry) *volume.LabelMap {
	switch {
	case strings.HasPrefix(name, "badshape"):
		return volume.NewLabelMap(volume.New([3]int{10, 10, 10}, g.Spacing))
	case strings.HasPrefix(name, "empty"):
		return volume.NewLabelMap(g)
	}
	return layers(g, line([3]int{20, 15, 12}, 0, 6), line([3]int{4, 4, 12}, 0, 8))
}

// volumeOf takes the file out of an answer: its whole body, or the part called image; nil for one that is JSON alone.
func volumeOf(t *testing.T, header http.Header, body []byte) []byte {
	t.Helper()
	kind, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	switch kind {
	case "application/json":
		return nil
	case "application/octet-stream":
		return body
	}
	for r := multipart.NewReader(bytes.NewReader(body), params["boundary"]); ; {
		part, err := r.NextRawPart()
		if err != nil {
			t.Fatalf("no part called image: %v", err)
		}
		if part.FormName() == "image" {
			data, err := io.ReadAll(part)
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
	}
}

func compareVolumes(t *testing.T, want, got []byte) {
	t.Helper()
	if (want == nil) != (got == nil) {
		t.Fatalf("a volume of %d bytes, recorded one of %d", len(got), len(want))
	}
	if want == nil {
		return
	}
	name := "x.nii.gz"
	if bytes.HasPrefix(want, []byte("NRRD")) {
		name = "x.nrrd"
		w, g := nrrdHeader(want), nrrdHeader(got)
		if !slices.Equal(w, g) {
			t.Errorf("header\n%s\nrecorded\n%s", strings.Join(g, "\n"), strings.Join(w, "\n"))
		}
	}
	w, err := format.Decode(name, bytes.NewReader(want), volume.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	g, err := format.Decode(name, bytes.NewReader(got), volume.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.SameGrid(w.Geometry); err != nil {
		t.Errorf("the answer's grid: %v", err)
	}
	for i, v := range g.Voxels {
		if v != 0 && v != 1 {
			t.Fatalf("voxel %d is %g, want 0 or 1", i, v)
		}
	}
}

// nrrdHeader is the header without comments, in alphabetical order: readers do not depend on it.
func nrrdHeader(file []byte) []string {
	text, _, _ := bytes.Cut(file, []byte("\n\n"))
	lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(l string) bool { return strings.HasPrefix(l, "#") })
	slices.Sort(lines)
	return lines
}
