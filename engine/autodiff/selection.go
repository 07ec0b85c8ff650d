package autodiff

import (
	"scrawl/engine/onnx"
)

// Operators that pick elements, put elements into place, or leave some out: the cotangent goes the opposite way.

// Trilu: dx is the same triangle of dy.
func vjpTrilu(t *tape, c call) ([]string, error) {
	inputs := []string{c.dy()}
	if k := c.Input(1); k != "" {
		inputs = append(inputs, k)
	}
	return one(t.b.Op("Trilu", inputs, onnx.WithInt("upper", c.Int("upper", 1))))
}

// GatherND: each slice of dy is added to the one it was taken from.
func vjpGatherND(t *tape, c call) ([]string, error) {
	if c.Int("batch_dims", 0) != 0 {
		return nil, unsupported(c.Node, "batch_dims is not handled; export with plain indices")
	}
	return one(t.b.Op("ScatterND", []string{t.zerosLike(c.Inputs[0]), c.Inputs[1], c.dy()}, onnx.WithString("reduction", "add")))
}

// ScatterND and ScatterElements: updates get the elements of dy they became; data gets the others, or all where updates were added.
func vjpScatterND(t *tape, c call) ([]string, error) {
	return t.scattered(c, func(dy string) string { return t.op("GatherND", dy, c.Inputs[1]) },
		func(dy, zeros string) string { return t.op("ScatterND", dy, c.Inputs[1], zeros) })
}

func vjpScatterElements(t *tape, c call) ([]string, error) {
	axis := onnx.WithInt("axis", c.Int("axis", 0))
	return t.scattered(c, func(dy string) string { return t.b.Op("GatherElements", []string{dy, c.Inputs[1]}, axis) },
		func(dy, zeros string) string {
			return t.b.Op("ScatterElements", []string{dy, c.Inputs[1], zeros}, axis)
		})
}

func (t *tape) scattered(c call, take func(dy string) string, put func(dy, zeros string) string) ([]string, error) {
	dxs := make([]string, 3)
	mode := c.Str("reduction", "none")
	if mode != "none" && mode != "add" {
		return nil, unsupported(c.Node, "reduction %q is not handled; none and add are", mode)
	}
	if c.want[0] {
		if dxs[0] = c.dy(); mode == "none" {
			dxs[0] = put(c.dy(), t.zerosLike(c.Inputs[2]))
		}
	}
	if c.want[2] {
		dxs[2] = take(c.dy())
	}
	return dxs, nil
}

// TopK: each value's cotangent goes to the element it was.
func vjpTopK(t *tape, c call) ([]string, error) {
	if c.dy() == "" {
		return one("") // the indices alone were used
	}
	axis := onnx.WithInt("axis", c.Int("axis", -1))
	indices := ""
	if len(c.Outputs) > 1 {
		indices = c.Outputs[1]
	}
	if indices == "" {
		indices = t.b.Ops("TopK", 2, c.Inputs, axis, onnx.WithInt("largest", c.Int("largest", 1)), onnx.WithInt("sorted", c.Int("sorted", 1)))[1]
	}
	return one(t.b.Op("ScatterElements", []string{t.zerosLike(c.Inputs[0]), indices, c.dy()}, axis))
}
