//go:build linux

package apply

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/nft"
	"bulkhead/netcfg/nft/nfttest"
	"bulkhead/netcfg/nstest"
)

func observe(t testing.TB, r *Rulesets, last LoadedRuleset) (digest string, foreign bool) {
	t.Helper()
	s, err := r.Observe(last)
	if err != nil {
		t.Fatal(err)
	}
	if s.Present() != (s.Digest != "" || s.Foreign) {
		t.Errorf("observed table %v with digest %q, foreign %t", s.Table, s.Digest, s.Foreign)
	}
	return s.Digest, s.Foreign
}

func TestWithoutTableThereIsNothing(t *testing.T) {
	r := openRulesets(t, nstest.New(t))
	if digest, foreign := observe(t, r, LoadedRuleset{TextDigest: "x", KernelDigest: "y"}); digest != "" || foreign {
		t.Errorf("got digest %q, foreign %t, want none", digest, foreign)
	}
	if counters, err := r.Counters(); err != nil || len(counters) != 0 {
		t.Errorf("got counters %v, error %v, want none", counters, err)
	}
	if _, err := r.Load(nil); err != nil {
		t.Errorf("removing what is not there: %v", err)
	}
}

func TestLoadTwiceIsTheSame(t *testing.T) {
	needNFT(t)
	ns := nstest.New(t)
	r := openRulesets(t, ns)
	table := nfttest.Everything()
	first := mustLoad(t, r, table)
	for range 2 {
		if again := mustLoad(t, r, table); again != first {
			t.Errorf("loaded %+v at first and then %+v", first, again)
		}
		if got := listed(t, ns); got != table.String() {
			t.Errorf("nft lists after another load:\n%s", got)
		}
	}
	// Another process, which knows of the load only what was kept of it.
	if digest, foreign := observe(t, openRulesets(t, ns), first); digest != table.Digest() || foreign {
		t.Errorf("got digest %q, foreign %t, want %q, false", digest, foreign, table.Digest())
	}
}

func TestLoadNilRemovesTheTable(t *testing.T) {
	ns := nstest.New(t)
	r := openRulesets(t, ns)
	loaded := mustLoad(t, r, nfttest.Everything())
	if after, err := r.Load(nil); err != nil || after != (LoadedRuleset{}) {
		t.Fatalf("got %+v, %v", after, err)
	}
	if digest, foreign := observe(t, r, loaded); digest != "" || foreign {
		t.Errorf("got digest %q, foreign %t, want none", digest, foreign)
	}
}

// counting is a table that counts and drops all datagrams to the box.
func counting(counters ...string) *nft.Table {
	input := nft.Chain{Name: "input", Hook: &nft.Hook{Type: "filter", Hook: "input", Drop: true}}
	for _, c := range counters {
		input.Rules = append(input.Rules, nft.Rule{Stmts: []nft.Stmt{nft.Count{Name: c}}})
	}
	return &nft.Table{Name: "bulkhead", Counters: counters, Chains: []nft.Chain{input}}
}

func TestCountersSurviveReload(t *testing.T) {
	ns := nstest.New(t)
	nstest.Exec(t, ns, "ip", "link", "set", "lo", "up")
	r := openRulesets(t, ns)
	mustLoad(t, r, counting("kept", "dropped"))
	nstest.Run(t, ns, func() { sendDatagrams(t, "127.0.0.1:9", 3) })
	mustLoad(t, r, counting("kept", "new"))

	got, err := r.Counters()
	if err != nil {
		t.Fatal(err)
	}
	const ipAndUDP = 20 + 8
	want := map[string]Counter{"kept": {Packets: 3, Bytes: 3 * (ipAndUDP + 1)}, "new": {}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counters after reload (-want +got):\n%s", diff)
	}
}

// tallying is a table that counts datagrams to the box by their port, and drops them.
func tallying(size uint32) *nft.Table {
	return &nft.Table{
		Name: "bulkhead",
		Sets: []nft.Set{{Name: "seen", Key: []nft.Type{nft.IPv4Addr, nft.InetService}, Dynamic: &nft.Dynamic{Size: size, Timeout: time.Hour, Sweep: time.Minute}}},
		Chains: []nft.Chain{{Name: "input", Hook: &nft.Hook{Type: "filter", Hook: "input", Drop: true}, Rules: []nft.Rule{
			{Stmts: []nft.Stmt{nft.Tally{Fields: []nft.Field{nft.IPSaddr, nft.ThDport}, Set: "seen"}}},
		}}},
	}
}

