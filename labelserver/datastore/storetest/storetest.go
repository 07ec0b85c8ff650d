// Package storetest checks an implementation of datastore.Store against its contract. An implementation's own test is
//
//	func TestStore(t *testing.T) { storetest.Run(t, func(t *testing.T) datastore.Store { … }) }
package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// Open returns a new empty store that takes files of at least 1 MiB. The suite closes it.
type Open func(t *testing.T) datastore.Store

// Run runs the suite. Each part gets a store of its own.
func Run(t *testing.T, open Open) {
	t.Helper()
	parts := []struct {
		name string
		test func(t *testing.T, s *suite)
	}{
		{"empty", testEmpty},
		{"round trip", testRoundTrip},
		{"info", testInfo},
		{"order", testOrder},
		{"replace", testReplace},
		{"delete", testDelete},
		{"names", testNames},
		{"bad names", testBadNames},
		{"unknown", testUnknown},
		{"infos that cannot be stored", testBadInfo},
		{"failed uploads", testFailedUploads},
		{"extensions", testExtensions},
		{"file names that clash", testConflicts},
		{"checksums", testChecksums},
		{"isolation", testIsolation},
		{"concurrency", testConcurrency},
		{"closed", testClosed},
	}
	for _, part := range parts {
		t.Run(part.name, func(t *testing.T) {
			store := open(t)
			t.Cleanup(func() {
				if err := store.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			part.test(t, &suite{t, store})
		})
	}
}

// suite is one store under test with calls that must succeed.
type suite struct {
	t *testing.T
	datastore.Store
}

func (s *suite) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *suite) put(id, content string) {
	s.t.Helper()
	s.must(s.PutImage(s.t.Context(), id, ".nii.gz", strings.NewReader(content), nil))
}

func (s *suite) label(id, tag, content string) {
	s.t.Helper()
	s.must(s.PutLabel(s.t.Context(), id, tag, ".nii.gz", strings.NewReader(content), nil))
}

func (s *suite) image(id string) datastore.Item {
	s.t.Helper()
	item, err := s.Image(s.t.Context(), id)
	s.must(err)
	return item
}

func (s *suite) read(item datastore.Item, err error) string {
	s.t.Helper()
	s.must(err)
	f, err := item.Open()
	s.must(err)
	defer func() { _ = f.Close() }() // only read
	content, err := io.ReadAll(f)
	s.must(err)
	return string(content)
}

func (s *suite) fails(err, want error) {
	s.t.Helper()
	if !errors.Is(err, want) {
		s.t.Errorf("error is %v, want one that wraps %v", err, want)
	}
}

func (s *suite) same(want, got any) {
	s.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("(-want +got)\n%s", diff)
	}
}

// json is the compact text of an object whose ts members, which depend on the clock, have been replaced by 0.
func (s *suite) json(o *api.Object) string {
	s.t.Helper()
	text, err := api.Encode(withoutTime(o))
	s.must(err)
	return string(text)
}

func withoutTime(o *api.Object) *api.Object {
	c := &api.Object{}
	for name, value := range o.All() {
		if child, ok := value.(*api.Object); ok {
			value = withoutTime(child)
		} else if name == "ts" {
			value = 0
		}
		c.Set(name, value)
	}
	return c
}

func ids(items []datastore.Item) []string {
	list := []string{}
	for _, item := range items {
		list = append(list, item.ID)
	}
	return list
}

func testEmpty(t *testing.T, s *suite) {
	ctx := t.Context()
	stats, err := s.Stats(ctx)
	s.must(err)
	s.same(datastore.Stats{}, stats)
	for _, list := range []func(context.Context) ([]datastore.Item, error){s.Images, s.Unlabelled} {
		items, err := list(ctx)
		s.must(err)
		s.same([]string{}, ids(items))
	}
	pairs, err := s.Labelled(ctx)
	s.must(err)
	s.same(0, len(pairs))
	name, err := s.Name(ctx)
	s.must(err)
	description, err := s.Description(ctx)
	s.must(err)
	doc, err := s.Document(ctx)
	s.must(err)
	s.same([]string{"name", "description", "images_dir", "labels_dir", "objects"}, doc.Names())
	s.same([]string{name, description}, []string{text(doc, "name"), text(doc, "description")})
	objects, ok := doc.Object("objects")
	s.same(true, ok)
	s.same(0, objects.Len())
}

func text(o *api.Object, name string) string {
	s, _ := o.Text(name)
	return s
}

