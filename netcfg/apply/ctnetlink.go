//go:build linux

package apply

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Conn is an IPv4 connection that the kernel tracks.
type Conn struct {
	Orig   Tuple  // as its first packet was, before any translation
	Reply  Tuple  // as its answers are
	Mark   uint32 // ct mark
	Status uint32 // IPS_* of include/uapi/linux/netfilter/nf_conntrack_common.h
	ID     uint32 // a hash of what the kernel keeps it in; a later connection mostly has another
	Zone   uint16 // conntrack's own notion of zones; 0 unless somebody uses them

	// How much went each way, if the setting nf_conntrack_acct was on from its beginning.
	OrigCount, ReplyCount Counter
}

// Tuple is one direction of a connection. Ports are 0 for protocols that have
// none; Type, Code and ICMPID are those of ICMP.
type Tuple struct {
	Src, Dst         netip.Addr
	Proto            uint8
	SrcPort, DstPort uint16
	Type, Code       uint8
	ICMPID           uint16
}

// Attributes of ctnetlink: include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaStatus     = 3
	ctaMark       = 8
	ctaCountOrig  = 9
	ctaCountReply = 10
	ctaID         = 12
	ctaZone       = 18

	ctaTupleIP    = 1
	ctaTupleProto = 2

	ctaIPv4Src = 1
	ctaIPv4Dst = 2

	ctaCountPackets = 1
	ctaCountBytes   = 2

	ctaProtoNum  = 1
	ctaSrcPort   = 2
	ctaDstPort   = 3
	ctaICMPID    = 4
	ctaICMPType  = 5
	ctaICMPCode  = 6
	attrNested   = 1 << 15
	attrTypeMask = 1<<14 - 1 // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
)

// sizeofNfgenmsg is the size of the header that comes before the attributes.
const sizeofNfgenmsg = 4

var errAttr = errors.New("attribute with a bad length")

// eachAttr calls f with the type and value of each netlink attribute in b.
func eachAttr(b []byte, f func(typ uint16, val []byte) error) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return errAttr
		}
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return errAttr
		}
		if err := f(binary.NativeEndian.Uint16(b[2:])&attrTypeMask, b[4:n]); err != nil {
			return err
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

// decodeConn reads the message in which ctnetlink tells of a connection. It is an
// error if that is no IPv4 connection with both its directions.
func decodeConn(data []byte) (Conn, error) {
	if len(data) < sizeofNfgenmsg || data[0] != unix.AF_INET {
		return Conn{}, errors.New("decode connection: not of IPv4")
	}
	var c Conn
	err := eachAttr(data[sizeofNfgenmsg:], func(typ uint16, val []byte) (err error) {
		switch typ {
		case ctaTupleOrig:
			c.Orig, err = decodeTuple(val)
		case ctaTupleReply:
			c.Reply, err = decodeTuple(val)
		case ctaStatus:
			c.Status, err = be32(val)
		case ctaMark:
			c.Mark, err = be32(val)
		case ctaCountOrig:
			err = eachAttr(val, c.OrigCount.decode)
		case ctaCountReply:
			err = eachAttr(val, c.ReplyCount.decode)
		case ctaID:
			c.ID, err = be32(val)
		case ctaZone:
			c.Zone, err = be16(val)
		}
		return err
	})
	if err == nil && (!c.Orig.valid() || !c.Reply.valid()) {
		err = errors.New("a direction is missing")
	}
	if err != nil {
		return Conn{}, fmt.Errorf("decode connection: %w", err)
	}
	return c, nil
}

func (t Tuple) valid() bool { return t.Src.Is4() && t.Dst.Is4() }

func decodeTuple(b []byte) (Tuple, error) {
	var t Tuple
	err := eachAttr(b, func(typ uint16, val []byte) error {
		switch typ {
		case ctaTupleIP:
			return eachAttr(val, t.decodeIP)
		case ctaTupleProto:
			return eachAttr(val, t.decodeProto)
		}
		return nil
	})
	return t, err
}

func (t *Tuple) decodeIP(typ uint16, val []byte) (err error) {
	switch typ {
	case ctaIPv4Src:
		t.Src, err = addr4(val)
	case ctaIPv4Dst:
		t.Dst, err = addr4(val)
	}
	return err
}

func (t *Tuple) decodeProto(typ uint16, val []byte) (err error) {
	switch typ {
	case ctaProtoNum:
		t.Proto, err = u8(val)
	case ctaSrcPort:
		t.SrcPort, err = be16(val)
	case ctaDstPort:
		t.DstPort, err = be16(val)
	case ctaICMPID:
		t.ICMPID, err = be16(val)
	case ctaICMPType:
		t.Type, err = u8(val)
	case ctaICMPCode:
		t.Code, err = u8(val)
	}
	return err
}

func (c *Counter) decode(typ uint16, val []byte) (err error) {
	switch typ {
	case ctaCountPackets:
		c.Packets, err = be64(val)
	case ctaCountBytes:
		c.Bytes, err = be64(val)
	}
	return err
}

func addr4(b []byte) (netip.Addr, error) {
	if len(b) != 4 {
		return netip.Addr{}, errAttr
	}
	return netip.AddrFrom4([4]byte(b)), nil
}

func be64(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, errAttr
	}
	return binary.BigEndian.Uint64(b), nil
}

