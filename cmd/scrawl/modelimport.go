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
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
)

// maxNetwork bounds the size of a network's file in bytes.
const maxNetwork = 1 << 30

func newModelInspectCommand() *cobra.Command {
	var library, device string
	var threads int
	var w inspect.Wishes
	c := &cobra.Command{
		Use:   "inspect FILE.onnx [DECODER.onnx]",
		Short: "Show what a network takes, answers and costs, and whether it can be adapted",
		Long: `Inspect reads an ONNX network, runs it once, and takes one adaptation step with it.
It shows inputs and outputs, sizes, operators, weights by parts of the network, and times.
A network of two files, as Segment Anything comes, is looked at as one.`,
		Example: "  scrawl model inspect unet.onnx\n  scrawl model inspect encoder.onnx decoder.onnx",
		Args:    args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			w.Name = modelName(a[0])
			l, err := look(cmd, a, w, library, device, threads)
			if err != nil {
				return err
			}
			return l.write(cmd.OutOrStdout(), a)
		},
	}
	addRunFlags(c, &library, &device, &threads)
	addPairFlags(c, &w)
	return c
}

// addPairFlags are what may have to be said of a network of two files before it can be looked at.
func addPairFlags(c *cobra.Command, w *inspect.Wishes) {
	c.Flags().StringSliceVar(&w.Channels, "channels", nil, "what the input channels show, in order: image, positive, negative, previous, box, points")
	c.Flags().IntVar(&w.Grid, "grid", 0, "side of the grid that interactive networks see, in pixels (default 256)")
	c.Flags().IntVar(&w.Points, "points", 0, "of two files: how many points strokes become at most (default 16)")
	c.Flags().IntVar(&w.Mask, "mask", 0, "of two files: which of the decoder's answers is taken, from 0")
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
		Use:   "import FILE.onnx [DECODER.onnx]",
		Short: "Make an app of a network of your own, ready to serve",
		Long: `Import looks at an ONNX network, checks that it can be run and adapted, and writes a folder
with the network and an app.yaml, which "scrawl serve --app FOLDER" serves. Channels, classes
and sizes are inferred; what was assumed is said. Edit app.yaml to say otherwise.

Export a network from PyTorch with one float input [N,C,H,W] (or [N,C,D,H,W]) and logits as
its output; a softmax or sigmoid at its end is left out. Weights that the exporter leaves in
a file beside it are taken along.

A network of two files, as Segment Anything comes, is an encoder with one image input and a
decoder with its embeddings and prompts for inputs: point_coords and point_labels (or
input_points and input_labels), mask_input and has_mask_input are known by name; any other
input [1,C,H,W] is shown maps, which --channels lists. Only the decoder learns.`,
		Example: "  scrawl model import unet.onnx --labels liver,spleen --out ~/apps/unet\n" +
			"  scrawl model import ritm.onnx --channels image,image,image,previous,positive,negative --out ~/apps/ritm\n" +
			"  scrawl model import vision_encoder.onnx prompt_encoder_mask_decoder.onnx --name sam --out ~/apps/sam",
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if w.Name == "" {
				w.Name = modelName(a[0])
			}
			if out == "" {
				out = w.Name
			}
			if err := vacant(out); err != nil {
				return err
			}
			l, err := look(cmd, a, w, library, device, threads)
			if err != nil {
				return err
			}
			if !l.Ready() {
				return fmt.Errorf("%s cannot be served as it is: %s", strings.Join(a, " with "), strings.Join(l.Trouble, "; "))
			}
			if w.Labels == nil && l.Labels == nil && l.Classes > 2 {
				if w.Labels, err = askLabels(cmd.InOrStdin(), cmd.ErrOrStderr(), l.Classes-1); err != nil {
					return err
				}
			}
			if w.Description == "" {
				w.Description = "Imported from " + filepath.Base(a[0])
			}
			return l.imported(cmd, w, out)
		},
	}
	addRunFlags(c, &library, &device, &threads)
	c.Flags().StringVarP(&out, "out", "o", "", "folder to write the app to (default: one named after the network)")
	c.Flags().StringVar(&w.Name, "name", "", "name of the model, without spaces (default: the file's)")
	c.Flags().StringVar(&w.Description, "description", "", "what the model segments, for its users")
	c.Flags().StringSliceVar(&w.Labels, "labels", nil, "names of the classes beside the background, in order")
	c.Flags().BoolVar(&w.Plain, "plain", false, "do not standardise three image channels as ImageNet's are")
	c.Flags().StringVar(&w.Part, "adapt", "", "weights that may move: all (the default), decoder or normalisation")
	addPairFlags(c, &w)
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

// looked is a network that was looked at, and its file or files.
type looked struct {
	inspect.Network
	data []byte        // of a network of one file
	pair *inspect.Pair // of two files
}

