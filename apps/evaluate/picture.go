package evaluate

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"html/template"
	"image"
	"image/color"
	"image/png"

	"scrawl/adapters/morph"
	"scrawl/adapters/transform"
	"scrawl/apps/interact"
)

// Picture is a slice with the truth's outline, the answer's and the strokes so far.
type Picture struct {
	Slice        int
	Interactions int // that were allowed so far
	Dice         float64
	PNG          []byte
}

// DataURI is the picture as an address that holds it.
func (p Picture) DataURI() template.URL {
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(p.PNG))
}

// Colours of outlines and strokes.
var (
	colourTruth    = color.RGBA{R: 60, G: 220, B: 90, A: 255}
	colourAnswer   = color.RGBA{R: 255, G: 150, B: 20, A: 255}
	colourPositive = color.RGBA{R: 80, G: 160, B: 255, A: 255}
	colourNegative = color.RGBA{R: 255, G: 60, B: 200, A: 255}
)

// shoot keeps a picture of a slice, if it is one of those to be shown.
func (r *run) shoot(n, interactions int) {
	if !r.pictures || !r.shown[n] {
		return
	}
	pixels, err := r.Volume.Slice(r.plane, n)
	if err != nil {
		return // the slice comes from the volume itself
	}
	key := interact.SliceKey{Axis: int(r.plane), Slice: n}
	v := view{grey: transform.Rescale(pixels.Pixels, float32(r.img.Low), float32(r.img.High)), truth: r.truth[n], answer: r.slice(n)}
	v.positive, v.negative = r.strokes.Masks(key)
	data, err := v.png()
	if err != nil {
		return // writing to memory does not fail, and sizes are positive
	}
	p := Picture{Slice: n, Interactions: interactions, Dice: r.measureSlice(n).Dice, PNG: data}
	r.Pictures = append(r.Pictures, p)
}

// view is what a picture shows.
type view struct {
	grey                              []float32 // 0…1
	truth, answer, positive, negative morph.Mask
}

const (
	pictureMargin = 12  // pixels around truth and answer
	pictureSide   = 240 // least width or height aimed at, in pixels of the picture
)

func (v view) png() ([]byte, error) {
	box, ok := v.truth.Or(v.answer).Bounds()
	if !ok {
		box = morph.Rect{X1: v.truth.W, Y1: v.truth.H}
	}
	box = box.Grow(pictureMargin, v.truth.W, v.truth.H)
	scale := max(1, pictureSide/max(box.W(), box.H()))
	img := image.NewRGBA(image.Rect(0, 0, box.W()*scale, box.H()*scale))
	for y := range img.Rect.Dy() {
		for x := range img.Rect.Dx() {
			img.SetRGBA(x, y, v.at(box.X0+x/scale, box.Y0+y/scale))
		}
	}
	outline(img, v.truth, box, scale, colourTruth)
	outline(img, v.answer, box, scale, colourAnswer)
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return nil, fmt.Errorf("encode picture: %w", err)
	}
	return b.Bytes(), nil
}

func (v view) at(x, y int) color.RGBA {
	switch {
	case v.positive.At(x, y):
		return colourPositive
	case v.negative.At(x, y):
		return colourNegative
	}
	g := uint8(min(max(v.grey[y*v.truth.W+x], 0), 1)*255 + 0.5)
	return color.RGBA{R: g, G: g, B: g, A: 255}
}

// outline draws the edges between pixels inside and outside a mask, one pixel of the picture wide, on the inner side.
func outline(img *image.RGBA, m morph.Mask, box morph.Rect, scale int, c color.RGBA) {
	for y := box.Y0; y < box.Y1; y++ {
		for x := box.X0; x < box.X1; x++ {
			if !m.At(x, y) {
				continue
			}
			x0, y0 := (x-box.X0)*scale, (y-box.Y0)*scale
			for i := range scale {
				for _, edge := range [4]struct {
					open   bool
					px, py int
				}{
					{!m.At(x-1, y), x0, y0 + i}, {!m.At(x+1, y), x0 + scale - 1, y0 + i},
					{!m.At(x, y-1), x0 + i, y0}, {!m.At(x, y+1), x0 + i, y0 + scale - 1},
				} {
					if edge.open {
						img.SetRGBA(edge.px, edge.py, c)
					}
				}
			}
		}
	}
}
