package synth

import (
	"math"
)

// tissue is what a label stands for where that decides its intensity, as in CT.
type tissue uint8

const (
	anything tissue = iota
	outside
	air
	lung
	fat
	soft
	contrasted
	bone
	fluid
	blood
	muscle
)

// scene draws a label map and returns its name.
func (c *canvas) scene() string {
	clear(c.labels)
	c.tissues = [256]tissue{}
	c.count, c.layered = 1, false
	c.aim, c.apart, c.scaled, c.soft = 0, false, 1, false
	drawings := []struct {
		name   string
		weight float64
		draw   func()
	}{
		{"fields", 0.13, c.fields}, {"blobs", 0.15, c.blobs}, {"torso", 0.27, c.torso}, {"head", 0.1, c.head},
		{"shells", 0.1, c.shells}, {"cells", 0.09, c.cells}, {"tissue", 0.04, c.membranes}, {"layers", 0.05, c.layers},
		{"projection", 0.05, c.projection}, {"tree", 0.04, c.tree},
		{"retina", 0.08, c.retina}, {"heart", 0.075, c.heart}, {"tubes", 0.06, c.tubes},
	}
	weights := make([]float64, len(drawings))
	for i, d := range drawings {
		weights[i] = d.weight
	}
	d := drawings[c.pick(weights...)]
	d.draw()
	if d.name == "retina" { // lines of one pixel would break
		return d.name
	}
	if d.name != "cells" && d.name != "tissue" && d.name != "tree" && c.chance(0.22) {
		c.vessels()
	}
	c.warp(float64(c.n) / 128 * 6)
	return d.name
}

// label takes a new label for a tissue.
func (c *canvas) label(t tissue) uint8 {
	l := min(c.count, 255)
	c.count = l + 1
	c.tissues[l] = t
	return uint8(l)
}

// ordinary is a tissue for a region of which nothing is known.
func (c *canvas) ordinary() tissue {
	return []tissue{soft, fat, contrasted, fluid, bone, air, lung}[c.pick(0.6, 0.12, 0.08, 0.06, 0.06, 0.04, 0.04)]
}

// px turns a share of the side into pixels.
func (c *canvas) px(share float64) float64 { return share * float64(c.n) }

// fields divides the picture by which of several smooth fields is the largest.
func (c *canvas) fields() {
	k, res := c.whole(3, 11), c.whole(3, 7)
	best, f := c.scratch[0], c.scratch[1]
	c.smooth(best, c.whole(3, 7))
	c.tissues[0] = soft
	for range k - 1 {
		l := c.label(c.ordinary())
		c.smooth(f, res)
		for i, v := range f {
			if v > best[i] {
				best[i], c.labels[i] = v, l
			}
		}
	}
}

// blobs puts star-shaped regions over each other, mostly in a body.
func (c *canvas) blobs() {
	c.tissues[0] = outside
	if c.chance(0.8) {
		s := c.px(c.between(0.3, 0.48))
		body := c.star(c.px(0.5), c.px(0.5), s, s*c.between(0.5, 1), c.between(0, math.Pi), 0.12)
		c.paint(&body, 1, c.label(soft), -1)
	}
	for range c.whole(3, 12) {
		l := c.label(c.ordinary())
		// Some objects come in several pieces that look the same.
		for range []int{1, 1, 1, 2, 3, 5}[c.IntN(6)] {
			s := c.px(c.logBetween(0.03, 0.3))
			b := c.star(c.px(c.between(0.1, 0.9)), c.px(c.between(0.1, 0.9)), s, s*c.between(0.4, 1), c.between(0, math.Pi), 0.14)
			c.paint(&b, 1, l, -1)
		}
	}
	if c.chance(0.4) {
		f, l := c.scratch[0], c.label(c.ordinary())
		c.smooth(f, c.whole(6, 12))
		for i, v := range f {
			if v > 1.4 {
				c.labels[i] = l
			}
		}
	}
}

