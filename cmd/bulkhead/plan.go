package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/plan"
)

func (a *app) planCommand() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "plan FILE",
		Short: "Show what a configuration file would change",
		Long: `Show what putting FILE into force would change: which connections become possible
or no longer are, and every step to get there. Nothing is changed.

Without --from the running netcfgd is asked, which knows the box as it is. With
--from OLD two files are compared on any machine, for a box on which everything
that they name is there. A FILE of "-" is standard input.

` + exitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeFiles,
		RunE: func(cmd *cobra.Command, args []string) error { return a.plan(cmd.Context(), from, args[0]) },
	}
	cmd.Flags().StringVar(&from, "from", "", "compare with this `file` instead of the running box")
	return cmd
}

func (a *app) plan(ctx context.Context, from, file string) error {
	p, err := a.planOf(ctx, from, file)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(p)
	}
	a.printPlan(p)
	return nil
}

func (a *app) planOf(ctx context.Context, from, file string) (*api.Plan, error) {
	if from == "-" && file == "-" {
		return nil, fmt.Errorf("%w: only one of two files can be standard input", errUsage)
	}
	if from != "" {
		return a.planBetween(from, file)
	}
	f, err := readFile(file)
	if err != nil {
		return nil, err
	}
	c, err := a.client(ctx)
	if err != nil {
		return nil, err
	}
	return c.Plan(ctx, f)
}

// planBetween compares two files.
func (a *app) planBetween(from, file string) (*api.Plan, error) {
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
	return &api.Plan{
		Warnings: warnings,
		Missing:  after.Missing,
		Reach:    api.ReachOf(before.Policy, after.Policy),
		Steps:    api.StepsOf(plan.Make(before.State, after.State)),
	}, nil
}

// setting is the sentence of a step that sets a sysctl of one link.
var setting = regexp.MustCompile(`^set net/ipv[46]/conf/(.+)/([a-z0-9_]+) to (\S+)$`)

// grouped makes one step of consecutive ones that set the same on several links, for
// people: what they do is never in question, only that they are there.
func grouped(steps []api.Step) []api.Step {
	var out []api.Step
	links := make(map[string]int) // by what is set, within the current run
	at := make(map[string]int)
	for _, s := range steps {
		m := setting.FindStringSubmatch(s.Text)
		if m == nil {
			clear(links)
			out = append(out, s)
			continue
		}
		what := fmt.Sprintf("set %s to %s\x00%s", m[2], m[3], s.Risk)
		if links[what]++; links[what] == 1 {
			at[what] = len(out)
			out = append(out, s)
			continue
		}
		text, _, _ := strings.Cut(what, "\x00")
		out[at[what]].Text = fmt.Sprintf("%s on %d links", text, links[what])
	}
	return out
}

func (a *app) printPlan(p *api.Plan) {
	for _, w := range p.Warnings {
		fmt.Fprintln(a.out, a.problem(w))
	}
	for _, m := range p.Missing {
		fmt.Fprintln(a.out, a.paint(yellow, "missing: "+m))
	}
	if len(p.Reach) == 0 {
		fmt.Fprintln(a.out, "No connection becomes possible or impossible.")
	} else {
		fmt.Fprintln(a.out, "Connections:")
	}
	for _, r := range p.Reach {
		sign, style := "-", red
		if r.Possible {
			sign, style = "+", green
		}
		fmt.Fprintf(a.out, "  %s %s\n", a.paint(style, sign), r)
	}
	if len(p.Steps) == 0 {
		fmt.Fprintln(a.out, "Steps: none")
		return
	}
	fmt.Fprintln(a.out, "Steps:")
	for i, s := range grouped(p.Steps) {
		risk := ""
		if s.Risk != "" {
			risk = a.paint(yellow, " ["+s.Risk+"]")
		}
		fmt.Fprintf(a.out, "%3d. %s%s\n", i+1, s.Text, risk)
	}
}
