package adapt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// Session runs one compiled graph. It must be safe for concurrent use. Entries of out that are not nil are written in
// place; the others are allocated.
type Session interface {
	Run(ctx context.Context, in, out map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error)
}

// Compiler turns a model into a session, possibly after rewriting it for the device at hand; it leaves the model as it is.
type Compiler func(model *onnx.Model) (Session, error)

// Engine runs the graphs of one network. Its sessions are compiled when first needed and kept. It holds no user's state
// and is safe for concurrent use.
type Engine struct {
	net     *Network
	compile Compiler
	images  []int // input channels that show the image
	mu      sync.Mutex
	built   map[string]*built

	embeddings *embeddingCache // of joined networks
}

type built struct {
	once    sync.Once
	session Session
	err     error
}

// NewEngine returns an engine for a network. imageChannels are the input channels that show the image and are augmented;
// the others carry prompts.
func NewEngine(net *Network, imageChannels []int, compile Compiler) (*Engine, error) {
	if _, _, err := net.splitChannels(imageChannels); err != nil {
		return nil, err
	}
	return &Engine{net: net, compile: compile, images: slices.Clone(imageChannels), built: map[string]*built{}, embeddings: newEmbeddingCache()}, nil
}

// Network returns the network the engine runs.
func (e *Engine) Network() *Network { return e.net }

// session compiles a graph once; concurrent callers wait for the first.
func (e *Engine) session(key string, graph func() (*onnx.Model, error)) (Session, error) {
	e.mu.Lock()
	b := e.built[key]
	if b == nil {
		b = &built{}
		e.built[key] = b
	}
	e.mu.Unlock()
	b.once.Do(func() {
		m, err := graph()
		if err == nil {
			b.session, err = e.compile(m)
		}
		if err != nil {
			b.err = fmt.Errorf("build the %s graph: %w", key, err)
		}
	})
	return b.session, b.err
}

// The sessions below are for images of the given sizes, and for others with the same factors: see [Network.forMultiples].

func (e *Engine) predictSession(frozen bool, sizes []int) (Session, error) {
	key := "predict"
	if frozen {
		key = "source"
	}
	n := e.net.forMultiples(sizes)
	return e.session(fmt.Sprintf("%s of %d", key, n.multiple), func() (*onnx.Model, error) { return n.PredictGraph(frozen), nil })
}

func (e *Engine) pseudoSession(sizes []int) (Session, error) {
	n := e.net.forMultiples(sizes)
	return e.session(fmt.Sprintf("pseudo of %d", n.multiple), func() (*onnx.Model, error) { return n.PseudoGraph(e.images) })
}

func (e *Engine) stepSession(o StepOptions, sizes []int) (Session, error) {
	n := e.net.forMultiples(sizes)
	return e.session(fmt.Sprintf("step %+v of %d", o, n.multiple), func() (*onnx.Model, error) { return n.StepGraph(o) })
}

// isSource reports whether w is the network's own set, not merely equal to it.
func (e *Engine) isSource(w Weights) bool { return &w[0] == &e.net.source[0] }

// feedWeights adds a set of weights to the inputs of a graph.
func (e *Engine) feedWeights(in map[string]*tensor.Tensor, name func(param string) string, w Weights) {
	for i, p := range e.net.params {
		in[name(p)] = w[i]
	}
}

// Predict returns the probabilities [N,K,H,W] of the network with weights w on x [N,C,H,W].
func (e *Engine) Predict(ctx context.Context, w Weights, x *tensor.Tensor) (*tensor.Tensor, error) {
	if err := e.net.CheckWeights(w); err != nil {
		return nil, err
	}
	if err := e.net.checkSize(x); err != nil {
		return nil, fmt.Errorf("predict: %w", err)
	}
	if e.net.oneByOne && x.Shape()[0] > 1 {
		return e.predictEach(ctx, w, x)
	}
	frozen := e.isSource(w)
	s, err := e.predictSession(frozen, x.Shape()[2:])
	if err != nil {
		return nil, err
	}
	in := map[string]*tensor.Tensor{inX: x}
	if !frozen {
		e.feedWeights(in, plain, w)
	}
	if err := e.feedEmbeddings(ctx, in, x); err != nil {
		return nil, fmt.Errorf("predict: %w", err)
	}
	out, err := s.Run(ctx, in, nil)
	if err != nil {
		return nil, fmt.Errorf("predict: %w", err)
	}
	p := out[outProb]
	if a, b := p.Shape(), x.Shape(); len(a) != len(b) || !slices.Equal(a[2:], b[2:]) {
		return nil, fmt.Errorf("predict: the network answers %s for an input of %s; one answer a pixel is wanted", extent(a), extent(b))
	}
	return p, nil
}

