// Package jpeg2000 decodes JPEG 2000 codestreams (ISO/IEC 15444-1, ITU-T T.800), bare or in the boxes of a JP2 file.
//
// The way of the data: markers (codestream.go) give every tile its parameters and its bytes; the geometry of its resolutions,
// sub-bands, precincts and code blocks (tile.go) and the progression (progression.go) tell in which order the packets come, whose
// headers (packet.go) say which bytes belong to which code block; those are decoded bit plane by bit plane (block.go) with the
// arithmetic decoder (mq.go), and the wavelet (wavelet.go) makes samples of them (decode.go). Sections named in comments are
// those of T.800.
package jpeg2000

import (
	"encoding/binary"
	"slices"

	"scrawl/adapters/dicom/codec/internal/frame"
)

// Markers (Table A.2).
const (
	markSOC = 0xff4f
	markSIZ = 0xff51
	markCOD = 0xff52
	markCOC = 0xff53
	markQCD = 0xff5c
	markQCC = 0xff5d
	markRGN = 0xff5e
	markPOC = 0xff5f
	markPPM = 0xff60
	markPPT = 0xff61
	markSOT = 0xff90
	markSOP = 0xff91
	markEPH = 0xff92
	markSOD = 0xff93
	markEOC = 0xffd9
)

// A component is one of SIZ.
type component struct {
	precision int
	signed    bool
}

// A rect is a half-open range of samples, on the reference grid or one of its reductions.
type rect struct{ x0, y0, x1, y1 int }

func (r rect) dx() int     { return r.x1 - r.x0 }
func (r rect) dy() int     { return r.y1 - r.y0 }
func (r rect) empty() bool { return r.x1 <= r.x0 || r.y1 <= r.y0 }

// size is the SIZ marker segment (A.5.1). Components of less resolution than the reference grid are refused, so one grid serves all.
type size struct {
	image          rect
	tileX0, tileY0 int
	tileW, tileH   int
	tilesX, tilesY int
	components     []component
}

// tile is the part of the image that tile n covers (B.3).
func (s *size) tile(n int) rect {
	p, q := n%s.tilesX, n/s.tilesX
	x, y := s.tileX0+p*s.tileW, s.tileY0+q*s.tileH
	return rect{max(x, s.image.x0), max(y, s.image.y0), min(x+s.tileW, s.image.x1), min(y+s.tileH, s.image.y1)}
}

// codingStyle is what COD and COC say of one component (A.6.1).
type codingStyle struct {
	levels     int
	xcb, ycb   int // exponents of the code block's size
	blockStyle byte
	reversible bool
	precincts  [33]byte // exponents of the precincts' size: width in the lower half, a byte a resolution
	own        bool     // set by a COC, which a COD does not overrule
}

// quantization is what QCD and QCC say of one component (A.6.4).
type quantization struct {
	style byte // 0 none, 1 derived from the first band, 2 stated for each
	guard int
	steps []quantStep
	own   bool
}

type quantStep struct{ exponent, mantissa int }

// A progression is the order of packets within bounds: the default one or an entry of POC (A.6.6).
type progression struct {
	order                 byte
	layers                int
	resFrom, resTo        int
	componentFrom, compTo int
}

// params are a tile's coding parameters.
type params struct {
	sop, eph bool
	order    byte
	layers   int
	mct      bool
	styles   []codingStyle
	quants   []quantization
	roi      []int // max-shift of each component
	poc      []progression
}

func (p *params) clone() *params {
	q := *p
	q.styles, q.quants, q.roi, q.poc = slices.Clone(p.styles), slices.Clone(p.quants), slices.Clone(p.roi), slices.Clone(p.poc)
	for i := range q.styles {
		q.styles[i].own, q.quants[i].own = false, false
	}
	return &q
}

// tileData is what the codestream holds of a tile: its parameters, and its bytes from all tile-parts.
type tileData struct {
	*params
	parts   int
	body    []byte
	headers []byte // packed packet headers, if packed
	packed  bool
}

// codestream is a parsed codestream.
type codestream struct {
	size
	tiles []tileData
}

// parser reads the marker segments.
type parser struct {
	declared frame.Declared
	data     []byte
	at       int
	out      codestream
	main     params
	seenCOD  bool
	seenQCD  bool
	ppm      map[byte][]byte
	packed   []byte // what is left of the main header's packet headers
}

