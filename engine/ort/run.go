package ort

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"unsafe"

	binding "github.com/yalue/onnxruntime_go"

	"scrawl/engine/onnx"
	"scrawl/engine/tensor"
)

// Run computes the session's outputs from the tensors in, which must hold every input and nothing else. Outputs for which
// out holds a tensor are written into that tensor's memory, without a copy; its shape must be the one the model computes,
// and its memory must not be that of an input. The others are allocated; out may be nil. The result holds every output by
// name, those of out included. Neither map is changed.
//
// When ctx is done, the run is cut short within milliseconds, and the error wraps ctx.Err(); the content of the tensors in
// out is then undefined. Run may be called concurrently, as long as no tensor of one call's out is in another call.
func (s *Session) Run(ctx context.Context, in, out map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	if err := s.checkCall(in, out); err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	if err := s.begin(); err != nil {
		return nil, fmt.Errorf("run: %w", err)
	}
	defer s.end()
	return s.runRanks(ctx, in, out)
}

// runRanks runs, finding out which outputs have rank 0. The binding cannot allocate such outputs, and where the model does
// not declare the rank, only the run tells. A graph has no memory, so computing it again is the same computation; the
// session keeps what was found, so that the next run gets it right at once.
func (s *Session) runRanks(ctx context.Context, in, out map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	scalar, guessed := s.ranks()
	for {
		results, err := s.runOnce(ctx, in, out, scalar)
		var rank0 *rankZeroError
		switch {
		case err == nil:
			s.learnRanks(scalar)
			return results, nil
		case errors.As(err, &rank0):
			scalar[rank0.output] = true
		case guessed && ctx.Err() == nil:
			// An output that had rank 0 once may have another this time.
			guessed = false
			scalar = declaredScalars(s.outputs)
		default:
			return nil, fmt.Errorf("run: %w", err)
		}
	}
}

// rankZeroError names the output that turned out to have rank 0.
type rankZeroError struct {
	output int
	err    error
}

func (e *rankZeroError) Error() string { return e.err.Error() }
func (e *rankZeroError) Unwrap() error { return e.err }

// ranks returns, per output, whether it is taken to have rank 0, and whether that goes beyond what the model declares.
func (s *Session) ranks() (scalar []bool, guessed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.scalar), !slices.Equal(s.scalar, declaredScalars(s.outputs))
}

func (s *Session) learnRanks(scalar []bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	copy(s.scalar, scalar)
}

func declaredScalars(outputs []onnx.Value) []bool {
	scalar := make([]bool, len(outputs))
	for i, v := range outputs {
		scalar[i] = v.Shape != nil && len(v.Shape) == 0
	}
	return scalar
}

// runOnce makes the C tensors, runs, and frees them.
func (s *Session) runOnce(ctx context.Context, in, out map[string]*tensor.Tensor, scalar []bool) (map[string]*tensor.Tensor, error) {
	call := &call{results: maps.Clone(out)}
	if call.results == nil {
		call.results = make(map[string]*tensor.Tensor, len(s.outputs))
	}
	// The pins hold the memory, the call holds the C tensors, until ONNX Runtime is done with both: the binding passes
	// bare pointers.
	defer runtime.KeepAlive(call)
	defer call.free()
	for _, v := range s.inputs {
		c, err := lend(in[v.Name], &call.pins)
		if err != nil {
			return nil, fmt.Errorf("input %q: %w", v.Name, err)
		}
		call.inputs = append(call.inputs, c.c)
	}
	for i, v := range s.outputs {
		if err := call.addOutput(v, scalar[i]); err != nil {
			return nil, fmt.Errorf("output %q: %w", v.Name, err)
		}
	}
	if err := s.execute(ctx, call); err != nil {
		return nil, err
	}
	return call.results, call.collect(s.outputs)
}

// call is the C side of one run.
type call struct {
	pins    runtime.Pinner
	inputs  []binding.Value
	outputs []binding.Value // nil before the run: the binding allocates it
	lent    []bool          // per output: over memory of a tensor in results
	reads   []func()
	results map[string]*tensor.Tensor
}

func (c *call) addOutput(v onnx.Value, scalar bool) error {
	t := c.results[v.Name]
	if t == nil && scalar {
		t = newScalar(v.DType)
		c.results[v.Name] = t
	}
	if t == nil {
		c.outputs, c.lent = append(c.outputs, nil), append(c.lent, false)
		return nil
	}
	lent, err := lend(t, &c.pins)
	if err != nil {
		return err
	}
	c.outputs, c.lent = append(c.outputs, lent.c), append(c.lent, true)
	if lent.read != nil {
		c.reads = append(c.reads, lent.read)
	}
	return nil
}

// collect brings the results into tensors.
func (c *call) collect(outputs []onnx.Value) error {
	for _, read := range c.reads {
		read()
	}
	for i, v := range outputs {
		if c.lent[i] {
			continue
		}
		t, err := take(c.outputs[i])
		if err != nil {
			return fmt.Errorf("output %q: %w", v.Name, err)
		}
		c.results[v.Name] = t
	}
	return nil
}

func (c *call) free() {
	for _, v := range slices.Concat(c.inputs, c.outputs) {
		if !empty(v) {
			_ = v.Destroy() // never fails for tensors
		}
	}
	c.pins.Unpin()
}