// vessels draws thin branching tubes over what is there.
func (c *canvas) vessels() {
	l := c.label(contrasted)
	for range c.whole(1, 2) {
		edge := c.between(0.05, 0.95)
		x, y, heading := c.px(edge), c.px(c.between(0.1, 0.9)), c.between(0, 2*math.Pi)
		c.tube(x, y, heading, c.px(c.logBetween(0.008, 0.035)), c.px(c.between(0.3, 1.2)), l, c.whole(0, 4))
	}
}

// tree is vessels that spread from one place over a ground that is even but for a few spots, as at the back of an eye or in an
// angiogram.
func (c *canvas) tree() {
	c.tissues[0] = outside
	ground := c.label(soft)
	if r := c.px(c.between(0.4, 0.55)); c.chance(0.6) {
		disc := c.star(c.px(0.5), c.px(0.5), r, r*c.between(0.9, 1), 0, 0.02)
		c.paint(&disc, 1, ground, -1)
	} else {
		for i := range c.labels {
			c.labels[i] = ground
		}
	}
	for range c.whole(0, 3) {
		s := c.px(c.between(0.03, 0.1))
		spot := c.star(c.px(c.between(0.2, 0.8)), c.px(c.between(0.2, 0.8)), s, s*c.between(0.7, 1), c.between(0, 3), 0.08)
		c.paint(&spot, 1, c.label(soft), int(ground))
	}
	x, y := c.px(c.between(0.1, 0.9)), c.px(c.between(0.1, 0.9))
	vessels := c.label(contrasted)
	turn, many := c.between(0, 2*math.Pi), c.whole(2, 6)
	thick := c.px(c.logBetween(0.005, 0.022))
	for k := range many {
		c.tube(x, y, turn+2*math.Pi*float64(k)/float64(many)+0.4*c.NormFloat64(), thick*c.between(0.5, 1.2), c.px(c.between(0.5, 1.3)), vessels, c.whole(1, 9))
	}
}

// torso is an axial slice through chest or abdomen: a wall of fat and muscle, a spine, ribs, and organs.
func (c *canvas) torso() {
	c.tissues[0] = outside
	cx, cy := c.px(c.between(0.45, 0.55)), c.px(c.between(0.45, 0.55))
	a := c.px(c.between(0.36, 0.52))
	b := a * c.between(0.6, 0.92)
	body := c.star(cx, cy, a, b, c.between(-0.1, 0.1), 0.05)
	fatty := c.between(0.8, 0.97)
	wall := fatty * c.between(0.82, 0.95)
	c.paint(&body, 1, c.label(fat), -1)
	c.paint(&body, fatty, c.label(soft), -1)
	cavity := c.label([]tissue{fat, soft}[c.pick(0.7, 0.3)])
	c.paint(&body, wall, cavity, -1)
	back := 0.55 * b * wall
	if c.chance(0.35) {
		c.chest(cx, cy, a*wall, b*wall)
	} else {
		c.abdomen(cx, cy, a*wall, b*wall, back)
	}
	c.vertebra(cx+c.px(c.between(-0.02, 0.02)), cy+back, a*c.between(0.13, 0.2))
	c.ribs(cx, cy, a*(wall+fatty)/2, b*(wall+fatty)/2)
	if c.chance(0.3) {
		// The table.
		l := c.label(soft)
		bend := c.between(-0.3, 0.3)
		for x := range c.n {
			d := (float64(x) - cx) / a
			c.disc(float64(x), min(cy+b*1.08+bend*d*d*c.px(0.1), c.px(1.1)), c.px(0.006), l)
		}
	}
}

func (c *canvas) vertebra(x, y, r float64) {
	shell, marrow := c.label(bone), c.label(bone)
	body := c.star(x, y, r, r*c.between(0.7, 0.95), 0, 0.08)
	for _, side := range []float64{-1, 1} {
		process := c.star(x+side*r*0.9, y+r*0.9, r*0.7, r*0.22, side*c.between(-0.2, 0.5), 0.15)
		c.paint(&process, 1, shell, -1)
	}
	spine := c.star(x, y+r*1.6, r*0.2, r*0.7, 0, 0.1)
	c.paint(&spine, 1, shell, -1)
	canal := c.star(x, y+r*1.05, r*0.55, r*0.45, 0, 0.08)
	c.paint(&canal, 1.35, shell, -1)
	c.paint(&canal, 1, c.label(fluid), -1)
	if c.chance(0.5) {
		c.paint(&canal, 0.6, c.label(soft), -1)
	}
	c.paint(&body, 1, shell, -1)
	c.paint(&body, c.between(0.7, 0.9), marrow, -1)
}

