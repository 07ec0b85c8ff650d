package localstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// PutImage implements datastore.Store.
func (s *Store) PutImage(ctx context.Context, id, ext string, r io.Reader, info *api.Object) error {
	ext = s.ext.storedImage(ext)
	name, err := checkFile(id, ext)
	if err != nil {
		return err
	}
	x, err := s.writable(ctx)
	if err != nil {
		return err
	}
	temp, err := s.receive(ctx, x.imagesDir(), r, s.maxBytes)
	if err != nil {
		return fmt.Errorf("storing image %q: %w", id, err)
	}
	err = s.change(ctx, func(x *index) (edit, error) {
		path := filepath.Join(x.imagesDir(), name)
		if owner, taken := x.imageFile(name); (taken && owner != id) || s.reserved(path) {
			return edit{}, fmt.Errorf("file %q: %w", name, datastore.ErrConflict)
		}
		old := x.entries[id]
		oldExt, _ := old.image()
		e, err := old.withImage(ext, s.stamped(info, name)).sealed()
		if err != nil {
			return edit{}, err
		}
		_, known := x.entries[id]
		x.set(id, e)
		return s.replace(temp, path, filepath.Join(x.imagesDir(), fileName(id, oldExt)), known), nil
	})
	return s.finish(temp, err, "storing image %q", id)
}

// Register makes an image known to a detached store, so that it can have infos and labels. One that is known stays as it is. ext is
// that of the file clients see; the info gets the members ts and name as in PutImage.
func (s *Store) Register(ctx context.Context, id, ext string, info *api.Object) error {
	if !s.detached {
		return fmt.Errorf("registering image %q in a store that holds its images: %w", id, datastore.ErrInvalid)
	}
	name, err := checkFile(id, ext)
	if err != nil {
		return err
	}
	x, err := s.writable(ctx)
	if err != nil {
		return err
	}
	if _, known := x.entries[id]; known {
		return nil
	}
	return s.change(ctx, func(x *index) (edit, error) {
		if _, known := x.entries[id]; known {
			return edit{}, nil
		}
		return edit{}, x.update(id, entry{}.withImage(ext, s.stamped(info, name)))
	})
}

// PutLabel implements datastore.Store.
func (s *Store) PutLabel(ctx context.Context, id, tag, ext string, r io.Reader, info *api.Object) error {
	ext = s.ext.storedLabel(ext)
	name, err := checkFile(id, ext)
	if err != nil {
		return err
	}
	if err := datastore.CheckTag(tag); err != nil {
		return err
	}
	x, err := s.writable(ctx)
	if err != nil {
		return err
	}
	if _, err := x.find(id); err != nil {
		return err // before anything is read or a folder made
	}
	if err := s.root.MkdirAll(x.labelsDir(tag), 0o755); err != nil {
		return fmt.Errorf("storing label %q of image %q: %w", tag, id, err)
	}
	temp, err := s.receive(ctx, x.labelsDir(tag), r, s.maxBytes)
	if err != nil {
		return fmt.Errorf("storing label %q of image %q: %w", tag, id, err)
	}
	err = s.change(ctx, func(x *index) (edit, error) {
		old, err := x.find(id)
		if err != nil {
			return edit{}, err // deleted meanwhile
		}
		path := filepath.Join(x.labelsDir(tag), name)
		if owner, taken := x.labelFile(tag, name); (taken && owner != id) || s.reserved(path) {
			return edit{}, fmt.Errorf("file %q: %w", name, datastore.ErrConflict)
		}
		oldExt, _, known := old.label(tag)
		e, err := old.withLabel(tag, ext, s.stamped(info, name)).sealed()
		if err != nil {
			return edit{}, err
		}
		x.set(id, e)
		return s.replace(temp, path, filepath.Join(x.labelsDir(tag), fileName(id, oldExt)), known), nil
	})
	return s.finish(temp, err, "storing label %q of image %q", tag, id)
}

// checkFile checks id and extension and returns the file name they make.
func checkFile(id, ext string) (name string, err error) {
	if err := datastore.CheckID(id); err != nil {
		return "", err
	}
	if err := datastore.CheckExt(ext); err != nil {
		return "", err
	}
	name = fileName(id, ext)
	return name, datastore.CheckID(name) // both together may be too long
}

// reserved reports whether a path is the index's or a folder's.
func (s *Store) reserved(path string) bool {
	if path == indexFile {
		return true
	}
	info, err := s.root.Stat(path)
	return err == nil && info.IsDir()
}

