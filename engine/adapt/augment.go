package adapt

import (
	"math"
	"math/rand/v2"
	"sync"

	"scrawl/engine/tensor"
)

// augmentation is the change made to one copy of an image: x' = gain · (blur ∗ x) + offset + sigma · grain. Only
// intensities change, never the geometry.
type augmentation struct {
	taps         [BlurTaps]float32
	gain, offset float32
	sigma        float32 // of the noise, in intensity units
	start        int     // of the noise in the table of grain
}

// grainLength is the length of the table of grain, a prime: no image's rows fall into step with it.
const grainLength = 262139

// grain returns a table of standard normal numbers, always the same. The noise of a copy is a stretch of it, from a start drawn for
// each copy and round its end again: looked up in a graph, noise costs neither time to draw nor memory to bring there. ONNX Runtime's
// random operators do not repeat from run to run.
var grain = sync.OnceValue(func() *tensor.Tensor {
	t := tensor.Zeros[float32](grainLength)
	rng := rand.New(rand.NewPCG(0, 0))
	for i := range t.Float32s() {
		t.Float32s()[i] = float32(rng.NormFloat64())
	}
	return t
})

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
		a.start = rng.IntN(grainLength)
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
	n := pixels(x.Shape()[2:])
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

// augmentations draws the pseudo graph's inputs for n copies, in micro-batches.
func (c Config) augmentations(rng *rand.Rand, n int, lo, hi float32) map[string]*tensor.Tensor {
	trips := (n + MicroBatch - 1) / MicroBatch
	of := func() *tensor.Tensor { return tensor.Zeros[float32](trips, MicroBatch) }
	blur, gain, offset, sigma, counted := tensor.Zeros[float32](trips, MicroBatch, BlurTaps), of(), of(), of(), of()
	start := tensor.Zeros[int64](trips, MicroBatch)
	for k := range n {
		a := c.drawAugmentation(rng, lo, hi)
		copy(blur.Float32s()[k*BlurTaps:], a.taps[:])
		gain.Float32s()[k], offset.Float32s()[k], sigma.Float32s()[k], counted.Float32s()[k] = a.gain, a.offset, a.sigma, 1
		start.Int64s()[k] = int64(a.start)
	}
	return map[string]*tensor.Tensor{inBlur: blur, inGain: gain, inOffset: offset, inSigma: sigma, inStart: start, inCounted: counted}
}

// addNoise adds the noise of the channel that begins at element first of the image.
func (a augmentation) addNoise(v []float32, first int) {
	if a.sigma == 0 {
		return
	}
	table := grain().Float32s()
	at := (a.start + first) % grainLength
	for i := range v {
		v[i] += a.sigma * table[at]
		if at++; at == grainLength {
			at = 0
		}
	}
}

// apply augments one channel [H,W], or [D,H,W], in place, for batches that are put together here rather than in a graph. channel counts
// those of the image; scratch is as long as v.
func (a augmentation) apply(v []float32, channel int, scratch []float32, size []int) {
	if a.taps[BlurTaps/2] != 1 {
		for axis := range size {
			blurAxis(scratch, v, a.taps, size, axis)
			copy(v, scratch)
		}
	}
	for i := range v {
		v[i] = a.gain*v[i] + a.offset
	}
	a.addNoise(v, channel*len(v))
}

// blurAxis convolves src with the taps along one axis, its edge repeated.
func blurAxis(dst, src []float32, taps [BlurTaps]float32, size []int, axis int) {
	const r = BlurTaps / 2
	n, stride := size[axis], pixels(size[axis+1:])
	if stride == 1 {
		blurRows(dst, src, taps, n)
		return
	}
	clear(dst)
	for line := 0; line < len(src); line += n * stride {
		for i := range n {
			to := dst[line+i*stride:][:stride]
			for k, t := range taps {
				from := src[line+min(max(i+k-r, 0), n-1)*stride:][:stride]
				for j, v := range from {
					to[j] += t * v
				}
			}
		}
	}
}

// blurRows is blurAxis for the innermost axis, of n pixels.
func blurRows(dst, src []float32, taps [BlurTaps]float32, n int) {
	const r = BlurTaps / 2
	for line := 0; line < len(src); line += n {
		row := src[line:][:n]
		for i := range row {
			s := float32(0)
			for k, t := range taps {
				s += t * row[min(max(i+k-r, 0), n-1)]
			}
			dst[line+i] = s
		}
	}
}

// pixels is the number of pixels of an image of the given size.
func pixels(size []int) int {
	n := 1
	for _, d := range size {
		n *= d
	}
	return n
}
