package nrrd_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"scrawl/adapters/nrrd"
	"scrawl/adapters/volume"
)

func blob(size [3]int) *volume.LabelMap {
	m := volume.NewLabelMap(volume.New(size, [3]float64{0.8, 0.8, 5}))
	n := 0
	for k := range size[2] {
		for j := range size[1] {
			for i := range size[0] {
				x, y, z := float64(i)/float64(size[0])-0.5, float64(j)/float64(size[1])-0.5, float64(k)/float64(size[2])-0.5
				if r := x*x + 2*y*y + z*z; r < 0.1 {
					m.Labels[n] = uint16(1 + int(r*50))
				}
				n++
			}
		}
	}
	return m
}

func BenchmarkLabels(b *testing.B) {
	for _, size := range [][3]int{{164, 166, 26}, {512, 512, 100}} {
		m := blob(size)
		for _, packed := range []bool{false, true} {
			o := nrrd.Options{Compress: packed}
			name := fmt.Sprintf("%dx%dx%d/gzip=%v", size[0], size[1], size[2], packed)
			b.Run("encode/"+name, func(b *testing.B) {
				b.SetBytes(int64(m.Voxels()))
				b.ReportAllocs()
				for b.Loop() {
					if err := nrrd.EncodeLabels(io.Discard, m, o); err != nil {
						b.Fatal(err)
					}
				}
			})
			file := drain(b, func(w io.Writer) error { return nrrd.EncodeLabels(w, m, o) })
			b.Run("decode/"+name, func(b *testing.B) {
				b.SetBytes(int64(m.Voxels()))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := nrrd.DecodeLabels(bytes.NewReader(file), volume.Limits{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