// TestDynamicSetsSurviveReload expects what packets put into a set to be nobody's doing,
// and to stay while the set is the same.
func TestDynamicSetsSurviveReload(t *testing.T) {
	needNFT(t)
	ns := nstest.New(t)
	nstest.Exec(t, ns, "ip", "link", "set", "lo", "up")
	r := openRulesets(t, ns)
	counted := func(n int) bool {
		return strings.Contains(nstest.Exec(t, ns, "nft", "list", "set", "inet", "bulkhead", "seen"),
			fmt.Sprintf("127.0.0.1 . 9 counter packets %d bytes ", n))
	}
	loaded := mustLoad(t, r, tallying(8))
	nstest.Run(t, ns, func() { sendDatagrams(t, "127.0.0.1:9", 3) })
	if !counted(3) {
		t.Error("3 packets were not counted")
	}
	if _, foreign := observe(t, openRulesets(t, ns), loaded); foreign {
		t.Error("what packets put into a set makes the table foreign")
	}
	if again := mustLoad(t, r, tallying(8)); again != loaded {
		t.Errorf("loaded %+v, and with elements there %+v", loaded, again)
	}
	nstest.Run(t, ns, func() { sendDatagrams(t, "127.0.0.1:9", 1) })
	if !counted(4) {
		t.Error("1 packet more was not counted after a reload")
	}

	// One who has made a set of that name with something else about it gets ours.
	nstest.ExecInput(t, ns, "flush chain inet bulkhead input\ndelete set inet bulkhead seen\n"+
		"add set inet bulkhead seen { type ipv4_addr . inet_service; size 8; flags dynamic,timeout; timeout 2h; gc-interval 1m; }", "nft", "-f", "-")
	if _, foreign := observe(t, r, loaded); !foreign {
		t.Error("another set of that name is not foreign")
	}
	if again := mustLoad(t, r, tallying(8)); again != loaded {
		t.Errorf("loaded %+v, and over another set %+v", loaded, again)
	}
	mustLoad(t, r, tallying(9))
	if got := nstest.Exec(t, ns, "nft", "list", "set", "inet", "bulkhead", "seen"); !strings.Contains(got, "size 9\n") {
		t.Errorf("the set did not grow:\n%s", got)
	}
}

