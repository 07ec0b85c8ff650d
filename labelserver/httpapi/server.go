// Package httpapi speaks MONAI Label's REST protocol: it decodes requests, calls the annotation service, the datastore and the
// sessions, and encodes their answers. Clients are the 3D Slicer and OHIF plugins and the Python client as they are, so the
// layout of answers down to the order of keys and the presence of a Content-Length is part of the contract.
//
// This is the only package that knows the web framework.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"

	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/auth"
	"scrawl/labelserver/config"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/jobs"
	"scrawl/labelserver/obs"
	"scrawl/labelserver/session"
)

// About is what /info/ says of the app being served.
type About struct {
	Name, Description, Version string
}

// Options are the parts a server is made of. Those that may be nil say so; all others are required.
type Options struct {
	Config  *config.Config
	About   About
	Service annotation.Service
	// Recall shows what is remembered of users' work, for the page.
	Recall annotation.Recall
	// Status tells operators what the server is doing; it must return at once.
	Status func() *api.Object
	Store  Store
	Codec  Codec
	// Strategies are offered in this order; the first is the clients' default. One of them should be called random, which is
	// the only name OHIF asks for unprompted.
	Strategies []Strategy
	// Train, Scoring and Batch are the kinds of background tasks; nil switches one off.
	Train, Scoring, Batch *jobs.Group
	// Labelled is called when a final label has been stored; it must return at once. May be nil.
	Labelled func()
	// Models are the weights that GET and PUT /model/ are about; nil means there are none.
	Models ModelFiles
	// Sessions keeps uploaded images; nil switches the feature off.
	Sessions *session.Store
	Log      zerolog.Logger
	// LogFile is what GET /logs/ shows; nil means there is none.
	LogFile *obs.LogFile
	Metrics *obs.Metrics
	// Auth tells who clients are; nil means that there is no login.
	Auth *auth.Authenticator
	// Audit is where events are written down; nil means nowhere.
	Audit *obs.Audit
	// Archive is what viewers' requests for images are passed on to; nil means that images are in a folder.
	Archive Archive
	// UploadDir is where uploads are put while a request lasts, the system's temporary folder if "".
	UploadDir string
}

// Server answers the protocol's requests. Make one with New. It is safe for concurrent use.
type Server struct {
	o       Options
	echo    *echo.Echo
	routes  []route
	openapi []byte
	pages   map[string][]byte
	grants  *auth.Grants
	viewer  *os.Root // the folder of OHIF, nil for none
	metrics serverMetrics
	stages  stages

	forwarded chan struct{} // one for each request under way to the archive

	checksums datastore.Checksums
}

// New puts a server together. It starts nothing.
func New(o Options) (*Server, error) {
	if o.Config == nil || o.Service == nil || o.Recall == nil || o.Status == nil || o.Store == nil || o.Codec == nil || o.Metrics == nil {
		return nil, errors.New("http server: Config, Service, Recall, Status, Store, Codec and Metrics are required")
	}
	s := &Server{o: o, echo: echo.New(), metrics: newServerMetrics(o.Metrics), forwarded: make(chan struct{}, maxForwarded)}
	if err := s.renderPages(); err != nil {
		return nil, fmt.Errorf("http server: %w", err)
	}
	if folder := o.Config.Server.OHIF; folder != "" {
		var err error
		if s.viewer, err = openViewer(folder); err != nil {
			return nil, fmt.Errorf("http server: %w", err)
		}
	}
	s.echo.HideBanner, s.echo.HidePort = true, true
	s.echo.HTTPErrorHandler = s.writeError
	if s.o.Auth != nil && o.Config.Auth.ImageGrant > 0 {
		s.grants = auth.NewGrants(o.Config.Auth.ImageGrant, nil)
	}
	s.echo.Pre(s.observe, s.recoverPanics, s.ignoreStaleBodies, s.allowOrigins, s.guardBrowsers)
	s.echo.Use(s.authorize)
	s.register()
	s.routes = routesOf(s.echo)
	return s, nil
}

// Handler is the whole server as a handler.
func (s *Server) Handler() http.Handler { return s.echo }

// Timeouts of a connection. Bodies have none: a study may take minutes to upload.
const (
	headerTimeout = 30 * time.Second
	idleTimeout   = 2 * time.Minute
)

// Serve answers on a listener until ctx ends, then lets the requests under way finish within the configured time. Requests that
// are still running after that are cut off. It returns nil after an orderly end.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	base, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	h := &http.Server{
		Handler:           s.echo,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return base },
	}
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		s.sweepSessions(ctx)
	}()
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(l) }()
	var err error
	select {
	case err = <-failed:
		stop()
		return errors.Join(fmt.Errorf("serving on %s: %w", l.Addr(), err), h.Close())
	case <-ctx.Done():
	}
	within, cancel := context.WithTimeout(base, s.o.Config.Server.ShutdownTimeout)
	defer cancel()
	if err = h.Shutdown(within); err != nil {
		stop() // tells what still runs to give up
		err = errors.Join(fmt.Errorf("requests were still running after %v: %w", s.o.Config.Server.ShutdownTimeout, err), h.Close())
	}
	if closed := <-failed; !errors.Is(closed, http.ErrServerClosed) {
		err = errors.Join(err, closed)
	}
	<-swept
	return err
}

