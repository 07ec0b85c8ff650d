package nrrd_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"math"
	"testing"

	"scrawl/adapters/nrrd"
	"scrawl/adapters/volume"
)

// golden is testdata/golden.zip with what pynrrd and SimpleITK read from its files; make_golden.py makes both.
type golden struct {
	fs.FS
	Points [][3]float64
	Files  []struct {
		File   string
		Size   [3]int
		World  [][3]float64 // LPS mm of Points
		Voxels []float32
	}
}

func readGolden(t testing.TB) golden {
	t.Helper()
	z, err := zip.OpenReader("testdata/golden.zip")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = z.Close() })
	g := golden{FS: z}
	if err := json.Unmarshal(g.read(t, "expect.json"), &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g golden) read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := fs.ReadFile(g.FS, name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGolden(t *testing.T) {
	g := readGolden(t)
	for _, want := range g.Files {
		t.Run(want.File, func(t *testing.T) {
			raw := g.read(t, want.File)
			v, err := nrrd.DecodeDetached(bytes.NewReader(raw), g, volume.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			checkGrid(t, v.Geometry, want.Size, g.Points, want.World)
			areLabels := true
			for i, x := range want.Voxels {
				if v.Voxels[i] != x {
					t.Fatalf("voxel %d is %g, want %g", i, v.Voxels[i], x)
				}
				areLabels = areLabels && x >= 0 && x <= 65535 && x == float32(math.Trunc(float64(x)))
			}
			s, err := nrrd.DecodeSegmentation(bytes.NewReader(raw), g, volume.Limits{})
			if (err == nil) != areLabels {
				t.Fatalf("as labels: %v, want them accepted: %v", err, areLabels)
			}
			for i, x := range want.Voxels {
				if err == nil && float32(s.Labels[i]) != x {
					t.Fatalf("label %d is %d, want %g", i, s.Labels[i], x)
				}
			}
		})
	}
}

func checkGrid(t *testing.T, g volume.Geometry, size [3]int, points, world [][3]float64) {
	t.Helper()
	if g.Size != size {
		t.Fatalf("size %v, want %v", g.Size, size)
	}
	for n, p := range points {
		got := g.IndexToWorld(p)
		for c := range 3 {
			if math.Abs(got[c]-world[n][c]) > 1e-9*(1+math.Abs(world[n][c])) {
				t.Fatalf("voxel %v lies at %v, want %v", p, got, world[n])
			}
		}
	}
}

// drain reads what an encoder wrote.
func drain(t testing.TB, write func(w io.Writer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
