package ort

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"

	binding "github.com/yalue/onnxruntime_go"

	"scrawl/engine/onnx"
)

// Options say how a session runs. The zero value is the CPU with as many threads as there are cores.
type Options struct {
	// Device is "cpu" (also ""), "cuda", "cuda:1", or "auto": CUDA where it works, else the CPU.
	Device string
	// Threads is the number of threads one operator may use on the CPU, 0 for one per available core. Every session has
	// a pool of its own.
	Threads int
	// NoSpinning lets idle threads sleep instead of spinning: slower by about a sixth on small networks, but kinder where the
	// cores are shared with other processes.
	NoSpinning bool
	// Profile, when not empty, is the prefix of a JSON trace that ONNX Runtime writes when the session is closed.
	Profile string
	// Config holds further session options by ONNX Runtime's own keys, such as "session.set_denormal_as_zero": "1"
	// (onnxruntime_session_options_config_keys.h).
	Config map[string]string
	// CUDA holds further options of the CUDA provider by its own keys, such as "gpu_mem_limit" (bytes).
	CUDA map[string]string
}

// Session is a compiled model. It is immutable and safe for concurrent use. Sessions cost memory that ONNX Runtime does not
// give back entirely, so keep them for as long as they may be needed again.
type Session struct {
	library *Library
	c       *binding.DynamicAdvancedSession
	device  Device
	note    string
	inputs  []onnx.Value
	outputs []onnx.Value

	mu     sync.Mutex
	closed bool
	scalar []bool // per output: taken to have rank 0
	runs   sync.WaitGroup
	done   sync.Once
}

// NewSession compiles a model given as the bytes of an .onnx file, with all its inputs and outputs. It fails when the model
// has inputs or outputs that are no tensors of bool, int8, int32, int64, uint8, float32 or float64.
func (l *Library) NewSession(model []byte, o Options) (*Session, error) {
	return l.newSession(model, nil, nil, o)
}

// Compile is [Library.NewSession] for a model in memory.
func (l *Library) Compile(m *onnx.Model, o Options) (*Session, error) {
	data, err := m.Marshal()
	if err != nil {
		return nil, fmt.Errorf("new session: %w", err)
	}
	return l.NewSession(data, o)
}

// NewSessionWithIO is NewSession for the named inputs and outputs only, in that order. The inputs must suffice to compute
// the outputs; outputs left out are not computed.
func (l *Library) NewSessionWithIO(model []byte, inputs, outputs []string, o Options) (*Session, error) {
	if len(inputs) == 0 || len(outputs) == 0 {
		return nil, errors.New("new session: at least one input and one output must be named")
	}
	return l.newSession(model, inputs, outputs, o)
}

func (l *Library) newSession(model []byte, inputs, outputs []string, o Options) (*Session, error) {
	sig, err := readSignature(model)
	if err != nil {
		return nil, fmt.Errorf("new session: %w", err)
	}
	s := &Session{library: l}
	if s.inputs, err = pick("input", sig.inputs, inputs); err != nil {
		return nil, fmt.Errorf("new session: %w", err)
	}
	if s.outputs, err = pick("output", sig.outputs, outputs); err != nil {
		return nil, fmt.Errorf("new session: %w", err)
	}
	s.scalar = declaredScalars(s.outputs)
	if err := l.adopt(); err != nil {
		return nil, fmt.Errorf("new session: %w", err)
	}
	if err := s.compile(model, o); err != nil {
		l.release()
		return nil, fmt.Errorf("new session: %w", err)
	}
	return s, nil
}

// pick returns the named values, or all of them, and checks that each can be passed.
func pick(what string, all []onnx.Value, names []string) ([]onnx.Value, error) {
	picked := all
	if names != nil {
		picked = nil
	}
	for i, name := range names {
		at := slices.IndexFunc(all, func(v onnx.Value) bool { return v.Name == name })
		if at < 0 {
			return nil, fmt.Errorf("the model has no %s %q; it has %s", what, name, namesOf(all))
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("%s %q is named twice", what, name)
		}
		picked = append(picked, all[at])
	}
	if len(picked) == 0 {
		return nil, fmt.Errorf("the model has no %ss; at least one is needed", what)
	}
	for _, v := range picked {
		if !supported(v.DType) {
			return nil, fmt.Errorf("%s %q has element type %s; only tensors of bool, int8, int32, int64, uint8, float32 and float64 can be passed: put a Cast to float32 at the model's border", what, v.Name, v.DType)
		}
	}
	return slices.Clone(picked), nil
}

