// Package raster reads pictures (PNG, JPEG, TIFF) as images of one slice: microscopy, X-rays, ultrasound. A picture says nothing of
// millimetres that can be relied on, so its pixels are taken to be 1 mm apart; columns run to the patient's left and rows to the
// back, as on an axial slice.
//
// Grey values are kept as they are, of 8 or 16 bits. Colours become their luma Y = 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), of
// 16 bits where the picture has them. Transparency is left out.
package raster

import (
	"bufio"
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg" // formats that image.Decode knows
	_ "image/png"
	"io"

	_ "golang.org/x/image/tiff" // formats that image.Decode knows

	"scrawl/adapters/volume"
)

// header is how much of a file is read to find its size: a TIFF has it anywhere.
const header = 1 << 20

// Decode reads a picture as an image [W,H,1]. Errors wrap volume.ErrFormat, volume.ErrTooLarge or volume.ErrUnsupported, or are r's own.
func Decode(r io.Reader, lim volume.Limits) (*volume.Volume, error) {
	img, err := decode(r, lim)
	if err != nil {
		return nil, err
	}
	box := img.Bounds()
	v := volume.NewVolume(geometry(box))
	at := 0
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			v.Voxels[at] = grey(img, x, y)
			at++
		}
	}
	return v, nil
}

// DecodeLabels reads a picture as a label map [W,H,1]: of grey values, or of the numbers of a palette's entries. Pictures in colour
// are volume.ErrUnsupported, and so are JPEGs, which do not keep numbers as they are. Other errors are as those of Decode.
func DecodeLabels(r io.Reader, lim volume.Limits) (*volume.LabelMap, error) {
	b := bufio.NewReader(r)
	if head, err := b.Peek(2); err == nil && head[0] == 0xff && head[1] == 0xd8 {
		return nil, fmt.Errorf("%w: a JPEG changes the numbers of labels, want PNG or TIFF", volume.ErrUnsupported)
	}
	img, err := decode(b, lim)
	if err != nil {
		return nil, err
	}
	var label func(x, y int) uint16
	switch p := img.(type) {
	case *image.Gray:
		label = func(x, y int) uint16 { return uint16(p.GrayAt(x, y).Y) }
	case *image.Gray16:
		label = func(x, y int) uint16 { return p.Gray16At(x, y).Y }
	case *image.Paletted:
		label = func(x, y int) uint16 { return uint16(p.ColorIndexAt(x, y)) }
	default:
		return nil, fmt.Errorf("%w: a label map in colour, want grey values or a palette", volume.ErrUnsupported)
	}
	box := img.Bounds()
	m := volume.NewLabelMap(geometry(box))
	at := 0
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			m.Labels[at] = label(x, y)
			at++
		}
	}
	return m, nil
}

// decode reads a picture after its declared size has been checked.
func decode(r io.Reader, lim volume.Limits) (image.Image, error) {
	lim = lim.Or(volume.DefaultLimits())
	source := &source{r: r, left: lim.MaxBytes}
	b := bufio.NewReaderSize(source, header)
	head, err := b.Peek(header)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	c, _, err := image.DecodeConfig(&prefix{data: head})
	switch {
	case errors.Is(err, image.ErrFormat):
		return nil, fmt.Errorf("%w: neither PNG nor JPEG nor TIFF", volume.ErrFormat)
	case err != nil:
		return nil, fmt.Errorf("%w: picture: %w", volume.ErrFormat, err)
	}
	// A picture in memory takes up to 8 bytes a pixel.
	if err := lim.Check([3]int{c.Width, c.Height, 1}, 8); err != nil {
		return nil, err
	}
	img, _, err := image.Decode(b)
	switch {
	case source.err != nil:
		return nil, source.err
	case err != nil:
		return nil, fmt.Errorf("%w: picture: %w", volume.ErrFormat, err)
	}
	return img, nil
}

func geometry(box image.Rectangle) volume.Geometry {
	return volume.New([3]int{box.Dx(), box.Dy(), 1}, [3]float64{1, 1, 1})
}

// grey is the intensity of a pixel: 0 to 255, or to 65535 where the picture has 16 bits a channel.
func grey(img image.Image, x, y int) float32 {
	switch p := img.(type) {
	case *image.Gray:
		return float32(p.GrayAt(x, y).Y)
	case *image.Gray16:
		return float32(p.Gray16At(x, y).Y)
	case *image.NRGBA64:
		c := p.NRGBA64At(x, y)
		return luma(float32(c.R), float32(c.G), float32(c.B))
	case *image.RGBA64:
		c := color.NRGBA64Model.Convert(p.RGBA64At(x, y)).(color.NRGBA64)
		return luma(float32(c.R), float32(c.G), float32(c.B))
	}
	c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
	return luma(float32(c.R), float32(c.G), float32(c.B))
}

func luma(r, g, b float32) float32 { return 0.299*r + 0.587*g + 0.114*b }

// source bounds what is read, and remembers an error of the reader itself, which decoders hide in their own.
type source struct {
	r    io.Reader
	left int64
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	if s.left <= 0 {
		s.err = fmt.Errorf("%w: picture", volume.ErrTooLarge)
		return 0, s.err
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// prefix is the beginning of a file, for decoders that read it from any place.
type prefix struct {
	data []byte
	at   int
}

func (p *prefix) Read(b []byte) (int, error) {
	n := copy(b, p.data[p.at:])
	p.at += n
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}
