package dhcp4

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/netcfg/model"
)

// State is the state of a client, as in RFC 2131 figure 5. INIT-REBOOT is no state
// here, because the client leaves it at once.
type State uint8

// The states of a client.
const (
	Init       State = iota // asks nobody: there is no link, or it pauses after a failure
	Selecting               // looks for a server
	Requesting              // has chosen an offer and asks for it
	Rebooting               // asks whether an address it knows is still its own
	Probing                 // was given an address and looks whether a neighbour has it
	Bound                   // has a lease and need not do anything
	Renewing                // asks the server of the lease for more time
	Rebinding               // asks any server for more time
)

var stateNames = [...]string{"init", "selecting", "requesting", "rebooting", "probing", "bound", "renewing", "rebinding"}

func (s State) String() string { return stateNames[s] }

// Timing of retransmissions and pauses.
const (
	firstWait = 4 * time.Second  // RFC 2131 section 4.1; doubled each time
	lastWait  = 64 * time.Second // ... up to this
	jitter    = time.Second      // ... and made uneven by as much either way
	startWait = time.Second      // at most, before the first message; the RFC's ten seconds desynchronise halls of machines

	maxRequests = 4 // RFC 2131 section 3.1: about a minute in all
	maxChecks   = 2 // of a known address, twelve seconds in all

	declineWait = 10 * time.Second // RFC 2131 section 3.1 step 5
	renewWait   = time.Minute      // RFC 2131 section 4.4.5, between requests for more time
	renewFloor  = time.Second      // ... with leases too short for that

	// RFC 5227 asks for up to nine seconds. All of them would be seconds without
	// internet, so the probes of its section 2.1.1 are sent closer together.
	probes    = 3
	probeWait = 250 * time.Millisecond
	probeLast = 500 * time.Millisecond // after the last one

	maxTrouble = 200 // bytes
	silence    = 3   // messages without an answer that are worth mentioning
)

// Config is what a client is told once.
type Config struct {
	Link     string // the interface's name, for the lease
	Hostname string // sent to servers; "": none
	Rand     rand.Source
}

// Saved is what a client remembers over a reboot. The zero value is nothing.
type Saved struct {
	MAC     model.MAC  `json:"mac"`
	Address netip.Addr `json:"address"`
}

// An Event is something that happened to the client: [Link], [Packet], [ARP] or
// [Tick].
type Event interface{ event() }

type (
	// Link says whether the link can carry packets. Saying so twice does nothing.
	Link struct {
		Up  bool
		MAC model.MAC // of the interface; only if Up
	}
	// Packet is the payload of a UDP packet to the client's port.
	Packet struct {
		From model.MAC // sender of the frame
		Data []byte
	}
	// ARP is a packet of RFC 826, a request as well as a reply.
	ARP struct {
		Sender   model.MAC
		SenderIP netip.Addr
		TargetIP netip.Addr
	}
	// Tick says only that time has passed, see [Machine.Next].
	Tick struct{}
)

func (Link) event()   {}
func (Packet) event() {}
func (ARP) event()    {}
func (Tick) event()   {}

// An Action is something that the client wants done: [Broadcast], [Unicast],
// [Probe], [Publish], [Withdraw] or [Remember].
type Action interface{ action() }

type (
	// Broadcast sends a message from 0.0.0.0 to everyone on the link.
	Broadcast struct{ Message *dhcpv4.DHCPv4 }
	// Unicast sends a message from an address of this host to a server.
	Unicast struct {
		Message  *dhcpv4.DHCPv4
		From, To netip.Addr
	}
	// Probe asks the neighbours who has an address, from 0.0.0.0 (RFC 5227).
	Probe struct{ Address netip.Addr }
	// Publish says that a lease is in force, instead of any other.
	Publish struct{ Lease Lease }
	// Withdraw says that no lease is in force any more.
	Withdraw struct{ Why string }
	// Remember asks to keep something over a reboot, or with a zero value to
	// forget it.
	Remember struct{ Saved Saved }
)

func (Broadcast) action() {}
func (Unicast) action()   {}
func (Probe) action()     {}
func (Publish) action()   {}
func (Withdraw) action()  {}
func (Remember) action()  {}

// Machine is one client on one link. It is not safe for concurrent use.
type Machine struct {
	cfg   Config
	rnd   *rand.Rand
	state State
	since time.Time
	up    bool
	mac   model.MAC
	saved Saved

	held  *Lease    // in force; nil: none
	timer time.Time // when the state has something to do; zero: never

	// The exchange under way.
	xid      uint32
	began    time.Time // of the search for an address
	secs     uint16    // since then, as in the message being sent
	sent     time.Time // the last message
	tries    int       // messages or probes sent in this state
	address  netip.Addr
	server   netip.Addr
	pending  *Lease    // given, being probed
	relay    model.MAC // who delivered it
	failures int       // in a row; each makes the next pause longer

	out     []Action
	err     string
	errAt   time.Time
	refused uint64
}

