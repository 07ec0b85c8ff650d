package labelserver

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"scrawl/adapters/format"
	"scrawl/adapters/volume"
)

// form is an infer request under construction.
type form struct {
	params string
	files  map[string]upload
}

type upload struct {
	name string
	data []byte
}

// encode makes the body of a request.
func (f form) encode(t *testing.T) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if f.params != "" {
		if err := w.WriteField("params", f.params); err != nil {
			t.Fatal(err)
		}
	}
	for field, u := range f.files {
		part, err := w.CreateFormFile(field, u.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Write(u.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.Bytes()
}

// sendForm sends a form to an address, or nothing where the form is empty.
func sendForm(t *testing.T, method, address string, f form) (int, http.Header, []byte) {
	t.Helper()
	contentType, body := "", []byte(nil)
	if f.params != "" || len(f.files) > 0 {
		contentType, body = f.encode(t)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
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

func post(t *testing.T, address string, f form) (int, http.Header, []byte) {
	t.Helper()
	return sendForm(t, http.MethodPost, address, f)
}

func labelBytes(t *testing.T, m *volume.LabelMap) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := format.EncodeLabels("x.nii.gz", &b, m, format.Options{DType: "uint8", Compress: true}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bomb is a .nii.gz of a few kilobytes whose header declares 100 GB of voxels.
func bomb(t *testing.T) []byte {
	t.Helper()
	header := make([]byte, 352)
	binary.LittleEndian.PutUint32(header, 348)
	for i, v := range []uint16{3, 5000, 5000, 4000} {
		binary.LittleEndian.PutUint16(header[40+2*i:], v)
	}
	binary.LittleEndian.PutUint16(header[70:], 2) // uint8
	binary.LittleEndian.PutUint16(header[72:], 8)
	binary.LittleEndian.PutUint32(header[108:], 0x43b00000) // vox_offset 352
	copy(header[344:], "n+1\x00")
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(header); err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const scribbleParams = `{"label_info":` + labelInfo + `,"selected_label_name":"liver","client_id":"bad","result_extension":".nrrd","result_dtype":"uint8"}`

// Bad input gets an error that says what is wrong, or a sensible answer; the server lives on, and says so in the end.
func TestBadInput(t *testing.T) {
	address, image := startServer(t)
	g := image.Geometry
	good := labelBytes(t, layers(g, line([3]int{10, 12, 4}, 0, 6), line([3]int{2, 3, 4}, 0, 5)))
	other := volume.New([3]int{40, 32, 8}, g.Spacing)
	shifted := g
	shifted.Origin[0] += 30
	mask := func(data []byte) map[string]upload { return map[string]upload{"label": {"m.nii.gz", data}} }
	const infer = "/infer/scribbles?image=case_0"
	for _, c := range []struct {
		name, path string
		form       form
		status     int
		says       string // part of the error's detail
	}{
		{"unknown model", "/infer/nothing?image=case_0", form{scribbleParams, mask(good)}, 404, "nothing"},
		{"unknown image", "/infer/scribbles?image=nobody", form{scribbleParams, mask(good)}, 404, "nobody"},
		{"image outside the folder", "/infer/scribbles?image=" + url.QueryEscape("../../etc/passwd"), form{scribbleParams, mask(good)}, 400, ""},
		{"params that are no JSON", infer, form{`{"label_info":`, mask(good)}, 400, "params"},
		{"params that are a list", infer, form{`[1,2]`, mask(good)}, 400, "params"},
		{"an option nobody knows", infer, form{strings.Replace(scribbleParams, "{", `{"profile":"magic",`, 1), mask(good)}, 400, "hindsight"},
		{"a mask of another size", infer, form{scribbleParams, mask(labelBytes(t, layers(other, nil, nil)))}, 400, "grid"},
		{"a mask somewhere else", infer, form{scribbleParams, mask(labelBytes(t, layers(shifted, nil, nil)))}, 400, "grid"},
		{"half a .nii.gz", infer, form{scribbleParams, mask(good[:len(good)/2])}, 400, ""},
		{"no .nii.gz at all", infer, form{scribbleParams, mask([]byte("hello"))}, 400, ""},
		{"a bomb as mask", infer, form{scribbleParams, mask(bomb(t))}, 0, ""},
		{"a bomb as image", "/infer/scribbles", form{scribbleParams, map[string]upload{"file": {"b.nii.gz", bomb(t)}}}, 0, ""},
		{"nothing at all", "/infer/scribbles", form{}, 500, "Neither Image nor File not Session ID"},
		{"a result type nobody knows", infer, form{strings.Replace(scribbleParams, `"uint8"`, `"complex64"`, 1), mask(good)}, 400, "complex64"},
		{"a roi outside", infer, form{strings.Replace(scribbleParams, "{", `{"roi":[300,500,25,500,8,90],`, 1), mask(good)}, 400, "overlaps"},
		{"a roi of five numbers", infer, form{strings.Replace(scribbleParams, "{", `{"roi":[3,5,25,50,8],`, 1), mask(good)}, 400, "six numbers"},
		{"clicks outside", infer, form{`{"foreground":[[-5,12,400]],"background":[[9999,0,0]],"label":"liver"}`, nil}, 400, "(0,0,0) to [39 31 8]"},
		{"a bad segment number", infer, form{strings.Replace(scribbleParams, `"id":3`, `"id":-3`, 1), mask(good)}, 400, "foreground_scribbles"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, _, body := post(t, address+c.path, c.form)
			if status == http.StatusOK {
				t.Fatalf("accepted with %d bytes", len(body))
			}
			if c.status != 0 && status != c.status {
				t.Errorf("status %d, want %d: %s", status, c.status, body)
			}
			var e struct{ Detail any }
			if err := json.Unmarshal(body, &e); err != nil || e.Detail == nil {
				t.Fatalf("answer %q has no detail", body)
			}
			text, _ := e.Detail.(string)
			if len(text) < 8 && c.says == "" {
				t.Errorf("detail %q says too little", text)
			}
			if !strings.Contains(text, c.says) {
				t.Errorf("detail %q does not speak of %q", text, c.says)
			}
		})
	}
	status, _, _ := post(t, address+infer, form{scribbleParams, mask(good)})
	if status != http.StatusOK {
		t.Errorf("after all that a good request gets %d", status)
	}
}

// Odd but legal input gets a full-size answer.
func TestOddInput(t *testing.T) {
	address, image := startServer(t)
	g := image.Geometry
	foreground, background := line([3]int{10, 12, 4}, 0, 6), line([3]int{2, 3, 4}, 0, 5)
	with := func(m *volume.LabelMap) map[string]upload {
		return map[string]upload{"label": {`C:\Users\me\m.nii.gz`, labelBytes(t, m)}}
	}
	option := func(text string) string { return strings.Replace(scribbleParams, "{", "{"+text+",", 1) }
	for _, c := range []struct {
		name   string
		params string
		files  map[string]upload
		empty  bool // whether the answer must hold nothing
	}{
		{"no scribbles", option(`"profile":"frozen"`), with(layers(g, nil, nil)), true},
		{"no label at all", option(`"x":1`), nil, true},
		{"foreground only", option(`"x":2`), with(layers(g, foreground, nil)), false},
		{"background only", option(`"x":3`), with(layers(g, nil, background)), false},
		{"a roi drawn the wrong way round", option(`"roi":[30,5,25,5,8,0]`), with(layers(g, foreground, background)), false},
		{"clicks", `{"foreground":[[10,12,4]],"background":[],"label":"liver"}`, nil, false},
		{"a roi that reaches outside", option(`"roi":[5,500,-7,500,-1,90]`), with(layers(g, foreground, background)), false},
		{"a click outside", `{"foreground":[[10,12,4]],"background":[[9999,0,0]],"label":"liver"}`, nil, false},
		{"each result type", option(`"result_dtype":"uint16"`), with(layers(g, foreground, background)), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			params := c.params
			if strings.Contains(params, `"result_dtype":"uint16"`) {
				params = strings.Replace(params, `"result_dtype":"uint8"`, `"x":0`, 1)
			}
			if !strings.Contains(params, "result_extension") {
				params = strings.Replace(params, "{", `{"result_extension":".nrrd",`, 1)
			}
			params = strings.Replace(params, `"client_id":"bad"`, `"client_id":"`+c.name+`"`, 1)
			status, _, body := post(t, address+"/infer/scribbles?image=case_0&output=image", form{params, c.files})
			if status != http.StatusOK {
				t.Fatalf("status %d: %s", status, body)
			}
			m, err := format.DecodeLabels("x.nrrd", bytes.NewReader(body), volume.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			if err := m.SameGrid(g); err != nil {
				t.Error(err)
			}
			if has := slices.Max(m.Labels) > 0; c.empty && has {
				t.Error("the answer is not empty")
			}
			if slices.Max(m.Labels) > 1 {
				t.Error("the answer holds labels other than 0 and 1")
			}
		})
	}
}
