package annotation

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"scrawl/adapters/graphcut"
	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/apps/segment"
	"scrawl/labelserver/api"
)

// Entry is one model that an Annotator serves.
type Entry struct {
	Name, Type, Description string
	// Network names what the entry runs on. Entries of one network share its Model, its Weights and what annotators teach it; only
	// what is known of an image is each entry's own, since clients send each the whole of what was drawn for it. "" means Name.
	Network string
	// Dimension is 2 for answers about one slice, otherwise 3.
	Dimension int
	// Labels are offered to clients, numbered 1..N.
	Labels []string
	// Model is a network that segments what is marked, Segment one with classes of its own, whose labels Labels are. At most one of them is not nil.
	Model   *interact.Model
	Segment *segment.Model
	// Cut are the constants of a model without a network, which learns nothing; Model and Segment are then nil.
	Cut *graphcut.Options
	// Profile is used unless a request asks for another.
	Profile interact.Profile
	// Weights is a hash of the network's file.
	Weights string
	// Device names what the network runs on, for clients to show.
	Device string
}

// Gate bounds how many interactions run at once. Enter waits for its turn in order of arrival, and fails when too many wait or ctx
// ends; the returned function leaves.
type Gate interface {
	Enter(ctx context.Context) (leave func(), err error)
}

// Options say how an Annotator works.
type Options struct {
	// Dir is where lineages are kept.
	Dir string
	// SnapshotBudget is the number of bytes of weights kept per lineage for undo.
	SnapshotBudget int64
	// CacheBytes is how much memory decoded volumes may take.
	CacheBytes int64
	// Timeout ends an interaction that takes longer; 0 means never.
	Timeout time.Duration
	Gate    Gate
	Log     zerolog.Logger
}

// Annotator implements Service on this machine. Locks are taken in the order lineage, gate; none is held while an image is
// decoded.
type Annotator struct {
	served  atomic.Pointer[served]
	o       Options
	journal journal
	images  *imageCache

	mu       sync.Mutex
	lineages map[identity]*held
	learning sync.WaitGroup
}

// held is a lineage with its lock, a channel so that waiting can be given up.
type held struct {
	lock    chan struct{}
	lineage *lineage // nil until read from disk
	used    time.Time
}

// keptLineages is how many lineages stay in memory; others are read back from disk.
const keptLineages = 8

// NewAnnotator serves the given models.
func NewAnnotator(entries []Entry, o Options) (*Annotator, error) {
	if len(entries) == 0 || o.Gate == nil || o.Dir == "" {
		return nil, errors.New("annotator: at least one model, a gate and a folder for what is learned are wanted")
	}
	a := &Annotator{o: o, journal: journal{dir: o.Dir, budget: o.SnapshotBudget},
		images: newImageCache(o.CacheBytes), lineages: map[identity]*held{}}
	s := &served{entries: slices.Clone(entries)}
	for i := range s.entries {
		if e := &s.entries[i]; e.Network == "" {
			e.Network = e.Name
		}
	}
	s.describe()
	a.served.Store(s)
	return a, nil
}

// served is what is served at one moment. It is never changed: a network with other weights makes a new one.
type served struct {
	entries []Entry
	models  []Model
}

func (s *served) describe() {
	s.models = nil
	for _, e := range s.entries {
		s.models = append(s.models, e.describe())
	}
}

// Replace serves other weights under a network's name, from the next request on: change is called with each entry of the network, and
// sets what is new of it, above all Model and Weights. Requests under way end with what they began with. What annotators have taught
// the weights before stays with those: it is there again when they come back.
func (a *Annotator) Replace(network string, change func(*Entry)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := &served{entries: slices.Clone(a.served.Load().entries)}
	found := false
	for i := range next.entries {
		if e := &next.entries[i]; e.Network == network {
			change(e)
			found = true
		}
	}
	if !found {
		return fmt.Errorf("network %q: %w", network, NotFound)
	}
	next.describe()
	a.served.Store(next)
	return nil
}

