package store_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/record"
	"bulkhead/services/flow/store"
)

var comparable = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

var day1 = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// filled returns a store that has the records of two homes, in segments, in ones that are
// not synced yet, in the write-ahead file and in memory only; and these.
func filled(t testing.TB, n, perSegment int) (*store.Store, []record.Record) {
	t.Helper()
	// Ten hours and records that end out of order: the segments overlap.
	a, b := newHome(1, day1.Add(20*time.Hour), n*12/10), newHome(2, day1.Add(19*time.Hour), n*12/10)
	s, err := store.OpenOn(newMemory(), store.Options{Log: quiet, Now: func() time.Time { return a.now }}, perSegment)
	if err != nil {
		t.Fatal(err)
	}
	var all []record.Record
	for i := 0; i < n; i += 100 {
		list := append(a.batch(50), b.batch(50)...)
		list[0].Src.Addr = netip.MustParseAddr("2001:db8::1")
		list[1].NATSrc = netip.MustParseAddrPort("[2001:db8::2]:7")
		list[2].Src.Addr, list[2].Dst.Addr = netip.Addr{}, netip.Addr{}
		list[3].Out.Bytes = 1<<63 + uint64(i)
		list[4].Start, list[4].Began = list[4].End.Add(time.Hour), list[4].End.Add(2*time.Hour) // the clock was set back
		all = append(all, list...)
		if err := s.Append(list); err != nil {
			t.Fatal(err)
		}
		switch {
		case i < n*8/10:
			err = s.Sync()
		case i < n*9/10:
			err = s.Spill()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	st := s.Stats()
	if st.Segments == 0 || st.Memory == 0 {
		t.Fatalf("not everything is tried: %+v", st)
	}
	return s, all
}

// filters returns filters that pick much, little and nothing.
func filters(rng *rand.Rand, all []record.Record) (list []record.Filter) {
	pick := func() *record.Record { return &all[rng.IntN(len(all))] }
	who := func(s record.Side) record.Who {
		bits := 8 + rng.IntN(25)
		prefix, _ := s.Addr.Prefix(bits)
		return []record.Who{{Party: s.Zone}, {Device: s.Device}, {MAC: s.MAC}, {Prefix: prefix}}[rng.IntN(4)]
	}
	fields := []func(*record.Filter){
		func(f *record.Filter) { f.Since = pick().End },
		func(f *record.Filter) { f.Until = pick().Start },
		func(f *record.Filter) { f.Device = who(pick().Src) },
		func(f *record.Filter) { f.From = who(pick().Src) },
		func(f *record.Filter) { f.To = who(pick().Dst) },
		func(f *record.Filter) { f.Zone = pick().Src.Zone },
		func(f *record.Filter) { f.Rule = pick().Rule },
		func(f *record.Filter) { f.Reason = pick().Reason },
		func(f *record.Filter) { f.Verdict = pick().Verdict },
		func(f *record.Filter) { f.Proto = pick().Proto },
		func(f *record.Filter) { f.Port = pick().Dst.Port },
		func(f *record.Filter) { f.Name = pick().Name },
		func(f *record.Filter) { _, f.Name, _ = strings.Cut(pick().Name, ".") },
	}
	list = append(list, record.Filter{}, record.Filter{Rule: "there is none"})
	for range 30 {
		var f record.Filter
		for range 1 + rng.IntN(3) {
			fields[rng.IntN(len(fields))](&f)
		}
		list = append(list, f)
	}
	return list
}

func TestAnswersAreThoseOfLookingAtEveryRecord(t *testing.T) {
	s, all := filled(t, 3000, 400)
	rng := rand.New(rand.NewPCG(1, 1))
	for i, f := range filters(rng, all) {
		var want []record.Record
		for _, r := range all {
			if f.Match(&r) {
				want = append(want, r)
			}
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			sameRecords(t, s, f, want)
			for _, m := range []record.Measure{record.ByBytes, record.ByConnections, record.ByRefused} {
				for _, g := range []record.Group{record.PerDevice, record.PerDestination, record.PerRule} {
					sameTop(t, s, f, m, g, 1+rng.IntN(20), want)
				}
			}
			sameTalks(t, s, f, 1+rng.IntN(400), want)
		})
		if t.Failed() {
			t.Fatalf("filter %+v picks %d", f, len(want))
		}
	}
}

func sameRecords(t *testing.T, s *store.Store, f record.Filter, want []record.Record) {
	t.Helper()
	var got []record.Record
	err := s.Find(t.Context(), f, 0, func(r *record.Record) bool {
		got = append(got, *r)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(got, func(a, b record.Record) int { return b.End.Compare(a.End) }) {
		t.Error("not the latest end first")
	}
	limit := len(want) / 3
	if limit > 0 {
		n := 0
		err = s.Find(t.Context(), f, limit, func(r *record.Record) bool {
			if !r.End.Equal(got[n].End) {
				t.Errorf("with a limit record %d is another one", n)
			}
			n++
			return true
		})
		if err != nil || n != limit {
			t.Errorf("got %d records, %v, want %d", n, err, limit)
		}
	}
	if diff := gocmp.Diff(inOrder(want), inOrder(got), comparable); diff != "" {
		t.Errorf("(-want +got)\n%.2000s", diff)
	}
}

func inOrder(list []record.Record) []string {
	var lines []string
	for _, r := range list {
		lines = append(lines, fmt.Sprintf("%+v", r))
	}
	slices.Sort(lines)
	return lines
}

func sameTop(t *testing.T, s *store.Store, f record.Filter, m record.Measure, g record.Group, n int, list []record.Record) {
	t.Helper()
	sums := make(map[[2]string]*record.Sum)
	for _, r := range list {
		k, zone := g.Key(&r)
		if sums[[2]string{k, zone}] == nil {
			sums[[2]string{k, zone}] = &record.Sum{Key: k, Zone: zone}
		}
		sum := sums[[2]string{k, zone}]
		sum.Add(&r)
		if g == record.PerRule && r.End.After(sum.Last) {
			sum.Last = r.End
		}
	}
	var want []record.Sum
	for _, sum := range sums {
		if m.Value(sum) > 0 {
			want = append(want, *sum)
		}
	}
	slices.SortFunc(want, func(a, b record.Sum) int {
		return cmp.Or(cmp.Compare(m.Value(&b), m.Value(&a)), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Zone, b.Zone))
	})
	want = want[:min(n, len(want))]
	got, err := s.Top(t.Context(), f, m, g, n)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s by %s (-want +got)\n%.2000s", g, m, diff)
	}
}

func sameTalks(t *testing.T, s *store.Store, f record.Filter, n int, list []record.Record) {
	t.Helper()
	sums := make(map[record.Talk]record.Sum)
	var total record.Sum
	for _, r := range list {
		sum := sums[record.TalkOf(&r)]
		sum.Add(&r)
		sums[record.TalkOf(&r)] = sum
		total.Add(&r)
	}
	got, rest, err := s.Talks(t.Context(), f, n)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != min(n, len(sums)) {
		t.Errorf("got %d talks of %d", len(got), len(sums))
	}
	for _, talk := range got {
		if diff := gocmp.Diff(sums[talk.Talk], talk.Sum); diff != "" {
			t.Errorf("%+v (-want +got)\n%s", talk.Talk, diff)
		}
		rest.Connections += talk.Sum.Connections
		rest.Refused += talk.Sum.Refused
		rest.Out.Add(talk.Sum.Out)
		rest.In.Add(talk.Sum.In)
	}
	if diff := gocmp.Diff(total, rest); diff != "" {
		t.Errorf("all talks and the rest (-want +got)\n%s", diff)
	}
}

// More groups than fit in memory, and more records than one pass finds.
func TestManyGroupsAndRecordsAreCountedExactly(t *testing.T) {
	s, err := store.OpenOn(newMemory(), store.Options{Log: quiet, Now: func() time.Time { return day1 }}, 8000)
	if err != nil {
		t.Fatal(err)
	}
	const hosts = 40_000
	for i := range hosts {
		r := record.Record{
			Start: day1, End: day1.Add(time.Duration(i%7) * time.Millisecond), Began: day1, Proto: model.ProtoTCP, Verdict: record.Refused,
			Src: record.Side{Zone: "home"}, Dst: record.Side{Zone: model.Internet, Addr: netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)})},
			Out: record.Count{Packets: uint64(i)},
		}
		if err := s.Append([]record.Record{r}); err != nil {
			t.Fatal(err)
		}
		if i%8000 == 0 {
			if err := s.Spill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	top, err := s.Top(t.Context(), record.Filter{}, record.ByRefused, record.PerDestination, 3)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, sum := range top {
		got = append(got, sum.Refused)
	}
	if diff := gocmp.Diff([]uint64{hosts - 1, hosts - 2, hosts - 3}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	seen := make(map[netip.Addr]bool)
	if err := s.Find(t.Context(), record.Filter{}, 0, func(r *record.Record) bool {
		seen[r.Dst.Addr] = true
		return true
	}); err != nil || len(seen) != hosts {
		t.Errorf("found %d hosts of %d, %v", len(seen), hosts, err)
	}
}

func TestQuestionsEndWhenNobodyWaits(t *testing.T) {
	s, _ := filled(t, 2000, 700)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	if err := s.Find(ctx, record.Filter{}, 0, func(*record.Record) bool { n++; return n < 3 }); err != nil || n != 3 {
		t.Errorf("got %d records, %v", n, err)
	}
	cancel()
	_, err := s.Top(ctx, record.Filter{}, record.ByBytes, record.PerDevice, 1)
	_, _, err2 := s.Talks(ctx, record.Filter{}, 1)
	err3 := s.Find(ctx, record.Filter{}, 0, func(*record.Record) bool { return true })
	for _, err := range []error{err, err2, err3} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}
