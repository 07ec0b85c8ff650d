// Package datastore is where images and their labels are kept. It holds the contract, the Store interface; implementations are
// packages below: localstore keeps MONAI Label's folder, webstore speaks to an archive. Package storetest checks an implementation
// against the contract.
//
// # Images, labels, tags
//
// An image has an id, which is the name of its file without the extension. A label belongs to one image and has the image's id;
// a tag tells several labels of one image apart. Two tags have a meaning: final is what a user has submitted, and an image that
// has such a label is completed; original is a model's answer. Each image and each label has an info: a JSON object of whatever
// clients sent along, whose members and their order survive.
//
// # Names
//
// Ids and tags come from clients as they are. An id may hold blanks, signs and letters of any script, since it often is the name
// of a series ("3: Thorax 1.0 B45f"), but it is one element of a path: see CheckID.
package datastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode/utf8"

	"scrawl/labelserver/api"
)

// Tags with a meaning of their own.
const (
	TagFinal    = "final"    // labels a user has submitted
	TagOriginal = "original" // a model's answers
)

// Classes of errors, beside fs.ErrNotExist for an image, a label or a file that is not there. Test with errors.Is.
var (
	// ErrInvalid is an id, tag, extension or info that cannot be stored, whatever the store holds.
	ErrInvalid = errors.New("invalid request to the datastore")
	// ErrConflict is a file name that another image or label already has, such as that of id "a.b" with ".nrrd" and of id "a"
	// with ".b.nrrd".
	ErrConflict = errors.New("file name is taken")
	// ErrReadOnly is a change to a store that was opened for reading.
	ErrReadOnly = errors.New("datastore is read-only")
	// ErrTooLarge is a file beyond the store's limit.
	ErrTooLarge = errors.New("file is too large")
	// ErrUnavailable is a store whose data lie elsewhere, in a place that cannot be reached, or does not let us in, now.
	ErrUnavailable = errors.New("the images' archive cannot be used now")
	// ErrUndelivered is a label that is stored, but that the place to which it was to be handed on has not taken.
	ErrUndelivered = errors.New("label was not delivered")
)

// Store keeps images and labels. All methods are safe for concurrent use. What one call has changed every later call sees, in
// the same process at once and in another process on the same data with its next call. A change that fails or is cut off by ctx
// leaves everything as it was. After a crash every file is whole, the old one or the new one, and the index can be read; a new file
// may have the info of its predecessor. Items are in the order in which images came in unless a method says otherwise.
//
// An unknown image or label is an error that wraps fs.ErrNotExist. An id or tag that cannot be one is an error that wraps
// ErrInvalid, whichever the method. Any other error is one of the classes above or a failure of the storage itself, which may be
// gone at the next try.
type Store interface {
	// Name and Description are the dataset's, for people.
	Name(ctx context.Context) (string, error)
	Description(ctx context.Context) (string, error)
	// Stats counts images, those with a final label, and labels by tag.
	Stats(ctx context.Context) (Stats, error)
	// Document is the whole index in the layout of MONAI Label's datastore_v2.json. It may be changed by the caller, but not
	// the objects and lists inside it.
	Document(ctx context.Context) (*api.Object, error)

	// Images lists all images.
	Images(ctx context.Context) ([]Item, error)
	// Unlabelled lists the images without a label under the tag final, in order of ids.
	Unlabelled(ctx context.Context) ([]Item, error)
	// Labelled lists the images with a label under the tag final, with that label, in order of ids: what can be trained on.
	Labelled(ctx context.Context) ([]Pair, error)

	// Image finds an image.
	Image(ctx context.Context, id string) (Item, error)
	// Label finds the label of an image under a tag.
	Label(ctx context.Context, id, tag string) (Item, error)
	// Tags lists the tags under which an image has labels.
	Tags(ctx context.Context, id string) ([]string, error)

	// PutImage stores what r yields as an image, over the file and info that were there. Its labels stay. ext is the extension
	// of the client's file name. The info gets the members ts (Unix seconds) and name (of the file); the caller's object is
	// not changed.
	PutImage(ctx context.Context, id, ext string, r io.Reader, info *api.Object) error
	// PutLabel stores what r yields as the label of a known image under a tag, over what was there. ext and info as in PutImage.
	PutLabel(ctx context.Context, id, tag, ext string, r io.Reader, info *api.Object) error
	// DeleteImage removes an image with its labels of all tags.
	DeleteImage(ctx context.Context, id string) error
	// DeleteLabel removes one label.
	DeleteLabel(ctx context.Context, id, tag string) error
	// UpdateImageInfo and UpdateLabelInfo set members of an info. Other members stay; a nested object is replaced as a whole.
	UpdateImageInfo(ctx context.Context, id string, info *api.Object) error
	UpdateLabelInfo(ctx context.Context, id, tag string, info *api.Object) error

	// Checksum is the hash of an image's file in lower-case hexadecimal digits. It is remembered until size or modification
	// time of the file change, so that asking again costs nothing.
	Checksum(ctx context.Context, id string, kind Hash) (string, error)

	// Close ends the store; other calls fail afterwards. Files that were opened stay open.
	Close() error
}

