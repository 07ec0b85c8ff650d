package segment

import (
	"math"

	"scrawl/adapters/transform"
	"scrawl/adapters/volume"
)

// grid is how the network's axes D, H, W (0, 1, 2 here; W is fastest) lie in a volume, whose own axes are i, j, k (i is fastest).
type grid struct {
	volume [3]int // the volume's size
	axis   [3]int // of the volume, for each axis of the grid
	flip   [3]bool
	native [3]int // the grid's size in the volume's voxels
	size   [3]int // and in voxels of its own spacing
}

// gridOf lays a network's grid over a volume.
func (m *Model) gridOf(v volume.Geometry) grid {
	g := grid{volume: v.Size}
	flat := len(m.Engine.Network().Size) == 2
	switch {
	case flat && v.Size[2] == 1:
		g.axis = [3]int{2, 1, 0}
	case flat:
		p := v.AcquisitionPlane()
		x, y := p.Axes()
		g.axis = [3]int{int(p), y, x}
	case m.Input.Orientation == "":
		g.axis = [3]int{2, 1, 0}
	default:
		wanted, positive, _ := directions(m.Input.Orientation) // checked by Validate
		patient, sign := v.NearestAxis()
		for t := range 3 {
			for a := range 3 {
				if patient[a] == wanted[t] {
					g.axis[t], g.flip[t] = a, (sign[a] > 0) != positive[t]
				}
			}
		}
	}
	var spacing [3]float64
	for t, a := range g.axis {
		g.native[t], spacing[t] = v.Size[a], v.Spacing[a]
	}
	g.size = m.resized(g.native, spacing, flat)
	return g
}

// resized is the grid's size in its own spacing.
func (m *Model) resized(native [3]int, spacing [3]float64, flat bool) [3]int {
	size, first := native, 0
	if flat {
		first = 1
	}
	wanted := spacing
	switch {
	case m.Input.Resize:
		// The finest spacing that fits, the same for all axes, and none finer than the image's own.
		coarse := spacing[first]
		for t := first; t < 3; t++ {
			coarse = min(coarse, spacing[t])
		}
		for t := first; t < 3; t++ {
			coarse = max(coarse, float64(native[t])*spacing[t]/float64(m.Input.Patch[t-first]))
		}
		for t := first; t < 3; t++ {
			wanted[t] = coarse
		}
	case m.Input.Spacing != nil:
		copy(wanted[first:], m.Input.Spacing)
	}
	for t := first; t < 3; t++ {
		size[t] = max(int(math.Round(float64(native[t])*spacing[t]/wanted[t])), 1)
		if m.Input.Resize {
			size[t] = min(size[t], m.Input.Patch[t-first])
		}
	}
	return size
}

// strides are the steps in the volume's memory along D, H and W, and where (0,0,0) lies.
func (g grid) strides() (stride [3]int, origin int) {
	memory := [3]int{1, g.volume[0], g.volume[0] * g.volume[1]}
	for t, a := range g.axis {
		stride[t] = memory[a]
		if g.flip[t] {
			origin += (g.volume[a] - 1) * memory[a]
			stride[t] = -stride[t]
		}
	}
	return stride, origin
}

// cut brings a volume onto the grid, intensities scaled to 0…1: D·H·W values, W fastest.
func (g grid) cut(img Image) []float32 {
	scaled := transform.Rescale(img.Volume.Voxels, float32(img.Low), float32(img.High))
	stride, origin := g.strides()
	out := make([]float32, 0, g.native[0]*g.native[1]*g.native[2])
	for d := range g.native[0] {
		for h := range g.native[1] {
			at := origin + d*stride[0] + h*stride[1]
			for range g.native[2] {
				out = append(out, scaled[at])
				at += stride[2]
			}
		}
	}
	return transform.Resize3(out, reversed(g.native), reversed(g.size))
}

// reversed turns [D,H,W] into (x,y,z) with x fastest, and back.
func reversed(s [3]int) [3]int { return [3]int{s[2], s[1], s[0]} }

// toGrid is the voxel of the grid in which the centre of a volume's voxel lies, given by its place in memory.
func (g grid) toGrid(at int) [3]int {
	v := [3]int{at % g.volume[0], at / g.volume[0] % g.volume[1], at / (g.volume[0] * g.volume[1])}
	var p [3]int
	for t, a := range g.axis {
		n := v[a]
		if g.flip[t] {
			n = g.volume[a] - 1 - n
		}
		p[t] = (2*n + 1) * g.size[t] / (2 * g.native[t])
	}
	return p
}

// toVolume is the place in the volume's memory of the voxel in which the centre of a voxel of the grid lies.
func (g grid) toVolume(p [3]int) int {
	stride, at := g.strides()
	for t := range 3 {
		at += (2*p[t] + 1) * g.native[t] / (2 * g.size[t]) * stride[t]
	}
	return at
}

// span is a window's place along one axis: n voxels of the grid from start on, which may reach beyond it on both sides.
type span struct{ start, n int }

// spans cover n voxels with windows of patch voxels, or with one padded window where the patch is as large or 0.
func spans(n, patch, multiple int, overlap float64) []span {
	if patch == 0 {
		return []span{{0, (n + multiple - 1) / multiple * multiple}}
	}
	if n <= patch {
		return []span{{-((patch - n) / 2), patch}}
	}
	step := max(int(float64(patch)*(1-overlap)), 1)
	count := (n-patch+step-1)/step + 1
	all := make([]span, count)
	for i := range all {
		all[i] = span{i * (n - patch) / (count - 1), patch}
	}
	return all
}

// around is a window of patch voxels that holds lo to hi, inside n voxels as far as it can be.
func around(lo, hi, n, patch, multiple int) span {
	if patch == 0 || n <= patch {
		return spans(n, patch, multiple, 0)[0]
	}
	return span{min(max((lo+hi+1-patch)/2, 0), n-patch), patch}
}

// window is a box of the grid that the network sees at once.
type window [3]span

// extent is the window's size in the form of the network's spatial axes.
func (w window) extent(axes int) []int {
	e := make([]int, 0, 3)
	for t := 3 - axes; t < 3; t++ {
		e = append(e, w[t].n)
	}
	return e
}

func (w window) voxels() int { return w[0].n * w[1].n * w[2].n }

// each calls f for every voxel of a window with its place in the window's memory and on the grid.
func (w window) each(f func(at int, p [3]int)) {
	at := 0
	for d := range w[0].n {
		for h := range w[1].n {
			for x := range w[2].n {
				f(at, [3]int{w[0].start + d, w[1].start + h, w[2].start + x})
				at++
			}
		}
	}
}

func (g grid) inside(p [3]int) bool {
	return p[0] >= 0 && p[1] >= 0 && p[2] >= 0 && p[0] < g.size[0] && p[1] < g.size[1] && p[2] < g.size[2]
}

func (g grid) index(p [3]int) int { return (p[0]*g.size[1]+p[1])*g.size[2] + p[2] }

// see copies a window out of the grid's values. What lies outside repeats the outermost voxels.
func (g grid) see(work []float32, w window) []float32 {
	out := make([]float32, 0, w.voxels())
	for d := range w[0].n {
		z := clamp(w[0].start+d, g.size[0])
		for h := range w[1].n {
			row := work[(z*g.size[1]+clamp(w[1].start+h, g.size[1]))*g.size[2]:][:g.size[2]]
			for x := range w[2].n {
				out = append(out, row[clamp(w[2].start+x, g.size[2])])
			}
		}
	}
	return out
}

func clamp(v, n int) int { return min(max(v, 0), n-1) }
