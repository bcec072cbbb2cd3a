//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/netcfg/api"
	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/reconcile"
	"bulkhead/services/ptytest"
)

// asNetcfgd makes the test binary netcfgd, with the directory in its value.
const asNetcfgd = "BULKHEAD_TEST_NETCFGD"

func netcfgd(dir string) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	log.Error("ended", "err", reconcile.Serve(context.Background(), log, reconcile.Paths{Run: filepath.Join(dir, "run/bulkhead"), State: filepath.Join(dir, "state")}))
}

// TestUndoThatLocksOutIsForTheConsole goes back to a configuration whose management
// zone is at a card that is gone: nobody can over the network, but who stands before
// the box.
func TestUndoThatLocksOutIsForTheConsole(t *testing.T) {
	gw := nstest.New(t)
	for i, name := range []string{"old", "new"} {
		nstest.Exec(t, gw, "ip", "link", "add", name, "address", "52:54:00:10:00:0"+string(rune('1'+i)), "type", "veth", "peer", "name", name+"-peer")
		nstest.Exec(t, gw, "ip", "link", "set", name+"-peer", "up")
	}
	m := newMachine(t, "ttyT")
	p := ptytest.New(t)
	m.attach(t, "ttyT", p)
	daemon := exec.Command(os.Args[0])
	daemon.Env = append(os.Environ(), asNetcfgd+"="+m.root)
	var log bytes.Buffer
	daemon.Stderr = &log
	nstest.Run(t, gw, func() {
		if err := daemon.Start(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGKILL) // it may be gone
		_ = daemon.Wait()
		if t.Failed() {
			t.Logf("netcfgd said:\n%s", &log)
		}
	})
	box := api.NewClient(filepath.Join(m.run, api.SocketFile))
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if _, err := box.Zones(t.Context()); err == nil {
			break
		} else if time.Since(began) > ptytest.Patience {
			t.Fatal(err)
		}
	}
	const file = `
system: {name: gw, domain: home.arpa}
ports:
  old: {mac: "52:54:00:10:00:01"}
  new: {mac: "52:54:00:10:00:02"}
zones:
  management: {port: old, subnet: 192.168.10.0/24, admin: true}
`
	for _, f := range []string{file, strings.Replace(file, "port: old", "port: new", 1)} {
		if _, err := api.Keep(t.Context(), box, api.Change{File: api.File{Name: "home.yaml", Data: []byte(f)}}); err != nil {
			t.Fatal(err)
		}
	}
	nstest.Exec(t, gw, "ip", "link", "del", "old")
	_, err := box.Undo(t.Context(), api.Undo{})
	if refused, ok := errors.AsType[*api.Refused](err); !ok || refused.Lockout == "" {
		t.Fatalf("got %v, want a refusal", err)
	}

	m.start(t)
	p.WaitFor(t, "configuration 2")
	p.Press(t, "2\r")
	p.WaitFor(t, `Type "undo"`)
	p.Press(t, "undo\r")
	p.WaitFor(t, "this would lock you out: ")
	p.WaitFor(t, `Type "lock me out"`)
	p.Press(t, "lock me out\r")
	p.WaitFor(t, `Type "keep"`)
	p.Press(t, "keep\r")
	p.WaitFor(t, "It stays.")
	s, err := box.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c := s.Confirmed; c.Number != 3 || c.Via != api.ViaConsole || c.Author != "console ttyT" || c.Why != "undo of change 2" {
		t.Errorf("in force is %+v", c)
	}
}
