package txn_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/gitrepo"
	"bulkhead/netcfg/txn"
)

// filled returns the directory of a store after n changes, and the store as another
// process finds it.
func filled(t *testing.T, n int) (string, *txn.Store) {
	t.Helper()
	dir := t.TempDir()
	s := open(t, dir)
	for i := range n {
		if err := commit(s, i+1); err != nil {
			t.Fatal(err)
		}
	}
	return dir, open(t, dir)
}

func open(t *testing.T, dir string) *txn.Store {
	t.Helper()
	s, err := txn.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func entryFile(dir string, n int) string {
	return filepath.Join(dir, fmt.Sprintf("history/%06d.json", n))
}

func numbers(s *txn.Store) (list []int) {
	for e := range s.Entries() {
		list = append(list, e.Number)
	}
	return list
}

func TestStoreKeepsWhatWasConfirmed(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Confirmed(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a new store: got %v, want an error wrapping fs.ErrNotExist", err)
	}
	if !s.Untouched() {
		t.Error("a new store has been touched")
	}
	_, s = filled(t, 3)
	if s.Untouched() {
		t.Error("a store with a history is untouched")
	}
	if got, err := s.Confirmed(); err != nil || string(got) != "config 3\n" {
		t.Errorf("confirmed: got %q, %v", got, err)
	}
	if diff := cmp.Diff([]int{3, 2, 1}, numbers(s)); diff != "" {
		t.Errorf("numbers differ (-want +got):\n%s", diff)
	}
	want := txn.Entry{Number: 3, Change: change(3)}
	got, _ := s.Newest()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(txn.Entry{}, "Sum", "Before", "Parent")); diff != "" {
		t.Errorf("newest entry differs (-want +got):\n%s", diff)
	}
	if d := s.Damage(); d != nil {
		t.Errorf("damage: %q", d)
	}
}

func TestRemarksLeaveTheConfiguration(t *testing.T) {
	if err := open(t, t.TempDir()).Remark(change(1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a new store: got %v, want an error wrapping fs.ErrNotExist", err)
	}
	dir, s := filled(t, 2)
	remark := change(9)
	remark.Why = "something was isolated"
	if err := s.Remark(remark); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*txn.Store{s, open(t, dir)} {
		want := txn.Entry{Number: 3, Change: remark}
		want.Config, want.Name = change(2).Config, change(2).Name
		got, _ := s.Newest()
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(txn.Entry{}, "Sum", "Before", "Parent")); diff != "" {
			t.Errorf("newest entry differs (-want +got):\n%s", diff)
		}
		if got, err := s.Confirmed(); err != nil || string(got) != "config 2\n" || s.Damage() != nil {
			t.Errorf("confirmed: got %q, %v; damage %q", got, err, s.Damage())
		}
	}
}

func TestStoreForgetsWhatIsOldAndBeyondTheLimit(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name    string
		changes int
		every   time.Duration
		bytes   int // of each configuration, which does not shrink
		want    int
	}{
		{"many in a day", 250, time.Minute, 10, 250},
		{"few in many years", 30, 300 * day, 10, 30},
		{"one a day for two years", 730, day, 10, 366},
		{"one a week for six years", 300, 7 * day, 10, 200},
		{"huge files", 60, day, 1 << 20, 47}, // base64 makes 4 bytes of 3
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.changes > 200 && testing.Short() {
				t.Skip("writes thousands of files")
			}
			s, err := txn.NewStore(memory{})
			if err != nil {
				t.Fatal(err)
			}
			noise := rand.NewChaCha8([32]byte{1})
			for n := range tt.changes {
				c := change(n)
				c.Time = change(0).Time.Add(time.Duration(n) * tt.every)
				c.Config = make([]byte, tt.bytes)
				_, _ = noise.Read(c.Config)
				if err := keep(s, txn.Trial{ID: fmt.Sprint(n), Change: c}); err != nil {
					t.Fatal(err)
				}
			}
			got := numbers(s)
			if len(got) != tt.want || got[0] != tt.changes || got[len(got)-1] != tt.changes-tt.want+1 {
				t.Errorf("kept %d from %d to %d, want the last %d", len(got), got[len(got)-1], got[0], tt.want)
			}
			if err := s.Settle(); err != nil || s.Damage() != nil {
				t.Errorf("looking again: %v, damage %q", err, s.Damage())
			}
		})
	}
}

