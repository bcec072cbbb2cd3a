//go:build linux

package txn_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/netcfg/nstest"
	"bulkhead/netcfg/txn"
)

func change(n int) txn.Change {
	return txn.Change{
		Time:   time.Date(2026, 11, 1, 12, n, 0, 0, time.UTC),
		Author: "alex", Why: fmt.Sprint("change ", n), Config: fmt.Appendf(nil, "config %d\n", n),
	}
}

func trial(n int) txn.Trial { return txn.Trial{ID: fmt.Sprint(n), Change: change(n)} }

// commit makes a change that its author confirms.
func commit(s *txn.Store, n int) error { return keep(s, trial(n)) }

func keep(s *txn.Store, t txn.Trial) error {
	if err := s.Stage(t); err != nil {
		return err
	}
	if err := s.Promote(t.Outcome(txn.Confirmed, t.Time)); err != nil {
		return errors.Join(err, s.Discard())
	}
	return nil
}

// outage is a disk whose power fails after a number of writing operations. What
// came before is durable; that one and all after it never happen.
type outage struct {
	txn.Disk
	left int
}

var errOutage = errors.New("power is out")

func (o *outage) write(do func() error) error {
	if o.left == 0 {
		return errOutage
	}
	o.left--
	return do()
}

func (o *outage) Write(name string, data []byte) error {
	return o.write(func() error { return o.Disk.Write(name, data) })
}
func (o *outage) Rename(a, b string) error {
	return o.write(func() error { return o.Disk.Rename(a, b) })
}
func (o *outage) Remove(name string) error {
	return o.write(func() error { return o.Disk.Remove(name) })
}

func TestPowerCutAnywhereLeavesOldOrNewAndItsHistory(t *testing.T) {
	for operations := range 14 {
		t.Run(fmt.Sprint("after ", operations), func(t *testing.T) {
			dir := t.TempDir()
			s, err := txn.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := commit(s, 1); err != nil {
				t.Fatal(err)
			}
			if s, err = txn.NewStore(&outage{txn.Directory(dir), operations}); err != nil {
				t.Fatal(err)
			}
			_ = commit(s, 2) // its outcome is what the disk says, not what the dying process thought

			if s, err = txn.Open(dir); err != nil {
				t.Fatalf("open after the outage: %v", err)
			}
			got, err := s.Confirmed()
			if err != nil {
				t.Fatal(err)
			}
			history := s.History()
			if string(got) != string(history[0].Config) {
				t.Errorf("confirmed is %q, the newest of the history %q", got, history[0].Config)
			}
			if want := string(got) == "config 2\n"; want != (len(history) == 2) {
				t.Errorf("confirmed is %q with %d changes in the history", got, len(history))
			}
			if _, err := os.Stat(filepath.Join(dir, "staged.json")); err == nil {
				t.Error("the staged change was neither filed nor forgotten")
			}
			if err := commit(s, 3); err != nil {
				t.Errorf("the next change: %v", err)
			}
		})
	}
}

func TestOpenSweepsHalfWrittenFiles(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, ".confirmed.yaml123456")
	if err := os.WriteFile(left, []byte("half a co"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "staged.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := txn.Open(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != "history" {
		t.Errorf("left behind: %v", entries)
	}
}

func TestSaveWritesOnlyWhatChanged(t *testing.T) {
	dir := t.TempDir()
	s, err := txn.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "addresses.json")
	save := func(v int) os.FileInfo {
		t.Helper()
		if err := s.Save("addresses.json", v); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first := save(1)
	if !os.SameFile(first, save(1)) {
		t.Error("the same value was written again")
	}
	if os.SameFile(first, save(2)) {
		t.Error("another value was not written, or not by rename")
	}
	var got int
	if err := s.Load("addresses.json", &got); err != nil || got != 2 {
		t.Errorf("load: got %d, %v", got, err)
	}
}

func TestServicesCanPassToTheirOwnState(t *testing.T) {
	state := filepath.Join(t.TempDir(), "bulkhead")
	if _, err := txn.Open(filepath.Join(state, "netcfgd")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{state: 0o755, filepath.Join(state, "netcfgd"): 0o700} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %v, want %v", path, got, want)
		}
	}
}

// unsynced is a disk on which replacing a file works and says that it did not.
type unsynced struct {
	txn.Disk
	fails int // how many times
}

var errSync = errors.New("input/output error")

func (u *unsynced) Write(name string, data []byte) error {
	if err := u.Disk.Write(name, data); err != nil {
		return err
	}
	if name == "confirmed.yaml" && u.fails > 0 {
		u.fails--
		return errSync
	}
	return nil
}

func TestWhatIsUndoneDoesNotBoot(t *testing.T) {
	for _, before := range []int{0, 1} {
		t.Run(fmt.Sprint("changes before: ", before), func(t *testing.T) {
			dir := t.TempDir()
			disk := &unsynced{Disk: txn.Directory(dir)}
			s, err := txn.NewStore(disk)
			if err != nil {
				t.Fatal(err)
			}
			for n := range before {
				if err := commit(s, n+1); err != nil {
					t.Fatal(err)
				}
			}
			disk.fails = 1
			if err := commit(s, 2); !errors.Is(err, errSync) {
				t.Errorf("got error %v, want the disk's", err)
			}
			if s, err = txn.Open(dir); err != nil {
				t.Fatal(err)
			}
			got, err := s.Confirmed()
			if before == 0 && !errors.Is(err, fs.ErrNotExist) || before == 1 && string(got) != "config 1\n" {
				t.Errorf("boots with %q, %v", got, err)
			}
			if history := s.History(); len(history) != before {
				t.Errorf("history holds %d changes", len(history))
			}
		})
	}
}

func TestChangeThatCannotBeTakenBackIsToldOf(t *testing.T) {
	disk := &unsynced{Disk: txn.Directory(t.TempDir())}
	s, err := txn.NewStore(disk)
	if err != nil {
		t.Fatal(err)
	}
	if err := commit(s, 1); err != nil {
		t.Fatal(err)
	}
	disk.fails = 2
	if err := commit(s, 2); err == nil || !strings.Contains(err.Error(), "the change may be what boots next") {
		t.Errorf("got %v", err)
	}
}

func TestStoreThatCannotBeWrittenCanBeRead(t *testing.T) {
	nstest.New(t) // skips where we are not root
	dir := t.TempDir()
	s, err := txn.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := commit(s, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Stage(trial(2)); err != nil { // and the power goes
		t.Fatal(err)
	}
	readOnly(t, dir, true)
	s, err = txn.Open(dir)
	if s == nil || !errors.Is(err, unix.EROFS) {
		t.Fatalf("got store %v, error %v", s, err)
	}
	if got, err := s.Confirmed(); err != nil || string(got) != "config 1\n" {
		t.Errorf("confirmed: got %q, %v", got, err)
	}
	if err := commit(s, 3); !errors.Is(err, unix.EROFS) {
		t.Errorf("a change was taken: %v", err)
	}
	readOnly(t, dir, false)
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	if err := commit(s, 3); err != nil {
		t.Errorf("once it can be written: %v", err)
	}
	if got, err := s.Confirmed(); err != nil || string(got) != "config 3\n" {
		t.Errorf("confirmed: got %q, %v", got, err)
	}
}

// readOnly mounts dir onto itself, or makes that mount writable.
func readOnly(t *testing.T, dir string, yes bool) {
	t.Helper()
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND)
	if yes {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("", dir, "", flags, ""); err != nil {
		t.Fatal(err)
	}
}
