// Package nfttest makes rulesets for tests: one that uses everything that package
// nft can say, and random ones. Only tests import it; it never talks to a kernel.
package nfttest

import (
	"net/netip"
	"time"

	"bulkhead/netcfg/nft"
)

// Everything is a table with every statement, field, comparison and shape of set.
func Everything() *nft.Table {
	return &nft.Table{
		Name:     "bulkhead",
		Counters: []string{"iot_storage", "guest_internet"},
		Sets:     append(plainSets(), maps()...),
		Chains: []nft.Chain{
			{Name: "iot_storage", Rules: pairRules()},
			{Name: "refuse", Rules: refuseRules()},
			{Name: "empty"},
			{Name: "matches", Rules: matchRules()},
			{Name: "implied", Rules: impliedRules()},
			{Name: "raw", Hook: &nft.Hook{Type: "filter", Hook: "prerouting", Priority: -290, Drop: false}, Rules: rawRules()},
			{Name: "dstnat", Hook: &nft.Hook{Type: "nat", Hook: "prerouting", Priority: -100}, Rules: natRules()},
			{Name: "forward", Hook: &nft.Hook{Type: "filter", Hook: "forward", Drop: true}, Rules: forwardRules()},
			{Name: "input", Hook: &nft.Hook{Type: "filter", Hook: "input", Priority: 1, Drop: true}},
			{Name: "output", Hook: &nft.Hook{Type: "filter", Hook: "output", Priority: -20, Drop: true}, Rules: outputRules()},
			{Name: "srcnat", Hook: &nft.Hook{Type: "nat", Hook: "postrouting", Priority: 100}, Rules: []nft.Rule{
				rule("", eq(nft.OIFName, nft.Iface("wan")), nft.Masquerade{}),
			}},
		},
	}
}

