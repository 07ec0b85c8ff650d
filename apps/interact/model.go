// Package interact is one interaction on a volume: strokes go in, a label map on the volume's own grid comes out, and the
// network has learned from it. It joins the image side (adapters) and the engine, and knows neither requests nor files.
//
// # What happens
//
// Strokes are flat: each lies in one slice of one of the three planes. The slices with strokes are answered first, each
// from its image, its strokes and the mask it had before, which they correct: where an answer to first strokes spills, what it adds
// counts close to them alone. Where nothing had been carried as far as that, the mask is that of a slice beside it.
//
// From those anchors the object is carried outward slice by slice, every slice taking its neighbour's mask as the previous
// prediction, until the object ends or the next anchor is reached; between two anchors the answers from both sides are blended. What lies
// far from the neighbour's mask, or looks unlike the object on its anchor, is left out on the way. Before an anchor on which the user has
// struck everything out the object ends at its neck, since what was carried there had leaked through it.
//
// Anchors stay as they were answered, with one exception. First strokes often spill, and what was carried from them spilled with
// them. So what a newer anchor carries is brought to the older ones beside it, and where it says that a part of their answer is not the
// object, they are answered again from their own strokes and that mask, and carry the correction on. What was drawn by hand stays, and a
// revision is gone with the stroke that it came from.
//
// A network may be shown how much each pixel looks like the target ([ChannelLikeness]). What the target looks like is learned from slices
// that the user has corrected, or of which little was wrong; an answer to first strokes alone may have spilled, and teaches nothing until
// then.
//
// Clients send all their strokes every time. [Model.Interact] compares them with the last set, so that only slices whose
// strokes changed are answered anew. A slice that the user leaves for another counts as accepted, and is then learned
// from: see [scrawl/engine/adapt].
//
// # State
//
// [State] is what is known of one image, [Learned] what a user has taught the network over all images. Both are values:
// Interact returns new ones and leaves its arguments alone, so keeping an old one is all that undo needs.
package interact

import (
	"context"
	"fmt"
	"math"
	"slices"

	"scrawl/adapters/morph"
	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/apps/recognise"
	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
)

// Channel is what one input channel of a network shows.
type Channel string

// The channels a network may have. Positive and Negative are maps of strokes, 1 under a stroke; Previous is the
// probability of the previous prediction. Points is for decoders that read lists of points: see [Input.PointMap].
const (
	ChannelImage    Channel = "image"
	ChannelPositive Channel = "positive"
	ChannelNegative Channel = "negative"
	ChannelPrevious Channel = "previous"
	ChannelLikeness Channel = "likeness" // how much each pixel looks like the target, −1…1; 0 where nothing is known: see [recognise]
	ChannelPoints   Channel = "points"
	ChannelBox      Channel = "box" // 1 inside the box that the request limits the answer to
)

// Prompts is how strokes are shown to a network.
type Prompts string

// A map is 1 under strokes and 0 elsewhere. A disc is 1 up to Radius pixels from a stroke, as networks trained on clicks see them. A
// distance is tanh(2·d/Radius) of the distance d to the nearest stroke in pixels: 0 under strokes, and 1 everywhere while there are none.
const (
	PromptMap      Prompts = "map"
	PromptDisc     Prompts = "disc"
	PromptDistance Prompts = "distance"
)

// Previous is how the previous prediction is shown to a network.
type Previous string

// Logits are ln(p/(1−p)), bounded to ±10; where nothing was predicted they are 0, which is undecided. A mask is 1 where the object is
// likelier than not.
const (
	PreviousProbability Previous = "probability"
	PreviousLogits      Previous = "logits"
	PreviousMask        Previous = "mask"
)

// Input says how a slice becomes the network's input.
type Input struct {
	Channels []Channel
	// Grid is the side of the square grid, in pixels, that a region of the slice is resampled to; a multiple of Multiple.
	Grid int
	// Multiple is what the network needs height and width to be multiples of.
	Multiple int
	// Percentiles of the volume's intensities that become 0 and 1, unless Range gives the intensities themselves.
	Percentiles [2]float64
	Range       *[2]float64
	// Focus stretches the contrast around the object's own intensity once something is known of the object: the percentile, among the
	// pixels looked at, of the differences to it that are still told apart. 0 leaves the volume's intensities as they are.
	Focus float64
	// Prompts and Radius, in pixels of the grid, are how strokes are shown; "" means as maps.
	Prompts Prompts
	Radius  float64
	// Previous is how the previous prediction is shown; "" means as probabilities.
	Previous Previous
	// Points is how many points the strokes become at most in the channel of points.
	Points int
}

// Conditioned reports whether the network sees strokes itself.
func (in Input) Conditioned() bool { return in.has(ChannelPositive) || in.has(ChannelPoints) }