func (e Entry) describe() Model {
	m := Model{Name: e.Name, Type: e.Type, Dimension: e.Dimension, Description: e.Description}
	for i, l := range e.Labels {
		m.Labels = append(m.Labels, Segment{Name: l, ID: i + 1})
	}
	m.Config = api.NewObject("device", []string{e.Device})
	if e.Type == segmentation {
		m.Config.Set("adapt", true)
		m.Config.Set("largest_cc", false)
		return m
	}
	if e.Cut != nil {
		e.describeCut(m.Config)
		return m
	}
	profiles := []string{string(e.Profile)}
	for _, p := range e.profiles() {
		if p != e.Profile {
			profiles = append(profiles, string(p))
		}
	}
	m.Config.Set("profile", profiles)
	if e.Dimension != 2 {
		m.Config.Set("propagate", []string{propagateVolume, propagateSlice})
	}
	m.Config.Set("reset", []string{resetNothing, resetImage, resetEverything})
	m.Config.Set("largest_cc", false)
	return m
}

// profiles are those that suit the network.
func (e Entry) profiles() []interact.Profile {
	if e.Segment != nil {
		return []interact.Profile{interact.ProfileThesis, interact.ProfileFrozen}
	}
	return []interact.Profile{interact.ProfileHindsight, interact.ProfileThesis, interact.ProfileFrozen}
}

func (e Entry) prepare(v *volume.Volume) interact.Image {
	switch {
	case e.Segment != nil:
		return e.Segment.Prepare(v)
	case e.Model != nil:
		return e.Model.Prepare(v)
	}
	return interact.Image{Volume: v, High: 1} // a cut scales intensities itself
}

// The values of the options that clients offer. They are lists of strings because Slicer's options table shows nothing else.
const (
	propagateVolume = "volume"
	propagateSlice  = "slice"
	resetNothing    = "nothing"
	resetImage      = "this image"
	resetEverything = "everything learned"
)

// Models implements Service.
func (a *Annotator) Models() []Model { return a.served.Load().models }

// Entries are what is served now, in the order of Models.
func (a *Annotator) Entries() []Entry { return slices.Clone(a.served.Load().entries) }

func (a *Annotator) entry(name string) (Entry, error) {
	var names []string
	for _, e := range a.served.Load().entries {
		if e.Name == name {
			return e, nil
		}
		names = append(names, e.Name)
	}
	return Entry{}, fmt.Errorf("model %q: %w; there is %s", name, NotFound, strings.Join(names, ", "))
}

// Infer implements Service.
func (a *Annotator) Infer(ctx context.Context, req *Request) (*Reply, error) {
	if a.o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.o.Timeout)
		defer cancel()
	}
	start := time.Now()
	e, err := a.entry(req.Model)
	if err != nil {
		return nil, err
	}
	req.progress("image")
	img, err := a.images.get(ctx, e, req.Image)
	if err != nil {
		return nil, err
	}
	watch := watch{start: start, pre: time.Since(start)}
	req.progress("wait")
	switch {
	case e.Cut != nil:
		return a.inferCut(ctx, e, img, req, watch)
	case e.Type == segmentation:
		return a.inferAutomatic(ctx, e, img, req, watch)
	case e.Segment != nil:
		return a.inferClasses(ctx, e, img, req, watch)
	case e.Type == deepEdit:
		return a.inferLabels(ctx, e, img, req, watch)
	}
	j, err := newJob(e, img, req)
	if err != nil {
		return nil, err
	}
	outs, err := a.answer(ctx, j)
	if err != nil {
		return nil, err
	}
	a.logged(req, outs, watch)
	return outs[0].reply(j, watch), nil
}

// MONAI Label's types of models whose requests are read in ways of their own; all others send scribbles.
const (
	deepGrow     = "deepgrow"
	deepEdit     = "deepedit"
	segmentation = "segmentation"
)

