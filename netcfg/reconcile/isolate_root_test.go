//go:build linux

package reconcile_test

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/svcconf"
)

// TestIsolatedMachineReachesNobody isolates one machine of a real network under an open
// connection, and another that has none, and takes netcfgd away and back meanwhile.
func TestIsolatedMachineReachesNobody(t *testing.T) {
	l := newLab(t)
	l.start()
	l.apply(strings.Replace(lasting, "\ntests:", `
  - {name: remote, from: office, to: gadgets, protocols: any, why: a test}
  - {name: pages, from: gadgets, to: office, protocols: [tcp/80, udp/53], why: a test}
tests:`, 1))
	client, server := l.dial()
	// Somebody in the office has a connection to it, too.
	back, gadget := l.connect(l.office, l.gadgets, "192.168.40.99:7000")
	// What it may ask is let through whoever it asks, but not to whom it has asked before.
	page, web := l.connect(l.gadgets, l.office, "192.168.10.99:80")
	question, resolver := l.exchange(l.gadgets, l.office, "192.168.10.99:53")
	own, box := l.exchange(l.gadgets, l.gw, "192.168.40.1:53")

	asked := time.Now()
	i, err := l.client.Isolate(t.Context(), api.Isolate{Machine: "192.168.40.99", Author: "kim", Via: api.ViaCLI, Why: "it calls home"})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("isolated after %v", time.Since(asked))
	if i.MAC.IsZero() || len(i.Addresses) != 1 {
		t.Errorf("isolated %+v, want its MAC and its address", i)
	}
	isolated := func(when string) {
		t.Helper()
		for _, c := range []struct {
			name     string
			from, to net.Conn
		}{
			{"to it", server, client}, {"from it", gadget, back}, {"its page", page, web}, {"the page to it", web, page},
			{"its question", question, resolver}, {"the answer", resolver, question}, {"its question to the box", own, box}, {"the box's answer", box, own},
		} {
			if passes(c.from, c.to) {
				t.Errorf("%s: an open connection still carries words: %s", when, c.name)
			}
		}
		for _, try := range []struct {
			from int
			to   string
		}{{l.gadgets, "192.168.10.99:8096"}, {l.gadgets, "192.168.40.1:53"}, {l.office, "192.168.40.99:7000"}} {
			if c, err := l.try(try.from, try.to); err == nil {
				c.Close()
				t.Errorf("%s: a connection to %s was opened", when, try.to)
			}
		}
	}
	isolated("at once")
	if passes(client, server) || passes(back, gadget) {
		t.Error("an open connection still carries words the other way")
	}
	// Another address does not help.
	nstest.Exec(t, l.gadgets, "ip", "addr", "add", "192.168.40.98/24", "dev", "eth0")
	nstest.Exec(t, l.gadgets, "ip", "route", "replace", "default", "via", "192.168.40.1", "src", "192.168.40.98")
	if c, err := l.try(l.gadgets, "192.168.10.99:8096"); err == nil {
		c.Close()
		t.Error("a connection was opened from another address")
	}
	nstest.Exec(t, l.gadgets, "ip", "route", "replace", "default", "via", "192.168.40.1")
	nstest.Exec(t, l.gadgets, "ip", "addr", "del", "192.168.40.98/24", "dev", "eth0")

	l.end(syscall.SIGKILL)
	l.gateway("nft", "delete", "table", "inet", "bulkhead") // as a reboot does
	l.gateway("conntrack", "-F")
	l.start()
	isolated("after a start")
	list, err := l.client.Isolated(t.Context())
	if err != nil || len(list) != 1 || list[0].Author != "kim" || list[0].Why != "it calls home" {
		t.Errorf("isolated are %+v, %v", list, err)
	}

	// What it sends to the box's DHCP server arrives.
	dhcp := l.listenDHCP()
	l.sendDHCP("192.168.40.1:67")
	_ = dhcp.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, from, err := dhcp.ReadFrom(make([]byte, 16)); err != nil || !strings.HasPrefix(fmt.Sprint(from), "192.168.40.99:68") {
		t.Errorf("DHCP: got a datagram from %v, %v", from, err)
	}

	// What it asks is led to the box, and no longer when it is free again, though somebody
	// else is not.
	if _, err := l.client.Isolate(t.Context(), api.Isolate{Machine: "192.168.40.55", Author: "kim", Via: api.ViaCLI, Why: "another"}); err != nil {
		t.Fatal(err)
	}
	notice := l.listen(l.gw, fmt.Sprintf("192.168.40.1:%d", svcconf.NoticeDNS))
	asks := l.dialUDP(l.gadgets, "192.168.10.99:53")
	if !passes(asks, notice) {
		t.Error("what it asks is not led to the box")
	}
	if _, err := l.client.Release(t.Context(), api.Release{Machine: "192.168.40.99", Author: "kim"}); err != nil {
		t.Fatal(err)
	}
	if passes(asks, notice) {
		t.Error("released, and what it asks is still led to the box")
	}
	if direct := l.dialUDP(l.gadgets, notice.LocalAddr().String()); passes(direct, notice) {
		t.Error("a machine that is not isolated reaches where isolated ones are told")
	}
	again, err := l.try(l.gadgets, "192.168.10.99:8096")
	if err != nil {
		t.Fatalf("released, and %v", err)
	}
	again.Close()
	if got := l.gateway("nft", "list", "set", "inet", "bulkhead", "refused.gadgets"); !strings.Contains(got, "192.168.40.99 . 192.168.10.99 . tcp . 8096 . 0x10000007 counter packets ") {
		t.Errorf("what it tried was not counted as refused because it was isolated:\n%s", got)
	}
}

