package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/svcconf"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// home is a small house: management and iot, a television that may see films on a
// server, and everybody on the internet but the television.
func home() *model.Config {
	port := &model.Port{Name: "trunk"}
	zone := func(name string, vlan uint16, subnet, gateway string) *model.Zone {
		return &model.Zone{
			Name: name, Port: port, VLAN: vlan, Subnet: netip.MustParsePrefix(subnet), Gateway: netip.MustParseAddr(gateway),
			Ping: true, DHCP: model.DHCP{Enabled: true}, DNS: model.DNS{Enabled: true},
		}
	}
	mgmt := zone("management", 10, "192.168.10.0/24", "192.168.10.1")
	mgmt.Admin = true
	iot := zone("iot", 40, "192.168.40.0/24", "192.168.40.1")
	servers := zone("servers", 20, "192.168.20.0/24", "192.168.20.1")
	tv := &model.Device{Name: "tv", Zone: iot, MAC: model.MAC{2, 0, 0, 0, 0, 9}, Address: netip.MustParseAddr("192.168.40.9")}
	nas := &model.Device{Name: "nas", Zone: servers, MAC: model.MAC{2, 0, 0, 0, 0, 8}}
	ends := func(list ...model.Endpoint) []model.Endpoint { return list }
	inZone := func(z *model.Zone) model.Endpoint { return model.Endpoint{Kind: model.KindZone, Zone: z} }
	device := func(d *model.Device) model.Endpoint {
		return model.Endpoint{Kind: model.KindDevice, Zone: d.Zone, Device: d}
	}
	internet := model.Endpoint{Kind: model.KindInternet}
	return &model.Config{
		Uplink:  &model.Uplink{Port: port, IPv4: model.Family{Mode: model.ModeDHCP}},
		Zones:   []*model.Zone{mgmt, servers, iot},
		Devices: []*model.Device{tv, nas},
		Allow: []*model.Rule{
			{Name: "browsing", From: ends(inZone(mgmt), inZone(iot)), To: ends(internet), Services: []model.Service{model.AnyService}},
			{Name: "films", From: ends(device(tv)), To: ends(device(nas)), Services: []model.Service{model.OnePort(6, 8096), model.PortRange(17, 7000, 7010)}},
			{Name: "visit", From: ends(inZone(iot)), To: ends(inZone(servers)), Services: []model.Service{model.OnePort(6, 80)}, Until: noon.Add(time.Hour)},
			{Name: "inner", From: ends(inZone(mgmt)), To: ends(model.Endpoint{Kind: model.KindPrefix, Zone: servers, Prefix: netip.MustParsePrefix("192.168.20.64/26")}), Services: []model.Service{model.OnePort(6, 22)}},
		},
		Block: []*model.Rule{
			{Name: "tv-stays-home", From: ends(device(tv)), To: ends(internet), Services: []model.Service{model.AnyService}},
			{Name: "no-box", From: ends(inZone(mgmt)), To: ends(model.Endpoint{Kind: model.KindBox}), Services: []model.Service{model.AnyService}},
		},
		Forwards: []*model.Forward{
			{Name: "vpn", To: nas, Services: []model.Service{model.OnePort(17, 51820)}, Until: noon.Add(time.Minute)},
		},
	}
}

func env(now time.Time) policy.Env {
	return policy.Env{
		Now: now, Uplink: netip.MustParsePrefix("203.0.113.2/24"),
		Resolvers: []netip.AddrPort{netip.MustParseAddrPort("203.0.113.53:53")},
		Devices:   map[string]netip.Addr{"nas": netip.MustParseAddr("192.168.20.100")},
	}
}

