package simulate

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"scrawl/adapters/morph"
)

func generator(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func round(w, h, x, y int, r float64) morph.Mask {
	return morph.FromPoints(w, h, []morph.Point{{X: x, Y: y}}).Dilate(r)
}

func TestStrokesFollowTheMedialAxis(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		W, H           int
		Bits, Skeleton string
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for n, c := range cases {
		read := func(s string) morph.Mask {
			m := morph.New(c.W, c.H)
			for i := range s {
				m.Bits[i] = s[i] == '1'
			}
			return m
		}
		region, axis := read(c.Bits), read(c.Skeleton).Dilate(2)
		for seed := range uint64(20) {
			positive, negative := Strokes(generator(seed), region, morph.New(c.W, c.H), Options{Thin: true})
			if positive.Count() < 9 || !negative.Empty() {
				t.Fatalf("region %d: strokes of %d and %d pixels", n, positive.Count(), negative.Count())
			}
			// The last pixels towards a blunt end are a matter of taste.
			if off := positive.AndNot(axis).Count(); off*10 > positive.Count() {
				t.Errorf("region %d, seed %d: %d of %d pixels are off scikit-image's skeleton", n, seed, off, positive.Count())
			}
		}
	}
}

func anyMask(t *rapid.T, name string, w, h int) morph.Mask {
	m := morph.New(w, h)
	for range rapid.IntRange(0, 5).Draw(t, name) {
		m = m.Or(round(w, h, rapid.IntRange(0, w-1).Draw(t, "x"), rapid.IntRange(0, h-1).Draw(t, "y"), rapid.Float64Range(0, 12).Draw(t, "r")))
	}
	return m
}

func anyOptions(t *rapid.T) Options {
	return Options{
		Shape:  rapid.SampledFrom([]Shape{CentreLine, Line, Contour, Click}).Draw(t, "shape"),
		Thin:   rapid.Bool().Draw(t, "thin"),
		Sloppy: rapid.Bool().Draw(t, "sloppy"),
	}
}

func TestTheProtocol(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(5, 45).Draw(t, "w"), rapid.IntRange(5, 45).Draw(t, "h")
		truth, predicted := anyMask(t, "truth", w, h), anyMask(t, "predicted", w, h)
		o := anyOptions(t)
		seed := rapid.Uint64().Draw(t, "seed")
		positive, negative := Strokes(generator(seed), truth, predicted, o)
		again, againNegative := Strokes(generator(seed), truth, predicted, o)
		if !again.Same(positive) || !againNegative.Same(negative) {
			t.Fatal("the same seed draws another stroke")
		}
		checkStroke(t, positive, truth.AndNot(predicted), o)
		checkStroke(t, negative, predicted.AndNot(truth), o)
	})
}

func checkStroke(t *rapid.T, stroke, wrong morph.Mask, o Options) {
	region := wrong.Largest(morph.Eight)
	area := region.Count()
	if area < MinRegion {
		if !stroke.Empty() {
			t.Fatalf("a region of %d pixels got a stroke", area)
		}
		return
	}
	if stroke.Empty() {
		t.Fatalf("a region of %d pixels got no stroke", area)
	}
	if o.Sloppy {
		if far := stroke.AndNot(region.Dilate(5)).Count(); far > 0 {
			t.Fatalf("%d pixels are more than 5 pixels from the region", far)
		}
		return
	}
	if out := stroke.AndNot(region).Count(); out > 0 {
		t.Fatalf("%d pixels are outside the region", out)
	}
	if o.Shape == Click {
		return
	}
	if !stroke.Erode(2).Empty() {
		t.Fatal("the stroke is wider than 3 pixels")
	}
	limit := max(9, float64(area)/10)
	if n := length(longestPath(stroke.Thin())); n > limit {
		t.Fatalf("the stroke is %.1f pixels long, want at most %.1f", n, limit)
	}
	if n := stroke.Count(); float64(n) > 3*limit {
		t.Fatalf("the stroke has %d pixels, want at most %.0f", n, 3*limit)
	}
	if o.Thin && stroke.Components(morph.Eight).N() != 1 {
		t.Fatal("the stroke is in pieces")
	}
}

func TestLargestErrorOfEachKind(t *testing.T) {
	truth := round(80, 80, 20, 20, 10).Or(round(80, 80, 60, 20, 5))
	predicted := round(80, 80, 20, 60, 4).Or(round(80, 80, 60, 60, 9))
	positive, negative := Strokes(generator(1), truth, predicted, Options{})
	if positive.And(round(80, 80, 20, 20, 10)).Empty() || negative.And(round(80, 80, 60, 60, 9)).Empty() {
		t.Error("strokes are not in the largest regions")
	}
	// Round regions too get a stroke worth the name.
	if n := length(longestPath(positive.Thin())); n < 5 {
		t.Errorf("a round region's stroke is %.1f pixels long, want 5 or more", n)
	}
	if positive, negative = Strokes(generator(1), truth, truth, Options{}); !positive.Empty() || !negative.Empty() {
		t.Error("a perfect answer is corrected")
	}
}

func TestSloppyStrokesCrossTheBorder(t *testing.T) {
	truth := round(64, 64, 32, 32, 14)
	for seed := range uint64(40) {
		positive, _ := Strokes(generator(seed), truth, morph.New(64, 64), Options{Sloppy: true})
		out := positive.AndNot(truth)
		distance := truth.Distance([2]float64{1, 1})
		farthest := float32(0)
		for i, b := range out.Bits {
			if b {
				farthest = max(farthest, distance[i])
			}
		}
		if farthest < 1.4 || farthest > 4.6 {
			t.Errorf("seed %d: the stroke ends %.1f pixels outside, want 2 to 4", seed, farthest)
		}
	}
}

