// Package apps holds what Scrawl can serve. An app is a folder with an app.yaml, which names its networks and says how each
// sees an image, and the networks as .onnx files. The apps in this folder are part of the binary; others are given by
// the folder they lie in.
package apps

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"

	"scrawl/adapters/graphcut"
	"scrawl/adapters/scribble"
	"scrawl/apps/interact"
	"scrawl/apps/recognise"
	"scrawl/apps/segment"
	"scrawl/engine/adapt"
	"scrawl/engine/onnx"
)

//go:embed scribbles/app.yaml scribbles/*.onnx microscopy/app.yaml microscopy/*.onnx
var builtin embed.FS

// maxModel bounds the size of an .onnx file in bytes.
const maxModel = 1 << 30

// App is the description of an app: its app.yaml.
type App struct {
	Name        string   `yaml:"name"`
	Description string   `yaml:"description"`
	Version     string   `yaml:"version"`
	Labels      []string `yaml:"labels"` // offered to clients; users may draw others
	Models      []Model  `yaml:"models"`

	files fs.FS
}

// Model describes one model that clients are offered: a network and how it is asked. Several may share a network, which is then
// loaded once, and what an annotator teaches it by one of them the others know. What app.yaml leaves out of thesis, hindsight and
// thickness keeps its default: [adapt.Thesis], [adapt.Hindsight] and [scribble.DefaultThickness].
type Model struct {
	Name        string `yaml:"name"` // no spaces: clients write them as plus signs
	Type        string `yaml:"type"` // one of the Type constants
	Description string `yaml:"description"`
	// Dimension is 2 for a deepgrow model whose answers are about one slice; 0 means 3.
	Dimension int `yaml:"dimension"`
	// GraphCut makes a model without a network, which answers strokes by their intensities and a minimum cut; see [graphcut]. It stands in
	// place of everything that follows.
	GraphCut *GraphCut `yaml:"graphcut"`
	// Network names the model of this app whose network, constants and profile this one shares. It stands in place of file and of
	// everything that follows here.
	Network string `yaml:"network"`
	File    string `yaml:"file"`
	// Encoder is the .onnx file that makes embeddings of the image for file, which then is a decoder: see [adapt.Join]. Only the decoder
	// learns. Embeddings are kept within EmbeddingsMiB, or without it [adapt.EmbeddingBytes]. Mask is the answer taken of a decoder that
	// gives several.
	Encoder       string `yaml:"encoder"`
	EmbeddingsMiB int    `yaml:"embeddings_mib"`
	Mask          int    `yaml:"mask"`
	Input         Input  `yaml:"input"`
	// Classes gives the class of each label of a network that has classes of its own; such a network sees the image alone. Without them
	// the network segments whatever is marked, under the label that the user gives it.
	Classes   Classes               `yaml:"classes"`
	Trainable TrainableNames        `yaml:"trainable"`
	Profile   string                `yaml:"profile"` // hindsight, thesis or frozen
	Thesis    adapt.Config          `yaml:"thesis"`
	Hindsight adapt.HindsightConfig `yaml:"hindsight"`
	Recognise recognise.Config      `yaml:"recognise"`
	Thickness scribble.Thickness    `yaml:"thickness"` // of strokes in the thesis's scribble mask, in pixels
}

// GraphCut are the constants of a model without a network. What app.yaml leaves out keeps its default: [graphcut.Defaults].
type GraphCut graphcut.Options

// UnmarshalYAML reads constants over the defaults. Unknown keys are errors.
func (g *GraphCut) UnmarshalYAML(node *yaml.Node) error {
	o := graphcut.Defaults()
	text, err := yaml.Marshal(node)
	if err != nil {
		return err
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&o); err != nil {
		return err
	}
	*g = GraphCut(o)
	return nil
}

func defaultModel() Model {
	return Model{Thesis: adapt.Thesis(), Hindsight: adapt.Hindsight(), Recognise: recognise.Default(), Thickness: scribble.DefaultThickness()}
}