func parse(data []byte, declared frame.Declared) (*codestream, error) {
	data, err := contiguousCodestream(data)
	if err != nil {
		return nil, err
	}
	p := &parser{declared: declared, data: data}
	if err := p.mainHeader(); err != nil {
		return nil, err
	}
	if err := p.tileParts(); err != nil {
		return nil, err
	}
	for n := range p.out.tiles {
		if p.out.tiles[n].parts == 0 {
			return nil, frame.Malformed("tile %d of %d is missing", n, len(p.out.tiles))
		}
	}
	return &p.out, nil
}

// contiguousCodestream finds the codestream in a JP2 file's boxes (I.4); a codestream alone is one already.
func contiguousCodestream(data []byte) ([]byte, error) {
	if len(data) >= 2 && binary.BigEndian.Uint16(data) == markSOC {
		return data, nil
	}
	rest := data
	for len(rest) >= 8 {
		length, head := uint64(binary.BigEndian.Uint32(rest)), uint64(8)
		kind := string(rest[4:8])
		switch {
		case length == 0:
			length = uint64(len(rest))
		case length == 1 && len(rest) >= 16:
			length, head = binary.BigEndian.Uint64(rest[8:]), 16
		}
		if length < head || length > uint64(len(rest)) {
			if kind != "jp2c" || length < head {
				return nil, frame.Malformed("no codestream: box %q of %d bytes where %d are left", kind, length, len(rest))
			}
			length = uint64(len(rest))
		}
		if kind == "jp2c" {
			return rest[head:length], nil
		}
		rest = rest[length:]
	}
	return nil, frame.Malformed("neither a JPEG 2000 codestream nor a JP2 file")
}

// segment reads the marker segment at p.at, behind its marker.
func (p *parser) segment(marker int) ([]byte, error) {
	if p.at+2 > len(p.data) {
		return nil, frame.Malformed("the codestream ends in marker %04x", marker)
	}
	n := int(binary.BigEndian.Uint16(p.data[p.at:]))
	if n < 2 || p.at+n > len(p.data) {
		return nil, frame.Malformed("marker %04x declares %d bytes where %d are left", marker, n, len(p.data)-p.at)
	}
	s := p.data[p.at+2 : p.at+n]
	p.at += n
	return s, nil
}

func (p *parser) marker() (int, error) {
	if p.at+2 > len(p.data) {
		return 0, frame.Malformed("the codestream ends after %d bytes without an end", len(p.data))
	}
	m := int(binary.BigEndian.Uint16(p.data[p.at:]))
	if m < 0xff00 {
		return 0, frame.Malformed("%04x at byte %d is no marker", m, p.at)
	}
	p.at += 2
	return m, nil
}

// mainHeader reads up to the first SOT, whose marker is the next to read.
func (p *parser) mainHeader() error {
	if m, err := p.marker(); err != nil || m != markSOC {
		return frame.Malformed("no start of a codestream")
	}
	for {
		m, err := p.marker()
		if err != nil {
			return err
		}
		if m == markSOT {
			p.at -= 2
			return p.endMain()
		}
		s, err := p.segment(m)
		if err != nil {
			return err
		}
		if p.out.components == nil && m != markSIZ {
			return frame.Malformed("marker %04x before the image's size", m)
		}
		switch m {
		case markSIZ:
			err = p.siz(s)
		case markPPM:
			if len(s) < 1 {
				return frame.Malformed("empty PPM")
			}
			if p.ppm == nil {
				p.ppm = map[byte][]byte{}
			}
			p.ppm[s[0]] = s[1:]
		default:
			p.seenCOD = p.seenCOD || m == markCOD
			p.seenQCD = p.seenQCD || m == markQCD
			err = p.parameter(m, s, &p.main)
		}
		if err != nil {
			return err
		}
	}
}

func (p *parser) endMain() error {
	switch {
	case p.out.components == nil:
		return frame.Malformed("no SIZ marker")
	case !p.seenCOD:
		return frame.Malformed("no COD marker")
	case !p.seenQCD:
		return frame.Malformed("no QCD marker")
	}
	for i := range 256 {
		p.packed = append(p.packed, p.ppm[byte(i)]...)
	}
	return nil
}

