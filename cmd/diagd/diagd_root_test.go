//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	netcfg "bulkhead/netcfg/api"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/reconcile"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/diag/api"
	"bulkhead/services/run"
	"bulkhead/services/sock"
)

// asDaemon makes the test binary the daemon in its value.
const asDaemon = "BULKHEAD_TEST_DAEMON"

func TestMain(m *testing.M) {
	switch os.Getenv(asDaemon) {
	case "diagd":
		main()
	case "netcfgd":
		dirs := run.Flags(flag.CommandLine)
		flag.Parse()
		log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("svc", "netcfgd")
		log.Error("ended", "err", reconcile.Serve(context.Background(), log, reconcile.Paths{Run: dirs.Run, State: dirs.State}))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// The box and where others are: a client in a zone, and a server three hops away.
const (
	tv     = "192.168.20.5"
	server = "198.51.100.9"

	home = `
system: {name: gw, domain: home.arpa, timezone: Europe/Berlin}
ports:
  wan: {mac: "52:54:00:10:00:02"}
  lan: {mac: "52:54:00:10:00:03"}
internet: {port: wan, ipv4: {address: 203.0.113.2/24, gateway: 203.0.113.1, resolvers: [203.0.113.1]}}
zones:
  media: {port: lan, subnet: 192.168.20.0/24, admin: true}
`
)

// box is a gateway with a real netcfgd and diagd: its ruleset is in force.
type box struct {
	t          *testing.T
	dir        string
	gw, client int // namespaces
	http       http.Client
	log        nstest.Output
	diagd      *exec.Cmd
}

func newBox(t *testing.T) *box {
	b := &box{t: t, gw: nstest.New(t), client: nstest.New(t)}
	var err error
	if b.dir, err = os.MkdirTemp("", "x"); err != nil { // short: a socket's path has 107 bytes
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(b.dir) })
	if err := os.Chmod(b.dir, 0o755); err != nil { // diagd's user passes through
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the box said:\n%s", b.log.String())
		}
	})
	near, far, end := nstest.New(t), nstest.New(t), nstest.New(t)
	nstest.Veth(t, b.gw, "wan", near, "eth0")
	nstest.Veth(t, b.gw, "lan", b.client, "eth0")
	nstest.Veth(t, near, "next", far, "eth0")
	nstest.Veth(t, far, "next", end, "eth0")
	ip := func(ns int, args string) { t.Helper(); nstest.Exec(t, ns, "ip", strings.Fields(args)...) }
	ip(b.gw, "link set lo up")
	ip(b.gw, "link set wan address 52:54:00:10:00:02")
	ip(b.gw, "link set lan address 52:54:00:10:00:03")
	ip(b.client, "addr add "+tv+"/24 dev eth0")
	ip(b.client, "route add default via 192.168.20.1")
	ip(near, "addr add 203.0.113.1/24 dev eth0")
	ip(near, "addr add 10.99.0.1/30 dev next") // as providers have them
	ip(near, "route add 198.51.100.0/24 via 10.99.0.2")
	ip(far, "addr add 10.99.0.2/30 dev eth0")
	ip(far, "addr add 198.51.100.1/24 dev next")
	ip(far, "route add 203.0.113.0/24 via 10.99.0.1")
	ip(end, "addr add "+server+"/24 dev eth0")
	ip(end, "route add default via 198.51.100.1")
	for _, ns := range []int{near, far} {
		nstest.Exec(t, ns, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	}
	b.http.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return sock.Dial(ctx, b.socket())
	}}
	b.start("netcfgd")
	c := netcfg.NewClient(filepath.Join(b.dir, "run", netcfg.SocketFile))
	b.until("netcfgd answers", func() bool { _, err := c.Zones(t.Context()); return err == nil })
	b.diagd = b.start("diagd")
	if _, err := netcfg.Keep(t.Context(), c, netcfg.Change{File: netcfg.File{Name: "home.yaml", Data: []byte(home)}, Author: "alex", Why: "a test"}); err != nil {
		t.Fatal(err)
	}
	b.until("diagd has its zones", func() bool {
		st, err := c.Status(t.Context())
		return err == nil && st.Applied && !strings.Contains(fmt.Sprint(st.Untaken), "diagd")
	})
	return b
}

func (b *box) socket() string {
	return filepath.Join(b.dir, "run", svcconf.Diagd.Name, svcconf.DiagSocket)
}

func (b *box) start(name string) *exec.Cmd {
	b.t.Helper()
	cmd := exec.Command(os.Args[0], "-run", filepath.Join(b.dir, "run"), "-state", filepath.Join(b.dir, "state"))
	cmd.Env = append(os.Environ(), asDaemon+"="+name)
	cmd.Stderr = &b.log
	nstest.Run(b.t, b.gw, func() {
		if err := cmd.Start(); err != nil {
			b.t.Error(err)
		}
	})
	b.t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGKILL); _ = cmd.Wait() }) // it may be gone
	return cmd
}

