package dicom

import "scrawl/adapters/volume"

// Limits bound what is read. A field that is 0 or negative stands for DefaultLimits'.
type Limits struct {
	// Limits bound the volume that a series makes, and the bytes of one file.
	volume.Limits
	// MaxHeaderBytes is the most that the elements of one file beside its pixels may take, in bytes of the canonical stream. In memory
	// they take several times as much.
	MaxHeaderBytes int64
	// MaxSeriesBytes is the most that the files of one series may keep in memory while it is open: their elements, in bytes of the
	// canonical stream, and the whole of data sets that were deflated.
	MaxSeriesBytes int64
	// MaxElements is the most elements of one file, nested ones included.
	MaxElements int
	// MaxFiles is the most files of a folder that are looked at.
	MaxFiles int
}

// DefaultLimits suit enhanced images of ten thousand frames and folders of a hospital's year.
func DefaultLimits() Limits {
	return Limits{Limits: volume.DefaultLimits(), MaxHeaderBytes: 64 << 20, MaxSeriesBytes: 2 << 30, MaxElements: 1 << 20, MaxFiles: 1 << 20}
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	l.Limits = l.Or(d.Limits)
	if l.MaxHeaderBytes <= 0 {
		l.MaxHeaderBytes = d.MaxHeaderBytes
	}
	if l.MaxSeriesBytes <= 0 {
		l.MaxSeriesBytes = d.MaxSeriesBytes
	}
	if l.MaxElements <= 0 {
		l.MaxElements = d.MaxElements
	}
	if l.MaxFiles <= 0 {
		l.MaxFiles = d.MaxFiles
	}
	return l
}

// Bounds of the guard that no honest file comes near.
const (
	maxDepth     = 32        // of nested sequences
	maxValue     = 1 << 20   // bytes of one value; longer ones are left out, since nothing here needs them
	maxFragments = 1 << 20   // of encapsulated pixels
	maxInflated  = 512 << 20 // bytes of a deflated data set
	maxFrames    = 1 << 20   // of one file
)
