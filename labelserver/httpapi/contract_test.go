package httpapi

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// contract is what openapi.json promises. Every answer that a test of this package gets is held against it, see bench.send.
type contract struct {
	doc *openapi3.T
	mu  sync.Mutex
	met map[string]bool // operations of which an answer was seen
}

// promised is the contract of all tests together.
var promised = contract{met: make(map[string]bool)}

func (c *contract) load(t *testing.T, b *bench) *openapi3.T {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.doc == nil {
		doc, err := openapi3.NewLoader().LoadFromData(b.server.openapi)
		if err != nil {
			t.Fatalf("openapi.json: %v", err)
		}
		if err := doc.Validate(context.Background()); err != nil {
			t.Fatalf("openapi.json is no valid description: %v", err)
		}
		c.doc = doc
	}
	return c.doc
}

// check holds an answer against the description of its operation. What belongs to no operation, such as a redirect or an unknown
// path, has none.
func (c *contract) check(t *testing.T, b *bench, req *http.Request, r result) {
	t.Helper()
	doc := c.load(t, b)
	i := slices.IndexFunc(b.server.routes, func(x route) bool {
		return x.method == req.Method && x.matches(strings.TrimPrefix(req.URL.EscapedPath(), b.server.o.Config.Server.APIPrefix))
	})
	if i < 0 || r.status == http.StatusSeeOther || r.status == http.StatusTemporaryRedirect {
		return
	}
	path := describedPath(b.server.routes[i].path)
	item := doc.Paths.Value(path)
	if item == nil || item.GetOperation(req.Method) == nil {
		return // TestDescriptionCoversEveryRoute says so
	}
	body := r.body
	if req.Method == http.MethodHead {
		body = "{}" // of which only the length is sent
	}
	options := &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true}
	options.WithCustomSchemaErrorFunc(func(e *openapi3.SchemaError) string { return strings.Join(e.JSONPointer(), "/") + ": " + e.Reason })
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: req,
			Route:   &routers.Route{Spec: doc, Path: path, PathItem: item, Method: req.Method, Operation: item.GetOperation(req.Method)},
		},
		Status: r.status, Header: r.header, Body: io.NopCloser(strings.NewReader(body)),
		Options: options,
	}
	if err := openapi3filter.ValidateResponse(context.Background(), input); err != nil {
		t.Errorf("%s %s is answered %d %s %.80q, which openapi.yaml does not say: %v", req.Method, req.URL.Path, r.status, r.header.Get("Content-Type"), r.body, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.met[req.Method+" "+path] = true
}

// describedPath is a registered pattern as openapi.yaml has it.
func describedPath(pattern string) string {
	return strings.Replace(pathParameter.ReplaceAllString(pattern, "{$1}"), "*", "{path}", 1)
}
