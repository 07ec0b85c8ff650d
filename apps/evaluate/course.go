package evaluate

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"scrawl/adapters/measure"
	"scrawl/adapters/morph"
	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/apps/simulate"
)

// task is a case with what all its courses share.
type task struct {
	*Evaluation
	Case
	plane volume.Plane
	truth []morph.Mask // of every slice of the plane
	order []int        // slices with enough of the target
	shown map[int]bool // slices kept as pictures

	enough, holding int // slices that hold enough of the target, and any of it
}

func (e *Evaluation) task(c Case) (*task, error) {
	t := &task{Evaluation: e, Case: c, plane: c.Volume.AcquisitionPlane(), shown: map[int]bool{}}
	t.truth = slicesOf(c.Volume.Geometry, t.plane, c.Truth)
	t.holding = len(simulate.Slices(t.truth, 1))
	enough := simulate.Slices(t.truth, e.MinPixels)
	t.enough = len(enough)
	for i, n := range enough {
		if i%e.Every == 0 {
			t.order = append(t.order, n)
		}
	}
	if e.Mode == Recorded && len(c.Drawn) == 0 {
		return nil, fmt.Errorf("%s, %s: nobody's strokes are recorded", c.Image, c.Target)
	}
	if len(t.order) == 0 {
		return nil, fmt.Errorf("%s, %s: no slice holds %d pixels of the target; ask for fewer", c.Image, c.Target, e.MinPixels)
	}
	pictures := min(e.Pictures, len(t.order))
	for i := range pictures { // from the middle of as many equal parts
		t.shown[t.order[(2*i+1)*len(t.order)/(2*pictures)]] = true
	}
	return t, nil
}

func (t *task) steps() int {
	switch t.Mode {
	case ByVolume:
		return t.Interactions
	case Recorded:
		return 1
	}
	return len(t.order)
}

// run is one course under way.
type run struct {
	*task
	Course
	method   Method
	turn     turn
	img      interact.Image
	pictures bool
	step     func(dice float64)

	strokes scribble.Set // all that was drawn so far
	touched map[int]bool // slices with strokes
	learned interact.Learned
	state   interact.State
	mask    []bool // the last answer
}

func (t *task) run(m Method, by turn, pictures bool) *run {
	return &run{
		task: t, method: m, turn: by, img: m.prepare(t.Volume), pictures: pictures, touched: map[int]bool{},
		Course: Course{Set: t.Set, Kind: t.Kind, Image: t.Image, Target: t.Target, Method: m.Name, Seed: by.seed, Person: by.drawn.Person,
			Slices: t.enough, Holding: t.holding, StageSeconds: map[string]float64{}},
		strokes: scribble.NewSet(t.Volume.Size), mask: make([]bool, len(t.Truth)),
	}
}

func (r *run) course(ctx context.Context) error {
	annotate := r.bySlice
	switch r.Mode {
	case ByVolume:
		annotate = r.byVolume
	case Recorded:
		annotate = r.recorded
	}
	if err := r.beforeStrokes(ctx); err != nil {
		return err
	}
	if err := annotate(ctx); err != nil {
		return err
	}
	if r.method.Hand == "" {
		if err := r.finish(ctx); err != nil { // the annotator submits
			return err
		}
	}
	r.Touched = len(r.touched)
	r.Continuity, r.TrueContinuity = r.continuity()
	switch {
	case r.learned.Memory != nil:
		r.Distance = distance(r.learned.Memory.Sets.Student, r.method.Source)
	case r.learned.Sets != nil:
		r.Distance = distance(r.learned.Sets.Averages[0], r.method.Source)
	}
	return nil
}

// beforeStrokes gets the answer that there is before any stroke, of models that answer unasked.
func (r *run) beforeStrokes(ctx context.Context) error {
	model, ok := r.method.Model.(unasked)
	if !ok || r.method.Hand != "" && r.method.Hand != Corrected {
		return nil
	}
	start := time.Now()
	mask, err := model.Unasked(ctx, r.img, r.learned)
	if err != nil {
		return err
	}
	r.mask = mask
	r.OtherSeconds += time.Since(start).Seconds()
	return nil
}

