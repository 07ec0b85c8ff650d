package labelserver

import (
	"path/filepath"

	"github.com/rs/zerolog"

	"scrawl/labelserver/config"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/datastore/localstore"
)

func openStore(cfg *config.Config, log zerolog.Logger) (datastore.Store, error) {
	return localstore.Open(localstore.Options{
		Dir: cfg.Studies, Patterns: cfg.Datastore.FileExt, ReadOnly: cfg.Datastore.ReadOnly, AutoReload: cfg.Datastore.AutoReload,
		MaxBytes: int64(cfg.Server.MaxUpload), SeriesDir: filepath.Join(cfg.StateDir(), "series"), Log: log,
	})
}
