package localstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"scrawl/adapters/dicom"
	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// seriesExt is the format that a series of DICOM files is converted to for everybody who asks for the image's file, as MONAI Label does.
const seriesExt = ".nii.gz"

// DefaultConvertedBytes is how much converted series may take.
const DefaultConvertedBytes = 16 << 30

// maxWatchedSeries bounds the folders of series that are watched; those beyond are looked at from time to time.
const maxWatchedSeries = 512

// scanPause is how many times as long as a scan for series took none is made after it.
const scanPause = 20

// seriesSet is the DICOM series of a folder, by the ids of their images: series instance UIDs. It is never changed.
type seriesSet map[string]dicom.Summary

// converter makes NIfTI files of series when they are asked for and keeps them in a folder.
type converter struct {
	dir   string
	limit int64
	log   zerolog.Logger
	mu    sync.Mutex
	busy  map[string]*sync.Mutex
}

func newConverter(dir string, limit int64, log zerolog.Logger) *converter {
	return &converter{dir: dir, limit: limit, log: log, busy: map[string]*sync.Mutex{}}
}

// version tells a series from what it was before a file of it changed, came or went.
func version(s dicom.Summary) string {
	return fmt.Sprintf("%x-%x-%x", s.Modified.UnixNano(), s.Bytes, len(s.Files))
}

// path is where the conversion of a series is, or will be. Ids are checked: they are one element of a path.
func (c *converter) path(id string, s dicom.Summary) string {
	return filepath.Join(c.dir, id, version(s), id+seriesExt)
}

// open opens the conversion of a series, which is made if it is not there. Callers that ask for the same one wait for it.
func (c *converter) open(fsys fs.FS, id string, s dicom.Summary) (*os.File, error) {
	one := c.lock(id)
	defer one.Unlock()
	name := c.path(id, s)
	if f, err := os.Open(name); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			now := time.Now() // of the last use, for sweep; that it cannot be noted costs a conversion at worst
			_ = os.Chtimes(filepath.Join(c.dir, id), now, now)
		}
		return f, err
	}
	image, err := dicom.ReadSeries(context.Background(), fsys, s.Files, dicom.Limits{})
	if err != nil {
		return nil, fmt.Errorf("reading image %q: %w", id, err)
	}
	if len(image.Grid.Notes) > 0 {
		c.log.Warn().Str("image", id).Strs("notes", image.Grid.Notes).Msg("a DICOM series is not regular")
	}
	if err := c.write(id, name, image.Volume); err != nil {
		return nil, fmt.Errorf("converting image %q: %w", id, err)
	}
	c.sweep(id)
	return os.Open(name)
}

func (c *converter) lock(id string) *sync.Mutex {
	c.mu.Lock()
	one := c.busy[id]
	if one == nil {
		one = &sync.Mutex{}
		c.busy[id] = one
	}
	c.mu.Unlock()
	one.Lock()
	return one
}

// write makes the file beside its place and renames it. Conversions of earlier versions go.
func (c *converter) write(id, name string, v *volume.Volume) error {
	folder := filepath.Dir(name)
	if err := os.RemoveAll(filepath.Join(c.dir, id)); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, tempPrefix+"*"+tempSuffix)
	if err != nil {
		return err
	}
	err = format.Encode(name, f, v, format.Options{DType: string(storedType(v.Voxels))})
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(folder))
	}
	return nil
}

// storedType is the smallest type that holds voxels exactly: most series are of 16-bit integers.
func storedType(voxels []float32) volume.DType {
	lo, hi := float32(0), float32(0)
	for _, v := range voxels {
		if v != float32(int32(v)) {
			return volume.Float32
		}
		lo, hi = min(lo, v), max(hi, v)
	}
	switch {
	case lo >= -1<<15 && hi < 1<<15:
		return volume.Int16
	case lo >= 0 && hi < 1<<16:
		return volume.Uint16
	}
	return volume.Float32
}

// sweep removes the conversions that nobody has asked for longest, until the rest is within the limit. The one of id stays.
func (c *converter) sweep(id string) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return // nothing is there
	}
	type kept struct {
		name  string
		bytes int64
		used  time.Time
	}
	var all []kept
	total := int64(0)
	for _, e := range entries {
		one := kept{name: e.Name()}
		if info, err := e.Info(); err == nil {
			one.used = info.ModTime()
		}
		_ = filepath.WalkDir(filepath.Join(c.dir, e.Name()), func(_ string, f fs.DirEntry, err error) error {
			if err != nil {
				return nil //nolint:nilerr // what cannot be read counts nothing
			}
			if info, err := f.Info(); err == nil && info.Mode().IsRegular() {
				one.bytes += info.Size()
			}
			return nil
		})
		total += one.bytes
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b kept) int { return a.used.Compare(b.used) })
	for _, one := range all {
		if total <= c.limit {
			return
		}
		if one.name != id && c.drop(one.name) {
			total -= one.bytes
		}
	}
}

// drop removes a conversion unless it is being made or opened. Files that are open stay readable.
func (c *converter) drop(id string) bool {
	c.mu.Lock()
	one := c.busy[id]
	if one == nil {
		one = &sync.Mutex{}
		c.busy[id] = one
	}
	free := one.TryLock()
	c.mu.Unlock()
	if !free {
		return false
	}
	defer one.Unlock()
	return os.RemoveAll(filepath.Join(c.dir, id)) == nil
}

