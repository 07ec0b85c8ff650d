package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"scrawl/apps"
	"scrawl/apps/interact"
	"scrawl/engine/adapt"
	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
	"scrawl/engine/tensor"
)

func newRuntimePlacementCommand() *cobra.Command {
	var library, device, app string
	cmd := &cobra.Command{
		Use:   "placement",
		Short: "Show what each operator of an interaction runs on, and how long it takes",
		Long: `Placement runs one interaction of the published method (augmented copies, two steps,
the answer) on an empty slice, for every network of an app, and lists the operators
by the device they really ran on. On CUDA it fails when work fell back to the CPU;
the arithmetic of sizes stays there on purpose.`,
		Example: "  scrawl runtime placement --device cuda",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			lib, err := openLibrary(cmd.Context(), library)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, lib.Close()) }()
			dir, err := os.MkdirTemp("", "scrawl-placement")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			a, err := apps.Open(app)
			if err != nil {
				return err
			}
			var problems error
			for i, m := range a.Models {
				if m.File == "" {
					continue // shares another model's network
				}
				nodes, on, err := placement(cmd, lib, ort.Options{Device: device, Profile: filepath.Join(dir, fmt.Sprint("model", i))}, a, m)
				if err != nil {
					return fmt.Errorf("model %q: %w", m.Name, err)
				}
				if err := listPlacement(cmd.OutOrStdout(), m.Name, nodes); err != nil {
					return err
				}
				if on == ort.CUDA {
					problems = errors.Join(problems, ort.CheckPlacement(nodes))
				}
			}
			return problems
		},
	}
	cmd.Flags().StringVar(&library, "ort-lib", "", "use this library `file` and look nowhere else")
	cmd.Flags().StringVar(&device, "device", "cpu", "cpu, cuda, cuda:N or auto")
	cmd.Flags().StringVarP(&app, "app", "a", "scribbles", "a built-in app by name, or a folder with an app.yaml")
	return cmd
}

// placement runs an interaction with a network and reads the traces of all its sessions.
func placement(cmd *cobra.Command, lib *ort.Library, o ort.Options, a *apps.App, m apps.Model) ([]ort.NodeRun, ort.DeviceKind, error) {
	compiler := lower.NewCompiler(lib, o)
	var open []*ort.Session
	closeAll := func() (err error) {
		for _, s := range open {
			err = errors.Join(err, s.Close())
		}
		return err
	}
	loaded, err := a.Load(m, func(model *onnx.Model) (adapt.Session, error) {
		s, err := compiler.Compile(model)
		if err == nil {
			open = append(open, s)
		}
		return s, err
	})
	if err == nil {
		err = interactOnce(cmd, loaded.Model)
	}
	if err = errors.Join(err, closeAll()); err != nil {
		return nil, 0, err
	}
	files, err := filepath.Glob(o.Profile + "*.json")
	if err != nil {
		return nil, 0, err
	}
	var all []ort.NodeRun
	for _, f := range files {
		nodes, err := readTraceFile(f)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, nodes...)
	}
	return all, open[0].Device().Kind, nil
}

func readTraceFile(name string) (nodes []ort.NodeRun, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return ort.ReadTrace(f)
}

func interactOnce(cmd *cobra.Command, m *interact.Model) error {
	net, g := m.Engine.Network(), m.Input.Grid
	size := []int{1, net.Channels}
	for range net.Size {
		size = append(size, g)
	}
	like := func(channels int, v float32) *tensor.Tensor {
		shape := slices.Clone(size)
		shape[1] = channels
		t := tensor.Zeros[float32](shape...)
		for i := range t.Float32s() {
			t.Float32s()[i] = v
		}
		return t
	}
	c := adapt.Thesis()
	c.Steps, c.FixedCopies = 2, adapt.MicroBatch
	s := adapt.Slice{X: like(net.Channels, 0.5), Scribble: like(net.Classes, 1/float32(net.Classes)), Marked: like(1, 1)}
	_, _, _, err := m.Engine.Interact(cmd.Context(), c, m.Engine.NewSets(1), s, 1)
	return err
}

// listPlacement adds up the nodes by operator and provider.
func listPlacement(w io.Writer, model string, nodes []ort.NodeRun) error {
	type place struct{ provider, op string }
	type sum struct {
		runs int
		took time.Duration
	}
	sums := map[place]sum{}
	for _, n := range nodes {
		at := place{n.Provider, n.Op}
		sums[at] = sum{sums[at].runs + n.Runs, sums[at].took + n.Took}
	}
	order := slices.SortedFunc(maps.Keys(sums), func(a, b place) int { return int(sums[b].took - sums[a].took) })
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintf(t, "%s\non\toperator\truns\tms\n", model) // Flush tells
	for _, p := range order {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%d\t%.2f\n", p.provider, p.op, sums[p].runs, sums[p].took.Seconds()*1e3)
	}
	return t.Flush()
}
