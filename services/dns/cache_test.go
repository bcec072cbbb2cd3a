package dns

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

func parsed(t testing.TB, m *dns.Msg) *question {
	t.Helper()
	q := new(question)
	if rcode := q.parse(packed(t, m)); rcode != dns.RcodeSuccess {
		t.Fatalf("query for %v: code %d", m.Question, rcode)
	}
	return q
}

// kept is what is kept of a reply with these answers and authorities.
func kept(t testing.TB, m *dns.Msg, rcode int, answer, authority []dns.RR) *entry {
	t.Helper()
	r := new(dns.Msg).SetRcode(m, rcode)
	r.Answer, r.Ns = answer, authority
	opt := m.IsEdns0()
	e := newEntry(r, opt != nil && opt.Do(), time.Now())
	if e == nil {
		t.Fatal("reply is not kept")
	}
	return e
}

func ttlsOf(reply []byte) (ttls []uint32) {
	for _, at := range findTTLs(reply) {
		ttls = append(ttls, binary.BigEndian.Uint32(reply[at:]))
	}
	return ttls
}

// TestTTLsNeverGrow asks for random entries at random times: what is left of a time
// to live never gets more, is never more than a day, and at its end the entry is gone.
func TestTTLsNeverGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := uint64(time.Now().UnixNano())
		r := rand.New(rand.NewPCG(seed, 0))
		for range 200 {
			c := newCache(100, 100000)
			m := query("a.example", dns.TypeA)
			var answers []dns.RR
			least := uint32(86400)
			for i := range 1 + r.IntN(4) {
				a := rr(t, fmt.Sprintf("a.example. IN A 192.0.2.%d", i))
				a.Header().Ttl = r.Uint32() >> r.IntN(32)
				least = min(least, a.Header().Ttl)
				if a.Header().Ttl >= 1<<31 {
					least = 0
				}
				answers = append(answers, a)
			}
			q := parsed(t, m)
			begun := time.Now()
			c.put(q.cacheKey(), kept(t, m, dns.RcodeSuccess, answers, nil))
			last := []uint32{86400, 86400, 86400, 86400}
			for {
				e := c.get(q.cacheKey(), time.Now())
				age := time.Since(begun)
				if alive := age < time.Duration(least)*time.Second; alive != (e != nil) {
					t.Fatalf("seed %d: least TTL %d, age %v: kept is %t", seed, least, age, e != nil)
				}
				if e == nil {
					break
				}
				ttls := ttlsOf(e.reply(nil, q, maxUDPBytes, time.Now()))
				for i, ttl := range ttls {
					if ttl > last[i] {
						t.Fatalf("seed %d: TTL grew from %d to %d", seed, last[i], ttl)
					}
				}
				copy(last, ttls)
				time.Sleep(time.Duration(1 + r.Int64N(int64(least)*int64(time.Second))))
			}
		}
	})
}

