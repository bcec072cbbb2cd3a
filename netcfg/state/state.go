// Package state describes the network state of a kernel: one type for what is
// desired and what is observed, so that the two can be compared. It never changes
// a kernel.
package state

import (
	"net/netip"

	"bulkhead/netcfg/nft"
)

// State is the part of a kernel's network state that Bulkhead answers for. All
// slices are sorted by their first fields and hold no duplicates.
//
// Observed states hold what carries Bulkhead's mark ([Link.Alias], route protocol
// [RouteProtocol], table [TableName]) and, unmarked, the network cards there are.
type State struct {
	Links   []Link   `json:"links"`
	Addrs   []Addr   `json:"addrs"`
	Routes  []Route  `json:"routes"`
	Sysctls []Sysctl `json:"sysctls"`
	Ruleset Ruleset  `json:"ruleset"`
}

// The marks by which Bulkhead knows its own.
const (
	AliasPrefix   = "bulkhead:" // of a link's alias; the rest says what the link is for
	RouteProtocol = 0xB4        // not in /etc/iproute2/rt_protos; below 0xC0, where routing daemons live
	TableName     = "bulkhead"  // of nftables family inet
)

// LinkKind says where a link comes from.
type LinkKind uint8

// The kinds of links.
const (
	Physical LinkKind = iota // a network card, or anything else that Bulkhead found and did not make
	VLAN                     // an 802.1Q link made by Bulkhead
)

// Link is a network interface. Links with an alias of ours are managed: their
// addresses are ours, all of them. Others are only there.
type Link struct {
	Name   string   `json:"name"`
	Kind   LinkKind `json:"kind"`
	Parent string   `json:"parent,omitempty"` // of a VLAN
	VLAN   uint16   `json:"vlan,omitempty"`   // of a VLAN
	Up     bool     `json:"up"`
	Alias  string   `json:"alias,omitempty"` // "bulkhead:zone iot", "bulkhead:port trunk", "bulkhead:uplink"
	MTU    int      `json:"mtu,omitempty"`   // desired: 0 leaves it alone
}

// Addr is an address of the box on a managed link.
type Addr struct {
	Link   string       `json:"link"`
	Prefix netip.Prefix `json:"prefix"` // host bits set
}

// Route is a unicast route of the main table with our protocol number. Connected
// routes come from addresses and do not appear.
type Route struct {
	Dst     netip.Prefix `json:"dst"`
	Gateway netip.Addr   `json:"gateway"` // zero: on the link
	Link    string       `json:"link"`
}

// Sysctl is one kernel setting. Observed states hold the same keys as desired ones.
type Sysctl struct {
	Key   string `json:"key"` // path below /proc/sys: net/ipv4/ip_forward
	Value string `json:"value"`
}

// Ruleset is the table of the packet filter. An observed table that is not exactly
// as Bulkhead loaded it has Foreign set: somebody else wrote to it.
type Ruleset struct {
	Table   *nft.Table `json:"-"`      // nil: no table
	Digest  string     `json:"digest"` // of the table's printed text; "": no table
	Foreign bool       `json:"foreign,omitempty"`
	// Changes are what that was, if known: "chain forward had 1 rule more".
	Changes []string `json:"changes,omitempty"`
	// Unhooked says that its flowtable has lost a device, as it does with a network card
	// that is pulled. It is known when Changes are.
	Unhooked bool `json:"unhooked,omitempty"`
}
