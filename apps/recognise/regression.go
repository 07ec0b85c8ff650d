package recognise

import (
	"math"
	"slices"
)

// Regression is a fitted recogniser: the log-odds of the object are linear in the filters, and in how far the smoothed intensities are from
// the object's own. With the former alone an object could be darker or brighter than all else, but not lie between.
type Regression struct {
	weights [features]float64
	middle  [Smoothed]float32 // the object's mean of each smoothed intensity
	bias    float64
}

// features is how many numbers tell of a pixel, dims the number of unknowns: a weight for each of them, and the bias, which comes last.
const (
	features = Filters + Smoothed
	dims     = features + 1
)

// Newton's method converges within a few iterations; the ridge keeps it from running away where the classes can be told apart completely. A step
// that changes no weight by enough is the last.
const (
	iterations = 8
	enough     = 1e-3
)

// sample is a pixel of a lesson: its standardised features and a 1, its label, and its share of all weight.
type sample struct {
	z         [dims]float64
	y, weight float64
}

// Fit fits the regression to all lessons: the weights that minimise the weighted mean of −log p(label) plus ½·ridge·‖w‖² over standardised
// features. ok is false when the lessons do not hold both kinds of pixels.
func (k Knowledge) Fit(c Config) (r Regression, ok bool) {
	if r.middle, ok = k.middle(); !ok {
		return Regression{}, false
	}
	samples, mean, scale := k.standardised(r.middle)
	var w [dims]float64
	for range iterations {
		step := newton(samples, w, c.Ridge)
		w = add(w, step)
		if max(slices.Max(step[:]), -slices.Min(step[:])) < enough {
			break
		}
	}
	r.bias = w[features]
	for i := range features {
		r.weights[i] = w[i] * scale[i]
		r.bias -= r.weights[i] * mean[i]
	}
	return r, true
}

// middle is the object's mean of each smoothed intensity; ok is false unless there are weighty pixels of both kinds.
func (k Knowledge) middle() (middle [Smoothed]float32, ok bool) {
	var sums [Smoothed]float64
	var of [2]float64
	for _, l := range k.Lessons {
		for n, x := range l.X {
			a := float64(l.W[n])
			of[int(l.Y[n])] += a
			if l.Y[n] == 0 {
				continue
			}
			for s := range sums {
				sums[s] += a * float64(x[intensity(s)])
			}
		}
	}
	if of[0] == 0 || of[1] == 0 {
		return middle, false
	}
	for s := range middle {
		middle[s] = float32(sums[s] / of[1])
	}
	return middle, true
}

// standardised are the pixels of all lessons with features of mean 0 and deviation 1, and the mean and the inverse of the deviation of each.
func (k Knowledge) standardised(middle [Smoothed]float32) (samples []sample, mean, scale [features]float64) {
	var squares [features]float64
	total := 0.0
	for _, l := range k.Lessons {
		for n, x := range l.X {
			s := sample{y: float64(l.Y[n]), weight: float64(l.W[n])}
			for i, v := range x {
				s.z[i] = float64(v)
			}
			for i, m := range middle {
				s.z[Filters+i] = math.Abs(float64(x[intensity(i)] - m))
			}
			total += s.weight
			for i, v := range s.z[:features] {
				mean[i] += s.weight * v
				squares[i] += s.weight * v * v
			}
			samples = append(samples, s)
		}
	}
	for i := range mean {
		mean[i] /= total
		scale[i] = 1 / (math.Sqrt(max(squares[i]/total-mean[i]*mean[i], 0)) + 1e-3)
	}
	for n := range samples {
		s := &samples[n]
		s.weight /= total
		for i := range features {
			s.z[i] = (s.z[i] - mean[i]) * scale[i]
		}
		s.z[features] = 1
	}
	return samples, mean, scale
}

// newton is one step of Newton's method: the gradient divided by the Hessian.
func newton(samples []sample, w [dims]float64, ridge float64) [dims]float64 {
	var gradient [dims]float64
	var hessian [dims][dims]float64
	for i := range features {
		gradient[i] = -ridge * w[i]
		hessian[i][i] = ridge
	}
	hessian[features][features] = 1e-6
	for n := range samples {
		s := &samples[n]
		odds := 0.0
		for i, v := range s.z {
			odds += w[i] * v
		}
		p := sigmoid(odds)
		curve := s.weight * max(p*(1-p), 1e-4)
		for i, v := range s.z {
			gradient[i] += s.weight * (s.y - p) * v
			row := &hessian[i]
			for j, u := range s.z[:i+1] {
				row[j] += curve * v * u
			}
		}
	}
	return solve(hessian, gradient)
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func add(a, b [dims]float64) [dims]float64 {
	for i := range a {
		a[i] += b[i]
	}
	return a
}

// solve solves A·x = b for a positive definite A, of which the lower triangle is read, by Cholesky's decomposition.
func solve(a [dims][dims]float64, b [dims]float64) [dims]float64 {
	for j := range dims {
		for k := range j {
			a[j][j] -= a[j][k] * a[j][k]
		}
		a[j][j] = math.Sqrt(max(a[j][j], 1e-12))
		for i := j + 1; i < dims; i++ {
			for k := range j {
				a[i][j] -= a[i][k] * a[j][k]
			}
			a[i][j] /= a[j][j]
		}
	}
	for i := range dims {
		for k := range i {
			b[i] -= a[i][k] * b[k]
		}
		b[i] /= a[i][i]
	}
	for i := dims - 1; i >= 0; i-- {
		for k := i + 1; k < dims; k++ {
			b[i] -= a[k][i] * b[k]
		}
		b[i] /= a[i][i]
	}
	return b
}

// Answer is the probability of the object at every pixel of a picture, x fastest.
func (r Regression) Answer(p Picture) []float32 {
	odds := make([]float32, p.W*p.H)
	for k, plane := range p.planes {
		weight := float32(r.weights[k])
		for i, v := range plane {
			odds[i] += weight * v
		}
	}
	for k, m := range r.middle {
		weight := float32(r.weights[Filters+k])
		for i, v := range p.planes[intensity(k)] {
			odds[i] += weight * max(v-m, m-v)
		}
	}
	for i, o := range odds {
		odds[i] = float32(sigmoid(float64(o) + r.bias))
	}
	return odds
}