func TestWhatIsKeptAndForHowLong(t *testing.T) {
	const soa = "example. 7200 IN SOA ns.example. root.example. 1 2 3 4 "
	tests := []struct {
		name              string
		qtype             uint16
		do                bool
		rcode             int
		answer, authority []string
		want              string // the reply that is kept
		life              time.Duration
	}{
		{"answer", dns.TypeA, false, 0, []string{"a.example. 60 IN A 192.0.2.1"}, nil,
			"NOERROR; a.example. 60 IN A 192.0.2.1", time.Minute},
		{"a week becomes a day", dns.TypeA, false, 0, []string{"a.example. 604800 IN A 192.0.2.1"}, nil,
			"NOERROR; a.example. 86400 IN A 192.0.2.1", 24 * time.Hour},
		{"TTL zero", dns.TypeA, false, 0, []string{"a.example. 0 IN A 192.0.2.1"}, nil,
			"NOERROR; a.example. 0 IN A 192.0.2.1", 0},
		{"denial, minimum of SOA", dns.TypeA, false, dns.RcodeNameError, nil, []string{soa + "300"},
			"NXDOMAIN; authority example. 300 IN SOA ns.example. root.example. 1 2 3 4 300", 5 * time.Minute},
		{"denial, an hour at most", dns.TypeA, false, dns.RcodeNameError, nil, []string{soa + "86400"},
			"NXDOMAIN; authority example. 3600 IN SOA ns.example. root.example. 1 2 3 4 86400", time.Hour},
		{"no such type", dns.TypeA, false, 0, nil, []string{soa + "300"},
			"NOERROR; authority example. 300 IN SOA ns.example. root.example. 1 2 3 4 300", 5 * time.Minute},
		{"denial without SOA", dns.TypeA, false, dns.RcodeNameError, nil, nil, "NXDOMAIN", 0},
		{"denial with the SOA of somebody else", dns.TypeA, false, dns.RcodeNameError, nil,
			[]string{"other. 300 IN SOA ns.other. root.other. 1 2 3 4 300"}, "NXDOMAIN", 0},
		{"alias of nothing", dns.TypeA, false, dns.RcodeNameError, []string{"a.example. 60 IN CNAME b.net."},
			[]string{"net. 300 IN SOA ns.net. root.net. 1 2 3 4 300"},
			"NXDOMAIN; a.example. 60 IN CNAME b.net.; authority net. 300 IN SOA ns.net. root.net. 1 2 3 4 300", time.Minute},
		{"alias without an end", dns.TypeA, false, 0, []string{"a.example. 60 IN CNAME b.net."}, nil,
			"NOERROR; a.example. 60 IN CNAME b.net.", 0},
		{"aliases in any order", dns.TypeA, false, 0,
			[]string{"c.net. 60 IN A 192.0.2.1", "b.net. 60 IN CNAME c.net.", "a.example. 60 IN CNAME b.net."}, nil,
			"NOERROR; c.net. 60 IN A 192.0.2.1; b.net. 60 IN CNAME c.net.; a.example. 60 IN CNAME b.net.", time.Minute},
		{"DNAME", dns.TypeA, false, 0,
			[]string{"example. 60 IN DNAME net.", "a.example. 60 IN CNAME a.net.", "a.net. 60 IN A 192.0.2.1"}, nil,
			"NOERROR; example. 60 IN DNAME net.; a.example. 60 IN CNAME a.net.; a.net. 60 IN A 192.0.2.1", time.Minute},
		{"alias loop", dns.TypeA, false, 0, []string{"a.example. 60 IN CNAME b.net.", "b.net. 60 IN CNAME a.example."}, nil,
			"NOERROR; a.example. 60 IN CNAME b.net.; b.net. 60 IN CNAME a.example.", 0},
		{"records nobody asked for", dns.TypeA, false, 0,
			[]string{"a.example. 60 IN A 192.0.2.1", "bank.example. 60 IN A 192.0.2.66", "a.example. 60 CH A 192.0.2.66"},
			[]string{"example. 60 IN NS ns.evil.example."},
			"NOERROR; a.example. 60 IN A 192.0.2.1", time.Minute},
		{"signatures nobody asked for", dns.TypeA, false, 0,
			[]string{"a.example. 60 IN A 192.0.2.1", "a.example. 60 IN RRSIG A 8 2 60 20270101000000 20260101000000 1 example. AAAA"}, nil,
			"NOERROR; a.example. 60 IN A 192.0.2.1", time.Minute},
		{"signatures", dns.TypeA, true, 0,
			[]string{"a.example. 60 IN A 192.0.2.1", "a.example. 60 IN RRSIG A 8 2 60 20270101000000 20260101000000 1 example. AAAA"}, nil,
			"NOERROR; a.example. 60 IN A 192.0.2.1; a.example. 60 IN RRSIG A 8 2 60 20270101000000 20260101000000 1 example. AAAA", time.Minute},
		{"proof of absence", dns.TypeA, true, dns.RcodeNameError, nil,
			[]string{soa + "300", "0.example. 60 IN NSEC b.example. A"},
			"NXDOMAIN; authority example. 300 IN SOA ns.example. root.example. 1 2 3 4 300; authority 0.example. 60 IN NSEC b.example. A", time.Minute},
		{"a proof that was asked for", dns.TypeDS, false, 0, []string{"a.example. 60 IN DS 1 8 2 AA"}, nil,
			"NOERROR; a.example. 60 IN DS 1 8 2 AA", time.Minute},
	}
	parse := func(lines []string) (rrs []dns.RR) {
		for _, l := range lines {
			rrs = append(rrs, rr(t, l))
		}
		return rrs
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := query("a.example", tt.qtype)
			if tt.do {
				m.SetEdns0(1232, true)
			}
			e := kept(t, m, tt.rcode, parse(tt.answer), parse(tt.authority))
			if got := show(t, e.wire); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if e.life != tt.life {
				t.Errorf("kept for %v, want %v", e.life, tt.life)
			}
		})
	}
}

