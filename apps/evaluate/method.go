package evaluate

import (
	"errors"
	"fmt"

	"scrawl/adapters/morph"
	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/apps/segment"
	"scrawl/apps/simulate"
	"scrawl/engine/adapt"
)

// Baseline is the name of the method that the others' differences are from: the model that learns nothing.
const Baseline = "frozen"

// Hand is how an annotator without a model works; "" is with one.
type Hand string

// Manual begins every slice with nothing, Copy with the mask of the slice that was finished last (of a volume, of the nearest
// slice that was worked on), Corrected with the answer that a network with classes gives unasked.
const (
	Manual    Hand = "manual"
	Copy      Hand = "copy"
	Corrected Hand = "corrected"
)

// Method is one row of a comparison.
type Method struct {
	Name string
	// Model answers, learning by Profile. Source are the weights that distances are measured from; nil when they do not matter.
	Model   Segmenter `json:"-"`
	Profile interact.Profile
	Source  adapt.Weights `json:"-"`
	// Classes is set in place of Model for a network with classes; each case's target then is one of them.
	Classes *segment.Model `json:"-"`
	// Hand is set in place of Model for annotation by hand; Corrected wants Classes too.
	Hand Hand `json:",omitempty"`
	// Changes lists the constants in which the method differs from the app's, for the record.
	Changes []string `json:",omitempty"`
}

func (m Method) validate(mode Mode) error {
	switch {
	case m.Name == "":
		return errors.New("a method has no name")
	case m.Hand == Manual || m.Hand == Copy || m.Hand == Corrected:
		if mode == Recorded {
			return fmt.Errorf("method %q: recorded strokes are shown to models alone", m.Name)
		}
		return nil
	case m.Hand != "":
		return fmt.Errorf("method %q by hand %q: %s, %s or %s is wanted", m.Name, m.Hand, Manual, Copy, Corrected)
	}
	switch m.Profile {
	case interact.ProfileFrozen, interact.ProfileHindsight, interact.ProfileThesis:
		return nil
	}
	return fmt.Errorf("method %q with profile %q: frozen, hindsight or thesis is wanted", m.Name, m.Profile)
}

func (m Method) prepare(v *volume.Volume) interact.Image {
	if m.Model == nil { // pictures still want intensities
		low, high := interact.Contrast(v, [2]float64{0.5, 99.5}, nil)
		return interact.Image{Volume: v, Low: low, High: high}
	}
	return m.Model.Prepare(v)
}

// trace puts the largest missed and the largest spilled region of a slice right by hand.
func (r *run) trace(n int) effort {
	now := r.slice(n)
	missed, spilled := simulate.Regions(r.truth[n], now)
	var e effort
	for _, region := range []morph.Mask{missed, spilled} {
		if !region.Empty() {
			e.strokes++
			e.traced += simulate.OutlineTime(region).Seconds()
		}
	}
	if e.strokes > 0 {
		r.touched[n] = true
		r.put(n, now.Or(missed).AndNot(spilled))
	}
	return e
}

// remainder is how long it takes, in seconds, to put right by hand what is wrong on some slices, the worst first, until their Dice
// together reaches each goal; where a goal takes more than the annotator sees, until nothing is left that is large enough.
func (r *run) remainder(slices ...int) [len(Goals)]float64 {
	left := make([]unfinished, len(slices))
	both, sum := 0, 0 // pixels of truth and answer, those of both and of one and the other
	for i, n := range slices {
		truth, now := r.truth[n], r.slice(n)
		missed, spilled := truth.AndNot(now), now.AndNot(truth)
		left[i] = unfinished{missed.Count() + spilled.Count(), simulate.Errors(missed, simulate.MinRegion), simulate.Errors(spilled, simulate.MinRegion)}
		both += truth.And(now).Count()
		sum += truth.Count() + now.Count()
	}
	var spent [len(Goals)]float64
	total := 0.0
	for goal := 0; goal < len(Goals); {
		n := worst(left)
		if n < 0 || 2*float64(both) >= Goals[goal]*float64(sum) {
			spent[goal] = total
			goal++
			continue
		}
		missed, spilled := left[n].next()
		total += (simulate.LookTime + missed.Outline + spilled.Outline).Seconds()
		both += missed.Pixels
		sum += missed.Pixels - spilled.Pixels
	}
	return spent
}

// unfinished is what is left to be done on a slice.
type unfinished struct {
	wrong           int // pixels
	missed, spilled []simulate.Error
}

// next puts right the largest missed and the largest spilled region.
func (u *unfinished) next() (missed, spilled simulate.Error) {
	if len(u.missed) > 0 {
		missed, u.missed = u.missed[0], u.missed[1:]
	}
	if len(u.spilled) > 0 {
		spilled, u.spilled = u.spilled[0], u.spilled[1:]
	}
	u.wrong -= missed.Pixels + spilled.Pixels
	return missed, spilled
}

// worst is the position of the slice with the most wrong pixels of those with anything that an annotator corrects; −1 when there is none.
func worst(left []unfinished) int {
	at := -1
	for i, u := range left {
		if len(u.missed)+len(u.spilled) > 0 && (at < 0 || u.wrong > left[at].wrong) {
			at = i
		}
	}
	return at
}

// copyTo gives the next slice its mask before any work on it.
func (r *run) copyTo(from, to int) {
	if r.method.Hand == Copy {
		r.put(to, r.slice(from))
	}
}

// copyAround gives all slices that nobody has worked on the mask of the nearest that was, of two equally near the earlier.
func (r *run) copyAround() {
	for n := range r.truth {
		if r.touched[n] {
			continue
		}
		for d := 1; d < len(r.truth); d++ {
			if r.touched[n-d] {
				r.put(n, r.slice(n-d))
				break
			}
			if r.touched[n+d] {
				r.put(n, r.slice(n+d))
				break
			}
		}
	}
}

// put writes a slice of the answer.
func (r *run) put(n int, m morph.Mask) {
	g := r.Volume.Geometry
	for y := range m.H {
		for x := range m.W {
			r.mask[g.Index(volume.SliceIndex(r.plane, n, x, y))] = m.Bits[y*m.W+x]
		}
	}
}
