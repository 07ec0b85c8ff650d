package transform

import "math"

// taps are the source pixels that make up one resampled pixel: weight[i] belongs to pixel first+i. Weights add up to 1.
type taps struct {
	first  int
	weight []float32
}

// resampling makes n pixels out of the size pixels from start on.
func resampling(start, size, n int) []taps {
	out := make([]taps, n)
	scale := float64(size) / float64(n)
	for i := range out {
		switch {
		case size == n:
			out[i] = taps{start + i, []float32{1}}
		case size > n:
			out[i] = area(start, float64(i)*scale, float64(i+1)*scale)
		default:
			out[i] = linear(start, (float64(i)+0.5)*scale-0.5)
		}
	}
	return out
}

// linear interpolates at a position in pixel centres.
func linear(start int, at float64) taps {
	below := math.Floor(at)
	part := float32(at - below)
	return taps{start + int(below), []float32{1 - part, part}}
}

// area averages the stretch from lo to hi, in pixel edges. The same formula turns into linear interpolation as the stretch
// shrinks to one pixel.
func area(start int, lo, hi float64) taps {
	first := int(math.Floor(lo))
	var weight []float32
	for p := first; float64(p) < hi; p++ {
		share := min(hi, float64(p+1)) - max(lo, float64(p))
		if share > 1e-9 || len(weight) == 0 {
			weight = append(weight, float32(share/(hi-lo)))
		}
	}
	return taps{start + first, weight}
}

// outside brings taps onto a line of n pixels: those beyond it go to its ends, or are dropped for zeros.
func outside(all []taps, n int, p Padding) []taps {
	for i, t := range all {
		if t.first >= 0 && t.first+len(t.weight) <= n {
			continue
		}
		all[i] = t.onto(n, p)
	}
	return all
}

func (t taps) onto(n int, p Padding) taps {
	if n == 0 {
		return taps{}
	}
	lo := min(max(t.first, 0), n-1)
	hi := min(max(t.first+len(t.weight)-1, 0), n-1)
	moved := taps{lo, make([]float32, hi-lo+1)}
	for k, weight := range t.weight {
		at := t.first + k
		if at >= 0 && at < n || p == Edge {
			moved.weight[min(max(at, lo), hi)-lo] += weight
		}
	}
	return moved
}

// resample applies taps along x, then along y. Only rows that are asked for are read.
func resample(src []float32, w, h int, xs, ys []taps) []float32 {
	out := make([]float32, len(xs)*len(ys))
	rows := make(map[int][]float32, h)
	row := func(y int) []float32 {
		if r, ok := rows[y]; ok {
			return r
		}
		r := make([]float32, len(xs))
		along(r, src[y*w:(y+1)*w], xs)
		rows[y] = r
		return r
	}
	for v, t := range ys {
		dst := out[v*len(xs) : (v+1)*len(xs)]
		if len(t.weight) == 1 && t.weight[0] == 1 {
			copy(dst, row(t.first))
			continue
		}
		for k, weight := range t.weight {
			if weight == 0 {
				continue
			}
			for x, value := range row(t.first + k) {
				dst[x] += weight * value
			}
		}
	}
	return out
}

func along(dst, src []float32, xs []taps) {
	for x, t := range xs {
		if len(t.weight) == 1 && t.weight[0] == 1 {
			dst[x] = src[t.first]
			continue
		}
		var sum float32
		for k, weight := range t.weight {
			if weight != 0 {
				sum += weight * src[t.first+k]
			}
		}
		dst[x] = sum
	}
}

// Taps are the samples that make up one resampled sample: Weight[i] belongs to sample First+i. Weights add up to 1.
type Taps struct {
	First  int
	Weight []float32
}

// Resampling makes n samples out of size ones along one axis, as [Window.Forward] does along x and y: linearly, or by the area covered
// where the new samples are coarser. Beyond the ends the outermost samples go on.
func Resampling(size, n int) []Taps {
	out := make([]Taps, n)
	for i, t := range outside(resampling(0, size, n), size, Edge) {
		out[i] = Taps{t.first, t.weight}
	}
	return out
}

// Resize3 resamples a volume of size[0]·size[1]·size[2] values, x fastest, to another size, axis by axis as [Resampling] does. What
// has the size already is handed back as it is.
func Resize3(values []float32, size, to [3]int) []float32 {
	if size == to {
		return values
	}
	xs, ys := outside(resampling(0, size[0], to[0]), size[0], Edge), outside(resampling(0, size[1], to[1]), size[1], Edge)
	flat := make([]float32, 0, to[0]*to[1]*size[2])
	for z := range size[2] {
		flat = append(flat, resample(values[z*size[0]*size[1]:(z+1)*size[0]*size[1]], size[0], size[1], xs, ys)...)
	}
	// Along z a plane is one long row.
	zs := outside(resampling(0, size[2], to[2]), size[2], Edge)
	plane := to[0] * to[1]
	return resample(flat, plane, size[2], resampling(0, plane, plane), zs)
}
