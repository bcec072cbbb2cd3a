// Package reach walks a compiled ruleset with one packet and says what the kernel
// would do with it. It reads the same values that are loaded into the kernel, not
// the policy they came from: that is what makes it a check of the compiler.
//
// It knows the first packet of a connection and, as far as that matters for offload, a
// later one of an untranslated connection. It is pure.
package reach

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/state"
)

// Packet begins a connection, or with Established belongs to one.
type Packet struct {
	In      string // link; "" if the box sends it
	Out     string // link, for what the box sends to 255.255.255.255
	MAC     model.MAC
	Src     netip.Addr
	Dst     netip.Addr
	Proto   uint8
	SrcPort uint16
	Port    uint16 // destination port, or ICMP type
	Flags   uint8  // of TCP; 0 means SYN
	UID     int    // of the sender on the box
	Mark    uint32 // left by somebody else's table; must not matter
	// Established says that packets of the connection were let through both ways. Only
	// the first packet of a connection is translated: Dst and Port are as it was then.
	Established bool
}

// Result is what became of a packet.
type Result struct {
	Accepted bool
	// Offloaded says that packets like this one, whatever their MAC, and those that
	// answer them, pass the rules by from now on.
	Offloaded bool
	Mark      uint32     // packet mark at the end; of an accepted one also the connection's
	Dst       netip.Addr // after translation
	Out       string     // link it leaves by; "" if it stays on the box
	Counter   string     // the last named counter that counted it
	Trace     []string   // chains passed, in order
}

// Walker holds a ruleset and the network around it, ready to be asked. It is
// immutable and safe for concurrent use.
type Walker struct {
	table  *nft.Table
	chains map[string]*nft.Chain
	sets   map[string]*index
	addrs  []state.Addr
	routes []state.Route
}

// index is a set made quick to look up.
type index struct {
	set   *nft.Set
	exact map[nft.Value]*nft.Element // concatenated keys of elements without ranges
	wide  []*nft.Element             // the others
}

// New prepares a state's ruleset.
func New(s state.State) *Walker {
	w := &Walker{table: s.Ruleset.Table, chains: map[string]*nft.Chain{}, sets: map[string]*index{}, addrs: s.Addrs, routes: s.Routes}
	for i := range w.table.Chains {
		w.chains[w.table.Chains[i].Name] = &w.table.Chains[i]
	}
	for i := range w.table.Sets {
		set := &w.table.Sets[i]
		idx := &index{set: set, exact: map[nft.Value]*nft.Element{}}
		for j := range set.Elements {
			e := &set.Elements[j]
			if slices.ContainsFunc(e.Key, func(r nft.Range) bool { return r.Lo != r.Hi }) {
				idx.wide = append(idx.wide, e)
				continue
			}
			var key nft.Value
			for _, r := range e.Key {
				key += r.Lo
			}
			idx.exact[key] = e
		}
		w.sets[set.Name] = idx
	}
	return w
}

// Walk follows a packet through the hooks that it passes: prerouting, then input
// or forward; or output. Postrouting only translates sources.
func (w *Walker) Walk(p Packet) Result {
	k := &walk{Walker: w, pkt: p, out: p.Out, mark: p.Mark}
	if p.In == "" {
		if k.out == "" {
			k.out = w.route(p.Dst)
		}
		return k.finish("output")
	}
	if !k.hook("prerouting") {
		return k.result(false)
	}
	if k.pkt.Dst.IsLoopback() || thisNetwork.Contains(k.pkt.Dst) {
		return k.result(false) // martian destination: ip_route_input_slow in net/ipv4/route.c
	}
	if w.local(k.pkt.Dst) {
		return k.finish("input")
	}
	if k.out = w.route(k.pkt.Dst); k.out == "" {
		return k.result(false)
	}
	return k.finish("forward")
}

// local reports whether the kernel keeps a packet to a: fib_type local, broadcast
// or multicast (which is never forwarded without a multicast router).
func (w *Walker) local(a netip.Addr) bool {
	return !a.Is4() || a.IsMulticast() || a.IsLoopback() || a == limited || slices.ContainsFunc(w.addrs, func(o state.Addr) bool {
		return a == o.Prefix.Addr() || a == last(o.Prefix)
	})
}

var thisNetwork = netip.MustParsePrefix("0.0.0.0/8")

