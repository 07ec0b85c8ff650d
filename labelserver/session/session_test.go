package session

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func openStore(t *testing.T, dir string, c *clock) *Store {
	t.Helper()
	s, err := Open(Options{Dir: dir, Expiry: time.Hour, MaxCount: 3, MaxBytes: 1000, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func upload(t *testing.T, name, content string) Upload {
	t.Helper()
	path := filepath.Join(t.TempDir(), "upload")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return Upload{Name: name, Path: path}
}

func TestLifeOfASession(t *testing.T) {
	c := &clock{time.Unix(1_800_000_000, 0)}
	dir := t.TempDir()
	s := openStore(t, dir, c)
	made, err := s.Create([]Upload{upload(t, `C:\Users\x\3: Thorax\tmpvol.nii.gz`, "voxels")}, 100*time.Second, false)
	if err != nil {
		t.Fatal(err)
	}
	if !ValidID(made.Name) || filepath.Base(made.Image) != "tmpvol.nii.gz" || made.Expiry != 100*time.Second {
		t.Errorf("session is %+v", made)
	}
	if content, err := os.ReadFile(made.Image); err != nil || string(content) != "voxels" {
		t.Errorf("image holds %q, %v", content, err)
	}
	if _, err := os.Stat(filepath.Join(dir, made.Name, "meta.info")); err != nil {
		t.Error(err)
	}
	c.now = c.now.Add(90 * time.Second)
	touched, err := s.Get(made.Name, true)
	if err != nil || !touched.LastAccess.After(made.LastAccess) {
		t.Errorf("touch gives %+v, %v", touched, err)
	}

	// A restart finds it as it was.
	again := openStore(t, dir, c)
	found, err := again.Get(made.Name, false)
	if err != nil || found.Object().Len() != 7 || !found.LastAccess.Equal(touched.LastAccess) || found.Image != made.Image {
		t.Errorf("after a restart: %+v, %v", found, err)
	}
	f, _, err := again.OpenImage(made.Name)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil || string(content) != "voxels" {
		t.Errorf("image reads %q, %v", content, err)
	}

	c.now = c.now.Add(101 * time.Second)
	if _, err := again.Get(made.Name, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("an expired session gives %v", err)
	}
	if gone := again.Sweep(); len(gone) != 1 || gone[0] != made.Name {
		t.Errorf("sweep removes %v", gone)
	}
	if _, err := os.Stat(made.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder is still there: %v", err)
	}
}

func TestDelete(t *testing.T) {
	s := openStore(t, t.TempDir(), &clock{time.Unix(1, 0)})
	made, err := s.Create([]Upload{upload(t, "a.nii.gz", "a"), upload(t, "a.nii.gz", "b")}, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(made.Image); err != nil || len(entries) != 2 || made.Expiry != time.Hour {
		t.Errorf("folder holds %v, %v, expiry %v", entries, err, made.Expiry)
	}
	if _, err := s.Delete(made.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(made.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder is still there: %v", err)
	}
	for _, id := range []string{made.Name, "", "..", "../x", "00000000-0000-0000-0000-000000000000", strings.ToUpper(made.Name)} {
		if _, err := s.Delete(id); !errors.Is(err, ErrNotFound) {
			t.Errorf("deleting %q gives %v", id, err)
		}
	}
}

func TestNames(t *testing.T) {
	s := openStore(t, t.TempDir(), &clock{time.Unix(1, 0)})
	for name, want := range map[string]string{
		"3 Thorax 1.0 B45f.nii.gz": "3 Thorax 1.0 B45f.nii.gz",
		"../../evil.nii":           "evil.nii",
		"meta.info":                "",
		"":                         "",
		"..":                       "",
		"a\x00b.nrrd":              "",
	} {
		made, err := s.Create([]Upload{upload(t, name, "x")}, 0, false)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		got := filepath.Base(made.Image)
		if want != "" && got != want || want == "" && !strings.HasPrefix(got, "tmp") {
			t.Errorf("%q is stored as %q", name, got)
		}
		if filepath.Dir(made.Image) != made.Path {
			t.Errorf("%q is stored at %s", name, made.Image)
		}
		if _, err := s.Delete(made.Name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLimits(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, &clock{time.Unix(1, 0)})
	if _, err := s.Create([]Upload{upload(t, "big.nii", strings.Repeat("x", 1001))}, 0, false); !errors.Is(err, ErrFull) {
		t.Errorf("too many bytes give %v", err)
	}
	for range 3 {
		if _, err := s.Create([]Upload{upload(t, "a.nii", "x")}, 0, false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Create([]Upload{upload(t, "a.nii", "x")}, 0, false); !errors.Is(err, ErrFull) {
		t.Errorf("too many sessions give %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("folder holds %v, %v, want three sessions and nothing half made", entries, err)
	}
}

func TestUnpack(t *testing.T) {
	var zipped, tarred bytes.Buffer
	z := zip.NewWriter(&zipped)
	g := gzip.NewWriter(&tarred)
	r := tar.NewWriter(g)
	for _, name := range []string{"series/IM1.dcm", "../../evil.dcm"} {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(w, "pixels")
		if err := errors.Join(err, r.WriteHeader(&tar.Header{Name: name, Size: 6, Mode: 0o600, Typeflag: tar.TypeReg})); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(r, "pixels"); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(z.Close(), r.Close(), g.Close()); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, t.TempDir(), &clock{time.Unix(1, 0)})
	for name, archive := range map[string]string{"x.zip": zipped.String(), "x.tar.gz": tarred.String()} {
		made, err := s.Create([]Upload{upload(t, name, archive)}, 0, true)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		entries, err := os.ReadDir(made.Image)
		if err != nil || len(entries) != 2 || entries[0].Name() != "0000_IM1.dcm" || entries[1].Name() != "0001_evil.dcm" {
			t.Errorf("%s unpacks to %v, %v", name, entries, err)
		}
		if _, err := s.Delete(made.Name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Create([]Upload{upload(t, "x.zip", "no archive")}, 0, true); !errors.Is(err, ErrArchive) {
		t.Errorf("no archive gives %v", err)
	}
	var bomb bytes.Buffer
	g = gzip.NewWriter(&bomb)
	r = tar.NewWriter(g)
	if err := r.WriteHeader(&tar.Header{Name: "zeros", Size: 1 << 20, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Close(), g.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create([]Upload{upload(t, "bomb.tgz", bomb.String())}, 0, true); !errors.Is(err, ErrFull) {
		t.Errorf("an archive that unpacks beyond the limit gives %v", err)
	}
}
