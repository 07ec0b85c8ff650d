package httpapi

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"gopkg.in/yaml.v3"

	"scrawl/labelserver/api"
)

var (
	//go:embed openapi.yaml
	openapiYAML []byte
	//go:embed assets/favicon.ico
	favicon []byte
	// pageFiles are the pages, built from page/src.
	//
	//go:embed page/dist
	pageFiles embed.FS
)

// operation is a line of the docs page.
type operation struct {
	Method, Path, Summary string
}

// renderPages makes the fixed pages once. They load nothing from elsewhere: hospital networks reach no CDN.
func (s *Server) renderPages() error {
	var doc yaml.Node
	if err := yaml.Unmarshal(openapiYAML, &doc); err != nil {
		return fmt.Errorf("openapi.yaml: %w", err)
	}
	value, err := fromYAML(&doc)
	if err != nil {
		return fmt.Errorf("openapi.yaml: %w", err)
	}
	description, ok := value.(*api.Object)
	if !ok {
		return fmt.Errorf("openapi.yaml: holds %T, want an object", value)
	}
	addRefusals(description)
	prefix := s.o.Config.Server.APIPrefix
	if prefix != "" {
		description.Set("servers", []*api.Object{api.NewObject("url", prefix)})
	}
	if s.openapi, err = api.Encode(description); err != nil {
		return fmt.Errorf("openapi.yaml: %w", err)
	}
	data := struct {
		Server     pageConfig
		About      About
		Prefix     string
		Logins     bool
		Operations []operation
	}{pageConfig{s.o.Config.Server.Name}, s.o.About, prefix, s.o.Auth != nil, operationsOf(description)}
	s.pages = map[string][]byte{}
	for _, name := range []string{"annotate.html", "operator.html", "login.html", "docs.html"} {
		if s.pages[name], err = render(name, data); err != nil {
			return fmt.Errorf("page %s: %w", name, err)
		}
	}
	return nil
}

// addRefusals says of every operation that it may be refused: for want of a role, for its size, by the address it was asked under.
func addRefusals(description *api.Object) {
	paths, _ := description.Object("paths")
	for _, item := range paths.All() {
		item, _ := item.(*api.Object)
		for _, operation := range item.All() {
			operation, _ := operation.(*api.Object)
			if responses, ok := operation.Object("responses"); ok && !responses.Has("default") {
				responses.Set("default", api.NewObject("$ref", "#/components/responses/Error"))
			}
		}
	}
}

// pageConfig is what pages show of the configuration.
type pageConfig struct{ Name string }

// render fills a page in.
func render(name string, data any) ([]byte, error) {
	t, err := template.ParseFS(pageFiles, "page/dist/"+name)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, data)
	return b.Bytes(), err
}

func operationsOf(description *api.Object) []operation {
	var list []operation
	paths, _ := description.Object("paths")
	for path, value := range paths.All() {
		item, _ := value.(*api.Object)
		for method, value := range item.All() {
			if o, ok := value.(*api.Object); ok {
				summary, _ := o.Text("summary")
				list = append(list, operation{strings.ToUpper(method), path, summary})
			}
		}
	}
	return list
}

// fromYAML turns a YAML document into JSON values, in its order.
func fromYAML(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) == 1 {
			return fromYAML(n.Content[0])
		}
	case yaml.MappingNode:
		o := &api.Object{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			value, err := fromYAML(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			o.Set(n.Content[i].Value, value)
		}
		return o, nil
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range n.Content {
			value, err := fromYAML(item)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	case yaml.AliasNode:
		return fromYAML(n.Alias)
	case yaml.ScalarNode:
		var value any
		err := n.Decode(&value)
		return value, err
	}
	return nil, fmt.Errorf("line %d: no JSON form", n.Line)
}

const (
	htmlType = "text/html; charset=utf-8"
	textType = "text/plain; charset=utf-8"
)

