package nrrd_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"scrawl/adapters/nrrd"
	"scrawl/adapters/volume"
)

// TestLayoutOfTheIncumbent compares with the header that MONAI Label sends, byte for byte.
func TestLayoutOfTheIncumbent(t *testing.T) {
	const want = `NRRD0004
# Complete NRRD file format specification at:
# http://teem.sourceforge.net/nrrd/format.html
type: unsigned char
dimension: 3
space: left-posterior-superior
sizes: 48 40 24
space directions: (1.5,0,0) (0,1.5,0) (0,0,3)
kinds: domain domain domain
encoding: raw
space origin: (-30,-40,-20)

`
	g := volume.New([3]int{48, 40, 24}, [3]float64{1.5, 1.5, 3})
	g.Origin = [3]float64{-30, -40, -20}
	m := volume.NewLabelMap(g)
	file := drain(t, func(w io.Writer) error { return nrrd.EncodeLabels(w, m, nrrd.Options{}) })
	if got := string(file[:len(file)-g.Voxels()]); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	m.Labels[0] = 256
	file = drain(t, func(w io.Writer) error { return nrrd.EncodeLabels(w, m, nrrd.Options{Compress: true}) })
	for _, line := range []string{"\ntype: unsigned short\n", "\nkinds: domain domain domain\nendian: little\nencoding: gzip\nspace origin:"} {
		if !strings.Contains(string(file), line) {
			t.Errorf("%q is missing in\n%.400s", line, file)
		}
	}
}

func drawGeometry(t *rapid.T) volume.Geometry {
	g := volume.New([3]int{}, [3]float64{})
	perm := rapid.Permutation([]int{0, 1, 2}).Draw(t, "axes")
	a := rapid.Float64Range(-0.7, 0.7).Draw(t, "tilt")
	for c, r := range perm {
		var unit [3]float64
		unit[r] = rapid.SampledFrom([]float64{1, -1}).Draw(t, "sign")
		g.Direction[0][c] = math.Cos(a)*unit[0] - math.Sin(a)*unit[1]
		g.Direction[1][c] = math.Sin(a)*unit[0] + math.Cos(a)*unit[1]
		g.Direction[2][c] = unit[2]
		g.Size[c] = rapid.IntRange(1, 6).Draw(t, "size")
		g.Spacing[c] = rapid.Float64Range(0.001, 8).Draw(t, "spacing")
		g.Origin[c] = rapid.Float64Range(-500, 500).Draw(t, "origin")
	}
	return g
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := drawGeometry(t)
		m, v := volume.NewLabelMap(g), volume.NewVolume(g)
		o := nrrd.Options{DType: rapid.SampledFrom(append(volume.DTypes(), "")).Draw(t, "type"), Compress: rapid.Bool().Draw(t, "compress")}
		for i := range m.Labels {
			m.Labels[i] = uint16(rapid.IntRange(0, 127).Draw(t, "label"))
			v.Voxels[i] = float32(m.Labels[i])
			if o.DType == "" || o.DType.IsFloat() {
				v.Voxels[i] = rapid.Float32().Draw(t, "voxel")
			}
		}
		var b bytes.Buffer
		if err := nrrd.EncodeLabels(&b, m, o); err != nil {
			t.Fatal(err)
		}
		mm, err := nrrd.DecodeLabels(iotest.HalfReader(&b), volume.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		b.Reset()
		if err := nrrd.Encode(&b, v, o); err != nil {
			t.Fatal(err)
		}
		vv, err := nrrd.Decode(&b, volume.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if !g.Equal(mm.Geometry, 1e-9) || !g.Equal(vv.Geometry, 1e-9) {
			t.Fatal(g.Difference(mm.Geometry), g.Difference(vv.Geometry))
		}
		mm.Geometry, vv.Geometry = g, g
		if mm.Hash() != m.Hash() || vv.Hash() != v.Hash() {
			t.Fatalf("voxels %v came back as %v", v.Voxels, vv.Voxels)
		}
	})
}

const base = "NRRD0004\ntype: unsigned char\ndimension: 3\nsizes: 3 4 5\nencoding: raw\n"

