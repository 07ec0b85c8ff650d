package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes of every command.
const (
	exitOK    = 0
	exitError = 1 // the command was understood and failed
	exitUsage = 2 // the command was not understood
)

// newRootCommand returns the whole command line. Each subcommand lives in a file of its own and is listed here.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "scrawl",
		Short: "A labelling server for medical images that learns from your scribbles",
		Long: `Scrawl is a labelling server for medical images that learns from your scribbles
while you draw. 3D Slicer, OHIF and every other client of MONAI Label's REST
protocol use it as they are. It adapts any ONNX segmentation network to you and
to the image at hand, on the CPU or on a GPU, without Python.

Two minutes from nothing to a mask:
  scrawl runtime install        fetch ONNX Runtime, the one library it needs (once)
  scrawl demo                   serve an example image, to look around
  scrawl serve --studies DIR    serve the images in DIR; then, in 3D Slicer, open the
                                module "MONAI Label" and enter the address shown

Exit codes: 0 done, 1 failed, 2 not understood.`,
		Args:          unknownCommand,
		SilenceErrors: true, // run prints them
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{cmd: cmd, err: err} })
	root.SetGlobalNormalizationFunc(dashes)
	root.AddCommand(
		newServeCommand(),
		newDemoCommand(),
		newCheckCommand(),
		newConfigCommand(),
		newAccountCommand(),
		newEvalCommand(),
		newTrainCommand(),
		newTrainNewCommand(),
		newModelCommand(),
		newTrainDefaultCommand(),
		newRuntimeCommand(),
		newVersionCommand(),
	)
	return root
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(pairConf(args))
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	// Nothing can be done about a standard error that cannot be written.
	_, _ = fmt.Fprintf(stderr, "scrawl: %v\n", err)
	var usage *usageError
	if errors.As(err, &usage) {
		_, _ = fmt.Fprintf(stderr, "Run `%s --help` to see what it takes.\n", usage.cmd.CommandPath())
		return exitUsage
	}
	return exitError
}

// usageError is an error in the command line, as against one in carrying it out.
type usageError struct {
	cmd *cobra.Command
	err error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// args makes a usage error of what a check of the arguments finds.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			return &usageError{cmd: cmd, err: err}
		}
		return nil
	}
}

// unknownCommand refuses arguments of a command that only groups others.
func unknownCommand(cmd *cobra.Command, given []string) error {
	if len(given) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q for %q", given[0], cmd.CommandPath())
	if cmd.SuggestionsMinimumDistance <= 0 {
		cmd.SuggestionsMinimumDistance = 2 // as cobra has it where it makes suggestions itself
	}
	if near := cmd.SuggestionsFor(given[0]); len(near) > 0 {
		err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or "))
	}
	return &usageError{cmd: cmd, err: err}
}
