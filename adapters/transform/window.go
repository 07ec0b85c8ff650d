// Package transform carries slices to the grid that a network sees and back: a region of a slice is cut out, resampled to the
// network's size, and the network's answer is put back in its place. It also brings intensities into a network's range.
//
// Pixels are small squares: pixel x covers x-½ … x+½, and a region's edges stay edges when it is resampled (align_corners =
// false in other tools), so nothing moves by half a pixel. Slices hold w·h values, x fastest.
package transform

import (
	"fmt"

	"scrawl/adapters/morph"
)

// Padding says what a slice holds outside its grid.
type Padding int

const (
	// Edge repeats the outermost pixels.
	Edge Padding = iota
	// Zero is 0 everywhere.
	Zero
)

// Window maps a rectangular region of a slice to a grid of W by H pixels. The region may reach beyond the slice. A window whose
// region has the grid's size copies pixels bit for bit. Windows are values; make them with NewWindow.
type Window struct {
	Region morph.Rect
	W, H   int
}

// NewWindow checks that region and grid have at least one pixel.
func NewWindow(region morph.Rect, w, h int) (Window, error) {
	if region.W() < 1 || region.H() < 1 || w < 1 || h < 1 {
		return Window{}, fmt.Errorf("window of %dx%d pixels onto a grid of %dx%d, want at least 1 each way", region.W(), region.H(), w, h)
	}
	return Window{Region: region, W: w, H: h}, nil
}

// Whole is the window that copies a slice of w by h and pads it to the right and below, to a multiple of pixels each way, as
// networks that halve their input several times need. A multiple below 1 counts as 1.
func Whole(w, h, multiple int) (Window, error) {
	w, h = roundUp(w, multiple), roundUp(h, multiple)
	return NewWindow(morph.Rect{X1: w, Y1: h}, w, h)
}

// Around is a window onto a grid of w by h pixels whose region holds box with a margin of pixels on every side, and has the grid's
// proportions: what the box lacks is added on both sides, also beyond the slice. It never enlarges: a region is at least w by h.
func Around(box morph.Rect, margin, w, h int) (Window, error) {
	if w < 1 || h < 1 {
		return NewWindow(box, w, h)
	}
	needW, needH := max(box.W()+2*margin, 1), max(box.H()+2*margin, 1)
	// The smallest scale at which both sides fit, in whole pixels of the region.
	regionW := max(needW, (needH*w+h-1)/h, w)
	regionH := max(needH, (regionW*h+w-1)/w)
	x0 := box.X0 - floorHalf(regionW-box.W())
	y0 := box.Y0 - floorHalf(regionH-box.H())
	return NewWindow(morph.Rect{X0: x0, Y0: y0, X1: x0 + regionW, Y1: y0 + regionH}, w, h)
}

func floorHalf(n int) int { return n >> 1 }

func roundUp(n, multiple int) int {
	multiple = max(multiple, 1)
	return (n + multiple - 1) / multiple * multiple
}

// Identity tells whether the window copies pixels without resampling them.
func (win Window) Identity() bool { return win.Region.W() == win.W && win.Region.H() == win.H }

// Inside marks the grid's pixels whose centres lie on a slice of w by h; the others are padding, and enter no loss.
func (win Window) Inside(w, h int) morph.Mask {
	m := morph.New(win.W, win.H)
	xs, ys := win.nearestX(), win.nearestY()
	for v, y := range ys {
		for u, x := range xs {
			m.Bits[v*win.W+u] = x >= 0 && y >= 0 && x < w && y < h
		}
	}
	return m
}

// Forward resamples images and probabilities: slice holds w·h values, the answer W·H. It is linear; where the grid is coarser than
// the slice, each of its pixels is the average of the area it covers, so nothing aliases.
func (win Window) Forward(slice []float32, w, h int, p Padding) []float32 {
	xs := outside(resampling(win.Region.X0, win.Region.W(), win.W), w, p)
	ys := outside(resampling(win.Region.Y0, win.Region.H(), win.H), h, p)
	return resample(slice, w, h, xs, ys)
}

