// Package install brings ONNX Runtime's shared library onto a machine: it fetches a package with whatever package client is
// there (pip or npm), or an archive from an address that the user names, checks its SHA-256 against a pinned one, takes out
// the library alone, and puts it where ort.Locate finds it. Neither Python nor Node is needed afterwards.
package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"scrawl/engine/ort"
)

// Request says what to install.
type Request struct {
	Version string // "" for the default; with URL needed only where the library does not tell its own
	GPU     bool   // the build with CUDA
	URL     string // of an archive (.whl, .zip, .tgz) or of the bare library; "" to use a package client
	SHA256  string // of what is fetched, in hex; needed with URL
	Dir     string // "" for ort.CacheDir; the library goes into a subfolder named after its version
	Force   bool   // install again what is there already
}

// Progress is told how many of total bytes of a stage ("fetching", "unpacking") are done; total is 0 where nobody knows.
type Progress func(stage string, done, total int64)

// Installer installs. Its zero value uses the machine's programs and network.
type Installer struct {
	Progress Progress
	// Verify, when not nil, loads the library at path in another process, so that one that crashes harms nobody.
	Verify func(ctx context.Context, path string) error
	// HTTP fetches URLs; nil means http.DefaultClient.
	HTTP *http.Client
	// Run runs a program, with env added to the environment, and returns an error that holds what it said. Nil means os/exec.
	Run func(ctx context.Context, env []string, name string, args ...string) error
	// Platform is GOOS/GOARCH; "" means this one.
	Platform string
}

// NoClientError says that nothing on the machine can fetch the library, and what the user can do instead.
type NoClientError struct {
	Reasons []error
	Dir     string
}

func (e *NoClientError) Error() string {
	reasons := make([]string, len(e.Reasons))
	for i, r := range e.Reasons {
		reasons[i] = r.Error()
	}
	return fmt.Sprintf(`neither pip nor npm can fetch onnx runtime here (%v). Either install one of them, or fetch the package elsewhere:
  python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 onnxruntime==%s
  python3 -m zipfile -e onnxruntime-*.whl x
and copy the library in x/onnxruntime/capi into %s, or name it with the environment variable ORT_LIB, or give this command a release archive:
  %s --url ADDRESS --sha256 HEX`, strings.Join(reasons, "; "), DefaultVersion, filepath.Join(e.Dir, DefaultVersion), ort.InstallCommand)
}

// EnsureInstalled returns the library that ort.Locate finds, and installs the default version first when there is none.
func EnsureInstalled(ctx context.Context, progress Progress) (path string, err error) {
	return (&Installer{Progress: progress}).Ensure(ctx, "")
}

// Ensure is [EnsureInstalled] with in's settings. A library named by the user, as explicit or by an environment variable, is
// used or refused, never replaced.
func (in *Installer) Ensure(ctx context.Context, explicit string) (path string, err error) {
	path, _, err = ort.Locate(ctx, explicit)
	var missing *ort.NotFoundError
	if err == nil || !errors.As(err, &missing) {
		return path, err
	}
	return in.Install(ctx, Request{})
}

// lockTime bounds the wait for another installation into the same folder.
const lockTime = 10 * time.Minute

