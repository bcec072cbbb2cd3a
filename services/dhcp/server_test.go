package dhcp

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"bulkhead/netcfg/svcconf"
	"bulkhead/services/metrics"
)

// kinds is a link that remembers what was sent on it.
type kinds []dhcpv4.MessageType

func (k *kinds) send(r *reply) error {
	*k = append(*k, r.kind)
	return nil
}

// newServer returns a server of the test zones with a link that goes nowhere.
func newServer(t testing.TB) (s *Server, sent *kinds, stateDir string) {
	t.Helper()
	stateDir = filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(stateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := New(slog.New(slog.DiscardHandler), t.TempDir(), stateDir)
	if err != nil {
		t.Fatal(err)
	}
	s.commit()
	t.Cleanup(func() { s.store.file.Close() })
	if err := s.apply(testConf()); err != nil {
		t.Fatal(err)
	}
	sent = new(kinds)
	s.conns.Store(iot, sender(sent))
	return s, sent, stateDir
}

func TestAckWaitsForTheDisk(t *testing.T) {
	s, sent, _ := newServer(t)
	s.receive(iot, packet(t, 1, discover))
	s.receive(iot, packet(t, 1, request, wanted("192.168.40.100"), server(box)))
	if len(*sent) != 1 || (*sent)[0] != offer {
		t.Fatalf("before the disk has it: sent %v", *sent)
	}
	s.commit()
	if len(*sent) != 2 || (*sent)[1] != ack {
		t.Errorf("after: sent %v", *sent)
	}
}

func TestNothingIsGrantedThatTheDiskDoesNotTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, sent, dir := newServer(t)
		grant := func(n byte, a string) {
			s.receive(iot, packet(t, n, request, wanted(a), server(box)))
			s.commit()
		}
		s.store.file.Close() // as after an error; replacing helps
		grant(1, "192.168.40.100")
		if len(*sent) != 1 || s.count.JournalErrors.Load() != 1 {
			t.Errorf("sent %v after %d errors", *sent, s.count.JournalErrors.Load())
		}

		s.store.file.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		grant(2, "192.168.40.101")
		grant(2, "192.168.40.101")
		if len(*sent) != 1 || s.count.Unsaved.Load() != 2 {
			t.Errorf("sent %v, unsaved %d", *sent, s.count.Unsaved.Load())
		}

		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		grant(2, "192.168.40.101")
		if len(*sent) != 2 {
			t.Errorf("sent %v", *sent)
		}
		again, err := New(slog.New(slog.DiscardHandler), t.TempDir(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(again.core.orphans); n != 2 {
			t.Errorf("%d leases are on the disk, want 2", n)
		}
	})
}

func TestWaitingAnswersAreBounded(t *testing.T) {
	s, sent, _ := newServer(t)
	p := packet(t, 1, request, wanted("192.168.40.100"), server(box))
	for range maxReplies + 10 {
		s.receive(iot, p)
	}
	if n := s.count.Busy.Load(); n != 10 {
		t.Errorf("%d dropped, want 10", n)
	}
	s.commit()
	if len(*sent) != maxReplies {
		t.Errorf("sent %d, want %d", len(*sent), maxReplies)
	}
}

func TestJournalIsReplacedBeforeItGrowsLarge(t *testing.T) {
	s, _, _ := newServer(t)
	p := packet(t, 1, request, wanted("192.168.40.100"), server(box), withID(strings.Repeat("i", 200)))
	before := s.count.JournalReplaced.Load()
	for range 40_000 {
		s.receive(iot, p)
		if s.batch.full() {
			s.commit()
		}
		if size := s.store.file.Size(); size > replaceAt+maxRecords {
			t.Fatalf("the journal has grown to %d bytes", size)
		}
	}
	if s.count.JournalReplaced.Load() == before {
		t.Error("the journal was never replaced: the test tests nothing")
	}
}

// TestSnapshotHasEveryCounter sets each field to a number of its own, so that one that
// is left out or taken twice shows.
func TestMetricsHaveEveryCounter(t *testing.T) {
	var c Counters
	want := map[uint64]bool{}
	set := func(v *atomic.Uint64) {
		n := uint64(1000 + len(want))
		v.Store(n)
		want[n] = true
	}
	fields := reflect.ValueOf(&c).Elem()
	for i := range fields.NumField() {
		switch f := fields.Field(i).Addr().Interface().(type) {
		case *atomic.Uint64:
			set(f)
		case *[numKinds]atomic.Uint64:
			for k := range f[1:] {
				set(&f[k+1])
			}
		default:
			t.Fatalf("field of type %T", f)
		}
	}
	page := metrics.NewPage("dhcp")
	c.metrics(page)
	for line := range strings.Lines(string(page.Bytes())) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "#" {
			continue
		}
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || !want[n] {
			t.Errorf("%s is %s, another's value", name, value)
		}
		delete(want, n)
	}
	if len(want) > 0 {
		t.Errorf("%d counters are missing", len(want))
	}
}

// TestRunFollowsItsConfiguration runs a whole server, without links, and looks at
// what it publishes.
func TestRunFollowsItsConfiguration(t *testing.T) {
	runDir, stateDir := t.TempDir(), t.TempDir()
	s, err := New(slog.New(slog.DiscardHandler), runDir, stateDir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	writeConfig(t, runDir, testConf())
	waitFor(t, "an empty list of leases", func() bool { return published(runDir) == 0 })
	s.receive(iot, packet(t, 1, request, wanted("192.168.40.100"), server(box)))
	waitFor(t, "the lease", func() bool { return published(runDir) == 1 })
	s.receive(iot, packet(t, 1, release, ciaddr("192.168.40.100")))
	waitFor(t, "its release", func() bool { return published(runDir) == 0 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func writeConfig(t testing.TB, runDir string, conf svcconf.DHCP) {
	t.Helper()
	data, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(runDir, svcconf.ConfigFile)
	writeFile(t, path+".new", data)
	if err := os.Chmod(path+".new", 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// leasesIn reads leases.json; nil if it is not there.
func leasesIn(runDir string) *svcconf.Leases {
	data, err := os.ReadFile(filepath.Join(runDir, svcconf.LeasesFile))
	if err != nil {
		return nil
	}
	l := new(svcconf.Leases)
	if json.Unmarshal(data, l) != nil {
		return nil
	}
	return l
}

// published returns the number of leases in leases.json, -1 if it is not there.
func published(runDir string) int {
	if l := leasesIn(runDir); l != nil {
		return len(l.Leases)
	}
	return -1
}

// waitFor waits until something outside this process, or on a disk, has happened.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