// Backward puts the network's answer of W·H values back onto a slice of w by h, linearly (by area where it was enlarged). It is 0
// outside the region.
func (win Window) Backward(prob []float32, w, h int) []float32 {
	slice := make([]float32, w*h)
	win.BackwardInto(slice, w, h, prob)
	return slice
}

// BackwardInto is Backward onto a slice that keeps what it holds outside the region.
func (win Window) BackwardInto(slice []float32, w, h int, prob []float32) {
	to := win.overlap(w, h)
	if to.W() <= 0 || to.H() <= 0 {
		return
	}
	xs := outside(resampling(0, win.W, win.Region.W()), win.W, Edge)[to.X0-win.Region.X0 : to.X1-win.Region.X0]
	ys := outside(resampling(0, win.H, win.Region.H()), win.H, Edge)[to.Y0-win.Region.Y0 : to.Y1-win.Region.Y0]
	part := resample(prob, win.W, win.H, xs, ys)
	for y := range to.H() {
		copy(slice[(to.Y0+y)*w+to.X0:(to.Y0+y)*w+to.X1], part[y*to.W():])
	}
}

// overlap is the part of the region that lies on a slice of w by h.
func (win Window) overlap(w, h int) morph.Rect { return win.Region.Grow(0, w, h) }

// ForwardMask takes the nearest pixel of the slice, and unset ones outside it.
func (win Window) ForwardMask(m morph.Mask) morph.Mask {
	return morph.Mask{W: win.W, H: win.H, Bits: ForwardNearest(win, m.Bits, m.W, m.H, false)}
}

// ForwardStroke sets every pixel of the grid that a set pixel of the slice touches with its centre or, where the grid is coarser,
// with any part of it: a line one pixel wide survives shrinking, which ForwardMask would break up.
func (win Window) ForwardStroke(m morph.Mask) morph.Mask {
	out := win.ForwardMask(m)
	rw, rh := win.Region.W(), win.Region.H()
	for y := range rh {
		for x := range rw {
			if !m.At(win.Region.X0+x, win.Region.Y0+y) {
				continue
			}
			u, v := (2*x+1)*win.W/(2*rw), (2*y+1)*win.H/(2*rh)
			out.Set(u, v, true)
		}
	}
	return out
}

// BackwardMask puts a mask on the grid back onto a slice of w by h by the nearest pixel, unset outside the region.
func (win Window) BackwardMask(m morph.Mask, w, h int) morph.Mask {
	out := morph.New(w, h)
	BackwardNearest(win, out.Bits, w, h, m.Bits)
	return out
}

// ForwardNearest resamples labels: every pixel of the grid gets the value of the slice's pixel that its centre lies in, and the given
// value outside the slice.
func ForwardNearest[T any](win Window, slice []T, w, h int, outside T) []T {
	out := make([]T, win.W*win.H)
	xs, ys := win.nearestX(), win.nearestY()
	for v, y := range ys {
		for u, x := range xs {
			if x >= 0 && y >= 0 && x < w && y < h {
				out[v*win.W+u] = slice[y*w+x]
			} else {
				out[v*win.W+u] = outside
			}
		}
	}
	return out
}

// BackwardNearest puts labels on the grid back onto a slice of w by h, which keeps what it holds outside the region.
func BackwardNearest[T any](win Window, slice []T, w, h int, grid []T) {
	to := win.overlap(w, h)
	xs := nearest(0, win.W, win.Region.W())
	ys := nearest(0, win.H, win.Region.H())
	for y := to.Y0; y < to.Y1; y++ {
		from := ys[y-win.Region.Y0] * win.W
		for x := to.X0; x < to.X1; x++ {
			slice[y*w+x] = grid[from+xs[x-win.Region.X0]]
		}
	}
}

func (win Window) nearestX() []int { return nearest(win.Region.X0, win.Region.W(), win.W) }
func (win Window) nearestY() []int { return nearest(win.Region.Y0, win.Region.H(), win.H) }

// nearest lists, for n pixels that cover the size pixels from start on, the pixel that each one's centre lies in.
func nearest(start, size, n int) []int {
	at := make([]int, n)
	for i := range at {
		at[i] = start + (2*i+1)*size/(2*n)
	}
	return at
}
