//go:build linux

package reconcile_test

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/reconcile"
	"bulkhead/netcfg/svcconf"
)

func parse(t *testing.T, file string) *model.Config {
	t.Helper()
	cfg, problems := conf.Parse("home.yaml", []byte(file), begin)
	if cfg == nil {
		t.Fatal(problems.Err())
	}
	return cfg
}

func tuple(proto uint8, src string, sport uint16, dst string, dport uint16) apply.Tuple {
	return apply.Tuple{Proto: proto, Src: netip.MustParseAddr(src), SrcPort: sport, Dst: netip.MustParseAddr(dst), DstPort: dport}
}

func TestConnectionsStayWhereTheyCouldBegin(t *testing.T) {
	cfg := parse(t, home+`
forwards:
  - {name: game, to: tv, protocols: [tcp/7777], owner: kim, why: games, expires: 2026-12-24}
`)
	p := policy.New(cfg, policy.Env{
		Now: begin, Uplink: netip.MustParsePrefix("198.51.100.7/24"),
		Resolvers: []netip.AddrPort{netip.MustParseAddrPort("9.9.9.9:53")},
		Devices:   map[string]netip.Addr{"tv": netip.MustParseAddr("192.168.40.150")},
	})
	ping := apply.Tuple{Proto: model.ProtoICMP, Src: netip.MustParseAddr("192.168.40.7"), Dst: netip.MustParseAddr("192.168.40.1"), Type: 8, ICMPID: 5}
	redirect := ping
	redirect.Type = 5
	tests := []struct {
		name  string
		orig  apply.Tuple
		reply string // source of the answers; "": the destination
		rule  string // that it is marked with; "": it ends; "-": it keeps its mark
	}{
		{"allowed between zones", tuple(6, "192.168.40.7", 4000, "192.168.10.5", 8096), "", "films"},
		{"another port", tuple(6, "192.168.40.7", 4000, "192.168.10.5", 8097), "", ""},
		{"the other way", tuple(6, "192.168.10.5", 8096, "192.168.40.7", 4000), "", ""},
		{"masqueraded", tuple(17, "192.168.10.5", 4000, "5.9.0.1", 443), "", "browsing"},
		{"within a zone", tuple(6, "192.168.10.5", 4000, "192.168.10.6", 80), "", ""},
		{"from the internet", tuple(6, "5.9.0.1", 4000, "192.168.10.5", 22), "", ""},
		{"through a forward", tuple(6, "5.9.0.1", 4000, "198.51.100.7", 7777), "192.168.40.150", "game"},
		{"through a forward that led elsewhere", tuple(6, "5.9.0.1", 4000, "198.51.100.7", 7777), "192.168.40.151", ""},
		{"names from the box", tuple(17, "192.168.40.7", 4000, "192.168.40.1", 53), "", "box:dns"},
		{"pages from the box, in an admin zone", tuple(6, "192.168.10.5", 4000, "192.168.10.1", 443), "", "box:admin"},
		{"pages from the box, elsewhere", tuple(6, "192.168.40.7", 4000, "192.168.40.1", 443), "", ""},
		{"a ping", ping, "", "box:ping"},
		{"another kind of ICMP", redirect, "", ""},
		{"the box asks its resolver", tuple(17, "198.51.100.7", 4000, "9.9.9.9", 53), "", "box:resolve"},
		{"the box asks anybody", tuple(17, "198.51.100.7", 4000, "8.8.8.8", 53), "", ""},
		{"the box broadcasts a lease", tuple(17, "192.168.40.1", 67, "255.255.255.255", 68), "", "box:dhcp-reply"},
		{"a client asks for its first lease", tuple(17, "0.0.0.0", 68, "255.255.255.255", 67), "", "-"},
		{"the box to itself", tuple(6, "127.0.0.1", 4000, "127.0.0.1", 53), "", "-"},
	}
	judge := reconcile.JudgeOf(p, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := apply.Conn{Orig: tt.orig, Mark: 77}
			c.Reply.Src = tt.orig.Dst
			if tt.reply != "" {
				c.Reply.Src = netip.MustParseAddr(tt.reply)
			}
			keep, mark := judge(c)
			var got string
			switch rule := p.RuleByMark(mark); {
			case keep && mark == c.Mark:
				got = "-"
			case keep && rule != nil:
				got = rule.Name
			}
			if got != tt.rule {
				t.Errorf("keep %t, mark %#x: got %q, want %q", keep, mark, got, tt.rule)
			}
		})
	}
}

