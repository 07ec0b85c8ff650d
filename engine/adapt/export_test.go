package adapt

import (
	"math/rand/v2"

	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// Augmentation is the change made to one copy, for tests that make the copies themselves.
type Augmentation struct {
	Blur         []float32
	Gain, Offset float32
	Noise        []float32
}

// Augmentations draws the changes of n copies of images of the given channels and size.
func (c Config) Augmentations(rng *rand.Rand, n int, lo, hi float32, channels int, size ...int) []Augmentation {
	all := make([]Augmentation, n)
	for k := range all {
		a := c.drawAugmentation(rng, lo, hi)
		all[k] = Augmentation{Blur: a.taps[:], Gain: a.gain, Offset: a.offset, Noise: make([]float32, channels*pixels(size))}
		for i := range all[k].Noise {
			all[k].Noise[i] = a.sigma * grain().Float32s()[(a.start+i)%grainLength]
		}
	}
	return all
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
	a.apply(out, 0, make([]float32, len(v)), size)
	return out
}

// HindsightLesson draws what Accept learns from.
func (e *Engine) HindsightLesson(c HindsightConfig, m Memory) Lesson { return e.hindsightLesson(c, m) }

// GradientGraph is one step's gradients as a graph of its own: for tests that look at them alone.
func (n *Network) GradientGraph(batch int) (*onnx.Model, error) {
	o := StepOptions{Batch: batch}
	g := n.graphOf("gradients",
		n.image(ofStep(inX), n.Channels, batch),
		n.image(ofStep(inTarget), n.Classes, batch), n.image(ofStep(inWeight), 1, batch),
		n.image(ofStep(inScribble), n.Classes, batch), n.image(ofStep(inMarked), 1, batch))
	g.Inputs = append(g.Inputs, value(inLambda))
	g.Inputs = append(g.Inputs, n.weights(plain)...)
	b := onnx.NewBuilder(g, prefix+"step/")
	loss, _, _ := n.losses(b, o)
	grads, err := autodiff.Gradients(b, map[string]string{loss: b.Float(1)}, n.params)
	if err != nil {
		return nil, err
	}
	for _, p := range n.params {
		b.Alias(grads[p], GradientOf(p))
	}
	b.Alias(loss, prefix+"loss")
	g.Outputs = append(n.weights(GradientOf), value(prefix+"loss"))
	return model(g), nil
}

// GradientOf names the output of a weight's gradient.
func GradientOf(param string) string { return prefix + "gradient:" + param }

// GradientInputs feeds the first batch of a lesson and the source's weights to a gradient graph.
func (n *Network) GradientInputs(l Lesson) map[string]*tensor.Tensor {
	in := map[string]*tensor.Tensor{inLambda: tensor.Scalar(float32(l.Lambda))}
	for name, v := range map[string]*tensor.Tensor{inX: l.X, inTarget: l.Target, inWeight: l.Weight, inScribble: l.Scribble, inMarked: l.Marked} {
		s := v.Shape()[1:]
		in[ofStep(name)] = tensor.Must(s, v.Float32s()[:pixels(s)])
	}
	for i, p := range n.params {
		in[p] = n.source[i]
	}
	return in
}
