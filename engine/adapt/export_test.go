package adapt

import "math/rand/v2"

// Augmentations draws the changes that MicroBatch copies get, for tests that make the copies themselves.
func (c Config) Augmentations(rng *rand.Rand, counted int, lo, hi float32, channels int, size ...int) (blur, gain, offset, noise []float32) {
	in := c.microBatch(rng, counted, lo, hi, channels, size)
	return in[inBlur].Float32s(), in[inGain].Float32s(), in[inOffset].Float32s(), in[inNoise].Float32s()
}

// PseudoMask is the teacher's mean answer over n copies, and its variance.
var PseudoMask = (*Engine).pseudoMask

// IntensityRange is what noise and inversion are measured by.
var IntensityRange = intensityRange

// Sessions returns how many graphs an engine has compiled.
func (e *Engine) Sessions() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.built)
}

// Blur applies a Gaussian as learned examples are blurred.
func Blur(v []float32, sigma float64, size ...int) []float32 {
	a := augmentation{taps: gaussianTaps(sigma), gain: 1}
	out := append([]float32(nil), v...)
	a.apply(nil, out, make([]float32, len(v)), size)
	return out
}

// HindsightLesson draws what Accept learns from.
func (e *Engine) HindsightLesson(c HindsightConfig, m Memory) Lesson { return e.hindsightLesson(c, m) }
