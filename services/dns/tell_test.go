package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"

	"bulkhead/netcfg/svcconf"
)

var fromIoT = netip.MustParseAddr("127.44.0.7")

// ear stands in for flowd.
type ear struct {
	conn *net.UnixConn
	lost uint32
}

// newEar listens where a teller tells.
func newEar(t testing.TB, tell *teller) *ear {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(tell.path), 0o755); err != nil {
		t.Fatal(err)
	}
	os.Remove(tell.path)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: tell.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &ear{conn: conn}
}

// hear returns what one datagram says, each as "client address name".
func (e *ear) hear(t testing.TB) (said []string) {
	t.Helper()
	e.conn.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, svcconf.MaxNames+1)
	n, err := e.conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	lost, ok := svcconf.ReadNames(buf[:n], func(n svcconf.Named) {
		said = append(said, fmt.Sprintf("%s %s %s", n.Client, n.Addr, n.Name))
	})
	if !ok {
		t.Fatalf("cannot read %x", buf[:n])
	}
	e.lost += lost
	return said
}

// start runs the teller, for as long as the test, and waits until it has been heard of.
func (t *teller) start(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { t.run(ctx) })
	tb.Cleanup(func() { cancel(); running.Wait() })
	waitFor(tb, "the teller", t.there.Load)
}

// answers is what the resolver of these tests says.
func answers(t testing.TB) func(*dns.Msg, bool) [][]byte {
	return func(q *dns.Msg, _ bool) [][]byte {
		r := new(dns.Msg).SetReply(q)
		name := q.Question[0].Name
		add := func(format string, a ...any) { r.Answer = append(r.Answer, rr(t, fmt.Sprintf(format, a...))) }
		switch lower := strings.ToLower(name); {
		case q.Question[0].Qtype == dns.TypeAAAA:
			add("%s 300 IN AAAA 2001:db8::1", name)
		case strings.HasPrefix(lower, "films"):
			add("%s 300 IN CNAME cdn.example.net.", name)
			add("cdn.example.net. 300 IN A 203.0.113.9")
			add("cdn.example.net. 300 IN A 203.0.113.10")
		case strings.HasPrefix(lower, "nosuch"):
			r.Rcode = dns.RcodeNameError
		default:
			add("%s 300 IN A 203.0.113.1", name)
		}
		return sends(t, r)
	}
}

