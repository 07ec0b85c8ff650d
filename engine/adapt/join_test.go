package adapt_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/tensor"
)

// pair is a network of two parts in two_parts.json: see make_two_parts.py.
type pair struct {
	Points, Mask                               int
	Image, Previous, Coords, Labels, Prompts   packed
	Target, Label, Weight, Marked, Probability packed
	Unprompted                                 packed // probability without points and previous mask
	Losses                                     [2]float64
	Gradients, Stepped                         map[string]packed
	Encoder, Decoder                           []byte
	grid                                       int
	lambda, rate                               float64
	batch, channels                            int
	layout                                     adapt.TwoParts
}

// pairs are "sam", of points and a previous mask, and "maps".
func pairs(tb testing.TB) map[string]pair {
	tb.Helper()
	data, err := os.ReadFile("testdata/two_parts.json")
	if err != nil {
		tb.Fatal(err)
	}
	var file struct {
		Grid         int
		Lambda, Rate float64
		Sam, Maps    pair
	}
	if err := json.Unmarshal(data, &file); err != nil {
		tb.Fatal(err)
	}
	finish := func(p pair, batch int, layout adapt.TwoParts) pair {
		p.grid, p.lambda, p.rate, p.batch, p.channels, p.layout = file.Grid, file.Lambda, file.Rate, batch, layout.Channels, layout
		p.layout.Grid = file.Grid
		return p
	}
	return map[string]pair{
		"sam":  finish(file.Sam, 1, adapt.TwoParts{Channels: 3, Images: []int{0}, Points: file.Sam.Points, PointMap: 1, Previous: 2, Mask: file.Sam.Mask}),
		"maps": finish(file.Maps, 2, adapt.TwoParts{Channels: 3, Images: []int{0}, Maps: []int{1, 2}, Previous: -1}),
	}
}

func (p pair) parse(tb testing.TB) (encoder, decoder *onnx.Model) {
	tb.Helper()
	var m [2]*onnx.Model
	for i, data := range [][]byte{p.Encoder, p.Decoder} {
		var err error
		if m[i], err = onnx.Parse(data); err != nil {
			tb.Fatal(err)
		}
	}
	return m[0], m[1]
}

func (p pair) joined(tb testing.TB) *onnx.Model {
	tb.Helper()
	encoder, decoder := p.parse(tb)
	m, err := adapt.Join(encoder, decoder, p.layout)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// segmentAnything are Segment Anything's parts, small and untrained: "face" and "face, dynamo" as Hugging Face's exporters name what they take,
// and "authors" as the script of its authors does.
func segmentAnything(tb testing.TB) map[string]pair {
	tb.Helper()
	f, err := os.Open("testdata/segment_anything.json.gz")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		tb.Fatal(err)
	}
	var file struct {
		Grid          int
		Lambda, Rate  float64
		Face, Authors pair
		Dynamo        struct{ Encoder, Decoder []byte } `json:"face_dynamo"`
	}
	if err := json.NewDecoder(r).Decode(&file); err != nil {
		tb.Fatal(err)
	}
	finish := func(p pair, previous int) pair {
		p.grid, p.lambda, p.rate, p.batch, p.channels = file.Grid, file.Lambda, file.Rate, 1, 2
		p.layout = adapt.TwoParts{Grid: file.Grid, Channels: 2, Images: []int{0}, Points: p.Points, PointMap: 1, Previous: previous, Mask: p.Mask}
		if previous > 0 {
			p.channels, p.layout.Channels = 3, 3
		}
		return p
	}
	face := finish(file.Face, -1)
	dynamo := face
	dynamo.Encoder, dynamo.Decoder = file.Dynamo.Encoder, file.Dynamo.Decoder
	dynamo.Gradients = maps.Clone(dynamo.Gradients)
	delete(dynamo.Gradients, "sam.prompt_encoder.no_mask_embed.weight") // spread over all pixels by the exporter
	return map[string]pair{"face": face, "face, dynamo": dynamo, "authors": finish(file.Authors, 2)}
}

// choice leaves the points' frequencies alone, which are no parameter.
func (p pair) choice() adapt.Trainable {
	return adapt.Trainable{Exclude: []string{"frequencies", "*positional_embedding*", "expand"}}
}

