// Package store keeps flow records on disk and answers questions about them.
//
// Records are first in memory and, every five seconds, in a write-ahead file; some 32,000
// of them at a time become a Parquet file, which is never changed again and which anybody
// can read: see the folder's README. The oldest go when they are too old, too many, or
// when the disk is about to be full.
//
// It does not know where records come from, and adds nothing to them.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"bulkhead/services/flow/record"
)

// Options say how much is kept. The zero value of each field stands for its default.
type Options struct {
	Age     time.Duration    // days older than that are dropped; default: none
	Bytes   int64            // of all files; the oldest segments over it are dropped; default: no bound
	Reserve int64            // bytes that stay free on the disk; default 64 MiB; negative: none
	Collect func()           // called before everything is synced: the last moment for Append; default: none
	Now     func() time.Time // default [time.Now]
	Log     *slog.Logger     // default [slog.Default]
}

const (
	defaultReserve = 64 << 20

	// interval is between two times that everything is synced: what a loss of power
	// costs at most.
	interval = 5 * time.Second

	// What may wait in memory for the disk. What comes beyond that is lost, and counted.
	maxWaitingRows   = 4 * maxRows
	maxWaitingShapes = 4 * maxShapes
)

// Stats are counts since Open, and what there is now.
type Stats = record.StoreStats

// Store is a directory of flow records. All methods may be called at the same time.
type Store struct {
	disk disk
	o    Options
	log  *slog.Logger
	rows int           // that a generation is closed at
	full chan struct{} // one is closed

	writing   sync.Mutex // held by who writes files; taken before mu
	unsettled []*written
	newNames  bool // in the directory since it was synced

	mu       sync.Mutex
	seq      uint64        // of the next generation
	active   *generation   // that takes records
	closed   []*generation // that are to become segments, the oldest first
	segments []*segment    // by day, then by end
	stats    Stats
}

// Open opens the directory, which it makes, and takes up what a process that died, or a
// loss of power, has left. Nothing is written later but by [Store.Run].
func Open(dir string, o Options) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return open(directory{dir}, o, maxRows)
}

func open(d disk, o Options, rows int) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	o.Reserve = cmp.Or(o.Reserve, defaultReserve)
	s := &Store{disk: d, o: o, log: o.Log, rows: rows, full: make(chan struct{}, 1)}
	if err := s.recover(); err != nil {
		return nil, err
	}
	return s, nil
}

// Append takes records. It never waits for the disk: if that is too slow, or full, what
// there is no room for in memory is lost and counted, and the error says so.
func (s *Store) Append(list []record.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list {
		if !s.room() {
			lost := len(list) - i
			s.stats.Lost += uint64(lost)
			return fmt.Errorf("%d records lost: %w", lost, ErrFull)
		}
		shape, r := split(&list[i])
		s.active.add(&shape, r)
		s.stats.Appended++
		if s.active.full(s.rows) {
			s.turn()
		}
	}
	return nil
}

// ErrFull says that there was no room for records in memory.
var ErrFull = errors.New("the disk does not keep up")

func (s *Store) room() bool {
	rows, shapes := len(s.active.rows), len(s.active.shapes)
	for _, g := range s.closed {
		rows, shapes = rows+len(g.rows), shapes+len(g.shapes)
	}
	return rows < maxWaitingRows && shapes < maxWaitingShapes
}

// turn closes the active generation and begins the next one.
func (s *Store) turn() {
	if len(s.active.rows) > 0 {
		s.closed = append(s.closed, s.active)
	}
	s.begin()
	select {
	case s.full <- struct{}{}:
	default:
	}
}

func (s *Store) begin() {
	s.active = newGeneration(s.seq, s.o.Now().UTC().Format(dayFormat))
	s.seq++
}

// Run writes what is appended until ctx ends, and then a last time. It returns an error
// if that last time failed.
func (s *Store) Run(ctx context.Context) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.sync()
		case <-s.full:
			s.report(s.spill())
		case <-ticker.C:
			if s.o.Collect != nil {
				s.o.Collect()
			}
			s.report(s.sync())
		}
	}
}

// report keeps an error for those who ask, and says so once.
func (s *Store) report(err error) {
	trouble := ""
	if err != nil {
		trouble = err.Error()
	}
	s.mu.Lock()
	before := s.stats.Trouble
	s.stats.Trouble = trouble
	s.mu.Unlock()
	switch {
	case trouble != "" && trouble != before:
		s.log.Error("flow records cannot be written", "error", trouble)
	case trouble == "" && before != "":
		s.log.Info("flow records are written again")
	}
}

// Stats returns the counts.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Segments = len(s.segments)
	for _, seg := range s.segments {
		st.Bytes += seg.size
	}
	if len(s.segments) > 0 {
		st.Oldest = time.UnixMilli(s.segments[0].first).UTC()
	}
	st.Memory = len(s.active.rows)
	for _, g := range s.closed {
		st.Memory += len(g.rows)
	}
	return st
}

// sources returns all there is to be asked now.
func (s *Store) sources() []source {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]source, 0, len(s.segments)+len(s.closed)+1)
	for _, seg := range s.segments {
		list = append(list, source{segment: seg, first: seg.first, last: seg.last})
	}
	for _, g := range append(slices.Clone(s.closed), s.active) {
		if len(g.rows) > 0 {
			list = append(list, source{rows: g.rows, shapes: g.shapes, first: g.first, last: g.last})
		}
	}
	return list
}

// retry calls do again as long as it fails because of a damaged segment, which it sets
// aside.
func (s *Store) retry(do func() error) error {
	for {
		err := do()
		e, ok := errors.AsType[*segmentError](err)
		if !ok || e.segment == nil || !errors.Is(err, errDamaged) {
			return err
		}
		if err := s.setAside(e.segment, err); err != nil {
			return err
		}
	}
}

// setAside takes a damaged segment out, but not away: somebody may want to look at it.
func (s *Store) setAside(seg *segment, why error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	i := slices.IndexFunc(s.segments, func(other *segment) bool { return other.name() == seg.name() && other.day == seg.day })
	if i >= 0 {
		seg = s.segments[i]
		s.segments = slices.Delete(slices.Clone(s.segments), i, i+1)
		s.stats.Damaged++
	}
	s.mu.Unlock()
	if i < 0 {
		return nil // somebody else did
	}
	s.log.Error("a file of flow records is damaged and set aside", "error", why)
	err := s.disk.Rename(seg.path(), seg.day+"/"+seg.name()+setAside)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// byTime orders segments from the oldest to the newest.
func byTime(a, b *segment) int {
	return cmp.Or(strings.Compare(a.day, b.day), cmp.Compare(a.last, b.last), cmp.Compare(a.seq, b.seq))
}

func parseWAL(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, "wal-")
	if !ok {
		return 0, false
	}
	seq, err := strconv.ParseUint(digits, 10, 64)
	return seq, err == nil && name == walName(seq)
}
