package ort

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// Place is one place where the library was looked for.
type Place struct {
	Source  string  // such as "environment variable ORT_LIB"
	Path    string  // file or folder; empty when the source named none
	Version Version // of the library found there, when it tells
	Err     error   // why it is not used; nil for the one that is
}

// NotFoundError says that no usable library was found, and where it was looked for.
type NotFoundError struct{ Tried []Place }

func (e *NotFoundError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no onnx runtime library (%s or newer) found; install one with `%s`, or name one with the environment variable ORT_LIB. Looked in:", MinVersion, InstallCommand)
	for _, p := range e.Tried {
		fmt.Fprintf(&b, "\n  %s", p)
	}
	return b.String()
}

func (p Place) String() string {
	s := p.Source
	if p.Path != "" {
		s += ": " + p.Path
	}
	switch {
	case p.Err != nil:
		s += ": " + p.Err.Error()
	case p.Version != Version{}:
		s += " (" + p.Version.String() + ")"
	}
	return s
}

// Locator looks for ONNX Runtime's shared library. The zero value looks where [Locate] does.
type Locator struct {
	// Path, when not empty, is the only place: a user who names a library wants that one or an error.
	Path string
	// Getenv, Executable, CacheDir, ModuleCache, WorkDir and Command replace, in tests, what the process would use.
	Getenv      func(string) string
	Executable  string
	CacheDir    string
	ModuleCache string
	WorkDir     string
	// Command runs a program with a time limit and returns its standard output.
	Command func(ctx context.Context, name string, args ...string) ([]byte, error)
}

// Locate returns the path of ONNX Runtime's shared library, and every place it looked at on the way. explicit comes from a
// flag or the configuration and, when not empty, is the only place. Then come, in this order: the environment variables
// ORT_LIB and ONNXRUNTIME_SHARED_LIBRARY_PATH; the folder of the executable; the user's cache, where
// `scrawl runtime install` puts it; the Go module cache, whose copy of the binding carries a library for some platforms; a
// Python package onnxruntime; a Node package onnxruntime-node. A library older than [MinVersion] is passed over, but an error
// where it was named by the user.
func Locate(ctx context.Context, explicit string) (string, []Place, error) {
	return (&Locator{Path: explicit}).Locate(ctx)
}

// askTime bounds the time that another program (python3, npm) may take to answer.
const askTime = 3 * time.Second

// Locate looks in all places, in the order of the package's [Locate].
func (l *Locator) Locate(ctx context.Context) (string, []Place, error) {
	l.setDefaults()
	if l.Path != "" {
		return l.named("configuration", l.Path, nil)
	}
	var tried []Place
	for _, name := range []string{"ORT_LIB", "ONNXRUNTIME_SHARED_LIBRARY_PATH"} {
		source := "environment variable " + name
		if path := l.Getenv(name); path != "" {
			return l.named(source, path, tried)
		}
		tried = append(tried, Place{Source: source, Err: errors.New("not set")})
	}
	sources := []struct {
		name  string
		files func(context.Context) (folder string, files []string)
	}{
		{"beside the executable", l.besideExecutable},
		{"cache", l.cached},
		{"go module cache", l.inModuleCache},
		{"python package", l.inPython},
		{"node package", l.inNode},
	}
	for _, s := range sources {
		folder, files := s.files(ctx)
		if len(files) == 0 {
			tried = append(tried, Place{Source: s.name, Path: folder, Err: errors.New("none there")})
		}
		for _, f := range files {
			p := examine(s.name, f)
			tried = append(tried, p)
			if p.Err == nil {
				return p.Path, tried, nil
			}
		}
	}
	return "", tried, &NotFoundError{Tried: tried}
}

func (l *Locator) setDefaults() {
	if l.Getenv == nil {
		l.Getenv = os.Getenv
	}
	if l.Executable == "" {
		l.Executable, _ = os.Executable()
	}
	if l.CacheDir == "" {
		l.CacheDir, _ = CacheDir()
	}
	if l.ModuleCache == "" {
		l.ModuleCache = moduleCache(l.Getenv)
	}
	if l.WorkDir == "" {
		l.WorkDir, _ = os.Getwd()
	}
	if l.Command == nil {
		l.Command = func(ctx context.Context, name string, args ...string) ([]byte, error) {
			return exec.CommandContext(ctx, name, args...).Output()
		}
	}
}

// named examines a library that the user has named: it is that one or none.
func (l *Locator) named(source, path string, tried []Place) (string, []Place, error) {
	p := examine(source, path)
	tried = append(tried, p)
	if p.Err != nil {
		return "", tried, fmt.Errorf("onnx runtime library named by %s: %s: %w", source, path, p.Err)
	}
	return p.Path, tried, nil
}

// examine looks whether path is a library that can be used, as far as can be told without loading it.
func examine(source, path string) Place {
	p := Place{Source: source, Path: path}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Err = errors.New("no such file")
		return p
	case err != nil:
		p.Err = err
		return p
	case info.IsDir():
		p.Err = fmt.Errorf("is a folder; name the library file in it, such as %s", libraryNames()[0])
		return p
	}
	// Where the file does not tell, loading it will.
	p.Version, err = FileVersion(path)
	if err == nil && p.Version.Less(MinVersion) {
		p.Err = &TooOldError{Path: path, Version: p.Version}
	}
	return p
}

// libraryNames are patterns of the library's file name on this system, the most exact first.
func libraryNames() []string {
	switch runtime.GOOS {
	case "windows":
		return []string{"onnxruntime.dll"}
	case "darwin":
		return []string{"libonnxruntime.dylib", "libonnxruntime.[0-9]*.dylib"}
	}
	return []string{"libonnxruntime.so", "libonnxruntime.so.[0-9]*"}
}

