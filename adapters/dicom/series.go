package dicom

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"scrawl/adapters/volume"
)

// Skipped is a file that is left out, and why.
type Skipped struct {
	Name string
	Err  error
}

// Series is the headers of the files of one series. It is not changed once it is open, and may be used by many goroutines.
type Series struct {
	// UID is the series instance UID, "" if the files have none.
	UID string
	// Files are those with pixels, in the order of their names as given.
	Files []*File
	// Names are their names.
	Names []string
	// Skipped are the files that could not be read or are no images.
	Skipped []Skipped

	fsys fs.FS
	lim  Limits
}

// OpenSeries reads the headers of the files of one series. Files that do not read, have no pixels or were copied twice are skipped;
// it is an error if none is left, or if they belong to several series.
func OpenSeries(ctx context.Context, fsys fs.FS, names []string, lim Limits) (*Series, error) {
	lim = lim.orDefault()
	if len(names) > lim.MaxFiles {
		return nil, fmt.Errorf("%w: %d files, at most %d are accepted", volume.ErrTooLarge, len(names), lim.MaxFiles)
	}
	files := make([]*File, len(names))
	failed := make([]error, len(names))
	var kept atomic.Int64
	err := parallel(ctx, len(names), func(n int) error {
		f, err := readFile(fsys, names[n], lim, 0)
		if err == nil {
			err = f.usable()
		}
		if err != nil {
			failed[n] = err
			return nil
		}
		if files[n] = f; kept.Add(f.kept) > lim.MaxSeriesBytes {
			return fmt.Errorf("%w: the headers and deflated data sets of a series take more than %d bytes", volume.ErrTooLarge, lim.MaxSeriesBytes)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s := &Series{fsys: fsys, lim: lim}
	seen := map[string]bool{}
	for n, f := range files {
		uid := ""
		if failed[n] == nil {
			uid = f.Text(SOPInstanceUID)
			if seen[uid] && uid != "" {
				failed[n] = fmt.Errorf("%w: another file holds the same instance", volume.ErrUnsupported)
			}
		}
		if failed[n] != nil {
			s.Skipped = append(s.Skipped, Skipped{names[n], failed[n]})
			continue
		}
		seen[uid] = true
		s.Files, s.Names = append(s.Files, f), append(s.Names, names[n])
	}
	return s, s.check()
}

func (s *Series) check() error {
	if len(s.Files) == 0 {
		if len(s.Skipped) == 0 {
			return fmt.Errorf("%w: a series without files", volume.ErrFormat)
		}
		if len(s.Skipped) == 1 {
			return fmt.Errorf("%s: %w", s.Skipped[0].Name, s.Skipped[0].Err)
		}
		return fmt.Errorf("none of %d files is an image, such as %s: %w", len(s.Skipped), s.Skipped[0].Name, s.Skipped[0].Err)
	}
	s.UID = s.Files[0].Text(SeriesInstanceUID)
	for n, f := range s.Files {
		if uid := f.Text(SeriesInstanceUID); uid != s.UID {
			return fmt.Errorf("%w: files of several series: %s is of %s, %s of %s", volume.ErrUnsupported, s.Names[0], s.UID, s.Names[n], uid)
		}
	}
	return nil
}

// usable tells why a file cannot give slices.
func (f *File) usable() error {
	if !f.HasPixels() {
		return fmt.Errorf("%w: no pixel data", volume.ErrUnsupported)
	}
	_, err := f.planes()
	return err
}

// Header is a file's elements, of the first file of the series: what all have in common (patient, study, series) can be taken from it.
func (s *Series) Header() *Dataset { return s.Files[0].Dataset }

// Grid sorts the slices of the series. See the type.
func (s *Series) Grid() (*Grid, error) {
	var planes []plane
	for n, f := range s.Files {
		p, err := f.planes()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Names[n], err)
		}
		if planes = append(planes, p...); len(planes) > maxFrames {
			return nil, fmt.Errorf("%w: more than %d frames in a series", volume.ErrTooLarge, maxFrames)
		}
	}
	g, err := newGrid(planes)
	if err != nil {
		return nil, fmt.Errorf("series %q: %w", s.UID, err)
	}
	if len(s.Skipped) > 0 {
		g.note("%d files are left out, such as %s: %v", len(s.Skipped), s.Skipped[0].Name, s.Skipped[0].Err)
	}
	return g, nil
}

// Volume reads the voxels of a grid of this series, several slices at a time.
func (s *Series) Volume(ctx context.Context, g *Grid) (*volume.Volume, error) {
	if err := s.lim.Check(g.Size, 4); err != nil {
		return nil, fmt.Errorf("series %q: %w", s.UID, err)
	}
	v := volume.NewVolume(g.Geometry)
	pixels := g.Size[0] * g.Size[1]
	// A file of many frames is opened once by each worker, so neighbouring slices go to one.
	const run = 16
	runs := (len(g.Slices) + run - 1) / run
	if runs < runtime.GOMAXPROCS(0) {
		runs = min(len(g.Slices), runtime.GOMAXPROCS(0))
	}
	err := parallel(ctx, runs, func(n int) error {
		r := frameReader{series: s}
		defer r.close()
		for k := len(g.Slices) * n / runs; k < len(g.Slices)*(n+1)/runs; k++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.read(v.Voxels[k*pixels:(k+1)*pixels], g.Slices[k]); err != nil {
				return fmt.Errorf("series %q, slice %d (%s): %w", s.UID, k+1, s.name(g.Slices[k].File), err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (s *Series) name(f *File) string {
	if n := slices.Index(s.Files, f); n >= 0 {
		return s.Names[n]
	}
	return "unknown file"
}

// frameReader reads frames and keeps the last file open.
type frameReader struct {
	series *Series
	file   *File
	open   *source
	frames *Frames
}

func (r *frameReader) close() {
	if r.open != nil {
		_ = r.open.Close() // only read
	}
	r.file, r.open = nil, nil
}

func (r *frameReader) read(dst []float32, s Slice) error {
	if r.file != s.File {
		r.close()
		var err error
		if r.open, err = openSource(r.series.fsys, r.series.name(s.File), r.series.lim); err != nil {
			return err
		}
		if r.frames, err = s.File.OpenFrames(r.open, r.open.size, r.series.lim); err != nil {
			return err
		}
		r.file = s.File
	}
	return r.frames.Read(dst, s.Frame)
}

// parallel runs f for 0 to n-1 on all cores, until one fails or ctx ends.
func parallel(ctx context.Context, n int, f func(int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < n && ctx.Err() == nil; i = int(next.Add(1) - 1) {
				if err := guarded(func() error { return f(i) }); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// guarded turns a panic on hostile data into an error: one in a goroutine would end the process.
func guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", volume.ErrFormat, r)
		}
	}()
	return f()
}

// Image is a series with its grid and its voxels.
type Image struct {
	Series *Series
	Grid   *Grid
	*volume.Volume
}

// ReadFolder reads the one image that a folder holds, sub-folders included, as the volume of its series. See OpenFolder.
func ReadFolder(ctx context.Context, fsys fs.FS, lim Limits) (*Image, error) {
	s, err := OpenFolder(ctx, fsys, lim)
	if err != nil {
		return nil, err
	}
	return s.read(ctx)
}

// OpenFolder opens the one image series that a folder holds, sub-folders included. A folder of several is refused with their UIDs, one
// of none with the reason.
func OpenFolder(ctx context.Context, fsys fs.FS, lim Limits) (*Series, error) {
	found, err := Scan(ctx, fsys, lim)
	if err != nil {
		return nil, err
	}
	images := slices.DeleteFunc(slices.Clone(found.Series), func(s Summary) bool { return !s.IsImage() })
	switch {
	case len(images) > 1:
		return nil, fmt.Errorf("%w: the folder holds %d series, such as %s and %s, want one", volume.ErrUnsupported, len(images), images[0].UID, images[1].UID)
	case len(images) == 1:
		return OpenSeries(ctx, fsys, images[0].Files, lim)
	case len(found.Skipped) > 0:
		return nil, fmt.Errorf("no DICOM image in the folder: %s: %w", found.Skipped[0].Name, found.Skipped[0].Err)
	}
	return nil, fmt.Errorf("%w: no DICOM image in the folder", volume.ErrUnsupported)
}

// ReadImage reads one file of size bytes as an image of its own.
func ReadImage(ctx context.Context, r io.ReaderAt, size int64, lim Limits) (*Image, error) {
	return ReadSeries(ctx, singleFile{r, size}, []string{singleName}, lim)
}

// ReadSeries reads the files of one series as a volume.
func ReadSeries(ctx context.Context, fsys fs.FS, names []string, lim Limits) (*Image, error) {
	s, err := OpenSeries(ctx, fsys, names, lim)
	if err != nil {
		return nil, err
	}
	return s.read(ctx)
}

func (s *Series) read(ctx context.Context) (*Image, error) {
	g, err := s.Grid()
	if err != nil {
		return nil, err
	}
	v, err := s.Volume(ctx, g)
	if err != nil {
		return nil, err
	}
	return &Image{Series: s, Grid: g, Volume: v}, nil
}
