package impact_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

// leases are three of the iot zone, of which one is past the time at which it should
// have been renewed, and one that is over.
func leases() []svcconf.Lease {
	lease := func(n byte, age, length time.Duration) svcconf.Lease {
		return svcconf.Lease{
			Zone: "iot", Address: netip.AddrFrom4([4]byte{192, 168, 40, n}), MAC: model.MAC{2, 0, 0, 0, 40, n},
			Granted: today.Add(-age), Expires: today.Add(length - age),
		}
	}
	return []svcconf.Lease{lease(128, time.Hour, 8*time.Hour), lease(129, 2*time.Hour, 8*time.Hour), lease(130, 8*time.Hour-time.Minute, 8*time.Hour), lease(131, 9*time.Hour, 8*time.Hour)}
}

// TestInterrupts is what people are told that a change interrupts, by a box that knows
// the leases, and by a workstation, which does not.
func TestInterrupts(t *testing.T) {
	var b strings.Builder
	for _, tt := range []struct {
		name  string
		edits []string
	}{
		{"nothing changes", nil},
		{"only rules change", []string{"tcp/8096", "tcp/8097"}},
		{"a zone is renumbered", []string{"192.168.40.0/24", "192.168.41.0/24", "192.168.40.20", "192.168.41.20"}},
		{"a zone without leases is renumbered", []string{"192.168.60.0/24", "192.168.61.0/24"}},
		{"a zone without DHCP is renumbered", []string{"192.168.30.0/24", "192.168.31.0/24", "192.168.30.10", "192.168.31.10"}},
		{"a zone moves to another VLAN", []string{"vlan: 30", "vlan: 31"}},
		{"a zone moves to another port", []string{"storage:    {port: trunk, vlan: 30", "storage:    {port: spare, vlan: 30"}},
		{"a zone moves to a VLAN of its port", []string{"{port: desk", "{port: desk, vlan: 60"}},
		{"a port is another network card", []string{"52:54:00:10:00:03", "52:54:00:10:00:77"}},
		{"two ports change places", []string{"52:54:00:10:00:03", "52:54:00:10:00:0f", "52:54:00:10:00:02", "52:54:00:10:00:03", "52:54:00:10:00:0f", "52:54:00:10:00:02"}},
		{"a zone is removed", []string{"  iot:        {port: trunk, vlan: 40, subnet: 192.168.40.0/24, dhcp: {lease: 12h}}\n", "", "zone: iot", "zone: office", "192.168.40.20", "192.168.60.20", "[management, iot]", "management"}},
		{"a zone gets another name", []string{"iot:     ", "things:  ", "zone: iot", "zone: things", ", iot]", ", things]"}},
		{"the box moves within a zone", []string{"192.168.40.0/24", "192.168.40.0/24, gateway: 192.168.40.254"}},
		{"a zone stops giving out addresses", []string{"dhcp: {lease: 12h}", "dhcp: false"}},
		{"a device gets another address", []string{"192.168.30.10", "192.168.30.11"}},
		{"a device is another machine", []string{"52:54:00:30:00:10", "52:54:00:30:00:11"}},
		{"a device moves to another zone", []string{"zone: storage", "zone: office", "192.168.30.10", "192.168.60.10"}},
		{"the uplink moves", []string{"{port: wan, ipv4", "{port: wan, vlan: 7, ipv4"}},
		{"the uplink is static", []string{"ipv4: dhcp", "ipv4: {address: 203.0.113.2/24, gateway: 203.0.113.1, resolvers: [203.0.113.53]}"}},
		{"the uplink is given up", []string{"internet: {port: wan, ipv4: dhcp, ipv6: none}\n", "", "  - {name: browsing, from: [management, iot], to: internet, protocols: any, why: outbound}\n", "", "block:\n  - {name: quiet, from: tv, to: internet, why: no telemetry}\n", ""}},
	} {
		fmt.Fprintf(&b, "# %s\n", tt.name)
		c := impact.Change{Old: side(t, home), New: side(t, edit(t, tt.edits...)), Now: today, Live: true, Leases: leases()}
		live := c.Interrupts()
		for _, i := range live {
			fmt.Fprintf(&b, "%s\n", i.Text)
		}
		c.Live, c.Leases = false, nil
		for n, i := range c.Interrupts() {
			if i.Text != live[n].Text {
				fmt.Fprintf(&b, "\twithout a box: %s\n", i.Text)
			}
		}
		b.WriteString("\n")
	}
	golden(t, "interrupts.txt", b.String())
}

func TestCutNamesAFewConnectionsOfEveryRule(t *testing.T) {
	old := side(t, home)
	mark := func(name string) uint32 {
		for _, r := range old.Policy.Rules {
			if r.Name == name {
				return r.Mark()
			}
		}
		t.Fatalf("no rule %s", name)
		return 0
	}
	addr := netip.MustParseAddr
	var ends []impact.Conn
	for n := range byte(9) {
		ends = append(ends, impact.Conn{Src: laptop, Dst: netip.AddrFrom4([4]byte{9, 9, 9, n}), Proto: model.ProtoTCP, Port: 443, Mark: mark("browsing")})
	}
	film := impact.Conn{Src: addr("192.168.40.20"), Dst: addr("192.168.30.10"), Proto: model.ProtoTCP, Port: 8096, Mark: mark("films")}
	ends = append(ends, film, film, // the second says nothing new
		impact.Conn{Src: addr("192.168.40.130"), Dst: addr("192.168.40.1"), Proto: model.ProtoICMP, Port: model.EchoRequest, Mark: mark("box:ping")},
		impact.Conn{Src: addr("192.168.10.150"), Dst: addr("192.168.30.77"), Proto: 50})
	c := impact.Change{Old: old, New: old, Live: true, Ends: ends}
	var b strings.Builder
	cut := c.Cut()
	fmt.Fprintf(&b, "%d\n", cut.Count)
	for _, r := range cut.Rules {
		fmt.Fprintf(&b, "%s: %d: %s\n", r.Rule, r.Count, strings.Join(r.Examples, "; "))
	}
	want := `13
browsing: 9: laptop → 9.9.9.0: tcp/443; laptop → 9.9.9.1: tcp/443
films: 2: tv → nas: tcp/8096
: 1: 192.168.10.150 (management) → 192.168.30.77 (storage): esp
box:ping: 1: 192.168.40.130 (iot) → box: icmp/8
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if c.Live = false; c.Cut() != nil {
		t.Error("connections are counted that nobody knows")
	}
}
