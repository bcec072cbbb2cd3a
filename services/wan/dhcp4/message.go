package dhcp4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"bulkhead/netcfg/model"
)

// maxMessage is the largest message the client says it takes (option 57), which
// is what fits a packet on Ethernet: 1500 bytes less the IP and UDP headers.
const maxMessage = 1500 - 20 - 8

// wanted is the parameter request list. RFC 3442 wants option 121 before 3.
var wanted = []dhcpv4.OptionCode{
	dhcpv4.OptionSubnetMask,
	dhcpv4.OptionClasslessStaticRoute,
	dhcpv4.OptionRouter,
	dhcpv4.OptionDomainNameServer,
	dhcpv4.OptionInterfaceMTU,
	dhcpv4.OptionIPAddressLeaseTime,
	dhcpv4.OptionRenewTimeValue,
	dhcpv4.OptionRebindingTimeValue,
}

// clientID is the client identifier (option 61): hardware type and MAC. It is the
// form of RFC 2132 and not a DUID as in RFC 4361, because providers register the
// MAC, and because it is the same after the box was flashed anew.
func clientID(mac model.MAC) []byte {
	return append([]byte{byte(iana.HWTypeEthernet)}, mac[:]...)
}

// message is a message to a server with what all of them have in common.
func (m *Machine) message(t dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	msg := &dhcpv4.DHCPv4{
		OpCode:       dhcpv4.OpcodeBootRequest,
		HWType:       iana.HWTypeEthernet,
		NumSeconds:   m.secs,
		ClientHWAddr: m.mac[:],
		Options:      make(dhcpv4.Options),
	}
	binary.BigEndian.PutUint32(msg.TransactionID[:], m.xid)
	msg.UpdateOption(dhcpv4.OptMessageType(t))
	msg.UpdateOption(dhcpv4.OptClientIdentifier(clientID(m.mac)))
	if t == dhcpv4.MessageTypeDecline { // RFC 2131 table 5: nothing else
		return msg
	}
	msg.UpdateOption(dhcpv4.OptMaxMessageSize(maxMessage))
	msg.UpdateOption(dhcpv4.OptParameterRequestList(wanted...))
	if m.cfg.Hostname != "" {
		msg.UpdateOption(dhcpv4.OptHostName(m.cfg.Hostname))
	}
	return msg
}

// ask names the address that a broadcast message is about (option 50).
func ask(msg *dhcpv4.DHCPv4, a netip.Addr) *dhcpv4.DHCPv4 {
	if a.IsValid() {
		msg.UpdateOption(dhcpv4.OptRequestedIPAddress(a.AsSlice()))
	}
	return msg
}

// of names the server that a message is for (option 54).
func of(msg *dhcpv4.DHCPv4, server netip.Addr) *dhcpv4.DHCPv4 {
	msg.UpdateOption(dhcpv4.OptServerIdentifier(server.AsSlice()))
	return msg
}

// errForeign says that a message is not an answer to this client. On a shared
// segment that is common and nobody's fault.
var errForeign = errors.New("not for this client")

// A reply is a server's message that answers this client's last one. Its options
// are still to be checked.
type reply struct {
	kind   dhcpv4.MessageType // Offer, Ack or Nak
	server netip.Addr         // its identifier
	yours  netip.Addr         // the address given
	opts   dhcpv4.Options
}

// parseReply reads a UDP payload. The error is [errForeign] if somebody else is
// meant; any other one says what a server did wrong.
func parseReply(b []byte, mac model.MAC, xid uint32) (*reply, error) {
	p, err := dhcpv4.FromBytes(b)
	if err != nil {
		return nil, fmt.Errorf("malformed message: %w", err)
	}
	if p.OpCode != dhcpv4.OpcodeBootReply || p.HWType != iana.HWTypeEthernet ||
		!bytes.Equal(p.ClientHWAddr, mac[:]) || binary.BigEndian.Uint32(p.TransactionID[:]) != xid {
		return nil, errForeign
	}
	if err := unfold(p.Options, b); err != nil {
		return nil, err
	}
	// RFC 6842: a server returns the identifier it was sent. Old ones leave it out.
	if id, ok := p.Options[uint8(dhcpv4.OptionClientIdentifier)]; ok && !bytes.Equal(id, clientID(mac)) {
		return nil, errForeign
	}
	r := &reply{kind: p.MessageType(), opts: p.Options}
	switch r.kind {
	case dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak:
	default:
		return nil, fmt.Errorf("message type %d is none that a server sends", r.kind)
	}
	if r.server, err = addrOption(p.Options, dhcpv4.OptionServerIdentifier); err != nil {
		return nil, err
	}
	r.yours, _ = netip.AddrFromSlice(p.YourIPAddr.To4())
	return r, nil
}

// The fixed fields of a message that may hold more options, RFC 2131 figure 1.
const (
	snameAt  = 44
	fileAt   = snameAt + 64
	cookieAt = fileAt + 128
)

// unfold adds the options that did not fit their own field and were put into
// those for the boot file and the server's name (option 52), in the order of RFC
// 3396 section 5. b is the message.
func unfold(opts dhcpv4.Options, b []byte) error {
	o := opts[uint8(dhcpv4.OptionOptionOverload)]
	if len(o) == 0 {
		return nil
	}
	if len(o) != 1 || o[0] < 1 || o[0] > 3 {
		return fmt.Errorf("option overload %x is not 1, 2 or 3", o)
	}
	if o[0]&1 != 0 {
		if err := opts.FromBytes(b[fileAt:cookieAt]); err != nil {
			return fmt.Errorf("options in the file field: %w", err)
		}
	}
	if o[0]&2 != 0 {
		if err := opts.FromBytes(b[snameAt:fileAt]); err != nil {
			return fmt.Errorf("options in the sname field: %w", err)
		}
	}
	return nil
}

// addrOption reads an option that holds one host's address and must be there.
func addrOption(opts dhcpv4.Options, code dhcpv4.OptionCode) (netip.Addr, error) {
	b, ok := opts[code.Code()]
	if !ok {
		return netip.Addr{}, fmt.Errorf("no option %d (%s)", code.Code(), code)
	}
	a, ok := netip.AddrFromSlice(b)
	if len(b) != 4 || !ok || !isHost(a) {
		return netip.Addr{}, fmt.Errorf("option %d (%s) %x is not a host's address", code.Code(), code, b)
	}
	return a, nil
}

// isHost reports whether a can be the address of one machine: not 0.0.0.0/8, not
// loopback, not multicast, not of the former class E and not the broadcast.
func isHost(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	first := a.As4()[0]
	return first != 0 && first != 127 && first < 224
}
