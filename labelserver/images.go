package labelserver

import (
	"context"
	"errors"
	"fmt"
	"os"

	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/httpapi"
)

// images is a datastore as the HTTP side sees it: files instead of readers, and errors in the terms of the annotation service.
type images struct{ datastore.Store }

// told says of the datastore's refusals what clients are told.
func told(err error) error {
	switch {
	case errors.Is(err, datastore.ErrInvalid), errors.Is(err, datastore.ErrConflict), errors.Is(err, datastore.ErrTooLarge), errors.Is(err, datastore.ErrReadOnly):
		return fmt.Errorf("%w: %w", annotation.Invalid, err)
	}
	return err
}

func (s images) Stats(ctx context.Context) (httpapi.Stats, error) {
	got, err := s.Store.Stats(ctx)
	stats := httpapi.Stats{Total: got.Total, Completed: got.Completed}
	for _, t := range got.Tags {
		stats.Tags = append(stats.Tags, httpapi.TagCount(t))
	}
	return stats, err
}

func (s images) Image(ctx context.Context, id string) (httpapi.Item, error) {
	item, err := s.Store.Image(ctx, id)
	return httpapi.Item(item), told(err)
}

func (s images) Label(ctx context.Context, id, tag string) (httpapi.Item, error) {
	item, err := s.Store.Label(ctx, id, tag)
	return httpapi.Item(item), told(err)
}

func (s images) AddImage(ctx context.Context, id, ext, path string, info *api.Object) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return told(s.PutImage(ctx, id, ext, f, info))
}

func (s images) SaveLabel(ctx context.Context, id, tag, ext, path string, info *api.Object) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return told(s.PutLabel(ctx, id, tag, ext, f, info))
}

func (s images) RemoveImage(ctx context.Context, id string) error {
	return told(s.DeleteImage(ctx, id))
}

func (s images) RemoveLabel(ctx context.Context, id, tag string) error {
	return told(s.DeleteLabel(ctx, id, tag))
}

func (s images) UpdateImageInfo(ctx context.Context, id string, info *api.Object) error {
	return told(s.Store.UpdateImageInfo(ctx, id, info))
}

func (s images) UpdateLabelInfo(ctx context.Context, id, tag string, info *api.Object) error {
	return told(s.Store.UpdateLabelInfo(ctx, id, tag, info))
}

func (s images) Labelled(ctx context.Context) ([]httpapi.Pair, error) {
	got, err := s.Store.Labelled(ctx)
	pairs := make([]httpapi.Pair, len(got))
	for i, p := range got {
		pairs[i] = httpapi.Pair{Image: httpapi.Item(p.Image), Label: httpapi.Item(p.Label)}
	}
	return pairs, told(err)
}
