package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"scrawl/engine/ort"
	"scrawl/labelserver"
	"scrawl/labelserver/config"
	"scrawl/labelserver/obs"
)

// serveFlags are the options of serve, by the key of the configuration that each sets.
var serveFlags = []struct {
	flag, short, key, usage string
	number                  bool
}{
	{"app", "a", "app", "a built-in app by name, or a folder with an app.yaml", false},
	{"studies", "s", "studies", "the folder of images; made if missing", false},
	{"host", "i", "server.host", "address to listen on; 0.0.0.0 for all (there is no login: anybody who reaches it can use it)", false},
	{"port", "p", "server.port", "port to listen on; 0 picks a free one", true},
	{"runtime", "", "runtime.library", "path of ONNX Runtime's library (default: found by itself)", false},
	{"device", "", "runtime.device", "cpu, cuda, cuda:N or auto", false},
	{"threads", "", "runtime.threads", "threads an operator may use; 0 takes all cores", true},
	{"profile", "", "engine.profile", "how to learn: default (the app's choice), hindsight, thesis or frozen", false},
}

func newServeCommand() *cobra.Command {
	var file string
	texts, numbers := map[string]*string{}, map[string]*int{}
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve a folder of images to 3D Slicer, OHIF and other MONAI Label clients",
		Long: `Serve answers MONAI Label's REST protocol for a folder of images. The folder may be one
that MONAI Label has used: labels, tags and infos are kept in the same places.

In 3D Slicer: install the extension MONAILabel, open the module "MONAI Label", enter the
address shown and press the button beside it. "Next Sample" loads an image; draw a few
strokes under "Scribbles" and press "Update".

Settings come from --config, then the environment (SCRAWL_SERVER_PORT for server.port, and
MONAI Label's own MONAI_LABEL_* variables), then the options below.`,
		Example: "  scrawl serve --studies ~/images\n  scrawl serve --app apps/scribbles --studies /data/ct --host 0.0.0.0 --port 8000",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			overrides := map[string]any{}
			for _, f := range serveFlags {
				if !cmd.Flags().Changed(f.flag) {
					continue
				}
				if f.number {
					overrides[f.key] = *numbers[f.flag]
				} else {
					overrides[f.key] = *texts[f.flag]
				}
			}
			cfg, err := config.Load(file, os.Environ(), overrides)
			if err != nil {
				return err
			}
			path, _, err := ort.Locate(cmd.Context(), cfg.Runtime.Library)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, path, cmd.ErrOrStderr(), func(address, provider string) {
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), "Scrawl serves %s at %s on %s. Stop it with Ctrl-C.\n", cfg.Studies, address, provider)
			})
		},
	}
	c.Flags().StringVar(&file, "config", "", "YAML file with settings; configs/default.yaml lists them all")
	for _, f := range serveFlags {
		if f.number {
			numbers[f.flag] = c.Flags().IntP(f.flag, f.short, 0, f.usage)
		} else {
			texts[f.flag] = c.Flags().StringP(f.flag, f.short, "", f.usage)
		}
	}
	return c
}

// serve runs a server until ctx ends. ready is called once it listens.
func serve(ctx context.Context, cfg *config.Config, library string, stderr io.Writer, ready func(address, provider string)) error {
	log, logFile, err := openLog(cfg, stderr)
	if err != nil {
		return err
	}
	defer func() { _ = logFile.Close() }() // nothing is left to be told where
	lib, err := ort.Open(library)
	if err != nil {
		return err
	}
	s, err := labelserver.New(ctx, cfg, labelserver.Parts{Library: lib, Log: log, LogFile: logFile, Version: buildVersion()})
	if err != nil {
		return err
	}
	l, err := s.Listen(ctx)
	if err != nil {
		return joinClose(err, s)
	}
	ready("http://"+l.Addr().String(), s.Provider())
	return joinClose(s.Serve(ctx, l), s)
}

func joinClose(err error, c io.Closer) error {
	if closeErr := c.Close(); err == nil {
		return closeErr
	}
	return err
}

func openLog(cfg *config.Config, stderr io.Writer) (zerolog.Logger, *obs.LogFile, error) {
	file, err := obs.OpenLogFile(cfg.LogFile(), int64(cfg.Log.MaxBytes))
	if err != nil {
		return zerolog.Nop(), nil, err
	}
	log, err := obs.NewLogger(obs.LogOptions{Level: cfg.Log.Level, JSON: cfg.Log.Format == "json", Terminal: stderr, File: file})
	if err != nil {
		return zerolog.Nop(), nil, joinClose(err, file)
	}
	return log, file, nil
}
