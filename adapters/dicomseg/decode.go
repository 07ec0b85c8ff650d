package dicomseg

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

// Segmentation is a DICOM SEG that has been opened. Its frames stay in the file until they are put on a grid.
type Segmentation struct {
	Kind Kind
	// Segments are in the order of the file, the background of label maps left out. Their labels are their numbers in the file.
	Segments []Segment
	// FrameOfReferenceUID names the coordinates; SeriesUID and InstanceUID the segmentation itself.
	FrameOfReferenceUID, SeriesUID, InstanceUID string
	// SourceSeries are the series that it refers to.
	SourceSeries []string

	frames  *dicom.Frames
	places  []place
	maximum float64 // of FRACTIONAL values
	padding int     // the number that is background in a LABELMAP
}

// place is where a frame lies and of which segment it is, 0 in a LABELMAP.
type place struct {
	volume.Geometry
	segment uint16
}

// Read opens a segmentation in the size bytes r, which has to stay open until it is on a grid. Errors are as those of dicom.Read;
// a DICOM file of another kind is volume.ErrUnsupported.
func Read(r io.ReaderAt, size int64, lim dicom.Limits) (*Segmentation, error) {
	f, err := dicom.Read(r, size, lim)
	if err != nil {
		return nil, err
	}
	s := &Segmentation{Kind: Kind(f.Text(segmentationType)), FrameOfReferenceUID: f.Text(dicom.FrameOfReferenceUID),
		SeriesUID: f.Text(dicom.SeriesInstanceUID), InstanceUID: f.Text(dicom.SOPInstanceUID)}
	if !f.Has(segmentSequence) || s.Kind != Binary && s.Kind != LabelMap && s.Kind != fractional {
		return nil, fmt.Errorf("%w: DICOM file of modality %q and segmentation type %q, want a segmentation of type BINARY, FRACTIONAL or LABELMAP",
			volume.ErrUnsupported, f.Text(dicom.Modality), s.Kind)
	}
	if s.maximum, _ = f.Float(maximumFractionalValue); s.maximum <= 0 {
		s.maximum = 255
	}
	s.padding, _ = f.Int(pixelPaddingValue)
	if err := s.readSegments(f); err != nil {
		return nil, err
	}
	for _, it := range f.Items(dicom.ReferencedSeriesSequence) {
		if uid := it.Text(dicom.SeriesInstanceUID); uid != "" {
			s.SourceSeries = append(s.SourceSeries, uid)
		}
	}
	if s.frames, err = f.OpenFrames(r, size, lim); err != nil {
		return nil, err
	}
	if err := lim.Or(volume.DefaultLimits()).Check([3]int{s.frames.Columns, s.frames.Rows, 1}, 4); err != nil {
		return nil, err
	}
	return s, s.readPlaces(f)
}

func (s *Segmentation) readSegments(f *dicom.File) error {
	for _, d := range f.Items(segmentSequence) {
		n, ok := d.Int(segmentNumber)
		if !ok || n < 0 || n > math.MaxUint16 {
			return fmt.Errorf("%w: segment number %.20q, want 1 to 65535", volume.ErrFormat, d.Text(segmentNumber))
		}
		if n == 0 || s.Kind == LabelMap && f.Has(pixelPaddingValue) && n == s.padding {
			continue
		}
		kind := d.Item(propertyType)
		seg := Segment{Label: uint16(n), Name: d.Text(segmentLabel), Description: d.Text(segmentDescription),
			Category: readCode(d.Item(propertyCategory)), Type: readCode(kind), Modifier: readCode(kind.Item(propertyTypeModifier)),
			AlgorithmType: d.Text(segmentAlgorithmType), AlgorithmName: d.Text(segmentAlgorithmName), Color: rgbOf(d.Ints(recommendedCIELab))}
		if utf8.RuneCountInString(seg.Name) > 60 && strings.HasPrefix(seg.Description, seg.Name) {
			seg.Name = seg.Description // a name that was cut to the 64 characters of its element
		}
		if seg.Name == "" {
			seg.Name = seg.Type.Meaning
		}
		if seg.Name == "" {
			seg.Name = "Segment " + strconv.Itoa(n)
		}
		s.Segments = append(s.Segments, seg)
	}
	return nil
}

