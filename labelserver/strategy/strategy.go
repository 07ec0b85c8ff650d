// Package strategy picks the image to label next. An image with a final label is never picked.
//
// # Several annotators
//
// An image that was given to one client is leased to it: for a while other clients get other images as long as there are any.
// Asking again prolongs the client's own lease, and a label under the tag final ends it with the image's turn. Who got an image
// when is read from the image's info, where the server records it as MONAI Label does (strategy.NAME = {"ts", "client_id"}), so
// that leases survive a restart and hold between servers on one folder. Between picking and recording the lease is known to this
// process alone. Clients that do not say who they are count as one.
//
// # Uncertainty
//
// Strategies named after a model rank images by how much its answers, with what the client has taught it, differ between augmented
// copies of the image. That takes seconds an image, so it is done in the background and remembered by content and weights; a request
// waits for it a short time only, and makes do with what is known by then.
package strategy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// Names of the strategies.
const (
	Random = "random" // by chance, the longer not given out the likelier
	First  = "first"  // the first id in order
	Last   = "last"   // the last id in order
)

// DefaultLease is how long an image is kept for the client that got it: about what a careful label of a volume takes.
const DefaultLease = 30 * time.Minute

// anonymous is the client on record for requests that name none, as with the incumbent.
const anonymous = "admin"

// Images is what strategies need of a datastore: the images without a final label in order of ids, with their infos.
type Images interface {
	Unlabelled(ctx context.Context) ([]datastore.Item, error)
}

// Options are what strategies depend on beside the images.
type Options struct {
	// Rankings are offered after the others.
	Rankings []Ranking
	// Wait is how long a client waits for uncertainties to be known at most. Default DefaultWait.
	Wait time.Duration
	// Go runs work in the background, until it is done or the context it is given ends. Default a goroutine with no end of its own.
	Go func(work func(ctx context.Context))
	// Lease is how long an image is kept for one client. Default DefaultLease.
	Lease time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Rand is the source of chance. Only the strategies may use it from now on. Default a new one with a random seed.
	Rand *rand.Rand
}

// Strategy is one way to pick. It is safe for concurrent use.
type Strategy struct {
	name, description string
	// prepare finds out what pick needs to know of the images, outside any lock. May be nil.
	prepare func(ctx context.Context, client string, items []datastore.Item) error
	pick    func(c *chooser, client string, items []datastore.Item) (datastore.Item, *api.Object)
	chooser *chooser
}

