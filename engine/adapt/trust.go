package adapt

// Experts are the ways to make an image's first mask that a guard chooses among ([Config.Guard]): the source weights on the image as it is,
// the source weights on its negative, and the weights that have learned.
const (
	AsIs = iota
	Negative
	Taught
	Experts
)

// trustDecay is the memory of the experts' records, trustMargin the Dice by which what was learned must have beaten
// the source: those of [Hindsight].
const trustDecay, trustMargin = 0.7, 0.02

// Trust is the record of the experts in one lineage: how well the first mask of each agreed with what images were left with. The
// zero value knows nothing.
type Trust struct {
	// Negative tells that the network learns from, and answers, the images' negatives: v → 1 − v of intensities from 0 to 1.
	Negative bool
	// Score and Weight are decayed sums over the images left: of Dice coefficients, and of ones.
	Score, Weight [Experts]float64
	// Image names the image under way. Trial is the Dice coefficient of each expert's first mask of it with its present one, once Tried.
	Image string
	Trial [Experts]float64
	Tried bool
	// Learned tells that the weights had learned something when the image was begun: else Trial says nothing of them.
	Learned bool
}

// On is the trust with which work on an image begins: what was tried on the one before is booked.
func (t Trust) On(image string, learned bool) Trust {
	if t.Image == image {
		return t
	}
	t = t.booked()
	t.Image, t.Trial, t.Tried, t.Learned = image, [Experts]float64{}, false, learned
	return t
}

// booked adds the trial to the record.
func (t Trust) booked() Trust {
	if !t.Tried {
		return t
	}
	for e := range Experts {
		if e == Taught && !t.Learned {
			continue
		}
		t.Score[e] = trustDecay*t.Score[e] + t.Trial[e]
		t.Weight[e] = trustDecay*t.Weight[e] + 1
	}
	return t
}

// Of is an expert's record before the image under way. One without any is taken to be half right.
func (t Trust) Of(expert int) float64 {
	if t.Weight[expert] == 0 {
		return 0.5
	}
	return t.Score[expert] / t.Weight[expert]
}

// Best is the expert that makes the first mask of the next image: the source on what the lineage shows it, the image or its negative,
// unless the weights that have learned did better.
func (t Trust) Best() int {
	t = t.booked()
	source := t.Source()
	if t.Weight[Taught] > 0 && t.Of(Taught) > t.Of(source)+trustMargin {
		return Taught
	}
	return source
}

// Source is the expert whose weights are the source and that sees what the lineage shows.
func (t Trust) Source() int {
	if t.Negative {
		return Negative
	}
	return AsIs
}

// Turned is the trust after the lineage has gone over to the images themselves, or to their negatives: the weights begin anew, and so does
// their record.
func (t Trust) Turned() Trust {
	t.Negative = !t.Negative
	t.Score[Taught], t.Weight[Taught], t.Learned = 0, 0, false
	return t
}
