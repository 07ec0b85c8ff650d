package synth

import (
	"math"

	"scrawl/adapters/morph"
)

// look is how labels become intensities: a mean and a strength of texture by label.
type look struct {
	mean, texture [256]float32
}

// render turns the label map into c.image, 0…1, and returns the name of what it imitates.
func (c *canvas) render(scene string) string {
	if scene == "retina" {
		c.enFace()
		c.scale("en face")
		return "en face"
	}
	modality := c.modality(scene)
	var l look
	switch modality {
	case "ct":
		l = c.hounsfield()
	case "close":
		l = c.close()
	case "cine":
		l = c.cine()
	default:
		l = c.contrasts()
	}
	if modality == "fluorescence" {
		c.stain(&l)
	}
	if len(c.merged) == 2 {
		other, of := c.merged[0], c.merged[1]
		differ := 0.015 * c.spread(&l)
		if modality == "ct" { // air and bone make its spread
			differ = 0.005
		}
		l.mean[other] = l.mean[of] + float32(differ*c.NormFloat64())
		if c.chance(0.7) {
			l.texture[other] = l.texture[of]
		}
	}
	c.drawn, c.noisy = l.mean, 0
	for i, label := range c.labels {
		c.image[i] = l.mean[label]
	}
	if c.layered {
		for i, v := range c.overlay {
			c.image[i] += v * l.mean[255]
		}
	}
	if c.chance(0.3) {
		c.substructure(0.08 * c.spread(&l))
	}
	c.texture(&l)
	if c.soft {
		c.blur(c.px(c.between(0.005, 0.015)))
	}
	switch modality {
	case "ct":
		c.acquireCT()
	case "speckle":
		c.acquireUltrasound()
	default:
		c.acquire(modality)
	}
	c.scale(modality)
	return modality
}

// modality chooses what to imitate, as suits the scene mostly.
func (c *canvas) modality(scene string) string {
	names := []string{"contrasts", "close", "ct", "speckle", "fluorescence", "cine"}
	weights := map[string][]float64{
		"torso":  {0.22, 0.13, 0.62, 0.03, 0},
		"head":   {0.72, 0.16, 0.12, 0, 0},
		"layers": {0.3, 0.1, 0, 0.6, 0},
		"cells":  {0.4, 0.05, 0, 0.05, 0.5},
		"tissue": {0.8, 0.15, 0, 0.05, 0},
		"tree":   {0.6, 0.3, 0, 0, 0.1},
		"heart":  {0.15, 0.05, 0.12, 0.03, 0, 0.65},
		"tubes":  {0.5, 0.2, 0.28, 0.02, 0},
	}[scene]
	if weights == nil {
		weights = []float64{0.54, 0.2, 0.16, 0.06, 0.04}
	}
	return names[c.pick(weights...)]
}

// contrasts gives every label any intensity, as MR and much else may.
func (c *canvas) contrasts() (l look) {
	for i := range l.mean {
		l.mean[i] = c.Float32()
		if c.chance(0.7) {
			l.texture[i] = float32(c.between(0, 0.12))
		}
	}
	if c.tissues[0] == outside && c.chance(0.7) {
		l.mean[0], l.texture[0] = 0, 0
	}
	return l
}

// close lets neighbouring organs differ by little, as in an abdomen without contrast agent. A few labels stand out.
func (c *canvas) close() (l look) {
	spread, grain := c.between(0.04, 0.2), c.between(0, 0.05)
	for i := range l.mean {
		l.mean[i] = float32(0.5 + spread*c.between(-1, 1))
		if c.chance(0.1) {
			l.mean[i] = c.Float32()
		}
		l.texture[i] = float32(grain * c.Float64())
	}
	if c.tissues[0] == outside && c.chance(0.7) {
		l.mean[0] = 0
	}
	return l
}

// hounsfield gives labels the intensities of their tissues in CT, in thousands of Hounsfield units.
func (c *canvas) hounsfield() (l look) {
	agent := c.between(0.08, 0.35) // contrast agent in the blood
	least, most := 0.02, 0.13
	if c.chance(0.45) { // organs that are hard to tell apart
		mean, spread := c.between(0.04, 0.12), c.between(0.006, 0.03)
		least, most = mean-spread, mean+spread
	}
	for i := range c.count {
		var hu, grain float64
		switch t := c.tissues[i]; t {
		case outside, air:
			hu = -1
		case lung:
			hu, grain = c.between(-0.9, -0.65), 0.03
		case fat:
			hu, grain = c.between(-0.12, -0.07), 0.008
		case contrasted, blood:
			hu, grain = agent*c.between(0.8, 1.1), 0.008
		case bone:
			hu, grain = c.logBetween(0.15, 1.3), 0.05
		case fluid:
			hu, grain = c.between(-0.01, 0.03), 0.004
		default:
			hu, grain = c.between(least, most), 0.008
		}
		l.mean[i], l.texture[i] = float32(hu), float32(grain*c.between(0, 1.5))
	}
	l.mean[255] = float32(c.between(0.2, 1))
	return l
}

