package adapt_test

import (
	"testing"

	"scrawl/engine/adapt"
)

// Images that were left are learned again with the next ones, and only so many are remembered.
func TestReplay(t *testing.T) {
	n := smallUNet(t, 1, 2, adapt.Trainable{})
	e := engine(t, n, onRuntime(t))
	image := func(by float32) adapt.Slice {
		s := scribbled(1, 2)
		for i := range s.X.Float32s() {
			s.X.Float32s()[i] *= by
		}
		return s
	}
	c := quick()
	c.Steps, c.Replay = 4, 1
	p, first, _ := interact(t, e, c, e.NewSets(1), image(1), 1)
	if len(first.Seen) != 1 {
		t.Fatalf("%d images are remembered after one", len(first.Seen))
	}
	for i, class := range first.Seen[0].Target.Float32s() {
		want := float32(0)
		if p.Float32s()[side*side+i] > 0.5 {
			want = 1
		}
		if first.Seen[0].Stroked.Float32s()[i] > 0 {
			want = image(1).Scribble.Float32s()[side*side+i]
		}
		if class != want {
			t.Fatalf("pixel %d is remembered as class %g, want %g: the answer with the strokes written in", i, class, want)
		}
	}
	_, again, _ := interact(t, e, c, first, image(1), 2)
	if len(again.Seen) != 1 {
		t.Errorf("%d images are remembered after two interactions on one", len(again.Seen))
	}
	with, second, _ := interact(t, e, c, first, image(2), 2)
	forgotten := first
	forgotten.Seen = nil
	without, _, _ := interact(t, e, c, forgotten, image(2), 2)
	if same(with.Float32s(), without.Float32s()) {
		t.Error("the answer on a second image is the same whether the first is remembered or not")
	}
	_, third, _ := interact(t, e, c, second, image(3), 3)
	if len(third.Seen) != 2 || !same(third.Seen[0].X.Float32s(), image(2).X.Float32s()) {
		t.Errorf("%d images are remembered after three with replay 1: the one under way and the one before are wanted", len(third.Seen))
	}
	c.Replay = 0
	if _, none, _ := interact(t, e, c, third, image(1), 4); len(none.Seen) != 0 {
		t.Errorf("%d images are remembered without replay", len(none.Seen))
	}
}
