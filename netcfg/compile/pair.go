package compile

import (
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/policy"
)

// pairs adds a chain for every pair of parties that the box stands between, and
// the maps that lead there.
func (c *compiler) pairs(t *table) {
	var between, toBox, fromBox []nft.Element
	for _, from := range c.parties() {
		in := nft.One(nft.Iface(c.links[from]))
		for _, to := range c.parties() {
			z := c.cfg.Zone(to)
			if from == to && (z == nil || !c.forwardsInto(z)) {
				continue
			}
			pair := policy.Pair{From: from, To: to}
			between = append(between, nft.Element{Key: []nft.Range{in, nft.One(nft.Iface(c.links[to]))}, Verdict: goTo(pairName(pair))})
			c.pair(t, pair)
		}
		pair := policy.Pair{From: from, To: model.Box}
		toBox = append(toBox, nft.Element{Key: []nft.Range{in}, Verdict: goTo(pairName(pair))})
		c.pair(t, pair)
		pair = policy.Pair{From: model.Box, To: from}
		fromBox = append(fromBox, nft.Element{Key: []nft.Range{in}, Verdict: goTo(pairName(pair))})
		c.pair(t, pair)
	}
	t.dispatcher(mapPairs, []nft.Type{nft.IfName, nft.IfName}, between)
	t.dispatcher(mapToBox, []nft.Type{nft.IfName}, toBox)
	t.dispatcher(mapFromBox, []nft.Type{nft.IfName}, fromBox)
}

// pair adds the chain of one pair. Lookups set the packet mark, the general before
// the specific and allows before blocks, so that the last to match has decided
// when the mark is read.
func (c *compiler) pair(t *table, p policy.Pair) {
	w := &pairWriter{compiler: c, table: t, pair: p, name: pairName(p)}
	w.count = t.counter(w.name)
	w.rules = append(w.rules, rule(anyBit(nft.MetaMark, policy.BlockBit), w.count, goTo(refuseChain(p.From))))
	entries := c.policy.Entries(p)
	w.destination(entries)
	forwards := c.forwardsInto(c.zoneOrNone(p.To)) && p.From != model.Box
	n := 0
	for n < len(entries) && !entries[n].Rule.Block && !entries[n].Admin() {
		n++
	}
	w.lookups(entries[:n])
	if forwards {
		w.rules = append(w.rules, rule(anyBit(nft.CTStatus, nft.StatusDNAT),
			nft.MarkFromMap{Fields: []nft.Field{nft.IPDaddr, nft.L4Proto, nft.ThDport}, Map: mapForwarded}))
	}
	w.lookups(entries[n:])
	if len(entries) > 0 || forwards {
		w.rules = append(w.rules,
			rule(anyBit(nft.MetaMark, policy.BlockBit), w.count, goTo(refuseChain(p.From))),
			rule(ne(nft.MetaMark, nft.U32(0)), nft.SaveMark{}, nft.Verdict{Code: nft.Accept}))
	}
	w.rules = append(w.rules, rule(w.count, goTo(refuseChain(p.From))))
	t.chain(nft.Chain{Name: w.name, Rules: w.rules})
}

// zoneOrNone never returns nil.
func (c *compiler) zoneOrNone(name string) *model.Zone {
	if z := c.cfg.Zone(name); z != nil {
		return z
	}
	return &model.Zone{}
}

// pairWriter writes the chain of one pair.
type pairWriter struct {
	*compiler
	*table
	pair  policy.Pair
	name  string
	count nft.Count
	rules []nft.Rule
}

// refuse adds a rule that counts, marks with a reason and refuses.
func (w *pairWriter) refuse(reason policy.Reason, matches ...nft.Stmt) {
	w.rules = append(w.rules, rule(append(matches, nft.SetMark{Value: reason.Mark()}, w.count, goTo(refuseChain(w.pair.From)))...))
}

// destination refuses addresses that do not belong to the party: routing says which
// link a packet leaves by, and only this says that it should. With a zone's cable
// pulled, its packets would otherwise go out to the internet.
func (w *pairWriter) destination(entries []policy.Entry) {
	z := w.cfg.Zone(w.pair.To)
	switch {
	case w.pair.To == model.Box:
		w.toBox()
	case w.pair.From == model.Box:
		w.broadcasts(entries)
		w.refuse(policy.Elsewhere, ne(nft.FibDaddrType, nft.U32(nft.FibUnicast)))
		fallthrough
	default:
		if z != nil {
			w.refuse(policy.Elsewhere, inNet(nft.IPDaddr, nft.Ne, z.Subnet))
		} else if len(w.cfg.Zones) > 0 {
			w.refuse(policy.Elsewhere, nft.InSet{Fields: []nft.Field{nft.IPDaddr}, Set: setSubnets})
		}
	}
	if up := w.uplink(); w.pair.From == model.Internet {
		var exempt []nft.Stmt
		if up.IsValid() {
			exempt = append(exempt, inNet(nft.IPSaddr, nft.Ne, up))
		}
		w.bogons()
		w.refuse(policy.Bogon, append(exempt, nft.InSet{Fields: []nft.Field{nft.IPSaddr}, Set: setBogons})...)
	}
}

