//go:build linux

package reconcile

import (
	"net/netip"
	"slices"

	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/state"
	"bulkhead/netcfg/svcconf"
)

// judgeOf returns what decides about a tracked connection by the policy in force: it
// stays if a rule would let it begin now, and then carries that rule's mark. Replies
// and errors about it are part of the connection.
//
// The zones in absent have no link. What goes on with them ends, whatever the rules
// say: without a route of its own a zone is somewhere beyond the default route, and
// what was meant for it would be passed on to the provider.
func judgeOf(p *policy.Policy, absent []string) func(apply.Conn) (keep bool, mark uint32) {
	gone := func(a netip.Addr) bool {
		z := p.Config.ZoneOf(a)
		return z != nil && slices.Contains(absent, z.Name)
	}
	from := sources{p: p, known: map[netip.Addr]*policy.Policy{}}
	return func(c apply.Conn) (bool, uint32) {
		o := c.Orig
		if gone(o.Src) || gone(o.Dst) || gone(c.Reply.Src) { // the last: through a forward
			return false, 0
		}
		if o.Src.IsLoopback() && o.Dst.IsLoopback() || o.Src.IsUnspecified() {
			return true, c.Mark // the box to itself; a DHCP client that has no address yet
		}
		f := policy.Flow{From: partyOf(p, o.Src), Src: o.Src, Dst: o.Dst, Proto: o.Proto, SrcPort: o.SrcPort, Port: o.DstPort}
		if o.Proto == model.ProtoICMP {
			f.Port = uint16(o.Type)
		}
		d := decide(from.of(f), f)
		switch {
		case !d.Allow || movedForward(p, d, c) || misled(p, f, c):
			return false, 0
		case d.Rule == nil:
			return true, c.Mark
		}
		return true, d.Rule.Mark()
	}
}

// maxEntries is how many entries of the policy are remembered for machines, which
// takes 12 MB.
const maxEntries = 100_000

// sources keeps what the policy says of each machine in the zones: each has many
// connections, and may be told apart by few of thousands of rules.
type sources struct {
	p       *policy.Policy
	known   map[netip.Addr]*policy.Policy
	entries int // of those known
}

func (s *sources) of(f policy.Flow) *policy.Policy {
	if s.p.Config.Zone(f.From) == nil {
		return s.p
	}
	q := s.known[f.Src]
	if q != nil {
		return q
	}
	q = s.p.From(f.From, f.Src)
	for _, pair := range q.Pairs() {
		s.entries += len(q.Entries(pair))
	}
	if s.entries++; s.entries > maxEntries {
		clear(s.known)
		s.entries = 0
	}
	s.known[f.Src] = q
	return q
}

// absent returns the zones of a configuration that have no address in what was
// compiled from it: there is no link to give it to.
func absent(r *compile.Result) []string {
	var names []string
	for _, z := range r.Policy.Config.Zones {
		if !slices.ContainsFunc(r.State.Addrs, func(a state.Addr) bool { return a.Prefix.Addr() == z.Gateway }) {
			names = append(names, z.Name)
		}
	}
	return names
}

// partyOf returns the party that an address is in, the box included.
func partyOf(p *policy.Policy, a netip.Addr) string {
	z := p.Config.ZoneOf(a)
	switch {
	case a.IsLoopback(), p.Env.Uplink.IsValid() && a == p.Env.Uplink.Addr(), z != nil && a == z.Gateway:
		return model.Box
	case z != nil:
		return z.Name
	}
	return model.Internet
}

// decide asks the policy. Conntrack does not know which of the box's users began a
// connection: it stays if any of them may have.
func decide(p *policy.Policy, f policy.Flow) policy.Decision {
	if f.From != model.Box {
		return p.Decide(f)
	}
	if z := p.Config.ZoneOf(f.Src); z != nil && f.Dst == broadcast {
		f.To = z.Name
	}
	d := p.Decide(f)
	for _, u := range svcconf.Users {
		if d.Allow {
			break
		}
		f.UID = u.ID
		d = p.Decide(f)
	}
	return d
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// misled reports whether a connection was begun when its machine was not isolated and
// would be led to where it is told that it is by now, or the other way round.
func misled(p *policy.Policy, f policy.Flow, c apply.Conn) bool {
	to, told := p.Noticed(f)
	if told {
		return c.Reply.Src != to.Dst || c.Reply.SrcPort != to.Port
	}
	// Nothing else is led to another port.
	at, ok := policy.Told(f.Proto, f.Port)
	return ok && c.Reply.SrcPort == at
}

// movedForward reports whether a connection came through a forward that by now
// leads to another device.
func movedForward(p *policy.Policy, d policy.Decision, c apply.Conn) bool {
	return slices.ContainsFunc(p.Forwards(), func(f *policy.Forward) bool {
		return f.Rule == d.Rule && f.To != c.Reply.Src
	})
}
