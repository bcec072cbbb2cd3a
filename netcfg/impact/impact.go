// Package impact says what a change of the configuration does to those who use the
// network while it happens: which zones move, whose leases end and for how long that
// may be felt, which open connections are cut, and whether the author of the change
// still gets to the box afterwards.
//
// It is pure. What becomes possible and what no longer is, is policy's to say; the
// steps to get there are plan's. Package impact never decides whether a change is made:
// it hands a reason to whoever does.
package impact

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/reach"
	"bulkhead/netcfg/state"
	"bulkhead/netcfg/svcconf"
)

// Side is one of the two configurations, compiled.
type Side struct {
	Policy  *policy.Policy
	State   state.State // with its ruleset's table
	Missing []string    // what it asks for and the box lacks, a sentence each
}

// Change is a change from one configuration to another, and what is known about the
// network meanwhile.
type Change struct {
	Old, New Side
	Now      time.Time
	Author   netip.Addr // from where the change is asked for; zero: from the box itself

	// Live says that a running box was asked. Without it nothing is known of leases
	// and connections.
	Live   bool
	Leases []svcconf.Lease // in force
	Ends   []Conn          // open connections that the new configuration does not allow
}

// link returns the link that a zone has in the kernel, or "".
func (s Side) link(z *model.Zone) string {
	i := slices.IndexFunc(s.State.Addrs, func(a state.Addr) bool { return a.Prefix.Addr() == z.Gateway })
	if i < 0 {
		return ""
	}
	return s.State.Addrs[i].Link
}

// lacks says why a zone has no link.
func (s Side) lacks(z *model.Zone) string {
	for _, m := range s.Missing {
		if why, ok := strings.CutPrefix(m, z.Name+": "); ok {
			return why
		}
	}
	return "there is no link for it"
}

// device returns the device that has an address, or nil.
func (s Side) device(a netip.Addr) *model.Device {
	i := slices.IndexFunc(s.Policy.Config.Devices, func(d *model.Device) bool { return s.Policy.AddressOf(d) == a })
	if i < 0 {
		return nil
	}
	return s.Policy.Config.Devices[i]
}

// machine is a computer at some place of the network.
type machine struct {
	link string
	mac  model.MAC // zero: not known
	addr netip.Addr
}

// management is the first packet that a machine sends to the management pages.
func management(m machine, box netip.Addr) reach.Packet {
	return reach.Packet{In: m.link, MAC: m.mac, Src: m.addr, Dst: box, Proto: model.ProtoTCP, SrcPort: 49152, Port: managementPort}
}

// managementPort is where webuid serves HTTPS.
const managementPort = 443

// wire is where a zone's cable is: a port and a VLAN of it.
type wire struct {
	mac  model.MAC
	vlan uint16
}

func wireOf(p *model.Port, vlan uint16) wire { return wire{p.MAC, vlan} }

// place says in words where that is.
func place(p *model.Port, vlan uint16) string {
	if vlan == 0 {
		return "port " + p.Name
	}
	return fmt.Sprintf("VLAN %d of port %s", vlan, p.Name)
}

// onWire returns the zone of a configuration that is on a wire, or nil.
func onWire(cfg *model.Config, w wire) *model.Zone {
	i := slices.IndexFunc(cfg.Zones, func(z *model.Zone) bool { return wireOf(z.Port, z.VLAN) == w })
	if i < 0 {
		return nil
	}
	return cfg.Zones[i]
}

// successor returns what becomes of a zone of the old configuration: the zone of its
// name, or a new name for what is on its wire; nil if it is removed.
func (c Change) successor(z *model.Zone) *model.Zone {
	if n := c.New.Policy.Config.Zone(z.Name); n != nil {
		return n
	}
	n := onWire(c.New.Policy.Config, wireOf(z.Port, z.VLAN))
	if n == nil || c.Old.Policy.Config.Zone(n.Name) != nil {
		return nil
	}
	return n
}

// howLong writes a duration for people, rounded up: 10 h 30 min.
func howLong(d time.Duration) string {
	minutes := int((d + time.Minute - 1) / time.Minute)
	days, hours := minutes/(24*60), minutes/60%24
	switch {
	case days >= 2 && hours > 0:
		return fmt.Sprintf("%d d %d h", days, hours)
	case days >= 2:
		return fmt.Sprintf("%d d", days)
	case minutes < 60:
		return fmt.Sprintf("%d min", minutes)
	case minutes%60 == 0:
		return fmt.Sprintf("%d h", minutes/60)
	}
	return fmt.Sprintf("%d h %d min", minutes/60, minutes%60)
}
