// Package jpeg decodes JPEG (ISO/IEC 10918-1, ITU-T T.81) with Huffman coding: the baseline and the extended sequential process in
// 8 and 12 bits (dct.go), and the lossless process in 2 to 16 bits (lossless.go). Components keep their colours; sub-sampled ones
// are brought to full size (sampling.go). Sections named in comments are those of T.81.
package jpeg

import (
	"encoding/binary"

	"scrawl/adapters/dicom/codec/internal/frame"
)

// Markers (Table B.1).
const (
	markSOF0 = 0xc0 // baseline
	markSOF1 = 0xc1 // extended sequential
	markSOF3 = 0xc3 // lossless
	markDHT  = 0xc4
	markRST0 = 0xd0
	markRST7 = 0xd7
	markSOI  = 0xd8
	markEOI  = 0xd9
	markSOS  = 0xda
	markDQT  = 0xdb
	markDNL  = 0xdc
	markDRI  = 0xdd
)

// refused names the processes that are not decoded.
var refused = map[byte]string{
	0xc2: "progressive", 0xc5: "hierarchical", 0xc6: "hierarchical", 0xc7: "hierarchical", 0xc8: "reserved", 0xc9: "arithmetic coding",
	0xca: "arithmetic coding", 0xcb: "arithmetic coding", 0xcc: "arithmetic coding", 0xcd: "hierarchical", 0xce: "hierarchical",
	0xcf: "hierarchical", 0xde: "hierarchical", 0xdf: "hierarchical", markDNL: "a number of lines behind the first scan",
}

// A component is one of the frame header (B.2.2).
type component struct {
	id   byte
	h, v int // sampling factors
	tq   byte

	w, hgt  int // size in samples
	stride  int // of samples, a whole number of blocks or more
	samples []uint16
	decoded bool
}

type decoder struct {
	declared frame.Declared
	data     []byte
	at       int

	lossless   bool
	precision  int
	components []component
	hMax, vMax int
	quant      [4]*[64]uint16 // in zigzag order
	huffman    [2][4]*huffman // DC or lossless, AC
	restart    int            // MCUs between restart markers
}

// Decode decodes a JPEG image.
func Decode(data []byte, declared frame.Declared) (frame.Image, error) {
	d := &decoder{declared: declared, data: data}
	if len(data) < 2 || data[0] != 0xff || data[1] != markSOI {
		return frame.Image{}, frame.Malformed("no start of a JPEG image")
	}
	d.at = 2
	if err := d.segments(); err != nil {
		return frame.Image{}, err
	}
	return d.image()
}

// segments reads marker segments and scans up to the end. A missing EOI is no error once all components are there.
func (d *decoder) segments() error {
	for {
		m, ok := d.marker()
		if !ok || m == markEOI {
			return d.complete()
		}
		if what, ok := refused[m]; ok {
			return frame.Unsupported("JPEG process: %s", what)
		}
		if m >= markRST0 && m <= markRST7 || m == 0x01 {
			continue
		}
		s, err := d.segment(m)
		if err != nil {
			return err
		}
		switch m {
		case markSOF0, markSOF1, markSOF3:
			err = d.frameHeader(m, s)
		case markDHT:
			err = d.huffmanTables(s)
		case markDQT:
			err = d.quantTables(s)
		case markDRI:
			if len(s) != 2 {
				return frame.Malformed("DRI of %d bytes", len(s))
			}
			d.restart = int(binary.BigEndian.Uint16(s))
		case markSOS:
			err = d.scan(s)
		}
		if err != nil {
			return err
		}
	}
}

func (d *decoder) complete() error {
	if d.components == nil {
		return frame.Malformed("the image ends without a frame header")
	}
	for i, c := range d.components {
		if !c.decoded {
			return frame.Malformed("the image ends without a scan of component %d", i+1)
		}
	}
	return nil
}

// marker finds the next marker; bytes before it, which no writer should leave, are skipped.
func (d *decoder) marker() (byte, bool) {
	for d.at+1 < len(d.data) {
		if d.data[d.at] == 0xff && d.data[d.at+1] != 0 && d.data[d.at+1] != 0xff {
			d.at += 2
			return d.data[d.at-1], true
		}
		d.at++
	}
	return 0, false
}

