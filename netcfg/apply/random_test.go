//go:build linux

package apply_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/plan"
	"bulkhead/netcfg/state"
)

// TestRandomPlans leads one kernel through random states. After every single step
// the kernel must hold what the plan's model predicts, so that the model's other
// tests speak of real kernels; after every plan there must be nothing left to do.
func TestRandomPlans(t *testing.T) {
	k, _ := open(t)
	for seed := range uint64(40) {
		desired := randomState(rand.New(rand.NewPCG(seed, 0)))
		now := observe(t, k, desired)
		p := plan.Make(now, desired)
		for i, s := range p.Steps {
			predicted := plan.After(now, s.Change)
			if err := k.Do(s); err != nil {
				t.Fatalf("seed %d, step %d: %v\n%s", seed, i+1, err, p)
			}
			now = observe(t, k, desired)
			predicted.Ruleset.Table, now.Ruleset.Table = nil, nil
			if diff := gocmp.Diff(predicted, now, values); diff != "" {
				t.Fatalf("seed %d, step %d: state differs (-predicted +got):\n%s%s", seed, i+1, diff, p)
			}
		}
		if again := plan.Make(observe(t, k, desired), desired); len(again.Steps) > 0 {
			t.Fatalf("seed %d: still to do:\n%safter:\n%s", seed, again, p)
		}
	}
}

// randomState is a state that a compiler could ask for on a machine with four cards
// and no 802.1Q.
func randomState(rnd *rand.Rand) state.State {
	var s state.State
	var up []string
	for i := range 4 {
		if rnd.IntN(4) == 0 {
			continue
		}
		l := state.Link{
			Name: fmt.Sprintf("eth%d", i), Up: rnd.IntN(4) > 0, MTU: []int{0, 1400, 1500}[rnd.IntN(3)],
			Alias: state.Alias(fmt.Sprintf("zone z%d", rnd.IntN(3)), rnd.IntN(3) == 0),
		}
		s.Links = append(s.Links, l)
		if l.Up {
			up = append(up, l.Name)
		}
		for range rnd.IntN(4) {
			// Small enough a range that subnets collide, and one address is in several.
			a := addr(l.Name, fmt.Sprintf("10.0.%d.%d/%d", rnd.IntN(3), 1+rnd.IntN(3), 24+rnd.IntN(2)))
			if !slices.Contains(s.Addrs, a) {
				s.Addrs = append(s.Addrs, a)
			}
		}
	}
	for _, dst := range []string{"0.0.0.0/0", "10.9.0.0/16", "10.10.0.0/16"} {
		if len(up) > 0 && rnd.IntN(3) > 0 {
			gateway := ""
			if rnd.IntN(4) > 0 {
				gateway = fmt.Sprintf("10.0.%d.9", rnd.IntN(4))
			}
			s.Routes = append(s.Routes, route(dst, gateway, up[rnd.IntN(len(up))]))
		}
	}
	s.Sysctls = []state.Sysctl{
		{Key: "net/ipv4/conf/all/accept_redirects", Value: "0"},
		{Key: "net/ipv4/conf/eth1/forwarding", Value: "0"},
		{Key: "net/ipv4/ip_forward", Value: "0"},
		{Key: "net/netfilter/nf_conntrack_acct", Value: fmt.Sprint(rnd.IntN(2))},
	}
	if rnd.IntN(4) > 0 {
		s.Ruleset = randomRuleset(rnd)
		s.Sysctls[1].Value, s.Sysctls[2].Value = "1", "1"
	}
	slices.SortFunc(s.Addrs, func(a, b state.Addr) int {
		return cmp.Or(cmp.Compare(a.Link, b.Link), a.Prefix.Compare(b.Prefix))
	})
	return s
}

func randomRuleset(rnd *rand.Rand) state.Ruleset {
	t := table()
	t.Counters = []string{[]string{"one", "two"}[rnd.IntN(2)]}
	return state.Ruleset{Table: t, Digest: t.Digest()}
}
