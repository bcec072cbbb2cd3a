//go:build linux

package wan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
	"github.com/insomniacslk/dhcp/dhcpv4/server4"

	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/svcconf"
)

// patience is how long a condition may take to come true on a busy machine.
const patience = 60 * time.Second

// site is a gateway whose interface "wan" leads to a provider's "isp" at
// 192.0.2.1/24. The daemon of the gateway is the real binary, with its own user.
type site struct {
	t        *testing.T
	gateway  int // network namespaces
	provider int
	run      string // directories
	state    string
	wand     *exec.Cmd
	log      *nstest.Output
}

// newSite builds the site and starts nothing but a stand-in for netcfgd.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, gateway: nstest.New(t), provider: nstest.New(t), log: new(nstest.Output)}
	nstest.Veth(t, s.gateway, "wan", s.provider, "isp")
	s.ip(s.provider, "addr add 192.0.2.1/24 dev isp")
	base, err := os.MkdirTemp("", "wand") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	s.run, s.state = filepath.Join(base, "run"), filepath.Join(base, "state")
	s.configure(svcconf.WAN{Link: "wan", Mode: model.ModeDHCP, Hostname: "gw"})
	s.standIn()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of wand:\n%s", s.log)
		}
	})
	return s
}

func (s *site) ip(ns int, args string) {
	s.t.Helper()
	nstest.Exec(s.t, ns, "ip", strings.Fields(args)...)
}

func (s *site) configure(c svcconf.WAN) {
	s.t.Helper()
	data, err := json.Marshal(c)
	path := filepath.Join(s.run, "wand", svcconf.ConfigFile)
	for _, do := range []func() error{
		func() error { return err },
		func() error { return os.MkdirAll(filepath.Dir(path), 0o755) },
		func() error { return os.WriteFile(path+".new", data, 0o644) },
		func() error { return os.Rename(path+".new", path) },
	} {
		if err := do(); err != nil {
			s.t.Fatal(err)
		}
	}
}

// standIn does netcfgd's part: the leased address, and no other, on the interface.
func (s *site) standIn() {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var has string
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
			}
			var want string
			if l := s.uplink(); l != nil {
				want = l.Address.String()
			}
			if want == has {
				continue
			}
			s.ip(s.gateway, "addr flush dev wan")
			if want != "" {
				s.ip(s.gateway, "addr add "+want+" dev wan")
			}
			has = want
		}
	}()
	s.t.Cleanup(func() { close(stop); <-done })
}

// scratch is where the daemon is built to, once for all tests.
var scratch string

var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "wand")
	out, err := exec.Command("go", "build", "-o", path, "bulkhead/cmd/wand").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build wand: %w\n%s", err, out)
	}
	return path, err
})

func TestMain(m *testing.M) {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // servers are not for everybody
	var err error
	if scratch, err = os.MkdirTemp("", "wand-binary"); err == nil {
		err = os.Chmod(scratch, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

func (s *site) start() {
	s.t.Helper()
	path, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	s.wand = s.spawn(s.gateway, s.log, path, "-run", s.run, "-state", s.state)
}

// spawn starts a program that is killed at the end of the test.
func (s *site) spawn(ns int, out *nstest.Output, name string, args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	nstest.Run(s.t, ns, func() {
		if err := cmd.Start(); err != nil {
			s.t.Fatal(err)
		}
	})
	s.t.Cleanup(func() { kill(cmd, syscall.SIGKILL) })
	return cmd
}

// kill ends a program and waits for it. A second time does nothing.
func kill(cmd *exec.Cmd, sig syscall.Signal) int {
	if cmd.ProcessState == nil {
		cmd.Process.Signal(sig)
		cmd.Wait()
	}
	return cmd.ProcessState.ExitCode()
}

// uplink returns the lease in force, or nil.
func (s *site) uplink() *facts.Lease {
	return readFile[facts.Lease](s.t, filepath.Join(s.run, "wand", svcconf.UplinkFile))
}

func (s *site) status() svcconf.WANStatus {
	if st := readFile[svcconf.WANStatus](s.t, filepath.Join(s.run, "wand", svcconf.StatusFile)); st != nil {
		return *st
	}
	return svcconf.WANStatus{}
}

func readFile[T any](t *testing.T, path string) *T {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	v := new(T)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		t.Errorf("read %s: %v", path, err)
	}
	return v
}

// until waits for a condition.
func (s *site) until(what string, cond func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			s.t.Fatalf("never: %s; uplink %+v, status %+v", what, s.uplink(), s.status())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *site) untilState(state string) {
	s.t.Helper()
	s.until("state "+state, func() bool { return s.status().State == state })
}

func (s *site) untilUplink(subnet string) *facts.Lease {
	s.t.Helper()
	var l *facts.Lease
	s.until("address in "+subnet, func() bool {
		l = s.uplink()
		return l != nil && netip.MustParsePrefix(subnet).Contains(l.Address.Addr())
	})
	return l
}

func (s *site) untilNoUplink() {
	s.t.Helper()
	s.until("no uplink", func() bool { return s.uplink() == nil })
}

// need ends a test without a program that it needs.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("BULKHEAD_NEED_ROOT") != "" {
		t.Fatalf("needs %s: run make deps", program)
	}
	t.Skipf("needs %s", program)
}