func namesOf(vs []onnx.Value) string {
	names := make([]string, len(vs))
	for i, v := range vs {
		names[i] = strconv.Quote(v.Name)
	}
	return fmt.Sprint(names)
}

// compile makes the C session on the wanted device, or, for "auto", on the CPU when CUDA does not work.
func (s *Session) compile(model []byte, o Options) error {
	want, err := ParseDevice(o.Device)
	if err != nil {
		return err
	}
	if want.Kind == Auto {
		cuda := Device{Kind: CUDA, Index: want.Index}
		err := s.compileOn(cuda, model, o)
		if err == nil {
			return nil
		}
		s.note = fmt.Sprintf("running on the CPU: %v", err)
		want = Device{Kind: CPU}
	}
	return s.compileOn(want, model, o)
}

func (s *Session) compileOn(d Device, model []byte, o Options) error {
	opts, err := binding.NewSessionOptions()
	if err != nil {
		return err
	}
	defer func() { _ = opts.Destroy() }()
	if err := set(opts, o); err != nil {
		return err
	}
	if d.Kind == CUDA {
		if err := appendCUDA(opts, d, o.CUDA); err != nil {
			return err
		}
	}
	c, err := binding.NewDynamicAdvancedSessionWithONNXData(model, valueNames(s.inputs), valueNames(s.outputs), opts)
	if err != nil {
		return fmt.Errorf("on %s: %w", d, err)
	}
	s.c, s.device = c, d
	return nil
}

func set(opts *binding.SessionOptions, o Options) error {
	threads := o.Threads
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0) // knows of CPU limits of a container, which ONNX Runtime does not
	}
	steps := []error{
		opts.SetIntraOpNumThreads(threads),
		opts.SetInterOpNumThreads(1),
		// Planned ahead, the second run of a size, or the second step of a Loop, takes one block for all its values beside the
		// pieces that the first one took, which stay in the arena: twice the memory, and no time won.
		opts.SetMemPattern(false),
		opts.SetLogSeverityLevel(binding.LoggingLevelFatal),
		opts.AddSessionConfigEntry("session.use_env_allocators", "1"), // see shareArena
	}
	if o.NoSpinning {
		steps = append(steps, opts.AddSessionConfigEntry("session.intra_op.allow_spinning", "0"))
	}
	if o.Profile != "" {
		steps = append(steps, opts.EnableProfiling(o.Profile))
	}
	for k, v := range o.Config {
		steps = append(steps, opts.AddSessionConfigEntry(k, v))
	}
	if err := errors.Join(steps...); err != nil {
		return fmt.Errorf("session options: %w", err)
	}
	return nil
}

func valueNames(vs []onnx.Value) []string {
	names := make([]string, len(vs))
	for i, v := range vs {
		names[i] = v.Name
	}
	return names
}

// Inputs returns the names, element types and declared shapes of the session's inputs. The caller must not change them.
func (s *Session) Inputs() []onnx.Value { return s.inputs }

// Outputs is Inputs for the outputs.
func (s *Session) Outputs() []onnx.Value { return s.outputs }

// Device returns where the session runs.
func (s *Session) Device() Device { return s.device }

// Provider returns the execution provider in use, "CPU" or "CUDA".
func (s *Session) Provider() string { return s.device.provider() }

// Note says why a session asked for on "auto" runs on the CPU; it is empty otherwise.
func (s *Session) Note() string { return s.note }

// begin enters a run, end leaves it; Close waits for those in between.
func (s *Session) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("session: %w", ErrClosed)
	}
	s.runs.Add(1)
	return nil
}

func (s *Session) end() { s.runs.Done() }

// Close waits for the runs under way and frees the session. Runs that start later fail with [ErrClosed]. It may be called
// more than once.
func (s *Session) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.runs.Wait()
	var err error
	s.done.Do(func() {
		err = s.c.Destroy()
		s.library.release()
	})
	return err
}
