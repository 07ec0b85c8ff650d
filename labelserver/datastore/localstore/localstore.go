// Package localstore keeps images and labels in a folder in MONAI Label's layout, so that either server can be pointed at the
// other's folder:
//
//	<dir>/<id><ext>                images, top level only (images_dir in the index, "." as a rule)
//	<dir>/labels/<tag>/<id><ext>   labels, in a folder for each tag (labels_dir)
//	<dir>/…                        DICOM files of any name, in sub-folders too: every series is an image, see below
//	<dir>/datastore_v2.json        the index: which images and labels there are, and their infos
//	<dir>/.lock                    held with flock(2) while the index is read or written, by every process on the folder
//
// # What is true
//
// The files are. The index adds infos to them. Open reconciles both: images and labels that the index does not know are added,
// those whose file is gone are dropped. The same happens when somebody changes the folder while it is open, which the store
// notices by notifications of the file system and by looking again from time to time (network mounts do not notify), and when
// another process has written the index, which every call checks by the index's modification time.
//
// Files that are neither image nor label stay where they are and are reported once. In sub-folders only DICOM files are looked for.
//
// # DICOM series
//
// With Options.SeriesDir, DICOM files are sorted into series by their heads, wherever below the folder of images they lie. A series is an
// image whose id is the series instance UID; its file is a conversion to NIfTI, made when it is first asked for and kept in SeriesDir.
// Deleting such an image deletes the series' files. An image file of the same id goes before the series.
//
// # Changes
//
// A change is in the index when the call returns. Files and index are written beside the old ones, brought to the disk and
// renamed. A crash between the two renames leaves a whole new file with the info of its predecessor, or a new file that the
// next reconciliation adds. An index that cannot be read is never written over.
//
// # Locks
//
// Store.write comes first, then the lock on .lock; both are held for a change or a reconciliation. Readers take neither, unless
// another process has written: they read an index that is never changed, only replaced.
package localstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"scrawl/adapters/dicom"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// Files of the store's own in its folder.
const (
	indexFile = "datastore_v2.json"
	lockFile  = ".lock"
)

// Defaults of Options.
const (
	DefaultRescan      = time.Minute
	DefaultLockTimeout = 30 * time.Second
	DefaultMaxBytes    = 16 << 30
)

// Options say how to open a store.
type Options struct {
	// Dir is the folder. It is made if it is not there, unless the store is read-only.
	Dir string
	// Patterns are the file names taken for images and labels, such as "*.nii.gz".
	Patterns []string
	// Detached is for images that lie elsewhere: the index knows those that Register has named, with or without a file here, and
	// the folder is looked through for labels only.
	Detached bool
	// ReadOnly refuses changes and writes nothing at all into the folder.
	ReadOnly bool
	// AutoReload watches the folder for files that come and go. Without it they are noticed when the store is opened and when
	// another process writes the index.
	AutoReload bool
	// Rescan is the time between two looks at a watched folder, in case that nothing notifies of changes. Default DefaultRescan.
	Rescan time.Duration
	// LockTimeout is how long to wait for another process that holds the lock. Default DefaultLockTimeout.
	LockTimeout time.Duration
	// MaxBytes limits a stored file. Default DefaultMaxBytes.
	MaxBytes int64
	// SeriesDir is where DICOM series are kept after conversion. Without it DICOM files are not looked for.
	SeriesDir string
	// SeriesBytes is how much they may take there. Default DefaultConvertedBytes.
	SeriesBytes int64
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// Log gets what is added, dropped and passed over.
	Log zerolog.Logger
}

// Store is a folder of images and labels. It implements datastore.Store.
type Store struct {
	dir         string
	root        *os.Root
	ext         extensions
	detached    bool
	readOnly    bool
	rescan      time.Duration
	lockTimeout time.Duration
	maxBytes    int64
	now         func() time.Time
	log         zerolog.Logger
	sums        datastore.Checksums

	state atomic.Pointer[state]

	scanner   *dicom.Scanner // nil where DICOM files are not looked for
	converted *converter
	series    atomic.Pointer[seriesSet]
	nextScan  time.Time // under write, as is scanned: whether the last scan could look everywhere
	scanned   bool

	write    sync.Mutex // serialises changes and reconciliations; before the lock on .lock
	reported map[string]bool

	stop    context.CancelFunc
	watcher sync.WaitGroup
	closed  atomic.Bool
}

var _ datastore.Store = (*Store)(nil)

