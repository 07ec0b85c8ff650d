package localstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// maxIndexBytes bounds datastore_v2.json: a million images with their infos fit.
const maxIndexBytes = 512 << 20

// maxEntryBytes bounds one image's part of it, as compact text: what one JSON value may take that is read at once.
const maxEntryBytes = 15 << 20

// The members of datastore_v2.json that mean something here, in the incumbent's order.
const (
	keyName        = "name"
	keyDescription = "description"
	keyImagesDir   = "images_dir"
	keyLabelsDir   = "labels_dir"
	keyObjects     = "objects"

	keyImage  = "image"
	keyLabels = "labels"
	keyExt    = "ext"
	keyInfo   = "info"
)

// index is datastore_v2.json in memory. An index in use is never changed: a change makes a clone, so that readers need no lock
// and a change that fails leaves nothing behind. Members nobody knows are kept where they are, on every level.
type index struct {
	head    *api.Object // all members; that of objects only holds the place
	order   []string    // ids
	entries map[string]entry
}

// entry is one image with its labels as the index has it: {"image":{"ext","info"},"labels":{TAG:{"ext","info"}}}. The object is
// never changed.
type entry struct{ doc *api.Object }

// newIndex is the index of a folder that has none.
func newIndex() *index {
	return &index{
		head: api.NewObject(keyName, "new-dataset", keyDescription, "New Dataset", keyImagesDir, ".", keyLabelsDir, "labels",
			keyObjects, nil),
		entries: map[string]entry{},
	}
}

func (x *index) clone() *index {
	return &index{head: x.head, order: slices.Clone(x.order), entries: maps.Clone(x.entries)}
}

func (x *index) text(key string) string {
	v, _ := x.head.Get(key)
	s, _ := v.(string)
	return s
}

// imagesDir and labelsDir are relative to the store's folder.
func (x *index) imagesDir() string { return filepath.FromSlash(x.text(keyImagesDir)) }

func (x *index) labelsDir(tag string) string {
	return filepath.Join(filepath.FromSlash(x.text(keyLabelsDir)), tag)
}

func (x *index) set(id string, e entry) {
	if _, known := x.entries[id]; !known {
		x.order = append(x.order, id)
	}
	x.entries[id] = e
}

func (x *index) remove(id string) {
	if _, known := x.entries[id]; !known {
		return
	}
	delete(x.entries, id)
	x.order = slices.DeleteFunc(x.order, func(o string) bool { return o == id })
}

// imageFile returns the id of the image that has a file name.
func (x *index) imageFile(name string) (id string, ok bool) {
	for id, e := range x.entries {
		if ext, _ := e.image(); fileName(id, ext) == name {
			return id, true
		}
	}
	return "", false
}

// labelFile returns the id of the label that has a file name under a tag.
func (x *index) labelFile(tag, name string) (id string, ok bool) {
	for id, e := range x.entries {
		if ext, _, found := e.label(tag); found && fileName(id, ext) == name {
			return id, true
		}
	}
	return "", false
}

func fileName(id, ext string) string { return id + ext }

// document is the whole index as one object.
func (x *index) document() *api.Object {
	objects := &api.Object{}
	for _, id := range x.order {
		objects.Set(id, x.entries[id].doc)
	}
	doc := x.head.Clone()
	doc.Set(keyObjects, objects)
	return doc
}

// encode writes the index byte for byte as the incumbent does: Python's json.dumps with an indent of 2.
func (x *index) encode() ([]byte, error) {
	compact, err := api.EncodePython(x.document())
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", "  "); err != nil {
		return nil, err
	}
	if b.Len() > maxIndexBytes {
		return nil, fmt.Errorf("index of %d bytes, want at most %d: %w", b.Len(), maxIndexBytes, datastore.ErrTooLarge)
	}
	return b.Bytes(), nil
}

// image returns the extension and info of the image.
func (e entry) image() (ext string, info *api.Object) {
	image, _ := e.doc.Object(keyImage)
	return fileOf(image)
}