// New returns a client without a link. saved is what an earlier one remembered;
// held is a lease that it left in force, or nil.
func New(now time.Time, cfg Config, saved Saved, held *Lease) *Machine {
	m := &Machine{cfg: cfg, rnd: rand.New(cfg.Rand), since: now, saved: saved, held: held}
	if held != nil && held.Address.Addr() == saved.Address {
		m.mac = saved.MAC // a lease belongs to a MAC
	}
	return m
}

// SetHostname changes the name that is sent from the next message on.
func (m *Machine) SetHostname(name string) { m.cfg.Hostname = name }

// State returns the state and since when it has been that.
func (m *Machine) State() (State, time.Time) { return m.state, m.since }

// Lease returns the lease in force, or nil.
func (m *Machine) Lease() *Lease { return m.held }

// Trouble returns what last went wrong and when; the text is empty once a lease
// was given after it.
func (m *Machine) Trouble() (string, time.Time) { return m.err, m.errAt }

// Refused returns how many messages were answers to this client but bad ones.
func (m *Machine) Refused() uint64 { return m.refused }

// Next returns when the client wants to be called with a [Tick], if nothing else
// happens before. The zero time means never.
func (m *Machine) Next() time.Time {
	if m.held == nil || m.held.Expires.IsZero() || !m.timer.IsZero() && m.timer.Before(m.held.Expires) {
		return m.timer
	}
	return m.held.Expires
}

// Step lets something happen to the client at a time, which never runs backwards,
// and returns what is to be done now, in order.
func (m *Machine) Step(now time.Time, ev Event) []Action {
	m.out = nil
	m.due(now)
	switch ev := ev.(type) {
	case Link:
		m.link(now, ev)
	case Packet:
		m.packet(now, ev)
	case ARP:
		m.arp(now, ev)
	case Tick:
	}
	return m.out
}

func (m *Machine) do(a Action) { m.out = append(m.out, a) }

// enter changes the state; its timer stands still until it is set.
func (m *Machine) enter(now time.Time, s State) {
	if s != m.state {
		m.state, m.since = s, now
	}
	m.tries, m.timer = 0, time.Time{}
}

// trouble notes what went wrong. A server may have had a hand in the text.
func (m *Machine) trouble(now time.Time, why string) {
	m.err, m.errAt = why[:min(len(why), maxTrouble)], now
}

// due does what should have happened by now.
func (m *Machine) due(now time.Time) {
	if m.held != nil && !m.held.Expires.IsZero() && !now.Before(m.held.Expires) {
		m.drop(now, "the lease expired")
		if m.state >= Bound {
			m.restart(now, 0)
		}
	}
	if m.timer.IsZero() || now.Before(m.timer) {
		return
	}
	switch m.state {
	case Init:
		m.began = now
		m.discover(now)
	case Selecting:
		if m.tries == silence {
			m.trouble(now, "no server answers")
		}
		m.sendDiscover(now)
	case Requesting:
		m.retryRequest(now)
	case Rebooting:
		m.retryCheck(now)
	case Probing:
		m.probe(now)
	case Bound, Renewing, Rebinding:
		m.extend(now)
	}
}

// link takes note of the link going and coming. The lease stays, see the package
// comment; what was under way does not.
func (m *Machine) link(now time.Time, ev Link) {
	if !ev.Up {
		if m.up {
			m.up = false
			m.pending = nil
			m.enter(now, Init)
		}
		return
	}
	if m.mac != (model.MAC{}) && ev.MAC != m.mac && m.held != nil {
		m.drop(now, "the interface has another MAC")
	}
	if m.up && ev.MAC == m.mac {
		return
	}
	m.up, m.mac, m.failures = true, ev.MAC, 0
	m.began = now
	switch {
	case m.held != nil:
		m.check(now, m.held.Address.Addr())
	case m.saved.MAC == m.mac && m.saved.Address.IsValid():
		m.check(now, m.saved.Address)
	default:
		m.enter(now, Init)
		m.timer = now.Add(m.upTo(startWait))
	}
}

// drop ends the lease in force.
func (m *Machine) drop(now time.Time, why string) {
	m.held = nil
	m.trouble(now, why)
	m.do(Withdraw{why})
}

// forget makes sure that a refused address is not asked for again.
func (m *Machine) forget(a netip.Addr) {
	if m.saved.Address == a {
		m.saved = Saved{}
		m.do(Remember{})
	}
}

