// Package format reads and writes volumes and label maps in whatever format their file name says: .nii, .nii.gz, .nrrd, .nhdr,
// .seg.nrrd, pictures (.png, .jpg, .tif), and raw .bin masks. Of a name only the extension counts, in upper or lower case. Where there is none, or one
// that is not known, the first bytes decide.
package format

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"scrawl/adapters/nifti"
	"scrawl/adapters/nrrd"
	"scrawl/adapters/raster"
	"scrawl/adapters/volume"
	"scrawl/adapters/volume/sample"
)

// Options say how to write.
type Options struct {
	// DType is the type of the voxels by its numpy name: uint8, int8, uint16, int16, uint32, int32, uint64, int64, float32 or
	// float64. Left empty it is float32 for images, and for label maps the smaller of uint8 and uint16 that fits.
	DType string
	// Compress packs the data of an NRRD file. NIfTI files are packed when their name ends in .gz, and only then.
	Compress bool
	// Segments are the names that a .seg.nrrd carries; other formats have no place for them.
	Segments []nrrd.Segment
}

// Ext is the extension of a file name in lower case, with its dot: one of those that consist of two parts (.nii.gz, .seg.nrrd)
// or the last part; "" where there is none.
func Ext(name string) string {
	name = strings.ToLower(name[strings.LastIndexAny(name, `/\`)+1:])
	for _, ext := range []string{".nii.gz", ".seg.nrrd", ".hdr.gz", ".img.gz"} {
		if strings.HasSuffix(name, ext) {
			return ext
		}
	}
	return path.Ext(name)
}

// Readable reports whether Decode and DecodeLabels know an extension such as ".nii.gz".
func Readable(ext string) bool { return kindOf(Ext("x"+ext)) != unknown }

// Writable reports whether Encode and EncodeLabels have a format for an extension such as ".nii.gz".
func Writable(ext string) bool {
	switch Ext("x" + ext) {
	case ".nii", ".nii.gz", ".nrrd", ".seg.nrrd":
		return true
	}
	return false
}

type kind int

const (
	unknown kind = iota
	isNIfTI
	isNRRD
	isPicture
)

func kindOf(ext string) kind {
	switch ext {
	case ".nii", ".nii.gz", ".hdr", ".hdr.gz":
		return isNIfTI
	case ".nrrd", ".nhdr", ".seg.nrrd":
		return isNRRD
	case ".png", ".jpg", ".jpeg", ".tif", ".tiff":
		return isPicture
	}
	return unknown
}

// sniff finds the format by name, else by the first bytes.
func sniff(name string, r io.Reader) (kind, io.Reader, error) {
	if k := kindOf(Ext(name)); k != unknown {
		return k, r, nil
	}
	b := bufio.NewReader(r)
	head, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return unknown, b, err
	}
	switch {
	case string(head) == "NRRD":
		return isNRRD, b, nil
	case len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b: // of the formats here only NIfTI packs its header
		return isNIfTI, b, nil
	case string(head) == "\x89PNG", len(head) >= 3 && string(head[:3]) == "\xff\xd8\xff":
		return isPicture, b, nil
	case len(head) == 4 && (isHeaderSize(binary.LittleEndian.Uint32(head)) || isHeaderSize(binary.BigEndian.Uint32(head))):
		return isNIfTI, b, nil
	}
	if ext := Ext(name); ext != "" {
		return unknown, b, fmt.Errorf("%w: file of type %.20q, want .nii, .nii.gz, .nrrd, .seg.nrrd, .png, .jpg or .tif", volume.ErrUnsupported, ext)
	}
	return unknown, b, fmt.Errorf("%w: neither NIfTI nor NRRD nor a picture: it starts with % x", volume.ErrFormat, head)
}

func isHeaderSize(n uint32) bool { return n == 348 || n == 540 }

// Decode reads an image. Errors wrap volume.ErrFormat, volume.ErrTooLarge or volume.ErrUnsupported, or are r's own.
func Decode(name string, r io.Reader, lim volume.Limits) (*volume.Volume, error) {
	k, r, err := sniff(name, r)
	switch {
	case err != nil:
		return nil, err
	case k == isNRRD:
		return nrrd.Decode(r, lim)
	case k == isPicture:
		return raster.Decode(r, lim)
	}
	return nifti.Decode(r, lim)
}

// DecodeLabels reads a label map, whose values have to be integers from 0 to 65535. Errors are as those of Decode.
func DecodeLabels(name string, r io.Reader, lim volume.Limits) (*volume.LabelMap, error) {
	k, r, err := sniff(name, r)
	switch {
	case err != nil:
		return nil, err
	case k == isNRRD:
		return nrrd.DecodeLabels(r, lim)
	case k == isPicture:
		return raster.DecodeLabels(r, lim)
	}
	return nifti.DecodeLabels(r, lim)
}

// DecodeBin reads a raw mask on the grid of its image, i fastest: one byte a voxel, as MONAI Label expects it, or two, little
// endian, as OHIF version 2 sends it. The number of bytes tells which; any other is volume.ErrFormat.
func DecodeBin(r io.Reader, grid volume.Geometry) (*volume.LabelMap, error) {
	if err := grid.Validate(); err != nil {
		return nil, fmt.Errorf("grid of a raw mask: %w", err)
	}
	voxels := int64(grid.Voxels())
	raw, err := io.ReadAll(io.LimitReader(r, 2*voxels+1))
	if err != nil {
		return nil, fmt.Errorf("raw mask: %w", err)
	}
	f := sample.Format{Type: volume.Uint8, Order: binary.LittleEndian}
	switch int64(len(raw)) {
	case voxels:
	case 2 * voxels:
		f.Type = volume.Uint16
	default:
		return nil, fmt.Errorf("%w: raw mask of %s bytes, want %d (uint8) or %d (uint16) for %d×%d×%d voxels", volume.ErrFormat,
			count(int64(len(raw)), 2*voxels), voxels, 2*voxels, grid.Size[0], grid.Size[1], grid.Size[2])
	}
	labels, err := sample.ReadLabels(bytes.NewReader(raw), f, grid.Size)
	if err != nil {
		return nil, fmt.Errorf("raw mask: %w", err)
	}
	return &volume.LabelMap{Geometry: grid, Labels: labels}, nil
}

func count(n, most int64) string {
	if n > most {
		return fmt.Sprintf("more than %d", most)
	}
	return fmt.Sprint(n)
}

// Encode writes an image in the format of the name. A type that does not hold every voxel is an error and nothing is written.
func Encode(name string, w io.Writer, v *volume.Volume, o Options) error {
	t, err := dtype(o.DType)
	if err != nil {
		return err
	}
	switch ext := Ext(name); ext {
	case ".nii", ".nii.gz":
		return nifti.Encode(w, v, nifti.Options{DType: t, Compress: ext == ".nii.gz"})
	case ".nrrd":
		return nrrd.Encode(w, v, nrrd.Options{DType: t, Compress: o.Compress})
	default:
		return notWritable(ext)
	}
}

// EncodeLabels writes a label map in the format of the name. A type that does not hold every label is an error and nothing is
// written.
func EncodeLabels(name string, w io.Writer, m *volume.LabelMap, o Options) error {
	t, err := dtype(o.DType)
	if err != nil {
		return err
	}
	switch ext := Ext(name); ext {
	case ".nii", ".nii.gz":
		return nifti.EncodeLabels(w, m, nifti.Options{DType: t, Compress: ext == ".nii.gz"})
	case ".nrrd":
		return nrrd.EncodeLabels(w, m, nrrd.Options{DType: t, Compress: o.Compress})
	case ".seg.nrrd":
		s := &nrrd.Segmentation{LabelMap: m, Segments: o.Segments}
		return nrrd.EncodeSegmentation(w, s, nrrd.Options{DType: t, Compress: o.Compress})
	default:
		return notWritable(ext)
	}
}

func dtype(name string) (volume.DType, error) {
	if name == "" {
		return "", nil
	}
	return volume.ParseDType(name)
}

func notWritable(ext string) error {
	return fmt.Errorf("%w: no format to write for extension %.20q, want .nii, .nii.gz, .nrrd or .seg.nrrd", volume.ErrUnsupported, ext)
}