func (in Input) has(c Channel) bool {
	for _, x := range in.Channels {
		if x == c {
			return true
		}
	}
	return false
}

// ImageChannels are the positions of the channels that show the image.
func (in Input) ImageChannels() []int {
	var at []int
	for i, c := range in.Channels {
		if c == ChannelImage {
			at = append(at, i)
		}
	}
	return at
}

// Validate reports what is wrong with the description.
func (in Input) Validate() error {
	for _, c := range in.Channels {
		switch c {
		case ChannelImage, ChannelPositive, ChannelNegative, ChannelPoints, ChannelPrevious, ChannelLikeness, ChannelBox:
		default:
			return fmt.Errorf("input channel %q is not one of image, positive, negative, points, previous, likeness, box", c)
		}
	}
	switch {
	case !slices.Contains([]Prompts{"", PromptMap, PromptDisc, PromptDistance}, in.Prompts):
		return fmt.Errorf("prompts %q: map, disc or distance is wanted", in.Prompts)
	case (in.Prompts == PromptDisc || in.Prompts == PromptDistance) != (in.Radius > 0):
		return fmt.Errorf("prompts %q with a radius of %g: a radius above 0 belongs to disc and distance", in.Prompts, in.Radius)
	case !slices.Contains([]Previous{"", PreviousProbability, PreviousLogits, PreviousMask}, in.Previous):
		return fmt.Errorf("previous %q: probability, logits or mask is wanted", in.Previous)
	case !in.has(ChannelImage):
		return fmt.Errorf("no input channel shows the image")
	case in.has(ChannelPositive) != in.has(ChannelNegative):
		return fmt.Errorf("positive and negative strokes need a channel each")
	case in.has(ChannelPoints) != (in.Points > 0) || in.Points > maxPoints || in.Points < 0:
		return fmt.Errorf("%d points: a number up to %d belongs to a channel of points, and to no other", in.Points, maxPoints)
	case in.Multiple < 1 || in.Grid < 16 || in.Grid%in.Multiple != 0:
		return fmt.Errorf("grid %d must be at least 16 and a multiple of %d", in.Grid, in.Multiple)
	case in.Range == nil && !(in.Percentiles[0] >= 0 && in.Percentiles[0] < in.Percentiles[1] && in.Percentiles[1] <= 100):
		return fmt.Errorf("percentiles %v: 0 ≤ low < high ≤ 100 is wanted", in.Percentiles)
	case in.Range != nil && in.Range[0] >= in.Range[1]:
		return fmt.Errorf("intensity range %v: low < high is wanted", *in.Range)
	case !(in.Focus >= 0 && in.Focus <= 100):
		return fmt.Errorf("focus %g: a percentile from 0 to 100 is wanted", in.Focus)
	}
	return nil
}

// maxPoints bounds the points that strokes become: a decoder's attention takes time for each.
const maxPoints = 256

// Profile chooses what is learned when.
type Profile string

// ProfileHindsight learns from finished slices and suits networks that see strokes. ProfileThesis is the published method,
// which learns within a slice; for a network that sees only the image it is the interaction itself. ProfileFrozen
// learns nothing.
const (
	ProfileHindsight Profile = "hindsight"
	ProfileThesis    Profile = "thesis"
	ProfileFrozen    Profile = "frozen"
)

// Model is a network that is ready for interaction. It is immutable and safe for concurrent use.
type Model struct {
	Engine    *adapt.Engine
	Input     Input
	Thesis    adapt.Config
	Hindsight adapt.HindsightConfig
	Recognise recognise.Config
	// Thickness widens strokes in the scribble mask of the thesis's method.
	Thickness scribble.Thickness
}

// Image is a volume prepared for a model: the volume and the intensities that become 0 and 1.
type Image struct {
	Volume *volume.Volume
	Low    float64
	High   float64
}

// Prepare measures a volume's intensities.
func (m *Model) Prepare(v *volume.Volume) Image {
	low, high := Contrast(v, m.Input.Percentiles, m.Input.Range)
	return Image{Volume: v, Low: low, High: high}
}

// Contrast is the intensities of a volume that become 0 and 1: those of window, or without one the percentiles. high is above low.
func Contrast(v *volume.Volume, percentiles [2]float64, window *[2]float64) (low, high float64) {
	if window != nil {
		return window[0], window[1]
	}
	p := v.Percentiles(percentiles[0], percentiles[1])
	switch {
	case math.IsNaN(p[0]): // not one voxel is a number
		return 0, 1
	case p[1] <= p[0]:
		return p[0], p[0] + 1
	}
	return p[0], p[1]
}

// Learned is what one user has taught the network. The zero value has learned nothing.
type Learned struct {
	Memory       *adapt.Memory // of hindsight
	Sets         *adapt.Sets   // of the thesis's method
	Interactions uint64
	// Known is what targets of this kind look like, from finished slices; nil when nothing was shown.
	Known *recognise.Knowledge
}

