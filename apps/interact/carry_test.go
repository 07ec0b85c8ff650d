package interact

import (
	"slices"
	"testing"

	"scrawl/adapters/morph"
	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
)

// follows takes for the object what is bright, and what is grey unless the previous mask says otherwise: without one it spills into all
// that is grey, as networks do at a first stroke.
func follows(t *testing.T) *Model {
	return model(t, perPixel(-9.7, 20, 20, -30, 0.7), Input{
		Channels: []Channel{ChannelImage, ChannelPositive, ChannelNegative, ChannelPrevious}, Previous: PreviousLogits,
		Grid: 48, Multiple: 1, Range: &[2]float64{0, 1}})
}

const (
	dark  = 0.1
	grey  = 0.5
	light = 0.9
)

// disc is a filled circle on a slice of the scene.
func disc(x, y int, radius float64) morph.Mask {
	return morph.FromPoints(sceneSize[0], sceneSize[1], []morph.Point{{X: x, Y: y}}).Dilate(radius)
}

// paint fills a mask on slices first to last.
func paint(v *volume.Volume, m morph.Mask, first, last int, value float32) {
	for k := first; k <= last; k++ {
		for i, b := range m.Bits {
			if b {
				v.Voxels[k*m.W*m.H+i] = value
			}
		}
	}
}

func darkVolume() *volume.Volume {
	v := volume.NewVolume(volume.New(sceneSize, [3]float64{1, 1, 3}))
	for i := range v.Voxels {
		v.Voxels[i] = dark
	}
	return v
}

// over is a stroke on every pixel of a mask.
func over(slice int, positive bool, m morph.Mask) scribble.Stroke {
	return scribble.Stroke{Axis: 2, Slice: slice, Positive: positive, Pixels: m.Points()}
}

func (u *user) frozen(strokes ...scribble.Stroke) []bool {
	u.t.Helper()
	return u.ask(Request{Strokes: drawn(strokes...), Options: Options{Profile: ProfileFrozen}}).Mask
}

// alike checks slices of an answer. Edges may differ by what resampling between a slice and a network's grid makes of them.
func alike(t *testing.T, what string, mask []bool, want morph.Mask, first, last int) {
	t.Helper()
	for k := first; k <= last; k++ {
		if got := slab(mask, k); overlap(got, want.Bits) < 0.9 {
			t.Errorf("%s: slice %d has %d pixels of the object, want %d; Dice %.3f", what, k, count(got), want.Count(), overlap(got, want.Bits))
		}
	}
}

// TestStruckOutObjectEndsAtItsNeck: a slice on which the user strikes everything out ends the object before it, at its neck if it has one.
func TestStruckOutObjectEndsAtItsNeck(t *testing.T) {
	full, pinched, leak := disc(20, 18, 7), disc(20, 18, 3), disc(24, 18, 9)
	none := morph.New(sceneSize[0], sceneSize[1])
	for _, c := range []struct {
		name  string
		paint func(v *volume.Volume)
		end   int // the first slice without the object
	}{
		{"leak beyond a neck", func(v *volume.Volume) {
			paint(v, full, 1, 4, light)
			paint(v, pinched, 5, 5, light)
			paint(v, leak, 6, 11, light)
		}, 5},
		{"no neck", func(v *volume.Volume) { paint(v, full, 1, 11, light) }, 6},
		{"ended before", func(v *volume.Volume) { paint(v, full, 1, 7, light); paint(v, leak, 9, 11, light) }, 8},
	} {
		v := darkVolume()
		c.paint(v)
		m := bright(t)
		u := &user{t: t, m: m, img: m.Prepare(v)}
		start := stroke(2, 2, true, 18, 17, 24)
		u.frozen(start)
		mask := u.frozen(start, over(10, false, leak.Or(full)))
		alike(t, c.name, mask, full, 1, c.end-1)
		alike(t, c.name, mask, none, c.end, 11)
		// The same from above.
		u = &user{t: t, m: m, img: m.Prepare(upsideDown(v))}
		start.Slice = 9
		mask = u.frozen(start, over(1, false, leak.Or(full)))
		alike(t, c.name+", from above", mask, full, 12-c.end, 10)
		alike(t, c.name+", from above", mask, none, 0, 11-c.end)
	}
}

func upsideDown(v *volume.Volume) *volume.Volume {
	out := volume.NewVolume(v.Geometry)
	area := sceneSize[0] * sceneSize[1]
	for k := range sceneSize[2] {
		copy(out.Voxels[(sceneSize[2]-1-k)*area:], v.Voxels[k*area:(k+1)*area])
	}
	return out
}

// spilled is somebody whose first stroke, on slice 6, has spilled from a disc into the grey beside it, on all slices from 2 to 9.
func spilled(t *testing.T) (u *user, first scribble.Stroke, object, spill morph.Mask) {
	object = disc(16, 18, 6)
	spill = disc(26, 18, 7).AndNot(object.Dilate(2)) // a dark seam between both keeps their edges apart
	v := darkVolume()
	paint(v, spill, 2, 9, grey)
	paint(v, object, 2, 9, light)
	m := follows(t)
	u = &user{t: t, m: m, img: m.Prepare(v)}
	first = stroke(2, 6, true, 18, 13, 20)
	alike(t, "first stroke", u.frozen(first), object.Or(spill), 2, 9)
	return u, first, object, spill
}

