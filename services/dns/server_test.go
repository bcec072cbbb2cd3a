package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/svcconf"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// fake is a resolver on the loopback interface.
type fake struct {
	addr  netip.AddrPort
	asked atomic.Int64 // by UDP and TCP
	tcp   atomic.Int64
}

// bothPorts listens at a port that is free for UDP and for TCP.
func bothPorts(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, ln
		}
		pc.Close()
		if !errors.Is(err, unix.EADDRINUSE) { // somebody else has the number there
			t.Fatal(err)
		}
	}
}

// newFake starts a resolver that sends what reply returns, byte for byte.
func newFake(t testing.TB, reply func(q *dns.Msg, tcp bool) [][]byte) *fake {
	t.Helper()
	pc, ln := bothPorts(t)
	f := &fake{addr: pc.LocalAddr().(*net.UDPAddr).AddrPort()}
	var running sync.WaitGroup
	t.Cleanup(func() { pc.Close(); ln.Close(); running.Wait() })
	running.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if err := q.Unpack(buf[:n]); err != nil {
				t.Errorf("the resolver got %x: %v", buf[:n], err)
				continue
			}
			f.asked.Add(1)
			running.Go(func() { // a slow reply does not hold up others
				for _, b := range reply(q, false) {
					pc.WriteTo(b, from)
				}
			})
		}
	})
	running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				msg, err := readFramed(conn, nil)
				q := new(dns.Msg)
				if err != nil || q.Unpack(msg) != nil {
					return
				}
				f.asked.Add(1)
				f.tcp.Add(1)
				for _, b := range reply(q, true) {
					conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
				}
			})
		}
	})
	return f
}

// address is the good reply to q: an A record.
func address(t testing.TB, q *dns.Msg, addr string) *dns.Msg {
	r := new(dns.Msg).SetReply(q)
	r.RecursionAvailable = true
	r.Answer = []dns.RR{&dns.A{
		Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300},
		A:   net.ParseIP(addr),
	}}
	return r
}

func sends(t testing.TB, msgs ...*dns.Msg) (out [][]byte) {
	for _, m := range msgs {
		b, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		out = append(out, b)
	}
	return out
}

func good(t testing.TB) func(*dns.Msg, bool) [][]byte {
	return func(q *dns.Msg, _ bool) [][]byte { return sends(t, address(t, q, "192.0.2.1")) }
}

func silent(*dns.Msg, bool) [][]byte { return nil }

