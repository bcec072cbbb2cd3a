//go:build linux

package reconcile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/reconcile"
	"bulkhead/services/dhcp"
	"bulkhead/services/run"
	"bulkhead/services/wan"
)

// asDaemon makes the test binary the daemon in the variable's value, with the
// directory in inDir's, so that tests have a real process to kill.
const (
	asDaemon = "BULKHEAD_TEST_DAEMON"
	inDir    = "BULKHEAD_TEST_DIR"
)

// daemons are what the test binary can be.
var daemons = map[string]func(context.Context, *slog.Logger, run.Dirs) error{
	"netcfgd": func(ctx context.Context, log *slog.Logger, d run.Dirs) error {
		return reconcile.Serve(ctx, log, reconcile.Paths{Run: d.Run, State: d.State})
	},
	"netcfgd -setup": func(ctx context.Context, log *slog.Logger, d run.Dirs) error {
		return reconcile.Serve(ctx, log, reconcile.Paths{Run: d.Run, State: d.State, Setup: true})
	},
	"wand": wan.Serve,
	"dhcpd": func(ctx context.Context, log *slog.Logger, d run.Dirs) error {
		return dhcp.Serve(ctx, log, d.RunDir("dhcpd"), d.StateDir("dhcpd"))
	},
}

func TestMain(m *testing.M) {
	serve, dir := daemons[os.Getenv(asDaemon)], os.Getenv(inDir)
	if serve == nil {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("svc", os.Getenv(asDaemon))
	err := serve(ctx, log, run.Dirs{Run: filepath.Join(dir, "run"), State: filepath.Join(dir, "state")})
	if !errors.Is(err, context.Canceled) {
		log.Error("serve", "err", err)
		os.Exit(1)
	}
}

// lasting is the file of these tests for a kernel, whose clock is the world's.
var lasting = strings.Replace(home, "expires: 2026-11-30", "expires: 2099-12-31", 1)

// lab is a gateway with a real netcfgd, between an office and a room of gadgets.
type lab struct {
	t                   *testing.T
	gw, office, gadgets int // namespaces
	dir                 string
	daemon              *exec.Cmd
	log                 nstest.Output
	client              *api.Client
}

func newLab(t *testing.T) *lab {
	dir, err := os.MkdirTemp("", "bh") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := &lab{t: t, gw: nstest.New(t), office: nstest.New(t), gadgets: nstest.New(t), dir: dir}
	l.client = api.NewClient(filepath.Join(dir, "run", api.SocketFile))
	nstest.Exec(t, l.gw, "ip", "link", "set", "lo", "up")
	for i, host := range []struct {
		ns            int
		subnet, alias string
	}{{l.office, "192.168.10", "lan"}, {l.gadgets, "192.168.40", "iot"}} {
		nstest.Veth(t, l.gw, host.alias, host.ns, "eth0")
		nstest.Exec(t, l.gw, "ip", "link", "set", host.alias, "address", fmt.Sprintf("52:54:00:10:00:%02x", i+2))
		nstest.Exec(t, host.ns, "ip", "addr", "add", host.subnet+".99/24", "dev", "eth0")
		nstest.Exec(t, host.ns, "ip", "route", "add", "default", "via", host.subnet+".1")
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("netcfgd said:\n%s", l.log.String())
		}
	})
	return l
}

// start starts netcfgd and waits until it answers after its first round.
func (l *lab) start() {
	l.t.Helper()
	l.startAs("netcfgd")
}

func (l *lab) startAs(name string) {
	l.t.Helper()
	l.daemon = l.spawn(name)
	l.t.Cleanup(func() { l.end(syscall.SIGKILL) })
	l.eventually("netcfgd answers", func() bool {
		_, err := l.client.Zones(l.t.Context())
		return err == nil
	})
}

