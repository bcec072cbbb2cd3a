package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
)

// maxSecret bounds what is read as a value, in bytes; the box takes less.
const maxSecret = 64 << 10

func (a *app) secretCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Manage what the configuration only names: passwords, keys, tokens",
		Long: `Manage what the configuration only names: passwords, keys and tokens.

A file says {secret: NAME} where a value would stand that nobody else may see. The
value is kept on the box, encrypted, and handed to the one service that needs it. The
box never tells it again; who is to read it elsewhere is a recipient.

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.boxCommand("set NAME", "Set a secret", "Set a secret that the box does not have yet. "+valueHelp, cobra.ExactArgs(1), a.setSecret),
		a.boxCommand("list", "List the secrets", "List the secrets: how old their values are, and where the configuration needs them.", cobra.NoArgs, a.listSecrets),
		a.boxCommand("rotate NAME", "Give a secret another value",
			"Give a secret another value. The services that use it get it at once. "+valueHelp, cobra.ExactArgs(1), a.rotateSecret),
		a.boxCommand("remove NAME", "Forget a secret", "Forget a secret that the configuration does not name any more.", cobra.ExactArgs(1), a.removeSecret),
		a.recipientsCommand(),
	)
	return cmd
}

const valueHelp = `The value is asked for
and not shown. From a file or a program, which may have several lines, it comes as
standard input:

  bulkhead secret set push-key < ~/.ssh/push`

func (a *app) recipientsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recipients",
		Short: "Manage whose keys open the secrets elsewhere",
		Long: `Manage whose keys open the secrets elsewhere: the box encrypts its file with the
secrets, and backups, to these public keys as well as to its own.

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		a.boxCommand("add KEY NAME", "Add a public key", `Add a public key: one of age's (age1...), as age-keygen prints it, or the line of an
SSH key (ssh-ed25519 or ssh-rsa) in quotes. NAME says whose it is. Its private half
belongs into a safe and not onto the box.`, cobra.ExactArgs(2), a.addRecipient),
		a.boxCommand("list", "List the public keys", "List the public keys.", cobra.NoArgs, a.listRecipients),
		a.boxCommand("remove ID", "Remove a public key", `Remove the public key with the ID. Whoever has its private half may have read what
the secrets were until now.`, cobra.ExactArgs(1), a.removeRecipient),
	)
	return cmd
}

// boxCommand is a command that asks netcfgd.
func (a *app) boxCommand(use, short, long string, args cobra.PositionalArgs, f func(context.Context, *api.Client, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long + "\n\n" + exitHelp, Args: args, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			return f(cmd.Context(), c, args)
		},
	}
}

func (a *app) setSecret(ctx context.Context, c *api.Client, args []string) error {
	value, err := a.readSecret(args[0])
	if err != nil {
		return err
	}
	if _, err := c.SetSecret(ctx, args[0], api.NewSecret{Value: value, Author: author()}); err != nil {
		return err
	}
	return a.say(fmt.Sprintf("secret %s is set", args[0]))
}

func (a *app) rotateSecret(ctx context.Context, c *api.Client, args []string) error {
	value, err := a.readSecret(args[0])
	if err != nil {
		return err
	}
	if _, err := c.RotateSecret(ctx, args[0], api.NewSecret{Value: value, Author: author()}); err != nil {
		return err
	}
	return a.say(fmt.Sprintf("secret %s has another value, and whoever uses it knows", args[0]))
}

func (a *app) removeSecret(ctx context.Context, c *api.Client, args []string) error {
	if _, err := c.RemoveSecret(ctx, args[0]); err != nil {
		return err
	}
	return a.say(fmt.Sprintf("secret %s is forgotten", args[0]))
}

func (a *app) listSecrets(ctx context.Context, c *api.Client, _ []string) error {
	s, err := c.Secrets(ctx)
	return show(ctx, a, s, err, a.printSecrets)
}

func (a *app) printSecrets(s *api.Secrets) error {
	if s.Lost != "" {
		fmt.Fprintln(a.out, a.paint(red, s.Lost))
	}
	t := table{header: []string{"SECRET", "AGE", "SINCE", "BY", "USED BY", ""}}
	for _, v := range s.Secrets {
		row := []string{v.Name, "-", "-", orDash(v.By), orDash(strings.Join(v.Uses, ", ")), a.paint(red, "not set")}
		if !v.Missing {
			row[1], row[2], row[5] = a.age(v), a.when(v.Since()), ""
		}
		if v.Old {
			row[5] = a.paint(yellow, "time for another value")
		}
		t.rows = append(t.rows, row)
	}
	return a.print(t)
}

// age says how long a secret has had its value.
func (a *app) age(v api.Secret) string {
	return plural(max(0, int(a.now().Sub(v.Since()).Hours()/24)), "day")
}

func (a *app) listRecipients(ctx context.Context, c *api.Client, _ []string) error {
	s, err := c.Secrets(ctx)
	if err != nil {
		return err
	}
	return show(ctx, a, s.Recipients, nil, func(list []api.Recipient) error {
		t := table{header: []string{"ID", "NAME", "SINCE", "BY", "KEY"}}
		for _, r := range list {
			t.rows = append(t.rows, []string{r.ID, r.Name, a.when(r.Added), orDash(r.By), shorten(r.Key)})
		}
		return a.print(t)
	})
}

// shorten leaves enough of a public key to know it by.
func shorten(key string) string {
	const most = 30
	if len(key) <= most {
		return key
	}
	return key[:most-11] + "..." + key[len(key)-8:]
}

func (a *app) addRecipient(ctx context.Context, c *api.Client, args []string) error {
	r, err := c.AddRecipient(ctx, api.NewRecipient{Key: args[0], Name: args[1], Author: author()})
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(r)
	}
	return a.say(fmt.Sprintf("the secrets are encrypted to %s's key %s as well", r.Name, r.ID))
}

func (a *app) removeRecipient(ctx context.Context, c *api.Client, args []string) error {
	if _, err := c.RemoveRecipient(ctx, args[0]); err != nil {
		return err
	}
	return a.say(fmt.Sprintf("from now on, nothing is encrypted to key %s; what it could read, it may have read", args[0]))
}

// readSecret asks for a value, or takes standard input for it. A line loses its end; what
// has several, such as a key, keeps all of them.
func (a *app) readSecret(name string) (api.Hidden, error) {
	if f, ok := a.in.(*os.File); ok && terminal(f) {
		fmt.Fprintf(a.err, "Value of %s (it is not shown): ", name)
		value, err := typeHidden(f)
		fmt.Fprintln(a.err)
		switch {
		case err != nil:
			return "", err
		case strings.HasPrefix(value, "-----BEGIN "):
			return "", fmt.Errorf("%w: that has several lines; give it as standard input: bulkhead secret set %s < FILE", errUsage, name)
		case value == "":
			return "", errors.New("no value was typed; nothing has changed")
		}
		return api.Hidden(value), nil
	}
	data, err := io.ReadAll(io.LimitReader(a.in, maxSecret+1))
	switch {
	case err != nil:
		return "", err
	case len(data) > maxSecret:
		return "", fmt.Errorf("standard input has more than %d bytes, which is no secret", maxSecret)
	}
	value := string(data)
	if line := strings.TrimRight(value, "\r\n"); !strings.Contains(line, "\n") {
		value = line
	}
	if value == "" {
		return "", errors.New("standard input is empty; nothing has changed")
	}
	return api.Hidden(value), nil
}
