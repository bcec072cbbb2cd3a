package nft_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/nft/nfttest"
)

func TestEverythingIsValid(t *testing.T) {
	if err := nfttest.Everything().Validate(); err != nil {
		t.Error(err)
	}
	if err := offloading().Validate(); err != nil {
		t.Error(err)
	}
}

func offloading() *nft.Table {
	t := &nft.Table{Name: "bulkhead", Counters: []string{"passed"}}
	nfttest.Offloading(rand.New(rand.NewPCG(0, 0)), t, "eth0", "eth1")
	return t
}

func TestValidateFindsWrongFlowtables(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*nft.Table)
		want  string
	}{
		{"twice", func(t *nft.Table) { t.Flowtables = append(t.Flowtables, t.Flowtables[0]) }, "flowtable fastpath is there twice"},
		{"reserved name", func(t *nft.Table) { t.Flowtables[0].Name = "offload" }, "flowtable offload: the name is a word"},
		{"no device", func(t *nft.Table) { t.Flowtables[0].Devices = nil }, "flowtable fastpath: no device"},
		{"a device twice", func(t *nft.Table) { t.Flowtables[0].Devices[0] = "eth1" }, "devices eth1 and eth1 are the same"},
		{"no name of a device", func(t *nft.Table) { t.Flowtables[0].Devices[0] = "" }, "is no name of an interface"},
		{"unknown", func(t *nft.Table) { t.Flowtables = nil }, "there is no flowtable fastpath"},
		{"at another hook", func(t *nft.Table) { t.Chains[0].Hook.Hook = "input" }, "at forward only"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := offloading()
			tt.spoil(table)
			if err := table.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestValidateFindsWhatIsWrong(t *testing.T) {
	rule := func(stmts ...nft.Stmt) func(*nft.Table) {
		return func(t *nft.Table) { t.Chains[0].Rules = append(t.Chains[0].Rules, nft.Rule{Stmts: stmts}) }
	}
	set := func(s nft.Set) func(*nft.Table) {
		s.Name = "wrong"
		return func(t *nft.Table) { t.Sets = append(t.Sets, s) }
	}
	accept := nft.Verdict{Code: nft.Accept}
	l4 := func(p uint8) nft.Match { return nft.Match{Field: nft.L4Proto, Value: nft.U8(p)} }
	port := nft.Match{Field: nft.ThDport, Value: nft.U16(1)}
	ping := nft.Match{Field: nft.ICMPType, Value: nft.U8(8)}
	addr := nft.Match{Field: nft.IPSaddr, Value: nft.U32(1)}
	ipv4, service := []nft.Type{nft.IPv4Addr}, []nft.Type{nft.IPv4Addr, nft.InetService}
	element := func(r ...nft.Range) nft.Element { return nft.Element{Key: r} }
	span := func(lo, hi uint32) nft.Range { return nft.Range{Lo: nft.U32(lo), Hi: nft.U32(hi)} }

	for _, tt := range []struct {
		name  string
		spoil func(*nft.Table)
		want  string
	}{
		{"reserved name", func(t *nft.Table) { t.Chains = append(t.Chains, nft.Chain{Name: "fwd"}) }, "chain fwd: the name is a word of nft's language"},
		{"name with a blank", func(t *nft.Table) { t.Counters = append(t.Counters, "a b") }, `counter: "a b" is no name`},
		{"name too long", func(t *nft.Table) { t.Counters = append(t.Counters, strings.Repeat("a", 256)) }, "is no name"},
		{"chain twice", func(t *nft.Table) { t.Chains = append(t.Chains, t.Chains[0]) }, "chain iot_storage is there twice"},
		{"set twice", func(t *nft.Table) { t.Sets = append(t.Sets, t.Sets[0]) }, "set addrs is there twice"},
		{"counter twice", func(t *nft.Table) { t.Counters = append(t.Counters, t.Counters[0]) }, "counter iot_storage is there twice"},
		{"unknown hook", func(t *nft.Table) { t.Chains[5].Hook.Hook = "ingress" }, `there is no hook "ingress"`},
		{"nat at forward", func(t *nft.Table) { t.Chains[6].Hook.Hook = "forward" }, "there is no nat at hook forward"},
		{"no statements", rule(), "has no statements"},
		{"after a verdict", rule(accept, nft.SaveMark{}), "has no effect"},
		{"unknown counter", rule(nft.Count{Name: "x"}), "there is no counter x"},
		{"unknown set", rule(nft.InSet{Fields: []nft.Field{nft.IPSaddr}, Set: "x"}), "there is no set x"},
		{"unknown chain", rule(nft.Verdict{Code: nft.Goto, Chain: "x"}), "goto x: there is no such chain"},
		{"jump to a base chain", rule(nft.Verdict{Code: nft.Jump, Chain: "forward"}), "jump forward: there is no such chain"},
		{"no verdict", rule(nft.Verdict{}), "is no verdict"},
		{"other type", rule(nft.InSet{Fields: []nft.Field{nft.ThDport}, Set: "addrs"}), "looks up inet_service"},
		{"set for a map", rule(nft.MarkFromMap{Fields: []nft.Field{nft.IPSaddr}, Map: "addrs"}), "looks up ipv4_addr : mark in addrs"},
		{"ports of GRE", rule(l4(47), port), "th dport after meta l4proto gre, which has no ports"},
		{"ports of ICMP", rule(ping, port), "th dport after meta l4proto icmp, which has no ports"},
		{"ICMP in TCP", rule(l4(6), ping), "icmp type after meta l4proto tcp never matches"},
		{"ICMP after ports", rule(port, ping), "icmp type after ports"},
		{"protocol twice", rule(l4(6), l4(6)), "meta l4proto is known already"},
		{"IPv4 address in IPv6", rule(nft.Match{Field: nft.NFProto, Value: nft.U8(nft.NFProtoIPv6)}, addr), "ip saddr after meta nfproto ipv6 never matches"},
		{"value too short", rule(nft.Match{Field: nft.IPSaddr, Value: nft.U16(1)}), "value 0001 has 2 bytes"},
		{"bits outside the mask", rule(nft.Match{Field: nft.IPSaddr, Mask: nft.Mask4(8), Value: nft.U32(1)}), "outside of mask"},
		{"bits of an address", rule(nft.Match{Field: nft.IPSaddr, Op: nft.AnyBit, Value: nft.U32(1)}), "cannot be compared"},
		{"range backwards", rule(nft.Match{Field: nft.ThDport, Op: nft.Within, Value: nft.U16(2), Last: nft.U16(1)}), "range ends before"},
		{"several states at once", rule(nft.Match{Field: nft.CTState, Value: nft.U32(6)}), "several bits"},
		{"masquerade at input", func(t *nft.Table) { t.Chains[8].Rules = []nft.Rule{{Stmts: []nft.Stmt{nft.Masquerade{}}}} }, "translation needs a nat chain"},
		{"endless limit", rule(nft.Limit{Rate: 1}), "burst 0"},
		{"tally in a plain set", rule(nft.Tally{Fields: []nft.Field{nft.IPSaddr}, Set: "addrs"}), "to which packets add nothing"},
		{"tally of other fields", rule(nft.Tally{Fields: []nft.Field{nft.IPSaddr, nft.IPDaddr}, Set: "refusers"}), "which is of type ipv4_addr"},
		{"packets add what is there", set(nft.Set{Key: ipv4, Dynamic: dynamic(9), Elements: []nft.Element{element(span(1, 1))}}), "packets add elements"},
		{"packets add data", set(nft.Set{Key: ipv4, Dynamic: dynamic(9), Data: ipv4}), "packets add elements"},
		{"dynamic set without a size", set(nft.Set{Key: ipv4, Dynamic: dynamic(0)}), "it has no size"},
		{"half a second", set(nft.Set{Key: ipv4, Dynamic: &nft.Dynamic{Size: 1, Timeout: time.Second / 2, Sweep: time.Second}}), "500ms is not 1 second to 24h0m0s"},
		{"prefix with a variable", rule(nft.Log{Prefix: "$a"}), "start of a variable"},
		{"comment with quotes", func(t *nft.Table) { t.Chains[0].Rules[0].Comment = `"` }, "printable ASCII"},
		{"comment too long", func(t *nft.Table) { t.Chains[0].Rules[0].Comment = strings.Repeat("x", 129) }, "at most 128"},
		{"interface name too long", rule(nft.Match{Field: nft.IIFName, Value: nft.Value(strings.Repeat("x", 16))}), "is no name of an interface"},
		{"wildcard", rule(nft.Match{Field: nft.IIFName, Value: nft.Iface("lan*")}), "is no name of an interface"},
		{"key twice", set(nft.Set{Key: ipv4, Elements: []nft.Element{element(span(1, 1)), element(span(1, 1))}}), "key 0.0.0.1 is there twice"},
		{"overlap", set(nft.Set{Key: ipv4, Interval: true, Elements: []nft.Element{element(span(1, 5)), element(span(5, 9))}}), "keys 0.0.0.1-0.0.0.5 and 0.0.0.5-0.0.0.9 overlap"},
		{"overlap of fields", set(nft.Set{Key: service, Interval: true, Elements: []nft.Element{
			element(span(1, 9), nft.One(nft.U16(5))), element(span(5, 12), nft.Range{Lo: nft.U16(1), Hi: nft.U16(9)}),
		}}), "overlap"},
		{"range in a plain set", set(nft.Set{Key: ipv4, Elements: []nft.Element{element(span(1, 5))}}), "a range of type ipv4_addr in a set that has none"},
		{"range of names", set(nft.Set{Key: []nft.Type{nft.IfName}, Interval: true}), "there are no ranges of type ifname"},
		{"too many fields", set(nft.Set{Key: []nft.Type{nft.Mark, nft.Mark, nft.Mark, nft.Mark, nft.Mark, nft.Mark}}), "1 to 5 fields"},
		{"too long a key", set(nft.Set{Key: []nft.Type{nft.IfName, nft.IfName, nft.IfName, nft.IfName, nft.Mark}}), "at most 64 bytes"},
		{"missing field", set(nft.Set{Key: service, Elements: []nft.Element{element(span(1, 1))}}), "an element has 1 fields, the set 2"},
		{"missing data", set(nft.Set{Key: ipv4, Data: []nft.Type{nft.Mark}, Elements: []nft.Element{element(span(1, 1))}}), "an element has 0 data fields"},
		{"missing verdict", set(nft.Set{Key: ipv4, Data: []nft.Type{nft.VerdictType}, Elements: []nft.Element{element(span(1, 1))}}), "is no verdict"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := nfttest.Everything()
			tt.spoil(table)
			if err := table.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want ...%s...", err, tt.want)
			}
		})
	}
}

func TestNumberOfErrorsIsBounded(t *testing.T) {
	table := &nft.Table{Name: "bulkhead", Chains: []nft.Chain{{Name: "a", Rules: make([]nft.Rule, 100_000)}}}
	if err := table.Validate(); err == nil || len(err.Error()) > 4000 {
		t.Errorf("got %v, want a handful of errors", err)
	}
}

func dynamic(size uint32) *nft.Dynamic {
	return &nft.Dynamic{Size: size, Timeout: time.Minute, Sweep: time.Second}
}