// UnmarshalYAML reads a model over the defaults. Unknown keys are errors.
func (m *Model) UnmarshalYAML(node *yaml.Node) error {
	type plain Model // without this method
	p := plain(defaultModel())
	text, err := yaml.Marshal(node)
	if err != nil {
		return err
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&p); err != nil {
		return err
	}
	*m = Model(p)
	return nil
}

// Types of models, which are MONAI Label's: they tell clients what to offer and the server what a request of theirs means.
const (
	Scribbles = "scribbles" // strokes in an uploaded label map, for one segment
	DeepGrow  = "deepgrow"  // clicks on the object and beside it, for one segment
	DeepEdit  = "deepedit"  // clicks for each of several labels
	// Segmentation takes no prompts: it answers with all labels of a network with classes.
	Segmentation = "segmentation"
)

// Classes are a network's classes by label, in the order of app.yaml, which is that of their numbers in answers.
type Classes []segment.Class

// UnmarshalYAML reads a mapping of labels to classes.
func (c *Classes) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: classes: a mapping such as {liver: 1, spleen: 2} is wanted", node.Line)
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		class := segment.Class{Label: node.Content[i].Value}
		if err := node.Content[i+1].Decode(&class.Index); err != nil {
			return fmt.Errorf("line %d: class of label %q: %w", node.Content[i+1].Line, class.Label, err)
		}
		*c = append(*c, class)
	}
	return nil
}

// MarshalYAML writes the mapping that UnmarshalYAML reads.
func (c Classes) MarshalYAML() (any, error) {
	node := &yaml.Node{Kind: yaml.MappingNode}
	for _, class := range c {
		node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: class.Label}, &yaml.Node{Kind: yaml.ScalarNode, Value: strconv.Itoa(class.Index)})
	}
	return node, nil
}

// Labels are the classes' labels.
func (c Classes) Labels() []string {
	var labels []string
	for _, class := range c {
		labels = append(labels, class.Label)
	}
	return labels
}

// Input says how a slice becomes the network's input; see [interact.Input]. For a network with classes it says how a volume does; see
// [segment.Input].
type Input struct {
	Channels    []string   `yaml:"channels"`
	Grid        int        `yaml:"grid"`
	Multiple    int        `yaml:"multiple"`
	Percentiles []float64  `yaml:"percentiles"`
	Range       *[]float64 `yaml:"range"`
	Focus       float64    `yaml:"focus"`
	// Mean and Std are what the network expects intensities to be standardised by after they have been scaled to 0…1, one number for each
	// channel that shows the image.
	Mean []float64 `yaml:"mean"`
	Std  []float64 `yaml:"std"`
	// Prompts is how strokes are shown to networks without classes: map (the default), disc or distance, of a radius in pixels of the grid.
	Prompts string  `yaml:"prompts"`
	Radius  float64 `yaml:"radius"`
	// Previous is how the previous prediction is shown: probability (the default), logits or mask.
	Previous string `yaml:"previous"`
	// Points is how many points a decoder is given, for the channel points.
	Points int `yaml:"points"`

	// Of networks with classes alone.
	Patch       []int     `yaml:"patch"`
	Fit         string    `yaml:"fit"` // windows (the default) or resize
	Overlap     float64   `yaml:"overlap"`
	Spacing     []float64 `yaml:"spacing"`
	Orientation string    `yaml:"orientation"`
}

// TrainableNames choose the weights that may move: a part of the network (all, decoder or normalisation), and patterns of names.
type TrainableNames struct {
	Part    string   `yaml:"part"`
	Include []string `yaml:"include"`
	Exclude []string `yaml:"exclude"`
}

// Choice is the choice of weights that the engine takes.
func (t TrainableNames) Choice() adapt.Trainable {
	return adapt.Trainable{Part: adapt.Part(t.Part), Include: t.Include, Exclude: t.Exclude}
}

