// Package webstore is a datastore over an archive that speaks DICOMweb. An image is a series, its id the SeriesInstanceUID; a final
// label goes to the archive as a DICOM segmentation.
//
// # What lies where
//
// The archive has the images and the segmentations. The state folder has what only this server knows, in MONAI Label's layout so that
// its own folder for an archive can be taken over:
//
//	<dir>/datastore_v2.json        infos of images (who was given which, …) and of labels
//	<dir>/labels/<tag>/<UID><ext>  labels of all tags; those under final are also in the archive
//	<dir>/outbox/<UID>.dcm         segmentations the archive has not taken yet
//	<dir>/segmentations.json       what is known of the archive's segmentations, which can be read again
//
// The cache folder has series as they were fetched, with the volume made of each; it can be deleted.
//
// # Which images there are
//
// Those the archive lists for the configured filters. The list is kept and renewed in the background when it is older than
// Options.Refresh; what this server changes is in it at once. A series that is not in the list, because it has just arrived or no
// filter fits, is asked for by its UID.
//
// # Labels
//
// The final label of an image is the newest: the one submitted here, or a segmentation of the archive that refers to the series, whoever
// made it. One that is deleted here is not offered again; the archive keeps it, since DICOMweb has no way to delete.
//
// # Nothing is lost
//
// A label submitted is first stored here, then sent. While the archive cannot be reached it is "pending" (in the label's info, under
// archive) and sent again in the background, also after a restart. What the archive refuses for good is an error, and the label is kept
// all the same.
package webstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"github.com/rs/zerolog"
	"golang.org/x/sync/singleflight"

	"scrawl/adapters/dicomweb"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/datastore/localstore"
)

// imageExt is the format in which a series is handed out.
const imageExt = ".nii.gz"

// Defaults of Options.
const (
	DefaultRefresh     = 30 * time.Second
	DefaultCacheBytes  = 20 << 30
	DefaultCacheExpiry = 7 * 24 * time.Hour
	DefaultMaxSeries   = 8 << 30
	DefaultFetch       = 10 * time.Minute
	DefaultRedeliver   = 30 * time.Second
)

// Options say how to open a store.
type Options struct {
	Client *dicomweb.Client
	// Imaging makes volumes of series and segmentations of label maps.
	Imaging Imaging
	// Dir is the state folder, CacheDir the cache folder; both are made if missing. CacheDir is the folder cache in Dir if "".
	Dir, CacheDir string
	// Search are the filters by which images are listed, such as Modality=CT; what fits any of them is an image.
	Search []url.Values
	// Labels are names for label numbers 1, 2, … for which a client gives none.
	Labels []string
	// ReadOnly refuses changes, here and in the archive.
	ReadOnly bool
	// Refresh is how old the list of the archive's series may get. Default DefaultRefresh.
	Refresh time.Duration
	// CacheBytes bounds the cache folder; CacheExpiry is how long a series that nobody uses stays. Defaults DefaultCacheBytes and
	// DefaultCacheExpiry.
	CacheBytes  int64
	CacheExpiry time.Duration
	// MaxSeries bounds one series, MaxUpload one label, in bytes. Defaults DefaultMaxSeries and localstore.DefaultMaxBytes.
	MaxSeries, MaxUpload int64
	// Fetch bounds the time to fetch a series and make a volume of it. Default DefaultFetch.
	Fetch time.Duration
	// Redeliver is the pause before a label is sent again that the archive could not take; it grows. Default DefaultRedeliver.
	Redeliver time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	Log zerolog.Logger
}

// Store is an archive as a datastore. It implements datastore.Store.
type Store struct {
	o       Options
	client  *dicomweb.Client
	local   *localstore.Store
	dir     string
	cache   *cache
	lock    *flock.Flock
	listing atomic.Pointer[listing]
	fetches singleflight.Group

	change   sync.Mutex    // guards replacing the listing, and tried
	tried    time.Time     // when the listing was last to be renewed
	delivery keyed         // one delivery and one change of a label at a time, by image
	wake     chan struct{} // there is a label to send again
	back     chan struct{} // the archive answers again
	down     atomic.Bool   // a label could not be sent since the archive last answered

	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	work   sync.WaitGroup
	closed atomic.Bool
}

var _ datastore.Store = (*Store)(nil)

// Open opens the store and asks the archive for its series: an archive that is not there, or not one, is an error.
func Open(ctx context.Context, o Options) (*Store, error) {
	s, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open archive %s: %w", o.Client.URL(), err)
	}
	return s, nil
}

