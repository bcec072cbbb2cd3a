package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/state"
)

// Priorities of base chains: include/uapi/linux/netfilter_ipv4.h.
const (
	prioRaw    = -300
	prioDstNAT = -100
	prioFilter = 0
	prioSrcNAT = 100

	counterLost   = "nowhere" // packets on links that belong to no party
	counterAstray = "astray"  // packets of zones about to leave by the uplink
)

// The names of sets and chains that are not a pair's. A dot keeps them apart from
// pairs, which are written zone_zone: names in the configuration have neither.
const (
	mapSources   = "sources"   // link to chain: where packets come from
	mapPairs     = "pairs"     // links in and out to chain
	mapToBox     = "to.box"    // link in to chain
	mapFromBox   = "from.box"  // link out to chain
	mapRefusals  = "refusals"  // link in to chain
	setSubnets   = "subnets"   // of all zones
	setBogons    = "bogons"    // never a source on the internet
	setErrors    = "errors"    // ICMP types that report on a connection
	mapForwards  = "forwards"  // protocol and port to device
	mapForwarded = "forwarded" // device, protocol and port to mark
	setForced    = "forced."   // and a zone: protocol and port to the box's address
)

func pairName(p policy.Pair) string { return p.From + "_" + p.To }

// PairText returns what the ruleset has about connections from one party to another, as nft
// prints it: the chain of the pair, and the sets and maps that are its own. It is "" for
// parties of which there is no pair.
func PairText(t *nft.Table, from, to string) string {
	name := pairName(policy.Pair{From: from, To: to})
	part := nft.Table{Name: t.Name}
	for _, s := range t.Sets {
		if strings.HasPrefix(s.Name, name+".") {
			part.Sets = append(part.Sets, s)
		}
	}
	for _, c := range t.Chains {
		if c.Name == name {
			part.Chains = append(part.Chains, c)
		}
	}
	if part.Chains == nil {
		return ""
	}
	return part.String()
}

// compileRuleset writes the policy as a ruleset.
//
// Every packet passes source.<party>, where it must prove that it comes from where
// it says. A packet that begins a connection is then dispatched by the links it
// comes from and goes to, into a chain for that pair of parties, in which a fixed
// number of lookups finds the rule that decides: the cost of a packet does not
// grow with the number of rules. Whatever no chain accepts is counted per pair
// and one by one, logged at a bounded rate, and dropped.
func (c *compiler) compileRuleset() state.Ruleset {
	t := &table{Table: nft.Table{Name: state.TableName}}
	t.set(errorSet())
	c.isolatedSets(t)
	c.sources(t)
	c.dstnat(t)
	c.base(t, "forward", nft.Dispatch{Fields: []nft.Field{nft.IIFName, nft.OIFName}, Map: mapPairs}, nft.IIFName)
	c.base(t, "input", nft.Dispatch{Fields: []nft.Field{nft.IIFName}, Map: mapToBox}, nft.IIFName)
	c.base(t, "output", nft.Dispatch{Fields: []nft.Field{nft.OIFName}, Map: mapFromBox}, nft.OIFName)
	c.srcnat(t)
	c.pairs(t)
	c.refusals(t)
	t.sort()
	text := sha256.Sum256([]byte(t.String()))
	return state.Ruleset{Table: &t.Table, Digest: hex.EncodeToString(text[:])}
}

// table is a ruleset in the making.
type table struct{ nft.Table }

func (t *table) counter(name string) nft.Count {
	if !slices.Contains(t.Counters, name) {
		t.Counters = append(t.Counters, name)
	}
	return nft.Count{Name: name}
}

func (t *table) chain(c nft.Chain) { t.Chains = append(t.Chains, c) }

// set adds a set or map unless it is empty, and reports whether it did.
func (t *table) set(s nft.Set) bool {
	if len(s.Elements) == 0 {
		return false
	}
	slices.SortFunc(s.Elements, func(a, b nft.Element) int {
		return slices.CompareFunc(a.Key, b.Key, func(x, y nft.Range) int { return cmp.Compare(x.Lo, y.Lo) })
	})
	t.Sets = append(t.Sets, s)
	return true
}

