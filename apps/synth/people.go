package synth

import (
	"math"
	"slices"

	"scrawl/adapters/morph"
)

// Shares of first rounds in which people mark everything in one go, by what they mark.
const (
	sharePeople      = 0.18
	sharePeopleThin  = 0.6 // trees of vessels, which nobody expects to be found from one stroke
	sharePeopleRound = 0.45
	sharePeopleLarge = 0.1 // large objects that are neither
)

// people marks the object, and what is around it, as those do who are shown a picture and a pen and are asked for a good mask; it reports
// false when this user is none of them. A pen is as broad as it is, whatever it draws, and lines beside a thin object are drawn
// without care: strokes are where the object is, roughly.
func (s *seat) people() bool {
	// What costs time is found out for those alone whom it decides for.
	user := s.Float64()
	if user >= sharePeopleThin {
		return false
	}
	thin := s.thin()
	if user >= sharePeopleRound && !thin {
		return false
	}
	hollow := s.hollow()
	share := sharePeople
	switch {
	case hollow:
		share = sharePeopleRound
	case thin:
		share = sharePeopleThin
	case float64(s.target.Count()) > largeObject*float64(len(s.target.Bits)):
		share = sharePeopleLarge
	}
	if user >= share {
		return false
	}
	pen := []float64{0, 1, 1.5, 2, 2.5}[s.pick(0.15, 0.5, 0.2, 0.1, 0.05)] + 0.5*(s.zoom-1)
	switch {
	case thin && !hollow:
		s.traceTree(pen)
	case hollow:
		s.traceRing(pen)
	default:
		s.fillBody(pen)
	}
	return true
}

// thin reports whether hardly any part of the object is wider than a few pixels, though it goes far.
func (s *seat) thin() bool {
	box, ok := s.target.Bounds()
	a, widest := s.target.Count(), max(box.W(), box.H())
	if !ok || 5*a > 2*box.W()*box.H() || 4*widest < s.target.W {
		return false
	}
	return 30*s.target.Erode(0.5+1.5*s.zoom).Count() < a
}

// hollow reports whether the object goes around something, as a wall does.
func (s *seat) hollow() bool {
	box, _ := s.target.Bounds()
	hole := s.hole().Largest(morph.Eight).Count()
	return hole > 12 && 6*hole > box.W()*box.H()
}

// draw adds a line of a pen's width to a channel. It goes wherever it goes.
func (s *seat) draw(channel int, line morph.Mask, pen float64) {
	s.fresh = true
	if pen >= 1 {
		line = line.Dilate(pen)
	}
	plane := s.plane(channel)
	for i, b := range line.Bits {
		if b {
			plane[i] = 1
		}
	}
}

// fill draws a line as far as it lies in a region.
func (s *seat) fill(channel int, line, region morph.Mask, pen float64) {
	if pen >= 1 {
		line = line.Dilate(pen)
	}
	s.draw(channel, line.And(region), 0)
}

// traceTree follows some of the vessels, not all and not exactly, and strikes out what lies between them with lines that cross the
// thinner ones.
func (s *seat) traceTree(pen float64) {
	skeleton := s.target.Thin()
	points := skeleton.Points()
	if len(points) == 0 {
		points, skeleton = s.target.Points(), s.target
	}
	positive, negative := s.whole(3, 12), s.whole(3, 9)
	switch s.pick(0.3, 0.2, 0.5) {
	case 0:
		positive, negative = s.whole(1, 3), s.whole(0, 2)
	case 1:
		positive, negative = s.whole(10, 25), s.whole(6, 20)
	}
	n := float64(s.target.W)
	for range positive {
		length := int(n * s.logBetween(0.08, 0.9))
		s.draw(channelPositive, s.wobble(s.walk(skeleton, points[s.IntN(len(points))], length), s.between(0.2, 1.3)*s.zoom), pen)
	}
	for range negative {
		s.draw(channelNegative, s.beside(s.target, n*s.logBetween(0.08, 0.8)), pen)
	}
}

