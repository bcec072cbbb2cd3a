package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// look is how often a link is looked at: whether it is there, and still the same.
const look = time.Second

// conn is how the server talks on one link.
type conn struct {
	link  string
	index int
	udp   *net.UDPConn // bound to the link, port 67
	raw   int          // packet socket for clients without an address; sends only
	once  sync.Once

	mu    sync.Mutex // of frame
	frame []byte
}

// linkIndex returns the kernel's index of a link, which changes when the link is
// made anew under the same name.
func linkIndex(link string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(link)
	if err != nil {
		return 0, fmt.Errorf("link %q: %w", link, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, fmt.Errorf("find link %s: %w", link, err)
	}
	return int(req.Uint32()), nil
}

// open returns a conn on link. It needs CAP_NET_RAW and CAP_NET_BIND_SERVICE.
func open(ctx context.Context, link string) (*conn, error) {
	index, err := linkIndex(link)
	if err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		ctlErr := c.Control(func(fd uintptr) { err = setOptions(int(fd), link) })
		return errors.Join(ctlErr, err)
	}}
	// All addresses, because clients without one send to 255.255.255.255.
	p, err := lc.ListenPacket(ctx, "udp4", fmt.Sprintf("0.0.0.0:%d", serverPort))
	if err != nil {
		return nil, fmt.Errorf("listen on link %s: %w", link, err)
	}
	// Protocol 0: this socket receives nothing.
	raw, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	return &conn{link: link, index: index, udp: p.(*net.UDPConn), raw: raw}, nil
}

func setOptions(fd int, link string) error {
	if err := unix.BindToDevice(fd, link); err != nil {
		return fmt.Errorf("bind to link %s: %w", link, err)
	}
	// More than the system's limit is cut to it without an error.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20); err != nil {
		return fmt.Errorf("set receive buffer: %w", err)
	}
	return nil
}

// close closes c; more than once is fine.
func (c *conn) close() {
	c.once.Do(func() {
		c.udp.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		unix.Close(c.raw)
		c.raw = -1
	})
}

// serve hands each packet to receive, until ctx ends or the link is gone.
func (c *conn) serve(ctx context.Context, receive func(packet []byte)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.close()
	wg.Go(func() {
		cancel(c.watch(ctx))
		c.close()
	})
	// One byte more than any frame that we take, so that cut ones do not pass for whole.
	buf := make([]byte, 2049)
	for {
		n, _, err := c.udp.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			cancel(nil)
			return fmt.Errorf("receive on link %s: %w", c.link, err)
		}
		if n < len(buf) {
			receive(buf[:n])
		}
	}
}

// watch returns when ctx ends or the link is no more the one that c is bound to:
// such a socket never receives again, and tells nobody.
func (c *conn) watch(ctx context.Context) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		index, err := linkIndex(c.link)
		if err != nil {
			return err
		}
		if index != c.index {
			return fmt.Errorf("link %s was replaced", c.link)
		}
	}
}

// send gives a reply to the kernel. It never blocks: a reply that finds no room is
// lost like any datagram, and the client asks again.
func (c *conn) send(r *reply) error {
	if r.to.dst == everybody || !r.to.mac.IsZero() {
		return c.sendFrame(r)
	}
	port := uint16(clientPort)
	if r.to.relay {
		port = serverPort
	}
	// The zone's address is the source, even if the link has others.
	oob := unix.PktInfo4(&unix.Inet4Pktinfo{Ifindex: int32(c.index), Spec_dst: r.to.src.As4()})
	_, _, err := c.udp.WriteMsgUDPAddrPort(r.data, oob, netip.AddrPortFrom(r.to.dst, port))
	return err
}

func (c *conn) sendFrame(r *reply) error {
	to := unix.SockaddrLinklayer{
		Protocol: uint16(unix.ETH_P_IP>>8 | unix.ETH_P_IP&0xff<<8), // network byte order
		Ifindex:  c.index,
		Halen:    6,
		Addr:     [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	}
	if !r.to.mac.IsZero() {
		copy(to.Addr[:], r.to.mac[:])
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frame = datagram(c.frame[:0], r.to.src, r.to.dst, r.data)
	return unix.Sendto(c.raw, c.frame, 0, &to)
}
