package synth

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"scrawl/adapters/morph"
)

// drawn collects scenes of one kind as a generator shows them.
func drawn(t *testing.T, kind string, draw func(*canvas), n int) []*canvas {
	t.Helper()
	out := make([]*canvas, n)
	for i := range out {
		c := &canvas{random: random{rand.New(rand.NewPCG(uint64(i), 7))}}
		c.init(128)
		c.tissues, c.count, c.scaled = [256]tissue{}, 1, 1
		draw(c)
		if c.aim == 0 && kind != "heart" {
			t.Fatalf("%s %d is drawn for no object", kind, i)
		}
		out[i] = c
	}
	return out
}

// prompted lets a user mark an object, of the kind who marks everything in one go.
func prompted(r random, target morph.Mask, zoom float64) *seat {
	s := &seat{random: r, target: target, zoom: zoom, input: make([]float32, channels*len(target.Bits))}
	for !s.people() {
		continue
	}
	return s
}

// marked are a channel's strokes.
func (s *seat) marked(channel int) morph.Mask {
	return morph.Threshold(s.plane(channel), s.target.W, s.target.H, 0.5)
}

func shareOf(part, of morph.Mask) float64 {
	return float64(part.And(of).Count()) / float64(max(part.Count(), 1))
}

// TestRetina holds that all vessels are the object, down to the last twig; that they are thin and go far; and that some are clear and
// others are hardly seen.
func TestRetina(t *testing.T) {
	const n = 40
	thin, clearly, faintly := 0, 0, 0
	for i, c := range drawn(t, "retina", (*canvas).retina, n) {
		target, _, ok := c.chooseTarget()
		if !ok {
			continue
		}
		all := 0
		for j, l := range c.labels {
			if l == c.aim {
				all++
			} else if target.Bits[j] {
				t.Fatalf("retina %d: the object holds what is no vessel", i)
			}
		}
		if target.Count() != all {
			t.Errorf("retina %d: %d of %d pixels of vessels are the object", i, target.Count(), all)
		}
		if cover := float64(all) / float64(len(c.labels)); cover < 0.02 || cover > 0.3 {
			t.Errorf("retina %d: vessels cover %.3f of the picture", i, cover)
		}
		if (&seat{target: target, zoom: c.scaled}).thin() {
			thin++
		}
		for j, b := range target.Bits {
			switch v := c.overlay[j]; {
			case b && v > 0.2:
				clearly++
			case b && v < 0.05:
				faintly++
			}
		}
	}
	if thin < n*8/10 {
		t.Errorf("%d of %d trees are thin", thin, n)
	}
	if clearly < 1000 || faintly < 1000 {
		t.Errorf("%d pixels of vessels are clear and %d hardly seen", clearly, faintly)
	}
}

// TestStrokesOnVesselsAreRough holds what people's are: many lines that follow vessels by and large, but are broader than those and lie
// beside them as much as on them, while lines between the vessels cross few.
func TestStrokesOnVesselsAreRough(t *testing.T) {
	var on, near, crossed float64
	several, n := 0, 0
	for i, c := range drawn(t, "retina", (*canvas).retina, 60) {
		target, _, ok := c.chooseTarget()
		if s := (&seat{target: target, zoom: c.scaled}); !ok || !s.thin() || s.hollow() {
			continue
		}
		s := prompted(random{rand.New(rand.NewPCG(uint64(i), 8))}, target, c.scaled)
		positive, negative := s.marked(channelPositive), s.marked(channelNegative)
		on += shareOf(positive, target)
		near += shareOf(positive, target.Dilate(1+2*c.scaled))
		crossed += shareOf(negative, target)
		if positive.Components(morph.Eight).N() > 2 {
			several++
		}
		n++
	}
	on, near, crossed = on/float64(n), near/float64(n), crossed/float64(n)
	if on < 0.3 || on > 0.7 || near < 0.85 {
		t.Errorf("%.2f of the strokes lie on vessels, want 0.3 to 0.7, and %.2f near them", on, near)
	}
	if crossed > 0.15 || crossed < 0.005 {
		t.Errorf("%.3f of the strokes on the ground cross vessels", crossed)
	}
	if several < n/3 {
		t.Errorf("%d of %d users draw several strokes", several, n)
	}
}

