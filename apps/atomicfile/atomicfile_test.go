package atomicfile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a file")
	put := func(text string, fail error) error {
		return Write(name, func(w io.Writer) error {
			_, _ = io.WriteString(w, text)
			return fail
		})
	}
	if err := put("one", nil); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if err := put("two", broken); !errors.Is(err, broken) {
		t.Fatalf("got error %v, want the writer's", err)
	}
	if data, err := os.ReadFile(name); err != nil || string(data) != "one" {
		t.Fatalf("after a failed write the file holds %q (%v), want what it held before", data, err)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Fatalf("%d files are left in the folder, want 1", len(files))
	}
}

func TestWriteNowhere(t *testing.T) {
	if err := Write(filepath.Join(t.TempDir(), "missing", "x"), func(io.Writer) error { return nil }); err == nil {
		t.Fatal("writing into a folder that does not exist succeeded")
	}
}
