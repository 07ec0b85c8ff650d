package rtstruct_test

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"scrawl/adapters/dicom"
	"scrawl/adapters/dicom/dicomtest"
	"scrawl/adapters/rtstruct"
	"scrawl/adapters/volume"
)

var update = flag.Bool("update", false, "make testdata/written.zip anew; check it with check_written.py")

func TestReadsContoursOfOthers(t *testing.T) {
	z := dicomtest.OpenZip(t, filepath.Join("testdata", "golden.zip"))
	var all []struct {
		File, Series string
		Labels       []uint16
	}
	if dicomtest.ReadJSON(t, z, "expect.json", &all); len(all) < 6 {
		t.Fatal(len(all))
	}
	for _, want := range all {
		b, err := fs.ReadFile(z, want.File)
		if err != nil {
			t.Fatal(err)
		}
		s, err := rtstruct.Read(bytes.NewReader(b), int64(len(b)), dicom.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.On(dicomtest.Image(t, want.Series).Grid)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Labels, want.Labels) || got.Outside+got.Overlapping != 0 || got.Skipped != 3 {
			t.Errorf("%s: labels differ; %d contours outside, %d skipped, %d voxels overlap", want.File, got.Outside, got.Skipped, got.Overlapping)
		}
		if first := s.Structures[0]; len(s.Structures) != 3 || first.Name != "Größe 1" || first.Algorithm != "MANUAL" || first.Color == nil || math.Abs(first.Color[1]-0.5) > 0.01 {
			t.Errorf("%s: structures %+v", want.File, s.Structures)
		}
	}
}

type writing struct {
	File      string   `json:"file"`
	Series    string   `json:"series"`
	Size      [3]int   `json:"size"`
	Labels    []uint16 `json:"labels"`
	Names     []string `json:"names"`
	Numbers   []uint16 `json:"numbers"`
	Instances [][]any  `json:"instances"` // of each slice, with the number of its frame
}

// TestWritten holds that structure sets are written byte for byte as pydicom and dciodvfy have approved them (check_written.py).
func TestWritten(t *testing.T) {
	orange := [3]float64{1, 0.5, 0}
	files := map[string][]byte{}
	var all []writing
	for _, folder := range []string{"axial", "descending", "oblique", "tilted", "gap", "sagittal", "enhanced", "bare"} {
		g := dicomtest.Image(t, folder).Grid
		m := volume.NewLabelMap(g.Geometry)
		for n := range m.Labels {
			i, j, k := n%6, n/6%5, n/30
			switch {
			case k == 1:
			case k == 2 && i >= 1 && i <= 4 && j >= 1 && j <= 3:
				if j != 2 || i == 1 || i == 4 {
					m.Labels[n] = 3 // a ring
				}
			default:
				m.Labels[n] = [4]uint16{0, 1, 3, 0}[(n*n/3+k)%4]
			}
		}
		structures := []rtstruct.Structure{{Label: 1, Name: "Größe 山", Color: &orange, Algorithm: "AUTOMATIC"}, {Label: 3, Name: `left\kidney`}, {Label: 2, Name: "empty"}}
		var b bytes.Buffer
		err := rtstruct.Encode(&b, m, structures, g, rtstruct.Options{Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			SeriesUID: dicom.DerivedUID("rt" + folder), InstanceUID: dicom.DerivedUID("rti" + folder)})
		if err != nil {
			t.Fatal(err)
		}
		w := writing{File: folder + ".dcm", Series: folder, Size: m.Size, Labels: m.Labels, Names: []string{"Größe 山", "left/kidney", "empty"}, Numbers: []uint16{1, 3, 2}}
		for _, s := range g.Slices {
			w.Instances = append(w.Instances, []any{s.File.Text(dicom.SOPInstanceUID), s.Frame + 1})
		}
		files[w.File] = b.Bytes()
		all = append(all, w)
	}
	dicomtest.Written(t, *update, files, all)
}

// TestRoundTrip holds that any label map comes back voxel by voxel: holes, islands in holes, corners that touch, single voxels.
func TestRoundTrip(t *testing.T) {
	grids := []*dicom.Grid{dicomtest.Image(t, "oblique").Grid, dicomtest.Image(t, "tilted").Grid, dicomtest.Image(t, "gap").Grid, dicomtest.Image(t, "enhanced").Grid}
	rapid.Check(t, func(t *rapid.T) {
		g := rapid.SampledFrom(grids).Draw(t, "grid")
		m := volume.NewLabelMap(g.Geometry)
		copy(m.Labels, rapid.SliceOfN(rapid.Uint16Range(0, 3), len(m.Labels), len(m.Labels)).Draw(t, "labels"))
		structures := []rtstruct.Structure{{Label: 1, Name: "a"}, {Label: 2, Name: "b"}, {Label: 3, Name: "c"}}
		roundTrip(t, m, structures, g)
	})
}

