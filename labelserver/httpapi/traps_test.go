package httpapi

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
)

// The traps are those that clients of MONAI Label hold for a reimplementation, in the order of the harm they do.

func params(text string) part { return part{name: "params", content: text} }

// A chunked or compressed answer is taken for voxels by Slicer, which reads the socket.
func TestTrap01AnswerHasALengthAndIsNeitherChunkedNorCompressed(t *testing.T) {
	b := newBench(t)
	big := volume.Geometry{Size: [3]int{64, 64, 64}, Spacing: [3]float64{1, 1, 1}}
	b.service.infer = func(context.Context, *annotation.Request) (*annotation.Reply, error) {
		return &annotation.Reply{Label: &volume.LabelMap{Geometry: big, Labels: make([]uint16, 64*64*64)}}, nil
	}
	for _, output := range []string{"", "&output=all", "&output=image", "&output=json"} {
		r := b.do(http.MethodPost, "/infer/scribbles?image=case_0"+output, "", nil, "Accept-Encoding", "gzip, deflate")
		b.want(r, 200, "")
		if r.length != int64(len(r.body)) || len(r.raw.TransferEncoding) != 0 || r.header.Get("Content-Encoding") != "" || r.raw.Uncompressed {
			t.Errorf("output %q: length %d of %d, transfer encoding %v, content encoding %q", output, r.length, len(r.body),
				r.raw.TransferEncoding, r.header.Get("Content-Encoding"))
		}
	}
	for _, path := range []string{"/info/", "/datastore/?output=all", "/openapi.json", "/docs", "/metrics", "/datastore/dataset", "/logs/?lines=0"} {
		if r := b.get(path); r.status != 200 || r.length != int64(len(r.body)) {
			t.Errorf("GET %s: status %d, length %d of %d", path, r.status, r.length, len(r.body))
		}
	}
}

// http.client follows no redirects.
func TestTrap02CanonicalPathsAnswerDirectly(t *testing.T) {
	b := newBench(t)
	for _, path := range []string{"/info/", "/datastore/", "/logs/", "/datastore/label?label=case_0&tag=final", "/"} {
		b.want(b.get(path), 200, "")
	}
	for path, to := range map[string]string{
		"/info": "/info/", "/datastore?output=all&x=a%2Bb+c": "/datastore/?output=all&x=a%2Bb+c", "/batch/infer/?all=1": "/batch/infer?all=1",
		"/session/abc/": "/session/abc", "/infer/Histogram%2BGraphCut/": "/infer/Histogram%2BGraphCut",
	} {
		r := b.get(path)
		if r.status != 307 || r.header.Get("Location") != b.url+to || r.length != 0 {
			t.Errorf("GET %s: %d to %s with %d bytes, want 307 to %s", path, r.status, r.header.Get("Location"), r.length, to)
		}
	}
	r := b.put("/datastore?image=new", part{"file", "x.nii.gz", "voxels"})
	if r.status != 307 || r.header.Get("Location") != b.url+"/datastore/?image=new" {
		t.Errorf("PUT without the slash: %d to %s", r.status, r.header.Get("Location"))
	}
}

// Each call of Slicer begins with GET /auth/.
func TestTrap03AuthIsNotFound(t *testing.T) {
	b := newBench(t)
	r := b.get("/auth/")
	b.want(r, 404, `{"detail":"Not Found"}`)
	if r.header.Get("Content-Type") != "application/json" {
		t.Errorf("content type is %s", r.header.Get("Content-Type"))
	}
}