func (d *decoder) segment(m byte) ([]byte, error) {
	if d.at+2 > len(d.data) {
		return nil, frame.Malformed("the data ends in marker %02x", m)
	}
	n := int(binary.BigEndian.Uint16(d.data[d.at:]))
	if n < 2 || d.at+n > len(d.data) {
		return nil, frame.Malformed("marker %02x declares %d bytes where %d are left", m, n, len(d.data)-d.at)
	}
	s := d.data[d.at+2 : d.at+n]
	d.at += n
	return s, nil
}

func (d *decoder) frameHeader(m byte, s []byte) error {
	if d.components != nil {
		return frame.Malformed("two frame headers")
	}
	if len(s) < 6 || len(s) != 6+3*int(s[5]) {
		return frame.Malformed("frame header of %d bytes", len(s))
	}
	d.lossless = m == markSOF3
	d.precision = int(s[0])
	switch p := d.precision; {
	case d.lossless && (p < 2 || p > 16):
		return frame.Malformed("%d bits per sample, want 2 to 16", p)
	case !d.lossless && p != 8 && (p != 12 || m == markSOF0):
		return frame.Unsupported("%d bits per sample in a DCT process", p)
	}
	height, width := int(binary.BigEndian.Uint16(s[1:])), int(binary.BigEndian.Uint16(s[3:]))
	if err := d.declared.Check(width, height, int(s[5])); err != nil {
		return err
	}
	// A sample of a lossless scan takes a bit, a block of 64 two.
	perByte := 8
	if !d.lossless {
		perByte = 256
	}
	components := make([]component, s[5])
	blocks := 0
	for i := range components {
		c := s[6+3*i:]
		components[i] = component{id: c[0], h: int(c[1] >> 4), v: int(c[1] & 15), tq: c[2]}
		if h, v := components[i].h, components[i].v; h < 1 || h > 4 || v < 1 || v > 4 || c[2] > 3 {
			return frame.Malformed("component %d is sampled %d×%d with quantization table %d", i+1, h, v, c[2])
		}
		d.hMax, d.vMax = max(d.hMax, components[i].h), max(d.vMax, components[i].v)
		blocks += components[i].h * components[i].v
	}
	if samples := width * height * blocks / (d.hMax * d.vMax); samples/perByte > len(d.data) {
		return frame.Malformed("%d bytes cannot hold %d samples", len(d.data), samples)
	}
	for i := range components {
		if err := d.layout(&components[i]); err != nil {
			return err
		}
	}
	d.components = components
	return nil
}

// layout gives a component its size (A.1.1) and its memory.
func (d *decoder) layout(c *component) error {
	w, h := d.declared.Width, d.declared.Height
	if d.lossless && (c.h != d.hMax || c.v != d.vMax) {
		return frame.Unsupported("sub-sampled components in a lossless image")
	}
	if d.hMax%c.h != 0 || d.vMax%c.v != 0 {
		return frame.Unsupported("a component sampled %d×%d of %d×%d", c.h, c.v, d.hMax, d.vMax)
	}
	c.w, c.hgt = ceilDiv(w*c.h, d.hMax), ceilDiv(h*c.v, d.vMax)
	rows := c.hgt
	c.stride = c.w
	if !d.lossless {
		c.stride, rows = ceilDiv(w, 8*d.hMax)*8*c.h, ceilDiv(h, 8*d.vMax)*8*c.v
	}
	c.samples = make([]uint16, c.stride*rows)
	return nil
}

func (d *decoder) quantTables(s []byte) error {
	for len(s) > 0 {
		wide, n := s[0]>>4, s[0]&15
		size := 64 * (1 + int(wide))
		if wide > 1 || n > 3 || len(s) < 1+size {
			return frame.Malformed("quantization table %02x in %d bytes", s[0], len(s))
		}
		t := new([64]uint16)
		for i := range t {
			if wide == 1 {
				t[i] = binary.BigEndian.Uint16(s[1+2*i:])
			} else {
				t[i] = uint16(s[1+i])
			}
		}
		d.quant[n] = t
		s = s[1+size:]
	}
	return nil
}

