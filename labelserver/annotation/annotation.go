// Package annotation is what the labelling server does for an annotator: it keeps the state that an image's strokes and the
// weights learned from them make up, and answers each interaction with a label map on the image's own grid.
//
// This file holds the contract between the HTTP side, which decodes requests and encodes replies, and the service behind it.
// Nothing here knows HTTP.
package annotation

import (
	"context"
	"slices"

	"scrawl/adapters/volume"
	"scrawl/labelserver/api"
)

// Service answers interactions. All methods are safe for concurrent use. Models must return at once whatever inference runs,
// since GET /info/ depends on nothing else.
type Service interface {
	// Models describes what can be asked, in the order in which clients shall offer it: the first is their default.
	Models() []Model
	// Infer answers one interaction. It returns when ctx ends, without a trace of the interrupted run. Errors wrap a Kind; one
	// that wraps none is internal.
	Infer(ctx context.Context, req *Request) (*Reply, error)
	// Forget erases everything known of an image: strokes, masks, snapshots, caches. It is called when the image is deleted or
	// its file replaced. An unknown image is no error.
	Forget(ctx context.Context, image ImageKey) error
	// Submitted tells that a label was stored for an image by a user, with the info the client sent along.
	Submitted(ctx context.Context, s Submission) error
}

// Kind classifies an error for the caller. Wrap one with %w and say what is wrong and what would be right:
//
//	fmt.Errorf("model %q: %w; there are %s", name, annotation.NotFound, names)
//
// The set is closed; an error that wraps none of them is internal.
type Kind string

// The kinds of errors a caller can do something about.
const (
	NotFound    Kind = "not found"               // no such model, image or session
	Invalid     Kind = "invalid request"         // the request cannot be meant as it stands: label map of another size, unknown option
	Busy        Kind = "too many requests queue" // the queue before the device is full: ask again later
	Unavailable Kind = "not available"           // the model cannot be run here: no library, no memory, no device
)

// Error implements error.
func (k Kind) Error() string { return string(k) }

// Segment is a label by name with the number that stands for it in a label map. The name is the identity, the number is
// transport.
type Segment struct {
	Name string
	// ID is 0 to 65535, or -1 where a client sent something else.
	ID int
}

// Model describes one entry of /info/'s models.
type Model struct {
	Name string
	// Type is MONAI Label's: segmentation, deepgrow, deepedit, scribbles, detection, ….
	Type string
	// Labels are the model's segments, numbered 1..N without gaps and without background: clients number by position.
	Labels []Segment
	// Dimension is 2 when an answer is about one slice, 3 otherwise.
	Dimension   int
	Description string
	// Config holds the options clients offer and send back as params: bools, numbers (floats as Go floats), strings and
	// non-empty lists of strings, whose first is the default. May be nil.
	Config *api.Object
}

// Source says where an image came from, and so what state may be kept for it.
type Source uint8

// Where images come from.
const (
	Stored   Source = iota // in the datastore
	Session                // uploaded with PUT /session/
	Uploaded               // sent along with this request alone
)

// ImageKey names an image: the id is the datastore's, the session's, or for an upload the SHA-256 of its bytes.
type ImageKey struct {
	Source Source
	ID     string
}

// Image is the image of a request, not yet read.
type Image struct {
	Key ImageKey
	// Ext is the file's extension with its dot, such as ".nii.gz"; answers default to it.
	Ext string
	// Version changes whenever the file behind the key may have changed (size and modification time, or the content's hash), so
	// a cache of decoded volumes may be keyed by (Key, Version) without reading the file.
	Version string
	// Open decodes the image. Repeated calls within one request return the same Volume, which is not to be changed. Errors wrap
	// NotFound or Invalid where they apply.
	Open func(ctx context.Context) (*volume.Volume, error)
}

// Click is a point as integer voxel indices (i, j, k) of the image as stored. It may lie outside the volume.
type Click [3]int

// Box is a half-open box of voxels: Min is inside, Max is not. Min ≤ Max holds on every axis.
type Box struct {
	Min, Max [3]int
}

