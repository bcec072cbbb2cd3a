//go:build linux

package lab

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"bulkhead/images/lab/probe"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
)

// Question is one connection that somebody tries to open, and what the policy says
// about it.
type Question struct {
	Shot
	Flow     policy.Flow
	To       string // party
	Service  model.Service
	Expect   policy.Decision
	Receiver string // host that the packet arrives at if it is allowed
}

// Answer is a question with what the kernel did.
type Answer struct {
	Question
	Hit
}

// Arrived reports whether the packet came to anybody.
func (a Answer) Arrived() bool { return len(a.At) > 0 }

// Wrong reports whether the kernel did something else than the policy says: let
// through what is refused, refused what is allowed, or delivered it elsewhere.
func (a Answer) Wrong() bool {
	if !a.Expect.Allow {
		return a.Arrived()
	}
	return !slices.Equal(a.At, []string{a.Receiver})
}

func (a Answer) String() string {
	s := fmt.Sprintf("%s (%s) → %s %s: policy says ", a.From.Name, a.Flow.Src, a.Flow.Dst, a.Service)
	if a.Flow.From == model.Box && a.Flow.UID != 0 {
		s = fmt.Sprintf("user %d: %s", a.Flow.UID, s)
	}
	if a.Expect.Allow {
		s += "allow"
	} else {
		s += "deny"
	}
	if r := a.Expect.Rule; r != nil {
		s += " (" + r.Name + ")"
	} else {
		s += " (" + string(a.Expect.Reason) + ")"
	}
	switch {
	case a.Refused:
		return s + ", the box refused to send it"
	case !a.Arrived():
		return s + ", it arrived nowhere"
	}
	return s + fmt.Sprintf(", it arrived at %v", a.At)
}

// Party is a host with its compartment: one who can send and receive.
type Party struct {
	Name string // zone or internet
	Host *Host
	Addr netip.Addr
	MAC  model.MAC // of zone members
}

// Parties are all senders and receivers of the lab, the box left out.
func (l *Lab) Parties() []Party {
	var list []Party
	for _, z := range l.Config.Zones { // in the order of the file
		for _, c := range l.Clients {
			if c.Zone == z && c.Addr.IsValid() {
				list = append(list, Party{z.Name, c.Host, c.Addr, c.MAC})
			}
		}
	}
	if l.Uplink.IsValid() {
		list = append(list, Party{Name: model.Internet, Host: l.Outside, Addr: l.OutsideAddr()})
		list = append(list, Party{Name: model.Internet, Host: l.Far, Addr: farAddr})
	}
	return list
}

// BoxAddr is the box's address towards a party.
func (l *Lab) BoxAddr(name string) netip.Addr {
	if z := l.Config.Zone(name); z != nil {
		return z.Gateway
	}
	return l.Uplink.Addr()
}

// Services lists what is worth asking about: every port and type that some rule
// names, the ones next to it (with edges), and some of each protocol that no rule
// names.
func Services(p *policy.Policy, edges bool) []model.Service {
	list := []model.Service{
		model.OnePort(model.ProtoTCP, 6000), model.OnePort(model.ProtoUDP, 6000), model.ICMP(model.EchoRequest),
		model.OnePort(model.ProtoSCTP, 6000), {Proto: model.ProtoGRE},
	}
	add := func(proto uint8, n int) {
		if n >= 0 && n < 1<<16 {
			list = append(list, model.OnePort(proto, uint16(n)))
		}
	}
	named := func(s model.Service) {
		if s.Any || !s.Ports || !slices.Contains([]uint8{probe.TCP, probe.UDP, probe.SCTP}, s.Proto) {
			return
		}
		add(s.Proto, int(s.Lo))
		add(s.Proto, int(s.Hi))
		if edges {
			add(s.Proto, int(s.Lo)-1)
			add(s.Proto, int(s.Hi)+1)
			add(model.ProtoTCP+model.ProtoUDP-s.Proto, int(s.Lo)) // the same port of the other protocol
		}
	}
	for _, pair := range p.Pairs() {
		for _, e := range p.Entries(pair) {
			named(e.Service)
		}
	}
	for _, f := range p.Forwards() {
		for _, s := range f.Ports {
			named(s)
		}
	}
	slices.SortFunc(list, func(a, b model.Service) int {
		return cmp.Or(cmp.Compare(order(a.Proto), order(b.Proto)), cmp.Compare(a.Lo, b.Lo))
	})
	list = slices.Compact(list)
	return slices.DeleteFunc(list, func(s model.Service) bool { // SCTP's opposite is nothing
		return s.Ports && !slices.Contains([]uint8{probe.TCP, probe.UDP, probe.SCTP}, s.Proto)
	})
}

// order puts protocols in the order in which people think of them.
func order(proto uint8) int {
	return slices.Index([]uint8{probe.TCP, probe.UDP, probe.ICMP, probe.SCTP, probe.GRE}, proto)
}

