//go:build linux

package lab_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bulkhead/images/lab"
	"bulkhead/netcfg/api"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/policy"
	"bulkhead/netcfg/svcconf"
)

// patience bounds what should take no time at all.
const patience = 5 * time.Second

// listen serves TCP on a host; each connection is handled by f and then closed.
func listen(t testing.TB, h *lab.Host, port uint16, f func(net.Conn)) {
	t.Helper()
	var ln net.Listener
	err := h.Do(func() (err error) {
		ln, err = net.Listen("tcp4", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
}

// dial opens a connection from a host.
func dial(h *lab.Host, network string, to netip.Addr, port uint16) (c net.Conn, err error) {
	err = h.Do(func() error {
		c, err = net.DialTimeout(network, netip.AddrPortFrom(to, port).String(), patience)
		return err
	})
	return c, err
}

// TestForwardWorksFromEverywhere talks to the forwarded port of the uplink's address
// from the internet, from other zones and from the device's own zone, both ways: the
// answer must come from where the question went.
func TestForwardWorksFromEverywhere(t *testing.T) {
	b := setUp(t)
	const port = 51999
	var server net.PacketConn
	err := b.Client("nextcloud").Do(func() (err error) {
		server, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() { // says who asked
		buf := make([]byte, 100)
		for {
			_, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = server.WriteTo([]byte(from.(*net.UDPAddr).IP.String()), from)
		}
	}()
	services := b.Config.Zone("services")
	want := map[string]string{
		"outside": b.OutsideAddr().String(), "far": "192.88.99.10", // not hidden: the device may want to know
		"laptop": b.Client("laptop").Addr.String(), "nas": b.Client("nas").Addr.String(),
		"evil-services": services.Gateway.String(), // answers must go back through the box
		"nextcloud":     services.Gateway.String(),
	}
	got := make(map[string]string)
	for name := range want {
		h := map[string]*lab.Host{"outside": b.Outside, "far": b.Far}[name]
		if h == nil {
			h = b.Client(name).Host
		}
		c, err := dial(h, "udp4", b.Uplink.Addr(), port)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte("who am I?")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		n, err := c.Read(buf) // from the address asked only: the socket is connected
		if err != nil {
			t.Errorf("from %s: %v", name, err)
		}
		got[name] = string(buf[:n])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("who the device was asked by (-want +got):\n%s", diff)
	}
}

// TestClientsUseTheInternet resolves a name and loads a page as people do, through
// the box's resolver and its translation of addresses. The television, which a block
// keeps at home, gets the name and no page.
func TestClientsUseTheInternet(t *testing.T) {
	b := setUp(t)
	for name, want := range map[string]bool{"laptop": true, "nextcloud": true, "management-pc": true, "tv": false, "nas": false} {
		c := b.Client(name)
		if err := resolve(c, "www.example.com.", patience); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		timeout := patience
		if !want {
			timeout = 100 * time.Millisecond // TestMatrix says it without a clock
		}
		var page string
		err := c.Do(func() error {
			conn, err := net.DialTimeout("tcp4", "203.0.113.1:80", timeout)
			if err != nil {
				return err
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
			text, err := io.ReadAll(conn)
			page = string(text)
			return err
		})
		if got := strings.Contains(page, "you are "+b.Uplink.Addr().String()); got != want {
			t.Errorf("%s loads the page as the box: %v (%v), want %v", name, got, err, want)
		}
	}
}

// without returns the example without the rule of that name.
func without(t testing.TB, rule string) []byte {
	t.Helper()
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	from := strings.Index(text, "  - name: "+rule+"\n")
	if from < 0 {
		t.Fatalf("no rule %s in the example", rule)
	}
	rest := text[from+1:]
	to := len(rest)
	for _, end := range []string{"\n  - ", "\n\n"} {
		if i := strings.Index(rest, end); i >= 0 {
			to = min(to, i)
		}
	}
	return []byte(text[:from] + rest[to+1:])
}

// TestRevokedRuleEndsItsConnections takes a rule away while a TCP connection that it
// allowed is open. When the change is in force nothing passes any more, in either
// direction, while a connection that another rule allowed goes on.
func TestRevokedRuleEndsItsConnections(t *testing.T) {
	b := setUp(t)
	original, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	tv, pc, nextcloud := b.Client("tv"), b.Client("management-pc"), b.Client("nextcloud")
	received := make(chan string, 16) // lines that came to nextcloud
	server := make(chan net.Conn, 1)
	listen(t, nextcloud.Host, 8096, func(c net.Conn) {
		server <- c
		for s := bufio.NewScanner(c); s.Scan(); {
			received <- s.Text()
		}
	})
	listen(t, nextcloud.Host, 22, func(c net.Conn) { _, _ = io.Copy(c, c) })
	film, err := dial(tv.Host, "tcp4", nextcloud.Addr, 8096)
	if err != nil {
		t.Fatal(err)
	}
	defer film.Close()
	shell, err := dial(pc.Host, "tcp4", nextcloud.Addr, 22)
	if err != nil {
		t.Fatal(err)
	}
	defer shell.Close()
	back := <-server
	fmt.Fprintln(film, "before")
	if got := <-received; got != "before" {
		t.Fatalf("got %q over the connection, want %q", got, "before")
	}

	restore := func() {
		if err := b.Apply(b.ctx, api.File{Name: example, Data: original}, "put back"); err != nil {
			t.Error(err)
		}
	}
	defer restore()
	if err := b.Apply(b.ctx, api.File{Name: example, Data: without(t, "tv-films")}, "no more films"); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(film, "after")
	fmt.Fprintln(back, "after")
	echo(t, shell, "still here")
	if err := b.Settle(b.ctx); err != nil {
		t.Fatal(err)
	}
	select {
	case line := <-received:
		t.Errorf("%q came over a connection whose rule is gone", line)
	default:
	}
	_ = film.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // it has had its time
	if n, err := film.Read(make([]byte, 10)); n > 0 {
		t.Errorf("the other direction still works: %d bytes, %v", n, err)
	}
}

// TestIsolatedMachineKeepsItsLease isolates the TV under an open connection, by its name.
// It gets a lease from the real dhcpd as ever, and nothing else but a page that says so, for
// whatever name and at whatever address.
func TestIsolatedMachineKeepsItsLease(t *testing.T) {
	b := setUp(t)
	tv, nextcloud := b.Client("tv"), b.Client("nextcloud")
	listen(t, nextcloud.Host, 8096, func(c net.Conn) { _, _ = io.Copy(c, c) })
	film, err := dial(tv.Host, "tcp4", nextcloud.Addr, 8096)
	if err != nil {
		t.Fatal(err)
	}
	defer film.Close()
	echo(t, film, "before")
	asked := time.Now()
	if _, err := b.API.Isolate(b.ctx, api.Isolate{Machine: "tv", Author: "kim", Why: "a test"}); err != nil {
		t.Fatal(err)
	}
	free := sync.OnceFunc(func() {
		if _, err := b.API.Release(b.ctx, api.Release{Machine: "tv"}); err != nil {
			t.Error(err)
		}
	})
	defer free()
	eventually(t, "a page that says so", func() (string, bool) {
		c, err := dial(tv.Host, "tcp4", nextcloud.Addr, 80)
		if err != nil {
			return err.Error(), false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(c, "GET /films HTTP/1.1\r\nHost: nextcloud.home.arpa\r\n\r\n")
		page, err := io.ReadAll(c)
		return string(page), err == nil && has(string(page), "HTTP/1.1 511", "This device is isolated")
	})
	promptly(t, "the page is there", time.Since(asked), time.Second)
	if out, err := tv.Output("udhcpc", "-i", "eth0", "-q", "-n", "-t", "10", "-T", "1", "-s", "/bin/true"); err != nil {
		t.Errorf("no lease: %v\n%s", err, out)
	}
	for _, server := range []string{tv.Zone.Gateway.String(), "9.9.9.9"} {
		if out, err := tv.Output("dig", "+short", "+tries=2", "+time=2", "@"+server, "films.example"); err != nil || strings.TrimSpace(out) != tv.Zone.Gateway.String() {
			t.Errorf("asked by the isolated machine, %s says %q, %v", server, out, err)
		}
	}
	for _, to := range []netip.AddrPort{
		netip.AddrPortFrom(tv.Zone.Gateway, svcconf.NoticeHTTP), netip.AddrPortFrom(tv.Zone.Gateway, 443), netip.AddrPortFrom(nextcloud.Addr, 443), netip.AddrPortFrom(nextcloud.Addr, 8096),
	} {
		if c, err := dial(tv.Host, "tcp4", to.Addr(), to.Port()); err == nil {
			c.Close()
			t.Errorf("%s was reached", to)
		}
	}
	fmt.Fprintln(film, "after")
	_ = film.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // it has had its time
	if n, err := film.Read(make([]byte, 10)); n > 0 {
		t.Errorf("the open connection still works: %d bytes, %v", n, err)
	}
	why, err := b.API.Why(b.ctx, "tv", "nextcloud", "tcp/8096")
	if err != nil || why.Verdicts[0].Reason != policy.Isolated {
		t.Errorf("why says %v, %v", why, err)
	}
	free()
	if c, err := dial(tv.Host, "tcp4", tv.Zone.Gateway, svcconf.NoticeHTTP); err == nil {
		c.Close()
		t.Error("the page is there still")
	}
	again, err := dial(tv.Host, "tcp4", nextcloud.Addr, 8096)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	echo(t, again, "free")
}

func echo(t testing.TB, c net.Conn, text string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, len(text))
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, buf); err != nil {
		t.Fatalf("a connection of another rule: %v", err)
	}
}

// TestSameFileTwiceChangesNothing looks at the plan, at the connections and at the
// packet filter.
func TestSameFileTwiceChangesNothing(t *testing.T) {
	b := setUp(t)
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		plan, err := b.API.Plan(b.ctx, api.Proposal{File: api.File{Name: example, Data: data}})
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Steps) > 0 || len(plan.Reach) > 0 {
			t.Errorf("the plan for what is in force has %d steps: %+v", len(plan.Steps), plan)
		}
	}
}

// TestManagementIsServedToAdminZonesOnly asks every client for the box's API, at the
// address of its own zone and at that of the management zone.
func TestManagementIsServedToAdminZonesOnly(t *testing.T) {
	b := setUp(t)
	admin := b.Client("management-pc").Zone
	if err := serves(b, "webuid", time.Time{}); err != nil {
		t.Fatalf("%v\n%s", err, b.Daemons["webuid"].Log(20))
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, c := range b.Clients {
		for _, at := range []netip.Addr{c.Zone.Gateway, admin.Gateway} {
			wg.Go(func() {
				err := healthy(c, at, time.Second)
				if (err == nil) != (c.Zone == admin) {
					t.Errorf("%s in zone %s asks %s: got %v", c.Name, c.Zone.Name, at, err)
				}
			})
		}
	}
}

// TestPortScan has nmap look for open TCP ports: all of them, of the box and of a
// machine in a neighbour zone, from guest, iot and the internet. What it finds must
// be what the policy allows.
func TestPortScan(t *testing.T) {
	b := setUp(t)
	nextcloud := b.Client("nextcloud")
	type scan struct {
		from   *lab.Host
		party  string
		src    netip.Addr
		mac    model.MAC
		target netip.Addr
	}
	var scans []scan
	for _, name := range []string{"laptop", "evil-iot", "tv"} {
		c := b.Client(name)
		for _, target := range []netip.Addr{c.Zone.Gateway, nextcloud.Addr} {
			scans = append(scans, scan{c.Host, c.Zone.Name, c.Addr, c.MAC, target})
		}
	}
	for _, target := range []netip.Addr{b.Uplink.Addr(), nextcloud.Addr} {
		scans = append(scans, scan{from: b.Outside, party: model.Internet, src: b.OutsideAddr(), target: target})
	}
	// The machine outside needs a way to the zone at all.
	if err := b.Outside.IP(fmt.Sprintf("route replace %s via %s", nextcloud.Zone.Subnet, b.Uplink.Addr())); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, s := range scans {
		want := []string{}
		for port := 1; port < 1<<16; port++ {
			f := policy.Flow{From: s.party, MAC: s.mac, Src: s.src, Dst: s.target, Proto: model.ProtoTCP, SrcPort: 40000, Port: uint16(port)}
			if b.policy.Decide(f).Allow {
				want = append(want, fmt.Sprint(port))
			}
		}
		wg.Go(func() { // together: each keeps to a rate of its own
			out, err := s.from.Output("nmap", "-n", "-Pn", "-sS", "-p-", "-T5", "--min-rate", "10000", "--max-retries", "1", "-oG", "-", s.target.String())
			if err != nil {
				t.Error(err)
				return
			}
			if diff := cmp.Diff(want, answering(out)); diff != "" {
				t.Errorf("from %s, ports of %s that answer (-want +got):\n%s", s.from.Name, s.target, diff)
			}
		})
	}
}

// TestEveryUDPPortOfTheBox tries them all, from guest, iot and the internet. A scanner
// cannot tell an open UDP port from a filtered one; who sees what arrives can.
func TestEveryUDPPortOfTheBox(t *testing.T) {
	b := setUp(t)
	laptop, gadget := b.Client("laptop"), b.Client("evil-iot")
	for _, from := range []lab.Party{
		{Name: laptop.Zone.Name, Host: laptop.Host, Addr: laptop.Addr, MAC: laptop.MAC},
		{Name: gadget.Zone.Name, Host: gadget.Host, Addr: gadget.Addr, MAC: gadget.MAC},
		{Name: model.Internet, Host: b.Outside, Addr: b.OutsideAddr()},
	} {
		flow := policy.Flow{From: from.Name, MAC: from.MAC, Src: from.Addr, Dst: b.BoxAddr(from.Name)}
		const atOnce = 1 << 12
		for first := 0; first < 1<<16; first += atOnce {
			var questions []lab.Question
			for port := max(first, 1); port < first+atOnce; port++ {
				questions = append(questions, b.Question(b.policy, from.Host, flow, model.OnePort(model.ProtoUDP, uint16(port))))
			}
			b.ask(t, questions)
		}
	}
}

// answering lists the ports that nmap had any answer from, open or not: an answer
// means that the question got through.
func answering(grepable string) []string {
	ports := []string{}
	for line := range strings.Lines(grepable) {
		_, list, ok := strings.Cut(line, "Ports: ")
		if !ok {
			continue
		}
		list, _, _ = strings.Cut(list, "\t")
		for entry := range strings.SplitSeq(list, ", ") {
			f := strings.Split(strings.TrimSpace(entry), "/")
			if len(f) > 1 && f[1] != "filtered" {
				ports = append(ports, f[0])
			}
		}
	}
	return ports
}
