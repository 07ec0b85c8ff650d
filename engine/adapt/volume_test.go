package adapt_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// meshNet is a small network of volumes in the manner of MeshNet (Fedorov et al. 2017): dilated 3×3×3 convolutions at full resolution.
// sizes are those of its input's axes N, D, H and W as an exporter would write them, -1 where free.
func meshNet(input, classes int, sizes ...int) *onnx.Model {
	shape := func(channels int) onnx.Shape {
		s := onnx.Shape{}
		for i, size := range sizes {
			d := onnx.Dim{Size: int64(size)}
			if size < 0 {
				d = onnx.Dim{Symbol: string("NDHW"[i])}
			}
			s = append(s, d)
		}
		return slices.Insert(s, 1, onnx.Dim{Size: int64(channels)})
	}
	g := &onnx.Graph{Name: "meshnet",
		Inputs:  []onnx.Value{{Name: "input", DType: tensor.Float32, Shape: shape(input)}},
		Outputs: []onnx.Value{{Name: "output", DType: tensor.Float32, Shape: shape(classes)}}}
	b := onnx.NewBuilder(g, "")
	rng := rand.New(rand.NewPCG(9, 9))
	weight := func(name string, scale float64, shape ...int) string {
		t := tensor.Zeros[float32](shape...)
		for i := range t.Float32s() {
			t.Float32s()[i] = float32(scale * rng.NormFloat64())
		}
		g.Initializers = append(g.Initializers, onnx.Initializer{Name: name, Tensor: t})
		return name
	}
	x := "input"
	for i, dilation := range []int64{1, 2, 1} {
		in := 4
		if i == 0 {
			in = input
		}
		name := "block" + string(rune('0'+i))
		x = b.Op("Conv", []string{x, weight(name+".weight", math.Sqrt(2/float64(27*in)), 4, in, 3, 3, 3), weight(name+".bias", 0.1, 4)},
			onnx.WithInts("kernel_shape", 3, 3, 3), onnx.WithInts("dilations", dilation, dilation, dilation),
			onnx.WithInts("pads", slices.Repeat([]int64{dilation}, 6)...))
		x = b.Op("Elu", []string{x}, onnx.WithFloat("alpha", 1))
	}
	b.Alias(b.Op("Conv", []string{x, weight("head.weight", 0.5, classes, 4, 1, 1, 1), weight("head.bias", 0.1, classes)}, onnx.WithInts("kernel_shape", 1, 1, 1)), "output")
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": onnx.Opset}, Graph: g}
}

// volumeSize is odd and unequal, so that no axis can stand in for another.
var volumeSize = []int{5, 7, 6}

const voxels = 5 * 7 * 6

// scribbledVolume is an interaction on noise in which two short strokes mark each class.
func scribbledVolume(channels, classes int) adapt.Slice {
	d, h, w := volumeSize[0], volumeSize[1], volumeSize[2]
	s := adapt.Slice{X: noise(21, 1, channels, d, h, w), Scribble: tensor.Zeros[float32](1, classes, d, h, w), Marked: tensor.Zeros[float32](1, 1, d, h, w)}
	for i := range voxels {
		class := i / w % classes
		s.Scribble.Float32s()[class*voxels+i] = 1
		if x, z := i%w, i/(h*w); x > 1 && z%2 == 0 {
			s.Marked.Float32s()[i] = 1
		}
	}
	return s
}

// TestVolumesAdapt runs the thesis's method on a network of volumes, on the reference interpreter and on the runtime.
func TestVolumesAdapt(t *testing.T) {
	n := network(t, meshNet(1, 3, -1, -1, -1, -1), adapt.Trainable{})
	if n.Classes != 3 || !slices.Equal(n.Size, []int{0, 0, 0}) {
		t.Fatalf("%d classes, size %v", n.Classes, n.Size)
	}
	a, b := engine(t, n, onInterpreter), engine(t, n, onRuntime(t))
	s, c := scribbledVolume(1, 3), quick()
	c.LearningRate = 0.05
	pa, sa, ra := interact(t, a, c, a.NewSets(1), s, 1)
	pb, sb, rb := interact(t, b, c, b.NewSets(1), s, 1)
	expectClose(t, "answer", pb.Float32s(), pa.Float32s(), 1e-5)
	expectClose(t, "student", moves(sb.Student, n.Source()), moves(sa.Student, n.Source()), 1e-3)
	expectClose(t, "teacher", moves(sb.Averages[0], n.Source()), moves(sa.Averages[0], n.Source()), 1e-3)
	if !slices.Equal(pb.Shape(), []int{1, 3, 5, 7, 6}) || ra.LowVariance != voxels || rb.LowVariance != voxels || rb.Copies != 6 {
		t.Errorf("answer %v, reports %+v and %+v", pb.Shape(), ra, rb)
	}
	if !(rb.Losses[1][1] < rb.Losses[0][1]) {
		t.Errorf("losses %v", rb.Losses)
	}
	flat := s
	flat.X = noise(1, 1, 1, 7, 6)
	if _, _, _, err := b.Interact(t.Context(), c, b.NewSets(1), flat, 1); err == nil || !strings.Contains(err.Error(), "[N,1,D,H,W]") {
		t.Errorf("a slice for a network of volumes: error %v", err)
	}
}