// input is the joined network's input [B,C,G,G].
func (p pair) input() *tensor.Tensor {
	n := p.grid * p.grid
	x := tensor.Zeros[float32](p.batch, p.channels, p.grid, p.grid)
	for i := range p.batch {
		of := func(c int) []float32 { return x.Float32s()[(i*p.channels+c)*n:][:n] }
		copy(of(0), p.Image[i*n:])
		if p.Points == 0 {
			copy(x.Float32s()[(i*p.channels+1)*n:][:2*n], p.Prompts[2*i*n:])
			continue
		}
		for k := range p.Points {
			if label := p.Labels[k]; label >= 0 {
				at := int(p.Coords[2*k+1])*p.grid + int(p.Coords[2*k])
				of(1)[at] = (2*label - 1) * float32(p.Points-k)
			}
		}
		if p.Previous != nil {
			copy(of(2), p.Previous)
		}
	}
	return x
}

func (p pair) lesson() adapt.Lesson {
	of := func(v packed, channels int) *tensor.Tensor {
		return tensor.Must([]int{1, p.batch, channels, p.grid, p.grid}, []float32(v))
	}
	x, _ := p.input().Reshape(1, p.batch, p.channels, p.grid, p.grid)
	return adapt.Lesson{X: x, Target: of(p.Target, 2), Weight: of(p.Weight, 1), Scribble: of(p.Label, 2), Marked: of(p.Marked, 1),
		Lambda: p.lambda, LearningRate: p.rate, Steps: 1}
}

// recorded finds what PyTorch says of a weight: of the one of its name, or of the one whose elements it holds, as they are, transposed or in
// part, for exporters fold such things.
func (p pair) recorded(name string, w *tensor.Tensor, of map[string]packed) packed {
	if v, ok := of[name]; ok {
		return v
	}
	same := func(a, b []float32) bool {
		for i := range a {
			if math.Abs(float64(a[i]-b[i])) > 1e-6 {
				return false
			}
		}
		return true
	}
	for k, g := range p.Gradients {
		start := make([]float32, len(g))
		for i := range g {
			start[i] = p.Stepped[k][i] + float32(p.rate)*g[i]
		}
		for at := 0; at+w.Len() <= len(start); at += w.Len() {
			if same(w.Float32s(), start[at:]) {
				return of[k][at : at+w.Len()]
			}
		}
		if w.Rank() == 2 && w.Len() == len(g) && same(w.Float32s(), turned(start, w.Shape())) {
			return turned(of[k], w.Shape())
		}
	}
	return nil
}

// turned is the transpose, of the given shape.
func turned(v []float32, shape []int) []float32 {
	out := make([]float32, len(v))
	for i := range shape[0] {
		for j := range shape[1] {
			out[i*shape[1]+j] = v[j*shape[0]+i]
		}
	}
	return out
}

func TestTwoPartsMatchPyTorch(t *testing.T) {
	all := pairs(t)
	maps.Copy(all, segmentAnything(t))
	for what, p := range all {
		for where, compile := range map[string]adapt.Compiler{"interpreter": onInterpreter, "runtime": lowered(t, ort.Options{Threads: 1, NoSpinning: true})} {
			t.Run(what+" on "+where, func(t *testing.T) {
				n := network(t, p.joined(t), p.choice())
				e := engine(t, n, compile)
				prob, err := e.Predict(context.Background(), n.Source(), p.input())
				if err != nil {
					t.Fatal(err)
				}
				if d := distance(prob.Float32s(), p.Probability); d > 1e-5 {
					t.Errorf("probabilities differ by %.2g", d)
				}
				if p.Unprompted != nil {
					x := p.input()
					clear(x.Float32s()[p.grid*p.grid:])
					prob, err := e.Predict(context.Background(), n.Source(), x)
					if err != nil {
						t.Fatal(err)
					}
					if d := distance(prob.Float32s(), p.Unprompted); d > 1e-5 {
						t.Errorf("without prompts, probabilities differ by %.2g", d)
					}
				}
				next, losses, err := e.Step(context.Background(), adapt.StepOptions{Batch: p.batch}, []adapt.Weights{n.Source()}, p.lesson())
				if err != nil {
					t.Fatal(err)
				}
				for i, l := range p.Losses {
					if math.Abs(float64(losses[0][i])-l) > 1e-4*l {
						t.Errorf("loss %d is %g, PyTorch's %g", i, losses[0][i], l)
					}
				}
				elements, want := 0, 0
				for _, g := range p.Gradients {
					want += len(g)
				}
				for i, name := range n.Params() {
					from, to := n.Source()[i], next[0][i]
					g := p.recorded(name, from, p.Gradients)
					if g == nil {
						t.Errorf("PyTorch knows no weight like %q %v", name, from.Shape())
						continue
					}
					elements += len(g)
					moved := make([]float32, len(g))
					for k := range moved {
						moved[k] = (from.Float32s()[k] - to.Float32s()[k]) / float32(p.rate)
					}
					// A weight is stored in float32 after the step, which bounds how well its gradient can be told from it.
					noise := 1e-7 * norm(from.Float32s()) / p.rate
					if d := distance(moved, g); d*norm(g) > 1e-4*norm(g)+noise {
						t.Errorf("gradient of %q, of length %.2g, differs by %.2g of it", name, norm(g), d)
					}
					if d := distance(to.Float32s(), p.recorded(name, from, p.Stepped)); d > 1e-5 {
						t.Errorf("%q after the step differs by %.2g", name, d)
					}
				}
				if elements != want {
					t.Errorf("%d elements of weights moved, PyTorch's moved %d", elements, want)
				}
			})
		}
	}
}

