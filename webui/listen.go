//go:build linux

package webui

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds on connections, for one port. A browser opens six; who opens more than these
// is cut off at once, and nobody else notices.
const (
	maxConns       = 256
	maxClientConns = 32 // of one address
)

// retry is how often an address is tried again on which nothing could listen.
const retry = time.Second

// listeners listen on one port of the addresses that they are told, and serve what
// comes. Addresses that stay are left alone when others come or go, and connections
// stay in any case.
type listeners struct {
	log   *slog.Logger
	port  uint16
	serve func(net.Listener) error // until the listener is closed
	guard quota[netip.Addr]
	admit func(netip.Addr) bool // whether an address is one from which the pages are reached

	want chan []netip.Addr
	open map[netip.Addr]net.Listener
	said map[netip.Addr]string // errors that were logged
	wg   sync.WaitGroup
}

func newListeners(log *slog.Logger, port uint16, admit func(netip.Addr) bool, serve func(net.Listener) error) *listeners {
	return &listeners{
		log: log, port: port, admit: admit, serve: serve, guard: quota[netip.Addr]{all: maxConns, each: maxClientConns}, want: make(chan []netip.Addr, 1),
		open: make(map[netip.Addr]net.Listener), said: make(map[netip.Addr]string),
	}
}

// follow says which addresses are wanted. It does not wait. One goroutine may call it.
func (s *listeners) follow(addrs []netip.Addr) {
	select {
	case <-s.want: // not taken yet, and old now
	default:
	}
	s.want <- addrs
}

// run opens and closes listeners until ctx ends.
func (s *listeners) run(ctx context.Context) error {
	defer s.wg.Wait()
	var want []netip.Addr
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			s.set(ctx, nil)
			return ctx.Err()
		case want = <-s.want:
		case <-again:
		}
		again = nil
		if !s.set(ctx, want) {
			again = time.After(retry)
		}
	}
}

// set makes the open listeners those that are wanted, and reports whether it could.
func (s *listeners) set(ctx context.Context, want []netip.Addr) bool {
	for a, l := range s.open {
		if !slices.Contains(want, a) {
			_ = l.Close() // nothing was written to it
			delete(s.open, a)
			s.log.Info("no longer listening", "address", netip.AddrPortFrom(a, s.port))
		}
	}
	maps.DeleteFunc(s.said, func(a netip.Addr, _ string) bool { return !slices.Contains(want, a) })
	all := true
	for _, a := range want {
		if s.open[a] != nil {
			continue
		}
		l, err := listen(ctx, netip.AddrPortFrom(a, s.port))
		if err != nil {
			all = false
			if s.said[a] != err.Error() {
				s.said[a] = err.Error()
				s.log.Error("cannot listen", "err", err)
			}
			continue
		}
		delete(s.said, a)
		s.open[a] = l
		s.log.Info("listening", "address", l.Addr())
		s.wg.Go(func() {
			err := s.serve(&guarded{l, &s.guard, s.admit})
			if !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
				s.log.Error("serve", "address", l.Addr(), "err", err)
			}
		})
	}
	return all
}

// listen opens a listener on an address that the box may get only later: netcfgd
// writes the configuration of services before it gives links their addresses.
func listen(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		level, opt := unix.SOL_IP, unix.IP_FREEBIND
		if at.Addr().Is6() {
			level, opt = unix.SOL_IPV6, unix.IPV6_FREEBIND
		}
		var setErr error
		err := c.Control(func(fd uintptr) { setErr = unix.SetsockoptInt(int(fd), level, opt, 1) })
		return errors.Join(err, setErr)
	}}
	return lc.Listen(ctx, "tcp", at.String())
}

// guarded is a listener that hangs up on connections that the guard has no room for, and on
// those from elsewhere: the ruleset lets none through, and is not the only one to look.
type guarded struct {
	net.Listener
	guard *quota[netip.Addr]
	admit func(netip.Addr) bool
}

func (l *guarded) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := addrOf(c.RemoteAddr().String())
		if l.admit(from) && l.guard.enter(from) {
			return &counted{Conn: c, leave: sync.OnceFunc(func() { l.guard.leave(from) })}, nil
		}
		_ = c.Close() // nothing was written to it
	}
}

type counted struct {
	net.Conn
	leave func()
}

func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close()
}

// addrOf returns the address in what [net] calls host and port; the zero address if
// there is none.
func addrOf(hostport string) netip.Addr {
	ap, _ := netip.ParseAddrPort(hostport)
	return ap.Addr().Unmap().WithZone("")
}
