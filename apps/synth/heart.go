package synth

import "math"

// heart is a short-axis slice through a heart: a wall of muscle, thick or thin, around a pool of blood in which muscles stand, a second
// chamber that touches it, and neighbours of which some look just like the wall.
func (c *canvas) heart() {
	c.tissues[0] = outside
	a := c.px(c.between(0.4, 0.6))
	body := c.star(c.px(c.between(0.35, 0.65)), c.px(c.between(0.35, 0.65)), a, a*c.between(0.6, 1), c.between(0, math.Pi), 0.1)
	c.paint(&body, 1, c.label(fat), -1)
	c.paint(&body, c.between(0.82, 0.96), c.label(soft), -1)
	radius := c.px(c.logBetween(0.06, 0.22))
	x, y := c.px(c.between(0.3, 0.7)), c.px(c.between(0.3, 0.7))
	for range c.whole(2, 6) { // lungs, liver, fat: sectors of what lies around
		t, s := c.between(0, 2*math.Pi), radius*c.between(0.8, 2.5)
		away := radius*c.between(0.6, 1.1) + 0.7*s
		around := c.star(x+away*math.Cos(t), y+away*math.Sin(t), s, s*c.between(0.5, 1), c.between(0, math.Pi), 0.15)
		c.paint(&around, 1, c.label([]tissue{muscle, lung, fat, soft}[c.pick(0.45, 0.2, 0.15, 0.2)]), -1)
	}
	for range c.whole(0, 4) { // vessels and a stomach, as bright as blood
		s := c.px(c.logBetween(0.015, 0.08))
		vessel := c.star(c.px(c.between(0.1, 0.9)), c.px(c.between(0.1, 0.9)), s, s*c.between(0.7, 1), c.between(0, math.Pi), 0.08)
		c.paint(&vessel, 1, c.label(blood), -1)
	}
	beside := c.between(0, 2*math.Pi)
	if c.chance(0.8) {
		s := radius * c.between(0.6, 1.3)
		away := radius + s*c.between(0.1, 0.5)
		chamber := c.star(x+away*math.Cos(beside), y+away*math.Sin(beside), s*c.between(0.45, 0.8), s*c.between(0.9, 1.3), beside, 0.12)
		if c.chance(0.5) {
			c.paint(&chamber, 1.12, c.label(muscle), -1)
		}
		c.paint(&chamber, 1, c.label(blood), -1)
	}
	c.wall(x, y, radius)
}

// wall draws the muscle around the pool, whose thickness varies round it, and which now and then is open on a side.
func (c *canvas) wall(x, y, radius float64) {
	outer := c.star(x, y, radius, radius*c.between(0.75, 1), c.between(0, math.Pi), 0.05)
	thick, vary, phase := c.logBetween(0.13, 0.5), c.between(0, 0.5), c.between(0, 2*math.Pi)
	thick = max(thick, 1.6/radius) // a pixel and a half at least
	wall, pool := c.label(muscle), c.label(blood)
	var inner [blobAngles]float32
	for i := range inner {
		t := thick * (1 + vary*math.Cos(float64(i)*2*math.Pi/blobAngles+phase))
		inner[i] = float32(1 - min(max(t, 0.07), 0.75))
	}
	opening, gap := c.between(0, 2*math.Pi), 0.0
	if c.chance(0.12) {
		gap = c.between(0.3, 1.2)
	}
	reach := 1.5 * radius
	for py := max(int(y-reach), 0); py <= min(int(y+reach), c.n-1); py++ {
		for px := max(int(x-reach), 0); px <= min(int(x+reach), c.n-1); px++ {
			level := outer.level(px, py)
			if level >= 1 {
				continue
			}
			dx, dy := float64(px)-x, float64(py)-y
			open := gap > 0 && math.Cos(math.Atan2(dy, dx)-opening) > math.Cos(gap)
			if level < inner[angle(float32(dx), float32(dy))] || open {
				c.labels[py*c.n+px] = pool
			} else {
				c.labels[py*c.n+px] = wall
			}
		}
	}
	if c.chance(0.7) { // papillary muscles
		l := c.label(muscle)
		for range c.whole(1, 5) {
			t, s := c.between(0, 2*math.Pi), radius*c.between(0.06, 0.16)
			away := (1 - thick) * radius * c.between(0.3, 0.85)
			pillar := c.star(x+away*math.Cos(t), y+away*math.Sin(t), s, s*c.between(0.5, 1), t, 0.15)
			c.paint(&pillar, 1, l, int(pool))
		}
	}
	if c.chance(0.85) {
		c.aim = wall
	}
}