// inFolder returns the library files in a folder, the newest first.
func inFolder(folder string) []string {
	if folder == "" {
		return nil
	}
	var found []string
	for _, name := range libraryNames() {
		// The error of a bad pattern cannot occur, unless the folder's name holds one: then there is nothing to find.
		files, _ := filepath.Glob(filepath.Join(folder, name))
		found = append(found, files...)
	}
	newestFirst(found, func(f string) Version { v, _ := FileVersion(f); return v })
	return found
}

func newestFirst(paths []string, version func(string) Version) {
	slices.SortStableFunc(paths, func(a, b string) int {
		va, vb := version(a), version(b)
		switch {
		case vb.Less(va):
			return -1
		case va.Less(vb):
			return 1
		}
		return 0
	})
}

func (l *Locator) besideExecutable(context.Context) (string, []string) {
	if l.Executable == "" {
		return "", nil
	}
	real, err := filepath.EvalSymlinks(l.Executable)
	if err != nil {
		return filepath.Dir(l.Executable), nil
	}
	folder := filepath.Dir(real)
	return folder, inFolder(folder)
}

// CacheDir is the folder that `scrawl runtime install` installs into: one subfolder for each version.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("user's cache folder: %w", err)
	}
	return filepath.Join(dir, "scrawl", "ort"), nil
}

func (l *Locator) cached(context.Context) (string, []string) {
	if l.CacheDir == "" {
		return "", nil
	}
	folders, _ := filepath.Glob(filepath.Join(l.CacheDir, "[0-9]*"))
	// A GPU build (1.31.1-gpu) runs on the CPU as well, so it goes before the plain build of its version.
	slices.SortStableFunc(folders, func(a, b string) int { return len(b) - len(a) })
	newestFirst(folders, func(f string) Version { v, _ := ParseVersion(filepath.Base(f)); return v })
	var files []string
	for _, f := range folders {
		files = append(files, inFolder(f)...)
	}
	return l.CacheDir, files
}

func moduleCache(getenv func(string) string) string {
	if dir := getenv("GOMODCACHE"); dir != "" {
		return dir
	}
	gopath := getenv("GOPATH")
	if gopath == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		gopath = filepath.Join(home, "go")
	}
	return filepath.Join(filepath.SplitList(gopath)[0], "pkg", "mod")
}

const bindingModule = "github.com/yalue/onnxruntime_go"

// inModuleCache finds the libraries that the binding's own tests use: Windows on amd64, Linux and macOS on arm64.
func (l *Locator) inModuleCache(context.Context) (string, []string) {
	names := map[string]string{"windows/amd64": "onnxruntime.dll", "linux/arm64": "onnxruntime_arm64.so", "darwin/arm64": "onnxruntime_arm64.dylib"}
	name, ok := names[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok || l.ModuleCache == "" {
		return "", nil
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", nil
	}
	for _, m := range info.Deps {
		if m.Path != bindingModule {
			continue
		}
		file := filepath.Join(l.ModuleCache, filepath.FromSlash(m.Path)+"@"+m.Version, "test_data", name)
		if _, err := os.Stat(file); err == nil {
			return filepath.Dir(file), []string{file}
		}
	}
	return l.ModuleCache, nil
}

// inPython finds a copy inside an installed Python package, which can be loaded where it lies.
func (l *Locator) inPython(ctx context.Context) (string, []string) {
	const script = `import sysconfig, site
for p in [sysconfig.get_paths()["platlib"], site.getusersitepackages()]: print(p)`
	folders := []string{}
	if env := l.Getenv("VIRTUAL_ENV"); env != "" {
		in, _ := filepath.Glob(filepath.Join(env, "lib", "python3*", "site-packages"))
		folders = append(folders, append(in, filepath.Join(env, "Lib", "site-packages"))...)
	}
	for _, python := range []string{"python3", "python"} {
		if out, err := l.ask(ctx, python, "-c", script); err == nil {
			folders = append(folders, strings.Fields(string(out))...)
			break
		}
	}
	var files []string
	for _, f := range folders {
		files = append(files, inFolder(filepath.Join(f, "onnxruntime", "capi"))...)
	}
	return strings.Join(folders, string(filepath.ListSeparator)), files
}

// inNode finds a copy inside an installed Node package: above the working folder, then among the global packages.
func (l *Locator) inNode(ctx context.Context) (string, []string) {
	var modules []string
	for dir := l.WorkDir; dir != ""; dir = filepath.Dir(dir) {
		modules = append(modules, filepath.Join(dir, "node_modules"))
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if files := nodeFiles(modules); len(files) > 0 {
		return "", files
	}
	out, err := l.ask(ctx, "npm", "root", "-g")
	if err != nil {
		return l.WorkDir, nil
	}
	global := string(bytes.TrimSpace(out))
	return global, nodeFiles([]string{global})
}

func nodeFiles(modules []string) []string {
	platform := map[string]string{"windows": "win32"}[runtime.GOOS]
	if platform == "" {
		platform = runtime.GOOS
	}
	arch := map[string]string{"amd64": "x64"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	var files []string
	for _, m := range modules {
		files = append(files, inFolder(filepath.Join(m, "onnxruntime-node", "bin", "napi-v6", platform, arch))...)
	}
	return files
}

func (l *Locator) ask(ctx context.Context, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	return l.Command(ctx, name, args...)
}
