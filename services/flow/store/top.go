package store

import (
	"cmp"
	"context"
	"hash/maphash"
	"math"
	"slices"

	"bulkhead/services/flow/record"
)

// maxGroups is how many sums are kept at a time. If records have more groups than that,
// the groups are parted by hash and the segments looked through again for each part, so
// that sums are exact all the same.
const maxGroups = 1 << 14

// Top returns the n groups in which the records that the filter picks add up to most, the
// greatest first; groups in which they add up to nothing are not there.
func (s *Store) Top(ctx context.Context, f record.Filter, m record.Measure, g record.Group, n int) ([]record.Sum, error) {
	type key struct{ name, zone string }
	t := tally[key]{
		key: func(r *record.Record) key {
			name, zone := g.Key(r)
			return key{name, zone}
		},
		better: func(a, b *record.Sum, ka, kb key) int {
			return cmp.Or(cmp.Compare(m.Value(b), m.Value(a)), cmp.Compare(ka.name, kb.name), cmp.Compare(ka.zone, kb.zone))
		},
		n: n,
	}
	// Refusals have no bytes to add up, connections no refusals.
	counts := setOf(colOutPackets, colOutBytes, colInPackets, colInBytes)
	if err := t.run(ctx, s, f, groupColumns(g)|setOf(colVerdict), counts, m); err != nil {
		return nil, err
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

// Talk is what one party has to do with another.
type Talk struct {
	From    Party          `json:"from"`
	To      Party          `json:"to"`
	App     string         `json:"app,omitempty"`   // or else
	Proto   uint8          `json:"proto,omitempty"` // these two
	Port    uint16         `json:"port,omitempty"`
	Verdict record.Verdict `json:"verdict"`
	Rule    string         `json:"rule,omitempty"`
	Reason  string         `json:"reason,omitempty"`
}

// Party is one that talks: a device with a name, or all others of a zone.
type Party struct {
	Zone   string `json:"zone"`
	Device string `json:"device,omitempty"`
}

// TalkOf is the talk that a record is of.
func TalkOf(r *record.Record) Talk {
	t := Talk{
		From: Party{r.Src.Zone, r.Src.Device}, To: Party{r.Dst.Zone, r.Dst.Device},
		App: r.App, Verdict: r.Verdict, Rule: r.Rule, Reason: r.Reason,
	}
	if t.App == "" {
		t.Proto, t.Port = r.Proto, r.Dst.Port
	}
	return t
}

func (a *Talk) compare(b *Talk) int {
	return cmp.Or(
		cmp.Compare(a.From.Zone, b.From.Zone), cmp.Compare(a.From.Device, b.From.Device),
		cmp.Compare(a.To.Zone, b.To.Zone), cmp.Compare(a.To.Device, b.To.Device),
		cmp.Compare(a.App, b.App), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port),
		cmp.Compare(a.Verdict, b.Verdict), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Reason, b.Reason))
}

// TalkSum is what the records of one talk add up to. Its sum has no key.
type TalkSum struct {
	Talk
	Sum record.Sum `json:"sum"`
}

// Talks adds up who has talked to whom. It returns the n talks with the most connections
// and refused packets, in the order of their parties, and what is in all others.
func (s *Store) Talks(ctx context.Context, f record.Filter, n int) (list []TalkSum, rest record.Sum, err error) {
	t := tally[Talk]{
		key: TalkOf,
		better: func(a, b *record.Sum, ka, kb Talk) int {
			return cmp.Or(cmp.Compare(b.Connections+b.Refused, a.Connections+a.Refused), ka.compare(&kb))
		},
		n: n,
	}
	shared := setOf(colSrcZone, colSrcDevice, colDstZone, colDstDevice, colApp, colProto, colDstPort, colVerdict, colRule, colReason)
	if err := t.run(ctx, s, f, shared, setOf(colOutPackets, colOutBytes, colInPackets, colInBytes), ""); err != nil {
		return nil, record.Sum{}, err
	}
	for _, r := range t.rows {
		list = append(list, TalkSum{r.key, r.sum})
	}
	slices.SortFunc(list, func(a, b TalkSum) int { return a.compare(&b.Talk) })
	return list, t.rest, nil
}

// tally adds up records by key.
type tally[K comparable] struct {
	key    func(*record.Record) K
	better func(a, b *record.Sum, ka, kb K) int
	n      int

	rows []group[K] // the best n so far
	rest record.Sum // of all others

	sums map[K]*record.Sum
	seed maphash.Seed
}

type group[K comparable] struct {
	key K
	sum record.Sum
}

// run fills rows and rest. Groups that measure m, unless it is empty, finds nothing in
// are left out.
func (t *tally[K]) run(ctx context.Context, s *Store, f record.Filter, shared, counts columns, m record.Measure) error {
	t.seed = maphash.MakeSeed()
	sources := s.sources()
	sc := newScan(s.disk, f, shared)
	// Keys whose hash is from low to high are added up in this pass.
	for low, high := uint64(0), uint64(math.MaxUint64); ; low, high = high+1, math.MaxUint64 {
		err := s.retry(func() error {
			t.sums = make(map[K]*record.Sum)
			for i := range sources {
				err := sc.visit(ctx, &sources[i], counts, func() error {
					high = t.add(sc, low, high)
					return nil
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		t.keep(m)
		if high == math.MaxUint64 {
			return nil
		}
	}
}

// add adds the parts that were picked, and returns the new upper end of the hashes.
func (t *tally[K]) add(sc *scan, low, high uint64) uint64 {
	outP, outB, inP, inB := sc.values[colOutPackets], sc.values[colOutBytes], sc.values[colInPackets], sc.values[colInBytes]
	for _, p := range sc.parts {
		shape := &sc.shapes[p.shape]
		k := t.key(shape)
		sum := t.sums[k]
		if sum == nil {
			if h := maphash.Comparable(t.seed, k); h < low || h > high {
				continue
			}
			sum = new(record.Sum)
			t.sums[k] = sum
		}
		var r record.Record
		r.Verdict = shape.Verdict
		for i := p.from; i < p.to; i++ {
			r.Out = record.Count{Packets: uint64(outP[i]), Bytes: uint64(outB[i])}
			r.In = record.Count{Packets: uint64(inP[i]), Bytes: uint64(inB[i])}
			sum.Add(&r)
		}
		for len(t.sums) > maxGroups && high > low {
			high = low + (high-low)/2
			for k := range t.sums {
				if maphash.Comparable(t.seed, k) > high {
					delete(t.sums, k)
				}
			}
		}
	}
	return high
}

// keep takes what a pass has added up.
func (t *tally[K]) keep(m record.Measure) {
	for k, sum := range t.sums {
		if m == "" || m.Value(sum) > 0 {
			t.rows = append(t.rows, group[K]{k, *sum})
		}
	}
	slices.SortFunc(t.rows, func(a, b group[K]) int { return t.better(&a.sum, &b.sum, a.key, b.key) })
	if len(t.rows) <= t.n {
		return
	}
	for _, g := range t.rows[t.n:] {
		t.rest.Connections += g.sum.Connections
		t.rest.Refused += g.sum.Refused
		t.rest.Out.Add(g.sum.Out)
		t.rest.In.Add(g.sum.In)
	}
	clear(t.rows[t.n:])
	t.rows = t.rows[:t.n]
}
