package dicom

import (
	"errors"
	"fmt"
	"io"

	"scrawl/adapters/volume"
)

// cursor reads forward in a file through a window, so that skipping pixels costs nothing.
type cursor struct {
	r      io.ReaderAt
	size   int64
	pos    int64
	window []byte
	start  int64 // position of the window's first byte
}

const windowBytes = 32 << 10

// peek returns the next n bytes, n being at most windowBytes, without going on. Data that ends before is volume.ErrFormat.
func (c *cursor) peek(n int) ([]byte, error) {
	if c.pos < c.start || c.pos+int64(n) > c.start+int64(len(c.window)) {
		if c.size-c.pos < int64(n) {
			return nil, fmt.Errorf("%w: ends at byte %d, in the middle of an element", volume.ErrFormat, c.size)
		}
		if c.window == nil {
			c.window = make([]byte, windowBytes)
		}
		want := min(int64(windowBytes), c.size-c.pos)
		c.window = c.window[:want]
		if got, err := c.r.ReadAt(c.window, c.pos); err != nil && (!errors.Is(err, io.EOF) || int64(got) < want) {
			c.window = c.window[:0]
			return nil, readError(err)
		}
		c.start = c.pos
	}
	at := c.pos - c.start
	return c.window[at : at+int64(n)], nil
}

// next is peek and going on.
func (c *cursor) next(n int) ([]byte, error) {
	b, err := c.peek(n)
	if err == nil {
		c.pos += int64(n)
	}
	return b, err
}

// value reads n bytes into memory of their own. The caller has bounded n.
func (c *cursor) value(n int) ([]byte, error) {
	if n <= windowBytes {
		b, err := c.next(n)
		return append([]byte(nil), b...), err
	}
	out := make([]byte, n)
	if _, err := c.r.ReadAt(out, c.pos); err != nil && !errors.Is(err, io.EOF) {
		return nil, readError(err)
	}
	c.pos += int64(n)
	return out, nil
}

func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", volume.ErrFormat, io.ErrUnexpectedEOF)
	}
	return err
}
