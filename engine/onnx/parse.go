package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"scrawl/engine/onnx/onnxpb"
	"scrawl/engine/tensor"
)

// maxIRVersion is the newest IR version whose messages onnxpb can read.
const maxIRVersion = int64(onnxpb.Version_IR_VERSION)

// Limits bounds what ParseWithin accepts, so that a damaged or hostile file costs no more than a known amount of memory.
type Limits struct {
	Bytes       int   // of the file
	Nodes       int   // in all graphs together
	Depth       int   // of graphs within graphs
	TensorBytes int64 // of any one initializer or tensor attribute, after widening to float32
	Rank        int   // of tensors and of declared shapes
}

// DefaultLimits are those of Parse: far above any segmentation network, and within protobuf's own 2 GiB.
func DefaultLimits() Limits {
	return Limits{Bytes: math.MaxInt32, Nodes: 200_000, Depth: 8, TensorBytes: 1 << 30, Rank: 16}
}

// Parse reads an ONNX file (a ModelProto, https://onnx.ai/onnx/repo-docs/IR.html) within the default limits.
//
// It refuses what cannot be read from the file alone or would be silently misread: tensors with external data, sparse
// tensors, training information, sequence and map types, and element types that package tensor has no room for; the
// error names the offender. Calls of functions the model itself defines are replaced by the functions' nodes.
//
// Half precision exists on disk only: float16 and bfloat16 initializers are widened to float32, which is exact, and with
// them the declared inputs and outputs and the targets of Cast, so that the model that was wholly half precision is
// wholly float32 afterwards.
//
// Initializers that are also listed as inputs (the habit of IR version 3) are removed from Inputs. A declared dimension
// without number or name gets a symbol of its own. Nothing of data is kept.
func Parse(data []byte) (*Model, error) { return ParseWithin(data, DefaultLimits()) }

// ParseWithin is Parse with other limits.
func ParseWithin(data []byte, lim Limits) (*Model, error) {
	if len(data) == 0 {
		return nil, errors.New("parse ONNX model: the file is empty")
	}
	if len(data) > lim.Bytes {
		return nil, fmt.Errorf("parse ONNX model: the file has %d bytes, the limit is %d", len(data), lim.Bytes)
	}
	pb := new(onnxpb.ModelProto)
	if err := proto.Unmarshal(data, pb); err != nil {
		return nil, fmt.Errorf("parse ONNX model: not a complete ONNX protobuf: %w", err)
	}
	p := &parser{lim: lim}
	m, err := p.model(pb)
	if err != nil {
		return nil, fmt.Errorf("parse ONNX model: %w", err)
	}
	return m, nil
}

// parser carries what the parts of one file share.
type parser struct {
	lim       Limits
	nodes     int
	functions map[string]*onnxpb.FunctionProto // by functionKey
	calls     int                              // of functions so far, to keep the names of their values apart
	callStack []string
}

func (p *parser) model(pb *onnxpb.ModelProto) (*Model, error) {
	if pb.GetGraph() == nil {
		return nil, errors.New("the file has no graph; is it an ONNX model?")
	}
	if v := pb.GetIrVersion(); v < 3 || v > maxIRVersion {
		return nil, fmt.Errorf("IR version %d is not supported; export the model with an IR version from 3 to %d", v, maxIRVersion)
	}
	if len(pb.GetTrainingInfo()) > 0 {
		return nil, errors.New("the model holds training information; export it for inference")
	}
	m := &Model{IRVersion: pb.GetIrVersion(), Producer: pb.GetProducerName()}
	var err error
	if m.Opsets, err = opsets(pb.GetOpsetImport()); err != nil {
		return nil, err
	}
	if m.Opsets[""] == 0 {
		return nil, errors.New("the model does not say which opset of the default domain it uses")
	}
	for _, e := range pb.GetMetadataProps() {
		if m.Metadata == nil {
			m.Metadata = map[string]string{}
		}
		m.Metadata[e.GetKey()] = e.GetValue()
	}
	if err := p.declareFunctions(m, pb.GetFunctions()); err != nil {
		return nil, err
	}
	m.Graph, err = p.graph(pb.GetGraph(), 1)
	return m, err
}

