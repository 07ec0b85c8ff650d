package httpapi

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"scrawl/labelserver/obs"
)

// auditEvents are the kinds of events by the first element of a path. What is not here leaves no trace in the audit trail: pages,
// status, and what clients ask all the time.
var auditEvents = map[string]string{
	"auth":           "User Authentication",
	"infer":          "Patient Record",
	"activelearning": "Patient Record",
	"datastore":      "DICOM Instances Accessed",
	"session":        "DICOM Instances Transferred",
	"train":          "Procedure Record",
	"scoring":        "Procedure Record",
	"batch":          "Procedure Record",
	"model":          "Application Activity",
	"proxy":          "Query",
	"logs":           "Audit Log Used",
}

// unaudited are routes of those groups that say nothing of anybody: status that clients ask all the time.
var unaudited = map[string]bool{
	"GET /auth/": true, "GET /auth/login": true, "GET /auth/token/valid": true, "GET /train/": true, "GET /scoring/": true, "GET /batch/infer": true,
	"GET /session/:id": true,
}

// noted is what a handler knows better than the address says.
type noted map[string]string

const notedKey = "audit"

// note keeps for the audit trail what an event was about.
func (s *Server) note(c echo.Context, name, value string) {
	if s.o.Audit == nil {
		return
	}
	n, ok := c.Get(notedKey).(noted)
	if !ok {
		n = noted{}
		c.Set(notedKey, n)
	}
	n[name] = value
}

// audit writes an event down when its request has been answered. A trail that cannot be written does not stop the work; the log
// says so.
func (s *Server) audit(c echo.Context) {
	if s.o.Audit == nil || !s.registered(c.Path()) {
		return
	}
	r := c.Request()
	pattern := strings.TrimPrefix(c.Path(), s.o.Config.Server.APIPrefix)
	group, _, _ := strings.Cut(strings.TrimPrefix(pattern, "/"), "/")
	kind, ok := auditEvents[group]
	if !ok || unaudited[r.Method+" "+pattern] {
		return
	}
	e := obs.Event{
		Event: kind, Action: r.Method + " " + pattern, Status: c.Response().Status, User: s.userOf(c), Address: senderAddress(r),
		Request: obs.RequestID(r.Context()), Outcome: outcome(c.Response().Status),
	}
	s.describeEvent(c, &e)
	if err := s.o.Audit.Record(e); err != nil {
		s.o.Log.Error().Err(err).Msg("an event cannot be written to the audit trail")
	}
}

func outcome(status int) string {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusTooManyRequests:
		return "refused"
	case status >= http.StatusBadRequest:
		return "failure"
	}
	return "success"
}

// describeEvent says what an event was about, from the address and what the handler noted.
func (s *Server) describeEvent(c echo.Context, e *obs.Event) {
	query := c.QueryParams()
	for _, name := range []string{"image", "label", "id"} {
		if v := query.Get(name); v != "" && e.Image == "" {
			e.Image = v // a label's id is its image's
		}
	}
	e.Label, e.Session, e.Model = query.Get("tag"), query.Get("session_id"), c.Param("model")
	if id := c.Param("id"); id != "" {
		e.Session = id
	}
	if c.Get(identityKey) == nil && s.o.Auth != nil {
		e.User = "" // nobody was logged in
	}
	n, _ := c.Get(notedKey).(noted)
	for name, field := range map[string]*string{"user": &e.User, "image": &e.Image, "session": &e.Session} {
		if v := n[name]; v != "" {
			*field = v
		}
	}
	for _, field := range []*string{&e.Image, &e.Label, &e.Session, &e.Model, &e.User} {
		*field = cutText(*field, maxAuditText)
	}
}

// maxAuditText bounds what a client's words may take in the audit trail, in bytes.
const maxAuditText = 256

func cutText(text string, limit int) string {
	if len(text) > limit {
		return strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}