func (d *decoder) huffmanTables(s []byte) error {
	for len(s) > 0 {
		if len(s) < 17 || s[0]>>4 > 1 || s[0]&15 > 3 {
			return frame.Malformed("Huffman table of %d bytes", len(s))
		}
		t, n, err := newHuffman(s[1:], s[0]>>4 == 1)
		if err != nil {
			return err
		}
		d.huffman[s[0]>>4][s[0]&15] = t
		s = s[1+n:]
	}
	return nil
}

// A scanComponent is a component of a scan with its tables.
type scanComponent struct {
	*component
	dc, ac *huffman
	quant  *[64]uint16
}

// scan reads a scan header (B.2.3) and decodes the entropy coded data behind it.
func (d *decoder) scan(s []byte) error {
	if d.components == nil {
		return frame.Malformed("a scan before the frame header")
	}
	if len(s) < 1 || s[0] < 1 || s[0] > 4 || len(s) != 4+2*int(s[0]) {
		return frame.Malformed("scan header of %d bytes", len(s))
	}
	var list []scanComponent
	for i := range int(s[0]) {
		c, err := d.scanComponent(s[1+2*i], s[2+2*i])
		if err != nil {
			return err
		}
		list = append(list, c)
	}
	// A sequential scan's range of coefficients says nothing; some writers leave it empty.
	predictor, pointTransform := int(s[len(s)-3]), int(s[len(s)-1]&15)
	var err error
	r := bitReader{data: d.data, at: d.at}
	if d.lossless {
		err = d.losslessScan(&r, list, predictor, pointTransform)
	} else {
		err = d.dctScan(&r, list)
	}
	d.at = r.at
	return err
}

func (d *decoder) scanComponent(id, tables byte) (scanComponent, error) {
	for i := range d.components {
		c := &d.components[i]
		if c.id != id || c.decoded {
			continue
		}
		c.decoded = true
		if tables>>4 > 3 || tables&15 > 3 {
			return scanComponent{}, frame.Malformed("Huffman tables %02x", tables)
		}
		sc := scanComponent{c, d.huffman[0][tables>>4], d.huffman[1][tables&15], d.quant[c.tq]}
		if sc.dc == nil || !d.lossless && (sc.ac == nil || sc.quant == nil) {
			return sc, frame.Malformed("a scan of component %d without its tables", i+1)
		}
		return sc, nil
	}
	return scanComponent{}, frame.Malformed("a scan of component %d, which there is not or no more", id)
}

// nextRestart reads the restart marker number n and starts the reader anew behind it.
func nextRestart(r *bitReader, n int) error {
	if r.overread() {
		return frame.Malformed("the data ends before restart marker %d", n)
	}
	at := r.at
	for at+1 < len(r.data) && (r.data[at] != 0xff || r.data[at+1] == 0 || r.data[at+1] == 0xff) {
		at++
	}
	if want := byte(markRST0 + n%8); at+2 > len(r.data) || r.data[at] != 0xff || r.data[at+1] != want {
		return frame.Malformed("no restart marker %d where it is due", n%8)
	}
	*r = bitReader{data: r.data, at: at + 2}
	return nil
}

