package jpeg2000

import (
	"scrawl/adapters/dicom/codec/internal/frame"
)

// A tile is one tile while it is decoded.
type tile struct {
	*tileData
	rect
	components []tileComponent
	chunks     []chunk // of all code blocks
}

// tileComponent holds a component's resolutions, the smallest first.
type tileComponent struct {
	rect
	style       *codingStyle
	roi         int
	resolutions []resolution
}

// A resolution is what one more decomposition level adds (B.5): the low-pass band alone, or three bands.
type resolution struct {
	rect
	bands          []band
	ppx, ppy       int // exponents of the precincts' size
	precinctX0     int // index of the first precinct, counted from 0, 0 of the reference grid
	precinctY0     int
	precinctsX     int
	precinctsY     int
	precincts      []*precinct // made when a packet first holds something
	layersRead     []uint16
	levelsAbove    int // decomposition levels between this resolution and the full one
	blockW, blockH int // exponents of the code blocks' size in its bands
	precinctW      int // exponents of the precincts' size in its bands
	precinctH      int
}

// Orientations of a band.
const (
	bandLL = iota
	bandHL
	bandLH
	bandHH
)

// A band is a sub-band with its coefficients.
type band struct {
	rect
	orientation int
	planes      int     // Mb, of (E-2)
	step        float32 // Δb, of (E-3)
	ints        []int32
	floats      []float32
}

// A precinct is the code blocks of one precinct, band by band.
type precinct struct {
	bands [3]precinctBand
}

type precinctBand struct {
	w, h       int // in code blocks
	blocks     []codeBlock
	inclusion  tagTree
	zeroPlanes tagTree
}

// A codeBlock is one code block: where it lies in its band, and what packets have told of it.
type codeBlock struct {
	rect
	first, last int32 // chunks of its data, by index; -1 for none
	passes      uint16
	zeroPlanes  uint8
	lengthBits  uint8
	included    bool
}

// A chunk is what one packet adds to a code block: passes of one codeword segment, and their bytes.
type chunk struct {
	offset, length uint32
	next           int32
	passes         uint16
}

// newTile lays out a tile (B.3 to B.7). It refuses tiles that cannot hold the packets that their layout demands.
func newTile(z *size, n int, data *tileData) (*tile, error) {
	t := &tile{tileData: data, rect: z.tile(n)}
	if t.empty() {
		return nil, frame.Malformed("tile %d is empty", n)
	}
	packets := 0
	available := len(t.body)
	if t.packed {
		available = len(t.headers)
	}
	for c := range z.components {
		tc, err := newTileComponent(t.rect, z.components[c], &t.styles[c], &t.quants[c], t.roi[c])
		if err != nil {
			return nil, err
		}
		for r := range tc.resolutions {
			packets += tc.resolutions[r].precinctsX * tc.resolutions[r].precinctsY * t.layers
			if packets > available {
				return nil, frame.Malformed("tile %d has at least %d packets in %d bytes", n, packets, available)
			}
		}
		t.components = append(t.components, tc)
	}
	for c := range t.components {
		for r := range t.components[c].resolutions {
			res := &t.components[c].resolutions[r]
			res.precincts = make([]*precinct, res.precinctsX*res.precinctsY)
			res.layersRead = make([]uint16, res.precinctsX*res.precinctsY)
		}
	}
	return t, nil
}

func newTileComponent(r rect, c component, style *codingStyle, q *quantization, roi int) (tileComponent, error) {
	tc := tileComponent{rect: r, style: style, roi: roi, resolutions: make([]resolution, style.levels+1)}
	if style.reversible && q.style != 0 {
		return tc, frame.Malformed("the reversible wavelet with quantization")
	}
	for i := range tc.resolutions {
		above := style.levels - i
		res := &tc.resolutions[i]
		res.levelsAbove = above
		res.rect = rect{ceilShift(r.x0, above), ceilShift(r.y0, above), ceilShift(r.x1, above), ceilShift(r.y1, above)}
		res.layoutPrecincts(style, i)
		orientations := []int{bandHL, bandLH, bandHH}
		level := above + 1
		if i == 0 {
			orientations, level = []int{bandLL}, above
		}
		for _, o := range orientations {
			b, err := newBand(r, c, style, q, i, level, o)
			if err != nil {
				return tc, err
			}
			if b.planes+roi > maxPlanes && !b.empty() {
				return tc, frame.Unsupported("%d bit planes with %d for the region of interest, at most %d are decoded",
					b.planes, roi, maxPlanes)
			}
			res.bands = append(res.bands, b)
		}
	}
	return tc, nil
}

