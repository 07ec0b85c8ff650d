package localstore

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"scrawl/adapters/dicom"
	"scrawl/adapters/dicom/dicomtest"
	"scrawl/adapters/nifti"
	"scrawl/adapters/volume"
	"scrawl/labelserver/api"
)

// unpackSeries writes one of the small series of package dicom into a folder and returns its id.
func unpackSeries(t *testing.T, series, folder string) string {
	t.Helper()
	dir := dicomtest.Folder(t, series)
	dicomtest.Unpack(t, dir, folder)
	found, err := dicom.Scan(t.Context(), dir, dicom.Limits{})
	if err != nil || len(found.Series) != 1 {
		t.Fatal(found, err)
	}
	return found.Series[0].UID
}

func openSeries(t *testing.T, dir, cache string, change func(*Options)) *Store {
	t.Helper()
	o := Options{Dir: dir, Patterns: []string{"*.nii.gz", "*.nrrd"}, SeriesDir: cache}
	if change != nil {
		change(&o)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func decodeItem(t *testing.T, s *Store, id string) *volume.Volume {
	t.Helper()
	item, err := s.Image(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	f, err := item.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	v, err := nifti.Decode(f, volume.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestSeriesAreImages holds that DICOM files in sub-folders and beside other images are images by series, with labels and infos as any.
func TestSeriesAreImages(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	deep := unpackSeries(t, "oblique", filepath.Join(dir, "patient 1", "study", "series"))
	flat := unpackSeries(t, "axial", dir)
	bare := "case7"
	if id := unpackSeries(t, "bare", filepath.Join(dir, bare)); id != "unnamed" {
		t.Fatal(id)
	}
	for name, text := range map[string]string{"other.nii.gz": "x", "notes.txt": "x", "patient 1/broken.dcm": strings.Repeat("\x00", 128) + "DICM\x02", "labels/final/x.dcm": "x"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := openSeries(t, dir, cache, nil)
	ctx := t.Context()
	var ids []string
	images, err := s.Images(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		ids = append(ids, i.ID)
	}
	slices.Sort(ids)
	want := []string{deep, flat, bare, "other"}
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		t.Fatalf("images %q, want %q", ids, want)
	}
	item, err := s.Image(ctx, deep)
	if err != nil {
		t.Fatal(err)
	}
	if uid, _ := item.Info.Text("SeriesInstanceUID"); uid != deep || item.Ext != ".nii.gz" {
		t.Errorf("info %v, extension %s", item.Info, item.Ext)
	}
	folder, names, err := item.Series(ctx)
	if err != nil || len(names) != 4 {
		t.Fatalf("series of %d files, %v", len(names), err)
	}
	direct, err := dicom.ReadSeries(ctx, folder, names, dicom.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	v := decodeItem(t, s, deep)
	if d := direct.Difference(v.Geometry); d != "" || !slices.Equal(direct.Voxels, v.Voxels) {
		t.Errorf("converted file: %s", d)
	}
	if _, err := os.Stat(item.Path); err != nil {
		t.Errorf("the path that clients are told: %v", err)
	}
	if err := s.PutLabel(ctx, deep, "final", ".nii.gz", strings.NewReader("mask"), api.NewObject("a", 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// All of it is there after a restart.
	s = openSeries(t, dir, cache, nil)
	label, err := s.Label(ctx, deep, "final")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(label.Path); err != nil || string(b) != "mask" {
		t.Errorf("label %q, %v", b, err)
	}
	if err := s.DeleteImage(ctx, deep); err != nil {
		t.Fatal(err)
	}
	if err := s.sync(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Image(ctx, deep); err == nil {
		t.Error("a deleted series is still there")
	}
	if images, err := s.Images(ctx); err != nil || len(images) != 3 {
		t.Errorf("%d images are left, %v", len(images), err)
	}
}

// TestSeriesThatChanges holds that a series to which files are added is converted anew.
func TestSeriesThatChanges(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	folder := filepath.Join(dir, "s")
	id := unpackSeries(t, "axial", folder)
	last := filepath.Join(folder, "003.dcm")
	b, err := os.ReadFile(last)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(last); err != nil {
		t.Fatal(err)
	}
	s := openSeries(t, dir, cache, nil)
	if v := decodeItem(t, s, id); v.Size[2] != 3 {
		t.Fatalf("%d slices, want 3", v.Size[2])
	}
	if err := os.WriteFile(last, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := decodeItem(t, s, id); v.Size[2] != 4 {
		t.Errorf("%d slices, want 4", v.Size[2])
	}
	kept, err := filepath.Glob(filepath.Join(cache, "*", "*"))
	if err != nil || len(kept) != 1 {
		t.Errorf("the cache holds %q, want the newest only", kept)
	}
}

// TestConvertedSeriesAreBounded holds that the cache forgets what was not asked for longest.
func TestConvertedSeriesAreBounded(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	var ids []string
	for _, name := range []string{"axial", "oblique", "sagittal"} {
		ids = append(ids, unpackSeries(t, name, filepath.Join(dir, name)))
	}
	s := openSeries(t, dir, cache, func(o *Options) { o.SeriesBytes = 1 })
	for range 2 {
		for _, id := range ids {
			decodeItem(t, s, id)
		}
	}
	kept, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil || len(kept) != 1 || filepath.Base(kept[0]) != ids[2] {
		t.Errorf("the cache holds %q, want that of %s", kept, ids[2])
	}
}

// TestReadOnlySeries holds that a folder that must not be written to shows its series all the same.
func TestReadOnlySeries(t *testing.T) {
	dir := t.TempDir()
	id := unpackSeries(t, "enhanced", filepath.Join(dir, "x"))
	s := openSeries(t, dir, t.TempDir(), func(o *Options) { o.ReadOnly = true })
	if v := decodeItem(t, s, id); v.Size != [3]int{6, 5, 4} {
		t.Errorf("size %v", v.Size)
	}
	sum, err := s.Checksum(t.Context(), id, "SHA256")
	if err != nil || len(sum) != 64 {
		t.Errorf("checksum %q, %v", sum, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, want what it held", entries)
	}
}

// TestSeriesFileBesideItsConversion holds that an image file named after a series goes before it, as in a folder that MONAI Label has
// filled from an archive.
func TestSeriesFileBesideItsConversion(t *testing.T) {
	dir := t.TempDir()
	id := unpackSeries(t, "axial", filepath.Join(dir, "dicom"))
	if err := os.WriteFile(filepath.Join(dir, id+".nii.gz"), []byte("own"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openSeries(t, dir, t.TempDir(), nil)
	item, err := s.Image(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	f, err := item.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	if b, err := io.ReadAll(f); err != nil || string(b) != "own" || item.Series != nil {
		t.Errorf("image file %q, %v", b, err)
	}
}

// TestSeriesThatCannotBeLookedFor holds that a folder that cannot be looked through for a while costs neither images nor their infos.
func TestSeriesThatCannotBeLookedFor(t *testing.T) {
	dir := t.TempDir()
	id := unpackSeries(t, "axial", filepath.Join(dir, "s"))
	s := openSeries(t, dir, t.TempDir(), nil)
	if err := s.UpdateImageInfo(t.Context(), id, api.NewObject("kept", true)); err != nil {
		t.Fatal(err)
	}
	s.scanner = dicom.NewScanner(dicom.Limits{MaxFiles: 1})
	for _, known := range []*seriesSet{s.series.Load(), nil} { // of a server that runs, and of one that has just started
		s.series.Store(known)
		if err := s.sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		item, err := s.Image(t.Context(), id)
		if err != nil || !item.Info.Has("kept") {
			t.Fatalf("info %v, %v", item.Info, err)
		}
	}
	s.scanner = dicom.NewScanner(dicom.Limits{})
	if err := errors.Join(s.sync(t.Context()), os.RemoveAll(filepath.Join(dir, "s")), s.sync(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Image(t.Context(), id); err == nil {
		t.Error("a series whose files are gone is still there")
	}
}

// TestLinkedSeries holds that links to files in the folder are followed, and those out of it are not.
func TestLinkedSeries(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	id := unpackSeries(t, "axial", filepath.Join(dir, ".objects"))
	foreign := unpackSeries(t, "oblique", outside)
	for folder, link := range map[string]string{filepath.Join(dir, ".objects"): "in", outside: "out"} {
		names, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, link), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			to := filepath.Join(folder, n.Name())
			if link == "in" {
				to = filepath.Join("..", ".objects", n.Name())
			}
			if err := os.Symlink(to, filepath.Join(dir, link, n.Name())); err != nil {
				t.Skipf("SKIPPED: no links here: %v", err)
			}
		}
	}
	s := openSeries(t, dir, t.TempDir(), nil)
	if v := decodeItem(t, s, id); v.Size[2] != 4 {
		t.Errorf("size %v", v.Size)
	}
	if _, err := s.Image(t.Context(), foreign); err == nil {
		t.Error("links out of the folder were followed")
	}
}
