package synth

import (
	"math"
	"math/rand/v2"

	"scrawl/adapters/morph"
)

// Neighbour is the mask that an adjacent slice of the object might have had, W·H probabilities, x fastest: the target bent,
// shifted, scaled, grown or shrunk, with soft edges, and sometimes with parts lost or added. target is square.
func Neighbour(rng *rand.Rand, target morph.Mask) []float32 {
	return random{rng}.neighbour(target, 1)
}

// astray is a mask that is far from the target, as a slice far away leaves it or an interaction that went wrong: it has run out into
// what is near, holds only a part, lies elsewhere, or has little or nothing to do with the target.
func (r random) astray(target morph.Mask, zoom float64) []float32 {
	n := target.W
	box, ok := target.Bounds()
	if !ok {
		return make([]float32, n*n)
	}
	m := morph.New(n, n)
	size := float64(max(box.W(), box.H()))
	near := func() (x, y float64) {
		return r.between(float64(box.X0), float64(box.X1)), r.between(float64(box.Y0), float64(box.Y1))
	}
	if size < float64(n)/6 && r.chance(0.4) {
		return r.soften(r.slid(target, size))
	}
	switch r.pick(0.08, 0.12, 0.1, 0.28, 0.2, 0.22) {
	case 0: // nothing
	case 1:
		m = target.Shift(r.whole(-n/3, n/3), r.whole(-n/3, n/3))
	case 2:
		m = r.lump(n, r.between(0, 1)*float64(n), r.between(0, 1)*float64(n), r.between(0.05, 0.25)*float64(n))
	case 3: // spilled
		m = r.bend(target, float64(n)/128)
		for range r.whole(1, 3) {
			x, y := near()
			m = m.Or(r.lump(n, x, y, r.between(0.25, 0.8)*size))
		}
	case 4: // a part
		x, y := near()
		m = target.And(r.lump(n, x, y, r.between(0.2, 0.6)*size))
	default: // a distant slice
		m = r.bend(target, float64(n)/128*r.between(2.5, 5)*(1+0.5*(zoom-1)))
	}
	return r.soften(m)
}

// slid is the mask of a small object, as thick slices or a carried mask leave it: beside the object, by up to its own size, or run
// together with what lies there.
func (r random) slid(target morph.Mask, size float64) morph.Mask {
	turn, by := r.between(0, 2*math.Pi), size*r.between(0.35, 1.2)
	dx, dy := by*math.Cos(turn), by*math.Sin(turn)
	beside := target.Shift(int(math.Round(dx)), int(math.Round(dy)))
	switch r.pick(0.5, 0.25, 0.25) {
	case 0:
		return beside
	case 1: // absorbed into what is larger
		x, y := centroid(target)
		return target.Or(r.lump(target.W, float64(x)+dx, float64(y)+dy, size*r.between(0.5, 1.2)))
	default:
		return beside.Or(target)
	}
}

func (r random) neighbour(target morph.Mask, zoom float64) []float32 {
	n := target.W
	box, ok := target.Bounds()
	if !ok {
		return make([]float32, n*n)
	}
	unit := float64(n) / 128 * (1 + 0.5*(zoom-1))
	if r.chance(0.12) {
		unit *= 2 // thick slices
	}
	m := r.bend(target, unit)
	if r.chance(0.18) {
		size := max(box.W(), box.H())
		x, y := r.between(float64(box.X0), float64(box.X1)), r.between(float64(box.Y0), float64(box.Y1))
		part := r.lump(n, x, y, r.between(0.1, 0.35)*float64(size))
		if lost := m.AndNot(part); r.chance(0.5) && !lost.Empty() {
			m = lost
		} else {
			m = m.Or(part)
		}
	}
	return r.soften(m)
}

// bend warps, scales and shifts the mask, then moves its border out or in by up to 3 units of pixels.
func (r random) bend(target morph.Mask, unit float64) morph.Mask {
	n := target.W
	inside, dx, dy := target.Floats(), make([]float32, n*n), make([]float32, n*n)
	strength := r.between(0, 5) * unit
	r.waves(dx, n, strength)
	r.waves(dy, n, strength)
	sx, sy := float32(1.5*unit*r.NormFloat64()), float32(1.5*unit*r.NormFloat64())
	zoom := float32(1 + 0.08*r.NormFloat64())
	cx, cy := centroid(target)
	out := morph.New(n, n)
	last := float32(n) - 0.5
	for y := range n {
		for x := range n {
			i := y*n + x
			px, py := cx+(float32(x)-cx)*zoom+dx[i]+sx, cy+(float32(y)-cy)*zoom+dy[i]+sy
			if px > -0.5 && py > -0.5 && px < last && py < last {
				out.Bits[i] = sample(inside, n, px, py) > 0.5
			}
		}
	}
	switch by := r.between(-3, 3) * unit; {
	case by >= 1:
		out = out.Dilate(by)
	case by <= -1:
		if thin := out.Erode(-by); !thin.Empty() {
			out = thin
		}
	}
	return out
}

// waves is a smooth field of the given strength on n by n pixels.
func (r random) waves(dst []float32, n int, strength float64) {
	res := r.whole(3, 6)
	coarse := make([]float32, res*res)
	for i := range coarse {
		coarse[i] = float32(strength * r.NormFloat64())
	}
	upsample(dst, make([]float32, res*n), coarse, n, res, res)
}

func centroid(m morph.Mask) (x, y float32) {
	var sx, sy, count int
	for i, b := range m.Bits {
		if b {
			sx, sy, count = sx+i%m.W, sy+i/m.W, count+1
		}
	}
	if count == 0 {
		return float32(m.W) / 2, float32(m.H) / 2
	}
	return float32(sx) / float32(count), float32(sy) / float32(count)
}

// lump is a rough disc on a grid of n by n.
func (r random) lump(n int, x, y, radius float64) morph.Mask {
	c := canvas{random: r, n: n}
	b := c.star(x, y, radius, radius*r.between(0.5, 1), r.between(0, 3), 0.15)
	m := morph.New(n, n)
	for py := range n {
		for px := range n {
			m.Bits[py*n+px] = b.level(px, py) < 1
		}
	}
	return m
}

// soften gives the border the width that a network's answer has.
func (r random) soften(m morph.Mask) []float32 {
	p := morph.Blur(m.Floats(), m.W, m.H, r.between(0.3, 1.6), 3)
	for i, v := range p {
		p[i] = min(max(v, 0), 1)
	}
	return p
}
