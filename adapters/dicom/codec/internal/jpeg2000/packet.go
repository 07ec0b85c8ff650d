package jpeg2000

import (
	"math/bits"

	"scrawl/adapters/dicom/codec/internal/frame"
)

// tagTree is a tag tree (B.10.2): the leaves, and above every 2×2 nodes one that holds their least value.
type tagTree struct {
	levels []tagLevel // leaves first
}

type tagLevel struct {
	w     int
	nodes []tagNode
}

type tagNode struct {
	low   uint16 // what is known: the value is at least low
	known bool   // the value is low
}

func newTagTree(w, h int) tagTree {
	var t tagTree
	for {
		t.levels = append(t.levels, tagLevel{w, make([]tagNode, w*h)})
		if w*h <= 1 {
			return t
		}
		w, h = (w+1)/2, (h+1)/2
	}
}

// below tells whether a leaf's value is below threshold, reading as many bits as it takes; value is right if it is.
func (t *tagTree) below(r *headerBits, x, y int, threshold uint16) (value uint16, is bool) {
	low := uint16(0)
	for i := len(t.levels) - 1; i >= 0; i-- {
		l := &t.levels[i]
		n := &l.nodes[y>>i*l.w+x>>i]
		n.low = max(n.low, low)
		for n.low < threshold && !n.known {
			if r.bit() == 1 {
				n.known = true
			} else {
				n.low++
			}
		}
		low = n.low
		if i == 0 {
			return n.low, n.known && n.low < threshold
		}
	}
	return 0, false
}

// headerBits reads the bits of a packet header (B.10.1): after a byte of 0xff the next one's uppermost bit is stuffed.
type headerBits struct {
	data     []byte
	at       int
	last     byte
	n        uint
	overread bool
}

func (r *headerBits) bit() uint32 {
	if r.n == 0 {
		r.n = 8
		if r.last == 0xff {
			r.n = 7
		}
		if r.at >= len(r.data) {
			r.overread = true
			r.last = 0
			return 0
		}
		r.last = r.data[r.at]
		r.at++
	}
	r.n--
	return uint32(r.last>>r.n) & 1
}

func (r *headerBits) bits(n int) uint32 {
	var v uint32
	for range n {
		v = v<<1 | r.bit()
	}
	return v
}

// end skips to the next whole byte.
func (r *headerBits) end() {
	if r.last == 0xff && r.at < len(r.data) {
		r.at++
	} else if r.last == 0xff {
		r.overread = true
	}
	r.n, r.last = 0, 0
}

// passes reads a number of coding passes (Table B.4).
func (r *headerBits) passes() int {
	if r.bit() == 0 {
		return 1
	}
	if r.bit() == 0 {
		return 2
	}
	if v := r.bits(2); v < 3 {
		return int(3 + v)
	}
	if v := r.bits(5); v < 31 {
		return int(6 + v)
	}
	return int(37 + r.bits(7))
}

// packets reads the packets of a tile in their order.
type packets struct {
	*tile
	at    int // in body
	hdrAt int // in headers, if packed
}

// read reads the packet of layer l of precinct k (B.9, B.10).
func (p *packets) read(tc *tileComponent, res *resolution, k, l int) error {
	if p.sop && p.at+6 <= len(p.body) && p.body[p.at] == 0xff && p.body[p.at+1] == markSOP&0xff {
		p.at += 6
	}
	r := headerBits{data: p.body, at: p.at}
	if p.packed {
		r = headerBits{data: p.headers, at: p.hdrAt}
	}
	filled := len(p.chunks)
	if r.bit() == 1 {
		if err := p.header(&r, tc, res, k, l); err != nil {
			return err
		}
	}
	r.end()
	if r.overread {
		return frame.Malformed("the data ends in a packet header")
	}
	if p.eph && r.at+2 <= len(r.data) && r.data[r.at] == 0xff && r.data[r.at+1] == markEPH&0xff {
		r.at += 2
	}
	if p.packed {
		p.hdrAt = r.at
	} else {
		p.at = r.at
	}
	for i := filled; i < len(p.chunks); i++ {
		c := &p.chunks[i]
		if int64(c.length) > int64(len(p.body)-p.at) {
			return frame.Malformed("a code block declares %d bytes where %d are left", c.length, len(p.body)-p.at)
		}
		c.offset = uint32(p.at)
		p.at += int(c.length)
	}
	return nil
}

// header reads what a packet says of each code block, and appends the chunks that will follow in its body.
func (p *packets) header(r *headerBits, tc *tileComponent, res *resolution, k, l int) error {
	pr := res.precinct(k)
	for i := range res.bands {
		pb := &pr.bands[i]
		planes := res.bands[i].planes + tc.roi
		for j := range pb.blocks {
			b := &pb.blocks[j]
			included := b.included && r.bit() == 1
			if !b.included {
				_, included = pb.inclusion.below(r, j%pb.w, j/pb.w, uint16(l+1))
			}
			if !included {
				continue
			}
			if !b.included {
				if err := b.include(r, pb, j); err != nil {
					return err
				}
			}
			if err := p.contribution(r, b, tc.style.blockStyle); err != nil {
				return err
			}
			// A block begins with the last of its upper plane's three passes.
			if own := planes - int(b.zeroPlanes); int(b.passes) > 3*own-2 {
				return frame.Malformed("a code block of %d passes in %d bit planes", b.passes, own)
			}
		}
	}
	return nil
}

// include reads the number of a block's bit planes that are zero.
func (b *codeBlock) include(r *headerBits, pb *precinctBand, j int) error {
	b.included = true
	for threshold := uint16(1); ; threshold++ {
		if v, ok := pb.zeroPlanes.below(r, j%pb.w, j/pb.w, threshold); ok {
			b.zeroPlanes = uint8(v)
			return nil
		}
		if threshold > maxPlanes || r.overread {
			return frame.Malformed("a code block of more than %d zero bit planes", maxPlanes)
		}
	}
}

// contribution reads the passes that a packet adds to a block, and their lengths: one for each codeword segment (B.10.6, B.10.7).
func (p *packets) contribution(r *headerBits, b *codeBlock, style byte) error {
	passes := r.passes()
	for r.bit() == 1 {
		if b.lengthBits++; b.lengthBits > 32 {
			return frame.Malformed("a code block's length takes more than 32 bits")
		}
	}
	for passes > 0 {
		n := min(passes, segmentPasses(int(b.passes), style))
		width := int(b.lengthBits) + bits.Len(uint(n)) - 1
		if width > 32 {
			return frame.Malformed("a code block's length takes more than 32 bits")
		}
		b.add(p.tile, chunk{length: r.bits(width), next: -1, passes: uint16(n)})
		passes -= n
		b.passes += uint16(n)
		if r.overread {
			return frame.Malformed("the data ends in a packet header")
		}
	}
	return nil
}

func (b *codeBlock) add(t *tile, c chunk) {
	n := int32(len(t.chunks))
	t.chunks = append(t.chunks, c)
	if b.last < 0 {
		b.first = n
	} else {
		t.chunks[b.last].next = n
	}
	b.last = n
}

// segmentPasses is the number of passes up to the end of the codeword segment that pass number done (from 0) belongs to (D.4.2,
// Table D.9).
func segmentPasses(done int, style byte) int {
	switch {
	case style&styleTermAll != 0:
		return 1
	case style&styleBypass == 0:
		return 3 * maxPlanes
	case done < firstRawPass:
		return firstRawPass - done
	case (done-firstRawPass)%3 == 2:
		return 1
	}
	return 2 - (done-firstRawPass)%3
}
