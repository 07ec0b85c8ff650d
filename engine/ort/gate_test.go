package ort_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"scrawl/engine/ort"
)

func mustEnter(t *testing.T, g *ort.Gate) func() {
	t.Helper()
	leave, err := g.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

func checkLoad(t *testing.T, g *ort.Gate, running, waiting int) {
	t.Helper()
	if r, w := g.Load(); r != running || w != waiting {
		t.Errorf("want %d running and %d waiting, got %d and %d", running, waiting, r, w)
	}
}

func TestGateServesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := ort.NewGate(1, 3)
		leave := mustEnter(t, g)
		order := make(chan int, 3)
		for i := range 3 {
			go func() {
				leave := mustEnter(t, g)
				order <- i
				time.Sleep(time.Second)
				leave()
			}()
			synctest.Wait()
		}
		checkLoad(t, g, 1, 3)
		if _, err := g.Enter(t.Context()); !errors.Is(err, ort.ErrBusy) {
			t.Errorf("full queue: want ErrBusy, got %v", err)
		}
		leave()
		leave() // does nothing
		got := []int{<-order, <-order, <-order}
		if d := cmp.Diff([]int{0, 1, 2}, got); d != "" {
			t.Errorf("order (-want +got):\n%s", d)
		}
		time.Sleep(time.Minute)
		checkLoad(t, g, 0, 0)
	})
}

func TestGateGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := ort.NewGate(1, 2)
		leave := mustEnter(t, g)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first := make(chan error, 1)
		go func() {
			_, err := g.Enter(ctx)
			first <- err
		}()
		synctest.Wait()
		second := make(chan func(), 1)
		go func() { second <- mustEnter(t, g) }()
		synctest.Wait()
		checkLoad(t, g, 1, 2)
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("want context.DeadlineExceeded, got %v", err)
		}
		checkLoad(t, g, 1, 1)
		leave()
		(<-second)()
		checkLoad(t, g, 0, 0)
		if _, err := g.Enter(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("done context at a free gate: want context.DeadlineExceeded, got %v", err)
		}
	})
}

// Whatever callers do, no more than the slots are inside, and in the end the gate is empty.
func TestGateBounds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		slots, queue := rapid.IntRange(1, 3).Draw(rt, "slots"), rapid.IntRange(0, 4).Draw(rt, "queue")
		waits := rapid.SliceOfN(rapid.IntRange(0, 5), 1, 20).Draw(rt, "patience")
		synctest.Test(t, func(t *testing.T) {
			g := ort.NewGate(slots, queue)
			var inside atomic.Int64
			for i, patience := range waits {
				go func() {
					time.Sleep(time.Duration(i%3) * time.Millisecond)
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(patience)*time.Millisecond)
					defer cancel()
					leave, err := g.Enter(ctx)
					if err != nil {
						return
					}
					if n := inside.Add(1); n > int64(slots) {
						t.Errorf("%d inside, %d slots", n, slots)
					}
					time.Sleep(2 * time.Millisecond)
					inside.Add(-1)
					leave()
				}()
			}
			time.Sleep(time.Minute)
			checkLoad(t, g, 0, 0)
		})
	})
}

// Work in the background lets everybody else pass, but not forever, and is never turned away.
func TestGateBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := ort.NewGate(1, 20)
		leave := mustEnter(t, g)
		order := make(chan string, 32)
		enter := func(name string, by func(context.Context) (func(), error)) {
			go func() {
				leave, err := by(t.Context())
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				order <- name
				time.Sleep(time.Second)
				leave()
			}()
			synctest.Wait()
		}
		enter("training", g.EnterBackground)
		for range 10 {
			enter("annotator", g.Enter)
		}
		leave()
		time.Sleep(time.Minute)
		synctest.Wait()
		close(order)
		place, n := -1, 0
		for name := range order {
			if name == "training" {
				place = n
			}
			n++
		}
		if place != 8 || n != 11 {
			t.Errorf("training was let in after %d of %d callers, want after 8 of 11", place, n)
		}

		busy := ort.NewGate(1, 0)
		leave = mustEnter(t, busy)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := busy.EnterBackground(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("in the background at a full gate: want to wait until the context ends, got %v", err)
		}
		leave()
		checkLoad(t, busy, 0, 0)
	})
}
