// Package inspect looks at an ONNX network as somebody who wants to serve it does: what goes in and comes out, which sizes it takes,
// whether it can be adapted, and what an interaction with it costs. It also drafts the app that serves it.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"scrawl/engine/adapt"
	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// Operator is how often a network uses an operator, and whether its gradient is known.
type Operator struct {
	Name   string
	Count  int
	Differ bool // whether weights in front of it can move: it has a gradient, or works on no weights
}

// Part is a choice of weights and how much they are.
type Part struct {
	Part    adapt.Part
	Tensors int
	Numbers int
	// Missing says why the network has no such part; "" when it has.
	Missing string
}

// Network is what is known of a network.
type Network struct {
	Producer  string
	Opset     int64
	Input     string
	Channels  int
	Classes   int
	Single    bool   // one output channel: the logit of the object alone
	Ending    string // Softmax or Sigmoid where the file ends with one, which is left out
	Size      []int
	Multiple  int
	Operators []Operator
	Parts     []Part
	FileBytes int
	// Labels are names of classes that the file itself tells, without the background.
	Labels []string
	// Measured at this size: a forward run, one interaction of the published method, and what the first interaction takes longer, since
	// its graphs are built.
	MeasuredSize                        []int
	PredictTime, LearnTime, PrepareTime time.Duration
	// Trouble is what does not work, in words; empty when everything does.
	Trouble []string
}

// Ready reports whether the network can be served and adapted.
func (n Network) Ready() bool { return len(n.Trouble) == 0 }

// Stages are the names of what Look does, in order; progress is told of each as it begins.
var Stages = []string{"reading", "weights", "sizes", "a forward run", "an adaptation step"}

// Look inspects a network. An error means that the file cannot be read as a network at all; what merely does not work is Trouble. mean and
// std, if not nil, are put in front of it as app.yaml's are. A run of the network happens on the sessions that compile makes.
func Look(ctx context.Context, data []byte, compile adapt.Compiler, progress func(stage int)) (Network, error) {
	progress(0)
	m, err := onnx.Parse(data)
	if err != nil {
		return Network{}, err
	}
	out := Network{Producer: m.Producer, Opset: m.Opsets[""], FileBytes: len(data), Labels: labelsOf(m.Metadata)}
	net, err := adapt.NewNetwork(m, adapt.Trainable{})
	if err != nil {
		if len(m.Graph.Inputs) > 1 {
			return out, fmt.Errorf("%w; %s", err, halfOfPair)
		}
		return out, err
	}
	if out.Operators, err = operators(m); err != nil {
		return out, err
	}
	out.Input, out.Channels, out.Classes, out.Size, out.Single, out.Ending = m.Graph.Inputs[0].Name, net.Channels, net.Classes, net.Size, net.Single(), net.Ending
	progress(1)
	for _, p := range []adapt.Part{adapt.PartAll, adapt.PartDecoder, adapt.PartNormalisation} {
		out.Parts = append(out.Parts, partOf(m, p))
	}
	engine, err := adapt.NewEngine(net, []int{0}, compile)
	if err != nil {
		return out, err
	}
	progress(2)
	if err := out.findSizes(ctx, engine); err != nil {
		return out, err
	}
	progress(3)
	if err := out.measureForward(ctx, engine); err != nil {
		out.Trouble = append(out.Trouble, fmt.Sprintf("a forward run fails: %v", err))
		if len(m.Graph.Outputs) > 1 || len(out.Size) == 2 && out.Classes > manyClasses {
			out.Trouble = append(out.Trouble, halfOfPair)
		}
		return out, ctx.Err()
	}
	progress(4)
	if err := out.measureStep(ctx, engine); err != nil {
		out.Trouble = append(out.Trouble, fmt.Sprintf("an adaptation step fails: %v", err))
	}
	return out, ctx.Err()
}

// halfOfPair is the way out for somebody who has given an encoder or a decoder alone.
const halfOfPair = "if this is one of the two files of a network that comes as an encoder and a decoder, as Segment Anything does, name both: scrawl model import ENCODER.onnx DECODER.onnx"

// manyClasses are more channels than segmentation networks answer with, as the embeddings of an encoder have.
const manyClasses = 128

