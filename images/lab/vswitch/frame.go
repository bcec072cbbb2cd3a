package vswitch

import "encoding/binary"

// MAC is a hardware address.
type MAC [6]byte

// group reports whether frames to the address are for several machines: the
// multicast bit, IEEE 802-2014 clause 8.2.
func (m MAC) group() bool { return m[0]&1 != 0 }

// reserved reports whether the address is one of those that no bridge passes on,
// such as that of spanning tree: IEEE 802.1Q-2018 table 8-1.
func (m MAC) reserved() bool {
	return m[0] == 0x01 && m[1] == 0x80 && m[2] == 0xc2 && m[3] == 0 && m[4] == 0 && m[5]&0xf0 == 0
}

// Lengths in bytes, without the checksum, which neither TAP nor QEMU pass on.
const (
	headerLen = 14 // two addresses and the type
	tagLen    = 4
	// MaxFrame bounds a frame: that of a jumbo packet of 9,000 bytes, with a tag.
	MaxFrame = headerLen + tagLen + 9000
)

// EtherTypes of tags.
const (
	typeTag       = 0x8100 // 802.1Q
	typeProvider  = 0x88a8 // the outer tag of 802.1ad
	typeProvider0 = 0x9100 // the same before there was a standard
)

func isTag(etherType uint16) bool {
	return etherType == typeTag || etherType == typeProvider || etherType == typeProvider0
}

func etherType(frame []byte, at int) uint16 { return binary.BigEndian.Uint16(frame[at:]) }

// withTag returns a copy of an untagged frame with a tag.
func withTag(frame []byte, vlan uint16) []byte {
	b := make([]byte, 0, len(frame)+tagLen)
	b = append(b, frame[:12]...)
	b = binary.BigEndian.AppendUint16(b, typeTag)
	b = binary.BigEndian.AppendUint16(b, vlan)
	return append(b, frame[12:]...)
}

// withoutTag returns a copy of a tagged frame without its tag.
func withoutTag(frame []byte) []byte {
	b := make([]byte, 0, len(frame)-tagLen)
	b = append(b, frame[:12]...)
	return append(b, frame[12+tagLen:]...)
}
