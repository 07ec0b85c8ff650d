package interact

import (
	"scrawl/adapters/measure"
	"scrawl/adapters/morph"
	"scrawl/adapters/transform"
	"scrawl/apps/recognise"
)

// familiar is what other slices have shown of the target's look, for a network that is shown it.
type familiar struct {
	config recognise.Config
	known  recognise.Knowledge
	fitted *recognise.Regression // to that alone; nil while it does not suffice
	weight float32
	seed   uint64
	sights *sights
	drawn  map[float64]*recognise.Regression // to that and one set of the slice's own strokes, by how many pixels are one
}

// nowhere is no slice's key.
var nowhere = SliceKey{Axis: -1}

// familiar is what is known of the target's look apart from what one slice has shown; nil where nothing is to be made of it.
func (r *run) familiar(but SliceKey) *familiar {
	if !r.familiarises() {
		return nil
	}
	f := &familiar{config: r.Recognise, seed: lessonSeed(but), sights: &r.sights, drawn: map[float64]*recognise.Regression{}}
	if r.learned.Known != nil {
		f.known.Lessons = r.learned.Known.Looks
	}
	for _, key := range sorted(r.state.Anchors) {
		if l := r.state.Anchors[key].Look; l != nil && key != but {
			f.known = f.known.With(r.Recognise, *l)
		}
	}
	f.weight = float32(r.Recognise.Likeness)
	if len(f.known.Lessons) == 0 {
		f.weight *= onlyStrokes
	}
	if fitted, ok := f.known.Fit(r.Recognise); ok {
		f.fitted = &fitted
	}
	return f
}

// onlyStrokes is how much less the likeness counts while it is by a slice's own strokes alone, which the network sees anyway.
const onlyStrokes = 0.5

// familiarises tells whether the network is shown how much each pixel looks like the target.
func (r *run) familiarises() bool {
	return r.recognises() && r.Input.has(ChannelLikeness) && r.Recognise.Likeness > 0
}

// agreement is the Dice coefficient from which on an answer is what was carried to its slice, put right here and there.
const agreement = 0.8

// settled tells that an answer can be believed beyond its strokes: the user has corrected it, or it is much as it was expected to be. The
// answer to a first stroke may have spilled into all that looks alike, and a user who works elsewhere first has not said otherwise.
func (a Anchor) settled(object morph.Mask) bool {
	return len(a.Stages) > 2 || a.Stages[0].Prior.any() && measure.Dice(a.Stages[0].Prior.mask(object.W, object.H).Bits, object.Bits) >= agreement
}

// show shows how much each pixel of a window looks like the target, −1…1: by the slice's strokes, and by what other slices have shown.
func (f *familiar) show(plane []float32, v view, win transform.Window, positive, negative morph.Mask) {
	if f == nil {
		return
	}
	fitted := f.fitted
	if !positive.Empty() || !negative.Empty() {
		fitted = f.withStrokes(v, pixelStep(win), positive, negative)
	}
	if fitted == nil {
		return
	}
	inside := win.Inside(v.w, v.h)
	for i, p := range fitted.Answer(pictureThrough(v, win)) {
		if inside.Bits[i] {
			plane[i] = f.weight * (2*p - 1)
		}
	}
}

// withStrokes is fitted to what a slice's strokes show, too, where step of its pixels are one. The strokes are the same each time.
func (f *familiar) withStrokes(v view, step float64, positive, negative morph.Mask) *recognise.Regression {
	if fitted, ok := f.drawn[step]; ok {
		return fitted
	}
	s := f.sights.of(v, step, f.config.Side)
	l := recognise.NewLesson(f.config, s.picture, recognise.StrokeBeliefs(s.window.ForwardStroke(positive), s.window.ForwardStroke(negative)), f.seed)
	fitted := f.fitted
	if r, ok := f.known.With(f.config, l).Fit(f.config); ok {
		fitted = &r
	}
	f.drawn[step] = fitted
	return fitted
}

// pixelStep is how many pixels of the slice are one of a window's grid, and 1 where it enlarges.
func pixelStep(win transform.Window) float64 {
	return max(float64(win.Region.W())/float64(win.W), 1)
}

// wholeSight is all of a slice, step of its pixels being one; more where it would have more than side pixels along an edge.
func wholeSight(v view, step float64, side int) sight {
	step = max(step, float64(max(v.w, v.h))/float64(side))
	w, h := max(int(float64(v.w)/step), 1), max(int(float64(v.h)/step), 1)
	win := transform.Window{Region: morph.Rect{X1: v.w, Y1: v.h}, W: w, H: h}
	return sight{v, win, recognise.NewPicture(win.Forward(v.pixels, v.w, v.h, transform.Edge), w, h, 1)}
}

// sights are those of the slice looked at last, by how many of its pixels are one: filtering all of a slice takes long.
type sights struct {
	key    SliceKey
	byStep map[float64]sight
}

func (s *sights) of(v view, step float64, side int) sight {
	if s.byStep == nil || s.key != v.key {
		*s = sights{key: v.key, byStep: map[float64]sight{}}
	}
	seen, ok := s.byStep[step]
	if !ok {
		seen = wholeSight(v, step, side)
		s.byStep[step] = seen
	}
	return seen
}

// pictureThrough is a slice as the filters see it through a window.
func pictureThrough(v view, win transform.Window) recognise.Picture {
	enlarged := float64(win.W) / float64(win.Region.W())
	return recognise.NewPicture(win.Forward(v.pixels, v.w, v.h, transform.Edge), win.W, win.H, max(enlarged, 1))
}

// acquaint keeps what a slice shows of the target's look: the object and what is close to it, or every pixel when all of it is known.
func (r *run) acquaint(v view, a *Anchor, object morph.Mask, all bool) error {
	a.Look = nil
	if !r.familiarises() || !all && !a.settled(object) {
		return nil
	}
	box, known := object.Bounds()
	win, err := r.window(v, box, known)
	if err != nil {
		return err
	}
	step := pixelStep(win)
	believed := morph.New(v.w, v.h).Not()
	if !all {
		believed = object.Dilate(r.Recognise.Near * step).Or(a.Stages[len(a.Stages)-1].Negative)
	}
	s := r.sights.of(v, step, r.Recognise.Side)
	l := recognise.NewLesson(r.Recognise, s.picture, s.beliefs(object, believed, nil), lessonSeed(v.key))
	a.Look = &l
	return nil
}
