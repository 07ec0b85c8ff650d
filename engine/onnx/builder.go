package onnx

import (
	"fmt"
	"math"

	"scrawl/engine/tensor"
)

// Builder appends nodes to a graph and invents names for their results. Constants are shared: asking twice for the same
// small integer list yields one initializer. A Builder is not safe for concurrent use.
type Builder struct {
	Graph  *Graph
	prefix string
	next   int
	consts map[string]string
	root   *Builder // where constants go; itself, or the builder of the enclosing graph
}

// NewBuilder returns a builder that appends to g. Names it invents start with prefix, which must keep them apart from
// the names already in g.
func NewBuilder(g *Graph, prefix string) *Builder {
	b := &Builder{Graph: g, prefix: prefix, consts: map[string]string{}}
	b.root = b
	return b
}

// Sub returns a builder for the body of a Loop or If inside b's graph. Its constants are put into the outermost graph,
// where ONNX's scoping rules make them visible and the runtime stores them once.
func (b *Builder) Sub(g *Graph, prefix string) *Builder {
	return &Builder{Graph: g, prefix: prefix, root: b.root}
}

// Fresh invents a name that no other value of this builder has.
func (b *Builder) Fresh(hint string) string {
	b.next++
	return fmt.Sprintf("%s%s_%d", b.prefix, hint, b.next)
}

// AttrOption sets an attribute on a node under construction.
type AttrOption func(*Node)

func attr(name string, a Attr) AttrOption { return func(n *Node) { n.Attrs[name] = a } }

// WithInt sets an integer attribute.
func WithInt(name string, v int64) AttrOption { return attr(name, Attr{Kind: AttrInt, Int: v}) }

// WithInts sets an integer-list attribute.
func WithInts(name string, v ...int64) AttrOption { return attr(name, Attr{Kind: AttrInts, Ints: v}) }

// WithFloat sets a float attribute.
func WithFloat(name string, v float32) AttrOption {
	return attr(name, Attr{Kind: AttrFloat, Float: v})
}

// WithString sets a string attribute.
func WithString(name, v string) AttrOption { return attr(name, Attr{Kind: AttrString, String: v}) }

// WithGraph sets a graph attribute, such as a Loop's body.
func WithGraph(name string, g *Graph) AttrOption { return attr(name, Attr{Kind: AttrGraph, Graph: g}) }

// WithDomain puts the node into an operator domain other than the default.
func WithDomain(domain string) AttrOption { return func(n *Node) { n.Domain = domain } }

// Op appends a node with one output and returns that output's name.
func (b *Builder) Op(op string, inputs []string, opts ...AttrOption) string {
	return b.Ops(op, 1, inputs, opts...)[0]
}

// Ops appends a node with n outputs and returns their names.
func (b *Builder) Ops(op string, n int, inputs []string, opts ...AttrOption) []string {
	node := &Node{Op: op, Inputs: inputs, Attrs: map[string]Attr{}}
	for range n {
		node.Outputs = append(node.Outputs, b.Fresh(op))
	}
	node.Name = node.Outputs[0]
	for _, o := range opts {
		o(node)
	}
	b.Graph.Nodes = append(b.Graph.Nodes, node)
	return node.Outputs
}

// Summarize notes that value, made by nodes of the graph, is what op of [SummaryDomain] computes from inputs.
func (b *Builder) Summarize(value, op string, inputs []string, opts ...AttrOption) {
	n := &Node{Name: value, Op: op, Domain: SummaryDomain, Inputs: inputs, Outputs: []string{value}, Attrs: map[string]Attr{}}
	for _, o := range opts {
		o(n)
	}
	b.Graph.Summaries = append(b.Graph.Summaries, n)
}

// Alias appends an Identity that gives value a fixed name, for graph outputs.
func (b *Builder) Alias(value, name string) {
	b.Graph.Nodes = append(b.Graph.Nodes, &Node{Name: name, Op: "Identity", Inputs: []string{value}, Outputs: []string{name}, Attrs: map[string]Attr{}})
}

// Const adds t as an initializer and returns its name.
func (b *Builder) Const(t *tensor.Tensor) string {
	name := b.root.Fresh("const")
	b.root.Graph.Initializers = append(b.root.Graph.Initializers, Initializer{Name: name, Tensor: t})
	return name
}

// Int64s returns the name of a constant int64 vector.
func (b *Builder) Int64s(v ...int64) string {
	return b.shared(fmt.Sprint("i", v), func() *tensor.Tensor { return tensor.Vector(v...) })
}

// Float32s returns the name of a constant float32 vector.
func (b *Builder) Float32s(v ...float32) string {
	key := "v"
	for _, x := range v {
		key += fmt.Sprintf(" %x", math.Float32bits(x))
	}
	return b.shared(key, func() *tensor.Tensor { return tensor.Vector(v...) })
}

// Float returns the name of a constant float32 scalar, which broadcasts against every shape.
func (b *Builder) Float(v float32) string {
	return b.shared(fmt.Sprintf("f%x", math.Float32bits(v)), func() *tensor.Tensor { return tensor.Scalar(v) })
}

// Int64 returns the name of a constant int64 scalar.
func (b *Builder) Int64(v int64) string {
	return b.shared(fmt.Sprintf("s%d", v), func() *tensor.Tensor { return tensor.Scalar(v) })
}

func (b *Builder) shared(key string, make func() *tensor.Tensor) string {
	if name, ok := b.root.consts[key]; ok {
		return name
	}
	name := b.Const(make())
	b.root.consts[key] = name
	return name
}
