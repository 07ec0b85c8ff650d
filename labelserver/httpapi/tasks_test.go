package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore/localstore"
	"scrawl/labelserver/jobs"
	"scrawl/labelserver/versions"
)

// waiting are networks whose training begins and then waits to be stopped, or fails at once when told to.
type waiting struct {
	mu   sync.Mutex
	fail error
}

func (*waiting) Trainees() []jobs.Trainee {
	return []jobs.Trainee{
		{Name: "deepgrow_2d", Description: "Clicks", Labels: []string{"spleen", "liver"}, Also: []string{"deepgrow_3d"}},
		{Name: "segmentation_spleen", Description: "The spleen", Labels: []string{"spleen"}, Classes: []string{"spleen"}},
	}
}

func (w *waiting) Learner(ctx context.Context, _ string) (*jobs.Learner, error) {
	w.mu.Lock()
	fail := w.fail
	w.mu.Unlock()
	if fail != nil {
		return nil, fail
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (*waiting) Publish(context.Context, string, []byte, versions.Version) (versions.Version, error) {
	return versions.Version{}, errors.New("nothing was trained")
}

// alone is a model that answers images alone.
type alone struct{}

func (alone) Models() []annotation.Model {
	return []annotation.Model{{Name: "segmentation_spleen", Type: "segmentation"}, {Name: "scribbles", Type: "scribbles"}}
}

func (alone) Infer(ctx context.Context, r *annotation.Request) (*annotation.Reply, error) {
	if _, err := r.Image.Open(ctx); err != nil {
		return nil, err
	}
	return answer(1), nil
}

// uploads are model files that take anything.
type uploads map[string]ModelFile

func (u uploads) ModelFile(_ context.Context, model string) (ModelFile, error) {
	f, ok := u[model]
	if !ok {
		return f, fmt.Errorf("model %s: %w", model, annotation.NotFound)
	}
	return f, nil
}

func (u uploads) ReplaceModel(_ context.Context, model, path string) (ModelFile, error) {
	if model != "segmentation_spleen" {
		return ModelFile{}, fmt.Errorf("model %s: %w", model, annotation.NotFound)
	}
	data, err := os.ReadFile(path)
	if strings.Contains(string(data), "refuse") {
		return ModelFile{}, fmt.Errorf("the file holds no network: %w", annotation.Invalid)
	}
	u[model] = ModelFile{Data: data, Checksum: versions.Checksum(data), Modified: time.Unix(1795426339, 0)}
	return u[model], err
}

func (u uploads) WithdrawModel(_ context.Context, model string) error {
	delete(u, model)
	return nil
}

// withTasks gives a bench real tasks on a folder of images of its own.
func withTasks(t *testing.T, networks *waiting) func(o *Options) {
	return func(o *Options) {
		dir := t.TempDir()
		for _, name := range []string{"case_0.nii.gz", "case_1.nii.gz", "ext1.nii.gz", "labels/final/case_0.nii.gz", "labels/final/ext1.nii.gz", "labels/original/case_0.nii.gz"} {
			path := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(strings.Repeat("voxels ", 30)), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		store, err := localstore.Open(localstore.Options{Dir: dir, Patterns: []string{"*.nii.gz"}, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		data := &jobs.Data{Store: store, Codec: fakeCodec{}}
		group := func(name string, s jobs.Starter) *jobs.Group {
			q, err := jobs.OpenQueue(jobs.QueueOptions{Name: name, Log: zerolog.Nop()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := q.Close(); err != nil {
					t.Error(err)
				}
			})
			return &jobs.Group{Starter: s, Queue: q}
		}
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		o.Train = group("Train", &jobs.Train{Data: data, Networks: networks, Dir: t.TempDir()})
		o.Scoring = group("Scoring", &jobs.Scoring{Scorers: []jobs.Scorer{jobs.Dice{Data: data}, jobs.Sum{Data: data}}})
		o.Batch = group("Batch_infer", &jobs.Batch{Data: data, Service: alone{}, Device: "cpu", Memory: 1 << 20})
		o.Models = uploads{}
	}
}

// settled waits until no task of a kind runs.
func (b *bench) settled(path string) {
	b.t.Helper()
	for range 400 {
		if b.get(path+"?check_if_running=true").status == http.StatusNotFound {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatalf("a task of %s does not end", path)
}

func (b *bench) startJSON(path, body string) result {
	b.t.Helper()
	return b.do(http.MethodPost, path, "application/json", []byte(body))
}

// A training goes through its states as clients expect them.
// A submitted label is told of, what a model answers and what is refused is not.
func TestLabelled(t *testing.T) {
	told := 0
	b := newBench(t, func(o *Options) { o.Labelled = func() { told++ } })
	for path, want := range map[string]int{"?image=case_0": 1, "?image=case_0&tag=final": 1, "?image=case_0&tag=original": 0, "?image=nothing": 0} {
		told = 0
		contentType, body := form(part{"label", "x.nii.gz", "voxels"})
		b.do(http.MethodPut, "/datastore/label"+path, contentType, body)
		if told != want {
			t.Errorf("%s: told %d times, want %d", path, told, want)
		}
	}
}

func TestTasks(t *testing.T) {
	networks := &waiting{}
	b := newBench(t, withTasks(t, networks))
	info := b.get("/info/").object(t)
	trainers, _ := info.Object("trainers")
	if got := trainers.Names(); !slices.Equal(got, []string{"deepgrow_2d", "segmentation_spleen"}) {
		t.Errorf("trainers %v", got)
	}
	scoring, _ := info.Object("scoring")
	stats, _ := info.Object("train_stats")
	if !slices.Equal(scoring.Names(), []string{"dice", "sum"}) || !slices.Equal(stats.Names(), trainers.Names()) {
		t.Errorf("scoring %v, stats %v", scoring.Names(), stats.Names())
	}

	first := b.startJSON("/train/segmentation_spleen", `{"max_epochs":3,"client_id":"ann"}`).object(t)
	id, _ := first.Text("id")
	if got, _ := first.Text("status"); got != "SUBMITTED" || first.Has("details") || first.Has("end_ts") {
		t.Errorf("submitted as %v", first)
	}
	running := b.get("/train/?check_if_running=true").object(t)
	if got, _ := running.Text("id"); got != id {
		t.Errorf("running is %q, want %q", got, id)
	}
	if got, _ := running.Text("status"); got != "RUNNING" || !running.Has("details") {
		t.Errorf("running task is %v", running)
	}
	b.want(b.startJSON("/train/deepgrow_2d", `{}`), 429, `{"detail":"++++++++++ Train Task is Already Running"}`)
	b.want(b.startJSON("/train/deepgrow_2d?run_sync=true", `{}`), 429, "")
	b.want(b.startJSON("/train/", `{}`), 429, "")
	second := b.startJSON("/train/deepgrow_3d?enqueue=true", `{}`).object(t)
	if got := b.get("/train/").object(t); !sameText(got, second, "id") {
		t.Error("the newest task is not the one enqueued")
	}
	stopped := b.do(http.MethodDelete, "/train/", "", nil).object(t)
	if got, _ := stopped.Text("status"); got != "STOPPED" || !sameText(stopped, first, "id") || !stopped.Has("end_ts") {
		t.Errorf("stopped task is %v", stopped)
	}
	if details, _ := stopped.Get("details"); len(details.([]any)) == 0 {
		t.Error("a stopped task has no details: Slicer reads the last")
	}
	next := b.get("/train/?check_if_running=true").object(t)
	if !sameText(next, second, "id") {
		t.Error("the task that waited has not begun")
	}
	b.do(http.MethodDelete, "/train/", "", nil)
	b.settled("/train/")
	b.want(b.do(http.MethodDelete, "/train/", "", nil), 200, `null`)
	var all []map[string]any
	if err := json.Unmarshal([]byte(b.get("/train/?all=true").body), &all); err != nil || len(all) != 2 {
		t.Errorf("all tasks: %v, %v", all, err)
	}

	networks.mu.Lock()
	networks.fail = errors.New("the device is gone")
	networks.mu.Unlock()
	r := b.startJSON("/train/segmentation_spleen?run_sync=true", `{}`)
	if r.status != 500 || !strings.Contains(r.body, "the device is gone") {
		t.Errorf("a failed training: %d %s", r.status, r.body)
	}
	failed := b.get("/train/").object(t)
	if got, _ := failed.Text("status"); got != "ERROR" {
		t.Errorf("failed task is %v", failed)
	}
}

func sameText(a, b *api.Object, name string) bool {
	x, _ := a.Text(name)
	y, _ := b.Text(name)
	return x == y && x != ""
}

// Answers of a model are kept as original labels, for the images that were meant.
func TestBatchInference(t *testing.T) {
	b := newBench(t, withTasks(t, &waiting{}))
	for query, want := range map[string][]string{
		"?run_sync=true":                  {"case_0", "case_1", "ext1"},
		"?run_sync=true&images=labeled":   {"case_0", "ext1"},
		"?run_sync=true&images=unlabeled": {"case_1"},
	} {
		if got := b.startJSON("/batch/infer/segmentation_spleen"+query, ``).object(t).Names(); !slices.Equal(got, want) {
			t.Errorf("%s answered %v, want %v", query, got, want)
		}
	}
	got := b.startJSON("/batch/infer/segmentation_spleen?run_sync=true", `{"images":["ext1","case_1"],"max_batch_size":1,"label_tag":"model a","max_workers":0}`).object(t)
	one, _ := got.Object("case_1")
	if tag, _ := one.Text("tag"); got.Len() != 1 || tag != "model a" {
		t.Errorf("answered %v", got.Names())
	}
	if last := b.get("/batch/infer").object(t); !last.Has("progress") {
		t.Error("the task tells no progress")
	}
}

// Each parameter of wrong type, size or content is refused with a sentence that names it, and nothing runs.
func TestBadTaskParameters(t *testing.T) {
	b := newBench(t, withTasks(t, &waiting{}))
	long := strings.Repeat("x", 2000)
	for _, c := range []struct {
		path, body string
		status     int
		says       string
	}{
		{"/train/segmentation_spleen", `{"max_epochs":0}`, 400, "max_epochs is 0"},
		{"/train/segmentation_spleen", `{"max_epochs":1e99}`, 400, "max_epochs"},
		{"/train/segmentation_spleen", `{"max_epochs":1.5}`, 400, "max_epochs is 1.5"},
		{"/train/segmentation_spleen", `{"max_epochs":"many"}`, 400, `max_epochs is \"many\"`},
		{"/train/segmentation_spleen", `{"max_epochs":{}}`, 400, "max_epochs"},
		{"/train/segmentation_spleen", `{"max_epochs":true}`, 400, "max_epochs"},
		{"/train/segmentation_spleen", `{"early_stop_patience":-2}`, 400, "early_stop_patience"},
		{"/train/segmentation_spleen", `{"val_split":1}`, 400, "val_split"},
		{"/train/segmentation_spleen", `{"val_split":"half"}`, 400, "val_split"},
		{"/train/segmentation_spleen", `{"train_batch_size":65}`, 400, "train_batch_size"},
		{"/train/segmentation_spleen", `{"learning_rate":0}`, 400, "learning_rate"},
		{"/train/segmentation_spleen", `{"learning_rate":-1e-3}`, 400, "learning_rate"},
		{"/train/segmentation_spleen", `{"learning_rate":"fast"}`, 400, "learning_rate"},
		{"/train/segmentation_spleen", `{"slices_per_case":0}`, 400, "slices_per_case"},
		{"/train/segmentation_spleen", `{"replay":1}`, 400, "replay"},
		{"/train/segmentation_spleen", `{"blend":2}`, 400, "blend is 2"},
		{"/train/segmentation_spleen", `{"weights":3}`, 400, "weights"},
		{"/train/segmentation_spleen", `{"weights":[3]}`, 400, "weights"},
		{"/train/segmentation_spleen", `{"weights":"` + long + `"}`, 400, "weights"},
		{"/train/segmentation_spleen", `{"labels":{"a":1}}`, 400, "labels"},
		{"/train/segmentation_spleen", `{"resume":"perhaps"}`, 400, "resume"},
		{"/train/segmentation_spleen", `{"seed":-1}`, 400, "seed"},
		{"/train/segmentation_spleen", `[1]`, 422, "valid dictionary"},
		{"/train/segmentation_spleen", `{"max_epochs":`, 422, "JSON decode error"},
		{"/train/segmentation_spleen", "\xff\xfe", 422, "JSON"},
		{"/train/segmentation_spleen?run_sync=maybe", `{}`, 422, "run_sync"},
		{"/train/segmentation_spleen?enqueue=2", `{}`, 422, "enqueue"},
		{"/train/nobody", `{}`, 404, "there is deepgrow_2d, segmentation_spleen"},
		{"/train/segmentation_spleen", `{"model":"nobody"}`, 404, "nobody"},
		{"/train/", `{"model":"nobody"}`, 404, "nobody"},
		{"/train/", `{"segmentation_spleen":{"max_epochs":-1},"model":"segmentation_spleen"}`, 400, "max_epochs"},
		{"/train/..%2F..%2Fetc", `{}`, 404, "there is"},
		{"/train/a%00b", `{}`, 404, "there is"},
		{"/train/" + long, `{}`, 404, "there is"},
		{"/scoring/nobody?run_sync=true", `{}`, 404, "there is dice, sum"},
		{"/scoring/dice", `{"y":7}`, 400, "y is 7"},
		{"/scoring/dice", `{"y_pred":"a/final"}`, 400, "separator"},
		{"/scoring/dice?run_sync=x", `{}`, 422, "run_sync"},
		{"/batch/infer/nobody", `{}`, 404, "there is segmentation_spleen"},
		{"/batch/infer/scribbles", `{}`, 400, "answers what somebody draws"},
		{"/batch/infer/segmentation_spleen?images=some", `{}`, 422, "images"},
		{"/batch/infer/segmentation_spleen", `{"images":"some"}`, 400, "images"},
		{"/batch/infer/segmentation_spleen", `{"images":["../x"]}`, 400, "images"},
		{"/batch/infer/segmentation_spleen", `{"images":[3]}`, 400, "images"},
		{"/batch/infer/segmentation_spleen", `{"label_tag":"final"}`, 400, "original is usual"},
		{"/batch/infer/segmentation_spleen", `{"label_tag":"a/b"}`, 400, "label_tag"},
		{"/batch/infer/segmentation_spleen", `{"max_workers":-1}`, 400, "max_workers"},
		{"/batch/infer/segmentation_spleen", `{"max_batch_size":-1}`, 400, "max_batch_size"},
		{"/batch/infer/segmentation_spleen?run_sync=true", `{"images":["nobody"]}`, 404, "nobody"},
	} {
		r := b.startJSON(c.path, c.body)
		if r.status != c.status || !strings.Contains(r.body, c.says) {
			t.Errorf("%.80s %.60s: %d %.300s, want %d with %q", c.path, c.body, r.status, r.body, c.status, c.says)
		}
	}
	for _, path := range []string{"/train/?all=x", "/train/?check_if_running=x", "/scoring/?all=x", "/batch/infer?check_if_running=7"} {
		b.want(b.get(path), 422, "")
	}
	b.want(b.get("/train/"), 404, "")
	b.want(b.get("/scoring/"), 404, "")
}

func TestModelFiles(t *testing.T) {
	b := newBench(t, withTasks(t, &waiting{}))
	b.want(b.get("/model/segmentation_spleen"), 404, `{"detail":"Model File NOT Found for segmentation_spleen"}`)
	b.want(b.put("/model/segmentation_spleen"), 422, "")
	b.want(b.put("/model/segmentation_spleen", part{"file", "x.onnx", "refuse"}), 400, "")
	b.want(b.put("/model/nobody", part{"file", "x.onnx", "network"}), 404, "")
	info := b.put("/model/segmentation_spleen", part{"file", `C:\x.pt`, "network"})
	b.want(info, 200, `{"checksum":"`+versions.Checksum([]byte("network"))+`","modified_time":1795426339}`)
	b.want(b.get("/model/info/segmentation_spleen"), 200, info.body)
	if r := b.get("/model/segmentation_spleen", "Range", "bytes=1-3"); r.status != 206 || r.body != "etw" {
		t.Errorf("a part: %d %q", r.status, r.body)
	}
	b.want(b.do(http.MethodDelete, "/model/segmentation_spleen", "", nil), 200, `{}`)
	b.want(b.do(http.MethodDelete, "/model/segmentation_spleen", "", nil), 404, "")
	for _, name := range []string{"..%2Fx", "a%00b", strings.Repeat("x", 3000)} {
		b.want(b.get("/model/"+name), 404, "")
		b.want(b.get("/model/info/"+name), 404, "")
	}
}

// A server without tasks says that it has none, and what nothing ever ran answers.
func TestNoTasks(t *testing.T) {
	b := newBench(t)
	for _, path := range []string{"/train/", "/train/x", "/scoring/", "/scoring/dice?run_sync=true", "/batch/infer/x"} {
		if r := b.startJSON(path, `{}`); r.status != 404 || !strings.Contains(r.body, "this server offers no") {
			t.Errorf("POST %s: %d %s", path, r.status, r.body)
		}
	}
	b.want(b.get("/model/x"), 404, "")
	b.want(b.put("/model/x", part{"file", "x.onnx", "network"}), 404, "")
}
