package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"time"
)

// maxArchive bounds what is fetched: the largest package, a GPU build, has 280 MB.
const maxArchive = 1 << 30

// choose finds a package client that is there and has the wanted version.
func (in *Installer) choose(ctx context.Context, r Request) (pin, error) {
	var reasons []error
	for _, c := range []client{pip, npm} {
		p, err := choose(c, r, in.platform())
		if err != nil {
			reasons = append(reasons, err)
			continue
		}
		if _, err := in.program(ctx, c); err != nil {
			reasons = append(reasons, err)
			continue
		}
		return p, nil
	}
	return pin{}, &NoClientError{Reasons: reasons, Dir: r.Dir}
}

// program returns the command line that starts a client.
func (in *Installer) program(ctx context.Context, c client) ([]string, error) {
	candidates := map[client][][]string{
		pip: {{"python3", "-m", "pip"}, {"python", "-m", "pip"}, {"pip3"}, {"pip"}},
		npm: {{"npm"}},
	}[c]
	for _, cmd := range candidates {
		if err := in.run(ctx, nil, cmd[0], append(cmd[1:len(cmd):len(cmd)], "--version")...); err == nil {
			return cmd, nil
		} else if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("%s is not installed", c)
}

// fetch has a client download a package into tmp and returns the file.
func (in *Installer) fetch(ctx context.Context, p pin, tmp string) (string, error) {
	cmd, err := in.program(ctx, p.client)
	if err != nil {
		return "", err
	}
	scratch, into := filepath.Join(tmp, "scratch"), filepath.Join(tmp, "package")
	if err := errors.Join(os.Mkdir(scratch, 0o755), os.Mkdir(into, 0o755)); err != nil {
		return "", err
	}
	// The clients load into a folder of ours first, where the progress can be watched.
	env := []string{"TMPDIR=" + scratch, "TMP=" + scratch, "TEMP=" + scratch, "npm_config_cache=" + filepath.Join(scratch, "npm")}
	spec := p.packageName() + "==" + p.version
	args := []string{"download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--python-version", "3.12", "--dest", into, spec}
	if p.client == npm {
		spec = p.packageName() + "@" + p.version
		args = []string{"pack", "--silent", "--ignore-scripts", "--pack-destination", into, spec}
	}
	watched, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		in.watch(watched, tmp, p.size)
	}()
	err = in.run(ctx, env, cmd[0], append(cmd[1:len(cmd):len(cmd)], args...)...)
	stop()
	<-done
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", spec, err)
	}
	files, err := os.ReadDir(into)
	if err != nil {
		return "", err
	}
	if len(files) != 1 {
		return "", fmt.Errorf("fetch %s: %s left %d files where one was expected", spec, p.client, len(files))
	}
	return filepath.Join(into, files[0].Name()), nil
}

// watch reports how much lies in dir, twice a second.
func (in *Installer) watch(ctx context.Context, dir string, total int64) {
	in.tell("fetching", 0, total)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			size := sizeOf(dir)
			if total > 0 {
				size = min(size, total)
			}
			in.tell("fetching", size, total)
		}
	}
}

func sizeOf(dir string) int64 {
	var size int64
	// Files come and go meanwhile; what cannot be read does not count.
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}

// download fetches r.URL into tmp.
func (in *Installer) download(ctx context.Context, r Request, tmp string) (file string, err error) {
	u, err := url.Parse(r.URL)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return "", fmt.Errorf("address %q is not of the form https://host/path", r.URL)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL, nil)
	if err != nil {
		return "", err
	}
	httpClient := in.HTTP
	if httpClient == nil {
		httpClient = http.DefaultClient
	}
	res, err := httpClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("fetch %s: the server answered %s", u.Redacted(), res.Status)
	}
	// The name matters only where the library lies there bare.
	name := path.Base(u.Path)
	if name == "." || name == "/" || !filepath.IsLocal(name) {
		name = "archive"
	}
	file = filepath.Join(tmp, name)
	f, err := os.Create(file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.Copy(f, &counted{r: io.LimitReader(res.Body, maxArchive+1), total: max(res.ContentLength, 0), tell: in.tell})
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", u.Redacted(), err)
	}
	if n > maxArchive {
		return "", fmt.Errorf("fetch %s: it is larger than %d bytes, which no onnx runtime is", u.Redacted(), maxArchive)
	}
	return file, nil
}

// counted reports the bytes read through it.
type counted struct {
	r           io.Reader
	done, total int64
	tell        Progress
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done += int64(n)
	c.tell("fetching", c.done, c.total)
	return n, err
}
