package dicomseg_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"pgregory.net/rapid"

	"scrawl/adapters/dicom"
	"scrawl/adapters/dicom/dicomtest"
	"scrawl/adapters/dicomseg"
	"scrawl/adapters/nifti"
	"scrawl/adapters/volume"
)

var update = flag.Bool("update", false, "make testdata/written.zip anew; check it with check_written.py")

func read(t testing.TB, b []byte) *dicomseg.Segmentation {
	t.Helper()
	s, err := dicomseg.Read(bytes.NewReader(b), int64(len(b)), dicom.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReadsHighdicom(t *testing.T) {
	z := dicomtest.OpenZip(t, filepath.Join("testdata", "golden.zip"))
	var all []struct {
		File, Series, Kind string
		Labels             []uint16
		Overlapping        int
	}
	if dicomtest.ReadJSON(t, z, "expect.json", &all); len(all) < 15 {
		t.Fatal(len(all))
	}
	for _, want := range all {
		t.Run(want.File, func(t *testing.T) {
			b, err := fs.ReadFile(z, want.File)
			if err != nil {
				t.Fatal(err)
			}
			s := read(t, b)
			image := dicomtest.Image(t, want.Series)
			got, err := s.On(image.Grid)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.Labels, want.Labels) || got.Outside != 0 {
				t.Errorf("labels differ; %d voxels outside", got.Outside)
			}
			if (got.Overlapping > 0) != (want.Overlapping > 0) {
				t.Errorf("%d voxels overlap, want %d", got.Overlapping, want.Overlapping)
			}
			if string(s.Kind) != want.Kind || !slices.Equal(s.SourceSeries, []string{image.Series.UID}) {
				t.Errorf("%s of series %v, want %s of %s", s.Kind, s.SourceSeries, want.Kind, image.Series.UID)
			}
			if first := s.Segments[0]; first.Label == 1 && (first.Name != "Leber äöü" || first.Type != (dicomseg.Code{Value: "10200004", Scheme: "SCT", Meaning: "Liver"}) ||
				first.Color == nil || math.Abs(first.Color[1]-0.5) > 0.01) {
				t.Errorf("segment %+v", first)
			}
			if want.Series == "gap" || want.Series == "tilted" {
				return
			}
			// Its own grid has the frames in the same places.
			g, err := s.Grid()
			if err != nil {
				t.Fatal(err)
			}
			own, err := s.OnGeometry(g)
			if err != nil || own.Outside != 0 {
				t.Fatalf("on its own grid: %v", err)
			}
			if count(own.Labels) != count(want.Labels) {
				t.Errorf("%d voxels on its own grid, want %d", count(own.Labels), count(want.Labels))
			}
		})
	}
}

func count(labels []uint16) (n int) {
	for _, l := range labels {
		if l != 0 {
			n++
		}
	}
	return n
}

func TestMasksOfOverlappingSegments(t *testing.T) {
	b, err := fs.ReadFile(dicomtest.OpenZip(t, filepath.Join("testdata", "golden.zip")), "overlapping.dcm")
	if err != nil {
		t.Fatal(err)
	}
	s, image := read(t, b), dicomtest.Image(t, "axial")
	all, err := s.On(image.Grid)
	if err != nil {
		t.Fatal(err)
	}
	claimed, either := 0, make([]uint16, len(all.Labels))
	for _, seg := range s.Segments {
		m, err := s.Mask(seg.Label, image.Geometry)
		if err != nil {
			t.Fatal(err)
		}
		claimed += count(m.Labels)
		for n, v := range m.Labels {
			either[n] |= v
		}
	}
	if count(either) != count(all.Labels) || claimed-count(either) == 0 {
		t.Errorf("%d voxels in %d claims, the label map has %d", count(either), claimed, count(all.Labels))
	}
}

type writing struct {
	File    string        `json:"file"`
	Series  string        `json:"series"`
	Kind    dicomseg.Kind `json:"kind"`
	Size    [3]int        `json:"size"`
	Labels  []uint16      `json:"labels"`
	Names   []string      `json:"names"`
	Numbers []uint16      `json:"numbers"`
	Frames  []int         `json:"frames"` // the source's frame of each slice, counted from 1
}

// TestWritten holds that segmentations are written byte for byte as highdicom and dciodvfy have approved them (check_written.py).
func TestWritten(t *testing.T) {
	orange, long := [3]float64{1, 0.5, 0}, strings.Repeat("Length ", 20)
	files := map[string][]byte{}
	var all []writing
	for _, folder := range []string{"axial", "descending", "oblique", "tilted", "gap", "sagittal", "enhanced", "rle", "bare", "localizer", "deflated"} {
		image := dicomtest.Image(t, folder)
		for _, kind := range []dicomseg.Kind{dicomseg.Binary, dicomseg.LabelMap} {
			m := volume.NewLabelMap(image.Geometry)
			for n := range m.Labels {
				if k := n / 30; k != 1 { // one slice stays empty
					m.Labels[n] = [4]uint16{0, 1, 3, 0}[(n*n/3+k)%4]
				}
			}
			segments := []dicomseg.Segment{{Label: 1, Name: "left kidney", Color: &orange, AlgorithmType: "AUTOMATIC", AlgorithmName: "scribbles"},
				{Label: 3, Name: long + `\山`, AlgorithmType: "MANUAL"}, {Label: 2, Name: "tumor"}, {Label: 9, Name: "Größe 山"}}
			var b bytes.Buffer
			err := dicomseg.Encode(&b, m, segments, image.Grid, dicomseg.Options{Kind: kind, Creator: "Test^A", Description: "labels",
				Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), SeriesUID: dicom.DerivedUID(folder + string(kind)), InstanceUID: dicom.DerivedUID("i" + folder + string(kind))})
			if err != nil {
				t.Fatal(err)
			}
			w := writing{File: folder + "_" + string(kind) + ".dcm", Series: folder, Kind: kind, Size: m.Size, Labels: m.Labels, Numbers: []uint16{1, 3, 2, 9},
				Names: []string{"left kidney", strings.TrimSpace(string([]rune(long)[:64])), "tumor", "Größe 山"}}
			for _, s := range image.Grid.Slices {
				w.Frames = append(w.Frames, s.Frame+1)
			}
			files[w.File] = b.Bytes()
			all = append(all, w)
			checkBack(t, w, b.Bytes(), image)
		}
	}
	dicomtest.Written(t, *update, files, all)
}

