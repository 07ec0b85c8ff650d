package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/subosito/gotenv"
)

// monaiVariables are MONAI Label's environment variables that mean the same here. Durations are whole seconds, lists JSON.
var monaiVariables = map[string]string{
	"MONAI_LABEL_API_STR":                "server.api_prefix",
	"MONAI_LABEL_PROJECT_NAME":           "server.name",
	"MONAI_LABEL_SERVER_PORT":            "server.port",
	"MONAI_LABEL_CORS_ORIGINS":           "server.cors_origins",
	"MONAI_LABEL_APP_DIR":                "app",
	"MONAI_LABEL_STUDIES":                "studies",
	"MONAI_LABEL_AUTH_ENABLE":            "auth.enable",
	"MONAI_LABEL_AUTH_REALM_URI":         "auth.realm_uri",
	"MONAI_LABEL_AUTH_TIMEOUT":           "auth.timeout",
	"MONAI_LABEL_AUTH_CLIENT_ID":         "auth.client_id",
	"MONAI_LABEL_AUTH_TOKEN_USERNAME":    "auth.claims.username",
	"MONAI_LABEL_AUTH_TOKEN_EMAIL":       "auth.claims.email",
	"MONAI_LABEL_AUTH_TOKEN_NAME":        "auth.claims.name",
	"MONAI_LABEL_AUTH_TOKEN_ROLES":       "auth.claims.roles",
	"MONAI_LABEL_AUTH_ROLE_ADMIN":        "auth.roles.admin",
	"MONAI_LABEL_AUTH_ROLE_REVIEWER":     "auth.roles.reviewer",
	"MONAI_LABEL_AUTH_ROLE_ANNOTATOR":    "auth.roles.annotator",
	"MONAI_LABEL_AUTH_ROLE_USER":         "auth.roles.user",
	"MONAI_LABEL_TASKS_TRAIN":            "tasks.train",
	"MONAI_LABEL_TASKS_STRATEGY":         "tasks.strategy",
	"MONAI_LABEL_TASKS_SCORING":          "tasks.scoring",
	"MONAI_LABEL_TASKS_BATCH_INFER":      "tasks.batch_infer",
	"MONAI_LABEL_AUTO_UPDATE_SCORING":    "tasks.auto_scoring",
	"MONAI_LABEL_INFER_TIMEOUT":          "engine.infer_timeout",
	"MONAI_LABEL_SESSIONS":               "sessions.enable",
	"MONAI_LABEL_SESSION_PATH":           "sessions.path",
	"MONAI_LABEL_SESSION_EXPIRY":         "sessions.expiry",
	"MONAI_LABEL_DICOMWEB_USERNAME":      "dicomweb.username",
	"MONAI_LABEL_DICOMWEB_PASSWORD":      "dicomweb.password",
	"MONAI_LABEL_DICOMWEB_CACHE_PATH":    "dicomweb.cache_dir",
	"MONAI_LABEL_DICOMWEB_SEARCH_FILTER": "dicomweb.search",
	"MONAI_LABEL_DICOMWEB_CACHE_EXPIRY":  "dicomweb.refresh",
	"MONAI_LABEL_DICOMWEB_PROXY_TIMEOUT": "dicomweb.timeout",
	"MONAI_LABEL_DICOMWEB_READ_TIMEOUT":  "dicomweb.read_timeout",
	"MONAI_LABEL_QIDO_PREFIX":            "dicomweb.qido_prefix",
	"MONAI_LABEL_WADO_PREFIX":            "dicomweb.wado_prefix",
	"MONAI_LABEL_STOW_PREFIX":            "dicomweb.stow_prefix",
	"MONAI_LABEL_DATASTORE_FILE_EXT":     "datastore.file_ext",
	"MONAI_LABEL_DATASTORE_AUTO_RELOAD":  "datastore.auto_reload",
	"MONAI_LABEL_DATASTORE_READ_ONLY":    "datastore.read_only",
}

// confKeys are keys of MONAI Label's --conf that have another name here, confIgnored those that mean nothing here and why.
var (
	confKeys = map[string]string{
		"skip_trainers": "tasks.train", "skip_strategies": "tasks.strategy", "skip_scoring": "tasks.scoring",
	}
	confIgnored = map[string]string{
		"use_pretrained_model": "networks lie in the app's folder and are never downloaded",
		"pretrained_path":      "networks lie in the app's folder and are never downloaded",
		"preload":              "all networks are loaded at the start",
		"bundles":              "export a bundle's network to ONNX and name it in an app.yaml",
		"scribbles":            "scribbles are what every network here learns from",
		"sam2":                 "there is no SAM2 here",
		"labels":               "labels stand in app.yaml",
		"network":              "the network is the .onnx file in app.yaml",
		"spatial_size":         "stands in app.yaml, as input.grid",
		"target_spacing":       "images are zoomed to the object",
		"heuristic_planner":    "images are zoomed to the object",
		"epistemic_enabled":    "the strategies that rank by uncertainty are always offered",
		"epistemic_samples":    "the strategies that rank by uncertainty are always offered",
	}
)

