//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bulkhead/images/lab/probe"
)

// Prober sends packets through the gateway and says where they arrived. Evidence
// is what the receiver saw, never that nothing was heard for a while: see [Prober.Fire].
type Prober struct {
	*gallery
	local *probe.Tap             // what is delivered to the gateway itself
	links map[string]*probe.Wire // the gateway's, by link
	raws  map[int]*probe.Raw     // the gateway's, by user
}

// NewProber opens taps in all hosts that the lab has now, and makes sure that the
// gateway knows the MAC addresses of all that have an IP address. Close closes
// everything.
func (l *Lab) NewProber(ctx context.Context) (*Prober, error) {
	p := &Prober{gallery: newGallery(l), links: make(map[string]*probe.Wire), raws: make(map[int]*probe.Raw)}
	err := p.open()
	if err == nil {
		err = p.introduce(ctx)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Prober) open() error {
	l := p.lab
	err := p.gallery.open(func(party string) (net.HardwareAddr, error) {
		link := l.Link(party)
		if p.links[link] == nil {
			err := l.Gateway.Do(func() error {
				out, err := probe.OpenWire(link)
				if err == nil {
					p.links[link] = out
				}
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		return p.links[link].MAC, nil
	})
	if err != nil {
		return err
	}
	if err := p.tap(l.Gateway, p.metAtGateway); err != nil {
		return err
	}
	return l.Gateway.Do(func() error {
		var err error
		p.local, err = probe.OpenLocal(func(s probe.Sighting) { p.sighted(l.Gateway.Name, s) })
		return err
	})
}

// Close ends the watching.
func (p *Prober) Close() {
	if p.local != nil {
		p.taps = append(p.taps, p.local)
	}
	p.gallery.close()
	for _, w := range p.links {
		w.Close()
	}
	for _, r := range p.raws {
		r.Close()
	}
}

// metAtGateway notes that a packet has reached the gateway, whatever it decides.
func (p *Prober) metAtGateway(s probe.Sighting) {
	if s.Sent || s.Other {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.flights[s.Token]; f != nil && !f.met {
		f.met = true
		p.wake()
	}
}

// Fire sends the shots and says, in their order, what became of each.
//
// It does not wait for things not to happen. First it waits until the gateway has
// received every shot. The gateway decides on a packet and passes it on within the
// same turn of the kernel's receive queue of one CPU. Then, for every CPU, it sends
// packets past the gateway's filter to each host: when they are there, so is all
// that was queued before them.
//
// Shots of protocols without ports are sent host by host, with the gateway's
// connections forgotten in between: otherwise one could pass as the answer to
// another.
func (p *Prober) Fire(ctx context.Context, shots []Shot) ([]Hit, error) {
	hits := make([]Hit, len(shots))
	var ported []int
	portless := make(map[*Host][]int)
	for i, s := range shots {
		if slices.Contains([]uint8{probe.TCP, probe.UDP, probe.SCTP, probe.ICMP, probe.ICMPv6}, s.Packet.Proto) {
			ported = append(ported, i)
		} else {
			portless[s.From] = append(portless[s.From], i)
		}
	}
	if err := p.fireRound(ctx, shots, ported, hits); err != nil {
		return nil, err
	}
	for _, round := range portless {
		if err := ForgetConnections(p.lab.Gateway); err != nil {
			return nil, err
		}
		if err := p.fireRound(ctx, shots, round, hits); err != nil {
			return nil, err
		}
	}
	return hits, nil
}

func (p *Prober) fireRound(ctx context.Context, shots []Shot, round []int, hits []Hit) error {
	flights := make([]*flight, len(round))
	shoot := func(n int) error {
		i := round[n]
		s := shots[i]
		s.Packet.Token, flights[n] = p.launch(s.Packet.Proto, s.Packet.Type, s.From == p.lab.Gateway)
		refused, err := p.send(s)
		if err != nil {
			return fmt.Errorf("shot %d from %s: %w", i, s.From.Name, err)
		}
		hits[i].Refused = refused
		return nil
	}
	for n := range round {
		if err := shoot(n); err != nil {
			return err
		}
	}
	for try := 0; ; try++ {
		lost, err := p.lost(ctx, flights)
		if err != nil {
			return err
		}
		if len(lost) == 0 {
			break
		}
		if try == maxTries {
			return fmt.Errorf("%d of %d packets did not reach the gateway, first %s from %s", len(lost), len(round),
				shots[round[lost[0]]].Packet.Dst, shots[round[lost[0]]].From.Name)
		}
		for _, n := range lost {
			if err := shoot(n); err != nil {
				return err
			}
		}
	}
	if err := p.Settle(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, i := range round {
		hits[i].At = mapKeys(flights[n].at)
		slices.Sort(hits[i].At)
	}
	clear(p.flights)
	return nil
}

// A queue on the way to the gateway may overflow on a busy machine. What has not come
// there after a while is sent again, which changes nothing: nobody has judged it yet.
const (
	maxTries = 3
	tryTime  = 2 * time.Second
)

// lost waits for the gateway to have met all flights and returns the indices of those
// that it has not.
func (p *Prober) lost(ctx context.Context, flights []*flight) (list []int, err error) {
	waiting, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	err = p.await(waiting, func() bool {
		return !slices.ContainsFunc(flights, func(f *flight) bool { return !f.met })
	})
	if err == nil || ctx.Err() != nil {
		return nil, ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, f := range flights {
		if !f.met {
			list = append(list, n)
		}
	}
	return list, nil
}

func (p *Prober) send(s Shot) (refused bool, err error) {
	if s.From == p.lab.Gateway {
		raw, err := p.raw(s.UID)
		if err == nil {
			err = raw.Send(s.Packet.Bytes())
		}
		if errors.Is(err, unix.EPERM) {
			return true, nil
		}
		return false, err
	}
	return false, p.shoot(s)
}

func (p *Prober) raw(uid int) (*probe.Raw, error) {
	if r := p.raws[uid]; r != nil {
		return r, nil
	}
	err := p.lab.Gateway.As(uid, func() (err error) {
		p.raws[uid], err = probe.OpenRaw()
		return err
	})
	return p.raws[uid], err
}

// nowhere is an address that no host has and no router knows.
var nowhere = netip.MustParseAddr("192.0.2.9")

// Settle returns when everything that the gateway had already passed on has arrived.
func (p *Prober) Settle(ctx context.Context) error {
	// A borrowed MAC address has taught the switch the wrong port.
	if err := p.introduceAgain(); err != nil {
		return err
	}
	return p.fence(ctx)
}

// post is a packet of a fence: where it goes by what wire, and what became of it.
type post struct {
	host *Host
	wire *wire
	to   netip.Addr
	*flight
}

// fence returns when everything that was on its way anywhere has arrived. A packet of its
// own may get lost, too, and is sent again then: what was before it was before both.
func (p *Prober) fence(ctx context.Context) error {
	for cpu := range runtime.NumCPU() {
		// The internet's router passes the first one on.
		posts := []*post{{host: p.lab.Far, wire: p.wires[p.lab.Internet], to: farAddr}}
		for h, w := range p.wires {
			posts = append(posts, &post{host: h, wire: w, to: nowhere})
		}
		for try := 0; len(posts) > 0; try++ {
			if try > maxTries {
				return fmt.Errorf("fence: %d packets sent by CPU %d got lost, first the one to %s", len(posts), cpu, posts[0].host.Name)
			}
			if err := p.sendFrom(cpu, posts); err != nil {
				return err
			}
			waiting, cancel := context.WithTimeout(ctx, tryTime)
			_ = p.await(waiting, func() bool { return !slices.ContainsFunc(posts, (*post).missing) })
			cancel()
			if ctx.Err() != nil {
				return fmt.Errorf("fence: %w", ctx.Err())
			}
			p.mu.Lock()
			posts = slices.DeleteFunc(posts, func(q *post) bool { return !q.missing() })
			p.mu.Unlock()
		}
	}
	// What is for the gateway itself crosses no fence: it is at its socket by now.
	return p.local.Drain()
}

func (q *post) missing() bool { return !q.at[q.host.Name] }

// sendFrom sends posts past the gateway's filter, by one of its CPUs.
func (p *Prober) sendFrom(cpu int, posts []*post) error {
	return onThread(nil, func() error {
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pin to CPU %d: %w", cpu, err)
		}
		for _, q := range posts {
			var t probe.Token
			t, q.flight = p.launch(probe.UDP, 0, true)
			pkt := probe.Packet{Src: p.lab.OutsideAddr(), Dst: q.to, Proto: probe.UDP, SrcPort: 9, DstPort: 9, Token: t}
			out := p.links[p.lab.Link(q.wire.party)]
			if err := out.Send(out.MAC, q.wire.MAC, pkt.Bytes()); err != nil {
				return err
			}
		}
		return nil
	})
}

// ForgetConnections empties a host's table of connections.
func ForgetConnections(h *Host) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: h.NetNS()})
	if err != nil {
		return err
	}
	defer conn.Close()
	const ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE
	_, err = conn.Execute(netlink.Message{
		Header: netlink.Header{Type: ctDelete, Flags: netlink.Request | netlink.Acknowledge},
		Data:   []byte{unix.AF_UNSPEC, 0, 0, 0}, // struct nfgenmsg
	})
	if err != nil {
		return fmt.Errorf("forget connections: %w", err)
	}
	return nil
}

// introduce makes every host with an address ask for the gateway's MAC address,
// from which the gateway learns theirs. (Their kernels would not ask if they knew
// it already, and only make sure of it after five seconds.) A packet would
// otherwise wait for an answer to the gateway's own question, and a fence could
// overtake it.
func (p *Prober) introduce(ctx context.Context) error {
	l := p.lab
	conn, err := rtnetlink.Dial(&netlink.Config{NetNS: l.Gateway.NetNS(), Groups: 1 << (unix.RTNLGRP_NEIGH - 1)})
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := p.introduceAgain(); err != nil {
		return err
	}
	for {
		known, err := l.neighbours()
		if err != nil {
			return err
		}
		var missing []netip.Addr
		for _, i := range p.introductions() {
			if !known[i.who] {
				missing = append(missing, i.who)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		// Who asks while the switch is still getting to know of a cable is not heard.
		if err = conn.SetReadDeadline(time.Now().Add(tryTime / 10)); err == nil {
			_, _, err = conn.Receive()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = p.introduceAgain()
		}
		if err != nil {
			return errors.Join(fmt.Errorf("the gateway never learnt the MAC addresses of %v: %w", missing, err), ctx.Err())
		}
	}
}

// LinkLocal returns the IPv6 address that the kernel gave the gateway's link to a
// party by itself.
func (l *Lab) LinkLocal(party string) (a netip.Addr, err error) {
	err = l.Gateway.Do(func() error {
		ifi, err := net.InterfaceByName(l.Link(party))
		if err != nil {
			return err
		}
		addrs, err := ifi.Addrs()
		if err != nil {
			return err
		}
		for _, n := range addrs {
			if ip, ok := netip.AddrFromSlice(n.(*net.IPNet).IP); ok && ip.Is6() && ip.IsLinkLocalUnicast() {
				a = ip
			}
		}
		return nil
	})
	if err == nil && !a.IsValid() {
		a = netip.MustParseAddr("fe80::1")
	}
	return a, err
}

// neighbours returns the addresses whose MAC addresses the gateway knows.
func (l *Lab) neighbours() (map[netip.Addr]bool, error) {
	conn, err := rtnetlink.Dial(&netlink.Config{NetNS: l.Gateway.NetNS()})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	list, err := conn.Neigh.List()
	if err != nil {
		return nil, err
	}
	known := make(map[netip.Addr]bool)
	for _, n := range list {
		if n.Attributes == nil || len(n.Attributes.LLAddress) != 6 {
			continue
		}
		if a, ok := netip.AddrFromSlice(n.Attributes.Address); ok {
			known[a.Unmap()] = true
		}
	}
	return known, nil
}
