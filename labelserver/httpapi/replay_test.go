package httpapi

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scrawl/labelserver/config"
	"scrawl/labelserver/recorded"
	"scrawl/labelserver/session"
)

// captures finds the recorded traffic of the incumbent.
func captures(t *testing.T) string {
	t.Helper()
	shared := os.Getenv("SCRAWL_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "..", "shared")
	}
	dir := filepath.Join(shared, "monailabel", "captures")
	if _, err := os.Stat(dir); err != nil {
		requirePeer(t, "no recorded traffic at "+dir+"; set SCRAWL_SHARED to the folder that holds monailabel/captures: SCRAWL_SHARED=… go test ./labelserver/httpapi -run Replay")
	}
	return dir
}

// deviation is a recorded answer that we do not repeat, with the reason.
type deviation struct {
	status int
	why    string
}

const hidden = "the incumbent hides the error behind Internal Server Error"

// replayed are the recordings of the routes served here. A name with a deviation is compared in status only.
var replayed = map[string]*deviation{
	"ds_all3": nil, "ds_all5": nil, "ds_all_after_al": nil, "lab_info_original": nil, "static_fav": nil, "static_missing": nil, "reload": nil,
	"ohif": nil, "ohif_noslash": nil, "ohif_js": nil, "ohif_viewer": nil,
	"auth": nil, "info_noslash": nil, "ds_noslash": nil, "put_img_noslash": nil, "batch_status_slash": nil, "cors_preflight": nil,
	"cors_simple": nil, "cors_cookie": nil, "root": nil, "docs": nil, "openapi": nil, "favicon": nil, "head_info": nil, "inf_get": nil,
	"info": nil, "ds": nil, "ds2": nil, "ds4": nil, "ds_all": nil, "ds_bad": nil, "ds_train": nil,
	"img": nil, "img_range": nil, "img_head": nil, "img_head_missing": nil, "img_missing": nil, "img_noparam": nil, "img_info": nil, "img_info_missing": nil,
	"lab": nil, "lab_head": nil, "lab_missing": nil, "lab_info": nil, "lab_info_missing": nil, "lab_v1": nil,
	"put_img": nil, "put_img_noid": nil, "put_img_badext": nil, "put_img_nofile": nil, "put_imginfo": nil, "put_imginfo_none": nil,
	"put_lab": nil, "put_lab_tag": nil, "put_lab_bin": nil, "put_lab_segnrrd": nil, "put_labinfo": nil, "put_updlab": nil,
	"del_img": nil, "del_lab": nil, "del_lab_missing": nil, "dataset": nil, "dataset_lim": nil,
	"inf_nothing": nil, "inf_badoutput": nil, "inf_file": nil, "infer_save": nil,
	"scr_default": nil, "scr_all": nil, "scr_json": nil, "scr_image": nil, "scr_compress": nil, "scr_u16": nil, "scr_segnrrd": nil, "scr_noext": nil,
	"scr_plus_unescaped": nil, "scr_dicomseg": nil, "scr_case1": nil, "roi_ok": nil, "roi_inverted": nil, "roi_only": nil, "scr_defaultids": nil, "scr_emptyscrib": nil,
	"ses_create": nil, "ses_multi": nil, "ses_get": nil, "ses_get_upd": nil, "ses_get_img": nil, "ses_del": nil, "ses_missing": nil, "ses_nofiles": nil, "ses_infer": nil,
	"dg2d": nil, "seg": nil, "seg_nobody": nil, "wsi": nil, "wsi2": nil,
	"al_random": nil, "al_first_nobody": nil, "train_stop_none": nil, "train_status_none": nil, "train_running_none": nil,
	"batch_status_none": nil, "batch_stop_none": nil, "batch_bad_images": nil, "batch_async": nil, "batch_sync": nil,
	"train_start": nil, "train_start2": nil, "train_start_again": nil, "train_enqueue": nil, "train_post_listbody": nil, "train_all_post": nil,
	"train_status": nil, "train_status_early": nil, "train_status_stopped": nil, "train_status_after_stop": nil, "train_all": nil,
	"train_running": nil, "train_running_after": nil, "train_stop": nil, "train_stop2": nil, "info_training": nil,
	"score_run": nil, "score_async": nil, "score_all_post": nil, "score_status": nil, "score_status_all": nil,
	"model_get": nil, "model_info": nil, "model_info2": nil, "model_put": nil, "model_del": nil, "model_del2": nil, "logs": nil, "logs_all": nil, "logs_text": nil, "logs_html0": nil,

	"al_bad": {404, hidden}, "del_img_missing": {404, hidden}, "inf_badparams": {400, hidden}, "inf_noimage": {404, hidden}, "inf_nomodel": {404, hidden},
	"infer_file_txt": {400, hidden}, "put_lab_missing": {404, hidden}, "put_labinfo_missing": {404, hidden}, "ses_infer_bad": {404, hidden}, "logs_gpu": {404, hidden},
	"img_head_ck":   {404, "the file of the test has another checksum; that a right one is found is tested elsewhere"},
	"img_head_ck2":  {404, "as before"},
	"gmm":           {404, "no model of that name is served; the incumbent needs CUDA for it"},
	"ohif_assets":   {200, "the incumbent sends its page instead of the file"},
	"proxy":         {404, "there is no archive behind a folder, and the incumbent hides that"},
	"score_bad":     {404, hidden},
	"train_bad":     {404, "the incumbent takes the task and lets it fail later"},
	"model_put_scr": {404, "a model without weights has no file"},
	"model_get2":    {200, "the weights are an ONNX file and are not called .pt, which others would unpickle"},
}

