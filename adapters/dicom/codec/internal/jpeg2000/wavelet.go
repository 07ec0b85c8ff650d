package jpeg2000

// A wavelet undoes one decomposition (F.3): horizontal makes a row of its low and high coefficients, vertical transforms columns
// of rows that lie in their places, low and high by turns. odd tells that the first one is high, for the reference grid decides
// what is low: an even coordinate.
type wavelet[T int32 | float32] struct {
	coefficients func(*band) []T
	horizontal   func(row, low, high []T, odd int)
	vertical     func(x []T, w, h, odd int)
}

var reversible = wavelet[int32]{
	coefficients: func(b *band) []int32 { return b.ints },
	horizontal:   horizontal53,
	vertical:     vertical53,
}

var irreversible = wavelet[float32]{
	coefficients: func(b *band) []float32 { return b.floats },
	horizontal:   horizontal97,
	vertical:     vertical97,
}

// synthesize makes the samples of a tile-component from its bands (F.3.1), [dy][dx].
func (w wavelet[T]) synthesize(tc *tileComponent) []T {
	low := w.coefficients(&tc.resolutions[0].bands[0])
	for r := 1; r < len(tc.resolutions); r++ {
		low = w.level(&tc.resolutions[r], &tc.resolutions[r-1], low)
	}
	return low
}

// level makes a resolution from the one below and its three bands.
func (w wavelet[T]) level(res, below *resolution, low []T) []T {
	if res.empty() {
		return nil
	}
	out := make([]T, res.dx()*res.dy())
	hl, lh, hh := &res.bands[0], &res.bands[1], &res.bands[2]
	top := rowsOf[T]{low, w.coefficients(hl), below.dx(), hl.dx()}
	bottom := rowsOf[T]{w.coefficients(lh), w.coefficients(hh), lh.dx(), hh.dx()}
	for y := range res.dy() {
		row := out[y*res.dx():][:res.dx()]
		if (res.y0+y)&1 == 0 {
			l, h := top.next()
			w.horizontal(row, l, h, res.x0&1)
		} else {
			l, h := bottom.next()
			w.horizontal(row, l, h, res.x0&1)
		}
	}
	w.vertical(out, res.dx(), res.dy(), res.y0&1)
	return out
}

// rowsOf walks two bands row by row.
type rowsOf[T any] struct {
	low, high   []T
	lowW, highW int
}

func (r *rowsOf[T]) next() (low, high []T) {
	low, high = r.low[:r.lowW], r.high[:r.highW]
	r.low, r.high = r.low[r.lowW:], r.high[r.highW:]
	return low, high
}

func interleave[T any](row, low, high []T, odd int) {
	for i, v := range low {
		row[2*i+odd] = v
	}
	for i, v := range high {
		row[2*i+1-odd] = v
	}
}

// horizontal53 is the reversible filter (F.3.8.2.1) of a row.
func horizontal53(row, low, high []int32, odd int) {
	interleave(row, low, high, odd)
	n := len(row)
	if n == 1 {
		row[0] /= int32(1 + odd)
		return
	}
	for i := odd; i < n; i += 2 {
		l, r := mirrored(i, n)
		row[i] -= (row[l] + row[r] + 2) >> 2
	}
	for i := 1 - odd; i < n; i += 2 {
		l, r := mirrored(i, n)
		row[i] += (row[l] + row[r]) >> 1
	}
}

// mirrored gives the neighbours of i in n > 1 samples, which go on beyond their ends as in a mirror (F.3.7).
func mirrored(i, n int) (before, after int) {
	before, after = i-1, i+1
	if before < 0 {
		before = 1
	}
	if after >= n {
		after = n - 2
	}
	return before, after
}

func vertical53(x []int32, w, h, odd int) {
	if h == 1 {
		for i := range x {
			x[i] /= int32(1 + odd)
		}
		return
	}
	row := func(y int) []int32 { return x[y*w:][:w] }
	update := func(y int) {
		a, b := mirrored(y, h)
		dst, above, below := row(y), row(a), row(b)
		for i, v := range dst {
			dst[i] = v - (above[i]+below[i]+2)>>2
		}
	}
	predict := func(y int) {
		a, b := mirrored(y, h)
		dst, above, below := row(y), row(a), row(b)
		for i, v := range dst {
			dst[i] = v + (above[i]+below[i])>>1
		}
	}
	// A high row is due when the low rows at both its sides are done.
	y := odd
	for ; y < h; y += 2 {
		update(y)
		if y > 0 {
			predict(y - 1)
		}
	}
	if y-1 < h {
		predict(y - 1)
	}
}

// Coefficients of the irreversible filter (Table F.4).
const (
	liftAlpha = -1.586134342059924
	liftBeta  = -0.052980118572961
	liftGamma = 0.882911075530934
	liftDelta = 0.443506852043971
	liftK     = 1.230174104914001
)

// horizontal97 is the irreversible filter (F.3.8.1.1) of a row.
func horizontal97(row, low, high []float32, odd int) {
	n := len(row)
	if n == 1 {
		interleave(row, low, high, odd)
		if odd == 1 {
			row[0] /= 2
		}
		return
	}
	for i, v := range low {
		row[2*i+odd] = v * liftK
	}
	for i, v := range high {
		row[2*i+1-odd] = v * (1 / liftK)
	}
	lift97(row, odd, -liftDelta)
	lift97(row, 1-odd, -liftGamma)
	lift97(row, odd, -liftBeta)
	lift97(row, 1-odd, -liftAlpha)
}

func lift97(row []float32, first int, c float32) {
	n := len(row)
	for i := first; i < n; i += 2 {
		l, r := mirrored(i, n)
		row[i] += c * (row[l] + row[r])
	}
}

func vertical97(x []float32, w, h, odd int) {
	if h == 1 {
		if odd == 1 {
			for i := range x {
				x[i] /= 2
			}
		}
		return
	}
	row := func(y int) []float32 { return x[y*w:][:w] }
	for y := range h {
		scale := float32(liftK)
		if y&1 != odd {
			scale = 1 / liftK
		}
		for i, v := range row(y) {
			x[y*w+i] = v * scale
		}
	}
	lift := func(first int, c float32) {
		for y := first; y < h; y += 2 {
			a, b := mirrored(y, h)
			dst, above, below := row(y), row(a), row(b)
			for i, v := range dst {
				dst[i] = v + c*(above[i]+below[i])
			}
		}
	}
	lift(odd, -liftDelta)
	lift(1-odd, -liftGamma)
	lift(odd, -liftBeta)
	lift(1-odd, -liftAlpha)
}
