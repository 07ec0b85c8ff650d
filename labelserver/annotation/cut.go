package annotation

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"scrawl/adapters/graphcut"
	"scrawl/labelserver/api"
)

// This file answers requests to MONAI Label's Histogram+GraphCut: a model without a network, for workflows that name it. As there, an
// answer depends on the request alone. Nothing is remembered, so neither edits by hand nor earlier answers count; other segments are
// kept free all the same.

// The parameters of a graph cut, as MONAI Label spells them.
const (
	paramBins   = "num_bins"
	paramLambda = "lamda"
	paramSigma  = "sigma"
	// paramConnected is ours: MONAI Label's answers hold all that looks like the object, wherever it lies.
	paramConnected = "connected"
)

// describeCut offers the constants of a model without a network.
func (e Entry) describeCut(config *api.Object) {
	config.Set(paramBins, e.Cut.Bins)
	config.Set(paramLambda, e.Cut.Lambda)
	config.Set(paramSigma, e.Cut.Sigma)
	config.Set(paramConnected, e.Cut.Connected)
	config.Set("largest_cc", false)
}

// inferCut answers strokes by a graph cut.
func (a *Annotator) inferCut(ctx context.Context, e Entry, img *image, req *Request, w watch) (*Reply, error) {
	j, err := newJob(e, img, req)
	if err != nil {
		return nil, err
	}
	o, err := cutOptions(*e.Cut, req.Params)
	if err != nil {
		return nil, err
	}
	leave, err := a.o.Gate.Enter(ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for the device: %w", err)
	}
	defer leave()
	req.progress("slices")
	start := time.Now()
	mask, err := graphcut.Segment(ctx, img.Volume, j.strokes, j.box, o)
	if err != nil {
		return nil, err
	}
	out := outcome{mask: j.limited(mask)}
	out.report.Answered = j.strokes.Planes()
	out.report.Seconds = map[string]float64{"slices": time.Since(start).Seconds()}
	if !slices.Contains(mask, true) {
		out.note = "nothing was drawn on the object: a stroke on it is wanted, or a box around it"
	}
	a.logged(req, []outcome{out}, w)
	return out.reply(j, w), nil
}

// cutOptions are a model's constants with those that a request changes.
func cutOptions(o graphcut.Options, params *api.Object) (graphcut.Options, error) {
	if bins, ok := params.Number(paramBins); ok {
		if bins != math.Trunc(bins) || math.Abs(bins) > math.MaxInt32 {
			return o, fmt.Errorf("%s %g: %w; a whole number is wanted", paramBins, bins, Invalid)
		}
		o.Bins = int(bins)
	}
	for name, value := range map[string]*float64{paramLambda: &o.Lambda, paramSigma: &o.Sigma} {
		if number, ok := params.Number(name); ok {
			*value = number
		}
	}
	if connected, ok := params.Bool(paramConnected); ok {
		o.Connected = connected
	}
	if err := o.Validate(); err != nil {
		return o, fmt.Errorf("%w: %w", Invalid, err)
	}
	return o, nil
}
