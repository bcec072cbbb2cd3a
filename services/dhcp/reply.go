package dhcp

import (
	"bytes"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/netcfg/model"
)

// reply is a message on its way to a client.
type reply struct {
	link string
	kind dhcpv4.MessageType
	to   target
	data []byte
	buf  *[]byte // what data was encoded into, for the next one
}

// target is where a reply goes (RFC 2131 section 4.1).
type target struct {
	src netip.Addr // the zone's own address
	dst netip.Addr // 255.255.255.255: to everybody on the link
	mac model.MAC  // of a client that has no address yet and answers no ARP; else zero
	// relay says that dst is a relay, which listens on the server's port.
	relay bool
}

var (
	everybody = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	cookie    = [4]byte{99, 130, 83, 99} // RFC 2131 section 3
)

// target finds the way to the client: by its relay, to the address it has, or to the
// one it is being given. The last needs a frame made by hand, because nobody answers
// ARP for that address yet; clients that cannot take it set the broadcast flag.
func (z *zone) target(m *message, kind dhcpv4.MessageType, yiaddr netip.Addr) target {
	to := target{src: z.box, dst: everybody}
	switch {
	case m.giaddr.IsValid():
		to.dst, to.relay = m.giaddr, true
	case kind == dhcpv4.MessageTypeNak:
		// The client must not be using the address it has, if any.
	case m.ciaddr.IsValid():
		to.dst = m.ciaddr
	case m.flags&broadcast == 0 && yiaddr.IsValid():
		to.dst, to.mac = yiaddr, m.client.MAC
	}
	return to
}

// reply encodes an answer to m into buf. An ACK without yiaddr answers an INFORM.
func (z *zone) reply(buf []byte, m *message, kind dhcpv4.MessageType, yiaddr netip.Addr) []byte {
	b := z.header(buf[:0], m, kind, yiaddr)
	b = append(b, dhcpv4.OptionDHCPMessageType.Code(), 1, byte(kind))
	b = appendAddrs(b, dhcpv4.OptionServerIdentifier, z.box)
	tail := 1 // the end
	if m.client.ID != "" {
		tail += 2 + len(m.client.ID)
	}
	if m.giaddr.IsValid() && len(m.agent) > 0 && len(m.agent) <= 255 {
		tail += 2 + len(m.agent)
	}
	if kind != dhcpv4.MessageTypeNak {
		b = z.parameters(b, m, yiaddr, m.maxSize-tail)
	}
	if m.client.ID != "" { // RFC 6842
		b = append(b, dhcpv4.OptionClientIdentifier.Code(), byte(len(m.client.ID)))
		b = append(b, m.client.ID...)
	}
	if m.giaddr.IsValid() && len(m.agent) > 0 && len(m.agent) <= 255 { // last (RFC 3046 section 2.2)
		b = appendOption(b, dhcpv4.OptionRelayAgentInformation, m.agent)
	}
	b = append(b, dhcpv4.OptionEnd.Code())
	for len(b) < minSize {
		b = append(b, 0)
	}
	return b
}

// parameters appends what the client wants to know, up to a total of limit bytes.
func (z *zone) parameters(b []byte, m *message, yiaddr netip.Addr, limit int) []byte {
	if yiaddr.IsValid() {
		b = append(b, z.timing...)
	}
	b = append(b, z.essential...)
	for _, x := range z.additional {
		if m.wants(x.code) && len(b)+len(x.wire) <= limit {
			b = append(b, x.wire...)
		}
	}
	name := z.device[yiaddr]
	if name != "" && m.requested != nil && m.wants(dhcpv4.OptionHostName.Code()) && len(b)+2+len(name) <= limit {
		b = appendOption(b, dhcpv4.OptionHostName, []byte(name))
	}
	return b
}

// wants reports whether the client asks for an option, or leaves the choice to us.
func (m *message) wants(code byte) bool {
	return m.requested == nil || bytes.IndexByte(m.requested, code) >= 0
}

// header appends the fixed part of a reply, up to the options.
func (z *zone) header(b []byte, m *message, kind dhcpv4.MessageType, yiaddr netip.Addr) []byte {
	var h [240]byte
	h[0], h[1], h[2] = byte(dhcpv4.OpcodeBootReply), 1, 6
	copy(h[4:], m.xid[:])
	flags := m.flags & broadcast
	if kind == dhcpv4.MessageTypeNak && m.giaddr.IsValid() {
		flags = broadcast // the relay must not ask for an address the client has not got
	}
	h[10] = byte(flags >> 8)
	if kind == dhcpv4.MessageTypeAck {
		putAddr(h[12:], m.ciaddr)
	}
	putAddr(h[16:], yiaddr)
	putAddr(h[24:], m.giaddr)
	copy(h[28:], m.client.MAC[:])
	copy(h[236:], cookie[:])
	return append(b, h[:]...)
}

func putAddr(b []byte, a netip.Addr) {
	if a.IsValid() {
		v := a.As4()
		copy(b, v[:])
	}
}