// walk follows a skeleton from a point, as straight on as it goes.
func (r random) walk(skeleton morph.Mask, from morph.Point, length int) morph.Mask {
	line := morph.New(skeleton.W, skeleton.H)
	heading := r.between(0, 2*math.Pi)
	dx, dy := math.Cos(heading), math.Sin(heading)
	at := from
	line.Set(at.X, at.Y, true)
	for range length {
		best, next := -0.5, at
		for k := range 9 {
			p := morph.Point{X: at.X + k%3 - 1, Y: at.Y + k/3 - 1}
			if k == 4 || !skeleton.At(p.X, p.Y) || line.At(p.X, p.Y) {
				continue
			}
			ux, uy := float64(p.X-at.X), float64(p.Y-at.Y)
			if along := (ux*dx + uy*dy) / math.Hypot(ux, uy); along > best {
				best, next = along, p
			}
		}
		if next == at {
			break
		}
		dx, dy = 0.8*dx+0.2*float64(next.X-at.X), 0.8*dy+0.2*float64(next.Y-at.Y)
		norm := max(math.Hypot(dx, dy), 1e-6)
		dx, dy = dx/norm, dy/norm
		at = next
		line.Set(at.X, at.Y, true)
	}
	return line
}

// wobble moves a line sideways by about amount pixels, which changes slowly along it: a hand is not exact.
func (r random) wobble(line morph.Mask, amount float64) morph.Mask {
	var wave [2][3]float64
	for i := range wave {
		length := r.between(20, 70)
		turn := r.between(0, 2*math.Pi)
		wave[i] = [3]float64{2 * math.Pi / length * math.Cos(turn), 2 * math.Pi / length * math.Sin(turn), r.between(0, 2*math.Pi)}
	}
	shift := [2]float64{0.7 * amount * r.NormFloat64(), 0.7 * amount * r.NormFloat64()}
	out := morph.New(line.W, line.H)
	for i, b := range line.Bits {
		if !b {
			continue
		}
		x, y := float64(i%line.W), float64(i/line.W)
		u := x + shift[0] + amount*math.Sin(wave[0][0]*x+wave[0][1]*y+wave[0][2])
		v := y + shift[1] + amount*math.Sin(wave[1][0]*x+wave[1][1]*y+wave[1][2])
		out.Set(int(math.Round(u)), int(math.Round(v)), true)
	}
	return out
}

// beside is a line of a given length that keeps off an object as well as a glance can tell: straight, bent, or to and fro.
func (r random) beside(object morph.Mask, length float64) morph.Mask {
	var best morph.Mask
	least := math.MaxFloat64
	zigzag := r.chance(0.3)
	for range 3 {
		line := morph.New(object.W, object.H)
		x, y := r.between(0, 1)*float64(object.W-1), r.between(0, 1)*float64(object.H-1)
		r.sweep(line, x, y, length, zigzag)
		all := line.Count()
		if crossed := float64(line.And(object).Count()) / float64(max(all, 1)); all > 0 && crossed < least {
			best, least = line, crossed
		}
	}
	if best.Bits == nil {
		return morph.New(object.W, object.H)
	}
	return best
}

// sweep draws a bent line from (x,y), or one that goes to and fro as it goes on.
func (r random) sweep(line morph.Mask, x, y, length float64, zigzag bool) {
	heading, turn := r.between(0, 2*math.Pi), 1.5*r.NormFloat64()/length
	swing, period := 0.0, r.between(8, 20)
	if zigzag {
		swing = r.between(3, 12)
	}
	from := morph.Point{X: int(x), Y: int(y)}
	for at := 0.0; at < length; at += 2 {
		heading += 2 * turn
		x, y = x+2*math.Cos(heading), y+2*math.Sin(heading)
		aside := swing * math.Sin(2*math.Pi*at/period)
		to := morph.Point{X: int(math.Round(x - aside*math.Sin(heading))), Y: int(math.Round(y + aside*math.Cos(heading)))}
		if x < 0 || y < 0 || x >= float64(line.W) || y >= float64(line.H) {
			return
		}
		join(line, from, to)
		from = to
	}
}

// traceRing goes along a wall's middle, all around or in pieces, crosses out what it encloses, and goes around it outside.
func (s *seat) traceRing(pen float64) {
	depth := s.target.Depth([2]float64{1, 1})
	half := float64(slices.Max(depth))
	pen = min(pen, max(half*s.between(0.4, 0.9), 1))
	line := s.wobble(s.target.Thin(), min(0.4*half, 1.2))
	if s.chance(0.75) {
		line = s.dashes(line)
	}
	s.draw(channelPositive, line, pen)
	if hole := s.hole(); s.chance(0.9) {
		s.crossOut(hole, pen)
	}
	s.encircle(pen)
}

