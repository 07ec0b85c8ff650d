package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"scrawl/labelserver"
	"scrawl/labelserver/annotation"
	"scrawl/labelserver/versions"
)

// newModelCommand groups what is done with networks. Each of its commands is listed here.
func newModelCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "model",
		Short: "Look at networks, make apps of them, and choose and promote their versions",
		Long: `Training, uploads and promotion make versions of a network: whole files, kept with what
they were made from. One of them is served; version 0 is the app's own. A server on the same
folder of studies follows a change within seconds, without a pause.`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(newModelVersionsCommand(), newModelRollbackCommand(), newModelTaughtCommand(), newModelPromoteCommand(), newModelInspectCommand(), newModelImportCommand())
	return c
}

func newModelVersionsCommand() *cobra.Command {
	var set *settings
	c := &cobra.Command{
		Use:     "versions [MODEL]",
		Short:   "List the versions of networks and what they were made from",
		Example: "  scrawl model versions --studies ~/images",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			loaded, err := set.load(cmd, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			cfg := loaded.Config
			all, err := labelserver.Versions(cfg)
			if err != nil {
				return err
			}
			return writeVersions(cmd.OutOrStdout(), all, strings.Join(a, ""))
		},
	}
	set = addSettings(c)
	return c
}

func writeVersions(w io.Writer, all []labelserver.NetworkVersions, only string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(t, "MODEL\tVERSION\tSERVED\tFROM\tMADE\tIMAGES\tDICE\tBEFORE\tCHECKSUM")
	found := false
	for _, n := range all {
		if only != "" && n.Network != only {
			continue
		}
		found = true
		for _, v := range n.Versions {
			_, werr := fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Network, v.Number, served(v, n.Current), v.Origin, when(v.Created),
				count(len(v.Data)), figure(v, "val_mean_dice"), figure(v, "val_mean_dice_before"), short(v.Checksum))
			err = errors.Join(err, werr)
		}
	}
	if !found {
		return fmt.Errorf("the app has no network called %q", only)
	}
	return errors.Join(err, t.Flush())
}

func served(v versions.Version, current int) string {
	switch {
	case v.Number == current:
		return "yes"
	case !v.Withdrawn.IsZero():
		return "withdrawn"
	}
	return ""
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04")
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func figure(v versions.Version, name string) string {
	if d, ok := v.Metrics[name]; ok {
		return fmt.Sprintf("%.3f", d)
	}
	return ""
}

// short is the beginning of a checksum, enough to tell versions apart.
func short(checksum string) string {
	_, hex, _ := strings.Cut(checksum, ":")
	return hex[:min(len(hex), 12)]
}

func newModelRollbackCommand() *cobra.Command {
	var set *settings
	to := -1
	c := &cobra.Command{
		Use:   "rollback [MODEL]",
		Short: "Serve an earlier version of a network, or any other one",
		Long: `Rollback makes the server go back to the version before the one it serves, or to the one
that --to names; 0 is the app's own network. What annotators have taught a version is
there again when it is served again.`,
		Example: "  scrawl model rollback --studies ~/images\n  scrawl model rollback scribbles --to 0 --studies ~/images",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			if cmd.Flags().Changed("to") && to < 0 {
				return &usageError{cmd: cmd, err: fmt.Errorf("--to %d: the number of a version is wanted", to)}
			}
			loaded, err := set.load(cmd, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			cfg := loaded.Config
			network, number, err := labelserver.Select(cfg, strings.Join(a, ""), to)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Version %d of %s is served now.\n", number, network)
			return err
		},
	}
	set = addSettings(c)
	c.Flags().IntVar(&to, "to", -1, "the version to serve (default: the one before)")
	return c
}

func newModelTaughtCommand() *cobra.Command {
	var set *settings
	c := &cobra.Command{
		Use:   "taught",
		Short: "List what annotators have taught the networks",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := set.load(cmd, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			cfg := loaded.Config
			all, err := annotation.ListTaught(cfg.LineageDir())
			if err != nil {
				return err
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, err = fmt.Fprintln(t, "MODEL\tUSER\tLABEL\tLEARNED\tLAST\tWEIGHTS")
			for _, l := range all {
				_, werr := fmt.Fprintf(t, "%s\t%q\t%q\t%d\t%s\t%s\n", l.Network, l.User, l.Label, l.Learned, when(l.Time), l.Weights[:min(len(l.Weights), 12)])
				err = errors.Join(err, werr)
			}
			return errors.Join(err, t.Flush())
		},
	}
	set = addSettings(c)
	return c
}

func newModelPromoteCommand() *cobra.Command {
	var set *settings
	var user, label string
	c := &cobra.Command{
		Use:   "promote [MODEL]",
		Short: "Make what an annotator has taught a network a version for everybody",
		Long: `Promote keeps the weights that an annotator has taught a network by drawing, and that
answer this annotator's untouched slices, as a new version that everybody is served.
` + "`scrawl model taught`" + ` lists what there is, ` + "`scrawl model rollback`" + ` goes back.`,
		Example: "  scrawl model promote scribbles --user ann --label liver --studies ~/images",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			loaded, err := set.load(cmd, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			cfg := loaded.Config
			parts, err := openParts(cmd, cfg)
			if err != nil {
				return err
			}
			v, err := labelserver.Promote(cmd.Context(), cfg, parts, strings.Join(a, ""), user, label)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Version %d is served now, %s.\n", v.Number, short(v.Checksum))
			return err
		},
	}
	set = addSettings(c)
	c.Flags().StringVar(&user, "user", "", "whose lessons to take (the client id that the annotator's program sends)")
	c.Flags().StringVar(&label, "label", "", "the label that was drawn")
	return c
}
