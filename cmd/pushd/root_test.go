//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
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

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/reconcile"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/push/pushtest"
	"bulkhead/services/run"
)

// asDaemon makes the test binary the daemon in its value.
const asDaemon = "BULKHEAD_TEST_DAEMON"

func TestMain(m *testing.M) {
	switch os.Getenv(asDaemon) {
	case "pushd":
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

// box is a gateway with real daemons between an office and a storage room.
type box struct {
	t                   *testing.T
	dir                 string
	gw, office, storage int // namespaces
	api                 *api.Client
	log                 nstest.Output
}

func newBox(t *testing.T) *box {
	b := &box{t: t, gw: nstest.New(t), office: nstest.New(t), storage: nstest.New(t)}
	var err error
	if b.dir, err = os.MkdirTemp("", "p"); err != nil { // short: a socket's path has 107 bytes
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(b.dir) })
	if err := os.Chmod(b.dir, 0o755); err != nil { // pushd's user passes through
		t.Fatal(err)
	}
	nstest.Exec(t, b.gw, "ip", "link", "set", "lo", "up")
	for _, h := range []struct {
		ns        int
		link, mac string
		subnet    string
		hosts     []string
		hostMAC   string
	}{
		{b.office, "lan", "52:54:00:10:00:02", "192.168.10", []string{"99"}, "52:54:00:10:00:99"},
		{b.storage, "nas", "52:54:00:10:00:03", "192.168.30", []string{"10", "11"}, "52:54:00:30:00:10"},
	} {
		nstest.Veth(t, b.gw, h.link, h.ns, "eth0")
		nstest.Exec(t, b.gw, "ip", "link", "set", h.link, "address", h.mac)
		nstest.Exec(t, h.ns, "ip", "link", "set", "eth0", "address", h.hostMAC)
		nstest.Exec(t, h.ns, "ip", "link", "set", "lo", "up")
		for _, host := range h.hosts {
			nstest.Exec(t, h.ns, "ip", "addr", "add", h.subnet+"."+host+"/24", "dev", "eth0")
		}
		nstest.Exec(t, h.ns, "ip", "route", "add", "default", "via", h.subnet+".1")
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the box said:\n%s", b.log.String())
		}
	})
	for _, name := range []string{"netcfgd", "pushd"} {
		b.start(name)
	}
	b.api = api.NewClient(filepath.Join(b.dir, "run", api.SocketFile))
	b.until("netcfgd answers", func() bool { _, err := b.api.Zones(t.Context()); return err == nil })
	return b
}

func (b *box) start(name string) {
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
}

func (b *box) until(what string, ok func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("never came true: %s", what)
		}
	}
}

// apply puts a file into force and confirms it.
func (b *box) apply(file, why string) {
	b.t.Helper()
	if _, err := api.Keep(b.t.Context(), b.api, api.Change{File: api.File{Name: "home.yaml", Data: []byte(file)}, Author: "alex", Why: why}); err != nil {
		b.t.Fatal(err)
	}
}

// listen listens in a namespace, and accepts what comes.
func (b *box) listen(ns int, addr string) {
	b.t.Helper()
	nstest.Run(b.t, ns, func() {
		l, err := net.Listen("tcp4", addr)
		if err != nil {
			b.t.Error(err)
			return
		}
		b.t.Cleanup(func() { l.Close() })
	})
}

// dial connects from a namespace as a user.
func (b *box) dial(t *testing.T, ns, user int, addr string) (err error) {
	t.Helper()
	nstest.Run(t, ns, func() {
		id := uintptr(user)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, id, id, id); errno != 0 { // this thread's only
			t.Error(errno)
			return
		}
		// Without a dialer of its own Go may connect on another thread.
		d := net.Dialer{Timeout: 2 * time.Second}
		var conn net.Conn
		if conn, err = d.Dial("tcp4", addr); err == nil {
			conn.Close()
		}
	})
	return err
}

