package dicomseg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"scrawl/adapters/dicom"
	"scrawl/adapters/volume"
)

// Kind is the way in which a segmentation stores its segments (Segmentation Type).
type Kind string

// Kinds of segmentations. FRACTIONAL is read only.
const (
	Binary     Kind = "BINARY"     // a frame of bits for each slice of each segment: what every reader knows
	LabelMap   Kind = "LABELMAP"   // a frame of numbers for each slice, since DICOM 2024d
	fractional Kind = "FRACTIONAL" // a frame of probabilities or occupancies for each slice of each segment
)

// Options say how to write a segmentation. All may be left empty.
type Options struct {
	// Kind is Binary unless it is set.
	Kind Kind
	// SeriesDescription and SeriesNumber are those of the new series. The number is made of the time of day if it is 0.
	SeriesDescription string
	SeriesNumber      int
	// Label and Description are the content's; Creator is who made it, a person's name.
	Label, Description, Creator string
	// Manufacturer, Model, Version and Serial describe this program.
	Manufacturer, Model, Version, Serial string
	// SeriesUID and InstanceUID are new ones unless they are set.
	SeriesUID, InstanceUID string
	// Now is the time of creation, the present if it is zero.
	Now time.Time
}

func (o Options) orDefault() Options {
	or := func(s *string, d string) {
		if *s == "" {
			*s = d
		}
	}
	if o.Kind == "" {
		o.Kind = Binary
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.SeriesNumber == 0 {
		o.SeriesNumber = max(1, (o.Now.Hour()*10000+o.Now.Minute()*100+o.Now.Second())%10000)
	}
	or(&o.SeriesDescription, "Segmentation")
	or(&o.Label, "SEGMENTATION")
	or(&o.Manufacturer, "Scrawl")
	or(&o.Model, "Scrawl")
	or(&o.Version, "1")
	or(&o.Serial, "1")
	or(&o.SeriesUID, dicom.NewUID())
	or(&o.InstanceUID, dicom.NewUID())
	return o
}

// Encode writes a label map on the grid of a series as a DICOM segmentation. Segments that have no voxel are named without frames;
// numbers of the label map that no segment has are an error, for their voxels would be lost.
func Encode(w io.Writer, m *volume.LabelMap, segments []Segment, grid *dicom.Grid, o Options) error {
	d, err := NewDataset(m, segments, grid, o)
	if err != nil {
		return err
	}
	return dicom.Write(w, d)
}

// NewDataset is what Encode writes.
func NewDataset(m *volume.LabelMap, segments []Segment, grid *dicom.Grid, o Options) (*dicom.Dataset, error) {
	e := &encoder{m: m, segments: segments, grid: grid, o: o.orDefault(), source: grid.Slices[0].File, d: dicom.NewDerived(grid.Slices[0].File)}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("writing a DICOM segmentation: %w", err)
	}
	e.frames = e.plan()
	if bytes := e.frameBits() * int64(len(e.frames)) / 8; bytes > math.MaxInt32 {
		return nil, fmt.Errorf("writing a DICOM segmentation: %w: %d frames of %d×%d take %d bytes", volume.ErrTooLarge, len(e.frames), m.Size[0], m.Size[1], bytes)
	}
	e.series()
	e.image()
	e.segmentSequence()
	e.dimensions()
	e.references()
	e.functionalGroups()
	e.pixels()
	return e.d, nil
}

type encoder struct {
	m        *volume.LabelMap
	segments []Segment
	grid     *dicom.Grid
	o        Options
	source   *dicom.File
	d        *dicom.Dataset
	frames   []frame
	wide     bool // 16 bits a pixel in a LABELMAP
}

// frame is a slice of one segment, or of all in a LABELMAP (label 0).
type frame struct {
	label  uint16
	number int // of the segment in the file
	k      int
}

func (e *encoder) check() error {
	if err := e.grid.SameGrid(e.m.Geometry); err != nil {
		return fmt.Errorf("label map and series: %w", err)
	}
	if err := e.m.Validate(); err != nil {
		return err
	}
	if e.o.Kind != Binary && e.o.Kind != LabelMap {
		return fmt.Errorf("%w: segmentation of type %q, want %s or %s", volume.ErrUnsupported, e.o.Kind, Binary, LabelMap)
	}
	if len(e.segments) == 0 {
		return errors.New("no segment is named")
	}
	known := map[uint16]bool{}
	for _, s := range e.segments {
		if s.Label == 0 || known[s.Label] {
			return fmt.Errorf("segment %q has number %d, want numbers from 1 that differ", s.Name, s.Label)
		}
		known[s.Label] = true
		e.wide = e.wide || s.Label > math.MaxUint8
	}
	for n, label := range e.m.Labels {
		if label != 0 && !known[label] {
			return fmt.Errorf("voxel %v has number %d, which no segment has", [3]int{n % e.m.Size[0], n / e.m.Size[0] % e.m.Size[1], n / (e.m.Size[0] * e.m.Size[1])}, label)
		}
	}
	return nil
}

