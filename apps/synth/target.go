package synth

import (
	"math"

	"scrawl/adapters/morph"
)

// chooseTarget picks the object: mostly one connected part of a label, sometimes all of one, or of two. whole tells that nothing of these
// labels was left out.
func (c *canvas) chooseTarget() (target morph.Mask, whole, ok bool) {
	if c.aim != 0 && (c.scaled != 1 || c.chance(0.9)) {
		return c.aimed()
	}
	var area [256]int
	for _, l := range c.labels {
		area[l]++
	}
	present := make([]uint8, 0, c.count)
	for l := range c.count {
		if area[l] > 0 {
			present = append(present, uint8(l))
		}
	}
	least, most := max(c.n*c.n/500, 6), c.n*c.n*6/10
	for range 20 {
		first := present[c.IntN(len(present))]
		if background := c.tissues[first]; (first == 0 || background == air) && !c.chance(0.25) {
			continue
		}
		if other := present[c.IntN(len(present))]; c.chance(0.6) && area[other] > area[first] && other != 0 && c.tissues[other] != air {
			first = other // a window around an object leaves it a fifth of the picture, which few labels fill
		}
		second := first
		if c.chance(0.12) {
			second = present[c.IntN(len(present))]
		}
		m := morph.New(c.n, c.n)
		for i, l := range c.labels {
			m.Bits[i] = l == first || l == second
		}
		whole := true
		if c.chance(0.75) {
			parts := m.Components(morph.Eight)
			part := c.whole(1, parts.N())
			if other := c.whole(1, parts.N()); c.chance(0.6) && parts.Sizes[other] > parts.Sizes[part] {
				part = other
			}
			m, whole = parts.Mask(part), parts.N() == 1
		}
		m = c.asDrawn(m)
		if a := m.Count(); a >= least && a <= most {
			return m, whole, true
		}
	}
	return morph.Mask{}, false, false
}

// aimed is the object that a scene was drawn for: all of a label, or one part of it.
func (c *canvas) aimed() (m morph.Mask, whole, ok bool) {
	m, whole = morph.New(c.n, c.n), true
	for i, l := range c.labels {
		m.Bits[i] = l == c.aim
	}
	if c.apart {
		if parts := m.Components(morph.Eight); parts.N() > 1 {
			m, whole = parts.Mask(c.whole(1, parts.N())), false
		}
	}
	a := m.Count()
	return m, whole, a >= max(c.n*c.n/500, 6) && a <= c.n*c.n*6/10
}

// asDrawn makes of an object what people's masks are: an organ goes on over the vessels in it, a hollow one over its content, and now and
// then it ends where nothing is seen, as the halves of a brain do.
func (c *canvas) asDrawn(m morph.Mask) morph.Mask {
	small, all := c.chance(0.55), c.chance(0.18)
	if small || all {
		if full := m.FillHoles(); all || full.Count() < m.Count()*9/8 {
			m = full
		}
	}
	if !c.chance(0.05) {
		return m
	}
	x, y := centroid(m)
	turn := c.between(0, 2*math.Pi)
	dx, dy := float32(math.Cos(turn)), float32(math.Sin(turn))
	shift := float32(c.between(-0.15, 0.15) * math.Sqrt(float64(m.Count())))
	part := m.Clone()
	for i, b := range part.Bits {
		part.Bits[i] = b && (float32(i%c.n)-x)*dx+(float32(i/c.n)-y)*dy < shift
	}
	return part
}

// alike finds a label that touches the object along a part of its border, as the liver does a kidney, to be given the same intensity:
// what then tells where the object ends is its shape alone.
func (c *canvas) alike(object morph.Mask) (other, of uint8, found bool) {
	var around, inside [256]int
	ring, most := 0, 0
	near := object.Dilate(1.5)
	for i, b := range near.Bits {
		switch {
		case object.Bits[i]:
			if inside[c.labels[i]]++; inside[c.labels[i]] > most {
				most, of = inside[c.labels[i]], c.labels[i]
			}
		case b:
			around[c.labels[i]]++
			ring++
		}
	}
	longest := 0
	for l, n := range around {
		touches := n > ring/20 && n < ring*9/20
		if t := c.tissues[l]; touches && n > longest && l != 0 && t != air && t != outside && inside[l] == 0 {
			longest, other, found = n, uint8(l), true
		}
	}
	return other, of, found
}

