package lower

import (
	"fmt"
	"sync"

	"scrawl/engine/onnx"
	"scrawl/engine/ort"
)

// Compiler compiles models for one device: lowered on a CPU whose kernels have been probed, as they are elsewhere. It is safe for
// concurrent use.
type Compiler struct {
	lib     *ort.Library
	options ort.Options
	probe   func() Target
}

// NewCompiler returns a compiler for sessions with the given options. The CPU is probed when the first model is compiled.
func NewCompiler(lib *ort.Library, o ort.Options) *Compiler {
	return &Compiler{lib: lib, options: o, probe: sync.OnceValue(func() Target { return Probe(lib) })}
}

// Compile makes a session for m. Where lowering fails, the session is that of m itself.
func (c *Compiler) Compile(m *onnx.Model) (*ort.Session, error) {
	d, err := ort.ParseDevice(c.options.Device)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	if d.Kind == ort.Auto {
		s, err := c.lib.Compile(m, c.options)
		if err != nil || s.Device().Kind != ort.CPU {
			return s, err
		}
		// The reason why it is the CPU is kept by compiling there once more.
		if l := c.lowered(m); l != nil {
			if fast, err := c.lib.Compile(l, c.options); err == nil {
				return fast, s.Close()
			}
		}
		return s, nil
	}
	if d.Kind == ort.CPU {
		if l := c.lowered(m); l != nil {
			if s, err := c.lib.Compile(l, c.options); err == nil {
				return s, nil
			}
		}
	}
	return c.lib.Compile(m, c.options)
}

// lowered returns m for this machine's CPU, nil where that cannot be had.
func (c *Compiler) lowered(m *onnx.Model) *onnx.Model {
	t := c.probe()
	if t.Block == 0 {
		return nil
	}
	l, err := CPU(m, t)
	if err != nil {
		return nil
	}
	return l
}
