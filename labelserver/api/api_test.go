package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestEncode(t *testing.T) {
	for _, c := range []struct {
		value           any
		compact, python string
	}{
		{NewObject(), `{}`, `{}`},
		{(*Object)(nil), `{}`, `{}`},
		{nil, `null`, `null`},
		{NewObject("b", 1, "a", 1.0), `{"b":1,"a":1.0}`, `{"b": 1, "a": 1.0}`},
		{[]any{0.1, 1e-05, 1e16, 2.5e+22, math.Copysign(0, -1), 100.0, float32(0.1)}, `[0.1,1e-05,1e+16,2.5e+22,-0.0,100.0,0.1]`, `[0.1, 1e-05, 1e+16, 2.5e+22, -0.0, 100.0, 0.1]`},
		{json.Number("1.0"), `1.0`, `1.0`},
		{"Käse <&> \"q\" \\ \n\x01", `"Käse <&> \"q\" \\ \n\u0001"`, `"K\u00e4se <&> \"q\" \\ \n\u0001"`},
		{"😀", `"😀"`, `"\ud83d\ude00"`},
		{[]string{"cpu"}, `["cpu"]`, `["cpu"]`},
		{[]*Object{NewObject("x", true)}, `[{"x":true}]`, `[{"x": true}]`},
	} {
		if got, err := Encode(c.value); err != nil || string(got) != c.compact {
			t.Errorf("Encode(%v) = %s, %v, want %s", c.value, got, err, c.compact)
		}
		if got, err := EncodePython(c.value); err != nil || string(got) != c.python {
			t.Errorf("EncodePython(%v) = %s, %v, want %s", c.value, got, err, c.python)
		}
	}
	zero := 0.0
	for _, bad := range []any{1 / zero, zero / zero, json.Number("01"), json.Number("x"), struct{}{}, NewObject("a", []any{func() {}})} {
		if got, err := Encode(bad); err == nil {
			t.Errorf("Encode(%v) = %s, want an error", bad, got)
		}
	}
}

