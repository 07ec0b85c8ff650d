package onnx_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"scrawl/engine/onnx"
	"scrawl/engine/onnx/onnxpb"
	"scrawl/engine/onnx/refexec"
	"scrawl/engine/tensor"
)

// reluModel is a valid model to spoil: y = Relu(x + w), x [1, 2].
func reluModel() *onnxpb.ModelProto {
	info := func(name string) *onnxpb.ValueInfoProto {
		return &onnxpb.ValueInfoProto{Name: proto.String(name), Type: &onnxpb.TypeProto{Value: &onnxpb.TypeProto_TensorType{TensorType: &onnxpb.TypeProto_Tensor{
			ElemType: proto.Int32(1),
			Shape: &onnxpb.TensorShapeProto{Dim: []*onnxpb.TensorShapeProto_Dimension{
				{Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: 1}}, {Value: &onnxpb.TensorShapeProto_Dimension_DimValue{DimValue: 2}}}},
		}}}}
	}
	return &onnxpb.ModelProto{
		IrVersion:   proto.Int64(8),
		OpsetImport: []*onnxpb.OperatorSetIdProto{{Domain: proto.String("ai.onnx"), Version: proto.Int64(17)}},
		Graph: &onnxpb.GraphProto{
			Name: proto.String("g"), Input: []*onnxpb.ValueInfoProto{info("x"), info("w")}, Output: []*onnxpb.ValueInfoProto{info("y")},
			Initializer: []*onnxpb.TensorProto{{Name: proto.String("w"), Dims: []int64{2}, DataType: proto.Int32(1), FloatData: []float32{1, -1}}},
			Node: []*onnxpb.NodeProto{
				{OpType: proto.String("Add"), Name: proto.String("add"), Input: []string{"x", "w"}, Output: []string{"a"}},
				{OpType: proto.String("Relu"), Name: proto.String("relu"), Input: []string{"a"}, Output: []string{"y"}, Domain: proto.String("ai.onnx")},
			},
		},
	}
}

func marshalled(t testing.TB, pb *onnxpb.ModelProto) []byte {
	t.Helper()
	data, err := proto.Marshal(pb)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseReadsInterface(t *testing.T) {
	pb := reluModel()
	dim := pb.Graph.Input[0].Type.GetTensorType().Shape.Dim
	dim[0].Value = &onnxpb.TensorShapeProto_Dimension_DimParam{DimParam: "x_axis1"}
	dim[1].Value = nil
	pb.MetadataProps = []*onnxpb.StringStringEntryProto{{Key: proto.String("k"), Value: proto.String("v")}}
	m, err := onnx.Parse(marshalled(t, pb))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Graph.Inputs) != 1 || m.Graph.Inputs[0].Name != "x" {
		t.Errorf("inputs are %v; want x alone, w being an initializer", m.Graph.Inputs)
	}
	want := onnx.Shape{{Symbol: "x_axis1"}, {Symbol: "x_axis1_"}}
	if !slices.Equal(m.Graph.Inputs[0].Shape, want) {
		t.Errorf("shape is %v, want %v: an unnamed axis gets a name of its own", m.Graph.Inputs[0].Shape, want)
	}
	if m.Opsets[""] != 17 || m.Metadata["k"] != "v" || m.Graph.Nodes[1].Domain != "" {
		t.Errorf("opsets %v, metadata %v, domain %q", m.Opsets, m.Metadata, m.Graph.Nodes[1].Domain)
	}
}

