package annotation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/apps/interact"
	"scrawl/labelserver/api"
)

// job is a request understood: strokes instead of label maps and clicks.
type job struct {
	entry    Entry
	img      *image
	imageKey ImageKey
	label    string // the segment being drawn

	strokes    scribble.Set
	strokesKey string
	outside    int    // clicks outside the image
	previous   []bool // the segment as the client has it
	protected  []bool
	box        *scribble.Box
	options    interact.Options
	reset      string
}

// Names of the layers that hold scribbles.
const (
	foregroundLayer = "foreground_scribbles"
	backgroundLayer = "background_scribbles"
)

// clickRadius is the radius in pixels of the disc a click stands for.
const clickRadius = 2

func newJob(e Entry, img *image, req *Request) (*job, error) {
	j := &job{entry: e, img: img, imageKey: req.Image.Key, label: req.LabelName}
	if err := j.readOptions(req.Params); err != nil {
		return nil, err
	}
	if req.ROI != nil {
		box, ok := req.ROI.Clip(img.Volume.Size)
		if ok {
			j.box = &scribble.Box{Lo: box.Min, Hi: box.Max}
		}
	}
	j.strokes = scribble.NewSet(img.Volume.Size)
	if req.Label != nil {
		if err := j.readLabel(req); err != nil {
			return nil, err
		}
	}
	j.readClicks(req)
	if j.box != nil {
		j.strokes = j.strokes.Within(*j.box)
	}
	j.strokesKey = j.strokes.Key()
	return j, nil
}

// readLabel takes the scribble layers, the segment being drawn and the other segments out of the uploaded label map.
func (j *job) readLabel(req *Request) error {
	if err := j.img.Volume.SameGrid(req.Label.Geometry); err != nil {
		return fmt.Errorf("the uploaded label map does not lie on the image's grid: %w: %w", Invalid, err)
	}
	foreground, background, err := j.layers(req)
	if err != nil {
		return err
	}
	if j.strokes, err = scribble.FromLabels(req.Label, foreground, background); err != nil {
		return fmt.Errorf("scribbles: %w: %w", Invalid, err)
	}
	selected := uint16(0)
	others := map[uint16]bool{}
	for _, s := range req.LabelInfo {
		switch id := uint16(max(s.ID, 0)); {
		case id == 0 || s.Name == foregroundLayer || s.Name == backgroundLayer:
		case s.Name == j.label:
			selected = id
		default:
			others[id] = true
		}
	}
	// A segment without any voxel says nothing: most clients other than Slicer do not send it back.
	if selected != 0 && slices.Contains(req.Label.Labels, selected) {
		j.previous = where(req.Label, func(l uint16) bool { return l == selected })
		// A stroke over the segment hides it in the label map; what it hid is not an edit.
		j.uncover()
	}
	if len(others) > 0 {
		j.protected = where(req.Label, func(l uint16) bool { return others[l] })
		if !slices.Contains(j.protected, true) {
			j.protected = nil
		}
	}
	return nil
}

// uncover marks the voxels under strokes as unknown in the previous segment, by giving them the stroke's own label: that is what the
// last answer has there too.
func (j *job) uncover() {
	j.strokes.Voxels(func(at int, positive bool) { j.previous[at] = positive })
}

func where(m *volume.LabelMap, f func(uint16) bool) []bool {
	out := make([]bool, len(m.Labels))
	for i, l := range m.Labels {
		out[i] = f(l)
	}
	return out
}

// layers finds the numbers of the scribble layers: by name in label_info, or, without one, as the incumbent numbers them, after the
// model's labels.
func (j *job) layers(req *Request) (foreground, background uint16, err error) {
	if len(req.LabelInfo) == 0 {
		n := max(len(j.entry.Labels), 1)
		return uint16(n + 2), uint16(n + 1), nil
	}
	for _, s := range req.LabelInfo {
		if s.ID < 0 && (s.Name == foregroundLayer || s.Name == backgroundLayer) {
			return 0, 0, fmt.Errorf("label_info: segment %q has no number from 0 to 65535: %w", s.Name, Invalid)
		}
		switch s.Name {
		case foregroundLayer:
			foreground = uint16(s.ID)
		case backgroundLayer:
			background = uint16(s.ID)
		}
	}
	return foreground, background, nil
}