func sendDatagrams(t testing.TB, to string, n int) {
	c, err := net.Dial("udp4", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range n {
		if _, err := c.Write([]byte{0}); err != nil {
			t.Error(err)
		}
	}
}

// TestForeignContentIsSeenAndRemoved lets somebody else write to our table, in every
// way there is, and expects Observe to see it and Load to undo it.
func TestForeignContentIsSeenAndRemoved(t *testing.T) {
	needNFT(t)
	table := nfttest.Everything()
	for _, change := range []string{
		"add rule inet bulkhead refuse accept",
		"insert rule inet bulkhead forward accept",
		"flush chain inet bulkhead forward",
		"add chain inet bulkhead mine",
		"add chain inet bulkhead mine { type filter hook input priority -500; }; add rule inet bulkhead mine jump refuse",
		"add chain inet bulkhead forward { policy accept; }",
		"add set inet bulkhead mine { type ipv4_addr; flags timeout; elements = { 192.0.2.1 timeout 1h } }",
		"add map inet bulkhead mine { type ipv4_addr : verdict; elements = { 192.0.2.1 : goto refuse } }",
		"add element inet bulkhead addrs { 192.0.2.77 }",
		"delete element inet bulkhead addrs { 10.0.0.1 }",
		"add element inet bulkhead pairs { \"x\" . \"y\" : accept }",
		"delete element inet bulkhead bogons { 10.0.0.0/8 }",
		"flush map inet bulkhead dd",
		"add counter inet bulkhead mine",
		"add quota inet bulkhead mine { over 1 mbytes }; add rule inet bulkhead input quota name mine drop",
		"add limit inet bulkhead mine { rate 1/second }",
		"add map inet bulkhead mine { type ipv4_addr : counter; elements = { 192.0.2.1 : \"iot_storage\" } }",
		"add rule inet bulkhead input ip saddr { 192.0.2.1, 192.0.2.2 } tcp dport vmap { 22 : accept }; add rule inet bulkhead input jump { accept; }",
		"add table inet bulkhead { flags dormant; }",
	} {
		t.Run(change, func(t *testing.T) {
			ns := nstest.New(t)
			r := openRulesets(t, ns)
			loaded := mustLoad(t, r, table)
			nstest.ExecInput(t, ns, strings.ReplaceAll(change, "; add rule", "\nadd rule"), "nft", "-f", "-")
			if digest, foreign := observe(t, r, loaded); digest != "" || !foreign {
				t.Errorf("got digest %q, foreign %t, want none and true", digest, foreign)
			}
			again := mustLoad(t, r, table)
			if again != loaded {
				t.Errorf("loaded %+v, and after the foreign change %+v", loaded, again)
			}
			if digest, foreign := observe(t, r, loaded); digest != table.Digest() || foreign {
				t.Errorf("got digest %q, foreign %t after reload", digest, foreign)
			}
		})
	}
}

func TestCounterValuesAreNotForeign(t *testing.T) {
	ns := nstest.New(t)
	nstest.Exec(t, ns, "ip", "link", "set", "lo", "up")
	r := openRulesets(t, ns)
	loaded := mustLoad(t, r, counting("everything"))
	nstest.Run(t, ns, func() { sendDatagrams(t, "127.0.0.1:9", 1) })
	// Another process has no digest in memory and reads everything.
	if _, foreign := observe(t, openRulesets(t, ns), loaded); foreign {
		t.Error("a counter that counted makes the table foreign")
	}
}

func TestOtherTablesAreLeftAlone(t *testing.T) {
	needNFT(t)
	ns := nstest.New(t)
	const others = "table inet other {\n\tchain bulkhead {\n\t\ttype filter hook input priority filter; policy accept;\n\t}\n}\n" +
		"table ip bulkhead {\n\tset addrs {\n\t\ttype ipv4_addr\n\t\telements = { 192.0.2.1 }\n\t}\n}\n"
	nstest.ExecInput(t, ns, others, "nft", "-f", "-")
	r := openRulesets(t, ns)
	loaded := mustLoad(t, r, nfttest.Everything())
	nstest.Exec(t, ns, "nft", "add", "chain", "inet", "other", "another")
	if _, foreign := observe(t, r, loaded); foreign {
		t.Error("a change to another table makes ours foreign")
	}
	mustLoad(t, r, counting())
	if _, err := r.Load(nil); err != nil {
		t.Fatal(err)
	}
	nstest.Exec(t, ns, "nft", "delete", "chain", "inet", "other", "another")
	if diff := cmp.Diff(others, nstest.Exec(t, ns, "nft", "list", "ruleset")); diff != "" {
		t.Errorf("other tables (-before +after):\n%s", diff)
	}
}

func TestRefusedTableLeavesTheOldOne(t *testing.T) {
	needNFT(t)
	overlapping := counting()
	overlapping.Sets = []nft.Set{{
		Name: "twice", Key: []nft.Type{nft.IPv4Addr, nft.InetService}, Interval: true, Elements: []nft.Element{
			{Key: []nft.Range{{Lo: nft.U32(1), Hi: nft.U32(9)}, {Lo: nft.U16(1), Hi: nft.U16(9)}}},
			{Key: []nft.Range{nft.One(nft.U32(5)), nft.One(nft.U16(5))}},
		}}}
	looping := counting()
	looping.Chains = append(looping.Chains,
		nft.Chain{Name: "a", Rules: []nft.Rule{{Stmts: []nft.Stmt{nft.Verdict{Code: nft.Jump, Chain: "b"}}}}},
		nft.Chain{Name: "b", Rules: []nft.Rule{{Stmts: []nft.Stmt{nft.Verdict{Code: nft.Jump, Chain: "a"}}}}})
	looping.Chains[0].Rules = []nft.Rule{{Stmts: []nft.Stmt{nft.Verdict{Code: nft.Jump, Chain: "a"}}}}
	invalid := counting()
	invalid.Chains[0].Rules = []nft.Rule{{Stmts: []nft.Stmt{nft.Count{Name: "missing"}}}}

	for _, tt := range []struct {
		name  string
		table *nft.Table
		errno error
		text  string
	}{
		{"loop", looping, unix.EMLINK, "load table bulkhead: "},
		{"overlap", overlapping, nil, "load table bulkhead: set twice: "},
		{"invalid", invalid, nil, "load table bulkhead: chain input, rule 1: there is no counter missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns := nstest.New(t)
			r := openRulesets(t, ns)
			table := nfttest.Everything()
			loaded := mustLoad(t, r, table)
			_, err := r.Load(tt.table)
			if err == nil || tt.errno != nil && !errors.Is(err, tt.errno) || !strings.HasPrefix(err.Error(), tt.text) {
				t.Errorf("got error %v, want %q... wrapping %v", err, tt.text, tt.errno)
			}
			if got := listed(t, ns); got != table.String() {
				t.Errorf("nft lists after the failed load:\n%s", got)
			}
			if digest, foreign := observe(t, r, loaded); digest != table.Digest() || foreign {
				t.Errorf("got digest %q, foreign %t after the failed load", digest, foreign)
			}
		})
	}
}

