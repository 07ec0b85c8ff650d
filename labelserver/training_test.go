package labelserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/protobuf/proto"

	"scrawl/adapters/format"
	"scrawl/adapters/measure"
	"scrawl/adapters/volume"
	"scrawl/apps/phantom"
	"scrawl/engine/onnx"
	"scrawl/engine/onnx/onnxpb"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/train"
	"scrawl/labelserver/api"
	"scrawl/labelserver/config"
	"scrawl/labelserver/versions"
)

// site is a server on a folder that outlives it: ten labelled phantoms and three that nobody has labelled.
type site struct {
	t       *testing.T
	cfg     *config.Config
	truth   map[string]*volume.LabelMap
	address string
	server  *Server
	stop    func()
}

const organsApp = `
name: organs
labels: [liver, spleen]
models:
  - name: organs
    type: segmentation
    description: Finds liver and spleen.
    file: net.onnx
    classes: {liver: 1, spleen: 2}
    input: {channels: [image], multiple: 4}
    profile: thesis
  - {name: organs_scribbles, type: scribbles, network: organs}
`

func organsNet(t *testing.T, seed uint64, shape train.UNetShape) []byte {
	t.Helper()
	m, err := train.UNet(shape, seed)
	if err != nil {
		t.Fatal(err)
	}
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var organsShape = train.UNetShape{Input: 1, Channels: []int{8, 16, 24}, Groups: 4, Classes: 3}

func newSite(t *testing.T) *site {
	t.Helper()
	app, studies := t.TempDir(), t.TempDir()
	for name, content := range map[string][]byte{"net.onnx": organsNet(t, 3, organsShape), "app.yaml": []byte(organsApp)} {
		if err := os.WriteFile(filepath.Join(app, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := &site{t: t, truth: map[string]*volume.LabelMap{}}
	if err := os.MkdirAll(filepath.Join(studies, "labels", "final"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 13 {
		id := fmt.Sprintf("case_%02d", i)
		v, m := phantom.Abdomen([3]int{40, 32, 8}, [3]float64{8, 8, 20}, uint64(i+1))
		liverAndSpleen(m)
		encode(t, filepath.Join(studies, id+".nii.gz"), func(w io.Writer) error {
			return format.Encode("x.nii.gz", w, v, format.Options{DType: "int16", Compress: true})
		})
		if i < 10 {
			encode(t, filepath.Join(studies, "labels", "final", id+".nii.gz"), func(w io.Writer) error {
				return format.EncodeLabels("x.nii.gz", w, m, format.Options{DType: "uint8", Compress: true})
			})
			continue
		}
		s.truth[id] = m
	}
	var err error
	if s.cfg, err = config.Load("", nil, map[string]any{"app": app, "studies": studies, "server.port": 0, "runtime.measure": false, "state.dir": t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	s.start()
	return s
}

// liverAndSpleen leaves these two of a phantom's organs, as 1 and 2.
func liverAndSpleen(m *volume.LabelMap) *volume.LabelMap {
	numbers := phantom.Labels()
	for at, l := range m.Labels {
		switch l {
		case numbers["liver"]:
			m.Labels[at] = 1
		case numbers["spleen"]:
			m.Labels[at] = 2
		default:
			m.Labels[at] = 0
		}
	}
	return m
}

func (s *site) start() {
	s.t.Helper()
	ctx, stop := context.WithCancel(s.t.Context())
	var err error
	if s.server, err = New(ctx, s.cfg, Parts{Library: orttest.Library(s.t), Log: zerolog.Nop(), Version: "test"}); err != nil {
		s.t.Fatal(err)
	}
	l, err := s.server.Listen(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = "http://" + l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(ctx, l) }()
	s.stop = func() {
		stop()
		if err := <-done; err != nil {
			s.t.Errorf("serve: %v", err)
		}
		if err := s.server.Close(); err != nil {
			s.t.Errorf("close: %v", err)
		}
	}
}

// call sends a request with a JSON body and decodes the answer.
func (s *site) call(method, path, body string) (int, map[string]any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.address+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	return s.send(req)
}

func (s *site) send(req *http.Request) (int, map[string]any) {
	s.t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		s.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	return resp.StatusCode, answer
}

func (s *site) upload(path string, data []byte) (int, map[string]any) {
	s.t.Helper()
	return s.uploadAs(path, "file", "x.pt", data)
}

func (s *site) uploadAs(path, field, name string, data []byte) (int, map[string]any) {
	s.t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, err := w.CreateFormFile(field, name)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := part.Write(data); err != nil {
		s.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPut, s.address+path, &body)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	return s.send(req)
}

// unseen lets the model answer the images nobody has labelled, and compares with what they hold.
func (s *site) unseen() float64 {
	s.t.Helper()
	status, answer := s.call("POST", "/batch/infer/organs?images=unlabeled&run_sync=true", `{"max_workers":2}`)
	if status != 200 || len(answer) != len(s.truth) {
		s.t.Fatalf("batch inference: %d %v", status, answer)
	}
	sum := 0.0
	for id, truth := range s.truth {
		m := s.label(id, "original")
		for _, d := range measure.DiceOfEach(truth.Labels, m.Labels, []uint16{1, 2}) {
			sum += d / 2
		}
	}
	return sum / float64(len(s.truth))
}

func (s *site) label(id, tag string) *volume.LabelMap {
	s.t.Helper()
	resp, err := http.Get(s.address + "/datastore/label?label=" + id + "&tag=" + tag)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	m, err := format.DecodeLabels("x.nii.gz", resp.Body, volume.DefaultLimits())
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

func (s *site) checksum() string {
	s.t.Helper()
	status, info := s.call("GET", "/model/info/organs_scribbles", "")
	sum, _ := info["checksum"].(string)
	if status != 200 || !strings.HasPrefix(sum, "SHA256:") {
		s.t.Fatalf("model info: %d %v", status, info)
	}
	return sum
}

// From ten submitted labels the answers on other images get better; the new weights are a version that is served at once, that is there
// after a restart, and that one can go back from.
func TestTrainingHelps(t *testing.T) {
	s := newSite(t)
	defer func() { s.stop() }()
	source, before := s.checksum(), s.unseen()
	status, stats := s.call("POST", "/train/organs?run_sync=true", `{"max_epochs":8,"learning_rate":0.003,"client_id":"ann"}`)
	if status != 200 || stats["helped"] != true || stats["version"] != 1.0 || stats["epoch"] != 8.0 || stats["total_time"] == nil {
		t.Fatalf("training: %d %v", status, stats)
	}
	trained, after := s.checksum(), s.unseen()
	t.Logf("Dice on images that nobody has labelled: %.3f before, %.3f after", before, after)
	if after < before+0.2 || trained == source || trained != stats["checksum"] {
		t.Errorf("Dice %.3f after training, %.3f before; checksum %s, was %s", after, before, trained, source)
	}
	_, info := s.call("GET", "/info/", "")
	own, _ := info["train_stats"].(map[string]any)["organs"].(map[string]any)
	if own["best_metric"] == nil || own["total_epochs"] != 8.0 || own["epochs"] == nil {
		t.Errorf("train_stats %v", own)
	}
	v, err := versions.NewStore(s.cfg.VersionDir()).Get("organs", 1)
	if err != nil || v.Origin != versions.Trained || v.Parent != source || v.Checksum != trained || len(v.Data) != 10 || v.Metrics["val_mean_dice"] <= v.Metrics["val_mean_dice_before"] {
		t.Errorf("version %+v, %v", v, err)
	}
	for _, d := range v.Data {
		if !strings.HasPrefix(d.Label, "SHA256:") || d.Image == "" {
			t.Errorf("data used: %+v", d)
		}
	}

	s.stop()
	s.start()
	// The graph may be compiled in another way than before, which changes the last bits of answers.
	near := func(a, b float64) bool { return math.Abs(a-b) < 0.01 }
	if sum, got := s.checksum(), s.unseen(); sum != trained || !near(got, after) {
		t.Errorf("after a restart %s is served with Dice %.3f", sum, got)
	}
	// Another process goes back, as `scrawl model rollback` does; the server follows.
	store := versions.NewStore(s.cfg.VersionDir())
	if err := store.Select("organs", 0); err != nil {
		t.Fatal(err)
	}
	s.until("the source is served again", func() bool { return s.checksum() == source })
	if got := s.unseen(); !near(got, before) {
		t.Errorf("Dice %.3f after going back, %.3f before training", got, before)
	}
	if err := store.Select("organs", 1); err != nil {
		t.Fatal(err)
	}
	s.until("the version is served again", func() bool { return s.checksum() == trained })

	// Scores of what was predicted are kept where MONAI Label keeps them.
	if status, answer := s.call("POST", "/batch/infer/organs?images=labeled&run_sync=true", ``); status != 200 || len(answer) != 10 {
		t.Fatalf("batch inference: %d %v", status, answer)
	}
	status, dice := s.call("POST", "/scoring/dice?run_sync=true", `{}`)
	if d, _ := dice["case_00"].(float64); status != 200 || len(dice) != 10 || d <= before {
		t.Errorf("scoring: %d %v", status, dice)
	}
	if _, kept := s.call("GET", "/datastore/image/info?image=case_00", ""); kept["dice"] != dice["case_00"] {
		t.Errorf("the image's info holds %v, scored %v", kept["dice"], dice["case_00"])
	}
	status, judged := s.call("POST", "/scoring/organs_epistemic?run_sync=true", `{"max_samples":2}`)
	if status != 200 || judged["total"] != 3.0 || judged["executed"] != 2.0 {
		t.Errorf("epistemic scoring: %d %v", status, judged)
	}
	if _, again := s.call("POST", "/scoring/organs_epistemic?run_sync=true", ``); again["skipped"] != 2.0 || again["executed"] != 1.0 {
		t.Errorf("epistemic scoring again: %v", again)
	}
	if _, kept := s.call("GET", "/datastore/image/info?image=case_10", ""); kept["epistemic_entropy"].(float64) <= 0 || kept["epistemic_ts"] != float64(v.Created.Unix()) {
		t.Errorf("the image's info holds %v", kept)
	}
	status, sums := s.call("POST", "/scoring/sum?run_sync=true", ``)
	final := s.label("case_10", "original")
	total, one := 0.0, sums["case_10"].(map[string]any)
	for _, l := range final.Labels {
		total += float64(l)
	}
	if status != 200 || len(sums) != 13 || one["sum"] != total {
		t.Errorf("sums: %d %v, want %v for case_10", status, one, total)
	}
}

func (s *site) until(what string, done func() bool) {
	s.t.Helper()
	for range 300 {
		if done() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("not in time: %s", what)
}

// A training that the server's end cuts off goes on at the next start; one that was stopped can be taken up again.
func TestTrainingGoesOn(t *testing.T) {
	s := newSite(t)
	defer func() { s.stop() }()
	const options = `{"max_epochs":400,"early_stop_patience":-1,"slices_per_case":2}`
	epoch := func() float64 {
		_, task := s.call("GET", "/train/", "")
		progress, _ := task["progress"].(map[string]any)
		e, _ := progress["epoch"].(float64)
		return e
	}
	status, task := s.call("POST", "/train/organs", options)
	if status != 200 || task["status"] != "SUBMITTED" {
		t.Fatalf("training: %d %v", status, task)
	}
	s.until("the third epoch", func() bool { return epoch() >= 3 })
	// While it trains, annotators are answered.
	if status, _, _ := post(t, s.address+"/infer/organs?image=case_11&output=json", form{params: `{}`}); status != 200 {
		t.Errorf("an inference while training: %d", status)
	}
	s.stop()
	s.start()
	status, again := s.call("GET", "/train/?check_if_running=true", "")
	if status != 200 || again["id"] != task["id"] {
		t.Fatalf("after a restart: %d %v", status, again)
	}
	told := func(words string) func() bool {
		return func() bool {
			_, task := s.call("GET", "/train/", "")
			text := fmt.Sprint(task["details"])
			return strings.Contains(text, words)
		}
	}
	s.until("that it goes on", told("going on after epoch"))
	status, stopped := s.call("DELETE", "/train/", "")
	if status != 200 || stopped["status"] != "STOPPED" || stopped["id"] != task["id"] {
		t.Fatalf("stopped: %d %v", status, stopped)
	}
	if sum := s.checksum(); sum != versions.Checksum(organsNet(t, 3, organsShape)) {
		t.Error("a training that was stopped has changed what is served")
	}
	if status, _ = s.call("POST", "/train/organs", strings.Replace(options, "{", `{"resume":true,`, 1)); status != 200 {
		t.Fatalf("resumed: %d", status)
	}
	s.until("that it goes on again", told("going on after epoch"))
	s.call("DELETE", "/train/", "")
}

// Uploads that cannot take the network's place are refused with the reason; one that can is served.
func TestModelUploads(t *testing.T) {
	s := newSite(t)
	defer func() { s.stop() }()
	source := s.checksum()
	other := func(change func(*train.UNetShape)) []byte {
		shape := organsShape
		change(&shape)
		return organsNet(t, 5, shape)
	}
	good := other(func(*train.UNetShape) {})
	for _, c := range []struct {
		name, says string
		data       []byte
	}{
		{"an empty file", "empty", nil},
		{"text", "no ONNX network", []byte("hello")},
		{"a zip, as PyTorch writes", "pickled", []byte("PK\x03\x04 data.pkl")},
		{"a pickle", "pickled", []byte("\x80\x02}q\x00.")},
		{"half a network", "no ONNX network", good[:len(good)/2]},
		{"two input channels", "2 input channels", other(func(u *train.UNetShape) { u.Input = 2 })},
		{"two classes", "2 classes", other(func(u *train.UNetShape) { u.Classes = 2 })},
		{"weights in another file", "another file", external(t, good)},
		{"an operator without a gradient", "learned from", hardened(t, good)},
	} {
		status, answer := s.upload("/model/organs", c.data)
		if detail, _ := answer["detail"].(string); status < 400 || status >= 500 || !strings.Contains(detail, c.says) {
			t.Errorf("%s: %d %v, want a refusal with %q", c.name, status, answer, c.says)
		}
	}
	if s.checksum() != source {
		t.Error("a refused file is served")
	}
	if status, answer := s.call("DELETE", "/model/organs", ""); status != 400 {
		t.Errorf("the app's own network withdrawn: %d %v", status, answer)
	}
	status, answer := s.upload("/model/organs", good)
	if status != 200 || answer["checksum"] != versions.Checksum(good) || s.checksum() != answer["checksum"] {
		t.Errorf("a good file: %d %v", status, answer)
	}
	if status, answer := s.call("DELETE", "/model/organs", ""); status != 200 || s.checksum() != source {
		t.Errorf("withdrawn: %d %v", status, answer)
	}
	if status, _ := s.upload("/model/nobody", good); status != 404 {
		t.Errorf("a model nobody serves: %d", status)
	}
}

// A kind of tasks that is switched off is not offered, and the others are.
func TestTasksSwitchedOff(t *testing.T) {
	s := newSite(t)
	defer func() { s.stop() }()
	s.stop()
	s.cfg.Tasks.Train = false
	s.start()
	if status, answer := s.call("POST", "/train/organs", `{}`); status != 404 {
		t.Errorf("training that is switched off: %d %v", status, answer)
	}
	if status, _ := s.call("GET", "/train/", ""); status != 404 {
		t.Errorf("status of training that is switched off: %d", status)
	}
	if _, info := s.call("GET", "/info/", ""); len(info["trainers"].(map[string]any)) != 0 || len(info["scoring"].(map[string]any)) != 3 {
		t.Errorf("offered: %v, %v", info["trainers"], info["scoring"])
	}
	if status, _ := s.call("POST", "/scoring/sum?run_sync=true", ``); status != 200 {
		t.Errorf("scoring: %d", status)
	}
}

// Where scores are to follow, they are computed at the start, for a label that is submitted and after a training, without being asked for.
func TestScoresFollow(t *testing.T) {
	s := newSite(t)
	defer func() { s.stop() }()
	s.stop()
	s.cfg.Tasks.AutoScoring = true
	s.start()
	scored := func(id string) func() bool {
		return func() bool {
			_, info := s.call("GET", "/datastore/label/info?tag=final&label="+id, "")
			return info["sum"] != nil
		}
	}
	s.until("what is there is scored", scored("case_00"))
	label, err := os.ReadFile(filepath.Join(s.cfg.Studies, "labels", "final", "case_00.nii.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := s.uploadAs("/datastore/label?image=case_10", "label", "x.nii.gz", label); status != 200 {
		t.Fatalf("submitting: %d %v", status, answer)
	}
	s.until("the submitted label is scored", scored("case_10"))

	queue := s.server.tasks.scoring.Queue
	idle := func() bool {
		return !slices.ContainsFunc(queue.All(), func(task *api.Task) bool { return task.End.IsZero() })
	}
	s.until("all scores are there", idle)
	before := len(queue.All())
	if status, answer := s.call("POST", "/train/organs?run_sync=true", `{"max_epochs":1}`); status != 200 {
		t.Fatalf("training: %d %v", status, answer)
	}
	s.until("scores are computed after training", func() bool { return idle() && len(queue.All()) == before+3 })
}

// external says of a weight that it lies in another file.
func external(t *testing.T, data []byte) []byte {
	t.Helper()
	var m onnxpb.ModelProto
	if err := proto.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	m.Graph.Initializer[0].DataLocation = onnxpb.TensorProto_EXTERNAL.Enum()
	m.Graph.Initializer[0].RawData = nil
	out, err := proto.Marshal(&m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// hardened takes the remainder of the logits, by an operator that has no gradient here.
func hardened(t *testing.T, data []byte) []byte {
	t.Helper()
	m, err := onnx.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	b := onnx.NewBuilder(m.Graph, "hard/")
	last := m.Graph.Outputs[0].Name
	b.Alias(b.Op("Mod", []string{last, b.Float(1)}, onnx.WithInt("fmod", 1)), "remainder")
	m.Graph.Outputs[0].Name = "remainder"
	out, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What the command line does beside a server: train, list, go back, promote.
func TestBesideTheServer(t *testing.T) {
	s := newSite(t)
	source := s.checksum()
	// An annotator teaches the network something, by strokes on an image nobody has labelled.
	image, err := format.Decode("x.nii.gz", open(t, filepath.Join(s.cfg.Studies, "case_10.nii.gz")), volume.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	strokes := labelBytes(t, layers(image.Geometry, line([3]int{10, 12, 4}, 0, 6), line([3]int{2, 3, 4}, 0, 5)))
	status, _, body := post(t, s.address+"/infer/organs_scribbles?image=case_10&output=json", form{strings.Replace(scribbleParams, `"bad"`, `"ann"`, 1), map[string]upload{"label": {"m.nii.gz", strokes}}})
	if status != 200 {
		t.Fatalf("strokes: %d %s", status, body)
	}
	s.stop()
	parts := Parts{Library: orttest.Library(t), Log: zerolog.Nop(), Version: "test"}

	v, err := Promote(t.Context(), s.cfg, parts, "", "ann", "")
	if err != nil {
		t.Fatal(err)
	}
	if user, _ := v.Details.Text("user"); v.Number != 1 || v.Origin != versions.Promoted || v.Parent != source || user != "ann" {
		t.Errorf("promoted %+v", v)
	}
	if _, err := Promote(t.Context(), s.cfg, parts, "", "ann", ""); err == nil || !strings.Contains(err.Error(), "other weights") {
		t.Errorf("promoted twice: %v", err)
	}
	if _, err := Promote(t.Context(), s.cfg, parts, "", "bob", ""); err == nil || !strings.Contains(err.Error(), "nobody has taught") {
		t.Errorf("promoted what nobody taught: %v", err)
	}

	told := 0
	stats, err := Train(t.Context(), s.cfg, parts, "organs", api.NewObject("max_epochs", 2, "learning_rate", 0.003), func(*api.Task) { told++ })
	if err != nil {
		t.Fatal(err)
	}
	if helped, _ := stats.Bool("helped"); !helped || told == 0 {
		t.Errorf("trained %v, told %d times", stats, told)
	}
	if _, err := Train(t.Context(), s.cfg, parts, "organs", api.NewObject("max_epochs", 0), func(*api.Task) {}); err == nil {
		t.Error("trained for no epoch")
	}
	if _, err := Train(t.Context(), s.cfg, parts, "nobody", nil, func(*api.Task) {}); err == nil {
		t.Error("trained a network that the app does not have")
	}
	all, err := Versions(s.cfg)
	if err != nil || len(all) != 1 || all[0].Current != 2 || len(all[0].Versions) != 3 || all[0].Versions[0].Checksum != source || all[0].Versions[2].Parent != v.Checksum {
		t.Errorf("versions %+v, %v", all, err)
	}
	for _, want := range []int{1, 0} {
		if network, number, err := Select(s.cfg, "", -1); err != nil || network != "organs" || number != want {
			t.Errorf("went back to %s %d, %v; want %d", network, number, err, want)
		}
	}
	if _, _, err := Select(s.cfg, "", -1); err == nil {
		t.Error("went back beyond the app's own network")
	}
	if _, _, err := Select(s.cfg, "organs", 9); err == nil {
		t.Error("chose a version that is not there")
	}
	if _, _, err := Select(s.cfg, "nobody", 0); err == nil {
		t.Error("chose a version of a network that the app does not have")
	}
	s.start()
	defer func() { s.stop() }()
	if s.checksum() != source {
		t.Error("the server serves another version than was chosen")
	}
}

func open(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
