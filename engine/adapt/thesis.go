package adapt

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"scrawl/engine/tensor"
)

// Slice is one interaction as the method sees it: a slice, or for a network of volumes a volume, and what the user's
// scribbles say of it.
type Slice struct {
	// X is the network's input [1,C,H,W].
	X *tensor.Tensor
	// Scribble is the one-hot label y_u [1,K,H,W] of the pixels that Marked [1,1,H,W], the scribble mask m, has as 1.
	Scribble, Marked *tensor.Tensor
	// Valid [1,1,H,W] is 0 on padding, which enters no loss; nil when there is none.
	Valid *tensor.Tensor
	// Shown [1,1,H,W] is the number of each pixel's class in the answer that the scribbles were drawn on; nil when it is not known.
	Shown *tensor.Tensor
}

// Report tells what an interaction did.
type Report struct {
	Ratio       float64      // of uncertain pixels
	Copies      int          // augmented copies N; 0 when the plain answer is the target
	LowVariance int          // pixels in the consistency loss
	Marked      int          // pixels in the interactive loss
	Losses      [][2]float32 // by step: consistency, interactive
	Moved       float64      // 1 − α^(number of averages): how far the teacher went towards the student
	Seconds     map[string]float64
}

// Interact is one interaction of the thesis's method: the teacher labels augmented copies of the slice, the student takes
// K steps on both losses, the teacher follows, and the updated teacher answers. It returns the probabilities [1,K,H,W] and new
// sets; sets, which holds one average, the teacher, is left as it was. The answer depends on nothing but the arguments
// and draw, the number of this interaction in its lineage.
func (e *Engine) Interact(ctx context.Context, c Config, sets Sets, s Slice, draw uint64) (*tensor.Tensor, Sets, Report, error) {
	if err := c.Validate(); err != nil {
		return nil, Sets{}, Report{}, err
	}
	if len(sets.Averages) != 1 {
		return nil, Sets{}, Report{}, fmt.Errorf("the thesis's method keeps one average, the teacher; got %d", len(sets.Averages))
	}
	if err := e.checkSlice(s); err != nil {
		return nil, Sets{}, Report{}, err
	}
	r := Report{Seconds: map[string]float64{}}
	watch := stopwatch(r.Seconds)
	lesson, err := e.thesisLesson(ctx, c, sets.Averages[0], s, draw, &r)
	if err != nil {
		return nil, Sets{}, Report{}, err
	}
	lesson = e.replayed(c, lesson, s.X, sets.Seen)
	watch("pseudo-mask")
	next := sets
	if c.Steps > 0 && r.LowVariance+r.Marked > 0 {
		o := StepOptions{Batch: 1, Averages: 1, AveragePerStep: c.AveragePerStep}
		if next, r.Losses, err = e.learn(ctx, o, sets, lesson); err != nil {
			return nil, Sets{}, Report{}, err
		}
		next.Trust = sets.Trust
		r.Moved = moved(c)
	}
	watch("steps")
	answers := next.Averages[0]
	if c.StudentAnswers {
		answers = next.Student
	}
	p, err := e.Predict(ctx, answers, s.X)
	if err != nil {
		return nil, Sets{}, Report{}, err
	}
	next.Seen = c.remembered(sets.Seen, s, p)
	watch("answer")
	return p, next, r, nil
}

// checkSlice reports a tensor that does not fit the network or the others.
func (e *Engine) checkSlice(s Slice) error {
	size, err := e.checkInput(s.X)
	if err != nil {
		return err
	}
	if err := checkMap("scribble", s.Scribble, e.net.Classes, size); err != nil {
		return err
	}
	if err := checkMap("marked", s.Marked, 1, size); err != nil {
		return err
	}
	if s.Valid != nil {
		if err := checkMap("valid", s.Valid, 1, size); err != nil {
			return err
		}
	}
	if s.Shown == nil {
		return nil
	}
	if err := checkMap("shown", s.Shown, 1, size); err != nil {
		return err
	}
	return checkClasses(s.Shown, e.net.Classes)
}

