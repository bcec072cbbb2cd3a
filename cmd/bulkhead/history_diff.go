package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
)

func (a *app) historyDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff FROM TO", Short: "Compare two changes: their files, and what they allow",
		Long: `Compare two changes by their numbers: how the files differ, and what going from the
one to the other would make possible and impossible on the box as it is today.

` + exitHelp,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := changeNumber(args[0])
			if err != nil {
				return err
			}
			to, err := changeNumber(args[1])
			if err != nil {
				return err
			}
			c, err := a.client(cmd.Context())
			if err != nil {
				return err
			}
			d, err := c.Diff(cmd.Context(), from, to)
			return show(cmd.Context(), a, d, err, a.printDiff)
		},
	}
}

func (a *app) printDiff(d *api.Diff) error {
	if d.Text == "" {
		fmt.Fprintln(a.out, "The files are the same.")
	}
	for line := range strings.Lines(d.Text) {
		text := strings.TrimSuffix(line, "\n")
		switch text[0] {
		case '+':
			text = a.paint(green, text)
		case '-':
			text = a.paint(red, text)
		}
		fmt.Fprintln(a.out, text)
	}
	if d.Untold != "" {
		fmt.Fprintf(a.out, "What that would allow today cannot be told: %s\n", d.Untold)
		return nil
	}
	a.printReach(d.Reach)
	return nil
}
