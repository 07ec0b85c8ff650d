package synth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"scrawl/adapters/morph"
	"scrawl/adapters/transform"
	"scrawl/engine/tensor"
)

// The channels of a batch's input, in their order.
const (
	channelImage = iota
	channelPositive
	channelNegative
	channelPrevious
	channelLikeness
	channels
)

// How examples are prompted. The shares are those with which the network learned best to take over a neighbouring slice's
// mask, which is what most slices of a volume depend on, and to find a whole object from its first stroke.
const (
	shareWithNeighbour = 0.42 // know the mask of a neighbouring slice
	shareUnprompted    = 0.38 // of those: have no stroke at all
	shareUnread        = 0.2  // of those with both: strokes show the object, not the mask's errors
	shareAstray        = 0.25 // of those with both: the mask is far off, or of something else
	shareNegative      = 0.4  // other first rounds that also mark what is not the object
	shareNegativeLarge = 0.15 // … of objects that fill more than largeObject of the picture: people mark those alone
	largeObject        = 0.06
	shareSecond        = 0.12 // first rounds with a second positive stroke
	shareThorough      = 0.1  // first rounds that mark the object from all sides at once; see also people
	shareLone          = 0.25 // … of those in pictures that are no slice of a volume
	shareOthers        = 0.6  // first rounds that mark other parts of an object of several
	shareBothSigns     = 0.6  // corrections that mark missed and spilled pixels alike
	shareSloppy        = 0.05 // strokes that slip over the border by a pixel or two
	shareBroad         = 0.45 // strokes on thin objects that are broader than those
	shareSecondLook    = 0.65 // rounds after strokes in which the answer is only looked at again
	shareCarried       = 0.5  // rounds without strokes that are carried one slice further
	shareFinicky       = 0.3  // corrections that do not leave the smallest errors alone
	shareGone          = 0.5  // of vanished objects: the user marks that the object has ended
)

// Most pictures are shown with the contrast that the application gives them, which depends on what is known of the object; see
// [transform.Focus].
const (
	shareUnfocused    = 0.2
	shareOddlyFocused = 0.25
	servedFocus       = 65
)

// BatchOptions are the choices of a [Batcher].
type BatchOptions struct {
	Options
	// Batch is the number of examples in a batch, 8 by default.
	Batch int
	// Workers is the number of goroutines that prepare batches, 1 by default. It changes no batch.
	Workers int
	// First is the number of the first batch, so that interrupted training can go on with batches it has not seen.
	First uint64
}

// Batcher prepares batches ahead of their use. Its methods are for one goroutine.
type Batcher struct {
	lanes   []chan *Batch // worker w makes batches w, w+n, w+2n, …
	next    int
	stop    chan struct{}
	stopped bool
	workers sync.WaitGroup
}

// NewBatcher starts the workers. Close ends them.
func NewBatcher(seed uint64, o BatchOptions) *Batcher {
	if o.Batch <= 0 {
		o.Batch = 8
	}
	o.Workers = max(o.Workers, 1)
	b := &Batcher{stop: make(chan struct{}), lanes: make([]chan *Batch, o.Workers)}
	for w := range b.lanes {
		b.lanes[w] = make(chan *Batch, 2)
		b.workers.Add(1)
		go func() {
			defer b.workers.Done()
			g := New(seed, o.Options)
			for k := o.First + uint64(w); ; k += uint64(o.Workers) {
				select {
				case b.lanes[w] <- newBatch(g, k, o.Batch):
				case <-b.stop:
					return
				}
			}
		}()
	}
	return b
}

