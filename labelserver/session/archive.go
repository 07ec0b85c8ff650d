package session

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxArchiveFiles bounds the files an archive may hold: more than any series has images.
const maxArchiveFiles = 20000

// unpack stores the regular files of an archive in a folder, flat and under new names that keep the old base names. It never
// writes more than room bytes, whatever the archive promises.
func (s *Store) unpack(folder, path string, room int64) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }() // only read
	u := &unpacker{store: s, folder: folder, room: room}
	head, _ := bufio.NewReader(f).Peek(2)
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	switch string(head) {
	case "PK":
		err = u.zip(f)
	case "\x1f\x8b":
		err = u.gzip(f)
	default:
		err = u.tar(f)
	}
	if err == nil && u.files == 0 {
		err = errors.New("it holds no file")
	}
	if err != nil {
		return 0, fmt.Errorf("%w (want zip, tar or tar.gz): %w", ErrArchive, err)
	}
	return u.bytes, nil
}

type unpacker struct {
	store  *Store
	folder string
	room   int64
	bytes  int64
	files  int
}

func (u *unpacker) add(name string, r io.Reader) error {
	if u.files >= maxArchiveFiles {
		return fmt.Errorf("it holds more than %d files", maxArchiveFiles)
	}
	n, err := u.store.write(filepath.Join(u.folder, fmt.Sprintf("%04d_%s", u.files, imageName(name))), r, u.room-u.bytes)
	u.bytes += n
	u.files++
	return err
}

func (u *unpacker) zip(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return err
	}
	for _, entry := range z.File {
		if !entry.Mode().IsRegular() {
			continue
		}
		r, err := entry.Open()
		if err != nil {
			return err
		}
		if err := errors.Join(u.add(entry.Name, r), r.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) gzip(r io.Reader) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	return u.tar(z)
}

func (u *unpacker) tar(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := u.add(h.Name, t); err != nil {
			return err
		}
	}
}