// plan lists the frames: slices with voxels, segment by segment. An empty label map has one empty frame, for there must be one.
func (e *encoder) plan() []frame {
	slice := e.m.Size[0] * e.m.Size[1]
	present := make([]map[uint16]bool, e.m.Size[2])
	for k := range present {
		present[k] = map[uint16]bool{}
		last := uint16(0)
		for _, label := range e.m.Labels[k*slice : (k+1)*slice] {
			if label != last {
				present[k][label] = true
				last = label
			}
		}
		delete(present[k], 0)
	}
	var frames []frame
	if e.o.Kind == LabelMap {
		for k := range present {
			if len(present[k]) > 0 {
				frames = append(frames, frame{k: k})
			}
		}
	} else {
		for n, s := range e.segments {
			for k := range present {
				if present[k][s.Label] {
					frames = append(frames, frame{s.Label, n + 1, k})
				}
			}
		}
	}
	switch {
	case len(frames) > 0:
	case e.o.Kind == LabelMap:
		frames = []frame{{}}
	default:
		frames = []frame{{e.segments[0].Label, 1, 0}}
	}
	return frames
}

func (e *encoder) series() {
	date, clock := e.o.Now.Format("20060102"), e.o.Now.Format("150405")
	e.d.Set(dicom.Modality, "SEG")
	e.d.Set(dicom.SeriesInstanceUID, e.o.SeriesUID)
	e.d.SetInts(dicom.SeriesNumber, e.o.SeriesNumber)
	e.d.Set(dicom.SeriesDescription, dicom.ShortText(e.o.SeriesDescription, 64))
	e.d.Set(dicom.SeriesDate, date)
	e.d.Set(dicom.SeriesTime, clock)
	e.d.Set(dicom.Manufacturer, dicom.ShortText(e.o.Manufacturer, 64))
	e.d.Set(dicom.ManufacturerModelName, dicom.ShortText(e.o.Model, 64))
	e.d.Set(dicom.DeviceSerialNumber, dicom.ShortText(e.o.Serial, 64))
	e.d.Set(dicom.SoftwareVersions, dicom.ShortText(e.o.Version, 64))
	e.d.Set(dicom.SOPInstanceUID, e.o.InstanceUID)
	e.d.Set(dicom.InstanceCreationDate, date)
	e.d.Set(dicom.InstanceCreationTime, clock)
	e.d.SetInts(dicom.InstanceNumber, 1)
	e.d.Set(dicom.ContentDate, date)
	e.d.Set(dicom.ContentTime, clock)
	e.d.Set(contentLabel, dicom.ShortText(e.o.Label, 16))
	e.d.Set(contentDescription, dicom.ShortText(e.o.Description, 64))
	e.d.Set(contentCreatorName, dicom.ShortText(e.o.Creator, 64))
}

// Tags that only segmentations have.
const (
	contentLabel              dicom.Tag = 0x00700080
	contentDescription        dicom.Tag = 0x00700081
	contentCreatorName        dicom.Tag = 0x00700084
	segmentationType          dicom.Tag = 0x00620001
	segmentSequence           dicom.Tag = 0x00620002
	propertyCategory          dicom.Tag = 0x00620003
	segmentNumber             dicom.Tag = 0x00620004
	segmentLabel              dicom.Tag = 0x00620005
	segmentDescription        dicom.Tag = 0x00620006
	segmentAlgorithmType      dicom.Tag = 0x00620008
	segmentAlgorithmName      dicom.Tag = 0x00620009
	segmentIdentification     dicom.Tag = 0x0062000a
	referencedSegmentNumber   dicom.Tag = 0x0062000b
	recommendedCIELab         dicom.Tag = 0x0062000d
	maximumFractionalValue    dicom.Tag = 0x0062000e
	propertyType              dicom.Tag = 0x0062000f
	propertyTypeModifier      dicom.Tag = 0x00620011
	segmentsOverlap           dicom.Tag = 0x00620013
	pixelPaddingValue         dicom.Tag = 0x00280120
	spatialLocationsPreserved dicom.Tag = 0x0028135a
)

func (e *encoder) frameBits() int64 {
	pixels := int64(e.m.Size[0]) * int64(e.m.Size[1])
	switch {
	case e.o.Kind == Binary:
		return pixels
	case e.wide:
		return 16 * pixels
	}
	return 8 * pixels
}

