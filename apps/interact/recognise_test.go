package interact

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
)

// strokesAlone is a network that takes for the object what lies under positive strokes and nothing else: whatever else an answer holds was
// recognised.
func strokesAlone(t *testing.T) *Model {
	return model(t, perPixel(-8, 0, 16, -16, 0), Input{
		Channels: []Channel{ChannelImage, ChannelPositive, ChannelNegative, ChannelPrevious}, Grid: 64, Multiple: 1, Range: &[2]float64{0, 1}})
}

const fieldSide = 64

// nuclei is a slice of bright discs in rows of three, 20 pixels apart, on a noisy ground; truth has them all.
func nuclei(seed uint64) (*volume.Volume, []bool) {
	rng := rand.New(rand.NewPCG(seed, 0))
	v := volume.NewVolume(volume.New([3]int{fieldSide, fieldSide, 1}, [3]float64{1, 1, 1}))
	truth := make([]bool, len(v.Voxels))
	for i := range v.Voxels {
		x, y := (i%fieldSide+10)%20-10, (i/fieldSide+10)%20-10
		v.Voxels[i] = 0.2 + 0.02*float32(rng.NormFloat64())
		if truth[i] = x*x+y*y <= 20 && i%fieldSide > 10 && i/fieldSide > 10; truth[i] {
			v.Voxels[i] += 0.5
		}
	}
	return v, truth
}

// dab is a stroke that covers the disc in column cx and row cy.
func dab(cx, cy int, positive bool) scribble.Stroke {
	s := scribble.Stroke{Axis: 2, Positive: positive}
	for y := -4; y <= 4; y++ {
		for x := -4; x <= 4; x++ {
			if x*x+y*y <= 20 {
				s.Pixels = append(s.Pixels, scribble.Point{X: 20*cx + x, Y: 20*cy + y})
			}
		}
	}
	return s
}

func strokesOn(v *volume.Volume, s ...scribble.Stroke) Request {
	return Request{Strokes: scribble.NewSet(v.Size, s...), Options: Options{Profile: ProfileHindsight}}
}

func TestStrokesOnSomeObjectsFindTheOthers(t *testing.T) {
	m := strokesAlone(t)
	v, truth := nuclei(1)
	u := &user{t: t, m: m, img: m.Prepare(v)}
	drawn := []scribble.Stroke{dab(1, 1, true)}
	first := u.ask(strokesOn(v, drawn...)).Mask
	drawn = append(drawn, dab(2, 1, true))
	second := u.ask(strokesOn(v, drawn...)).Mask
	if a, b := count(first), count(second); b > 2*a+8 {
		t.Errorf("%d voxels after one stroke and %d after two: shown before two strokes have confirmed it", a, b)
	}
	drawn = append(drawn, dab(3, 2, true))
	if d := overlap(u.ask(strokesOn(v, drawn...)).Mask, truth); d < 0.9 {
		t.Errorf("Dice %.3f after strokes on three of nine objects, want 0.9", d)
	}

	// The next image of the series shows them before any stroke, and only to who has taught them.
	finished, _, _, err := m.Finish(t.Context(), u.img, Options{Profile: ProfileHindsight}, u.learned, u.state)
	if err != nil {
		t.Fatal(err)
	}
	next, truth2 := nuclei(2)
	for _, c := range []struct {
		name    string
		profile Profile
		learned Learned
		least   float64
	}{
		{"taught", ProfileHindsight, through(t, finished), 0.9},
		{"frozen", ProfileFrozen, finished, 0},
		{"not taught", ProfileHindsight, Learned{}, 0},
	} {
		later := &user{t: t, m: m, img: m.Prepare(next), learned: c.learned}
		req := strokesOn(next)
		req.Profile = c.profile
		d := overlap(later.ask(req).Mask, truth2)
		if c.least == 0 && d != 0 || d < c.least {
			t.Errorf("%s: Dice %.3f before any stroke, want at least %g, and 0 with nothing to go by", c.name, d, c.least)
		}
	}
}