func TestTrap04OutputForms(t *testing.T) {
	b := newBench(t)
	p := params(`{"result_extension":".nrrd","result_dtype":"uint8"}`)
	empty := func(context.Context, *annotation.Request) (*annotation.Reply, error) {
		return &annotation.Reply{Label: &volume.LabelMap{Geometry: grid, Labels: make([]uint16, 24)}}, nil
	}
	for _, infer := range []func(context.Context, *annotation.Request) (*annotation.Reply, error){nil, empty} {
		b.service.infer = infer
		for _, output := range []string{"", "&output=all"} {
			_, name, file := b.post("/infer/scribbles?image=case_0"+output, p).parts(t)
			if !regexp.MustCompile(`^tmp[0-9a-z]{8}\.nrrd$`).MatchString(name) || !strings.HasPrefix(file, "NRRD0004\n") || len(file) < 24 {
				t.Errorf("output %q: file %s holds %q", output, name, file)
			}
		}
	}
	r := b.post("/infer/scribbles?image=case_0&output=image", p)
	if !strings.HasPrefix(r.body, "NRRD0004\n") || r.header.Get("Content-Type") != "application/octet-stream" ||
		!regexp.MustCompile(`^attachment; filename="tmp[0-9a-z]+\.nrrd"$`).MatchString(r.header.Get("Content-Disposition")) {
		t.Errorf("output=image: %v %q", r.header, r.body)
	}
	b.service.infer = nil
	r = b.post("/infer/scribbles?image=case_0&output=json", p)
	b.want(r, 200, `{"label_names":{"aorta":1,"liver":2},"latencies":{"total":1.0},"centroids":{}}`)
	b.want(b.post("/infer/scribbles?image=case_0&output=dicom_struct", p), 422,
		`{"detail":[{"type":"enum","loc":["query","output"],"msg":"Input should be 'image', 'json', 'all' or 'dicom_seg'","input":"dicom_struct","ctx":{"expected":"'image', 'json', 'all' or 'dicom_seg'"}}]}`)
	b.want(b.post("/infer/scribbles?image=case_0&output=dicom_seg", p), 404, `{"detail":"Parameters for DICOM SEG inference cannot be empty!"}`)
	b.want(b.post("/infer/scribbles?image=case_0&output=dicom_seg", params(`{"label_info":[]}`)), 500,
		`{"detail":"DICOM SEG format is not supported in a non-DICOM datastore"}`)
	b.service.infer = func(context.Context, *annotation.Request) (*annotation.Reply, error) {
		return &annotation.Reply{Params: api.NewObject("prediction", []any{})}, nil
	}
	if r := b.post("/infer/scribbles?image=case_0"); r.status != 200 || !strings.HasPrefix(r.body, `{"label_names":{},"prediction":[]`) {
		t.Errorf("an answer without an image: %d %s", r.status, r.body)
	}
}

func TestTrap05OrderIsKept(t *testing.T) {
	b := newBench(t)
	info := b.get("/info/").object(t)
	models, _ := info.Object("models")
	if diff := cmp.Diff([]string{"scribbles", "Histogram+GraphCut", "segmentation_spleen", "deepgrow_2d"}, models.Names()); diff != "" {
		t.Errorf("models (-want +got):\n%s", diff)
	}
	model, _ := models.Object("segmentation_spleen")
	labels, _ := model.Object("labels")
	if diff := cmp.Diff([]string{"aorta", "liver"}, labels.Names()); diff != "" {
		t.Errorf("labels by number (-want +got):\n%s", diff)
	}
	strategies, _ := info.Object("strategies")
	if diff := cmp.Diff([]string{"random", "first"}, strategies.Names()); diff != "" {
		t.Errorf("strategies (-want +got):\n%s", diff)
	}
	if text := b.get("/info/").body; strings.Contains(text, "background") {
		t.Error("background is offered as a label")
	}
}

