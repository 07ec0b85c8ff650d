// Package labelserver puts the labelling server together from its parts: configuration, datastore, networks, annotation and
// HTTP. The parts do not know each other; this package does.
package labelserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"scrawl/adapters/dicomweb"
	"scrawl/adapters/graphcut"
	"scrawl/apps"
	"scrawl/apps/interact"
	"scrawl/engine/adapt"
	"scrawl/engine/ort"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/config"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/httpapi"
	"scrawl/labelserver/obs"
	"scrawl/labelserver/session"
)

// Server is a labelling server, ready to listen. Make one with New and end it with Close.
type Server struct {
	cfg       *config.Config
	http      *httpapi.Server
	annotator *annotation.Annotator
	store     datastore.Store
	archive   *dicomweb.Client // nil for a folder of studies
	log       zerolog.Logger
	audit     *obs.Audit
	provider  string
	gate      deviceGate
	networks  *networks
	tasks     tasks

	base    context.Context // of work in the background, ended by stop
	stop    context.CancelFunc
	working sync.WaitGroup

	mu       sync.Mutex
	sessions map[*sessions]bool
}

// Parts are what a server is given from outside.
type Parts struct {
	Library *ort.Library
	Log     zerolog.Logger
	LogFile *obs.LogFile
	Version string
}

// New builds a server: it opens the folder of studies, loads the app's networks and runs each once, so that a network or a device that
// does not work is known at once.
func New(ctx context.Context, cfg *config.Config, p Parts) (*Server, error) {
	s, app, err := assemble(ctx, cfg, p)
	if err != nil {
		return nil, err
	}
	if s.tasks, err = s.openTasks(); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	if s.http, err = s.listenerOf(app, p); err != nil {
		return nil, errors.Join(err, s.tasks.close(), s.store.Close(), s.closeAudit())
	}
	s.tasks.start()
	s.rescore(s.tasks)
	return s, nil
}

// assemble makes everything but what a server listens and runs tasks with.
func assemble(ctx context.Context, cfg *config.Config, p Parts) (*Server, *apps.App, error) {
	app, err := apps.Open(cfg.App)
	if err != nil {
		return nil, nil, err
	}
	s := &Server{cfg: cfg, log: p.Log, sessions: map[*sessions]bool{}}
	s.base, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	// One run at a time: a run uses all cores, and on a GPU all of the device.
	s.gate = deviceGate{ort.NewGate(1, cfg.Engine.Queue)}
	s.networks = newNetworks(s, app, p.Library, s.gate.Gate)
	entries, err := s.load(ctx, app)
	if err != nil {
		return nil, nil, err
	}
	if s.annotator, err = annotation.NewAnnotator(entries, annotation.Options{
		Dir: cfg.LineageDir(), SnapshotBudget: int64(cfg.State.SnapshotBudget),
		CacheBytes: imageShare(int64(cfg.Engine.Memory)), Timeout: cfg.Engine.InferTimeout, Gate: s.gate, Log: p.Log,
	}); err != nil {
		return nil, nil, err
	}
	return s, app, s.openStore(ctx, app.Labels, p.Version)
}

// imageShare is how much of the memory decoded images may take; the rest is for weights and runs.
func imageShare(memory int64) int64 { return memory / 2 }

// runtimeOptions are the session options that the configuration asks for.
func runtimeOptions(c config.Runtime) ort.Options {
	o := ort.Options{Device: c.Device, Threads: c.Threads, NoSpinning: true, CUDA: map[string]string{}}
	if c.TF32 {
		o.CUDA["use_tf32"] = "1"
	}
	if c.GPUMemory > 0 {
		o.CUDA["gpu_mem_limit"] = strconv.FormatInt(int64(c.GPUMemory), 10)
	}
	return o
}

func (s *Server) load(ctx context.Context, app *apps.App) ([]annotation.Entry, error) {
	offered, err := chosen(app.Models, s.cfg.Models)
	if err != nil {
		return nil, err
	}
	networks := map[string]annotation.Entry{}
	var entries []annotation.Entry
	for _, m := range offered {
		if m.GraphCut != nil {
			o := graphcut.Options(*m.GraphCut)
			entries = append(entries, annotation.Entry{Name: m.Name, Type: m.Type, Description: m.Description, Labels: app.Labels, Cut: &o, Device: "cpu"})
			continue
		}
		owner, err := app.Owner(m)
		if err != nil {
			return nil, err
		}
		e, ready := networks[owner.Name]
		if !ready {
			if e, err = s.networks.open(ctx, owner); err != nil {
				return nil, err
			}
			networks[owner.Name] = e
		}
		e.Name, e.Type, e.Description, e.Dimension = m.Name, m.Type, m.Description, m.Dimension
		entries = append(entries, e)
	}
	return entries, nil
}

