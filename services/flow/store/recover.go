package store

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"strings"
	"time"
)

// recover takes up what is in the directory.
func (s *Store) recover() error {
	entries, err := s.disk.List(".")
	if err != nil {
		return err
	}
	var wals []uint64
	for _, e := range entries {
		if seq, ok := parseWAL(strings.TrimSuffix(e.name, setAside)); ok && !e.dir {
			s.seq = max(s.seq, seq+1)
			if !strings.HasSuffix(e.name, setAside) {
				wals = append(wals, seq)
			}
		}
		if _, err := time.Parse(dayFormat, e.name); err == nil && e.dir {
			if err := s.recoverDay(e.name); err != nil {
				return err
			}
		}
	}
	slices.SortFunc(s.segments, byTime)
	slices.Sort(wals)
	for i, seq := range wals {
		g, err := s.recoverWAL(seq, i == len(wals)-1)
		if err != nil {
			return err
		}
		if g == nil {
			continue
		}
		s.closed = append(s.closed, g)
		// One after the other, so that memory is bounded however many there are. If the
		// disk is full they stay where they are.
		if err := errors.Join(s.spillClosed(), s.settle()); err != nil {
			s.report(err)
			break
		}
	}
	if s.active == nil {
		s.begin()
	}
	if s.active.full(s.rows) {
		s.turn()
	}
	return nil
}

// recoverDay lists a day's segments, and sweeps what was being written.
func (s *Store) recoverDay(day string) error {
	entries, err := s.disk.List(day)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.name, temporary) {
			if err := s.disk.Remove(day + "/" + e.name); err != nil {
				return err
			}
			continue
		}
		seg, ok := parseSegment(day, strings.TrimSuffix(e.name, setAside))
		if !ok || e.dir {
			continue
		}
		s.seq = max(s.seq, seg.seq+1)
		if !strings.HasSuffix(e.name, setAside) {
			seg.size = e.size
			s.segments = append(s.segments, seg)
		}
	}
	return nil
}

// recoverWAL reads a write-ahead file. If it is the newest and goes on, its generation
// becomes the active one; else it is returned, to become segments.
func (s *Store) recoverWAL(seq uint64, newest bool) (*generation, error) {
	name := walName(seq)
	data, err := readAll(s.disk, name)
	if err != nil {
		return nil, err
	}
	g := newGeneration(seq, "")
	g.hasWAL = true
	b, err := readWAL(data, func(r row) {
		g.rows = append(g.rows, r)
		g.span(r.start + r.duration)
	})
	whole := int64(len(data))
	if cut, ok := errors.AsType[*cutWAL](err); ok {
		whole, g.damaged = cut.whole, cut.damaged
		if g.damaged {
			s.stats.Damaged++
		}
		s.log.Warn("the end of a write-ahead file of flow records was not written", "file", name, "error", err, "bytes", int64(len(data))-whole)
	}
	g.shapes, b.shapes = b.shapes, nil
	for i := range g.shapes {
		h := maphash.Comparable(g.seed, g.shapes[i])
		for ; ; h++ {
			if _, ok := g.index[h]; !ok {
				break
			}
		}
		g.index[h] = uint32(i)
	}
	g.text = b.text
	for _, seg := range s.segments {
		if seg.seq == seq {
			g.done = append(g.done, seg.day)
		}
	}
	if len(g.rows) == 0 {
		return nil, s.removeWAL(g)
	}
	if !newest || g.done != nil || g.damaged {
		return g, nil
	}
	f, err := s.disk.Extend(name, whole)
	if err != nil {
		return nil, err
	}
	last := g.rows[len(g.rows)-1]
	g.day = dayOf(last.start + last.duration)
	g.wal, g.logged = &wal{f, b}, len(g.rows)
	s.active = g
	return nil, nil
}

func readAll(d disk, name string) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	// A file that is larger than any that was ever written is read as far as one can be.
	data := make([]byte, min(size, maxWAL))
	if n, err := f.ReadAt(data, 0); err != nil && (!errors.Is(err, io.EOF) || n < len(data)) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}