func TestDecide(t *testing.T) {
	const discover = "iot 0.0.0.0 > 255.255.255.255 17/67 from 68"
	tests := []struct {
		flow string // party source > destination protocol/port
		want string // verdict and rule or reason
	}{
		{"iot 192.168.40.20 > 8.8.4.4 6/443", "allow browsing"},
		{"iot 192.168.40.9 > 8.8.4.4 6/443", "deny tv-stays-home"},
		{"iot 192.168.40.9 > 192.168.20.100 6/8096", "allow films"},
		{"iot 192.168.40.9 > 192.168.20.100 17/7010", "allow films"},
		{"iot 192.168.40.9 > 192.168.20.100 17/7011", "deny policy"},
		{"iot 192.168.40.10 > 192.168.20.100 6/8096", "deny policy"},
		{"iot 192.168.40.10 > 192.168.20.100 6/80", "allow visit"},
		{"iot 192.168.40.10 > 192.168.10.20 6/80", "deny policy"},
		{"management 192.168.10.20 > 192.168.20.70 6/22", "allow inner"},
		{"management 192.168.10.20 > 192.168.20.128 6/22", "deny policy"},

		// What the box does for a zone, at its address in that zone only.
		{"iot 192.168.40.20 > 192.168.40.1 17/53", "allow box:dns"},
		{"iot 192.168.40.20 > 192.168.20.1 17/53", "deny address"},
		{"iot 192.168.40.20 > 192.168.40.1 6/443", "deny policy"},
		{"iot 192.168.40.20 > 192.168.40.1 1/8", "allow box:ping"},
		{discover, "allow box:dhcp"},
		{"iot 0.0.0.0 > 192.168.40.1 17/67 from 68", "deny spoofed"},
		{"iot 192.168.40.20 > 255.255.255.255 17/67 from 68", "allow box:dhcp"},

		// A block of the whole zone takes everything but the management pages.
		{"management 192.168.10.20 > 192.168.10.1 17/53", "deny no-box"},
		{"management 192.168.10.20 > 192.168.10.1 6/443", "allow box:admin"},
		{"management 192.168.10.20 > 192.168.10.1 6/80", "allow box:admin"},

		{"iot 192.168.10.20 > 8.8.4.4 6/443", "deny spoofed"},
		{"iot 192.168.40.1 > 8.8.4.4 6/443", "deny spoofed"},
		{"iot 192.168.40.9 > 192.168.20.100 6/8096 mac 02:00:00:00:00:77", "deny borrowed"},
		// The television is blocked from the internet, by whatever address it calls itself.
		{"iot 192.168.40.77 > 8.8.4.4 6/443 mac 02:00:00:00:00:09", "deny borrowed"},
		{"iot 192.168.40.77 > 192.168.40.1 17/67 from 68 mac 02:00:00:00:00:09", "allow box:dhcp"},
		{"iot 192.168.40.77 > 8.8.4.4 6/443 mac 02:00:00:00:00:55", "allow browsing"},
		{"internet 10.0.0.1 > 203.0.113.2 17/51820", "deny bogon"},
		{"internet 192.168.40.5 > 203.0.113.2 17/51820", "deny spoofed"},
		{"internet 203.0.113.50 > 203.0.113.2 17/51820", "allow vpn"},
		{"internet 8.8.4.4 > 203.0.113.2 6/443", "deny address"},
		{"internet 8.8.4.4 > 192.168.20.100 17/51820", "deny policy"},
		{"iot 192.168.40.20 > 203.0.113.2 17/51820", "allow vpn"},
		{"servers 192.168.20.20 > 203.0.113.2 17/51820", "allow vpn"},
		{"iot 192.168.40.20 > 192.168.40.21 6/80", "deny address"},
		{"iot 192.168.40.20 > 192.168.20.255 6/80", "deny address"},
		{"iot 192.168.40.20 > 224.0.0.251 17/5353", "deny address"},
		{"iot fe80::1 > fe80::2 6/443", "deny ipv6"},

		{"box 127.0.0.1 > 203.0.113.53 17/53 uid dnsd", "allow box:resolve"},
		{"box 127.0.0.1 > 203.0.113.53 17/53 uid webuid", "deny policy"},
		{"box 127.0.0.1 > 8.8.4.4 17/53 uid dnsd", "deny policy"},
		{"box 127.0.0.1 > 192.168.20.100 6/22 uid dnsd", "deny policy"},
		{"box 127.0.0.1 > 192.168.40.20 17/68 uid dhcpd", "allow box:dhcp-reply"},
	}
	p := policy.New(home(), env(noon))
	for _, tt := range tests {
		d := p.Decide(parseFlow(t, tt.flow))
		if got := verdict(d); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.flow, got, tt.want)
		}
	}
}

func verdict(d policy.Decision) string {
	word := "deny"
	if d.Allow {
		word = "allow"
	}
	if d.Rule != nil {
		return word + " " + d.Rule.Name
	}
	return word + " " + string(d.Reason)
}

func parseFlow(t *testing.T, s string) policy.Flow {
	t.Helper()
	var f policy.Flow
	f.SrcPort = 40000
	words := strings.Fields(s)
	f.From, f.Src, f.Dst = words[0], netip.MustParseAddr(words[1]), netip.MustParseAddr(words[3])
	if _, err := fmt.Sscanf(words[4], "%d/%d", &f.Proto, &f.Port); err != nil {
		t.Fatal(err)
	}
	for i := 5; i+1 < len(words); i += 2 {
		switch words[i] {
		case "from":
			fmt.Sscan(words[i+1], &f.SrcPort)
		case "mac":
			f.MAC, _ = model.ParseMAC(words[i+1])
		case "uid":
			f.UID = map[string]int{"dnsd": svcconf.Dnsd.ID, "dhcpd": svcconf.Dhcpd.ID, "webuid": svcconf.Webuid.ID, "pushd": svcconf.Pushd.ID}[words[i+1]]
		}
	}
	return f
}

