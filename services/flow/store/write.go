package store

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"

	"bulkhead/services/flow/record"
)

// written is a generation that has become files, which are not synced yet.
type written struct {
	generation *generation
	segments   []*segment
	files      []writer // nil once closed
}

var errReserve = errors.New("no more room on the disk than is to stay free")

// spill makes segments of the generations that are closed. It does not wait for the
// disk: what it writes lasts after the next sync, as do records in memory.
func (s *Store) spill() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.spillClosed()
}

func (s *Store) spillClosed() error {
	for {
		s.mu.Lock()
		var g *generation
		if len(s.closed) > 0 {
			g = s.closed[0]
		}
		s.mu.Unlock()
		if g == nil {
			return nil
		}
		if s.tight() {
			return errReserve
		}
		w, err := s.write(g)
		if errors.Is(err, syscall.ENOSPC) && s.dropOldest() {
			continue
		}
		if err != nil {
			return fmt.Errorf("write segment %d: %w", g.seq, err)
		}
		s.mu.Lock()
		s.closed = s.closed[1:]
		s.insert(w.segments)
		s.mu.Unlock()
		s.unsettled = append(s.unsettled, w)
	}
}

// insert adds segments, to a copy, since questions go through the old list.
func (s *Store) insert(list []*segment) {
	s.segments = append(slices.Clone(s.segments), list...)
	slices.SortFunc(s.segments, byTime)
}

// write writes the segments of a generation, one for each day, but for those days that
// have theirs.
func (s *Store) write(g *generation) (w *written, err error) {
	w = &written{generation: g}
	defer func() {
		if err != nil {
			s.unwrite(w)
		}
	}()
	days := make(map[string][]int32)
	for _, i := range sorted(g.rows, g.shapes) {
		r := &g.rows[i]
		if day := dayOf(r.start + r.duration); !slices.Contains(g.done, day) {
			days[day] = append(days[day], i)
		}
	}
	for day, order := range days {
		seg, data, err := encode(day, g.seq, g.rows, g.shapes, order)
		if err != nil {
			return w, err
		}
		seg.temp = true
		made, err := s.disk.Mkdir(day)
		if err != nil {
			return w, err
		}
		s.newNames = s.newNames || made
		f, err := s.disk.Create(seg.path())
		if err != nil {
			return w, err
		}
		w.segments, w.files = append(w.segments, seg), append(w.files, f)
		n, err := f.Write(data)
		s.wrote(n)
		if err != nil {
			return w, err
		}
	}
	return w, nil
}

func (s *Store) unwrite(w *written) {
	for i, seg := range w.segments {
		w.files[i].Close()
		s.disk.Remove(seg.path())
	}
}

func (s *Store) wrote(n int) {
	s.mu.Lock()
	s.stats.Written += uint64(n)
	s.mu.Unlock()
}

func (s *Store) synced() {
	s.mu.Lock()
	s.stats.Syncs++
	s.mu.Unlock()
}

// sync makes everything that was appended last.
func (s *Store) sync() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	if today := s.o.Now().UTC().Format(dayFormat); s.active.day != today {
		if len(s.active.rows) > 0 {
			s.turn()
		} else {
			s.active.day = today
		}
	}
	s.mu.Unlock()
	s.retain()
	// What fails of these does not keep the others from being done.
	err := s.spillClosed()
	err = errors.Join(err, s.settle())
	return errors.Join(err, s.logActive())
}

// settle gives segments that are written their names, and takes away the write-ahead
// files that they replace, in an order that loses nothing when the power goes: the
// content, the name, then the other file. If that is still there after the name is,
// recovery knows by the number that its records are in the segment.
func (s *Store) settle() error {
	for len(s.unsettled) > 0 {
		w := s.unsettled[0]
		for i, seg := range w.segments {
			if err := s.name(w, i); err != nil {
				return fmt.Errorf("sync %s: %w", seg.path(), err)
			}
		}
		for _, seg := range w.segments {
			if err := s.disk.SyncDir(seg.day); err != nil {
				return err
			}
			s.synced()
		}
		if s.newNames {
			if err := s.syncNames(); err != nil {
				return err
			}
		}
		if err := s.removeWAL(w.generation); err != nil {
			return err
		}
		s.unsettled = s.unsettled[1:]
	}
	return nil
}

// name syncs a segment's file and gives it its name, unless that is done.
func (s *Store) name(w *written, i int) error {
	f := w.files[i]
	if f == nil {
		return nil
	}
	if err := f.Sync(); err != nil {
		return err
	}
	s.synced()
	seg := *w.segments[i]
	seg.temp = false
	if err := s.disk.Rename(w.segments[i].path(), seg.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // it does not exist if it was set aside
	}
	f.Close()
	w.files[i] = nil
	s.mu.Lock()
	if at := slices.Index(s.segments, w.segments[i]); at >= 0 {
		s.segments = slices.Clone(s.segments)
		s.segments[at] = &seg
	}
	s.mu.Unlock()
	return nil
}

func (s *Store) syncNames() error {
	if err := s.disk.SyncDir("."); err != nil {
		return err
	}
	s.newNames = false
	s.synced()
	return nil
}

// removeWAL takes a generation's write-ahead file away.
func (s *Store) removeWAL(g *generation) error {
	if g.wal != nil {
		g.wal.f.Close()
		g.wal = nil
	}
	if !g.hasWAL {
		return nil
	}
	var err error
	if g.damaged {
		err = s.disk.Rename(walName(g.seq), walName(g.seq)+setAside)
	} else {
		err = s.disk.Remove(walName(g.seq))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	g.hasWAL = false
	return nil
}

// logActive writes what the active generation has new to its write-ahead file. If that
// fails the generation is closed: its records go to a segment at the next attempt.
func (s *Store) logActive() error {
	s.mu.Lock()
	g := s.active
	rows, shapes := g.rows, g.shapes
	s.mu.Unlock()
	if len(rows) == g.logged {
		return nil
	}
	if s.tight() {
		return errReserve
	}
	err := s.logRows(g, rows, shapes)
	if err == nil {
		g.logged = len(rows)
		return nil
	}
	if g.wal != nil {
		g.wal.f.Close()
		g.wal = nil
	}
	s.mu.Lock()
	if s.active == g {
		s.turn()
	}
	s.mu.Unlock()
	return fmt.Errorf("write %s: %w", walName(g.seq), err)
}

func (s *Store) logRows(g *generation, rows []row, shapes []record.Record) error {
	if g.wal == nil {
		var err error
		g.hasWAL = true
		if g.wal, err = createWAL(s.disk, g.seq); err != nil {
			return err
		}
		s.wrote(len(walMagic))
		s.newNames = true
	}
	n, err := g.wal.append(rows[g.logged:], shapes)
	s.wrote(n)
	if err != nil {
		return err
	}
	s.synced()
	if s.newNames {
		return s.syncNames()
	}
	return nil
}