// siz reads the image's size (A.5.1) and holds it against the declared one.
func (p *parser) siz(s []byte) error {
	if p.out.components != nil {
		return frame.Malformed("two SIZ markers")
	}
	if len(s) < 36 {
		return frame.Malformed("SIZ of %d bytes", len(s))
	}
	if binary.BigEndian.Uint16(s)&0x8000 != 0 {
		return frame.Unsupported("extensions of JPEG 2000 part 2")
	}
	var v [8]int
	for i := range v {
		v[i] = int(binary.BigEndian.Uint32(s[2+4*i:]))
	}
	n := int(binary.BigEndian.Uint16(s[34:]))
	z := &p.out.size
	z.image = rect{v[2], v[3], v[0], v[1]}
	z.tileW, z.tileH, z.tileX0, z.tileY0 = v[4], v[5], v[6], v[7]
	if z.image.empty() || z.image.x1 > 1<<31-1 || z.image.y1 > 1<<31-1 {
		return frame.Malformed("image area %v", z.image)
	}
	if err := p.declared.Check(z.image.dx(), z.image.dy(), n); err != nil {
		return err
	}
	if len(s) < 36+3*n {
		return frame.Malformed("SIZ of %d bytes for %d components", len(s), n)
	}
	if z.tileW < 1 || z.tileH < 1 || z.tileX0 > z.image.x0 || z.tileY0 > z.image.y0 ||
		z.tileX0+z.tileW <= z.image.x0 || z.tileY0+z.tileH <= z.image.y0 {
		return frame.Malformed("tiles of %d×%d at %d, %d for image area %v", z.tileW, z.tileH, z.tileX0, z.tileY0, z.image)
	}
	z.tilesX, z.tilesY = ceilDiv(z.image.x1-z.tileX0, z.tileW), ceilDiv(z.image.y1-z.tileY0, z.tileH)
	// A tile takes at least its SOT and SOD.
	if z.tilesX > 65535 || z.tilesY > 65535 || z.tilesX*z.tilesY > 65535 || z.tilesX*z.tilesY > len(p.data)/14 {
		return frame.Malformed("%d×%d tiles in %d bytes", z.tilesX, z.tilesY, len(p.data))
	}
	for i := range n {
		c := s[36+3*i:]
		precision := int(c[0]&0x7f) + 1
		if precision > maxPrecision {
			return frame.Unsupported("component %d has %d bits, at most %d are decoded", i, precision, maxPrecision)
		}
		if c[1] != 1 || c[2] != 1 {
			return frame.Unsupported("component %d is sub-sampled %d×%d", i, c[1], c[2])
		}
		z.components = append(z.components, component{precision: precision, signed: c[0]&0x80 != 0})
	}
	for _, c := range z.components {
		if c != z.components[0] {
			return frame.Unsupported("components of different precision or sign")
		}
	}
	p.out.tiles = make([]tileData, z.tilesX*z.tilesY)
	p.main = params{styles: make([]codingStyle, n), quants: make([]quantization, n), roi: make([]int, n)}
	return nil
}

// parameter reads the marker segments that both kinds of header may hold. Others tell nothing that decoding needs.
func (p *parser) parameter(m int, s []byte, to *params) error {
	switch m {
	case markCOD:
		return p.cod(s, to)
	case markCOC:
		return p.coc(s, to)
	case markQCD, markQCC:
		return p.quantization(m, s, to)
	case markRGN:
		return p.rgn(s, to)
	case markPOC:
		entries, err := p.progressions(s)
		if to.poc = append(to.poc, entries...); len(to.poc) > maxProgressions {
			return frame.Unsupported("%d changes of the progression order, at most %d are followed", len(to.poc), maxProgressions)
		}
		return err
	}
	return nil
}

func (p *parser) cod(s []byte, to *params) error {
	if len(s) < 10 {
		return frame.Malformed("COD of %d bytes", len(s))
	}
	to.sop, to.eph = s[0]&2 != 0, s[0]&4 != 0
	to.order, to.layers = s[1], int(binary.BigEndian.Uint16(s[2:]))
	if to.order > 4 {
		return frame.Malformed("progression order %d", to.order)
	}
	if to.layers < 1 {
		return frame.Malformed("no layers")
	}
	if s[4] > 1 {
		return frame.Unsupported("multiple component transform %d", s[4])
	}
	to.mct = s[4] == 1
	if to.mct && len(p.out.components) < 3 {
		return frame.Malformed("a colour transform of %d components", len(p.out.components))
	}
	style, err := parseStyle(s[5:], s[0]&1 != 0)
	if err != nil {
		return err
	}
	for i := range to.styles {
		if !to.styles[i].own {
			to.styles[i] = style
		}
	}
	return nil
}

