package strategy

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// EpistemicSuffix ends the names of strategies that rank images by a model's uncertainty: MODEL_epistemic, as in MONAI Label.
const EpistemicSuffix = "_epistemic"

// Scorer says how unsure a model is about images.
type Scorer interface {
	// Version names the weights by which Score judges for a client now. What was scored by others is out of date.
	Version(ctx context.Context, client string) (string, error)
	// Content names what is in an image's file: a score holds for one content. It is asked for every image, so it must not read or
	// fetch them; an error says that the image cannot be scored now.
	Content(ctx context.Context, item datastore.Item) (string, error)
	// Score is the higher the less certain the model is. It may take seconds; it gives way to whoever waits for an answer.
	Score(ctx context.Context, client string, item datastore.Item) (float64, error)
}

// Ranking is a strategy by uncertainty, to be offered for a model.
type Ranking struct {
	Model  string
	Scorer Scorer
}

const (
	// DefaultWait is how long a client waits for scores at most.
	DefaultWait = 2 * time.Second
	// scoredAtOnce bounds the images that one request has scored.
	scoredAtOnce = 64
	// keptScores bounds the scores in memory; the ones least recently made go first.
	keptScores = 100_000
)

// ranking scores images in the background and ranks them.
//
// A request waits a bounded time for the scores of the images that can be given out, then takes the one with the highest score.
// Where scores are missing, scores by earlier weights count; images without any come after those with one, in order of ids. So
// with no score at all the first image is given out, and the scoring goes on for the next request.
type ranking struct {
	scorer Scorer
	wait   time.Duration
	run    func(work func(ctx context.Context))

	mu      sync.Mutex
	scores  map[scoreKey]score
	made    uint64
	running map[string]chan struct{} // by client and version, closed when all that was asked is scored
}

type scoreKey struct{ client, id string }

// score is the newest of an image.
type score struct {
	value            float64
	version, content string
	number           uint64 // of the scores made
}

func newRanking(s Scorer, o Options) *ranking {
	return &ranking{scorer: s, wait: o.Wait, run: o.Go, scores: make(map[scoreKey]score), running: make(map[string]chan struct{})}
}

// prepare has images scored for a client, and waits until they are, but not longer than allowed.
func (r *ranking) prepare(ctx context.Context, client string, items []datastore.Item) error {
	version, err := r.scorer.Version(ctx, client)
	if err != nil {
		return err
	}
	done := r.start(ctx, client, version, items)
	if done == nil {
		return nil
	}
	timer := time.NewTimer(r.wait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// start begins to score what has no score by this version, unless that is under way. It returns nil when nothing is to be done.
func (r *ranking) start(ctx context.Context, client, version string, items []datastore.Item) <-chan struct{} {
	name := client + "\x00" + version
	r.mu.Lock()
	defer r.mu.Unlock()
	if done := r.running[name]; done != nil {
		return done
	}
	var missing []datastore.Item
	for _, item := range items {
		if len(missing) == scoredAtOnce {
			break
		}
		content, err := r.scorer.Content(ctx, item)
		if err != nil {
			continue
		}
		if s, ok := r.scores[scoreKey{client, item.ID}]; !ok || s.version != version || s.content != content {
			missing = append(missing, item)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	done := make(chan struct{})
	r.running[name] = done
	r.run(func(ctx context.Context) {
		defer func() {
			r.mu.Lock()
			delete(r.running, name)
			r.mu.Unlock()
			close(done)
		}()
		for _, item := range missing {
			if ctx.Err() != nil {
				return
			}
			// The user has taught more meanwhile: the next request begins anew, these scores would be out of date at once.
			if now, err := r.scorer.Version(ctx, client); err != nil || now != version {
				return
			}
			r.add(ctx, client, version, item)
		}
	})
	return done
}

// add scores one image. One that cannot be scored, because it cannot be read or has gone, is left without.
func (r *ranking) add(ctx context.Context, client, version string, item datastore.Item) {
	content, err := r.scorer.Content(ctx, item)
	if err != nil {
		return
	}
	value, err := r.scorer.Score(ctx, client, item)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made++
	r.scores[scoreKey{client, item.ID}] = score{value, version, content, r.made}
	if len(r.scores) > keptScores {
		r.thin()
	}
}

// thin forgets the older half of the scores. It is called with mu held.
func (r *ranking) thin() {
	numbers := make([]uint64, 0, len(r.scores))
	for _, s := range r.scores {
		numbers = append(numbers, s.number)
	}
	slices.Sort(numbers)
	for k, s := range r.scores {
		if s.number < numbers[len(numbers)/2] {
			delete(r.scores, k)
		}
	}
}

// pick takes the image with the highest score.
func (r *ranking) pick(client string, items []datastore.Item) (datastore.Item, *api.Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	best, found := 0, false
	var highest score
	for i, item := range items {
		if s, ok := r.scores[scoreKey{client, item.ID}]; ok && (!found || s.value > highest.value) {
			best, found, highest = i, true, s
		}
	}
	if !found {
		return items[0], api.NewObject()
	}
	return items[best], api.NewObject("epistemic_entropy", highest.value)
}

// epistemic makes the strategy of a ranking.
func epistemic(r Ranking, o Options, c *chooser) *Strategy {
	ranked := newRanking(r.Scorer, o)
	return &Strategy{
		name:        r.Model + EpistemicSuffix,
		description: "Get the sample that the model " + strings.TrimSuffix(r.Model, EpistemicSuffix) + " is least certain of",
		prepare:     ranked.prepare,
		pick: func(_ *chooser, client string, items []datastore.Item) (datastore.Item, *api.Object) {
			return ranked.pick(client, items)
		},
		chooser: c,
	}
}
