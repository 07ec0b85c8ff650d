package simulate

import (
	"math"
	"math/rand/v2"

	"scrawl/adapters/morph"
)

// pen draws one stroke in one region.
type pen struct {
	rng    *rand.Rand
	region morph.Mask
	limit  float64 // longest stroke in pixels
	radius int     // half its width: 0 or 1
}

func (p pen) draw(o Options) morph.Mask {
	if o.Shape == Click {
		return p.click(o.Sloppy)
	}
	path := p.path(o.Shape)
	line := morph.FromPoints(p.region.W, p.region.H, path)
	drawn := line.Dilate(float64(p.radius)).And(p.region)
	if !drawn.Erode(2).Empty() {
		drawn = line // so tight a curl that its turns run together is drawn thin
	}
	if o.Sloppy {
		over := morph.FromPoints(p.region.W, p.region.H, p.crossing(path))
		drawn = drawn.Or(over.Dilate(float64(p.radius)))
	}
	return drawn
}

// path is the stroke's middle, a chain of neighbouring pixels in the region.
func (p pen) path(s Shape) []morph.Point {
	switch s {
	case Line:
		return p.shorten(p.line())
	case Contour:
		return p.shorten(longestPath(p.contour().Thin()))
	default:
		return p.shorten(p.prolong(longestPath(p.region.Thin())))
	}
}

// reach is how long a path may be, so that the stroke around it keeps to the limit.
func (p pen) reach() float64 { return p.limit - 2*float64(p.radius) }

// shorten cuts a piece as long as allowed out of a path, at a random place.
func (p pen) shorten(path []morph.Point) []morph.Point {
	if length(path) <= p.reach() {
		return path
	}
	// Starts from which a full piece is left.
	last, rest := 0, 1.0
	for i := len(path) - 1; i > 0; i-- {
		if rest += step(path[i-1], path[i]); rest >= p.reach() {
			last = i - 1
			break
		}
	}
	start := p.rng.IntN(last + 1)
	end, run := start, 1.0
	for end+1 < len(path) && run+step(path[end], path[end+1]) <= p.reach() {
		run += step(path[end], path[end+1])
		end++
	}
	return path[start : end+1]
}

// prolong goes straight on at both ends of a path until it has the length that any region allows, or meets the region's border: the
// medial axis of a round region is only a dot, and nobody draws dots.
func (p pen) prolong(path []morph.Point) []morph.Point {
	goal := min(p.reach(), minLength-2*float64(p.radius))
	if len(path) == 0 || length(path) >= goal {
		return path
	}
	head, tail := path[0], path[len(path)-1]
	dx, dy := float64(tail.X-head.X), float64(tail.Y-head.Y)
	if norm := math.Hypot(dx, dy); norm > 0 {
		dx, dy = dx/norm, dy/norm
	} else {
		dy, dx = math.Sincos(p.rng.Float64() * 2 * math.Pi)
	}
	inner := p.region.Erode(float64(p.radius))
	for n, going := 1.0, true; going; n++ {
		going = false
		for _, side := range [2]float64{1, -1} {
			from, to := tail, path[len(path)-1]
			if side < 0 {
				from, to = head, path[0]
			}
			next := morph.Point{X: from.X + int(math.Round(side*n*dx)), Y: from.Y + int(math.Round(side*n*dy))}
			if !inner.At(next.X, next.Y) || step(to, next) > math.Sqrt2 || length(path)+step(to, next) > goal {
				continue
			}
			going = true
			switch {
			case next == to: // rounding: the next step gets there
			case side > 0:
				path = append(path, next)
			default:
				path = append([]morph.Point{next}, path...)
			}
		}
	}
	return path
}

// line joins two random pixels of the region's inside, as far as the line stays in the region.
func (p pen) line() []morph.Point {
	inside := p.inside()
	from, to := inside[p.rng.IntN(len(inside))], inside[p.rng.IntN(len(inside))]
	line := straight(from, to)
	for i, at := range line {
		if !p.region.At(at.X, at.Y) {
			return line[:i]
		}
	}
	return line
}

// inside lists the pixels at least half as deep as the deepest.
func (p pen) inside() []morph.Point {
	depth, deepest := p.depth()
	var points []morph.Point
	for i, d := range depth {
		if d > 0 && d >= deepest/2 {
			points = append(points, morph.Point{X: i % p.region.W, Y: i / p.region.W})
		}
	}
	return points
}

// contour is a ring half-way between the region's border and its middle.
func (p pen) contour() morph.Mask {
	depth, deepest := p.depth()
	return morph.Threshold(depth, p.region.W, p.region.H, deepest/2-1e-3).Boundary().Largest(morph.Eight)
}

