package dhcp

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/dhcp/history"
	"bulkhead/services/sock"
)

// dhcpd is the real daemon in a namespace of its own.
type dhcpd struct {
	t        testing.TB
	ns       int
	run, lib string // directories
	cmd      *exec.Cmd
	log      nstest.Output
}

// buildDir holds the daemon if make has not built it.
var buildDir string

// program returns the path of the daemon.
var program = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("BULKHEAD_BIN"); bin != "" {
		return filepath.Join(bin, "dhcpd"), nil
	}
	path := filepath.Join(buildDir, "dhcpd")
	out, err := exec.Command("go", "build", "-o", path, "bulkhead/cmd/dhcpd").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if buildDir, err = os.MkdirTemp("", "dhcpd"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(buildDir)
		return m.Run()
	}())
}

// startDaemon begins a daemon; the test ends it.
func startDaemon(t testing.TB, ns int, conf svcconf.DHCP) *dhcpd {
	t.Helper()
	dir, err := os.MkdirTemp("", "bulkhead")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // the daemon is another user
		t.Fatal(err)
	}
	d := &dhcpd{t: t, ns: ns, run: filepath.Join(dir, "run"), lib: filepath.Join(dir, "state")}
	if err := os.MkdirAll(filepath.Join(d.run, "dhcpd"), 0o755); err != nil {
		t.Fatal(err)
	}
	d.configure(conf)
	d.start()
	t.Cleanup(func() {
		d.stop(syscall.SIGKILL)
		if t.Failed() {
			t.Logf("dhcpd:\n%s", &d.log)
		}
	})
	return d
}

func (d *dhcpd) runDir() string { return filepath.Join(d.run, "dhcpd") }

func (d *dhcpd) configure(conf svcconf.DHCP) {
	d.t.Helper()
	writeConfig(d.t, d.runDir(), conf)
}

func (d *dhcpd) start() {
	d.t.Helper()
	path, err := program()
	if err != nil {
		d.t.Fatal(err)
	}
	d.cmd = exec.Command(path, "-run", d.run, "-state", d.lib)
	d.cmd.Stderr = &d.log
	nstest.Run(d.t, d.ns, func() { err = d.cmd.Start() })
	if err != nil {
		d.t.Fatal(err)
	}
}

// history returns what the daemon says of the past of a client.
func (d *dhcpd) history(mac model.MAC) (h svcconf.LeaseHistory) {
	d.t.Helper()
	var c net.Conn
	waitFor(d.t, "the socket of the history", func() (ok bool) {
		var err error
		c, err = sock.Dial(d.t.Context(), filepath.Join(d.runDir(), svcconf.HistorySocket))
		return err == nil
	})
	defer c.Close()
	if _, err := c.Write(mac[:]); err != nil {
		d.t.Fatal(err)
	}
	if err := json.NewDecoder(c).Decode(&h); err != nil {
		d.t.Fatal(err)
	}
	return h
}

// stop ends the daemon by a signal and returns its exit code, -1 if it was killed.
func (d *dhcpd) stop(sig os.Signal) int {
	if d.cmd.ProcessState == nil {
		d.cmd.Process.Signal(sig)
		d.cmd.Wait()
	}
	return d.cmd.ProcessState.ExitCode()
}

// lease returns the published lease of a client's eth0; the zero one if there is none.
func (d *dhcpd) lease(client int) svcconf.Lease {
	_, text, _ := strings.Cut(nstest.Exec(d.t, client, "ip", "link", "show", "dev", "eth0"), "link/ether ")
	mac, err := model.ParseMAC(text[:min(17, len(text))])
	if err != nil {
		d.t.Fatal(err)
	}
	if l := leasesIn(d.runDir()); l != nil {
		for _, l := range l.Leases {
			if l.MAC == mac {
				return l
			}
		}
	}
	return svcconf.Lease{}
}

// zoneOn is a /24 of 10.0.n.0 on a link of the same number, with a lease that is
// short enough to watch it being renewed.
func zoneOn(n int, lease time.Duration) svcconf.DHCPZone {
	at := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n), last}) }
	return svcconf.DHCPZone{
		Zone: fmt.Sprintf("zone%d", n), Link: fmt.Sprintf("port%d", n),
		Address: netip.PrefixFrom(at(1), 24), First: at(100), Last: at(199),
		Lease: svcconf.Duration(lease), Router: at(1), Resolvers: []netip.Addr{at(1)}, Domain: "home.arpa",
	}
}

// attach joins a zone's link in the gateway to a new client's "eth0".
func attach(t testing.TB, gateway int, z svcconf.DHCPZone) (client int) {
	t.Helper()
	client = nstest.New(t)
	nstest.Veth(t, gateway, z.Link, client, "eth0")
	nstest.Exec(t, gateway, "ip", "addr", "add", z.Address.String(), "dev", z.Link)
	return client
}

