package evaluate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// published is one of the thesis's ablations: the methods' names, the best first by the published final Dice. The figures are those
// of Tables 4.2 (λ, CHAOS CT), 4.5 (α), 4.4 (augmentation, CHAOS CT) and 4.3 (components, minutes to Dice 0.95, CHAOS CT).
type published struct {
	title   string
	methods []string
	figures []float64
}

var publishedOrders = []published{
	{"λ", []string{"lambda=2.0", "lambda=1.5", "lambda=2.5", "lambda=1.0", "lambda=3.0"}, []float64{0.936, 0.91, 0.91, 0.89, 0.88}},
	{"α", []string{"alpha=0.99", "alpha=0.995", "alpha=0.95", "alpha=0.90", "alpha=0.80", "alpha=0.70"}, []float64{0.932, 0.910, 0.901, 0.890, 0.870, 0.840}},
	{"augmentation", []string{"up-to-16", "up-to-32", "fixed-6", "no-augmentation"}, []float64{0.932, 0.917, 0.862, 0.781}},
	{"components", []string{"thesis", "interactive-only", "copy"}, []float64{-9.24, -15, -32}},
}

// orders sets our order of the methods of each published ablation beside the published one. Kendall's τ-b tells how far they agree: 1
// is the same order, 0 none, −1 the reverse (Kendall, Biometrika 33 (1945) 239-251).
func (r Report) orders() (rows [][]string, head []string) {
	head = []string{"table", "", "best first", "τ"}
	for _, p := range publishedOrders {
		var names []string
		var theirs, ours []float64
		for i, name := range p.methods {
			if figure, ok := r.finalFigure(name, p.title == "components"); ok {
				names, theirs, ours = append(names, name), append(theirs, p.figures[i]), append(ours, figure)
			}
		}
		if len(names) < 2 {
			continue
		}
		rows = append(rows, []string{p.title, "published", ordered(names, theirs), ""},
			[]string{"", "here", ordered(names, ours), fmt.Sprintf("%+.2f", kendall(theirs, ours))})
	}
	return rows, head
}

// finalFigure is a method's mean Dice after the last interaction, or, as minutes count less the more they are, less the minutes to 0.95.
func (r Report) finalFigure(method string, minutes bool) (float64, bool) {
	for _, row := range r.Rows {
		if row.Method == method && row.Name == "mean" && row.Group {
			if minutes {
				return -row.MinutesTo[len(Goals)-1], true
			}
			return row.Dice[len(row.Dice)-1], true
		}
	}
	return 0, false
}

// ordered lists names with their figures, the largest first.
func ordered(names []string, figures []float64) string {
	at := make([]int, len(names))
	for i := range at {
		at[i] = i
	}
	slices.SortStableFunc(at, func(a, b int) int { return cmp.Compare(figures[b], figures[a]) })
	parts := make([]string, len(at))
	for i, k := range at {
		figure := fmt.Sprintf("%.3f", figures[k])
		if figures[k] < 0 {
			figure = fmt.Sprintf("%.1f min", -figures[k])
		}
		parts[i] = names[k] + " " + figure
	}
	return strings.Join(parts, " > ")
}

// kendall is Kendall's τ-b of two rankings; 0 where one of them ranks nothing.
func kendall(a, b []float64) float64 {
	var agree, untiedA, untiedB float64
	for i := range a {
		for j := range i {
			x, y := cmp.Compare(a[i], a[j]), cmp.Compare(b[i], b[j])
			agree += float64(x * y)
			untiedA += float64(x * x)
			untiedB += float64(y * y)
		}
	}
	if untiedA == 0 || untiedB == 0 {
		return 0
	}
	return agree / math.Sqrt(untiedA*untiedB)
}
