package evaluate

import (
	"math"
	"slices"
	"testing"
)

var nan = math.NaN()

func same(a, b float64) bool {
	return a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) < 1e-12
}

func TestMean(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"none", nil, nan},
		{"one", []float64{0.25}, 0.25},
		{"several", []float64{1, 2, 6}, 3},
		{"not-a-number is left out", []float64{1, nan, 3}, 2},
		{"nothing but not-a-number", []float64{nan}, nan},
	} {
		if got := mean(c.values); !same(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		values []float64
		p      float64
		want   float64
	}{
		{nil, 0.5, nan},
		{[]float64{4}, 0.95, 4},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{0, 10}, 0.95, 9.5},
		{[]float64{5, 7, 6}, 0, 5},
		{[]float64{5, 7, 6}, 1, 7},
	} {
		if got := quantile(c.values, c.p); !same(got, c.want) {
			t.Errorf("quantile %v of %v: %v, want %v", c.p, c.values, got, c.want)
		}
	}
}

func TestBootstrap(t *testing.T) {
	for _, c := range []struct {
		name            string
		values          []float64
		mean, low, high float64
		atLeast         bool
	}{
		{"no case", nil, nan, nan, nan, false},
		{"one case says nothing of others", []float64{0.1}, 0.1, nan, nan, false},
		{"equal cases", []float64{0.1, 0.1, 0.1}, 0.1, 0.1, 0.1, true},
		{"not measured in one", []float64{-0.01, nan, -0.01}, -0.01, -0.01, -0.01, false},
		// Of two cases a resample has 0, ½ or 1 of the second with chances ¼, ½, ¼: both bounds are the cases themselves.
		{"two cases", []float64{-0.004, 0.2}, 0.098, -0.004, 0.2, true},
	} {
		i := bootstrap(c.values)
		if !same(i.Mean, c.mean) || !same(i.Low, c.low) || !same(i.High, c.high) || i.AtLeast() != c.atLeast {
			t.Errorf("%s: %+v at least %v, want %v [%v, %v] %v", c.name, i, i.AtLeast(), c.mean, c.low, c.high, c.atLeast)
		}
	}
}

// The interval of the mean of many values is close to the normal one, mean ± 1.96 σ/√n.
func TestBootstrapOfManyCases(t *testing.T) {
	values := make([]float64, 100)
	for i := range values {
		values[i] = float64(i%10) / 10 // mean 0.45, σ² = 0.0825
	}
	i := bootstrap(values)
	half := 1.96 * math.Sqrt(0.0825/100)
	if math.Abs(i.Mean-0.45) > 1e-12 || math.Abs(i.Low-(0.45-half)) > 0.003 || math.Abs(i.High-(0.45+half)) > 0.003 {
		t.Errorf("%+v, want 0.45 ± %.4f", i, half)
	}
	if again := bootstrap(values); again != i {
		t.Errorf("the same values give %+v, then %+v", i, again)
	}
}

func TestInteractionsTo(t *testing.T) {
	s := Series{Points: []Point{{Dice: 0.5}, {Dice: 0.85}, {Dice: 0.79}, {Dice: 0.9}}}
	for goal, want := range map[float64]int{0.5: 0, 0.8: 1, 0.9: 3, 0.95: 6} {
		if got := interactionsTo(s, goal, 5); got != want {
			t.Errorf("to %v: %d interactions, want %d", goal, got, want)
		}
	}
	if got := s.At(5); got != s.Points[3] {
		t.Errorf("after the annotator is done: %+v, want the last point", got)
	}
}

func TestIntervalText(t *testing.T) {
	for want, i := range map[string]Interval{
		"–":                   {Mean: nan},
		"+1.2":                {Mean: 0.012, Low: nan, High: nan},
		"-1.0 [-2.0, +0.5]":   {Mean: -0.01, Low: -0.02, High: 0.005},
		"+1.0 [-0.4, +2.0] ≥": {Mean: 0.01, Low: -0.004, High: 0.02},
	} {
		if got := i.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPartsOfASeries(t *testing.T) {
	var rows []Row
	for _, of := range []struct {
		set   string
		cases string
	}{{"b", "123456789"}, {"a", "1234567"}} {
		for _, c := range of.cases {
			rows = append(rows, Row{set: of.set, Name: of.set + string(c)})
		}
	}
	names := func(g group) (all string) {
		for _, r := range g.rows {
			all += r.Name + " "
		}
		return g.name + ": " + all
	}
	var got []string
	for _, g := range append(groups(rows)[1:], thirds(rows)...) {
		got = append(got, names(g))
	}
	want := []string{"first half: a1 a2 a3 a4 b1 b2 b3 b4 b5 ", "second half: a5 a6 a7 b6 b7 b8 b9 ", "first third: a1 a2 b1 b2 b3 ", "last third: a6 a7 b7 b8 b9 "}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if none := thirds(rows[:2]); none != nil {
		t.Errorf("thirds of two cases: %v", none)
	}
}
