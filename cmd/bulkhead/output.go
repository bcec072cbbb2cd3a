package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/diag"
)

// The colours: ECMA-48, as every terminal has them.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	bold   = "1"
)

func (a *app) paint(style, s string) string {
	if !a.color {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[m"
}

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// problems prints all there is to say about a refused file, in file order.
func (a *app) problems(w io.Writer, r *api.Refused) {
	for _, p := range r.Problems.Sorted() {
		fmt.Fprintln(w, a.problem(p))
	}
	for _, f := range r.Failed {
		fmt.Fprintf(w, "%s\n\thint: change the rule, or the test\n", a.paint(red, f.String()))
	}
	if r.Lockout != "" {
		fmt.Fprintf(w, "%s\n\t%s\n", a.paint(red, api.LockoutText(r.Lockout)), lockoutHint)
	}
	if r.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", r.Hint)
	}
}

func (a *app) problem(p *diag.Problem) string {
	style := red
	if p.Severity == diag.Warning {
		style = yellow
	}
	first, hint, _ := strings.Cut(p.Error(), "\n")
	if hint != "" {
		hint = "\n" + hint
	}
	return a.paint(style, first) + hint
}

// plural says "1 zone", "2 zones".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// orDash stands in for what is empty in a table.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (a *app) when(t time.Time) string { return t.In(a.location).Format("2006-01-02 15:04 MST") }

// lastDay is the last day on which something that ends at t holds.
func (a *app) lastDay(t time.Time) string {
	return t.Add(-time.Nanosecond).In(a.location).Format(time.DateOnly)
}

// remaining says how long it is until t, to the nearest minute, and from two days on
// to the nearest hour.
func (a *app) remaining(t time.Time) string {
	d := t.Sub(a.now())
	switch {
	case d <= 0:
		return "over"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	}
	if d = d.Round(time.Minute); d < 48*time.Hour {
		return units(int(d.Hours()), "h", int(d.Minutes())%60, "m")
	}
	d = d.Round(time.Hour)
	return units(int(d.Hours())/24, "d", int(d.Hours())%24, "h")
}

// units writes a number of large and small units: 6h30m, 12h, 5m.
func units(large int, unit string, small int, smallUnit string) string {
	switch {
	case large == 0:
		return fmt.Sprintf("%d%s", small, smallUnit)
	case small == 0:
		return fmt.Sprintf("%d%s", large, unit)
	}
	return fmt.Sprintf("%d%s%d%s", large, unit, small, smallUnit)
}