// counting counts the runs of graphs by name.
type counting struct {
	adapt.Session
	runs *atomic.Int64
}

func (c counting) Run(ctx context.Context, in, out map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	c.runs.Add(1)
	return c.Session.Run(ctx, in, out)
}

// encoderRuns wraps a compiler so that runs of the encoder are counted.
func encoderRuns(compile adapt.Compiler) (adapt.Compiler, *atomic.Int64) {
	var runs atomic.Int64
	return func(m *onnx.Model) (adapt.Session, error) {
		s, err := compile(m)
		if err == nil && m.Graph.Name == "encoder" {
			s = counting{s, &runs}
		}
		return s, err
	}, &runs
}

func (p pair) slice(image uint64) adapt.Slice {
	x := p.input()
	if image > 0 {
		copy(x.Float32s(), noise(image, p.grid*p.grid).Float32s())
	}
	one := tensor.Must([]int{1, p.channels, p.grid, p.grid}, x.Float32s()[:p.channels*p.grid*p.grid])
	marked := filled(0, 1, 1, p.grid, p.grid)
	marked.Float32s()[40], marked.Float32s()[500] = 1, 1
	return adapt.Slice{X: one, Marked: marked, Scribble: filled(0.5, 1, 2, p.grid, p.grid)}
}

func plainly() adapt.Config {
	c := adapt.Thesis()
	c.Noise, c.Blur, c.Inversion = false, false, false
	c.Steps = 2
	return c
}

func (p pair) episode(image uint64) adapt.Episode {
	s := p.slice(image)
	empty := s.X.Clone()
	clear(empty.Float32s()[p.grid*p.grid:])
	target := filled(0, 1, 1, p.grid, p.grid)
	for i := range 300 {
		target.Float32s()[i] = 1
	}
	return adapt.Episode{{X: empty, Target: target, Stroked: s.Marked}, {X: s.X, Target: target, Stroked: s.Marked}}
}

