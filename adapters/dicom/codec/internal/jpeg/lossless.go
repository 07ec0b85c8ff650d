package jpeg

import (
	"scrawl/adapters/dicom/codec/internal/frame"
)

// losslessScan decodes a scan of the lossless process (annex H): every sample is the difference from a prediction by its
// neighbours, of samples without their lowest bits, which the point transform drops.
func (d *decoder) losslessScan(r *bitReader, list []scanComponent, predictor, pointTransform int) error {
	switch {
	case predictor < 1 || predictor > 7:
		return frame.Malformed("lossless predictor %d, want 1 to 7", predictor)
	case pointTransform >= d.precision:
		return frame.Malformed("a point transform of %d in %d bits", pointTransform, d.precision)
	case d.restart%d.declared.Width != 0:
		return frame.Malformed("restarts every %d samples in lines of %d", d.restart, d.declared.Width)
	}
	w := d.declared.Width
	lines := d.restart / w // between restarts
	diffs := make([]int32, w*len(list))
	first := int32(1) << (d.precision - pointTransform - 1)
	for y := range d.declared.Height {
		atStart := y == 0
		if lines > 0 && y > 0 && y%lines == 0 {
			if err := nextRestart(r, y/lines-1); err != nil {
				return err
			}
			atStart = true
		}
		if !readDifferences(r, diffs, list) || r.overread() {
			return frame.Malformed("the data ends or makes no sense in line %d", y+1)
		}
		for i, c := range list {
			row := c.samples[y*w:][:w]
			if atStart {
				reconstructFirst(row, diffs[i*w:], first)
				continue
			}
			reconstruct(row, c.samples[(y-1)*w:][:w], diffs[i*w:][:w], predictor)
		}
	}
	mask := uint16(1<<d.precision - 1)
	for _, c := range list {
		for i, v := range c.samples {
			c.samples[i] = v << pointTransform & mask
		}
	}
	return nil
}

// readDifferences reads a line of differences, [component][column], of interleaved components (H.1.2.2).
func readDifferences(r *bitReader, diffs []int32, list []scanComponent) bool {
	if len(list) == 1 {
		return list[0].dc.differences(r, diffs)
	}
	w := len(diffs) / len(list)
	for x := range w {
		for i := range list {
			if !list[i].dc.differences(r, diffs[i*w+x:][:1]) {
				return false
			}
		}
	}
	return true
}

// differences reads consecutive differences (H.1.2.2).
func (t *huffman) differences(r *bitReader, diffs []int32) bool {
	acc, n := r.acc, r.n
	for x := range diffs {
		if n < 32 {
			r.acc, r.n = acc, n
			r.fill()
			acc, n = r.acc, r.n
		}
		if e := t.whole[acc>>(uint(n-fastBits)&63)&(1<<fastBits-1)]; e != 0 {
			n -= int(e & 0xff)
			diffs[x] = int32(e) >> 16
			continue
		}
		r.n = n
		size, ok := t.decode(r)
		switch {
		case !ok || size > 16:
			return false
		case size == 16:
			diffs[x] = 32768
		default:
			diffs[x] = extended(r.bits(int(size)), int(size))
		}
		n = r.n
	}
	r.n = n
	return true
}

// reconstructFirst makes the first line, and that behind a restart: predicted from the left.
func reconstructFirst(row []uint16, diffs []int32, left int32) {
	for x := range row {
		left += diffs[x]
		row[x] = uint16(left)
	}
}

// reconstruct makes a line from the one above (Table H.1). Its first sample is predicted from above. All is modulo 2^16.
func reconstruct(row, above []uint16, diffs []int32, predictor int) {
	above, diffs = above[:len(row)], diffs[:len(row)]
	left := int32(uint16(int32(above[0]) + diffs[0]))
	row[0] = uint16(left)
	if predictor == 1 {
		for x := 1; x < len(row); x++ {
			left += diffs[x]
			row[x] = uint16(left)
		}
		return
	}
	corner := int32(above[0])
	for x := 1; x < len(row); x++ {
		up := int32(above[x])
		var p int32
		switch predictor {
		case 2:
			p = up
		case 3:
			p = corner
		case 4:
			p = left + up - corner
		case 5:
			p = left + (up-corner)>>1
		case 6:
			p = up + (left-corner)>>1
		case 7:
			p = (left + up) >> 1
		}
		left = int32(uint16(p + diffs[x]))
		row[x] = uint16(left)
		corner = up
	}
}
