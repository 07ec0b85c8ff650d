package interact

import (
	"testing"

	"scrawl/adapters/scribble"
)

// byLooks is a network that takes for the object what lies under positive strokes, and what looks enough like the target, which strokes of the
// slice itself cannot tell it.
func byLooks(t *testing.T) *Model {
	return model(t, perPixel(-4, 0, 16, -16, 0, 20), Input{
		Channels: []Channel{ChannelImage, ChannelPositive, ChannelNegative, ChannelPrevious, ChannelLikeness}, Grid: 64, Multiple: 1, Range: &[2]float64{0, 1}})
}

// TestLooksAreRemembered: a slice that the user has corrected shows what the target looks like on the next image, and nothing else does.
func TestLooksAreRemembered(t *testing.T) {
	m := byLooks(t)
	first, _ := nuclei(1)
	next, truth := nuclei(2)
	taught := func(profile Profile, strokes ...scribble.Stroke) Learned {
		u := &user{t: t, m: m, img: m.Prepare(first)}
		for k := range strokes {
			req := strokesOn(first, strokes[:k+1]...)
			req.Profile = profile
			u.ask(req)
		}
		finished, _, _, err := m.Finish(t.Context(), u.img, Options{Profile: profile}, u.learned, u.state)
		if err != nil {
			t.Fatal(err)
		}
		return through(t, finished)
	}
	corrected := []scribble.Stroke{dab(1, 1, true), {Axis: 2, Positive: false, Pixels: []scribble.Point{{X: 30, Y: 30}, {X: 31, Y: 30}, {X: 32, Y: 30}}}}
	for _, c := range []struct {
		name    string
		learned Learned
		profile Profile
		all     bool
	}{
		{"corrected", taught(ProfileHindsight, corrected...), ProfileHindsight, true},
		{"a first stroke, which may have spilled", taught(ProfileHindsight, corrected[:1]...), ProfileHindsight, false},
		{"taught to a network that does not learn", taught(ProfileFrozen, corrected...), ProfileHindsight, false},
		{"asked of a network that does not learn", taught(ProfileHindsight, corrected...), ProfileFrozen, false},
	} {
		u := &user{t: t, m: m, img: m.Prepare(next), learned: c.learned}
		req := strokesOn(next, dab(1, 1, true))
		req.Profile = c.profile
		d := overlap(u.ask(req).Mask, truth)
		if c.all && d < 0.6 || !c.all && d > 0.3 {
			t.Errorf("%s: Dice %.3f of nine objects after a stroke on one; most were to be found: %v", c.name, d, c.all)
		}
	}
}