func plainSets() []nft.Set {
	return []nft.Set{
		{Name: "addrs", Key: []nft.Type{nft.IPv4Addr}, Elements: keys(one(ip("10.0.0.9")), one(ip("9.0.0.10")), one(ip("10.0.0.1")))},
		{Name: "bogons", Key: []nft.Type{nft.IPv4Addr}, Interval: true, Elements: []nft.Element{
			{Key: []nft.Range{prefix("10.0.0.0/8")}, Comment: "RFC 1918"},
			{Key: []nft.Range{prefix("0.0.0.0/8")}},
			{Key: []nft.Range{{Lo: ip("192.0.2.3"), Hi: ip("192.0.2.9")}}},
			{Key: []nft.Range{one(ip("192.0.2.11"))}},
			{Key: []nft.Range{one(ip("192.0.2.12"))}},
			{Key: []nft.Range{prefix("224.0.0.0/3")}},
		}},
		{Name: "ports", Key: []nft.Type{nft.InetService}, Interval: true, Elements: keys(
			nft.Range{Lo: nft.U16(0), Hi: nft.U16(7)}, nft.Range{Lo: nft.U16(8), Hi: nft.U16(9)}, one(nft.U16(22)), nft.Range{Lo: nft.U16(60000), Hi: nft.U16(65535)})},
		{Name: "bind", Key: []nft.Type{nft.IPv4Addr, nft.EtherAddr}, Elements: []nft.Element{
			{Key: []nft.Range{one(ip("192.168.20.11")), one(mac(0x11))}, Comment: "nextcloud"},
			{Key: []nft.Range{one(ip("192.168.30.10")), one(mac(0x10))}, Comment: "nas"},
		}},
		{Name: "zone_links", Key: []nft.Type{nft.IfName}, Elements: keys(one(nft.Iface("lan0.10")), one(nft.Iface("iot")), one(nft.Iface("a23456789012345")))},
		{Name: "macs", Key: []nft.Type{nft.EtherAddr}, Elements: keys(one(mac(3)), one(mac(1)))},
		{Name: "protos", Key: []nft.Type{nft.InetProto}, Elements: keys(one(nft.U8(6)), one(nft.U8(17)), one(nft.U8(1)), one(nft.U8(253)), one(nft.U8(47)), one(nft.U8(132)))},
		{Name: "marks", Key: []nft.Type{nft.Mark}, Elements: keys(one(nft.U32(0x100)), one(nft.U32(0xff)), one(nft.U32(0x80000001)))},
		{Name: "uids", Key: []nft.Type{nft.UID}, Elements: keys(one(nft.U32(6053)), one(nft.U32(0)), one(nft.U32(65536)))},
		{Name: "link_prefix", Key: []nft.Type{nft.IfName, nft.IPv4Addr}, Interval: true, Elements: keys2(
			[]nft.Range{one(nft.Iface("iot")), prefix("192.168.40.0/24")},
			[]nft.Range{one(nft.Iface("guest")), prefix("192.168.50.0/24")},
			[]nft.Range{one(nft.Iface("any")), {Lo: ip("0.0.0.0"), Hi: ip("255.255.255.255")}},
			[]nft.Range{one(nft.Iface("any2")), {Lo: ip("10.0.0.1"), Hi: ip("10.0.0.6")}},
			[]nft.Range{one(nft.Iface("any3")), one(ip("10.0.0.1"))})},
		{Name: "user_ports", Key: []nft.Type{nft.UID, nft.IPv4Addr, nft.InetProto, nft.InetService}, Elements: keys2(
			[]nft.Range{one(nft.U32(6053)), one(ip("9.9.9.9")), one(nft.U8(17)), one(nft.U16(53))},
			[]nft.Range{one(nft.U32(6053)), one(ip("9.9.9.9")), one(nft.U8(6)), one(nft.U16(53))})},
		{Name: "nothing", Key: []nft.Type{nft.IPv4Addr}},
		{Name: "nothing_interval", Key: []nft.Type{nft.IPv4Addr, nft.InetService}, Interval: true},
		{Name: "marked", Key: []nft.Type{nft.Mark, nft.IPv4Addr}, Interval: true, Elements: keys2(
			[]nft.Range{one(nft.U32(0x1234)), prefix("10.0.0.0/8")})},
		{Name: "families", Key: []nft.Type{nft.NFProtoType}, Elements: keys(one(nft.U8(2)), one(nft.U8(10)))},
		{Name: "refusals", Key: []nft.Type{nft.IPv4Addr, nft.IPv4Addr, nft.InetProto, nft.InetService, nft.Mark},
			Dynamic: &nft.Dynamic{Size: 4096, Timeout: 3 * time.Minute, Sweep: 10 * time.Second}},
		{Name: "refusals_icmp", Key: []nft.Type{nft.IPv4Addr, nft.ICMPTypeType}, Dynamic: &nft.Dynamic{Size: 1, Timeout: 24*time.Hour - time.Second, Sweep: time.Hour}},
		{Name: "refusers", Key: []nft.Type{nft.IPv4Addr}, Dynamic: &nft.Dynamic{Size: 65535, Timeout: 24 * time.Hour, Sweep: time.Second}},
		{Name: "icmp_types", Key: []nft.Type{nft.ICMPTypeType}, Interval: true, Elements: keys(
			nft.Range{Lo: nft.U8(3), Hi: nft.U8(4)}, one(nft.U8(8)), nft.Range{Lo: nft.U8(200), Hi: nft.U8(255)})},
	}
}

