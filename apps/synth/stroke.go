package synth

import (
	"math"
	"math/rand/v2"

	"scrawl/adapters/morph"
)

// Stroke draws what a user might draw by hand to mark a region: along its middle, from somewhere to somewhere else in it, straight or
// not, or just a dot, 1 to 5 pixels thick. It marks the largest connected part mostly. All of the stroke lies in the region; it is empty
// only when the region is.
func Stroke(rng *rand.Rand, region morph.Mask) morph.Mask {
	return random{rng}.stroke(region, 1)
}

// stroke is Stroke where everything is enlarged by zoom.
func (r random) stroke(region morph.Mask, zoom float64) morph.Mask {
	part := r.part(region)
	box, ok := part.Bounds()
	if !ok {
		return part
	}
	local := part.Crop(box)
	var line morph.Mask
	radius := []float64{0, 1, 1.5, 2}[r.pick(0.42, 0.32, 0.13, 0.13)]
	switch r.pick(0.38, 0.25, 0.2, 0.17) {
	case 0:
		line = r.middle(local)
	case 1:
		line = r.curve(local)
	case 2:
		line = r.straight(local)
	default: // a click
		inner := interior(local)
		line = morph.FromPoints(local.W, local.H, []morph.Point{inner[r.IntN(len(inner))]})
		radius = []float64{0, 1, 1.5, 2, 2.5}[r.pick(0.15, 0.25, 0.2, 0.25, 0.15)]
	}
	if radius += 0.5 * (zoom - 1); radius >= 1 {
		line = line.Dilate(radius)
	}
	out := morph.New(region.W, region.H)
	for y := range local.H {
		for x := range local.W {
			i := y*local.W + x
			out.Bits[(y+box.Y0)*out.W+x+box.X0] = line.Bits[i] && local.Bits[i]
		}
	}
	return out
}

// part is the largest connected part of a region, or now and then any other, by its area.
func (r random) part(region morph.Mask) morph.Mask {
	parts := region.Components(morph.Eight)
	if parts.N() <= 1 {
		return region
	}
	best := 1
	for l, size := range parts.Sizes {
		if l > 0 && size > parts.Sizes[best] {
			best = l
		}
	}
	if r.chance(0.2) {
		at := r.IntN(len(region.Bits) - parts.Sizes[0])
		for best = 1; at >= parts.Sizes[best]; best++ {
			at -= parts.Sizes[best]
		}
	}
	return parts.Mask(best)
}

// interior lists the pixels that are well inside, where people draw.
func interior(region morph.Mask) []morph.Point {
	depth := region.Depth([2]float64{1, 1})
	deepest := float32(0)
	for _, d := range depth {
		deepest = max(deepest, d)
	}
	least := min(0.4*deepest, 6)
	points := make([]morph.Point, 0, 256)
	for i, d := range depth {
		if region.Bits[i] && d >= least {
			points = append(points, morph.Point{X: i % region.W, Y: i / region.W})
		}
	}
	return points
}

// middle is a piece of the region's skeleton. Large regions are thinned at a lower resolution.
func (r random) middle(region morph.Mask) morph.Mask {
	factor := 1
	for region.Count()/(factor*factor) > 900 {
		factor++
	}
	small := region
	if factor > 1 {
		small = shrink(region, factor)
	}
	points := small.Thin().Points()
	if len(points) == 0 {
		return r.curve(region)
	}
	c := points[r.IntN(len(points))]
	reach := max(3/float64(factor), r.between(0.15, 1)*math.Sqrt(float64(small.Count())))
	if !r.chance(0.25) { // few draw all of a large object's middle
		reach = min(reach, r.between(10, 40)/float64(factor))
	}
	line, skeleton := morph.New(region.W, region.H), morph.FromPoints(small.W, small.H, points)
	for _, p := range points {
		if dx, dy := float64(p.X-c.X), float64(p.Y-c.Y); dx*dx+dy*dy < reach*reach {
			joinNext(line, skeleton, p, factor)
		}
	}
	if !line.And(region).Empty() {
		return line
	}
	return r.curve(region)
}

// joinNext draws the line from one pixel of a shrunk skeleton to those of its neighbours that come later.
func joinNext(line, skeleton morph.Mask, p morph.Point, factor int) {
	x, y := p.X*factor+factor/2, p.Y*factor+factor/2
	line.Set(x, y, true)
	for _, d := range [4]morph.Point{{X: 1}, {Y: 1}, {X: 1, Y: 1}, {X: -1, Y: 1}} {
		if skeleton.At(p.X+d.X, p.Y+d.Y) {
			for k := 1; k < factor; k++ {
				line.Set(x+k*d.X, y+k*d.Y, true)
			}
		}
	}
}

func shrink(m morph.Mask, factor int) morph.Mask {
	s := morph.New((m.W+factor-1)/factor, (m.H+factor-1)/factor)
	for y := range s.H {
		for x := range s.W {
			s.Bits[y*s.W+x] = m.At(x*factor+factor/2, y*factor+factor/2)
		}
	}
	return s
}

// curve joins two inner points by an unsteady line, short or long.
func (r random) curve(region morph.Mask) morph.Mask {
	points := interior(region)
	a, b := points[r.IntN(len(points))], points[r.IntN(len(points))]
	if r.chance(0.45) {
		for range 5 {
			if c := points[r.IntN(len(points))]; square(a, c) < square(a, b) {
				b = c
			}
		}
	}
	steps := 2*max(abs(a.X-b.X), abs(a.Y-b.Y), 1) + 1
	sag := math.Sqrt(float64(steps)/2) * 0.6
	var bow, wave [2]float64
	for i := range bow {
		bow[i], wave[i] = sag*r.NormFloat64(), 0.4*sag*r.NormFloat64()
	}
	line := morph.New(region.W, region.H)
	for i := range steps + 1 {
		t := float64(i) / float64(steps)
		s, w := math.Sin(math.Pi*t), math.Sin(2*math.Pi*t)
		x := float64(a.X) + t*float64(b.X-a.X) + s*bow[0] + w*wave[0]
		y := float64(a.Y) + t*float64(b.Y-a.Y) + s*bow[1] + w*wave[1]
		line.Set(int(math.Round(x)), int(math.Round(y)), true)
	}
	return line
}

// straight joins two inner points by a straight line, as far as it stays in the region. Most are short.
func (r random) straight(region morph.Mask) morph.Mask {
	points := interior(region)
	a, b := points[r.IntN(len(points))], points[r.IntN(len(points))]
	part := r.between(0.25, 1)
	line := morph.New(region.W, region.H)
	steps := max(abs(a.X-b.X), abs(a.Y-b.Y), 1)
	for i := range int(part*float64(steps)) + 1 {
		t := float64(i) / float64(steps)
		x, y := int(math.Round(float64(a.X)+t*float64(b.X-a.X))), int(math.Round(float64(a.Y)+t*float64(b.Y-a.Y)))
		if !region.At(x, y) {
			break
		}
		line.Set(x, y, true)
	}
	return line
}

func square(a, b morph.Point) int { return (a.X-b.X)*(a.X-b.X) + (a.Y-b.Y)*(a.Y-b.Y) }

func abs(v int) int { return max(v, -v) }
