package main

import (
	"fmt"
	"regexp"
	"strings"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/impact"
)

// printPlan prints what a change does: what people notice first, the steps last.
func (a *app) printPlan(p *api.Plan) {
	for _, w := range p.Warnings {
		fmt.Fprintln(a.out, a.problem(w))
	}
	for _, m := range p.Missing {
		a.item("", a.paint(yellow, "missing: "+m))
	}
	a.printReach(p.Reach)
	if len(p.Interrupts) > 0 {
		a.heading("Interrupted:")
	}
	for _, i := range p.Interrupts {
		a.item("  "+a.paint(yellow, "!")+" ", i.Text)
	}
	a.printCut(p.Cut)
	a.printTestChanges(p.Tests)
	if p.Path != nil {
		a.heading("The way to the box:")
		a.item("  ", p.Path.Text)
	}
	a.printSteps(p.Steps)
	a.printRuleset(p.Ruleset)
	if p.Lockout != "" {
		a.heading(a.paint(red, "Refused:"))
		a.item("  ", a.paint(red, api.LockoutText(p.Lockout)))
		a.item("  ", lockoutHint)
	}
}

// heading begins a part of the plan.
func (a *app) heading(text string) { fmt.Fprintln(a.out, a.paint(bold, text)) }

// item prints a text behind a sign, broken to the width of the terminal.
func (a *app) item(sign, text string) {
	lines := []string{text}
	if a.width > 0 {
		lines = wrap(text, max(a.width-width(sign), 20))
	}
	for i, line := range lines {
		if i > 0 {
			sign = strings.Repeat(" ", width(sign))
		}
		fmt.Fprintf(a.out, "%s%s\n", sign, strings.TrimRight(line, " "))
	}
}

func (a *app) printReach(reach []api.Reach) {
	if len(reach) == 0 {
		a.heading("No connection becomes possible or impossible.")
		return
	}
	a.heading("Connections:")
	for _, r := range reach {
		sign, style := "-", red
		if r.Possible {
			sign, style = "+", green
		}
		a.item("  "+a.paint(style, sign)+" ", r.String())
	}
}

func (a *app) printCut(cut *impact.Cut) {
	switch {
	case cut == nil:
		a.heading("Open connections and leases: not known without the box.")
		return
	case cut.Count == 0:
		a.heading("No open connection ends.")
		return
	}
	a.heading(plural(cut.Count, "open connection") + " " + map[bool]string{true: "ends:", false: "end:"}[cut.Count == 1])
	for _, r := range cut.Rules {
		by := "that no rule is known for"
		if r.Rule != "" {
			by = "by " + r.Rule
		}
		text := fmt.Sprintf("%d %s", r.Count, by)
		if len(r.Examples) > 0 {
			text += ": " + strings.Join(r.Examples, "; ")
		}
		if len(r.Examples) > 0 && r.Count > len(r.Examples) {
			text += "; ..."
		}
		a.item("  "+a.paint(red, "-")+" ", text)
	}
}

func (a *app) printTestChanges(tests []api.TestChange) {
	if len(tests) > 0 {
		a.heading("Tests:")
	}
	for _, t := range tests {
		if t.Holds {
			a.item("  "+a.paint(green, "+")+" ", fmt.Sprintf("%s: %s holds, and did not before", t.Pos, t))
			continue
		}
		a.item("  "+a.paint(red, "-")+" ", fmt.Sprintf("%s: %s held, and no longer does: %s", t.Pos, t, t.Against))
	}
}

func (a *app) printSteps(steps []api.Step) {
	if len(steps) == 0 {
		a.heading("Steps: none")
		return
	}
	a.heading("Steps:")
	for i, s := range grouped(steps) {
		text := s.Text
		if s.Risk != "" {
			text += a.paint(yellow, " ["+s.Risk+"]")
		}
		a.item(fmt.Sprintf("%3d. ", i+1), text)
	}
}

// printRuleset prints how the packet filter's rules differ, if that was asked for.
func (a *app) printRuleset(d *api.RulesetDiff) {
	switch {
	case d == nil:
		return
	case d.Text == "":
		a.heading("Rules of the packet filter: the same")
		return
	}
	a.heading("Rules of the packet filter:")
	for line := range strings.Lines(d.Text) {
		line = strings.TrimSuffix(line, "\n")
		switch line[:1] {
		case "+":
			line = a.paint(green, line)
		case "-":
			line = a.paint(red, line)
		}
		fmt.Fprintln(a.out, line)
	}
	if d.More > 0 {
		fmt.Fprintf(a.out, "  and %s more\n", plural(d.More, "line"))
	}
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
