package rtstruct

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"scrawl/adapters/dicom"
	"scrawl/adapters/volume"
)

// Tags that only structure sets have.
const (
	structureSetLabel         dicom.Tag = 0x30060002
	structureSetDescription   dicom.Tag = 0x30060006
	structureSetDate          dicom.Tag = 0x30060008
	structureSetTime          dicom.Tag = 0x30060009
	referencedFrames          dicom.Tag = 0x30060010
	rtReferencedStudies       dicom.Tag = 0x30060012
	rtReferencedSeries        dicom.Tag = 0x30060014
	contourImages             dicom.Tag = 0x30060016
	structureSetROIs          dicom.Tag = 0x30060020
	roiNumber                 dicom.Tag = 0x30060022
	roiFrameOfReference       dicom.Tag = 0x30060024
	roiName                   dicom.Tag = 0x30060026
	roiDescription            dicom.Tag = 0x30060028
	roiDisplayColor           dicom.Tag = 0x3006002a
	roiGenerationAlgorithm    dicom.Tag = 0x30060036
	roiContours               dicom.Tag = 0x30060039
	contours                  dicom.Tag = 0x30060040
	contourGeometricType      dicom.Tag = 0x30060042
	numberOfContourPoints     dicom.Tag = 0x30060046
	contourData               dicom.Tag = 0x30060050
	roiObservations           dicom.Tag = 0x30060080
	observationNumber         dicom.Tag = 0x30060082
	referencedROINumber       dicom.Tag = 0x30060084
	roiInterpretedType        dicom.Tag = 0x300600a4
	roiInterpreter            dicom.Tag = 0x300600a6
	approvalStatus            dicom.Tag = 0x300e0002
	detachedStudyManagementUI           = "1.2.840.10008.3.1.2.3.1"
)

// Structure is a structure of a set.
type Structure struct {
	// Label is its number in the label map.
	Label uint16
	// Name is what users read, of up to 64 characters (longer ones are cut).
	Name string
	// Color is red, green and blue from 0 to 1; nil for none.
	Color *[3]float64
	// Algorithm is AUTOMATIC, SEMIAUTOMATIC (the default) or MANUAL.
	Algorithm string
}

// Options say how to write a structure set. All may be left empty.
type Options struct {
	// Label is the set's, of up to 16 characters; SeriesDescription the series'.
	Label, SeriesDescription string
	// Manufacturer, Model and Version describe this program.
	Manufacturer, Model, Version string
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
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	or(&o.Label, "STRUCTURES")
	or(&o.SeriesDescription, "Structures")
	or(&o.Manufacturer, "Scrawl")
	or(&o.Model, "Scrawl")
	or(&o.Version, "1")
	or(&o.SeriesUID, dicom.NewUID())
	or(&o.InstanceUID, dicom.NewUID())
	return o
}

// Encode writes a label map on the grid of a series as a structure set. Numbers of the label map that no structure has are an error,
// for their voxels would be lost.
func Encode(w io.Writer, m *volume.LabelMap, structures []Structure, grid *dicom.Grid, o Options) error {
	d, err := newDataset(m, structures, grid, o.orDefault())
	if err != nil {
		return fmt.Errorf("writing a structure set: %w", err)
	}
	return dicom.Write(w, d)
}

func newDataset(m *volume.LabelMap, structures []Structure, grid *dicom.Grid, o Options) (*dicom.Dataset, error) {
	if err := grid.SameGrid(m.Geometry); err != nil {
		return nil, fmt.Errorf("label map and series: %w", err)
	}
	if err := m.Validate(); err != nil {
		return nil, err
	}
	known := map[uint16]bool{0: true}
	for _, s := range structures {
		if known[s.Label] {
			return nil, fmt.Errorf("structure %q has number %d, want numbers from 1 that differ", s.Name, s.Label)
		}
		known[s.Label] = true
	}
	for n, label := range m.Labels {
		if !known[label] {
			return nil, fmt.Errorf("voxel %v has number %d, which no structure has", [3]int{n % m.Size[0], n / m.Size[0] % m.Size[1], n / (m.Size[0] * m.Size[1])}, label)
		}
	}
	source := grid.Slices[0].File
	d := dicom.NewDerived(source)
	describe(d, o)
	d.SetItems(referencedFrames, frameOfReference(d, source, grid))
	where := make([]map[uint16]box, m.Size[2])
	for k := range where {
		where[k] = boxes(sliceOf(m, k), m.Size[0])
	}
	var rois, contourItems, observations []*dicom.Dataset
	for n, s := range structures {
		rois = append(rois, roi(s, n+1, d.Text(dicom.FrameOfReferenceUID)))
		contourItems = append(contourItems, roiContour(m, s, n+1, grid, where))
		observations = append(observations, observation(n+1))
	}
	d.SetItems(structureSetROIs, rois...)
	d.SetItems(roiContours, contourItems...)
	d.SetItems(roiObservations, observations...)
	return d, nil
}

func sliceOf(m *volume.LabelMap, k int) []uint16 {
	n := m.Size[0] * m.Size[1]
	return m.Labels[k*n : (k+1)*n]
}

