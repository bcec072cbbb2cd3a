package impact_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"

	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// TestNobodyIsLockedOutUnsaid changes each example into each other, for authors all over
// the network and with network cards missing at random, and asks the policy, which is
// another evaluator than the one that was asked before: unless a lock-out is told, there
// is a door, every door that is named lets somebody in, and whoever need not move is let
// in from where they are. A failure prints the seed that repeats it.
func TestNobodyIsLockedOutUnsaid(t *testing.T) {
	var configs []*model.Config
	for _, name := range []string{"small", "zero-trust", "ciso"} {
		data, err := os.ReadFile("../../configs/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		cfg, problems := conf.Parse(name, data, today)
		if cfg == nil {
			t.Fatal(problems.Err())
		}
		configs = append(configs, cfg)
	}
	told, moved, stayed := 0, 0, 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 0))
		old, next := configs[r.IntN(3)], configs[r.IntN(3)]
		z := old.Zones[r.IntN(len(old.Zones))]
		a := z.Subnet.Addr().As4()
		a[3] |= byte(2 + r.IntN(60))
		c := impact.Change{Old: with(old, nil), New: with(next, r), Now: today, Author: netip.AddrFrom4(a), Live: true}
		c.Interrupts()
		p, lockout := c.Path()
		if lockout != "" {
			told++
			continue
		}
		if len(p.At) == 0 {
			t.Errorf("seed %d: no way is left, and none is missed: %s", seed, p.Text)
		}
		for _, d := range p.At {
			if !letsIn(c.New.Policy, d) {
				t.Errorf("seed %d: nobody gets in at %s", seed, d)
			}
		}
		if p.Moves {
			moved++
			continue
		}
		stayed++
		flow := policy.Flow{From: p.At[0].Zone, Src: c.Author, Dst: p.At[0].Address, Proto: model.ProtoTCP, SrcPort: 49152, Port: 443}
		if d := c.New.Policy.Decide(flow); p.Zone != "" && !d.Allow {
			t.Errorf("seed %d: %s: but %+v", seed, p.Text, d)
		}
	}
	if told == 0 || moved == 0 || stayed == 0 {
		t.Errorf("of all changes %d lock out, %d move and %d leave the way alone: that is no test", told, moved, stayed)
	}
}

// with compiles a configuration for a box with the network cards of all examples, or
// with some of them.
func with(cfg *model.Config, r *rand.Rand) impact.Side {
	f := facts.Facts{Now: today, Kernel: facts.Kernel{VLAN: true}}
	for n := range 8 {
		if r == nil || r.IntN(4) > 0 {
			f.Links = append(f.Links, facts.Link{Name: fmt.Sprintf("eth%d", n), MAC: fmt.Sprintf("52:54:00:10:00:%02x", n)})
		}
	}
	f.Devices = compile.Pin(cfg, nil, func(netip.Addr) bool { return false })
	res := compile.Compile(cfg, f)
	return impact.Side{Policy: res.Policy, State: res.State, Missing: res.Missing}
}

func letsIn(p *policy.Policy, d impact.Door) bool {
	z := p.Config.Zone(d.Zone)
	return slices.ContainsFunc(p.Hosts(model.Endpoint{Kind: model.KindZone, Zone: z}), func(h policy.Host) bool {
		return p.Decide(policy.Flow{From: z.Name, Src: h.Addr, Dst: d.Address, Proto: model.ProtoTCP, Port: 443}).Allow
	})
}
