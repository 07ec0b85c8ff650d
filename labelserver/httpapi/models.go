package httpapi

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
)

// ModelFile is the weights of a model that are served.
type ModelFile struct {
	// Data is the .onnx file.
	Data []byte
	// Checksum is "SHA256:" and the hash of the file in hexadecimal, Modified when it was made.
	Checksum string
	Modified time.Time
	// Stats are the figures of the training it comes from; nil when it comes from none.
	Stats *api.Object
}

// ModelFiles are the weights of the models. Errors wrap an [annotation.Kind]: Invalid for a file that is refused, whose text says why.
type ModelFiles interface {
	ModelFile(ctx context.Context, model string) (ModelFile, error)
	// ReplaceModel serves the network in an uploaded file in the place of the model's, if it can take it.
	ReplaceModel(ctx context.Context, model, path string) (ModelFile, error)
	// WithdrawModel goes back to the weights that were served before.
	WithdrawModel(ctx context.Context, model string) error
}

func (s *Server) registerModels(g *echo.Group) {
	g.GET("/model/:model", s.getModel)
	g.PUT("/model/:model", s.putModel)
	g.DELETE("/model/:model", s.deleteModel)
	g.GET("/model/info/:model", s.getModelInfo)
}

// modelFile finds the weights that a path means.
func (s *Server) modelFile(c echo.Context) (string, ModelFile, error) {
	name, err := pathParam(c, "model")
	if err != nil {
		return "", ModelFile{}, err
	}
	if s.o.Models == nil {
		return name, ModelFile{}, noModelFile(name, nil)
	}
	file, err := s.o.Models.ModelFile(c.Request().Context(), name)
	if errors.Is(err, annotation.NotFound) {
		err = noModelFile(name, err)
	}
	return name, file, err
}

func noModelFile(name string, cause error) *api.Error {
	e := api.Errorf(http.StatusNotFound, "Model File NOT Found for %s", name)
	e.Cause = cause
	return e
}

// getModel sends the weights. They are an ONNX file and called so: what ends in .pt invites others to unpickle it.
func (s *Server) getModel(c echo.Context) error {
	name, file, err := s.modelFile(c)
	if err != nil {
		return err
	}
	return sendContent(c, bytes.NewReader(file.Data), name+".onnx", `"`+file.Checksum+`"`, file.Modified)
}

func (s *Server) getModelInfo(c echo.Context) error {
	_, file, err := s.modelFile(c)
	if err != nil {
		return err
	}
	return reply(c, http.StatusOK, modelInfo(file))
}

func modelInfo(f ModelFile) *api.Object {
	o := api.NewObject("checksum", f.Checksum, "modified_time", f.Modified.Unix())
	if f.Stats.Len() > 0 {
		o.Set("train_stats", f.Stats)
	}
	return o
}

func (s *Server) putModel(c echo.Context) error {
	name, err := pathParam(c, "model")
	if err != nil {
		return err
	}
	form, err := s.readForm(c)
	if err != nil {
		return err
	}
	defer s.closeForm(c, form)
	upload := form.File("file")
	if upload == nil {
		return api.Missing(api.InBody, "file")
	}
	if s.o.Models == nil {
		return noModelFile(name, nil)
	}
	file, err := s.o.Models.ReplaceModel(c.Request().Context(), name, upload.Path)
	if err != nil {
		return err
	}
	return reply(c, http.StatusOK, modelInfo(file))
}

func (s *Server) deleteModel(c echo.Context) error {
	name, _, err := s.modelFile(c)
	if err != nil {
		return err
	}
	if err := s.o.Models.WithdrawModel(c.Request().Context(), name); err != nil {
		return err
	}
	return reply(c, http.StatusOK, &api.Object{})
}