func roundTrip(t rapid.TB, m *volume.LabelMap, structures []rtstruct.Structure, g *dicom.Grid) *rtstruct.Set {
	t.Helper()
	var b bytes.Buffer
	if err := rtstruct.Encode(&b, m, structures, g, rtstruct.Options{}); err != nil {
		t.Fatal(err)
	}
	s, err := rtstruct.Read(bytes.NewReader(b.Bytes()), int64(b.Len()), dicom.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.On(g)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Labels, m.Labels) || got.Outside+got.Skipped+got.Overlapping != 0 {
		t.Fatalf("labels differ: %v, want %v; %d outside, %d skipped, %d overlap", got.Labels, m.Labels, got.Outside, got.Skipped, got.Overlapping)
	}
	return s
}

// TestLargeSlice writes a contour that is longer than explicit VR has room for.
func TestLargeSlice(t *testing.T) {
	g := dicomtest.Image(t, "axial").Grid
	large := *g
	large.Size = [3]int{300, 300, 4}
	m := volume.NewLabelMap(large.Geometry)
	for j := range 300 {
		for i := range 300 {
			if (i%4 < 2) != (j > 290) { // a comb
				m.Labels[m.Index(i, j, 2)] = 1
			}
		}
	}
	roundTrip(t, m, []rtstruct.Structure{{Label: 1, Name: strings.Repeat("comb ", 20) + "end"}}, &large)
}

// TestNoise writes a slice of noise, which has more holes than are worth joining.
func TestNoise(t *testing.T) {
	large := *dicomtest.Image(t, "axial").Grid
	large.Size = [3]int{400, 400, 4}
	m := volume.NewLabelMap(large.Geometry)
	seed := uint32(1)
	for n := range 400 * 400 {
		seed = seed*1664525 + 1013904223
		if seed>>29 != 0 {
			m.Labels[n] = 1
		}
	}
	roundTrip(t, m, []rtstruct.Structure{{Label: 1, Name: "noise"}}, &large)
}

func TestRefuses(t *testing.T) {
	g := dicomtest.Image(t, "axial").Grid
	m := volume.NewLabelMap(g.Geometry)
	m.Labels[7] = 4
	for text, structures := range map[string][]rtstruct.Structure{
		"voxel [1 1 0] has number 4": {{Label: 1}}, "numbers from 1 that differ": {{Label: 4}, {Label: 4}},
	} {
		if err := rtstruct.Encode(&bytes.Buffer{}, m, structures, g, rtstruct.Options{}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v, want one with %q", err, text)
		}
	}
	var b bytes.Buffer
	if err := rtstruct.Encode(&b, m, []rtstruct.Structure{{Label: 4}}, g, rtstruct.Options{}); err != nil {
		t.Fatal(err)
	}
	s, err := rtstruct.Read(bytes.NewReader(b.Bytes()), int64(b.Len()), dicom.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	away := &dicom.Grid{Geometry: g.Geometry}
	away.Origin[2] += 1000
	if _, err := s.On(away); !errors.Is(err, volume.ErrGeometry) {
		t.Errorf("error %v, want %v", err, volume.ErrGeometry)
	}
}

// TestRealStructureSet reads a file that a planning system wrote.
func TestRealStructureSet(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(dicomtest.Shared(t, "robustness", "pydicom"), "rtstruct.dcm"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := rtstruct.Read(bytes.NewReader(b), int64(len(b)), dicom.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Structures) == 0 || s.FrameOfReferenceUID == "" {
		t.Errorf("%d structures in frame %q", len(s.Structures), s.FrameOfReferenceUID)
	}
	for _, r := range s.Structures {
		t.Logf("%q", r.Name)
	}
}

func FuzzRead(f *testing.F) {
	z := dicomtest.OpenZip(f, filepath.Join("testdata", "golden.zip"))
	for _, name := range []string{"axial.dcm", "oblique.dcm"} {
		b, err := fs.ReadFile(z, name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	g := dicomtest.Image(f, "oblique").Grid
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := rtstruct.Read(bytes.NewReader(b), int64(len(b)), dicom.Limits{MaxHeaderBytes: 1 << 20, MaxElements: 1 << 14})
		if err != nil {
			if !errors.Is(err, volume.ErrFormat) && !errors.Is(err, volume.ErrTooLarge) && !errors.Is(err, volume.ErrUnsupported) {
				t.Fatalf("error of no class: %v", err)
			}
			return
		}
		if got, err := s.On(g); err == nil {
			if err := got.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