func testRoundTrip(t *testing.T, s *suite) {
	ctx := t.Context()
	before := time.Now().Add(-time.Minute)
	s.must(s.PutImage(ctx, "case_0", ".nii.gz", strings.NewReader("voxels"), api.NewObject("client_id", "someone")))
	s.must(s.PutLabel(ctx, "case_0", "final", ".nii.gz", strings.NewReader("mask"), api.NewObject("model", "scribbles")))

	item := s.image("case_0")
	s.same("voxels", s.read(item, nil))
	s.same([]string{"case_0", ".nii.gz", "case_0.nii.gz"}, []string{item.ID, item.Ext, filepath.Base(item.Path)})
	s.same(true, filepath.IsAbs(item.Path))
	s.same(`{"client_id":"someone","ts":0,"name":"case_0.nii.gz"}`, s.json(item.Info))
	ts, _ := item.Info.Number("ts")
	if at := time.Unix(int64(ts), 0); at.Before(before) || at.After(time.Now().Add(time.Minute)) {
		t.Errorf("ts is %s, want about now", at)
	}
	f, err := item.Open()
	s.must(err)
	info, err := f.Stat()
	s.must(err)
	s.must(f.Close())
	s.same(int64(len("voxels")), info.Size())

	label, err := s.Label(ctx, "case_0", "final")
	s.same("mask", s.read(label, err))
	s.same(`{"model":"scribbles","ts":0,"name":"case_0.nii.gz"}`, s.json(label.Info))
	tags, err := s.Tags(ctx, "case_0")
	s.must(err)
	s.same([]string{"final"}, tags)
	doc, err := s.Document(ctx)
	s.must(err)
	objects, _ := doc.Object("objects")
	s.same(`{"case_0":{"image":{"ext":".nii.gz","info":{"client_id":"someone","ts":0,"name":"case_0.nii.gz"}},`+
		`"labels":{"final":{"ext":".nii.gz","info":{"model":"scribbles","ts":0,"name":"case_0.nii.gz"}}}}}`, s.json(objects))
}

func testInfo(t *testing.T, s *suite) {
	ctx := t.Context()
	s.put("a", "x")
	s.label("a", "v1", "y")
	given, err := api.DecodeObject([]byte(`{"z":1.0,"a":{"n":[1,{"é":null}],"b":true},"name":"mine"}`))
	s.must(err)
	s.must(s.UpdateImageInfo(ctx, "a", given))
	s.must(s.UpdateImageInfo(ctx, "a", api.NewObject("a", api.NewObject("only", 2))))
	s.same(`{"ts":0,"name":"mine","z":1.0,"a":{"only":2}}`, s.json(s.image("a").Info))
	s.must(s.UpdateLabelInfo(ctx, "a", "v1", given))
	label, err := s.Label(ctx, "a", "v1")
	s.must(err)
	s.same(`{"ts":0,"name":"mine","z":1.0,"a":{"n":[1,{"é":null}],"b":true}}`, s.json(label.Info))
	s.must(s.UpdateImageInfo(ctx, "a", nil))
}

func testOrder(t *testing.T, s *suite) {
	ctx := t.Context()
	for _, id := range []string{"c", "a", "b", "d"} {
		s.put(id, id)
	}
	s.label("b", "v1", "1")
	s.label("d", "final", "2")
	s.label("b", "final", "3")
	s.put("a", "again") // a known image keeps its place
	images, err := s.Images(ctx)
	s.must(err)
	s.same([]string{"c", "a", "b", "d"}, ids(images))
	unlabelled, err := s.Unlabelled(ctx)
	s.must(err)
	s.same([]string{"a", "c"}, ids(unlabelled))
	pairs, err := s.Labelled(ctx)
	s.must(err)
	var got []string
	for _, p := range pairs {
		got = append(got, p.Image.ID+s.read(p.Image, nil)+p.Label.ID+s.read(p.Label, nil))
	}
	s.same([]string{"bbb3", "ddd2"}, got)
	stats, err := s.Stats(ctx)
	s.must(err)
	s.same(datastore.Stats{Total: 4, Completed: 2, Tags: []datastore.TagCount{{Tag: "v1", Count: 1}, {Tag: "final", Count: 2}}}, stats)
}

