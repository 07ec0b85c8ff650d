// Package finetune trains a network that is being served on images that people have labelled, so that the next images need less
// work. It joins images and labels to the trainer of [scrawl/engine/train].
//
// # What is learned
//
// A network that sees strokes learns to answer them, object by object: a slice and the mask of a labelled object make an
// example, a simulated annotator ([scrawl/apps/simulate]) draws what a person would, the network answers, the annotator
// corrects. A third of the examples come without strokes and with the neighbouring slice's mask, as when an object is
// carried through a volume; some of those lie just beyond the object's end and must be answered with nothing. A network
// that sees the image alone learns every pixel's class.
//
// # What is kept
//
// Ten volumes are few, and a network that forgets how to follow strokes on anything else is worth less than before. So a
// network that sees strokes meets synthetic examples ([scrawl/apps/synth], which it comes from) in between, and all train
// slowly, with the average of the weights on the way as the result, of which such a network takes over half (Wortsman et al.,
// "Robust fine-tuning of zero-shot models", 2022, who found that the middle between two sets of weights keeps most of what either
// can). Nothing is kept that does not help: some cases
// are set aside, by a hash of their names so that a case never changes sides, and the weights after the best epoch on
// those win only when they beat the weights that training began with.
//
// # Bounds
//
// Images are decoded one after the other and kept within a budget of bytes. All runs of the network go through the compiler
// that is handed in, one small run each, so that whoever makes it decides who else may run in between.
package finetune

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/apps/segment"
	"scrawl/engine/adapt"
	"scrawl/engine/tensor"
	"scrawl/engine/train"
)

// Labelled is an image with its labels, decoded.
type Labelled struct {
	Volume *volume.Volume
	Labels *volume.LabelMap // on the volume's grid
	// Names of the numbers in Labels; numbers without a name are background.
	Names map[uint16]string
}

// Case is a labelled image to learn from. Open decodes it each time it is called. Content changes when what it decodes does, such as
// checksums of its files: training goes on from a checkpoint only with the same.
//
// Held sets a case aside to judge by. Where any case is held, all of those and no others are; otherwise the settings' share is.
type Case struct {
	ID, Content string
	Held        bool
	Open        func(ctx context.Context) (Labelled, error)
}

// Settings say how to train. Defaults gives what works.
type Settings struct {
	// Epochs is the largest number of epochs, in each of which Slices slices of every case are seen.
	Epochs, Slices int
	// Validation is the share of cases set aside: at least one where there are two, none when it is 0.
	Validation float64
	// Patience is the number of epochs without a better figure after which training stops; 0 never stops early.
	Patience int
	// LearningRate is AdamW's, at its peak. Batch is the number of slices in a step.
	LearningRate float64
	Batch        int
	// Weights are those that move: one of adapt's groups, or patterns of names.
	Weights []string
	// Labels to learn; none means all that the cases have. A network of one object that sees the image alone takes one.
	Labels []string
	// Replay is the share of steps on synthetic examples, of networks that see strokes.
	Replay float64
	// Blend is the share of the way from the weights that training began with to the trained ones that is gone: 1 takes over all, less
	// keeps more of what the network could do before. 0 is what suits the network: half of the way for one that sees strokes,
	// which everybody uses for everything, and all of it for others.
	Blend float64
	// Window bounds the side of windows in pixels, for networks with classes that take any size; 0 is 256 for slices and 64 for volumes.
	Window int
	// Mirror turns examples around at random also for networks that see the image alone, where left and right, up and down mean
	// nothing. Networks that see strokes are always trained so.
	Mirror bool
	// Intensity is how strongly the examples' intensities are changed, 1 being what scanners of one kind differ by. Invert is the share of
	// examples shown as their negatives, for a network that is to know objects whether they are brighter or darker than what is around them.
	Intensity, Invert float64
	Seed              uint64
}

// Defaults returns the settings that the measurements in the package's tests and the README were made with.
func Defaults() Settings {
	return Settings{Epochs: 30, Slices: 8, Validation: 0.2, Patience: 8, LearningRate: 3e-4, Batch: 4,
		Weights: []string{string(adapt.GroupAll)}, Replay: 0.25, Intensity: 1, Seed: 1}
}

