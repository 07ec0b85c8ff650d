package evaluate

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"scrawl/apps/simulate"
)

// Provenance says where figures come from: enough to produce them again.
type Provenance struct {
	Scrawl    string `json:"scrawl"` // version and commit of the binary
	App       string `json:"app"`
	Model     string `json:"model"` // "" when no method has one
	ModelHash string `json:"model_sha256"`
	Runtime   string `json:"onnx_runtime"`
	Provider  string `json:"provider"`
	Threads   int    `json:"threads"` // per operator; 0: one per core
	Cores     int    `json:"cores"`
	Platform  string `json:"platform"`
	// Images are the volumes' content hashes by name.
	Images map[string]string `json:"images"`
	// Overrides are constants of the app that were changed for this run.
	Overrides []string `json:"overrides,omitempty"`
}

// Report is a finished measurement with what makes it comparable.
type Report struct {
	Provenance  Provenance
	Protocol    Protocol
	Courses     []Course
	Rows        []Row
	Differences []Difference
	Retentions  []Retention
}

// Row sums up one method over some cases.
type Row struct {
	Method string
	// Name is the case, or with Group the group of cases that the row is the mean of.
	Name  string
	Group bool
	Cases int
	// Dice, HD95 (mm) and SurfaceDice after 0, 1, … interactions.
	Dice, HD95, SurfaceDice []float64
	// To are the mean interactions to each of the Goals; a series that never gets there counts as one more than allowed.
	To [len(Goals)]float64
	// MinutesTo are the minutes a case takes until every series has reached a goal, what never gets there by interactions being put
	// right by hand.
	MinutesTo [len(Goals)]float64
	// Slices is the number of slices that hold enough of the target, Holding of those that hold any of it, and SliceTo, of
	// volumes, the interactions until their mean Dice reaches a goal.
	Slices, Holding float64
	SliceTo         [len(Goals)]float64
	// Untouched is the mean Dice before any stroke, from the second slice on; of volumes, that of slices without strokes.
	Untouched float64
	// Median and P95 are machine seconds of one interaction.
	Median, P95 float64
	// UserMinutes is a person's time by the time model for a case, MachineMinutes the machine's.
	UserMinutes, MachineMinutes float64
	// LearnedShare is the share of touched slices that were learned from, AdaptedShare the share of carried slices answered
	// by other weights than the source, Distance how far the trained weights went.
	LearnedShare, AdaptedShare, Distance float64
	// Continuity is that of the answer, TrueContinuity that of the truth.
	Continuity, TrueContinuity float64

	set, kind string
}

// Difference is a method less the [Baseline], paired by case and seed.
type Difference struct {
	Method string
	Name   string
	// Dice holds the difference of Dice after 0, 1, … interactions.
	Dice      []Interval
	Untouched Interval
	// Saved are the shares of the baseline's interactions to each goal that the method does without, SavedMinutes those of its minutes.
	Saved, SavedMinutes [len(Goals)]Interval
}

// Retention is how a method did on the earlier cases of its sets once it had learned from all of them, less how it did at the time.
type Retention struct {
	Method string
	// Dice is the difference after 0, 1, … interactions, Untouched that on untouched slices.
	Dice      []Interval
	Untouched Interval
	// Worst is the largest loss of a case, over all numbers of interactions, and Lost the number of cases that lost more than a Dice point.
	Worst float64
	Lost  int
}

// lossAllowed is the Dice that a case may lose by what was learned after it.
const lossAllowed = 0.01

// retentions compare the courses of cases that were annotated again with the first ones.
func retentions(courses []Course, methods []Method, limit int) []Retention {
	again := func(c Course) bool { return c.Again }
	first := func(c Course) bool { return !c.Again }
	var all []Retention
	for _, m := range methods {
		later := caseRows(chosen(courses, again), m.Name, limit)
		if len(later) == 0 {
			continue
		}
		earlier := chosen(caseRows(chosen(courses, first), m.Name, limit), func(r Row) bool {
			return slices.ContainsFunc(later, func(l Row) bool { return l.Name == r.Name })
		})
		all = append(all, retention(m.Name, earlier, later))
	}
	return all
}