func testReplace(t *testing.T, s *suite) {
	ctx := t.Context()
	s.put("a", "old")
	s.label("a", "final", "mask")
	held, err := s.image("a").Open()
	s.must(err)
	defer func() { _ = held.Close() }() // only read
	s.must(s.PutImage(ctx, "a", ".nrrd", strings.NewReader("new"), api.NewObject("k", 1)))
	s.same("new", s.read(s.Image(ctx, "a")))
	s.same(".nrrd", s.image("a").Ext)
	s.same(`{"k":1,"ts":0,"name":"a.nrrd"}`, s.json(s.image("a").Info))
	s.same("mask", s.read(s.Label(ctx, "a", "final"))) // labels outlive their image's file
	s.must(s.PutLabel(ctx, "a", "final", ".nrrd", strings.NewReader("mask 2"), nil))
	s.same("mask 2", s.read(s.Label(ctx, "a", "final")))
	content, err := io.ReadAll(held)
	s.must(err)
	s.same("old", string(content)) // a file that is open is not changed under its reader
}

func testDelete(t *testing.T, s *suite) {
	ctx := t.Context()
	s.put("a", "x")
	s.put("b", "x")
	s.label("a", "final", "1")
	s.label("a", "v1", "2")
	stale := s.image("a")
	s.must(s.DeleteLabel(ctx, "a", "v1"))
	_, err := s.Label(ctx, "a", "v1")
	s.fails(err, fs.ErrNotExist)
	s.fails(s.DeleteLabel(ctx, "a", "v1"), fs.ErrNotExist)
	s.must(s.DeleteImage(ctx, "a"))
	_, err = s.Image(ctx, "a")
	s.fails(err, fs.ErrNotExist)
	_, err = stale.Open()
	s.fails(err, fs.ErrNotExist)
	s.fails(s.DeleteImage(ctx, "a"), fs.ErrNotExist)
	s.put("a", "y") // and nothing of the old one comes back
	tags, err := s.Tags(ctx, "a")
	s.must(err)
	s.same(0, len(tags))
	images, err := s.Images(ctx)
	s.must(err)
	s.same([]string{"b", "a"}, ids(images))
}

func testNames(t *testing.T, s *suite) {
	ctx := t.Context()
	for _, id := range []string{"plain", "3 Thorax 1.0 B45f", "a+b&c=d", "Schädel µ 頭", "a.b.c", "100%", "(x) [y] {z}", "final", "x'y", "~", "-rf", "$HOME", "name with.nii"} {
		s.put(id, id)
		s.must(s.PutLabel(ctx, id, "tag of "+id, ".nrrd", strings.NewReader("label of "+id), nil))
		s.same(id, s.read(s.Image(ctx, id)))
		s.same("label of "+id, s.read(s.Label(ctx, id, "tag of "+id)))
	}
}

var badNames = []string{"", ".", "..", "../x", "a/b", `a\b`, `..\x`, "/etc/passwd", "a\x00b", "a\nb", "\x7f", ".hidden", "\xff", strings.Repeat("x", 300)}

func testBadNames(t *testing.T, s *suite) {
	ctx := t.Context()
	s.put("a", "x")
	for _, bad := range badNames {
		_, err := s.Image(ctx, bad)
		s.fails(err, datastore.ErrInvalid)
		_, err = s.Label(ctx, "a", bad)
		s.fails(err, datastore.ErrInvalid)
		_, err = s.Tags(ctx, bad)
		s.fails(err, datastore.ErrInvalid)
		_, err = s.Checksum(ctx, bad, datastore.SHA256)
		s.fails(err, datastore.ErrInvalid)
		s.fails(s.PutImage(ctx, bad, ".nii.gz", strings.NewReader("x"), nil), datastore.ErrInvalid)
		s.fails(s.PutLabel(ctx, "a", bad, ".nii.gz", strings.NewReader("x"), nil), datastore.ErrInvalid)
		s.fails(s.DeleteImage(ctx, bad), datastore.ErrInvalid)
		s.fails(s.DeleteLabel(ctx, "a", bad), datastore.ErrInvalid)
		s.fails(s.UpdateImageInfo(ctx, bad, nil), datastore.ErrInvalid)
		s.fails(s.UpdateLabelInfo(ctx, "a", bad, nil), datastore.ErrInvalid)
	}
	for _, bad := range []string{".", "nii", "./x", `.a\b`, ".a/../b", ".\n", strings.Repeat(".x", 200)} {
		s.fails(s.PutImage(ctx, "b", bad, strings.NewReader("x"), nil), datastore.ErrInvalid)
		s.fails(s.PutLabel(ctx, "a", "t", bad, strings.NewReader("x"), nil), datastore.ErrInvalid)
	}
	images, err := s.Images(ctx)
	s.must(err)
	s.same([]string{"a"}, ids(images))
}

