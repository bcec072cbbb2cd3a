package dhcp

import (
	"time"

	"bulkhead/services/dhcp/journal"
	"bulkhead/services/dhcp/lease"
)

// Bounds of what waits for the disk. What comes on top is dropped and counted;
// clients ask again.
const (
	maxReplies = 4096    // answers
	maxRecords = 1 << 20 // bytes of records
)

// The journal is replaced when it has grown past replaceAt bytes and to replaceGrowth
// times what it was after the last time, so that replacing costs little per lease.
const (
	replaceAt     = 4 << 20
	replaceGrowth = 4
)

// batch is what one write to the journal makes durable: while the disk is busy with
// one, the next one fills, so that a slow disk makes batches larger, not clients
// fewer.
type batch struct {
	records []byte
	replies []reply
}

func (b *batch) full() bool { return len(b.replies) >= maxReplies || len(b.records) >= maxRecords }

func (b *batch) add(res result) {
	b.records = journal.AppendRecord(b.records, res.record)
	if res.reply.data != nil {
		b.replies = append(b.replies, res.reply)
	}
}

func (b *batch) reset() {
	clear(b.replies)
	b.records, b.replies = b.records[:0], b.replies[:0]
}

// store is the journal with what the server knows of its state. Only the goroutine
// that commits uses it.
type store struct {
	dir     string
	file    *journal.File
	compact int64     // size after the last replacement
	broken  bool      // the disk does not hold what it should: only replacing helps
	failed  bool      // so much is in the log
	retry   time.Time // not before, while broken
	forgets bool      // the disk did not take the history; so much is in the log
}

// commit writes down what has come up and then sends the answers that waited for it.
func (s *Server) commit() {
	s.mu.Lock()
	b := s.batch
	s.batch, s.spare = s.spare, nil
	now := time.Now()
	adopted := s.adopted
	due := adopted || s.rewrite || s.store.broken || s.store.file.Size() > max(replaceAt, replaceGrowth*s.store.compact)
	s.rewrite, s.adopted = false, false
	s.mu.Unlock()

	if due || len(b.records) > 0 {
		saved := s.save(now, b, due)
		s.settle(b, saved)
		b.reset()
		if adopted {
			s.adoptedAre(saved)
		}
	}
	s.mu.Lock()
	s.spare = b
	s.mu.Unlock()
}

// settle sends the answers of a batch, or drops them: a client must not have what the
// disk does not know of.
func (s *Server) settle(b *batch, saved bool) {
	if !saved {
		s.count.Unsaved.Add(uint64(len(b.replies)))
	}
	for i := range b.replies {
		if saved {
			s.send(&b.replies[i])
		}
		s.buffers.Put(b.replies[i].buf)
	}
	if saved && len(b.records) > 0 {
		s.changed()
	}
}

// save makes a batch durable and reports whether it is.
func (s *Server) save(now time.Time, b *batch, replace bool) bool {
	if !replace {
		err := s.store.file.Append(b.records)
		if err == nil {
			s.count.JournalWrites.Add(1)
			return true
		}
		s.fail(now, err)
	} else if s.store.broken && now.Before(s.store.retry) {
		return false
	}
	s.saveHistory(now)
	// The table holds the batch's changes already, and perhaps later ones, whose
	// answers are in the next batch: to have those on the disk early harms nobody.
	if err := s.store.file.Replace(s.snapshot(now)); err != nil {
		s.fail(now, err)
		return false
	}
	if s.store.failed {
		s.log.Info("the disk takes leases again")
	}
	s.store.broken, s.store.failed, s.store.compact = false, false, s.store.file.Size()
	s.count.JournalReplaced.Add(1)
	return true
}

func (s *Server) fail(now time.Time, err error) {
	s.count.JournalErrors.Add(1)
	if !s.store.failed {
		s.log.Error("no leases are given out: the disk does not take them", "err", err)
	}
	s.store.broken, s.store.failed, s.store.retry = true, true, now.Add(time.Second)
}

// snapshot returns the records of everything worth keeping.
func (s *Server) snapshot(now time.Time) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b []byte
	for _, l := range s.core.leases() {
		if l.State != lease.Offered {
			b = journal.AppendRecord(b, l.Wall(now))
		}
	}
	return b
}
