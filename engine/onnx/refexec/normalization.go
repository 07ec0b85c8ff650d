package refexec

import (
	"math"
)

// normalize subtracts the mean and divides by the standard deviation of v, in place; it returns the mean and 1/σ.
func normalize(v []float64, epsilon float64) (mean, invStd float64) {
	for _, x := range v {
		mean += x
	}
	mean /= float64(len(v))
	variance := 0.0
	for _, x := range v {
		variance += (x - mean) * (x - mean)
	}
	invStd = 1 / math.Sqrt(variance/float64(len(v))+epsilon)
	for k := range v {
		v[k] = (v[k] - mean) * invStd
	}
	return mean, invStd
}

func (c *call) epsilon() float64 { return float64(c.Float("epsilon", 1e-5)) }

// channels checks that x is [N,C,…] and that the given per-channel inputs have C elements.
func (c *call) channels(x *array, perChannel ...int) {
	if x.rank() < 2 {
		c.fail("needs an input [N,C,…], got shape %v", x.shape)
	}
	for _, k := range perChannel {
		if a := c.arg(k); a.len() != x.shape[1] {
			c.fail("input %d has shape %v; want [%d], one per channel", k, a.shape, x.shape[1])
		}
	}
}

// scaleShift multiplies and adds per channel, in place.
func scaleShift(x *array, scale, shift []float64) {
	channels, size := x.shape[1], count(x.shape[2:])
	for k := range x.f {
		ch := k / size % channels
		x.f[k] = x.f[k]*scale[ch] + shift[ch]
	}
}

func batchNormalization(c *call) []*array {
	if c.Int("training_mode", 0) != 0 {
		c.fail("training_mode is not supported; export the model in evaluation mode")
	}
	x := c.arg(0)
	c.channels(x, 1, 2, 3, 4)
	scale, shift := make([]float64, x.shape[1]), make([]float64, x.shape[1])
	for k := range scale {
		scale[k] = c.arg(1).f[k] / math.Sqrt(c.arg(4).f[k]+c.epsilon())
		shift[k] = c.arg(2).f[k] - c.arg(3).f[k]*scale[k]
	}
	y := x.clone()
	scaleShift(y, scale, shift)
	return []*array{y}
}

func instanceNormalization(c *call) []*array {
	x := c.arg(0)
	c.channels(x, 1, 2)
	y, size := x.clone(), count(x.shape[2:])
	for k := range x.shape[0] * x.shape[1] {
		normalize(y.f[k*size:][:size], c.epsilon())
	}
	scaleShift(y, c.arg(1).f, c.arg(2).f)
	return []*array{y}
}

// groupNormalization takes scale and bias per channel (opset 21) or per group (opset 18), told apart by their length.
func groupNormalization(c *call) []*array {
	x, groups := c.arg(0), int(c.Int("num_groups", 0))
	c.channels(x)
	if groups < 1 || x.shape[1]%groups != 0 {
		c.fail("%d channels do not divide into %d groups", x.shape[1], groups)
	}
	y, perGroup := x.clone(), x.shape[1]/groups
	size := perGroup * count(x.shape[2:])
	for k := range x.shape[0] * groups {
		normalize(y.f[k*size:][:size], c.epsilon())
	}
	perChannel := func(k int) []float64 {
		v := c.arg(k).f
		if len(v) == x.shape[1] {
			return v
		}
		if len(v) != groups {
			c.fail("input %d has %d elements; want one per group or per channel", k, len(v))
		}
		out := make([]float64, x.shape[1])
		for ch := range out {
			out[ch] = v[ch/perGroup]
		}
		return out
	}
	scaleShift(y, perChannel(1), perChannel(2))
	return []*array{y}
}

// layerNormalization normalises over the axes from axis on; Mean and InvStdDev have those axes of size one.
func layerNormalization(c *call) []*array {
	x := c.arg(0)
	axis := c.axis(c.Int("axis", -1), x.rank())
	y, size := x.clone(), count(x.shape[axis:])
	stat := append([]int{}, x.shape...)
	for k := axis; k < len(stat); k++ {
		stat[k] = 1
	}
	mean, invStd := floats(stat...), floats(stat...)
	for k := range mean.f {
		mean.f[k], invStd.f[k] = normalize(y.f[k*size:][:size], c.epsilon())
	}
	y = c.combine(y, c.arg(1), func(x, s float64) float64 { return x * s }, nil)
	if b := c.opt(2); b != nil {
		y = c.combine(y, b, func(x, s float64) float64 { return x + s }, nil)
	}
	return []*array{y, mean, invStd}
}

func lpNormalization(c *call) []*array {
	x, p := c.arg(0), c.Int("p", 2)
	y := x.clone()
	c.lanes(x, c.axis(c.Int("axis", -1), x.rank()), func(lane []int) {
		sum := 0.0
		for _, k := range lane {
			sum += math.Pow(math.Abs(x.f[k]), float64(p))
		}
		norm := math.Pow(sum, 1/float64(p))
		for _, k := range lane {
			if norm != 0 {
				y.f[k] = x.f[k] / norm
			}
		}
	})
	return []*array{y}
}

// lanes calls f with the places of every run of elements along an axis.
func (c *call) lanes(x *array, axis int, f func(lane []int)) {
	before, size, after := around(x.shape, axis)
	lane := make([]int, size)
	for b := range before {
		for a := range after {
			for k := range lane {
				lane[k] = (b*size+k)*after + a
			}
			f(lane)
		}
	}
}

func softmax(log bool) kernel {
	return func(c *call) []*array {
		x := c.arg(0)
		y := floats(x.shape...)
		c.lanes(x, c.axis(c.Int("axis", -1), x.rank()), func(lane []int) {
			top := math.Inf(-1)
			for _, k := range lane {
				top = max(top, x.f[k])
			}
			sum := 0.0
			for _, k := range lane {
				sum += math.Exp(x.f[k] - top)
			}
			for _, k := range lane {
				if y.f[k] = x.f[k] - top - math.Log(sum); !log {
					y.f[k] = math.Exp(y.f[k])
				}
			}
		})
		return []*array{y}
	}
}
