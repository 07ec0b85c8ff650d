package synth

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"

	"scrawl/adapters/morph"
)

// ContactSheet writes a PNG of n examples, as a batcher prompts them, to look at: each as the image alone, and beside it with the
// object's outline (yellow), the previous mask (blue), and positive (green) and negative (red) strokes.
func ContactSheet(w io.Writer, seed uint64, n int, o Options) error {
	const gap = 2
	g := New(seed, o)
	side := g.opts.Size
	columns := max(int(math.Ceil(math.Sqrt(float64(n)/2))), 1)
	rows := (n + columns - 1) / columns
	sheet := image.NewRGBA(image.Rect(0, 0, columns*2*(side+gap), rows*(side+gap)))
	for i := range n {
		b := newBatch(g, uint64(i), 1)
		x, y := i%columns*2*(side+gap), i/columns*(side+gap)
		tile(sheet, &b.seats[0], x, y, false)
		tile(sheet, &b.seats[0], x+side+1, y, true)
	}
	if err := png.Encode(w, sheet); err != nil {
		return fmt.Errorf("write contact sheet: %w", err)
	}
	return nil
}

func tile(sheet *image.RGBA, s *seat, x0, y0 int, marked bool) {
	n := s.target.W
	outline := s.target.Boundary()
	before := morph.Threshold(s.plane(channelPrevious), n, n, 0.5).Boundary()
	for i, v := range s.plane(channelImage) {
		grey := uint8(v*255 + 0.5)
		c := color.RGBA{grey, grey, grey, 255}
		if marked {
			switch {
			case s.plane(channelPositive)[i] > 0:
				c = color.RGBA{40, 220, 60, 255}
			case s.plane(channelNegative)[i] > 0:
				c = color.RGBA{240, 50, 40, 255}
			case outline.Bits[i]:
				c = color.RGBA{250, 220, 40, 255}
			case before.Bits[i]:
				c = color.RGBA{60, 120, 255, 255}
			}
		}
		sheet.SetRGBA(x0+i%n, y0+i/n, c)
	}
}