// dispatcher adds a verdict map, empty or not: base chains refer to it.
func (t *table) dispatcher(name string, key []nft.Type, elements []nft.Element) {
	s := nft.Set{Name: name, Key: key, Data: []nft.Type{nft.VerdictType}, Elements: elements}
	if !t.set(s) {
		t.Sets = append(t.Sets, s)
	}
}

func (t *table) sort() {
	slices.Sort(t.Counters)
	slices.SortStableFunc(t.Sets, func(a, b nft.Set) int { return cmp.Compare(a.Name, b.Name) })
}

func rule(stmts ...nft.Stmt) nft.Rule { return nft.Rule{Stmts: stmts} }

func goTo(chain string) nft.Verdict { return nft.Verdict{Code: nft.Goto, Chain: chain} }

func eq(f nft.Field, v nft.Value) nft.Match { return nft.Match{Field: f, Value: v} }

func ne(f nft.Field, v nft.Value) nft.Match { return nft.Match{Field: f, Op: nft.Ne, Value: v} }

func anyBit(f nft.Field, bits uint32) nft.Match {
	return nft.Match{Field: f, Op: nft.AnyBit, Value: nft.U32(bits)}
}

// inNet matches an IPv4 field against a prefix: Op Eq or Ne.
func inNet(f nft.Field, op nft.Op, p netip.Prefix) nft.Match {
	m := nft.Match{Field: f, Op: op, Value: nft.Addr(p.Masked().Addr())}
	if !p.IsSingleIP() {
		m.Mask = nft.Mask4(p.Bits())
	}
	return m
}

func iface(link string) []nft.Range { return []nft.Range{nft.One(nft.Iface(link))} }

// parties lists the zones and, last, the internet, as far as they have links.
func (c *compiler) parties() []string {
	var list []string
	for _, z := range c.cfg.Zones {
		if c.links[z.Name] != "" {
			list = append(list, z.Name)
		}
	}
	if c.links[model.Internet] != "" {
		list = append(list, model.Internet)
	}
	return list
}

// base adds a base chain that accepts what belongs to a connection, marks what
// cannot begin one, and dispatches; the chain of the pair counts and refuses what is
// marked. The mark starts from zero, whatever another table left in it: it must not
// look like a verdict.
func (c *compiler) base(t *table, hook string, d nft.Dispatch, side nft.Field) {
	chain := nft.Chain{Name: hook, Hook: &nft.Hook{Type: "filter", Hook: hook, Priority: prioFilter, Drop: true}}
	add := func(stmts ...nft.Stmt) { chain.Rules = append(chain.Rules, rule(stmts...)) }
	if hook != "forward" {
		add(eq(side, nft.Iface("lo")), nft.Verdict{Code: nft.Accept})
	}
	if link := c.links[model.Internet]; link != "" && hook != "input" && len(c.cfg.Zones) > 0 {
		// While a zone's link or route is gone its packets follow the default
		// route, those of open connections, too.
		add(eq(nft.OIFName, nft.Iface(link)), nft.InSet{Fields: []nft.Field{nft.IPDaddr}, Set: setSubnets},
			t.counter(counterAstray), nft.Verdict{Code: nft.Drop})
	}
	if hook == "output" {
		c.toIsolated(t, add)
	} else {
		c.cutIsolated(t, hook, add)
	}
	if hook == "forward" {
		c.offload(t, add)
	}
	add(anyBit(nft.CTState, nft.StateEstablished), nft.Verdict{Code: nft.Accept})
	c.related(t, hook, add)
	add(nft.SetMark{Value: 0})
	if ipv6 := eq(nft.NFProto, nft.U8(nft.NFProtoIPv6)); hook == "output" { // not logged, as in zoneSource
		add(ipv6, t.counter(model.Box+"."+string(policy.IPv6)), nft.Verdict{Code: nft.Drop})
	} else {
		add(ipv6, nft.SetMark{Value: policy.IPv6.Mark()})
	}
	add(anyBit(nft.CTState, nft.StateInvalid), nft.SetMark{Value: policy.Stray.Mark()})
	add(eq(nft.L4Proto, nft.U8(model.ProtoTCP)), nft.Match{
		Field: nft.TCPFlags, Op: nft.Ne, Value: nft.U8(nft.FlagSYN),
		Mask: nft.U8(nft.FlagFIN | nft.FlagSYN | nft.FlagRST | nft.FlagACK),
	}, nft.SetMark{Value: policy.Stray.Mark()})
	add(d)
	add(t.counter(counterLost), nft.Verdict{Code: nft.Drop})
	t.chain(chain)
}

