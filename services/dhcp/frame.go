package dhcp

import (
	"encoding/binary"
	"net/netip"

	"bulkhead/services/checksum"
)

// UDP ports of DHCP.
const (
	serverPort = 67
	clientPort = 68
)

// datagram appends to b an IPv4 packet with a UDP datagram from the server's to the
// client's port, both checksums included, for a packet socket: the kernel would not
// send to an address that nobody answers ARP for. data is at most [maxReply] bytes.
func datagram(b []byte, src, dst netip.Addr, data []byte) []byte {
	const ipLen, udpLen = 20, 8
	start := len(b)
	b = append(b, make([]byte, ipLen+udpLen)...)
	b = append(b, data...)
	ip, udp := b[start:start+ipLen], b[start+ipLen:]

	ip[0] = 4<<4 | ipLen/4
	binary.BigEndian.PutUint16(ip[2:], uint16(len(b)-start))
	ip[6] = 0x40 // do not fragment; so the zero identification is fine (RFC 6864)
	ip[8] = 64   // hops
	ip[9] = 17   // UDP
	s, d := src.As4(), dst.As4()
	copy(ip[12:], s[:])
	copy(ip[16:], d[:])
	binary.BigEndian.PutUint16(ip[10:], ^checksum.Fold(checksum.Add(0, ip)))

	binary.BigEndian.PutUint16(udp[0:], serverPort)
	binary.BigEndian.PutUint16(udp[2:], clientPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	// The pseudo header: both addresses, protocol, length (RFC 768).
	check := ^checksum.Fold(checksum.Add(checksum.Add(17+uint32(len(udp)), ip[12:20]), udp))
	if check == 0 {
		check = 0xffff // zero means "no checksum"
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	return b
}
