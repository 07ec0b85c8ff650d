package localstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// A detached store keeps infos and labels of images that have no file, over a restart and whatever lies in its folder.
func TestDetached(t *testing.T) {
	dir := t.TempDir()
	openDetached := func() *Store {
		t.Helper()
		s, err := Open(Options{Dir: dir, Patterns: []string{"*.nii.gz"}, Detached: true})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := openDetached()
	ctx := t.Context()
	if err := s.PutLabel(ctx, "1.2.3", "final", ".nii.gz", strings.NewReader("x"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a label of an image nobody registered: %v", err)
	}
	for range 2 {
		if err := s.Register(ctx, "1.2.3", ".nii.gz", api.NewObject("Modality", "CT")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Register(ctx, "../x", ".nii.gz", nil); !errors.Is(err, datastore.ErrInvalid) {
		t.Errorf("a bad id: %v", err)
	}
	if err := errors.Join(s.PutLabel(ctx, "1.2.3", "final", ".nii.gz", strings.NewReader("mask"), nil),
		s.UpdateImageInfo(ctx, "1.2.3", api.NewObject("k", 1)), os.WriteFile(filepath.Join(dir, "stray.nii.gz"), nil, 0o600), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = openDetached()
	defer func() { _ = s.Close() }() // nothing is left to write
	images, err := s.Images(ctx)
	if err != nil || len(images) != 1 {
		t.Fatalf("%d images, %v", len(images), err)
	}
	if modality, _ := images[0].Info.Text("Modality"); modality != "CT" || !images[0].Info.Has("k") || !images[0].Info.Has("ts") {
		t.Errorf("info is %v", images[0].Info)
	}
	if _, err := images[0].Open(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening an image without a file: %v", err)
	}
	label, err := s.Label(ctx, "1.2.3", "final")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(label.Path); err != nil || string(text) != "mask" {
		t.Errorf("label is %q, %v", text, err)
	}
	attached, err := Open(Options{Dir: t.TempDir(), Patterns: []string{"*.nii.gz"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = attached.Close() }() // nothing is left to write
	if err := attached.Register(ctx, "a", ".nii.gz", nil); !errors.Is(err, datastore.ErrInvalid) {
		t.Errorf("a store of files registers an image without one: %v", err)
	}
}