func (s *Server) sweepSessions(ctx context.Context) {
	if s.o.Sessions == nil {
		return
	}
	s.o.Sessions.Run(ctx, func(ids []string) {
		for _, id := range ids {
			if err := s.o.Service.Forget(ctx, annotation.ImageKey{Source: annotation.Session, ID: id}); err != nil {
				s.o.Log.Error().Err(err).Str("session", id).Msg("forgetting an expired session")
			}
		}
	})
}

// register adds all routes. The API lies below the configured prefix, the pages for people and machines that watch do not.
func (s *Server) register() {
	e := s.echo
	e.GET("/", s.getPage("annotate.html"))
	e.GET("/operator", s.getPage("operator.html"))
	e.GET("/page/:file", s.getPageFile)
	e.GET("/docs", s.getPage("docs.html"))
	e.GET("/openapi.json", s.getOpenAPI)
	e.GET("/favicon.ico", s.getFavicon)
	e.GET("/healthz", s.getHealth)
	e.GET("/metrics", s.getMetrics)

	g := e.Group(s.o.Config.Server.APIPrefix)
	g.GET("/auth/", s.getAuth)
	g.GET("/auth/login", s.getLogin)
	g.POST("/auth/token", s.postToken)
	g.DELETE("/auth/token", s.deleteToken)
	g.GET("/auth/token/valid", s.getTokenValid)
	g.GET("/info/", s.getInfo)
	g.POST("/infer/:model", s.postInfer)
	g.POST("/infer/wsi/:model", s.postWSI)
	g.POST("/infer/wsi_v2/:model", s.postWSIForm)
	g.POST("/activelearning/:strategy", s.postActiveLearning)

	g.GET("/scrawl/volume", s.getVolume)
	g.GET("/scrawl/label", s.getFinalLabel)
	g.GET("/scrawl/labels", s.getWorkLabels)
	g.GET("/scrawl/state", s.recalled(s.o.Recall.Strokes))
	g.GET("/scrawl/uncertainty", s.recalled(s.o.Recall.Uncertainty))
	g.GET("/scrawl/learned", s.getLearned)
	g.GET("/scrawl/progress", s.getProgress)
	g.GET("/scrawl/status", s.getStatus)

	g.GET("/datastore/", s.getDatastore)
	for _, path := range []string{"/datastore/", "/datastore/image"} {
		g.PUT(path, s.putImage)
		g.DELETE(path, s.deleteImage)
	}
	g.HEAD("/datastore/image", s.headImage)
	g.GET("/datastore/image", s.getImage)
	g.GET("/datastore/image/info", s.getImageInfo)
	g.PUT("/datastore/image/info", s.putImageInfo)
	g.PUT("/datastore/label", s.putLabel)
	g.DELETE("/datastore/label", s.deleteLabel)
	g.HEAD("/datastore/label", s.headLabel)
	g.GET("/datastore/label", s.getLabel)
	g.GET("/datastore/label/info", s.getLabelInfo)
	g.PUT("/datastore/label/info", s.putLabelInfo("info"))
	g.PUT("/datastore/updatelabelinfo", s.putLabelInfo("params"))
	g.GET("/datastore/dataset", s.getDataset)

	g.PUT("/session/", s.putSession)
	g.GET("/session/:id", s.getSession)
	g.DELETE("/session/:id", s.deleteSession)

	g.POST("/reload", s.postReload)
	g.GET("/ohif/*", s.getOHIF)
	g.GET("/proxy/dicom/*", s.proxyDICOM)
	g.POST("/proxy/dicom/*", s.proxyDICOM)
	g.GET("/static/favicon.ico", s.getStaticFavicon)

	g.GET("/logs/", s.getLogs)
	g.GET("/logs/gpu", s.getGPU)

	s.registerTasks(g)
	s.registerModels(g)
}

// reply writes a JSON answer in the protocol's form.
func reply(c echo.Context, status int, v any) error {
	body, err := api.Encode(v)
	if err != nil {
		return err
	}
	return replyBytes(c, status, "application/json", body)
}

// replyBytes writes an answer with its length, so that nothing is ever sent in chunks.
func replyBytes(c echo.Context, status int, contentType string, body []byte) error {
	h := c.Response().Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", fmt.Sprint(len(body)))
	c.Response().WriteHeader(status)
	if c.Request().Method == http.MethodHead {
		return nil
	}
	_, err := c.Response().Write(body)
	return err
}