func TestRefused(t *testing.T) {
	voxels := strings.Repeat("\x01", 60)
	with := func(old, new string) string { return strings.Replace(base, old, new, 1) + "\n" + voxels }
	for name, test := range map[string]struct {
		file string
		want error
		say  string
	}{
		"empty":                  {"", volume.ErrFormat, "not an NRRD"},
		"text":                   {"hello\n", volume.ErrFormat, "not an NRRD"},
		"version 9":              {with("NRRD0004", "NRRD0009"), volume.ErrUnsupported, "version 9"},
		"no voxels":              {base + "\n", volume.ErrFormat, "after 0 of 60"},
		"half the voxels":        {base + "\n" + voxels[:30], volume.ErrFormat, "after 30 of 60"},
		"header without its end": {base, volume.ErrFormat, "after 0 of 60"},
		"endless header":         {base + strings.Repeat("# x\n", 2<<20), volume.ErrTooLarge, "blank line"},
		"endless line":           {base + strings.Repeat("#", 5<<20), volume.ErrTooLarge, "blank line"},
		"no type":                {with("type: unsigned char\n", ""), volume.ErrFormat, `"type" is missing`},
		"no encoding":            {with("encoding: raw\n", ""), volume.ErrFormat, `"encoding" is missing`},
		"no endian":              {with("unsigned char", "short"), volume.ErrFormat, `"endian" is missing`},
		"odd endian":             {with("unsigned char", "short\nendian: middle"), volume.ErrFormat, "middle"},
		"odd type":               {with("unsigned char", "quaternion"), volume.ErrFormat, "quaternion"},
		"block":                  {with("unsigned char", "block\nblock size: 4"), volume.ErrUnsupported, "block"},
		"odd encoding":           {with("raw", "zstd"), volume.ErrUnsupported, "zstd"},
		"odd line":               {with("type", "what is this\ntype"), volume.ErrFormat, "what is this"},
		"twice":                  {with("type", "type: float\ntype"), volume.ErrFormat, "twice"},
		"dimension 0":            {with("dimension: 3", "dimension: 0"), volume.ErrFormat, "dimension 0"},
		"dimension 99":           {with("dimension: 3", "dimension: 99"), volume.ErrFormat, "dimension 99"},
		"two sizes":              {with("3 4 5", "3 4"), volume.ErrFormat, "2 sizes"},
		"size 0":                 {with("3 4 5", "3 0 5"), volume.ErrFormat, `size "0"`},
		"too many voxels":        {with("3 4 5", "3000 4000 5000"), volume.ErrTooLarge, "3000"},
		"overflow":               {with("3 4 5", "9223372036854775807 9223372036854775807 9223372036854775807"), volume.ErrTooLarge, "voxels"},
		"colours":                {with("dimension: 3\nsizes: 3 4 5", "dimension: 4\nsizes: 3 4 5 1\nkinds: RGB-color domain domain domain"), volume.ErrUnsupported, "3 components"},
		"time":                   {with("dimension: 3\nsizes: 3 4 5", "dimension: 4\nsizes: 3 4 1 5\nkinds: domain domain domain time"), volume.ErrUnsupported, "5 components"},
		"four axes":              {with("dimension: 3\nsizes: 3 4 5", "dimension: 4\nsizes: 3 4 5 6"), volume.ErrUnsupported, "4 axes of space"},
		"space and time":         {with("encoding", "space: left-posterior-superior-time\nencoding"), volume.ErrUnsupported, "time"},
		"odd space":              {with("encoding", "space: outer\nencoding"), volume.ErrFormat, "outer"},
		"directions of length 0": {with("encoding", "space: LPS\nspace directions: (0,0,0) (0,1,0) (0,0,1)\nencoding"), volume.ErrFormat, "axis 0"},
		"directions in a plane":  {with("encoding", "space: LPS\nspace directions: (1,0,0) (1,0,0) (0,0,1)\nencoding"), volume.ErrFormat, "one plane"},
		"two directions":         {with("encoding", "space: LPS\nspace directions: (1,0,0) (0,1,0)\nencoding"), volume.ErrFormat, "2 space directions"},
		"odd directions":         {with("encoding", "space: LPS\nspace directions: (1,0,0) up (0,0,1)\nencoding"), volume.ErrFormat, "up"},
		"odd origin":             {with("encoding", "space origin: 0 0 0\nencoding"), volume.ErrFormat, "space origin"},
		"odd spacings":           {with("encoding", "spacings: 1 two 3\nencoding"), volume.ErrFormat, "two"},
		"odd skip":               {with("encoding", "byte skip: -2\nencoding"), volume.ErrFormat, "byte skip -2"},
		"skip of an exbibyte":    {with("encoding", "byte skip: 1152921504606846976\nencoding"), volume.ErrFormat, "byte skip"},
		"skipped lines":          {with("encoding", "line skip: 5\nencoding"), volume.ErrFormat, "5 lines left"},
		"gzip, not packed":       {with("raw", "gzip"), volume.ErrFormat, "header"},
		"bzip2, not packed":      {with("raw", "bzip2"), volume.ErrFormat, "bzip2"},
		"hex, not hexadecimal":   {with("raw", "hex"), volume.ErrFormat, "hexadecimal"},
		"text, not numbers":      {strings.Replace(base, "raw", "ascii", 1) + "\n1 2 three", volume.ErrFormat, "three"},
		"text, out of range":     {strings.Replace(base, "raw", "ascii", 1) + "\n1 2 300", volume.ErrFormat, "300"},
		"text, endless number":   {strings.Replace(base, "raw", "ascii", 1) + "\n" + strings.Repeat("1", 9000), volume.ErrFormat, "4096"},
		"several files":          {with("encoding", "data file: LIST\nencoding"), volume.ErrUnsupported, "several files"},
		"a pattern of files":     {with("encoding", "data file: s%03d.raw 1 5 1\nencoding"), volume.ErrUnsupported, "several files"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := nrrd.Decode(strings.NewReader(test.file), volume.Limits{MaxVoxels: 1e6})
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.say) {
				t.Errorf("got %v, want %v saying %q", err, test.want, test.say)
			}
		})
	}
}

