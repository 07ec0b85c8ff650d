package inspect

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"scrawl/apps"
	"scrawl/apps/interact"
)

// labelsOf finds the names of classes in a file's metadata, where exporters leave them under several keys, as a list or by class.
func labelsOf(metadata map[string]string) []string {
	for _, key := range []string{"labels", "classes", "names", "class_names"} {
		text := metadata[key]
		if text == "" {
			continue
		}
		var list []string
		if json.Unmarshal([]byte(text), &list) != nil {
			for name := range strings.SplitSeq(text, ",") {
				list = append(list, strings.TrimSpace(name))
			}
		}
		if len(list) > 0 && strings.EqualFold(list[0], "background") {
			list = list[1:]
		}
		return list
	}
	return nil
}

// Wishes are what its owner says of a network; what is left empty is inferred.
type Wishes struct {
	Name        string
	Description string
	// Labels are the names of the classes 1, 2, … in order. With them, or with more than two classes, the network is served as one that has
	// classes of its own.
	Labels   []string
	Channels []string
	// Plain leaves out the standardisation that networks for colour pictures usually expect.
	Plain bool
	Part  string
	Grid  int
	// Of networks of two files: how many points strokes become at most, and which of several answers is taken.
	Points, Mask int
}

// The means and deviations by which networks trained on ImageNet standardise red, green and blue.
var (
	imageNetMean = []float64{0.485, 0.456, 0.406}
	imageNetStd  = []float64{0.229, 0.224, 0.225}
)

// Draft is an app for a network, with what was assumed about it.
type Draft struct {
	App   apps.App
	Notes []string
}

// NewDraft describes how to serve a network whose file will be called file.
func NewDraft(n Network, w Wishes, file string) (Draft, error) {
	d := Draft{App: apps.App{Name: w.Name, Description: w.Description, Version: "1.0"}}
	m := apps.Model{Name: w.Name, Type: apps.Scribbles, Description: w.Description, File: file, Profile: string(interact.ProfileThesis)}
	m.Trainable.Part = w.Part
	var err error
	if m.Input.Channels, err = d.channels(n, w); err != nil {
		return Draft{}, err
	}
	if allImages(m.Input.Channels) && len(m.Input.Channels) == 3 && !w.Plain {
		m.Input.Mean, m.Input.Std = imageNetMean, imageNetStd
		d.note("three image channels: the image is shown in each, standardised as ImageNet's are; --plain leaves that out")
	}
	if n.Ending != "" {
		d.note(fmt.Sprintf("the network ends with %s: the logits in front of it are taken", n.Ending))
	}
	m.Input.Percentiles = []float64{0.5, 99.5}
	prompted := slices.Contains(m.Input.Channels, string(interact.ChannelPositive))
	if prompted {
		m.Profile = string(interact.ProfileHindsight)
		m.Input.Grid, m.Input.Multiple = grid(n, w), n.Multiple
		d.App.Labels = w.Labels
		d.App.Models = []apps.Model{m}
		return d, nil
	}
	if n.Classes == 2 && len(w.Labels) == 0 && len(n.Labels) == 0 && len(n.Size) == 2 {
		d.note("one object class without a name: it is served as a network that learns whatever you mark; --labels NAME makes it segment that by itself too")
		m.Input.Grid, m.Input.Multiple = grid(n, w), n.Multiple
		d.App.Models = []apps.Model{m}
		return d, nil
	}
	if m.Classes, err = d.classes(n, w); err != nil {
		return Draft{}, err
	}
	m.Input.Multiple = n.Multiple
	m.Input.Patch = n.sized((patch(len(n.Size)) + n.Multiple - 1) / n.Multiple * n.Multiple)
	automatic := apps.Model{Name: w.Name + "_auto", Type: apps.Segmentation, Description: w.Description + " (without strokes)", Network: w.Name}
	d.App.Models = []apps.Model{m, automatic}
	return d, nil
}

func (d *Draft) note(text string) { d.Notes = append(d.Notes, text) }

func allImages(channels []string) bool {
	return !slices.ContainsFunc(channels, func(c string) bool { return c != string(interact.ChannelImage) })
}

// channels says what the network's input channels show: as told, or as networks with that many usually have them.
func (d *Draft) channels(n Network, w Wishes) ([]string, error) {
	if w.Channels != nil {
		if len(w.Channels) != n.Channels {
			return nil, fmt.Errorf("channels %s: %d are named, the network has %d", strings.Join(w.Channels, ","), len(w.Channels), n.Channels)
		}
		return w.Channels, nil
	}
	image, positive, negative, previous, box := string(interact.ChannelImage), string(interact.ChannelPositive), string(interact.ChannelNegative), string(interact.ChannelPrevious), string(interact.ChannelBox)
	usual := map[int][]string{1: {image}, 3: {image, image, image}, 4: {image, positive, negative, previous}, 5: {image, box, positive, negative, previous}}
	channels := usual[n.Channels]
	if channels == nil {
		return nil, fmt.Errorf("the network has %d input channels: say what they show with --channels, in order, out of image, positive, negative, previous and box", n.Channels)
	}
	if len(channels) > 3 {
		d.note(fmt.Sprintf("%d input channels: taken to be %s; --channels says otherwise", n.Channels, strings.Join(channels, ", ")))
	}
	return channels, nil
}

