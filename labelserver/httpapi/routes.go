package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

// route is a registered method and path pattern.
type route struct {
	method, path string
	segments     []string
}

func routesOf(e *echo.Echo) []route {
	var routes []route
	for _, r := range e.Routes() {
		if slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete}, r.Method) {
			routes = append(routes, route{r.Method, r.Path, strings.Split(r.Path, "/")})
		}
	}
	slices.SortFunc(routes, func(a, b route) int { return strings.Compare(a.path+" "+a.method, b.path+" "+b.method) })
	return routes
}

// matches reports whether an escaped path fits the pattern; a parameter takes one segment that is not empty, a star at the end all
// that is left.
func (r route) matches(path string) bool {
	segments := strings.Split(path, "/")
	last := len(r.segments) - 1
	tree := r.segments[last] == "*"
	if len(segments) != len(r.segments) && (!tree || len(segments) < len(r.segments)) {
		return false
	}
	for i, want := range r.segments {
		if tree && i == last {
			return true
		}
		if strings.HasPrefix(want, ":") && segments[i] != "" {
			continue
		}
		if want != segments[i] {
			return false
		}
	}
	return true
}

func (s *Server) registered(pattern string) bool {
	return slices.ContainsFunc(s.routes, func(r route) bool { return r.path == pattern })
}

func (s *Server) served(method, pattern string) bool {
	return slices.ContainsFunc(s.routes, func(r route) bool { return r.method == method && r.path == pattern })
}

func (s *Server) matched(path string) bool {
	return slices.ContainsFunc(s.routes, func(r route) bool { return r.matches(path) })
}

// slashRedirect gives the address of a path that exists only with, or only without, a slash at its end. It is absolute and
// answered with 307, so that the method and the body survive.
func (s *Server) slashRedirect(c echo.Context, err error) (string, bool) {
	r := c.Request()
	path := r.URL.EscapedPath()
	if errorAnswer(err).Status != http.StatusNotFound || path == "" || path == "/" || s.matched(path) {
		return "", false
	}
	other, had := strings.CutSuffix(path, "/")
	if !had {
		other += "/"
	}
	if !s.matched(other) {
		return "", false
	}
	target := "http://"
	if overTLS(r) {
		target = "https://"
	}
	target += r.Host + other
	if r.URL.RawQuery != "" {
		target += "?" + r.URL.RawQuery
	}
	return target, true
}