// before lists the recordings whose requests come first, for those that need a task or a file to be there.
var before = map[string][]string{
	"lab_info_original": {"infer_save"},
	"train_start_again": {"train_start"}, "train_status": {"train_start", "train_stop"}, "train_status_early": {"train_start"}, "train_status_stopped": {"train_start", "train_stop"},
	"train_status_after_stop": {"train_start2", "train_stop"}, "train_all": {"train_start", "train_stop"}, "train_running": {"train_start2"},
	"train_running_after": {"train_start", "train_stop"}, "train_stop": {"train_start2"}, "train_stop2": {"train_start2", "train_enqueue", "train_stop"},
	"info_training": {"train_start2"}, "score_status": {"score_run"}, "score_status_all": {"score_run", "score_run"},
	"model_get2": {"model_put"}, "model_info2": {"model_put"}, "model_del": {"model_put"},
}

// elsewhere are recordings that other tests repeat: TestReplayOfInferences on a whole server, with real volumes, and TestWhichImage,
// which deletes one session twice.
var elsewhere = []string{"scr_badshape", "scr_nolabel", "ses_del_again"}

// No recording is left out.
func TestEveryRecordingIsReplayed(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(captures(t), "*.req"))
	if err != nil || len(files) < 100 {
		t.Fatalf("%d recordings: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".req")
		if _, ok := replayed[name]; !ok && !slices.Contains(elsewhere, name) {
			t.Errorf("recording %s is not replayed", name)
		}
	}
}

// viewerFolder makes the folder of a viewer like the one that was recorded.
func viewerFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"index.html": "<html>viewer</html>", "app-config.js": "window.config = {}", "assets/yellow-dot.svg": "<svg/>"} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestReplayOfRecordedTraffic(t *testing.T) {
	dir := captures(t)
	settings := config.Default()
	settings.Server.OHIF = viewerFolder(t)
	for _, name := range slices.Sorted(mapKeys(replayed)) {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, withTasks(t, &waiting{}), func(o *Options) { o.Config = settings })
			want := readRecording(t, dir, name)
			for _, earlier := range before[name] {
				b.send(b.recordedRequest(t, dir, earlier))
			}
			got := b.send(b.recordedRequest(t, dir, name))
			if d := replayed[name]; d != nil {
				t.Logf("answered %d instead of %d: %s", d.status, want.status, d.why)
				b.want(got, d.status, "")
				return
			}
			compareStatusAndHeaders(t, want, got)
			compareBodies(t, want, got)
		})
	}
}

