//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/images/lab/probe"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// station is a machine on one segment of a lab in which nobody lives. It takes
// everybody's part: it sends from any address, and claims every address that the
// gateway looks for.
type station struct {
	*Host
	segment string // zone or spare VLAN, or "internet", of the lab's first file
	port    string
	vlan    uint16
	wire    *probe.Wire
	gateway net.HardwareAddr // at the other end
	arp     *os.File         // on which it is asked for addresses
}

// side is one of the configurations between which the gateway may be.
type side struct {
	*policy.Policy
	services []model.Service
}

// at returns the party that a station is part of, or "" if the configuration knows of
// nobody there.
func (s side) at(st *station) string {
	if u := s.Config.Uplink; u != nil && u.Port.Name == st.port && u.VLAN == st.vlan {
		return model.Internet
	}
	for _, z := range s.Config.Zones {
		if z.Port.Name == st.port && z.VLAN == st.vlan {
			return z.Name
		}
	}
	return ""
}

// forbids reports whether a packet may not pass.
func (s side) forbids(a *attempt) bool {
	party := model.Box
	if a.from != nil {
		if party = s.at(a.from); party == "" {
			return true
		}
	}
	p := a.packet
	port := p.DstPort
	if p.Proto == probe.ICMP {
		port = uint16(p.Type)
	}
	f := policy.Flow{From: party, MAC: a.mac, Src: p.Src, Dst: p.Dst, Proto: p.Proto, SrcPort: p.SrcPort, Port: port, UID: a.uid}
	return !s.Decide(f).Allow
}

// sources are whom the machines on a station's segment may claim to be.
type source struct {
	addr netip.Addr
	mac  model.MAC
}

func (s side) sources(st *station, own model.MAC) (list []source) {
	party := s.at(st)
	z := s.Config.Zone(party)
	if z == nil {
		if party == model.Internet {
			list = append(list, source{outsideAddr, own}, source{farAddr, own})
		}
		return list
	}
	list = append(list, source{strangerIn(z), own})
	for _, d := range s.Config.Devices {
		if a := s.AddressOf(d); d.Zone == z && a.IsValid() {
			list = append(list, source{a, d.MAC}, source{a, own})
		}
	}
	return list
}

// strangerIn is an address in a zone that no device has.
func strangerIn(z *model.Zone) netip.Addr {
	b := z.Subnet.Addr().As4()
	b[3] += 66
	return netip.AddrFrom4(b)
}

// addresses are all that there are to be tried.
func (s side) addresses(uplink netip.Addr) []netip.Addr {
	list := []netip.Addr{uplink, outsideAddr, farAddr}
	for _, z := range s.Config.Zones {
		list = append(list, z.Gateway, z.Gateway, strangerIn(z), strangerIn(z), policy.Broadcast(z.Subnet))
	}
	for _, d := range s.Config.Devices {
		if a := s.AddressOf(d); a.IsValid() {
			list = append(list, a, a)
		}
	}
	return list
}

// attempt is a packet on its way.
type attempt struct {
	from   *station // nil: the gateway itself
	uid    int
	mac    model.MAC // of the sender, for a station
	packet probe.Packet
	met    bool // at the gateway, or never to be
	open   bool // it may pass, and is to
	passed bool
}

func (a *attempt) String() string {
	who := fmt.Sprintf("the box's user %d", a.uid)
	if a.from != nil {
		who = a.from.segment
	}
	p := a.packet
	return fmt.Sprintf("%s: %s:%d → %s:%d, protocol %d type %d", who, p.Src, p.SrcPort, p.Dst, p.DstPort, p.Proto, p.Type)
}

// sentinel tries all the time what neither of two configurations allows, and notes what
// arrives anywhere.
type sentinel struct {
	lab      *Lab
	stations []*station
	taps     []*probe.Tap
	local    *probe.Tap
	raws     map[int]*probe.Raw

	watch sync.RWMutex // held by who changes what is tried; read-held while it is tried
	rand  *rand.Rand
	sides [2]side

	mu       sync.Mutex
	next     probe.Token
	attempts map[probe.Token]*attempt
	before   map[probe.Token]*attempt // under the sides before
	changed  chan struct{}            // closed and replaced when something is seen
	arrived  []string                 // that must not have

	tried, met atomic.Int64
}

