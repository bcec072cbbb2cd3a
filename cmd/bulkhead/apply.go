package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
)

func (a *app) applyCommand() *cobra.Command {
	c := api.Change{Via: api.ViaCLI}
	var t terms
	var lockout bool
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Try a configuration file, and keep it once you confirm",
		Long: `Put FILE into force on this box. It is checked first, and if a step fails, everything
is as before. What the box lacks for it, such as a port that FILE names, is listed at
the end. A FILE of "-" is standard input.

` + trialHelp + `

` + exitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, args []string) error { return a.apply(cmd.Context(), args[0], c, t, lockout) },
	}
	cmd.Flags().StringVar(&c.Author, "author", author(), "who wants the change, for the history; with --box it is who claimed the box")
	cmd.Flags().StringVarP(&c.Why, "why", "m", "", "why, for the history")
	cmd.Flags().BoolVar(&lockout, "accept-lockout", false, "at the box itself: go on, once you have agreed, although nobody may reach the box over the network afterwards")
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

func (a *app) apply(ctx context.Context, file string, c api.Change, t terms, lockout bool) error {
	if lockout && (a.box != "" || !a.asks || file == "-") {
		return fmt.Errorf("%w: --accept-lockout is for somebody who sits at the box and agrees to it by hand", errUsage)
	}
	var err error
	if c.File, err = readFile(file); err != nil {
		return err
	}
	s, err := a.site(ctx)
	if err != nil {
		return err
	}
	// Standard input was the file: nobody can answer a question there.
	asks := a.asks
	a.asks = asks && file != "-"
	defer func() { a.asks = asks }()
	in := a.reader()
	if !a.json || lockout {
		plan, err := s.client().Plan(ctx, api.Proposal{File: c.File})
		if err != nil {
			return err
		}
		if plan.Lockout != "" && lockout {
			if err := a.agreeToLockout(in, plan.Lockout); err != nil {
				return err
			}
			c.AcceptLockout = true
		} else if plan.Lockout == "" && !a.json {
			done := *plan
			done.Missing = nil // it is the last word, not the first
			a.printPlan(&done)
		}
	}
	return a.try(ctx, s, in, proposal{
		what: file, cfg: a.configOf(c.File), terms: t, shown: true,
		start: func(ctx context.Context, box *api.Client, t api.Terms) (*api.Trial, error) {
			c.Terms = t
			return box.Apply(ctx, c)
		},
	})
}

// lockoutWords are what somebody types who agrees to a lock-out.
const lockoutWords = "lock me out"

// agreeToLockout returns an error unless whoever sits at the box types that they agree.
func (a *app) agreeToLockout(in *bufio.Reader, reason string) error {
	a.item("", a.paint(red, api.LockoutText(reason))+".")
	answer, err := a.ask(in, fmt.Sprintf("Only this console gets you back in. To go on, type %q: ", lockoutWords))
	switch {
	case err != nil:
		return err
	case answer != lockoutWords:
		return errors.New("nothing was changed")
	}
	return nil
}