// TestVolumesPseudoMask makes the augmented copies of a volume in Go and compares the graph's mean with theirs.
func TestVolumesPseudoMask(t *testing.T) {
	n := network(t, meshNet(2, 2, -1, -1, -1, -1), adapt.Trainable{})
	e, err := adapt.NewEngine(n, []int{1}, onRuntime(t))
	if err != nil {
		t.Fatal(err)
	}
	s, c := scribbledVolume(2, 2), adapt.Thesis()
	predict := func(x *tensor.Tensor) *tensor.Tensor {
		p, err := e.Predict(t.Context(), n.Source(), x)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	const copies, draw = 6, 3
	got, _, err := adapt.PseudoMask(e, t.Context(), c, n.Source(), s, predict(s.X), copies, draw)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]float64, voxels)
	lo, hi := adapt.IntensityRange(s.X, nil, []int{1})
	rng := rand.New(rand.NewPCG(c.Seed, draw))
	for _, a := range c.Augmentations(rng, copies, lo, hi, 1, volumeSize...) {
		x := s.X.Clone()
		image := x.Float32s()[voxels:]
		v := convolvedVolume(image, a.Blur)
		for i := range image {
			image[i] = a.Gain*v[i] + a.Offset + a.Noise[i]
		}
		p := predict(x).Float32s()
		for i := range want {
			a, b := math.Pow(float64(p[i]), 1/c.Temperature), math.Pow(float64(p[voxels+i]), 1/c.Temperature)
			want[i] += b / (a + b) / copies
		}
	}
	for i, v := range want {
		if math.Abs(float64(got.Float32s()[voxels+i])-v) > 1e-5 {
			t.Fatalf("voxel %d: mean %g, want %g", i, got.Float32s()[voxels+i], v)
		}
	}
}

// convolvedVolume convolves with the taps along all three axes at once, the edge repeated.
func convolvedVolume(v, taps []float32) []float32 {
	d, h, w := volumeSize[0], volumeSize[1], volumeSize[2]
	const r = adapt.BlurTaps / 2
	out := make([]float32, len(v))
	clamp := func(i, n int) int { return min(max(i, 0), n-1) }
	for z := range d {
		for y := range h {
			for x := range w {
				sum := 0.0
				for i, a := range taps {
					for j, b := range taps {
						for k, c := range taps {
							at := (clamp(z+i-r, d)*h+clamp(y+j-r, h))*w + clamp(x+k-r, w)
							sum += float64(a) * float64(b) * float64(c) * float64(v[at])
						}
					}
				}
				out[(z*h+y)*w+x] = float32(sum)
			}
		}
	}
	return out
}

func TestVolumesBlur(t *testing.T) {
	v := noise(4, volumeSize...).Float32s()
	taps := make([]float32, adapt.BlurTaps)
	sum := 0.0
	for i := range taps {
		sum += math.Exp(-math.Pow(float64(i-adapt.BlurTaps/2), 2) / (2 * 1.1 * 1.1))
	}
	for i := range taps {
		taps[i] = float32(math.Exp(-math.Pow(float64(i-adapt.BlurTaps/2), 2)/(2*1.1*1.1)) / sum)
	}
	expectClose(t, "blurred volume", adapt.Blur(v, 1.1, volumeSize...), convolvedVolume(v, taps), 1e-6)
}

// TestVolumesLearnInHindsight learns a mask of three classes, and scores by the mean over classes.
func TestVolumesLearnInHindsight(t *testing.T) {
	n := network(t, meshNet(1, 3, -1, -1, -1, -1), adapt.Trainable{})
	e := engine(t, n, onRuntime(t))
	c := adapt.Hindsight()
	c.LearningRate, c.Batch = 0.1, 2
	st := adapt.Stage{X: noise(5, 1, 1, 5, 7, 6), Target: tensor.Zeros[float32](1, 1, 5, 7, 6), Stroked: tensor.Zeros[float32](1, 1, 5, 7, 6)}
	for i := range voxels {
		st.Target.Float32s()[i] = float32(i / 6 % 7 / 3) // classes 0, 1 and 2 by rows
	}
	m, r := accept(t, e, c, e.NewMemory(c), adapt.Episode{st})
	if last := r.Losses[c.Steps-1][0]; !(last < r.Losses[0][0]) {
		t.Errorf("losses %v", r.Losses)
	}
	l := e.HindsightLesson(c, m)
	for i := range voxels {
		for class := range 3 {
			if got := l.Target.Float32s()[class*voxels+i] == 1; got != (class == int(st.Target.Float32s()[i])) {
				t.Fatalf("voxel %d, class %d: wrong target", i, class)
			}
		}
	}
	_, r = accept(t, e, c, m, adapt.Episode{st})
	p, err := e.Predict(t.Context(), m.Sets.Student, st.X)
	if err != nil {
		t.Fatal(err)
	}
	if want := meanDice(p, st.Target); math.Abs(r.Foreseen[len(r.Foreseen)-1]-want) > 1e-9 {
		t.Errorf("the student's Dice is %g, want %g", r.Foreseen[len(r.Foreseen)-1], want)
	}
	st.Target = filled(3, 1, 1, 5, 7, 6)
	if _, _, err := e.Accept(t.Context(), c, m, adapt.Episode{st}); err == nil || !strings.Contains(err.Error(), "0…2") {
		t.Errorf("a target of an unknown class: error %v", err)
	}
}