// newSentinel puts a station on every segment of the lab.
func newSentinel(l *Lab, seed uint64) (*sentinel, error) {
	s := &sentinel{
		lab: l, raws: make(map[int]*probe.Raw), rand: rand.New(rand.NewPCG(seed, 2)),
		attempts: make(map[probe.Token]*attempt), changed: make(chan struct{}),
	}
	for _, z := range slices.Concat(l.Config.Zones, l.Spare) {
		if err := s.station(&station{segment: z.Name, port: z.Port.Name, vlan: z.VLAN}, z.Port.MAC); err != nil {
			return s, err
		}
	}
	u := l.Config.Uplink
	for _, h := range []*Host{l.Outside, l.Internet} {
		st := &station{Host: h, segment: model.Internet, port: u.Port.Name, vlan: u.VLAN}
		if err := s.station(st, u.Port.MAC); err != nil {
			return s, err
		}
	}
	far := &station{Host: l.Far, segment: "far"}
	if err := s.tap(far); err != nil {
		return s, err
	}
	err := l.Gateway.Do(func() error {
		t, err := probe.OpenTap(func(seen probe.Sighting) {
			if !seen.Sent && !seen.Other {
				s.sighted(seen, func(a *attempt) {
					a.met = true
					s.met.Add(1)
				})
			}
		})
		if err != nil {
			return err
		}
		s.taps = append(s.taps, t)
		s.local, err = probe.OpenLocal(func(seen probe.Sighting) { s.sighted(seen, s.arrival(gatewayName)) })
		return err
	})
	return s, err
}

