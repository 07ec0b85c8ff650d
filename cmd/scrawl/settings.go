package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"scrawl/labelserver/config"
)

// settingFlag is an option that sets a key of the configuration.
type settingFlag struct {
	name, short, key, usage string
	kind                    flagKind
}

type flagKind int

const (
	textFlag flagKind = iota
	numberFlag
	switchFlag
	durationFlag
)

// settingFlags are the options of every command that works with a configuration. Underscores may stand for dashes, as in MONAI Label.
var settingFlags = []settingFlag{
	{"app", "a", "app", "a built-in app by name, or a folder with an app.yaml", textFlag},
	{"studies", "s", "studies", "the folder of images, made if missing, or the address of a DICOMweb archive", textFlag},
	{"host", "i", "server.host", "address to listen on; 0.0.0.0 for all, which needs --accounts, a realm or --allow-anonymous", textFlag},
	{"port", "p", "server.port", "port to listen on; 0 picks a free one", numberFlag},
	{"accounts", "", "auth.accounts", "file of users and API tokens (see scrawl account); clients must then log in", textFlag},
	{"allow-anonymous", "", "auth.allow_anonymous", "let everybody who reaches the address read and change the studies", switchFlag},
	{"image-grant", "", "auth.image_grant", "how long a machine may download an image without token after it was handed it, for Slicer", durationFlag},
	{"ssl-certfile", "", "server.tls.cert_file", "certificate (PEM), for HTTPS", textFlag},
	{"ssl-keyfile", "", "server.tls.key_file", "its key (PEM)", textFlag},
	{"ssl-keyfile-password", "", "server.tls.key_password", "the key's password; better in SCRAWL_SERVER_TLS_KEY_PASSWORD, since others see options", textFlag},
	{"ssl-ca-certs", "", "server.tls.client_ca", "authorities (PEM) of which clients must show a certificate", textFlag},
	{"ohif", "", "server.ohif", "folder of a built OHIF viewer, served at /ohif/", textFlag},
	{"runtime", "", "runtime.library", "path of ONNX Runtime's library (default: found by itself)", textFlag},
	{"device", "", "runtime.device", "cpu, cuda, cuda:N or auto", textFlag},
	{"threads", "", "runtime.threads", "threads an operator may use; 0 takes all cores", numberFlag},
	{"profile", "", "engine.profile", "how to learn: default (the app's choice), hindsight, thesis or frozen", textFlag},
	{"log-level", "v", "log.level", "debug, info, warn or error", textFlag},
}

// ignoredFlags are options of MONAI Label that mean nothing here. Scripts that give them still work, and are told.
var ignoredFlags = map[string]string{
	"uvicorn-app": "", "workers": "one process answers all requests", "limit-concurrency": "the queue before the device is engine.queue",
	"access-log": "every request is in the log", "root-path": "addresses in answers follow the request's", "log-config": "see the settings below log",
}

// settings are the options of one command.
type settings struct {
	file    string
	conf    []string
	level   string // of --verbose, MONAI Label's name for --log-level
	texts   map[string]*string
	numbers map[string]*int
	yes     map[string]*bool
	times   map[string]*time.Duration
}

// addSettings gives a command all options that set a configuration.
func addSettings(c *cobra.Command) *settings {
	s := &settings{texts: map[string]*string{}, numbers: map[string]*int{}, yes: map[string]*bool{}, times: map[string]*time.Duration{}}
	flags := c.Flags()
	flags.StringVar(&s.file, "config", "", "YAML file with settings; configs/default.yaml lists them all")
	flags.StringArrayVarP(&s.conf, "conf", "c", nil, "a setting as `KEY VALUE`, such as engine.profile thesis; may be repeated")
	for _, f := range settingFlags {
		switch f.kind {
		case numberFlag:
			s.numbers[f.name] = flags.IntP(f.name, f.short, 0, f.usage)
		case switchFlag:
			s.yes[f.name] = flags.BoolP(f.name, f.short, false, f.usage)
		case durationFlag:
			s.times[f.name] = flags.DurationP(f.name, f.short, 0, f.usage)
		default:
			s.texts[f.name] = flags.StringP(f.name, f.short, "", f.usage)
		}
	}
	flags.StringVar(&s.level, "verbose", "", "the same as --log-level")
	for name := range ignoredFlags {
		flags.String(name, "", "")
		flags.Lookup(name).NoOptDefVal = map[bool]string{true: "true"}[name == "access-log"]
		_ = flags.MarkHidden(name) // it exists
	}
	_ = flags.MarkHidden("verbose")
	return s
}

// load makes the configuration of file, environment and options. Notices go to w.
func (s *settings) load(cmd *cobra.Command, w io.Writer) (*config.Loaded, error) {
	in := config.Input{File: s.file, Overrides: map[string]any{}}
	var err error
	if in.Environ, err = config.WithEnvFile(os.Environ(), ".env"); err != nil {
		return nil, err
	}
	for _, pair := range s.conf {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, &usageError{cmd: cmd, err: fmt.Errorf("--conf %s: want a key and a value", pair)}
		}
		in.Conf = append(in.Conf, [2]string{key, value})
	}
	s.override(cmd.Flags(), in.Overrides)
	l, err := config.Read(in)
	if err != nil {
		return nil, err
	}
	var ignored []string
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if why, ok := ignoredFlags[f.Name]; ok {
			ignored = append(ignored, strings.TrimSuffix("--"+f.Name+" has no effect here: "+why, ": "))
		}
	})
	slices.Sort(ignored)
	for _, note := range append(l.Notices, ignored...) {
		_, _ = fmt.Fprintf(w, "note: %s\n", note)
	}
	return l, nil
}

func (s *settings) override(flags *pflag.FlagSet, into map[string]any) {
	for _, f := range settingFlags {
		if !flags.Changed(f.name) {
			continue
		}
		switch f.kind {
		case numberFlag:
			into[f.key] = *s.numbers[f.name]
		case switchFlag:
			into[f.key] = *s.yes[f.name]
		case durationFlag:
			into[f.key] = *s.times[f.name]
		default:
			into[f.key] = *s.texts[f.name]
		}
	}
	if flags.Changed("accounts") {
		into["auth.enable"] = true
	}
	if s.level != "" {
		into["log.level"] = s.level
	}
	if level, ok := into["log.level"].(string); ok {
		into["log.level"] = levelOf(level)
	}
}

// levelOf takes MONAI Label's names of levels too.
func levelOf(name string) string {
	name = strings.ToLower(name)
	for ours, theirs := range map[string][]string{"warn": {"warning"}, "error": {"critical"}, "debug": {"trace"}} {
		if slices.Contains(theirs, name) {
			return ours
		}
	}
	return name
}

// dashes lets options be written with underscores, as MONAI Label's are.
func dashes(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
}

// pairConf joins the two words of MONAI Label's --conf KEY VALUE, which options cannot have. KEY=VALUE stays as it is.
func pairConf(args []string) []string {
	if len(args) == 0 || !slices.Contains([]string{"serve", "start_server", "check", "config"}, args[0]) {
		return args
	}
	var out []string
	for i := 0; i < len(args); i++ {
		isConf := args[i] == "-c" || args[i] == "--conf"
		if !isConf || i+2 >= len(args) || strings.Contains(args[i+1], "=") {
			out = append(out, args[i])
			continue
		}
		out = append(out, "--conf="+args[i+1]+"="+args[i+2])
		i += 2
	}
	return out
}
