package compile

import (
	"net/netip"
	"time"

	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
)

// Pin gives every device without an address one out of its zone's pool, for good:
// those in known keep theirs as long as it fits, and the rest take the first free
// one that taken (such as "a lease in force") does not speak against. A device for
// which the pool has no room is left out.
func Pin(cfg *model.Config, known map[string]netip.Addr, taken func(netip.Addr) bool) map[string]netip.Addr {
	used := map[netip.Addr]bool{}
	for _, d := range cfg.Devices {
		used[d.Address] = true
	}
	pins := map[string]netip.Addr{}
	each := func(f func(*model.Device)) {
		for _, d := range cfg.Devices {
			if !d.Address.IsValid() && d.Zone.DHCP.Enabled {
				f(d)
			}
		}
	}
	each(func(d *model.Device) {
		if a, ok := known[d.Name]; ok && d.Zone.DHCP.Pool.Contains(a) && !used[a] {
			pins[d.Name], used[a] = a, true
		}
	})
	each(func(d *model.Device) {
		if pins[d.Name].IsValid() {
			return
		}
		for a := d.Zone.DHCP.Pool.First; d.Zone.DHCP.Pool.Contains(a); a = a.Next() {
			if last := a.As4()[3]; last == 0 || last == 255 {
				continue // legal within a /23, and refused by some devices all the same
			}
			if !used[a] && a != d.Zone.Gateway && !taken(a) {
				pins[d.Name], used[a] = a, true
				return
			}
		}
	})
	return pins
}

// Offline returns facts of a box on which everything the configuration asks for is
// there, for looking at a file on a workstation: every port, a kernel with 802.1Q,
// and an address for every device. The uplink has no lease unless it is static.
func Offline(cfg *model.Config, now time.Time) facts.Facts {
	f := facts.Facts{
		Now: now, Kernel: facts.Kernel{VLAN: true},
		Devices: Pin(cfg, nil, func(netip.Addr) bool { return false }),
	}
	for _, p := range cfg.Ports {
		f.Links = append(f.Links, facts.Link{Name: linkName(p.Name), MAC: p.MAC.String()})
	}
	return f
}

func linkName(port string) string { return port[:min(len(port), maxLinkName)] }