// Validate reports the first setting that makes no sense.
func (s Settings) Validate() error {
	switch {
	case s.Epochs < 1 || s.Epochs > 10000:
		return fmt.Errorf("%d epochs: 1 to 10000 are wanted", s.Epochs)
	case s.Slices < 1 || s.Slices > 10000:
		return fmt.Errorf("%d slices of each case an epoch: 1 to 10000 are wanted", s.Slices)
	case !(s.Validation >= 0 && s.Validation < 1):
		return fmt.Errorf("validation share %g: 0 to below 1 is wanted", s.Validation)
	case s.Patience < 0:
		return fmt.Errorf("patience of %d epochs: 0 (never stop early) or more is wanted", s.Patience)
	case !(s.LearningRate > 0 && s.LearningRate <= 1):
		return fmt.Errorf("learning rate %g: above 0 and at most 1 is wanted", s.LearningRate)
	case s.Batch < 1 || s.Batch > 64:
		return fmt.Errorf("batches of %d: 1 to 64 are wanted", s.Batch)
	case !(s.Replay >= 0 && s.Replay < 1):
		return fmt.Errorf("replay share %g: 0 to below 1 is wanted", s.Replay)
	case !(s.Blend >= 0 && s.Blend <= 1):
		return fmt.Errorf("blend %g: a share from 0 (what suits the network) to 1 is wanted", s.Blend)
	case !(s.Intensity >= 0 && s.Intensity <= 5) || !(s.Invert >= 0 && s.Invert <= 1):
		return fmt.Errorf("intensities changed by %g and a share of negatives of %g: 0 to 5, and 0 to 1, are wanted", s.Intensity, s.Invert)
	case s.Window != 0 && (s.Window < 16 || s.Window > 4096):
		return fmt.Errorf("windows of %d pixels: 0 (what suits the network) or 16 to 4096 are wanted", s.Window)
	case len(s.Weights) == 0:
		return errors.New("no weights are named: all, decoder, normalization or patterns of names are wanted")
	}
	return nil
}

// Figures are Dice coefficients over the cases set aside (or, when none are, over those learned from).
type Figures struct {
	// Dice is the mean over labels, of each the mean over cases: what training tries to raise.
	Dice float64
	// Labels holds the mean by name.
	Labels map[string]float64
	// Carried, Stroke and Corrected are the means, of a network that sees strokes, with a neighbour's mask and no stroke, after a
	// first stroke, and after a correction.
	Carried, Stroke, Corrected float64
	// Source is the Dice on synthetic examples: what the network can do elsewhere. 0 for networks that see the image alone.
	Source float64
}

// Epoch is what one epoch did.
type Epoch struct {
	Number int
	Loss   float64 // mean over its steps
	Figures
	Seconds float64
}

// Progress is told after every step, and at the end of every epoch.
type Progress struct {
	Epoch, Epochs int // 1 … Epochs
	Step, Steps   int // of the epoch
	Loss          float64
	// Done is the epoch that has just ended, nil otherwise.
	Done *Epoch
}

// Result is what training came to.
type Result struct {
	Before   Figures // of the weights that training began with
	Best     Epoch   // the epoch whose weights are in Model's; Number 0 when none helped
	Epochs   []Epoch
	Weights  adapt.Weights // of Network
	Network  *adapt.Network
	Trained  []string // cases learned from
	Held     []string // cases set aside
	Skipped  []string // cases that could not be used, with the reason
	Labels   []string // learned
	Stopped  string   // why it ended before the last epoch; "" when it did not
	Settings Settings
}

// Helped reports whether the weights are better than those that training began with. Without cases set aside nobody can tell, and
// they count as better.
func (r *Result) Helped() bool {
	return r.Best.Number > 0 && (len(r.Held) == 0 || r.Best.Dice > r.Before.Dice)
}

// Training is a training that is ready to run. Its fields may be set until Run.
type Training struct {
	// Model says how the network sees images, or Segment for a network with classes. Its engine is not used.
	Model   *interact.Model
	Segment *segment.Model
	// Network is trained, from its own weights on. All its trainable weights may be chosen from.
	Network  *adapt.Network
	Compile  adapt.Compiler
	Cases    []Case
	Settings Settings
	// Memory is how many bytes decoded images may take.
	Memory int64
	// Checkpoint is a file that training is saved to after every epoch and goes on from; "" saves nothing.
	Checkpoint string
	// Progress and Note may be nil. Note is told in words what happens.
	Progress func(Progress)
	Note     func(string)
}

