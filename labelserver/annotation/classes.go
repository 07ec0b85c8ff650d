package annotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"scrawl/adapters/morph"
	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/apps"
	"scrawl/apps/interact"
	"scrawl/apps/segment"
	"scrawl/labelserver/api"
)

// This file answers requests to networks that have classes of their own. What a user teaches such a network is one lineage over all
// its labels, since each stroke moves the weights that answer for all of them. What was drawn for one label stays apart from what
// was drawn for the next: clients that draw one segment at a time send no other.

// allLabels stands for the label in the identity of a lineage of a network with classes.
const allLabels = "*"

// lineageLabel is the label in a lineage's identity: a network with classes learns all of them in one.
func (e Entry) lineageLabel(label string) string {
	if e.Segment != nil {
		return allLabels
	}
	return label
}

// inferClasses answers strokes or clicks on a network with classes.
func (a *Annotator) inferClasses(ctx context.Context, e Entry, img *image, req *Request, w watch) (*Reply, error) {
	j, err := classJob(e, img, req)
	if err != nil {
		return nil, err
	}
	outs, err := a.answer(ctx, j)
	if err != nil {
		return nil, err
	}
	a.logged(req, outs, w)
	out := outs[0]
	told := out.told(j)
	if e.Type == deepEdit {
		return classReply(j, out.labels, told, w), nil
	}
	one := &outcome{mask: make([]bool, len(out.labels))}
	number := uint8(slices.Index(e.Labels, j.label) + 1)
	box := segmentBox(j)
	for i, l := range out.labels {
		one.mask[i] = l == number && (j.protected == nil || !j.protected[i]) && box(i)
	}
	reply := one.reply(j, w)
	reply.Params.Set("scrawl", told)
	return reply, nil
}

// classJob reads what was drawn for which class.
func classJob(e Entry, img *image, req *Request) (*job, error) {
	j, err := bareJob(e, img, req)
	if err != nil {
		return nil, err
	}
	if e.Type == deepEdit {
		return j, j.readClassClicks(req)
	}
	class, err := j.readClass()
	if err != nil {
		return nil, err
	}
	if err := j.readDrawn(req); err != nil {
		return nil, err
	}
	j.stateKey = classKey(e, img.hash, j.label)
	j.setMarks(segment.Mark{Class: class, Strokes: j.strokes})
	return j, nil
}

// classKey names what is known of an image by one model for one label.
func classKey(e Entry, hash, label string) string { return hash + "@" + e.Name + "/" + label }

// readClass finds the class that is drawn, and gives the label the model's spelling.
func (j *job) readClass() (class int, err error) {
	if j.label == "" && len(j.entry.Labels) == 1 {
		j.label = j.entry.Labels[0]
	}
	for _, l := range j.entry.Labels {
		if apps.FoldLabel(l) == apps.FoldLabel(j.label) {
			j.label = l
			class, _ = j.entry.Segment.ClassOf(l)
			return class, nil
		}
	}
	return 0, fmt.Errorf("label %q: %w; model %s knows %s", j.label, Invalid, j.entry.Name, strings.Join(j.entry.Labels, ", "))
}

func (j *job) readClassClicks(req *Request) error {
	var marks []segment.Mark
	all := append(clicksByLabel(j.label, req), LabelClicks{Name: "background", Clicks: req.Background})
	for _, l := range all {
		class := 0
		if apps.FoldLabel(l.Name) != "background" {
			one := *j
			one.label = l.Name
			var err error
			if class, err = one.readClass(); err != nil {
				return err
			}
		}
		if len(l.Clicks) == 0 {
			continue
		}
		set, err := j.clicks(coordinates(l.Clicks), nil)
		if err != nil {
			return fmt.Errorf("label %q: %w", l.Name, err)
		}
		marks = append(marks, segment.Mark{Class: class, Strokes: set})
	}
	j.setMarks(marks...)
	return nil
}

// setMarks takes what was drawn, as far as it lies in the box.
func (j *job) setMarks(marks ...segment.Mark) {
	for _, m := range marks {
		if j.box != nil {
			m.Strokes = m.Strokes.Within(*j.box)
		}
		if !m.Strokes.Empty() {
			j.marks = append(j.marks, m)
			j.strokes = j.strokes.Merge(m.Strokes)
		}
	}
	j.strokesKey = segment.Key(j.marks)
}

