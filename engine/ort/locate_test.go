package ort_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"scrawl/engine/ort"
)

// fakeLibrary writes a file that has a library's name. Its version is in the name, as it is no ELF file.
func fakeLibrary(t *testing.T, elems ...string) string {
	t.Helper()
	path := filepath.Join(elems...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("library"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// isolated is a Locator that sees nothing but a fresh folder.
func isolated(t *testing.T) (*ort.Locator, string) {
	dir := t.TempDir()
	return &ort.Locator{
		Getenv:      func(string) string { return "" },
		Executable:  filepath.Join(dir, "bin", "scrawl"),
		CacheDir:    filepath.Join(dir, "cache"),
		ModuleCache: filepath.Join(dir, "mod"),
		WorkDir:     filepath.Join(dir, "work", "deep"),
		Command: func(context.Context, string, ...string) ([]byte, error) {
			return nil, errors.New("not installed")
		},
	}, dir
}

func TestLocate(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the file names are those of Linux")
	}
	const name = "libonnxruntime.so.1.31.1"
	node := filepath.Join("node_modules", "onnxruntime-node", "bin", "napi-v6", "linux", map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH])
	for _, c := range []struct {
		name  string
		setUp func(t *testing.T, l *ort.Locator, dir string) (want string)
	}{
		{"explicit path goes before all", func(t *testing.T, l *ort.Locator, dir string) string {
			fakeLibrary(t, dir, "cache", "1.31.1", name)
			l.Path = fakeLibrary(t, dir, "mine", "libonnxruntime.so")
			return l.Path
		}},
		{"environment", func(t *testing.T, l *ort.Locator, dir string) string {
			env := map[string]string{"ONNXRUNTIME_SHARED_LIBRARY_PATH": fakeLibrary(t, dir, "env", name)}
			l.Getenv = func(k string) string { return env[k] }
			fakeLibrary(t, dir, "bin", name)
			return env["ONNXRUNTIME_SHARED_LIBRARY_PATH"]
		}},
		{"beside the executable", func(t *testing.T, l *ort.Locator, dir string) string {
			fakeLibrary(t, l.Executable)
			fakeLibrary(t, dir, "cache", "1.31.1", name)
			return fakeLibrary(t, dir, "bin", name)
		}},
		{"newest in the cache", func(t *testing.T, _ *ort.Locator, dir string) string {
			fakeLibrary(t, dir, "cache", "1.9.3", "libonnxruntime.so.1.9.3")
			fakeLibrary(t, dir, "cache", "1.24.4", "libonnxruntime.so.1.24.4")
			fakeLibrary(t, dir, "cache", "1.31.1", name)
			return fakeLibrary(t, dir, "cache", "1.31.1-gpu", name)
		}},
		{"too old ones are passed over", func(t *testing.T, l *ort.Locator, dir string) string {
			fakeLibrary(t, l.Executable)
			fakeLibrary(t, dir, "bin", "libonnxruntime.so.1.23.2")
			return fakeLibrary(t, dir, "cache", "1.31.1", name)
		}},
		{"python package", func(t *testing.T, l *ort.Locator, dir string) string {
			l.Command = func(_ context.Context, program string, _ ...string) ([]byte, error) {
				if program != "python3" {
					return nil, errors.New("not installed")
				}
				return []byte(filepath.Join(dir, "nowhere") + "\n" + filepath.Join(dir, "site-packages") + "\n"), nil
			}
			return fakeLibrary(t, dir, "site-packages", "onnxruntime", "capi", name)
		}},
		{"virtual environment", func(t *testing.T, l *ort.Locator, dir string) string {
			l.Getenv = func(k string) string { return map[string]string{"VIRTUAL_ENV": filepath.Join(dir, "venv")}[k] }
			return fakeLibrary(t, dir, "venv", "lib", "python3.12", "site-packages", "onnxruntime", "capi", name)
		}},
		{"node package above", func(t *testing.T, _ *ort.Locator, dir string) string {
			return fakeLibrary(t, dir, "work", node, "libonnxruntime.so.1")
		}},
		{"global node package", func(t *testing.T, l *ort.Locator, dir string) string {
			l.Command = func(_ context.Context, program string, _ ...string) ([]byte, error) {
				if program != "npm" {
					return nil, errors.New("not installed")
				}
				return []byte(filepath.Join(dir, "node_modules") + "\n"), nil
			}
			return fakeLibrary(t, dir, node, "libonnxruntime.so.1")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, dir := isolated(t)
			want := c.setUp(t, l, dir)
			got, tried, err := l.Locate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("want %s, got %s; tried %v", want, got, tried)
			}
			if last := tried[len(tried)-1]; last.Path != want || last.Err != nil {
				t.Errorf("the last place tried should be the one used, got %v", last)
			}
		})
	}
}

func TestLocateFails(t *testing.T) {
	l, _ := isolated(t)
	_, tried, err := l.Locate(t.Context())
	var missing *ort.NotFoundError
	if !errors.As(err, &missing) || len(missing.Tried) != len(tried) || len(tried) < 7 {
		t.Fatalf("want a NotFoundError with all places, got %v", err)
	}
	for _, want := range []string{"`scrawl runtime install`", "ORT_LIB", "cache", "python package", "node package"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
}

// What the user has named is used or refused, never passed over.
func TestLocateNamed(t *testing.T) {
	dir := t.TempDir()
	old := fakeLibrary(t, dir, "libonnxruntime.so.1.23.2")
	for path, want := range map[string]string{
		filepath.Join(dir, "missing.so"): "no such file",
		dir:                              "is a folder",
		old:                              "is version 1.23.2, but 1.24.0 or newer is needed",
	} {
		l, _ := isolated(t)
		l.Path = path
		if _, _, err := l.Locate(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s as a flag: want an error with %q, got %v", path, want, err)
		}
		l, _ = isolated(t)
		l.Getenv = func(k string) string { return map[string]string{"ORT_LIB": path}[k] }
		if _, _, err := l.Locate(t.Context()); err == nil || !strings.Contains(err.Error(), "ORT_LIB") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s in ORT_LIB: want an error with %q, got %v", path, want, err)
		}
	}
	if _, err := ort.Open(old); err == nil || !strings.Contains(err.Error(), "`scrawl runtime install`") {
		t.Errorf("open of an old library: %v", err)
	}
}

func TestParseVersion(t *testing.T) {
	for s, want := range map[string]ort.Version{"1.31.1": {1, 31, 1}, "1.24.0-dev": {1, 24, 0}, "2.0.10+cu13": {2, 0, 10}} {
		if got, err := ort.ParseVersion(s); err != nil || got != want {
			t.Errorf("%q: want %v, got %v, %v", s, want, got, err)
		}
	}
	for _, s := range []string{"", "1.2", "1.2.x", "1.2.3.4", "-1.2.3", "1.2.99999999"} {
		if got, err := ort.ParseVersion(s); err == nil {
			t.Errorf("%q: want an error, got %v", s, got)
		}
	}
	if (ort.Version{1, 9, 3}).Less(ort.Version{1, 9, 3}) || !(ort.Version{1, 9, 3}).Less(ort.Version{1, 24, 0}) || (ort.Version{2, 0, 0}).Less(ort.Version{1, 24, 0}) {
		t.Error("the order of versions is wrong")
	}
}
