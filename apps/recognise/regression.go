package recognise

import "math"

// Regression is a fitted recogniser: the log-odds of the object are linear in the filters.
type Regression struct {
	weights [Filters]float64
	bias    float64
}

// Newton's method converges within a few iterations; the ridge keeps it from running away where the classes can be told apart completely.
const iterations = 8

// dims is the number of unknowns: a weight for each filter, and the bias.
const dims = Filters + 1

// Fit fits the regression to all lessons: the weights that minimise the weighted mean of −log p(label) plus ½·ridge·‖w‖² over standardised
// filters. ok is false when the lessons do not hold both kinds of pixels.
func (k Knowledge) Fit(c Config) (r Regression, ok bool) {
	mean, scale, total, ok := k.standard()
	if !ok {
		return Regression{}, false
	}
	var w [dims]float64
	for range iterations {
		w = add(w, k.newton(w, mean, scale, total, c.Ridge))
	}
	r.bias = w[Filters]
	for i := range Filters {
		r.weights[i] = w[i] * scale[i]
		r.bias -= r.weights[i] * mean[i]
	}
	return r, true
}

// standard is the weighted mean of each filter, the inverse of its deviation, and the weight of all pixels.
func (k Knowledge) standard() (mean, scale [Filters]float64, total float64, ok bool) {
	var squares [Filters]float64
	var seen [2]bool
	for _, l := range k.Lessons {
		for n, x := range l.X {
			a := float64(l.W[n])
			total += a
			seen[int(l.Y[n])] = true
			for i, v := range x {
				mean[i] += a * float64(v)
				squares[i] += a * float64(v) * float64(v)
			}
		}
	}
	if !seen[0] || !seen[1] || total == 0 {
		return mean, scale, total, false
	}
	for i := range mean {
		mean[i] /= total
		scale[i] = 1 / (math.Sqrt(max(squares[i]/total-mean[i]*mean[i], 0)) + 1e-3)
	}
	return mean, scale, total, true
}

// newton is one step of Newton's method: the gradient divided by the Hessian.
func (k Knowledge) newton(w [dims]float64, mean, scale [Filters]float64, total, ridge float64) [dims]float64 {
	var gradient [dims]float64
	var hessian [dims][dims]float64
	for i := range Filters {
		gradient[i] = -ridge * w[i]
		hessian[i][i] = ridge
	}
	hessian[Filters][Filters] = 1e-6
	for _, l := range k.Lessons {
		for n, x := range l.X {
			var z [dims]float64
			odds := w[Filters]
			for i, v := range x {
				z[i] = (float64(v) - mean[i]) * scale[i]
				odds += w[i] * z[i]
			}
			z[Filters] = 1
			p, a := sigmoid(odds), float64(l.W[n])/total
			curve := a * max(p*(1-p), 1e-4)
			for i, v := range z {
				gradient[i] += a * (float64(l.Y[n]) - p) * v
				for j := range i + 1 {
					hessian[i][j] += curve * v * z[j]
				}
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
	odds := make([]float64, p.W*p.H)
	for k, plane := range p.planes {
		for i, v := range plane {
			odds[i] += r.weights[k] * float64(v)
		}
	}
	out := make([]float32, len(odds))
	for i, o := range odds {
		out[i] = float32(sigmoid(o + r.bias))
	}
	return out
}
