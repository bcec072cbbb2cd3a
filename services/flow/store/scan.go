package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go"

	"bulkhead/services/flow/record"
)

// source is records that a question looks through: a segment, or rows in memory.
type source struct {
	segment     *segment
	rows        []row
	shapes      []record.Record
	first, last int64 // ends, in milliseconds
}

// part is rows of one source that have the same shape.
type part struct {
	shape int // in scan.shapes
	span
}

// scan looks through sources one after the other, in the same memory.
type scan struct {
	disk   disk
	filter record.Filter
	shared columns // of shapes, that the question needs

	// Of the source that is being visited:
	shapes []record.Record
	parts  []part              // what the filter picks, in order
	values [numColumns][]int64 // of rows, as far as loaded
	file   *opened
	memory *source
	order  []int32 // of memory's rows

	setters [numColumns]setter // of columns that were read
	entries [numColumns][]int32
	starts  []bool // rows that differ from the one before in a column that was read
}

func newScan(d disk, f record.Filter, shared columns) *scan {
	return &scan{disk: d, filter: f, shared: shared&ofShapes | filterColumns(&f)}
}

// filterColumns are those columns of shapes that say whether a filter picks one.
func filterColumns(f *record.Filter) (s columns) {
	who := func(w record.Who, zone, device, mac, addr int) {
		switch {
		case w.Party != "":
			s |= 1 << zone
		case w.Device != "":
			s |= 1 << device
		case !w.MAC.IsZero():
			s |= 1 << mac
		case w.Prefix.IsValid():
			s |= 1 << addr
		}
	}
	for _, w := range []record.Who{f.Device, f.From} {
		who(w, colSrcZone, colSrcDevice, colSrcMAC, colSrcAddr)
	}
	for _, w := range []record.Who{f.Device, f.To} {
		who(w, colDstZone, colDstDevice, colDstMAC, colDstAddr)
	}
	for col, used := range map[int]bool{
		colSrcZone: f.Zone != "", colDstZone: f.Zone != "", colRule: f.Rule != "", colReason: f.Reason != "",
		colVerdict: f.Verdict != 0, colProto: f.Proto != 0, colDstPort: f.Port != 0, colName: f.Name != "",
	} {
		if used {
			s |= 1 << col
		}
	}
	return s
}

// outside reports whether no record of the source can be in the filter's time.
func (s *scan) outside(src *source) bool {
	return !s.filter.Since.IsZero() && time.UnixMilli(src.last).Before(s.filter.Since)
}

// visit finds what the filter picks of one source, loads the columns of rows for it and
// calls do, unless nothing was picked.
func (s *scan) visit(ctx context.Context, src *source, load columns, do func() error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.outside(src) {
		return nil
	}
	s.shapes, s.parts, s.file, s.memory = s.shapes[:0], s.parts[:0], nil, nil
	clear(s.setters[:])
	if src.segment != nil {
		if s.file, err = src.segment.open(s.disk); err != nil {
			return s.trouble(src, err)
		}
		defer s.file.close()
		err = s.pickFile()
	} else {
		s.memory = src
		s.pickMemory()
	}
	if err == nil && len(s.parts) > 0 {
		err = s.pickTimes(src)
	}
	if err == nil && len(s.parts) > 0 {
		err = s.load(load, nil)
	}
	if err != nil {
		return s.trouble(src, err)
	}
	if len(s.parts) == 0 {
		return nil
	}
	return do()
}

// trouble is what reading a source ends in. A segment that retention has taken away
// meanwhile is none.
func (s *scan) trouble(src *source, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &segmentError{src.segment, err}
}

// segmentError is of reading a segment.
type segmentError struct {
	segment *segment
	err     error
}

func (e *segmentError) Error() string { return fmt.Sprintf("%s: %s", e.segment.path(), e.err) }
func (e *segmentError) Unwrap() error { return e.err }

// timeless is the filter of shapes, which have no times.
func (s *scan) timeless() *record.Filter {
	f := s.filter
	f.Since, f.Until = time.Time{}, time.Time{}
	return &f
}

func (s *scan) pickMemory() {
	src, f := s.memory, s.timeless()
	s.order = sorted(src.rows, src.shapes)
	for i := 0; i < len(s.order); {
		from, id := i, src.rows[s.order[i]].shape
		for i++; i < len(s.order) && src.rows[s.order[i]].shape == id; i++ {
		}
		if shape := &src.shapes[id]; f.Match(shape) {
			s.parts = append(s.parts, part{len(s.shapes), span{from, i}})
			s.shapes = append(s.shapes, *shape)
		}
	}
}

// pickFile reads those shared columns that the filter is about, and the others for the
// rows that it picks.
func (s *scan) pickFile() (err error) {
	defer guard(&err)
	asked := filterColumns(&s.filter)
	spans := []span{{0, s.file.rows}}
	s.starts = slices.Grow(s.starts[:0], s.file.rows)[:s.file.rows]
	clear(s.starts)
	if asked != 0 {
		var picked []span
		f := s.timeless()
		err := s.each(asked, spans, func(shape *record.Record, rows span) {
			switch last := len(picked) - 1; {
			case !f.Match(shape):
			case last >= 0 && picked[last].to == rows.from:
				picked[last].to = rows.to
			default:
				picked = append(picked, rows)
			}
		})
		if err != nil {
			return err
		}
		spans = picked
	}
	if len(spans) == 0 {
		return nil
	}
	return s.each(s.shared, spans, func(shape *record.Record, rows span) {
		s.parts = append(s.parts, part{len(s.shapes), rows})
		s.shapes = append(s.shapes, *shape)
	})
}

