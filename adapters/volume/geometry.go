package volume

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Tolerance is the distance in mm within which Difference calls two grids the same: formats that store single precision
// (NIfTI) move voxels of a body-sized grid by up to a tenth of it.
const Tolerance = 1e-3

// minVolume is the least |det Direction|: below it the axes are so nearly in one plane that positions cannot be inverted.
const minVolume = 1e-4

// Affine maps homogeneous voxel indices (i, j, k, 1) to millimetres; rows are coordinates.
type Affine [4][4]float64

// SwapLPSRAS turns an affine to LPS into one to RAS and back: it negates the first two rows.
func (a Affine) SwapLPSRAS() Affine {
	for c := range a[0] {
		a[0][c], a[1][c] = 0-a[0][c], 0-a[1][c] // 0-x, not -x: no negative zeros
	}
	return a
}

// FromAffine splits an affine to LPS mm into a geometry for a grid of the given size. Sheared axes are kept as they are: only
// axes of length zero or that lie in one plane are refused, with ErrFormat.
func FromAffine(a Affine, size [3]int) (Geometry, error) {
	g := Geometry{Size: size}
	for c := range 3 {
		length := math.Hypot(math.Hypot(a[0][c], a[1][c]), a[2][c])
		if !(length > 0) || math.IsInf(length, 0) {
			return Geometry{}, fmt.Errorf("%w: index axis %d is (%g,%g,%g) mm long, want a finite vector other than 0",
				ErrFormat, c, a[0][c], a[1][c], a[2][c])
		}
		g.Spacing[c] = length
		for r := range 3 {
			g.Direction[r][c] = a[r][c] / length
		}
		g.Origin[c] = a[c][3]
	}
	if err := g.Validate(); err != nil {
		return Geometry{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return g, nil
}

// Affine maps voxel indices to LPS mm.
func (g Geometry) Affine() Affine {
	var a Affine
	for r := range 3 {
		for c := range 3 {
			a[r][c] = g.Direction[r][c] * g.Spacing[c]
		}
		a[r][3] = g.Origin[r]
	}
	a[3][3] = 1
	return a
}

// Validate checks that sizes are at least 1 and their product fits an int, spacings are positive, everything is finite, and the
// axes are unit vectors (to 1e-3) that do not lie in one plane. They need not be at right angles: NIfTI and NRRD may hold shears.
func (g Geometry) Validate() error {
	voxels := 1
	for axis, n := range g.Size {
		if n < 1 {
			return fmt.Errorf("size %s: want at least 1 voxel along every axis", g.sizeText())
		}
		if n > math.MaxInt/voxels {
			return fmt.Errorf("size %s: more voxels than can be counted", g.sizeText())
		}
		voxels *= n
		if s := g.Spacing[axis]; !(s > 0) || math.IsInf(s, 0) {
			return fmt.Errorf("spacing (%g,%g,%g): want positive mm", g.Spacing[0], g.Spacing[1], g.Spacing[2])
		}
		if o := g.Origin[axis]; math.IsNaN(o) || math.IsInf(o, 0) {
			return fmt.Errorf("origin (%g,%g,%g): want finite mm", g.Origin[0], g.Origin[1], g.Origin[2])
		}
		length := math.Hypot(math.Hypot(g.Direction[0][axis], g.Direction[1][axis]), g.Direction[2][axis])
		if !(math.Abs(length-1) <= 1e-3) {
			return fmt.Errorf("direction of axis %d has length %g, want 1", axis, length)
		}
	}
	if d := g.Determinant(); !(math.Abs(d) >= minVolume) {
		return fmt.Errorf("directions of the axes lie in one plane (determinant %g)", d)
	}
	return nil
}

// Voxels is the number of voxels.
func (g Geometry) Voxels() int { return g.Size[0] * g.Size[1] * g.Size[2] }

// Index is the place of voxel (i,j,k) in Voxels or Labels. The voxel must be inside.
func (g Geometry) Index(i, j, k int) int { return (k*g.Size[1]+j)*g.Size[0] + i }

// Inside reports whether voxel (i,j,k) is on the grid.
func (g Geometry) Inside(i, j, k int) bool {
	return i >= 0 && j >= 0 && k >= 0 && i < g.Size[0] && j < g.Size[1] && k < g.Size[2]
}

// IndexToWorld is the position in LPS mm of a voxel index, which may be fractional or outside the grid.
func (g Geometry) IndexToWorld(ijk [3]float64) [3]float64 {
	p := g.Origin
	for r := range 3 {
		for c := range 3 {
			p[r] += g.Direction[r][c] * g.Spacing[c] * ijk[c]
		}
	}
	return p
}

// WorldToIndex is the inverse of IndexToWorld; the geometry must be valid.
func (g Geometry) WorldToIndex(p [3]float64) [3]float64 {
	var d [3]float64
	for r := range 3 {
		d[r] = p[r] - g.Origin[r]
	}
	// Cramer's rule on the unit axes, which keeps the determinant near ±1 whatever the spacings are.
	a, b, c := g.Axis(0), g.Axis(1), g.Axis(2)
	det := Dot(a, Cross(b, c))
	return [3]float64{
		Dot(d, Cross(b, c)) / det / g.Spacing[0],
		Dot(a, Cross(d, c)) / det / g.Spacing[1],
		Dot(a, Cross(b, d)) / det / g.Spacing[2],
	}
}

// Determinant is that of Direction: 1 for right-handed orthogonal axes, -1 for left-handed ones.
func (g Geometry) Determinant() float64 { return Dot(g.Axis(0), Cross(g.Axis(1), g.Axis(2))) }

// RightHanded reports whether i × j points along k rather than against it.
func (g Geometry) RightHanded() bool { return g.Determinant() > 0 }

// Orthogonal reports whether the axes are at right angles, to a cosine of 1e-4.
func (g Geometry) Orthogonal() bool {
	a, b, c := g.Axis(0), g.Axis(1), g.Axis(2)
	return math.Abs(Dot(a, b)) < 1e-4 && math.Abs(Dot(b, c)) < 1e-4 && math.Abs(Dot(a, c)) < 1e-4
}

// NearestAxis tells for each index axis which patient axis it is closest to: 0 for L, 1 for P, 2 for S, each used once; and
// whether it runs towards it (+1) or away from it (-1). Of the six assignments it is the one with the largest sum of cosines.
func (g Geometry) NearestAxis() (patient, sign [3]int) {
	best := -1.0
	for _, p := range [6][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		var sum float64
		for c, r := range p {
			sum += math.Abs(g.Direction[r][c])
		}
		if sum > best+1e-9 { // ties go to the first, so that rounding does not decide
			best, patient = sum, p
		}
	}
	for c, r := range patient {
		sign[c] = 1
		if g.Direction[r][c] < 0 {
			sign[c] = -1
		}
	}
	return patient, sign
}

// Orientation names the direction in which each index axis grows, nearest first: "LPS" for an identity Direction, "RAS" for a
// grid stored the way NIfTI's convention has it.
func (g Geometry) Orientation() string {
	patient, sign := g.NearestAxis()
	var code [3]byte
	for c := range 3 {
		code[c] = "LPS"[patient[c]]
		if sign[c] < 0 {
			code[c] = "RAI"[patient[c]]
		}
	}
	return string(code[:])
}

// AcquisitionPlane is the plane in which the slices were most likely taken: the one across the axis of largest spacing, and k
// when spacings are equal (to 1 %), since scanners store slice after slice.
func (g Geometry) AcquisitionPlane() Plane {
	best := PlaneK
	for _, p := range [2]Plane{PlaneJ, PlaneI} {
		if g.Spacing[p] > 1.01*g.Spacing[best] {
			best = p
		}
	}
	return best
}

// Crop is the geometry of the box of size voxels whose first voxel is lo. The box may reach outside the grid, which is padding.
func (g Geometry) Crop(lo, size [3]int) Geometry {
	g.Origin = g.IndexToWorld([3]float64{float64(lo[0]), float64(lo[1]), float64(lo[2])})
	g.Size = size
	return g
}

// Equal reports whether the grids have the same size and no voxel is further than tolerance mm from its counterpart.
func (g Geometry) Equal(other Geometry, tolerance float64) bool {
	if g.Size != other.Size {
		return false
	}
	distance, _ := g.furthest(other)
	return distance <= tolerance
}

// furthest finds the corner voxel that moves most between grids of one size: the distance between affine maps is largest at a corner.
func (g Geometry) furthest(other Geometry) (distance float64, corner [3]int) {
	distance = -1
	for n := range 8 {
		var at [3]int
		var ijk [3]float64
		for c := range 3 {
			if n>>c&1 == 1 {
				at[c] = g.Size[c] - 1
			}
			ijk[c] = float64(at[c])
		}
		p, q := g.IndexToWorld(ijk), other.IndexToWorld(ijk)
		d := math.Hypot(math.Hypot(p[0]-q[0], p[1]-q[1]), p[2]-q[2])
		if math.IsNaN(d) {
			return math.Inf(1), at
		}
		if d > distance {
			distance, corner = d, at
		}
	}
	return distance, corner
}

// Difference says in words how other differs from g, within Tolerance: "" when it does not, otherwise each of size, spacing,
// origin and direction that differs, g's value first.
func (g Geometry) Difference(other Geometry) string {
	if g.Equal(other, Tolerance) {
		return ""
	}
	var parts []string
	if g.Size != other.Size {
		parts = append(parts, fmt.Sprintf("size %s against %s", g.sizeText(), other.sizeText()))
	}
	var spacing, origin, direction bool
	for c := range 3 {
		extent := g.Spacing[c] * float64(max(g.Size[c]-1, 1))
		spacing = spacing || !(math.Abs(g.Spacing[c]-other.Spacing[c])*float64(max(g.Size[c]-1, 1)) <= Tolerance)
		origin = origin || !(math.Abs(g.Origin[c]-other.Origin[c]) <= Tolerance)
		for r := range 3 {
			direction = direction || !(math.Abs(g.Direction[r][c]-other.Direction[r][c])*extent <= Tolerance)
		}
	}
	if spacing {
		parts = append(parts, fmt.Sprintf("spacing %s against %s mm", triple(g.Spacing), triple(other.Spacing)))
	}
	if origin {
		parts = append(parts, fmt.Sprintf("origin %s against %s mm (LPS)", triple(g.Origin), triple(other.Origin)))
	}
	if direction {
		parts = append(parts, fmt.Sprintf("direction of i, j, k %s against %s", g.directionText(), other.directionText()))
	}
	if len(parts) == 0 { // each within tolerance, but not their sum
		distance, corner := g.furthest(other)
		parts = append(parts, fmt.Sprintf("voxel %v lies %.3g mm apart", corner, distance))
	}
	return strings.Join(parts, "; ")
}

// ErrGeometry marks label maps and images that lie on different grids.
var ErrGeometry = errors.New("grids differ")

// SameGrid is nil when other lies on g, and otherwise an ErrGeometry with the difference in words.
func (g Geometry) SameGrid(other Geometry) error {
	if d := g.Difference(other); d != "" {
		return fmt.Errorf("%w: %s", ErrGeometry, d)
	}
	return nil
}

// Axis is the unit vector of index axis c, which is column c of Direction.
func (g Geometry) Axis(c int) [3]float64 {
	return [3]float64{g.Direction[0][c], g.Direction[1][c], g.Direction[2][c]}
}

func (g Geometry) sizeText() string {
	return fmt.Sprintf("%d×%d×%d", g.Size[0], g.Size[1], g.Size[2])
}

func (g Geometry) directionText() string {
	return triple(g.Axis(0)) + " " + triple(g.Axis(1)) + " " + triple(g.Axis(2))
}

func triple(v [3]float64) string { return fmt.Sprintf("(%.6g,%.6g,%.6g)", v[0], v[1], v[2]) }

// Dot is the scalar product.
func Dot(a, b [3]float64) float64 { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }

// Cross is the vector product.
func Cross(a, b [3]float64) [3]float64 {
	return [3]float64{a[1]*b[2] - a[2]*b[1], a[2]*b[0] - a[0]*b[2], a[0]*b[1] - a[1]*b[0]}
}
