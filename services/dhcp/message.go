package dhcp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"bulkhead/netcfg/model"
	"bulkhead/services/dhcp/lease"
)

// message is what the server reads from a client's packet (RFC 2131 section 2).
// Addresses that are absent or 0.0.0.0 are the zero Addr.
type message struct {
	kind      dhcpv4.MessageType
	xid       dhcpv4.TransactionID
	flags     uint16
	ciaddr    netip.Addr // the client's address, if it has one and can be reached there
	giaddr    netip.Addr // the relay's address
	wanted    netip.Addr // option 50
	server    netip.Addr // option 54
	client    lease.Client
	hostname  string // option 12, made a label
	requested []byte // option 55; nil: whatever there is
	class     string // option 60, made plain; "" if there is none
	agent     []byte // option 82, which goes back to the relay as it came
	maxSize   int    // the longest reply the client takes, in bytes of DHCP
}

// Sizes of a DHCP message, in bytes without IP and UDP headers.
const (
	minSize     = 300            // BOOTP's; shorter ones are dropped by old relays
	defaultSize = 576 - 28       // what everybody must take (RFC 2132 section 9.10)
	maxReply    = 1500 - 28      // one Ethernet frame, whatever the client says
	maxHops     = 16             // RFC 1542 section 4.1.1
	broadcast   = uint16(0x8000) // in flags
)

var (
	errNotRequest = errors.New("not a request")
	errHardware   = errors.New("hardware address is not a MAC")
	errHops       = errors.New("relayed too often")
)

// parse reads a packet from the wire. Its error says what makes it useless to us.
func parse(packet []byte) (*message, error) {
	p, err := dhcpv4.FromBytes(packet)
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	if p.OpCode != dhcpv4.OpcodeBootRequest {
		return nil, errNotRequest
	}
	if p.HopCount > maxHops {
		return nil, errHops
	}
	if p.HWType != iana.HWTypeEthernet || len(p.ClientHWAddr) != 6 {
		return nil, errHardware
	}
	mac := model.MAC(p.ClientHWAddr)
	if mac.IsZero() || mac[0]&1 != 0 { // group addresses are nobody's own
		return nil, errHardware
	}
	m := &message{
		kind:      p.MessageType(),
		xid:       p.TransactionID,
		flags:     p.Flags,
		ciaddr:    addrFrom(p.ClientIPAddr),
		giaddr:    addrFrom(p.GatewayIPAddr),
		wanted:    addrFrom(net.IP(p.Options.Get(dhcpv4.OptionRequestedIPAddress))),
		server:    addrFrom(net.IP(p.Options.Get(dhcpv4.OptionServerIdentifier))),
		hostname:  label(p.Options.Get(dhcpv4.OptionHostName)),
		requested: p.Options.Get(dhcpv4.OptionParameterRequestList),
		class:     plain(p.Options.Get(dhcpv4.OptionClassIdentifier)),
		agent:     p.Options.Get(dhcpv4.OptionRelayAgentInformation),
		maxSize:   defaultSize,
	}
	m.client.MAC = mac
	// Two bytes at least (RFC 2132 section 9.14). The options of a packet may add up
	// to more than one option's 255 bytes (RFC 3396); no honest client's do.
	if id := p.Options.Get(dhcpv4.OptionClientIdentifier); len(id) >= 2 && len(id) <= 255 {
		m.client.ID = string(id)
	}
	if v := p.Options.Get(dhcpv4.OptionMaximumDHCPMessageSize); len(v) == 2 {
		m.maxSize = min(max(int(v[0])<<8|int(v[1])-28, defaultSize), maxReply)
	}
	return m, nil
}

// plain makes what a client says of itself printable ASCII, cut to [maxClass].
func plain(text []byte) string {
	b := bytes.Clone(text[:min(len(text), maxClass)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

func addrFrom(ip net.IP) netip.Addr {
	if len(ip) == 16 {
		ip = ip.To4()
	}
	if len(ip) != 4 || ip.IsUnspecified() {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(ip))
}

// reserved are names that programs look for in the local domain and trust.
var reserved = map[string]bool{"localhost": true, "wpad": true, "isatap": true}

// label makes a client's host name one lower-case DNS label of letters, digits and
// inner hyphens, at most 63 bytes. Of a full name it takes the first part; spaces
// and underscores become hyphens. It returns "" for anything stranger, and for
// names that would make the client more than a client.
func label(name []byte) string {
	b := make([]byte, 0, 63)
	for _, c := range name {
		switch {
		case c == '.', c == 0: // some clients end it with a zero, as in C
			return checked(b)
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c == '-', c == '_', c == ' ':
			c = '-'
		default:
			return ""
		}
		if len(b) == cap(b) {
			return ""
		}
		b = append(b, c)
	}
	return checked(b)
}

func checked(b []byte) string {
	if len(b) == 0 || b[0] == '-' || b[len(b)-1] == '-' || reserved[string(b)] {
		return ""
	}
	return string(b)
}
