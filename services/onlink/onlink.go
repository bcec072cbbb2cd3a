//go:build linux

// Package onlink opens the sockets of servers that answer in one zone: at one address, and
// for what comes over one link.
package onlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Place is where a server listens. The address need not exist yet; the link must.
type Place struct {
	Addr netip.AddrPort
	Link string // "": any
}

// The pace of [Place.Serve].
const (
	retry = 500 * time.Millisecond // of a link that is not there yet
	watch = time.Second            // for one that has been made anew
)

// Pair is a place's open sockets.
type Pair struct {
	UDP *net.UDPConn
	TCP net.Listener
}

// Serve opens the sockets of a place and calls serve with them, until ctx ends, and again
// whenever another link has taken over the name: sockets stay with the old one, and hear
// nothing from then on. on ends with ctx or with the link; serve returns then, or sooner
// with an error, and the sockets are closed. trouble hears of each new reason why nobody is
// served.
func (p Place) Serve(ctx context.Context, serve func(on context.Context, s *Pair) error, trouble func(error)) {
	for said := ""; ctx.Err() == nil; {
		wait := retry
		if err := p.serve(ctx, serve); err == nil {
			said, wait = "", 0
		} else if err.Error() != said && ctx.Err() == nil {
			said = err.Error()
			trouble(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (p Place) serve(ctx context.Context, serve func(context.Context, *Pair) error) error {
	index, err := p.index()
	if err != nil {
		return err
	}
	s, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	on, end := context.WithCancel(ctx)
	defer end()
	go func() {
		defer end()
		p.watch(on, index)
	}()
	return serve(on, s)
}

// watch returns when ctx ends or the link is not the one with the index any more.
func (p Place) watch(ctx context.Context, index int) {
	tick := time.NewTicker(watch)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now, err := p.index(); err != nil || now != index {
			return
		}
	}
}

// open opens both sockets of a place.
func (p Place) open(ctx context.Context) (*Pair, error) {
	udp, err := p.listenUDP(ctx)
	if err != nil {
		return nil, err
	}
	tcp, err := p.ListenTCP(ctx)
	if err != nil {
		udp.Close()
		return nil, err
	}
	return &Pair{udp, tcp}, nil
}

func (s *Pair) close() { _, _ = s.UDP.Close(), s.TCP.Close() } // who served may have

func (p Place) listenUDP(ctx context.Context) (*net.UDPConn, error) {
	lc := p.config()
	c, err := lc.ListenPacket(ctx, "udp4", p.Addr.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// ListenTCP opens a socket for connections.
func (p Place) ListenTCP(ctx context.Context) (net.Listener, error) {
	lc := p.config()
	return lc.Listen(ctx, "tcp4", p.Addr.String())
}

func (p Place) config() net.ListenConfig {
	return net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = p.prepare(int(fd), network) }), err)
	}}
}

// prepare sets the options of a socket that is not bound yet.
func (p Place) prepare(fd int, network string) error {
	// The order of netcfgd's work and the server's does not matter: the address may come later.
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
	if p.Link == "" {
		return nil
	}
	// Linux 5.7 and later let anybody bind a socket that is not bound to a link.
	if err := unix.BindToDevice(fd, p.Link); err != nil {
		return fmt.Errorf("bind to link %s: %w", p.Link, err)
	}
	return nil
}

// index returns the kernel's index of the link, which changes when the link is made anew.
// It is 0 without one.
func (p Place) index() (int, error) {
	if p.Link == "" {
		return 0, nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for link %s: %w", p.Link, err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(p.Link)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr)
	}
	if err != nil {
		return 0, fmt.Errorf("listen on link %s: %w", p.Link, err)
	}
	return int(ifr.Uint32()), nil
}
