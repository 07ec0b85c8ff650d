package datastore

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"time"
)

// Hash names a hash function as clients write it.
type Hash string

// The hash functions MONAI Label's clients know.
const (
	SHA256 Hash = "SHA256"
	SHA512 Hash = "SHA512"
	MD5    Hash = "MD5" // clients name it; nothing is secured by it
)

func (h Hash) new() hash.Hash {
	switch h {
	case SHA256:
		return sha256.New()
	case SHA512:
		return sha512.New()
	case MD5:
		return md5.New()
	}
	return nil
}

func unknownHash(h Hash) error {
	return fmt.Errorf("checksum of kind %q, want %s, %s or %s: %w", h, SHA256, SHA512, MD5, ErrInvalid)
}

// Checksums remembers the hashes of files by their size and modification time. The zero value is ready; it is safe for
// concurrent use.
type Checksums struct {
	mu    sync.Mutex
	known map[checksumKey]checksum
}

type checksumKey struct {
	path string
	kind Hash
}

type checksum struct {
	size     int64
	modified time.Time
	sum      string
}

// Of returns the hash of an item's file.
func (c *Checksums) Of(ctx context.Context, item Item, kind Hash) (string, error) {
	h := kind.new()
	if h == nil {
		return "", unknownHash(kind)
	}
	f, err := item.Open()
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("checksum of %q: %w", item.ID, err)
	}
	key := checksumKey{item.Path, kind}
	c.mu.Lock()
	known, ok := c.known[key]
	c.mu.Unlock()
	if ok && known.size == info.Size() && known.modified.Equal(info.ModTime()) {
		return known.sum, nil
	}
	if _, err := io.Copy(h, contextReader{ctx, f}); err != nil {
		return "", fmt.Errorf("checksum of %q: %w", item.ID, err)
	}
	sum := hex.EncodeToString(h.Sum(nil))
	after, err := f.Stat()
	if err != nil || after.Size() != info.Size() || !after.ModTime().Equal(info.ModTime()) {
		return sum, errors.Join(err) // written to meanwhile: not worth remembering
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = make(map[checksumKey]checksum)
	}
	c.known[key] = checksum{info.Size(), info.ModTime(), sum}
	return sum, nil
}

// Forget drops what is known of a file.
func (c *Checksums) Forget(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.known {
		if key.path == path {
			delete(c.known, key)
		}
	}
}

// contextReader ends a long copy when nobody waits for it any more.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
