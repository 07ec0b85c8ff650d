package dicom

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"scrawl/adapters/volume"
)

// Summary is what the heads of its files say about a series.
type Summary struct {
	// UID is the series instance UID. Files that have none are taken together by folder, study, series number and frame of reference,
	// and named after one of them.
	UID                                           string
	StudyUID, PatientID, StudyDate, StudyTime     string
	Modality, StudyDescription, SeriesDescription string
	SOPClass                                      string
	// Files are the names in the folder, sorted. Bytes and Modified are their sizes together and the newest of their times.
	Files    []string
	Bytes    int64
	Modified time.Time

	pixels bool
}

// SOP classes that are told from images.
const (
	SegmentationStorage         = "1.2.840.10008.5.1.4.1.1.66.4"
	LabelMapSegmentationStorage = "1.2.840.10008.5.1.4.1.1.66.7"
	RTStructureSetStorage       = "1.2.840.10008.5.1.4.1.1.481.3"
)

// IsImage reports whether the series holds images to be labelled, rather than segmentations, structure sets, reports and the like.
func (s Summary) IsImage() bool { return s.pixels && !s.IsSegmentation() }

// IsSegmentation reports whether the series is a DICOM SEG.
func (s Summary) IsSegmentation() bool {
	return s.SOPClass == SegmentationStorage || s.SOPClass == LabelMapSegmentationStorage
}

// Found is what a folder holds.
type Found struct {
	// Series are in order of their UIDs.
	Series []Summary
	// Skipped are the DICOM files whose heads do not read. Files that are no DICOM are passed over.
	Skipped []Skipped
	// Unread is why a sub-folder could not be looked into, nil if all could: series may be missing then that are there.
	Unread error
}

// Scan looks for DICOM files in a folder and its sub-folders, whatever their names are, and sorts them into series by their heads.
// Hidden files and folders and DICOMDIR are passed over.
func Scan(ctx context.Context, fsys fs.FS, lim Limits) (*Found, error) {
	return NewScanner(lim).Scan(ctx, fsys)
}

// Scanner scans a folder again and again, and reads the heads of new and changed files only. It is safe for concurrent use.
type Scanner struct {
	lim  Limits
	mu   sync.Mutex
	seen map[string]head
}

// head is what is remembered of a file.
type head struct {
	Summary
	size     int64
	modified time.Time
	isDICOM  bool
	err      error
}

// NewScanner makes a scanner that has seen nothing.
func NewScanner(lim Limits) *Scanner { return &Scanner{lim: lim.orDefault(), seen: map[string]head{}} }

// Scan is the function of the same name.
func (s *Scanner) Scan(ctx context.Context, fsys fs.FS) (*Found, error) {
	return s.ScanExcept(ctx, fsys, nil)
}

// ScanExcept passes over the folders and files for whose names skip is true.
func (s *Scanner) ScanExcept(ctx context.Context, fsys fs.FS, skip func(name string) bool) (*Found, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := lister{fsys: fsys, skip: skip, limit: s.lim.MaxFiles, infos: map[string]fs.FileInfo{}}
	if err := w.list(ctx); err != nil {
		return nil, err
	}
	heads, err := s.heads(ctx, fsys, w.names, w.infos)
	if err != nil {
		return nil, err
	}
	found := collect(w.names, heads)
	found.Unread = w.unread
	return found, nil
}

// lister lists the files of a folder and its sub-folders. Links to files are followed, those to folders are not: they may go in circles.
type lister struct {
	fsys   fs.FS
	skip   func(name string) bool
	limit  int
	names  []string
	infos  map[string]fs.FileInfo
	unread error
}

