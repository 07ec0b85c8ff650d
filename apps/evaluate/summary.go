package evaluate

import (
	"cmp"
	"slices"

	"scrawl/apps/interact"
	"scrawl/apps/simulate"
)

// Provenance says where figures come from: enough to produce them again.
type Provenance struct {
	Scrawl    string `json:"scrawl"` // version and commit of the binary
	App       string `json:"app"`
	Model     string `json:"model"`
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
}

// Row sums up one profile over some cases.
type Row struct {
	Profile interact.Profile
	// Name is the case, or with Group the group of cases that the row is the mean of.
	Name  string
	Group bool
	Cases int
	// Dice, HD95 (mm) and SurfaceDice after 0, 1, … interactions.
	Dice, HD95, SurfaceDice []float64
	// To are the mean interactions to each of the Goals; a series that never gets there counts as one more than allowed.
	To [len(Goals)]float64
	// Untouched is the mean Dice before any stroke, from the second slice on; of volumes, that of slices without strokes.
	Untouched float64
	// Median and P95 are machine seconds of one interaction.
	Median, P95 float64
	// UserMinutes is a person's time by the time model for a case, MachineMinutes the machine's.
	UserMinutes, MachineMinutes float64
	// LearnedShare is the share of touched slices that were learned from, AdaptedShare the share of carried slices answered
	// by other weights than the source, Distance how far the trained weights went.
	LearnedShare, AdaptedShare, Distance float64
}

// Difference is a profile less the frozen network, paired by case and seed.
type Difference struct {
	Profile interact.Profile
	Name    string
	// Dice holds the difference of Dice after 0, 1, … interactions.
	Dice      []Interval
	Untouched Interval
}

// Summarise fills a report's rows and differences from its courses.
func Summarise(p Provenance, protocol Protocol, courses []Course) Report {
	r := Report{Provenance: p, Protocol: protocol, Courses: courses}
	for _, profile := range protocol.Profiles {
		rows := caseRows(courses, profile, protocol.Interactions)
		r.Rows = append(r.Rows, rows...)
		for _, g := range groups(rows) {
			r.Rows = append(r.Rows, g.mean(profile))
		}
	}
	if slices.Contains(protocol.Profiles, interact.ProfileFrozen) {
		for _, profile := range protocol.Profiles {
			if profile != interact.ProfileFrozen {
				r.Differences = append(r.Differences, differences(r.Rows, profile)...)
			}
		}
	}
	return r
}

// caseRows makes one row a case, each the mean over its seeds, in the order of names.
func caseRows(courses []Course, profile interact.Profile, limit int) []Row {
	byCase := map[string][]Course{}
	for _, c := range courses {
		if c.Profile == profile {
			byCase[c.Name()] = append(byCase[c.Name()], c)
		}
	}
	var rows []Row
	for name, of := range byCase {
		perSeed := make([]Row, len(of))
		for i, c := range of {
			perSeed[i] = c.row(limit)
		}
		row := meanRow(perSeed)
		row.Profile, row.Name, row.Cases = profile, name, 1
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
	}
	r.Untouched = c.untouched()
	r.UserMinutes, r.MachineMinutes = c.minutes()
	if c.Touched > 0 {
		r.LearnedShare = float64(c.Learned) / float64(c.Touched)
	}
	if c.Carried > 0 {
		r.AdaptedShare = float64(c.Adapted) / float64(c.Carried)
	}
	r.Distance = c.Distance
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
		case s.Position > 0:
			dice = append(dice, s.Points[0].Dice)
		}
	}
	return mean(dice)
}

// minutes is what the course took a person, waiting for answers included, and what part of it the machine took.
func (c Course) minutes() (user, machine float64) {
	wait := c.OtherSeconds
	interactions, strokes := 0, 0
	for _, s := range c.Series {
		for _, p := range s.Points[1:] {
			interactions++
			strokes += p.Strokes
			wait += p.Seconds
		}
	}
	return simulate.UserTime(interactions, strokes).Minutes() + wait/60, wait / 60
}

// group is some cases whose mean is a row.
type group struct {
	name string
	rows []Row
}

// groups are all cases, and both halves of them in the order of names: constants are chosen on the first and reported on the second.
func groups(rows []Row) []group {
	all := []group{{"mean", rows}}
	if n := len(rows); n >= 2 {
		all = append(all, group{"first half", rows[:(n+1)/2]}, group{"second half", rows[(n+1)/2:]})
	}
	return all
}

func (g group) mean(profile interact.Profile) Row {
	r := meanRow(g.rows)
	r.Profile, r.Name, r.Group, r.Cases = profile, g.name, true, len(g.rows)
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
	}
	m.Untouched = of(func(r Row) float64 { return r.Untouched })
	m.Median, m.P95 = of(func(r Row) float64 { return r.Median }), of(func(r Row) float64 { return r.P95 })
	m.UserMinutes, m.MachineMinutes = of(func(r Row) float64 { return r.UserMinutes }), of(func(r Row) float64 { return r.MachineMinutes })
	m.LearnedShare, m.AdaptedShare = of(func(r Row) float64 { return r.LearnedShare }), of(func(r Row) float64 { return r.AdaptedShare })
	m.Distance = of(func(r Row) float64 { return r.Distance })
	return m
}

// differences compares a profile with the frozen network over all cases, and over both halves.
func differences(rows []Row, profile interact.Profile) []Difference {
	frozen, adapted := casesOf(rows, interact.ProfileFrozen), casesOf(rows, profile)
	var out []Difference
	for i, g := range groups(adapted) {
		base := groups(frozen)[i].rows
		paired := func(figure func(Row) float64) Interval {
			d := make([]float64, len(g.rows))
			for k := range d {
				d[k] = figure(g.rows[k]) - figure(base[k])
			}
			return bootstrap(d)
		}
		d := Difference{Profile: profile, Name: g.name, Untouched: paired(func(r Row) float64 { return r.Untouched })}
		for k := range g.rows[0].Dice {
			d.Dice = append(d.Dice, paired(func(r Row) float64 { return r.Dice[k] }))
		}
		out = append(out, d)
	}
	return out
}

// casesOf are a profile's rows that stand for one case each. Every profile has the same cases, in the same order.
func casesOf(rows []Row, profile interact.Profile) []Row {
	var out []Row
	for _, r := range rows {
		if r.Profile == profile && !r.Group {
			out = append(out, r)
		}
	}
	return out
}
