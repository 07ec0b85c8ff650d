package jpeg2000

import (
	"math"
	"sync"
	"sync/atomic"

	"scrawl/adapters/dicom/codec/internal/frame"
)

const (
	// maxPrecision leaves room for what the wavelet and the colour transform add to 32 bits.
	maxPrecision = 28
	// maxProgressions bounds how often the packets of a tile are sorted.
	maxProgressions = 256
)

// Decode decodes a codestream or a JP2 file. Its components must have one precision and no sub-sampling.
func Decode(data []byte, declared frame.Declared) (frame.Image, error) {
	cs, err := parse(data, declared)
	if err != nil {
		return frame.Image{}, err
	}
	// All packets are found before anything of the image's size is allocated, for a few bytes can declare a large one. Of many
	// tiles that is done again when a tile's turn comes, so that there is never more than one.
	var t *tile
	for n := range cs.tiles {
		if t, err = cs.packets(n); err != nil {
			return frame.Image{}, err
		}
	}
	img := frame.Image{
		Precision: cs.components[0].precision, Signed: cs.components[0].signed, Pix: make([]int32, declared.Samples()),
	}
	for n := range cs.tiles {
		if len(cs.tiles) > 1 {
			if t, err = cs.packets(n); err != nil {
				return frame.Image{}, err
			}
		}
		if err := t.decodeBlocks(declared.Workers); err != nil {
			return frame.Image{}, err
		}
		if err := t.store(img, cs.size); err != nil {
			return frame.Image{}, err
		}
	}
	return img, nil
}

// packets lays out tile n and finds what each of its code blocks holds.
func (cs *codestream) packets(n int) (*tile, error) {
	t, err := newTile(&cs.size, n, &cs.tiles[n])
	if err != nil {
		return nil, err
	}
	return t, t.readPackets()
}

// A blockJob is a code block to decode and the band it belongs to.
type blockJob struct {
	block *codeBlock
	band  *band
	tc    *tileComponent
}

