package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"gopkg.in/yaml.v3"

	"scrawl/adapters/format"
	"scrawl/adapters/volume"
	"scrawl/apps"
	"scrawl/apps/atomicfile"
	"scrawl/apps/evaluate"
	"scrawl/apps/interact"
	"scrawl/apps/simulate"
	"scrawl/engine/adapt"
	"scrawl/engine/lower"
	"scrawl/engine/onnx"
	"scrawl/engine/ort"
)

// evalFlags are the options of eval.
type evalFlags struct {
	app, model, network  string
	images, labels, sets []string
	targets, profiles    []string
	mode, annotator      string
	seeds                []uint
	out, library, device string
	overrides            []string
	threads, grid        int
	interactions, every  int
	minPixels, pictures  int
	sloppy, learnOnLeave bool
}

func newEvalCommand() *cobra.Command {
	var f evalFlags
	c := &cobra.Command{
		Use:   "eval",
		Short: "Measure a model with a simulated annotator on labelled images",
		Long: `Eval measures how good a model's answers are after 0, 1, 2, … interactions of a simulated
annotator, who sees the labels and draws at most one positive and one negative stroke at a
time, where the answer is most wrong. It prints tables, and with --out writes them as CSV,
every single answer as CSV, where the figures come from as JSON, and a page with curves and
pictures.

Images come as pairs of --images and --labels, or as folders (--set) that hold
image.nii.gz, label.nii.gz and labels.json, which names the labels. Targets are names from
labels.json, or name=number.`,
		Example: `  scrawl eval --set data/ct_abdomen --targets liver,spleen,aorta --profiles frozen,hindsight --out report
  scrawl eval --images ct.nii.gz --labels ct_labels.nii.gz --targets liver=5 --mode volume`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	fl := c.Flags()
	fl.StringVarP(&f.app, "app", "a", "scribbles", "a built-in app by name, or a folder with an app.yaml")
	fl.StringVar(&f.model, "model", "scribbles", "a model of the app")
	fl.StringVar(&f.network, "network", "", "another .onnx file to measure in place of the model's own")
	fl.StringArrayVar(&f.images, "images", nil, "an image file; once for each --labels")
	fl.StringArrayVar(&f.labels, "labels", nil, "a file with the image's labels")
	fl.StringArrayVar(&f.sets, "set", nil, "a folder with image.nii.gz, label.nii.gz and labels.json; may be given more than once")
	fl.StringSliceVar(&f.targets, "targets", nil, "labels to segment, as name or name=number (default: all of labels.json)")
	fl.StringSliceVar(&f.profiles, "profiles", []string{"frozen", "hindsight"}, "how the model learns: frozen, hindsight, thesis")
	fl.StringVar(&f.mode, "mode", string(evaluate.BySlice), "slice: one slice after the other; volume: always the worst slice")
	fl.IntVar(&f.interactions, "interactions", 6, "the most interactions on a slice, or on a volume")
	fl.IntVar(&f.every, "every", 1, "take every n-th slice of those that hold the target")
	fl.IntVar(&f.minPixels, "min-pixels", 100, "pixels of the target that a slice must hold to be annotated")
	fl.UintSliceVar(&f.seeds, "seeds", []uint{1}, "seeds of the simulated annotator; each is a run of its own")
	fl.StringVar(&f.annotator, "annotator", "centre", "shape of strokes: centre, line, contour or click")
	fl.BoolVar(&f.sloppy, "sloppy", false, "let strokes cross borders, and some land on the wrong slice")
	fl.BoolVar(&f.learnOnLeave, "learn-on-leaving", false, "learn from a slice when it is left, not when the next one gets a stroke")
	fl.StringArrayVar(&f.overrides, "adapt", nil, "change a constant of the method, such as thesis.lambda=3 or hindsight.steps=4 (the keys of app.yaml)")
	fl.IntVar(&f.grid, "grid", 0, "change the side of the network's grid")
	fl.IntVar(&f.pictures, "pictures", 3, "slices of each case shown as pictures")
	fl.StringVarP(&f.out, "out", "o", "", "folder to write the report to; made if missing")
	fl.StringVar(&f.library, "runtime", "", "path of ONNX Runtime's library (default: found by itself)")
	fl.StringVar(&f.device, "device", "cpu", "cpu, cuda, cuda:N or auto")
	fl.IntVar(&f.threads, "threads", 0, "threads an operator may use (0: one per core)")
	return c
}

func (f *evalFlags) run(cmd *cobra.Command) error {
	protocol, err := f.protocol()
	if err != nil {
		return &usageError{cmd: cmd, err: err}
	}
	cases, images, err := f.cases(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	lib, err := openLibrary(cmd.Context(), f.library)
	if err != nil {
		return err
	}
	defer func() { _ = lib.Close() }() // the process ends
	sessions := &sessions{compiler: lower.NewCompiler(lib, ort.Options{Device: f.device, Threads: f.threads, NoSpinning: true})}
	defer sessions.close()
	model, hash, err := f.load(sessions.compile)
	if err != nil {
		return err
	}
	e := evaluate.Evaluation{Protocol: protocol, Model: model, Source: model.Engine.Network().Source(), Progress: evalProgress(cmd.ErrOrStderr())}
	courses, err := e.Run(cmd.Context(), cases)
	if err != nil {
		return err
	}
	report := evaluate.Summarise(evaluate.Provenance{
		Scrawl: buildVersion(), App: f.app, Model: f.model, ModelHash: hash, Runtime: lib.Version().String(), Provider: sessions.provider,
		Threads: f.threads, Cores: runtime.NumCPU(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Images: images, Overrides: f.changes(),
	}, protocol, courses)
	if err := report.WriteTable(cmd.OutOrStdout()); err != nil || f.out == "" {
		return err
	}
	return writeReport(f.out, report)
}

func (f *evalFlags) protocol() (evaluate.Protocol, error) {
	shapes := map[string]simulate.Shape{"centre": simulate.CentreLine, "line": simulate.Line, "contour": simulate.Contour, "click": simulate.Click}
	shape, ok := shapes[f.annotator]
	if !ok {
		return evaluate.Protocol{}, fmt.Errorf("annotator %q: centre, line, contour or click is wanted", f.annotator)
	}
	p := evaluate.Protocol{
		Mode: evaluate.Mode(f.mode), Interactions: f.interactions, Every: f.every, MinPixels: f.minPixels,
		Annotator: simulate.Options{Shape: shape, Sloppy: f.sloppy}, LearnOnLeaving: f.learnOnLeave, Pictures: f.pictures,
	}
	for _, name := range f.profiles {
		p.Profiles = append(p.Profiles, interact.Profile(name))
	}
	for _, seed := range f.seeds {
		p.Seeds = append(p.Seeds, uint64(seed))
	}
	return p, p.Validate()
}

// changes lists what differs from the app as it is.
func (f *evalFlags) changes() []string {
	changes := slices.Clone(f.overrides)
	if f.grid != 0 {
		changes = append(changes, fmt.Sprintf("grid=%d", f.grid))
	}
	if f.network != "" {
		changes = append(changes, "network="+f.network)
	}
	return changes
}

// labelledImage is one image with its labels.
type labelledImage struct{ name, image, labels string }

// pairs lists the images that the options name.
func (f *evalFlags) pairs() ([]labelledImage, error) {
	if len(f.images) != len(f.labels) {
		return nil, fmt.Errorf("%d --images and %d --labels: one of each for every image is wanted", len(f.images), len(f.labels))
	}
	var out []labelledImage
	for _, dir := range f.sets {
		out = append(out, labelledImage{filepath.Base(filepath.Clean(dir)), filepath.Join(dir, "image.nii.gz"), filepath.Join(dir, "label.nii.gz")})
	}
	for i := range f.images {
		name := strings.TrimSuffix(filepath.Base(f.images[i]), format.Ext(f.images[i]))
		out = append(out, labelledImage{name, f.images[i], f.labels[i]})
	}
	if len(out) == 0 {
		return nil, errors.New("nothing to measure: name labelled images with --set, or with --images and --labels")
	}
	seen := map[string]bool{}
	for i := range out { // images of the same name get their number
		if seen[out[i].name] {
			out[i].name += fmt.Sprintf("_%d", i+1)
		}
		seen[out[i].name] = true
	}
	return out, nil
}

// cases reads the images and makes a case of each target that an image holds. It returns the images' hashes too.
func (f *evalFlags) cases(stderr io.Writer) ([]evaluate.Case, map[string]string, error) {
	pairs, err := f.pairs()
	if err != nil {
		return nil, nil, err
	}
	var cases []evaluate.Case
	hashes := map[string]string{}
	for _, p := range pairs {
		v, err := decodeFile(p.image, format.Decode)
		if err != nil {
			return nil, nil, err
		}
		m, err := decodeFile(p.labels, format.DecodeLabels)
		if err != nil {
			return nil, nil, err
		}
		names, err := labelNames(filepath.Join(filepath.Dir(p.labels), "labels.json"))
		if err != nil {
			return nil, nil, err
		}
		found, err := f.casesOf(p.name, v, m, names, len(pairs) > 1, stderr)
		if err != nil {
			return nil, nil, err
		}
		cases = append(cases, found...)
		hash := v.Hash()
		hashes[p.name] = hex.EncodeToString(hash[:])
	}
	return cases, hashes, nil
}

// casesOf makes the cases of one image. Where there are other images, a target that this one lacks is left out with a remark.
func (f *evalFlags) casesOf(name string, v *volume.Volume, m *volume.LabelMap, names map[string]uint16, others bool, stderr io.Writer) ([]evaluate.Case, error) {
	targets := f.targets
	if len(targets) == 0 {
		for n := range names {
			targets = append(targets, n)
		}
		slices.Sort(targets)
	}
	if len(targets) == 0 {
		return nil, fmt.Errorf("image %q has no labels.json beside its labels: name targets as --targets name=number", name)
	}
	var cases []evaluate.Case
	for _, t := range targets {
		target, label, err := findTarget(t, names)
		var c evaluate.Case
		if err == nil {
			c, err = evaluate.NewCase(name, target, v, m, label)
		}
		switch {
		case errors.Is(err, evaluate.ErrNoTarget) && others:
			_, _ = fmt.Fprintf(stderr, "left out: %v\n", err)
		case err != nil:
			return nil, err
		default:
			cases = append(cases, c)
		}
	}
	return cases, nil
}

// findTarget reads name or name=number, where a number must not contradict labels.json.
func findTarget(text string, names map[string]uint16) (string, uint16, error) {
	name, number, given := strings.Cut(text, "=")
	label, known := names[name]
	if !given {
		if !known {
			return "", 0, fmt.Errorf("target %q: %w: labels.json does not name it", name, evaluate.ErrNoTarget)
		}
		return name, label, nil
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("target %q: a number from 1 to 65535 is wanted after the name", text)
	}
	if known && label != uint16(n) {
		return "", 0, fmt.Errorf("target %q: labels.json gives %s the number %d", text, name, label)
	}
	return name, uint16(n), nil
}

// labelNames reads the names of labels from a labels.json, {"labels": {"5": "liver"}}. Without the file there are none.
func labelNames(file string) (map[string]uint16, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var content struct {
		Labels map[string]string `json:"labels"`
	}
	if err == nil {
		err = json.Unmarshal(data, &content)
	}
	if err != nil {
		return nil, fmt.Errorf("names of labels: %s: %w", file, err)
	}
	names := map[string]uint16{}
	for number, name := range content.Labels {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("names of labels: %s: label %q is no number from 0 to 65535", file, number)
		}
		names[name] = uint16(n)
	}
	return names, nil
}

func decodeFile[T any](name string, decode func(string, io.Reader, volume.Limits) (T, error)) (T, error) {
	var none T
	file, err := os.Open(name)
	if err != nil {
		return none, err
	}
	defer func() { _ = file.Close() }() // only read from
	v, err := decode(name, file, volume.DefaultLimits())
	if err != nil {
		return none, fmt.Errorf("read %s: %w", name, err)
	}
	return v, nil
}

// load makes the model ready, with another network or other constants where asked for, and returns the SHA-256 of its file.
func (f *evalFlags) load(compile adapt.Compiler) (*interact.Model, string, error) {
	app, err := apps.Open(f.app)
	if err != nil {
		return nil, "", err
	}
	at := slices.IndexFunc(app.Models, func(m apps.Model) bool { return m.Name == f.model })
	if at < 0 {
		return nil, "", fmt.Errorf("app %q has no model %q", f.app, f.model)
	}
	m, err := app.Owner(app.Models[at])
	if err != nil {
		return nil, "", err
	}
	if f.grid != 0 {
		m.Input.Grid = f.grid
	}
	if err := override(&m, f.overrides); err != nil {
		return nil, "", err
	}
	if f.network == "" {
		loaded, err := app.Load(m, compile)
		if err == nil && loaded.Model == nil {
			err = fmt.Errorf("model %q has classes of its own: one that segments what is marked is wanted", m.Name)
		}
		return loaded.Model, loaded.Hash, err
	}
	data, err := os.ReadFile(f.network)
	if err != nil {
		return nil, "", err
	}
	parsed, err := onnx.Parse(data)
	if err != nil {
		return nil, "", fmt.Errorf("network %s: %w", f.network, err)
	}
	net, err := adapt.NewNetwork(parsed, m.Trainable.Choice())
	if err != nil {
		return nil, "", fmt.Errorf("network %s: %w", f.network, err)
	}
	model, err := m.Ready(net, compile)
	sum := sha256.Sum256(data)
	return model, hex.EncodeToString(sum[:]), err
}

// override sets constants of the method from texts such as hindsight.steps=4, by the keys of app.yaml.
func override(m *apps.Model, changes []string) error {
	sections := map[string]any{"thesis": &m.Thesis, "hindsight": &m.Hindsight, "thickness": &m.Thickness}
	for _, change := range changes {
		path, value, ok := strings.Cut(change, "=")
		section, key, dotted := strings.Cut(path, ".")
		if !ok || !dotted || sections[section] == nil {
			return fmt.Errorf("--adapt %q: something like thesis.lambda=3 or hindsight.steps=4 is wanted", change)
		}
		dec := yaml.NewDecoder(strings.NewReader(key + ": " + value))
		dec.KnownFields(true)
		if err := dec.Decode(sections[section]); err != nil {
			return fmt.Errorf("--adapt %q: %w", change, err)
		}
	}
	return nil
}

// sessions compiles models, remembers where they run, and closes them at the end.
type sessions struct {
	compiler *lower.Compiler
	provider string
	open     []*ort.Session
}

func (s *sessions) compile(model *onnx.Model) (adapt.Session, error) {
	session, err := s.compiler.Compile(model)
	if err != nil {
		return nil, err
	}
	s.provider = session.Provider()
	s.open = append(s.open, session)
	return session, nil
}

func (s *sessions) close() {
	for _, session := range s.open {
		_ = session.Close() // nothing is left to be saved
	}
}

// writeReport writes all files of a report into a folder.
func writeReport(dir string, r evaluate.Report) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("folder of the report: %w", err)
	}
	for _, file := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{"report.txt", r.WriteTable}, {"summary.csv", r.WriteSummary}, {"points.csv", r.WritePoints},
		{"provenance.json", r.WriteProvenance}, {"report.html", r.WritePage},
	} {
		if err := atomicfile.Write(filepath.Join(dir, file.name), file.write); err != nil {
			return err
		}
	}
	return nil
}

// evalProgress draws a bar in a terminal, and elsewhere writes a line at the end of every course.
func evalProgress(w io.Writer) func(evaluate.Progress) {
	describe := func(p evaluate.Progress) string {
		return fmt.Sprintf("%s %s, %s, seed %d", p.Case.Image, p.Case.Target, p.Profile, p.Seed)
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		var bar *progressbar.ProgressBar
		return func(p evaluate.Progress) {
			if bar == nil {
				bar = progressbar.NewOptions(p.Total, progressbar.OptionSetWriter(w), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
			}
			bar.Describe(describe(p))
			_ = bar.Set(p.Done) // a bar that cannot be drawn harms nothing
		}
	}
	last := evaluate.Progress{}
	line := func(p evaluate.Progress) { _, _ = fmt.Fprintf(w, "%d of %d steps: %s\n", p.Done, p.Total, describe(p)) }
	return func(p evaluate.Progress) {
		if last.Done > 0 && describe(last) != describe(p) {
			line(last)
		}
		if last = p; p.Done == p.Total {
			line(p)
		}
	}
}
