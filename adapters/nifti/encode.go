package nifti

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/gzip"

	"scrawl/adapters/volume"
	"scrawl/adapters/volume/sample"
)

// Options say how to write. The zero value writes NIfTI-1, uncompressed.
type Options struct {
	// DType is the type of the voxels. Left empty it is float32 for images, and for label maps the smaller of uint8 and uint16
	// that fits. Integer types take images rounded; what does not fit is an error and nothing is written.
	DType volume.DType
	// Compress writes gzip, as .nii.gz files are.
	Compress bool
	// Version is 1 or 2. 0 chooses 1, or 2 for grids of more than 32767 voxels along an axis.
	Version int
}

// Encode writes an image as a single little-endian file, with the grid as sform and, where axes are at right angles, as qform.
func Encode(w io.Writer, v *volume.Volume, o Options) error {
	if err := v.Validate(); err != nil {
		return fmt.Errorf("image for NIfTI: %w", err)
	}
	t, err := sample.VoxelType(v.Voxels, o.DType, v.Size)
	if err != nil {
		return fmt.Errorf("image for NIfTI: %w", err)
	}
	return write(w, v.Geometry, t, o, func(w io.Writer, f sample.Format) error { return sample.WriteVoxels(w, v.Voxels, f) })
}

// EncodeLabels writes a label map as Encode writes images.
func EncodeLabels(w io.Writer, m *volume.LabelMap, o Options) error {
	if err := m.Validate(); err != nil {
		return fmt.Errorf("label map for NIfTI: %w", err)
	}
	t, err := sample.LabelType(m.Labels, o.DType, m.Size)
	if err != nil {
		return fmt.Errorf("label map for NIfTI: %w", err)
	}
	return write(w, m.Geometry, t, o, func(w io.Writer, f sample.Format) error { return sample.WriteLabels(w, m.Labels, f) })
}

func write(w io.Writer, g volume.Geometry, t volume.DType, o Options, voxels func(io.Writer, sample.Format) error) error {
	head, err := encodeHeader(g, t, o.Version)
	if err != nil {
		return err
	}
	out := w
	var z *gzip.Writer
	if o.Compress {
		z = gzip.NewWriter(w)
		out = z
	}
	if _, err := out.Write(head); err != nil {
		return fmt.Errorf("writing the NIfTI header: %w", err)
	}
	if err := voxels(out, sample.Format{Type: t, Order: binary.LittleEndian}); err != nil {
		return fmt.Errorf("writing NIfTI voxels: %w", err)
	}
	if z != nil {
		if err := z.Close(); err != nil {
			return fmt.Errorf("writing NIfTI voxels: %w", err)
		}
	}
	return nil
}

// encodeHeader is the header with the four bytes that announce no extension.
func encodeHeader(g volume.Geometry, t volume.DType, version int) ([]byte, error) {
	large := max(g.Size[0], g.Size[1], g.Size[2]) > math.MaxInt16
	if version == 0 {
		version = 1
		if large {
			version = 2
		}
	}
	if version == 1 && large {
		return nil, fmt.Errorf("%w: size %v in NIfTI-1, which ends at %d: use version 2", volume.ErrUnsupported, g.Size, math.MaxInt16)
	}
	h := header{order: binary.LittleEndian, slope: 1, units: 2, sform: 1}
	h.datatype = codeOf(t)
	h.dim = [8]int64{3, int64(g.Size[0]), int64(g.Size[1]), int64(g.Size[2]), 1, 1, 1, 1}
	h.pixdim = [8]float64{1, g.Spacing[0], g.Spacing[1], g.Spacing[2]}
	ras := g.Affine().SwapLPSRAS()
	for r := range 3 {
		h.srow[r] = ras[r]
		h.qoffset[r] = ras[r][3]
	}
	if g.Orthogonal() { // a quaternion cannot hold a shear
		h.qform = 1
		r := [3][3]float64{}
		for i := range 3 {
			for c := range 3 {
				r[i][c] = ras[i][c] / g.Spacing[c]
			}
		}
		if !g.RightHanded() { // swapping two signs keeps the handedness
			h.pixdim[0] = -1
			for i := range 3 {
				r[i][2] = -r[i][2]
			}
		}
		h.quatern = quaternion(r)
	}
	switch version {
	case 1:
		return h.append1(t), nil
	case 2:
		return h.append2(t), nil
	}
	return nil, fmt.Errorf("%w: NIfTI version %d, want 1 or 2", volume.ErrUnsupported, version)
}

func (h *header) append1(t volume.DType) []byte {
	b := make([]byte, headerSize1+4)
	le := binary.LittleEndian
	f32 := func(at int, v float64) { le.PutUint32(b[at:], math.Float32bits(float32(v))) }
	le.PutUint32(b, headerSize1)
	b[38] = 'r' // "regular", which Analyze readers look for
	le.PutUint16(b[70:], uint16(h.datatype))
	le.PutUint16(b[72:], uint16(8*t.Bytes()))
	for i := range 8 {
		le.PutUint16(b[40+2*i:], uint16(h.dim[i]))
		f32(76+4*i, h.pixdim[i])
	}
	f32(108, headerSize1+4)
	f32(112, h.slope)
	b[123] = byte(h.units)
	le.PutUint16(b[252:], uint16(h.qform))
	le.PutUint16(b[254:], uint16(h.sform))
	for i := range 3 {
		f32(256+4*i, h.quatern[i])
		f32(268+4*i, h.qoffset[i])
		for c := range 4 {
			f32(280+16*i+4*c, h.srow[i][c])
		}
	}
	copy(b[344:], "n+1\x00")
	return b
}

func (h *header) append2(t volume.DType) []byte {
	b := make([]byte, headerSize2+4)
	le := binary.LittleEndian
	f64 := func(at int, v float64) { le.PutUint64(b[at:], math.Float64bits(v)) }
	le.PutUint32(b, headerSize2)
	copy(b[4:], "n+2\x00\r\n\x1a\n")
	le.PutUint16(b[12:], uint16(h.datatype))
	le.PutUint16(b[14:], uint16(8*t.Bytes()))
	for i := range 8 {
		le.PutUint64(b[16+8*i:], uint64(h.dim[i]))
		f64(104+8*i, h.pixdim[i])
	}
	le.PutUint64(b[168:], headerSize2+4)
	f64(176, h.slope)
	le.PutUint32(b[344:], uint32(h.qform))
	le.PutUint32(b[348:], uint32(h.sform))
	le.PutUint32(b[500:], uint32(h.units))
	for i := range 3 {
		f64(352+8*i, h.quatern[i])
		f64(376+8*i, h.qoffset[i])
		for c := range 4 {
			f64(400+32*i+8*c, h.srow[i][c])
		}
	}
	return b
}