// New returns the strategies over a datastore in the order in which clients shall offer them; the first is their default. They
// share their leases.
func New(images Images, o Options) []*Strategy {
	c := &chooser{images: images, lease: o.Lease, now: o.Now, rand: o.Rand, given: make(map[string]lease)}
	if c.lease <= 0 {
		c.lease = DefaultLease
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.rand == nil {
		c.rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if o.Wait <= 0 {
		o.Wait = DefaultWait
	}
	if o.Go == nil {
		o.Go = func(work func(context.Context)) { go work(context.Background()) }
	}
	all := []*Strategy{
		{name: Random, description: "Random Strategy", pick: (*chooser).random, chooser: c},
		{name: First, description: "Get First Sample", pick: (*chooser).first, chooser: c},
		{name: Last, description: "Get Last Sample", pick: (*chooser).last, chooser: c},
	}
	for _, r := range o.Rankings {
		all = append(all, epistemic(r, o, c))
	}
	return all
}

// Name is the strategy's name in requests.
func (s *Strategy) Name() string { return s.name }

// Description says what the strategy does, in MONAI Label's words.
func (s *Strategy) Description() string { return s.description }

// Next picks an image for the client that params name as client_id and leases it to that client. It returns the image's id and
// what the strategy has to say about it: weight, in seconds, for random. The id is "" when every image has a final label.
func (s *Strategy) Next(ctx context.Context, params *api.Object) (id string, details *api.Object, err error) {
	client, _ := params.Text("client_id")
	if client == "" {
		client = anonymous
	}
	item, details, err := s.next(ctx, client)
	if err != nil {
		return "", nil, fmt.Errorf("strategy %s: %w", s.name, err)
	}
	return item.ID, details, nil
}

func (s *Strategy) next(ctx context.Context, client string) (datastore.Item, *api.Object, error) {
	if s.prepare != nil {
		items, err := s.chooser.available(ctx, client)
		if err != nil || len(items) == 0 {
			return datastore.Item{}, &api.Object{}, err
		}
		if err := s.prepare(ctx, client, items); err != nil {
			return datastore.Item{}, nil, err
		}
	}
	return s.chooser.next(ctx, client, s.pick)
}

// chooser is what the strategies of one datastore share.
type chooser struct {
	images Images
	lease  time.Duration
	now    func() time.Time

	mu    sync.Mutex // held from looking to leasing, so that two clients never see the same image free
	rand  *rand.Rand
	given map[string]lease // by image id, the newest only
}

// lease is an image given to a client.
type lease struct {
	client string
	at     time.Time
}

// available are the images that a client could be given now.
func (c *chooser) available(ctx context.Context, client string) ([]datastore.Item, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.candidates(ctx, client, c.now())
}

// candidates are the images that no other client holds, or, when there are none, all. It is called with mu held.
func (c *chooser) candidates(ctx context.Context, client string, now time.Time) ([]datastore.Item, error) {
	items, err := c.images.Unlabelled(ctx)
	if err != nil {
		return nil, err
	}
	if free := c.free(items, client, now); len(free) > 0 {
		items = free
	}
	return items, nil
}

func (c *chooser) next(ctx context.Context, client string, pick func(*chooser, string, []datastore.Item) (datastore.Item, *api.Object)) (datastore.Item, *api.Object, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	items, err := c.candidates(ctx, client, now)
	if err != nil || len(items) == 0 {
		return datastore.Item{}, &api.Object{}, err
	}
	item, details := pick(c, client, items)
	for id, l := range c.given {
		if now.Sub(l.at) >= c.lease {
			delete(c.given, id)
		}
	}
	c.given[item.ID] = lease{client, now}
	return item, details, nil
}

// free lists the images that no other client holds.
func (c *chooser) free(items []datastore.Item, client string, now time.Time) []datastore.Item {
	var free []datastore.Item
	for _, item := range items {
		l, held := c.holder(item)
		if !held || l.client == client || now.Sub(l.at) >= c.lease {
			free = append(free, item)
		}
	}
	return free
}

// holder is the client to which an image was given last, by any strategy.
func (c *chooser) holder(item datastore.Item) (l lease, held bool) {
	l, held = c.given[item.ID]
	served, _ := item.Info.Object("strategy")
	for name := range served.All() {
		record, _ := served.Object(name)
		// Records have whole seconds: one of the same second as a lease known here is that lease.
		if at := servedAt(record); !at.IsZero() && at.After(l.at) {
			client, _ := record.Text("client_id")
			l, held = lease{client, at}, true
		}
	}
	return l, held
}

// servedAt is the time of a record {"ts", "client_id"}, zero without one.
func servedAt(record *api.Object) time.Time {
	ts, ok := record.Number("ts")
	if !ok || ts <= 0 || ts > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(ts), 0)
}

func (c *chooser) first(_ string, items []datastore.Item) (datastore.Item, *api.Object) {
	return items[0], &api.Object{}
}

func (c *chooser) last(_ string, items []datastore.Item) (datastore.Item, *api.Object) {
	return items[len(items)-1], &api.Object{}
}

// random picks with the seconds since this strategy gave an image out as its weight, the time since 1970 if it never has: new
// images come before any other.
func (c *chooser) random(_ string, items []datastore.Item) (datastore.Item, *api.Object) {
	now := c.now().Unix()
	weights := make([]int64, len(items))
	var total int64
	for i, item := range items {
		served, _ := item.Info.Object("strategy")
		record, _ := served.Object(Random)
		weights[i] = now
		if at := servedAt(record); !at.IsZero() {
			weights[i] = now - at.Unix()
		}
		weights[i] = max(1, weights[i]) // given out this very second, or by a clock ahead of ours: still possible
		total += weights[i]
	}
	at := 0
	for draw := c.rand.Int64N(total); draw >= weights[at]; at++ {
		draw -= weights[at]
	}
	return items[at], api.NewObject("weight", weights[at])
}
