package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"scrawl/labelserver/api"
)

// Archive passes a viewer's request on to the archive of images, with the server's credentials and without the viewer's. Paths that are
// no DICOMweb resource are an error that wraps dicomweb.ErrPath. With an error nothing has been answered yet.
type Archive interface {
	Forward(w http.ResponseWriter, r *http.Request, escapedPath string) error
}

// Bounds of what is passed on at a time: a viewer asks for many things at once, and an archive has few hands.
const (
	maxForwarded = 64
	forwardWait  = 30 * time.Second
)

// proxyServices are the addresses below /proxy/dicom/ that the incumbent has. Which service a request is for follows from its method and
// path, so they all lead to the same: OHIF stores at the address at which it retrieves.
var proxyServices = []string{"qido/", "wado/", "stow/"}

// proxyDICOM answers OHIF's requests for images with the archive's answers.
func (s *Server) proxyDICOM(c echo.Context) error {
	if s.o.Archive == nil {
		return api.Errorf(http.StatusNotFound, "the studies are in a folder and not in a DICOMweb archive, so there is nothing to pass on")
	}
	path, _ := strings.CutPrefix(c.Request().URL.EscapedPath(), s.o.Config.Server.APIPrefix+"/proxy/dicom/")
	for _, service := range proxyServices {
		if rest, ok := strings.CutPrefix(path, service); ok {
			path = rest
			break
		}
	}
	s.note(c, "image", path) // the resource, by its UIDs; queries may hold names
	leave, err := s.enterProxy(c.Request().Context())
	if err != nil {
		return err
	}
	defer leave()
	r := c.Request()
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(c.Response(), r.Body, int64(s.o.Config.Server.MaxUpload))
	}
	return s.o.Archive.Forward(c.Response(), r, path)
}

func (s *Server) enterProxy(ctx context.Context) (leave func(), err error) {
	timer := time.NewTimer(forwardWait)
	defer timer.Stop()
	select {
	case s.forwarded <- struct{}{}:
		return func() { <-s.forwarded }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, api.Errorf(http.StatusServiceUnavailable, "the archive is busy with %d requests of viewers", maxForwarded)
	}
}