func TestTrap06TypeAndEncodingAsAsked(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct{ params, header, data string }{
		{`{"result_extension":".nrrd","result_dtype":"uint8","result_compress":false}`, "type: unsigned char\n", "\x00\x01" + strings.Repeat("\x00", 22)},
		{`{"result_extension":".nrrd","result_dtype":"uint16"}`, "type: unsigned short\n", "\x00\x00\x01\x00" + strings.Repeat("\x00", 44)},
		{`{"result_extension":".nrrd"}`, "type: unsigned char\n", "\x00\x01" + strings.Repeat("\x00", 22)},
		{`{"result_extension":".nrrd","result_compress":true}`, "encoding: gzip\n", "\x1f\x8b"},
	} {
		r := b.post("/infer/scribbles?image=case_0&output=image", params(c.params))
		header, data, _ := strings.Cut(r.body, "\n\n")
		if r.status != 200 || !strings.Contains(header+"\n", c.header) || !strings.HasPrefix(data, c.data) || c.data[0] != 0x1f && len(data) != len(c.data) {
			t.Errorf("%s: %d %q %q", c.params, r.status, header, data)
		}
	}
	b.service.infer = func(context.Context, *annotation.Request) (*annotation.Reply, error) { return answer(300), nil }
	if r := b.post("/infer/scribbles?image=case_0&output=image", params(`{"result_extension":".nrrd"}`)); !strings.Contains(r.body, "unsigned short") {
		t.Errorf("label 300 without a type: %q", r.body)
	}
	for _, bad := range []string{`{"result_dtype":"complex64"}`, `{"result_extension":".exe"}`, `{"result_extension":"../x"}`} {
		if r := b.post("/infer/scribbles?image=case_0", params(bad)); r.status != 400 {
			t.Errorf("%s: %d %s", bad, r.status, r.body)
		}
	}
}

func TestTrap07ScribblesByName(t *testing.T) {
	b := newBench(t)
	b.want(b.post("/infer/scribbles?image=case_0",
		params(`{"label_info":[{"name":"spleen","id":1},{"name":"foreground_scribbles","id":3.0,"color":"x"},{"name":"background_scribbles","id":2},{"x":1}],"selected_label_name":"spleen","client_id":"user-xyz"}`),
		part{"label", "/tmp/slicer-monai/tmpscrib.nii.gz", "mask"}), 200, "")
	got := b.service.last(t)
	want := []annotation.Segment{{Name: "spleen", ID: 1}, {Name: "foreground_scribbles", ID: 3}, {Name: "background_scribbles", ID: 2}}
	if diff := cmp.Diff(want, got.LabelInfo); diff != "" {
		t.Errorf("label info (-want +got):\n%s", diff)
	}
	if got.Label == nil || got.LabelName != "spleen" || got.ClientID != "user-xyz" || got.Image.Key != (annotation.ImageKey{Source: annotation.Stored, ID: "case_0"}) {
		t.Errorf("request is %+v", got)
	}
}

