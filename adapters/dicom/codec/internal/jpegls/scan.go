package jpegls

import (
	"encoding/binary"
	"math/bits"

	"scrawl/adapters/dicom/codec/internal/frame"
)

// lines decodes a scan, line by line. Lines that two scans share are interleaved in d.pix, which grows with what has been decoded,
// for a few bytes can declare a large image.
func (d *decoder) lines(c *coder, planes []int, interleave int) error {
	w, n := d.declared.Width, len(planes)
	if interleave == interleaveNone || interleave == interleaveLine {
		return d.planarLines(c, planes)
	}
	// A line holds a pixel more at either end, for the neighbours beyond the edges (A.2.1).
	above, line := make([]int32, (w+2)*n), make([]int32, (w+2)*n)
	for y := range d.declared.Height {
		if err := d.beginLine(c, y, func() { clear(above) }); err != nil {
			return err
		}
		extend(above, line, n)
		if !c.sampleLine(line, above, n) {
			return frame.Malformed("the data ends or makes no sense in line %d", y+1)
		}
		d.store(y, planes, line[n:])
		above, line = line, above
	}
	return nil
}

// planarLines decodes lines of one component each.
func (d *decoder) planarLines(c *coder, planes []int) error {
	w, n := d.declared.Width, len(planes)
	above, line := make([][]int32, n), make([][]int32, n)
	for i := range planes {
		above[i], line[i] = make([]int32, w+2), make([]int32, w+2)
	}
	runs := make([]int, n)
	for y := range d.declared.Height {
		err := d.beginLine(c, y, func() {
			clear(runs)
			for _, a := range above {
				clear(a)
			}
		})
		if err != nil {
			return err
		}
		for i := range planes {
			extend(above[i], line[i], 1)
			c.runIndex = runs[i]
			if !c.line(line[i], above[i]) {
				return frame.Malformed("the data ends or makes no sense in line %d", y+1)
			}
			runs[i] = c.runIndex
			d.store(y, planes[i:i+1], line[i][1:])
		}
		above, line = line, above
	}
	return nil
}

// beginLine starts everything anew where a restart marker is due.
func (d *decoder) beginLine(c *coder, y int, clearLines func()) error {
	if d.restart == 0 || y == 0 || y%d.restart != 0 {
		return nil
	}
	at := c.at
	for at+1 < len(c.data) && (c.data[at] != 0xff || c.data[at+1] < 0x80 || c.data[at+1] == 0xff) {
		at++
	}
	if want := byte(markRST0 + (y/d.restart-1)%8); at+1 >= len(c.data) || c.data[at+1] != want {
		return frame.Malformed("no restart marker before line %d", y+1)
	}
	c.bitReader = bitReader{data: c.data, at: at + 2}
	c.begin()
	clearLines()
	return nil
}

// extend sets what lies beyond the edges of the line above and of that to decode, of pixels of n samples: at the right the last
// pixel again, at the left the first of the line above.
func extend(above, line []int32, n int) {
	end := len(above) - n
	copy(above[end:], above[end-n:end])
	copy(line[:n], above[n:2*n])
}

// store puts a line into the image.
func (d *decoder) store(y int, planes []int, line []int32) {
	w, n := d.declared.Width, len(planes)
	samples := w * len(d.ids)
	if need := (y + 1) * samples; need > len(d.pix) {
		if need > cap(d.pix) {
			grown := make([]int32, need, min(d.declared.Samples(), max(2*need, 16*len(d.data))))
			copy(grown, d.pix)
			d.pix = grown
		}
		d.pix = d.pix[:need]
	}
	row := d.pix[y*samples:]
	for i, p := range planes {
		for x := range w {
			row[x*len(d.ids)+p] = line[x*n+i]
		}
	}
}

// A context is the statistics of samples in like surroundings (A.2.1).
type context struct {
	a, b, c, n int32
}

const contexts = 365