func (e *encoder) image() {
	class, bits := dicom.SegmentationStorage, 1
	if e.o.Kind == LabelMap {
		class, bits = dicom.LabelMapSegmentationStorage, 8
		if e.wide {
			bits = 16
		}
		e.d.SetInts(pixelPaddingValue, 0)
	}
	e.d.Set(dicom.SOPClassUID, class)
	e.d.Set(dicom.ImageType, "DERIVED", "PRIMARY")
	e.d.Set(segmentationType, string(e.o.Kind))
	e.d.Set(segmentsOverlap, "NO")
	e.d.SetInts(dicom.SamplesPerPixel, 1)
	e.d.Set(dicom.PhotometricInterpretation, "MONOCHROME2")
	e.d.SetInts(dicom.NumberOfFrames, len(e.frames))
	e.d.SetInts(dicom.Rows, e.m.Size[1])
	e.d.SetInts(dicom.Columns, e.m.Size[0])
	e.d.SetInts(dicom.BitsAllocated, bits)
	e.d.SetInts(dicom.BitsStored, bits)
	e.d.SetInts(dicom.HighBit, bits-1)
	e.d.SetInts(dicom.PixelRepresentation, 0)
	e.d.Set(dicom.LossyImageCompression, "00")
	if e.source.Text(dicom.LossyImageCompression) == "01" { // the images' loss is the segmentation's
		e.d.Copy(e.source.Dataset, dicom.LossyImageCompression, dicom.LossyImageCompressionRatio, dicom.LossyImageCompressionMethod)
	}
}

func (e *encoder) segmentSequence() {
	var items []*dicom.Dataset
	if e.o.Kind == LabelMap {
		items = append(items, e.segment(Segment{Name: "Background", Category: background, Type: background, AlgorithmType: e.segments[0].AlgorithmType,
			AlgorithmName: e.segments[0].AlgorithmName}, 0))
	}
	for n, s := range e.segments {
		number := n + 1
		if e.o.Kind == LabelMap {
			number = int(s.Label)
		}
		items = append(items, e.segment(s, number))
	}
	e.d.SetItems(segmentSequence, items...)
}

func (e *encoder) segment(s Segment, number int) *dicom.Dataset {
	s = s.coded()
	d := &dicom.Dataset{}
	d.SetInts(segmentNumber, number)
	name := dicom.ShortText(s.Name, 64)
	if name == "" {
		name = "Segment " + strconv.Itoa(number)
	}
	d.Set(segmentLabel, name)
	if s.Description == "" && dicom.ShortText(s.Name, math.MaxInt) != name {
		s.Description = s.Name // the whole of a name that has been cut
	}
	if s.Description != "" {
		d.Set(segmentDescription, dicom.ShortText(s.Description, 1024))
	}
	algorithm := s.AlgorithmType
	if !slices.Contains([]string{"AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"}, algorithm) {
		algorithm = "SEMIAUTOMATIC"
	}
	d.Set(segmentAlgorithmType, algorithm)
	if algorithm != "MANUAL" {
		if s.AlgorithmName == "" {
			s.AlgorithmName = e.o.Model
		}
		d.Set(segmentAlgorithmName, dicom.ShortText(s.AlgorithmName, 64))
	}
	d.SetItems(propertyCategory, s.Category.item())
	kind := s.Type.item()
	if s.Modifier != (Code{}) {
		kind.SetItems(propertyTypeModifier, s.Modifier.item())
	}
	d.SetItems(propertyType, kind)
	if s.Color != nil {
		d.SetInts(recommendedCIELab, labOf(*s.Color)...)
	}
	return d
}

func pointer(t dicom.Tag) []int { return []int{int(t >> 16), int(t & 0xffff)} }

// dimensions says by what frames are counted: segment and position, or position alone (PS3.3, C.7.6.17).
func (e *encoder) dimensions() {
	organization := dicom.DerivedUID("dimensions of " + e.o.InstanceUID)
	it := &dicom.Dataset{}
	it.Set(dicom.DimensionOrganizationUID, organization)
	e.d.SetItems(dicom.DimensionOrganizationSeq, it)
	index := func(t, group dicom.Tag, label string) *dicom.Dataset {
		d := &dicom.Dataset{}
		d.Set(dicom.DimensionOrganizationUID, organization)
		d.SetInts(dicom.DimensionIndexPointer, pointer(t)...)
		d.SetInts(dicom.FunctionalGroupPointer, pointer(group)...)
		d.Set(dicom.DimensionDescriptionLabel, label)
		return d
	}
	position := index(dicom.ImagePositionPatient, dicom.PlanePositionSequence, "ImagePositionPatient")
	if e.o.Kind == LabelMap {
		e.d.SetItems(dicom.DimensionIndexSequence, position)
		return
	}
	e.d.SetItems(dicom.DimensionIndexSequence, index(referencedSegmentNumber, segmentIdentification, "ReferencedSegmentNumber"), position)
}