// related accepts errors about connections: those ICMP types that report one, not
// redirects. Whoever is on the uplink has no part in connections between zones,
// which are the ones that are not translated, and cannot report about them.
func (c *compiler) related(t *table, hook string, add func(...nft.Stmt)) {
	if link := c.links[model.Internet]; link != "" && hook == "forward" {
		add(eq(nft.IIFName, nft.Iface(link)), anyBit(nft.CTState, nft.StateRelated),
			nft.Match{Field: nft.CTStatus, Op: nft.NoBit, Value: nft.U32(nft.StatusSNAT | nft.StatusDNAT)},
			t.counter(counterAstray), nft.Verdict{Code: nft.Drop})
	}
	add(anyBit(nft.CTState, nft.StateRelated),
		nft.InSet{Fields: []nft.Field{nft.ICMPType}, Set: setErrors}, nft.Verdict{Code: nft.Accept})
}

// errorTypes are the ICMP types that report on a connection: destination
// unreachable, time exceeded, parameter problem. RFC 792.
var errorTypes = []uint8{3, 11, 12}

func errorSet() nft.Set {
	s := nft.Set{Name: setErrors, Key: []nft.Type{nft.ICMPTypeType}}
	for _, typ := range errorTypes {
		s.Elements = append(s.Elements, nft.Element{Key: []nft.Range{nft.One(nft.U8(typ))}})
	}
	return s
}

// sources adds the chains that check where a packet says it comes from. They run
// before connection tracking: a flood of forged sources fills no table.
func (c *compiler) sources(t *table) {
	var elements, subnets []nft.Element
	for _, z := range c.cfg.Zones {
		subnets = append(subnets, nft.Element{Key: []nft.Range{{Lo: nft.Addr(z.Subnet.Addr()), Hi: nft.Addr(policy.Broadcast(z.Subnet))}}})
	}
	t.set(nft.Set{Name: setSubnets, Key: []nft.Type{nft.IPv4Addr}, Interval: true, Elements: subnets})
	for _, party := range c.parties() {
		name := "source." + party
		elements = append(elements, nft.Element{Key: iface(c.links[party]), Verdict: goTo(name)})
		if z := c.cfg.Zone(party); z != nil {
			t.chain(nft.Chain{Name: name, Rules: c.zoneSource(t, z)})
		} else {
			t.chain(nft.Chain{Name: name, Rules: c.internetSource(t)})
		}
	}
	t.dispatcher(mapSources, []nft.Type{nft.IfName}, elements)
	t.chain(nft.Chain{
		Name: "prerouting", Hook: &nft.Hook{Type: "filter", Hook: "prerouting", Priority: prioRaw, Drop: true},
		Rules: []nft.Rule{
			rule(eq(nft.IIFName, nft.Iface("lo")), nft.Verdict{Code: nft.Accept}),
			rule(nft.Dispatch{Fields: []nft.Field{nft.IIFName}, Map: mapSources}),
			rule(t.counter(counterLost), nft.Verdict{Code: nft.Drop}),
		},
	})
}

// refuse ends a chain of a party's packets with a reason.
func (t *table) refuse(party string, reason policy.Reason, matches ...nft.Stmt) nft.Rule {
	return rule(append(matches, nft.SetMark{Value: reason.Mark()}, t.counter(party+"."+string(reason)), goTo(refuseChain(party)))...)
}