// script is what the clients call to set their link up. It touches nothing else.
func script(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	lines := `#!/bin/sh
case "${reason:-$1}" in
MEDIUM|PREINIT|ARPCHECK|ARPSEND) ip link set "$interface" up ;;
BOUND|RENEW|REBIND|REBOOT|bound|renew)
	ip addr replace "${new_ip_address:-$ip}/24" dev "$interface"
	ip route replace default via "${new_routers:-$router}" ;;
EXPIRE|FAIL|RELEASE|STOP|deconfig) ip addr flush dev "$interface" ;;
esac
exit 0
`
	if err := os.WriteFile(path, []byte(lines), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// client starts a client program; the test ends it.
func client(t testing.TB, ns int, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	out := new(nstest.Output)
	cmd.Stdout, cmd.Stderr = out, out
	var err error
	nstest.Run(t, ns, func() { err = cmd.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", program, out)
		}
	})
	return cmd
}

// hasAddress reports whether a client's link has an address of the subnet.
func hasAddress(t testing.TB, ns int, subnet string) bool {
	return strings.Contains(nstest.Exec(t, ns, "ip", "-4", "addr", "show", "dev", "eth0"), "inet "+subnet)
}

func TestRealClients(t *testing.T) {
	gateway := nstest.New(t)
	z := zoneOn(1, 4*time.Second)
	dir, sh := t.TempDir(), ""
	clients := map[string]struct {
		start   func(ns int) *exec.Cmd
		release func(ns int, c *exec.Cmd)
	}{
		"dhclient": {
			func(ns int) *exec.Cmd {
				return client(t, ns, "dhclient", "-d", "-sf", sh, "-lf", dir+"/leases", "-pf", dir+"/pid", "eth0")
			},
			func(ns int, c *exec.Cmd) {
				nstest.Exec(t, ns, "dhclient", "-r", "-sf", sh, "-lf", dir+"/leases", "-pf", dir+"/pid", "eth0")
			},
		},
		"udhcpc": {
			func(ns int) *exec.Cmd {
				return client(t, ns, "udhcpc", "-f", "-i", "eth0", "-s", sh, "-x", "hostname:Kettle", "-R")
			},
			func(_ int, c *exec.Cmd) { c.Process.Signal(syscall.SIGTERM) },
		},
	}
	sh = script(t)
	ns := attach(t, gateway, z)
	d := startDaemon(t, gateway, svcconf.DHCP{Zones: []svcconf.DHCPZone{z}})
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			cmd := c.start(ns)
			waitFor(t, "an address", func() bool { return hasAddress(t, ns, "10.0.1.1") })
			var first svcconf.Lease
			waitFor(t, "the lease to be published", func() bool {
				first = d.lease(ns)
				return first.Zone == "zone1"
			})
			if name == "udhcpc" && first.Hostname != "kettle" {
				t.Errorf("published as %q, want kettle", first.Hostname)
			}
			waitFor(t, "two renewals", func() bool {
				now := d.lease(ns)
				return now.Address == first.Address && now.Granted.Sub(first.Granted) >= 4*time.Second
			})
			c.release(ns, cmd)
			waitFor(t, "the release", func() bool { return d.lease(ns).Zone == "" })
			nstest.Exec(t, ns, "ip", "addr", "flush", "dev", "eth0")
		})
	}
	if code := d.stop(syscall.SIGTERM); code != 143 {
		t.Errorf("exit code %d after SIGTERM, want 143", code)
	}
}

// TestSeveralZones serves two zones and a third whose link comes later, goes, and
// comes again.
func TestSeveralZones(t *testing.T) {
	gateway, sh := nstest.New(t), script(t)
	zones := []svcconf.DHCPZone{zoneOn(1, time.Hour), zoneOn(2, time.Hour), zoneOn(3, time.Hour)}
	a, b := attach(t, gateway, zones[0]), attach(t, gateway, zones[1])
	d := startDaemon(t, gateway, svcconf.DHCP{Zones: zones})
	join := func(ns int, subnet string) {
		t.Helper()
		client(t, ns, "udhcpc", "-f", "-i", "eth0", "-s", sh, "-T", "1", "-t", "30")
		waitFor(t, "an address in "+subnet, func() bool { return hasAddress(t, ns, subnet) })
	}
	join(b, "10.0.2.")
	join(a, "10.0.1.")
	for range 2 {
		c := attach(t, gateway, zones[2])
		join(c, "10.0.3.")
		nstest.Exec(t, gateway, "ip", "link", "del", zones[2].Link)
	}

	// A reload: a zone goes, another one's pool moves; those who are there stay.
	zones[1].First = netip.MustParseAddr("10.0.2.150")
	d.configure(svcconf.DHCP{Zones: zones[:2]})
	waitFor(t, "two zones' leases", func() bool { return published(d.runDir()) == 2 })
	p := newPeer(t, b, "0.0.0.0:68").ask(t, discoverFor(1))
	if got := addrFrom(p.YourIPAddr); got != zones[1].First {
		t.Errorf("offered %s in zone2, want the first of the new pool", got)
	}
}