// loadNetwork makes a network of an .onnx file ready, in the place of a model's own, and runs it once.
func (s *Server) loadNetwork(ctx context.Context, app *apps.App, m apps.Model, data []byte, compile adapt.Compiler) (annotation.Entry, error) {
	loaded, err := app.LoadData(m, data, compile)
	if err != nil {
		return annotation.Entry{}, err
	}
	warm, labels := (*interact.Model).Warm, app.Labels
	if loaded.Segment != nil {
		labels = m.Classes.Labels()
		warm = func(_ *interact.Model, ctx context.Context) error { return loaded.Segment.Warm(ctx) }
	}
	if err := warm(loaded.Model, ctx); err != nil {
		return annotation.Entry{}, fmt.Errorf("model %q: %w", m.Name, err)
	}
	profile := interact.Profile(m.Profile)
	if p := interact.Profile(s.cfg.Engine.Profile); p != "default" && (loaded.Segment == nil || p != interact.ProfileHindsight) {
		profile = p
	}
	s.log.Info().Str("model", m.Name).Str("provider", s.Provider()).Str("profile", string(profile)).Msg("model ready")
	return annotation.Entry{Network: m.Name, Labels: labels, Model: loaded.Model, Segment: loaded.Segment, Profile: profile, Weights: loaded.Hash, Device: s.Provider()}, nil
}

func (s *Server) listenerOf(app *apps.App, p Parts) (*httpapi.Server, error) {
	var sessions *session.Store
	if c := s.cfg.Sessions; c.Enable {
		var err error
		if sessions, err = session.Open(session.Options{Dir: s.cfg.SessionDir(), Expiry: c.Expiry, MaxCount: c.MaxCount, MaxBytes: int64(c.MaxBytes)}); err != nil {
			return nil, err
		}
	}
	login, err := s.openLogin()
	if err != nil {
		return nil, err
	}
	o := httpapi.Options{
		Config: s.cfg, About: httpapi.About{Name: s.cfg.Server.Name, Description: app.Description, Version: p.Version},
		Service: s.annotator, Recall: s.annotator, Status: s.status(app, sessions, p.Version), Store: images{s.store}, Codec: codec{}, Strategies: s.strategies(), Sessions: sessions,
		Train: s.tasks.train, Scoring: s.tasks.scoring, Batch: s.tasks.batch, Labelled: func() { s.rescore(s.tasks) }, Models: s.networks,
		Log: p.Log, LogFile: p.LogFile, Metrics: obs.NewMetrics(), Auth: login, Audit: s.audit,
	}
	if s.archive != nil { // a nil client in the interface would not be nil
		o.Archive = s.archive
	}
	return httpapi.New(o)
}

// status returns what tells operators how the server is doing.
func (s *Server) status(app *apps.App, sessions *session.Store, version string) func() *api.Object {
	started := time.Now()
	return func() *api.Object {
		running, waiting := s.gate.Load()
		uploaded := 0
		if sessions != nil {
			uploaded = sessions.Count()
		}
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		return api.NewObject("version", version, "app", app.Name, "provider", s.Provider(), "seconds", int(time.Since(started).Seconds()),
			"running", running, "waiting", waiting, "queue", s.cfg.Engine.Queue, "sessions", uploaded,
			"go_bytes", memory.HeapInuse, "goroutines", runtime.NumGoroutine())
	}
}

// Provider names what the networks really run on.
func (s *Server) Provider() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.provider
}

// Listen opens the configured address, with TLS if there is a certificate.
func (s *Server) Listen(ctx context.Context) (net.Listener, error) {
	encrypted, err := tlsConfig(s.cfg.Server.TLS, s.log)
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort(s.cfg.Server.Host, strconv.Itoa(s.cfg.Server.Port))
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s (another address can be given with --host and --port): %w", address, err)
	}
	if encrypted != nil {
		return tls.NewListener(l, encrypted), nil
	}
	return l, nil
}

// Serve answers requests until ctx ends, then lets those under way finish.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var beside sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	beside.Go(func() { s.networks.watch(ctx) })
	if s.cfg.Runtime.Measure {
		beside.Go(func() { s.networks.measure(ctx) })
	}
	err := s.http.Serve(ctx, l)
	stop()
	beside.Wait()
	return err
}

// Close stops the tasks, which are taken up again at the next start where they can be, waits for what is still being learned, then
// closes the datastore and the networks' sessions.
func (s *Server) Close() error {
	err := s.tasks.close()
	s.stop()
	s.working.Wait()
	s.annotator.Close()
	err = errors.Join(err, s.store.Close(), s.closeAudit())
	for _, group := range s.opened() {
		err = errors.Join(err, group.close())
	}
	return err
}

// deviceGate says of a full queue what clients are told.
type deviceGate struct{ *ort.Gate }

func (g deviceGate) Enter(ctx context.Context) (func(), error) {
	leave, err := g.Gate.Enter(ctx)
	if errors.Is(err, ort.ErrBusy) {
		return nil, fmt.Errorf("%w: %w", annotation.Busy, err)
	}
	return leave, err
}
