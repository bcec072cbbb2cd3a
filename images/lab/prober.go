//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"bulkhead/images/lab/probe"
)

// Shot is one packet to be sent by one host.
type Shot struct {
	From   *Host
	UID    int              // for the gateway: the user who sends
	MAC    net.HardwareAddr // source; nil: the sender's own
	Packet probe.Packet     // its token is filled in
	Cut    int              // bytes of payload in the first of two fragments; 0: whole
	Tail   bool             // only the second fragment is sent
}

// Hit is what became of a shot.
type Hit struct {
	At      []string // names of the hosts where it arrived, sorted; usually one or none
	Refused bool     // the gateway's own packet filter refused to send it
}

// Prober sends packets through the gateway and says where they arrived. Evidence
// is what the receiver saw, never that nothing was heard for a while: see [Prober.Fire].
type Prober struct {
	lab   *Lab
	taps  []*probe.Tap
	local *probe.Tap // what is delivered to the gateway itself
	wires map[*Host]*wire
	links map[string]*probe.Wire // the gateway's, by link
	raws  map[int]*probe.Raw     // the gateway's, by user

	mu      sync.Mutex
	next    probe.Token
	flights map[probe.Token]*flight
	changed chan struct{} // closed and replaced when a flight lands
}

// wire is a host's way onto its segment.
type wire struct {
	*probe.Wire
	gateway net.HardwareAddr // what it thinks its router is
	link    string           // the gateway's, on that segment
}

type flight struct {
	proto, icmp uint8
	met         bool // seen coming in at the gateway
	at          map[string]bool
}

