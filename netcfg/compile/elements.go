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
// the time. So the networks of all entries are cut where any of them begins or
// ends, and for each key so made the ports are painted in order, the last on top.
func elements(entries []policy.Entry) (list []nft.Element, interval bool) {
	cells := newCells(entries)
	for _, key := range cells.order {
		for _, stripe := range paint(cells.entries[key]) {
			e := nft.Element{Data: []nft.Value{nft.U32(stripe.rule.Mark())}, Comment: stripe.rule.Name}
			if key.uid != 0 {
				e.Key = append(e.Key, nft.One(nft.U32(uint32(key.uid))))
			}
			for _, a := range []span{key.from, key.to} {
				if a.named {
					e.Key = append(e.Key, nft.Range{Lo: nft.U32(a.lo), Hi: nft.U32(a.hi)})
				}
			}
			switch key.form {
			case policy.FormProto:
				e.Key = append(e.Key, nft.One(nft.U8(key.proto)))
			case policy.FormPort:
				e.Key = append(e.Key, nft.One(nft.U8(key.proto)), nft.Range{Lo: nft.U16(stripe.lo), Hi: nft.U16(stripe.hi)})
			case policy.FormICMPType:
				e.Key = append(e.Key, nft.One(nft.U8(uint8(stripe.lo))))
			}
			interval = interval || slices.ContainsFunc(e.Key, func(r nft.Range) bool { return r.Lo != r.Hi })
			list = append(list, e)
		}
	}
	return list, interval
}

// span is an inclusive range of IPv4 addresses; the zero value is no range, which
// is not the same as the range of 0.0.0.0 alone.
type span struct {
	named  bool
	lo, hi uint32
}

func spanOf(p netip.Prefix) span {
	return span{true, number(p.Masked().Addr()), number(policy.Broadcast(p))}
}

func number(a netip.Addr) uint32 { b := a.As4(); return binary.BigEndian.Uint32(b[:]) }

// cell is what a set of map elements that differ in their ports have in common.
type cell struct {
	uid      int
	from, to span
	form     policy.Form
	proto    uint8
}

// cells gathers entries by cell, in a fixed order.
type cells struct {
	order   []cell
	entries map[cell][]policy.Entry
}

func newCells(entries []policy.Entry) cells {
	c := cells{entries: map[cell][]policy.Entry{}}
	var froms, tos []span
	tier := entries[0].Tier()
	if tier == policy.TierNet || tier == policy.TierNetWhole {
		froms = cut(entries, func(e policy.Entry) policy.Side { return e.From })
	}
	if tier == policy.TierNet || tier == policy.TierWholeNet {
		tos = cut(entries, func(e policy.Entry) policy.Side { return e.To })
	}
	for _, e := range entries {
		for _, from := range pieces(e.From, froms) {
			for _, to := range pieces(e.To, tos) {
				key := cell{e.UID, from, to, e.Form(), e.Service.Proto}
				if c.entries[key] == nil {
					c.order = append(c.order, key)
				}
				c.entries[key] = append(c.entries[key], e)
			}
		}
	}
	return c
}

var allAddresses = span{true, 0, 1<<32 - 1}

func spanOfSide(s policy.Side) span {
	if s.Whole {
		return allAddresses
	}
	return spanOf(s.Prefix)
}

// cut divides the address space where a side of some entry begins or ends.
func cut(entries []policy.Entry, side func(policy.Entry) policy.Side) []span {
	starts := []uint64{0, 1 << 32}
	for _, e := range entries {
		s := spanOfSide(side(e))
		starts = append(starts, uint64(s.lo), uint64(s.hi)+1)
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	spans := make([]span, len(starts)-1)
	for i := range spans {
		spans[i] = span{true, uint32(starts[i]), uint32(starts[i+1] - 1)}
	}
	return spans
}

// pieces returns the pieces that a side consists of. Without a division a side is
// one piece, and the whole party none: its key does not name addresses.
func pieces(s policy.Side, division []span) []span {
	switch {
	case division == nil && s.Whole:
		return []span{{}}
	case division == nil:
		return []span{spanOf(s.Prefix)}
	}
	whole := spanOfSide(s)
	first := slices.IndexFunc(division, func(p span) bool { return p.lo == whole.lo })
	last := slices.IndexFunc(division, func(p span) bool { return p.hi == whole.hi })
	return division[first : last+1]
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
