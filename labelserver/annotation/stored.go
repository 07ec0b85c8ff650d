package annotation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"scrawl/adapters/volume"
	"scrawl/labelserver/datastore"
)

// StoredImage is an image of a datastore, which decode reads when it is opened, at most once. The name that decode gets ends in the
// image's extension.
func StoredImage(item datastore.Item, decode func(ctx context.Context, name string, r io.Reader) (*volume.Volume, error)) (Image, error) {
	f, err := item.Open()
	if err != nil {
		return Image{}, err
	}
	stat, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		return Image{}, err
	}
	return Image{
		Key:     ImageKey{Source: Stored, ID: item.ID},
		Ext:     item.Ext,
		Version: FileVersion(stat),
		Open: Once(func(ctx context.Context) (*volume.Volume, error) {
			f, err := item.Open()
			if err != nil {
				return nil, err
			}
			defer f.Close()
			return decode(ctx, "image"+item.Ext, f)
		}),
	}, nil
}

// FileVersion changes whenever a file may have changed.
func FileVersion(info fs.FileInfo) string {
	return fmt.Sprintf("%x-%x", info.ModTime().UnixNano(), info.Size())
}

// Once makes an image's Open decode at most once.
func Once(open func(ctx context.Context) (*volume.Volume, error)) func(ctx context.Context) (*volume.Volume, error) {
	var v *volume.Volume
	return func(ctx context.Context) (*volume.Volume, error) {
		if v != nil {
			return v, nil
		}
		var err error
		v, err = open(ctx)
		return v, err
	}
}