// server is a real DHCP server for 192.0.2.0/24. It gives out .100 to .150.
type server func(*testing.T, *site) *exec.Cmd

// dnsmasq gives leases of two minutes, its minimum.
func dnsmasq(t *testing.T, s *site) *exec.Cmd { return dnsmasqFor(t, s, "192.0.2") }

func dnsmasqFor(t *testing.T, s *site, net string) *exec.Cmd {
	need(t, "dnsmasq")
	return s.spawn(s.provider, new(nstest.Output), "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0",
		"--user=root", "--interface=isp", "--bind-interfaces", "--dhcp-authoritative", "--no-ping", "--pid-file=",
		"--dhcp-range="+net+".100,"+net+".150,2m", "--dhcp-option=option:dns-server,"+net+".53,9.9.9.9",
		"--dhcp-option=option:mtu,1492", "--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"))
}

// udhcpd gives leases of 12 seconds.
func udhcpd(t *testing.T, s *site) *exec.Cmd {
	need(t, "udhcpd")
	dir := t.TempDir()
	conf := write(t, dir, "udhcpd.conf", fmt.Sprintf(`start 192.0.2.100
end 192.0.2.150
interface isp
min_lease 5
lease_file %s/leases
pidfile %s/pid
option lease 12
option subnet 255.255.255.0
option router 192.0.2.1
option dns 192.0.2.53 9.9.9.9
option mtu 1492
`, dir, dir))
	write(t, dir, "leases", "")
	return s.spawn(s.provider, new(nstest.Output), "udhcpd", "-f", conf)
}

// kea gives leases of 12 seconds and wants them renewed after 5.
func kea(t *testing.T, s *site) *exec.Cmd {
	need(t, "kea-dhcp4")
	dir := t.TempDir()
	conf := write(t, dir, "kea.json", `{"Dhcp4": {
		"interfaces-config": {"interfaces": ["isp"], "dhcp-socket-type": "raw"},
		"lease-database": {"type": "memfile", "persist": false},
		"valid-lifetime": 12, "renew-timer": 5, "rebind-timer": 9, "authoritative": true,
		"subnet4": [{"subnet": "192.0.2.0/24", "id": 1, "pools": [{"pool": "192.0.2.100 - 192.0.2.150"}],
			"option-data": [
				{"name": "routers", "data": "192.0.2.1"},
				{"name": "domain-name-servers", "data": "192.0.2.53, 9.9.9.9"},
				{"name": "interface-mtu", "data": "1492"}]}],
		"loggers": [{"name": "kea-dhcp4", "output_options": [{"output": "stderr"}], "severity": "WARN"}]}}`)
	out := new(nstest.Output)
	cmd := s.spawn(s.provider, out, "env", "KEA_PIDFILE_DIR="+dir, "KEA_LOCKFILE_DIR="+dir, "kea-dhcp4", "-c", conf)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of kea:\n%s", out)
		}
	})
	return cmd
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRealServers(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]server{"dnsmasq": dnsmasq, "udhcpd": udhcpd, "kea": kea} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			server := serve(t, s)
			s.start()
			l := s.untilUplink("192.0.2.0/24")
			got := fmt.Sprint(l.Link, l.Address.Bits(), l.Gateway, l.Resolvers, l.MTU, l.Server)
			if want := "wan24 192.0.2.1 [192.0.2.53 9.9.9.9] 1492 192.0.2.1"; got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
			s.untilState("bound")

			// A restart by the supervisor asks for the same address.
			if code := kill(s.wand, syscall.SIGTERM); code != 143 {
				t.Errorf("exit code %d on SIGTERM, want 143", code)
			}
			s.start()
			s.untilState("bound")
			if again := s.uplink(); again == nil || again.Address != l.Address {
				t.Errorf("after a restart %+v, want %s", again, l.Address)
			}
			if name == "dnsmasq" {
				return // two minutes are too long for what follows
			}
			renewed := func(l *facts.Lease) *facts.Lease {
				s.until("renewal", func() bool { n := s.uplink(); return n != nil && n.Expires.After(l.Expires) })
				return s.uplink()
			}
			for range 2 {
				l = renewed(l)
			}
			if e := s.status().LastError; e != "" {
				t.Errorf("renewed, but: %s", e)
			}
			kill(server, syscall.SIGKILL)
			s.untilState("rebinding")
			if s.uplink() == nil {
				t.Error("no uplink while rebinding")
			}
			s.untilNoUplink()
			if now := time.Now(); now.Before(l.Expires.Add(-time.Second)) {
				t.Errorf("withdrawn at %s, a lease until %s", now, l.Expires)
			}
			serve(t, s)
			s.untilUplink("192.0.2.0/24")
		})
	}
}