// pagePolicy lets the pages load what this server sends and nothing else. The viewer keeps pictures of its letters in its own code as
// data: and saves files from blob: addresses.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self' data: blob:; " +
	"font-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func setPageHeaders(h http.Header) {
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
}

func (s *Server) getPage(name string) echo.HandlerFunc {
	return func(c echo.Context) error {
		setPageHeaders(c.Response().Header())
		return replyBytes(c, http.StatusOK, htmlType, s.pages[name])
	}
}

// getPageFile sends a script or style sheet of the pages.
func (s *Server) getPageFile(c echo.Context) error {
	name, err := pathParam(c, "file")
	if err != nil {
		return err
	}
	types := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".txt": textType}
	content, err := fs.ReadFile(pageFiles, "page/dist/"+name)
	if err != nil || types[path.Ext(name)] == "" {
		return echo.ErrNotFound
	}
	h := c.Response().Header()
	setPageHeaders(h)
	h.Set("Content-Type", types[path.Ext(name)])
	h.Set("Etag", fmt.Sprintf(`"%x"`, sha256.Sum256(content)))
	http.ServeContent(c.Response(), c.Request(), "", time.Time{}, bytes.NewReader(content))
	return nil
}

func (s *Server) getOpenAPI(c echo.Context) error {
	return replyBytes(c, http.StatusOK, "application/json", s.openapi)
}

func (s *Server) getFavicon(c echo.Context) error {
	return replyBytes(c, http.StatusOK, "image/x-icon", favicon)
}

// postReload answers what makes the incumbent drop its app and start it anew. Here nothing needs that: files, accounts, certificates and
// weights are noticed when they change.
func (s *Server) postReload(c echo.Context) error {
	return reply(c, http.StatusOK, &api.Object{})
}

// getStaticFavicon is the icon where the incumbent's own pages look for it.
func (s *Server) getStaticFavicon(c echo.Context) error {
	return replyBytes(c, http.StatusOK, "image/vnd.microsoft.icon", favicon)
}

func (s *Server) getHealth(c echo.Context) error {
	return reply(c, http.StatusOK, api.NewObject("status", "ok"))
}

func (s *Server) getMetrics(c echo.Context) error {
	var b bytes.Buffer
	if _, err := s.o.Metrics.WriteTo(&b); err != nil {
		return err
	}
	return replyBytes(c, http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", b.Bytes())
}

// getLogs shows the log: as a page that renews itself, as its last lines, or with lines=0 as a whole.
func (s *Server) getLogs(c echo.Context) error {
	lines, err := queryInt(c, "lines", 300)
	if err != nil {
		return err
	}
	html, err := queryBool(c, "html", true)
	if err != nil {
		return err
	}
	text, err := queryBool(c, "text", false)
	if err != nil {
		return err
	}
	refresh, err := queryInt(c, "refresh", 0)
	if err != nil {
		return err
	}
	if s.o.LogFile == nil {
		return api.Errorf(http.StatusNotFound, "Log File NOT Found")
	}
	if html && !text && lines != 0 {
		return s.sendLogPage(c, lines, refresh)
	}
	tail, err := s.o.LogFile.Tail(max(lines, 0))
	if err != nil {
		return err
	}
	return replyBytes(c, http.StatusOK, textType, tail)
}

func (s *Server) sendLogPage(c echo.Context, lines, refresh int) error {
	if refresh < 1 {
		refresh = 5
	}
	page, err := render("logs.html", struct {
		Server pageConfig
		Lines  string
		Millis int
	}{pageConfig{s.o.Config.Server.Name}, strconv.Itoa(lines), min(refresh, 3600) * 1000})
	if err != nil {
		return err
	}
	setPageHeaders(c.Response().Header())
	return replyBytes(c, http.StatusOK, htmlType, page)
}

// getGPU stands for the incumbent's nvidia-smi. The server starts no programs for clients.
func (s *Server) getGPU(echo.Context) error {
	return api.Errorf(http.StatusNotFound, "no GPU report here: the device in use is %s, see /metrics", s.o.Config.Runtime.Device)
}