// bySlice annotates slice after slice.
func (r *run) bySlice(ctx context.Context) error {
	for position, n := range r.order {
		if position > 0 {
			if err := r.moveOn(ctx, r.order[position-1], n); err != nil {
				return err
			}
		}
		if err := r.begin(ctx, position); err != nil {
			return err
		}
		s := Series{Slice: n, Position: position, Points: []Point{r.measureSlice(n)}}
		r.shoot(n, 0)
		for k := 1; k <= r.Interactions; k++ {
			spent, err := r.correct(ctx, n, k, interact.Request{Options: interact.Options{SliceOnly: true}})
			if err != nil {
				return err
			}
			if spent.strokes == 0 {
				break
			}
			s.Points = append(s.Points, spent.on(r.measureSlice(n)))
			if k == 1 {
				r.shoot(n, k)
			}
		}
		r.shoot(n, r.Interactions)
		s.ByHand = r.remainder(n)
		r.Series = append(r.Series, s)
		r.step(s.At(r.Interactions).Dice)
	}
	return nil
}

// begin asks for what the model makes of an untouched image, when it has learned from earlier ones.
func (r *run) begin(ctx context.Context, position int) error {
	if _, answered := r.method.Model.(unasked); answered || position > 0 || r.Again || r.learned == (interact.Learned{}) {
		return nil
	}
	seconds, err := r.ask(ctx, interact.Request{Options: interact.Options{SliceOnly: true}})
	r.OtherSeconds += seconds
	return err
}

// recorded shows the model all that a person drew.
func (r *run) recorded(ctx context.Context) error {
	n := r.order[0]
	s := Series{Slice: n, Points: []Point{r.measureSlice(n)}}
	r.shoot(n, 0)
	r.strokes = r.turn.drawn.Strokes
	for _, p := range r.strokes.Planes() {
		r.touched[p.Slice] = true
	}
	seconds, err := r.ask(ctx, interact.Request{Options: interact.Options{SliceOnly: true}})
	if err != nil {
		return err
	}
	spent := effort{strokes: len(r.strokes.Strokes), seconds: seconds}
	s.Points = append(s.Points, spent.on(r.measureSlice(n)))
	s.ByHand = r.remainder(n)
	r.shoot(n, 1)
	r.Series = append(r.Series, s)
	r.step(s.At(1).Dice)
	return nil
}

// effort is what an interaction took.
type effort struct {
	strokes int
	seconds float64 // of the machine
	traced  float64 // seconds of tracing by hand
}

func (e effort) on(p Point) Point {
	p.Strokes, p.Seconds, p.Traced = e.strokes, e.seconds, e.traced
	return p
}

// correct is one interaction on a slice; with no strokes when nothing is left to be corrected.
func (r *run) correct(ctx context.Context, n, k int, req interact.Request) (effort, error) {
	if r.method.Hand != "" {
		return r.trace(n), nil
	}
	drawn := r.draw(n, k)
	if drawn == 0 {
		return effort{}, nil
	}
	seconds, err := r.ask(ctx, req)
	return effort{strokes: drawn, seconds: seconds}, err
}

// moveOn gets the mask that the next slice has before any stroke: the strokes are sent once more as they are, for an answer that
// is carried on. Only the slices on the way are asked for, which changes nothing but the time.
func (r *run) moveOn(ctx context.Context, from, to int) error {
	if r.method.Hand != "" {
		r.copyTo(from, to)
		return nil
	}
	if r.LearnOnLeaving {
		if err := r.finish(ctx); err != nil {
			return err
		}
	}
	box := [2][3]int{{}, r.Volume.Size}
	box[0][r.plane], box[1][r.plane] = min(from, to), max(from, to)+1
	seconds, err := r.ask(ctx, interact.Request{Box: &box})
	r.OtherSeconds += seconds
	return err
}