func (s *Segmentation) readPlaces(f *dicom.File) error {
	known := map[uint16]bool{}
	for _, seg := range s.Segments {
		known[seg.Label] = true
	}
	for n := range s.frames.Count {
		p, ok := f.Placement(n)
		if !ok {
			return fmt.Errorf("%w: frame %d of the segmentation does not say where it lies", volume.ErrUnsupported, n+1)
		}
		between := p.Between
		if between == 0 {
			between = 1
		}
		at := place{Geometry: volume.Geometry{Size: [3]int{s.frames.Columns, s.frames.Rows, 1}, Origin: p.Position,
			Spacing: [3]float64{p.Spacing[0], p.Spacing[1], between}}}
		normal := volume.Cross(p.Row, p.Column)
		for r := range 3 {
			at.Direction[r] = [3]float64{p.Row[r], p.Column[r], normal[r]}
		}
		if err := at.Validate(); err != nil {
			return fmt.Errorf("%w: frame %d of the segmentation: %w", volume.ErrFormat, n+1, err)
		}
		if s.Kind != LabelMap {
			number, ok := f.FrameItem(n, segmentIdentification).Int(referencedSegmentNumber)
			if !ok || number < 1 || number > math.MaxUint16 {
				return fmt.Errorf("%w: frame %d of the segmentation does not say of which segment it is", volume.ErrFormat, n+1)
			}
			at.segment = uint16(number)
			if !known[at.segment] { // a frame of a segment that nobody has named
				s.Segments = append(s.Segments, Segment{Label: at.segment, Name: "Segment " + strconv.Itoa(number)})
				known[at.segment] = true
			}
		}
		s.places = append(s.places, at)
	}
	return nil
}

// Grid is a grid that holds all frames: of the segmentation's own planes, from its first to its last position. It is for
// segmentations whose images are not at hand.
func (s *Segmentation) Grid() (volume.Geometry, error) {
	g := s.places[0].Geometry
	normal := g.Axis(2)
	along := make([]float64, len(s.places))
	for n, p := range s.places {
		for r := range 3 {
			for c := range 3 {
				if math.Abs(p.Direction[r][c]-g.Direction[r][c]) > 1e-3 {
					return volume.Geometry{}, fmt.Errorf("%w: frames of several orientations make no one grid", volume.ErrUnsupported)
				}
			}
		}
		along[n] = volume.Dot(p.Origin, normal)
		if along[n] < volume.Dot(g.Origin, normal) {
			g.Origin = p.Origin
		}
	}
	slices.Sort(along)
	step := 0.0
	for n := 1; n < len(along); n++ {
		if d := along[n] - along[n-1]; d > 1e-3 && (step == 0 || d < step) {
			step = d
		}
	}
	if step > 0 {
		// Frames of empty slices are missing, so the least distance counts, or the one that the file has if it divides it.
		if ratio := step / g.Spacing[2]; math.Abs(ratio-math.Round(ratio)) > 0.01 || ratio < 0.5 {
			g.Spacing[2] = step
		}
		n := math.Round((along[len(along)-1]-along[0])/g.Spacing[2]) + 1
		if n > 1<<20 {
			return volume.Geometry{}, fmt.Errorf("%w: %g slices between the first and the last frame", volume.ErrTooLarge, n)
		}
		g.Size[2] = int(n)
	}
	return g, nil
}

// Placed is a segmentation on the grid of an image.
type Placed struct {
	*volume.LabelMap
	Segments []Segment
	// Overlapping is the number of voxels that several segments claim. Each has the last of them in order of frames.
	Overlapping int
	// Outside is the number of the segmentation's voxels beyond the image.
	Outside int
}