func (w *lister) list(ctx context.Context) error {
	return fs.WalkDir(w.fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && name == ".":
			return err
		case err != nil: // the rest is still read
			w.unread = cmp.Or(w.unread, err)
			return nil
		case name != "." && (strings.HasPrefix(d.Name(), ".") || w.skip != nil && w.skip(name)):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir() || strings.EqualFold(d.Name(), "DICOMDIR"):
			return nil
		}
		info, err := fs.Stat(w.fsys, name)
		if err != nil || !info.Mode().IsRegular() {
			return nil //nolint:nilerr // gone meanwhile, or a link to nowhere or out of the folder
		}
		if len(w.names) == w.limit {
			return fmt.Errorf("%w: more than %d files in the folder", volume.ErrTooLarge, w.limit)
		}
		w.names = append(w.names, name)
		w.infos[name] = info
		return nil
	})
}

// heads reads the heads that are not known yet and forgets those of files that are gone.
func (s *Scanner) heads(ctx context.Context, fsys fs.FS, names []string, infos map[string]fs.FileInfo) ([]head, error) {
	heads := make([]head, len(names))
	err := parallel(ctx, len(names), func(n int) error {
		info := infos[names[n]]
		known, ok := s.seen[names[n]]
		if !ok || known.size != info.Size() || !known.modified.Equal(info.ModTime()) {
			known = readHead(fsys, names[n], s.lim)
			known.size, known.modified = info.Size(), info.ModTime()
		}
		heads[n] = known
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.seen = make(map[string]head, len(names))
	for n, name := range names {
		s.seen[name] = heads[n]
	}
	return heads, nil
}

func readHead(fsys fs.FS, name string, lim Limits) head {
	src, err := openSource(fsys, name, lim)
	if err != nil {
		return head{}
	}
	defer func() { _ = src.Close() }() // only read
	first := make([]byte, min(src.size, 256))
	if n, err := src.ReadAt(first, 0); err != nil && !errors.Is(err, io.EOF) || !IsFile(first[:n]) {
		return head{}
	}
	h := head{isDICOM: true}
	var f *File
	h.err = guarded(func() (err error) {
		f, err = readUntil(src, src.size, lim, Columns)
		return err
	})
	if h.err != nil {
		return h
	}
	h.UID, h.StudyUID, h.Modality = f.Text(SeriesInstanceUID), f.Text(StudyInstanceUID), f.Text(Modality)
	h.PatientID, h.StudyDate, h.StudyTime = f.Text(PatientID), f.Text(StudyDate), f.Text(StudyTime)
	h.StudyDescription, h.SeriesDescription, h.SOPClass = f.Text(StudyDescription), f.Text(SeriesDescription), f.Text(SOPClassUID)
	if h.UID == "" {
		h.UID = standIn(f, name)
	}
	rows, _ := f.Int(Rows)
	columns, _ := f.Int(Columns)
	h.pixels = rows > 0 && columns > 0
	return h
}

// standIn names the series of a file that has no series instance UID.
func standIn(f *File, name string) string {
	folder, study, number := path.Dir(name), f.Text(StudyInstanceUID), f.Text(SeriesNumber)
	switch {
	case study != "" && number != "":
		return study + "." + number
	case folder != ".":
		return strings.ReplaceAll(folder, "/", "_")
	case f.Text(FrameOfReferenceUID) != "":
		return f.Text(FrameOfReferenceUID)
	}
	return "unnamed"
}

func collect(names []string, heads []head) *Found {
	found := &Found{}
	at := map[string]int{}
	for n, h := range heads {
		switch {
		case !h.isDICOM:
			continue
		case h.err != nil:
			found.Skipped = append(found.Skipped, Skipped{names[n], h.err})
			continue
		}
		i, known := at[h.UID]
		if !known {
			i = len(found.Series)
			at[h.UID] = i
			found.Series = append(found.Series, h.Summary)
		}
		s := &found.Series[i]
		s.Files = append(s.Files, names[n])
		s.Bytes += h.size
		s.pixels = s.pixels || h.pixels
		if h.modified.After(s.Modified) {
			s.Modified = h.modified
		}
	}
	slices.SortFunc(found.Series, func(a, b Summary) int { return cmp.Compare(a.UID, b.UID) })
	return found
}
