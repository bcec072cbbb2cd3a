// Package facts holds what is learnt at run time and a configuration cannot know:
// the time, the network cards present, the uplink's lease. Facts are plain values;
// the package never looks for them.
package facts

import (
	"net/netip"
	"slices"
	"time"
)

// Facts is everything known when a configuration is compiled. The zero value
// knows nothing, and compiles to a box with no links and everything closed.
type Facts struct {
	Now      time.Time             `json:"now"`      // rules end by it
	Links    []Link                `json:"links"`    // network cards present
	Provided []Provided            `json:"provided"` // VLANs that come as links of their own
	Kernel   Kernel                `json:"kernel"`
	Uplink   *Lease                `json:"uplink,omitempty"`  // nil: none, or expired
	Devices  map[string]netip.Addr `json:"devices,omitempty"` // addresses of devices that the file gives none
	Isolated []Isolation           `json:"isolated,omitempty"`
}

// Isolation says that a machine is kept from everybody. It is no fact that was learnt but
// one that was decreed, and no part of the configuration: it outlives each.
type Isolation struct {
	MAC       string       `json:"mac,omitempty"`       // lower case, colons; "": not known
	Addresses []netip.Addr `json:"addresses,omitempty"` // that it is known to have, sorted
	Until     time.Time    `json:"until,omitzero"`      // first instant at which it is free; zero: until it is released
}

// Link is a network card that the kernel shows. Carrier says that it is up and a cable
// with somebody at the other end is in it.
type Link struct {
	Name    string `json:"name"`
	MAC     string `json:"mac"`            // lower case, colons
	Kind    string `json:"kind,omitempty"` // of its driver, such as veth; "" for most hardware
	Carrier bool   `json:"carrier,omitempty"`
}

// Provided says that the VLAN of a port is already separated outside the box and
// arrives untagged on a link of its own, as in a lab whose kernel lacks 802.1Q.
type Provided struct {
	Port string `json:"port"` // name in the configuration
	VLAN uint16 `json:"vlan"` // 0: the whole port
	Link string `json:"link"` // name in the kernel
}

// Kernel is what the running kernel can do.
type Kernel struct {
	VLAN      bool `json:"vlan"`                // CONFIG_VLAN_8021Q
	Flowtable bool `json:"flowtable,omitempty"` // CONFIG_NFT_FLOW_OFFLOAD, CONFIG_NF_FLOW_TABLE_INET
}

// Lease is what the uplink was given, by DHCP or by the configuration.
type Lease struct {
	Link      string       `json:"link"`
	Address   netip.Prefix `json:"address"` // host bits set: 203.0.113.7/24
	Gateway   netip.Addr   `json:"gateway"`
	Resolvers []netip.Addr `json:"resolvers,omitempty"`
	MTU       uint16       `json:"mtu,omitempty"` // 0: not told
	Server    netip.Addr   `json:"server"`        // DHCP server; zero for a static uplink
	Obtained  time.Time    `json:"obtained"`
	Expires   time.Time    `json:"expires"` // zero: never

	// Since is from when on there has been a carrier and this address without a break, as far
	// as wand has seen; zero: there is none now.
	Since time.Time `json:"since,omitzero"`
}

// LinkOf returns the provided link of a port's VLAN.
func (f Facts) LinkOf(port string, vlan uint16) (string, bool) {
	i := slices.IndexFunc(f.Provided, func(p Provided) bool { return p.Port == port && p.VLAN == vlan })
	if i < 0 {
		return "", false
	}
	return f.Provided[i].Link, true
}

// LinkWithMAC returns the name of the network card with the MAC.
func (f Facts) LinkWithMAC(mac string) (string, bool) {
	i := slices.IndexFunc(f.Links, func(l Link) bool { return l.MAC == mac })
	if i < 0 {
		return "", false
	}
	return f.Links[i].Name, true
}
