package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/model"
)

func (a *app) testCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "test FILE",
		Short: "Evaluate the tests that a configuration file contains",
		Long: `Evaluate the tests that a configuration file contains, and print each with its
outcome. A test that fails names the rule that decided. A FILE of "-" is standard
input.

` + exitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeFiles,
		RunE: func(_ *cobra.Command, args []string) error { return a.test(args[0]) },
	}
}

// tested is what test prints as JSON, for each test.
type tested struct {
	Pos       diag.Pos    `json:"pos"`
	From      []string    `json:"from"`
	To        []string    `json:"to"`
	Protocols []string    `json:"protocols"`
	Expect    string      `json:"expect"`
	OK        bool        `json:"ok"`
	Failed    *api.Failed `json:"failed,omitempty"`
}

func (a *app) test(file string) error {
	cfg, _, err := a.parse(file)
	if err != nil {
		return err
	}
	result, _ := a.compile(cfg, nil)
	failed := api.Failures(result.Policy)
	list := []tested{}
	for _, t := range cfg.Tests {
		list = append(list, outcome(t, failed))
	}
	if a.json {
		err = a.printJSON(list)
	} else {
		a.printTests(file, list, len(failed))
	}
	if err == nil && len(failed) > 0 {
		return errShown
	}
	return err
}

func outcome(t *model.Test, failed []api.Failed) tested {
	v := tested{Pos: t.Pos, From: t.FromNames, To: t.ToNames, Protocols: t.Protocols, Expect: "deny", OK: true}
	if t.Allow {
		v.Expect = "allow"
	}
	if i := slices.IndexFunc(failed, func(f api.Failed) bool { return f.Pos == t.Pos }); i >= 0 {
		v.OK, v.Failed = false, &failed[i]
	}
	return v
}

func (a *app) printTests(file string, list []tested, failed int) {
	for _, t := range list {
		mark := a.paint(green, "ok  ")
		if !t.OK {
			mark = a.paint(red, "FAIL")
		}
		fmt.Fprintf(a.out, "%s  %s → %s: %s: %s\n", mark, strings.Join(t.From, ", "), strings.Join(t.To, ", "),
			strings.Join(t.Protocols, ", "), t.Expect)
		if !t.OK {
			fmt.Fprintf(a.out, "      %s\n", t.Failed.Against)
		}
	}
	switch {
	case len(list) == 0:
		fmt.Fprintf(a.out, "%s: there are no tests\n", file)
	case failed == 0:
		fmt.Fprintf(a.out, "%s: %s, %s\n", file, plural(len(list), "test"), a.paint(green, "all hold"))
	default:
		fmt.Fprintf(a.out, "%s: %s, %s\n", file, plural(len(list), "test"), a.paint(red, fmt.Sprintf("%d failed", failed)))
	}
}
