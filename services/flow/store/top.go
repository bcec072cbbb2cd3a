package store

import (
	"cmp"
	"context"
	"hash/maphash"
	"math"
	"slices"
	"time"

	"bulkhead/services/flow/record"
)

// maxGroups is how many sums are kept at a time. If records have more groups than that,
// the segments are looked through again: see tally.
const maxGroups = 1 << 14

var (
	counts = setOf(colOutPackets, colOutBytes, colInPackets, colInBytes)
	times  = setOf(colStart, colDuration)
)

// Top returns the n groups in which the records that the filter picks add up to most, the
// greatest first; groups in which they add up to nothing are not there.
func (s *Store) Top(ctx context.Context, f record.Filter, m record.Measure, g record.Group, n int) ([]record.Sum, error) {
	// Refusals have no bytes and are no connections. There may be very many groups of
	// them that the measure finds nothing in, so that they are added afterwards, to those
	// groups only that are wanted.
	measured, other := f, f
	measured.Verdict, other.Verdict = record.Allowed, record.Refused
	if m == record.ByRefused {
		measured, other = other, measured
	}
	if n <= 0 || f.Verdict == other.Verdict {
		return nil, nil
	}
	type key struct{ name, zone string }
	t := tally[key]{
		sources: s.sources(),
		key: func(r *record.Record) key {
			name, zone := g.Key(r)
			return key{name, zone}
		},
		value: m.Value,
		compare: func(a, b key) int {
			return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.zone, b.zone))
		},
		n:    n,
		load: counts,
	}
	if g == record.PerRule {
		t.load |= times
	}
	shared := groupColumns(g) | setOf(colVerdict)
	if err := t.run(ctx, s, measured, shared); err != nil {
		return nil, err
	}
	if f.Verdict == 0 {
		if err := t.addTo(ctx, s, other, shared); err != nil {
			return nil, err
		}
	}
	var list []record.Sum
	for _, r := range t.rows {
		r.sum.Key, r.sum.Zone = r.key.name, r.key.zone
		list = append(list, r.sum)
	}
	return list, nil
}

func groupColumns(g record.Group) columns {
	switch g {
	case record.PerDevice:
		return setOf(colSrcZone, colSrcDevice, colSrcAddr)
	case record.PerDestination:
		return setOf(colDstZone, colDstDevice, colDstAddr, colName)
	}
	return setOf(colRule, colReason)
}

// Talks adds up who has talked to whom. It returns the n talks with the most connections
// and refused packets, in the order of their parties, and what is in all others.
func (s *Store) Talks(ctx context.Context, f record.Filter, n int) (list []record.TalkSum, rest record.Sum, err error) {
	t := tally[record.Talk]{
		sources: s.sources(),
		key:     record.TalkOf,
		value:   func(s *record.Sum) uint64 { return s.Connections + s.Refused },
		compare: func(a, b record.Talk) int { return a.Compare(&b) },
		n:       max(n, 0),
		load:    counts,
	}
	shared := setOf(colSrcZone, colSrcDevice, colDstZone, colDstDevice, colApp, colProto, colDstPort, colVerdict, colRule, colReason)
	if err := t.run(ctx, s, f, shared); err != nil {
		return nil, record.Sum{}, err
	}
	for _, r := range t.rows {
		list = append(list, record.TalkSum{Talk: r.key, Sum: r.sum})
	}
	slices.SortFunc(list, func(a, b record.TalkSum) int { return a.Compare(&b.Talk) })
	return list, t.rest(), nil
}

// tally adds up records by key, and finds the n keys that add up to most.
//
// With more than maxGroups keys it looks through the records again. The first time it has
// added them up in cells, in each of which are all keys with some bits of their hash in
// common, so that no key can have more than its cell. Then it adds up the keys in the
// greatest cells, those in the next ones, and so on, until no cell is left that has as
// much as the n-th key.
type tally[K comparable] struct {
	sources []source
	key     func(*record.Record) K
	value   func(*record.Sum) uint64 // of one record at a time, too
	compare func(a, b K) int
	n       int
	load    columns // counts, and times if it is wanted when there was something last

	rows  []group[K] // the best so far
	total record.Sum

	seed  maphash.Seed
	sums  map[K]*record.Sum // of this pass
	cells []uint64
	rank  []uint32 // of each cell, by what is in it; nil in the first pass
	from  uint32   // ranks of this pass
	to    uint32
}

type group[K comparable] struct {
	key K
	sum record.Sum
}

const cellBits = 17

func (t *tally[K]) cell(k K) uint64 { return maphash.Comparable(t.seed, k) >> (64 - cellBits) }

// run fills rows and total. Keys with the value 0 are left out.
func (t *tally[K]) run(ctx context.Context, s *Store, f record.Filter, shared columns) error {
	t.seed = maphash.MakeSeed()
	q := &question{s, t.sources, newScan(s.disk, f, shared), t.load}
	err := q.each(ctx, t.begin, t.add)
	if err != nil || t.sums != nil {
		t.keep()
		return err
	}
	order := make([]uint32, len(t.cells))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(t.cells[b], t.cells[a]) })
	t.rank = make([]uint32, len(order))
	for i, c := range order {
		t.rank[c] = uint32(i)
	}
	for int(t.to) < len(order) && t.cells[order[t.to]] > 0 {
		if len(t.rows) == t.n && (t.n == 0 || t.cells[order[t.to]] < t.value(&t.rows[t.n-1].sum)) {
			return nil
		}
		t.from, t.to = t.to, min(t.to+maxGroups, uint32(len(order)))
		if err := q.each(ctx, t.begin, t.add); err != nil {
			return err
		}
		t.keep()
	}
	return nil
}