// TestCorrectionReachesOlderAnchors: what is struck out on one slice goes on those that the user had answered before, too, and
// from there on; and it comes back when the stroke is erased.
func TestCorrectionReachesOlderAnchors(t *testing.T) {
	u, first, object, spill := spilled(t)
	second := over(3, false, spill)
	alike(t, "corrected", u.frozen(first, second), object, 2, 9)
	if a := u.state.Anchors[SliceKey{Axis: 2, Slice: 6}]; a.Revised == nil || overlap(a.Answer.mask(40, 36).Bits, object.Or(spill).Bits) < 0.9 {
		t.Error("a revision must leave the anchor's own answer as it was")
	}
	alike(t, "erased", u.frozen(first), object.Or(spill), 2, 9)
}

// TestOnlySpillIsRevised: a later stroke that adds something leaves older anchors alone, and so does every stroke those that were drawn
// by hand, or last in the same interaction.
func TestOnlySpillIsRevised(t *testing.T) {
	u, first, object, spill := spilled(t)
	clean := []scribble.Stroke{first, over(6, false, spill)}
	alike(t, "both strokes", u.frozen(clean...), object, 2, 9)
	mask := u.frozen(append(clean, over(3, true, spill))...)
	alike(t, "added elsewhere", mask, object, 6, 9)
	alike(t, "added", mask, object.Or(spill), 3, 3)

	u, first, object, spill = spilled(t)
	edited := slices.Clone(u.state.Answer)
	edited[voxel(2, 2, 6)] = true
	drawnByHand := slices.Clone(slab(edited, 6))
	second := over(3, false, spill)
	mask = u.ask(Request{Strokes: drawn(first, second), Previous: edited, Options: Options{Profile: ProfileFrozen}}).Mask
	if !slices.Equal(slab(mask, 6), drawnByHand) {
		t.Error("a slice that was drawn by hand has changed")
	}
	alike(t, "beside a slice drawn by hand", mask, object, 2, 3)
}

// TestSmallEndSpeaksAgainstNobody: a correction at an object's thin end, from where it is carried as something thin, leaves the thick middle
// as it was answered.
func TestSmallEndSpeaksAgainstNobody(t *testing.T) {
	thin, thick := disc(16, 18, 2.5), disc(16, 18, 8)
	v := darkVolume()
	paint(v, thin, 2, 3, light)
	for k, radius := range []float64{2.5, 3, 3, 3.5} {
		paint(v, disc(16, 18, radius), 4+k, 4+k, light)
	}
	paint(v, thick, 8, 9, grey) // follows what is carried to it
	m := follows(t)
	u := &user{t: t, m: m, img: m.Prepare(v)}
	first := over(8, true, thick)
	alike(t, "middle", u.frozen(first), thick, 8, 8)
	mask := u.frozen(first, over(3, true, thin), stroke(2, 3, false, 26, 10, 20))
	alike(t, "middle, after a stroke at the end", mask, thick, 8, 8)
	if u.state.Anchors[SliceKey{Axis: 2, Slice: 8}].Revised != nil {
		t.Error("the middle was answered again")
	}
}

// TestStrokeBeyondTheEnd: where nothing was carried to, a stroke begins from the object beside it, not from nothing.
func TestStrokeBeyondTheEnd(t *testing.T) {
	object, everything := disc(20, 18, 6), morph.New(sceneSize[0], sceneSize[1]).Not()
	v := darkVolume()
	paint(v, object, 2, 6, light)
	paint(v, everything, 8, 8, grey)
	m := follows(t)
	u := &user{t: t, m: m, img: m.Prepare(v)}
	first := stroke(2, 4, true, 18, 17, 24)
	mask := u.frozen(first)
	alike(t, "before", mask, morph.New(sceneSize[0], sceneSize[1]), 7, 11)
	mask = u.frozen(first, stroke(2, 8, true, 18, 17, 24))
	alike(t, "beyond the end", mask, object, 8, 8)
}

// TestCorrection: the first strokes on a mask correct it, and of an answer that spills only what lies beside them is added.
func TestCorrection(t *testing.T) {
	const w, h = 40, 36
	was, other := disc(12, 18, 8), disc(28, 18, 8)
	slightly, short := was.Or(disc(20, 18, 4)), block(w, h, morph.Rect{X0: 19, Y0: 18, X1: 23, Y1: 19})
	for _, c := range []struct {
		name         string
		answer, want morph.Mask
	}{
		{"a little more", slightly, slightly},
		{"most of it gone", disc(12, 18, 3), disc(12, 18, 3)},
		{"spilled", was.Or(other), was.Or(other.And(short.Dilate(2)))},
		{"elsewhere", other, other.And(short.Dilate(2).Or(was))},
	} {
		p := prompt{positive: short, negative: morph.New(w, h), prior: maskProbability(was)}
		if got := p.correction(maskProbability(c.answer)).mask(w, h); !got.Same(c.want) {
			t.Errorf("%s: %d pixels, want %d; Dice %.3f", c.name, got.Count(), c.want.Count(), overlap(got.Bits, c.want.Bits))
		}
	}
}