// On puts the segmentation on the grid of a series, slice by slice where they lie, so that it fits series with gaps too.
func (s *Segmentation) On(grid *dicom.Grid) (*Placed, error) {
	return s.place(grid.Geometry, grid.Slices, 0)
}

// OnGeometry puts it on any grid: voxel by voxel where both are aligned, else to the nearest voxel.
func (s *Segmentation) OnGeometry(g volume.Geometry) (*Placed, error) { return s.place(g, nil, 0) }

// Mask is one segment alone, 1 inside and 0 outside, for segments that overlap.
func (s *Segmentation) Mask(segment uint16, g volume.Geometry) (*volume.LabelMap, error) {
	p, err := s.place(g, nil, segment)
	if err != nil {
		return nil, err
	}
	for n, v := range p.Labels {
		p.Labels[n] = min(v, 1)
	}
	return p.LabelMap, nil
}

func (s *Segmentation) place(g volume.Geometry, sources []dicom.Slice, only uint16) (*Placed, error) {
	if err := g.Validate(); err != nil {
		return nil, fmt.Errorf("grid for a segmentation: %w", err)
	}
	if err := volume.DefaultLimits().Check(g.Size, 2); err != nil {
		return nil, err
	}
	to := &Placed{LabelMap: volume.NewLabelMap(g), Segments: s.Segments}
	values := make([]float32, s.frames.Rows*s.frames.Columns)
	labels := make([]uint16, len(values))
	inside := 0
	for n, p := range s.places {
		if only != 0 && p.segment != only && s.Kind != LabelMap {
			continue
		}
		if err := s.frames.Read(values, n); err != nil {
			return nil, fmt.Errorf("frame %d of the segmentation: %w", n+1, err)
		}
		s.labels(labels, values, p.segment, only)
		inside += to.add(p.onSlice(g, sources), labels)
	}
	if inside == 0 && to.Outside > 0 {
		return nil, fmt.Errorf("%w: none of the segmentation's %d voxels lies in the image", volume.ErrGeometry, to.Outside)
	}
	return to, nil
}

// labels turns the values of a frame into labels.
func (s *Segmentation) labels(dst []uint16, values []float32, segment, only uint16) {
	for i, v := range values {
		switch {
		case s.Kind == LabelMap:
			dst[i] = uint16(min(max(v, 0), math.MaxUint16))
			if int(dst[i]) == s.padding || only != 0 && dst[i] != only {
				dst[i] = 0
			}
		case s.Kind == Binary && v != 0, s.Kind == fractional && float64(v) >= s.maximum/2:
			dst[i] = segment
		default:
			dst[i] = 0
		}
	}
}

// onSlice moves a frame that lies on a source's slice to where the grid has that slice: the grid of a series with gaps has the mean
// distance.
func (p place) onSlice(g volume.Geometry, sources []dicom.Slice) volume.Geometry {
	normal := volume.Cross(g.Axis(0), g.Axis(1))
	for k, s := range sources {
		var apart [3]float64
		for c := range 3 {
			apart[c] = p.Origin[c] - s.Position[c]
		}
		if math.Abs(volume.Dot(apart, normal)) < 0.01*g.Spacing[2] {
			at := g.IndexToWorld([3]float64{0, 0, float64(k)})
			for c := range 3 {
				p.Origin[c] += at[c] - s.Position[c]
			}
			break
		}
	}
	return p.Geometry
}

// add lays a frame over the label map and returns how many of its voxels fell inside.
func (to *Placed) add(from volume.Geometry, labels []uint16) int {
	at, di, dj, aligned := align(to.Geometry, from)
	if !aligned {
		return to.resample(from, labels)
	}
	inside := 0
	for j := range from.Size[1] {
		for i := range from.Size[0] {
			label := labels[j*from.Size[0]+i]
			if label == 0 {
				continue
			}
			x, y, z := at[0]+i*di[0]+j*dj[0], at[1]+i*di[1]+j*dj[1], at[2]+i*di[2]+j*dj[2]
			if !to.Inside(x, y, z) {
				to.Outside++
				continue
			}
			inside++
			to.set(to.Index(x, y, z), label)
		}
	}
	return inside
}