func TestParseRefuses(t *testing.T) {
	external := func(t *onnxpb.TensorProto) { t.DataLocation = onnxpb.TensorProto_EXTERNAL.Enum() }
	constant := func(v *onnxpb.TensorProto) *onnxpb.NodeProto {
		return &onnxpb.NodeProto{OpType: proto.String("Constant"), Name: proto.String("c"), Output: []string{"k"}, Attribute: []*onnxpb.AttributeProto{
			{Name: proto.String("value"), Type: onnxpb.AttributeProto_TENSOR.Enum(), T: v}}}
	}
	nested := func(depth int, leaf *onnxpb.NodeProto) *onnxpb.NodeProto {
		for range depth {
			leaf = &onnxpb.NodeProto{OpType: proto.String("If"), Name: proto.String("if"), Attribute: []*onnxpb.AttributeProto{
				{Name: proto.String("then_branch"), Type: onnxpb.AttributeProto_GRAPH.Enum(), G: &onnxpb.GraphProto{Name: proto.String("b"), Node: []*onnxpb.NodeProto{leaf}}}}}
		}
		return leaf
	}
	weights := func() *onnxpb.TensorProto {
		return &onnxpb.TensorProto{Name: proto.String("kernel"), Dims: []int64{2}, DataType: proto.Int32(1), FloatData: []float32{1, 2}}
	}
	for name, tc := range map[string]struct {
		spoil func(*onnxpb.ModelProto)
		want  string
	}{
		"external initializer": {func(m *onnxpb.ModelProto) { external(m.Graph.Initializer[0]) }, `initializer "w"`},
		"external entries": {func(m *onnxpb.ModelProto) {
			m.Graph.Initializer[0].ExternalData = []*onnxpb.StringStringEntryProto{{Key: proto.String("location"), Value: proto.String("../../etc/passwd")}}
		}, "keeps its data in another file"},
		"external attribute": {func(m *onnxpb.ModelProto) {
			w := weights()
			external(w)
			m.Graph.Node = append(m.Graph.Node, constant(w))
		}, `"kernel" keeps its data in another file`},
		"external in a body": {func(m *onnxpb.ModelProto) {
			w := weights()
			external(w)
			m.Graph.Node = append(m.Graph.Node, nested(2, constant(w)))
		}, `"kernel" keeps its data in another file`},
		"sparse initializer": {func(m *onnxpb.ModelProto) {
			m.Graph.SparseInitializer = []*onnxpb.SparseTensorProto{{Values: weights()}}
		}, `"kernel" is sparse`},
		"training": {func(m *onnxpb.ModelProto) { m.TrainingInfo = []*onnxpb.TrainingInfoProto{{}} }, "training information"},
		"no graph": {func(m *onnxpb.ModelProto) { m.Graph = nil }, "no graph"},
		"no opset": {func(m *onnxpb.ModelProto) { m.OpsetImport = nil }, "which opset"},
		"two opsets": {func(m *onnxpb.ModelProto) {
			m.OpsetImport = append(m.OpsetImport, &onnxpb.OperatorSetIdProto{Version: proto.Int64(9)})
		}, "opset 17 and 9"},
		"IR too new":   {func(m *onnxpb.ModelProto) { m.IrVersion = proto.Int64(99) }, "IR version 99"},
		"IR too old":   {func(m *onnxpb.ModelProto) { m.IrVersion = proto.Int64(2) }, "from 3 to"},
		"element type": {func(m *onnxpb.ModelProto) { m.Graph.Initializer[0].DataType = proto.Int32(8) }, "STRING"},
		"input type":   {func(m *onnxpb.ModelProto) { m.Graph.Input[0].Type.GetTensorType().ElemType = proto.Int32(15) }, "COMPLEX128"},
		"sequence input": {func(m *onnxpb.ModelProto) {
			m.Graph.Input[0].Type.Value = &onnxpb.TypeProto_SequenceType{SequenceType: &onnxpb.TypeProto_Sequence{}}
		}, "is not a tensor"},
		"raw data too short":  {func(m *onnxpb.ModelProto) { m.Graph.Initializer[0].RawData = []byte{1, 2, 3} }, "has 3 bytes of data; a float32 tensor of shape [2] needs 8"},
		"data too long":       {func(m *onnxpb.ModelProto) { m.Graph.Initializer[0].FloatData = []float32{1, 2, 3} }, "holds 2 elements, got 3"},
		"shape without data":  {func(m *onnxpb.ModelProto) { m.Graph.Initializer[0].Dims = []int64{1 << 20, 1 << 20} }, "elements"},
		"shape overflows":     {func(m *onnxpb.ModelProto) { m.Graph.Initializer[0].Dims = []int64{1 << 30, 1 << 30, 1 << 30} }, "too large"},
		"negative dimension":  {func(m *onnxpb.ModelProto) { m.Graph.Initializer[0].Dims = []int64{-2} }, "outside 0 to"},
		"too many dimensions": {func(m *onnxpb.ModelProto) { m.Graph.Initializer[0].Dims = make([]int64, 99) }, "limit is 16"},
		"same initializer":    {func(m *onnxpb.ModelProto) { m.Graph.Initializer = append(m.Graph.Initializer, m.Graph.Initializer[0]) }, "stands twice"},
		"graphs too deep":     {func(m *onnxpb.ModelProto) { m.Graph.Node = append(m.Graph.Node, nested(9, constant(weights()))) }, "more than 8 deep"},
		"attribute type": {func(m *onnxpb.ModelProto) {
			m.Graph.Node[0].Attribute = []*onnxpb.AttributeProto{{Name: proto.String("a"), Type: onnxpb.AttributeProto_TYPE_PROTO.Enum()}}
		}, `attribute "a": is of type TYPE_PROTO`},
		"recursive function": {func(m *onnxpb.ModelProto) {
			m.Functions = []*onnxpb.FunctionProto{{Name: proto.String("F"), Domain: proto.String("d"), Input: []string{"a"}, Output: []string{"b"}, Node: []*onnxpb.NodeProto{
				{OpType: proto.String("F"), Domain: proto.String("d"), Input: []string{"a"}, Output: []string{"b"}}}}}
			m.Graph.Node[0].OpType, m.Graph.Node[0].Domain, m.Graph.Node[0].Input = proto.String("F"), proto.String("d"), []string{"x"}
		}, "calls itself"},
	} {
		t.Run(name, func(t *testing.T) {
			pb := reluModel()
			tc.spoil(pb)
			_, err := onnx.Parse(marshalled(t, pb))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v; want it to say %q", err, tc.want)
			}
		})
	}
}

