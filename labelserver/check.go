package labelserver

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"scrawl/adapters/format"
	"scrawl/apps"
	"scrawl/apps/phantom"
	"scrawl/engine/ort"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/auth"
	"scrawl/labelserver/config"
	"scrawl/labelserver/obs"
)

// Check is one thing that a server needs.
type Check struct {
	Name string
	// Do looks at it and says what there is, or what is wrong and what would be right.
	Do func(ctx context.Context) (finding string, err error)
}

// Checks are all things that a server with a configuration needs, in the order in which it needs them. They change nothing.
func Checks(cfg *config.Config, version string) []Check {
	return []Check{
		{"studies", func(ctx context.Context) (string, error) { return checkStudies(ctx, cfg) }},
		{"runtime", func(ctx context.Context) (string, error) { return checkRuntime(ctx, cfg) }},
		{"app", func(ctx context.Context) (string, error) { return checkApp(ctx, cfg, version) }},
		{"address", func(ctx context.Context) (string, error) { return checkAddress(ctx, cfg) }},
		{"login", func(ctx context.Context) (string, error) { return checkLogin(ctx, cfg) }},
		{"tls", func(context.Context) (string, error) { return checkTLS(cfg, time.Now()) }},
		{"audit", func(context.Context) (string, error) { return checkAudit(cfg) }},
		{"viewer", func(context.Context) (string, error) { return checkViewer(cfg) }},
	}
}

func checkStudies(ctx context.Context, cfg *config.Config) (string, error) {
	if cfg.FromArchive() {
		return checkArchive(ctx, cfg)
	}
	return checkFolder(cfg)
}

// checkArchive asks an archive for its series.
func checkArchive(ctx context.Context, cfg *config.Config) (string, error) {
	client, err := archiveClient(cfg)
	if err != nil {
		return "", err
	}
	defer client.CloseIdle()
	filters, err := cfg.DICOMweb.Filters()
	if err != nil {
		return "", err
	}
	n := 0
	for _, filter := range filters {
		found, err := client.SearchSeries(ctx, filter)
		if err != nil {
			return "", fmt.Errorf("archive %s: %w", client.URL(), err)
		}
		n += len(found)
	}
	return fmt.Sprintf("archive %s has %d series that fit dicomweb.search", client.URL(), n), writableState(cfg)
}

// checkFolder tries whether the folder of studies can be read and written.
func checkFolder(cfg *config.Config) (string, error) {
	entries, err := os.ReadDir(cfg.Studies)
	if errors.Is(err, os.ErrNotExist) {
		parent := filepath.Dir(cfg.Studies)
		if err := writable(parent); err != nil {
			return "", fmt.Errorf("folder %s is not there and cannot be made: %w", cfg.Studies, err)
		}
		return cfg.Studies + " is not there yet and will be made", nil
	}
	if err != nil {
		return "", fmt.Errorf("folder of studies cannot be read: %w", err)
	}
	images := 0
	for _, e := range entries {
		for _, pattern := range cfg.Datastore.FileExt {
			if ok, _ := filepath.Match(pattern, e.Name()); ok && !e.IsDir() {
				images++
				break
			}
		}
	}
	finding := fmt.Sprintf("%s holds %d images", cfg.Studies, images)
	if cfg.Datastore.ReadOnly {
		return finding + " and is only read", writableState(cfg)
	}
	if err := writable(cfg.Studies); err != nil {
		return "", fmt.Errorf("folder of studies cannot be written, so that no label could be stored (set datastore.read_only and state.dir if that is meant): %w", err)
	}
	return finding + " and can be written", writableState(cfg)
}

// writableState tries the folder of learned state, or the nearest above it that is there.
func writableState(cfg *config.Config) error {
	dir := cfg.StateDir()
	for {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			break
		}
		dir = parent
	}
	if err := writable(dir); err != nil {
		return fmt.Errorf("folder %s of learned state cannot be written (another can be given as state.dir): %w", cfg.StateDir(), err)
	}
	return nil
}

