package labelserver

import (
	"fmt"
	"io"

	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/labelserver/annotation"
)

// codec reads and writes the files in which volumes travel.
type codec struct{}

func (codec) Decode(name string, r io.Reader) (*volume.Volume, error) {
	return format.Decode(name, r, volume.DefaultLimits())
}

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
