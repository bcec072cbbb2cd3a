//go:build linux

package capture_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/compile"
	"bulkhead/netcfg/conf"
	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/policy"
	"bulkhead/services/flow/capture"
	"bulkhead/services/flow/record"
)

const office = `system: {name: gw}
ports:
  desk: {mac: "52:54:00:10:00:01"}
  store: {mac: "52:54:00:10:00:02"}
zones:
  desk: {port: desk, subnet: 192.168.10.0/24, admin: true}
  store: {port: store, subnet: 192.168.20.0/24}
allow:
  - {name: files, from: desk, to: store, protocols: [tcp/2049], why: files}
block:
  - {name: no-printing, from: desk, to: store, protocols: [tcp/9100, udp/9100], why: paper}
`

// box is a gateway with the compiled rules of the office, and a machine on its desk.
type box struct {
	ns, desk int
	rulesets *apply.Rulesets
	compiled *compile.Result
	blocked  uint32 // mark of what is not to be printed
	reader   *capture.Ruleset
}

func newBox(t *testing.T) *box {
	t.Helper()
	b := &box{ns: nstest.New(t), desk: nstest.New(t)}
	for _, l := range []struct{ link, ours string }{{"desk", "192.168.10.1"}, {"store", "192.168.20.1"}} {
		far := b.desk
		if l.link == "store" {
			far = nstest.New(t)
		}
		nstest.Veth(t, b.ns, l.link, far, "eth0")
		nstest.Exec(t, b.ns, "ip", "addr", "add", l.ours+"/24", "dev", l.link)
	}
	nstest.Exec(t, b.desk, "ip", "addr", "add", "192.168.10.5/24", "dev", "eth0")
	nstest.Exec(t, b.desk, "ip", "route", "add", "default", "via", "192.168.10.1")
	nstest.Exec(t, b.ns, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	cfg, problems := conf.Parse("office.yaml", []byte(office), now)
	if cfg == nil {
		t.Fatal(problems.Err())
	}
	b.compiled = compile.Compile(cfg, facts.Facts{
		Now: now, Provided: []facts.Provided{{Port: "desk", Link: "desk"}, {Port: "store", Link: "store"}},
	})
	for _, r := range b.compiled.Policy.Rules {
		if r.Name == "no-printing" {
			b.blocked = r.Mark()
		}
	}
	var err error
	if b.rulesets, err = apply.OpenRulesets(b.ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.rulesets.Close() })
	b.load(t)
	if b.reader, err = capture.OpenRuleset(b.ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.reader.Close() })
	return b
}

func (b *box) load(t *testing.T) {
	t.Helper()
	if _, err := b.rulesets.Load(b.compiled.State.Ruleset.Table); err != nil {
		t.Fatal(err)
	}
}

// send sends packets from the desk, all of them through the gateway's rules when it
// returns: veth hands packets on within the call.
func (b *box) send(t *testing.T, packets ...packet) {
	t.Helper()
	nstest.Run(t, b.desk, func() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		for _, p := range packets {
			if err := unix.Sendto(fd, p.bytes(), 0, &unix.SockaddrInet4{Addr: p.dst.As4()}); err != nil {
				t.Errorf("send %+v: %v", p, err)
				return
			}
		}
	})
}