// readClicks turns clicks into strokes.
func (j *job) readClicks(req *Request) {
	positive, negative := coordinates(req.Foreground), coordinates(req.Background)
	for _, l := range req.LabelClicks {
		if l.Name == j.label {
			positive = append(positive, coordinates(l.Clicks)...)
		} else {
			negative = append(negative, coordinates(l.Clicks)...)
		}
	}
	if len(positive)+len(negative) == 0 {
		return
	}
	clicks, outside := scribble.FromClicks(j.img.Volume.Geometry, positive, negative, clickRadius)
	j.strokes, j.outside = j.strokes.Merge(clicks), outside
}

func coordinates(clicks []Click) [][3]int {
	out := make([][3]int, len(clicks))
	for i, c := range clicks {
		out[i] = c
	}
	return out
}

// readOptions reads the options a user chose in the client's table. A value nobody knows is refused, one left out is the default.
func (j *job) readOptions(params *api.Object) error {
	j.options = interact.Options{Profile: j.entry.Profile, LearnLater: true}
	profile, err := choice(params, "profile", string(j.entry.Profile), string(interact.ProfileHindsight), string(interact.ProfileThesis), string(interact.ProfileFrozen))
	if err != nil {
		return err
	}
	propagate, err := choice(params, "propagate", propagateVolume, propagateVolume, propagateSlice)
	if err != nil {
		return err
	}
	if j.reset, err = choice(params, "reset", resetNothing, resetNothing, resetImage, resetEverything); err != nil {
		return err
	}
	j.options.Profile = interact.Profile(profile)
	j.options.SliceOnly = propagate == propagateSlice
	if params != nil {
		if on, ok := params.Bool("adapt"); ok && !on {
			j.options.Profile = interact.ProfileFrozen
		}
	}
	return nil
}

// choice reads an option. Clients that send a whole list mean its first item.
func choice(params *api.Object, name, def string, allowed ...string) (string, error) {
	if params == nil || !params.Has(name) {
		return def, nil
	}
	v, _ := params.Get(name)
	if list, ok := v.([]any); ok && len(list) > 0 {
		v = list[0]
	}
	s, ok := v.(string)
	if !ok || !slices.Contains(allowed, s) {
		return "", fmt.Errorf("option %s = %v: %w; one of %s is wanted", name, v, Invalid, strings.Join(allowed, ", "))
	}
	return s, nil
}

func (j *job) key() string { return j.strokesKey }

func (j *job) request() interact.Request {
	r := interact.Request{Strokes: j.strokes, Previous: j.previous, Protected: j.protected, Options: j.options}
	if j.box != nil {
		r.Box = &[2][3]int{j.box.Lo, j.box.Hi}
	}
	return r
}

// limited leaves out of a mask on record what belongs to other segments by now.
func (j *job) limited(mask []bool) []bool {
	if j.protected == nil {
		return mask
	}
	out := slices.Clone(mask)
	for i, p := range j.protected {
		if p {
			out[i] = false
		}
	}
	return out
}

// reply is the answer as the protocol has it: value 1 is the segment.
func (o outcome) reply(j *job, pre, total time.Duration) *Reply {
	m := volume.NewLabelMap(j.img.Volume.Geometry)
	for i, b := range o.mask {
		if b {
			m.Labels[i] = 1
		}
	}
	name := j.label
	if name == "" {
		name = "segment"
	}
	latencies := api.NewObject("pre", round2(pre.Seconds()), "infer", round2((total - pre).Seconds()), "invert", 0.0, "post", 0.0,
		"write", 0.0, "total", round2(total.Seconds()), "transform", nil)
	params := api.NewObject("latencies", latencies, "centroids", api.NewObject())
	scrawl := api.NewObject("profile", string(j.options.Profile), "answered", len(o.report.Answered), "carried", o.report.Carried,
		"learned", len(o.report.Learned), "expert", o.report.Expert, "undone", o.undone, "device", j.entry.Device)
	if o.note != "" {
		scrawl.Set("note", o.note)
	}
	if j.outside > 0 {
		scrawl.Set("clicks_outside", j.outside)
	}
	stages := api.NewObject()
	for _, s := range []string{"edits", "learn", "slices", "carry", "compose"} {
		if t, ok := o.report.Seconds[s]; ok {
			stages.Set(s, t)
		}
	}
	scrawl.Set("seconds", stages)
	params.Set("scrawl", scrawl)
	return &Reply{Label: m, LabelNames: []Segment{{Name: name, ID: 1}}, Params: params}
}

func round2(s float64) float64 { return float64(int(s*100+0.5)) / 100 }