// coder holds the state of a scan.
type coder struct {
	bitReader
	near, maxVal, span, qbpp, limit int32 // span: what errors are modulo, RANGE·(2·NEAR+1)
	step                            int32 // 2·NEAR+1
	reset                           int32
	initial                         int32 // of A
	contexts                        [contexts]context
	interrupt                       [2]context // of a run's end: by RItype; b counts negative errors
	runIndex                        int
	quantized                       []int8 // of gradients, from −maxVal on
}

// runOrder is J (A.2.1).
var runOrder = [32]uint8{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15}

func newCoder(p preset, precision, near int) (*coder, error) {
	if p.maxVal == 0 {
		p.maxVal = 1<<precision - 1
	}
	if p.maxVal >= 1<<precision || near > min(255, p.maxVal/2) {
		return nil, frame.Malformed("a greatest value of %d and near-lossless by %d in %d bits", p.maxVal, near, precision)
	}
	p = p.orDefaults(near)
	if p.t1 < near+1 || p.t1 > p.t2 || p.t2 > p.t3 || p.t3 > p.maxVal || p.reset < 3 {
		return nil, frame.Malformed("thresholds %d, %d, %d for values up to %d, reset %d", p.t1, p.t2, p.t3, p.maxVal, p.reset)
	}
	errors := p.maxVal + 1
	if near > 0 {
		errors = (p.maxVal+2*near)/(2*near+1) + 1
	}
	bpp := max(2, bits.Len(uint(p.maxVal)))
	c := &coder{
		near: int32(near), maxVal: int32(p.maxVal), step: int32(2*near + 1), span: int32(errors * (2*near + 1)),
		qbpp: int32(bits.Len(uint(errors - 1))), limit: int32(2 * (bpp + max(8, bpp))), reset: int32(p.reset),
		initial: int32(max(2, (errors+32)/64)), quantized: make([]int8, 2*p.maxVal+1),
	}
	for i := range c.quantized {
		c.quantized[i] = p.quantize(i-p.maxVal, near)
	}
	c.begin()
	return c, nil
}

// orDefaults fills what LSE has not set (C.2.4.1.1.1).
func (p preset) orDefaults(near int) preset {
	or := func(v *int, d, least int) {
		if *v != 0 {
			return
		}
		if d < least || d > p.maxVal {
			d = least
		}
		*v = d
	}
	if p.maxVal >= 128 {
		f := (min(p.maxVal, 4095) + 128) / 256
		or(&p.t1, f*(3-2)+2+3*near, near+1)
		or(&p.t2, f*(7-3)+3+5*near, p.t1)
		or(&p.t3, f*(21-4)+4+7*near, p.t2)
	} else {
		f := 256 / (p.maxVal + 1)
		or(&p.t1, max(2, 3/f+3*near), near+1)
		or(&p.t2, max(3, 7/f+5*near), p.t1)
		or(&p.t3, max(4, 21/f+7*near), p.t2)
	}
	if p.reset == 0 {
		p.reset = 64
	}
	return p
}

// quantize puts a gradient into one of nine regions (A.3.3).
func (p preset) quantize(d, near int) int8 {
	q := int8(0)
	switch m := max(d, -d); {
	case m <= near:
	case m < p.t1:
		q = 1
	case m < p.t2:
		q = 2
	case m < p.t3:
		q = 3
	default:
		q = 4
	}
	if d < 0 {
		return -q
	}
	return q
}

// begin gives all statistics their initial values (A.2.1).
func (c *coder) begin() {
	for i := range c.contexts {
		c.contexts[i] = context{a: c.initial, n: 1}
	}
	c.interrupt = [2]context{{a: c.initial, n: 1}, {a: c.initial, n: 1}}
	c.runIndex = 0
}