// look inspects a network of one file or two, with a bar in a terminal.
func look(cmd *cobra.Command, files []string, w inspect.Wishes, library, device string, threads int) (looked, error) {
	var data [][]byte
	for _, name := range files {
		d, err := readNetwork(name)
		if err != nil {
			return looked{}, err
		}
		data = append(data, d)
	}
	l, what := looked{data: data[0]}, data[0]
	if len(data) > 1 {
		pair, err := inspect.NewPair(data[0], data[1], w)
		if err != nil {
			return looked{}, fmt.Errorf("%s: %w", strings.Join(files, " with "), err)
		}
		l.pair, what = &pair, pair.Joined
	}
	lib, err := openLibrary(cmd.Context(), library)
	if err != nil {
		return looked{}, err
	}
	defer func() { _ = lib.Close() }() // the process ends
	sessions := &sessions{compiler: lower.NewCompiler(lib, ort.Options{Device: device, Threads: threads, NoSpinning: true})}
	defer sessions.close()
	l.Network, err = inspect.Look(cmd.Context(), what, sessions.compile, inspectProgress(cmd.ErrOrStderr()))
	if err != nil {
		return looked{}, fmt.Errorf("%s: %w", strings.Join(files, " with "), err)
	}
	return l, nil
}

// readNetwork reads a network's file, with the weights that it keeps in others beside it.
func readNetwork(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := inspect.ReadFile(f, maxNetwork)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	folder, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = folder.Close() }()
	if data, err = onnx.Inline(data, folder.FS(), maxNetwork); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
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

// vacant refuses a folder that holds an app.
func vacant(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "app.yaml")); err == nil {
		return fmt.Errorf("%s holds an app.yaml already: name another folder with --out", dir)
	}
	return nil
}

// imported writes the app's folder and checks that it loads.
func (l looked) imported(cmd *cobra.Command, w inspect.Wishes, dir string) error {
	var draft inspect.Draft
	var err error
	content := map[string][]byte{}
	if l.pair != nil {
		if draft, err = l.pair.Draft(l.Network, w); err != nil {
			return err
		}
		m := draft.App.Models[0]
		content[m.Encoder], content[m.File] = l.pair.Encoder, l.pair.Decoder
	} else {
		if draft, err = inspect.NewDraft(l.Network, w, w.Name+".onnx"); err != nil {
			return err
		}
		content[w.Name+".onnx"] = l.data
	}
	if content["app.yaml"], err = draft.YAML(); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, data := range content {
		if err := atomicfile.Write(filepath.Join(dir, name), func(w io.Writer) error { _, err := w.Write(data); return err }); err != nil {
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

// write tells people what is known of a network.
func (l looked) write(w io.Writer, files []string) error {
	n := l.Network
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, a ...any) { _, _ = fmt.Fprintf(t, name+"\t"+format+"\n", a...) }
	kind := fmt.Sprintf("%d channels", n.Channels)
	if n.Channels == 1 {
		kind = "1 channel"
	}
	if l.pair == nil {
		row("file", "%s, %s, opset %d, made by %s", files[0], bytesText(float64(n.FileBytes)), n.Opset, orUnknown(n.Producer))
		row("input", "%s: %s, %s", n.Input, kind, sizeText(n))
	} else {
		encoder, decoder := files[0], files[1]
		if l.pair.Swapped {
			encoder, decoder = decoder, encoder
		}
		row("encoder", "%s, %s; it stays as it is and runs once for each image", encoder, bytesText(float64(len(l.pair.Encoder))))
		row("decoder", "%s, %s; it is prompted and learns", decoder, bytesText(float64(len(l.pair.Decoder))))
		row("input", "%s; %s", strings.Join(l.pair.Channels(), ", "), sizeText(n))
		if l.pair.Masks > 1 {
			row("answers", "%d, of which one is taken: --mask", l.pair.Masks)
		}
	}
	answer := fmt.Sprintf("%d classes", n.Classes)
	if n.Single {
		answer = "the logit of one object"
	}
	if n.Ending != "" {
		answer += fmt.Sprintf(", behind %s, which is left out for the logits in front of it", n.Ending)
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
		row("weights, "+string(p.Part), "%d numbers in %d tensors; %s while adapting", p.Numbers, p.Tensors, bytesText(4*4*float64(p.Numbers)))
	}
	if n.PredictTime > 0 && n.LearnTime > 0 {
		row("time", "%s for an answer, %s for an interaction of one step (the first %s more), at %s", duration(n.PredictTime), duration(n.LearnTime), duration(n.PrepareTime), dimensions(n.MeasuredSize))
	}
	writeOperators(row, n.Operators)
	for _, trouble := range n.Trouble {
		row("trouble", "%s", trouble)
	}
	verdict := "it can be served and adapted: scrawl model import " + strings.Join(files, " ")
	if !n.Ready() {
		verdict = "it cannot be served as it is"
	}
	row("verdict", "%s", verdict)
	return t.Flush()
}

// operatorsWide is about how many characters of a terminal's line the list of operators may take.
const operatorsWide = 90

func writeOperators(row func(name, format string, a ...any), operators []inspect.Operator) {
	var blocked []string
	name, line := "operators", ""
	for _, o := range operators {
		text := fmt.Sprintf("%s×%d", o.Name, o.Count)
		if !o.Differ {
			blocked = append(blocked, text)
		}
		if len(line)+len(text) > operatorsWide {
			row(name, "%s", line)
			name, line = "", ""
		}
		line = strings.TrimSpace(line + " " + text)
	}
	row(name, "%s", line)
	if blocked != nil {
		row("without gradient", "%s: weights in front of these cannot move", strings.Join(blocked, " "))
	}
}

// bytesText is a size for people.
func bytesText(n float64) string {
	if n < 1e5 {
		return fmt.Sprintf("%.1f kB", n/1e3)
	}
	return fmt.Sprintf("%.1f MB", n/1e6)
}

// duration is a measured time for people: three digits say enough.
func duration(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
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
