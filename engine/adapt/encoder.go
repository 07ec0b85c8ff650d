package adapt

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// parts are a joined network's two halves: see [Join].
type parts struct {
	encoder    *onnx.Graph  // input: the network's; outputs: the embeddings
	decoder    *onnx.Graph  // input: the network's; the embeddings come from outside
	embeddings []onnx.Value // of one image, without the batch axis
}

// split finds the parts of a joined network again, by the names that Join gave. It is nil for other networks.
func (n *Network) split(facts map[string]onnx.Fact) (*parts, error) {
	if n.input != joinedInput {
		return nil, nil
	}
	early := map[string]bool{} // what values of the encoder are made from
	encoder, decoder := &onnx.Graph{Name: "encoder"}, &onnx.Graph{Name: "decoder", Outputs: n.forward.Outputs}
	for _, node := range slices.Backward(n.forward.Nodes) {
		if strings.HasPrefix(node.Outputs[0], frozenPrefix) || early[node.Outputs[0]] {
			encoder.Nodes = append(encoder.Nodes, node)
			for v := range uses(node) {
				early[v] = true
			}
		} else {
			decoder.Nodes = append(decoder.Nodes, node)
		}
	}
	slices.Reverse(encoder.Nodes)
	slices.Reverse(decoder.Nodes)
	p := &parts{encoder: encoder, decoder: decoder}
	read := n.initializersOf(decoder)
	for _, node := range encoder.Nodes {
		for _, o := range node.Outputs {
			if !read[o] {
				continue
			}
			s := facts[o].Shape
			if len(s) < 1 || slices.ContainsFunc(s[1:], func(d onnx.Dim) bool { return !d.Known() }) {
				return nil, fmt.Errorf("embedding %q has shape %v; a known one is wanted", o, s)
			}
			encoder.Outputs = append(encoder.Outputs, onnx.Value{Name: o, DType: tensor.Float32, Shape: s})
			p.embeddings = append(p.embeddings, onnx.Value{Name: o, DType: tensor.Float32, Shape: s[1:]})
		}
	}
	if len(p.embeddings) == 0 {
		return nil, fmt.Errorf("the network's decoder takes nothing from its encoder")
	}
	n.initializersOf(encoder)
	return p, nil
}

// initializersOf gives a part of the network the initializers that its nodes read, and returns all values that they do.
func (n *Network) initializersOf(part *onnx.Graph) map[string]bool {
	read := map[string]bool{}
	for _, node := range part.Nodes {
		for v := range uses(node) {
			read[v] = true
		}
	}
	for _, in := range n.forward.Initializers {
		if read[in.Name] {
			part.Initializers = append(part.Initializers, in)
		}
	}
	return read
}

// uses are the names that a node reads, also inside bodies.
func uses(node *onnx.Node) map[string]bool {
	names := map[string]bool{}
	for _, in := range node.Inputs {
		names[in] = true
	}
	for _, a := range node.Attrs {
		if a.Graph == nil {
			continue
		}
		for _, inner := range a.Graph.Nodes {
			for v := range uses(inner) {
				names[v] = true
			}
		}
		for _, o := range a.Graph.Outputs {
			names[o.Name] = true
		}
	}
	return names
}

// answering is the network as the graphs see it that are given embeddings: the decoder of a joined network, and any other itself.
func (n *Network) answering() *Network {
	if n.parts == nil {
		return n
	}
	d := *n
	d.forward, d.given = n.parts.decoder, n.parts.embeddings
	return &d
}

// embeddingValues describes embeddings, named by name, with a leading axis.
func (n *Network) embeddingValues(name func(string) string, batch any) []onnx.Value {
	values := make([]onnx.Value, len(n.given))
	for i, e := range n.given {
		values[i] = value(name(e.Name), batch)
		values[i].Shape = append(values[i].Shape, e.Shape...)
	}
	return values
}

// EncoderGraph builds the graph of a joined network's encoder for one image: input x [1,C,H,W], of which it reads the image's channels,
// outputs the embeddings. It is nil for a network of one part.
func (n *Network) EncoderGraph() *onnx.Model {
	if n.parts == nil {
		return nil
	}
	g := &onnx.Graph{Name: "encoder", Inputs: []onnx.Value{n.image(inX, n.Channels, 1)}, Initializers: slices.Clone(n.parts.encoder.Initializers)}
	b := onnx.NewBuilder(g, prefix)
	b.Alias(inX, n.input)
	g.Nodes = append(g.Nodes, n.parts.encoder.Nodes...)
	for _, o := range n.parts.encoder.Outputs {
		o.Shape = slices.Clone(o.Shape)
		o.Shape[0] = onnx.Dim{Size: 1}
		g.Outputs = append(g.Outputs, o)
	}
	return model(g)
}

// embedding is what an encoder makes of one image, in the order of the network's embeddings, [1,…] each.
type embedding []*tensor.Tensor

// EmbeddingBytes is how much an engine keeps of an encoder's embeddings unless told otherwise.
const EmbeddingBytes = 256 << 20

// embeddingCache keeps the embeddings of images used last, within a number of bytes. An image is known by its content, so that whatever
// is asked about the same pixels shares one embedding, and nothing else does. It is safe for concurrent use.
type embeddingCache struct {
	mu     sync.Mutex
	budget int
	bytes  int
	recent *list.List // of kept, the latest first
	at     map[imageKey]*list.Element
}

type imageKey = [sha256.Size]byte

type kept struct {
	key   imageKey
	value embedding
	bytes int
}

func newEmbeddingCache() *embeddingCache {
	return &embeddingCache{budget: EmbeddingBytes, recent: list.New(), at: map[imageKey]*list.Element{}}
}

