package evaluate

import (
	"context"

	"scrawl/adapters/graphcut"
	"scrawl/adapters/volume"
	"scrawl/apps/interact"
)

// GraphCut answers as MONAI Label's Histogram+GraphCut does, from the strokes alone: see [scrawl/adapters/graphcut]. It always
// answers the whole volume, and learns nothing.
type GraphCut struct{ Options graphcut.Options }

// Prepare implements Segmenter. The method scales intensities itself; those here are for pictures.
func (GraphCut) Prepare(v *volume.Volume) interact.Image {
	low, high := interact.Contrast(v, [2]float64{0.5, 99.5}, nil)
	return interact.Image{Volume: v, Low: low, High: high}
}

// Interact implements Segmenter. Strokes that are the same again are not answered again.
func (g GraphCut) Interact(ctx context.Context, img interact.Image, req interact.Request, l interact.Learned, st interact.State) (interact.Result, interact.Learned, interact.State, error) {
	if st.Answer != nil && req.Strokes.Key() == st.Strokes.Key() {
		return interact.Result{Mask: st.Answer}, l, st, nil
	}
	mask, err := graphcut.Segment(ctx, img.Volume, req.Strokes, nil, g.Options)
	if err != nil {
		return interact.Result{}, l, st, err
	}
	return interact.Result{Mask: mask}, l, interact.State{Strokes: req.Strokes, Answer: mask}, nil
}

// Finish implements Segmenter: there is nothing to be learned.
func (GraphCut) Finish(_ context.Context, _ interact.Image, _ interact.Options, l interact.Learned, st interact.State) (interact.Learned, interact.State, interact.Report, error) {
	return l, st, interact.Report{}, nil
}