func TestRunsAsItsOwnUser(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start()
	s.untilState("selecting")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.wand.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Uid:\t7101\t7101\t7101\t7101\n", "CapEff:\t0000000000002400\n", "CapBnd:\t0000000000002400\n", "NoNewPrivs:\t1\n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("%q is not in\n%s", want, status)
		}
	}
}

func TestRenumberedNetworkGivesAnotherAddress(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old := dnsmasq(t, s)
	s.start()
	s.untilUplink("192.0.2.0/24")
	kill(old, syscall.SIGTERM)
	s.ip(s.provider, "addr flush dev isp")
	s.ip(s.provider, "addr add 198.51.100.1/24 dev isp")
	dnsmasqFor(t, s, "198.51.100")
	s.ip(s.provider, "link set isp down")
	s.untilState("no carrier")
	if s.uplink() == nil {
		t.Error("the lease went with the carrier")
	}
	s.ip(s.provider, "link set isp up")
	s.untilUplink("198.51.100.0/24")
}

func TestLinkComesAndGoes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dnsmasq(t, s)
	s.ip(s.gateway, "link set wan down")
	s.start()
	s.untilState("no carrier")
	s.ip(s.gateway, "link set wan up")
	l := s.untilUplink("192.0.2.0/24")

	s.ip(s.provider, "link set isp down")
	s.untilState("no carrier")
	s.ip(s.provider, "link set isp up")
	s.untilState("bound")
	if again := s.uplink(); again == nil || again.Address != l.Address {
		t.Errorf("after a lost carrier %+v, want %s", again, l.Address)
	}

	s.ip(s.provider, "link del isp") // takes "wan" with it
	s.untilState("no link")
	nstest.Veth(t, s.gateway, "wan", s.provider, "isp") // with another MAC
	s.ip(s.provider, "addr add 192.0.2.1/24 dev isp")
	s.untilState("bound")
}

// watchUplink reports, when called, whether the uplink file was ever missing.
func (s *site) watchUplink() (missed func() bool) {
	stop, result := make(chan struct{}), make(chan bool, 1)
	go func() {
		missing := false
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				result <- missing
				return
			case <-tick.C:
				missing = missing || s.uplink() == nil
			}
		}
	}()
	return func() bool { close(stop); return <-result }
}

func TestKilledDaemonKeepsInternet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := dnsmasq(t, s)
	s.start()
	l := s.untilUplink("192.0.2.0/24")
	missed := s.watchUplink()
	for range 3 {
		kill(s.wand, syscall.SIGKILL)
		s.start()
		s.untilState("bound")
	}
	// The worst case: nobody there to say that the lease is still good.
	kill(server, syscall.SIGKILL)
	kill(s.wand, syscall.SIGKILL)
	s.start()
	s.untilState("selecting")
	if missed() {
		t.Error("the uplink file was gone for a while")
	}
	if now := s.uplink(); now == nil || now.Address != l.Address {
		t.Errorf("uplink %+v, want %s", now, l.Address)
	}
}

func TestStaticUplinkIsWrittenAndReplaced(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.configure(svcconf.WAN{Link: "wan", Mode: model.ModeStatic,
		Address: netip.MustParsePrefix("203.0.113.2/24"), Gateway: netip.MustParseAddr("203.0.113.1")})
	s.start()
	s.untilUplink("203.0.113.0/24")
	dnsmasq(t, s)
	s.configure(svcconf.WAN{Link: "wan", Mode: model.ModeDHCP})
	s.untilUplink("192.0.2.0/24")
	s.configure(svcconf.WAN{})
	s.untilNoUplink()
	s.untilState("off")
}

// script is a server whose answers a test writes itself.
type script struct {
	mu   sync.Mutex
	seen []string // messages, with their source if unicast
}

