package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"scrawl/adapters/format"
	"scrawl/apps"
	"scrawl/apps/atomicfile"
	"scrawl/apps/finetune"
	"scrawl/apps/pretrain"
	"scrawl/engine/ort"
)

// trainNewFlags are the options of train-new.
type trainNewFlags struct {
	images, labels, list, held string
	classes                    map[string]int
	channels                   []int
	out, name                  string
	checkpoint, library        string
	threads                    int
	settings                   finetune.Settings
}

func newTrainNewCommand() *cobra.Command {
	recipe := pretrain.NewLabelled(nil)
	f := trainNewFlags{settings: recipe.Settings}
	var seed int
	c := &cobra.Command{
		Use:   "train-new",
		Short: "Train a network of your own from a folder of images and one of labels",
		Long: `Train-new trains a small network that sees slices, from random weights, on images that
people have labelled, and writes an app: a folder that ` + "`scrawl serve --app`" + ` takes, with
the network, an app.yaml that says how it sees images, and training.json, which lists the
images learned from and those set aside, and the figures. An app.yaml that is there stays.

An image and its labels have the same name up to the ending. Labels not named by --classes
are background. It can be stopped at any time; with --checkpoint it goes on from the last
whole epoch when started again. Use ` + "`scrawl train`" + ` to teach a network that is served.`,
		Example: "  scrawl train-new --images cells/images --labels cells/labels --classes nucleus=1 --out nuclei\n" +
			"  scrawl serve --app nuclei --studies ~/slides",
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.settings.Seed = uint64(seed)
			if f.images == "" || f.labels == "" || f.out == "" || len(f.classes) == 0 {
				return &usageError{cmd: cmd, err: errors.New("--images, --labels, --classes and --out are wanted")}
			}
			return f.run(cmd)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.images, "images", "", "folder of images: NIfTI, NRRD, PNG, TIFF, JPEG")
	fl.StringVar(&f.labels, "labels", "", "folder of label maps on the images' grids")
	fl.StringVar(&f.list, "list", "", "file with the names, without endings, of the images to learn from, one a line (default: all)")
	fl.StringVar(&f.held, "held", "", "file with the names of the images to set aside (default: a share of all, see --val-split)")
	fl.StringToIntVar(&f.classes, "classes", nil, "labels to learn, as name=number,…")
	fl.IntSliceVar(&f.channels, "channels", recipe.Channels, "channels of the network's levels, from the finest; multiples of 4")
	fl.StringVarP(&f.out, "out", "o", "", "folder to write the app to; made if missing")
	fl.StringVar(&f.name, "name", "", "name of the model (default: that of the folder)")
	fl.IntVar(&f.settings.Epochs, "epochs", f.settings.Epochs, "the most epochs")
	fl.IntVar(&f.settings.Patience, "patience", f.settings.Patience, "epochs without a better figure after which to stop; 0 goes on to the end")
	fl.Float64Var(&f.settings.Validation, "val-split", f.settings.Validation, "share of images that are set aside to judge by, without --held")
	fl.IntVar(&f.settings.Slices, "slices", f.settings.Slices, "windows of each image seen in an epoch")
	fl.IntVar(&f.settings.Batch, "batch", f.settings.Batch, "windows learned from at once")
	fl.IntVar(&f.settings.Window, "window", f.settings.Window, "largest side of a window in pixels")
	fl.BoolVar(&f.settings.Mirror, "mirror", f.settings.Mirror, "turn images around at random; for images in which left and right mean nothing")
	fl.Float64Var(&f.settings.Intensity, "intensity", f.settings.Intensity, "how strongly intensities are changed at random: 1 is what scanners of one kind differ by")
	fl.Float64Var(&f.settings.Invert, "invert", f.settings.Invert, "share of windows shown as negatives, to know objects both brighter and darker than what is around them")
	fl.Float64Var(&f.settings.LearningRate, "learning-rate", f.settings.LearningRate, "of AdamW, at its peak")
	fl.IntVar(&seed, "seed", int(f.settings.Seed), "seed of everything random")
	fl.StringVar(&f.checkpoint, "checkpoint", "", "file that training is saved to and goes on from")
	fl.StringVar(&f.library, "runtime", "", "path of ONNX Runtime's library (default: found by itself)")
	fl.IntVar(&f.threads, "threads", 0, "threads an operator may use (0: one per core)")
	return c
}

func (f *trainNewFlags) run(cmd *cobra.Command) error {
	labels := slices.SortedFunc(maps.Keys(f.classes), func(a, b string) int { return f.classes[a] - f.classes[b] })
	recipe := pretrain.NewLabelled(labels)
	recipe.Channels, recipe.Settings = f.channels, f.settings
	cases, err := f.cases()
	if err != nil {
		return err
	}
	lib, err := openLibrary(cmd.Context(), f.library)
	if err != nil {
		return err
	}
	defer func() { _ = lib.Close() }()                                         // the process ends
	note := func(line string) { _, _ = fmt.Fprintln(cmd.ErrOrStderr(), line) } // nothing can be done about a closed terminal
	network, result, err := pretrain.RunLabelled(cmd.Context(), recipe, cases, compiler(lib, ort.Options{Threads: f.threads, NoSpinning: true}), f.checkpoint, pretrain.Watch{Note: note})
	if err != nil {
		return err
	}
	data, err := network.Marshal()
	if err != nil {
		return err
	}
	return f.write(cmd.OutOrStdout(), recipe, data, result)
}