// spawn starts a daemon in the gateway's namespace.
func (l *lab) spawn(name string) (cmd *exec.Cmd) {
	l.t.Helper()
	nstest.Run(l.t, l.gw, func() {
		cmd = exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asDaemon+"="+name, inDir+"="+l.dir)
		cmd.Stderr = &l.log
		if err := cmd.Start(); err != nil {
			l.t.Error(err)
		}
	})
	return cmd
}

func (l *lab) end(sig syscall.Signal) {
	if l.daemon == nil {
		return
	}
	_ = l.daemon.Process.Signal(sig) // it may be gone
	_ = l.daemon.Wait()
	l.daemon = nil
}

func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	for range 1500 { // half a minute
		if ok() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	l.t.Fatalf("never came true: %s", what)
}

func (l *lab) apply(file string) {
	l.t.Helper()
	if _, err := api.Keep(l.t.Context(), l.client, api.Change{File: api.File{Name: "home.yaml", Data: []byte(file)}}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) status() *api.Status {
	l.t.Helper()
	s, err := l.client.Status(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// gateway runs a program in the gateway's namespace.
func (l *lab) gateway(args ...string) string {
	l.t.Helper()
	return nstest.Exec(l.t, l.gw, args[0], args[1:]...)
}

func (l *lab) forwarding() string {
	return strings.TrimSpace(l.gateway("cat", "/proc/sys/net/ipv4/ip_forward"))
}

func TestRealKernelIsLeftAloneOnceItAgreesAndForeignThingsAlways(t *testing.T) {
	l := newLab(t)
	nstest.Veth(t, l.gw, "foreign", l.office, "foreign")
	l.gateway("ip", "addr", "add", "10.99.0.1/24", "dev", "foreign")
	l.gateway("ip", "route", "add", "10.98.0.0/16", "via", "10.99.0.2")
	l.gateway("nft", "add", "table", "inet", "other")
	l.gateway("nft", "add", "set", "inet", "other", "friends", "{ type ipv4_addr; elements = { 10.99.0.2 }; }")
	foreign := func() string {
		return l.gateway("ip", "-4", "-o", "addr", "show", "dev", "foreign") + l.gateway("ip", "route", "show", "10.98.0.0/16") + l.gateway("nft", "list", "table", "inet", "other")
	}
	before := foreign()
	l.start()
	if s := l.status(); s.Mode != api.Closed || l.forwarding() != "0" {
		t.Fatalf("before any file: %s, forwarding %s", s.Mode, l.forwarding())
	}
	l.apply(lasting)
	if s := l.status(); s.Mode != api.Running || len(s.Troubles) > 0 {
		t.Fatalf("status %+v", s)
	}
	p, err := l.client.Plan(t.Context(), api.Proposal{File: api.File{Name: "home.yaml", Data: []byte(lasting)}})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Steps) > 0 {
		t.Errorf("the same file again: %+v", p.Steps)
	}

	// Drift, one kind after the other.
	for _, mess := range [][]string{
		{"ip", "addr", "del", "192.168.40.1/24", "dev", "iot"},
		{"ip", "addr", "add", "192.168.77.1/24", "dev", "iot"},
		{"ip", "link", "set", "lan", "down"},
		{"nft", "flush", "chain", "inet", "bulkhead", "forward"},
		{"nft", "delete", "table", "inet", "bulkhead"},
	} {
		repairs := l.status().Repairs
		l.gateway(mess...)
		l.eventually(strings.Join(mess, " ")+" is repaired", func() bool { return l.status().Repairs > repairs })
		l.eventually("nothing is left to do", func() bool {
			p, err := l.client.Plan(t.Context(), api.Proposal{File: api.File{Name: "home.yaml", Data: []byte(lasting)}})
			return err == nil && len(p.Steps) == 0
		})
	}
	if after := foreign(); after != before {
		t.Errorf("foreign things were\n%s\nand are\n%s", before, after)
	}
	if s := l.status(); len(s.Troubles) > 0 {
		t.Errorf("troubles %q", s.Troubles)
	}
}

// dial opens a TCP connection from the gadgets to the office and proves it with a
// word from each end.
func (l *lab) dial() (client, server net.Conn) {
	l.t.Helper()
	var listener net.Listener
	var err error
	nstest.Run(l.t, l.office, func() { listener, err = net.Listen("tcp4", "192.168.10.99:8096") })
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { listener.Close() })
	nstest.Run(l.t, l.gadgets, func() {
		// Without a dialer of its own Go may connect on another thread.
		d := net.Dialer{Timeout: 10 * time.Second}
		client, err = d.Dial("tcp4", "192.168.10.99:8096")
	})
	if err != nil {
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

// passes reports whether a word gets from one end to the other.
func passes(from, to net.Conn) bool {
	word := []byte(fmt.Sprint(time.Now().UnixNano()))
	if _, err := from.Write(word); err != nil {
		return false
	}
	_ = to.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	got := make([]byte, len(word))
	_, err := io.ReadFull(to, got)
	return err == nil && bytes.Equal(got, word)
}

func TestRevokedRuleCutsItsConnections(t *testing.T) {
	l := newLab(t)
	l.start()
	l.apply(lasting)
	client, server := l.dial()
	l.apply(strings.Replace(lasting, "name: films,", "name: movies,", 1))
	if !passes(client, server) || !passes(server, client) {
		t.Fatal("a connection that another rule allows was cut")
	}
	revoked := strings.Replace(lasting, "tcp/8096", "tcp/8097", 1)
	plan, err := l.client.Plan(t.Context(), api.Proposal{File: api.File{Name: "home.yaml", Data: []byte(revoked)}})
	if err != nil {
		t.Fatal(err)
	}
	if c := plan.Cut; c.Count != 1 || c.Rules[0].Rule != "movies" {
		t.Errorf("the plan says of the connection: %+v", c)
	}
	l.apply(revoked)
	if passes(client, server) || passes(server, client) {
		t.Error("the connection still carries words after its rule was revoked")
	}
	if s := l.status(); s.Cut == 0 {
		t.Error("no connection counted as ended")
	}
}

func TestKilledNetcfgdLeavesItsRulesAndFindsThemAgain(t *testing.T) {
	l := newLab(t)
	l.start()
	l.apply(lasting)
	client, server := l.dial()
	rules := func() string { return l.gateway("nft", "-a", "list", "table", "inet", "bulkhead") }
	before := l.still(rules)
	l.end(syscall.SIGKILL)
	if after := l.still(rules); after != before || l.forwarding() != "1" || !passes(client, server) {
		t.Errorf("after kill -9: forwarding %s, rules\n%s", l.forwarding(), after)
	}
	l.start()
	if after := l.still(rules); after != before || !passes(client, server) {
		t.Error("the rules were loaded again, though they were those wanted") // handles differ
	}
	if s := l.status(); s.Mode != api.Running || s.Repairs != 0 {
		t.Errorf("status %+v", s)
	}
}

// still is a listing without what packets change in it.
func (l *lab) still(list func() string) string {
	var kept []string
	for line := range strings.Lines(list()) {
		if !strings.Contains(line, "packets ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func TestBrokenConfirmedFileClosesTheRealKernel(t *testing.T) {
	l := newLab(t)
	l.start()
	l.apply(lasting)
	client, server := l.dial()
	l.end(syscall.SIGTERM)
	state := filepath.Join(l.dir, "state/netcfgd")
	if err := errors.Join(os.WriteFile(filepath.Join(state, "confirmed.yaml"), []byte("zones: ["), 0o600), os.RemoveAll(filepath.Join(state, "history"))); err != nil {
		t.Fatal(err)
	}
	l.start()
	s := l.status()
	if s.Mode != api.Closed || !strings.Contains(s.Reason, "confirmed.yaml:1:") || len(s.Troubles) > 0 {
		t.Errorf("status %+v", s)
	}
	if l.forwarding() != "0" || passes(client, server) {
		t.Error("the box still forwards")
	}
	addrs := l.gateway("ip", "-4", "-o", "addr")
	if !strings.Contains(addrs, "192.168.10.1/24") || strings.Contains(addrs, "192.168.40.1/24") {
		t.Errorf("addresses are\n%s", addrs)
	}
	// The admin path: a refusal by TCP and not by the packet filter, as nothing
	// listens. Everything else is dropped.
	try := func(port string) error {
		var err error
		nstest.Run(t, l.office, func() {
			d := net.Dialer{Timeout: time.Second}
			_, err = d.Dial("tcp4", "192.168.10.1:"+port)
		})
		return err
	}
	if err := try("443"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the admin path is shut: %v", err)
	}
	if err := try("53"); errors.Is(err, syscall.ECONNREFUSED) || err == nil {
		t.Errorf("port 53 answers: %v", err)
	}
}

func TestBoxWithoutAPlaceForStateIsClosedAndSaysWhy(t *testing.T) {
	l := newLab(t)
	if err := os.WriteFile(filepath.Join(l.dir, "state"), nil, 0o600); err != nil { // no directory can be there
		t.Fatal(err)
	}
	l.start()
	s := l.status()
	if s.Mode != api.Closed || !strings.HasPrefix(s.Reason, "the state directory cannot be used: ") || l.forwarding() != "0" {
		t.Errorf("status %+v", s)
	}
	_, err := l.client.Apply(t.Context(), api.Change{File: api.File{Name: "home.yaml", Data: []byte(lasting)}})
	if err == nil || !strings.HasPrefix(err.Error(), "nothing can be confirmed") {
		t.Errorf("apply: got %v", err)
	}

	// Once there is one, such as after its disk was mounted, it starts again with it.
	if err := os.Remove(filepath.Join(l.dir, "state")); err != nil {
		t.Fatal(err)
	}
	if err := l.daemon.Wait(); err == nil || !strings.Contains(l.log.String(), "the state directory can be used by now") {
		t.Errorf("ended with %v", err)
	}
	l.start()
	l.apply(lasting)
}

func TestServicesFindTheirFilesAndNobodyElseDoes(t *testing.T) {
	l := newLab(t)
	l.start()
	l.apply(lasting)
	for _, want := range []struct {
		path     string
		mode     os.FileMode
		uid, gid uint32
	}{
		{"dhcpd", os.ModeDir | os.ModeSetgid | 0o750, 7102, 7104}, // dnsd reads leases.json
		{"dnsd", os.ModeDir | os.ModeSetgid | 0o750, 7104, 7104},
		{"wand", os.ModeDir | os.ModeSetgid | 0o750, 7101, 7101},
		{"dhcpd/config.json", 0o640, 0, 7102},
		{"dnsd/config.json", 0o640, 0, 7104},
		{"wand/config.json", 0o640, 0, 7101},
		{"webuid", os.ModeDir | os.ModeSetgid | 0o750, 7106, 7106},
		{"webuid/config.json", 0o640, 0, 7106},
		{"updated", os.ModeDir | os.ModeSetgid | 0o750, 0, 0},
		{"updated/config.json", 0o640, 0, 0},
		{api.SocketFile, os.ModeSocket | 0o660, 0, 7106},
	} {
		info, err := os.Stat(filepath.Join(l.dir, "run", want.path))
		if err != nil {
			t.Error(err)
			continue
		}
		st := info.Sys().(*syscall.Stat_t)
		if info.Mode() != want.mode || st.Uid != want.uid || st.Gid != want.gid {
			t.Errorf("%s is %v of %d:%d, want %v of %d:%d", want.path, info.Mode(), st.Uid, st.Gid, want.mode, want.uid, want.gid)
		}
	}
}
