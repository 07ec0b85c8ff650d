package httpapi

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"scrawl/labelserver/api"
	"scrawl/labelserver/auth"
	"scrawl/labelserver/config"
)

// access is what a route asks of a client when there is a login.
type access struct {
	// open routes ask nothing.
	open bool
	// roles are those of which one is needed. Without any a valid token is enough.
	roles []auth.Role
}

func anybody() access                { return access{open: true} }
func loggedIn() access               { return access{} }
func need(roles ...auth.Role) access { return access{roles: roles} }

// accessTable says for every route, by method and pattern without the configured prefix, who may use it. The roles are MONAI
// Label's, with three differences: replacing or deleting a model's weights takes an administrator, since it changes what everybody
// gets, storing in the archive an annotator, and a reviewer may write down a review. A test fails for a route that is neither here nor in accessTrees; should one ever get
// past it, it is the administrators'.
var accessTable = map[string]access{
	"GET /":             anybody(),
	"GET /docs":         anybody(),
	"GET /openapi.json": anybody(),
	"GET /favicon.ico":  anybody(),
	"GET /healthz":      anybody(),
	"GET /operator":     anybody(), // what it shows it asks for with the user's token
	"GET /metrics":      need(auth.User),

	"GET /auth/":            anybody(),
	"GET /auth/login":       anybody(),
	"POST /auth/token":      anybody(),
	"DELETE /auth/token":    anybody(),
	"GET /auth/token/valid": loggedIn(),

	"GET /info/":                     need(auth.User),
	"POST /infer/:model":             need(auth.User),
	"POST /infer/wsi/:model":         need(auth.User),
	"POST /infer/wsi_v2/:model":      need(auth.User),
	"POST /activelearning/:strategy": need(auth.User),
	"GET /datastore/":                need(auth.User),
	"PUT /datastore/":                need(auth.Annotator),
	"DELETE /datastore/":             need(auth.Admin),
	"HEAD /datastore/image":          need(auth.User),
	"GET /datastore/image":           need(auth.User),
	"PUT /datastore/image":           need(auth.Annotator),
	"DELETE /datastore/image":        need(auth.Admin),
	"GET /datastore/image/info":      need(auth.User),
	"PUT /datastore/image/info":      need(auth.Annotator),
	"HEAD /datastore/label":          need(auth.User),
	"GET /datastore/label":           need(auth.User),
	"PUT /datastore/label":           need(auth.Annotator),
	"DELETE /datastore/label":        need(auth.Admin),
	"GET /datastore/label/info":      need(auth.User),
	"PUT /datastore/label/info":      need(auth.Annotator, auth.Reviewer),
	"PUT /datastore/updatelabelinfo": need(auth.Annotator, auth.Reviewer),
	"GET /datastore/dataset":         need(auth.Annotator),
	"PUT /session/":                  need(auth.User),
	"GET /session/:id":               need(auth.User),
	"DELETE /session/:id":            need(auth.User),
	"GET /train/":                    need(auth.User),
	"POST /train/":                   need(auth.Admin),
	"POST /train/:model":             need(auth.Admin),
	"DELETE /train/":                 need(auth.Admin),
	"GET /scoring/":                  need(auth.User),
	"POST /scoring/":                 need(auth.Annotator),
	"POST /scoring/:method":          need(auth.Annotator),
	"DELETE /scoring/":               need(auth.Annotator),
	"GET /batch/infer":               need(auth.User),
	"POST /batch/infer/:model":       need(auth.Admin),
	"DELETE /batch/infer":            need(auth.Admin),
	"GET /model/:model":              need(auth.Admin),
	"GET /model/info/:model":         need(auth.Admin),
	"PUT /model/:model":              need(auth.Admin),
	"DELETE /model/:model":           need(auth.Admin),
	"GET /logs/":                     need(auth.Admin),
	"GET /logs/gpu":                  need(auth.Admin),
	"POST /reload":                   need(auth.Admin),
	"POST /proxy/dicom/*":            need(auth.Annotator),
}

// accessTrees say it for whole trees of paths.
var accessTrees = []struct {
	prefix string
	access
}{
	{"/page/", anybody()}, // scripts and styles; what they show they ask for with the user's token
	{"/static/", anybody()},
	{"/scrawl/", need(auth.User)},
	{"/ohif/", need(auth.User)},
	{"/proxy/", need(auth.User)},
}

