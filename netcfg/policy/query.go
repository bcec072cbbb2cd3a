package policy

import (
	"cmp"
	"net/netip"
	"slices"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

// Host stands for every machine that the rules of a party treat alike: one device,
// one address or network named by some rule, or "all the others" of the party.
type Host struct {
	Party  string        // zone, [model.Internet] or [model.Box]
	Device *model.Device // nil: no device of the inventory
	Prefix netip.Prefix  // set if a rule names it, and it is no device
	Addr   netip.Addr    // one address of it
	UID    int           // of the box's own: a daemon's user; 0: anything on the box
}

// Name is how people call it: the device, the network, the zone.
func (h Host) Name() string {
	switch {
	case h.Device != nil:
		return h.Device.Name
	case h.Prefix.IsValid() && h.Prefix.IsSingleIP():
		return h.Prefix.Addr().String()
	case h.Prefix.IsValid():
		return h.Prefix.String()
	}
	return h.Party
}

// Answer is the verdict on one service between two hosts.
type Answer struct {
	From, To Host
	Service  model.Service
	Decision Decision
}

// Query answers for all connections from one endpoint to another: one answer per
// pair of hosts that rules tell apart and per part of the service that they tell
// apart. The answers for a whole zone begin with those for its unnamed machines.
func (p *Policy) Query(from, to model.Endpoint, service model.Service) []Answer {
	var answers []Answer
	for _, src := range p.Hosts(from) {
		for _, dst := range p.Hosts(to) {
			for _, s := range p.parts(Pair{src.Party, dst.Party}, service) {
				answers = append(answers, Answer{src, dst, s, p.decideOn(src, dst, s)})
			}
		}
	}
	return answers
}

// decideOn asks about one example of a connection.
func (p *Policy) decideOn(src, dst Host, s model.Service) Decision {
	if src.Party == dst.Party {
		return Decision{Reason: Elsewhere, To: dst.Party}
	}
	f := Flow{From: src.Party, Src: src.Addr, Dst: dst.Addr, Proto: s.Proto, Port: s.Lo, UID: src.UID}
	if dst.Party == model.Box {
		f.Dst = p.boxAddress(src.Party)
	}
	if src.Party == model.Internet && dst.Device != nil {
		// What the internet wants of a device it asks of the uplink's address,
		// whether or not there is one at the moment.
		if d := p.forwarded(Flow{From: f.From, Src: f.Src, Dst: p.Env.Uplink.Addr(), Proto: f.Proto, Port: f.Port}); d.To == dst.Party && p.forwardsTo(d.Rule, dst.Device) {
			return d
		}
	}
	d := p.Decide(f)
	if d.Allow && d.To == model.Box && dst.Party != model.Box {
		if _, told := p.Noticed(f); told {
			return Decision{Reason: Isolated, To: dst.Party}
		}
		return Decision{Reason: Answered, To: dst.Party} // for who asks whether it gets there
	}
	return d
}

func (p *Policy) forwardsTo(r *Rule, d *model.Device) bool {
	return slices.ContainsFunc(p.forwards, func(f *Forward) bool { return f.Rule == r && f.Device == d })
}

// boxAddress is the address at which a party finds the box.
func (p *Policy) boxAddress(party string) netip.Addr {
	if z := p.Config.Zone(party); z != nil {
		return z.Gateway
	}
	if p.Env.Uplink.IsValid() {
		return p.Env.Uplink.Addr()
	}
	return loopback.Addr()
}

// Hosts returns the hosts of an endpoint that rules tell apart, the unnamed machines
// of a zone first if there is room for any.
func (p *Policy) Hosts(e model.Endpoint) []Host {
	switch e.Kind {
	case model.KindDevice:
		a := p.AddressOf(e.Device)
		if !a.IsValid() {
			a = p.example(e.Zone.Name, e.Zone.Subnet)
		}
		return []Host{{Party: e.Zone.Name, Device: e.Device, Addr: a}}
	case model.KindBox:
		return []Host{{Party: model.Box, Addr: p.boxAddress("")}}
	case model.KindPrefix:
		return p.within(e.Party(), e.Prefix)
	case model.KindZone:
		return p.within(e.Zone.Name, e.Zone.Subnet)
	}
	return p.within(model.Internet, netip.PrefixFrom(netip.IPv4Unspecified(), 0))
}

// within returns the hosts of a party inside a network: the unnamed first.
func (p *Policy) within(party string, net netip.Prefix) []Host {
	var hosts []Host
	if a := p.example(party, net); a.IsValid() {
		h := Host{Party: party, Addr: a}
		if z := p.Config.Zone(party); (z == nil || z.Subnet != net) && net.Bits() > 0 {
			h.Prefix = net
		}
		hosts = append(hosts, h)
	}
	for _, d := range p.Config.Devices {
		if a := p.AddressOf(d); d.Zone.Name == party && a.IsValid() && net.Contains(a) {
			hosts = append(hosts, Host{Party: party, Device: d, Addr: a})
		}
	}
	for _, named := range p.nets[party] {
		if named == net || !net.Contains(named.Addr()) || named.Bits() <= net.Bits() || p.byAddr[named.Addr()] != nil && named.IsSingleIP() {
			continue
		}
		if a := p.example(party, named); a.IsValid() {
			hosts = append(hosts, Host{Party: party, Prefix: named, Addr: a})
		}
	}
	return hosts
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// example returns an address of the network that is no device, no smaller network
// that rules name, and none of the box's; zero if there is none left. The internet
// is searched from an address that can be there.
func (p *Policy) example(party string, net netip.Prefix) netip.Addr {
	var smaller []netip.Prefix
	for _, n := range p.nets[party] {
		if n.Bits() > net.Bits() && net.Contains(n.Addr()) {
			smaller = append(smaller, n)
		}
	}
	a := net.Addr()
	if net.Bits() == 0 {
		a = netip.AddrFrom4([4]byte{1, 0, 0, 0})
	}
	if net.IsSingleIP() && p.byAddr[a] == nil {
		return a
	}
	for a = a.Next(); net.Contains(a); a = a.Next() {
		if i := slices.IndexFunc(smaller, func(n netip.Prefix) bool { return n.Contains(a) }); i >= 0 {
			a = Broadcast(smaller[i])
			continue
		}
		if p.byAddr[a] == nil && p.partyOf(a) == party {
			return a
		}
	}
	return netip.Addr{}
}

// parts cuts a service where the rules of a pair cut it.
func (p *Policy) parts(pair Pair, s model.Service) []model.Service {
	cuts := p.services(pair)
	switch {
	case s.Any:
		return atoms(cuts)
	case !s.Ports && !s.Type:
		return slices.DeleteFunc(atoms(append(cuts, s)), func(a model.Service) bool { return a.Proto != s.Proto })
	}
	return slices.DeleteFunc(atoms(append(cuts, s)), func(a model.Service) bool {
		return a.Proto != s.Proto || a.Lo < s.Lo || a.Lo > s.Hi
	})
}

// services lists the services that rules on a pair name.
func (p *Policy) services(pair Pair) []model.Service {
	var list []model.Service
	for _, e := range p.pairs[pair] {
		list = append(list, e.Service)
	}
	for _, f := range p.forwards {
		if f.Device.Zone.Name == pair.To {
			list = append(list, f.Ports...)
		}
	}
	if z := p.Config.Zone(pair.From); z != nil && p.Forced(z) {
		list = append(list, serviceDNS...)
	}
	return list
}

// otherProto stands for all IP protocols that no rule names: 253 is for experiments,
// RFC 3692.
const otherProto = 253

// atoms cuts the space of services into parts that the given services treat alike.
// TCP, UDP, ICMP and "some other protocol" are always among them. Each part's Lo is
// one example of it.
func atoms(services []model.Service) []model.Service {
	starts := map[uint8][]uint32{model.ProtoTCP: {0}, model.ProtoUDP: {0}, model.ProtoICMP: {0}, otherProto: {0}}
	for _, s := range services {
		if s.Any {
			continue
		}
		starts[s.Proto] = append(starts[s.Proto], 0)
		if s.Ports || s.Type {
			starts[s.Proto] = append(starts[s.Proto], uint32(s.Lo), uint32(s.Hi)+1)
		}
	}
	var list []model.Service
	for proto, at := range starts {
		slices.Sort(at)
		at = slices.Compact(at)
		top := uint32(1 << 16)
		if proto == model.ProtoICMP {
			top = 1 << 8
		}
		for i, lo := range at {
			hi := top
			if i+1 < len(at) {
				hi = min(top, at[i+1])
			}
			if lo >= hi {
				continue
			}
			s := model.Service{Proto: proto, Lo: uint16(lo), Hi: uint16(hi - 1)}
			s.Ports, s.Type = model.HasPorts(proto), proto == model.ProtoICMP
			list = append(list, s)
		}
	}
	slices.SortFunc(list, compareService)
	return list
}

func compareService(a, b model.Service) int {
	return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Lo, b.Lo))
}

