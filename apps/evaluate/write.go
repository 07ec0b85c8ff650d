package evaluate

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// WriteTable writes the summary as aligned text.
func (r Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	r.header(&b)
	table := func(title string, head []string, rows [][]string) {
		fmt.Fprintf(&b, "\n%s\n", title)
		t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
		for _, row := range append([][]string{head}, rows...) {
			fmt.Fprintln(t, strings.Join(row, "\t")+"\t")
		}
		_ = t.Flush() // a strings.Builder takes everything
	}
	for _, part := range r.tables() {
		table(part.Title, part.Head, part.Rows)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// tables are all tables that have something to show.
func (r Report) tables() []pageTable {
	var all []pageTable
	for _, t := range []struct {
		title string
		make  func() ([][]string, []string)
	}{
		{"Dice after 0, 1, … interactions; interactions to Dice goals (never reached: one more than allowed)", r.accuracy},
		{"95 % Hausdorff distance (mm) and surface Dice at 2 mm after 0, 1, … interactions; Dice from slice to slice in the end, and that of the truth", r.surfaces},
		{"Minutes to Dice goals, a case: 6 s an interaction and 3 s a stroke, outlines by hand 30 s for the image's longer side, and the machine's time; what never got there is finished by hand. Learning", r.costs},
		{"Whole volumes: interactions to a Dice of 0.90, beside a quarter of the slices that hold the target", r.volumes},
		{"Dice points more than frozen, with 95 % intervals over cases; ≥: at least as good as frozen", r.differences},
		{"Interactions and minutes to Dice goals saved against frozen, in per cent, with 95 % intervals over cases", r.savings},
		{"Earlier cases of a series again, with what was learned from all of it: Dice points more than the first time; cases that lost more than 1 point", r.retained},
		{"Beside the published tables (4.2 to 4.5), best first by the final Dice", r.orders},
	} {
		if rows, head := t.make(); len(rows) > 0 {
			all = append(all, pageTable{Title: t.title, Head: head, Rows: rows})
		}
	}
	return all
}

func (r Report) header(b *strings.Builder) {
	for _, line := range r.Facts() {
		fmt.Fprintf(b, "%-10s %s\n", line[0], line[1])
	}
}

// Facts lists what the figures depend on, as pairs of name and value.
func (r Report) Facts() [][2]string {
	p, pr := r.Protocol, r.Provenance
	seeds := strings.Trim(fmt.Sprint(p.Seeds), "[]")
	how := fmt.Sprintf("annotated by %s, at most %d interactions, seeds %s", p.Mode, p.Interactions, seeds)
	if p.Mode == Recorded {
		how = "strokes recorded from people, all at once"
	}
	if p.Mode == BySlice {
		how += fmt.Sprintf(", every %d. slice of at least %d pixels", p.Every, p.MinPixels)
	}
	if p.LearnOnLeaving {
		how += ", learned from on leaving a slice"
	}
	if p.KeepLearned {
		how += ", learning on from case to case"
	}
	if p.Retention {
		how += ", earlier cases again in the end"
	}
	model := "none"
	runs := fmt.Sprintf("%d cores, %s", pr.Cores, pr.Platform)
	if pr.Model != "" {
		model = fmt.Sprintf("%s/%s, SHA-256 %s", pr.App, pr.Model, pr.ModelHash)
		runs = fmt.Sprintf("%s, ONNX Runtime %s, %s of %s", pr.Provider, pr.Runtime, threads(pr.Threads), runs)
	}
	facts := [][2]string{{"scrawl", pr.Scrawl}, {"model", model}, {"runs on", runs}, {"protocol", how}}
	if len(pr.Overrides) > 0 {
		facts = append(facts, [2]string{"changed", strings.Join(pr.Overrides, ", ")})
	}
	for _, m := range p.Methods {
		if len(m.Changes) > 0 {
			facts = append(facts, [2]string{m.Name, strings.Join(m.Changes, ", ")})
		}
	}
	return facts
}

func threads(n int) string {
	if n == 0 {
		return "one thread on each"
	}
	return fmt.Sprintf("%d threads", n)
}

func (r Report) steps() []string {
	var head []string
	for k := range r.Protocol.Interactions + 1 {
		head = append(head, strconv.Itoa(k))
	}
	return head
}

func (r Report) accuracy() (rows [][]string, head []string) {
	head = append([]string{"case", "method"}, r.steps()...)
	head = append(head, "untouched")
	for _, g := range Goals {
		head = append(head, fmt.Sprintf("to %.2f", g))
	}
	for _, row := range r.sorted() {
		line := append([]string{row.Name, row.Method}, formatted("%.3f", row.Dice)...)
		line = append(line, formatted("%.3f", []float64{row.Untouched})...)
		rows = append(rows, append(line, formatted("%.2f", row.To[:])...))
	}
	return rows, head
}

func (r Report) surfaces() (rows [][]string, head []string) {
	head = append([]string{"case", "method"}, r.steps()...)
	head = append(append(head, ""), r.steps()...)
	head = append(head, "", "continuity", "of the truth")
	for _, row := range r.sorted() {
		line := append([]string{row.Name, row.Method}, formatted("%.1f", row.HD95)...)
		line = append(append(line, ""), formatted("%.3f", row.SurfaceDice)...)
		rows = append(rows, append(append(line, ""), formatted("%.3f", []float64{row.Continuity, row.TrueContinuity})...))
	}
	return rows, head
}

func (r Report) costs() (rows [][]string, head []string) {
	head = []string{"case", "method", "s median", "s p95", "user min", "machine min"}
	for _, g := range Goals {
		head = append(head, fmt.Sprintf("min to %.2f", g))
	}
	head = append(head, "learned", "adapted", "‖Δw‖/‖w‖")
	for _, row := range r.sorted() {
		line := append([]string{row.Name, row.Method}, formatted("%.3f", []float64{row.Median, row.P95})...)
		line = append(line, formatted("%.2f", []float64{row.UserMinutes, row.MachineMinutes})...)
		line = append(line, formatted("%.2f", row.MinutesTo[:])...)
		line = append(line, formatted("%.0f %%", []float64{100 * row.LearnedShare, 100 * row.AdaptedShare})...)
		rows = append(rows, append(line, formatted("%.4f", []float64{row.Distance})...))
	}
	return rows, head
}

// volumes compares the interactions that a whole volume takes with the slices that hold its target.
func (r Report) volumes() (rows [][]string, head []string) {
	if r.Protocol.Mode != ByVolume {
		return nil, nil
	}
	head = []string{"case", "method", "slices with any", fmt.Sprintf("with %d px", r.Protocol.MinPixels), "a quarter", "to 3-D Dice", "to the slices' mean", "within"}
	for _, row := range r.sorted() {
		quarter := row.Slices / 4
		within := "no"
		switch {
		case max(row.To[goal90], row.SliceTo[goal90]) <= quarter:
			within = "both"
		case row.To[goal90] <= quarter:
			within = "3-D Dice"
		case row.SliceTo[goal90] <= quarter:
			within = "slices' mean"
		}
		line := append([]string{row.Name, row.Method}, formatted("%.0f", []float64{row.Holding, row.Slices})...)
		line = append(line, formatted("%.2f", []float64{quarter, row.To[goal90], row.SliceTo[goal90]})...)
		rows = append(rows, append(line, within))
	}
	return rows, head
}

// goal90 is the position of 0.90 in Goals.
const goal90 = 1

func (r Report) differences() (rows [][]string, head []string) {
	head = append([]string{"group", "method"}, r.steps()...)
	head = append(head, "untouched")
	for _, d := range r.Differences {
		line := []string{fmt.Sprintf("%s of %d", d.Name, d.Untouched.Cases), d.Method}
		for _, i := range append(slices.Clone(d.Dice), d.Untouched) {
			line = append(line, i.String())
		}
		rows = append(rows, line)
	}
	return rows, head
}

// savings are the shares of interactions and minutes that a method saves.
func (r Report) savings() (rows [][]string, head []string) {
	head = []string{"group", "method"}
	for _, what := range []string{"interactions", "minutes"} {
		for _, g := range Goals {
			head = append(head, fmt.Sprintf("%s to %.2f", what, g))
		}
	}
	for _, d := range r.Differences {
		line := []string{fmt.Sprintf("%s of %d", d.Name, d.Untouched.Cases), d.Method}
		for _, i := range append(slices.Clone(d.Saved[:]), d.SavedMinutes[:]...) {
			line = append(line, i.text())
		}
		rows = append(rows, line)
	}
	return rows, head
}

// retained are the differences of cases annotated again.
func (r Report) retained() (rows [][]string, head []string) {
	head = append([]string{"cases", "method"}, r.steps()...)
	head = append(head, "untouched", "worst case", "lost")
	for _, t := range r.Retentions {
		line := []string{fmt.Sprint(t.Dice[0].Cases), t.Method}
		for _, i := range append(slices.Clone(t.Dice), t.Untouched) {
			line = append(line, i.text())
		}
		rows = append(rows, append(line, fmt.Sprintf("%.1f", -100*t.Worst), fmt.Sprint(t.Lost)))
	}
	return rows, head
}

// String gives the interval in Dice points, with a sign ≥ when it is at least 0 for all that is known.
func (i Interval) String() string {
	if i.AtLeast() {
		return i.text() + " ≥"
	}
	return i.text()
}

// text gives a hundred times the mean and its interval, where there is one.
func (i Interval) text() string {
	switch {
	case math.IsNaN(i.Mean):
		return "–"
	case math.IsNaN(i.Low):
		return fmt.Sprintf("%+.1f", 100*i.Mean)
	}
	return fmt.Sprintf("%+.1f [%+.1f, %+.1f]", 100*i.Mean, 100*i.Low, 100*i.High)
}

// mostShown is how many cases are listed each by itself in tables for people; of more, the groups alone are. The CSV files hold all.
const mostShown = 40

// sorted are the rows that tables show, by case, so that methods stand side by side, cases before groups.
func (r Report) sorted() []Row {
	rows := r.everyRow()
	if cases := chosen(rows, func(row Row) bool { return !row.Group }); len(cases) > mostShown*len(r.Protocol.Methods) {
		return chosen(rows, func(row Row) bool { return row.Group })
	}
	return rows
}

// everyRow are all rows in that order.
func (r Report) everyRow() []Row {
	var out []Row
	var names []string
	for _, row := range r.Rows {
		if !slices.Contains(names, row.Name) {
			names = append(names, row.Name)
		}
	}
	for _, name := range names {
		for _, row := range r.Rows {
			if row.Name == name {
				out = append(out, row)
			}
		}
	}
	return out
}

func formatted(format string, values []float64) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = "–"
		if !math.IsNaN(v) {
			out[i] = fmt.Sprintf(format, v)
		}
	}
	return out
}

