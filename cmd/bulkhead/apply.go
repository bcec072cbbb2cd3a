package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/webui/remote"
)

func (a *app) applyCommand() *cobra.Command {
	var c api.Change
	var lockout bool
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Put a configuration file into force",
		Long: `Put FILE into force on this box, for good. It is checked first, and if a step
fails, everything is as before. What the box lacks for it, such as a port that FILE
names, is listed at the end. A FILE of "-" is standard input.

` + exitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, args []string) error { return a.apply(cmd.Context(), args[0], c, lockout) },
	}
	cmd.Flags().StringVar(&c.Author, "author", author(), "who wants the change, for the history; with --box it is who claimed the box")
	cmd.Flags().StringVarP(&c.Why, "why", "m", "", "why, for the history")
	cmd.Flags().BoolVar(&lockout, "accept-lockout", false, "at the box itself: go on, once you have agreed, although nobody may reach the box over the network afterwards")
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

func (a *app) apply(ctx context.Context, file string, c api.Change, lockout bool) error {
	if lockout && (a.box != "" || !a.asks || file == "-") {
		return fmt.Errorf("%w: --accept-lockout is for somebody who sits at the box and agrees to it by hand", errUsage)
	}
	var err error
	if c.File, err = readFile(file); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if a.box != "" {
		box, err := a.profile(ctx)
		if err != nil {
			return err
		}
		return a.changeThere(ctx, box, a.configOf(c.File), file, func(ctx context.Context, box *remote.Client) (*api.Plan, error) { return box.Apply(ctx, c) })
	}
	p, err := api.NewClient(a.socket).Apply(ctx, c)
	if refused, ok := errors.AsType[*api.Refused](err); ok && refused.Lockout != "" && lockout {
		if err := a.agreeToLockout(refused.Lockout); err != nil {
			return err
		}
		c.AcceptLockout = true
		p, err = api.NewClient(a.socket).Apply(ctx, c)
	}
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case err != nil:
		return err
	}
	return a.printDone(p, file)
}

// lockoutWords are what somebody types who agrees to a lock-out.
const lockoutWords = "lock me out"

// agreeToLockout returns an error unless whoever sits at the box types that they agree.
func (a *app) agreeToLockout(reason string) error {
	a.item("", a.paint(red, api.LockoutText(reason))+".")
	answer, err := a.ask(bufio.NewReader(a.in), fmt.Sprintf("Only this console gets you back in. To go on, type %q: ", lockoutWords))
	switch {
	case err != nil:
		return err
	case answer != lockoutWords:
		return errors.New("nothing was changed")
	}
	return nil
}

var errInterrupted = errors.New("interrupted: netcfgd may carry the change out all the same; see: bulkhead show")

// printDone says what came of a change that put what into force.
func (a *app) printDone(p *api.Plan, what string) error {
	if a.json {
		return a.printJSON(p)
	}
	done := *p
	done.Missing = nil // it is the last word, not the first
	a.printPlan(&done)
	if len(p.Missing) == 0 {
		fmt.Fprintf(a.out, "%s is in force\n", what)
		return nil
	}
	fmt.Fprintf(a.out, "%s is in force, except:\n", what)
	for _, m := range p.Missing {
		fmt.Fprintf(a.out, "  %s\n", a.paint(yellow, m))
	}
	return nil
}
