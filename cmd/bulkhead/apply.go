package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
)

func (a *app) applyCommand() *cobra.Command {
	c := api.Change{Via: api.ViaCLI}
	var t terms
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Try a configuration file, and keep it once you confirm",
		Long: `Put FILE into force on this box. It is checked first, and if a step fails, everything
is as before. What the box lacks for it, such as a port that FILE names, is listed at
the end. A FILE of "-" is standard input.

` + trialHelp + `

` + exitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, args []string) error { return a.apply(cmd.Context(), args[0], c, t) },
	}
	cmd.Flags().StringVar(&c.Author, "author", author(), "who wants the change, for the history; with --box it is who claimed the box")
	cmd.Flags().StringVarP(&c.Why, "why", "m", "", "why, for the history")
	t.flags(cmd)
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

func (a *app) apply(ctx context.Context, file string, c api.Change, t terms) error {
	// Standard input may be the file: nobody can answer a question there.
	asks := a.asks
	a.asks = asks && file != "-"
	defer func() { a.asks = asks }()
	if err := a.mayInsist(t); err != nil {
		return err
	}
	var err error
	if c.File, err = readFile(file); err != nil {
		return err
	}
	s, err := a.site(ctx)
	if err != nil {
		return err
	}
	if !a.json {
		plan, err := s.client().Plan(ctx, api.Proposal{File: c.File})
		if err != nil {
			return err
		}
		if plan.Lockout == "" {
			done := *plan
			done.Missing = nil // it is the last word, not the first
			a.printPlan(&done)
		}
	}
	return a.try(ctx, s, a.reader(), proposal{
		what: file, cfg: a.configOf(c.File), terms: t, shown: true,
		start: func(ctx context.Context, box *api.Client, t api.Terms) (*api.Trial, error) {
			c.Terms = t
			return box.Apply(ctx, c)
		},
	})
}