func maps() []nft.Set {
	flow := []nft.Type{nft.IPv4Addr, nft.IPv4Addr, nft.InetProto, nft.InetService}
	mark := []nft.Type{nft.Mark}
	return []nft.Set{
		{Name: "pairs", Key: []nft.Type{nft.IfName, nft.IfName}, Data: []nft.Type{nft.VerdictType}, Elements: []nft.Element{
			{Key: links("iot", "storage"), Verdict: nft.Verdict{Code: nft.Goto, Chain: "iot_storage"}},
			{Key: links("guest", "wan"), Verdict: nft.Verdict{Code: nft.Jump, Chain: "refuse"}, Comment: "guest to internet"},
			{Key: links("a", "b"), Verdict: nft.Verdict{Code: nft.Accept}},
			{Key: links("a", "c"), Verdict: nft.Verdict{Code: nft.Drop}},
			{Key: links("a", "d"), Verdict: nft.Verdict{Code: nft.Return}},
		}},
		{Name: "verdicts", Key: []nft.Type{nft.IPv4Addr}, Interval: true, Data: []nft.Type{nft.VerdictType}, Elements: []nft.Element{
			{Key: []nft.Range{prefix("10.0.0.0/8")}, Verdict: nft.Verdict{Code: nft.Goto, Chain: "refuse"}},
			{Key: []nft.Range{prefix("192.168.0.0/16")}, Verdict: nft.Verdict{Code: nft.Accept}, Comment: "home"},
		}},
		{Name: "zz", Key: []nft.Type{nft.InetProto, nft.InetService}, Data: mark, Interval: true, Elements: []nft.Element{
			{Key: []nft.Range{one(nft.U8(6)), one(nft.U16(22))}, Data: []nft.Value{nft.U32(5)}, Comment: "admin"},
			{Key: []nft.Range{one(nft.U8(17)), {Lo: nft.U16(100), Hi: nft.U16(200)}}, Data: []nft.Value{nft.U32(7)}},
			{Key: []nft.Range{{Lo: nft.U8(0), Hi: nft.U8(255)}, {Lo: nft.U16(8), Hi: nft.U16(15)}}, Data: []nft.Value{nft.U32(8)}},
		}},
		{Name: "dd", Key: flow, Data: mark, Elements: []nft.Element{
			{Key: []nft.Range{one(ip("192.168.40.12")), one(ip("192.168.20.11")), one(nft.U8(6)), one(nft.U16(8096))}, Data: []nft.Value{nft.U32(0x12)}, Comment: "tv-films"},
			{Key: []nft.Range{one(ip("192.168.40.12")), one(ip("192.168.20.11")), one(nft.U8(17)), one(nft.U16(7359))}, Data: []nft.Value{nft.U32(0x12)}, Comment: "tv-films"},
		}},
		{Name: "ping", Key: []nft.Type{nft.IPv4Addr, nft.IPv4Addr, nft.ICMPTypeType}, Data: mark, Elements: []nft.Element{
			{Key: []nft.Range{one(ip("192.168.40.12")), one(ip("192.168.20.11")), one(nft.U8(8))}, Data: []nft.Value{nft.U32(0x80000005)}},
		}},
		{Name: "prefixes", Key: []nft.Type{nft.IPv4Addr}, Data: mark, Interval: true, Elements: []nft.Element{
			{Key: []nft.Range{prefix("10.1.0.0/16")}, Data: []nft.Value{nft.U32(1)}},
			{Key: []nft.Range{prefix("10.2.0.0/16")}, Data: []nft.Value{nft.U32(2)}},
			{Key: []nft.Range{one(ip("10.9.0.1"))}, Data: []nft.Value{nft.U32(3)}, Comment: "one"},
		}},
		{Name: "forwards", Key: []nft.Type{nft.InetProto, nft.InetService}, Data: []nft.Type{nft.IPv4Addr}, Elements: []nft.Element{
			{Key: []nft.Range{one(nft.U8(17)), one(nft.U16(51999))}, Data: []nft.Value{ip("192.168.20.11")}, Comment: "wireguard-lab"},
		}},
		{Name: "forwards_range", Key: []nft.Type{nft.InetProto, nft.InetService}, Interval: true, Data: []nft.Type{nft.IPv4Addr}, Elements: []nft.Element{
			{Key: []nft.Range{one(nft.U8(17)), {Lo: nft.U16(51999), Hi: nft.U16(52999)}}, Data: []nft.Value{ip("192.168.20.11")}},
		}},
		{Name: "typed", Key: []nft.Type{nft.IPv4Addr}, Data: []nft.Type{nft.InetService}, Elements: []nft.Element{
			{Key: []nft.Range{one(ip("192.168.20.11"))}, Data: []nft.Value{nft.U16(80)}},
		}},
	}
}

