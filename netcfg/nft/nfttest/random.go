package nfttest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"bulkhead/netcfg/nft"
)

// Random makes a valid table out of random numbers. With implied, some rules hold
// matches that later ones imply, which nft's text does not show.
func Random(r *rand.Rand, implied bool) *nft.Table {
	g := &generator{Rand: r, implied: implied, names: make(map[string]bool)}
	g.table.Name = "bulkhead"
	for range g.IntN(4) {
		g.table.Counters = append(g.table.Counters, g.name())
	}
	for range 1 + g.IntN(4) {
		g.leaves = append(g.leaves, g.name())
	}
	g.makeSets()
	g.makeChains()
	return &g.table
}

type generator struct {
	*rand.Rand
	implied bool
	names   map[string]bool
	table   nft.Table
	leaves  []string // chains that do not jump
	lookups []lookup // a set each
}

type lookup struct {
	fields []nft.Field
	set    int // index in table.Sets
}

const nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."

// name is a name that is new, and once in a while as long as can be.
func (g *generator) name() string {
	n := 1 + g.IntN(20)
	if g.IntN(20) == 0 {
		n = 255
	}
	for {
		b := make([]byte, n)
		for i := range b {
			b[i] = nameChars[g.IntN(len(nameChars))]
		}
		b[0] = nameChars[g.IntN(52)]
		if s := string(b); !g.names[s] && !nft.Reserved(s) {
			g.names[s] = true
			return s
		}
		n = min(n+1, 20)
	}
}

// text is a comment or a log prefix.
func (g *generator) text(most int, not string) string {
	if g.IntN(3) > 0 {
		return ""
	}
	b := make([]byte, 1+g.IntN(most))
	for i := range b {
		for b[i] == 0 || slices.Contains([]byte(not), b[i]) {
			b[i] = byte(' ' + g.IntN('~'-' '+1))
		}
	}
	return string(b)
}

// setFields are those that can be looked up.
var setFields = []nft.Field{
	nft.IPSaddr, nft.IPDaddr, nft.EtherSaddr, nft.NFProto, nft.L4Proto, nft.ThSport, nft.ThDport,
	nft.ICMPType, nft.IIFName, nft.OIFName, nft.MetaMark, nft.SkUID, nft.CTState,
}

var rangedTypes = []nft.Type{nft.IPv4Addr, nft.EtherAddr, nft.InetProto, nft.InetService, nft.ICMPTypeType}

func (g *generator) makeSets() {
	for range 1 + g.IntN(12) {
		fields := make([]nft.Field, 1+g.IntN(5))
		for i := range fields {
			fields[i] = setFields[g.IntN(len(setFields))]
		}
		s := nft.Set{Name: g.name(), Interval: g.IntN(2) == 0}
		words := 0
		for _, f := range fields {
			s.Key = append(s.Key, f.TypeOf())
			words += (f.TypeOf().Size() + 3) / 4
		}
		if words > 16 {
			continue
		}
		if len(fields) == 1 && !slices.Contains(rangedTypes, s.Key[0]) {
			s.Interval = false
		}
		if g.IntN(5) == 0 {
			s.Interval = false
			s.Dynamic = &nft.Dynamic{Size: 1 + g.Uint32N(1<<16), Timeout: g.seconds(), Sweep: g.seconds()}
			g.table.Sets = append(g.table.Sets, s)
			g.lookups = append(g.lookups, lookup{fields, len(g.table.Sets) - 1})
			continue
		}
		s.Data = [][]nft.Type{nil, nil, {nft.VerdictType}, {nft.Mark}, {nft.IPv4Addr}, {nft.InetService}}[g.IntN(6)]
		g.fill(&s)
		g.table.Sets = append(g.table.Sets, s)
		g.lookups = append(g.lookups, lookup{fields, len(g.table.Sets) - 1})
	}
}

func (g *generator) seconds() time.Duration { return time.Duration(1+g.IntN(24*60*60)) * time.Second }

