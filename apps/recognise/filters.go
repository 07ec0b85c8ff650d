package recognise

import (
	"math"

	"scrawl/adapters/morph"
)

// scales are the widths of the Gaussians, in pixels.
var scales = [...]float64{1, 2, 4, 8}

// Filters is the number of filters: the intensity, and four at each scale. Smoothed of them are intensities.
const (
	Filters  = 1 + 4*len(scales)
	Smoothed = 1 + len(scales)
)

// Picture is a slice as the filters see it.
type Picture struct {
	W, H   int
	planes [Filters][]float32
}

// NewPicture filters a slice of w by h intensities, x fastest. It keeps pixels, which must not change any more. Where the slice was enlarged,
// unit is by how much, so that the filters see what they would have seen before.
func NewPicture(pixels []float32, w, h int, unit float64) Picture {
	p := Picture{W: w, H: h}
	p.planes[0] = pixels
	for i, s := range scales {
		s *= unit
		smooth := morph.Blur(pixels, w, h, s, 3)
		p.planes[1+4*i] = smooth
		gradient, large, small := derivatives(smooth, w, h, float32(s))
		p.planes[2+4*i], p.planes[3+4*i], p.planes[4+4*i] = gradient, large, small
	}
	return p
}

// intensity is the number of the filter that answers the k-th smoothed intensity, from the sharpest.
func intensity(k int) int { return max(4*k-3, 0) }

// at is all filters' answers at a pixel.
func (p Picture) at(i int) (x [Filters]float32) {
	for k, plane := range p.planes {
		x[k] = plane[i]
	}
	return x
}

// derivatives are the magnitude of the gradient and the larger and the smaller eigenvalue of the Hessian, by central differences,
// normalised by scale. Beyond the border the picture goes on with its outermost values.
func derivatives(v []float32, w, h int, scale float32) (gradient, large, small []float32) {
	n := w * h
	gradient, large, small = make([]float32, n), make([]float32, n), make([]float32, n)
	for y := range h {
		up, down := max(y-1, 0)*w, min(y+1, h-1)*w
		for x := range w {
			left, right, i := max(x-1, 0), min(x+1, w-1), y*w+x
			gx, gy := (v[y*w+right]-v[y*w+left])/2, (v[down+x]-v[up+x])/2
			xx := v[y*w+right] - 2*v[i] + v[y*w+left]
			yy := v[down+x] - 2*v[i] + v[up+x]
			xy := (v[down+right] - v[down+left] - v[up+right] + v[up+left]) / 4
			half, mid := (xx-yy)/2, (xx+yy)/2
			spread := float32(math.Sqrt(float64(half*half + xy*xy)))
			gradient[i] = scale * float32(math.Sqrt(float64(gx*gx+gy*gy)))
			large[i], small[i] = scale*scale*(mid+spread), scale*scale*(mid-spread)
		}
	}
	return gradient, large, small
}
