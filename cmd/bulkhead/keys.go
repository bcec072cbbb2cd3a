package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	updates "bulkhead/services/update/api"
	"bulkhead/services/update/manifest"
)

func (a *app) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Manage the keys that sign images, and which of them a box trusts",
		Long: `Manage the keys that sign images, and which of them a box trusts.

A box runs only images that a key has signed which it trusts. It trusts your key from
when you claimed it. To let somebody else sign for it, add their key; your own signs
that.

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	run := func(use, short, long string, args cobra.PositionalArgs, f func(context.Context, []string) error) {
		cmd.AddCommand(&cobra.Command{Use: use, Short: short, Long: long + "\n\n" + exitHelp, Args: args,
			ValidArgsFunction: cobra.NoFileCompletions,
			RunE:              func(cmd *cobra.Command, args []string) error { return f(cmd.Context(), args) }})
	}
	run("new", "Make a key of your own", "Make a key of your own, if you have none, and show its public half.", cobra.NoArgs, a.newKey)
	run("show", "Show the public half of your key", "Show the public half of your key in one word, to give to others.", cobra.NoArgs, a.showKey)
	run("list", "List the keys that a box trusts", "List the keys that a box trusts.", cobra.NoArgs, a.listKeys)
	run("add [KEY NAME]", "Have a box trust a key", `Have a box trust KEY, which is what "bulkhead keys show" prints elsewhere, under NAME.
Without them it is your own key, for a box that trusts none yet.`, cobra.MaximumNArgs(2), a.addKey)
	run("remove ID", "Have a box trust a key no more", "Have a box trust the key with the ID no more.", cobra.ExactArgs(1), a.removeKey)
	run("gokrazy-password", "Set the password of gokrazy's update protocol", `Set the password with which "gok update" gets into a box whose configuration says
system.updates.gokrazy. It is read from standard input.`, cobra.NoArgs, a.gokrazyPassword)
	return cmd
}

// updates returns a client of updated: on this machine, if it runs here and --box names
// no other, or on a box that was claimed.
func (a *app) updates(ctx context.Context) (*updates.Client, error) {
	if a.box == "" {
		socket := filepath.Join(filepath.Dir(a.socket), updates.SocketFile)
		if _, err := os.Stat(socket); err == nil {
			return updates.NewClient(socket), nil
		}
	}
	c, err := a.remote(ctx)
	if err != nil {
		return nil, err
	}
	return &updates.Client{Caller: c}, nil
}

// ownKey is what keys new and keys show print as JSON.
type ownKey struct {
	ID   string             `json:"id"`
	Key  manifest.PublicKey `json:"key"`
	File string             `json:"file"`
}

func (a *app) newKey(context.Context, []string) error {
	switch _, path, err := readSigningKey(); {
	case err == nil:
		return fmt.Errorf("there is a key already, in %s; move it away first, and mind that boxes trust it", path)
	case !errors.Is(err, errNoKey):
		return err
	}
	k, path, err := signingKey()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(ownKey{k.Public().ID(), k.Public(), path})
	}
	fmt.Fprintf(a.out, "%s\n", k.Public())
	fmt.Fprintf(a.err, "Key %s is in %s. Keep a copy where it cannot be lost or stolen:\nwho has it can sign images for your boxes.\n", k.Public().ID(), path)
	return nil
}

func (a *app) showKey(context.Context, []string) error {
	k, path, err := readSigningKey()
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(ownKey{k.Public().ID(), k.Public(), path})
	}
	_, err = fmt.Fprintln(a.out, k.Public())
	return err
}

func (a *app) listKeys(ctx context.Context, _ []string) error {
	c, err := a.updates(ctx)
	if err != nil {
		return err
	}
	keys, err := c.Keys(ctx)
	switch {
	case err != nil:
		return err
	case a.json:
		return a.printJSON(keys.Keys)
	}
	own := ""
	if k, _, err := readSigningKey(); err == nil {
		own = k.Public().ID()
	}
	t := table{header: []string{"ID", "NAME", "SINCE", "ADDED BY", ""}}
	for _, k := range keys.Keys {
		mine := ""
		if k.ID == own {
			mine = "yours"
		}
		t.rows = append(t.rows, []string{k.ID, k.Name, a.when(k.Added), orDash(k.By), mine})
	}
	return a.print(t)
}

func (a *app) addKey(ctx context.Context, args []string) error {
	if len(args) == 1 {
		return fmt.Errorf("%w: KEY needs a NAME by which people know it", errUsage)
	}
	c, err := a.updates(ctx)
	if err != nil {
		return err
	}
	own, _, err := signingKey()
	if err != nil {
		return err
	}
	in := updates.AddKey{Key: own.Public(), Name: tokenName()}
	if len(args) == 2 {
		if in.Key, err = manifest.ParsePublicKey(args[0]); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		in.Name = args[1]
	}
	keys, err := c.Keys(ctx)
	if err != nil {
		return err
	}
	if len(keys.Keys) > 0 {
		in.Signature = new(own.SignKeys(manifest.KeyChange{Nonce: keys.Nonce, Key: in.Key, Name: in.Name}))
	}
	if err := c.AddKey(ctx, in); err != nil {
		return err
	}
	return a.say(fmt.Sprintf("the box trusts key %s (%s) now", in.Key.ID(), in.Name))
}

func (a *app) removeKey(ctx context.Context, args []string) error {
	c, err := a.updates(ctx)
	if err != nil {
		return err
	}
	own, _, err := readSigningKey()
	if err != nil {
		return err
	}
	keys, err := c.Keys(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys.Keys {
		if k.ID != args[0] {
			continue
		}
		in := updates.RemoveKey{Signature: own.SignKeys(manifest.KeyChange{Nonce: keys.Nonce, Remove: true, Key: k.Key})}
		if err := c.RemoveKey(ctx, k.ID, in); err != nil {
			return err
		}
		return a.say(fmt.Sprintf("the box does not trust key %s (%s) any more", k.ID, k.Name))
	}
	return fmt.Errorf("the box trusts no key %q; see: bulkhead keys list", args[0])
}

func (a *app) gokrazyPassword(ctx context.Context, _ []string) error {
	c, err := a.updates(ctx)
	if err != nil {
		return err
	}
	if a.asks {
		fmt.Fprint(a.err, "Password (it will be seen): ")
	}
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := c.SetGokrazyPassword(ctx, updates.Password{Password: strings.TrimRight(line, "\r\n")}); err != nil {
		return err
	}
	return a.say("the password is set")
}

// say prints what was done, for people; programs have the exit code.
func (a *app) say(text string) error {
	if a.json {
		return a.printJSON(struct{}{})
	}
	_, err := fmt.Fprintln(a.out, text)
	return err
}
