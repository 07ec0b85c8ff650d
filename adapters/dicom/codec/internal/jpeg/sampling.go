package jpeg

// upsample brings a component to the image's size and writes it to every step-th sample of pix. Ratios of 2 are interpolated, the
// nearer sample with three quarters of the weight, as the Independent JPEG Group's library does unless it is told not to; others
// are repeated.
func (d *decoder) upsample(c *component, pix []int32, step int) {
	w := d.declared.Width
	if c.h == d.hMax && c.v == d.vMax {
		for y := range d.declared.Height {
			out := pix[y*w*step:]
			for x, v := range c.samples[y*c.stride:][:w] {
				out[x*step] = int32(v)
			}
		}
		return
	}
	row := make([]int32, c.w*d.hMax/c.h+1)
	for y := range d.declared.Height {
		d.upsampledRow(c, y, row)
		out := pix[y*w*step:]
		for x, v := range row[:w] {
			out[x*step] = v
		}
	}
}

func (d *decoder) upsampledRow(c *component, y int, row []int32) {
	fx, fy := d.hMax/c.h, d.vMax/c.v
	line := c.samples[y/fy*c.stride:][:c.w]
	smooth := c.w > 2 || fx == 1
	switch {
	case fx == 2 && fy == 1 && smooth:
		interpolate(row, func(x int) int32 { return int32(line[x]) }, c.w, 2, 1, 2)
	case fx == 2 && fy == 2 && smooth:
		near := c.nearRow(y)
		interpolate(row, func(x int) int32 { return 3*int32(line[x]) + int32(near[x]) }, c.w, 4, 8, 7)
	case fx == 1 && fy == 2:
		near := c.nearRow(y)
		bias := int32(1 + y&1)
		for x, v := range line {
			row[x] = (3*int32(v) + int32(near[x]) + bias) >> 2
		}
	default:
		for x := range c.w * fx {
			row[x] = int32(line[x/fx])
		}
	}
}

// nearRow is the second nearest line to line y of the image, of a component with half as many.
func (c *component) nearRow(y int) []uint16 {
	n := y/2 - 1 + y&1*2
	n = max(0, min(n, c.hgt-1))
	return c.samples[n*c.stride:][:c.w]
}

// interpolate doubles a line of n samples: shift is the binary logarithm of what their weights add up to, and even and odd are the
// roundings that keep the mean.
func interpolate(row []int32, sample func(int) int32, n, shift int, even, odd int32) {
	for x := range n {
		v := sample(x)
		before, after := v, v
		if x > 0 {
			before = sample(x - 1)
		}
		if x+1 < n {
			after = sample(x + 1)
		}
		row[2*x], row[2*x+1] = (3*v+before+even)>>shift, (3*v+after+odd)>>shift
	}
}
