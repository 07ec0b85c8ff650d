package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/config"
)

var pathParameter = regexp.MustCompile(`:(\w+)`)

func TestDescriptionCoversEveryRoute(t *testing.T) {
	b := newBench(t)
	description := b.get("/openapi.json").object(t)
	var described []string
	for _, o := range operationsOf(description) {
		described = append(described, o.Method+" "+o.Path)
		if o.Summary == "" {
			t.Errorf("%s %s has no summary", o.Method, o.Path)
		}
	}
	var served []string
	for _, r := range b.server.routes {
		served = append(served, r.method+" "+describedPath(r.path))
	}
	slices.Sort(described)
	slices.Sort(served)
	if diff := cmp.Diff(served, described); diff != "" {
		t.Errorf("openapi.yaml differs from the routes (-served +described):\n%s", diff)
	}
	docs := b.get("/docs").body
	if !strings.Contains(docs, "/infer/{model}") || strings.Contains(docs, "https://") {
		t.Error("the page of requests lacks some or loads something from elsewhere")
	}
}

func TestPages(t *testing.T) {
	b := newBench(t)
	for path, want := range map[string]struct{ contentType, text string }{
		"/":             {"text/html; charset=utf-8", "Learns while you draw"},
		"/logs/":        {"text/html; charset=utf-8", "300"},
		"/healthz":      {"application/json", `{"status":"ok"}`},
		"/favicon.ico":  {"image/x-icon", "\x00\x00\x01\x00"},
		"/openapi.json": {"application/json", `{"openapi":"3.1.0"`},
		"/metrics":      {"text/plain; version=0.0.4; charset=utf-8", `scrawl_http_requests_total{route="/info/",method="GET",status="200"} 1`},
	} {
		if path == "/metrics" {
			b.get("/info/")
		}
		r := b.get(path)
		if r.status != 200 || r.header.Get("Content-Type") != want.contentType || !strings.Contains(r.body, want.text) {
			t.Errorf("GET %s: %d %s %.200s", path, r.status, r.header.Get("Content-Type"), r.body)
		}
	}
	b.want(b.get("/logs/?lines=2&text=true"), 200, "three\nfour\n")
	b.want(b.get("/logs/?lines=1&html=False"), 200, "four\n")
	b.want(b.get("/logs/?lines=0"), 200, "one\ntwo\nthree\nfour\n")
	b.want(b.get("/logs/?lines=x"), 422, "")
	b.want(b.get("/logs/gpu"), 404, "")
	for _, path := range []string{"/nope", "/infer/", "/infer/a/b", "/ohif/"} {
		b.want(b.get(path), 404, `{"detail":"Not Found"}`)
	}
	b.want(b.get("/session/"), 405, `{"detail":"Method Not Allowed"}`)
	r := b.do(http.MethodPatch, "/datastore/image", "", nil)
	b.want(r, 405, `{"detail":"Method Not Allowed"}`)
	if r.header.Get("Allow") != "DELETE, GET, HEAD, PUT" {
		t.Errorf("allow is %q", r.header.Get("Allow"))
	}
	without := newBench(t, func(o *Options) { o.LogFile = nil; o.Sessions = nil })
	without.want(without.get("/logs/"), 404, "")
	without.want(without.get("/session/x"), 406, `{"detail":"Session Feature is Not Enabled"}`)
}

func TestPrefix(t *testing.T) {
	c := config.Default()
	c.Server.APIPrefix = "/monai"
	b := newBench(t, func(o *Options) { o.Config = c })
	b.want(b.get("/monai/info/"), 200, "")
	b.want(b.get("/info/"), 404, "")
	b.want(b.get("/"), 200, "")
	if r := b.get("/monai/info?x=1"); r.status != 307 || r.header.Get("Location") != b.url+"/monai/info/?x=1" {
		t.Errorf("redirect below the prefix: %d %s", r.status, r.header.Get("Location"))
	}
}