// connect opens a TCP connection and proves it.
func (l *lab) connect(from, to int, addr string) (client, server net.Conn) {
	l.t.Helper()
	var listener net.Listener
	var err error
	nstest.Run(l.t, to, func() { listener, err = net.Listen("tcp4", addr) })
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { listener.Close() })
	if client, err = l.try(from, addr); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { client.Close() })
	if server, err = listener.Accept(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { server.Close() })
	if !passes(client, server) || !passes(server, client) {
		l.t.Fatal("the connection carries nothing")
	}
	return client, server
}

// exchange has two machines send each other datagrams, and proves that they arrive.
func (l *lab) exchange(from, to int, addr string) (client, server net.Conn) {
	l.t.Helper()
	at := l.listen(to, addr)
	client = l.dialUDP(from, addr)
	server = &answerer{UDPConn: at}
	if !passes(client, server) || !passes(server, client) {
		l.t.Fatalf("nothing gets to %s and back", addr)
	}
	return client, server
}

// answerer is a socket that sends to whom it has last heard.
type answerer struct {
	*net.UDPConn
	last net.Addr
}

func (a *answerer) Read(b []byte) (int, error) {
	n, from, err := a.ReadFrom(b)
	if err == nil {
		a.last = from
	}
	return n, err
}

func (a *answerer) Write(b []byte) (int, error) { return a.WriteTo(b, a.last) }

func (l *lab) listen(ns int, addr string) *net.UDPConn {
	l.t.Helper()
	var c net.PacketConn
	var err error
	nstest.Run(l.t, ns, func() { c, err = net.ListenPacket("udp4", addr) })
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

func (l *lab) dialUDP(ns int, addr string) (c net.Conn) {
	l.t.Helper()
	var err error
	nstest.Run(l.t, ns, func() { c, err = net.Dial("udp4", addr) })
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	return c
}

// try opens a TCP connection if it can be had soon.
func (l *lab) try(from int, addr string) (c net.Conn, err error) {
	nstest.Run(l.t, from, func() {
		// Without a dialer of its own Go may connect on another thread.
		d := net.Dialer{Timeout: 500 * time.Millisecond}
		c, err = d.Dial("tcp4", addr)
	})
	return c, err
}

func (l *lab) listenDHCP() (c net.PacketConn) {
	l.t.Helper()
	var err error
	nstest.Run(l.t, l.gw, func() { c, err = net.ListenPacket("udp4", "192.168.40.1:67") })
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close() })
	return c
}

func (l *lab) sendDHCP(to string) {
	l.t.Helper()
	var err error
	nstest.Run(l.t, l.gadgets, func() {
		var c net.Conn
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(192, 168, 40, 99), Port: 68}}
		if c, err = d.Dial("udp4", to); err == nil {
			_, err = c.Write([]byte("renew"))
			c.Close()
		}
	})
	if err != nil {
		l.t.Fatal(err)
	}
}
