package config

import (
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"

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