// fill adds elements that do not overlap: each has a slice of its own of the values
// of one field.
func (g *generator) fill(s *nft.Set) {
	const slices = 8
	own := g.IntN(len(s.Key))
	n := g.IntN(slices + 1)
	if s.Key[own] == nft.CTStateBits {
		n = min(n, 4)
	}
	for i := range n {
		e := nft.Element{Comment: g.text(128, `"`)}
		for j, t := range s.Key {
			ranges := s.Interval && g.IntN(2) == 0
			if j == own {
				e.Key = append(e.Key, g.slice(t, i, slices, ranges))
			} else {
				e.Key = append(e.Key, g.slice(t, 0, 1, ranges))
			}
		}
		for _, t := range s.Data {
			if t == nft.VerdictType {
				e.Verdict = g.verdict(g.leaves)
			} else {
				e.Data = append(e.Data, g.value(t))
			}
		}
		s.Elements = append(s.Elements, e)
	}
	g.Shuffle(len(s.Elements), func(a, b int) { s.Elements[a], s.Elements[b] = s.Elements[b], s.Elements[a] })
}

// slice is a value, or a range of values, out of slice i of n of a type's values.
func (g *generator) slice(t nft.Type, i, n int, ranges bool) nft.Range {
	switch t {
	case nft.IfName:
		return nft.One(nft.Iface(fmt.Sprintf("%.*s%d", g.IntN(14), "lan-port.with_name", i)))
	case nft.CTStateBits:
		if n == 1 {
			i = g.IntN(4)
		}
		return nft.One(nft.U32(1 << i))
	}
	width := uint64(1) << (8 * min(t.Size(), 6)) / uint64(n)
	first := width * uint64(i)
	lo := first + g.edge(width)
	hi := lo
	if ranges && slices.Contains(rangedTypes, t) {
		hi = lo + g.edge(first+width-lo)
		if t == nft.IPv4Addr && g.IntN(2) == 0 { // a prefix
			size := uint64(1) << g.IntN(29)
			lo = lo / size * size
			hi = lo + size - 1
		}
	}
	return nft.Range{Lo: number(t, lo), Hi: number(t, hi)}
}

// edge is a number below n, often one at an edge.
func (g *generator) edge(n uint64) uint64 {
	switch g.IntN(4) {
	case 0:
		return 0
	case 1:
		return n - 1
	}
	return g.Uint64N(n)
}

func number(t nft.Type, v uint64) nft.Value {
	b := make([]byte, t.Size())
	for i := range b {
		b[len(b)-1-i] = byte(v >> (8 * i))
	}
	return nft.Value(b)
}

func (g *generator) value(t nft.Type) nft.Value {
	if t == nft.NFProtoType {
		return nft.U8([]uint8{nft.NFProtoIPv4, nft.NFProtoIPv6}[g.IntN(2)])
	}
	return g.slice(t, 0, 1, false).Lo
}

func (g *generator) verdict(targets []string) nft.Verdict {
	v := nft.Verdict{Code: nft.Code(1 + g.IntN(5))}
	if v.Code == nft.Jump || v.Code == nft.Goto {
		if len(targets) == 0 {
			return nft.Verdict{Code: nft.Drop}
		}
		v.Chain = targets[g.IntN(len(targets))]
	}
	return v
}

var baseChains = []nft.Chain{
	{Name: "raw", Hook: &nft.Hook{Type: "filter", Hook: "prerouting", Priority: -300, Drop: true}},
	{Name: "pre-mangle", Hook: &nft.Hook{Type: "filter", Hook: "prerouting", Priority: -160}},
	{Name: "inbound", Hook: &nft.Hook{Type: "filter", Hook: "input", Drop: true}},
	{Name: "through", Hook: &nft.Hook{Type: "filter", Hook: "forward", Priority: 11, Drop: true}},
	{Name: "outbound", Hook: &nft.Hook{Type: "filter", Hook: "output", Priority: 45}},
	{Name: "dnat_out", Hook: &nft.Hook{Type: "nat", Hook: "output", Priority: -100}},
	{Name: "dnat_in", Hook: &nft.Hook{Type: "nat", Hook: "prerouting", Priority: -110}},
	{Name: "snat_out", Hook: &nft.Hook{Type: "nat", Hook: "postrouting", Priority: 90}},
}