func TestOrigins(t *testing.T) {
	named := config.Default()
	named.Server.CORSOrigins = []string{"http://ohif.example"}
	all := config.Default()
	all.Server.CORSOrigins = []string{"*"}
	anyone, one := newBench(t, func(o *Options) { o.Config = all }), newBench(t, func(o *Options) { o.Config = named })
	r := anyone.get("/info/", "Origin", "http://stranger")
	if r.header.Get("Access-Control-Allow-Origin") != "*" || r.header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("anyone allowed: %v", r.header)
	}
	if r = anyone.get("/datastore/image?image=nope", "Origin", "http://stranger"); r.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("errors cannot be read by pages: %v", r.header)
	}
	r = one.get("/info/", "Origin", "http://ohif.example")
	if r.header.Get("Access-Control-Allow-Origin") != "http://ohif.example" || r.header.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("named origin: %v", r.header)
	}
	if r = one.get("/info/", "Origin", "http://stranger"); r.status != 200 || r.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("stranger: %v", r.header)
	}
	preflight := []string{"Origin", "http://stranger", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type"}
	r = anyone.do(http.MethodOptions, "/infer/x", "", nil, preflight...)
	anyone.want(r, 200, "OK")
	if r.header.Get("Access-Control-Allow-Headers") != "content-type" || r.header.Get("Access-Control-Max-Age") != "600" || !strings.Contains(r.header.Get("Access-Control-Allow-Methods"), "DELETE") {
		t.Errorf("preflight: %v", r.header)
	}
	one.want(one.do(http.MethodOptions, "/infer/x", "", nil, preflight...), 400, "Disallowed CORS origin")
}

func TestWhichImage(t *testing.T) {
	b := newBench(t)
	made := b.put("/session/?expiry=100", part{"files", "tmpvol.nii.gz", "voxels"}, part{name: "client_id", content: "x"})
	b.want(made, 200, "")
	id, _ := made.object(t).Text("session_id")
	info, _ := made.object(t).Object("session_info")
	if diff := cmp.Diff([]string{"name", "path", "image", "meta", "create_ts", "last_access_ts", "expiry"}, info.Names()); diff != "" {
		t.Errorf("session info (-want +got):\n%s", diff)
	}
	file := part{"file", "/tmp/a.b.nii.gz", "voxels"}
	stored := func(id string) annotation.ImageKey { return annotation.ImageKey{Source: annotation.Stored, ID: id} }
	for _, c := range []struct {
		query string
		parts []part
		want  annotation.ImageKey
		ext   string
	}{
		{"image=case_0", nil, stored("case_0"), ".nii.gz"},
		{"image=case_0", []part{params(`{"image":"case_1"}`)}, stored("case_1"), ".nii.gz"},
		{"image=MyVolume&session_id=" + id, []part{params(`{"image":"case_1"}`)}, annotation.ImageKey{Source: annotation.Session, ID: id}, ".nii.gz"},
		{"image=case_0&session_id=no-such", nil, stored("case_0"), ".nii.gz"},
		{"image=case_0", []part{file}, annotation.ImageKey{Source: annotation.Uploaded, ID: "*"}, ".b.nii.gz"},
		{"", []part{file}, annotation.ImageKey{Source: annotation.Uploaded, ID: "*"}, ".b.nii.gz"},
		{"", []part{{name: "file", content: "voxels"}}, annotation.ImageKey{Source: annotation.Uploaded, ID: "*"}, ".nii.gz"},
	} {
		r := b.post("/infer/scribbles?"+c.query, c.parts...)
		b.want(r, 200, "")
		got := b.service.last(t)
		key := got.Image.Key
		if c.want.ID == "*" && len(key.ID) == 64 {
			key.ID = "*"
		}
		if key != c.want || got.Image.Ext != c.ext || got.Image.Version == "" || (got.SessionID != "") != (c.want.Source == annotation.Session) {
			t.Errorf("%s with %d parts: image %+v, session %q, want %v", c.query, len(c.parts), got.Image, got.SessionID, c.want)
		}
		if _, name, _ := r.parts(t); !strings.HasSuffix(name, ".nii.gz") {
			t.Errorf("%s: answer is called %s", c.query, name)
		}
	}
	b.want(b.post("/infer/scribbles"), 500, `{"detail":"Neither Image nor File not Session ID input is provided"}`)
	b.want(b.post("/infer/scribbles?image=nope"), 404, "")
	b.want(b.post("/infer/nope?image=case_0"), 404, `{"detail":"model \"nope\" not found, there are: scribbles, Histogram+GraphCut, segmentation_spleen, deepgrow_2d"}`)
	b.want(b.post("/infer/scribbles?image=case_0", params(`{"model":"segmentation_spleen"}`)), 200, "")
	if got := b.service.last(t).Model; got != "segmentation_spleen" {
		t.Errorf("model named in params is %q", got)
	}
	b.want(b.do(http.MethodDelete, "/session/"+id, "", nil), 200, "")
	b.want(b.do(http.MethodDelete, "/session/"+id, "", nil), 404, `{"detail":"Session Not Found"}`)
	b.want(b.get("/session/"+id), 404, `{"detail":"Session (`+id+`) Not Found"}`)
	if want := (annotation.ImageKey{Source: annotation.Session, ID: id}); !slices.Contains(b.service.forgotten, want) {
		t.Errorf("forgotten are %v, want %v among them", b.service.forgotten, want)
	}
}

