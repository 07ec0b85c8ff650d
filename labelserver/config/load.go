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

// maxFile bounds a configuration file.
const maxFile = 1 << 20

// monaiVariables are MONAI Label's environment variables that mean the same here. Durations are whole seconds, lists JSON.
var monaiVariables = map[string]string{
	"MONAI_LABEL_API_STR":               "server.api_prefix",
	"MONAI_LABEL_PROJECT_NAME":          "server.name",
	"MONAI_LABEL_SERVER_PORT":           "server.port",
	"MONAI_LABEL_CORS_ORIGINS":          "server.cors_origins",
	"MONAI_LABEL_APP_DIR":               "app",
	"MONAI_LABEL_STUDIES":               "studies",
	"MONAI_LABEL_INFER_TIMEOUT":         "engine.infer_timeout",
	"MONAI_LABEL_SESSIONS":              "sessions.enable",
	"MONAI_LABEL_SESSION_PATH":          "sessions.path",
	"MONAI_LABEL_SESSION_EXPIRY":        "sessions.expiry",
	"MONAI_LABEL_DATASTORE_FILE_EXT":    "datastore.file_ext",
	"MONAI_LABEL_DATASTORE_AUTO_RELOAD": "datastore.auto_reload",
	"MONAI_LABEL_DATASTORE_READ_ONLY":   "datastore.read_only",
}

// Load makes the configuration of a YAML file ("" for none), an environment in the form of os.Environ and overrides from the
// command line by dotted key, and validates it.
func Load(path string, environ []string, overrides map[string]any) (*Config, error) {
	v := viper.New()
	if path != "" {
		if err := readFile(v, path); err != nil {
			return nil, fmt.Errorf("configuration %s: %w", path, err)
		}
	}
	if err := applyEnvironment(v, environ); err != nil {
		return nil, err
	}
	for key, value := range overrides {
		if _, ok := keys()[key]; !ok {
			return nil, fmt.Errorf("option %s: %w", key, unknownKey(key))
		}
		v.Set(key, value)
	}
	c := Default()
	if err := v.Unmarshal(c, strict); err != nil {
		return nil, fmt.Errorf("configuration: %w", flatten(err))
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

func readFile(v *viper.Viper, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if len(text) > maxFile {
		return fmt.Errorf("file is larger than %d bytes", maxFile)
	}
	v.SetConfigType("yaml")
	if err := v.ReadConfig(strings.NewReader(string(text))); err != nil {
		return err
	}
	for _, key := range v.AllKeys() {
		if _, ok := keys()[key]; !ok && !emptySection(v, key) {
			return unknownKey(key)
		}
	}
	return nil
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

func applyEnvironment(v *viper.Viper, environ []string) error {
	own := make(map[string]string)
	for key := range keys() {
		own["SCRAWL_"+strings.ToUpper(strings.ReplaceAll(key, ".", "_"))] = key
	}
	for _, names := range []map[string]string{monaiVariables, own} { // the later one wins
		for _, entry := range environ {
			name, text, _ := strings.Cut(entry, "=")
			key, ok := names[name]
			if !ok {
				continue
			}
			value, err := parseText(text, keys()[key])
			if err != nil {
				return fmt.Errorf("environment variable %s (%s): %w", name, key, err)
			}
			v.Set(key, value)
		}
	}
	return nil
}

// parseText reads the text of an environment variable as a value of a key's type.
func parseText(text string, t reflect.Type) (any, error) {
	switch {
	case t == reflect.TypeFor[time.Duration](), t == reflect.TypeFor[Size](), t.Kind() == reflect.String:
		return text, nil
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
