package dicom

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"scrawl/adapters/dicom/codec"
	"scrawl/adapters/volume"
)

// pixelModule is the Image Pixel module (PS3.3, C.7.6.3): how stored values are written.
type pixelModule struct {
	rows, columns, samples  int
	allocated, stored, high int
	signed, planar, isFloat bool
	photometric             string
	palette                 *palette
}

func (f *File) pixelModule() (*pixelModule, error) {
	m := &pixelModule{samples: 1, photometric: strings.ToUpper(f.Text(PhotometricInterpretation))}
	if m.photometric == "" {
		m.photometric = "MONOCHROME2"
	}
	m.rows, _ = f.Int(Rows)
	m.columns, _ = f.Int(Columns)
	if m.rows < 1 || m.columns < 1 || m.rows > math.MaxUint16 || m.columns > math.MaxUint16 {
		return nil, fmt.Errorf("%w: %d rows and %d columns, want 1 to 65535 of each", volume.ErrFormat, m.rows, m.columns)
	}
	if n, ok := f.Int(SamplesPerPixel); ok {
		m.samples = n
	}
	switch f.walked.pixels.tag {
	case FloatPixelData:
		m.isFloat, m.allocated = true, 32
	case DoubleFloatPixelData:
		m.isFloat, m.allocated = true, 64
	default:
		m.allocated, _ = f.Int(BitsAllocated)
	}
	m.stored, m.high = m.allocated, m.allocated-1
	if !m.isFloat {
		if n, ok := f.Int(BitsStored); ok && n != 0 {
			m.stored = n
		}
		m.high = m.stored - 1
		if n, ok := f.Int(HighBit); ok {
			m.high = n
		}
	}
	representation, _ := f.Int(PixelRepresentation)
	m.signed = representation == 1
	configuration, _ := f.Int(PlanarConfiguration)
	m.planar = configuration == 1
	if err := m.check(); err != nil {
		return nil, err
	}
	if m.photometric == "PALETTE COLOR" {
		var err error
		if m.palette, err = readPalette(f.Dataset); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *pixelModule) check() error {
	switch {
	case m.allocated != 1 && m.allocated != 8 && m.allocated != 16 && m.allocated != 32 && !m.isFloat:
		return fmt.Errorf("%w: %d bits allocated for a sample, want 1, 8, 16 or 32", volume.ErrUnsupported, m.allocated)
	case m.stored < 1 || m.stored > m.allocated || m.high >= m.allocated || m.high < m.stored-1:
		return fmt.Errorf("%w: %d bits stored of %d allocated, the highest being %d", volume.ErrFormat, m.stored, m.allocated, m.high)
	case m.samples != 1 && m.samples != 3:
		return fmt.Errorf("%w: %d samples a pixel, want 1 or 3", volume.ErrUnsupported, m.samples)
	case m.samples == 3 && m.allocated < 8:
		return fmt.Errorf("%w: colour of %d bits a sample", volume.ErrUnsupported, m.allocated)
	case m.samples == 3 && m.photometric != "RGB" && !strings.HasPrefix(m.photometric, "YBR_"):
		return fmt.Errorf("%w: photometric interpretation %.20q with 3 samples, want RGB or YBR_…", volume.ErrUnsupported, m.photometric)
	case m.samples == 1 && m.photometric != "MONOCHROME1" && m.photometric != "MONOCHROME2" && m.photometric != "PALETTE COLOR":
		return fmt.Errorf("%w: photometric interpretation %.20q with 1 sample, want MONOCHROME1, MONOCHROME2 or PALETTE COLOR", volume.ErrUnsupported, m.photometric)
	}
	return nil
}

// halved tells pixels that share their chrominance two by two: Y Y Cb Cr.
func (m *pixelModule) halved() bool { return m.samples == 3 && m.photometric == "YBR_FULL_422" }

// frameBits is the size of a native frame.
func (m *pixelModule) frameBits() int64 {
	samples := int64(m.rows) * int64(m.columns) * int64(m.samples)
	if m.halved() {
		samples = int64(m.rows) * int64(m.columns+m.columns%2) * 2
	}
	return samples * int64(m.allocated)
}

// rescale makes a value of the modality's units of a stored one (PS3.3, C.11.1).
type rescale struct{ slope, intercept float64 }

// frame decodes the bytes of a frame to rows·columns values: brightness for colour (0 to the largest of a sample), and for the rest
// the rescaled value, of which larger is brighter (MONOCHROME1 is turned around within its stored bits).
func (m *pixelModule) frame(dst []float32, b []byte, skip int, w *walked, compressed bool, r rescale) error {
	if compressed {
		image, err := codec.Decode(w.syntax, b, codec.Frame{Rows: m.rows, Columns: m.columns, Samples: m.samples,
			BitsAllocated: m.allocated, BitsStored: m.stored, HighBit: m.high, Signed: m.signed})
		if err != nil {
			return err
		}
		if len(image.Samples) != m.rows*m.columns*m.samples {
			return fmt.Errorf("%w: a frame of %d samples, want %d", volume.ErrFormat, len(image.Samples), m.rows*m.columns*m.samples)
		}
		if m.samples == 3 {
			m.colour(dst, func(pixel, sample int) float64 { return float64(image.Samples[3*pixel+sample]) }, !strings.HasPrefix(m.photometric, "YBR_FULL"))
			return nil
		}
		for i, v := range image.Samples {
			dst[i] = float32(v)
		}
		m.finish(dst, r)
		return nil
	}
	if w.pixels.wordSwapped && m.allocated == 8 {
		reverse(b, 2)
	}
	switch {
	case m.samples == 3:
		m.nativeColour(dst, b, w.order)
		return nil
	case m.isFloat:
		floats(dst, b, m.allocated, w.order)
	case m.allocated == 1:
		for i := range dst { // the first pixel is the lowest bit (PS3.5, section 8.1.1)
			bit := skip + i
			dst[i] = float32(b[bit/8] >> (bit % 8) & 1)
		}
	default:
		m.integers(dst, b, w.order)
	}
	m.finish(dst, r)
	return nil
}

// integers takes the stored bits out of what is allocated, with their sign.
func (m *pixelModule) integers(dst []float32, b []byte, order binary.ByteOrder) {
	up, down := uint(31-m.high), uint(32-m.stored)
	whole := m.stored == m.allocated
	switch {
	case m.allocated == 16 && whole && order == littleEndian && m.signed: // what nearly all CT and MR are
		for i := range dst {
			dst[i] = float32(int16(binary.LittleEndian.Uint16(b[2*i:])))
		}
	case m.allocated == 16 && whole && order == littleEndian:
		for i := range dst {
			dst[i] = float32(binary.LittleEndian.Uint16(b[2*i:]))
		}
	default:
		for i := range dst {
			v := stored(b, i, m.allocated, order) << up
			if m.signed {
				dst[i] = float32(int32(v) >> down)
			} else {
				dst[i] = float32(v >> down)
			}
		}
	}
}

func stored(b []byte, i, allocated int, order binary.ByteOrder) uint32 {
	switch allocated {
	case 8:
		return uint32(b[i])
	case 16:
		return uint32(order.Uint16(b[2*i:]))
	}
	return order.Uint32(b[4*i:])
}

func floats(dst []float32, b []byte, allocated int, order binary.ByteOrder) {
	for i := range dst {
		if allocated == 32 {
			dst[i] = math.Float32frombits(order.Uint32(b[4*i:]))
		} else {
			dst[i] = float32(math.Float64frombits(order.Uint64(b[8*i:])))
		}
	}
}

// finish applies what comes after the stored values: the palette, or the turn of MONOCHROME1 and the rescale.
func (m *pixelModule) finish(dst []float32, r rescale) {
	if m.palette != nil {
		for i, v := range dst {
			dst[i] = m.palette.brightness(int(v))
		}
		return
	}
	ends := 0.0 // sum of the least and the largest stored value
	if m.photometric == "MONOCHROME1" && !m.isFloat {
		if ends = math.Exp2(float64(m.stored)) - 1; m.signed {
			ends = -1
		}
		for i, v := range dst {
			dst[i] = float32(ends - float64(v))
		}
	}
	if r == (rescale{1, 0}) {
		return
	}
	for i, v := range dst {
		dst[i] = float32(r.slope*float64(v) + r.intercept)
	}
}

// colour makes brightness of three samples: Rec. 601's sum for red, green and blue, the first sample where it is brightness itself.
func (m *pixelModule) colour(dst []float32, sample func(pixel, n int) float64, rgb bool) {
	for i := range dst {
		if !rgb {
			dst[i] = float32(sample(i, 0))
			continue
		}
		dst[i] = float32(luminance(sample(i, 0), sample(i, 1), sample(i, 2)))
	}
}

func luminance(r, g, b float64) float64 { return 0.299*r + 0.587*g + 0.114*b }

func (m *pixelModule) nativeColour(dst []float32, b []byte, order binary.ByteOrder) {
	sample := func(pixel, n int) float64 { return float64(stored(b, 3*pixel+n, m.allocated, order)) }
	switch {
	case m.halved():
		sample = func(pixel, _ int) float64 {
			row, column := pixel/m.columns, pixel%m.columns
			pair := (row*(m.columns+m.columns%2) + column) / 2
			return float64(stored(b, 4*pair+column%2, m.allocated, order))
		}
	case m.planar:
		sample = func(pixel, n int) float64 { return float64(stored(b, n*len(dst)+pixel, m.allocated, order)) }
	}
	m.colour(dst, sample, m.photometric == "RGB")
}

// palette is a colour table as brightness, 0 to 255.
type palette struct {
	first int
	table []float32
}

func readPalette(d *Dataset) (*palette, error) {
	var channels [3][]float64
	first := 0
	for c := range channels {
		descriptor := d.Ints(RedPaletteDescriptor + Tag(c))
		data := d.Bytes(RedPaletteData + Tag(c))
		if len(descriptor) != 3 || len(data) == 0 {
			return nil, fmt.Errorf("%w: a colour palette without descriptor or plain table", volume.ErrUnsupported)
		}
		entries := descriptor[0]
		if entries == 0 {
			entries = 1 << 16
		}
		first = descriptor[1]
		values, err := paletteChannel(data, entries, descriptor[2])
		if err != nil {
			return nil, err
		}
		if c > 0 && len(values) != len(channels[0]) {
			return nil, fmt.Errorf("%w: colour palette of %d reds and %d others", volume.ErrFormat, len(channels[0]), len(values))
		}
		channels[c] = values
	}
	p := &palette{first: first, table: make([]float32, len(channels[0]))}
	for i := range p.table {
		p.table[i] = float32(luminance(channels[0][i], channels[1][i], channels[2][i]))
	}
	return p, nil
}

// paletteChannel reads entries of 8 or 16 bits as 0 to 255. Those of 8 bits stand in bytes or, with some writers, in words.
func paletteChannel(data []byte, entries, bits int) ([]float64, error) {
	words := len(data) >= 2*entries
	if entries < 1 || entries > 1<<16 || bits != 8 && bits != 16 || !words && (bits == 16 || len(data) < entries) {
		return nil, fmt.Errorf("%w: colour palette of %d entries of %d bits in %d bytes", volume.ErrFormat, entries, bits, len(data))
	}
	out := make([]float64, entries)
	for i := range out {
		switch {
		case words && bits == 16:
			out[i] = float64(binary.LittleEndian.Uint16(data[2*i:])) / 257
		case words:
			out[i] = float64(data[2*i])
		default:
			out[i] = float64(data[i])
		}
	}
	return out, nil
}

func (p *palette) brightness(v int) float32 {
	return p.table[min(max(v-p.first, 0), len(p.table)-1)]
}