// Install fetches, checks, unpacks and puts the library into its place, and returns its path. The folder changes only once
// everything has gone well; several installers may run at once.
func (in *Installer) Install(ctx context.Context, r Request) (path string, err error) {
	if r, err = in.complete(r); err != nil {
		return "", fmt.Errorf("install onnx runtime: %w", err)
	}
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return "", fmt.Errorf("install onnx runtime: %w", err)
	}
	lock := flock.New(filepath.Join(r.Dir, ".lock"))
	waiting, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	if _, err := lock.TryLockContext(waiting, 100*time.Millisecond); err != nil {
		return "", fmt.Errorf("install onnx runtime: wait for another installation into %s: %w", r.Dir, err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if path, err = in.install(ctx, r); err != nil {
		return "", fmt.Errorf("install onnx runtime: %w", err)
	}
	return path, nil
}

func (in *Installer) complete(r Request) (Request, error) {
	if r.Version != "" {
		v, err := ort.ParseVersion(r.Version)
		if err != nil {
			return r, err
		}
		if v.Less(ort.MinVersion) {
			return r, fmt.Errorf("version %s is too old: %s or newer is needed", v, ort.MinVersion)
		}
	}
	if r.SHA256 = strings.ToLower(r.SHA256); r.SHA256 != "" {
		if b, err := hex.DecodeString(r.SHA256); err != nil || len(b) != sha256.Size {
			return r, fmt.Errorf("sha256 %q is not %d hex digits", r.SHA256, 2*sha256.Size)
		}
	}
	if r.URL != "" && r.SHA256 == "" {
		return r, errors.New("an address needs the sha256 of what lies there: add --sha256")
	}
	if r.Dir == "" {
		dir, err := ort.CacheDir()
		if err != nil {
			return r, err
		}
		r.Dir = dir
	}
	return r, nil
}

func (in *Installer) install(ctx context.Context, r Request) (string, error) {
	// Beside its final place, so that the last step is a rename.
	tmp, err := os.MkdirTemp(r.Dir, ".installing-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	var archive string
	if r.URL != "" {
		archive, err = in.download(ctx, r, tmp)
	} else {
		var p pin
		if p, err = in.choose(ctx, r); err != nil {
			return "", err
		}
		if path, ok := installed(r, p); ok {
			return path, nil
		}
		r.Version, r.SHA256 = p.version, p.sha256
		archive, err = in.fetch(ctx, p, tmp)
	}
	if err != nil {
		return "", err
	}
	if err := checkSum(archive, r.SHA256); err != nil {
		return "", err
	}
	unpacked := filepath.Join(tmp, "unpacked")
	if err := os.Mkdir(unpacked, 0o755); err != nil {
		return "", err
	}
	in.tell("unpacking", 0, 0)
	library, err := extract(archive, unpacked, in.platform(), r.GPU)
	if err != nil {
		return "", err
	}
	if err := in.verify(ctx, library); err != nil {
		return "", err
	}
	folder, err := folderName(r, library)
	if err != nil {
		return "", err
	}
	return place(unpacked, filepath.Join(r.Dir, folder), filepath.Base(library), tmp)
}

// installed returns the library of an earlier installation of the same version.
func installed(r Request, p pin) (string, bool) {
	if r.Force {
		return "", false
	}
	folder := filepath.Join(r.Dir, p.version+suffix(p.gpu))
	files, err := os.ReadDir(folder)
	if err != nil {
		return "", false
	}
	for _, f := range files {
		if isLibrary(f.Name(), p.platform) {
			return filepath.Join(folder, f.Name()), true
		}
	}
	return "", false
}

func suffix(gpu bool) string {
	if gpu {
		return "-gpu"
	}
	return ""
}

func (in *Installer) verify(ctx context.Context, library string) error {
	if v, err := ort.FileVersion(library); err == nil && v.Less(ort.MinVersion) {
		return &ort.TooOldError{Path: filepath.Base(library), Version: v}
	}
	if in.Verify == nil {
		return nil
	}
	if err := in.Verify(ctx, library); err != nil {
		return fmt.Errorf("the library was fetched but does not load: %w", err)
	}
	return nil
}

// folderName is the version of the library, with a suffix for GPU builds.
func folderName(r Request, library string) (string, error) {
	version := r.Version
	if v, err := ort.FileVersion(library); err == nil {
		version = v.String()
	}
	if version == "" {
		return "", fmt.Errorf("%s does not tell its version: add --version", filepath.Base(library))
	}
	return version + suffix(r.GPU), nil
}

// place moves the unpacked folder to its place. What was there goes away with tmp; processes that have it loaded keep it.
func place(unpacked, folder, library, tmp string) (string, error) {
	if _, err := os.Lstat(folder); err == nil {
		if err := os.Rename(folder, filepath.Join(tmp, "replaced")); err != nil {
			return "", fmt.Errorf("replace the old installation: %w", err)
		}
	}
	if err := os.Rename(unpacked, folder); err != nil {
		return "", err
	}
	return filepath.Join(folder, library), nil
}

func checkSum(file, want string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("%s has the sha256 %s, not %s: it is not the file it should be, and is not used", filepath.Base(file), got, want)
	}
	return nil
}

func (in *Installer) tell(stage string, done, total int64) {
	if in.Progress != nil {
		in.Progress(stage, done, total)
	}
}

func (in *Installer) platform() string {
	if in.Platform != "" {
		return in.Platform
	}
	return thisPlatform()
}

func (in *Installer) run(ctx context.Context, env []string, name string, args ...string) error {
	if in.Run != nil {
		return in.Run(ctx, env, name, args...)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(append([]string{name}, args...), " "), err, lastLines(out))
	}
	return nil
}

// lastLines keeps the end of what a program said, where its error stands.
func lastLines(out []byte) string {
	const most = 600
	s := strings.TrimSpace(string(out))
	if len(s) > most {
		s = "…" + strings.ToValidUTF8(s[len(s)-most:], "")
	}
	return s
}
