package labelserver

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"scrawl/adapters/dicom"
	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
)

// codec reads and writes the files in which volumes travel.
type codec struct{}

// Decode reads an image. A DICOM file is one by itself, an archive of DICOM files one by their series; both are told by their bytes.
func (codec) Decode(name string, r io.Reader) (*volume.Volume, error) {
	f, ok := r.(interface {
		io.ReaderAt
		Stat() (fs.FileInfo, error)
	})
	if !ok {
		return format.Decode(name, r, volume.DefaultLimits())
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	head := make([]byte, min(256, info.Size()))
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var image *dicom.Image
	switch {
	case strings.HasPrefix(string(head), "PK\x03\x04"):
		z, err := zip.NewReader(f, info.Size())
		if err != nil {
			return nil, fmt.Errorf("%w: %w", volume.ErrFormat, err)
		}
		// Files of an archive are read into memory, so none may be as large as one on disk.
		image, err = dicom.ReadFolder(context.Background(), z, dicom.Limits{Limits: volume.Limits{MaxBytes: maxArchivedFile}, MaxFiles: maxArchivedFiles})
		if err != nil {
			return nil, err
		}
	case dicom.IsFile(head):
		if image, err = dicom.ReadImage(context.Background(), f, info.Size(), dicom.Limits{}); err != nil {
			return nil, err
		}
	default:
		return format.Decode(name, r, volume.DefaultLimits())
	}
	return image.Volume, nil
}

// Bounds of an archive of DICOM files that is read as an image.
const (
	maxArchivedFile  = 256 << 20
	maxArchivedFiles = 20000
)

func (codec) DecodeLabels(name string, r io.Reader) (*volume.LabelMap, error) {
	return format.DecodeLabels(name, r, volume.DefaultLimits())
}

func (codec) EncodeVolume(name string, w io.Writer, v *volume.Volume) error {
	t := volume.Int16
	for _, x := range v.Voxels {
		if x != float32(int16(x)) {
			t = volume.Float32
			break
		}
	}
	return format.Encode(name, w, v, format.Options{DType: string(t)})
}

func (codec) EncodeLabels(name string, w io.Writer, m *volume.LabelMap, dtype string, compress bool) error {
	if _, err := volume.ParseDType(dtype); err != nil {
		return fmt.Errorf("%w: %w", annotation.Invalid, err)
	}
	return format.EncodeLabels(name, w, m, format.Options{DType: dtype, Compress: compress})
}

func (codec) Writable(ext string) bool { return format.Writable(ext) }