// checkInput returns the height and width, or depth, height and width, of an input of one image.
func (e *Engine) checkInput(x *tensor.Tensor) (size []int, err error) {
	if err := e.net.checkSize(x); err != nil {
		return nil, err
	}
	size = x.Shape()[2:]
	return size, checkMap("input", x, e.net.Channels, size)
}

func checkMap(name string, t *tensor.Tensor, channels int, size []int) error {
	want := append([]int{1, channels}, size...)
	if t == nil || t.DType() != tensor.Float32 || !slices.Equal(t.Shape(), want) {
		got := "nothing"
		if t != nil {
			got = fmt.Sprint(t.DType(), t.Shape())
		}
		return fmt.Errorf("%s must be float32 %v, got %s", name, want, got)
	}
	return nil
}

func moved(c Config) float64 {
	if c.AveragePerStep {
		return 1 - math.Pow(c.Alpha, float64(c.Steps))
	}
	return 1 - c.Alpha
}

// stopwatch returns a function that books the time since its last call under a name.
func stopwatch(seconds map[string]float64) func(string) {
	last := time.Now()
	return func(stage string) {
		now := time.Now()
		seconds[stage] += now.Sub(last).Seconds()
		last = now
	}
}

// thesisLesson makes the targets of one interaction: steps 1 to 6 of the method.
func (e *Engine) thesisLesson(ctx context.Context, c Config, teacher Weights, s Slice, draw uint64, r *Report) (Lesson, error) {
	size := s.X.Shape()[2:]
	target, weight := planes(size, 1, e.net.Classes), planes(size, 1, 1)
	if c.Consistency {
		p, err := e.Predict(ctx, teacher, s.X)
		if err != nil {
			return Lesson{}, err
		}
		r.Ratio = UncertainRatio(p, s.Valid, c.UncertainLow, c.UncertainHigh)
		if c.augments() {
			r.Copies = c.CopiesFor(r.Ratio)
		}
		var variance *tensor.Tensor
		if target, variance, err = e.pseudoMask(ctx, c, teacher, s, p, r.Copies, draw); err != nil {
			return Lesson{}, err
		}
		c.anchor(target, s.Shown)
		r.LowVariance = lowVariance(weight.Float32s(), variance, s.Valid, c.Variance)
	}
	marked := planes(size, 1, 1)
	if c.Interactive {
		for i, m := range s.Marked.Float32s() {
			if m > 0 && (s.Valid == nil || s.Valid.Float32s()[i] > 0) {
				marked.Float32s()[i] = 1
				r.Marked++
			}
		}
	}
	if !c.SumLosses {
		divide(weight.Float32s(), r.LowVariance)
		divide(marked.Float32s(), r.Marked)
	}
	return Lesson{
		X: batched(s.X), Target: batched(target), Weight: batched(weight), Scribble: batched(s.Scribble), Marked: batched(marked),
		Lambda: c.Lambda * c.strokeShare(target, s.Valid, r.Marked), LearningRate: c.LearningRate, Alphas: []float64{c.Alpha}, Steps: c.Steps,
	}, nil
}

// strokeShare is how large the strokes are beside what may be an object in a pseudo-mask [1,K,H,W]: the share by which the interactive loss
// counts where strokes count by their size ([Config.StrokeArea]), and 1 otherwise.
func (c Config) strokeShare(target, valid *tensor.Tensor, marked int) float64 {
	if !c.StrokeArea {
		return 1
	}
	d := target.Float32s()
	n := len(d) / target.Shape()[1]
	possible := 0
	for i, background := range d[:n] {
		if float64(1-background) >= c.UncertainLow && (valid == nil || valid.Float32s()[i] > 0) {
			possible++
		}
	}
	return min(float64(marked)/float64(max(possible, 1)), 1)
}

