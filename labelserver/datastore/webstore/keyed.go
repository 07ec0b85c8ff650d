package webstore

import "sync"

// keyed is a lock for each key. The zero value is ready.
type keyed struct {
	mu   sync.Mutex
	held map[string]*keyedLock
}

type keyedLock struct {
	sync.RWMutex
	users int
}

func (k *keyed) of(key string) *keyedLock {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == nil {
		k.held = map[string]*keyedLock{}
	}
	l := k.held[key]
	if l == nil {
		l = &keyedLock{}
		k.held[key] = l
	}
	l.users++
	return l
}

func (k *keyed) done(key string, l *keyedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.held, key)
	}
}

// Lock waits for the key's lock and returns what gives it back.
func (k *keyed) Lock(key string) (unlock func()) {
	l := k.of(key)
	l.Lock()
	return func() { l.Unlock(); k.done(key, l) }
}

// RLock is Lock shared with other readers.
func (k *keyed) RLock(key string) (unlock func()) {
	l := k.of(key)
	l.RLock()
	return func() { l.RUnlock(); k.done(key, l) }
}

// TryLock is Lock if nobody has to be waited for.
func (k *keyed) TryLock(key string) (unlock func(), ok bool) {
	l := k.of(key)
	if !l.TryLock() {
		k.done(key, l)
		return nil, false
	}
	return func() { l.Unlock(); k.done(key, l) }, true
}