// toBox keeps a zone to the box's address in that zone, and to the broadcasts of
// DHCP clients.
func (w *pairWriter) toBox() {
	z := w.cfg.Zone(w.pair.From)
	if z == nil {
		return // nothing is open to the internet
	}
	gateway := ne(nft.IPDaddr, nft.Addr(z.Gateway))
	if !z.DHCP.Enabled {
		w.refuse(policy.Elsewhere, gateway)
		return
	}
	all := eq(nft.IPDaddr, nft.Addr(broadcast))
	w.refuse(policy.Elsewhere, gateway, ne(nft.IPDaddr, nft.Addr(broadcast)))
	w.refuse(policy.Elsewhere, all, ne(nft.L4Proto, nft.U8(model.ProtoUDP)))
	w.refuse(policy.Elsewhere, all, ne(nft.ThSport, nft.U16(68)))
	w.refuse(policy.Elsewhere, all, ne(nft.ThDport, nft.U16(67)))
}

// broadcasts lets the box's daemons, and nobody else on the box, send to
// 255.255.255.255 what they may send to the party.
func (w *pairWriter) broadcasts(entries []policy.Entry) {
	all := eq(nft.IPDaddr, nft.Addr(broadcast))
	for _, e := range entries {
		if e.Broadcast() {
			w.rules = append(w.rules, rule(all, eq(nft.SkUID, nft.U32(uint32(e.UID))),
				eq(nft.L4Proto, nft.U8(e.Service.Proto)), eq(nft.ThDport, nft.U16(e.Service.Lo)),
				nft.SetMark{Value: e.Rule.Mark()}, nft.SaveMark{}, nft.Verdict{Code: nft.Accept}))
		}
	}
	w.refuse(policy.NotAllowed, all)
}

// bogons adds the set of sources that are never on the internet, once.
func (w *pairWriter) bogons() {
	for _, s := range w.Sets {
		if s.Name == setBogons {
			return
		}
	}
	var elements []nft.Element
	for _, b := range policy.Bogons {
		elements = append(elements, nft.Element{Key: []nft.Range{{Lo: nft.Addr(b.Addr()), Hi: nft.Addr(policy.Broadcast(b))}}})
	}
	w.set(nft.Set{Name: setBogons, Key: []nft.Type{nft.IPv4Addr}, Interval: true, Elements: elements})
}

// kind is what a lookup is made for: all its entries have it in common.
type kind struct {
	block, admin bool
	tier         policy.Tier
	form         policy.Form
}

func kindOf(e policy.Entry) kind { return kind{e.Rule.Block, e.Admin(), e.Tier(), e.Form()} }

// lookups adds one rule per kind of entry.
func (w *pairWriter) lookups(entries []policy.Entry) {
	for len(entries) > 0 {
		k, n := kindOf(entries[0]), 1
		for n < len(entries) && kindOf(entries[n]) == k {
			n++
		}
		w.lookup(k, entries[:n])
		entries = entries[n:]
	}
}

var tierNames = map[policy.Tier]string{
	policy.TierDaemonWhole: "daemon", policy.TierDaemonHost: "daemon-host", policy.TierWhole: "zone",
	policy.TierWholeNet: "zone-net", policy.TierNetWhole: "net-zone", policy.TierNet: "net-net",
	policy.TierWholeHost: "zone-host", policy.TierHostWhole: "host-zone", policy.TierHostHost: "host-host",
}

var formNames = map[policy.Form]string{
	policy.FormAny: "any", policy.FormProto: "proto", policy.FormPorts: "ports", policy.FormPort: "port", policy.FormICMPType: "icmp",
}

// mapName says what a lookup's map holds: iot_storage.allow.host-host.port.
func (w *pairWriter) mapName(k kind) string {
	verb := "allow"
	switch {
	case k.admin:
		verb = "admin"
	case k.block:
		verb = "block"
	}
	return w.name + "." + verb + "." + tierNames[k.tier] + "." + formNames[k.form]
}

// lookup adds the rule, and its map, that find the entry of a kind for a packet.
func (w *pairWriter) lookup(k kind, entries []policy.Entry) {
	fields := append(tierFields(k.tier), formFields(k.form)...)
	if len(fields) == 0 { // everything between the parties
		w.rules = append(w.rules, nft.Rule{
			Stmts:   []nft.Stmt{nft.SetMark{Value: entries[len(entries)-1].Rule.Mark()}},
			Comment: entries[len(entries)-1].Rule.Name,
		})
		return
	}
	s := nft.Set{Name: w.mapName(k), Data: []nft.Type{nft.Mark}}
	for _, f := range fields {
		s.Key = append(s.Key, f.TypeOf())
	}
	s.Elements, s.Interval = elements(entries)
	w.set(s)
	w.rules = append(w.rules, rule(nft.MarkFromMap{Fields: fields, Map: s.Name}))
}

func tierFields(t policy.Tier) []nft.Field {
	switch t {
	case policy.TierDaemonWhole:
		return []nft.Field{nft.SkUID}
	case policy.TierDaemonHost:
		return []nft.Field{nft.SkUID, nft.IPDaddr}
	case policy.TierWholeHost, policy.TierWholeNet:
		return []nft.Field{nft.IPDaddr}
	case policy.TierHostWhole, policy.TierNetWhole:
		return []nft.Field{nft.IPSaddr}
	case policy.TierHostHost, policy.TierNet:
		return []nft.Field{nft.IPSaddr, nft.IPDaddr}
	}
	return nil
}

func formFields(f policy.Form) []nft.Field {
	switch f {
	case policy.FormProto:
		return []nft.Field{nft.L4Proto}
	case policy.FormPorts, policy.FormPort:
		return []nft.Field{nft.L4Proto, nft.ThDport}
	case policy.FormICMPType:
		return []nft.Field{nft.ICMPType}
	}
	return nil
}