// watch knows when a request came in and how long its image took.
type watch struct {
	start time.Time
	pre   time.Duration
}

func (a *Annotator) logged(req *Request, outs []outcome, w watch) {
	var answered, carried, learned int
	for _, o := range outs {
		answered += len(o.report.Answered)
		carried += o.report.Carried
		learned += len(o.report.Learned)
	}
	a.o.Log.Info().Str("request", req.ID).Str("model", req.Model).Str("image", req.Image.Key.ID).Int("answered", answered).
		Int("carried", carried).Int("learned", learned).Dur("took", time.Since(w.start)).Msg("interaction")
}

// answer answers the jobs of one request, each on a lineage of its own, all or none of them: nothing is written down before the last
// has its answer. What they show to be accepted is learned from afterwards.
func (a *Annotator) answer(ctx context.Context, jobs ...*job) ([]outcome, error) {
	// Two requests that need the same lineages take them in the same order.
	inOrder := slices.SortedFunc(slices.Values(jobs), func(x, y *job) int { return strings.Compare(x.identity().folder(), y.identity().folder()) })
	var releases []func()
	release := func() {
		for _, r := range releases {
			r()
		}
	}
	for _, j := range inOrder {
		h, r, err := a.hold(ctx, j.identity())
		if err != nil {
			release()
			return nil, err
		}
		j.lineage = h.lineage
		releases = append(releases, r)
	}
	outs := make([]outcome, len(jobs))
	for i, j := range jobs {
		var err error
		if outs[i], err = a.interact(ctx, j.lineage, j); err != nil {
			release()
			return nil, err
		}
	}
	for i, j := range jobs {
		if outs[i].change != nil {
			outs[i].change.entry.Took = time.Since(j.began).Seconds()
		}
		if err := a.apply(j.lineage, j, outs[i].change); err != nil {
			release()
			return nil, err
		}
	}
	for i, j := range inOrder {
		a.learnLater(j.lineage, j, releases[i])
	}
	return outs, nil
}

func (r *Request) progress(stage string) {
	if r.Progress != nil {
		r.Progress(stage, 0, 0)
	}
}

// hold locks a lineage, reading it from disk when it is not in memory. Waiting ends with ctx.
func (a *Annotator) hold(ctx context.Context, id identity) (*held, func(), error) {
	a.mu.Lock()
	h := a.lineages[id]
	if h == nil {
		h = &held{lock: make(chan struct{}, 1)}
		a.lineages[id] = h
	}
	h.used = time.Now()
	a.dropIdle(id)
	a.mu.Unlock()
	select {
	case h.lock <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("wait for the user's earlier interaction: %w", ctx.Err())
	}
	if h.lineage == nil {
		l, err := a.journal.open(id)
		if err != nil {
			<-h.lock
			return nil, nil, err
		}
		h.lineage = l
	}
	return h, func() { <-h.lock }, nil
}

// dropIdle forgets the least recently used lineages in memory. It is called with mu held.
func (a *Annotator) dropIdle(keep identity) {
	for len(a.lineages) > keptLineages {
		var oldest identity
		var found *held
		for id, h := range a.lineages {
			if id != keep && len(h.lock) == 0 && (found == nil || h.used.Before(found.used)) {
				oldest, found = id, h
			}
		}
		if found == nil {
			return
		}
		delete(a.lineages, oldest)
	}
}

// outcome is the answer to a job.
type outcome struct {
	mask   []bool     // of one object
	labels []uint8    // or the label numbers of a network with classes
	state  imageState // that the answer leaves the image in
	report interact.Report
	// windows is how many windows a network with classes has learned from.
	windows int
	undone  bool
	note    string
	change  *change // nil when there is nothing to write down
}

// change is what an outcome makes of its lineage.
type change struct {
	entry   entry
	state   imageState
	learned interact.Learned
	write   bool // learned is new, not one on record
}

