package lower

import (
	"fmt"
	"slices"
	"sync"

	"scrawl/engine/onnx"
	"scrawl/engine/ort"
)

// Compiler compiles models for one device: on a CPU whose kernels have been probed those whose convolutions' weights are inputs are lowered;
// all others are left as they are. It is safe for
// concurrent use.
type Compiler struct {
	// Half makes graphs that only answer compute in half precision on a GPU: see [Half]. It is set before the first use.
	Half bool

	lib     *ort.Library
	options ort.Options
	probe   func() Target
	device  func() (ort.Device, error)
	met     *cases
}

// NewCompiler returns a compiler for sessions with the given options. The device is looked at when the first model is compiled.
func NewCompiler(lib *ort.Library, o ort.Options) *Compiler {
	c := &Compiler{lib: lib, options: o, met: newCases(), device: sync.OnceValues(func() (ort.Device, error) { return lib.Resolve(o.Device) })}
	c.probe = sync.OnceValue(func() Target {
		t := measured(lib, o)
		c.met.know(t.Forms)
		t.met = c.met
		return t
	})
	return c
}

// Compile makes a session for m. Where rewriting it fails, the session is that of m itself.
func (c *Compiler) Compile(m *onnx.Model) (*ort.Session, error) {
	d, err := c.device()
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	rewritten, err := c.rewritten(m, d)
	if err == nil && rewritten != m {
		if s, err := c.lib.Compile(rewritten, c.options); err == nil {
			return s, nil
		}
	}
	return c.lib.Compile(m, c.options)
}

func (c *Compiler) rewritten(m *onnx.Model, d ort.Device) (*onnx.Model, error) {
	if d.Kind != ort.CPU {
		return c.onGPU(m)
	}
	if t := c.probe(); t.Block != 0 && !frozen(m.Graph) {
		return CPU(m, t)
	}
	return m, nil
}

func (c *Compiler) onGPU(m *onnx.Model) (*onnx.Model, error) {
	rewritten, err := CUDA(m)
	if err != nil || !c.Half || learns(m.Graph) {
		return rewritten, err
	}
	return Half(rewritten)
}

// frozen reports that no convolution's weight comes from outside: ONNX Runtime then lays out all of them by itself, and finds more to fuse
// on the way.
func frozen(g *onnx.Graph) bool {
	constant := map[string]bool{"": true}
	for _, in := range g.Initializers {
		constant[in.Name] = true
	}
	for _, n := range g.Nodes {
		if n.Op == "Loop" || n.Op == "If" || n.Op == "Conv" && n.Domain == "" && !constant[n.Inputs[1]] {
			return false
		}
		known := !slices.ContainsFunc(n.Inputs, func(v string) bool { return !constant[v] })
		for _, o := range n.Outputs {
			constant[o] = known
		}
	}
	return true
}
