package nifti_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"scrawl/adapters/nifti"
	"scrawl/adapters/volume"
)

// blob is a label map with some ellipsoids, which packs about as well as real masks do; image adds a texture to it.
func blob(size [3]int) (*volume.LabelMap, *volume.Volume) {
	m := volume.NewLabelMap(volume.New(size, [3]float64{0.8, 0.8, 5}))
	v := volume.NewVolume(m.Geometry)
	n := 0
	for k := range size[2] {
		for j := range size[1] {
			for i := range size[0] {
				x, y, z := float64(i)/float64(size[0])-0.5, float64(j)/float64(size[1])-0.5, float64(k)/float64(size[2])-0.5
				if r := x*x + 2*y*y + z*z; r < 0.1 {
					m.Labels[n] = uint16(1 + int(r*50))
				}
				v.Voxels[n] = float32(int(m.Labels[n])*60 + (i*7+j*13+k*31)%23 - 200)
				n++
			}
		}
	}
	return m, v
}

var benchSizes = [][3]int{{164, 166, 26}, {512, 512, 100}}

func BenchmarkDecode(b *testing.B) {
	for _, size := range benchSizes {
		_, v := blob(size)
		for _, packed := range []bool{false, true} {
			file := drain(b, func(w io.Writer) error {
				return nifti.Encode(w, v, nifti.Options{DType: volume.Int16, Compress: packed})
			})
			b.Run(fmt.Sprintf("%dx%dx%d/gzip=%v", size[0], size[1], size[2], packed), func(b *testing.B) {
				b.SetBytes(int64(2 * v.Geometry.Voxels()))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := nifti.Decode(bytes.NewReader(file), volume.Limits{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkEncodeLabels(b *testing.B) {
	for _, size := range benchSizes {
		m, _ := blob(size)
		for _, packed := range []bool{false, true} {
			b.Run(fmt.Sprintf("%dx%dx%d/gzip=%v", size[0], size[1], size[2], packed), func(b *testing.B) {
				b.SetBytes(int64(m.Voxels()))
				b.ReportAllocs()
				for b.Loop() {
					if err := nifti.EncodeLabels(io.Discard, m, nifti.Options{Compress: packed}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
