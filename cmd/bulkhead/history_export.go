package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/gitrepo"
	"bulkhead/netcfg/txn"
)

func (a *app) historyExportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "export DIRECTORY", Short: "Write the history as a git repository",
		Long: `Write the history as a bare git repository: one commit for each change, with its
author, time, reason and file, and what it made possible and impossible. Look at it
with "git --git-dir DIRECTORY log -p", or clone it.

Exporting again into the same directory adds what is new. Commits are the same each
time, also when the box has forgotten the oldest changes by then.

` + exitHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			return a.export(cmd.Context(), c, args[0])
		},
	}
}

// exported says what an export did.
type exported struct {
	Directory string `json:"directory"`
	Changes   int    `json:"changes"`
	Added     int    `json:"added"`
}

func (a *app) export(ctx context.Context, c *api.Client, dir string) error {
	list, err := c.History(ctx)
	if err != nil {
		return err
	}
	repo, err := gitrepo.Open(dir)
	if err != nil {
		return err
	}
	defer repo.Close()
	added, err := repo.Add(func(yield func(gitrepo.Commit, error) bool) {
		for i := len(list) - 1; i >= 0; i-- {
			e, err := c.Entry(ctx, list[i].Number)
			if err != nil {
				yield(gitrepo.Commit{}, err)
				return
			}
			if !yield(commitOf(e), nil) {
				return
			}
		}
	})
	if err != nil {
		return fmt.Errorf("export to %s: %w", dir, err)
	}
	if a.json {
		return a.printJSON(exported{dir, len(list), added})
	}
	fmt.Fprintf(a.out, "%s in %s, %d of them new. Look at them with: git --git-dir %s log -p\n", plural(len(list), "change"), dir, added, dir)
	return nil
}

func commitOf(e *api.Entry) gitrepo.Commit {
	return txn.Entry{Number: e.Number, Parent: e.Parent, Change: txn.Change{
		Time: e.Time, Author: e.Author, Why: e.Why, Via: string(e.Via), Name: e.Name, Config: e.Data, Reach: e.Reach, MoreReach: e.MoreReach,
	}}.Commit()
}
