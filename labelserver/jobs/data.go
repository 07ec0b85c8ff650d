package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// Codec reads and writes the files of a datastore. The format follows from the extension of the name.
type Codec interface {
	Decode(name string, r io.Reader) (*volume.Volume, error)
	DecodeLabels(name string, r io.Reader) (*volume.LabelMap, error)
	EncodeLabels(name string, w io.Writer, m *volume.LabelMap, dtype string, compress bool) error
	Writable(ext string) bool
}

// Data is what tasks work on.
type Data struct {
	Store datastore.Store
	Codec Codec

	checksums datastore.Checksums
}

func (d *Data) image(ctx context.Context, item datastore.Item) (*volume.Volume, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := item.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	v, err := d.Codec.Decode("image"+item.Ext, f)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return v, nil
}

// labels decodes a label. A raw mask lies on the grid of its image.
func (d *Data) labels(ctx context.Context, item datastore.Item, grid func() (volume.Geometry, error)) (*volume.LabelMap, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := item.Open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	if item.Ext == ".bin" {
		g, err := grid()
		if err != nil {
			return nil, err
		}
		return format.DecodeBin(f, g)
	}
	m, err := d.Codec.DecodeLabels("label"+item.Ext, f)
	if err != nil {
		return nil, fmt.Errorf("label: %w", err)
	}
	return m, nil
}

// labelOf decodes an image's label under a tag.
func (d *Data) labelOf(ctx context.Context, id, tag string) (*volume.LabelMap, datastore.Item, error) {
	item, err := d.Store.Label(ctx, id, tag)
	if err != nil {
		return nil, item, err
	}
	m, err := d.labels(ctx, item, func() (volume.Geometry, error) {
		image, err := d.Store.Image(ctx, id)
		if err != nil {
			return volume.Geometry{}, err
		}
		v, err := d.image(ctx, image)
		if err != nil {
			return volume.Geometry{}, err
		}
		return v.Geometry, nil
	})
	return m, item, err
}

// namesOf tells what the numbers in a label map mean: by the info that came with it, or by the model's own numbering, from 1 on. Numbers
// of which nothing is known are called by themselves.
//
// Clients count the segments of label_info in ways of their own: Slicer's idx counts among all segments, also those that it has left
// out of the file. So when the file holds exactly the numbers 1 … N and there are N entries, these are taken in order.
func namesOf(info *api.Object, model []string, labels []uint16) map[uint16]string {
	present := numbersIn(labels)
	named := map[uint16]string{}
	entries := labelInfo(info)
	inOrder := len(entries) == len(present) && (len(present) == 0 || present[len(present)-1] == uint16(len(present)))
	for i, e := range entries {
		if inOrder {
			e.ID = i + 1
		}
		if e.ID > 0 && e.ID <= math.MaxUint16 {
			named[uint16(e.ID)] = e.Name
		}
	}
	for _, n := range present {
		switch {
		case named[n] != "":
		case len(entries) == 0 && int(n) <= len(model):
			named[n] = model[n-1]
		default:
			named[n] = fmt.Sprintf("label_%d", n)
		}
	}
	return named
}

// numbersIn lists the numbers of a label map but 0, in order.
func numbersIn(labels []uint16) []uint16 {
	seen := make([]bool, math.MaxUint16+1)
	for _, l := range labels {
		seen[l] = true
	}
	var all []uint16
	for n, there := range seen {
		if n > 0 && there {
			all = append(all, uint16(n))
		}
	}
	return all
}

// labelInfo reads what a client or a model said of a label's numbers: label_info as a list of objects, or the label_names of a model's
// answer.
func labelInfo(info *api.Object) []annotation.Segment {
	var all []annotation.Segment
	v, _ := info.Get("label_info")
	list, _ := v.([]any)
	for _, item := range list {
		o, _ := item.(*api.Object)
		name, ok := o.Text("name")
		if !ok || name == "" {
			continue
		}
		all = append(all, annotation.Segment{Name: name, ID: numberOf(o)})
	}
	if len(all) > 0 {
		return all
	}
	params, _ := info.Object("params")
	names, _ := params.Object("label_names")
	for name := range names.All() {
		if n, ok := names.Number(name); ok {
			all = append(all, annotation.Segment{Name: name, ID: int(n)})
		}
	}
	slices.SortStableFunc(all, func(a, b annotation.Segment) int { return a.ID - b.ID })
	return all
}

// numberOf finds an entry's number under the names that clients use.
func numberOf(o *api.Object) int {
	for _, key := range []string{"idx", "labelID", "label", "id"} {
		if n, ok := o.Number(key); ok && n == math.Trunc(n) && math.Abs(n) < 1<<31 {
			return int(n)
		}
	}
	return -1
}

// byName turns a map from numbers to names around; of two numbers with one name the smaller counts.
func byName(names map[uint16]string) map[string]uint16 {
	numbers := map[string]uint16{}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if _, taken := numbers[names[n]]; !taken {
			numbers[names[n]] = n
		}
	}
	return numbers
}

// option reads parameters of a request. The first that is wrong is remembered.
type option struct {
	params *api.Object
	err    error
}

func (o *option) refuse(name string, got any, want string) {
	if o.err == nil {
		text, err := api.Encode(got)
		if err != nil || len(text) > 80 {
			text = fmt.Appendf(nil, "%.80s…", text)
		}
		o.err = fmt.Errorf("%s is %s: %s is wanted: %w", name, text, want, annotation.Invalid)
	}
}

// number reads a number between bounds, both included. Clients send an option's whole list, or its text, as well.
func (o *option) number(name string, def, low, high float64, want string) float64 {
	v, there := first(o.params, name)
	if !there {
		return def
	}
	n, ok := api.NewObject("n", v).Number("n")
	if !ok || !(n >= low && n <= high) {
		o.refuse(name, v, want)
		return def
	}
	return n
}

// whole is number for whole numbers.
func (o *option) whole(name string, def, low, high int, want string) int {
	n := o.number(name, float64(def), float64(low), float64(high), want)
	if n != math.Trunc(n) {
		v, _ := first(o.params, name)
		o.refuse(name, v, want)
		return def
	}
	return int(n)
}

func (o *option) flag(name string, def bool) bool {
	v, there := first(o.params, name)
	if !there {
		return def
	}
	b, ok := api.NewObject("b", v).Bool("b")
	if !ok {
		o.refuse(name, v, "true or false")
		return def
	}
	return b
}

// text reads a short text; "" and null stand for what was not given.
func (o *option) text(name, def string) string {
	v, there := first(o.params, name)
	if !there || v == "" {
		return def
	}
	s, ok := v.(string)
	if !ok || len(s) > maxText {
		o.refuse(name, v, fmt.Sprintf("text of at most %d bytes", maxText))
		return def
	}
	return s
}

// maxText bounds names in requests.
const maxText = 1000

// first returns a member; of a list, as clients send for options they have not touched, its first item.
func first(params *api.Object, name string) (any, bool) {
	v, there := params.Get(name)
	switch list := v.(type) {
	case []any:
		if len(list) == 0 {
			return nil, false
		}
		v = list[0]
	case json.Number:
		return v, true
	}
	return v, there && v != nil
}

// invalid is an error of the one who asked.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), annotation.Invalid)
}
