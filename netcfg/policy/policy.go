// Package policy says what a configuration means: may this connection be opened,
// and which rule decides. It is the specification that the ruleset, the plan, the
// simulator and the configuration's own tests are held against, so it is written
// to be read: it looks at every rule of a pair of parties, one after the other.
//
// The policy is a set of allows, and a block wins over every allow; there is no
// order to learn. When several rules cover one connection the verdict is the same
// whichever is named, and the most specific gives its name (see [Entry.rank]).
//
// The package is pure: it knows no clock, no files and no kernel.
package policy

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"bulkhead/netcfg/diag"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

// Env is what the meaning of a configuration depends on besides the file.
type Env struct {
	Now       time.Time             // rules whose time is over do not exist
	Uplink    netip.Prefix          // the box's address on the uplink, host bits set; zero: none
	Resolvers []netip.AddrPort      // what dnsd asks
	Devices   map[string]netip.Addr // addresses of devices that the file gives none
	Isolated  []Isolation           // machines that are kept from everybody
}

// Policy is the meaning of one configuration at one time. It is immutable.
type Policy struct {
	Config *model.Config
	Env    Env
	// Rules are all rules in force: the box's own, then the file's in its order.
	Rules []*Rule

	pairs    map[Pair][]Entry
	byAddr   map[netip.Addr]*model.Device
	confined map[model.MAC]*model.Device // that some block names as a source
	forwards []*Forward
	names    map[uint32]*Rule
	nets     map[string][]netip.Prefix // networks and addresses that rules name, by party, sorted
	isolated isolated
	released *Policy // what it would mean without isolation; itself if nothing is isolated
}

// Rule is one rule in force.
type Rule struct {
	Name  string // of the box's own rules: "box:dns"
	ID    uint32 // 16 to 2^28-1, for the connection's mark
	Block bool
	Why   string
	Pos   diag.Pos // zero for the box's own rules, where the zone stands for [Observing]
	Until time.Time

	order   int  // place in the file; the box's own come first
	forward bool // the name of a forward
	admin   bool // the way to the management pages: see [Entry.rank]
}

// Mark is the packet mark of the rule's verdict: its ID, with [BlockBit] set for
// blocks. The connection's mark is the same for allows.
func (r *Rule) Mark() uint32 {
	if r.Block {
		return r.ID | BlockBit
	}
	return r.ID
}

// BlockBit in a packet mark says that the rule refuses. Bits 29 to 31 are free.
const BlockBit = 1 << 28

// Pair is two parties: the names of zones, [model.Internet] or [model.Box].
type Pair struct{ From, To string }

// Side is one side of an [Entry] within its party.
type Side struct {
	Whole  bool         // everything in the party
	Prefix netip.Prefix // otherwise; a single address has all bits
}

func (s Side) contains(a netip.Addr) bool { return s.Whole || s.Prefix.Contains(a) }

func (s Side) host() bool { return !s.Whole && s.Prefix.IsSingleIP() }

// Entry is one rule cut down to one pair of parties, one pair of endpoints and one
// service.
type Entry struct {
	Rule     *Rule
	From, To Side
	UID      int // sender, for what the box's daemons send; 0: any
	Service  model.Service
}

// Tier is the kind of an entry's endpoints, from general to specific.
type Tier uint8

// The tiers. In the names, the first word is the source and the second the
// destination. A network has more than one address; where one side is a network the
// other may be a network or a host.
const (
	TierDaemonWhole Tier = iota // one of the box's users to everything
	TierDaemonHost
	TierWhole
	TierWholeNet
	TierNetWhole
	TierNet
	TierWholeHost
	TierHostWhole
	TierHostHost
	TierForward // through a forward
)

// Tier returns the entry's tier.
func (e Entry) Tier() Tier {
	switch {
	case e.Rule.forward:
		return TierForward
	case e.UID != 0 && e.To.Whole:
		return TierDaemonWhole
	case e.UID != 0:
		return TierDaemonHost
	case e.From.Whole && e.To.Whole:
		return TierWhole
	case e.From.Whole && e.To.host():
		return TierWholeHost
	case e.From.host() && e.To.Whole:
		return TierHostWhole
	case e.From.host() && e.To.host():
		return TierHostHost
	case e.From.Whole:
		return TierWholeNet
	case e.To.Whole:
		return TierNetWhole
	}
	return TierNet
}

// Form is how an entry's service picks packets, from general to specific.
type Form uint8

// The forms.
const (
	FormAny      Form = iota
	FormProto         // a whole IP protocol
	FormPorts         // IP protocol and a range of destination ports
	FormPort          // IP protocol and one destination port
	FormICMPType      // ICMP type; never overlaps ports
)

