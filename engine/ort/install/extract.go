package install

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// The bounds of an archive: the largest file of the largest package, the CUDA provider, has 284 MB.
const (
	maxFile    = 1 << 30
	maxTotal   = 2 << 30
	maxEntries = 100_000
)

// extract takes the library, its providers and its licences out of an archive, or takes the file as it is when it is the
// library itself. Every file lands directly in dir under the last part of its name, so that no archive can write elsewhere;
// links are passed over. It returns the library's path.
func extract(archive, dir, platform string, gpu bool) (string, error) {
	f, err := os.Open(archive)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	magic := make([]byte, 4)
	if _, err := io.ReadFull(f, magic); err != nil {
		return "", fmt.Errorf("%s is too short to be an archive or a library", filepath.Base(archive))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	x := &extractor{dir: dir, platform: platform}
	switch {
	case bytes.HasPrefix(magic, []byte("PK")):
		err = x.zip(f, info.Size())
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		err = x.tgz(f)
	case isProgram(magic):
		err = x.bare(filepath.Base(archive), f)
	default:
		err = errors.New("it is neither a zip or tar.gz archive nor a shared library")
	}
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w", filepath.Base(archive), err)
	}
	return x.library(gpu)
}

// isProgram knows the first bytes of ELF, Mach-O and PE files.
func isProgram(magic []byte) bool {
	for _, m := range []string{"\x7fELF", "\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe", "MZ"} {
		if bytes.HasPrefix(magic, []byte(m)) {
			return true
		}
	}
	return false
}

type extractor struct {
	dir      string
	platform string
	entries  int
	total    int64
}

func (x *extractor) zip(f *os.File, size int64) error {
	r, err := zip.NewReader(f, size)
	if err != nil {
		return err
	}
	for _, e := range r.File {
		if err := x.count(); err != nil {
			return err
		}
		if !e.Mode().IsRegular() || !x.wanted(e.Name) {
			continue
		}
		content, err := e.Open()
		if err != nil {
			return err
		}
		err = x.write(path.Base(e.Name), content)
		if err := errors.Join(err, content.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (x *extractor) tgz(f *os.File) error {
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	// Entries passed over are inflated too, so the whole has a bound as well.
	r := tar.NewReader(io.LimitReader(unzipped, maxTotal))
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := x.count(); err != nil {
			return err
		}
		if e.Typeflag != tar.TypeReg || !x.wanted(e.Name) {
			continue
		}
		if err := x.write(path.Base(e.Name), r); err != nil {
			return err
		}
	}
}

// bare takes a library that was not packed, whatever its name.
func (x *extractor) bare(name string, f *os.File) error {
	if !isLibrary(name, x.platform) {
		name = libraryName(x.platform)
	}
	return x.write(name, f)
}

func (x *extractor) count() error {
	if x.entries++; x.entries > maxEntries {
		return fmt.Errorf("it has more than %d entries", maxEntries)
	}
	return nil
}

// wanted reports whether an entry is the library for the platform, one of its providers, or a licence.
func (x *extractor) wanted(name string) bool {
	name = strings.ReplaceAll(name, `\`, "/")
	base := path.Base(name)
	if base == "LICENSE" || base == "ThirdPartyNotices.txt" {
		return strings.Count(strings.Trim(name, "/"), "/") == 1 // the package's own
	}
	if !isLibrary(base, x.platform) && !isProvider(base) {
		return false
	}
	// The Node package and NuGet's carry all platforms, in folders named after them.
	goos, arch, _ := strings.Cut(x.platform, "/")
	if arch == "amd64" {
		arch = "x64"
	}
	if strings.Contains(name, "/napi-v") {
		return strings.Contains(name, "/"+map[string]string{"linux": "linux", "darwin": "darwin", "windows": "win32"}[goos]+"/"+arch+"/")
	}
	if strings.Contains("/"+name, "/runtimes/") {
		return strings.Contains("/"+name, "/runtimes/"+map[string]string{"linux": "linux", "darwin": "osx", "windows": "win"}[goos]+"-"+arch+"/")
	}
	return true
}

func libraryName(platform string) string {
	switch {
	case strings.HasPrefix(platform, "windows/"):
		return "onnxruntime.dll"
	case strings.HasPrefix(platform, "darwin/"):
		return "libonnxruntime.dylib"
	}
	return "libonnxruntime.so"
}

// isLibrary knows libonnxruntime.so, .so.1, .so.1.31.1, libonnxruntime.1.31.1.dylib and onnxruntime.dll.
func isLibrary(base, platform string) bool {
	want := libraryName(platform)
	if base == want {
		return true
	}
	switch want {
	case "libonnxruntime.so":
		return strings.HasPrefix(base, "libonnxruntime.so.")
	case "libonnxruntime.dylib":
		return strings.HasPrefix(base, "libonnxruntime.") && strings.HasSuffix(base, ".dylib")
	}
	return false
}

// isProvider knows the files that the library loads from its own folder, apart from TensorRT's, which needs TensorRT.
func isProvider(base string) bool {
	for _, p := range []string{"onnxruntime_providers_shared", "onnxruntime_providers_cuda"} {
		for _, file := range []string{"lib" + p + ".so", "lib" + p + ".dylib", p + ".dll"} {
			if base == file {
				return true
			}
		}
	}
	return false
}

func (x *extractor) write(name string, r io.Reader) (err error) {
	f, err := os.OpenFile(filepath.Join(x.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("it holds two files %s", name)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.Copy(f, io.LimitReader(r, maxFile+1))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if x.total += n; n > maxFile || x.total > maxTotal {
		return fmt.Errorf("%s is larger than any part of onnx runtime", name)
	}
	return f.Sync()
}

// library returns the one library that was found. Some packages hold it under two names, of which the fuller is kept.
func (x *extractor) library(gpu bool) (string, error) {
	entries, err := os.ReadDir(x.dir)
	if err != nil {
		return "", err
	}
	var library string
	cuda := false
	for _, e := range entries {
		cuda = cuda || strings.Contains(e.Name(), "onnxruntime_providers_cuda")
		if !isLibrary(e.Name(), x.platform) {
			continue
		}
		shorter := ""
		switch {
		case library == "":
			library = e.Name()
		case len(e.Name()) > len(library):
			shorter, library = library, e.Name()
		default:
			shorter = e.Name()
		}
		if shorter != "" {
			if err := os.Remove(filepath.Join(x.dir, shorter)); err != nil {
				return "", err
			}
		}
	}
	if library == "" {
		return "", fmt.Errorf("the archive holds no %s for %s", libraryName(x.platform), x.platform)
	}
	if gpu && !cuda {
		return "", errors.New("the archive holds no CUDA provider; it is not a GPU build")
	}
	return filepath.Join(x.dir, library), nil
}
