package rtstruct

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"scrawl/adapters/dicom"
	"scrawl/adapters/volume"
)

// Set is a structure set that has been read.
type Set struct {
	// Structures are in the order of the file; their labels count from 1.
	Structures []Structure
	// FrameOfReferenceUID names the coordinates; SeriesUID and InstanceUID the set itself.
	FrameOfReferenceUID, SeriesUID, InstanceUID string
	// SourceSeries are the series that it refers to.
	SourceSeries []string

	contours [][]polygon // by structure
	skipped  int         // points, open lines and the like
}

// polygon is a closed contour in mm, LPS.
type polygon [][3]float64

// Read reads a structure set of size bytes. Errors are as those of dicom.Read; a DICOM file of another kind is volume.ErrUnsupported.
func Read(r io.ReaderAt, size int64, lim dicom.Limits) (*Set, error) {
	f, err := dicom.Read(r, size, lim)
	if err != nil {
		return nil, err
	}
	if !f.Has(structureSetROIs) || len(f.Items(structureSetROIs)) > math.MaxUint16 {
		return nil, fmt.Errorf("%w: DICOM file of modality %q with %d structures, want a structure set of 1 to 65535",
			volume.ErrUnsupported, f.Text(dicom.Modality), len(f.Items(structureSetROIs)))
	}
	s := &Set{FrameOfReferenceUID: f.Text(dicom.FrameOfReferenceUID), SeriesUID: f.Text(dicom.SeriesInstanceUID), InstanceUID: f.Text(dicom.SOPInstanceUID)}
	for _, frame := range f.Items(referencedFrames) {
		if s.FrameOfReferenceUID == "" {
			s.FrameOfReferenceUID = frame.Text(dicom.FrameOfReferenceUID)
		}
		for _, study := range frame.Items(rtReferencedStudies) {
			for _, series := range study.Items(rtReferencedSeries) {
				s.SourceSeries = append(s.SourceSeries, series.Text(dicom.SeriesInstanceUID))
			}
		}
	}
	at := map[int]int{}
	for n, d := range f.Items(structureSetROIs) {
		number, _ := d.Int(roiNumber)
		at[number] = n
		structure := Structure{Label: uint16(n + 1), Name: d.Text(roiName), Algorithm: d.Text(roiGenerationAlgorithm)}
		if whole := d.Text(roiDescription); utf8.RuneCountInString(structure.Name) > 60 && strings.HasPrefix(whole, structure.Name) {
			structure.Name = whole
		}
		if structure.Name == "" {
			structure.Name = "Structure " + strconv.Itoa(number)
		}
		s.Structures = append(s.Structures, structure)
	}
	s.contours = make([][]polygon, len(s.Structures))
	for _, d := range f.Items(roiContours) {
		number, _ := d.Int(referencedROINumber)
		n, ok := at[number]
		if !ok {
			return nil, fmt.Errorf("%w: contours of structure %d, which the set does not have", volume.ErrFormat, number)
		}
		if rgb := d.Floats(roiDisplayColor); len(rgb) == 3 {
			s.Structures[n].Color = &[3]float64{rgb[0] / 255, rgb[1] / 255, rgb[2] / 255}
		}
		for _, c := range d.Items(contours) {
			if err := s.readContour(n, c); err != nil {
				return nil, fmt.Errorf("structure %q: %w", s.Structures[n].Name, err)
			}
		}
	}
	return s, nil
}

func (s *Set) readContour(n int, d *dicom.Dataset) error {
	switch kind := d.Text(contourGeometricType); kind {
	case "CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "":
	default: // a point, an open line
		s.skipped++
		return nil
	}
	values := d.Floats(contourData)
	if len(values) == 0 || len(values)%3 != 0 {
		return fmt.Errorf("%w: a contour of %d coordinates, want three numbers for each point", volume.ErrFormat, len(values))
	}
	p := make(polygon, len(values)/3)
	for i := range p {
		p[i] = [3]float64(values[3*i : 3*i+3])
	}
	if len(p) < 3 { // a point that somebody has drawn as a contour
		s.skipped++
		return nil
	}
	s.contours[n] = append(s.contours[n], p)
	return nil
}

// Placed is a structure set on the grid of an image.
type Placed struct {
	*volume.LabelMap
	Structures []Structure
	// Overlapping is the number of voxels that several structures claim. Each has the last of them.
	Overlapping int
	// Outside is the number of contours that lie on no slice of the image, and Skipped of those that are no closed polygons.
	Outside, Skipped int
}

// maxCrossings bounds the crossings of contours with rows of voxels, which is the work of filling.
const maxCrossings = 1 << 27

