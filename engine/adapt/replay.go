package adapt

import (
	"slices"

	"scrawl/engine/tensor"
)

// With replay, an interaction also learns again the images that the annotator has left: their last answers, strokes written in, in every
// second of the steps. A handful of strokes on a new image cannot then undo what earlier ones have taught.

// replayed makes a lesson of one image into one that takes turns between it and the remembered images on the same grid, the latest first.
// Every pixel of those has its accepted class as the target; those under strokes count in the interactive loss too.
func (e *Engine) replayed(c Config, l Lesson, current *tensor.Tensor, seen []Stage) Lesson {
	var others []Stage
	for _, st := range slices.Backward(seen) {
		if slices.Equal(st.X.Shape(), current.Shape()) && !sameImage(st.X, current) {
			others = append(others, st)
		}
	}
	if c.Replay == 0 || len(others) == 0 {
		return l
	}
	turns := []Lesson{}
	for _, st := range others {
		turns = append(turns, l, e.recalled(c, st))
	}
	stack := func(pick func(Lesson) *tensor.Tensor) *tensor.Tensor {
		shape := slices.Clone(pick(l).Shape())
		shape[0] = len(turns)
		var all []float32
		for _, t := range turns {
			all = append(all, pick(t).Float32s()...)
		}
		return tensor.Must(shape, all)
	}
	l.X, l.Target, l.Scribble = stack(func(l Lesson) *tensor.Tensor { return l.X }), stack(func(l Lesson) *tensor.Tensor { return l.Target }), stack(func(l Lesson) *tensor.Tensor { return l.Scribble })
	l.Weight, l.Marked = stack(func(l Lesson) *tensor.Tensor { return l.Weight }), stack(func(l Lesson) *tensor.Tensor { return l.Marked })
	return l
}

// recalled is the lesson of a remembered image.
func (e *Engine) recalled(c Config, st Stage) Lesson {
	size := st.X.Shape()[2:]
	l := Lesson{X: batched(st.X), Target: planes(size, 1, 1, e.net.Classes), Weight: planes(size, 1, 1, 1), Marked: planes(size, 1, 1, 1)}
	weight, marked := l.Weight.Float32s(), l.Marked.Float32s()
	all, drawn := 0, 0
	for i, class := range st.Target.Float32s() {
		if st.Valid != nil && st.Valid.Float32s()[i] == 0 {
			continue
		}
		l.Target.Float32s()[int(class)*len(weight)+i] = 1
		weight[i] = 1
		all++
		if st.Stroked.Float32s()[i] > 0 {
			marked[i] = 1
			drawn++
		}
	}
	l.Scribble = l.Target
	if !c.SumLosses {
		divide(weight, all)
		divide(marked, drawn)
	}
	return l
}

// remembered adds an image with its answer p [1,K,H,W] to those seen, in place of what was remembered of it, and forgets the oldest over
// the limit: the image under way and Replay others are kept.
func (c Config) remembered(seen []Stage, s Slice, p *tensor.Tensor) []Stage {
	if c.Replay == 0 {
		return nil
	}
	next := slices.DeleteFunc(slices.Clone(seen), func(st Stage) bool { return sameImage(st.X, s.X) })
	target := planes(s.X.Shape()[2:], 1, 1)
	n, k := target.Len(), p.Shape()[1]
	for i := range n {
		from := p
		if s.Marked.Float32s()[i] > 0 {
			from = s.Scribble
		}
		likeliest := 0
		for class := range k {
			if from.Float32s()[class*n+i] > from.Float32s()[likeliest*n+i] {
				likeliest = class
			}
		}
		target.Float32s()[i] = float32(likeliest)
	}
	next = append(next, Stage{X: s.X, Target: target, Stroked: s.Marked, Valid: s.Valid})
	return next[max(len(next)-c.Replay-1, 0):]
}

// sameImage compares the inputs of two interactions.
func sameImage(a, b *tensor.Tensor) bool {
	return slices.Equal(a.Shape(), b.Shape()) && slices.Equal(a.Float32s(), b.Float32s())
}