// cine gives a heart the contrasts of MR: all blood is alike, and so is muscle, whatever it belongs to, but for a slow change from place to
// place.
func (c *canvas) cine() (l look) {
	bright, dark := c.between(0.45, 1), c.between(0.02, 0.4)
	if c.chance(0.15) { // the blood flows out of the slice before it gives a signal
		bright, dark = dark, bright
	}
	grain := c.between(0, 0.08)
	for i := range c.count {
		mean := c.between(0.05, 0.9)
		switch c.tissues[i] {
		case outside, air:
			mean = c.between(0, 0.05)
		case blood:
			mean = bright + 0.06*c.NormFloat64()
		case muscle:
			mean = dark + 0.025*c.NormFloat64()
		case lung:
			mean = c.between(0, max(dark, 0.12))
		}
		l.mean[i], l.texture[i] = float32(max(mean, 0)), float32(grain*c.between(0, 1.5))
	}
	if c.chance(0.5) { // coils nearby, and scars
		f := c.scratch[0]
		c.smooth(f, c.whole(3, 7))
		c.layered = true
		for i, label := range c.labels {
			c.overlay[i] = 0
			if c.tissues[label] == muscle {
				c.overlay[i] = f[i]
			}
		}
		l.mean[255] = float32(c.between(0.02, 0.14))
	}
	return l
}

// tubes are vessels, the gullet, the cord or nerves that run across the slice: small discs side by side that look alike, or lie in a canal.
// Their borders are as wide as they are small, for thick slices blur them.
func (c *canvas) tubes() {
	c.tissues[0] = soft
	if c.chance(0.5) {
		c.fields()
	} else {
		s := c.px(c.between(0.35, 0.55))
		body := c.star(c.px(0.5), c.px(0.5), s, s*c.between(0.6, 1), c.between(0, math.Pi), 0.1)
		c.tissues[0] = outside
		c.paint(&body, 1, c.label(soft), -1)
	}
	c.soft = c.chance(0.7)
	kinds := []uint8{c.label(c.ordinary()), c.label(soft), c.label(contrasted)}
	x, y := c.px(c.between(0.25, 0.75)), c.px(c.between(0.25, 0.75))
	if c.chance(0.4) { // a vertebra beside them
		s := c.px(c.between(0.06, 0.15))
		vertebra := c.star(x+s*c.between(-1.5, 1.5), y+s*1.3, s, s*c.between(0.6, 1), c.between(0, math.Pi), 0.1)
		c.paint(&vertebra, 1, c.label(bone), -1)
	}
	typical, s := c.px(c.logBetween(0.022, 0.05)), 0.0
	heading := c.between(0, 2*math.Pi)
	for k := range c.whole(2, 7) {
		before := s
		if s = typical * c.between(0.7, 1.35); k > 0 {
			heading += c.between(-1, 1)
			gap := (before+s)*c.between(1, 1.6) + 1
			x, y = x+gap*math.Cos(heading), y+gap*math.Sin(heading)
		}
		tube := c.star(x, y, s, s*c.between(0.65, 1), c.between(0, math.Pi), 0.06)
		kind := kinds[c.pick(0.6, 0.2, 0.2)]
		switch c.pick(0.6, 0.25, 0.15) {
		case 1: // in a canal, or with a wall
			c.paint(&tube, c.between(1.3, 2), c.label([]tissue{fluid, fat, soft}[c.IntN(3)]), -1)
		case 2:
			kind = c.label(c.ordinary())
		}
		c.paint(&tube, 1, kind, -1)
		if c.chance(0.5) || k == 0 {
			c.aim, c.apart = kind, true
		}
	}
}
