package lower

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"scrawl/engine/autodiff"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/tensor"
)

// bands are the sizes that are tried.
var bands = []int64{128 << 10, 256 << 10, 512 << 10}

// Tune measures the forms of all weights' gradients in the models, on this machine and with the given options, and keeps them for
// compilers made later. Geometries that are known already are left as they are. progress is called before each geometry. It returns the
// name of the file and how many geometries it holds.
func Tune(ctx context.Context, lib *ort.Library, o ort.Options, models []*onnx.Model, progress func(done, total int)) (file string, known int, err error) {
	t := Probe(lib)
	if t.Block == 0 {
		return "", 0, errors.New("tune: the blocked kernels of ONNX Runtime cannot be used on this CPU, so there is nothing to choose")
	}
	here := thisMachine(lib, o.Threads, t)
	forms, err := here.load()
	if err != nil {
		return "", 0, fmt.Errorf("tune: %w", err)
	}
	met := newCases()
	met.know(forms)
	for _, m := range models {
		if _, err := CPU(m, Target{Block: t.Block, met: met}); err != nil {
			return "", 0, fmt.Errorf("tune: %w", err)
		}
	}
	total := len(met.open)
	for i := range total {
		progress(i, total)
		key, g, _ := met.next()
		best, err := g.fastest(ctx, lib, o, t, key)
		if err != nil {
			return "", 0, fmt.Errorf("tune: convolution %s: %w", key, err)
		}
		forms[key] = best
	}
	progress(total, total)
	file, err = here.save(forms)
	return file, len(forms), err
}

// gradientCase is a weight's gradient on its own.
type gradientCase struct {
	sizes []int64
	win   window
	h, w  int64 // of x
}

// cases are geometries that have been met while models were lowered, by key. It is safe for concurrent use.
type cases struct {
	mu   sync.Mutex
	met  map[string]bool
	open []string // in the order in which they were met
	by   map[string]gradientCase
	more chan struct{} // holds one token when there may be open ones
}

func newCases() *cases {
	return &cases{met: map[string]bool{}, by: map[string]gradientCase{}, more: make(chan struct{}, 1)}
}

// know leaves out geometries whose forms are known.
func (c *cases) know(forms Forms) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range forms {
		c.met[key] = true
	}
}

func (c *cases) meet(key string, g gradientCase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.met[key] {
		return
	}
	c.met[key], c.by[key] = true, g
	c.open = append(c.open, key)
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// next takes out the case that was met first.
func (c *cases) next() (key string, g gradientCase, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) == 0 {
		return "", g, false
	}
	key, c.open = c.open[0], c.open[1:]
	return key, c.by[key], true
}

// Turn waits until the device is free for work that nobody waits for, and returns the function that gives it back.
type Turn func(context.Context) (leave func(), err error)

// Measure does by itself what [Tune] does when asked: until ctx is done it measures the gradients of the models that the compiler
// lowers, whose fastest forms are not known on this machine, and keeps them for compilers made later, so that what this one compiles
// stays the same. Each geometry is measured once, in a turn of its own of at most about a second. It returns ctx's error, or nil where
// there is nothing to choose.
func (c *Compiler) Measure(ctx context.Context, turn Turn) error {
	d, err := c.device()
	if err != nil {
		return fmt.Errorf("measure forms: %w", err)
	}
	t := c.probe()
	if d.Kind != ort.CPU || t.Block == 0 {
		return nil
	}
	here := thisMachine(c.lib, c.options.Threads, t)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.met.more:
		}
		for key, g, ok := c.met.next(); ok; key, g, ok = c.met.next() {
			if err := c.measure(ctx, turn, here, key, g); err != nil {
				return fmt.Errorf("measure forms: convolution %s: %w", key, err)
			}
		}
	}
}

func (c *Compiler) measure(ctx context.Context, turn Turn, here machine, key string, g gradientCase) error {
	leave, err := turn(ctx)
	if err != nil {
		return err
	}
	defer leave()
	best, err := g.fastest(ctx, c.lib, c.options, c.probe(), key)
	if err != nil {
		return err
	}
	return here.add(key, best)
}