// line decodes a line of one component; line and above hold a sample more at either end.
func (c *coder) line(line, above []int32) bool {
	above = above[:len(line)]
	corner, up := above[0], above[1]
	left := line[0]
	for x := 1; x < len(line)-1; {
		right := above[x+1]
		q := c.context(right-up, up-corner, corner-left)
		if q != 0 {
			left = c.regular(q, left, up, corner)
			line[x] = left
			corner, up = up, right
			x++
			if c.n < c.fake {
				return false
			}
			continue
		}
		n, ended, ok := c.run(len(line) - 1 - x)
		if !ok {
			return false
		}
		for range n {
			line[x] = left
			x++
		}
		if !ended {
			up = above[x]
			left = c.interrupted(left, up, false)
			line[x] = left
			x++
			c.runIndex = max(c.runIndex-1, 0)
		}
		if x < len(line) {
			corner, up = above[x-1], above[x]
		}
		if c.n < c.fake {
			return false
		}
	}
	return true
}

// sampleLine decodes a line of pixels of n samples; a run is of whole pixels (A.7, B.3).
func (c *coder) sampleLine(line, above []int32, n int) bool {
	for x := n; x < len(line)-n; {
		var q [4]int32
		flat := true
		for i := range n {
			left, up, corner, right := line[x-n+i], above[x+i], above[x-n+i], above[x+n+i]
			q[i] = c.context(right-up, up-corner, corner-left)
			flat = flat && q[i] == 0
		}
		if !flat {
			for i := range n {
				line[x+i] = c.regular(q[i], line[x-n+i], above[x+i], above[x-n+i])
			}
			x += n
		} else {
			count, ended, ok := c.run((len(line) - n - x) / n)
			if !ok {
				return false
			}
			for range count * n {
				line[x] = line[x-n]
				x++
			}
			if !ended {
				for i := range n {
					line[x+i] = c.interrupted(line[x-n+i], above[x+i], true)
				}
				x += n
				c.runIndex = max(c.runIndex-1, 0)
			}
		}
		if c.n < c.fake {
			return false
		}
	}
	return true
}

// context numbers the surroundings by their gradients (A.3.4), below 0 for those whose signs are swapped.
func (c *coder) context(d1, d2, d3 int32) int32 {
	q := c.quantized
	return 81*int32(q[d1+c.maxVal]) + 9*int32(q[d2+c.maxVal]) + int32(q[d3+c.maxVal])
}

// regular decodes a sample outside runs (A.4 to A.6).
func (c *coder) regular(q, left, up, corner int32) int32 {
	sign := q >> 31
	q = (q ^ sign) - sign
	s := &c.contexts[q]
	// The median predictor, its bias corrected.
	low, high := min(left, up), max(left, up)
	p := left + up - corner
	if corner >= high {
		p = low
	} else if corner <= low {
		p = high
	}
	p = max(0, min(p+(s.c^sign)-sign, c.maxVal))
	k := golomb(s.a, s.n)
	m := c.mapped(k, c.limit)
	e := m>>1 ^ -(m & 1)
	if k == 0 && c.near == 0 && 2*s.b <= -s.n {
		e = ^e
	}
	s.update(e, c.step, c.reset)
	return c.reconstruct(p, (e^sign)-sign)
}

// golomb is k (A.5.1): the least for which n·2^k is at least a.
func golomb(a, n int32) uint {
	k := bits.Len32(uint32(a)) - bits.Len32(uint32(n))
	if k < 0 {
		return 0
	}
	if n<<k < a {
		k++
	}
	return uint(k)
}

func (s *context) update(e, step, reset int32) {
	s.b += e * step
	s.a += max(e, -e)
	if s.n == reset {
		s.a >>= 1
		s.b >>= 1
		s.n >>= 1
	}
	s.n++
	switch {
	case s.b <= -s.n:
		s.b = max(s.b+s.n, 1-s.n)
		s.c = max(s.c-1, -128)
	case s.b > 0:
		s.b = min(s.b-s.n, 0)
		s.c = min(s.c+1, 127)
	}
}

// reconstruct adds an error to a prediction (A.4.4, A.4.5).
func (c *coder) reconstruct(p, e int32) int32 {
	v := p + e*c.step
	if v < -c.near {
		v += c.span
	} else if v > c.maxVal+c.near {
		v -= c.span
	}
	return max(0, min(v, c.maxVal))
}