// label returns the extension and info of the label under a tag.
func (e entry) label(tag string) (ext string, info *api.Object, ok bool) {
	labels, _ := e.doc.Object(keyLabels)
	label, ok := labels.Object(tag)
	ext, info = fileOf(label)
	return ext, info, ok
}

func fileOf(o *api.Object) (ext string, info *api.Object) {
	v, _ := o.Get(keyExt)
	ext, _ = v.(string)
	info, _ = o.Object(keyInfo)
	return ext, info
}

func (e entry) tags() []string {
	labels, _ := e.doc.Object(keyLabels)
	return labels.Names()
}

// withImage returns the entry with another image file and info. The zero entry gives a new one.
func (e entry) withImage(ext string, info *api.Object) entry {
	doc := e.doc.Clone()
	image, _ := doc.Object(keyImage)
	doc.Set(keyImage, withFile(image, ext, info))
	if !doc.Has(keyLabels) {
		doc.Set(keyLabels, &api.Object{})
	}
	return entry{doc}
}

func (e entry) withLabel(tag, ext string, info *api.Object) entry {
	doc := e.doc.Clone()
	labels, _ := doc.Object(keyLabels)
	labels = labels.Clone()
	label, _ := labels.Object(tag)
	labels.Set(tag, withFile(label, ext, info))
	doc.Set(keyLabels, labels)
	return entry{doc}
}

func (e entry) withoutLabel(tag string) entry {
	doc := e.doc.Clone()
	labels, _ := doc.Object(keyLabels)
	labels = labels.Clone()
	labels.Delete(tag)
	doc.Set(keyLabels, labels)
	return entry{doc}
}

func withFile(o *api.Object, ext string, info *api.Object) *api.Object {
	o = o.Clone()
	o.Set(keyExt, ext)
	o.Set(keyInfo, info)
	return o
}

// sealed returns the entry as it will be read back, so that the index shares nothing with the caller who made its info, and
// refuses what could be written but not be read again: nested too deep, too long, not a number.
func (e entry) sealed() (entry, error) {
	text, err := api.EncodePython(e.doc)
	if err != nil {
		return entry{}, fmt.Errorf("info cannot be stored: %w: %w", datastore.ErrInvalid, err)
	}
	if len(text) > maxEntryBytes {
		return entry{}, fmt.Errorf("infos of an image and its labels have %d bytes, want at most %d: %w", len(text), maxEntryBytes, datastore.ErrInvalid)
	}
	v, err := readAny(json.NewDecoder(bytes.NewReader(text)))
	if err != nil {
		return entry{}, fmt.Errorf("info cannot be stored: %w: %w", datastore.ErrInvalid, err)
	}
	doc, _ := v.(*api.Object)
	return entry{doc}, nil
}

