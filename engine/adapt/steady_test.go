package adapt_test

import (
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"time"

	"scrawl/engine/adapt"
	"scrawl/engine/ort"
)

// TestMemoryStays holds that interactions leave no memory behind: after the first 50 the resident memory stays within 5 %, give or take the
// few MiB that garbage collection plays with. SCRAWL_INTERACTIONS sets how many there are (1,000 takes minutes).
func TestMemoryStays(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	interactions, err := strconv.Atoi(os.Getenv("SCRAWL_INTERACTIONS"))
	if err != nil {
		interactions = 150
	}
	e := engine(t, blockedUNet(t, adapt.Trainable{}), lowered(t, ort.Options{Threads: 1, NoSpinning: true}))
	const size = 32
	config := quick()
	config.FixedCopies = 4
	s := adapt.Slice{X: noise(1, 1, 4, size, size), Scribble: filled(0.5, 1, 2, size, size), Marked: filled(1, 1, 1, size, size)}
	sets := e.NewSets(1)
	resident := func() float64 {
		debug.FreeOSMemory()
		return residentMiB(t, "VmRSS")
	}
	start := 0.0
	for i := range interactions {
		if i == 50 {
			start = resident()
		}
		if _, sets, _, err = e.Interact(t.Context(), config, sets, s, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	end := resident()
	t.Logf("resident %.1f MiB after 50 interactions, %.1f MiB after %d", start, end, interactions)
	if end-start > max(0.05*start, 8) {
		t.Errorf("resident memory has grown from %.1f to %.1f MiB over %d interactions", start, end, interactions-50)
	}
}

// oneInteraction is what a user of the benchmark asks for.
func oneInteraction(b *testing.B, e *adapt.Engine, gate *ort.Gate, sets adapt.Sets, s adapt.Slice, draw uint64) adapt.Sets {
	b.Helper()
	leave, err := gate.Enter(b.Context())
	if err != nil {
		b.Error(err)
		return sets
	}
	defer leave()
	_, next, _, err := e.Interact(b.Context(), adapt.Thesis(), sets, s, draw)
	if err != nil {
		b.Error(err)
	}
	return next
}

// BenchmarkUsers is the throughput of interactions of 8 users with weights of their own, through one engine and one gate, at the same time and
// one after another, in turn; ratio is the first to the second.
func BenchmarkUsers(b *testing.B) {
	const users, each, size = 8, 2, 128
	e := benchmarked(b)
	s := adapt.Slice{X: noise(1, 1, 4, size, size), Scribble: filled(0.5, 1, 2, size, size), Marked: filled(1, 1, 1, size, size)}
	gate := ort.NewGate(1, users)
	oneInteraction(b, e, gate, e.NewSets(1), s, 0)
	var ratios []float64
	for b.Loop() {
		start := time.Now()
		for range users {
			sets := e.NewSets(1)
			for i := range each {
				sets = oneInteraction(b, e, gate, sets, s, uint64(i))
			}
		}
		alone := time.Since(start)
		start = time.Now()
		var all sync.WaitGroup
		for range users {
			all.Go(func() {
				sets := e.NewSets(1)
				for i := range each {
					sets = oneInteraction(b, e, gate, sets, s, uint64(i))
				}
			})
		}
		all.Wait()
		ratios = append(ratios, alone.Seconds()/time.Since(start).Seconds())
	}
	b.ReportMetric(median(ratios), "ratio")
}

// TestUsersShareFairly holds that users who keep asking take turns at the gate: nobody is served again before everybody who waited was.
func TestUsersShareFairly(t *testing.T) {
	const users, each = 8, 3
	e := engine(t, smallUNet(t, 4, 2, adapt.Trainable{}), onRuntime(t))
	s := adapt.Slice{X: noise(1, 1, 4, side, side), Scribble: filled(0.5, 1, 2, side, side), Marked: filled(1, 1, 1, side, side)}
	gate := ort.NewGate(1, users)
	first, err := gate.Enter(t.Context()) // holds everybody until all wait
	if err != nil {
		t.Fatal(err)
	}
	var order []int // guarded by the gate, which lets in one at a time
	var all sync.WaitGroup
	for u := range users {
		all.Go(func() {
			for range each {
				leave, err := gate.Enter(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, u)
				if _, _, _, err := e.Interact(t.Context(), quick(), e.NewSets(1), s, uint64(u)); err != nil {
					t.Error(err)
				}
				leave()
			}
		})
	}
	for {
		if _, waiting := gate.Load(); waiting == users {
			break
		}
		time.Sleep(time.Millisecond)
	}
	first()
	all.Wait()
	if len(order) != users*each {
		t.Fatalf("%d interactions were served, want %d", len(order), users*each)
	}
	served := map[int]bool{}
	for i, u := range order[:users] {
		if served[u] {
			t.Errorf("user %d is served twice among the first %d, while others wait: %v", u, i+1, order)
		}
		served[u] = true
	}
}
