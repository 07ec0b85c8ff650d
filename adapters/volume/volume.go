// Package volume holds images, label maps and their geometry as values. Geometry is kept apart from voxels: everything that
// moves voxels (crop, resample, re-orient) returns the geometry that goes with them.
//
// Patient coordinates are LPS+ in millimetres, as in DICOM, ITK and NRRD: x grows to the patient's Left, y to Posterior, z to
// Superior. NIfTI's RAS+ is converted at that format's border and nowhere else. Voxels are stored with the first index i
// running fastest, then j, then k, which is how NIfTI, NRRD and ITK lay them out.
//
// Methods only read what they are called on, except the LabelMap's SetSlice; so values may be shared between goroutines as long
// as nobody writes to them.
package volume

import "fmt"

// Geometry places a grid of voxels in the patient. The zero value is not valid: use New or fill all fields.
type Geometry struct {
	// Size is the number of voxels along i, j and k, each at least 1. A 2-D image has Size[2] = 1.
	Size [3]int
	// Origin is the centre of voxel (0,0,0) in mm, LPS.
	Origin [3]float64
	// Spacing is the distance between voxel centres along i, j and k in mm, each positive.
	Spacing [3]float64
	// Direction holds the unit vectors of the axes as columns: Direction[r][c] is component r (L, P, S) of axis c (i, j, k).
	Direction [3][3]float64
}

// Volume is an image: one scalar per voxel.
type Volume struct {
	Geometry
	// Voxels holds Size[0]·Size[1]·Size[2] values, i fastest, rescaled to the format's real units (HU for CT).
	// Integers beyond ±2^24 are rounded.
	Voxels []float32
}

// LabelMap gives every voxel the number of a segment, 0 for background.
type LabelMap struct {
	Geometry
	// Labels holds Size[0]·Size[1]·Size[2] values, i fastest.
	Labels []uint16
}

// New is a geometry of the given size and spacing (mm) with voxel (0,0,0) at the patient origin and i, j, k along L, P, S.
func New(size [3]int, spacing [3]float64) Geometry {
	return Geometry{Size: size, Spacing: spacing, Direction: [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}
}

// NewVolume is an image of zeros on the grid g, which must be valid.
func NewVolume(g Geometry) *Volume { return &Volume{Geometry: g, Voxels: make([]float32, g.Voxels())} }

// NewLabelMap is a label map of background on the grid g, which must be valid.
func NewLabelMap(g Geometry) *LabelMap {
	return &LabelMap{Geometry: g, Labels: make([]uint16, g.Voxels())}
}

// Validate checks the geometry and that there is one value a voxel.
func (v *Volume) Validate() error { return validate(v.Geometry, len(v.Voxels)) }

// Validate checks the geometry and that there is one label a voxel.
func (m *LabelMap) Validate() error { return validate(m.Geometry, len(m.Labels)) }

func validate(g Geometry, values int) error {
	if err := g.Validate(); err != nil {
		return err
	}
	if values != g.Voxels() {
		return fmt.Errorf("%d values for a grid of %s, want %d", values, g.sizeText(), g.Voxels())
	}
	return nil
}