// dead is an address where nobody listens.
func dead(t testing.TB) netip.AddrPort {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// testbed is a server that answers one zone on the loopback interface.
type testbed struct {
	*server
	cfg  svcconf.DNS
	addr string
	log  *nstest.Output
}

func newTestbed(t testing.TB, resolvers ...netip.AddrPort) *testbed {
	t.Helper()
	log := new(nstest.Output)
	b := &testbed{server: newServer(slog.New(slog.NewTextHandler(log, nil)), dead(t).Port(), newTeller(t.TempDir())), log: log}
	t.Cleanup(b.close)
	b.cfg = svcconf.DNS{
		Domain: "home.arpa", Name: "gw",
		Zones: []svcconf.DNSZone{{Zone: "iot", Address: netip.MustParseAddr("127.44.0.1"), Subnet: netip.MustParsePrefix("127.44.0.0/24")}},
		Hosts: []svcconf.Host{{Name: "nas", Address: netip.MustParseAddr("192.168.30.10")}},
	}
	b.addr = netip.AddrPortFrom(b.cfg.Zones[0].Address, b.port).String()
	for _, r := range resolvers {
		b.cfg.Resolvers = append(b.cfg.Resolvers, model.Resolver{Addr: r})
	}
	b.put(t)
	return b
}

// put configures the server with b.cfg and waits until it listens.
func (b *testbed) put(t testing.TB) {
	t.Helper()
	if err := b.configure(b.cfg); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, l := range b.listeners {
		select {
		case <-l.opened:
		case <-time.After(patience):
			t.Fatalf("does not listen on %v: %s", p, b.log)
		}
	}
}

// client asks from addr, an address of 127/8.
func client(network, addr string) *dns.Client {
	ip := net.ParseIP(addr)
	c := &dns.Client{Net: network, Timeout: patience, Dialer: &net.Dialer{Timeout: patience, LocalAddr: &net.UDPAddr{IP: ip}}}
	if network == "tcp" {
		c.Dialer.LocalAddr = &net.TCPAddr{IP: ip}
	}
	return c
}

// ask puts a question and returns the reply in one line, as show does.
func (b *testbed) ask(t testing.TB, name string) string {
	t.Helper()
	return b.askAs(t, client("udp", "127.44.0.7"), query(name, dns.TypeA))
}

func (b *testbed) askAs(t testing.TB, c *dns.Client, m *dns.Msg) string {
	t.Helper()
	r, _, err := c.Exchange(m, b.addr)
	if err != nil {
		t.Error(err)
		return err.Error()
	}
	return show(t, packed(t, r))
}

func (b *testbed) want(t *testing.T, name, want string) {
	t.Helper()
	if got := b.ask(t, name); got != want {
		t.Errorf("%s: got %q, want %q", name, got, want)
	}
}

func TestForwardedAnswerIsCached(t *testing.T) {
	up := newFake(t, func(q *dns.Msg, tcp bool) [][]byte {
		opt := q.IsEdns0()
		if !q.RecursionDesired || opt == nil || opt.UDPSize() != 1232 || opt.Do() || q.AuthenticatedData {
			t.Errorf("the resolver was asked: %v", q)
		}
		r := address(t, q, "192.0.2.1")
		r.AuthenticatedData = true // so it says
		return sends(t, r)
	})
	b := newTestbed(t, up.addr)
	for range 3 {
		b.want(t, "a.example", "NOERROR; a.example. 300 IN A 192.0.2.1")
	}
	if n := up.asked.Load(); n != 1 {
		t.Errorf("asked the resolver %d times, want once", n)
	}
	m := query("b.example", dns.TypeA)
	m.AuthenticatedData = true
	m.SetEdns0(4096, false)
	m.Extra[0].(*dns.OPT).Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: net.IPv4(127, 44, 0, 0)}}
	if got, want := b.askAs(t, client("tcp", "127.44.0.7"), m), "NOERROR; b.example. 300 IN A 192.0.2.1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if st := b.stats(); st.Cached != 2 || st.Forwarded != 2 || st.CacheEntries != 2 {
		t.Errorf("counted %+v", st)
	}
}

func TestLocalNamesNeverReachTheResolver(t *testing.T) {
	up := newFake(t, good(t))
	b := newTestbed(t, up.addr)
	b.want(t, "nas.home.arpa", "NOERROR aa; nas.home.arpa. 60 IN A 192.168.30.10")
	b.want(t, "gw.home.arpa", "NOERROR aa; gw.home.arpa. 60 IN A 127.44.0.1")
	b.want(t, "nosuch.home.arpa", "NXDOMAIN aa; "+homeSOA)
	b.want(t, "1.2.0.10.in-addr.arpa", "NXDOMAIN aa; "+emptySOA("10.in-addr.arpa."))
	if n := up.asked.Load(); n != 0 {
		t.Errorf("asked the resolver %d times", n)
	}
}

func TestClientFromElsewhereIsRefused(t *testing.T) {
	up := newFake(t, good(t))
	b := newTestbed(t, up.addr)
	for _, network := range []string{"udp", "tcp"} {
		if got := b.askAs(t, client(network, "127.45.0.7"), query("a.example", dns.TypeA)); got != "REFUSED" {
			t.Errorf("%s: got %q, want REFUSED", network, got)
		}
	}
	if n := up.asked.Load(); n != 0 {
		t.Errorf("asked the resolver %d times", n)
	}
}

func TestTruncatedReplyIsAskedForAgainByTCP(t *testing.T) {
	up := newFake(t, func(q *dns.Msg, tcp bool) [][]byte {
		r := address(t, q, "192.0.2.1")
		if r.Truncated = !tcp; r.Truncated {
			r.Answer = nil
		}
		return sends(t, r)
	})
	b := newTestbed(t, up.addr)
	b.want(t, "a.example", "NOERROR; a.example. 300 IN A 192.0.2.1")
	if up.tcp.Load() != 1 || b.stats().UpstreamTCP != 1 {
		t.Errorf("%d questions by TCP, counted %d, want 1", up.tcp.Load(), b.stats().UpstreamTCP)
	}
}