// run is a training under way.
type run struct {
	*Training
	network *adapt.Network  // with the chosen weights only
	engine  *adapt.Engine   // of it
	model   *interact.Model // with that engine, or nil
	segment *segment.Model  // likewise
	patch   []int           // of windows, for networks with classes that take any
	trainer *train.Trainer
	pool    *pool
	replay  *replay
	labels  []string
	classes map[string]uint16
	train   []*surveyed
	held    []*surveyed
	state   progress
	result  *Result
}

// progress is what a checkpoint holds beside the trainer.
type progress struct {
	Epoch   int // finished
	Before  Figures
	Best    Epoch
	Weights [][]float32
	Epochs  []Epoch
	Key     string // of everything that must not change
}

// Run trains until the last epoch, until nothing gets better, or until ctx ends, with whose error it then returns; a checkpoint
// keeps what was done.
func (t *Training) Run(ctx context.Context) (*Result, error) {
	r, err := t.prepare(ctx)
	if err != nil {
		return nil, err
	}
	defer r.replay.close()
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	for r.state.Epoch < r.Settings.Epochs {
		if err := r.epoch(ctx); err != nil {
			return nil, err
		}
		if p := r.Settings.Patience; p > 0 && len(r.held) > 0 && r.state.Epoch-r.state.Best.Number >= p {
			r.result.Stopped = fmt.Sprintf("no better for %d epochs", p)
			break
		}
	}
	return r.finish()
}

// Measure finds out how good the network's own weights are on all the cases, as training would on those set aside.
func (t *Training) Measure(ctx context.Context) (Figures, error) {
	r, err := t.prepare(ctx)
	if err != nil {
		return Figures{}, err
	}
	defer r.replay.close()
	r.held = append(r.held, r.train...)
	return r.measure(ctx, r.network.Source())
}

// prompted reports a network that sees strokes.
func (r *run) prompted() bool { return r.model != nil && r.model.Input.Conditioned() }

func (t *Training) note(format string, args ...any) {
	if t.Note != nil {
		t.Note(fmt.Sprintf(format, args...))
	}
}

// chosen are the weights that the settings name.
func (t *Training) chosen() ([]string, error) {
	if w := t.Settings.Weights; len(w) == 1 {
		switch g := adapt.Group(w[0]); g {
		case adapt.GroupAll, adapt.GroupDecoder, adapt.GroupNormalization:
			return t.Network.Group(g)
		}
	}
	return t.Network.Match(t.Settings.Weights...)
}

func (t *Training) prepare(ctx context.Context) (*run, error) {
	if err := t.Settings.Validate(); err != nil {
		return nil, err
	}
	names, err := t.chosen()
	if err != nil {
		return nil, err
	}
	r := &run{Training: t, result: &Result{Settings: t.Settings}}
	if r.network, err = t.Network.Restrict(names); err != nil {
		return nil, err
	}
	channels := []int{0}
	if t.Model != nil {
		channels = t.Model.Input.ImageChannels()
	}
	engine, err := adapt.NewEngine(r.network, channels, t.Compile)
	if err != nil {
		return nil, err
	}
	if t.Segment != nil {
		s := *t.Segment
		s.Engine = engine
		r.segment = &s
	} else {
		m := *t.Model
		m.Engine = engine
		r.model = &m
	}
	r.engine, r.pool = engine, &pool{run: r}
	if err := r.survey(ctx); err != nil {
		return nil, err
	}
	steps := r.Settings.Epochs * r.steps()
	r.trainer = train.NewTrainer(engine, train.Options{Batch: t.Settings.Batch, LearningRate: t.Settings.LearningRate,
		Warmup: min(20, steps/10+1), WeightDecay: 1e-4, ClipNorm: 1, Average: 0.98})
	if r.prompted() {
		r.replay = &replay{input: t.Model.Input, settings: t.Settings}
	}
	return r, nil
}

// steps is the number of steps of one epoch on cases; replay comes on top.
func (r *run) steps() int {
	return max((len(r.train)*r.Settings.Slices+r.Settings.Batch-1)/r.Settings.Batch, 1)
}