// Form returns the form of the entry's service.
func (e Entry) Form() Form {
	switch {
	case e.Service.Any:
		return FormAny
	case e.Service.Ports && e.Service.Lo != e.Service.Hi:
		return FormPorts
	case e.Service.Ports:
		return FormPort
	case e.Service.Type:
		return FormICMPType
	}
	return FormProto
}

// rank orders entries so that the greatest of those covering a connection decides:
// blocks over allows, then by tier, then by form, then by place in the file, the
// earlier being the greater.
//
// One exception keeps people from locking themselves out: the way to the
// management pages is above blocks of whole zones and of networks, and below blocks
// that name a device or an address.
func (e Entry) rank() [4]int {
	block, tier := 0, int(e.Tier())
	if e.Rule.Block {
		block = 1
	}
	if e.Rule.admin {
		return [4]int{1, int(TierNet), int(FormICMPType) + 1, -e.Rule.order}
	}
	return [4]int{block, tier, int(e.Form()), -e.Rule.order}
}

// Compare orders entries from the one that gives way to the one that decides.
func Compare(a, b Entry) int {
	x, y := a.rank(), b.rank()
	return slices.Compare(x[:], y[:])
}

// Admin reports whether the entry is the way to the management pages, which has a
// rank of its own.
func (e Entry) Admin() bool { return e.Rule.admin }

// Forward is a forward in force.
type Forward struct {
	Rule   *Rule
	Device *model.Device
	To     netip.Addr
	Ports  []model.Service
}

// New works out what a configuration means.
func New(cfg *model.Config, env Env) *Policy {
	p := &Policy{Config: cfg, Env: env, pairs: map[Pair][]Entry{}, byAddr: map[netip.Addr]*model.Device{}, confined: map[model.MAC]*model.Device{}, names: map[uint32]*Rule{}, nets: map[string][]netip.Prefix{}}
	for _, d := range cfg.Devices {
		if a := p.AddressOf(d); a.IsValid() {
			p.byAddr[a] = d
		}
	}
	p.isolate()
	p.ownRules()
	for _, r := range cfg.Allow {
		p.addRule(r, false)
	}
	for _, r := range cfg.Block {
		p.addRule(r, true)
	}
	for _, f := range cfg.Forwards {
		p.addForward(f)
	}
	for _, z := range cfg.Zones {
		p.observe(z)
	}
	p.number()
	for pair, entries := range p.pairs {
		slices.SortStableFunc(entries, Compare)
		p.collect(pair, entries)
	}
	for party, nets := range p.nets {
		slices.SortFunc(nets, comparePrefix)
		p.nets[party] = slices.Compact(nets)
	}
	p.released = p
	if p.Isolates() {
		env.Isolated = nil
		p.released = New(cfg, env)
	}
	return p
}

// collect remembers the networks that entries name.
func (p *Policy) collect(pair Pair, entries []Entry) {
	for _, e := range entries {
		if !e.From.Whole {
			p.nets[pair.From] = append(p.nets[pair.From], e.From.Prefix)
		}
		if !e.To.Whole {
			p.nets[pair.To] = append(p.nets[pair.To], e.To.Prefix)
		}
	}
}

// AddressOf returns a device's address: the file's, or the one it was given. It is
// zero if it has none yet; rules that name the device then do not match anything.
func (p *Policy) AddressOf(d *model.Device) netip.Addr {
	if d.Address.IsValid() {
		return d.Address
	}
	return p.Env.Devices[d.Name]
}

// DeviceAt returns the device that has an address, in the file or given by the box; nil: none.
func (p *Policy) DeviceAt(a netip.Addr) *model.Device { return p.byAddr[a] }

// Confined reports whether a device may use no address but its own: one that is
// blocked from something must not get round it by taking another address. Devices
// that are only allowed things lose those with the address, and need no more.
func (p *Policy) Confined(d *model.Device) bool { return p.confined[d.MAC] == d }

// Services of the box that zones may reach. RFC 2131, RFC 1035.
var (
	serviceDHCP      = model.OnePort(model.ProtoUDP, 67)
	serviceDHCPReply = model.OnePort(model.ProtoUDP, 68)
	serviceDNS       = []model.Service{model.OnePort(model.ProtoUDP, 53), model.OnePort(model.ProtoTCP, 53)}
	servicePing      = model.ICMP(model.EchoRequest)
	serviceNotice    = []model.Service{model.OnePort(model.ProtoTCP, svcconf.NoticeHTTP), model.OnePort(model.ProtoUDP, svcconf.NoticeDNS), model.OnePort(model.ProtoTCP, svcconf.NoticeDNS)}
	serviceAdmin     = []model.Service{model.OnePort(model.ProtoTCP, 80), model.OnePort(model.ProtoTCP, 443)}
)

