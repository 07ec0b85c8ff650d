package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"scrawl/apps"
	"scrawl/apps/atomicfile"
	"scrawl/apps/inspect"
	"scrawl/engine/lower"
	"scrawl/engine/ort"
)

// maxNetwork bounds the size of a network's file in bytes.
const maxNetwork = 1 << 30

func newModelInspectCommand() *cobra.Command {
	var library, device string
	var threads int
	c := &cobra.Command{
		Use:   "inspect FILE.onnx",
		Short: "Show what a network takes, answers and costs, and whether it can be adapted",
		Long: `Inspect reads an ONNX network, runs it once, and takes one adaptation step with it.
It shows inputs and outputs, sizes, operators, weights by parts of the network, and times.`,
		Example: "  scrawl model inspect unet.onnx",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			n, _, err := look(cmd, a[0], library, device, threads)
			if err != nil {
				return err
			}
			return writeNetwork(cmd.OutOrStdout(), a[0], n)
		},
	}
	addRunFlags(c, &library, &device, &threads)
	return c
}

func addRunFlags(c *cobra.Command, library, device *string, threads *int) {
	c.Flags().StringVar(library, "runtime", "", "path of ONNX Runtime's library (default: found by itself)")
	c.Flags().StringVar(device, "device", "cpu", "cpu, cuda, cuda:N or auto")
	c.Flags().IntVar(threads, "threads", 0, "threads an operator may use (0: one per core)")
}

func newModelImportCommand() *cobra.Command {
	var library, device, out string
	var threads int
	var w inspect.Wishes
	c := &cobra.Command{
		Use:   "import FILE.onnx",
		Short: "Make an app of a network of your own, ready to serve",
		Long: `Import looks at an ONNX network, checks that it can be run and adapted, and writes a folder
with the network and an app.yaml, which "scrawl serve --app FOLDER" serves. Channels, classes
and sizes are inferred; what was assumed is said. Edit app.yaml to say otherwise.

Export a network from PyTorch with one float input [N,C,H,W] (or [N,C,D,H,W]) and logits as
its output; no softmax at the end.`,
		Example: "  scrawl model import unet.onnx --labels liver,spleen --out ~/apps/unet\n" +
			"  scrawl model import ritm.onnx --channels image,image,image,previous,positive,negative --out ~/apps/ritm",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			n, data, err := look(cmd, a[0], library, device, threads)
			if err != nil {
				return err
			}
			if !n.Ready() {
				return fmt.Errorf("%s cannot be served as it is: %s", a[0], strings.Join(n.Trouble, "; "))
			}
			if w.Labels == nil && n.Labels == nil && n.Classes > 2 {
				if w.Labels, err = askLabels(cmd.InOrStdin(), cmd.ErrOrStderr(), n.Classes-1); err != nil {
					return err
				}
			}
			if w.Name == "" {
				w.Name = modelName(a[0])
			}
			if out == "" {
				out = w.Name
			}
			if w.Description == "" {
				w.Description = "Imported from " + filepath.Base(a[0])
			}
			return importNetwork(cmd, n, w, data, out)
		},
	}
	addRunFlags(c, &library, &device, &threads)
	c.Flags().StringVarP(&out, "out", "o", "", "folder to write the app to (default: one named after the network)")
	c.Flags().StringVar(&w.Name, "name", "", "name of the model, without spaces (default: the file's)")
	c.Flags().StringVar(&w.Description, "description", "", "what the model segments, for its users")
	c.Flags().StringSliceVar(&w.Labels, "labels", nil, "names of the classes beside the background, in order")
	c.Flags().StringSliceVar(&w.Channels, "channels", nil, "what the input channels show, in order: image, positive, negative, previous, box")
	c.Flags().BoolVar(&w.Plain, "plain", false, "do not standardise three image channels as ImageNet's are")
	c.Flags().StringVar(&w.Part, "adapt", "", "weights that may move: all (the default), decoder or normalisation")
	c.Flags().IntVar(&w.Grid, "grid", 0, "side of the grid that interactive networks see, in pixels (default 256)")
	return c
}

// modelName is a file's name without its ending, with nothing in it that addresses cannot hold.
func modelName(file string) string {
	name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '/' || r == '\\' {
			return '_'
		}
		return r
	}, name)
}

// look inspects a file, with a bar in a terminal.
func look(cmd *cobra.Command, file, library, device string, threads int) (inspect.Network, []byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return inspect.Network{}, nil, err
	}
	defer f.Close()
	data, err := inspect.ReadFile(f, maxNetwork)
	if err != nil {
		return inspect.Network{}, nil, fmt.Errorf("%s: %w", file, err)
	}
	lib, err := openLibrary(cmd.Context(), library)
	if err != nil {
		return inspect.Network{}, nil, err
	}
	defer func() { _ = lib.Close() }() // the process ends
	sessions := &sessions{compiler: lower.NewCompiler(lib, ort.Options{Device: device, Threads: threads, NoSpinning: true})}
	defer sessions.close()
	n, err := inspect.Look(cmd.Context(), data, sessions.compile, inspectProgress(cmd.ErrOrStderr()))
	if err != nil {
		return n, nil, fmt.Errorf("%s: %w", file, err)
	}
	return n, data, nil
}