func (p *parser) coc(s []byte, to *params) error {
	c, s, err := p.component(s)
	if err != nil {
		return err
	}
	if len(s) < 6 {
		return frame.Malformed("COC of %d bytes", len(s))
	}
	style, err := parseStyle(s[1:], s[0]&1 != 0)
	style.own = true
	to.styles[c] = style
	return err
}

// component reads an index of a component: one byte, or two where there are more than 256, which Declared rules out.
func (p *parser) component(s []byte) (int, []byte, error) {
	if len(s) < 1 || int(s[0]) >= len(p.out.components) {
		return 0, nil, frame.Malformed("a marker for a component that does not exist")
	}
	return int(s[0]), s[1:], nil
}

// parseStyle reads the SPcod and SPcoc parameters (Table A.15).
func parseStyle(s []byte, precincts bool) (codingStyle, error) {
	c := codingStyle{levels: int(s[0]), xcb: int(s[1]&15) + 2, ycb: int(s[2]&15) + 2, blockStyle: s[3], reversible: s[4] == 1}
	switch {
	case c.levels > 32:
		return c, frame.Malformed("%d decomposition levels", c.levels)
	case c.xcb > 10 || c.ycb > 10 || c.xcb+c.ycb > 12:
		return c, frame.Malformed("code blocks of 2^%d×2^%d", c.xcb, c.ycb)
	case s[4] > 1:
		return c, frame.Unsupported("wavelet %d", s[4])
	case c.blockStyle&styleHT != 0:
		return c, frame.Unsupported("high throughput code blocks (HTJ2K)")
	case c.blockStyle&0x80 != 0:
		return c, frame.Unsupported("code block style %02x", c.blockStyle)
	}
	for r := range c.precincts {
		c.precincts[r] = 0xff
	}
	if !precincts {
		return c, nil
	}
	if len(s) < 5+c.levels+1 {
		return c, frame.Malformed("%d precinct sizes for %d resolutions", len(s)-5, c.levels+1)
	}
	copy(c.precincts[:c.levels+1], s[5:])
	for r, v := range c.precincts[1 : c.levels+1] {
		if v&15 == 0 || v>>4 == 0 {
			return c, frame.Malformed("precincts of 2^%d×2^%d at resolution %d", v&15, v>>4, r+1)
		}
	}
	return c, nil
}

func (p *parser) quantization(m int, s []byte, to *params) error {
	c := -1
	if m == markQCC {
		var err error
		if c, s, err = p.component(s); err != nil {
			return err
		}
	}
	if len(s) < 2 {
		return frame.Malformed("marker %04x of %d bytes", m, len(s))
	}
	q := quantization{style: s[0] & 31, guard: int(s[0] >> 5), own: c >= 0}
	s = s[1:]
	switch {
	case q.style == 0:
		for _, b := range s {
			q.steps = append(q.steps, quantStep{exponent: int(b >> 3)})
		}
	case q.style <= 2 && len(s) >= 2:
		for ; len(s) >= 2; s = s[2:] {
			v := int(binary.BigEndian.Uint16(s))
			q.steps = append(q.steps, quantStep{v >> 11, v & 0x7ff})
		}
	default:
		return frame.Malformed("quantization style %d in %d bytes", q.style, len(s))
	}
	if c >= 0 {
		to.quants[c] = q
		return nil
	}
	for i := range to.quants {
		if !to.quants[i].own {
			to.quants[i] = q
		}
	}
	return nil
}

func (p *parser) rgn(s []byte, to *params) error {
	c, s, err := p.component(s)
	if err != nil {
		return err
	}
	if len(s) < 2 || s[0] != 0 {
		return frame.Malformed("region of interest of an unknown style")
	}
	to.roi[c] = int(s[1])
	return nil
}

// progressions reads the entries of POC.
func (p *parser) progressions(s []byte) ([]progression, error) {
	var out []progression
	for ; len(s) >= 7; s = s[7:] {
		e := progression{
			resFrom: int(s[0]), componentFrom: int(s[1]), layers: int(binary.BigEndian.Uint16(s[2:])), resTo: int(s[4]),
			compTo: int(s[5]), order: s[6],
		}
		if e.compTo == 0 {
			e.compTo = 256
		}
		if e.order > 4 || e.resTo <= e.resFrom || e.compTo <= e.componentFrom || e.layers < 1 {
			return nil, frame.Malformed("progression order change %v", s[:7])
		}
		out = append(out, e)
	}
	if len(s) > 0 || len(out) == 0 {
		return nil, frame.Malformed("POC of a wrong length")
	}
	return out, nil
}