// checkBack reads a written segmentation again.
func checkBack(t *testing.T, w writing, b []byte, image *dicom.Image) {
	t.Helper()
	s := read(t, b)
	got, err := s.On(image.Grid)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range w.Labels {
		if w.Kind == dicomseg.Binary {
			want = map[uint16]uint16{0: 0, 1: 1, 3: 2}[want] // numbered anew in the order of segments
		}
		if got.Labels[n] != want {
			t.Fatalf("%s: voxel %d is %d, want %d", w.File, n, got.Labels[n], want)
		}
	}
	if got.Outside+got.Overlapping != 0 || len(s.Segments) != 4 || s.Segments[0].Name != w.Names[0] || s.Segments[3].Name != w.Names[3] ||
		!strings.HasPrefix(s.Segments[1].Name, w.Names[1]) || !strings.HasSuffix(s.Segments[1].Name, " /山") || s.Segments[2].Category.Value != "49755003" {
		t.Errorf("%s: segments %+v", w.File, s.Segments)
	}
}

// TestRoundTrip holds that any label map comes back as it was, whatever is empty in it.
func TestRoundTrip(t *testing.T) {
	image := dicomtest.Image(t, "oblique")
	rapid.Check(t, func(t *rapid.T) {
		m := volume.NewLabelMap(image.Geometry)
		labels := rapid.SliceOfNDistinct(rapid.Uint16Range(1, 65535), 1, 5, rapid.ID).Draw(t, "labels")
		for range rapid.IntRange(0, 40).Draw(t, "voxels") {
			m.Labels[rapid.IntRange(0, len(m.Labels)-1).Draw(t, "n")] = rapid.SampledFrom(labels).Draw(t, "label")
		}
		kind := rapid.SampledFrom([]dicomseg.Kind{dicomseg.Binary, dicomseg.LabelMap}).Draw(t, "kind")
		var segments []dicomseg.Segment
		for _, l := range labels {
			segments = append(segments, dicomseg.Segment{Label: l, Name: rapid.StringMatching(`[a-z äß山]{0,70}`).Draw(t, "name")})
		}
		var b bytes.Buffer
		if err := dicomseg.Encode(&b, m, segments, image.Grid, dicomseg.Options{Kind: kind}); err != nil {
			t.Fatal(err)
		}
		s, err := dicomseg.Read(bytes.NewReader(b.Bytes()), int64(b.Len()), dicom.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.OnGeometry(image.Geometry)
		if err != nil {
			t.Fatal(err)
		}
		for n, want := range m.Labels {
			if kind == dicomseg.Binary && want != 0 {
				want = uint16(slices.Index(labels, want) + 1)
			}
			if got.Labels[n] != want {
				t.Fatalf("voxel %d is %d, want %d", n, got.Labels[n], want)
			}
		}
	})
}

// TestOtherGrids puts a segmentation on grids that turn, flip and refine its own: the object stays where it is in the patient.
func TestOtherGrids(t *testing.T) {
	image := dicomtest.Image(t, "oblique")
	m := volume.NewLabelMap(image.Geometry)
	for _, v := range [][3]int{{1, 1, 1}, {2, 1, 1}, {2, 2, 1}, {1, 1, 2}, {4, 3, 2}} {
		m.Labels[m.Index(v[0], v[1], v[2])] = 1
	}
	var b bytes.Buffer
	if err := dicomseg.Encode(&b, m, []dicomseg.Segment{{Label: 1, Name: "x"}}, image.Grid, dicomseg.Options{}); err != nil {
		t.Fatal(err)
	}
	s := read(t, b.Bytes())
	for _, order := range [][3]int{{0, 1, 2}, {1, 0, 2}, {2, 1, 0}, {1, 2, 0}} {
		for flip := range 8 {
			for _, fine := range []int{1, 3} {
				g := turned(image.Geometry, order, flip, fine)
				got, err := s.OnGeometry(g)
				if err != nil {
					t.Fatal(err)
				}
				for n, l := range got.Labels {
					p := image.WorldToIndex(g.IndexToWorld([3]float64{float64(n % g.Size[0]), float64(n / g.Size[0] % g.Size[1]), float64(n / g.Size[0] / g.Size[1])}))
					i, j, k := int(math.Round(p[0])), int(math.Round(p[1])), int(math.Round(p[2]))
					if want := m.Labels[m.Index(i, j, k)]; l != want {
						t.Fatalf("axes %v, flips %03b, %d times as fine: voxel %d is %d, want %d", order, flip, fine, n, l, want)
					}
				}
			}
		}
	}
	away := image.Geometry
	away.Origin[0] += 1000
	if _, err := s.OnGeometry(away); !errors.Is(err, volume.ErrGeometry) {
		t.Errorf("error %v, want %v", err, volume.ErrGeometry)
	}
}

// turned is the same field of view with axes in another order and direction, and fine³ voxels in place of each.
func turned(g volume.Geometry, order [3]int, flip, fine int) volume.Geometry {
	var corner [3]float64
	out := volume.Geometry{}
	for to, from := range order {
		out.Size[to] = g.Size[from] * fine
		out.Spacing[to] = g.Spacing[from] / float64(fine)
		sign := 1.0
		edge := -0.5 + 0.5/float64(fine)
		corner[from] = edge
		if flip>>to&1 == 1 {
			sign = -1
			corner[from] = float64(g.Size[from]-1) - edge
		}
		for r := range 3 {
			out.Direction[r][to] = sign * g.Direction[r][from]
		}
	}
	out.Origin = g.IndexToWorld(corner)
	return out
}

func TestEncodeRefuses(t *testing.T) {
	image := dicomtest.Image(t, "axial")
	m := volume.NewLabelMap(image.Geometry)
	m.Labels[7] = 4
	other := volume.NewLabelMap(image.Crop([3]int{}, [3]int{2, 2, 2}))
	for text, f := range map[string]func() error{
		"voxel [1 1 0] has number 4": func() error {
			return dicomseg.Encode(&bytes.Buffer{}, m, []dicomseg.Segment{{Label: 1}}, image.Grid, dicomseg.Options{})
		},
		"no segment is named": func() error { return dicomseg.Encode(&bytes.Buffer{}, m, nil, image.Grid, dicomseg.Options{}) },
		"numbers from 1 that differ": func() error {
			return dicomseg.Encode(&bytes.Buffer{}, m, []dicomseg.Segment{{Label: 4}, {Label: 4}}, image.Grid, dicomseg.Options{})
		},
		"want BINARY or LABELMAP": func() error {
			return dicomseg.Encode(&bytes.Buffer{}, m, []dicomseg.Segment{{Label: 4}}, image.Grid, dicomseg.Options{Kind: "FRACTIONAL"})
		},
		"grids differ": func() error {
			return dicomseg.Encode(&bytes.Buffer{}, other, []dicomseg.Segment{{Label: 4}}, image.Grid, dicomseg.Options{})
		},
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("error %v, want one with %q", err, text)
		}
	}
}

