package plan

import (
	"fmt"

	"bulkhead/netcfg/state"
)

// subject is what a step is about, beyond its change.
type subject struct {
	Purpose string `json:"purpose,omitempty"` // of the link: "zone iot"
	Admin   bool   `json:"admin,omitempty"`   // the box is managed over the link
}

func newStep(c Change, s subject) Step {
	return Step{Change: c, Sentence: sentence(c, s), Risk: risk(c, s), subject: s}
}

func sentence(c Change, s subject) string {
	about := ""
	if s.Purpose != "" {
		about = " (" + s.Purpose + ")"
	}
	switch c := c.(type) {
	case CreateLink:
		return fmt.Sprintf("create %s, VLAN %d of %s%s", c.Link.Name, c.Link.VLAN, c.Link.Parent, about)
	case DeleteLink:
		return fmt.Sprintf("remove %s, VLAN %d of %s%s", c.Link.Name, c.Link.VLAN, c.Link.Parent, about)
	case SetUp:
		return fmt.Sprintf("switch %s %s%s", c.Link, onOff(c.Up), about)
	case SetMTU:
		return fmt.Sprintf("set the MTU of %s to %d bytes%s", c.Link, c.To, about)
	case SetAlias:
		return aliasSentence(c)
	case AddAddr:
		return fmt.Sprintf("give %s the address %s%s", c.Addr.Link, c.Addr.Prefix, about)
	case DeleteAddr:
		return fmt.Sprintf("take the address %s from %s%s", c.Addr.Prefix, c.Addr.Link, about)
	case AddRoute:
		return fmt.Sprintf("route %s %s%s", traffic(c.Route), way(c.Route), about)
	case DeleteRoute:
		return fmt.Sprintf("no longer route %s %s%s", traffic(c.Route), way(c.Route), about)
	case ReplaceRoute:
		return fmt.Sprintf("route %s %s%s instead of %s", traffic(c.To), way(c.To), about, way(c.From))
	case SetSysctl:
		return sysctlSentence(c)
	case LoadRuleset:
		return rulesetSentence(c)
	}
	panic(fmt.Sprintf("plan: no words for %T", c))
}

func onOff(up bool) string {
	if up {
		return "on"
	}
	return "off"
}

func aliasSentence(c SetAlias) string {
	from, to := state.Link{Alias: c.From}, state.Link{Alias: c.To}
	switch {
	case !to.Managed():
		return fmt.Sprintf("let go of %s (was %s)", c.Link, from.Purpose())
	case from.Managed() && from.Purpose() != to.Purpose():
		return fmt.Sprintf("use %s as %s (was %s)", c.Link, to.Purpose(), from.Purpose())
	case from.Managed() && to.Admin():
		return fmt.Sprintf("note that the box is managed over %s (%s)", c.Link, to.Purpose())
	case from.Managed():
		return fmt.Sprintf("note that the box is no longer managed over %s (%s)", c.Link, to.Purpose())
	}
	return fmt.Sprintf("use %s as %s", c.Link, to.Purpose())
}

func traffic(r state.Route) string {
	if r.Dst.Bits() == 0 {
		return "everything else"
	}
	return r.Dst.String()
}

func way(r state.Route) string {
	if !r.Gateway.IsValid() {
		return "out at " + r.Link
	}
	return fmt.Sprintf("by %s at %s", r.Gateway, r.Link)
}

func sysctlSentence(c SetSysctl) string {
	switch {
	case isForwarding(c.Key) && c.To == "0":
		return fmt.Sprintf("stop passing packets between networks (%s = 0)", c.Key)
	case isForwarding(c.Key):
		return fmt.Sprintf("pass packets between networks, as the rules allow (%s = %s)", c.Key, c.To)
	case c.From == "":
		return fmt.Sprintf("set %s to %s", c.Key, c.To)
	}
	return fmt.Sprintf("set %s to %s (was %s)", c.Key, c.To, c.From)
}

func rulesetSentence(c LoadRuleset) string {
	switch {
	case !c.To.Present():
		return "remove the rules of the packet filter"
	case c.From.Foreign:
		return "load the rules of the packet filter again: they are not as Bulkhead left them"
	case !c.From.Present():
		return "load the rules of the packet filter: all that they do not allow is refused"
	}
	return "load the changed rules of the packet filter, all at once"
}

// risk says what a change can disturb.
func risk(c Change, s subject) Risk {
	switch c := c.(type) {
	case DeleteLink:
		return linkRisk(c.Link.Name, s)
	case DeleteAddr:
		return linkRisk(c.Addr.Link, s)
	case SetMTU: // some cards restart for it
		return linkRisk(c.Link, s)
	case SetUp:
		if !c.Up {
			return linkRisk(c.Link, s)
		}
	case DeleteRoute:
		return Risk{Interrupts, "what goes " + way(c.Route)}
	case ReplaceRoute:
		return Risk{Interrupts, "what goes " + way(c.From)}
	case SetSysctl:
		if isForwarding(c.Key) && c.To == "0" {
			return Risk{Interrupts, "everything between networks"}
		}
	case LoadRuleset:
		return rulesetRisk(c)
	}
	return Risk{}
}

func linkRisk(link string, s subject) Risk {
	what := link
	if s.Purpose != "" {
		what = s.Purpose
	}
	if s.Admin {
		return Risk{Management, what}
	}
	return Risk{Interrupts, what}
}

func rulesetRisk(c LoadRuleset) Risk {
	switch {
	case !c.To.Present():
		return Risk{Interrupts, "the protection of the box itself"}
	case c.From.Digest == c.To.Digest:
		return Risk{} // the same rules again
	}
	return Risk{Interrupts, "what the new rules do not allow"}
}
