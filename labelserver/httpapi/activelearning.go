package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// postActiveLearning tells which image to label next: the strategy's words, the path and what is known of the image. The name
// keeps its extension, since Slicer stores the image under it and picks the reader by it.
func (s *Server) postActiveLearning(c echo.Context) error {
	name, err := pathParam(c, "strategy")
	if err != nil {
		return err
	}
	chosen, err := s.strategy(name)
	if err != nil {
		return err
	}
	params, err := readBody(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	id, details, err := chosen.Next(ctx, params)
	if err != nil {
		return err
	}
	if id == "" {
		return reply(c, http.StatusOK, &api.Object{})
	}
	item, err := s.o.Store.Image(ctx, id)
	if err != nil {
		return err
	}
	sample := api.NewObject("id", id)
	sample.Merge(details)
	sample.Set("path", item.Path)
	sample.Merge(item.Info)
	if sum, err := s.checksum(c.Request().Context(), item); err == nil && sum != "" {
		sample.Set("checksum", sum)
	}
	if err := s.recordServed(c, item, name, params); err != nil {
		return err
	}
	s.grantImage(c, id)
	s.note(c, "image", id)
	return reply(c, http.StatusOK, sample)
}

func (s *Server) strategy(name string) (Strategy, error) {
	var names []string
	for _, strategy := range s.o.Strategies {
		if strategy.Name() == name {
			return strategy, nil
		}
		names = append(names, strategy.Name())
	}
	return nil, api.Errorf(http.StatusNotFound, "strategy %q not found, there are: %s", name, strings.Join(names, ", "))
}

// recordServed notes in the image's info by which strategy and to whom it was given.
func (s *Server) recordServed(c echo.Context, item datastore.Item, strategy string, params *api.Object) error {
	client, ok := params.Text("client_id")
	if !ok || client == "" {
		client = s.userOf(c)
	}
	served := &api.Object{}
	if before, ok := item.Info.Object("strategy"); ok {
		served = before.Clone()
	}
	served.Set(strategy, api.NewObject("ts", time.Now().Unix(), "client_id", client))
	return s.o.Store.UpdateImageInfo(c.Request().Context(), item.ID, api.NewObject("strategy", served))
}

// maxChecksumBytes bounds the files for which a checksum is worth its time.
const maxChecksumBytes = 1 << 30

// checksum returns "SHA256:hex" of an image, or "" for a file too large. With one in the answer Slicer notices that a file of the same
// name in its cache is another image.
func (s *Server) checksum(ctx context.Context, item datastore.Item) (string, error) {
	f, err := item.Open()
	if err != nil {
		return "", err
	}
	info, err := f.Stat()
	_ = f.Close() // nothing was written
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxChecksumBytes {
		return "", nil
	}
	sum, err := s.checksums.Of(ctx, item, datastore.SHA256)
	if err != nil {
		return "", err
	}
	return "SHA256:" + sum, nil
}
