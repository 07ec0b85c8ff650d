package obs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// LogFile is a log that never outgrows its limit by more than one record: a full file is put aside under its name plus ".1",
// over the one put aside before, and begun anew. It is safe for concurrent use.
type LogFile struct {
	path  string
	limit int64

	mu   sync.Mutex
	file *os.File
	size int64
}

// OpenLogFile opens or makes a log file, with its folder. The limit is in bytes.
func OpenLogFile(path string, limit int64) (*LogFile, error) {
	if limit < 1 {
		return nil, fmt.Errorf("log file %s: limit is %d bytes, want a positive number", path, limit)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("log file %s: %w", path, err)
	}
	l := &LogFile{path: path, limit: limit}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("log file %s: %w", path, err)
	}
	return l, nil
}

func (l *LogFile) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write implements io.Writer: one call is one record, and a record is never split over two files.
func (l *LogFile) Write(record []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return 0, fmt.Errorf("log file %s: %w", l.path, os.ErrClosed)
	}
	if l.size > 0 && l.size+int64(len(record)) > l.limit {
		if err := l.turn(); err != nil {
			return 0, fmt.Errorf("turning log file %s over: %w", l.path, err)
		}
	}
	n, err := l.file.Write(record)
	l.size += int64(n)
	return n, err
}

func (l *LogFile) turn() error {
	err := l.file.Close()
	l.file = nil
	if err != nil {
		return err
	}
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		return err
	}
	return l.open()
}

// Close closes the file. Later writes fail.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// Tail returns the last lines of the file, all of it for lines < 1. A file that is gone gives an error that wraps
// fs.ErrNotExist.
func (l *LogFile) Tail(lines int) ([]byte, error) {
	f, err := os.Open(l.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, 2*l.limit))
	if err != nil {
		return nil, fmt.Errorf("reading log file %s: %w", l.path, err)
	}
	if lines < 1 {
		return text, nil
	}
	end := len(bytes.TrimSuffix(text, []byte("\n")))
	for ; lines > 0 && end >= 0; lines-- {
		end = bytes.LastIndexByte(text[:max(end, 0)], '\n')
	}
	return text[end+1:], nil
}
