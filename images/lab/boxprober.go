//go:build linux

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"bulkhead/images/lab/probe"
	"bulkhead/images/lab/vswitch"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// BoxProber sends packets through a gateway that nobody can look into, since it is a
// virtual machine, and says where they arrived. That one arrived nowhere is not
// concluded from silence: the box counts each packet that it refuses, by pair of
// parties, and has to have counted exactly those that it was to refuse. See
// [BoxProber.Ask].
type BoxProber struct {
	*gallery
	answers map[netip.Addr]int // ARP answers of the box, by who had asked; guarded by mu
}

// NewBoxProber opens taps in all hosts that the lab has now, and makes sure that the
// box knows the MAC addresses of all that have an IP address.
func (l *Lab) NewBoxProber(ctx context.Context) (*BoxProber, error) {
	p := &BoxProber{gallery: newGallery(l), answers: make(map[netip.Addr]int)}
	for _, end := range l.panel.box {
		end.Watch(p.watch)
	}
	err := p.open(func(party string) (net.HardwareAddr, error) {
		port, _ := l.panel.place(l.Config, party)
		if port == nil {
			return nil, fmt.Errorf("the box has no port for %s", party)
		}
		return port.MAC[:], nil
	})
	if err == nil {
		err = p.Settle(ctx)
	}
	if err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close ends the watching.
func (p *BoxProber) Close() {
	for _, end := range p.lab.panel.box {
		end.Watch(nil)
	}
	p.gallery.close()
}

// watch sees what goes over the box's cables: it notes packets on the way to the box,
// and its ARP answers. RFC 826.
func (p *BoxProber) watch(fromBox bool, frame []byte) {
	const tagged, arp, answer = 0x8100, 0x0806, 2
	if !fromBox {
		if t, ok := probe.FindToken(frame); ok {
			p.mu.Lock()
			defer p.mu.Unlock()
			if f := p.flights[t]; f != nil {
				f.met = true
			}
		}
		return
	}
	if len(frame) < 18 {
		return
	}
	at := 12
	if binary.BigEndian.Uint16(frame[at:]) == tagged {
		at += 4
	}
	if binary.BigEndian.Uint16(frame[at:]) != arp || len(frame) < at+30 || binary.BigEndian.Uint16(frame[at+8:]) != answer {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[netip.AddrFrom4([4]byte(frame[at+26:at+30]))]++
	p.wake()
}

// Settle returns when the box has dealt with everything that any host sent it before.
// Each host asks for the box's MAC address, on the same way as its packets; the box
// takes what comes in by a port in turn, so that it has decided on those when it
// answers.
func (p *BoxProber) Settle(ctx context.Context) error {
	asked := p.introductions()
	before := make(map[netip.Addr]int)
	p.mu.Lock()
	for _, i := range asked {
		before[i.who] = p.answers[i.who]
	}
	p.mu.Unlock()
	var missing []netip.Addr
	all := func() bool {
		missing = nil
		for _, i := range asked {
			if p.answers[i.who] == before[i.who] {
				missing = append(missing, i.who)
			}
		}
		return len(missing) == 0
	}
	for range maxTries {
		if err := p.introduceAgain(); err != nil {
			return err
		}
		waiting, cancel := context.WithTimeout(ctx, tryTime)
		err := p.await(waiting, all)
		cancel()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("the box does not tell %v its MAC address", missing)
}

// Refused returns what the box has refused so far, in packets by counter.
func (l *Lab) Refused(ctx context.Context) (map[string]uint64, error) {
	rules, err := l.API.Rules(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the box for its counters: %w", err)
	}
	list := make(map[string]uint64)
	for _, c := range rules.Refused {
		list[c.Name] = c.Packets
	}
	return list, nil
}

// tally is what had been counted at a time.
type tally struct {
	refused map[string]uint64
	lost    uint64
}

func (p *BoxProber) tally(ctx context.Context) (t tally, err error) {
	t.refused, err = p.lab.Refused(ctx)
	t.lost = p.lab.lost()
	return t, err
}

// since returns by how much which counters have grown since an earlier tally. What the
// box itself sent is left out: its kernel says hello in IPv6 when it likes. The error
// says that not every packet came to the box.
func (t tally) since(earlier tally) (map[string]uint64, error) {
	list := make(map[string]uint64)
	for name, n := range t.refused {
		if d := n - earlier.refused[name]; d != 0 && !strings.HasPrefix(name, model.Box+"_") {
			list[name] = d
		}
	}
	if n := t.lost - earlier.lost; n > 0 {
		return nil, fmt.Errorf("%d packets were lost on the way to the box", n)
	}
	return list, nil
}

// counter is the name of the one that counts a question's packet if it is refused.
func (q *Question) counter() string {
	switch q.Expect.Reason {
	case policy.Spoofed, policy.Borrowed, policy.IPv6:
		return q.Flow.From + "." + string(q.Expect.Reason)
	}
	return q.Flow.From + "_" + q.To
}

// volley is how many packets are sent before the box has dealt with them: fewer than
// fit in any queue on the way.
const volley = 200

// Ask puts the questions to the box's kernel. Questions about what the box itself
// sends are not for this prober.
//
// First it asks what is to be refused. The counters of the box must have grown by
// these packets, and nothing may have arrived anywhere. Then it asks what is to be let
// through: for other hosts it must arrive there, and for the box itself it must not
// be among what was refused. In this order, and with protocols without ports asked for
// refusals only, nothing can pass as the answer to something that was allowed.
//
// Where a counter differs and no arrival says which packet it was, all that may be
// meant are answered wrongly.
func (p *BoxProber) Ask(ctx context.Context, questions []Question) ([]Answer, error) {
	answers := make([]Answer, len(questions))
	for i, q := range questions {
		answers[i].Question = q
	}
	for _, allow := range []bool{false, true} {
		var round []*Answer
		for i := range answers {
			if answers[i].Expect.Allow == allow {
				round = append(round, &answers[i])
			}
		}
		if err := p.fire(ctx, round, allow); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// fire asks questions of which all are to be let through, or none.
func (p *BoxProber) fire(ctx context.Context, round []*Answer, allow bool) error {
	before, err := p.tally(ctx)
	if err != nil {
		return err
	}
	flights := make([]*flight, len(round))
	for n, a := range round {
		s := a.Shot
		s.Packet.Token, flights[n] = p.launch(s.Packet.Proto, s.Packet.Type, false)
		if err := p.shoot(s); err != nil {
			return fmt.Errorf("shot from %s: %w", s.From.Name, err)
		}
		if n%volley == volley-1 || n == len(round)-1 {
			if err := p.Settle(ctx); err != nil {
				return err
			}
		}
	}
	after, err := p.tally(ctx)
	if err != nil {
		return err
	}
	refused, err := after.since(before)
	if err != nil {
		return err
	}
	if allow {
		if err := p.landed(ctx, round, flights); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, a := range round {
		a.At = mapKeys(flights[n].at)
		slices.Sort(a.At)
	}
	clear(p.flights)
	judge(round, allow, refused)
	return nil
}

// landed waits for what is to arrive at other hosts than the box, as long as anything
// can be on its way.
func (p *BoxProber) landed(ctx context.Context, round []*Answer, flights []*flight) error {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	err := p.await(ctx, func() bool {
		for n, a := range round {
			if a.Receiver != gatewayName && !flights[n].at[a.Receiver] {
				return false
			}
		}
		return true
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // the answers say it
	}
	return err
}

// judge completes the answers by what the box has refused of them.
func judge(round []*Answer, allow bool, refused map[string]uint64) {
	want := make(map[string]uint64)
	for _, a := range round {
		if !allow {
			want[a.counter()]++
		}
	}
	for _, a := range round {
		wrong := refused[a.counter()] != want[a.counter()]
		switch {
		case allow && a.Receiver == gatewayName && !wrong:
			a.At = append(a.At, gatewayName)
		case !allow && wrong && len(a.At) == 0:
			a.At = []string{gatewayName}
		}
	}
}

// Frame is one that is sent as it is, by a host or by the switch itself.
type Frame struct {
	From   *Host  // sends it by its network card; nil: the switch sends it to the box
	Port   string // of the box that it then leaves by
	Header []byte // what comes before the packet
	Packet probe.Packet
}

// Thrown is what became of a frame.
type Thrown struct {
	AtBox bool     // it was put on the box's cable
	At    []string // names of the hosts where its packet arrived, sorted
}

// Throw sends frames. It returns, when the box has dealt with all of them, what became
// of each and by how much which of the box's counters have grown. The error says, too,
// that some did not come to the box which the switch had passed on.
func (p *BoxProber) Throw(ctx context.Context, frames []Frame) ([]Thrown, map[string]uint64, error) {
	before, err := p.tally(ctx)
	if err != nil {
		return nil, nil, err
	}
	flights := make([]*flight, len(frames))
	for n, f := range frames {
		f.Packet.Token, flights[n] = p.launch(f.Packet.Proto, f.Packet.Type, false)
		frame := append(slices.Clone(f.Header), f.Packet.Bytes()...)
		switch {
		case f.From != nil:
			err = p.wires[f.From].SendFrame(frame)
		case !p.lab.BoxPort(f.Port).Send(frame):
			err = errors.New("no room in the queue to the box")
		}
		if err != nil {
			return nil, nil, err
		}
		if n%volley == volley-1 {
			if err := p.Settle(ctx); err != nil {
				return nil, nil, err
			}
		}
	}
	// What the box passed on left it before it answered the first time, and has
	// arrived when what it is asked then has come back.
	for range 2 {
		if err := p.Settle(ctx); err != nil {
			return nil, nil, err
		}
	}
	after, err := p.tally(ctx)
	if err != nil {
		return nil, nil, err
	}
	refused, err := after.since(before)
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Thrown, len(frames))
	for n, f := range flights {
		list[n] = Thrown{f.met, mapKeys(f.at)}
		slices.Sort(list[n].At)
	}
	clear(p.flights)
	return list, refused, nil
}

// lost returns how much the switches could not pass on to the box, which has not
// counted it.
func (l *Lab) lost() (n uint64) {
	for _, end := range l.panel.box {
		c := end.Counters()
		n += c.Dropped[vswitch.QueueFull] + c.Dropped[vswitch.Unplugged]
	}
	return n
}

// boxQuestions leaves out what cannot be asked of a box that nobody can look into: what
// it sends itself, and protocols whose ports its kernel does not follow where they are
// let through, as an opened connection would let others pass.
func boxQuestions(list []Question) []Question {
	return slices.DeleteFunc(list, func(q Question) bool {
		ported := slices.Contains([]uint8{probe.TCP, probe.UDP, probe.ICMP}, q.Packet.Proto)
		return q.Flow.From == model.Box || q.Expect.Allow && !ported
	})
}