// Open reads an app: one of the built-in ones by its name, with or without a leading "apps/", or else a folder.
func Open(name string) (*App, error) {
	plain := strings.TrimPrefix(path.Clean(strings.ReplaceAll(name, "\\", "/")), "apps/")
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		root, err := os.OpenRoot(name)
		if err != nil {
			return nil, fmt.Errorf("open app %q: %w", name, err)
		}
		return read(name, root.FS())
	}
	if slices.Contains(Builtin(), plain) {
		sub, err := fs.Sub(builtin, plain)
		if err != nil {
			return nil, fmt.Errorf("open app %q: %w", name, err)
		}
		return read(name, sub)
	}
	return nil, fmt.Errorf("app %q is neither built in (there is %s) nor a folder", name, strings.Join(Builtin(), ", "))
}

// Builtin lists the apps that are part of the binary.
func Builtin() []string {
	entries, err := builtin.ReadDir(".")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func read(name string, files fs.FS) (*App, error) {
	data, err := fs.ReadFile(files, "app.yaml")
	if err != nil {
		return nil, fmt.Errorf("app %q has no readable app.yaml: %w", name, err)
	}
	app := &App{files: files}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(app); err != nil {
		return nil, fmt.Errorf("app %q: app.yaml: %w", name, err)
	}
	if err := app.validate(); err != nil {
		return nil, fmt.Errorf("app %q: app.yaml: %w", name, err)
	}
	return app, nil
}

func (a *App) validate() error {
	if a.Name == "" || len(a.Models) == 0 {
		return errors.New("a name and at least one model are wanted")
	}
	labels := slices.Clone(a.Labels)
	for _, m := range a.Models {
		if err := checkLabels(m.Classes.Labels()); err != nil {
			return fmt.Errorf("model %q: classes: %w", m.Name, err)
		}
		for _, l := range m.Classes.Labels() {
			if !slices.Contains(labels, l) {
				labels = append(labels, l)
			}
		}
	}
	if err := checkLabels(labels); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, m := range a.Models {
		switch {
		case m.Name == "" || strings.ContainsAny(m.Name, " /\\"):
			return fmt.Errorf("model name %q: one without spaces and slashes is wanted, clients put it into addresses", m.Name)
		case seen[m.Name]:
			return fmt.Errorf("model %q is described twice", m.Name)
		}
		seen[m.Name] = true
		if err := a.validateModel(m); err != nil {
			return fmt.Errorf("model %q: %w", m.Name, err)
		}
	}
	return nil
}

func (a *App) validateModel(m Model) error {
	switch {
	case !slices.Contains([]string{Scribbles, DeepGrow, DeepEdit, Segmentation}, m.Type):
		return fmt.Errorf("type %q: %s, %s, %s or %s is wanted", m.Type, Scribbles, DeepGrow, DeepEdit, Segmentation)
	case m.Dimension != 0 && m.Dimension != 3 && (m.Dimension != 2 || m.Type != DeepGrow):
		return fmt.Errorf("dimension %d: 3 is wanted, or 2 for a model of type %s", m.Dimension, DeepGrow)
	case m.GraphCut != nil:
		return m.validateGraphCut()
	case m.Network == "" && (!fs.ValidPath(m.File) || path.Ext(m.File) != ".onnx"):
		return fmt.Errorf("file %q is not an .onnx file inside the app's folder", m.File)
	case m.Encoder != "" && (!fs.ValidPath(m.Encoder) || path.Ext(m.Encoder) != ".onnx"):
		return fmt.Errorf("encoder %q is not an .onnx file inside the app's folder", m.Encoder)
	}
	owner, err := a.Owner(m)
	switch {
	case err != nil:
		return err
	case m.Type == Segmentation && owner.Classes == nil:
		return fmt.Errorf("type %s: a network with classes is wanted, others segment nothing unasked", m.Type)
	case owner.Classes != nil && m.Dimension == 2:
		return errors.New("dimension 2: a network with classes answers volumes")
	case m.Network == "":
		return m.validate()
	}
	alone := defaultModel()
	alone.Name, alone.Type, alone.Description, alone.Dimension, alone.Network = m.Name, m.Type, m.Description, m.Dimension, m.Network
	if !reflect.DeepEqual(m, alone) {
		return fmt.Errorf("the network of %q comes with its file, input, profile and constants: leave them out here", owner.Name)
	}
	return nil
}

// validateGraphCut refuses what belongs to models with a network.
func (m Model) validateGraphCut() error {
	alone := defaultModel()
	alone.Name, alone.Type, alone.Description, alone.Dimension, alone.GraphCut = m.Name, m.Type, m.Description, m.Dimension, m.GraphCut
	switch {
	case m.Type != Scribbles:
		return fmt.Errorf("type %q: a graph cut answers %s", m.Type, Scribbles)
	case !reflect.DeepEqual(m, alone):
		return errors.New("a graph cut has no network: leave out file, input, profile and constants of learning")
	}
	return graphcut.Options(*m.GraphCut).Validate()
}

// HasNetwork reports whether the model describes a network of its own: it neither shares another's nor goes without.
func (m Model) HasNetwork() bool { return m.Network == "" && m.GraphCut == nil }

// Owner returns the model that describes the network of m: m itself, or the one it names.
func (a *App) Owner(m Model) (Model, error) {
	if m.Network == "" {
		return m, nil
	}
	for _, o := range a.Models {
		if o.Name == m.Network && o.HasNetwork() {
			return o, nil
		}
	}
	return Model{}, fmt.Errorf("network %q: the name of a model of this app that has a file is wanted", m.Network)
}

// checkLabels refuses labels that clients would mix up. They find segments by name and number them by position; a segment called
// background has no number of its own, and models that take clicks are sent one request parameter per label.
func checkLabels(labels []string) error {
	seen := map[string]string{}
	for _, l := range labels {
		folded := FoldLabel(l)
		other, twice := seen[folded]
		switch {
		case folded == "" || l != strings.TrimSpace(l):
			return fmt.Errorf("label %q: a name without blanks around it is wanted", l)
		case folded == "background":
			return fmt.Errorf("label %q: background is what bears no label", l)
		case twice:
			return fmt.Errorf("labels %q and %q differ in nothing but case and blanks", other, l)
		case slices.Contains(requestParameters, l):
			return fmt.Errorf("label %q is also the name of a request parameter, under which clients could not send its clicks", l)
		}
		seen[folded] = l
	}
	return nil
}

// FoldLabel brings names that people take for the same label to one form: case and the kind and number of blanks do not count.
func FoldLabel(name string) string {
	return strings.ToLower(strings.Join(strings.FieldsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || r == '_' }), " "))
}

