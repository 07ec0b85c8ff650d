package jpeg2000

import (
	"scrawl/adapters/dicom/codec/internal/frame"
)

// Code block styles (Table A.19).
const (
	styleBypass  = 1 << iota // raw bits for the lower planes' first two passes
	styleReset               // contexts start anew with each pass
	styleTermAll             // every pass is a codeword segment
	styleCausal              // no context reaches into the next stripe
	stylePredictable
	styleSymbols // a symbol after each clean-up pass tells of damage
	styleHT
)

// Contexts (Table D.1 to D.5): nine for significance, five for signs, three for refinement.
const (
	ctxSign     = 9
	ctxRefine   = 14
	ctxRun      = 17
	ctxUniform  = 18
	contexts    = 19
	maxPlanes   = 30 // a coefficient has its planes, half a step and a sign in 32 bits
	signFlipBit = 0x80
	// firstRawPass is the first pass that bypasses the arithmetic coder: that of the fifth plane.
	firstRawPass = 10
)

// Flags of a column of four samples, those that a stripe scans one below the other, in one word. Sample j has the nine
// significances of its neighbourhood at bits 3j to 3j+8, row by row from the upper left, its own in the middle; as neighbourhoods
// overlap, the word holds the significance of six rows of three samples. From bit 18 on come signs of the middle column, the row
// above first, each but the first and the last followed by two bits of that sample: that it has been refined, and that a pass of
// this plane has visited it.
const (
	flagNeighbours = 0x1ef
	flagSelf       = 1 << 4
	flagSignAbove  = 1 << 18
	flagSign       = 1 << 19
	flagRefined    = 1 << 20
	flagVisited    = 1 << 21
	flagSignBelow  = 1 << 31
	flagsSelf      = flagSelf | flagSelf<<3 | flagSelf<<6 | flagSelf<<9
	flagsVisited   = flagVisited | flagVisited<<3 | flagVisited<<6 | flagVisited<<9
	flagsAround    = 1<<18 - 1
)

// blockDecoder decodes code blocks, one after the other (annex D). It keeps its memory between them.
type blockDecoder struct {
	mq      mq
	raw     rawBits
	w, h    int
	stride  int      // of flags: a column at either side
	flags   []uint32 // a stripe above and one below
	data    []int32  // [h][w]: twice the coefficient, with half a step of the last plane decoded
	scratch []byte
	causal  bool
	zc      *[512]uint8
}

// decode decodes a block of a band into d.data.
func (d *blockDecoder) decode(t *tile, b *codeBlock, bandPlanes, orientation int, style byte) error {
	d.prepare(b, orientation, style)
	plane := bandPlanes - int(b.zeroPlanes) - 1
	d.mq.resetContexts()
	kind := 2 // a block begins with a clean-up pass
	chunk := b.first
	for done := 0; done < int(b.passes); {
		end := done + segmentPasses(done, style)
		var segment []byte
		n := 0
		segment, n, chunk = d.gather(t, chunk, end-done)
		raw := style&styleBypass != 0 && done >= firstRawPass && kind != 2
		if raw {
			d.raw.start(segment)
		} else {
			d.mq.start(append(segment, 0xff, 0xff))
		}
		for range n {
			// An encoder may cut a segment short; what is read from behind its end proves nothing.
			if !d.pass(kind, plane, raw, style) && d.mq.at+2 < len(d.mq.data) {
				return frame.Malformed("a code block is damaged: no segmentation symbol after plane %d", plane)
			}
			if kind++; kind == 3 {
				kind = 0
				plane--
			}
		}
		done += n
	}
	return nil
}

// prepare clears the memory for a block.
func (d *blockDecoder) prepare(b *codeBlock, orientation int, style byte) {
	d.w, d.h = b.dx(), b.dy()
	d.stride = d.w + 2
	d.causal = style&styleCausal != 0
	d.zc = &zeroCoding[orientation]
	d.flags = zeroed(d.flags, d.stride*((d.h+3)/4+2))
	d.data = zeroed(d.data, d.w*d.h)
}