// peer is a hand-made client or relay.
type peer struct {
	conn   net.PacketConn
	server net.Addr
}

// newPeer opens a UDP socket on a namespace's eth0.
func newPeer(t testing.TB, ns int, local string) *peer {
	t.Helper()
	p := &peer{server: &net.UDPAddr{IP: net.IPv4bcast, Port: serverPort}}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.BindToDevice(int(fd), "eth0") })
	}}
	nstest.Run(t, ns, func() {
		var err error
		if p.conn, err = lc.ListenPacket(context.Background(), "udp4", local); err != nil {
			t.Error(err)
		}
	})
	if p.conn == nil {
		t.FailNow()
	}
	t.Cleanup(func() { p.conn.Close() })
	return p
}

// ask sends a message until it is answered.
func (p *peer) ask(t testing.TB, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	t.Helper()
	buf := make([]byte, 2048)
	for range 60 {
		p.tell(t, m)
		p.conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		for {
			n, _, err := p.conn.ReadFrom(buf)
			if err != nil {
				break // again
			}
			if r, err := dhcpv4.FromBytes(buf[:n]); err == nil && r.TransactionID == m.TransactionID {
				return r
			}
		}
	}
	t.Fatalf("no answer to %s", m.MessageType())
	return nil
}

func (p *peer) tell(t testing.TB, m *dhcpv4.DHCPv4) {
	t.Helper()
	if _, err := p.conn.WriteTo(m.ToBytes(), p.server); err != nil {
		t.Fatal(err)
	}
}

func compose(n int, kind dhcpv4.MessageType, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{
		dhcpv4.WithHwAddr(net.HardwareAddr{2, 1, 0, byte(n >> 16), byte(n >> 8), byte(n)}),
		dhcpv4.WithMessageType(kind), dhcpv4.WithBroadcast(true),
	}, mods...)...)
	if err != nil {
		panic(err)
	}
	return m
}

