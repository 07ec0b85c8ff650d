package adapt_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// exported is a network as exporters write it: a convolution, a normalisation, ReLU, and a 1×1 convolution.
func exported(normalization string) *onnx.Model {
	dims := func(c int) onnx.Shape {
		return onnx.Shape{{Symbol: "N"}, {Size: int64(c)}, {Symbol: "H"}, {Symbol: "W"}}
	}
	g := &onnx.Graph{Name: "exported",
		Inputs:  []onnx.Value{{Name: "input", DType: tensor.Float32, Shape: dims(1)}},
		Outputs: []onnx.Value{{Name: "output", DType: tensor.Float32, Shape: dims(2)}}}
	b := onnx.NewBuilder(g, "")
	put := func(name string, t *tensor.Tensor) string {
		g.Initializers = append(g.Initializers, onnx.Initializer{Name: name, Tensor: t})
		return name
	}
	x := b.Op("Conv", []string{"input", put("conv.weight", noise(31, 4, 1, 3, 3)), put("conv.bias", noise(32, 4))},
		onnx.WithInts("kernel_shape", 3, 3), onnx.WithInts("pads", 1, 1, 1, 1))
	switch normalization {
	case "batch":
		x = b.Op("BatchNormalization", []string{x, put("norm.weight", noise(33, 4)), put("norm.bias", noise(34, 4)),
			put("norm.running_mean", noise(35, 4)), put("norm.running_var", filled(1, 4))}, onnx.WithFloat("epsilon", 1e-5))
	case "group":
		// PyTorch writes GroupNorm as an instance normalisation of the groups with scale 1 and shift 0, then γ and β.
		r := b.Op("Reshape", []string{x, b.Int64s(0, 2, -1)})
		r = b.Op("InstanceNormalization", []string{r, put("ones", filled(1, 2)), put("zeros", filled(0, 2))}, onnx.WithFloat("epsilon", 1e-5))
		r = b.Op("Reshape", []string{r, b.Op("Shape", []string{x})})
		x = b.Op("Add", []string{b.Op("Mul", []string{r, put("norm.weight", noise(33, 4, 1, 1))}), put("norm.bias", noise(34, 4, 1, 1))})
	case "layer":
		// A transformer's own layer normalisation, whose result happens to be reshaped next.
		t := b.Op("Transpose", []string{x}, onnx.WithInts("perm", 0, 2, 3, 1))
		t = b.Op("LayerNormalization", []string{t, put("norm.weight", noise(33, 4)), put("norm.bias", noise(34, 4))}, onnx.WithInt("axis", -1))
		t = b.Op("Reshape", []string{t, b.Int64s(0, 0, 0, 4)})
		x = b.Op("Transpose", []string{t}, onnx.WithInts("perm", 0, 3, 1, 2))
	}
	x = b.Op("Mul", []string{b.Op("Relu", []string{x}), put("factor", tensor.Scalar[float32](0.5))})
	b.Alias(b.Op("Conv", []string{x, put("head.weight", noise(36, 2, 4, 1, 1)), put("head.bias", noise(37, 2))}, onnx.WithInts("kernel_shape", 1, 1)), "output")
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": onnx.Opset}, Graph: g}
}

// TestTrainableWeights checks what counts as a weight: γ and β do, running statistics and the exporter's own constants do not.
func TestTrainableWeights(t *testing.T) {
	all := []string{"conv.bias", "conv.weight", "head.bias", "head.weight", "norm.bias", "norm.weight"}
	compile := onRuntime(t)
	for _, normalization := range []string{"batch", "group", "layer"} {
		n := network(t, exported(normalization), adapt.Trainable{})
		if got := slices.Sorted(slices.Values(n.Params())); !slices.Equal(got, all) {
			t.Errorf("%s normalisation: weights %v, want %v", normalization, got, all)
		}
		e := engine(t, n, compile)
		_, next, r := interact(t, e, quick(), e.NewSets(1), scribbled(1, 2), 1)
		for i, p := range n.Params() {
			if same(next.Student[i].Float32s(), n.Source()[i].Float32s()) {
				t.Errorf("%s normalisation: %s has not moved", normalization, p)
			}
		}
		if r.Losses[1] == r.Losses[0] {
			t.Errorf("%s normalisation: losses %v", normalization, r.Losses)
		}
	}
}