func TestParseLimits(t *testing.T) {
	data := marshalled(t, reluModel())
	for name, spoil := range map[string]func(*onnx.Limits){
		"bytes":   func(l *onnx.Limits) { l.Bytes = len(data) - 1 },
		"nodes":   func(l *onnx.Limits) { l.Nodes = 1 },
		"tensors": func(l *onnx.Limits) { l.TensorBytes = 7 },
		"rank":    func(l *onnx.Limits) { l.Rank = 0 },
	} {
		lim := onnx.DefaultLimits()
		if _, err := onnx.ParseWithin(data, lim); err != nil {
			t.Fatal(err)
		}
		spoil(&lim)
		if _, err := onnx.ParseWithin(data, lim); err == nil {
			t.Errorf("%s: the limit does not hold", name)
		}
	}
}

func TestParseTruncated(t *testing.T) {
	data := loadGoldens(t, "exports.json.gz")[0].bytes(t)
	whole, err := onnx.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(data); n += 37 {
		m, err := onnx.Parse(data[:n])
		// A cut between two fields of the model leaves a valid, shorter protobuf; it must then at least lack something.
		if err == nil && len(m.Graph.Nodes) == len(whole.Graph.Nodes) && len(m.Opsets) == len(whole.Opsets) {
			t.Errorf("the first %d of %d bytes are taken for the whole model", n, len(data))
		}
	}
}

// TestHalfPrecision widens every float16 and compares with values of IEEE 754 binary16 known by definition.
func TestHalfPrecision(t *testing.T) {
	half := map[uint16]float64{
		0x0000: 0, 0x3c00: 1, 0xc000: -2, 0x3555: 0.333251953125, 0x7bff: 65504, 0x0001: math.Pow(2, -24), 0x03ff: 1023 * math.Pow(2, -24),
		0x0400: math.Pow(2, -14), 0x7c00: math.Inf(1), 0xfc00: math.Inf(-1), 0x7e00: math.NaN(),
	}
	brain := map[uint16]float64{0x3f80: 1, 0xc040: -3, 0x7f80: math.Inf(1), 0x0001: math.Pow(2, -133)}
	for dtype, table := range map[int32]map[uint16]float64{10: half, 16: brain} {
		for bits, want := range table {
			for _, raw := range []bool{true, false} {
				pb := reluModel()
				w := pb.Graph.Initializer[0]
				w.DataType, w.Dims, w.FloatData = proto.Int32(dtype), []int64{1}, nil
				if raw {
					w.RawData = []byte{byte(bits), byte(bits >> 8)}
				} else {
					w.Int32Data = []int32{int32(bits)}
				}
				pb.Graph.Input[0].Type.GetTensorType().ElemType = proto.Int32(dtype)
				m, err := onnx.Parse(marshalled(t, pb))
				if err != nil {
					t.Fatal(err)
				}
				got := m.Graph.Initializers[0].Tensor.Float32s()
				if len(got) != 1 || float64(got[0]) != want && !(math.IsNaN(want) && math.IsNaN(float64(got[0]))) {
					t.Errorf("type %d, bits %04x: %v, want %v", dtype, bits, got, want)
				}
				if m.Graph.Inputs[0].DType != tensor.Float32 {
					t.Errorf("input has type %s, want float32", m.Graph.Inputs[0].DType)
				}
			}
		}
	}
}

