package morph

import "math"

// Blur smooths a picture of w by h values, x fastest, with a Gaussian of sigma pixels that ends truncate·sigma away from its centre.
// Beyond the border the picture goes on with its outermost values. A sigma of 0 or less returns a copy.
func Blur(values []float32, w, h int, sigma, truncate float64) []float32 {
	out := append(make([]float32, 0, w*h), values[:w*h]...)
	if !(sigma > 0) || w*h == 0 {
		return out
	}
	kernel := GaussianKernel(sigma, truncate)
	along := make([]float32, w*h)
	for y := range h {
		convolveRow(along[y*w:(y+1)*w], out[y*w:(y+1)*w], kernel)
	}
	convolveColumns(out, along, w, h, kernel)
	return out
}

// GaussianKernel samples a Gaussian of sigma pixels at whole pixels up to truncate·sigma from its centre, rounded; its values add up to 1.
func GaussianKernel(sigma, truncate float64) []float32 {
	radius := int(truncate*sigma + 0.5)
	weights := make([]float64, 2*radius+1)
	sum := 0.0
	for i := range weights {
		d := float64(i-radius) / sigma
		weights[i] = math.Exp(-d * d / 2)
		sum += weights[i]
	}
	kernel := make([]float32, len(weights))
	for i, v := range weights {
		kernel[i] = float32(v / sum)
	}
	return kernel
}

func convolveRow(dst, src, kernel []float32) {
	radius, last := len(kernel)/2, len(src)-1
	for x := range dst {
		var sum float32
		if x >= radius && x+radius <= last {
			for k, v := range src[x-radius : x+radius+1] {
				sum += kernel[k] * v
			}
		} else {
			for k, weight := range kernel {
				sum += weight * src[min(max(x+k-radius, 0), last)]
			}
		}
		dst[x] = sum
	}
}

// convolveColumns works a row at a time, since rows lie together in memory.
func convolveColumns(dst, src []float32, w, h int, kernel []float32) {
	radius := len(kernel) / 2
	for y := range h {
		row := dst[y*w : (y+1)*w]
		clear(row)
		for k, weight := range kernel {
			from := min(max(y+k-radius, 0), h-1) * w
			for x, v := range src[from : from+w] {
				row[x] += weight * v
			}
		}
	}
}
