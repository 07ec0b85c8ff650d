package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"scrawl/adapters/measure"
	"scrawl/adapters/volume"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
)

// Offer is something that can be started, as /info/ describes it.
type Offer struct {
	Name, Description string
	// Config holds the options clients show; nil when there are none.
	Config *api.Object
	// Labels are those a trainer learns, nil when it takes any.
	Labels []string
	// Stats are those of the last training.
	Stats *api.Object
}

// Scorer computes figures of images and labels and keeps them in their infos.
type Scorer interface {
	Offer() Offer
	// Score does the work; params are the request's. Prepare has been asked before whether they make sense.
	Score(ctx context.Context, params *api.Object, told *Told) (*api.Object, error)
	Prepare(params *api.Object) error
}

// Scoring makes tasks of scorers.
type Scoring struct{ Scorers []Scorer }

// Offers lists the methods.
func (s *Scoring) Offers() []Offer {
	var all []Offer
	for _, m := range s.Scorers {
		all = append(all, m.Offer())
	}
	return all
}

// Prepare checks a request and returns it as it is kept, with its work.
func (s *Scoring) Prepare(name string, params *api.Object) (*api.Object, Work, error) {
	for _, m := range s.Scorers {
		if m.Offer().Name != name {
			continue
		}
		if err := m.Prepare(params); err != nil {
			return nil, nil, err
		}
		request := api.NewObject("method", name)
		request.Merge(params)
		return request, func(ctx context.Context, told *Told) (*api.Object, error) { return m.Score(ctx, params, told) }, nil
	}
	return nil, nil, notOffered("scoring method", name, s.Offers())
}

// Sum counts what labels hold: the sum of their numbers and the slices along the first axis that hold any, in the info of each final and
// original label.
type Sum struct{ *Data }

// Offer implements Scorer.
func (Sum) Offer() Offer {
	return Offer{Name: "sum", Description: "Sum of the numbers, and slices with a label, of final and original labels"}
}

// Prepare implements Scorer.
func (Sum) Prepare(*api.Object) error { return nil }

// Score implements Scorer.
func (s Sum) Score(ctx context.Context, _ *api.Object, told *Told) (*api.Object, error) {
	images, err := s.Store.Images(ctx)
	if err != nil {
		return nil, err
	}
	result := &api.Object{}
	for i, item := range images {
		for _, tag := range []string{datastore.TagFinal, datastore.TagOriginal} {
			m, _, err := s.labelOf(ctx, item.ID, tag)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				told.Say("label %s of %s is left out: %v", tag, item.ID, err)
				continue
			}
			info := sumOf(m)
			if err := s.Store.UpdateLabelInfo(ctx, item.ID, tag, info); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			result.Set(item.ID, info)
		}
		told.Progress(api.NewObject("image", i+1, "images", len(images)))
	}
	told.Say("%d images have labels", result.Len())
	return result, nil
}

func sumOf(m *volume.LabelMap) *api.Object {
	sum, slabs := int64(0), make([]bool, m.Size[0])
	for at, l := range m.Labels {
		if l != 0 {
			sum += int64(l)
			slabs[at%m.Size[0]] = true
		}
	}
	n := 0
	for _, there := range slabs {
		if there {
			n++
		}
	}
	return api.NewObject("sum", sum, "slices", n)
}

// Dice compares two labels of each image that has both, and keeps the coefficient in the image's info as dice. Labels are matched by their
// names; the figure is the mean over those that either label holds.
type Dice struct {
	*Data
	// Labels are the model's, for label files without an info.
	Labels []string
}

// Offer implements Scorer.
func (Dice) Offer() Offer {
	return Offer{Name: "dice", Description: "Dice of the submitted label and the model's, where an image has both"}
}

// Prepare implements Scorer.
func (d Dice) Prepare(params *api.Object) error {
	_, _, err := d.tags(params)
	return err
}

// tags are those compared; the protocol calls them y and y_pred.
func (Dice) tags(params *api.Object) (truth, predicted string, err error) {
	o := option{params: params}
	truth, predicted = o.text("y", datastore.TagFinal), o.text("y_pred", datastore.TagOriginal)
	if o.err != nil {
		return "", "", o.err
	}
	for _, tag := range []string{truth, predicted} {
		if err := datastore.CheckTag(tag); err != nil {
			return "", "", invalid("%w", err)
		}
	}
	return truth, predicted, nil
}

// Score implements Scorer.
func (d Dice) Score(ctx context.Context, params *api.Object, told *Told) (*api.Object, error) {
	truth, predicted, err := d.tags(params)
	if err != nil {
		return nil, err
	}
	images, err := d.Store.Images(ctx)
	if err != nil {
		return nil, err
	}
	result := &api.Object{}
	for i, item := range images {
		dice, err := d.compare(ctx, item.ID, truth, predicted)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			told.Say("%s is left out: %v", item.ID, err)
		default:
			if err := d.Store.UpdateImageInfo(ctx, item.ID, api.NewObject("dice", dice)); err != nil {
				return nil, err
			}
			result.Set(item.ID, dice)
			told.Say("Dice of %s is %.4f", item.ID, dice)
		}
		told.Progress(api.NewObject("image", i+1, "images", len(images)))
	}
	return result, nil
}

