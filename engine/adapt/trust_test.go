package adapt

import "testing"

// left is a lineage's trust after an image whose first masks had those Dice coefficients.
func left(t Trust, image string, learned bool, dice ...float64) Trust {
	t = t.On(image, learned)
	t.Tried = true
	copy(t.Trial[:], dice)
	return t
}

func TestTrustGoesToTheBestRecord(t *testing.T) {
	for name, c := range map[string]struct {
		trust Trust
		want  int
	}{
		"nothing is known":                      {Trust{}, AsIs},
		"negatives are shown":                   {Trust{}.Turned(), Negative},
		"the other polarity was right":          {left(Trust{}, "a", false, 0.1, 0.9, 0.1), AsIs},
		"within the margin":                     {left(Trust{}, "a", true, 0.88, 0.1, 0.89), AsIs},
		"of what had learned nothing yet":       {left(Trust{}, "a", false, 0.1, 0.2, 0.9), AsIs},
		"what has learned is better":            {left(left(Trust{}, "a", false, 0.1, 0.2, 0.1), "b", true, 0.1, 0.2, 0.8), Taught},
		"later images count more":               {left(left(Trust{}, "a", true, 0.9, 0.8, 0.5), "b", true, 0.2, 0.1, 0.8), Taught},
		"an image begun says nothing":           {left(Trust{}, "a", true, 0.1, 0.9, 0.8).On("b", true), Taught},
		"an image counts once as it is at last": {left(left(Trust{}, "a", true, 0.9, 0.1, 0.1), "a", true, 0.1, 0.1, 0.9), Taught},
		"weights that begin anew":               {left(Trust{}, "a", true, 0.1, 0.2, 0.9).On("b", true).Turned(), Negative},
	} {
		if got := c.trust.Best(); got != c.want {
			t.Errorf("%s: expert %d makes the first mask, want %d", name, got, c.want)
		}
	}
	if got := left(Trust{}, "a", false, 1, 1, 1).Of(AsIs); got != 0.5 {
		t.Errorf("record %g with one image under way, want that of an expert without any", got)
	}
}

func TestAnchorDrawsTowardsTheShownAnswer(t *testing.T) {
	c := Thesis()
	target, shown := planes([]int{1, 2}, 1, 2), planes([]int{1, 2}, 1, 1)
	copy(target.Float32s(), []float32{0.8, 0.4, 0.2, 0.6})
	shown.Float32s()[0] = 1
	c.anchor(target, shown)
	if got := target.Float32s(); got[0] != 0.8 {
		t.Errorf("the published method changes its target: %v", got)
	}
	c.Anchor = 0.5
	c.anchor(target, shown)
	for i, want := range []float32{0.4, 0.7, 0.6, 0.3} {
		if got := target.Float32s()[i]; got < want-1e-6 || got > want+1e-6 {
			t.Errorf("value %d is %g, want %g", i, got, want)
		}
	}
}

func TestStrokesCountByTheirArea(t *testing.T) {
	target, valid := planes([]int{1, 5}, 1, 2), planes([]int{1, 5}, 1, 1)
	copy(target.Float32s(), []float32{0.9, 0.55, 0.5, 0.1, 0.1}) // of background: four pixels may be an object
	copy(valid.Float32s(), []float32{1, 1, 1, 1, 0})
	c := Thesis()
	if got := c.strokeShare(target, valid, 1); got != 1 {
		t.Errorf("the published method weighs strokes by %g", got)
	}
	c.StrokeArea = true
	for marked, want := range map[int]float64{0: 0, 1: 1.0 / 3, 3: 1, 7: 1} {
		if got := c.strokeShare(target, valid, marked); got < want-1e-9 || got > want+1e-9 {
			t.Errorf("%d pixels of strokes: share %g, want %g", marked, got, want)
		}
	}
	if got := c.strokeShare(target, planes([]int{1, 5}, 1, 1), 2); got != 1 {
		t.Errorf("where nothing may be an object strokes count by %g, want in full", got)
	}
}
