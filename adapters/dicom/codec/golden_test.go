package codec_test

import (
	"archive/zip"
	"encoding/json"
	"io/fs"
	"os"
	"testing"

	"scrawl/adapters/dicom/codec"
)

// A goldenFrame is a frame of testdata/golden.zip, which make_golden.py makes with independent coders.
type goldenFrame struct {
	Name, Syntax           string
	Rows, Columns, Samples int
	Allocated, Stored      int
	Signed                 bool
	Want                   string
	Tolerance              int32
	data                   []byte
	samples                []int32
}

func (g goldenFrame) frame() codec.Frame {
	return codec.Frame{
		Rows: g.Rows, Columns: g.Columns, Samples: g.Samples, BitsAllocated: g.Allocated, BitsStored: g.Stored, Signed: g.Signed,
	}
}

// goldenFrames reads testdata/golden.zip, or the file that SCRAWL_CODEC_GOLDEN names.
func goldenFrames(t testing.TB) []goldenFrame {
	t.Helper()
	name := os.Getenv("SCRAWL_CODEC_GOLDEN")
	if name == "" {
		name = "testdata/golden.zip"
	}
	z, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	read := func(name string) []byte {
		b, err := fs.ReadFile(z, name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var frames []goldenFrame
	if err := json.Unmarshal(read("expect.json"), &frames); err != nil {
		t.Fatal(err)
	}
	for i := range frames {
		f := &frames[i]
		f.data = read(f.Name)
		f.samples = nativeSamples(read(f.Want), f.frame())
	}
	return frames
}

func TestGolden(t *testing.T) {
	for _, g := range goldenFrames(t) {
		t.Run(g.Name, func(t *testing.T) {
			img, err := codec.Decode(g.Syntax, g.data, g.frame())
			if err != nil {
				t.Fatal(err)
			}
			within(t, img.Samples, g.samples, g.Tolerance)
			parallel, err := codec.Decoder{Workers: 3}.Decode(g.Syntax, g.data, g.frame())
			if err != nil {
				t.Fatal(err)
			}
			within(t, parallel.Samples, img.Samples, 0)
		})
	}
}