func pairRules() []nft.Rule {
	flow := []nft.Field{nft.IPSaddr, nft.IPDaddr, nft.L4Proto, nft.ThDport}
	return []nft.Rule{
		rule("only what the zone holds", nft.Match{Field: nft.IPDaddr, Op: nft.Ne, Mask: nft.Mask4(24), Value: ip("192.168.30.0")}, nft.Verdict{Code: nft.Goto, Chain: "refuse"}),
		rule("", nft.SetMark{Value: 0x44}),
		rule("", nft.MarkFromMap{Fields: []nft.Field{nft.L4Proto, nft.ThDport}, Map: "zz"}),
		rule("", nft.MarkFromMap{Fields: flow, Map: "dd"}),
		rule("", nft.MarkFromMap{Fields: []nft.Field{nft.IPSaddr, nft.IPDaddr, nft.ICMPType}, Map: "ping"}),
		rule("", nft.MarkFromMap{Fields: []nft.Field{nft.IPSaddr}, Map: "prefixes"}),
		rule("", nft.Match{Field: nft.MetaMark, Op: nft.AnyBit, Value: nft.U32(1 << 31)}, nft.Verdict{Code: nft.Goto, Chain: "refuse"}),
		rule("allowed by a rule", nft.Match{Field: nft.MetaMark, Op: nft.Ne, Value: nft.U32(0)}, nft.SaveMark{}, accept),
		rule("", nft.Count{Name: "iot_storage"}, nft.Verdict{Code: nft.Goto, Chain: "refuse"}),
	}
}

func refuseRules() []nft.Rule {
	return []nft.Rule{
		rule("", nft.Limit{Rate: 50, Burst: 100}, nft.Log{Prefix: "policy", Group: 1, Snaplen: 128, QueueThreshold: 32}),
		rule("", nft.Limit{Rate: 1, Burst: 5}, nft.Log{Group: 2}),
		rule("", nft.InSet{Fields: []nft.Field{nft.L4Proto}, Set: "protos"},
			nft.Tally{Fields: []nft.Field{nft.IPSaddr, nft.IPDaddr, nft.L4Proto, nft.ThDport, nft.MetaMark}, Set: "refusals"}, drop),
		rule("", nft.Tally{Fields: []nft.Field{nft.IPSaddr, nft.ICMPType}, Set: "refusals_icmp"}, nft.InSet{Fields: []nft.Field{nft.IPSaddr}, Set: "refusers"}, drop),
		rule("", eq(nft.L4Proto, nft.U8(6)), nft.Tally{Fields: []nft.Field{nft.IPDaddr}, Set: "refusers"}),
		rule("the end", drop),
	}
}

