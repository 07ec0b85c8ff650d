package onnx

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"scrawl/engine/onnx/onnxpb"
	"scrawl/engine/tensor"
)

// defaultIRVersion is written for models that name none: it goes with opset 18 and every ONNX Runtime that Scrawl accepts.
const defaultIRVersion = 9

// Marshal returns the model as the bytes of an ONNX file. Equal models give equal bytes: attributes, opsets and metadata
// are sorted by name, and tensors are stored as raw_data. It fails when the file would exceed protobuf's 2 GiB.
func (m *Model) Marshal() ([]byte, error) {
	if m.Graph == nil {
		return nil, fmt.Errorf("marshal ONNX model: it has no graph")
	}
	pb := &onnxpb.ModelProto{IrVersion: proto.Int64(m.IRVersion)}
	if m.IRVersion == 0 {
		pb.IrVersion = proto.Int64(defaultIRVersion)
	}
	if m.Producer != "" {
		pb.ProducerName = proto.String(m.Producer)
	}
	if len(m.Opsets) == 0 {
		pb.OpsetImport = []*onnxpb.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(Opset)}}
	}
	for _, d := range slices.Sorted(maps.Keys(m.Opsets)) {
		pb.OpsetImport = append(pb.OpsetImport, &onnxpb.OperatorSetIdProto{Domain: proto.String(d), Version: proto.Int64(m.Opsets[d])})
	}
	for _, k := range slices.Sorted(maps.Keys(m.Metadata)) {
		pb.MetadataProps = append(pb.MetadataProps, &onnxpb.StringStringEntryProto{Key: proto.String(k), Value: proto.String(m.Metadata[k])})
	}
	var err error
	if pb.Graph, err = marshalGraph(m.Graph); err != nil {
		return nil, fmt.Errorf("marshal ONNX model: %w", err)
	}
	if n := proto.Size(pb); n > math.MaxInt32 {
		return nil, fmt.Errorf("marshal ONNX model: it has %d bytes; protobuf allows %d", n, math.MaxInt32)
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(pb)
	if err != nil {
		return nil, fmt.Errorf("marshal ONNX model: %w", err)
	}
	return data, nil
}

func marshalGraph(g *Graph) (*onnxpb.GraphProto, error) {
	pb := &onnxpb.GraphProto{Name: proto.String(g.Name)}
	if g.Name == "" {
		pb.Name = proto.String("graph") // the checker wants one
	}
	for _, v := range g.Inputs {
		pb.Input = append(pb.Input, marshalValue(v))
	}
	for _, v := range g.Outputs {
		pb.Output = append(pb.Output, marshalValue(v))
	}
	for _, in := range g.Initializers {
		t, err := marshalTensor(in.Tensor)
		if err != nil {
			return nil, fmt.Errorf("initializer %q: %w", in.Name, err)
		}
		t.Name = proto.String(in.Name)
		pb.Initializer = append(pb.Initializer, t)
	}
	for _, n := range g.Nodes {
		node, err := marshalNode(n)
		if err != nil {
			return nil, fmt.Errorf("node %q (%s): %w", n.Name, n.Op, err)
		}
		pb.Node = append(pb.Node, node)
	}
	return pb, nil
}

func marshalValue(v Value) *onnxpb.ValueInfoProto {
	pb := &onnxpb.ValueInfoProto{Name: proto.String(v.Name)}
	if v.DType == tensor.Undefined && v.Shape == nil {
		return pb
	}
	t := &onnxpb.TypeProto_Tensor{ElemType: proto.Int32(int32(v.DType))}
	if v.Shape != nil {
		t.Shape = &onnxpb.TensorShapeProto{}
		for _, d := range v.Shape {
			dim := &onnxpb.TensorShapeProto_Dimension{Value: &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: d.Symbol}}
			if d.Known() {
				dim.Value = &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: d.Size}
			}
			t.Shape.Dim = append(t.Shape.Dim, dim)
		}
	}
	pb.Type = &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: t}}
	return pb
}

func marshalNode(n *Node) (*onnxpb.NodeProto, error) {
	pb := &onnxpb.NodeProto{OpType: proto.String(n.Op), Input: n.Inputs, Output: n.Outputs}
	if n.Name != "" {
		pb.Name = proto.String(n.Name)
	}
	if n.Domain != "" {
		pb.Domain = proto.String(n.Domain)
	}
	for _, name := range slices.Sorted(maps.Keys(n.Attrs)) {
		a, err := marshalAttr(n.Attrs[name])
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", name, err)
		}
		a.Name = proto.String(name)
		pb.Attribute = append(pb.Attribute, a)
	}
	return pb, nil
}

func marshalAttr(a Attr) (*onnxpb.AttributeProto, error) {
	pb := &onnxpb.AttributeProto{Type: onnxpb.AttributeProto_AttributeType(a.Kind).Enum()}
	var err error
	switch a.Kind {
	case AttrFloat:
		pb.F = proto.Float32(a.Float)
	case AttrInt:
		pb.I = proto.Int64(a.Int)
	case AttrString:
		pb.S = []byte(a.String)
	case AttrFloats:
		pb.Floats = a.Floats
	case AttrInts:
		pb.Ints = a.Ints
	case AttrStrings:
		for _, s := range a.Strings {
			pb.Strings = append(pb.Strings, []byte(s))
		}
	case AttrTensor:
		pb.T, err = marshalTensor(a.Tensor)
	case AttrGraph:
		if a.Graph == nil {
			return nil, fmt.Errorf("is of type graph but holds none")
		}
		pb.G, err = marshalGraph(a.Graph)
	default:
		err = fmt.Errorf("has kind %d, which is not one of ONNX's that Scrawl writes", a.Kind)
	}
	return pb, err
}

func marshalTensor(t *tensor.Tensor) (*onnxpb.TensorProto, error) {
	if t == nil {
		return nil, fmt.Errorf("holds no tensor")
	}
	pb := &onnxpb.TensorProto{DataType: proto.Int32(int32(t.DType())), RawData: []byte{}}
	for _, d := range t.Shape() {
		pb.Dims = append(pb.Dims, int64(d))
	}
	var err error
	switch t.DType() {
	case tensor.Float32:
		pb.RawData, err = rawBytes[float32](t)
	case tensor.Float64:
		pb.RawData, err = rawBytes[float64](t)
	case tensor.Int64:
		pb.RawData, err = rawBytes[int64](t)
	case tensor.Int32:
		pb.RawData, err = rawBytes[int32](t)
	case tensor.Uint8:
		pb.RawData, err = rawBytes[uint8](t)
	case tensor.Int8:
		pb.RawData, err = rawBytes[int8](t)
	case tensor.Bool:
		pb.RawData, err = rawBytes[bool](t)
	default:
		err = fmt.Errorf("has element type %s, which cannot be written", t.DType())
	}
	return pb, err
}

func rawBytes[T tensor.Element](t *tensor.Tensor) ([]byte, error) {
	return binary.Append(make([]byte, 0, t.Bytes()), binary.LittleEndian, tensor.Data[T](t))
}