const home = `
system:
  name: gw
  domain: home.arpa
ports:
  lan: {mac: "52:54:00:10:00:02"}
  nas: {mac: "52:54:00:10:00:03"}
zones:
  office:  {port: lan, subnet: 192.168.10.0/24, admin: true}
  storage: {port: nas, subnet: 192.168.30.0/24}
devices:
  vault: {zone: storage, mac: "52:54:00:30:00:10", address: 192.168.30.10, owner: alex, purpose: backups}
`

// TestHistoryGoesThroughTheRulesAndNothingElseDoes confirms changes, and finds them in a
// repository that a zone has; what is not pushd, or not on its way there, is refused by
// the ruleset that is loaded.
func TestHistoryGoesThroughTheRulesAndNothingElseDoes(t *testing.T) {
	b := newBox(t)
	const host, port = "192.168.30.10", "2222"
	remote := pushtest.New(t, netip.MustParseAddrPort(host+":"+port), func(f func()) { nstest.Run(t, b.storage, f) })
	if _, err := b.api.SetSecret(t.Context(), "history", api.NewSecret{Value: api.Hidden(remote.Key), Author: "alex"}); err != nil {
		t.Fatal(err)
	}
	pushing := strings.Replace(home, "  domain: home.arpa\n", fmt.Sprintf("  domain: home.arpa\n  config: {push: \"ssh://%s@vault:%s%s\", key: {secret: history}, known-host: %s}\n",
		remote.User, port, remote.Repo, remote.Host), 1)
	arrives := func(want string) {
		t.Helper()
		b.until("the remote has "+want, func() bool {
			s, err := b.api.Status(t.Context())
			return err == nil && s.Push != nil && s.Push.Error == "" && s.Push.Head != "" &&
				strings.Contains(remote.Git("for-each-ref"), s.Push.Head) && strings.TrimSpace(remote.Git("log", "--format=%s", "main")) == want
		})
	}
	b.apply(home, "the first")
	if err := b.dial(t, b.gw, svcconf.Pushd.ID, remote.Addr.String()); err == nil {
		t.Error("pushd gets out although nothing is to be pushed")
	}
	b.apply(pushing, "the history goes to the vault")
	arrives("the history goes to the vault\nthe first")
	b.apply(pushing+"allow:\n  - {name: ping, from: office, to: storage, protocols: [ping], why: looking}\n", "looking")
	arrives("looking\nthe history goes to the vault\nthe first")
	remote.Git("fsck", "--strict")

	// Everywhere somebody listens, as can be seen from beside them.
	elsewhere := map[string]int{host + ":2223": b.storage, "192.168.30.11:" + port: b.storage, "192.168.10.99:" + port: b.office}
	for addr, ns := range elsewhere {
		b.listen(ns, addr)
		if err := b.dial(t, ns, 0, addr); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.dial(t, b.gw, svcconf.Pushd.ID, remote.Addr.String()); err != nil {
		t.Errorf("pushd to the remote: %v", err)
	}
	var refused sync.WaitGroup // each of whom waits in vain
	refuse := func(ns, user int, addr string) {
		refused.Go(func() {
			if err := b.dial(t, ns, user, addr); err == nil {
				t.Errorf("user %d reaches %s", user, addr)
			}
		})
	}
	for addr := range elsewhere {
		refuse(b.gw, svcconf.Pushd.ID, addr)
	}
	for _, user := range []int{0, svcconf.Wand.ID, svcconf.Dhcpd.ID, svcconf.Dnsd.ID, svcconf.Webuid.ID, svcconf.Pushd.ID + 1000, 65534} {
		refuse(b.gw, user, remote.Addr.String())
	}
	refuse(b.office, 0, remote.Addr.String())
	refused.Wait()

	b.apply(home, "it stays here")
	if err := b.dial(t, b.gw, svcconf.Pushd.ID, remote.Addr.String()); err == nil {
		t.Error("pushd gets out although nothing is to be pushed any more")
	}
	if got := strings.Count(remote.Git("log", "--format=%s", "main"), "\n"); got != 3 {
		t.Errorf("the remote has %d changes", got)
	}
}
