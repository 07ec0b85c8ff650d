package raster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"testing"
	"testing/iotest"

	"golang.org/x/image/tiff"

	"scrawl/adapters/volume"
)

// paint fills a picture of 3×2 pixels with colours by position.
func paint[T interface {
	image.Image
	Set(x, y int, c color.Color)
}](img T, at func(i int) color.Color) T {
	for i := range 6 {
		img.Set(i%3, i/3, at(i))
	}
	return img
}

func TestDecode(t *testing.T) {
	box := image.Rect(0, 0, 3, 2)
	grey8 := func(i int) color.Color { return color.Gray{Y: uint8(40 * i)} }
	grey16 := func(i int) color.Color { return color.Gray16{Y: uint16(9000 * i)} }
	red := func(i int) color.Color { return color.NRGBA{R: uint8(40 * i), A: 255} }
	faint := func(i int) color.Color { return color.NRGBA{G: uint8(40 * i), A: 100} }
	for name, c := range map[string]struct {
		img  image.Image
		want func(i int) float64
	}{
		"grey":             {paint(image.NewGray(box), grey8), func(i int) float64 { return float64(40 * i) }},
		"grey of 16 bits":  {paint(image.NewGray16(box), grey16), func(i int) float64 { return float64(9000 * i) }},
		"colour":           {paint(image.NewNRGBA(box), red), func(i int) float64 { return 0.299 * float64(40*i) }},
		"half transparent": {paint(image.NewNRGBA(box), faint), func(i int) float64 { return 0.587 * float64(40*i) }},
	} {
		for format, encode := range map[string]func(*bytes.Buffer) error{
			"png":  func(b *bytes.Buffer) error { return png.Encode(b, c.img) },
			"tiff": func(b *bytes.Buffer) error { return tiff.Encode(b, c.img, nil) },
		} {
			var b bytes.Buffer
			if err := encode(&b); err != nil {
				t.Fatal(err)
			}
			v, err := Decode(&b, volume.Limits{})
			if err != nil {
				t.Errorf("%s %s: %v", name, format, err)
				continue
			}
			if v.Size != [3]int{3, 2, 1} || v.Validate() != nil {
				t.Fatalf("%s %s: size %v", name, format, v.Size)
			}
			for i, got := range v.Voxels {
				if math.Abs(float64(got)-c.want(i)) > 0.6 { // encoders may keep colours multiplied by their opacity
					t.Errorf("%s %s: pixel %d is %g, want %g", name, format, i, got, c.want(i))
				}
			}
		}
	}
}

func TestDecodeLabels(t *testing.T) {
	box := image.Rect(0, 0, 3, 2)
	palette := color.Palette{color.Black, color.White, color.NRGBA{R: 200, A: 255}}
	indexed := image.NewPaletted(box, palette)
	for i := range 6 {
		indexed.SetColorIndex(i%3, i/3, uint8(i%3))
	}
	for name, c := range map[string]struct {
		img  image.Image
		want func(i int) uint16
	}{
		"grey":            {paint(image.NewGray(box), func(i int) color.Color { return color.Gray{Y: uint8(i)} }), func(i int) uint16 { return uint16(i) }},
		"grey of 16 bits": {paint(image.NewGray16(box), func(i int) color.Color { return color.Gray16{Y: uint16(300 * i)} }), func(i int) uint16 { return uint16(300 * i) }},
		"palette":         {indexed, func(i int) uint16 { return uint16(i % 3) }},
	} {
		var b bytes.Buffer
		if err := png.Encode(&b, c.img); err != nil {
			t.Fatal(err)
		}
		m, err := DecodeLabels(&b, volume.Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, got := range m.Labels {
			if got != c.want(i) {
				t.Errorf("%s: pixel %d is %d, want %d", name, i, got, c.want(i))
			}
		}
	}
	colour := image.NewNRGBA(box)
	colour.Set(0, 0, color.NRGBA{R: 3, A: 200})
	var p, j bytes.Buffer
	if err := errors.Join(png.Encode(&p, colour), jpeg.Encode(&j, colour, nil)); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*bytes.Buffer{"colour": &p, "JPEG": &j} {
		if _, err := DecodeLabels(b, volume.Limits{}); !errors.Is(err, volume.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// declared is a PNG that says it is large, and holds nothing.
func declared(w, h uint32) []byte {
	b := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
	b = binary.BigEndian.AppendUint32(b, w)
	b = binary.BigEndian.AppendUint32(b, h)
	b = append(b, 8, 0, 0, 0, 0)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[12:]))
}

func TestRefused(t *testing.T) {
	var good bytes.Buffer
	if err := png.Encode(&good, image.NewGray(image.Rect(0, 0, 50, 50))); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the line is cut")
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"nothing":       {nil, volume.ErrFormat},
		"no picture":    {[]byte("once upon a time"), volume.ErrFormat},
		"half a PNG":    {good.Bytes()[:good.Len()/2], volume.ErrFormat},
		"a huge one":    {declared(1<<20, 1<<20), volume.ErrTooLarge},
		"a huge width":  {declared(1<<31-1, 1), volume.ErrTooLarge},
		"only a header": {declared(4, 4), volume.ErrFormat},
	} {
		if _, err := Decode(bytes.NewReader(c.data), volume.Limits{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := Decode(bytes.NewReader(good.Bytes()), volume.Limits{MaxVoxels: 2499}); !errors.Is(err, volume.ErrTooLarge) {
		t.Errorf("more pixels than allowed: %v", err)
	}
	if _, err := Decode(iotest.ErrReader(broken), volume.Limits{}); !errors.Is(err, broken) {
		t.Errorf("a reader's own error became %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	var b bytes.Buffer
	_ = png.Encode(&b, image.NewNRGBA64(image.Rect(0, 0, 2, 3)))
	f.Add(b.Bytes())
	b.Reset()
	_ = tiff.Encode(&b, image.NewGray(image.Rect(0, 0, 2, 3)), &tiff.Options{Compression: tiff.Deflate})
	f.Add(b.Bytes())
	b.Reset()
	_ = jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 9, 9)), nil)
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		lim := volume.Limits{MaxVoxels: 1 << 16, MaxBytes: 1 << 20}
		if v, err := Decode(bytes.NewReader(data), lim); err == nil && (v.Validate() != nil || v.Geometry.Voxels() > 1<<16) {
			t.Errorf("an image of size %v with %d voxels", v.Size, len(v.Voxels))
		}
		if m, err := DecodeLabels(bytes.NewReader(data), lim); err == nil && m.Validate() != nil {
			t.Errorf("a label map of size %v with %d voxels", m.Size, len(m.Labels))
		}
	})
}
