package localstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// sync brings index and folder together: it reads the index if another process has written it and reconciles it with the files.
func (s *Store) sync(ctx context.Context) error {
	return s.locked(ctx, func() error {
		x, dirty, err := s.latest()
		if err != nil {
			return err
		}
		next, changed, err := s.reconcile(x)
		if err != nil {
			return err
		}
		if !changed && !dirty {
			return nil
		}
		if s.readOnly {
			s.state.Store(&state{index: next, stamp: s.state.Load().stamp})
			return nil
		}
		return s.save(ctx, next, edit{})
	})
}

// latest returns the newest index: the one in use, or what another process has written since, reconciled with the files. dirty
// says that it is not on the disk. The caller holds the lock.
func (s *Store) latest() (x *index, dirty bool, err error) {
	st := s.state.Load()
	if s.isCurrent(st) {
		return st.index, st.stamp == nil, st.broken
	}
	x, stamp, err := s.read()
	if errors.Is(err, fs.ErrNotExist) {
		return st.index, true, nil // somebody removed it: what we know of it is written again
	}
	if err != nil {
		s.state.Store(&state{index: st.index, stamp: stamp, broken: err})
		return nil, false, err
	}
	x, changed, err := s.reconcile(x)
	if err != nil {
		return nil, false, err
	}
	s.state.Store(&state{index: x, stamp: stamp})
	return x, changed, nil
}

// read reads the index file. A stamp comes with an error too, if there is a file.
func (s *Store) read() (*index, fs.FileInfo, error) {
	f, err := s.root.Open(indexFile)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }() // only read
	stamp, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxIndexBytes+1))
	if err == nil && len(text) > maxIndexBytes {
		err = fmt.Errorf("it has more than %d bytes: %w", maxIndexBytes, datastore.ErrTooLarge)
	}
	var x *index
	if err == nil {
		x, err = decodeIndex(text)
	}
	if err != nil {
		err = fmt.Errorf("%s is no index of a datastore and is left alone: %w; mend it, or move it away to have the folder's files indexed anew without their infos",
			filepath.Join(s.dir, indexFile), err)
	}
	return x, stamp, err
}

// reconcile returns the index with what is in the folder and whether that differs from the index it was given.
func (s *Store) reconcile(x *index) (*index, bool, error) {
	r := reconciliation{store: s, index: x.clone()}
	if err := r.images(); err != nil {
		return nil, false, err
	}
	if err := r.labels(); err != nil {
		return nil, false, err
	}
	r.report()
	return r.index, r.added+r.dropped > 0, nil
}

// reconciliation is one comparison of index and folder.
type reconciliation struct {
	store          *Store
	index          *index
	added, dropped int
	foreign        []string
}

func (r *reconciliation) images() error {
	if r.store.detached {
		return nil
	}
	dir := r.index.imagesDir()
	found, err := r.store.list(dir)
	if errors.Is(err, fs.ErrNotExist) && len(r.index.order) == 0 {
		if r.store.readOnly {
			return nil
		}
		if err = r.store.root.MkdirAll(dir, 0o755); err == nil {
			found, err = r.store.list(dir)
		}
	}
	if err != nil {
		// Not taken for an empty folder: a mount that is gone would cost all infos.
		return fmt.Errorf("listing the images of %d known ones: %w", len(r.index.order), err)
	}
	var set seriesSet
	complete := true
	if r.store.scanner != nil {
		complete = r.findSeries(dir)
		if s := r.store.series.Load(); s != nil {
			set = *s
		}
	}
	present := setOf(found.files)
	known := map[string]bool{}
	for _, one := range set {
		for _, name := range one.Files {
			known[filepath.Base(name)] = known[filepath.Base(name)] || filepath.Dir(filepath.FromSlash(name)) == filepath.Clean(dir)
		}
	}
	for _, id := range slices.Clone(r.index.order) {
		ext, info := r.index.entries[id].image()
		name := fileName(id, ext)
		if _, found := set[id]; !found && (complete || !isSeries(id, info)) && !present[name] && !r.store.isFile(filepath.Join(dir, name)) {
			r.store.log.Info().Str("image", id).Msg("the file of an image is gone")
			r.index.remove(id)
			r.dropped++
			continue
		}
		known[name] = true
	}
	slices.Sort(found.files)
	for _, name := range found.files {
		if known[name] || filepath.Join(dir, name) == indexFile {
			continue
		}
		r.addImage(dir, name)
	}
	r.addSeries(set)
	for _, name := range found.refused {
		r.foreign = append(r.foreign, filepath.Join(dir, name))
	}
	return nil
}

