// Package onnx is an in-memory form of ONNX models: small, ordered and easy to rewrite, unlike the protobuf messages it is
// read from and written to. A [Model] is loaded by [Parse], brought to one opset by [Normalize], typed by [Infer]
// and extended with a [Builder]. The package executes nothing; `refexec` interprets graphs for tests, ONNX Runtime
// runs them in earnest.
//
// Values are identified by name, as in ONNX itself: a graph is in static single assignment form, its nodes sorted so that
// every value is produced before it is used. The empty name stands for an omitted optional input or output.
package onnx

import (
	"fmt"

	"scrawl/engine/tensor"
)

// Opset is the version of the default operator set that Normalize brings every model to, and for which gradients
// and graphs are built (https://onnx.ai/onnx/operators/).
const Opset = 18

// Model is a graph with the versions it is to be read by.
type Model struct {
	IRVersion int64
	Producer  string
	Opsets    map[string]int64 // domain → version; "" is the default domain
	Metadata  map[string]string
	Graph     *Graph
}

// Graph is a list of nodes in topological order with the graph's interface.
type Graph struct {
	Name         string
	Inputs       []Value // without the initializers
	Outputs      []Value
	Initializers []Initializer
	Nodes        []*Node
	// Summaries say in one node each what several of Nodes compute together, such as the gradient of a convolution's weight: the
	// node's outputs are values of the graph, its operator is one of domain [SummaryDomain]. They change nothing and are not
	// stored; whoever rewrites the graph for one runtime may compute those values in another way.
	Summaries []*Node
}

// SummaryDomain is the domain of the operators in Summaries.
const SummaryDomain = "scrawl"

// Initializer is a constant of the graph: a weight, or a number that a node needs.
type Initializer struct {
	Name   string
	Tensor *tensor.Tensor
}

// Value describes a graph input or output.
type Value struct {
	Name  string
	DType tensor.DType
	Shape Shape // nil when even the rank is unknown; empty, not nil, for a scalar
}

// Dim is one dimension of a shape: a number, or a symbol such as "H" when it is known only at run time. Equal
// non-empty symbols mean equal sizes.
type Dim struct {
	Size   int64  // valid when Symbol is empty
	Symbol string // "" for a number
}

// Known reports whether the dimension is a number.
func (d Dim) Known() bool { return d.Symbol == "" }

func (d Dim) String() string {
	if d.Known() {
		return fmt.Sprint(d.Size)
	}
	return d.Symbol
}

// Shape is a list of dimensions.
type Shape []Dim

// Fixed returns a shape of known sizes.
func Fixed(sizes ...int64) Shape {
	s := make(Shape, len(sizes))
	for i, n := range sizes {
		s[i] = Dim{Size: n}
	}
	return s
}

// Node is one operator applied to named values.
type Node struct {
	Name    string
	Op      string // operator type, "Conv"
	Domain  string // "" for the default domain
	Inputs  []string
	Outputs []string
	Attrs   map[string]Attr
}

// Input returns the name of the i-th input, "" when it is absent.
func (n *Node) Input(i int) string {
	if i < len(n.Inputs) {
		return n.Inputs[i]
	}
	return ""
}

// AttrKind tells which field of an Attr is set; the values are ONNX's AttributeProto.AttributeType numbers.
type AttrKind int32

// The kinds of attribute that Scrawl reads.
const (
	AttrFloat   AttrKind = 1
	AttrInt     AttrKind = 2
	AttrString  AttrKind = 3
	AttrTensor  AttrKind = 4
	AttrGraph   AttrKind = 5
	AttrFloats  AttrKind = 6
	AttrInts    AttrKind = 7
	AttrStrings AttrKind = 8
)

// Attr is the value of an attribute.
type Attr struct {
	Kind    AttrKind
	Float   float32
	Int     int64
	String  string
	Tensor  *tensor.Tensor
	Graph   *Graph
	Floats  []float32
	Ints    []int64
	Strings []string
}

// Int returns the integer attribute of that name, or def when the node has none.
func (n *Node) Int(name string, def int64) int64 {
	if a, ok := n.Attrs[name]; ok && a.Kind == AttrInt {
		return a.Int
	}
	return def
}

// Float returns the float attribute of that name, or def.
func (n *Node) Float(name string, def float32) float32 {
	if a, ok := n.Attrs[name]; ok && a.Kind == AttrFloat {
		return a.Float
	}
	return def
}

// Str returns the string attribute of that name, or def.
func (n *Node) Str(name, def string) string {
	if a, ok := n.Attrs[name]; ok && a.Kind == AttrString {
		return a.String
	}
	return def
}

// Ints returns the integer-list attribute of that name, or nil.
func (n *Node) Ints(name string) []int64 { return n.Attrs[name].Ints }

// Initializer returns the initializer of that name, or nil.
func (g *Graph) Initializer(name string) *tensor.Tensor {
	for _, in := range g.Initializers {
		if in.Name == name {
			return in.Tensor
		}
	}
	return nil
}
