package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"scrawl/adapters/graphcut"
	"scrawl/apps"
	"scrawl/apps/evaluate"
	"scrawl/apps/interact"
)

// families are methods that are asked for together: those of the published ablation tables.
var families = map[string][]string{
	"components":   {"copy", "interactive-only", "thesis"},
	"augmentation": {"no-augmentation", "fixed-6", "up-to-16", "up-to-32"},
	"lambda":       {"lambda=1.0", "lambda=1.5", "lambda=2.0", "lambda=2.5", "lambda=3.0"},
	"alpha":        {"alpha=0.70", "alpha=0.80", "alpha=0.90", "alpha=0.95", "alpha=0.99", "alpha=0.995"},
}

// thesisVariants are what is changed of the published method in methods with a name of their own.
var thesisVariants = map[string][]string{
	"interactive-only": {"thesis.consistency=false", "thesis.student_answers=true"},
	"no-augmentation":  {"thesis.noise=false", "thesis.blur=false", "thesis.inversion=false", "thesis.fixed_copies=1"},
	"fixed-6":          {"thesis.fixed_copies=6"},
	"up-to-16":         {"thesis.fixed_copies=0", "thesis.max_copies=16"},
	"up-to-32":         {"thesis.fixed_copies=0", "thesis.max_copies=32"},
}

// graphCutMethod is MONAI Label's method without a network.
const graphCutMethod = "graphcut"

// fullMethod is the model as the app has it.
const fullMethod = "full"

// chosenMethods reads which methods are wanted, each once, in the order in which they are named. They have no model yet;
// own is the profile of the model they will have.
func (f *evalFlags) chosenMethods(own interact.Profile) ([]evaluate.Method, error) {
	names := f.methods
	if len(f.profiles) > 0 {
		names = f.profiles
	}
	var expanded []string
	for _, name := range names {
		switch {
		case name == "ablation":
			for _, family := range []string{"components", "augmentation", "lambda", "alpha"} {
				expanded = append(expanded, families[family]...)
			}
		case families[name] != nil:
			expanded = append(expanded, families[name]...)
		default:
			expanded = append(expanded, name)
		}
	}
	var out []evaluate.Method
	add := func(m evaluate.Method) {
		if !slices.ContainsFunc(out, func(o evaluate.Method) bool { return o.Name == m.Name }) {
			out = append(out, m)
		}
	}
	for _, name := range expanded {
		m, err := methodOf(name)
		if err != nil {
			return nil, err
		}
		if m.Name == fullMethod {
			m.Profile = own
		}
		add(m)
	}
	for _, text := range f.own {
		m, err := ownMethod(text)
		if err != nil {
			return nil, err
		}
		add(m)
	}
	return out, nil
}

// methodOf is the method of a name that is not a family's.
func methodOf(name string) (evaluate.Method, error) {
	switch name {
	case fullMethod:
		return evaluate.Method{Name: name}, nil
	case string(interact.ProfileFrozen), string(interact.ProfileHindsight), string(interact.ProfileThesis):
		return evaluate.Method{Name: name, Profile: interact.Profile(name)}, nil
	case "copy":
		return evaluate.Method{Name: name, Hand: evaluate.Copy}, nil
	case graphCutMethod:
		return evaluate.Method{Name: name, Profile: interact.ProfileFrozen, Model: evaluate.GraphCut{Options: graphcut.Defaults()}}, nil
	case "corrected":
		return evaluate.Method{Name: name, Hand: evaluate.Corrected}, nil
	case "manual":
		return evaluate.Method{Name: name, Hand: evaluate.Manual}, nil
	}
	if changes, ok := thesisVariants[name]; ok {
		return evaluate.Method{Name: name, Profile: interact.ProfileThesis, Changes: changes}, nil
	}
	constant, value, ok := strings.Cut(name, "=")
	if _, err := strconv.ParseFloat(value, 64); ok && err == nil && (constant == "lambda" || constant == "alpha") {
		return evaluate.Method{Name: name, Profile: interact.ProfileThesis, Changes: []string{"thesis." + name}}, nil
	}
	return evaluate.Method{}, fmt.Errorf("method %q: full, frozen, hindsight, thesis, graphcut, copy, corrected, manual, %s, lambda=NUMBER, alpha=NUMBER, or one of the families %s is wanted",
		name, strings.Join(sortedKeys(thesisVariants), ", "), strings.Join(append(sortedKeys(families), "ablation"), ", "))
}

// ownMethod reads NAME=PROFILE,KEY=VALUE,…
func ownMethod(text string) (evaluate.Method, error) {
	name, rest, ok := strings.Cut(text, "=")
	parts := strings.Split(rest, ",")
	if !ok || name == "" || parts[0] == "" {
		return evaluate.Method{}, fmt.Errorf("--method %q: NAME=PROFILE,KEY=VALUE,… is wanted", text)
	}
	return evaluate.Method{Name: name, Profile: interact.Profile(parts[0]), Changes: parts[1:]}, nil
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// wantsNetwork reports whether a method answers by the app's model.
func wantsNetwork(m evaluate.Method) bool {
	return m.Model == nil && (m.Hand == "" || m.Hand == evaluate.Corrected)
}

// equip gives the methods their models: the one that was loaded, with constants changed for all of them and then for each.
func equip(methods []evaluate.Method, loaded apps.Loaded, changes []string) error {
	for i := range methods {
		if err := equipOne(&methods[i], loaded, changes); err != nil {
			return fmt.Errorf("method %s: %w", methods[i].Name, err)
		}
	}
	return nil
}

func equipOne(m *evaluate.Method, loaded apps.Loaded, changes []string) error {
	changes = slices.Concat(changes, m.Changes)
	switch {
	case !wantsNetwork(*m):
		return nil
	case loaded.Segment != nil:
		variant := *loaded.Segment
		m.Classes, m.Source = &variant, variant.Engine.Network().Source()
		if err := override(map[string]any{"thesis": &variant.Thesis, "thickness": &variant.Thickness}, changes); err != nil {
			return err
		}
		return variant.Thesis.Validate()
	case m.Hand == evaluate.Corrected:
		return errors.New("the model answers nothing unasked that could be corrected: one with classes is wanted")
	}
	variant := *loaded.Model
	m.Model, m.Source = &variant, variant.Engine.Network().Source()
	if err := override(map[string]any{"thesis": &variant.Thesis, "hindsight": &variant.Hindsight, "recognise": &variant.Recognise, "thickness": &variant.Thickness}, changes); err != nil {
		return err
	}
	return errors.Join(variant.Thesis.Validate(), variant.Hindsight.Validate())
}

// override sets constants of the method, by section, from texts such as hindsight.steps=4, by the keys of app.yaml.
func override(sections map[string]any, changes []string) error {
	for _, change := range changes {
		path, value, ok := strings.Cut(change, "=")
		section, key, dotted := strings.Cut(path, ".")
		if !ok || !dotted || sections[section] == nil {
			return fmt.Errorf("constant %q: something like thesis.lambda=3 is wanted, of the sections %s", change, strings.Join(sortedKeys(sections), ", "))
		}
		dec := yaml.NewDecoder(strings.NewReader(key + ": " + value))
		dec.KnownFields(true)
		if err := dec.Decode(sections[section]); err != nil {
			return fmt.Errorf("constant %q: %w", change, err)
		}
	}
	return nil
}
