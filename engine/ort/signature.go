package ort

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// signature is a model's interface as its file declares it.
type signature struct {
	inputs, outputs []onnx.Value
}

// readSignature reads the names, element types and shapes of a model's inputs and outputs straight from its bytes. It
// walks over the weights without copying them, where onnx.Parse would take them in and where the binding would open a
// second session. The field numbers are those of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
func readSignature(model []byte) (*signature, error) {
	sig := &signature{}
	weights := map[string]bool{}
	graphs := 0
	err := fields(model, func(num protowire.Number, v []byte) error {
		if num != 7 { // ModelProto.graph
			return nil
		}
		graphs++
		return sig.readGraph(v, weights)
	})
	if err != nil {
		return nil, fmt.Errorf("read onnx model: %w", err)
	}
	if graphs == 0 {
		return nil, errors.New("read onnx model: it has no graph; is it an .onnx file?")
	}
	// Models before IR version 4 list their weights among the inputs too.
	kept := sig.inputs[:0]
	for _, in := range sig.inputs {
		if !weights[in.Name] {
			kept = append(kept, in)
		}
	}
	sig.inputs = kept
	return sig, nil
}

func (sig *signature) readGraph(graph []byte, weights map[string]bool) error {
	return fields(graph, func(num protowire.Number, v []byte) error {
		switch num {
		case 5: // GraphProto.initializer
			name, err := text(v, 8) // TensorProto.name
			weights[name] = true
			return err
		case 15: // GraphProto.sparse_initializer, whose values (1) are a TensorProto
			return fields(v, func(num protowire.Number, v []byte) error {
				if num != 1 {
					return nil
				}
				name, err := text(v, 8)
				weights[name] = true
				return err
			})
		case 11, 12: // GraphProto.input, GraphProto.output
			val, err := readValue(v)
			if err != nil {
				return err
			}
			if num == 11 {
				sig.inputs = append(sig.inputs, val)
			} else {
				sig.outputs = append(sig.outputs, val)
			}
		}
		return nil
	})
}

// readValue reads a ValueInfoProto. A value that is no tensor gets the element type Undefined.
func readValue(b []byte) (onnx.Value, error) {
	val := onnx.Value{}
	err := fields(b, func(num protowire.Number, v []byte) error {
		switch num {
		case 1: // ValueInfoProto.name
			val.Name = string(v)
		case 2: // ValueInfoProto.type
			return fields(v, func(num protowire.Number, v []byte) error {
				if num != 1 { // TypeProto.tensor_type
					return nil
				}
				return readTensorType(v, &val)
			})
		}
		return nil
	})
	// Sizes that the model leaves unnamed become symbols of their own.
	for i, d := range val.Shape {
		if d.Symbol == unnamed {
			val.Shape[i].Symbol = fmt.Sprintf("%s_dim_%d", val.Name, i)
		}
	}
	return val, err
}

const unnamed = "\x00"

func readTensorType(b []byte, val *onnx.Value) error {
	return fields(b, func(num protowire.Number, v []byte) error {
		switch num {
		case 1: // TypeProto.Tensor.elem_type
			n, _ := protowire.ConsumeVarint(v)
			val.DType = tensor.DType(int32(n))
		case 2: // TypeProto.Tensor.shape
			val.Shape = onnx.Shape{}
			return fields(v, func(num protowire.Number, v []byte) error {
				if num != 1 { // TensorShapeProto.dim
					return nil
				}
				d, err := readDim(v)
				val.Shape = append(val.Shape, d)
				return err
			})
		}
		return nil
	})
}

func readDim(b []byte) (onnx.Dim, error) {
	d := onnx.Dim{Symbol: unnamed}
	err := fields(b, func(num protowire.Number, v []byte) error {
		switch num {
		case 1: // Dimension.dim_value; exporters write 0 or -1 for "unknown" too, but 0 is a size
			n, _ := protowire.ConsumeVarint(v)
			if int64(n) >= 0 {
				d = onnx.Dim{Size: int64(n)}
			}
		case 2: // Dimension.dim_param
			if len(v) > 0 {
				d = onnx.Dim{Symbol: string(v)}
			}
		}
		return nil
	})
	return d, err
}

// text returns the string in the given field of a message, "" when there is none.
func text(b []byte, field protowire.Number) (string, error) {
	var s string
	err := fields(b, func(num protowire.Number, v []byte) error {
		if num == field {
			s = string(v)
		}
		return nil
	})
	return s, err
}

// fields calls f for every field of a message that is a varint (v: its bytes) or has a length (v: its content).
func fields(b []byte, f func(num protowire.Number, v []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(num, typ, b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		v := b[:n]
		b = b[n:]
		switch typ {
		case protowire.BytesType:
			v, _ = protowire.ConsumeBytes(v)
		case protowire.VarintType:
		default:
			continue
		}
		if err := f(num, v); err != nil {
			return err
		}
	}
	return nil
}
