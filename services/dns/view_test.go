package dns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
)

var (
	epoch    = time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	iotTV    = netip.MustParseAddr("192.168.40.12")
	outsider = netip.MustParseAddr("192.168.50.7")
)

// house is a configuration like the example's, and house leases to go with it.
func house() (svcconf.DNS, []svcconf.Lease) {
	zone := func(name, subnet string) svcconf.DNSZone {
		p := netip.MustParsePrefix(subnet)
		return svcconf.DNSZone{Zone: name, Link: name, Address: p.Addr().Next(), Subnet: p}
	}
	host := func(name, addr string) svcconf.Host {
		return svcconf.Host{Name: name, Address: netip.MustParseAddr(addr)}
	}
	lease := func(zone, addr, name string, age time.Duration) svcconf.Lease {
		return svcconf.Lease{
			Zone: zone, Address: netip.MustParseAddr(addr), MAC: model.MAC{2, 0, 0, 0, 0, 1},
			Hostname: name, Granted: epoch.Add(-age), Expires: epoch.Add(time.Hour),
		}
	}
	cfg := svcconf.DNS{
		Domain: "home.arpa", Name: "gw",
		Zones: []svcconf.DNSZone{
			zone("storage", "192.168.30.0/24"), zone("iot", "192.168.40.0/24"), zone("guest", "192.168.50.0/24"),
			zone("lab", "198.18.4.0/23"), zone("dmz", "203.0.114.64/26"),
		},
		Hosts: []svcconf.Host{host("nas", "192.168.30.10"), host("tv", "192.168.40.12")},
	}
	leases := []svcconf.Lease{
		lease("guest", "192.168.50.100", "laptop", time.Hour),
		lease("guest", "192.168.50.101", "laptop", 2*time.Hour), // the older one
		lease("guest", "192.168.50.102", "nas", time.Hour),      // not the NAS
		lease("guest", "192.168.50.103", "gw", time.Hour),
		lease("guest", "192.168.50.104", "wpad", time.Hour),
		lease("guest", "192.168.50.105", "bad_name", time.Hour),
		lease("guest", "192.168.50.106", "a.b", time.Hour),
		lease("guest", "192.168.50.107", "", time.Hour),
		lease("iot", "192.168.50.108", "elsewhere", time.Hour), // outside its zone
		lease("iot", "192.168.40.12", "samsung-tv", time.Hour), // the device's own
		lease("guest", "192.168.50.109", "brief", time.Hour),
		lease("guest", "192.168.50.110", "gone", time.Hour),
	}
	leases[10].Expires = epoch.Add(7 * time.Second)
	leases[11].Expires = epoch
	return cfg, leases
}

// viewOf is what the zone of that name sees.
func viewOf(t testing.TB, zone string) *view {
	t.Helper()
	cfg, leases := house()
	table, err := newTable(&cfg, leases, nil, epoch)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(cfg.Zones, func(z svcconf.DNSZone) bool { return z.Zone == zone })
	return newView(cfg.Zones[i], table)
}

func query(name string, qtype uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
}

func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// show writes a reply in one line: code, flags, then the records with single spaces.
func show(t testing.TB, reply []byte) string {
	t.Helper()
	if reply == nil {
		return "no reply"
	}
	var m dns.Msg
	if err := m.Unpack(reply); err != nil {
		t.Fatalf("cannot unpack reply: %v", err)
	}
	s := dns.RcodeToString[m.Rcode]
	for _, f := range []struct {
		set  bool
		name string
	}{{m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.AuthenticatedData, "ad"}} {
		if f.set {
			s += " " + f.name
		}
	}
	for i, section := range [][]dns.RR{m.Answer, m.Ns} {
		for _, rr := range section {
			s += []string{"; ", "; authority "}[i] + strings.Join(strings.Fields(rr.String()), " ")
		}
	}
	return s
}

const homeSOA = "authority home.arpa. 10 IN SOA gw.home.arpa. nobody.invalid. 1 3600 1200 604800 10"

func emptySOA(d string) string {
	return fmt.Sprintf("authority %s 10800 IN SOA %s nobody.invalid. 1 3600 1200 604800 10800", d, d)
}