func (r *reconciliation) addImage(dir, name string) {
	at, ok := r.store.ext.image(name)
	if _, taken := r.index.entries[at.id]; !ok || taken {
		r.foreign = append(r.foreign, filepath.Join(dir, name))
		return
	}
	r.index.set(at.id, entry{}.withImage(at.ext, r.store.stamped(nil, name)))
	r.added++
}

func (r *reconciliation) labels() error {
	found, err := r.store.list(r.index.labelsDir(""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listing the tags of labels: %w", err)
	}
	slices.Sort(found.dirs)
	files := map[string][]string{}
	for _, tag := range found.dirs {
		if datastore.CheckTag(tag) != nil {
			continue
		}
		l, err := r.store.list(r.index.labelsDir(tag))
		if err != nil {
			return fmt.Errorf("listing the labels %q: %w", tag, err)
		}
		files[tag] = l.files
		for _, name := range l.refused {
			r.foreign = append(r.foreign, filepath.Join(r.index.labelsDir(tag), name))
		}
	}
	known := r.dropLabels(files)
	for _, tag := range found.dirs {
		slices.Sort(files[tag])
		for _, name := range files[tag] {
			if path := filepath.Join(tag, name); !known[path] {
				r.addLabel(tag, name)
			}
		}
	}
	return nil
}

// dropLabels takes labels whose file is gone out of the index and returns the paths, below the folder of labels, of the others.
func (r *reconciliation) dropLabels(files map[string][]string) (known map[string]bool) {
	present := map[string]bool{}
	for tag, names := range files {
		for _, name := range names {
			present[filepath.Join(tag, name)] = true
		}
	}
	known = map[string]bool{}
	for _, id := range r.index.order {
		for _, tag := range r.index.entries[id].tags() {
			ext, _, _ := r.index.entries[id].label(tag)
			path := filepath.Join(tag, fileName(id, ext))
			if !present[path] && !r.store.isFile(filepath.Join(r.index.labelsDir(""), path)) {
				r.store.log.Info().Str("image", id).Str("tag", tag).Msg("the file of a label is gone")
				r.index.entries[id] = r.index.entries[id].withoutLabel(tag)
				r.dropped++
				continue
			}
			known[path] = true
		}
	}
	return known
}

func (r *reconciliation) addLabel(tag, name string) {
	at, ok := r.store.labelOf(r.index, name)
	e := r.index.entries[at.id]
	if _, _, taken := e.label(tag); !ok || taken {
		r.foreign = append(r.foreign, filepath.Join(r.index.labelsDir(tag), name))
		return
	}
	r.index.set(at.id, e.withLabel(tag, at.ext, r.store.stamped(&api.Object{}, name)))
	r.added++
}

// labelOf tells whose label a file name is: that of the first image there is among the ways to split it.
func (s *Store) labelOf(x *index, name string) (split, bool) {
	for _, at := range s.ext.label(name) {
		if _, ok := x.entries[at.id]; ok {
			return at, true
		}
	}
	return split{}, false
}

// examples is how many of the files passed over a warning names.
const examples = 5

// report says what has changed, and once of each file that it is passed over.
func (r *reconciliation) report() {
	s := r.store
	if r.added+r.dropped > 0 {
		s.log.Info().Int("added", r.added).Int("dropped", r.dropped).Int("images", len(r.index.order)).Msg("datastore reconciled with its folder")
	}
	var fresh []string
	for _, path := range r.foreign {
		if !s.reported[path] {
			s.reported[path] = true
			fresh = append(fresh, path)
		}
	}
	if len(fresh) > 0 {
		s.log.Warn().Int("files", len(fresh)).Strs("such_as", fresh[:min(examples, len(fresh))]).
			Msg("files in the datastore's folder are neither images nor labels of one and are left alone")
	}
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}
