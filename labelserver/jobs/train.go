package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"scrawl/apps/atomicfile"
	"scrawl/apps/finetune"
	"scrawl/apps/interact"
	"scrawl/apps/segment"
	"scrawl/engine/adapt"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/api"
	"scrawl/labelserver/datastore"
	"scrawl/labelserver/versions"
)

// Trainee is a network that can be trained.
type Trainee struct {
	Name, Description string
	// Also are the names of other models that run on the network.
	Also []string
	// Labels are the app's; Classes those of a network with classes, empty for others.
	Labels, Classes []string
}

// Learner is a trainee that is ready to be trained, with the weights that are served.
type Learner struct {
	Trainee
	// Model is a network that segments what is marked, Segment one with classes; one of them is nil. All weights are trainable.
	Model   *interact.Model
	Segment *segment.Model
	// Checksum is that of the weights' file.
	Checksum string
	// Compile makes sessions whose runs leave room for others. Close ends them.
	Compile adapt.Compiler
	Close   func() error
}

func (l *Learner) network() *adapt.Network {
	if l.Segment != nil {
		return l.Segment.Engine.Network()
	}
	return l.Model.Engine.Network()
}

// Networks are what training works on.
type Networks interface {
	// Trainees lists networks. It returns at once.
	Trainees() []Trainee
	// Learner makes one ready.
	Learner(ctx context.Context, name string) (*Learner, error)
	// Publish keeps weights as a new version and serves it.
	Publish(ctx context.Context, name string, onnx []byte, v versions.Version) (versions.Version, error)
}

// Train makes tasks that train networks on the final labels of the datastore.
type Train struct {
	*Data
	Networks Networks
	// Dir keeps checkpoints and the figures of the last training, in a folder for each network.
	Dir string
	// Memory is what decoded images may take.
	Memory int64

	mu sync.Mutex // guards the stats files
}

const (
	checkpointFile = "checkpoint"
	statsFile      = "train_stats.json"
)

// Offers implements Starter. The options are those of MONAI Label's trainers that mean something here, and ours.
func (t *Train) Offers() []Offer {
	d := finetune.Defaults()
	var all []Offer
	for _, n := range t.Networks.Trainees() {
		config := api.NewObject("max_epochs", d.Epochs, "early_stop_patience", d.Patience, "val_split", d.Validation, "train_batch_size", d.Batch,
			"learning_rate", d.LearningRate, "slices_per_case", d.Slices, "replay", d.Replay, "weights", weightGroups, "resume", false)
		if len(n.Classes) == 0 {
			config.Set("labels", append([]string{everyLabel}, n.Labels...))
		}
		labels := n.Classes
		if labels == nil {
			labels = n.Labels
		}
		all = append(all, Offer{Name: n.Name, Description: n.Description, Config: config, Labels: labels, Stats: t.stats(n.Name)})
	}
	return all
}

// weightGroups are offered in this order; everyLabel stands for no choice.
var weightGroups = []string{string(adapt.GroupAll), string(adapt.GroupDecoder), string(adapt.GroupNormalization)}

const everyLabel = "all"

// Prepare implements Starter.
func (t *Train) Prepare(name string, params *api.Object) (*api.Object, Work, error) {
	trainees := t.Networks.Trainees()
	i := slices.IndexFunc(trainees, func(n Trainee) bool { return n.Name == name || slices.Contains(n.Also, name) })
	if i < 0 {
		return nil, nil, notOffered("trainer", name, t.Offers())
	}
	network := trainees[i].Name
	settings, resume, err := readSettings(params)
	if err != nil {
		return nil, nil, err
	}
	request := api.NewObject("model", name)
	request.Merge(params)
	return request, func(ctx context.Context, told *Told) (*api.Object, error) {
		return t.train(ctx, network, settings, resume, request, told)
	}, nil
}

// Resume returns the work of a training that was interrupted.
func (t *Train) Resume(request *api.Object) Work {
	params := request.Clone()
	name, _ := params.Text("model")
	params.Delete("model")
	params.Set("resume", true)
	_, work, err := t.Prepare(name, params)
	if err != nil {
		return nil // the network is gone
	}
	return work
}

