package storetest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// OpenWith returns a new store that has the images named, without labels. The suite closes it.
type OpenWith func(t *testing.T, ids ...string) datastore.Store

// RunLabels runs that part of the suite that a store over a foreign archive can pass: infos, and labels under tags other than final,
// of images that are there already. The ids are DICOM UIDs.
func RunLabels(t *testing.T, open OpenWith) {
	t.Helper()
	const a, b = "1.2.3", "1.2.4"
	parts := []struct {
		name string
		test func(t *testing.T, s *suite, a, b string)
	}{
		{"labels", testLabels},
		{"infos", testInfos},
		{"deleting labels", testDeleteLabels},
		{"bad and unknown names", testLabelNames},
		{"uploads that fail", testFailedLabels},
		{"concurrent labels", testConcurrentLabels},
		{"closed", func(t *testing.T, s *suite, a, _ string) {
			s.must(s.Close())
			if _, err := s.Image(t.Context(), a); err == nil {
				t.Error("a closed store finds images")
			}
			if err := s.PutLabel(t.Context(), a, "v1", ".nrrd", strings.NewReader("x"), nil); err == nil {
				t.Error("a closed store takes labels")
			}
		}},
	}
	for _, part := range parts {
		t.Run(part.name, func(t *testing.T) {
			store := open(t, a, b)
			t.Cleanup(func() {
				if err := store.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			part.test(t, &suite{t, store}, a, b)
		})
	}
}

func testLabels(t *testing.T, s *suite, a, b string) {
	ctx := t.Context()
	for _, list := range []func(context.Context) ([]datastore.Item, error){s.Images, s.Unlabelled} {
		items, err := list(ctx)
		s.must(err)
		s.same([]string{a, b}, ids(items))
	}
	s.must(s.PutLabel(ctx, a, "v1", ".nrrd", strings.NewReader("mask"), api.NewObject("model", "scribbles", "z", 1.0)))
	s.label(b, "original", "old")
	s.label(b, "original", "new")
	label, err := s.Label(ctx, a, "v1")
	s.same("mask", s.read(label, err))
	s.same([]string{a, ".nrrd"}, []string{label.ID, label.Ext})
	s.same(`{"model":"scribbles","z":1.0,"ts":0,"name":"`+a+`.nrrd"}`, s.json(label.Info))
	label, err = s.Label(ctx, b, "original")
	s.same("new", s.read(label, err))
	tags, err := s.Tags(ctx, a)
	s.must(err)
	s.same([]string{"v1"}, tags)
	stats, err := s.Stats(ctx)
	s.must(err)
	s.same(datastore.Stats{Total: 2, Tags: []datastore.TagCount{{Tag: "v1", Count: 1}, {Tag: "original", Count: 1}}}, stats)
	pairs, err := s.Labelled(ctx)
	s.must(err)
	s.same(0, len(pairs))
	doc, err := s.Document(ctx)
	s.must(err)
	s.same([]string{"name", "description", "images_dir", "labels_dir", "objects"}, doc.Names())
	objects, _ := doc.Object("objects")
	s.same([]string{a, b}, objects.Names())
	entry, _ := objects.Object(a)
	labels, _ := entry.Object("labels")
	s.same(`{"v1":{"ext":".nrrd","info":{"model":"scribbles","z":1.0,"ts":0,"name":"`+a+`.nrrd"}}}`, s.json(labels))
}

func testInfos(t *testing.T, s *suite, a, _ string) {
	ctx := t.Context()
	before := s.image(a).Info
	s.label(a, "v1", "y")
	given, err := api.DecodeObject([]byte(`{"z":1.0,"a":{"n":[1,{"é":null}],"b":true}}`))
	s.must(err)
	s.must(s.UpdateImageInfo(ctx, a, given))
	s.must(s.UpdateImageInfo(ctx, a, api.NewObject("a", api.NewObject("only", 2))))
	after := s.image(a).Info
	nested, _ := after.Object("a")
	s.same(`{"only":2}`, s.json(nested))
	for name := range before.All() {
		s.same(true, after.Has(name))
	}
	after.Set("a", "changed by its owner")
	nested, _ = s.image(a).Info.Object("a")
	s.same(`{"only":2}`, s.json(nested))
	s.must(s.UpdateLabelInfo(ctx, a, "v1", given))
	label, err := s.Label(ctx, a, "v1")
	s.must(err)
	s.same(`{"ts":0,"name":"`+a+`.nii.gz","z":1.0,"a":{"n":[1,{"é":null}],"b":true}}`, s.json(label.Info))
	s.fails(s.UpdateImageInfo(ctx, a, api.NewObject("k", struct{}{})), datastore.ErrInvalid)
	s.must(s.UpdateImageInfo(ctx, a, nil))
}

func testDeleteLabels(t *testing.T, s *suite, a, _ string) {
	ctx := t.Context()
	s.label(a, "v1", "1")
	s.label(a, "v2", "2")
	stale, err := s.Label(ctx, a, "v1")
	s.must(err)
	s.must(s.DeleteLabel(ctx, a, "v1"))
	_, err = s.Label(ctx, a, "v1")
	s.fails(err, fs.ErrNotExist)
	_, err = stale.Open()
	s.fails(err, fs.ErrNotExist)
	s.fails(s.DeleteLabel(ctx, a, "v1"), fs.ErrNotExist)
	tags, err := s.Tags(ctx, a)
	s.must(err)
	s.same([]string{"v2"}, tags)
}

func testLabelNames(t *testing.T, s *suite, a, _ string) {
	ctx := t.Context()
	for _, bad := range badNames {
		_, err := s.Image(ctx, bad)
		s.fails(err, datastore.ErrInvalid)
		_, err = s.Label(ctx, a, bad)
		s.fails(err, datastore.ErrInvalid)
		_, err = s.Tags(ctx, bad)
		s.fails(err, datastore.ErrInvalid)
		_, err = s.Checksum(ctx, bad, datastore.SHA256)
		s.fails(err, datastore.ErrInvalid)
		s.fails(s.PutImage(ctx, bad, ".nii.gz", strings.NewReader("x"), nil), datastore.ErrInvalid)
		s.fails(s.PutLabel(ctx, a, bad, ".nii.gz", strings.NewReader("x"), nil), datastore.ErrInvalid)
		s.fails(s.PutLabel(ctx, bad, "v1", ".nii.gz", strings.NewReader("x"), nil), datastore.ErrInvalid)
		s.fails(s.DeleteImage(ctx, bad), datastore.ErrInvalid)
		s.fails(s.DeleteLabel(ctx, a, bad), datastore.ErrInvalid)
		s.fails(s.UpdateImageInfo(ctx, bad, nil), datastore.ErrInvalid)
		s.fails(s.UpdateLabelInfo(ctx, a, bad, nil), datastore.ErrInvalid)
	}
	for _, bad := range []string{".", "nii", "./x", `.a\b`, ".a/../b"} {
		s.fails(s.PutLabel(ctx, a, "t", bad, strings.NewReader("x"), nil), datastore.ErrInvalid)
		s.fails(s.PutLabel(ctx, a, "final", bad, strings.NewReader("x"), nil), datastore.ErrInvalid)
	}
	for _, unknown := range []string{"1.2.3.4.5.6", "case_0", "3: Thorax 1.0 B45f"} {
		_, err := s.Image(ctx, unknown)
		s.fails(err, fs.ErrNotExist)
		_, err = s.Label(ctx, unknown, "final")
		s.fails(err, fs.ErrNotExist)
		_, err = s.Checksum(ctx, unknown, datastore.SHA256)
		s.fails(err, fs.ErrNotExist)
		s.fails(s.PutLabel(ctx, unknown, "final", ".nii.gz", strings.NewReader("x"), nil), fs.ErrNotExist)
		s.fails(s.DeleteLabel(ctx, unknown, "final"), fs.ErrNotExist)
		s.fails(s.UpdateImageInfo(ctx, unknown, nil), fs.ErrNotExist)
	}
	_, err := s.Label(ctx, a, "final")
	s.fails(err, fs.ErrNotExist)
	s.fails(s.UpdateLabelInfo(ctx, a, "final", nil), fs.ErrNotExist)
}

func testFailedLabels(t *testing.T, s *suite, a, _ string) {
	ctx := t.Context()
	s.label(a, "v1", "old")
	broken := func() io.Reader { return io.MultiReader(strings.NewReader("half"), brokenReader{}) }
	for _, tag := range []string{"v1", "v2", "final"} {
		s.fails(s.PutLabel(ctx, a, tag, ".nii.gz", broken(), nil), errBroken)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	s.fails(s.PutLabel(gone, a, "v1", ".nii.gz", strings.NewReader("new"), nil), context.Canceled)
	s.fails(s.UpdateImageInfo(gone, a, api.NewObject("k", 1)), context.Canceled)
	s.same("old", s.read(s.Label(ctx, a, "v1")))
	s.same(false, s.image(a).Info.Has("k"))
	for _, tag := range []string{"v2", "final"} {
		_, err := s.Label(ctx, a, tag)
		s.fails(err, fs.ErrNotExist)
	}
}

func testConcurrentLabels(t *testing.T, s *suite, a, b string) {
	ctx := t.Context()
	var group sync.WaitGroup
	for w := range 4 {
		tag := []string{"v0", "v1", "v2", "v3"}[w]
		group.Go(func() {
			for range 4 {
				errs := []error{
					s.PutLabel(ctx, a, tag, ".nii.gz", strings.NewReader(tag), nil),
					s.PutLabel(ctx, b, "shared", ".nii.gz", strings.NewReader(tag), nil),
					s.UpdateImageInfo(ctx, a, api.NewObject(tag, true)),
				}
				if err := errors.Join(errs...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	for _, tag := range []string{"v0", "v1", "v2", "v3"} {
		s.same(tag, s.read(s.Label(ctx, a, tag)))
		s.same(true, s.image(a).Info.Has(tag))
	}
}
