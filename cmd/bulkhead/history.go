package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
)

func (a *app) undoCommand() *cobra.Command {
	var u api.Undo
	cmd := &cobra.Command{
		Use:   "undo",
		Short: "Go back to the configuration before the last change",
		Long: `Put the configuration that was in force before the last change into force again.
It becomes a change of its own in the history: undoing that as well brings the last
one back.

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			p, err := a.client().Undo(ctx, u)
			if ctx.Err() != nil {
				return errInterrupted
			}
			if err != nil {
				return err
			}
			return a.printDone(p, "the configuration before the last change")
		},
	}
	cmd.Flags().StringVar(&u.Author, "author", author(), "who wants it, for the history")
	return cmd
}

func (a *app) historyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the last changes; or show the file of one",
		Long: `List the changes that were confirmed, the newest first. "history show" prints the
file of one of them, as its author wrote it:

	bulkhead history show 12 > old.yaml

` + exitHelp,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := a.client().History(cmd.Context())
			return show(cmd.Context(), a, v, err, a.printHistory)
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use: "show NUMBER", Short: "Show the file of a change", Long: "Show the file of a change.\n\n" + exitHelp, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[0])
			if err != nil {
				return fmt.Errorf("%w: %q is not the number of a change; see: bulkhead history", errUsage, args[0])
			}
			e, err := a.client().Entry(cmd.Context(), n)
			return show(cmd.Context(), a, e, err, func(e *api.Entry) error {
				_, err := a.out.Write(e.Data)
				return err
			})
		},
	})
	return cmd
}

func (a *app) printHistory(history []api.Entry) error {
	t := table{header: []string{"NUMBER", "TIME", "AUTHOR", "FILE", "WHY"}}
	for _, e := range history {
		t.rows = append(t.rows, []string{strconv.Itoa(e.Number), a.when(e.Time), orDash(e.Author), orDash(e.Name), orDash(e.Why)})
	}
	return a.print(t)
}
