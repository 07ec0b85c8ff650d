package nifti

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"scrawl/adapters/volume"
	"scrawl/adapters/volume/sample"
)

// The sizes of the headers, which are also how files tell their version and byte order.
const (
	headerSize1 = 348
	headerSize2 = 540
)

// header is what both versions say, in one form.
type header struct {
	order     binary.ByteOrder
	version   int // 1 or 2
	size      int64
	pair      bool // voxels are in a file of their own
	datatype  int
	dim       [8]int64
	pixdim    [8]float64
	voxOffset float64
	slope     float64
	inter     float64
	units     int
	qform     int
	sform     int
	quatern   [3]float64
	qoffset   [3]float64
	srow      [3][4]float64
}

// readHeader reads exactly the header, 348 or 540 bytes.
func readHeader(r io.Reader) (*header, error) {
	b := make([]byte, headerSize2)
	if _, err := io.ReadFull(r, b[:4]); err != nil {
		return nil, fmt.Errorf("NIfTI header: %w", sample.Broken(err))
	}
	h := new(header)
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch order.Uint32(b) {
		case headerSize1:
			h.order, h.version, h.size = order, 1, headerSize1
		case headerSize2:
			h.order, h.version, h.size = order, 2, headerSize2
		}
	}
	if h.version == 0 {
		return nil, fmt.Errorf("%w: not a NIfTI file: it starts with % x, want the header size 348 or 540", volume.ErrFormat, b[:4])
	}
	if _, err := io.ReadFull(r, b[4:h.size]); err != nil {
		return nil, fmt.Errorf("NIfTI header: %w", sample.Broken(err))
	}
	f := fields{b[:h.size], h.order}
	if h.version == 1 {
		return h, h.parse1(f)
	}
	return h, h.parse2(f)
}

// fields reads numbers at offsets of a header.
type fields struct {
	b     []byte
	order binary.ByteOrder
}

func (f fields) int16(at int) int   { return int(int16(f.order.Uint16(f.b[at:]))) }
func (f fields) int32(at int) int   { return int(int32(f.order.Uint32(f.b[at:]))) }
func (f fields) int64(at int) int64 { return int64(f.order.Uint64(f.b[at:])) }
func (f fields) float32(at int) float64 {
	return float64(math.Float32frombits(f.order.Uint32(f.b[at:])))
}
func (f fields) float64(at int) float64 { return math.Float64frombits(f.order.Uint64(f.b[at:])) }

// parse1 reads nifti1.h's struct nifti_1_header.
func (h *header) parse1(f fields) error {
	switch magic := string(f.b[344:348]); magic {
	case "n+1\x00":
	case "ni1\x00":
		h.pair = true
	default:
		return fmt.Errorf("%w: header of Analyze 7.5 or of an unknown version (magic %q), want NIfTI's n+1 or ni1", volume.ErrUnsupported, magic)
	}
	for i := range 8 {
		h.dim[i] = int64(f.int16(40 + 2*i))
		h.pixdim[i] = f.float32(76 + 4*i)
	}
	h.datatype = f.int16(70)
	h.voxOffset = f.float32(108)
	h.slope, h.inter = f.float32(112), f.float32(116)
	h.units = int(f.b[123])
	h.qform, h.sform = f.int16(252), f.int16(254)
	for i := range 3 {
		h.quatern[i], h.qoffset[i] = f.float32(256+4*i), f.float32(268+4*i)
		for c := range 4 {
			h.srow[i][c] = f.float32(280 + 16*i + 4*c)
		}
	}
	return nil
}

// parse2 reads nifti2.h's struct nifti_2_header.
func (h *header) parse2(f fields) error {
	switch magic := string(f.b[4:12]); magic {
	case "n+2\x00\r\n\x1a\n":
	case "ni2\x00\r\n\x1a\n":
		h.pair = true
	default:
		return fmt.Errorf("%w: NIfTI-2 header with magic %q: line ends were changed in transfer, or it is no NIfTI file", volume.ErrFormat, magic)
	}
	for i := range 8 {
		h.dim[i] = f.int64(16 + 8*i)
		h.pixdim[i] = f.float64(104 + 8*i)
	}
	h.datatype = f.int16(12)
	h.voxOffset = float64(f.int64(168))
	h.slope, h.inter = f.float64(176), f.float64(184)
	h.qform, h.sform = f.int32(344), f.int32(348)
	h.units = f.int32(500)
	for i := range 3 {
		h.quatern[i], h.qoffset[i] = f.float64(352+8*i), f.float64(376+8*i)
		for c := range 4 {
			h.srow[i][c] = f.float64(400 + 32*i + 8*c)
		}
	}
	return nil
}

// grid is the size along i, j and k; further dimensions must be of size 1.
func (h *header) grid() ([3]int, error) {
	size := [3]int{1, 1, 1}
	n := h.dim[0]
	if n < 1 || n > 7 {
		return size, fmt.Errorf("%w: %d dimensions, want 1 to 7", volume.ErrFormat, n)
	}
	for axis := int64(1); axis <= n; axis++ {
		d := h.dim[axis]
		if d < 1 || d > math.MaxInt {
			return size, fmt.Errorf("%w: size %d along dimension %d, want at least 1", volume.ErrFormat, d, axis)
		}
		if axis <= 3 {
			size[axis-1] = int(d)
		} else if d > 1 {
			return size, fmt.Errorf("%w: dimensions %v: a single volume is wanted, so those after the third have to be 1", volume.ErrUnsupported, h.dim[1:n+1])
		}
	}
	return size, nil
}

