// Package evaluate measures how well methods segment for an annotator, by one protocol, so that any two of its figures can be
// compared.
//
// # The protocol
//
// A case is one target (an organ, say) in one image. The annotator of [scrawl/apps/simulate] sees the truth and the current answer
// and draws, in each interaction, at most one positive and one negative stroke where the answer is most wrong. The model gets all
// strokes drawn so far, every time, as clients of a labelling server send them.
//
//   - [BySlice]: slices that hold enough of the target are annotated one after the other. What counts first is the mask a slice has
//     before any stroke, carried from the previous slice's answer: 0 interactions. Then come up to Interactions interactions, fewer
//     when nothing is left to draw; figures then stay what they were. Moving on to the next slice accepts the one before.
//   - [ByVolume]: every interaction corrects the slice with the most wrong pixels, and the answer for the whole volume counts.
//   - [Recorded]: no annotator is simulated. Strokes that people drew on the image are shown all at once, one person's at a time.
//
// # Methods
//
// A [Method] answers: a model with one way of learning, or, as a row to compare with, an annotator who has no model and outlines by hand what is
// wrong, from nothing or from a copy of the neighbouring slice. In an interaction by hand the largest missed and the largest spilled
// region are put right completely, which costs the time to trace them ([simulate.OutlineTime]); so compare those rows by minutes, not by
// interactions.
//
// # Figures
//
// A [Course] is one run through a case with one method and one seed (or person). Nothing learned is kept from one course to another,
// unless the protocol asks for it ([Protocol.KeepLearned]): then a method learns on through the cases of a set, in their order. Courses
// of different methods with the same seed meet the same annotator, so their differences are paired. Means are over cases, each
// the mean of its courses, and each of those the mean of its slices; intervals are bootstrapped over cases, since slices of
// one case are not independent (percentile intervals: Efron, The Annals of Statistics 7 (1979) 1-26).
//
// Beside Dice, distances and interactions a report gives minutes under the time model of [scrawl/apps/simulate], in which what
// interactions leave over is finished by hand; how much of an answer changes from slice to slice ([Course.Continuity]); what is left of
// earlier cases after a series ([Protocol.Retention]); and, of the methods of the published ablations, their order beside the published one.
package evaluate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/apps/simulate"
	"scrawl/engine/adapt"
)

// Mode is the order in which slices are corrected, or Recorded.
type Mode string

// The modes.
const (
	BySlice  Mode = "slice"
	ByVolume Mode = "volume"
	Recorded Mode = "recorded"
)

// Goals are the Dice coefficients whose number of interactions is counted.
var Goals = [3]float64{0.80, 0.90, 0.95}

// SurfaceTolerance is the distance in mm within which surfaces count as equal in the surface Dice.
const SurfaceTolerance = 2.0

// Case is one target in one image.
type Case struct {
	// Set is the collection the image comes from, "" for none: constants are chosen on the first half of each set and reported on the
	// second. Kind is a part of its set that gets a row of its own, such as a modality; "" for none.
	Set, Kind string
	Image     string
	Target    string
	Volume    *volume.Volume
	// Truth has one bit a voxel of the volume, i fastest.
	Truth []bool
	// Drawn are strokes that people drew, for Recorded.
	Drawn []Drawing
}

// Drawing is all that one person drew on an image.
type Drawing struct {
	Person  string
	Strokes scribble.Set
}

// NewCase makes a case of the voxels that carry a label. Image and label map must lie on one grid and hold the label.
func NewCase(image, target string, v *volume.Volume, m *volume.LabelMap, label uint16) (Case, error) {
	if err := v.SameGrid(m.Geometry); err != nil {
		return Case{}, fmt.Errorf("case %s %s: image and label map must lie on the same grid: %w", image, target, err)
	}
	c := Case{Image: image, Target: target, Volume: v, Truth: make([]bool, len(m.Labels))}
	for i, l := range m.Labels {
		c.Truth[i] = l == label
	}
	if label == 0 || !slices.Contains(c.Truth, true) {
		return Case{}, fmt.Errorf("case %s %s: %w: label %d is background or on no voxel", image, target, ErrNoTarget, label)
	}
	return c, nil
}

// Holds reports whether a slice of the plane that is annotated holds at least that many pixels of the target.
func (c Case) Holds(pixels int) bool {
	return len(simulate.Slices(slicesOf(c.Volume.Geometry, c.Volume.AcquisitionPlane(), c.Truth), pixels)) > 0
}

// ErrNoTarget says that an image does not hold a target.
var ErrNoTarget = errors.New("the target is not in the label map")

