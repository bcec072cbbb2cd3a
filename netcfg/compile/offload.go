package compile

import (
	"slices"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/state"
)

const (
	flowtable    = "fastpath"
	setOffload   = "offload.links" // between which connections may be offloaded
	setUnoffload = "offload.never" // addresses whose packets always meet the rules
)

// offload puts established connections into a flowtable. From then on the kernel
// takes their packets, both ways, from the receiving network card to the sending link
// past every chain. That must open nothing that the chains keep shut, so what they
// check of each packet of an established connection decides what may be offloaded:
//
//   - Subnet and route back of the source, bogons, packets astray: a flowtable knows a
//     connection by card, VLAN, addresses and ports, so that packets with another
//     source or on another link are not its packets. When a route, an address, a link
//     or ip_forward changes, the kernel flushes what it knew of routes; a connection
//     leaves the flowtable with its next packet, which meets the rules (rt_cache_flush;
//     nf_flow_dst_check in net/netfilter/nf_flow_table_ip.c).
//   - The MAC of a device: a flowtable does not look at it. So no connection with a
//     device's address at either end is offloaded, or its neighbours could send in its
//     name. That holds for forwards too, which all lead to devices.
//   - The address of a device that a block names, by its MAC: such a device could send
//     in the name of any neighbour. So nothing from or to its zone is offloaded.
//   - A machine that is isolated: it could do the same, and in any zone. So nothing is
//     offloaded while one is.
//   - TCP's sequence numbers: conntrack does not follow them for what is offloaded, and
//     a blind guess at a packet reaches the machine it is for, which checks for itself
//     (RFC 5961). This is the one thing that gets weaker.
//
// All else is as without: the mark and the counters of a connection are conntrack's,
// which counts on ("counter" of the flowtable); fragments, packets with options, with
// a TTL of 1 or too long for the way out meet the chains, as do FIN and RST.
// A connection that is deleted from conntrack is out of the flowtable with the same
// stroke (nf_ct_is_dying in flow_offload_lookup), so whoever revokes a rule deletes
// its connections as ever. A load of the ruleset begins with an empty flowtable.
//
// The devices are the network cards and not the VLAN links on them: the kernel finds
// the VLAN by itself, and a ruleset is loaded before its VLAN links are made. A card
// that was there a moment ago and is gone fails the load: whoever loads the rules must
// be ready to load them without.
func (c *compiler) offload(t *table, add func(...nft.Stmt)) {
	cards := c.cards()
	if !c.facts.Kernel.Flowtable || c.closed || c.policy.Isolates() || len(cards) == 0 {
		return
	}
	var links []nft.Element
	for _, party := range c.parties() {
		if !c.confines(party) {
			links = append(links, nft.Element{Key: iface(c.links[party])})
		}
	}
	if len(links) < 2 {
		return
	}
	t.set(nft.Set{Name: setOffload, Key: []nft.Type{nft.IfName}, Elements: links})
	t.Flowtables = []nft.Flowtable{{Name: flowtable, Devices: cards}}
	stmts := []nft.Stmt{
		anyBit(nft.CTState, nft.StateEstablished),
		nft.InSet{Fields: []nft.Field{nft.IIFName}, Set: setOffload},
		nft.InSet{Fields: []nft.Field{nft.OIFName}, Set: setOffload},
	}
	var devices []nft.Element
	for _, d := range c.cfg.Devices {
		if a := c.policy.AddressOf(d); a.IsValid() {
			devices = append(devices, nft.Element{Key: []nft.Range{nft.One(nft.Addr(a))}, Comment: d.Name})
		}
	}
	if t.set(nft.Set{Name: setUnoffload, Key: []nft.Type{nft.IPv4Addr}, Elements: devices}) {
		stmts = append(stmts,
			nft.InSet{Fields: []nft.Field{nft.IPSaddr}, Not: true, Set: setUnoffload},
			nft.InSet{Fields: []nft.Field{nft.IPDaddr}, Not: true, Set: setUnoffload})
	}
	add(append(stmts, nft.Offload{Flowtable: flowtable})...)
}

// cards are the network cards of all parties that are there, sorted.
func (c *compiler) cards() []string {
	var cards []string
	for _, l := range c.compiled {
		if l.Kind == state.Physical && c.present(l.Name) {
			cards = append(cards, l.Name)
		}
	}
	slices.Sort(cards)
	return cards
}

// confines reports whether a device of the party may use no address but its own.
func (c *compiler) confines(party string) bool {
	return slices.ContainsFunc(c.cfg.Devices, func(d *model.Device) bool {
		return d.Zone.Name == party && c.policy.Confined(d)
	})
}