func discoverFor(n int, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 { return compose(n, discover, mods...) }

func TestDeclinedAddressIsNotGivenAgain(t *testing.T) {
	gateway := nstest.New(t)
	z := zoneOn(1, time.Hour)
	z.Last = z.First.Next() // room for two
	ns := attach(t, gateway, z)
	d := startDaemon(t, gateway, svcconf.DHCP{Zones: []svcconf.DHCPZone{z}})
	p := newPeer(t, ns, "0.0.0.0:68")

	first := addrFrom(p.ask(t, discoverFor(1)).YourIPAddr)
	me := server(z.Router.String())
	if r := p.ask(t, compose(1, request, wanted(first.String()), me)); r.MessageType() != ack {
		t.Fatalf("got %s", r.MessageType())
	}
	p.tell(t, compose(1, decline, wanted(first.String()), me))
	waitFor(t, "the lease to go", func() bool { return published(d.runDir()) == 0 })
	waitFor(t, "a line in the log", func() bool { return strings.Contains(d.log.String(), first.String()) })
	// A restart does not forget it either.
	d.stop(syscall.SIGKILL)
	d.start()
	if got := addrFrom(p.ask(t, discoverFor(2, wanted(first.String()))).YourIPAddr); got == first {
		t.Errorf("offered %s", got)
	}
}

// TestKilledServerKeepsEveryLease has a relay ask for addresses as fast as it can
// while the server is killed again and again. Every client that got an ACK has its
// address afterwards, and nobody else has.
// TestLeaseIsExtendedByBroadcast is a client in state REBINDING: it names no server,
// has its address in ciaddr and asks everybody. RFC 2131 section 4.4.5.
func TestLeaseIsExtendedByBroadcast(t *testing.T) {
	gateway := nstest.New(t)
	z := zoneOn(1, time.Hour)
	ns := attach(t, gateway, z)
	d := startDaemon(t, gateway, svcconf.DHCP{Zones: []svcconf.DHCPZone{z}})
	p := newPeer(t, ns, "0.0.0.0:68")
	mine := addrFrom(p.ask(t, discoverFor(1)).YourIPAddr)
	if r := p.ask(t, compose(1, request, wanted(mine.String()), server(z.Router.String()))); r.MessageType() != ack {
		t.Fatalf("got %s", r.MessageType())
	}
	waitFor(t, "the lease", func() bool { return published(d.runDir()) == 1 })
	before := leasesIn(d.runDir()).Leases[0].Expires
	nstest.Exec(t, ns, "ip", "addr", "add", fmt.Sprintf("%s/%d", mine, z.Address.Bits()), "dev", "eth0")
	waitFor(t, "the lease to be longer", func() bool { // times are in whole seconds
		r := p.ask(t, compose(1, request, ciaddr(mine.String())))
		if r.MessageType() != ack || addrFrom(r.YourIPAddr) != mine {
			t.Fatalf("got %s for %s, want an ACK for %s", r.MessageType(), r.YourIPAddr, mine)
		}
		return leasesIn(d.runDir()).Leases[0].Expires.After(before)
	})
}

func TestKilledServerKeepsEveryLease(t *testing.T) {
	gateway := nstest.New(t)
	z := zoneOn(1, time.Hour)
	z.Address = netip.MustParsePrefix("10.0.0.1/16")
	z.Router = z.Address.Addr()
	z.First, z.Last = netip.MustParseAddr("10.0.8.0"), netip.MustParseAddr("10.0.255.0")
	ns := attach(t, gateway, z)
	nstest.Exec(t, ns, "ip", "addr", "add", "10.0.0.2/16", "dev", "eth0")
	d := startDaemon(t, gateway, svcconf.DHCP{Zones: []svcconf.DHCPZone{z}})

	relay := newPeer(t, ns, "10.0.0.2:67")
	relay.server = &net.UDPAddr{IP: z.Router.AsSlice(), Port: serverPort}
	agent := mods(giaddr("10.0.0.2"), server(z.Router.String()))
	relay.ask(t, discoverFor(0, agent[0])) // it is up

	acked := make(map[netip.Addr]int)
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() { relay.flood(t, agent, acked, stop) })
	for range 5 {
		size := published(d.runDir())
		waitFor(t, "more leases", func() bool { return published(d.runDir()) > size+200 })
		d.stop(syscall.SIGKILL)
		d.start()
	}
	close(stop)
	load.Wait()
	d.stop(syscall.SIGKILL)
	d.start()

	t.Logf("%d leases were acknowledged", len(acked))
	past := d.history(model.MAC{})
	if n := len(past.Leases) + past.Older; n < min(len(acked), history.Devices) {
		t.Errorf("the history has %d leases", n)
	}
	for _, l := range past.Leases {
		who := int(l.MAC[3])<<16 | int(l.MAC[4])<<8 | int(l.MAC[5])
		if n, ok := acked[l.Address]; ok && n != who {
			t.Errorf("the history says that %s is client %d's, and it is %d's", l.Address, who, n)
		}
		if n := len(d.history(l.MAC).Leases); n != 1 {
			t.Fatalf("client %d is in the history %d times", who, n)
		}
	}
	next := 1 << 20
	checked := 0
	for a, n := range acked {
		if checked++; checked > 500 {
			break
		}
		if r := relay.ask(t, compose(next, request, wanted(a.String()), agent[0])); r.MessageType() != nak {
			t.Errorf("%s, which is client %d's, was acknowledged to another", a, n)
		}
		if r := relay.ask(t, compose(n, request, wanted(a.String()), agent[0])); r.MessageType() != ack {
			t.Errorf("client %d lost %s: %s", n, a, r.MessageType())
		}
		next++
	}
}

// flood asks for an address for one client after another, many at a time, and notes
// who got which. It does not wait for those whose packets the dead server lost.
func (p *peer) flood(t testing.TB, agent []dhcpv4.Modifier, acked map[netip.Addr]int, stop chan struct{}) {
	buf := make([]byte, 2048)
	for n := 1; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		p.conn.WriteTo(discoverFor(n, agent[0]).ToBytes(), p.server)
		p.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		for {
			size, _, err := p.conn.ReadFrom(buf)
			if err != nil {
				break
			}
			r, err := dhcpv4.FromBytes(buf[:size])
			if err != nil {
				t.Error(err)
				return
			}
			h, a := r.ClientHWAddr, addrFrom(r.YourIPAddr)
			who := int(h[3])<<16 | int(h[4])<<8 | int(h[5])
			switch r.MessageType() {
			case offer:
				p.conn.WriteTo(compose(who, request, append(agent, wanted(a.String()))...).ToBytes(), p.server)
			case ack:
				if other, ok := acked[a]; ok && other != who {
					t.Errorf("%s was given to client %d and to client %d", a, other, who)
				}
				acked[a] = who
			}
		}
	}
}