func operators(m *onnx.Model) ([]Operator, error) {
	plain, err := onnx.Normalize(m)
	if err != nil {
		return nil, err
	}
	blocks := blocking(plain.Graph)
	count := map[string]int{}
	for _, n := range m.Graph.Nodes {
		name := n.Op
		if n.Domain != "" && n.Domain != "ai.onnx" {
			name = n.Domain + "." + n.Op
		}
		count[name]++
	}
	var list []Operator
	for name, c := range count {
		list = append(list, Operator{name, c, !blocks[name]})
	}
	slices.SortFunc(list, func(a, b Operator) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// blocking are the operators of a normalised graph without a gradient through which one would have to flow: they make numbers of a weight. Most
// of what a file holds of such operators is the arithmetic of sizes.
func blocking(g *onnx.Graph) map[string]bool {
	known := autodiff.Operators()
	moves, blocks := map[string]bool{}, map[string]bool{}
	for _, in := range g.Initializers {
		moves[in.Name] = in.Tensor.DType() == tensor.Float32 && in.Tensor.Len() > 1
	}
	for _, n := range g.Nodes {
		if constant(n.Op) || !slices.ContainsFunc(n.Inputs, func(v string) bool { return moves[v] }) || whole(n) {
			continue
		}
		if !slices.Contains(known, n.Op) {
			blocks[n.Op] = true
		}
		for _, o := range n.Outputs {
			moves[o] = true
		}
	}
	return blocks
}

// whole tells of nodes that answer with whole numbers or decisions, whatever they are given.
func whole(n *onnx.Node) bool {
	switch n.Op {
	case "Cast":
		return !tensor.DType(n.Int("to", 0)).IsFloat()
	case "ArgMax", "ArgMin", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf", "OneHot":
		return true
	}
	return false
}

// constant tells of operators through which no gradient has to flow: what they make does not depend on weights.
func constant(op string) bool {
	return slices.Contains([]string{"Constant", "ConstantOfShape", "Shape", "Size", "Range", "NonZero"}, op)
}

func partOf(m *onnx.Model, p adapt.Part) Part {
	n, err := adapt.NewNetwork(m, adapt.Trainable{Part: p})
	if err != nil {
		return Part{Part: p, Missing: err.Error()}
	}
	part := Part{Part: p, Tensors: len(n.Params())}
	for _, w := range n.Source() {
		part.Numbers += w.Len()
	}
	return part
}

// candidates are what sizes may have to be multiples of, and leastSize the least size that is tried.
var candidates = []int{1, 2, 4, 8, 16, 32, 64}

const leastSize = 64

// findSizes finds what free sizes must be multiples of by trying: a size that is an odd multiple of a candidate is a multiple of
// nothing larger.
func (n *Network) findSizes(ctx context.Context, e *adapt.Engine) error {
	n.Multiple = 1
	if !slices.Contains(n.Size, 0) {
		n.MeasuredSize = n.Size
		return nil
	}
	for _, m := range candidates {
		size := m
		for size < leastSize {
			size += 2 * m
		}
		if len(n.Size) == 3 && size > leastSize+32 {
			break // volumes of that size take long
		}
		err := n.try(ctx, e, n.sized(size))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			n.Multiple = m
			n.MeasuredSize = n.sized(measured(len(n.Size)))
			return nil
		}
	}
	n.Trouble = append(n.Trouble, fmt.Sprintf("no size from %d to %d that is a multiple of up to %d can be run: does the network answer at the resolution of its input?", leastSize, 3*64, candidates[len(candidates)-1]))
	n.MeasuredSize = n.sized(measured(len(n.Size)))
	return nil
}

// measured is the size at which times are measured: of slices, or of volumes.
func measured(dims int) int {
	if dims == 3 {
		return 64
	}
	return 256
}

// sized gives the free axes a size.
func (n *Network) sized(size int) []int {
	s := slices.Clone(n.Size)
	for i, v := range s {
		if v == 0 {
			s[i] = size
		}
	}
	return s
}

func (n *Network) input(channels int, size []int) *tensor.Tensor {
	return tensor.Zeros[float32](append([]int{1, channels}, size...)...)
}

// try runs the network, and checks that it answers at the resolution of its input.
func (n *Network) try(ctx context.Context, e *adapt.Engine, size []int) error {
	p, err := e.Predict(ctx, e.Network().Source(), n.input(n.Channels, size))
	if err != nil {
		return err
	}
	if !slices.Equal(p.Shape()[2:], size) {
		return fmt.Errorf("the answer has size %v for an input of %v", p.Shape()[2:], size)
	}
	return nil
}

func (n *Network) measureForward(ctx context.Context, e *adapt.Engine) error {
	if err := n.try(ctx, e, n.MeasuredSize); err != nil {
		return err
	}
	start := time.Now()
	err := n.try(ctx, e, n.MeasuredSize)
	n.PredictTime = time.Since(start)
	return err
}

// measureStep adapts to one stroke of each kind and looks whether the weights have moved.
func (n *Network) measureStep(ctx context.Context, e *adapt.Engine) error {
	x := n.input(n.Channels, n.MeasuredSize)
	pixels := 1
	for _, s := range n.MeasuredSize {
		pixels *= s
	}
	for i := range x.Float32s() {
		x.Float32s()[i] = float32(i%251) / 250
	}
	s := adapt.Slice{X: x, Marked: n.input(1, n.MeasuredSize), Scribble: n.input(e.Network().Classes, n.MeasuredSize)}
	for i := range pixels / 8 {
		s.Marked.Float32s()[i] = 1
		s.Scribble.Float32s()[(i%2)*pixels+i] = 1
	}
	c := adapt.Thesis()
	c.Steps = 1
	sets := e.NewSets(1)
	start := time.Now()
	_, next, report, err := e.Interact(ctx, c, sets, s, 0)
	first := time.Since(start)
	if err != nil {
		return err
	}
	start = time.Now()
	if _, _, _, err := e.Interact(ctx, c, sets, s, 0); err != nil {
		return err
	}
	n.LearnTime = time.Since(start)
	n.PrepareTime = max(first-n.LearnTime, 0)
	for i, w := range next.Student {
		if !slices.Equal(w.Float32s(), sets.Student[i].Float32s()) {
			return nil
		}
	}
	return fmt.Errorf("no weight has moved, with losses %v", report.Losses)
}

// ReadFile reads the bytes of a network, up to a limit.
func ReadFile(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, errors.New("the file is larger than 1 GiB")
	}
	return data, nil
}