// stain makes the background dark and everything else brighter.
func (c *canvas) stain(l *look) {
	for i := range l.mean {
		l.mean[i] = 0.25 + 0.75*l.mean[i]
	}
	l.mean[0], l.texture[0] = float32(c.between(0, 0.1)), 0
	if c.count > 1 && c.tissues[1] == soft {
		l.mean[1] = l.mean[0] + float32(c.between(0, 0.1))
	}
}

// spread is the range of the means in use.
func (c *canvas) spread(l *look) float64 {
	lo, hi := l.mean[0], l.mean[0]
	for _, v := range l.mean[:c.count] {
		lo, hi = min(lo, v), max(hi, v)
	}
	return float64(hi-lo) + 1e-3
}

// substructure adds shapes inside the regions that are no object of their own.
func (c *canvas) substructure(amount float64) {
	f, k := c.scratch[0], float32(c.between(0.3, 1.2)*amount)
	c.smooth(f, c.whole(6, 24))
	threshold := float32(c.between(-0.3, 0.8))
	hard := c.chance(0.5)
	for i, v := range f {
		switch {
		case !hard:
			c.image[i] += k * v
		case v > threshold:
			c.image[i] += k
		}
	}
}

// texture adds grain of each label's strength. Two grains share the labels, so that regions differ in more than their mean.
func (c *canvas) texture(l *look) {
	fine, coarse := c.scratch[0], c.scratch[1]
	c.smooth(fine, int(float64(c.n)/c.between(1, 2.5)))
	c.smooth(coarse, int(float64(c.n)/c.logBetween(2.5, 10)))
	var mix [256]float32
	for i := range mix {
		mix[i] = c.Float32()
	}
	for i, label := range c.labels {
		t := l.texture[label]
		if t != 0 {
			m := mix[label]
			c.image[i] += t * 1.3 * (m*fine[i] + (1-m)*coarse[i])
		}
	}
}

// acquireCT adds blur and the noise of a reconstruction kernel, the same in Hounsfield units everywhere; and now and then streaks
// from metal.
func (c *canvas) acquireCT() {
	c.blur(c.between(0.2, 1))
	c.grain(c.logBetween(0.003, 0.045))
	if !c.chance(0.06) {
		return
	}
	x0, y0, k := c.px(c.between(0.2, 0.8)), c.px(c.between(0.2, 0.8)), c.between(3, 14)
	strength, phase := c.between(0.02, 0.15), c.between(0, 6)
	for y := range c.n {
		for x := range c.n {
			dx, dy := float64(x)-x0, float64(y)-y0
			i := angle(float32(dx), float32(dy))
			wave := math.Sin(k*float64(i)*2*math.Pi/blobAngles + phase)
			c.image[y*c.n+x] += float32(strength * wave / (1 + math.Hypot(dx, dy)/c.px(0.15)))
		}
	}
}

// acquireUltrasound multiplies by speckle, darkens with depth and below dense objects, and compresses the range.
func (c *canvas) acquireUltrasound() {
	re, im := c.scratch[0], c.scratch[1]
	resx, resy := int(float64(c.n)/c.between(1.2, 4)), int(float64(c.n)/c.between(1, 2))
	c.noise(re, resx, resy)
	c.noise(im, resx, resy)
	c.blur(c.between(0, 0.8))
	strength := float32(c.between(0.3, 1))
	fade := c.between(-0.3, 1.5)
	shadow := c.scratch[2]
	c.noise(shadow, c.whole(3, 12), 2)
	dark := float32(c.between(0, 0.35))
	compress := float32(c.between(1, 30))
	for y := range c.n {
		depth := float32(math.Exp(-fade * float64(y) / float64(c.n)))
		for x := range c.n {
			i := y*c.n + x
			speckle := float32(math.Sqrt(float64(re[i]*re[i]+im[i]*im[i]))) * 0.8
			v := max(c.image[i], 0.01) * (1 + strength*(speckle-1)) * depth * max(1+dark*shadow[i], 0.1)
			c.image[i] = float32(math.Log1p(float64(max(v, 0) * compress)))
		}
	}
	c.blur(c.between(0, 0.7))
}