func (g *generator) makeChains() {
	for _, i := range g.Perm(len(baseChains))[:1+g.IntN(len(baseChains))] {
		g.table.Chains = append(g.table.Chains, baseChains[i])
	}
	for range g.IntN(3) {
		g.table.Chains = append(g.table.Chains, nft.Chain{Name: g.name()})
	}
	jumping := len(g.table.Chains)
	for _, name := range g.leaves {
		g.table.Chains = append(g.table.Chains, nft.Chain{Name: name})
	}
	for i := range g.table.Chains {
		c := &g.table.Chains[i]
		for range g.IntN(8) {
			g.addRule(c, i < jumping)
		}
	}
}

// addRule adds a rule that [nft.Table.Validate] finds nothing wrong with.
func (g *generator) addRule(c *nft.Chain, jumps bool) {
	c.Rules = append(c.Rules, nft.Rule{Comment: g.text(128, `"`)})
	r := &c.Rules[len(c.Rules)-1]
	for range 1 + g.IntN(4) {
		before := slices.Clone(r.Stmts)
		r.Stmts = append(r.Stmts, g.stmt(c, jumps))
		if g.table.Validate() != nil || merges(r.Stmts) || etherThenIP(r.Stmts) {
			r.Stmts = before
		}
	}
	if len(r.Stmts) == 0 {
		r.Stmts = []nft.Stmt{nft.SetMark{Value: g.Uint32()}}
	}
}

// merges reports whether nft, when it loads the text, would make one comparison out of
// several, those with both ports. It moves them to one place, and for != makes another
// meaning of them: not (port A and port B). Our encoder does neither.
func merges(stmts []nft.Stmt) bool {
	n := 0
	for _, s := range stmts {
		m, ok := s.(nft.Match)
		if ok && m.Op <= nft.Ne && (m.Field == nft.ThSport || m.Field == nft.ThDport) {
			n++
		}
	}
	return n > 1
}

// etherThenIP reports whether the rule looks at the link layer before it looks at an
// address. There nft asks the link layer for the protocol, where we ask, as always, the
// packet's meta data. It means the same, but nft may then move the match.
func etherThenIP(stmts []nft.Stmt) bool {
	ether, ip := false, false
	for _, s := range stmts {
		var fields []nft.Field
		switch s := s.(type) {
		case nft.Match:
			fields = []nft.Field{s.Field}
		case nft.InSet:
			fields = s.Fields
		case nft.Tally:
			fields = s.Fields
		case nft.Dispatch:
			fields = s.Fields
		case nft.MarkFromMap:
			fields = s.Fields
		case nft.DNAT:
			fields = s.Fields
		}
		for _, f := range fields {
			ether = ether || f == nft.EtherSaddr
			ip = ip || f == nft.IPSaddr || f == nft.IPDaddr || f == nft.ICMPType
			if ether && ip && f != nft.EtherSaddr {
				return true
			}
		}
	}
	return false
}

