// Package simulate is the annotator that accuracy is measured with. It looks at one slice's current answer and at the truth, and
// draws at most one positive stroke where most is missed and one negative stroke where most is spilled. Strokes see nothing but the
// current error.
//
// Everything random comes from the generator that is handed in, so that two methods can be given the same annotator, and nothing is
// remembered between calls.
package simulate

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"scrawl/adapters/morph"
)

// The time model: what an interaction costs a person besides the server's own time.
const (
	// LookTime is spent on every interaction, to see what is wrong.
	LookTime = 6 * time.Second
	// StrokeTime is spent on every stroke.
	StrokeTime = 3 * time.Second
)

// UserTime is what a number of interactions with a number of strokes in all takes a person.
func UserTime(interactions, strokes int) time.Duration {
	return time.Duration(interactions)*LookTime + time.Duration(strokes)*StrokeTime
}

const (
	// MinRegion is the number of pixels below which an error is left alone.
	MinRegion = 9
	// minLength is how long in pixels a stroke may be in any region.
	minLength = 9
	// wrongSliceShare of a sloppy annotator's strokes land on a neighbouring slice.
	wrongSliceShare = 0.05
)

// Shape is how a stroke runs in its region.
type Shape int

const (
	// CentreLine runs along the region's medial axis.
	CentreLine Shape = iota
	// Line is straight, between two points inside.
	Line
	// Contour follows the region's border half-way in.
	Contour
	// Click is a disc where the region is deepest.
	Click
)

// Options choose the annotator. The zero value is the one of the protocol: centre lines three pixels wide, no carelessness.
type Options struct {
	Shape Shape
	// Thin draws lines one pixel wide instead of three.
	Thin bool
	// Sloppy lets strokes cross the region's border by 2 to 4 pixels, and makes WrongSlice answer.
	Sloppy bool
	// Background draws a negative stroke beside the target where nothing is spilled, as people do at first. It sees where the target
	// ends, so it is no part of the protocol.
	Background bool
}

// Strokes draws one interaction on a slice: a positive stroke in the largest connected region (eight neighbours) that predicted
// misses, a negative one in the largest that it spills. Regions of fewer than MinRegion pixels get an empty mask. A stroke is at most
// three pixels wide and at most max(9 pixels, a tenth of the region's area) long, and stays in the region; a sloppy annotator's has an
// end on top that does not.
func Strokes(rng *rand.Rand, truth, predicted morph.Mask, o Options) (positive, negative morph.Mask) {
	positive = o.stroke(rng, truth.AndNot(predicted))
	negative = o.stroke(rng, predicted.Crop(morph.Rect{X1: truth.W, Y1: truth.H}).AndNot(truth))
	if o.Background && negative.Empty() {
		negative = o.stroke(rng, truth.Dilate(backgroundFar).AndNot(truth.Dilate(backgroundNear)))
	}
	return positive, negative
}

// A background stroke stays this many pixels away from the target, and no farther.
const (
	backgroundNear = 2
	backgroundFar  = 8
)

// WrongSlice is by how many slices the next stroke goes astray: 0, and for 5 % of a sloppy annotator's strokes ±1.
func WrongSlice(rng *rand.Rand, o Options) int {
	if !o.Sloppy || rng.Float64() >= wrongSliceShare {
		return 0
	}
	return 1 - 2*rng.IntN(2)
}

// Slices lists the slices that hold at least minPixels pixels of the target, in order: those that are annotated.
func Slices(truth []morph.Mask, minPixels int) []int {
	var out []int
	for k, m := range truth {
		if m.Count() >= minPixels {
			out = append(out, k)
		}
	}
	return out
}