// offset is the number of bytes before the voxels, in the file that has them.
func (h *header) offset() (int64, error) {
	if !(h.voxOffset >= 0 && h.voxOffset < 1<<53) || h.voxOffset != math.Trunc(h.voxOffset) {
		return 0, fmt.Errorf("%w: vox_offset %g, want a number of bytes", volume.ErrFormat, h.voxOffset)
	}
	at := int64(h.voxOffset)
	if h.pair {
		return at, nil
	}
	if at == 0 { // left out by some writers: the voxels follow the four bytes that announce extensions
		return h.size + 4, nil
	}
	if at < h.size {
		return 0, fmt.Errorf("%w: vox_offset %d lies inside the header of %d bytes", volume.ErrFormat, at, h.size)
	}
	return at, nil
}

// scale is the slope and intercept that apply; a slope of 0 means none, and so does one that is not finite, as in nibabel.
func (h *header) scale() (slope, inter float64, err error) {
	if h.slope == 0 || math.IsNaN(h.slope) || math.IsInf(h.slope, 0) {
		return 0, 0, nil
	}
	if math.IsNaN(h.inter) || math.IsInf(h.inter, 0) {
		return 0, 0, fmt.Errorf("%w: scl_slope %g with scl_inter %g", volume.ErrFormat, h.slope, h.inter)
	}
	return h.slope, h.inter, nil
}

// geometry follows nifti1.h: the sform where its code is positive, else the qform where its code is, else method 1, voxel sizes
// only. A matrix that cannot be inverted, as writers leave behind that set a code and no matrix, gives way to the next method.
func (h *header) geometry(size [3]int) (volume.Geometry, error) {
	mm := 1.0
	switch h.units & 7 {
	case 1:
		mm = 1000
	case 3:
		mm = 1e-3
	}
	var first error
	for _, method := range []struct {
		code   int
		affine func() volume.Affine
	}{{h.sform, h.sformAffine}, {h.qform, h.qformAffine}, {1, h.pixdimAffine}} {
		if method.code <= 0 {
			continue
		}
		a := method.affine()
		for r := range 3 {
			for c := range 4 {
				a[r][c] *= mm
			}
		}
		g, err := volume.FromAffine(a.SwapLPSRAS(), size)
		if err == nil {
			return g, nil
		}
		if first == nil {
			first = err
		}
	}
	return volume.Geometry{}, fmt.Errorf("NIfTI affine: %w", first)
}

func (h *header) sformAffine() volume.Affine {
	return volume.Affine{h.srow[0], h.srow[1], h.srow[2], {0, 0, 0, 1}}
}

// voxelSize is pixdim made usable as nibabel does: its sign has no meaning, and 0 or nonsense stands for 1.
func (h *header) voxelSize(axis int) float64 {
	p := math.Abs(h.pixdim[axis+1])
	if !(p > 0) || math.IsInf(p, 0) {
		return 1
	}
	return p
}

func (h *header) pixdimAffine() volume.Affine {
	return volume.Affine{{h.voxelSize(0), 0, 0, 0}, {0, h.voxelSize(1), 0, 0}, {0, 0, h.voxelSize(2), 0}, {0, 0, 0, 1}}
}

func (h *header) qformAffine() volume.Affine {
	r := rotation(h.quatern)
	if h.pixdim[0] < 0 { // qfac
		for i := range 3 {
			r[i][2] = -r[i][2]
		}
	}
	a := volume.Affine{3: {0, 0, 0, 1}}
	for i := range 3 {
		for c := range 3 {
			a[i][c] = r[i][c] * h.voxelSize(c)
		}
		a[i][3] = h.qoffset[i]
	}
	return a
}

// rotation is the matrix of the unit quaternion whose vector part is given and whose scalar part is not negative.
func rotation(q [3]float64) [3][3]float64 {
	b, c, d := q[0], q[1], q[2]
	a := 1 - (b*b + c*c + d*d)
	if a < 1e-7 { // a half turn: single precision may have made the vector part too long
		n := 1 / math.Sqrt(b*b+c*c+d*d)
		a, b, c, d = 0, b*n, c*n, d*n
	} else {
		a = math.Sqrt(a)
	}
	return [3][3]float64{
		{a*a + b*b - c*c - d*d, 2 * (b*c - a*d), 2 * (b*d + a*c)},
		{2 * (b*c + a*d), a*a + c*c - b*b - d*d, 2 * (c*d - a*b)},
		{2 * (b*d - a*c), 2 * (c*d + a*b), a*a + d*d - b*b - c*c},
	}
}

// quaternion is the vector part of the unit quaternion of a rotation, with the sign that makes the scalar part positive.
func quaternion(r [3][3]float64) [3]float64 {
	// Shepperd's method: divide by the largest of the four components.
	t := r[0][0] + r[1][1] + r[2][2]
	if t > 0 {
		s := 2 * math.Sqrt(1+t)
		return [3]float64{(r[2][1] - r[1][2]) / s, (r[0][2] - r[2][0]) / s, (r[1][0] - r[0][1]) / s}
	}
	i := 0
	for c := 1; c < 3; c++ {
		if r[c][c] > r[i][i] {
			i = c
		}
	}
	j, k := (i+1)%3, (i+2)%3
	s := 2 * math.Sqrt(math.Max(0, 1+r[i][i]-r[j][j]-r[k][k]))
	var q [3]float64
	q[i], q[j], q[k] = s/4, (r[j][i]+r[i][j])/s, (r[k][i]+r[i][k])/s
	if r[k][j]-r[j][k] < 0 {
		q[0], q[1], q[2] = -q[0], -q[1], -q[2]
	}
	return q
}
