package format_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"scrawl/adapters/format"
	"scrawl/adapters/nrrd"
	"scrawl/adapters/volume"
)

// again writes a label map and reads it back.
func again(t *testing.T, name string, m *volume.LabelMap) {
	t.Helper()
	var b bytes.Buffer
	if err := format.EncodeLabels(name, &b, m, format.Options{}); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	back, err := format.DecodeLabels(name, &b, volume.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if err := m.SameGrid(back.Geometry); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	back.Geometry = m.Geometry
	if back.Hash() != m.Hash() {
		t.Errorf("%s: labels differ after writing and reading", name)
	}
}

func ramp() *volume.LabelMap {
	g := volume.New([3]int{4, 3, 2}, [3]float64{1, 2, 3})
	g.Origin = [3]float64{-7, 8, 9}
	m := volume.NewLabelMap(g)
	for i := range m.Labels {
		m.Labels[i] = uint16(i * 10)
	}
	return m
}

func TestExt(t *testing.T) {
	for name, want := range map[string]string{
		"x.nii.gz": ".nii.gz", "a.b.NII.GZ": ".nii.gz", "case_1.seg.nrrd": ".seg.nrrd", "x.nrrd": ".nrrd", "x": "", "": "",
		`C:\scans\x.nii`: ".nii", "/srv/a.d/x": "", "x.bin": ".bin", "x.gz": ".gz", "x.NHDR": ".nhdr",
	} {
		if got := format.Ext(name); got != want {
			t.Errorf("Ext(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestKnownExtensions(t *testing.T) {
	for _, ext := range []string{".nii", ".nii.gz", ".nrrd", ".seg.nrrd"} {
		if !format.Writable(ext) || !format.Readable(ext) {
			t.Errorf("%s is not known", ext)
		}
	}
	for _, ext := range []string{"", ".png", ".bin", ".gz", ".nhdr"} {
		if format.Writable(ext) {
			t.Errorf("%q can be written", ext)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, name := range []string{"a.nii", "a.nii.gz", "a.nrrd", "a.seg.nrrd"} {
		again(t, name, ramp())
	}
	v := volume.NewVolume(ramp().Geometry)
	for i := range v.Voxels {
		v.Voxels[i] = float32(i) - 3.5
	}
	for _, name := range []string{"a.nii", "a.nii.gz", "a.nrrd"} {
		var b bytes.Buffer
		if err := format.Encode(name, &b, v, format.Options{Compress: true}); err != nil {
			t.Fatal(err)
		}
		back, err := format.Decode(name, iotest.HalfReader(&b), volume.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.SameGrid(back.Geometry); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if back.Voxels[5] != 1.5 {
			t.Errorf("%s: voxel 5 is %g, want 1.5", name, back.Voxels[5])
		}
	}
}

// TestMagic reads files whose names say nothing.
func TestMagic(t *testing.T) {
	for _, name := range []string{"a.nii", "a.nii.gz", "a.nrrd"} {
		var b bytes.Buffer
		if err := format.EncodeLabels(name, &b, ramp(), format.Options{Compress: true}); err != nil {
			t.Fatal(err)
		}
		for _, other := range []string{"", "scan", "tmp.x7f"} {
			m, err := format.DecodeLabels(other, iotest.OneByteReader(bytes.NewReader(b.Bytes())), volume.Limits{})
			if err != nil || m.Labels[3] != 30 {
				t.Errorf("%s under the name %q: %v", name, other, err)
			}
		}
	}
	_, err := format.Decode("photo.webp", strings.NewReader("RIFF and so on"), volume.Limits{})
	if !errors.Is(err, volume.ErrUnsupported) || !strings.Contains(err.Error(), ".webp") {
		t.Errorf("a photo: %v", err)
	}
	for _, content := range []string{"", "x", "hello world"} {
		if _, err := format.Decode("", strings.NewReader(content), volume.Limits{}); !errors.Is(err, volume.ErrFormat) {
			t.Errorf("%q: %v", content, err)
		}
	}
	if _, err := format.Decode("scan", iotest.ErrReader(errors.ErrUnsupported), volume.Limits{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("the reader's own error became %v", err)
	}
}

func TestDTypes(t *testing.T) {
	m := ramp()
	m.Labels[7] = 300
	for _, name := range []string{"a.nii", "a.nrrd", "a.seg.nrrd"} {
		var b bytes.Buffer
		err := format.EncodeLabels(name, &b, m, format.Options{DType: "uint8"})
		if err == nil || !strings.Contains(err.Error(), "label 300 at voxel [3 1 0] does not fit uint8") || b.Len() > 0 {
			t.Errorf("%s: %v, with %d bytes written", name, err, b.Len())
		}
		if err := format.EncodeLabels(name, &b, m, format.Options{DType: "complex64"}); !errors.Is(err, volume.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
		for _, dtype := range volume.DTypes() {
			if dtype.Bytes() == 1 {
				continue
			}
			var b bytes.Buffer
			if err := format.EncodeLabels(name, &b, m, format.Options{DType: string(dtype)}); err != nil {
				t.Fatal(err)
			}
			back, err := format.DecodeLabels(name, &b, volume.Limits{})
			if err != nil || back.Labels[7] != 300 {
				t.Errorf("%s as %s: %v", name, dtype, err)
			}
		}
	}
	if err := format.EncodeLabels("a.png", &bytes.Buffer{}, m, format.Options{}); !errors.Is(err, volume.ErrUnsupported) {
		t.Errorf("png: %v", err)
	}
}

func TestSegmentNames(t *testing.T) {
	var b bytes.Buffer
	o := format.Options{Segments: []nrrd.Segment{{ID: "s1", Name: "left kidney", Label: 10, Color: [3]float64{1, 0.5, 0}}}}
	if err := format.EncodeLabels("a.seg.nrrd", &b, ramp(), o); err != nil {
		t.Fatal(err)
	}
	s, err := nrrd.DecodeSegmentation(&b, nil, volume.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Segments) != 1 || s.Segments[0] != o.Segments[0] {
		t.Errorf("segments %v, want %v", s.Segments, o.Segments)
	}
}

func TestDecodeBin(t *testing.T) {
	m := ramp()
	for _, width := range []int{1, 2} {
		b := make([]byte, width*len(m.Labels))
		for i, label := range m.Labels {
			if width == 1 {
				b[i] = byte(label)
			} else {
				binary.LittleEndian.PutUint16(b[2*i:], label)
			}
		}
		got, err := format.DecodeBin(bytes.NewReader(b), m.Geometry)
		if err != nil {
			t.Fatal(err)
		}
		if got.Hash() != m.Hash() {
			t.Errorf("%d bytes a voxel: labels %v", width, got.Labels)
		}
	}
	for _, n := range []int{0, 23, 25, 47, 49, 5000} {
		if _, err := format.DecodeBin(bytes.NewReader(make([]byte, n)), m.Geometry); !errors.Is(err, volume.ErrFormat) {
			t.Errorf("%d bytes for 24 voxels: %v", n, err)
		}
	}
}