var limited = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// last returns the broadcast address of a network that has one.
func last(p netip.Prefix) netip.Addr {
	if p.Bits() > 30 {
		return netip.Addr{}
	}
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// route returns the link by which packets to a leave, or "".
func (w *Walker) route(a netip.Addr) string {
	link, bits := "", -1
	for _, o := range w.addrs {
		if o.Prefix.Masked().Contains(a) && o.Prefix.Bits() > bits {
			link, bits = o.Link, o.Prefix.Bits()
		}
	}
	for _, r := range w.routes {
		if r.Dst.Contains(a) && r.Dst.Bits() > bits {
			link, bits = r.Link, r.Dst.Bits()
		}
	}
	return link
}

// walk is one packet on its way.
type walk struct {
	*Walker
	pkt     Packet
	out     string
	mark    uint32
	dnat    bool
	offload bool
	counter string
	trace   []string
}

func (k *walk) result(accepted bool) Result {
	return Result{Accepted: accepted, Offloaded: k.offload, Mark: k.mark, Dst: k.pkt.Dst, Out: k.out, Counter: k.counter, Trace: k.trace}
}

func (k *walk) finish(hook string) Result { return k.result(k.hook(hook)) }

// hook runs the base chains of a hook, by priority.
func (k *walk) hook(name string) bool {
	var base []*nft.Chain
	for i := range k.table.Chains {
		if c := &k.table.Chains[i]; c.Hook != nil && c.Hook.Hook == name && !(k.pkt.Established && c.Hook.Type == "nat") {
			base = append(base, c)
		}
	}
	slices.SortStableFunc(base, func(a, b *nft.Chain) int { return a.Hook.Priority - b.Hook.Priority })
	for _, c := range base {
		switch k.chain(c) {
		case nft.Drop:
			return false
		case nft.Accept:
		default:
			if c.Hook.Drop {
				return false
			}
		}
	}
	return true
}

// chain returns Accept, Drop, or Return for the end of the chain.
func (k *walk) chain(c *nft.Chain) nft.Code {
	k.trace = append(k.trace, c.Name)
	for _, r := range c.Rules {
		switch v := k.rule(r); v.Code {
		case nft.Accept, nft.Drop, nft.Return:
			return v.Code
		case nft.Goto:
			return k.chain(k.chains[v.Chain])
		case nft.Jump:
			if code := k.chain(k.chains[v.Chain]); code != nft.Return {
				return code
			}
		}
	}
	return nft.Return
}

// rule returns the rule's verdict, or none if it has none or does not match.
func (k *walk) rule(r nft.Rule) nft.Verdict {
	for _, s := range r.Stmts {
		v, ok := k.stmt(s)
		if !ok || v.Code != 0 {
			return v
		}
	}
	return nft.Verdict{}
}

// stmt runs one statement, and reports whether the rule goes on.
func (k *walk) stmt(s nft.Stmt) (v nft.Verdict, ok bool) {
	switch s := s.(type) {
	case nft.Match:
		return v, k.match(s)
	case nft.InSet:
		key, ok := k.key(s.Fields)
		return v, ok && (k.sets[s.Set].find(key) != nil) != s.Not
	case nft.Dispatch:
		if e := k.lookup(s.Fields, s.Map); e != nil {
			return e.Verdict, true
		}
		return v, false
	case nft.MarkFromMap:
		e := k.lookup(s.Fields, s.Map)
		if e != nil {
			k.mark = e.Data[0].Uint()
		}
		return v, e != nil
	case nft.SetMark:
		k.mark = s.Value
	case nft.Count:
		k.counter = s.Name
	case nft.DNAT:
		e := k.lookup(s.Fields, s.Map)
		if e == nil {
			return v, false
		}
		k.pkt.Dst, _ = netip.AddrFromSlice([]byte(e.Data[0]))
		k.dnat = true
		return nft.Verdict{Code: nft.Accept}, true
	case nft.Redirect:
		k.pkt.Dst, k.pkt.Port, k.dnat = s.Addr, s.Port, true
		return nft.Verdict{Code: nft.Accept}, true
	case nft.Offload:
		ok := k.pkt.Proto == model.ProtoTCP || k.pkt.Proto == model.ProtoUDP
		k.offload = k.offload || ok
		return v, ok
	case nft.Verdict:
		return s, true
	case nft.Tally: // as if there were room in the set
		_, ok := k.key(s.Fields)
		return v, ok
	case nft.Limit, nft.Log, nft.SaveMark, nft.Masquerade:
	default:
		panic(fmt.Sprintf("reach: unknown statement %T", s))
	}
	return v, true
}

func (k *walk) lookup(fields []nft.Field, name string) *nft.Element {
	key, ok := k.key(fields)
	if !ok {
		return nil
	}
	return k.sets[name].find(key)
}

func (k *walk) key(fields []nft.Field) ([]nft.Value, bool) {
	key := make([]nft.Value, len(fields))
	for i, f := range fields {
		v, ok := k.field(f)
		if !ok {
			return nil, false
		}
		key[i] = v
	}
	return key, true
}

func (x *index) find(key []nft.Value) *nft.Element {
	var joined strings.Builder
	for _, v := range key {
		joined.WriteString(string(v))
	}
	if e := x.exact[nft.Value(joined.String())]; e != nil {
		return e
	}
	for _, e := range x.wide {
		if within(key, e.Key) {
			return e
		}
	}
	return nil
}

func within(key []nft.Value, ranges []nft.Range) bool {
	for i, r := range ranges {
		if key[i] < r.Lo || key[i] > r.Hi {
			return false
		}
	}
	return true
}

func (k *walk) match(m nft.Match) bool {
	v, ok := k.field(m.Field)
	if !ok {
		return false
	}
	if m.Mask != "" {
		masked := []byte(v)
		for i := range masked {
			masked[i] &= m.Mask[i]
		}
		v = nft.Value(masked)
	}
	switch m.Op {
	case nft.Eq:
		return v == m.Value
	case nft.Ne:
		return v != m.Value
	case nft.AnyBit:
		return v.Uint()&m.Value.Uint() != 0
	case nft.NoBit:
		return v.Uint()&m.Value.Uint() == 0
	case nft.Within:
		return m.Value <= v && v <= m.Last
	}
	return v < m.Value || v > m.Last
}

// field reads a field of the packet; false if the packet has no such thing.
func (k *walk) field(f nft.Field) (nft.Value, bool) {
	p := &k.pkt
	v4 := p.Src.Is4()
	switch f {
	case nft.IPSaddr:
		return addr(p.Src), v4
	case nft.IPDaddr:
		return addr(p.Dst), v4
	case nft.EtherSaddr:
		return nft.MAC(p.MAC), p.In != ""
	case nft.NFProto:
		if v4 {
			return nft.U8(nft.NFProtoIPv4), true
		}
		return nft.U8(nft.NFProtoIPv6), true
	case nft.L4Proto:
		return nft.U8(p.Proto), true
	case nft.ThSport:
		return nft.U16(p.SrcPort), true
	case nft.ThDport:
		if !model.HasPorts(p.Proto) {
			return nft.U16(0xffff), true // bytes that are no port; no rule may depend on them
		}
		return nft.U16(p.Port), true
	case nft.ICMPType:
		return nft.U8(uint8(p.Port)), p.Proto == model.ProtoICMP
	case nft.TCPFlags:
		if p.Flags == 0 {
			return nft.U8(nft.FlagSYN), p.Proto == model.ProtoTCP
		}
		return nft.U8(p.Flags), p.Proto == model.ProtoTCP
	case nft.IIFName:
		return nft.Iface(p.In), p.In != ""
	case nft.OIFName:
		return nft.Iface(k.out), k.out != ""
	case nft.MetaMark:
		return nft.U32(k.mark), true
	case nft.SkUID:
		return nft.U32(uint32(p.UID)), p.In == ""
	case nft.CTState:
		if p.Established {
			return nft.U32(nft.StateEstablished), true
		}
		return nft.U32(nft.StateNew), true
	case nft.CTStatus:
		if k.dnat {
			return nft.U32(nft.StatusDNAT), true
		}
		return nft.U32(0), true
	case nft.FibSaddrIIF:
		return k.fib(), true
	case nft.FibDaddrType:
		return k.fibType(), v4
	}
	panic(fmt.Sprintf("reach: unknown field %d", f))
}

func addr(a netip.Addr) nft.Value {
	if !a.Is4() {
		return ""
	}
	return nft.Addr(a)
}

// fib is what "fib saddr . iif oif" yields: 0 unless the source is an address, not
// the box's own, that is reached by the link the packet came from. A network's
// broadcast address counts as one. net/ipv4/netfilter/nft_fib_ipv4.c.
func (k *walk) fib() nft.Value {
	own := slices.ContainsFunc(k.addrs, func(o state.Addr) bool { return k.pkt.Src == o.Prefix.Addr() })
	if own || k.pkt.Src.IsLoopback() || k.route(k.pkt.Src) != k.pkt.In {
		return nft.U32(0)
	}
	return nft.U32(1)
}

// rtnMulticast is RTN_MULTICAST of include/uapi/linux/rtnetlink.h.
const rtnMulticast = 5

// fibType is what "fib daddr type" yields. Of the network 0 only its first address is a
// broadcast: __inet_dev_addr_type of net/ipv4/fib_frontend.c, ipv4_is_zeronet of
// include/linux/in.h.
func (k *walk) fibType() nft.Value {
	dst := k.pkt.Dst
	is := func(f func(state.Addr) bool) bool { return slices.ContainsFunc(k.addrs, f) }
	switch {
	case dst == limited, dst.IsUnspecified(), is(func(o state.Addr) bool { return dst == last(o.Prefix) }):
		return nft.U32(nft.FibBroadcast)
	case dst.IsMulticast():
		return nft.U32(rtnMulticast)
	case dst.IsLoopback(), is(func(o state.Addr) bool { return dst == o.Prefix.Addr() }):
		return nft.U32(nft.FibLocal)
	}
	return nft.U32(nft.FibUnicast)
}
