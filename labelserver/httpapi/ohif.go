package httpapi

import (
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/labstack/echo/v4"

	"scrawl/labelserver/annotation"
)

// viewerPage is what a built viewer starts with.
const viewerPage = "index.html"

// openViewer opens the folder of a built OHIF viewer.
func openViewer(folder string) (*os.Root, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("viewer of server.ohif: %w", err)
	}
	if _, err := root.Stat(viewerPage); err != nil {
		return nil, errors.Join(fmt.Errorf("folder %s of server.ohif holds no built viewer: it has no %s", folder, viewerPage), root.Close())
	}
	return root, nil
}

// getOHIF serves the viewer's files, those in folders too. An address within the viewer, such as viewer?StudyInstanceUIDs=1.2, is
// its page; a file that is not there is not: a browser that gets a page for a missing script says something else is wrong.
func (s *Server) getOHIF(c echo.Context) error {
	if s.viewer == nil {
		return echo.ErrNotFound
	}
	name, err := url.PathUnescape(strings.TrimPrefix(c.Request().URL.EscapedPath(), s.o.Config.Server.APIPrefix+"/ohif/"))
	if err != nil || strings.ContainsAny(name, "\\\x00") || name != "" && !fs.ValidPath(strings.TrimSuffix(name, "/")) {
		return echo.ErrNotFound
	}
	name = strings.TrimSuffix(name, "/")
	if name == "" {
		name = viewerPage
	}
	f, info, err := s.openViewerFile(name)
	if errors.Is(err, fs.ErrNotExist) && path.Ext(path.Base(name)) == "" {
		name = viewerPage
		f, info, err = s.openViewerFile(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return echo.ErrNotFound
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	h := c.Response().Header()
	h.Set("Content-Type", viewerType(name))
	h.Set("Etag", `"`+annotation.FileVersion(info)+`"`)
	h.Set("Cache-Control", "no-cache") // asked for again each time, and answered with 304
	http.ServeContent(c.Response(), c.Request(), "", info.ModTime(), f)
	return nil
}

// openViewerFile opens a regular file. What leads out of the folder, or is none, is as good as not there.
func (s *Server) openViewerFile(name string) (*os.File, fs.FileInfo, error) {
	info, err := s.viewer.Stat(name)
	if err != nil {
		return nil, nil, fmt.Errorf("viewer's file %q: %w", name, fs.ErrNotExist)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%q is no file: %w", name, fs.ErrNotExist)
	}
	f, err := s.viewer.Open(name)
	return f, info, err
}

// viewerType is the type of a viewer's file, independent of what the system has configured.
func viewerType(name string) string {
	switch ext := strings.ToLower(path.Ext(name)); ext {
	case ".html":
		return htmlType
	case ".js", ".mjs":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".json", ".map":
		return "application/json"
	case ".wasm":
		return "application/wasm"
	case ".svg":
		return "image/svg+xml"
	case ".ico":
		return "image/x-icon"
	default:
		if t := mime.TypeByExtension(ext); t != "" {
			return t
		}
	}
	return "application/octet-stream"
}
