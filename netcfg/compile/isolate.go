package compile

import (
	"net/netip"
	"slices"

	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/policy"
)

// Isolated machines: see [policy.Isolation]. Their packets, and those for them, are
// refused before connection tracking, where all that comes in passes. Two kinds come
// through there: what they ask web servers and DNS servers, which is led to where they are
// told only if it begins a connection; and what the internet sends back to them, which is
// on its way to the uplink's address at that point. So both are stopped once more, behind
// connection tracking and before what belongs to an open connection is accepted. Whoever
// loads the rules then deletes the connections; nothing depends on how soon.
const (
	setIsolated     = "isolated"      // addresses
	setIsolatedMACs = "isolated.macs" // in all zones

	// What isolated machines of one zone may ask, in packets per second and port: each
	// may begin a connection, and what they may not do is fill the table of all others.
	noticeRate  = 100
	noticeBurst = 200
)

func isolatedChain(party string) string { return "isolated." + party }

// cutChain is where open connections of isolated machines end.
func cutChain(hook string) string { return "cut." + hook }

// isolated are the facts as the policy takes them. A MAC that is none is left out.
func isolated(f facts.Facts) (list []policy.Isolation) {
	for _, i := range f.Isolated {
		mac, _ := model.ParseMAC(i.MAC)
		list = append(list, policy.Isolation{MAC: mac, Addresses: i.Addresses, Until: i.Until})
	}
	return list
}

func (c *compiler) isolatedSets(t *table) {
	var addrs, macs []nft.Element
	for _, a := range c.policy.IsolatedAddrs() {
		addrs = append(addrs, nft.Element{Key: []nft.Range{nft.One(nft.Addr(a))}})
	}
	for _, m := range c.policy.IsolatedMACs() {
		macs = append(macs, nft.Element{Key: []nft.Range{nft.One(nft.MAC(m))}})
	}
	t.set(nft.Set{Name: setIsolated, Key: []nft.Type{nft.IPv4Addr}, Elements: addrs})
	t.set(nft.Set{Name: setIsolatedMACs, Key: []nft.Type{nft.EtherAddr}, Elements: macs})
}

// fromIsolated leads what isolated machines send to a chain from which only what is meant
// for the box's DHCP server comes back, and what is led to where they are told.
func (c *compiler) fromIsolated(t *table, z *model.Zone) (rules []nft.Rule) {
	if !c.policy.Isolates() {
		return nil
	}
	name := isolatedChain(z.Name)
	var chain []nft.Rule
	if z.DHCP.Enabled {
		for _, to := range []netip.Addr{z.Gateway, broadcast} {
			chain = append(chain, rule(eq(nft.IPDaddr, nft.Addr(to)), eq(nft.L4Proto, nft.U8(model.ProtoUDP)),
				eq(nft.ThSport, nft.U16(68)), eq(nft.ThDport, nft.U16(67)), nft.Verdict{Code: nft.Return}))
		}
	}
	for _, s := range notices() {
		chain = append(chain, rule(eq(nft.L4Proto, nft.U8(s.proto)), eq(nft.ThDport, nft.U16(s.asked)),
			nft.Limit{Rate: noticeRate, Burst: noticeBurst}, nft.Verdict{Code: nft.Return}))
	}
	t.chain(nft.Chain{Name: name, Rules: append(chain, t.refuse(z.Name, policy.Isolated))})
	rules = c.ifIsolated(name)
	for _, s := range notices() { // nobody comes here but who is led here
		rules = append(rules, t.refuse(z.Name, policy.NotAllowed, eq(nft.IPDaddr, nft.Addr(z.Gateway)),
			eq(nft.L4Proto, nft.U8(s.proto)), eq(nft.ThDport, nft.U16(s.at))))
	}
	return rules
}

// ifIsolated leads what isolated machines send to a chain, if it matches as well.
func (c *compiler) ifIsolated(chain string, match ...nft.Stmt) (rules []nft.Rule) {
	lead := func(f nft.Field, set string) {
		rules = append(rules, rule(append(slices.Clone(match), nft.InSet{Fields: []nft.Field{f}, Set: set}, nft.Verdict{Code: nft.Jump, Chain: chain})...))
	}
	if len(c.policy.IsolatedMACs()) > 0 {
		lead(nft.EtherSaddr, setIsolatedMACs)
	}
	if len(c.policy.IsolatedAddrs()) > 0 {
		lead(nft.IPSaddr, setIsolated)
	}
	return rules
}

