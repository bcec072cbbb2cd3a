package dns

import (
	"testing"

	"github.com/miekg/dns"
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
