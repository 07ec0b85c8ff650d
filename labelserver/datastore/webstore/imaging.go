package webstore

import (
	"context"
	"io"
	"io/fs"

	"scrawl/adapters/dicomseg"
	"scrawl/adapters/volume"
)

// Imaging knows DICOM files. A series is a folder that holds its instances and nothing else. Implementations are safe for concurrent
// use.
type Imaging interface {
	// Volume reads a series, Grid only where its voxels lie.
	Volume(ctx context.Context, series fs.FS) (*volume.Volume, error)
	Grid(ctx context.Context, series fs.FS) (volume.Geometry, error)
	// Encode writes a DICOM segmentation of a series: a label map on the grid of its Volume. Each label in it has a segment.
	Encode(ctx context.Context, w io.Writer, series fs.FS, m *volume.LabelMap, segments []dicomseg.Segment) (Encoded, error)
	// Decode reads a DICOM segmentation onto the grid of the series' Volume. Where segments overlap one of them stays.
	Decode(ctx context.Context, segmentation io.ReaderAt, size int64, series fs.FS) (*volume.LabelMap, error)
}

// Encoded tells of a segmentation what an archive's list of it would.
type Encoded struct {
	// Series and Instance are its UIDs.
	Series, Instance string
	// Made is its content's date and time, as in (0008,0023) and (0008,0033).
	Made string
}