// TestNoTagIsIndispensable takes each element in turn out of all files of a series, but for those without which there are no pixels: the
// image is read and its mask is written all the same.
func TestNoTagIsIndispensable(t *testing.T) {
	whole := dicomtest.Image(t, "axial")
	folder := dicomtest.Folder(t, "axial")
	for _, e := range whole.Series.Header().Elements() {
		switch e.Tag {
		case dicom.Rows, dicom.Columns, dicom.BitsAllocated, dicom.SOPClassUID, dicom.SOPInstanceUID: // the last two Write asks for
			continue
		}
		files := fstest.MapFS{}
		for n, f := range whole.Series.Files {
			d := &dicom.Dataset{}
			for _, other := range f.Elements() {
				if other.Tag != e.Tag {
					d.Copy(f.Dataset, other.Tag)
				}
			}
			b, err := fs.ReadFile(folder, whole.Series.Names[n])
			if err != nil {
				t.Fatal(err)
			}
			d.SetBytes(dicom.PixelData, "OW", b[len(b)-2*5*6:])
			var out bytes.Buffer
			if err := dicom.Write(&out, d); err != nil {
				t.Fatal(err)
			}
			files[fmt.Sprint("series/", n)] = &fstest.MapFile{Data: out.Bytes()}
		}
		image, err := dicom.ReadFolder(t.Context(), files, dicom.Limits{})
		if err != nil || image.Size != whole.Size {
			t.Errorf("without %v: %v", e.Tag, err)
			continue
		}
		m := volume.NewLabelMap(image.Geometry)
		m.Labels[17], m.Labels[100] = 1, 1
		var b bytes.Buffer
		if err := dicomseg.Encode(&b, m, []dicomseg.Segment{{Label: 1, Name: "x"}}, image.Grid, dicomseg.Options{}); err != nil {
			t.Errorf("without %v: %v", e.Tag, err)
			continue
		}
		if got, err := read(t, b.Bytes()).On(image.Grid); err != nil || !slices.Equal(got.Labels, m.Labels) {
			t.Errorf("without %v the mask does not come back: %v", e.Tag, err)
		}
	}
}