// TestResult is a statement of the configuration that does not hold, with one
// connection that shows it.
type TestResult struct {
	Test    *model.Test
	Against Answer
}

// Failures returns the tests of the configuration that do not hold.
func (p *Policy) Failures() []TestResult {
	var failed []TestResult
	for _, t := range p.Config.Tests {
		if a, ok := p.Refute(t); ok {
			failed = append(failed, TestResult{t, a})
		}
	}
	return failed
}

// Refute looks for one connection that shows that a test of this configuration does
// not hold. It reports false if there is none: the test holds. Tests speak of the
// configuration, and not of what is isolated for the time being.
func (p *Policy) Refute(t *model.Test) (Answer, bool) {
	for _, from := range t.From {
		for _, to := range t.To {
			for _, s := range t.Services {
				for _, a := range p.released.Query(from, to, s) {
					if a.Decision.Allow != t.Allow {
						return a, true
					}
				}
			}
		}
	}
	return Answer{}, false
}

// Daemons returns the users that the box's daemons run as: senders of their own,
// for the policy lets each send what its work needs and no more.
func Daemons() []Host {
	var hosts []Host
	for _, u := range svcconf.Users {
		hosts = append(hosts, Host{Party: model.Box, Addr: loopback.Addr(), UID: u.ID})
	}
	return hosts
}
