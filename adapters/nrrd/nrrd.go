// Package nrrd reads and writes NRRD images (Teem's format, http://teem.sourceforge.net/nrrd/format.html), NRRD0001 to NRRD0005:
// with the data in the same file or in another, raw, gzip, bzip2, text or hexadecimal, in either byte order; and the
// segmentations that 3D Slicer keeps in them (.seg.nrrd).
//
// Space becomes the LPS+ millimetres of package volume: RAS and LAS are flipped, other spaces (scanner-xyz, 3D-right-handed …)
// have no anatomy and are taken as they are, as ITK does; space units of metres and micrometres are converted. Axes of one
// sample are dropped wherever they stand; other list axes (colours, vectors, time) are refused, except the layers of a
// segmentation. The measurement frame, which turns vectors and not positions, is skipped with everything else that is unknown.
//
// Reading streams: it needs little more memory than the voxels, and reads no more than the header declares, which is checked
// against the caller's limits first.
package nrrd

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"

	"scrawl/adapters/volume"
	"scrawl/adapters/volume/sample"
)

// Decode reads an image whose data is in the same stream.
func Decode(r io.Reader, lim volume.Limits) (*volume.Volume, error) {
	return DecodeDetached(r, nil, lim)
}

// DecodeDetached reads an image whose data is in the same stream or in a file that the header (.nhdr) names and files opens. The
// name comes from the header, so files decides what may be read: fs.FS admits nothing outside itself, and an os.Root's FS nothing
// behind a link either. A nil files refuses detached data.
func DecodeDetached(r io.Reader, files fs.FS, lim volume.Limits) (*volume.Volume, error) {
	var v *volume.Volume
	err := open(r, files, lim, func(h *header, l layout, data io.Reader) error {
		if l.components > 1 {
			return h.tooManyComponents(l)
		}
		voxels, err := sample.ReadVoxels(data, l.format, l.geometry.Size)
		v = &volume.Volume{Geometry: l.geometry, Voxels: voxels}
		return err
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

// DecodeLabels reads a label map: DecodeSegmentation without the segments.
func DecodeLabels(r io.Reader, lim volume.Limits) (*volume.LabelMap, error) {
	s, err := DecodeSegmentation(r, nil, lim)
	if err != nil {
		return nil, err
	}
	return s.LabelMap, nil
}

// open reads the header, finds the data and hands both to read.
func open(r io.Reader, files fs.FS, lim volume.Limits, read func(*header, layout, io.Reader) error) error {
	b := bufio.NewReaderSize(r, 64<<10)
	h, err := readHeader(b)
	if err != nil {
		return fmt.Errorf("NRRD header: %w", err)
	}
	l, err := h.layout(lim)
	if err != nil {
		return fmt.Errorf("NRRD header: %w", err)
	}
	source := io.Reader(b)
	if h.dataFile != "" {
		f, err := h.openData(files)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }() // only read
		source = bufio.NewReaderSize(f, 64<<10)
	}
	data, err := h.data(source, l, lim.Or(volume.DefaultLimits()))
	if err != nil {
		return fmt.Errorf("NRRD data: %w", err)
	}
	if err := read(h, l, data); err != nil {
		return fmt.Errorf("NRRD data: %w", err)
	}
	if h.isText() {
		return nil
	}
	if err := sample.Finish(data); err != nil {
		return fmt.Errorf("NRRD data: %w", err)
	}
	return nil
}
