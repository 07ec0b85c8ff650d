package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

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
	targets, kinds       []string
	profiles, methods    []string
	own                  []string
	mode, annotator      string
	seeds                []uint
	out, library, device string
	overrides            []string
	threads, grid        int
	interactions, every  int
	minPixels, pictures  int
	take                 int
	list                 string
	sloppy, learnOnLeave bool
	keepLearned, retain  bool
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
pictures. With the same seeds every figure but those of time is the same each time.

Images come as pairs of --images and --labels, or as folders (--set). A folder holds one
volume, image.nii.gz and label.nii.gz, or many pictures: images/ and labels/ with files of
the same names, index.csv (columns id, and kind, source, domain or modality) if they are of
several kinds, and strokes that people drew as scribbles/IMAGE.PERSON.png (1 on the object,
2 beside it). labels.json names the labels, {"1": "nerve", "2": "vessel"}. Targets are
names from it, or name=number.

  --mode slice      slices one after the other, each first with what was carried to it
  --mode volume     always the slice that is most wrong
  --mode recorded   people's strokes from scribbles/, all at once, one person at a time

Methods stand side by side in one run, and every one meets the same annotator:

  full              as the app has it              frozen, hindsight, thesis   that profile
  graphcut          MONAI Label's Histogram+GraphCut, which needs no network
  copy              no model: the last finished slice's mask, put right by hand
  corrected         what a network with classes answers unasked, put right by hand
  manual            no model: every outline by hand
  interactive-only  thesis without consistency and averaging: the student answers
  no-augmentation   thesis with one copy, as it is
  fixed-6, up-to-16, up-to-32      thesis with so many augmented copies
  lambda=2.5, alpha=0.9            thesis with that constant
  components, augmentation, lambda, alpha   the methods of the published Tables 4.3, 4.4, 4.2
                    and 4.5; ablation is all of them

