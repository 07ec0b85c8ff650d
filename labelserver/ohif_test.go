package labelserver

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ohifBoundary is a boundary as Chromium makes them for a FormData.
const ohifBoundary = "----WebKitFormBoundary7MA4YWxkTrZu0gW"

// ohifParams are the members OHIF's plugin adds to the parameters of every inference.
const ohifParams = `"result_extension":".nrrd","result_dtype":"uint8","result_compress":false,"restore_label_idx":false`

// ohifRequest is the text of a request as OHIF's plugin sends it from Chromium, through axios: GET, POST of JSON or POST of a FormData.
func ohifRequest(method, target, body string) string {
	head := method + " " + target + " HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: keep-alive\r\n"
	switch {
	case method == http.MethodGet:
		body = ""
	case strings.Contains(target, "/infer/"):
		body = "--" + ohifBoundary + "\r\nContent-Disposition: form-data; name=\"params\"\r\n\r\n" + body + "\r\n--" + ohifBoundary + "--\r\n"
		head += fmt.Sprintf("Content-Length: %d\r\nContent-Type: multipart/form-data; boundary=%s\r\n", len(body), ohifBoundary)
	default:
		head += fmt.Sprintf("Content-Length: %d\r\nContent-Type: application/json\r\n", len(body))
	}
	accept := "application/json,multipart/form-data"
	if strings.Contains(target, "/proxy/") {
		accept = "application/dicom+json"
		if strings.Contains(target, "/frames/") {
			accept = `multipart/related; type=application/octet-stream; transfer-syntax=*`
		}
	}
	return head + "sec-ch-ua-platform: \"Linux\"\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36\r\n" +
		"accept: " + accept + "\r\nOrigin: http://127.0.0.1:3000\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nReferer: http://127.0.0.1:3000/\r\n" +
		"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n\r\n" + body
}

// answered is what the head of an answer says.
type answered struct {
	status int
	length int64
}

// ohif sends a request in the form of OHIF's.
func (a *archive) ohif(method, target, body string) (answered, []byte) {
	a.t.Helper()
	return a.send(method, ohifRequest(method, target, body))
}

