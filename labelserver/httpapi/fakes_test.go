package httpapi

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/config"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/obs"
	"scrawl/labelserver/session"
)

// grid is the one geometry of the tests: 4×3×2 voxels.
var grid = volume.Geometry{
	Size: [3]int{4, 3, 2}, Origin: [3]float64{-30, -40, -20}, Spacing: [3]float64{1.5, 1.5, 3},
	Direction: [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
}

// fakeCodec knows NRRD just as far as the tests need, and takes every file but those that say "not an image" for an image.
type fakeCodec struct{}

func (fakeCodec) Decode(_ string, r io.Reader) (*volume.Volume, error) {
	content, err := io.ReadAll(r)
	if err != nil || strings.Contains(string(content), "not an image") {
		return nil, fmt.Errorf("bytes are no image: %w", errors.Join(err, io.ErrUnexpectedEOF))
	}
	return &volume.Volume{Geometry: grid, Voxels: make([]float32, 24)}, nil
}

func (c fakeCodec) DecodeLabels(name string, r io.Reader) (*volume.LabelMap, error) {
	if _, err := c.Decode(name, r); err != nil {
		return nil, err
	}
	return &volume.LabelMap{Geometry: grid, Labels: make([]uint16, 24)}, nil
}

func (fakeCodec) Writable(ext string) bool {
	return slices.Contains([]string{".nrrd", ".seg.nrrd", ".nii.gz", ".nii"}, ext)
}

func (fakeCodec) EncodeLabels(name string, w io.Writer, m *volume.LabelMap, dtype string, compress bool) error {
	types := map[string]string{"uint8": "unsigned char", "uint16": "unsigned short"}
	if types[dtype] == "" {
		return fmt.Errorf("no type %s", dtype)
	}
	encoding, endian := "raw", ""
	if compress {
		encoding = "gzip"
	}
	if dtype == "uint16" {
		endian = "endian: little\n"
	}
	var data bytes.Buffer
	for _, label := range m.Labels {
		if dtype == "uint8" && label > 255 {
			return errors.New("label does not fit uint8")
		}
		b := binary.LittleEndian.AppendUint16(nil, label)
		if dtype == "uint8" {
			b = b[:1]
		}
		data.Write(b)
	}
	if _, err := fmt.Fprintf(w, "NRRD0004\ntype: %s\ndimension: 3\nsizes: 4 3 2\n%sencoding: %s\n\n", types[dtype], endian, encoding); err != nil {
		return err
	}
	if !compress {
		_, err := w.Write(data.Bytes())
		return err
	}
	z := gzip.NewWriter(w)
	_, err := z.Write(data.Bytes())
	return errors.Join(err, z.Close())
}

func (fakeCodec) EncodeVolume(_ string, w io.Writer, v *volume.Volume) error {
	_, err := fmt.Fprintf(w, "%d voxels", len(v.Voxels))
	return err
}

// fakeRecall remembers a mask for the label spleen and nothing else.
type fakeRecall struct{}

func (fakeRecall) Labels(context.Context, annotation.Work) ([]string, error) {
	return []string{"spleen"}, nil
}

func (fakeRecall) Strokes(_ context.Context, w annotation.Work) (*volume.LabelMap, error) {
	if w.LabelName != "spleen" {
		return nil, nil
	}
	return volume.NewLabelMap(grid), nil
}

func (r fakeRecall) Uncertainty(ctx context.Context, w annotation.Work) (*volume.LabelMap, error) {
	return r.Strokes(ctx, w)
}

func (fakeRecall) Learned(_ context.Context, w annotation.Work) (annotation.Learning, error) {
	if w.Model == "missing" {
		return annotation.Learning{}, fmt.Errorf("model: %w", annotation.NotFound)
	}
	return annotation.Learning{Interactions: 3, OnImage: 1, Lessons: 2, Distance: 0.5}, nil
}

// fakeService records requests and answers them with a label map whose voxel (1,0,0) is 1.
type fakeService struct {
	mu        sync.Mutex
	requests  []*annotation.Request
	forgotten []annotation.ImageKey
	submitted []annotation.Submission
	infer     func(ctx context.Context, r *annotation.Request) (*annotation.Reply, error)
}

func (f *fakeService) Models() []annotation.Model {
	return []annotation.Model{
		{Name: "scribbles", Type: "scribbles", Labels: []annotation.Segment{{Name: "spleen", ID: 1}}, Dimension: 3, Description: "Learns from scribbles",
			Config: api.NewObject("rate", 1.0, "adapt", []string{"on", "off"}, "empty", []string{}, "nothing", nil)},
		{Name: "Histogram+GraphCut", Type: "scribbles", Labels: []annotation.Segment{{Name: "spleen", ID: 1}}, Dimension: 3},
		{Name: "segmentation_spleen", Type: "deepedit", Labels: []annotation.Segment{{Name: "liver", ID: 2}, {Name: "aorta", ID: 1}}, Dimension: 3},
		{Name: "deepgrow_2d", Type: "deepgrow", Labels: []annotation.Segment{{Name: "spleen", ID: 1}}, Dimension: 2},
	}
}

func (f *fakeService) Infer(ctx context.Context, r *annotation.Request) (*annotation.Reply, error) {
	f.mu.Lock()
	f.requests = append(f.requests, r)
	infer := f.infer
	f.mu.Unlock()
	if infer != nil {
		return infer(ctx, r)
	}
	if _, err := r.Image.Open(ctx); err != nil {
		return nil, err
	}
	return answer(1), nil
}

func answer(label uint16) *annotation.Reply {
	m := &volume.LabelMap{Geometry: grid, Labels: make([]uint16, 24)}
	m.Labels[1] = label
	return &annotation.Reply{Label: m, LabelNames: []annotation.Segment{{Name: "liver", ID: 2}, {Name: "aorta", ID: 1}},
		Params: api.NewObject("latencies", api.NewObject("total", 1.0))}
}

func (f *fakeService) Forget(_ context.Context, k annotation.ImageKey) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgotten = append(f.forgotten, k)
	return nil
}

