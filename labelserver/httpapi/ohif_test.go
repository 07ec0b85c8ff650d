package httpapi

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scrawl/labelserver/config"
)

func TestViewer(t *testing.T) {
	dir := viewerFolder(t)
	secret := filepath.Join(filepath.Dir(dir), "secret.js")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, "link.js")); err != nil {
		t.Logf("no links here: %v", err)
	}
	c := config.Default()
	c.Server.OHIF = dir
	b := newBench(t, func(o *Options) { o.Config = c })
	for path, want := range map[string]struct {
		status            int
		contentType, text string
	}{
		"/ohif/":                           {200, "text/html; charset=utf-8", "viewer"},
		"/ohif/index.html":                 {200, "text/html; charset=utf-8", "viewer"},
		"/ohif/viewer/monai-label?x=1":     {200, "text/html; charset=utf-8", "viewer"},
		"/ohif/assets":                     {200, "text/html; charset=utf-8", "viewer"},
		"/ohif/assets/":                    {200, "text/html; charset=utf-8", "viewer"},
		"/ohif/app-config.js":              {200, "text/javascript; charset=utf-8", "window.config"},
		"/ohif/assets/yellow-dot.svg":      {200, "image/svg+xml", "<svg/>"},
		"/ohif/assets/none.svg":            {404, "application/json", "Not Found"},
		"/ohif/none.js":                    {404, "application/json", "Not Found"},
		"/ohif/link.js":                    {404, "application/json", "Not Found"},
		"/ohif/../secret.js":               {404, "application/json", "Not Found"},
		"/ohif/%2e%2e/secret.js":           {404, "application/json", "Not Found"},
		"/ohif/..%2fsecret.js":             {404, "application/json", "Not Found"},
		"/ohif/assets/..%5c..%5csecret.js": {404, "application/json", "Not Found"},
		"/ohif//etc/passwd":                {404, "application/json", "Not Found"},
		"/ohif/%00.js":                     {404, "application/json", "Not Found"},
	} {
		r := b.get(path)
		if r.status != want.status || r.header.Get("Content-Type") != want.contentType || !strings.Contains(r.body, want.text) {
			t.Errorf("GET %s: %d %s %.100q, want %+v", path, r.status, r.header.Get("Content-Type"), r.body, want)
		}
	}
	tag := b.get("/ohif/app-config.js").header.Get("Etag")
	if r := b.get("/ohif/app-config.js", "If-None-Match", tag); r.status != 304 {
		t.Errorf("a file that the browser has is sent again: %d", r.status)
	}
	for _, bad := range []string{filepath.Join(dir, "none"), filepath.Join(dir, "assets")} {
		if _, err := openViewer(bad); err == nil {
			t.Errorf("%s is taken for a viewer", bad)
		}
	}
}