// interact answers a job on a lineage whose lock is held.
func (a *Annotator) interact(ctx context.Context, l *lineage, j *job) (outcome, error) {
	if err := a.reset(l, j); err != nil {
		return outcome{}, err
	}
	state, err := a.stateOf(l, j.stateKey)
	if err != nil {
		return outcome{}, err
	}
	j.keepOtherSlices(state.State)
	edited := j.entry.Segment == nil && interact.Edited(j.img.Image, j.request(), state.State) || j.entry.Segment != nil && j.classEdits(state) != nil
	if !edited {
		if out, ok, err := a.repeat(l, j, state); ok || err != nil {
			return out, err
		}
	}
	if j.entry.Segment != nil {
		return a.interactClasses(ctx, l, j, state)
	}
	leave, err := a.o.Gate.Enter(ctx)
	if err != nil {
		return outcome{}, fmt.Errorf("wait for the device: %w", err)
	}
	defer leave()
	result, learned, known, err := j.entry.Model.Interact(ctx, j.img.Image, j.request(), l.learned, state.State)
	if err != nil {
		return outcome{}, err
	}
	l.noteLoss(result.Report)
	if j.largest {
		// What the client does not get it will not send back, and that is no edit by hand.
		known.Answer = j.largestPart(known.Answer)
	}
	next := imageState{State: known}
	return outcome{mask: known.Answer, state: next, report: result.Report, change: newChange(l, j, next, learned)}, nil
}

// repeat answers what needs no thinking: the same strokes again, or strokes that were answered before (undo and redo).
func (a *Annotator) repeat(l *lineage, j *job, state imageState) (outcome, bool, error) {
	last, known := l.last(j.stateKey)
	if known && last.Strokes == j.key() && state.answered() && j.reset == resetNothing {
		if j.asksOtherwise(state) {
			return outcome{}, false, nil
		}
		out := j.onRecord(state)
		out.note = "the same strokes again: nothing was learned"
		return out, true, nil
	}
	found, newest, ok := l.earlier(j.stateKey, j.key(), j.emptyKey())
	if !ok {
		return outcome{}, false, nil
	}
	old, err := a.journal.state(l, found)
	if err != nil {
		return outcome{}, false, err
	}
	if j.entry.Segment != nil && !old.answered() {
		return outcome{}, false, nil // the untouched image has an answer of its own
	}
	out := j.onRecord(old)
	out.undone, out.note = true, "went back to an earlier state"
	e := entry{Seq: len(l.log) + 1, Time: time.Now(), Image: j.stateKey, Key: j.imageKey, Strokes: j.key(), StateOf: found.StateOf, Learned: l.head().Learned, Undo: true}
	learned := l.learned
	if newest {
		switch back, err := a.journal.learned(l, found.Learned); {
		case err == nil:
			learned, e.Learned = back, found.Learned
		case errors.Is(err, errThinned):
			out.note += "; " + err.Error() + ", so the present ones stay"
		default:
			return outcome{}, false, err
		}
	} else {
		out.note += "; weights stay, since other images were learned from after it"
	}
	out.change = &change{entry: e, state: old, learned: learned}
	return out, true, nil
}

// onRecord is the answer that a state holds.
func (j *job) onRecord(s imageState) outcome {
	out := outcome{state: s}
	if j.entry.Segment != nil {
		out.labels = s.Classes.Labels
		return out
	}
	if out.mask = s.Answer; out.mask == nil {
		out.mask = make([]bool, len(j.img.Volume.Voxels))
	}
	out.mask = j.limited(out.mask)
	return out
}

// learnLater learns, while the user looks at the answer, from the slices the interaction has shown to be accepted. It keeps the
// lineage's lock: the user's next interaction waits for it and so always sees the same weights, however fast it comes.
func (a *Annotator) learnLater(l *lineage, j *job, release func()) {
	state := l.states[j.stateKey]
	if j.entry.Model == nil || !j.entry.Model.HasLesson(j.options, state.State) {
		release()
		return
	}
	a.learning.Go(func() {
		defer release()
		ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
		defer cancel()
		if err := a.learn(ctx, l, j, j.entry.Model.Learn, state); err != nil {
			a.o.Log.Error().Err(err).Str("image", j.imageKey.ID).Msg("learn from accepted slices")
		}
	})
}