// serve answers messages on a link of the provider. reply returns an address and
// the kind of the answer, or no kind for none.
func (sc *script) serve(s *site, link string, reply func(*dhcpv4.DHCPv4) (string, dhcpv4.MessageType)) {
	s.t.Helper()
	handle := func(conn net.PacketConn, from net.Addr, m *dhcpv4.DHCPv4) {
		sc.mu.Lock()
		defer sc.mu.Unlock()
		line := m.MessageType().String()
		to := from.(*net.UDPAddr)
		if !to.IP.Equal(net.IPv4bcast) { // what server4 makes of 0.0.0.0
			line += " from " + to.IP.String()
		}
		sc.seen = append(sc.seen, line)
		addr, kind := reply(m)
		if kind == dhcpv4.MessageTypeNone {
			return
		}
		r, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind),
			dhcpv4.WithYourIP(net.ParseIP(addr)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
			dhcpv4.WithRouter(net.IP{192, 0, 2, 1}), dhcpv4.WithLeaseTime(12),
			dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IP{192, 0, 2, 1})))
		if err != nil {
			s.t.Error(err)
			return
		}
		if _, err := conn.WriteTo(r.ToBytes(), to); err != nil {
			s.t.Error(err)
		}
	}
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("the server saw %q", sc.seen)
		}
	})
	var srv *server4.Server
	nstest.Run(s.t, s.provider, func() {
		var err error
		if srv, err = server4.NewServer(link, &net.UDPAddr{Port: 67}, handle); err != nil {
			s.t.Fatal(err)
		}
	})
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve() }()
	s.t.Cleanup(func() { srv.Close(); <-done })
}

func (sc *script) saw(line string) bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for _, l := range sc.seen {
		if l == line {
			return true
		}
	}
	return false
}

// honest gives one address to everybody who asks.
func honest(m *dhcpv4.DHCPv4) (string, dhcpv4.MessageType) {
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return "192.0.2.100", dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		return "192.0.2.100", dhcpv4.MessageTypeAck
	}
	return "", dhcpv4.MessageTypeNone
}

func TestRenewsFromLeasedAddress(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	sc := new(script)
	sc.serve(s, "isp", honest)
	s.start()
	s.until("unicast renewal", func() bool { return sc.saw("REQUEST from 192.0.2.100") })
	s.untilState("bound")
}

func TestDeniedLeaseIsWithdrawn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	sc := new(script)
	sc.serve(s, "isp", func(m *dhcpv4.DHCPv4) (string, dhcpv4.MessageType) {
		if !m.ClientIPAddr.IsUnspecified() { // renewals only
			return "0.0.0.0", dhcpv4.MessageTypeNak
		}
		return honest(m)
	})
	s.start()
	s.untilUplink("192.0.2.0/24")
	s.until("denied", func() bool { return strings.Contains(s.log.String(), "192.0.2.1 denies 192.0.2.100") })
	s.untilUplink("192.0.2.0/24")
}

func TestAddressOfNeighbourIsDeclined(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	neighbour := nstest.New(t)
	nstest.Veth(t, neighbour, "eth0", s.provider, "port")
	s.ip(neighbour, "addr add 192.0.2.100/24 dev eth0")
	s.ip(s.provider, "addr flush dev isp")
	s.ip(s.provider, "link add br0 type bridge")
	s.ip(s.provider, "addr add 192.0.2.1/24 dev br0")
	for _, port := range []string{"isp", "port"} {
		s.ip(s.provider, "link set "+port+" master br0")
	}
	s.ip(s.provider, "link set br0 up")

	sc := new(script)
	sc.serve(s, "br0", func(m *dhcpv4.DHCPv4) (string, dhcpv4.MessageType) {
		_, kind := honest(m)
		for _, seen := range sc.seen { // locked by the caller
			if seen == "DECLINE" {
				return "192.0.2.101", kind
			}
		}
		return "192.0.2.100", kind
	})
	s.start()
	s.until("declined", func() bool { return sc.saw("DECLINE") })
	if l := s.untilUplink("192.0.2.0/24"); l.Address.Addr().String() != "192.0.2.101" {
		t.Errorf("took %s", l.Address)
	}
}

func TestFloodOfNonsenseChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	sc := new(script)
	sc.serve(s, "isp", honest)
	s.start()
	l := s.untilUplink("192.0.2.0/24")
	nstest.Run(t, s.provider, func() {
		c, err := net.ListenPacket("udp4", "192.0.2.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		to := &net.UDPAddr{IP: net.IP{192, 0, 2, 255}, Port: 68}
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1) })
		if err != nil {
			t.Fatal(err)
		}
		junk := bytes.Repeat([]byte{2, 1, 6, 0}, 300)
		for i := range 20_000 {
			if _, err := c.WriteTo(junk[:i%len(junk)], to); err != nil {
				t.Fatal(err)
			}
		}
	})
	s.until("renewal under a flood", func() bool { n := s.uplink(); return n != nil && n.Expires.After(l.Expires) })
}
