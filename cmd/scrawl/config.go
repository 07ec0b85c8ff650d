package main

import (
	"github.com/spf13/cobra"
)

func newConfigCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Show the settings that hold",
		Args:  unknownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(newConfigPrintCommand())
	return c
}

func newConfigPrintCommand() *cobra.Command {
	var s *settings
	c := &cobra.Command{
		Use:   "print",
		Short: "Print every setting with where it came from",
		Long: `Print writes the configuration that serve would use with the same options, as YAML
that --config reads, and behind each setting where it came from: the default, the file,
an environment variable, --conf or the command line. Passwords are not shown.`,
		Example: "  scrawl config print --config /etc/scrawl.yaml --port 8001",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := s.load(cmd, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return l.Print(cmd.OutOrStdout())
		},
	}
	s = addSettings(c)
	return c
}