// findSeries looks for the DICOM series among the files of the images' folder that are no images by themselves. Where it cannot look, at all
// or into a sub-folder, what was known stays: a mount that is gone must not cost the infos of its images. complete says that it could.
func (r *reconciliation) findSeries(dir string) (complete bool) {
	s := r.store
	if s.now().Before(s.nextScan) {
		return s.scanned
	}
	began := time.Now()
	defer func() {
		// A scan that takes long, as of many files on a network mount, is not made all the time.
		if took := time.Since(began); took > time.Second {
			s.nextScan = s.now().Add(scanPause * took)
		}
	}()
	fsys, err := fs.Sub(s.root.FS(), filepath.ToSlash(filepath.Clean(dir)))
	if err != nil {
		return false
	}
	labels, _ := filepath.Rel(dir, r.index.labelsDir("")) // where labels lie elsewhere nothing is skipped
	found, err := s.scanner.ScanExcept(context.Background(), fsys, func(name string) bool {
		if name == filepath.ToSlash(labels) || name == indexFile {
			return true
		}
		_, isImage := s.ext.known(name)
		if !isImage && !strings.Contains(name, "/") {
			_, isImage = r.index.imageFile(name) // uploaded under an extension of its own
		}
		return isImage
	})
	if s.scanned = err == nil && found.Unread == nil; !s.scanned {
		why := err
		if err == nil {
			why = found.Unread
		}
		s.log.Warn().Err(why).Msg("the datastore's folder cannot be looked through for DICOM series, those known stay")
	}
	if err != nil {
		return false
	}
	set := seriesSet{}
	if known := s.series.Load(); known != nil && !s.scanned {
		maps.Copy(set, *known)
	}
	for _, one := range found.Series {
		if !one.IsImage() {
			continue
		}
		if datastore.CheckID(one.UID) != nil {
			r.foreign = append(r.foreign, filepath.Join(dir, one.Files[0]))
			continue
		}
		if dir != "." {
			for n, name := range one.Files {
				one.Files[n] = path.Join(filepath.ToSlash(dir), name)
			}
		}
		set[one.UID] = one
	}
	for _, one := range found.Skipped {
		if name := filepath.Join(dir, one.Name); !s.reported[name] {
			s.reported[name] = true
			s.log.Warn().Err(one.Err).Str("file", name).Msg("a DICOM file cannot be read and is left out")
		}
	}
	s.series.Store(&set)
	return s.scanned
}

// isSeries reports whether the index has an entry for a series.
func isSeries(id string, info *api.Object) bool {
	uid, _ := info.Text("SeriesInstanceUID")
	return uid == id
}

// addSeries puts series that the index does not know into it.
func (r *reconciliation) addSeries(set seriesSet) {
	ids := make([]string, 0, len(set))
	for id := range set {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if _, known := r.index.entries[id]; known {
			continue
		}
		r.index.set(id, entry{}.withImage(seriesExt, r.store.stamped(seriesInfo(set[id]), id+seriesExt)))
		r.added++
	}
}

// seriesInfo is what MONAI Label's datastore of an archive tells of a series, and clients show.
func seriesInfo(s dicom.Summary) *api.Object {
	or := func(v string) string { return cmp.Or(v, "UNK") }
	info := api.NewObject("SeriesInstanceUID", s.UID, "StudyDate", or(s.StudyDate), "StudyTime", or(s.StudyTime), "Modality", or(s.Modality),
		"PatientID", or(s.PatientID), "StudyInstanceUID", or(s.StudyUID))
	if s.SeriesDescription != "" {
		info.Set("SeriesDescription", s.SeriesDescription)
	}
	return info
}

// seriesOf finds the series of an image, unless the image has a file of its own.
func (s *Store) seriesOf(id, file string) (dicom.Summary, bool) {
	set := s.series.Load()
	if set == nil {
		return dicom.Summary{}, false
	}
	one, ok := (*set)[id]
	return one, ok && !s.isFile(file)
}

// seriesItem is an image made of a series.
func (s *Store) seriesItem(item datastore.Item, one dicom.Summary) datastore.Item {
	fsys := s.root.FS()
	item.Path, item.Ext = s.converted.path(item.ID, one), seriesExt
	item.Open = func() (*os.File, error) { return s.converted.open(fsys, item.ID, one) }
	item.Series = func(context.Context) (fs.FS, []string, error) { return fsys, slices.Clone(one.Files), nil }
	return item
}

// seriesDirs are the folders of series, for watching.
func (s *Store) seriesDirs() []string {
	set := s.series.Load()
	if set == nil {
		return nil
	}
	seen := map[string]bool{}
	var dirs []string
	for _, one := range *set {
		for _, name := range one.Files {
			for dir := path.Dir(name); dir != "." && !seen[dir] && len(dirs) < maxWatchedSeries; dir = path.Dir(dir) {
				seen[dir] = true
				dirs = append(dirs, filepath.FromSlash(dir))
			}
		}
	}
	return dirs
}
