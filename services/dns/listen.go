package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	retryListen = 500 * time.Millisecond // for a link that is not there yet
	watchLink   = time.Second            // for one that has been made anew
	drain       = 200 * time.Millisecond // of a socket that is to be closed
)

// place is where a zone is listened in.
type place struct {
	addr netip.AddrPort
	link string // "": any
}

// listener answers the queries of one zone. What it answers may change; where it
// listens does not.
type listener struct {
	srv    *server
	ctx    context.Context
	cancel context.CancelFunc
	place  place
	view   atomic.Pointer[view]
	opened chan struct{} // closed when it listens for the first time
	open   atomic.Bool   // it listens
}

// sockets are a listener's open ones.
type sockets struct {
	udp   *net.UDPConn
	tcp   net.Listener
	index int // of the link they are bound to; 0: none
}

// run listens until ctx ends, and again whenever the link that it is bound to has
// been replaced by another of the same name: a socket stays with the old one.
func (l *listener) run() {
	log := l.srv.log.With("zone", l.view.Load().zone.Zone, "address", l.place.addr, "link", l.place.link)
	var said string
	for l.ctx.Err() == nil {
		s, err := l.place.open(l.ctx)
		wait := retryListen
		if err == nil {
			log.Info("answers")
			said = ""
			l.serve(s)
			wait = 0
		} else if said != err.Error() && l.ctx.Err() == nil {
			said = err.Error()
			log.Warn("cannot listen yet", "err", err)
		}
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// serve uses s until the listener is cancelled or its link is another one.
func (l *listener) serve(s *sockets) {
	var serving sync.WaitGroup
	serving.Go(func() { l.serveUDP(s.udp) })
	serving.Go(func() { l.serveTCP(s.tcp) })
	l.open.Store(true)
	defer l.open.Store(false)
	select {
	case <-l.opened:
	default:
		close(l.opened)
	}
	tick := time.NewTicker(watchLink)
	defer tick.Stop()
	for same := true; same; {
		select {
		case <-l.ctx.Done():
			same = false
		case <-tick.C:
			same = l.place.link == "" || linkIndex(l.place.link) == s.index
		}
	}
	s.tcp.Close()
	wait := drain // what has arrived by now is still answered
	if l.srv.ctx.Err() != nil {
		wait = 0
	}
	s.udp.SetReadDeadline(time.Now().Add(wait))
	serving.Wait()
	s.udp.Close()
}

// open opens the two sockets of a place. The address need not exist yet; the link
// must.
func (p place) open(ctx context.Context) (*sockets, error) {
	s := new(sockets)
	if p.link != "" {
		if s.index = linkIndex(p.link); s.index == 0 {
			return nil, fmt.Errorf("listen on link %s: %w", p.link, unix.ENODEV)
		}
	}
	lc := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = p.prepare(int(fd), network) }), err)
	}}
	pc, err := lc.ListenPacket(ctx, "udp4", p.addr.String())
	if err != nil {
		return nil, err
	}
	s.udp = pc.(*net.UDPConn)
	// Best effort: bursts of a whole zone fit, as far as the system lets them.
	s.udp.SetReadBuffer(1 << 20)
	if s.tcp, err = lc.Listen(ctx, "tcp4", p.addr.String()); err != nil {
		pc.Close()
		return nil, err
	}
	return s, nil
}

// prepare sets the options of a socket that is not bound yet.
func (p place) prepare(fd int, network string) error {
	// The order of netcfgd's work and ours does not matter: the address may come later.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1); err != nil {
		return fmt.Errorf("set IP_FREEBIND: %w", err)
	}
	// A socket with another link takes over before this one is closed.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("set SO_REUSEPORT: %w", err)
	}
	if network == "udp4" {
		// Forged "fragmentation needed" messages must not make us send fragments,
		// into which others could slip forged parts.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT); err != nil {
			return fmt.Errorf("set IP_MTU_DISCOVER: %w", err)
		}
	}
	if p.link == "" {
		return nil
	}
	// Linux 5.7 and later let anybody bind a socket that is not bound to a link.
	if err := unix.BindToDevice(fd, p.link); err != nil {
		return fmt.Errorf("bind to link %s: %w", p.link, err)
	}
	return nil
}

// linkIndex returns the index of a link, or 0 if there is none of that name.
func linkIndex(name string) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil || unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr) != nil {
		return 0
	}
	return int(ifr.Uint32())
}
