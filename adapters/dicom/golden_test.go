package dicom_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"scrawl/adapters/dicom"
	"scrawl/adapters/dicom/dicomtest"
	"scrawl/adapters/volume"
)

// expected is what an independent reader says of a folder. See testdata/make_golden.py.
type expected struct {
	Folder    string     `json:"folder"`
	Size      [3]int     `json:"size"`
	Spacing   [3]float64 `json:"spacing"`
	Origin    [3]float64 `json:"origin"`
	Direction [9]float64 `json:"direction"` // row by row
	Voxels    []float32  `json:"voxels"`
	Notes     []string   `json:"notes"` // parts of what must be told
	SHA256    string     `json:"sha256"`
}

func (e expected) geometry() volume.Geometry {
	g := volume.Geometry{Size: e.Size, Spacing: e.Spacing, Origin: e.Origin}
	for n, v := range e.Direction {
		g.Direction[n/3][n%3] = v
	}
	return g
}

func TestGoldenSeries(t *testing.T) {
	z := dicomtest.Golden(t)
	var all []expected
	dicomtest.ReadJSON(t, z, "expect.json", &all)
	if len(all) < 40 {
		t.Fatalf("%d series, want more", len(all))
	}
	for _, want := range all {
		t.Run(want.Folder, func(t *testing.T) {
			got := dicomtest.Image(t, want.Folder)
			if err := got.Validate(); err != nil {
				t.Fatal(err)
			}
			if d := want.geometry().Difference(got.Geometry); d != "" {
				t.Errorf("grid: %s", d)
			}
			if len(got.Voxels) != len(want.Voxels) {
				t.Fatalf("%d voxels, want %d", len(got.Voxels), len(want.Voxels))
			}
			for n, v := range want.Voxels {
				if math.Abs(float64(got.Voxels[n]-v)) > 1e-6*max(1, math.Abs(float64(v))) {
					t.Fatalf("voxel %d is %g, want %g", n, got.Voxels[n], v)
				}
			}
			for _, part := range want.Notes {
				if !slices.ContainsFunc(got.Grid.Notes, func(s string) bool { return strings.Contains(s, part) }) {
					t.Errorf("notes %q, want one with %q", got.Grid.Notes, part)
				}
			}
			for k, s := range got.Grid.Slices {
				if p := got.IndexToWorld([3]float64{0, 0, float64(k)}); want.Folder != "gap" && math.Abs(p[2]-s.Position[2]) > 1e-3 {
					t.Errorf("slice %d lies at %v, the grid has it at %v", k, s.Position, p)
				}
			}
		})
	}
}

