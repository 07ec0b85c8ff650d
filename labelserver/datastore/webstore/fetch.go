package webstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"scrawl/adapters/dicomweb"
	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/labelserver/datastore"
)

// once runs f for a key unless it is running already, and waits for it as long as ctx lasts. f has the store's own time: it goes on for
// others, and for the next call, when this one's client leaves.
func (s *Store) once(ctx context.Context, key string, f func(ctx context.Context) error) error {
	done := s.fetches.DoChan(key, func() (any, error) {
		if s.closed.Load() {
			return nil, os.ErrClosed
		}
		own, cancel := context.WithTimeoutCause(s.ctx, s.o.Fetch, fmt.Errorf("it takes longer than %v: %w", s.o.Fetch, datastore.ErrUnavailable))
		defer cancel()
		err := f(own)
		if err != nil && own.Err() != nil && s.ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", context.Cause(own), err)
		}
		return nil, err
	})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case res := <-done:
		return res.Err
	}
}

// openImage opens the volume made of a series.
func (s *Store) openImage(ctx context.Context, of *series) (*os.File, error) {
	return s.openMade(ctx, of, s.cache.imagePath(of.uid), func(ctx context.Context) error { return s.makeImage(ctx, of) })
}

// openMade opens a file of the cache that make makes of a series' instances, if need be.
func (s *Store) openMade(ctx context.Context, of *series, path string, produce func(ctx context.Context) error) (*os.File, error) {
	if ctx.Err() != nil {
		ctx = s.ctx // asked for behind the answer to a request: the time of the fetch is the limit
	}
	fresh := s.cache.validatedWithin(of.uid, s.o.Refresh)
	for range 4 {
		if fresh {
			f, err := s.openCached(of.uid, path)
			if !errors.Is(err, fs.ErrNotExist) {
				return f, err
			}
		}
		err := s.once(ctx, path, func(ctx context.Context) error {
			if err := s.ensure(ctx, of); err != nil {
				return err
			}
			if _, err := os.Stat(path); err == nil {
				return nil
			}
			return errors.Join(produce(ctx), s.cache.sweep(of.uid))
		})
		if err != nil && !errors.Is(err, errEvicted) {
			return nil, err
		}
		fresh = true
	}
	return nil, s.leaves(of)
}

func (s *Store) leaves(of *series) error {
	return fmt.Errorf("series %s leaves the cache as fast as it comes: the cache may take %d bytes, want more: %w", of.uid, s.o.CacheBytes, datastore.ErrUnavailable)
}

// errEvicted is a series that left the cache before it was used.
var errEvicted = errors.New("series left the cache")

// reading keeps a series in the cache until release is called.
func (s *Store) reading(of *series) (release func(), err error) {
	release = s.cache.use.RLock(of.uid)
	if _, ok := s.cache.entry(of.uid); !ok {
		release()
		return nil, errEvicted
	}
	return release, nil
}

func (s *Store) openCached(id, path string) (*os.File, error) {
	defer s.cache.use.RLock(id)()
	f, err := os.Open(path)
	if err == nil {
		s.cache.touch(id)
	}
	return f, err
}

// ensure sees to it that the cache has the series as it is in the archive now.
func (s *Store) ensure(ctx context.Context, of *series) error {
	return s.once(ctx, "series "+of.uid, func(ctx context.Context) error {
		if entry, ok := s.cache.entry(of.uid); ok {
			current, err := s.isCurrent(ctx, of, entry)
			if current || err != nil {
				return err
			}
		}
		err := s.fetch(ctx, of)
		if errors.Is(err, errChanged) {
			err = s.fetch(ctx, of)
		}
		if errors.Is(err, fs.ErrNotExist) {
			s.forget(of.uid)
		}
		if err != nil {
			return fmt.Errorf("fetching series %s: %w", of.uid, err)
		}
		return s.cache.sweep(of.uid)
	})
}

// instances are the DICOM files of a series.
func (s *Store) instances(ctx context.Context, of *series) (fs.FS, []string, error) {
	if err := s.ensure(ctx, of); err != nil {
		return nil, nil, err
	}
	release, err := s.reading(of)
	if err != nil {
		return nil, nil, s.leaves(of)
	}
	defer release()
	folder := s.cache.instances(of.uid)
	files, err := fs.ReadDir(folder, ".")
	if err != nil {
		return nil, nil, err
	}
	s.cache.touch(of.uid)
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	return folder, names, nil
}

// isCurrent compares a cached series with the archive's. While the archive cannot be asked it counts as current.
func (s *Store) isCurrent(ctx context.Context, of *series, entry cacheEntry) (bool, error) {
	if s.cache.validatedWithin(of.uid, s.o.Refresh) {
		return true, nil
	}
	found, err := s.client.SearchSeries(ctx, url.Values{keySeriesUID: {of.uid}})
	if err != nil {
		s.o.Log.Warn().Err(err).Str("series", of.uid).Msg("the archive cannot be asked whether a series has changed, its copy is used")
		s.cache.validate(of.uid)
		return true, ctx.Err()
	}
	for _, d := range found {
		if d.Text(dicomweb.TagSeriesInstanceUID) != of.uid {
			continue
		}
		n, known := d.Int(dicomweb.TagSeriesInstances)
		if !known || n == entry.Instances {
			s.cache.validate(of.uid)
			return true, nil
		}
		return false, nil
	}
	s.forget(of.uid)
	return false, errors.Join(notInArchive(of.uid), s.cache.remove(of.uid))
}

// errChanged is a series that changed while it was fetched.
var errChanged = fmt.Errorf("the series changed while it was fetched: %w", datastore.ErrUnavailable)