func (b *box) until(what string, ok func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("never came true: %s", what)
		}
	}
}

// ask returns the answer's status and body, which goes on.
func (b *box) ask(ctx context.Context, path string, in any) (int, io.ReadCloser) {
	b.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		b.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://diagd"+path, bytes.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { resp.Body.Close() })
	return resp.StatusCode, resp.Body
}

// all reads values until there are no more.
func all[T any](t *testing.T, status int, body io.Reader) (list []T) {
	t.Helper()
	if status != http.StatusOK {
		text, _ := io.ReadAll(body)
		t.Fatalf("status %d: %s", status, text)
	}
	for dec := json.NewDecoder(body); ; {
		var v T
		if err := dec.Decode(&v); err == io.EOF {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
}

func TestHostsAreAskedThroughTheRules(t *testing.T) {
	b := newBox(t)
	ping := func(target string, count int) (list []string) {
		t.Helper()
		status, body := b.ask(t.Context(), "/v1/ping", api.Ping{Target: target, Count: count})
		for _, e := range all[api.Echo](t, status, body) {
			if e.From.IsValid() && (e.Milliseconds <= 0 || e.Milliseconds > 2000) {
				t.Errorf("it took %v ms", e.Milliseconds)
			}
			list = append(list, fmt.Sprint(e.Number, " ", e.From, " ", e.Trouble))
		}
		return list
	}
	for _, tt := range []struct {
		target string
		want   []string
	}{
		{tv, []string{"1 " + tv + " ", "2 " + tv + " "}},
		{server, []string{"1 " + server + " ", "2 " + server + " "}},
		{"198.51.100.77", []string{"1 198.51.100.1 host unreachable"}}, // says the last router, 3 s later
		{"192.168.20.255", []string{"1 invalid IP the box's rules refuse it"}},
		{"10.200.0.1", []string{"1 203.0.113.1 network unreachable"}},
	} {
		got := ping(tt.target, len(tt.want))
		if tt.target == "198.51.100.77" && got[0] == "1 invalid IP no answer" {
			continue // it was slower than we wait
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("ping %s (-want +got):\n%s", tt.target, diff)
		}
	}

	status, body := b.ask(t.Context(), "/v1/traceroute", api.Traceroute{Target: server})
	var way []string
	for _, h := range all[api.Hop](t, status, body) {
		if len(h.Echoes) != 3 {
			t.Errorf("hop %d was asked %d times", h.Number, len(h.Echoes))
		}
		e := h.Echoes[0]
		way = append(way, fmt.Sprint(h.Number, " ", e.From, " ", e.Trouble, " ", h.Reached))
	}
	want := []string{"1 203.0.113.1 time to live exceeded false", "2 10.99.0.2 time to live exceeded false", "3 " + server + "  true"}
	if diff := cmp.Diff(want, way); diff != "" {
		t.Errorf("the way (-want +got):\n%s", diff)
	}

	// The user may send nothing else, and nobody else may send that.
	for _, tt := range []struct {
		user    int
		network string
		sent    bool
	}{
		{svcconf.Diagd.ID, "udp4", false}, {svcconf.Diagd.ID, "tcp4", false}, {svcconf.Diagd.ID, "ip4:icmp", true},
		{svcconf.Dnsd.ID, "ip4:icmp", false}, {0, "ip4:icmp", false},
	} {
		if err := b.send(tt.user, tt.network); (err == nil) != tt.sent {
			t.Errorf("user %d sends by %s: %v", tt.user, tt.network, err)
		}
	}
}

// send sends something to the client as a user, with the right to use raw sockets.
func (b *box) send(user int, network string) (err error) {
	b.t.Helper()
	nstest.Run(b.t, b.gw, func() {
		id := uintptr(user)
		// The file system's user is what a socket belongs to, and leaves capabilities.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETFSUID, id, 0, 0); errno != 0 {
			b.t.Error(errno)
			return
		}
		addr := tv
		if !strings.HasPrefix(network, "ip") {
			addr += ":9"
		}
		d := net.Dialer{Timeout: 2 * time.Second}
		var c net.Conn
		if c, err = d.Dial(network, addr); err == nil {
			_, err = c.Write([]byte{8, 0, 0, 0, byte(user >> 8), byte(user), 0, 1}) // each a connection of its own
			c.Close()
		}
	})
	return err
}

func TestWhatMakesNoSenseIsRefused(t *testing.T) {
	b := newBox(t)
	for _, tt := range []struct {
		path, body string
		status     int
		why        string
	}{
		{"/v1/ping", `{"target":"224.0.0.1"}`, 422, "224.0.0.1 is not the address of one host"},
		{"/v1/ping", `{"target":"255.255.255.255"}`, 422, "255.255.255.255 is not the address of one host"},
		{"/v1/ping", `{"target":"0.0.0.0"}`, 422, "0.0.0.0 is the box itself, or nobody"},
		{"/v1/ping", `{"target":"127.0.0.1"}`, 422, "127.0.0.1 is the box itself, or nobody"},
		{"/v1/ping", `{"target":"fe80::1"}`, 422, "fe80::1 is not IPv4, which is all that the box speaks"},
		{"/v1/ping", `{"target":"192.168.20.5","count":11}`, 422, "count: 11 is not between 1 and 10"},
		{"/v1/ping", `{"target":"192.168.20.5","ttl":1}`, 400, ""},
		{"/v1/traceroute", `{"target":"192.168.20.5","hops":31}`, 422, "hops: 31 is not between 1 and 30"},
		{"/v1/capture", `{"zone":"attic"}`, 422, `there is no zone "attic", or its port is not there`},
		{"/v1/capture", `{"zone":"media","filter":"port"}`, 422, "filter, character 5: port takes a number from 1 to 65535"},
		{"/v1/capture", `{"zone":"media","seconds":61}`, 422, "seconds: 61 is not between 1 and 60"},
		{"/v1/capture", `{"zone":"media","packets":100001}`, 422, "packets: 100001 is not between 1 and 100000"},
		{"/v1/shell", `{}`, 404, "there is nothing here"},
	} {
		status, body := b.ask(t.Context(), tt.path, json.RawMessage(tt.body))
		var f struct{ Error string }
		if err := json.NewDecoder(body).Decode(&f); err != nil || status != tt.status || tt.why != "" && f.Error != tt.why {
			t.Errorf("%s %s: got %d %q, %v", tt.path, tt.body, status, f.Error, err)
		}
	}

	// Only root is answered, and the daemon holds what it needs and no more.
	info, err := os.Stat(b.socket())
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.diagd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Uid:\t7110\t7110\t7110\t7110\n", "Gid:\t7110\t7110\t7110\t7110\n", "Groups:\t \n", "CapEff:\t0000000000002000\n", "CapPrm:\t0000000000002000\n", "CapBnd:\t0000000000002000\n", "NoNewPrivs:\t1\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the daemon lacks %q:\n%s", want, text)
		}
	}
}

