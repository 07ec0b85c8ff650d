package config

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Print writes the configuration as YAML that reads back (secrets apart), with the source of each setting behind it.
func (l *Loaded) Print(w io.Writer) error {
	var root yaml.Node
	root.Kind = yaml.MappingNode
	if err := l.describe(&root, "", reflect.ValueOf(*l.Config)); err != nil {
		return err
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(&root); err != nil {
		return err
	}
	return enc.Close()
}

func (l *Loaded) describe(into *yaml.Node, prefix string, v reflect.Value) error {
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("mapstructure")
		key := prefix + name
		value := &yaml.Node{}
		if v.Field(i).Kind() == reflect.Struct {
			value.Kind = yaml.MappingNode
			if err := l.describe(value, key+".", v.Field(i)); err != nil {
				return err
			}
		} else {
			if err := value.Encode(written(v.Field(i).Interface())); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			value.Style |= yaml.FlowStyle
			value.LineComment = l.Source(key)
		}
		into.Content = append(into.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, value)
	}
	return nil
}

// PrintEnvironment writes the settings that are not at their defaults as lines that a shell reads, and that a file .env may hold:
// export SCRAWL_SERVER_PORT='8001'. Secrets are named only.
func (l *Loaded) PrintEnvironment(w io.Writer) error {
	for _, key := range slices.Sorted(maps.Keys(l.Sources)) {
		value, name := l.value(key), variable(key)
		if _, secret := value.(Secret); secret {
			if _, err := fmt.Fprintf(w, "# %s comes from %s and is not shown\n", name, l.Sources[key]); err != nil {
				return err
			}
			continue
		}
		text, err := environmentText(value)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if _, err := fmt.Fprintf(w, "export %s='%s'\n", name, strings.ReplaceAll(text, "'", `'\''`)); err != nil {
			return err
		}
	}
	return nil
}

// value is the setting of a dotted key.
func (l *Loaded) value(key string) any {
	v := reflect.ValueOf(*l.Config)
	for name := range strings.SplitSeq(key, ".") {
		v = v.FieldByIndex(fieldOf(v.Type(), name))
	}
	return v.Interface()
}

func fieldOf(t reflect.Type, name string) []int {
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("mapstructure") == name {
			return []int{i}
		}
	}
	return nil
}

// environmentText is a value as an environment variable has it: lists as JSON.
func environmentText(v any) (string, error) {
	if list, ok := v.([]string); ok {
		text, err := json.Marshal(list)
		return string(text), err
	}
	return fmt.Sprint(v), nil
}

// Source says where the value of a dotted key came from.
func (l *Loaded) Source(key string) string {
	if source := l.Sources[key]; source != "" {
		return source
	}
	return "default"
}

// Keys are the dotted names of all settings in order.
func Keys() []string { return slices.Sorted(maps.Keys(keys())) }

// written is a value as configuration files have it.
func written(v any) any {
	switch v := v.(type) {
	case fmt.Stringer:
		return v.String()
	case []string:
		if v == nil {
			return []string{}
		}
	}
	return v
}