// readSettings reads a request's options. Those nobody knows are passed over, as the protocol has it.
func readSettings(params *api.Object) (s finetune.Settings, resume bool, err error) {
	s = finetune.Defaults()
	o := &option{params: params}
	s.Epochs = o.whole("max_epochs", s.Epochs, 1, 10000, "a whole number from 1 to 10000")
	s.Patience = max(o.whole("early_stop_patience", s.Patience, -1, 10000, "a whole number of epochs, or -1 to go on to the end"), 0)
	s.Validation = o.number("val_split", s.Validation, 0, 0.9, "a share from 0.0 to 0.9")
	s.Batch = o.whole("train_batch_size", s.Batch, 1, 64, "a whole number from 1 to 64")
	s.LearningRate = o.number("learning_rate", s.LearningRate, 1e-9, 1, "a number above 0 and at most 1")
	s.Slices = o.whole("slices_per_case", s.Slices, 1, 10000, "a whole number from 1 to 10000")
	s.Replay = o.number("replay", s.Replay, 0, 0.9, "a share from 0.0 to 0.9")
	s.Blend = o.number("blend", s.Blend, 0, 1, "a share from 0.0 (what suits the network) to 1.0")
	s.Seed = uint64(o.whole("seed", int(s.Seed), 0, 1<<31, "a whole number from 0 on"))
	if s.Weights = o.words("weights", weightGroups); len(s.Weights) == 0 {
		s.Weights = finetune.Defaults().Weights
	}
	s.Labels = slices.DeleteFunc(o.words("labels", nil), func(l string) bool { return l == everyLabel })
	resume = o.flag("resume", false)
	if o.err == nil {
		if err := s.Validate(); err != nil {
			return s, false, invalid("%w", err)
		}
	}
	return s, resume, o.err
}

// words reads a list of words, or one text with commas between them. A list that begins with what was offered is an option left
// alone by a client that sends whole lists, and means its first item.
func (o *option) words(name string, offered []string) []string {
	v, there := o.params.Get(name)
	if !there || v == nil {
		return nil
	}
	var words []string
	switch v := v.(type) {
	case string:
		words = strings.Split(v, ",")
	case []any:
		for _, item := range v {
			s, ok := item.(string)
			if !ok {
				o.refuse(name, v, "a list of texts")
				return nil
			}
			words = append(words, s)
		}
		if slices.Equal(words, offered) || len(words) > 1 && words[0] == everyLabel {
			words = words[:1]
		}
	default:
		o.refuse(name, v, "a text, or a list of texts")
		return nil
	}
	for i, w := range words {
		words[i] = strings.TrimSpace(w)
		if len(w) > maxText || len(words) > maxText {
			o.refuse(name, "text", fmt.Sprintf("at most %d words of at most %d bytes", maxText, maxText))
			return nil
		}
	}
	return slices.DeleteFunc(words, func(w string) bool { return w == "" })
}

// train is one training from the labels of the datastore to the version served.
func (t *Train) train(ctx context.Context, name string, s finetune.Settings, resume bool, request *api.Object, told *Told) (*api.Object, error) {
	start := time.Now()
	unlock, err := t.lock(name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	learner, err := t.Networks.Learner(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := learner.Close(); err != nil {
			told.Say("closing the training's sessions: %v", err)
		}
	}()
	cases, err := t.cases(ctx, learner.Labels)
	if err != nil {
		return nil, err
	}
	checkpoint, err := t.checkpoint(name, resume)
	if err != nil {
		return nil, err
	}
	report := &statistics{start: start, settings: s}
	training := finetune.Training{Model: learner.Model, Segment: learner.Segment, Network: learner.network(), Compile: learner.Compile, Cases: cases,
		Settings: s, Memory: t.Memory, Checkpoint: checkpoint, Note: func(line string) { told.Say("%s", line) },
		Progress: func(p finetune.Progress) {
			told.Progress(report.progress(p))
			if p.Done != nil {
				t.keepStats(name, report.object(false), told)
			}
		}}
	result, err := training.Run(ctx)
	if err != nil {
		if ctx.Err() != nil {
			told.Say("stopped; with resume set to true, training goes on from the last whole epoch")
		}
		return nil, err
	}
	report.result = result
	version, err := t.publish(ctx, learner, result, request, told)
	if err != nil {
		return nil, err
	}
	report.version = version
	stats := report.object(true)
	t.keepStats(name, stats, told)
	if err := os.Remove(checkpoint); err != nil && !errors.Is(err, fs.ErrNotExist) {
		told.Say("removing the checkpoint: %v", err)
	}
	return stats, nil
}

// lock keeps other processes from training a network meanwhile: they would write over each other's checkpoints.
func (t *Train) lock(name string) (unlock func(), err error) {
	dir := filepath.Join(t.Dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("folder for training: %w", err)
	}
	l := flock.New(filepath.Join(dir, ".lock"))
	switch got, err := l.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("folder for training: %w", err)
	case !got:
		return nil, fmt.Errorf("another process trains %s already: %w", name, annotation.Busy)
	}
	return func() { _ = l.Unlock() }, nil // closing the file frees the lock in any case
}