func testUnknown(t *testing.T, s *suite) {
	ctx := t.Context()
	s.put("a", "x")
	_, err := s.Image(ctx, "b")
	s.fails(err, fs.ErrNotExist)
	_, err = s.Label(ctx, "a", "final")
	s.fails(err, fs.ErrNotExist)
	_, err = s.Label(ctx, "b", "final")
	s.fails(err, fs.ErrNotExist)
	_, err = s.Tags(ctx, "b")
	s.fails(err, fs.ErrNotExist)
	_, err = s.Checksum(ctx, "b", datastore.SHA256)
	s.fails(err, fs.ErrNotExist)
	s.fails(s.PutLabel(ctx, "b", "final", ".nii.gz", strings.NewReader("x"), nil), fs.ErrNotExist)
	s.fails(s.DeleteImage(ctx, "b"), fs.ErrNotExist)
	s.fails(s.DeleteLabel(ctx, "a", "final"), fs.ErrNotExist)
	s.fails(s.UpdateImageInfo(ctx, "b", nil), fs.ErrNotExist)
	s.fails(s.UpdateLabelInfo(ctx, "a", "final", nil), fs.ErrNotExist)
}

func testBadInfo(t *testing.T, s *suite) {
	ctx := t.Context()
	s.put("a", "x")
	deep := &api.Object{}
	for range 100 {
		deep = api.NewObject("d", deep)
	}
	s.fails(s.UpdateImageInfo(ctx, "a", api.NewObject("k", strings.Repeat("x", 20<<20))), datastore.ErrInvalid)
	for _, bad := range []any{struct{}{}, deep, math.NaN()} {
		info := api.NewObject("k", bad)
		s.fails(s.PutImage(ctx, "a", ".nii.gz", strings.NewReader("y"), info), datastore.ErrInvalid)
		s.fails(s.PutImage(ctx, "b", ".nii.gz", strings.NewReader("y"), info), datastore.ErrInvalid)
		s.fails(s.UpdateImageInfo(ctx, "a", info), datastore.ErrInvalid)
	}
	s.same("x", s.read(s.Image(ctx, "a")))
	_, err := s.Image(ctx, "b")
	s.fails(err, fs.ErrNotExist)
}

var errBroken = errors.New("connection broke")

func testFailedUploads(t *testing.T, s *suite) {
	ctx := t.Context()
	s.put("a", "old")
	s.label("a", "final", "old")
	broken := func() io.Reader { return io.MultiReader(strings.NewReader("half"), brokenReader{}) }
	s.fails(s.PutImage(ctx, "a", ".nii.gz", broken(), nil), errBroken)
	s.fails(s.PutImage(ctx, "b", ".nii.gz", broken(), nil), errBroken)
	s.fails(s.PutLabel(ctx, "a", "final", ".nii.gz", broken(), nil), errBroken)
	s.fails(s.PutLabel(ctx, "a", "v1", ".nii.gz", broken(), nil), errBroken)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	s.fails(s.PutImage(gone, "a", ".nii.gz", strings.NewReader("new"), nil), context.Canceled)
	s.fails(s.UpdateImageInfo(gone, "a", api.NewObject("k", 1)), context.Canceled)
	s.same("old", s.read(s.Image(ctx, "a")))
	s.same("old", s.read(s.Label(ctx, "a", "final")))
	s.same(false, s.image("a").Info.Has("k"))
	_, err := s.Image(ctx, "b")
	s.fails(err, fs.ErrNotExist)
	_, err = s.Label(ctx, "a", "v1")
	s.fails(err, fs.ErrNotExist)
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errBroken }

func testExtensions(t *testing.T, s *suite) {
	ctx := t.Context()
	for _, c := range []struct{ ext, image, label string }{
		{".nii.gz", ".nii.gz", ".nii.gz"},
		{".vol.v2.nii.gz", ".nii.gz", ".nii.gz"}, // the client's my.vol.v2.nii.gz
		{".nrrd", ".nrrd", ".nrrd"},
		{".seg.nrrd", ".nrrd", ".seg.nrrd"},
		{".v1.seg.nrrd", ".nrrd", ".seg.nrrd"},
		{".bin", ".bin", ".bin"},
		{".dcm", ".dcm", ".dcm"},
		{".json", ".json", ".json"},
	} {
		s.must(s.PutImage(ctx, "a", c.ext, strings.NewReader("x"), nil))
		s.must(s.PutLabel(ctx, "a", "final", c.ext, strings.NewReader("x"), nil))
		label, err := s.Label(ctx, "a", "final")
		s.must(err)
		s.same([]string{c.image, c.label}, []string{s.image("a").Ext, label.Ext})
	}
}

