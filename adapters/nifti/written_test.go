package nifti_test

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

	"scrawl/adapters/nifti"
	"scrawl/adapters/volume"
)

var update = flag.Bool("update", false, "write testdata/written.zip anew; then run testdata/check_written.py over it")

// written are files as this package writes them: every type and version on an oblique grid, left-handed and sheared grids.
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
	grids := map[string]volume.Geometry{"oblique": g}
	left := g
	for r := range 3 {
		left.Direction[r][1] = -left.Direction[r][1]
	}
	grids["left"] = left
	sheared := g
	sheared.Direction = [3][3]float64{{1, 0.6, 0}, {0, 0.8, 0}, {0, 0, 1}}
	grids["sheared"] = sheared
	turned := g
	turned.Direction = [3][3]float64{{1, 0, 0}, {0, -1, 0}, {0, 0, -1}}
	grids["turned"] = turned
	for name, grid := range grids {
		for _, dtype := range volume.DTypes() {
			for version := 1; version <= 2; version++ {
				m := volume.NewLabelMap(grid)
				for i := range m.Labels {
					m.Labels[i] = uint16(i * 2)
				}
				o := nifti.Options{DType: dtype, Version: version}
				files[fmt.Sprintf("%s_%s_v%d.nii", name, dtype, version)] = drain(t, func(w io.Writer) error { return nifti.EncodeLabels(w, m, o) })
			}
		}
	}
	v := volume.NewVolume(g)
	for i := range v.Voxels {
		v.Voxels[i] = float32(i) * 2
	}
	files["oblique_image_v1.nii"] = drain(t, func(w io.Writer) error { return nifti.Encode(w, v, nifti.Options{}) })
	return files
}

// TestWritten holds that this package still writes what nibabel and SimpleITK have read right (testdata/check_written.py).
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
		if !bytes.Equal(files[f.Name], want) {
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