func (c *canvas) ribs(cx, cy, a, b float64) {
	l := c.label(bone)
	for range c.whole(0, 14) {
		t := c.between(0, 2*math.Pi)
		if math.Abs(math.Sin(t)) > 0.93 {
			continue
		}
		x, y := cx+a*math.Cos(t), cy+b*math.Sin(t)
		along := math.Atan2(b*math.Cos(t), -a*math.Sin(t))
		s := a * c.between(0.04, 0.11)
		rib := c.star(x, y, s, s*c.between(0.25, 0.5), along, 0.1)
		c.paint(&rib, 1, l, -1)
	}
}

// organ paints one blob of a new label, at (x,y) in halves of the cavity, and returns both.
func (c *canvas) organ(cx, cy, a, b, x, y, size float64, t tissue) (blob, uint8) {
	x, y = x+0.1*c.NormFloat64(), y+0.1*c.NormFloat64()
	s := size * c.between(0.75, 1.25) * a
	o := c.star(cx+x*a, cy+y*b, s, s*c.between(0.5, 0.95), c.between(0, math.Pi), 0.18)
	l := c.label(t)
	c.paint(&o, 1, l, -1)
	return o, l
}

func (c *canvas) abdomen(cx, cy, a, b, back float64) {
	mirror := []float64{-1, 1}[c.IntN(2)]
	paints := []func(){
		func() { c.organ(cx, cy, a, b, mirror*-0.5, -0.15, c.between(0.25, 0.5), soft) }, // liver
		func() { c.organ(cx, cy, a, b, mirror*0.6, 0.1, c.between(0.12, 0.3), soft) },    // spleen
		func() { c.hollow(cx, cy, a, b, mirror*0.3, -0.3, c.between(0.15, 0.3)) },        // stomach
		func() { c.organ(cx, cy, a, b, 0.05, -0.1, c.between(0.08, 0.16), soft) },        // pancreas
		func() {
			for range c.whole(0, 7) { // bowel
				c.hollow(cx, cy, a, b, c.between(-0.6, 0.6), c.between(-0.6, 0.3), c.between(0.06, 0.13))
			}
		},
		func() {
			kidney := []tissue{soft, contrasted}[c.IntN(2)]
			for _, side := range []float64{-1, 1} {
				o, _ := c.organ(cx, cy, a, b, side*0.48, 0.4, c.between(0.13, 0.2), kidney)
				if c.chance(0.6) {
					o.x -= side * o.a * 0.3
					c.paint(&o, c.between(0.3, 0.6), c.label([]tissue{fat, fluid, soft}[c.IntN(3)]), -1)
				}
			}
		},
		func() { // aorta and vena cava
			t := []tissue{contrasted, soft}[c.IntN(2)]
			for _, side := range []float64{-0.09, 0.09} {
				r := a * c.between(0.05, 0.085)
				v := c.star(cx+side*a+c.px(0.01)*c.NormFloat64(), cy+back-a*0.24, r, r*c.between(0.7, 1), 0, 0.05)
				c.paint(&v, 1, c.label(t), -1)
			}
		},
	}
	if c.chance(0.5) { // muscles beside the spine, and the diaphragm's crura, sheets that lie on it and on the aorta
		l := c.label(soft)
		for _, side := range []float64{-1, 1} {
			r := a * c.between(0.07, 0.14)
			muscle := c.star(cx+side*a*c.between(0.18, 0.27), cy+back+a*c.between(-0.08, 0.08), r, r*c.between(0.6, 1), c.between(0, 3), 0.1)
			c.paint(&muscle, 1, l, -1)
			if c.chance(0.6) {
				length := a * c.between(0.1, 0.22)
				crus := c.star(cx+side*a*c.between(0.05, 0.16), cy+back-a*c.between(0.12, 0.26), length, length*c.between(0.15, 0.35), side*c.between(0.2, 1.2), 0.15)
				c.paint(&crus, 1, l, -1)
			}
		}
	}
	c.Shuffle(len(paints), func(i, j int) { paints[i], paints[j] = paints[j], paints[i] })
	for _, paint := range paints {
		if c.chance(0.8) {
			paint()
		}
	}
	if c.chance(0.4) { // lesions or vessels inside organs
		l := c.label([]tissue{fluid, soft, contrasted}[c.IntN(3)])
		for range c.whole(1, 8) {
			r := a * c.logBetween(0.02, 0.09)
			s := c.star(cx+a*c.between(-0.7, 0.7), cy+b*c.between(-0.6, 0.6), r, r*c.between(0.6, 1), 0, 0.1)
			c.paint(&s, 1, l, -1)
		}
	}
}