// crossOut marks a region as not the object with a zigzag, a small loop in it, or any line.
func (s *seat) crossOut(region morph.Mask, pen float64) {
	pen = min(pen, max(1, 0.1*math.Sqrt(float64(region.Count()))))
	switch s.pick(0.4, 0.4, 0.2) {
	case 0:
		s.fill(channelNegative, s.zigzag(s.part(region)), region, pen)
	case 1:
		s.fill(channelNegative, s.within(s.part(region)), region, pen)
	default:
		s.mark(channelNegative, region)
	}
}

// dashes breaks a line into pieces, by the direction from its middle.
func (r random) dashes(line morph.Mask) morph.Mask {
	x, y := centroid(line)
	many, phase, gap := float64(r.whole(1, 6)), r.between(0, 2*math.Pi), r.between(-0.8, 0.6)
	out := line.Clone()
	kept := 0
	for i, b := range line.Bits {
		if b {
			t := math.Atan2(float64(float32(i/line.W)-y), float64(float32(i%line.W)-x))
			out.Bits[i] = math.Sin(many*t+phase)+0.4*math.Sin(2*t+3*phase) > gap
			if out.Bits[i] {
				kept++
			}
		}
	}
	if kept < 3 {
		return line
	}
	return out
}

// encircle draws loops around the object, near and at times far, smooth or in waves, closed or in pieces, and long lines across what is
// far from it. The large ones are most of all that people mark.
func (s *seat) encircle(pen float64) {
	distance := s.target.Distance([2]float64{1, 1})
	if s.chance(0.85) {
		s.loop(distance, s.logBetween(2.5, 12)+pen, pen)
	}
	if s.chance(0.3) {
		s.loop(distance, s.between(14, 40), pen)
	}
	if !s.chance(0.45) {
		return
	}
	n := float64(s.target.W)
	clear := s.between(2, 8) + pen
	for range s.whole(1, 7) {
		line := morph.New(s.target.W, s.target.H)
		s.sweep(line, s.between(0, 1)*(n-1), s.between(0, 1)*(n-1), n*s.between(0.3, 1.6), s.chance(0.3))
		for i, b := range line.Bits {
			line.Bits[i] = b && float64(distance[i]) > clear
		}
		s.draw(channelNegative, line, pen)
	}
}

// loop draws the line at some distance from the object. A hand drifts off it, or goes in small waves.
func (s *seat) loop(distance []float32, far, pen float64) {
	w, h := s.target.W, s.target.H
	x, y := centroid(s.target)
	wave, drift := 0.0, s.between(0, 0.3)*far
	if s.chance(0.25) {
		wave = s.between(1, 2.5)
	}
	many, phase := float64(s.whole(12, 40)), s.between(0, 2*math.Pi)
	inside := morph.New(w, h)
	for i, d := range distance {
		if float64(d) > far+drift+wave {
			continue
		}
		t := math.Atan2(float64(float32(i/w)-y), float64(float32(i%w)-x))
		inside.Bits[i] = float64(d) < far+drift*math.Sin(2*t+phase)+wave*math.Sin(many*t)
	}
	line := inside.Boundary()
	for i := range line.Bits { // the picture's border is no part of it
		px, py := i%w, i/w
		line.Bits[i] = line.Bits[i] && px > 0 && py > 0 && px < w-1 && py < h-1 && float64(distance[i]) > pen
	}
	if s.chance(0.5) {
		line = s.dashes(line)
	}
	s.draw(channelNegative, line, pen)
}

// fillBody marks a compact object in its middle, with lines side by side, to and fro, or along its outline, and encircles it.
func (s *seat) fillBody(pen float64) {
	pen = min(pen, max(1, 0.12*math.Sqrt(float64(s.target.Count()))))
	for range s.whole(1, 3) {
		switch s.pick(0.4, 0.35, 0.25) {
		case 0:
			s.fill(channelPositive, s.zigzag(s.part(s.target)), s.target, pen)
		case 1:
			s.fill(channelPositive, s.within(s.part(s.target)), s.target, pen)
		default:
			s.mark(channelPositive, s.target)
		}
	}
	s.encircle(pen)
}
