// Package probe builds single packets that can be recognised wherever they turn
// up, honest and dishonest ones, and watches for them. Whether a packet should
// have arrived is for others to say.
package probe

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// IP protocol numbers used here.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	GRE    = 47
	ICMPv6 = 58
	SCTP   = 132
)

// TCP flags, RFC 9293 section 3.1.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Types of echo messages, RFC 792 and RFC 4443.
const (
	EchoRequest   = 8
	EchoRequestV6 = 128
)

// Token is the identity of a packet. It travels in the payload, which no
// translation of addresses and ports changes.
type Token uint64

var magic = [8]byte{0xb0, 0x1c, 'b', 'u', 'l', 'k', 0x9e, 0xad}

const tokenLen = len(magic) + 8

func (t Token) append(b []byte) []byte {
	return binary.BigEndian.AppendUint64(append(b, magic[:]...), uint64(t))
}

// Packet is one IP packet. Src and Dst are of one family.
type Packet struct {
	Src, Dst netip.Addr
	Proto    uint8
	SrcPort  uint16 // TCP, UDP, SCTP; the identifier of an echo request
	DstPort  uint16 // TCP, UDP, SCTP
	Type     uint8  // ICMP
	Flags    uint8  // TCP; zero is a scan of its own (NULL)
	TTL      uint8  // 0: 64
	Pad      int    // bytes of padding, to make large packets
	Token    Token
}

// Bytes returns the packet from its IP header on, with all checksums right.
func (p Packet) Bytes() []byte {
	body := p.transport()
	ttl := p.TTL
	if ttl == 0 {
		ttl = 64
	}
	if p.Src.Is6() {
		h := []byte{0x60, 0, 0, 0}
		h = binary.BigEndian.AppendUint16(h, uint16(len(body)))
		h = append(h, p.Proto, ttl)
		h = append(append(h, p.Src.AsSlice()...), p.Dst.AsSlice()...)
		return append(h, body...)
	}
	// Fragments need the identification.
	return append(header4(p.Src, p.Dst, p.Proto, ttl, uint16(p.Token), len(body)), body...)
}

// Datagram returns an IPv4 packet that carries data over UDP. It has no token.
func Datagram(src, dst netip.Addr, srcPort, dstPort uint16, data []byte) []byte {
	b := make([]byte, 8, 8+len(data)) // a checksum of 0 says that there is none
	binary.BigEndian.PutUint16(b, srcPort)
	binary.BigEndian.PutUint16(b[2:], dstPort)
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(data)))
	return append(header4(src, dst, UDP, 64, 0, 8+len(data)), append(b, data...)...)
}

