package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
)

func (a *app) undoCommand() *cobra.Command {
	u := api.Undo{Via: api.ViaCLI}
	var t terms
	cmd := &cobra.Command{
		Use:   "undo",
		Short: "Go back to the configuration before the last change",
		Long: `Put the configuration that was in force before the last change into force again.
It becomes a change of its own in the history: undoing that as well brings the last
one back. A change that is still pending is undone with "bulkhead cancel".

` + trialHelp + `

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.undo(cmd.Context(), u, t) },
	}
	cmd.Flags().StringVar(&u.Author, "author", author(), "who wants it, for the history; with --box it is who claimed the box")
	t.flags(cmd)
	return cmd
}

func (a *app) undo(ctx context.Context, u api.Undo, t terms) error {
	if err := a.mayInsist(t); err != nil {
		return err
	}
	s, err := a.site(ctx)
	if err != nil {
		return err
	}
	var cfg *model.Config // only to find a box that has moved
	if s.box != nil {
		if cfg, err = a.before(ctx, s.client()); err != nil {
			return err
		}
	}
	return a.try(ctx, s, a.reader(), proposal{
		what: "the configuration before the last change", cfg: cfg, terms: t,
		start: func(ctx context.Context, box *api.Client, t api.Terms) (*api.Trial, error) {
			u.Terms = t
			return box.Undo(ctx, u)
		},
	})
}

// before returns the configuration before the last change of the file, which says where
// the box is under it; nil if there is none, which is for the box to say.
func (a *app) before(ctx context.Context, box *api.Client) (*model.Config, error) {
	history, err := box.History(ctx)
	if err != nil {
		return nil, err
	}
	var last []byte
	for i, h := range history {
		e, err := box.Entry(ctx, h.Number)
		switch {
		case err != nil:
			return nil, err
		case i == 0:
			last = e.Data
		case !bytes.Equal(e.Data, last):
			return a.configOf(api.File{Name: e.Name, Data: e.Data}), nil
		}
	}
	return nil, nil
}

func (a *app) historyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the changes; show the file of one; compare two; export all to git",
		Long: `List the changes that were confirmed, the newest first. The box keeps the last 200
and those of a year.

"history show" prints the file of one of them, as its author wrote it; who made the
change, and what it made possible and impossible, goes to standard error:

	bulkhead history show 12 > old.yaml

"history diff" compares two of them, and "history export" writes all of them as a git
repository.

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			v, err := c.History(cmd.Context())
			return show(cmd.Context(), a, v, err, a.printHistory)
		},
	}
	cmd.AddCommand(a.historyShowCommand(), a.historyDiffCommand(), a.historyExportCommand())
	return cmd
}

func (a *app) historyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NUMBER", Short: "Show the file of a change", Long: "Show the file of a change.\n\n" + exitHelp, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := changeNumber(args[0])
			if err != nil {
				return err
			}
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			e, err := c.Entry(cmd.Context(), n)
			return show(cmd.Context(), a, e, err, a.printEntry)
		},
	}
}

func changeNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%w: %q is not the number of a change; see: bulkhead history", errUsage, s)
	}
	return n, nil
}

func (a *app) printHistory(history []api.Entry) error {
	full := table{header: []string{"NUMBER", "TIME", "AUTHOR", "VIA", "FILE", "WHY"}}
	narrow := table{header: []string{"NUMBER", "TIME", "AUTHOR", "VIA"}}
	for _, e := range history {
		row := []string{strconv.Itoa(e.Number), a.when(e.Time), orDash(e.Author), orDash(string(e.Via))}
		full.rows = append(full.rows, append(row[:len(row):len(row)], orDash(e.Name), orDash(e.Why)))
		narrow.rows = append(narrow.rows, row)
		narrow.below = append(narrow.below, below(e.Why, prefixed("file", e.Name)))
	}
	return a.print(full, narrow)
}

func (a *app) printEntry(e *api.Entry) error {
	fmt.Fprintf(a.err, "Change %d of %s%s\n", e.Number, a.when(e.Time), by(&e.Confirmed))
	for _, r := range e.Reach {
		fmt.Fprintf(a.err, "  %s\n", r)
	}
	if e.MoreReach > 0 {
		fmt.Fprintf(a.err, "  and %d more\n", e.MoreReach)
	}
	_, err := a.out.Write(e.Data)
	return err
}
