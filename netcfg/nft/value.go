package nft

import (
	"encoding/binary"
	"net/netip"
	"strings"
)

// Value is a value of some [Type] as bytes in network byte order, so that values
// can be compared, sorted and used as keys. Numbers that the kernel keeps in host
// order (marks, user IDs, states) are in network order here all the same: the
// encoder turns them round.
type Value string

// Addr is the value of an IPv4 address. It panics for another family.
func Addr(a netip.Addr) Value { b := a.As4(); return Value(b[:]) }

// MAC is the value of a hardware address.
func MAC(m [6]byte) Value { return Value(m[:]) }

// U8 is the value of a protocol, an ICMP type or TCP flags.
func U8(v uint8) Value { return Value([]byte{v}) }

// U16 is the value of a port.
func U16(v uint16) Value { return Value(binary.BigEndian.AppendUint16(nil, v)) }

// U32 is the value of a mark, a user ID, an index or a set of bits.
func U32(v uint32) Value { return Value(binary.BigEndian.AppendUint32(nil, v)) }

// Iface is the value of an interface name: at most 15 bytes, padded with zeros.
// It panics if the name is longer.
func Iface(name string) Value {
	if len(name) > 15 {
		panic("nft: interface name too long: " + name)
	}
	return Value(name + strings.Repeat("\x00", 16-len(name)))
}

// Mask4 is the mask of an IPv4 prefix of that many bits.
func Mask4(bits int) Value { return U32(^uint32(0) << (32 - bits)) }

// One is the range of a single value.
func One(v Value) Range { return Range{v, v} }

// Uint reads back a number of up to four bytes.
func (v Value) Uint() uint32 {
	var n uint32
	for i := range len(v) {
		n = n<<8 | uint32(v[i])
	}
	return n
}

// Bits of ct state, ct status and TCP flags. Linux include/uapi/linux/netfilter/nf_conntrack_common.h,
// net/netfilter/nft_ct.c.
const (
	StateInvalid     = 1
	StateEstablished = 2
	StateRelated     = 4
	StateNew         = 8
	StateUntracked   = 64

	StatusSNAT = 1 << 4
	StatusDNAT = 1 << 5

	FlagFIN = 1
	FlagSYN = 2
	FlagRST = 4
	FlagACK = 16
)

// Values of fib type: include/uapi/linux/rtnetlink.h.
const (
	FibUnicast   = 1
	FibLocal     = 2
	FibBroadcast = 3
)

// Values of meta nfproto.
const (
	NFProtoIPv4 = 2
	NFProtoIPv6 = 10
)

// TypeOf returns the type of a field.
func (f Field) TypeOf() Type { return fieldTypes[f] }

var fieldTypes = [...]Type{
	IPSaddr: IPv4Addr, IPDaddr: IPv4Addr, EtherSaddr: EtherAddr, NFProto: NFProtoType,
	L4Proto: InetProto, ThSport: InetService, ThDport: InetService, ICMPType: ICMPTypeType,
	TCPFlags: TCPFlag, IIFName: IfName, OIFName: IfName, MetaMark: Mark, SkUID: UID,
	CTState: CTStateBits, CTStatus: CTStatusBits, FibSaddrIIF: Index, FibDaddrType: FibType,
}

// Size is the length in bytes of a value of the type.
func (t Type) Size() int { return typeSizes[t] }

var typeSizes = [...]int{
	IPv4Addr: 4, EtherAddr: 6, NFProtoType: 1, InetProto: 1, InetService: 2, ICMPTypeType: 1,
	TCPFlag: 1, IfName: 16, Mark: 4, UID: 4, CTStateBits: 4, CTStatusBits: 4, Index: 4,
	FibType: 4, VerdictType: 0,
}