// lesson is interact.Model's Learn or Finish.
type lesson func(context.Context, interact.Image, interact.Options, interact.Learned, interact.State) (interact.Learned, interact.State, interact.Report, error)

// learn runs a lesson and makes what came of it durable. The lineage's lock is held.
func (a *Annotator) learn(ctx context.Context, l *lineage, j *job, run lesson, state imageState) error {
	leave, err := a.o.Gate.Enter(ctx)
	if err != nil {
		return fmt.Errorf("wait for the device: %w", err)
	}
	defer leave()
	start := time.Now()
	learned, next, report, err := run(ctx, j.img.Image, j.options, l.learned, state.State)
	if err != nil || learned == l.learned {
		return err
	}
	l.noteLoss(report)
	a.o.Log.Info().Str("image", j.imageKey.ID).Int("slices", len(report.Learned)).Dur("took", time.Since(start)).Msg("learned")
	return a.apply(l, j, newChange(l, j, imageState{State: next}, learned))
}

func (a *Annotator) stateOf(l *lineage, image string) (imageState, error) {
	if s, ok := l.states[image]; ok {
		return s, nil
	}
	e, ok := l.last(image)
	if !ok {
		return imageState{}, nil
	}
	s, err := a.journal.state(l, e)
	if err == nil {
		l.remember(image, s)
	}
	return s, err
}

// keptStates is how many images' states a lineage keeps in memory.
const keptStates = 2

func (l *lineage) remember(image string, s imageState) {
	if _, ok := l.states[image]; !ok && len(l.states) >= keptStates {
		clear(l.states)
	}
	l.states[image] = s
}

func newChange(l *lineage, j *job, state imageState, learned interact.Learned) *change {
	seq := len(l.log) + 1
	c := &change{state: state, learned: learned, write: learned != l.learned,
		entry: entry{Seq: seq, Time: time.Now(), Image: j.stateKey, Key: j.imageKey, Strokes: j.key(), StateOf: seq, Learned: l.head().Learned}}
	if c.write {
		c.entry.Learned = seq
	}
	return c
}

// apply makes a change durable and then current.
func (a *Annotator) apply(l *lineage, j *job, c *change) error {
	if c == nil {
		return nil
	}
	var written *interact.Learned
	if c.write {
		written = &c.learned
	}
	if err := a.journal.commit(l, c.entry, c.state, written); err != nil {
		return err
	}
	l.learned = c.learned
	l.remember(j.stateKey, c.state)
	return nil
}

// reset does what the request's reset option asks for.
func (a *Annotator) reset(l *lineage, j *job) error {
	switch j.reset {
	case resetImage:
		e := entry{Seq: len(l.log) + 1, Time: time.Now(), Image: j.stateKey, Key: j.imageKey, Learned: l.head().Learned, Forgotten: true}
		delete(l.states, j.stateKey)
		if _, known := l.last(j.stateKey); !known {
			return nil
		}
		return a.journal.commit(l, e, imageState{}, nil)
	case resetEverything:
		return a.journal.erase(l)
	}
	return nil
}

// Forget implements Service.
func (a *Annotator) Forget(ctx context.Context, image ImageKey) error {
	a.images.drop(image)
	for _, e := range a.Entries() {
		if engine := e.Engine(); engine != nil {
			engine.ForgetEmbeddings() // they are kept by content, not by image
		}
	}
	return a.eachLineage(ctx, func(l *lineage) error {
		for _, key := range l.imagesCalled(image) {
			e := entry{Seq: len(l.log) + 1, Time: time.Now(), Image: key, Key: image, Learned: l.head().Learned, Forgotten: true}
			if err := a.journal.forget(l, key, e); err != nil {
				return fmt.Errorf("forget image %q: %w", image.ID, err)
			}
		}
		return nil
	})
}