// SliceKey names a slice by its index axis and its number along it.
type SliceKey = scribble.Plane

// Probability is a slice's map of foreground probabilities in steps of 1/255, x fastest. It is what the next prediction of
// the slice and of its neighbours starts from.
type Probability []uint8

// Stage is one answer on the way to a finished slice.
type Stage struct {
	Positive, Negative morph.Mask
	Prior              Probability // nil: nothing was known
}

// Anchor is a slice that the user has worked on.
type Anchor struct {
	Stages []Stage
	Answer Probability
	// Prompted is the network's own answer where Answer also holds what was recognised; nil where both are the same.
	Prompted Probability
	// Revised is the answer once more, where a later correction on another slice contradicts Answer: it is shown in its place. Nil
	// where none does. It is worked out anew whenever the object is carried.
	Revised Probability
	// Turn tells newer anchors from older ones: it grows with every interaction that answers or edits slices.
	Turn int
	// Edited is the mask the user drew by hand over our answer, if any: it stands as it is until strokes are drawn on the slice.
	Edited *morph.Mask
	// Corrected is what the user has changed in our answers by hand: it survives later answers. Nil when there is nothing.
	Corrected *Corrections
	// Accepted tells that the user has moved on from the slice or drawn it by hand; Learned that it has been learned from.
	Accepted, Learned bool
	// Lesson is what the slice shows of the target's look; nil when there is none, or it has become part of [Learned].
	Lesson *recognise.Lesson
	// Look is the same as the network saw it, closely, for networks that are shown how much each pixel looks like the target.
	Look *recognise.Lesson
}

// shown is the answer as the user sees it, unless it was drawn by hand.
func (a Anchor) shown() Probability {
	if a.Revised != nil {
		return a.Revised
	}
	return a.Answer
}

// Corrections are the pixels of a slice that the user added to the object by hand, and those taken from it.
type Corrections struct{ Added, Removed morph.Mask }

// State is what is known of one image. The zero value is an image that nobody has worked on.
type State struct {
	Strokes scribble.Set
	Anchors map[SliceKey]Anchor
	// Carried are the answers of slices without strokes, along the axis they were carried.
	Carried map[SliceKey]Probability
	// Recognised tells that Carried was recognised, not carried from a neighbour.
	Recognised bool
	// Evidence for recognising is what this image's strokes have given of it that [Learned] does not hold yet.
	Evidence recognise.Evidence
	// Answer is the last answer, one bit a voxel, i fastest; nil before the first.
	Answer []bool
	// Box and SliceOnly are those of the last request: they limited what was carried.
	Box       *[2][3]int
	SliceOnly bool
}

// Request is one interaction.
type Request struct {
	// Strokes is the whole current set.
	Strokes scribble.Set
	// Previous is the segment as the client has it, one bit a voxel; nil when it sent none.
	Previous []bool
	// Protected are voxels of other segments, which the answer never claims; nil for none.
	Protected []bool
	// Box limits the answer to voxels Min ≤ v < Max; nil for none.
	Box *[2][3]int
	// Progress is told of each stage as it begins, and of how many of a known number of slices it has done; total is 0 where it is not
	// known. Nil for nobody. It is called from the goroutine that runs the interaction and must return at once.
	Progress func(stage string, done, total int)
	Options
}

// Options are the user's choices.
type Options struct {
	Profile Profile
	// SliceOnly answers the slices with strokes alone; what was carried to others before stays as it is.
	SliceOnly bool
	// LearnLater leaves accepted slices for [Model.Learn], so that the answer need not wait for learning. Otherwise they are learned
	// before the answer.
	LearnLater bool
}

// Result is the answer to an interaction.
type Result struct {
	// Mask is the segment, one bit a voxel, i fastest. It is shared with the new State and must not be changed.
	Mask   []bool
	Report Report
}

// Report tells what an interaction did.
type Report struct {
	Answered []SliceKey // slices whose strokes changed
	Carried  int        // slices answered from a neighbour
	Learned  []SliceKey // slices learned from
	Diverged int        // times that learning was given up, because the weights would have left the finite numbers
	Expert   int        // weight set that made the first masks: 0 source, then averages, student
	Thesis   []adapt.Report
	Lessons  []adapt.LessonReport
	Seconds  map[string]float64 // by stage
}

// Warm runs the network once on an empty slice, so that the first user does not wait for its compilation.
func (m *Model) Warm(ctx context.Context) error {
	g := m.Input.Grid
	_, err := m.Engine.Predict(ctx, m.Engine.Network().Source(), tensor.Zeros[float32](1, len(m.Input.Channels), g, g))
	return err
}
