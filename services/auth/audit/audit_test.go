package audit_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/services/auth/audit"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string) *audit.Log {
	t.Helper()
	l, err := audit.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func entries(t *testing.T, l *audit.Log, since time.Time, limit int) []audit.Entry {
	t.Helper()
	list, _, err := l.Entries(since, limit)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestEntriesAreKept(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	a := audit.Entry{Time: noon, Who: "user:alex", From: netip.MustParseAddr("192.168.10.20"), What: "login", More: "passkey"}
	b := audit.Entry{Time: noon.Add(time.Hour), What: "login refused", Of: "a\nb\x1b[31m" + strings.Repeat("ü", 200)}
	l.Add(a)
	l.Add(b)
	b.Of = "ab[31m" + strings.Repeat("ü", 77)
	addrs := cmpopts.EquateComparable(netip.Addr{})
	again := open(t, dir)
	if diff := cmp.Diff([]audit.Entry{b, a}, entries(t, again, time.Time{}, 10), addrs); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]audit.Entry{b}, entries(t, again, noon.Add(time.Minute), 10), addrs); diff != "" {
		t.Errorf("since (-want +got)\n%s", diff)
	}
	if got := entries(t, again, time.Time{}, 1); len(got) != 1 {
		t.Errorf("got %d, want 1", len(got))
	}
}

// Who must not do what is not written down learns that it is not.
func TestEntryThatIsLostIsSaid(t *testing.T) {
	l, err := audit.Open(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Add(audit.Entry{What: "login"}); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil { // as good as a full disk
		t.Fatal(err)
	}
	if l.Add(audit.Entry{What: "packets captured"}) == nil {
		t.Error("an entry is lost, and nobody says so")
	}
}

func TestTornEntryGoes(t *testing.T) {
	dir := t.TempDir()
	open(t, dir).Add(audit.Entry{Time: noon, What: "login"})
	path := filepath.Join(dir, "audit.jsonl")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range whole {
		if err := os.WriteFile(path, append(whole[:len(whole):len(whole)], whole[:cut]...), 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, dir)
		l.Add(audit.Entry{Time: noon, What: "logout"})
		if got := entries(t, l, time.Time{}, 10); len(got) != 2 || got[0].What != "logout" {
			t.Fatalf("cut at %d: got %+v", cut, got)
		}
	}
}

func TestLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir)
	// Without a sync for each of them: two files full, and a third begun.
	const n = 60_000
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, `{"time":"2026-11-27T12:00:00Z","what":"filler","more":"%05d"}`+"\n", i)
		if text.Len() > 2<<20-200 {
			if err := os.WriteFile(filepath.Join(dir, "audit.jsonl"), []byte(text.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			l = open(t, dir)
			for j := range 10 {
				l.Add(audit.Entry{Time: noon, What: "new", More: fmt.Sprint(i, j)})
			}
			text.Reset()
		}
	}
	var size int64
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if len(files) != 2 || size > 4<<20 {
		t.Errorf("%d files of %d bytes", len(files), size)
	}
	if got := entries(t, l, time.Time{}, 3); len(got) != 3 || got[0].What != "new" {
		t.Errorf("the newest are %+v", got)
	}
}

func FuzzEntries(f *testing.F) {
	f.Add([]byte("{\"what\":\"x\"}\n{\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "audit.jsonl"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, dir)
		l.Add(audit.Entry{Time: noon, What: "after"})
		if got := entries(t, l, time.Time{}, 1); len(got) != 1 || got[0].What != "after" {
			t.Errorf("got %+v", got)
		}
	})
}
