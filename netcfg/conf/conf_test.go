package conf_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/model"
)

func parseFile(t testing.TB, file string) *model.Config {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cfg, list := conf.Parse(filepath.Base(file), data, now)
	for _, p := range list {
		t.Error(p)
	}
	if cfg == nil {
		t.FailNow()
	}
	return cfg
}

// TestGood parses the examples and the files in testdata/good. None may have as much
// as a warning, and what is made of them is in testdata/good/*.json, in full.
func TestGood(t *testing.T) {
	for _, file := range examples(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			got, err := json.MarshalIndent(flat(parseFile(t, file)), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden := "testdata/good/" + name + ".json"
			if *update {
				if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
				t.Errorf("%s differs (-want +got):\n%s", golden, diff)
			}
		})
	}
}

// flat is a configuration as a reader wants to see it: names in place of pointers.
func flat(c *model.Config) any {
	type m = map[string]any
	list := func(n int, f func(int) any) []any {
		out := make([]any, n)
		for i := range out {
			out[i] = f(i)
		}
		return out
	}
	ends := func(es []model.Endpoint) string {
		var s []string
		for _, e := range es {
			s = append(s, fmt.Sprintf("%d:%s@%s", e.Kind, e.Name(), e.Party()))
		}
		return strings.Join(s, " ")
	}
	services := func(ss []model.Service) string {
		var s []string
		for _, v := range ss {
			s = append(s, v.String())
		}
		return strings.Join(s, " ")
	}
	rule := func(r *model.Rule) any {
		return m{
			"name": r.Name, "from": ends(r.From), "fromNames": r.FromNames, "to": ends(r.To), "toNames": r.ToNames,
			"services": services(r.Services), "protocols": r.Protocols, "why": r.Why, "owner": r.Owner, "until": r.Until, "pos": r.Pos.String(),
		}
	}
	out := m{
		"system": m{"name": c.System.Name, "domain": c.System.Domain, "timezone": c.System.Timezone, "location": c.System.Location.String(), "updates": m{"gokrazy": c.System.Updates.Gokrazy}, "clientCertificates": c.System.ClientCertificates, "push": push(c.System.Push)},
		"ports":  c.Ports,
		"flows":  m{"keep": c.Flows.Keep.String(), "size": c.Flows.Size},
		"export": list(len(c.Exports), func(i int) any {
			e := *c.Exports[i]
			return m{
				"name": e.Name, "format": e.Format, "to": peer(&e.To), "flows": e.Flows, "refusals": e.Refusals, "events": e.Events,
				"token": e.Token, "pos": e.Pos.String(),
			}
		}),
		"alerts": list(len(c.Alerts), func(i int) any {
			a := *c.Alerts[i]
			return m{
				"name": a.Name, "by": a.By, "to": peer(&a.To), "path": a.Path, "token": a.Token, "events": a.Events, "user": a.User, "password": a.Password,
				"from": a.From, "recipients": a.Recipients, "again": a.Again.String(), "limit": a.Limit, "quiet": []int{a.QuietFrom, a.QuietTo}, "pos": a.Pos.String(),
			}
		}),
		"zones": list(len(c.Zones), func(i int) any {
			z := *c.Zones[i]
			return m{
				"name": z.Name, "port": z.Port.Name, "vlan": z.VLAN, "subnet": z.Subnet, "gateway": z.Gateway, "admin": z.Admin, "ping": z.Ping,
				"ipv6": z.IPv6, "dns": z.DNS, "flows": z.Flows, "observed": z.Observed, "pos": z.Pos.String(),
				"dhcp": m{"enabled": z.DHCP.Enabled, "first": z.DHCP.Pool.First, "last": z.DHCP.Pool.Last, "lease": z.DHCP.Lease.String(), "ntp": z.DHCP.NTP},
			}
		}),
		"devices": list(len(c.Devices), func(i int) any {
			d := *c.Devices[i]
			return m{
				"name": d.Name, "zone": d.Zone.Name, "mac": d.MAC, "address": d.Address, "owner": d.Owner, "purpose": d.Purpose, "note": d.Note,
				"critical": d.Critical, "pos": d.Pos.String(),
			}
		}),
		"groups": list(len(c.Groups), func(i int) any {
			return m{"name": c.Groups[i].Name, "members": ends(c.Groups[i].Members), "pos": c.Groups[i].Pos.String()}
		}),
		"protocols": list(len(c.Protocols), func(i int) any {
			return m{"name": c.Protocols[i].Name, "services": services(c.Protocols[i].Services)}
		}),
		"allow": list(len(c.Allow), func(i int) any { return rule(c.Allow[i]) }),
		"block": list(len(c.Block), func(i int) any { return rule(c.Block[i]) }),
		"forwards": list(len(c.Forwards), func(i int) any {
			f := c.Forwards[i]
			return m{
				"name": f.Name, "to": f.To.Name, "services": services(f.Services), "protocols": f.Protocols, "owner": f.Owner, "why": f.Why,
				"until": f.Until, "pos": f.Pos.String(),
			}
		}),
		"tests": list(len(c.Tests), func(i int) any {
			v := c.Tests[i]
			return m{
				"from": ends(v.From), "to": ends(v.To), "services": services(v.Services), "protocols": v.Protocols, "allow": v.Allow, "pos": v.Pos.String(),
			}
		}),
	}
	if len(c.Resolvers) > 0 {
		out["resolvers"] = list(len(c.Resolvers), func(i int) any {
			r := c.Resolvers[i]
			return fmt.Sprintf("%s tls=%v name=%s secret=%s", r.Addr, r.TLS, r.Name, r.Secret)
		})
	}
	if u := c.Uplink; u != nil {
		out["uplink"] = m{"port": u.Port.Name, "vlan": u.VLAN, "ipv4": u.IPv4, "ipv6": u.IPv6, "pos": u.Pos.String()}
	}
	return out
}