// TestNothingElseIsShownOfOneObject: strokes on one object alone confirm nothing, and the answers are those of the frozen network.
func TestNothingElseIsShownOfOneObject(t *testing.T) {
	m := strokesAlone(t)
	v, _ := nuclei(1)
	u, frozen := &user{t: t, m: m, img: m.Prepare(v)}, &user{t: t, m: m, img: m.Prepare(v)}
	var drawn []scribble.Stroke
	for k := range 12 {
		s := dab(1, 1, k%2 == 0)
		s.Pixels = s.Pixels[4*k : 4*k+4]
		drawn = append(drawn, s)
		req := strokesOn(v, drawn...)
		a := u.ask(req).Mask
		req.Profile = ProfileFrozen
		if b := frozen.ask(req).Mask; !bytes.Equal(asBytes(a), asBytes(b)) {
			t.Fatalf("stroke %d: another answer than the frozen network's", k+1)
		}
	}
	if e := u.state.Evidence; e.Confirmed || e.Idle != m.Recognise.Patience {
		t.Errorf("%d strokes in vain were counted, want no more than the patience of %d", e.Idle, m.Recognise.Patience)
	}
}

func asBytes(mask []bool) []byte {
	out := make([]byte, len(mask))
	for i, b := range mask {
		if b {
			out[i] = 1
		}
	}
	return out
}

// TestWhatIsStruckOutGoes: a negative stroke on something recognised removes all of it, and not the others.
func TestWhatIsStruckOutGoes(t *testing.T) {
	m := strokesAlone(t)
	v, _ := nuclei(1)
	u := &user{t: t, m: m, img: m.Prepare(v)}
	drawn := []scribble.Stroke{dab(1, 1, true)}
	for _, next := range []scribble.Stroke{dab(2, 1, true), dab(3, 1, true)} {
		u.ask(strokesOn(v, drawn...))
		drawn = append(drawn, next)
	}
	at := func(mask []bool, cx, cy int) bool { return mask[20*cy*fieldSide+20*cx] }
	before := u.ask(strokesOn(v, drawn...)).Mask
	if !at(before, 2, 3) || !at(before, 1, 2) {
		t.Fatal("nothing was recognised that could be struck out")
	}
	wrong := dab(2, 3, false)
	wrong.Pixels = wrong.Pixels[len(wrong.Pixels)/2-3 : len(wrong.Pixels)/2+3]
	after := u.ask(strokesOn(v, append(drawn, wrong)...)).Mask
	for y := 56; y < fieldSide; y++ {
		for x := 36; x < 45; x++ {
			if after[y*fieldSide+x] {
				t.Fatalf("(%d,%d) of what was struck out is still there", x, y)
			}
		}
	}
	if !at(after, 1, 2) {
		t.Error("another object went too")
	}
}

// TestASliceDrawnByHandIsKnownThroughout: after an edit by hand every pixel is learned from.
func TestASliceDrawnByHandIsKnownThroughout(t *testing.T) {
	m := strokesAlone(t)
	v, truth := nuclei(1)
	u := &user{t: t, m: m, img: m.Prepare(v)}
	u.ask(strokesOn(v, dab(1, 1, true)))
	req := strokesOn(v, dab(1, 1, true))
	req.Previous = truth
	u.ask(req)
	if u.learned.Known == nil || len(u.learned.Known.Lessons) != 1 {
		t.Fatalf("known: %+v, want one lesson", u.learned.Known)
	}
	l := u.learned.Known.Lessons[0]
	for n, w := range l.W {
		if w != 1 {
			t.Fatalf("pixel %d of a slice drawn by hand counts %g", n, w)
		}
	}
}

// TestLargeSlicesAreShrunk looks at a slice larger than the limit.
func TestLargeSlicesAreShrunk(t *testing.T) {
	m := strokesAlone(t)
	m.Recognise.Side = 32
	v, _ := nuclei(1)
	u := &user{t: t, m: m, img: m.Prepare(v)}
	s := wholeSight(view{w: fieldSide, h: fieldSide / 2, pixels: make([]float32, fieldSide*fieldSide/2)}, 1, m.Recognise.Side)
	if s.picture.W != 32 || s.picture.H != 16 || s.pixels(3) != 6 {
		t.Errorf("a picture of %d×%d, want 32×16", s.picture.W, s.picture.H)
	}
	for _, strokes := range [][]scribble.Stroke{{dab(1, 1, true)}, {dab(1, 1, true), dab(2, 2, true)}} {
		u.ask(strokesOn(v, strokes...))
	}
}
