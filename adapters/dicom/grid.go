package dicom

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"scrawl/adapters/volume"
)

// Grid is the geometry of a series and the slices that make it: Slices[k] is plane k of the volume. Slices ascend along rows ×
// columns, whatever order they were taken or numbered in, as GDCM and OHIF sort them.
type Grid struct {
	volume.Geometry
	Slices []Slice
	// Notes say what is odd about the series: slices left out and why, gaps, a tilted gantry.
	Notes []string
}

func (g *Grid) note(format string, args ...any) {
	g.Notes = append(g.Notes, fmt.Sprintf(format, args...))
}

// Bounds of what counts as the same, as fractions of the smallest pixel or of the spacing between slices.
const (
	sameDirection = 1e-3 // difference of unit vectors' components
	gapTolerance  = 0.02 // of the usual distance of slices, before a gap is told
	tiltTolerance = 0.1  // of a pixel, that the last slice may be off the normal through the first
)

// newGrid sorts planes. There is at least one.
func newGrid(planes []plane) (*Grid, error) {
	g := &Grid{}
	planes = g.withoutLocalizers(planes)
	planes, err := g.largestGroup(planes)
	if err != nil {
		return nil, err
	}
	if !planes[0].placed {
		return g.stack(planes)
	}
	normal := volume.Cross(planes[0].row, planes[0].col)
	along := func(p plane) float64 { return volume.Dot(p.Position, normal) }
	slices.SortStableFunc(planes, func(a, b plane) int {
		return cmp.Or(cmp.Compare(along(a), along(b)), slices.Compare(a.order[:], b.order[:]))
	})
	planes = g.firstOfEach(planes, along)
	g.take(planes)
	return g, g.measure(planes, normal)
}

// take makes slices of sorted planes.
func (g *Grid) take(planes []plane) {
	for _, p := range planes {
		g.Slices = append(g.Slices, p.Slice)
	}
	m := planes[0].module
	g.Size = [3]int{m.columns, m.rows, len(planes)}
}

func (g *Grid) withoutLocalizers(planes []plane) []plane {
	rest := slices.DeleteFunc(slices.Clone(planes), func(p plane) bool { return p.localizer })
	if len(rest) == 0 || len(rest) == len(planes) {
		return planes
	}
	g.note("%d localizer images are left out", len(planes)-len(rest))
	return rest
}

// largestGroup takes the planes of one size, spacing and orientation: most of the series. Several groups of the same size are no
// one image.
func (g *Grid) largestGroup(planes []plane) ([]plane, error) {
	var groups [][]plane
	for _, p := range planes {
		n := slices.IndexFunc(groups, func(group []plane) bool { return p.parallel(group[0]) })
		if n < 0 {
			n = len(groups)
			groups = append(groups, nil)
		}
		groups[n] = append(groups[n], p)
	}
	slices.SortStableFunc(groups, func(a, b []plane) int { return len(b) - len(a) })
	if len(groups) == 1 {
		return groups[0], nil
	}
	if len(groups[0]) == len(groups[1]) {
		return nil, fmt.Errorf("%w: the series holds images of %d orientations or sizes (%s and %s, %d each), want slices of one volume",
			volume.ErrUnsupported, len(groups), groups[0][0].text(), groups[1][0].text(), len(groups[0]))
	}
	g.note("%d of %d images differ in orientation or size and are left out, such as %s beside %s", len(planes)-len(groups[0]), len(planes),
		groups[1][0].text(), groups[0][0].text())
	return groups[0], nil
}

func (p plane) text() string {
	if !p.placed {
		return fmt.Sprintf("%d×%d without position", p.module.columns, p.module.rows)
	}
	n := volume.Cross(p.row, p.col)
	return fmt.Sprintf("%d×%d across (%.2f,%.2f,%.2f)", p.module.columns, p.module.rows, n[0], n[1], n[2])
}

func (p plane) parallel(q plane) bool {
	if p.placed != q.placed || p.module.rows != q.module.rows || p.module.columns != q.module.columns {
		return false
	}
	for c := range 2 {
		if math.Abs(p.spacing[c]-q.spacing[c]) > 1e-3*max(p.spacing[c], q.spacing[c]) {
			return false
		}
	}
	for c := range 3 {
		if math.Abs(p.row[c]-q.row[c]) > sameDirection || math.Abs(p.col[c]-q.col[c]) > sameDirection {
			return false
		}
	}
	return true
}

