package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"scrawl/engine/ort"
	"scrawl/engine/ort/install"
)

func newRuntimeCommand() *cobra.Command {
	var library string
	cmd := &cobra.Command{
		Use:   "runtime",
		Short: "Show or install ONNX Runtime, the library that runs the networks",
		Long: `Shows which ONNX Runtime library would be used, its version, the devices it can
use, and every place that was looked at. The places, in this order: --ort-lib, the
environment variables ORT_LIB and ONNXRUNTIME_SHARED_LIBRARY_PATH, the folder of
the executable, the cache that "scrawl runtime install" fills, the Go module cache,
an installed Python package onnxruntime, an installed Node package onnxruntime-node.`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return showRuntime(cmd.Context(), cmd.OutOrStdout(), library)
		},
	}
	cmd.Flags().StringVar(&library, "ort-lib", "", "use this library `file` and look nowhere else")
	cmd.AddCommand(newRuntimeInstallCommand(), newRuntimeCheckCommand(), newRuntimePlacementCommand(), newRuntimeTuneCommand())
	return cmd
}

// showRuntime reports on the library and fails when there is none that loads.
func showRuntime(ctx context.Context, w io.Writer, library string) (err error) {
	path, places, err := ort.Locate(ctx, library)
	if err != nil {
		return err
	}
	lib, err := ort.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lib.Close()) }()
	var b strings.Builder
	fmt.Fprintf(&b, "onnx runtime %s\nlibrary      %s\n", lib.Version(), lib.Path())
	for _, d := range lib.Devices() {
		if d.Err != nil {
			fmt.Fprintf(&b, "device       %v\n", d.Err)
			continue
		}
		fmt.Fprintf(&b, "device       %s is ready\n", d.Device)
	}
	b.WriteString("looked in\n")
	for _, p := range places {
		fmt.Fprintf(&b, "  %s\n", p)
	}
	_, err = io.WriteString(w, b.String())
	return err
}

func newRuntimeInstallCommand() *cobra.Command {
	var r install.Request
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Fetch ONNX Runtime and put it where Scrawl finds it",
		Long: `Fetches ONNX Runtime with pip or npm, whichever is there, checks its SHA-256
against the one that Scrawl knows, takes out the library alone and puts it into the
user's cache. Python and Node are not needed afterwards. With --url it fetches a
release archive (.whl, .zip, .tgz) or a bare library from there instead.`,
		Example: `  scrawl runtime install
  scrawl runtime install --gpu
  scrawl runtime install --version 1.24.4
  scrawl runtime install --url https://example.org/onnxruntime-linux-x64-1.31.1.tgz --sha256 0123…`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := newInstaller(cmd.ErrOrStderr(), func(in *install.Installer) (string, error) {
				return in.Install(cmd.Context(), r)
			})
			if err != nil {
				return err
			}
			return reportInstalled(cmd.OutOrStdout(), path, r.GPU)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&r.GPU, "gpu", false, "install the build with CUDA, for NVIDIA GPUs")
	f.StringVar(&r.Version, "version", "", "`version` to install (default "+install.DefaultVersion+")")
	f.StringVar(&r.URL, "url", "", "`address` of a release archive or library")
	f.StringVar(&r.SHA256, "sha256", "", "hash of what is fetched, in `hex`; needed with --url and with versions Scrawl does not know")
	f.StringVar(&r.Dir, "dir", "", "`folder` to install into (default: the user's cache)")
	f.BoolVar(&r.Force, "force", false, "install again what is installed already")
	return cmd
}

func reportInstalled(w io.Writer, path string, gpu bool) error {
	version, known := "", ""
	if v, err := ort.FileVersion(path); err == nil {
		version = " " + v.String()
		known = fmt.Sprintf("It needs CUDA %d and cuDNN 9: an NVIDIA driver for that CUDA, and the libraries' folders in LD_LIBRARY_PATH.\n", install.CUDAGeneration(v))
	}
	if !gpu {
		known = ""
	}
	_, err := fmt.Fprintf(w, "onnx runtime%s is installed: %s\n%s", version, path, known)
	return err
}

// newRuntimeCheckCommand is what an installation calls in another process, to see whether the library loads.
func newRuntimeCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "check FILE",
		Short:  "Load a library file and print its version",
		Hidden: true,
		Args:   args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, files []string) error {
			lib, err := ort.Open(files[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), lib.Version())
			return errors.Join(err, lib.Close())
		},
	}
}

// ensureRuntime returns the library to use (explicit, when not empty), and installs it on first use.
func ensureRuntime(ctx context.Context, stderr io.Writer, explicit string) (string, error) {
	return newInstaller(stderr, func(in *install.Installer) (string, error) { return in.Ensure(ctx, explicit) })
}

// newInstaller calls f with an installer that shows its progress on stderr and checks the library in a process of its own.
func newInstaller(stderr io.Writer, f func(*install.Installer) (string, error)) (string, error) {
	meter := &meter{w: stderr, terminal: isTerminal(stderr)}
	defer meter.finish()
	return f(&install.Installer{Progress: meter.show, Verify: checkLibrary})
}

func checkLibrary(ctx context.Context, path string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "runtime", "check", path)
	cmd.Args[0] = os.Args[0]
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// meter shows the stages of an installation: a bar in a terminal, one line each elsewhere.
type meter struct {
	w        io.Writer
	terminal bool
	stage    string
	bar      *progressbar.ProgressBar
}

func (m *meter) show(stage string, done, total int64) {
	if stage != m.stage {
		m.finish()
		m.stage = stage
		if !m.terminal {
			_, _ = fmt.Fprintf(m.w, "%s onnx runtime\n", stage)
			return
		}
		if total <= 0 {
			total = -1 // a spinner
		}
		m.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(m.w),
			progressbar.OptionSetDescription(stage+" onnx runtime"),
			progressbar.OptionShowBytes(true),
			progressbar.OptionClearOnFinish(),
		)
	}
	if m.bar != nil {
		_ = m.bar.Set64(done) // a bar that cannot be drawn is no reason to fail
	}
}

func (m *meter) finish() {
	if m.bar != nil {
		_ = m.bar.Finish()
		m.bar = nil
	}
}
