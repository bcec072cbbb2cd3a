package impact

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

// Interrupt is one thing that stops working by the change, for a while or for good.
// What loses a permission is not among it.
type Interrupt struct {
	Zone   string           `json:"zone,omitempty"` // "": the uplink
	Text   string           `json:"text"`
	Leases int              `json:"leases,omitempty"` // that end, as far as known
	AtMost svcconf.Duration `json:"atMost,omitzero"`  // until devices have renewed by themselves; 0: they need a hand, or it is for good
}

// Interrupts lists what the change interrupts, in the order of the old file.
func (c Change) Interrupts() []Interrupt {
	var list []Interrupt
	for _, z := range c.Old.Policy.Config.Zones {
		list = append(list, c.ofZone(z)...)
	}
	for _, d := range c.Old.Policy.Config.Devices {
		if text := c.ofDevice(d); text != "" {
			list = append(list, Interrupt{Zone: d.Zone.Name, Text: text})
		}
	}
	if text := c.ofUplink(); text != "" {
		list = append(list, Interrupt{Text: text})
	}
	return list
}

func (c Change) ofZone(old *model.Zone) []Interrupt {
	n := c.successor(old)
	switch {
	case n == nil:
		text := fmt.Sprintf("zone %s is removed: %sits devices are offline", old.Name, c.leasesEnd(old))
		return []Interrupt{{Zone: old.Name, Text: text, Leases: len(c.leasesIn(old))}}
	case c.Old.link(old) != "" && c.New.link(n) == "":
		return []Interrupt{{Zone: old.Name, Text: fmt.Sprintf("zone %s is cut off: %s", old.Name, c.New.lacks(n))}}
	}
	var list []Interrupt
	if text := moved("zone "+old.Name, old.Port, old.VLAN, n.Port, n.VLAN); text != "" {
		list = append(list, Interrupt{Zone: old.Name, Text: text + ": its devices are offline until their switch or their cables lead there"})
	}
	switch {
	case old.Subnet != n.Subnet:
		list = append(list, c.renumbered(old, n))
	case old.Gateway != n.Gateway:
		i := Interrupt{Zone: old.Name, AtMost: svcconf.Duration(c.untilRenewed(old))}
		i.Text = fmt.Sprintf("the box moves from %s to %s: %s devices reach nothing beyond their zone until %s",
			old.Gateway, n.Gateway, old.Name, back(old, n, i.AtMost))
		list = append(list, i)
	case old.DHCP.Enabled && !n.DHCP.Enabled:
		text := fmt.Sprintf("zone %s gives out no more addresses: %sits devices need addresses set by hand by then", old.Name, c.leasesEnd(old))
		list = append(list, Interrupt{Zone: old.Name, Text: text, Leases: len(c.leasesIn(old))})
	}
	return list
}

func (c Change) renumbered(old, n *model.Zone) Interrupt {
	i := Interrupt{Zone: old.Name, Leases: len(c.leasesIn(old)), AtMost: svcconf.Duration(c.untilRenewed(old))}
	i.Text = fmt.Sprintf("%s moves to %s: %s%s devices are offline until %s", old.Subnet, n.Subnet, c.leasesEnd(old), old.Name, back(old, n, i.AtMost))
	return i
}

// back says what brings devices of a zone back whose addresses have changed.
func back(old, n *model.Zone, atMost svcconf.Duration) string {
	switch {
	case !old.DHCP.Enabled || !n.DHCP.Enabled:
		return "they are given new addresses by hand"
	case atMost == 0: // nobody has a lease
		return "they ask for an address anew"
	}
	return "they renew, at most " + howLong(time.Duration(atMost))
}

func (c Change) leasesIn(z *model.Zone) []svcconf.Lease {
	return slices.DeleteFunc(slices.Clone(c.Leases), func(l svcconf.Lease) bool { return l.Zone != z.Name || !l.Expires.After(c.Now) })
}