// fetch copies a series into the cache: all instances in one answer, and what that leaves out one by one.
func (s *Store) fetch(ctx context.Context, of *series) error {
	start := s.o.Now()
	dir, err := s.cache.begin()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // gone when all went well
	f := &fetching{client: s.client, of: of, dir: filepath.Join(dir, instancesDir), left: s.o.MaxSeries, limit: s.o.MaxSeries, have: map[string]bool{}}
	if err := f.run(ctx); err != nil {
		return told(err)
	}
	if err := s.cache.commit(dir, of.uid, cacheEntry{MadeBy: madeBy, Instances: len(f.have), Bytes: s.o.MaxSeries - f.left}); err != nil {
		return err
	}
	s.o.Log.Info().Str("series", of.uid).Int("instances", len(f.have)).Int64("bytes", s.o.MaxSeries-f.left).Dur("ms", s.o.Now().Sub(start)).Msg("series fetched")
	return nil
}

// fetching is one fetch of a series.
type fetching struct {
	client *dicomweb.Client
	of     *series
	dir    string
	limit  int64

	mu   sync.Mutex
	left int64           // bytes that may still come
	have map[string]bool // instances that have come
	n    int             // names of files so far
}

func (f *fetching) run(ctx context.Context) error {
	expected, err := f.expected(ctx)
	if err != nil {
		return err
	}
	err = f.client.RetrieveSeries(ctx, f.of.study, f.of.uid, func(r io.Reader) error { return f.store(r) })
	if err != nil && (expected == nil || !errors.Is(err, dicomweb.ErrUnavailable) || ctx.Err() != nil) {
		return err
	}
	return f.complete(ctx, expected)
}

// expected are the UIDs of the series' instances, nil if the archive does not list them.
func (f *fetching) expected(ctx context.Context) ([]string, error) {
	found, err := f.client.SearchInstances(ctx, f.of.study, f.of.uid)
	if errors.Is(err, dicomweb.ErrProtocol) {
		return nil, nil // an archive may search for series only
	}
	var uids []string
	for _, d := range found {
		uids = append(uids, d.Text(dicomweb.TagSOPInstanceUID))
	}
	if err == nil && len(uids) == 0 {
		err = notInArchive(f.of.uid)
	}
	return uids, err
}

// complete fetches the instances that have not come yet.
func (f *fetching) complete(ctx context.Context, expected []string) error {
	missing := slices.DeleteFunc(slices.Clone(expected), func(uid string) bool { return f.have[uid] })
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, uid := range missing {
		group.Go(func() error {
			err := f.client.RetrieveInstance(ctx, f.of.study, f.of.uid, uid, func(r io.Reader) error { return f.store(r) })
			if errors.Is(err, dicomweb.ErrNotFound) {
				return errChanged
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, uid := range missing {
		if !f.have[uid] {
			return fmt.Errorf("instance %s did not come: %w", uid, datastore.ErrUnavailable)
		}
	}
	if len(f.have) == 0 {
		return notInArchive(f.of.uid)
	}
	return nil
}

// store writes an instance to a file that is named after it.
func (f *fetching) store(r io.Reader) error {
	f.mu.Lock()
	f.n++
	temp := filepath.Join(f.dir, fmt.Sprintf(".%d", f.n))
	f.mu.Unlock()
	uid, size, err := writeInstance(temp, &counted{r, f})
	if err != nil {
		f.giveBack(size)
		return errors.Join(err, os.Remove(temp))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.have[uid] {
		f.left += size
		return os.Remove(temp)
	}
	f.have[uid] = true
	return os.Rename(temp, filepath.Join(f.dir, uid+".dcm"))
}

func (f *fetching) giveBack(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left += size
}

// counted takes what is read from what may still come.
type counted struct {
	io.Reader
	f *fetching
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	if c.f.left -= int64(n); c.f.left < 0 {
		return n, fmt.Errorf("series has more than %d bytes: %w", c.f.limit, datastore.ErrTooLarge)
	}
	return n, err
}

func writeInstance(path string, r io.Reader) (uid string, size int64, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", 0, err
	}
	size, err = io.Copy(file, r)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err == nil {
		if uid, err = dicomweb.InstanceUID(file); err != nil {
			err = fmt.Errorf("%w: %w", dicomweb.ErrProtocol, err)
		}
	}
	return uid, size, errors.Join(err, file.Close())
}

// makeImage makes the volume of a cached series.
func (s *Store) makeImage(ctx context.Context, of *series) error {
	release, err := s.reading(of)
	if err != nil {
		return err
	}
	defer release()
	v, err := s.o.Imaging.Volume(ctx, s.cache.instances(of.uid))
	if err != nil {
		return fmt.Errorf("series %s is no volume: %w", of.uid, err)
	}
	return s.write(s.cache.imagePath(of.uid), func(w io.Writer) error { return encodeVolume(w, v) })
}

// encodeVolume writes voxels in the smallest type that holds them.
func encodeVolume(w io.Writer, v *volume.Volume) error {
	var err error
	for _, dtype := range []string{"int16", "uint16", "float32"} {
		if err = format.Encode("x"+imageExt, w, v, format.Options{DType: dtype, Compress: true}); err == nil {
			return nil
		}
	}
	return err
}

func (s *Store) write(path string, produce func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".made-*.tmp")
	if err != nil {
		return err
	}
	if err = errors.Join(produce(f), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// sweepInterval is how often expired series are looked for.
const sweepInterval = time.Hour

func (s *Store) sweepCache() {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		if err := s.cache.sweep(""); err != nil {
			s.o.Log.Warn().Err(err).Msg("series cannot be removed from the cache")
		}
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
	}
}