func TestSaveLabel(t *testing.T) {
	b := newBench(t)
	p := params(`{"save_label":true,"result_extension":".nrrd"}`)
	b.want(b.post("/infer/scribbles?image=case_0&output=json", p), 200, "")
	if r := b.get("/datastore/label?label=case_0&tag=original"); !strings.HasPrefix(r.body, "NRRD") {
		t.Errorf("stored label is %q", r.body)
	}
	r := b.get("/datastore/label/info?label=case_0&tag=original")
	if !strings.HasPrefix(r.body, `{"model":"scribbles","params":{"label_names":{"aorta":1,"liver":2},"latencies":{"total":1.0},"centroids":{}}`) {
		t.Errorf("info is %s", r.body)
	}
	b.want(b.post("/infer/scribbles?image=case_0", params(`{"save_label":true,"label_tag":"auto"}`)), 200, "")
	b.want(b.get("/datastore/label?label=case_0&tag=auto"), 200, "")
	before := b.get("/datastore/").body
	b.want(b.post("/infer/scribbles", p, part{"file", "x.nii.gz", "voxels"}), 200, "")
	b.want(b.get("/datastore/"), 200, before)
}

func TestErrorsOfTheService(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("weights of x: %w", annotation.NotFound), 404},
		{fmt.Errorf("label map of 3×3×3 voxels: %w", annotation.Invalid), 400},
		{fmt.Errorf("16 wait: %w", annotation.Busy), 503},
		{fmt.Errorf("no library: %w", annotation.Unavailable), 503},
		{errors.New("disk on fire"), 500},
		{api.Errorf(418, "teapot"), 418},
	} {
		b.service.infer = func(context.Context, *annotation.Request) (*annotation.Reply, error) { return nil, c.err }
		r := b.post("/infer/scribbles?image=case_0")
		detail, _ := r.object(t).Text("detail")
		if r.status != c.status || detail == "" || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("%v is answered %d %s", c.err, r.status, r.body)
		}
	}
	b.service.infer = func(context.Context, *annotation.Request) (*annotation.Reply, error) { panic("bug") }
	b.want(b.post("/infer/scribbles?image=case_0"), 500, `{"detail":"request failed unexpectedly: bug"}`)
	b.service.infer = func(ctx context.Context, _ *annotation.Request) (*annotation.Reply, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if r := b.post("/infer/scribbles?image=case_0", params(`{"timeout":0.05}`)); r.status != 503 || !strings.Contains(r.body, "time limit") {
		t.Errorf("timeout is answered %d %s", r.status, r.body)
	}
	b.want(b.post("/infer/scribbles?image=case_0", part{"label", "x.nii.gz", "not an image"}), 400, "")
}

