package compile_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/state"
	"bulkhead/netcfg/svcconf"
)

// TestLeaseMayNotReachIntoZones hands the box leases that would take over what is a
// zone's: its network, or a machine in it as gateway or as resolver.
func TestLeaseMayNotReachIntoZones(t *testing.T) {
	tests := []struct {
		name             string
		address, gateway string
		resolver         string
		taken            bool // the lease is used
	}{
		{"ordinary", "203.0.113.2/24", "203.0.113.1", "203.0.113.53", true},
		{"network of a zone", "192.168.0.77/16", "192.168.99.1", "203.0.113.53", false},
		{"gateway in a zone", "100.64.0.2/32", "192.168.0.5", "203.0.113.53", false},
		{"gateway is the box", "100.64.0.2/32", "192.168.0.1", "203.0.113.53", false},
		{"resolver in a zone", "203.0.113.2/24", "203.0.113.1", "192.168.1.10", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := large(0)
			f := compile.Offline(cfg, now)
			f.Uplink = &facts.Lease{
				Address: netip.MustParsePrefix(tt.address), Gateway: netip.MustParseAddr(tt.gateway),
				Resolvers: []netip.Addr{netip.MustParseAddr(tt.resolver)},
			}
			r := compile.Compile(cfg, f)
			if got := r.Policy.Env.Uplink.IsValid(); got != tt.taken {
				t.Errorf("lease used: %v, want %v", got, tt.taken)
			}
			if told := len(r.Missing) > 0; told == tt.taken {
				t.Errorf("told what is wrong: %v: %q", told, r.Missing)
			}
			for _, route := range r.State.Routes {
				if cfg.ZoneOf(route.Dst.Addr()) != nil {
					t.Errorf("a route takes %s away from its zone", route.Dst)
				}
			}
			for z := range 6 {
				d := r.Policy.Decide(policy.Flow{
					From: model.Box, Src: netip.MustParseAddr("127.0.0.1"), Dst: netip.AddrFrom4([4]byte{192, 168, byte(z), 10}),
					Proto: model.ProtoUDP, Port: 53, UID: svcconf.Dnsd.ID,
				})
				if d.Allow {
					t.Errorf("the provider has opened zone%d to the resolver", z)
				}
			}
		})
	}
}

// TestLinkNamesAreUnique cuts names of ports so that they fit, which makes them
// alike.
func TestLinkNamesAreUnique(t *testing.T) {
	var cfg model.Config
	f := facts.Facts{Now: now, Kernel: facts.Kernel{VLAN: true}}
	for i, name := range []string{"abcdefghijkl1", "abcdefghijkl2", "abcdefghij-2", "abcdefghijkl", "trunk"} {
		port := &model.Port{Name: name, MAC: model.MAC{2, 0, 0, 0, 0, byte(i)}}
		f.Links = append(f.Links, facts.Link{Name: []string{"eth0", "eth1", "trunk.10", "eth3", "eth4"}[i], MAC: port.MAC.String()})
		cfg.Ports = append(cfg.Ports, port)
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 24)
		cfg.Zones = append(cfg.Zones, &model.Zone{Name: "zone" + name, Port: port, VLAN: 10, Subnet: subnet, Gateway: subnet.Addr().Next()})
	}
	var got []string
	for _, l := range compile.Compile(&cfg, f).State.Links {
		if l.Kind == state.VLAN {
			got = append(got, l.Name)
		}
		if len(l.Name) > 15 {
			t.Errorf("%s is too long for the kernel", l.Name)
		}
	}
	want := []string{"abcdefghij-2.10", "abcdefghij-3.10", "abcdefghij-4.10", "abcdefghijkl.10", "trunk-2.10"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names of VLAN links (-want +got):\n%s", diff)
	}
}

