package plan_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
)

const pairs = 2000

// TestPlansLeadToTheDesiredState makes plans between random states, carries them
// out on a model of a kernel, and looks at every state on the way.
func TestPlansLeadToTheDesiredState(t *testing.T) {
	for seed := range uint64(pairs) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		observed, desired := randomState(rnd), randomState(rnd)
		adopt(&observed, desired)
		p := plan.Make(observed, desired)
		now := observed
		for i, s := range p.Steps {
			closed := observed.Ruleset.Present() || i > 0 // the first step may be what closes
			if closed && forwards(now) && !now.Ruleset.Present() {
				t.Errorf("seed %d: forwarding without rules before step %d", seed, i+1)
			}
			now = plan.After(now, s.Change)
		}
		if again := plan.Make(now, desired); len(again.Steps) > 0 {
			t.Errorf("seed %d: still to do:\n%safter:\n%s", seed, again, p)
		}
		if diff := diffOwned(desired, now); diff != "" {
			t.Errorf("seed %d: state differs (-desired +got):\n%s after:\n%s", seed, diff, p)
		}
		if diff := diffForeign(observed, now, desired); diff != "" {
			t.Errorf("seed %d: foreign links touched (-before +after):\n%s", seed, diff)
		}
		if t.Failed() {
			return
		}
	}
}

func TestDesiredStateNeedsNoSteps(t *testing.T) {
	for seed := range uint64(pairs) {
		s := randomState(rand.New(rand.NewPCG(seed, 1)))
		if p := plan.Make(s, s); len(p.Steps) > 0 {
			t.Fatalf("seed %d: still to do:\n%s", seed, p)
		}
	}
}

// TestRulesComeBeforeAllThatOpens holds for every plan that loads rules.
func TestRulesComeBeforeAllThatOpens(t *testing.T) {
	for seed := range uint64(pairs) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		observed, desired := randomState(rnd), randomState(rnd)
		adopt(&observed, desired)
		p := plan.Make(observed, desired)
		load := slices.IndexFunc(p.Steps, func(s plan.Step) bool { return s.Change.Op() == plan.OpLoadRuleset })
		for i, s := range p.Steps {
			switch c := s.Change.(type) {
			case plan.LoadRuleset:
				if !c.To.Present() && i != len(p.Steps)-1 {
					t.Errorf("seed %d: steps after rules are gone:\n%s", seed, p)
				}
			case plan.SetSysctl:
				if c.Key == "net/ipv4/ip_forward" && c.To == "1" && i < load {
					t.Errorf("seed %d: forwarding before rules:\n%s", seed, p)
				}
			case plan.CreateLink, plan.AddAddr, plan.AddRoute, plan.ReplaceRoute:
				if i < load && desired.Ruleset.Present() {
					t.Errorf("seed %d: step %d before rules:\n%s", seed, i+1, p)
				}
			}
		}
		if t.Failed() {
			return
		}
	}
}

func forwards(s state.State) bool {
	return slices.Contains(s.Sysctls, state.Sysctl{Key: "net/ipv4/ip_forward", Value: "1"})
}

// adopt makes the observed state one that apply could have returned for the desired
// one: it has the same settings, and every network card that is asked for.
func adopt(observed *state.State, desired state.State) {
	var settings []state.Sysctl
	for _, want := range desired.Sysctls {
		i := slices.IndexFunc(observed.Sysctls, func(s state.Sysctl) bool { return s.Key == want.Key })
		if i < 0 {
			settings = append(settings, state.Sysctl{Key: want.Key, Value: "0"})
			continue
		}
		settings = append(settings, observed.Sysctls[i])
	}
	observed.Sysctls = settings
	for _, want := range desired.Links {
		if !slices.ContainsFunc(observed.Links, func(l state.Link) bool { return l.Name == want.Name }) && want.Kind == state.Physical {
			observed.Links = append(observed.Links, state.Link{Name: want.Name, MTU: 1500})
		}
	}
	slices.SortFunc(observed.Links, func(a, b state.Link) int { return strings.Compare(a.Name, b.Name) })
}