// image interleaves the components.
func (d *decoder) image() (frame.Image, error) {
	img := frame.Image{Precision: d.precision, Pix: make([]int32, d.declared.Samples())}
	for i := range d.components {
		c := &d.components[i]
		d.upsample(c, img.Pix[i:], len(d.components))
		c.samples = nil
	}
	return img, nil
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// bitReader reads entropy coded bits: a zero byte is stuffed behind every 0xff, and a marker ends them. Behind the end come zeros,
// which overread tells of.
type bitReader struct {
	data []byte
	at   int // behind the end, the marker's
	acc  uint64
	n    int // bits in acc
	fake int // of them behind the end
}

// fill makes at least 32 bits available.
func (r *bitReader) fill() {
	if r.at+4 <= len(r.data) {
		v := binary.BigEndian.Uint32(r.data[r.at:])
		if !hasFF(v) {
			r.acc = r.acc<<32 | uint64(v)
			r.n += 32
			r.at += 4
			return
		}
	}
	for r.n <= 48 {
		var b byte
		switch {
		case r.at < len(r.data) && r.data[r.at] != 0xff:
			b = r.data[r.at]
			r.at++
		case r.at+1 < len(r.data) && r.data[r.at+1] == 0:
			b = 0xff
			r.at += 2
		default:
			r.fake += 8
		}
		r.acc = r.acc<<8 | uint64(b)
		r.n += 8
	}
}

// hasFF tells whether one of four bytes is 0xff.
func hasFF(v uint32) bool { return (^v-0x01010101)&v&0x80808080 != 0 }

// overread tells whether more bits have been taken than there were.
func (r *bitReader) overread() bool { return r.n < r.fake }

// bits takes n ≤ 16 bits of those that fill has made available.
func (r *bitReader) bits(n int) int32 {
	r.n -= n
	return int32(r.acc>>r.n) & (1<<n - 1)
}

// extended makes a signed number of n bits (F.2.2.1).
func extended(v int32, n int) int32 {
	if n > 0 && v < 1<<(n-1) {
		v -= 1<<n - 1
	}
	return v
}

// Codes that fit these bits are looked up, longer ones searched for.
const fastBits = 12

// A huffman is a Huffman table (annex C).
type huffman struct {
	// whole holds, by the next bits, a code with the magnitude bits behind it if they fit: the number of all bits, from bit 8 on the
	// run of zero coefficients, and in the upper half the coefficient or difference. It is 0 where they do not fit.
	whole  [1 << fastBits]uint32
	fast   [1 << fastBits]uint16 // code alone: value, and in the upper half length; 0 if it is longer
	limit  [18]int32             // first code of each length that is too large, left-aligned to 16 bits
	offset [17]int32             // of a length's values
	values []byte
}

// newHuffman reads a table: the numbers of codes of each length, and their values. It gives the number of bytes that it takes.
func newHuffman(s []byte, ac bool) (*huffman, int, error) {
	t := &huffman{}
	total := 0
	for _, n := range s[:16] {
		total += int(n)
	}
	if total == 0 || total > 256 || len(s) < 16+total {
		return nil, 0, frame.Malformed("Huffman table of %d codes in %d bytes", total, len(s))
	}
	t.values = append(t.values, s[16:16+total]...)
	code, k := int32(0), int32(0)
	for length := 1; length <= 16; length++ {
		t.offset[length] = k - code
		for range s[length-1] {
			if code >= 1<<length {
				return nil, 0, frame.Malformed("a Huffman table of too many codes of %d bits", length)
			}
			if length <= fastBits {
				t.enter(code, length, t.values[k], ac)
			}
			code++
			k++
		}
		t.limit[length] = code << (16 - length)
		code <<= 1
	}
	t.limit[17] = 1 << 30
	return t, 16 + total, nil
}

// enter puts a code into the tables that are looked up.
func (t *huffman) enter(code int32, length int, value byte, ac bool) {
	rest := fastBits - length
	size, run := int(value), uint32(0)
	if ac {
		size, run = int(value&15), uint32(value>>4)
	}
	for i := range int32(1) << rest {
		at := code<<rest | i
		t.fast[at] = uint16(length)<<8 | uint16(value)
		if size <= rest {
			magnitude := extended(i>>(rest-size), size)
			t.whole[at] = uint32(magnitude)<<16 | run<<8 | uint32(length+size)
		}
	}
}

// decode takes a value; at least 16 bits must be available. ok is false where no code matches.
func (t *huffman) decode(r *bitReader) (value byte, ok bool) {
	if f := t.fast[r.acc>>(r.n-fastBits)&(1<<fastBits-1)]; f != 0 {
		r.n -= int(f >> 8)
		return byte(f), true
	}
	v := int32(r.acc>>(r.n-16)) & 0xffff
	length := fastBits + 1
	for v >= t.limit[length] {
		length++
	}
	if length > 16 {
		return 0, false
	}
	r.n -= length
	i := int(v>>(16-length) + t.offset[length])
	if i < 0 || i >= len(t.values) {
		return 0, false
	}
	return t.values[i], true
}
