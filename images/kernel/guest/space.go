//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/jsimonetti/rtnetlink/v2/driver"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// space is the descriptor of a network namespace. It is never closed: the machine
// does not live long.
type space int

func newSpace() (space, error) {
	type result struct {
		f   *os.File
		err error
	}
	c := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			c <- result{err: err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		c <- result{f, err}
	}()
	r := <-c
	if r.err != nil {
		return 0, fmt.Errorf("make a network namespace: %w", r.err)
	}
	spaces = append(spaces, r.f)
	s := space(r.f.Fd())
	return s, s.up("lo")
}

// spaces keeps the files from being closed by the garbage collector.
var spaces []*os.File

// do calls f on a thread in the namespace. Sockets that f opens stay there.
func (s space) do(f func() error) error {
	c := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(int(s), unix.CLONE_NEWNET); err != nil {
			c <- err
			return
		}
		c <- f()
	}()
	return <-c
}

// with calls f with a connection to the namespace's links, addresses and routes.
func (s space) with(f func(*rtnetlink.Conn) error) error {
	nl, err := rtnetlink.Dial(&netlink.Config{NetNS: int(s)})
	if err != nil {
		return err
	}
	return errors.Join(f(nl), nl.Close())
}

func (s space) index(link string) (index uint32, err error) {
	err = s.do(func() error {
		i, err := net.InterfaceByName(link)
		if err == nil {
			index = uint32(i.Index)
		}
		return err
	})
	return index, err
}

func (s space) up(link string) error {
	index, err := s.index(link)
	if err != nil {
		return fmt.Errorf("find %s: %w", link, err)
	}
	return s.with(func(nl *rtnetlink.Conn) error {
		return nl.Link.Set(&rtnetlink.LinkMessage{Index: index, Flags: unix.IFF_UP, Change: unix.IFF_UP})
	})
}

func (s space) remove(link string) error {
	index, err := s.index(link)
	if err != nil {
		return err
	}
	return s.with(func(nl *rtnetlink.Conn) error { return nl.Link.Delete(index) })
}

// veth makes a pair of links, one end with the MAC in s and the other in peer.
func (s space) veth(link string, mac net.HardwareAddr, peer space, peerLink string) error {
	err := s.with(func(nl *rtnetlink.Conn) error {
		return nl.Link.New(&rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{
			Name: link, Address: mac,
			Info: &rtnetlink.LinkInfo{Kind: "veth", Data: &driver.Veth{PeerInfo: &rtnetlink.LinkMessage{
				Attributes: &rtnetlink.LinkAttributes{Name: peerLink, NetNS: rtnetlink.NetNSForFD(uint32(peer))},
			}}},
		}})
	})
	if err != nil {
		return fmt.Errorf("make links %s and %s: %w", link, peerLink, err)
	}
	return errors.Join(s.up(link), peer.up(peerLink))
}

// dummy makes a link that leads nowhere.
func (s space) dummy(link string) error {
	return s.with(func(nl *rtnetlink.Conn) error {
		return nl.Link.New(&rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{Name: link, Info: &rtnetlink.LinkInfo{Kind: "dummy"}}})
	})
}

// vlan makes the link eth0 in client for a VLAN of a link in s.
func (s space) vlan(link string, id uint16, mac net.HardwareAddr, client space) error {
	parent, err := s.index(link)
	if err != nil {
		return err
	}
	err = s.with(func(nl *rtnetlink.Conn) error {
		return nl.Link.New(&rtnetlink.LinkMessage{Attributes: &rtnetlink.LinkAttributes{
			Name: "eth0", Address: mac, Type: parent, NetNS: rtnetlink.NetNSForFD(uint32(client)),
			Info: &rtnetlink.LinkInfo{Kind: "vlan", Data: &driver.Vlan{ID: &id}},
		}})
	})
	if err != nil {
		return fmt.Errorf("make VLAN %d of %s: %w", id, link, err)
	}
	return client.up("eth0")
}

func (s space) address(link string, p netip.Prefix) error {
	index, err := s.index(link)
	if err != nil {
		return err
	}
	return s.with(func(nl *rtnetlink.Conn) error {
		return nl.Address.New(&rtnetlink.AddressMessage{
			Family: unix.AF_INET, PrefixLength: uint8(p.Bits()), Scope: unix.RT_SCOPE_UNIVERSE, Index: index,
			Attributes: &rtnetlink.AddressAttributes{Address: p.Addr().AsSlice(), Local: p.Addr().AsSlice()},
		})
	})
}

// gateway makes a the way to everywhere.
func (s space) gateway(a netip.Addr) error {
	return s.with(func(nl *rtnetlink.Conn) error {
		return nl.Route.Add(&rtnetlink.RouteMessage{
			Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC,
			Scope: unix.RT_SCOPE_UNIVERSE, Type: unix.RTN_UNICAST,
			Attributes: rtnetlink.RouteAttributes{Gateway: a.AsSlice()},
		})
	})
}

// listen opens a UDP socket in the namespace.
func (s space) listen(at string) (conn *net.UDPConn, err error) {
	err = s.do(func() error {
		conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
		return err
	})
	return conn, err
}