// send sends a request's text over a connection of its own.
func (a *archive) send(method, text string) (answered, []byte) {
	a.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(a.t.Context(), "tcp", strings.TrimPrefix(a.address, "http://"))
	if err != nil {
		a.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		a.t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	unpacked := io.Reader(res.Body)
	if res.Header.Get("Content-Encoding") == "gzip" { // which Orthanc sends to who takes it
		if unpacked, err = gzip.NewReader(res.Body); err != nil {
			a.t.Fatal(err)
		}
	}
	data, err := io.ReadAll(unpacked)
	if err != nil {
		a.t.Fatal(err)
	}
	if origin := res.Header.Get("Access-Control-Allow-Origin"); origin != "*" && !strings.Contains(text, "\r\nOrigin: "+origin+"\r\n") {
		a.t.Errorf("a page may not read the answer (%q) to %.100q", origin, text)
	}
	return answered{res.StatusCode, res.ContentLength}, data
}

// parsed is what testdata/ohif_nrrd.js prints.
type parsed struct {
	Type   string
	Sizes  [3]int
	Origin [3]float64
	Marked []int // voxels of each slice
	Value  int   // of the voxel asked for
	Hash   string
}

// parseAsOHIF reads an NRRD file with the library that OHIF's plugin uses.
func parseAsOHIF(t *testing.T, file []byte, at [3]int) parsed {
	t.Helper()
	modules := os.Getenv("SCRAWL_NODE_MODULES")
	if modules == "" {
		modules = filepath.Join("..", ".ci", "node", "node_modules")
	}
	modules, err := filepath.Abs(modules)
	if err != nil {
		t.Fatal(err)
	}
	_, missing := os.Stat(filepath.Join(modules, "nrrd-js"))
	node, err := exec.LookPath("node")
	if err != nil || missing != nil {
		const how = "Node.js, `npm install --prefix DIR nrrd-js`, and SCRAWL_NODE_MODULES set to DIR/node_modules"
		if os.Getenv("SCRAWL_REQUIRE") == "1" {
			t.Fatalf("SCRAWL_REQUIRE=1, but Node.js or nrrd-js is missing; get them with %s", how)
		}
		t.Skipf("SKIPPED, no Node.js or nrrd-js here; get them with %s", how)
	}
	path := filepath.Join(t.TempDir(), "answer.nrrd")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "testdata/ohif_nrrd.js", modules, path, fmt.Sprint(at[0]), fmt.Sprint(at[1]), fmt.Sprint(at[2]))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, stderr.String())
	}
	var p parsed
	if err := json.Unmarshal(out, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// instances are the instances of a series as OHIF lists and sorts them: ascending along the normal of rows and columns.
func (a *archive) instances(study, series string) []map[string]attribute {
	a.t.Helper()
	res, text := a.ohif(http.MethodGet, "/proxy/dicom/wado/studies/"+study+"/series/"+series+"/metadata", "")
	var list []map[string]attribute
	if err := json.Unmarshal(text, &list); err != nil || res.status != 200 {
		a.t.Fatalf("metadata: %d, %v: %.200s", res.status, err, text)
	}
	slices.SortFunc(list, func(x, y map[string]attribute) int {
		if along(x) < along(y) {
			return -1
		}
		return 1
	})
	return list
}

type attribute struct {
	Value []any
}

func numbers(a attribute) []float64 {
	var ns []float64
	for _, v := range a.Value {
		n, _ := v.(float64)
		ns = append(ns, n)
	}
	return ns
}

func along(d map[string]attribute) float64 {
	o, p := numbers(d["00200037"]), numbers(d["00200032"])
	n := [3]float64{o[1]*o[5] - o[2]*o[4], o[2]*o[3] - o[0]*o[5], o[0]*o[4] - o[1]*o[3]}
	return n[0]*p[0] + n[1]*p[1] + n[2]*p[2]
}

// What OHIF's plugin sent when it was used, byte for byte, and its answers.
func TestOHIFRecorded(t *testing.T) {
	a := newArchive(t)
	replay := func(name string) (answered, []byte) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join("testdata", "ohif", name+".http"))
		if err != nil {
			t.Fatal(err)
		}
		method, _, _ := strings.Cut(string(text), " ")
		return a.send(method, string(text))
	}
	for name, want := range map[string]int{"info": 200, "train": 404, "preflight_activelearning_random": 200, "activelearning_random": 200} {
		if res, text := replay(name); res.status != want {
			t.Errorf("%s: %d, want %d: %.300s", name, res.status, want, text)
		}
	}
	// The click of the recordings, on the middle slice of three whose instances are numbered downwards.
	at := [3]int{161, 218, 1}
	for _, c := range []struct {
		name string
		only bool // whether the answer is of one slice
		mark bool // whether it holds the click
	}{
		{"infer_organs", false, false}, {"infer_organs_prompt", false, false}, {"infer_deepgrow", false, true}, {"infer_deepgrow_2d", true, true}, {"infer_deepedit", false, true},
	} {
		res, text := replay(c.name)
		if res.status != 200 {
			t.Errorf("%s: %d %.300s", c.name, res.status, text)
			continue
		}
		p := parseAsOHIF(t, text, at)
		if p.Type != "uint8" || p.Sizes != [3]int{512, 512, 3} || math.Abs(p.Origin[2]+128.690002) > 1e-3 {
			t.Errorf("%s: %s of %v from %v on", c.name, p.Type, p.Sizes, p.Origin)
		}
		if c.mark && p.Value != 1 {
			t.Errorf("%s does not mark voxel %v", c.name, at)
		}
		if c.only && p.Marked[0]+p.Marked[2] > 0 {
			t.Errorf("%s marks other slices: %v", c.name, p.Marked)
		}
	}
}