// empty reports whether v holds nothing. After an error the binding leaves nil pointers of a concrete type behind.
func empty(v binding.Value) bool {
	switch t := v.(type) {
	case nil:
		return true
	case *binding.Tensor[float32]:
		return t == nil
	case *binding.Tensor[float64]:
		return t == nil
	case *binding.Tensor[int64]:
		return t == nil
	case *binding.Tensor[int32]:
		return t == nil
	case *binding.Tensor[uint8]:
		return t == nil
	case *binding.Tensor[int8]:
		return t == nil
	case *binding.Tensor[bool]:
		return t == nil
	case *binding.CustomDataTensor:
		return t == nil
	}
	return false
}

// execute runs the graph and ends it early when ctx is done.
func (s *Session) execute(ctx context.Context, c *call) error {
	stop, opts, err := watch(ctx)
	if err != nil {
		return err
	}
	err = s.c.RunWithOptions(c.inputs, c.outputs, opts)
	stop()
	if ctx.Err() != nil {
		// ONNX Runtime's errors are prose, so our own context decides; and a result that nobody waits for is none.
		return ctx.Err()
	}
	if errors.Is(err, binding.ZeroShapeLengthError) {
		for i, v := range c.outputs {
			if !c.lent[i] && v != nil && empty(v) {
				return &rankZeroError{output: i, err: err}
			}
		}
	}
	return err
}

// watch returns run options that are terminated when ctx is done, and a function that ends the watching and frees them.
func watch(ctx context.Context) (stop func(), opts *binding.RunOptions, err error) {
	if ctx.Done() == nil {
		return func() {}, nil, nil
	}
	opts, err = binding.NewRunOptions()
	if err != nil {
		return nil, nil, err
	}
	terminated := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(terminated)
		_ = opts.Terminate() // cannot fail on live options
	})
	return func() {
		if !cancel() {
			<-terminated // it is using opts
		}
		_ = opts.Destroy()
	}, opts, nil
}

// checkCall compares the tensors of a call with what the model declares, before any C code sees them.
func (s *Session) checkCall(in, out map[string]*tensor.Tensor) error {
	if err := checkNames("input", s.inputs, in); err != nil {
		return err
	}
	if err := checkNames("output", s.outputs, out); err != nil {
		return err
	}
	owner := map[unsafe.Pointer]string{}
	for _, v := range s.inputs {
		t := in[v.Name]
		if t == nil {
			return fmt.Errorf("input %q is missing: it must be %s", v.Name, describe(v))
		}
		if !fits(v, t) {
			return fmt.Errorf("input %q must be %s, got %s %v", v.Name, describe(v), t.DType(), t.Shape())
		}
		if p := address(t); p != nil {
			owner[p] = v.Name
		}
	}
	for _, v := range s.outputs {
		t := out[v.Name]
		if t == nil {
			continue
		}
		if !fits(v, t) {
			return fmt.Errorf("output %q is %s, the tensor given for it is %s %v", v.Name, describe(v), t.DType(), t.Shape())
		}
		p := address(t)
		if p == nil {
			continue
		}
		// ONNX Runtime does not know of such an alias: a node may read the input after it was written over.
		if other, ok := owner[p]; ok {
			return fmt.Errorf("output %q must not use the memory of %q: give it a tensor of its own", v.Name, other)
		}
		owner[p] = v.Name
	}
	return nil
}

// checkNames refuses tensors that nothing in the session is named after.
func checkNames(what string, declared []onnx.Value, given map[string]*tensor.Tensor) error {
	known := 0
	for _, v := range declared {
		if _, ok := given[v.Name]; ok {
			known++
		}
	}
	if known == len(given) {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.ContainsFunc(declared, func(v onnx.Value) bool { return v.Name == name }) {
			return fmt.Errorf("the session has no %s %q; it has %s", what, name, namesOf(declared))
		}
	}
	return nil
}

// fits reports whether t has the declared element type, rank and fixed sizes.
func fits(v onnx.Value, t *tensor.Tensor) bool {
	if t.DType() != v.DType {
		return false
	}
	if v.Shape == nil {
		return true
	}
	if t.Rank() != len(v.Shape) {
		return false
	}
	for i, d := range v.Shape {
		if d.Known() && d.Size != int64(t.Shape()[i]) {
			return false
		}
	}
	return true
}

// describe writes "float32 [N,3,H,W]".
func describe(v onnx.Value) string {
	if v.Shape == nil {
		return v.DType.String() + " of any shape"
	}
	dims := make([]string, len(v.Shape))
	for i, d := range v.Shape {
		dims[i] = d.String()
	}
	return fmt.Sprintf("%s [%s]", v.DType, strings.Join(dims, ","))
}

// address returns where t's elements lie, nil when it has none.
func address(t *tensor.Tensor) unsafe.Pointer {
	switch t.DType() {
	case tensor.Float32:
		return addressAs[float32](t)
	case tensor.Float64:
		return addressAs[float64](t)
	case tensor.Int64:
		return addressAs[int64](t)
	case tensor.Int32:
		return addressAs[int32](t)
	case tensor.Uint8:
		return addressAs[uint8](t)
	case tensor.Int8:
		return addressAs[int8](t)
	case tensor.Bool:
		return addressAs[bool](t)
	}
	return nil
}

func addressAs[T tensor.Element](t *tensor.Tensor) unsafe.Pointer {
	data := tensor.Data[T](t)
	if len(data) == 0 {
		return nil
	}
	return unsafe.Pointer(&data[0])
}