// hollow is an organ with a wall, and air or fluid inside.
func (c *canvas) hollow(cx, cy, a, b, x, y, size float64) {
	o, wall := c.organ(cx, cy, a, b, x, y, size, soft)
	if c.chance(0.6) {
		inside := c.label(fluid)
		c.paint(&o, c.between(0.6, 0.88), inside, int(wall))
		if c.chance(0.6) { // air rises
			bubble := c.star(o.x, o.y-o.b*0.5, o.a*c.between(0.4, 0.8), o.b*c.between(0.2, 0.6), 0, 0.1)
			c.paint(&bubble, 1, c.label(air), int(inside))
		}
	}
}

func (c *canvas) chest(cx, cy, a, b float64) {
	shared := c.label(lung)
	for _, side := range []float64{-1, 1} {
		s := c.star(cx+side*a*c.between(0.48, 0.55), cy+b*c.between(-0.1, 0.1), a*c.between(0.36, 0.45), b*c.between(0.65, 0.85), side*0.1, 0.08)
		c.paint(&s, 1, shared, -1)
	}
	heart, l := c.organ(cx, cy, a, b, 0.1, -0.15, c.between(0.25, 0.42), soft)
	for range c.whole(0, 4) { // chambers
		s := heart.a * c.between(0.2, 0.45)
		r := c.star(heart.x+heart.a*c.between(-0.5, 0.5), heart.y+heart.b*c.between(-0.5, 0.5), s, s*c.between(0.5, 1), c.between(0, 3), 0.12)
		c.paint(&r, 1, c.label([]tissue{contrasted, soft}[c.IntN(2)]), int(l))
	}
	r := a * c.between(0.06, 0.09)
	aorta := c.star(cx+a*c.between(0.08, 0.16), cy+b*0.32, r, r, 0, 0.04)
	c.paint(&aorta, 1, c.label([]tissue{contrasted, soft}[c.IntN(2)]), -1)
	v := c.label(soft)
	for range c.whole(0, 30) { // vessels in the lungs, seen end on
		x, y := cx+a*c.between(-0.9, 0.9), cy+b*c.between(-0.7, 0.7)
		if ix, iy := int(x), int(y); ix >= 0 && iy >= 0 && ix < c.n && iy < c.n && c.labels[iy*c.n+ix] == shared {
			c.disc(x, y, c.px(c.between(0.004, 0.014)), v)
		}
	}
}

