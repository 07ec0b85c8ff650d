package install_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scrawl/engine/ort"
	"scrawl/engine/ort/install"
)

const linux = "linux/amd64"

type entry struct{ name, content string }

const elfFile = "\x7fELF and so on"

func wheel(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		f, err := w.Create(e.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tgz packs entries; content starting with "->" makes a symbolic link.
func tgz(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.content)), Typeflag: tar.TypeReg}
		target, link := strings.CutPrefix(e.content, "->")
		if link {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if link {
			continue
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func serve(t *testing.T, path string, data []byte) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(s.Close)
	return s.URL + path
}

func listing(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func TestInstallFromURL(t *testing.T) {
	pythonWheel := wheel(t,
		entry{"onnxruntime/__init__.py", "print()"},
		entry{"onnxruntime/LICENSE", "MIT"},
		entry{"onnxruntime/ThirdPartyNotices.txt", "others"},
		entry{"onnxruntime/tools/deep/LICENSE", "another"},
		entry{"onnxruntime/capi/libonnxruntime.so.1.31.1", elfFile},
		entry{"onnxruntime/capi/libonnxruntime_providers_shared.so", "shared"},
		entry{"onnxruntime/capi/libonnxruntime_providers_cuda.so", "cuda"},
		entry{"onnxruntime/capi/libonnxruntime_providers_tensorrt.so", "trt"},
		entry{"onnxruntime/capi/onnxruntime_pybind11_state.cpython-312-x86_64-linux-gnu.so", "py"},
	)
	release := tgz(t,
		entry{"onnxruntime-linux-x64-1.31.1/lib/libonnxruntime.so", "->libonnxruntime.so.1"},
		entry{"onnxruntime-linux-x64-1.31.1/lib/libonnxruntime.so.1", "->libonnxruntime.so.1.31.1"},
		entry{"onnxruntime-linux-x64-1.31.1/lib/libonnxruntime.so.1.31.1", elfFile},
		entry{"onnxruntime-linux-x64-1.31.1/include/onnxruntime_c_api.h", "api"},
		entry{"onnxruntime-linux-x64-1.31.1/LICENSE", "MIT"},
	)
	node := tgz(t,
		entry{"package/bin/napi-v6/linux/arm64/libonnxruntime.so.1", "arm"},
		entry{"package/bin/napi-v6/linux/x64/libonnxruntime.so.1", elfFile},
		entry{"package/bin/napi-v6/darwin/arm64/libonnxruntime.1.30.0.dylib", "mac"},
		entry{"package/bin/napi-v6/darwin/arm64/libonnxruntime.1.dylib", "mac"},
		entry{"package/bin/napi-v6/win32/x64/onnxruntime.dll", "MZ win"},
	)
	nuget := wheel(t,
		entry{"runtimes/linux-x64/native/libonnxruntime.so", elfFile},
		entry{"runtimes/osx-arm64/native/libonnxruntime.dylib", "mac"},
		entry{"runtimes/win-x64/native/onnxruntime.dll", "MZ win"},
	)
	for _, c := range []struct {
		name     string
		data     []byte
		path     string
		platform string
		request  install.Request
		want     string
		files    []string
	}{
		{"wheel", pythonWheel, "/a.whl", linux, install.Request{}, "1.31.1/libonnxruntime.so.1.31.1",
			[]string{"1.31.1/LICENSE", "1.31.1/ThirdPartyNotices.txt", "1.31.1/libonnxruntime.so.1.31.1", "1.31.1/libonnxruntime_providers_cuda.so", "1.31.1/libonnxruntime_providers_shared.so"}},
		{"gpu wheel", pythonWheel, "/a.whl", linux, install.Request{GPU: true}, "1.31.1-gpu/libonnxruntime.so.1.31.1",
			[]string{"1.31.1-gpu/LICENSE", "1.31.1-gpu/ThirdPartyNotices.txt", "1.31.1-gpu/libonnxruntime.so.1.31.1", "1.31.1-gpu/libonnxruntime_providers_cuda.so", "1.31.1-gpu/libonnxruntime_providers_shared.so"}},
		{"release archive", release, "/x.tgz", linux, install.Request{}, "1.31.1/libonnxruntime.so.1.31.1", []string{"1.31.1/LICENSE", "1.31.1/libonnxruntime.so.1.31.1"}},
		{"node package", node, "/n.tgz", linux, install.Request{Version: "1.30.0"}, "1.30.0/libonnxruntime.so.1", []string{"1.30.0/libonnxruntime.so.1"}},
		{"node package, mac", node, "/n.tgz", "darwin/arm64", install.Request{}, "1.30.0/libonnxruntime.1.30.0.dylib", []string{"1.30.0/libonnxruntime.1.30.0.dylib"}},
		{"nuget, windows", nuget, "/n.nupkg", "windows/amd64", install.Request{Version: "1.31.1"}, "1.31.1/onnxruntime.dll", []string{"1.31.1/onnxruntime.dll"}},
		{"bare library", []byte(elfFile), "/lib/libonnxruntime.so.1.31.1", linux, install.Request{}, "1.31.1/libonnxruntime.so.1.31.1", []string{"1.31.1/libonnxruntime.so.1.31.1"}},
		{"bare library without a name", []byte(elfFile), "/", linux, install.Request{Version: "1.29.0"}, "1.29.0/libonnxruntime.so", []string{"1.29.0/libonnxruntime.so"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var verified string
			var fetched int64
			in := &install.Installer{
				Platform: c.platform,
				Verify:   func(_ context.Context, path string) error { verified = path; return nil },
				Progress: func(stage string, done, total int64) {
					if stage == "fetching" {
						if fetched = done; total != int64(len(c.data)) {
							t.Errorf("progress: total %d, want %d", total, len(c.data))
						}
					}
				},
			}
			r := c.request
			r.URL, r.SHA256, r.Dir = serve(t, c.path, c.data), strings.ToUpper(hash(c.data)), t.TempDir()
			for range 2 { // the second time it replaces the first
				got, err := in.Install(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				if want := filepath.Join(r.Dir, filepath.FromSlash(c.want)); got != want {
					t.Errorf("want %s, got %s", want, got)
				}
			}
			if d := cmp.Diff(append([]string{".lock"}, c.files...), listing(t, r.Dir)); d != "" {
				t.Errorf("files (-want +got):\n%s", d)
			}
			if filepath.Base(verified) != filepath.Base(c.want) {
				t.Errorf("verified %q", verified)
			}
			if fetched != int64(len(c.data)) {
				t.Errorf("progress ended at %d of %d", fetched, len(c.data))
			}
		})
	}
}

func TestInstallRefuses(t *testing.T) {
	good := wheel(t, entry{"onnxruntime/capi/libonnxruntime.so.1.31.1", elfFile})
	for _, c := range []struct {
		name    string
		data    []byte
		request install.Request
		want    string
	}{
		{"wrong hash", good, install.Request{SHA256: strings.Repeat("0", 64)}, "is not the file it should be"},
		{"no hash", good, install.Request{SHA256: "-"}, "add --sha256"},
		{"bad hash", good, install.Request{SHA256: "abc"}, "is not 64 hex digits"},
		{"old version", good, install.Request{Version: "1.23.2"}, "too old"},
		{"no version", good, install.Request{Version: "newest"}, "not of the form 1.31.1"},
		{"old library", wheel(t, entry{"a/libonnxruntime.so.1.23.2", elfFile}), install.Request{}, "1.24.0 or newer is needed"},
		{"no library", wheel(t, entry{"a/readme", "x"}), install.Request{}, "holds no libonnxruntime.so for linux/amd64"},
		{"no provider", good, install.Request{GPU: true}, "no CUDA provider"},
		{"two libraries", wheel(t, entry{"a/libonnxruntime.so", elfFile}, entry{"b/libonnxruntime.so", elfFile}), install.Request{}, "two files"},
		{"version unknown", wheel(t, entry{"a/libonnxruntime.so", elfFile}), install.Request{}, "add --version"},
		{"web page", []byte("<html>not here</html>"), install.Request{}, "neither a zip"},
		{"cut wheel", good[:len(good)-30], install.Request{}, "unpack"},
		{"cut tgz", tgz(t, entry{"a/libonnxruntime.so.1.31.1", elfFile})[:60], install.Request{}, "unpack"},
		{"empty", nil, install.Request{}, "too short"},
		{"climbing tgz", tgz(t, entry{"../../../libonnxruntime.so.1.31.1/../evil", elfFile}), install.Request{}, "holds no libonnxruntime.so"},
		{"address", good, install.Request{URL: "file:///etc/passwd"}, "not of the form https"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.request
			r.Dir = t.TempDir()
			if r.URL == "" {
				r.URL = serve(t, "/file", c.data)
			}
			switch r.SHA256 {
			case "":
				r.SHA256 = hash(c.data)
			case "-":
				r.SHA256 = ""
			}
			_, err := (&install.Installer{Platform: linux}).Install(t.Context(), r)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want an error with %q, got %v", c.want, err)
			}
			if left := listing(t, r.Dir); len(left) > 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	_, err := (&install.Installer{Platform: linux}).Install(t.Context(), install.Request{URL: serve(t, "/a", good) + "b", SHA256: hash(good), Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("missing page: %v", err)
	}
}

// An archive cannot write outside its folder: names are cut to their last part.
func TestInstallClimbingArchive(t *testing.T) {
	dir := t.TempDir()
	for i, data := range [][]byte{
		wheel(t, entry{"../../libonnxruntime.so.1.31.1", elfFile}, entry{`..\..\libonnxruntime_providers_shared.so`, "x"}),
		tgz(t, entry{"/abs/libonnxruntime.so.1.31.1", elfFile}, entry{"../libonnxruntime_providers_shared.so", "->/etc/passwd"}),
	} {
		into := filepath.Join(dir, "a", "b")
		if err := os.RemoveAll(into); err != nil {
			t.Fatal(err)
		}
		_, err := (&install.Installer{Platform: linux}).Install(t.Context(), install.Request{URL: serve(t, "/f", data), SHA256: hash(data), Dir: into})
		if err != nil && i == 1 {
			t.Fatal(err)
		}
		for _, f := range listing(t, dir) {
			if !strings.HasPrefix(f, filepath.Join("a", "b")) {
				t.Errorf("archive %d wrote %s", i, f)
			}
		}
	}
}

func TestInstallKeepsWhatWorks(t *testing.T) {
	data := wheel(t, entry{"a/libonnxruntime.so.1.31.1", elfFile})
	r := install.Request{URL: serve(t, "/a", data), SHA256: hash(data), Dir: t.TempDir()}
	in := &install.Installer{Platform: linux}
	path, err := in.Install(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	in.Verify = func(context.Context, string) error { return errors.New("undefined symbol") }
	if _, err := in.Install(t.Context(), r); err == nil || !strings.Contains(err.Error(), "undefined symbol") {
		t.Errorf("want the reason, got %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the working installation is gone: %v", err)
	}
}

// fakeClients plays pip and npm. Each download writes a file of the given content.
type fakeClients struct {
	present map[string]bool
	file    []byte
	calls   []string
}

func (f *fakeClients) run(_ context.Context, env []string, name string, args ...string) error {
	line := strings.Join(append([]string{name}, args...), " ")
	if !f.present[name] {
		return errors.New(name + ": not found")
	}
	if strings.HasSuffix(line, "--version") {
		return nil
	}
	f.calls = append(f.calls, line)
	for i, a := range args {
		if a == "--dest" || a == "--pack-destination" {
			return os.WriteFile(filepath.Join(args[i+1], "package.file"), f.file, 0o600)
		}
	}
	return errors.New("no destination in " + line)
}

func TestInstallByClient(t *testing.T) {
	data := wheel(t, entry{"onnxruntime/capi/libonnxruntime.so.1.29.0", elfFile})
	clients := &fakeClients{present: map[string]bool{"python": true, "npm": true}, file: data}
	in := &install.Installer{Platform: linux, Run: clients.run}
	dir := t.TempDir()

	// A pinned version must have the pinned content.
	if _, err := in.Install(t.Context(), install.Request{Dir: dir}); err == nil || !strings.Contains(err.Error(), "not 1f3dea47f2f0") {
		t.Errorf("other content than pinned: %v", err)
	}
	if _, err := in.Install(t.Context(), install.Request{Dir: dir, Version: "1.29.0"}); err == nil || !strings.Contains(err.Error(), "[1.24.4 1.26.0 1.31.1 1.32.0]") {
		t.Errorf("unpinned version: %v", err)
	}
	path, err := in.Install(t.Context(), install.Request{Dir: dir, Version: "1.29.0", SHA256: hash(data)})
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "1.29.0", "libonnxruntime.so.1.29.0"); path != want {
		t.Errorf("want %s, got %s", want, path)
	}
	before := len(clients.calls)
	if again, err := in.Install(t.Context(), install.Request{Dir: dir, Version: "1.29.0", SHA256: hash(data)}); err != nil || again != path || len(clients.calls) != before {
		t.Errorf("already installed: %s, %v, calls %v", again, err, clients.calls[before:])
	}
	last := clients.calls[before-1]
	for _, want := range []string{"python -m pip download", "--no-deps", "--only-binary=:all:", "--python-version 3.12", "onnxruntime==1.29.0"} {
		if !strings.Contains(last, want) {
			t.Errorf("the command lacks %q: %s", want, last)
		}
	}

	clients.calls = nil
	if _, err := in.Install(t.Context(), install.Request{Dir: dir, GPU: true}); err == nil || !strings.Contains(clients.calls[0], "onnxruntime-gpu==1.31.1") {
		t.Errorf("gpu: %v, %v", clients.calls, err)
	}
	clients.present = map[string]bool{"npm": true}
	clients.calls = nil
	if _, err := in.Install(t.Context(), install.Request{Dir: dir}); err == nil || !strings.Contains(clients.calls[0], "npm pack") || !strings.Contains(clients.calls[0], "onnxruntime-node@1.30.0") {
		t.Errorf("npm: %v, %v", clients.calls, err)
	}

	clients.present = nil
	_, err = in.Install(t.Context(), install.Request{Dir: dir})
	var none *install.NoClientError
	if !errors.As(err, &none) {
		t.Fatalf("no clients: want a NoClientError, got %v", err)
	}
	for _, want := range []string{"python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 onnxruntime==1.31.1", filepath.Join(dir, "1.31.1"), "scrawl runtime install --url"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

func TestInstallIsFound(t *testing.T) {
	data := wheel(t, entry{"a/libonnxruntime.so.1.31.1", elfFile})
	dir := t.TempDir()
	path, err := (&install.Installer{Platform: linux}).Install(t.Context(), install.Request{URL: serve(t, "/a", data), SHA256: hash(data), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	l := &ort.Locator{
		Getenv: func(string) string { return "" }, Executable: "none", CacheDir: dir, ModuleCache: "none", WorkDir: dir,
		Command: func(context.Context, string, ...string) ([]byte, error) { return nil, errors.New("none") },
	}
	got, _, err := l.Locate(t.Context())
	if err != nil || got != path {
		t.Errorf("want %s, got %s, %v", path, got, err)
	}
}

func TestCUDAGeneration(t *testing.T) {
	for s, want := range map[string]int{"1.24.4": 12, "1.26.0": 12, "1.27.0": 13, "1.31.1": 13} {
		v, err := ort.ParseVersion(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := install.CUDAGeneration(v); got != want {
			t.Errorf("%s: want CUDA %d, got %d", v, want, got)
		}
	}
}
