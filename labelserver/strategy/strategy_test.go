package strategy_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/strategy"
)

// start is when the tests' clock starts.
const start = 1_800_000_000

// world is a datastore of unlabelled images and a clock.
type world struct {
	items []datastore.Item
	now   time.Time
	err   error
}

func (w *world) Unlabelled(context.Context) ([]datastore.Item, error) { return w.items, w.err }

func newWorld(ids ...string) *world {
	w := &world{now: time.Unix(start, 0)}
	for _, id := range ids {
		w.items = append(w.items, datastore.Item{ID: id, Info: &api.Object{}})
	}
	return w
}

// served records that an image was given out, as the server does.
func (w *world) served(id, strategy, client string, ago time.Duration) {
	for _, item := range w.items {
		if item.ID != id {
			continue
		}
		all, _ := item.Info.Object("strategy")
		all = all.Clone()
		all.Set(strategy, api.NewObject("ts", w.now.Add(-ago).Unix(), "client_id", client))
		item.Info.Set("strategy", all)
	}
}

func (w *world) strategies(seed uint64) map[string]*strategy.Strategy {
	byName := map[string]*strategy.Strategy{}
	for _, s := range strategy.New(w, strategy.Options{
		Lease: 10 * time.Minute, Now: func() time.Time { return w.now }, Rand: rand.New(rand.NewPCG(seed, 0)),
	}) {
		byName[s.Name()] = s
	}
	return byName
}

func next(t *testing.T, s *strategy.Strategy, client string) string {
	t.Helper()
	id, _, err := s.Next(t.Context(), api.NewObject("client_id", client))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestNamesAsMONAILabelHasThem(t *testing.T) {
	var got []string
	for _, s := range strategy.New(newWorld(), strategy.Options{}) {
		got = append(got, s.Name(), s.Description())
	}
	want := []string{"random", "Random Strategy", "first", "Get First Sample", "last", "Get Last Sample"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestNothingLeft(t *testing.T) {
	for name, s := range newWorld().strategies(1) {
		id, details, err := s.Next(t.Context(), nil)
		if id != "" || details.Len() != 0 || err != nil {
			t.Errorf("%s: %q, %v, %v, want nothing", name, id, details, err)
		}
	}
}

func TestErrorsAreNotNothingLeft(t *testing.T) {
	w := newWorld("a")
	w.err = errors.New("disk is gone")
	for name, s := range w.strategies(1) {
		if _, _, err := s.Next(t.Context(), nil); !errors.Is(err, w.err) {
			t.Errorf("%s: %v, want %v", name, err, w.err)
		}
	}
}

func TestFirstAndLastStayWithOneClient(t *testing.T) {
	s := newWorld("a", "b", "c").strategies(1)
	for range 3 {
		if id := next(t, s["first"], "x"); id != "a" {
			t.Errorf("first is %q, want a", id)
		}
		if id := next(t, s["last"], ""); id != "c" {
			t.Errorf("last is %q, want c", id)
		}
	}
}

func TestClientsGetDifferentImages(t *testing.T) {
	w := newWorld("a", "b", "c")
	s := w.strategies(1)
	got := []string{next(t, s["first"], "x"), next(t, s["first"], "y"), next(t, s["last"], "z")}
	if diff := cmp.Diff([]string{"a", "b", "c"}, got); diff != "" {
		t.Fatal(diff)
	}
	if id := next(t, s["first"], "late"); id != "a" {
		t.Errorf("with nothing free first is %q, want a", id)
	}
	w.now = w.now.Add(10 * time.Minute)
	if id := next(t, s["last"], "late"); id != "c" {
		t.Errorf("after the lease last is %q, want c", id)
	}
}

func TestLeasesSurviveARestart(t *testing.T) {
	w := newWorld("a", "b", "c")
	w.served("a", "random", "x", time.Minute)
	w.served("b", "first", "x", 10*time.Minute)
	if id := next(t, w.strategies(1)["first"], "y"); id != "b" {
		t.Errorf("first for another client is %q, want b, whose lease is over", id)
	}
	if id := next(t, w.strategies(1)["first"], "x"); id != "a" {
		t.Errorf("first for the same client is %q, want a, which it holds", id)
	}
	w.served("a", "last", "y", 0)
	if id := next(t, w.strategies(1)["first"], "x"); id != "b" {
		t.Errorf("first is %q, want b: a was given to another client since", id)
	}
}

func TestDamagedRecordsAreNoLease(t *testing.T) {
	w := newWorld("a", "b")
	for _, info := range []string{`{"strategy":3}`, `{"strategy":{"first":null}}`, `{"strategy":{"first":{"ts":"soon","client_id":4}}}`,
		`{"strategy":{"random":{"ts":1e300}}}`, `{"strategy":{"random":{"ts":-5}}}`} {
		o, err := api.DecodeObject([]byte(info))
		if err != nil {
			t.Fatal(err)
		}
		w.items[0].Info = o
		s := w.strategies(1)
		if id := next(t, s["first"], "x"); id != "a" {
			t.Errorf("%s: first is %q, want a", info, id)
		}
		if id := next(t, s["random"], "x"); id == "" {
			t.Errorf("%s: random picks nothing", info)
		}
	}
}

func TestRandomPrefersWhatWaitedLongest(t *testing.T) {
	w := newWorld("a", "b", "c")
	w.served("a", "random", "x", 100*time.Second)
	w.served("b", "random", "x", 300*time.Second)
	w.served("c", "random", "x", 0)
	s := w.strategies(7)["random"]
	count := map[string]int{}
	for range 4000 {
		id, details, err := s.Next(t.Context(), api.NewObject("client_id", "x"))
		if err != nil {
			t.Fatal(err)
		}
		weight, _ := details.Get("weight")
		if want := map[string]int64{"a": 100, "b": 300, "c": 1}[id]; weight != want {
			t.Fatalf("weight of %s is %v, want %d", id, weight, want)
		}
		count[id]++
	}
	if count["a"] < 850 || count["a"] > 1150 || count["c"] > 40 {
		t.Errorf("picked %v of 4000, want a about 1000, b 3000, c 10", count)
	}
}

func TestRandomRepeatsWithItsSeed(t *testing.T) {
	draw := func(seed uint64) (ids []string) {
		s := newWorld("a", "b", "c", "d", "e").strategies(seed)["random"]
		for range 20 {
			ids = append(ids, next(t, s, "x"))
		}
		return ids
	}
	if diff := cmp.Diff(draw(3), draw(3)); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(draw(3), draw(4)) {
		t.Error("two seeds draw the same")
	}
	id, details, err := newWorld("new").strategies(1)["random"].Next(t.Context(), nil)
	if weight, _ := details.Get("weight"); id != "new" || err != nil || weight != int64(start) {
		t.Errorf("an image never given out: %q, weight %v, %v, want the time as its weight", id, weight, err)
	}
}

func TestClientsAtOnceGetDifferentImages(t *testing.T) {
	s := newWorld("a", "b", "c", "d", "e", "f").strategies(1)
	var group sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]string{}
	for i, client := range []string{"1", "2", "3", "4", "5", "6"} {
		group.Go(func() {
			id, _, err := s[[]string{"random", "first", "last"}[i%3]].Next(context.Background(), api.NewObject("client_id", client))
			mu.Lock()
			defer mu.Unlock()
			if err != nil || seen[id] != "" {
				t.Errorf("client %s got %q, which client %q has; %v", client, id, seen[id], err)
			}
			seen[id] = client
		})
	}
	group.Wait()
}
