package dicom

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"scrawl/adapters/volume"
)

// Slice is one frame of one file.
type Slice struct {
	File *File
	// Frame counts from 0; the standard's frame numbers count from 1.
	Frame int
	// Position is the centre of the first pixel in mm, LPS.
	Position [3]float64
}

// plane is a slice with what sorting needs to know of it.
type plane struct {
	Slice
	module    *pixelModule
	row, col  [3]float64 // unit vectors along growing column numbers and growing row numbers
	placed    bool       // whether position and orientation are known
	spacing   [2]float64 // mm along row and col; 0 where the file does not say
	between   float64    // mm between slices as the file has it, 0 if it has not
	localizer bool
	order     [6]float64 // temporal position, acquisition, echo time, trigger time, instance number, frame
}

// group is an item of a functional group that holds for a frame: the frame's own or the shared one (PS3.3, C.7.6.16).
func (f *File) group(frame int, sequence Tag) *Dataset {
	if frames := f.Items(PerFrameFunctionalGroupsSeq); frame < len(frames) {
		if it := frames[frame].Item(sequence); it != nil {
			return it
		}
	}
	return f.Item(SharedFunctionalGroupsSeq).Item(sequence)
}

// FrameItem is the item of a functional group for a frame (counted from 0), or the data set itself for files without functional
// groups, whose attributes stand there.
func (f *File) FrameItem(frame int, sequence Tag) *Dataset {
	if it := f.group(frame, sequence); it != nil {
		return it
	}
	return f.Dataset
}

// planes are the frames of a file. Their number has been checked against the pixels.
func (f *File) planes() ([]plane, error) {
	module, err := f.pixelModule()
	if err != nil {
		return nil, err
	}
	n, err := f.frameCount()
	if err != nil {
		return nil, err
	}
	p := &f.walked.pixels
	if p.tag == 0 {
		return nil, fmt.Errorf("%w: no pixel data", volume.ErrUnsupported)
	}
	if p.truncated != "" {
		return nil, fmt.Errorf("%w: %s", volume.ErrFormat, p.truncated)
	}
	if want := (int64(n)*module.frameBits() + 7) / 8; !p.encapsulated() && p.length < want {
		return nil, fmt.Errorf("%w: %d bytes of pixel data, want %d for %d frames of %d×%d", volume.ErrFormat, p.length, want, n, module.columns, module.rows)
	}
	if p.encapsulated() && n > len(p.fragments) {
		return nil, fmt.Errorf("%w: %d frames in %d fragments of pixel data", volume.ErrFormat, n, len(p.fragments))
	}
	planes := make([]plane, n)
	for i := range planes {
		planes[i] = f.plane(i, n, module)
	}
	return planes, nil
}

func (f *File) plane(frame, frames int, module *pixelModule) plane {
	p := plane{Slice: Slice{File: f, Frame: frame}, module: module}
	measures := f.FrameItem(frame, PixelMeasuresSequence)
	if s := positive(measures.Floats(PixelSpacing), 2); s != nil {
		p.spacing = [2]float64{s[1], s[0]} // the file has rows first
	} else if s := positive(f.Floats(ImagerPixelSpacing), 2); s != nil {
		p.spacing = [2]float64{s[1], s[0]}
	}
	for _, t := range []Tag{SpacingBetweenSlices, SliceThickness} {
		if v, ok := measures.Float(t); ok && v != 0 && p.between == 0 {
			p.between = math.Abs(v)
		}
	}
	p.place(f, frame, frames)
	kind := f.Texts(ImageType)
	p.localizer = slices.ContainsFunc(kind, func(s string) bool { return strings.EqualFold(s, "LOCALIZER") })
	content := f.FrameItem(frame, FrameContentSequence)
	for i, t := range []Tag{TemporalPositionIndex, AcquisitionNumber, EchoTime, TriggerTime, InstanceNumber} {
		v, ok := content.Float(t)
		if !ok {
			v, _ = f.Float(t)
		}
		p.order[i] = v
	}
	if v, ok := f.Float(TemporalPositionIdentifier); ok && p.order[0] == 0 {
		p.order[0] = v
	}
	p.order[5] = float64(frame)
	return p
}

