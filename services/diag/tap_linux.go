package diag

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"bulkhead/services/diag/api"
	"bulkhead/services/diag/pcap"
)

// room is how much the kernel holds until it is read, in bytes. More than the system's
// limit is cut to that.
const room = 4 << 20

// Types of frames that carry the tag of a VLAN: IEEE 802.1Q.
const (
	etherVLAN  = 0x8100
	etherSVLAN = 0x88a8
)

// guarded has a program see only frames that are the link's own. A socket on a port sees
// the frames of all VLANs that the port carries, with their tag taken off or not; they
// belong to other zones.
func guarded(program []bpf.Instruction) []bpf.Instruction {
	return append([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: etherVLAN, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: etherSVLAN, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}, program...)
}

// tap is a socket that gets the frames of a link that a program takes.
type tap struct {
	link    string
	program []bpf.Instruction

	file *os.File
	conn syscall.RawConn
	buf  [api.MaxSnap]byte
	oob  [256]byte

	frames, bytes, missed uint64
}

// open begins. It takes CAP_NET_RAW.
func (t *tap) open() error {
	ifi, err := net.InterfaceByName(t.link)
	if err != nil {
		return fmt.Errorf("link %s: %w", t.link, err)
	}
	if len(ifi.HardwareAddr) != 6 {
		return fmt.Errorf("link %s is no Ethernet", t.link)
	}
	raw, err := bpf.Assemble(t.program)
	if err != nil {
		return fmt.Errorf("filter: %w", err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, in := range raw {
		code[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	// Without a protocol it gets nothing until it is bound: no frame comes unfiltered.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	t.file = os.NewFile(uintptr(fd), "packet socket")
	if err := errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index}),
	); err != nil {
		t.file.Close()
		return fmt.Errorf("listen on link %s: %w", t.link, err)
	}
	t.conn, err = t.file.SyscallConn()
	return err
}

// all is ETH_P_ALL in network order, on the machines that there are images for.
const all = unix.ETH_P_ALL << 8

func (t *tap) close() { t.file.Close() }

// record writes frames until ctx ends or there are enough. The error says why it ended before
// that.
func (t *tap) record(ctx context.Context, out *stream, in *api.Watch) error {
	defer context.AfterFunc(ctx, func() { _ = t.file.SetReadDeadline(time.Now()) })()
	counted := &counter{out, &t.bytes}
	w, err := pcap.NewWriter(counted, in.Snap)
	for out.flush(); err == nil && t.frames < uint64(in.Packets); {
		var f frame
		if f, err = t.next(out.flush); err != nil || t.bytes+pcap.RecordSize+uint64(len(f.data)) > uint64(in.Bytes) {
			break
		}
		if err = w.Write(f.at, f.data, f.length); err == nil {
			t.frames++
		}
	}
	_ = t.conn.Control(func(fd uintptr) {
		if s, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			t.missed = uint64(s.Drops)
		}
	})
	if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// counter counts what is written.
type counter struct {
	io.Writer
	n *uint64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	*c.n += uint64(n)
	return n, err
}

// frame is one that was seen.
type frame struct {
	at     time.Time
	data   []byte // its beginning, until the next is read
	length int    // of the whole
}

// next waits for a frame. Before it waits, it calls idle.
func (t *tap) next(idle func()) (f frame, err error) {
	for waits := false; ; waits = true {
		var n, oobn int
		var rerr error
		err = t.conn.Read(func(fd uintptr) bool {
			n, oobn, _, _, rerr = unix.Recvmsg(int(fd), t.buf[:], t.oob[:], 0)
			return rerr != unix.EAGAIN || !waits
		})
		switch {
		case err != nil:
			return f, err
		case rerr == unix.EAGAIN:
			idle()
		case rerr == unix.EINTR:
		case rerr != nil:
			return f, rerr
		default:
			f = frame{time.Now(), t.buf[:n], n}
			return f, f.told(t.oob[:oobn])
		}
	}
}

// told takes what the kernel says of a frame: when it came, and how long it was.
func (f *frame) told(oob []byte) error {
	list, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("what the kernel says of a frame: %w", err)
	}
	for _, m := range list {
		switch {
		case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16: // struct timespec
			f.at = time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		case m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 8: // struct tpacket_auxdata
			f.length = int(binary.NativeEndian.Uint32(m.Data[4:])) // tp_len
		}
	}
	return nil
}
