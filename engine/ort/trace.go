package ort

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// NodeRun is what a trace says of all runs of one node: see Options.Profile.
type NodeRun struct {
	Node, Op string
	// Provider is "CPU" or "CUDA".
	Provider string
	Runs     int
	Took     time.Duration
	// Elements is how many elements the node's largest float output had, 0 when it has none.
	Elements int
}

// ErrNothingRan says that a trace holds no node's run: the session was not run, or not closed, or the runtime computed all when it compiled
// the model.
var ErrNothingRan = errors.New("it holds no node's run; was the session run and closed?")

// ReadTrace reads the JSON trace that a session with Options.Profile wrote when it was closed. Loops are left out: their
// time is that of the nodes inside. The answer is sorted by time, longest first. The error wraps [ErrNothingRan] where there is nothing to tell.
func ReadTrace(r io.Reader) ([]NodeRun, error) {
	var events []struct {
		Category string  `json:"cat"`
		Name     string  `json:"name"`
		Micros   float64 `json:"dur"`
		Args     struct {
			Op       string                 `json:"op_name"`
			Provider string                 `json:"provider"`
			Outputs  []map[string][]float64 `json:"output_type_shape"`
		} `json:"args"`
	}
	if err := json.NewDecoder(r).Decode(&events); err != nil {
		return nil, fmt.Errorf("read trace: %w", err)
	}
	nodes := map[string]*NodeRun{}
	for _, e := range events {
		name, isRun := strings.CutSuffix(e.Name, "_kernel_time")
		if e.Category != "Node" || !isRun || e.Args.Op == "Loop" || e.Args.Op == "If" {
			continue
		}
		n := nodes[name]
		if n == nil {
			n = &NodeRun{Node: name, Op: e.Args.Op, Provider: strings.TrimSuffix(e.Args.Provider, "ExecutionProvider")}
			nodes[name] = n
		}
		n.Runs++
		n.Took += time.Duration(e.Micros * float64(time.Microsecond))
		for _, out := range e.Args.Outputs {
			for kind, shape := range out {
				if kind == "float" || kind == "float16" {
					n.Elements = max(n.Elements, elements(shape))
				}
			}
		}
	}
	if len(nodes) == 0 {
		return nil, fmt.Errorf("read trace: %w", ErrNothingRan)
	}
	all := make([]NodeRun, 0, len(nodes))
	for _, n := range nodes {
		all = append(all, *n)
	}
	slices.SortFunc(all, func(a, b NodeRun) int {
		if a.Took != b.Took {
			return int(b.Took - a.Took)
		}
		return strings.Compare(a.Node, b.Node)
	})
	return all, nil
}

func elements(shape []float64) int {
	n := 1
	for _, d := range shape {
		n *= int(d)
	}
	return n
}

// scalarWork is the largest float result of a node that may stay on the CPU: learning rates, losses, sizes of images. ONNX Runtime
// puts the arithmetic of shapes there on purpose.
const scalarWork = 4096

// FallbackError says that nodes which ought to run on a GPU ran on the CPU, each time with copies to and fro.
type FallbackError struct{ Nodes []NodeRun }

func (e *FallbackError) Error() string {
	n := e.Nodes[0]
	return fmt.Sprintf("%d nodes fell back from CUDA to the CPU, among them %q (operator %s, %d elements): this build of onnx runtime has no CUDA kernel for them", len(e.Nodes), n.Node, n.Op, n.Elements)
}

// CheckPlacement returns a [FallbackError] with the nodes that did real work on the CPU: those whose float results have more than a few
// thousand elements. It is for traces of sessions on a GPU.
func CheckPlacement(nodes []NodeRun) error {
	var fallen []NodeRun
	for _, n := range nodes {
		if n.Provider == "CPU" && n.Elements > scalarWork {
			fallen = append(fallen, n)
		}
	}
	if len(fallen) == 0 {
		return nil
	}
	return &FallbackError{Nodes: fallen}
}
