package store_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"bulkhead/services/flow/record"
	"bulkhead/services/flow/store"
)

var quiet = slog.New(slog.DiscardHandler)

// TestPowerCutAnywhereLosesOnlyWhatWasNotSynced cuts the power at every operation on the
// disk, done or not, and has each kind of what was not synced survive.
func TestPowerCutAnywhereLosesOnlyWhatWasNotSynced(t *testing.T) {
	for _, landed := range []bool{false, true} {
		for o := range numOutages {
			if landed && o != nothing && o != everything {
				continue // these differ only in what was not done before
			}
			for left := 0; cutAt(t, left, landed, o); left++ {
			}
		}
	}
}

// cutAt lets a store work until the power fails, twice, and reports whether it has.
func cutAt(t *testing.T, left int, landed bool, o outage) bool {
	t.Helper()
	d := newMemory()
	d.left, d.landed = left, landed
	// Just before midnight, so that the day changes, and generations have both days.
	h := newHome(uint64(left), day1.Add(24*time.Hour-2*time.Minute), 333_333)
	var synced, all []record.Record
	work := func() {
		s, err := store.OpenOn(d, store.Options{Log: quiet, Now: func() time.Time { return h.now }}, 40)
		for round := 0; err == nil && round < 6; round++ {
			for range 3 {
				list := h.batch(7)
				all = append(all, list...)
				if err := s.Append(list); err != nil {
					t.Fatal(err)
				}
				if round == 3 {
					s.Spill()
				}
			}
			h.now = h.now.Add(20 * time.Second)
			if err = s.Sync(); err == nil {
				synced = append([]record.Record(nil), all...)
			}
		}
	}
	work()
	cut := d.left < 0
	for again := range 1 + left%2 {
		d = d.restart(o)
		s, err := store.OpenOn(d, store.Options{Log: quiet, Now: func() time.Time { return h.now }}, 40)
		if err != nil {
			t.Fatal(err)
		}
		what := fmt.Sprintf("%d operations, landed %v, outage %d, start %d", left, landed, o, again)
		all = survivors(t, what, s, synced, all)
		synced = all
		if st := s.Stats(); st.Damaged > 0 {
			t.Fatalf("%s: damaged: %+v", what, st)
		}
		d.left = left % 20 // and again while it recovers, or soon after
		work()
	}
	return cut
}

// survivors returns all records of the store, which are those that were synced, and of
// the others none twice.
func survivors(t *testing.T, what string, s *store.Store, synced, all []record.Record) []record.Record {
	t.Helper()
	left := make(map[record.Record]int)
	for _, r := range all {
		left[r]++
	}
	var got []record.Record
	if err := s.Find(t.Context(), record.Filter{}, 0, func(r *record.Record) bool {
		got = append(got, *r)
		if left[*r]--; left[*r] < 0 {
			t.Fatalf("%s: a record is there that was not written, or twice", what)
		}
		return true
	}); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for _, r := range got {
		left[r] = 0
	}
	for _, r := range synced {
		if left[r] > 0 {
			t.Fatalf("%s: %d records, and one that was synced is not among them", what, len(got))
		}
	}
	return got
}
