package httpapi

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"scrawl/adapters/dicomweb"
	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/auth"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/obs"
	"scrawl/labelserver/session"
)

// statusClientGone is nginx's status for a client that left before its answer. Nobody receives it; logs and metrics tell it
// from a failure.
const statusClientGone = 499

// writeError answers with an error's status and {"detail": …}. What has begun to go out cannot be taken back: the connection is
// dropped then, so that the client sees a failure and not a short answer.
func (s *Server) writeError(err error, c echo.Context) {
	if c.Response().Committed {
		s.o.Log.Error().Err(err).Str("request", obs.RequestID(c.Request().Context())).Msg("answer broke off")
		return
	}
	var routed *echo.HTTPError
	if errors.As(err, &routed) && !s.matched(c.Request().URL.EscapedPath()) {
		err = echo.ErrNotFound // also for a method that no path of this form has
	}
	if target, ok := s.slashRedirect(c, err); ok {
		c.Response().Header().Set("Location", target)
		c.Response().Header().Set("Content-Length", "0")
		c.Response().WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	answer := errorAnswer(err)
	if answer.Status >= http.StatusInternalServerError || answer.Cause != nil {
		s.o.Log.Warn().Err(err).Str("request", obs.RequestID(c.Request().Context())).Int("status", answer.Status).Msg("request failed")
	}
	if answer.Status == http.StatusMethodNotAllowed {
		s.setAllow(c)
	}
	unread := c.Request().ContentLength != 0
	if unread {
		c.Response().Header().Set("Connection", "close")
	}
	if err := reply(c, answer.Status, answer.Body()); err != nil {
		s.o.Log.Error().Err(err).Str("request", obs.RequestID(c.Request().Context())).Msg("error cannot be answered")
		return
	}
	if unread {
		linger(c)
	}
}

// lingerTime is how long an upload that was refused is read on.
const lingerTime = 10 * time.Second

// linger reads what a client is still sending, and forgets it: most clients send all of a body before they look for an answer, and
// would see a broken connection instead of the reason. One that waits for leave to send (Expect: 100-continue) has its answer.
func linger(c echo.Context) {
	r := c.Request()
	if r.Body == nil || r.Header.Get("Expect") != "" {
		return
	}
	control := http.NewResponseController(c.Response().Writer)
	if control.Flush() != nil || control.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body) // ends with the body, the deadline or the connection
}

// errorAnswer finds the status and text of an error. Undeclared errors are 500 with their text: a user who sees only "Internal
// Server Error", as from the incumbent, cannot do anything about it.
func errorAnswer(err error) *api.Error {
	var known *api.Error
	if errors.As(err, &known) {
		return known
	}
	var routed *echo.HTTPError
	if errors.As(err, &routed) {
		return api.Errorf(routed.Code, "%s", http.StatusText(routed.Code))
	}
	status := http.StatusInternalServerError
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, dicomweb.ErrPath):
		status = http.StatusNotFound
	case errors.Is(err, datastore.ErrUndelivered), errors.Is(err, dicomweb.ErrRefused), errors.Is(err, dicomweb.ErrProtocol):
		status = http.StatusBadGateway
	case errors.Is(err, datastore.ErrUnavailable), errors.Is(err, dicomweb.ErrUnavailable):
		status = http.StatusServiceUnavailable
	case errors.Is(err, annotation.NotFound), errors.Is(err, session.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		status = http.StatusNotFound
	case errors.Is(err, annotation.Invalid), errors.Is(err, session.ErrArchive), errors.Is(err, volume.ErrFormat),
		errors.Is(err, volume.ErrUnsupported), errors.Is(err, volume.ErrTooLarge), errors.Is(err, volume.ErrGeometry):
		status = http.StatusBadRequest
	case errors.Is(err, auth.ErrUnavailable), errors.Is(err, annotation.Busy), errors.Is(err, annotation.Unavailable), errors.Is(err, session.ErrFull),
		errors.Is(err, context.DeadlineExceeded):
		status = http.StatusServiceUnavailable
	case errors.Is(err, context.Canceled):
		status = statusClientGone
	}
	return &api.Error{Status: status, Detail: err.Error(), Cause: err}
}

// setAllow names the methods of a path, without the OPTIONS that the router adds.
func (s *Server) setAllow(c echo.Context) {
	var methods []string
	for _, r := range s.routes {
		if r.matches(c.Request().URL.EscapedPath()) {
			methods = append(methods, r.method)
		}
	}
	c.Response().Header().Set("Allow", strings.Join(methods, ", "))
}