// accessOf finds what a route asks, by method and registered pattern.
func (s *Server) accessOf(method, pattern string) (access, bool) {
	pattern = strings.TrimPrefix(pattern, s.o.Config.Server.APIPrefix)
	if a, ok := accessTable[method+" "+pattern]; ok {
		return a, true
	}
	for _, tree := range accessTrees {
		if strings.HasPrefix(pattern, tree.prefix) {
			return tree.access, true
		}
	}
	return need(auth.Admin), false
}

// identityKey is under which a request keeps who sent it.
const identityKey = "identity"

// localUser is the user on record while there is no login, as with the incumbent.
const localUser = "admin"

// identityOf is who sent a request. Without a login everybody is the incumbent's administrator.
func (s *Server) identityOf(c echo.Context) *auth.Identity {
	if id, ok := c.Get(identityKey).(*auth.Identity); ok {
		return id
	}
	return &auth.Identity{Username: localUser, Email: "admin@monailabel.com", Name: "UNK"}
}

func (s *Server) userOf(c echo.Context) string { return s.identityOf(c).Username }

// clientID is under whom is kept what a request teaches: the client's word without a login, and with one the user's name before it.
// So nobody learns into what is somebody else's by saying to be them; Slicer's default is the same for all users anyway.
func (s *Server) clientID(c echo.Context, said string) string {
	if s.o.Auth == nil {
		return said
	}
	return url.PathEscape(s.userOf(c)) + "/" + said
}

// nameClient puts into parameters under whom is kept what their sender teaches; see clientID.
func (s *Server) nameClient(c echo.Context, params *api.Object) {
	if s.o.Auth == nil {
		return
	}
	said, _ := params.Text("client_id")
	params.Set("client_id", s.clientID(c, said))
}

// authorize lets a request pass to its route if its sender may use that.
func (s *Server) authorize(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if !s.served(r.Method, c.Path()) {
			return next(c) // which answers that there is nothing
		}
		if s.switchedOff(c.Path()) {
			return echo.ErrNotFound
		}
		if s.o.Auth == nil {
			return next(c)
		}
		asked, _ := s.accessOf(r.Method, c.Path())
		if asked.open {
			return next(c)
		}
		identity, err := s.identify(c)
		if err != nil {
			return err
		}
		if identity == nil {
			if s.granted(c) {
				return next(c)
			}
			if r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Method == http.MethodGet {
				return c.Redirect(http.StatusSeeOther, s.o.Config.Server.APIPrefix+"/auth/login?next="+url.QueryEscape(r.URL.RequestURI()))
			}
			return s.unauthenticated(c, "Not authenticated")
		}
		c.Set(identityKey, identity)
		if missing := s.missingRole(identity, asked.roles); missing != "" {
			return api.Errorf(http.StatusForbidden, "Role \"%s\" is required to perform this action", missing)
		}
		return next(c)
	}
}

// missingRole is the first of the roles if the identity holds none of them.
func (s *Server) missingRole(id *auth.Identity, roles []auth.Role) string {
	for _, role := range roles {
		if id.Has(s.o.Auth.RoleName(role)) {
			return ""
		}
	}
	if len(roles) == 0 {
		return ""
	}
	return s.o.Auth.RoleName(roles[0])
}

// identify tells who sent a request, nil if it does not say.
func (s *Server) identify(c echo.Context) (*auth.Identity, error) {
	token := bearerToken(c.Request())
	if token == "" {
		token = s.cookieToken(c.Request())
	}
	if token == "" {
		return nil, nil
	}
	id, err := s.o.Auth.Authenticate(c.Request().Context(), token)
	if errors.Is(err, auth.ErrCredentials) {
		s.o.Log.Debug().Err(err).Msg("a token is refused")
		return nil, s.unauthenticated(c, "Could not validate credentials")
	}
	return id, err
}

func (s *Server) unauthenticated(c echo.Context, text string) error {
	c.Response().Header().Set("WWW-Authenticate", "Bearer")
	return api.Errorf(http.StatusUnauthorized, "%s", text)
}