// TestLoadsWhileOthersChangeRulesets has somebody else change another table all the
// time, so that what Load has read is often out of date when it writes.
func TestLoadsWhileOthersChangeRulesets(t *testing.T) {
	needNFT(t)
	ns := nstest.New(t)
	r := openRulesets(t, ns)
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				nstest.ExecInput(t, ns, "add table inet other\ndelete table inet other\n", "nft", "-f", "-")
			}
		}
	})
	table := nfttest.Everything()
	var loaded LoadedRuleset
	for range 20 {
		loaded = mustLoad(t, r, table)
	}
	close(stop)
	others.Wait()
	if digest, foreign := observe(t, r, loaded); digest != table.Digest() || foreign {
		t.Errorf("got digest %q, foreign %t", digest, foreign)
	}
}

// TestNothingPassesDuringReload floods a box that forwards with datagrams that no rule
// allows, while tables replace each other. Not one may come through.
func TestNothingPassesDuringReload(t *testing.T) {
	t.Run("same base chains", func(t *testing.T) {
		testNothingPasses(t, 200, gate("red"), gate("blue"))
	})
	t.Run("other base chains", func(t *testing.T) {
		red, blue := gate("red"), gate("blue")
		blue.Chains[1].Hook.Priority = 7
		testNothingPasses(t, 50, red, blue)
	})
}

func testNothingPasses(t *testing.T, reloads int, tables ...*nft.Table) {
	outside, box, inside := nstest.New(t), nstest.New(t), nstest.New(t)
	nstest.Veth(t, outside, "eth0", box, "wan")
	nstest.Veth(t, inside, "eth0", box, "lan")
	for _, c := range []struct {
		ns   int
		args string
	}{
		{outside, "addr add 192.0.2.1/24 dev eth0"}, {outside, "route add 198.51.100.0/24 via 192.0.2.2"},
		{box, "addr add 192.0.2.2/24 dev wan"}, {box, "addr add 198.51.100.2/24 dev lan"},
		{inside, "addr add 198.51.100.1/24 dev eth0"}, {inside, "route add 192.0.2.0/24 via 198.51.100.2"},
	} {
		nstest.Exec(t, c.ns, "ip", strings.Fields(c.args)...)
	}
	nstest.Exec(t, box, "sysctl", "-qw", "net.ipv4.ip_forward=1")

	r := openRulesets(t, box)
	mustLoad(t, r, tables[0])

	var allowed, forbidden *net.UDPConn
	nstest.Run(t, inside, func() {
		allowed, forbidden = listenUDP(t, "198.51.100.1:7"), listenUDP(t, "198.51.100.1:8")
	})
	var passed atomic.Int64
	var background sync.WaitGroup
	background.Go(func() { passed.Store(countDatagrams(forbidden)) })
	sent := new(atomic.Int64)
	stop := make(chan struct{})
	flood(t, outside, &background, "198.51.100.1:8", stop, sent)

	for i := range reloads {
		mustLoad(t, r, tables[(i+1)%len(tables)])
	}
	// The way is open for what is allowed, so that nothing passing means something.
	nstest.Run(t, outside, func() { sendDatagrams(t, "198.51.100.1:7", 1) })
	if err := allowed.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := allowed.Read(make([]byte, 1)); err != nil {
		t.Errorf("what is allowed does not pass: %v", err)
	}
	close(stop)
	forbidden.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // what is under way arrives
	background.Wait()
	if sent.Load() == 0 || passed.Load() != 0 {
		t.Errorf("%d of %d forbidden datagrams passed", passed.Load(), sent.Load())
	}
	t.Logf("sent %d datagrams during %d reloads", sent.Load(), reloads)
}