// capture begins one and waits until it listens.
func (b *box) capture(ctx context.Context, in api.Watch) io.ReadCloser {
	b.t.Helper()
	status, body := b.ask(ctx, "/v1/capture", in) // answers once it listens
	if status != http.StatusOK {
		text, _ := io.ReadAll(body)
		b.t.Fatalf("status %d: %s", status, text)
	}
	return body
}

// tcpdump reads a capture: a line for each packet, without the time.
func tcpdump(t *testing.T, file []byte) []string {
	t.Helper()
	cmd := exec.Command("tcpdump", "-t", "-nn", "-r", "-")
	cmd.Stdin = bytes.NewReader(file)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tcpdump: %v\n%s", err, &stderr)
	}
	if !strings.Contains(stderr.String(), "link-type EN10MB (Ethernet)") {
		t.Errorf("tcpdump says %s", &stderr)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// udp sends datagrams of so many bytes from the client to a port of the box.
func (b *box) udp(port, n, size int) {
	b.t.Helper()
	nstest.Run(b.t, b.client, func() {
		var d net.Dialer
		c, err := d.Dial("udp4", fmt.Sprintf("192.168.20.1:%d", port))
		if err != nil {
			b.t.Error(err)
			return
		}
		defer c.Close()
		for range n {
			if _, err := c.Write(make([]byte, size)); err != nil {
				b.t.Error(err)
				return
			}
		}
	})
}

func TestPacketsAreCaptured(t *testing.T) {
	b := newBox(t)
	t.Run("those that the filter wants", func(t *testing.T) {
		body := b.capture(t.Context(), api.Watch{Capture: api.Capture{Zone: "media", Filter: "udp and port 4000 and host " + tv, Packets: 3}})
		b.udp(4001, 5, 10)
		b.udp(4000, 5, 10)
		file, err := io.ReadAll(body) // it ends by itself
		if err != nil {
			t.Fatal(err)
		}
		lines := tcpdump(t, file)
		if len(lines) != 3 {
			t.Fatalf("got %q", lines)
		}
		for _, l := range lines {
			if !strings.HasPrefix(l, "IP "+tv+".") || !strings.HasSuffix(l, " > 192.168.20.1.4000: UDP, length 10") {
				t.Errorf("got %q", l)
			}
		}
	})
	t.Run("of the internet, in both directions", func(t *testing.T) {
		body := b.capture(t.Context(), api.Watch{Capture: api.Capture{Zone: "internet", Filter: "icmp", Packets: 2}})
		b.ask(t.Context(), "/v1/ping", api.Ping{Target: server, Count: 1})
		file, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(tcpdump(t, file), "\n")
		for _, want := range []string{"IP 203.0.113.2 > " + server + ": ICMP echo request", "IP " + server + " > 203.0.113.2: ICMP echo reply"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is missing in\n%s", want, text)
			}
		}
	})
	t.Run("up to so many bytes, and of each no more than is asked for", func(t *testing.T) {
		body := b.capture(t.Context(), api.Watch{Capture: api.Capture{Zone: "media", Filter: "udp", Packets: 100000, Bytes: 70_000, Snap: 100}})
		b.udp(4000, 1000, 1000)
		file, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		if n := 24 + 116*((70_000-24)/116); len(file) != n {
			t.Errorf("the file has %d bytes, want %d", len(file), n)
		}
		if lines := tcpdump(t, file); !strings.HasSuffix(lines[0], "UDP, length 1000") {
			t.Errorf("got %q", lines[0])
		}
	})
	t.Run("for so long", func(t *testing.T) {
		body := b.capture(t.Context(), api.Watch{Capture: api.Capture{Zone: "media", Filter: "port 4002", Seconds: 1}})
		file, err := io.ReadAll(body)
		if err != nil || len(file) != 24 {
			t.Errorf("got %d bytes, %v", len(file), err)
		}
	})
	t.Run("less those that take the file away", func(t *testing.T) {
		for _, seen := range []bool{true, false} {
			in := api.Watch{Capture: api.Capture{Zone: "media", Filter: "tcp or port 4003", Packets: 1}}
			if !seen {
				in.Without = netip.MustParseAddr(tv)
			}
			body := b.capture(t.Context(), in)
			nstest.Run(t, b.client, func() {
				d := net.Dialer{Timeout: 100 * time.Millisecond}
				if c, err := d.Dial("tcp4", "192.168.20.1:443"); err == nil {
					c.Close()
				}
			})
			b.udp(4003, 1, 10)
			file, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(tcpdump(t, file)[0], "192.168.20.1.443: Flags"); got != seen {
				t.Errorf("the way to the management pages is seen: %t", got)
			}
		}
	})
	t.Run("not those of other VLANs on the port", func(t *testing.T) {
		body := b.capture(t.Context(), api.Watch{Capture: api.Capture{Zone: "media", Filter: "mac 02:00:00:00:00:99", Packets: 1}})
		for _, ether := range []string{"\x81\x00\x00\x0a\x08\x00", "\x88\xa8\x00\x0a\x08\x00", "\x88\xb5"} {
			b.frame("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x99" + ether + strings.Repeat("\x00", 50))
		}
		file, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		if ether := file[24+16+12 : 24+16+14]; string(ether) != "\x88\xb5" {
			t.Errorf("a frame of type %x was captured", ether)
		}
	})
}