// decodeIndex reads datastore_v2.json.
func decodeIndex(text []byte) (*index, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("text is not UTF-8")
	}
	x := &index{head: &api.Object{}, entries: map[string]entry{}}
	dec := json.NewDecoder(bytes.NewReader(withoutNaN(text)))
	err := eachMember(dec, func(name string) error {
		if name == keyObjects {
			x.head.Set(name, nil)
			return eachMember(dec, func(id string) error { return x.readEntry(dec, id) })
		}
		v, err := readAny(dec)
		x.head.Set(name, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("text follows the index at byte %d", dec.InputOffset())
	}
	return x, x.complete()
}

// complete adds members that a hand-made index may lack and checks those there are.
func (x *index) complete() error {
	for name, value := range newIndex().head.All() {
		v, known := x.head.Get(name)
		if !known {
			x.head.Set(name, value)
			continue
		}
		if _, text := v.(string); !text && name != keyObjects {
			return fmt.Errorf("member %q is not a string", name)
		}
	}
	for _, key := range []string{keyImagesDir, keyLabelsDir} {
		if dir := x.text(key); dir == "" && key == keyImagesDir {
			x.head.Set(key, ".") // as the incumbent reads it
		} else if !filepath.IsLocal(filepath.FromSlash(dir)) || strings.Contains(dir, `\`) {
			return fmt.Errorf("%s is %q, want a folder inside the store's, such as %q", key, dir, newIndex().text(key))
		}
	}
	return nil
}

func (x *index) readEntry(dec *json.Decoder, id string) error {
	v, err := readAny(dec)
	if err != nil {
		return fmt.Errorf("object %q: %w", id, err)
	}
	doc, ok := v.(*api.Object)
	if !ok {
		return fmt.Errorf("object %q is not an object", id)
	}
	if err := completeEntry(doc); err != nil {
		return fmt.Errorf("object %q: %w", id, err)
	}
	x.set(id, entry{doc})
	return nil
}

func completeEntry(doc *api.Object) error {
	image, ok := doc.Object(keyImage)
	if !ok {
		return fmt.Errorf("member %q is missing or not an object", keyImage)
	}
	if err := completeFile(image); err != nil {
		return fmt.Errorf("%s: %w", keyImage, err)
	}
	if !doc.Has(keyLabels) {
		doc.Set(keyLabels, &api.Object{})
	}
	labels, ok := doc.Object(keyLabels)
	if !ok {
		return fmt.Errorf("member %q is not an object", keyLabels)
	}
	for tag, v := range labels.All() {
		label, ok := v.(*api.Object)
		if !ok {
			return fmt.Errorf("label %q is not an object", tag)
		}
		if err := completeFile(label); err != nil {
			return fmt.Errorf("label %q: %w", tag, err)
		}
	}
	return nil
}

func completeFile(o *api.Object) error {
	if !o.Has(keyExt) {
		o.Set(keyExt, "")
	}
	if v, _ := o.Get(keyExt); !isString(v) {
		return fmt.Errorf("member %q is not a string", keyExt)
	}
	if !o.Has(keyInfo) {
		o.Set(keyInfo, &api.Object{})
	}
	if _, ok := o.Object(keyInfo); !ok {
		return fmt.Errorf("member %q is not an object", keyInfo)
	}
	return nil
}

func isString(v any) bool {
	_, ok := v.(string)
	return ok
}

// eachMember reads an object and calls f with each name; f reads the value.
func eachMember(dec *json.Decoder, f func(name string) error) error {
	t, err := dec.Token()
	if err != nil {
		return brokenJSON(dec, err)
	}
	if t != json.Delim('{') {
		return fmt.Errorf("value before byte %d is not an object", dec.InputOffset())
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return brokenJSON(dec, err)
		}
		name, ok := t.(string)
		if !ok {
			return fmt.Errorf("member name before byte %d is not a string", dec.InputOffset())
		}
		if err := f(name); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return brokenJSON(dec, err)
	}
	return nil
}

// readAny reads one value. Values are read one by one, since a whole index may be larger than any JSON a client may send.
func readAny(dec *json.Decoder) (any, error) {
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return nil, brokenJSON(dec, err)
	}
	b := bytes.NewBufferString(`{"v":`)
	if err := json.Compact(b, raw); err != nil {
		return nil, brokenJSON(dec, err)
	}
	b.WriteByte('}')
	o, err := api.DecodeObject(b.Bytes())
	if err != nil {
		return nil, err
	}
	v, _ := o.Get("v")
	return v, nil
}

func brokenJSON(dec *json.Decoder, err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("broken JSON near byte %d: %w", dec.InputOffset(), err)
}

// withoutNaN replaces NaN and ±Infinity by null outside of strings. Python writes them, for scores that could not be computed,
// though JSON has no such values.
func withoutNaN(text []byte) []byte {
	if !bytes.Contains(text, []byte("NaN")) && !bytes.Contains(text, []byte("Infinity")) {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		n := tokenBytes(text[i:])
		token := text[i : i+n]
		if n > 1 && token[0] != '"' {
			token = []byte("null")
		}
		out = append(out, token...)
		i += n
	}
	return out
}

// tokenBytes is the length of the string or of the non-finite number that text begins with, 1 for anything else.
func tokenBytes(text []byte) int {
	if text[0] == '"' {
		for i := 1; i < len(text); i++ {
			switch text[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
		return len(text)
	}
	for _, word := range []string{"NaN", "Infinity", "-Infinity"} {
		if bytes.HasPrefix(text, []byte(word)) {
			return len(word)
		}
	}
	return 1
}
