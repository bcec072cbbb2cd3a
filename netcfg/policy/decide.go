package policy

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"bulkhead/netcfg/model"
)

// Flow is the first packet of a connection, as it is sent: before any translation.
type Flow struct {
	From    string    // party whose link it comes in by; [model.Box] for what the box sends
	MAC     model.MAC // of the sender, in zones; zero: as it should be
	Src     netip.Addr
	Dst     netip.Addr
	Proto   uint8
	SrcPort uint16
	Port    uint16 // destination port; the type of ICMP; 0 for others
	UID     int    // of the sender, for what the box sends; 0 is root
	To      string // party it goes out to, for what the box sends to 255.255.255.255
}

// Decision is what happens to a flow.
type Decision struct {
	Allow  bool   `json:"allow"`
	Rule   *Rule  `json:"rule,omitempty"` // that decided; nil if none allows it
	Reason Reason `json:"reason"`
	To     string `json:"to"` // party it goes to; "" if it goes nowhere
}

// Reason says why, where no rule does.
type Reason string

// The reasons.
const (
	ByRule     Reason = "rule"
	NotAllowed Reason = "policy"   // no rule allows it
	Spoofed    Reason = "spoofed"  // the source is not where it says
	Borrowed   Reason = "borrowed" // a device's address with another MAC, or a blocked device with another address
	Bogon      Reason = "bogon"    // from the internet, with a source no one there has
	IPv6       Reason = "ipv6"     // closed so far
	Elsewhere  Reason = "address"  // a destination the box does not serve to that party
	Stray      Reason = "stray"    // not the beginning of a connection; only the ruleset sees this
	Loopback   Reason = "loopback" // the box to itself
	Answered   Reason = "answered" // by the box, whoever was asked: only queries have it
	Isolated   Reason = "isolated" // one of the two machines is kept from everybody
)

// Reasons by the ID that a refused packet's mark holds. The order is fixed: records
// keep these numbers.
var reasonOrder = []Reason{NotAllowed, Spoofed, Borrowed, Bogon, IPv6, Elsewhere, Stray, Isolated}

// Reasons returns the reasons for which packets are refused without a rule.
func Reasons() []Reason { return slices.Clone(reasonOrder) }

// Mark is the packet mark of what is refused for the reason: [BlockBit] and a
// number below all rule IDs; 0 for [NotAllowed]. It panics for reasons that refuse
// nothing.
func (r Reason) Mark() uint32 {
	i := slices.Index(reasonOrder, r)
	switch {
	case i < 0:
		panic("policy: no mark for reason " + string(r))
	case i == 0:
		return 0
	}
	return BlockBit | uint32(i)
}

// ReasonByMark is the inverse of [Reason.Mark]; [ByRule] for the mark of a rule.
func ReasonByMark(mark uint32) Reason {
	if id := int(mark & idMask); id < len(reasonOrder) {
		return reasonOrder[id]
	}
	return ByRule
}

// Bogons are sources that no packet from the internet has, unless the uplink's own
// network is one of them. RFC 6890 and its registry of special-purpose addresses.
var Bogons = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("224.0.0.0/3"),
}

var (
	unspecified = netip.IPv4Unspecified()
	everyone    = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	multicast   = netip.MustParsePrefix("224.0.0.0/4")
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	loopback    = netip.MustParsePrefix("127.0.0.0/8")
)