// head is a slice through a skull or a brain without it: shells, and a border between two tissues that is folded.
func (c *canvas) head() {
	c.tissues[0] = outside
	a := c.px(c.between(0.32, 0.5))
	s := c.star(c.px(c.between(0.45, 0.55)), c.px(c.between(0.45, 0.55)), a, a*c.between(0.7, 1), c.between(0, math.Pi), 0.05)
	inner := 1.0
	if c.chance(0.6) {
		c.paint(&s, 1, c.label(fat), -1)
		inner = c.between(0.88, 0.95)
		c.paint(&s, inner, c.label(bone), -1)
		inner *= c.between(0.86, 0.95)
		c.paint(&s, inner, c.label(fluid), -1)
	}
	fold, f := c.scratch[0], c.scratch[1]
	c.smooth(fold, c.whole(9, 22))
	c.smooth(f, c.whole(5, 9))
	csf, grey, white := c.label(fluid), c.label(soft), c.label(soft)
	depth, strength := float32(inner*c.between(0.55, 0.8)), float32(c.between(0.08, 0.25))
	margin := float32(inner * c.between(0.9, 1))
	for y := range c.n {
		for x := range c.n {
			i := y*c.n + x
			level := s.level(x, y)
			if level > float32(inner) {
				continue
			}
			switch bent := level + strength*fold[i]; {
			case bent < depth+0.05*f[i]:
				c.labels[i] = white
			case level+0.4*strength*fold[i] < margin:
				c.labels[i] = grey
			default:
				c.labels[i] = csf
			}
		}
	}
	c.deepStructures(&s, csf)
}

// deepStructures come in pairs that mirror each other.
func (c *canvas) deepStructures(head *blob, csf uint8) {
	for range c.whole(1, 5) {
		l := c.label([]tissue{soft, fluid}[c.pick(0.7, 0.3)])
		if c.chance(0.2) {
			l = csf
		}
		u, v, size := c.between(0.05, 0.35), c.between(-0.45, 0.45), c.between(0.06, 0.2)*head.b
		ratio, turn := c.between(0.3, 0.9), c.between(-1, 1)
		for _, side := range []float64{-1, 1} {
			x := head.x + head.a*v*head.cos - head.b*side*u*head.sin
			y := head.y + head.a*v*head.sin + head.b*side*u*head.cos
			s := c.star(x, y, size, size*ratio, math.Atan2(head.sin, head.cos)+side*turn, 0.12)
			c.paint(&s, 1, l, -1)
		}
	}
}

// shells are rings and walls: vessel walls, heart chambers, bones with marrow, the eye.
func (c *canvas) shells() {
	c.tissues[0] = outside
	if c.chance(0.5) {
		c.fields()
	} else if c.chance(0.7) {
		s := c.px(c.between(0.35, 0.5))
		body := c.star(c.px(0.5), c.px(0.5), s, s*c.between(0.6, 1), c.between(0, math.Pi), 0.1)
		c.paint(&body, 1, c.label(soft), -1)
	}
	for range c.whole(1, 5) {
		s := c.px(c.logBetween(0.06, 0.4))
		b := c.star(c.px(c.between(0.2, 0.8)), c.px(c.between(0.2, 0.8)), s, s*c.between(0.6, 1), c.between(0, math.Pi), 0.1)
		scale := 1.0
		for range c.whole(2, 4) {
			c.paint(&b, scale, c.label(c.ordinary()), -1)
			scale *= c.between(0.5, 0.9)
			b.x += s * 0.06 * c.NormFloat64()
			b.y += s * 0.06 * c.NormFloat64()
		}
	}
}

// cells are many small objects of one or a few kinds, some of them rings, as under a microscope.
func (c *canvas) cells() {
	c.tissues[0] = outside
	if c.chance(0.3) {
		f, l := c.scratch[0], c.label(soft)
		c.smooth(f, c.whole(3, 8))
		for i, v := range f {
			if v > 0.3 {
				c.labels[i] = l
			}
		}
	}
	kinds := make([]uint8, c.whole(1, 3))
	for i := range kinds {
		kinds[i] = c.label(contrasted)
	}
	core := c.label(soft)
	ringed := c.chance(0.3)
	typical := c.logBetween(0.018, 0.08)
	many := min(int(c.between(0.15, 0.7)/(math.Pi*typical*typical)), 220)
	for range many {
		s := c.px(typical * c.between(0.6, 1.4))
		b := c.star(c.px(c.Float64()), c.px(c.Float64()), s, s*c.between(0.45, 1), c.between(0, math.Pi), 0.1)
		c.paint(&b, 1, kinds[c.IntN(len(kinds))], -1)
		if ringed {
			c.paint(&b, c.between(0.45, 0.75), core, -1)
		}
	}
}