// requestParameters are what clients and servers of the protocol send beside one parameter per label.
var requestParameters = []string{
	"model", "image", "label", "label_info", "label_prompt", "label_tag", "points", "point_labels", "foreground", "background", "roi", "slice",
	"device", "client_id", "session_id", "description", "timeout", "logging", "save_label", "selected_label_name", "restore_label_idx", "reset_state",
	"largest_cc", "result_extension", "result_dtype", "result_compress", "result_write_to_file", "profile", "propagate", "reset", "adapt",
}

func (m Model) validate() error {
	switch interact.Profile(m.Profile) {
	case interact.ProfileHindsight, interact.ProfileThesis, interact.ProfileFrozen:
	default:
		return fmt.Errorf("profile %q: hindsight, thesis or frozen is wanted", m.Profile)
	}
	if err := m.validateEncoder(); err != nil {
		return err
	}
	if m.Classes != nil {
		if interact.Profile(m.Profile) == interact.ProfileHindsight {
			return errors.New("profile hindsight: a network with classes sees no strokes, thesis or frozen is wanted")
		}
		if _, err := m.Input.ofClasses(); err != nil {
			return err
		}
	} else if err := m.Input.validate(); err != nil {
		return err
	}
	if err := m.Thesis.Validate(); err != nil {
		return fmt.Errorf("thesis: %w", err)
	}
	if err := m.Recognise.Validate(); err != nil {
		return err
	}
	if err := m.Hindsight.Validate(); err != nil {
		return fmt.Errorf("hindsight: %w", err)
	}
	return nil
}

