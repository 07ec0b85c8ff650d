package annotation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/labelserver/api"
)

// This file answers requests that click on several labels at once. A network that segments whatever is marked is asked for each
// label by itself: clicks on a label mark the object, and clicks on other labels, where both were clicked on one slice, what is not
// the object. Each label has a lineage of its own, the one that scribbles for it have too. Where two labels claim a voxel, the one
// that is surer of it gets it; clicked voxels keep their label.

// maxLabels is how many labels may be clicked on in one request: each is an interaction of its own.
const maxLabels = 255

// inferLabels answers a request with clicks by label.
func (a *Annotator) inferLabels(ctx context.Context, e Entry, img *image, req *Request, w watch) (*Reply, error) {
	bare, err := bareJob(e, img, req)
	if err != nil {
		return nil, err
	}
	names := numbered(e.Labels)
	var jobs []*job
	clicked := clicksByLabel(bare.label, req)
	// The answer depends on what was clicked, not on the order in which a client lists it.
	slices.SortStableFunc(clicked, func(x, y LabelClicks) int {
		return cmp.Or(place(e.Labels, x.Name)-place(e.Labels, y.Name), cmp.Compare(x.Name, y.Name))
	})
	for _, c := range clicked {
		j, err := labelJob(bare, c, req)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(names, func(s Segment) bool { return s.Name == j.label }) {
			names = append(names, Segment{Name: j.label, ID: len(names) + 1})
		}
		jobs = append(jobs, j)
	}
	if len(jobs) > maxLabels || len(names) > maxLabels {
		return nil, fmt.Errorf("clicks on %d labels: %w; at most %d are wanted", len(jobs), Invalid, maxLabels)
	}
	outs, err := a.answer(ctx, jobs...)
	if err != nil {
		return nil, err
	}
	a.logged(req, outs, w)
	return labelsReply(bare, jobs, outs, names, w), nil
}

// place is where a label stands among those of a model; labels the user has made come last.
func place(labels []string, name string) int {
	if i := slices.Index(labels, name); i >= 0 {
		return i
	}
	return len(labels)
}

// numbered numbers labels 1..N.
func numbered(labels []string) []Segment {
	var s []Segment
	for i, l := range labels {
		s = append(s, Segment{Name: l, ID: i + 1})
	}
	return s
}

// clicksByLabel are the labels that were clicked on at all. Foreground clicks, which clients send where a model has no labels, are on
// the label being drawn.
func clicksByLabel(drawn string, req *Request) []LabelClicks {
	var all []LabelClicks
	add := func(name string, clicks []Click) {
		if len(clicks) == 0 {
			return
		}
		for i := range all {
			if all[i].Name == name {
				all[i].Clicks = slices.Concat(all[i].Clicks, clicks)
				return
			}
		}
		all = append(all, LabelClicks{Name: name, Clicks: clicks})
	}
	for _, l := range req.LabelClicks {
		add(l.Name, l.Clicks)
	}
	if drawn == "" {
		drawn = "segment"
	}
	add(drawn, req.Foreground)
	return all
}

// labelJob is the job of one label of a request.
func labelJob(bare *job, own LabelClicks, req *Request) (*job, error) {
	one := *bare
	j := &one
	j.label = own.Name
	set, err := j.clicks(coordinates(own.Clicks), coordinates(req.Background))
	if err != nil {
		return nil, fmt.Errorf("label %q: %w", own.Name, err)
	}
	var others [][3]int
	for _, o := range clicksByLabel(bare.label, req) {
		if o.Name != own.Name {
			others = append(others, coordinates(o.Clicks)...)
		}
	}
	both, _ := scribble.FromClicks(j.img.Volume.Geometry, coordinates(own.Clicks), slices.Concat(coordinates(req.Background), others), clickRadius)
	planes := set.Planes()
	together := scribble.Set{Size: set.Size}
	for _, s := range both.Strokes {
		// On slices where only other labels were clicked on, their own answers win anyway.
		if slices.Contains(planes, s.Plane()) {
			together.Strokes = append(together.Strokes, s)
		}
	}
	j.setStrokes(together)
	return j, nil
}

// labelsReply puts the answers of several labels into one map.
func labelsReply(bare *job, jobs []*job, outs []outcome, names []Segment, w watch) *Reply {
	m := volume.NewLabelMap(bare.img.Volume.Geometry)
	best := make([]uint8, len(m.Labels))
	numberOf := func(j *job) uint16 {
		return uint16(names[slices.IndexFunc(names, func(s Segment) bool { return s.Name == j.label })].ID)
	}
	for i, j := range jobs {
		mask, sure, number := j.shown(outs[i].mask), outs[i].state.Confidence(bare.img.Volume.Size), numberOf(j)
		for at, in := range mask {
			if in && (m.Labels[at] == 0 || sure[at] > best[at]) {
				m.Labels[at], best[at] = number, sure[at]
			}
		}
	}
	for i, j := range jobs {
		mask, number := outs[i].mask, numberOf(j)
		j.strokes.Voxels(func(at int, positive bool) {
			if positive && mask[at] {
				m.Labels[at] = number
			}
		})
	}
	told := api.NewObject()
	for i, j := range jobs {
		told.Set(j.label, outs[i].told(j))
	}
	params := api.NewObject("latencies", latencies(w), "centroids", centroids(m, names),
		"scrawl", api.NewObject("device", bare.entry.Device, "profile", string(bare.options.Profile), "labels", told))
	return &Reply{Label: m, LabelNames: names, Params: params}
}

// centroids are the mean voxel of each segment in MONAI Label's form: {"label_3": ["3", "10", "20", "5"]}.
func centroids(m *volume.LabelMap, names []Segment) *api.Object {
	sum := map[uint16][4]int{}
	at := 0
	for z := range m.Size[2] {
		for y := range m.Size[1] {
			for x := range m.Size[0] {
				if l := m.Labels[at]; l != 0 {
					s := sum[l]
					sum[l] = [4]int{s[0] + x, s[1] + y, s[2] + z, s[3] + 1}
				}
				at++
			}
		}
	}
	o := api.NewObject()
	for _, s := range names {
		if c, ok := sum[uint16(s.ID)]; ok {
			number := strconv.Itoa(s.ID)
			text := []string{number}
			for _, v := range c[:3] {
				text = append(text, strconv.Itoa((v+c[3]/2)/c[3]))
			}
			o.Set("label_"+number, text)
		}
	}
	return o
}