func retention(method string, earlier, later []Row) Retention {
	r := Retention{Method: method}
	paired := func(figure func(Row) float64) Interval {
		d := make([]float64, len(later))
		for i := range d {
			d[i] = figure(later[i]) - figure(earlier[i])
		}
		return bootstrap(d)
	}
	for k := range later[0].Dice {
		r.Dice = append(r.Dice, paired(func(row Row) float64 { return row.Dice[k] }))
	}
	r.Untouched = paired(func(row Row) float64 { return row.Untouched })
	for i := range later {
		lost := 0.0
		for k, d := range later[i].Dice {
			lost = max(lost, earlier[i].Dice[k]-d)
		}
		if r.Worst = max(r.Worst, lost); lost > lossAllowed {
			r.Lost++
		}
	}
	return r
}

// Summarise fills a report's rows and differences from its courses.
func Summarise(p Provenance, protocol Protocol, courses []Course) Report {
	r := Report{Provenance: p, Protocol: protocol, Courses: courses, Retentions: retentions(courses, protocol.Methods, protocol.Interactions)}
	courses = chosen(courses, func(c Course) bool { return !c.Again })
	for _, m := range protocol.Methods {
		rows := caseRows(courses, m.Name, protocol.Interactions)
		r.Rows = append(r.Rows, rows...)
		means := append(groups(rows), partsOf(courses, rows, m.Name, protocol.Interactions)...)
		if protocol.KeepLearned {
			means = append(means, thirds(rows)...)
		}
		for _, g := range means {
			r.Rows = append(r.Rows, g.mean(m.Name))
		}
	}
	for _, m := range protocol.Methods {
		if m.Name != Baseline && len(casesOf(r.Rows, Baseline)) > 0 {
			r.Differences = append(r.Differences, differences(r.Rows, m.Name)...)
		}
	}
	return r
}

// caseRows makes one row a case, each the mean over its seeds or persons, in the order of names.
func caseRows(courses []Course, method string, limit int) []Row {
	byCase := map[string][]Course{}
	for _, c := range courses {
		if c.Method == method {
			byCase[c.Name()] = append(byCase[c.Name()], c)
		}
	}
	var rows []Row
	for name, of := range byCase {
		each := make([]Row, len(of))
		for i, c := range of {
			each[i] = c.row(limit)
		}
		row := meanRow(each)
		row.Method, row.Name, row.Cases, row.set, row.kind = method, name, 1, of[0].Set, of[0].Kind
		row.Median, row.P95 = quantile(seconds(of), 0.5), quantile(seconds(of), 0.95)
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(a.Name, b.Name) })
	return rows
}

// Name is that of the course's case.
func (c Course) Name() string { return c.Image + " " + c.Target }

func seconds(courses []Course) []float64 {
	var out []float64
	for _, c := range courses {
		for _, s := range c.Series {
			for _, p := range s.Points[1:] {
				out = append(out, p.Seconds)
			}
		}
	}
	return out
}

// row sums up one course.
func (c Course) row(limit int) Row {
	var r Row
	for k := range limit + 1 {
		var dice, hd, surface []float64
		for _, s := range c.Series {
			p := s.At(k)
			dice, hd, surface = append(dice, p.Dice), append(hd, p.HD95), append(surface, p.SurfaceDice)
		}
		r.Dice, r.HD95, r.SurfaceDice = append(r.Dice, mean(dice)), append(r.HD95, mean(hd)), append(r.SurfaceDice, mean(surface))
	}
	for i, goal := range Goals {
		var to []float64
		for _, s := range c.Series {
			to = append(to, float64(interactionsTo(s, goal, limit)))
		}
		r.To[i] = mean(to)
		r.MinutesTo[i] = c.minutesTo(i)
		r.SliceTo[i] = c.sliceTo(goal, limit)
	}
	r.Slices, r.Holding = float64(c.Slices), float64(c.Holding)
	r.Untouched = c.untouched()
	r.UserMinutes, r.MachineMinutes = c.minutes()
	if c.Touched > 0 {
		r.LearnedShare = float64(c.Learned) / float64(c.Touched)
	}
	if c.Carried > 0 {
		r.AdaptedShare = float64(c.Adapted) / float64(c.Carried)
	}
	r.Distance, r.Continuity, r.TrueContinuity = c.Distance, c.Continuity, c.TrueContinuity
	return r
}