// tileParts reads all tile-parts up to the end. A missing EOC, which many writers forget, is no error, and what follows it is
// padding.
func (p *parser) tileParts() error {
	for p.at+2 <= len(p.data) {
		m, err := p.marker()
		if err != nil {
			if p.padding(p.at) {
				return nil
			}
			return err
		}
		switch m {
		case markEOC:
			return nil
		case markSOT:
			if err := p.tilePart(); err != nil {
				return err
			}
		default:
			return frame.Malformed("marker %04x between tile-parts", m)
		}
	}
	return nil
}

// padding tells whether nothing but zero bytes is left.
func (p *parser) padding(at int) bool {
	return !slices.ContainsFunc(p.data[at:], func(b byte) bool { return b != 0 })
}

// tilePart reads a tile-part behind its SOT marker (A.4.2).
func (p *parser) tilePart() error {
	start := p.at - 2
	s, err := p.segment(markSOT)
	if err != nil {
		return err
	}
	if len(s) != 8 {
		return frame.Malformed("SOT of %d bytes", len(s))
	}
	n, length := int(binary.BigEndian.Uint16(s)), int(binary.BigEndian.Uint32(s[2:]))
	if n >= len(p.out.tiles) {
		return frame.Malformed("tile %d of %d", n, len(p.out.tiles))
	}
	end := start + length
	if length == 0 {
		end = len(p.data)
		if end >= 2 && binary.BigEndian.Uint16(p.data[end-2:]) == markEOC {
			end -= 2
		}
	}
	if end > len(p.data) || end < p.at {
		return frame.Malformed("tile %d declares %d bytes where %d are left", n, length, len(p.data)-start)
	}
	t := &p.out.tiles[n]
	if int(s[6]) != t.parts {
		return frame.Malformed("part %d of tile %d where part %d is due", s[6], n, t.parts)
	}
	if t.params == nil {
		t.params = p.main.clone()
	}
	if err := p.tileHeader(t, end); err != nil {
		return err
	}
	if p.ppm != nil {
		if err := p.takePacked(t); err != nil {
			return err
		}
	}
	body := p.data[p.at:end]
	if t.parts == 0 {
		t.body = slices.Clip(body)
	} else {
		t.body = append(t.body, body...)
	}
	t.parts++
	p.at = end
	return nil
}

// tileHeader reads the marker segments of a tile-part up to its SOD.
func (p *parser) tileHeader(t *tileData, end int) error {
	own := false // the tile has progression order changes
	for {
		m, err := p.marker()
		if err != nil {
			return err
		}
		if m == markSOD {
			if p.at > end {
				return frame.Malformed("a tile-part ends in its header")
			}
			return nil
		}
		s, err := p.segment(m)
		if err != nil {
			return err
		}
		switch {
		case m == markPPT:
			if len(s) < 1 {
				return frame.Malformed("empty PPT")
			}
			t.headers, t.packed = append(t.headers, s[1:]...), true
		case m == markPOC:
			// The tile's own changes replace the main header's; further tile-parts go on with them.
			if t.parts == 0 && !own {
				t.poc, own = nil, true
			}
			if err := p.parameter(m, s, t.params); err != nil {
				return err
			}
		case t.parts > 0 && (m == markCOD || m == markCOC || m == markQCD || m == markQCC || m == markRGN):
			return frame.Malformed("marker %04x in a later part of a tile", m)
		default:
			if err := p.parameter(m, s, t.params); err != nil {
				return err
			}
		}
	}
}

// takePacked gives a tile-part its share of the main header's packet headers (A.7.4).
func (p *parser) takePacked(t *tileData) error {
	if len(p.packed) < 4 {
		return frame.Malformed("no packed packet headers for a tile-part")
	}
	n := int64(binary.BigEndian.Uint32(p.packed))
	if n > int64(len(p.packed)-4) {
		return frame.Malformed("%d bytes of packed packet headers where %d are left", n, len(p.packed)-4)
	}
	t.headers, t.packed = append(t.headers, p.packed[4:4+n]...), true
	p.packed = p.packed[4+n:]
	return nil
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// ceilShift is ⌈a / 2^n⌉ of a number that may be below 0.
func ceilShift(a, n int) int { return -(-a >> n) }
