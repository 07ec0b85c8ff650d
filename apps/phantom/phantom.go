// Package phantom makes a small abdomen-like CT volume out of ellipsoids, with its label map: something to try Scrawl on where
// there is no patient's image at hand, and something whose truth is known for tests.
package phantom

import (
	"math"
	"math/rand/v2"

	"scrawl/adapters/volume"
)

// organ is an ellipsoid whose surface is dented by a slow wave. Positions and radii are shares of the body's half axes.
type organ struct {
	name    string
	label   uint16
	hu      float64 // mean attenuation, Hounsfield units
	texture float64 // standard deviation of the organ's own texture, HU
	centre  [3]float64
	radius  [3]float64
	tilt    float64 // rotation in the axial plane, radians
	dent    float64 // depth of the wave, share of the radius
}

// organs are in order of painting: later ones cover earlier ones. Patient axes: x to the left, y to the back, z up.
func organs() []organ {
	return []organ{
		{"fat", 0, -95, 12, [3]float64{0, 0, 0}, [3]float64{0.97, 0.97, 3}, 0, 0.01},
		{"cavity", 0, 30, 10, [3]float64{0, -0.05, 0}, [3]float64{0.86, 0.80, 2.5}, 0, 0.02},
		{"liver", 1, 105, 9, [3]float64{-0.38, -0.12, 0.15}, [3]float64{0.46, 0.55, 0.75}, 0.35, 0.12},
		{"stomach", 2, 55, 8, [3]float64{0.32, -0.38, 0.30}, [3]float64{0.36, 0.24, 0.50}, -0.5, 0.10},
		{"spleen", 3, 118, 8, [3]float64{0.62, 0.18, 0.25}, [3]float64{0.17, 0.36, 0.45}, 0.3, 0.06},
		{"kidney", 4, 150, 12, [3]float64{0.42, 0.42, -0.35}, [3]float64{0.15, 0.20, 0.45}, 0.4, 0.08},
		{"kidney", 4, 150, 12, [3]float64{-0.42, 0.42, -0.45}, [3]float64{0.15, 0.20, 0.45}, -0.4, 0.08},
		{"vertebra", 0, 320, 60, [3]float64{0, 0.55, 0}, [3]float64{0.17, 0.17, 3}, 0, 0.08},
		{"canal", 0, 20, 5, [3]float64{0, 0.78, 0}, [3]float64{0.07, 0.07, 3}, 0, 0},
		{"aorta", 5, 190, 7, [3]float64{0.07, 0.31, 0}, [3]float64{0.085, 0.085, 3}, 0, 0.03},
		{"vena cava", 0, 140, 7, [3]float64{-0.12, 0.30, 0}, [3]float64{0.09, 0.075, 3}, 0, 0.05},
	}
}

// Labels names the organs by their numbers in the label map.
func Labels() map[string]uint16 {
	names := map[string]uint16{}
	for _, o := range organs() {
		if o.label > 0 {
			names[o.name] = o.label
		}
	}
	return names
}

// Abdomen returns a CT volume in Hounsfield units and its label map. size is the number of voxels, spacing in mm; the body fills the
// axial plane whatever its size. The same arguments give the same volume.
func Abdomen(size [3]int, spacing [3]float64, seed uint64) (*volume.Volume, *volume.LabelMap) {
	g := volume.New(size, spacing)
	v, labels := volume.NewVolume(g), volume.NewLabelMap(g)
	rng := rand.New(rand.NewPCG(seed, 1))
	list := organs()
	wave := newWave(rng)
	i := 0
	for z := range size[2] {
		for y := range size[1] {
			for x := range size[0] {
				p := [3]float64{centred(x, size[0]) * 1.08, centred(y, size[1]) * 1.45, centred(z, size[2])}
				hu, label, texture := -1000.0, uint16(0), 4.0
				for k, o := range list {
					if o.inside(p, wave, k) {
						hu, label, texture = o.hu, o.label, o.texture
					}
				}
				hu += 0.6 * texture * wave.at([3]float64{9 * p[0], 9 * p[1], 9 * p[2]}, len(list))
				v.Voxels[i] = float32(hu + 14*rng.NormFloat64())
				labels.Labels[i] = label
				i++
			}
		}
	}
	smooth(v)
	return v, labels
}

// centred maps 0 … n−1 to −1 … 1.
func centred(i, n int) float64 { return (2*float64(i) + 1 - float64(n)) / float64(n) }

func (o organ) inside(p [3]float64, w wave, k int) bool {
	d := [3]float64{p[0] - o.centre[0], p[1] - o.centre[1], p[2] - o.centre[2]}
	sin, cos := math.Sincos(o.tilt)
	d[0], d[1] = cos*d[0]-sin*d[1], sin*d[0]+cos*d[1]
	r := 0.0
	for a := range d {
		q := d[a] / o.radius[a]
		r += q * q
	}
	if r > 2 {
		return false
	}
	limit := 1 + o.dent*w.at([3]float64{4 * p[0], 4 * p[1], 3 * p[2]}, k)
	return r <= limit*limit
}

// wave is a sum of a few plane waves: a cheap, smooth, repeatable field of about unit size.
type wave struct{ direction, phase [4][3]float64 }

func newWave(rng *rand.Rand) wave {
	var w wave
	for i := range w.direction {
		for a := range 3 {
			w.direction[i][a] = rng.NormFloat64()
			w.phase[i][a] = rng.Float64() * 2 * math.Pi
		}
	}
	return w
}

func (w wave) at(p [3]float64, k int) float64 {
	s := 0.0
	for i, d := range w.direction {
		s += math.Sin(d[0]*p[0] + d[1]*p[1] + d[2]*p[2] + w.phase[i][0] + float64(k)*w.phase[i][1])
	}
	return s / 2
}

// smooth averages each voxel with its neighbours in the slice, as a scanner's point spread does.
func smooth(v *volume.Volume) {
	w, h := v.Size[0], v.Size[1]
	row := make([]float32, max(w, h))
	for z := range v.Size[2] {
		plane := v.Voxels[z*w*h : (z+1)*w*h]
		for y := range h {
			average(plane[y*w:], row, 1, w)
		}
		for x := range w {
			average(plane[x:], row, w, h)
		}
	}
}

// average filters n values, stride apart, with ¼ ½ ¼.
func average(v, scratch []float32, stride, n int) {
	for i := range n {
		scratch[i] = v[i*stride]
	}
	for i := range n {
		v[i*stride] = 0.25*scratch[max(i-1, 0)] + 0.5*scratch[i] + 0.25*scratch[min(i+1, n-1)]
	}
}