// gate is a table that lets datagrams to port 7 through. Its chains and sets have
// names of their own, so that two such tables have little in common.
func gate(name string) *nft.Table {
	return &nft.Table{
		Name: "bulkhead",
		Sets: []nft.Set{{
			Name: name + "-pairs", Key: []nft.Type{nft.IfName, nft.IfName}, Data: []nft.Type{nft.VerdictType},
			Elements: []nft.Element{{
				Key:     []nft.Range{nft.One(nft.Iface("wan")), nft.One(nft.Iface("lan"))},
				Verdict: nft.Verdict{Code: nft.Goto, Chain: name},
			}},
		}},
		Chains: []nft.Chain{
			{Name: name, Rules: []nft.Rule{{Stmts: []nft.Stmt{
				nft.Match{Field: nft.L4Proto, Value: nft.U8(17)}, nft.Match{Field: nft.ThDport, Value: nft.U16(7)},
				nft.Verdict{Code: nft.Accept},
			}}}},
			{Name: "forward", Hook: &nft.Hook{Type: "filter", Hook: "forward", Drop: true}, Rules: []nft.Rule{{Stmts: []nft.Stmt{
				nft.Dispatch{Fields: []nft.Field{nft.IIFName, nft.OIFName}, Map: name + "-pairs"},
			}}}},
		},
	}
}

func listenUDP(t testing.TB, addr string) *net.UDPConn {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// countDatagrams counts until the socket's deadline.
func countDatagrams(c *net.UDPConn) (n int64) {
	for {
		if _, err := c.Read(make([]byte, 1)); err != nil {
			return n
		}
		n++
	}
}

// flood sends datagrams, one after the other, until stop is closed.
func flood(t testing.TB, ns int, wg *sync.WaitGroup, to string, stop <-chan struct{}, sent *atomic.Int64) {
	t.Helper()
	var c net.Conn
	nstest.Run(t, ns, func() {
		var err error
		if c, err = net.Dial("udp4", to); err != nil {
			t.Fatal(err)
		}
	})
	wg.Go(func() {
		defer c.Close()
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := c.Write([]byte{0}); err == nil {
					sent.Add(1)
				}
			}
		}
	})
}

// pairs is a table of n chains for pairs of zones, with maps that hold elements
// elements altogether.
func pairs(n, elements int) *nft.Table {
	t := &nft.Table{Name: "bulkhead"}
	dispatch := nft.Set{Name: "pairs", Key: []nft.Type{nft.IfName, nft.IfName}, Data: []nft.Type{nft.VerdictType}}
	for i := range n {
		name := fmt.Sprintf("zone%d_zone%d", i/20, i%20)
		t.Counters = append(t.Counters, name)
		dispatch.Elements = append(dispatch.Elements, nft.Element{
			Key:     []nft.Range{nft.One(nft.Iface(fmt.Sprintf("lan0.%d", i/20))), nft.One(nft.Iface(fmt.Sprintf("lan0.%d", i%20)))},
			Verdict: nft.Verdict{Code: nft.Goto, Chain: name},
		})
		exact := nft.Set{Name: name + "_dd", Key: []nft.Type{nft.IPv4Addr, nft.IPv4Addr, nft.InetProto, nft.InetService}, Data: []nft.Type{nft.Mark}}
		ranges := nft.Set{Name: name + "_zz", Interval: true, Key: []nft.Type{nft.InetProto, nft.InetService}, Data: []nft.Type{nft.Mark}}
		for j := range elements / n {
			if j%8 == 7 {
				port := j % 8192 * 8
				ranges.Elements = append(ranges.Elements, nft.Element{
					Key:  []nft.Range{nft.One(nft.U8(uint8(6 + j/8192))), {Lo: nft.U16(uint16(port)), Hi: nft.U16(uint16(port + 2))}},
					Data: []nft.Value{nft.U32(uint32(j))}, Comment: "a rule with ranges",
				})
				continue
			}
			exact.Elements = append(exact.Elements, nft.Element{
				Key:  []nft.Range{nft.One(nft.U32(uint32(i<<16 + j))), nft.One(nft.U32(uint32(j<<16 + i))), nft.One(nft.U8(6)), nft.One(nft.U16(443))},
				Data: []nft.Value{nft.U32(uint32(j))}, Comment: "some-rule",
			})
		}
		t.Sets = append(t.Sets, exact, ranges)
		t.Chains = append(t.Chains, nft.Chain{Name: name, Rules: []nft.Rule{
			{Stmts: []nft.Stmt{nft.SetMark{}}},
			{Stmts: []nft.Stmt{nft.MarkFromMap{Fields: []nft.Field{nft.L4Proto, nft.ThDport}, Map: ranges.Name}}},
			{Stmts: []nft.Stmt{nft.MarkFromMap{Fields: []nft.Field{nft.IPSaddr, nft.IPDaddr, nft.L4Proto, nft.ThDport}, Map: exact.Name}}},
			{Stmts: []nft.Stmt{nft.Match{Field: nft.MetaMark, Op: nft.Ne, Value: nft.U32(0)}, nft.SaveMark{}, nft.Verdict{Code: nft.Accept}}},
			{Stmts: []nft.Stmt{nft.Count{Name: name}, nft.Limit{Rate: 50, Burst: 100}, nft.Log{Prefix: name, Group: 1}}},
			{Stmts: []nft.Stmt{nft.Verdict{Code: nft.Drop}}},
		}})
	}
	t.Sets = append(t.Sets, dispatch)
	t.Chains = append(t.Chains, nft.Chain{
		Name: "forward", Hook: &nft.Hook{Type: "filter", Hook: "forward", Drop: true},
		Rules: []nft.Rule{{Stmts: []nft.Stmt{nft.Dispatch{Fields: []nft.Field{nft.IIFName, nft.OIFName}, Map: "pairs"}}}},
	})
	return t
}

