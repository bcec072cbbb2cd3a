package journal_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/dhcp/history"
	"bulkhead/services/dhcp/journal"
)

func spell(n byte) history.Spell {
	return history.Spell{
		MAC: model.MAC{2, 0, 0, 0, 0, n}, Addr: netip.AddrFrom4([4]byte{192, 168, 40, n}), Zone: "iot", Hostname: "host",
		First: start, Renewed: start.Add(time.Hour), End: start.Add(2 * time.Hour),
	}
}

// loadHistory returns the spells in dir and how many bytes of the file are none.
func loadHistory(t *testing.T, dir string) (list []history.Spell, bad int) {
	t.Helper()
	bad, err := journal.LoadHistory(dir, func(s history.Spell) { list = append(list, s) })
	if err != nil {
		t.Fatal(err)
	}
	return list, bad
}

func TestHistoryComesBack(t *testing.T) {
	dir := t.TempDir()
	if got, bad := loadHistory(t, dir); len(got) != 0 || bad != 0 {
		t.Errorf("an empty directory holds %v, %d", got, bad)
	}
	want := []history.Spell{spell(1), spell(2), spell(3)}
	if err := journal.ReplaceHistory(dir, slices.Values(want)); err != nil {
		t.Fatal(err)
	}
	got, bad := loadHistory(t, dir)
	if diff := diff(want, got); diff != "" || bad != 0 {
		t.Errorf("%d bytes are damaged, spells differ (-want +got):\n%s", bad, diff)
	}

	path := filepath.Join(dir, "history")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, bad := loadHistory(t, dir); len(got) != 2 || bad == 0 {
		t.Errorf("of a damaged history there are %d spells left, %d bytes damaged", len(got), bad)
	}
}

// TestHistoryIsBounded fills one with the longest names that there are. The README has
// the number.
func TestHistoryIsBounded(t *testing.T) {
	var g history.Log
	for i := range history.Devices + 10 {
		for range history.PerDevice + 2 {
			s := spell(1)
			s.MAC = model.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
			s.Zone, s.Hostname = strings.Repeat("z", 32), strings.Repeat("h", 63)
			g.Restore(s)
		}
	}
	dir := t.TempDir()
	if err := journal.ReplaceHistory(dir, g.All(start)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "history"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Size(), int64(len("bhpast01")+history.Devices*history.PerDevice*(8+34+33+64)); got != want {
		t.Errorf("the largest history has %d bytes, want %d", got, want)
	}
	if got := fmt.Sprintf("%.1f", float64(info.Size())/1e6); got != "9.1" {
		t.Errorf("the README says 9.1 MB, and it is %s", got)
	}
}