// On puts the set on the grid of a series, each contour on the slice that it lies in: within half of the slices' distance, and parallel
// to them.
func (s *Set) On(grid *dicom.Grid) (*Placed, error) {
	if err := grid.Validate(); err != nil {
		return nil, fmt.Errorf("grid for a structure set: %w", err)
	}
	if err := volume.DefaultLimits().Check(grid.Size, 2); err != nil {
		return nil, err
	}
	to := &Placed{LabelMap: volume.NewLabelMap(grid.Geometry), Structures: s.Structures, Skipped: s.skipped}
	slicer := newSlicer(grid)
	total := 0
	for n := range s.contours {
		perSlice := map[int][][][2]float64{}
		for _, p := range s.contours[n] {
			k, flat, ok := slicer.project(p)
			if !ok {
				to.Outside++
				continue
			}
			perSlice[k] = append(perSlice[k], flat)
		}
		for k, polygons := range perSlice {
			crossings, err := fillSlice(to, k, polygons, s.Structures[n].Label, maxCrossings-total)
			if err != nil {
				return nil, fmt.Errorf("structure %q: %w", s.Structures[n].Name, err)
			}
			total += crossings
		}
	}
	if to.Outside > 0 && to.Outside == s.count() {
		return nil, fmt.Errorf("%w: none of the structure set's %d contours lies on a slice of the image", volume.ErrGeometry, to.Outside)
	}
	return to, nil
}

func (s *Set) count() (n int) {
	for _, c := range s.contours {
		n += len(c)
	}
	return n
}

// slicer finds the slice of a contour and its points in voxels.
type slicer struct {
	row, column, normal [3]float64
	spacing             [2]float64
	origins             [][3]float64
	along               []float64 // of the origins, on the normal, rising
	reach               float64   // how far from its slice a contour may lie
}

func newSlicer(grid *dicom.Grid) *slicer {
	g := grid.Geometry
	s := &slicer{row: g.Axis(0), column: g.Axis(1), spacing: [2]float64{g.Spacing[0], g.Spacing[1]}}
	s.normal = volume.Cross(s.row, s.column)
	if volume.Dot(s.normal, g.Axis(2)) < 0 { // slices ascend
		s.normal = [3]float64{-s.normal[0], -s.normal[1], -s.normal[2]}
	}
	for k := range g.Size[2] {
		at := g.IndexToWorld([3]float64{0, 0, float64(k)})
		if len(grid.Slices) == g.Size[2] {
			at = grid.Slices[k].Position
		}
		s.origins = append(s.origins, at)
		s.along = append(s.along, volume.Dot(at, s.normal))
	}
	s.reach = g.Spacing[2] * math.Abs(volume.Dot(g.Axis(2), s.normal)) / 2
	return s
}

// farAway is how many voxels from the image nothing is looked at any more.
const farAway = 1 << 24

// project is not ok for a contour that is not parallel to the slices or lies on none.
func (s *slicer) project(p polygon) (k int, flat [][2]float64, ok bool) {
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range p {
		d := volume.Dot(v, s.normal)
		lo, hi = min(lo, d), max(hi, d)
	}
	middle := (lo + hi) / 2
	k, _ = slices.BinarySearch(s.along, middle)
	if k == len(s.along) || k > 0 && middle-s.along[k-1] < s.along[k]-middle {
		k--
	}
	if !(math.Abs(middle-s.along[k]) <= s.reach*1.001 && hi-lo <= s.reach/2) {
		return 0, nil, false
	}
	flat = make([][2]float64, len(p))
	for i, v := range p {
		var d [3]float64
		for c := range 3 {
			d[c] = v[c] - s.origins[k][c]
		}
		flat[i] = [2]float64{volume.Dot(d, s.row) / s.spacing[0], volume.Dot(d, s.column) / s.spacing[1]}
		if !(math.Abs(flat[i][0]) < farAway && math.Abs(flat[i][1]) < farAway) {
			return 0, nil, false
		}
	}
	return k, flat, true
}

// fillSlice gives the voxels of a slice whose centres are inside an odd number of polygons a label.
func fillSlice(to *Placed, k int, polygons [][][2]float64, label uint16, budget int) (crossings int, err error) {
	rows := make([][]float64, to.Size[1])
	for _, p := range polygons {
		for n, a := range p {
			b := p[(n+1)%len(p)]
			if a[1] > b[1] {
				a, b = b, a
			}
			// Rows with a.y ≤ y < b.y, so that a vertex on a row counts once.
			first, last := math.Ceil(max(a[1], 0)), math.Ceil(min(b[1], float64(to.Size[1])))-1
			for y := int(first); y <= int(last); y++ {
				rows[y] = append(rows[y], a[0]+(float64(y)-a[1])*(b[0]-a[0])/(b[1]-a[1]))
				if crossings++; crossings > budget {
					return crossings, fmt.Errorf("%w: contours cross more than %d rows", volume.ErrTooLarge, maxCrossings)
				}
			}
		}
	}
	for y, xs := range rows {
		slices.Sort(xs)
		for n := 0; n+1 < len(xs); n += 2 {
			from, until := int(math.Ceil(max(xs[n], 0))), int(math.Ceil(min(xs[n+1], float64(to.Size[0]))))
			for x := from; x < until; x++ {
				at := to.Index(x, y, k)
				if old := to.Labels[at]; old != 0 && old != label {
					to.Overlapping++
				}
				to.Labels[at] = label
			}
		}
	}
	return crossings, nil
}