func TestUploadLimit(t *testing.T) {
	c := config.Default()
	c.Server.MaxUpload = 1 << 20
	b := newBench(t, func(o *Options) { o.Config = c })
	r := b.put("/datastore/?image=big", part{"file", "x.nii.gz", strings.Repeat("x", 2<<20)})
	if r.status != http.StatusRequestEntityTooLarge {
		t.Errorf("too large an upload: %d %s", r.status, r.body)
	}
	b.want(b.get("/datastore/image?image=big"), 404, "")
}

func TestDownloads(t *testing.T) {
	b := newBench(t)
	r := b.get("/datastore/image?image=case_0", "Range", "bytes=0-5")
	if r.status != 206 || r.body != "voxels" || r.header.Get("Content-Range") != "bytes 0-5/210" || r.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("part of a file: %d %q %v", r.status, r.body, r.header)
	}
	r = b.get("/datastore/dataset?limit_cases=1")
	if r.status != 200 || !strings.HasPrefix(r.body, "PK") || strings.Count(r.body, "image/") != 2 || !strings.Contains(r.body, "label/case_0.nii.gz") ||
		!strings.Contains(r.body, "metadata.json") || r.header.Get("Content-Disposition") != `attachment; filename="dataset.zip"` {
		t.Errorf("dataset: %d %v", r.status, r.header)
	}
	b.want(b.get("/datastore/dataset?limit_cases=x"), 422, "")
	for _, id := range []string{"case_0", "up1"} {
		b.want(b.do(http.MethodDelete, "/datastore/label?id="+id+"&tag=final", "", nil), 200, `{}`)
	}
	b.want(b.get("/datastore/dataset"), 404, "")
	if r := b.get("/datastore/?output=train"); r.body != "[]" {
		t.Errorf("training pairs without labels: %s", r.body)
	}
}

// While an inference runs, everything else answers.
func TestInfoDoesNotWaitForInference(t *testing.T) {
	b := newBench(t)
	started, release := make(chan struct{}), make(chan struct{})
	b.service.infer = func(context.Context, *annotation.Request) (*annotation.Reply, error) {
		close(started)
		<-release
		return answer(1), nil
	}
	var wait sync.WaitGroup
	wait.Go(func() { b.want(b.post("/infer/scribbles?image=case_0"), 200, "") })
	<-started
	for _, path := range []string{"/info/", "/datastore/", "/healthz", "/metrics", "/logs/?lines=1"} {
		b.want(b.get(path), 200, "")
	}
	close(release)
	wait.Wait()
}

func TestRequestIDs(t *testing.T) {
	b := newBench(t)
	if id := b.get("/info/", "X-Request-Id", "proxy-17.a_b").header.Get("X-Request-Id"); id != "proxy-17.a_b" {
		t.Errorf("id of a proxy became %q", id)
	}
	for _, bad := range []string{"", "a b", "<x>", strings.Repeat("a", 65)} {
		if id := b.get("/info/", "X-Request-Id", bad).header.Get("X-Request-Id"); len(id) != 36 {
			t.Errorf("id %q became %q", bad, id)
		}
	}
}

func TestServeEndsInOrder(t *testing.T) {
	b := newBench(t)
	started, release := make(chan struct{}), make(chan struct{})
	b.service.infer = func(context.Context, *annotation.Request) (*annotation.Reply, error) {
		close(started)
		<-release
		return answer(1), nil
	}
	before := runtime.NumGoroutine()
	ctx, stop := context.WithCancel(t.Context())
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.server.Serve(ctx, l) }()
	b.url = "http://" + l.Addr().String()
	b.want(b.get("/healthz"), 200, "")
	var wait sync.WaitGroup
	wait.Go(func() { b.want(b.post("/infer/scribbles?image=case_0"), 200, "") })
	<-started
	stop()
	select {
	case err := <-done:
		t.Fatalf("Serve ended with a request under way: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	wait.Wait()
	if err := <-done; err != nil {
		t.Errorf("Serve ended with %v", err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	stacks := make([]byte, 1<<20)
	t.Errorf("goroutines left behind:\n%s", stacks[:runtime.Stack(stacks, true)])
}

func TestServeCutsOffWhatDoesNotEnd(t *testing.T) {
	c := config.Default()
	c.Server.ShutdownTimeout = 50 * time.Millisecond
	b := newBench(t, func(o *Options) { o.Config = c })
	started := make(chan struct{})
	b.service.infer = func(ctx context.Context, _ *annotation.Request) (*annotation.Reply, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ctx, stop := context.WithCancel(t.Context())
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.server.Serve(ctx, l) }()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+l.Addr().String()+"/infer/scribbles?image=case_0", nil)
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
		}
	})
	<-started
	stop()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "still running") {
		t.Errorf("Serve ended with %v", err)
	}
	wait.Wait()
}

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("a server of nothing is made")
	}
}