func TestFlowdIsToldWhoWasAnsweredWhat(t *testing.T) {
	b := newTestbed(t, newFake(t, answers(t)).addr)
	b.cfg.Zones[0].Names = true
	b.put(t)
	e := newEar(t, b.teller)
	b.teller.start(t)
	films := []string{"127.44.0.7 203.0.113.9 films.example.com", "127.44.0.7 203.0.113.10 films.example.com"}
	for _, by := range []string{"udp", "udp", "tcp", "tcp"} { // the first is forwarded, the others are cached
		b.askAs(t, client(by, fromIoT.String()), query("Films.Example.COM", dns.TypeA))
		if diff := cmp.Diff(films, e.hear(t)); diff != "" {
			t.Errorf("by %s (-want +got)\n%s", by, diff)
		}
	}
	// Forwarded by TCP; and nothing of what is not the address of a name that can be shown.
	b.ask(t, "nas.home.arpa")
	b.ask(t, "nosuch.example")
	b.ask(t, `films.example.com\000.evil.example`)
	b.ask(t, `www\.bank.example`)
	b.ask(t, `<script>.example`)
	b.askAs(t, client("udp", fromIoT.String()), query("six.example", dns.TypeAAAA))
	b.probe(t.Context(), "iot", packed(t, query("probe.example", dns.TypeA)))
	b.askAs(t, client("tcp", fromIoT.String()), query("last.example", dns.TypeA))
	if diff := cmp.Diff([]string{"127.44.0.7 203.0.113.1 last.example"}, e.hear(t)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if b.stats().NamesLost != 0 || e.lost != 0 {
		t.Errorf("%d names lost, %d said to be", b.stats().NamesLost, e.lost)
	}
}

func TestNobodyIsToldOfAZoneThatKeepsItsNames(t *testing.T) {
	b := newTestbed(t, newFake(t, answers(t)).addr)
	e := newEar(t, b.teller)
	b.teller.start(t)
	for _, by := range []string{"udp", "udp", "tcp", "tcp"} {
		b.askAs(t, client(by, fromIoT.String()), query("secret.example", dns.TypeA))
		b.askAs(t, client(by, fromIoT.String()), query("other.example", dns.TypeA))
	}
	b.cfg.Zones[0].Names = true
	b.put(t)
	b.ask(t, "open.example")
	if diff := cmp.Diff([]string{"127.44.0.7 203.0.113.1 open.example"}, e.hear(t)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// entryOf is the cached answer to name's A question.
func entryOf(t testing.TB, name string, addrs int) *entry {
	t.Helper()
	m := new(dns.Msg).SetReply(query(name, dns.TypeA))
	for i := range addrs {
		m.Answer = append(m.Answer, rr(t, fmt.Sprintf("%s 300 IN A 203.0.113.%d", name+".", i)))
	}
	return newEntry(m, false, epoch)
}

func TestWhatThereIsNoRoomForIsCounted(t *testing.T) {
	tell := newTeller(t.TempDir())
	tell.patience = time.Minute // the test may be slow, and takes all of it
	e := newEar(t, tell)
	tell.there.Store(true) // and nobody takes from the queue yet
	answer := entryOf(t, "films.example", 1)
	for range maxUntold + 5 {
		tell.tell(fromIoT, dns.TypeA, answer)
	}
	tell.start(t)
	heard := 0
	for heard < maxUntold {
		heard += len(e.hear(t))
	}
	if heard != maxUntold || e.lost != 5 || tell.lost.Load() != 5 {
		t.Errorf("heard %d, said to be lost %d, counted as lost %d", heard, e.lost, tell.lost.Load())
	}
}

// A flowd that stops taking what it is told loses names, and learns how many; the one
// who answers never waits.
func TestFlowdThatDoesNotListenIsWaitedForByNobody(t *testing.T) {
	tell := newTeller(t.TempDir())
	e := newEar(t, tell)
	tell.start(t)
	answer := entryOf(t, "films.example", maxToldEach+4)
	const each = 1000
	told := 0
	for tell.lost.Load() == 0 {
		for range each {
			tell.tell(fromIoT, dns.TypeA, answer)
		}
		told += each
		waitFor(t, "the queue", func() bool {
			tell.mu.Lock()
			defer tell.mu.Unlock()
			return len(tell.untold) == 0
		})
	}
	heard := len(e.hear(t)) / maxToldEach // which makes room for one more
	tell.tell(fromIoT, dns.TypeA, entryOf(t, "last.example", 1))
	for last := false; !last; {
		said := e.hear(t)
		last = strings.HasSuffix(said[len(said)-1], "last.example")
		heard += len(said) / maxToldEach
	}
	if heard+int(e.lost) != told {
		t.Errorf("heard %d and lost %d of %d", heard, e.lost, told)
	}
	if uint64(e.lost) != tell.lost.Load() || e.lost == 0 {
		t.Errorf("said to be lost %d, counted as lost %d", e.lost, tell.lost.Load())
	}
}

func TestFlowdThatComesBackIsToldAgain(t *testing.T) {
	tell := newTeller(t.TempDir())
	e := newEar(t, tell)
	tell.start(t)
	answer := entryOf(t, "films.example", 1)
	tell.tell(fromIoT, dns.TypeA, answer)
	e.hear(t)
	e.conn.Close()
	waitFor(t, "the end", func() bool { tell.tell(fromIoT, dns.TypeA, answer); return !tell.there.Load() })
	tell.tell(fromIoT, dns.TypeA, answer)
	e = newEar(t, tell)
	waitFor(t, "the teller", tell.there.Load)
	tell.tell(fromIoT, dns.TypeA, entryOf(t, "news.example", 1))
	if diff := cmp.Diff([]string{"127.44.0.7 203.0.113.0 news.example"}, e.hear(t)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// BenchmarkBatch measures what 64 cached addresses cost between the sockets; told, with
// flowd told of each.
func BenchmarkBatch(b *testing.B) {
	for _, told := range []bool{false, true} {
		b.Run(fmt.Sprintf("told=%t", told), func(b *testing.B) { benchmarkBatch(b, told) })
	}
}

func benchmarkBatch(b *testing.B, told bool) {
	bed := newTestbed(b, dead(b))
	v := *viewOf(b, "iot")
	v.zone.Names = true
	l := &listener{srv: bed.server}
	l.view.Store(&v)
	bed.cache.put(parsed(b, query("films.example", dns.TypeA)).cacheKey(), func() *entry {
		e := entryOf(b, "films.example", 2)
		e.stored = time.Now()
		return e
	}())
	if told {
		e := newEar(b, bed.teller)
		go func() {
			buf := make([]byte, svcconf.MaxNames)
			for {
				if _, err := e.conn.Read(buf); err != nil {
					return
				}
			}
		}()
		bed.teller.start(b)
	}
	in, out := make([]ipv4.Message, batch), make([]ipv4.Message, batch)
	msg := packed(b, query("films.example", dns.TypeA))
	for i := range batch {
		in[i] = ipv4.Message{Buffers: [][]byte{msg}, N: len(msg), Addr: &net.UDPAddr{IP: iotTV.AsSlice(), Port: 1000 + i}}
		out[i].Buffers = [][]byte{make([]byte, 0, maxUDPBytes+optBytes)}
	}
	b.ReportAllocs()
	for b.Loop() {
		if n := l.answerBatch(in, out, nil); n != batch {
			b.Fatalf("%d replies", n)
		}
	}
}
