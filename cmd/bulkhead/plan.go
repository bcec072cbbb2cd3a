package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/plan"
)

func (a *app) planCommand() *cobra.Command {
	var from string
	var ruleset bool
	cmd := &cobra.Command{
		Use:   "plan FILE",
		Short: "Show what a configuration file would change",
		Long: `Show what putting FILE into force would change: which connections become possible
or no longer are, what is interrupted and for how long, which open connections end,
which tests change their result, whether you still reach the box, and every step to
get there. Nothing is changed. A FILE after which you, or everybody, could not reach
the box is a problem.

Without --from the running netcfgd is asked, which knows the box as it is. With
--from OLD two files are compared on any machine, for a box on which everything
that they name is there; its leases and open connections are not known then. A FILE
of "-" is standard input.

With --ruleset the difference of the rules follows that the packet filter is given, as
nft prints them: 400 lines of it at most.

` + exitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, args []string) error { return a.plan(cmd.Context(), from, args[0], ruleset) },
	}
	cmd.Flags().StringVar(&from, "from", "", "compare with this `file` instead of the running box")
	cmd.Flags().BoolVar(&ruleset, "ruleset", false, "show how the packet filter's rules differ as well")
	return cmd
}

func (a *app) plan(ctx context.Context, from, file string, ruleset bool) error {
	p, err := a.planOf(ctx, from, file, ruleset)
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(p)
	} else {
		a.printPlan(p)
	}
	if err == nil && p.Lockout != "" {
		return errShown
	}
	return err
}

func (a *app) planOf(ctx context.Context, from, file string, ruleset bool) (*api.Plan, error) {
	if from == "-" && file == "-" {
		return nil, fmt.Errorf("%w: only one of two files can be standard input", errUsage)
	}
	if from != "" {
		return a.planBetween(from, file, ruleset)
	}
	f, err := readFile(file)
	if err != nil {
		return nil, err
	}
	c, err := a.client(ctx)
	if err != nil {
		return nil, err
	}
	return c.Plan(ctx, api.Proposal{File: f, Ruleset: ruleset})
}

// planBetween compares two files.
func (a *app) planBetween(from, file string, ruleset bool) (*api.Plan, error) {
	old, _, err := a.parse(from)
	if err != nil {
		return nil, err
	}
	new, warnings, err := a.parse(file)
	if err != nil {
		return nil, err
	}
	before, f := a.compile(old, nil)
	after, _ := a.compile(new, f.Devices)
	if failed := api.Failures(after.Policy); len(failed) > 0 {
		return nil, &api.Refused{Problems: warnings, Failed: failed}
	}
	change := impact.Change{Old: sideOf(before), New: sideOf(after), Now: a.now()}
	p := api.PlanOf(before.Policy, change, plan.Make(before.State, after.State), warnings)
	if ruleset {
		p.Ruleset = api.RulesetDiffOf(change)
	}
	return p, nil
}

func sideOf(r *compile.Result) impact.Side {
	return impact.Side{Policy: r.Policy, State: r.State, Missing: r.Missing}
}