func testConflicts(t *testing.T, s *suite) {
	ctx := t.Context()
	s.must(s.PutImage(ctx, "a.b", ".dcm", strings.NewReader("first"), nil))
	s.fails(s.PutImage(ctx, "a", ".b.dcm", strings.NewReader("second"), nil), datastore.ErrConflict)
	s.put("x", "x")
	s.put("x.seg", "x")
	s.must(s.PutLabel(ctx, "x.seg", "final", ".nrrd", strings.NewReader("first"), nil))
	s.fails(s.PutLabel(ctx, "x", "final", ".seg.nrrd", strings.NewReader("second"), nil), datastore.ErrConflict)
	s.same("first", s.read(s.Image(ctx, "a.b")))
	s.same("first", s.read(s.Label(ctx, "x.seg", "final")))
}

func testChecksums(t *testing.T, s *suite) {
	ctx := t.Context()
	for _, content := range []string{"one", "two", strings.Repeat("z", 100000)} {
		s.put("a", content)
		want := sha256.Sum256([]byte(content))
		for range 2 {
			got, err := s.Checksum(ctx, "a", datastore.SHA256)
			s.must(err)
			s.same(hex.EncodeToString(want[:]), got)
		}
	}
	sum, err := s.Checksum(ctx, "a", datastore.MD5)
	s.must(err)
	s.same(32, len(sum))
	_, err = s.Checksum(ctx, "a", "CRC32")
	s.fails(err, datastore.ErrInvalid)
}

func testIsolation(t *testing.T, s *suite) {
	ctx := t.Context()
	info := api.NewObject("list", []any{"kept"}, "nested", api.NewObject("k", "kept"))
	s.must(s.PutImage(ctx, "a", ".nii.gz", strings.NewReader("x"), info))
	s.same([]string{"list", "nested"}, info.Names()) // not changed by the store
	info.Set("more", true)
	nested, _ := info.Object("nested")
	nested.Set("k", "changed")
	got := s.image("a").Info
	got.Set("list", "changed")
	doc, err := s.Document(ctx)
	s.must(err)
	doc.Set("objects", nil)
	s.same(`{"list":["kept"],"nested":{"k":"kept"},"ts":0,"name":"a.nii.gz"}`, s.json(s.image("a").Info))
}

func testConcurrency(t *testing.T, s *suite) {
	ctx := t.Context()
	const workers, rounds = 6, 8
	content := func(id string, round int) string {
		return strings.Repeat(fmt.Sprintf("%s-%d ", id, round), 2000)
	}
	s.put("shared", content("shared", 0))
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			own := fmt.Sprintf("own %d", w)
			for round := range rounds {
				errs := []error{
					s.PutImage(ctx, own, ".nii.gz", strings.NewReader(content(own, round)), nil),
					s.PutLabel(ctx, own, "final", ".nii.gz", strings.NewReader(content(own, round)), nil),
					s.PutImage(ctx, "shared", ".nii.gz", strings.NewReader(content("shared", round)), nil),
					s.UpdateImageInfo(ctx, own, api.NewObject("round", round)),
				}
				if item, err := s.Image(ctx, "shared"); err != nil {
					errs = append(errs, err)
				} else if f, err := item.Open(); err != nil {
					errs = append(errs, err)
				} else {
					all, err := io.ReadAll(f)
					errs = append(errs, err, f.Close(), whole(all))
				}
				if round%3 == 2 {
					errs = append(errs, s.DeleteLabel(ctx, own, "final"), s.DeleteImage(ctx, own))
				}
				if err := errors.Join(errs...); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	stats, err := s.Stats(ctx)
	s.must(err)
	s.same(datastore.Stats{Total: workers + 1, Completed: workers, Tags: []datastore.TagCount{{Tag: "final", Count: workers}}}, stats)
	for w := range workers {
		own := fmt.Sprintf("own %d", w)
		s.same(content(own, rounds-1), s.read(s.Label(ctx, own, "final")))
		round, _ := s.image(own).Info.Number("round")
		s.same(float64(rounds-1), round)
	}
}

// whole checks that a file is one of those written, not parts of two.
func whole(content []byte) error {
	first, _, ok := bytes.Cut(content, []byte(" "))
	if !ok || !bytes.Equal(content, bytes.Repeat(append(bytes.Clone(first), ' '), 2000)) {
		return fmt.Errorf("a file of %d bytes is no file that was written", len(content))
	}
	return nil
}

func testClosed(t *testing.T, s *suite) {
	s.put("a", "x")
	s.must(s.Close())
	if _, err := s.Image(t.Context(), "a"); err == nil {
		t.Error("a closed store finds images")
	}
	if err := s.PutImage(t.Context(), "a", ".nii.gz", strings.NewReader("y"), nil); err == nil {
		t.Error("a closed store takes images")
	}
}
