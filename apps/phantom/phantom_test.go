package phantom

import (
	"slices"
	"testing"
)

func TestAbdomen(t *testing.T) {
	v, labels := Abdomen([3]int{96, 80, 24}, [3]float64{3, 3, 6}, 1)
	again, _ := Abdomen([3]int{96, 80, 24}, [3]float64{3, 3, 6}, 1)
	if !slices.Equal(v.Voxels, again.Voxels) {
		t.Error("the same arguments give another volume")
	}
	for name, label := range Labels() {
		n, sum := 0, 0.0
		for i, l := range labels.Labels {
			if l == label {
				n++
				sum += float64(v.Voxels[i])
			}
		}
		if n < 200 {
			t.Errorf("%s has %d voxels, want enough to draw on", name, n)
			continue
		}
		if mean := sum / float64(n); mean < 20 || mean > 200 {
			t.Errorf("%s has a mean of %.0f HU, want soft tissue with contrast", name, mean)
		}
	}
}