// matchRules compare every field in every way it can be compared.
func matchRules() []nft.Rule {
	var rules []nft.Rule
	for _, m := range []nft.Match{
		{Field: nft.IPSaddr, Value: ip("192.0.2.1")},
		{Field: nft.IPSaddr, Op: nft.Ne, Value: ip("192.0.2.1")},
		{Field: nft.IPSaddr, Mask: nft.Mask4(8), Value: ip("10.0.0.0")},
		{Field: nft.IPSaddr, Mask: nft.Mask4(12), Value: ip("10.16.0.0")},
		{Field: nft.IPSaddr, Mask: nft.Mask4(16), Value: ip("10.16.0.0")},
		{Field: nft.IPSaddr, Mask: nft.Mask4(24), Op: nft.Ne, Value: ip("10.16.1.0")},
		{Field: nft.IPSaddr, Mask: nft.Mask4(31), Value: ip("10.16.1.2")},
		{Field: nft.IPSaddr, Mask: ip("255.0.255.0"), Value: ip("10.0.1.0")},
		{Field: nft.IPDaddr, Op: nft.Within, Value: ip("10.0.0.0"), Last: ip("10.255.255.255")},
		{Field: nft.IPDaddr, Op: nft.Outside, Value: ip("10.0.0.1"), Last: ip("10.0.0.6")},
		{Field: nft.EtherSaddr, Value: mac(1)},
		{Field: nft.EtherSaddr, Op: nft.Ne, Value: mac(1)},
		{Field: nft.NFProto, Value: nft.U8(nft.NFProtoIPv6)},
		{Field: nft.NFProto, Op: nft.Ne, Value: nft.U8(nft.NFProtoIPv4)},
		{Field: nft.L4Proto, Value: nft.U8(47)},
		{Field: nft.L4Proto, Op: nft.Ne, Value: nft.U8(6)},
		{Field: nft.ThSport, Value: nft.U16(53)},
		{Field: nft.ThDport, Op: nft.Ne, Value: nft.U16(53)},
		{Field: nft.ThDport, Op: nft.Within, Value: nft.U16(67), Last: nft.U16(68)},
		{Field: nft.ThDport, Op: nft.Outside, Value: nft.U16(1024), Last: nft.U16(65535)},
		{Field: nft.ICMPType, Value: nft.U8(8)},
		{Field: nft.ICMPType, Op: nft.Ne, Value: nft.U8(200)},
		{Field: nft.ICMPType, Op: nft.Within, Value: nft.U8(3), Last: nft.U8(5)},
		{Field: nft.TCPFlags, Mask: nft.U8(23), Value: nft.U8(nft.FlagSYN)},
		{Field: nft.TCPFlags, Mask: nft.U8(23), Op: nft.Ne, Value: nft.U8(nft.FlagSYN)},
		{Field: nft.TCPFlags, Mask: nft.U8(3), Value: nft.U8(3)},
		{Field: nft.TCPFlags, Value: nft.U8(nft.FlagRST)},
		{Field: nft.TCPFlags, Op: nft.Ne, Value: nft.U8(nft.FlagRST)},
		{Field: nft.TCPFlags, Op: nft.AnyBit, Value: nft.U8(nft.FlagSYN)},
		{Field: nft.TCPFlags, Op: nft.AnyBit, Value: nft.U8(nft.FlagSYN | nft.FlagACK)},
		{Field: nft.TCPFlags, Op: nft.NoBit, Value: nft.U8(nft.FlagSYN)},
		{Field: nft.IIFName, Value: nft.Iface("lan0.10")},
		{Field: nft.OIFName, Op: nft.Ne, Value: nft.Iface("a23456789012345")},
		{Field: nft.MetaMark, Value: nft.U32(0x44)},
		{Field: nft.MetaMark, Op: nft.Ne, Value: nft.U32(0)},
		{Field: nft.MetaMark, Mask: nft.U32(0x0fffffff), Value: nft.U32(0x123)},
		{Field: nft.MetaMark, Mask: nft.U32(0x0fffffff), Op: nft.Ne, Value: nft.U32(0x123)},
		{Field: nft.MetaMark, Mask: nft.U32(0xff000000), Value: nft.U32(0x12000000)},
		{Field: nft.MetaMark, Op: nft.AnyBit, Value: nft.U32(6)},
		{Field: nft.MetaMark, Op: nft.NoBit, Value: nft.U32(1 << 31)},
		{Field: nft.MetaMark, Op: nft.Within, Value: nft.U32(1), Last: nft.U32(0x100)},
		{Field: nft.SkUID, Value: nft.U32(6053)},
		{Field: nft.SkUID, Op: nft.Ne, Value: nft.U32(0)},
		{Field: nft.SkUID, Op: nft.Outside, Value: nft.U32(6000), Last: nft.U32(7000)},
		{Field: nft.CTState, Op: nft.AnyBit, Value: nft.U32(nft.StateEstablished | nft.StateRelated)},
		{Field: nft.CTState, Op: nft.AnyBit, Value: nft.U32(nft.StateInvalid)},
		{Field: nft.CTState, Op: nft.NoBit, Value: nft.U32(nft.StateNew | nft.StateUntracked)},
		{Field: nft.CTState, Value: nft.U32(nft.StateNew)},
		{Field: nft.CTState, Op: nft.Ne, Value: nft.U32(nft.StateNew)},
		{Field: nft.CTStatus, Op: nft.AnyBit, Value: nft.U32(nft.StatusDNAT)},
		{Field: nft.CTStatus, Op: nft.NoBit, Value: nft.U32(nft.StatusDNAT)},
	} {
		rules = append(rules, rule("", m, accept))
	}
	return rules
}