// predictEach answers a batch image by image, for networks that take no batches.
func (e *Engine) predictEach(ctx context.Context, w Weights, x *tensor.Tensor) (*tensor.Tensor, error) {
	s := slices.Clone(x.Shape())
	n, per := s[0], x.Len()/s[0]
	s[0] = 1
	var all []float32
	for i := range n {
		p, err := e.Predict(ctx, w, tensor.Must(s, x.Float32s()[i*per:(i+1)*per]))
		if err != nil {
			return nil, err
		}
		all = append(all, p.Float32s()...)
	}
	s[0], s[1] = n, e.net.Classes
	return tensor.New(s, all)
}

// checkSize reports an image of another size or number of axes than the network takes.
func (n *Network) checkSize(x *tensor.Tensor) error {
	want := fmt.Sprintf("[N,%d,%s]", n.Channels, strings.Join(axisNames(len(n.Size)), ","))
	if x == nil {
		return fmt.Errorf("no input; %s is wanted", want)
	}
	if x.Rank() != 2+len(n.Size) || x.Shape()[0] < 1 {
		return fmt.Errorf("input of shape %v; %s is wanted", x.Shape(), want)
	}
	for i, d := range n.Size {
		if d > 0 && x.Shape()[2+i] != d {
			return fmt.Errorf("an image of %s for a network that takes %s only; resample it, or export the network with free sizes",
				extent(x.Shape()), extent(append([]int{1, 1}, n.Size...)))
		}
	}
	return nil
}

// extent writes "128×96 pixels" for a shape [N,C,H,W].
func extent(shape []int) string {
	if len(shape) < 3 {
		return fmt.Sprint(shape)
	}
	var s []string
	for _, d := range shape[2:] {
		if d == 0 {
			s = append(s, "any")
		} else {
			s = append(s, strconv.Itoa(d))
		}
	}
	return strings.Join(s, "×") + [...]string{3: " samples", 4: " pixels", 5: " voxels"}[min(len(shape), 5)]
}

// Sets are the weights that learning moves: the student, and averages that follow it.
type Sets struct {
	Student  Weights
	Averages []Weights
	// Seen are the images that the thesis's method remembers, the latest last, where it replays any ([Config.Replay]).
	Seen []Stage
	// Trust is the record by which a guard chooses who answers ([Config.Guard]).
	Trust Trust
}

// Answered gives a remembered image the mask [1,1,H,W] that its annotator was shown, in place of the network's own answer.
func (s Sets) Answered(x, mask *tensor.Tensor) Sets {
	s.Seen = slices.Clone(s.Seen)
	for i := range s.Seen {
		if sameImage(s.Seen[i].X, x) {
			s.Seen[i].Target = mask
		}
	}
	return s
}

// NewSets returns sets that all equal the source.
func (e *Engine) NewSets(averages int) Sets {
	s := Sets{Student: e.net.source}
	for range averages {
		s.Averages = append(s.Averages, e.net.source)
	}
	return s
}

// Lesson is what the step graph learns from: S batches of B examples each.
type Lesson struct {
	X                *tensor.Tensor // [S,B,C,H,W]
	Target, Scribble *tensor.Tensor // [S,B,K,H,W], distributions over classes
	Weight, Marked   *tensor.Tensor // [S,B,1,H,W], per-pixel weights of the two losses
	Lambda           float64
	LearningRate     float64
	Alphas           []float64 // one for each average
	Steps            int
	// Decay (AdamW) is the share of each weight that every step takes away.
	Decay float64
}

