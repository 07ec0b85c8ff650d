package adapt

import (
	"fmt"
	"maps"
	"slices"

	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// prefix keeps the names made here apart from those of the network's own values and weights, which stay as they are.
const prefix = "scrawl/"

// Names of the graphs' inputs and outputs.
const (
	inX       = prefix + "x"
	outProb   = prefix + "probabilities"
	outSum    = prefix + "sum_out"
	outSq     = prefix + "squares_out"
	inSigma   = prefix + "sigma"
	inStart   = prefix + "start"
	inBlur    = prefix + "blur"
	inGain    = prefix + "gain"
	inOffset  = prefix + "offset"
	inCounted = prefix + "counted"
	inInvT    = prefix + "inverse_temperature"

	inTarget   = prefix + "target"
	inWeight   = prefix + "weight"
	inScribble = prefix + "scribble"
	inMarked   = prefix + "marked"
	inLambda   = prefix + "lambda"
	inRate     = prefix + "learning_rate"
	inDecay    = prefix + "decay"
	inAlphas   = prefix + "alphas"
	inSteps    = prefix + "steps"
	inWhich    = prefix + "which_embedding"
	outLosses  = prefix + "losses"
)

// ofStep names the part of a stacked input that one step uses.
func ofStep(stacked string) string { return stacked + "_k" }

// stacked names the embeddings of a lesson.
func stacked(embedding string) string { return prefix + "stacked:" + embedding }

func value(name string, dims ...any) onnx.Value {
	v := onnx.Value{Name: name, DType: tensor.Float32, Shape: onnx.Shape{}}
	for _, d := range dims {
		switch d := d.(type) {
		case int:
			v.Shape = append(v.Shape, onnx.Dim{Size: int64(d)})
		case string:
			v.Shape = append(v.Shape, onnx.Dim{Symbol: d})
		}
	}
	return v
}

// image describes a float value [lead…,channels,H,W], or [lead…,channels,D,H,W] for volumes.
func (n *Network) image(name string, channels int, lead ...any) onnx.Value {
	dims := append(slices.Clone(lead), channels)
	for i, axis := range axisNames(len(n.Size)) {
		switch {
		case n.Size[i] > 0:
			dims = append(dims, n.Size[i])
		case n.multiple > 1:
			dims = append(dims, fmt.Sprintf("%d*%s", n.multiple, axis))
		default:
			dims = append(dims, axis)
		}
	}
	return value(name, dims...)
}

func weightValue(name string, t *tensor.Tensor) onnx.Value {
	v := onnx.Value{Name: name, DType: tensor.Float32, Shape: onnx.Shape{}}
	for _, d := range t.Shape() {
		v.Shape = append(v.Shape, onnx.Dim{Size: int64(d)})
	}
	return v
}

// graphOf starts a graph that holds the network's constants, without its trainable weights.
func (n *Network) graphOf(name string, inputs ...onnx.Value) *onnx.Graph {
	g := &onnx.Graph{Name: name, Inputs: inputs}
	for _, in := range n.forward.Initializers {
		if !slices.Contains(n.params, in.Name) {
			g.Initializers = append(g.Initializers, in)
		}
	}
	return g
}

// weights describes one set of weights, named by name.
func (n *Network) weights(name func(param string) string) []onnx.Value {
	values := make([]onnx.Value, len(n.params))
	for i, p := range n.params {
		values[i] = weightValue(name(p), n.source[i])
	}
	return values
}

// plain is the name of a weight in the network itself.
func plain(param string) string { return param }

// appendForward puts the network into b's graph, applied to the value x [batch,C,H,W], and returns
// its logits [N,K,H,W], K ≥ 2. A network with a single logit z is read as the pair (0, z), whose softmax is its sigmoid. One that takes
// a single image at a time is put there once for each, with the same weights.
func (n *Network) appendForward(b *onnx.Builder, x string, batch int) string {
	logits := n.output
	if n.oneByOne && batch > 1 {
		var each []string
		parted := func(v string) []string {
			return b.Ops("Split", batch, []string{v}, onnx.WithInt("axis", 0), onnx.WithInt("num_outputs", int64(batch)))
		}
		of := make([]map[string]string, batch) // what each copy reads in place of the batch
		for i, image := range parted(x) {
			of[i] = map[string]string{n.input: image}
		}
		for _, e := range n.given {
			for i, one := range parted(e.Name) {
				of[i][e.Name] = one
			}
		}
		for i := range batch {
			each = append(each, n.appendCopy(b, of[i], fmt.Sprintf("%simage%d/", prefix, i)))
		}
		logits = b.Op("Concat", each, onnx.WithInt("axis", 0))
	} else {
		b.Alias(x, n.input)
		b.Graph.Nodes = append(b.Graph.Nodes, n.forward.Nodes...)
	}
	if !n.single {
		return logits
	}
	zero := b.Op("Sub", []string{logits, logits})
	return b.Op("Concat", []string{zero, logits}, onnx.WithInt("axis", 1))
}

// appendCopy puts the network's nodes into b's graph with all their results renamed, and returns the copy's output. names holds what they
// read in place of the network's inputs, and is extended.
func (n *Network) appendCopy(b *onnx.Builder, names map[string]string, prefix string) string {
	b.Graph.Nodes = append(b.Graph.Nodes, renamed(n.forward.Nodes, names, prefix)...)
	return names[n.output]
}

// renamed copies nodes with the names of their results prefixed. names holds the new names of what has one, and is extended.
func renamed(nodes []*onnx.Node, names map[string]string, prefix string) []*onnx.Node {
	of := func(list []string) []string {
		out := slices.Clone(list)
		for i, v := range out {
			if actual, ok := names[v]; ok {
				out[i] = actual
			}
		}
		return out
	}
	copies := make([]*onnx.Node, len(nodes))
	for i, node := range nodes {
		c := &onnx.Node{Name: prefix + node.Name, Op: node.Op, Domain: node.Domain, Inputs: of(node.Inputs), Attrs: maps.Clone(node.Attrs)}
		for _, o := range node.Outputs {
			if o != "" {
				names[o] = prefix + o
			}
		}
		c.Outputs = of(node.Outputs)
		for key, a := range c.Attrs {
			if a.Graph != nil {
				a.Graph = renamedBody(a.Graph, names, prefix)
				c.Attrs[key] = a
			}
		}
		copies[i] = c
	}
	return copies
}

func renamedBody(g *onnx.Graph, names map[string]string, prefix string) *onnx.Graph {
	inner := maps.Clone(names)
	body := &onnx.Graph{Name: g.Name, Initializers: slices.Clone(g.Initializers)}
	values := func(list []onnx.Value) []onnx.Value {
		list = slices.Clone(list)
		for i := range list {
			if actual, ok := inner[list[i].Name]; ok {
				list[i].Name = actual
			}
		}
		return list
	}
	for _, in := range g.Inputs {
		inner[in.Name] = prefix + in.Name
	}
	for i, in := range body.Initializers {
		inner[in.Name] = prefix + in.Name
		body.Initializers[i].Name = prefix + in.Name
	}
	body.Inputs = values(g.Inputs)
	body.Nodes = renamed(g.Nodes, inner, prefix)
	body.Outputs = values(g.Outputs)
	return body
}

// PredictGraph builds the graph that answers: inputs x [N,C,H,W] and, unless frozen, the trainable weights; output probabilities
// [N,K,H,W], the softmax over classes. With frozen set the source's weights are constants, which ONNX Runtime lays out
// for speed once and for all. Of a joined network it is the decoder, with the embeddings as further inputs.
func (n *Network) PredictGraph(frozen bool) *onnx.Model {
	n = n.answering()
	batch := any("N")
	if n.oneByOne {
		batch = 1
	}
	g := n.graphOf("predict", n.image(inX, n.Channels, batch))
	g.Inputs = append(g.Inputs, n.embeddingValues(plain, batch)...)
	if frozen {
		g.Initializers = slices.Clone(n.forward.Initializers)
	} else {
		g.Inputs = append(g.Inputs, n.weights(plain)...)
	}
	b := onnx.NewBuilder(g, prefix)
	p := b.Op("Softmax", []string{n.appendForward(b, inX, 1)}, onnx.WithInt("axis", 1))
	b.Alias(p, outProb)
	g.Outputs = []onnx.Value{n.image(outProb, n.Classes, batch)}
	return model(g)
}

// MicroBatch is the number of augmented copies that the pseudo graph makes at a time.
const MicroBatch = 4

// BlurTaps is the length of a blur kernel.
const BlurTaps = 9

// PseudoGraph builds the graph that adds up the teacher's softened answers to augmented copies of a slice, and their squares (equation
// 3.3's text): an ONNX Loop over S micro-batches of 4 copies, so that weights are brought to the device and laid out once for all of
// them and memory does not grow with their number. Only the given image channels are augmented, each copy by
//
//	x' = gain · (blur ∗ x) + offset + sigma · grain[start …],
//
// and only copies whose entry in counted is 1 enter the sums. Inputs: x [1,C,H,W], blur [S,4,9] (the kernel along each spatial axis), gain,
// offset, sigma and counted [S,4], start int64 [S,4], inverse_temperature scalar, the weights. Outputs: sum_out and squares_out [1,K,H,W]. Of
// a joined network it holds the encoder too, for no embedding fits an augmented copy.
func (n *Network) PseudoGraph(imageChannels []int) (*onnx.Model, error) {
	images, others, err := n.splitChannels(imageChannels)
	if err != nil {
		return nil, err
	}
	g := n.graphOf("pseudo", n.image(inX, n.Channels, 1), value(inBlur, "S", MicroBatch, BlurTaps),
		value(inGain, "S", MicroBatch), value(inOffset, "S", MicroBatch), value(inSigma, "S", MicroBatch), value(inCounted, "S", MicroBatch),
		onnx.Value{Name: inStart, DType: tensor.Int64, Shape: onnx.Shape{{Symbol: "S"}, {Size: MicroBatch}}}, value(inInvT))
	g.Inputs = append(g.Inputs, n.weights(plain)...)
	b := onnx.NewBuilder(g, prefix)
	size := b.Op("Slice", []string{b.Op("Shape", []string{inX}), b.Int64s(2), b.Int64s(int64(2 + len(n.Size)))})
	zeros := b.Op("Expand", []string{b.Float(0), b.Op("Concat", []string{b.Int64s(1, int64(n.Classes)), size}, onnx.WithInt("axis", 0))})
	trips := b.Op("Gather", []string{b.Op("Shape", []string{inGain}), b.Int64(0)})
	body := n.pseudoBody(b, images, others)
	g.Nodes = append(g.Nodes, &onnx.Node{Name: prefix + "copies", Op: "Loop", Inputs: []string{trips, "", zeros, zeros},
		Outputs: []string{outSum, outSq}, Attrs: map[string]onnx.Attr{"body": {Kind: onnx.AttrGraph, Graph: body}}})
	g.Outputs = []onnx.Value{n.image(outSum, n.Classes, 1), n.image(outSq, n.Classes, 1)}
	return model(g), nil
}

// pseudoBody is one micro-batch: the Loop's body.
func (n *Network) pseudoBody(outer *onnx.Builder, images, others []int64) *onnx.Graph {
	const iteration, goOn, sum, squares = prefix + "iteration", prefix + "go_on", prefix + "sum", prefix + "squares"
	body := &onnx.Graph{Name: "body",
		Inputs: []onnx.Value{{Name: iteration, DType: tensor.Int64, Shape: onnx.Shape{}}, {Name: goOn, DType: tensor.Bool, Shape: onnx.Shape{}},
			n.image(sum, n.Classes, 1), n.image(squares, n.Classes, 1)},
		Outputs: []onnx.Value{{Name: goOn + "_out", DType: tensor.Bool, Shape: onnx.Shape{}}, n.image(sum+"_out", n.Classes, 1), n.image(squares+"_out", n.Classes, 1)}}
	picked := outer.Op("Gather", []string{inX, outer.Int64s(images...)}, onnx.WithInt("axis", 1))
	order := outer.Op("Range", []string{outer.Int64(0), outer.Op("Size", []string{picked}), outer.Int64(1)})
	table := outer.Const(grain())

	b := outer.Sub(body, prefix+"pseudo/")
	b.Alias(goOn, goOn+"_out")
	for _, name := range []string{inBlur, inGain, inOffset, inSigma, inStart, inCounted} {
		b.Alias(b.Op("Gather", []string{name, iteration}, onnx.WithInt("axis", 0)), ofStep(name))
	}
	perCopy := func(name string) string {
		return b.Op("Reshape", []string{ofStep(name), b.Int64s(perImage(MicroBatch, len(n.Size))...)})
	}
	at := b.Op("Add", []string{b.Op("Reshape", []string{ofStep(inStart), b.Int64s(MicroBatch, 1)}), order})
	at = b.Op("Mod", []string{at, b.Int64s(grainLength)})
	v := augmentedImages(b, picked, len(n.Size))
	noise := b.Op("Reshape", []string{b.Op("Gather", []string{table, at}), b.Op("Shape", []string{v})})
	v = b.Op("Add", []string{b.Op("Mul", []string{v, perCopy(inGain)}), perCopy(inOffset)})
	v = b.Op("Add", []string{v, b.Op("Mul", []string{noise, perCopy(inSigma)})})
	copies := joinedChannels(b, v, images, others, n.Channels, len(n.Size))

	logits := b.Op("Mul", []string{n.appendForward(b, copies, MicroBatch), inInvT})
	p := b.Op("Softmax", []string{logits}, onnx.WithInt("axis", 1))
	// Copies need not be a multiple of the micro-batch: those beyond are made and not counted.
	p = b.Op("Mul", []string{p, perCopy(inCounted)})
	overCopies := func(op string) string {
		return b.Op(op, []string{p, b.Int64s(0)}, onnx.WithInt("keepdims", 1))
	}
	b.Alias(b.Op("Add", []string{sum, overCopies("ReduceSum")}), sum+"_out")
	b.Alias(b.Op("Add", []string{squares, overCopies("ReduceSumSquare")}), squares+"_out")
	return body
}

// splitChannels parts the input channels into those of the image and the others.
func (n *Network) splitChannels(imageChannels []int) (images, others []int64, err error) {
	if len(imageChannels) == 0 {
		return nil, nil, fmt.Errorf("no input channel is named as the image")
	}
	for c := range n.Channels {
		if slices.Contains(imageChannels, c) {
			images = append(images, int64(c))
		} else {
			others = append(others, int64(c))
		}
	}
	if len(images) != len(imageChannels) {
		return nil, nil, fmt.Errorf("image channels %v do not all lie in 0…%d", imageChannels, n.Channels-1)
	}
	return images, others, nil
}

// perImage is the shape [n,1,1,…] that broadcasts one number per image over channels and pixels.
func perImage(n int64, dims int) []int64 {
	return append([]int64{n}, ones(dims+1)...)
}

func ones(n int) []int64 { return slices.Repeat([]int64{1}, n) }

// augmentedImages makes MicroBatch blurred copies of the image channels [1,Ci,H,W]: [4,Ci,H,W].
func augmentedImages(b *onnx.Builder, picked string, dims int) string {
	swapped := []int64{1, 0, 2, 3, 4}[:2+dims]
	// Each channel is an image of its own [Ci,1,H,W]; the copies take the place of channels while blurring.
	v := b.Op("Transpose", []string{picked}, onnx.WithInts("perm", swapped...))
	for axis := range dims {
		v = blurred(b, v, axis, dims)
	}
	return b.Op("Transpose", []string{v}, onnx.WithInts("perm", swapped...))
}

// joinedChannels puts the copies' image channels [4,Ci,H,W] in their places among the other channels of x: [4,C,H,W].
func joinedChannels(b *onnx.Builder, v string, images, others []int64, channels, dims int) string {
	gather := func(v string, idx []int64) string {
		return b.Op("Gather", []string{v, b.Int64s(idx...)}, onnx.WithInt("axis", 1))
	}
	if len(others) == 0 {
		return v
	}
	rest := b.Op("Tile", []string{gather(inX, others), b.Int64s(perImage(MicroBatch, dims)...)})
	joined := b.Op("Concat", []string{v, rest}, onnx.WithInt("axis", 1))
	order := make([]int64, channels)
	inOrder := true
	for pos, c := range append(slices.Clone(images), others...) {
		order[c] = int64(pos)
		inOrder = inOrder && int64(pos) == c
	}
	if inOrder {
		return joined
	}
	return gather(joined, order)
}

// blurred convolves v with each copy's kernel along one spatial axis, its edge repeated: [Ci,1,H,W] → [Ci,4,H,W] along the first, which
// makes the copies, and [Ci,4,H,W] → [Ci,4,H,W] along the others.
func blurred(b *onnx.Builder, v string, axis, dims int) string {
	const r = BlurTaps / 2
	pads, kernel := make([]int64, 2*(2+dims)), ones(dims)
	pads[2+axis], pads[4+dims+axis], kernel[axis] = r, r, BlurTaps
	v = b.Op("Pad", []string{v, b.Int64s(pads...)}, onnx.WithString("mode", "edge"))
	weight := b.Op("Reshape", []string{ofStep(inBlur), b.Int64s(append([]int64{MicroBatch, 1}, kernel...)...)})
	group := int64(MicroBatch)
	if axis == 0 {
		group = 1
	}
	return b.Op("Conv", []string{v, weight}, onnx.WithInts("kernel_shape", kernel...), onnx.WithInt("group", group))
}

// Optimizer is the rule by which the student's weights follow the gradient.
type Optimizer int

// SGD is plain stochastic gradient descent, the thesis's choice. AdamW (Loshchilov and Hutter 2019) is for training from scratch.
const (
	SGD Optimizer = iota
	AdamW
)

// StepOptions shape the step graph.
type StepOptions struct {
	// Batch is the number of examples of one step.
	Batch int
	// Averages is the number of exponential averages that follow the student.
	Averages int
	// AveragePerStep takes the averages after every step; otherwise once, after the last.
	AveragePerStep bool
	Optimizer      Optimizer
	// Dice adds 1 − the mean soft Dice coefficient of the classes but background to the loss (Milletari et al. 2016), for training from
	// masks that people drew.
	Dice bool
	// ClipNorm is the largest global norm of a step's gradient (0: unbounded).
	ClipNorm float32
}

// StepGraph builds the graph that learns: an ONNX Loop over K steps of
//
//	L = L_cons + λ·L_inter                                       (4.2)
//	L_cons  = −Σ weight · Σ_c target[c] · log ŷ_S[c]             (3.3)
//	L_inter = −Σ marked · Σ_c scribble[c] · log ŷ_S[c]           (3.4)
//	θ_S ← θ_S − learning_rate · ∂L/∂θ_S,   θ_T ← αθ_T + (1−α)θ_S  (3.5)
//
// Inputs: x [S,B,C,H,W], target and scribble [S,B,K,H,W], weight and marked [S,B,1,H,W] (step k uses batch k mod S; whoever
// calls divides the weights by their sums where means are wanted), lambda, learning_rate scalars, alphas [averages] if there
// are any, decay scalar for AdamW, steps int64 scalar, then the student's weights, each average's, and for AdamW the two moments.
// Outputs: the same sets, and losses [K,2] = (L_cons or, with Dice, L_cons + Dice; L_inter). Of a joined network it is the decoder that
// learns; further inputs are the embeddings [E,…] of the images that differ and, as int64 [S,B], which of them each example has.
func (n *Network) StepGraph(o StepOptions) (*onnx.Model, error) {
	n = n.answering()
	g := n.graphOf("step",
		n.image(inX, n.Channels, "S", o.Batch),
		n.image(inTarget, n.Classes, "S", o.Batch), n.image(inWeight, 1, "S", o.Batch),
		n.image(inScribble, n.Classes, "S", o.Batch), n.image(inMarked, 1, "S", o.Batch))
	g.Inputs = append(g.Inputs, o.constants()...)
	g.Inputs = append(g.Inputs, onnx.Value{Name: inSteps, DType: tensor.Int64, Shape: onnx.Shape{}})
	if len(n.given) > 0 {
		g.Inputs = append(g.Inputs, n.embeddingValues(stacked, "E")...)
		g.Inputs = append(g.Inputs, onnx.Value{Name: inWhich, DType: tensor.Int64, Shape: onnx.Shape{{Symbol: "S"}, {Size: int64(o.Batch)}}})
	}
	b := onnx.NewBuilder(g, prefix)
	body, err := n.stepBody(b, o)
	if err != nil {
		return nil, err
	}
	loopIn := []string{inSteps, ""}
	var results, fromLoop []string
	for _, set := range o.sets() {
		g.Inputs = append(g.Inputs, n.weights(set.in)...)
		g.Outputs = append(g.Outputs, n.weights(set.out)...)
		for _, p := range n.params {
			loopIn, results = append(loopIn, set.in(p)), append(results, set.out(p))
		}
	}
	late := !o.AveragePerStep && o.Averages > 0
	for _, r := range results {
		if late {
			r += "_before_average"
		}
		fromLoop = append(fromLoop, r)
	}
	g.Nodes = append(g.Nodes, &onnx.Node{Name: prefix + "loop", Op: "Loop", Inputs: loopIn,
		Outputs: append(fromLoop, outLosses), Attrs: map[string]onnx.Attr{"body": {Kind: onnx.AttrGraph, Graph: body}}})
	if late {
		n.averageAfterLoop(b, o, fromLoop, results)
	}
	g.Outputs = append(g.Outputs, value(outLosses, "K", 2))
	return model(g), nil
}

// constants are the scalars of a lesson that the loop's body reads.
func (o StepOptions) constants() []onnx.Value {
	v := []onnx.Value{value(inLambda), value(inRate)}
	if o.Averages > 0 {
		v = append(v, value(inAlphas, o.Averages))
	}
	if o.Optimizer == AdamW {
		v = append(v, value(inDecay))
	}
	return v
}

// set is a set of tensors, one for each weight, that the loop carries.
type set string

const (
	student set = "student"
	moment1 set = "moment1"
	moment2 set = "moment2"
)

func averageSet(k int) set { return set(fmt.Sprintf("average%d", k)) }

// sets lists the sets in the order of [Engine.Step].
func (o StepOptions) sets() []set {
	sets := []set{student}
	for k := range o.Averages {
		sets = append(sets, averageSet(k))
	}
	if o.Optimizer == AdamW {
		sets = append(sets, moment1, moment2)
	}
	return sets
}

// in and out name a tensor of the set as the graph's input and output.
func (s set) in(param string) string  { return prefix + string(s) + ":" + param }
func (s set) out(param string) string { return prefix + "new_" + string(s) + ":" + param }

// carried and next name it in the loop's body, before and after a step. The student's weights have their own names there, since
// the network reads them.
func (s set) carried(param string) string {
	if s == student {
		return param
	}
	return prefix + "carried_" + string(s) + ":" + param
}
func (s set) next(param string) string { return prefix + "next_" + string(s) + ":" + param }

// averageAfterLoop takes each average once, from the student the loop ended with. from and to name all sets' tensors.
func (n *Network) averageAfterLoop(b *onnx.Builder, o StepOptions, from, to []string) {
	np := len(n.params)
	for j := range from {
		if k := j/np - 1; k >= 0 && k < o.Averages {
			b.Alias(average(b, from[j], from[j%np], k), to[j])
		} else {
			b.Alias(from[j], to[j])
		}
	}
}

// average is α·avg + (1−α)·student.
func average(b *onnx.Builder, avg, student string, k int) string {
	alpha := b.Op("Gather", []string{inAlphas, b.Int64(int64(k))})
	rest := b.Op("Sub", []string{b.Float(1), alpha})
	return b.Op("Add", []string{b.Op("Mul", []string{avg, alpha}), b.Op("Mul", []string{student, rest})})
}

// stepBody is one step: the Loop's body.
func (n *Network) stepBody(outer *onnx.Builder, o StepOptions) (*onnx.Graph, error) {
	// The gradient is taken in a graph of its own, where the batch is an input, and then moved into the body.
	g := n.graphOf("one_step",
		n.image(ofStep(inX), n.Channels, o.Batch),
		n.image(ofStep(inTarget), n.Classes, o.Batch), n.image(ofStep(inWeight), 1, o.Batch),
		n.image(ofStep(inScribble), n.Classes, o.Batch), n.image(ofStep(inMarked), 1, o.Batch))
	g.Inputs = append(g.Inputs, n.embeddingValues(plain, o.Batch)...)
	g.Inputs = append(g.Inputs, o.constants()...)
	g.Inputs = append(g.Inputs, n.weights(plain)...)
	constants := len(g.Initializers)
	b := onnx.NewBuilder(g, prefix+"step/")
	loss, lCons, lInter := n.losses(b, o)
	grads, err := autodiff.Gradients(b, map[string]string{loss: b.Float(1)}, n.params)
	if err != nil {
		return nil, err
	}
	n.update(b, o, grads)

	const iteration, goOn = prefix + "iteration", prefix + "go_on"
	body := &onnx.Graph{Name: "body",
		Inputs:  []onnx.Value{{Name: iteration, DType: tensor.Int64, Shape: onnx.Shape{}}, {Name: goOn, DType: tensor.Bool, Shape: onnx.Shape{}}},
		Outputs: []onnx.Value{{Name: goOn + "_out", DType: tensor.Bool, Shape: onnx.Shape{}}}}
	for _, s := range o.sets() {
		body.Inputs = append(body.Inputs, n.weights(s.carried)...)
		body.Outputs = append(body.Outputs, n.weights(s.next)...)
	}
	// Constants made on the way belong to the outermost graph, where the runtime folds and keeps them.
	outer.Graph.Initializers = append(outer.Graph.Initializers, g.Initializers[constants:]...)
	sub := onnx.NewBuilder(body, prefix+"body/")
	n.pickBatch(outer, sub, iteration)
	body.Nodes, body.Summaries = append(body.Nodes, g.Nodes...), g.Summaries
	sub.Alias(goOn, goOn+"_out")
	losses := sub.Op("Concat", []string{sub.Op("Reshape", []string{lCons, outer.Int64s(1)}), sub.Op("Reshape", []string{lInter, outer.Int64s(1)})}, onnx.WithInt("axis", 0))
	sub.Alias(losses, ofStep(outLosses))
	body.Outputs = append(body.Outputs, value(ofStep(outLosses), 2))
	return body, nil
}

// losses appends the network and its losses, all scalars: what is minimised, and its two terms.
func (n *Network) losses(b *onnx.Builder, o StepOptions) (loss, cons, inter string) {
	logp := b.Op("LogSoftmax", []string{n.appendForward(b, ofStep(inX), o.Batch)}, onnx.WithInt("axis", 1))
	crossEntropy := func(target, weight string) string {
		t := b.Op("Mul", []string{ofStep(target), ofStep(weight)})
		return b.Op("Neg", []string{b.Op("ReduceSum", []string{b.Op("Mul", []string{logp, t})}, onnx.WithInt("keepdims", 0))})
	}
	cons, inter = crossEntropy(inTarget, inWeight), crossEntropy(inScribble, inMarked)
	if o.Dice {
		cons = b.Op("Add", []string{cons, n.softDice(b, logp)})
	}
	return b.Op("Add", []string{cons, b.Op("Mul", []string{inter, inLambda})}), cons, inter
}

// pickBatch takes batch k mod S of the stacked inputs.
func (n *Network) pickBatch(outer, sub *onnx.Builder, iteration string) {
	count := outer.Op("Gather", []string{outer.Op("Shape", []string{inX}), outer.Int64(0)})
	k := sub.Op("Mod", []string{iteration, count})
	for _, name := range []string{inX, inTarget, inWeight, inScribble, inMarked} {
		sub.Alias(sub.Op("Gather", []string{name, k}, onnx.WithInt("axis", 0)), ofStep(name))
	}
	if len(n.given) == 0 {
		return
	}
	which := sub.Op("Gather", []string{inWhich, k}, onnx.WithInt("axis", 0))
	for _, e := range n.given {
		sub.Alias(sub.Op("Gather", []string{stacked(e.Name), which}, onnx.WithInt("axis", 0)), e.Name)
	}
}

// softDice is 1 − the mean over the batch and the classes but background of (2Σ p·t + 1) / (Σp + Σt + 1), over the pixels that have a
// weight.
func (n *Network) softDice(b *onnx.Builder, logp string) string {
	pick := func(v string) string {
		return b.Op("Slice", []string{v, b.Int64s(1), b.Int64s(int64(n.Classes)), b.Int64s(1)})
	}
	sum := func(v string) string {
		return b.Op("ReduceSum", []string{v, b.Int64s([]int64{2, 3, 4}[:len(n.Size)]...)}, onnx.WithInt("keepdims", 0))
	}
	counted := b.Op("Sign", []string{ofStep(inWeight)})
	p, t := b.Op("Mul", []string{b.Op("Exp", []string{pick(logp)}), counted}), pick(ofStep(inTarget))
	one := b.Float(1)
	num := b.Op("Add", []string{b.Op("Mul", []string{sum(b.Op("Mul", []string{p, t})), b.Float(2)}), one})
	den := b.Op("Add", []string{b.Op("Add", []string{sum(p), sum(b.Op("Mul", []string{t, counted}))}), one})
	dice := b.Op("ReduceMean", []string{b.Op("Div", []string{num, den})}, onnx.WithInt("keepdims", 0))
	return b.Op("Sub", []string{one, dice})
}

// update appends the optimiser's rule and the averages.
func (n *Network) update(b *onnx.Builder, o StepOptions, grads map[string]string) {
	if o.ClipNorm > 0 {
		n.clip(b, o.ClipNorm, grads)
	}
	for _, p := range n.params {
		var next string
		if o.Optimizer == AdamW {
			next = adamW(b, p, grads[p])
		} else {
			next = b.Op("Sub", []string{p, b.Op("Mul", []string{grads[p], inRate})})
		}
		b.Alias(next, student.next(p))
		for k := range o.Averages {
			s := averageSet(k)
			if o.AveragePerStep {
				b.Alias(average(b, s.carried(p), next, k), s.next(p))
			} else {
				b.Alias(s.carried(p), s.next(p))
			}
		}
	}
}

// clip scales the gradients down to a global norm.
func (n *Network) clip(b *onnx.Builder, limit float32, grads map[string]string) {
	var squares []string
	for _, p := range n.params {
		squares = append(squares, b.Op("ReduceSumSquare", []string{grads[p]}, onnx.WithInt("keepdims", 0)))
	}
	norm := b.Op("Sqrt", []string{b.Op("Sum", squares)})
	factor := b.Op("Div", []string{b.Float(limit), b.Op("Max", []string{norm, b.Float(limit)})})
	for _, p := range n.params {
		grads[p] = b.Op("Mul", []string{grads[p], factor})
	}
}

// adamW is one step of AdamW with β = (0.9, 0.999) and ε = 1e-8, in the efficient form of Kingma and Ba 2015 (end of section 2):
//
//	m ← β₁m + (1−β₁)g,  v ← β₂v + (1−β₂)g²,  p ← p − decay·p − learning_rate · m/(√v + ε).
//
// The caller's learning rate carries the bias correction √(1−β₂ᵗ)/(1−β₁ᵗ), and decay, which it does not touch, is the plain
// learning rate times the weight decay.
func adamW(b *onnx.Builder, p, grad string) string {
	mix := func(old, new string, beta float32) string {
		return b.Op("Add", []string{b.Op("Mul", []string{old, b.Float(beta)}), b.Op("Mul", []string{new, b.Float(1 - beta)})})
	}
	m := mix(moment1.carried(p), grad, 0.9)
	v := mix(moment2.carried(p), b.Op("Mul", []string{grad, grad}), 0.999)
	b.Alias(m, moment1.next(p))
	b.Alias(v, moment2.next(p))
	step := b.Op("Div", []string{m, b.Op("Add", []string{b.Op("Sqrt", []string{v}), b.Float(1e-8)})})
	kept := b.Op("Sub", []string{p, b.Op("Mul", []string{p, inDecay})})
	return b.Op("Sub", []string{kept, b.Op("Mul", []string{step, inRate})})
}