// restart begins again after a failure, or rather after a pause that gets longer
// with each failure in a row, so that no server makes the client send in a loop.
func (m *Machine) restart(now time.Time, pause time.Duration) {
	m.enter(now, Init)
	if m.failures > 0 {
		pause = max(pause, m.backoff(m.failures-1))
	}
	m.failures++
	m.pending = nil
	if m.up {
		m.timer = now.Add(pause + m.upTo(startWait))
	}
}

// backoff is the pause after the nth message, counted from 0: 4, 8, 16, 32, 64,
// 64 seconds, each of them up to a second more or less (RFC 2131 section 4.1).
func (m *Machine) backoff(n int) time.Duration {
	d := lastWait
	if n < 4 {
		d = firstWait << n
	}
	return d - jitter + m.upTo(2*jitter)
}

// upTo returns a random duration of at most d.
func (m *Machine) upTo(d time.Duration) time.Duration {
	return time.Duration(m.rnd.Int64N(int64(d) + 1))
}

// broadcast sends a message that the state's timer repeats.
func (m *Machine) broadcast(now time.Time, build func() *dhcpv4.DHCPv4) {
	m.stamp(now)
	m.do(Broadcast{build()})
	m.timer = now.Add(m.backoff(m.tries))
	m.tries++
}

// stamp makes the time the one of the message about to be built.
func (m *Machine) stamp(now time.Time) {
	m.sent = now
	m.secs = uint16(min(now.Sub(m.began)/time.Second, 1<<16-1))
}

// discover looks for a server. The address last had is asked for again.
func (m *Machine) discover(now time.Time) {
	m.enter(now, Selecting)
	m.xid = m.rnd.Uint32()
	m.sendDiscover(now)
}

func (m *Machine) sendDiscover(now time.Time) {
	var hint netip.Addr
	switch {
	case m.held != nil:
		hint = m.held.Address.Addr()
	case m.saved.MAC == m.mac:
		hint = m.saved.Address
	}
	m.broadcast(now, func() *dhcpv4.DHCPv4 { return ask(m.message(dhcpv4.MessageTypeDiscover), hint) })
}

// request asks for what a server offered, under the same transaction ID.
func (m *Machine) request(now time.Time, l *Lease) {
	m.enter(now, Requesting)
	m.address, m.server = l.Address.Addr(), l.Server
	m.sendRequest(now)
}

func (m *Machine) sendRequest(now time.Time) {
	m.broadcast(now, func() *dhcpv4.DHCPv4 {
		return of(ask(m.message(dhcpv4.MessageTypeRequest), m.address), m.server)
	})
}

func (m *Machine) retryRequest(now time.Time) {
	if m.tries < maxRequests {
		m.sendRequest(now)
		return
	}
	m.trouble(now, fmt.Sprintf("%s offered %s and does not answer the request", m.server, m.address))
	m.restart(now, 0)
}

// check asks whether an address is still the client's own (INIT-REBOOT).
func (m *Machine) check(now time.Time, a netip.Addr) {
	m.enter(now, Rebooting)
	m.address = a
	m.xid = m.rnd.Uint32()
	m.sendCheck(now)
}

func (m *Machine) sendCheck(now time.Time) {
	m.broadcast(now, func() *dhcpv4.DHCPv4 { return ask(m.message(dhcpv4.MessageTypeRequest), m.address) })
}

// retryCheck asks again or gives up on the address's server. A lease in force
// stays so meanwhile, as RFC 2131 section 3.2 allows; but the link may lead to
// another network now, whose server is silent on addresses it never gave.
func (m *Machine) retryCheck(now time.Time) {
	if m.tries < maxChecks {
		m.sendCheck(now)
		return
	}
	m.trouble(now, fmt.Sprintf("no server answers whether %s is still ours", m.address))
	m.discover(now)
}

// extend asks for more time: the server of the lease from T1 on, any from T2 on.
// Each message gets a transaction ID of its own, so that the answer tells when the
// new lease began.
func (m *Machine) extend(now time.Time) {
	h := m.held
	s, until, phase := Renewing, h.Rebind, h.Rebind.Sub(h.Renew)
	if !now.Before(h.Rebind) {
		s, until, phase = Rebinding, h.Expires, h.Expires.Sub(h.Rebind)
	}
	if m.state != s {
		if s == Rebinding {
			m.trouble(now, fmt.Sprintf("%s does not renew the lease", h.Server))
		}
		m.enter(now, s)
		m.began = now
	}
	m.xid = m.rnd.Uint32()
	m.stamp(now)
	msg := m.message(dhcpv4.MessageTypeRequest)
	msg.ClientIPAddr = h.Address.Addr().AsSlice()
	if s == Renewing {
		m.do(Unicast{msg, h.Address.Addr(), h.Server})
	} else {
		m.do(Broadcast{msg})
	}
	// Half of what is left, but not more often than once a minute, or in a lease
	// of minutes, where that would mean once, four times.
	wait := max(until.Sub(now)/2, min(renewWait, phase/4), renewFloor)
	m.timer = now.Add(wait)
	if m.timer.After(until) {
		m.timer = until
	}
}