func TestForgedRepliesAreIgnored(t *testing.T) {
	forgeries := func(q *dns.Msg) []*dns.Msg {
		evil := func(f func(*dns.Msg)) *dns.Msg {
			r := address(t, q, "192.0.2.66")
			f(r)
			return r
		}
		return []*dns.Msg{
			evil(func(r *dns.Msg) { r.Id++ }),
			evil(func(r *dns.Msg) { r.Question[0].Name = "b.example."; r.Answer[0].Header().Name = "b.example." }),
			evil(func(r *dns.Msg) { r.Question = nil }),
			evil(func(r *dns.Msg) { r.Question[0].Qtype = dns.TypeTXT }),
			evil(func(r *dns.Msg) { r.Question[0].Qclass = dns.ClassCHAOS }),
			evil(func(r *dns.Msg) { r.Response = false }),
			evil(func(r *dns.Msg) { r.Opcode = dns.OpcodeNotify }),
		}
	}
	t.Run("few", func(t *testing.T) {
		up := newFake(t, func(q *dns.Msg, tcp bool) [][]byte {
			out := sends(t, append(forgeries(q), address(t, q, "192.0.2.1"))...)
			return append([][]byte{nil, {1, 2, 3}}, out...)
		})
		b := newTestbed(t, up.addr)
		b.want(t, "a.example", "NOERROR; a.example. 300 IN A 192.0.2.1")
		if st := b.stats(); st.UpstreamForeign != 9 || st.UpstreamTCP != 0 {
			t.Errorf("counted %+v, want 9 forgeries", st)
		}
	})
	t.Run("a storm", func(t *testing.T) {
		up := newFake(t, func(q *dns.Msg, tcp bool) [][]byte {
			if tcp {
				return sends(t, address(t, q, "192.0.2.1"))
			}
			return sends(t, append(append(forgeries(q), forgeries(q)...), forgeries(q)...)...)
		})
		b := newTestbed(t, up.addr)
		b.want(t, "a.example", "NOERROR; a.example. 300 IN A 192.0.2.1")
		if st := b.stats(); st.UpstreamForeign != maxForeign || st.UpstreamTCP != 1 {
			t.Errorf("counted %+v, want %d forgeries, then TCP", st, maxForeign)
		}
	})
}

func TestResolverThatRespellsNamesIsAskedByTCPOnce(t *testing.T) {
	up := newFake(t, func(q *dns.Msg, tcp bool) [][]byte {
		r := address(t, q, "192.0.2.1")
		r.Question[0].Name = strings.ToLower(r.Question[0].Name)
		return sends(t, r)
	})
	b := newTestbed(t, up.addr)
	// Long names: the chance that the random case is all lower is nil.
	for i := range 3 {
		name := fmt.Sprintf("n%d.abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz.example.", i)
		b.want(t, name, "NOERROR; "+name+" 300 IN A 192.0.2.1")
	}
	if n := up.tcp.Load(); n != 1 {
		t.Errorf("asked by TCP %d times, want once", n)
	}
}

func TestResolverThatRespellsNamesAndHasNoTCPIsUsed(t *testing.T) {
	up := newFake(t, func(q *dns.Msg, tcp bool) [][]byte {
		if tcp {
			return nil
		}
		r := address(t, q, "192.0.2.1")
		r.Question[0].Name = strings.ToLower(r.Question[0].Name)
		return sends(t, r)
	})
	b := newTestbed(t, up.addr)
	const name = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz.example."
	b.want(t, name, "NOERROR; "+name+" 300 IN A 192.0.2.1")
}

func TestResolverWithoutEDNSIsAskedWithoutIt(t *testing.T) {
	up := newFake(t, func(q *dns.Msg, tcp bool) [][]byte {
		if q.IsEdns0() != nil {
			r := new(dns.Msg).SetRcodeFormatError(q)
			r.Id = q.Id
			return sends(t, r)
		}
		return sends(t, address(t, q, "192.0.2.1"))
	})
	b := newTestbed(t, up.addr)
	b.want(t, "a.example", "NOERROR; a.example. 300 IN A 192.0.2.1")
}