func (p pen) depth() (depth []float32, deepest float32) {
	depth = p.region.Depth([2]float64{1, 1})
	for _, d := range depth {
		deepest = max(deepest, d)
	}
	return depth, deepest
}

// clickRadius is that of the disc a click stands for, in pixels.
const clickRadius = 2

// click is a disc on a random one of the deepest pixels. A sloppy one lands so far beside it that the disc still holds it, and is
// not cut at the border.
func (p pen) click(sloppy bool) morph.Mask {
	depth, deepest := p.depth()
	var points []morph.Point
	for i, d := range depth {
		if d == deepest {
			points = append(points, morph.Point{X: i % p.region.W, Y: i / p.region.W})
		}
	}
	at := points[p.rng.IntN(len(points))]
	if sloppy {
		misses := disc(2*clickRadius+1, 2*clickRadius+1, morph.Point{X: clickRadius, Y: clickRadius}).Points()
		miss := misses[p.rng.IntN(len(misses))]
		at.X += miss.X - clickRadius
		at.Y += miss.Y - clickRadius
	}
	drawn := disc(p.region.W, p.region.H, at)
	if sloppy {
		return drawn
	}
	return drawn.And(p.region)
}

func disc(w, h int, at morph.Point) morph.Mask {
	return morph.FromPoints(w, h, []morph.Point{at}).Dilate(clickRadius)
}

// crossing goes from one end of a path straight to the nearest border, and 2 to 4 pixels beyond.
func (p pen) crossing(path []morph.Point) []morph.Point {
	if len(path) == 0 {
		return nil
	}
	end := path[p.rng.IntN(2)*(len(path)-1)]
	beyond := float64(2 + p.rng.IntN(3) - p.radius)
	out, nearest := end, math.Inf(1)
	for i, set := range p.region.Bits {
		at := morph.Point{X: i % p.region.W, Y: i / p.region.W}
		if d := math.Hypot(float64(at.X-end.X), float64(at.Y-end.Y)); !set && d < nearest {
			out, nearest = at, d
		}
	}
	// The nearest unset pixel is the first one beyond the border.
	scale := (nearest + beyond - 1) / nearest
	to := morph.Point{
		X: end.X + int(math.Round(scale*float64(out.X-end.X))),
		Y: end.Y + int(math.Round(scale*float64(out.Y-end.Y))),
	}
	return straight(end, to)
}

// straight lists the pixels of a line, both ends included.
func straight(from, to morph.Point) []morph.Point {
	n := max(abs(to.X-from.X), abs(to.Y-from.Y))
	line := make([]morph.Point, n+1)
	for i := range line {
		part := float64(i) / float64(max(n, 1))
		line[i] = morph.Point{
			X: from.X + int(math.Round(part*float64(to.X-from.X))),
			Y: from.Y + int(math.Round(part*float64(to.Y-from.Y))),
		}
	}
	return line
}

func abs(n int) int { return max(n, -n) }

// length of a path in pixels: a single pixel is 1 long, a diagonal step adds √2.
func length(path []morph.Point) float64 {
	sum := 0.0
	for i := range path {
		if i == 0 {
			sum = 1
		} else {
			sum += step(path[i-1], path[i])
		}
	}
	return sum
}

func step(a, b morph.Point) float64 {
	return math.Hypot(float64(a.X-b.X), float64(a.Y-b.Y))
}

// longestPath is the longest of the shortest paths in a skeleton: from the pixel farthest from anywhere to the one farthest from
// that. In a tree it is the longest path there is; small side branches fall away.
func longestPath(skeleton morph.Mask) []morph.Point {
	points := skeleton.Points()
	if len(points) == 0 {
		return nil
	}
	one := walk(skeleton, points[0])
	return walk(skeleton, one[0])
}

// walk searches breadth first from a pixel and returns the path from the last pixel found back to it.
func walk(m morph.Mask, from morph.Point) []morph.Point {
	before := map[morph.Point]morph.Point{from: from}
	queue := []morph.Point{from}
	at := from
	for len(queue) > 0 {
		at, queue = queue[0], queue[1:]
		// Straight neighbours first, so that paths do not zigzag.
		for _, d := range [8]morph.Point{{X: 1}, {Y: 1}, {X: -1}, {Y: -1}, {X: 1, Y: 1}, {X: -1, Y: 1}, {X: -1, Y: -1}, {X: 1, Y: -1}} {
			next := morph.Point{X: at.X + d.X, Y: at.Y + d.Y}
			if _, seen := before[next]; !seen && m.At(next.X, next.Y) {
				before[next] = at
				queue = append(queue, next)
			}
		}
	}
	path := []morph.Point{at}
	for at != from {
		at = before[at]
		path = append(path, at)
	}
	return path
}
