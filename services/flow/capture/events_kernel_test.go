//go:build linux

package capture_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"bulkhead/netcfg/nstest"
	"bulkhead/services/flow/capture"
	"bulkhead/services/flow/record"
)

// tracked is a namespace whose loopback connections are tracked and marked.
func tracked(t testing.TB) int {
	t.Helper()
	ns := nstest.New(t)
	nstest.Exec(t, ns, "ip", "link", "set", "lo", "up")
	nstest.ExecInput(t, ns, `table inet t {
	chain out { type filter hook output priority 0; ct state new ct mark set 100; udp dport 9 reject; }
}`, "nft", "-f", "-")
	for _, s := range []string{"acct=1", "timestamp=1", "events=1", "tcp_timeout_time_wait=1", "tcp_timeout_close=1", "udp_timeout=1", "tcp_timeout_syn_sent=1"} {
		nstest.Exec(t, ns, "sysctl", "-q", "-w", "net.netfilter.nf_conntrack_"+s)
	}
	return ns
}

// echo answers connections with what they send, until they close or reset them.
func echo(t testing.TB, ns int) netip.AddrPort {
	t.Helper()
	var l net.Listener
	nstest.Run(t, ns, func() {
		var err error
		if l, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func dial(t testing.TB, ns int, network string, to netip.AddrPort) net.Conn {
	t.Helper()
	var c net.Conn
	nstest.Run(t, ns, func() {
		var err error
		if c, err = net.Dial(network, to.String()); err != nil {
			t.Error(err)
		}
	})
	if c == nil {
		t.FailNow()
	}
	return c
}

func TestConnectionsAreHeardOf(t *testing.T) {
	ns := tracked(t)
	to := echo(t, ns)
	events, err := capture.OpenEvents(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()

	talk := func(c net.Conn, n int) {
		t.Helper()
		if _, err := c.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now().Add(-time.Second)
	finished := dial(t, ns, "tcp4", to)
	talk(finished, 1000)
	finished.Close()
	reset := dial(t, ns, "tcp4", to)
	talk(reset, 10)
	_ = reset.(*net.TCPConn).SetLinger(0)
	reset.Close()
	udp := dial(t, ns, "udp4", netip.MustParseAddrPort("127.0.0.1:53"))
	if _, err := udp.Write(make([]byte, 72)); err != nil { // 100 bytes with headers
		t.Fatal(err)
	}
	udp.Close()

	ports := map[string]uint16{}
	for name, c := range map[string]net.Conn{"finished": finished, "reset": reset, "udp": udp} {
		a, _ := netip.ParseAddrPort(c.LocalAddr().String())
		ports[name] = a.Port()
	}
	begun, ended := map[uint16]uint32{}, map[uint16]capture.Conn{}
	for deadline := time.Now().Add(time.Minute); len(ended) < 3; {
		// The kernel looks for connections that are over once in a minute, if there are
		// few; and whenever somebody lists them.
		if err := capture.List(t.Context(), ns, func(*capture.Conn) {}); err != nil {
			t.Fatal(err)
		}
		err := events.Read(time.Now().Add(100*time.Millisecond), func(change capture.Change, c *capture.Conn) {
			if port := c.Orig.Src.Port(); change == capture.Begun {
				begun[port] = c.ID
			} else {
				ended[port] = *c
			}
		})
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(deadline) {
			t.Fatalf("%v after %+v", err, ended)
		}
	}
	for name, want := range map[string]struct {
		tcp     capture.TCPState
		packets uint64 // that we sent at least
		bytes   uint64 // of data that we sent
	}{"finished": {capture.TCPTimeWait, 4, 1000}, "reset": {capture.TCPClose, 3, 10}, "udp": {0, 1, 100}} {
		c, ok := ended[ports[name]]
		if !ok {
			t.Errorf("%s has not ended: %+v", name, ended)
			continue
		}
		if id, ok := begun[ports[name]]; !ok || id != c.ID {
			t.Errorf("%s began as %d, and ended as %d", name, id, c.ID)
		}
		if c.TCP != want.tcp || c.Mark != 100 || c.Out.Packets < want.packets || c.Out.Bytes < want.bytes || c.Start.Before(before) || c.Stop.Before(c.Start) {
			t.Errorf("%s: got %+v", name, c)
		}
	}
	if got, want := ended[ports["udp"]].Out, (record.Count{Packets: 1, Bytes: 100}); got != want {
		t.Errorf("of UDP %+v, want %+v", got, want)
	}
	if events.Unread != 0 {
		t.Errorf("%d messages made no sense", events.Unread)
	}
}

func TestListShowsWhatIsOpen(t *testing.T) {
	ns := tracked(t)
	c := dial(t, ns, "tcp4", echo(t, ns))
	defer c.Close()
	if _, err := c.Write(make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 500)); err != nil {
		t.Fatal(err)
	}
	var found []capture.Conn
	if err := capture.List(t.Context(), ns, func(c *capture.Conn) { found = append(found, *c) }); err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].TCP != capture.TCPEstablished || found[0].Out.Bytes < 500 || found[0].Start.IsZero() || !found[0].Stop.IsZero() {
		t.Errorf("got %+v", found)
	}
}

// After an overrun the kernel drops events until all that wait are read, and does not say
// so again.
func TestOverrunIsNoticedAndThenEventsComeAgain(t *testing.T) {
	ns := tracked(t)
	events, err := capture.OpenEventsWith(ns, 4096)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	begin := func(first, n int) {
		nstest.Run(t, ns, func() {
			for i := range n {
				c, err := net.Dial("udp4", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(first+i)).String())
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = c.Write([]byte("x"))
				c.Close()
			}
		})
	}
	begin(1000, 500)
	for deadline := time.Now().Add(10 * time.Second); ; {
		err := events.Read(deadline, func(capture.Change, *capture.Conn) {})
		if errors.Is(err, capture.ErrLost) {
			break
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("500 connections fit into 4096 bytes, or nobody says that they did not")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for !events.Drained {
		if err := events.Read(time.Now().Add(10*time.Second), func(capture.Change, *capture.Conn) {}); err != nil {
			t.Fatal(err)
		}
	}
	begin(2000, 1)
	var heard uint16
	if err := events.Read(time.Now().Add(10*time.Second), func(_ capture.Change, c *capture.Conn) { heard = c.Orig.Dst.Port() }); err != nil || heard != 2000 {
		t.Errorf("heard of port %d, %v", heard, err)
	}
}

// The log shows who was refused what, with the card of the sender.
func TestLogShowsRefusedPackets(t *testing.T) {
	b := newBox(t)
	log, err := capture.OpenLog(b.ns)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c := dial(t, b.desk, "udp4", netip.MustParseAddrPort("192.168.20.9:9100"))
	defer c.Close()
	if _, err := c.Write(make([]byte, 22)); err != nil {
		t.Fatal(err)
	}
	var got []capture.Packet
	for deadline := time.Now().Add(10 * time.Second); len(got) == 0; {
		if err := log.Read(deadline, func(p capture.Packet) { got = append(got, p) }); err != nil {
			t.Fatal(err)
		}
	}
	from, _ := netip.ParseAddrPort(c.LocalAddr().String())
	p := got[0]
	if p.MAC.IsZero() {
		t.Error("no MAC")
	}
	p.MAC = got[0].MAC
	want := capture.Packet{
		Party: "desk", MAC: p.MAC, Src: from.Addr(), Dst: netip.MustParseAddr("192.168.20.9"), Proto: 17, SrcPort: from.Port(), Port: 9100, Mark: b.blocked, Bytes: 50,
	}
	if p != want {
		t.Errorf("got %+v, want %+v", p, want)
	}
}

// BenchmarkEvents is a connection's way from the kernel: the beginning and the end of
// each of as many UDP connections as fit into the buffer.
func BenchmarkEvents(b *testing.B) {
	ns := tracked(b)
	events, err := capture.OpenEvents(ns)
	if err != nil {
		b.Fatal(err)
	}
	defer events.Close()
	const flows = 5000
	for b.Loop() {
		b.StopTimer()
		nstest.Run(b, ns, func() {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			for i := range flows {
				_, _ = c.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 9999))
			}
		})
		nstest.Exec(b, ns, "conntrack", "-F")
		b.StartTimer()
		for n := 0; n < 2*flows; {
			if err := events.Read(time.Now().Add(time.Second), func(capture.Change, *capture.Conn) { n++ }); err != nil {
				b.Fatalf("after %d events: %v", n, err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/flows, "ns/connection")
}