func (f *fakeService) Submitted(_ context.Context, s annotation.Submission) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.submitted = append(f.submitted, s)
	return nil
}

func (f *fakeService) last(t *testing.T) *annotation.Request {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.requests) == 0 {
		t.Fatal("the service was not asked")
	}
	return f.requests[len(f.requests)-1]
}

// fakeStore keeps items in memory and their files in a folder.
type fakeStore struct {
	mu     sync.Mutex
	dir    string
	images map[string]datastore.Item
	labels map[string]map[string]datastore.Item // tag, id
}

func notThere(what string) error { return fmt.Errorf("%s: %w", what, fs.ErrNotExist) }

func (f *fakeStore) put(name, ext, from string, info *api.Object) (datastore.Item, error) {
	if strings.ContainsAny(name, "\\") || strings.Contains(name, "..") || strings.HasPrefix(name, "/") || name == ext {
		return datastore.Item{}, fmt.Errorf("%w: %q is no id", annotation.Invalid, name)
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return datastore.Item{}, err
	}
	path := filepath.Join(f.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
		return datastore.Item{}, err
	}
	info = info.Clone()
	info.Set("ts", 1795425789)
	info.Set("name", filepath.Base(name))
	return datastore.Item{Path: path, Ext: ext, Info: info, Open: func() (*os.File, error) { return os.Open(path) }}, nil
}

func (f *fakeStore) Stats(context.Context) (datastore.Stats, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stats := datastore.Stats{Total: len(f.images), Completed: len(f.labels["final"])}
	for _, tag := range slices.Sorted(maps.Keys(f.labels)) {
		stats.Tags = append(stats.Tags, datastore.TagCount{Tag: tag, Count: len(f.labels[tag])})
	}
	return stats, nil
}

func (f *fakeStore) Document(context.Context) (*api.Object, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	objects := &api.Object{}
	for _, id := range slices.Sorted(maps.Keys(f.images)) {
		labels := &api.Object{}
		for _, tag := range slices.Sorted(maps.Keys(f.labels)) {
			if item, ok := f.labels[tag][id]; ok {
				labels.Set(tag, api.NewObject("ext", item.Ext, "info", item.Info))
			}
		}
		objects.Set(id, api.NewObject("image", api.NewObject("ext", f.images[id].Ext, "info", f.images[id].Info), "labels", labels))
	}
	return api.NewObject("name", "new-dataset", "description", "New Dataset", "images_dir", ".", "labels_dir", "labels", "objects", objects), nil
}

func (f *fakeStore) Image(_ context.Context, id string) (datastore.Item, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	item, ok := f.images[id]
	if !ok {
		return datastore.Item{}, notThere("image " + id)
	}
	item.Info = item.Info.Clone()
	return item, nil
}

func (f *fakeStore) Label(_ context.Context, id, tag string) (datastore.Item, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	item, ok := f.labels[tag][id]
	if !ok {
		return datastore.Item{}, notThere("label " + id)
	}
	item.Info = item.Info.Clone()
	return item, nil
}