// TestNobodyBlocksTheirOwnWayIn blocks an admin zone from the box in ways that a
// person may write without meaning the management pages.
func TestNobodyBlocksTheirOwnWayIn(t *testing.T) {
	cfg := large(0)
	zone := cfg.Zones[0] // the admin zone
	box := []model.Endpoint{{Kind: model.KindBox}}
	for name, from := range map[string][]model.Endpoint{
		"the zone":   {{Kind: model.KindZone, Zone: zone}},
		"its subnet": {{Kind: model.KindPrefix, Zone: zone, Prefix: zone.Subnet}},
		"its halves": {
			{Kind: model.KindPrefix, Zone: zone, Prefix: netip.MustParsePrefix("192.168.0.0/25")},
			{Kind: model.KindPrefix, Zone: zone, Prefix: netip.MustParsePrefix("192.168.0.128/25")},
		},
	} {
		cfg.Block = []*model.Rule{{Name: "oops", From: from, To: box, Services: []model.Service{model.AnyService}}}
		p := compile.Compile(cfg, compile.Offline(cfg, now)).Policy
		flow := policy.Flow{From: zone.Name, Src: netip.MustParseAddr("192.168.0.99"), Dst: zone.Gateway, Proto: model.ProtoTCP, Port: 443}
		if d := p.Decide(flow); !d.Allow {
			t.Errorf("blocking %s shuts the management pages: %+v", name, d)
		}
		if flow.Port = 53; p.Decide(flow).Allow {
			t.Errorf("blocking %s leaves DNS open", name)
		}
	}
}

// TestRulesetOfAnEmptyConfigurationIsClosed compiles nothing at all.
func TestRulesetOfAnEmptyConfigurationIsClosed(t *testing.T) {
	text := compile.Compile(&model.Config{}, facts.Facts{Now: now}).State.Ruleset.Table.String()
	for _, hook := range []string{"prerouting", "forward", "input", "output"} {
		if !strings.Contains(text, "hook "+hook+" priority") {
			t.Errorf("nothing hangs at %s", hook)
		}
	}
	if n := strings.Count(text, "policy drop"); n != 4 {
		t.Errorf("%d chains drop by policy, want 4:\n%s", n, text)
	}
}

// TestUnusedPortsComeUpWhenAskedFor looks at a box with one zone and a port to spare.
func TestUnusedPortsComeUpWhenAskedFor(t *testing.T) {
	lan, spare := &model.Port{Name: "lan", MAC: model.MAC{2, 0, 0, 0, 0, 1}}, &model.Port{Name: "spare", MAC: model.MAC{2, 0, 0, 0, 0, 2}}
	subnet := netip.MustParsePrefix("10.0.0.0/24")
	cfg := &model.Config{Ports: []*model.Port{lan, spare}, Zones: []*model.Zone{{Name: "home", Port: lan, Subnet: subnet, Gateway: subnet.Addr().Next()}}}
	home := state.Link{Name: "lan", Up: true, Alias: "bulkhead:zone home"}
	for all, want := range map[bool][]state.Link{
		false: {home},
		true:  {home, {Name: "spare", Up: true, Alias: "bulkhead:port spare"}},
	} {
		got := compile.Options{AllPorts: all}.Compile(cfg, compile.Offline(cfg, now)).State
		if diff := cmp.Diff(want, got.Links); diff != "" {
			t.Errorf("all ports %t: links differ (-want +got):\n%s", all, diff)
		}
		if len(got.Addrs) != 1 {
			t.Errorf("addresses %v", got.Addrs)
		}
	}
}

func TestFlowdKnowsZonesDevicesAndMarks(t *testing.T) {
	r := compileExample(t, "../../configs/zero-trust.yaml")
	f := r.Flow
	if got, want := len(f.Zones), 5; got != want {
		t.Fatalf("%d zones, want %d", got, want)
	}
	if z := f.Zones[4]; z.Zone != "guest" || z.Link != "trunk.50" || z.Record != model.RecordNoNames || z.Address != netip.MustParseAddr("192.168.50.1") {
		t.Errorf("guest is %+v", z)
	}
	if got, want := len(f.Devices), 3; got != want {
		t.Errorf("%d devices, want %d: the television's address was found at run time", got, want)
	}
	names := map[uint32]string{}
	for _, n := range append(f.Rules, f.Reasons...) {
		if other, taken := names[n.Mark]; taken {
			t.Errorf("%s and %s have one mark", other, n.Name)
		}
		names[n.Mark] = n.Name
	}
	for _, rule := range r.Policy.Rules {
		if names[rule.Mark()] != rule.Name {
			t.Errorf("mark %#x of %s is called %q", rule.Mark(), rule.Name, names[rule.Mark()])
		}
	}
	if want := (svcconf.FlowKeep{Age: svcconf.Duration(90 * 24 * time.Hour), Size: 1 << 30}); f.Keep != want {
		t.Errorf("kept are %+v, want %+v", f.Keep, want)
	}
}
