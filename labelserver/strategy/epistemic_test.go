package strategy_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/strategy"
)

// judge is a model whose uncertainties are given.
type judge struct {
	mu      sync.Mutex
	values  map[string]float64
	content map[string]string
	version string
	asked   []string // "client image version"
	gate    chan struct{}
	err     error
}

func (j *judge) Version(context.Context, string) (string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.version, j.err
}

func (j *judge) Content(_ context.Context, item datastore.Item) (string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.content[item.ID] == "far away" {
		return "", errors.New("not here")
	}
	return j.content[item.ID], nil
}

func (j *judge) Score(ctx context.Context, client string, item datastore.Item) (float64, error) {
	if j.gate != nil {
		select {
		case <-j.gate:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked = append(j.asked, client+" "+item.ID+" "+j.version)
	v, ok := j.values[item.ID]
	if !ok {
		return 0, errors.New("no image")
	}
	return v, nil
}

func (j *judge) set(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f()
}

// ranked is the strategy by a judge, waiting as long as given; finish waits for what runs in the background.
func ranked(t *testing.T, w *world, j *judge, wait time.Duration) (next func(client string) (string, *api.Object), finish func()) {
	t.Helper()
	var background sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() { stop(); background.Wait() })
	all := strategy.New(w, strategy.Options{Wait: wait, Now: func() time.Time { return w.now }, Rankings: []strategy.Ranking{{Model: "net", Scorer: j}},
		Go: func(work func(context.Context)) { background.Go(func() { work(ctx) }) }})
	s := all[len(all)-1]
	if s.Name() != "net_epistemic" || all[0].Name() != strategy.Random {
		t.Fatalf("strategies end in %s and begin with %s", s.Name(), all[0].Name())
	}
	return func(client string) (string, *api.Object) {
		t.Helper()
		id, details, err := s.Next(t.Context(), api.NewObject("client_id", client))
		if err != nil {
			t.Fatal(err)
		}
		return id, details
	}, background.Wait
}

func TestLeastCertainFirst(t *testing.T) {
	w := newWorld("a", "b", "c", "broken")
	j := &judge{values: map[string]float64{"a": 0.1, "b": 0.3, "c": 0.2}, version: "1"}
	next, finish := ranked(t, w, j, time.Minute)
	id, details := next("ann")
	if e, _ := details.Number("epistemic_entropy"); id != "b" || e != 0.3 {
		t.Errorf("got %s with %v, want b with 0.3", id, details)
	}
	// Another annotator never gets the same one.
	if id, _ := next("bob"); id != "c" {
		t.Errorf("bob got %s, want c: b is ann's", id)
	}
	if id, _ := next("cleo"); id != "a" {
		t.Errorf("cleo got %s, want a", id)
	}
	finish()
	asked := len(j.asked)
	next("ann")
	finish()
	if more := j.asked[asked:]; len(more) > 1 { // the broken image may be tried again
		t.Errorf("%v was asked again with the same weights and images", more)
	}
	// Other weights, or another file of that name, are judged anew.
	j.set(func() { j.values["a"], j.version = 0.9, "2" })
	if id, _ := next("ann"); id != "b" {
		t.Errorf("got %s, want b: a is cleo's", id)
	}
	w.now = w.now.Add(time.Hour)
	if id, _ := next("ann"); id != "a" {
		t.Errorf("got %s, want a by the new weights", id)
	}
	finish()
	j.set(func() { j.values["c"], j.content = 1, map[string]string{"c": "changed"} })
	if id, _ := next("ann"); id != "c" {
		t.Errorf("got %s, want c whose file has changed", id)
	}
}

// However many images cannot be judged, those that can are.
func TestImagesFarAway(t *testing.T) {
	w := newWorld()
	j := &judge{values: map[string]float64{}, content: map[string]string{}, version: "1"}
	for i := range 200 {
		id := fmt.Sprintf("image %03d", i)
		w.items = append(w.items, datastore.Item{ID: id, Info: &api.Object{}})
		j.values[id], j.content[id] = float64(i), "far away"
	}
	j.content["image 150"] = "here"
	next, _ := ranked(t, w, j, time.Minute)
	if id, _ := next("ann"); id != "image 150" {
		t.Errorf("got %s, want the one that could be judged", id)
	}
	if len(j.asked) != 1 {
		t.Errorf("%d images were judged, want 1", len(j.asked))
	}
}

// A client does not wait for long: what is not judged yet comes last, and with nothing known the first image is given out.
func TestBoundedWait(t *testing.T) {
	w := newWorld("a", "b", "c")
	j := &judge{values: map[string]float64{"a": 0.1, "b": 0.3, "c": 0.2}, version: "1", gate: make(chan struct{})}
	next, finish := ranked(t, w, j, time.Millisecond)
	if id, details := next("ann"); id != "a" || details.Has("epistemic_entropy") {
		t.Errorf("got %s with %v before anything is known, want the first", id, details)
	}
	j.gate <- struct{}{}
	j.gate <- struct{}{}
	for range 1000 { // until the second score is booked; the third is held back
		if id, _ := next("ann"); id == "b" {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if id, _ := next("ann"); id != "b" {
		t.Errorf("got %s, want b, the best of what is known", id)
	}
	close(j.gate)
	finish()
	// New weights: until images are judged by them, the old scores count.
	j.set(func() { j.version = "2"; j.values["c"] = 0.9 })
	j.gate = make(chan struct{})
	if id, _ := next("ann"); id != "b" {
		t.Errorf("got %s while new scores are being made, want b by the old ones", id)
	}
	close(j.gate)
	finish()
	if id, _ := next("ann"); id != "c" {
		t.Errorf("got %s, want c by the new weights", id)
	}
}

func TestErrorsOfScorers(t *testing.T) {
	j := &judge{err: errors.New("no such model")}
	for _, w := range []*world{newWorld("a"), {err: errors.New("no disk"), now: time.Unix(start, 0)}} {
		all := strategy.New(w, strategy.Options{Rankings: []strategy.Ranking{{Model: "net", Scorer: j}}})
		if _, _, err := all[3].Next(t.Context(), nil); err == nil {
			t.Error("an error was swallowed")
		}
	}
	all := strategy.New(newWorld(), strategy.Options{Rankings: []strategy.Ranking{{Model: "net", Scorer: j}}})
	if id, _, err := all[3].Next(t.Context(), nil); id != "" || err != nil {
		t.Errorf("without images: %q, %v", id, err)
	}
}