// references lists all instances of the source series (Common Instance Reference, PS3.3, C.12.2).
func (e *encoder) references() {
	instances := e.grid.References()
	if len(instances) == 0 {
		return
	}
	d := &dicom.Dataset{}
	d.Set(dicom.SeriesInstanceUID, e.source.UID(dicom.SeriesInstanceUID))
	d.SetItems(dicom.ReferencedInstanceSequence, instances...)
	e.d.SetItems(dicom.ReferencedSeriesSequence, d)
}

// functionalGroups says of each frame where it lies, of which segment it is and from which image it comes (PS3.3, A.51.5).
func (e *encoder) functionalGroups() {
	shared, measures, plane := &dicom.Dataset{}, &dicom.Dataset{}, &dicom.Dataset{}
	g := e.grid.Geometry
	normal := volume.Cross(g.Axis(0), g.Axis(1))
	between := g.Spacing[2] * math.Abs(volume.Dot(g.Axis(2), normal))
	thickness := between
	if v, ok := e.source.FrameItem(e.grid.Slices[0].Frame, dicom.PixelMeasuresSequence).Float(dicom.SliceThickness); ok && v > 0 {
		thickness = v
	}
	measures.SetFloats(dicom.SliceThickness, thickness)
	measures.SetFloats(dicom.SpacingBetweenSlices, between)
	measures.SetFloats(dicom.PixelSpacing, g.Spacing[1], g.Spacing[0])
	shared.SetItems(dicom.PixelMeasuresSequence, measures)
	row, col := g.Axis(0), g.Axis(1)
	plane.SetFloats(dicom.ImageOrientationPatient, row[0], row[1], row[2], col[0], col[1], col[2])
	if text := e.source.FrameItem(e.grid.Slices[0].Frame, dicom.PlaneOrientationSequence); len(text.Floats(dicom.ImageOrientationPatient)) == 6 {
		plane.Copy(text, dicom.ImageOrientationPatient) // to the last digit
	}
	shared.SetItems(dicom.PlaneOrientationSequence, plane)
	e.d.SetItems(dicom.SharedFunctionalGroupsSeq, shared)

	used := map[int]bool{}
	for _, f := range e.frames {
		used[f.k] = true
	}
	rank := map[int]int{} // slices ascend in position, so an index is a place among those used
	for k := range e.grid.Slices {
		if used[k] {
			rank[k] = len(rank) + 1
		}
	}
	groups := make([]*dicom.Dataset, len(e.frames))
	for n, f := range e.frames {
		groups[n] = e.frameGroup(f, rank[f.k])
	}
	e.d.SetItems(dicom.PerFrameFunctionalGroupsSeq, groups...)
}

func (e *encoder) frameGroup(f frame, position int) *dicom.Dataset {
	d, content, place := &dicom.Dataset{}, &dicom.Dataset{}, &dicom.Dataset{}
	slice := e.grid.Slices[f.k]
	place.SetFloats(dicom.ImagePositionPatient, slice.Position[:]...)
	d.SetItems(dicom.PlanePositionSequence, place)
	if e.o.Kind == LabelMap {
		content.SetInts(dicom.DimensionIndexValues, position)
	} else {
		content.SetInts(dicom.DimensionIndexValues, f.number, position)
		segment := &dicom.Dataset{}
		segment.SetInts(referencedSegmentNumber, f.number)
		d.SetItems(segmentIdentification, segment)
	}
	d.SetItems(dicom.FrameContentSequence, content)
	if source := slice.Reference(); source != nil {
		source.Set(spatialLocationsPreserved, "YES")
		source.SetItems(dicom.PurposeOfReferenceCodeSeq, sourceImage.item())
		derived := &dicom.Dataset{}
		derived.SetItems(dicom.DerivationCodeSequence, derivation.item())
		derived.SetItems(dicom.SourceImageSequence, source)
		d.SetItems(dicom.DerivationImageSequence, derived)
	}
	return d
}

// pixels packs the frames: bits one after the other without gaps between frames (PS3.5, section 8.1.1), or numbers.
func (e *encoder) pixels() {
	slice := e.m.Size[0] * e.m.Size[1]
	out := make([]byte, (e.frameBits()*int64(len(e.frames))+7)/8)
	bit := 0
	for n, f := range e.frames {
		labels := e.m.Labels[f.k*slice : (f.k+1)*slice]
		switch {
		case e.o.Kind == Binary:
			for _, label := range labels {
				if label == f.label {
					out[bit/8] |= 1 << (bit % 8)
				}
				bit++
			}
		case e.wide:
			for i, label := range labels {
				binary.LittleEndian.PutUint16(out[2*(n*slice+i):], label)
			}
		default:
			for i, label := range labels {
				out[n*slice+i] = byte(label)
			}
		}
	}
	vr := "OB"
	if e.wide && e.o.Kind == LabelMap {
		vr = "OW"
	}
	e.d.SetBytes(dicom.PixelData, vr, out)
}