// TestRealSegmentations reads dcmqi's files onto their series.
func TestRealSegmentations(t *testing.T) {
	const liver, tiny = "4a5fc13506b4cb55dc0315b2ad3d6a2a869a659740118cf2698dbbc3254bac19", "713afc739bba69fabba3562a572605de63c1dbe31482f7193722a6028cb520b2"
	dir := dicomtest.Shared(t, "dicom")
	for _, test := range []struct {
		series, file, sha256 string // of the frames as pydicom unpacks them, sorted by position
	}{{"seg_ct3slice/series", "seg_ct3slice/seg/liver.dcm", liver}, {"seg_tiny_23x38x3/image", "seg_tiny_23x38x3/seg/label.seg", tiny},
		{"seg_tiny_23x38x3/multiframe", "seg_tiny_23x38x3/seg/label.seg", tiny}} {
		image, err := dicom.ReadFolder(t.Context(), os.DirFS(filepath.Join(dir, test.series)), dicom.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, test.file))
		if err != nil {
			t.Fatal(err)
		}
		s := read(t, b)
		got, err := s.On(image.Grid)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		if err := binary.Write(h, binary.LittleEndian, got.Labels); err != nil {
			t.Fatal(err)
		}
		if sum := fmt.Sprintf("%x", h.Sum(nil)); sum != test.sha256 || got.Outside != 0 || s.Segments[0].Name != "Liver" {
			t.Errorf("%s: hash %s of %q, %d voxels outside, want %s of Liver", test.file, sum, s.Segments[0].Name, got.Outside, test.sha256)
		}
	}
}