func (f *fakeStore) AddImage(_ context.Context, id, ext, path string, info *api.Object) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	item, err := f.put(id+ext, ext, path, info)
	item.ID = id
	if err == nil {
		f.images[id] = item
	}
	return err
}

func (f *fakeStore) SaveLabel(_ context.Context, id, tag, ext, path string, info *api.Object) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.images[id]; !ok {
		return notThere("image " + id)
	}
	item, err := f.put("labels/"+tag+"/"+id+ext, ext, path, info)
	if err != nil {
		return err
	}
	item.ID = id
	if f.labels[tag] == nil {
		f.labels[tag] = make(map[string]datastore.Item)
	}
	f.labels[tag][id] = item
	return nil
}

func (f *fakeStore) RemoveImage(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.images[id]; !ok {
		return notThere("image " + id)
	}
	delete(f.images, id)
	return nil
}

func (f *fakeStore) RemoveLabel(_ context.Context, id, tag string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.labels[tag], id)
	return nil
}

func (f *fakeStore) UpdateImageInfo(_ context.Context, id string, info *api.Object) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	item, ok := f.images[id]
	if !ok {
		return notThere("image " + id)
	}
	item.Info.Merge(info)
	return nil
}

func (f *fakeStore) UpdateLabelInfo(_ context.Context, id, tag string, info *api.Object) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	item, ok := f.labels[tag][id]
	if !ok {
		return notThere("label " + id)
	}
	item.Info.Merge(info)
	return nil
}

func (f *fakeStore) Labelled(context.Context) ([]datastore.Pair, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var pairs []datastore.Pair
	for _, id := range slices.Sorted(maps.Keys(f.labels["final"])) {
		pairs = append(pairs, datastore.Pair{Image: f.images[id], Label: f.labels["final"][id]})
	}
	return pairs, nil
}

// first is the strategy of that name.
type first struct{ store *fakeStore }

func (first) Name() string        { return "first" }
func (first) Description() string { return "First Strategy" }
func (f first) Next(context.Context, *api.Object) (string, *api.Object, error) {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(f.store.images)) {
		if _, done := f.store.labels["final"][id]; !done {
			return id, nil, nil
		}
	}
	return "", nil, nil
}

// random is what the tests make of that strategy: the first image, with a weight.
type random struct{ first }

func (random) Name() string { return "random" }
func (r random) Next(ctx context.Context, p *api.Object) (string, *api.Object, error) {
	id, _, err := r.first.Next(ctx, p)
	return id, api.NewObject("weight", 1795426161), err
}

// bench is a server on the loopback with all its fakes.
type bench struct {
	t        *testing.T
	url      string
	service  *fakeService
	store    *fakeStore
	sessions *session.Store
	log      *obs.LogFile
	server   *Server
	uploads  string
}