// run reads the length of a run (A.7.1) of at most n pixels, and whether it goes to the line's end.
func (c *coder) run(n int) (length int, ended, ok bool) {
	for length < n {
		order := uint(runOrder[c.runIndex])
		c.fill()
		if c.bits(1) == 0 {
			if order > 0 {
				length += int(c.bits(order))
			}
			return length, false, length < n
		}
		if length+1<<order > n {
			return n, true, true
		}
		length += 1 << order
		c.runIndex = min(c.runIndex+1, 31)
	}
	return n, true, true
}

// interrupted decodes the sample that ends a run (A.7.2). A pixel of several samples counts as one that differs from the run.
func (c *coder) interrupted(left, up int32, pixel bool) int32 {
	kind, p, sign := int32(0), up, int32(0)
	if d := left - up; !pixel && max(d, -d) <= c.near {
		kind, p = 1, left
	} else if d > 0 {
		sign = -1
	}
	s := &c.interrupt[kind]
	k := golomb(s.a+(s.n>>1)*kind, s.n)
	m := c.mapped(k, c.limit-int32(runOrder[c.runIndex])-1)
	t := m + kind
	e := (t + 1) >> 1
	if (k != 0 || 2*s.b >= s.n) == (t&1 == 1) {
		e = -e
	}
	if e < 0 {
		s.b++
	}
	s.a += (m + 1 - kind) >> 1
	if s.n == c.reset {
		s.a >>= 1
		s.b >>= 1
		s.n >>= 1
	}
	s.n++
	return c.reconstruct(p, (e^sign)-sign)
}

// mapped reads a mapped error: a Golomb code of order k of limited length (A.5.3).
func (c *coder) mapped(k uint, limit int32) int32 {
	c.fill()
	zeros := bits.LeadingZeros64(c.acc)
	if zeros < c.n {
		c.skip(uint(zeros) + 1)
	} else {
		zeros = c.longZeros(int(limit))
	}
	c.fill()
	if int32(zeros) < limit-c.qbpp-1 {
		return int32(zeros)<<k + int32(c.bits(k))
	}
	return int32(c.bits(uint(c.qbpp))) + 1
}

// longZeros takes zeros, of which there are more than bits at hand, and the one behind them.
func (r *bitReader) longZeros(limit int) int {
	total := 0
	for total <= limit {
		zeros := bits.LeadingZeros64(r.acc)
		if zeros < r.n {
			r.skip(uint(zeros) + 1)
			return total + zeros
		}
		total += r.n
		r.acc, r.n = 0, 0
		r.fill()
	}
	return total
}

// bitReader reads the bits of a scan: after a byte of 0xff comes one of seven bits, unless it is a marker. Behind the end come
// ones, which n < fake tells of.
type bitReader struct {
	data []byte
	at   int
	acc  uint64 // the next bit uppermost
	n    int    // bits in acc
	fake int    // of them behind the end
	ff   bool   // the last byte was 0xff
}

func (r *bitReader) fill() {
	if r.n >= 32 {
		return
	}
	if !r.ff && r.at+4 <= len(r.data) {
		if v := binary.BigEndian.Uint32(r.data[r.at:]); (^v-0x01010101)&v&0x80808080 == 0 {
			r.acc |= uint64(v) << (32 - r.n)
			r.n += 32
			r.at += 4
			return
		}
	}
	for r.n <= 56 {
		width := 8
		b := byte(0xff)
		switch {
		case r.at >= len(r.data) || r.data[r.at] == 0xff && (r.at+1 >= len(r.data) || r.data[r.at+1] >= 0x80):
			r.fake += 8
		default:
			b = r.data[r.at]
			r.at++
			if r.ff {
				width = 7
			}
			r.ff = b == 0xff
		}
		r.acc |= uint64(b) << (64 - width) >> r.n
		r.n += width
	}
}

// bits takes n ≤ 32 bits.
func (r *bitReader) bits(n uint) uint32 {
	v := uint32(r.acc >> 32 >> (32 - n))
	r.skip(n)
	return v
}

func (r *bitReader) skip(n uint) {
	r.acc <<= n
	r.n -= int(n)
}
