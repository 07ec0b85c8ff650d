package localstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"scrawl/labelserver/datastore"
)

// Files being written have names of this form, which no pattern of images matches. One that is older than staleAfter was left
// by a process that died.
const (
	tempPrefix = ".scrawl-"
	tempSuffix = ".tmp"
	staleAfter = 24 * time.Hour
)

// receive writes what r yields into a new temporary file of a folder, down to the disk, and returns its path. The caller renames
// or removes it.
func (s *Store) receive(ctx context.Context, dir string, r io.Reader, limit int64) (temp string, err error) {
	temp = filepath.Join(dir, tempPrefix+rand.Text()+tempSuffix)
	f, err := s.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.removeFile(temp))
		}
	}()
	n, err := io.Copy(f, io.LimitReader(contextReader{ctx, r}, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("file has more than %d bytes: %w", limit, datastore.ErrTooLarge)
	}
	if err == nil {
		err = f.Sync()
	}
	return temp, errors.Join(err, f.Close())
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

// place renames a temporary file to its final name, over what is there.
func (s *Store) place(temp, path string) error {
	if err := s.root.Rename(temp, path); err != nil {
		return err
	}
	return s.syncDir(filepath.Dir(path))
}

// syncDir brings a folder's entries to the disk. Windows has no such call, its renames are in the journal, and some network
// mounts refuse it.
func (s *Store) syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := s.root.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

// removeFile removes a file; it is no error if it is not there.
func (s *Store) removeFile(path string) error {
	if err := s.root.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// openFile opens a regular file for reading. Anything else is as good as not there: opening a pipe would block.
func (s *Store) openFile(path string) (*os.File, error) {
	info, err := s.root.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file: %w", path, fs.ErrNotExist)
	}
	return s.root.Open(path)
}

// listing is what a folder holds: names of regular files, of folders, and of links that lead nowhere or out of the store.
// Hidden names are left out, and with them our own temporary files.
type listing struct {
	files, dirs, refused []string
}

func (s *Store) list(dir string) (listing, error) {
	d, err := s.root.Open(dir)
	if err != nil {
		return listing{}, err
	}
	entries, err := d.ReadDir(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return listing{}, err
	}
	var l listing
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		mode := e.Type()
		if mode&fs.ModeSymlink != 0 {
			info, err := s.root.Stat(filepath.Join(dir, e.Name()))
			if err != nil {
				l.refused = append(l.refused, e.Name())
				continue
			}
			mode = info.Mode()
		}
		switch {
		case mode.IsRegular():
			l.files = append(l.files, e.Name())
		case mode.IsDir():
			l.dirs = append(l.dirs, e.Name())
		}
	}
	return l, nil
}

// isFile reports whether there is a regular file. It answers for names that a listing does not show as they are: file systems
// may fold case or compose accents.
func (s *Store) isFile(path string) bool {
	info, err := s.root.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// sweep removes temporary files that a process left behind when it died.
func (s *Store) sweep(dirs ...string) {
	for _, dir := range dirs {
		d, err := s.root.Open(dir)
		if err != nil {
			continue // reported where the folder is needed
		}
		entries, _ := d.ReadDir(-1)
		_ = d.Close() // only read
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), tempPrefix) || !strings.HasSuffix(e.Name(), tempSuffix) {
				continue
			}
			info, err := e.Info()
			if err != nil || s.now().Sub(info.ModTime()) < staleAfter {
				continue
			}
			if err := s.removeFile(filepath.Join(dir, e.Name())); err != nil {
				s.log.Warn().Err(err).Msg("a temporary file of a process that died cannot be removed")
			}
		}
	}
}
