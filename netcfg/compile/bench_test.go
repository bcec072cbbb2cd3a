package compile_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"bulkhead/netcfg/compile"
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

// BenchmarkDiff compares 5,000 rules with the same less one.
func BenchmarkDiff(b *testing.B) {
	cfg, less := large(5000), large(5000)
	less.Allow = less.Allow[1:]
	old := compile.Compile(cfg, compile.Offline(cfg, now)).Policy
	next := compile.Compile(less, compile.Offline(less, now)).Policy
	for b.Loop() {
		if len(policy.Diff(old, next)) == 0 {
			b.Fatal("no difference")
		}
	}
}
