package evaluate

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"scrawl/adapters/scribble"
	"scrawl/apps/interact"
	"scrawl/apps/simulate"
)

// byHand is a protocol of both ways to work by hand.
func byHand() Protocol {
	p := protocol()
	p.Every, p.Methods = 1, []Method{{Name: "manual", Hand: Manual}, {Name: "copy", Hand: Copy}}
	return p
}

// Slices 2 to 5 are the same box of 12×12 pixels, in an image 24 pixels wide.
func TestWorkByHand(t *testing.T) {
	c := block(t)
	all := courses(t, byHand(), nil, c)
	outline := simulate.OutlineTime(sliceOf(c.Volume.Geometry, 2, 3, c.Truth)).Seconds()
	if want := 48 * math.Pi / 4 / 24 * 30; math.Abs(outline-want) > 1e-6 {
		t.Fatalf("tracing 48 pixels of an image 24 wide takes %v s, want %v", outline, want)
	}
	for _, course := range all {
		for _, s := range course.Series {
			copied := course.Method == "copy" && s.Position > 0
			if wanted := map[bool]float64{true: 1, false: 0}[copied]; s.Points[0].Dice != wanted {
				t.Errorf("%s, slice %d: Dice %v before any work, want %v", course.Method, s.Slice, s.Points[0].Dice, wanted)
			}
			if last := s.At(3); last.Dice != 1 || s.ByHand != [3]float64{} || !copied && math.Abs(last.Traced-outline) > 1e-6 {
				t.Errorf("%s, slice %d: %+v with %v s left, want the slice done in %v s", course.Method, s.Slice, last, s.ByHand, outline)
			}
		}
		row := course.row(3)
		slicesTraced := map[string]float64{"manual": 4, "copy": 1}[course.Method]
		if want := slicesTraced * (6 + outline) / 60; math.Abs(row.UserMinutes-want) > 1e-9 || math.Abs(row.MinutesTo[2]-want) > 1e-9 {
			t.Errorf("%s: %v minutes, %v to Dice 0.95; want %v", course.Method, row.UserMinutes, row.MinutesTo[2], want)
		}
	}
}

// In a volume the copies go to the nearest slice that was worked on: once slice 2 is right, so are the next, until a slice
// near them that holds less of the target, or none, was put right too.
func TestCopiesInAVolume(t *testing.T) {
	p := byHand()
	p.Mode, p.Interactions = ByVolume, 8
	for _, course := range courses(t, p, nil, block(t)) {
		var on []int
		for _, pt := range course.Series[0].Points[1:] {
			on = append(on, pt.Slice)
		}
		copied := course.Method == "copy"
		if !copied && !slices.Equal(on, []int{2, 3, 4, 5, 6}) || copied && slices.ContainsFunc(on, func(n int) bool { return n == 3 || n == 4 }) {
			t.Errorf("%s: corrected slices %v", course.Method, on)
		}
		if last := course.Series[0].At(8); last.Dice != 1 || last.SliceDice != 1 {
			t.Errorf("%s: %+v, want all of it right", course.Method, last)
		}
	}
}

// What interactions do not reach is finished by hand.
func TestMinutesToGoals(t *testing.T) {
	c := Course{OtherSeconds: 30, Series: []Series{
		{Points: []Point{{Dice: 0.85}, {Dice: 0.92, Strokes: 2, Seconds: 3}}, ByHand: [3]float64{0, 0, 100}},
		{Points: []Point{{Dice: 0.1}, {Dice: 0.5, Strokes: 1, Seconds: 3}}, ByHand: [3]float64{40, 50, 60}},
	}}
	for goal, want := range []float64{
		30 + 0 + (6 + 3 + 3 + 40),
		30 + (6 + 6 + 3) + (6 + 3 + 3 + 50),
		30 + (6 + 6 + 3 + 100) + (6 + 3 + 3 + 60),
	} {
		if got := c.minutesTo(goal); math.Abs(got-want/60) > 1e-9 {
			t.Errorf("to %v: %v minutes, want %v", Goals[goal], got, want/60)
		}
	}
}

// blockByHand is a course with the block that is about to begin.
func blockByHand(t *testing.T) *run {
	t.Helper()
	e := &Evaluation{Protocol: byHand()}
	of, err := e.task(block(t))
	if err != nil {
		t.Fatal(err)
	}
	return of.run(e.Methods[0], turn{}, false)
}

