package nrrd

import (
	"fmt"
	"math"
	"strings"

	"scrawl/adapters/volume"
)

// place sorts the axes into those of space and at most one of components, and puts the grid into the patient.
func (h *header) place(l *layout, axes []axis, lim volume.Limits) error {
	var spatial []axis
	l.components = 1
	for i, a := range axes {
		switch {
		case a.list && a.size == 1:
		case a.list && l.components > 1:
			return fmt.Errorf("%w: two axes of components, want one number a voxel", volume.ErrUnsupported)
		case a.list:
			l.components, l.listFirst = a.size, len(spatial) == 0
			if !l.listFirst && i != len(axes)-1 {
				return fmt.Errorf("%w: an axis of %d components between those of space", volume.ErrUnsupported, a.size)
			}
		default:
			spatial = append(spatial, a)
		}
	}
	for i := len(spatial) - 1; i >= 0 && len(spatial) > 3; i-- {
		if spatial[i].size == 1 {
			spatial = append(spatial[:i], spatial[i+1:]...)
		}
	}
	if len(spatial) == 0 || len(spatial) > 3 {
		return fmt.Errorf("%w: %d axes of space, want 1 to 3", volume.ErrUnsupported, len(spatial))
	}
	size := [3]int{1, 1, 1}
	for i, a := range spatial {
		size[i] = a.size
	}
	// The components first, so that their product with the type's bytes cannot overflow.
	if err := lim.Check([3]int{l.components, 1, 1}, 1); err != nil {
		return err
	}
	if err := lim.Check(size, l.format.Type.Bytes()*l.components); err != nil {
		return err
	}
	affine, err := h.affine(spatial)
	if err != nil {
		return err
	}
	l.geometry, err = volume.FromAffine(affine, size)
	return err
}

// affine maps indices of up to three axes to LPS mm.
func (h *header) affine(axes []axis) (volume.Affine, error) {
	flip, err := h.flips()
	if err != nil {
		return volume.Affine{}, err
	}
	units := quoted(h.fields["space units"])
	scale := func(r int) float64 {
		if r < len(units) {
			return flip[r] * millimetres(units[r])
		}
		return flip[r]
	}
	a := volume.Affine{3: {0, 0, 0, 1}}
	var have [3]bool
	for c, ax := range axes {
		if ax.vector == nil {
			continue
		}
		if len(ax.vector) > 3 {
			return a, fmt.Errorf("%w: a space of %d dimensions, want 2 or 3", volume.ErrUnsupported, len(ax.vector))
		}
		have[c] = true
		for r, x := range ax.vector {
			a[r][c] = 0 + x*scale(r)
		}
	}
	complete(&a, axes, have, flip)
	if text, ok := h.fields["space origin"]; ok {
		v, err := parseVectors(text)
		if err != nil || len(v) != 1 || len(v[0]) > 3 {
			return a, fmt.Errorf("%w: space origin %.60q, want one vector such as (0,0,0)", volume.ErrFormat, text)
		}
		for r, x := range v[0] {
			a[r][3] = 0 + x*scale(r)
		}
	}
	return a, nil
}

// complete fills the columns of axes without a direction: along an axis of space that is still free, and at a right angle to the
// other two where there are two, so that an image without depth lies in its plane.
func complete(a *volume.Affine, axes []axis, have [3]bool, flip [3]float64) {
	for c := range 3 {
		if have[c] {
			continue
		}
		spacing := 1.0
		if c < len(axes) && axes[c].spacing != 0 {
			spacing = math.Abs(axes[c].spacing) * millimetres(axes[c].unit)
		}
		var v [3]float64
		v[c] = flip[c]
		if c == 2 && have[0] && have[1] {
			n := [3]float64{
				a[1][0]*a[2][1] - a[2][0]*a[1][1],
				a[2][0]*a[0][1] - a[0][0]*a[2][1],
				a[0][0]*a[1][1] - a[1][0]*a[0][1],
			}
			if length := math.Hypot(math.Hypot(n[0], n[1]), n[2]); length > 0 {
				v = [3]float64{n[0] / length, n[1] / length, n[2] / length}
			}
		}
		for r := range 3 {
			a[r][c] = 0 + v[r]*spacing
		}
	}
}

// flips are the signs that take the header's space to LPS.
func (h *header) flips() ([3]float64, error) {
	space := strings.ToLower(h.fields["space"])
	if strings.HasSuffix(space, "-time") || space == "rast" || space == "last" || space == "lpst" {
		return [3]float64{}, fmt.Errorf("%w: space %q with time, want three dimensions", volume.ErrUnsupported, space)
	}
	switch space {
	case "", "left-posterior-superior", "lps", "scanner-xyz", "3d-right-handed", "3d-left-handed":
		return [3]float64{1, 1, 1}, nil
	case "right-anterior-superior", "ras":
		return [3]float64{-1, -1, 1}, nil
	case "left-anterior-superior", "las":
		return [3]float64{1, -1, 1}, nil
	}
	return [3]float64{}, fmt.Errorf("%w: space %.60q, want left-posterior-superior, right-anterior-superior or left-anterior-superior", volume.ErrFormat, space)
}

// millimetres is the length of a unit; what is not known is taken for mm.
func millimetres(unit string) float64 {
	switch strings.TrimSpace(unit) {
	case "m":
		return 1000
	case "cm":
		return 10
	case "um", "µm", "μm", "micron", "microns":
		return 1e-3
	case "nm":
		return 1e-6
	}
	return 1
}

func (h *header) tooManyComponents(l layout) error {
	return fmt.Errorf("%w: %d components a voxel (colours, vectors or layers), want 1", volume.ErrUnsupported, l.components)
}
