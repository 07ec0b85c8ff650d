package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	s.nameClient(c, params)
	ctx := c.Request().Context()
	sample, item, err := s.nextSample(ctx, chosen, params)
	if err != nil {
		return err
	}
	if sample == nil {
		return reply(c, http.StatusOK, &api.Object{})
	}
	id := item.ID
	if err := s.recordServed(c, item, name, params); err != nil {
		return err
	}
	s.grantImage(c, id)
	s.note(c, "image", id)
	return reply(c, http.StatusOK, sample)
}

// maxGone bounds how many images that are gone one request passes over.
const maxGone = 10

// nextSample describes the image that a strategy picks, nil if there is none. Images that have gone since they were listed are passed
// over: an archive's may at any time. An image that cannot be had now is no sample either, and its error says why.
func (s *Server) nextSample(ctx context.Context, chosen Strategy, params *api.Object) (sample *api.Object, item datastore.Item, err error) {
	for range maxGone {
		id, details, err := chosen.Next(ctx, params)
		if err != nil || id == "" {
			return nil, item, err
		}
		var sum string
		if item, err = s.o.Store.Image(ctx, id); err == nil {
			sum, err = s.checksum(ctx, item)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, datastore.ErrUnavailable), ctx.Err() != nil:
			return nil, item, err
		}
		sample := api.NewObject("id", id)
		sample.Merge(details)
		sample.Set("path", item.Path)
		sample.Merge(item.Info)
		if sum != "" {
			sample.Set("checksum", sum)
		}
		return sample, item, nil
	}
	return nil, item, fmt.Errorf("the last %d images picked are gone: %w", maxGone, datastore.ErrUnavailable)
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

// maxClientText bounds what a client's name may take in an image's info, in bytes.
const maxClientText = 256

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
	served.Set(strategy, api.NewObject("ts", time.Now().Unix(), "client_id", cutText(client, maxClientText)))
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