func (c *compiler) zoneSource(t *table, z *model.Zone) []nft.Rule {
	rules := []nft.Rule{
		// Not logged: every machine asks for IPv6 routers again and again.
		rule(eq(nft.NFProto, nft.U8(nft.NFProtoIPv6)), t.counter(z.Name+"."+string(policy.IPv6)), nft.Verdict{Code: nft.Drop}),
	}
	if z.DHCP.Enabled {
		rules = append(rules, rule(
			eq(nft.IPSaddr, nft.Addr(netip.IPv4Unspecified())), eq(nft.IPDaddr, nft.Addr(broadcast)),
			eq(nft.L4Proto, nft.U8(model.ProtoUDP)), eq(nft.ThSport, nft.U16(68)), eq(nft.ThDport, nft.U16(67)),
			nft.Verdict{Code: nft.Accept}))
	}
	rules = append(rules,
		t.refuse(z.Name, policy.Spoofed, inNet(nft.IPSaddr, nft.Ne, z.Subnet)),
		t.refuse(z.Name, policy.Spoofed, eq(nft.IPSaddr, nft.Addr(policy.Broadcast(z.Subnet)))), // fine by fib
		t.refuse(z.Name, policy.Spoofed, eq(nft.FibSaddrIIF, nft.U32(0))))
	rules = append(rules, c.fromIsolated(t, z)...)
	var devices, bindings, confined []nft.Element
	for _, d := range c.cfg.Devices {
		a := c.policy.AddressOf(d)
		if d.Zone != z || !a.IsValid() {
			continue
		}
		key := nft.One(nft.Addr(a))
		devices = append(devices, nft.Element{Key: []nft.Range{key}, Comment: d.Name})
		bindings = append(bindings, nft.Element{Key: []nft.Range{key, nft.One(nft.MAC(d.MAC))}, Comment: d.Name})
		if c.policy.Confined(d) {
			confined = append(confined, nft.Element{Key: []nft.Range{nft.One(nft.MAC(d.MAC))}, Comment: d.Name})
		}
	}
	bound := nft.InSet{Fields: []nft.Field{nft.IPSaddr, nft.EtherSaddr}, Not: true, Set: "bindings." + z.Name}
	if t.set(nft.Set{Name: "devices." + z.Name, Key: []nft.Type{nft.IPv4Addr}, Elements: devices}) {
		t.set(nft.Set{Name: bound.Set, Key: []nft.Type{nft.IPv4Addr, nft.EtherAddr}, Elements: bindings})
		rules = append(rules, t.refuse(z.Name, policy.Borrowed,
			nft.InSet{Fields: []nft.Field{nft.IPSaddr}, Set: "devices." + z.Name}, bound))
	}
	if t.set(nft.Set{Name: "confined." + z.Name, Key: []nft.Type{nft.EtherAddr}, Elements: confined}) {
		chain := "confined." + z.Name
		rules = append(rules, rule(nft.InSet{Fields: []nft.Field{nft.EtherSaddr}, Set: "confined." + z.Name}, bound, nft.Verdict{Code: nft.Jump, Chain: chain}))
		t.chain(nft.Chain{Name: chain, Rules: []nft.Rule{
			rule(eq(nft.L4Proto, nft.U8(model.ProtoUDP)), eq(nft.ThSport, nft.U16(68)), eq(nft.ThDport, nft.U16(67)), nft.Verdict{Code: nft.Return}),
			t.refuse(z.Name, policy.Borrowed),
		}})
	}
	if len(c.policy.IsolatedAddrs()) > 0 {
		rules = append(rules, t.refuse(z.Name, policy.Isolated, nft.InSet{Fields: []nft.Field{nft.IPDaddr}, Set: setIsolated}))
	}
	return append(rules, rule(nft.Verdict{Code: nft.Accept}))
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func (c *compiler) internetSource(t *table) []nft.Rule {
	rules := []nft.Rule{
		rule(eq(nft.NFProto, nft.U8(nft.NFProtoIPv6)), t.counter(model.Internet+"."+string(policy.IPv6)), nft.Verdict{Code: nft.Drop}),
	}
	if len(c.cfg.Zones) > 0 {
		rules = append(rules, t.refuse(model.Internet, policy.Spoofed, nft.InSet{Fields: []nft.Field{nft.IPSaddr}, Set: setSubnets}))
	}
	if up := c.uplink(); up.IsValid() && up.Bits() < 31 {
		rules = append(rules, t.refuse(model.Internet, policy.Spoofed, eq(nft.IPSaddr, nft.Addr(policy.Broadcast(up)))))
	}
	return append(rules,
		t.refuse(model.Internet, policy.Spoofed, eq(nft.FibSaddrIIF, nft.U32(0))),
		rule(nft.Verdict{Code: nft.Accept}))
}

// dstnat sends what arrives at the uplink's address to the devices of forwards. It
// does so for zones, too, that call the device by its public address.
func (c *compiler) dstnat(t *table) {
	chain := nft.Chain{Name: "dstnat", Hook: &nft.Hook{Type: "nat", Hook: "prerouting", Priority: prioDstNAT}}
	up := c.uplink()
	var to, marks []nft.Element
	ranges := false
	for _, f := range c.policy.Forwards() {
		for _, s := range f.Ports {
			service := []nft.Range{nft.One(nft.U8(s.Proto)), {Lo: nft.U16(s.Lo), Hi: nft.U16(s.Hi)}}
			ranges = ranges || s.Lo != s.Hi
			to = append(to, nft.Element{Key: service, Data: []nft.Value{nft.Addr(f.To)}, Comment: f.Rule.Name})
			marks = append(marks, nft.Element{
				Key:  append([]nft.Range{nft.One(nft.Addr(f.To))}, service...),
				Data: []nft.Value{nft.U32(f.Rule.Mark())}, Comment: f.Rule.Name,
			})
		}
	}
	service := []nft.Type{nft.InetProto, nft.InetService}
	c.told(t, &chain)
	c.forced(t, &chain, service)
	if up.IsValid() && t.set(nft.Set{Name: mapForwards, Key: service, Data: []nft.Type{nft.IPv4Addr}, Interval: ranges, Elements: to}) {
		t.set(nft.Set{Name: mapForwarded, Key: append([]nft.Type{nft.IPv4Addr}, service...), Data: []nft.Type{nft.Mark}, Interval: ranges, Elements: marks})
		chain.Rules = append(chain.Rules, rule(eq(nft.IPDaddr, nft.Addr(up.Addr())),
			nft.DNAT{Fields: []nft.Field{nft.L4Proto, nft.ThDport}, Map: mapForwards}))
	}
	t.chain(chain)
}

// forced leads questions to DNS servers elsewhere to the box, in zones that want it. What
// is of no single machine, and the box's own addresses, are left as they are.
func (c *compiler) forced(t *table, chain *nft.Chain, service []nft.Type) {
	for _, z := range c.cfg.Zones {
		link := c.links[z.Name]
		if link == "" || !c.policy.Forced(z) {
			continue
		}
		name := setForced + z.Name
		var to []nft.Element
		for _, proto := range []uint8{model.ProtoTCP, model.ProtoUDP} {
			to = append(to, nft.Element{Key: []nft.Range{nft.One(nft.U8(proto)), nft.One(nft.U16(53))}, Data: []nft.Value{nft.Addr(z.Gateway)}})
		}
		t.set(nft.Set{Name: name, Key: service, Data: []nft.Type{nft.IPv4Addr}, Elements: to})
		chain.Rules = append(chain.Rules, rule(eq(nft.IIFName, nft.Iface(link)), eq(nft.FibDaddrType, nft.U32(nft.FibUnicast)),
			nft.DNAT{Fields: []nft.Field{nft.L4Proto, nft.ThDport}, Map: name}))
	}
}

// srcnat hides the zones behind the uplink's address, and behind the box's own a
// machine that calls one of its own zone by the public address: the answer must
// come back through the box.
func (c *compiler) srcnat(t *table) {
	chain := nft.Chain{Name: "srcnat", Hook: &nft.Hook{Type: "nat", Hook: "postrouting", Priority: prioSrcNAT}}
	if link := c.links[model.Internet]; link != "" {
		chain.Rules = append(chain.Rules, rule(eq(nft.OIFName, nft.Iface(link)), nft.Masquerade{}))
	}
	for _, z := range c.cfg.Zones {
		if link := c.links[z.Name]; link != "" && c.forwardsInto(z) {
			chain.Rules = append(chain.Rules, rule(eq(nft.OIFName, nft.Iface(link)),
				inNet(nft.IPSaddr, nft.Eq, z.Subnet), anyBit(nft.CTStatus, nft.StatusDNAT), nft.Masquerade{}))
		}
	}
	t.chain(chain)
}

func (c *compiler) forwardsInto(z *model.Zone) bool {
	return c.uplink().IsValid() && slices.ContainsFunc(c.policy.Forwards(), func(f *policy.Forward) bool { return f.Device.Zone == z })
}
