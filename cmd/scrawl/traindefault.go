package main

import (
	"context"
	"fmt"
	"io"
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

func newTrainDefaultCommand() *cobra.Command {
	var library, checkpoint, out string
	var threads int
	c := &cobra.Command{
		Use:   "train-default {scribbles|image_only}",
		Short: "Train a network of the default app again, from synthetic images",
		Long: `Train-default makes the networks that come with Scrawl: from random weights, on
synthetic images alone, with Scrawl's own engine. It takes hours on two cores, saves
its state to a checkpoint now and then, and goes on from it when started again.`,
		Example: "  scrawl train-default scribbles --checkpoint net.ckpt --out apps/scribbles/scribbles.onnx",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			recipes := map[string]pretrain.Recipe{"scribbles": pretrain.Scribbles(), "image_only": pretrain.ImageOnly()}
			recipe, ok := recipes[a[0]]
			if !ok {
				return &usageError{cmd: cmd, err: fmt.Errorf("network %q: scribbles or image_only is wanted", a[0])}
			}
			lib, err := openLibrary(cmd.Context(), library)
			if err != nil {
				return err
			}
			defer func() { _ = lib.Close() }() // the process ends
			m, err := pretrain.Run(cmd.Context(), recipe, compiler(lib, ort.Options{Threads: threads, NoSpinning: true}), checkpoint, trainingProgress(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			data, err := m.Marshal()
			if err != nil {
				return err
			}
			return atomicfile.Write(out, func(w io.Writer) error { _, err := w.Write(data); return err })
		},
	}
	c.Flags().StringVar(&library, "runtime", "", "path of ONNX Runtime's library (default: found by itself)")
	c.Flags().StringVar(&checkpoint, "checkpoint", "", "file that training is saved to and goes on from")
	c.Flags().StringVar(&out, "out", "network.onnx", "file to write the network to")
	c.Flags().IntVar(&threads, "threads", 0, "threads an operator may use (0: one per core)")
	return c
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
	mean, start := 0.0, time.Now()
	first := 0
	average := func(p pretrain.Progress) float64 {
		if first == 0 {
			first, mean = p.Step, p.Loss
		}
		mean += 0.01 * (p.Loss - mean)
		return mean
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		var bar *progressbar.ProgressBar
		return func(p pretrain.Progress) {
			if bar == nil {
				bar = progressbar.NewOptions(p.Steps, progressbar.OptionSetWriter(w), progressbar.OptionShowCount(), progressbar.OptionShowIts())
			}
			bar.Describe(fmt.Sprintf("%d² pixels, loss %.3f", p.Size, average(p)))
			_ = bar.Set(p.Step)
		}
	}
	return func(p pretrain.Progress) {
		loss := average(p)
		if p.Step%100 == 0 || p.Step == p.Steps {
			perStep := time.Since(start).Seconds() / float64(p.Step-first+1)
			_, _ = fmt.Fprintf(w, "step %d of %d, %d² pixels, mean loss %.4f, %.2f s a step\n", p.Step, p.Steps, p.Size, loss, perStep)
		}
	}
}