// header4 returns an IPv4 header, RFC 791 section 3.1.
func header4(src, dst netip.Addr, proto, ttl uint8, id uint16, length int) []byte {
	h := make([]byte, 20, 20+length)
	h[0] = 0x45
	binary.BigEndian.PutUint16(h[2:], uint16(20+length))
	binary.BigEndian.PutUint16(h[4:], id)
	h[8], h[9] = ttl, proto
	copy(h[12:], src.AsSlice())
	copy(h[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return h
}

// transport returns what follows the IP header.
func (p Packet) transport() []byte {
	payload := p.Token.append(nil)
	if p.Pad > 0 {
		// At both ends: the edge of a fragment may cut one of them in two.
		payload = p.Token.append(append(payload, make([]byte, p.Pad)...))
	}
	var b []byte
	switch p.Proto {
	case TCP:
		b = make([]byte, 20)
		binary.BigEndian.PutUint32(b[4:], uint32(p.Token)) // sequence number
		b[12], b[13] = 5<<4, p.Flags
		binary.BigEndian.PutUint16(b[14:], 0xffff) // window
	case UDP:
		b = make([]byte, 8)
		binary.BigEndian.PutUint16(b[4:], uint16(8+len(payload)))
	case ICMP, ICMPv6:
		b = []byte{p.Type, 0, 0, 0, byte(p.SrcPort >> 8), byte(p.SrcPort), 0, 1}
	case SCTP:
		return p.sctp(payload)
	case GRE:
		b = []byte{0, 0, 0x08, 0x00} // version 0, no options, carrying IPv4
	}
	if p.Proto == TCP || p.Proto == UDP {
		binary.BigEndian.PutUint16(b, p.SrcPort)
		binary.BigEndian.PutUint16(b[2:], p.DstPort)
	}
	b = append(b, payload...)
	var at int
	switch p.Proto {
	case TCP:
		at = 16
	case UDP:
		at = 6
	case ICMP, ICMPv6:
		at = 2
	default:
		return b
	}
	sum := b
	if p.Proto != ICMP {
		sum = append(p.pseudo(len(b)), b...)
	}
	binary.BigEndian.PutUint16(b[at:], checksum(sum))
	return b
}

// pseudo returns the pseudo header that checksums cover, RFC 9293 section 3.1 and
// RFC 8200 section 8.1.
func (p Packet) pseudo(length int) []byte {
	h := append(p.Src.AsSlice(), p.Dst.AsSlice()...)
	h = binary.BigEndian.AppendUint32(h, uint32(length))
	return append(h, 0, 0, 0, p.Proto)
}

// sctp returns an INIT chunk that carries the payload in a parameter which
// receivers are told to skip, RFC 9260 section 3.2.1.
func (p Packet) sctp(payload []byte) []byte {
	param := []byte{0xc0, 0x42}
	param = binary.BigEndian.AppendUint16(param, uint16(4+len(payload)))
	param = append(param, payload...)
	for len(param)%4 != 0 {
		param = append(param, 0)
	}
	b := make([]byte, 12, 64)
	binary.BigEndian.PutUint16(b, p.SrcPort)
	binary.BigEndian.PutUint16(b[2:], p.DstPort)
	b = append(b, 1, 0) // INIT
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(param)))
	b = binary.BigEndian.AppendUint32(b, uint32(p.Token)|1) // initiate tag: not zero
	b = binary.BigEndian.AppendUint32(b, 1<<16)             // window
	b = append(b, 0, 1, 0, 1)                               // streams
	b = binary.BigEndian.AppendUint32(b, uint32(p.Token))
	b = append(b, param...)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// checksum is the Internet checksum, RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// Fragments cuts an IPv4 packet in two, the first with size bytes of payload, RFC
// 791 section 3.2. Size is rounded down to a multiple of 8, at least 8.
func Fragments(ip []byte, size int) [2][]byte {
	size = max(size&^7, 8)
	body := ip[20:]
	const moreFragments = 0x2000
	return [2][]byte{
		fragment(ip[:20], body[:size], moreFragments),
		fragment(ip[:20], body[size:], uint16(size/8)),
	}
}

func fragment(header, body []byte, field uint16) []byte {
	f := append(bytes.Clone(header), body...)
	binary.BigEndian.PutUint16(f[2:], uint16(len(f)))
	binary.BigEndian.PutUint16(f[6:], field)
	f[10], f[11] = 0, 0
	binary.BigEndian.PutUint16(f[10:], checksum(f[:20]))
	return f
}

// Seen is what could be read of a packet that carries a token.
type Seen struct {
	Token    Token
	Src, Dst netip.Addr
	Proto    uint8
	Type     uint8 // ICMP
	Later    bool  // not the first fragment: Type is unknown
}

// Parse looks for a token in an IP packet. A packet that merely quotes or answers
// one of ours is told apart by its Type.
func Parse(ip []byte) (Seen, bool) {
	t, ok := FindToken(ip)
	if !ok {
		return Seen{}, false
	}
	s := Seen{Token: t}
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4:
		s.Proto = ip[9]
		s.Src, s.Dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		s.Later = binary.BigEndian.Uint16(ip[6:])&0x1fff != 0
		if n := int(ip[0]&15) * 4; s.Proto == ICMP && len(ip) > n && !s.Later {
			s.Type = ip[n]
		}
	case len(ip) >= 40 && ip[0]>>4 == 6:
		s.Proto = ip[6]
		s.Src, s.Dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		if s.Proto == ICMPv6 && len(ip) > 40 {
			s.Type = ip[40]
		}
	default:
		return Seen{}, false
	}
	return s, true
}

// FindToken looks for a token in any bytes.
func FindToken(b []byte) (Token, bool) {
	i := bytes.Index(b, magic[:])
	if i < 0 || len(b) < i+tokenLen {
		return 0, false
	}
	return Token(binary.BigEndian.Uint64(b[i+len(magic):])), true
}