// OHIF's plugin against an archive: connect, next sample, images through the proxy, and inferences whose answers it reads with its own
// library, on a series of odd sizes and one whose instances are numbered against the order of its slices.
func TestOHIF(t *testing.T) {
	a := newArchive(t)
	res, text := a.ohif(http.MethodGet, "/info/", "")
	var info struct {
		Name   string
		Labels []string
		Models map[string]struct {
			Type      string
			Labels    any
			Dimension int
		}
		Strategies, Trainers map[string]any
	}
	if err := json.Unmarshal(text, &info); err != nil || res.status != 200 || info.Models["organs"].Type != "segmentation" || info.Strategies["random"] == nil {
		t.Fatalf("info: %d, %v: %s", res.status, err, text)
	}
	if res, _ = a.ohif(http.MethodGet, "/train/?check_if_running=true", ""); res.status != 404 {
		t.Errorf("nothing is being trained: %d", res.status)
	}
	res, text = a.ohif(http.MethodPost, "/activelearning/random", `{}`)
	var sample map[string]any
	if err := json.Unmarshal(text, &sample); err != nil || res.status != 200 {
		t.Fatalf("next sample: %d, %v: %s", res.status, err, text)
	}
	for _, name := range []string{"id", "Modality", "StudyDate", "StudyTime", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "RetrieveURL"} {
		if s, ok := sample[name].(string); !ok || s == "" {
			t.Errorf("next sample has %s %v", name, sample[name])
		}
	}
	res, text = a.ohif(http.MethodGet, "/proxy/dicom/qido/studies?limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060&StudyInstanceUID="+siemensStudy, "")
	var studies []map[string]attribute
	if err := json.Unmarshal(text, &studies); err != nil || res.status != 200 || len(studies) != 1 {
		t.Errorf("studies: %d, %d of them, %v", res.status, len(studies), err)
	}

	for _, series := range []struct {
		name, study, uid string
		sizes            [3]int
		descending       bool
	}{
		{"JPEG 2000, descending", siemensStudy, siemensSeries, [3]int{512, 512, 20}, true},
		{"odd sizes", a.study(a.odd), a.odd, [3]int{23, 38, 3}, false},
	} {
		t.Run(series.name, func(t *testing.T) {
			a := &archive{t: t, orthanc: a.orthanc, address: a.address}
			instances := a.instances(series.study, series.uid)
			first, last := instances[0], instances[len(instances)-1]
			if len(instances) != series.sizes[2] || (numbers(first["00200013"])[0] > numbers(last["00200013"])[0]) != series.descending {
				t.Fatalf("%d instances from %v to %v: not the series this test is for", len(instances), first["00200013"], last["00200013"])
			}
			uid, _ := first["00080018"].Value[0].(string)
			if res, text := a.ohif(http.MethodGet, "/proxy/dicom/wado/studies/"+series.study+"/series/"+series.uid+"/instances/"+uid+"/frames/1", ""); res.status != 200 || len(text) < 1000 {
				t.Errorf("pixels through the proxy: %d, %d bytes: %.200s", res.status, len(text), text)
			}

			at := [3]int{series.sizes[0] / 2, series.sizes[1] / 2, series.sizes[2] - 1}
			infer := func(model, params string) parsed {
				t.Helper()
				res, text := a.ohif(http.MethodPost, "/infer/"+model+"?image="+series.uid+"&output=image", "{"+params+ohifParams+"}")
				if res.status != 200 || res.length != int64(len(text)) {
					t.Fatalf("%s: %d, length %d: %.300s", model, res.status, res.length, text)
				}
				p := parseAsOHIF(t, text, at)
				if p.Type != "uint8" || p.Sizes != series.sizes {
					t.Errorf("%s: %s of %v, want uint8 of %v", model, p.Type, p.Sizes, series.sizes)
				}
				for i, want := range numbers(first["00200032"]) {
					if math.Abs(p.Origin[i]-want) > 1e-3 {
						t.Errorf("%s: origin %v, want that of the lowest slice, %v", model, p.Origin, numbers(first["00200032"]))
					}
				}
				return p
			}
			click := fmt.Sprintf("[[%d,%d,%d]]", at[0], at[1], at[2])
			// The clicked voxel has its label in the answer, in the order in which OHIF counts slices; a model of one slice leaves the others.
			if p := infer("deepgrow", `"foreground":`+click+`,"background":[],`); p.Value != 1 {
				t.Errorf("deepgrow does not mark voxel %v", at)
			}
			p := infer("deepgrow_2d", `"foreground":`+click+`,"background":[],`)
			below := p.Marked[:at[2]]
			if p.Value != 1 || slices.Max(below) > 0 {
				t.Errorf("deepgrow_2d does not mark voxel %v, or marks other slices: %v", at, p.Marked)
			}
			if p = infer("deepedit", `"spleen":`+click+`,"background":[],`); p.Value != 2 {
				t.Errorf("deepedit does not mark voxel %v as spleen", at)
			}
			whole := infer("organs", "")
			if again := infer("organs", `"label_prompt":[1,2],`); cmp.Diff(whole, again) != "" {
				t.Error("class prompts of all classes give another answer than none")
			}
		})
	}
}

// study is the study of a series.
func (a *archive) study(series string) string {
	a.t.Helper()
	uid, _ := a.object("/datastore/image/info", "image", series).Text("StudyInstanceUID")
	return uid
}
