package labelserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"scrawl/apps"
	"scrawl/engine/adapt"
	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/tensor"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/httpapi"
	"scrawl/labelserver/jobs"
	"scrawl/labelserver/versions"
)

// networks are the networks of the app, each served in one of its versions. A network is switched to another version without a
// pause: the new one is made ready beside the old one, requests under way end with the old one, and its sessions are closed when
// nobody can reach them any more.
type networks struct {
	s        *Server
	app      *apps.App
	compiler *lower.Compiler
	gate     *ort.Gate
	versions *versions.Store
	started  time.Time

	switching sync.Mutex // held while a version is chosen and made ready

	mu     sync.Mutex
	served map[string]servedNetwork // by the name of the model that owns it
}

// servedNetwork is the version of a network that is served.
type servedNetwork struct {
	model    apps.Model
	version  versions.Version
	checksum string
	modified time.Time
	shape    networkShape
}

// networkShape is what must not change from one version to the next.
type networkShape struct {
	channels, classes int
	size              []int
}

func newNetworks(s *Server, app *apps.App, lib *ort.Library, gate *ort.Gate) *networks {
	// Threads that spin while they wait are a sixth faster on an idle machine, and many times slower on one whose cores
	// something else needs too, such as a viewer.
	compiler := lower.NewCompiler(lib, runtimeOptions(s.cfg.Runtime))
	compiler.Half = s.cfg.Runtime.Half
	return &networks{s: s, app: app, compiler: compiler, gate: gate, versions: versions.NewStore(s.cfg.VersionDir()), started: time.Now(), served: map[string]servedNetwork{}}
}

// measure finds the fastest forms of gradients while nobody waits for the device. That it cannot is no harm.
func (n *networks) measure(ctx context.Context) {
	if err := n.compiler.Measure(ctx, n.gate.EnterBackground); err != nil && ctx.Err() == nil {
		n.s.log.Warn().Err(err).Msg("measuring the fastest way to compute gradients")
	}
}

// open makes the version of a network ready that is to be served.
func (n *networks) open(ctx context.Context, m apps.Model) (annotation.Entry, error) {
	number, err := n.versions.Current(m.Name)
	if err != nil {
		return annotation.Entry{}, err
	}
	data, v, err := n.read(m, number)
	if err != nil {
		return annotation.Entry{}, fmt.Errorf("%w; `scrawl model rollback %s` goes back to the version before", err, m.Name)
	}
	e, err := n.ready(ctx, m, data)
	if err == nil {
		n.nowServed(m, v, data, e)
	}
	return e, err
}

// read returns the file of a version.
func (n *networks) read(m apps.Model, number int) ([]byte, versions.Version, error) {
	if number == 0 {
		data, err := n.app.ReadNetwork(m)
		return data, versions.Version{Origin: versions.Builtin}, err
	}
	return n.versions.Read(m.Name, number)
}

// ready makes a network ready and runs it once. Its sessions live as long as somebody can reach its engine.
func (n *networks) ready(ctx context.Context, m apps.Model, data []byte) (annotation.Entry, error) {
	group := n.s.newSessions(n.compiler, nil)
	e, err := n.s.loadNetwork(ctx, n.app, m, data, group.compile)
	if err != nil {
		return e, errors.Join(err, group.close())
	}
	runtime.AddCleanup(e.Engine(), func(g *sessions) {
		if err := g.close(); err != nil {
			g.owner.log.Error().Err(err).Msg("closing the sessions of a network that is served no more")
		}
	}, group)
	return e, nil
}

func shapeOf(net *adapt.Network) networkShape {
	return networkShape{net.Channels, net.Classes, net.Size}
}