// impliedRules hold matches that later ones imply.
func impliedRules() []nft.Rule {
	tcp := eq(nft.L4Proto, nft.U8(6))
	v4 := eq(nft.NFProto, nft.U8(nft.NFProtoIPv4))
	web := eq(nft.ThDport, nft.U16(443))
	return []nft.Rule{
		rule("", tcp, web, accept),
		rule("", tcp, eq(nft.MetaMark, nft.U32(5)), web, accept),
		rule("", v4, eq(nft.IPSaddr, ip("192.0.2.1")), accept),
		rule("", v4, web, accept),
		rule("", tcp, v4, nft.InSet{Fields: []nft.Field{nft.IPDaddr}, Set: "addrs"}, accept),
		rule("", eq(nft.L4Proto, nft.U8(1)), eq(nft.ICMPType, nft.U8(8)), accept),
		rule("", eq(nft.L4Proto, nft.U8(132)), web, accept),
		rule("", nft.Match{Field: nft.TCPFlags, Op: nft.AnyBit, Value: nft.U8(2)}, web, accept),
		rule("", tcp, nft.InSet{Fields: []nft.Field{nft.ThDport}, Set: "ports", Not: true}, accept),
		rule("", tcp, nft.InSet{Fields: []nft.Field{nft.SkUID, nft.IPDaddr, nft.L4Proto, nft.ThDport}, Set: "user_ports"}, accept),
		rule("", eq(nft.IPSaddr, ip("192.0.2.1")), eq(nft.IPDaddr, ip("192.0.2.2")), accept),
		rule("", tcp, eq(nft.ThSport, nft.U16(1)), eq(nft.ThDport, nft.U16(2)), accept),
	}
}

func rawRules() []nft.Rule {
	return []nft.Rule{
		rule("no way back", eq(nft.FibSaddrIIF, nft.U32(0)), drop),
		rule("", nft.Match{Field: nft.FibSaddrIIF, Op: nft.Ne, Value: nft.U32(0)}, nft.Verdict{Code: nft.Return}),
		rule("", eq(nft.FibDaddrType, nft.U32(nft.FibLocal)), nft.Verdict{Code: nft.Jump, Chain: "empty"}),
		rule("", nft.Match{Field: nft.FibDaddrType, Op: nft.Ne, Value: nft.U32(nft.FibBroadcast)}, accept),
		rule("", eq(nft.IIFName, nft.Iface("iot")), nft.InSet{Fields: []nft.Field{nft.IPSaddr, nft.EtherSaddr}, Set: "bind", Not: true}, drop),
		rule("", nft.InSet{Fields: []nft.Field{nft.IIFName, nft.IPSaddr}, Set: "link_prefix", Not: true}, drop),
		rule("", nft.InSet{Fields: []nft.Field{nft.IPSaddr}, Set: "bogons"}, drop),
		rule("", nft.InSet{Fields: []nft.Field{nft.IIFName}, Set: "zone_links"}, accept),
		rule("", nft.InSet{Fields: []nft.Field{nft.MetaMark, nft.IPSaddr}, Set: "marked"}, accept),
		rule("", nft.InSet{Fields: []nft.Field{nft.MetaMark}, Set: "marks"}, accept),
		rule("", nft.InSet{Fields: []nft.Field{nft.EtherSaddr}, Set: "macs"}, accept),
		rule("", nft.InSet{Fields: []nft.Field{nft.NFProto}, Set: "families"}, accept),
		rule("", nft.InSet{Fields: []nft.Field{nft.ICMPType}, Set: "icmp_types"}, accept),
		rule("", nft.InSet{Fields: []nft.Field{nft.L4Proto}, Set: "protos"}, accept),
		rule("", nft.Dispatch{Fields: []nft.Field{nft.IPSaddr}, Map: "verdicts"}),
	}
}

