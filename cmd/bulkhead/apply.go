package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
)

func (a *app) applyCommand() *cobra.Command {
	var c api.Change
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Put a configuration file into force",
		Long: `Put FILE into force on this box, for good. It is checked first, and if a step
fails, everything is as before. A FILE of "-" is standard input.

` + exitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, args []string) error { return a.apply(cmd.Context(), args[0], c) },
	}
	cmd.Flags().StringVar(&c.Author, "author", author(), "who wants the change, for the history")
	cmd.Flags().StringVarP(&c.Why, "why", "m", "", "why, for the history")
	return cmd
}

// author is who sits in front of the machine, as far as it can be known.
func author() string {
	for _, name := range []string{"SUDO_USER", "USER"} {
		if s := os.Getenv(name); s != "" {
			return s
		}
	}
	return ""
}

func (a *app) apply(ctx context.Context, file string, c api.Change) error {
	var err error
	if c.File, err = readFile(file); err != nil {
		return err
	}
	p, err := a.client().Apply(ctx, c)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(p)
	}
	a.printPlan(p)
	fmt.Fprintf(a.out, "%s is in force\n", file)
	return nil
}