func (n *networks) nowServed(m apps.Model, v versions.Version, data []byte, e annotation.Entry) {
	modified := v.Created
	if v.Number == 0 {
		modified = n.started // the binary's own files have no time
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.served[m.Name] = servedNetwork{model: m, version: v, checksum: versions.Checksum(data), modified: modified, shape: shapeOf(e.Engine().Network())}
}

// find returns the network that a model runs on.
func (n *networks) find(model string) (servedNetwork, error) {
	i := slices.IndexFunc(n.app.Models, func(m apps.Model) bool { return m.Name == model })
	if i < 0 {
		return servedNetwork{}, fmt.Errorf("model %q: %w", model, annotation.NotFound)
	}
	owner, err := n.app.Owner(n.app.Models[i])
	if err != nil {
		return servedNetwork{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now, ok := n.served[owner.Name]
	if !ok {
		return now, fmt.Errorf("model %q has no network: %w", model, annotation.NotFound)
	}
	return now, nil
}

// change serves a version in the place of the one that is. It is called with switching held.
func (n *networks) change(ctx context.Context, network string, number int) error {
	now, err := n.find(network)
	if err != nil || now.version.Number == number {
		return err
	}
	data, v, err := n.read(now.model, number)
	if err != nil {
		return err
	}
	e, err := n.readyBeside(ctx, now.model, data)
	if err != nil {
		return err
	}
	if err := n.s.annotator.Replace(network, func(old *annotation.Entry) {
		old.Model, old.Segment, old.Weights, old.Device = e.Model, e.Segment, e.Weights, e.Device
	}); err != nil {
		return err
	}
	n.nowServed(now.model, v, data, e)
	n.s.log.Info().Str("model", network).Int("version", number).Str("checksum", versions.Checksum(data)).Msg("version is served")
	return nil
}

// readyBeside makes a network ready while others are at work.
func (n *networks) readyBeside(ctx context.Context, m apps.Model, data []byte) (annotation.Entry, error) {
	leave, err := n.gate.EnterBackground(ctx)
	if err != nil {
		return annotation.Entry{}, err
	}
	defer leave()
	return n.ready(ctx, m, data)
}

// watchEvery is how often it is looked whether another process has chosen another version.
const watchEvery = 2 * time.Second

// watch serves what other processes choose, such as `scrawl model rollback`, until ctx ends.
func (n *networks) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	failed := map[string]int{} // versions that could not be served, so that it is said once
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, name := range n.names() {
			n.follow(ctx, name, failed)
		}
	}
}

// follow serves the version of a network that is to be served, if it is another one than is.
func (n *networks) follow(ctx context.Context, name string, failed map[string]int) {
	n.switching.Lock()
	defer n.switching.Unlock()
	number, err := n.versions.Current(name)
	if last, tried := failed[name]; err != nil || tried && last == number {
		return
	}
	delete(failed, name)
	if err := n.change(ctx, name, number); err != nil && ctx.Err() == nil {
		failed[name] = number
		n.s.log.Error().Err(err).Str("model", name).Int("version", number).Msg("version cannot be served; the one before stays")
	}
}

// stamp is the time of the weights that are served in Unix seconds, and 1 for the app's own, which have none.
func (n *networks) stamp(network string) int64 {
	now, err := n.find(network)
	if err != nil || now.version.Number == 0 {
		return 1
	}
	return now.version.Created.Unix()
}

// names lists the networks in the app's order.
func (n *networks) names() []string {
	var all []string
	for _, m := range n.app.Models {
		if m.HasNetwork() {
			all = append(all, m.Name)
		}
	}
	return all
}

// Publish implements jobs.Networks.
func (n *networks) Publish(ctx context.Context, name string, data []byte, v versions.Version) (versions.Version, error) {
	n.switching.Lock()
	defer n.switching.Unlock()
	v, err := n.versions.Add(name, data, v)
	if err != nil {
		return v, err
	}
	// It is made ready first: a version that cannot be served is never chosen.
	if err := n.change(ctx, name, v.Number); err != nil {
		return v, fmt.Errorf("version %d of %s cannot be served: %w", v.Number, name, err)
	}
	return v, n.versions.Select(name, v.Number)
}

// ModelFile implements httpapi.ModelFiles.
func (n *networks) ModelFile(_ context.Context, model string) (httpapi.ModelFile, error) {
	now, err := n.find(model)
	if err != nil {
		return httpapi.ModelFile{}, err
	}
	data, _, err := n.read(now.model, now.version.Number)
	if err != nil {
		return httpapi.ModelFile{}, err
	}
	return httpapi.ModelFile{Data: data, Checksum: now.checksum, Modified: now.modified, Stats: statsOf(now.version)}, nil
}

// statsOf are the figures of the training that a version comes from.
func statsOf(v versions.Version) *api.Object {
	if v.Number == 0 {
		return nil
	}
	o := api.NewObject("version", v.Number, "origin", string(v.Origin))
	names := make([]string, 0, len(v.Metrics))
	for name := range v.Metrics {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		o.Set(name, v.Metrics[name])
	}
	return o
}

// ReplaceModel implements httpapi.ModelFiles.
func (n *networks) ReplaceModel(ctx context.Context, model, path string) (httpapi.ModelFile, error) {
	now, err := n.find(model)
	if err != nil {
		return httpapi.ModelFile{}, err
	}
	data, err := readUpload(path)
	if err != nil {
		return httpapi.ModelFile{}, err
	}
	if err := n.check(ctx, now, data); err != nil {
		return httpapi.ModelFile{}, err
	}
	if _, err := n.Publish(ctx, now.model.Name, data, versions.Version{Parent: now.checksum, Origin: versions.Uploaded}); err != nil {
		return httpapi.ModelFile{}, err
	}
	return n.ModelFile(ctx, model)
}

// maxUploadedModel bounds an uploaded network.
const maxUploadedModel = 1 << 30

func readUpload(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxUploadedModel {
		return nil, fmt.Errorf("a network of %d bytes: at most %d are wanted: %w", info.Size(), maxUploadedModel, annotation.Invalid)
	}
	return os.ReadFile(path)
}

// check refuses a file that cannot take a network's place, and says why. Nothing but ONNX is ever read: a pickled file could run
// whatever its maker has put into it.
func (n *networks) check(ctx context.Context, now servedNetwork, data []byte) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), annotation.Invalid)
	}
	switch {
	case len(data) == 0:
		return refuse("the file is empty; an .onnx file is wanted")
	case bytes.HasPrefix(data, []byte("PK\x03\x04")), data[0] == 0x80 && len(data) > 1 && data[1] <= 5:
		return refuse("this looks like a PyTorch file (pickled), which is never opened; export the model to ONNX")
	}
	parsed, err := onnx.Parse(data)
	if err != nil {
		return refuse("the file is no ONNX network that can be read: %w", err)
	}
	net, err := adapt.NewNetwork(parsed, now.model.Trainable.Choice())
	if err != nil {
		return refuse("the network cannot be served: %w", err)
	}
	got, want := shapeOf(net), now.shape
	switch {
	case got.channels != want.channels:
		return refuse("the network has %d input channels, the model's has %d", got.channels, want.channels)
	case got.classes != want.classes:
		return refuse("the network has %d classes, the model's has %d", got.classes, want.classes)
	case len(got.size) != len(want.size):
		return refuse("the network sees images of %d axes, the model's of %d", len(got.size), len(want.size))
	}
	step, err := net.StepGraph(adapt.StepOptions{Batch: 1, Averages: 1})
	if err != nil {
		return refuse("the network cannot be learned from: %w", err)
	}
	session, err := n.compiler.Compile(step)
	if err != nil {
		return refuse("the network cannot be learned from: %w", err)
	}
	if err := session.Close(); err != nil {
		return err
	}
	group := n.s.newSessions(n.compiler, nil)
	leave, err := n.gate.EnterBackground(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if _, err := n.s.loadNetwork(ctx, n.app, now.model, data, group.compile); err != nil {
		err = refuse("the network does not run: %w", err)
		return errors.Join(err, group.close())
	}
	return group.close()
}