// Broadcast returns the highest address of an IPv4 prefix.
func Broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	n := binary.BigEndian.Uint32(b[:]) | uint32(uint64(1)<<(32-p.Bits())-1)
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// Decide says whether the connection that begins with f may be opened. Packets of
// connections that were allowed, and errors about them, are not its business.
func (p *Policy) Decide(f Flow) Decision {
	if !f.Src.Is4() || !f.Dst.Is4() {
		return Decision{Reason: IPv6}
	}
	if reason := p.source(f); reason != "" {
		return Decision{Reason: reason}
	}
	if p.toIsolated(f) {
		return Decision{Reason: Isolated}
	}
	f, told := p.Noticed(f)
	if !told && p.Env.Uplink.IsValid() && f.Dst == p.Env.Uplink.Addr() && f.From != model.Box {
		return p.forwarded(f)
	}
	if z := p.Config.Zone(f.From); z != nil && p.Forced(z) && p.asksElsewhere(f) {
		f.Dst = z.Gateway
	}
	to := p.destination(f)
	switch {
	case to == "" || to == f.From && to != model.Box:
		return Decision{Reason: Elsewhere}
	case to == model.Box && f.From == model.Box:
		return Decision{Allow: true, Reason: Loopback, To: to}
	}
	e, ok := p.best(Pair{f.From, to}, f, false)
	if !ok {
		return Decision{Reason: NotAllowed, To: to}
	}
	return Decision{Allow: !e.Rule.Block, Rule: e.Rule, Reason: ByRule, To: to}
}

// From returns the policy less all that does not speak of one source. It decides on
// flows from there as p does, sooner: that pays for whoever has many of them.
func (p *Policy) From(party string, src netip.Addr) *Policy {
	q := *p
	q.pairs = map[Pair][]Entry{}
	for pair, entries := range p.pairs {
		if pair.From != party {
			continue
		}
		var own []Entry // no longer than needed: there may be many of these policies
		for _, e := range entries {
			if e.From.contains(src) {
				own = append(own, e)
			}
		}
		q.pairs[pair] = own
	}
	return &q
}

// To returns the policy less all that does not speak of one destination. It decides on
// flows to there as p does, sooner.
func (p *Policy) To(party string, dst netip.Addr) *Policy {
	q := *p
	q.pairs = map[Pair][]Entry{}
	for pair, entries := range p.pairs {
		switch pair.To {
		case model.Box: // which answers what is meant for others, and has more than one address
			q.pairs[pair] = entries
		case party:
			q.pairs[pair] = slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return !e.To.contains(dst) })
		}
	}
	return &q
}

// source says what is wrong with where f says it comes from, or "".
func (p *Policy) source(f Flow) Reason {
	if f.From == model.Box {
		return ""
	}
	z := p.Config.Zone(f.From)
	switch {
	case z == nil:
		return p.fromInternet(f.Src)
	case f.Src == unspecified && toDHCPServer(f) && z.DHCP.Enabled:
		return ""
	case !z.Subnet.Contains(f.Src) || f.Src == z.Gateway || f.Src == Broadcast(z.Subnet):
		return Spoofed
	case p.fromIsolated(f):
		dhcp := z.DHCP.Enabled && fromDHCPClient(f) && (f.Dst == everyone || f.Dst == z.Gateway)
		if _, told := Told(f.Proto, f.Port); !dhcp && !told {
			return Isolated
		}
	case p.toNotice(f, z):
		return NotAllowed
	}
	if d := p.byAddr[f.Src]; d != nil && !f.MAC.IsZero() && f.MAC != d.MAC {
		return Borrowed
	}
	// A lease from before the device was blocked is still given back or renewed.
	if d := p.confined[f.MAC]; d != nil && d.Zone == z && p.byAddr[f.Src] != d && !fromDHCPClient(f) {
		return Borrowed
	}
	return ""
}

func fromDHCPClient(f Flow) bool {
	return f.Proto == model.ProtoUDP && f.SrcPort == 68 && f.Port == 67
}

// toDHCPServer reports whether f is a client's broadcast to whatever DHCP server
// there is. Its source is 0.0.0.0 until it has an address. RFC 2131 section 4.1.
func toDHCPServer(f Flow) bool {
	return f.Dst == everyone && fromDHCPClient(f)
}

// fromInternet says what is wrong with a source on the uplink's side. While the
// uplink has no address there is no way back to anyone.
func (p *Policy) fromInternet(src netip.Addr) Reason {
	up := p.Env.Uplink
	if !up.IsValid() || p.Config.ZoneOf(src) != nil || src == up.Addr() || up.Bits() < 31 && src == Broadcast(up) || loopback.Contains(src) {
		return Spoofed
	}
	if !up.Contains(src) && slices.ContainsFunc(Bogons, func(b netip.Prefix) bool { return b.Contains(src) }) {
		return Bogon
	}
	return ""
}

