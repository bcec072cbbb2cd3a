package compile

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/policy"
)

// elements turns entries of one kind, from the one that gives way to the one that
// decides, into the elements of a map, and reports whether some have a range.
//
// The kernel refuses overlapping elements in a map of ranges, and rules overlap all
// the time. So where areas of addresses overlap they are cut, and within each piece
// the ports are painted in order, the last on top.
func elements(entries []policy.Entry) (list []nft.Element, interval bool) {
	for _, p := range plots(entries) {
		for _, stripe := range paint(p.entries) {
			e := nft.Element{Data: []nft.Value{nft.U32(stripe.rule.Mark())}, Comment: stripe.rule.Name}
			if p.uid != 0 {
				e.Key = append(e.Key, nft.One(nft.U32(uint32(p.uid))))
			}
			for _, a := range []span{p.from, p.to} {
				if a.named {
					e.Key = append(e.Key, nft.Range{Lo: nft.U32(a.lo), Hi: nft.U32(a.hi)})
				}
			}
			switch p.form {
			case policy.FormProto:
				e.Key = append(e.Key, nft.One(nft.U8(p.proto)))
			case policy.FormPorts, policy.FormPort:
				e.Key = append(e.Key, nft.One(nft.U8(p.proto)), nft.Range{Lo: nft.U16(stripe.lo), Hi: nft.U16(stripe.hi)})
			case policy.FormICMPType:
				e.Key = append(e.Key, nft.One(nft.U8(uint8(stripe.lo))))
			}
			interval = interval || slices.ContainsFunc(e.Key, func(r nft.Range) bool { return r.Lo != r.Hi })
			list = append(list, e)
		}
	}
	return list, interval
}

// span is an inclusive range of IPv4 addresses. The zero value is a side that the
// map's key does not name: a whole party.
type span struct {
	named  bool
	lo, hi uint32
}

func spanOf(s policy.Side) span {
	if s.Whole {
		return span{}
	}
	return span{true, number(s.Prefix.Masked().Addr()), number(policy.Broadcast(s.Prefix))}
}

func number(a netip.Addr) uint32 { b := a.As4(); return binary.BigEndian.Uint32(b[:]) }

// cut divides s at the borders of o: before, within and after. Spans without a name
// are all the same.
func (s span) cut(o span) (in span, out []span) {
	if !s.named {
		return s, nil
	}
	in = span{true, max(s.lo, o.lo), min(s.hi, o.hi)}
	if s.lo < in.lo {
		out = append(out, span{true, s.lo, in.lo - 1})
	}
	if in.hi < s.hi {
		out = append(out, span{true, in.hi + 1, s.hi})
	}
	return in, out
}

func (s span) overlaps(o span) bool { return !s.named || s.lo <= o.hi && o.lo <= s.hi }

// area is pairs of addresses.
type area struct{ from, to span }

func (a area) overlaps(b area) bool { return a.from.overlaps(b.from) && a.to.overlaps(b.to) }

// cut returns what of a lies in b, which overlaps it, and the rest in at most four
// pieces.
func (a area) cut(b area) (in area, out []area) {
	from, froms := a.from.cut(b.from)
	to, tos := a.to.cut(b.to)
	for _, f := range froms {
		out = append(out, area{f, a.to})
	}
	for _, t := range tos {
		out = append(out, area{from, t})
	}
	return area{from, to}, out
}

// plot is an area in which the same entries apply to a protocol; they differ in
// their ports.
type plot struct {
	area
	layer
	entries []policy.Entry
}

// layer is what keeps entries apart whatever their addresses.
type layer struct {
	uid   int
	form  policy.Form
	proto uint8
}

// plots divides the entries' areas so that no two overlap within a layer.
func plots(entries []policy.Entry) []*plot {
	layers := map[layer][]*plot{}
	exact := map[plotKey]*plot{}
	var order []layer
	for _, e := range entries {
		l := layer{e.UID, e.Form(), e.Service.Proto}
		if layers[l] == nil {
			order = append(order, l)
		}
		a := area{spanOf(e.From), spanOf(e.To)}
		switch e.Tier() {
		case policy.TierNet, policy.TierNetWhole, policy.TierWholeNet:
			layers[l] = lay(layers[l], l, a, e)
		default: // the same or apart
			p := exact[plotKey{a, l}]
			if p == nil {
				p = &plot{area: a, layer: l}
				exact[plotKey{a, l}] = p
				layers[l] = append(layers[l], p)
			}
			p.entries = append(p.entries, e)
		}
	}
	var all []*plot
	for _, l := range order {
		all = append(all, layers[l]...)
	}
	return all
}

type plotKey struct {
	area
	layer
}

// lay puts an entry on top of plots that do not overlap, and cuts them and it where
// they do.
func lay(plots []*plot, l layer, a area, e policy.Entry) []*plot {
	rest := []area{a}
	var laid []*plot
	for _, p := range plots {
		if !p.overlaps(a) {
			laid = append(laid, p)
			continue
		}
		in, out := p.cut(a)
		for _, o := range out {
			laid = append(laid, &plot{area: o, layer: l, entries: p.entries})
		}
		laid = append(laid, &plot{area: in, layer: l, entries: append(slices.Clip(p.entries), e)})
		rest = without(rest, in)
	}
	for _, r := range rest {
		laid = append(laid, &plot{area: r, layer: l, entries: []policy.Entry{e}})
	}
	return laid
}

// without takes an area away from others.
func without(areas []area, b area) []area {
	var rest []area
	for _, a := range areas {
		if !a.overlaps(b) {
			rest = append(rest, a)
			continue
		}
		_, out := a.cut(b)
		rest = append(rest, out...)
	}
	return rest
}

// stripe is a range of ports, or one ICMP type, that one rule decides.
type stripe struct {
	lo, hi uint16
	rule   *policy.Rule
}

// paint lays the services of entries over one another and returns what is seen from
// above, in order. Stripes of one rule that touch are one.
func paint(entries []policy.Entry) []stripe {
	if form := entries[0].Form(); form == policy.FormAny || form == policy.FormProto {
		return []stripe{{rule: entries[len(entries)-1].Rule}}
	}
	if len(entries) == 1 {
		e := entries[0]
		return []stripe{{e.Service.Lo, e.Service.Hi, e.Rule}}
	}
	starts := make([]uint32, 0, 2*len(entries))
	for _, e := range entries {
		starts = append(starts, uint32(e.Service.Lo), uint32(e.Service.Hi)+1)
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	seen := make([]*policy.Rule, len(starts)) // of the range that begins at each start
	for _, e := range entries {
		i, _ := slices.BinarySearch(starts, uint32(e.Service.Lo))
		for ; starts[i] <= uint32(e.Service.Hi); i++ {
			seen[i] = e.Rule
		}
	}
	var list []stripe
	for i, r := range seen {
		switch n := len(list); {
		case r == nil:
		case n > 0 && list[n-1].rule == r && uint32(list[n-1].hi)+1 == starts[i]:
			list[n-1].hi = uint16(starts[i+1] - 1)
		default:
			list = append(list, stripe{uint16(starts[i]), uint16(starts[i+1] - 1), r})
		}
	}
	return list
}
