package synth

import "math"

// canvas is the memory in which one example is drawn.
type canvas struct {
	random
	n       int
	labels  []uint8
	count   int // labels 0 … count-1 are in use
	tissues [256]tissue
	image   []float32
	overlay []float32 // intensities that no label explains, such as ribs in a projection
	layered bool      // whether overlay is in use
	aim     uint8     // the label that is the object in a scene drawn for one; 0 mostly
	apart   bool      // whether the object is one connected part of that
	scaled  float64   // pixels of the picture for one of a slice of 256² shown on 128², in a scene drawn at several scales
	soft    bool      // whether borders are blurred beyond what scanners do
	merged  []uint8   // a label that shall look like another, and that one; empty mostly
	drawn   [256]float32
	noisy   float32 // standard deviation of the noise, in the units of drawn, the labels' intensities
	scratch [4][]float32
	warped  []uint8
	coarse  []float32
	rows    []float32
}

func (c *canvas) init(n int) {
	c.n = n
	c.labels, c.warped = make([]uint8, n*n), make([]uint8, n*n)
	c.image, c.overlay = make([]float32, n*n), make([]float32, n*n)
	for i := range c.scratch {
		c.scratch[i] = make([]float32, n*n)
	}
	c.coarse, c.rows = make([]float32, n*n), make([]float32, n*n)
}

// noise fills dst with normal numbers on a grid of resx by resy that are interpolated in between: with few of them a smooth
// field, with c.n of them white noise.
func (c *canvas) noise(dst []float32, resx, resy int) {
	resx, resy = min(max(resx, 2), c.n), min(max(resy, 2), c.n)
	if resx == c.n && resy == c.n {
		for i := range dst {
			dst[i] = float32(c.NormFloat64())
		}
		return
	}
	coarse, rows := c.coarse[:resx*resy], c.rows[:resy*c.n]
	for i := range coarse {
		coarse[i] = float32(c.NormFloat64())
	}
	upsample(dst, rows, coarse, c.n, resx, resy)
}

// smooth is noise with as many numbers along both axes.
func (c *canvas) smooth(dst []float32, res int) { c.noise(dst, res, res) }

// upsample interpolates resx by resy values to n by n with Catmull and Rom's cubic, the corners on the corners. rows holds
// resy·n values in between.
func upsample(dst, rows, coarse []float32, n, resx, resy int) {
	var taps [4]int
	var weights [4]float32
	for x := range n {
		cubic(&taps, &weights, x, n, resx)
		for y := range resy {
			row := coarse[y*resx : (y+1)*resx]
			rows[y*n+x] = weights[0]*row[taps[0]] + weights[1]*row[taps[1]] + weights[2]*row[taps[2]] + weights[3]*row[taps[3]]
		}
	}
	for y := range n {
		cubic(&taps, &weights, y, n, resy)
		a, b := rows[taps[0]*n:][:n], rows[taps[1]*n:][:n]
		c, d := rows[taps[2]*n:][:n], rows[taps[3]*n:][:n]
		out := dst[y*n:][:n]
		for x := range out {
			out[x] = weights[0]*a[x] + weights[1]*b[x] + weights[2]*c[x] + weights[3]*d[x]
		}
	}
}

// cubic gives the four samples out of res, and their weights, for position i of n.
func cubic(taps *[4]int, weights *[4]float32, i, n, res int) {
	p := float64(i) * float64(res-1) / float64(n-1)
	k := min(int(p), res-2)
	t := float32(p - float64(k))
	for j := range taps {
		taps[j] = min(max(k-1+j, 0), res-1)
	}
	weights[0] = t * (-0.5 + t*(1-0.5*t))
	weights[1] = 1 + t*t*(-2.5+1.5*t)
	weights[2] = t * (0.5 + t*(2-1.5*t))
	weights[3] = t * t * (-0.5 + 0.5*t)
}

// blob is a star-shaped region: an ellipse whose radius varies with the angle.
type blob struct {
	x, y     float64 // centre, pixels
	a, b     float64 // half axes, pixels
	cos, sin float64
	radius   [blobAngles]float32 // by angle
	min, max float32             // of radius, squared
}

// blobAngles is a power of two, so that angles wrap by a mask.
const blobAngles = 128

// star makes a blob with the given centre, half axes and turn. rough is by how much, relatively, its radius varies.
func (c *canvas) star(x, y, a, b, turn, rough float64) blob {
	s := blob{x: x, y: y, a: max(a, 0.7), b: max(b, 0.7), cos: math.Cos(turn), sin: math.Sin(turn)}
	var amplitude, phase [6]float64
	for k := 2; k < 6; k++ {
		amplitude[k], phase[k] = c.NormFloat64()*rough/float64(k), c.between(0, 2*math.Pi)
	}
	s.min, s.max = math.MaxFloat32, 0
	for i := range s.radius {
		angle := float64(i) * 2 * math.Pi / blobAngles
		r := 1.0
		for k := 2; k < 6; k++ {
			r += amplitude[k] * math.Cos(float64(k)*angle+phase[k])
		}
		s.radius[i] = float32(min(max(r, 0.3), 2))
		s.min, s.max = min(s.min, s.radius[i]), max(s.max, s.radius[i])
	}
	s.min, s.max = s.min*s.min, s.max*s.max
	return s
}

