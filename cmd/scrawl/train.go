package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rs/zerolog"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"scrawl/apps/finetune"
	"scrawl/labelserver"
	"scrawl/labelserver/api"
	"scrawl/labelserver/config"
)

func newTrainCommand() *cobra.Command {
	var set *settings
	d := finetune.Defaults()
	var epochs, patience, batch, slices, seed int
	var split, rate, replay, blend float64
	var weights, labels []string
	var resume bool
	c := &cobra.Command{
		Use:   "train [MODEL]",
		Short: "Train a served network on the labels that have been submitted",
		Long: `Train teaches a network of the app what the final labels of a folder of studies show, as
the server does when a client asks it to (the button Train in 3D Slicer). Some images are
set aside to judge by. Weights that do better on them than those that are served become a
new version, which a server on the same folder takes over without a pause; see
` + "`scrawl model`" + ` for going back. It can be stopped at any time, with Ctrl-C, and goes on
with --resume from the last whole epoch.

MODEL is a model of the app; the first one if it is left out.`,
		Example: "  scrawl train --studies ~/images\n  scrawl train scribbles --studies ~/images --epochs 50 --weights decoder --labels liver,spleen",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			loaded, err := set.load(cmd, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			cfg := loaded.Config
			parts, err := openParts(cmd, cfg)
			if err != nil {
				return err
			}
			params := api.NewObject("max_epochs", epochs, "early_stop_patience", patience, "val_split", split, "train_batch_size", batch, "learning_rate", rate,
				"slices_per_case", slices, "replay", replay, "blend", blend, "seed", seed, "weights", strings.Join(weights, ","), "labels", strings.Join(labels, ","), "resume", resume)
			watch := watchTraining(cmd.ErrOrStderr())
			stats, err := labelserver.Train(cmd.Context(), cfg, parts, strings.Join(a, ""), params, watch)
			if errors.Is(err, context.Canceled) {
				return errors.New("training was stopped; --resume goes on from the last whole epoch")
			}
			if err != nil {
				return err
			}
			return reportTraining(cmd.OutOrStdout(), stats)
		},
	}
	set = addSettings(c)
	fl := c.Flags()
	fl.IntVar(&epochs, "epochs", d.Epochs, "the most epochs")
	fl.IntVar(&patience, "patience", d.Patience, "epochs without a better figure after which to stop; -1 goes on to the end")
	fl.Float64Var(&split, "val-split", d.Validation, "share of images that are set aside to judge by")
	fl.IntVar(&batch, "batch", d.Batch, "slices, or windows, learned from at once")
	fl.Float64Var(&rate, "learning-rate", d.LearningRate, "of AdamW, at its peak")
	fl.IntVar(&slices, "slices", d.Slices, "slices of each image seen in an epoch")
	fl.Float64Var(&replay, "replay", d.Replay, "share of steps on synthetic images, which keep what the network could do before")
	fl.Float64Var(&blend, "blend", d.Blend, "share of the way from the old weights to the trained ones (0: half for networks that see strokes, all for others)")
	fl.StringSliceVar(&weights, "weights", d.Weights, "weights that move: all, decoder, normalization, or patterns of names")
	fl.StringSliceVar(&labels, "labels", nil, "labels to learn (default: all)")
	fl.IntVar(&seed, "seed", int(d.Seed), "seed of everything random")
	fl.BoolVar(&resume, "resume", false, "go on from where the last training of the network was stopped")
	return c
}

// watchTraining draws a bar in a terminal, and elsewhere writes the lines that the task tells.
func watchTraining(w io.Writer) func(*api.Task) {
	var bar *progressbar.ProgressBar
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		bar = progressbar.NewOptions(100, progressbar.OptionSetWriter(w), progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
	}
	told := 0
	last := ""
	return func(t *api.Task) {
		lines := t.Details
		// The task forgets its oldest lines: what follows the last one told is new.
		if told >= len(lines) || told > 0 && lines[told-1] != last {
			for told = len(lines); told > 0 && lines[told-1] != last; told-- {
			}
		}
		for _, line := range lines[told:] {
			if bar != nil {
				_ = bar.Clear() // the bar is drawn again below
			}
			_, _ = fmt.Fprintln(w, line) // nothing can be done about a terminal that cannot be written to
			last = line
		}
		told = len(lines)
		if bar == nil || t.Progress == nil {
			return
		}
		percent, _ := t.Progress.Number("percent")
		epoch, _ := t.Progress.Number("epoch")
		epochs, _ := t.Progress.Number("epochs")
		text := fmt.Sprintf("epoch %.0f of %.0f", epoch, epochs)
		if dice, ok := t.Progress.Number("dice"); ok {
			text += fmt.Sprintf(", Dice %.3f", dice)
		}
		bar.Describe(text)
		_ = bar.Set(int(percent))
	}
}

func reportTraining(w io.Writer, stats *api.Object) error {
	before, _ := stats.Number("before")
	best, _ := stats.Number("best_metric")
	took, _ := stats.Text("total_time")
	if helped, _ := stats.Bool("helped"); !helped {
		_, err := fmt.Fprintf(w, "Nothing was better than the weights that are served (Dice %.3f): they stay. It took %s.\n", before, took)
		return err
	}
	version, _ := stats.Number("version")
	_, err := fmt.Fprintf(w, "Version %.0f is served: Dice %.3f on the images set aside, %.3f before. It took %s.\n", version, best, before, took)
	return err
}

// openParts opens ONNX Runtime for a command that works beside a server. Warnings go to the terminal.
func openParts(cmd *cobra.Command, cfg *config.Config) (labelserver.Parts, error) {
	lib, err := openLibrary(cmd.Context(), cfg.Runtime.Library)
	if err != nil {
		return labelserver.Parts{}, err
	}
	log := zerolog.New(zerolog.ConsoleWriter{Out: cmd.ErrOrStderr()}).Level(zerolog.WarnLevel)
	return labelserver.Parts{Library: lib, Log: log, Version: buildVersion()}, nil
}