// turn lets others in between the windows of a large volume.
func (a *Annotator) turn(ctx context.Context, work func() error) error {
	leave, err := a.o.Gate.Enter(ctx)
	if err != nil {
		return fmt.Errorf("wait for the device: %w", err)
	}
	defer leave()
	return work()
}

// turns is turn, with progress told after each window.
func (a *Annotator) turns(j *job) segment.Turn {
	if j.progress == nil {
		return a.turn
	}
	done, total := 0, j.entry.Segment.Windows(j.img.Volume.Geometry)
	j.progress("slices", 0, total)
	return func(ctx context.Context, work func() error) error {
		err := a.turn(ctx, work)
		done++
		j.progress("slices", min(done, total), total)
		return err
	}
}

// interactClasses is interact for a network with classes.
func (a *Annotator) interactClasses(ctx context.Context, l *lineage, j *job, state imageState) (outcome, error) {
	var known segment.State
	if state.Classes != nil {
		known = *state.Classes
	}
	start := time.Now()
	req := segment.Request{Marks: j.marks, Edits: j.classEdits(state), Frozen: j.options.Profile == interact.ProfileFrozen, PartOnly: j.options.SliceOnly}
	base, undone, err := a.beforeImage(l, j)
	if err != nil {
		return outcome{}, err
	}
	before := segment.Learned{Sets: base.Sets, Interactions: base.Interactions}
	after, next, report, err := j.entry.Segment.Interact(ctx, j.img.Image, req, before, known, a.turns(j))
	if err != nil {
		return outcome{}, err
	}
	if j.largest {
		next.Labels = largestOfEach(next.Labels, j.img.Volume.Size, j.strokes)
	}
	learned := interact.Learned{Sets: after.Sets, Interactions: after.Interactions}
	if after == before {
		learned = base
	}
	out := outcome{labels: next.Labels, state: imageState{Classes: &next}}
	out.report = interact.Report{Diverged: report.Diverged, Thesis: report.Thesis, Seconds: map[string]float64{"slices": time.Since(start).Seconds()}}
	out.windows = report.Windows
	out.change = newChange(l, j, out.state, learned)
	if undone != nil {
		out.undone, out.note = true, "everything drawn was erased: the weights are those from before it"
		out.change.entry.Undo, out.change.entry.Learned, out.change.write = true, undone.Learned, false
	}
	return out, nil
}

// classEdits are the voxels of the segment being drawn that the user has changed by hand since the last answer; nil when there are none.
// Strokes and other segments hide it in the upload; what they hide is no edit. A segment that was there before the first answer is
// none either.
func (j *job) classEdits(state imageState) []uint8 {
	if j.previous == nil || state.Classes == nil || state.Classes.Labels == nil {
		return nil
	}
	number := uint8(slices.Index(j.entry.Labels, j.label) + 1)
	hidden := map[int]bool{}
	for _, marks := range [][]segment.Mark{j.marks, state.Classes.Marks} {
		for _, m := range marks {
			m.Strokes.Voxels(func(at int, _ bool) { hidden[at] = true })
		}
	}
	box := segmentBox(j)
	var edits []uint8
	for i, now := range j.previous {
		was := state.Classes.Labels[i] == number
		if now == was || hidden[i] || !box(i) || j.protected != nil && j.protected[i] {
			continue
		}
		if edits == nil {
			edits = make([]uint8, len(j.previous))
		}
		edits[i] = 1
		if now {
			edits[i] = number + 1
		}
	}
	return edits
}

// beforeImage is what the lineage had learned before it came to the image, if all that was drawn on it has been erased and nothing else
// was learned since; the entry then says which snapshot that is. Otherwise it is what is learned now. The answer of an image
// without strokes is on no record, since there is one without any interaction.
func (a *Annotator) beforeImage(l *lineage, j *job) (interact.Learned, *entry, error) {
	if len(j.marks) > 0 {
		return l.learned, nil, nil
	}
	found, newest, ok := l.earlier(j.stateKey, j.key(), j.emptyKey())
	if !ok || !newest {
		return l.learned, nil, nil
	}
	learned, err := a.journal.learned(l, found.Learned)
	if errors.Is(err, errThinned) {
		return l.learned, nil, nil
	}
	return learned, &found, err
}

