package synth

import (
	"math"
	"slices"

	"scrawl/adapters/morph"
)

// thorough marks the object as people do who are asked for a good mask in one go: several strokes, zigzags or the outline's course
// inside, a ring around the object or pieces of one, and lines in what is far from it.
func (s *seat) thorough() {
	for range s.whole(1, 4) {
		switch s.pick(0.3, 0.3, 0.4) {
		case 0:
			s.put(channelPositive, s.zigzag(s.part(s.target)), s.target)
		case 1:
			s.put(channelPositive, s.within(s.part(s.target)), s.target)
		default:
			s.mark(channelPositive, s.target)
		}
	}
	rest := s.target.Not()
	if hole := s.hole(); !hole.Empty() && s.chance(0.8) {
		s.mark(channelNegative, hole)
	}
	for range s.whole(1, 4) {
		switch s.pick(0.5, 0.25, 0.25) {
		case 0:
			s.put(channelNegative, s.ring(s.part(s.target)), rest)
		case 1:
			if near := s.target.Dilate(s.between(4, 20)).And(rest); !near.Empty() {
				s.mark(channelNegative, near)
			}
		default:
			if far := s.target.Dilate(s.between(6, 20)).Not(); !far.Empty() {
				s.mark(channelNegative, far)
			}
		}
	}
}

// put adds a line to a channel, as thick as strokes are, as far as it lies in a region.
func (s *seat) put(channel int, line, region morph.Mask) {
	s.fill(channel, line, region, []float64{0, 1, 1.5}[s.IntN(3)]+0.5*(s.zoom-1))
}

// within follows the outline of a region some way inside.
func (r random) within(region morph.Mask) morph.Mask {
	depth := region.Depth([2]float64{1, 1})
	level := slices.Max(depth) * float32(r.between(0.3, 0.7))
	return r.piece(morph.Threshold(depth, region.W, region.H, level).Boundary())
}

// ring goes around a region at some distance.
func (r random) ring(region morph.Mask) morph.Mask {
	around := region.Dilate(r.logBetween(2.5, 12))
	edge := around.Boundary()
	for i := range edge.Bits { // the picture's border is no part of it
		x, y := i%edge.W, i/edge.W
		edge.Bits[i] = edge.Bits[i] && x > 0 && y > 0 && x < edge.W-1 && y < edge.H-1
	}
	return r.piece(edge)
}

// piece is all of a closed line, or what lies on one side of it.
func (r random) piece(line morph.Mask) morph.Mask {
	if r.chance(0.4) {
		return line
	}
	x, y := centroid(line)
	turn := r.between(0, 2*math.Pi)
	dx, dy := float32(math.Cos(turn)), float32(math.Sin(turn))
	out := line.Clone()
	for i, b := range line.Bits {
		out.Bits[i] = b && (float32(i%line.W)-x)*dx+(float32(i/line.W)-y)*dy > 0
	}
	return out
}

// zigzag fills a region with a line that goes to and fro.
func (r random) zigzag(region morph.Mask) morph.Mask {
	line := morph.New(region.W, region.H)
	if region.Empty() {
		return line
	}
	points := interior(region)
	turn := r.between(0, 2*math.Pi)
	dx, dy := math.Cos(turn), math.Sin(turn)
	along := func(p morph.Point) float64 { return float64(p.X)*dx + float64(p.Y)*dy }
	across := func(p morph.Point) float64 { return float64(p.Y)*dx - float64(p.X)*dy }
	slices.SortFunc(points, func(a, b morph.Point) int {
		switch va, vb := along(a), along(b); {
		case va < vb:
			return -1
		case va > vb:
			return 1
		}
		return 0
	})
	turns := r.whole(3, 12)
	from := points[0]
	for k := range turns {
		band := points[k*len(points)/turns : max((k+1)*len(points)/turns, k*len(points)/turns+1)]
		to := band[0]
		for _, p := range band {
			if (across(p) > across(to)) == (k%2 == 0) {
				to = p
			}
		}
		join(line, from, to)
		from = to
	}
	return line
}

// join draws a straight line.
func join(line morph.Mask, a, b morph.Point) {
	steps := max(abs(a.X-b.X), abs(a.Y-b.Y), 1)
	for i := range steps + 1 {
		t := float64(i) / float64(steps)
		line.Set(int(math.Round(float64(a.X)+t*float64(b.X-a.X))), int(math.Round(float64(a.Y)+t*float64(b.Y-a.Y))), true)
	}
}
