package api

import (
	"fmt"
	"strings"

	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/policy"
)

// Plan is what a change does, before or after it was done.
type Plan struct {
	Warnings   diag.List          `json:"warnings,omitempty"`
	Missing    []string           `json:"missing,omitempty"`
	Reach      []Reach            `json:"reach"`
	Interrupts []impact.Interrupt `json:"interrupts,omitempty"`
	Cut        *impact.Cut        `json:"cut,omitempty"` // open connections that end; nil: not known without a box
	Tests      []TestChange       `json:"tests,omitempty"`
	Path       *impact.Path       `json:"path,omitempty"`    // the author's way to the box
	Lockout    string             `json:"lockout,omitempty"` // why the change is refused for locking out; "": it is not
	Steps      []Step             `json:"steps"`
	Ruleset    *RulesetDiff       `json:"ruleset,omitempty"` // nil: it was not asked for
}

// PlanOf puts what a change does into words. Before is what the box does now, which on
// one that is closed is less than what c.Old would allow.
func PlanOf(before *policy.Policy, c impact.Change, steps *plan.Plan, warnings diag.List) *Plan {
	p := &Plan{
		Warnings: warnings, Missing: c.New.Missing,
		Reach: ReachOf(before, c.New.Policy), Interrupts: c.Interrupts(), Cut: c.Cut(), Tests: TestsOf(before, c.New.Policy),
		Steps: StepsOf(steps),
	}
	p.Path, p.Lockout = c.Path()
	return p
}

// Reach is one thing that becomes possible by a change, or no longer is.
type Reach struct {
	From     string   `json:"from"` // zone, device, network, "internet" or "box"
	To       string   `json:"to"`
	Possible bool     `json:"possible"`
	Services []string `json:"services"`
}

// String says it in words: guest → internet: any becomes possible.
func (r Reach) String() string {
	verb := "is no longer possible"
	if r.Possible {
		verb = "becomes possible"
	}
	return fmt.Sprintf("%s → %s: %s %s", r.From, r.To, strings.Join(r.Services, ", "), verb)
}

// ReachOf puts what changes between two policies into words.
func ReachOf(old, new *policy.Policy) []Reach {
	list := []Reach{}
	for _, c := range policy.Diff(old, new) {
		list = append(list, Reach{c.From, c.To, c.Possible, words(c.Services)})
	}
	return list
}

// words writes services as the configuration does, and ranges that rules leave over,
// which no file says, in its manner.
func words(services []model.Service) []string {
	list := make([]string, len(services))
	for i, s := range services {
		name := model.ProtoName(s.Proto)
		switch {
		case s.Ports && s.Lo == 0 && s.Hi == 65535, s.Type && s.Lo == 0 && s.Hi == 255:
			list[i] = name
		case s.Type && s.Lo != s.Hi:
			list[i] = fmt.Sprintf("%s/%d-%d", name, s.Lo, s.Hi)
		case !s.Any && s.Proto == unnamedProto:
			list[i] = "other protocols"
		default:
			list[i] = s.String()
		}
	}
	return list
}

// Step is one step of a plan.
type Step struct {
	Text string `json:"text"`
	Risk string `json:"risk,omitempty"`
	Undo string `json:"undo,omitempty"`
}

// StepsOf puts a plan's steps into words.
func StepsOf(p *plan.Plan) []Step {
	steps := []Step{}
	for _, s := range p.Steps {
		step := Step{Text: s.Sentence}
		if s.Risk.Level != plan.None {
			step.Risk = s.Risk.String()
		}
		if undo, ok := s.Undo(); ok {
			step.Undo = undo.Sentence
		}
		steps = append(steps, step)
	}
	return steps
}

// TestChange is a test of a configuration whose result the change changes.
type TestChange struct {
	Pos       diag.Pos `json:"pos"` // in the file that states it: the old one, if it no longer holds
	From      []string `json:"from"`
	To        []string `json:"to"`
	Protocols []string `json:"protocols"`
	Expect    string   `json:"expect"`  // allow or deny
	Holds     bool     `json:"holds"`   // after the change, and not before; else the other way round
	Against   Verdict  `json:"against"` // one connection that shows it where it does not hold
}

// String says the test in one line: iot → nas: smb: deny.
func (t TestChange) String() string {
	return fmt.Sprintf("%s → %s: %s: %s", strings.Join(t.From, ", "), strings.Join(t.To, ", "), strings.Join(t.Protocols, ", "), t.Expect)
}

// TestsOf lists the tests of the old configuration that the new one would fail, and
// those of the new one that the old one fails. A test that fails in its own file is
// among [Failures].
func TestsOf(old, new *policy.Policy) []TestChange {
	return append(changed(old, new, false), changed(new, old, true)...)
}

// changed lists the tests of one policy's file that hold in it and not in another.
func changed(in, other *policy.Policy, holds bool) []TestChange {
	var list []TestChange
	for _, t := range in.Config.Tests {
		adopted, ok := other.Adopt(t)
		if !ok {
			continue // it is about something that is not there
		}
		a, fails := other.Refute(adopted)
		if !fails {
			continue
		}
		if _, failed := in.Refute(t); failed {
			continue
		}
		list = append(list, TestChange{
			Pos: t.Pos, From: t.FromNames, To: t.ToNames, Protocols: t.Protocols, Expect: expectation(t), Holds: holds,
			Against: verdict(a.From, a.To, []model.Service{a.Service}, a.Decision),
		})
	}
	return list
}

func expectation(t *model.Test) string {
	if t.Allow {
		return "allow"
	}
	return "deny"
}
