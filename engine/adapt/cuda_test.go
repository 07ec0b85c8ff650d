package adapt_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"scrawl/engine/adapt"
	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/ort/orttest"
)

// TestOnCUDA holds an interaction on a GPU against the CPU's, and that no work of it falls back to the CPU.
func TestOnCUDA(t *testing.T) {
	lib := orttest.CUDA(t)
	n := blockedUNet(t, adapt.Trainable{})
	compile, traces := traced(t, lib, "cuda")
	gpu := engine(t, n, compile)
	s := adapt.Slice{X: noise(1, 1, 4, 64, 64), Scribble: filled(0.5, 1, 2, 64, 64), Marked: filled(1, 1, 1, 64, 64)}
	got, _, _, err := gpu.Interact(t.Context(), quick(), gpu.NewSets(1), s, 1)
	if err != nil {
		t.Fatal(err)
	}
	cpu := engine(t, n, onRuntime(t))
	want, _, _, err := cpu.Interact(t.Context(), quick(), cpu.NewSets(1), s, 1)
	if err != nil {
		t.Fatal(err)
	}
	if d := distance(got.Float32s(), want.Float32s()); d > 1e-3 {
		t.Errorf("answers of GPU and CPU differ by a share of %.2g", d)
	}
	for _, nodes := range traces() {
		if err := ort.CheckPlacement(nodes); err != nil {
			t.Error(err)
		}
	}
}

// traced compiles for a device with a trace of every session. traces closes the sessions and returns the nodes of those that were run.
func traced(t *testing.T, lib *ort.Library, device string) (compile adapt.Compiler, traces func() [][]ort.NodeRun) {
	t.Helper()
	prefix := filepath.Join(t.TempDir(), "trace")
	compiler := lower.NewCompiler(lib, ort.Options{Device: device, Profile: prefix})
	var open []*ort.Session
	compile = closing(t, func(m *onnx.Model) (*ort.Session, error) {
		s, err := compiler.Compile(m)
		if err == nil {
			open = append(open, s)
		}
		return s, err
	})
	return compile, func() (all [][]ort.NodeRun) {
		t.Helper()
		for _, s := range open {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		files, _ := filepath.Glob(prefix + "*.json")
		for _, name := range files {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			nodes, err := ort.ReadTrace(f)
			_ = f.Close() // only read
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, nodes)
		}
		return all
	}
}

// TestTrace prints where the time of a step, of augmented copies and of an answer goes, by operator and node: of the network in the file that
// SCRAWL_TRACE names, on the device of SCRAWL_DEVICE, at the side SCRAWL_TRACE_SIDE (256). On a GPU, CUDA_LAUNCH_BLOCKING=1 gives each node its own time.
func TestTrace(t *testing.T) {
	path := os.Getenv("SCRAWL_TRACE")
	if path == "" {
		t.Skip("prints a profile of the network that SCRAWL_TRACE names")
	}
	size, err := strconv.Atoi(os.Getenv("SCRAWL_TRACE_SIDE"))
	if err != nil {
		size = 256
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := onnx.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	n := network(t, m, adapt.Trainable{})
	compile, traces := traced(t, orttest.Library(t), os.Getenv("SCRAWL_DEVICE"))
	e := engine(t, n, compile)
	const runs = 3
	s := adapt.Slice{X: noise(1, 1, n.Channels, size, size), Scribble: filled(0.5, 1, n.Classes, size, size), Marked: filled(1, 1, 1, size, size)}
	c := adapt.Thesis()
	c.FixedCopies, c.LearningRate = 16, 1e-6
	for range runs {
		_, _, report, err := e.Interact(t.Context(), c, e.NewSets(1), s, 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(report.Seconds)
	}
	for i, nodes := range traces() {
		logTrace(t, i, nodes)
	}
}

func logTrace(t *testing.T, session int, nodes []ort.NodeRun) {
	type sum struct {
		nodes, runs int
		took        time.Duration
	}
	by, total := map[string]*sum{}, time.Duration(0)
	for _, n := range nodes {
		key := n.Provider + " " + n.Op
		if by[key] == nil {
			by[key] = &sum{}
		}
		by[key].nodes, by[key].runs, by[key].took = by[key].nodes+1, by[key].runs+n.Runs, by[key].took+n.Took
		total += n.Took
	}
	t.Logf("session %d: %d nodes, %v", session, len(nodes), total)
	for i, key := range slices.SortedFunc(maps.Keys(by), func(a, b string) int { return int(by[b].took - by[a].took) }) {
		if i < 14 {
			t.Logf("  %-28s %5d nodes %6d runs %v", key, by[key].nodes, by[key].runs, by[key].took)
		}
	}
	for i, n := range nodes {
		if i < 12 {
			t.Logf("    %s %s %s: %d runs, %v, %d elements", n.Provider, n.Op, n.Node, n.Runs, n.Took, n.Elements)
		}
	}
}