// pointColumns are the columns of WritePoints.
var pointColumns = []string{"set", "kind", "image", "target", "method", "seed", "person", "again", "position", "slice", "interaction", "drawn_on", "strokes",
	"dice", "hd95_mm", "surface_dice_2mm", "untouched", "slice_dice", "machine_seconds", "traced_seconds", "model_sha256", "scrawl"}

// WritePoints writes every answer measured as CSV: a row for each of the 0 … Interactions interactions of each slice (or volume,
// whose slice is -1). Where the annotator was done before, the last figures are repeated with no strokes and no time.
func (r Report) WritePoints(w io.Writer) error {
	out := csv.NewWriter(w)
	if err := out.Write(pointColumns); err != nil {
		return err
	}
	for _, c := range r.Courses {
		for _, s := range c.Series {
			for k := range r.Protocol.Interactions + 1 {
				if err := out.Write(r.pointRow(c, s, k)); err != nil {
					return err
				}
			}
		}
	}
	out.Flush()
	return out.Error()
}

func (r Report) pointRow(c Course, s Series, k int) []string {
	p := s.At(k)
	if k >= len(s.Points) {
		p.Strokes, p.Seconds, p.Traced = 0, 0, 0
	}
	row := []string{c.Set, c.Kind, c.Image, c.Target, c.Method, strconv.FormatUint(c.Seed, 10), c.Person, strconv.FormatBool(c.Again)}
	for _, n := range []int{s.Position, s.Slice, k, p.Slice, p.Strokes} {
		row = append(row, strconv.Itoa(n))
	}
	for _, v := range []float64{p.Dice, p.HD95, p.SurfaceDice, p.Untouched, p.SliceDice, p.Seconds, p.Traced} {
		row = append(row, number(v))
	}
	return append(row, r.Provenance.ModelHash, r.Provenance.Scrawl)
}