// each hands the rows of the spans to do, as many at a time as are the same in the given
// columns. Columns that were read before are not read again.
func (s *scan) each(cols columns, spans []span, do func(*record.Record, span)) error {
	for col := range numColumns {
		if cols.has(col) && s.setters[col] == nil {
			if err := s.readEntries(col, spans); err != nil {
				return err
			}
		}
	}
	var shape record.Record
	for _, rows := range spans {
		for i := rows.from; i < rows.to; {
			from := i
			for i++; i < rows.to && !s.starts[i]; i++ {
			}
			for col, set := range s.setters {
				if set != nil {
					set(&shape, s.entries[col][from])
				}
			}
			do(&shape, span{from, i})
		}
	}
	return nil
}

// readEntries reads a column as indices of its dictionary, and notes where they change.
func (s *scan) readEntries(col int, spans []span) error {
	s.entries[col] = slices.Grow(s.entries[col][:0], s.file.rows)[:s.file.rows]
	entries := s.entries[col]
	err := s.file.pages(col, spans, func(p parquet.Page, first int) (err error) {
		d := p.Dictionary()
		if d == nil {
			return fmt.Errorf("%w: column %d has no dictionary", errDamaged, col)
		}
		if s.setters[col] == nil {
			if s.setters[col], err = setters[col](d); err != nil {
				return fmt.Errorf("%w: column %d: %w", errDamaged, col, err)
			}
		}
		data := p.Data()
		copy(entries[first:], data.Int32())
		return nil
	})
	for _, rows := range spans {
		for i := rows.from + 1; i < rows.to; i++ {
			if entries[i] != entries[i-1] {
				s.starts[i] = true
			}
		}
	}
	return err
}

// load reads columns of rows, of the given spans or else of all parts.
func (s *scan) load(cols columns, spans []span) error {
	if spans == nil {
		spans = make([]span, len(s.parts))
		for i, p := range s.parts {
			spans[i] = p.span
		}
	}
	for col := range numColumns {
		if !cols.has(col) || !ofRows.has(col) {
			continue
		}
		n := s.len()
		s.values[col] = slices.Grow(s.values[col][:0], n)[:n]
		if s.file == nil {
			s.loadMemory(col, spans)
		} else if err := s.loadFile(col, spans); err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) len() int {
	if s.file != nil {
		return s.file.rows
	}
	return len(s.order)
}

func (s *scan) loadMemory(col int, spans []span) {
	values := s.values[col]
	for _, sp := range spans {
		for i := sp.from; i < sp.to; i++ {
			values[i] = s.memory.rows[s.order[i]].value(col)
		}
	}
}

func (w *row) value(col int) int64 {
	switch col {
	case colStart:
		return w.start
	case colDuration:
		return w.duration
	case colAge:
		return w.age
	case colSrcPort:
		return int64(w.srcPort)
	case colNATSrcPort:
		return int64(w.natPort)
	case colOutPackets:
		return int64(w.outPackets)
	case colOutBytes:
		return int64(w.outBytes)
	case colInPackets:
		return int64(w.inPackets)
	}
	return int64(w.inBytes)
}

func (s *scan) loadFile(col int, spans []span) error {
	var entries []int64
	return s.file.pages(col, spans, func(p parquet.Page, first int) error {
		to := s.values[col][first:]
		data := p.Data()
		if d := p.Dictionary(); d != nil {
			if entries == nil {
				entries = make([]int64, d.Len())
				for i := range entries {
					if v := d.Index(int32(i)); v.Kind() == parquet.Int64 {
						entries[i] = v.Int64()
					} else {
						entries[i] = int64(v.Int32())
					}
				}
			}
			for i, e := range data.Int32() {
				to[i] = entries[e]
			}
			return nil
		}
		switch col {
		case colSrcPort, colNATSrcPort:
			for i, v := range data.Int32() {
				to[i] = int64(v)
			}
		default:
			copy(to, data.Int64())
		}
		return nil
	})
}

// pickTimes takes rows out of the parts that are not in the filter's time.
func (s *scan) pickTimes(src *source) error {
	var need columns
	if !s.filter.Since.IsZero() && time.UnixMilli(src.first).Before(s.filter.Since) {
		need = setOf(colStart, colDuration)
	}
	if !s.filter.Until.IsZero() {
		need |= setOf(colStart)
	}
	if need == 0 {
		return nil
	}
	if err := s.load(need, nil); err != nil {
		return err
	}
	starts, durations := s.values[colStart], s.values[colDuration]
	in := func(i int) bool {
		return (!need.has(colDuration) || !time.UnixMilli(starts[i]+durations[i]).Before(s.filter.Since)) &&
			(s.filter.Until.IsZero() || time.UnixMilli(starts[i]).Before(s.filter.Until))
	}
	var parts []part
	for _, p := range s.parts {
		for i := p.from; i < p.to; i++ {
			if !in(i) {
				continue
			}
			from := i
			for i++; i < p.to && in(i); i++ {
			}
			parts = append(parts, part{p.shape, span{from, i}})
		}
	}
	s.parts = parts
	return nil
}

// row puts together a row whose columns are all loaded.
func (s *scan) row(i int) row {
	w := row{
		start: s.values[colStart][i], duration: s.values[colDuration][i], age: s.values[colAge][i],
		srcPort:    uint16(s.values[colSrcPort][i]),
		natPort:    uint16(s.values[colNATSrcPort][i]),
		outPackets: uint64(s.values[colOutPackets][i]), outBytes: uint64(s.values[colOutBytes][i]),
		inPackets: uint64(s.values[colInPackets][i]), inBytes: uint64(s.values[colInBytes][i]),
	}
	if s.values[colNATSrcPort][i] == kept {
		w.natPort = w.srcPort
	}
	return w
}