func TestNextResolverIsAskedWhenOneFails(t *testing.T) {
	rcode := func(code int) func(*dns.Msg, bool) [][]byte {
		return func(q *dns.Msg, _ bool) [][]byte { return sends(t, new(dns.Msg).SetRcode(q, code)) }
	}
	tests := map[string]netip.AddrPort{
		"dead":     dead(t),
		"silent":   newFake(t, silent).addr,
		"servfail": newFake(t, rcode(dns.RcodeServerFailure)).addr,
		"refused":  newFake(t, rcode(dns.RcodeRefused)).addr,
		"notimp":   newFake(t, rcode(dns.RcodeNotImplemented)).addr,
		"garbage": newFake(t, func(q *dns.Msg, _ bool) [][]byte {
			b := sends(t, address(t, q, "192.0.2.1"))
			return [][]byte{b[0][:len(b[0])-3]}
		}).addr,
	}
	for name, first := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newTestbed(t, first, newFake(t, good(t)).addr)
			b.want(t, "a.example", "NOERROR; a.example. 300 IN A 192.0.2.1")
		})
	}
}

func TestFailureIsRememberedForAMoment(t *testing.T) {
	up := newFake(t, func(q *dns.Msg, _ bool) [][]byte {
		return sends(t, new(dns.Msg).SetRcode(q, dns.RcodeServerFailure))
	})
	b := newTestbed(t, up.addr)
	b.want(t, "a.example", "SERVFAIL")
	b.want(t, "a.example", "SERVFAIL")
	if n := up.asked.Load(); n != 1 {
		t.Errorf("asked the resolver %d times, want once", n)
	}
}

func TestResolverThatIsDownIsLeftAloneForLongerAndLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(nstest.Output)
		first := &upstream{log: slog.New(slog.NewTextHandler(log, nil)), count: new(counters)}
		second := &upstream{log: first.log, count: first.count}
		silence := errors.New("silence")
		list := []*upstream{first, second}
		for range downAfter {
			if order(list, time.Now())[0] != first {
				t.Fatal("given up too early")
			}
			first.record(silence, time.Now())
		}
		var waits []time.Duration
		for range 8 {
			begun := time.Now()
			for order(list, time.Now())[0] != first {
				time.Sleep(100 * time.Millisecond)
			}
			if order(list, time.Now())[0] == first {
				t.Error("probed by two at once")
			}
			waits = append(waits, time.Since(begun))
			first.record(silence, time.Now())
		}
		if got, want := fmt.Sprint(waits), "[1s 2s 4s 8s 16s 30s 30s 30s]"; got != want {
			t.Errorf("waited %s, want %s", got, want)
		}
		first.record(nil, time.Now())
		if order(list, time.Now())[0] != first {
			t.Error("not used though it answers again")
		}
		if n := strings.Count(log.String(), "\n"); n != 2 {
			t.Errorf("said %d things, want two: down and up:\n%s", n, log)
		}
	})
}

func TestEqualQuestionsAreAskedOnce(t *testing.T) {
	const clients = 50
	release := make(chan struct{})
	up := newFake(t, func(q *dns.Msg, tcp bool) [][]byte {
		<-release
		return sends(t, address(t, q, "192.0.2.1"))
	})
	b := newTestbed(t, up.addr)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			c := client([]string{"udp", "tcp"}[i%2], fmt.Sprintf("127.44.0.%d", 10+i))
			if got, want := b.askAs(t, c, query("a.example", dns.TypeA)), "NOERROR; a.example. 300 IN A 192.0.2.1"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	waitFor(t, "all to ask", func() bool { return b.stats().Forwarded == clients })
	close(release)
	wg.Wait()
	if n := up.asked.Load(); n != 1 {
		t.Errorf("asked the resolver %d times, want once", n)
	}
}

// waitFor waits until what holds.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", patience, what)
		}
	}
}

