package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"scrawl/apps"
	"scrawl/engine/adapt"
	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
)

func newRuntimeTuneCommand() *cobra.Command {
	var library, app string
	var threads int
	cmd := &cobra.Command{
		Use:   "tune",
		Short: "Measure which way of computing gradients is the fastest on this CPU",
		Long: `Tune times several ways of computing the gradients of an app's networks, and keeps
the fastest for each in the user's cache, for this model of CPU, this version of ONNX
Runtime and this number of threads. A server does the same by itself, bit by bit while
nobody waits (runtime.measure), and uses at its start what is known. Sums are taken
in another order then, so answers may differ in their last bits from those before;
from one start to the next they are the same.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			lib, err := openLibrary(cmd.Context(), library)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, lib.Close()) }()
			o := ort.Options{Threads: threads, NoSpinning: true}
			models, err := learningModels(cmd, lib, o, app)
			if err != nil {
				return err
			}
			file, known, err := lower.Tune(cmd.Context(), lib, o, models, func(done, total int) {
				if total > 0 {
					_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d convolutions\n", done, total) // only for the eye
				}
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d convolutions are measured: %s\n", known, file)
			return err
		},
	}
	cmd.Flags().StringVar(&library, "ort-lib", "", "use this library `file` and look nowhere else")
	cmd.Flags().StringVarP(&app, "app", "a", "scribbles", "a built-in app by name, or a folder with an app.yaml")
	cmd.Flags().IntVar(&threads, "threads", 0, "threads an operator may use (0: one per core); the server's runtime.threads")
	return cmd
}

// learningModels collects the graphs that an interaction with an app's networks builds.
func learningModels(cmd *cobra.Command, lib *ort.Library, o ort.Options, name string) (models []*onnx.Model, err error) {
	a, err := apps.Open(name)
	if err != nil {
		return nil, err
	}
	var open []*ort.Session
	defer func() {
		for _, s := range open {
			err = errors.Join(err, s.Close())
		}
	}()
	for _, m := range a.Models {
		if m.File == "" {
			continue // shares another model's network
		}
		loaded, err := a.Load(m, func(model *onnx.Model) (adapt.Session, error) {
			models = append(models, model)
			s, err := lib.Compile(model, o)
			if err == nil {
				open = append(open, s)
			}
			return s, err
		})
		if err == nil {
			err = interactOnce(cmd, loaded.Model)
		}
		if err != nil {
			return nil, fmt.Errorf("model %q: %w", m.Name, err)
		}
	}
	return models, nil
}