func TestNormativeExample(t *testing.T) {
	cfg := parseFile(t, "testdata/good/normative.yaml")
	iot, tv := cfg.Zone("iot"), cfg.Device("tv")
	if iot == nil || tv == nil || tv.Zone != iot || iot.Port != cfg.Ports[1] {
		t.Fatal("zone, device and port do not point at each other")
	}
	if got, want := cfg.Zone("guest").Gateway, netip.MustParseAddr("192.168.50.1"); got != want {
		t.Errorf("gateway %s, want %s", got, want)
	}
	pool := cfg.Zone("guest").DHCP.Pool
	if got, want := fmt.Sprintf("%s-%s", pool.First, pool.Last), "192.168.50.128-192.168.50.254"; got != want {
		t.Errorf("default pool %s, want %s", got, want)
	}
	films := cfg.Allow[3]
	if films.Name != "tv-films" || films.From[0].Device != tv || films.FromNames[0] != "players" {
		t.Errorf("tv-films is %+v", films)
	}
	// The end of 30 June in Berlin, which has daylight saving time then.
	if want := time.Date(2027, 6, 30, 22, 0, 0, 0, time.UTC); !films.Until.Equal(want) {
		t.Errorf("tv-films ends %v, want %v", films.Until, want)
	}
	if r := cfg.Resolvers[0]; !r.TLS || r.Addr != netip.MustParseAddrPort("9.9.9.9:853") || r.Name != "dns.quad9.net" {
		t.Errorf("resolver is %+v", r)
	}
	if b := cfg.Block[0]; !b.Services[0].Any {
		t.Errorf("a block without protocols blocks %v", b.Services)
	}
}

// Whatever the YAML library counts, a problem must point at its place.
func TestPositionsAreExact(t *testing.T) {
	var all [][]byte
	for _, file := range examples(t) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data)
	}
	for _, file := range badCases(t) {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, section(ar, "config.yaml").Data)
	}
	all = append(all, []byte("allow: # größer\n  - {why: 'ärger', name: x}   # ½\n  - why: \"ö\\n\"\n    name: 'it''s'\r\n"))
	checked := 0
	for _, data := range all {
		lines := strings.Split(string(data), "\n")
		for _, s := range conf.Scalars(data) {
			checked++
			want := s.Text
			if s.Quoted {
				want = "" // the quote and escapes are not in the text
			}
			line := []rune(lines[s.Line-1])
			if s.Col < 1 || s.Col > len(line) || !strings.HasPrefix(string(line[s.Col-1:]), want) || s.Quoted && !strings.ContainsRune(`"'`, line[s.Col-1]) {
				t.Errorf("%q is not at %d:%d of\n%s", s.Text, s.Line, s.Col, data)
			}
		}
	}
	if checked < 1000 {
		t.Errorf("only %d scalars checked", checked)
	}
}

const twoZones = `ports: {lan: {mac: "52:54:00:00:00:01"}, wan: {mac: "52:54:00:00:00:02"}}
internet: {port: wan}
zones:
  home: {port: lan, vlan: 1, subnet: 10.0.0.0/24, admin: true}
  iot: {port: lan, vlan: 2, subnet: 10.0.1.0/24}
`

