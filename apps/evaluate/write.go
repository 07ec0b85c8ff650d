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

	"scrawl/apps/interact"
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
	accuracy, head := r.accuracy()
	table("Dice after 0, 1, … interactions; interactions to Dice goals (never reached: one more than allowed)", head, accuracy)
	surfaces, head := r.surfaces()
	table("95 % Hausdorff distance (mm) and surface Dice at 2 mm after 0, 1, … interactions", head, surfaces)
	costs, head := r.costs()
	table("Cost and learning, a case", head, costs)
	if len(r.Differences) > 0 {
		rows, head := r.differences()
		table("Dice points more than frozen, with 95 % intervals over cases; ≥: at least as good as frozen", head, rows)
	}
	_, err := io.WriteString(w, b.String())
	return err
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
	how := fmt.Sprintf("%s by %s, at most %d interactions, seeds %s", "annotated", p.Mode, p.Interactions, seeds)
	if p.Mode == BySlice {
		how += fmt.Sprintf(", every %d. slice of at least %d pixels", p.Every, p.MinPixels)
	}
	if p.LearnOnLeaving {
		how += ", learned from on leaving a slice"
	}
	facts := [][2]string{
		{"scrawl", pr.Scrawl}, {"model", fmt.Sprintf("%s/%s, SHA-256 %s", pr.App, pr.Model, pr.ModelHash)},
		{"runs on", fmt.Sprintf("%s, ONNX Runtime %s, %s of %d cores, %s", pr.Provider, pr.Runtime, threads(pr.Threads), pr.Cores, pr.Platform)},
		{"protocol", how},
	}
	if len(pr.Overrides) > 0 {
		facts = append(facts, [2]string{"changed", strings.Join(pr.Overrides, ", ")})
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
	head = append([]string{"case", "profile"}, r.steps()...)
	head = append(head, "untouched")
	for _, g := range Goals {
		head = append(head, fmt.Sprintf("to %.2f", g))
	}
	for _, row := range r.sorted() {
		line := append([]string{row.Name, string(row.Profile)}, formatted("%.3f", row.Dice)...)
		line = append(line, formatted("%.3f", []float64{row.Untouched})...)
		rows = append(rows, append(line, formatted("%.2f", row.To[:])...))
	}
	return rows, head
}

func (r Report) surfaces() (rows [][]string, head []string) {
	head = append([]string{"case", "profile"}, r.steps()...)
	head = append(append(head, ""), r.steps()...)
	for _, row := range r.sorted() {
		line := append([]string{row.Name, string(row.Profile)}, formatted("%.1f", row.HD95)...)
		rows = append(rows, append(append(line, ""), formatted("%.3f", row.SurfaceDice)...))
	}
	return rows, head
}

func (r Report) costs() (rows [][]string, head []string) {
	head = []string{"case", "profile", "s median", "s p95", "user min", "machine min", "learned", "adapted", "‖Δw‖/‖w‖"}
	for _, row := range r.sorted() {
		line := append([]string{row.Name, string(row.Profile)}, formatted("%.3f", []float64{row.Median, row.P95})...)
		line = append(line, formatted("%.2f", []float64{row.UserMinutes, row.MachineMinutes})...)
		line = append(line, formatted("%.0f %%", []float64{100 * row.LearnedShare, 100 * row.AdaptedShare})...)
		rows = append(rows, append(line, formatted("%.4f", []float64{row.Distance})...))
	}
	return rows, head
}

func (r Report) differences() (rows [][]string, head []string) {
	head = append([]string{"group", "profile"}, r.steps()...)
	head = append(head, "untouched")
	for _, d := range r.Differences {
		line := []string{fmt.Sprintf("%s of %d", d.Name, d.Untouched.Cases), string(d.Profile)}
		for _, i := range append(slices.Clone(d.Dice), d.Untouched) {
			line = append(line, i.String())
		}
		rows = append(rows, line)
	}
	return rows, head
}

// String gives the interval in Dice points, with a sign ≥ when it is at least 0 for all that is known.
func (i Interval) String() string {
	if math.IsNaN(i.Mean) {
		return "–"
	}
	text := fmt.Sprintf("%+.1f", 100*i.Mean)
	if math.IsNaN(i.Low) {
		return text
	}
	text += fmt.Sprintf(" [%+.1f, %+.1f]", 100*i.Low, 100*i.High)
	if i.AtLeast() {
		text += " ≥"
	}
	return text
}

// sorted are the rows by case, so that profiles stand side by side, cases before groups.
func (r Report) sorted() []Row {
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
var pointColumns = []string{"image", "target", "profile", "seed", "position", "slice", "interaction", "drawn_on", "strokes",
	"dice", "hd95_mm", "surface_dice_2mm", "untouched", "machine_seconds", "model_sha256", "scrawl"}

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
		p.Strokes, p.Seconds = 0, 0
	}
	row := []string{c.Image, c.Target, string(c.Profile), strconv.FormatUint(c.Seed, 10)}
	for _, n := range []int{s.Position, s.Slice, k, p.Slice, p.Strokes} {
		row = append(row, strconv.Itoa(n))
	}
	for _, v := range []float64{p.Dice, p.HD95, p.SurfaceDice, p.Untouched, p.Seconds} {
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
	head := []string{"name", "group", "cases", "profile"}
	for _, figure := range []string{"dice", "hd95_mm", "surface_dice_2mm"} {
		for _, k := range r.steps() {
			head = append(head, figure+"_"+k)
		}
	}
	for _, g := range Goals {
		head = append(head, fmt.Sprintf("interactions_to_%.2f", g))
	}
	head = append(head, "untouched", "seconds_median", "seconds_p95", "user_minutes", "machine_minutes", "learned_share", "adapted_share", "distance")
	out := csv.NewWriter(w)
	if err := out.Write(head); err != nil {
		return err
	}
	for _, row := range r.sorted() {
		line := []string{row.Name, strconv.FormatBool(row.Group), strconv.Itoa(row.Cases), string(row.Profile)}
		for _, figures := range [][]float64{row.Dice, row.HD95, row.SurfaceDice, row.To[:], {row.Untouched, row.Median, row.P95,
			row.UserMinutes, row.MachineMinutes, row.LearnedShare, row.AdaptedShare, row.Distance}} {
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
	stages := map[interact.Profile]map[string]float64{}
	for _, c := range r.Courses {
		if stages[c.Profile] == nil {
			stages[c.Profile] = map[string]float64{}
		}
		for stage, s := range c.StageSeconds {
			stages[c.Profile][stage] += s
		}
	}
	return enc.Encode(struct {
		Provenance   Provenance                              `json:"provenance"`
		Protocol     Protocol                                `json:"protocol"`
		StageSeconds map[interact.Profile]map[string]float64 `json:"stage_seconds"`
	}{r.Provenance, r.Protocol, stages})
}
