package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
)

// Codec reads and writes the files in which volumes and label maps travel. The format follows from the extension of the name,
// which is all that counts of it. Implementations bound what they read.
type Codec interface {
	Decode(name string, r io.Reader) (*volume.Volume, error)
	DecodeLabels(name string, r io.Reader) (*volume.LabelMap, error)
	// EncodeVolume writes an image, in the smallest of the types int16 and float32 that holds its intensities.
	EncodeVolume(name string, w io.Writer, v *volume.Volume) error
	// EncodeLabels writes exactly the type asked for (numpy's name), and raw voxels unless compress is set or the extension
	// says so. A label that does not fit the type is an error.
	EncodeLabels(name string, w io.Writer, m *volume.LabelMap, dtype string, compress bool) error
	// Writable reports whether EncodeLabels has a format for an extension such as ".nii.gz".
	Writable(ext string) bool
}

// resultTypes are the types in which a client may ask for a label map.
var resultTypes = []string{"uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64"}

func (s *Server) decodeImage(ctx context.Context, name string, r io.Reader) (*volume.Volume, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v, err := s.o.Codec.Decode(name, r)
	if err != nil {
		return nil, fmt.Errorf("reading the image: %w: %w", annotation.Invalid, err)
	}
	return v, nil
}

func (s *Server) decodeImageFile(ctx context.Context, name, path string) (*volume.Volume, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return s.decodeImage(ctx, name, f)
}

func (s *Server) decodeLabels(ctx context.Context, name string, r io.Reader) (*volume.LabelMap, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m, err := s.o.Codec.DecodeLabels(name, r)
	if err != nil {
		return nil, fmt.Errorf("reading the label map: %w: %w", annotation.Invalid, err)
	}
	return m, nil
}

// decodeBinary reads a raw mask on the grid of its image, i fastest: one byte a voxel as MONAI Label expects it, or two (little
// endian) as OHIF version 2 sends it. The length tells which.
func decodeBinary(path string, grid volume.Geometry) (*volume.LabelMap, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	m, err := format.DecodeBin(f, grid)
	if errors.Is(err, volume.ErrFormat) {
		return nil, fmt.Errorf("%w: %w", annotation.Invalid, err)
	}
	return m, err
}

func (s *Server) encodeLabels(ext string, m *volume.LabelMap, dtype string, compress bool) ([]byte, error) {
	var b bytes.Buffer
	if err := s.o.Codec.EncodeLabels("result"+ext, &b, m, dtype, compress); err != nil {
		return nil, fmt.Errorf("writing the answer as %s %s: %w", ext, dtype, err)
	}
	return b.Bytes(), nil
}
