package impact_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"bulkhead/netcfg/impact"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/svcconf"
)

var (
	atBox   = netip.Addr{}
	visitor = netip.MustParseAddr("192.168.10.150") // no device of the inventory
)

// paths are changes, and from where they are asked for.
var paths = []struct {
	name   string
	author netip.Addr
	edits  []string
}{
	{"nothing changes", laptop, nil},
	{"nothing changes, at the box itself", atBox, nil},
	{"another zone is renumbered", laptop, []string{"192.168.40.0/24", "192.168.41.0/24", "192.168.40.20", "192.168.41.20"}},
	{"the zone loses admin", laptop, []string{"192.168.10.0/24, admin: true", "192.168.10.0/24"}},
	{"the zone loses admin, at the box itself", atBox, []string{"192.168.10.0/24, admin: true", "192.168.10.0/24"}},
	{"the zone is removed", visitor, []string{
		"  management: {port: trunk, vlan: 10, subnet: 192.168.10.0/24, admin: true}\n", "", "zone: management", "zone: iot", "[management, iot]", "iot"}},
	{"the zone is renumbered", laptop, []string{"192.168.10.0/24", "192.168.11.0/24"}},
	{"the zone is renumbered and has no DHCP", visitor, []string{"subnet: 192.168.10.0/24", "subnet: 192.168.11.0/24, dhcp: false", `purpose: work`, `purpose: work, address: 192.168.11.20`}},
	{"the box has another address in the zone", laptop, []string{"subnet: 192.168.10.0/24", "subnet: 192.168.10.0/24, gateway: 192.168.10.254"}},
	{"the zone moves to another VLAN", laptop, []string{"vlan: 10,", "vlan: 11,"}},
	{"the zone moves to another VLAN and subnet", laptop, []string{"vlan: 10,", "vlan: 11,", "192.168.10.0/24", "192.168.11.0/24"}},
	{"the zone moves to another port", laptop, []string{"  management: {port: trunk, vlan: 10", "  management: {port: spare, vlan: 10"}},
	{"two zones change places", laptop, []string{"vlan: 10", "vlan: 44", "vlan: 40", "vlan: 10", "vlan: 44", "vlan: 40"}},
	{"the zone gets another name", laptop, []string{"management", "mgmt", "zone: management", "zone: mgmt", "[management", "[mgmt"}},
	{"the device is blocked by name", laptop, []string{"block:\n", "block:\n  - {name: no-laptop, from: laptop, to: box, why: lost}\n"}},
	{"another device is blocked by name", visitor, []string{"block:\n", "block:\n  - {name: no-laptop, from: laptop, to: box, why: lost}\n"}},
	{"the address is blocked", visitor, []string{"block:\n", "block:\n  - {name: no-visitor, from: 192.168.10.150, to: box, why: gone}\n"}},
	{"the whole zone is blocked, which leaves the pages open", visitor, []string{"block:\n", "block:\n  - {name: nobody, from: management, to: box, why: strict}\n"}},
	{"the address becomes another device's", visitor, []string{"  tv: ", "  new: {zone: management, mac: \"52:54:00:10:00:99\", address: 192.168.10.150, owner: kim, purpose: new}\n  tv: "}},
	{"the port is a network card that is not there", laptop, []string{"52:54:00:10:00:02", "52:54:00:10:00:77"}},
	{"the port is a network card that is not there, at the box itself", atBox, []string{"52:54:00:10:00:02", "52:54:00:10:00:77"}},
	{"the author's address is in no zone", netip.MustParseAddr("10.9.9.9"), nil},
}

// TestPath is what authors are told about their way to the box, for the same changes
// with another admin zone to go to, and without, because its network card is not there.
func TestPath(t *testing.T) {
	var b strings.Builder
	for _, tt := range paths {
		fmt.Fprintf(&b, "# %s\n", tt.name)
		for _, absent := range []string{"eth2", ""} {
			change := impact.Change{
				Old: side(t, home, absent), New: side(t, edit(t, tt.edits...), absent), Now: today, Author: tt.author, Live: true,
				Leases: []svcconf.Lease{{Zone: "management", Address: visitor, MAC: model.MAC{2, 0, 0, 0, 0, 1}}},
			}
			with := "with office"
			if absent != "" {
				with = "alone"
			}
			p, lockout := change.Path()
			fmt.Fprintf(&b, "%s: %s\n", with, p.Text)
			if lockout != "" {
				fmt.Fprintf(&b, "\tREFUSED: %s\n", lockout)
			}
			if p.Moves {
				fmt.Fprintf(&b, "\tmoves\n")
			}
		}
		b.WriteString("\n")
	}
	golden(t, "path.txt", b.String())
}

// TestNoWayBefore is a box that no admin zone reached before either: its owner, who
// sits in front of it, must be able to mend the rest.
func TestNoWayBefore(t *testing.T) {
	change := impact.Change{Old: side(t, home, "eth1", "eth2"), New: side(t, edit(t, "vlan: 30", "vlan: 31"), "eth1", "eth2"), Now: today}
	if p, lockout := change.Path(); lockout != "" || !strings.Contains(p.Text, "as before") {
		t.Errorf("got %q, %q", p.Text, lockout)
	}
	first := impact.Change{Old: nothing(), New: change.New, Now: today}
	if p, lockout := first.Path(); lockout == "" {
		t.Errorf("a first configuration that nobody can manage is taken: %q", p.Text)
	}
}

// nothing is a box without a configuration.
func nothing() impact.Side {
	return impact.Side{Policy: policy.New(&model.Config{}, policy.Env{Now: today})}
}
