package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/model"
)

func (a *app) whyCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "why FROM TO PROTOCOL",
		Short: "Say whether a connection is allowed, and which rule decides",
		Long: `Say whether FROM may open connections of PROTOCOL to TO, and which rule decides.
FROM and TO are a zone, device, group, address, network, "internet" or "box";
PROTOCOL is a name such as ssh, a port such as tcp/443, or "any". Devices and
addresses for which something else holds than for their zone are listed after it.

The exit code is 0 if all of it is allowed, and 1 if any of it is denied.

` + exitHelp,
		Example: `  bulkhead why tv nas smb
  bulkhead why --file home.yaml guest internet tcp/443`,
		Args: cobra.ExactArgs(3),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.names(file, len(args)), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.why(cmd.Context(), file, args[0], args[1], args[2])
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "answer from this `file`; without it, netcfgd is asked")
	return cmd
}

// names are the endpoints of a file, or its protocols for the third argument.
func (a *app) names(file string, arg int) []string {
	cfg, _, err := a.parse(file)
	if err != nil || arg > 2 {
		return nil
	}
	if arg == 2 {
		var names []string
		for _, p := range cfg.Protocols {
			names = append(names, p.Name)
		}
		return append(append(names, model.CatalogueNames()...), "any")
	}
	return cfg.EndpointNames()
}

func (a *app) why(ctx context.Context, file, from, to, protocol string) error {
	var why *api.Why
	var err error
	if file == "" {
		var c *api.Client
		if c, err = a.client(ctx); err == nil {
			why, err = c.Why(ctx, from, to, protocol)
		}
	} else {
		why, err = a.whyFile(file, from, to, protocol)
	}
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(why)
	} else {
		err = a.printWhy(why)
	}
	if err == nil && !why.Allowed() {
		return errShown
	}
	return err
}

func (a *app) whyFile(file, from, to, protocol string) (*api.Why, error) {
	cfg, _, err := a.parse(file)
	if err != nil {
		return nil, err
	}
	sources, err1 := conf.Endpoints(cfg, from)
	targets, err2 := conf.Endpoints(cfg, to)
	services, err3 := conf.Services(cfg, protocol)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, api.Unknown(err)
	}
	result, _ := a.compile(cfg, nil)
	return &api.Why{
		From: from, To: to, Protocol: protocol,
		Verdicts: api.Explain(result.Policy, sources, targets, services),
	}, nil
}

// printWhy prints one verdict as sentences and several as a table.
func (a *app) printWhy(why *api.Why) error {
	if len(why.Verdicts) == 1 {
		v := why.Verdicts[0]
		fmt.Fprintf(a.out, "%s → %s: %s is %s", v.From, v.To, why.Protocol, a.verdict(v))
		if v.Rule == "" {
			fmt.Fprintf(a.out, ": %s\n", v.Why)
			return nil
		}
		fmt.Fprintf(a.out, " by %s\n  why    %s\n", v.Rule, v.Why)
		if v.Pos != nil {
			fmt.Fprintf(a.out, "  where  %s\n", v.Pos)
		}
		return nil
	}
	var rows [][]string
	for _, v := range why.Verdicts {
		where := v.Why
		if v.Rule != "" {
			where = v.Rule
		}
		if v.Pos != nil {
			where += " (" + v.Pos.String() + ")"
		}
		rows = append(rows, []string{v.From, v.To, strings.Join(v.Services, ", "), a.verdict(v) + ": " + where})
	}
	return a.print(table{header: []string{"FROM", "TO", "SERVICES", "VERDICT"}, rows: rows})
}

func (a *app) verdict(v api.Verdict) string {
	if v.Allow {
		return a.paint(green, v.Outcome())
	}
	return a.paint(red, v.Outcome())
}