// WithdrawModel implements httpapi.ModelFiles.
func (n *networks) WithdrawModel(ctx context.Context, model string) error {
	n.switching.Lock()
	defer n.switching.Unlock()
	now, err := n.find(model)
	if err != nil {
		return err
	}
	if now.version.Number == 0 {
		return fmt.Errorf("the app's own network of %s is served, which cannot be withdrawn: %w", model, annotation.Invalid)
	}
	current, err := n.versions.Withdraw(now.model.Name, now.version.Number)
	if err != nil {
		return err
	}
	return n.change(ctx, now.model.Name, current)
}

// Trainees implements jobs.Networks.
func (n *networks) Trainees() []jobs.Trainee {
	var all []jobs.Trainee
	for _, m := range n.app.Models {
		if !m.HasNetwork() {
			continue
		}
		t := jobs.Trainee{Name: m.Name, Description: "Learns from the final labels: " + lowerFirst(m.Description), Labels: n.app.Labels, Classes: m.Classes.Labels()}
		for _, other := range n.app.Models {
			if other.Network == m.Name {
				t.Also = append(t.Also, other.Name)
			}
		}
		all = append(all, t)
	}
	return all
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// Learner implements jobs.Networks. Its runs enter the device's gate one by one, behind everybody else.
func (n *networks) Learner(_ context.Context, name string) (*jobs.Learner, error) {
	now, err := n.find(name)
	if err != nil {
		return nil, err
	}
	data, _, err := n.read(now.model, now.version.Number)
	if err != nil {
		return nil, err
	}
	group := n.s.newSessions(n.compiler, n.gate)
	all := now.model
	all.Trainable = apps.TrainableNames{}
	loaded, err := n.app.LoadData(all, data, group.compile)
	if err != nil {
		return nil, errors.Join(err, group.close())
	}
	l := &jobs.Learner{Model: loaded.Model, Segment: loaded.Segment, Checksum: now.checksum, Compile: group.compile, Close: group.close}
	for _, t := range n.Trainees() {
		if t.Name == now.model.Name {
			l.Trainee = t
		}
	}
	return l, nil
}

// sessions are the sessions of one network, closed together.
type sessions struct {
	owner    *Server
	compiler *lower.Compiler
	gate     *ort.Gate // nil when whoever runs them has entered it

	mu   sync.Mutex
	list []*ort.Session
	done bool
}

func (s *Server) newSessions(compiler *lower.Compiler, gate *ort.Gate) *sessions {
	g := &sessions{owner: s, compiler: compiler, gate: gate}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[g] = true
	return g
}

// opened lists what has not been closed.
func (s *Server) opened() []*sessions {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*sessions
	for g := range s.sessions {
		all = append(all, g)
	}
	return all
}

// compile implements adapt.Compiler.
func (g *sessions) compile(model *onnx.Model) (adapt.Session, error) {
	session, err := g.compiler.Compile(model)
	if err != nil {
		return nil, err
	}
	g.owner.mu.Lock()
	g.owner.provider = session.Provider()
	g.owner.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.done {
		return nil, errors.Join(errors.New("the network is served no more"), session.Close())
	}
	g.list = append(g.list, session)
	if g.gate != nil {
		return gated{session, g.gate}, nil
	}
	return session, nil
}

func (g *sessions) close() error {
	g.owner.mu.Lock()
	delete(g.owner.sessions, g)
	g.owner.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done = true
	var err error
	for _, s := range g.list {
		err = errors.Join(err, s.Close())
	}
	g.list = nil
	return err
}

// gated is a session whose every run waits at the device's gate behind everybody else, so that what runs for hours never keeps
// anybody waiting for longer than one of its steps.
type gated struct {
	*ort.Session
	gate *ort.Gate
}

// Run implements adapt.Session.
func (g gated) Run(ctx context.Context, in, out map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	leave, err := g.gate.EnterBackground(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return g.Session.Run(ctx, in, out)
}

// tasks are the kinds of background tasks; one that is switched off is nil.
type tasks struct{ train, scoring, batch *jobs.Group }

func (s *Server) openTasks() (tasks, error) {
	var t tasks
	dir := filepath.Join(s.cfg.StateDir(), "tasks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return t, fmt.Errorf("folder for tasks: %w", err)
	}
	data := s.data()
	train := s.trainer(data)
	var err error
	open := func(on bool, name, file string, starter jobs.Starter, resume func(*api.Object) jobs.Work, done func()) *jobs.Group {
		if !on {
			return nil
		}
		q, failed := jobs.OpenQueue(jobs.QueueOptions{Name: name, File: filepath.Join(dir, file), Resume: resume, Done: done, Log: s.log})
		err = errors.Join(err, failed)
		return &jobs.Group{Starter: starter, Queue: q}
	}
	t.train = open(s.cfg.Tasks.Train, "Train", "train.json", train, train.Resume, func() { s.rescore(t) })
	scorers := []jobs.Scorer{jobs.Dice{Data: data, Labels: s.networks.app.Labels}, jobs.Sum{Data: data}}
	for _, name := range s.networks.names() {
		scorers = append(scorers, jobs.Epistemic{Data: data, Model: name, Judge: scorer{s, name}, Modified: func() int64 { return s.networks.stamp(name) }})
	}
	t.scoring = open(s.cfg.Tasks.Scoring, "Scoring", "scoring.json", &jobs.Scoring{Scorers: scorers}, nil, nil)
	t.batch = open(s.cfg.Tasks.BatchInfer, "Batch_infer", "batch_infer.json", &jobs.Batch{Data: data, Service: s.annotator, Device: s.Provider(), Memory: imageShare(int64(s.cfg.Engine.Memory))}, nil, nil)
	return t, err
}

// rescore lets all scores be computed anew, where that is wanted: labels or weights have come.
func (s *Server) rescore(t tasks) {
	if t.scoring == nil || !s.cfg.Tasks.AutoScoring {
		return
	}
	if err := t.scoring.SubmitAll(); err != nil {
		s.log.Warn().Err(err).Msg("scores are not computed anew")
	}
}

func (s *Server) data() *jobs.Data { return &jobs.Data{Store: s.store, Codec: codec{}} }

func (s *Server) trainer(data *jobs.Data) *jobs.Train {
	return &jobs.Train{Data: data, Networks: s.networks, Dir: filepath.Join(s.cfg.StateDir(), "training"), Memory: imageShare(int64(s.cfg.Engine.Memory)) / 2}
}

// all lists the kinds that are switched on.
func (t tasks) all() []*jobs.Group {
	return slices.DeleteFunc([]*jobs.Group{t.train, t.scoring, t.batch}, func(g *jobs.Group) bool { return g == nil })
}

func (t tasks) start() {
	for _, g := range t.all() {
		g.Queue.Start()
	}
}

func (t tasks) close() error {
	var err error
	for _, g := range t.all() {
		err = errors.Join(err, g.Queue.Close())
	}
	return err
}