// ownRules adds what zones may ask of the box and what the box's daemons may send.
// The box sends nothing else: a daemon that was taken over reaches no zone.
func (p *Policy) ownRules() {
	var (
		dhcp   = p.own("box:dhcp", "the box hands out addresses")
		dns    = p.own("box:dns", "the box answers names")
		ping   = p.own("box:ping", "the box answers pings")
		admin  = p.own("box:admin", "the management pages")
		notice = p.own(svcconf.NoticeRule, "isolated machines are told that they are")
		reply  = p.own("box:dhcp-reply", "answers of the box's DHCP server")
		ask    = p.own("box:resolve", "the box's resolver asks upstream")
		look   = p.own("box:diagnose", "the box finds out who answers")
		lease  = p.own("box:uplink", "the box keeps its lease at the uplink")
	)
	admin.admin = true
	whole := Side{Whole: true}
	for _, z := range p.Config.Zones {
		in, out := Pair{z.Name, model.Box}, Pair{model.Box, z.Name}
		p.add(out, Entry{look, whole, whole, svcconf.Diagd.ID, servicePing})
		if z.DHCP.Enabled {
			p.add(in, Entry{dhcp, whole, whole, 0, serviceDHCP})
			p.add(out, Entry{reply, whole, whole, svcconf.Dhcpd.ID, serviceDHCPReply})
		}
		if z.DNS.Enabled {
			for _, s := range serviceDNS {
				p.add(in, Entry{dns, whole, whole, 0, s})
			}
		}
		if z.Ping {
			p.add(in, Entry{ping, whole, whole, 0, servicePing})
		}
		if p.Isolates() {
			for _, s := range serviceNotice {
				p.add(in, Entry{notice, whole, whole, 0, s})
			}
		}
		if z.Admin {
			for _, s := range serviceAdmin {
				p.add(in, Entry{admin, whole, whole, 0, s})
			}
		}
	}
	if p.Config.Uplink != nil {
		p.add(Pair{model.Box, model.Internet}, Entry{look, whole, whole, svcconf.Diagd.ID, servicePing})
	}
	if u := p.Config.Uplink; u != nil && u.IPv4.Mode == model.ModeDHCP {
		p.add(Pair{model.Box, model.Internet}, Entry{lease, whole, whole, svcconf.Wand.ID, serviceDHCP})
	}
	if to := p.RemoteOfHistory(); to.IsValid() {
		push := p.own("box:push", "the box takes its history to a remote")
		if party := p.partyOf(to.Addr()); party != "" && party != model.Box {
			side := Side{Prefix: netip.PrefixFrom(to.Addr(), to.Addr().BitLen())}
			p.add(Pair{model.Box, party}, Entry{push, whole, side, svcconf.Pushd.ID, model.OnePort(model.ProtoTCP, to.Port())})
		}
	}
	p.sendRules()
	for _, r := range p.Env.Resolvers {
		party := p.partyOf(r.Addr())
		if party == "" || party == model.Box {
			continue
		}
		to := Side{Prefix: netip.PrefixFrom(r.Addr(), r.Addr().BitLen())}
		for _, proto := range []uint8{model.ProtoUDP, model.ProtoTCP} {
			p.add(Pair{model.Box, party}, Entry{ask, whole, to, svcconf.Dnsd.ID, model.OnePort(proto, r.Port())})
		}
	}
}

// RemoteOfHistory returns where the history of the configuration is taken; zero:
// nowhere, or the host has no address.
func (p *Policy) RemoteOfHistory() netip.AddrPort {
	r := p.Config.System.Push
	if r == nil {
		return netip.AddrPort{}
	}
	a := r.Address
	if r.Device != nil {
		a = p.AddressOf(r.Device)
	}
	if !a.Is4() {
		return netip.AddrPort{} // IPv6 is closed
	}
	return netip.AddrPortFrom(a, r.Port)
}

// Observing is what the name of a rule starts with that lets a zone do everything for a
// while, so that it shows what the zone needs. The zone's name follows.
const Observing = "observe:"

// observe lets an observed zone open connections to everywhere but the box. Blocks hold
// as they always do, and of the allows it is the last to give its name.
func (p *Policy) observe(z *model.Zone) {
	if z.Observed.IsZero() || p.over(z.Observed) {
		return
	}
	r := p.own(Observing+z.Name, "the zone is observed")
	r.Pos, r.Until = z.Pos, z.Observed
	whole := Side{Whole: true}
	for _, to := range p.Config.Zones {
		if to != z {
			p.add(Pair{z.Name, to.Name}, Entry{r, whole, whole, 0, model.AnyService})
		}
	}
	if p.Config.Uplink != nil {
		p.add(Pair{z.Name, model.Internet}, Entry{r, whole, whole, 0, model.AnyService})
	}
}