func TestTrap08BoxesAndPointsOutside(t *testing.T) {
	b := newBench(t)
	b.want(b.post("/infer/scribbles?image=case_0", params(`{"roi":[32,10,26,-6,5,2000],"foreground":[[-3,900,12.0]],"background":[],"label":"spleen"}`)), 200, "")
	got := b.service.last(t)
	box := annotation.Box{Min: [3]int{10, -6, 5}, Max: [3]int{32, 26, 2000}}
	if got.ROI == nil || *got.ROI != box {
		t.Errorf("roi is %v, want %v", got.ROI, box)
	}
	if clipped, ok := box.Clip([3]int{20, 20, 20}); !ok || clipped != (annotation.Box{Min: [3]int{10, 0, 5}, Max: [3]int{20, 20, 20}}) {
		t.Errorf("clipped box is %v, %v", clipped, ok)
	}
	if _, ok := box.Clip([3]int{5, 5, 5}); ok {
		t.Error("a box outside has voxels")
	}
	if diff := cmp.Diff([]annotation.Click{{-3, 900, 12}}, got.Foreground); diff != "" || len(got.Background) != 0 || got.LabelName != "spleen" {
		t.Errorf("clicks %v, background %v, label %q", got.Foreground, got.Background, got.LabelName)
	}
	for _, roi := range []string{`[]`, `null`} {
		b.want(b.post("/infer/scribbles?image=case_0", params(`{"roi":`+roi+`}`)), 200, "")
		if got := b.service.last(t); got.ROI != nil {
			t.Errorf("roi %s is %v", roi, got.ROI)
		}
	}
	for _, roi := range []string{`[1,2]`, `["a",1,2,3,4,5]`, `[1e300,1,2,3,4,5]`, `"all"`, `7`} {
		if r := b.post("/infer/scribbles?image=case_0", params(`{"roi":`+roi+`}`)); r.status != 400 || !strings.Contains(r.body, "six numbers") {
			t.Errorf("roi %s: %d %s", roi, r.status, r.body)
		}
	}
	for own, clicks := range map[string]string{"my lesion": `[[1,2,3]]`, "device": `["cpu"]`, "background": `[[1,1,1]]`} {
		b.want(b.post("/infer/segmentation_spleen?image=case_0", params(fmt.Sprintf(`{"label":%q,%q:%s}`, own, own, clicks))), 200, "")
		got := b.service.last(t).LabelClicks
		if want := own == "my lesion"; want != (len(got) == 1 && got[0].Name == own) || !want && len(got) > 0 {
			t.Errorf("a segment called %q has clicks %v", own, got)
		}
	}
	for _, bad := range []string{`"foreground":"here"`, `"foreground":[[1,2]]`, `"background":[["a",1,2]]`, `"liver":[[1,2,3,4]]`} {
		if r := b.post("/infer/segmentation_spleen?image=case_0", params(`{`+bad+`}`)); r.status != 400 || !strings.Contains(r.body, "[[i,j,k],…]") {
			t.Errorf("%s: %d %s", bad, r.status, r.body)
		}
	}
	b.want(b.post("/infer/segmentation_spleen?image=case_0", params(`{"liver":[[1,2,3]],"aorta":[],"label":"liver"}`)), 200, "")
	want := []annotation.LabelClicks{{Name: "liver", Clicks: []annotation.Click{{1, 2, 3}}}, {Name: "aorta", Clicks: []annotation.Click{}}}
	if diff := cmp.Diff(want, b.service.last(t).LabelClicks); diff != "" {
		t.Errorf("clicks by label (-want +got):\n%s", diff)
	}
}

func TestTrap09InfoHasNothingThatBreaksClients(t *testing.T) {
	b := newBench(t)
	r := b.get("/info/")
	info := r.object(t)
	if diff := cmp.Diff([]string{"name", "description", "version", "labels", "models", "trainers", "strategies", "scoring", "train_stats", "datastore"}, info.Names()); diff != "" {
		t.Errorf("members (-want +got):\n%s", diff)
	}
	if strings.Contains(r.body, "null") || strings.Contains(r.body, "[]") {
		t.Errorf("nulls or empty lists in %s", r.body)
	}
	if !strings.Contains(r.body, `"labels":["spleen","aorta","liver"]`) || !strings.Contains(r.body, `"config":{"rate":1.0,"adapt":["on","off"]}`) {
		t.Errorf("info is %s", r.body)
	}
	if !strings.HasSuffix(r.body, `"datastore":{"total":3,"completed":2,"label_tags":{"final":2,"original":1,"v1":1}}}`) {
		t.Errorf("info is %s", r.body)
	}
	b = newBench(t, func(o *Options) { o.Service = noModels{o.Service} })
	if r := b.get("/info/"); !strings.Contains(r.body, `"labels":[],"models":{}`) {
		t.Errorf("info without models is %s", r.body)
	}
}

type noModels struct{ annotation.Service }

func (noModels) Models() []annotation.Model { return nil }