// checkpoint is the file that a network's training is saved to, without what is in it unless training is to go on.
func (t *Train) checkpoint(name string, resume bool) (string, error) {
	file := filepath.Join(t.Dir, name, checkpointFile)
	if resume {
		return file, nil
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("old checkpoint: %w", err)
	}
	return file, nil
}

// cases are the images with a final label. Label files without an info are read with the app's labels.
func (t *Train) cases(ctx context.Context, labels []string) ([]finetune.Case, error) {
	pairs, err := t.Store.Labelled(ctx)
	if err != nil {
		return nil, err
	}
	if len(pairs) == 0 {
		return nil, invalid("there is nothing to learn from: no image has a label under the tag %s yet", datastore.TagFinal)
	}
	var cases []finetune.Case
	for _, p := range pairs {
		sum, err := t.checksums.Of(ctx, p.Label, datastore.SHA256)
		if err != nil {
			return nil, fmt.Errorf("label of %s: %w", p.Label.ID, err)
		}
		image, err := annotation.StoredImage(p.Image, nil) // for its version; it is not opened
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", p.Image.ID, err)
		}
		cases = append(cases, finetune.Case{ID: p.Image.ID, Content: image.Version + " " + sum, Open: func(ctx context.Context) (finetune.Labelled, error) {
			return t.open(ctx, p, labels)
		}})
	}
	return cases, nil
}

func (t *Train) open(ctx context.Context, p datastore.Pair, labels []string) (finetune.Labelled, error) {
	v, err := t.image(ctx, p.Image)
	if err != nil {
		return finetune.Labelled{}, err
	}
	m, _, err := t.labelOf(ctx, p.Label.ID, datastore.TagFinal)
	if err != nil {
		return finetune.Labelled{}, err
	}
	return finetune.Labelled{Volume: v, Labels: m, Names: namesOf(p.Label.Info, labels, m.Labels)}, nil
}

// publish serves what has helped.
func (t *Train) publish(ctx context.Context, l *Learner, r *finetune.Result, request *api.Object, told *Told) (*versions.Version, error) {
	if !r.Helped() {
		told.Say("no epoch did better than the weights that are served (Dice %.3f on %d cases set aside): these stay", r.Before.Dice, len(r.Held))
		return nil, nil
	}
	file, err := r.Network.Model(r.Weights)
	if err != nil {
		return nil, err
	}
	data, err := file.Marshal()
	if err != nil {
		return nil, err
	}
	v := versions.Version{Parent: l.Checksum, Origin: versions.Trained, Metrics: metricsOf(r), Details: api.NewObject(
		"task", told.ID(), "epoch", r.Best.Number, "labels", r.Labels, "request", request)}
	pairs, err := t.Store.Labelled(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range pairs {
		held := slices.Contains(r.Held, p.Image.ID)
		if !held && !slices.Contains(r.Trained, p.Image.ID) {
			continue
		}
		sum, err := t.checksums.Of(ctx, p.Label, datastore.SHA256)
		if err != nil {
			return nil, err
		}
		v.Data = append(v.Data, versions.Datum{Image: p.Image.ID, Label: "SHA256:" + sum, Held: held})
	}
	v, err = t.Networks.Publish(ctx, l.Name, data, v)
	if err != nil {
		return nil, err
	}
	if lost := r.Before.Source - r.Best.Source; lost > 0.02 {
		told.Say("on synthetic images, which stand for everything else, Dice has fallen from %.3f to %.3f: a smaller blend keeps more", r.Before.Source, r.Best.Source)
	}
	told.Say("version %d of %s is served: Dice %.3f, before %.3f", v.Number, l.Name, r.Best.Dice, r.Before.Dice)
	return &v, nil
}

func metricsOf(r *finetune.Result) map[string]float64 {
	m := map[string]float64{"val_mean_dice": r.Best.Dice, "val_mean_dice_before": r.Before.Dice, "train_loss": r.Best.Loss}
	for name, d := range r.Best.Labels {
		m["val_"+name+"_mean_dice"] = d
	}
	if r.Before.Source > 0 {
		m["source_mean_dice"], m["source_mean_dice_before"] = r.Best.Source, r.Before.Source
	}
	return m
}

// stats are the figures of a network's last training, an empty object when there was none.
func (t *Train) stats(name string) *api.Object {
	t.mu.Lock()
	defer t.mu.Unlock()
	data, err := os.ReadFile(filepath.Join(t.Dir, name, statsFile))
	if err != nil {
		return &api.Object{}
	}
	o, err := api.DecodeObject(data)
	if err != nil {
		return &api.Object{}
	}
	return o
}

// keepStats writes the figures down. A failure is told: training itself is not worse for it.
func (t *Train) keepStats(name string, stats *api.Object, told *Told) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text, err := api.Encode(stats)
	if err == nil {
		err = atomicfile.Write(filepath.Join(t.Dir, name, statsFile), func(w io.Writer) error { _, err := w.Write(text); return err })
	}
	if err != nil {
		told.Say("writing down the figures: %v", err)
	}
}

