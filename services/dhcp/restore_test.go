package dhcp

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/dhcp/journal"
)

// elsewhere is a lease of another box, granted some time ago for two hours.
func elsewhere(n byte, a string, ago time.Duration) svcconf.Lease {
	granted := time.Now().Add(-ago).UTC().Truncate(time.Second)
	return svcconf.Lease{Zone: "iot", Address: addr(a), MAC: model.MAC(hw(n)), Hostname: "h", Granted: granted, Expires: granted.Add(2 * time.Hour)}
}

func writeRestored(t testing.TB, runDir string, in svcconf.RestoredLeases) string {
	t.Helper()
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(runDir, svcconf.RestoredFile)
	writeFile(t, path+".new", data)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func gone(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// TestLeasesOfAnotherBoxAreTaken restores leases before the zone that they are of is
// there, as it is when a new box is told of both, and again when it is.
func TestLeasesOfAnotherBoxAreTaken(t *testing.T) {
	runDir, stateDir := t.TempDir(), t.TempDir()
	s, err := New(slog.New(slog.DiscardHandler), runDir, stateDir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	in := svcconf.RestoredLeases{ID: "1", Leases: []svcconf.Lease{
		elsewhere(1, "192.168.40.100", time.Hour), elsewhere(2, "192.168.40.101", 3*time.Hour), elsewhere(3, "192.168.40.102", -24*time.Hour),
	}}
	path := writeRestored(t, runDir, in)
	waitFor(t, "the leases to be taken", func() bool { return gone(path) })
	if on, _, err := journal.Load(stateDir, nil); err != nil || len(on) != 2 {
		t.Errorf("on the disk are %v, %v; want all but the one that has ended", on, err)
	}
	writeConfig(t, runDir, testConf())
	waitFor(t, "the leases of the zone", func() bool { return published(runDir) == 2 })

	s.receive(iot, packet(t, 9, request, wanted("192.168.40.101"), server(box)))
	waitFor(t, "a lease of its own", func() bool { return published(runDir) == 3 })
	in.ID, in.Leases[1] = "2", elsewhere(2, "192.168.40.101", time.Minute)
	path = writeRestored(t, runDir, in)
	waitFor(t, "the leases to be taken again", func() bool { return gone(path) })
	for _, l := range s.Leases().Leases {
		if l.Address == addr("192.168.40.101") && l.MAC != model.MAC(hw(9)) {
			t.Error("a lease that was given since is lost")
		}
	}
}

func TestOtherBoxKnowsLessThanThisOne(t *testing.T) {
	s, sent, _ := newServer(t)
	grant := func(n byte, a string) {
		s.receive(iot, packet(t, n, request, wanted(a), server(box)))
		s.commit()
	}
	grant(1, "192.168.40.100")
	grant(2, "192.168.40.101")
	s.receive(iot, packet(t, 2, release, ciaddr("192.168.40.101")))
	s.commit()
	if err := s.adopt(svcconf.RestoredLeases{Leases: []svcconf.Lease{
		elsewhere(8, "192.168.40.100", time.Minute), // another client's by now
		elsewhere(2, "192.168.40.101", time.Minute), // given back since
		elsewhere(3, "192.168.40.102", time.Minute),
	}}); err != nil {
		t.Fatal(err)
	}
	s.commit()
	got := map[string]model.MAC{}
	for _, l := range s.Leases().Leases {
		got[l.Address.String()] = l.MAC
	}
	if len(got) != 2 || got["192.168.40.100"] != model.MAC(hw(1)) || got["192.168.40.102"] != model.MAC(hw(3)) {
		t.Errorf("got %v", got)
	}
	// Its client renews as if nothing had happened, and nobody else gets the address.
	before := len(*sent)
	grant(3, "192.168.40.102")
	grant(4, "192.168.40.102")
	if (*sent)[before] != ack || (*sent)[before+1] == ack {
		t.Errorf("sent %v", (*sent)[before:])
	}
}

func TestNonsenseIsNotTakenForLeases(t *testing.T) {
	s, _, _ := newServer(t)
	for name, change := range map[string]func(*svcconf.Lease){
		"IPv6":      func(l *svcconf.Lease) { l.Address = addr("fd00::1") },
		"client ID": func(l *svcconf.Lease) { l.ClientID = "xyz" },
		"times":     func(l *svcconf.Lease) { l.Expires = l.Granted },
	} {
		bad := elsewhere(2, "192.168.40.101", 0)
		change(&bad)
		if err := s.adopt(svcconf.RestoredLeases{Leases: []svcconf.Lease{elsewhere(1, "192.168.40.100", 0), bad}}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if got := s.Leases().Leases; len(got) != 0 {
		t.Errorf("got %v", got)
	}
}
