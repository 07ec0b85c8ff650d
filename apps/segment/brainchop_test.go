package segment

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"scrawl/adapters/format"
	"scrawl/adapters/measure"
	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
	"scrawl/engine/tensor"
)

// sharedData is a folder of real images and networks, beside the repository or where SCRAWL_SHARED says.
func sharedData(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("SCRAWL_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	dir = filepath.Join(dir, "data")
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("SCRAWL_REQUIRE") == "1" && os.Getenv("SCRAWL_SHARED") != "" {
			t.Fatalf("no real images: %v", err)
		}
		t.Skipf("SKIPPED, no real images at %s: run SCRAWL_SHARED=/folder/with/data go test ./apps/segment", dir)
	}
	return dir
}

// brainNetwork reads one of the brainchop project's networks of volumes, which tell white from grey matter in T1-weighted MR. Their
// class 1 is white matter and class 2 grey matter; D, H and W run towards L, I and A, at 1 mm.
func brainNetwork(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(sharedData(t), "weights_brainchop", "onnx", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func brainModel(t *testing.T, data []byte, in Input) *Model {
	t.Helper()
	parsed, err := onnx.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	in.Orientation, in.Percentiles = "LIA", [2]float64{0, 100}
	m := newModel(t, parsed, in, Class{"white matter", 1}, Class{"grey matter", 2})
	m.Thesis.Steps, m.Thesis.MaxCopies = 4, 2
	return m
}

// brain is a crop of a head, with its labels if it has any.
func brain(t *testing.T, name string, lo, size [3]int) (Image, []uint16) {
	t.Helper()
	read := func(file string) *volume.Volume {
		f, err := os.Open(filepath.Join(sharedData(t), "volumes", name, file))
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		v, err := format.Decode(file, f, volume.DefaultLimits())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	whole, truth := read("image.nii.gz"), read("label.nii.gz")
	img := Image{Volume: volume.NewVolume(whole.Crop(lo, size))}
	img.Low, img.High = float64(slices.Min(whole.Voxels)), float64(slices.Max(whole.Voxels))
	var labels []uint16
	for k := range size[2] {
		for j := range size[1] {
			for i := range size[0] {
				from := whole.Index(lo[0]+i, lo[1]+j, lo[2]+k)
				img.Volume.Voxels[img.Volume.Index(i, j, k)] = whole.Voxels[from]
				if truth != nil {
					labels = append(labels, tissue(truth.Voxels[from]))
				}
			}
		}
	}
	return img, labels
}

// tissue is the network's label of one of FreeSurfer's: cerebral white matter, or cerebral cortex.
func tissue(label float32) uint16 {
	switch label {
	case 2, 41:
		return 1
	case 3, 42:
		return 2
	}
	return 0
}

// What is served is what the network says: the same as running the file as it is, voxel by voxel.
func TestBrainAsTheRuntimeAnswers(t *testing.T) {
	data := brainNetwork(t, "model5_gw_ae.onnx")
	img, _ := brain(t, "mr_brain_t1_unlabelled", [3]int{70, 66, 90}, [3]int{72, 60, 56})
	size := img.Volume.Size
	s, err := orttest.Library(t).NewSession(data, ort.Options{Threads: 1, NoSpinning: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// The image is stored as L, I, A; D is its first axis.
	x := tensor.Zeros[float32](1, 1, size[0], size[1], size[2])
	for k := range size[2] {
		for j := range size[1] {
			for i := range size[0] {
				v := float64(img.Volume.Voxels[img.Volume.Index(i, j, k)])
				x.Float32s()[(i*size[1]+j)*size[2]+k] = float32((v - img.Low) / (img.High - img.Low))
			}
		}
	}
	out, err := s.Run(t.Context(), map[string]*tensor.Tensor{s.Inputs()[0].Name: x}, nil)
	if err != nil {
		t.Fatal(err)
	}
	logits := out[s.Outputs()[0].Name]
	want := likeliest(logits)
	got := segmented(t, brainModel(t, data, Input{}), img)
	differ := 0
	for at, label := range got {
		i, j, k := at%size[0], at/size[0]%size[1], at/(size[0]*size[1])
		if want[(i*size[1]+j)*size[2]+k] != label {
			differ++
		}
	}
	if differ > len(got)/100000 {
		t.Errorf("%d of %d voxels differ from the runtime's own answer", differ, len(got))
	}
	if w, g := count(got, 1), count(got, 2); w < len(got)/10 || g < len(got)/10 {
		t.Errorf("%d voxels of white and %d of grey matter in %d", w, g, len(got))
	}
	// In windows the borders of a window lack their surroundings, which overlap makes up for.
	tiled := segmented(t, brainModel(t, data, Input{Patch: []int{56, 56, 56}, Overlap: 0.5}), img)
	for label := range uint8(3) {
		if d := overlap(got, tiled, label); d < 0.75 {
			t.Errorf("label %d: windows of 56 voxels agree with the whole by a Dice of %.3f", label, d)
		}
	}
}

func overlap(a, b []uint8, label uint8) float64 {
	is := func(labels []uint8) []bool {
		m := make([]bool, len(labels))
		for i, l := range labels {
			m[i] = l == label
		}
		return m
	}
	return measure.Dice(is(a), is(b))
}

// Strokes in two slices teach a network of volumes another scanner's images: skull-stripped ones of another project.
func TestBrainLearnsFromStrokes(t *testing.T) {
	m := brainModel(t, brainNetwork(t, "model5_gw_ae.onnx"), Input{})
	m.Thesis.LearningRate, m.Thesis.Steps, m.Thesis.Alpha = 0.004, 4, 0.6
	img, truth := brain(t, "mr_brain_vxm", [3]int{38, 58, 82}, [3]int{40, 44, 36})
	score := func(labels []uint8) (sum float64) {
		for l := range uint8(3) {
			other := make([]uint8, len(truth))
			for i, v := range truth {
				other[i] = uint8(v)
			}
			sum += overlap(labels, other, l) / 3
		}
		return sum
	}
	before := score(segmented(t, m, img))
	var l Learned
	var st State
	none := scribble.NewSet(img.Volume.Size)
	marks := []Mark{{1, none}, {2, none}, {0, none}}
	for _, k := range []int{9, 26} {
		for n := range marks {
			marks[n].Strokes = marks[n].Strokes.Merge(rowsOf(img, truth, uint16(marks[n].Class), k))
		}
		var r Report
		l, st, r = draw(t, m, img, Request{Marks: slices.Clone(marks)}, l, st)
		if r.Windows == 0 || r.Diverged > 0 {
			t.Errorf("slice %d: %d windows were learned from and %d given up", k, r.Windows, r.Diverged)
		}
		t.Logf("%+v", r)
	}
	adapted, err := m.Segment(t.Context(), img, m.Teacher(l), Alone)
	if err != nil {
		t.Fatal(err)
	}
	after := score(adapted)
	t.Logf("mean Dice of three classes without strokes: %.3f before, %.3f after", before, after)
	if after < before+0.02 {
		t.Errorf("mean Dice %.3f before and %.3f after two interactions", before, after)
	}
}

// rowsOf marks a class along a few rows of a slice, as strokes of one pixel's width. Class 0 is marked by negative strokes.
func rowsOf(img Image, truth []uint16, class uint16, k int) scribble.Set {
	s := scribble.Stroke{Axis: 2, Slice: k, Positive: class != 0}
	for j := 6; j < img.Volume.Size[1]; j += 12 {
		for i := range img.Volume.Size[0] {
			if truth[img.Volume.Index(i, j, k)] == class {
				s.Pixels = append(s.Pixels, scribble.Point{X: i, Y: j})
			}
		}
	}
	return scribble.NewSet(img.Volume.Size, s)
}