// TestBrainchop reads three real networks, 3-D and dilated, and runs a thin slab through the smallest.
func TestBrainchop(t *testing.T) {
	folder := sharedFolder(t, "data", "weights_brainchop", "onnx")
	files, err := filepath.Glob(filepath.Join(folder, "*.onnx"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%s holds %d models, want 3 (%v)", folder, len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m, err := onnx.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			n := normalize(t, m)
			facts, err := onnx.Infer(n.Graph)
			if err != nil {
				t.Fatal(err)
			}
			in, out := n.Graph.Inputs[0], n.Graph.Outputs[0].Name
			shape := facts[out].Shape
			if len(shape) != 5 || !slices.Equal(shape[2:], in.Shape[2:]) || !shape[1].Known() {
				t.Errorf("from %v to %v; want the same spatial sizes and a known number of classes", in.Shape, shape)
			}
			small := map[string]*tensor.Tensor{in.Name: tensor.Zeros[float32](1, 1, 3, 4, 5)}
			got, err := refexec.Run(n.Graph, small)
			if err != nil {
				t.Fatal(err)
			}
			if s := got[out].Shape(); !slices.Equal(s[2:], []int{3, 4, 5}) {
				t.Errorf("output has shape %v", s)
			}
		})
	}
}

// sharedFolder finds material that is shared between checkouts and not part of the repository.
func sharedFolder(t *testing.T, parts ...string) string {
	t.Helper()
	root := os.Getenv("SCRAWL_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared") // beside the repository
	}
	folder := filepath.Join(append([]string{root}, parts...)...)
	if _, err := os.Stat(folder); err != nil {
		if os.Getenv("SCRAWL_REQUIRE") == "1" && os.Getenv("SCRAWL_SHARED") != "" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED, no shared data here; say where they are with `SCRAWL_SHARED=/path/to/shared go test ./engine/onnx/`: %v", err)
	}
	return folder
}

// FuzzParse reads hostile files, and takes through the whole package what is well formed: nothing may panic.
func FuzzParse(f *testing.F) {
	f.Add(marshalled(f, reluModel()))
	for i, g := range allGoldens(f) {
		if i%7 == 0 || strings.HasPrefix(g.Model, "unet") {
			f.Add(g.bytes(f))
		}
	}
	lim := onnx.DefaultLimits()
	lim.TensorBytes, lim.Nodes = 1<<20, 1000
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := onnx.ParseWithin(data, lim)
		if err != nil {
			return
		}
		written, err := m.Marshal()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := onnx.Parse(written); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		_ = onnx.Check(m.Graph)
		_, _ = onnx.Infer(m.Graph)
		if n, err := onnx.Normalize(m); err == nil {
			if _, err := n.Marshal(); err != nil {
				t.Fatalf("what was normalised cannot be written: %v", err)
			}
		}
	})
}

func BenchmarkParse(b *testing.B) {
	data := loadGoldens(b, "exports.json.gz")[0].bytes(b)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := onnx.Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNormalizeAndInfer(b *testing.B) {
	m := loadGoldens(b, "exports.json.gz")[2].parse(b)
	for b.Loop() {
		n, err := onnx.Normalize(m)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := onnx.Infer(n.Graph); err != nil {
			b.Fatal(err)
		}
	}
}
