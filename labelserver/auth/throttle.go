package auth

import (
	"sync"
	"time"
)

// Wrong passwords: so many at once, and then one each time.
const (
	loginBurst   = 10
	loginRefill  = 6 * time.Second
	maxThrottled = 10000
)

// throttle slows the guessing of a password down. It counts by user name: an address is cheaper to change.
type throttle struct {
	now func() time.Time

	mu    sync.Mutex
	spent map[string]spending
}

// spending is a leaky bucket: how many tries were spent at a time.
type spending struct {
	tries float64
	at    time.Time
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, spent: make(map[string]spending)}
}

// allow spends a try, if there is one.
func (t *throttle) allow(username string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	s := t.left(username, now)
	if s.tries > loginBurst-1 {
		return false
	}
	if len(t.spent) >= maxThrottled {
		t.tidy(now)
	}
	t.spent[username] = spending{s.tries + 1, now}
	return true
}

// refund gives a try back.
func (t *throttle) refund(username string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.left(username, t.now())
	if s.tries <= 1 {
		delete(t.spent, username)
		return
	}
	t.spent[username] = spending{s.tries - 1, s.at}
}

func (t *throttle) left(username string, now time.Time) spending {
	s := t.spent[username]
	return spending{max(0, s.tries-now.Sub(s.at).Seconds()/loginRefill.Seconds()), now}
}

// tidy forgets whose tries are all back, and everybody if that is nobody: memory stays bounded when names are made up.
func (t *throttle) tidy(now time.Time) {
	for name := range t.spent {
		if t.left(name, now).tries == 0 {
			delete(t.spent, name)
		}
	}
	if len(t.spent) >= maxThrottled {
		clear(t.spent)
	}
}