// inspectProgress draws a bar in a terminal and is silent elsewhere.
func inspectProgress(w io.Writer) func(stage int) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func(int) {}
	}
	bar := progressbar.NewOptions(len(inspect.Stages), progressbar.OptionSetWriter(w), progressbar.OptionClearOnFinish())
	return func(stage int) {
		bar.Describe(inspect.Stages[stage])
		_ = bar.Set(stage)
		if stage == len(inspect.Stages)-1 {
			_ = bar.Clear()
		}
	}
}

// askLabels asks whoever sits at a terminal for the names of classes; elsewhere, or without an answer, there are none.
func askLabels(in io.Reader, w io.Writer, classes int) ([]string, error) {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, nil
	}
	_, _ = fmt.Fprintf(w, "The network has %d classes beside the background. Their names, in order and with commas between (or nothing): ", classes)
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var labels []string
	for name := range strings.SplitSeq(strings.TrimSpace(line), ",") {
		if name = strings.TrimSpace(name); name != "" {
			labels = append(labels, name)
		}
	}
	return labels, nil
}

// importNetwork writes the app's folder and checks that it loads.
func importNetwork(cmd *cobra.Command, n inspect.Network, w inspect.Wishes, data []byte, dir string) error {
	file := w.Name + ".onnx"
	draft, err := inspect.NewDraft(n, w, file)
	if err != nil {
		return err
	}
	description, err := draft.YAML()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "app.yaml")); err == nil {
		return fmt.Errorf("%s holds an app.yaml already: name another folder with --out", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, content := range map[string][]byte{file: data, "app.yaml": description} {
		if err := atomicfile.Write(filepath.Join(dir, name), func(w io.Writer) error { _, err := w.Write(content); return err }); err != nil {
			return err
		}
	}
	if err := loads(cmd.Context(), dir); err != nil {
		return fmt.Errorf("the app was written, but does not load: %w", err)
	}
	out := cmd.OutOrStdout()
	for _, note := range draft.Notes {
		_, _ = fmt.Fprintf(out, "Note: %s.\n", note)
	}
	_, err = fmt.Fprintf(out, "%s is ready: scrawl serve --app %s --studies DIR\n", dir, dir)
	return err
}

func loads(_ context.Context, dir string) error {
	app, err := apps.Open(dir)
	if err != nil {
		return err
	}
	for _, m := range app.Models {
		if m.GraphCut != nil {
			continue
		}
		if _, err := app.Load(m, nil); err != nil { // nothing is compiled before it runs
			return err
		}
	}
	return nil
}

// writeNetwork tells people what is known of a network.
func writeNetwork(w io.Writer, file string, n inspect.Network) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, a ...any) { _, _ = fmt.Fprintf(t, name+"\t"+format+"\n", a...) }
	row("file", "%s, %.1f MB, opset %d, made by %s", file, float64(n.FileBytes)/1e6, n.Opset, orUnknown(n.Producer))
	row("input", "%s: %d channels, %s", n.Input, n.Channels, sizeText(n))
	answer := fmt.Sprintf("%d classes", n.Classes)
	if n.Single {
		answer = "the logit of one object"
	}
	row("output", "%s", answer)
	if n.Labels != nil {
		row("labels", "%s", strings.Join(n.Labels, ", "))
	}
	for _, p := range n.Parts {
		if p.Missing != "" {
			row("weights, "+string(p.Part), "none: %s", p.Missing)
			continue
		}
		// Adapting keeps the source, a student and a teacher, and a gradient.
		row("weights, "+string(p.Part), "%d numbers in %d tensors; %.1f MB while adapting", p.Numbers, p.Tensors, 4*4*float64(p.Numbers)/1e6)
	}
	row("time", "%s for an answer, %s for an interaction of one step, at %s", n.PredictTime.Round(time.Millisecond), n.LearnTime.Round(time.Millisecond), dimensions(n.MeasuredSize))
	var known, unknown []string
	for _, o := range n.Operators {
		if text := fmt.Sprintf("%s×%d", o.Name, o.Count); o.Differ {
			known = append(known, text)
		} else {
			unknown = append(unknown, text)
		}
	}
	row("operators", "%s", strings.Join(known, " "))
	if unknown != nil {
		row("without gradient", "%s: weights in front of these cannot move", strings.Join(unknown, " "))
	}
	for _, trouble := range n.Trouble {
		row("trouble", "%s", trouble)
	}
	verdict := "it can be served and adapted: scrawl model import " + file
	if !n.Ready() {
		verdict = "it cannot be served as it is"
	}
	row("verdict", "%s", verdict)
	return t.Flush()
}

func orUnknown(s string) string {
	if s == "" {
		return "an unknown exporter"
	}
	return s
}

func sizeText(n inspect.Network) string {
	kind := "slices"
	if len(n.Size) == 3 {
		kind = "volumes"
	}
	for _, s := range n.Size {
		if s == 0 {
			return fmt.Sprintf("%s of any size that is a multiple of %d", kind, n.Multiple)
		}
	}
	return fmt.Sprintf("%s of %s only", kind, dimensions(n.Size))
}

func dimensions(size []int) string {
	text := make([]string, len(size))
	for i, s := range size {
		text[i] = fmt.Sprint(s)
	}
	return strings.Join(text, "×")
}
