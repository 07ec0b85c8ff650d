package labelserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/apps/phantom"
	"scrawl/engine/ort/orttest"
	"scrawl/labelserver/config"
	"scrawl/labelserver/obs"
)

const (
	soakClients = 20
	soakImages  = 4
)

// soakTime is how long the soak lasts: a few seconds, or SCRAWL_SOAK, such as 5m.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SCRAWL_SOAK")
	if text == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SCRAWL_SOAK: %v", err)
	}
	return d
}

// soaker is one client of the soak, as busy as a program can be.
type soaker struct {
	t       *testing.T
	address string
	name    string
	client  *http.Client
	masks   [][]byte
	image   []byte
	took    map[string][]time.Duration
}

// use is what the process holds.
type use struct {
	goroutines, files int
	heap, resident    int64 // bytes
}

func (u use) String() string {
	return fmt.Sprintf("%d goroutines, %d open files, heap %d MiB, resident %d MiB", u.goroutines, u.files, u.heap>>20, u.resident>>20)
}

// using measures after a collection. Where the system does not tell files and resident memory they are 0.
func using() use {
	runtime.GC()
	runtime.GC() // what finalizers let go of in the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := use{goroutines: runtime.NumGoroutine(), heap: int64(m.HeapAlloc)}
	if files, err := os.ReadDir("/proc/self/fd"); err == nil {
		u.files = len(files)
	}
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		pages, _ := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
		u.resident = pages * int64(os.Getpagesize())
	}
	return u
}

// do sends a request and wants 200. A request that ends with the soak is none.
func (s *soaker) do(ctx context.Context, kind, method, path, contentType string, body []byte) []byte {
	began := time.Now()
	req, err := http.NewRequestWithContext(ctx, method, s.address+path, bytes.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return nil
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := s.client.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			s.t.Errorf("%s: %s %s: %v", s.name, method, path, err)
		}
		return nil
	}
	answer, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		if ctx.Err() == nil {
			s.t.Errorf("%s: %s %s: %v", s.name, method, path, err)
		}
		return nil
	}
	if res.StatusCode != http.StatusOK && kind != "running" {
		s.t.Errorf("%s: %s %s is answered %d %.300s", s.name, method, path, res.StatusCode, answer)
	}
	s.took[kind] = append(s.took[kind], time.Since(began))
	return answer
}

func (s *soaker) form(params map[string]any, file, name string, data []byte) (contentType string, body []byte) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	text, err := json.Marshal(params)
	if err == nil {
		err = w.WriteField("params", string(text))
	}
	if err == nil && file != "" {
		var part io.Writer
		if part, err = w.CreateFormFile(file, name); err == nil {
			_, err = part.Write(data)
		}
	}
	if err := errors.Join(err, w.Close()); err != nil {
		s.t.Error(err)
	}
	return w.FormDataContentType(), b.Bytes()
}

// work is one turn of what annotators' clients do: look, get the next image, draw, click, correct, submit, upload for a while.
func (s *soaker) work(ctx context.Context, turn int) {
	get := func(kind, path string) []byte { return s.do(ctx, kind, http.MethodGet, path, "", nil) }
	get("info", "/info/")
	get("running", "/train/?check_if_running=true")
	s.do(ctx, "sample", http.MethodPost, "/activelearning/random", "application/json", []byte(`{"client_id":"`+s.name+`"}`))
	image := fmt.Sprintf("case_%d", turn%soakImages)
	get("image", "/datastore/image?image="+image)
	params := map[string]any{"label_info": json.RawMessage(labelInfo), "selected_label_name": "liver", "client_id": s.name, "result_extension": ".nrrd", "result_dtype": "uint8"}
	contentType, body := s.form(params, "label", "/tmp/m.nii.gz", s.masks[turn%len(s.masks)])
	answer := s.do(ctx, "scribbles", http.MethodPost, "/infer/scribbles?output=image&image="+image, contentType, body)
	if answer != nil && !bytes.HasPrefix(answer, []byte("NRRD")) {
		s.t.Errorf("%s: an answer is no NRRD: %.60q", s.name, answer)
	}
	contentType, body = s.form(map[string]any{"client_id": s.name}, "label", "l.nii.gz", s.masks[0])
	s.do(ctx, "submit", http.MethodPut, "/datastore/label?image="+image+"&tag="+url.QueryEscape(s.name), contentType, body)
	get("datastore", "/datastore/?output=all")
	if turn%3 == 0 {
		s.session(ctx)
	}
	get("log", "/logs/?lines=20&text=true")
}