// randomState is a state that a compiler could ask for.
func randomState(rnd *rand.Rand) state.State {
	var s state.State
	for i := range 4 {
		name := fmt.Sprintf("eth%d", i)
		l := state.Link{Name: name, Up: rnd.IntN(4) > 0, MTU: 1400 + 100*rnd.IntN(3)}
		if rnd.IntN(4) > 0 {
			l.Alias = state.Alias([]string{"uplink", "port trunk", "zone lan"}[rnd.IntN(3)], rnd.IntN(3) == 0)
		}
		s.Links = append(s.Links, l)
		if !l.Managed() || !l.Up {
			continue
		}
		for id := range uint16(3) {
			if rnd.IntN(2) == 0 {
				child := vlan(name, fmt.Sprintf("%s.%d", name, id+1), id+1+uint16(3*rnd.IntN(2)), state.Alias(fmt.Sprintf("zone z%d", rnd.IntN(3)), false))
				child.MTU = l.MTU - 100*rnd.IntN(2)
				s.Links = append(s.Links, child)
			}
		}
	}
	var up []string
	for _, l := range s.Links {
		if l.Managed() && l.Up {
			up = append(up, l.Name)
		}
		if !l.Managed() {
			continue
		}
		for range rnd.IntN(3) {
			p := fmt.Sprintf("10.0.%d.%d/%d", rnd.IntN(4), 1+rnd.IntN(3), 24+rnd.IntN(2))
			if a := addr(l.Name, p); !slices.Contains(s.Addrs, a) {
				s.Addrs = append(s.Addrs, a)
			}
		}
	}
	for _, dst := range []string{"0.0.0.0/0", "10.9.0.0/16", "10.10.0.0/16"} {
		if len(up) > 0 && rnd.IntN(3) > 0 {
			s.Routes = append(s.Routes, route(dst, fmt.Sprintf("10.0.%d.9", rnd.IntN(4)), up[rnd.IntN(len(up))]))
		}
	}
	if rnd.IntN(4) > 0 {
		s.Ruleset.Digest = []string{"one", "two"}[rnd.IntN(2)]
	}
	s.Sysctls = []state.Sysctl{
		{Key: "net/ipv4/conf/all/accept_redirects", Value: "0"},
		{Key: "net/ipv4/conf/eth1/rp_filter", Value: fmt.Sprint(rnd.IntN(3))},
		{Key: "net/ipv4/ip_forward", Value: "0"},
		{Key: "net/netfilter/nf_conntrack_acct", Value: fmt.Sprint(rnd.IntN(2))},
	}
	if s.Ruleset.Present() && rnd.IntN(3) > 0 {
		s.Sysctls[2].Value = "1"
	}
	slices.SortFunc(s.Links, func(a, b state.Link) int { return strings.Compare(a.Name, b.Name) })
	return s
}

// diffOwned compares what Bulkhead owns of two states.
func diffOwned(want, got state.State) string {
	owned := func(s state.State) state.State {
		s = plan.After(s, plan.LoadRuleset{To: s.Ruleset}) // sorted, and a copy
		s.Links = slices.DeleteFunc(s.Links, func(l state.Link) bool { return !l.Managed() })
		s.Sysctls = slices.DeleteFunc(s.Sysctls, func(c state.Sysctl) bool { return c.Value == "" })
		return s
	}
	return cmp.Diff(owned(want), owned(got), values)
}

// diffForeign compares the links that neither state owns.
func diffForeign(before, after, desired state.State) string {
	foreign := func(s state.State) []state.Link {
		return slices.DeleteFunc(slices.Clone(s.Links), func(l state.Link) bool {
			is := func(o state.Link) bool { return o.Name == l.Name && o.Managed() }
			return slices.ContainsFunc(before.Links, is) || slices.ContainsFunc(desired.Links, is)
		})
	}
	return cmp.Diff(foreign(before), foreign(after), values)
}

var values = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}