func TestTrap10CollectionTakesUploadsAndDeletes(t *testing.T) {
	b := newBench(t)
	for _, path := range []string{"/datastore/", "/datastore/image"} {
		b.want(b.put(path+"?image=3:+Thorax+B45f", params(`{"client_id":"user-xyz"}`), part{"file", "/tmp/slicer/tmpabc.nii.gz", "voxels"}), 200, `{"image":"3: Thorax B45f"}`)
		b.want(b.get("/datastore/image?image=3%3A+Thorax%20B45f"), 200, "voxels")
		if r := b.get("/datastore/image/info?image=3:+Thorax+B45f"); !strings.HasPrefix(r.body, `{"client_id":"user-xyz","user":"admin"`) {
			t.Errorf("info is %s", r.body)
		}
		b.want(b.do(http.MethodDelete, path+"?id=3:+Thorax+B45f", "", nil), 200, `{}`)
		b.want(b.get("/datastore/image?image=3:+Thorax+B45f"), 404, `{"detail":"Image NOT Found or is a directory"}`)
		b.want(b.do(http.MethodDelete, path+"?id=nope", "", nil), 404, "")
	}
	key := annotation.ImageKey{Source: annotation.Stored, ID: "3: Thorax B45f"}
	if diff := cmp.Diff([]annotation.ImageKey{key, key, key, key}, b.service.forgotten); diff != "" {
		t.Errorf("forgotten at uploads and deletes (-want +got):\n%s", diff)
	}
	b.want(b.put("/datastore/?image=x"), 422, `{"detail":[{"type":"missing","loc":["body","file"],"msg":"Field required","input":null}]}`)
	for _, id := range []string{"..%2Fx", "%2Fetc%2Fx", "a%5Cb", ".."} {
		if r := b.put("/datastore/?image="+id, part{"file", "x.nii.gz", "voxels"}); r.status != 400 {
			t.Errorf("id %s: %d %s", id, r.status, r.body)
		}
	}
}

func TestTrap11StoppingNothingIsNull(t *testing.T) {
	b := newBench(t)
	for path, name := range map[string]string{"/train/": "Train", "/scoring/": "Scoring", "/batch/infer": "Batch_infer"} {
		b.want(b.do(http.MethodDelete, path, "", nil), 200, `null`)
		b.want(b.get(path), 404, `{"detail":"No `+name+` Tasks Found"}`)
		b.want(b.get(path+"?check_if_running=true"), 404, `{"detail":"No `+name+` Tasks are currently Running"}`)
		b.want(b.get(path+"?check_if_running=perhaps"), 422, "")
	}
}

func TestTrap12BodiesAreOptional(t *testing.T) {
	b := newBench(t)
	contentType, body := urlencoded("params", `{"client_id":"a+b & c"}`)
	b.want(b.do(http.MethodPost, "/infer/scribbles?image=case_0", contentType, body), 200, "")
	if got := b.service.last(t); got.ClientID != "a+b & c" {
		t.Errorf("client id is %q", got.ClientID)
	}
	b.want(b.post("/infer/scribbles?image=case_0"), 200, "")
	if got := b.service.last(t); got.Label != nil || got.Params.Len() != 0 {
		t.Errorf("request without a body is %+v", got)
	}
	for _, path := range []string{"/activelearning/random", "/activelearning/first"} {
		b.want(b.post(path), 200, "")
	}
	b.want(b.do(http.MethodPost, "/activelearning/first", "application/json", []byte(`[1]`)), 422,
		`{"detail":[{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":[1]}]}`)
	b.want(b.put("/datastore/image/info?image=up1"), 200, `null`)
	contentType, body = urlencoded("info", `{"bar":2}`)
	b.want(b.do(http.MethodPut, "/datastore/label/info?label=up1&tag=v1", contentType, body), 200, `null`)
	b.want(b.put("/datastore/label/info?label=up1&tag=v1", part{name: "info", content: `{"baz":2}`}), 200, `null`)
	if r := b.get("/datastore/label/info?label=up1&tag=v1"); !strings.Contains(r.body, `"bar":2`) || !strings.Contains(r.body, `"baz":2`) {
		t.Errorf("info is %s", r.body)
	}
	b.want(b.post("/infer/scribbles?image=case_0", params(`{bad`)), 400, "")
}