// firstPort is the source port of the first question. It is above those of the
// services, and the following questions count up from it: no two share a
// connection.
const firstPort = 20000

// Questions asks about every service between every ordered pair of hosts in
// different parties, the box included.
func (l *Lab) Questions(p *policy.Policy, services []model.Service) []Question {
	var list []Question
	all := l.Parties()
	for _, s := range services {
		for _, from := range all {
			flow := policy.Flow{From: from.Name, MAC: from.MAC, Src: from.Addr}
			for _, to := range all {
				if from.Name != to.Name {
					flow.Dst = to.Addr
					list = append(list, l.Question(p, from.Host, flow, s))
				}
			}
			flow.Dst = l.BoxAddr(from.Name)
			list = append(list, l.Question(p, from.Host, flow, s))
			list = append(list, l.Question(p, l.Gateway, policy.Flow{From: model.Box, Src: l.BoxAddr(from.Name), Dst: from.Addr}, s))
		}
	}
	return list
}

// Question completes a question about one packet: what it looks like, what the
// policy says and who would receive it. The flow's service is filled in.
func (l *Lab) Question(p *policy.Policy, from *Host, flow policy.Flow, s model.Service) Question {
	flow.SrcPort = uint16(firstPort + l.asked%40000)
	l.asked++
	flow.Proto, flow.Port = s.Proto, s.Lo
	q := Question{Flow: flow, Service: s, Expect: p.Decide(flow)}
	q.Shot = Shot{From: from, UID: flow.UID, Packet: probe.Packet{
		Src: flow.Src, Dst: flow.Dst, Proto: flow.Proto, SrcPort: flow.SrcPort, DstPort: flow.Port,
	}}
	switch s.Proto {
	case probe.TCP:
		q.Packet.Flags = probe.SYN
	case probe.ICMP:
		q.Packet.Type = uint8(flow.Port)
	}
	q.To, q.Receiver = model.Box, gatewayName
	for _, to := range l.Parties() {
		if to.Addr == flow.Dst {
			q.To, q.Receiver = to.Name, to.Host.Name
		}
	}
	if q.Expect.Allow && q.Expect.To == model.Box { // whomever it was meant for
		q.To, q.Receiver = model.Box, gatewayName
	}
	for _, f := range p.Forwards() { // which deliver elsewhere
		if q.Expect.Rule == f.Rule {
			q.Receiver = ""
			for _, c := range l.Clients {
				if c.Device != nil && c.Device.Name == f.Device.Name {
					q.Receiver = c.Name
				}
			}
		}
	}
	return q
}

// Ask puts the questions to the kernel.
func (p *Prober) Ask(ctx context.Context, questions []Question) ([]Answer, error) {
	shots := make([]Shot, len(questions))
	for i, q := range questions {
		shots[i] = q.Shot
	}
	hits, err := p.Fire(ctx, shots)
	if err != nil {
		return nil, err
	}
	answers := make([]Answer, len(questions))
	for i, q := range questions {
		answers[i] = Answer{q, hits[i]}
	}
	return answers, nil
}

// Matrix is the zone matrix: what came through between every two parties.
type Matrix struct {
	Parties []string
	Cells   map[policy.Pair]*Cell
	Packets int
	Wrong   []Answer
	Took    time.Duration
}

// Cell is what came through from one party to another.
type Cell struct {
	Answers []Answer
	Wrong   int
}

// Matrix measures the zone matrix with real packets and holds it against the
// policy. Of a gateway that is a virtual machine, the row of the box is empty.
func (l *Lab) Matrix(ctx context.Context, p *policy.Policy) (*Matrix, error) {
	start := time.Now()
	questions := l.Questions(p, Services(p, false))
	var prober interface {
		Ask(context.Context, []Question) ([]Answer, error)
		Close()
	}
	var err error
	if l.Box != nil {
		questions = boxQuestions(questions)
		prober, err = l.NewBoxProber(ctx)
	} else {
		prober, err = l.NewProber(ctx)
	}
	if err != nil {
		return nil, err
	}
	defer prober.Close()
	answers, err := prober.Ask(ctx, questions)
	if err != nil {
		return nil, err
	}
	m := &Matrix{Cells: make(map[policy.Pair]*Cell), Packets: len(answers)}
	for _, z := range l.Config.Zones {
		m.Parties = append(m.Parties, z.Name)
	}
	m.Parties = append(m.Parties, model.Internet, model.Box)
	for _, a := range answers {
		pair := policy.Pair{From: a.Flow.From, To: a.To}
		c := m.Cells[pair]
		if c == nil {
			c = new(Cell)
			m.Cells[pair] = c
		}
		c.Answers = append(c.Answers, a)
		if a.Wrong() {
			c.Wrong++
			m.Wrong = append(m.Wrong, a)
		}
	}
	m.Took = time.Since(start)
	return m, nil
}
