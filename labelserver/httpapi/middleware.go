package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"

	"scrawl/labelserver/obs"
)

const requestIDHeader = "X-Request-Id"

type serverMetrics struct {
	requests *obs.Counter
	seconds  *obs.Histogram
}

func newServerMetrics(m *obs.Metrics) serverMetrics {
	return serverMetrics{
		requests: m.Counter("scrawl_http_requests_total", "Requests answered, by route, method and status."),
		seconds: m.Histogram("scrawl_http_request_seconds", "Time from a request's header to the end of its answer, by route and method.",
			0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
	}
}

// observe gives each request an id and, when it is answered, writes one line to the log and counts it. The log names routes,
// not addresses: queries hold ids of images, which may be names of patients.
func (s *Server) observe(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		id := requestID(c.Request())
		c.SetRequest(c.Request().WithContext(obs.WithRequestID(c.Request().Context(), id)))
		c.Response().Header().Set(requestIDHeader, id)
		// An event is on record before its answer goes out: a client that has it knows that.
		audit := sync.OnceFunc(func() { s.audit(c) })
		c.Response().Before(audit)
		if err := next(c); err != nil {
			c.Error(err)
		}
		took := time.Since(start)
		audit() // of an answer that never went out
		route, method := c.Path(), knownMethod(c.Request().Method)
		if c.Response().Status == http.StatusNotFound && !s.registered(route) {
			route = "unmatched"
		}
		s.metrics.requests.Add(1, "route", route, "method", method, "status", strconv.Itoa(c.Response().Status))
		s.metrics.seconds.Observe(took.Seconds(), "route", route, "method", method)
		level := zerolog.InfoLevel
		if route == s.o.Config.Server.APIPrefix+"/scrawl/progress" {
			level = zerolog.DebugLevel // asked several times a second while somebody waits
		}
		s.o.Log.WithLevel(level).Str("request", id).Str("method", method).Str("route", route).Int("status", c.Response().Status).
			Int64("bytes", c.Response().Size).Dur("ms", took).Msg("request")
		return nil
	}
}

func knownMethod(method string) string {
	if slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"}, method) {
		return method
	}
	return "other" // clients may make methods up; labels of metrics must stay few
}

// requestID takes over the id of a proxy in front if it is harmless, and makes one otherwise.
func requestID(r *http.Request) string {
	id := r.Header.Get(requestIDHeader)
	plain := strings.IndexFunc(id, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
	}) < 0
	if id != "" && len(id) <= 64 && plain {
		return id
	}
	return uuid.NewString()
}

// recoverPanics turns a panic of one request into its error.
func (s *Server) recoverPanics(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if e, ok := cause.(error); ok && errors.Is(e, http.ErrAbortHandler) {
				panic(cause) // net/http's own way to drop a connection
			}
			s.o.Log.Error().Str("request", obs.RequestID(c.Request().Context())).Str("stack", string(debug.Stack())).Msg("panic")
			err = fmt.Errorf("request failed unexpectedly: %v", cause)
		}()
		return next(c)
	}
}

const preflightMethods = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"

// allowOrigins answers preflights and lets web pages of the configured origins read answers. Credentials are allowed only to
// origins that are named: no client needs them, and "*" with credentials would let any page act as its visitor.
func (s *Server) allowOrigins(next echo.HandlerFunc) echo.HandlerFunc {
	origins := s.o.Config.Server.CORSOrigins
	return func(c echo.Context) error {
		r, h := c.Request(), c.Response().Header()
		h.Set("Vary", "Origin")
		origin := r.Header.Get("Origin")
		allowed, named := originAllowed(origins, origin)
		switch {
		case origin == "" || !allowed:
		case named:
			h.Set("Access-Control-Allow-Origin", origin)
			h.Set("Access-Control-Allow-Credentials", "true")
		case slices.Contains(origins, "*"):
			h.Set("Access-Control-Allow-Origin", "*")
		default:
			h.Set("Access-Control-Allow-Origin", origin)
		}
		if origin == "" || r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			return next(c)
		}
		if !allowed {
			return replyBytes(c, http.StatusBadRequest, "text/plain; charset=utf-8", []byte("Disallowed CORS origin"))
		}
		h.Set("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
		h.Set("Access-Control-Allow-Methods", preflightMethods)
		h.Set("Access-Control-Max-Age", "600")
		if headers := r.Header.Get("Access-Control-Request-Headers"); headers != "" {
			h.Set("Access-Control-Allow-Headers", headers)
		}
		return replyBytes(c, http.StatusOK, "text/plain; charset=utf-8", []byte("OK"))
	}
}

// ignoreStaleBodies keeps requests from hanging that announce a body and send none: the Python client leaves the content-length
// of an earlier call in its headers. No route but those of POST and PUT takes a body, so none is waited for.
func (s *Server) ignoreStaleBodies(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if r.ContentLength == 0 || r.Method == http.MethodPost || r.Method == http.MethodPut {
			return next(c)
		}
		c.Response().Header().Set("Connection", "close")
		err := http.NewResponseController(c.Response().Writer).SetReadDeadline(time.Now())
		if err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		r.Body, r.ContentLength = http.NoBody, 0
		return next(c)
	}
}