// model is the gradient alone, from x and dy.
func (g gradientCase) model() (*onnx.Model, map[string]*tensor.Tensor, error) {
	o := g.sizes[0]
	out := func(n int64, i int) int64 {
		return (n+g.win.pads[i]+g.win.pads[i+2]-g.win.extent(i))/g.win.stride[i] + 1
	}
	oh, ow := out(g.h, 0), out(g.w, 1)
	f32 := func(name string, sizes ...int64) onnx.Value {
		return onnx.Value{Name: name, DType: tensor.Float32, Shape: onnx.Fixed(sizes...)}
	}
	graph := &onnx.Graph{Name: "gradient", Inputs: []onnx.Value{f32("x", 1, g.sizes[1], g.h, g.w), f32("w", g.sizes...), f32("dy", 1, o, oh, ow)}, Outputs: []onnx.Value{f32("dw", g.sizes...)}}
	b := onnx.NewBuilder(graph, "g/")
	y := b.Op("Conv", []string{"x", "w"}, onnx.WithInts("kernel_shape", g.win.kernel...), onnx.WithInts("strides", g.win.stride...),
		onnx.WithInts("dilations", g.win.dilation...), onnx.WithInts("pads", g.win.pads...))
	grads, err := autodiff.Gradients(b, map[string]string{y: "dy"}, []string{"w"})
	if err != nil {
		return nil, nil, err
	}
	b.Alias(grads["w"], "dw")
	in := map[string]*tensor.Tensor{}
	for _, v := range graph.Inputs {
		t := tensor.Zeros[float32](int(v.Shape[0].Size), int(v.Shape[1].Size), int(v.Shape[2].Size), int(v.Shape[3].Size))
		for i := range t.Float32s() {
			t.Float32s()[i] = float32(i%17-8) / 8
		}
		in[v.Name] = t
	}
	return &onnx.Model{IRVersion: 9, Opsets: map[string]int64{"": onnx.Opset}, Graph: graph}, in, nil
}

// What bounds the measurement of one geometry, and how much faster than the package's own choice another form must be to take its place:
// machines are seldom quiet, and forms that are as good as each other should not change from one machine to the next.
const (
	rounds   = 5
	patience = 800 * time.Millisecond
	gain     = 0.95
)

// candidate is a form on trial.
type candidate struct {
	form Form
	s    *ort.Session
	took time.Duration // the shortest run
}

// fastest tries the forms in turn, several times each, and returns the one with the shortest run.
func (g gradientCase) fastest(ctx context.Context, lib *ort.Library, o ort.Options, t Target, key string) (best Form, err error) {
	m, in, err := g.model()
	if err != nil {
		return best, err
	}
	var all []candidate
	defer func() {
		for _, c := range all {
			err = errors.Join(err, c.s.Close())
		}
	}()
	for _, form := range g.forms(t) {
		l, err := CPU(m, Target{Block: t.Block, Forms: Forms{key: form}})
		if err != nil {
			return best, err
		}
		s, err := lib.Compile(l, o)
		if err != nil {
			return best, err
		}
		all = append(all, candidate{form, s, time.Hour})
	}
	start := time.Now()
	for round := 0; round < rounds && (round < 2 || time.Since(start) < patience); round++ {
		for i := range all {
			begun := time.Now()
			if _, err := all[i].s.Run(ctx, in, nil); err != nil {
				return best, err
			}
			if round > 0 { // the first one warms up
				all[i].took = min(all[i].took, time.Since(begun))
			}
		}
	}
	first := slices.MinFunc(all, func(a, b candidate) int { return int(a.took - b.took) })
	if float64(first.took) > gain*float64(all[0].took) {
		first = all[0]
	}
	return first.form, nil
}

// forms are those that a geometry may be computed in, the package's own choice first.
func (g gradientCase) forms(t Target) []Form {
	own, byX, byDY := g.choice(t)
	list := []Form{own}
	for _, filter := range []string{filterDY, filterX} {
		for _, band := range bands {
			if f := (Form{filter, band}); f != own && (filter == filterDY && byDY || filter == filterX && byX) {
				list = append(list, f)
			}
		}
	}
	return list
}

// choice is the form that the package takes by itself, and which operands can be the filter.
func (g gradientCase) choice(t Target) (own Form, byX, byDY bool) {
	o, c := g.sizes[0], g.sizes[1]
	byDY = o%t.Block == 0
	byX = c%t.Block == 0 && g.win.mirrors() && slices.Equal(g.win.stride, []int64{1, 1})
	if byX && (!byDY || c > o) {
		return Form{filterX, bandBytes}, byX, byDY
	}
	return Form{filterDY, bandBytes}, byX, byDY
}