func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".scrawl-check-")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func checkRuntime(ctx context.Context, cfg *config.Config) (finding string, err error) {
	path, _, err := ort.Locate(ctx, cfg.Runtime.Library)
	if err != nil {
		return "", err
	}
	lib, err := ort.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lib.Close()) }()
	return fmt.Sprintf("ONNX Runtime %s at %s", lib.Version(), lib.Path()), nil
}

// checkApp starts the whole server on a folder of its own with a test image, asks every model for a mask and looks at the answer's size.
func checkApp(ctx context.Context, cfg *config.Config, version string) (finding string, err error) {
	if _, err := apps.Open(cfg.App); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "scrawl-check-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := writeTestImage(filepath.Join(dir, testImage+".nii.gz")); err != nil {
		return "", err
	}
	own := *cfg
	own.Studies, own.State.Dir, own.Sessions.Path, own.Log.Audit = dir, filepath.Join(dir, ".scrawl"), "", ""
	own.Server.Host, own.Server.Port, own.Server.TLS, own.Server.OHIF, own.Server.APIPrefix = "127.0.0.1", 0, config.TLS{}, "", ""
	own.Auth = config.Default().Auth
	own.Datastore = config.Default().Datastore
	own.Runtime.Measure = false // in a process that ends soon
	own.Datastore.AutoReload = false
	path, _, err := ort.Locate(ctx, cfg.Runtime.Library)
	if err != nil {
		return "", err
	}
	lib, err := ort.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lib.Close()) }()
	s, err := New(ctx, &own, Parts{Library: lib, Log: zerolog.Nop(), Version: version})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	began := time.Now()
	models, err := s.tryModels(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s answers on %s: %s (%.1f s in all)", cfg.App, s.Provider(), strings.Join(models, ", "), time.Since(began).Seconds()), nil
}

const testImage = "scrawl_check"

func writeTestImage(path string) error {
	v, _ := phantom.Abdomen([3]int{48, 40, 12}, [3]float64{8, 8, 12}, 7)
	var b bytes.Buffer
	if err := format.Encode("x.nii.gz", &b, v, format.Options{DType: "int16", Compress: true}); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o600)
}

// tryModels asks each model for a mask over HTTP, as a client does.
func (s *Server) tryModels(ctx context.Context) (models []string, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	l, err := s.Listen(ctx)
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	defer func() {
		stop()
		err = errors.Join(err, <-done)
	}()
	for _, m := range s.annotator.Models() {
		params, err := json.Marshal(map[string]any{
			"foreground": [][3]int{{24, 20, 6}, {25, 20, 6}}, "background": [][3]int{{2, 2, 6}}, "label": firstLabel(m.Labels), "result_extension": ".nrrd",
			"result_dtype": "uint8", "client_id": "check",
		})
		if err != nil {
			return nil, err
		}
		body, err := ask(ctx, s.Address(l)+"/infer/"+url.PathEscape(m.Name)+"?output=image&image="+testImage, url.Values{"params": {string(params)}})
		if err != nil {
			return nil, fmt.Errorf("model %s gives no mask of the test image: %w", m.Name, err)
		}
		if _, voxels, ok := bytes.Cut(body, []byte("\n\n")); !ok || len(voxels) != 48*40*12 {
			return nil, fmt.Errorf("model %s answers the test image with %d bytes that are no mask of its size", m.Name, len(body))
		}
		models = append(models, m.Name)
	}
	return models, nil
}

func ask(ctx context.Context, address string, form url.Values) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := &http.Client{}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // only read
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d: %.300s", res.StatusCode, body)
	}
	return body, nil
}

// checkAddress opens the port and closes it again.
func checkAddress(ctx context.Context, cfg *config.Config) (string, error) {
	plain := *cfg
	plain.Server.TLS = config.TLS{}
	s := &Server{cfg: &plain, log: zerolog.Nop()}
	l, err := s.Listen(ctx)
	if err != nil {
		return "", err
	}
	address := l.Addr().String()
	return address + " is free", l.Close()
}

