package webstore

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"time"

	"scrawl/adapters/dicom"
	"scrawl/adapters/dicomseg"
	"scrawl/adapters/volume"
)

// DICOM is the Imaging of real archives. A field that is zero has dicom's default.
type DICOM struct {
	Limits dicom.Limits
	// Version is the program's, written into segmentations.
	Version string
}

var _ Imaging = DICOM{}

func (d DICOM) open(ctx context.Context, series fs.FS) (*dicom.Series, *dicom.Grid, error) {
	names, err := fs.Glob(series, "*")
	if err != nil {
		return nil, nil, err
	}
	s, err := dicom.OpenSeries(ctx, series, names, d.Limits)
	if err != nil {
		return nil, nil, err
	}
	grid, err := s.Grid()
	return s, grid, err
}

// Grid implements Imaging.
func (d DICOM) Grid(ctx context.Context, series fs.FS) (volume.Geometry, error) {
	_, grid, err := d.open(ctx, series)
	if err != nil {
		return volume.Geometry{}, err
	}
	return grid.Geometry, nil
}

// Volume implements Imaging.
func (d DICOM) Volume(ctx context.Context, series fs.FS) (*volume.Volume, error) {
	s, grid, err := d.open(ctx, series)
	if err != nil {
		return nil, err
	}
	return s.Volume(ctx, grid)
}

// Encode implements Imaging: a BINARY segmentation, which every reader knows.
func (d DICOM) Encode(ctx context.Context, w io.Writer, series fs.FS, m *volume.LabelMap, segments []dicomseg.Segment) (Encoded, error) {
	_, grid, err := d.open(ctx, series)
	if err != nil {
		return Encoded{}, err
	}
	o := dicomseg.Options{SeriesUID: dicom.NewUID(), InstanceUID: dicom.NewUID(), Now: time.Now(), Version: d.Version, SeriesDescription: "Scrawl"}
	if err := dicomseg.Encode(w, m, segments, grid, o); err != nil {
		return Encoded{}, err
	}
	return Encoded{Series: o.SeriesUID, Instance: o.InstanceUID, Made: o.Now.Format("20060102150405")}, nil
}

// Decode implements Imaging.
func (d DICOM) Decode(ctx context.Context, segmentation io.ReaderAt, size int64, series fs.FS) (*volume.LabelMap, error) {
	seg, err := dicomseg.Read(segmentation, size, d.Limits)
	if err != nil {
		return nil, err
	}
	_, grid, err := d.open(ctx, series)
	if err != nil {
		return nil, err
	}
	placed, err := seg.On(grid)
	if err != nil {
		return nil, fmt.Errorf("segmentation on the grid of its series: %w", err)
	}
	return placed.LabelMap, nil
}