// notice is what an isolated machine may ask, and the port at which the box answers.
type notice struct {
	proto     uint8
	asked, at uint16
}

func notices() (list []notice) {
	for _, n := range []notice{{proto: model.ProtoTCP, asked: 80}, {proto: model.ProtoTCP, asked: 53}, {proto: model.ProtoUDP, asked: 53}} {
		n.at, _ = policy.Told(n.proto, n.asked)
		list = append(list, n)
	}
	return list
}

// told leads what isolated machines ask web servers and DNS servers to where they are told.
// It stands before everything else that changes where packets go.
func (c *compiler) told(t *table, chain *nft.Chain) {
	for _, z := range c.cfg.Zones {
		link := c.links[z.Name]
		if link == "" || !c.policy.Isolates() {
			continue
		}
		lead := nft.Chain{Name: "told." + z.Name}
		for _, s := range notices() {
			lead.Rules = append(lead.Rules, rule(eq(nft.L4Proto, nft.U8(s.proto)), eq(nft.ThDport, nft.U16(s.asked)), nft.Redirect{Addr: z.Gateway, Port: s.at}))
		}
		t.chain(lead)
		chain.Rules = append(chain.Rules, c.ifIsolated(lead.Name, eq(nft.IIFName, nft.Iface(link)))...)
	}
}

// cutIsolated refuses what would be forwarded from and to isolated machines, or what they
// send to the box, as part of a connection that was open before.
func (c *compiler) cutIsolated(t *table, hook string, add func(...nft.Stmt)) {
	if !c.policy.Isolates() {
		return
	}
	name := cutChain(hook)
	open := anyBit(nft.CTState, nft.StateEstablished|nft.StateRelated)
	lead := c.ifIsolated(name, open)
	var rules []nft.Rule
	if hook == "input" {
		rules = append(rules, rule(eq(nft.L4Proto, nft.U8(model.ProtoUDP)), eq(nft.ThSport, nft.U16(68)), eq(nft.ThDport, nft.U16(67)), nft.Verdict{Code: nft.Return}))
		for _, s := range notices() {
			rules = append(rules, rule(anyBit(nft.CTStatus, nft.StatusDNAT),
				eq(nft.L4Proto, nft.U8(s.proto)), eq(nft.ThDport, nft.U16(s.at)), nft.Verdict{Code: nft.Return}))
		}
	} else if len(c.policy.IsolatedAddrs()) > 0 {
		lead = append(lead, rule(open, nft.InSet{Fields: []nft.Field{nft.IPDaddr}, Set: setIsolated}, nft.Verdict{Code: nft.Jump, Chain: name}))
	}
	for _, party := range c.parties() {
		rules = append(rules, t.refuse(party, policy.Isolated, eq(nft.IIFName, nft.Iface(c.links[party]))))
	}
	t.chain(nft.Chain{Name: name, Rules: append(rules, rule(nft.Verdict{Code: nft.Drop}))})
	for _, r := range lead {
		add(r.Stmts...)
	}
}

// toIsolated refuses what the box sends to isolated machines, but for answers of its DHCP
// server, about which the rules decide as ever, and what it tells them.
func (c *compiler) toIsolated(t *table, add func(...nft.Stmt)) {
	if len(c.policy.IsolatedAddrs()) == 0 {
		return
	}
	chain := isolatedChain(model.Box)
	add(nft.InSet{Fields: []nft.Field{nft.IPDaddr}, Set: setIsolated}, nft.Verdict{Code: nft.Jump, Chain: chain})
	rules := []nft.Rule{rule(eq(nft.L4Proto, nft.U8(model.ProtoUDP)), eq(nft.ThDport, nft.U16(68)), nft.Verdict{Code: nft.Return})}
	for _, s := range notices() { // that what it is told comes from whom it asked is done later on the way
		rules = append(rules, rule(anyBit(nft.CTState, nft.StateEstablished), anyBit(nft.CTStatus, nft.StatusDNAT),
			eq(nft.L4Proto, nft.U8(s.proto)), eq(nft.ThSport, nft.U16(s.at)), nft.Verdict{Code: nft.Return}))
	}
	t.chain(nft.Chain{Name: chain, Rules: append(rules, t.refuse(model.Box, policy.Isolated))})
}
