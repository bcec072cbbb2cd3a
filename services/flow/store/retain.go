package store

import (
	"errors"
	"io/fs"
	"time"
)

// Keep changes how long records are kept, and in how much room: see [Options].
func (s *Store) Keep(age time.Duration, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.o.Age, s.o.Bytes = age, bytes
}

// retain drops the oldest segments as long as they are too old, too many bytes, or as
// long as there is too little room on the disk.
func (s *Store) retain() {
	oldest := int64(-1 << 63)
	s.mu.Lock()
	age, most := s.o.Age, s.o.Bytes
	s.mu.Unlock()
	if age > 0 {
		oldest = s.o.Now().Add(-age).UnixMilli()
	}
	dropped := false
	for {
		s.mu.Lock()
		var bytes int64
		for _, seg := range s.segments {
			bytes += seg.size
		}
		over := len(s.segments) > 0 && (s.segments[0].last < oldest || most > 0 && bytes > most)
		s.mu.Unlock()
		if !over && !s.tight() || !s.dropOldest() {
			break
		}
		dropped = true
	}
	if dropped {
		s.sweepDays()
	}
}

// tight reports whether the disk has no more room than is to stay free.
func (s *Store) tight() bool {
	if s.o.Reserve < 0 {
		return false
	}
	free, err := s.disk.Free()
	return err == nil && free < s.o.Reserve
}

// dropOldest removes the oldest segment that has its name already, and reports whether
// there was one.
func (s *Store) dropOldest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segments) == 0 || s.segments[0].temp {
		return false
	}
	if err := s.disk.Remove(s.segments[0].path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("remove old flow records", "error", err)
		return false
	}
	s.segments = s.segments[1:]
	s.stats.Dropped++
	return true
}

// sweepDays removes the directories of days before the oldest segment's, with what was
// set aside there.
func (s *Store) sweepDays() {
	s.mu.Lock()
	first := s.o.Now().UTC().Format(dayFormat)
	if len(s.segments) > 0 {
		first = min(first, s.segments[0].day)
	}
	s.mu.Unlock()
	days, _ := s.disk.List(".")
	for _, d := range days {
		if _, err := time.Parse(dayFormat, d.name); err != nil || !d.dir || d.name >= first {
			continue
		}
		files, _ := s.disk.List(d.name)
		for _, f := range files {
			s.disk.Remove(d.name + "/" + f.name)
		}
		s.disk.Remove(d.name) // fails, and matters not, if something else is in it
	}
}