func checkLogin(ctx context.Context, cfg *config.Config) (string, error) {
	if !cfg.Auth.Enable {
		if config.Loopback(cfg.Server.Host) {
			return "none: only this machine reaches the server", nil
		}
		return "none, as auth.allow_anonymous says: everybody who reaches the address may read and change the studies", nil
	}
	var parts []string
	if cfg.Auth.Accounts != "" {
		a, err := auth.ReadAccounts(cfg.Auth.Accounts, RoleNames(cfg))
		if err != nil {
			return "", err
		}
		if len(a.Users)+len(a.Tokens) == 0 && cfg.Auth.RealmURI == "" {
			return "", fmt.Errorf("file %s of accounts is empty, nobody could log in; add somebody with `scrawl account add-user`", cfg.Auth.Accounts)
		}
		parts = append(parts, fmt.Sprintf("%d users and %d tokens in %s", len(a.Users), len(a.Tokens), cfg.Auth.Accounts))
	}
	if cfg.Auth.RealmURI != "" {
		realmOnly := *cfg
		realmOnly.Auth.Accounts = ""
		a, err := openAuth(&realmOnly, zerolog.Nop())
		if err == nil {
			err = a.Check(ctx)
		}
		if err != nil {
			return "", err
		}
		parts = append(parts, "realm "+cfg.Auth.RealmURI+" answers with its keys")
	}
	if !config.Loopback(cfg.Server.Host) && cfg.Server.TLS.CertFile == "" {
		parts = append(parts, "but passwords travel in the clear unless a proxy in front speaks TLS")
	}
	return strings.Join(parts, "; "), nil
}

// checkTLS reads the certificate and looks at its dates.
func checkTLS(cfg *config.Config, now time.Time) (string, error) {
	t, err := tlsConfig(cfg.Server.TLS, zerolog.Nop())
	if err != nil {
		return "", err
	}
	if t == nil {
		return "none", nil
	}
	pair, err := t.GetCertificate(nil)
	if err != nil {
		return "", err
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return "", err
	}
	if now.After(leaf.NotAfter) || now.Before(leaf.NotBefore) {
		return "", fmt.Errorf("certificate %s holds from %s to %s, which is not now", cfg.Server.TLS.CertFile, leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly))
	}
	finding := fmt.Sprintf("certificate for %s until %s", strings.Join(append(leaf.DNSNames, addresses(leaf)...), ", "), leaf.NotAfter.Format(time.DateOnly))
	if t.ClientCAs != nil {
		finding += "; clients must show one too"
	}
	return finding, nil
}

func addresses(c *x509.Certificate) []string {
	var list []string
	for _, ip := range c.IPAddresses {
		list = append(list, ip.String())
	}
	return list
}

// checkAudit reads the audit trail there is. A broken one keeps no server from working, but somebody should know.
func checkAudit(cfg *config.Config) (string, error) {
	f, err := os.Open(cfg.AuditFile())
	if errors.Is(err, os.ErrNotExist) {
		return "no trail yet", nil
	}
	if err != nil {
		return "", fmt.Errorf("audit trail cannot be read: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	events, err := obs.VerifyAudit(f)
	if err != nil {
		return fmt.Sprintf("%s holds %d events and then breaks (by a crash, or by somebody's hand): %v", cfg.AuditFile(), events, err), nil
	}
	return fmt.Sprintf("%s holds %d events, none changed or missing", cfg.AuditFile(), events), nil
}

func checkViewer(cfg *config.Config) (string, error) {
	if cfg.Server.OHIF == "" {
		return "none", nil
	}
	if _, err := os.Stat(filepath.Join(cfg.Server.OHIF, "index.html")); err != nil {
		return "", fmt.Errorf("folder %s of server.ohif holds no built viewer: %w", cfg.Server.OHIF, err)
	}
	return cfg.Server.OHIF, nil
}

func firstLabel(labels []annotation.Segment) string {
	if len(labels) == 0 {
		return "object"
	}
	return labels[0].Name
}

// chosen are the models to serve, all if none is named.
func chosen(models []apps.Model, names []string) ([]apps.Model, error) {
	if len(names) == 0 {
		return models, nil
	}
	var known []string
	for _, m := range models {
		known = append(known, m.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("models: the app has no model %q, it has %s", name, strings.Join(known, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(models), func(m apps.Model) bool { return !slices.Contains(names, m.Name) }), nil
}
