package dhcp

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/sock"
)

// restarted is the server that comes after s, which just ended.
func restarted(t *testing.T, stateDir string) *Server {
	t.Helper()
	s, err := New(slog.New(slog.DiscardHandler), t.TempDir(), stateDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.store.file.Close() })
	s.commit()
	if err := s.apply(testConf()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHistorySurvivesRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, dir := newServer(t)
		begin := time.Now().UTC()
		at := func(d time.Duration) time.Time { return begin.Add(d) }
		ask := func(p []byte) {
			s.receive(iot, p)
			s.commit()
			time.Sleep(30 * time.Minute)
		}
		ask(packet(t, 1, request, wanted("192.168.40.100"), server(box))) // at 0:00, for an hour
		ask(packet(t, 1, request, ciaddr("192.168.40.100")))              // at 0:30
		s = restarted(t, dir)
		ask(packet(t, 1, request, ciaddr("192.168.40.100")))              // at 1:00
		ask(packet(t, 1, release, ciaddr("192.168.40.100"), server(box))) // at 1:30
		s = restarted(t, dir)
		ask(packet(t, 1, request, wanted("192.168.40.100"), server(box))) // at 2:00
		s = restarted(t, dir)

		mac := model.MAC(hw(1))
		want := svcconf.LeaseHistory{Leases: []svcconf.PastLease{
			{Zone: "iot", Address: addr("192.168.40.100"), MAC: mac, First: at(2 * time.Hour), Renewed: at(2 * time.Hour), Ends: at(3 * time.Hour)},
			{Zone: "iot", Address: addr("192.168.40.100"), MAC: mac, First: at(0), Renewed: at(time.Hour), Ends: at(90 * time.Minute)},
		}}
		for _, who := range []model.MAC{mac, {}} {
			if d := cmp.Diff(want, s.History(who), cmpopts.EquateComparable(netip.Addr{})); d != "" {
				t.Errorf("the history differs (-want +got):\n%s", d)
			}
		}
	})
}

// TestHistoryTakesNoWrites counts the writes of renewals: one for each, to the journal.
func TestHistoryTakesNoWrites(t *testing.T) {
	s, _, dir := newServer(t)
	before, err := os.Stat(filepath.Join(dir, "history"))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		s.receive(iot, packet(t, 1, request, wanted("192.168.40.100"), server(box)))
		s.commit()
	}
	after, err := os.Stat(filepath.Join(dir, "history"))
	if err != nil || !os.SameFile(before, after) || after.Size() != before.Size() {
		t.Errorf("the history's file was written: %v", err)
	}
	if n := s.count.JournalWrites.Load(); n != 20 {
		t.Errorf("%d writes to the journal", n)
	}
}

func TestLeasesGoOnWithoutAHistory(t *testing.T) {
	s, sent, dir := newServer(t)
	path := filepath.Join(dir, "history")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.rewrite = true
	s.receive(iot, packet(t, 1, request, wanted("192.168.40.100"), server(box)))
	s.commit()
	if len(*sent) != 1 || (*sent)[0] != ack {
		t.Errorf("sent %v", *sent)
	}
	again, err := New(slog.New(slog.DiscardHandler), t.TempDir(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(again.core.orphans); n != 1 {
		t.Errorf("%d leases after a restart", n)
	}
}

func TestRootHearsOfTheHistory(t *testing.T) {
	s, _, _ := newServer(t)
	s.receive(iot, packet(t, 1, request, wanted("192.168.40.100"), server(box)))
	s.receive(iot, packet(t, 2, request, wanted("192.168.40.101"), server(box)))
	s.commit()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.serveHistory(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	path := filepath.Join(s.runDir, svcconf.HistorySocket)
	waitFor(t, "the socket", func() bool { _, err := os.Stat(path); return err == nil })

	for who, want := range map[model.MAC]int{model.MAC(hw(1)): 1, {}: 2, model.MAC(hw(9)): 0} {
		c, err := sock.Dial(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(who[:]); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		var got svcconf.LeaseHistory
		if err := json.Unmarshal(text, &got); err != nil || len(got.Leases) != want {
			t.Errorf("of %s: %v, %s; want %d leases", who, err, text, want)
		}
	}
}
