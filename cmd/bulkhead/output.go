package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
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

// table prints rows in columns. Only the last column may be coloured: escapes would
// count as width in the others.
func (a *app) table(header []string, rows [][]string) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		fmt.Fprintln(w, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	return w.Flush()
}

// problems prints all there is to say about a refused file, in file order.
func (a *app) problems(w io.Writer, r *api.Refused) {
	for _, p := range r.Problems.Sorted() {
		fmt.Fprintln(w, a.problem(p))
	}
	for _, f := range r.Failed {
		fmt.Fprintln(w, a.paint(red, f.String()))
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

func (a *app) when(t time.Time) string { return t.In(a.location).Format("2006-01-02 15:04") }

// lastDay is the last day on which something that ends at t holds.
func (a *app) lastDay(t time.Time) string {
	return t.Add(-time.Nanosecond).In(a.location).Format(time.DateOnly)
}

// remaining says how long it is until t, to one unit.
func (a *app) remaining(t time.Time) string {
	switch d := t.Sub(a.now()); {
	case d <= 0:
		return "over"
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