func (c *embeddingCache) find(key imageKey) (embedding, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.at[key]
	if !ok {
		return nil, false
	}
	c.recent.MoveToFront(e)
	return e.Value.(kept).value, true
}

func (c *embeddingCache) keep(key imageKey, value embedding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at[key] != nil {
		return
	}
	k := kept{key: key, value: value}
	for _, t := range value {
		k.bytes += t.Bytes()
	}
	c.at[key] = c.recent.PushFront(k)
	c.bytes += k.bytes
	c.shrink()
}

// bound sets the number of bytes and drops what is too much.
func (c *embeddingCache) bound(bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.budget = bytes
	c.shrink()
}

func (c *embeddingCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recent.Init()
	clear(c.at)
	c.bytes = 0
}

func (c *embeddingCache) shrink() {
	for c.bytes > c.budget {
		last := c.recent.Remove(c.recent.Back()).(kept)
		delete(c.at, last.key)
		c.bytes -= last.bytes
	}
}

// BoundEmbeddings sets how many bytes of embeddings the engine of a joined network keeps, [EmbeddingBytes] at first. 0 keeps none.
func (e *Engine) BoundEmbeddings(bytes int) { e.embeddings.bound(max(bytes, 0)) }

// ForgetEmbeddings drops all embeddings: nothing of an image shall stay after it has been deleted.
func (e *Engine) ForgetEmbeddings() { e.embeddings.forget() }

// imageKey tells images apart by the channels that show them, of one example [C,H,W].
func (e *Engine) imageKey(x []float32) imageKey {
	n := len(x) / e.net.Channels
	h := sha256.New()
	bytes := make([]byte, 4*n)
	for _, c := range e.images {
		for i, v := range x[c*n : (c+1)*n] {
			binary.LittleEndian.PutUint32(bytes[4*i:], math.Float32bits(v))
		}
		h.Write(bytes) // never fails
	}
	return imageKey(h.Sum(nil))
}

// embed returns the embeddings of examples [C,H,W], size being [H,W], that lie one after another in x: those of the images that
// differ, and which of them each example's is. New ones stay in memory if keep is set: images made up by augmentation are not met again.
func (e *Engine) embed(ctx context.Context, x []float32, size []int, keep bool) (distinct []embedding, which []int64, err error) {
	per := e.net.Channels * pixels(size)
	seen := map[imageKey]int64{}
	for ; len(x) > 0; x = x[per:] {
		key := e.imageKey(x[:per])
		i, ok := seen[key]
		if !ok {
			found, ok := e.embeddings.find(key)
			if !ok {
				if found, err = e.encode(ctx, x[:per], size); err != nil {
					return nil, nil, err
				}
				if keep {
					e.embeddings.keep(key, found)
				}
			}
			i = int64(len(distinct))
			seen[key], distinct = i, append(distinct, found)
		}
		which = append(which, i)
	}
	return distinct, which, nil
}

// encode runs the encoder on one example.
func (e *Engine) encode(ctx context.Context, x []float32, size []int) (embedding, error) {
	s, err := e.session("encoder", func() (*onnx.Model, error) { return e.net.EncoderGraph(), nil })
	if err != nil {
		return nil, err
	}
	out, err := s.Run(ctx, map[string]*tensor.Tensor{inX: tensor.Must(append([]int{1, e.net.Channels}, size...), x)}, nil)
	if err != nil {
		return nil, fmt.Errorf("encode the image: %w", err)
	}
	var all embedding
	for _, v := range e.net.parts.embeddings {
		all = append(all, out[v.Name])
	}
	return all, nil
}

// feedEmbeddings adds the embeddings of a batch x [N,C,H,W] to the inputs of the predict graph.
func (e *Engine) feedEmbeddings(ctx context.Context, in map[string]*tensor.Tensor, x *tensor.Tensor) error {
	if e.net.parts == nil {
		return nil
	}
	distinct, which, err := e.embed(ctx, x.Float32s(), x.Shape()[2:], true)
	if err != nil {
		return err
	}
	each := make([]embedding, len(which))
	for i, k := range which {
		each[i] = distinct[k]
	}
	return e.stackEmbeddings(in, plain, each)
}

// feedLesson adds the embeddings of a lesson's images, x [S,B,C,H,W], to the inputs of the step graph: each that differs once, and which
// of them the examples have.
func (e *Engine) feedLesson(ctx context.Context, in map[string]*tensor.Tensor, x *tensor.Tensor) error {
	if e.net.parts == nil {
		return nil
	}
	s := x.Shape()
	distinct, which, err := e.embed(ctx, x.Float32s(), s[3:], false)
	if err != nil {
		return err
	}
	in[inWhich] = tensor.Must(s[:2:2], which)
	return e.stackEmbeddings(in, stacked, distinct)
}

// stackEmbeddings adds embeddings [n,…], one beside the other, to a graph's inputs.
func (e *Engine) stackEmbeddings(in map[string]*tensor.Tensor, name func(string) string, all []embedding) error {
	for i, v := range e.net.parts.embeddings {
		if len(all) == 1 {
			in[name(v.Name)] = all[0][i]
			continue
		}
		shape := slices.Clone(all[0][i].Shape())
		shape[0] = len(all)
		data := make([]float32, 0, len(all)*all[0][i].Len())
		for _, one := range all {
			data = append(data, one[i].Float32s()...)
		}
		t, err := tensor.New(shape, data)
		if err != nil {
			return fmt.Errorf("embedding %q: %w", v.Name, err)
		}
		in[name(v.Name)] = t
	}
	return nil
}