// Protocol are the choices of a measurement.
type Protocol struct {
	Mode         Mode
	Interactions int // the most on a slice, or on a volume
	// Every takes each n-th of the slices that hold at least MinPixels pixels of the target, the first included.
	Every     int
	MinPixels int
	Methods   []Method
	Seeds     []uint64
	Annotator simulate.Options
	// LearnOnLeaving tells the model that a slice is finished when the annotator leaves it. Otherwise the model notices, as a
	// server does, when the next slice gets its first stroke, which is too late for that slice's first mask.
	LearnOnLeaving bool
	// KeepLearned hands what a method has learned from a case to the next one of the same set and target.
	KeepLearned bool
	// Retention annotates every case of a set but the last once more in the end, each from what was learned from the whole set, which it adds nothing
	// to: what was known of it must not be forgotten. It goes with KeepLearned.
	Retention bool
	// Pictures is the number of slices of each case that are kept as pictures, with the first seed.
	Pictures int
}

// Validate reports the first choice that makes no sense.
func (p Protocol) Validate() error {
	switch {
	case p.Mode != BySlice && p.Mode != ByVolume && p.Mode != Recorded:
		return fmt.Errorf("mode %q: %s, %s or %s is wanted", p.Mode, BySlice, ByVolume, Recorded)
	case p.Mode == Recorded && p.Interactions != 1:
		return fmt.Errorf("%d interactions: recorded strokes are shown all at once, 1 is wanted", p.Interactions)
	case p.Interactions < 1 || p.Interactions > 1000:
		return fmt.Errorf("%d interactions: 1 to 1000 are wanted", p.Interactions)
	case p.Every < 1:
		return fmt.Errorf("every %d: 1 or more is wanted", p.Every)
	case p.MinPixels < 1:
		return fmt.Errorf("at least %d pixels: 1 or more is wanted", p.MinPixels)
	case len(p.Methods) == 0 || len(p.Seeds) == 0:
		return errors.New("at least one method and one seed are wanted")
	case p.Retention && !p.KeepLearned:
		return errors.New("retention: it is of series that keep what was learned")
	case p.Pictures < 0:
		return fmt.Errorf("%d pictures: 0 or more are wanted", p.Pictures)
	}
	seen := map[string]bool{}
	for _, m := range p.Methods {
		if err := m.validate(p.Mode); err != nil {
			return err
		}
		if seen[m.Name] {
			return fmt.Errorf("method %q is asked for twice", m.Name)
		}
		seen[m.Name] = true
	}
	return nil
}

// Segmenter is what is measured: an [interact.Model], or a stand-in.
type Segmenter interface {
	Prepare(v *volume.Volume) interact.Image
	Interact(ctx context.Context, img interact.Image, req interact.Request, learned interact.Learned, st interact.State) (interact.Result, interact.Learned, interact.State, error)
	Finish(ctx context.Context, img interact.Image, o interact.Options, learned interact.Learned, st interact.State) (interact.Learned, interact.State, interact.Report, error)
}

// Evaluation is a measurement that is ready to run.
type Evaluation struct {
	Protocol
	// Progress is told after every step of a course; nil when nobody listens.
	Progress func(Progress)
}

// Progress says how far a measurement has come.
type Progress struct {
	Done, Total int // steps: slices, or interactions of a volume
	Case        Case
	Method      string
	Seed        uint64
	Person      string
	Dice        float64 // of the step just done
}

// Course is one run through a case.
type Course struct {
	Set, Kind     string
	Image, Target string
	Method        string
	Seed          uint64
	Person        string // who drew, of Recorded
	// Again tells that the case was annotated before, for Retention.
	Again  bool
	Series []Series
	// Later tells that the method had met earlier cases of the set, so that this one's first mask counts as untouched.
	Later bool
	// Slices is the number of slices that hold enough of the target, Holding of those that hold any of it.
	Slices, Holding int
	// OtherSeconds is the machine time besides that of interactions: carrying on to the next slice, learning at the end.
	OtherSeconds float64
	// StageSeconds splits all machine time by [interact.Report]'s stages.
	StageSeconds map[string]float64
	// Touched is the number of slices that got a stroke, Learned how many of them were learned from.
	Touched, Learned int
	// Carried counts slices answered from a neighbour, Adapted those of them answered by other weights than the source.
	Carried, Adapted int
	// Distance is how far the trained weights went: ‖w−source‖ / ‖source‖.
	Distance float64
	// Continuity is the mean Dice of neighbouring slices of the answer, as it is in the end, where both hold enough of the target, and
	// TrueContinuity that of the truth: an answer that jumps from slice to slice has a lower one. NaN of images without such slices.
	Continuity, TrueContinuity float64
	Pictures                   []Picture
}

// Series is the annotation of one slice, or of one volume.
type Series struct {
	Slice    int // -1: a volume
	Position int // 0 for the first slice of the course
	// Points are the figures after 0, 1, … interactions. There are fewer than the protocol allows when nothing was left to draw.
	Points []Point
	// ByHand is the time in seconds that it takes to bring the last answer to each of the Goals by hand.
	ByHand [len(Goals)]float64
}

