//go:build linux

package track_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/flow/capture"
	"bulkhead/services/flow/record"
	"bulkhead/services/flow/track"
)

var (
	noon   = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	tvMAC  = model.MAC{0x52, 0x54, 0, 0x40, 0, 0x12}
	lamp   = model.MAC{2, 0, 0, 0, 0, 7}
	server = netip.MustParseAddr("203.0.113.9")
	uplink = netip.MustParseAddr("198.51.100.2")
	conf   = svcconf.Flow{
		Zones: []svcconf.FlowZone{
			{Zone: "iot", Link: "trunk.40", Subnet: netip.MustParsePrefix("192.168.40.0/24"), Address: netip.MustParseAddr("192.168.40.1")},
			{Zone: "services", Link: "trunk.20", Subnet: netip.MustParsePrefix("192.168.20.0/24"), Address: netip.MustParseAddr("192.168.20.1")},
			{Zone: "guest", Link: "trunk.50", Subnet: netip.MustParsePrefix("192.168.50.0/24"), Address: netip.MustParseAddr("192.168.50.1"), Record: model.RecordNoNames},
			{Zone: "quiet", Link: "trunk.60", Subnet: netip.MustParsePrefix("192.168.60.0/24"), Address: netip.MustParseAddr("192.168.60.1"), Record: model.RecordCounts},
			{Zone: "dark", Link: "trunk.70", Subnet: netip.MustParsePrefix("192.168.70.0/24"), Address: netip.MustParseAddr("192.168.70.1"), Record: model.RecordOff},
		},
		Uplink:  svcconf.FlowUplink{Link: "wan", Address: uplink},
		Devices: []svcconf.FlowDevice{{Name: "tv", Zone: "iot", MAC: tvMAC, Address: netip.MustParseAddr("192.168.40.100")}, {Name: "cloud", Zone: "services", Address: netip.MustParseAddr("192.168.20.11")}},
		Rules:   []svcconf.FlowRule{{Mark: 100, Name: "browsing"}, {Mark: 200, Name: "vpn"}, {Mark: 1<<28 | 300, Name: "no-smb"}},
		Reasons: []svcconf.FlowRule{{Mark: 0, Name: "policy"}, {Mark: 1<<28 | 1, Name: "spoofed"}},
	}
	addrs = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})
)

