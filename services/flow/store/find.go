package store

import (
	"cmp"
	"context"
	"slices"

	"bulkhead/services/flow/record"
)

// maxFound is how many records Find holds at a time: those that it finds more come in
// another pass over the segments that they can be in.
const maxFound = 1 << 14

// Find hands the records that the filter picks to yield, the latest end first, until that
// returns false, or limit of them if that is not 0. Records with the same end come in any
// order, the same each time. The record is yield's only until that returns.
func (s *Store) Find(ctx context.Context, f record.Filter, limit int, yield func(*record.Record) bool) error {
	sources := s.sources()
	// The later a source ends, the earlier it is looked at.
	slices.SortStableFunc(sources, func(a, b source) int { return cmp.Compare(b.last, a.last) })
	p := &pass{scan: newScan(s.disk, f, ofShapes), sources: sources, room: maxFound}
	for {
		if limit > 0 {
			p.room = min(maxFound, limit)
		}
		if err := s.retry(func() error { return p.run(ctx) }); err != nil {
			return err
		}
		for i := range p.found {
			if !yield(p.found[i].record) {
				return nil
			}
		}
		if len(p.found) < p.room {
			return nil
		}
		if limit > 0 {
			if limit -= len(p.found); limit == 0 {
				return nil
			}
		}
		last := p.found[len(p.found)-1].place
		p.before = &last
	}
}

// place is where a record stands in the order of Find.
type place struct {
	end    int64
	source int
	row    int
}

func (a place) compare(b place) int {
	return cmp.Or(cmp.Compare(b.end, a.end), cmp.Compare(a.source, b.source), cmp.Compare(a.row, b.row))
}

type candidate struct {
	place
	shape int
}

type found struct {
	place
	record *record.Record // apart: sorting moves these structs a lot
}

// pass finds the first records behind a place.
type pass struct {
	*scan
	sources []source
	room    int
	before  *place // of the last one of the pass before; nil in the first
	found   []found
}

func (p *pass) run(ctx context.Context) error {
	clear(p.found)
	p.found = p.found[:0]
	for i := range p.sources {
		src := &p.sources[i]
		if len(p.found) >= p.room && src.last < p.found[p.room-1].end {
			return nil // sources behind this one end earlier still
		}
		if p.before != nil && src.first > p.before.end {
			continue
		}
		err := p.visit(ctx, src, setOf(colStart, colDuration), func() error { return p.take(i) })
		if err != nil {
			return err
		}
	}
	return nil
}

// take adds what belongs to the first records of all that were looked at.
func (p *pass) take(source int) error {
	var list []candidate
	starts, durations := p.values[colStart], p.values[colDuration]
	for _, part := range p.parts {
		for i := part.from; i < part.to; i++ {
			at := place{starts[i] + durations[i], source, i}
			if p.before != nil && at.compare(*p.before) <= 0 ||
				len(p.found) >= p.room && at.compare(p.found[p.room-1].place) > 0 {
				continue
			}
			if list = append(list, candidate{at, part.shape}); len(list) >= 4*p.room {
				list = first(list, p.room)
			}
		}
	}
	if len(list) == 0 {
		return nil
	}
	list = first(list, p.room)
	slices.SortFunc(list, func(a, b candidate) int { return cmp.Compare(a.row, b.row) })
	spans := make([]span, len(list))
	for i, c := range list {
		spans[i] = span{c.row, c.row + 1}
	}
	if err := p.load(ofRows, spans); err != nil {
		return err
	}
	records := make([]record.Record, len(list))
	for i, c := range list {
		w := p.row(c.row)
		records[i] = w.join(&p.shapes[c.shape])
		p.found = append(p.found, found{c.place, &records[i]})
	}
	p.found = first(p.found, p.room)
	return nil
}

func (a place) at() place { return a }

// first sorts what was found and cuts it to n.
func first[T interface{ at() place }](list []T, n int) []T {
	slices.SortFunc(list, func(a, b T) int { return a.at().compare(b.at()) })
	return list[:min(len(list), n)]
}
