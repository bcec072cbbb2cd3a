package journal_test

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/model"
	"bulkhead/services/dhcp/journal"
	"bulkhead/services/dhcp/lease"
)

var start = time.Unix(1_800_000_000, 123456789)

// sample returns the lease of the nth address, granted n minutes after start.
func sample(n byte) lease.Lease {
	return lease.Lease{
		Addr:     netip.AddrFrom4([4]byte{192, 168, 40, n}),
		State:    lease.Bound,
		Client:   lease.Client{MAC: model.MAC{2, 0, 0, 0, 0, n}, ID: "\xff\xb1\xc4\x00"}, // a mark inside
		Hostname: "host",
		Granted:  start.Add(time.Duration(n) * time.Minute),
		Until:    start.Add(time.Duration(n)*time.Minute + time.Hour),
	}
}

func diff(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty())
}

func load(t *testing.T, dir string) ([]lease.Lease, journal.Damage) {
	t.Helper()
	l, d, err := journal.Load(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return l, d
}

// write makes a journal of two leases replaced as a whole and one appended.
func write(t *testing.T, dir string) {
	t.Helper()
	f := journal.New(dir)
	defer f.Close()
	if err := f.Replace(journal.AppendRecord(journal.AppendRecord(nil, sample(1)), sample(2))); err != nil {
		t.Fatal(err)
	}
	if err := f.Append(journal.AppendRecord(nil, sample(3))); err != nil {
		t.Fatal(err)
	}
}

func TestLeasesComeBack(t *testing.T) {
	dir := t.TempDir()
	if l, d := load(t, dir); len(l) != 0 || d != (journal.Damage{}) {
		t.Errorf("an empty directory holds %v, %v", l, d)
	}
	write(t, dir)
	got, damage := load(t, dir)
	if diff := diff([]lease.Lease{sample(1), sample(2), sample(3)}, got); diff != "" || damage != (journal.Damage{}) {
		t.Errorf("damage %v, leases differ (-want +got):\n%s", damage, diff)
	}
}

func TestLastRecordOfAnAddressWins(t *testing.T) {
	released := sample(1)
	released.State, released.Granted, released.Client.ID, released.Hostname = lease.Free, time.Time{}, "", ""
	got, _ := journal.Scan(journal.AppendRecord(journal.AppendRecord([]byte(journal.Magic), sample(1)), released))
	if diff := diff(map[netip.Addr]lease.Lease{released.Addr: released}, got); diff != "" {
		t.Errorf("leases differ (-want +got):\n%s", diff)
	}
}

func TestLongTextIsCut(t *testing.T) {
	l := sample(1)
	l.Client.ID, l.Hostname = strings.Repeat("i", 300), strings.Repeat("h", 300)
	got, _ := journal.Scan(journal.AppendRecord([]byte(journal.Magic), l))
	if g := got[l.Addr]; len(g.Client.ID) != 255 || len(g.Hostname) != 255 {
		t.Errorf("kept %d and %d bytes", len(g.Client.ID), len(g.Hostname))
	}
}

// TestTornTailIsCutOff cuts a journal at every byte: what was whole is there, what
// was not is gone, and the file can be gone on with.
func TestTornTailIsCutOff(t *testing.T) {
	whole := []byte(journal.Magic)
	ends := []int{len(whole)}
	for n := range byte(3) {
		whole = journal.AppendRecord(whole, sample(n))
		ends = append(ends, len(whole))
	}
	for cut := range len(whole) + 1 {
		got, damage := journal.Scan(whole[:cut])
		records, tail := 0, cut
		for i, end := range ends {
			if cut >= end {
				records, tail = i, cut-end
			}
		}
		if len(got) != records || damage != (journal.Damage{Tail: tail}) {
			t.Errorf("cut at %d: %d leases, damage %+v; want %d leases, %d bytes of tail",
				cut, len(got), damage, records, tail)
		}
	}
}

func TestDamageInTheMiddleCostsOneRecordAndIsKept(t *testing.T) {
	dir := t.TempDir()
	write(t, dir)
	path := filepath.Join(dir, "leases")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	one := len(journal.AppendRecord(nil, sample(2)))
	data[len(journal.Magic)+one+20] ^= 0x40
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a second damage replaces what was kept of the first
		got, damage := load(t, dir)
		if diff := diff([]lease.Lease{sample(1), sample(3)}, got); diff != "" {
			t.Errorf("leases differ (-want +got):\n%s", diff)
		}
		if damage != (journal.Damage{Middle: one}) {
			t.Errorf("got %+v, want %d bytes in the middle", damage, one)
		}
	}
	write(t, dir)
	kept, err := os.ReadFile(filepath.Join(dir, "leases.damaged"))
	if err != nil || !bytes.Equal(kept, data) {
		t.Errorf("the damaged journal was not kept: %v", err)
	}
}

func TestForeignFileIsDamage(t *testing.T) {
	got, damage := journal.Scan([]byte("lease 192.168.1.1 {\n"))
	if len(got) != 0 || damage.Tail != 20 {
		t.Errorf("got %v, %+v", got, damage)
	}
}

func TestLeftoversOfCutOffReplacementsGo(t *testing.T) {
	dir := t.TempDir()
	write(t, dir)
	left := filepath.Join(dir, ".leases123456")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, _ := load(t, dir); len(l) != 3 {
		t.Errorf("got %d leases, want 3", len(l))
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("%s is still there", left)
	}
}

func TestErrorsAndRecovery(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	f := journal.New(dir)
	if err := f.Append(nil); err == nil {
		t.Error("appended to a journal that is not open")
	}
	if err := f.Replace(nil); err == nil {
		t.Error("replaced a journal in no directory")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Replace(nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Append(journal.AppendRecord(nil, sample(1))); err != nil {
		t.Error(err)
	}
	if want := int64(len(journal.AppendRecord([]byte(journal.Magic), sample(1)))); f.Size() != want {
		t.Errorf("got size %d, want %d", f.Size(), want)
	}
	f.Close()
	if l, _ := load(t, dir); len(l) != 1 {
		t.Errorf("got %d leases, want 1", len(l))
	}
}

// FuzzScan reads arbitrary files. Whatever is understood must be written back the
// same, and no byte may be lost from the accounts.
func FuzzScan(f *testing.F) {
	f.Add([]byte(journal.Magic))
	f.Add(journal.AppendRecord([]byte(journal.Magic), sample(1)))
	f.Add(append(journal.AppendRecord([]byte("garbage!"), sample(1)), 0xb1, 0xc4, 0, 3))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, damage := journal.Scan(data)
		if damage.Tail < 0 || damage.Middle < 0 || damage.Tail+damage.Middle > len(data) {
			t.Fatalf("damage %+v of %d bytes", damage, len(data))
		}
		again := []byte(journal.Magic)
		for _, l := range got {
			again = journal.AppendRecord(again, l)
		}
		reread, damage := journal.Scan(again)
		if diff := diff(got, reread); diff != "" || damage != (journal.Damage{}) {
			t.Errorf("damage %+v, leases differ (-want +got):\n%s", damage, diff)
		}
	})
}