// By hand the worst slice comes first, and work ends at the goal: with slices 2 to 6 missing whole, slices 2 to 5 of 144 pixels, 6 of
// 60, a Dice of 0.80 takes three of them and 0.95 four.
func TestWhatIsLeftIsDoneByHand(t *testing.T) {
	r := blockByHand(t)
	got := r.remainder(0, 1, 2, 3, 4, 5, 6, 7)
	large := 6 + simulate.OutlineTime(r.truth[2]).Seconds()
	small := 6 + simulate.OutlineTime(r.truth[6]).Seconds()
	// 2·432/(636+432) = 0.81, 2·576/(636+576) = 0.95.
	for goal, want := range [3]float64{3 * large, 4 * large, 4 * large} {
		if math.Abs(got[goal]-want) > 1e-6 {
			t.Errorf("to %v: %v s, want %v", Goals[goal], got[goal], want)
		}
	}
	r.put(2, r.truth[2])
	if again := r.remainder(2, 6); math.Abs(again[2]-small) > 1e-6 || again[0] != 0 {
		t.Errorf("one small slice of two is missing: %v s, want 0 to %v and %v to %v", again, Goals[0], small, Goals[2])
	}
}

func TestRecordedStrokesAreShownAtOnce(t *testing.T) {
	c := block(t)
	p := protocol()
	p.Mode, p.Interactions = Recorded, 1
	for _, person := range []string{"anna", "ben"} {
		c.Drawn = append(c.Drawn, Drawing{Person: person, Strokes: scribble.NewSet(c.Volume.Size,
			scribble.Stroke{Axis: 2, Slice: 2, Positive: true, Pixels: []scribble.Point{{X: 8, Y: 5 + len(c.Drawn)}}},
			scribble.Stroke{Axis: 2, Slice: 2, Pixels: []scribble.Point{{X: 2, Y: 2}}})})
	}
	c.Kind = "boxes"
	other := c
	other.Target, other.Kind = "same box", "crates"
	m := &stripes{c: c, reach: 6}
	all, err := Evaluation{Protocol: p.with(m, nil)}.Run(context.Background(), []Case{c, other})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 4 || len(m.asked) != 4 {
		t.Fatalf("%d courses and %d requests, want one for each case and person", len(all), len(m.asked))
	}
	for i, course := range all {
		person := []string{"anna", "ben"}[i%2]
		if course.Person != person || m.asked[i].Strokes.Key() != c.Drawn[i%2].Strokes.Key() {
			t.Errorf("course %d is %s's, want %s's strokes", i, course.Person, person)
		}
		if s := course.Series[0]; len(s.Points) != 2 || s.Points[1].Strokes != 2 || s.Points[1].Dice < 0.6 {
			t.Errorf("%s: %+v", course.Person, s)
		}
	}
	var names []string
	for _, row := range Summarise(Provenance{}, p, all).Rows {
		names = append(names, row.Name)
	}
	for _, want := range []string{"mean", "first half", "second half", "boxes", "crates", "anna", "ben", "boxes, anna", "crates, ben"} {
		if !slices.Contains(names, want) {
			t.Errorf("no row for %q among %v", want, names)
		}
	}
}

// What was learned goes from case to case within a set, and no farther.
func TestSeriesKeepsWhatWasLearned(t *testing.T) {
	a := block(t)
	a.Set = "one"
	b, other := a, a
	b.Image, other.Set = "block 2", "two"
	for keep, want := range map[bool][]int{false: {0, 0, 0}, true: {0, 1, 2, 0}} { // a later case of the set is first asked for as it is
		p := protocol()
		p.KeepLearned, p.Interactions, p.Every = keep, 1, 100
		m := &stripes{c: a, reach: 2}
		if _, err := (Evaluation{Protocol: p.with(m, nil)}).Run(context.Background(), []Case{a, b, other}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(m.memory, want) {
			t.Errorf("kept %v: cases began with what %v interactions taught, want %v", keep, m.memory, want)
		}
	}
}

// Halves are those of each set.
func TestHalvesOfSets(t *testing.T) {
	rows := []Row{{Name: "a", set: "x"}, {Name: "b", set: "y"}, {Name: "c", set: "y"}, {Name: "d", set: "y"}, {Name: "e", set: "x"}}
	got := map[string]string{}
	for _, g := range groups(rows) {
		for _, r := range g.rows {
			got[g.name] += r.Name
		}
	}
	if got["mean"] != "abcde" || got["first half"] != "abc" || got["second half"] != "ed" {
		t.Errorf("%v", got)
	}
}

func TestFiguresAsSciPyHasThem(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Orders []struct {
			A, B []float64
			Tau  float64
		}
		Savings []struct {
			Now, Before      []float64
			Saved, Low, High float64
		}
	}
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	for i, o := range golden.Orders {
		if got := kendall(o.A, o.B); math.Abs(got-o.Tau) > 1e-12 {
			t.Errorf("order %d: τ = %v, SciPy has %v", i, got, o.Tau)
		}
	}
	for i, s := range golden.Savings {
		got := bootstrapSaving(s.Now, s.Before)
		if math.Abs(got.Mean-s.Saved) > 1e-12 || math.Abs(got.Low-s.Low) > 0.01 || math.Abs(got.High-s.High) > 0.01 {
			t.Errorf("saving %d: %+v, SciPy has %v [%v, %v]", i, got, s.Saved, s.Low, s.High)
		}
	}
	if len(golden.Orders) == 0 || len(golden.Savings) == 0 {
		t.Error("the file holds nothing")
	}
}