func (p *Policy) own(name, why string) *Rule {
	r := &Rule{Name: name, Why: why, order: len(p.Rules)}
	p.Rules = append(p.Rules, r)
	return r
}

func (p *Policy) over(until time.Time) bool { return !until.IsZero() && !p.Env.Now.Before(until) }

func (p *Policy) addRule(r *model.Rule, block bool) {
	if p.over(r.Until) {
		return
	}
	rule := &Rule{Name: r.Name, Block: block, Why: r.Why, Pos: r.Pos, Until: r.Until, order: len(p.Rules)}
	p.Rules = append(p.Rules, rule)
	for _, from := range r.From {
		if block && from.Kind == model.KindDevice && p.AddressOf(from.Device).IsValid() {
			p.confined[from.Device.MAC] = from.Device
		}
		for _, to := range r.To {
			// Within a zone the box is not in the path, and the internet
			// opens nothing but forwards.
			pair := Pair{from.Party(), to.Party()}
			fs, fok := p.side(from)
			ts, tok := p.side(to)
			if pair.From == pair.To || pair.From == model.Internet || !fok || !tok {
				continue
			}
			for _, s := range r.Services {
				if s.Any && pair.To == model.Box && !block {
					continue // "any" never includes the box
				}
				p.add(pair, Entry{rule, fs, ts, 0, s})
			}
		}
	}
}

// side reports false for a device without an address.
func (p *Policy) side(e model.Endpoint) (Side, bool) {
	switch e.Kind {
	case model.KindDevice:
		a := p.AddressOf(e.Device)
		if !a.IsValid() {
			return Side{}, false
		}
		return Side{Prefix: netip.PrefixFrom(a, a.BitLen())}, true
	case model.KindPrefix:
		// The zone's own subnet is the zone, by another name.
		if e.Zone == nil || e.Prefix != e.Zone.Subnet {
			return Side{Prefix: e.Prefix}, true
		}
	}
	return Side{Whole: true}, true
}

func (p *Policy) addForward(f *model.Forward) {
	to := p.AddressOf(f.To)
	if p.over(f.Until) || !to.IsValid() || p.Config.Uplink == nil || p.isolated.addrs[to] {
		return
	}
	rule := &Rule{Name: f.Name, Why: f.Why, Pos: f.Pos, Until: f.Until, order: len(p.Rules), forward: true}
	p.Rules = append(p.Rules, rule)
	p.forwards = append(p.forwards, &Forward{Rule: rule, Device: f.To, To: to, Ports: f.Services})
}

func (p *Policy) add(pair Pair, e Entry) { p.pairs[pair] = append(p.pairs[pair], e) }

// number gives every rule an ID that depends on its name, so that the mark of a
// connection means the same after a reload. Two names with one hash are told apart
// in the order of their names, which at 5,000 rules happens to one in 22 files.
func (p *Policy) number() {
	for _, r := range slices.SortedFunc(slices.Values(p.Rules), func(a, b *Rule) int { return cmp.Compare(a.Name, b.Name) }) {
		id := hash(r.Name) & idMask
		for id < reasonIDs || p.names[id] != nil {
			id = (id + 1) & idMask
		}
		r.ID = id
		p.names[id] = r
	}
}

const (
	idMask    = 1<<28 - 1
	reasonIDs = 16 // IDs below belong to reasons, see [Reason.Mark]
)

// hash is FNV-1a of 32 bits: stable over releases, which [hash/maphash] is not.
func hash(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}

// RuleByMark returns the rule whose ID a packet or connection mark holds, or nil.
func (p *Policy) RuleByMark(mark uint32) *Rule { return p.names[mark&idMask] }

// Pairs returns the pairs that some rule speaks of, sorted.
func (p *Policy) Pairs() []Pair {
	pairs := make([]Pair, 0, len(p.pairs))
	for pair := range p.pairs {
		pairs = append(pairs, pair)
	}
	slices.SortFunc(pairs, func(a, b Pair) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return pairs
}

// Entries returns what rules say of a pair, from the entry that gives way to the
// one that decides. Forwards are not among them.
func (p *Policy) Entries(pair Pair) []Entry { return p.pairs[pair] }

// Forwards returns the forwards in force, in the order of the file.
func (p *Policy) Forwards() []*Forward { return p.forwards }

// Next returns the first instant after Env.Now at which a rule or an isolation ends, and
// false if none does.
func (p *Policy) Next() (time.Time, bool) {
	var next time.Time
	ends := func(until time.Time) {
		if !until.IsZero() && (next.IsZero() || until.Before(next)) {
			next = until
		}
	}
	for _, r := range p.Rules {
		ends(r.Until)
	}
	for _, i := range p.Env.Isolated {
		if !p.over(i.Until) {
			ends(i.Until)
		}
	}
	return next, !next.IsZero()
}
