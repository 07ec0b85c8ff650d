package labelserver

import (
	"context"
	"errors"
	"fmt"
	"os"

	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
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

func (s images) Image(ctx context.Context, id string) (datastore.Item, error) {
	item, err := s.Store.Image(ctx, id)
	return item, told(err)
}

func (s images) Label(ctx context.Context, id, tag string) (datastore.Item, error) {
	item, err := s.Store.Label(ctx, id, tag)
	return item, told(err)
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
