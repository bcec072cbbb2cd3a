package dns

import (
	"bufio"
	"encoding/json"
	"errors"
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

	"github.com/miekg/dns"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/svcconf"
)

// daemon is the real dnsd in a network namespace, and clients around it.
type daemon struct {
	run             string // directory
	box, iot, guest int    // namespaces
	cmd             *exec.Cmd
	log             *nstest.Output
}

// program is one of our programs as make builds it, or built now.
func program(t *testing.T, name string) string {
	t.Helper()
	if dir := os.Getenv("BULKHEAD_BIN"); dir != "" {
		return filepath.Join(dir, name)
	}
	path := filepath.Join(openDir(t), name)
	if out, err := exec.Command("go", "build", "-o", path, "bulkhead/cmd/"+name).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// openDir is a directory that dnsd, who is not us, may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startDaemon starts dnsd before there is anything: no links, no addresses, no
// configuration.
func startDaemon(t *testing.T) *daemon {
	t.Helper()
	d := &daemon{box: nstest.New(t), iot: nstest.New(t), guest: nstest.New(t), run: openDir(t), log: new(nstest.Output)}
	bin := program(t, "dnsd")
	nstest.Run(t, d.box, func() {
		d.cmd = exec.Command(bin, "-run", d.run, "-state", d.run)
		d.cmd.Stderr = d.log
		if err := d.cmd.Start(); err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() {
		d.cmd.Process.Signal(syscall.SIGTERM)
		err := d.cmd.Wait()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 143 {
			t.Errorf("dnsd ended with %v, want exit code 143", err)
		}
		if t.Failed() {
			t.Logf("dnsd said:\n%s", d.log)
		}
	})
	return d
}

// zone makes a link between the box and a client, whose addresses end in 1 and 12.
func (d *daemon) zone(t *testing.T, name string, ns, third int) {
	t.Helper()
	nstest.Veth(t, d.box, name, ns, "eth0")
	nstest.Exec(t, d.box, "ip", "address", "add", fmt.Sprintf("192.168.%d.1/24", third), "dev", name)
	nstest.Exec(t, ns, "ip", "address", "add", fmt.Sprintf("192.168.%d.12/24", third), "dev", "eth0")
	nstest.Exec(t, ns, "ip", "route", "add", "default", "via", fmt.Sprintf("192.168.%d.1", third))
}

// write replaces a file below the run directory as the other services do.
func (d *daemon) write(t *testing.T, name string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.run, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// dig asks in namespace ns, with dig's own arguments, and returns its output.
func (d *daemon) dig(t *testing.T, ns int, args string) string {
	t.Helper()
	return strings.TrimSpace(nstest.Exec(t, ns, "dig", append([]string{"+tries=1", "+timeout=5"}, strings.Fields(args)...)...))
}

// ask asks in namespace ns and returns the reply in one line, or an error.
func (d *daemon) ask(t *testing.T, ns int, network, server, name string) (s string) {
	t.Helper()
	nstest.Run(t, ns, func() {
		c := &dns.Client{Net: network, Timeout: time.Second}
		r, _, err := c.Exchange(query(name, dns.TypeA), server+":53")
		if err != nil {
			s = err.Error()
			return
		}
		s = show(t, packed(t, r))
	})
	return s
}

func (d *daemon) config(resolver netip.AddrPort) svcconf.DNS {
	cfg, _ := house()
	cfg.Zones = cfg.Zones[1:3] // iot and guest
	cfg.Resolvers = []model.Resolver{{Addr: resolver}}
	return cfg
}

const nas = "NOERROR aa; nas.home.arpa. 60 IN A 192.168.30.10"

func TestDigGetsAnswers(t *testing.T) {
	d := startDaemon(t)
	nstest.Exec(t, d.box, "ip", "link", "set", "lo", "up")
	var up *fake
	nstest.Run(t, d.box, func() {
		up = newFake(t, func(q *dns.Msg, tcp bool) [][]byte {
			r := address(t, q, "192.0.2.1")
			if strings.HasPrefix(strings.ToLower(q.Question[0].Name), "big.") {
				for range 99 {
					r.Answer = append(r.Answer, r.Answer[0])
				}
				if r.Truncated = !tcp; r.Truncated {
					r.Answer = nil
				}
			}
			return sends(t, r)
		})
	})
	d.write(t, "dnsd/config.json", d.config(up.addr))
	// Links and addresses come last: order does not exist.
	d.zone(t, "iot", d.iot, 40)
	d.zone(t, "guest", d.guest, 50)
	waitFor(t, "dnsd", func() bool {
		return d.ask(t, d.iot, "udp", "192.168.40.1", "nas.home.arpa") == nas &&
			d.ask(t, d.guest, "udp", "192.168.50.1", "nas.home.arpa") == nas
	})

	// A neighbour whose source address is not the zone's.
	nstest.Exec(t, d.iot, "ip", "address", "add", "10.9.9.9/32", "dev", "eth0")
	nstest.Exec(t, d.box, "ip", "route", "add", "10.9.9.9/32", "dev", "iot")

	for _, tt := range []struct {
		ns         int
		args, want string // want: a part of the output
	}{
		{d.iot, "+short @192.168.40.1 nas.home.arpa", "192.168.30.10"},
		{d.iot, "+short +tcp @192.168.40.1 nas.home.arpa", "192.168.30.10"},
		{d.iot, "+short @192.168.40.1 gw.home.arpa", "192.168.40.1"},
		{d.guest, "+short @192.168.50.1 gw.home.arpa", "192.168.50.1"},
		{d.iot, "+short @192.168.40.1 -x 192.168.30.10", "nas.home.arpa."},
		{d.iot, "@192.168.40.1 -x 192.168.30.11", "status: NXDOMAIN"},
		{d.iot, "@192.168.40.1 nosuch.home.arpa", "status: NXDOMAIN"},
		{d.iot, "@192.168.40.1 nas.home.arpa AAAA", "SOA\tgw.home.arpa. nobody.invalid."},
		{d.iot, "+noedns @192.168.40.1 nas.home.arpa", "flags: qr aa rd ra; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 0"},
		{d.iot, "+bufsize=4096 +dnssec @192.168.40.1 nas.home.arpa", "EDNS: version: 0, flags: do; udp: 1232"},
		{d.iot, "+edns=1 +noednsneg @192.168.40.1 nas.home.arpa", "status: BADVERS"},
		{d.iot, "+short @192.168.40.1 a.example", "192.0.2.1"},
		{d.iot, "+tcp @192.168.40.1 b.example", "192.0.2.1"},
		{d.iot, "@192.168.40.1 big.example", "ANSWER: 100"}, // by TCP, as TC says
		{d.iot, "+ignore @192.168.40.1 big.example", "flags: qr tc rd ra; QUERY: 1, ANSWER: 0"},
		{d.iot, "@192.168.40.1 a.example ANY", "RFC8482"},
		{d.iot, "@192.168.40.1 home.arpa AXFR", "Transfer failed"},
		{d.iot, "@192.168.40.1 version.bind CH TXT", "status: REFUSED"},
		{d.iot, "+opcode=notify @192.168.40.1 home.arpa", "status: NOTIMP"},
		{d.iot, "+norecurse @192.168.40.1 a.example", "status: REFUSED"},
		{d.iot, "-b 10.9.9.9 @192.168.40.1 nas.home.arpa", "status: REFUSED"},
		{d.iot, "-b 10.9.9.9 +tcp @192.168.40.1 nas.home.arpa", "status: REFUSED"},
	} {
		if got := d.dig(t, tt.ns, tt.args); !strings.Contains(got, tt.want) {
			t.Errorf("dig %s: want %q in\n%s", tt.args, tt.want, got)
		}
	}
	// Another zone's resolver does not even hear us.
	for _, network := range []string{"udp", "tcp"} {
		if got := d.ask(t, d.guest, network, "192.168.40.1", "nas.home.arpa"); !strings.Contains(got, "refused") {
			t.Errorf("from another zone by %s: got %q", network, got)
		}
	}
	d.checkRights(t)
}

// checkRights looks at what the kernel lets dnsd do.
func (d *daemon) checkRights(t *testing.T) {
	t.Helper()
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close()
	want := map[string]string{
		"Uid": "7104 7104 7104 7104", "Gid": "7104 7104 7104 7104", "NoNewPrivs": "1",
		"CapEff": "0000000000000400", "CapPrm": "0000000000000400", "CapBnd": "0000000000000400",
	}
	for lines := bufio.NewScanner(status); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		if w, ok := want[key]; ok && strings.Join(strings.Fields(value), " ") != w {
			t.Errorf("%s is %s, want %s", key, value, w)
		}
	}
}

func TestLeaseAppearsWhileDnsdRuns(t *testing.T) {
	d := startDaemon(t)
	d.zone(t, "iot", d.iot, 40)
	d.write(t, "dhcpd/leases.json", svcconf.Leases{})
	d.write(t, "dnsd/config.json", d.config(dead(t)))
	waitFor(t, "dnsd", func() bool { return d.ask(t, d.iot, "udp", "192.168.40.1", "nas.home.arpa") == nas })
	for i := range 3 {
		name := fmt.Sprintf("laptop%d", i)
		d.write(t, "dhcpd/leases.json", svcconf.Leases{Leases: []svcconf.Lease{{
			Zone: "iot", Address: netip.MustParseAddr("192.168.40.100"), Hostname: name,
			Granted: time.Now(), Expires: time.Now().Add(time.Hour),
		}}})
		begun := time.Now()
		want := fmt.Sprintf("NOERROR aa; %s.home.arpa. 60 IN A 192.168.40.100", name)
		waitFor(t, name+"'s address", func() bool { return d.ask(t, d.iot, "udp", "192.168.40.1", name+".home.arpa") == want })
		t.Logf("%s has its address after %v", name, time.Since(begun).Round(time.Millisecond))
		if got := d.dig(t, d.iot, "+short @192.168.40.1 -x 192.168.40.100"); got != name+".home.arpa." {
			t.Errorf("the way back leads to %q", got)
		}
	}
}

func TestLinkMadeAnewIsListenedOn(t *testing.T) {
	d := startDaemon(t)
	cfg := d.config(dead(t))
	cfg.Notices = []svcconf.Notice{{Zone: "iot", Link: "iot", Address: netip.MustParseAddr("192.168.40.1")}}
	d.write(t, "dnsd/config.json", cfg)
	for range 2 {
		d.zone(t, "iot", d.iot, 40)
		for _, network := range []string{"udp", "tcp"} {
			waitFor(t, "dnsd", func() bool { return d.ask(t, d.iot, network, "192.168.40.1", "nas.home.arpa") == nas })
		}
		waitFor(t, "the page for isolated machines", func() (ok bool) {
			nstest.Run(t, d.iot, func() {
				dialer := net.Dialer{Timeout: time.Second}
				c, err := dialer.Dial("tcp4", fmt.Sprintf("192.168.40.1:%d", svcconf.NoticeHTTP))
				if ok = err == nil; ok {
					c.Close()
				}
			})
			return ok
		})
		nstest.Exec(t, d.box, "ip", "link", "delete", "iot")
	}
}

// TestReloadUnderLoadLosesNoQuery asks without pause while netcfgd's file changes and
// another zone comes and goes.
func TestReloadUnderLoadLosesNoQuery(t *testing.T) {
	d := startDaemon(t)
	d.zone(t, "iot", d.iot, 40)
	cfg := d.config(dead(t))
	d.write(t, "dnsd/config.json", cfg)
	waitFor(t, "dnsd", func() bool { return d.ask(t, d.iot, "udp", "192.168.40.1", "nas.home.arpa") == nas })
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, network := range []string{"udp", "tcp"} {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					t.Logf("%d queries by %s", n, network)
					return
				default:
				}
				if got := d.ask(t, d.iot, network, "192.168.40.1", "nas.home.arpa"); got != nas {
					t.Errorf("%s: got %q", network, got)
					return
				}
			}
		})
	}
	for i := range 30 {
		cfg.Hosts = append(cfg.Hosts[:2:2], svcconf.Host{Name: fmt.Sprintf("new%d", i), Address: netip.MustParseAddr("192.168.40.77")})
		if i%2 == 0 {
			cfg.Zones = cfg.Zones[:1] // guest comes and goes
		} else {
			cfg.Zones = cfg.Zones[:2]
		}
		d.write(t, "dnsd/config.json", cfg)
		want := fmt.Sprintf("NOERROR aa; new%d.home.arpa. 60 IN A 192.168.40.77", i)
		waitFor(t, "the new configuration", func() bool {
			return d.ask(t, d.iot, "udp", "192.168.40.1", fmt.Sprintf("new%d.home.arpa", i)) == want
		})
	}
	close(stop)
	wg.Wait()
}
