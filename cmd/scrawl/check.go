package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"scrawl/labelserver"
)

func newCheckCommand() *cobra.Command {
	var s *settings
	c := &cobra.Command{
		Use:   "check",
		Short: "Find out whether serve would work here, and say what to do if not",
		Long: `Check goes through what a server needs, with the options that serve takes: the settings,
the folder of studies, ONNX Runtime, the app (whose networks answer a test image), the
address, the login and the certificate. It changes nothing. It ends with 1 if something
would not work.`,
		Example: "  scrawl check --studies /data/ct --host 0.0.0.0 --accounts /etc/scrawl/accounts.yaml",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			l, err := s.load(cmd, out)
			var usage *usageError
			if errors.As(err, &usage) {
				return err
			}
			say := func(name string, finding string, err error) {
				word, text := "ok", finding
				if err != nil {
					word, text = "FAIL", err.Error()
				}
				_, _ = fmt.Fprintf(out, "%-5s %-9s %s\n", word, name, strings.ReplaceAll(text, "\n", "\n                "))
			}
			if err != nil {
				say("settings", "", err)
				return errors.New("the settings do not hold, nothing else was looked at")
			}
			say("settings", "are valid", nil)
			failed := 0
			for _, step := range labelserver.Checks(l.Config, buildVersion()) {
				finding, err := step.Do(cmd.Context())
				if err != nil {
					failed++
				}
				say(step.Name, finding, err)
			}
			if failed > 0 {
				return fmt.Errorf("%d of the things a server needs are not as they must be", failed)
			}
			_, err = fmt.Fprintln(out, "All is well: scrawl serve with the same options will work.")
			return err
		},
	}
	s = addSettings(c)
	return c
}
