package nrrd_test

import (
	"archive/zip"
	"bytes"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"testing"

	"scrawl/adapters/nrrd"
	"scrawl/adapters/volume"
)

var update = flag.Bool("update", false, "write testdata/written.zip anew; then run testdata/check_written.py over it")

// written are files as this package writes them.
func written(t *testing.T) map[string][]byte {
	files := map[string][]byte{}
	g := volume.New([3]int{3, 4, 5}, [3]float64{0.8, 1.25, 3})
	a, b := 0.3, -0.2
	g.Direction = [3][3]float64{
		{math.Cos(a), -math.Sin(a), 0},
		{math.Cos(b) * math.Sin(a), math.Cos(b) * math.Cos(a), -math.Sin(b)},
		{math.Sin(b) * math.Sin(a), math.Sin(b) * math.Cos(a), math.Cos(b)},
	}
	g.Origin = [3]float64{-12.5, 33, 7}
	m, v := volume.NewLabelMap(g), volume.NewVolume(g)
	for i := range m.Labels {
		m.Labels[i], v.Voxels[i] = uint16(i*2), float32(i*2)
	}
	for _, dtype := range volume.DTypes() {
		for _, packed := range []bool{false, true} {
			o := nrrd.Options{DType: dtype, Compress: packed}
			files[fmt.Sprintf("labels_%s_%v.nrrd", dtype, packed)] = drain(t, func(w io.Writer) error { return nrrd.EncodeLabels(w, m, o) })
		}
	}
	files["image_float32_false.nrrd"] = drain(t, func(w io.Writer) error { return nrrd.Encode(w, v, nrrd.Options{}) })
	s := &nrrd.Segmentation{LabelMap: m, Segments: []nrrd.Segment{{ID: "a", Name: "liver", Label: 2}}}
	files["segments_uint8_false.seg.nrrd"] = drain(t, func(w io.Writer) error { return nrrd.EncodeSegmentation(w, s, nrrd.Options{}) })
	return files
}

// TestWritten holds that this package still writes what pynrrd and SimpleITK have read right (testdata/check_written.py). What is
// behind the header of compressed files may change with the compressor.
func TestWritten(t *testing.T) {
	files := written(t)
	const path = "testdata/written.zip"
	if *update {
		writeZip(t, path, files)
	}
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = z.Close() }()
	if len(z.File) != len(files) {
		t.Errorf("%d files, want %d: run with -update", len(files), len(z.File))
	}
	for _, f := range z.File {
		want, err := fs.ReadFile(z, f.Name)
		if err != nil {
			t.Fatal(err)
		}
		got := files[f.Name]
		if head, _, ok := bytes.Cut(want, []byte("\n\n")); ok && bytes.Contains(head, []byte("gzip")) {
			want = head
			got, _, _ = bytes.Cut(got, []byte("\n\n"))
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is written in another way: run with -update, then testdata/check_written.py", f.Name)
		}
	}
}

func writeZip(t *testing.T, path string, files map[string][]byte) {
	t.Helper()
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write(files[name])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