// replays is the number of steps of one epoch on synthetic examples.
func (r *run) replays() int {
	if r.replay == nil {
		return 0
	}
	share := r.Settings.Replay
	return int(math.Round(float64(r.steps()) * share / (1 - share)))
}

// begin measures the weights that training begins with, or goes on from a checkpoint.
func (r *run) begin(ctx context.Context) error {
	resumed, err := r.load()
	if err != nil {
		return err
	}
	if resumed {
		r.note("going on after epoch %d of %d, the best so far with Dice %.3f", r.state.Epoch, r.Settings.Epochs, r.state.Best.Dice)
		return nil
	}
	if r.state.Before, err = r.measure(ctx, r.network.Source()); err != nil {
		return err
	}
	r.note("%d cases to learn from, %d set aside, labels %v; Dice before training %.3f", len(r.train), len(r.held), r.labels, r.state.Before.Dice)
	r.state.Best = Epoch{Figures: r.state.Before}
	return nil
}

func (r *run) epoch(ctx context.Context) error {
	start := time.Now()
	number := r.state.Epoch + 1
	steps, replays := r.steps(), r.replays()
	total, loss, done := steps+replays, 0.0, 0
	learn := func(b train.Batch) error {
		fraction := (float64(number-1) + float64(done)/float64(total)) / float64(r.Settings.Epochs)
		l, err := r.trainer.Learn(ctx, b, fraction)
		if err != nil {
			return fmt.Errorf("epoch %d, step %d: %w", number, done+1, err)
		}
		done++
		loss += (l - loss) / float64(done)
		if r.Progress != nil {
			r.Progress(Progress{Epoch: number, Epochs: r.Settings.Epochs, Step: done, Steps: total, Loss: loss})
		}
		return nil
	}
	replayed := 0
	err := r.batches(ctx, number, steps, func(b train.Batch) error {
		if err := learn(b); err != nil {
			return err
		}
		for replayed < replays && replayed*steps < (done-replayed)*replays {
			b, err := r.replay.next(ctx, r.trainer)
			if err != nil {
				return err
			}
			replayed++
			if err := learn(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	kept := r.blended(r.trainer.Weights())
	figures, err := r.measure(ctx, kept)
	if err != nil {
		return err
	}
	e := Epoch{Number: number, Loss: loss, Figures: figures, Seconds: time.Since(start).Seconds()}
	r.state.Epoch = number
	r.state.Epochs = append(r.state.Epochs, e)
	if e.Dice > r.state.Best.Dice || len(r.held) == 0 {
		r.state.Best, r.state.Weights = e, floats(kept)
	}
	if err := r.save(); err != nil {
		return err
	}
	r.note("epoch %d of %d: loss %.3f, Dice %.3f (best %.3f after epoch %d), %.0f s", number, r.Settings.Epochs, loss, e.Dice, r.state.Best.Dice, r.state.Best.Number, e.Seconds)
	if r.Progress != nil {
		r.Progress(Progress{Epoch: number, Epochs: r.Settings.Epochs, Step: done, Steps: total, Loss: loss, Done: &e})
	}
	return nil
}

// blended are the weights between those that training began with and trained ones.
func (r *run) blended(trained adapt.Weights) adapt.Weights {
	share := float32(r.Settings.Blend)
	switch {
	case share == 0 && r.prompted():
		share = 0.5
	case share == 0 || share == 1:
		return trained
	}
	w := make(adapt.Weights, len(trained))
	for i, source := range r.network.Source() {
		w[i] = tensor.ZerosLike(source)
		from, to := source.Float32s(), trained[i].Float32s()
		for k := range from {
			w[i].Float32s()[k] = from[k] + share*(to[k]-from[k])
		}
	}
	return w
}

func (r *run) finish() (*Result, error) {
	res := r.result
	res.Before, res.Best, res.Epochs = r.state.Before, r.state.Best, r.state.Epochs
	res.Network, res.Weights, res.Labels = r.network, r.network.Source(), r.labels
	if r.state.Weights != nil {
		w, err := weightsOf(r.network, r.state.Weights)
		if err != nil {
			return nil, err
		}
		res.Weights = w
	}
	for _, c := range r.train {
		res.Trained = append(res.Trained, c.ID)
	}
	for _, c := range r.held {
		res.Held = append(res.Held, c.ID)
	}
	slices.Sort(res.Trained)
	slices.Sort(res.Held)
	return res, nil
}
