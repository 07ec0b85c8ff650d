package measure

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"scrawl/adapters/morph"
)

func parse(s string) []bool {
	b := make([]bool, len(s))
	for i := range s {
		b[i] = s[i] == '1'
	}
	return b
}

func TestAgainstOracles(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Size                               [3]int
		Spacing                            [3]float64
		A, B                               string
		Dice, Hausdorff, Hausdorff95, Mean float64
		Surface                            map[string]float64
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		a, b := parse(c.A), parse(c.B)
		s := Between(a, b, c.Size, c.Spacing)
		check := func(what string, got, want float64) {
			if !(math.Abs(got-want) <= 1e-5) {
				t.Errorf("case %d, %s: %v, want %v", i, what, got, want)
			}
		}
		check("Dice", Dice(a, b), c.Dice)
		check("Hausdorff", s.Hausdorff(), c.Hausdorff)
		check("95 % Hausdorff", s.Hausdorff95(), c.Hausdorff95)
		check("mean", s.Mean(), c.Mean)
		for tolerance, want := range c.Surface {
			v, err := strconv.ParseFloat(tolerance, 64)
			if err != nil {
				t.Fatal(err)
			}
			check("surface Dice at "+tolerance, s.Dice(v), want)
		}
	}
}

func TestEmptyMasks(t *testing.T) {
	none, some := make([]bool, 8), []bool{true, false, false, false, false, false, false, false}
	size, spacing := [3]int{2, 2, 2}, [3]float64{1, 1, 1}
	for _, c := range []struct {
		name                  string
		a, b                  []bool
		dice, hd, surfaceDice float64
	}{
		{"both empty", none, none, 1, 0, 1},
		{"a empty", none, some, 0, math.Inf(1), 0},
		{"b empty", some, none, 0, math.Inf(1), 0},
		{"equal", some, some, 1, 0, 1},
	} {
		s := Between(c.a, c.b, size, spacing)
		for what, got := range map[string][2]float64{
			"Dice": {Dice(c.a, c.b), c.dice}, "95 % Hausdorff": {s.Hausdorff95(), c.hd}, "Hausdorff": {s.Hausdorff(), c.hd},
			"mean": {s.Mean(), c.hd}, "surface Dice": {s.Dice(2), c.surfaceDice},
		} {
			if got[0] != got[1] {
				t.Errorf("%s: %s is %v, want %v", c.name, what, got[0], got[1])
			}
		}
	}
}

func TestToleranceCountsItsOwnDistance(t *testing.T) {
	a, b := morph.New(9, 9), morph.New(9, 9)
	a.Set(2, 4, true)
	b.Set(6, 4, true)
	s := BetweenSlices(a, b, [2]float64{0.7, 1})
	if s.Dice(2.8) != 1 || s.Dice(2.7) != 0 {
		t.Errorf("surface Dice at 2.8 and 2.7 mm: %v and %v, want 1 and 0", s.Dice(2.8), s.Dice(2.7))
	}
}

func TestDiceOfEach(t *testing.T) {
	a := []uint16{0, 1, 1, 2, 2, 9}
	b := []uint16{0, 1, 2, 2, 2, 0}
	got := DiceOfEach(a, b, []uint16{1, 2, 9, 5, 1, 0})
	want := []float64{2. / 3, 4. / 5, 0, 1, 2. / 3, 2. / 3}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := DiceOf(a, b, 2); got != 0.8 {
		t.Errorf("Dice of label 2 is %v, want 0.8", got)
	}
}

func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := [3]int{rapid.IntRange(1, 7).Draw(t, "i"), rapid.IntRange(1, 7).Draw(t, "j"), rapid.IntRange(1, 7).Draw(t, "k")}
		n := size[0] * size[1] * size[2]
		mask := rapid.SliceOfN(rapid.Bool(), n, n)
		a, b := mask.Draw(t, "a"), mask.Draw(t, "b")
		spacing := [3]float64{1.5, 0.7, 3}
		s, r := Between(a, b, size, spacing), Between(b, a, size, spacing)
		if Dice(a, b) != Dice(b, a) || s.Hausdorff95() != r.Hausdorff95() || s.Dice(1) != r.Dice(1) {
			t.Fatal("not symmetric")
		}
		if d := Dice(a, b); d < 0 || d > 1 || s.Dice(1) > s.Dice(2) || s.Hausdorff95() > s.Hausdorff() {
			t.Fatalf("Dice %v, surface Dice %v and %v, distances %v and %v are out of order", d, s.Dice(1), s.Dice(2), s.Hausdorff95(), s.Hausdorff())
		}
		if self := Between(a, a, size, spacing); Dice(a, a) != 1 || self.Hausdorff() != 0 || self.Dice(0) != 1 {
			t.Fatal("a mask differs from itself")
		}
	})
}

func BenchmarkSurfaces512(b *testing.B) {
	a := morph.FromPoints(512, 512, []morph.Point{{X: 250, Y: 250}}).Dilate(80)
	o := a.Shift(3, 2)
	for b.Loop() {
		BetweenSlices(a, o, [2]float64{0.8, 0.8}).Hausdorff95()
	}
}