func tracker() *track.Tracker {
	t := track.New(noon, func(a netip.Addr) model.MAC {
		if a == netip.MustParseAddr("192.168.40.77") {
			return lamp
		}
		return model.MAC{}
	})
	t.Configure(conf)
	return t
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// conn makes a connection: who to whom, and how the answers come back.
func conn(src, dst, back, to string, id uint32) *capture.Conn {
	return &capture.Conn{
		Orig: capture.Tuple{Src: ap(src), Dst: ap(dst), Proto: model.ProtoTCP}, Reply: capture.Tuple{Src: ap(back), Dst: ap(to), Proto: model.ProtoTCP},
		ID: id, Mark: 100, TCP: capture.TCPTimeWait, Out: record.Count{Packets: 5, Bytes: 500}, In: record.Count{Packets: 7, Bytes: 7000},
		Start: noon, Stop: noon.Add(90 * time.Second),
	}
}

// out is a connection of the television's to the internet, through NAT.
func out(id uint32) *capture.Conn {
	return conn(fmt.Sprintf("192.168.40.100:%d", 40000+id), "203.0.113.9:443", "203.0.113.9:443", fmt.Sprintf("198.51.100.2:%d", 40000+id), id)
}

func TestConnectionBecomesARecord(t *testing.T) {
	tr := tracker()
	tr.Named(netip.MustParseAddr("192.168.40.100"), server, "films.example", noon.Add(-time.Minute))
	tr.Named(netip.MustParseAddr("192.168.40.101"), server, "other.example", noon)
	c := out(1)
	begun := *c
	begun.Start, begun.Stop, begun.Out, begun.In = time.Time{}, time.Time{}, record.Count{}, record.Count{}
	tr.Begin(&begun, noon.Add(time.Millisecond))
	tr.Named(netip.MustParseAddr("192.168.40.100"), server, "later.example", noon.Add(time.Second))
	tr.End(c, noon.Add(91*time.Second))
	forwarded := conn("203.0.113.77:5000", "198.51.100.2:51999", "192.168.20.11:51999", "203.0.113.77:5000", 2)
	forwarded.Mark, forwarded.TCP = 200, capture.TCPClose
	tr.End(forwarded, noon.Add(2*time.Minute))
	want := []record.Record{
		{
			Start: noon, End: noon.Add(90 * time.Second), Began: noon,
			Src:    record.Side{Zone: "iot", Device: "tv", MAC: tvMAC, Addr: netip.MustParseAddr("192.168.40.100"), Port: 40001},
			Dst:    record.Side{Zone: model.Internet, Addr: server, Port: 443},
			NATSrc: ap("198.51.100.2:40001"), Proto: model.ProtoTCP, Out: c.Out, In: c.In, Verdict: record.Allowed, Rule: "browsing", Ended: record.Finished,
			Name: "films.example", App: "https",
		},
		{
			Start: noon, End: noon.Add(90 * time.Second), Began: noon,
			Src:    record.Side{Zone: model.Internet, Addr: netip.MustParseAddr("203.0.113.77"), Port: 5000},
			Dst:    record.Side{Zone: "services", Device: "cloud", Addr: netip.MustParseAddr("192.168.20.11"), Port: 51999},
			NATDst: ap("198.51.100.2:51999"), Proto: model.ProtoTCP, Out: c.Out, In: c.In, Verdict: record.Allowed, Rule: "vpn", Ended: record.Reset,
		},
	}
	if diff := cmp.Diff(want, tr.Take(noon), addrs); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if tr.Take(noon) != nil {
		t.Error("records are taken twice")
	}
}

// dnsd tells of its answers in batches: the client is faster.
func TestNameThatComesAMomentLateIsTheConnections(t *testing.T) {
	tr := tracker()
	client := netip.MustParseAddr("192.168.40.100")
	tr.Named(client, server, "before.example", noon.Add(-time.Hour))
	for i := range 3 {
		c := out(uint32(i + 1))
		c.Start = noon.Add(time.Duration(i) * time.Minute)
		c.Stop = c.Start.Add(30 * time.Second)
		tr.Begin(c, c.Start)
		if i > 0 { // the last ends before anything else happens
			tr.Named(client, server, fmt.Sprintf("films-%d.example", i), c.Start.Add(100*time.Millisecond))
		}
		if i < 2 {
			tr.Named(client, server, "later.example", c.Start.Add(time.Second))
			tr.End(c, c.Stop)
		} else {
			tr.End(c, c.Start.Add(200*time.Millisecond))
		}
	}
	var got []string
	for _, r := range tr.Take(noon.Add(time.Hour)) {
		got = append(got, r.Name)
	}
	if diff := cmp.Diff([]string{"before.example", "films-1.example", "films-2.example"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestZonesKeepToThemselvesWhatTheyWant(t *testing.T) {
	tr := tracker()
	for i, src := range []string{"192.168.50.9:1", "192.168.60.9:1", "192.168.60.10:1", "192.168.70.9:1"} {
		tr.Named(ap(src).Addr(), server, "secret.example", noon)
		c := conn(src, "203.0.113.9:443", "203.0.113.9:443", "198.51.100.2:1", uint32(i))
		tr.Begin(c, noon)
		tr.End(c, noon)
	}
	got := tr.Take(noon)
	if len(got) != 1 || got[0].Src.Zone != "guest" || got[0].Name != "" || !got[0].Src.MAC.IsZero() || !got[0].Src.Addr.IsValid() {
		t.Errorf("at once: %+v", got)
	}
	got = tr.Take(noon.Add(time.Hour))
	want := []record.Record{{
		Start: noon, End: noon.Add(time.Hour), Began: noon, Src: record.Side{Zone: "quiet"}, Dst: record.Side{Zone: model.Internet},
		Out: record.Count{Packets: 10, Bytes: 1000}, In: record.Count{Packets: 14, Bytes: 14000}, Verdict: record.Allowed, Rule: "browsing",
	}}
	if diff := cmp.Diff(want, got, addrs); diff != "" {
		t.Errorf("after an hour (-want +got)\n%s", diff)
	}
	c := conn("192.168.60.9:2", "203.0.113.9:443", "203.0.113.9:443", "198.51.100.2:1", 9)
	tr.End(c, noon)
	tr.Sum(noon.Add(90 * time.Minute)) // a process that is about to end
	if got := tr.Take(noon.Add(90 * time.Minute)); len(got) != 1 || got[0].Start != noon.Add(time.Hour) || got[0].Out.Packets != 5 {
		t.Errorf("at the end: %+v", got)
	}
}

// However a connection is seen, and whenever the process that sees it begins anew, its
// records add up to what passed, and no moment of it is in two of them.
func TestPartsAddUp(t *testing.T) {
	g := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		tr := tracker()
		var all []record.Record
		c := out(uint32(round))
		c.Out, c.In = record.Count{}, record.Count{}
		now := noon
		tr.Begin(c, now)
		ended := false
		for range g.IntN(400) {
			if ended {
				break
			}
			now = now.Add(time.Duration(g.IntN(30)) * time.Minute)
			c.Out.Add(record.Count{Packets: uint64(g.IntN(9)), Bytes: uint64(g.IntN(9000))})
			c.In.Add(record.Count{Packets: uint64(g.IntN(9)), Bytes: uint64(g.IntN(9000))})
			if tr.Due(now) {
				tr.Cut(c, now)
			}
			all = append(all, tr.Take(now)...)
			if g.IntN(40) == 0 { // another process
				tr = tracker()
				tr.Recall()
				tr.Begin(c, now)
				if ended = g.IntN(4) == 0; ended { // meanwhile
					c.Stop = now
					tr.End(c, now)
				}
				for i := range all {
					tr.Recorded(&all[i])
				}
				tr.Recalled()
			}
		}
		if !ended {
			c.Stop = now
			tr.End(c, now)
		}
		all = append(all, tr.Take(now)...)
		var sent, got record.Count
		at := noon
		for i, r := range all {
			sent.Add(r.Out)
			got.Add(r.In)
			if !r.Start.Equal(at) || !r.Began.Equal(noon) || (r.Ended == record.Continues) != (i < len(all)-1) {
				t.Fatalf("round %d: part %d of %d is %+v, want a start at %s", round, i, len(all), r, at)
			}
			if i < len(all)-1 && r.End.Sub(r.Start) < time.Hour {
				t.Fatalf("round %d: a part of %s", round, r.End.Sub(r.Start))
			}
			at = r.End
		}
		if sent != c.Out || got != c.In || !at.Equal(now) {
			t.Fatalf("round %d: %+v and %+v, want %+v and %+v", round, sent, got, c.Out, c.In)
		}
	}
}

func TestLostEventsAreNoticed(t *testing.T) {
	tr := tracker()
	a, b, c := out(1), out(2), out(3)
	for _, x := range []*capture.Conn{a, b} {
		tr.Begin(x, noon)
	}
	// The end of a and the beginning of c were lost; b ends while the table is looked at.
	tr.Resync()
	tr.Begin(b, noon)
	tr.Begin(c, noon)
	tr.End(b, noon)
	tr.Resynced(noon.Add(time.Minute))
	tr.End(c, noon)
	ends := map[uint16]record.End{}
	for _, r := range tr.Take(noon) {
		if _, twice := ends[r.Src.Port]; twice {
			t.Errorf("port %d is recorded twice", r.Src.Port)
		}
		ends[r.Src.Port] = r.Ended
	}
	want := map[uint16]record.End{40001: record.Lost, 40002: record.Finished, 40003: record.Finished}
	if diff := cmp.Diff(want, ends); diff != "" || tr.Stats.Vanished != 1 || tr.Stats.Resyncs != 1 {
		t.Errorf("%+v (-want +got)\n%s", tr.Stats, diff)
	}
}

// An end that waits for what was recorded before is not lost when events are.
func TestHeldEndIsNotLostWithOthers(t *testing.T) {
	tr := tracker()
	tr.Recall()
	c := out(1)
	tr.Begin(c, noon)
	tr.End(c, noon.Add(track.Part))
	tr.Resync()
	tr.Resynced(noon.Add(track.Part))
	tr.Recalled()
	got := tr.Take(noon.Add(track.Part))
	if len(got) != 1 || got[0].Ended != record.Finished || tr.Stats.Vanished != 0 {
		t.Errorf("%d records, %d vanished: %+v", len(got), tr.Stats.Vanished, got)
	}
}

func TestRefusalsAreCountedExactly(t *testing.T) {
	tr := tracker()
	tr.Saw(capture.Packet{Party: "iot", MAC: lamp, Src: netip.MustParseAddr("192.168.40.100"), Dst: server, Proto: 6, Port: 25}, noon)
	refusal := func(dst string, port uint16, mark uint32, n uint64) capture.Refusal {
		return capture.Refusal{
			Party: "iot", Src: netip.MustParseAddr("192.168.40.100"), Dst: netip.MustParseAddr(dst), Proto: 6, Port: port, Mark: mark,
			Count: record.Count{Packets: n, Bytes: 60 * n},
		}
	}
	packets := func(n uint64) record.Count { return record.Count{Packets: n, Bytes: 60 * n} }
	first := map[string]record.Count{"iot_internet": packets(1000), "iot_services": packets(5), "iot.spoofed": packets(1), "nowhere": packets(1)}
	tr.Refused([]capture.Refusal{refusal("203.0.113.9", 25, 0, 4)}, first, noon, noon.Add(time.Minute))
	second := map[string]record.Count{"iot_internet": packets(1100), "iot_services": packets(8), "iot.spoofed": packets(3), "nowhere": packets(2)}
	tr.Refused([]capture.Refusal{
		refusal("203.0.113.9", 25, 0, 60), refusal("192.168.20.11", 445, 1<<28|300, 3), refusal("203.0.113.9", 80, 1<<28|1, 2),
	}, second, noon.Add(time.Minute), noon.Add(2*time.Minute))
	var got []string
	for _, r := range tr.Take(noon) {
		got = append(got, fmt.Sprintf("%s %s>%s %s %s %s %s %d", r.Start.Format("15:04"), r.Src.Zone, r.Dst.Zone, r.Dst.Addr, r.Rule, r.Reason, r.Src.MAC, r.Out.Packets))
		if r.Verdict != record.Refused || r.Out.Bytes != 60*r.Out.Packets {
			t.Errorf("got %+v", r)
		}
	}
	slices.Sort(got)
	want := []string{
		"12:00 iot>internet 203.0.113.9  policy 02:00:00:00:00:07 4",
		"12:01 > invalid IP  nowhere 00:00:00:00:00:00 1",
		"12:01 iot>internet 203.0.113.9  policy 02:00:00:00:00:07 60",
		"12:01 iot>internet 203.0.113.9  spoofed 02:00:00:00:00:07 2",
		"12:01 iot>internet invalid IP   00:00:00:00:00:00 40",
		"12:01 iot>services 192.168.20.11 no-smb  02:00:00:00:00:07 3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if tr.Stats.Refused != 110 {
		t.Errorf("%d packets in all, want 110", tr.Stats.Refused)
	}
}

// A rule that is gone keeps its name in the records of its connections.
func TestMarksKeepTheirNames(t *testing.T) {
	tr := tracker()
	c := conf
	c.Rules = nil
	tr.Configure(c)
	other := track.New(noon, nil)
	other.Configure(c)
	other.Remember(tr.Marks())
	other.End(out(1), noon)
	if got := other.Take(noon); len(got) != 1 || got[0].Rule != "browsing" {
		t.Errorf("got %+v", got)
	}
}

func TestTrackerIsBounded(t *testing.T) {
	tr := tracker()
	client := netip.MustParseAddr("192.168.40.100")
	for i := range 300_000 {
		a := netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
		tr.Named(client, a, "films.example", noon)
		tr.Begin(&capture.Conn{
			Orig:  capture.Tuple{Src: netip.AddrPortFrom(client, uint16(i)), Dst: netip.AddrPortFrom(a, 443), Proto: 6},
			Reply: capture.Tuple{Src: netip.AddrPortFrom(a, 443), Dst: netip.AddrPortFrom(client, uint16(i)), Proto: 6}, ID: uint32(i), Mark: 100,
		}, noon)
		tr.Saw(capture.Packet{Party: "iot", MAC: lamp, Src: a, Dst: server}, noon)
	}
	tr.Take(noon)
	if tr.Stats.Open != 1<<18 || tr.Stats.Crowded != 300_000-1<<18 {
		t.Errorf("got %+v", tr.Stats)
	}
}

// Machines that one socket speaks to in the same moment are several connections, of which
// each has parts of its own.
func TestPartsAreThoseOfOneConnection(t *testing.T) {
	open := func(tr *track.Tracker) (list []*capture.Conn) {
		for i, dst := range []string{"203.0.113.9:53", "203.0.113.10:53", "203.0.113.9:54"} {
			c := conn("192.168.20.9:1000", dst, dst, "198.51.100.2:1000", uint32(i+1))
			c.Orig.Proto, c.Reply.Proto, c.Start = model.ProtoUDP, model.ProtoUDP, noon
			tr.Begin(c, noon)
			list = append(list, c)
		}
		return list
	}
	tr := tracker()
	for _, c := range open(tr) {
		tr.Cut(c, noon.Add(track.Part))
	}
	parts := tr.Take(noon.Add(track.Part))
	tr = tracker()
	tr.Recall()
	list := open(tr)
	for i := range parts {
		tr.Recorded(&parts[i])
	}
	tr.Recalled()
	for _, c := range list {
		c.Out.Add(record.Count{Packets: 1, Bytes: 100})
		tr.End(c, noon.Add(2*track.Part))
	}
	rest := tr.Take(noon.Add(2 * track.Part))
	if len(parts) != 3 || len(rest) != 3 {
		t.Fatalf("%d parts and %d ends", len(parts), len(rest))
	}
	for _, r := range rest {
		if r.Out != (record.Count{Packets: 1, Bytes: 100}) || !r.Start.Equal(noon.Add(track.Part)) {
			t.Errorf("to %s: %+v from %s", r.Dst.Addr, r.Out, r.Start)
		}
	}
}

// Parts are found however many connections are open.
func BenchmarkRecorded(b *testing.B) {
	tr := tracker()
	var parts []record.Record
	for i := range 50_000 {
		c := conn(fmt.Sprintf("192.168.20.%d:%d", 1+i/1000, 1000+i%1000), "203.0.113.9:443", "203.0.113.9:443", "198.51.100.2:1", uint32(i))
		c.Start = noon
		tr.Begin(c, noon)
		tr.Cut(c, noon.Add(track.Part))
		parts = append(parts, tr.Take(noon)...)
	}
	tr.Recall()
	b.ReportAllocs()
	for i := range b.N {
		tr.Recorded(&parts[i%len(parts)])
	}
}

func BenchmarkConnection(b *testing.B) {
	tr := tracker()
	b.ReportAllocs()
	for i := range b.N {
		c := out(uint32(i) % 20000)
		tr.Begin(c, noon)
		tr.End(c, noon)
		if i%1000 == 999 {
			tr.Take(noon)
		}
	}
}
