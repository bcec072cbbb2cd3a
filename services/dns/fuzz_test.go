package dns

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// FuzzAnswer sends arbitrary bytes as a query. Whatever comes, the reply is one that
// a DNS library can read, is a reply to this query, and is no longer than the client
// can take; nothing but a well-formed question is ever forwarded, and none about
// local names.
func FuzzAnswer(f *testing.F) {
	for _, m := range []*dns.Msg{
		query("nas.home.arpa", dns.TypeA), query("example.com", dns.TypeANY), query("a.example", dns.TypeTXT),
		query("nas.home.arpa", dns.TypeA).SetEdns0(512, true), query("10.30.168.192.in-addr.arpa", dns.TypePTR),
	} {
		f.Add(packed(f, m), false)
		f.Add(packed(f, m), true)
	}
	v := viewOf(f, "iot")
	c := withCached(f, "a.example", rr(f, `a.example. 300 IN TXT "x"`))
	f.Fuzz(func(t *testing.T, msg []byte, tcp bool) {
		sent := bytes.Clone(msg)
		var q question
		reply, what := v.answer(make([]byte, 0, 2048), msg, iotTV, tcp, c, epoch, &q)
		if !bytes.Equal(sent, msg) {
			t.Error("the query was written to")
		}
		switch {
		case (what == dropped || what == forward) != (reply == nil):
			t.Fatalf("outcome %d with a reply of %d bytes", what, len(reply))
		case what == forward:
			checkForwarded(t, &q)
			return
		case reply == nil:
			return
		}
		var m dns.Msg
		if err := m.Unpack(reply); err != nil {
			t.Fatalf("cannot read the reply %x: %v", reply, err)
		}
		if m.Id != binary.BigEndian.Uint16(sent) || !m.Response {
			t.Errorf("not a reply to the query: %v", m.MsgHdr)
		}
		if len(m.Question) == 1 && !bytes.Equal(reply[headerBytes:skipName(reply, headerBytes)+4], q.wire[headerBytes:]) {
			t.Errorf("another question: %v", m.Question)
		}
		if len(reply) > q.limit(tcp) && len(reply) > len(q.wire)+optBytes {
			t.Errorf("%d bytes for a client that takes %d", len(reply), q.limit(tcp))
		}
	})
}

// checkForwarded reads what would be asked upstream.
func checkForwarded(t *testing.T, q *question) {
	t.Helper()
	var m dns.Msg
	if err := m.Unpack(newQuery(q, true)); err != nil {
		t.Fatalf("cannot read what is asked upstream: %v", err)
	}
	if len(m.Question) != 1 || len(m.Extra) != 1 || len(m.IsEdns0().Option) != 0 {
		t.Fatalf("asks upstream: %v", &m)
	}
	name := strings.ToLower(m.Question[0].Name)
	for _, d := range []string{"home.arpa.", "168.192.in-addr.arpa.", "local.", "onion."} {
		if dns.IsSubDomain(d, name) && m.Question[0].Qtype != dns.TypeDS {
			t.Errorf("asks upstream for %s", name)
		}
	}
}

// FuzzUpstream takes arbitrary bytes for the reply of a resolver. Only replies with
// the ID and the question of the query are kept, under that question, within bounds,
// and without records of names that the question does not lead to.
func FuzzUpstream(f *testing.F) {
	for _, do := range []bool{false, true} {
		m := query("a.example", dns.TypeA)
		if do {
			m.SetEdns0(1232, true)
		}
		q := parsed(f, m)
		query := newQuery(q, true)
		var sent dns.Msg
		if err := sent.Unpack(query); err != nil {
			f.Fatal(err)
		}
		r := new(dns.Msg).SetReply(&sent)
		r.Answer = []dns.RR{rr(f, "a.example. 60 IN CNAME b.net."), rr(f, "b.net. 60 IN A 192.0.2.1")}
		r.Ns = []dns.RR{rr(f, "net. 300 IN SOA ns.net. root.net. 1 2 3 4 300")}
		f.Add(do, packed(f, r)[2:])
		r.Answer, r.Rcode = r.Answer[:1], dns.RcodeNameError
		f.Add(do, packed(f, r)[2:])
		r.Truncated = true
		f.Add(do, packed(f, r)[2:])
	}
	f.Fuzz(func(t *testing.T, do bool, rest []byte) {
		m := query("a.example", dns.TypeA)
		if do {
			m.SetEdns0(1232, true)
		}
		q := parsed(t, m)
		query := newQuery(q, true)
		copy(query[headerBytes:], q.name()) // no random case: the fuzzer cannot know it
		reply := append(query[:2:2], rest...)
		v, e := readReply(query, reply, epoch)
		if (v == answered) != (e != nil) {
			t.Fatalf("verdict %d, kept %t", v, e != nil)
		}
		if e == nil {
			return
		}
		if !bytes.HasPrefix(reply[headerBytes:], q.wire[headerBytes:]) {
			t.Fatalf("kept the answer to another question: %x", reply)
		}
		checkKept(t, q, e)
	})
}

func checkKept(t *testing.T, q *question, e *entry) {
	t.Helper()
	if e.life < 0 || e.life > 24*time.Hour || e.life > 0 && len(e.wire) > maxEntryBytes || len(e.wire) > maxTCPBytes {
		t.Errorf("keeps %d bytes for %v", len(e.wire), e.life)
	}
	out := e.reply(nil, q, maxTCPBytes, epoch.Add(time.Second))
	var m dns.Msg
	if err := m.Unpack(out); err != nil {
		t.Fatalf("cannot read what is kept: %v", err)
	}
	owners := aliases("a.example.", m.Answer)
	for _, rr := range m.Answer {
		if !owners[strings.ToLower(rr.Header().Name)] {
			t.Errorf("keeps %v", rr)
		}
	}
	if m.AuthenticatedData || m.Authoritative {
		t.Errorf("claims %v", m.MsgHdr)
	}
}
