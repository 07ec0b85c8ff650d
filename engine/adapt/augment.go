package adapt

import (
	"math"
	"math/rand/v2"

	"scrawl/engine/tensor"
)

// augmentation is the change made to one copy of an image: x' = gain · (blur ∗ x) + offset + noise. Only
// intensities change, never the geometry.
type augmentation struct {
	taps         [BlurTaps]float32
	gain, offset float32
	sigma        float32 // of the noise, in intensity units
}

// drawAugmentation draws one change for an image whose intensities span [lo,hi]: each kind half (inversion a third) of
// the time.
func (c Config) drawAugmentation(rng *rand.Rand, lo, hi float32) augmentation {
	a := augmentation{gain: 1}
	blur, invert, width, noise := rng.Float64(), rng.Float64(), rng.Float64(), rng.Float64()
	sigma := 0.0
	if c.Blur && blur < 0.5 {
		sigma = c.BlurSigma[0] + width*(c.BlurSigma[1]-c.BlurSigma[0])
	}
	a.taps = gaussianTaps(sigma)
	if c.Inversion && invert < 1.0/3 {
		a.gain, a.offset = -1, lo+hi
	}
	if c.Noise {
		a.sigma = float32(noise*c.NoiseSigma) * (hi - lo)
	}
	return a
}

// gaussianTaps is a sampled Gaussian of unit sum; sigma 0 is the identity.
func gaussianTaps(sigma float64) (taps [BlurTaps]float32) {
	const r = BlurTaps / 2
	if sigma <= 0 {
		taps[r] = 1
		return taps
	}
	sum := 0.0
	var g [BlurTaps]float64
	for i := range g {
		d := float64(i - r)
		g[i] = math.Exp(-d * d / (2 * sigma * sigma))
		sum += g[i]
	}
	for i := range g {
		taps[i] = float32(g[i] / sum)
	}
	return taps
}

// intensityRange is the smallest and largest value of the given channels of x [1,C,H,W], padded pixels left out.
func intensityRange(x, valid *tensor.Tensor, channels []int) (lo, hi float32) {
	s := x.Shape()
	n := s[2] * s[3]
	lo, hi = float32(math.Inf(1)), float32(math.Inf(-1))
	for _, c := range channels {
		for i, v := range x.Float32s()[c*n : (c+1)*n] {
			if valid != nil && valid.Float32s()[i] == 0 {
				continue
			}
			lo, hi = min(lo, v), max(hi, v)
		}
	}
	if lo > hi {
		return 0, 1
	}
	return lo, hi
}

// microBatch holds the pseudo graph's augmentation inputs for MicroBatch copies.
func (c Config) microBatch(rng *rand.Rand, counted int, lo, hi float32, channels, h, w int) map[string]*tensor.Tensor {
	columns := tensor.Zeros[float32](MicroBatch, 1, BlurTaps, 1)
	rows := tensor.Zeros[float32](MicroBatch, 1, 1, BlurTaps)
	gain, offset, use := make([]float32, MicroBatch), make([]float32, MicroBatch), make([]float32, MicroBatch)
	noise := tensor.Zeros[float32](MicroBatch, channels, h, w)
	per := channels * h * w
	for k := range MicroBatch {
		a := c.drawAugmentation(rng, lo, hi)
		copy(columns.Float32s()[k*BlurTaps:], a.taps[:])
		copy(rows.Float32s()[k*BlurTaps:], a.taps[:])
		gain[k], offset[k] = a.gain, a.offset
		if k < counted {
			use[k] = 1
			addNoise(rng, noise.Float32s()[k*per:(k+1)*per], a.sigma)
		}
	}
	return map[string]*tensor.Tensor{inColumns: columns, inRows: rows, inNoise: noise,
		inGain: tensor.Vector(gain...), inOffset: tensor.Vector(offset...), inCounted: tensor.Vector(use...)}
}

// addNoise adds Gaussian noise. It is drawn here and not in the graph because ONNX Runtime's random operators do not
// repeat from run to run.
func addNoise(rng *rand.Rand, v []float32, sigma float32) {
	if sigma == 0 {
		return
	}
	for i := range v {
		v[i] += sigma * float32(rng.NormFloat64())
	}
}

// apply augments one channel [H,W] in place, for batches that are put together here rather than in a graph.
func (a augmentation) apply(rng *rand.Rand, v, scratch []float32, h, w int) {
	if a.taps[BlurTaps/2] != 1 {
		blurColumns(scratch, v, a.taps, h, w)
		blurRows(v, scratch, a.taps, h, w)
	}
	for i := range v {
		v[i] = a.gain*v[i] + a.offset
	}
	addNoise(rng, v, a.sigma)
}

func blurColumns(dst, src []float32, taps [BlurTaps]float32, h, w int) {
	const r = BlurTaps / 2
	clear(dst[:h*w])
	for y := range h {
		row := dst[y*w : (y+1)*w]
		for k, t := range taps {
			from := src[min(max(y+k-r, 0), h-1)*w:][:w]
			for x, v := range from {
				row[x] += t * v
			}
		}
	}
}

func blurRows(dst, src []float32, taps [BlurTaps]float32, h, w int) {
	const r = BlurTaps / 2
	for y := range h {
		row := src[y*w : (y+1)*w]
		for x := range w {
			s := float32(0)
			for k, t := range taps {
				s += t * row[min(max(x+k-r, 0), w-1)]
			}
			dst[y*w+x] = s
		}
	}
}
