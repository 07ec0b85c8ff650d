package recognise

import (
	"bytes"
	"encoding/gob"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// field is a noisy picture of discs of one brightness, 9 pixels across, with one more kind of disc as a distraction.
func field(seed uint64, w, h int) (pixels []float32, truth []bool) {
	rng := rand.New(rand.NewPCG(seed, 1))
	pixels, truth = make([]float32, w*h), make([]bool, w*h)
	for i := range pixels {
		pixels[i] = 0.3 + 0.03*float32(rng.NormFloat64())
	}
	for cy := 12; cy < h-8; cy += 20 {
		for cx := 12; cx < w-8; cx += 20 {
			target := rng.Float64() < 0.6
			for y := cy - 4; y <= cy+4; y++ {
				for x := cx - 4; x <= cx+4; x++ {
					if (x-cx)*(x-cx)+(y-cy)*(y-cy) > 18 {
						continue
					}
					if truth[y*w+x] = target; target {
						pixels[y*w+x] += 0.4
					} else {
						pixels[y*w+x] -= 0.2
					}
				}
			}
		}
	}
	return pixels, truth
}

// around believes the truth in a window around the first disc of the target, and knows nothing elsewhere.
func around(truth []bool, w int) []Belief {
	b := make([]Belief, len(truth))
	first := 0
	for !truth[first] {
		first++
	}
	cx, cy := first%w, first/w+4
	for y := max(cy-10, 0); y < cy+10; y++ {
		for x := max(cx-10, 0); x < cx+10; x++ {
			if b[y*w+x] = Other; truth[y*w+x] {
				b[y*w+x] = Object
			}
		}
	}
	return b
}

func dice(p []float32, truth []bool) float64 {
	both, sum := 0, 0
	for i, v := range p {
		if v > 0.5 && truth[i] {
			both++
		}
		if v > 0.5 {
			sum++
		}
		if truth[i] {
			sum++
		}
	}
	return 2 * float64(both) / float64(sum)
}

// TestOneObjectShowsTheOthers marks one object and expects the others, here and on an image that was not there before.
func TestOneObjectShowsTheOthers(t *testing.T) {
	c := Default()
	pixels, truth := field(1, 120, 100)
	p := NewPicture(pixels, 120, 100, 1)
	k := Knowledge{}.With(c, NewLesson(c, p, around(truth, 120), 1))
	r, ok := k.Fit(c)
	if !ok {
		t.Fatal("nothing was fitted to pixels of both kinds")
	}
	if d := dice(r.Answer(p), truth); d < 0.9 {
		t.Errorf("Dice %.3f of all objects after one was shown, want 0.9", d)
	}
	other, truth2 := field(2, 90, 140)
	if d := dice(r.Answer(NewPicture(other, 90, 140, 1)), truth2); d < 0.9 {
		t.Errorf("Dice %.3f on the next image, want 0.9", d)
	}
}

// TestFitIsTheMinimum checks that no other weights explain the lessons better: the loss rises in every direction.
func TestFitIsTheMinimum(t *testing.T) {
	c := Default()
	pixels, truth := field(3, 80, 80)
	k := Knowledge{}.With(c, NewLesson(c, NewPicture(pixels, 80, 80, 1), around(truth, 80), 1))
	fitted, ok := k.Fit(c)
	if !ok {
		t.Fatal("no lessons")
	}
	samples, mean, scale := k.standardised(fitted.middle)
	var best [dims]float64
	best[features] = fitted.bias
	for i := range features {
		best[i] = fitted.weights[i] / scale[i]
		best[features] += fitted.weights[i] * mean[i]
	}
	loss := func(w [dims]float64) float64 {
		sum := 0.0
		for i := range features {
			sum += c.Ridge * w[i] * w[i] / 2
		}
		for _, s := range samples {
			odds := 0.0
			for i, v := range s.z {
				odds += w[i] * v
			}
			if s.y == 0 {
				odds = -odds
			}
			sum -= s.weight * math.Log(sigmoid(odds))
		}
		return sum
	}
	least := loss(best)
	rapid.Check(t, func(t *rapid.T) {
		w := best
		for i := range w {
			w[i] += rapid.Float64Range(-0.2, 0.2).Draw(t, "step")
		}
		if l := loss(w); l < least-1e-4 {
			t.Fatalf("loss %g beside the fit, %g at it", l, least)
		}
	})
}

// TestObjectBetweenDarkerAndBrighter: an intensity that lies between those of everything else is told apart, too.
func TestObjectBetweenDarkerAndBrighter(t *testing.T) {
	const n = 96
	c := Default()
	rng := rand.New(rand.NewPCG(5, 0))
	pixels, truth := make([]float32, n*n), make([]bool, n*n)
	for i := range pixels {
		band := i % n * 6 / n
		truth[i] = band%3 == 1
		pixels[i] = []float32{0.2, 0.5, 0.8}[band%3] + 0.03*float32(rng.NormFloat64())
	}
	beliefs := make([]Belief, n*n)
	for i, b := range truth {
		beliefs[i] = Other
		if b {
			beliefs[i] = Object
		}
	}
	p := NewPicture(pixels, n, n, 1)
	r, _ := Knowledge{}.With(c, NewLesson(c, p, beliefs, 1)).Fit(c)
	if d := dice(r.Answer(p), truth); d < 0.9 {
		t.Errorf("Dice %.3f, want 0.9", d)
	}
}

// TestUnderAnotherLight: a lesson under a light is the lesson of the picture under that light.
func TestUnderAnotherLight(t *testing.T) {
	const gain, offset = 1.3, -0.1
	c := Default()
	pixels, truth := field(6, 64, 64)
	lit := make([]float32, len(pixels))
	for i, v := range pixels {
		lit[i] = gain*v + offset
	}
	got := NewLesson(c, NewPicture(pixels, 64, 64, 1), around(truth, 64), 1).Under(gain, offset)
	want := NewLesson(c, NewPicture(lit, 64, 64, 1), around(truth, 64), 1)
	for n := range want.X {
		for k, v := range want.X[n] {
			if math.Abs(float64(got.X[n][k]-v)) > 1e-4 {
				t.Fatalf("filter %d: %g, want %g", k, got.X[n][k], v)
			}
		}
	}
}

// TestFiltersTurnWithThePicture: what is recognised must not depend on how an image lies.
func TestFiltersTurnWithThePicture(t *testing.T) {
	const n = 40
	pixels, _ := field(4, n, n)
	turned := make([]float32, n*n)
	for y := range n {
		for x := range n {
			turned[x*n+n-1-y] = pixels[y*n+x]
		}
	}
	a, b := NewPicture(pixels, n, n, 1), NewPicture(turned, n, n, 1)
	for y := range n {
		for x := range n {
			u, v := a.at(y*n+x), b.at(x*n+n-1-y)
			for k := range u {
				if math.Abs(float64(u[k]-v[k])) > 1e-4 {
					t.Fatalf("filter %d at (%d,%d): %g, turned %g", k, x, y, u[k], v[k])
				}
			}
		}
	}
}

func TestNothingIsFittedToOneKind(t *testing.T) {
	c := Default()
	for name, beliefs := range map[string][]Belief{
		"nothing": make([]Belief, 0), "background alone": make([]Belief, 400), "object alone": bytes2beliefs(bytes.Repeat([]byte{byte(Object)}, 400)),
	} {
		k := Knowledge{}.With(c, NewLesson(c, NewPicture(make([]float32, 400), 20, 20, 1), beliefs, 1))
		if _, ok := k.Fit(c); ok {
			t.Errorf("%s: something was fitted", name)
		}
	}
}

func bytes2beliefs(b []byte) []Belief {
	out := make([]Belief, len(b))
	for i, v := range b {
		out[i] = Belief(v)
	}
	return out
}

// TestFlatPicture has filters without any spread: nothing may become infinite.
func TestFlatPicture(t *testing.T) {
	c := Default()
	beliefs := make([]Belief, 400)
	for i := range beliefs {
		beliefs[i] = Belief(i % 3)
	}
	p := NewPicture(make([]float32, 400), 20, 20, 1)
	r, ok := Knowledge{}.With(c, NewLesson(c, p, beliefs, 1)).Fit(c)
	if !ok {
		t.Fatal("nothing was fitted")
	}
	for i, v := range r.Answer(p) {
		if !(v > 0 && v < 1) {
			t.Fatalf("pixel %d: probability %g", i, v)
		}
	}
}

func TestLessonsKeepWithinTheirNumbers(t *testing.T) {
	c := Default()
	c.Pixels, c.Slices = 20, 3
	pixels, truth := field(5, 60, 60)
	p := NewPicture(pixels, 60, 60, 1)
	k := Knowledge{}
	for i := range 5 {
		before := k
		k = k.With(c, NewLesson(c, p, around(truth, 60), uint64(i)))
		if len(before.Lessons) != min(i, 3) {
			t.Fatalf("the knowledge before lesson %d holds %d lessons", i, len(before.Lessons))
		}
	}
	if len(k.Lessons) != 3 || len(k.Lessons[0].X) != 60 {
		t.Fatalf("%d lessons of %d pixels, want 3 of 60", len(k.Lessons), len(k.Lessons[0].X))
	}
	var count [2]int
	seen := map[[Filters]float32]bool{}
	for n, x := range k.Lessons[2].X {
		seen[x] = true
		count[int(k.Lessons[2].Y[n])]++
	}
	if count != [2]int{40, 20} || len(seen) < 50 {
		t.Errorf("%v pixels of background and object, %d different", count, len(seen))
	}
	var back Knowledge
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(k); err != nil {
		t.Fatal(err)
	}
	if err := gob.NewDecoder(&buf).Decode(&back); err != nil || !reflect.DeepEqual(back, k) {
		t.Errorf("knowledge comes back otherwise from disk (%v)", err)
	}
}

func TestEvidence(t *testing.T) {
	c := Default()
	lesson := Lesson{X: make([][Filters]float32, 1), Y: []float32{1}, W: []float32{1}}
	know := func(e Evidence) Knowledge { return Knowledge{Lessons: []Lesson{lesson}, Evidence: e} }
	confirm := Word{Strokes: 1, Confirmed: 1}
	e := Evidence{}.Then(c, Evidence{}, confirm)
	if know(e).Shows(c) {
		t.Error("one confirmation is enough to show what was recognised")
	}
	if left := e.Settled(); know((Evidence{}).Then(c, left, confirm).After(left)).Shows(c) {
		t.Error("one confirmation on one image and one on the next are enough")
	}
	if e = e.Then(c, Evidence{}, confirm); !know(e).Shows(c) || know(e).Hopeless(c) {
		t.Error("two confirmations are not enough")
	}
	if (Knowledge{Evidence: e}).Shows(c) {
		t.Error("something is shown without any lesson")
	}
	if e.Settled() != e {
		t.Error("what is shown is dropped when the image is finished")
	}
	small := e
	for range 20 {
		small = small.Then(c, Evidence{}, Word{Strokes: 2, Refuted: 0.02})
	}
	if !know(small).Shows(c) {
		t.Error("small corrections have hidden what is right for the most part")
	}
	if one := e.Then(c, Evidence{}, Word{Strokes: 1, Refuted: 1. / 6}); !know(one).Shows(c) {
		t.Error("one of six objects was struck out, and all are hidden")
	}
	for name, strike := range map[string]Word{"half": {Strokes: 1, Refuted: 0.5}, "an object": {Strokes: 1, Refuted: 0.02, Whole: true}} {
		once := e.Then(c, Evidence{}, strike)
		if !know(once).Shows(c) || know(once.Then(c, Evidence{}, strike)).Shows(c) {
			t.Errorf("%s was struck out twice: what was recognised is hidden after once %v and still shown after twice %v, want neither", name,
				!know(once).Shows(c), know(once.Then(c, Evidence{}, strike)).Shows(c))
		}
		if later := (Evidence{}).Then(c, e, strike); know(later.Then(c, e, strike).After(e)).Shows(c) {
			t.Errorf("%s was struck out twice on the next image, and it is still shown", name)
		}
	}
	idle := Evidence{}
	for range c.Patience {
		if know(idle).Hopeless(c) {
			t.Errorf("hopeless after %d strokes", idle.Idle)
		}
		idle = idle.Then(c, Evidence{}, Word{Strokes: 1})
	}
	if !know(idle).Hopeless(c) {
		t.Error("strokes that confirm nothing leave hope")
	}
	off := c
	off.Confirmed = 0
	if know(e).Shows(off) {
		t.Error("shown though switched off")
	}
}

// TestEvidenceAddsUp: evidence gathered on one image and added to that of others stays within its bounds.
func TestEvidenceAddsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func() (e Evidence) {
			for range rapid.IntRange(0, 10).Draw(t, "interactions") {
				e = e.Then(Default(), Evidence{}, Word{Strokes: rapid.IntRange(0, 3).Draw(t, "strokes"), Confirmed: rapid.IntRange(0, 2).Draw(t, "confirmed"),
					Refuted: rapid.Float64Range(0, 1).Draw(t, "refuted")})
			}
			return e
		}
		before, now := draw(), draw()
		sum := now.After(before)
		if math.Abs(sum.Net) > most || math.Abs(now.Net) > most {
			t.Fatalf("evidence %g and %g", now.Net, sum.Net)
		}
		if (Evidence{}).After(before) != before {
			t.Fatalf("no evidence changes %v", before)
		}
	})
}

func TestValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"side":      func(c *Config) { c.Side = 8 },
		"near":      func(c *Config) { c.Near = math.NaN() },
		"pixels":    func(c *Config) { c.Pixels = 0 },
		"slices":    func(c *Config) { c.Slices = 0 },
		"unknown":   func(c *Config) { c.Unknown = 2 },
		"ridge":     func(c *Config) { c.Ridge = 0 },
		"confirmed": func(c *Config) { c.Confirmed = -1 },
		"patience":  func(c *Config) { c.Patience = 0 },
	} {
		c := Default()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