func (d Dice) compare(ctx context.Context, id, truth, predicted string) (float64, error) {
	// Both are looked for before any is decoded: most images have one.
	for _, tag := range []string{truth, predicted} {
		if _, err := d.Store.Label(ctx, id, tag); err != nil {
			return 0, err
		}
	}
	a, itemA, err := d.labelOf(ctx, id, truth)
	if err != nil {
		return 0, err
	}
	b, itemB, err := d.labelOf(ctx, id, predicted)
	if err != nil {
		return 0, err
	}
	if err := a.SameGrid(b.Geometry); err != nil {
		return 0, fmt.Errorf("labels %s and %s: %w", truth, predicted, err)
	}
	return meanDice(a.Labels, b.Labels, byName(namesOf(itemA.Info, d.Labels, a.Labels)), byName(namesOf(itemB.Info, d.Labels, b.Labels))), nil
}

// meanDice is the mean Dice of the names that either label map holds, 1 when neither holds any.
func meanDice(a, b []uint16, inA, inB map[string]uint16) float64 {
	names := map[string]bool{}
	presentA, presentB := numbersIn(a), numbersIn(b)
	for name, n := range inA {
		names[name] = names[name] || slices.Contains(presentA, n)
	}
	for name, n := range inB {
		names[name] = names[name] || slices.Contains(presentB, n)
	}
	// Numbers of one name in b become those of a, and all others one that a does not know.
	to := make([]uint16, 1<<16)
	taken := uint16(0)
	for _, n := range inA {
		taken = max(taken, n)
	}
	labels := map[string]uint16{}
	for name, held := range names {
		if !held {
			continue
		}
		n, ok := inA[name]
		if !ok {
			taken++
			n = taken
		}
		labels[name] = n
		if m, ok := inB[name]; ok {
			to[m] = n
		}
	}
	if len(labels) == 0 {
		return 1
	}
	mapped := make([]uint16, len(b))
	for i, l := range b {
		mapped[i] = to[l]
	}
	sum := 0.0
	for _, n := range labels {
		sum += measure.DiceOf(a, mapped, n)
	}
	return sum / float64(len(labels))
}

// Judge says how unsure a model is about an image.
type Judge interface {
	// Score is the uncertainty by what a user has taught the model, or by the model as it is when client is "".
	Score(ctx context.Context, client string, item datastore.Item) (float64, error)
}

// Epistemic judges the images without a final label, and keeps a model's uncertainty in their infos as epistemic_entropy, with the time of
// the weights it was judged by as epistemic_ts: images judged by these weights already are passed over.
type Epistemic struct {
	*Data
	Model string
	Judge Judge
	// Modified is the time of the weights in Unix seconds.
	Modified func() int64
}

// Offer implements Scorer.
func (e Epistemic) Offer() Offer {
	return Offer{Name: e.Model + "_epistemic", Description: "Uncertainty of " + e.Model + " about images without a final label", Config: api.NewObject("max_samples", 0)}
}

// Prepare implements Scorer.
func (e Epistemic) Prepare(params *api.Object) error {
	_, err := e.most(params)
	return err
}

func (Epistemic) most(params *api.Object) (int, error) {
	o := option{params: params}
	n := o.whole("max_samples", 0, 0, 1<<31, "a whole number from 0 (all) on")
	return n, o.err
}

// Score implements Scorer. The result counts images, as the incumbent's does.
func (e Epistemic) Score(ctx context.Context, params *api.Object, told *Told) (*api.Object, error) {
	start := time.Now()
	most, err := e.most(params)
	if err != nil {
		return nil, err
	}
	items, err := e.Store.Unlabelled(ctx)
	if err != nil {
		return nil, err
	}
	client, _ := params.Text("client_id")
	stamp, skipped, done, failed := e.Modified(), 0, 0, 0
	for i, item := range items {
		if before, ok := item.Info.Number("epistemic_ts"); ok && int64(before) == stamp {
			skipped++
			continue
		}
		if most > 0 && done == most {
			break
		}
		entropy, err := e.Judge.Score(ctx, client, item)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			failed++
			told.Say("%s is left out: %v", item.ID, err)
			continue
		}
		if err := e.Store.UpdateImageInfo(ctx, item.ID, api.NewObject("epistemic_entropy", entropy, "epistemic_ts", stamp)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		done++
		told.Progress(api.NewObject("image", i+1, "images", len(items)))
	}
	told.Say("%d images judged, %d were before", done, skipped)
	return api.NewObject("total", len(items), "skipped", skipped, "executed", done, "failed", failed, "latency", round4(time.Since(start).Seconds())), nil
}
