// Package recognise learns what a target looks like from the few pixels of it that strokes have shown, and finds the rest of it: the other
// nuclei of a field, the rest of a membrane, and both on the next image of a series, before anybody has drawn there.
//
// A network that is prompted by strokes answers what the strokes point at, and nothing else. What it has no need of, the look of the
// target, is what a series has in common. It is learned here by a logistic regression on a bank of filters, fitted anew after
// every interaction to pixels kept of all slices shown so far. That is a convex problem with one answer: no learning rate, no number of
// steps, nothing that drifts, and nothing that is forgotten while its pixels are kept.
//
// # The filters
//
// At each of the scales 1, 2, 4 and 8 pixels: the smoothed intensity, the magnitude of its gradient and the two eigenvalues of its Hessian,
// all normalised by scale (Lindeberg, International Journal of Computer Vision 30 (1998) 79-116); and the intensity itself. They tell
// blobs, ridges and textures apart, whatever way these lie. Features of the network's own encoder (the three finest levels) in their place, or
// beside them, were measured too, and find no more of the target: mean Dice after one object of stained nuclei was marked 0.75 in their place, 0.77
// to 0.85 by ridge beside them, 0.85 with the filters alone; membranes 0.56, 0.66, 0.68. And they cost a run of the network.
//
// # What is believed
//
// Pixels under strokes, and the network's answer near them, are taken as they are. Of the pixels nothing is known of some are taken for background
// at a small weight: most are, and without them whatever lies far from all strokes would be anybody's guess.
//
// # Evidence
//
// Most targets are one object, of which the prompted answer shows all; anything found elsewhere is then wrong. So what is found is
// shown only when the user's strokes have confirmed it: see [Evidence].
//
// # Likeness
//
// A network can be shown, beside the image and the strokes, how much each pixel looks like the target. Trained with such maps it knows what
// they are worth: where looks are all that tells an object from its neighbour they decide, elsewhere they are one sign among others. That
// needs no evidence first, and helps with single objects too, on slices that nobody has drawn on above all. Its regression is fitted to
// [Knowledge].Looks, lessons at the scales at which the network looks.
package recognise

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"scrawl/adapters/morph"
)

// Config holds the constants of the method.
type Config struct {
	// Side is the most pixels that a slice is looked at on along each side; larger ones are shrunk.
	Side int `yaml:"side"`
	// Near is how far, in those pixels, the network's answer is believed around strokes and the objects they touch.
	Near float64 `yaml:"near"`
	// Pixels is how many are kept of each kind from a slice (object, other, and not known), Slices of how many slices: the latest.
	Pixels int `yaml:"pixels"`
	Slices int `yaml:"slices"`
	// Unknown is the weight at which pixels that nothing is known of are taken for background.
	Unknown float64 `yaml:"unknown"`
	// Ridge is the penalty on squared weights of standardised filters, against the mean loss of a pixel.
	Ridge float64 `yaml:"ridge"`
	// Confirmed is the evidence from which on what is found is shown; 0 never shows anything.
	Confirmed float64 `yaml:"confirmed"`
	// Likeness is how much of what pixels look like a network is shown that takes it, from 0, nothing, to 1, as much as it learned with. Real
	// tissues look less alike than synthetic ones.
	Likeness float64 `yaml:"likeness"`
	// Patience is after how many strokes without a confirmation the target is taken to be none to be recognised.
	Patience int `yaml:"patience"`
}

// Default returns the constants found by measurement.
func Default() Config {
	return Config{Side: 512, Near: 8, Pixels: 150, Slices: 24, Unknown: 0.2, Ridge: 0.03, Confirmed: 2, Likeness: 0.4, Patience: 8}
}

// Validate reports the first constant that makes no sense.
func (c Config) Validate() error {
	switch {
	case c.Side < 16 || c.Side > 4096:
		return fmt.Errorf("recognise: side %d: 16…4096 pixels are wanted", c.Side)
	case !(c.Near >= 0 && c.Near <= float64(c.Side)):
		return fmt.Errorf("recognise: near %g: 0 to the side's %d pixels are wanted", c.Near, c.Side)
	case c.Pixels < 1 || c.Pixels > 10000 || c.Slices < 1 || c.Slices > 1000:
		return fmt.Errorf("recognise: %d pixels of %d slices: 1…10000 and 1…1000 are wanted", c.Pixels, c.Slices)
	case !(c.Unknown >= 0 && c.Unknown <= 1):
		return fmt.Errorf("recognise: weight %g of unknown pixels: 0…1 is wanted", c.Unknown)
	case !(c.Likeness >= 0 && c.Likeness <= 1):
		return fmt.Errorf("recognise: likeness %g: 0…1 is wanted", c.Likeness)
	case !(c.Ridge > 0):
		return fmt.Errorf("recognise: ridge %g: above 0 is wanted", c.Ridge)
	case !(c.Confirmed >= 0 && c.Confirmed <= most) || c.Patience < 1:
		return fmt.Errorf("recognise: %g confirmations and a patience of %d: 0…%d and 1 or more are wanted", c.Confirmed, c.Patience, most)
	}
	return nil
}

// Lesson is what is kept of one slice.
type Lesson struct {
	// X holds the filters' answers at each pixel, Y its label 0 or 1, W its weight.
	X [][Filters]float32
	Y []float32
	W []float32
}

// Belief is what is known of each pixel of a slice.
type Belief uint8

// The beliefs. Nothing is learned from a pixel that is Ignored.
const (
	Unknown Belief = iota
	Object
	Other
	Ignored
)