func natRules() []nft.Rule {
	forwards := []nft.Field{nft.L4Proto, nft.ThDport}
	return []nft.Rule{
		rule("", eq(nft.IPDaddr, ip("203.0.113.2")), nft.DNAT{Fields: forwards, Map: "forwards"}),
		rule("", nft.InSet{Fields: []nft.Field{nft.IPDaddr}, Set: "addrs"}, nft.DNAT{Fields: forwards, Map: "forwards_range"}),
		rule("", eq(nft.L4Proto, nft.U8(6)), eq(nft.ThDport, nft.U16(80)), nft.Redirect{Addr: netip.MustParseAddr("192.168.40.1"), Port: 7180}),
	}
}

func forwardRules() []nft.Rule {
	return []nft.Rule{
		rule("replies", nft.Match{Field: nft.CTState, Op: nft.AnyBit, Value: nft.U32(nft.StateEstablished | nft.StateRelated)}, accept),
		rule("", nft.Dispatch{Fields: []nft.Field{nft.IIFName, nft.OIFName}, Map: "pairs"}),
	}
}

func outputRules() []nft.Rule {
	return []nft.Rule{
		rule("", nft.InSet{Fields: []nft.Field{nft.SkUID}, Set: "uids"}, nft.InSet{Fields: []nft.Field{nft.SkUID, nft.IPDaddr, nft.L4Proto, nft.ThDport}, Set: "user_ports"}, accept),
	}
}

var (
	accept = nft.Verdict{Code: nft.Accept}
	drop   = nft.Verdict{Code: nft.Drop}
)

func rule(comment string, stmts ...nft.Stmt) nft.Rule {
	return nft.Rule{Stmts: stmts, Comment: comment}
}

func eq(f nft.Field, v nft.Value) nft.Match { return nft.Match{Field: f, Value: v} }

func one(v nft.Value) nft.Range { return nft.One(v) }

func ip(s string) nft.Value { return nft.Addr(netip.MustParseAddr(s)) }

func mac(last byte) nft.Value { return nft.MAC([6]byte{0x52, 0x54, 0, 0, 0, last}) }

func links(in, out string) []nft.Range {
	return []nft.Range{one(nft.Iface(in)), one(nft.Iface(out))}
}

func prefix(s string) nft.Range {
	p := netip.MustParsePrefix(s)
	lo := nft.Addr(p.Addr())
	return nft.Range{Lo: lo, Hi: nft.U32(lo.Uint() | ^nft.Mask4(p.Bits()).Uint())}
}

func keys(rs ...nft.Range) []nft.Element {
	elements := make([]nft.Element, len(rs))
	for i, r := range rs {
		elements[i].Key = []nft.Range{r}
	}
	return elements
}

func keys2(ks ...[]nft.Range) []nft.Element {
	elements := make([]nft.Element, len(ks))
	for i, k := range ks {
		elements[i].Key = k
	}
	return elements
}