func mapKeys[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func readRecording(t *testing.T, dir, name string) result {
	t.Helper()
	a, err := recorded.ReadAnswer(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	return result{status: a.Status, header: a.Header, body: a.Body, length: a.Length}
}

var sessionID = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// recordedRequest makes the request of a recorded curl command. Files are replaced by stand-ins, a session's id by that of a
// session that exists here.
func (b *bench) recordedRequest(t *testing.T, dir, name string) *http.Request {
	t.Helper()
	r, err := recorded.ReadRequest(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	contentType, body := "", []byte(r.Body)
	if len(r.Fields) > 0 {
		contentType, body = "application/x-www-form-urlencoded", []byte(r.Fields.Encode())
	}
	if len(r.Parts) > 0 {
		var parts []part
		for _, p := range r.Parts {
			if p.File != "" {
				p.Content = strings.Repeat("voxels ", 30)
			}
			if strings.HasSuffix(p.File, ".txt") {
				p.Content = "this is not an image"
			}
			parts = append(parts, part{p.Field, p.FileName, p.Content})
		}
		contentType, body = form(parts...)
	}
	path := r.Path
	if sessionID.MatchString(path) || strings.Contains(path, "session_id") {
		path = sessionID.ReplaceAllString(path, b.newSession(t))
	}
	req, err := http.NewRequestWithContext(t.Context(), r.Method, b.url+path, strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = r.Header
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return req
}

func (b *bench) newSession(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "upload")
	if err := os.WriteFile(path, []byte(strings.Repeat("voxels ", 30)), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := b.sessions.Create([]session.Upload{{Name: "case_0.nii.gz", Path: path}}, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	return info.Name
}

// compareStatusAndHeaders checks the status and that every recorded header is there in the same form.
func compareStatusAndHeaders(t *testing.T, want, got result) {
	t.Helper()
	if got.status != want.status {
		t.Errorf("status is %d, recorded %d (%.300s)", got.status, want.status, got.body)
	}
	for name := range want.header {
		if slices.Contains([]string{"Date", "Server", "Vary"}, name) {
			continue
		}
		if slices.Contains(ofFiles, name) && want.header.Get("Content-Disposition") == "" {
			continue // the icon and the log are no files here, but come with every answer's length
		}
		w, g := headerForm(name, want.header.Get(name)), headerForm(name, got.header.Get(name))
		if w != g {
			t.Errorf("header %s is %q, recorded %q", name, got.header.Get(name), want.header.Get(name))
		}
	}
	if !strings.Contains(got.header.Get("Vary"), "Origin") {
		t.Errorf("vary is %q", got.header.Get("Vary"))
	}
}

// ofFiles are the headers of downloads.
var ofFiles = []string{"Accept-Ranges", "Etag", "Last-Modified"}

var (
	boundaryForm = regexp.MustCompile(`boundary=[0-9a-f]{32}$`)
	tmpForm      = regexp.MustCompile(`filename="tmp[0-9a-z_]+\.`)
	hostForm     = regexp.MustCompile(`^http://[0-9.]+:\d+/`)
)

// headerForm leaves of a header's value what does not depend on the file or the moment.
func headerForm(name, value string) string {
	switch name {
	case "Content-Length", "Last-Modified", "Etag", "Content-Range":
		if value != "" {
			return "some"
		}
	case "Access-Control-Allow-Methods":
		return strings.TrimSuffix(value, ", QUERY") // a method of newer Starlette
	case "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials":
		return "" // credentials and the origin itself only for origins that are named
	}
	value = boundaryForm.ReplaceAllString(value, "boundary=B")
	value = tmpForm.ReplaceAllString(value, `filename="tmp.`)
	return hostForm.ReplaceAllString(value, "http://host/")
}

// compareBodies checks the layout of a body: JSON down to names and order, multipart answers down to the lines between parts,
// errors and short answers to the letter.
func compareBodies(t *testing.T, want, got result) {
	t.Helper()
	switch contentType := want.header.Get("Content-Type"); {
	case strings.HasPrefix(contentType, "multipart/"):
		if diff := cmp.Diff(multipartForm(want), multipartForm(got)); diff != "" {
			t.Errorf("layout (-recorded +got):\n%s", diff)
		}
		params, _, _ := got.parts(t)
		for _, name := range []string{"label_names", "latencies", "centroids"} {
			if !params.Has(name) {
				t.Errorf("params lack %s: %v", name, params.Names())
			}
		}
	case contentType == "application/json" && want.status >= 400 && want.body != "":
		if got.body != want.body {
			t.Errorf("body is %s, recorded %s", got.body, want.body)
		}
	case contentType == "application/json" && want.body != "":
		compareJSON(t, "", decodeJSON(t, want.body), decodeJSON(t, got.body))
		compareOrder(t, want.body, got.body)
	case contentType == "application/octet-stream" && strings.HasPrefix(want.body, "NRRD"):
		if !strings.HasPrefix(got.body, "NRRD0004\n") {
			t.Errorf("body is %.60q, want NRRD", got.body)
		}
	}
}

// multipartForm is the text of a multipart answer without what differs each time.
func multipartForm(r result) string {
	_, boundary, _ := strings.Cut(r.header.Get("Content-Type"), "boundary=")
	text := strings.ReplaceAll(r.body, boundary, "B")
	text = tmpForm.ReplaceAllString(text, `filename="tmp.`)
	text = regexp.MustCompile(`(?s)\r\n\r\n\{.*?\}\r\n--B`).ReplaceAllString(text, "\r\n\r\n{}\r\n--B")
	return regexp.MustCompile(`(?s)(octet-stream\r\n\r\n).*(\r\n--B--\r\n)$`).ReplaceAllString(text, "${1}bytes${2}")
}

// own lists members whose content is the app's: what they hold cannot be compared with another app's.
var own = []string{"models", "trainers", "strategies", "scoring", "train_stats", "latencies", "label_names", "centroids", "label_tags", "objects", "info", "params", "paths", "components", "meta", "strategy"}

// extra are members that only the recorded answers have or only ours, without harm: results of other tasks, and the checksum
// that Slicer looks for, and what the incumbent's child processes are told of graphics cards.
var extra = []string{"bbox", "checksum", "strategy", "sum", "slices", "servers", "components", "version", "gpus"}

// compareJSON checks that every recorded member is there with a value of the same kind.
func compareJSON(t *testing.T, path string, want, got any) {
	t.Helper()
	if fmt.Sprintf("%T", want) != fmt.Sprintf("%T", got) {
		t.Errorf("%s is %T, recorded %T", path, got, want)
		return
	}
	w, ok := want.(map[string]any)
	if !ok {
		return
	}
	g, _ := got.(map[string]any)
	for name, value := range w {
		other, there := g[name]
		switch {
		case slices.Contains(extra, name):
		case !there:
			t.Errorf("%s.%s is missing", path, name)
		case !slices.Contains(own, name):
			compareJSON(t, path+"."+name, value, other)
		}
	}
}

// compareOrder checks that the members both answers have come in the same order.
func compareOrder(t *testing.T, want, got string) {
	t.Helper()
	if !strings.HasPrefix(want, "{") {
		return
	}
	w, g := result{body: want}.object(t).Names(), result{body: got}.object(t).Names()
	common := func(names, others []string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !slices.Contains(others, n) || slices.Contains(extra, n) })
	}
	if diff := cmp.Diff(common(w, g), common(g, w)); diff != "" {
		t.Errorf("order of members (-recorded +got):\n%s", diff)
	}
}

// The bytes that the unmodified Slicer client sent on one tour, one after the other as it did, get answers of the recorded layout.
func TestReplayOfSlicersTour(t *testing.T) {
	dir := filepath.Join(captures(t), "client")
	files, err := filepath.Glob(filepath.Join(dir, "*.req"))
	if err != nil || len(files) < 38 {
		t.Fatalf("%d recordings: %v", len(files), err)
	}
	b := newBench(t, withTasks(t, &waiting{}))
	session := ""
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".req")
		req, answer := readRaw(t, file), readRawAnswer(t, strings.TrimSuffix(file, ".req")+".res")
		answer.body = sessionID.ReplaceAllString(answer.body, session)
		address := b.url + sessionID.ReplaceAllString(req.URL.RequestURI(), session)
		sent, err := http.NewRequestWithContext(t.Context(), req.Method, address, req.Body)
		if err != nil {
			t.Fatal(err)
		}
		sent.Header, sent.ContentLength = req.Header, req.ContentLength
		got := b.send(sent)
		if strings.HasSuffix(req.URL.Path, "/nope") {
			b.want(got, 404, "") // the incumbent hides the error
			continue
		}
		if t.Run(name, func(t *testing.T) {
			compareStatusAndHeaders(t, answer, got)
			compareBodies(t, answer, got)
		}); req.Method == http.MethodPut && req.URL.Path == "/session/" {
			session, _ = got.object(t).Text("session_id")
		}
	}
}

func readRaw(t *testing.T, file string) *http.Request {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return req
}

func readRawAnswer(t *testing.T, file string) result {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(text)), nil)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	body, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return result{status: res.StatusCode, header: res.Header, body: string(body), length: res.ContentLength}
}
