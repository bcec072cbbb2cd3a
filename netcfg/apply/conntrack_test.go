//go:build linux

package apply_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"bulkhead/netcfg/apply"
	"bulkhead/netcfg/nstest"
)

// tracked returns a namespace whose loopback traffic is tracked. Rules accept new
// connections to even ports only, so that it shows whether they are asked again.
func tracked(t testing.TB) (*apply.Conntrack, int) {
	t.Helper()
	ns := nstest.New(t)
	nstest.Exec(t, ns, "ip", "link", "set", "lo", "up")
	nstest.Exec(t, ns, "sh", "-c", "echo 1 >/proc/sys/net/netfilter/nf_conntrack_acct")
	nstest.ExecInput(t, ns, `table inet theirs {
		set open { type inet_service; flags dynamic; }
		chain input {
			type filter hook input priority 0; policy accept;
			ct state established,related accept
			meta l4proto { tcp, udp } th dport @open ct mark set 7 accept
			meta l4proto { tcp, udp } drop
		}
	}`, "nft", "-f", "-")
	ct, err := apply.OpenConntrack(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ct.Close() })
	return ct, ns
}

func list(t testing.TB, ct *apply.Conntrack) []apply.Conn {
	t.Helper()
	conns, err := ct.List()
	if err != nil {
		t.Fatal(err)
	}
	return conns
}

// echo is a UDP server on loopback that sends back what it gets, and a client of it.
type echo struct {
	client net.Conn
	port   uint16
}

func newEcho(t *testing.T, ns int) *echo {
	t.Helper()
	e := new(echo)
	nstest.Run(t, ns, func() {
		server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		e.port = server.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		if e.client, err = net.Dial("udp4", server.LocalAddr().String()); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			buf := make([]byte, 100)
			for {
				n, from, err := server.ReadFrom(buf)
				if err != nil {
					return
				}
				server.WriteTo(buf[:n], from)
			}
		}()
		t.Cleanup(func() { e.client.Close(); server.Close(); <-done })
	})
	return e
}

func (e *echo) allow(t *testing.T, ns int) {
	t.Helper()
	nstest.Exec(t, ns, "nft", "add", "element", "inet", "theirs", "open", fmt.Sprintf("{ %d }", e.port))
}

func (e *echo) forbid(t *testing.T, ns int) {
	t.Helper()
	nstest.Exec(t, ns, "nft", "delete", "element", "inet", "theirs", "open", fmt.Sprintf("{ %d }", e.port))
}

// answers reports whether a question is answered. A question that is dropped gives
// nothing to wait for, so the wait for it is bounded.
func (e *echo) answers(t *testing.T) bool {
	t.Helper()
	if _, err := e.client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	e.client.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	_, err := e.client.Read(make([]byte, 100))
	return err == nil
}

func (e *echo) conn(t *testing.T, ct *apply.Conntrack) (apply.Conn, bool) {
	t.Helper()
	conns := list(t, ct)
	i := slices.IndexFunc(conns, func(c apply.Conn) bool { return c.Orig.DstPort == e.port })
	if i < 0 {
		return apply.Conn{}, false
	}
	return conns[i], true
}

func TestSweepEndsConnections(t *testing.T) {
	ct, ns := tracked(t)
	revoked, kept := newEcho(t, ns), newEcho(t, ns)
	for _, e := range []*echo{revoked, kept} {
		e.allow(t, ns)
		if !e.answers(t) {
			t.Fatal("no answer from the start")
		}
	}
	revoked.forbid(t, ns)
	if !revoked.answers(t) {
		t.Fatal("the connection ended by itself; there is nothing to test")
	}
	told := map[uint16]int{}
	if err := ct.Each(func(c apply.Conn) { told[c.Orig.DstPort]++ }); err != nil || told[revoked.port] != 1 || told[kept.port] != 1 {
		t.Errorf("told one by one there are %v, error %v", told, err)
	}
	deleted, remarked, err := ct.Sweep(func(c apply.Conn) (bool, uint32) {
		if c.Orig.DstPort == kept.port {
			return true, 0x8000002a
		}
		return c.Orig.DstPort != revoked.port, c.Mark
	})
	if err != nil || deleted != 1 || remarked != 1 {
		t.Errorf("got %d deleted, %d remarked, error %v; want 1, 1, none", deleted, remarked, err)
	}
	if revoked.answers(t) {
		t.Error("a revoked connection goes on")
	}
	if !kept.answers(t) {
		t.Error("a connection that is still allowed has ended")
	}
	if c, ok := kept.conn(t, ct); !ok || c.Mark != 0x8000002a {
		t.Errorf("got mark %#x, want 0x8000002a", c.Mark)
	}
}