// newBench starts a server that holds case_0 (labelled), case_1 (with a model's label) and up1 (labelled, and under tag v1).
func newBench(t *testing.T, change ...func(o *Options)) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{
		t: t, service: &fakeService{}, uploads: filepath.Join(dir, "uploads"),
		store: &fakeStore{dir: filepath.Join(dir, "studies"), images: make(map[string]datastore.Item), labels: make(map[string]map[string]datastore.Item)},
	}
	if err := os.Mkdir(b.uploads, 0o700); err != nil {
		t.Fatal(err)
	}
	b.fill(dir)
	var err error
	if b.sessions, err = session.Open(session.Options{Dir: filepath.Join(dir, "sessions"), Expiry: time.Hour, MaxCount: 10, MaxBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if b.log, err = obs.OpenLogFile(filepath.Join(dir, "app.log"), 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := b.log.Write([]byte("one\ntwo\nthree\nfour\n")); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Config: config.Default(), About: About{Name: "Scrawl", Description: "Learns while you draw", Version: "0.1.0"},
		Service: b.service, Recall: fakeRecall{}, Status: func() *api.Object { return api.NewObject("provider", "CPU") }, Store: b.store, Codec: fakeCodec{}, Strategies: []Strategy{random{first{b.store}}, first{b.store}},
		Sessions: b.sessions, Log: zerolog.Nop(), LogFile: b.log, Metrics: obs.NewMetrics(), UploadDir: b.uploads,
	}
	for _, c := range change {
		c(&o)
	}
	if b.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(b.server.Handler())
	b.url = h.URL
	t.Cleanup(func() {
		h.Close()
		if left, err := os.ReadDir(b.uploads); err != nil || len(left) != 0 {
			t.Errorf("uploads left behind: %v, %v", left, err)
		}
		if err := errors.Join(b.sessions.Close(), b.log.Close()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) fill(dir string) {
	b.t.Helper()
	file := filepath.Join(dir, "file")
	ctx := context.Background()
	err := os.WriteFile(file, []byte(strings.Repeat("voxels ", 30)), 0o600)
	for _, id := range []string{"case_0", "case_1", "up1"} {
		err = errors.Join(err, b.store.AddImage(ctx, id, ".nii.gz", file, nil))
	}
	for _, l := range [][2]string{{"case_0", "final"}, {"case_1", "original"}, {"up1", "final"}} {
		err = errors.Join(err, b.store.SaveLabel(ctx, l[0], l[1], ".nii.gz", file, nil))
	}
	err = errors.Join(err, os.WriteFile(file, []byte("NRRD0004\n"), 0o600), b.store.SaveLabel(ctx, "up1", "v1", ".nrrd", file, nil))
	if err != nil {
		b.t.Fatal(err)
	}
}

// part is a part of a multipart form; fileName makes it a file.
type part struct{ name, fileName, content string }

// form encodes parts as the clients do.
func form(parts ...part) (contentType string, body []byte) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		disposition := fmt.Sprintf("form-data; name=%q", p.name)
		if p.fileName != "" {
			disposition += fmt.Sprintf(`; filename="%s"`, p.fileName)
		}
		out, err := w.CreatePart(map[string][]string{"Content-Disposition": {disposition}})
		if err == nil {
			_, _ = out.Write([]byte(p.content)) // into memory
		}
	}
	_ = w.Close()
	return w.FormDataContentType(), b.Bytes()
}

// result is an answer, read whole.
type result struct {
	status int
	header http.Header
	body   string
	length int64
	raw    *http.Response
}

// do sends a request and follows no redirect.
func (b *bench) do(method, path, contentType string, body []byte, headers ...string) result {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, bytes.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return b.send(req)
}

func (b *bench) send(req *http.Request) result {
	b.t.Helper()
	req.Header.Set("Accept-Encoding", "identity")
	client := &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	content, err := io.ReadAll(bufio.NewReader(res.Body))
	if err := errors.Join(err, res.Body.Close()); err != nil {
		b.t.Fatal(err)
	}
	r := result{status: res.StatusCode, header: res.Header, body: string(content), length: res.ContentLength, raw: res}
	promised.check(b.t, b, req, r)
	return r
}

func (b *bench) get(path string, headers ...string) result {
	b.t.Helper()
	return b.do(http.MethodGet, path, "", nil, headers...)
}

func (b *bench) post(path string, parts ...part) result {
	b.t.Helper()
	if len(parts) == 0 {
		return b.do(http.MethodPost, path, "", nil)
	}
	contentType, body := form(parts...)
	return b.do(http.MethodPost, path, contentType, body)
}

func (b *bench) put(path string, parts ...part) result {
	b.t.Helper()
	if len(parts) == 0 {
		return b.do(http.MethodPut, path, "", nil)
	}
	contentType, body := form(parts...)
	return b.do(http.MethodPut, path, contentType, body)
}

// want checks status and body; a body of "" is not looked at.
func (b *bench) want(r result, status int, body string) {
	b.t.Helper()
	if r.status != status || body != "" && r.body != body {
		b.t.Errorf("answer is %d %.300s, want %d %s", r.status, r.body, status, body)
	}
}

func (r result) object(t *testing.T) *api.Object {
	t.Helper()
	o, err := api.DecodeObject([]byte(r.body))
	if err != nil {
		t.Fatalf("body %.200q: %v", r.body, err)
	}
	return o
}

// parts reads a multipart answer.
func (r result) parts(t *testing.T) (params *api.Object, fileName, file string) {
	t.Helper()
	_, boundary, ok := strings.Cut(r.header.Get("Content-Type"), "multipart/form-data; boundary=")
	if !ok {
		t.Fatalf("content type is %s, body %.200q", r.header.Get("Content-Type"), r.body)
	}
	f, err := multipart.NewReader(strings.NewReader(r.body), boundary).ReadForm(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	if params, err = api.DecodeObject([]byte(f.Value["params"][0])); err != nil {
		t.Fatal(err)
	}
	in, err := f.File["image"][0].Open()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(in)
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
	return params, f.File["image"][0].Filename, string(content)
}

func urlencoded(name, value string) (contentType string, body []byte) {
	return "application/x-www-form-urlencoded", []byte(url.Values{name: {value}}.Encode())
}
