package synth

import (
	"scrawl/adapters/morph"
	"scrawl/apps/recognise"
)

// What is known of the target's look. The rest of the examples know nothing, as with a user whose strokes the network is not to learn from.
const (
	shareAcquainted = 0.4  // have seen the target on earlier slices
	shareLooking    = 0.33 // know the look of what strokes have marked here
	shareForeseen   = 0.2  // of those acquainted with all there is of a kind: nothing else is said of it
	shareFinished   = 0.3  // earlier slices of which every pixel is known
)

// acquaintance is what a user has shown of the target's look.
type acquaintance struct {
	known   bool
	config  recognise.Config
	picture recognise.Picture
	ground  recognise.Lesson // of all that nothing is known of, also outside the view
	earlier []recognise.Lesson
	seed    uint64
	gone    bool // earlier slices have shown what this picture has no more of
	marked  int  // stroke pixels that the likeness shows already
}

// acquaint lets the user of some examples have worked on earlier slices, which showed the same target under a light that differed a little and
// in another position, and whose masks were not quite right.
func (s *seat) acquaint(e Example) {
	how := s.pick(shareAcquainted, shareLooking, 1-shareAcquainted-shareLooking)
	if how == 2 {
		return
	}
	n := s.target.W
	s.look = acquaintance{known: true, config: recognise.Default(), picture: recognise.NewPicture(s.image, n, n, s.zoom), seed: s.Uint64(), marked: -1}
	s.look.ground = s.unknown(e)
	if how == 1 {
		return
	}
	if e.Vanished.Bits != nil {
		s.look.gone = true
		return
	}
	if e.Whole && s.chance(shareForeseen) {
		clear(s.plane(channelPositive))
		clear(s.plane(channelNegative))
		clear(s.plane(channelPrevious))
		s.unprompted = true
	}
	for range s.whole(1, 3) {
		s.look.earlier = append(s.look.earlier, s.lesson())
	}
}

// unknown shows the slice that an enlarged view was cut out of, of which nothing is known; or the view.
func (s *seat) unknown(e Example) recognise.Lesson {
	n, picture := s.target.W, s.look.picture
	if e.scene != nil {
		picture = recognise.NewPicture(e.scene, n, n, 1)
	}
	return recognise.NewLesson(s.look.config, picture, make([]recognise.Belief, n*n), s.Uint64())
}

// known makes nothing of the pixels of a view that nothing is known of: the ground stands for them.
func known(beliefs []recognise.Belief) []recognise.Belief {
	for i, b := range beliefs {
		if b == recognise.Unknown {
			beliefs[i] = recognise.Ignored
		}
	}
	return beliefs
}

// lesson is what an earlier slice has shown.
func (s *seat) lesson() recognise.Lesson {
	object := s.target
	if s.chance(0.7) {
		object = morph.Threshold(s.neighbour(s.target, s.zoom), s.target.W, s.target.H, 0.5)
	}
	if object.Empty() {
		object = s.target
	}
	near := object.Dilate(s.look.config.Near * s.zoom)
	beliefs := known(recognise.StrokeBeliefs(object, near.AndNot(object)))
	if s.chance(shareFinished) {
		beliefs = recognise.StrokeBeliefs(object, object.Not())
	}
	l := recognise.NewLesson(s.look.config, s.look.picture, beliefs, s.Uint64())
	return l.Under(float32(1+0.06*s.NormFloat64()), float32(0.03*s.NormFloat64()))
}

// liken shows how much each pixel looks like what is known of the target, by what strokes show now and earlier slices have shown.
func (s *seat) liken() {
	if !s.look.known {
		return
	}
	w, h := s.target.W, s.target.H
	positive, negative := morph.Threshold(s.plane(channelPositive), w, h, 0.5), morph.Threshold(s.plane(channelNegative), w, h, 0.5)
	marked := positive.Count() + negative.Count()
	if marked == s.look.marked {
		return
	}
	s.look.marked = marked
	shown := s.plane(channelLikeness)
	clear(shown)
	if s.look.gone {
		s.nothingAlike(shown)
		return
	}
	var k recognise.Knowledge
	for _, l := range s.look.earlier {
		k = k.With(s.look.config, l, s.look.ground)
	}
	if marked > 0 {
		k = k.With(s.look.config, s.look.ground, recognise.NewLesson(s.look.config, s.look.picture, known(recognise.StrokeBeliefs(positive, negative)), s.look.seed))
	}
	fitted, ok := k.Fit(s.look.config)
	if !ok {
		return
	}
	for i, p := range fitted.Answer(s.look.picture) {
		shown[i] = 2*p - 1
	}
}

// nothingAlike is the likeness in a picture that has no more of the target: low, with a few chance resemblances.
func (s *seat) nothingAlike(shown []float32) {
	s.waves(shown, s.target.W, s.between(0, 0.6))
	floor := float32(s.between(-1, -0.8))
	for i, v := range shown {
		shown[i] = min(floor+max(v, 0), 1)
	}
}