func TestNoClientTakesTheResolverFromOthers(t *testing.T) {
	b := newTestbed(t, newFake(t, silent).addr)
	conn, err := client("udp", "127.44.0.66").Dial(b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range maxClientWaiters + 10 {
		if err := conn.WriteMsg(query(fmt.Sprintf("n%d.example", i), dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		// One at a time, or the socket's buffer is what overflows.
		waitFor(t, "the query to arrive", func() bool { return b.stats().Forwarded == uint64(i+1) })
	}
	waitFor(t, "the overflow", func() bool { return b.stats().Overflow == 10 })
	conn.SetDeadline(time.Now().Add(patience))
	if r, err := conn.ReadMsg(); err != nil || r.Rcode != dns.RcodeServerFailure {
		t.Errorf("got %v, %v, want SERVFAIL", r, err)
	}
	// Another client is still asked for.
	c, err := client("udp", "127.44.0.67").Dial(b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.WriteMsg(query("other.example", dns.TypeA)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the other's query to arrive", func() bool { return b.stats().Forwarded == maxClientWaiters+11 })
	if n := b.stats().Overflow; n != 10 {
		t.Errorf("%d queries overflowed, want 10", n)
	}
}

func TestPipelinedQueriesAreAnsweredAsAnswersCome(t *testing.T) {
	release := make(chan struct{})
	up := newFake(t, func(q *dns.Msg, tcp bool) [][]byte {
		<-release
		return sends(t, address(t, q, "192.0.2.1"))
	})
	b := newTestbed(t, up.addr)
	conn, err := client("tcp", "127.44.0.7").Dial(b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	slow, fast := query("slow.example", dns.TypeA), query("nas.home.arpa", dns.TypeA)
	for _, m := range []*dns.Msg{slow, fast} {
		if err := conn.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []uint16{fast.Id, slow.Id} {
		r, err := conn.ReadMsg()
		if err != nil || r.Id != want {
			t.Fatalf("reply %d: got %v, %v, want ID %d", i, r, err, want)
		}
		if i == 0 {
			close(release)
			// It has said all it had to say, and still wants the answer.
			if err := conn.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	b := newTestbed(t)
	var open []*dns.Conn
	dial := func(from string) *dns.Conn {
		conn, err := client("tcp", from).Dial(b.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(patience))
		return conn
	}
	works := func(conn *dns.Conn) bool {
		if err := conn.WriteMsg(query("nas.home.arpa", dns.TypeA)); err != nil {
			return false
		}
		_, err := conn.ReadMsg()
		return err == nil
	}
	for i := range maxClientConns {
		conn := dial("127.44.0.7")
		open = append(open, conn)
		if !works(conn) {
			t.Fatalf("connection %d does not work", i)
		}
	}
	if works(dial("127.44.0.7")) {
		t.Error("one more connection works")
	}
	if !works(dial("127.44.0.8")) {
		t.Error("another client's connection does not work")
	}
	if n := b.stats().TCPRejected; n != 1 {
		t.Errorf("%d connections rejected, want 1", n)
	}
	open[0].Close()
	waitFor(t, "a free place", func() bool { return works(dial("127.44.0.7")) })
}

func TestClientThatDoesNotReadHoldsUpNobody(t *testing.T) {
	up := newFake(t, func(q *dns.Msg, tcp bool) [][]byte {
		r := address(t, q, "192.0.2.1")
		for range 500 {
			r.Answer = append(r.Answer, r.Answer[0])
		}
		if !tcp {
			r.Answer, r.Truncated = nil, true
		}
		return sends(t, r)
	})
	b := newTestbed(t, up.addr)
	lazy, err := client("tcp", "127.44.0.7").Dial(b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer lazy.Close()
	lazy.Conn.(*net.TCPConn).SetReadBuffer(1)
	lazy.SetDeadline(time.Now().Add(100 * time.Millisecond))
	for lazy.WriteMsg(query("a.example", dns.TypeA)) == nil {
	}
	other := client("tcp", "127.44.0.8")
	other.Timeout = 2 * time.Second // less than the patience with the lazy one
	r, _, err := other.Exchange(query("a.example", dns.TypeA), b.addr)
	if err != nil || len(r.Answer) == 0 {
		t.Errorf("got %v, %v, want an answer", r, err)
	}
}

func TestGarbageByTCPEndsTheConnection(t *testing.T) {
	b := newTestbed(t)
	for name, bytes := range map[string]string{
		"a reply":        "\x00\x0c\x00\x01\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"an HTTP client": "GET / HTTP/1.1\r\n\r\n",
		"nothing":        "\x00\x00",
	} {
		conn, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write([]byte(bytes)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 100)); n != 0 || os.IsTimeout(err) {
			t.Errorf("%s: got %d bytes, %v, want the end", name, n, err)
		}
	}
}

func TestGarbageByUDPIsCounted(t *testing.T) {
	b := newTestbed(t)
	conn, err := net.Dial("udp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, n := range []int{0, 1, 11, 1300, 9000} {
		if _, err := conn.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "five drops", func() bool { return b.stats().Dropped == 5 })
}

func TestResolverThatIsUsIsIgnored(t *testing.T) {
	b := newTestbed(t)
	b.cfg.Resolvers = []model.Resolver{{Addr: netip.MustParseAddrPort(b.addr)}}
	b.put(t)
	b.want(t, "a.example", "SERVFAIL")
	if !strings.Contains(b.log.String(), "it is this one") {
		t.Errorf("not reported:\n%s", b.log)
	}
}

func TestOtherResolversMeanOtherAnswers(t *testing.T) {
	b := newTestbed(t, newFake(t, good(t)).addr)
	b.want(t, "a.example", "NOERROR; a.example. 300 IN A 192.0.2.1")
	up := newFake(t, func(q *dns.Msg, _ bool) [][]byte { return sends(t, address(t, q, "192.0.2.2")) })
	b.cfg.Resolvers = []model.Resolver{{Addr: up.addr}}
	b.put(t)
	b.want(t, "a.example", "NOERROR; a.example. 300 IN A 192.0.2.2")
}

func TestNewLeaseHasAName(t *testing.T) {
	b := newTestbed(t)
	b.want(t, "laptop.home.arpa", "NXDOMAIN aa; "+homeSOA)
	lease := svcconf.Lease{Zone: "iot", Address: netip.MustParseAddr("127.44.0.9"), Hostname: "laptop", Expires: time.Now().Add(time.Hour)}
	if err := b.setLeases(svcconf.Leases{Leases: []svcconf.Lease{lease}}); err != nil {
		t.Fatal(err)
	}
	b.want(t, "laptop.home.arpa", "NOERROR aa; laptop.home.arpa. 60 IN A 127.44.0.9")
}

func TestZoneThatIsGoneIsNotListenedIn(t *testing.T) {
	b := newTestbed(t)
	other := b.cfg.Zones[0]
	other.Zone, other.Address = "guest", netip.MustParseAddr("127.44.0.2")
	b.cfg.Zones = append(b.cfg.Zones, other)
	b.put(t)
	b.want(t, "nas.home.arpa", "NOERROR aa; nas.home.arpa. 60 IN A 192.168.30.10")
	b.cfg.Zones = b.cfg.Zones[1:]
	b.put(t)
	waitFor(t, "the socket to close", func() bool {
		conn, err := net.Dial("tcp", b.addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	b.addr = netip.AddrPortFrom(other.Address, b.port).String()
	b.want(t, "gw.home.arpa", "NOERROR aa; gw.home.arpa. 60 IN A 127.44.0.2")
}

// TestReloadsLoseNoQuery asks without pause while the configuration changes.
func TestReloadsLoseNoQuery(t *testing.T) {
	b := newTestbed(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var asked atomic.Int64
	for i, network := range []string{"udp", "tcp"} {
		wg.Go(func() {
			c := client(network, fmt.Sprintf("127.44.0.%d", 10+i))
			c.Timeout = patience // never asks twice
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got := b.askAs(t, c, query("nas.home.arpa", dns.TypeA)); !strings.HasPrefix(got, "NOERROR aa; nas") {
					t.Errorf("%s: got %q", network, got)
					return
				}
				asked.Add(1)
			}
		})
	}
	for i := range 50 {
		before := asked.Load()
		waitFor(t, "queries", func() bool { return asked.Load() >= before+4 || t.Failed() })
		b.cfg.Hosts[0].Address = netip.AddrFrom4([4]byte{192, 168, 30, byte(10 + i)})
		if i%2 == 0 {
			b.cfg.Zones[0].Zone = fmt.Sprintf("iot%d", i)
		}
		b.put(t)
	}
	close(stop)
	wg.Wait()
}
