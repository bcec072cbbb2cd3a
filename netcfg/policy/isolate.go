package policy

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

// Isolation keeps a machine from everybody: it reaches nothing but the box's DHCP server
// in its zone and a page that says so, whichever one it asks for, and nobody reaches it. No
// rule changes that.
type Isolation struct {
	MAC       model.MAC    // it, with whatever address and in whatever zone; zero: not known
	Addresses []netip.Addr // whoever has one of them, and where it is reached
	Until     time.Time    // first instant at which it is free; zero: never
}

// isolated is what is isolated now.
type isolated struct {
	macs  map[model.MAC]bool
	addrs map[netip.Addr]bool
}

// isolate notes what is isolated. The devices of the inventory with a MAC are isolated
// with their addresses. Addresses that no machine in a zone can have are left out: the
// box itself cannot be isolated.
func (p *Policy) isolate() {
	p.isolated = isolated{macs: map[model.MAC]bool{}, addrs: map[netip.Addr]bool{}}
	for _, i := range p.Env.Isolated {
		if p.over(i.Until) {
			continue
		}
		for _, a := range i.Addresses {
			p.isolateAddr(a)
		}
		if i.MAC.IsZero() {
			continue
		}
		p.isolated.macs[i.MAC] = true
		for _, d := range p.Config.Devices {
			if d.MAC == i.MAC {
				p.isolateAddr(p.AddressOf(d))
			}
		}
	}
}

func (p *Policy) isolateAddr(a netip.Addr) {
	z := p.Config.ZoneOf(a)
	if z == nil || a == z.Gateway || a == Broadcast(z.Subnet) {
		return
	}
	p.isolated.addrs[a] = true
	if p.byAddr[a] == nil { // so that it is told apart from the others in its zone
		p.nets[z.Name] = append(p.nets[z.Name], netip.PrefixFrom(a, a.BitLen()))
	}
}

// fromIsolated reports whether a flow out of a zone is an isolated machine's.
func (p *Policy) fromIsolated(f Flow) bool { return p.isolated.macs[f.MAC] || p.isolated.addrs[f.Src] }

// Told returns the port of the box at which an isolated machine is told that it is one, if
// it asks a web server or a DNS server for something, whichever.
func Told(proto uint8, port uint16) (at uint16, ok bool) {
	switch {
	case proto == model.ProtoTCP && port == 80:
		return svcconf.NoticeHTTP, true
	case (proto == model.ProtoUDP || proto == model.ProtoTCP) && port == 53:
		return svcconf.NoticeDNS, true
	}
	return 0, false
}

// Noticed reports whether f is led to where an isolated machine is told, and what it is then.
func (p *Policy) Noticed(f Flow) (Flow, bool) {
	z := p.Config.Zone(f.From)
	if z == nil || !p.fromIsolated(f) {
		return f, false
	}
	at, ok := Told(f.Proto, f.Port)
	if ok {
		f.Dst, f.Port = z.Gateway, at
	}
	return f, ok
}

// toNotice reports whether f is meant for where isolated machines of its zone are told, by
// the port at which the box does so. Nobody comes there but who is led there.
func (p *Policy) toNotice(f Flow, z *model.Zone) bool {
	return p.Isolates() && f.Dst == z.Gateway &&
		slices.ContainsFunc(serviceNotice, func(s model.Service) bool { return s.Contains(f.Proto, f.Port) })
}

// toIsolated reports whether a flow is meant for an isolated machine, and is not what the
// box's DHCP server says to it. From the internet there is no way there anyway: its
// forwards are gone.
func (p *Policy) toIsolated(f Flow) bool {
	dhcp := f.From == model.Box && serviceDHCPReply.Contains(f.Proto, f.Port)
	return f.From != model.Internet && p.isolated.addrs[f.Dst] && !dhcp
}

// IsolatedMACs returns the MACs of isolated machines, sorted.
func (p *Policy) IsolatedMACs() []model.MAC {
	return slices.SortedFunc(maps.Keys(p.isolated.macs), func(a, b model.MAC) int { return slices.Compare(a[:], b[:]) })
}

// IsolatedAddrs returns the addresses of isolated machines, sorted.
func (p *Policy) IsolatedAddrs() []netip.Addr {
	return slices.SortedFunc(maps.Keys(p.isolated.addrs), netip.Addr.Compare)
}

// Isolates reports whether a machine is isolated.
func (p *Policy) Isolates() bool { return len(p.isolated.macs)+len(p.isolated.addrs) > 0 }