// firstOfEach leaves one plane at every position: of time points, echoes or repetitions the first.
func (g *Grid) firstOfEach(planes []plane, along func(plane) float64) []plane {
	largest := 0.0
	for i := 1; i < len(planes); i++ {
		largest = max(largest, along(planes[i])-along(planes[i-1]))
	}
	same := min(0.01, largest/100)
	kept := planes[:1:1]
	for _, p := range planes[1:] {
		if along(p)-along(kept[len(kept)-1]) > same {
			kept = append(kept, p)
		}
	}
	if dropped := len(planes) - len(kept); dropped > 0 {
		g.note("%d images lie where another one does (time points, echoes or repetitions): of %d at %d positions the first of each is read",
			dropped, len(planes), len(kept))
	}
	return kept
}

// measure makes the geometry of sorted planes, and tells gaps and a tilt.
func (g *Grid) measure(planes []plane, normal [3]float64) error {
	first := planes[0]
	g.spacing(first)
	g.Origin = first.Position
	third := normal
	if n := len(planes); n > 1 {
		step := minus(planes[n-1].Position, first.Position)
		distance := volume.Dot(step, normal)
		g.Spacing[2] = distance / float64(n-1)
		drift := minus(step, scaled(normal, distance))
		if math.Sqrt(volume.Dot(drift, drift)) > tiltTolerance*min(g.Spacing[0], g.Spacing[1]) {
			// A tilted gantry, or slices that follow the table: the third axis is not at right angles to the others.
			length := math.Sqrt(volume.Dot(step, step))
			third = scaled(step, 1/length)
			g.Spacing[2] = length / float64(n-1)
			g.note("slices are shifted against each other: they follow a line %.2f° off their normal", math.Acos(min(1, distance/length))*180/math.Pi)
		}
		g.gaps(planes, normal)
	}
	for r := range 3 {
		g.Direction[r] = [3]float64{first.row[r], first.col[r], third[r]}
	}
	if err := g.Validate(); err != nil {
		return fmt.Errorf("%w: %w", volume.ErrFormat, err)
	}
	return nil
}

func scaled(v [3]float64, by float64) [3]float64 { return [3]float64{v[0] * by, v[1] * by, v[2] * by} }

// spacing fills in the pixel's size and the slices' distance as the file has it. What it does not say is 1 mm.
func (g *Grid) spacing(p plane) {
	g.Spacing = [3]float64{p.spacing[0], p.spacing[1], p.between}
	if p.spacing[0] == 0 {
		g.note("the images do not say how large a pixel is, 1 mm is taken")
		g.Spacing[0], g.Spacing[1] = 1, 1
	}
	if p.between == 0 {
		g.Spacing[2] = 1
	}
}

// gaps tells slices that are not equally far apart. They keep their places in the order; the grid has the mean distance.
func (g *Grid) gaps(planes []plane, normal [3]float64) {
	distances := make([]float64, len(planes)-1)
	for i := range distances {
		distances[i] = volume.Dot(minus(planes[i+1].Position, planes[i].Position), normal)
	}
	sorted := slices.Sorted(slices.Values(distances))
	usual := sorted[len(sorted)/2]
	odd := 0
	for _, d := range distances {
		if math.Abs(d-usual) > gapTolerance*usual {
			odd++
		}
	}
	if odd > 0 {
		g.note("slices are not equally far apart: %.4g to %.4g mm, usually %.4g (%d of %d distances differ; slices may be missing); the grid has the mean",
			sorted[0], sorted[len(sorted)-1], usual, odd, len(distances))
	}
}

// stack puts planes that say nothing of where they are behind each other, in order of their numbers.
func (g *Grid) stack(planes []plane) (*Grid, error) {
	slices.SortStableFunc(planes, func(a, b plane) int { return slices.Compare(a.order[:], b.order[:]) })
	g.take(planes)
	g.spacing(planes[0])
	if len(planes) > 1 {
		g.note("the images do not say where they lie in the patient: %d are stacked in order of their numbers", len(planes))
	}
	g.Direction = [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}
	for k := range g.Slices {
		g.Slices[k].Position = [3]float64{0, 0, float64(k) * g.Spacing[2]}
	}
	if err := g.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", volume.ErrFormat, err)
	}
	return g, nil
}
