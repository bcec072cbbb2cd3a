package compile_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// large is a configuration of six zones, 200 devices and n rules between devices,
// zones and the internet, a tenth of them with ranges of ports.
func large(n int) *model.Config {
	g := &generator{Rand: rand.New(rand.NewPCG(1, 1))}
	trunk := &model.Port{Name: "trunk", MAC: model.MAC{2, 0, 0, 0, 0, 1}}
	wan := &model.Port{Name: "wan", MAC: model.MAC{2, 0, 0, 0, 0, 2}}
	cfg := &model.Config{Ports: []*model.Port{wan, trunk}, Uplink: &model.Uplink{Port: wan, IPv4: model.Family{Mode: model.ModeDHCP}}}
	for i := range 6 {
		cfg.Zones = append(cfg.Zones, &model.Zone{
			Name: fmt.Sprintf("zone%d", i), Port: trunk, VLAN: uint16(10 + i), Ping: true, Admin: i == 0,
			Subnet:  netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i), 0}), 24),
			Gateway: netip.AddrFrom4([4]byte{192, 168, byte(i), 1}),
		})
	}
	for i := range 200 {
		cfg.Devices = append(cfg.Devices, &model.Device{
			Name: fmt.Sprintf("dev%d", i), Zone: cfg.Zones[i%6], MAC: model.MAC{2, 0, 0, 0, 1, byte(i)},
			Address: netip.AddrFrom4([4]byte{192, 168, byte(i % 6), byte(10 + i/6)}),
		})
	}
	end := func(to bool) model.Endpoint {
		switch k := g.IntN(20); {
		case k == 0 && to:
			return model.Endpoint{Kind: model.KindInternet}
		case k < 3:
			return model.Endpoint{Kind: model.KindZone, Zone: pick(g, cfg.Zones)}
		}
		d := pick(g, cfg.Devices)
		return model.Endpoint{Kind: model.KindDevice, Zone: d.Zone, Device: d}
	}
	for i := range n {
		s := model.OnePort(pick(g, []uint8{6, 17}), uint16(1+g.IntN(10000)))
		if i%10 == 0 {
			s.Hi = s.Lo + 100
		}
		r := &model.Rule{Name: fmt.Sprintf("rule%d", i), From: []model.Endpoint{end(false)}, To: []model.Endpoint{end(true)}, Services: []model.Service{s}}
		if i%10 == 9 {
			cfg.Block = append(cfg.Block, r)
		} else {
			cfg.Allow = append(cfg.Allow, r)
		}
	}
	return cfg
}

func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{5, 500, 5000} {
		cfg := large(n)
		f := compile.Offline(cfg, now)
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			for b.Loop() {
				compile.Compile(cfg, f)
			}
		})
	}
}

// onePair is 200 devices in two zones and 5,000 rules from the one to the other.
func onePair() *model.Config {
	cfg := large(0)
	for i, d := range cfg.Devices {
		d.Zone = cfg.Zones[i%2]
		d.Address = netip.AddrFrom4([4]byte{192, 168, byte(i % 2), byte(10 + i/2)})
	}
	for i := range 5000 {
		from, to := cfg.Devices[2*(i%100)], cfg.Devices[1+2*(i/50)]
		cfg.Allow = append(cfg.Allow, &model.Rule{
			Name: fmt.Sprintf("rule%d", i), Services: []model.Service{model.OnePort(6, uint16(1000+i))},
			From: []model.Endpoint{{Kind: model.KindDevice, Zone: from.Zone, Device: from}},
			To:   []model.Endpoint{{Kind: model.KindDevice, Zone: to.Zone, Device: to}},
		})
	}
	return cfg
}

// BenchmarkDiff compares 5,000 rules with the same less one, spread over the zones
// and all between two of them, and with none at all.
func BenchmarkDiff(b *testing.B) {
	for name, make := range map[string]func() *model.Config{"spread": func() *model.Config { return large(5000) }, "onepair": onePair} {
		for left, change := range map[string]func(*model.Config){
			"all-but-one": func(c *model.Config) { c.Allow = c.Allow[1:] },
			"none":        func(c *model.Config) { c.Allow, c.Block = nil, nil },
		} {
			cfg, less := make(), make()
			change(less)
			old := compile.Compile(cfg, compile.Offline(cfg, now)).Policy
			next := compile.Compile(less, compile.Offline(less, now)).Policy
			b.Run(name+"/left="+left, func(b *testing.B) {
				for b.Loop() {
					if len(policy.Diff(old, next)) == 0 {
						b.Fatal("no difference")
					}
				}
			})
		}
	}
}

// BenchmarkNetworks compiles 300 rules between networks on both sides, under one
// that covers them all.
func BenchmarkNetworks(b *testing.B) {
	cfg := large(0)
	zone := cfg.Zones[0]
	rule := func(name string, from, to netip.Prefix) *model.Rule {
		return &model.Rule{
			Name: name, Services: []model.Service{model.OnePort(6, 443)},
			From: []model.Endpoint{{Kind: model.KindPrefix, Zone: zone, Prefix: from}},
			To:   []model.Endpoint{{Kind: model.KindPrefix, Prefix: to}},
		}
	}
	cfg.Allow = append(cfg.Allow, rule("all", netip.MustParsePrefix("192.168.0.0/25"), netip.MustParsePrefix("128.0.0.0/3")))
	for i := range 300 {
		from := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 0, byte(i%16) * 8}), 29)
		to := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(130 + i%8), byte(i), 0, 0}), 16)
		cfg.Allow = append(cfg.Allow, rule(fmt.Sprintf("net%d", i), from, to))
	}
	f := compile.Offline(cfg, now)
	elements := 0
	for b.Loop() {
		elements = 0
		for _, s := range compile.Compile(cfg, f).State.Ruleset.Table.Sets {
			elements += len(s.Elements)
		}
	}
	b.ReportMetric(float64(elements), "elements")
}

// BenchmarkRulesetDiff says how the compiled rules differ: those of 5,000 rules with one
// rule more, and with nothing at all.
func BenchmarkRulesetDiff(b *testing.B) {
	side := func(cfg *model.Config) impact.Side {
		return impact.Side{State: compile.Compile(cfg, compile.Offline(cfg, now)).State}
	}
	all := large(5000)
	fewer := *all
	fewer.Allow = all.Allow[1:]
	old := map[string]impact.Side{"one rule more": side(&fewer), "all": {}}
	for name, before := range old {
		change := impact.Change{Old: before, New: side(all)}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if api.RulesetDiffOf(change).Text == "" {
					b.Fatal("no difference")
				}
			}
		})
	}
}
