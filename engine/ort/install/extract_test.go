package install

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func FuzzExtract(f *testing.F) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	e, err := w.Create("a/libonnxruntime.so")
	if err != nil {
		f.Fatal(err)
	}
	if _, err := e.Write([]byte("\x7fELF")); err != nil {
		f.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		archive, into := filepath.Join(dir, "archive"), filepath.Join(dir, "into")
		if err := os.WriteFile(archive, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(into, 0o700); err != nil {
			t.Fatal(err)
		}
		library, err := extract(archive, into, "linux/amd64", false)
		if err == nil && filepath.Dir(library) != into {
			t.Errorf("the library lies at %s", library)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
			t.Errorf("files beside the folder: %v, %v", entries, err)
		}
	})
}
