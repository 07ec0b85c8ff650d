package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"scrawl/apps/atomicfile"
	"scrawl/labelserver/auth"
)

// accountFlags are what all subcommands of account take.
type accountFlags struct {
	file  string
	roles []string
	names [4]string
}

func (f *accountFlags) roleNames() auth.RoleNames { return auth.RoleNames(f.names) }

func newAccountCommand() *cobra.Command {
	f := &accountFlags{names: auth.DefaultRoleNames()}
	c := &cobra.Command{
		Use:   "account",
		Short: "Add, list and remove local users and API tokens",
		Long: `Account keeps the file of local users and API tokens that "scrawl serve --accounts FILE" lets
in. A running server takes changes up at once. The file holds hashes only.

Roles: user reads images and asks for masks; annotator uploads images and submits labels;
reviewer writes down reviews; admin deletes, trains, and reads the log. None contains
another: somebody who does everything has all four.`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.PersistentFlags().StringVarP(&f.file, "accounts", "f", "accounts.yaml", "the `file` of accounts; made if missing")
	c.AddCommand(newAddUserCommand(f), newAddTokenCommand(f), newListAccountsCommand(f), newRemoveAccountCommand(f))
	return c
}

func (f *accountFlags) addRoles(c *cobra.Command) {
	c.Flags().StringSliceVar(&f.roles, "roles", []string{"user", "annotator"}, "roles, separated by commas: user, annotator, reviewer, admin")
}

func newAddUserCommand(f *accountFlags) *cobra.Command {
	var fullName, email string
	c := &cobra.Command{
		Use:   "add-user NAME",
		Short: "Add a user, or give one another password and roles",
		Long: `Add-user asks for a password twice, or reads one line of standard input where that is no
terminal.`,
		Example: "  scrawl account add-user anna --roles user,annotator,admin",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			password, err := askPassword(cmd.InOrStdin(), cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			hash, err := auth.HashPassword(password)
			if err != nil {
				return err
			}
			return f.change(func(a *auth.Accounts) error {
				a.Users = slices.DeleteFunc(a.Users, func(u auth.Account) bool { return u.Name == given[0] })
				a.Users = append(a.Users, auth.Account{Name: given[0], FullName: fullName, Email: email, Password: hash, Roles: f.roles})
				return nil
			})
		},
	}
	c.Flags().StringVar(&fullName, "full-name", "", "the user's name in full")
	c.Flags().StringVar(&email, "email", "", "the user's address")
	f.addRoles(c)
	return c
}

func newAddTokenCommand(f *accountFlags) *cobra.Command {
	var lifetime time.Duration
	c := &cobra.Command{
		Use:   "add-token NAME",
		Short: "Add an API token and print it, once",
		Long: `Add-token makes a token for a program or a team. Clients send it in the header
"Authorization: Bearer TOKEN". It is printed now and never again: the file holds its hash.`,
		Example: "  scrawl account add-token reading-room-3 --roles user,annotator --expires 2160h",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			token, hash := auth.NewAPIToken()
			entry := auth.APIToken{Name: given[0], SHA256: hash, Roles: f.roles}
			if lifetime > 0 {
				entry.Expires = time.Now().Add(lifetime).UTC().Truncate(time.Second)
			}
			err := f.change(func(a *auth.Accounts) error {
				if slices.ContainsFunc(a.Tokens, func(t auth.APIToken) bool { return t.Name == given[0] }) {
					return fmt.Errorf("token %q is there already; remove it first", given[0])
				}
				a.Tokens = append(a.Tokens, entry)
				return nil
			})
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			}
			return err
		},
	}
	c.Flags().DurationVar(&lifetime, "expires", 0, "how long it holds, such as 2160h; 0 is for ever")
	f.addRoles(c)
	return c
}

func newListAccountsCommand(f *accountFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List users and tokens with their roles",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := auth.ReadAccounts(f.file, f.roleNames())
			if err != nil {
				return err
			}
			var b strings.Builder
			for _, u := range a.Users {
				fmt.Fprintf(&b, "user   %-24s %s\n", u.Name, f.short(u.Roles))
			}
			for _, t := range a.Tokens {
				fmt.Fprintf(&b, "token  %-24s %s", t.Name, f.short(t.Roles))
				if !t.Expires.IsZero() {
					fmt.Fprintf(&b, "  until %s", t.Expires.Format(time.DateTime))
				}
				b.WriteByte('\n')
			}
			_, err = io.WriteString(cmd.OutOrStdout(), b.String())
			return err
		},
	}
}

func newRemoveAccountCommand(f *accountFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Remove a user or token; logins of theirs end at once",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, given []string) error {
			return f.change(func(a *auth.Accounts) error {
				before := len(a.Users) + len(a.Tokens)
				a.Users = slices.DeleteFunc(a.Users, func(u auth.Account) bool { return u.Name == given[0] })
				a.Tokens = slices.DeleteFunc(a.Tokens, func(t auth.APIToken) bool { return t.Name == given[0] })
				if len(a.Users)+len(a.Tokens) == before {
					return fmt.Errorf("%s has no user or token %q", f.file, given[0])
				}
				return nil
			})
		},
	}
}

// short writes roles by their short names.
func (f *accountFlags) short(roles []string) string {
	list := slices.Clone(roles)
	for i := range list {
		for _, r := range auth.Roles() {
			if list[i] == f.names[r] {
				list[i] = r.String()
			}
		}
	}
	return strings.Join(list, ",")
}

// change reads the file, changes what is in it and writes it back as one, readable by its owner alone.
func (f *accountFlags) change(do func(*auth.Accounts) error) error {
	a, err := auth.ReadAccounts(f.file, f.roleNames())
	if errors.Is(err, fs.ErrNotExist) {
		a, err = &auth.Accounts{}, nil
	}
	if err != nil {
		return err
	}
	if err := do(a); err != nil {
		return err
	}
	if err := a.Check(f.roleNames()); err != nil {
		return err
	}
	for i := range a.Users {
		a.Users[i].Roles = strings.Split(f.short(a.Users[i].Roles), ",")
	}
	for i := range a.Tokens {
		a.Tokens[i].Roles = strings.Split(f.short(a.Tokens[i].Roles), ",")
	}
	var text bytes.Buffer
	text.WriteString("# Users and API tokens of Scrawl, kept by `scrawl account`. Passwords and tokens are hashes.\n")
	if err := a.Encode(&text); err != nil {
		return err
	}
	err = atomicfile.Write(f.file, func(w io.Writer) error {
		_, err := w.Write(text.Bytes())
		return err
	})
	return errors.Join(err, os.Chmod(f.file, 0o600))
}

// askPassword reads a password without showing it, or a line from a pipe.
func askPassword(in io.Reader, prompt io.Writer) (string, error) {
	terminal, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	var typed [2]string
	for i, text := range []string{"Password: ", "Again: "} {
		_, _ = fmt.Fprint(prompt, text)
		b, err := term.ReadPassword(int(terminal.Fd()))
		_, _ = fmt.Fprintln(prompt)
		if err != nil {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		typed[i] = string(b)
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two passwords differ")
	}
	return typed[0], nil
}