// NewBox makes a box of a client's roi [i0,i1,j0,j1,k0,k1]. Each pair is sorted: Slicer derives it from the corners of a box in
// RAS, where two of the voxel axes usually run the other way.
func NewBox(roi [6]int) Box {
	var b Box
	for a := range 3 {
		b.Min[a], b.Max[a] = min(roi[2*a], roi[2*a+1]), max(roi[2*a], roi[2*a+1])
	}
	return b
}

// Clip returns the part of the box inside a volume of that size and whether any voxel is left.
func (b Box) Clip(size [3]int) (Box, bool) {
	ok := true
	for a := range 3 {
		b.Min[a] = min(max(b.Min[a], 0), size[a])
		b.Max[a] = min(max(b.Max[a], 0), size[a])
		ok = ok && b.Min[a] < b.Max[a]
	}
	return b, ok
}

// LabelClicks are the clicks for one label, as clients of deepedit models send them: one parameter per label name.
type LabelClicks struct {
	Name   string
	Clicks []Click
}

// Request is one interaction: the whole current set of what the user drew, not what is new about it.
type Request struct {
	// ID is the HTTP request's, for logs.
	ID    string
	Model string
	Image Image
	// Label is the uploaded mask or nil. Files carry their own grid, which the service compares with the image's; raw .bin masks
	// were decoded on the image's grid.
	Label *volume.LabelMap
	// LabelInfo says what the numbers in Label mean, in the client's order. Scribbles are found by the names
	// background_scribbles and foreground_scribbles. Empty when the client sent none.
	LabelInfo []Segment
	// Foreground and Background are a deepgrow client's clicks, LabelClicks a deepedit client's.
	Foreground, Background []Click
	LabelClicks            []LabelClicks
	// ROI limits the answer, nil when the client sent none. It may reach outside the volume.
	ROI *Box
	// ClientID is the client's name for its user, "" if it sent none.
	ClientID string
	// LabelName is the segment being drawn: selected_label_name (scribbles) or label (clicks), "" if unknown.
	LabelName string
	// SessionID is the uploaded session's id when the image comes from one.
	SessionID string
	// Params are all parameters as they came, for the model's own options.
	Params *api.Object
	// Progress is told how far the request is: of each stage as it begins, and of how many of total slices it has done; total is 0
	// where it is not known. Nil for nobody. It must return at once.
	Progress func(stage string, done, total int)
}

// Reply is the answer to one interaction.
type Reply struct {
	// Label is the answer on the image's own grid, of full size even if empty. Nil only for models whose answer is all in
	// Params.
	Label *volume.LabelMap
	// LabelNames says what the numbers in Label mean, in ascending order of the numbers.
	LabelNames []Segment
	// Params are the other results: latencies and what the model has to tell. label_names is added by the caller. May be nil.
	Params *api.Object
}

// Result is the answer's params as clients and stored labels have them, with those that every model of the protocol sends.
func (r *Reply) Result() *api.Object {
	params := api.NewObject("label_names", LabelObject(r.LabelNames))
	params.Merge(r.Params)
	for _, name := range []string{"latencies", "centroids"} {
		if !params.Has(name) {
			params.Set(name, &api.Object{})
		}
	}
	return params
}

// LabelObject writes segments as name → number, in ascending order of the numbers: Slicer assigns some by position.
func LabelObject(segments []Segment) *api.Object {
	o := &api.Object{}
	for _, s := range slices.SortedStableFunc(slices.Values(segments), func(a, b Segment) int { return a.ID - b.ID }) {
		o.Set(s.Name, s.ID)
	}
	return o
}

// Submission is a label stored by a user.
type Submission struct {
	Image ImageKey
	// Tag is "final" for a finished label.
	Tag string
	// ClientID is that of the requests that made the label.
	ClientID string
	// Info is what the client sent along, such as label_info and model.
	Info *api.Object
	// Open decodes the stored label map.
	Open func(ctx context.Context) (*volume.LabelMap, error)
}
