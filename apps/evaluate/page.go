package evaluate

import (
	_ "embed" // the page's template
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
)

//go:embed page.html
var pageText string

// WritePage writes the report as one HTML page that needs no other file: tables, curves and pictures.
func (r Report) WritePage(w io.Writer) error {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return fmt.Errorf("the report's page: %w", err)
	}
	return t.Execute(w, r.page())
}

// page is what the template shows.
type page struct {
	Facts    [][2]string
	Tables   []pageTable
	Curves   []curve
	Legend   []legend
	Pictures []pictureRow
}

type pageTable struct {
	Title string
	Head  []string
	Rows  [][]string
}

type legend struct {
	lineStyle
	Method string
}

// curve is a small diagram of Dice over interactions.
type curve struct {
	Name  string
	Steps []tick
	Marks []tick
	Lines []line
}

type tick struct {
	At   float64
	Text string
}

type line struct {
	lineStyle
	Points string
}

// lineStyle tells methods' lines apart: by colour, and where there are more methods than colours by dashes too.
type lineStyle struct{ Colour, Dashes string }

func styleOf(i int) lineStyle {
	return lineStyle{colours[i%len(colours)], dashes[i/len(colours)%len(dashes)]}
}

var dashes = []string{"none", "6 3", "2 2", "8 2 2 2"}

type pictureRow struct {
	Name     string
	Method   string
	Pictures []Picture
}

func (r Report) page() page {
	p := page{Facts: r.Facts()}
	p.Tables = r.tables()
	for i, m := range r.Protocol.Methods {
		p.Legend = append(p.Legend, legend{Method: m.Name, lineStyle: styleOf(i)})
	}
	p.Curves = r.curves()
	for _, c := range r.Courses {
		if len(c.Pictures) > 0 {
			p.Pictures = append(p.Pictures, pictureRow{Name: c.Name(), Method: c.Method, Pictures: c.Pictures})
		}
	}
	return p
}

// colours of the profiles' curves: distinguishable with any kind of colour vision (Okabe and Ito 2008).
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"}

// The diagrams' inner size in SVG units, and where they begin.
const (
	plotWidth, plotHeight = 220.0, 140.0
	plotLeft, plotTop     = 34.0, 8.0
)

// curves are the diagrams, one for each name in the tables. The Dice axis runs from the lowest mark at or below the lowest value.
func (r Report) curves() []curve {
	var out []curve
	for _, row := range r.sorted() {
		if len(out) > 0 && out[len(out)-1].Name == row.Name {
			continue
		}
		out = append(out, r.curve(row.Name))
	}
	return out
}

func (r Report) curve(name string) curve {
	c := curve{Name: name}
	lowest := 1.0
	for _, row := range r.Rows {
		for _, d := range row.Dice {
			if row.Name == name && !math.IsNaN(d) {
				lowest = min(lowest, d)
			}
		}
	}
	floor := math.Min(math.Floor(lowest*10)/10, 0.8)
	y := func(dice float64) float64 { return plotTop + plotHeight*(1-dice)/(1-floor) }
	x := func(k int) float64 { return plotLeft + plotWidth*float64(k)/float64(r.Protocol.Interactions) }
	for k := range r.Protocol.Interactions + 1 {
		c.Steps = append(c.Steps, tick{At: x(k), Text: fmt.Sprint(k)})
	}
	for tenth := math.Round(floor * 10); tenth <= 10; tenth++ {
		c.Marks = append(c.Marks, tick{At: y(tenth / 10), Text: fmt.Sprintf("%.1f", tenth/10)})
	}
	for i, m := range r.Protocol.Methods {
		for _, row := range r.Rows {
			if row.Name != name || row.Method != m.Name {
				continue
			}
			var points []string
			for k, d := range row.Dice {
				points = append(points, fmt.Sprintf("%.1f,%.1f", x(k), y(d)))
			}
			c.Lines = append(c.Lines, line{lineStyle: styleOf(i), Points: strings.Join(points, " ")})
		}
	}
	return c
}