// Forced reports whether the box answers all questions to DNS servers that come from the
// zone, whoever they are meant for.
func (p *Policy) Forced(z *model.Zone) bool { return z.DNS.Enabled && z.DNS.Force }

// asksElsewhere reports whether f is a question to a DNS server that is not the box.
func (p *Policy) asksElsewhere(f Flow) bool {
	if f.Port != 53 || f.Proto != model.ProtoUDP && f.Proto != model.ProtoTCP || f.Dst == everyone || multicast.Contains(f.Dst) || f.Dst == unspecified {
		return false
	}
	party := p.partyOf(f.Dst)
	return party != "" && party != model.Box
}

// destination returns the party that f goes to, or "" for addresses that the box
// does not serve to the sender: its addresses in other zones, broadcasts,
// multicast.
func (p *Policy) destination(f Flow) string {
	from := p.Config.Zone(f.From)
	switch {
	case f.Dst == everyone && f.From == model.Box:
		return f.To
	case from != nil && (toDHCPServer(f) && from.DHCP.Enabled || f.Dst == from.Gateway):
		return model.Box
	case f.Dst == everyone, multicast.Contains(f.Dst), f.From != model.Box && (thisNetwork.Contains(f.Dst) || loopback.Contains(f.Dst)):
		return ""
	}
	party := p.partyOf(f.Dst)
	if party == model.Box && f.From != model.Box {
		return "" // an address of the box, but another zone's
	}
	return party
}

// partyOf returns the party that a unicast address belongs to, or "" for
// broadcasts.
func (p *Policy) partyOf(a netip.Addr) string {
	up := p.Env.Uplink
	switch z := p.Config.ZoneOf(a); {
	case loopback.Contains(a), a == unspecified: // the box reaches itself at 0.0.0.0, too
		return model.Box
	case z != nil && a == Broadcast(z.Subnet):
		return ""
	case z != nil && a == z.Gateway:
		return model.Box
	case z != nil:
		return z.Name
	case up.IsValid() && a == up.Addr():
		return model.Box
	case up.IsValid() && up.Bits() < 31 && up.Contains(a) && a == Broadcast(up):
		return ""
	}
	return model.Internet
}

// forwarded decides on a flow to the uplink's address.
func (p *Policy) forwarded(f Flow) Decision {
	for _, fw := range p.forwards {
		if !slices.ContainsFunc(fw.Ports, func(s model.Service) bool { return s.Contains(f.Proto, f.Port) }) {
			continue
		}
		f.Dst = fw.To
		to := fw.Device.Zone.Name
		if e, ok := p.best(Pair{f.From, to}, f, true); ok {
			return Decision{Rule: e.Rule, Reason: ByRule, To: to}
		}
		return Decision{Allow: true, Rule: fw.Rule, Reason: ByRule, To: to}
	}
	return Decision{Reason: Elsewhere}
}

// best returns the entry that decides on f. With blocks set, only blocks count.
func (p *Policy) best(pair Pair, f Flow, blocks bool) (Entry, bool) {
	entries := p.pairs[pair]
	for i := len(entries) - 1; i >= 0; i-- {
		if e := entries[i]; e.covers(f) && (!blocks || e.Rule.Block) {
			return e, true
		}
	}
	return Entry{}, false
}

// Broadcast reports whether the entry lets the box send to 255.255.255.255. That is up to
// the rules on its daemons alone, and for those that speak by ports: no rule of the file
// names that address, and nobody asks a whole network for an echo.
func (e Entry) Broadcast() bool { return e.UID != 0 && e.To.Whole && e.Service.Ports }

// covers reports whether the entry speaks of f.
func (e Entry) covers(f Flow) bool {
	if f.From == model.Box && f.Dst == everyone && !e.Broadcast() {
		return false
	}
	return e.From.contains(f.Src) && e.To.contains(f.Dst) && (e.UID == 0 || e.UID == f.UID) &&
		e.Service.Contains(f.Proto, f.Port)
}