// NewProber opens taps in all hosts that the lab has now, and makes sure that the
// gateway knows the MAC addresses of all that have an IP address. Close closes
// everything.
func (l *Lab) NewProber(ctx context.Context) (*Prober, error) {
	p := &Prober{
		lab: l, wires: make(map[*Host]*wire), links: make(map[string]*probe.Wire), raws: make(map[int]*probe.Raw),
		next: probe.Token(1), flights: make(map[probe.Token]*flight), changed: make(chan struct{}),
	}
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
	ends := map[*Host]string{l.Outside: "internet", l.Internet: "internet"}
	for _, c := range l.Clients {
		ends[c.Host] = c.Zone.Name
	}
	for h, party := range ends {
		if err := p.openWire(h, l.Link(party)); err != nil {
			return err
		}
	}
	for _, h := range append([]*Host{l.Far}, mapKeys(ends)...) {
		err := p.tap(h, func(s probe.Sighting) {
			if h == l.Far || s.Dst != farAddr { // what the router passes on is not for it
				p.sighted(h.Name, s)
			}
		})
		if err != nil {
			return err
		}
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

func mapKeys[K comparable, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

func (p *Prober) tap(h *Host, f func(probe.Sighting)) error {
	return h.Do(func() error {
		t, err := probe.OpenTap(f)
		if err == nil {
			p.taps = append(p.taps, t)
		}
		return err
	})
}

// openWire opens a host's port, and the gateway's link at the other end of the
// segment.
func (p *Prober) openWire(h *Host, link string) error {
	w := &wire{link: link}
	err := h.Do(func() (err error) {
		w.Wire, err = probe.OpenWire(clientLink)
		return err
	})
	if err != nil {
		return err
	}
	p.wires[h] = w
	if p.links[link] == nil {
		err := p.lab.Gateway.Do(func() error {
			out, err := probe.OpenWire(link)
			if err == nil {
				p.links[link] = out
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	w.gateway = p.links[link].MAC
	return nil
}

// Close ends the watching.
func (p *Prober) Close() {
	// The kernel takes its time to close each, so they go together.
	var wg sync.WaitGroup
	for _, t := range append(p.taps, p.local) {
		if t != nil {
			wg.Go(t.Close)
		}
	}
	wg.Wait()
	for _, w := range p.wires {
		w.Close()
	}
	for _, w := range p.links {
		w.Close()
	}
	for _, r := range p.raws {
		r.Close()
	}
}

// sighted notes that a packet has come in at a host.
func (p *Prober) sighted(host string, s probe.Sighting) {
	if s.Sent || s.Other {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.flights[s.Token]
	// Answers and errors may quote a packet without being it.
	if f == nil || s.Proto != f.proto || s.Type != f.icmp && !s.Later {
		return
	}
	f.at[host] = true
	p.wake()
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

// wake is called with the lock held.
func (p *Prober) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// await returns when the condition, which is asked with the lock held, is true.
func (p *Prober) await(ctx context.Context, cond func() bool) error {
	for {
		p.mu.Lock()
		ok, changed := cond(), p.changed
		p.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// launch makes a packet known before it is sent. One that the gateway itself sends
// need not be met there.
func (p *Prober) launch(proto, icmp uint8, met bool) (probe.Token, *flight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	f := &flight{proto: proto, icmp: icmp, met: met, at: make(map[string]bool)}
	p.flights[p.next] = f
	return p.next, f
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
	ip := s.Packet.Bytes()
	if s.From == p.lab.Gateway {
		raw, err := p.raw(s.UID)
		if err == nil {
			err = raw.Send(ip)
		}
		if errors.Is(err, unix.EPERM) {
			return true, nil
		}
		return false, err
	}
	w := p.wires[s.From]
	if s.From == p.lab.Far {
		// What it sends comes to the gateway from the internet's router, which
		// would not pass on everything that a far attacker can have arrive.
		w = p.wires[p.lab.Internet]
	}
	src := s.MAC
	if src == nil {
		src = w.MAC
	}
	parts := [][]byte{ip}
	if s.Cut > 0 {
		two := probe.Fragments(ip, s.Cut)
		parts = two[:]
		if s.Tail {
			parts = two[1:]
		}
	}
	for _, part := range parts {
		if err := w.Send(src, w.gateway, part); err != nil {
			return false, err
		}
	}
	return false, nil
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

// fence returns when everything that was on its way anywhere has arrived.
func (p *Prober) fence(ctx context.Context) error {
	type post struct {
		host   *Host
		flight *flight
	}
	var posts []post
	for cpu := range runtime.NumCPU() {
		err := onThread(nil, func() error {
			var set unix.CPUSet
			set.Set(cpu)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				return fmt.Errorf("pin to CPU %d: %w", cpu, err)
			}
			pass := func(h *Host, w *wire, to netip.Addr) error {
				t, f := p.launch(probe.UDP, 0, true)
				posts = append(posts, post{h, f})
				pkt := probe.Packet{Src: p.lab.OutsideAddr(), Dst: to, Proto: probe.UDP, SrcPort: 9, DstPort: 9, Token: t}
				out := p.links[w.link]
				return out.Send(out.MAC, w.MAC, pkt.Bytes())
			}
			for h, w := range p.wires {
				if err := pass(h, w, nowhere); err != nil {
					return err
				}
			}
			// The internet's router passes this one on.
			if err := pass(p.lab.Far, p.wires[p.lab.Internet], farAddr); err != nil {
				return err
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	err := p.await(ctx, func() bool {
		return !slices.ContainsFunc(posts, func(q post) bool { return !q.flight.at[q.host.Name] })
	})
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	// What is for the gateway itself crosses no fence: it is at its socket by now.
	return p.local.Drain()
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

// introductions are the questions that everybody asks to become known.
func (p *Prober) introductions() (list []introduction) {
	l := p.lab
	for _, c := range l.Clients {
		if c.Addr.IsValid() {
			list = append(list, introduction{p.wires[c.Host], c.Addr, c.Zone.Gateway})
		}
	}
	if l.Uplink.IsValid() {
		list = append(list, introduction{p.wires[l.Outside], l.OutsideAddr(), l.Uplink.Addr()},
			introduction{p.wires[l.Internet], l.internetAddr().Addr(), l.Uplink.Addr()})
	}
	return list
}

type introduction struct {
	*wire
	who, to netip.Addr
}

func (p *Prober) introduceAgain() error {
	for _, i := range p.introductions() {
		if err := i.AskForMAC(i.who, i.to); err != nil {
			return err
		}
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
		if _, _, err := conn.Receive(); err != nil {
			return errors.Join(fmt.Errorf("the gateway never learnt the MAC addresses of %v", missing), ctx.Err())
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