// TestRealLabelMap writes a label map of many structures of a real series, whose files name no study, series or instance, and reads it
// back.
func TestRealLabelMap(t *testing.T) {
	dir := filepath.Join(dicomtest.Shared(t, "dicom"), "ct_abdomen_siemens_j2k")
	f, err := os.Open(filepath.Join(dir, "label.nii.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	m, err := nifti.DecodeLabels(f, volume.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := dicom.OpenFolder(t.Context(), os.DirFS(filepath.Join(dir, "series")), dicom.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	grid, err := s.Grid()
	if err != nil {
		t.Fatal(err)
	}
	if err := grid.SameGrid(m.Geometry); err != nil { // the label was made by others on the grid of this series
		t.Fatal(err)
	}
	var segments []dicomseg.Segment
	var present [256]bool
	for _, label := range m.Labels {
		present[label] = true
	}
	for label := range uint16(256) {
		if present[label] && label != 0 {
			segments = append(segments, dicomseg.Segment{Label: label, Name: fmt.Sprint("structure ", label)})
		}
	}
	if len(segments) < 20 {
		t.Fatalf("%d structures", len(segments))
	}
	var b bytes.Buffer
	if err := dicomseg.Encode(&b, m, segments, grid, dicomseg.Options{}); err != nil {
		t.Fatal(err)
	}
	back := read(t, b.Bytes())
	got, err := back.On(grid)
	if err != nil {
		t.Fatal(err)
	}
	for n, l := range m.Labels {
		if l != 0 && back.Segments[got.Labels[n]-1].Name != fmt.Sprint("structure ", l) || l == 0 && got.Labels[n] != 0 {
			t.Fatalf("voxel %d is %d, want structure %d", n, got.Labels[n], l)
		}
	}
}

func FuzzRead(f *testing.F) {
	z := dicomtest.OpenZip(f, filepath.Join("testdata", "golden.zip"))
	for _, name := range []string{"binary_oblique.dcm", "labelmap_axial.dcm", "fractional_rle.dcm"} {
		b, err := fs.ReadFile(z, name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	image := dicomtest.Image(f, "oblique")
	f.Fuzz(func(t *testing.T, b []byte) {
		lim := dicom.Limits{Limits: volume.Limits{MaxVoxels: 1 << 18, MaxBytes: 1 << 22}, MaxHeaderBytes: 1 << 20, MaxElements: 1 << 14}
		s, err := dicomseg.Read(bytes.NewReader(b), int64(len(b)), lim)
		if err != nil {
			if !errors.Is(err, volume.ErrFormat) && !errors.Is(err, volume.ErrTooLarge) && !errors.Is(err, volume.ErrUnsupported) {
				t.Fatalf("error of no class: %v", err)
			}
			return
		}
		if got, err := s.On(image.Grid); err == nil {
			if err := got.Validate(); err != nil {
				t.Fatal(err)
			}
		}
		if g, err := s.Grid(); err == nil {
			if err := g.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