// remove gives the object's pixels the label that most of its surroundings have, so that nothing of it is seen. It reports
// whether there are surroundings.
func (c *canvas) remove(object morph.Mask) bool {
	var around [256]int
	ring := object.Dilate(2)
	best, found := uint8(0), false
	for i, near := range ring.Bits {
		if near && !object.Bits[i] {
			around[c.labels[i]]++
			if !found || around[c.labels[i]] > around[best] {
				best, found = c.labels[i], true
			}
		}
	}
	if found {
		for i, in := range object.Bits {
			if in {
				c.labels[i] = best
			}
		}
	}
	return found
}

// view cuts the picture that is shown out of the scene, and tells by how much it is enlarged.
func (g *Generator) view(target morph.Mask) ([]float32, morph.Mask, float64) {
	n := float64(g.n)
	box, _ := target.Bounds()
	cx, cy := n/2, n/2
	side := n
	switch {
	case g.chance(g.opts.Zoomed):
		// Closely, but no closer than the application goes.
		object := float64(max(box.W(), box.H()))
		side = min(max(object*g.between(1.2, 2.6), n/2.3), n)
		slack := (side - object) / 2
		cx = float64(box.X0+box.X1)/2 + slack*g.between(-0.5, 0.5)
		cy = float64(box.Y0+box.Y1)/2 + slack*g.between(-0.5, 0.5)
		if g.chance(0.75) {
			// In a real slice the border is rarely near: there is air, or at least more of the patient.
			cx, cy = min(max(cx, side/2), n-side/2), min(max(cy, side/2), n-side/2)
		}
	case g.chance(0.15):
		// A slice that is not square is continued with its border.
		side = n * g.between(1, 1.35)
	}
	g.unevenSampling()
	image := make([]float32, g.n*g.n)
	mask := morph.Mask{W: g.n, H: g.n, Bits: target.Bits}
	zoom := n / side
	if zoom == 1 {
		copy(image, g.image)
		return image, mask, 1
	}
	inside := g.scratch[0]
	for i, b := range target.Bits {
		inside[i] = 0
		if b {
			inside[i] = 1
		}
	}
	mask = morph.New(g.n, g.n)
	step := float32(side / n)
	x0, y0 := float32(cx-side/2), float32(cy-side/2)
	last := float32(g.n - 1)
	for y := range g.n {
		sy := y0 + (float32(y)+0.5)*step - 0.5
		for x := range g.n {
			sx := x0 + (float32(x)+0.5)*step - 0.5
			i := y*g.n + x
			image[i] = sample(g.image, g.n, sx, sy)
			if sx > -0.5 && sy > -0.5 && sx < last+0.5 && sy < last+0.5 {
				mask.Bits[i] = sample(inside, g.n, sx, sy) > 0.5
			}
		}
	}
	return image, mask, zoom
}

// unevenSampling now and then makes the picture coarser along one axis, like a sagittal slice through thick axial ones.
func (g *Generator) unevenSampling() {
	if g.scaled != 1 || !g.chance(0.12) {
		return
	}
	ratio := g.between(1.5, 4.5)
	alongX := g.chance(0.5)
	src := g.scratch[1]
	copy(src, g.image)
	n := g.n
	for y := range n {
		for x := range n {
			p := y
			if alongX {
				p = x
			}
			at := float64(p) / ratio
			k := math.Floor(at)
			t := float32(at - k)
			lo, hi := min(int(k*ratio), n-1), min(int((k+1)*ratio), n-1)
			if alongX {
				g.image[y*n+x] = src[y*n+lo]*(1-t) + src[y*n+hi]*t
			} else {
				g.image[y*n+x] = src[lo*n+x]*(1-t) + src[hi*n+x]*t
			}
		}
	}
}

// turn rotates by a quarter turn and mirrors, each as often as not.
func (g *Generator) turn(e *Example) {
	transpose, flipX, flipY := g.chance(0.5), g.chance(0.5), g.chance(0.5)
	if !transpose && !flipX && !flipY {
		return
	}
	n := e.Size
	image, bits := make([]float32, n*n), make([]bool, n*n)
	for y := range n {
		for x := range n {
			sx, sy := x, y
			if transpose {
				sx, sy = y, x
			}
			if flipX {
				sx = n - 1 - sx
			}
			if flipY {
				sy = n - 1 - sy
			}
			image[y*n+x], bits[y*n+x] = e.Image[sy*n+sx], e.Target.Bits[sy*n+sx]
		}
	}
	e.Image, e.Target.Bits = image, bits
}
