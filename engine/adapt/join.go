package adapt

import (
	"fmt"
	"slices"
	"strings"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// TwoParts says how a network that comes as two files, as Segment Anything does (Kirillov et al. 2023), is asked: an encoder, which sees
// the image, and a decoder, which is given what the encoder makes of it, its embeddings, and the prompts.
type TwoParts struct {
	// Grid is the height and width of the images.
	Grid int
	// Channels is the number of channels of the joined network's input [N,C,G,G].
	Channels int
	// Images are the channels that the encoder sees. One may stand for all of an encoder that takes more.
	Images []int
	// Maps are the channels that are shown to the decoder as maps [N,Cp,G,G], in this order.
	Maps []int
	// Points is the number of points that the decoder is given as point_coords [1,P,2] (x and y in pixels of the grid) and point_labels
	// [1,P] (1 on the object, 0 beside it, −1 and both coordinates 0 for no point), or, as Hugging Face's exports call them, input_points [N,1,P,2]
	// and input_labels [N,1,P] (−10 for no point); 0 for none. PointMap is the channel that holds them, each as one pixel that is not 0: above it
	// for points on the object, below it for points beside it. The decoder sees the P largest magnitudes, in falling order.
	Points, PointMap int
	// Previous is the channel that holds the logits of the previous prediction, for a decoder with the inputs mask_input [1,1,m,m] and
	// has_mask_input [1]; −1 for none. A channel of zeros is no prediction.
	Previous int
	// Mask is the answer taken, of a decoder that answers several.
	Mask int
}

// The names of a decoder's inputs for prompts, as exports of Segment Anything call them: the authors' own script, and Hugging Face's.
const (
	pointCoords  = "point_coords"
	pointLabels  = "point_labels"
	inputPoints  = "input_points"
	inputLabels  = "input_labels"
	maskInput    = "mask_input"
	hasMaskInput = "has_mask_input"
	origImSize   = "orig_im_size" // height and width that the answer is enlarged to
)

// answers are the names of a decoder's outputs that hold logits on the decoder's own grid, where it is not the first output that does.
var answers = []string{"low_res_masks", "pred_masks"}

// TakesPoints reports whether a decoder is given points, and how many: 0 for any number.
func TakesPoints(decoder *onnx.Model) (points int, takes bool) {
	for _, v := range decoder.Graph.Inputs {
		if v.Name != pointLabels && v.Name != inputLabels || len(v.Shape) == 0 {
			continue
		}
		last := v.Shape[len(v.Shape)-1]
		if !last.Known() {
			return 0, true
		}
		return int(last.Size), true
	}
	return 0, false
}

// TakesMask reports whether a decoder is shown the previous prediction by an input of its own, rather than in a map.
func TakesMask(decoder *onnx.Model) bool {
	return slices.ContainsFunc(decoder.Graph.Inputs, func(v onnx.Value) bool { return v.Name == maskInput })
}

// Names in joined networks. All that [frozenPrefix] begins is the encoder's, or a constant, and never trained: a joined network that was stored and
// read again is still known as one.
const (
	joinedInput  = "scrawl_slice"
	frozenPrefix = "scrawl_frozen/"
	joining      = "scrawl_joined_"
)

// Join makes one network [N,C,G,G] → logits [N,1,G,G] of an encoder [N,Ci,G,G] and a decoder. The decoder's inputs are matched with the
// encoder's outputs by name, or else by order and shape; prompts are matched by name, and maps by shape. A decoder that answers on a coarser
// grid is enlarged linearly, so that losses and answers are on the images' own. The network made is an ordinary one with one input, and can
// be stored as one file; [NewNetwork] knows the parts again, and an [Engine] of it runs the encoder once for each image.
func Join(encoder, decoder *onnx.Model, p TwoParts) (*onnx.Model, error) {
	decoder = answering(decoder)
	written := constants(decoder.Graph)
	parts := [2]*onnx.Graph{}
	for i, m := range []*onnx.Model{encoder, decoder} {
		norm, err := onnx.Normalize(m)
		if err == nil {
			err = onnx.Check(norm.Graph)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", [2]string{"encoder", "decoder"}[i], err)
		}
		parts[i] = norm.Graph
	}
	j := &joiner{TwoParts: p, encoder: parts[0], decoder: parts[1], written: written}
	if len(j.encoder.Inputs) != 1 || len(j.encoder.Outputs) < 1 || len(j.decoder.Outputs) < 1 {
		return nil, fmt.Errorf("an encoder of %d inputs and %d outputs and a decoder of %d outputs: one image goes into the encoder, and each answers something",
			len(j.encoder.Inputs), len(j.encoder.Outputs), len(j.decoder.Outputs))
	}
	if j.batches() {
		if g, err := j.join(onnx.Dim{Symbol: "N"}); err == nil {
			return model(g), nil
		}
	}
	g, err := j.join(onnx.Dim{Size: 1})
	if err != nil {
		return nil, err
	}
	return model(g), nil
}

// Logits is the output of a decoder, which has one at least, that holds its logits.
func Logits(decoder *onnx.Model) onnx.Value {
	at := slices.IndexFunc(decoder.Graph.Outputs, func(v onnx.Value) bool { return slices.Contains(answers, v.Name) })
	return decoder.Graph.Outputs[max(at, 0)]
}

// answering is the decoder with its logits for its only output.
func answering(decoder *onnx.Model) *onnx.Model {
	if len(decoder.Graph.Outputs) < 2 {
		return decoder
	}
	m, g := *decoder, *decoder.Graph
	m.Graph, g.Outputs = &g, []onnx.Value{Logits(decoder)}
	return &m
}

// joiner is a network being joined.
type joiner struct {
	TwoParts
	encoder, decoder *onnx.Graph
	written          map[string]bool
	b                *onnx.Builder
	batch            onnx.Dim
	points           points
}

// batches reports whether both parts say that they take batches: Segment Anything's decoder reads a first axis as prompts of one image.
func (j *joiner) batches() bool {
	return !slices.ContainsFunc(slices.Concat(j.encoder.Inputs, j.decoder.Inputs), func(v onnx.Value) bool {
		return len(v.Shape) == 0 || v.Shape[0].Known()
	})
}

// fits reports whether a value of shape got can be given where want was declared, the batch axis aside.
func fits(want, got onnx.Shape) bool {
	if want == nil || len(want) != len(got) {
		return want == nil
	}
	for i, d := range want {
		if i > 0 && d.Known() && got[i].Known() && d != got[i] {
			return false
		}
	}
	return true
}

func (j *joiner) shape(dims ...int) onnx.Shape {
	s := onnx.Shape{j.batch}
	for _, d := range dims {
		s = append(s, onnx.Dim{Size: int64(d)})
	}
	return s
}

func (j *joiner) join(batch onnx.Dim) (*onnx.Graph, error) {
	j.batch, j.points = batch, points{}
	g := &onnx.Graph{Name: "joined", Inputs: []onnx.Value{{Name: joinedInput, DType: tensor.Float32, Shape: j.shape(j.Channels, j.Grid, j.Grid)}}}
	j.b = onnx.NewBuilder(g, joining)
	image, err := j.image()
	if err != nil {
		return nil, err
	}
	names := map[string]string{j.encoder.Inputs[0].Name: image}
	for _, in := range j.encoder.Initializers {
		names[in.Name] = frozenPrefix + in.Name
		g.Initializers = append(g.Initializers, onnx.Initializer{Name: frozenPrefix + in.Name, Tensor: in.Tensor})
	}
	g.Nodes = append(g.Nodes, renamed(j.encoder.Nodes, names, frozenPrefix)...)
	facts, err := onnx.Infer(g)
	if err != nil {
		return nil, fmt.Errorf("encoder: %w", err)
	}
	var embeddings []onnx.Value
	for _, o := range j.encoder.Outputs {
		e := onnx.Value{Name: o.Name, DType: facts[names[o.Name]].DType, Shape: facts[names[o.Name]].Shape}
		if err := j.checkEmbedding(e); err != nil {
			return nil, err
		}
		embeddings = append(embeddings, e)
	}
	given, err := j.match(embeddings, names)
	if err != nil {
		return nil, err
	}
	for _, in := range j.decoder.Initializers {
		if j.written[in.Name] {
			given[in.Name] = frozenPrefix + "decoder/" + in.Name
			in.Name = given[in.Name]
		}
		g.Initializers = append(g.Initializers, in)
	}
	g.Nodes = append(g.Nodes, renamed(j.decoder.Nodes, given, "")...)
	return g, j.answer(given[j.decoder.Outputs[0].Name])
}

// image takes the image's channels out of the input, as many as the encoder takes.
func (j *joiner) image() (string, error) {
	in := j.encoder.Inputs[0]
	if len(in.Shape) != 4 || !in.Shape[1].Known() {
		return "", fmt.Errorf("the encoder's input %q has shape %v; an image [1,Ci,%d,%[3]d] with a known number of channels is wanted", in.Name, in.Shape, j.Grid)
	}
	for _, d := range in.Shape[2:] {
		if d.Known() && int(d.Size) != j.Grid {
			return "", fmt.Errorf("the encoder's input %q takes images of %v×%v pixels, the grid has %d: they must be the same", in.Name, in.Shape[2], in.Shape[3], j.Grid)
		}
	}
	seen := j.Images
	if len(seen) == 1 {
		seen = slices.Repeat(seen, int(in.Shape[1].Size))
	}
	if len(seen) != int(in.Shape[1].Size) {
		return "", fmt.Errorf("the encoder's input %q has %v channels, %d show the image", in.Name, in.Shape[1], len(seen))
	}
	return j.channels(seen...), nil
}

// channels takes channels out of the input: [N,n,G,G].
func (j *joiner) channels(list ...int) string {
	at := make([]int64, len(list))
	for i, c := range list {
		at[i] = int64(c)
	}
	return j.b.Op("Gather", []string{joinedInput, j.b.Int64s(at...)}, onnx.WithInt("axis", 1))
}

func (j *joiner) checkEmbedding(e onnx.Value) error {
	if len(e.Shape) < 1 || e.DType != tensor.Float32 || e.Shape[0] != j.batch || slices.ContainsFunc(e.Shape[1:], func(d onnx.Dim) bool { return !d.Known() }) {
		return fmt.Errorf("the encoder's output %q is %s %v; float32 of a known shape, with one entry for each image, is wanted", e.Name, e.DType, e.Shape)
	}
	return nil
}

// match finds what each input of the decoder is given. names are the encoder's values in the joined graph.
func (j *joiner) match(embeddings []onnx.Value, names map[string]string) (map[string]string, error) {
	given := map[string]string{}
	prompts := j.prompts()
	left := slices.Clone(embeddings)
	take := func(in onnx.Value, i int) {
		given[in.Name] = names[left[i].Name]
		left = slices.Delete(left, i, i+1)
	}
	var others []onnx.Value
	for _, in := range j.decoder.Inputs {
		if prompt, ok := prompts[in.Name]; ok {
			value, err := prompt(in)
			if err != nil {
				return nil, err
			}
			given[in.Name] = value
			continue
		}
		i := slices.IndexFunc(left, func(e onnx.Value) bool { return e.Name == in.Name })
		if i < 0 {
			others = append(others, in)
			continue
		}
		if !fits(in.Shape, left[i].Shape) {
			return nil, fmt.Errorf("the encoder's output %q has shape %v, the decoder's input of that name takes %v", in.Name, left[i].Shape, in.Shape)
		}
		take(in, i)
	}
	maps := len(j.Maps) > 0
	for _, in := range others {
		i := slices.IndexFunc(left, func(e onnx.Value) bool { return in.DType == e.DType && fits(in.Shape, e.Shape) })
		switch {
		case i == 0 || i > 0 && !maps:
			take(in, i)
		case maps && fits(in.Shape, j.shape(len(j.Maps), j.Grid, j.Grid)) && in.DType == tensor.Float32:
			maps, given[in.Name] = false, j.channels(j.Maps...)
		case i > 0:
			take(in, i)
		default:
			return nil, fmt.Errorf("nothing fits the decoder's input %q %v: the encoder answers %s, and there are %s", in.Name, in.Shape, described(left), j.offered())
		}
	}
	switch {
	case len(left) > 0:
		return nil, fmt.Errorf("the decoder, which takes %s, does not take what the encoder answers as %s", described(j.decoder.Inputs), described(left))
	case maps:
		return nil, fmt.Errorf("the decoder, which takes %s, has no input for the prompts' %d channels [1,%[2]d,%d,%[3]d]", described(j.decoder.Inputs), len(j.Maps), j.Grid)
	case j.Points > 0 && (given[pointCoords] == "" || given[pointLabels] == "") && (given[inputPoints] == "" || given[inputLabels] == ""):
		return nil, fmt.Errorf("the decoder, which takes %s, has no inputs %s and %s, or %s and %s, for points", described(j.decoder.Inputs), pointCoords, pointLabels, inputPoints, inputLabels)
	case j.Previous >= 0 && given[maskInput] == "":
		return nil, fmt.Errorf("the decoder, which takes %s, has no input %s for the previous prediction", described(j.decoder.Inputs), maskInput)
	}
	return given, nil
}

// described lists values with their shapes.
func described(values []onnx.Value) string {
	if len(values) == 0 {
		return "nothing more"
	}
	var s []string
	for _, v := range values {
		s = append(s, fmt.Sprintf("%q %v", v.Name, v.Shape))
	}
	return strings.Join(s, ", ")
}

func (j *joiner) offered() string {
	s := fmt.Sprintf("%d channels of maps", len(j.Maps))
	if j.Points > 0 {
		s += fmt.Sprintf(", %d points", j.Points)
	}
	if j.Previous >= 0 {
		s += ", a previous prediction"
	}
	return s
}

// prompts are the makers of a decoder's inputs for prompts that go by names.
func (j *joiner) prompts() map[string]func(in onnx.Value) (string, error) {
	check := func(in onnx.Value, dims ...int) error {
		if j.Points == 0 || !fits(in.Shape, j.shape(dims...)) {
			return fmt.Errorf("the decoder's input %q takes %v, and there are %d points: say in app.yaml how many there are, and name the channel points", in.Name, in.Shape, j.Points)
		}
		return nil
	}
	// For Hugging Face a point is one of several questions about an image, of which there is one.
	one := func(value string) string { return j.b.Op("Unsqueeze", []string{value, j.b.Int64s(1)}) }
	return map[string]func(in onnx.Value) (string, error){
		pointCoords: func(in onnx.Value) (string, error) {
			err := check(in, j.Points, 2)
			return j.pointsOnce().coords, err
		},
		pointLabels: func(in onnx.Value) (string, error) {
			err := check(in, j.Points)
			return j.typed(in, j.labels(1)), err
		},
		inputPoints: func(in onnx.Value) (string, error) {
			err := check(in, 1, j.Points, 2)
			return one(j.pointsOnce().coords), err
		},
		inputLabels: func(in onnx.Value) (string, error) {
			err := check(in, 1, j.Points)
			return j.typed(in, one(j.labels(10))), err
		},
		origImSize: func(in onnx.Value) (string, error) {
			return j.typed(in, j.b.Float32s(float32(j.Grid), float32(j.Grid))), nil
		},
		maskInput: j.previous,
		hasMaskInput: func(in onnx.Value) (string, error) {
			if err := j.checkPrevious(in); err != nil {
				return "", err
			}
			magnitude := j.b.Op("Abs", []string{j.flat(j.Previous)})
			return j.typed(in, j.b.Op("Sign", []string{j.b.Op("ReduceMax", []string{magnitude, j.b.Int64s(1)}, onnx.WithInt("keepdims", 0))})), nil
		},
	}
}

// flat is a channel of the input as a row [N,G·G].
func (j *joiner) flat(channel int) string {
	return j.b.Op("Reshape", []string{j.channels(channel), j.b.Int64s(0, int64(j.Grid*j.Grid))})
}

// points are values about the points: coordinates [N,P,2], and [N,P] 1, −1 and 0 for points on the object, beside it, and none.
type points struct{ coords, sign string }

// pointsOnce reads the map of points.
func (j *joiner) pointsOnce() points {
	if j.points.coords != "" || j.Points == 0 {
		return j.points
	}
	b, row := j.b, j.flat(j.PointMap)
	at := b.Ops("TopK", 2, []string{b.Op("Abs", []string{row}), b.Int64s(int64(j.Points))}, onnx.WithInt("axis", 1))[1]
	sign := b.Op("Sign", []string{b.Op("GatherElements", []string{row, at}, onnx.WithInt("axis", 1))})
	there := b.Op("Abs", []string{sign})
	axis := func(op string) string {
		v := b.Op("Cast", []string{b.Op(op, []string{at, b.Int64(int64(j.Grid))})}, onnx.WithInt("to", int64(tensor.Float32)))
		return b.Op("Unsqueeze", []string{b.Op("Mul", []string{v, there}), b.Int64s(2)})
	}
	j.points = points{b.Op("Concat", []string{axis("Mod"), axis("Div")}, onnx.WithInt("axis", 2)), sign}
	return j.points
}

// labels are 1 for points on the object, 0 for those beside it, and −none for no point: ((1 + 2·none)·|s| + s)/2 − none of the sign s.
func (j *joiner) labels(none float32) string {
	if j.Points == 0 {
		return ""
	}
	b, sign := j.b, j.pointsOnce().sign
	scaled := b.Op("Mul", []string{b.Op("Abs", []string{sign}), b.Float(1 + 2*none)})
	return b.Op("Sub", []string{b.Op("Mul", []string{b.Op("Add", []string{scaled, sign}), b.Float(0.5)}), b.Float(none)})
}

// typed is a float value as an input takes it.
func (j *joiner) typed(in onnx.Value, value string) string {
	if in.DType == tensor.Float32 {
		return value
	}
	return j.b.Op("Cast", []string{value}, onnx.WithInt("to", int64(in.DType)))
}

// previous is the previous prediction on the decoder's grid: means of the logits.
func (j *joiner) previous(in onnx.Value) (string, error) {
	if err := j.checkPrevious(in); err != nil {
		return "", err
	}
	if len(in.Shape) != 4 || in.Shape[1] != (onnx.Dim{Size: 1}) || !in.Shape[2].Known() || in.Shape[2] != in.Shape[3] || in.Shape[2].Size < 1 || j.Grid%int(in.Shape[2].Size) != 0 {
		return "", fmt.Errorf("the decoder's input %q takes %v; [1,1,m,m] with a whole fraction m of the grid's %d is wanted", in.Name, in.Shape, j.Grid)
	}
	k := int64(j.Grid) / in.Shape[2].Size
	return j.b.Op("AveragePool", []string{j.channels(j.Previous)}, onnx.WithInts("kernel_shape", k, k), onnx.WithInts("strides", k, k)), nil
}

func (j *joiner) checkPrevious(in onnx.Value) error {
	if j.Previous < 0 {
		return fmt.Errorf("the decoder's input %q is about the previous prediction: name the channel previous", in.Name)
	}
	return nil
}

// answer makes the decoder's output one logit for each pixel of the grid, and that the graph's output.
func (j *joiner) answer(out string) error {
	g := j.b.Graph
	g.Outputs = []onnx.Value{{Name: out, DType: tensor.Float32}}
	facts, err := onnx.Infer(g)
	if err != nil {
		return fmt.Errorf("the decoder on the encoder's embeddings: %w", err)
	}
	s := facts[out].Shape
	if len(s) == 5 && s[1] == (onnx.Dim{Size: 1}) { // the one question that was asked about each image
		out, s = j.b.Op("Squeeze", []string{out, j.b.Int64s(1)}), slices.Delete(slices.Clone(s), 1, 2)
	}
	what := fmt.Sprintf("the decoder's output %q has shape %v", j.decoder.Outputs[0].Name, s)
	if len(s) != 4 || s[0] != j.batch || slices.ContainsFunc(s[1:], func(d onnx.Dim) bool { return !d.Known() }) {
		return fmt.Errorf("%s; logits [1,K,h,w] of known sizes are wanted", what)
	}
	if j.Mask < 0 || int64(j.Mask) >= s[1].Size {
		return fmt.Errorf("%s, which holds no mask %d", what, j.Mask)
	}
	if s[2].Size < 1 || s[2] != s[3] || int64(j.Grid)%s[2].Size != 0 {
		return fmt.Errorf("%s; the grid's %d×%[2]d pixels, or a whole fraction of both, are wanted", what, j.Grid)
	}
	if s[1].Size > 1 {
		out = j.b.Op("Gather", []string{out, j.b.Int64s(int64(j.Mask))}, onnx.WithInt("axis", 1))
	}
	if k := float32(int64(j.Grid) / s[2].Size); k > 1 {
		out = j.b.Op("Resize", []string{out, "", j.b.Float32s(1, 1, k, k)}, onnx.WithString("mode", "linear"),
			onnx.WithString("coordinate_transformation_mode", "half_pixel"))
	}
	const logits = joining + "logits"
	j.b.Alias(out, logits)
	g.Outputs = []onnx.Value{{Name: logits, DType: tensor.Float32, Shape: j.shape(1, j.Grid, j.Grid)}}
	return nil
}