// decodeBlocks decodes all code blocks into the coefficients of their bands.
func (t *tile) decodeBlocks(workers int) error {
	jobs := t.blockJobs()
	workers = min(workers, len(jobs))
	var next atomic.Int64
	var failed atomic.Pointer[error]
	work := func() {
		var d blockDecoder
		for failed.Load() == nil {
			i := int(next.Add(1)) - 1
			if i >= len(jobs) {
				return
			}
			if err := d.decodeInto(t, jobs[i]); err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		}
	}
	if workers <= 1 {
		work()
	} else {
		var wg sync.WaitGroup
		for range workers {
			wg.Go(work)
		}
		wg.Wait()
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// blockJobs makes the bands' coefficients and lists the blocks that have any.
func (t *tile) blockJobs() []blockJob {
	var jobs []blockJob
	for c := range t.components {
		tc := &t.components[c]
		for r := range tc.resolutions {
			res := &tc.resolutions[r]
			for i := range res.bands {
				b := &res.bands[i]
				if n := max(b.dx(), 0) * max(b.dy(), 0); tc.style.reversible {
					b.ints = make([]int32, n)
				} else {
					b.floats = make([]float32, n)
				}
			}
			for _, p := range res.precincts {
				if p != nil {
					jobs = p.jobs(jobs, res, tc)
				}
			}
		}
	}
	return jobs
}

func (p *precinct) jobs(jobs []blockJob, res *resolution, tc *tileComponent) []blockJob {
	for i := range res.bands {
		for j := range p.bands[i].blocks {
			if b := &p.bands[i].blocks[j]; b.passes > 0 {
				jobs = append(jobs, blockJob{b, &res.bands[i], tc})
			}
		}
	}
	return jobs
}

// decodeInto decodes a block and puts its coefficients, with their quantization undone, into the band.
func (d *blockDecoder) decodeInto(t *tile, j blockJob) error {
	err := d.decode(t, j.block, j.band.planes+j.tc.roi, j.band.orientation, j.tc.style.blockStyle)
	if err != nil {
		return err
	}
	if j.tc.roi > 0 {
		d.unshiftRegion(j.tc.roi)
	}
	b := j.band
	at := (j.block.y0-b.y0)*b.dx() + j.block.x0 - b.x0
	for y := range d.h {
		src := d.data[y*d.w:][:d.w]
		if j.tc.style.reversible {
			dst := b.ints[at+y*b.dx():][:d.w]
			for x, v := range src {
				dst[x] = v / 2
			}
			continue
		}
		dst := b.floats[at+y*b.dx():][:d.w]
		step := b.step / 2
		for x, v := range src {
			dst[x] = float32(v) * step
		}
	}
	return nil
}

// unshiftRegion scales the coefficients of the region of interest down, which are those that the shift has put above all others
// (H.1).
func (d *blockDecoder) unshiftRegion(shift int) {
	for i, v := range d.data {
		magnitude := max(v, -v)
		if magnitude>>1>>shift == 0 {
			continue
		}
		magnitude >>= shift
		if v < 0 {
			magnitude = -magnitude
		}
		d.data[i] = magnitude
	}
}

// store makes samples of the coefficients, undoes the colour transform and the level shift, and puts them into the image.
func (t *tile) store(img frame.Image, z size) error {
	components := len(t.components)
	first := t.components[0].style.reversible
	if t.mct && (t.components[1].style.reversible != first || t.components[2].style.reversible != first) {
		return frame.Malformed("a colour transform across different wavelets")
	}
	low := 0
	if !img.Signed {
		low = 1 << (img.Precision - 1)
	}
	out := window{
		pix: img.Pix[((t.y0-z.image.y0)*z.image.dx()+t.x0-z.image.x0)*components:], step: components,
		stride: z.image.dx() * components, w: t.dx(), h: t.dy(), shift: int32(low),
		least: int32(low - 1<<(img.Precision-1)), most: int32(low + 1<<(img.Precision-1) - 1),
	}
	var ints [3][]int32
	var floats [3][]float32
	for c := range t.components {
		tc := &t.components[c]
		later := t.mct && c < 3
		switch {
		case tc.style.reversible && later:
			ints[c] = reversible.synthesize(tc)
		case tc.style.reversible:
			storeInts(out, c, reversible.synthesize(tc))
		case later:
			floats[c] = irreversible.synthesize(tc)
		default:
			storeFloats(out, c, irreversible.synthesize(tc))
		}
		tc.resolutions = nil
	}
	switch {
	case !t.mct:
	case first:
		undoRCT(ints)
		for c, x := range ints {
			storeInts(out, c, x)
		}
	default:
		undoICT(floats)
		for c, x := range floats {
			storeFloats(out, c, x)
		}
	}
	return nil
}

// A window is the part of an image's samples that a tile covers.
type window struct {
	pix          []int32
	step, stride int
	w, h         int
	shift        int32
	least, most  int32
}

func storeInts(o window, c int, x []int32) {
	for y := range o.h {
		row := o.pix[y*o.stride+c:]
		for i, v := range x[y*o.w:][:o.w] {
			row[i*o.step] = max(o.least, min(v+o.shift, o.most))
		}
	}
}

func storeFloats(o window, c int, x []float32) {
	for y := range o.h {
		row := o.pix[y*o.stride+c:]
		for i, v := range x[y*o.w:][:o.w] {
			row[i*o.step] = int32(max(float64(o.least), min(math.RoundToEven(float64(v))+float64(o.shift), float64(o.most))))
		}
	}
}

// undoRCT is the inverse reversible colour transform (G.2.2).
func undoRCT(x [3][]int32) {
	for i, y := range x[0] {
		u, v := x[1][i], x[2][i]
		g := y - (u+v)>>2
		x[0][i], x[1][i], x[2][i] = v+g, g, u+g
	}
}

// undoICT is the inverse irreversible colour transform (G.3.2).
func undoICT(x [3][]float32) {
	for i, y := range x[0] {
		cb, cr := x[1][i], x[2][i]
		x[0][i] = y + 1.402*cr
		x[1][i] = y - 0.344136*cb - 0.714136*cr
		x[2][i] = y + 1.772*cb
	}
}
