package main

import (
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"scrawl/adapters/format"
	"scrawl/adapters/scribble"
	"scrawl/adapters/volume"
	"scrawl/apps/evaluate"
)

// labelledImage is one image with its labels, and with what people drew on it.
type labelledImage struct {
	set, kind, name string
	image, labels   string
	drawn           map[string]string // files of label maps with strokes, by person
}

// labelledImages lists the images that the options name.
func (f *evalFlags) labelledImages() ([]labelledImage, error) {
	if len(f.images) != len(f.labels) {
		return nil, fmt.Errorf("%d --images and %d --labels: one of each for every image is wanted", len(f.images), len(f.labels))
	}
	var out []labelledImage
	for _, dir := range f.sets {
		name := filepath.Base(filepath.Clean(dir))
		if info, err := os.Stat(filepath.Join(dir, "images")); err != nil || !info.IsDir() {
			out = append(out, labelledImage{name: name, image: filepath.Join(dir, "image.nii.gz"), labels: filepath.Join(dir, "label.nii.gz")})
			continue
		}
		found, err := f.imagesOfSet(name, dir)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	for i := range f.images {
		name := strings.TrimSuffix(filepath.Base(f.images[i]), format.Ext(f.images[i]))
		out = append(out, labelledImage{name: name, image: f.images[i], labels: f.labels[i]})
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

// imagesOfSet lists the images of a folder that holds images/, labels/ with files of the same names, and perhaps scribbles/ and
// index.csv, in the order of their names.
func (f *evalFlags) imagesOfSet(set, dir string) ([]labelledImage, error) {
	kinds, err := kindsOfImages(filepath.Join(dir, "index.csv"))
	if err != nil {
		return nil, err
	}
	labels, err := filesByName(filepath.Join(dir, "labels"))
	if err != nil {
		return nil, err
	}
	images, err := filesByName(filepath.Join(dir, "images"))
	if err != nil {
		return nil, err
	}
	drawn, err := drawnFiles(filepath.Join(dir, "scribbles"))
	if err != nil {
		return nil, err
	}
	listed, err := readNames(f.list)
	if err != nil {
		return nil, err
	}
	var out []labelledImage
	for _, name := range slices.Sorted(maps.Keys(images)) {
		if listed != nil && !listed[name] {
			continue
		}
		if len(f.kinds) > 0 && !slices.Contains(f.kinds, kinds[name]) {
			continue
		}
		if labels[name] == "" {
			return nil, fmt.Errorf("set %s: image %s has no labels of the same name in the folder labels", dir, name)
		}
		out = append(out, labelledImage{set: set, kind: kinds[name], name: name, image: images[name], labels: labels[name], drawn: drawn[name]})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("set %s: no image is left; there are %d images of the kinds %s", dir, len(images), strings.Join(distinctValues(kinds), ", "))
	}
	return spread(out, f.take), nil
}

// spread takes at most n of the images, as far apart in their order as they can be; all when n is 0.
func spread(all []labelledImage, n int) []labelledImage {
	if n <= 0 || n >= len(all) {
		return all
	}
	out := make([]labelledImage, n)
	for i := range out {
		out[i] = all[i*len(all)/n]
	}
	return out
}

func distinctValues(m map[string]string) []string {
	return slices.Compact(slices.Sorted(maps.Values(m)))
}

// filesByName lists the images in a folder by their names without extension.
func filesByName(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list a set: %w", err)
	}
	out := map[string]string{}
	for _, e := range entries {
		ext := format.Ext(e.Name())
		if e.IsDir() || !format.Readable(ext) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		out[e.Name()[:len(e.Name())-len(ext)]] = filepath.Join(dir, e.Name())
	}
	return out, nil
}

// drawnFiles lists recorded strokes, IMAGE.PERSON.png, by image and person. Without the folder there are none.
func drawnFiles(dir string) (map[string]map[string]string, error) {
	files, err := filesByName(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]string{}
	for name, file := range files {
		at := strings.LastIndexByte(name, '.')
		if at <= 0 {
			return nil, fmt.Errorf("strokes %s: a name such as IMAGE.PERSON.png is wanted", file)
		}
		image, person := name[:at], name[at+1:]
		if out[image] == nil {
			out[image] = map[string]string{}
		}
		out[image][person] = file
	}
	return out, nil
}

// kindColumns are the names of the column of index.csv that says what kind of image it is.
var kindColumns = []string{"kind", "source", "domain", "modality"}

// kindsOfImages reads the kind of each image from an index.csv with a column id and one of kindColumns. Without the file, or the columns,
// there are no kinds.
func kindsOfImages(file string) (map[string]string, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	id := slices.Index(rows[0], "id")
	kind := slices.IndexFunc(rows[0], func(name string) bool { return slices.Contains(kindColumns, name) })
	if id < 0 || kind < 0 {
		return nil, nil
	}
	out := map[string]string{}
	for _, row := range rows[1:] {
		out[row[id]] = row[kind]
	}
	return out, nil
}

// cases reads the images and makes a case of each target that an image holds. It returns the images' hashes too.
func (f *evalFlags) cases(stderr io.Writer) ([]evaluate.Case, map[string]string, error) {
	images, err := f.labelledImages()
	if err != nil {
		return nil, nil, err
	}
	var cases []evaluate.Case
	hashes := map[string]string{}
	for _, l := range images {
		found, hash, err := f.casesOf(l, len(images) > 1, stderr)
		if err != nil {
			return nil, nil, err
		}
		cases, hashes[l.name] = append(cases, found...), hash
	}
	if len(cases) == 0 {
		return nil, nil, errors.New("no image holds a target, or enough of it")
	}
	return cases, hashes, nil
}

// casesOf makes the cases of one image. Where there are other images, a target that this one lacks is left out with a remark.
func (f *evalFlags) casesOf(l labelledImage, others bool, stderr io.Writer) (cases []evaluate.Case, hash string, err error) {
	v, err := decodeFile(l.image, format.Decode)
	if err != nil {
		return nil, "", err
	}
	m, err := decodeFile(l.labels, format.DecodeLabels)
	if err != nil {
		return nil, "", err
	}
	if v.Size[2] == 1 && v.Size == m.Size {
		m.Geometry = v.Geometry // pictures say nothing of where they lie
	}
	names, err := f.namesOf(l, m)
	if err != nil {
		return nil, "", err
	}
	targets := f.targets
	if len(targets) == 0 {
		targets = slices.Sorted(maps.Keys(names))
	}
	if len(targets) == 0 {
		return nil, "", fmt.Errorf("image %q has no labels.json beside its labels: name targets as --targets name=number", l.name)
	}
	drawn, err := drawings(l, v.Geometry)
	if err != nil {
		return nil, "", err
	}
	for _, t := range targets {
		target, label, err := findTarget(t, names)
		var c evaluate.Case
		if err == nil {
			c, err = evaluate.NewCase(l.name, target, v, m, label)
		}
		c.Set, c.Kind, c.Drawn = l.set, l.kind, drawn
		switch {
		case errors.Is(err, evaluate.ErrNoTarget) && others:
			_, _ = fmt.Fprintf(stderr, "left out: %v\n", err)
		case err != nil:
			return nil, "", err
		case others && !c.Holds(f.minPixels):
			_, _ = fmt.Fprintf(stderr, "left out: case %s %s: no slice holds %d pixels of it\n", l.name, target, f.minPixels)
		default:
			cases = append(cases, c)
		}
	}
	sum := v.Hash()
	return cases, hex.EncodeToString(sum[:]), nil
}

// namesOf are the names of an image's labels: from the labels.json beside them or in the set's folder, or from IMAGE.json; those of a
// set without any are their numbers.
func (f *evalFlags) namesOf(l labelledImage, m *volume.LabelMap) (map[string]uint16, error) {
	dir := filepath.Dir(l.labels)
	files := []string{filepath.Join(dir, "labels.json")}
	if l.set != "" {
		files = append(files, filepath.Join(filepath.Dir(dir), "labels.json"), filepath.Join(dir, l.name+".json"))
	}
	for _, file := range files {
		if names, err := labelNames(file); err != nil || names != nil {
			return names, err
		}
	}
	if l.set == "" {
		return nil, nil
	}
	names := map[string]uint16{}
	for _, label := range m.Labels {
		if label > 0 {
			names[strconv.Itoa(int(label))] = label
		}
	}
	return names, nil
}

// Numbers in label maps of recorded strokes.
const (
	drawnObject     = 1
	drawnBackground = 2
)

// drawings reads what people drew on an image, in the order of their names.
func drawings(l labelledImage, grid volume.Geometry) ([]evaluate.Drawing, error) {
	var out []evaluate.Drawing
	for _, person := range slices.Sorted(maps.Keys(l.drawn)) {
		m, err := decodeFile(l.drawn[person], format.DecodeLabels)
		if err != nil {
			return nil, err
		}
		if m.Size != grid.Size {
			return nil, fmt.Errorf("strokes %s: %v voxels, the image has %v", l.drawn[person], m.Size, grid.Size)
		}
		m.Geometry = grid
		strokes, err := scribble.FromLabels(m, drawnObject, drawnBackground)
		if err != nil {
			return nil, fmt.Errorf("strokes %s: %w", l.drawn[person], err)
		}
		out = append(out, evaluate.Drawing{Person: person, Strokes: strokes})
	}
	return out, nil
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

// labelNames reads the names of labels from a labels.json, {"labels": {"5": "liver"}} or {"5": "liver"}. Without the file there are none.
func labelNames(file string) (map[string]uint16, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var content map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(data, &content)
	}
	if inner, ok := content["labels"]; ok && err == nil {
		content = nil
		err = json.Unmarshal(inner, &content)
	}
	if err != nil {
		return nil, fmt.Errorf("names of labels: %s: %w", file, err)
	}
	names := map[string]uint16{}
	for number, text := range content {
		var name string
		if err := json.Unmarshal(text, &name); err != nil {
			return nil, fmt.Errorf("names of labels: %s: label %q: %w", file, number, err)
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("names of labels: %s: label %q is no number from 0 to 65535", file, number)
		}
		names[name] = uint16(n)
	}
	return names, nil
}