// WorstSlice is the slice with the most wrong pixels, of equal ones the first, and how many these are. predicted holds as many slices as
// truth. With nothing wrong anywhere it is slice 0 with 0 pixels.
func WorstSlice(truth, predicted []morph.Mask) (slice, wrong int) {
	for k := range truth {
		both := truth[k].And(predicted[k]).Count()
		if n := truth[k].Count() + predicted[k].Count() - 2*both; n > wrong {
			slice, wrong = k, n
		}
	}
	return slice, wrong
}

// stroke draws into the largest region of an error.
func (o Options) stroke(rng *rand.Rand, wrong morph.Mask) morph.Mask {
	out := morph.New(wrong.W, wrong.H)
	region := wrong.Largest(morph.Eight)
	area := region.Count()
	box, ok := region.Bounds()
	if !ok || area < MinRegion {
		return out
	}
	// Only the region's surroundings are worked on, with room for a stroke that leaves it.
	const room = 8
	box = morph.Rect{X0: box.X0 - room, Y0: box.Y0 - room, X1: box.X1 + room, Y1: box.Y1 + room}
	p := pen{rng: rng, region: region.Crop(box), limit: max(minLength, float64(area)/10), radius: 1}
	if o.Thin {
		p.radius = 0
	}
	drawn := p.draw(o)
	for _, at := range drawn.Points() {
		out.Set(box.X0+at.X, box.Y0+at.Y, true)
	}
	return out
}

// Regions are what an annotator without a model corrects next: the largest connected region (eight neighbours) that predicted misses,
// and the largest that it spills. Regions of fewer than MinRegion pixels are left alone and come as empty masks.
func Regions(truth, predicted morph.Mask) (missed, spilled morph.Mask) {
	large := func(wrong morph.Mask) morph.Mask {
		if m := wrong.Largest(morph.Eight); m.Count() >= MinRegion {
			return m
		}
		return morph.New(wrong.W, wrong.H)
	}
	return large(truth.AndNot(predicted)), large(predicted.AndNot(truth))
}

// traceSide is how long a person takes to trace an outline as long as the image's longer side. A liver's outline is about 1.3 times as
// long as an abdominal slice is wide, which makes 39 seconds, and 45 with [LookTime]: what the published tables count for a slice
// annotated by hand (63 minutes for 84 slices of CT, 57 for 70 of MR, 84 for 104).
const traceSide = 30 * time.Second

// OutlineTime is how long a person takes to trace the outlines of a region, holes included, at a speed that depends on how large the
// image is shown: its longer side fills the screen. An empty region takes no time.
func OutlineTime(region morph.Mask) time.Duration {
	var total time.Duration
	for _, e := range Errors(region, 1) {
		total += e.Outline
	}
	return total
}

// Error is a connected region (eight neighbours) that an answer misses or spills.
type Error struct {
	Pixels int
	// Outline is how long it takes to trace; see [OutlineTime].
	Outline time.Duration
}

// Errors lists the connected regions of at least that many pixels, the largest first: those that an annotator without a model puts
// right one after the other, as [Regions] shows them.
func Errors(wrong morph.Mask, pixels int) []Error {
	parts := wrong.Components(morph.Eight)
	edges := make([]int, parts.N()+1)
	for i, l := range parts.Labels {
		if l == 0 {
			continue
		}
		x, y := i%wrong.W, i/wrong.W
		for _, open := range [4]bool{!wrong.At(x-1, y), !wrong.At(x+1, y), !wrong.At(x, y-1), !wrong.At(x, y+1)} {
			if open {
				edges[l]++
			}
		}
	}
	var all []Error
	for l := 1; l <= parts.N(); l++ {
		if parts.Sizes[l] >= pixels {
			// Along the edges of pixels an outline is longer than it is: by 4/π when every direction is as frequent as any other.
			length := float64(edges[l]) * math.Pi / 4
			all = append(all, Error{parts.Sizes[l], time.Duration(length / float64(max(wrong.W, wrong.H, 1)) * float64(traceSide))})
		}
	}
	slices.SortStableFunc(all, func(a, b Error) int { return b.Pixels - a.Pixels })
	return all
}