// meanDice is the mean over foreground classes of 2|A∩B|/(|A|+|B|), A being where the class is the likeliest.
func meanDice(p, target *tensor.Tensor) float64 {
	sum, present := 0.0, 0.0
	for class := 1; class < p.Shape()[1]; class++ {
		var both, a, b float64
		for i, v := range target.Float32s() {
			in := true
			for other := range p.Shape()[1] {
				in = in && (other == class || p.Float32s()[class*target.Len()+i] > p.Float32s()[other*target.Len()+i])
			}
			if in {
				a++
			}
			if int(v) == class {
				b++
				if in {
					both++
				}
			}
		}
		if a+b > 0 {
			sum += 2 * both / (a + b)
			present++
		}
	}
	return sum / present
}

// insistent makes a network depend on the sizes written into it, as exporters do that take shapes for constants.
func insistent(m *onnx.Model) *onnx.Model {
	g := m.Graph
	b := onnx.NewBuilder(g, "fixed/")
	s := g.Outputs[0].Shape
	sizes := make([]int64, len(s))
	for i, d := range s {
		sizes[i] = d.Size
	}
	y := b.Op("Reshape", []string{g.Outputs[0].Name, b.Int64s(sizes[0], sizes[1], -1)})
	g.Outputs[0].Name = b.Op("Reshape", []string{y, b.Int64s(sizes...)})
	return m
}

// TestSizesOfExports reads networks that were exported for one size: those that do not depend on it are freed, the others
// run image by image at the size they take, and learn the same.
func TestSizesOfExports(t *testing.T) {
	compile := onRuntime(t)
	free := network(t, meshNet(1, 2, -1, -1, -1, -1), adapt.Trainable{})
	if n := network(t, meshNet(1, 2, 1, 9, 9, 9), adapt.Trainable{}); !slices.Equal(n.Size, []int{0, 0, 0}) {
		t.Errorf("a convolutional network exported at 9×9×9 takes %v, any size is wanted", n.Size)
	}
	fixed := network(t, insistent(meshNet(1, 2, 1, 5, 7, 6)), adapt.Trainable{})
	if !slices.Equal(fixed.Size, volumeSize) {
		t.Fatalf("a network that depends on its size takes %v, want %v", fixed.Size, volumeSize)
	}
	if _, err := adapt.NewNetwork(insistent(meshNet(1, 2, 2, 5, 7, 6)), adapt.Trainable{}); err == nil || !strings.Contains(err.Error(), "batches of 2") {
		t.Errorf("a network of pairs: error %v", err)
	}
	a, b := engine(t, free, compile), engine(t, fixed, compile)
	x := noise(8, 3, 1, 5, 7, 6)
	want, err := a.Predict(t.Context(), free.Source(), x)
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Predict(t.Context(), fixed.Source(), x)
	if err != nil {
		t.Fatal(err)
	}
	expectClose(t, "answer to a batch", got.Float32s(), want.Float32s(), 1e-6)
	_, wantSets, _ := interact(t, a, quick(), a.NewSets(1), scribbledVolume(1, 2), 1)
	_, gotSets, _ := interact(t, b, quick(), b.NewSets(1), scribbledVolume(1, 2), 1)
	expectClose(t, "student", moves(gotSets.Student, fixed.Source()), moves(wantSets.Student, free.Source()), 1e-3)
	o := adapt.StepOptions{Batch: 3}
	l := adapt.Lesson{X: noise(1, 1, 3, 1, 5, 7, 6), Target: noise(2, 1, 3, 2, 5, 7, 6), Weight: filled(0.01, 1, 3, 1, 5, 7, 6),
		Scribble: noise(3, 1, 3, 2, 5, 7, 6), Marked: filled(0.01, 1, 3, 1, 5, 7, 6), Lambda: 2, LearningRate: 0.01, Steps: 2}
	wantNext, _ := step(t, a, o, []adapt.Weights{free.Source()}, l)
	gotNext, _ := step(t, b, o, []adapt.Weights{fixed.Source()}, l)
	expectClose(t, "student of batches", moves(gotNext[0], fixed.Source()), moves(wantNext[0], free.Source()), 1e-3)
	if _, err := b.Predict(t.Context(), fixed.Source(), noise(1, 1, 1, 5, 7, 8)); err == nil || !strings.Contains(err.Error(), "5×7×6 voxels only") {
		t.Errorf("another size: error %v", err)
	}
}
