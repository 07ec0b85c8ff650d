package nifti_test

import (
	"bytes"
	"math"
	"testing"

	"pgregory.net/rapid"

	"scrawl/adapters/nifti"
	"scrawl/adapters/volume"
)

// drawGeometry draws one of the 48 orientations, tilted, with small sizes.
func drawGeometry(t *rapid.T) volume.Geometry {
	g := volume.New([3]int{}, [3]float64{})
	perm := rapid.Permutation([]int{0, 1, 2}).Draw(t, "axes")
	a := rapid.Float64Range(-0.7, 0.7).Draw(t, "tilt")
	g.Direction = [3][3]float64{}
	for c, r := range perm {
		sign := rapid.SampledFrom([]float64{1, -1}).Draw(t, "sign")
		unit := [3]float64{}
		unit[r] = sign
		g.Direction[0][c] = math.Cos(a)*unit[0] - math.Sin(a)*unit[1]
		g.Direction[1][c] = math.Sin(a)*unit[0] + math.Cos(a)*unit[1]
		g.Direction[2][c] = unit[2]
		g.Size[c] = rapid.IntRange(1, 6).Draw(t, "size")
		g.Spacing[c] = rapid.Float64Range(0.1, 8).Draw(t, "spacing")
		g.Origin[c] = rapid.Float64Range(-500, 500).Draw(t, "origin")
	}
	return g
}

func drawOptions(t *rapid.T) nifti.Options {
	return nifti.Options{
		DType:    rapid.SampledFrom(append(volume.DTypes(), "")).Draw(t, "type"),
		Compress: rapid.Bool().Draw(t, "compress"),
		Version:  rapid.IntRange(0, 2).Draw(t, "version"),
	}
}

func TestRoundTripLabels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := volume.NewLabelMap(drawGeometry(t))
		o := drawOptions(t)
		top := 65535
		switch o.DType {
		case volume.Int8:
			top = 127
		case volume.Uint8:
			top = 255
		case volume.Int16:
			top = 32767
		}
		for i := range m.Labels {
			m.Labels[i] = uint16(rapid.IntRange(0, top).Draw(t, "label"))
		}
		var b bytes.Buffer
		if err := nifti.EncodeLabels(&b, m, o); err != nil {
			t.Fatal(err)
		}
		back, err := nifti.DecodeLabels(&b, volume.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if d := m.Difference(back.Geometry); d != "" {
			t.Fatal(d)
		}
		for i, label := range m.Labels {
			if back.Labels[i] != label {
				t.Fatalf("label %d came back as %d", label, back.Labels[i])
			}
		}
	})
}

func TestRoundTripImages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := volume.NewVolume(drawGeometry(t))
		o := drawOptions(t)
		for i := range v.Voxels {
			switch {
			case o.DType == "" || o.DType.IsFloat():
				v.Voxels[i] = rapid.Float32().Draw(t, "voxel")
			case o.DType[0] == 'u':
				v.Voxels[i] = float32(rapid.IntRange(0, 255).Draw(t, "voxel"))
			default:
				v.Voxels[i] = float32(rapid.IntRange(-128, 127).Draw(t, "voxel"))
			}
		}
		var b bytes.Buffer
		if err := nifti.Encode(&b, v, o); err != nil {
			t.Fatal(err)
		}
		back, err := nifti.Decode(&b, volume.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if d := v.Difference(back.Geometry); d != "" {
			t.Fatal(d)
		}
		back.Geometry = v.Geometry
		if back.Hash() != v.Hash() {
			t.Fatalf("voxels %v came back as %v", v.Voxels, back.Voxels)
		}
	})
}