// What an isolated machine may ask goes to where it is told; what it asked before, and what
// is led there of one that is free by now, does not go on.
func TestConnectionsOfIsolatedMachines(t *testing.T) {
	const gateway = "192.168.40.1"
	web := tuple(6, "192.168.40.7", 4000, "5.9.0.1", 80)
	name := tuple(17, "192.168.40.7", 4000, "5.9.0.1", 53)
	own := tuple(17, "192.168.40.7", 4000, gateway, 53)
	tests := []struct {
		name     string
		orig     apply.Tuple
		answers  string
		port     uint16
		isolated string
		rule     string // "": it ends
	}{
		{"a page of the internet", web, "5.9.0.1", 80, "192.168.40.7", ""},
		{"a name from the internet", name, "5.9.0.1", 53, "192.168.40.7", ""},
		{"a name that was forced to the box", name, gateway, 53, "192.168.40.7", ""},
		{"a name from the box", own, gateway, 53, "192.168.40.7", ""},
		{"the page that says so", web, gateway, svcconf.NoticeHTTP, "192.168.40.7", "box:isolated"},
		{"the name of that page", own, gateway, svcconf.NoticeDNS, "192.168.40.7", "box:isolated"},
		{"another zone's page that says so", web, "192.168.10.1", svcconf.NoticeHTTP, "192.168.40.7", ""},
		{"the page that says so, of a machine that is free", web, gateway, svcconf.NoticeHTTP, "192.168.40.8", ""},
		{"names of a machine that is free", own, gateway, svcconf.NoticeDNS, "192.168.40.8", ""},
		{"a page, of a machine that is free", web, "5.9.0.1", 80, "192.168.40.8", "all"},
		{"a name, of a machine that is free", own, gateway, 53, "192.168.40.8", "box:dns"},
	}
	cfg := parse(t, strings.Replace(home, "\ntests:", "\n  - {name: all, from: gadgets, to: internet, protocols: any, why: a test}\ntests:", 1))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := policy.New(cfg, policy.Env{
				Now: begin, Uplink: netip.MustParsePrefix("198.51.100.7/24"),
				Isolated: []policy.Isolation{{Addresses: []netip.Addr{netip.MustParseAddr(tt.isolated)}}},
			})
			c := apply.Conn{Orig: tt.orig, Mark: 77}
			c.Reply.Src, c.Reply.SrcPort = netip.MustParseAddr(tt.answers), tt.port
			keep, mark := reconcile.JudgeOf(p, nil)(c)
			got := ""
			if keep {
				got = p.RuleByMark(mark).Name
			}
			if got != tt.rule {
				t.Errorf("got %q, want %q", got, tt.rule)
			}
		})
	}
}

func TestConnectionsEndWithTheLinkOfTheirZone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.boot()
		defer func() { b.stop() }()
		b.mustApply(home + `
forwards:
  - {name: game, to: tv, protocols: [tcp/7777], owner: kim, why: games, expires: 2026-12-24}
`)
		b.writeLease(facts.Lease{Link: "eth0", Address: netip.MustParsePrefix("198.51.100.7/24"), Gateway: netip.MustParseAddr("198.51.100.1")})
		devices, err := b.r.Devices(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		forwarded := conn("5.9.0.1", "198.51.100.7", 7777)
		forwarded.Reply.Src = devices[0].Address
		stays := conn("192.168.10.5", "5.9.0.1", 443)
		b.conntrack.conns = []apply.Conn{conn("192.168.40.7", "192.168.10.5", 8096), conn("192.168.40.7", "192.168.40.1", 53), forwarded, stays}
		b.kernel.mu.Lock()
		b.kernel.links = b.kernel.links[:2] // the card of the gadgets is gone
		b.kernel.state.Links = b.kernel.state.Links[:2]
		b.kernel.mu.Unlock()
		b.kernel.changed <- struct{}{}
		wait(time.Second)
		b.conntrack.mu.Lock()
		defer b.conntrack.mu.Unlock()
		if got := b.conntrack.conns; len(got) != 1 || got[0].Orig != stays.Orig {
			t.Errorf("what stays is %+v", got)
		}
	})
}

func TestRescueKeepsTheAdminZonesAndNothingElse(t *testing.T) {
	cfg, err := reconcile.Rescue(parse(t, home))
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Zones) != 1 || len(cfg.Ports) != 3 || cfg.Uplink != nil || len(cfg.Devices)+len(cfg.Allow) > 0 {
		t.Fatalf("got %+v", cfg)
	}
	z := cfg.Zones[0]
	if z.Name != "office" || !z.Admin || z.Ping || z.DNS.Enabled || !z.DHCP.Enabled || z.Gateway.String() != "192.168.10.1" {
		t.Errorf("got zone %+v", z)
	}
	p := policy.New(cfg, policy.Env{Now: begin})
	var names []string
	for _, pair := range p.Pairs() {
		for _, e := range p.Entries(pair) {
			names = append(names, pair.From+" "+e.Rule.Name)
		}
	}
	want := "box box:dhcp-reply, box box:diagnose, office box:dhcp, office box:admin, office box:admin"
	if got := strings.Join(names, ", "); got != want {
		t.Errorf("rescue allows %q, want %q", got, want)
	}
}

// FuzzRescue holds that whatever is in the file, what comes out compiles: nobody is
// there to mend it when it is needed.
func FuzzRescue(f *testing.F) {
	f.Add([]byte(`{"name":"gw","domain":"home.arpa","ports":[{"name":"lan","mac":"52:54:00:10:00:02"}],
		"zones":[{"name":"office","port":"lan","vlan":10,"subnet":"192.168.10.0/24","gateway":"192.168.10.1",
		"dhcp":{"first":"192.168.10.128","last":"192.168.10.254","lease":43200000000000}}]}`))
	f.Add([]byte(`{"zones":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := reconcile.DecodeRescue(data)
		if err != nil {
			return
		}
		for _, z := range cfg.Zones {
			if !z.Subnet.Contains(z.Gateway) || z.Port == nil {
				t.Errorf("zone %+v", z)
			}
		}
		reconcile.CompileClosed(cfg)
	})
}

// FuzzLease holds that wand can make the box take no other address than an ordinary
// one.
func FuzzLease(f *testing.F) {
	f.Add([]byte(`{"link":"eth0","address":"203.0.113.7/24","gateway":"203.0.113.1","obtained":"2026-11-22T12:00:00Z","expires":"2026-11-22T13:00:00Z"}`))
	f.Add([]byte(`{"address":"::1/128"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := reconcile.DecodeLease(data)
		if err != nil {
			return
		}
		a := l.Address.Addr()
		if !a.Is4() || a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || l.Address.Bits() < 8 {
			t.Errorf("took %s", l.Address)
		}
		if g := l.Gateway; g.IsValid() && !g.Is4() {
			t.Errorf("took gateway %s", g)
		}
	})
}