func zeroed[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// gather joins the chunks of one codeword segment, of at most the given number of passes.
func (d *blockDecoder) gather(t *tile, at int32, atMost int) (segment []byte, passes int, next int32) {
	segment = d.scratch[:0]
	for at >= 0 && passes < atMost {
		c := &t.chunks[at]
		segment = append(segment, t.body[c.offset:c.offset+c.length]...)
		passes += int(c.passes)
		at = c.next
	}
	segment = append(segment, 0, 0)[:len(segment)]
	d.scratch = segment
	return segment, passes, at
}

// pass decodes one pass, and tells whether the symbol that may follow it is right.
func (d *blockDecoder) pass(kind, plane int, raw bool, style byte) (right bool) {
	right = true
	switch {
	case kind == 0 && raw:
		d.significanceRaw(plane)
	case kind == 0:
		d.significance(plane)
	case kind == 1 && raw:
		d.refineRaw(plane)
	case kind == 1:
		d.refine(plane)
	default:
		d.cleanUp(plane)
		if style&styleSymbols != 0 {
			v := d.mq.uniform() << 3
			v |= d.mq.uniform() << 2
			v |= d.mq.uniform() << 1
			right = v|d.mq.uniform() == 0xa
		}
	}
	if style&styleReset != 0 {
		d.mq.resetContexts()
	}
	return right
}

// significance is the significance propagation pass (D.3.1): samples that are not significant but have significant neighbours.
func (d *blockDecoder) significance(plane int) {
	value := int32(3) << plane
	q := d.mq.d
	for y := 0; y < d.h; y += 4 {
		rows := uint(min(4, d.h-y))
		at := (y/4+1)*d.stride + 1
		for x := range d.w {
			f := d.flags[at+x]
			if f&flagsAround == 0 {
				continue
			}
			for j := uint(0); j < rows; j++ {
				g := f >> (3 * j)
				if g&flagSelf != 0 || g&flagNeighbours == 0 {
					continue
				}
				k := uint32(d.zc[g&0x1ff])
				cx := d.mq.cx[k]
				q -= int64(cx &^ 0xffff)
				symbol := cx & 1
				if q < 0 {
					symbol, q = d.mq.exchange(k, q)
				}
				if symbol != 0 {
					s := signCoding[signIndex(f, d.flags[at+x-1], d.flags[at+x+1], j)]
					k := uint32(s & 0x7f)
					cx := d.mq.cx[k]
					q -= int64(cx &^ 0xffff)
					symbol := cx & 1
					if q < 0 {
						symbol, q = d.mq.exchange(k, q)
					}
					symbol ^= uint32(s >> 7)
					d.data[(y+int(j))*d.w+x] = (value ^ -int32(symbol)) + int32(symbol)
					d.spread(at+x, j, symbol)
					f |= (flagSelf | flagSign*symbol) << (3 * j)
				}
				f |= flagVisited << (3 * j)
			}
			d.flags[at+x] = f
		}
	}
	d.mq.d = q
}

// refine is the magnitude refinement pass (D.3.3): samples that earlier planes have found significant.
func (d *blockDecoder) refine(plane int) {
	half := int32(1) << plane
	q := d.mq.d
	for y := 0; y < d.h; y += 4 {
		rows := uint(min(4, d.h-y))
		at := (y/4+1)*d.stride + 1
		for x := range d.w {
			f := d.flags[at+x]
			if f&flagsSelf == 0 {
				continue
			}
			for j := uint(0); j < rows; j++ {
				g := f >> (3 * j)
				if g&(flagSelf|flagVisited) != flagSelf {
					continue
				}
				k := uint32(ctxRefine)
				if g&flagRefined != 0 {
					k = ctxRefine + 2
				} else if g&flagNeighbours != 0 {
					k = ctxRefine + 1
				}
				cx := d.mq.cx[k]
				q -= int64(cx &^ 0xffff)
				symbol := cx & 1
				if q < 0 {
					symbol, q = d.mq.exchange(k, q)
				}
				p := &d.data[(y+int(j))*d.w+x]
				*p = refined(*p, half, symbol)
				f |= flagRefined << (3 * j)
			}
			d.flags[at+x] = f
		}
	}
	d.mq.d = q
}

// refined moves a value from the middle of its interval to that of the upper half for a 1, of the lower half for a 0.
func refined(v, half int32, symbol uint32) int32 {
	sign := v >> 31
	move := half ^ (int32(symbol) - 1) - (int32(symbol) - 1)
	return v + (move ^ sign) - sign
}

// cleanUp is the clean-up pass (D.3.4): all samples that no other pass of the plane has visited; columns with nothing significant
// around are one decision.
func (d *blockDecoder) cleanUp(plane int) {
	value := int32(3) << plane
	q := d.mq.d
	for y := 0; y < d.h; y += 4 {
		rows := uint(min(4, d.h-y))
		at := (y/4+1)*d.stride + 1
		for x := range d.w {
			f := d.flags[at+x]
			j := uint(0)
			significant := false
			if f == 0 && rows == 4 {
				cx := d.mq.cx[ctxRun]
				q -= int64(cx &^ 0xffff)
				symbol := cx & 1
				if q < 0 {
					symbol, q = d.mq.exchange(ctxRun, q)
				}
				if symbol == 0 {
					continue
				}
				d.mq.d = q
				j = uint(d.mq.uniform() << 1)
				j |= uint(d.mq.uniform())
				q = d.mq.d
				significant = true
			}
			for ; j < rows; j++ {
				g := f >> (3 * j)
				if !significant {
					if g&(flagSelf|flagVisited) != 0 {
						continue
					}
					k := uint32(d.zc[g&0x1ff])
					cx := d.mq.cx[k]
					q -= int64(cx &^ 0xffff)
					symbol := cx & 1
					if q < 0 {
						symbol, q = d.mq.exchange(k, q)
					}
					if symbol == 0 {
						continue
					}
				}
				significant = false
				s := signCoding[signIndex(f, d.flags[at+x-1], d.flags[at+x+1], j)]
				k := uint32(s & 0x7f)
				cx := d.mq.cx[k]
				q -= int64(cx &^ 0xffff)
				symbol := cx & 1
				if q < 0 {
					symbol, q = d.mq.exchange(k, q)
				}
				symbol ^= uint32(s >> 7)
				d.data[(y+int(j))*d.w+x] = (value ^ -int32(symbol)) + int32(symbol)
				d.spread(at+x, j, symbol)
				f |= (flagSelf | flagSign*symbol) << (3 * j)
			}
			d.flags[at+x] = f &^ flagsVisited
		}
	}
	d.mq.d = q
}

// significanceRaw is significance with raw bits.
func (d *blockDecoder) significanceRaw(plane int) {
	value := int32(3) << plane
	for y := 0; y < d.h; y += 4 {
		rows := uint(min(4, d.h-y))
		at := (y/4+1)*d.stride + 1
		for x := range d.w {
			f := d.flags[at+x]
			if f&flagsAround == 0 {
				continue
			}
			for j := uint(0); j < rows; j++ {
				g := f >> (3 * j)
				if g&flagSelf != 0 || g&flagNeighbours == 0 {
					continue
				}
				if d.raw.bit() != 0 {
					sign := d.raw.bit()
					d.data[(y+int(j))*d.w+x] = (value ^ -int32(sign)) + int32(sign)
					d.spread(at+x, j, sign)
					f |= (flagSelf | flagSign*sign) << (3 * j)
				}
				f |= flagVisited << (3 * j)
			}
			d.flags[at+x] = f
		}
	}
}

// refineRaw is refine with raw bits.
func (d *blockDecoder) refineRaw(plane int) {
	half := int32(1) << plane
	for y := 0; y < d.h; y += 4 {
		rows := uint(min(4, d.h-y))
		at := (y/4+1)*d.stride + 1
		for x := range d.w {
			f := d.flags[at+x]
			for j := uint(0); j < rows; j++ {
				if f>>(3*j)&(flagSelf|flagVisited) != flagSelf {
					continue
				}
				p := &d.data[(y+int(j))*d.w+x]
				*p = refined(*p, half, d.raw.bit())
				f |= flagRefined << (3 * j)
			}
			d.flags[at+x] = f
		}
	}
}

// spread tells the columns around that sample j of column i is significant; the column's own word is the caller's.
func (d *blockDecoder) spread(i int, j uint, sign uint32) {
	d.flags[i-1] |= 1 << (3*j + 5)
	d.flags[i+1] |= 1 << (3*j + 3)
	switch {
	case j == 0 && !d.causal:
		above := d.flags[i-d.stride-1 : i-d.stride+2]
		above[0] |= 1 << 17
		above[1] |= 1<<16 | flagSignBelow*sign
		above[2] |= 1 << 15
	case j == 3:
		below := d.flags[i+d.stride-1 : i+d.stride+2]
		below[0] |= 1 << 2
		below[1] |= 1<<1 | flagSignAbove*sign
		below[2] |= 1
	}
}

// signIndex gathers what the sign of sample j depends on: from its column and those beside it the significances of four
// neighbours (bits 1, 3, 5, 7: above, left, right, below) and before each its sign.
func signIndex(f, left, right uint32, j uint) uint32 {
	s := 3 * j
	above := f >> 18 & 1
	if j > 0 {
		above = f >> (16 + s) & 1
	}
	return f>>s&0xaa | above | left>>(19+s)&1<<2 | right>>(19+s)&1<<4 | f>>(22+s)&1<<6
}

// signCoding gives the context of a sign in the lower bits and whether the symbol is flipped (Tables D.2, D.3).
var signCoding = func() (t [256]uint8) {
	for i := range t {
		toward := func(bit int) int { // +1 for a positive neighbour, −1 for a negative one
			return (i >> (bit + 1) & 1) * (1 - 2*(i>>bit&1))
		}
		v := max(-1, min(1, toward(0)+toward(6)))
		h := max(-1, min(1, toward(2)+toward(4)))
		flip := uint8(0)
		if h < 0 || h == 0 && v < 0 {
			h, v, flip = -h, -v, signFlipBit
		}
		k := ctxSign + v // h == 0
		if h == 1 {
			k = ctxSign + 3 + v
		}
		t[i] = uint8(k) | flip
	}
	return t
}()

// zeroCoding gives the context of a significance from the nine flags around, for each orientation of a band (Table D.1).
var zeroCoding = func() (t [4][512]uint8) {
	for i := range 512 {
		bit := func(n int) int { return i >> n & 1 }
		v, h := bit(1)+bit(7), bit(3)+bit(5)
		d := bit(0) + bit(2) + bit(6) + bit(8)
		t[bandLL][i] = zeroCodingLow(h, v, d)
		t[bandLH][i] = t[bandLL][i]
		t[bandHL][i] = zeroCodingLow(v, h, d)
		t[bandHH][i] = zeroCodingHigh(h+v, d)
	}
	return t
}()

func zeroCodingLow(h, v, d int) uint8 {
	switch {
	case h == 2:
		return 8
	case h == 1 && v >= 1:
		return 7
	case h == 1 && d >= 1:
		return 6
	case h == 1:
		return 5
	case v == 2:
		return 4
	case v == 1:
		return 3
	}
	return uint8(min(d, 2))
}

func zeroCodingHigh(hv, d int) uint8 {
	switch {
	case d >= 3:
		return 8
	case d == 2:
		return uint8(6 + min(hv, 1))
	case d == 1:
		return uint8(3 + min(hv, 2))
	}
	return uint8(min(hv, 2))
}
