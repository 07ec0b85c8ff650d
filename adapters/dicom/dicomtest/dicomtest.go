// Package dicomtest holds what tests of DICOM need: small series of every kind (made by adapters/dicom/testdata/make_golden.py, which says
// what each is), real ones where they lie beside the repository, and a way to keep files that other programs have checked.
package dicomtest

import (
	"archive/zip"
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"scrawl/adapters/dicom"
)

//go:embed golden.zip
var golden []byte

// Golden are the small series, each in a folder, and expect.json, what pydicom and SimpleITK read of them.
func Golden(tb testing.TB) fs.FS {
	tb.Helper()
	z, err := zip.NewReader(bytes.NewReader(golden), int64(len(golden)))
	if err != nil {
		tb.Fatal(err)
	}
	return z
}

// Folder is one of the small series.
func Folder(tb testing.TB, name string) fs.FS {
	tb.Helper()
	dir, err := fs.Sub(Golden(tb), name)
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

// Image reads one of the small series.
func Image(tb testing.TB, name string) *dicom.Image {
	tb.Helper()
	image, err := dicom.ReadFolder(tb.Context(), Folder(tb, name), dicom.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	return image
}

// Unpack writes the files of a folder into another one on disk.
func Unpack(tb testing.TB, dir fs.FS, into string) {
	tb.Helper()
	if err := os.MkdirAll(into, 0o755); err != nil {
		tb.Fatal(err)
	}
	names, err := fs.Glob(dir, "*")
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range names {
		b, err := fs.ReadFile(dir, name)
		if err == nil {
			err = os.WriteFile(filepath.Join(into, name), b, 0o600)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// Shared is a folder of real images below data, where SCRAWL_SHARED says or beside the repository. Without it the test is skipped.
func Shared(tb testing.TB, parts ...string) string {
	tb.Helper()
	root := os.Getenv("SCRAWL_SHARED")
	if root == "" {
		dir, err := os.Getwd()
		if err != nil {
			tb.Fatal(err)
		}
		for _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil && dir != filepath.Dir(dir); _, err = os.Stat(filepath.Join(dir, "go.mod")) {
			dir = filepath.Dir(dir)
		}
		root = filepath.Join(dir, "..", "shared")
	}
	dir := filepath.Join(append([]string{root, "data"}, parts...)...)
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("SCRAWL_REQUIRE") == "1" && os.Getenv("SCRAWL_SHARED") != "" {
			tb.Fatalf("no real images: %v", err)
		}
		tb.Skipf("SKIPPED, no real images at %s: run SCRAWL_SHARED=/folder/with/data go test", dir)
	}
	return dir
}

// ReadJSON reads expect.json and the like.
func ReadJSON(tb testing.TB, fsys fs.FS, name string, to any) {
	tb.Helper()
	text, err := fs.ReadFile(fsys, name)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// Written compares files with those of testdata/written.zip, which other programs have checked. With update it makes that anew, with
// what they need to know in expect.json.
func Written(tb testing.TB, update bool, files map[string][]byte, expect any) {
	tb.Helper()
	name := filepath.Join("testdata", "written.zip")
	if update {
		if err := write(name, files, expect); err != nil {
			tb.Fatal(err)
		}
	}
	z := OpenZip(tb, name)
	for file, got := range files {
		want, err := fs.ReadFile(z, file)
		if err != nil {
			tb.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			tb.Errorf("%s is not what was checked: run with -update and then testdata/check_written.py", file)
		}
	}
}

// OpenZip opens an archive for the time of a test.
func OpenZip(tb testing.TB, name string) fs.FS {
	tb.Helper()
	z, err := zip.OpenReader(name)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = z.Close() })
	return z
}

func write(name string, files map[string][]byte, expect any) error {
	text, err := json.Marshal(expect)
	if err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	z := zip.NewWriter(f)
	err = add(z, "expect.json", text)
	names := make([]string, 0, len(files))
	for file := range files {
		names = append(names, file)
	}
	slices.Sort(names)
	for _, file := range names {
		err = errors.Join(err, add(z, file, files[file]))
	}
	return errors.Join(err, z.Close(), f.Close())
}

func add(z *zip.Writer, name string, content []byte) error {
	w, err := z.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, bytes.NewReader(content))
	return err
}