func (g *generator) stmt(c *nft.Chain, jumps bool) nft.Stmt {
	switch g.IntN(16) {
	case 0:
		return nft.SetMark{Value: g.Uint32()}
	case 1:
		return nft.SaveMark{}
	case 2:
		if n := len(g.table.Counters); n > 0 {
			return nft.Count{Name: g.table.Counters[g.IntN(n)]}
		}
	case 3:
		return nft.Limit{Rate: 1 + g.Uint32N(100), Burst: 1 + g.Uint32N(10)}
	case 4:
		return nft.Log{
			Prefix: g.text(127, `"$`), Group: uint16(g.Uint32()),
			Snaplen: g.Uint32N(2) * (1 + g.Uint32N(1000)), QueueThreshold: uint16(g.Uint32N(3)),
		}
	case 5:
		if c.Hook != nil && c.Hook.Type == "nat" && c.Hook.Hook == "postrouting" {
			return nft.Masquerade{}
		}
		if c.Hook != nil && c.Hook.Type == "nat" {
			return nft.Redirect{Addr: netip.AddrFrom4([4]byte{192, 168, byte(g.Uint32()), 1}), Port: uint16(1 + g.Uint32N(65535))}
		}
	case 6, 7:
		if jumps {
			return g.verdict(g.leaves)
		}
		return g.verdict(nil)
	case 8, 9, 10, 11:
		return g.lookup(c, jumps)
	}
	return g.match(c)
}

func (g *generator) lookup(c *nft.Chain, jumps bool) nft.Stmt {
	if len(g.lookups) == 0 {
		return nft.SaveMark{}
	}
	l := g.lookups[g.IntN(len(g.lookups))]
	s := g.table.Sets[l.set]
	switch {
	case s.Dynamic != nil && g.IntN(2) == 0:
		return nft.Tally{Fields: l.fields, Set: s.Name}
	case s.Data == nil:
		return nft.InSet{Fields: l.fields, Not: g.IntN(2) == 0, Set: s.Name}
	case s.Data[0] == nft.Mark:
		return nft.MarkFromMap{Fields: l.fields, Map: s.Name}
	case s.Data[0] == nft.VerdictType && jumps:
		return nft.Dispatch{Fields: l.fields, Map: s.Name}
	case s.Data[0] == nft.IPv4Addr && c.Hook != nil && c.Hook.Type == "nat" && c.Hook.Hook != "postrouting":
		return nft.DNAT{Fields: l.fields, Map: s.Name}
	}
	return nft.SaveMark{}
}

// match is a comparison. [nft.Table.Validate] sorts out those without sense.
func (g *generator) match(c *nft.Chain) nft.Match {
	f := nft.Field(1 + g.IntN(int(nft.FibDaddrType)))
	t := f.TypeOf()
	m := nft.Match{Field: f, Op: nft.Op(g.IntN(6)), Value: g.value(t)}
	switch f {
	case nft.FibSaddrIIF:
		// The kernel has it before routing and where a packet comes in only.
		if c.Hook == nil || c.Hook.Hook == "output" || c.Hook.Hook == "postrouting" {
			return nft.Match{Field: nft.MetaMark, Value: g.value(nft.Mark)}
		}
		m.Value = nft.U32(0)
	case nft.FibDaddrType:
		m.Value = nft.U32(g.Uint32N(9))
	case nft.CTState:
		m.Value = nft.U32(1 + g.Uint32N(15))
	case nft.CTStatus:
		m.Value = nft.U32(1 + g.Uint32N(63))
	case nft.TCPFlags:
		m.Value = nft.U8(uint8(1 + g.IntN(255)))
	case nft.L4Proto, nft.NFProto:
		if !g.implied {
			m.Op = nft.Ne
		}
	}
	switch {
	case m.Op == nft.Within || m.Op == nft.Outside:
		m.Last = g.value(t)
	case m.Op <= nft.Ne && g.IntN(2) == 0:
		g.mask(&m)
	}
	return m
}

func (g *generator) mask(m *nft.Match) {
	mask := g.Uint32()
	if g.IntN(2) == 0 {
		mask = nft.Mask4(g.IntN(33)).Uint()
	}
	switch m.Field.TypeOf() {
	case nft.IPv4Addr, nft.Mark:
		m.Mask, m.Value = nft.U32(mask), nft.U32(m.Value.Uint()&mask)
	case nft.TCPFlag:
		mask |= m.Value.Uint()
		m.Mask = nft.U8(uint8(mask))
	}
}