func (res *resolution) layoutPrecincts(style *codingStyle, i int) {
	res.ppx, res.ppy = int(style.precincts[i]&15), int(style.precincts[i]>>4)
	res.precinctW, res.precinctH = res.ppx, res.ppy
	if i > 0 {
		res.precinctW, res.precinctH = res.ppx-1, res.ppy-1
	}
	res.blockW, res.blockH = min(style.xcb, res.precinctW), min(style.ycb, res.precinctH)
	res.precinctX0, res.precinctY0 = res.x0>>res.ppx, res.y0>>res.ppy
	if !res.empty() {
		res.precinctsX = ceilShift(res.x1, res.ppx) - res.precinctX0
		res.precinctsY = ceilShift(res.y1, res.ppy) - res.precinctY0
	}
}

// newBand lays out a band (B.5) and its quantization (E.1).
func newBand(r rect, c component, style *codingStyle, q *quantization, resolution, level, orientation int) (band, error) {
	b := band{orientation: orientation}
	ox, oy := 0, 0
	if level > 0 {
		ox, oy = (orientation&1)<<(level-1), (orientation>>1)<<(level-1)
	}
	b.rect = rect{ceilShift(r.x0-ox, level), ceilShift(r.y0-oy, level), ceilShift(r.x1-ox, level), ceilShift(r.y1-oy, level)}
	index := 0
	if resolution > 0 {
		index = 3*(resolution-1) + orientation
	}
	var s quantStep
	switch {
	case q.style == 1:
		s = q.steps[0]
		if resolution > 0 {
			s.exponent -= resolution - 1
		}
	case index < len(q.steps):
		s = q.steps[index]
	default:
		return b, frame.Malformed("%d quantization steps for %d decomposition levels", len(q.steps), style.levels)
	}
	b.planes = q.guard + s.exponent - 1
	gain := [...]int{0, 1, 1, 2}[orientation]
	b.step = float32(1+float64(s.mantissa)/2048) * exp2(c.precision+gain-s.exponent)
	return b, nil
}

func exp2(n int) float32 {
	if n < 0 {
		return 1 / exp2(-n)
	}
	return float32(uint64(1) << n)
}

// precinct gives a precinct's code blocks, and makes them at the first call.
func (res *resolution) precinct(k int) *precinct {
	if res.precincts[k] != nil {
		return res.precincts[k]
	}
	p := &precinct{}
	x, y := res.precinctX0+k%res.precinctsX, res.precinctY0+k/res.precinctsX
	for i := range res.bands {
		b := &res.bands[i]
		area := rect{
			max(x<<res.precinctW, b.x0), max(y<<res.precinctH, b.y0),
			min((x+1)<<res.precinctW, b.x1), min((y+1)<<res.precinctH, b.y1),
		}
		if !area.empty() {
			p.bands[i] = newPrecinctBand(area, res.blockW, res.blockH)
		}
	}
	res.precincts[k] = p
	return p
}

func newPrecinctBand(area rect, blockW, blockH int) precinctBand {
	x0, y0 := area.x0>>blockW, area.y0>>blockH
	pb := precinctBand{w: ceilShift(area.x1, blockW) - x0, h: ceilShift(area.y1, blockH) - y0}
	pb.blocks = make([]codeBlock, pb.w*pb.h)
	for i := range pb.blocks {
		x, y := x0+i%pb.w, y0+i/pb.w
		pb.blocks[i] = codeBlock{
			rect: rect{
				max(x<<blockW, area.x0), max(y<<blockH, area.y0), min((x+1)<<blockW, area.x1), min((y+1)<<blockH, area.y1),
			},
			first: -1, last: -1, lengthBits: 3,
		}
	}
	pb.inclusion, pb.zeroPlanes = newTagTree(pb.w, pb.h), newTagTree(pb.w, pb.h)
	return pb
}