func opsets(imports []*onnxpb.OperatorSetIdProto) (map[string]int64, error) {
	sets := make(map[string]int64, len(imports))
	for _, o := range imports {
		d, v := canonicalDomain(o.GetDomain()), o.GetVersion()
		if old, ok := sets[d]; ok && old != v {
			return nil, fmt.Errorf("the domain %q is imported with opset %d and %d; want one", d, old, v)
		}
		if v < 1 {
			return nil, fmt.Errorf("the domain %q is imported with opset %d; want 1 or more", d, v)
		}
		sets[d] = v
	}
	return sets, nil
}

// canonicalDomain maps the default domain's long name to "".
func canonicalDomain(d string) string {
	if d == "ai.onnx" {
		return ""
	}
	return d
}

func (p *parser) graph(pb *onnxpb.GraphProto, depth int) (*Graph, error) {
	if depth > p.lim.Depth {
		return nil, fmt.Errorf("graph %q: graphs are nested more than %d deep", pb.GetName(), p.lim.Depth)
	}
	if s := pb.GetSparseInitializer(); len(s) > 0 {
		return nil, fmt.Errorf("graph %q: initializer %q is sparse; store it dense", pb.GetName(), s[0].GetValues().GetName())
	}
	g := &Graph{Name: pb.GetName()}
	constant := make(map[string]bool, len(pb.GetInitializer()))
	for _, t := range pb.GetInitializer() {
		v, err := p.tensor(t)
		if err != nil {
			return nil, fmt.Errorf("initializer %q: %w", t.GetName(), err)
		}
		if t.GetName() == "" {
			return nil, fmt.Errorf("graph %q: an initializer of shape %v has no name", pb.GetName(), t.GetDims())
		}
		if constant[t.GetName()] {
			return nil, fmt.Errorf("initializer %q stands twice in graph %q", t.GetName(), pb.GetName())
		}
		constant[t.GetName()] = true
		g.Initializers = append(g.Initializers, Initializer{Name: t.GetName(), Tensor: v})
	}
	taken := symbols(pb)
	for _, in := range pb.GetInput() {
		if constant[in.GetName()] {
			continue
		}
		v, err := p.value(in, taken)
		if err != nil {
			return nil, fmt.Errorf("input %q: %w", in.GetName(), err)
		}
		g.Inputs = append(g.Inputs, v)
	}
	for _, out := range pb.GetOutput() {
		v, err := p.value(out, taken)
		if err != nil {
			return nil, fmt.Errorf("output %q: %w", out.GetName(), err)
		}
		g.Outputs = append(g.Outputs, v)
	}
	var err error
	g.Nodes, err = p.nodeList(pb.GetNode(), depth, scope{})
	return g, err
}

// symbols collects the dimension names that a graph's interface uses.
func symbols(pb *onnxpb.GraphProto) map[string]bool {
	taken := map[string]bool{}
	for _, list := range [][]*onnxpb.ValueInfoProto{pb.GetInput(), pb.GetOutput()} {
		for _, v := range list {
			for _, d := range v.GetType().GetTensorType().GetShape().GetDim() {
				taken[d.GetDimParam()] = true
			}
		}
	}
	return taken
}

