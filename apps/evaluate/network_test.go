package evaluate

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"scrawl/adapters/scribble"
	"scrawl/apps/interact"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
	"scrawl/engine/onnx/refexec"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

// interpreted runs graphs on the reference interpreter: these tests need no ONNX Runtime.
type interpreted struct{ g *onnx.Graph }

func interpret(m *onnx.Model) (adapt.Session, error) {
	return interpreted{m.Graph}, nil
}

func (s interpreted) Run(_ context.Context, in, _ map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	all, err := refexec.Run(s.g, in)
	if err != nil {
		return nil, err
	}
	out := map[string]*tensor.Tensor{}
	for _, v := range s.g.Outputs {
		out[v.Name] = narrowed(all[v.Name])
	}
	return out, nil
}

// narrowed is a tensor as a runtime returns it: the interpreter computes in float64.
func narrowed(t *tensor.Tensor) *tensor.Tensor {
	if t.DType() != tensor.Float64 {
		return t
	}
	out := tensor.Zeros[float32](t.Shape()...)
	for i, v := range tensor.Data[float64](t) {
		out.Float32s()[i] = float32(v)
	}
	return out
}

// untrained is a model whose network knows nothing yet.
func untrained(t *testing.T) *interact.Model {
	t.Helper()
	m, err := train.UNet(train.UNetShape{Input: 4, Channels: []int{4, 4}, Groups: 2, Classes: 2}, 3)
	if err != nil {
		t.Fatal(err)
	}
	net, err := adapt.NewNetwork(m, adapt.Trainable{})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := adapt.NewEngine(net, []int{0}, interpret)
	if err != nil {
		t.Fatal(err)
	}
	model := &interact.Model{Engine: engine, Thesis: adapt.Thesis(), Hindsight: adapt.Hindsight(), Thickness: scribble.DefaultThickness(),
		Input: interact.Input{
			Channels: []interact.Channel{interact.ChannelImage, interact.ChannelPositive, interact.ChannelNegative, interact.ChannelPrevious},
			Grid:     16, Multiple: 2, Percentiles: [2]float64{0, 100},
		}}
	model.Hindsight.Steps, model.Hindsight.Batch = 2, 2
	model.Thesis.Steps, model.Thesis.FixedCopies = 1, 1
	return model
}

// A measurement of a network is the same every time but for the clock, and learning moves weights only where it should.
func TestMeasurementsRepeat(t *testing.T) {
	for _, mode := range []Mode{BySlice, ByVolume} {
		p := protocol()
		p.Mode, p.Interactions, p.Methods = mode, 2, profiles(interact.ProfileFrozen, interact.ProfileHindsight, interact.ProfileThesis)
		var texts []string
		for range 2 {
			model := untrained(t)
			steps := 0
			e := Evaluation{Protocol: p.with(model, model.Engine.Network().Source()), Progress: func(g Progress) {
				if steps++; g.Done != steps || g.Total != 6 {
					t.Errorf("%s: progress %d of %d, want %d of 6", mode, g.Done, g.Total, steps)
				}
			}}
			all, err := e.Run(context.Background(), []Case{block(t)})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				if frozen := c.Method == "frozen"; (c.Distance == 0) != frozen {
					t.Errorf("%s, %s: weights went %v", mode, c.Method, c.Distance)
				}
				if c.Method == "hindsight" && c.Learned != c.Touched {
					t.Errorf("%s: learned from %d of %d slices", mode, c.Learned, c.Touched)
				}
			}
			texts = append(texts, timeless(t, Summarise(Provenance{}, p, all)))
		}
		if texts[0] != texts[1] {
			t.Errorf("%s: two measurements differ:\n%s\n%s", mode, texts[0], texts[1])
		}
	}
}

// timeless is every point of a report with the clock at zero.
func timeless(t *testing.T, r Report) string {
	t.Helper()
	for _, c := range r.Courses {
		for _, s := range c.Series {
			for i := range s.Points {
				s.Points[i].Seconds = 0
			}
		}
	}
	var b bytes.Buffer
	if err := r.WritePoints(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The mask a slice has before its first stroke is what the model carried to it, whatever the box the request was limited to.
func TestUntouchedMaskIsTheCarriedOne(t *testing.T) {
	p := protocol()
	p.Interactions = 1
	c := block(t)
	recorder := &recording{Segmenter: untrained(t)}
	series := courses(t, p, recorder, c)[0].Series
	// The same strokes, with an answer for the whole volume.
	model := untrained(t)
	req := interact.Request{Strokes: recorder.asked[0].Strokes, Options: interact.Options{Profile: interact.ProfileFrozen}}
	res, _, _, err := model.Interact(context.Background(), model.Prepare(c.Volume), req, interact.Learned{}, interact.State{})
	if err != nil {
		t.Fatal(err)
	}
	whole := sliceOf(c.Volume.Geometry, 2, series[1].Slice, res.Mask)
	if got := sliceOf(c.Volume.Geometry, 2, series[1].Slice, recorder.masks[1]); !slices.Equal(got.Bits, whole.Bits) {
		t.Error("moving on gives another mask than an answer for the whole volume")
	}
	if whole.Empty() {
		t.Error("nothing was carried: the test proves nothing")
	}
}

// recording keeps requests and answers.
type recording struct {
	Segmenter
	asked []interact.Request
	masks [][]bool
}

func (r *recording) Interact(ctx context.Context, img interact.Image, req interact.Request, l interact.Learned, st interact.State) (interact.Result, interact.Learned, interact.State, error) {
	res, l, st, err := r.Segmenter.Interact(ctx, img, req, l, st)
	r.asked, r.masks = append(r.asked, req), append(r.masks, res.Mask)
	return res, l, st, err
}
