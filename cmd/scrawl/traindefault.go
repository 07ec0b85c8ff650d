package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"scrawl/apps/atomicfile"
	"scrawl/apps/pretrain"
	"scrawl/engine/adapt"
	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
)

// trainDefaultFlags are the options of train-default.
type trainDefaultFlags struct {
	library, device, checkpoint, start, out string
	threads, workers, batch, steps, perRun  int
	minutes, rate                           float64
	seed                                    uint64
}

func newTrainDefaultCommand() *cobra.Command {
	var f trainDefaultFlags
	c := &cobra.Command{
		Use:   "train-default {scribbles|image_only}",
		Short: "Train a network of the default app again, from synthetic images",
		Long: `Train-default makes the networks that come with Scrawl: from random weights, on
synthetic images alone, with Scrawl's own engine. It takes hours on two cores and minutes
on a GPU, saves its state to a checkpoint now and then, and goes on from it when started
again. With --minutes it ends in time: the learning rate and the sizes of the images then
follow the time that has passed, not the steps.`,
		Example: `  scrawl train-default scribbles --checkpoint net.ckpt --out apps/scribbles/scribbles.onnx
  scrawl train-default scribbles --device cuda --minutes 9 --workers 14 --batch 32 --out scribbles.onnx`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a[0]) },
	}
	fl := c.Flags()
	fl.StringVar(&f.library, "runtime", "", "path of ONNX Runtime's library (default: found by itself)")
	fl.StringVar(&f.device, "device", "cpu", "cpu, cuda, cuda:N or auto")
	fl.StringVar(&f.checkpoint, "checkpoint", "", "file that training is saved to and goes on from")
	fl.StringVar(&f.start, "start", "", "an .onnx file of the same network, whose weights training begins with; only images of the last size then")
	fl.StringVar(&f.out, "out", "network.onnx", "file to write the network to")
	fl.IntVar(&f.threads, "threads", 0, "threads an operator may use on the CPU (0: one per core)")
	fl.IntVar(&f.workers, "workers", 1, "goroutines that draw examples; they change the speed alone")
	fl.IntVar(&f.batch, "batch", 0, "examples of a step (0: the recipe's)")
	fl.IntVar(&f.steps, "steps", 0, "length of the training (0: the recipe's)")
	fl.IntVar(&f.perRun, "steps-per-run", 0, "steps between which the weights stay on the device (0: 1 on the CPU, 16 elsewhere)")
	fl.Uint64Var(&f.seed, "seed", 0, "of the examples and the first weights (0: the recipe's); with --start another one goes on to other examples")
	fl.Float64Var(&f.rate, "learning-rate", 0, "of AdamW, at its peak (0: the recipe's)")
	fl.Float64Var(&f.minutes, "minutes", 0, "end training after so many minutes, whatever the steps")
	return c
}

func (f *trainDefaultFlags) run(cmd *cobra.Command, network string) error {
	recipe, err := f.recipe(network)
	if err != nil {
		return &usageError{cmd: cmd, err: err}
	}
	if f.start != "" {
		data, err := os.ReadFile(f.start)
		if err != nil {
			return err
		}
		if recipe.Start, err = onnx.Parse(data); err != nil {
			return fmt.Errorf("network %s: %w", f.start, err)
		}
	}
	lib, err := openLibrary(cmd.Context(), f.library)
	if err != nil {
		return err
	}
	defer func() { _ = lib.Close() }() // the process ends
	// Training needs no more than TensorFloat-32's precision.
	o := ort.Options{Device: f.device, Threads: f.threads, NoSpinning: true, CUDA: map[string]string{"use_tf32": "1"}}
	m, err := pretrain.Run(cmd.Context(), recipe, compiler(lib, o), f.checkpoint, trainingProgress(cmd.ErrOrStderr()))
	if err != nil {
		return err
	}
	data, err := m.Marshal()
	if err != nil {
		return err
	}
	return atomicfile.Write(f.out, func(w io.Writer) error { _, err := w.Write(data); return err })
}

// recipe is the network's, with what the options change.
func (f *trainDefaultFlags) recipe(network string) (pretrain.Recipe, error) {
	recipes := map[string]pretrain.Recipe{"scribbles": pretrain.Scribbles(), "image_only": pretrain.ImageOnly()}
	r, ok := recipes[network]
	if !ok {
		return r, fmt.Errorf("network %q: scribbles or image_only is wanted", network)
	}
	device, err := ort.ParseDevice(f.device)
	if err != nil {
		return r, err
	}
	if device.Kind != ort.CPU {
		r.PerRun = 16
	}
	for _, o := range []struct {
		given int
		to    *int
	}{{f.workers, &r.Workers}, {f.batch, &r.Options.Batch}, {f.steps, &r.Steps}, {f.perRun, &r.PerRun}} {
		if o.given != 0 {
			*o.to = o.given
		}
	}
	if f.seed != 0 {
		r.Seed = f.seed
	}
	if f.rate != 0 {
		r.Options.LearningRate = f.rate
	}
	if f.start != "" { // small images are for the beginning
		r.Stages = []pretrain.Stage{{Size: r.Stages[len(r.Stages)-1].Size, Share: 1}}
	}
	r.Limit = time.Duration(f.minutes * float64(time.Minute))
	return r, r.Validate()
}

// openLibrary finds and opens ONNX Runtime.
func openLibrary(ctx context.Context, explicit string) (*ort.Library, error) {
	path, _, err := ort.Locate(ctx, explicit)
	if err != nil {
		return nil, err
	}
	return ort.Open(path)
}

// compiler makes sessions of a library.
func compiler(lib *ort.Library, o ort.Options) adapt.Compiler {
	c := lower.NewCompiler(lib, o)
	return func(model *onnx.Model) (adapt.Session, error) { return c.Compile(model) }
}

// trainingProgress draws a bar in a terminal, and elsewhere writes a line now and then.
func trainingProgress(w io.Writer) func(pretrain.Progress) {
	var bar *progressbar.ProgressBar
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		bar = progressbar.NewOptions(1000, progressbar.OptionSetWriter(w), progressbar.OptionSetPredictTime(true))
	}
	var mean float64
	var first, last, told int
	begun, written := time.Now(), time.Now()
	return func(p pretrain.Progress) {
		if first == 0 { // the first run makes the graphs
			first, last, told, mean, begun, written = p.Step, p.Step, p.Step, p.Loss, time.Now(), time.Now()
			_, _ = fmt.Fprintf(w, "step %d, %d² pixels, loss %.4f\n", p.Step, p.Size, p.Loss)
			return
		}
		mean += (1 - math.Pow(0.99, float64(p.Step-last))) * (p.Loss - mean)
		last = p.Step
		if bar != nil {
			bar.Describe(fmt.Sprintf("%d² pixels, loss %.3f", p.Size, mean))
			_ = bar.Set(int(1000 * p.Done))
			return
		}
		if time.Since(written) < 10*time.Second && p.Done < 1 {
			return
		}
		now := float64(p.Step-told) / time.Since(written).Seconds()
		all := float64(p.Step-first) / time.Since(begun).Seconds()
		written, told = time.Now(), p.Step
		of := (p.Learning + p.Waiting).Seconds() / 100
		_, _ = fmt.Fprintf(w, "step %d, %.1f %% done, %d² pixels, mean loss %.4f, %.2f steps/s (%.2f on the whole), %.0f examples/s, waited %.0f %% of the time, %.0f %% for drawing\n",
			p.Step, 100*p.Done, p.Size, mean, now, all, now*float64(p.Batch), p.Waiting.Seconds()/of, p.Drawing.Seconds()/of)
	}
}