// memory is a disk for tests that write much.
type memory map[string][]byte

func (m memory) Prepare() error { return nil }
func (m memory) Read(name string) ([]byte, error) {
	if data, ok := m[name]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}
func (m memory) Write(name string, data []byte) error { m[name] = slices.Clone(data); return nil }
func (m memory) Rename(from, to string) error         { m[to] = m[from]; delete(m, from); return nil }
func (m memory) Remove(name string) error {
	if _, ok := m[name]; !ok {
		return fs.ErrNotExist
	}
	delete(m, name)
	return nil
}
func (m memory) List(dir string) (names []string, err error) {
	for name := range m {
		if base, ok := strings.CutPrefix(name, dir+"/"); ok {
			names = append(names, base)
		}
	}
	slices.Sort(names)
	return names, nil
}

func TestDamageIsNoticedAndTheLastGoodOneIsUsed(t *testing.T) {
	write := func(name, text string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(names ...string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			for _, name := range names {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	both := func(a, b func(*testing.T, string)) func(*testing.T, string) {
		return func(t *testing.T, dir string) { a(t, dir); b(t, dir) }
	}
	const used = "confirmed.yaml was not what was confirmed last"
	tests := []struct {
		name      string
		harm      func(*testing.T, string)
		confirmed string
		said      []string
	}{
		{"confirmed rotten", write("confirmed.yaml", "config x\n"), "config 3\n", []string{used}},
		{"confirmed gone", remove("confirmed.yaml"), "config 3\n", []string{used}},
		{"confirmed an old one", write("confirmed.yaml", "config 1\n"), "config 3\n", []string{used}},
		{"newest rotten", write("history/000003.json", "x"), "config 3\n", []string{"change 3 cannot be read"}},
		{"newest and confirmed gone", remove("confirmed.yaml", "history/000003.json"), "config 2\n", []string{used}},
		{"newest and confirmed rotten", both(remove("confirmed.yaml"), write("history/000003.json", "{}")), "config 2\n", []string{"change 3 cannot be read", used}},
		{"one in between gone", remove("history/000002.json"), "config 3\n", []string{"between the changes 1 and 3 something is missing"}},
		{"one in between rotten", write("history/000002.json", `{"config":`), "config 3\n", []string{"change 2 cannot be read"}},
		{"one in between in the old form", write("history/000002.json", `{"time":"2026-11-01T12:02:00Z","config":"Y29uZmlnIDIK"}`), "config 3\n", []string{"change 2 is not the one that change 3 followed"}},
		{"one takes another's place", func(t *testing.T, dir string) {
			if err := os.Rename(entryFile(dir, 1), entryFile(dir, 2)); err != nil {
				t.Fatal(err)
			}
		}, "config 3\n", []string{"change 2 cannot be read: it is change 1"}},
		{"all of the history gone", remove("history/000001.json", "history/000002.json", "history/000003.json"), "config 3\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, _ := filled(t, 3)
			tt.harm(t, dir)
			for range 2 { // it is still said after a reboot
				s := open(t, dir)
				if got, err := s.Confirmed(); err != nil || string(got) != tt.confirmed {
					t.Errorf("confirmed: got %q, %v, want %q", got, err, tt.confirmed)
				}
				if got, err := os.ReadFile(filepath.Join(dir, "confirmed.yaml")); err != nil || string(got) != tt.confirmed {
					t.Errorf("confirmed.yaml holds %q, %v, want %q", got, err, tt.confirmed)
				}
				said := s.Damage()
				if len(said) != len(tt.said) || !slices.EqualFunc(said, tt.said, strings.HasPrefix) {
					t.Errorf("said %q, want %q", said, tt.said)
				}
			}
			s := open(t, dir)
			if err := commit(s, 9); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir)
			if got, err := s.Confirmed(); err != nil || string(got) != "config 9\n" {
				t.Errorf("after the next change: got %q, %v", got, err)
			}
			if slices.ContainsFunc(s.Damage(), func(d string) bool { return strings.HasPrefix(d, used) }) {
				t.Errorf("still said after the next change: %q", s.Damage())
			}
		})
	}
}

// TestEveryFlippedBitIsNoticed is bit rot in an entry that is not the newest.
func TestEveryFlippedBitIsNoticed(t *testing.T) {
	disk := memory{}
	s, err := txn.NewStore(disk)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		if err := commit(s, n+1); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"history/000002.json", "history/000003.json"} {
		good := disk[name]
		for i := range good {
			for bit := range 8 {
				bad := slices.Clone(good)
				bad[i] ^= 1 << bit
				disk[name] = bad
				if err := s.Settle(); err != nil {
					t.Fatal(err)
				}
				if s.Damage() == nil {
					t.Fatalf("bit %d of byte %d of %s is another, and nobody noticed: %s", bit, i, name, bad)
				}
				if got, err := s.Confirmed(); err != nil || string(got) != "config 3\n" {
					t.Fatalf("confirmed: got %q, %v", got, err)
				}
			}
		}
		disk[name] = good
	}
}