func TestCacheStaysWithinItsBounds(t *testing.T) {
	const entries, bytes = 64 * cacheShards, 40000 * cacheShards
	c := newCache(entries, bytes)
	hot := parsed(t, query("hot.example", dns.TypeTXT))
	put := func(q *question, name string, size int) {
		m := query(name, dns.TypeTXT)
		e := kept(t, m, 0, []dns.RR{rr(t, fmt.Sprintf("%s. 3600 IN TXT %0*d", name, size, 1))}, nil)
		c.put(q.cacheKey(), e)
	}
	put(hot, "hot.example", 10)
	now := time.Now()
	for i := range 5000 {
		name := fmt.Sprintf("n%d.example", i)
		put(parsed(t, query(name, dns.TypeTXT)), name, 1+i%255)
		if n, b := c.size(); n > entries || b > bytes {
			t.Fatalf("after %d names: %d entries, %d bytes", i+1, n, b)
		}
		if c.get(hot.cacheKey(), now) == nil {
			t.Fatalf("after %d names: what is asked for all the time is gone", i+1)
		}
	}
	n, _ := c.size()
	if n == 0 || c.evicted.Load() != uint64(5001-n) {
		t.Errorf("%d entries, %d evicted, want 5001 together", n, c.evicted.Load())
	}
	// What is counted is what is there.
	sum := 0
	for i := range c.shards {
		for _, e := range c.shards[i].entries {
			sum += e.bytes()
		}
	}
	if _, b := c.size(); b != sum {
		t.Errorf("says %d bytes, holds %d", b, sum)
	}
	c.clear()
	if n, b := c.size(); n != 0 || b != 0 {
		t.Errorf("cleared: %d entries, %d bytes", n, b)
	}
}

func TestQuestionsThatDifferHaveAnswersOfTheirOwn(t *testing.T) {
	plain := query("a.example", dns.TypeA)
	other := query("a.example", dns.TypeAAAA)
	do := query("a.example", dns.TypeA).SetEdns0(1232, true)
	cd := query("a.example", dns.TypeA)
	cd.CheckingDisabled = true
	below := query("b.a.example", dns.TypeA)
	seen := make(map[string]bool)
	for _, m := range []*dns.Msg{plain, other, do, cd, below} {
		seen[string(parsed(t, m).cacheKey())] = true
	}
	if len(seen) != 5 {
		t.Errorf("5 questions have %d keys", len(seen))
	}
	small := query("a.example", dns.TypeA).SetEdns0(512, false)
	upper := query("A.EXAMPLE", dns.TypeA)
	for _, m := range []*dns.Msg{small, upper} {
		if !seen[string(parsed(t, m).cacheKey())] {
			t.Errorf("%v has a key of its own", m)
		}
	}
}
