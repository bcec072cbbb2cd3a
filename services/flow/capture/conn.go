//go:build linux

package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/services/flow/record"
)

// Conn is an IPv4 connection as the kernel tells of it. Counts are what passed up to
// then, with nf_conntrack_acct; times are there with nf_conntrack_timestamp.
type Conn struct {
	Orig  Tuple // as its first packet was, before any translation
	Reply Tuple // as its answers are
	ID    uint32
	Mark  uint32
	TCP   TCPState
	Seen  bool // answered: IPS_SEEN_REPLY

	Out, In     record.Count
	Start, Stop time.Time // zero if not known
}

// Tuple is one direction of a connection. Of ICMP, the destination port is the type and
// the source port the ID.
type Tuple struct {
	Src, Dst netip.AddrPort
	Proto    uint8
}

// TCPState is enum tcp_conntrack of include/uapi/linux/netfilter/nf_conntrack_tcp.h; 0 for
// other protocols.
type TCPState uint8

// The states that connections end in.
const (
	TCPSynSent     TCPState = 1
	TCPSynReceived TCPState = 2
	TCPEstablished TCPState = 3
	TCPFinWait     TCPState = 4
	TCPCloseWait   TCPState = 5
	TCPLastAck     TCPState = 6
	TCPTimeWait    TCPState = 7
	TCPClose       TCPState = 8
	TCPSynSent2    TCPState = 9
)

// Attributes of ctnetlink, include/uapi/linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaStatus     = 3
	ctaProtoInfo  = 4
	ctaMark       = 8
	ctaCountOrig  = 9
	ctaCountReply = 10
	ctaID         = 12
	ctaTimestamp  = 20

	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaIPv4Src    = 1
	ctaIPv4Dst    = 2
	ctaProtoNum   = 1
	ctaSrcPort    = 2
	ctaDstPort    = 3
	ctaICMPID     = 4
	ctaICMPType   = 5

	ctaCountPackets = 1
	ctaCountBytes   = 2

	ctaTimestampStart = 1
	ctaTimestampStop  = 2

	ctaProtoInfoTCP      = 1
	ctaProtoInfoTCPState = 1

	ipsSeenReply = 1 << 1 // nf_conntrack_common.h
)

var (
	errFamily    = errors.New("not of IPv4")
	errDirection = errors.New("a direction is missing")
)

// decode reads the message in which ctnetlink tells of a connection, without its netlink
// header. It allocates nothing: this is done for every connection.
func (c *Conn) decode(data []byte) error {
	*c = Conn{}
	if len(data) < sizeofNfGenMsg || data[0] != unix.AF_INET {
		return errFamily
	}
	for typ, v := range attributes(data[sizeofNfGenMsg:]) {
		switch typ {
		case ctaTupleOrig:
			c.Orig.decode(v)
		case ctaTupleReply:
			c.Reply.decode(v)
		case ctaStatus:
			c.Seen = be32(v)&ipsSeenReply != 0
		case ctaProtoInfo:
			c.TCP = tcpState(v)
		case ctaMark:
			c.Mark = be32(v)
		case ctaCountOrig:
			c.Out = count(v)
		case ctaCountReply:
			c.In = count(v)
		case ctaID:
			c.ID = be32(v)
		case ctaTimestamp:
			c.Start, c.Stop = times(v)
		}
	}
	if !c.Orig.Src.Addr().Is4() || !c.Orig.Dst.Addr().Is4() || !c.Reply.Src.Addr().Is4() || !c.Reply.Dst.Addr().Is4() {
		return errDirection
	}
	return nil
}

func (t *Tuple) decode(b []byte) {
	var src, dst netip.Addr
	var sport, dport uint16
	for typ, v := range attributes(b) {
		switch typ {
		case ctaTupleIP:
			for typ, v := range attributes(v) {
				switch {
				case typ == ctaIPv4Src && len(v) == 4:
					src = netip.AddrFrom4([4]byte(v))
				case typ == ctaIPv4Dst && len(v) == 4:
					dst = netip.AddrFrom4([4]byte(v))
				}
			}
		case ctaTupleProto:
			for typ, v := range attributes(v) {
				switch {
				case typ == ctaProtoNum && len(v) == 1:
					t.Proto = v[0]
				case typ == ctaSrcPort || typ == ctaICMPID:
					sport = be16(v)
				case typ == ctaDstPort:
					dport = be16(v)
				case typ == ctaICMPType && len(v) == 1:
					dport = uint16(v[0])
				}
			}
		}
	}
	t.Src, t.Dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
}

func tcpState(b []byte) (s TCPState) {
	for typ, v := range attributes(b) {
		if typ != ctaProtoInfoTCP {
			continue
		}
		for typ, v := range attributes(v) {
			if typ == ctaProtoInfoTCPState && len(v) == 1 {
				s = TCPState(v[0])
			}
		}
	}
	return s
}

func count(b []byte) (c record.Count) {
	for typ, v := range attributes(b) {
		switch typ {
		case ctaCountPackets:
			c.Packets = be64(v)
		case ctaCountBytes:
			c.Bytes = be64(v)
		}
	}
	return c
}

func times(b []byte) (start, stop time.Time) {
	for typ, v := range attributes(b) {
		// Both are in nanoseconds since 1970; 0 if there is none.
		if ns := be64(v); ns != 0 && ns < 1<<63 {
			switch typ {
			case ctaTimestampStart:
				start = time.Unix(0, int64(ns)).UTC()
			case ctaTimestampStop:
				stop = time.Unix(0, int64(ns)).UTC()
			}
		}
	}
	return start, stop
}

// A number of another length is none, and 0.

func be64(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func be32(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func be16(b []byte) uint16 {
	if len(b) != 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

// Change is what happened to a connection.
type Change uint8

// The changes.
const (
	Begun Change = iota + 1
	Ended
)

// Messages of ctnetlink.
const (
	ctNew    = unix.NFNL_SUBSYS_CTNETLINK << 8
	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2
)

// each calls f with the type and the payload of each netlink message in a datagram.
func each(b []byte, f func(typ uint16, data []byte)) error {
	for len(b) >= unix.SizeofNlMsghdr {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return fmt.Errorf("a netlink message of %d bytes in %d", n, len(b))
		}
		f(binary.NativeEndian.Uint16(b[4:]), b[unix.SizeofNlMsghdr:n])
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}
