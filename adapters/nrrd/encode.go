package nrrd

import (
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"

	"scrawl/adapters/volume"
	"scrawl/adapters/volume/sample"
)

// Options say how to write. The zero value writes raw voxels.
type Options struct {
	// DType is the type of the voxels. Left empty it is float32 for images, and for label maps the smaller of uint8 and uint16
	// that fits. Integer types take images rounded; what does not fit is an error and nothing is written.
	DType volume.DType
	// Compress writes encoding gzip. OHIF's reader fails on compressed data of an odd number of bytes, so raw is the default.
	Compress bool
}

// Encode writes an image of three dimensions in the layout of SimpleITK and MONAI Label: fields, their order and the form of the
// numbers are what small readers such as nrrd-js expect.
func Encode(w io.Writer, v *volume.Volume, o Options) error {
	if err := v.Validate(); err != nil {
		return fmt.Errorf("image for NRRD: %w", err)
	}
	t, err := sample.VoxelType(v.Voxels, o.DType, v.Size)
	if err != nil {
		return fmt.Errorf("image for NRRD: %w", err)
	}
	return write(w, encodeHeader(v.Geometry, t, o.Compress), o.Compress, func(w io.Writer) error {
		return sample.WriteVoxels(w, v.Voxels, sample.Format{Type: t, Order: binary.LittleEndian})
	})
}

// EncodeLabels writes a label map in the same layout.
func EncodeLabels(w io.Writer, m *volume.LabelMap, o Options) error {
	return encodeLabels(w, m, nil, [3]int{}, o)
}

func encodeLabels(w io.Writer, m *volume.LabelMap, segments []Segment, offset [3]int, o Options) error {
	if err := m.Validate(); err != nil {
		return fmt.Errorf("label map for NRRD: %w", err)
	}
	t, err := sample.LabelType(m.Labels, o.DType, m.Size)
	if err != nil {
		return fmt.Errorf("label map for NRRD: %w", err)
	}
	head := encodeHeader(m.Geometry, t, o.Compress)
	if len(segments) > 0 {
		segmentKeys(head, m, segments, offset)
	}
	return write(w, head, o.Compress, func(w io.Writer) error {
		return sample.WriteLabels(w, m.Labels, sample.Format{Type: t, Order: binary.LittleEndian})
	})
}

func encodeHeader(g volume.Geometry, t volume.DType, compress bool) *strings.Builder {
	b := new(strings.Builder)
	b.WriteString("NRRD0004\n# Complete NRRD file format specification at:\n# http://teem.sourceforge.net/nrrd/format.html\n")
	fmt.Fprintf(b, "type: %s\ndimension: 3\nspace: left-posterior-superior\n", typeName(t))
	fmt.Fprintf(b, "sizes: %d %d %d\nspace directions:", g.Size[0], g.Size[1], g.Size[2])
	a := g.Affine()
	for c := range 3 {
		fmt.Fprintf(b, " (%s,%s,%s)", number(a[0][c]), number(a[1][c]), number(a[2][c]))
	}
	b.WriteString("\nkinds: domain domain domain\n")
	if t.Bytes() > 1 {
		b.WriteString("endian: little\n")
	}
	if compress {
		b.WriteString("encoding: gzip\n")
	} else {
		b.WriteString("encoding: raw\n")
	}
	fmt.Fprintf(b, "space origin: (%s,%s,%s)\n", number(a[0][3]), number(a[1][3]), number(a[2][3]))
	return b
}

func write(w io.Writer, head *strings.Builder, compress bool, data func(io.Writer) error) error {
	if _, err := io.WriteString(w, head.String()+"\n"); err != nil {
		return fmt.Errorf("writing the NRRD header: %w", err)
	}
	out := w
	var z *gzip.Writer
	if compress {
		z = gzip.NewWriter(w)
		out = z
	}
	if err := data(out); err != nil {
		return fmt.Errorf("writing NRRD data: %w", err)
	}
	if z != nil {
		if err := z.Close(); err != nil {
			return fmt.Errorf("writing NRRD data: %w", err)
		}
	}
	return nil
}

// number is the shortest text that reads back as x, without a negative zero.
func number(x float64) string { return strconv.FormatFloat(x+0, 'g', -1, 64) }

// typeName is the name that ITK writes.
func typeName(t volume.DType) string {
	switch t {
	case volume.Uint8:
		return "unsigned char"
	case volume.Int8:
		return "signed char"
	case volume.Uint16:
		return "unsigned short"
	case volume.Int16:
		return "short"
	case volume.Uint32:
		return "unsigned int"
	case volume.Int32:
		return "int"
	case volume.Uint64:
		return "unsigned long long"
	case volume.Int64:
		return "long long"
	case volume.Float32:
		return "float"
	}
	return "double"
}
