package main

import (
	"context"
	"fmt"
	"io"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"scrawl/engine/ort"
	"scrawl/labelserver"
	"scrawl/labelserver/config"
	"scrawl/labelserver/obs"
)

func newServeCommand() *cobra.Command {
	var set *settings
	var dryRun bool
	c := &cobra.Command{
		Use:     "serve",
		Aliases: []string{"start_server"},
		Short:   "Serve a folder of images to 3D Slicer, OHIF and other MONAI Label clients",
		Long: `Serve answers MONAI Label's REST protocol for a folder of images. The folder may be one
that MONAI Label has used: labels, tags and infos are kept in the same places. Or it does
so for an archive that speaks DICOMweb, such as Orthanc, by its address.

In 3D Slicer: install the extension MONAILabel, open the module "MONAI Label", enter the
address shown and press the button beside it. "Next Sample" loads an image; draw a few
strokes under "Scribbles" and press "Update".

Without more it listens to this machine only. For others give it a login (--accounts, made
by "scrawl account", or a realm in the settings), or --allow-anonymous where everybody in
reach is trusted; with --ssl-certfile and --ssl-keyfile it speaks HTTPS.

Settings come from --config, then the environment and a file .env in the working folder
(SCRAWL_SERVER_PORT for server.port, and MONAI Label's own MONAI_LABEL_* variables), then
--conf, then the options below. "scrawl config print" shows them, "scrawl check" tries
them. Options may be written with underscores, as in MONAI Label.`,
		Example: "  scrawl serve --studies ~/images\n  scrawl serve --studies http://127.0.0.1:8042/dicom-web\n  scrawl serve --app apps/scribbles --studies /data/ct --conf models scribbles --host 0.0.0.0 --accounts accounts.yaml",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := set.load(cmd, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if dryRun {
				return l.PrintEnvironment(cmd.OutOrStdout())
			}
			path, _, err := ort.Locate(cmd.Context(), l.Runtime.Library)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), l.Config, path, cmd.ErrOrStderr(), func(address, provider string) {
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), "Scrawl serves %s at %s on %s. Stop it with Ctrl-C.\n", l.Studies, address, provider)
			})
		},
	}
	set = addSettings(c)
	c.Flags().BoolVar(&dryRun, "dryrun", false, "only print the settings that are not at their defaults, as lines of a file .env")
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
	ready(s.Address(l), s.Provider())
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
