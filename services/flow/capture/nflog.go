//go:build linux

package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/model"
)

// Packet is one that was refused, as far as the log shows it: the log is bounded in its
// rate, so there may be more of them.
type Packet struct {
	Party    string // whose packet it is: a zone, model.Internet or model.Box
	MAC      model.MAC
	Src, Dst netip.Addr
	Proto    uint8
	SrcPort  uint16
	Port     uint16 // destination port, or ICMP type
	Mark     uint32 // the rule or the reason
	Bytes    int
}

// Of nfnetlink_log, include/uapi/linux/netfilter/nfnetlink_log.h.
const (
	logPacket = unix.NFNL_SUBSYS_ULOG << 8
	logConfig = unix.NFNL_SUBSYS_ULOG<<8 | 1

	logGroup = 1   // netcfg/compile's
	logRange = 128 // bytes of a packet

	nfulaMark    = 2
	nfulaHWAddr  = 8
	nfulaPayload = 9
	nfulaPrefix  = 10

	nfulaCfgCmd     = 1
	nfulaCfgMode    = 2
	nfulaCfgBufSize = 3
	cmdBind         = 1
	copyPacket      = 2

	logBuffer = 1 << 20
	logQueue  = 32 << 10 // bytes of one message, as large as we read
)

// Log tells of packets that were refused. It is not safe for concurrent use.
type Log struct {
	nl  *netlink.Conn
	buf []byte

	// Lost counts messages that did not get here, and Unread those that made no sense.
	Lost, Unread uint64
}

// OpenLog listens to the firewall's log in the network namespace that the file descriptor
// netns refers to, or for 0 in that of the process. It needs CAP_NET_ADMIN.
func OpenLog(netns int) (*Log, error) {
	nl, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return nil, fmt.Errorf("open nfnetlink_log: %w", err)
	}
	err = nl.SetReadBuffer(logBuffer)
	mode := binary.BigEndian.AppendUint32(nil, logRange)
	mode = append(mode, copyPacket, 0)
	for _, attr := range [][]byte{
		appendAttr(nil, nfulaCfgCmd, []byte{cmdBind}),
		appendAttr(nil, nfulaCfgMode, mode),
		appendAttr(nil, nfulaCfgBufSize, binary.BigEndian.AppendUint32(nil, logQueue)),
	} {
		_, failed := nl.Execute(netlink.Message{
			Header: netlink.Header{Type: logConfig, Flags: netlink.Request | netlink.Acknowledge},
			Data:   append([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, logGroup}, attr...),
		})
		err = errors.Join(err, failed)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen to the firewall's log: %w", err), nl.Close())
	}
	return &Log{nl: nl, buf: make([]byte, 2*logQueue)}, nil
}

// Close lets go of the kernel, and ends a Read.
func (l *Log) Close() error { return l.nl.Close() }

// Read waits for packets, calls f with those that there are, up to a bound, and returns.
// The error wraps [os.ErrDeadlineExceeded] after until.
func (l *Log) Read(until time.Time, f func(Packet)) error {
	if err := l.nl.SetReadDeadline(until); err != nil {
		return err
	}
	raw, err := l.nl.SyscallConn()
	if err != nil {
		return err
	}
	read := 0
	var failed error
	err = raw.Read(func(fd uintptr) bool {
		for read < batch {
			n, _, flags, _, err := unix.Recvmsg(int(fd), l.buf, nil, unix.MSG_DONTWAIT)
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN:
				return read > 0
			case err == unix.ENOBUFS: // what is lost here is in the counts
				l.Lost++
			case err != nil:
				failed = fmt.Errorf("read the firewall's log: %w", err)
				return true
			case flags&unix.MSG_TRUNC != 0:
				l.Unread++
			default:
				l.tell(l.buf[:n], f)
			}
			read++
		}
		return true
	})
	return errors.Join(err, failed)
}

func (l *Log) tell(b []byte, f func(Packet)) {
	err := each(b, func(typ uint16, data []byte) {
		if typ != logPacket {
			return
		}
		if p, ok := decodePacket(data); ok {
			f(p)
		} else {
			l.Unread++
		}
	})
	if err != nil {
		l.Unread++
	}
}

// decodePacket reads a message of the log; false if it is none about IPv4.
func decodePacket(data []byte) (p Packet, ok bool) {
	if len(data) < sizeofNfGenMsg {
		return Packet{}, false
	}
	for typ, v := range attributes(data[sizeofNfGenMsg:]) {
		switch typ {
		case nfulaMark:
			p.Mark = be32(v)
		case nfulaPrefix:
			p.Party = cString(v)
		case nfulaHWAddr:
			// struct nfulnl_msg_packet_hw: length, padding, up to eight bytes.
			if len(v) >= 4+6 && binary.BigEndian.Uint16(v) == 6 {
				p.MAC = model.MAC(v[4:10])
			}
		case nfulaPayload:
			ok = p.decodeIP(v)
		}
	}
	return p, ok && p.Party != ""
}

// decodeIP reads the beginning of an IPv4 packet, RFC 791 section 3.1.
func (p *Packet) decodeIP(b []byte) bool {
	const minHeader = 20
	if len(b) < minHeader || b[0]>>4 != 4 {
		return false
	}
	header := int(b[0]&0xf) * 4
	if header < minHeader || header > len(b) {
		return false
	}
	p.Bytes = int(binary.BigEndian.Uint16(b[2:]))
	p.Proto = b[9]
	p.Src, p.Dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	first := binary.BigEndian.Uint16(b[6:])&0x1fff == 0 // only the first fragment has ports
	switch rest := b[header:]; {
	case !first:
	case p.Proto == model.ProtoICMP && len(rest) >= 1:
		p.Port = uint16(rest[0])
	case model.HasPorts(p.Proto) && len(rest) >= 4:
		p.SrcPort, p.Port = binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
	}
	return true
}
