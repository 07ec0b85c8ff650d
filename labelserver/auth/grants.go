package auth

import (
	"sync"
	"time"
)

// maxGrants bounds the memory of Grants.
const maxGrants = 10000

// Grants are permissions to read one image from one address without a token, for a short time. It is safe for concurrent use.
type Grants struct {
	life time.Duration
	now  func() time.Time

	mu    sync.Mutex
	until map[grant]time.Time
}

type grant struct{ address, image string }

// NewGrants makes grants that hold for life; 0 grants nothing.
func NewGrants(life time.Duration, now func() time.Time) *Grants {
	if now == nil {
		now = time.Now
	}
	return &Grants{life: life, now: now, until: make(map[grant]time.Time)}
}

// Give lets an address read an image from now on. When there are too many grants the new one is not given.
func (g *Grants) Give(address, image string) {
	if g.life <= 0 || address == "" || image == "" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	for key, until := range g.until {
		if now.After(until) {
			delete(g.until, key)
		}
	}
	if len(g.until) < maxGrants {
		g.until[grant{address, image}] = now.Add(g.life)
	}
}

// Holds reports whether an address may read an image.
func (g *Grants) Holds(address, image string) bool {
	if g.life <= 0 {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	until, ok := g.until[grant{address, image}]
	return ok && !g.now().After(until)
}