// station completes a station and puts it in its place.
func (s *sentinel) station(st *station, port model.MAC) (err error) {
	l := s.lab
	if st.Host == nil {
		if st.Host, err = l.World.NewHost("at-" + st.segment); err != nil {
			return err
		}
		l.Clients = append(l.Clients, &Client{Host: st.Host}) // so that it goes with the lab
		mac := model.MAC{0x52, 0x54, 0x00, 0xee, 0xff, byte(len(s.stations))}
		if err := l.plug(st.Host, clientLink, "address "+mac.String(), st.segment); err != nil {
			return err
		}
	}
	st.gateway = net.HardwareAddr(port[:])
	err = l.Gateway.Do(func() error {
		if ifi, err := net.InterfaceByName(l.Link(st.segment)); err == nil { // else netcfgd will make it, with its port's address
			st.gateway = ifi.HardwareAddr
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = st.Do(func() (err error) {
		st.wire, err = probe.OpenWire(clientLink)
		return err
	})
	if err != nil {
		return err
	}
	s.stations = append(s.stations, st)
	if st.segment != model.Internet { // where real machines are
		if err := st.claimAll(); err != nil {
			return err
		}
	}
	return s.tap(st)
}

func (s *sentinel) tap(st *station) error {
	return st.Do(func() error {
		t, err := probe.OpenTap(func(seen probe.Sighting) {
			if seen.Sent || seen.Other || st.Host == s.lab.Internet && seen.Dst == farAddr { // what it passes on is not for it
				return
			}
			s.sighted(seen, s.arrival(st.Name))
		})
		if err == nil {
			s.taps = append(s.taps, t)
		}
		return err
	})
}

// claimAll answers whatever address the gateway asks for with the station's own MAC
// address, RFC 826.
func (st *station) claimAll() error {
	return st.Do(func() error {
		const arp = unix.ETH_P_ARP<<8 | unix.ETH_P_ARP>>8 // network byte order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, arp)
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		st.arp = os.NewFile(uintptr(fd), "arp")
		go func() {
			buf := make([]byte, 1<<11)
			for {
				n, err := st.arp.Read(buf)
				if err != nil {
					return // closed
				}
				if reply := st.answer(buf[:n]); reply != nil {
					_ = st.wire.SendFrame(reply) // it asks again
				}
			}
		}()
		return nil
	})
}

// answer returns the frame that answers a question for a MAC address, or nil.
func (st *station) answer(frame []byte) []byte {
	const request, reply = 1, 2
	if len(frame) < 42 || frame[21] != request || !slices.Equal(frame[22:28], st.gateway) || slices.Equal(frame[28:32], frame[38:42]) {
		return nil
	}
	b := slices.Concat(frame[22:28], st.wire.MAC, frame[12:20], []byte{0, reply}, st.wire.MAC, frame[38:42], frame[22:28], frame[28:32])
	return b
}

// sighted calls f on the attempt that was seen, if it is one.
func (s *sentinel) sighted(seen probe.Sighting, f func(*attempt)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.attempts[seen.Token]
	if a == nil {
		a = s.before[seen.Token]
	}
	// Answers and errors may quote a packet without being it.
	if a == nil || seen.Proto != a.packet.Proto || seen.Type != a.packet.Type && !seen.Later {
		return
	}
	f(a)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *sentinel) arrival(host string) func(*attempt) {
	return func(a *attempt) {
		if a.passed = true; !a.open {
			s.arrived = append(s.arrived, fmt.Sprintf("%s: arrived at %s at %s", a, host, time.Now().Format("15:04:05.000")))
		}
	}
}

// await returns when the condition, which is asked with the lock held, is true.
func (s *sentinel) await(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := cond(), s.changed
		s.mu.Unlock()
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

// launch makes an attempt known before it is made.
func (s *sentinel) launch(a *attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	a.packet.Token = s.next
	s.attempts[s.next] = a
}

// between says what is tried from now on. It returns when all that was tried before
// has been judged by the gateway.
func (s *sentinel) between(old, new side) {
	s.watch.Lock()
	defer s.watch.Unlock()
	s.flush(s.mine(s.attempts))
	s.mu.Lock()
	s.before, s.attempts = s.attempts, make(map[probe.Token]*attempt)
	s.mu.Unlock()
	s.sides = [2]side{old, new}
}

func (s *sentinel) mine(m map[probe.Token]*attempt) (list []*attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range m {
		if !a.met && !a.open {
			list = append(list, a)
		}
	}
	return list
}

// onTheWay is how long a packet may be on its way to the gateway. What takes longer is
// lost, as to a link that is down.
const onTheWay = 300 * time.Millisecond

// flush returns when the gateway has met the attempts that are not lost, and all that
// it has passed on has been seen.
func (s *sentinel) flush(list []*attempt) {
	ctx, cancel := context.WithTimeout(context.Background(), onTheWay)
	defer cancel()
	_ = s.await(ctx, func() bool {
		return !slices.ContainsFunc(list, func(a *attempt) bool { return !a.met })
	})
	for _, t := range append(s.taps, s.local) {
		_ = t.Drain() // closed at the end
	}
}

// run tries until the context ends.
func (s *sentinel) run(ctx context.Context) {
	for ctx.Err() == nil {
		batch := s.volley()
		waiting, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		_ = s.await(waiting, func() bool {
			return !slices.ContainsFunc(batch, func(a *attempt) bool { return !a.met })
		})
		cancel()
		select { // the machine has other work, too
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// volleySize is how many packets are sent without waiting for the gateway.
const volleySize = 24

// volley sends some of what neither side allows.
func (s *sentinel) volley() (batch []*attempt) {
	s.watch.RLock()
	defer s.watch.RUnlock()
	if s.sides[0].Policy == nil {
		return nil
	}
	for range volleySize {
		if a := s.pick(); a != nil && s.send(a) {
			batch = append(batch, a)
			s.tried.Add(1)
		}
	}
	return batch
}

// pick returns something that neither side allows, or nil.
func (s *sentinel) pick() *attempt {
	r := s.rand
	some := s.sides[r.IntN(2)]
	svc := some.services[r.IntN(len(some.services))]
	a := &attempt{packet: probe.Packet{Proto: svc.Proto, SrcPort: uint16(20000 + r.IntN(40000)), DstPort: svc.Lo}}
	switch svc.Proto {
	case probe.TCP:
		a.packet.Flags = probe.SYN
	case probe.ICMP:
		a.packet.DstPort, a.packet.Type = 0, uint8(svc.Lo)
	}
	targets := s.sides[r.IntN(2)].addresses(s.lab.Uplink.Addr())
	a.packet.Dst = targets[r.IntN(len(targets))]
	if r.IntN(8) == 0 { // the box itself, as one of its daemons might
		users := policy.Daemons()
		a.uid, a.met = users[r.IntN(len(users))].UID, true
		zones := some.Config.Zones
		a.packet.Src = zones[r.IntN(len(zones))].Gateway
	} else {
		a.from = s.stations[r.IntN(len(s.stations))]
		own := model.MAC(a.from.wire.MAC)
		sources := some.sources(a.from, own)
		if len(sources) == 0 || r.IntN(8) == 0 { // somebody from elsewhere
			sources = []source{{targets[r.IntN(len(targets))], own}}
		}
		src := sources[r.IntN(len(sources))]
		a.packet.Src, a.mac = src.addr, src.mac
	}
	nobody := a.from != nil
	for _, side := range s.sides {
		if !side.forbids(a) {
			return nil
		}
		nobody = nobody && side.at(a.from) == ""
	}
	a.met = a.met || nobody // the link is down, most likely
	return a
}

// send makes an attempt, and reports whether it could be made at all.
func (s *sentinel) send(a *attempt) bool {
	s.launch(a)
	if a.from == nil {
		raw, err := s.raw(a.uid)
		if err != nil {
			return false
		}
		_ = raw.Send(a.packet.Bytes()) // refused, or without a way there
		return true
	}
	return a.from.wire.Send(a.mac[:], a.from.gateway, a.packet.Bytes()) == nil
}

// raw is the socket of one of the gateway's users.
func (s *sentinel) raw(uid int) (*probe.Raw, error) {
	if r := s.raws[uid]; r != nil {
		return r, nil
	}
	err := s.lab.Gateway.As(uid, func() (err error) {
		s.raws[uid], err = probe.OpenRaw()
		return err
	})
	return s.raws[uid], err
}

// seen returns what arrived that must not have, since it was last asked.
func (s *sentinel) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.arrived
	s.arrived = nil
	return list
}

// knock sends the beginning of a connection that is to come in at the gateway, and again
// as long as it does not, as every machine does: while the kernel takes new rules, there
// is an instant at which it drops what it looks up. It returns how often that was in
// vain, and an error if it always was.
func (s *sentinel) knock(ctx context.Context, d door, srcPort uint16) (lost int, err error) {
	for {
		a := &attempt{from: d.at, open: true, mac: model.MAC(d.at.wire.MAC)}
		a.packet = probe.Packet{Proto: probe.TCP, Flags: probe.SYN, Src: d.from, SrcPort: srcPort, Dst: d.box, DstPort: 443}
		if !s.send(a) {
			return lost, errors.New("it could not be sent")
		}
		const soon = 100 * time.Millisecond // for a kernel that decides at once
		waiting, cancel := context.WithTimeout(ctx, soon)
		err := s.await(waiting, func() bool { return a.passed })
		cancel()
		if err == nil || ctx.Err() != nil {
			return lost, nil
		}
		if lost++; lost == 10 {
			return lost, fmt.Errorf("%s: was not let in", a)
		}
	}
}

// close ends all watching.
func (s *sentinel) close() {
	var wg sync.WaitGroup // the kernel takes its time to close each
	for _, t := range append(s.taps, s.local) {
		if t != nil {
			wg.Go(t.Close)
		}
	}
	wg.Wait()
	for _, st := range s.stations {
		st.wire.Close()
		if st.arp != nil {
			st.arp.Close()
		}
	}
	for _, r := range s.raws {
		r.Close()
	}
}