func open(ctx context.Context, o Options) (*Store, error) {
	setDefaults(&o)
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{dir, filepath.Join(dir, outboxDir), o.CacheDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	lock := flock.New(filepath.Join(o.CacheDir, ".lock-cache"))
	if ok, err := lock.TryLock(); err != nil || !ok {
		return nil, errors.Join(fmt.Errorf("another server uses the cache %s, want a folder for each (state.dir)", o.CacheDir), err)
	}
	s := &Store{o: o, client: o.Client, dir: dir, lock: lock, wake: make(chan struct{}, 1), back: make(chan struct{}, 1)}
	s.local, err = localstore.Open(localstore.Options{
		Dir: dir, Patterns: []string{"*.nii.gz", "*.nii", "*.nrrd", "*.bin", "*.json"}, Detached: true, MaxBytes: o.MaxUpload, Now: o.Now, Log: o.Log,
	})
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.cache, err = openCache(o.CacheDir, o.CacheBytes, o.CacheExpiry, o.Now, o.Log)
	if err == nil {
		s.listing.Store(s.emptyListing())
		err = s.refresh(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.work.Go(s.deliverLater)
	s.work.Go(s.sweepCache)
	return s, nil
}

func setDefaults(o *Options) {
	if o.CacheDir == "" {
		o.CacheDir = filepath.Join(o.Dir, "cache")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	orDefault(&o.Refresh, DefaultRefresh)
	orDefault(&o.CacheBytes, DefaultCacheBytes)
	orDefault(&o.CacheExpiry, DefaultCacheExpiry)
	orDefault(&o.MaxSeries, DefaultMaxSeries)
	orDefault(&o.MaxUpload, localstore.DefaultMaxBytes)
	orDefault(&o.Fetch, DefaultFetch)
	orDefault(&o.Redeliver, DefaultRedeliver)
}

func orDefault[T int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Close ends fetches and deliveries; what is pending is sent after the next Open.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.stop()
	s.work.Wait()
	s.client.CloseIdle()
	return errors.Join(s.local.Close(), s.lock.Unlock())
}

// Name implements datastore.Store.
func (s *Store) Name(ctx context.Context) (string, error) { return s.local.Name(ctx) }

// Description implements datastore.Store.
func (s *Store) Description(ctx context.Context) (string, error) { return s.local.Description(ctx) }

// Stats implements datastore.Store. Labels in the archive count under the tag final.
func (s *Store) Stats(ctx context.Context) (datastore.Stats, error) {
	v, err := s.view(ctx)
	if err != nil {
		return datastore.Stats{}, err
	}
	return datastore.StatsOf(v.list.order, v.tags), nil
}

// Document implements datastore.Store.
func (s *Store) Document(ctx context.Context) (*api.Object, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	objects := &api.Object{}
	for _, id := range v.list.order {
		labels := &api.Object{}
		for _, tag := range v.tags(id) {
			label := v.label(ctx, id, tag)
			labels.Set(tag, api.NewObject("ext", label.Ext, "info", label.Info))
		}
		image := api.NewObject("ext", imageExt, "info", v.info(v.list.series[id]))
		objects.Set(id, api.NewObject("image", image, "labels", labels))
	}
	v.doc.Set("objects", objects)
	return v.doc, nil
}

// Images implements datastore.Store, in the order of studies.
func (s *Store) Images(ctx context.Context) ([]datastore.Item, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	items := make([]datastore.Item, 0, len(v.list.order))
	for _, id := range v.list.order {
		items = append(items, v.image(ctx, v.list.series[id]))
	}
	return items, nil
}

// Unlabelled implements datastore.Store.
func (s *Store) Unlabelled(ctx context.Context) ([]datastore.Item, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	var items []datastore.Item
	for _, id := range slices.Sorted(slices.Values(v.list.order)) {
		if !slices.Contains(v.tags(id), datastore.TagFinal) {
			items = append(items, v.image(ctx, v.list.series[id]))
		}
	}
	return items, nil
}

// Labelled implements datastore.Store.
func (s *Store) Labelled(ctx context.Context) ([]datastore.Pair, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	var pairs []datastore.Pair
	for _, id := range slices.Sorted(slices.Values(v.list.order)) {
		if slices.Contains(v.tags(id), datastore.TagFinal) {
			pairs = append(pairs, datastore.Pair{Image: v.image(ctx, v.list.series[id]), Label: v.label(ctx, id, datastore.TagFinal)})
		}
	}
	return pairs, nil
}

// Image implements datastore.Store. Its Open fetches the series from the archive, unless it is in the cache; it waits as long as ctx
// lasts, while the fetch goes on for others.
func (s *Store) Image(ctx context.Context, id string) (datastore.Item, error) {
	v, found, err := s.find(ctx, id)
	if err != nil {
		return datastore.Item{}, err
	}
	return v.image(ctx, found), nil
}

// Label implements datastore.Store. Open of a segmentation in the archive fetches it and its series.
func (s *Store) Label(ctx context.Context, id, tag string) (datastore.Item, error) {
	v, found, err := s.find(ctx, id)
	if err != nil {
		return datastore.Item{}, err
	}
	if err := datastore.CheckTag(tag); err != nil {
		return datastore.Item{}, err
	}
	if !slices.Contains(v.tags(found.uid), tag) {
		return datastore.Item{}, noLabel(id, tag)
	}
	return v.label(ctx, found.uid, tag), nil
}

func noLabel(id, tag string) error {
	return fmt.Errorf("image %q has no label %q: %w", id, tag, fs.ErrNotExist)
}

// Tags implements datastore.Store.
func (s *Store) Tags(ctx context.Context, id string) ([]string, error) {
	v, found, err := s.find(ctx, id)
	if err != nil {
		return nil, err
	}
	return v.tags(found.uid), nil
}

// Checksum implements datastore.Store.
func (s *Store) Checksum(ctx context.Context, id string, kind datastore.Hash) (string, error) {
	item, err := s.Image(ctx, id)
	if err != nil {
		return "", err
	}
	return s.cache.sums.Of(ctx, item, kind)
}

// find returns the series with an id, from the list or the archive, and the view it is in.
func (s *Store) find(ctx context.Context, id string) (*view, *series, error) {
	if err := datastore.CheckID(id); err != nil {
		return nil, nil, err
	}
	if err := dicomweb.CheckUID(id); err != nil {
		return nil, nil, fmt.Errorf("image %q: images of an archive go by their SeriesInstanceUID: %w", id, fs.ErrNotExist)
	}
	v, err := s.view(ctx)
	if err != nil {
		return nil, nil, err
	}
	if found := v.list.series[id]; found != nil {
		return v, found, nil
	}
	found, err := s.lookUp(ctx, id)
	return v, found, err
}

// view is the list and the local index at one moment.
type view struct {
	store   *Store
	list    *listing
	doc     *api.Object
	objects *api.Object
}

func (s *Store) view(ctx context.Context) (*view, error) {
	if s.closed.Load() {
		return nil, fmt.Errorf("datastore: %w", os.ErrClosed)
	}
	list, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	doc, err := s.local.Document(ctx)
	if err != nil {
		return nil, err
	}
	objects, _ := doc.Object("objects")
	return &view{s, list, doc, objects}, nil
}

func (v *view) localLabels(id string) *api.Object {
	entry, _ := v.objects.Object(id)
	labels, _ := entry.Object("labels")
	return labels
}

// tags are those of the labels here, and final for a segmentation in the archive.
func (v *view) tags(id string) []string {
	tags := v.localLabels(id).Names()
	if v.archived(id) != nil && !slices.Contains(tags, datastore.TagFinal) {
		tags = append(tags, datastore.TagFinal)
	}
	return tags
}

// archived is the segmentation in the archive that is the final label of an image: the newest, unless one submitted here is.
func (v *view) archived(id string) *segmentation {
	entry, _ := v.objects.Object(id)
	image, _ := entry.Object("image")
	info, _ := image.Object("info")
	dismissed := textsOf(info, keyDismissed)
	newest := v.list.newest(id, dismissed)
	final, here := v.localLabels(id).Object(datastore.TagFinal)
	if newest == nil || !here {
		return newest
	}
	own, _ := final.Object("info")
	uid, _ := own.Text(keySeriesUID)
	if state, _ := stateOf(own); state != stateStored || uid == newest.series || v.list.segmentation(id, uid) == nil {
		return nil
	}
	return newest
}

// label is an item that is known to be there.
func (v *view) label(ctx context.Context, id, tag string) datastore.Item {
	if tag == datastore.TagFinal {
		if seg := v.archived(id); seg != nil {
			return v.store.archivedLabel(ctx, id, seg)
		}
	}
	item, err := v.store.local.Label(ctx, id, tag)
	if err != nil { // deleted this very moment
		return datastore.Item{ID: id, Open: func() (*os.File, error) { return nil, err }}
	}
	return item
}

// info is what is known of an image: the archive's attributes, then what this server has noted.
func (v *view) info(of *series) *api.Object {
	entry, _ := v.objects.Object(of.uid)
	image, _ := entry.Object("image")
	noted, _ := image.Object("info")
	info := of.info.Clone()
	for name, value := range noted.All() {
		if !of.info.Has(name) && name != keyDismissed {
			info.Set(name, value)
		}
	}
	if !info.Has("ts") {
		info.Set("ts", of.seen.Unix())
		info.Set("name", of.uid+imageExt)
	}
	return info
}

func (v *view) image(ctx context.Context, of *series) datastore.Item {
	s := v.store
	return datastore.Item{ID: of.uid, Path: s.cache.imagePath(of.uid), Ext: imageExt, Info: v.info(of),
		Open:   func() (*os.File, error) { return s.openImage(ctx, of) },
		Series: func(ctx context.Context) (fs.FS, []string, error) { return s.instances(ctx, of) }}
}