// inferAutomatic answers without prompts: with all labels of the network, by the weights that the user has taught it. It is what jobs
// that segment many images ask for too; a request without a client id is answered by the network as it came. Nothing is learned.
func (a *Annotator) inferAutomatic(ctx context.Context, e Entry, img *image, req *Request, w watch) (*Reply, error) {
	j, err := bareJob(e, img, req)
	if err != nil {
		return nil, err
	}
	numbers, err := prompted(req.Params, len(e.Labels))
	if err != nil {
		return nil, err
	}
	learned, err := a.learnedBy(ctx, j)
	if err != nil {
		return nil, err
	}
	labels, err := e.Segment.Untouched(ctx, img.Image, learned, a.turns(j))
	if err != nil {
		return nil, err
	}
	if numbers != nil {
		for i, l := range labels {
			if l != 0 && !slices.Contains(numbers, int(l)) {
				labels[i] = 0
			}
		}
	}
	a.logged(req, nil, w)
	told := api.NewObject("device", e.Device, "interactions", int64(learned.Interactions))
	return classReply(j, labels, told, w), nil
}

// learnedBy is what the user of a job has taught the network so far.
func (a *Annotator) learnedBy(ctx context.Context, j *job) (segment.Learned, error) {
	if j.options.Profile == interact.ProfileFrozen {
		return segment.Learned{}, nil
	}
	h, release, err := a.hold(ctx, j.identity())
	if err != nil {
		return segment.Learned{}, err
	}
	defer release()
	return segment.Learned{Sets: h.lineage.learned.Sets, Interactions: h.lineage.learned.Interactions}, nil
}

// prompted reads label_prompt, the numbers of the labels that a client wants; nil means all.
func prompted(params *api.Object, labels int) ([]int, error) {
	v, ok := params.Get("label_prompt")
	if !ok || v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	numbers := []int{}
	for _, item := range list {
		n, whole := api.NewObject("n", item).Number("n")
		if !whole || n != float64(int(n)) || n < 0 || int(n) > labels {
			ok = false
			break
		}
		numbers = append(numbers, int(n))
	}
	if !ok {
		return nil, fmt.Errorf("label_prompt %v: %w; a list of numbers of labels, 1 to %d, is wanted", v, Invalid, labels)
	}
	if len(numbers) == 0 {
		return nil, nil
	}
	return numbers, nil
}

// segmentBox tells which voxels, by their place in memory, a job's box leaves.
func segmentBox(j *job) func(at int) bool {
	if j.box == nil {
		return func(int) bool { return true }
	}
	size := j.img.Volume.Size
	return func(at int) bool {
		return j.box.Contains([3]int{at % size[0], at / size[0] % size[1], at / (size[0] * size[1])})
	}
}

// classReply is an answer with all labels of a model, numbered 1..N.
func classReply(j *job, labels []uint8, told *api.Object, w watch) *Reply {
	m := volume.NewLabelMap(j.img.Volume.Geometry)
	if j.largest {
		labels = largestOfEach(labels, j.img.Volume.Size, j.strokes)
	}
	box := segmentBox(j)
	for i, l := range labels {
		if l != 0 && box(i) {
			m.Labels[i] = uint16(l)
		}
	}
	names := numbered(j.entry.Labels)
	params := api.NewObject("latencies", latencies(w), "centroids", centroids(m, names), "scrawl", told)
	return &Reply{Label: m, LabelNames: names, Params: params}
}

// largestOfEach keeps of each label the largest connected part, and what was drawn.
func largestOfEach(labels []uint8, size [3]int, drawn scribble.Set) []uint8 {
	out := make([]uint8, len(labels))
	drawn.Voxels(func(at int, _ bool) { out[at] = labels[at] })
	var present [256]bool
	for _, l := range labels {
		present[l] = true
	}
	of := make([]bool, len(labels))
	for l := 1; l < len(present); l++ {
		if !present[l] {
			continue
		}
		for i, x := range labels {
			of[i] = int(x) == l
		}
		for i, in := range morph.Largest3(of, size, morph.TwentySix) {
			if in {
				out[i] = uint8(l)
			}
		}
	}
	return out
}