// cases lists the labelled images of the folders.
func (f *trainNewFlags) cases() ([]finetune.Case, error) {
	learn, err := readNames(f.list)
	if err != nil {
		return nil, err
	}
	held, err := readNames(f.held)
	if err != nil {
		return nil, err
	}
	images, err := filesByName(f.images)
	if err != nil {
		return nil, err
	}
	labels, err := filesByName(f.labels)
	if err != nil {
		return nil, err
	}
	var cases []finetune.Case
	for _, name := range slices.Sorted(maps.Keys(images)) {
		if learn != nil && !learn[name] && !held[name] {
			continue
		}
		if labels[name] == "" {
			return nil, fmt.Errorf("image %s has no labels of that name in %s", images[name], f.labels)
		}
		c := finetune.Case{ID: name, Held: held[name], Open: f.opener(images[name], labels[name])}
		if c.Content, err = contentOf(images[name], labels[name]); err != nil {
			return nil, err
		}
		cases = append(cases, c)
		delete(learn, name)
		delete(held, name)
	}
	maps.Copy(learn, held)
	if len(learn) > 0 {
		return nil, fmt.Errorf("%s holds no images named %s", f.images, strings.Join(slices.Sorted(maps.Keys(learn)), ", "))
	}
	if len(cases) == 0 {
		return nil, fmt.Errorf("%s holds no images", f.images)
	}
	return cases, nil
}

// opener decodes an image and its labels.
func (f *trainNewFlags) opener(image, labels string) func(context.Context) (finetune.Labelled, error) {
	names := map[uint16]string{}
	for name, number := range f.classes {
		names[uint16(number)] = name
	}
	return func(context.Context) (finetune.Labelled, error) {
		v, err := decodeFile(image, format.Decode)
		if err != nil {
			return finetune.Labelled{}, err
		}
		m, err := decodeFile(labels, format.DecodeLabels)
		return finetune.Labelled{Volume: v, Labels: m, Names: names}, err
	}
}

// readNames reads a file of names, one a line; what follows a # is a remark. Without a file there are none, which is nil.
func readNames(file string) (map[string]bool, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	names := map[string]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, _, _ := strings.Cut(lines.Text(), "#")
		if name = strings.TrimSpace(name); name != "" {
			names[name] = true
		}
	}
	return names, nil
}

// contentOf tells files from later ones of the same name.
func contentOf(files ...string) (string, error) {
	h := sha256.New()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		_, _ = h.Write(data) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// write makes the app's folder: the network, app.yaml unless it is there, and training.json.
func (f *trainNewFlags) write(w io.Writer, r pretrain.Labelled, network []byte, result *finetune.Result) error {
	name := f.name
	if name == "" {
		name = filepath.Base(filepath.Clean(f.out))
	}
	description, err := appFile(name, r)
	if err != nil {
		return err
	}
	report, err := json.MarshalIndent(map[string]any{
		"scrawl": buildVersion(), "channels": r.Channels, "settings": r.Settings, "learned": result.Trained, "held": result.Held, "skipped": result.Skipped,
		"best_epoch": result.Best.Number, "dice_held": result.Best.Dice, "dice_untrained": result.Before.Dice,
	}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return fmt.Errorf("folder of the app: %w", err)
	}
	for _, file := range []struct {
		name string
		data []byte
	}{{networkFile, network}, {"training.json", append(report, '\n')}, {"app.yaml", description}} {
		path := filepath.Join(f.out, file.name)
		if _, err := os.Stat(path); err == nil && file.name == "app.yaml" {
			continue
		}
		if err := atomicfile.Write(path, func(w io.Writer) error { _, err := w.Write(file.data); return err }); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(w, "Dice %.3f on %d images set aside, after epoch %d. Serve it: scrawl serve --app %s --studies FOLDER\n",
		result.Best.Dice, len(result.Held), result.Best.Number, f.out)
	return err
}

// networkFile is the network of a new app.
const networkFile = "network.onnx"

// appFile is the app.yaml of a new network: it answers by itself, and learns from strokes and clicks.
func appFile(name string, r pretrain.Labelled) ([]byte, error) {
	input := map[string]any{"channels": []string{"image"}, "multiple": r.Multiple(), "percentiles": r.Percentiles[:]}
	data, err := yaml.Marshal(map[string]any{
		"name": name, "description": "A network trained by scrawl train-new.", "version": "1",
		"models": []any{
			map[string]any{"name": name, "type": apps.Segmentation, "file": networkFile, "input": input, "classes": apps.Classes(r.Classes), "profile": "thesis"},
			map[string]any{"name": name + "_strokes", "type": apps.Scribbles, "network": name},
			map[string]any{"name": name + "_clicks", "type": apps.DeepEdit, "network": name},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("write app.yaml: %w", err)
	}
	return data, nil
}