// number is empty for what is not a number.
func number(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', 6, 64)
}

// WriteSummary writes the rows of the tables as CSV.
func (r Report) WriteSummary(w io.Writer) error {
	head := []string{"name", "group", "cases", "method"}
	for _, figure := range []string{"dice", "hd95_mm", "surface_dice_2mm"} {
		for _, k := range r.steps() {
			head = append(head, figure+"_"+k)
		}
	}
	for _, g := range Goals {
		head = append(head, fmt.Sprintf("interactions_to_%.2f", g))
	}
	for _, g := range Goals {
		head = append(head, fmt.Sprintf("minutes_to_%.2f", g))
	}
	head = append(head, "slices", "slices_holding", "untouched", "seconds_median", "seconds_p95", "user_minutes", "machine_minutes", "learned_share", "adapted_share", "distance", "continuity", "true_continuity")
	out := csv.NewWriter(w)
	if err := out.Write(head); err != nil {
		return err
	}
	for _, row := range r.everyRow() {
		line := []string{row.Name, strconv.FormatBool(row.Group), strconv.Itoa(row.Cases), row.Method}
		for _, figures := range [][]float64{row.Dice, row.HD95, row.SurfaceDice, row.To[:], row.MinutesTo[:], {row.Slices, row.Holding, row.Untouched, row.Median, row.P95,
			row.UserMinutes, row.MachineMinutes, row.LearnedShare, row.AdaptedShare, row.Distance, row.Continuity, row.TrueContinuity}} {
			for _, v := range figures {
				line = append(line, number(v))
			}
		}
		if err := out.Write(line); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// WriteProvenance writes as JSON what the figures come from and the protocol they follow.
func (r Report) WriteProvenance(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	stages := map[string]map[string]float64{}
	for _, c := range r.Courses {
		if stages[c.Method] == nil {
			stages[c.Method] = map[string]float64{}
		}
		for stage, s := range c.StageSeconds {
			stages[c.Method][stage] += s
		}
	}
	return enc.Encode(struct {
		Provenance   Provenance                    `json:"provenance"`
		Protocol     Protocol                      `json:"protocol"`
		StageSeconds map[string]map[string]float64 `json:"stage_seconds"`
	}{r.Provenance, r.Protocol, stages})
}