func TestEntriesOfTheOldFormAreTakenOver(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	for n := 1; n <= 3; n++ {
		data, err := json.Marshal(map[string]any{"time": change(n).Time, "author": "alex", "why": change(n).Why, "config": change(n).Config})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(entryFile(dir, n+4), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "confirmed.yaml"), change(3).Config, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	if d := s.Damage(); d != nil {
		t.Errorf("damage: %q", d)
	}
	if err := commit(s, 4); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if d := s.Damage(); d != nil {
		t.Errorf("damage: %q", d)
	}
	if diff := cmp.Diff([]int{8, 7, 6, 5}, numbers(s)); diff != "" {
		t.Errorf("numbers differ (-want +got):\n%s", diff)
	}
	e, err := s.Entry(6)
	if err != nil || e.Before == "" || e.Parent == "" || !cmp.Equal(e.Change, change(2)) {
		t.Errorf("entry 6 is %+v, %v", e, err)
	}
}

func TestCommitsOfTheHistoryFollowEachOther(t *testing.T) {
	_, s := filled(t, 4)
	parent := gitrepo.ID{}
	for _, e := range slices.Backward(s.History()) {
		c := e.Commit()
		if c.Parent != parent {
			t.Errorf("the commit of change %d follows %s, want %s", e.Number, c.Parent, parent)
		}
		parent = c.ID()
	}
	e := txn.Entry{Number: 7, Change: change(1)}
	e.Via, e.Name, e.Reach, e.MoreReach = "cli", "home.yaml", []string{"guest → internet: any becomes possible"}, 3
	want := gitrepo.Commit{
		Author: "alex", Time: change(1).Time, File: "home.yaml", Data: change(1).Config,
		Message: "change 1\n\nguest → internet: any becomes possible\nand 3 more\n\nChange: 7\nVia: cli\n",
	}
	if diff := cmp.Diff(want, e.Commit()); diff != "" {
		t.Errorf("commit differs (-want +got):\n%s", diff)
	}
}

// FuzzUnseal reads files of the history that a broken disk, or somebody, has left.
func FuzzUnseal(f *testing.F) {
	disk := memory{}
	s, err := txn.NewStore(disk)
	if err == nil {
		err = commit(s, 1)
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Add(disk["history/000001.json"])
	f.Add([]byte(`{"config":"eA=="}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := txn.NewStore(memory{"history/000001.json": data})
		if err != nil {
			t.Fatal(err)
		}
		_, found := s.Newest()
		if found == (s.Damage() != nil && strings.HasPrefix(s.Damage()[0], "change 1")) {
			t.Errorf("found %v, damage %q", found, s.Damage())
		}
	})
}
