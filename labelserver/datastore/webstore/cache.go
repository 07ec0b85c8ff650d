package webstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"scrawl/adapters/dicomweb"
	"scrawl/labelserver/datastore"
)

// What a series' folder in the cache holds.
const (
	instancesDir     = "instances"     // <SOPInstanceUID>.dcm
	segmentationsDir = "segmentations" // <SOPInstanceUID>.nii.gz, made of the archive's segmentations
	entryFile        = "entry.json"    // written last; its modification time is that of the last use
	tempDirPrefix    = ".fetch-"
)

// madeBy is the version of what is made of instances; files made by another are made anew.
const madeBy = 1

// cache is the folder of series that were fetched. A series' folder is complete or not there: it is filled beside its place and renamed.
type cache struct {
	dir    string
	limit  int64
	expiry time.Duration
	now    func() time.Time
	log    zerolog.Logger
	sums   datastore.Checksums

	// use is held shared while a series' folder is read or added to, and alone while it is replaced or removed.
	use keyed

	mu        sync.Mutex
	validated map[string]time.Time // when a series was last compared with the archive
}

// cacheEntry is entry.json.
type cacheEntry struct {
	MadeBy    int   `json:"made_by"`
	Instances int   `json:"instances"`
	Bytes     int64 `json:"bytes"` // of the instances
}

func openCache(dir string, limit int64, expiry time.Duration, now func() time.Time, log zerolog.Logger) (*cache, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	c := &cache{dir: dir, limit: limit, expiry: expiry, now: now, log: log, validated: map[string]time.Time{}}
	left, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range left {
		if strings.HasPrefix(e.Name(), tempDirPrefix) { // of a process that died
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// Paths are made of checked UIDs only.
func (c *cache) path(id string, elements ...string) string {
	return filepath.Join(append([]string{c.dir, id}, elements...)...)
}

func (c *cache) imagePath(id string) string { return c.path(id, id+imageExt) }

func (c *cache) segmentationPath(id, instance string) string {
	return c.path(id, segmentationsDir, instance+imageExt)
}

// instances are the files of a series.
func (c *cache) instances(id string) fs.FS { return os.DirFS(c.path(id, instancesDir)) }

// entry tells of a series that is in the cache and whole.
func (c *cache) entry(id string) (cacheEntry, bool) {
	var e cacheEntry
	text, err := os.ReadFile(c.path(id, entryFile))
	if err != nil || json.Unmarshal(text, &e) != nil {
		return e, false
	}
	files, err := os.ReadDir(c.path(id, instancesDir))
	if err != nil || len(files) != e.Instances {
		return e, false
	}
	total := int64(0)
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			return e, false
		}
		total += info.Size()
	}
	return e, total == e.Bytes && e.MadeBy == madeBy
}

// begin makes a folder to fill. The caller commits or removes it.
func (c *cache) begin() (string, error) {
	dir, err := os.MkdirTemp(c.dir, tempDirPrefix)
	if err != nil {
		return "", err
	}
	return dir, os.Mkdir(filepath.Join(dir, instancesDir), 0o700)
}

// commit puts a filled folder in the place of a series.
func (c *cache) commit(dir, id string, e cacheEntry) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	now := c.now()
	if err := errors.Join(writeFile(filepath.Join(dir, entryFile), text), os.Chtimes(filepath.Join(dir, entryFile), now, now)); err != nil {
		return err
	}
	defer c.use.Lock(id)()
	if err := os.RemoveAll(c.path(id)); err != nil {
		return err
	}
	if err := os.Rename(dir, c.path(id)); err != nil {
		return err
	}
	c.validate(id)
	return nil
}

// remove drops a series.
func (c *cache) remove(id string) error {
	defer c.use.Lock(id)()
	return os.RemoveAll(c.path(id))
}

// touch notes that a series is in use.
func (c *cache) touch(id string) {
	now := c.now()
	if err := os.Chtimes(c.path(id, entryFile), now, now); err != nil {
		c.log.Warn().Err(err).Str("series", id).Msg("use of a series in the cache cannot be noted")
	}
}

func (c *cache) validate(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.validated[id] = c.now()
}

func (c *cache) validatedWithin(id string, d time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.validated[id]
	return ok && c.now().Sub(at) < d
}

type cached struct {
	id    string
	bytes int64
	used  time.Time
}

// sweep removes series that nobody has used for too long, and the longest unused until the rest fits. Those being read now stay, as does
// the one to keep ("" for none), even if it alone is larger than the limit: it has come for somebody.
func (c *cache) sweep(keep string) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	var all []cached
	total := int64(0)
	for _, e := range entries {
		if !e.IsDir() || dicomweb.CheckUID(e.Name()) != nil {
			continue
		}
		one := cached{id: e.Name(), bytes: sizeOf(c.path(e.Name()))}
		if info, err := os.Stat(c.path(one.id, entryFile)); err == nil {
			one.used = info.ModTime()
		}
		total += one.bytes
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b cached) int { return a.used.Compare(b.used) })
	var errs []error
	for _, one := range all {
		if one.id == keep || (total <= c.limit && c.now().Sub(one.used) <= c.expiry) {
			continue
		}
		unlock, ok := c.use.TryLock(one.id)
		if !ok {
			continue
		}
		if err := os.RemoveAll(c.path(one.id)); err != nil {
			errs = append(errs, err)
		} else {
			total -= one.bytes
			c.log.Debug().Str("series", one.id).Int64("bytes", one.bytes).Msg("series removed from the cache")
		}
		unlock()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sweeping the cache %s: %w", c.dir, err)
	}
	return nil
}

// sizeOf is what a folder's files take; what goes meanwhile counts nothing.
func sizeOf(dir string) int64 {
	total := int64(0)
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil //nolint:nilerr // gone meanwhile
		}
		if info, err := e.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}