// statistics are the figures of a training in the form of MONAI Label's train_stats.json.
type statistics struct {
	start    time.Time
	settings finetune.Settings
	last     finetune.Progress
	epochs   []finetune.Epoch
	result   *finetune.Result
	version  *versions.Version
}

func (s *statistics) progress(p finetune.Progress) *api.Object {
	s.last = p
	if p.Done != nil {
		s.epochs = append(s.epochs, *p.Done)
	}
	total := float64(p.Epochs * p.Steps)
	done := float64((p.Epoch-1)*p.Steps + p.Step)
	o := api.NewObject("epoch", p.Epoch, "epochs", p.Epochs, "step", p.Step, "steps", p.Steps, "percent", int(100*done/max(total, 1)), "loss", round4(p.Loss))
	if n := len(s.epochs); n > 0 {
		o.Set("dice", round4(s.epochs[n-1].Dice))
	}
	return o
}

// object writes the figures down. Members that are not known are left out: Slicer calculates with what it finds.
func (s *statistics) object(finished bool) *api.Object {
	if s.result != nil {
		s.epochs = s.result.Epochs // also those before an interruption
	}
	p := s.last
	o := api.NewObject("rank", 0, "current_epoch", p.Epoch, "current_iteration", p.Step, "total_epochs", s.settings.Epochs, "total_iterations", p.Steps)
	loss, dice := best(s.epochs)
	if n := len(s.epochs); n > 0 {
		e := s.epochs[n-1]
		o.Set("train", api.NewObject("metrics", api.NewObject("train_loss", round4(e.Loss)), "key_metric_name", "train_loss",
			"best_metric", round4(loss.Loss), "best_metric_epoch", loss.Number))
		metrics := api.NewObject("val_mean_dice", round4(e.Dice))
		for _, name := range sortedNames(e.Labels) {
			metrics.Set("val_"+name+"_mean_dice", round4(e.Labels[name]))
		}
		if e.Source > 0 {
			metrics.Set("val_carried_dice", round4(e.Carried))
			metrics.Set("val_first_stroke_dice", round4(e.Stroke))
			metrics.Set("val_corrected_dice", round4(e.Corrected))
			metrics.Set("source_mean_dice", round4(e.Source))
		}
		o.Set("eval", api.NewObject("metrics", metrics, "key_metric_name", "val_mean_dice", "best_metric", round4(dice.Dice), "best_metric_epoch", dice.Number))
		o.Set("epoch", e.Number)
		o.Set("best_metric", round4(dice.Dice))
		o.Set("epochs", history(s.epochs))
	}
	o.Set("start_ts", s.start.Unix())
	elapsed := "current_time"
	if finished {
		elapsed = "total_time"
	}
	o.Set(elapsed, clock(time.Since(s.start)))
	if r := s.result; r != nil {
		o.Set("before", round4(r.Before.Dice))
		o.Set("helped", r.Helped())
		o.Set("cases", api.NewObject("trained", len(r.Trained), "held", len(r.Held), "skipped", len(r.Skipped)))
		if r.Stopped != "" {
			o.Set("stopped", r.Stopped)
		}
	}
	if s.version != nil {
		o.Set("version", s.version.Number)
		o.Set("checksum", s.version.Checksum)
	}
	return o
}

// best finds the epochs with the least loss and with the highest Dice.
func best(epochs []finetune.Epoch) (loss, dice finetune.Epoch) {
	for i, e := range epochs {
		if i == 0 || e.Loss < loss.Loss {
			loss = e
		}
		if i == 0 || e.Dice > dice.Dice {
			dice = e
		}
	}
	return loss, dice
}

func history(epochs []finetune.Epoch) []*api.Object {
	var all []*api.Object
	for _, e := range epochs {
		all = append(all, api.NewObject("epoch", e.Number, "train_loss", round4(e.Loss), "val_mean_dice", round4(e.Dice)))
	}
	return all
}

func sortedNames(m map[string]float64) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func round4(f float64) float64 { return float64(int64(f*1e4+0.5)) / 1e4 }

// clock writes a duration as H:MM:SS.
func clock(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}
