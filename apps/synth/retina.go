package synth

import "math"

// retina is the back of an eye seen from the front, or what looks like it: vessels come in from several sides, branch again and again, and
// fade before they end. All of them together are one object, so it is nearly as large as the picture and a pixel or two wide.
func (c *canvas) retina() {
	ground := c.label(soft)
	for i := range c.labels {
		c.labels[i] = ground
	}
	c.layered = true
	clear(c.overlay)
	c.aim = c.label(contrasted)
	c.scaled = c.between(1, 1.25)
	if c.chance(0.6) {
		c.scaled = c.logBetween(1.1, 3)
	}
	v := vasculature{canvas: c, shine: max(c.between(-0.5, 0.6), 0), tight: c.between(0.85, 1.2)}
	clear(c.scratch[3])
	strength, weakest := c.logBetween(0.15, 0.7), c.between(0.2, 0.9)
	length := c.px(c.px(c.logBetween(0.05, 0.12))) / c.scaled
	trees := c.whole(3, 9)
	gathered, gx, gy := c.chance(0.3), min(max(c.between(-0.1, 1.1), 0), 1), c.between(0.2, 0.8)
	left := length
	for k := 0; k < trees || k < 3*trees && 2*left > length; k++ { // many leave the picture soon
		x, y := c.px(gx), c.px(gy)
		if !gathered {
			x, y = c.edge()
		}
		heading := math.Atan2(c.px(c.between(0.1, 0.9))-y, c.px(c.between(0.1, 0.9))-x)
		trunk := vessel{x, y, heading, c.scaled * c.logBetween(0.5, 1.25), c.px(c.between(0.5, 1.3)), strength * c.between(weakest, 1), 3}
		left -= v.grow(trunk, length/float64(trees)*c.between(0.6, 1.4))
	}
	for range int(c.between(0, 30) / c.scaled) { // twigs whose vessel lies deeper
		twig := vessel{c.px(c.Float64()), c.px(c.Float64()), c.between(0, 2*math.Pi), 0.5 * c.scaled, c.scaled * c.between(5, 22), strength * c.between(0.1, 0.6), 1}
		v.grow(twig, twig.length)
	}
	for i, core := range c.scratch[3] {
		c.overlay[i] *= 1 - float32(v.shine)*core
	}
}

// edge is a place on the picture's border.
func (c *canvas) edge() (x, y float64) {
	last := float64(c.n - 1)
	switch at := c.between(0, last); c.IntN(4) {
	case 0:
		return at, 0
	case 1:
		return at, last
	case 2:
		return 0, at
	default:
		return last, at
	}
}

// vasculature draws vessels: their label, and in the overlay how much of the light they take, 0…1.
type vasculature struct {
	*canvas
	shine float64 // of the middle of thick vessels
	tight float64 // radius as it is seen, over that of the label
}

// vessel is one that is still to be drawn.
type vessel struct {
	x, y, heading  float64
	radius, length float64 // pixels
	strength       float64 // share of the light that it takes, 0…1
	branching      int     // how many generations follow
}

// grow draws a vessel and then, one generation after the other, its branches, until they are as long together as wanted, and returns how
// long they are, in pixels.
func (v *vasculature) grow(trunk vessel, wanted float64) (together float64) {
	waiting := []vessel{trunk}
	for k := 0; k < len(waiting) && together < wanted; k++ {
		together += v.follow(waiting[k], &waiting)
	}
	return together
}

// follow draws a single vessel, adds those that branch off it to the waiting ones, and returns how long it has become.
func (v *vasculature) follow(one vessel, waiting *[]vessel) float64 {
	const step = 0.6
	x, y, heading := one.x, one.y, one.heading
	bend, wander := 0.0, v.between(0.003, 0.016)
	fade := v.between(0, 0.8)
	next := v.scaled * v.between(3, 14)
	at := 0.0
	for ; at < one.length; at += step {
		t := at / one.length
		r := max(one.radius*(1-0.55*t), 0.45*v.scaled)
		v.stamp(x, y, r, one.strength*(1-fade*t*t))
		bend = 0.93*bend + wander*v.NormFloat64()/math.Sqrt(v.scaled)
		heading += bend
		x, y = x+step*math.Cos(heading), y+step*math.Sin(heading)
		if x < -3 || y < -3 || x > float64(v.n+2) || y > float64(v.n+2) {
			break
		}
		if next -= step; next > 0 || one.branching == 0 {
			continue
		}
		next = v.scaled * v.between(4, 20)
		side := v.between(0.4, 1.3)
		if v.chance(0.5) {
			side = -side
		}
		*waiting = append(*waiting, vessel{x, y, heading + side, r * v.between(0.5, 0.9), (one.length - at) * v.between(0.1, 0.7), one.strength * v.between(0.45, 1), one.branching - 1})
	}
	return at
}