func TestTrap13NamesOfFiles(t *testing.T) {
	b := newBench(t)
	if got := b.get("/datastore/label?label=case_0&tag=final").header.Get("Content-Disposition"); got != `attachment; filename="case_0.nii.gz"` {
		t.Errorf("content-disposition is %s", got)
	}
	for name, want := range map[string]string{`C:\Users\j\case 7.nrrd`: "case 7", `/tmp/x/my.vol.v2.nii.gz`: "my", "Größe.nii": "Größe"} {
		b.want(b.put("/datastore/", part{"file", name, "voxels"}), 200, `{"image":"`+want+`"}`)
	}
	r := b.get("/datastore/image?image=Gr%C3%B6%C3%9Fe")
	if got := r.header.Get("Content-Disposition"); got != `attachment; filename="Gr__e.nii"; filename*=utf-8''Gr%C3%B6%C3%9Fe.nii` {
		t.Errorf("content-disposition is %s", got)
	}
	for _, model := range []string{"Histogram%2BGraphCut", "Histogram+GraphCut"} {
		b.want(b.post("/infer/"+model+"?image=case_0"), 200, "")
		if got := b.service.last(t); got.Model != "Histogram+GraphCut" {
			t.Errorf("%s is model %q", model, got.Model)
		}
	}
	if r := b.post("/infer/a%252Fb?image=case_0"); r.status != 404 || !strings.Contains(r.body, `a%2Fb`) {
		t.Errorf("a name is decoded more than once: %s", r.body)
	}
}

func TestTrap14Sample(t *testing.T) {
	b := newBench(t)
	content := strings.Repeat("voxels ", 30)
	sum := sha256.Sum256([]byte(content))
	for i := range 2 {
		r := b.do(http.MethodPost, "/activelearning/random", "application/json", []byte(`{"client_id":"user-xyz"}`))
		sample := r.object(t)
		want := []string{"id", "weight", "path", "ts", "name", "checksum"}
		if i > 0 {
			want = []string{"id", "weight", "path", "ts", "name", "strategy", "checksum"}
		}
		if diff := cmp.Diff(want, sample.Names()); diff != "" {
			t.Errorf("members at call %d (-want +got):\n%s", i, diff)
		}
		if name, _ := sample.Text("name"); name != "case_1.nii.gz" {
			t.Errorf("name is %q", name)
		}
		if got, _ := sample.Text("checksum"); got != "SHA256:"+hex.EncodeToString(sum[:]) {
			t.Errorf("checksum is %q", got)
		}
		if i > 0 && !regexp.MustCompile(`"strategy":\{"random":\{"ts":\d+,"client_id":"user-xyz"\}\}`).MatchString(r.body) {
			t.Errorf("sample is %s", r.body)
		}
	}
	b.want(b.put("/datastore/label?image=case_1", part{"label", "x.nii.gz", "mask"}), 200, `{"image":"case_1","label":"case_1"}`)
	b.want(b.post("/activelearning/first"), 200, `{}`)
	b.want(b.post("/activelearning/nope"), 404, "")
}

// The Python client leaves the headers of an upload in its next GET, and sends no body.
func TestTrap15StaleContentLength(t *testing.T) {
	b := newBench(t)
	for _, request := range []string{"GET /info/", "DELETE /train/", "HEAD /datastore/image?image=case_0", "GET /nope", "GET /datastore/image?image=case_0"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(b.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nAccept-Encoding: identity\r\ncontent-type: multipart/form-data; boundary=x\r\ncontent-length: 1020\r\n\r\n", request); err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), strings.Fields(request)[0], "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(conn)
		res, err := http.ReadResponse(in, req)
		if err != nil {
			t.Fatalf("%s: %v", request, err)
		}
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Errorf("%s: %v", request, err)
		}
		if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the connection stays open: %v", request, err)
		}
		if err := errors.Join(res.Body.Close(), conn.Close()); err != nil {
			t.Error(err)
		}
	}
}