// byVolume corrects the worst slice again and again.
func (r *run) byVolume(ctx context.Context) error {
	s := Series{Slice: -1, Points: []Point{r.measureVolume()}}
	for k := 1; k <= r.Interactions; k++ {
		n, spent, err := r.correctWorst(ctx, k)
		if err != nil {
			return err
		}
		if spent.strokes == 0 {
			for ; k <= r.Interactions; k++ {
				r.step(s.At(k).Dice)
			}
			break
		}
		p := spent.on(r.measureVolume())
		p.Slice = n
		s.Points = append(s.Points, p)
		r.step(p.Dice)
	}
	for _, n := range r.order {
		r.shoot(n, r.Interactions)
	}
	all := make([]int, len(r.truth))
	for n := range all {
		all[n] = n
	}
	s.ByHand = r.remainder(all...)
	r.Series = append(r.Series, s)
	return nil
}

// draw adds one interaction on a slice to the strokes and returns how many strokes were drawn.
func (r *run) draw(n, k int) int {
	rng := r.random(n, k)
	positive, negative := simulate.Strokes(rng, r.truth[n], r.slice(n), r.Annotator)
	drawn := 0
	for _, m := range []struct {
		mask     morph.Mask
		positive bool
	}{{positive, true}, {negative, false}} {
		if m.mask.Empty() {
			continue
		}
		at := n + simulate.WrongSlice(rng, r.Annotator)
		stroke := scribble.Stroke{Axis: int(r.plane), Slice: min(max(at, 0), len(r.truth)-1), Positive: m.positive, Pixels: m.mask.Points()}
		r.strokes = r.strokes.Merge(scribble.NewSet(r.Volume.Size, stroke))
		r.touched[stroke.Slice] = true
		drawn++
	}
	return drawn
}

// correctWorst corrects the worst of the slices that there is something to correct on.
func (r *run) correctWorst(ctx context.Context, k int) (slice int, spent effort, err error) {
	left := slicesOf(r.Volume.Geometry, r.plane, r.mask)
	for {
		n, wrong := simulate.WorstSlice(r.truth, left)
		if wrong == 0 {
			return n, effort{}, nil
		}
		spent, err := r.correct(ctx, n, k, interact.Request{})
		if err != nil || spent.strokes > 0 {
			if r.method.Hand == Copy {
				r.copyAround()
			}
			return n, spent, err
		}
		left[n] = r.truth[n]
	}
}

// random is the annotator's generator for one interaction: the same for every method, whatever was drawn before.
func (r *run) random(n, k int) *rand.Rand {
	h := fnv.New64a()
	for _, part := range []string{r.Image, r.Target, strconv.Itoa(n), strconv.Itoa(k)} {
		_, _ = io.WriteString(h, part+"\x00") // a hash takes everything
	}
	return rand.New(rand.NewPCG(r.turn.seed, h.Sum64()))
}

// ask sends the whole set of strokes and returns the machine time.
func (r *run) ask(ctx context.Context, req interact.Request) (float64, error) {
	req.Strokes, req.Profile = r.strokes, r.method.Profile
	start := time.Now()
	res, learned, state, err := r.method.Model.Interact(ctx, r.img, req, r.learned, r.state)
	seconds := time.Since(start).Seconds()
	if err != nil {
		return 0, err
	}
	r.mask, r.learned, r.state = res.Mask, learned, state
	r.Learned += len(res.Report.Learned)
	r.Carried += res.Report.Carried
	if res.Report.Expert != 0 {
		r.Adapted += res.Report.Carried
	}
	for stage, s := range res.Report.Seconds {
		r.StageSeconds[stage] += s
	}
	return seconds, nil
}

// finish tells the model that everything drawn so far is accepted.
func (r *run) finish(ctx context.Context) error {
	start := time.Now()
	learned, state, report, err := r.method.Model.Finish(ctx, r.img, interact.Options{Profile: r.method.Profile}, r.learned, r.state)
	if err != nil {
		return err
	}
	r.learned, r.state = learned, state
	r.Learned += len(report.Learned)
	seconds := time.Since(start).Seconds()
	r.OtherSeconds += seconds
	r.StageSeconds["learn"] += seconds
	return nil
}

