package format_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scrawl/adapters/format"
	"scrawl/adapters/nifti"
	"scrawl/adapters/volume"
)

// sharedData is a folder of real images, beside the repository or where SCRAWL_SHARED says.
func sharedData(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("SCRAWL_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	dir = filepath.Join(dir, "data")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("SCRAWL_REQUIRE") == "1" && os.Getenv("SCRAWL_SHARED") != "" {
			t.Fatalf("no real images: %v", err)
		}
		t.Skipf("SKIPPED, no real images at %s: run SCRAWL_SHARED=/folder/with/data go test ./adapters/format", dir)
	}
	return dir
}

func open(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// expectation is one entry of derived/manifest.json.
type expectation struct {
	File     string      `json:"file"`
	Expect   string      `json:"expect"`
	Shape    *[3]int     `json:"shape"`
	Mean     *float64    `json:"image_mean"`
	Voxel    *float64    `json:"voxel_volume"`
	Labels   *int        `json:"label_voxels"`
	Centroid *[3]float64 `json:"label_centroid_ras"`
}

func TestDerivedFiles(t *testing.T) {
	dir := filepath.Join(sharedData(t), "robustness", "derived")
	raw, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all []expectation
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		t.Run(e.File, func(t *testing.T) {
			var v *volume.Volume
			var err error
			path := filepath.Join(dir, e.File)
			if base, ok := strings.CutSuffix(path, ".img"); ok {
				if _, err := format.Decode(e.File, open(t, path), volume.Limits{}); err == nil {
					t.Error("one half of a pair was taken for an image")
				}
				if _, err := format.Decode("pair.hdr", open(t, base+".hdr"), volume.Limits{}); !errors.Is(err, volume.ErrUnsupported) {
					t.Errorf("the other half: %v", err)
				}
				v, err = nifti.DecodePair(open(t, base+".hdr"), open(t, path), volume.Limits{})
				if err != nil {
					t.Fatal(err)
				}
			} else {
				v, err = format.Decode(e.File, open(t, path), volume.Limits{})
			}
			if format.Ext(e.File) == ".mha" {
				if !errors.Is(err, volume.ErrUnsupported) {
					t.Errorf("MetaImage: %v, want a clear refusal", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			e.checkImage(t, v)
			if e.Labels != nil {
				name := strings.TrimSuffix(path, ".nii.gz") + ".label.nii.gz"
				m, err := format.DecodeLabels(name, open(t, name), volume.Limits{})
				if err != nil {
					t.Fatal(err)
				}
				if err := v.SameGrid(m.Geometry); err != nil {
					t.Error(err)
				}
				e.checkLabels(t, m)
			}
		})
	}
}

func (e expectation) checkImage(t *testing.T, v *volume.Volume) {
	t.Helper()
	if e.Shape != nil && v.Size != *e.Shape {
		t.Errorf("size %v, want %v", v.Size, *e.Shape)
	}
	var sum float64
	for _, x := range v.Voxels {
		sum += float64(x)
	}
	if mean := sum / float64(len(v.Voxels)); e.Mean != nil && math.Abs(mean-*e.Mean) > 1e-3 {
		t.Errorf("mean %.4f, want %.4f", mean, *e.Mean)
	}
	if got := v.Spacing[0] * v.Spacing[1] * v.Spacing[2] * math.Abs(v.Determinant()); e.Voxel != nil && math.Abs(got-*e.Voxel) > 1e-3 {
		t.Errorf("voxels of %.4f mm³, want %.4f", got, *e.Voxel)
	}
}

func (e expectation) checkLabels(t *testing.T, m *volume.LabelMap) {
	t.Helper()
	var sum [3]float64
	n := 0
	for at, label := range m.Labels {
		if label == 0 {
			continue
		}
		n++
		i, j, k := at%m.Size[0], at/m.Size[0]%m.Size[1], at/m.Size[0]/m.Size[1]
		p := m.IndexToWorld([3]float64{float64(i), float64(j), float64(k)})
		for c := range 3 {
			sum[c] += p[c]
		}
	}
	if n != *e.Labels {
		t.Fatalf("%d labelled voxels, want %d", n, *e.Labels)
	}
	ras := [3]float64{-sum[0] / float64(n), -sum[1] / float64(n), sum[2] / float64(n)}
	for c := range 3 {
		if math.Abs(ras[c]-e.Centroid[c]) > 2e-3 {
			t.Errorf("centroid (RAS) %.3f, want %.3f", ras, *e.Centroid)
			break
		}
	}
}

func TestFilesOfOtherProjects(t *testing.T) {
	dir := filepath.Join(sharedData(t), "robustness")
	for name, want := range map[string]struct {
		size [3]int
		err  error
	}{
		"nibabel/standard.nii.gz":              {size: [3]int{4, 5, 7}},
		"nibabel/anatomical.nii":               {size: [3]int{33, 41, 25}},
		"nibabel/example4d.nii.gz":             {err: volume.ErrUnsupported},
		"nibabel/example_nifti2.nii.gz":        {err: volume.ErrUnsupported},
		"pynrrd/BallBinary30x30x30.nrrd":       {size: [3]int{30, 30, 30}},
		"pynrrd/BallBinary30x30x30_gz.nrrd":    {size: [3]int{30, 30, 30}},
		"pydicom/CT_small.dcm":                 {err: volume.ErrUnsupported},
		"../volumes/mr_brain_vxm/image.nii.gz": {size: [3]int{160, 192, 224}},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := format.Decode(name, open(t, filepath.Join(dir, name)), volume.Limits{})
			if !errors.Is(err, want.err) {
				t.Fatalf("error %v, want %v", err, want.err)
			}
			if want.err == nil && v.Size != want.size {
				t.Errorf("size %v, want %v", v.Size, want.size)
			}
		})
	}
}

// TestVolumesAndLabels holds that each real image and its label map lie on one grid, and survive being written in each format.
func TestVolumesAndLabels(t *testing.T) {
	images, err := filepath.Glob(filepath.Join(sharedData(t), "volumes", "*", "label.nii.gz"))
	if err != nil || len(images) == 0 {
		t.Fatalf("no volumes: %v", err)
	}
	for _, label := range images {
		dir := filepath.Dir(label)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			v, err := format.Decode("image.nii.gz", open(t, filepath.Join(dir, "image.nii.gz")), volume.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			m, err := format.DecodeLabels("label.nii.gz", open(t, label), volume.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if err := v.SameGrid(m.Geometry); err != nil {
				t.Error(err)
			}
			for _, name := range []string{"a.nii", "a.nii.gz", "a.nrrd", "a.seg.nrrd"} {
				again(t, name, m)
			}
		})
	}
}