// imagesCalled lists the state keys of what was worked on under an image's name and not forgotten.
func (l *lineage) imagesCalled(key ImageKey) []string {
	var hashes []string
	seen := map[string]bool{}
	for _, e := range l.log {
		if e.Key == key && !seen[e.Image] {
			seen[e.Image] = true
			if _, live := l.last(e.Image); live {
				hashes = append(hashes, e.Image)
			}
		}
	}
	return hashes
}

// eachLineage calls f for every lineage on disk, holding its lock.
func (a *Annotator) eachLineage(ctx context.Context, f func(*lineage) error) error {
	ids, err := a.journal.identities()
	if err != nil {
		return fmt.Errorf("list what was learned: %w", err)
	}
	for _, id := range ids {
		h, release, err := a.hold(ctx, id)
		if err != nil {
			return err
		}
		err = f(h.lineage)
		release()
		if err != nil {
			return err
		}
	}
	return nil
}

// Submitted implements Service: a finished label is the user's word that all slices are right, so what has not been learned yet is
// learned now, behind the user's back. Close waits for it.
func (a *Annotator) Submitted(_ context.Context, s Submission) error {
	if s.Tag != "final" {
		return nil
	}
	a.learning.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
		defer cancel()
		err := a.eachLineage(ctx, func(l *lineage) error {
			if l.id.User != s.ClientID {
				return nil
			}
			for _, key := range l.imagesCalled(s.Image) {
				if err := a.finish(ctx, l, key, s.Image); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			a.o.Log.Error().Err(err).Str("image", s.Image.ID).Msg("learn from the submitted label")
		}
	})
	return nil
}

// finishTimeout bounds learning from a submitted label.
const finishTimeout = 5 * time.Minute

func (a *Annotator) finish(ctx context.Context, l *lineage, key string, image ImageKey) error {
	e, ok := a.entryOf(l.id, key)
	if !ok || e.Model == nil {
		return nil // the model is not served any more, or learns within its interactions alone
	}
	img, ok := a.images.cached(image, hashOfKey(key))
	if !ok {
		return nil // long out of use; its slices stay accepted but unlearned
	}
	state, err := a.stateOf(l, key)
	if err != nil {
		return err
	}
	last, _ := l.last(key)
	j := &job{entry: e, img: img, imageKey: image, stateKey: key, strokesKey: last.Strokes, options: interact.Options{Profile: e.Profile}}
	return a.learn(ctx, l, j, e.Model.Finish, state)
}

// entryOf finds the entry that a lineage's state of an image belongs to, if it is still served with the same network.
func (a *Annotator) entryOf(id identity, key string) (Entry, bool) {
	for _, e := range a.served.Load().entries {
		if e.Network == id.Model && e.Weights == id.Weights && e.Segment == nil && stateKey(e, hashOfKey(key)) == key {
			return e, true
		}
	}
	return Entry{}, false
}

// Close waits until everything submitted has been learned.
func (a *Annotator) Close() { a.learning.Wait() }

// stateKey names what an entry knows of an image: the hash of its content, and the entry beside it where that is not its network's
// first.
func stateKey(e Entry, hash string) string {
	if e.Name == e.Network {
		return hash
	}
	return hash + "@" + e.Name
}

func hashOfKey(key string) string {
	hash, _, _ := strings.Cut(key, "@")
	return hash
}

// emptyKey is the key of an untouched image.
func (j *job) emptyKey() string {
	if j.entry.Segment != nil {
		return segment.Key(nil)
	}
	return scribble.Set{Size: j.img.Volume.Size}.Key()
}

func hashText(v *volume.Volume) string {
	h := v.Hash()
	return hex.EncodeToString(h[:])
}
