package jpeg

import (
	"scrawl/adapters/dicom/codec/internal/frame"
)

// zigzag gives the place of each coefficient, in rows (Figure A.6).
var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}

// dctScan decodes a sequential scan (annex F). Interleaved components come in units of h×v blocks each; the blocks of a lone one
// come row by row, without those that pad it to whole units (A.2).
func (d *decoder) dctScan(r *bitReader, list []scanComponent) error {
	across, down := ceilDiv(d.declared.Width, 8*d.hMax), ceilDiv(d.declared.Height, 8*d.vMax)
	alone := len(list) == 1
	if alone {
		across, down = ceilDiv(list[0].w, 8), ceilDiv(list[0].hgt, 8)
	}
	t := newTransform(d.precision)
	var dc [4]int32
	for unit := range across * down {
		if d.restart > 0 && unit > 0 && unit%d.restart == 0 {
			if err := nextRestart(r, unit/d.restart-1); err != nil {
				return err
			}
			dc = [4]int32{}
		}
		x, y := unit%across, unit/across
		for i := range list {
			c := &list[i]
			h, v := c.h, c.v
			if alone {
				h, v = 1, 1
			}
			for b := range h * v {
				if !t.block(r, c, &dc[i]) {
					return frame.Malformed("no such code in unit %d", unit)
				}
				t.inverse(c.samples[(y*v+b/h)*8*c.stride+(x*h+b%h)*8:], c.stride)
			}
		}
		if r.overread() {
			return frame.Malformed("the data ends in unit %d of %d", unit+1, across*down)
		}
	}
	return nil
}

// A transform decodes blocks and transforms them back: the integer method of Loeffler, Ligtenberg and Moschytz (1989) with 13
// fractional bits, and the intermediate bits that the Independent JPEG Group's library keeps, so that results equal its.
type transform struct {
	coefficients [64]int32 // in rows
	last         int       // the last coefficient in zigzag order that is not 0
	work         [64]int   // between columns and rows
	pass1        int       // fractional bits between columns and rows
	precision    int
}

func newTransform(precision int) *transform {
	t := &transform{pass1: 2, precision: precision}
	if precision > 8 {
		t.pass1 = 1
	}
	return t
}

// block reads a block's coefficients (F.2.2) and undoes their quantization.
func (t *transform) block(r *bitReader, c *scanComponent, dc *int32) bool {
	t.coefficients = [64]int32{}
	if r.n < 32 {
		r.fill()
	}
	n, ok := c.dc.decode(r)
	if !ok || n > 15 {
		return false
	}
	*dc = int32(int16(*dc + extended(r.bits(int(n)), int(n))))
	t.coefficients[0] = *dc * int32(c.quant[0])
	t.last = 0
	acc, bits := r.acc, r.n
	for k := 1; k < 64; k++ {
		if bits < 32 {
			r.acc, r.n = acc, bits
			r.fill()
			acc, bits = r.acc, r.n
		}
		var run int
		var v int32
		if e := c.ac.whole[acc>>(uint(bits-fastBits)&63)&(1<<fastBits-1)]; e != 0 {
			bits -= int(e & 0xff)
			run, v = int(e>>8&15), int32(e)>>16
		} else {
			r.n = bits
			rs, ok := c.ac.decode(r)
			if !ok {
				return false
			}
			size := int(rs & 15)
			run, v = int(rs>>4), extended(r.bits(size), size)
			bits = r.n
		}
		if v == 0 {
			if run != 15 {
				break
			}
			k += 15
			continue
		}
		if k += run; k > 63 {
			return false
		}
		t.coefficients[zigzag[k]&63] = v * int32(c.quant[k])
		t.last = k
	}
	r.n = bits
	return true
}

// Constants of the method, in 13 fractional bits.
const (
	fix0298 = 2446
	fix0390 = 3196
	fix0541 = 4433
	fix0765 = 6270
	fix0899 = 7373
	fix1175 = 9633
	fix1501 = 12299
	fix1847 = 15137
	fix1961 = 16069
	fix2053 = 16819
	fix2562 = 20995
	fix3072 = 25172
)

// inverse transforms the block into 8×8 samples (A.3.3).
func (t *transform) inverse(out []uint16, stride int) {
	centre, most := 1<<(t.precision-1), 1<<t.precision-1
	if t.last == 0 {
		v := uint16(max(0, min((int(t.coefficients[0])+4)>>3+centre, most)))
		for y := range 8 {
			row := out[y*stride:][:8]
			for x := range row {
				row[x] = v
			}
		}
		return
	}
	work := &t.work
	shift := uint(13 - t.pass1) // masked below, which spares a test at every shift
	half := 1 << (shift - 1)
	for x := range 8 {
		in := [8]int{
			int(t.coefficients[x]), int(t.coefficients[8+x]), int(t.coefficients[16+x]), int(t.coefficients[24+x]),
			int(t.coefficients[32+x]), int(t.coefficients[40+x]), int(t.coefficients[48+x]), int(t.coefficients[56+x]),
		}
		if in[1]|in[2]|in[3]|in[4]|in[5]|in[6]|in[7] == 0 {
			for y := range 8 {
				work[8*y+x] = in[0] << t.pass1
			}
			continue
		}
		inverse1D(&in)
		for y, v := range in {
			work[8*y+x] = (v + half) >> (shift & 63)
		}
	}
	shift = uint(13 + t.pass1 + 3)
	half = 1<<(shift-1) + centre<<shift
	for y := range 8 {
		in := (*[8]int)(work[8*y:])
		inverse1D(in)
		row := (*[8]uint16)(out[y*stride:])
		for x, v := range in {
			row[x] = uint16(max(0, min((v+half)>>(shift&63), most)))
		}
	}
}

// inverse1D is the one-dimensional transform in place, scaled by √8 and 2^13.
func inverse1D(x *[8]int) {
	z := (x[2] + x[6]) * fix0541
	e2, e3 := z-x[6]*fix1847, z+x[2]*fix0765
	e0, e1 := (x[0]+x[4])<<13, (x[0]-x[4])<<13
	a0, a3, a1, a2 := e0+e3, e0-e3, e1+e2, e1-e2

	z1, z2, z3, z4 := x[7]+x[1], x[5]+x[3], x[7]+x[3], x[5]+x[1]
	z5 := (z3 + z4) * fix1175
	z1, z2, z3, z4 = -z1*fix0899, -z2*fix2562, z5-z3*fix1961, z5-z4*fix0390
	b0 := x[7]*fix0298 + z1 + z3
	b1 := x[5]*fix2053 + z2 + z4
	b2 := x[3]*fix3072 + z2 + z3
	b3 := x[1]*fix1501 + z1 + z4
	x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7] = a0+b3, a1+b2, a2+b1, a3+b0, a3-b0, a2-b1, a1-b2, a0-b3
}
