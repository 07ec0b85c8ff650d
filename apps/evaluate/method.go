package evaluate

import (
	"errors"
	"fmt"

	"scrawl/adapters/morph"
	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/apps/simulate"
	"scrawl/engine/adapt"
)

// Baseline is the name of the method that the others' differences are from: the model that learns nothing.
const Baseline = "frozen"

// Hand is how an annotator without a model works; "" is with one.
type Hand string

// Manual begins every slice with nothing, Copy with the mask of the slice that was finished last (of a volume, of the nearest
// slice that was worked on).
const (
	Manual Hand = "manual"
	Copy   Hand = "copy"
)

// Method is one row of a comparison.
type Method struct {
	Name string
	// Model answers, learning by Profile. Source are the weights that distances are measured from; nil when they do not matter.
	Model   Segmenter `json:"-"`
	Profile interact.Profile
	Source  adapt.Weights `json:"-"`
	// Hand is set in place of Model for annotation by hand.
	Hand Hand `json:",omitempty"`
	// Changes lists the constants in which the method differs from the app's, for the record.
	Changes []string `json:",omitempty"`
}

func (m Method) validate(mode Mode) error {
	switch {
	case m.Name == "":
		return errors.New("a method has no name")
	case m.Hand == Manual || m.Hand == Copy:
		if mode == Recorded {
			return fmt.Errorf("method %q: recorded strokes are shown to models alone", m.Name)
		}
		return nil
	case m.Hand != "":
		return fmt.Errorf("method %q by hand %q: %s or %s is wanted", m.Name, m.Hand, Manual, Copy)
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
	var truth, now []morph.Mask
	for _, n := range slices {
		truth, now = append(truth, r.truth[n]), append(now, r.slice(n))
	}
	seen := append([]morph.Mask(nil), now...) // without what is too small to be corrected
	var spent [len(Goals)]float64
	total := 0.0
	for goal := 0; goal < len(Goals); {
		n, wrong := simulate.WorstSlice(truth, seen)
		if wrong == 0 || diceOf(truth, now) >= Goals[goal] {
			spent[goal] = total
			goal++
			continue
		}
		missed, spilled := simulate.Regions(truth[n], now[n])
		if missed.Empty() && spilled.Empty() {
			seen[n] = truth[n]
			continue
		}
		total += simulate.LookTime.Seconds() + simulate.OutlineTime(missed).Seconds() + simulate.OutlineTime(spilled).Seconds()
		now[n] = now[n].Or(missed).AndNot(spilled)
		seen[n] = now[n]
	}
	return spent
}

// diceOf is the Dice of some slices together.
func diceOf(a, b []morph.Mask) float64 {
	both, sum := 0, 0
	for n := range a {
		both += a[n].And(b[n]).Count()
		sum += a[n].Count() + b[n].Count()
	}
	if sum == 0 {
		return 1
	}
	return 2 * float64(both) / float64(sum)
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
