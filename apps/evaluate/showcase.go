package evaluate

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"image/png"
	"io"
	"slices"
)

// Showcase is a picture for people: a stroke with its mask, and another slice's first mask before and after learning.
//
// The first slice of the course is shown after its first interaction. Of all slices without a stroke, the other one is that which gained
// the most, and the picture says so.
type Showcase struct {
	Stroke, Before, After Picture
	Target                string
	// Lessons is the number of slices that were learned from before After was made.
	Lessons int
}

// NewShowcase chooses the pictures of two courses through one case with one seed: one that learned nothing, and one that did. Both
// must have kept the pictures of all slices.
func NewShowcase(frozen, learned Course) (Showcase, error) {
	type pair struct{ before, after Picture }
	var pairs []pair
	for _, b := range frozen.Pictures {
		i := slices.IndexFunc(learned.Pictures, func(a Picture) bool { return a.Slice == b.Slice && a.Interactions == 0 })
		if b.Interactions == 0 && b.Dice > 0 && i >= 0 {
			pairs = append(pairs, pair{b, learned.Pictures[i]})
		}
	}
	stroke := slices.IndexFunc(learned.Pictures, func(p Picture) bool { return p.Interactions == 1 })
	if len(pairs) == 0 || stroke < 0 {
		return Showcase{}, errors.New("the courses hold no picture of a slice before its first stroke")
	}
	slices.SortStableFunc(pairs, func(a, b pair) int {
		return cmp.Compare(a.after.Dice-a.before.Dice, b.after.Dice-b.before.Dice)
	})
	chosen := pairs[len(pairs)-1]
	s := Showcase{Stroke: learned.Pictures[stroke], Before: chosen.before, After: chosen.after, Target: learned.Target}
	for _, p := range learned.Series {
		if p.Slice == chosen.after.Slice {
			s.Lessons = p.Position
		}
	}
	return s, nil
}

var showcaseTemplate = template.Must(template.New("showcase").Parse(`<svg xmlns="http://www.w3.org/2000/svg" width="780" height="190" viewBox="0 0 780 190" font-family="system-ui, sans-serif" font-size="14" fill="#57606a">
<title>{{.Title}}</title>
{{range .Panels}}<image x="{{.X}}" y="10" width="240" height="120" preserveAspectRatio="xMinYMax meet" href="{{.URI}}"/>
<text x="{{.X}}" y="152">{{.Text}}</text>
<text x="{{.X}}" y="172">{{.Figure}}</text>
{{end}}</svg>
`))

// WriteSVG writes the picture, which holds its parts itself.
func (s Showcase) WriteSVG(w io.Writer) error {
	type panel struct {
		X            int
		URI          template.URL
		Text, Figure string
	}
	title := fmt.Sprintf("A stroke on the %s with its mask, and the first mask of another slice before and after learning", s.Target)
	panels := []panel{
		{10, s.Stroke.DataURI(), "One stroke and its mask", fmt.Sprintf("slice %d, Dice %.2f", s.Stroke.Slice, s.Stroke.Dice)},
		{270, s.Before.DataURI(), "Another slice, without a stroke", fmt.Sprintf("slice %d, Dice %.2f", s.Before.Slice, s.Before.Dice)},
		{530, s.After.DataURI(), fmt.Sprintf("After learning from %d other slices", s.Lessons), fmt.Sprintf("slice %d, Dice %.2f (it gained most)", s.After.Slice, s.After.Dice)},
	}
	for _, p := range []Picture{s.Stroke, s.Before, s.After} {
		if _, err := png.DecodeConfig(bytes.NewReader(p.PNG)); err != nil {
			return fmt.Errorf("picture of slice %d: %w", p.Slice, err)
		}
	}
	return showcaseTemplate.Execute(w, struct {
		Title  string
		Panels []panel
	}{title, panels})
}