// state is an index with the file it was read from or written to.
type state struct {
	index *index
	stamp fs.FileInfo // nil when there is no file
	// broken is why the file that stamp tells of cannot be read. The index is the last good one then, and must not be written.
	broken error
}

// Open opens the store in a folder and reconciles its index with the files. An index that cannot be read is an error: starting
// without it would lose all infos.
func Open(o Options) (*Store, error) {
	s, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("open datastore %s: %w", o.Dir, err)
	}
	return s, nil
}

func open(o Options) (*Store, error) {
	ext, err := newExtensions(o.Patterns)
	if err != nil {
		return nil, err
	}
	if !o.ReadOnly {
		if err := os.MkdirAll(o.Dir, 0o755); err != nil {
			return nil, err
		}
	}
	// Answers tell clients the real path, and a link that is pointed elsewhere later must not move the store.
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		dir: dir, root: root, ext: ext, detached: o.Detached, readOnly: o.ReadOnly, rescan: orDefault(o.Rescan, DefaultRescan),
		lockTimeout: orDefault(o.LockTimeout, DefaultLockTimeout), maxBytes: orDefault(o.MaxBytes, DefaultMaxBytes),
		now: o.Now, log: o.Log, reported: make(map[string]bool),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if o.SeriesDir != "" && !o.Detached {
		s.scanner = dicom.NewScanner(dicom.Limits{})
		s.converted = newConverter(o.SeriesDir, orDefault(o.SeriesBytes, DefaultConvertedBytes), o.Log)
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	if o.AutoReload {
		s.watcher.Add(1)
		go func() {
			defer s.watcher.Done()
			s.watch(ctx)
		}()
	}
	return s, nil
}

func orDefault[T time.Duration | int64](v, d T) T {
	if v > 0 {
		return v
	}
	return d
}

// start reads the index for the first time and makes the folders that it names.
func (s *Store) start() error {
	s.state.Store(&state{index: newIndex()})
	if err := s.sync(context.Background()); err != nil {
		return err
	}
	if s.readOnly {
		return nil
	}
	x := s.state.Load().index
	for _, tag := range []string{datastore.TagFinal, datastore.TagOriginal} {
		if err := s.root.MkdirAll(x.labelsDir(tag), 0o755); err != nil {
			return err
		}
	}
	dirs := []string{".", x.imagesDir()}
	if tags, err := s.list(x.labelsDir("")); err == nil {
		for _, tag := range tags.dirs {
			dirs = append(dirs, x.labelsDir(tag))
		}
	}
	s.sweep(dirs...)
	return nil
}

// Close ends watching and closes the folder.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.stop()
	s.watcher.Wait()
	s.write.Lock()
	defer s.write.Unlock()
	return s.root.Close()
}