func TestRulesEndAtTheirInstant(t *testing.T) {
	visit := parseFlow(t, "iot 192.168.40.10 > 192.168.20.100 6/80")
	for _, tt := range []struct {
		now  time.Time
		want string
	}{
		{noon.Add(time.Hour - time.Nanosecond), "allow visit"},
		{noon.Add(time.Hour), "deny policy"},
	} {
		p := policy.New(home(), env(tt.now))
		if got := verdict(p.Decide(visit)); got != tt.want {
			t.Errorf("at %s: got %s, want %s", tt.now, got, tt.want)
		}
	}
	next, ok := policy.New(home(), env(noon)).Next()
	if want := noon.Add(time.Minute); !ok || !next.Equal(want) {
		t.Errorf("next end of a rule: got %s %v, want %s", next, ok, want)
	}
}

func TestIDsDependOnNamesAlone(t *testing.T) {
	a := policy.New(home(), env(noon))
	cfg := home()
	cfg.Allow[0], cfg.Allow[1] = cfg.Allow[1], cfg.Allow[0]
	cfg.Allow = cfg.Allow[:3]
	b := policy.New(cfg, env(noon))
	ids := map[string]uint32{}
	for _, r := range a.Rules {
		ids[r.Name] = r.ID
		if a.RuleByMark(r.Mark()) != r {
			t.Errorf("mark %#x of %s leads to %v", r.Mark(), r.Name, a.RuleByMark(r.Mark()))
		}
	}
	for _, r := range b.Rules {
		if ids[r.Name] != r.ID {
			t.Errorf("%s was %d and is %d after other rules moved", r.Name, ids[r.Name], r.ID)
		}
	}
}

func TestFailuresShowOneConnection(t *testing.T) {
	cfg := home()
	iot, servers := cfg.Zones[2], cfg.Zones[1]
	endpoint := func(z *model.Zone) []model.Endpoint { return []model.Endpoint{{Kind: model.KindZone, Zone: z}} }
	cfg.Tests = []*model.Test{
		{From: endpoint(iot), To: endpoint(servers), Services: []model.Service{model.OnePort(6, 80)}, Allow: true},
		// True for the zone at large, but not for the television.
		{From: endpoint(iot), To: endpoint(servers), Services: []model.Service{model.OnePort(6, 8096)}, Allow: false},
		{From: endpoint(iot), To: endpoint(servers), Services: []model.Service{model.PortRange(6, 79, 80)}, Allow: true},
	}
	var got []string
	for _, f := range policy.New(cfg, env(noon)).Failures() {
		got = append(got, fmt.Sprintf("%s > %s %s: %s", f.Against.From.Name(), f.Against.To.Name(), f.Against.Service, verdict(f.Against.Decision)))
	}
	want := []string{"tv > nas tcp/8096: allow films", "iot > servers tcp/79: deny policy"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("failures differ (-want +got):\n%s", diff)
	}
}

// A file must not be refused because the provider has given no address yet.
func TestForwardsMeanTheSameWithoutALease(t *testing.T) {
	cfg := home()
	e := env(noon)
	e.Uplink = netip.Prefix{}
	nas := cfg.Device("nas")
	answers := policy.New(cfg, e).Query(model.Endpoint{Kind: model.KindInternet},
		model.Endpoint{Kind: model.KindDevice, Zone: nas.Zone, Device: nas}, model.OnePort(model.ProtoUDP, 51820))
	for _, a := range answers {
		if !a.Decision.Allow {
			t.Errorf("%s to the NAS: %s", a.From.Name(), verdict(a.Decision))
		}
	}
	if len(answers) == 0 {
		t.Error("no answers")
	}
}

func TestDiffSaysWhatBecomesPossible(t *testing.T) {
	tests := []struct {
		name   string
		change func(*model.Config)
		want   []string
	}{
		{"nothing", func(*model.Config) {}, nil},
		{"a zone loses the internet", func(c *model.Config) { c.Allow[0].From = c.Allow[0].From[:1] }, []string{
			"iot → internet: any is no longer possible",
		}},
		{"a block falls", func(c *model.Config) { c.Block = c.Block[1:] }, []string{
			"tv → internet: any becomes possible",
		}},
		{"a rule gets another port", func(c *model.Config) { c.Allow[1].Services[0] = model.OnePort(6, 8920) }, []string{
			"tv → nas: tcp/8920 becomes possible",
			"tv → nas: tcp/8096 is no longer possible",
		}},
		{"a forward falls", func(c *model.Config) { c.Forwards = nil }, []string{
			"internet → nas: udp/51820 is no longer possible",
		}},
		{"renaming a rule", func(c *model.Config) { c.Allow[1].Name = "movies" }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := home()
			tt.change(cfg)
			var got []string
			for _, c := range policy.Diff(policy.New(home(), env(noon)), policy.New(cfg, env(noon))) {
				got = append(got, c.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("changes differ (-want +got):\n%s", diff)
			}
		})
	}
}
