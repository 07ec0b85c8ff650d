package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"gopkg.in/yaml.v3"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

// Loaded is a configuration together with where each setting came from.
type Loaded struct {
	*Config
	// Sources says of each dotted key that is not at its default who set it: "configuration FILE", "environment variable NAME",
	// "--conf KEY" or "command line".
	Sources map[string]string
	// Notices are things a user should know, such as a variable of MONAI Label that means nothing here.
	Notices []string
}

// Input is what a configuration is made from, in rising order of precedence.
type Input struct {
	// File is the path of a YAML file, "" for none.
	File string
	// Environ is an environment in the form of os.Environ.
	Environ []string
	// Conf are MONAI Label's --conf pairs, key and value.
	Conf [][2]string
	// Overrides are values from the command line by dotted key.
	Overrides map[string]any
}

// Load makes the configuration of a YAML file ("" for none), an environment in the form of os.Environ and overrides from the
// command line by dotted key, and validates it.
func Load(path string, environ []string, overrides map[string]any) (*Config, error) {
	l, err := Read(Input{File: path, Environ: environ, Overrides: overrides})
	if err != nil {
		return nil, err
	}
	return l.Config, nil
}

// Read makes a configuration and validates it.
func Read(in Input) (*Loaded, error) {
	l := &loader{viper: viper.New(), loaded: &Loaded{Config: Default(), Sources: map[string]string{}}}
	if in.File != "" {
		if err := l.readFile(in.File); err != nil {
			return nil, fmt.Errorf("configuration %s: %w", in.File, err)
		}
	}
	conf, err := l.readEnvironment(in.Environ)
	if err != nil {
		return nil, err
	}
	for _, pair := range append(conf, in.Conf...) {
		if err := l.readConf(pair[0], pair[1]); err != nil {
			return nil, fmt.Errorf("--conf %s: %w", pair[0], err)
		}
	}
	for key, value := range in.Overrides {
		if _, ok := keys()[key]; !ok {
			return nil, fmt.Errorf("option %s: %w", key, unknownKey(key))
		}
		l.set(key, value, "command line")
	}
	if err := l.viper.Unmarshal(l.loaded.Config, strict); err != nil {
		return nil, fmt.Errorf("configuration: %w", flatten(err))
	}
	if err := l.loaded.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return l.loaded, nil
}

// loader collects settings and where they came from.
type loader struct {
	viper  *viper.Viper
	loaded *Loaded
}

func (l *loader) set(key string, value any, source string) {
	l.viper.Set(key, value)
	l.loaded.Sources[key] = source
}

func (l *loader) note(format string, args ...any) {
	l.loaded.Notices = append(l.loaded.Notices, fmt.Sprintf(format, args...))
}

func (l *loader) readFile(path string) error {
	text, err := readLimited(path)
	if err != nil {
		return err
	}
	l.viper.SetConfigType("yaml")
	if err := l.viper.ReadConfig(strings.NewReader(string(text))); err != nil {
		return err
	}
	for _, key := range l.viper.AllKeys() {
		if _, ok := keys()[key]; ok {
			l.loaded.Sources[key] = "configuration " + path
		} else if !emptySection(l.viper, key) {
			return unknownKey(key)
		}
	}
	return nil
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("file is larger than %d bytes", maxFile)
	}
	return text, err
}

// emptySection reports whether a key is a section with nothing in it, as is left when all its lines are commented out.
func emptySection(v *viper.Viper, key string) bool {
	if v.Get(key) != nil {
		return false
	}
	for known := range keys() {
		if strings.HasPrefix(known, key+".") {
			return true
		}
	}
	return false
}

// parseText reads the text of an environment variable as a value of a key's type.
func parseText(text string, t reflect.Type) (any, error) {
	switch {
	case t == reflect.TypeFor[time.Duration](), t == reflect.TypeFor[Size](), t.Kind() == reflect.String:
		return text, nil
	case t.Kind() == reflect.Bool:
		return parseBool(text)
	case t.Kind() == reflect.Slice && strings.HasPrefix(strings.TrimSpace(text), "{"): // a filter of MONAI Label's, one of a list here
		return []string{text}, nil
	case t.Kind() == reflect.Slice && !strings.HasPrefix(strings.TrimSpace(text), "["):
		return splitList(text), nil
	}
	value := reflect.New(t)
	if err := yaml.Unmarshal([]byte(text), value.Interface()); err != nil {
		return nil, fmt.Errorf("%q, want a value of type %s", text, t)
	}
	return value.Elem().Interface(), nil
}

func splitList(text string) []string {
	var list []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// keys are the dotted names of all settings with their types, from the struct's tags.
func keys() map[string]reflect.Type {
	found := make(map[string]reflect.Type)
	collectKeys(found, "", reflect.TypeFor[Config]())
	return found
}

func collectKeys(found map[string]reflect.Type, prefix string, t reflect.Type) {
	for i := range t.NumField() {
		field := t.Field(i)
		key := prefix + field.Tag.Get("mapstructure")
		if field.Type.Kind() == reflect.Struct {
			collectKeys(found, key+".", field.Type)
			continue
		}
		found[key] = field.Type
	}
}

// strict makes decoding refuse what does not fit: "port: yes" is an error and not port 1.
func strict(c *mapstructure.DecoderConfig) {
	c.WeaklyTypedInput = false
	c.ErrorUnused = false // keys are checked before, with a suggestion
	c.DecodeHook = mapstructure.ComposeDecodeHookFunc(decodeDuration, decodeSize)
}

func decodeDuration(_, to reflect.Type, data any) (any, error) {
	if to != reflect.TypeFor[time.Duration]() {
		return data, nil
	}
	switch data := data.(type) {
	case time.Duration:
		return data, nil
	case int:
		return seconds(float64(data))
	case float64:
		return seconds(data)
	case string:
		if d, err := time.ParseDuration(data); err == nil {
			return d, nil
		}
		var n float64
		if err := yaml.Unmarshal([]byte(data), &n); err == nil && data != "" {
			return seconds(n)
		}
	}
	return nil, fmt.Errorf("%v is no duration, want one such as 90s or 10m (a bare number counts seconds)", data)
}

func seconds(n float64) (any, error) {
	if !(n > -1e9 && n < 1e9) {
		return nil, fmt.Errorf("%v seconds are out of range", n)
	}
	return time.Duration(n * float64(time.Second)), nil
}

func decodeSize(_, to reflect.Type, data any) (any, error) {
	if to != reflect.TypeFor[Size]() {
		return data, nil
	}
	if text, ok := data.(string); ok {
		return ParseSize(text)
	}
	return data, nil
}

func flatten(err error) error {
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		if all := several.Unwrap(); len(all) > 0 {
			return all[0]
		}
	}
	return err
}

func unknownKey(key string) error {
	best, distance := "", len(key)
	known := make([]string, 0)
	for k := range keys() {
		known = append(known, k)
	}
	slices.Sort(known)
	for _, k := range known {
		if d := editDistance(key, k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return fmt.Errorf("unknown key %s", key)
	}
	return fmt.Errorf("unknown key %s, did you mean %s?", key, best)
}

// editDistance is Levenshtein's: insertions, deletions and substitutions.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
