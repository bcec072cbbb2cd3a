package store_test

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/services/flow/record"
	"bulkhead/services/flow/store"
)

// small is a disk with some segments and a write-ahead file, and what is in them.
func small(t testing.TB) (*memory, []record.Record) {
	t.Helper()
	d := newMemory()
	h := newHome(3, day1, 333_333)
	s := reopened(t, d)
	var all []record.Record
	for range 25 {
		list := h.batch(40)
		all = append(all, list...)
		if err := s.Append(list); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	return d.restart(everything), all
}

func reopened(t testing.TB, d *memory) *store.Store {
	t.Helper()
	s, err := store.OpenOn(d, store.Options{Log: quiet, Now: func() time.Time { return day1 }}, 300)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func count(t testing.TB, s *store.Store, f record.Filter) (n int) {
	t.Helper()
	if err := s.Find(t.Context(), f, 0, func(*record.Record) bool { n++; return true }); err != nil {
		t.Fatal(err)
	}
	return n
}

// damage returns data with one bit turned over, or cut off.
func damage(rng *rand.Rand, data []byte) []byte {
	data = bytes.Clone(data)
	at := rng.IntN(len(data))
	if rng.IntN(3) == 0 {
		return data[:at]
	}
	data[at] ^= 1 << rng.IntN(8)
	return data
}

func TestDamagedSegmentIsSetAsideAndSaid(t *testing.T) {
	healthy, all := small(t)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 80 {
		d := healthy.restart(everything)
		var segments []string
		for _, name := range slices.Sorted(maps.Keys(d.names)) {
			if strings.HasSuffix(name, ".parquet") {
				segments = append(segments, name)
			}
		}
		name := segments[rng.IntN(len(segments))]
		d.names[name].data = damage(rng, d.names[name].data)
		s := reopened(t, d)
		if _, err := s.Top(t.Context(), record.Filter{}, record.ByBytes, record.PerDevice, 5); err != nil {
			t.Fatal(err)
		}
		n := count(t, s, record.Filter{})
		// A question may not have read what is damaged. All columns are looked at by Find.
		aside := d.names[name+".damaged"] != nil
		if st := s.Stats(); aside && (n != len(all)-300 || st.Damaged != 1) || !aside && n != len(all) {
			t.Errorf("%s, set aside %v: %d records, %+v", name, aside, n, st)
		}
		if n := count(t, reopened(t, d), record.Filter{}); aside && n != len(all)-300 {
			t.Errorf("%s: after a restart %d records", name, n)
		}
	}
}

func TestDamagedWriteAheadFileIsReadUpToThere(t *testing.T) {
	healthy, all := small(t)
	rng := rand.New(rand.NewPCG(2, 2))
	const name = "wal-3"
	whole := []int{900, 920, 960, len(all)} // what is in segments, and each batch
	for range 100 {
		d := healthy.restart(everything)
		d.names[name].data = damage(rng, d.names[name].data)
		s := reopened(t, d)
		n := count(t, s, record.Filter{})
		if !slices.Contains(whole, n) {
			t.Errorf("%d records", n)
		}
		if err := s.Append(newHome(4, day1, 333_333).batch(10)); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		if got := count(t, reopened(t, d.restart(nothing)), record.Filter{}); got != n+10 {
			t.Errorf("%d records after a restart, want %d", got, n+10)
		}
	}
}

func FuzzWriteAheadFile(f *testing.F) {
	d, _ := small(f)
	f.Add(d.names["wal-3"].data)
	f.Add([]byte("flow wal 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		rows, _ := store.ReadWAL(data)
		// The same with checksums that are right, as a fuzzer does not guess any.
		more, _ := store.ReadWAL(store.Checksummed(data))
		runtime.ReadMemStats(&after)
		if rows > store.MaxRows || more > store.MaxRows {
			t.Errorf("%d and %d rows", rows, more)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 128<<20 {
			t.Errorf("%d bytes of memory for a file of %d", used, len(data))
		}
	})
}

func FuzzSegment(f *testing.F) {
	d, _ := small(f)
	var name string
	for n := range d.names {
		if strings.HasSuffix(n, ".parquet") {
			name = n
		}
	}
	f.Add(d.names[name].data)
	f.Fuzz(func(t *testing.T, data []byte) {
		d := newMemory()
		d.names["2026-11-01"] = &inode{dir: true}
		d.names[name] = &inode{data: data}
		s := reopened(t, d)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		count(t, s, record.Filter{})
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
			t.Errorf("%d bytes of memory for a file of %d", used, len(data))
		}
	})
}
