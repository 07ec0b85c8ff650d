package morph

import "math"

// Distance gives for every pixel the Euclidean distance to the nearest set pixel, 0 on those, +Inf everywhere when m is empty.
// spacing is the distance between columns and between rows; {1,1} measures in pixels.
func (m Mask) Distance(spacing [2]float64) []float32 {
	return rootOf(m.squared(spacing))
}

// Depth gives for every set pixel the Euclidean distance to the nearest unset one, 0 on those. Outside the grid is unset, so it
// is always finite.
func (m Mask) Depth(spacing [2]float64) []float32 {
	out := make([]float32, m.W*m.H)
	part, box, ok := m.around(1)
	if !ok {
		return out
	}
	d := part.Not().Distance(spacing)
	for y := 1; y < part.H-1; y++ {
		copy(out[(box.Y0+y)*m.W+box.X0+1:], d[y*part.W+1:(y+1)*part.W-1])
	}
	return out
}

// Dilate adds every pixel within radius of the set ones: dilation with a disc. Radius is in pixels; below 1 changes nothing.
func (m Mask) Dilate(radius float64) Mask {
	r := New(m.W, m.H)
	box, ok := m.Bounds()
	if !ok {
		return r
	}
	radius = math.Max(radius, 0)
	// Only what the disc can reach is looked at: a stroke in a large slice costs little.
	box = box.Grow(int(radius), m.W, m.H)
	near := m.Crop(box).squared([2]float64{1, 1})
	for y := range box.H() {
		row := r.Bits[(box.Y0+y)*m.W+box.X0:]
		for x, d2 := range near[y*box.W() : (y+1)*box.W()] {
			row[x] = float64(d2) <= radius*radius
		}
	}
	return r
}

// Erode removes every pixel within radius of the unset ones: erosion with a disc, which also eats from the grid's border.
func (m Mask) Erode(radius float64) Mask {
	if radius <= 0 {
		return m.Clone()
	}
	n := int(radius) + 1
	part, box, ok := m.around(n)
	if !ok {
		return m.Clone()
	}
	return part.Not().Dilate(radius).Not().back(box, m.W, m.H)
}

// Open erodes, then dilates: it removes what is thinner than a disc.
func (m Mask) Open(radius float64) Mask { return m.Erode(radius).Dilate(radius) }

// Close dilates, then erodes, as if the grid were larger: it fills gaps that are narrower than a disc.
func (m Mask) Close(radius float64) Mask {
	n := int(math.Max(radius, 0)) + 1
	padded := m.Crop(Rect{-n, -n, m.W + n, m.H + n})
	return padded.Dilate(radius).Erode(radius).Crop(Rect{n, n, m.W + n, m.H + n})
}

func (m Mask) squared(spacing [2]float64) []float32 {
	return squaredDistances(m.Bits, [3]int{m.W, m.H, 1}, [3]float64{spacing[0], spacing[1], 1})
}

// Distance3 gives for every voxel the Euclidean distance to the nearest set voxel, 0 on those, +Inf when none is set. bits holds
// size[0]·size[1]·size[2] values, i fastest; spacing is the positive distance between voxels along each index, mm for mm.
func Distance3(bits []bool, size [3]int, spacing [3]float64) []float32 {
	return rootOf(squaredDistances(bits, size, spacing))
}

func rootOf(d2 []float32) []float32 {
	for i, v := range d2 {
		d2[i] = float32(math.Sqrt(float64(v)))
	}
	return d2
}

// squaredDistances runs Felzenszwalb and Huttenlocher's transform ("Distance Transforms of Sampled Functions", 2012) along i,
// j and k in turn. Squares stay in float32, which holds those of whole pixels exactly up to distances of 4096.
func squaredDistances(bits []bool, size [3]int, spacing [3]float64) []float32 {
	d2 := make([]float32, len(bits))
	for i, b := range bits {
		if !b {
			d2[i] = float32(math.Inf(1))
		}
	}
	longest := max(size[0], size[1], size[2])
	env := envelope{line: make([]float64, longest), at: make([]int, longest), from: make([]float64, longest+1)}
	stride := 1
	for axis := range 3 {
		n := size[axis]
		if n > 1 {
			for start := range d2 {
				if start/stride%n == 0 {
					env.transform(d2, start, stride, n, spacing[axis])
				}
			}
		}
		stride *= n
	}
	return d2
}

// envelope is the lower envelope of the parabolas that stand on one line's samples.
type envelope struct {
	line []float64 // the samples
	at   []int     // where each parabola of the envelope stands
	from []float64 // from where on, in mm, it is the lowest
}

func (e *envelope) transform(d2 []float32, start, stride, n int, spacing float64) {
	for i := range n {
		e.line[i] = float64(d2[start+i*stride])
	}
	parabolas := e.build(n, spacing)
	if parabolas == 0 {
		return
	}
	k := 0
	for i := range n {
		x := float64(i) * spacing
		for k+1 < parabolas && e.from[k+1] < x {
			k++
		}
		d := x - float64(e.at[k])*spacing
		d2[start+i*stride] = float32(d*d + e.line[e.at[k]])
	}
}

// build fills the envelope and returns how many parabolas it has. Samples at infinity have none.
func (e *envelope) build(n int, spacing float64) int {
	k := 0
	for q := range n {
		fq := e.line[q]
		if math.IsInf(fq, 1) {
			continue
		}
		xq := float64(q) * spacing
		begin := math.Inf(-1)
		for k > 0 {
			p := e.at[k-1]
			xp := float64(p) * spacing
			begin = ((fq + xq*xq) - (e.line[p] + xp*xp)) / (2 * (xq - xp))
			if begin > e.from[k-1] {
				break
			}
			k--
			begin = math.Inf(-1)
		}
		e.at[k], e.from[k] = q, begin
		k++
	}
	return k
}
