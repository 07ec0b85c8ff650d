package main

import (
	"context"
	"fmt"
	"io"

	"scrawl/apps"
	"scrawl/apps/atomicfile"
	"scrawl/apps/evaluate"
	"scrawl/apps/interact"
	"scrawl/apps/phantom"
	"scrawl/engine/lower"
	"scrawl/engine/ort"
)

// The target of the example that the picture shows.
const pictureTarget = "kidney"

// writePicture annotates the example volume as the simulated annotator does, once with a model that learns nothing and once with one
// that does, and writes what came of it as an SVG file.
func writePicture(ctx context.Context, library, file string, stderr io.Writer) error {
	lib, err := ort.Open(library)
	if err != nil {
		return err
	}
	defer func() { _ = lib.Close() }() // the process ends
	sessions := &sessions{compiler: lower.NewCompiler(lib, ort.Options{NoSpinning: true})}
	defer sessions.close()
	app, err := apps.Open("scribbles")
	if err != nil {
		return err
	}
	model, err := app.Load(app.Models[0], sessions.compile)
	if err != nil {
		return err
	}
	v, labels := phantom.Abdomen(exampleSize, exampleSpacing, exampleSeed)
	c, err := evaluate.NewCase("example", pictureTarget, v, labels, phantom.Labels()[pictureTarget])
	if err != nil {
		return err
	}
	var methods []evaluate.Method
	for _, p := range []interact.Profile{interact.ProfileFrozen, interact.ProfileHindsight} {
		methods = append(methods, evaluate.Method{Name: string(p), Model: model.Model, Profile: p})
	}
	e := evaluate.Evaluation{Progress: evalProgress(stderr), Protocol: evaluate.Protocol{
		Mode: evaluate.BySlice, Interactions: 3, Every: 3, MinPixels: 100, Methods: methods,
		Seeds: []uint64{1}, LearnOnLeaving: true, Pictures: v.Size[2],
	}}
	courses, err := e.Run(ctx, []evaluate.Case{c})
	if err != nil {
		return err
	}
	if len(courses) != 2 {
		return fmt.Errorf("draw the example: %d courses, want one for each method", len(courses))
	}
	s, err := evaluate.NewShowcase(courses[0], courses[1])
	if err != nil {
		return err
	}
	return atomicfile.Write(file, s.WriteSVG)
}