func TestLocalNames(t *testing.T) {
	tests := []struct {
		zone, name string
		qtype      uint16
		want       string
	}{
		// devices and the box
		{"iot", "nas.home.arpa", dns.TypeA, "NOERROR aa; nas.home.arpa. 60 IN A 192.168.30.10"},
		{"guest", "nas.home.arpa", dns.TypeA, "NOERROR aa; nas.home.arpa. 60 IN A 192.168.30.10"},
		{"iot", "NaS.Home.ARPA", dns.TypeA, "NOERROR aa; NaS.Home.ARPA. 60 IN A 192.168.30.10"},
		{"iot", "nas.home.arpa", dns.TypeAAAA, "NOERROR aa; " + homeSOA},
		{"iot", "nas.home.arpa", dns.TypeHTTPS, "NOERROR aa; " + homeSOA},
		{"iot", "nas.home.arpa", dns.TypeANY, `NOERROR aa; nas.home.arpa. 60 IN HINFO "RFC8482" ""`},
		{"iot", "gw.home.arpa", dns.TypeA, "NOERROR aa; gw.home.arpa. 60 IN A 192.168.40.1"},
		{"guest", "gw.home.arpa", dns.TypeA, "NOERROR aa; gw.home.arpa. 60 IN A 192.168.50.1"},

		// what is not there
		{"iot", "nosuch.home.arpa", dns.TypeA, "NXDOMAIN aa; " + homeSOA},
		{"iot", "x.nas.home.arpa", dns.TypeA, "NXDOMAIN aa; " + homeSOA},
		{"iot", "nosuch.home.arpa", dns.TypeANY, "NXDOMAIN aa; " + homeSOA},
		{"iot", "home.arpa", dns.TypeA, "NOERROR aa; " + homeSOA},
		{"iot", "home.arpa", dns.TypeSOA, "NOERROR aa; " + strings.TrimPrefix(homeSOA, "authority ")},
		{"iot", "home.arpa", dns.TypeNS, "NOERROR aa; home.arpa. 10 IN NS gw.home.arpa."},
		{"iot", "home.arpa", dns.TypeDS, "forwarded"}, // RFC 8375
		{"iot", "nas.home.arpa", dns.TypeDS, "NOERROR aa; " + homeSOA},
		{"iot", "nothome.arpa", dns.TypeA, "forwarded"},

		// leases
		{"iot", "laptop.home.arpa", dns.TypeA, "NOERROR aa; laptop.home.arpa. 60 IN A 192.168.50.101"},
		{"iot", "brief.home.arpa", dns.TypeA, "NOERROR aa; brief.home.arpa. 7 IN A 192.168.50.109"},
		{"iot", "gone.home.arpa", dns.TypeA, "NXDOMAIN aa; " + homeSOA},
		{"iot", "wpad.home.arpa", dns.TypeA, "NXDOMAIN aa; " + homeSOA},
		{"iot", "bad_name.home.arpa", dns.TypeA, "NXDOMAIN aa; " + homeSOA},
		{"iot", "a.b.home.arpa", dns.TypeA, "NXDOMAIN aa; " + homeSOA},
		{"iot", "elsewhere.home.arpa", dns.TypeA, "NXDOMAIN aa; " + homeSOA},
		{"iot", "samsung-tv.home.arpa", dns.TypeA, "NOERROR aa; samsung-tv.home.arpa. 60 IN A 192.168.40.12"},

		// the way back
		{"iot", "10.30.168.192.in-addr.arpa", dns.TypePTR, "NOERROR aa; 10.30.168.192.in-addr.arpa. 60 IN PTR nas.home.arpa."},
		{"iot", "12.40.168.192.in-addr.arpa", dns.TypePTR, "NOERROR aa; 12.40.168.192.in-addr.arpa. 60 IN PTR tv.home.arpa."},
		{"iot", "1.50.168.192.in-addr.arpa", dns.TypePTR, "NOERROR aa; 1.50.168.192.in-addr.arpa. 60 IN PTR gw.home.arpa."},
		{"iot", "101.50.168.192.in-addr.arpa", dns.TypePTR, "NOERROR aa; 101.50.168.192.in-addr.arpa. 60 IN PTR laptop.home.arpa."},
		{"iot", "100.50.168.192.in-addr.arpa", dns.TypePTR, "NXDOMAIN aa; " + emptySOA("168.192.in-addr.arpa.")},
		{"iot", "103.50.168.192.in-addr.arpa", dns.TypePTR, "NXDOMAIN aa; " + emptySOA("168.192.in-addr.arpa.")},
		{"iot", "50.168.192.in-addr.arpa", dns.TypePTR, "NOERROR aa; " + emptySOA("168.192.in-addr.arpa.")}, // something is below it
		{"iot", "99.168.192.in-addr.arpa", dns.TypePTR, "NXDOMAIN aa; " + emptySOA("168.192.in-addr.arpa.")},

		// subnets that are no private ones
		{"lab", "1.4.18.198.in-addr.arpa", dns.TypePTR, "NOERROR aa; 1.4.18.198.in-addr.arpa. 60 IN PTR gw.home.arpa."},
		{"lab", "9.5.18.198.in-addr.arpa", dns.TypePTR, "NXDOMAIN aa; authority 5.18.198.in-addr.arpa. 10 IN SOA 5.18.198.in-addr.arpa. nobody.invalid. 1 3600 1200 604800 10"},
		{"lab", "9.6.18.198.in-addr.arpa", dns.TypePTR, "forwarded"},
		{"dmz", "127.114.0.203.in-addr.arpa", dns.TypePTR, "NXDOMAIN aa; authority 114.0.203.in-addr.arpa. 10 IN SOA 114.0.203.in-addr.arpa. nobody.invalid. 1 3600 1200 604800 10"},
		{"dmz", "128.114.0.203.in-addr.arpa", dns.TypePTR, "forwarded"},
	}
	for _, tt := range tests {
		t.Run(tt.zone+" "+tt.name+" "+dns.TypeToString[tt.qtype], func(t *testing.T) {
			v := viewOf(t, tt.zone)
			var q question
			reply, what := v.answer(nil, packed(t, query(tt.name, tt.qtype)), v.zone.Address.Next(), false, newCache(10, 1000), epoch, &q)
			got := "forwarded"
			if what != forward {
				got = show(t, reply)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("reply differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSpecialNamesStayHere(t *testing.T) {
	v := viewOf(t, "iot")
	tests := []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"localhost", dns.TypeA, "NOERROR aa; localhost. 60 IN A 127.0.0.1"},
		{"localhost", dns.TypeAAAA, "NOERROR aa; localhost. 60 IN AAAA ::1"},
		{"1.0.0.127.in-addr.arpa", dns.TypePTR, "NOERROR aa; 1.0.0.127.in-addr.arpa. 60 IN PTR localhost."},
		{"a.localhost", dns.TypeA, "NXDOMAIN aa; " + emptySOA("localhost.")},
		{"x.invalid", dns.TypeA, "NXDOMAIN aa; " + emptySOA("invalid.")},
		{"invalid", dns.TypeA, "NOERROR aa; " + emptySOA("invalid.")},
		{"abc.onion", dns.TypeA, "NXDOMAIN aa; " + emptySOA("onion.")},
		{"x.y.test", dns.TypeAAAA, "NXDOMAIN aa; " + emptySOA("test.")},
		{"printer.local", dns.TypeA, "NXDOMAIN aa; " + emptySOA("local.")},
		{"db.internal", dns.TypeA, "NXDOMAIN aa; " + emptySOA("internal.")},
		{"7.3.2.10.in-addr.arpa", dns.TypePTR, "NXDOMAIN aa; " + emptySOA("10.in-addr.arpa.")},
		{"1.1.31.172.in-addr.arpa", dns.TypePTR, "NXDOMAIN aa; " + emptySOA("31.172.in-addr.arpa.")},
		{"1.1.127.100.in-addr.arpa", dns.TypePTR, "NXDOMAIN aa; " + emptySOA("127.100.in-addr.arpa.")},
		{"1.254.169.in-addr.arpa", dns.TypePTR, "NXDOMAIN aa; " + emptySOA("254.169.in-addr.arpa.")},
		{"f.d.f.ip6.arpa", dns.TypePTR, "NXDOMAIN aa; " + emptySOA("d.f.ip6.arpa.")},
		{"1.0.b.e.f.ip6.arpa", dns.TypePTR, "NXDOMAIN aa; " + emptySOA("b.e.f.ip6.arpa.")},
		{"1.1.32.172.in-addr.arpa", dns.TypePTR, "forwarded"},
		{"1.1.128.100.in-addr.arpa", dns.TypePTR, "forwarded"},
		{"example.com", dns.TypeANY, `NOERROR; example.com. 10800 IN HINFO "RFC8482" ""`},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+dns.TypeToString[tt.qtype], func(t *testing.T) {
			var q question
			reply, what := v.answer(nil, packed(t, query(tt.name, tt.qtype)), iotTV, false, newCache(10, 1000), epoch, &q)
			got := "forwarded"
			if what != forward {
				got = show(t, reply)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("reply differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLocalDomainBelowSpecialOneIsOurs(t *testing.T) {
	cfg, _ := house()
	cfg.Domain = "lan.internal"
	table, err := newTable(&cfg, nil, nil, epoch)
	if err != nil {
		t.Fatal(err)
	}
	v := newView(cfg.Zones[1], table)
	for name, want := range map[string]string{
		"nas.lan.internal": "NOERROR aa; nas.lan.internal. 60 IN A 192.168.30.10",
		"x.internal":       "NXDOMAIN aa; " + emptySOA("internal."),
		"nas.home.arpa":    "NXDOMAIN aa; " + emptySOA("home.arpa."),
	} {
		var q question
		reply, _ := v.answer(nil, packed(t, query(name, dns.TypeA)), iotTV, false, newCache(10, 1000), epoch, &q)
		if got := show(t, reply); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestLeaseNameGoesWhenItExpires(t *testing.T) {
	v := viewOf(t, "iot")
	for after, want := range map[time.Duration]string{
		6 * time.Second: "NOERROR aa; brief.home.arpa. 1 IN A 192.168.50.109",
		7 * time.Second: "NXDOMAIN aa; " + homeSOA,
	} {
		var q question
		reply, _ := v.answer(nil, packed(t, query("brief.home.arpa", dns.TypeA)), iotTV, false, newCache(10, 1000), epoch.Add(after), &q)
		if got := show(t, reply); got != want {
			t.Errorf("after %v: got %q, want %q", after, got, want)
		}
	}
}

func TestRenewalKeepsTheNameAndAnInventoriedDeviceTakesIt(t *testing.T) {
	cfg, _ := house()
	lease := func(last byte, granted time.Duration, device string) svcconf.Lease {
		return svcconf.Lease{
			Zone: "guest", Address: netip.AddrFrom4([4]byte{192, 168, 50, last}), MAC: model.MAC{2, 0, 0, 0, 0, last},
			Hostname: "Phone", Device: device, Granted: epoch.Add(granted), Expires: epoch.Add(24 * time.Hour),
		}
	}
	var table *table
	for _, step := range []struct {
		what   string
		leases []svcconf.Lease
		want   string
	}{
		{"two of one name", []svcconf.Lease{lease(7, time.Minute, ""), lease(8, 0, "")}, "192.168.50.8"},
		{"the holder renews", []svcconf.Lease{lease(7, time.Minute, ""), lease(8, time.Hour, "")}, "192.168.50.8"},
		{"the holder leaves", []svcconf.Lease{lease(7, time.Minute, "")}, "192.168.50.7"},
		{"and comes back", []svcconf.Lease{lease(7, 2*time.Hour, ""), lease(8, time.Hour, "")}, "192.168.50.7"},
		{"a device of that name", []svcconf.Lease{lease(7, 2*time.Hour, ""), lease(9, 3*time.Hour, "kims-phone")}, "192.168.50.9"},
	} {
		var err error
		if table, err = newTable(&cfg, step.leases, table, epoch); err != nil {
			t.Fatal(err)
		}
		var q question
		v := newView(cfg.Zones[1], table)
		reply, _ := v.answer(nil, packed(t, query("phone.home.arpa", dns.TypeA)), iotTV, false, newCache(10, 1000), epoch, &q)
		if got, want := show(t, reply), "NOERROR aa; phone.home.arpa. 60 IN A "+step.want; got != want {
			t.Errorf("%s: got %q, want %q", step.what, got, want)
		}
	}
}

func TestQueriesThatAreRefused(t *testing.T) {
	edit := func(f func(*dns.Msg)) []byte {
		m := query("example.com", dns.TypeA)
		f(m)
		return packed(t, m)
	}
	bytesOf := func(f func([]byte) []byte) []byte { return f(packed(t, query("example.com", dns.TypeA))) }
	tests := []struct {
		name   string
		msg    []byte
		client netip.Addr
		want   string
	}{
		{"other zone", edit(func(*dns.Msg) {}), outsider, "REFUSED"},
		{"other zone, local name", packed(t, query("nas.home.arpa", dns.TypeA)), outsider, "REFUSED"},
		{"transfer", packed(t, query("home.arpa", dns.TypeAXFR)), iotTV, "REFUSED"},
		{"incremental transfer", packed(t, query("home.arpa", dns.TypeIXFR)), iotTV, "REFUSED"},
		{"version.bind", edit(func(m *dns.Msg) {
			m.Question[0] = dns.Question{Name: "version.bind.", Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}
		}), iotTV, "REFUSED"},
		{"any class", edit(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }), iotTV, "REFUSED"},
		{"type 0", edit(func(m *dns.Msg) { m.Question[0].Qtype = 0 }), iotTV, "REFUSED"},
		{"type OPT", edit(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeOPT }), iotTV, "REFUSED"},
		{"cache snooping", edit(func(m *dns.Msg) { m.RecursionDesired = false }), iotTV, "REFUSED"},

		{"notify", edit(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), iotTV, "NOTIMP"},
		{"update", edit(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), iotTV, "NOTIMP"},
		{"status", edit(func(m *dns.Msg) { m.Opcode = dns.OpcodeStatus }), iotTV, "NOTIMP"},

		{"a reply", edit(func(m *dns.Msg) { m.Response = true }), iotTV, "no reply"},
		{"nothing", nil, iotTV, "no reply"},
		{"half a header", make([]byte, 11), iotTV, "no reply"},
		{"no question", make([]byte, 12), iotTV, "FORMERR"},
		{"two questions", edit(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), iotTV, "FORMERR"},
		{"an answer in it", edit(func(m *dns.Msg) { m.Answer = []dns.RR{rr(t, "x. 1 IN A 192.0.2.1")} }), iotTV, "FORMERR"},
		{"cut short", bytesOf(func(b []byte) []byte { return b[:len(b)-1] }), iotTV, "FORMERR"},
		{"pointer in the question", bytesOf(func(b []byte) []byte {
			return append(b[:12:12], 0xc0, 12, 0, 1, 0, 1)
		}), iotTV, "FORMERR"},
		{"label type 01", bytesOf(func(b []byte) []byte { b[12] = 0x41; return b }), iotTV, "FORMERR"},
		{"name too long", append(make([]byte, 5, 300), append([]byte{1, 0, 0, 0, 0, 0, 0},
			append(slices.Repeat([]byte("\x3fxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"), 4), 0, 0, 1, 0, 1)...)...), iotTV, "FORMERR"},
		{"additional missing", bytesOf(func(b []byte) []byte { b[11] = 1; return b }), iotTV, "FORMERR"},
		{"two OPT records", edit(func(m *dns.Msg) { m.SetEdns0(1232, false); m.Extra = append(m.Extra, m.Extra[0]) }), iotTV, "FORMERR"},
		{"OPT not at the root", edit(func(m *dns.Msg) { m.SetEdns0(1232, false); m.Extra[0].Header().Name = "x." }), iotTV, "FORMERR"},
		{"EDNS version 1", edit(func(m *dns.Msg) { m.SetEdns0(1232, false).IsEdns0().SetVersion(1) }), iotTV, "BADVERS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := viewOf(t, "iot")
			var q question
			reply, _ := v.answer(nil, tt.msg, tt.client, false, newCache(10, 1000), epoch, &q)
			got := show(t, reply)
			if got == "BADSIG" { // miekg/dns's other name of code 16
				got = "BADVERS"
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if len(reply) > len(tt.msg)+optBytes {
				t.Errorf("%d bytes got a refusal of %d", len(tt.msg), len(reply))
			}
			if reply != nil && [2]byte(reply) != [2]byte(tt.msg) {
				t.Error("reply has another ID")
			}
		})
	}
}

func TestEDNSIsAnsweredInKind(t *testing.T) {
	v := viewOf(t, "iot")
	for _, edns := range []bool{false, true} {
		m := query("nas.home.arpa", dns.TypeA)
		if edns {
			m.SetEdns0(4096, true)
		}
		m.CheckingDisabled = true
		var q question
		reply, _ := v.answer(nil, packed(t, m), iotTV, false, newCache(10, 1000), epoch, &q)
		var got dns.Msg
		if err := got.Unpack(reply); err != nil {
			t.Fatal(err)
		}
		opt := got.IsEdns0()
		if (opt != nil) != edns {
			t.Fatalf("query with EDNS: %t, reply with EDNS: %t", edns, opt != nil)
		}
		if edns && (opt.UDPSize() != 1232 || !opt.Do() || opt.Version() != 0) {
			t.Errorf("got %v, want size 1232, DO, version 0", opt)
		}
		if !got.CheckingDisabled || !got.RecursionDesired || !got.RecursionAvailable {
			t.Errorf("got flags %v, want rd, ra, cd", got.MsgHdr)
		}
	}
}

// withCached is a cache that holds records as the answer to name's TXT question.
func withCached(t testing.TB, name string, records ...dns.RR) *cache {
	t.Helper()
	c := newCache(1000, 1<<20)
	var q question
	if q.parse(packed(t, query(name, dns.TypeTXT))) != dns.RcodeSuccess {
		t.Fatal("cannot parse query")
	}
	m := query(name, dns.TypeTXT)
	m.Response = true
	m.Answer = records
	e := newEntry(m, false, epoch)
	if e == nil {
		t.Fatal("reply is not kept")
	}
	c.put(q.cacheKey(), e)
	return c
}

func rr(t testing.TB, s string) dns.RR {
	t.Helper()
	r, err := dns.NewRR(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLongAnswersAreTruncatedToWhatTheClientTakes(t *testing.T) {
	v := viewOf(t, "iot")
	for _, tt := range []struct {
		records int // of 100 bytes of data each
		edns    uint16
		tcp     bool
		tc      bool
	}{
		{4, 0, false, false},
		{5, 0, false, true}, // 512 bytes without EDNS
		{5, 100, false, true},
		{5, 800, false, false},
		{10, 1232, false, false},
		{11, 1232, false, true},
		{11, 65535, false, true}, // never more than 1232
		{11, 0, true, false},
		{100, 0, true, false},
	} {
		var txt []dns.RR
		for i := range tt.records {
			txt = append(txt, rr(t, fmt.Sprintf(`big.example. 300 IN TXT "%099d"`, i)))
		}
		c := withCached(t, "big.example", txt...)
		m := query("Big.Example", dns.TypeTXT)
		if tt.edns != 0 {
			m.SetEdns0(tt.edns, false)
		}
		var q question
		reply, what := v.answer(nil, packed(t, m), iotTV, tt.tcp, c, epoch, &q)
		if what != cached {
			t.Fatalf("%+v: outcome %d, want cached", tt, what)
		}
		var got dns.Msg
		if err := got.Unpack(reply); err != nil {
			t.Fatal(err)
		}
		if got.Truncated != tt.tc {
			t.Errorf("%+v: TC is %t", tt, got.Truncated)
		}
		if !tt.tcp && len(reply) > min(max(int(tt.edns), 512), 1232) {
			t.Errorf("%+v: reply has %d bytes", tt, len(reply))
		}
		if want := tt.records; !tt.tc && len(got.Answer) != want || tt.tc && len(got.Answer) != 0 {
			t.Errorf("%+v: got %d records", tt, len(got.Answer))
		}
		if got.Question[0].Name != "Big.Example." {
			t.Errorf("%+v: question came back as %s", tt, got.Question[0].Name)
		}
	}
}

func TestCachedAnswersAgeAndTakeOnTheQuery(t *testing.T) {
	v := viewOf(t, "iot")
	c := withCached(t, "a.example", rr(t, `a.example. 300 IN CNAME b.net.`), rr(t, `b.net. 200 IN TXT "x"`))
	m := query("A.eXample", dns.TypeTXT)
	m.Id = 0xbeef
	var q question
	reply, _ := v.answer(nil, packed(t, m), iotTV, false, c, epoch.Add(199*time.Second+time.Millisecond), &q)
	want := `NOERROR; A.eXample. 101 IN CNAME b.net.; b.net. 1 IN TXT "x"`
	if got := show(t, reply); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if id := binary.BigEndian.Uint16(reply); id != 0xbeef {
		t.Errorf("got ID %#x", id)
	}
	if _, what := v.answer(nil, packed(t, m), iotTV, false, c, epoch.Add(200*time.Second), &q); what != forward {
		t.Errorf("after its life: outcome %d, want forward", what)
	}
}

func TestConfigurationsThatCannotBeMeant(t *testing.T) {
	for name, change := range map[string]func(*svcconf.DNS){
		"no domain":            func(c *svcconf.DNS) { c.Domain = "" },
		"empty label":          func(c *svcconf.DNS) { c.Domain = "a..b" },
		"long label":           func(c *svcconf.DNS) { c.Domain = strings.Repeat("a", 64) },
		"box name with dot":    func(c *svcconf.DNS) { c.Name = "a.b" },
		"host without address": func(c *svcconf.DNS) { c.Hosts[0].Address = netip.Addr{} },
		"host name with dot":   func(c *svcconf.DNS) { c.Hosts[0].Name = "a.b" },
	} {
		cfg, _ := house()
		change(&cfg)
		if _, err := newTable(&cfg, nil, nil, epoch); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, change := range map[string]func(*svcconf.DNS){
		"zone without address":   func(c *svcconf.DNS) { c.Zones[0].Address = netip.Addr{} },
		"address outside subnet": func(c *svcconf.DNS) { c.Zones[0].Address = outsider },
		"one address twice":      func(c *svcconf.DNS) { c.Zones[1] = c.Zones[0] },
	} {
		cfg, _ := house()
		change(&cfg)
		if check(&cfg) == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestBlockedDomainsDoNotExistForTheZone(t *testing.T) {
	cfg, leases := house()
	cfg.Zones[1].Block = []string{"tracking.example", "home.arpa"}
	table, err := newTable(&cfg, leases, nil, epoch)
	if err != nil {
		t.Fatal(err)
	}
	const soa = "NXDOMAIN aa; authority tracking.example. 10800 IN SOA tracking.example. nobody.invalid. 1 3600 1200 604800 10800"
	c := newCache(10, 1<<20)
	ask := func(v *view, name string, qtype uint16) string {
		var q question
		client := v.zone.Subnet.Addr().Next().Next()
		reply, what := v.answer(nil, packed(t, query(name, qtype)), client, false, c, epoch, &q)
		if what == forward {
			return "forward"
		}
		return show(t, reply)
	}
	v, other := newView(cfg.Zones[1], table), newView(cfg.Zones[0], table)
	for _, tt := range []struct {
		view  *view
		name  string
		qtype uint16
		want  string
	}{
		{v, "tracking.example", dns.TypeA, soa},
		{v, "a.b.tracking.example", dns.TypeAAAA, soa},
		{v, "tracking.example", dns.TypeHTTPS, soa},
		{v, "nottracking.example", dns.TypeA, "forward"},
		{v, "example", dns.TypeA, "forward"},
		{v, "tracking.example.org", dns.TypeA, "forward"},
		{other, "tracking.example", dns.TypeA, "forward"},
	} {
		if got := ask(tt.view, tt.name, tt.qtype); got != tt.want {
			t.Errorf("%s asks for %s: got %q, want %q", tt.view.zone.Zone, tt.name, got, tt.want)
		}
	}
	if got := ask(v, "gw.home.arpa", dns.TypeA); !strings.HasPrefix(got, "NOERROR aa; gw.home.arpa.") {
		t.Errorf("a local name in a blocked domain: %q", got)
	}
}
