package ort

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrBusy is returned by a [Gate] whose queue is full. The caller should tell its client to come back later.
var ErrBusy = errors.New("device is busy and its queue is full")

// Gate bounds how many runs use a device at once. Those that must wait do so in the order of their arrival, and only so many
// may wait: what cannot be served soon is refused at once. Work that nobody waits for enters in the background, behind
// everybody else. It is safe for concurrent use.
type Gate struct {
	slots, queue int

	mu         sync.Mutex
	running    int
	waiting    *list.List // of chan struct{}, closed to let its owner in
	background *list.List // likewise
	passed     int        // callers let in past those waiting in the background
}

// backgroundTurn is how many callers may be let in past one that waits in the background: so many that it is hardly felt, so few
// that training goes on while annotators draw without a pause.
const backgroundTurn = 8

// NewGate returns a gate that lets slots callers in at once (at least one) and queue more wait (none when it is negative).
func NewGate(slots, queue int) *Gate {
	return &Gate{slots: max(slots, 1), queue: max(queue, 0), waiting: list.New(), background: list.New()}
}

// Enter waits for a slot and returns the function that gives it back, which may be called more than once. It fails with
// [ErrBusy] when the queue is full, and with an error that wraps ctx.Err() when ctx is done first.
func (g *Gate) Enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("enter device gate: %w", err)
	}
	g.mu.Lock()
	if g.running < g.slots {
		g.running++
		g.mu.Unlock()
		return g.leaver(), nil
	}
	if g.waiting.Len() >= g.queue {
		g.mu.Unlock()
		return nil, fmt.Errorf("%w (%d running, %d waiting)", ErrBusy, g.slots, g.queue)
	}
	return g.wait(ctx, g.waiting)
}

// EnterBackground is Enter for work in small pieces that can always wait, such as a step of training: it is let in only
// when nobody waits at Enter, or after some of them were let in before it, and it is never refused for want of room.
func (g *Gate) EnterBackground(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("enter device gate: %w", err)
	}
	g.mu.Lock()
	if g.running < g.slots {
		g.running++
		g.mu.Unlock()
		return g.leaver(), nil
	}
	return g.wait(ctx, g.background)
}

// wait joins a queue and waits for its turn. It is called with mu held, and gives it back.
func (g *Gate) wait(ctx context.Context, queue *list.List) (leave func(), err error) {
	turn := make(chan struct{})
	place := queue.PushBack(turn)
	g.mu.Unlock()

	select {
	case <-turn:
		return g.leaver(), nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-turn: // let in at the same moment: the slot goes to the next
		g.next()
	default:
		queue.Remove(place)
	}
	return nil, fmt.Errorf("wait at device gate: %w", ctx.Err())
}

func (g *Gate) leaver() func() {
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.next()
	})
}

// next hands a slot to the first in the queue, so that no newcomer can take it in between, or frees it.
func (g *Gate) next() {
	queue := g.waiting
	switch {
	case g.background.Len() == 0:
		g.passed = 0
	case g.waiting.Len() == 0 || g.passed >= backgroundTurn:
		queue, g.passed = g.background, 0
	default:
		g.passed++
	}
	first := queue.Front()
	if first == nil {
		g.running--
		return
	}
	close(queue.Remove(first).(chan struct{}))
}

// Load returns how many callers are inside and how many wait, those in the background left out.
func (g *Gate) Load() (running, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running, g.waiting.Len()
}
