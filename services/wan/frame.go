package wan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"bulkhead/netcfg/model"
	"bulkhead/services/checksum"
	"bulkhead/services/wan/dhcp4"
)

const (
	clientPort = 68
	serverPort = 67

	ipHeader  = 20
	udpHeader = 8
	protoUDP  = 17
	hops      = 64

	arpLen     = 28 // for IPv4 on Ethernet
	arpRequest = 1
)

var be = binary.BigEndian

// broadcastUDP wraps a DHCP message into a packet from 0.0.0.0 to everyone: before
// the host has an address, the kernel's own UDP cannot send that.
func broadcastUDP(payload []byte) []byte {
	b := make([]byte, ipHeader+udpHeader, ipHeader+udpHeader+len(payload))
	b = append(b, payload...)
	b[0] = 4<<4 | ipHeader/4
	be.PutUint16(b[2:], uint16(len(b)))
	b[8], b[9] = hops, protoUDP
	be.PutUint32(b[16:], 0xffffffff) // destination; the source is 0
	be.PutUint16(b[10:], ^checksum.Fold(checksum.Add(0, b[:ipHeader])))

	udp := b[ipHeader:]
	be.PutUint16(udp[0:], clientPort)
	be.PutUint16(udp[2:], serverPort)
	be.PutUint16(udp[4:], uint16(len(udp)))
	c := ^pseudoSum(b, udp)
	if c == 0 {
		c = 0xffff // RFC 768: zero means that there is none
	}
	be.PutUint16(udp[6:], c)
	return b
}

// parseUDP returns the payload of an IPv4 packet if it is a whole UDP datagram to
// the client's port. trusted says that the sender is this machine (or a virtual
// one on it), whose kernel leaves the UDP checksum to a network card that is not
// there.
func parseUDP(b []byte, trusted bool) ([]byte, error) {
	if len(b) < ipHeader || b[0]>>4 != 4 {
		return nil, errors.New("not IPv4")
	}
	ihl := int(b[0]&15) * 4
	total := int(be.Uint16(b[2:]))
	if ihl < ipHeader || total < ihl+udpHeader || total > len(b) {
		return nil, errors.New("IPv4 lengths do not fit")
	}
	if b[9] != protoUDP || be.Uint16(b[6:])&0x3fff != 0 {
		return nil, errors.New("not a whole UDP datagram")
	}
	if checksum.Fold(checksum.Add(0, b[:ihl])) != 0xffff {
		return nil, errors.New("IPv4 checksum is wrong")
	}
	udp := b[ihl:total] // frames are padded
	n := int(be.Uint16(udp[4:]))
	if be.Uint16(udp[2:]) != clientPort {
		return nil, errors.New("not to the DHCP client")
	}
	if n < udpHeader || n > len(udp) {
		return nil, errors.New("UDP length does not fit")
	}
	udp = udp[:n]
	if be.Uint16(udp[6:]) != 0 && !trusted && pseudoSum(b, udp) != 0xffff {
		return nil, errors.New("UDP checksum is wrong")
	}
	return udp[udpHeader:], nil
}

// pseudoSum sums up a datagram together with the pseudo header of RFC 768.
func pseudoSum(ip, udp []byte) uint16 {
	return checksum.Fold(checksum.Add(checksum.Add(protoUDP+uint32(len(udp)), ip[12:20]), udp))
}

// arpProbe asks who has an address without claiming one (RFC 5227 section 2.1.1).
func arpProbe(own model.MAC, target netip.Addr) []byte {
	b := make([]byte, arpLen)
	be.PutUint16(b[0:], 1)      // Ethernet
	be.PutUint16(b[2:], 0x0800) // IPv4
	b[4], b[5] = 6, 4
	be.PutUint16(b[6:], arpRequest)
	copy(b[8:], own[:])
	copy(b[24:], target.AsSlice())
	return b
}

// parseARP reads an ARP packet of either kind.
func parseARP(b []byte) (dhcp4.ARP, error) {
	if len(b) < arpLen || be.Uint16(b[0:]) != 1 || be.Uint16(b[2:]) != 0x0800 || b[4] != 6 || b[5] != 4 {
		return dhcp4.ARP{}, fmt.Errorf("not ARP for IPv4 on Ethernet")
	}
	return dhcp4.ARP{
		Sender:   model.MAC(b[8:14]),
		SenderIP: netip.AddrFrom4([4]byte(b[14:18])),
		TargetIP: netip.AddrFrom4([4]byte(b[24:28])),
	}, nil
}