func TestExpiryIsTheEndOfTheDayInTheTimeZone(t *testing.T) {
	for _, tt := range []struct{ zone, day, want, why string }{
		{"UTC", "2027-01-31", "2027-02-01T00:00:00Z", "no daylight saving time"},
		{"Europe/Berlin", "2027-01-31", "2027-01-31T23:00:00Z", "winter"},
		{"Europe/Berlin", "2027-06-30", "2027-06-30T22:00:00Z", "summer"},
		{"Europe/Berlin", "2027-03-27", "2027-03-27T23:00:00Z", "the day before clocks change"},
		{"Europe/Berlin", "2027-03-28", "2027-03-28T22:00:00Z", "the day on which they change: 23 hours long"},
		{"Europe/Berlin", "2027-12-31", "2027-12-31T23:00:00Z", "the year ends, too"},
		{"Asia/Kolkata", "2027-02-28", "2027-02-28T18:30:00Z", "half an hour"},
		{"Africa/Cairo", "2024-04-25", "2024-04-25T22:00:00Z", "midnight is skipped: the next day begins at 01:00"},
		{"America/Sao_Paulo", "2018-11-03", "2018-11-04T03:00:00Z", "the same, west of Greenwich"},
		{"America/Havana", "2024-11-02", "2024-11-03T04:00:00Z", "midnight comes twice: the first ends the day"},
		{"Pacific/Apia", "2011-12-29", "2011-12-30T10:00:00Z", "the next day does not exist"},
	} {
		data := fmt.Sprintf("system: {timezone: %s}\n%sallow:\n  - {name: a, from: iot, to: home, protocols: ssh, why: x, expires: %s}\n", tt.zone, twoZones, tt.day)
		cfg, list := conf.Parse("expiry.yaml", []byte(data), time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
		if cfg == nil {
			t.Fatal(list.Err())
		}
		if got := cfg.Allow[0].Until.UTC().Format(time.RFC3339); got != tt.want {
			t.Errorf("%s in %s (%s): until %s, want %s", tt.day, tt.zone, tt.why, got, tt.want)
		}
	}
}

func TestRuleExpiresToTheSecond(t *testing.T) {
	data := []byte("system: {timezone: Europe/Berlin}\n" + twoZones + "allow:\n  - {name: a, from: iot, to: home, protocols: ssh, why: x, expires: 2027-01-31}\n")
	end := time.Date(2027, 1, 31, 23, 0, 0, 0, time.UTC)
	for at, want := range map[time.Time]int{end.Add(-time.Second): 0, end: 1} {
		cfg, list := conf.Parse("expiry.yaml", data, at)
		if cfg == nil || len(cfg.Allow) != 1 {
			t.Fatalf("at %v: an expired rule leaves the model", at)
		}
		if len(list.Warnings()) != want {
			t.Errorf("at %v: %d warnings, want %d", at, len(list.Warnings()), want)
		}
	}
}

func TestFileOfTenMegabytesIsRefusedUnread(t *testing.T) {
	// Were it read, every line would be a problem.
	data := []byte(strings.Repeat("- & * ! ? | > %\n", 10<<20/16))
	cfg, list := conf.Parse("big.yaml", data, now)
	if cfg != nil {
		t.Fatal("accepted")
	}
	want := "big.yaml:1:1: file is larger than 1 MiB, the limit\n\thint: check that this is the right file; prefixes and groups make a long list of rules short\n"
	if diff := cmp.Diff(want, printed(list)); diff != "" {
		t.Errorf("problems differ (-want +got):\n%s", diff)
	}
}

func TestWindowsLineEndsAndMarksDoNoHarm(t *testing.T) {
	unix := []byte(twoZones + "# a comment\n")
	windows := []byte("\xef\xbb\xbf" + strings.ReplaceAll(string(unix), "\n", "\r\n"))
	want, _ := conf.Parse("a.yaml", unix, now)
	got, list := conf.Parse("a.yaml", windows, now)
	if got == nil {
		t.Fatal(list.Err())
	}
	if diff := cmp.Diff(flat(want), flat(got), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("configurations differ (-unix +windows):\n%s", diff)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(twoZones + "allow:\n")
	for i := range 20000 {
		fmt.Fprintf(&b, "  - {name: a, from: z%d, to: x}\n", i)
	}
	cfg, list := conf.Parse("many.yaml", []byte(b.String()), now)
	if cfg != nil {
		t.Fatal("accepted")
	}
	if n := len(list); n > 1001 {
		t.Errorf("%d problems", n)
	}
	if last := list[len(list)-1]; !strings.Contains(last.Msg, "more problems are not shown") {
		t.Errorf("nothing says that problems are missing: %v", last)
	}
}

// Groups of groups grow fast: 30 of them, each holding the one before twice over in
// other words, would be a billion members.
func TestGroupBombStaysSmall(t *testing.T) {
	var b strings.Builder
	b.WriteString(twoZones + "groups:\n  g0: [")
	for i := range 1000 {
		fmt.Fprintf(&b, "10.%d.%d.0/24, \n    ", 100+i/200, i%200)
	}
	b.WriteString("]\n")
	for i := 1; i <= 1000; i++ {
		fmt.Fprintf(&b, "  g%d: [g%d, 172.16.%d.%d]\n", i, i-1, i/200, i%200)
	}
	if cfg, _ := conf.Parse("bomb.yaml", []byte(b.String()), now); cfg != nil {
		t.Error("accepted")
	}
}

func TestEndpointsOfTheCommandLine(t *testing.T) {
	cfg := parseFile(t, "../../configs/zero-trust.yaml")
	for word, want := range map[string]string{
		"iot": "1 iot iot", "nas": "2 nas storage", "players": "2 tv iot", "internet": "4 internet internet", "box": "5 box box",
		"192.168.30.10": "2 nas storage", "192.168.30.1": "5 box box", "192.168.30.77": "3 192.168.30.77 storage",
		"192.168.30.64/26": "3 192.168.30.64/26 storage", "9.9.9.9": "3 9.9.9.9 internet", "192.168.30.0/24": "3 192.168.30.0/24 storage",
	} {
		got, err := conf.Endpoints(cfg, word)
		if err != nil || len(got) != 1 {
			t.Errorf("%s: %v, %v", word, got, err)
			continue
		}
		if s := fmt.Sprintf("%d %s %s", got[0].Kind, got[0].Name(), got[0].Party()); s != want {
			t.Errorf("%s is %s, want %s", word, s, want)
		}
	}
	for word, want := range map[string]string{
		"nass":           `no zone, device or group is called "nass": did you mean "nas"?`,
		"elephant":       `no zone, device or group is called "elephant": the names are internet, box, management, services, storage, iot, guest, nas, nextcloud, tv and players`,
		"192.168.0.0/16": `192.168.0.0/16 is larger than zone "management" (192.168.10.0/24): name the zone management, or choose a prefix that lies in one zone or in none`,
		"2001:db8::1":    `2001:db8::1 is an IPv6 address: rules hold for both families, and the prefixes come from the uplink: name the zone or device`,
		"":               `no zone, device or group is called "": the names are internet, box, management, services, storage, iot, guest, nas, nextcloud, tv and players`,
	} {
		if _, err := conf.Endpoints(cfg, word); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", word, err, want)
		}
	}
}

func TestServicesOfTheCommandLine(t *testing.T) {
	cfg := parseFile(t, "../../configs/zero-trust.yaml")
	for word, want := range map[string]string{
		"ssh": "[tcp/22]", "jellyfin": "[tcp/8096 udp/7359]", "tcp/443": "[tcp/443]", "any": "[any]", "icmp/8": "[icmp/8]", "gre": "[gre]", "tcp": "[tcp]",
	} {
		if got, err := conf.Services(cfg, word); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s is %v (%v), want %s", word, got, err, want)
		}
	}
	for word, want := range map[string]string{
		"jelyfin": `no protocol is called "jelyfin": did you mean "jellyfin"?`,
		"443":     `"443" lacks the protocol: write tcp/443 or udp/443`,
		"xyzzy":   `no protocol is called "xyzzy": write ports such as tcp/443`,
	} {
		if _, err := conf.Services(cfg, word); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", word, err, want)
		}
	}
}

