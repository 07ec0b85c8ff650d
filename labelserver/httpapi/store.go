package httpapi

import (
	"context"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// Store is what the server needs of a datastore. Ids and tags come from clients as they are: the store checks them. A thing
// that is not there is an error that wraps fs.ErrNotExist, an id or tag that cannot be one wraps annotation.Invalid. All
// methods are safe for concurrent use, and what one has changed the next sees.
type Store interface {
	// Stats counts images, those with a final label, and labels by tag.
	Stats(ctx context.Context) (datastore.Stats, error)
	// Document is the whole index in the layout of datastore_v2.json.
	Document(ctx context.Context) (*api.Object, error)
	// Image and Label find a file by its image's id.
	Image(ctx context.Context, id string) (datastore.Item, error)
	Label(ctx context.Context, id, tag string) (datastore.Item, error)
	// AddImage stores a copy of a file under an id, over what was there. ext is the extension of the client's file name.
	AddImage(ctx context.Context, id, ext, path string, info *api.Object) error
	// SaveLabel stores a copy of a file as the label of an image under a tag, over what was there.
	SaveLabel(ctx context.Context, id, tag, ext, path string, info *api.Object) error
	RemoveImage(ctx context.Context, id string) error
	RemoveLabel(ctx context.Context, id, tag string) error
	// UpdateImageInfo and UpdateLabelInfo merge members into what is known.
	UpdateImageInfo(ctx context.Context, id string, info *api.Object) error
	UpdateLabelInfo(ctx context.Context, id, tag string, info *api.Object) error
	// Labelled lists the images with a label under the tag final, in order of ids.
	Labelled(ctx context.Context) ([]datastore.Pair, error)
}

// Strategy picks the image to label next.
type Strategy interface {
	Name() string
	Description() string
	// Next returns the id of an image without a final label and what the strategy has to say about it, such as its weight. The
	// id is "" when all images are labelled.
	Next(ctx context.Context, params *api.Object) (id string, details *api.Object, err error)
}
