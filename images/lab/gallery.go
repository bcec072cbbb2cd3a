//go:build linux

package lab

import (
	"context"
	"net"
	"net/netip"
	"sync"

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

// gallery is the hosts of a lab as far as they shoot and are shot at: it sends
// packets from any of them and notes which arrive where. What the gateway did with
// the others it does not know.
type gallery struct {
	lab   *Lab
	taps  []*probe.Tap
	wires map[*Host]*wire

	mu      sync.Mutex
	next    probe.Token
	flights map[probe.Token]*flight
	changed chan struct{} // closed and replaced when a flight lands
}

// wire is a host's way onto its segment.
type wire struct {
	*probe.Wire
	gateway net.HardwareAddr // what it thinks its router is
	party   string           // whose segment it is
}

type flight struct {
	proto, icmp uint8
	met         bool // seen coming in at the gateway
	at          map[string]bool
}

func newGallery(l *Lab) *gallery {
	return &gallery{
		lab: l, wires: make(map[*Host]*wire), next: probe.Token(1), flights: make(map[probe.Token]*flight), changed: make(chan struct{}),
	}
}

// open opens all hosts' ports and taps. gateway tells the gateway's MAC address on
// the segment of a party.
func (g *gallery) open(gateway func(party string) (net.HardwareAddr, error)) error {
	l := g.lab
	ends := map[*Host]string{l.Outside: "internet", l.Internet: "internet"}
	for _, c := range l.Clients {
		ends[c.Host] = c.Zone.Name
	}
	for h, party := range ends {
		w := &wire{party: party}
		err := h.Do(func() (err error) {
			w.Wire, err = probe.OpenWire(clientLink)
			return err
		})
		if err != nil {
			return err
		}
		g.wires[h] = w
		if w.gateway, err = gateway(party); err != nil {
			return err
		}
	}
	for _, h := range append([]*Host{l.Far}, mapKeys(ends)...) {
		err := g.tap(h, func(s probe.Sighting) {
			if h == l.Far || s.Dst != farAddr { // what the router passes on is not for it
				g.sighted(h.Name, s)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func mapKeys[K comparable, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

func (g *gallery) tap(h *Host, f func(probe.Sighting)) error {
	return h.Do(func() error {
		t, err := probe.OpenTap(f)
		if err == nil {
			g.taps = append(g.taps, t)
		}
		return err
	})
}

func (g *gallery) close() {
	// The kernel takes its time to close each, so they go together.
	var wg sync.WaitGroup
	for _, t := range g.taps {
		wg.Go(t.Close)
	}
	wg.Wait()
	for _, w := range g.wires {
		w.Close()
	}
}

// sighted notes that a packet has come in at a host.
func (g *gallery) sighted(host string, s probe.Sighting) {
	if s.Sent || s.Other {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	f := g.flights[s.Token]
	// Answers and errors may quote a packet without being it.
	if f == nil || s.Proto != f.proto || s.Type != f.icmp && !s.Later {
		return
	}
	f.at[host] = true
	g.wake()
}

// wake is called with the lock held.
func (g *gallery) wake() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// await returns when the condition, which is asked with the lock held, is true.
func (g *gallery) await(ctx context.Context, cond func() bool) error {
	for {
		g.mu.Lock()
		ok, changed := cond(), g.changed
		g.mu.Unlock()
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
func (g *gallery) launch(proto, icmp uint8, met bool) (probe.Token, *flight) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.next++
	f := &flight{proto: proto, icmp: icmp, met: met, at: make(map[string]bool)}
	g.flights[g.next] = f
	return g.next, f
}

// shoot sends a packet from a host that is not the gateway.
func (g *gallery) shoot(s Shot) error {
	w := g.wires[s.From]
	if s.From == g.lab.Far {
		// What it sends comes to the gateway from the internet's router, which
		// would not pass on everything that a far attacker can have arrive.
		w = g.wires[g.lab.Internet]
	}
	src := s.MAC
	if src == nil {
		src = w.MAC
	}
	ip := s.Packet.Bytes()
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
			return err
		}
	}
	return nil
}

// introductions are the questions that everybody asks to become known.
func (g *gallery) introductions() (list []introduction) {
	l := g.lab
	for _, c := range l.Clients {
		if c.Addr.IsValid() {
			list = append(list, introduction{g.wires[c.Host], c.Addr, c.Zone.Gateway})
		}
	}
	if l.Uplink.IsValid() {
		list = append(list, introduction{g.wires[l.Outside], l.OutsideAddr(), l.Uplink.Addr()},
			introduction{g.wires[l.Internet], l.internetAddr().Addr(), l.Uplink.Addr()})
	}
	return list
}

type introduction struct {
	*wire
	who, to netip.Addr
}

func (g *gallery) introduceAgain() error {
	for _, i := range g.introductions() {
		if err := i.AskForMAC(i.who, i.to); err != nil {
			return err
		}
	}
	return nil
}
