package datastore_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"scrawl/labelserver/datastore"
)

func TestChecksumsAreRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.nii")
	item := datastore.Item{ID: "a", Path: path, Open: func() (*os.File, error) { return os.Open(path) }}
	at := time.Unix(1_800_000_000, 0)
	write := func(content string, modified time.Time) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, []byte(content), 0o644), os.Chtimes(path, modified, modified)); err != nil {
			t.Fatal(err)
		}
	}
	var sums datastore.Checksums
	is := func(want string) {
		t.Helper()
		if got, err := sums.Of(t.Context(), item, datastore.MD5); err != nil || got != want {
			t.Errorf("checksum is %q, %v, want %q", got, err, want)
		}
	}
	const one, two = "f97c5d29941bfb1b2fdab0874906ab82", "b8a9f715dbb64fd5c56e7783c6820a61" // md5sum of "one" and "two"
	write("one", at)
	is(one)
	write("two", at) // neither size nor time tell: the answer comes from memory
	is(one)
	write("two", at.Add(time.Second))
	is(two)
	write("one", at.Add(time.Second))
	sums.Forget(path)
	is(one)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sums.Of(gone, item, datastore.SHA512); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want that nobody waits", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := sums.Of(t.Context(), item, datastore.MD5); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want that the file is gone", err)
	}
}