// refusals returns what was refused and not yet taken.
func (b *box) refusals(t *testing.T) []capture.Refusal {
	t.Helper()
	list, err := b.reader.Refusals()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

type packet struct {
	src, dst netip.Addr
	proto    uint8
	port     uint16 // or ICMP type
}

var alice = netip.MustParseAddr("192.168.10.5")

func to(dst string, proto uint8, port uint16) packet {
	return packet{alice, netip.MustParseAddr(dst), proto, port}
}

// length is that of all packets here: header, and 20 bytes more.
const length = 40

func (p packet) bytes() []byte {
	b := make([]byte, length)
	b[0], b[8], b[9] = 0x45, 64, p.proto
	binary.BigEndian.PutUint16(b[2:], length)
	copy(b[12:], p.src.AsSlice())
	copy(b[16:], p.dst.AsSlice())
	binary.BigEndian.PutUint16(b[10:], checksum(b[:20]))
	rest := b[20:]
	pseudo := append(slices.Clone(b[12:20]), 0, p.proto, 0, length-20)
	switch p.proto {
	case model.ProtoICMP:
		rest[0] = uint8(p.port)
		binary.BigEndian.PutUint16(rest[2:], checksum(rest))
	case model.ProtoTCP:
		const syn = 2
		binary.BigEndian.PutUint16(rest, 40000)
		binary.BigEndian.PutUint16(rest[2:], p.port)
		rest[12], rest[13] = 5<<4, syn
		binary.BigEndian.PutUint16(rest[16:], checksum(append(pseudo, rest...)))
	case model.ProtoUDP:
		binary.BigEndian.PutUint16(rest, 40000)
		binary.BigEndian.PutUint16(rest[2:], p.port)
		binary.BigEndian.PutUint16(rest[4:], length-20) // and no checksum: RFC 768
	}
	return b
}

// checksum is RFC 1071's.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// unordered compares lists of refusals.
var unordered = []cmp.Option{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmpopts.SortSlices(func(a, b capture.Refusal) bool { return fmt.Sprint(a) < fmt.Sprint(b) }),
}

// TestRefusalsAreCountedOneByOne sends packets of every kind in random order, with a
// reload of the rules and a look in between, and expects each to be found once.
func TestRefusalsAreCountedOneByOne(t *testing.T) {
	b := newBox(t)
	const gre, store, box, elsewhere = 47, "192.168.20.9", "192.168.10.1", "192.168.20.1"
	strange := packet{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr(store), model.ProtoUDP, 53}
	kinds := []struct {
		packet
		mark uint32
		n    int
	}{
		{to(store, model.ProtoTCP, 22), policy.NotAllowed.Mark(), 17},
		{to(store, model.ProtoTCP, 23), policy.NotAllowed.Mark(), 1},
		{to("192.168.20.10", model.ProtoTCP, 22), policy.NotAllowed.Mark(), 2},
		{to(store, model.ProtoTCP, 9100), b.blocked, 5},
		{to(store, model.ProtoUDP, 9100), b.blocked, 6},
		{to(store, model.ProtoUDP, 22), policy.NotAllowed.Mark(), 400}, // more than are logged
		{to(store, model.ProtoICMP, 8), policy.NotAllowed.Mark(), 3},
		{to(store, model.ProtoICMP, 13), policy.NotAllowed.Mark(), 4},
		{to(store, gre, 0), policy.NotAllowed.Mark(), 8},
		{to(store, 253, 0), policy.NotAllowed.Mark(), 9},
		{to(box, model.ProtoTCP, 22), policy.NotAllowed.Mark(), 2},
		{to(elsewhere, model.ProtoUDP, 53), policy.Elsewhere.Mark(), 3},
		{strange, policy.Spoofed.Mark(), 2},
	}
	var packets []packet
	var want []capture.Refusal
	for _, k := range kinds {
		packets = append(packets, slices.Repeat([]packet{k.packet}, k.n)...)
		want = append(want, capture.Refusal{
			Party: "desk", Src: k.src, Dst: k.dst, Proto: k.proto, Port: k.port, Mark: k.mark,
			Count: record.Count{Packets: uint64(k.n), Bytes: uint64(k.n) * length},
		})
	}
	rand.Shuffle(len(packets), func(i, j int) { packets[i], packets[j] = packets[j], packets[i] })

	third := len(packets) / 3
	b.send(t, packets[:third]...)
	b.load(t)
	b.send(t, packets[third:2*third]...)
	got := b.refusals(t)
	b.send(t, packets[2*third:]...)
	b.send(t, to(store, model.ProtoTCP, 2049)) // allowed
	got = sum(append(got, b.refusals(t)...))

	if diff := cmp.Diff(want, got, unordered...); diff != "" {
		t.Errorf("refusals (-sent +counted):\n%s", diff)
	}
	if again := b.refusals(t); len(again) > 0 {
		t.Errorf("counts were not taken: %v", again)
	}
	counters, err := b.reader.Counters()
	if err != nil {
		t.Fatal(err)
	}
	counted := counters["desk_store"].Packets + counters["desk_box"].Packets + counters["desk.spoofed"].Packets
	if got, want := counted, uint64(len(packets)); got != want {
		t.Errorf("named counters have %d packets, want %d: %v", got, want, counters)
	}
}

// sum adds what was taken at several times.
func sum(list []capture.Refusal) []capture.Refusal {
	counts := make(map[capture.Refusal]record.Count)
	for _, r := range list {
		c := r.Count
		r.Count = record.Count{}
		c.Add(counts[r])
		counts[r] = c
	}
	var sums []capture.Refusal
	for r, c := range counts {
		r.Count = c
		sums = append(sums, r)
	}
	return sums
}

// TestNothingIsLostOrTwiceWhileItIsRead takes the counts and loads the rules again and
// again, while packets to many ports are refused. While the kernel takes new rules there
// is an instant in which it drops a packet and counts it nowhere; what the named counter
// has, the sets have.
func TestNothingIsLostOrTwiceWhileItIsRead(t *testing.T) {
	b := newBox(t)
	const ports, rounds = 2000, 30
	var round []packet
	for port := range uint16(ports) {
		round = append(round, to("192.168.20.9", model.ProtoUDP, 10_000+port))
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for range rounds {
			b.send(t, round...)
		}
	}()
	var got []capture.Refusal
	loads := uint64(0)
	for done := false; !done; {
		select {
		case <-sent:
			done = true
		default:
			b.load(t)
			loads++
		}
		got = sum(append(got, b.refusals(t)...))
	}
	if len(got) != ports {
		t.Errorf("got %d kinds of packets, want %d", len(got), ports)
	}
	var total record.Count
	for _, r := range got {
		total.Add(r.Count)
		if r.Packets > rounds {
			t.Errorf("%v was sent %d times", r, rounds)
		}
	}
	counters, err := b.reader.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if counted := counters["desk_store"]; total != counted || total.Packets+loads < ports*rounds {
		t.Errorf("the sets had %v, the counter %v; %d were sent, and rules loaded %d times", total, counted, ports*rounds, loads)
	}
}

// TestFullSetsHideNothing scans all ports of two machines, more than a party's set holds.
// What has no room is counted without its port, and the whole is exact.
func TestFullSetsHideNothing(t *testing.T) {
	b := newBox(t)
	var packets []packet
	for port := range uint16(10_000) {
		packets = append(packets, to("192.168.20.9", model.ProtoUDP, 10_000+port), to("192.168.20.10", model.ProtoUDP, 10_000+port))
	}
	b.send(t, packets...)
	list := b.refusals(t)
	perMachine := make(map[string]uint64)
	kept, portless := 0, uint64(0)
	for _, r := range list {
		perMachine[r.Dst.String()] += r.Packets
		if r.Port == 0 {
			portless += r.Packets
		} else if kept++; r.Packets != 1 {
			t.Errorf("%v was sent once", r)
		}
	}
	if diff := cmp.Diff(map[string]uint64{"192.168.20.9": 10_000, "192.168.20.10": 10_000}, perMachine); diff != "" {
		t.Errorf("packets per machine (-sent +counted):\n%s", diff)
	}
	if size := tableSize(b, "refused.desk"); kept != size || portless != uint64(len(packets)-size) {
		t.Errorf("%d ports were told apart and %d packets were not, want %d and the rest", kept, portless, size)
	}
	// The table is full and stays so for a while. Others still have room.
	b.send(t, to("192.168.20.9", model.ProtoICMP, 8), packets[0])
	if got := len(b.refusals(t)); got != 2 {
		t.Errorf("got %d refusals after the scan, want 2", got)
	}
}

func tableSize(b *box, set string) int {
	for _, s := range b.compiled.State.Ruleset.Table.Sets {
		if s.Name == set {
			return int(s.Dynamic.Size)
		}
	}
	return 0
}

// TestRefusalsOfIPv6AreNotMisread sends a packet of IPv6, whose bytes must not come out
// as IPv4 addresses.
func TestRefusalsOfIPv6AreNotMisread(t *testing.T) {
	b := newBox(t)
	nstest.Exec(t, b.desk, "ip", "-6", "addr", "add", "2001:db8::5/64", "dev", "eth0", "nodad")
	nstest.Exec(t, b.ns, "ip", "link", "set", "desk", "address", "52:54:00:10:00:01")
	nstest.Exec(t, b.desk, "ip", "-6", "neigh", "add", "2001:db8::1", "lladdr", "52:54:00:10:00:01", "dev", "eth0")
	nstest.Run(t, b.desk, func() {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(fd)
		a := &unix.SockaddrInet6{Port: 53, Addr: netip.MustParseAddr("2001:db8::1").As16()}
		if err := unix.Sendto(fd, []byte("x"), 0, a); err != nil {
			t.Error(err)
		}
	})
	counters, err := b.reader.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if counters["desk.ipv6"].Packets == 0 {
		t.Errorf("the packet was not counted: %v", counters)
	}
	if list := b.refusals(t); len(list) > 0 {
		t.Errorf("got refusals %v", list)
	}
}

// TestWithoutTableThereIsNothing reads before netcfgd has loaded anything.
func TestWithoutTableThereIsNothing(t *testing.T) {
	r, err := capture.OpenRuleset(nstest.New(t))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if list, err := r.Refusals(); err != nil || len(list) > 0 {
		t.Errorf("got refusals %v, %v", list, err)
	}
	if counters, err := r.Counters(); err != nil || len(counters) > 0 {
		t.Errorf("got counters %v, %v", counters, err)
	}
}