// bearerToken is the token of the header Authorization (RFC 6750), "" if there is none or it is of another scheme.
func bearerToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// tokenCookie holds the token of a user who has logged in with a browser, for pages that send no header, such as OHIF.
const tokenCookie = "scrawl_token"

// cookieToken is the token of the cookie. It counts only for requests of this server's own pages: the browser sends it along
// whoever makes it ask.
func (s *Server) cookieToken(r *http.Request) string {
	cookie, err := r.Cookie(tokenCookie)
	if err != nil {
		return ""
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return ""
	}
	if origin := r.Header.Get("Origin"); origin != "" && !sameHost(origin, r.Host) {
		return ""
	}
	return cookie.Value
}

func sameHost(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

// granted reports whether a request without a token may pass all the same: for the image that was just handed to its sender.
func (s *Server) granted(c echo.Context) bool {
	r := c.Request()
	pattern := strings.TrimPrefix(c.Path(), s.o.Config.Server.APIPrefix)
	return s.grants != nil && pattern == "/datastore/image" && (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		s.grants.Holds(senderAddress(r), c.QueryParam("image"))
}

// senderAddress is the address a connection comes from. What a header says of it could be made up.
func senderAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// grantImage lets the sender of a request download an image without a token, as Slicer does.
func (s *Server) grantImage(c echo.Context, id string) {
	if s.grants != nil {
		s.grants.Give(senderAddress(c.Request()), id)
	}
}

// switchedOff reports whether a route belongs to a group that the configuration switches off.
func (s *Server) switchedOff(pattern string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(pattern, s.o.Config.Server.APIPrefix), "/"), "/")
	tasks := s.o.Config.Tasks
	switch first {
	case "train":
		return !tasks.Train
	case "activelearning":
		return !tasks.Strategy
	case "scoring":
		return !tasks.Scoring
	case "batch":
		return !tasks.BatchInfer
	}
	return false
}

// guardBrowsers keeps web pages of strangers from using this server through the browser of somebody who may reach it. Two ways are
// closed: requests that change something and need no preflight (a form), and names of a stranger's own that lead to this machine, by
// which a page becomes a page of this server's (DNS rebinding). Programs that are no browsers send no Origin.
func (s *Server) guardBrowsers(next echo.HandlerFunc) echo.HandlerFunc {
	anonymousHere := s.o.Auth == nil && !s.o.Config.Auth.AllowAnonymous
	return func(c echo.Context) error {
		r := c.Request()
		if anonymousHere && !localName(r.Host) {
			return api.Errorf(http.StatusMisdirectedRequest,
				"this server has no login and answers only to localhost and addresses, not to the name %q; allow others with auth.allow_anonymous", r.Host)
		}
		origin := r.Header.Get("Origin")
		if origin == "" || slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, r.Method) || sameHost(origin, r.Host) {
			return next(c)
		}
		if allowed, _ := originAllowed(s.o.Config.Server.CORSOrigins, origin); !allowed {
			return api.Errorf(http.StatusForbidden, "web pages of %q may not change anything here; name them in server.cors_origins if they should", origin)
		}
		return next(c)
	}
}

// localName reports whether a request's host is one that no stranger's name server can have led here.
func localName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	return host == "" || strings.EqualFold(host, "localhost") || net.ParseIP(host) != nil
}

// originAllowed reports whether web pages of an origin may read answers, and whether they are named, which credentials take.
func originAllowed(configured []string, origin string) (allowed, named bool) {
	if slices.Contains(configured, origin) && origin != "*" {
		return true, true
	}
	if slices.Contains(configured, "*") {
		return true, false
	}
	u, err := url.Parse(origin)
	return err == nil && slices.Contains(configured, config.LoopbackOrigins) && (u.Scheme == "http" || u.Scheme == "https") &&
		config.Loopback(u.Hostname()), false
}

// loginError says for an error of the login what a client is told.
func loginError(c echo.Context, err error) error {
	switch {
	case errors.Is(err, auth.ErrCredentials):
		return api.Errorf(http.StatusUnauthorized, "wrong user name or password")
	case errors.Is(err, auth.ErrThrottled):
		c.Response().Header().Set("Retry-After", "6")
		return api.Errorf(http.StatusTooManyRequests, "%v", auth.ErrThrottled)
	}
	return fmt.Errorf("logging in: %w", err)
}