// validateEncoder reports what belongs to networks of two files, or to those of one, alone.
func (m Model) validateEncoder() error {
	switch {
	case m.Encoder == "" && (m.Mask != 0 || m.EmbeddingsMiB != 0 || m.Input.Points != 0):
		return errors.New("mask, embeddings_mib and input.points are of networks with an encoder: name its file as encoder")
	case m.Encoder != "" && m.Classes != nil:
		return errors.New("encoder: a network with classes of its own comes as one file")
	case m.Mask < 0 || m.EmbeddingsMiB < 0 || m.EmbeddingsMiB > 1<<20:
		return fmt.Errorf("mask %d and embeddings_mib %d: 0 or more, and at most %d MiB, are wanted", m.Mask, m.EmbeddingsMiB, 1<<20)
	}
	return nil
}

func (in Input) validate() error {
	v, err := in.value()
	if err != nil {
		return err
	}
	if in.Patch != nil || in.Fit != "" || in.Overlap != 0 || in.Spacing != nil || in.Orientation != "" {
		return errors.New("patch, fit, overlap, spacing and orientation are of networks with classes; grid is wanted here")
	}
	return v.Validate()
}

func (in Input) value() (interact.Input, error) {
	v := interact.Input{Grid: in.Grid, Multiple: in.Multiple, Focus: in.Focus, Prompts: interact.Prompts(in.Prompts), Radius: in.Radius,
		Previous: interact.Previous(in.Previous), Points: in.Points}
	for _, c := range in.Channels {
		v.Channels = append(v.Channels, interact.Channel(c))
	}
	var err error
	v.Percentiles, v.Range, err = in.intensities()
	return v, err
}

// intensities are the percentiles, or the range in their place, that become 0 and 1.
func (in Input) intensities() (percentiles [2]float64, window *[2]float64, err error) {
	percentiles = [2]float64{0.5, 99.5}
	if in.Percentiles != nil {
		if len(in.Percentiles) != 2 {
			return percentiles, nil, fmt.Errorf("percentiles %v: two numbers are wanted", in.Percentiles)
		}
		percentiles = [2]float64(in.Percentiles)
	}
	if in.Range != nil {
		if len(*in.Range) != 2 {
			return percentiles, nil, fmt.Errorf("range %v: two numbers are wanted", *in.Range)
		}
		r := [2]float64(*in.Range)
		window = &r
	}
	return percentiles, window, nil
}

// standardised puts the standardisation of the image's channels in front of the network, so that everything else, augmentation among it,
// goes on seeing intensities from 0 to 1.
// A network with classes that sees the image in several channels is given it once.
func (in Input) standardised(m *onnx.Model, classes bool) (*onnx.Model, error) {
	classes = classes && len(in.Channels) > 1
	if in.Mean == nil && in.Std == nil && !classes {
		return m, nil
	}
	images := 0
	for _, c := range in.Channels {
		if c == string(interact.ChannelImage) {
			images++
		}
	}
	if in.Mean == nil && in.Std == nil {
		in.Mean, in.Std = make([]float64, images), slices.Repeat([]float64{1}, images)
	}
	if len(in.Mean) != images || len(in.Std) != images {
		return nil, fmt.Errorf("mean %v and std %v: one number for each of the %d channels that show the image is wanted", in.Mean, in.Std, images)
	}
	mean, std := make([]float32, len(in.Channels)), make([]float32, len(in.Channels))
	k := 0
	for i, c := range in.Channels {
		std[i] = 1
		if c != string(interact.ChannelImage) {
			continue
		}
		if !(in.Std[k] > 0) {
			return nil, fmt.Errorf("std %v: numbers above 0 are wanted", in.Std)
		}
		mean[i], std[i] = float32(in.Mean[k]), float32(in.Std[k])
		k++
	}
	return adapt.Standardised(m, mean, std, classes)
}

