package synth

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"scrawl/adapters/morph"
	"scrawl/engine/tensor"
)

// The channels of a batch's input, in their order.
const (
	channelImage = iota
	channelPositive
	channelNegative
	channelPrevious
	channels
)

// How examples are prompted. The shares are those with which the network learned best to take over a neighbouring slice's
// mask, which is what most slices of a volume depend on.
const (
	shareWithNeighbour = 0.4  // know the mask of a neighbouring slice
	shareUnprompted    = 0.4  // of those: have no stroke at all
	shareUnread        = 0.25 // of those with both: strokes show the object, not the mask's errors
	shareAstray        = 0.06 // of those with both: the mask is of something else
	shareNegative      = 0.6  // first rounds that also mark what is not the object
	shareSecond        = 0.15 // first rounds with a second positive stroke
	shareBothSigns     = 0.35 // corrections that mark missed and spilled pixels alike
	shareSloppy        = 0.04 // strokes that slip over the border by a pixel or two
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
	// Input is [B,4,S,S]: image 0…1, positive strokes 0 or 1, negative strokes 0 or 1, probability of the previous prediction.
	Input *tensor.Tensor
	// Target is [B,1,S,S], 0 or 1.
	Target *tensor.Tensor
	// Corrections is how many rounds follow the first: 0, 1 or 2.
	Corrections int
	seats       []seat
}

// seat is one example of a batch and its simulated user.
type seat struct {
	random
	target     morph.Mask
	zoom       float64
	unprompted bool
	input      []float32 // this example's part of the input
}

func newBatch(g *Generator, number uint64, size int) *Batch {
	s := g.opts.Size
	b := &Batch{Number: number, Input: tensor.Zeros[float32](size, channels, s, s), Target: tensor.Zeros[float32](size, 1, s, s)}
	b.Corrections = int(scramble(number^g.seed) % 3)
	n := s * s
	for i := range size {
		e, rng := g.at(number*uint64(size) + uint64(i))
		copy(b.Target.Float32s()[i*n:], e.Target.Floats())
		player := seat{random: random{rng}, target: e.Target, zoom: e.Zoom, input: b.Input.Float32s()[i*channels*n:][:channels*n]}
		copy(player.plane(channelImage), e.Image)
		player.begin(e)
		b.seats = append(b.seats, player)
	}
	return b
}

func (s *seat) plane(channel int) []float32 {
	n := len(s.target.Bits)
	return s.input[channel*n : (channel+1)*n]
}

// begin prompts the first round.
func (s *seat) begin(e Example) {
	previous := s.plane(channelPrevious)
	if e.Vanished.Bits != nil {
		s.unprompted = true
		copy(previous, s.neighbour(e.Vanished, s.zoom))
		return
	}
	if !s.chance(shareWithNeighbour) {
		s.show()
		return
	}
	s.unprompted = s.chance(shareUnprompted)
	if !s.unprompted && s.chance(shareAstray) {
		copy(previous, s.wrongNeighbour(s.target))
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

// show marks the object, and often something near it that is not.
func (s *seat) show() {
	s.mark(channelPositive, s.target)
	if s.chance(shareSecond) {
		s.mark(channelPositive, s.target)
	}
	if s.chance(shareNegative) {
		near := s.target.Dilate(s.between(4, 25)).AndNot(s.target)
		if near.Empty() {
			near = s.target.Not()
		}
		s.mark(channelNegative, near)
	}
}

// correct marks what the previous prediction has missed or spilled, whichever is more, or both.
func (s *seat) correct() {
	previous := morph.Threshold(s.plane(channelPrevious), s.target.W, s.target.H, 0.5)
	missed, spilled := s.target.AndNot(previous), previous.AndNot(s.target)
	m, p := missed.Count(), spilled.Count()
	both := s.chance(shareBothSigns)
	if m > 0 && (m >= p || both) {
		s.mark(channelPositive, missed)
	}
	if p > 0 && (p > m || both) {
		s.mark(channelNegative, spilled)
	}
}

// mark adds a stroke to a channel.
func (s *seat) mark(channel int, region morph.Mask) {
	line := s.stroke(region, s.zoom)
	if s.chance(shareSloppy) {
		line = line.Shift(s.whole(-2, 2), s.whole(-2, 2))
	}
	plane := s.plane(channel)
	for i, b := range line.Bits {
		if b {
			plane[i] = 1
		}
	}
}

// Correct is one more round: the network's probabilities [B,K,S,S], of which the last class is the object, become the
// previous prediction, and the users mark what is wrong with them. Examples that are to be solved without strokes stay as they
// are. It fails when the shape is another, and then changes nothing.
func (b *Batch) Correct(probability *tensor.Tensor) error {
	shape, want := probability.Shape(), b.Target.Shape()
	if len(shape) != 4 || shape[0] != want[0] || shape[1] < 1 || shape[2] != want[2] || shape[3] != want[3] || probability.DType() != tensor.Float32 {
		return fmt.Errorf("correct a batch: probabilities are %v of shape %v, want float32 [%d,K,%d,%d]", probability.DType(), shape, want[0], want[2], want[3])
	}
	n, k := want[2]*want[3], shape[1]
	var users sync.WaitGroup
	for i := range b.seats {
		s := &b.seats[i]
		if s.unprompted {
			continue
		}
		object := probability.Float32s()[(i*k+k-1)*n:][:n]
		users.Go(func() {
			copy(s.plane(channelPrevious), object)
			s.correct()
		})
	}
	users.Wait()
	return nil
}