// TestBigTables loads more than fits one netlink attribute, one socket buffer of the
// default size, or one buffer of acknowledgements.
func TestBigTables(t *testing.T) {
	linear := &nft.Table{Name: "bulkhead", Chains: []nft.Chain{{Name: "many"}}}
	for i := range 5000 {
		linear.Chains[0].Rules = append(linear.Chains[0].Rules, nft.Rule{
			Stmts:   []nft.Stmt{nft.Match{Field: nft.IPSaddr, Value: nft.U32(uint32(i))}, nft.Verdict{Code: nft.Accept}},
			Comment: fmt.Sprintf("rule number %d", i),
		})
	}
	// The kernel moves elements to a larger hash table when it is three quarters full, and
	// meanwhile lists them incompletely.
	growing := &nft.Table{Name: "bulkhead", Sets: []nft.Set{{Name: "addrs", Key: []nft.Type{nft.IPv4Addr}}}}
	for i := range 32768*3/4 + 24 {
		growing.Sets[0].Elements = append(growing.Sets[0].Elements, nft.Element{Key: []nft.Range{nft.One(nft.U32(uint32(7 * i)))}})
	}
	for _, tt := range []struct {
		name    string
		table   *nft.Table
		reloads int
	}{
		{"5000 rules", linear, 1},
		{"one pair with 50000 elements", pairs(1, 50000), 1},
		{"400 pairs with 50000 elements", pairs(400, 50000), 1},
		{"a hash table that grows last", growing, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns := nstest.New(t)
			r := openRulesets(t, ns)
			first := mustLoad(t, r, tt.table)
			for range tt.reloads {
				if again := mustLoad(t, r, tt.table); again != first {
					t.Errorf("loaded %+v at first and then %+v", first, again)
				}
				if digest, foreign := observe(t, openRulesets(t, ns), first); digest != first.TextDigest || foreign {
					t.Errorf("another process sees digest %q, foreign %t", digest, foreign)
				}
			}
		})
	}
}

func BenchmarkLoad5000(b *testing.B) {
	r := openRulesets(b, nstest.New(b))
	table := pairs(400, 5000)
	for b.Loop() {
		mustLoad(b, r, table)
	}
}

// BenchmarkObserve reads the table anew each time, as after a change of any ruleset.
func BenchmarkObserve(b *testing.B) {
	r := openRulesets(b, nstest.New(b))
	loaded := mustLoad(b, r, pairs(400, 5000))
	for b.Loop() {
		r.seen = false
		if _, err := r.Observe(loaded); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkObserveUnchanged is what most looks are.
func BenchmarkObserveUnchanged(b *testing.B) {
	r := openRulesets(b, nstest.New(b))
	loaded := mustLoad(b, r, pairs(400, 5000))
	for b.Loop() {
		if _, err := r.Observe(loaded); err != nil {
			b.Fatal(err)
		}
	}
}