// Placement is where a frame lies in the patient.
type Placement struct {
	// Position is the centre of the first pixel in mm, LPS. Row and Column are unit vectors along growing column and growing row
	// numbers.
	Position, Row, Column [3]float64
	// Spacing is mm along Row and along Column.
	Spacing [2]float64
	// Between is the distance of slices in mm as the file has it, or their thickness; 0 if it says neither.
	Between float64
}

// Placement tells where a frame (counted from 0) lies. It is not ok for a file that does not say.
func (f *File) Placement(frame int) (p Placement, ok bool) {
	n, err := f.frameCount()
	if err != nil || frame < 0 || frame >= n {
		return Placement{}, false
	}
	q := f.plane(frame, n, nil)
	return Placement{Position: q.Position, Row: q.row, Column: q.col, Spacing: q.spacing, Between: q.between}, q.placed && q.spacing[0] > 0
}

func positive(values []float64, n int) []float64 {
	if len(values) < n {
		return nil
	}
	for _, v := range values[:n] {
		if !(v > 0) {
			return nil
		}
	}
	return values[:n]
}

func (f *File) rescale(frame int) rescale {
	r := rescale{1, 0}
	d := f.FrameItem(frame, PixelValueTransformationSeq)
	if v, ok := d.Float(RescaleSlope); ok && v != 0 {
		r.slope = v
	}
	if v, ok := d.Float(RescaleIntercept); ok {
		r.intercept = v
	}
	if v, ok := f.Float(DoseGridScaling); ok && v != 0 {
		r = rescale{v, 0}
	}
	return r
}

// detectorInformation is where nuclear medicine keeps position and orientation.
const detectorInformation Tag = 0x00540022

// place reads position and orientation.
func (p *plane) place(f *File, frame, frames int) {
	position := f.FrameItem(frame, PlanePositionSequence).Floats(ImagePositionPatient)
	orientation := f.FrameItem(frame, PlaneOrientationSequence).Floats(ImageOrientationPatient)
	if len(position) != 3 {
		position = f.Item(detectorInformation).Floats(ImagePositionPatient)
	}
	if len(orientation) != 6 {
		orientation = f.Item(detectorInformation).Floats(ImageOrientationPatient)
	}
	if len(position) != 3 || len(orientation) != 6 {
		return
	}
	p.row, p.col = unit([3]float64(orientation[:3])), unit([3]float64(orientation[3:]))
	if !(math.Abs(volume.Dot(p.row, p.col)) < 0.01) { // also what is no number
		return
	}
	// Rounded cosines are not quite at right angles: ITK keeps the columns and turns the rows, and so do we.
	p.row = volume.Cross(p.col, unit(volume.Cross(p.row, p.col)))
	p.Position, p.placed = [3]float64(position), true
	if frames == 1 || f.group(frame, PlanePositionSequence) != nil {
		return
	}
	// One position for many frames: a dose grid says where the others are, a reconstruction how far apart.
	normal := volume.Cross(p.row, p.col)
	distance := float64(frame) * p.between
	if offsets := f.Floats(GridFrameOffsetVector); len(offsets) == frames {
		distance = offsets[frame]
		if offsets[0] != 0 { // absolute positions along the patient's axis, for transverse planes only (PS3.3, C.8.8.3.2)
			distance -= offsets[0]
		}
	} else if v, ok := f.Float(SpacingBetweenSlices); ok {
		distance = float64(frame) * v // which may be negative
	}
	for c := range 3 {
		p.Position[c] += distance * normal[c]
	}
}

func unit(v [3]float64) [3]float64 {
	length := math.Sqrt(volume.Dot(v, v))
	for c := range v {
		v[c] /= length
	}
	return v
}

func minus(a, b [3]float64) [3]float64 { return [3]float64{a[0] - b[0], a[1] - b[1], a[2] - b[2]} }