func (c Course) untouched() float64 {
	var dice []float64
	for _, s := range c.Series {
		switch {
		case s.Slice < 0:
			for _, p := range s.Points[1:] {
				dice = append(dice, p.Untouched)
			}
		case s.Position > 0 || c.Later:
			dice = append(dice, s.Points[0].Dice)
		}
	}
	return mean(dice)
}

// sliceTo is after how many interactions on a volume the mean Dice of its slices reaches a goal; NaN of slices.
func (c Course) sliceTo(goal float64, limit int) float64 {
	s := c.Series[0]
	if s.Slice >= 0 {
		return math.NaN()
	}
	for k, p := range s.Points {
		if p.SliceDice >= goal {
			return float64(k)
		}
	}
	return float64(limit + 1)
}

// minutes is what the course took a person, waiting for answers included, and what part of it the machine took.
func (c Course) minutes() (user, machine float64) {
	user, machine = c.OtherSeconds, c.OtherSeconds
	for _, s := range c.Series {
		for _, p := range s.Points[1:] {
			user += p.userSeconds()
			machine += p.Seconds
		}
	}
	return user / 60, machine / 60
}

// minutesTo is what it takes a person until every series of the course has reached one of the Goals.
func (c Course) minutesTo(at int) float64 {
	goal, user := Goals[at], c.OtherSeconds
	for _, s := range c.Series {
		reached := s.Points[0].Dice >= goal
		for _, p := range s.Points[1:] {
			if reached {
				break
			}
			user += p.userSeconds()
			reached = p.Dice >= goal
		}
		if !reached {
			user += s.ByHand[at]
		}
	}
	return user / 60
}

// userSeconds is what an interaction takes a person by the time model, with the wait for the answer.
func (p Point) userSeconds() float64 {
	if p.Traced > 0 {
		return simulate.LookTime.Seconds() + p.Traced
	}
	return simulate.UserTime(1, p.Strokes).Seconds() + p.Seconds
}

// group is some cases whose mean is a row.
type group struct {
	name string
	rows []Row
}

// groups are all cases, and both halves of each set in the order of names: constants are chosen on the first and reported on the second.
func groups(rows []Row) []group {
	all := []group{{"mean", rows}}
	first, second := ofEachSet(rows, func(n int) (int, int) { return (n + 1) / 2, (n + 1) / 2 })
	if len(second) > 0 {
		all = append(all, group{"first half", first}, group{"second half", second})
	}
	return all
}

// thirds are the first and the last cases of each series: whether later ones need less is what keeping what was learned is for. Series are
// in the order of names, as sets are read.
func thirds(rows []Row) []group {
	first, last := ofEachSet(rows, func(n int) (int, int) { return n / 3, n - n/3 })
	if len(first) == 0 {
		return nil
	}
	return []group{{"first third", first}, {"last third", last}}
}

// ofEachSet takes of each set, in the order of names, the cases before one place and those from another on.
func ofEachSet(rows []Row, cut func(n int) (before, from int)) (first, last []Row) {
	bySet := map[string][]Row{}
	for _, r := range rows {
		bySet[r.set] = append(bySet[r.set], r)
	}
	for _, set := range slices.Sorted(maps.Keys(bySet)) {
		before, from := cut(len(bySet[set]))
		first, last = append(first, bySet[set][:before]...), append(last, bySet[set][from:]...)
	}
	return first, last
}

// partsOf are the cases of each set and of each kind where there are several of them, and, of recorded strokes, those of each person,
// in all kinds together and in each.
func partsOf(courses []Course, rows []Row, method string, limit int) []group {
	var all []group
	part := func(name string, rows []Row) {
		if len(rows) > 0 {
			all = append(all, group{name, rows})
		}
	}
	persons := distinct(courses, func(c Course) string { return c.Person })
	sets, kinds := distinct(rows, func(r Row) string { return r.set }), distinct(rows, func(r Row) string { return r.kind })
	if len(sets) > 1 {
		for _, set := range sets {
			part(set, chosen(rows, func(r Row) bool { return r.set == set }))
		}
	}
	if len(kinds) > 1 {
		for _, kind := range kinds {
			part(kind, chosen(rows, func(r Row) bool { return r.kind == kind }))
		}
	}
	for _, person := range persons {
		theirs := caseRows(chosen(courses, func(c Course) bool { return c.Person == person }), method, limit)
		part(person, theirs)
		if len(kinds) > 1 {
			for _, kind := range kinds {
				part(kind+", "+person, chosen(theirs, func(r Row) bool { return r.kind == kind }))
			}
		}
	}
	return all
}