// membranes divide the picture into cells with thin walls (Voronoi cells of a jittered grid), as in electron microscopy.
func (c *canvas) membranes() {
	grid := c.whole(3, 9)
	side := float32(c.n) / float32(grid)
	type seed struct {
		x, y  float32
		label uint8
	}
	kinds := make([]uint8, c.whole(2, 5))
	for i := range kinds {
		kinds[i] = c.label(soft)
	}
	wide := grid + 2
	seeds := make([]seed, wide*wide)
	for i := range seeds {
		seeds[i] = seed{(float32(i%wide-1) + c.Float32()) * side, (float32(i/wide-1) + c.Float32()) * side, kinds[c.IntN(len(kinds))]}
	}
	wall := float32(c.px(c.logBetween(0.01, 0.05)))
	c.tissues[0] = fluid // the walls
	for y := range c.n {
		for x := range c.n {
			first, second, label := float32(math.MaxFloat32), float32(math.MaxFloat32), uint8(0)
			gx, gy := min(int(float32(x)/side), grid-1), min(int(float32(y)/side), grid-1)
			for k := range 9 {
				s := &seeds[(gy+k/3)*wide+gx+k%3]
				dx, dy := float32(x)-s.x, float32(y)-s.y
				if d := dx*dx + dy*dy; d < first {
					first, second, label = d, first, s.label
				} else if d < second {
					second = d
				}
			}
			if float32(math.Sqrt(float64(second))-math.Sqrt(float64(first))) > wall {
				c.labels[y*c.n+x] = label
			}
		}
	}
	if c.chance(0.5) { // organelles
		l := c.label(contrasted)
		for range c.whole(2, 12) {
			s := c.px(c.between(0.015, 0.05))
			b := c.star(c.px(c.Float64()), c.px(c.Float64()), s, s*c.between(0.4, 1), c.between(0, math.Pi), 0.1)
			c.paint(&b, 1, l, -1)
		}
	}
}

// layers lie over each other as skin, fat and muscle do under an ultrasound probe, with vessels and nerves in between.
func (c *canvas) layers() {
	f, g := c.scratch[0], c.scratch[1]
	c.noise(f, c.whole(2, 5), c.whole(2, 4))
	c.noise(g, c.whole(3, 7), c.whole(6, 16))
	k := c.whole(3, 9)
	borders := make([]float32, k)
	tags := make([]uint8, k)
	for i := range borders {
		borders[i], tags[i] = c.Float32(), c.label(c.ordinary())
	}
	bend, fine := float32(c.between(0.02, 0.15)), float32(c.between(0, 0.04))
	for y := range c.n {
		for x := range c.n {
			i := y*c.n + x
			v := float32(y)/float32(c.n) + bend*f[i] + fine*g[i]
			below, at := float32(-9), uint8(0)
			for j, b := range borders {
				if b < v && b > below {
					below, at = b, tags[j]
				}
			}
			c.labels[i] = at
		}
	}
	sheet := c.label(bone) // bright sheets between them
	for y := range c.n {
		for x := range c.n {
			i := y*c.n + x
			v := float32(y)/float32(c.n) + bend*f[i] + fine*g[i]
			for j, b := range borders {
				if j%2 == 0 && v-b > 0 && v-b < 0.012 {
					c.labels[i] = sheet
				}
			}
		}
	}
	for range c.whole(1, 5) {
		s := c.px(c.logBetween(0.04, 0.2))
		b := c.star(c.px(c.between(0.1, 0.9)), c.px(c.between(0.1, 0.9)), s, s*c.between(0.4, 1), c.between(-0.4, 0.4), 0.12)
		l := c.label([]tissue{fluid, soft}[c.IntN(2)])
		if c.chance(0.4) {
			c.paint(&b, 1.15, c.label(bone), -1)
		}
		c.paint(&b, 1, l, -1)
	}
}

// projection is an X-ray: everything lies over everything, so ribs and folds brighten whatever they cross.
func (c *canvas) projection() {
	c.tissues[0] = outside
	c.layered = true
	clear(c.overlay)
	if c.chance(0.5) {
		c.thorax()
	} else {
		c.limb()
	}
}