func (s *soaker) session(ctx context.Context) {
	contentType, body := s.form(nil, "files", "v.nii.gz", s.image)
	var made struct {
		ID string `json:"session_id"`
	}
	if err := json.Unmarshal(s.do(ctx, "session", http.MethodPut, "/session/", contentType, body), &made); err != nil || made.ID == "" {
		if ctx.Err() == nil {
			s.t.Errorf("%s: session: %v", s.name, err)
		}
		return
	}
	form := url.Values{"params": {`{"foreground":[[10,12,4]],"background":[],"label":"liver","client_id":"` + s.name + `","result_extension":".nrrd"}`}}
	s.do(ctx, "clicks", http.MethodPost, "/infer/scribbles?output=image&image=x&session_id="+made.ID, "application/x-www-form-urlencoded", []byte(form.Encode()))
	s.do(context.WithoutCancel(ctx), "session", http.MethodDelete, "/session/"+made.ID, "", nil)
}

// Twenty clients at once get no error, and the server holds no more in the end than in the middle: goroutines, open files, memory.
// SCRAWL_SOAK sets for how long.
func TestSoak(t *testing.T) {
	lib := orttest.Library(t)
	image, _ := phantom.Abdomen([3]int{40, 32, 9}, [3]float64{8, 8, 15}, 1)
	studies := t.TempDir()
	var encoded bytes.Buffer
	if err := format.Encode("x.nii.gz", &encoded, image, format.Options{DType: "int16", Compress: true}); err != nil {
		t.Fatal(err)
	}
	for i := range soakImages {
		if err := os.WriteFile(filepath.Join(studies, fmt.Sprintf("case_%d.nii.gz", i)), encoded.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load("", nil, map[string]any{"app": writeApp(t, testYAML), "studies": studies, "server.port": 0, "runtime.measure": false, "state.dir": t.TempDir(), "engine.queue": 4 * soakClients})
	if err != nil {
		t.Fatal(err)
	}
	before := using()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	s, err := New(ctx, cfg, Parts{Library: lib, Log: zerolog.Nop(), LogFile: openSoakLog(t, cfg), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()

	took := make(map[string][]time.Duration)
	half := soakTime(t) / 2
	middle := soak(t, s.Address(l), image, encoded.Bytes(), half, took)
	end := soak(t, s.Address(l), image, encoded.Bytes(), half, took)
	report(t, took)
	t.Logf("before: %v; in the middle: %v; in the end: %v", before, middle, end)
	if end.goroutines > middle.goroutines+10 || end.files > middle.files+10 {
		t.Errorf("goroutines or files leak: %v, then %v", middle, end)
	}
	if end.heap > middle.heap*3/2+32<<20 || end.resident > middle.resident*3/2+128<<20 {
		t.Errorf("memory leaks: %v, then %v", middle, end)
	}
	stop()
	if err := errors.Join(<-done, s.Close()); err != nil {
		t.Errorf("end: %v", err)
	}
	after := using()
	if after.goroutines > before.goroutines+5 || after.files > before.files+5 {
		t.Errorf("the server is closed and holds on to something: %v, before it %v", after, before)
	}
}

func openSoakLog(t *testing.T, cfg *config.Config) *obs.LogFile {
	t.Helper()
	f, err := obs.OpenLogFile(cfg.LogFile(), int64(cfg.Log.MaxBytes))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// soak lets the clients work for a time and says what the process holds when all have gone.
func soak(t *testing.T, address string, image *volume.Volume, encoded []byte, long time.Duration, took map[string][]time.Duration) use {
	t.Helper()
	g := image.Geometry
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var wait sync.WaitGroup
	clients := make([]*soaker, soakClients)
	for i := range clients {
		row := 2 + i
		s := &soaker{t: t, address: address, name: fmt.Sprintf("client-%d", i), client: &http.Client{Transport: &http.Transport{}}, image: encoded, took: make(map[string][]time.Duration)}
		for n := 1; n < 4; n++ {
			s.masks = append(s.masks, labelBytes(t, layers(g, line([3]int{6, row, 2 * n}, 0, 4+n), line([3]int{30, row, 2 * n}, 0, 3))))
		}
		clients[i] = s
		wait.Go(func() {
			for turn := rand.IntN(100); ctx.Err() == nil; turn++ {
				s.work(ctx, turn)
			}
			s.client.CloseIdleConnections()
		})
	}
	wait.Wait()
	for _, s := range clients {
		for kind, times := range s.took {
			took[kind] = append(took[kind], times...)
		}
	}
	// What is being learned, and connections that are closing, end on their own.
	u := using()
	for range 50 {
		time.Sleep(100 * time.Millisecond)
		now := using()
		if now.goroutines >= u.goroutines && now.files >= u.files {
			break
		}
		u = now
	}
	return u
}

func report(t *testing.T, took map[string][]time.Duration) {
	t.Helper()
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(took)) {
		times := took[kind]
		slices.Sort(times)
		total += len(times)
		t.Logf("%-10s %6d requests, median %v, 99th percentile %v", kind, len(times), times[len(times)/2].Round(time.Millisecond), times[len(times)*99/100].Round(time.Millisecond))
	}
	if total == 0 || len(took["scribbles"]) == 0 {
		t.Error("nothing was asked")
	}
	t.Logf("%d requests by %d clients", total, soakClients)
}
