package echo

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// maxMessage is more than is read of any message, in bytes: what they quote of a request
// stands at their beginning.
const maxMessage = 1500

// socket is the real [wire]: a raw socket, which hears of hops without another's help.
// It takes CAP_NET_RAW.
type socket struct {
	key
	target netip.Addr
	conn   *ipv4.PacketConn
	heard  chan answer
	reader sync.WaitGroup
}

func open(target netip.Addr) (*socket, error) {
	c, err := net.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return nil, fmt.Errorf("open a socket for ICMP: %w", err)
	}
	s := &socket{target: target, conn: ipv4.NewPacketConn(c), heard: make(chan answer, 16)}
	var filter ipv4.ICMPFilter
	filter.SetAll(true)
	for _, kind := range []ipv4.ICMPType{ipv4.ICMPTypeEchoReply, ipv4.ICMPTypeDestinationUnreachable, ipv4.ICMPTypeTimeExceeded} {
		filter.Accept(kind)
	}
	if err := s.conn.SetICMPFilter(&filter); err != nil {
		c.Close()
		return nil, fmt.Errorf("filter ICMP: %w", err)
	}
	var id [2]byte
	rand.Read(id[:]) // never fails
	rand.Read(s.token[:])
	s.id = uint16(id[0])<<8 | uint16(id[1])
	s.reader.Go(func() {
		defer close(s.heard)
		s.read()
	})
	return s, nil
}

func (s *socket) close() {
	s.conn.Close()
	s.reader.Wait()
}

func (s *socket) answers() <-chan answer { return s.heard }

// read hands on what is heard, until the socket is closed. What nobody takes is dropped:
// a flood holds up no one.
func (s *socket) read() {
	buf := make([]byte, maxMessage)
	for {
		n, _, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		ip, ok := from.(*net.IPAddr)
		if !ok {
			continue
		}
		addr, _ := netip.AddrFromSlice(ip.IP)
		if a, ok := s.key.read(addr.Unmap(), s.target, buf[:n]); ok {
			a.at = time.Now()
			select {
			case s.heard <- a:
			default:
			}
		}
	}
}

func (s *socket) send(number uint16, ttl int) error {
	if err := s.conn.SetTTL(ttl); err != nil {
		return fmt.Errorf("set the time to live: %w", err)
	}
	_, err := s.conn.WriteTo(s.request(number), nil, &net.IPAddr{IP: s.target.AsSlice()})
	switch {
	case errors.Is(err, unix.EPERM):
		return errors.New("the box's rules refuse it")
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return errors.New("the box has no way there")
	}
	return err
}