// learn takes the steps of a lesson with plain gradient descent. It returns new sets and the losses [steps][cons, inter].
func (e *Engine) learn(ctx context.Context, o StepOptions, sets Sets, l Lesson) (Sets, [][2]float32, error) {
	next, losses, err := e.Step(ctx, o, append([]Weights{sets.Student}, sets.Averages...), l)
	if err != nil {
		return Sets{}, nil, err
	}
	return Sets{Student: next[0], Averages: next[1:]}, losses, nil
}

// Step runs the step graph on a lesson. sets are the student, o.Averages averages and, for AdamW, the two moments; the
// answer holds the new ones in the same order, and the losses of each step. When the student's weights are no longer
// finite the error is ErrDiverged.
func (e *Engine) Step(ctx context.Context, o StepOptions, sets []Weights, l Lesson) ([]Weights, [][2]float32, error) {
	s, err := e.stepSession(o, l.X.Shape()[3:])
	if err != nil {
		return nil, nil, err
	}
	in, names := l.inputs(o), o.sets()
	if len(sets) != len(names) || len(l.Alphas) != o.Averages {
		return nil, nil, fmt.Errorf("learn: %d weight sets and %d alphas for a graph of %d and %d", len(sets), len(l.Alphas), len(names), o.Averages)
	}
	for k, w := range sets {
		if err := e.net.CheckWeights(w); err != nil {
			return nil, nil, fmt.Errorf("learn: %w", err)
		}
		e.feedWeights(in, names[k].in, w)
	}
	if err := e.feedLesson(ctx, in, l.X); err != nil {
		return nil, nil, fmt.Errorf("learn: %w", err)
	}
	out := map[string]*tensor.Tensor{}
	for k := range sets {
		e.feedWeights(out, names[k].out, e.newWeights())
	}
	if out, err = s.Run(ctx, in, out); err != nil {
		return nil, nil, fmt.Errorf("learn: %w", err)
	}
	next := make([]Weights, len(sets))
	for k := range sets {
		next[k] = e.takeWeights(out, names[k].out)
	}
	if !finite(next[0]) {
		return nil, nil, ErrDiverged
	}
	return next, lossCurve(out[outLosses]), nil
}

func (l Lesson) inputs(o StepOptions) map[string]*tensor.Tensor {
	in := map[string]*tensor.Tensor{
		inX: l.X, inTarget: l.Target, inWeight: l.Weight, inScribble: l.Scribble, inMarked: l.Marked,
		inLambda: tensor.Scalar(float32(l.Lambda)), inRate: tensor.Scalar(float32(l.LearningRate)), inSteps: tensor.Scalar(int64(l.Steps)),
	}
	if o.Averages > 0 {
		alphas := make([]float32, len(l.Alphas))
		for i, a := range l.Alphas {
			alphas[i] = float32(a)
		}
		in[inAlphas] = tensor.Vector(alphas...)
	}
	if o.Optimizer == AdamW {
		in[inDecay] = tensor.Scalar(float32(l.Decay))
	}
	return in
}

// newWeights returns a set for a run to write its results into: results that the runtime allocates are there twice until they are copied.
func (e *Engine) newWeights() Weights {
	w := make(Weights, len(e.net.params))
	for i, t := range e.net.source {
		w[i] = tensor.ZerosLike(t)
	}
	return w
}

func (e *Engine) takeWeights(out map[string]*tensor.Tensor, name func(param string) string) Weights {
	w := make(Weights, len(e.net.params))
	for i, p := range e.net.params {
		w[i] = out[name(p)]
	}
	return w
}

func lossCurve(t *tensor.Tensor) [][2]float32 {
	d := t.Float32s()
	curve := make([][2]float32, len(d)/2)
	for i := range curve {
		curve[i] = [2]float32{d[2*i], d[2*i+1]}
	}
	return curve
}

// ErrDiverged says that learning produced weights that are not numbers; nothing of it is kept.
var ErrDiverged = errors.New("learning diverged: the weights are no longer finite; lower the learning rate")

func finite(w Weights) bool {
	for _, t := range w {
		for _, v := range t.Float32s() {
			if v-v != 0 {
				return false
			}
		}
	}
	return true
}