// ofClasses is the input of a network with classes.
func (in Input) ofClasses() (segment.Input, error) {
	v := segment.Input{Patch: in.Patch, Multiple: max(in.Multiple, 1), Overlap: in.Overlap, Spacing: in.Spacing, Orientation: in.Orientation}
	switch {
	case len(in.Channels) == 0 || slices.ContainsFunc(in.Channels, func(c string) bool { return c != string(interact.ChannelImage) }):
		return v, fmt.Errorf("channels %v: a network with classes sees the image alone, [image] is wanted, once for each of its channels", in.Channels)
	case in.Grid != 0 || in.Focus != 0 || in.Prompts != "" || in.Radius != 0 || in.Previous != "" || in.Points != 0:
		return v, errors.New("grid, focus, prompts, radius, previous and points are of networks without classes; patch is wanted here")
	case in.Fit != "" && in.Fit != "windows" && in.Fit != "resize":
		return v, fmt.Errorf("fit %q: windows or resize is wanted", in.Fit)
	}
	v.Resize = in.Fit == "resize"
	var err error
	v.Percentiles, v.Range, err = in.intensities()
	return v, err
}

// Loaded is a model ready for interaction: Model, or for a network with classes Segment.
type Loaded struct {
	*interact.Model
	Segment *segment.Model
	// Hash is the SHA-256 of the network's file, in hexadecimal.
	Hash string
}

// Load reads a model's network and makes it ready for interaction.
func (a *App) Load(m Model, compile adapt.Compiler) (Loaded, error) {
	m, err := a.Owner(m)
	if err != nil {
		return Loaded{}, err
	}
	data, err := a.ReadNetwork(m)
	if err != nil {
		return Loaded{}, err
	}
	return a.LoadData(m, data, compile)
}

// ReadNetwork reads the .onnx file of a model's network. Of a network of two files it is the .onnx file that both make together.
func (a *App) ReadNetwork(m Model) ([]byte, error) {
	m, err := a.Owner(m)
	if err != nil {
		return nil, err
	}
	if m.GraphCut != nil {
		return nil, fmt.Errorf("model %q has no network", m.Name)
	}
	read := a.readModel
	if m.Encoder != "" {
		read = func(string) ([]byte, error) { return a.join(m) }
	}
	data, err := read(m.File)
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", m.Name, err)
	}
	return data, nil
}

// join makes one file of a model's encoder and decoder.
func (a *App) join(m Model) ([]byte, error) {
	var files [2]*onnx.Model
	for i, name := range []string{m.Encoder, m.File} {
		data, err := a.readModel(name)
		if err != nil {
			return nil, err
		}
		if files[i], err = onnx.Parse(data); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return m.Join(files[0], files[1])
}

// Join makes one .onnx file of the two of a model with an encoder, with the standardisation of the image in front of it.
func (m Model) Join(encoder, decoder *onnx.Model) ([]byte, error) {
	encoder, err := m.Input.standardisedEncoder(encoder)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Encoder, err)
	}
	layout, err := m.twoParts(adapt.TakesMask(decoder))
	if err != nil {
		return nil, err
	}
	joined, err := adapt.Join(encoder, decoder, layout)
	if err != nil {
		return nil, fmt.Errorf("join %s and %s: %w", m.Encoder, m.File, err)
	}
	return joined.Marshal()
}

// twoParts tells which of a model's channels go where. takesMask says that the decoder has an input for the previous prediction.
func (m Model) twoParts(takesMask bool) (adapt.TwoParts, error) {
	p := adapt.TwoParts{Grid: m.Input.Grid, Channels: len(m.Input.Channels), Points: m.Input.Points, Previous: -1, Mask: m.Mask}
	for i, c := range m.Input.Channels {
		switch c := interact.Channel(c); {
		case c == interact.ChannelImage:
			p.Images = append(p.Images, i)
		case c == interact.ChannelPoints:
			p.PointMap = i
		case c == interact.ChannelPrevious && takesMask:
			if interact.Previous(m.Input.Previous) != interact.PreviousLogits {
				return p, fmt.Errorf("previous %q: the decoder's input for the previous prediction takes logits, previous: logits is wanted", m.Input.Previous)
			}
			p.Previous = i
		default:
			p.Maps = append(p.Maps, i)
		}
	}
	return p, nil
}

// standardisedEncoder puts the standardisation in front of an encoder, one number for each of its channels.
func (in Input) standardisedEncoder(m *onnx.Model) (*onnx.Model, error) {
	if len(m.Graph.Inputs) != 1 || len(m.Graph.Inputs[0].Shape) < 2 {
		return m, nil // which cannot be joined
	}
	channels := max(0, min(m.Graph.Inputs[0].Shape[1].Size, maxImageChannels))
	in.Channels = slices.Repeat([]string{string(interact.ChannelImage)}, int(channels))
	return in.standardised(m, false)
}