// frame has the client send a frame.
func (b *box) frame(data string) {
	b.t.Helper()
	nstest.Run(b.t, b.client, func() {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			b.t.Error(err)
			return
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.t.Error(err)
			return
		}
		defer unix.Close(fd)
		if err := unix.Sendto(fd, []byte(data), 0, &unix.SockaddrLinklayer{Ifindex: ifi.Index}); err != nil {
			b.t.Error(err)
		}
	})
}

func TestCapturesAreFewAndEndWithWhoAsked(t *testing.T) {
	b := newBox(t)
	sockets := func() int {
		n := 0
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", b.diagd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		packet, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/packet", b.diagd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(packet)) {
			inode := strings.Fields(line)[8]
			for _, fd := range fds {
				if to, err := os.Readlink(fd); err == nil && to == "socket:["+inode+"]" {
					n++
				}
			}
		}
		return n
	}
	quiet := api.Watch{Capture: api.Capture{Zone: "media", Filter: "port 4004", Seconds: 60}}
	ctx, leave := context.WithCancel(t.Context())
	for range 2 {
		b.capture(ctx, quiet)
	}
	if n := sockets(); n != 2 {
		t.Errorf("%d sockets listen", n)
	}
	status, _ := b.ask(t.Context(), "/v1/capture", quiet)
	if status != http.StatusTooManyRequests {
		t.Errorf("the third capture gets status %d", status)
	}
	leave()
	b.until("nothing is captured any more", func() bool { return sockets() == 0 })
	quiet.Seconds = 1
	b.until("somebody else may capture", func() bool { // as soon as diagd has put down what there was
		status, _ := b.ask(t.Context(), "/v1/capture", quiet)
		return status == http.StatusOK
	})
}
