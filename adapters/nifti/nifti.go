// Package nifti reads and writes NIfTI-1 and NIfTI-2 images (nifti1.h and nifti2.h of the NIfTI Data Format Working Group): single
// files, gzipped or not, and .hdr/.img pairs to read, in either byte order.
//
// NIfTI's world is RAS+; this package is the one place where it becomes the LPS+ of package volume. As in nibabel the sform is
// preferred over the qform; lengths in metres or micrometres become millimetres, which nibabel leaves to its caller. Numbers are
// rescaled by scl_slope and scl_inter, also those of label maps, where the results have to be integers (to 1e-3): libraries that
// are given labels as floating point store them scaled. Not-a-number stays what it is in a Volume and is an error in a LabelMap.
// Colours become their luminance (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B, alpha left out). Extensions are skipped.
//
// Reading streams: beside the voxels it needs some hundred kilobytes, and it reads no more than the header declares, which is
// checked against the caller's limits first.
package nifti

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"

	"scrawl/adapters/volume"
	"scrawl/adapters/volume/sample"
)

// The codes of colours.
const (
	rgb24  = 128
	rgba32 = 2304
)

// Decode reads an image from a single file, gzipped or not.
func Decode(r io.Reader, lim volume.Limits) (*volume.Volume, error) {
	return decode(r, nil, lim, readVolume)
}

// DecodeLabels reads a label map from a single file, gzipped or not. Every value has to be an integer from 0 to 65535.
func DecodeLabels(r io.Reader, lim volume.Limits) (*volume.LabelMap, error) {
	return decode(r, nil, lim, readLabels)
}

// DecodePair reads an image from the two files of a pair, each gzipped or not.
func DecodePair(hdr, img io.Reader, lim volume.Limits) (*volume.Volume, error) {
	return decode(hdr, img, lim, readVolume)
}

// DecodePairLabels reads a label map from the two files of a pair, each gzipped or not.
func DecodePairLabels(hdr, img io.Reader, lim volume.Limits) (*volume.LabelMap, error) {
	return decode(hdr, img, lim, readLabels)
}

// layout is what a header says about the voxels behind it.
type layout struct {
	geometry volume.Geometry
	format   sample.Format
	channels int // 0 for plain numbers, 3 or 4 bytes of colour
}

func decode[T any](hdr, img io.Reader, lim volume.Limits, read func(io.Reader, layout) (T, error)) (T, error) {
	var none T
	r, err := inflate(hdr)
	if err != nil {
		return none, err
	}
	h, err := readHeader(r)
	if err != nil {
		return none, err
	}
	l, err := h.layout(lim)
	if err != nil {
		return none, err
	}
	skip, err := h.offset()
	if err != nil {
		return none, err
	}
	switch {
	case h.pair && img == nil:
		return none, fmt.Errorf("%w: the .hdr half of a NIfTI pair without its .img: use a single .nii or .nii.gz file", volume.ErrUnsupported)
	case h.pair:
		if r, err = inflate(img); err != nil {
			return none, err
		}
	default: // also a single file that somebody calls .hdr
		skip -= h.size
	}
	if most := lim.Or(volume.DefaultLimits()).MaxBytes; skip > most {
		return none, fmt.Errorf("%w: %d bytes before the voxels, at most %d are accepted", volume.ErrTooLarge, skip, most)
	}
	if _, err := io.CopyN(io.Discard, r, skip); err != nil {
		return none, fmt.Errorf("before the voxels of the NIfTI file: %w", sample.Broken(err))
	}
	out, err := read(r, l)
	if err != nil {
		return none, fmt.Errorf("NIfTI file: %w", err)
	}
	if err := sample.Finish(r); err != nil {
		return none, fmt.Errorf("NIfTI file: %w", err)
	}
	return out, nil
}

// inflate unpacks what starts like gzip and passes on the rest.
func inflate(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	magic, err := b.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("NIfTI header: %w", err)
	}
	if len(magic) < 2 || magic[0] != 0x1f || magic[1] != 0x8b {
		return b, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, fmt.Errorf("NIfTI file: %w", sample.Broken(err))
	}
	return z, nil
}

func (h *header) layout(lim volume.Limits) (layout, error) {
	var l layout
	width := 0
	switch h.datatype {
	case rgb24:
		l.channels, width = 3, 3
	case rgba32:
		l.channels, width = 4, 4
	default:
		t, err := dtypeOf(h.datatype)
		if err != nil {
			return l, err
		}
		slope, inter, err := h.scale()
		if err != nil {
			return l, err
		}
		l.format, width = sample.Format{Type: t, Order: h.order, Slope: slope, Inter: inter}, t.Bytes()
	}
	size, err := h.grid()
	if err != nil {
		return l, fmt.Errorf("NIfTI header: %w", err)
	}
	if err := lim.Check(size, width); err != nil {
		return l, fmt.Errorf("NIfTI header: %w", err)
	}
	l.geometry, err = h.geometry(size)
	return l, err
}

func readVolume(r io.Reader, l layout) (*volume.Volume, error) {
	if l.channels > 0 {
		r, l.format = &luminance{r: r, channels: l.channels}, luminanceFormat
	}
	voxels, err := sample.ReadVoxels(r, l.format, l.geometry.Size)
	if err != nil {
		return nil, err
	}
	return &volume.Volume{Geometry: l.geometry, Voxels: voxels}, nil
}

func readLabels(r io.Reader, l layout) (*volume.LabelMap, error) {
	if l.channels > 0 {
		return nil, fmt.Errorf("%w: colours instead of labels", volume.ErrUnsupported)
	}
	labels, err := sample.ReadLabels(r, l.format, l.geometry.Size)
	if err != nil {
		return nil, err
	}
	return &volume.LabelMap{Geometry: l.geometry, Labels: labels}, nil
}
