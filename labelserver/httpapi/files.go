package httpapi

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"scrawl/labelserver/api"
	"scrawl/labelserver/obs"
)

// Limits of forms beside the size of the whole body, which is configured.
const (
	maxFieldBytes = 16 << 20
	maxFormParts  = 20000
)

func (s *Server) readForm(c echo.Context) (*api.Form, error) {
	if err := s.checkLength(c, int64(s.o.Config.Server.MaxUpload)); err != nil {
		return nil, err
	}
	return api.ReadForm(c.Request(), s.o.UploadDir, api.FormLimits{
		Bytes: int64(s.o.Config.Server.MaxUpload), FieldBytes: maxFieldBytes, Parts: maxFormParts,
	})
}

// checkLength refuses a body that says itself that it is too large, before anything of it is read or stored.
func (s *Server) checkLength(c echo.Context, limit int64) error {
	if n := c.Request().ContentLength; n > limit {
		return api.Errorf(http.StatusRequestEntityTooLarge, "upload of %d bytes is larger than %d bytes, the most this server takes", n, limit)
	}
	return nil
}

func (s *Server) closeForm(c echo.Context, form *api.Form) {
	if err := form.Close(); err != nil {
		s.o.Log.Error().Err(err).Str("request", obs.RequestID(c.Request().Context())).Msg("removing an upload")
	}
}

// readBody reads an optional JSON body.
func readBody(c echo.Context) (*api.Object, error) {
	text, err := io.ReadAll(io.LimitReader(c.Request().Body, maxFieldBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	if len(text) > maxFieldBytes {
		return nil, api.Errorf(http.StatusRequestEntityTooLarge, "body is larger than %d bytes", maxFieldBytes)
	}
	o, bad := api.DecodeBody(text)
	if bad != nil { // a nil *api.Error in an error would not be nil
		return nil, bad
	}
	return o, nil
}

// contentType is the type by which a file is sent. Medical images are plain bytes: the standard library would call .nii.gz
// gzip, and clients that see gzip unpack it.
func contentType(name string) string {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".png":
		return "image/png"
	case ".jpg", ".jpeg":
		return "image/jpeg"
	case ".tif", ".tiff":
		return "image/tiff"
	case ".bmp":
		return "image/bmp"
	case ".xml":
		return "application/xml"
	case ".json":
		return "application/json"
	case ".dcm":
		return "application/dicom"
	}
	return "application/octet-stream"
}

// sendFile answers with a file, or the part of it that was asked for, under a quoted name.
func sendFile(c echo.Context, f *os.File, name string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is a folder: %w", name, fs.ErrNotExist)
	}
	etag := fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size())
	return sendContent(c, f, name, etag, info.ModTime())
}

func sendContent(c echo.Context, content io.ReadSeeker, name, etag string, modified time.Time) error {
	h := c.Response().Header()
	h.Set("Content-Type", contentType(name))
	h.Set("Content-Disposition", api.ContentDisposition(name))
	h.Set("Etag", etag)
	http.ServeContent(c.Response(), c.Request(), "", modified, content)
	return nil
}
