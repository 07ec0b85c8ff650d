package pretrain

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"scrawl/apps/atomicfile"
	"scrawl/apps/synth"
	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

// saveEvery is the time between checkpoints.
const saveEvery = time.Minute

// training is a recipe at work. Two goroutines use it in turn: run's, which learns, and the one it starts for preparing, to which
// batches, size and drawing belong while it runs.
type training struct {
	recipe     Recipe
	engine     *adapt.Engine
	trainer    *train.Trainer
	checkpoint string
	progress   func(Progress)
	now        func() time.Time
	begun      time.Time
	before     time.Duration // trained before this checkpoint was loaded
	saved      time.Time

	batches *synth.Batcher
	size    int // of the batches' pictures
	told    Progress
}

// prepared is what one run of the step graph learns from.
type prepared struct {
	lesson  train.Lesson
	size    int
	drawing time.Duration
	err     error
}

// done is the fraction of the training that is over when so many steps are.
func (t *training) done(steps int) float64 {
	if t.recipe.Limit > 0 {
		return min(float64(t.spent())/float64(t.recipe.Limit), 1)
	}
	return min(float64(steps)/float64(t.recipe.Steps), 1)
}

func (t *training) spent() time.Duration { return t.before + t.now().Sub(t.begun) }

// run trains until all is done.
func (t *training) run(ctx context.Context) error {
	if t.done(t.trainer.Steps()) >= 1 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	preparing := make(chan prepared, 1)
	busy := false
	prepare := func(first int) {
		busy = true
		weights := t.trainer.Student()
		go func() { preparing <- t.prepare(ctx, weights, first) }()
	}
	defer func() {
		cancel()
		if busy {
			<-preparing
		}
		if t.batches != nil {
			t.batches.Close()
		}
	}()
	prepare(t.trainer.Steps())
	for t.done(t.trainer.Steps()) < 1 {
		waited := time.Now()
		now := <-preparing
		busy = false
		if now.err != nil {
			return now.err
		}
		t.told.Waiting += time.Since(waited)
		t.told.Drawing += min(now.drawing, time.Since(waited))
		if after := t.trainer.Steps() + now.lesson.Steps(); t.done(after) < 1 {
			prepare(after)
		}
		if err := t.learn(ctx, now); err != nil {
			return err
		}
	}
	return nil
}

// learn takes a run's steps, tells of them, and saves now and then.
func (t *training) learn(ctx context.Context, l prepared) error {
	start := time.Now()
	losses, err := t.trainer.LearnEach(ctx, l.lesson, t.done(t.trainer.Steps()))
	if err != nil {
		return fmt.Errorf("training step %d: %w", t.trainer.Steps()+1, err)
	}
	p := &t.told
	p.Learning += time.Since(start)
	p.Loss = 0
	for _, v := range losses {
		p.Loss += v / float64(len(losses))
	}
	p.Step, p.Done, p.Size, p.Batch = t.trainer.Steps(), t.done(t.trainer.Steps()), l.size, t.recipe.Options.Batch
	if t.recipe.Limit <= 0 {
		p.Steps = t.recipe.Steps
	}
	t.progress(*p)
	if time.Since(t.saved) < saveEvery {
		return nil
	}
	t.saved = time.Now()
	return t.save()
}

// prepare draws the batches of the steps from first on, and lets the simulated users correct what the network answers with the weights
// given. A batch is named by the step it belongs to, so training that was interrupted sees the ones it would have seen.
func (t *training) prepare(ctx context.Context, weights adapt.Weights, first int) (l prepared) {
	r := t.recipe
	l.size = r.stage(t.done(first)).Size
	if l.size != t.size {
		if t.batches != nil {
			t.batches.Close()
		}
		t.size = l.size
		t.batches = synth.NewBatcher(r.Seed, synth.BatchOptions{Options: synth.Options{Size: l.size}, Batch: r.Options.Batch, Workers: r.Workers, First: uint64(first)})
	}
	count := r.PerRun
	if r.Limit <= 0 {
		count = min(count, r.Steps-first)
	}
	all := make([]train.Batch, count)
	// Some answer while others correct.
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(3)
	for i := range all {
		start := time.Now()
		b, err := t.batches.Next(ctx)
		if err != nil {
			l.err = errors.Join(g.Wait(), err)
			return l
		}
		l.drawing += time.Since(start)
		g.Go(func() error {
			x, err := t.play(ctx, weights, b)
			all[i] = train.Batch{X: x, Target: b.Target}
			return err
		})
	}
	if l.err = g.Wait(); l.err == nil {
		l.lesson, l.err = t.trainer.Lesson(all)
	}
	return l
}

// play lets the simulated users of a batch correct the network's answers, and returns what the network then sees.
func (t *training) play(ctx context.Context, weights adapt.Weights, b *synth.Batch) (*tensor.Tensor, error) {
	if !t.recipe.Prompted {
		return firstChannel(b.Input), nil
	}
	for range b.Corrections {
		p, err := t.engine.Predict(ctx, weights, b.Input)
		if err != nil {
			return nil, err
		}
		if err := b.Correct(p); err != nil {
			return nil, err
		}
	}
	return b.Input, nil
}

// firstChannel is the image of a batch's input: [B,1,S,S].
func firstChannel(x *tensor.Tensor) *tensor.Tensor {
	s := x.Shape()
	n := s[2] * s[3]
	out := tensor.Zeros[float32](s[0], 1, s[2], s[3])
	for i := range s[0] {
		copy(out.Float32s()[i*n:(i+1)*n], x.Float32s()[i*s[1]*n:])
	}
	return out
}

// saved is the file form of a training that was interrupted.
type saved struct {
	Spent   time.Duration
	Trainer []byte
}

func (t *training) load() error {
	if t.checkpoint == "" {
		return nil
	}
	f, err := os.Open(t.checkpoint)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	var s saved
	if err := gob.NewDecoder(f).Decode(&s); err != nil {
		return fmt.Errorf("read checkpoint %s: %w", t.checkpoint, err)
	}
	if s.Spent < 0 {
		return fmt.Errorf("checkpoint %s was made after %v; 0 or more is wanted", t.checkpoint, s.Spent)
	}
	t.before = s.Spent
	return t.trainer.Load(bytes.NewReader(s.Trainer))
}

func (t *training) save() error {
	if t.checkpoint == "" {
		return nil
	}
	var b bytes.Buffer
	if err := t.trainer.Save(&b); err != nil {
		return err
	}
	s := saved{Spent: t.spent(), Trainer: b.Bytes()}
	return atomicfile.Write(t.checkpoint, func(w io.Writer) error { return gob.NewEncoder(w).Encode(s) })
}