// stamped returns the info with what the store itself knows of a file, in the incumbent's order.
func (s *Store) stamped(info *api.Object, name string) *api.Object {
	info = info.Clone()
	info.Set("ts", s.now().Unix())
	info.Set("name", name)
	return info
}

// finish removes a temporary file that did not get to its place and says what failed.
func (s *Store) finish(temp string, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, errors.Join(err, s.removeFile(temp)))...)
}

// DeleteImage implements datastore.Store.
func (s *Store) DeleteImage(ctx context.Context, id string) error {
	err := s.change(ctx, func(x *index) (edit, error) {
		e, err := x.find(id)
		if err != nil {
			return edit{}, err
		}
		paths, err := s.labelFiles(x, id)
		if err != nil {
			return edit{}, err
		}
		// The image goes last: as long as it is there, the labels that are left can be found.
		ext, _ := e.image()
		paths = append(paths, filepath.Join(x.imagesDir(), fileName(id, ext)))
		if set := s.series.Load(); set != nil {
			for _, name := range (*set)[id].Files {
				paths = append(paths, filepath.FromSlash(name))
			}
		}
		x.remove(id)
		return s.removal(paths...), nil
	})
	if err != nil {
		return fmt.Errorf("deleting image %q: %w", id, err)
	}
	return nil
}