func be32(b []byte) (uint32, error) {
	if len(b) != 4 {
		return 0, errAttr
	}
	return binary.BigEndian.Uint32(b), nil
}

func be16(b []byte) (uint16, error) {
	if len(b) != 2 {
		return 0, errAttr
	}
	return binary.BigEndian.Uint16(b), nil
}

func u8(b []byte) (uint8, error) {
	if len(b) != 1 {
		return 0, errAttr
	}
	return b[0], nil
}

// encodeConn names a connection in a request. A request to delete that names none
// would delete all, hence the error for a Conn that was not decoded from anything.
func encodeConn(c Conn) ([]byte, error) {
	if !c.Orig.valid() {
		return nil, errors.New("connection without addresses")
	}
	b := make([]byte, sizeofNfgenmsg, 128)
	b[0] = unix.AF_INET
	b = appendNested(b, ctaTupleOrig, c.Orig.append)
	if c.Zone != 0 {
		b = appendAttr(b, ctaZone, binary.BigEndian.AppendUint16(nil, c.Zone))
	}
	return b, nil
}

func (t Tuple) append(b []byte) []byte {
	b = appendNested(b, ctaTupleIP, func(b []byte) []byte {
		b = appendAttr(b, ctaIPv4Src, t.Src.AsSlice())
		return appendAttr(b, ctaIPv4Dst, t.Dst.AsSlice())
	})
	return appendNested(b, ctaTupleProto, func(b []byte) []byte {
		b = appendAttr(b, ctaProtoNum, []byte{t.Proto})
		if t.Proto == unix.IPPROTO_ICMP {
			b = appendAttr(b, ctaICMPID, binary.BigEndian.AppendUint16(nil, t.ICMPID))
			b = appendAttr(b, ctaICMPType, []byte{t.Type})
			return appendAttr(b, ctaICMPCode, []byte{t.Code})
		}
		// Ignored by the kernel for protocols that have none.
		b = appendAttr(b, ctaSrcPort, binary.BigEndian.AppendUint16(nil, t.SrcPort))
		return appendAttr(b, ctaDstPort, binary.BigEndian.AppendUint16(nil, t.DstPort))
	})
}

func appendAttr(b []byte, typ uint16, val []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(val)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, val...)
	return append(b, make([]byte, -len(val)&3)...)
}

func appendNested(b []byte, typ uint16, body func([]byte) []byte) []byte {
	start := len(b)
	b = body(appendAttr(b, typ|attrNested, nil))
	binary.NativeEndian.PutUint16(b[start:], uint16(len(b)-start))
	return b
}