// TestRearrangedWeights checks that weights are found behind what exporters put between them and the operator that uses them, and that an attention
// mask, padding and running statistics are none.
func TestRearrangedWeights(t *testing.T) {
	g := &onnx.Graph{Name: "rearranged",
		Inputs:  []onnx.Value{{Name: "input", DType: tensor.Float32, Shape: onnx.Shape{{Symbol: "N"}, {Size: 1}, {Size: 4}, {Size: 4}}}},
		Outputs: []onnx.Value{{Name: "output", DType: tensor.Float32, Shape: onnx.Shape{{Symbol: "N"}, {Size: 2}, {Size: 4}, {Size: 4}}}}}
	b := onnx.NewBuilder(g, "")
	put := func(name string, t *tensor.Tensor) string {
		g.Initializers = append(g.Initializers, onnx.Initializer{Name: name, Tensor: t})
		return name
	}
	x := b.Op("Transpose", []string{b.Op("Reshape", []string{"input", b.Int64s(0, 1, 16)})}, onnx.WithInts("perm", 0, 2, 1))
	x = b.Op("MatMul", []string{x, b.Op("Transpose", []string{put("linear", noise(1, 8, 1))}, onnx.WithInts("perm", 1, 0))})
	token := b.Op("Expand", []string{put("token", noise(2, 1, 1, 8)), b.Int64s(1, 1, 8)})
	x = b.Op("Concat", []string{token, x, put("padding", filled(0, 1, 1, 8))}, onnx.WithInt("axis", 1)) // 18 tokens
	scores := b.Op("MatMul", []string{x, b.Op("Transpose", []string{x}, onnx.WithInts("perm", 0, 2, 1))})
	table := b.Op("Reshape", []string{b.Op("Gather", []string{put("table", noise(3, 3)), b.Int64s(0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2)}), b.Int64s(1, 1, 18)})
	mask := filled(0, 18, 18)
	mask.Float32s()[5] = -100
	scores = b.Op("Add", []string{b.Op("Add", []string{scores, table}), put("mask", mask)})
	x = b.Op("MatMul", []string{b.Op("Softmax", []string{scores}, onnx.WithInt("axis", -1)), x})
	x = b.Op("Add", []string{b.Op("Mul", []string{x, put("layer_scale", noise(4, 8))}), put("norm.running_mean", noise(5, 8))})
	x = b.Op("Einsum", []string{b.Op("Slice", []string{x, b.Int64s(1), b.Int64s(17), b.Int64s(1)}), put("head", noise(6, 2, 8))}, onnx.WithString("equation", "nlc,kc->nkl"))
	b.Alias(b.Op("Reshape", []string{x, b.Int64s(0, 2, 4, 4)}), "output")
	n := network(t, &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": onnx.Opset}, Graph: g}, adapt.Trainable{})
	if got, want := slices.Sorted(slices.Values(n.Params())), []string{"head", "layer_scale", "linear", "table", "token"}; !slices.Equal(got, want) {
		t.Fatalf("weights %v, want %v", got, want)
	}
	l := adapt.Lesson{X: noise(1, 1, 1, 1, 4, 4), Target: noise(2, 1, 1, 2, 4, 4), Weight: filled(0.1, 1, 1, 1, 4, 4), Scribble: noise(3, 1, 1, 2, 4, 4),
		Marked: filled(0.1, 1, 1, 1, 4, 4), Lambda: 1, LearningRate: 0.1, Steps: 1}
	o := adapt.StepOptions{Batch: 1}
	got, _ := step(t, engine(t, n, onRuntime(t)), o, []adapt.Weights{n.Source()}, l)
	want, _ := step(t, engine(t, n, onInterpreter), o, []adapt.Weights{n.Source()}, l)
	for i, p := range n.Params() {
		expectClose(t, p, moves(got[0], n.Source()), moves(want[0], n.Source()), 1e-4)
		if same(got[0][i].Float32s(), n.Source()[i].Float32s()) {
			t.Errorf("%s has not moved", p)
		}
	}
}

func TestTrainablePatterns(t *testing.T) {
	compile := onRuntime(t)
	for _, c := range []struct {
		choice adapt.Trainable
		want   []string
	}{
		{adapt.Trainable{Include: []string{"head.*"}}, []string{"head.bias", "head.weight"}},
		{adapt.Trainable{Include: []string{"*.weight"}, Exclude: []string{"conv.*"}}, []string{"head.weight", "norm.weight"}},
		{adapt.Trainable{Exclude: []string{"*.bias", "norm.?eight"}}, []string{"conv.weight", "head.weight"}},
	} {
		n := network(t, exported("batch"), c.choice)
		if got := slices.Sorted(slices.Values(n.Params())); !slices.Equal(got, c.want) {
			t.Errorf("%+v: weights %v, want %v", c.choice, got, c.want)
			continue
		}
		e := engine(t, n, compile)
		_, next, _ := interact(t, e, quick(), e.NewSets(1), scribbled(1, 2), 1)
		m, err := n.Model(next.Student)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range m.Graph.Initializers {
			was := exported("batch").Graph.Initializer(in.Name)
			if was == nil {
				continue
			}
			if moved := !same(in.Tensor.Float32s(), was.Float32s()); moved != slices.Contains(c.want, in.Name) {
				t.Errorf("%+v: %s moved: %v", c.choice, in.Name, moved)
			}
		}
	}
}

func TestNetworksThatDoNotFit(t *testing.T) {
	two := exported("batch")
	two.Graph.Inputs = append(two.Graph.Inputs, onnx.Value{Name: "more", DType: tensor.Float32, Shape: onnx.Fixed(1)})
	flat := exported("batch")
	flat.Graph.Inputs[0].Shape = onnx.Shape{{Symbol: "N"}, {Symbol: "C"}, {Symbol: "H"}, {Symbol: "W"}}
	for _, c := range []struct {
		model  *onnx.Model
		choice adapt.Trainable
		want   string
	}{
		{exported("batch"), adapt.Trainable{Include: []string{"nothing"}}, "no trainable weights"},
		{exported("batch"), adapt.Trainable{Exclude: []string{"[a"}}, "name pattern"},
		{two, adapt.Trainable{}, "2 inputs"},
		{flat, adapt.Trainable{}, "known number of channels"},
	} {
		if _, err := adapt.NewNetwork(c.model, c.choice); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one that says %q", err, c.want)
		}
	}
	n := network(t, exported("batch"), adapt.Trainable{})
	for _, channels := range [][]int{nil, {1}, {-1}, {0, 0}} {
		if _, err := adapt.NewEngine(n, channels, onInterpreter); err == nil {
			t.Errorf("image channels %v: no error", channels)
		}
	}
}