func TestEncoderRunsOnceForAnImage(t *testing.T) {
	p := pairs(t)["sam"]
	compile, runs := encoderRuns(onRuntime(t))
	n := network(t, p.joined(t), p.choice())
	e := engine(t, n, compile)
	ctx := context.Background()
	said := func(what string, want int64) {
		t.Helper()
		if got := runs.Swap(0); got != want {
			t.Errorf("%s: the encoder ran %d times, want %d", what, got, want)
		}
	}
	interact := func(sets adapt.Sets, image uint64) adapt.Sets {
		t.Helper()
		_, next, _, err := e.Interact(ctx, plainly(), sets, p.slice(image), 1)
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	sets := interact(e.NewSets(1), 0)
	interact(sets, 0)
	said("two interactions on a slice", 1)
	interact(sets, 1)
	said("another slice", 1)
	interact(sets, 0)
	said("back on the first", 0)

	c := adapt.Hindsight()
	c.Steps, c.Augment = 2, plainly()
	m, _, err := e.Accept(ctx, c, e.NewMemory(c), p.episode(0))
	if err != nil {
		t.Fatal(err)
	}
	said("a lesson without augmentation", 0)
	c.Augment = adapt.Thesis()
	if _, _, err = e.Accept(ctx, c, m, p.episode(1)); err != nil {
		t.Fatal(err)
	}
	if got := runs.Swap(0); got < 2 || got > 8 {
		t.Errorf("a lesson of 8 augmented images ran the encoder %d times", got)
	}
	interact(sets, 0)
	interact(sets, 1)
	said("slices from before the lesson", 0)

	e.BoundEmbeddings(4 * (8*8*8 + 4*16*16)) // of one image
	interact(sets, 0)
	interact(sets, 1)
	interact(sets, 1)
	if got := runs.Swap(0); got != 1 && got != 2 {
		t.Errorf("room for one image: the encoder ran %d times, want once for each that was dropped", got)
	}
	e.BoundEmbeddings(0)
	interact(sets, 0)
	said("no room: answer before, step and answer after", 3)
}

// TestTwoPartsAreOneNetwork compares a joined network with the same graph as a network of one part, whose encoder runs every time.
func TestTwoPartsAreOneNetwork(t *testing.T) {
	ctx := context.Background()
	for what, p := range pairs(t) {
		t.Run(what, func(t *testing.T) {
			joined := network(t, p.joined(t), p.choice())
			whole := network(t, undivided(p.joined(t)), adapt.Trainable{Include: joined.Params()})
			if !slices.Equal(joined.Params(), whole.Params()) {
				t.Fatalf("weights %q, want %q", whole.Params(), joined.Params())
			}
			if whole.EncoderGraph() != nil {
				t.Fatal("a network of one part has an encoder")
			}
			thesis := adapt.Thesis()
			thesis.Steps, thesis.FixedCopies = 2, 5
			hindsight := adapt.Hindsight()
			hindsight.Steps = 2
			answers, learned := map[*adapt.Network]*tensor.Tensor{}, map[*adapt.Network]adapt.Weights{}
			for _, n := range []*adapt.Network{joined, whole} {
				e := engine(t, n, onRuntime(t))
				prob, sets, _, err := e.Interact(ctx, thesis, e.NewSets(1), p.slice(0), 3)
				if err != nil {
					t.Fatal(err)
				}
				m, _, err := e.Accept(ctx, hindsight, e.NewMemory(hindsight), p.episode(2))
				if err != nil {
					t.Fatal(err)
				}
				answers[n], learned[n] = prob, append(sets.Student, m.Sets.Student...)
			}
			if d := distance(answers[joined].Float32s(), answers[whole].Float32s()); d > 1e-5 {
				t.Errorf("answers differ by %.2g", d)
			}
			for i, w := range learned[joined] {
				if d := distance(w.Float32s(), learned[whole][i].Float32s()); d > 1e-5 {
					t.Errorf("weight %q differs by %.2g", joined.Params()[i%len(joined.Params())], d)
				}
			}
		})
	}
}

// undivided gives a joined network's input another name, by which nobody knows its parts.
func undivided(m *onnx.Model) *onnx.Model {
	renameAll(m.Graph, m.Graph.Inputs[0].Name, "slice")
	return m
}

// renameAll gives a value of a graph without bodies another name.
func renameAll(g *onnx.Graph, from, to string) {
	in := func(list []string) {
		for i, v := range list {
			if v == from {
				list[i] = to
			}
		}
	}
	for _, n := range g.Nodes {
		in(n.Inputs)
		in(n.Outputs)
	}
	for _, list := range [][]onnx.Value{g.Inputs, g.Outputs} {
		for i := range list {
			if list[i].Name == from {
				list[i].Name = to
			}
		}
	}
}

func TestJoinedNetworkIsOneFile(t *testing.T) {
	p := pairs(t)["sam"]
	n := network(t, p.joined(t), p.choice())
	stored, err := n.Model(n.Source())
	if err != nil {
		t.Fatal(err)
	}
	data, err := stored.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	read, err := onnx.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	again := network(t, read, p.choice())
	if !slices.Equal(again.Params(), n.Params()) || again.EncoderGraph() == nil {
		t.Errorf("weights %q with an encoder %v, want %q and one", again.Params(), again.EncoderGraph() != nil, n.Params())
	}
	for _, name := range n.Params() {
		if strings.Contains(name, "fine") || strings.Contains(name, "coarse") {
			t.Errorf("weight %q of the encoder would move", name)
		}
	}
	if got := network(t, p.joined(t), adapt.Trainable{Part: adapt.PartDecoder, Exclude: p.choice().Exclude}).Params(); !slices.Equal(got, n.Params()) {
		t.Errorf("the decoder has weights %q, want %q", got, n.Params())
	}
	if got := network(t, p.joined(t), adapt.Trainable{Part: adapt.PartNormalisation}).Params(); len(got) != 2 {
		t.Errorf("the normalisation has weights %q, want a scale and a shift", got)
	}
}

func TestPartsThatDoNotFit(t *testing.T) {
	extra := func(g *onnx.Graph) { // a second image
		in := g.Inputs[0]
		in.Name = "other"
		g.Inputs = append(g.Inputs, in)
	}
	for what, c := range map[string]struct {
		pair   string
		change func(p *adapt.TwoParts, encoder, decoder *onnx.Graph)
		says   string
	}{
		"grid":             {"sam", func(p *adapt.TwoParts, _, _ *onnx.Graph) { p.Grid = 64 }, "takes images of 32×32 pixels, the grid has 64"},
		"image channels":   {"sam", func(p *adapt.TwoParts, _, _ *onnx.Graph) { p.Images = []int{0, 0} }, "has 1 channels, 2 show the image"},
		"no points":        {"sam", func(p *adapt.TwoParts, _, _ *onnx.Graph) { p.Points = 0 }, "how many there are"},
		"other points":     {"sam", func(p *adapt.TwoParts, _, _ *onnx.Graph) { p.Points = 5 }, "there are 5 points"},
		"no previous mask": {"sam", func(p *adapt.TwoParts, _, _ *onnx.Graph) { p.Previous = -1 }, "name the channel"},
		"no such mask":     {"sam", func(p *adapt.TwoParts, _, _ *onnx.Graph) { p.Mask = 3 }, "holds no mask 3"},
		"embedding not taken": {"sam", func(_ *adapt.TwoParts, e, _ *onnx.Graph) {
			e.Outputs = append(e.Outputs, onnx.Value{Name: e.Nodes[0].Outputs[0], DType: tensor.Float32})
		}, "does not take what the encoder answers"},
		"embedding missing": {"sam", func(_ *adapt.TwoParts, e, _ *onnx.Graph) { e.Outputs = e.Outputs[:1] }, `nothing fits the decoder's input "high_res"`},
		"embedding's shape": {"sam", func(_ *adapt.TwoParts, e, d *onnx.Graph) {
			e.Outputs = e.Outputs[1:]
			renameAll(e, "image_embeddings", "other")
			renameAll(e, "features", "image_embeddings")
		}, `"image_embeddings" has shape [1 4 16 16]`},
		"previous size": {"sam", func(_ *adapt.TwoParts, _, d *onnx.Graph) {
			d.Inputs[4].Shape = onnx.Shape{{Size: 1}, {Size: 1}, {Symbol: "m"}, {Symbol: "m"}}
		}, "whole fraction m of the grid's 32"},
		"maps not taken":   {"sam", func(p *adapt.TwoParts, _, _ *onnx.Graph) { p.Maps = []int{1} }, "no input for the prompts' 1 channels"},
		"points not taken": {"maps", func(p *adapt.TwoParts, _, _ *onnx.Graph) { p.Points = 2 }, "no inputs point_coords"},
		"mask not taken":   {"maps", func(p *adapt.TwoParts, _, _ *onnx.Graph) { p.Previous = 2 }, "no input mask_input"},
		"maps' number":     {"maps", func(p *adapt.TwoParts, _, _ *onnx.Graph) { p.Maps = []int{1} }, `nothing fits the decoder's input "prompts"`},
		"two images":       {"maps", func(_ *adapt.TwoParts, e, _ *onnx.Graph) { extra(e) }, "one image goes into the encoder"},
	} {
		t.Run(what, func(t *testing.T) {
			p := pairs(t)[c.pair]
			encoder, decoder := p.parse(t)
			c.change(&p.layout, encoder.Graph, decoder.Graph)
			if _, err := adapt.Join(encoder, decoder, p.layout); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that speaks of %q", err, c.says)
			}
		})
	}
}

