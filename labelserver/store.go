package labelserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"scrawl/adapters/dicom"
	"scrawl/adapters/dicomweb"
	"scrawl/labelserver/config"
	"scrawl/labelserver/datastore/localstore"
	"scrawl/labelserver/datastore/webstore"
)

// openStore opens the folder or the archive of studies. labels are the app's, for label maps whose numbers nobody names.
func (s *Server) openStore(ctx context.Context, labels []string, version string) (err error) {
	cfg := s.cfg
	if !cfg.FromArchive() {
		s.store, err = localstore.Open(localstore.Options{
			Dir: cfg.Studies, Patterns: cfg.Datastore.FileExt, ReadOnly: cfg.Datastore.ReadOnly, AutoReload: cfg.Datastore.AutoReload,
			MaxBytes: int64(cfg.Server.MaxUpload), SeriesDir: filepath.Join(cfg.StateDir(), "series"), Log: s.log,
		})
		return err
	}
	client, err := archiveClient(cfg)
	if err != nil {
		return err
	}
	filters, err := cfg.DICOMweb.Filters()
	if err != nil {
		return err
	}
	store, err := webstore.Open(ctx, webstore.Options{
		Client: client, Imaging: webstore.DICOM{Limits: dicom.DefaultLimits(), Version: version}, Dir: cfg.StateDir(), CacheDir: cfg.CacheDir(), Search: filters, Labels: labels,
		ReadOnly: cfg.Datastore.ReadOnly, Refresh: cfg.DICOMweb.Refresh, CacheBytes: int64(cfg.DICOMweb.CacheBytes), CacheExpiry: cfg.DICOMweb.CacheExpiry,
		MaxSeries: int64(cfg.DICOMweb.MaxSeries), MaxUpload: int64(cfg.Server.MaxUpload), Log: s.log,
	})
	if err != nil {
		return err
	}
	s.store, s.archive = store, client
	return nil
}

// archiveClient makes the client of a configured archive. It does not talk to it.
func archiveClient(cfg *config.Config) (*dicomweb.Client, error) {
	d := cfg.DICOMweb
	o := dicomweb.Options{
		URL: cfg.Studies, QIDOPrefix: d.QIDOPrefix, WADOPrefix: d.WADOPrefix, STOWPrefix: d.STOWPrefix, Username: d.Username, Password: d.Password.Reveal(),
		Timeout: d.Timeout, ReadTimeout: d.ReadTimeout, Retries: d.Retries, MaxInstance: int64(d.MaxSeries),
	}
	if d.Retries == 0 {
		o.Retries = -1
	}
	switch {
	case d.Token != "":
		o.Token = func(context.Context) (string, error) { return d.Token.Reveal(), nil }
	case d.TokenFile != "":
		o.Token = func(context.Context) (string, error) { return readToken(d.TokenFile) }
	}
	return dicomweb.New(o)
}

// readToken reads a bearer token from a file, which something else keeps fresh.
func readToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("dicomweb.token_file: %w", err)
	}
	token := bytes.TrimSpace(text)
	if len(token) == 0 || bytes.ContainsAny(token, "\r\n") {
		return "", errors.New("dicomweb.token_file holds no token, want one line")
	}
	return string(token), nil
}