// Point is one answer measured.
type Point struct {
	Dice float64
	// HD95 is the 95 % Hausdorff distance in mm; where one of the masks is empty, the grid's diagonal.
	HD95        float64
	SurfaceDice float64
	// Untouched is, of a volume, the mean Dice of slices without a stroke that hold enough of the target; NaN if there are none.
	Untouched float64
	// SliceDice is, of a volume, the mean Dice of the slices that hold enough of the target.
	SliceDice float64
	Slice     int // where the strokes were drawn
	Strokes   int
	Seconds   float64 // machine time of the interaction
	Traced    float64 // seconds of tracing outlines by hand
}

// At is the point after k interactions; the last one when the annotator was done before.
func (s Series) At(k int) Point { return s.Points[min(k, len(s.Points)-1)] }

// turn is who draws in a course: a simulated annotator with a seed, or a person's recorded strokes.
type turn struct {
	seed  uint64
	drawn Drawing
}

func (t *task) turns() []turn {
	var all []turn
	if t.Mode == Recorded {
		for _, d := range t.Drawn {
			all = append(all, turn{drawn: d})
		}
		return all
	}
	for _, seed := range t.Seeds {
		all = append(all, turn{seed: seed})
	}
	return all
}

// lineage names what a method has learned from a set by one annotator, for KeepLearned.
type lineage struct {
	set, target, method, person string
	seed                        uint64
}

// Run measures all cases: for each of them, in order, every seed (or person) and every method.
func (e Evaluation) Run(ctx context.Context, cases []Case) ([]Course, error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	for _, m := range e.Methods {
		if m.Model == nil && m.Classes == nil && (m.Hand == "" || m.Hand == Corrected) {
			return nil, fmt.Errorf("method %q has no model, or none that answers unasked", m.Name)
		}
	}
	if len(cases) == 0 {
		return nil, errors.New("nothing to measure: no case is given")
	}
	tasks := make([]*task, len(cases))
	total := 0
	for i, c := range cases {
		t, err := e.task(c)
		if err != nil {
			return nil, err
		}
		tasks[i] = t
		total += t.steps() * len(t.turns()) * len(e.Methods)
	}
	s := &series{Evaluation: &e, total: total, kept: map[lineage]interact.Learned{}}
	if err := s.run(ctx, tasks, false); err != nil {
		return nil, err
	}
	if e.Retention {
		earlier := withoutLast(tasks)
		for _, t := range earlier {
			s.total += t.steps() * len(t.turns()) * len(e.Methods)
		}
		if err := s.run(ctx, earlier, true); err != nil {
			return nil, err
		}
	}
	return s.courses, nil
}

// withoutLast leaves out the last case of each set and target: nothing was learned after it.
func withoutLast(tasks []*task) []*task {
	last := map[lineage]int{}
	for i, t := range tasks {
		last[lineage{set: t.Set, target: t.Target}] = i
	}
	var out []*task
	for i, t := range tasks {
		if last[lineage{set: t.Set, target: t.Target}] != i {
			out = append(out, t)
		}
	}
	return out
}

// series is a measurement under way.
type series struct {
	*Evaluation
	kept        map[lineage]interact.Learned
	courses     []Course
	done, total int
}

// run measures cases in their order, by every seed or person and every method. again tells that they were measured before.
func (s *series) run(ctx context.Context, tasks []*task, again bool) error {
	for _, t := range tasks {
		for i, turn := range t.turns() {
			for _, method := range s.Methods {
				method, err := method.of(t.Target)
				if err != nil {
					return err
				}
				r := t.run(method, turn, i == 0 && !again)
				r.Again = again
				r.step = func(dice float64) {
					s.done++
					if s.Progress != nil {
						s.Progress(Progress{Done: s.done, Total: s.total, Case: t.Case, Method: method.Name, Seed: turn.seed, Person: turn.drawn.Person, Dice: dice})
					}
				}
				of := lineage{t.Set, t.Target, method.Name, turn.drawn.Person, turn.seed}
				if s.KeepLearned {
					r.learned, r.Later = s.kept[of]
				}
				if err := r.course(ctx); err != nil {
					return fmt.Errorf("%s, %s, %s, seed %d %s: %w", t.Image, t.Target, method.Name, turn.seed, turn.drawn.Person, err)
				}
				if !again {
					s.kept[of] = r.learned
				}
				s.courses = append(s.courses, r.Course)
			}
		}
	}
	return nil
}

// distance is ‖w−source‖ / ‖source‖ over all weights together; 0 when either is unknown.
func distance(w, source adapt.Weights) float64 {
	if len(w) != len(source) {
		return 0
	}
	var moved, size float64
	for i := range w {
		a, b := w[i].Float32s(), source[i].Float32s()
		for k := range b {
			d := float64(a[k]) - float64(b[k])
			moved += d * d
			size += float64(b[k]) * float64(b[k])
		}
	}
	if size == 0 {
		return 0
	}
	return math.Sqrt(moved / size)
}