// A slip of the keyboard is one mistake, so it should be one problem, or two where
// nobody can tell what was meant. The few slips that take a file apart may be more.
func TestOneSlipIsOneProblem(t *testing.T) {
	data, err := os.ReadFile("testdata/good/normative.yaml")
	if err != nil {
		t.Fatal(err)
	}
	slips, told := 0, 0
	for i := 0; i < len(data); i += 19 {
		for _, c := range []byte(":[\" x\n") {
			slip := slices.Clone(data)
			slip[i] = c
			_, list := conf.Parse("slip.yaml", slip, now)
			if len(list) > 0 {
				slips, told = slips+1, told+len(list)
			}
			if len(list) > 8 {
				t.Errorf("byte %d replaced by %q makes %d problems:\n%s", i, c, len(list), printed(list))
			}
		}
	}
	if mean := float64(told) / float64(slips); mean > 1.2 {
		t.Errorf("%d slips made %d problems: %.2f for each", slips, told, mean)
	} else {
		t.Logf("%d slips made %d problems: %.2f for each", slips, told, mean)
	}
}

// push is where the history goes, as the golden files show it.
func push(p *model.Push) any {
	if p == nil {
		return nil
	}
	host := p.Address.String()
	if p.Device != nil {
		host = p.Device.Name
	}
	return map[string]any{
		"user": p.User, "host": host, "port": p.Port, "path": p.Path, "knownHost": p.KnownHost, "key": p.Key, "pos": p.Pos.String(),
	}
}

// peer is a host that something is sent to, as the golden files show it.
func peer(p *model.Peer) any {
	host := p.Address.String()
	if p.Device != nil {
		host = p.Device.Name
	}
	return map[string]any{"scheme": p.Scheme, "host": host, "port": p.Port, "name": p.Name, "path": p.Path, "ca": p.CA}
}