func (to *Placed) set(n int, label uint16) {
	if old := to.Labels[n]; old != 0 && old != label {
		to.Overlapping++
	}
	to.Labels[n] = label
}

// align tells which voxel the first pixel of a frame is and how one goes on along rows and columns, where pixels are voxels: axes in
// some order and direction, of the same spacing, without a shift.
func align(g, from volume.Geometry) (at, di, dj [3]int, ok bool) {
	origin := g.WorldToIndex(from.Origin)
	step := func(axis int) (d [3]int, ok bool) {
		var ijk [3]float64
		ijk[axis] = 1
		next := g.WorldToIndex(from.IndexToWorld(ijk))
		ones := 0
		for c := range 3 {
			delta := next[c] - origin[c]
			// No pixel may be further than a quarter of a voxel off at the frame's end.
			if !(math.Abs(delta-math.Round(delta))*float64(from.Size[axis]) < 0.25) || math.Abs(delta) > 1.5 {
				return d, false
			}
			d[c] = int(math.Round(delta))
			ones += d[c] * d[c]
		}
		return d, ones == 1
	}
	for c := range 3 {
		if !(math.Abs(origin[c]-math.Round(origin[c])) < 0.1) || math.Abs(origin[c]) > math.MaxInt32 {
			return at, di, dj, false
		}
		at[c] = int(math.Round(origin[c]))
	}
	di, ok1 := step(0)
	dj, ok2 := step(1)
	return at, di, dj, ok1 && ok2 && di != dj && di != [3]int{-dj[0], -dj[1], -dj[2]}
}

// resample gives every voxel whose centre lies within half a slice of the frame the pixel it is nearest to.
func (to *Placed) resample(from volume.Geometry, labels []uint16) int {
	lo, hi := to.bounds(from)
	inside := 0
	for k := lo[2]; k <= hi[2]; k++ {
		for j := lo[1]; j <= hi[1]; j++ {
			for i := lo[0]; i <= hi[0]; i++ {
				p := from.WorldToIndex(to.IndexToWorld([3]float64{float64(i), float64(j), float64(k)}))
				x, y := int(math.Round(p[0])), int(math.Round(p[1]))
				if !(math.Abs(p[2]) <= 0.5+1e-6) || !from.Inside(x, y, 0) {
					continue
				}
				if label := labels[y*from.Size[0]+x]; label != 0 {
					inside++
					to.set(to.Index(i, j, k), label)
				}
			}
		}
	}
	if inside == 0 {
		for _, label := range labels {
			if label != 0 {
				to.Outside++
			}
		}
	}
	return inside
}

// bounds is the box of voxels that a frame with its thickness can reach.
func (to *Placed) bounds(from volume.Geometry) (lo, hi [3]int) {
	lowest, highest := [3]float64{math.Inf(1), math.Inf(1), math.Inf(1)}, [3]float64{math.Inf(-1), math.Inf(-1), math.Inf(-1)}
	for corner := range 8 {
		var ijk [3]float64
		for c, n := range [3]int{from.Size[0], from.Size[1], 1} {
			if ijk[c] = -0.5; corner>>c&1 == 1 {
				ijk[c] = float64(n) - 0.5
			}
		}
		p := to.WorldToIndex(from.IndexToWorld(ijk))
		for c := range 3 {
			lowest[c], highest[c] = min(lowest[c], p[c]), max(highest[c], p[c])
		}
	}
	for c := range 3 {
		lo[c] = int(math.Ceil(max(lowest[c]-1e-6, 0)))
		hi[c] = int(math.Floor(min(highest[c]+1e-6, float64(to.Size[c]-1))))
	}
	return lo, hi
}