func TestTrap16ThreeNamesForAnID(t *testing.T) {
	b := newBench(t)
	b.want(b.do(http.MethodHead, "/datastore/label?image=case_0&tag=final", "", nil), 200, "")
	b.want(b.do(http.MethodHead, "/datastore/label?image=case_1&tag=final", "", nil), 404, "")
	b.want(b.get("/datastore/label?label=case_0&tag=final"), 200, "")
	b.want(b.get("/datastore/label?image=case_0&tag=final"), 422, `{"detail":[{"type":"missing","loc":["query","label"],"msg":"Field required","input":null}]}`)
	b.want(b.do(http.MethodDelete, "/datastore/label?id=up1", "", nil), 422, "")
	b.want(b.do(http.MethodDelete, "/datastore/label?id=up1&tag=v1", "", nil), 200, `{}`)
	b.want(b.do(http.MethodDelete, "/datastore/label?id=up1&tag=v1", "", nil), 200, `{}`)
	b.want(b.get("/datastore/label?label=up1&tag=v1"), 404, `{"detail":"Label NOT Found or is a directory"}`)
	r := b.do(http.MethodHead, "/datastore/image?image=case_0", "", nil)
	if r.status != 200 || r.header.Get("Content-Length") != "2" || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("HEAD of an image: %d %v", r.status, r.header)
	}
	sum := sha256.Sum256([]byte(strings.Repeat("voxels ", 30)))
	for check, status := range map[string]int{
		hex.EncodeToString(sum[:]): 200, "SHA256:" + hex.EncodeToString(sum[:]): 200, "sha256:" + strings.ToUpper(hex.EncodeToString(sum[:])): 200,
		"MD5:00": 404, "SHA512:00": 404, "00": 404, "CRC:00": 400,
	} {
		b.want(b.do(http.MethodHead, "/datastore/image?image=case_0&check_sum="+check, "", nil), status, "")
	}
}

func TestTrap17InfosAnswerNull(t *testing.T) {
	b := newBench(t)
	contentType, body := urlencoded("params", `{"segmentationMeta":{"status":"approved"}}`)
	b.want(b.do(http.MethodPut, "/datastore/updatelabelinfo?label=up1&tag=v1", contentType, body), 200, `null`)
	if r := b.get("/datastore/label/info?label=up1&tag=v1"); !strings.Contains(r.body, `"segmentationMeta":{"status":"approved"}`) {
		t.Errorf("info is %s", r.body)
	}
	b.want(b.put("/datastore/image/info?image=up1", part{name: "info", content: `{"foo":1}`}), 200, `null`)
	if r := b.get("/datastore/image/info?image=up1"); !regexp.MustCompile(`"foo":1,"user":"admin","path":".*up1.nii.gz"}$`).MatchString(r.body) {
		t.Errorf("info is %s", r.body)
	}
	b.want(b.put("/datastore/image/info?image=nope"), 404, "")
	b.want(b.put("/datastore/label/info?label=up1&tag=zzz"), 404, "")
	b.want(b.get("/datastore/image/info?image=nope"), 200, `{}`)
	b.want(b.get("/datastore/label/info?label=nope&tag=final"), 200, `{}`)
}

// What one request changes the next one sees, and tags are whatever clients make up.
func TestTrap18ChangesAreSeenAtOnce(t *testing.T) {
	b := newBench(t)
	b.want(b.put("/datastore/label?image=case_1&tag=version_2", params(`{"label_info":[{"name":"spleen","idx":1}],"model":"m","client_id":"c"}`),
		part{"label", `C:\x\case_1.nrrd`, "mask"}), 200, `{"image":"case_1","label":"case_1"}`)
	b.want(b.get("/datastore/label?label=case_1&tag=version_2"), 200, "mask")
	if r := b.get("/datastore/?output=all"); !strings.Contains(r.body, `"version_2":{"ext":".nrrd","info":{"label_info":[{"name":"spleen","idx":1}],"model":"m","client_id":"c"`) {
		t.Errorf("index is %s", r.body)
	}
	b.want(b.put("/datastore/label?image=case_1&tag=", part{"label", "x.nii.gz", "mask"}), 200, "")
	b.want(b.get("/datastore/"), 200, `{"total":3,"completed":3,"label_tags":{"final":3,"original":1,"v1":1,"version_2":1}}`)
	if n := len(b.service.submitted); n != 2 || b.service.submitted[0].Tag != "version_2" || b.service.submitted[1].Tag != "final" {
		t.Errorf("submissions are %+v", b.service.submitted)
	}
	if m, err := b.service.submitted[1].Open(t.Context()); err != nil || len(m.Labels) != 24 {
		t.Errorf("submitted label reads as %v, %v", m, err)
	}
	b.want(b.put("/datastore/label?image=nope", part{"label", "x.nii.gz", "mask"}), 404, "")
	b.want(b.put("/datastore/label?image=case_1"), 422, "")
}