func (p *parser) value(pb *onnxpb.ValueInfoProto, taken map[string]bool) (Value, error) {
	v := Value{Name: pb.GetName()}
	if pb.GetType() == nil || pb.GetType().GetValue() == nil { // bodies of Loop and If may leave types out
		return v, nil
	}
	t := pb.GetType().GetTensorType()
	if t == nil {
		return v, errors.New("is not a tensor; sequences, maps, optionals and sparse tensors are not supported")
	}
	var err error
	if v.DType, err = elementType(t.GetElemType()); err != nil && t.GetElemType() != 0 {
		return v, err
	}
	if t.GetShape() == nil {
		return v, nil
	}
	if n := len(t.GetShape().GetDim()); n > p.lim.Rank {
		return v, fmt.Errorf("has %d dimensions, the limit is %d", n, p.lim.Rank)
	}
	v.Shape = Shape{}
	for i, d := range t.GetShape().GetDim() {
		switch {
		case d.GetDimParam() != "":
			v.Shape = append(v.Shape, Dim{Symbol: d.GetDimParam()})
		case d.GetDimValue() > 0:
			v.Shape = append(v.Shape, Dim{Size: d.GetDimValue()})
		default: // nothing said; some exporters write 0 or -1 for that
			v.Shape = append(v.Shape, Dim{Symbol: freshSymbol(v.Name, i, taken)})
		}
	}
	return v, nil
}

// freshSymbol invents a dimension name for one axis of a value.
func freshSymbol(value string, axis int, taken map[string]bool) string {
	s := fmt.Sprintf("%s_axis%d", value, axis)
	for taken[s] {
		s += "_"
	}
	taken[s] = true
	return s
}

// elementType checks that a TensorProto.DataType can be held, and widens half precision.
func elementType(t int32) (tensor.DType, error) {
	switch d := tensor.DType(t); d {
	case tensor.Float32, tensor.Float64, tensor.Int64, tensor.Int32, tensor.Uint8, tensor.Int8, tensor.Bool:
		return d, nil
	case tensor.Float16, tensor.BFloat16:
		return tensor.Float32, nil
	}
	return tensor.Undefined, fmt.Errorf("has element type %s, which is not supported; use float32, float64, float16, bfloat16, int64, int32, uint8, int8 or bool",
		onnxpb.TensorProto_DataType(t))
}

// scope says how names and attributes inside a function are to be read at one of its calls; the zero scope changes nothing.
type scope struct {
	prefix string            // for values made inside the function
	names  map[string]string // formal inputs and outputs → actual ones
	attrs  map[string]Attr   // for ref_attr_name
}

func (s scope) value(name string) string {
	if name == "" || s.names == nil {
		return name
	}
	if actual, ok := s.names[name]; ok {
		return actual
	}
	return s.prefix + name
}