// Next returns the next batch. It fails when ctx is done or the batcher is closed.
func (b *Batcher) Next(ctx context.Context) (*Batch, error) {
	if b.stopped {
		return nil, errors.New("batcher is closed: take batches before Close")
	}
	select {
	case batch := <-b.lanes[b.next]:
		b.next = (b.next + 1) % len(b.lanes)
		return batch, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close ends the workers and waits for them.
func (b *Batcher) Close() {
	if !b.stopped {
		b.stopped = true
		close(b.stop)
	}
	b.workers.Wait()
}

// Batch is a number of examples as the network sees them after some rounds with a simulated user. It starts with the first
// round. The trainer lets the network predict and calls Correct, Corrections times, and then takes its step:
//
//	for range b.Corrections {
//		prob := predict(b.Input)
//		b.Correct(prob)
//	}
//	step(b.Input, b.Target)
type Batch struct {
	// Number is the batch's own, from 0.
	Number uint64
	// Input is [B,5,S,S]: image 0…1, positive strokes 0 or 1, negative strokes 0 or 1, probability of the previous prediction, and how much
	// each pixel looks like the target, −1…1, or 0 everywhere.
	Input *tensor.Tensor
	// Target is [B,1,S,S], 0 or 1.
	Target *tensor.Tensor
	// Corrections is how many rounds follow the first: 0 to 3. In each, a user corrects the network's answer, or lets the network look
	// again with its own answer before it, as the application does after every stroke.
	Corrections int
	seats       []seat
}

// seat is one example of a batch and its simulated user.
type seat struct {
	random
	image      []float32 // as it was drawn
	target     morph.Mask
	all        morph.Mask // every pixel
	zoom       float64
	focus      float64 // percentile of [transform.Focus], 0 for none
	unprompted bool
	fresh      bool // strokes have been drawn since the network last answered
	look       acquaintance
	input      []float32 // this example's part of the input
}

func newBatch(g *Generator, number uint64, size int) *Batch {
	s := g.opts.Size
	b := &Batch{Number: number, Input: tensor.Zeros[float32](size, channels, s, s), Target: tensor.Zeros[float32](size, 1, s, s)}
	b.Corrections = int(scramble(number^g.seed) % 4)
	n := s * s
	all := morph.New(s, s).Not()
	for i := range size {
		e, rng := g.at(number*uint64(size) + uint64(i))
		copy(b.Target.Float32s()[i*n:], e.Target.Floats())
		player := seat{random: random{rng}, image: e.Image, target: e.Target, all: all, zoom: e.Zoom, input: b.Input.Float32s()[i*channels*n:][:channels*n]}
		player.focus = []float64{0, player.between(40, 95), servedFocus}[player.pick(shareUnfocused, shareOddlyFocused, 1-shareUnfocused-shareOddlyFocused)]
		player.begin(e)
		player.acquaint(e)
		player.expose()
		b.seats = append(b.seats, player)
	}
	return b
}

// expose shows the picture with the contrast that suits what is known of the object, and what in it looks like the object.
func (s *seat) expose() {
	s.liken()
	shown := s.plane(channelImage)
	copy(shown, s.image)
	if s.focus == 0 {
		return
	}
	object := morph.New(s.target.W, s.target.H)
	positive, negative, previous := s.plane(channelPositive), s.plane(channelNegative), s.plane(channelPrevious)
	for i := range object.Bits {
		object.Bits[i] = (positive[i] > 0 || previous[i] > 0.5) && negative[i] == 0
	}
	transform.Focus(shown, s.all, object, s.focus)
}

func (s *seat) plane(channel int) []float32 {
	n := len(s.target.Bits)
	return s.input[channel*n : (channel+1)*n]
}

// begin prompts the first round.
func (s *seat) begin(e Example) {
	previous := s.plane(channelPrevious)
	if e.Vanished.Bits != nil {
		copy(previous, s.neighbour(e.Vanished, s.zoom))
		if s.unprompted = !s.chance(shareGone); !s.unprompted {
			s.correct()
		}
		return
	}
	if !s.chance(shareWithNeighbour) || e.lone && !s.chance(shareLone) {
		s.show()
		return
	}
	s.unprompted = s.chance(shareUnprompted)
	if !s.unprompted && s.chance(shareAstray) {
		copy(previous, s.astray(s.target, s.zoom))
	} else {
		copy(previous, s.neighbour(s.target, s.zoom))
	}
	switch {
	case s.unprompted:
	case s.chance(shareUnread):
		s.show()
	default:
		s.correct()
	}
}

// show marks the object, and at times something near it that is not.
func (s *seat) show() {
	if s.people() {
		return
	}
	if s.chance(shareThorough) {
		s.thorough()
		return
	}
	s.mark(channelPositive, s.target)
	if s.chance(shareSecond) {
		s.mark(channelPositive, s.target)
	}
	s.markOthers()
	share := shareNegative
	if float64(s.target.Count()) > largeObject*float64(len(s.target.Bits)) {
		share = shareNegativeLarge
	}
	if s.chance(share) {
		near := s.target.Dilate(s.between(4, 25)).AndNot(s.target)
		if s.chance(0.5) {
			if hole := s.hole(); !hole.Empty() {
				near = hole
			}
		}
		if near.Empty() {
			near = s.target.Not()
		}
		s.mark(channelNegative, near)
	}
}

// hole is what a ring or a wall goes around.
func (s *seat) hole() morph.Mask { return s.target.FillHoles().AndNot(s.target) }

// markOthers marks more parts of an object of several, since nothing tells how many belong to it but the strokes.
func (s *seat) markOthers() {
	parts := s.target.Components(morph.Eight)
	if parts.N() < 2 || !s.chance(shareOthers) {
		return
	}
	largest := slices.Max(parts.Sizes[1:])
	for l, marked := 1, 0; l <= parts.N() && marked < 3; l++ {
		if 5*parts.Sizes[l] >= largest {
			s.mark(channelPositive, parts.Mask(l))
			marked++
		}
	}
}

// correct marks what the previous prediction has missed or spilled, whichever is more, or both.
func (s *seat) correct() {
	previous := morph.Threshold(s.plane(channelPrevious), s.target.W, s.target.H, 0.5)
	missed, spilled := s.target.AndNot(previous), previous.AndNot(s.target)
	m, p := missed.Count(), spilled.Count()
	least := 1
	if !s.chance(shareFinicky) {
		least = 6
	}
	both := s.chance(shareBothSigns)
	if m >= least && (m >= p || both) {
		s.mark(channelPositive, missed)
	}
	if p >= least && (p > m || both) {
		s.mark(channelNegative, spilled)
	}
}

// answered takes an answer of the network's for the previous prediction, and goes on from there. Without strokes, that is what the
// answer would be for a neighbouring slice: masks that are carried far have all the network's own errors in them.
func (s *seat) answered(object []float32) {
	previous := s.plane(channelPrevious)
	if s.unprompted {
		if m := morph.Threshold(object, s.target.W, s.target.H, 0.5); s.chance(shareCarried) && !m.Empty() {
			copy(previous, s.neighbour(m, s.zoom))
			s.expose()
		}
		return
	}
	copy(previous, object)
	if s.fresh && s.chance(shareSecondLook) {
		s.fresh = false
	} else {
		s.correct()
	}
	s.expose()
}

// mark adds a stroke to a channel.
func (s *seat) mark(channel int, region morph.Mask) {
	line := s.stroke(region, s.zoom)
	if s.chance(shareSloppy) {
		line = line.Shift(s.whole(-2, 2), s.whole(-2, 2))
	}
	if channel == channelPositive && s.chance(shareBroad) && s.target.Erode(2).Empty() {
		line = s.wobble(line, s.between(0, 0.9)).Dilate(s.between(1, 2)) // nobody draws as thin as a vessel is, nor right on it
	}
	s.draw(channel, line, 0)
}

// Correct is one more round: the network's probabilities [B,K,S,S], of which the last class is the object, become the
// previous prediction, and the users mark what is wrong with them or have the network look again. Examples that are to be solved
// without strokes get none. It fails when the shape is another, and then changes nothing.
func (b *Batch) Correct(probability *tensor.Tensor) error {
	shape, want := probability.Shape(), b.Target.Shape()
	if len(shape) != 4 || shape[0] != want[0] || shape[1] < 1 || shape[2] != want[2] || shape[3] != want[3] || probability.DType() != tensor.Float32 {
		return fmt.Errorf("correct a batch: probabilities are %v of shape %v, want float32 [%d,K,%d,%d]", probability.DType(), shape, want[0], want[2], want[3])
	}
	n, k := want[2]*want[3], shape[1]
	var users sync.WaitGroup
	for i := range b.seats {
		s := &b.seats[i]
		object := probability.Float32s()[(i*k+k-1)*n:][:n]
		users.Go(func() { s.answered(object) })
	}
	users.Wait()
	return nil
}