// question is what is asked of all sources, more than once perhaps.
type question struct {
	store   *Store
	sources []source
	scan    *scan
	load    columns
}

// each hands each part that is picked to do, and all of them again, after begin, if that
// fails because of a damaged segment.
func (q *question) each(ctx context.Context, begin func(), do func(shape *record.Record, sum *record.Sum)) error {
	return q.store.retry(func() error {
		begin()
		for i := range q.sources {
			if err := q.scan.visit(ctx, &q.sources[i], q.load, func() error {
				q.scan.sums(q.load.has(colStart), do)
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// sums adds up each part, and finds its last end if it is dated.
func (s *scan) sums(dated bool, do func(shape *record.Record, sum *record.Sum)) {
	outP, outB, inP, inB := s.values[colOutPackets], s.values[colOutBytes], s.values[colInPackets], s.values[colInBytes]
	for _, p := range s.parts {
		var sum record.Sum
		r := record.Record{Verdict: s.shapes[p.shape].Verdict}
		for i := p.from; i < p.to; i++ {
			r.Out = record.Count{Packets: uint64(outP[i]), Bytes: uint64(outB[i])}
			r.In = record.Count{Packets: uint64(inP[i]), Bytes: uint64(inB[i])}
			sum.Add(&r)
		}
		if dated {
			sum.Last = s.lastEnd(p)
		}
		do(&s.shapes[p.shape], &sum)
	}
}

// lastEnd is when the last record of a part ended.
func (s *scan) lastEnd(p part) time.Time {
	starts, durations := s.values[colStart][p.from:p.to], s.values[colDuration][p.from:p.to]
	last := int64(math.MinInt64)
	for i := range starts {
		last = max(last, starts[i]+durations[i])
	}
	return time.UnixMilli(last).UTC()
}

// begin begins a pass.
func (t *tally[K]) begin() {
	t.sums = make(map[K]*record.Sum)
	if t.rank == nil {
		t.cells = make([]uint64, 1<<cellBits)
		t.total = record.Sum{}
	}
}

// add adds a part.
func (t *tally[K]) add(shape *record.Record, part *record.Sum) {
	k := t.key(shape)
	if t.rank == nil {
		merge(&t.total, part)
		c := &t.cells[t.cell(k)]
		*c = saturated(*c, t.value(part))
		if t.sums == nil {
			return // too many: only cells are added up
		}
	} else if rank := t.rank[t.cell(k)]; rank < t.from || rank >= t.to {
		return
	}
	sum := t.sums[k]
	if sum == nil {
		sum = new(record.Sum)
		t.sums[k] = sum
	}
	merge(sum, part)
	for len(t.sums) > maxGroups {
		if t.rank == nil {
			t.sums = nil
			return
		}
		if t.to == t.from+1 {
			return // keys of one cell stay together
		}
		t.to = t.from + (t.to-t.from)/2
		for k := range t.sums {
			if t.rank[t.cell(k)] >= t.to {
				delete(t.sums, k)
			}
		}
	}
}

// saturated is the sum, or the greatest number.
func saturated(a, b uint64) uint64 {
	if a+b < a {
		return math.MaxUint64
	}
	return a + b
}

func merge(to, from *record.Sum) {
	to.Connections += from.Connections
	to.Refused += from.Refused
	to.Out.Add(from.Out)
	to.In.Add(from.In)
	if from.Last.After(to.Last) {
		to.Last = from.Last
	}
}

// keep takes the best of what a pass has added up.
func (t *tally[K]) keep() {
	for k, sum := range t.sums {
		if t.value(sum) > 0 {
			t.rows = append(t.rows, group[K]{k, *sum})
		}
	}
	slices.SortFunc(t.rows, func(a, b group[K]) int {
		return cmp.Or(cmp.Compare(t.value(&b.sum), t.value(&a.sum)), t.compare(a.key, b.key))
	})
	t.rows = slices.Clone(t.rows[:min(len(t.rows), t.n)])
}

// rest is what is in no row.
func (t *tally[K]) rest() record.Sum {
	rest := t.total
	for i := range t.rows {
		s := &t.rows[i].sum
		rest.Connections -= s.Connections
		rest.Refused -= s.Refused
		rest.Out = record.Count{Packets: rest.Out.Packets - s.Out.Packets, Bytes: rest.Out.Bytes - s.Out.Bytes}
		rest.In = record.Count{Packets: rest.In.Packets - s.In.Packets, Bytes: rest.In.Bytes - s.In.Bytes}
	}
	return rest
}

// addTo adds other records to the rows that there are.
func (t *tally[K]) addTo(ctx context.Context, s *Store, f record.Filter, shared columns) error {
	var more map[K]*record.Sum
	q := &question{s, t.sources, newScan(s.disk, f, shared), t.load}
	err := q.each(ctx, func() {
		more = make(map[K]*record.Sum, len(t.rows))
		for i := range t.rows {
			more[t.rows[i].key] = new(record.Sum)
		}
	}, func(shape *record.Record, part *record.Sum) {
		if sum := more[t.key(shape)]; sum != nil {
			merge(sum, part)
		}
	})
	if err != nil {
		return err
	}
	for i := range t.rows {
		merge(&t.rows[i].sum, more[t.rows[i].key])
	}
	return nil
}