// readConf takes a --conf pair: any key of the configuration, or one of MONAI Label's.
func (l *loader) readConf(name, text string) error {
	source := "--conf " + name
	if why, ok := confIgnored[name]; ok || strings.HasPrefix(name, "zoo_") {
		l.note("--conf %s has no effect here: %s", name, orText(why, "networks are never downloaded"))
		return nil
	}
	if key, ok := confKeys[name]; ok {
		skip, err := parseBool(text)
		if err != nil {
			return err
		}
		l.set(key, !skip, source)
		return nil
	}
	if name == "models" && strings.EqualFold(strings.TrimSpace(text), "all") {
		text = ""
	}
	t, ok := keys()[name]
	if !ok {
		return unknownKey(name)
	}
	value, err := parseText(text, t)
	if err == nil {
		l.set(name, value, source)
	}
	return err
}

func orText(text, missing string) string {
	if text == "" {
		return missing
	}
	return text
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off":
		return false, nil
	}
	return false, fmt.Errorf("%q, want true or false", text)
}

const (
	monaiPrefix = "MONAI_LABEL_"
	ownPrefix   = "SCRAWL_"
)

// readEnvironment takes the variables that are settings, Scrawl's own over MONAI Label's, and returns the --conf pairs of
// MONAI_LABEL_APP_CONF.
func (l *loader) readEnvironment(environ []string) (conf [][2]string, err error) {
	own := make(map[string]string)
	for key := range keys() {
		own[variable(key)] = key
	}
	for _, names := range []map[string]string{monaiVariables, own} { // the later one wins
		for _, entry := range environ {
			name, text, _ := strings.Cut(entry, "=")
			key, ok := names[name]
			if !ok {
				continue
			}
			if text == "" && keys()[key].Kind().String() != "string" {
				continue // as good as not set
			}
			value, err := parseText(text, keys()[key])
			if err != nil {
				return nil, fmt.Errorf("environment variable %s (%s): %w", name, key, err)
			}
			l.set(key, value, "environment variable "+name)
		}
	}
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		switch {
		case own[name] == "" && misspelt(name):
			l.note("environment variable %s is no setting: %v", name, unknownKey(strings.ToLower(strings.Replace(strings.TrimPrefix(name, ownPrefix), "_", ".", 1))))
		case !strings.HasPrefix(name, monaiPrefix) || text == "" || monaiVariables[name] != "":
		case name == "MONAI_LABEL_APP_CONF":
			if conf, err = appConf(text); err != nil {
				return nil, fmt.Errorf("environment variable %s: %w", name, err)
			}
		case name == "MONAI_LABEL_DATASTORE":
			return nil, fmt.Errorf("environment variable %s is %q, which is not supported here: want nothing, for a folder or a DICOMweb server in studies", name, text)
		default:
			l.note("environment variable %s has no effect here", name)
		}
	}
	return conf, nil
}

// variable is the environment variable of a dotted key.
func variable(key string) string {
	return ownPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// misspelt reports whether a variable looks like a setting in one of the configuration's sections.
func misspelt(name string) bool {
	rest, ok := strings.CutPrefix(name, ownPrefix)
	for key := range keys() {
		section, _, nested := strings.Cut(key, ".")
		if ok && nested && strings.HasPrefix(rest, strings.ToUpper(section)+"_") {
			return true
		}
	}
	return false
}

// appConf reads MONAI_LABEL_APP_CONF, a JSON object.
func appConf(text string) ([][2]string, error) {
	var pairs map[string]any
	if err := json.Unmarshal([]byte(text), &pairs); err != nil {
		return nil, fmt.Errorf("%q, want a JSON object: %w", text, err)
	}
	var conf [][2]string
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		conf = append(conf, [2]string{key, fmt.Sprint(pairs[key])})
	}
	return conf, nil
}

// WithEnvFile adds to an environment the settings of a file of lines KEY=VALUE, such as the .env that MONAI Label reads in the
// working folder. What the environment has already wins. A file that is not there adds nothing.
func WithEnvFile(environ []string, path string) ([]string, error) {
	text, err := readLimited(path)
	if errors.Is(err, fs.ErrNotExist) {
		return environ, nil
	}
	if err != nil {
		return nil, err
	}
	pairs, err := gotenv.StrictParse(strings.NewReader(string(text)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	known := make(map[string]bool)
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		known[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(pairs)) {
		if !known[name] && (strings.HasPrefix(name, monaiPrefix) || strings.HasPrefix(name, ownPrefix)) {
			environ = append(environ, name+"="+pairs[name])
		}
	}
	return environ, nil
}