// What the page asks for beside the protocol.
func TestPageRoutes(t *testing.T) {
	b := newBench(t)
	work := "image=case_0&model=scribbles&client_id=ann&label="
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/scrawl/volume?image=case_0":                {200, "24 voxels"},
		"/scrawl/volume":                             {422, `"loc":["query","image"]`},
		"/scrawl/volume?image=nobody":                {404, "detail"},
		"/scrawl/volume?session_id=nobody":           {404, "detail"},
		"/scrawl/labels?" + work:                     {200, `["spleen"]`},
		"/scrawl/state?" + work + "spleen":           {200, "NRRD"},
		"/scrawl/state?" + work + "liver":            {204, ""},
		"/scrawl/state?image=case_0":                 {422, `"loc":["query","model"]`},
		"/scrawl/uncertainty?" + work:                {204, ""},
		"/scrawl/learned?" + work + "spleen":         {200, `{"interactions":3,"on_image":1,"user_seconds":0.0,"machine_seconds":0.0,"lessons":2,"busy":false,"distance":0.5,"loss":[]}`},
		"/scrawl/learned?image=case_0&model=missing": {404, "detail"},
		"/scrawl/progress?request=none":              {204, ""},
		"/scrawl/progress":                           {422, `"loc":["query","request"]`},
		"/scrawl/status":                             {200, `{"provider":"CPU"}`},
		"/page/annotate.js":                          {200, "scrawl"},
		"/page/style.css":                            {200, "annotate"},
		"/page/licences.txt":                         {200, "@niivue/niivue"},
		"/page/annotate.html":                        {404, "detail"},
		"/page/..%2fopenapi.yaml":                    {404, "detail"},
	} {
		if r := b.get(path); r.status != want.status || !strings.Contains(r.body, want.text) {
			t.Errorf("GET %s: %d %.200s, want %d with %q", path, r.status, r.body, want.status, want.text)
		}
	}
	for _, path := range []string{"/", "/operator", "/docs", "/logs/", "/page/annotate.js"} {
		policy := b.get(path).header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("GET %s: policy %q", path, policy)
		}
	}
	for _, path := range []string{"/", "/operator", "/docs", "/logs/"} {
		if page := b.get(path).body; strings.Contains(page, "<script>") || strings.Contains(page, "http://") || strings.Contains(page, "https://") || strings.Contains(page, "<style") || strings.Contains(page, " style=") {
			t.Errorf("GET %s loads something from elsewhere, or holds scripts or styles that the policy blocks", path)
		}
	}
}

// A request that is under way can be followed by the id that its client gave it.
func TestProgress(t *testing.T) {
	b := newBench(t)
	seen := make(chan string, 1)
	b.service.infer = func(_ context.Context, r *annotation.Request) (*annotation.Reply, error) {
		r.Progress("carry", 3, 30)
		seen <- b.get("/scrawl/progress?request=mine").body
		return nil, fmt.Errorf("enough: %w", annotation.Invalid)
	}
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/infer/scribbles?image=case_0", nil)
	r.Header.Set("X-Request-Id", "mine")
	b.server.Handler().ServeHTTP(httptest.NewRecorder(), r)
	if got := <-seen; got != `{"stage":"carry","done":3,"total":30}` {
		t.Errorf("progress is %s", got)
	}
	b.want(b.get("/scrawl/progress?request=mine"), 204, "")
}