// snapshot returns the index as it is now. If another process has written one that cannot be read, or holds the lock for too
// long, the last one known stands in: reading goes on.
func (s *Store) snapshot(ctx context.Context) (*index, error) {
	if s.closed.Load() {
		return nil, fmt.Errorf("datastore: %w", os.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if st := s.state.Load(); s.isCurrent(st) {
		return st.index, nil
	}
	if err := s.sync(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.log.Warn().Err(err).Msg("the datastore's index was changed but cannot be read, the last one is used")
	}
	return s.state.Load().index, nil
}

// isCurrent reports whether the index file is still the one that was read.
func (s *Store) isCurrent(st *state) bool {
	info, err := s.root.Stat(indexFile)
	if err != nil {
		return st.stamp == nil && errors.Is(err, fs.ErrNotExist)
	}
	return sameFile(st.stamp, info)
}

func sameFile(a, b fs.FileInfo) bool {
	return a != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// Name implements datastore.Store.
func (s *Store) Name(ctx context.Context) (string, error) {
	x, err := s.snapshot(ctx)
	if err != nil {
		return "", err
	}
	return x.text(keyName), nil
}

// Description implements datastore.Store.
func (s *Store) Description(ctx context.Context) (string, error) {
	x, err := s.snapshot(ctx)
	if err != nil {
		return "", err
	}
	return x.text(keyDescription), nil
}

// Stats implements datastore.Store.
func (s *Store) Stats(ctx context.Context) (datastore.Stats, error) {
	x, err := s.snapshot(ctx)
	if err != nil {
		return datastore.Stats{}, err
	}
	return datastore.StatsOf(x.order, func(id string) []string { return x.entries[id].tags() }), nil
}

// Document implements datastore.Store.
func (s *Store) Document(ctx context.Context) (*api.Object, error) {
	x, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return x.document(), nil
}

// Images implements datastore.Store.
func (s *Store) Images(ctx context.Context) ([]datastore.Item, error) {
	x, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	items := make([]datastore.Item, 0, len(x.order))
	for _, id := range x.order {
		items = append(items, s.imageItem(x, id))
	}
	return items, nil
}

// Unlabelled implements datastore.Store.
func (s *Store) Unlabelled(ctx context.Context) ([]datastore.Item, error) {
	x, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	var items []datastore.Item
	for _, id := range slices.Sorted(slices.Values(x.order)) {
		if _, _, labelled := x.entries[id].label(datastore.TagFinal); !labelled {
			items = append(items, s.imageItem(x, id))
		}
	}
	return items, nil
}

// Labelled implements datastore.Store.
func (s *Store) Labelled(ctx context.Context) ([]datastore.Pair, error) {
	x, err := s.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	var pairs []datastore.Pair
	for _, id := range slices.Sorted(slices.Values(x.order)) {
		if label, ok := s.labelItem(x, id, datastore.TagFinal); ok {
			pairs = append(pairs, datastore.Pair{Image: s.imageItem(x, id), Label: label})
		}
	}
	return pairs, nil
}

// Image implements datastore.Store.
func (s *Store) Image(ctx context.Context, id string) (datastore.Item, error) {
	x, _, err := s.find(ctx, id)
	if err != nil {
		return datastore.Item{}, err
	}
	return s.imageItem(x, id), nil
}

// Label implements datastore.Store.
func (s *Store) Label(ctx context.Context, id, tag string) (datastore.Item, error) {
	x, e, err := s.find(ctx, id)
	if err != nil {
		return datastore.Item{}, err
	}
	if _, _, err := e.findLabel(id, tag); err != nil {
		return datastore.Item{}, err
	}
	item, _ := s.labelItem(x, id, tag)
	return item, nil
}

// Tags implements datastore.Store.
func (s *Store) Tags(ctx context.Context, id string) ([]string, error) {
	_, e, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	return e.tags(), nil
}

// Checksum implements datastore.Store.
func (s *Store) Checksum(ctx context.Context, id string, kind datastore.Hash) (string, error) {
	item, err := s.Image(ctx, id)
	if err != nil {
		return "", err
	}
	return s.sums.Of(ctx, item, kind)
}

func (s *Store) find(ctx context.Context, id string) (*index, entry, error) {
	x, err := s.snapshot(ctx)
	if err != nil {
		return nil, entry{}, err
	}
	e, err := x.find(id)
	return x, e, err
}

// find returns an image's entry. Ids of an existing index need not follow our rules, if only their file is there.
func (x *index) find(id string) (entry, error) {
	if e, ok := x.entries[id]; ok {
		return e, nil
	}
	if err := datastore.CheckID(id); err != nil {
		return entry{}, err
	}
	return entry{}, fmt.Errorf("image %q is not in the datastore: %w", id, fs.ErrNotExist)
}

// findLabel returns the extension and info of the label under a tag.
func (e entry) findLabel(id, tag string) (ext string, info *api.Object, err error) {
	ext, info, ok := e.label(tag)
	if ok {
		return ext, info, nil
	}
	if err := datastore.CheckTag(tag); err != nil {
		return "", nil, err
	}
	return "", nil, fmt.Errorf("image %q has no label %q: %w", id, tag, fs.ErrNotExist)
}

func (s *Store) imageItem(x *index, id string) datastore.Item {
	ext, info := x.entries[id].image()
	item := s.item(id, x.imagesDir(), ext, info)
	if one, ok := s.seriesOf(id, filepath.Join(x.imagesDir(), fileName(id, ext))); ok {
		return s.seriesItem(item, one)
	}
	return item
}

func (s *Store) labelItem(x *index, id, tag string) (datastore.Item, bool) {
	ext, info, ok := x.entries[id].label(tag)
	return s.item(id, x.labelsDir(tag), ext, info), ok
}

func (s *Store) item(id, dir, ext string, info *api.Object) datastore.Item {
	path := filepath.Join(dir, fileName(id, ext))
	return datastore.Item{ID: id, Path: filepath.Join(s.dir, path), Ext: ext, Info: info.Clone(),
		Open: func() (*os.File, error) { return s.openFile(path) }}
}