// classes names the classes of a network that has its own.
func (d *Draft) classes(n Network, w Wishes) (apps.Classes, error) {
	labels := w.Labels
	if labels == nil && n.Labels != nil {
		labels = n.Labels
		d.note("the labels are those the file names")
	}
	objects := n.Classes - 1
	if labels == nil {
		for i := range objects {
			labels = append(labels, fmt.Sprintf("class %d", i+1))
		}
		d.note("the file does not name its classes: give their names with --labels, in the order of the classes")
	}
	if len(labels) != objects {
		return nil, fmt.Errorf("labels %s: %d are named, the network has %d classes beside the background", strings.Join(labels, ","), len(labels), objects)
	}
	var classes apps.Classes
	for i, l := range labels {
		classes = append(classes, apps.NewClass(l, i+1))
	}
	return classes, nil
}

func grid(n Network, w Wishes) int {
	if len(n.Size) > 0 && n.Size[0] > 0 {
		return n.Size[0]
	}
	g := w.Grid
	if g == 0 {
		g = 256
	}
	return max(g/n.Multiple, 1) * n.Multiple
}

// patch is about the size of the windows in which large images are looked at.
func patch(dims int) int {
	if dims == 3 {
		return 96
	}
	return 256
}

// YAML is the app's description as a file. It holds only what differs from the defaults.
func (d Draft) YAML() ([]byte, error) {
	type input struct {
		Channels    []string  `yaml:"channels,flow"`
		Grid        int       `yaml:"grid,omitempty"`
		Multiple    int       `yaml:"multiple,omitempty"`
		Patch       []int     `yaml:"patch,flow,omitempty"`
		Percentiles []float64 `yaml:"percentiles,flow,omitempty"`
		Mean        []float64 `yaml:"mean,flow,omitempty"`
		Std         []float64 `yaml:"std,flow,omitempty"`
		Points      int       `yaml:"points,omitempty"`
		Previous    string    `yaml:"previous,omitempty"`
	}
	type trainable struct {
		Part    string   `yaml:"part,omitempty"`
		Exclude []string `yaml:"exclude,flow,omitempty"`
	}
	type augment struct{ Noise, Blur, Inversion bool }
	type model struct {
		Name        string             `yaml:"name"`
		Type        string             `yaml:"type"`
		Description string             `yaml:"description,omitempty"`
		Network     string             `yaml:"network,omitempty"`
		Encoder     string             `yaml:"encoder,omitempty"`
		File        string             `yaml:"file,omitempty"`
		Mask        int                `yaml:"mask,omitempty"`
		Input       *input             `yaml:"input,omitempty"`
		Classes     apps.Classes       `yaml:"classes,omitempty"`
		Trainable   *trainable         `yaml:"trainable,flow,omitempty"`
		Profile     string             `yaml:"profile,omitempty"`
		Hindsight   map[string]augment `yaml:"hindsight,flow,omitempty"`
	}
	var models []model
	for _, m := range d.App.Models {
		out := model{Name: m.Name, Type: m.Type, Description: m.Description, Network: m.Network, Encoder: m.Encoder, File: m.File, Mask: m.Mask, Classes: m.Classes, Profile: m.Profile}
		if m.Network == "" {
			in := m.Input
			out.Input = &input{in.Channels, in.Grid, in.Multiple, in.Patch, in.Percentiles, in.Mean, in.Std, in.Points, in.Previous}
			if t := (trainable{m.Trainable.Part, m.Trainable.Exclude}); t.Part != "" || t.Exclude != nil {
				out.Trainable = &t
			}
			if m.Encoder != "" {
				a := m.Hindsight.Augment
				out.Hindsight = map[string]augment{"augment": {a.Noise, a.Blur, a.Inversion}}
			}
		}
		models = append(models, out)
	}
	return yaml.Marshal(struct {
		Name        string   `yaml:"name"`
		Description string   `yaml:"description"`
		Version     string   `yaml:"version"`
		Labels      []string `yaml:"labels,flow,omitempty"`
		Models      []model  `yaml:"models"`
	}{d.App.Name, d.App.Description, d.App.Version, d.App.Labels, models})
}
