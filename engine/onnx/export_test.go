package onnx

import "strings"

// EvalSymbol computes the size that a symbol stands for, given those of the graph's own symbols. Symbols that are neither
// expressions nor bound are reported as invented.
func EvalSymbol(symbol string, sizes map[string]int64) (size int64, invented string) {
	a := newAlgebra()
	return a.eval(a.of(Dim{Symbol: symbol}), sizes)
}

func (a *algebra) eval(p poly, sizes map[string]int64) (int64, string) {
	sum := int64(0)
	for m, c := range p {
		for _, name := range atomsOf(m) {
			v, invented := a.evalAtom(name, sizes)
			if invented != "" {
				return 0, invented
			}
			c *= v
		}
		sum += c
	}
	return sum, ""
}

func (a *algebra) evalAtom(name string, sizes map[string]int64) (int64, string) {
	if v, ok := sizes[name]; ok {
		return v, ""
	}
	if f, ok := a.floors[name]; ok {
		v, invented := a.eval(f.num, sizes)
		return floorQuotient(v, f.den), invented
	}
	for _, f := range []string{"max", "min", "quotient"} {
		args, ok := strings.CutPrefix(name, f+"(")
		if !ok {
			continue
		}
		s := &symbolParser{a: a, rest: args}
		p, _ := s.sum()
		s.accept(", ")
		q, _ := s.sum()
		x, invented := a.eval(p, sizes)
		if invented != "" {
			return 0, invented
		}
		y, invented := a.eval(q, sizes)
		if invented != "" {
			return 0, invented
		}
		switch f {
		case "max":
			return max(x, y), ""
		case "min":
			return min(x, y), ""
		}
		return x / y, ""
	}
	return 0, name
}