// TestGreyImageForColourEncoder gives an encoder of three channels, which sees their mean, the one image that there is.
func TestGreyImageForColourEncoder(t *testing.T) {
	p := pairs(t)["sam"]
	encoder, decoder := p.parse(t)
	g := encoder.Graph
	colour := onnx.Value{Name: "colour", DType: tensor.Float32, Shape: onnx.Fixed(1, 3, int64(p.grid), int64(p.grid))}
	mean := &onnx.Node{Name: "grey", Op: "ReduceMean", Inputs: []string{colour.Name}, Outputs: []string{g.Inputs[0].Name},
		Attrs: map[string]onnx.Attr{"axes": {Kind: onnx.AttrInts, Ints: []int64{1}}}} // an attribute in the file's opset
	g.Inputs, g.Nodes = []onnx.Value{colour}, append([]*onnx.Node{mean}, g.Nodes...)
	m, err := adapt.Join(encoder, decoder, p.layout)
	if err != nil {
		t.Fatal(err)
	}
	n := network(t, m, p.choice())
	prob, err := engine(t, n, onInterpreter).Predict(context.Background(), n.Source(), p.input())
	if err != nil {
		t.Fatal(err)
	}
	if d := distance(prob.Float32s(), p.Probability); d > 1e-5 {
		t.Errorf("probabilities differ by %.2g", d)
	}
}