// leasesEnd begins a sentence on a zone with how many leases end, if that is known.
func (c Change) leasesEnd(z *model.Zone) string {
	switch n := len(c.leasesIn(z)); {
	case !c.Live || !z.DHCP.Enabled:
		return ""
	case n == 0:
		return "no lease ends, "
	case n == 1:
		return "1 lease ends, "
	default:
		return fmt.Sprintf("%d leases end, ", n)
	}
}

// untilRenewed is how long it takes at most until all clients of a zone have noticed
// by themselves that they need another lease. A client asks whoever answers after 7/8
// of its lease, and is told at once; one that is past that keeps asking until the lease
// ends. RFC 2131 section 4.4.5. Where leases are not known, one may just have begun.
func (c Change) untilRenewed(z *model.Zone) time.Duration {
	rebind := func(length time.Duration) time.Duration { return length / 8 * 7 }
	if !z.DHCP.Enabled {
		return 0
	}
	if !c.Live {
		return rebind(z.DHCP.Lease)
	}
	var most time.Duration
	for _, l := range c.leasesIn(z) {
		d := l.Granted.Add(rebind(l.Expires.Sub(l.Granted))).Sub(c.Now)
		if d <= 0 {
			d = l.Expires.Sub(c.Now)
		}
		most = max(most, d)
	}
	return most
}

// moved says that something moves to another place, or "".
func moved(what string, oldPort *model.Port, oldVLAN uint16, port *model.Port, vlan uint16) string {
	switch {
	case wireOf(oldPort, oldVLAN) == wireOf(port, vlan):
		return ""
	case oldPort.Name == port.Name && oldVLAN == vlan:
		return fmt.Sprintf("%s moves to the network card %s, which is port %s now", what, port.MAC, port.Name)
	case oldPort.Name == port.Name && oldVLAN != 0 && vlan != 0:
		return fmt.Sprintf("%s moves from VLAN %d to VLAN %d of port %s", what, oldVLAN, vlan, port.Name)
	}
	return fmt.Sprintf("%s moves from %s to %s", what, place(oldPort, oldVLAN), place(port, vlan))
}

// ofDevice says what a device loses that is no longer where or what it was. That its
// whole zone moves, the zone's own line says.
func (c Change) ofDevice(old *model.Device) string {
	n := c.New.Policy.Config.Device(old.Name)
	if n == nil {
		return ""
	}
	from, to := c.Old.Policy.AddressOf(old), c.New.Policy.AddressOf(n)
	switch {
	case old.MAC != n.MAC:
		return fmt.Sprintf("%s is the machine %s now: the rules on it no longer hold for %s", old.Name, n.MAC, old.MAC)
	case old.Zone.Name != n.Zone.Name && c.successor(old.Zone) != n.Zone:
		return fmt.Sprintf("%s belongs to zone %s: it is offline until it is connected there", old.Name, n.Zone.Name)
	case from != to && from.IsValid() && to.IsValid() && n.Zone.Subnet.Contains(from):
		return fmt.Sprintf("%s is at %s instead of %s: the rules on it do not hold until it has that address", old.Name, to, from)
	}
	return ""
}

// ofUplink says what becomes of the uplink, or "".
func (c Change) ofUplink() string {
	old, n := c.Old.Policy.Config.Uplink, c.New.Policy.Config.Uplink
	switch {
	case old == nil:
		return ""
	case n == nil:
		return "the uplink is given up: nothing reaches the internet"
	}
	if text := moved("the uplink", old.Port, old.VLAN, n.Port, n.VLAN); text != "" {
		return text + ": the internet is out of reach until there is an address"
	}
	was, is := family(old.IPv4), family(n.IPv4)
	if was == is {
		return ""
	}
	return fmt.Sprintf("the uplink's address is %s instead of %s: the internet is out of reach until it is there", is, was)
}

// family says in words where the uplink's address comes from.
func family(f model.Family) string {
	switch f.Mode {
	case model.ModeDHCP:
		return "what DHCP gives"
	case model.ModeStatic:
		return strings.TrimSuffix(fmt.Sprintf("%s by %s", f.Address, addrOrNone(f.Gateway)), " by ")
	}
	return "none"
}

func addrOrNone(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