// acquire adds what most scanners add: uneven sensitivity, blur, noise.
func (c *canvas) acquire(modality string) {
	if c.chance(0.5) {
		f, k := c.scratch[0], float32(c.between(0, 0.35))
		c.smooth(f, c.whole(2, 4))
		for i, v := range f {
			c.image[i] *= max(1+k*v, 0.05)
		}
	}
	c.blur(c.between(0, 1.2))
	if modality == "close" {
		c.grain(c.between(0, 0.05))
		return
	}
	if c.chance(0.25) { // Rician: noise of a magnitude
		s := c.between(0, 0.08)
		c.noisy = float32(s)
		c.smooth(c.scratch[0], c.n)
		c.smooth(c.scratch[1], c.n)
		for i, v := range c.image {
			a, b := float64(v)+s*float64(c.scratch[0][i]), s*float64(c.scratch[1][i])
			c.image[i] = float32(math.Sqrt(a*a + b*b))
		}
		return
	}
	c.grain(c.between(0, 0.08))
}

// grain adds noise of the given strength and of one or two correlation lengths.
func (c *canvas) grain(sigma float64) {
	f, g := c.scratch[0], c.scratch[1]
	length := 1.0
	if c.chance(0.6) {
		length = c.between(1, 2.5)
	}
	c.smooth(f, int(float64(c.n)/length))
	k, m := float32(sigma), float32(0)
	c.noisy = k
	if length > 1 {
		k *= 1.3 // interpolation has taken some of it
	}
	if c.chance(0.3) {
		c.smooth(g, int(float64(c.n)/c.between(3, 8)))
		m = float32(sigma * c.between(0.2, 0.8))
	}
	for i := range c.image {
		c.image[i] += k * f[i]
		if m != 0 {
			c.image[i] += m * g[i]
		}
	}
}

func (c *canvas) blur(sigma float64) {
	if sigma > 0.25 {
		copy(c.image, morph.Blur(c.image, c.n, c.n, sigma, 3))
	}
}

// scale brings the picture to 0…1 as the application does: by percentiles, which are those of a whole volume and may be far
// from this slice's; or by a window.
func (c *canvas) scale(modality string) {
	lo, hi := c.percentiles()
	switch {
	case modality == "ct" && c.chance(0.35):
		centre, width := c.between(0, 0.1), c.logBetween(0.15, 1)
		lo, hi = float32(centre-width/2), float32(centre+width/2)
	case modality == "ct" && c.chance(0.5):
		lo, hi = min(lo, float32(c.between(-1.05, -0.5))), max(hi, float32(c.between(0.3, 1.2)))
	case c.chance(0.3):
		span := hi - lo
		lo -= span * float32(c.between(0, 1.5))
		hi += span * float32(c.between(0, 1.5))
	}
	k := 1 / max(hi-lo, 1e-6)
	for i, v := range c.image {
		c.image[i] = min(max((v-lo)*k, 0), 1)
	}
	if c.chance(0.3) {
		power := c.between(0.5, 1.7)
		for i, v := range c.image {
			c.image[i] = float32(math.Pow(float64(v), power))
		}
	}
	if inverted := 0.4; modality != "ct" && c.chance(inverted) || c.chance(0.12) {
		for i, v := range c.image {
			c.image[i] = 1 - v
		}
	}
}

// percentiles are the 0.5th and the 99.5th of the picture, to a thousandth of its range.
func (c *canvas) percentiles() (lo, hi float32) {
	lowest, highest := c.image[0], c.image[0]
	for _, v := range c.image {
		lowest, highest = min(lowest, v), max(highest, v)
	}
	const bins = 1024
	var histogram [bins]int
	step := max(highest-lowest, 1e-6) / bins
	for _, v := range c.image {
		histogram[min(int((v-lowest)/step), bins-1)]++
	}
	tail := len(c.image) / 200
	first, last := 0, bins-1
	for n := histogram[0]; n <= tail && first < bins-1; n += histogram[first] {
		first++
	}
	for n := histogram[bins-1]; n <= tail && last > 0; n += histogram[last] {
		last--
	}
	return lowest + float32(first)*step, lowest + float32(last+1)*step
}

// visible reports whether at least half of the object's surroundings differ from it by more than noise hides.
func (c *canvas) visible(object morph.Mask) bool {
	var inside [256]bool
	for i, b := range object.Bits {
		if b {
			inside[c.labels[i]] = true
		}
	}
	ring, seen := 0, 0
	for i, near := range object.Dilate(1.5).Bits {
		if !near || object.Bits[i] {
			continue
		}
		ring++
		least := float32(math.MaxFloat32)
		for l := range c.count {
			if inside[l] {
				least = min(least, float32(math.Abs(float64(c.drawn[l]-c.drawn[c.labels[i]]))))
			}
		}
		if least > 0.75*c.noisy+0.004 {
			seen++
		}
	}
	return 2*seen >= ring
}