// packet takes a message that may be a server's answer.
func (m *Machine) packet(now time.Time, p Packet) {
	if m.state == Init || m.state == Probing || m.state == Bound {
		return // nothing was asked
	}
	r, err := parseReply(p.Data, m.mac, m.xid)
	if err == nil {
		err = m.answer(now, r, p.From)
	}
	if err != nil && !errors.Is(err, errForeign) {
		m.refused++
		m.trouble(now, err.Error())
	}
}

// answer takes a server's answer. The error says what is wrong with it.
func (m *Machine) answer(now time.Time, r *reply, from model.MAC) error {
	switch {
	case m.state == Selecting && r.kind == dhcpv4.MessageTypeOffer:
		l, err := r.lease(m.cfg.Link, now)
		if err != nil {
			return fmt.Errorf("offer from %s refused: %w", r.server, err)
		}
		m.request(now, l)
	case m.state == Selecting || r.kind == dhcpv4.MessageTypeOffer:
		return errForeign // a second offer, or an answer that came too late
	case m.state == Requesting && r.server != m.server:
		return errForeign
	case m.state == Renewing && r.server != m.held.Server:
		return errForeign
	case r.kind == dhcpv4.MessageTypeNak:
		m.denied(now, r)
	default:
		return m.acknowledged(now, r, from)
	}
	return nil
}

// denied starts anew: the server says that the address is not the client's.
func (m *Machine) denied(now time.Time, r *reply) {
	about := m.asked()
	why := fmt.Sprintf("%s denies %s", r.server, about)
	m.trouble(now, why)
	if m.held != nil && m.held.Address.Addr() == about {
		m.drop(now, why)
	}
	m.forget(about)
	m.restart(now, 0)
}

// asked returns the address that the last request was about.
func (m *Machine) asked() netip.Addr {
	if m.state >= Bound {
		return m.held.Address.Addr()
	}
	return m.address
}

// acknowledged takes the lease. An address that is not in force already is probed
// first.
func (m *Machine) acknowledged(now time.Time, r *reply, from model.MAC) error {
	want := m.asked()
	l, err := r.lease(m.cfg.Link, m.sent)
	if err == nil && l.Address.Addr() != want {
		err = fmt.Errorf("it gives %s where %s was asked for", l.Address.Addr(), want)
	}
	if err == nil && !l.Expires.IsZero() && !now.Before(l.Expires) {
		err = errors.New("it came after its end")
	}
	if err != nil {
		if m.state == Requesting {
			m.restart(now, 0)
		}
		return fmt.Errorf("lease from %s refused: %w", r.server, err)
	}
	if m.held != nil && m.held.Address.Addr() == want {
		m.bind(now, l)
		return nil
	}
	m.enter(now, Probing)
	m.pending, m.relay = l, from
	m.probe(now)
	return nil
}

// probe asks once more whether a neighbour has the address, or takes it.
func (m *Machine) probe(now time.Time) {
	if m.tries == probes {
		l := m.pending
		m.pending = nil
		m.bind(now, l)
		return
	}
	m.do(Probe{m.pending.Address.Addr()})
	m.tries++
	m.timer = now.Add(probeWait)
	if m.tries == probes {
		m.timer = now.Add(probeLast)
	}
}

// arp looks for signs that a neighbour uses the address, or is about to (RFC 5227
// section 2.1.1). Whoever delivered the lease is not believed: providers' routers
// answer for every address behind them, the one they have just given included.
func (m *Machine) arp(now time.Time, a ARP) {
	if m.state != Probing || a.Sender == m.mac || a.Sender == m.relay {
		return
	}
	l := m.pending
	addr := l.Address.Addr()
	if a.SenderIP != addr && !(a.SenderIP.IsUnspecified() && a.TargetIP == addr) {
		return
	}
	m.trouble(now, fmt.Sprintf("%s gave %s, which %s uses", l.Server, addr, a.Sender))
	m.secs = 0
	m.do(Broadcast{of(ask(m.message(dhcpv4.MessageTypeDecline), addr), l.Server)})
	m.forget(addr)
	m.restart(now, declineWait)
}

// bind puts a lease in force.
func (m *Machine) bind(now time.Time, l *Lease) {
	m.enter(now, Bound)
	m.held = l
	m.failures, m.err = 0, ""
	if !l.Renew.IsZero() {
		m.timer = l.Renew.Add(-m.upTo(l.Renew.Sub(l.Obtained) / 32)) // RFC 2131 section 4.4.5: "some random fuzz"
	}
	m.do(Publish{*l})
	if s := (Saved{m.mac, l.Address.Addr()}); s != m.saved {
		m.saved = s
		m.do(Remember{s})
	}
}
