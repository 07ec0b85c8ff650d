package localstore

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settleTime is how long to wait after the first change for the others that usually come with it.
const settleTime = 200 * time.Millisecond

// watch keeps the index with the folder until ctx ends. Where the system does not notify, looking again from time to time has
// to do.
func (s *Store) watch(ctx context.Context) {
	w, err := fsnotify.NewWatcher()
	var events <-chan fsnotify.Event
	var failures <-chan error
	if err != nil {
		s.log.Warn().Err(err).Dur("rescan", s.rescan).Msg("no notifications of changes in the datastore's folder, it is looked through from time to time")
	} else {
		defer func() { _ = w.Close() }() // nothing is left to do about it
		events, failures = w.Events, w.Errors
		s.watchFolders(w)
	}
	tick := time.NewTicker(s.rescan)
	defer tick.Stop()
	settled := time.After(0) // files may have come between the first look and the first watch
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-events:
			if settled == nil && matters(e) {
				settled = time.After(settleTime)
			}
			continue
		case err := <-failures:
			// Mostly an overflow: so much has changed that some of it was not told.
			s.log.Warn().Err(err).Msg("watching the datastore's folder")
		case <-settled:
		case <-tick.C:
		}
		settled = nil
		if err := s.sync(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("the datastore's folder cannot be reconciled, the last index is used")
		}
		if w != nil {
			s.watchFolders(w)
		}
	}
}

// watchFolders watches all folders that hold images or labels. A folder already watched is no error.
func (s *Store) watchFolders(w *fsnotify.Watcher) {
	x := s.state.Load().index
	dirs := []string{".", x.imagesDir(), x.labelsDir("")}
	if found, err := s.list(x.labelsDir("")); err == nil {
		for _, tag := range found.dirs {
			dirs = append(dirs, x.labelsDir(tag))
		}
	}
	for _, dir := range append(dirs, s.seriesDirs()...) {
		if err := w.Add(filepath.Join(s.dir, dir)); err != nil {
			s.log.Debug().Err(err).Str("dir", dir).Msg("a folder of the datastore cannot be watched")
		}
	}
}

// matters tells files that come or go from what happens inside files. The index is looked at when it is written, too: the
// incumbent writes it in place.
func matters(e fsnotify.Event) bool {
	name := filepath.Base(e.Name)
	if name == indexFile {
		return true
	}
	return !strings.HasPrefix(name, ".") && (e.Has(fsnotify.Create) || e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename))
}