// level tells how far out a pixel lies: below 1 inside, 1 on the border.
func (s *blob) level(px, py int) float32 {
	dx, dy := float64(px)-s.x, float64(py)-s.y
	u, v := float32((dx*s.cos+dy*s.sin)/s.a), float32((dy*s.cos-dx*s.sin)/s.b)
	r := s.radius[angle(u, v)]
	return float32(math.Sqrt(float64(u*u+v*v))) / r
}

// paint sets label wherever the pixel lies inside the blob, enlarged by scale, and over only, unless that is negative.
func (c *canvas) paint(s *blob, scale float64, label uint8, over int) {
	reach := max(s.a, s.b)*scale*math.Sqrt(float64(s.max)) + 1
	x0, x1 := max(int(s.x-reach), 0), min(int(s.x+reach)+1, c.n-1)
	y0, y1 := max(int(s.y-reach), 0), min(int(s.y+reach)+1, c.n-1)
	ia, ib := 1/(s.a*scale), 1/(s.b*scale)
	for y := y0; y <= y1; y++ {
		row := c.labels[y*c.n : (y+1)*c.n]
		dy := float64(y) - s.y
		for x := x0; x <= x1; x++ {
			dx := float64(x) - s.x
			u, v := float32((dx*s.cos+dy*s.sin)*ia), float32((dy*s.cos-dx*s.sin)*ib)
			q := u*u + v*v
			if q >= s.max || over >= 0 && row[x] != uint8(over) {
				continue
			}
			if q >= s.min {
				if r := s.radius[angle(u, v)]; q >= r*r {
					continue
				}
			}
			row[x] = label
		}
	}
}

// angle is the direction of (u,v) in steps of 2π/blobAngles, from a quotient instead of an arc tangent: the steps need not be
// quite even.
func angle(u, v float32) int {
	au, av := u, v
	if au < 0 {
		au = -au
	}
	if av < 0 {
		av = -av
	}
	if au+av == 0 {
		return 0
	}
	const quarter = blobAngles / 4
	k := av / (au + av) * quarter
	switch {
	case u >= 0 && v >= 0:
	case u < 0 && v >= 0:
		k = 2*quarter - k
	case u < 0:
		k += 2 * quarter
	default:
		k = 4*quarter - k
	}
	return int(k) & (blobAngles - 1)
}

// tube draws a line that wanders and whose radius, in pixels, changes along it; with branches below it.
func (c *canvas) tube(x, y, heading, radius, length float64, label uint8, branches int) {
	bend := 0.0
	for travelled := 0.0; travelled < length; travelled += 0.7 {
		c.disc(x, y, radius, label)
		bend = 0.96*bend + 0.012*c.NormFloat64()
		heading += bend
		x, y = x+0.7*math.Cos(heading), y+0.7*math.Sin(heading)
		radius = max(radius*(1+0.015*c.NormFloat64()), 0.6)
		if x < -4 || y < -4 || x > float64(c.n+4) || y > float64(c.n+4) {
			return
		}
		if branches > 0 && c.chance(1.5/length*float64(branches)) {
			branches--
			side := c.between(0.4, 1.1)
			if c.chance(0.5) {
				side = -side
			}
			c.tube(x, y, heading+side, radius*c.between(0.5, 0.9), (length-travelled)*c.between(0.4, 0.9), label, branches/2)
		}
	}
}

func (c *canvas) disc(x, y, r float64, label uint8) {
	for py := max(int(y-r), 0); py <= min(int(y+r)+1, c.n-1); py++ {
		dy := float64(py) - y
		for px := max(int(x-r), 0); px <= min(int(x+r)+1, c.n-1); px++ {
			if dx := float64(px) - x; dx*dx+dy*dy <= r*r {
				c.labels[py*c.n+px] = label
			}
		}
	}
}

// warp bends the whole label map by up to a few pixels.
func (c *canvas) warp(amount float64) {
	dx, dy := c.scratch[0], c.scratch[1]
	c.smooth(dx, c.whole(3, 8))
	c.smooth(dy, c.whole(3, 8))
	ax, ay := float32(c.between(0, amount)), float32(c.between(0, amount))
	n, last := c.n, float32(c.n-1)
	for y := range n {
		for x := range n {
			i := y*n + x
			sx := min(max(float32(x)+ax*dx[i], 0), last) + 0.5
			sy := min(max(float32(y)+ay*dy[i], 0), last) + 0.5
			c.warped[i] = c.labels[int(sy)*n+int(sx)]
		}
	}
	c.labels, c.warped = c.warped, c.labels
	if !c.layered {
		return
	}
	bent := c.scratch[2]
	for y := range n {
		for x := range n {
			i := y*n + x
			bent[i] = sample(c.overlay, n, float32(x)+ax*dx[i], float32(y)+ay*dy[i])
		}
	}
	copy(c.overlay, bent)
}

// sample reads a picture of n by n between its pixels, linearly; outside it goes on with its border.
func sample(picture []float32, n int, x, y float32) float32 {
	last := float32(n - 1)
	x, y = min(max(x, 0), last), min(max(y, 0), last)
	x0, y0 := min(int(x), n-2), min(int(y), n-2)
	fx, fy := x-float32(x0), y-float32(y0)
	p := picture[y0*n+x0:]
	top := p[0] + fx*(p[1]-p[0])
	bottom := p[n] + fx*(p[n+1]-p[n])
	return top + fy*(bottom-top)
}