func TestBackground(t *testing.T) {
	truth := round(64, 64, 32, 32, 10)
	if _, negative := Strokes(generator(3), truth, morph.New(64, 64), Options{}); !negative.Empty() {
		t.Error("a background stroke without being asked for")
	}
	_, negative := Strokes(generator(3), truth, morph.New(64, 64), Options{Background: true})
	if negative.Empty() || !negative.And(truth.Dilate(backgroundNear)).Empty() {
		t.Error("no background stroke beside the target")
	}
}

func TestWrongSlice(t *testing.T) {
	rng := generator(9)
	strays := map[int]int{}
	for range 20000 {
		strays[WrongSlice(rng, Options{Sloppy: true})]++
		if WrongSlice(rng, Options{}) != 0 {
			t.Fatal("a careful annotator strays")
		}
	}
	if len(strays) != 3 || strays[1]+strays[-1] < 800 || strays[1]+strays[-1] > 1200 || strays[1] < 350 || strays[-1] < 350 {
		t.Errorf("strays %v, want about 500 each way of 20000", strays)
	}
}

func TestSlices(t *testing.T) {
	truth := []morph.Mask{morph.New(20, 20), round(20, 20, 10, 10, 2), round(20, 20, 10, 10, 7), round(20, 20, 10, 10, 6)}
	if got := Slices(truth, 100); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("slices %v, want 2 and 3", got)
	}
	predicted := []morph.Mask{truth[0], truth[0], truth[3], truth[3]}
	if slice, wrong := WorstSlice(truth, predicted); slice != 2 || wrong != truth[2].AndNot(truth[3]).Count() {
		t.Errorf("worst slice %d with %d pixels", slice, wrong)
	}
	if slice, wrong := WorstSlice(truth, truth); slice != 0 || wrong != 0 {
		t.Errorf("nothing wrong: slice %d with %d pixels", slice, wrong)
	}
}

func TestUserTime(t *testing.T) {
	if got := UserTime(2, 3); got != 21*time.Second {
		t.Errorf("%v, want 21 s", got)
	}
}

func BenchmarkStrokes512(b *testing.B) {
	truth := round(512, 512, 250, 250, 90)
	predicted := truth.Shift(30, 10)
	rng := generator(1)
	for b.Loop() {
		Strokes(rng, truth, predicted, Options{})
	}
}

func TestOutlineTime(t *testing.T) {
	box := morph.New(60, 40)
	for y := 10; y < 30; y++ {
		for x := 10; x < 40; x++ {
			box.Set(x, y, true)
		}
	}
	hole := box.Clone()
	for y := 15; y < 25; y++ {
		for x := 15; x < 25; x++ {
			hole.Set(x, y, false)
		}
	}
	seconds := func(pixels float64) time.Duration {
		return time.Duration(pixels * 0.7853981633974483 / 60 * float64(30*time.Second))
	}
	for name, c := range map[string]struct {
		region morph.Mask
		want   time.Duration
	}{"nothing": {morph.New(60, 40), 0}, "a box": {box, seconds(100)}, "with a hole": {hole, seconds(140)}} {
		if got := OutlineTime(c.region); (got - c.want).Abs() > time.Millisecond {
			t.Errorf("%s takes %v, want %v", name, got, c.want)
		}
	}
	// A disc's outline is 2πr long.
	disc := round(100, 100, 50, 50, 30)
	if got, want := OutlineTime(disc).Seconds(), 2*3.14159*30.5/100*30; got < 0.97*want || got > 1.03*want {
		t.Errorf("a disc takes %v s, want %v", got, want)
	}
}

// Putting regions right one pair after the other leaves nothing but what is too small for the annotator.
func TestRegions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		truth, now := anyMask(t, "truth", 40, 30), anyMask(t, "predicted", 40, 30)
		for range 100 {
			missed, spilled := Regions(truth, now)
			if missed.Empty() && spilled.Empty() {
				break
			}
			if n := missed.AndNot(truth).Count() + missed.And(now).Count() + spilled.And(truth).Count() + spilled.AndNot(now).Count(); n > 0 {
				t.Fatalf("%d pixels of the regions are not wrong", n)
			}
			now = now.Or(missed).AndNot(spilled)
		}
		if m := truth.AndNot(now).Largest(morph.Eight).Count(); m >= MinRegion {
			t.Fatalf("%d connected pixels are still missed", m)
		}
	})
}

// The errors are the regions in the order in which they are put right, each with the outline that tracing it shows.
func TestErrorsAreTheRegions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		truth, now := anyMask(t, "truth", 40, 30), morph.New(40, 30)
		for i, e := range Errors(truth, MinRegion) {
			missed, _ := Regions(truth, now)
			length := 0
			for _, o := range missed.Outlines() {
				for i, p := range o {
					q := o[(i+1)%len(o)]
					length += max(p.X-q.X, q.X-p.X) + max(p.Y-q.Y, q.Y-p.Y)
				}
			}
			want := time.Duration(float64(length) * 0.7853981633974483 / 40 * float64(30*time.Second))
			if e.Pixels != missed.Count() || (e.Outline-want).Abs() > time.Millisecond {
				t.Fatalf("error %d: %+v, the region has %d pixels and takes %v", i, e, missed.Count(), want)
			}
			now = now.Or(missed)
		}
	})
}
