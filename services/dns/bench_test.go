package dns

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bulkhead/netcfg/svcconf"
)

func BenchmarkAnswerLocal(b *testing.B) { benchmarkAnswer(b, query("nas.home.arpa", dns.TypeA), local) }
func BenchmarkAnswerAbsent(b *testing.B) {
	benchmarkAnswer(b, query("nosuch.home.arpa", dns.TypeA), local)
}
func BenchmarkAnswerCached(b *testing.B) {
	benchmarkAnswer(b, query("a.example", dns.TypeTXT).SetEdns0(1232, false), cached)
}

// benchmarkAnswer measures what a query costs between the sockets.
func benchmarkAnswer(b *testing.B, m *dns.Msg, want outcome) {
	v := viewOf(b, "iot")
	c := withCached(b, "a.example", rr(b, `a.example. 300 IN TXT "x"`))
	msg := packed(b, m)
	buf := make([]byte, 0, maxUDPBytes)
	var q question
	b.ReportAllocs()
	for b.Loop() {
		if _, what := v.answer(buf, msg, iotTV, false, c, epoch, &q); what != want {
			b.Fatalf("outcome %d, want %d", what, want)
		}
	}
}

// BenchmarkNewTable measures what one new lease costs beside 5,000 others.
func BenchmarkNewTable(b *testing.B) {
	cfg, _ := house()
	var leases []svcconf.Lease
	for i := range 5000 {
		leases = append(leases, svcconf.Lease{
			Zone: "none", Address: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}),
			Hostname: fmt.Sprintf("client-%d", i), Granted: epoch, Expires: epoch.Add(time.Hour),
		})
	}
	var last *table
	for b.Loop() {
		var err error
		if last, err = newTable(&cfg, leases, last, epoch); err != nil {
			b.Fatal(err)
		}
	}
}
