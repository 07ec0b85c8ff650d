package annotation

import (
	"container/list"
	"context"
	"fmt"
	"sync"

	"scrawl/apps/interact"
)

// image is a decoded volume, prepared for a model, with the hash of its content that state is bound to.
type image struct {
	interact.Image
	hash string
}

// imageKeyed names a cached image. Networks want images prepared differently.
type imageKeyed struct {
	network string
	key     ImageKey
}

type cachedImage struct {
	name    imageKeyed
	version string
	img     *image
	bytes   int64
}

// imageCache keeps decoded volumes, the least recently used going first when they take more than a number of bytes.
type imageCache struct {
	mu     sync.Mutex
	budget int64
	used   int64
	order  *list.List // of *cachedImage, the most recent in front
	at     map[imageKeyed]*list.Element
}

func newImageCache(budget int64) *imageCache {
	return &imageCache{budget: budget, order: list.New(), at: map[imageKeyed]*list.Element{}}
}

// get returns the request's image, decoding it when it is not cached in the same version.
func (c *imageCache) get(ctx context.Context, e Entry, im Image) (*image, error) {
	name := imageKeyed{e.Network, im.Key}
	if img := c.find(name, im.Version); img != nil {
		return img, nil
	}
	v, err := im.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", im.Key.ID, err)
	}
	img := &image{Image: e.prepare(v), hash: hashText(v)}
	c.put(&cachedImage{name: name, version: im.Version, img: img, bytes: 4 * int64(len(v.Voxels))})
	return img, nil
}

func (c *imageCache) find(name imageKeyed, version string) *image {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.at[name]
	if el == nil {
		return nil
	}
	ci := el.Value.(*cachedImage)
	if version == "" || ci.version != version {
		return nil
	}
	c.order.MoveToFront(el)
	return ci.img
}

// cached returns an image of that key and content if it is in memory.
func (c *imageCache) cached(key ImageKey, hash string) (*image, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, el := range c.at {
		if ci := el.Value.(*cachedImage); name.key == key && ci.img.hash == hash {
			return ci.img, true
		}
	}
	return nil, false
}

func (c *imageCache) put(ci *cachedImage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.at[ci.name]; el != nil {
		c.remove(el)
	}
	c.at[ci.name] = c.order.PushFront(ci)
	c.used += ci.bytes
	for c.used > c.budget && c.order.Len() > 1 {
		c.remove(c.order.Back())
	}
}

func (c *imageCache) remove(el *list.Element) {
	ci := c.order.Remove(el).(*cachedImage)
	delete(c.at, ci.name)
	c.used -= ci.bytes
}

// drop forgets an image.
func (c *imageCache) drop(key ImageKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, el := range c.at {
		if name.key == key {
			c.remove(el)
		}
	}
}
