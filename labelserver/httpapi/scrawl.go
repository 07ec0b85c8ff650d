package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/labstack/echo/v4"

	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
)

// The routes under /scrawl/ are this server's own: what its page shows and MONAI Label's protocol has no route for. They change
// nothing.

// seriesHeader tells that an image is a DICOM series, so that its labels can be had as DICOM segmentations.
const seriesHeader = "X-Dicom-Series"

// modalityHeader tells the modality of a DICOM series, by which viewers choose the intensities they show.
const modalityHeader = "X-Dicom-Modality"

// niftiType is the media type of the files of these routes.
const niftiType = "application/octet-stream"

// getVolume sends an image as one uncompressed NIfTI file, whatever it is stored as, in the order of its voxels.
func (s *Server) getVolume(c echo.Context) error {
	image, err := s.queryImage(c)
	if err != nil {
		return err
	}
	v, err := image.Open(c.Request().Context())
	if err != nil {
		return err
	}
	h := c.Response().Header()
	h.Set("Content-Type", niftiType)
	h.Set("Cache-Control", "no-store")
	if modality, ok := s.isSeries(c.Request().Context(), image.Key); ok {
		h.Set(seriesHeader, "true")
		if modality != "" {
			h.Set(modalityHeader, modality)
		}
	}
	c.Response().WriteHeader(http.StatusOK)
	return s.o.Codec.EncodeVolume("image.nii", c.Response(), v)
}

// getFinalLabel sends the finished label of an image of the datastore as NIfTI.
func (s *Server) getFinalLabel(c echo.Context) error {
	id, err := required(c, "image")
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	item, err := s.o.Store.Label(ctx, id, tagFinal)
	if err != nil {
		return err
	}
	f, err := item.Open()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	m, err := s.decodeLabels(ctx, "label"+item.Ext, f)
	if err != nil {
		return err
	}
	return s.sendLabels(c, m)
}

// sendLabels sends a label map as NIfTI, or 204 when there is none.
func (s *Server) sendLabels(c echo.Context, m *volume.LabelMap) error {
	if m == nil {
		return c.NoContent(http.StatusNoContent)
	}
	var b bytes.Buffer
	if err := s.o.Codec.EncodeLabels("label.nii", &b, m, "uint8", false); err != nil {
		return fmt.Errorf("writing the label map: %w", err)
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return replyBytes(c, http.StatusOK, niftiType, b.Bytes())
}

// queryImage is the image of a request without a body.
func (s *Server) queryImage(c echo.Context) (annotation.Image, error) {
	query := c.QueryParams()
	if id := query.Get("session_id"); id != "" {
		if s.o.Sessions == nil {
			return annotation.Image{}, api.Errorf(http.StatusNotFound, "Session (%s) Not Found", id)
		}
		return s.sessionImage(id)
	}
	id, err := required(c, "image")
	if err != nil {
		return annotation.Image{}, err
	}
	return s.storedImage(c.Request().Context(), id)
}

func (s *Server) queryWork(c echo.Context) (annotation.Work, error) {
	model, err := required(c, "model")
	if err != nil {
		return annotation.Work{}, err
	}
	image, err := s.queryImage(c)
	query := c.QueryParams()
	return annotation.Work{Model: model, Image: image, ClientID: s.clientID(c, query.Get("client_id")), LabelName: query.Get("label")}, err
}

// recalled answers with a label map that is remembered.
func (s *Server) recalled(recall func(context.Context, annotation.Work) (*volume.LabelMap, error)) echo.HandlerFunc {
	return func(c echo.Context) error {
		w, err := s.queryWork(c)
		if err != nil {
			return err
		}
		m, err := recall(c.Request().Context(), w)
		if err != nil {
			return err
		}
		return s.sendLabels(c, m)
	}
}

func (s *Server) getWorkLabels(c echo.Context) error {
	w, err := s.queryWork(c)
	if err != nil {
		return err
	}
	labels, err := s.o.Recall.Labels(c.Request().Context(), w)
	if err != nil {
		return err
	}
	return reply(c, http.StatusOK, labels)
}

func (s *Server) getLearned(c echo.Context) error {
	w, err := s.queryWork(c)
	if err != nil {
		return err
	}
	l, err := s.o.Recall.Learned(c.Request().Context(), w)
	if err != nil {
		return err
	}
	loss := l.Loss
	if loss == nil {
		loss = []float64{}
	}
	return reply(c, http.StatusOK, api.NewObject("interactions", l.Interactions, "on_image", l.OnImage, "user_seconds", l.UserSeconds, "machine_seconds", l.MachineSeconds, "lessons", l.Lessons, "busy", l.Busy, "distance", l.Distance, "loss", loss))
}

// getStatus tells operators what the server is doing.
func (s *Server) getStatus(c echo.Context) error {
	return reply(c, http.StatusOK, s.o.Status())
}

// stages holds how far the requests under way are, by request id. Clients choose ids; one that is used twice shows the later request.
type stages struct {
	mu sync.Mutex
	at map[string]stage
}

type stage struct {
	name        string
	done, total int
}

// follow returns the function to which a request reports, and the one that ends it.
func (p *stages) follow(request string) (report func(name string, done, total int), end func()) {
	report = func(name string, done, total int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.at == nil {
			p.at = map[string]stage{}
		}
		p.at[request] = stage{name, done, total}
	}
	end = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.at, request)
	}
	return report, end
}

func (p *stages) of(request string) (stage, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st, ok := p.at[request]
	return st, ok
}

// getProgress tells how far a request is that this client sent with an X-Request-Id; 204 when no such request runs.
func (s *Server) getProgress(c echo.Context) error {
	id, err := required(c, "request")
	if err != nil {
		return err
	}
	st, ok := s.stages.of(id)
	if !ok {
		return c.NoContent(http.StatusNoContent)
	}
	return reply(c, http.StatusOK, api.NewObject("stage", st.name, "done", st.done, "total", st.total))
}