func (c *canvas) thorax() {
	body := c.label(soft)
	for i := range c.labels {
		c.labels[i] = body
	}
	cx := c.px(c.between(0.45, 0.55))
	lungs := c.label(lung)
	for _, side := range []float64{-1, 1} {
		s := c.star(cx+side*c.px(c.between(0.18, 0.24)), c.px(c.between(0.42, 0.52)), c.px(c.between(0.12, 0.18)), c.px(c.between(0.26, 0.36)), side*c.between(-0.15, 0.05), 0.1)
		c.paint(&s, 1, lungs, -1)
	}
	heart := c.star(cx+c.px(c.between(0.02, 0.08)), c.px(c.between(0.55, 0.68)), c.px(c.between(0.1, 0.17)), c.px(c.between(0.1, 0.16)), c.between(-0.6, 0.6), 0.08)
	c.paint(&heart, 1, c.label(soft), -1)
	c.stripe(cx, 0, cx, c.px(1), c.px(c.between(0.03, 0.05)), 0, float32(c.between(0.1, 0.4)))
	pairs, slope := c.whole(5, 10), c.between(0.05, 0.2)
	strength := float32(c.between(0.05, 0.25))
	for k := range pairs {
		y := c.px(0.1 + 0.75*float64(k)/float64(pairs))
		for _, side := range []float64{-1, 1} {
			c.stripe(cx, y, cx+side*c.px(0.42), y+c.px(slope), c.px(0.014), c.px(-0.1), strength)
		}
	}
}

// stripe brightens the overlay along a curve from (x0,y0) to (x1,y1) that sags by bow in its middle.
func (c *canvas) stripe(x0, y0, x1, y1, half, bow float64, strength float32) {
	c.layered = true
	steep := math.Abs(y1-y0) > math.Abs(x1-x0)
	from, to := x0, x1
	if steep {
		from, to = y0, y1
	}
	for p := max(int(min(from, to)), 0); p < min(int(max(from, to)), c.n); p++ {
		t := (float64(p) - from) / (to - from)
		q := y0 + (y1-y0)*t + bow*4*t*(1-t)
		if steep {
			q = x0 + (x1-x0)*t + bow*4*t*(1-t)
		}
		for o := int(q - half); o <= int(q+half); o++ {
			if o < 0 || o >= c.n {
				continue
			}
			d := (float64(o) - q) / half
			i := o*c.n + p
			if steep {
				i = p*c.n + o
			}
			c.overlay[i] += strength * float32(max(1-d*d, 0))
		}
	}
}

func (c *canvas) limb() {
	x, w := c.px(c.between(0.4, 0.6)), c.px(c.between(0.2, 0.4))
	flesh := c.star(x, c.px(0.5), w, c.px(1.2), c.between(-0.2, 0.2), 0.05)
	c.paint(&flesh, 1, c.label(soft), -1)
	for range c.whole(1, 3) {
		r := w * c.between(0.15, 0.35)
		bx, turn := x+w*c.between(-0.5, 0.5), c.between(-0.3, 0.3)
		l := c.label(bone)
		shaft := c.star(bx, c.px(c.between(-0.1, 1.1)), r, c.px(c.between(0.5, 0.8)), turn, 0.05)
		c.paint(&shaft, 1, l, -1)
		if c.chance(0.7) {
			marrow := shaft
			marrow.a *= c.between(0.4, 0.7)
			c.paint(&marrow, 0.95, c.label(bone), int(l))
		}
		for range c.whole(0, 2) {
			s := r * c.between(1.2, 2)
			knob := c.star(bx+r*c.NormFloat64(), c.px(c.between(0.2, 0.8)), s, s*c.between(0.6, 1), c.between(0, 3), 0.12)
			c.paint(&knob, 1, l, -1)
		}
	}
	c.stripe(x-w, c.px(c.between(0, 1)), x+w, c.px(c.between(0, 1)), c.px(0.03), 0, float32(c.between(0, 0.2)))
}