// TestOneLogit reads a network with one output channel as the logit of the foreground.
func TestOneLogit(t *testing.T) {
	n := network(t, pointwise(1), adapt.Trainable{})
	if n.Classes != 2 {
		t.Fatalf("%d classes, want 2", n.Classes)
	}
	e := engine(t, n, onRuntime(t))
	s := scribbled(1, 2)
	p, err := e.Predict(t.Context(), n.Source(), s.X)
	if err != nil {
		t.Fatal(err)
	}
	w := map[string][]float32{}
	for i, name := range n.Params() {
		w[name] = n.Source()[i].Float32s()
	}
	for i, x := range s.X.Float32s() {
		z := float64(w["learning_rate"][0])
		for c := range 4 {
			z += float64(w["student:weight"][c]) * math.Max(0, float64(x*w["weight"][c]+w["target"][c]))
		}
		if want := 1 / (1 + math.Exp(-z)); math.Abs(float64(p.Float32s()[side*side+i])-want) > 1e-5 {
			t.Fatalf("pixel %d: foreground %g, its sigmoid is %g", i, p.Float32s()[side*side+i], want)
		}
	}
	_, next, r := interact(t, e, quick(), e.NewSets(1), s, 1)
	if !(r.Losses[1][1] < r.Losses[0][1]) {
		t.Errorf("losses %v", r.Losses)
	}
	if a, b := flat(next.Student), flat(n.Source()); same(a, b) {
		t.Error("nothing was learned")
	}
}

func TestThreeClasses(t *testing.T) {
	n := smallUNet(t, 1, 3, adapt.Trainable{})
	e, judge := engine(t, n, onRuntime(t)), engine(t, n, onInterpreter)
	s := scribbled(1, 3)
	for i := range side * side / 2 { // the second half of the class-1 stroke's row becomes class 2
		if s.Scribble.Float32s()[side*side+i] > 0 && i%side > 8 {
			s.Scribble.Float32s()[side*side+i], s.Scribble.Float32s()[2*side*side+i] = 0, 1
		}
	}
	p, next, r := interact(t, e, quick(), e.NewSets(1), s, 1)
	want, wantNext, _ := interact(t, judge, quick(), judge.NewSets(1), s, 1)
	expectClose(t, "answer", p.Float32s(), want.Float32s(), 1e-5)
	expectClose(t, "student", moves(next.Student, n.Source()), moves(wantNext.Student, n.Source()), 1e-3)
	if p.Shape()[1] != 3 || !(r.Losses[1][1] < r.Losses[0][1]) {
		t.Errorf("answer %v, losses %v", p.Shape(), r.Losses)
	}
}

// TestModelRoundTrip writes adapted weights to a file's bytes and reads them back.
func TestModelRoundTrip(t *testing.T) {
	n := smallUNet(t, 2, 2, adapt.Trainable{})
	compile := onRuntime(t)
	e := engine(t, n, compile)
	s := scribbled(2, 2)
	p, next, _ := interact(t, e, quick(), e.NewSets(1), s, 1)
	m, err := n.Model(next.Averages[0])
	if err != nil {
		t.Fatal(err)
	}
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if m, err = onnx.Parse(data); err != nil {
		t.Fatal(err)
	}
	back := engine(t, network(t, m, adapt.Trainable{}), compile)
	if !same(flat(back.Network().Source()), flat(next.Averages[0])) {
		t.Error("other weights came back")
	}
	q, err := back.Predict(t.Context(), back.Network().Source(), s.X)
	if err != nil {
		t.Fatal(err)
	}
	expectClose(t, "answer of the network read back", q.Float32s(), p.Float32s(), 1e-6)
	if _, err := n.Model(next.Averages[0][1:]); err == nil {
		t.Error("a weight is missing: no error")
	}
}
