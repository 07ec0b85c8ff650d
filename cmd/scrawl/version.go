package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"scrawl/engine/ort"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the versions of Scrawl, Go and ONNX Runtime",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "scrawl %s\n%s %s/%s\nonnx runtime %s\n",
				buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtimeVersion(cmd.Context()))
			return err
		},
	}
}

// buildVersion is the module's version and the commit that the binary was built from, as Go recorded them.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown version)"
	}
	version := info.Main.Version
	if version == "" {
		version = "(devel)"
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if commit := settings["vcs.revision"]; commit != "" {
		version += " commit " + commit
		if settings["vcs.modified"] == "true" {
			version += " with changes"
		}
	}
	return version
}

// runtimeVersion tells which ONNX Runtime would be used, without loading it.
func runtimeVersion(ctx context.Context) string {
	path, places, err := ort.Locate(ctx, "")
	var missing *ort.NotFoundError
	switch {
	case errors.As(err, &missing):
		return fmt.Sprintf("not found; get it with `%s`", ort.InstallCommand)
	case err != nil:
		return fmt.Sprintf("not usable: %v", err)
	}
	if v := places[len(places)-1].Version; v != (ort.Version{}) {
		return fmt.Sprintf("%s %s", v, path)
	}
	return path
}
