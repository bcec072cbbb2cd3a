//go:build linux

package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// receiveBuffer holds a burst of probes even if nobody reads for a while.
const receiveBuffer = 8 << 20

// Sighting is a packet with a token, seen at a socket.
type Sighting struct {
	Seen
	Sent  bool // on its way out of the host, not in
	Other bool // for another machine on the segment
	Index int  // of the interface; 0: delivered to the host itself
}

// Tap watches for packets in the network namespace of the thread that opened it.
type Tap struct {
	sockets []*socket
	wg      sync.WaitGroup
}

// socket is one of a tap's sockets.
type socket struct {
	file *os.File
	conn syscall.RawConn
	mu   sync.Mutex // held while a datagram is taken and handled
	buf  []byte
	seen func(b []byte, from unix.Sockaddr)
}

// Close ends the watching and returns when no more sightings will be reported.
func (t *Tap) Close() {
	for _, s := range t.sockets {
		s.file.Close()
	}
	t.wg.Wait()
}

// Drain returns when everything has been reported that the kernel has given to the
// tap's sockets so far.
func (t *Tap) Drain() error {
	for _, s := range t.sockets {
		var rerr error
		err := s.conn.Control(func(fd uintptr) {
			for rerr == nil {
				rerr = s.take(int(fd))
			}
		})
		if err = errors.Join(err, rerr); !errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("drain: %w", err)
		}
	}
	return nil
}

// take reads one datagram and reports it.
func (s *socket) take(fd int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, from, err := unix.Recvfrom(fd, s.buf, 0)
	switch {
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENETDOWN): // an interface went away
		return nil
	case err == nil:
		s.seen(s.buf[:n], from)
	}
	return err
}

// OpenTap reports every packet with a token that any interface of the thread's
// network namespace receives or sends, before the packet filter on the way in and
// after it on the way out. The callback must not block; it is called from one
// goroutine.
func OpenTap(seen func(Sighting)) (*Tap, error) {
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all&0xffff)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	t := &Tap{}
	err = t.watch(fd, func(b []byte, from unix.Sockaddr) {
		s, ok := Parse(b)
		if ll, isLL := from.(*unix.SockaddrLinklayer); ok && isLL {
			seen(Sighting{
				Seen:  s,
				Sent:  ll.Pkttype == unix.PACKET_OUTGOING,
				Other: ll.Pkttype == unix.PACKET_OTHERHOST,
				Index: ll.Ifindex,
			})
		}
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// OpenLocal reports every packet with a token that is delivered to the thread's
// network namespace itself, after the packet filter, whether or not anybody
// listens. The callback must not block and may be called from several goroutines.
func OpenLocal(seen func(Sighting)) (*Tap, error) {
	t := &Tap{}
	for _, proto := range []int{TCP, UDP, ICMP, SCTP, GRE} {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
		if err == nil {
			err = t.watch(fd, func(b []byte, _ unix.Sockaddr) {
				if s, ok := Parse(b); ok {
					seen(Sighting{Seen: s})
				}
			})
		}
		if err != nil {
			t.Close()
			return nil, fmt.Errorf("open raw socket for protocol %d: %w", proto, err)
		}
	}
	for _, proto := range []int{TCP, UDP, ICMPv6, SCTP} {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			break
		}
		if err == nil {
			err = t.watch(fd, func(b []byte, _ unix.Sockaddr) { // without the IPv6 header
				if tok, ok := FindToken(b); ok {
					s := Seen{Token: tok, Proto: uint8(proto)}
					if proto == ICMPv6 {
						s.Type = b[0]
					}
					seen(Sighting{Seen: s})
				}
			})
		}
		if err != nil {
			t.Close()
			return nil, fmt.Errorf("open raw IPv6 socket for protocol %d: %w", proto, err)
		}
	}
	return t, nil
}

// watch takes over fd and hands every datagram to seen.
func (t *Tap) watch(fd int, seen func(b []byte, from unix.Sockaddr)) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		unix.Close(fd)
		return fmt.Errorf("enlarge receive buffer: %w", err)
	}
	s := &socket{file: os.NewFile(uintptr(fd), "tap"), buf: make([]byte, 1<<16), seen: seen}
	var err error
	if s.conn, err = s.file.SyscallConn(); err != nil {
		return errors.Join(err, s.file.Close())
	}
	t.sockets = append(t.sockets, s)
	t.wg.Go(func() {
		for {
			var rerr error
			err := s.conn.Read(func(fd uintptr) bool {
				rerr = s.take(int(fd))
				return !errors.Is(rerr, unix.EAGAIN)
			})
			if err != nil || rerr != nil { // closed
				return
			}
		}
	})
	return nil
}

// Wire sends Ethernet frames on one interface, past any packet filter of the
// sending host.
type Wire struct {
	fd   int
	addr unix.SockaddrLinklayer
	MAC  net.HardwareAddr // of the interface
}

// OpenWire opens the interface of that name in the thread's network namespace.
func OpenWire(name string) (*Wire, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	// Protocol 0 receives nothing: the socket is for sending only.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	return &Wire{fd: fd, addr: unix.SockaddrLinklayer{Ifindex: ifi.Index}, MAC: ifi.HardwareAddr}, nil
}

// Close closes the socket.
func (w *Wire) Close() error { return unix.Close(w.fd) }

// Send sends an IP packet in a frame with the given addresses.
func (w *Wire) Send(src, dst net.HardwareAddr, ip []byte) error {
	etherType := uint16(unix.ETH_P_IP)
	if ip[0]>>4 == 6 {
		etherType = unix.ETH_P_IPV6
	}
	frame := make([]byte, 0, 14+len(ip))
	frame = append(append(frame, dst...), src...)
	frame = binary.BigEndian.AppendUint16(frame, etherType)
	return w.SendFrame(append(frame, ip...))
}

// SendFrame sends a frame as it is.
func (w *Wire) SendFrame(frame []byte) error { return unix.Sendto(w.fd, frame, 0, &w.addr) }

// AskForMAC broadcasts an ARP question for an IPv4 address on behalf of another,
// RFC 826. Who is asked learns the asker's address by it.
func (w *Wire) AskForMAC(asker, asked netip.Addr) error {
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, w.MAC...)
	frame = append(frame, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1) // Ethernet, IPv4, request
	frame = append(append(frame, w.MAC...), asker.AsSlice()...)
	frame = append(append(frame, make([]byte, 6)...), asked.AsSlice()...)
	return unix.Sendto(w.fd, frame, 0, &w.addr)
}

// Raw sends IPv4 packets as a program of the host would, through its routes and
// its packet filter.
type Raw struct{ fd int }

// OpenRaw opens a raw socket in the thread's network namespace; the packet filter
// sees the user whom the thread acts for.
func OpenRaw() (*Raw, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return nil, fmt.Errorf("open raw socket: %w", err)
	}
	return &Raw{fd}, nil
}

// Close closes the socket.
func (r *Raw) Close() error { return unix.Close(r.fd) }

// Send sends an IPv4 packet to the destination in its header. The error wraps
// [unix.EPERM] if the packet filter dropped it.
func (r *Raw) Send(ip []byte) error {
	dst := netip.AddrFrom4([4]byte(ip[16:20]))
	if err := unix.Sendto(r.fd, ip, 0, &unix.SockaddrInet4{Addr: dst.As4()}); err != nil {
		return fmt.Errorf("send to %s: %w", dst, err)
	}
	return nil
}