// NewLesson keeps some pixels of a slice: as many of each belief, drawn by seed. beliefs holds one entry a pixel of the picture.
func NewLesson(c Config, p Picture, beliefs []Belief, seed uint64) Lesson {
	var pools [Ignored][]int
	for i, b := range beliefs {
		if b < Ignored {
			pools[b] = append(pools[b], i)
		}
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	var l Lesson
	for b, pool := range pools {
		weight := float32(1)
		if Belief(b) == Unknown {
			weight = float32(c.Unknown)
		}
		for n := range min(c.Pixels, len(pool)) {
			k := n + rng.IntN(len(pool)-n)
			pool[n], pool[k] = pool[k], pool[n]
			y := float32(0)
			if Belief(b) == Object {
				y = 1
			}
			l.X, l.Y, l.W = append(l.X, p.at(pool[n])), append(l.Y, y), append(l.W, weight)
		}
	}
	return l
}

// StrokeBeliefs is what strokes alone say of a slice's pixels.
func StrokeBeliefs(positive, negative morph.Mask) []Belief {
	out := make([]Belief, len(positive.Bits))
	for i := range out {
		switch {
		case positive.Bits[i] && negative.Bits[i]:
			out[i] = Ignored
		case positive.Bits[i]:
			out[i] = Object
		case negative.Bits[i]:
			out[i] = Other
		}
	}
	return out
}

// Under is the lesson as it would be had the picture's intensities been gain·v + offset.
func (l Lesson) Under(gain, offset float32) Lesson {
	l.X = slices.Clone(l.X)
	for n := range l.X {
		for k := range l.X[n] {
			l.X[n][k] *= gain
		}
		for k := range Smoothed {
			l.X[n][intensity(k)] += offset
		}
	}
	return l
}

// Evidence is what strokes have said of what was recognised before they were drawn. People draw where most is wrong. While nothing
// recognised is shown, a stroke can confirm it: where the prompted answer is wrong and what was recognised is right. Once it is shown, a
// stroke can refute it, the more the larger the part it strikes out; and what an annotator leaves alone is right for the most part.
type Evidence struct {
	// Net is confirmations less refutations.
	Net float64
	// Idle counts the strokes since the last confirmation, Confirmed tells whether there was one.
	Idle      int
	Confirmed bool
	// Shown tells whether what is recognised is shown: from Config.Confirmed on, until more than half of that is lost.
	Shown bool
}

// Word is what the strokes of one interaction say.
type Word struct {
	Strokes int
	// Confirmed of the strokes lie where something had been recognised rightly and the prompted answer was wrong.
	Confirmed int
	// Refuted is the area that strokes strike out, as a share of all that was recognised beyond the prompted answer.
	Refuted float64
	// Whole tells that something as large as an object was struck out.
	Whole bool
}

// Bounds of the evidence: a user who turns to something else need not refute all that was confirmed before. A share of refuted is struck out in one
// interaction when what was recognised is no better than chance; leftAlone is what it counts when nothing is.
const (
	most      = 4
	refuted   = 4
	leftAlone = 0.5
)

// Then is the evidence e, gathered on top of before, after another interaction.
func (e Evidence) Then(c Config, before Evidence, w Word) Evidence {
	shown := e.After(before).Shown
	against := min(refuted*w.Refuted, 1)
	if w.Whole {
		against = 1
	}
	switch {
	case w.Confirmed > 0 || shown && against < leftAlone:
		e.Idle, e.Confirmed = 0, true
	default:
		e.Idle += w.Strokes
	}
	e.Net += float64(w.Confirmed) - against
	if shown && against < leftAlone {
		e.Net += leftAlone
	}
	e.Net = min(max(e.Net, -most), most)
	net := e.After(before).Net
	e.Shown = net >= c.Confirmed || shown && net >= c.Confirmed/2
	return e
}

// After is the evidence e gathered on top of what was there before.
func (e Evidence) After(before Evidence) Evidence {
	if e == (Evidence{}) {
		return before
	}
	e.Net = min(max(before.Net+e.Net, -most), most)
	if !e.Confirmed {
		e.Idle, e.Confirmed = before.Idle+e.Idle, before.Confirmed
	}
	return e
}

// Settled is the evidence that a finished slice leaves: what did not suffice to show anything is dropped, since over a series one chance
// hit here and one there would come to the same.
func (e Evidence) Settled() Evidence {
	if !e.Shown {
		e.Net = min(e.Net, 0)
	}
	return e
}

// Knowledge is what a user has shown of a target. The zero value knows nothing. It is a value: its methods return new ones.
type Knowledge struct {
	Lessons  []Lesson // oldest first
	Evidence Evidence
	// Looks are lessons at the scales at which a network looked at slices that is shown how much each pixel looks like the target.
	Looks []Lesson
}

// WithLook is the knowledge after another look.
func (k Knowledge) WithLook(c Config, l Lesson) Knowledge {
	k.Looks = (Knowledge{Lessons: k.Looks}).With(c, l).Lessons
	return k
}

// With is the knowledge after further lessons.
func (k Knowledge) With(c Config, lessons ...Lesson) Knowledge {
	k.Lessons = slices.Concat(k.Lessons, lessons)
	if over := len(k.Lessons) - c.Slices; over > 0 {
		k.Lessons = k.Lessons[over:]
	}
	return k
}

// Shows tells whether what is recognised is shown.
func (k Knowledge) Shows(c Config) bool {
	return c.Confirmed > 0 && k.Evidence.Shown && len(k.Lessons) > 0
}

// Hopeless tells that strokes have confirmed nothing for so long that recognising costs time for nothing.
func (k Knowledge) Hopeless(c Config) bool { return !k.Shows(c) && k.Evidence.Idle >= c.Patience }