// anchor draws a pseudo-mask [1,K,H,W] towards the answer that was shown.
func (c Config) anchor(target, shown *tensor.Tensor) {
	if shown == nil || c.Anchor == 0 {
		return
	}
	d, n := target.Float32s(), shown.Len()
	for i := range d {
		d[i] *= float32(1 - c.Anchor)
	}
	for i, class := range shown.Float32s() {
		d[int(class)*n+i] += float32(c.Anchor)
	}
}

// planes are zeros of shape [lead…,H,W].
func planes(size []int, lead ...int) *tensor.Tensor {
	return tensor.Zeros[float32](append(lead, size...)...)
}

// batched gives a tensor a leading axis of size 1.
func batched(t *tensor.Tensor) *tensor.Tensor {
	b, _ := t.Reshape(append([]int{1}, t.Shape()...)...) // a leading 1 always fits
	return b
}

func divide(v []float32, n int) {
	if n == 0 {
		return
	}
	for i := range v {
		v[i] /= float32(n)
	}
}

// lowVariance sets mask to 1 where the variance does not exceed the threshold, and counts those pixels.
func lowVariance(mask []float32, variance, valid *tensor.Tensor, threshold float64) int {
	n := 0
	for i, v := range variance.Float32s() {
		if float64(v) <= threshold && (valid == nil || valid.Float32s()[i] > 0) {
			mask[i] = 1
			n++
		}
	}
	return n
}

// pseudoMask averages the teacher's softened answers over N augmented copies: the mean [1,K,H,W], and per pixel the largest
// variance over classes [1,1,H,W]. Without copies the plain answer p is softened and the variance is 0.
func (e *Engine) pseudoMask(ctx context.Context, c Config, teacher Weights, s Slice, p *tensor.Tensor, n int, draw uint64) (mean, variance *tensor.Tensor, err error) {
	if n == 0 {
		return soften(p, c.Temperature), planes(p.Shape()[2:], 1, 1), nil
	}
	sum, squares, err := e.augmented(ctx, c, teacher, s, n, draw)
	if err != nil {
		return nil, nil, err
	}
	mean, variance = moments(sum, squares, n)
	return mean, variance, nil
}

// augmented adds up the softened answers to n augmented copies and their squares, both [1,K,H,W].
func (e *Engine) augmented(ctx context.Context, c Config, w Weights, s Slice, n int, draw uint64) (sum, squares *tensor.Tensor, err error) {
	session, err := e.pseudoSession(s.X.Shape()[2:])
	if err != nil {
		return nil, nil, err
	}
	lo, hi := intensityRange(s.X, s.Valid, e.images)
	in := c.augmentations(rand.New(rand.NewPCG(c.Seed, draw)), n, lo, hi)
	in[inX], in[inInvT] = s.X, tensor.Scalar(float32(1/c.Temperature))
	e.feedWeights(in, plain, w)
	out, err := session.Run(ctx, in, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("pseudo-mask: %w", err)
	}
	return out[outSum], out[outSq], nil
}

// moments turns sums over n copies into the mean and the largest variance over classes.
func moments(sum, squares *tensor.Tensor, n int) (mean, variance *tensor.Tensor) {
	s := sum.Shape()
	mean, variance = tensor.ZerosLike(sum), planes(s[2:], 1, 1)
	m, v := mean.Float32s(), variance.Float32s()
	for i, x := range sum.Float32s() {
		m[i] = x / float32(n)
		p := i % len(v)
		v[p] = max(v[p], squares.Float32s()[i]/float32(n)-m[i]*m[i])
	}
	return mean, variance
}

// soften is the softmax of the logits divided by the temperature, computed from probabilities: p^{1/T}, normalised.
func soften(p *tensor.Tensor, temperature float64) *tensor.Tensor {
	out := p.Clone()
	d := out.Float32s()
	k := p.Shape()[1]
	n := len(d) / k
	for i := range n {
		sum := 0.0
		for c := range k {
			v := math.Pow(float64(d[c*n+i]), 1/temperature)
			d[c*n+i] = float32(v)
			sum += v
		}
		for c := range k {
			d[c*n+i] = float32(float64(d[c*n+i]) / sum)
		}
	}
	return out
}