A method of your own is --method NAME=PROFILE,KEY=VALUE,… with the keys of app.yaml.`,
		Example: `  scrawl eval --set data/ct_abdomen --targets liver,spleen,aorta --methods frozen,full,graphcut,copy,manual --out report
  scrawl eval --images ct.nii.gz --labels ct_labels.nii.gz --targets liver=5 --mode volume --interactions 12
  scrawl eval --set data/scribbles_medscribble --mode recorded
  scrawl eval --set data/nuclei --kinds rgb-purple --model image_only --methods ablation --series
  scrawl eval --set data/ct_abdomen --method 'slow=hindsight,hindsight.learning_rate=0.003' --methods frozen,full`,
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
	fl.StringSliceVar(&f.kinds, "kinds", nil, "take only pictures of these kinds (index.csv)")
	fl.StringVar(&f.list, "list", "", "take only the pictures that a file names, one a line")
	fl.IntVar(&f.take, "take", 0, "take at most so many pictures of each set, spread over it (0: all)")
	fl.StringSliceVar(&f.methods, "methods", []string{"frozen", "full"}, "what is compared; see above")
	fl.StringArrayVar(&f.own, "method", nil, "a method of your own, NAME=PROFILE,KEY=VALUE,…; may be given more than once")
	fl.StringSliceVar(&f.profiles, "profiles", nil, "the same as --methods")
	fl.StringVar(&f.mode, "mode", string(evaluate.BySlice), "slice, volume or recorded")
	fl.IntVar(&f.interactions, "interactions", 0, "the most interactions on a slice (6 unless given), or on a volume (12)")
	fl.IntVar(&f.every, "every", 1, "take every n-th slice of those that hold the target")
	fl.IntVar(&f.minPixels, "min-pixels", 100, "pixels of the target that a slice must hold to be annotated")
	fl.UintSliceVar(&f.seeds, "seeds", []uint{1}, "seeds of the simulated annotator; each is a run of its own")
	fl.StringVar(&f.annotator, "annotator", "centre", "shape of strokes: centre, line, contour or click")
	fl.BoolVar(&f.sloppy, "sloppy", false, "let strokes cross borders, and some land on the wrong slice")
	fl.BoolVar(&f.learnOnLeave, "learn-on-leaving", false, "learn from a slice when it is left, not when the next one gets a stroke")
	fl.BoolVar(&f.keepLearned, "series", false, "keep what was learned from one image for the next of its set")
	fl.BoolVar(&f.retain, "retention", false, "with --series, annotate the earlier images again in the end: what was known must not be forgotten")
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
	app, m, err := f.described()
	if err != nil {
		return err
	}
	protocol, err := f.protocol(interact.Profile(m.Profile))
	if err != nil {
		return &usageError{cmd: cmd, err: err}
	}
	cases, images, err := f.cases(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	from, done, err := f.equipAll(cmd, app, m, protocol.Methods)
	if err != nil {
		return err
	}
	defer done()
	from.Images = images
	e := evaluate.Evaluation{Protocol: protocol, Progress: evalProgress(cmd.ErrOrStderr())}
	courses, err := e.Run(cmd.Context(), cases)
	if err != nil {
		return err
	}
	report := evaluate.Summarise(from, protocol, courses)
	if err := report.WriteTable(cmd.OutOrStdout()); err != nil || f.out == "" {
		return err
	}
	return writeReport(f.out, report)
}

// equipAll gives the methods that want one the app's model, and tells what they run on. ONNX Runtime is opened only for those. done
// closes what was opened.
func (f *evalFlags) equipAll(cmd *cobra.Command, app *apps.App, m apps.Model, methods []evaluate.Method) (from evaluate.Provenance, done func(), err error) {
	from = evaluate.Provenance{Scrawl: buildVersion(), App: f.app, Threads: f.threads, Cores: runtime.NumCPU(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Overrides: f.changes()}
	if !slices.ContainsFunc(methods, wantsNetwork) {
		return from, func() {}, nil
	}
	lib, err := openLibrary(cmd.Context(), f.library)
	if err != nil {
		return from, nil, err
	}
	sessions := &sessions{compiler: lower.NewCompiler(lib, ort.Options{Device: f.device, Threads: f.threads, NoSpinning: true})}
	done = func() {
		sessions.close()
		_ = lib.Close() // the process ends
	}
	model, err := f.readNetwork(app, m, sessions.compile)
	// A first run compiles what tells the provider.
	switch {
	case err == nil && model.Segment != nil:
		err = model.Segment.Warm(cmd.Context())
	case err == nil:
		err = model.Warm(cmd.Context())
	}
	if err != nil {
		done()
		return from, nil, err
	}
	if err := equip(methods, model, f.overrides); err != nil {
		done()
		return from, nil, &usageError{cmd: cmd, err: err}
	}
	from.Model, from.ModelHash, from.Runtime, from.Provider = f.model, model.Hash, lib.Version().String(), sessions.provider
	return from, done, nil
}

func (f *evalFlags) protocol(own interact.Profile) (evaluate.Protocol, error) {
	shapes := map[string]simulate.Shape{"centre": simulate.CentreLine, "line": simulate.Line, "contour": simulate.Contour, "click": simulate.Click}
	shape, ok := shapes[f.annotator]
	if !ok {
		return evaluate.Protocol{}, fmt.Errorf("annotator %q: centre, line, contour or click is wanted", f.annotator)
	}
	mode := evaluate.Mode(f.mode)
	interactions := f.interactions
	if interactions == 0 {
		interactions = map[evaluate.Mode]int{evaluate.ByVolume: 12, evaluate.Recorded: 1}[mode]
	}
	p := evaluate.Protocol{
		Mode: mode, Interactions: cmp.Or(interactions, 6), Every: f.every, MinPixels: f.minPixels,
		Annotator: simulate.Options{Shape: shape, Sloppy: f.sloppy}, LearnOnLeaving: f.learnOnLeave, KeepLearned: f.keepLearned, Retention: f.retain, Pictures: f.pictures,
	}
	var err error
	if p.Methods, err = f.chosenMethods(own); err != nil {
		return evaluate.Protocol{}, err
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

// described is what the app says of the model.
func (f *evalFlags) described() (*apps.App, apps.Model, error) {
	app, err := apps.Open(f.app)
	if err != nil {
		return nil, apps.Model{}, err
	}
	at := slices.IndexFunc(app.Models, func(m apps.Model) bool { return m.Name == f.model })
	if at < 0 {
		return nil, apps.Model{}, fmt.Errorf("app %q has no model %q", f.app, f.model)
	}
	m, err := app.Owner(app.Models[at])
	if err == nil && m.GraphCut != nil {
		err = fmt.Errorf("model %q has no network: name one that has with --model, and measure this one as the method %s", f.model, graphCutMethod)
	}
	if f.grid != 0 {
		m.Input.Grid = f.grid
	}
	return app, m, err
}

// readNetwork makes a model's network ready, or another file's in its place.
func (f *evalFlags) readNetwork(app *apps.App, m apps.Model, compile adapt.Compiler) (apps.Loaded, error) {
	if f.network == "" {
		return app.Load(m, compile)
	}
	data, err := os.ReadFile(f.network)
	if err != nil {
		return apps.Loaded{}, err
	}
	return app.LoadData(m, data, compile)
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
		by := p.Person
		if by == "" {
			by = fmt.Sprintf("seed %d", p.Seed)
		}
		return fmt.Sprintf("%s %s, %s, %s", p.Case.Image, p.Case.Target, p.Method, by)
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
