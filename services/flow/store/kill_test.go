package store_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"bulkhead/services/flow/record"
	"bulkhead/services/flow/store"
)

const (
	killDir  = "BULKHEAD_TEST_STORE"      // where the process that is to be killed writes
	killFrom = "BULKHEAD_TEST_STORE_FROM" // the number of its first record
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		fmt.Println(writeUntilKilled(dir))
		os.Exit(1)
	}
	if dir := os.Getenv(askDir); dir != "" {
		if err := ask(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// writeUntilKilled writes numbered records, and says the number of each that is synced.
func writeUntilKilled(dir string) error {
	s, err := openSmall(dir)
	if err != nil {
		return err
	}
	next, err := strconv.ParseUint(os.Getenv(killFrom), 10, 64)
	if err != nil {
		return err
	}
	for h := newHome(next, day1.Add(time.Duration(next)*time.Second), 86_400); ; {
		list := h.batch(1 + h.rng.IntN(100))
		for i := range list {
			list[i].Out.Bytes = next
			next++
		}
		if err := s.Append(list); err != nil {
			return err
		}
		if err := s.Sync(); err != nil {
			return err
		}
		fmt.Println(next - 1)
	}
}

func openSmall(dir string) (*store.Store, error) {
	return store.OpenOn(store.Directory(dir), store.Options{Log: quiet, Reserve: -1, Now: func() time.Time { return day1 }}, 300)
}

func TestKilledProcessLosesOnlyWhatWasNotSynced(t *testing.T) {
	dir := t.TempDir()
	next := 0
	for range 10 {
		synced := killed(t, dir, next)
		s, err := openSmall(dir)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[uint64]bool)
		if err := s.Find(t.Context(), record.Filter{}, 0, func(r *record.Record) bool {
			if seen[r.Out.Bytes] {
				t.Errorf("record %d is there twice", r.Out.Bytes)
			}
			seen[r.Out.Bytes] = true
			return true
		}); err != nil {
			t.Fatal(err)
		}
		for i := range len(seen) {
			if !seen[uint64(i)] {
				t.Errorf("record %d is missing", i)
			}
		}
		if len(seen) <= synced || s.Stats().Damaged > 0 {
			t.Errorf("%d records, but %d was synced; %+v", len(seen), synced, s.Stats())
		}
		next = len(seen)
		if t.Failed() {
			return
		}
	}
	if next < 200 {
		t.Errorf("only %d records were written", next)
	}
}

// killed lets a process write for a while, and returns the last record it said is synced.
func killed(t *testing.T, dir string, from int) (synced int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killDir+"="+dir, fmt.Sprintf("%s=%d", killFrom, from))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	synced = from - 1
	lines, rounds := bufio.NewScanner(out), rand.IntN(20)
	for round := 0; lines.Scan(); round++ {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(lines.Text())
		}
		synced = n
		if round == rounds {
			// Some way into the next one.
			time.AfterFunc(time.Duration(rand.IntN(5000))*time.Microsecond, func() { cmd.Process.Kill() })
		}
	}
	cmd.Wait()
	return synced
}