func describe(d *dicom.Dataset, o Options) {
	date, clock := o.Now.Format("20060102"), o.Now.Format("150405")
	for t, text := range map[dicom.Tag]string{
		dicom.SOPClassUID: dicom.RTStructureSetStorage, dicom.SOPInstanceUID: o.InstanceUID, dicom.Modality: "RTSTRUCT",
		dicom.SeriesInstanceUID: o.SeriesUID, dicom.SeriesDescription: dicom.ShortText(o.SeriesDescription, 64), dicom.Manufacturer: dicom.ShortText(o.Manufacturer, 64),
		dicom.ManufacturerModelName: dicom.ShortText(o.Model, 64), dicom.SoftwareVersions: dicom.ShortText(o.Version, 64), dicom.InstanceCreationDate: date,
		dicom.InstanceCreationTime: clock, dicom.SeriesDate: date, dicom.SeriesTime: clock, structureSetLabel: dicom.ShortText(o.Label, 16), structureSetDate: date,
		structureSetTime: clock, approvalStatus: "UNAPPROVED", operatorsName: "", dicom.SeriesNumber: "1", dicom.InstanceNumber: "1",
	} {
		d.Set(t, text)
	}
}

const operatorsName dicom.Tag = 0x00081070

func frameOfReference(d *dicom.Dataset, source *dicom.File, grid *dicom.Grid) *dicom.Dataset {
	frame, study, series := &dicom.Dataset{}, &dicom.Dataset{}, &dicom.Dataset{}
	frame.Set(dicom.FrameOfReferenceUID, d.Text(dicom.FrameOfReferenceUID))
	images := grid.References()
	if len(images) == 0 {
		return frame
	}
	series.Set(dicom.SeriesInstanceUID, source.UID(dicom.SeriesInstanceUID))
	series.SetItems(contourImages, images...)
	study.Set(dicom.ReferencedSOPClassUID, detachedStudyManagementUI)
	study.Set(dicom.ReferencedSOPInstanceUID, d.Text(dicom.StudyInstanceUID))
	study.SetItems(rtReferencedSeries, series)
	frame.SetItems(rtReferencedStudies, study)
	return frame
}

func roi(s Structure, number int, frame string) *dicom.Dataset {
	d := &dicom.Dataset{}
	d.SetInts(roiNumber, number)
	d.Set(roiFrameOfReference, frame)
	name := dicom.ShortText(s.Name, 64)
	if name == "" {
		name = "Structure " + strconv.Itoa(number)
	}
	d.Set(roiName, name)
	if whole := dicom.ShortText(s.Name, 1024); whole != name && s.Name != "" {
		d.Set(roiDescription, whole) // of a name that has been cut
	}
	switch s.Algorithm {
	case "AUTOMATIC", "MANUAL":
		d.Set(roiGenerationAlgorithm, s.Algorithm)
	default:
		d.Set(roiGenerationAlgorithm, "SEMIAUTOMATIC")
	}
	return d
}

func observation(number int) *dicom.Dataset {
	d := &dicom.Dataset{}
	d.SetInts(observationNumber, number)
	d.SetInts(referencedROINumber, number)
	d.Set(roiInterpretedType)
	d.Set(roiInterpreter)
	return d
}

// roiContour holds the contours of a structure on all slices. where has the boxes of its labels for each.
func roiContour(m *volume.LabelMap, s Structure, number int, grid *dicom.Grid, where []map[uint16]box) *dicom.Dataset {
	d := &dicom.Dataset{}
	d.SetInts(referencedROINumber, number)
	if c := s.Color; c != nil {
		var rgb [3]int
		for i, v := range c {
			rgb[i] = int(math.Round(min(max(v, 0), 1) * 255))
		}
		d.SetInts(roiDisplayColor, rgb[:]...)
	}
	write := newWriter(grid.Geometry)
	var items []*dicom.Dataset
	for k := range where {
		b, ok := where[k][s.Label]
		if !ok {
			continue
		}
		for _, polygon := range keyholes(mask{sliceOf(m, k), m.Size[0], s.Label, b}.trace()) {
			items = append(items, write.contour(polygon, grid.Slices[k]))
		}
	}
	if len(items) > 0 {
		d.SetItems(contours, items...)
	}
	return d
}

// writer turns points of slices into text.
type writer struct {
	row, column [3]float64 // mm a voxel
	decimals    int
}

// newWriter writes coordinates to a thousandth of a voxel, of a millimetre where voxels are larger.
func newWriter(g volume.Geometry) writer {
	var w writer
	for r := range 3 {
		w.row[r], w.column[r] = g.Direction[r][0]*g.Spacing[0], g.Direction[r][1]*g.Spacing[1]
	}
	w.decimals = 3 + max(0, int(math.Ceil(-math.Log10(min(g.Spacing[0], g.Spacing[1])))))
	return w
}

func (w writer) contour(polygon []point, slice dicom.Slice) *dicom.Dataset {
	d := &dicom.Dataset{}
	if r := slice.Reference(); r != nil {
		d.SetItems(contourImages, r)
	}
	d.Set(contourGeometricType, "CLOSED_PLANAR")
	d.SetInts(numberOfContourPoints, len(polygon))
	texts := make([]string, 0, 3*len(polygon))
	for _, p := range polygon {
		for r := range 3 {
			v := slice.Position[r] + w.row[r]*float64(p.x)/2 + w.column[r]*float64(p.y)/2
			texts = append(texts, w.text(v))
		}
	}
	d.Set(contourData, texts...)
	return d
}

func (w writer) text(v float64) string {
	text := strconv.FormatFloat(v, 'f', min(w.decimals, 9), 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	if text == "-0" {
		return "0"
	}
	if len(text) > 16 {
		return dicom.DecimalString(v)
	}
	return text
}
