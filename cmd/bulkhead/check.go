package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/model"
)

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file as a whole",
		Long: `Check a configuration file as a whole: every problem at once, in file order, each
with its place and what to do about it; then the tests that the file itself
contains. The last line sums up. A FILE of "-" is standard input.

` + exitHelp,
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeFiles,
		RunE: func(_ *cobra.Command, args []string) error { return a.check(args[0]) },
	}
}

// checked is what check prints as JSON.
type checked struct {
	File     string       `json:"file"`
	OK       bool         `json:"ok"`
	Problems diag.List    `json:"problems"`
	Failed   []api.Failed `json:"failed"`
}

func (a *app) check(file string) error {
	cfg, problems, err := a.parse(file)
	refused, ok := err.(*api.Refused)
	if err != nil && !ok {
		return err
	}
	c := checked{File: file, OK: err == nil, Problems: problems, Failed: []api.Failed{}}
	if refused != nil {
		c.Problems = refused.Problems
	} else {
		result, _ := a.compile(cfg, nil)
		c.Failed = append(c.Failed, api.Failures(result.Policy)...)
		c.OK = len(c.Failed) == 0
	}
	if a.json {
		c.Problems = append(diag.List{}, c.Problems...) // null is not a list
		if err := a.printJSON(c); err != nil {
			return err
		}
	} else {
		a.problems(a.out, &api.Refused{Problems: c.Problems, Failed: c.Failed})
		fmt.Fprintln(a.out, a.summary(c, cfg))
	}
	if !c.OK {
		return errShown
	}
	return nil
}

// summary is the last line: what is wrong, or what there is.
func (a *app) summary(c checked, cfg *model.Config) string {
	warnings := len(c.Problems.Warnings())
	var bad []string
	if n := len(c.Problems) - warnings; n > 0 {
		bad = append(bad, plural(n, "problem"))
	}
	if n := len(c.Failed); n > 0 {
		bad = append(bad, plural(n, "test")+map[bool]string{true: " fails", false: " fail"}[n == 1])
	}
	tail := ""
	if warnings > 0 {
		tail = ", " + plural(warnings, "warning")
	}
	if len(bad) > 0 {
		return a.paint(bold, c.File+": "+strings.Join(bad, ", ")+tail)
	}
	rules := len(cfg.Allow) + len(cfg.Block) + len(cfg.Forwards)
	return fmt.Sprintf("%s: %s: %s, %s, %s, %s%s", c.File, a.paint(green, "ok"), plural(len(cfg.Zones), "zone"),
		plural(len(cfg.Devices), "device"), plural(rules, "rule"), plural(len(cfg.Tests), "test"), tail)
}