// distinct lists the names that occur, in order, without "".
func distinct[T any](all []T, name func(T) string) []string {
	seen := map[string]bool{}
	for _, v := range all {
		if n := name(v); n != "" {
			seen[n] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

func chosen[T any](all []T, keep func(T) bool) []T {
	var out []T
	for _, v := range all {
		if keep(v) {
			out = append(out, v)
		}
	}
	return out
}

func (g group) mean(method string) Row {
	r := meanRow(g.rows)
	r.Method, r.Name, r.Group, r.Cases = method, g.name, true, len(g.rows)
	return r
}

// meanRow is the mean of every figure.
func meanRow(rows []Row) Row {
	of := func(figure func(Row) float64) float64 {
		values := make([]float64, len(rows))
		for i, r := range rows {
			values[i] = figure(r)
		}
		return mean(values)
	}
	var m Row
	for k := range rows[0].Dice {
		m.Dice = append(m.Dice, of(func(r Row) float64 { return r.Dice[k] }))
		m.HD95 = append(m.HD95, of(func(r Row) float64 { return r.HD95[k] }))
		m.SurfaceDice = append(m.SurfaceDice, of(func(r Row) float64 { return r.SurfaceDice[k] }))
	}
	for i := range Goals {
		m.To[i] = of(func(r Row) float64 { return r.To[i] })
		m.MinutesTo[i] = of(func(r Row) float64 { return r.MinutesTo[i] })
		m.SliceTo[i] = of(func(r Row) float64 { return r.SliceTo[i] })
	}
	m.Slices, m.Holding = of(func(r Row) float64 { return r.Slices }), of(func(r Row) float64 { return r.Holding })
	m.Untouched = of(func(r Row) float64 { return r.Untouched })
	m.Median, m.P95 = of(func(r Row) float64 { return r.Median }), of(func(r Row) float64 { return r.P95 })
	m.UserMinutes, m.MachineMinutes = of(func(r Row) float64 { return r.UserMinutes }), of(func(r Row) float64 { return r.MachineMinutes })
	m.LearnedShare, m.AdaptedShare = of(func(r Row) float64 { return r.LearnedShare }), of(func(r Row) float64 { return r.AdaptedShare })
	m.Distance = of(func(r Row) float64 { return r.Distance })
	m.Continuity, m.TrueContinuity = of(func(r Row) float64 { return r.Continuity }), of(func(r Row) float64 { return r.TrueContinuity })
	return m
}

// differences compares a method with the baseline over all cases, and over both halves.
func differences(rows []Row, method string) []Difference {
	frozen, adapted := casesOf(rows, Baseline), casesOf(rows, method)
	var out []Difference
	for i, g := range groups(adapted) {
		base := groups(frozen)[i].rows
		of := func(rows []Row, figure func(Row) float64) []float64 {
			values := make([]float64, len(rows))
			for k := range rows {
				values[k] = figure(rows[k])
			}
			return values
		}
		paired := func(figure func(Row) float64) Interval {
			d, before := of(g.rows, figure), of(base, figure)
			for k := range d {
				d[k] -= before[k]
			}
			return bootstrap(d)
		}
		saved := func(figure func(Row) float64) Interval { return bootstrapSaving(of(g.rows, figure), of(base, figure)) }
		d := Difference{Method: method, Name: g.name, Untouched: paired(func(r Row) float64 { return r.Untouched })}
		for k := range g.rows[0].Dice {
			d.Dice = append(d.Dice, paired(func(r Row) float64 { return r.Dice[k] }))
		}
		for k := range Goals {
			d.Saved[k] = saved(func(r Row) float64 { return r.To[k] })
			d.SavedMinutes[k] = saved(func(r Row) float64 { return r.MinutesTo[k] })
		}
		out = append(out, d)
	}
	return out
}

// casesOf are a method's rows that stand for one case each. Every method has the same cases, in the same order.
func casesOf(rows []Row, method string) []Row {
	return chosen(rows, func(r Row) bool { return r.Method == method && !r.Group })
}