// The orders of an ablation stand beside the published ones as soon as two of its methods were measured.
func TestOrdersBesideThePublished(t *testing.T) {
	r := Report{}
	for name, dice := range map[string]float64{"lambda=1.0": 0.7, "lambda=2.0": 0.9, "lambda=3.0": 0.8, "alpha=0.99": 0.9} {
		r.Rows = append(r.Rows, Row{Method: name, Name: "mean", Group: true, Dice: []float64{0, dice}})
	}
	rows, _ := r.orders()
	if len(rows) != 2 || !strings.HasPrefix(rows[0][2], "lambda=2.0 0.936 > lambda=1.0") || rows[1][2] != "lambda=2.0 0.900 > lambda=3.0 0.800 > lambda=1.0 0.700" || rows[1][3] != "+0.33" {
		t.Errorf("%q", rows)
	}
}

// Volumes are held against a quarter of the slices that hold their target.
func TestVolumesBesideAQuarterOfTheirSlices(t *testing.T) {
	r := Report{Protocol: Protocol{Mode: ByVolume, Methods: profiles(interact.ProfileFrozen)}, Rows: []Row{
		{Method: "frozen", Name: "a", Slices: 20, Holding: 24, To: [3]float64{1, 5, 9}, SliceTo: [3]float64{1, 5, 9}},
		{Method: "frozen", Name: "b", Slices: 20, Holding: 24, To: [3]float64{1, 5, 9}, SliceTo: [3]float64{1, 6, 9}},
		{Method: "frozen", Name: "c", Slices: 20, Holding: 24, To: [3]float64{1, 6, 9}, SliceTo: [3]float64{1, 6, 9}},
	}}
	rows, _ := r.volumes()
	var verdicts []string
	for _, row := range rows {
		verdicts = append(verdicts, row[len(row)-1])
	}
	if !slices.Equal(verdicts, []string{"both", "3-D Dice", "no"}) {
		t.Errorf("%v", verdicts)
	}
}

// The earlier cases of a set come again in the end, each from what all of them taught, and add nothing to it.
func TestRetention(t *testing.T) {
	a := block(t)
	a.Set = "one"
	b, c, other := a, a, a
	b.Image, c.Image, other.Set, other.Image = "second", "third", "two", "alone"
	p := protocol()
	p.KeepLearned, p.Retention, p.Interactions, p.Every = true, true, 1, 100
	m := &stripes{c: a, reach: 2}
	all, err := Evaluation{Protocol: p.with(m, nil)}.Run(context.Background(), []Case{a, b, c, other})
	if err != nil {
		t.Fatal(err)
	}
	var again []string
	for _, course := range all {
		if course.Again {
			again = append(again, course.Image)
		}
	}
	if !slices.Equal(again, []string{"block", "second"}) || !slices.Equal(m.memory, []int{0, 1, 2, 3, 4, 0, 5, 5}) {
		t.Errorf("again %v, beginning with what %v interactions taught", again, m.memory)
	}
	for i := range all {
		if all[i].Again && all[i].Image == "second" { // as if it had been forgotten
			all[i].Series[0].Points[1].Dice -= 0.1
		}
	}
	r := Summarise(Provenance{}, p, all)
	if len(casesOf(r.Rows, "frozen")) != 4 || len(r.Retentions) != 1 {
		t.Fatalf("%d cases and %d retentions, want 4 and 1", len(casesOf(r.Rows, "frozen")), len(r.Retentions))
	}
	if got := r.Retentions[0]; got.Lost != 1 || math.Abs(got.Worst-0.1) > 1e-9 || math.Abs(got.Dice[1].Mean+0.05) > 1e-9 || got.Dice[0].Mean != 0 {
		t.Errorf("%+v, want one of two cases with a loss of 0.1", got)
	}
	if rows, _ := r.retained(); len(rows) != 1 || rows[0][len(rows[0])-1] != "1" || rows[0][len(rows[0])-2] != "-10.0" {
		t.Errorf("%q", rows)
	}
	p.KeepLearned = false
	if err := p.Validate(); err == nil {
		t.Error("retention without a series was accepted")
	}
}

// Slices 2 to 5 of the truth are the same; an answer that has but one of each pair jumps.
func TestContinuity(t *testing.T) {
	r := blockByHand(t)
	r.put(2, r.truth[2])
	r.put(3, r.truth[3])
	// Of the pairs 2-3, 3-4 and 4-5 the first is the same, the second has one empty slice and the third, with two, does not count.
	if ours, theirs := r.continuity(); theirs != 1 || math.Abs(ours-0.5) > 1e-9 {
		t.Errorf("%v and %v, want 0.5 and 1", ours, theirs)
	}
}