func (p *parser) nodeList(list []*onnxpb.NodeProto, depth int, s scope) ([]*Node, error) {
	if p.nodes += len(list); p.nodes > p.lim.Nodes {
		return nil, fmt.Errorf("the model has more than %d nodes", p.lim.Nodes)
	}
	nodes := make([]*Node, 0, len(list))
	for i, pb := range list {
		n, err := p.node(pb, depth, s)
		if err != nil {
			return nil, fmt.Errorf("node %d %q (%s): %w", i, pb.GetName(), pb.GetOpType(), err)
		}
		if f := p.functions[functionKey(n.Domain, n.Op)]; f != nil {
			inner, err := p.inline(n, f, depth)
			if err != nil {
				return nil, fmt.Errorf("node %d %q: function %s: %w", i, n.Name, n.Op, err)
			}
			nodes = append(nodes, inner...)
			continue
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func (p *parser) node(pb *onnxpb.NodeProto, depth int, s scope) (*Node, error) {
	if pb.GetOpType() == "" {
		return nil, errors.New("has no operator type")
	}
	n := &Node{Name: pb.GetName(), Op: pb.GetOpType(), Domain: canonicalDomain(pb.GetDomain()), Attrs: make(map[string]Attr, len(pb.GetAttribute()))}
	if s.prefix != "" && n.Name != "" {
		n.Name = s.prefix + n.Name
	}
	for _, in := range pb.GetInput() {
		n.Inputs = append(n.Inputs, s.value(in))
	}
	for _, out := range pb.GetOutput() {
		n.Outputs = append(n.Outputs, s.value(out))
	}
	for _, a := range pb.GetAttribute() {
		if _, ok := n.Attrs[a.GetName()]; ok {
			return nil, fmt.Errorf("attribute %q stands twice", a.GetName())
		}
		if ref := a.GetRefAttrName(); ref != "" {
			if v, ok := s.attrs[ref]; ok {
				n.Attrs[a.GetName()] = v
			}
			continue
		}
		v, err := p.attribute(a, depth, s)
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", a.GetName(), err)
		}
		n.Attrs[a.GetName()] = v
	}
	widenTargets(n)
	return n, nil
}

// widenTargets makes the nodes that name an element type in an attribute name float32 in place of half precision.
func widenTargets(n *Node) {
	if n.Domain != "" {
		return
	}
	for _, name := range []string{"to", "dtype"} {
		if a, ok := n.Attrs[name]; ok && a.Kind == AttrInt && (tensor.DType(a.Int) == tensor.Float16 || tensor.DType(a.Int) == tensor.BFloat16) {
			n.Attrs[name] = Attr{Kind: AttrInt, Int: int64(tensor.Float32)}
		}
	}
}

func (p *parser) attribute(pb *onnxpb.AttributeProto, depth int, s scope) (Attr, error) {
	a := Attr{Kind: AttrKind(pb.GetType())}
	switch a.Kind {
	case AttrFloat:
		a.Float = pb.GetF()
	case AttrInt:
		a.Int = pb.GetI()
	case AttrString:
		a.String = string(pb.GetS())
	case AttrFloats:
		a.Floats = pb.GetFloats()
	case AttrInts:
		a.Ints = pb.GetInts()
	case AttrStrings:
		for _, v := range pb.GetStrings() {
			a.Strings = append(a.Strings, string(v))
		}
	case AttrTensor:
		t, err := p.tensor(pb.GetT())
		if err != nil {
			return a, err
		}
		a.Tensor = t
	case AttrGraph:
		if pb.GetG() == nil {
			return a, errors.New("is of type graph but holds none")
		}
		if s.names != nil {
			return a, errors.New("a graph inside a function is not supported; inline the functions (onnx.inliner) before use")
		}
		g, err := p.graph(pb.GetG(), depth+1)
		if err != nil {
			return a, err
		}
		a.Graph = g
	default:
		return a, fmt.Errorf("is of type %s, which is not supported", pb.GetType())
	}
	return a, nil
}

// tensor reads a TensorProto. The number of elements its shape asks for is checked against the data that are there
// before anything is allocated.
func (p *parser) tensor(pb *onnxpb.TensorProto) (*tensor.Tensor, error) {
	if pb == nil {
		return nil, errors.New("is of type tensor but holds none")
	}
	if pb.GetDataLocation() == onnxpb.TensorProto_EXTERNAL || len(pb.GetExternalData()) > 0 {
		return nil, fmt.Errorf("tensor %q keeps its data in another file; save the model as one file (onnx.save with save_as_external_data=False)", pb.GetName())
	}
	if pb.GetSegment() != nil {
		return nil, fmt.Errorf("tensor %q is stored in segments, which is not supported", pb.GetName())
	}
	dtype, err := elementType(pb.GetDataType())
	if err != nil {
		return nil, err
	}
	shape, n, err := p.dims(pb.GetDims())
	if err != nil {
		return nil, err
	}
	if size := int64(n) * elementBytes(dtype); size > p.lim.TensorBytes {
		return nil, fmt.Errorf("has %d bytes, the limit is %d", size, p.lim.TensorBytes)
	}
	if pb.RawData != nil {
		return rawTensor(shape, n, tensor.DType(pb.GetDataType()), pb.GetRawData())
	}
	return typedTensor(shape, pb)
}

func (p *parser) dims(dims []int64) ([]int, int, error) {
	if len(dims) > p.lim.Rank {
		return nil, 0, fmt.Errorf("has %d dimensions, the limit is %d", len(dims), p.lim.Rank)
	}
	shape := make([]int, len(dims))
	for i, d := range dims {
		if d < 0 || d > math.MaxInt32 {
			return nil, 0, fmt.Errorf("shape %v: dimension %d is outside 0 to %d", dims, d, math.MaxInt32)
		}
		shape[i] = int(d)
	}
	n, err := tensor.Count(shape)
	if err == nil && n > math.MaxInt32 {
		err = fmt.Errorf("shape %v has more than %d elements", dims, math.MaxInt32)
	}
	return shape, n, err
}

func elementBytes(d tensor.DType) int64 {
	switch d {
	case tensor.Float64, tensor.Int64:
		return 8
	case tensor.Float32, tensor.Int32:
		return 4
	case tensor.Float16, tensor.BFloat16:
		return 2
	}
	return 1
}

// rawTensor decodes TensorProto.raw_data: little-endian elements without padding.
func rawTensor(shape []int, n int, dtype tensor.DType, raw []byte) (*tensor.Tensor, error) {
	if want := int64(n) * elementBytes(dtype); int64(len(raw)) != want {
		return nil, fmt.Errorf("has %d bytes of data; a %s tensor of shape %v needs %d", len(raw), dtype, shape, want)
	}
	switch dtype {
	case tensor.Float32:
		return decodeRaw[float32](shape, n, raw)
	case tensor.Float64:
		return decodeRaw[float64](shape, n, raw)
	case tensor.Int64:
		return decodeRaw[int64](shape, n, raw)
	case tensor.Int32:
		return decodeRaw[int32](shape, n, raw)
	case tensor.Uint8:
		return decodeRaw[uint8](shape, n, raw)
	case tensor.Int8:
		return decodeRaw[int8](shape, n, raw)
	case tensor.Bool:
		return decodeRaw[bool](shape, n, raw)
	}
	out := make([]float32, n)
	for i := range out {
		out[i] = widen(dtype, binary.LittleEndian.Uint16(raw[2*i:]))
	}
	return tensor.New(shape, out)
}

func decodeRaw[T tensor.Element](shape []int, n int, raw []byte) (*tensor.Tensor, error) {
	v := make([]T, n)
	if _, err := binary.Decode(raw, binary.LittleEndian, v); err != nil {
		return nil, err
	}
	return tensor.New(shape, v)
}

// typedTensor reads the typed fields of a TensorProto. Which field holds which element type is said in onnx.proto.
func typedTensor(shape []int, pb *onnxpb.TensorProto) (*tensor.Tensor, error) {
	switch d := tensor.DType(pb.GetDataType()); d {
	case tensor.Float32:
		return tensor.New(shape, pb.GetFloatData())
	case tensor.Float64:
		return tensor.New(shape, pb.GetDoubleData())
	case tensor.Int64:
		return tensor.New(shape, pb.GetInt64Data())
	case tensor.Int32:
		return tensor.New(shape, pb.GetInt32Data())
	case tensor.Uint8:
		return convert(shape, pb.GetInt32Data(), func(v int32) uint8 { return uint8(v) })
	case tensor.Int8:
		return convert(shape, pb.GetInt32Data(), func(v int32) int8 { return int8(v) })
	case tensor.Bool:
		return convert(shape, pb.GetInt32Data(), func(v int32) bool { return v != 0 })
	default:
		return convert(shape, pb.GetInt32Data(), func(v int32) float32 { return widen(d, uint16(v)) })
	}
}

func convert[T tensor.Element](shape []int, data []int32, f func(int32) T) (*tensor.Tensor, error) {
	out := make([]T, len(data))
	for i, v := range data {
		out[i] = f(v)
	}
	return tensor.New(shape, out)
}

// widen converts the bits of a float16 (IEEE 754 binary16) or bfloat16 to float32; both conversions are exact.
func widen(d tensor.DType, bits uint16) float32 {
	if d == tensor.BFloat16 {
		return math.Float32frombits(uint32(bits) << 16)
	}
	sign := uint32(bits>>15) << 31
	exponent, fraction := uint32(bits>>10)&0x1f, uint32(bits)&0x3ff
	switch exponent {
	case 0: // zero or subnormal: fraction · 2⁻²⁴
		v := float32(fraction) / (1 << 24)
		return math.Float32frombits(sign | math.Float32bits(v))
	case 0x1f: // infinity or NaN
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

func functionKey(domain, op string) string { return domain + "\x00" + op }

// declareFunctions notes the model's functions. A function may use another opset than the model only for domains the model
// does not import.
func (p *parser) declareFunctions(m *Model, list []*onnxpb.FunctionProto) error {
	p.functions = make(map[string]*onnxpb.FunctionProto, len(list))
	for _, f := range list {
		if f.GetOverload() != "" {
			return fmt.Errorf("function %q is overloaded (%q), which is not supported; inline the functions (onnx.inliner) before use", f.GetName(), f.GetOverload())
		}
		sets, err := opsets(f.GetOpsetImport())
		if err != nil {
			return fmt.Errorf("function %q: %w", f.GetName(), err)
		}
		for d, v := range sets {
			if have, ok := m.Opsets[d]; ok && have != v {
				return fmt.Errorf("function %q uses opset %d of domain %q and the model %d; convert them to one opset", f.GetName(), v, d, have)
			}
			m.Opsets[d] = v
		}
		p.functions[functionKey(canonicalDomain(f.GetDomain()), f.GetName())] = f
	}
	return nil
}

// inline returns the nodes of function f in place of its call n, with names made unique.
func (p *parser) inline(n *Node, f *onnxpb.FunctionProto, depth int) ([]*Node, error) {
	key := functionKey(n.Domain, n.Op)
	if slices.Contains(p.callStack, key) {
		return nil, errors.New("calls itself")
	}
	if len(p.callStack) >= p.lim.Depth {
		return nil, fmt.Errorf("functions call each other more than %d deep", p.lim.Depth)
	}
	p.callStack = append(p.callStack, key)
	defer func() { p.callStack = p.callStack[:len(p.callStack)-1] }()
	p.calls++
	s := scope{prefix: fmt.Sprintf("%s.%d/", strings.TrimPrefix(n.Op, "_"), p.calls), names: map[string]string{}, attrs: map[string]Attr{}}
	if len(n.Inputs) > len(f.GetInput()) || len(n.Outputs) > len(f.GetOutput()) {
		return nil, fmt.Errorf("is called with %d inputs and %d outputs; it has %d and %d", len(n.Inputs), len(n.Outputs), len(f.GetInput()), len(f.GetOutput()))
	}
	for i, formal := range f.GetInput() {
		s.names[formal] = n.Input(i)
	}
	var aliases []*Node
	for i, formal := range f.GetOutput() {
		if i >= len(n.Outputs) || n.Outputs[i] == "" {
			continue
		}
		if actual, ok := s.names[formal]; ok { // an input, or an earlier output, handed through
			aliases = append(aliases, &Node{Name: n.Outputs[i], Op: "Identity", Inputs: []string{actual}, Outputs: []string{n.Outputs[i]}, Attrs: map[string]Attr{}})
			continue
		}
		s.names[formal] = n.Outputs[i]
	}
	for _, a := range f.GetAttributeProto() {
		v, err := p.attribute(a, depth, s)
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", a.GetName(), err)
		}
		s.attrs[a.GetName()] = v
	}
	for name, a := range n.Attrs {
		s.attrs[name] = a
	}
	nodes, err := p.nodeList(f.GetNode(), depth, s)
	return append(nodes, aliases...), err
}
