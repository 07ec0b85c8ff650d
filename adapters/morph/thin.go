package morph

// Thin peels a mask down to lines one pixel wide along its middle: its skeleton. The result is a subset with the same components
// (Eight) and the same holes (Four).
//
// Pixels go from the north, south, west and east in turn. Each is looked at again just before it goes, and goes only if that
// changes no topology (it is simple) and shortens no line (it has more than one neighbour). Parallel rules such as Zhang and
// Suen's skip the second look, and lose squares of 2 by 2 altogether.
func (m Mask) Thin() Mask {
	// A margin of one pixel spares every look-up its bounds.
	t := thinning{mask: m.Crop(Rect{-1, -1, m.W + 1, m.H + 1}), removable: removable()}
	for i, b := range t.mask.Bits {
		if b {
			t.left = append(t.left, i)
		}
	}
	w := t.mask.W
	for changed := true; changed; {
		changed = false
		for _, side := range [4]int{-w, w, -1, 1} {
			if t.peel(side) {
				changed = true
			}
		}
	}
	return t.mask.Crop(Rect{1, 1, m.W + 1, m.H + 1})
}

type thinning struct {
	mask      Mask
	left      []int // set pixels
	removable [256]bool
}

// peel removes what it may of the pixels whose neighbour at offset side is unset.
func (t *thinning) peel(side int) bool {
	var candidates []int
	for _, i := range t.left {
		if !t.mask.Bits[i+side] && t.removable[t.neighbours(i)] {
			candidates = append(candidates, i)
		}
	}
	changed := false
	for _, i := range candidates {
		if t.removable[t.neighbours(i)] {
			t.mask.Bits[i] = false
			changed = true
		}
	}
	if changed {
		kept := t.left[:0]
		for _, i := range t.left {
			if t.mask.Bits[i] {
				kept = append(kept, i)
			}
		}
		t.left = kept
	}
	return changed
}

// neighbours packs the eight pixels around i into bits, counter-clockwise from the east.
func (t *thinning) neighbours(i int) uint8 {
	w := t.mask.W
	var n uint8
	for bit, d := range [8]int{1, 1 - w, -w, -1 - w, -1, w - 1, w, w + 1} {
		if t.mask.Bits[i+d] {
			n |= 1 << bit
		}
	}
	return n
}

// removable tabulates, for each neighbourhood, whether its centre is simple and no end of a line. A pixel is simple when its
// connectivity number for eight-connected foreground is 1 (Yokoi, Toriwaki and Fukumura 1975).
func removable() [256]bool {
	var table [256]bool
	for n := range table {
		unset := func(k int) int { return 1 - n>>(k%8)&1 }
		crossings, set := 0, 0
		for k := 0; k < 8; k++ {
			set += 1 - unset(k)
			if k%2 == 0 {
				crossings += unset(k) - unset(k)*unset(k+1)*unset(k+2)
			}
		}
		table[n] = crossings == 1 && set > 1
	}
	return table
}