func TestTrap19RawMasks(t *testing.T) {
	b := newBench(t)
	one := make([]byte, 24)
	one[5] = 7
	two := make([]byte, 48)
	two[10], two[11] = 7, 1
	for _, c := range []struct {
		bytes []byte
		label uint16
	}{{one, 7}, {two, 263}} {
		b.want(b.post("/infer/scribbles?image=case_0&output=image", params(`{}`), part{"label", "label.bin", string(c.bytes)}), 200, "")
		got := b.service.last(t).Label
		if got == nil || got.Geometry != grid || got.Labels[5] != c.label || slices.Max(got.Labels) != c.label {
			t.Errorf("%d bytes give %v", len(c.bytes), got)
		}
	}
	if r := b.post("/infer/scribbles?image=case_0", part{"label", "label.bin", "short"}); r.status != 400 || !strings.Contains(r.body, "want 24 (uint8) or 48 (uint16)") {
		t.Errorf("a mask of the wrong length: %d %s", r.status, r.body)
	}
	b.want(b.put("/datastore/label?image=case_1", part{"label", "label.bin", string(two)}), 200, "")
	if m, err := b.service.submitted[0].Open(t.Context()); err != nil || m.Labels[5] != 263 {
		t.Errorf("submitted raw label reads as %v, %v", m, err)
	}
}

// decodeJSON keeps the compiler honest about what is text and what is JSON.
func decodeJSON(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%.200q: %v", text, err)
	}
	return v
}

// requirePeer skips loudly when something a test needs is not there, and fails when it must be.
func requirePeer(t *testing.T, message string) {
	t.Helper()
	if os.Getenv("SCRAWL_REQUIRE") == "1" && os.Getenv("SCRAWL_SHARED") != "" {
		t.Fatal(message)
	}
	t.Skip("SKIPPED: " + message)
}

func FuzzParams(f *testing.F) {
	f.Add(`{"label_info":[{"name":"spleen","id":1}],"foreground":[[1,2,3]],"roi":[1,2,3,4,5,6],"label":"liver","liver":[[1,2,3.5]],"result_dtype":"uint8"}`)
	f.Add(`{"roi":[1e308,-1e308,0,0,0,0],"label_info":[null,{"id":"7","name":[]}],"device":[],"background":[[[]]]}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := api.DecodeObject([]byte(text))
		if err != nil {
			return
		}
		req := &annotation.Request{Params: p}
		readInteraction(req, annotation.Model{Labels: []annotation.Segment{{Name: "liver", ID: 1}}})
		if req.ROI != nil {
			for a := range 3 {
				if req.ROI.Min[a] > req.ROI.Max[a] {
					t.Fatalf("roi %v is inverted", req.ROI)
				}
			}
		}
		for _, s := range req.LabelInfo {
			if s.ID < 0 || s.ID > 65535 {
				t.Fatalf("label %v has no place in a label map", s)
			}
		}
		s := &Server{o: Options{Codec: fakeCodec{}}}
		call := &inferCall{req: req}
		if err := s.readResultParams(call); err == nil && !(fakeCodec{}).Writable(call.ext) {
			t.Fatalf("extension %q is taken", call.ext)
		}
	})
}