// TestHearts holds that the object is the wall, that it goes around a pool mostly, and that people mark wall, pool and surroundings.
func TestHearts(t *testing.T) {
	var walls, rings, pooled, around, n int
	var on float64
	for i, c := range drawn(t, "heart", (*canvas).heart, 60) {
		target, _, ok := c.aimed()
		if c.aim == 0 || !ok {
			continue
		}
		if walls++; c.tissues[c.aim] != muscle {
			t.Errorf("heart %d: the object is of tissue %d", i, c.tissues[c.aim])
		}
		look := &seat{target: target, zoom: 1}
		if !look.hollow() {
			continue
		}
		rings++
		s := prompted(random{rand.New(rand.NewPCG(uint64(i), 9))}, target, 1)
		on += shareOf(s.marked(channelPositive), target)
		negative, hole := s.marked(channelNegative), s.hole()
		if !negative.And(hole).Empty() {
			pooled++
		}
		if !negative.AndNot(hole).AndNot(target).Empty() {
			around++
		}
		n++
	}
	if walls < 30 || rings < walls*6/10 {
		t.Errorf("%d of 60 hearts are drawn for their wall, of which %d are rings", walls, rings)
	}
	if on /= float64(n); on < 0.7 || pooled < n*7/10 || around < n*7/10 {
		t.Errorf("%.2f of the strokes lie on the wall; of %d users %d mark the pool and %d the surroundings", on, n, pooled, around)
	}
}

// TestTubes holds that one of several small discs is the object.
func TestTubes(t *testing.T) {
	small, n := 0, 0
	for _, c := range drawn(t, "tubes", (*canvas).tubes, 60) {
		target, _, ok := c.aimed()
		if !ok {
			continue
		}
		if n++; target.Components(morph.Eight).N() != 1 {
			t.Error("the object comes in pieces")
		}
		if target.Count() < 400 {
			small++
		}
	}
	if n < 30 || small < n*9/10 {
		t.Errorf("%d of %d tubes are small", small, n)
	}
}

// TestPeopleKeepToTheirSide holds that strokes on an object wider than a pen lie in it, and those beside it do not touch it; and that
// large loops and long lines often mark much of the picture.
func TestPeopleKeepToTheirSide(t *testing.T) {
	broad := 0
	rapid.Check(t, func(t *rapid.T) {
		target := drawMask(t, 64)
		look := &seat{target: target, zoom: 1}
		if target.Count() < 40 || target.Not().Empty() || look.thin() || look.hollow() {
			return
		}
		s := prompted(random{rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "strokes"), 3))}, target, 1)
		positive, negative := s.marked(channelPositive), s.marked(channelNegative)
		if positive.Empty() {
			t.Fatal("nothing marks the object")
		}
		if share := shareOf(positive, target); share < 0.5 { // a stroke may slip over the border
			t.Fatalf("%.2f of the strokes lie on the object", share)
		}
		if !negative.And(target).Empty() {
			t.Fatal("a stroke beside the object runs over it")
		}
		if negative.Count() > len(target.Bits)/12 {
			broad++
		}
	})
	if broad < 3 {
		t.Errorf("%d users mark a twelfth of the picture", broad)
	}
}

// TestSlidMasksStayNear holds that what a small object's mask becomes lies within two of its sizes, is seldom right, and is never empty.
func TestSlidMasksStayNear(t *testing.T) {
	target := morph.New(64, 64)
	for i := range target.Bits {
		target.Bits[i] = math.Hypot(float64(i%64-32), float64(i/64-32)) < 4.5
	}
	r := random{rand.New(rand.NewPCG(4, 4))}
	apart, larger := 0, 0
	for range 200 {
		m := r.slid(target, 9)
		if m.Empty() || !m.AndNot(target.Dilate(25)).Empty() {
			t.Fatal("a mask is empty or far away")
		}
		if 2*m.And(target).Count() < target.Count() {
			apart++
		}
		if m.Count() > target.Count()*5/4 {
			larger++
		}
	}
	if apart < 40 || larger < 40 {
		t.Errorf("of 200 masks %d lie beside the object and %d have run together with something", apart, larger)
	}
}

// TestSharesOfScenes holds what the network shall not forget: most pictures are neither eyes nor hearts.
func TestSharesOfScenes(t *testing.T) {
	g := New(21, Options{Size: 64})
	kinds := map[string]int{}
	const n = 400
	for range n {
		kinds[strings.Fields(g.Next().Kind)[0]]++
	}
	if special := kinds["retina"] + kinds["heart"]; special < n*8/100 || special > n*20/100 || kinds["tubes"] == 0 {
		t.Errorf("of %d scenes: %v", n, kinds)
	}
}