// slice is the last answer on a slice.
func (r *run) slice(n int) morph.Mask { return sliceOf(r.Volume.Geometry, r.plane, n, r.mask) }

func (r *run) measureSlice(n int) Point {
	answer, spacing := r.slice(n), r.Volume.SliceSpacing(r.plane)
	p := surfacePoint(measure.BetweenSlices(r.truth[n], answer, spacing), [3]int{answer.W, answer.H, 1}, [3]float64{spacing[0], spacing[1]})
	p.Dice, p.Untouched, p.Slice = measure.Dice(r.truth[n].Bits, answer.Bits), math.NaN(), n
	p.SliceDice = math.NaN()
	return p
}

func (r *run) measureVolume() Point {
	p := surfacePoint(measure.Between(r.Truth, r.mask, r.Volume.Size, r.Volume.Spacing), r.Volume.Size, r.Volume.Spacing)
	p.Dice, p.Slice = measure.Dice(r.Truth, r.mask), -1
	var untouched, all []float64
	for _, n := range r.order {
		d := measure.Dice(r.truth[n].Bits, r.slice(n).Bits)
		all = append(all, d)
		if !r.touched[n] {
			untouched = append(untouched, d)
		}
	}
	p.Untouched, p.SliceDice = mean(untouched), mean(all)
	return p
}

// continuity is the mean Dice of neighbouring slices, of the answer and of the truth. Where neither has an answer there is no continuity.
func (r *run) continuity() (answer, truth float64) {
	if r.method.Hand != "" && r.Mode == BySlice && r.Every > 1 {
		return math.NaN(), math.NaN() // nobody has worked on the slices between
	}
	var ours, theirs []float64
	first, last := 0, len(r.truth)-1
	if r.Mode == BySlice { // nothing is answered beyond
		first, last = r.order[0], r.order[len(r.order)-1]
	}
	for n := first + 1; n <= last; n++ {
		a, b := r.truth[n-1], r.truth[n]
		if a.Count() < r.MinPixels || b.Count() < r.MinPixels {
			continue
		}
		theirs = append(theirs, measure.Dice(a.Bits, b.Bits))
		if x, y := r.slice(n-1), r.slice(n); !x.Empty() || !y.Empty() {
			ours = append(ours, measure.Dice(x.Bits, y.Bits))
		}
	}
	return mean(ours), mean(theirs)
}

// surfacePoint reads the figures about surfaces. A distance to an empty mask is taken to be the grid's diagonal: infinity would
// make every mean infinite.
func surfacePoint(s measure.Surfaces, size [3]int, spacing [3]float64) Point {
	p := Point{HD95: s.Hausdorff95(), SurfaceDice: s.Dice(SurfaceTolerance)}
	if math.IsInf(p.HD95, 1) {
		diagonal := 0.0
		for axis, n := range size {
			d := float64(n) * spacing[axis]
			diagonal += d * d
		}
		p.HD95 = math.Sqrt(diagonal)
	}
	return p
}

func slicesOf(g volume.Geometry, p volume.Plane, bits []bool) []morph.Mask {
	out := make([]morph.Mask, g.Size[p])
	for n := range out {
		out[n] = sliceOf(g, p, n, bits)
	}
	return out
}

// sliceOf copies a slice out of a volume of bits.
func sliceOf(g volume.Geometry, p volume.Plane, n int, bits []bool) morph.Mask {
	w, h := g.SliceSize(p)
	m := morph.New(w, h)
	start := g.Index(volume.SliceIndex(p, n, 0, 0))
	dx, dy := 0, 0
	if w > 1 {
		dx = g.Index(volume.SliceIndex(p, n, 1, 0)) - start
	}
	if h > 1 {
		dy = g.Index(volume.SliceIndex(p, n, 0, 1)) - start
	}
	for y := range h {
		for x := range w {
			m.Bits[y*w+x] = bits[start+y*dy+x*dx]
		}
	}
	return m
}
