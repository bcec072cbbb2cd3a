package dhcp

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/dhcp/history"
	"bulkhead/services/dhcp/lease"
)

// core is the protocol: packets and times go in, replies and journal records come
// out. It has no clock, no file and no socket, and is not safe for concurrent use.
type core struct {
	zones   map[string]*zone // by link
	orphans []lease.Lease    // of addresses in no zone, or in none yet
	count   *Counters
	heard   heard
	past    history.Log
}

// result is what comes of one packet.
type result struct {
	reply reply // no data: nothing to send
	// record is to be on the disk before the reply is sent; its Addr is not valid if
	// there is nothing to write down.
	record lease.Lease
	event  event
}

// event is what an operator may want to hear of.
type event uint8

const (
	eventNone event = iota
	eventExhausted
	eventDeclined
)

// configure makes conf's zones the ones that are served. Leases whose addresses lie
// in one of them are kept; those that no longer fit its pool or reservations run
// out, because they are refused when they are renewed.
//
// After an error everything is as it was.
func (c *core) configure(now time.Time, conf svcconf.DHCP) error {
	zones, err := newZones(conf)
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	all := c.leases()
	c.zones = zones
	c.restore(now, all)
	c.nameZones()
	return nil
}

// nameZones gives the past of other processes its zones.
func (c *core) nameZones() {
	c.past.NameZones(func(addr netip.Addr) string {
		if z := c.zoneOf(addr); z != nil {
			return z.name
		}
		return ""
	})
}

// restore enters leases where they belong, over what is known of their addresses.
func (c *core) restore(now time.Time, all []lease.Lease) {
	slices.SortFunc(all, func(a, b lease.Lease) int { return a.Until.Compare(b.Until) })
	c.orphans = nil
	for _, l := range all {
		if z := c.zoneOf(l.Addr); z != nil {
			z.table.Restore(now, l)
		} else if l.Until.After(now) {
			c.orphans = append(c.orphans, l)
		}
	}
}

func (c *core) zoneOf(addr netip.Addr) *zone {
	for _, z := range c.zones {
		if z.subnet.Contains(addr) {
			return z
		}
	}
	return nil
}

// leases returns everything that is known about any address, in no order.
func (c *core) leases() []lease.Lease {
	all := slices.Clone(c.orphans)
	for _, z := range c.zones {
		all = slices.AppendSeq(all, z.table.All())
	}
	return all
}

// expire frees what has run out and reports whether a lease was among it.
func (c *core) expire(now time.Time) bool {
	ended := 0
	for _, z := range c.zones {
		ended += z.table.Expire(now)
	}
	c.count.Expired.Add(uint64(ended))
	return ended > 0
}

// handle answers one packet that came in on a link. The reply is encoded into buf if
// that is large enough.
func (c *core) handle(now time.Time, link string, packet, buf []byte) result {
	z := c.zones[link]
	if z == nil {
		return result{}
	}
	m, err := parse(packet)
	if err != nil {
		c.count.Malformed.Add(1)
		return result{}
	}
	if int(m.kind) < numKinds {
		c.count.Received[m.kind].Add(1)
	}
	// A relay speaks for the subnet it is in. One from elsewhere would be given
	// addresses that do not work where its clients are.
	if m.giaddr.IsValid() && (!z.subnet.Contains(m.giaddr) || m.giaddr == z.box) {
		c.count.Foreign.Add(1)
		return result{}
	}
	c.heard.client(now, z.name, m)
	x := exchange{c, z, m, now, buf}
	switch m.kind {
	case dhcpv4.MessageTypeDiscover:
		return x.discover()
	case dhcpv4.MessageTypeRequest:
		return x.request()
	case dhcpv4.MessageTypeRelease:
		return x.release()
	case dhcpv4.MessageTypeDecline:
		return x.decline()
	case dhcpv4.MessageTypeInform:
		return x.inform()
	}
	c.count.Unsupported.Add(1)
	return result{}
}

// exchange is one packet being answered.
type exchange struct {
	*core
	z   *zone
	m   *message
	now time.Time
	buf []byte
}

func (x *exchange) answer(kind dhcpv4.MessageType, yiaddr netip.Addr) reply {
	return reply{
		link: x.z.link,
		kind: kind,
		to:   x.z.target(x.m, kind, yiaddr),
		data: x.z.reply(x.buf, x.m, kind, yiaddr),
	}
}

// discover offers an address (RFC 2131 section 4.3.1).
func (x *exchange) discover() result {
	addr, ok := x.z.table.Offer(x.now, x.m.client, x.m.wanted)
	if !ok {
		x.count.Exhausted.Add(1)
		return result{event: eventExhausted}
	}
	x.m.ciaddr = netip.Addr{} // a client that discovers has none, whatever it says
	return result{reply: x.answer(dhcpv4.MessageTypeOffer, addr)}
}

// request grants, extends or refuses an address (RFC 2131 section 4.3.2). What the
// client is after shows in which fields are set.
//
// The zone has no other DHCP server that we would have to leave clients to, so where
// the RFC keeps servers silent about clients they do not know, this one answers: the
// address, if it is free, or a NAK, which sends the client to discover at once.
func (x *exchange) request() result {
	m := x.m
	addr := m.wanted // selecting an offer, or back after a reboot
	switch {
	case m.server.IsValid() && m.server != x.z.box:
		x.z.table.Withdraw(x.now, m.client)
		x.count.Elsewhere.Add(1)
		x.heard.server(x.now, x.z.name, m)
		return result{}
	case m.server.IsValid():
		m.ciaddr = netip.Addr{}
	case m.ciaddr.IsValid(): // renewing or rebinding
		addr = m.ciaddr
	}
	if !addr.IsValid() {
		x.count.Malformed.Add(1)
		return result{}
	}
	l, ok := x.z.table.Bind(x.now, m.client, addr, m.hostname)
	if !ok {
		return result{reply: x.answer(dhcpv4.MessageTypeNak, netip.Addr{})}
	}
	x.heard.given(m.client.MAC, addr)
	x.past.Note(x.z.name, l)
	return result{reply: x.answer(dhcpv4.MessageTypeAck, addr), record: l}
}

// release takes an address back (RFC 2131 section 4.3.4). There is no answer.
func (x *exchange) release() result {
	l, ok := lease.Lease{}, false
	if !x.m.server.IsValid() || x.m.server == x.z.box {
		l, ok = x.z.table.Release(x.now, x.m.client, x.m.ciaddr)
	}
	if !ok {
		x.count.Ignored.Add(1)
		return result{}
	}
	x.past.Note(x.z.name, l)
	return result{record: l}
}

// decline quarantines an address (RFC 2131 section 4.3.3). There is no answer.
func (x *exchange) decline() result {
	l, ok := lease.Lease{}, false
	if x.m.server == x.z.box {
		l, ok = x.z.table.Decline(x.now, x.m.client, x.m.wanted)
	}
	if !ok {
		x.count.Ignored.Add(1)
		return result{}
	}
	x.past.Note(x.z.name, l)
	x.count.Quarantined.Add(1)
	return result{record: l, event: eventDeclined}
}

// inform tells a client with an address of its own about the network (RFC 2131
// section 4.3.5): everything but an address and its times.
func (x *exchange) inform() result {
	if !x.m.ciaddr.IsValid() || !x.z.subnet.Contains(x.m.ciaddr) || x.m.ciaddr == x.z.box {
		x.count.Foreign.Add(1)
		return result{}
	}
	return result{reply: x.answer(dhcpv4.MessageTypeAck, netip.Addr{})}
}
