package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/record"
	"bulkhead/services/flow/store"
)

// A power cut costs five seconds, and a card is written to no more often than that.
func TestRunSyncsEveryFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemory()
		s, err := store.OpenOn(d, store.Options{Log: quiet}, store.MaxRows)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		h := newHome(1, time.Now(), 86_400)
		for i := range 60 {
			time.Sleep(time.Second)
			if err := s.Append(h.batch(1)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			st := s.Stats()
			// One more when the file is new: for its name.
			if most := uint64(i/5 + 2); st.Syncs > most {
				t.Errorf("after %d s: %d syncs", i+1, st.Syncs)
			}
			left, err := store.OpenOn(d.restart(nothing), store.Options{Log: quiet}, store.MaxRows)
			if err != nil {
				t.Fatal(err)
			}
			if n := left.Stats().Memory; n < i+1-5 {
				t.Errorf("after %d s: %d records survive", i+1, n)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		left, err := store.OpenOn(d.restart(nothing), store.Options{Log: quiet}, store.MaxRows)
		if err != nil || left.Stats().Memory != 60 {
			t.Errorf("after the end: %+v, %v", left.Stats(), err)
		}
	})
}

func TestOldestGoFirst(t *testing.T) {
	d, now := newMemory(), day1
	o := store.Options{Log: quiet, Age: 72 * time.Hour, Reserve: -1, Now: func() time.Time { return now }}
	s, err := store.OpenOn(d, o, 100)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := s.Append(newHome(1, now, 100_000).batch(100)); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		now = now.Add(24 * time.Hour)
	}
	oldest := func(s *store.Store, days int) {
		t.Helper()
		if st := s.Stats(); st.Oldest.Before(now.Add(-time.Duration(days) * 24 * time.Hour)) {
			t.Errorf("%+v", st)
		}
	}
	oldest(s, 4)
	for name := range d.names {
		if strings.Compare(name, "2026-11-07") < 0 {
			t.Errorf("%s is still there", name)
		}
	}
	// A bound of bytes that two segments fit in.
	o.Bytes = 2*s.Stats().Bytes/int64(s.Stats().Segments) + 500
	if s, err = store.OpenOn(d, o, 100); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Segments != 2 {
		t.Errorf("%+v", st)
	}
	oldest(s, 2)
}

func TestFullDiskCostsTheOldestThenTheNewest(t *testing.T) {
	d, now := newMemory(), day1
	const reserve = 50_000
	d.free = reserve + 150_000
	s, err := store.OpenOn(d, store.Options{Log: quiet, Reserve: reserve, Now: func() time.Time { return now }}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	h := newHome(1, now, 100_000)
	for range 20 {
		if err := s.Append(h.batch(1000)); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	st := s.Stats()
	if st.Dropped == 0 || st.Segments == 0 || st.Lost > 0 {
		t.Errorf("%+v", st)
	}
	if d.free < reserve-30_000 { // a segment may begin above the reserve
		t.Errorf("%d bytes are left", d.free)
	}
	// Others take all there is, again and again: segments go, memory fills, records are lost.
	for st.Lost == 0 {
		d.free = 0
		if err := s.Append(h.batch(1000)); err != nil && !errors.Is(err, store.ErrFull) {
			t.Fatal(err)
		}
		s.Sync()
		st = s.Stats()
	}
	if d.free = 0; s.Sync() == nil {
		t.Error("a full disk was written to")
	}
	if st.Segments > 2 || st.Memory > 4*store.MaxRows {
		t.Errorf("%+v", st)
	}
	// There is room again.
	d.free = 1 << 30
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Memory > 1000 {
		t.Errorf("%+v", st)
	}
}

// A write that does not fit is no reason to lose what did.
func TestTornWriteIsRepaired(t *testing.T) {
	d, now := newMemory(), day1
	s, err := store.OpenOn(d, store.Options{Log: quiet, Reserve: -1, Now: func() time.Time { return now }}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	h := newHome(1, now, 100_000)
	for i := range 12 {
		d.free = -1
		if i%4 == 2 {
			d.free = 100 // bytes: less than a batch
		}
		if err := s.Append(h.batch(50)); err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(); (err != nil) != (i%4 == 2) {
			t.Fatalf("round %d: %v", i, err)
		}
		if i%4 == 2 {
			continue
		}
		left, err := store.OpenOn(d.restart(nothing), store.Options{Log: quiet, Now: func() time.Time { return now }}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if n := count(t, left, record.Filter{}); n != 50*(i+1) {
			t.Errorf("round %d: %d records survive", i, n)
		}
	}
}

// The rest of what no name says is what a flood consists of: each packet from somebody else.
func TestFloodIsBoundedInMemory(t *testing.T) {
	d := newMemory()
	s, err := store.OpenOn(d, store.Options{Log: quiet, Now: func() time.Time { return day1 }}, store.MaxRows)
	if err != nil {
		t.Fatal(err)
	}
	h := newHome(1, day1, 100_000)
	list := make([]record.Record, 200_000)
	for i := range list {
		list[i] = record.Record{
			Start: day1, End: day1, Began: day1, Verdict: record.Refused, Reason: "no-rule", Proto: model.ProtoTCP,
			Src: record.Side{Zone: model.Internet, Addr: h.foreign()}, Dst: record.Side{Zone: model.Box, Addr: wanAddr, Port: 22},
		}
	}
	if err := s.Append(list); !errors.Is(err, store.ErrFull) {
		t.Fatalf("got %v", err)
	}
	st := s.Stats()
	if st.Memory > 64_000 || int(st.Lost)+st.Memory != len(list) {
		t.Errorf("%+v", st)
	}
	if err := s.Spill(); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st.Memory > 16_000 {
		t.Errorf("%+v", st)
	}
	if n := count(t, s, record.Filter{}); n != st.Memory {
		t.Errorf("%d records, want %d", n, st.Memory)
	}
}
