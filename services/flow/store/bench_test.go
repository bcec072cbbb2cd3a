package store_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/services/flow/record"
	"bulkhead/services/flow/store"
)

const (
	askDir       = "BULKHEAD_TEST_STORE_ASK"     // has a process of its own ask what is there
	benchRecords = "BULKHEAD_TEST_STORE_RECORDS" // how many are asked; default 10 million
	benchDays    = 30
)

// BenchmarkWriting is of a household's records as they come, with what a flash card minds.
func BenchmarkWriting(b *testing.B) {
	const n = 10 * store.MaxRows
	for b.Loop() {
		begin := time.Now()
		h := newHome(1, day1, 10_000_000/benchDays)
		s, err := store.OpenOn(newMemory(), store.Options{Log: quiet, Now: func() time.Time { return h.now }}, store.MaxRows)
		if err != nil {
			b.Fatal(err)
		}
		next := h.now
		for r := range h.records(n) {
			for ; next.Before(r.End); next = next.Add(5 * time.Second) {
				if err := s.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			if err := s.Append([]record.Record{r}); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.Sync(); err != nil {
			b.Fatal(err)
		}
		st := s.Stats()
		if st.Memory > 0 {
			b.Fatalf("%+v", st)
		}
		b.ReportMetric(float64(st.Bytes)/n, "B/record")
		b.ReportMetric(float64(st.Written)/float64(st.Bytes), "written/kept")
		b.ReportMetric(float64(st.Syncs)/(h.now.Sub(day1).Seconds()/5), "syncs/5s")
		b.ReportMetric(float64(time.Since(begin).Microseconds())/n, "µs/record")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkQuestions asks ten million records of thirty days in a process of its own,
// after the files were dropped from the page cache and again.
func BenchmarkQuestions(b *testing.B) {
	n := 10_000_000
	if v, err := strconv.Atoi(os.Getenv(benchRecords)); err == nil {
		n = v
	}
	dir := b.TempDir()
	h := newHome(1, day1, n/benchDays)
	s, err := store.OpenOn(store.Directory(dir), store.Options{Log: quiet, Now: func() time.Time { return h.now }}, store.MaxRows)
	if err != nil {
		b.Fatal(err)
	}
	for left := n; left > 0; left -= store.MaxRows {
		if err := s.Append(h.batch(min(left, store.MaxRows))); err != nil {
			b.Fatal(err)
		}
		if err := s.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), askDir+"="+dir, "GOMEMLIMIT=40MiB", "BULKHEAD_TEST_STORE_NOW="+h.now.Format(time.RFC3339Nano))
		out, err := cmd.CombinedOutput()
		if err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			var value float64
			var unit string
			if _, err := fmt.Sscan(line, &value, &unit); err != nil {
				b.Fatal(line)
			}
			b.ReportMetric(value, unit)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// ask asks the questions that the design has goals for.
func ask(dir string) error {
	now, err := time.Parse(time.RFC3339Nano, os.Getenv("BULKHEAD_TEST_STORE_NOW"))
	if err != nil {
		return err
	}
	start := time.Now()
	s, err := store.OpenOn(store.Directory(dir), store.Options{Log: quiet, Now: func() time.Time { return now }}, store.MaxRows)
	if err != nil {
		return err
	}
	fmt.Println(time.Since(start).Seconds(), "s-open")
	ctx := context.Background()
	found := 0
	day := func() error {
		found = 0
		return s.Find(ctx, record.Filter{Since: now.Add(-24 * time.Hour), Device: record.Who{Device: "laptop-kim0"}}, 0, func(*record.Record) bool {
			found++
			return true
		})
	}
	month := func() error {
		top, err := s.Top(ctx, record.Filter{Since: now.Add(-benchDays * 24 * time.Hour)}, record.ByBytes, record.PerDevice, 10)
		if err == nil && len(top) != 10 {
			err = fmt.Errorf("%d talkers", len(top))
		}
		return err
	}
	destinations := func() error {
		_, err := s.Top(ctx, record.Filter{}, record.ByConnections, record.PerDestination, 10)
		return err
	}
	talks := func() error {
		_, _, err := s.Talks(ctx, record.Filter{}, 1000)
		return err
	}
	for _, q := range []struct {
		name string
		ask  func() error
	}{{"day", day}, {"top", month}, {"destinations", destinations}, {"talks", talks}} {
		for _, cache := range []string{"cold", "warm"} {
			if cache == "cold" {
				if err := forget(dir); err != nil {
					return err
				}
			}
			start, used := time.Now(), processor()
			if err := q.ask(); err != nil {
				return err
			}
			fmt.Println(time.Since(start).Seconds(), "s-"+q.name+"-"+cache)
			fmt.Println((processor() - used).Seconds(), "s-"+q.name+"-"+cache+"-cpu")
		}
	}
	fmt.Println(found, "found")
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(peak)[0])
	fmt.Println(float64(kib)/1024, "MiB-RSS")
	return err
}

// processor is the time that the process has had of it.
func processor() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// forget drops the files from the page cache.
func forget(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}
