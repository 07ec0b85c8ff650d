package localstore_test

import (
	"testing"

	"github.com/rs/zerolog"

	"scrawl/labelserver/datastore"
	"scrawl/labelserver/datastore/localstore"
	"scrawl/labelserver/datastore/storetest"
)

// patterns are the server's default ones.
var patterns = []string{"*.nii.gz", "*.nii", "*.nrrd", "*.jpg", "*.png", "*.tif", "*.svs", "*.xml"}

func open(t *testing.T, o localstore.Options) *localstore.Store {
	t.Helper()
	if o.Patterns == nil {
		o.Patterns = patterns
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	o.Log = zerolog.New(zerolog.NewTestWriter(t))
	s, err := localstore.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	for name, o := range map[string]localstore.Options{"still": {}, "watching": {AutoReload: true}} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) datastore.Store { return open(t, o) })
		})
	}
}
