// Package jpegls decodes JPEG-LS (ISO/IEC 14495-1, ITU-T T.87), lossless and near-lossless, in every interleave mode. Sections named
// in comments are those of T.87.
package jpegls

import (
	"encoding/binary"

	"scrawl/adapters/dicom/codec/internal/frame"
)

// Markers (Table C.1, and T.81).
const (
	markSOI   = 0xd8
	markEOI   = 0xd9
	markSOS   = 0xda
	markDNL   = 0xdc
	markDRI   = 0xdd
	markAPP8  = 0xe8
	markSOF55 = 0xf7
	markLSE   = 0xf8
	markRST0  = 0xd0
)

// Interleave modes (C.2.3).
const (
	interleaveNone = iota
	interleaveLine
	interleaveSample
)

type decoder struct {
	declared  frame.Declared
	data      []byte
	at        int
	precision int
	ids       []int // of the components, -1 once decoded
	left      int   // components not yet decoded
	preset    preset
	restart   int // lines between restart markers
	pix       []int32
}

// preset holds what LSE can set, 0 where it stands for the default (C.2.4.1.1).
type preset struct{ maxVal, t1, t2, t3, reset int }

// Decode decodes a JPEG-LS image.
func Decode(data []byte, declared frame.Declared) (frame.Image, error) {
	d := &decoder{declared: declared, data: data, at: 2}
	if len(data) < 2 || data[0] != 0xff || data[1] != markSOI {
		return frame.Image{}, frame.Malformed("no start of a JPEG-LS image")
	}
	if err := d.segments(); err != nil {
		return frame.Image{}, err
	}
	return frame.Image{Precision: d.precision, Pix: d.pix}, nil
}

// segments reads marker segments and scans until all components are there.
func (d *decoder) segments() error {
	for d.ids == nil || d.left > 0 {
		m, s, err := d.segment()
		if err != nil {
			return err
		}
		switch m {
		case markSOF55:
			err = d.frameHeader(s)
		case markLSE:
			err = d.presetParameters(s)
		case markDRI:
			err = d.restartInterval(s)
		case markSOS:
			err = d.scan(s)
		case markDNL:
			err = frame.Unsupported("a number of lines behind the first scan")
		case markAPP8:
			if len(s) >= 5 && string(s[:4]) == "mrfx" && s[4] != 0 {
				err = frame.Unsupported("a colour transform of HP's (APP8)")
			}
		case markEOI:
			err = frame.Malformed("the image ends with %d components missing", max(d.left, 1))
		default:
			if m >= 0xc0 && m <= 0xcf {
				err = frame.Unsupported("frame type %02x is not JPEG-LS", m)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// segment reads the next marker and its segment.
func (d *decoder) segment() (byte, []byte, error) {
	for d.at+1 < len(d.data) && (d.data[d.at] != 0xff || d.data[d.at+1] < 0x80 || d.data[d.at+1] == 0xff) {
		d.at++
	}
	if d.at+1 >= len(d.data) {
		return 0, nil, frame.Malformed("the data ends with %d components missing", max(d.left, 1))
	}
	m := d.data[d.at+1]
	d.at += 2
	if m == markEOI {
		return m, nil, nil
	}
	if d.at+2 > len(d.data) {
		return 0, nil, frame.Malformed("the data ends in marker %02x", m)
	}
	n := int(binary.BigEndian.Uint16(d.data[d.at:]))
	if n < 2 || d.at+n > len(d.data) {
		return 0, nil, frame.Malformed("marker %02x declares %d bytes where %d are left", m, n, len(d.data)-d.at)
	}
	s := d.data[d.at+2 : d.at+n]
	d.at += n
	return m, s, nil
}

func (d *decoder) frameHeader(s []byte) error {
	if d.ids != nil {
		return frame.Malformed("two frame headers")
	}
	if len(s) < 6 || len(s) != 6+3*int(s[5]) {
		return frame.Malformed("frame header of %d bytes", len(s))
	}
	d.precision = int(s[0])
	if d.precision < 2 || d.precision > 16 {
		return frame.Malformed("%d bits per sample, want 2 to 16", d.precision)
	}
	height, width := int(binary.BigEndian.Uint16(s[1:])), int(binary.BigEndian.Uint16(s[3:]))
	if err := d.declared.Check(width, height, int(s[5])); err != nil {
		return err
	}
	// A line takes at least a bit.
	if height/8 > len(d.data) {
		return frame.Malformed("%d bytes cannot hold %d lines", len(d.data), height)
	}
	for s = s[6:]; len(s) > 0; s = s[3:] {
		if s[1] != 0x11 {
			return frame.Unsupported("a sub-sampled component (%d×%d)", s[1]>>4, s[1]&15)
		}
		d.ids = append(d.ids, int(s[0]))
	}
	d.left = len(d.ids)
	return nil
}

func (d *decoder) presetParameters(s []byte) error {
	if len(s) < 1 {
		return frame.Malformed("empty LSE")
	}
	switch s[0] {
	case 1:
		if len(s) != 11 {
			return frame.Malformed("LSE of %d bytes", len(s))
		}
		v := func(i int) int { return int(binary.BigEndian.Uint16(s[1+2*i:])) }
		d.preset = preset{v(0), v(1), v(2), v(3), v(4)}
		return nil
	case 2, 3:
		return frame.Unsupported("a mapping table (LSE %d)", s[0])
	case 4:
		return frame.Unsupported("an oversize image (LSE 4)")
	}
	return frame.Unsupported("LSE %d", s[0])
}

func (d *decoder) restartInterval(s []byte) error {
	if len(s) < 2 || len(s) > 4 {
		return frame.Malformed("DRI of %d bytes", len(s))
	}
	d.restart = 0
	for _, b := range s {
		d.restart = d.restart<<8 | int(b)
	}
	return nil
}

// scan reads a scan header (C.2.3) and decodes what follows it.
func (d *decoder) scan(s []byte) error {
	if d.ids == nil {
		return frame.Malformed("a scan before the frame header")
	}
	if len(s) < 1 || s[0] < 1 || len(s) != 4+2*int(s[0]) {
		return frame.Malformed("scan header of %d bytes", len(s))
	}
	var planes []int
	for i := range int(s[0]) {
		n, err := d.component(s[1+2*i], s[2+2*i])
		if err != nil {
			return err
		}
		planes = append(planes, n)
	}
	near, interleave, pointTransform := int(s[len(s)-3]), int(s[len(s)-2]), s[len(s)-1]
	switch {
	case pointTransform != 0:
		return frame.Unsupported("a point transform of %d", pointTransform)
	case interleave > interleaveSample || interleave == interleaveNone && len(planes) != 1:
		return frame.Malformed("interleave mode %d of %d components", interleave, len(planes))
	}
	if len(planes) == 1 {
		interleave = interleaveNone
	}
	c, err := newCoder(d.preset, d.precision, near)
	if err != nil {
		return err
	}
	c.bitReader = bitReader{data: d.data, at: d.at}
	if err := d.lines(c, planes, interleave); err != nil {
		return err
	}
	d.at = c.at
	return nil
}

// component finds a component of a scan that has not been decoded.
func (d *decoder) component(id, table byte) (int, error) {
	if table != 0 {
		return 0, frame.Unsupported("a mapping table for component %d", id)
	}
	for i, v := range d.ids {
		if v == int(id) {
			d.left--
			d.ids[i] = -1
			return i, nil
		}
	}
	return 0, frame.Malformed("a scan of component %d, which there is not or no more", id)
}
