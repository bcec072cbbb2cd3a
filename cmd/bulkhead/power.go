package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	updates "bulkhead/services/update/api"
)

// rebootCommand and powerOffCommand have a box go down. They mean this machine or the box
// that --box names, and never one that happens to be the only one that was claimed.
func (a *app) rebootCommand() *cobra.Command {
	return a.powerCommand("reboot", "Restart a box", `Restart the box. What passes through it stops for about a minute. A change that is pending
is undone by it.`, "restart", "restarts",
		func(ctx context.Context, c *updates.Client) error { return c.Restart(ctx) })
}

func (a *app) powerOffCommand() *cobra.Command {
	return a.powerCommand("poweroff", "Switch a box off", `Switch the box off. Nothing passes through it until somebody switches it on again, by hand.
A change that is pending is undone by it.`, "switch off", "switches itself off",
		func(ctx context.Context, c *updates.Client) error { return c.PowerOff(ctx) })
}

func (a *app) powerCommand(use, short, long, verb, does string, do func(context.Context, *updates.Client) error) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Long:    long + "\n\n" + exitHelp,
		Example: "  bulkhead " + use + " --box gw --yes",
		Args:    cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.agreeTo(cmd.Context(), verb, yes); err != nil {
				return err
			}
			c, err := a.ownUpdates(cmd.Context())
			if err == nil {
				err = do(cmd.Context(), c)
			}
			if err != nil {
				return askedUpdated(err)
			}
			return a.say("the box " + does)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// agreeTo returns an error unless somebody agrees to what stops the network.
func (a *app) agreeTo(ctx context.Context, verb string, yes bool) error {
	if yes {
		return nil
	}
	if !a.asks || a.json {
		return fmt.Errorf("%w: nobody is there to agree to it: use --yes", errUsage)
	}
	name := "the box"
	if c, err := a.client(ctx); err == nil {
		if s, err := c.Status(ctx); err == nil { // a box that is not well may be restarted
			if s.Name != "" {
				name = s.Name
			}
			if p := s.Pending; p != nil {
				fmt.Fprintf(a.out, "The change by %s that is pending is undone by it.\n", orDash(p.Author))
			}
		}
	}
	answer, err := a.ask(bufio.NewReader(a.in), fmt.Sprintf("To %s %s now, type yes: ", verb, name))
	switch {
	case err != nil:
		return err
	case answer != "yes":
		return errors.New("nothing was done")
	}
	return nil
}