// maxImageChannels bounds the channels of an encoder's image.
const maxImageChannels = 64

// LoadData makes a network ready for interaction that takes the place of a model's own: another version of it, say. data is an .onnx
// file.
func (a *App) LoadData(m Model, data []byte, compile adapt.Compiler) (Loaded, error) {
	m, err := a.Owner(m)
	if err != nil {
		return Loaded{}, err
	}
	if len(data) > maxModel {
		return Loaded{}, fmt.Errorf("model %q: a network of %d bytes; at most %d are wanted", m.Name, len(data), maxModel)
	}
	parsed, err := onnx.Parse(data)
	if err != nil {
		return Loaded{}, fmt.Errorf("model %q: %s: %w", m.Name, m.File, err)
	}
	if m.Encoder == "" { // otherwise it is in the joined file
		if parsed, err = m.Input.standardised(parsed, m.Classes != nil); err != nil {
			return Loaded{}, fmt.Errorf("model %q: %w", m.Name, err)
		}
	}
	net, err := adapt.NewNetwork(parsed, m.Trainable.Choice())
	if err != nil {
		return Loaded{}, fmt.Errorf("model %q: %s: %w", m.Name, m.File, err)
	}
	sum := sha256.Sum256(data)
	loaded := Loaded{Hash: hex.EncodeToString(sum[:])}
	if m.Classes != nil {
		loaded.Segment, err = m.segmenter(net, compile)
	} else {
		loaded.Model, err = m.Ready(net, compile)
	}
	return loaded, err
}

// segmenter joins a network that has classes with what the app says of it.
func (m Model) segmenter(net *adapt.Network, compile adapt.Compiler) (*segment.Model, error) {
	in, err := m.Input.ofClasses()
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", m.Name, err)
	}
	engine, err := adapt.NewEngine(net, []int{0}, compile)
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", m.Name, err)
	}
	s := &segment.Model{Engine: engine, Input: in, Classes: m.Classes, Thesis: m.Thesis, Thickness: m.Thickness}
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("model %q: %w", m.Name, err)
	}
	return s, nil
}

// Ready joins a network without classes with what the app says of it.
func (m Model) Ready(net *adapt.Network, compile adapt.Compiler) (*interact.Model, error) {
	if m.Classes != nil {
		return nil, fmt.Errorf("model %q has classes of its own: a network that segments what is marked is wanted", m.Name)
	}
	if len(net.Size) != 2 {
		return nil, fmt.Errorf("model %q: the network sees volumes: say in app.yaml which classes it has, a network that segments what is marked sees slices", m.Name)
	}
	in, err := m.Input.value()
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", m.Name, err)
	}
	if net.Channels != len(in.Channels) {
		return nil, fmt.Errorf("model %q: the network has %d input channels, app.yaml names %d", m.Name, net.Channels, len(in.Channels))
	}
	engine, err := adapt.NewEngine(net, in.ImageChannels(), compile)
	if err != nil {
		return nil, fmt.Errorf("model %q: %w", m.Name, err)
	}
	if m.EmbeddingsMiB > 0 {
		engine.BoundEmbeddings(m.EmbeddingsMiB << 20)
	}
	return &interact.Model{Engine: engine, Input: in, Thesis: m.Thesis, Hindsight: m.Hindsight, Recognise: m.Recognise, Thickness: m.Thickness}, nil
}

func (a *App) readModel(name string) ([]byte, error) {
	f, err := a.files.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxModel+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxModel {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxModel)
	}
	beside, err := fs.Sub(a.files, path.Dir(name))
	if err != nil {
		return nil, err
	}
	data, err = onnx.Inline(data, beside, maxModel)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}

// NewClass gives a label the class of that index of a network with classes.
func NewClass(label string, index int) segment.Class {
	return segment.Class{Label: label, Index: index}
}