// Stats are the counts of a store.
type Stats struct {
	Total, Completed int
	// Tags are the tags in use, in the order in which the index has them.
	Tags []TagCount
}

// TagCount is the number of labels under one tag.
type TagCount struct {
	Tag   string
	Count int
}

// StatsOf counts images and their labels, given the tags under which an image has some. Tags are in the order in which they come.
func StatsOf(ids []string, tags func(id string) []string) Stats {
	stats := Stats{Total: len(ids)}
	at := map[string]int{}
	for _, id := range ids {
		for _, tag := range tags(id) {
			i, known := at[tag]
			if !known {
				i = len(stats.Tags)
				at[tag] = i
				stats.Tags = append(stats.Tags, TagCount{Tag: tag})
			}
			stats.Tags[i].Count++
			if tag == TagFinal {
				stats.Completed++
			}
		}
	}
	return stats
}

// Item is an image or a label as it was when it was asked for.
type Item struct {
	// ID is the image's id, for a label too.
	ID string
	// Path is the absolute path, which answers tell clients on the same machine. Open is the way to read the file: it does not
	// follow links out of the store.
	Path string
	// Ext is the extension with its first dot, such as ".nii.gz".
	Ext string
	// Info is what is known of it: the caller's own object, whose nested objects and lists are not to be changed.
	Info *api.Object
	// Open opens the file for reading; Stat of the file gives size and modification time. It may be called several times, and may
	// have to wait for the file to be fetched: no longer than the context of the call that gave the item. When the file has gone
	// since, the error wraps fs.ErrNotExist.
	Open func() (*os.File, error)
	// Series gives the DICOM files that an image is made of: their names in a folder. It is nil for images of other formats and for
	// labels. The file of Open is then the volume they make, in NIfTI, as MONAI Label converts series.
	Series func(ctx context.Context) (folder fs.FS, names []string, err error)
}

// Pair is an image with its label.
type Pair struct {
	Image, Label Item
}

// maxNameBytes is what file systems allow one element of a path.
const maxNameBytes = 255

// CheckID checks that an id can name a file in every store: not empty, UTF-8, one element of a path on Unix and Windows alike
// (no slash, no backslash, neither "." nor "..", no device such as NUL), no control characters, and no dot in front, which marks hidden and temporary
// files. The error wraps ErrInvalid.
func CheckID(id string) error { return checkName("image id", id) }

// CheckTag checks that a tag can name a folder, by the rules for ids.
func CheckTag(tag string) error { return checkName("label tag", tag) }

// CheckExt checks that an extension can end a file name: a dot and something after it, by the rules for ids, or nothing at all.
func CheckExt(ext string) error {
	if ext == "" {
		return nil
	}
	if ext[0] != '.' || len(ext) == 1 {
		return fmt.Errorf("extension %q is none, want one such as .nii.gz: %w", ext, ErrInvalid)
	}
	return checkName("extension", "x"+ext)
}

// isDevice reports whether Windows takes a name for a device's, with whatever extension.
func isDevice(name string) bool {
	stem, _, _ := strings.Cut(name, ".")
	stem = strings.ToUpper(strings.TrimRight(stem, " "))
	switch stem {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$":
		return true
	}
	return len(stem) == 4 && (strings.HasPrefix(stem, "COM") || strings.HasPrefix(stem, "LPT")) && stem[3] >= '0' && stem[3] <= '9'
}

func checkName(what, name string) error {
	problem := ""
	switch {
	case name == "":
		problem = "is empty"
	case len(name) > maxNameBytes:
		problem = fmt.Sprintf("has %d bytes, want at most %d", len(name), maxNameBytes)
	case !utf8.ValidString(name):
		problem = "is not UTF-8"
	case name[0] == '.':
		problem = "begins with a dot"
	case strings.ContainsAny(name, `/\`):
		problem = "holds a path separator, want a plain name"
	case strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		problem = "holds a control character"
	case isDevice(name):
		problem = "is the name of a device on Windows"
	default:
		return nil
	}
	return fmt.Errorf("%s %.80q %s: %w", what, name, problem, ErrInvalid)
}