// labelFiles lists the files of all labels of an image, those included that were put into the folder a moment ago: the next
// image of the same id must not inherit them.
func (s *Store) labelFiles(x *index, id string) ([]string, error) {
	var paths []string
	known := map[string]bool{}
	e := x.entries[id]
	for _, tag := range e.tags() {
		ext, _, _ := e.label(tag)
		path := filepath.Join(x.labelsDir(tag), fileName(id, ext))
		known[path] = true
		paths = append(paths, path)
	}
	tags, err := s.list(x.labelsDir(""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, tag := range tags.dirs {
		found, err := s.list(x.labelsDir(tag))
		if err != nil {
			return nil, err
		}
		for _, name := range found.files {
			path := filepath.Join(x.labelsDir(tag), name)
			if at, ok := s.labelOf(x, name); !ok || at.id != id || known[path] {
				continue
			}
			if _, taken := x.labelFile(tag, name); !taken {
				paths = append(paths, path)
			}
		}
	}
	return paths, nil
}

// DeleteLabel implements datastore.Store.
func (s *Store) DeleteLabel(ctx context.Context, id, tag string) error {
	err := s.change(ctx, func(x *index) (edit, error) {
		e, err := x.find(id)
		if err != nil {
			return edit{}, err
		}
		ext, _, err := e.findLabel(id, tag)
		if err != nil {
			return edit{}, err
		}
		x.set(id, e.withoutLabel(tag))
		return s.removal(filepath.Join(x.labelsDir(tag), fileName(id, ext))), nil
	})
	if err != nil {
		return fmt.Errorf("deleting label %q of image %q: %w", tag, id, err)
	}
	return nil
}

// UpdateImageInfo implements datastore.Store.
func (s *Store) UpdateImageInfo(ctx context.Context, id string, info *api.Object) error {
	return s.change(ctx, func(x *index) (edit, error) {
		e, err := x.find(id)
		if err != nil {
			return edit{}, err
		}
		ext, known := e.image()
		return edit{}, x.update(id, e.withImage(ext, merged(known, info)))
	})
}

// UpdateLabelInfo implements datastore.Store.
func (s *Store) UpdateLabelInfo(ctx context.Context, id, tag string, info *api.Object) error {
	return s.change(ctx, func(x *index) (edit, error) {
		e, err := x.find(id)
		if err != nil {
			return edit{}, err
		}
		ext, known, err := e.findLabel(id, tag)
		if err != nil {
			return edit{}, err
		}
		return edit{}, x.update(id, e.withLabel(tag, ext, merged(known, info)))
	})
}

func merged(known, info *api.Object) *api.Object {
	m := known.Clone()
	m.Merge(info)
	return m
}

func (x *index) update(id string, e entry) error {
	e, err := e.sealed()
	if err != nil {
		return err
	}
	x.set(id, e)
	return nil
}

// edit is what a change does to the files. before runs when the new index lies on the disk beside the old one, which it
// replaces next: what can fail for want of space has succeeded then. after cleans up.
type edit struct {
	before, after func() error
}

// replace puts a temporary file in its place. A predecessor of another extension goes when the index no longer names it.
func (s *Store) replace(temp, path, old string, hasOld bool) edit {
	e := edit{before: func() error { return s.place(temp, path) }}
	e.after = func() error {
		s.sums.Forget(filepath.Join(s.dir, path))
		if hasOld && old != path {
			return s.removeFile(old)
		}
		return nil
	}
	return e
}

// removal removes files before the index forgets them: a deletion that was cut off must not come undone.
func (s *Store) removal(paths ...string) edit {
	return edit{before: func() error {
		for _, path := range paths {
			s.sums.Forget(filepath.Join(s.dir, path))
			if err := s.removeFile(path); err != nil {
				return err
			}
		}
		return nil
	}}
}

// writable is snapshot for a change that is about to come.
func (s *Store) writable(ctx context.Context) (*index, error) {
	if s.readOnly {
		return nil, datastore.ErrReadOnly
	}
	return s.snapshot(ctx)
}

// change runs f on a clone of the newest index and writes it. Nothing has happened when f or the writing fails.
func (s *Store) change(ctx context.Context, f func(*index) (edit, error)) error {
	if s.readOnly {
		return datastore.ErrReadOnly
	}
	return s.locked(ctx, func() error {
		x, _, err := s.latest()
		if err != nil {
			return err
		}
		next := x.clone()
		e, err := f(next)
		if err != nil {
			return err
		}
		return s.save(ctx, next, e)
	})
}

// locked runs f while no other goroutine and no other process changes the folder.
func (s *Store) locked(ctx context.Context, f func() error) error {
	s.write.Lock()
	defer s.write.Unlock()
	if s.closed.Load() {
		return fmt.Errorf("datastore: %w", os.ErrClosed)
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// lockRetry is the time between two tries to get the lock.
const lockRetry = 10 * time.Millisecond

// lock takes the lock on .lock. A store that may not write shares it, and goes without where nobody has made the file.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	path := filepath.Join(s.dir, lockFile)
	waiting, cancel := context.WithTimeout(ctx, s.lockTimeout)
	defer cancel()
	for {
		var l *flock.Flock
		if s.readOnly {
			l = flock.New(path, flock.SetFlag(os.O_RDONLY))
			_, err = l.TryRLockContext(waiting, lockRetry)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				return func() {}, nil
			}
		} else {
			l = flock.New(path, flock.SetPermissions(0o644))
			_, err = l.TryLockContext(waiting, lockRetry)
		}
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("another process holds %s for more than %s: %w", path, s.lockTimeout, err)
		}
		if err != nil {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if lockStands(l, path) {
			return func() { s.unlock(l) }, nil
		}
		s.unlock(l)
	}
}

// lockStands reports whether the file that was locked still has its name. Some versions of the incumbent's lock remove it on
// release, and a lock on a file without a name excludes nobody.
func lockStands(l *flock.Flock, path string) bool {
	held, err := l.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(path)
	return err == nil && os.SameFile(held, named)
}

func (s *Store) unlock(l *flock.Flock) {
	if err := l.Unlock(); err != nil {
		s.log.Error().Err(err).Msg("releasing the datastore's lock")
	}
}

// makeNewer gives a new index a later modification time than the one it replaces. The incumbent looks at nothing else before it writes
// its own over ours, and file systems keep time in ticks of some milliseconds.
func (s *Store) makeNewer(temp string) error {
	old, err := s.root.Stat(indexFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	now, err := s.root.Stat(temp)
	if err != nil || now.ModTime().After(old.ModTime()) {
		return err
	}
	later := old.ModTime().Add(time.Millisecond)
	return s.root.Chtimes(temp, later, later)
}

// save writes an index, with the edit of the files in between, and takes it into use. The caller holds the lock.
func (s *Store) save(ctx context.Context, x *index, e edit) error {
	text, err := x.encode()
	if err != nil {
		return fmt.Errorf("writing %s: %w", indexFile, err)
	}
	temp, err := s.receive(ctx, ".", bytes.NewReader(text), maxIndexBytes)
	if err != nil {
		return fmt.Errorf("writing %s: %w", indexFile, err)
	}
	if err := s.makeNewer(temp); err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", indexFile, err), s.removeFile(temp))
	}
	if e.before != nil {
		if err := e.before(); err != nil {
			return errors.Join(err, s.removeFile(temp))
		}
	}
	if err := s.place(temp, indexFile); err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", indexFile, err), s.removeFile(temp))
	}
	info, err := s.root.Stat(indexFile)
	if err != nil {
		return fmt.Errorf("writing %s: %w", indexFile, err)
	}
	s.state.Store(&state{index: x, stamp: info})
	if e.after != nil {
		if err := e.after(); err != nil {
			s.log.Warn().Err(err).Msg("a replaced file stays in the datastore's folder")
		}
	}
	return nil
}
