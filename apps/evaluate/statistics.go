package evaluate

import (
	"math"
	"math/rand/v2"
	"slices"
)

// mean of the values that are numbers; NaN when there are none.
func mean(values []float64) float64 {
	sum, n := 0.0, 0
	for _, v := range values {
		if !math.IsNaN(v) {
			sum += v
			n++
		}
	}
	if n == 0 {
		return math.NaN()
	}
	return sum / float64(n)
}

// quantile p (0 to 1), interpolated linearly between ranks; NaN of no values.
func quantile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := min(max(p, 0), 1) * float64(len(sorted)-1)
	lo := int(rank)
	hi := min(lo+1, len(sorted)-1)
	return sorted[lo] + (rank-float64(lo))*(sorted[hi]-sorted[lo])
}

// Interval is a mean with its 95 % confidence interval.
type Interval struct {
	Mean, Low, High float64
	Cases           int
}

// AtLeast is how one method may be said to be no worse than another: the paired difference's lower bound is at most half a Dice
// point below 0.
func (i Interval) AtLeast() bool { return !math.IsNaN(i.Mean) && i.Low >= -0.005 }

// resamples of the bootstrap: enough for bounds that are stable to a few per cent of the interval's width.
const resamples = 10000

// bootstrap gives the mean of values, one a case, with the percentile interval over resampled cases (Efron 1979). NaNs are left
// out. Of one case alone nothing can be said: the bounds are then NaN. The same values give the same interval.
func bootstrap(values []float64) Interval {
	kept := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	i := Interval{Mean: mean(kept), Low: math.NaN(), High: math.NaN(), Cases: len(kept)}
	if len(kept) < 2 {
		return i
	}
	i.Low, i.High = resampled(len(kept), func(cases []int) float64 {
		sum := 0.0
		for _, k := range cases {
			sum += kept[k]
		}
		return sum / float64(len(cases))
	})
	return i
}

// bootstrapSaving gives the share of the cost before that is saved by the cost now, 1 − Σnow/Σbefore, with its interval over resampled
// cases, as bootstrap does for a mean. Cases whose cost is not known are left out.
func bootstrapSaving(now, before []float64) Interval {
	var kept []int
	for k := range now {
		if !math.IsNaN(now[k]) && !math.IsNaN(before[k]) {
			kept = append(kept, k)
		}
	}
	saving := func(cases []int) float64 {
		var a, b float64
		for _, k := range cases {
			a, b = a+now[kept[k]], b+before[kept[k]]
		}
		if b == 0 {
			return 0 // there was nothing to save
		}
		return 1 - a/b
	}
	i := Interval{Mean: math.NaN(), Low: math.NaN(), High: math.NaN(), Cases: len(kept)}
	if len(kept) == 0 {
		return i
	}
	all := make([]int, len(kept))
	for k := range all {
		all[k] = k
	}
	if i.Mean = saving(all); len(kept) > 1 {
		i.Low, i.High = resampled(len(kept), saving)
	}
	return i
}

// resampled is the percentile interval of a figure over resamples of n cases, given by their numbers.
func resampled(n int, figure func(cases []int) float64) (low, high float64) {
	rng := rand.New(rand.NewPCG(uint64(n), 1979))
	values, cases := make([]float64, resamples), make([]int, n)
	for k := range values {
		for i := range cases {
			cases[i] = rng.IntN(n)
		}
		values[k] = figure(cases)
	}
	slices.Sort(values)
	return quantile(values, 0.025), quantile(values, 0.975)
}

// interactionsTo is the number of interactions after which a series first reaches a Dice coefficient, and limit + 1 when it never
// does.
func interactionsTo(s Series, goal float64, limit int) int {
	for k, p := range s.Points {
		if p.Dice >= goal {
			return k
		}
	}
	return limit + 1
}