func TestConnectionsAreReadAsTheyAre(t *testing.T) {
	ct, ns := tracked(t)
	e := newEcho(t, ns)
	e.allow(t, ns)
	if !e.answers(t) {
		t.Fatal("no answer")
	}
	nstest.Exec(t, ns, "ping", "-c", "1", "-e", "4660", "127.0.0.1")

	lo := netip.MustParseAddr("127.0.0.1")
	client := e.client.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	got, _ := e.conn(t, ct)
	want := apply.Conn{
		Orig:  apply.Tuple{Src: lo, Dst: lo, Proto: 17, SrcPort: client, DstPort: e.port},
		Reply: apply.Tuple{Src: lo, Dst: lo, Proto: 17, SrcPort: e.port, DstPort: client},
		Mark:  7, Status: got.Status, ID: got.ID,
		OrigCount: got.OrigCount, ReplyCount: got.ReplyCount,
	}
	if got != want || got.Status == 0 || got.ID == 0 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	ping := slices.IndexFunc(list(t, ct), func(c apply.Conn) bool { return c.Orig.Proto == 1 })
	if ping < 0 {
		t.Fatal("the ping is not there")
	}
	c := list(t, ct)[ping]
	if c.Orig.Type != 8 || c.Reply.Type != 0 || c.Orig.ICMPID != 4660 || c.Reply.ICMPID != 4660 {
		t.Errorf("got %+v, want types 8 and 0 of ID 4660", c)
	}
	if err := ct.Delete(c); err != nil {
		t.Error(err)
	}
	if slices.ContainsFunc(list(t, ct), func(c apply.Conn) bool { return c.Orig.Proto == 1 }) {
		t.Error("the ping is still there")
	}
}

func TestChangingAConnectionTwice(t *testing.T) {
	ct, ns := tracked(t)
	e := newEcho(t, ns)
	e.allow(t, ns)
	if !e.answers(t) {
		t.Fatal("no answer")
	}
	c, _ := e.conn(t, ct)
	for range 2 {
		if err := ct.SetMark(c, 5); err != nil {
			t.Error(err)
		}
		if got, _ := e.conn(t, ct); got.Mark != 5 {
			t.Errorf("got mark %d, want 5", got.Mark)
		}
	}
	for range 2 {
		if err := ct.Delete(c); err != nil {
			t.Error(err)
		}
		if _, ok := e.conn(t, ct); ok {
			t.Error("still there")
		}
	}
	if err := ct.SetMark(c, 6); err != nil {
		t.Error(err)
	}
	if _, ok := e.conn(t, ct); ok {
		t.Error("marking has brought it back")
	}
}

func TestDeletingNothingDoesNotDeleteAll(t *testing.T) {
	ct, ns := tracked(t)
	e := newEcho(t, ns)
	e.allow(t, ns)
	if !e.answers(t) {
		t.Fatal("no answer")
	}
	if err := ct.Delete(apply.Conn{}); err == nil {
		t.Error("got no error")
	}
	if _, ok := e.conn(t, ct); !ok {
		t.Error("the connection is gone")
	}
}

// TestSweepOfManyConnections deletes and remarks more than a batch holds.
func TestSweepOfManyConnections(t *testing.T) {
	const n = 5000
	ct, _ := tracked(t)
	fill(t, ct, n)
	deleted, remarked, err := ct.Sweep(func(c apply.Conn) (bool, uint32) { return c.Orig.SrcPort%2 == 0, 9 })
	if err != nil || deleted != n/2 || remarked != n/2 {
		t.Errorf("got %d deleted, %d remarked, error %v; want %d each", deleted, remarked, err, n/2)
	}
	left := list(t, ct)
	if len(left) != n/2 || slices.ContainsFunc(left, func(c apply.Conn) bool { return c.Mark != 9 }) {
		t.Errorf("got %d connections, want %d with mark 9", len(left), n/2)
	}
}

// fill puts n connections into the table.
func fill(t testing.TB, ct *apply.Conntrack, n int) {
	t.Helper()
	conns := make([]apply.Conn, n)
	for i := range conns {
		src, dst := netip.AddrFrom4([4]byte{10, 0, byte(i >> 14), 1}), netip.MustParseAddr("192.0.2.1")
		port := uint16(i & 0x3fff)
		conns[i].Orig = apply.Tuple{Src: src, Dst: dst, Proto: 17, SrcPort: port, DstPort: 53}
		conns[i].Reply = apply.Tuple{Src: dst, Dst: src, Proto: 17, SrcPort: 53, DstPort: port}
	}
	if err := apply.Track(ct, conns); err != nil {
		t.Fatal(err)
	}
	if got := len(list(t, ct)); got != n {
		t.Fatalf("got %d connections, want %d", got, n)
	}
}

// BenchmarkSweep judges 100,000 connections of which none, a few, or all change.
func BenchmarkSweep(b *testing.B) {
	const n = 100_000
	for _, bm := range []struct {
		name  string
		every uint16
	}{{"keep all", 0}, {"delete 1 in 100", 100}, {"delete all", 1}} {
		b.Run(bm.name, func(b *testing.B) {
			ct, _ := tracked(b)
			for range b.N {
				b.StopTimer()
				_, _, err := ct.Sweep(func(apply.Conn) (bool, uint32) { return false, 0 })
				if err != nil {
					b.Fatal(err)
				}
				fill(b, ct, n)
				b.StartTimer()
				_, _, err = ct.Sweep(func(c apply.Conn) (bool, uint32) {
					return bm.every == 0 || c.Orig.SrcPort%bm.every != 0, c.Mark
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