func TestDetachedStaysInside(t *testing.T) {
	dir := t.TempDir()
	inside := filepath.Join(dir, "inside")
	if err := os.Mkdir(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{filepath.Join(dir, "secret.raw"), filepath.Join(inside, "voxels.raw")} {
		if err := os.WriteFile(name, make([]byte, 60), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(inside)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	if _, err := nrrd.DecodeDetached(strings.NewReader(base+"data file: voxels.raw\n"), root.FS(), volume.Limits{}); err != nil {
		t.Errorf("a file beside the header: %v", err)
	}
	for _, name := range []string{"../secret.raw", filepath.Join(dir, "secret.raw"), "x/../../secret.raw", "not there.raw"} {
		_, err := nrrd.DecodeDetached(strings.NewReader(base+"data file: "+name+"\n"), root.FS(), volume.Limits{})
		if !errors.Is(err, volume.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := nrrd.Decode(strings.NewReader(base+"data file: voxels.raw\n"), volume.Limits{}); !errors.Is(err, volume.ErrUnsupported) {
		t.Errorf("without files: %v", err)
	}
}

func TestBomb(t *testing.T) {
	head := strings.Replace(strings.Replace(base, "3 4 5", "1024 1024 400", 1), "raw", "gzip", 1) + "\n"
	file := head + string(drain(t, func(w io.Writer) error {
		z := gzip.NewWriter(w)
		if _, err := z.Write(make([]byte, 8<<20)); err != nil {
			return err
		}
		return z.Close()
	}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := nrrd.Decode(strings.NewReader(file), volume.Limits{MaxVoxels: 1 << 27}); !errors.Is(err, volume.ErrTooLarge) {
		t.Errorf("beyond the limit: %v", err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
		t.Errorf("refusing took %d bytes", used)
	}
	if _, err := nrrd.Decode(strings.NewReader(file), volume.Limits{}); !errors.Is(err, volume.ErrFormat) {
		t.Errorf("within the limit but without the data: %v", err)
	}
}

func TestReaderErrorsPassThrough(t *testing.T) {
	gone := errors.New("connection lost")
	for _, encoding := range []string{"raw", "gzip", "bzip2", "ascii", "hex"} {
		head := strings.Replace(base, "raw", encoding, 1) + "\n"
		for _, n := range []int{0, 20, len(head)} {
			r := io.MultiReader(strings.NewReader(head[:n]), iotest.ErrReader(gone))
			if _, err := nrrd.Decode(r, volume.Limits{}); !errors.Is(err, gone) || errors.Is(err, volume.ErrFormat) {
				t.Errorf("%s after %d bytes: %v", encoding, n, err)
			}
		}
	}
}

func TestSegmentation(t *testing.T) {
	g := volume.New([3]int{4, 3, 2}, [3]float64{0.5, 2, 3})
	g.Origin, g.Direction[0][0] = [3]float64{1, 2, 3}, -1
	m := volume.NewLabelMap(g)
	m.Labels[g.Index(1, 1, 0)], m.Labels[g.Index(3, 2, 1)] = 7, 9
	want := &nrrd.Segmentation{LabelMap: m, ExtentOffset: [3]int{2, 1, 0}, Segments: []nrrd.Segment{
		{ID: "Segment_1", Name: "liver: left := \\ lobe\nof it", Label: 7, Color: [3]float64{0.25, 0.5, 1}},
		{ID: "other", Name: "spleen", Label: 9}, {ID: "Segment_3", Name: "empty", Label: 3},
	}}
	file := drain(t, func(w io.Writer) error { return nrrd.EncodeSegmentation(w, want, nrrd.Options{Compress: true}) })
	if !strings.Contains(string(file), "Segment0_Extent:=1 1 1 1 0 0\n") || !strings.Contains(string(file), "Segment2_Extent:=0 -1 0 -1 0 -1\n") {
		t.Errorf("extents in\n%.2000s", file)
	}
	got, err := nrrd.DecodeSegmentation(bytes.NewReader(file), nil, volume.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got.Segments) != fmt.Sprint(want.Segments) || got.ExtentOffset != want.ExtentOffset || got.Hash() != m.Hash() {
		t.Errorf("got %+v, want %+v", got, want)
	}

	// On the grid of the image that it was cropped from, and on one that it reaches out of.
	image := g.Crop([3]int{-2, -1, 0}, [3]int{7, 6, 5})
	on, err := got.On(image)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, label := range on.Labels {
		if label != 0 {
			n++
		}
	}
	if n != 2 || on.Labels[image.Index(3, 2, 0)] != 7 || on.Labels[image.Index(5, 3, 1)] != 9 {
		t.Errorf("on the image: %v", on.Labels)
	}
	part := g.Crop([3]int{2, 0, 0}, [3]int{2, 3, 2})
	if on, err = got.On(part); err != nil || on.Labels[part.Index(1, 2, 1)] != 9 {
		t.Errorf("on a part: %v, %v", on, err)
	}
	if on, err = got.On(g.Crop([3]int{90, 0, 0}, [3]int{2, 3, 2})); err != nil || on.Hash() != volume.NewLabelMap(on.Geometry).Hash() {
		t.Errorf("beside it: %v, %v", on, err)
	}
	shifted := image
	shifted.Origin[0] += 0.2
	if _, err := got.On(shifted); !errors.Is(err, volume.ErrGeometry) {
		t.Errorf("on a grid between: %v", err)
	}
}

// layers is a segmentation of 2×1×1 voxels in two layers whose segments overlap in the second voxel.
func layers(first, second int) string {
	return fmt.Sprintf(`NRRD0004
type: unsigned char
dimension: 4
space: left-posterior-superior
sizes: 2 2 1 1
space directions: none (1,0,0) (0,1,0) (0,0,1)
kinds: list domain domain domain
encoding: ascii
space origin: (0,0,0)
Segment0_ID:=a
Segment0_Layer:=0
Segment0_LabelValue:=%d
Segment0_Name:=first
Segment1_ID:=b
Segment1_Layer:=1
Segment1_LabelValue:=%d
Segment1_Name:=second

%d 0 %d %d
`, first, second, first, first, second)
}

func TestLayers(t *testing.T) {
	for _, test := range []struct{ first, second, want0, want1 int }{{1, 1, 1, 2}, {5, 8, 5, 8}} {
		s, err := nrrd.DecodeSegmentation(strings.NewReader(layers(test.first, test.second)), nil, volume.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if s.Labels[0] != uint16(test.want0) || s.Labels[1] != uint16(test.want1) {
			t.Errorf("labels %v, want [%d %d]", s.Labels, test.want0, test.want1)
		}
		if s.Segments[0].Label != uint16(test.want0) || s.Segments[1].Label != uint16(test.want1) {
			t.Errorf("segments %v", s.Segments)
		}
	}
	if _, err := nrrd.Decode(strings.NewReader(layers(1, 1)), volume.Limits{}); !errors.Is(err, volume.ErrUnsupported) {
		t.Errorf("layers as an image: %v", err)
	}
}