// stamp draws one disc with soft edges. However thin the vessel, its label is a pixel wide.
func (v *vasculature) stamp(x, y, r, strength float64) {
	label, seen := max(r, 0.5)+0.06, max(r*v.tight, 0.3)
	reach := max(label, seen+0.5)
	core := v.scratch[3]
	for py := max(int(math.Ceil(y-reach)), 0); py <= min(int(y+reach), v.n-1); py++ {
		for px := max(int(math.Ceil(x-reach)), 0); px <= min(int(x+reach), v.n-1); px++ {
			d := math.Hypot(float64(px)-x, float64(py)-y)
			i := py*v.n + px
			if d <= label {
				v.labels[i] = v.aim
			}
			cover := min(max(seen+0.5-d, 0), 1) * min(2*seen, 1)
			v.overlay[i] = max(v.overlay[i], float32(strength*cover))
			if r > 1.2 {
				core[i] = max(core[i], float32(1-d/(0.6*r)))
			}
		}
	}
}

// enFace gives a retina its intensities: a ground that is blotchy, and dark in the middle and towards the corners; plaques, seams of the
// scan, noise; and the vessels, which take a part of what light there is.
func (c *canvas) enFace() {
	f, g := c.scratch[0], c.scratch[1]
	c.smooth(f, c.whole(2, 5))
	c.smooth(g, c.whole(6, 16))
	broad, blotchy := float32(c.logBetween(0.01, 0.12)), float32(c.logBetween(0.003, 0.04))
	dim, cx, cy := c.between(0, 0.5), c.px(c.between(0.3, 0.7)), c.px(c.between(0.3, 0.7))
	for y := range c.n {
		for x := range c.n {
			i := y*c.n + x
			dx, dy := (float64(x)-cx)/c.px(1), (float64(y)-cy)/c.px(1)
			c.image[i] = (0.6 + broad*f[i] + blotchy*g[i]) * float32(1-dim*(dx*dx+dy*dy))
		}
	}
	if c.chance(0.2) { // plaques
		c.smooth(f, c.whole(4, 12))
		c.smooth(g, c.n/c.whole(2, 4))
		above, bright, rough := float32(c.between(0.7, 1.6)), float32(c.between(-0.2, 0.4)), float32(c.between(0, 0.12))
		for i, v := range f {
			if v > above {
				c.image[i] += min(3*(v-above), 1) * (bright + rough*g[i])
			}
		}
	}
	for range c.whole(0, 3) { // a fovea, and other dark or bright spots
		c.spot(c.px(c.between(0.1, 0.9)), c.px(c.between(0.1, 0.9)), c.scaled*c.logBetween(3, 14), c.between(0.3, 1), c.between(-0.4, 0.1))
	}
	// Vessels are not seen equally well everywhere.
	c.smooth(f, c.whole(3, 7))
	uneven := float32(c.between(0, 0.5))
	for i, v := range c.overlay {
		if v > 0 {
			c.image[i] *= 1 - v*min(max(1-uneven*(0.5+f[i]), 0.05), 1.2)
		}
	}
	c.blur(c.between(0, 0.6) * math.Sqrt(c.scaled))
	c.grain(c.logBetween(0.005, 0.05))
	if c.chance(0.28) {
		c.seams()
	}
	c.drawn[c.aim], c.drawn[1], c.noisy = 0, 1, 0 // how well it is seen was decided above
}

// spot darkens or brightens an ellipse with soft edges.
func (c *canvas) spot(x, y, radius, ratio, amount float64) {
	reach := 2.5 * radius
	for py := max(int(y-reach), 0); py <= min(int(y+reach), c.n-1); py++ {
		for px := max(int(x-reach), 0); px <= min(int(x+reach), c.n-1); px++ {
			dx, dy := (float64(px)-x)/radius, (float64(py)-y)/(radius*ratio)
			c.image[py*c.n+px] += float32(amount * math.Exp(-dx*dx-dy*dy))
		}
	}
}

// seams are lines of a scan that are darker than others, bands of them, and borders that were not scanned.
func (c *canvas) seams() {
	gains := make([]float32, c.n)
	for _, across := range []bool{false, true} {
		ripple := c.between(0, 0.05)
		for i := range gains {
			gains[i] = 1 + float32(ripple*c.NormFloat64())
		}
		for range c.whole(0, 3) {
			at, wide, gain := c.IntN(c.n), c.whole(1, max(c.n/10, 1)), float32(c.between(0.55, 1.1))
			for i := at; i < min(at+wide, c.n); i++ {
				gains[i] *= gain
			}
		}
		if c.chance(0.3) {
			clear(gains[:c.whole(1, c.n/20)])
		}
		fades := c.chance(0.5) // over the length of the lines
		for i := range c.image {
			line, along := i/c.n, i%c.n
			if across {
				line, along = along, line
			}
			k := gains[line]
			if fades {
				k = 1 + (k-1)*float32(along)/float32(c.n)
			}
			c.image[i] *= k
		}
	}
}