func TestObjectKeepsOrder(t *testing.T) {
	text := `{"z":1,"a":{"y":1.0,"b":[1.50,null,true]},"m":"x"}`
	o, err := DecodeObject([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Encode(o); err != nil || string(got) != text {
		t.Errorf("read and written: %s, %v, want %s", got, err, text)
	}
	o.Delete("a")
	o.Set("z", 2)
	o.Set("new", false)
	if got, err := Encode(o); err != nil || string(got) != `{"z":2,"m":"x","new":false}` {
		t.Errorf("after changes: %s, %v", got, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, text := range []string{
		``, `[]`, `null`, `1`, `{`, `{"a"}`, `{"a":}`, `{"a":1}x`, `{"a":1} {}`, `{bad`, `{'a':1}`, `{"a":NaN}`, "{\"a\":\"\xff\"}",
		strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 100), `{"a":[1,}`, `{"a":[1}`,
	} {
		if o, err := DecodeObject([]byte(text)); err == nil {
			t.Errorf("DecodeObject(%.40q) = %v, want an error", text, o.Names())
		}
	}
}

func TestAccessors(t *testing.T) {
	o, err := DecodeObject([]byte(`{"device":["cuda:1","cpu"],"s":"x","n":"2.5","f":1e3,"t":"True","one":1,"empty":[],"o":{"k":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := o.Text("device"); !ok || s != "cuda:1" {
		t.Errorf("Text of a list is %q, %v", s, ok)
	}
	if _, ok := o.Text("empty"); ok {
		t.Error("an empty list has a text")
	}
	for name, want := range map[string]float64{"n": 2.5, "f": 1000, "one": 1} {
		if n, ok := o.Number(name); !ok || n != want {
			t.Errorf("Number(%s) = %v, %v", name, n, ok)
		}
	}
	for _, name := range []string{"t", "one"} {
		if b, ok := o.Bool(name); !ok || !b {
			t.Errorf("Bool(%s) = %v, %v", name, b, ok)
		}
	}
	if child, ok := o.Object("o"); !ok || child.Len() != 1 {
		t.Errorf("Object(o) = %v, %v", child, ok)
	}
	var none *Object
	if none.Has("x") || none.Len() != 0 || len(none.Names()) != 0 {
		t.Error("a nil object is not empty")
	}
}

func TestObjectRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := &Object{}
		for _, name := range rapid.SliceOf(rapid.String()).Draw(t, "names") {
			o.Set(strings.ToValidUTF8(name, "?"), rapid.Float64Range(-1e300, 1e300).Draw(t, "value"))
		}
		for _, encode := range []func(any) ([]byte, error){Encode, EncodePython} {
			text, err := encode(o)
			if err != nil {
				t.Fatal(err)
			}
			back, err := DecodeObject(text)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if fmt.Sprint(back.Names()) != fmt.Sprint(o.Names()) {
				t.Fatalf("names %q became %q", o.Names(), back.Names())
			}
			for name, value := range o.All() {
				if got, _ := back.Number(name); got != value {
					t.Fatalf("%q: %v became %v", name, value, got)
				}
			}
		}
	})
}

func FuzzDecodeObject(f *testing.F) {
	f.Add([]byte(`{"label_info": [{"name": "spleen", "id": 1}], "roi": [], "sigma": 0.10, "x": "\ud83d\ude00"}`))
	f.Add([]byte(`{"a":{"a":{"a":[[[[{}]]]]}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		o, err := DecodeObject(text)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatalf("took %q, which is not JSON", text)
		}
		written, err := EncodePython(o)
		if err != nil {
			t.Fatalf("%q does not write: %v", text, err)
		}
		back, err := DecodeObject(written)
		if err != nil {
			t.Fatalf("%q does not read back: %v", written, err)
		}
		if again, err := EncodePython(back); err != nil || !bytes.Equal(again, written) {
			t.Fatalf("%q became %q, %v", written, again, err)
		}
	})
}

func TestNames(t *testing.T) {
	for _, c := range []struct{ name, base, ext, stem string }{
		{"x.nii.gz", "x.nii.gz", ".nii.gz", "x"},
		{"a.b.nii.gz", "a.b.nii.gz", ".b.nii.gz", "a"},
		{"/tmp/slicer 5.8/tmpabc.nii.gz", "tmpabc.nii.gz", ".nii.gz", "tmpabc"},
		{`C:\Users\j.doe\scan 1.nrrd`, "scan 1.nrrd", ".nrrd", "scan 1"},
		{".hidden", ".hidden", "", ".hidden"},
		{"noext", "noext", "", "noext"},
		{"trailing.", "trailing.", "", "trailing."},
		{"..", "", "", ""},
		{"a/..", "", "", ""},
		{"dir/", "", "", ""},
	} {
		if base, ext, stem := BaseName(c.name), Ext(c.name), Stem(c.name); base != c.base || ext != c.ext || stem != c.stem {
			t.Errorf("%q: base %q, ext %q, stem %q, want %q, %q, %q", c.name, base, ext, stem, c.base, c.ext, c.stem)
		}
	}
	for in, want := range map[string]string{".nrrd": ".nrrd", "nii.gz": ".nii.gz", ".seg.nrrd": ".seg.nrrd"} {
		if got, err := CheckResultExt(in); err != nil || got != want {
			t.Errorf("CheckResultExt(%q) = %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", ".", "../x", ".n/d", `.n\d`, ".n\"d", ".nrrd\r\n", "..nrrd", ".ä"} {
		if got, err := CheckResultExt(in); err == nil {
			t.Errorf("CheckResultExt(%q) = %q, want an error", in, got)
		}
	}
}

func TestContentDisposition(t *testing.T) {
	for name, want := range map[string]string{
		"case_0.nii.gz":  `attachment; filename="case_0.nii.gz"`,
		"a b.nii":        `attachment; filename="a b.nii"`,
		"a\"b\\\r\n.nii": `attachment; filename="a_b___.nii"`,
		"Größe 1.nrrd":   `attachment; filename="Gr__e 1.nrrd"; filename*=utf-8''Gr%C3%B6%C3%9Fe%201.nrrd`,
	} {
		if got := ContentDisposition(name); got != want {
			t.Errorf("ContentDisposition(%q) = %s, want %s", name, got, want)
		}
	}
}

func TestInferAnswerLayout(t *testing.T) {
	a, err := NewInferAnswer(NewObject("label_names", NewObject("Leber ä", 1), "latencies", NewObject("total", 1.0)), "tmpx.nrrd", []byte("NRRD\r\n--"))
	if err != nil {
		t.Fatal(err)
	}
	boundary, ok := strings.CutPrefix(a.ContentType(), "multipart/form-data; boundary=")
	if !ok || len(boundary) != 32 || strings.Trim(boundary, "0123456789abcdef") != "" {
		t.Errorf("content type is %s, want 32 hex characters as an unquoted boundary", a.ContentType())
	}
	var b bytes.Buffer
	if n, err := a.WriteTo(&b); err != nil || n != int64(a.Len()) || b.Len() != a.Len() {
		t.Errorf("wrote %d, %v, announced %d", n, err, a.Len())
	}
	want := strings.ReplaceAll(strings.ReplaceAll(`--B
Content-Disposition: form-data; name="params"
Content-Type: application/json

{"label_names": {"Leber \u00e4": 1}, "latencies": {"total": 1.0}}
--B
Content-Disposition: form-data; name="image"; filename="tmpx.nrrd"
Content-Type: application/octet-stream

NRRD`+"\r\n--"+`
--B--
`, "\r\n", "\x00"), "\n", "\r\n")
	want = strings.ReplaceAll(strings.ReplaceAll(want, "\x00", "\r\n"), "--B", "--"+boundary)
	if b.String() != want {
		t.Errorf("got\n%q\nwant\n%q", b.String(), want)
	}
}

var limits = FormLimits{Bytes: 1 << 20, FieldBytes: 1 << 10, Parts: 10}

func formRequest(contentType, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

func multipartBody(t testing.TB, build func(w *multipart.Writer) error) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := errors.Join(w.SetBoundary("----------lImIt_of_THE_fIle_eW_$"), build(w), w.Close()); err != nil {
		// The client's boundary holds a character the standard library's writer refuses: write with another and replace it.
		b.Reset()
		w = multipart.NewWriter(&b)
		if err := errors.Join(build(w), w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	const boundary = "----------lImIt_of_THE_fIle_eW_$"
	return "multipart/form-data; boundary=" + boundary, strings.ReplaceAll(b.String(), w.Boundary(), boundary)
}

func TestReadForm(t *testing.T) {
	contentType, body := multipartBody(t, func(w *multipart.Writer) error {
		field := w.WriteField("params", `{"a": 1.0}`)
		part, err := w.CreatePart(map[string][]string{"Content-Disposition": {`form-data; name="label"; filename="C:\Users\x\mask 1.nii.gz"`}})
		if err != nil {
			return err
		}
		if _, err := part.Write([]byte("voxels")); err != nil {
			return err
		}
		unnamed := w.WriteField("file", "image")
		part, err = w.CreatePart(map[string][]string{"Content-Disposition": {`form-data; name="files"; filename*=utf-8''Gr%C3%B6%C3%9Fe.nrrd`}})
		if err != nil {
			return err
		}
		_, err = part.Write([]byte("x"))
		return errors.Join(field, unnamed, err)
	})
	dir := t.TempDir()
	f, err := ReadForm(formRequest(contentType, body), dir, limits)
	if err != nil {
		t.Fatal(err)
	}
	params, err := f.Object("params")
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := Encode(params); string(text) != `{"a":1.0}` {
		t.Errorf("params are %s", text)
	}
	label := f.File("label")
	if label == nil || label.Name != "mask 1.nii.gz" || label.Ext != ".nii.gz" || label.Size != 6 {
		t.Fatalf("label is %+v", label)
	}
	if content, err := os.ReadFile(label.Path); err != nil || string(content) != "voxels" {
		t.Errorf("label holds %q, %v", content, err)
	}
	if file := f.File("file"); file == nil || file.Name != "" || file.Ext != ".nii.gz" {
		t.Errorf("file without a name is %+v", file)
	}
	if files := f.Files("files"); len(files) != 1 || files[0].Name != "Größe.nrrd" {
		t.Errorf("files are %+v", files)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v are left behind", left, err)
	}
}

func TestReadFormOtherBodies(t *testing.T) {
	f, err := ReadForm(formRequest("application/x-www-form-urlencoded", url.Values{"params": {`{"ä": "+ &"}`}}.Encode()), "", limits)
	if err != nil {
		t.Fatal(err)
	}
	if params, err := f.Object("params"); err != nil || !params.Has("ä") {
		t.Errorf("urlencoded params are %v, %v", params, err)
	}
	for name, r := range map[string]*http.Request{
		"none": httptest.NewRequest(http.MethodPost, "/", nil), "json": formRequest("application/json", `{"a":1}`), "no type": formRequest("", "x"),
	} {
		f, err := ReadForm(r, "", limits)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if params, err := f.Object("params"); err != nil || params.Len() != 0 || f.File("file") != nil {
			t.Errorf("%s: not an empty form: %v, %v", name, params, err)
		}
	}
}

func TestReadFormRefuses(t *testing.T) {
	dir := t.TempDir()
	big := func(name, fileName string, n int) (string, string) {
		return multipartBody(t, func(w *multipart.Writer) error {
			part, err := w.CreateFormFile(name, fileName)
			if err != nil {
				return err
			}
			_, err = part.Write(make([]byte, n))
			return err
		})
	}
	many := func() (string, string) {
		return multipartBody(t, func(w *multipart.Writer) error {
			var err error
			for range 11 {
				err = errors.Join(err, w.WriteField("x", "y"))
			}
			return err
		})
	}
	bigType, bigBody := big("file", "x.nii", 2<<20)
	fieldType, fieldBody := big("params", "x", 2<<10)
	manyType, manyBody := many()
	goodType, goodBody := big("file", "x.nii", 100)
	for name, c := range map[string]struct {
		contentType, body string
		status            int
	}{
		"too large":      {bigType, bigBody, 413},
		"large field":    {fieldType, fieldBody, 413},
		"many parts":     {manyType, manyBody, 413},
		"cut off":        {goodType, goodBody[:len(goodBody)-60], 400},
		"no boundary":    {"multipart/form-data", goodBody, 400},
		"bad type":       {"multipart/form-data; boundary=\"", goodBody, 400},
		"not multipart":  {goodType, "nonsense", 400},
		"bad urlencoded": {"application/x-www-form-urlencoded", "params=%zz", 400},
	} {
		_, err := ReadForm(formRequest(c.contentType, c.body), dir, limits)
		var e *Error
		if !errors.As(err, &e) || e.Status != c.status {
			t.Errorf("%s gives %v, want status %d", name, err, c.status)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v are left behind", left, err)
	}
}

func FuzzReadForm(f *testing.F) {
	contentType, body := multipartBody(f, func(w *multipart.Writer) error {
		part, err := w.CreateFormFile("label", "/tmp/x.nii.gz")
		if err != nil {
			return err
		}
		_, err = part.Write([]byte("voxels"))
		return errors.Join(err, w.WriteField("params", "{}"))
	})
	f.Add(contentType, body)
	f.Add("application/x-www-form-urlencoded", "params=%7B%7D")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		form, err := ReadForm(formRequest(contentType, body), "", limits)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Status < 400 || e.Status >= 500 {
				t.Fatalf("error is %v, want a client's error", err)
			}
			return
		}
		for _, field := range []string{"label", "file", "files"} {
			for _, file := range form.Files(field) {
				if strings.ContainsAny(file.Name, `/\`) || file.Name == ".." {
					t.Fatalf("file name %q leads elsewhere", file.Name)
				}
			}
		}
		if _, err := form.Object("params"); err != nil && !errors.As(err, new(*Error)) {
			t.Fatal(err)
		}
		if err := form.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestViolations(t *testing.T) {
	for _, c := range []struct {
		err  *Error
		want string
	}{
		{BadEnum(InQuery, "output", "nope", "train", "stats", "all"),
			`{"detail":[{"type":"enum","loc":["query","output"],"msg":"Input should be 'train', 'stats' or 'all'","input":"nope","ctx":{"expected":"'train', 'stats' or 'all'"}}]}`},
		{Missing(InQuery, "image"), `{"detail":[{"type":"missing","loc":["query","image"],"msg":"Field required","input":null}]}`},
		{NotObject([]any{json.Number("1")}), `{"detail":[{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":[1]}]}`},
		{Errorf(404, "No %s", "x"), `{"detail":"No x"}`},
	} {
		if got, err := Encode(c.err.Body()); err != nil || string(got) != c.want {
			t.Errorf("got %s, %v, want %s", got, err, c.want)
		}
	}
	for _, text := range []string{"", " ", "null", "{}"} {
		if o, err := DecodeBody([]byte(text)); err != nil || o.Len() != 0 {
			t.Errorf("body %q gives %v, %v", text, o, err)
		}
	}
	for _, text := range []string{"[1]", "{", "1"} {
		if _, err := DecodeBody([]byte(text)); err == nil || err.Status != 422 {
			t.Errorf("body %q gives %v, want 422", text, err)
		}
	}
}

func TestTask(t *testing.T) {
	task := &Task{ID: "x", Status: TaskSubmitted, Start: time.Date(2026, 11, 23, 9, 29, 21, 0, time.Local)}
	if got, _ := Encode(task.Object()); string(got) != `{"id":"x","status":"SUBMITTED","request":{},"start_ts":"2026-11-23 09:29:21"}` {
		t.Errorf("submitted: %s", got)
	}
	task.Status, task.End = TaskStopped, task.Start.Add(time.Second)
	if got, _ := Encode(task.Object()); !strings.HasSuffix(string(got), `"details":["no output yet"],"end_ts":"2026-11-23 09:29:22"}`) {
		t.Errorf("stopped: %s", got)
	}
	task.Details = strings.Split(strings.Repeat("x", 30), "")
	details, _ := task.Object().Get("details")
	if lines, _ := details.([]string); len(lines) != 20 {
		t.Errorf("%d lines of details, want the last 20", len(lines))
	}
}

func TestMIMEOfAnswerParses(t *testing.T) {
	a, err := NewInferAnswer(NewObject(), "tmpx.nrrd", []byte("bytes"))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(a.ContentType())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := a.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	form, err := multipart.NewReader(&b, params["boundary"]).ReadForm(1 << 20)
	if err != nil || form.Value["params"][0] != "{}" || form.File["image"][0].Filename != "tmpx.nrrd" {
		t.Errorf("answer reads as %+v, %v", form, err)
	}
}