func TestRealSeries(t *testing.T) {
	data := dicomtest.Shared(t, "dicom")
	var all []expected
	dicomtest.ReadJSON(t, os.DirFS("testdata"), "real.json", &all)
	for _, want := range all {
		t.Run(want.Folder, func(t *testing.T) {
			got, err := dicom.ReadFolder(t.Context(), os.DirFS(filepath.Join(data, want.Folder)), dicom.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if d := want.geometry().Difference(got.Geometry); d != "" {
				t.Errorf("grid: %s", d)
			}
			h := sha256.New()
			if err := binary.Write(h, binary.LittleEndian, got.Voxels); err != nil {
				t.Fatal(err)
			}
			if sum := fmt.Sprintf("%x", h.Sum(nil)); sum != want.SHA256 {
				t.Errorf("voxels have hash %s, SimpleITK's %s", sum, want.SHA256)
			}
			if len(got.Grid.Notes) > 0 {
				t.Errorf("notes on a regular series: %q", got.Grid.Notes)
			}
		})
	}
}

// TestOddFiles reads files that others keep because readers stumble over them. Each alone is an image or an error of a known class;
// none keeps the images beside it from being read.
func TestOddFiles(t *testing.T) {
	dir := os.DirFS(dicomtest.Shared(t, "robustness", "pydicom"))
	for name, want := range map[string]struct {
		size [3]int
		err  error
		text string
	}{
		"CT_small.dcm": {size: [3]int{128, 128, 1}}, "ExplVR_BigEnd.dcm": {size: [3]int{80, 60, 1}}, "MR_small.dcm": {size: [3]int{64, 64, 1}},
		"MR_small_RLE.dcm": {size: [3]int{64, 64, 1}}, "MR_small_bigendian.dcm": {size: [3]int{64, 64, 1}}, "SC_rgb_small_odd.dcm": {size: [3]int{3, 3, 1}},
		"MR_small_jp2klossless.dcm": {size: [3]int{64, 64, 1}}, "JPEG-lossy.dcm": {size: [3]int{256, 1024, 1}}, "image_dfl.dcm": {size: [3]int{512, 512, 1}}, "rtdose.dcm": {size: [3]int{10, 10, 15}},
		"MR_truncated.dcm":      {err: volume.ErrFormat, text: "ends after 8130 of 8192 bytes"},
		"badVR.dcm":             {err: volume.ErrFormat, text: `number of frames "1A"`},
		"no_meta.dcm":           {err: volume.ErrFormat, text: "no DICOM"},
		"empty_charset_LEI.dcm": {err: volume.ErrUnsupported, text: "no pixel data"},
		"rtstruct.dcm":          {err: volume.ErrUnsupported, text: "no pixel data"},
	} {
		got, err := dicom.ReadSeries(t.Context(), dir, []string{name}, dicom.Limits{})
		switch {
		case want.err == nil && err != nil:
			t.Errorf("%s: %v", name, err)
		case want.err == nil && got.Size != want.size:
			t.Errorf("%s: size %v, want %v", name, got.Size, want.size)
		case want.err != nil && (!errors.Is(err, want.err) || !strings.Contains(err.Error(), want.text)):
			t.Errorf("%s: error %v, want %v with %q", name, err, want.err, want.text)
		}
	}
	found, err := dicom.Scan(t.Context(), dir, dicom.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	images, segmentations := 0, 0
	for _, s := range found.Series {
		if s.IsImage() {
			images++
		}
		if s.IsSegmentation() {
			segmentations++
		}
	}
	if images < 7 || segmentations != 1 {
		t.Errorf("the folder holds %d image series and %d segmentations, want 7 or more and 1", images, segmentations)
	}
}

func TestCompressedSeriesEqualsUncompressed(t *testing.T) {
	dir := os.DirFS(dicomtest.Shared(t, "dicom", "multiframe_and_misc"))
	plain, err := dicom.ReadSeries(t.Context(), dir, []string{"emri_small.dcm"}, dicom.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	packed, err := dicom.ReadSeries(t.Context(), dir, []string{"emri_small_RLE.dcm"}, dicom.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if plain.Size != [3]int{64, 64, 10} || !slices.Equal(plain.Voxels, packed.Voxels) {
		t.Errorf("size %v; the compressed frames differ", plain.Size)
	}
}

// TestTransferSyntaxes reads the same image in all its transfer syntaxes, most of them in several fragments.
func TestTransferSyntaxes(t *testing.T) {
	data := dicomtest.Shared(t, "dicom", "codecs_wg04")
	for _, name := range []string{"CT1", "MR1", "US1"} {
		dir := os.DirFS(filepath.Join(data, name))
		names, err := fs.Glob(dir, "*.dcm")
		if err != nil {
			t.Fatal(err)
		}
		want, err := dicom.ReadSeries(t.Context(), dir, []string{name + "_UNC.dcm"}, dicom.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		lo, hi := slices.Min(want.Voxels), slices.Max(want.Voxels)
		for _, file := range names {
			got, err := dicom.ReadSeries(t.Context(), dir, []string{file}, dicom.Limits{})
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			var sum, most float64
			for n, v := range got.Voxels {
				d := math.Abs(float64(v - want.Voxels[n]))
				sum, most = sum+d, max(most, d)
			}
			limit := 0.0
			switch {
			case strings.Contains(file, "JLSN"):
				limit = 4
			case strings.Contains(file, "J2KI"), strings.Contains(file, "JPLY"):
				limit = float64(hi-lo) / 4
				if mean := sum / float64(len(got.Voxels)); mean > float64(hi-lo)/100 {
					t.Errorf("%s: differs by %g on average, the image spans %g", file, mean, hi-lo)
				}
			}
			if name == "US1" && limit == 0 {
				limit = 1e-3 // brightness of colours that were kept in another form
			}
			if most > limit {
				t.Errorf("%s: differs by up to %g, want at most %g", file, most, limit)
			}
		}
	}
}

func TestReadingStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := dicom.ReadFolder(ctx, dicomtest.Folder(t, "axial"), dicom.Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

// lockedFS is a folder with a sub-folder that cannot be read.
type lockedFS struct{ fs.FS }

func (f lockedFS) Open(name string) (fs.File, error) {
	if name == "axial" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return f.FS.Open(name)
}

func TestScan(t *testing.T) {
	whole, err := dicom.Scan(t.Context(), dicomtest.Golden(t), dicom.Limits{})
	if err != nil || whole.Unread != nil {
		t.Fatal(err, whole.Unread)
	}
	part, err := dicom.Scan(t.Context(), lockedFS{dicomtest.Golden(t)}, dicom.Limits{})
	if err != nil || !errors.Is(part.Unread, fs.ErrPermission) || len(part.Series) != len(whole.Series)-1 {
		t.Errorf("%d of %d series, %v, %v", len(part.Series), len(whole.Series), part.Unread, err)
	}
	if _, err := dicom.Scan(t.Context(), dicomtest.Golden(t), dicom.Limits{MaxFiles: 5}); !errors.Is(err, volume.ErrTooLarge) {
		t.Errorf("error %v, want %v", err, volume.ErrTooLarge)
	}
	// What was seen is not read again.
	s := dicom.NewScanner(dicom.Limits{})
	counted := &countingFS{FS: dicomtest.Golden(t)}
	for range 2 {
		again, err := s.Scan(t.Context(), counted)
		if err != nil || len(again.Series) != len(whole.Series) {
			t.Fatal(len(again.Series), err)
		}
	}
	files := 0
	for _, series := range whole.Series {
		files += len(series.Files)
	}
	if n := int(counted.reads.Load()); n != files+1 { // and expect.json
		t.Errorf("%d files were opened for two scans of %d", n, files)
	}
}

// countingFS counts the files that are opened.
type countingFS struct {
	fs.FS
	reads atomic.Int64
}

func (f *countingFS) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err == nil {
		if info, err := file.Stat(); err == nil && !info.IsDir() {
			f.reads.Add(1)
		}
	}
	return file, err
}

// Stat keeps looking at a file from counting as reading it.
func (f *countingFS) Stat(name string) (fs.FileInfo, error) { return fs.Stat(f.FS, name) }
