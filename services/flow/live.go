//go:build linux

package flow

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"bulkhead/services/flow/api"
	"bulkhead/services/flow/record"
)

// Bounds of streams.
const (
	maxReaders = 16
	maxGuests  = 12               // of those, who are not exportd: there is always room for it
	queue      = 1024             // records that wait for a reader before it misses some
	alive      = 15 * time.Second // how often an idle stream gets an empty line, so that both ends notice when the other has gone
	patience   = 10 * time.Second // of one write
)

// live hands records to those who want to see them at once.
type live struct {
	mu      sync.Mutex
	readers map[*reader]struct{}
}

type reader struct {
	filter  record.Filter
	c       chan record.Record
	skipped uint64 // guarded by live.mu
}

// tell never waits: whoever is too slow misses records, and is told how many.
func (l *live) tell(list ...record.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := range l.readers {
		for i := range list {
			if !r.filter.Match(&list[i]) {
				continue
			}
			select {
			case r.c <- list[i]:
			default:
				r.skipped++
			}
		}
	}
}

// join adds a reader, or returns nil if there are so many already.
func (l *live) join(f record.Filter, most int) *reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.readers) >= most {
		return nil
	}
	if l.readers == nil {
		l.readers = make(map[*reader]struct{})
	}
	r := &reader{filter: f, c: make(chan record.Record, queue)}
	l.readers[r] = struct{}{}
	return r
}

func (l *live) leave(r *reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.readers, r)
}

func (l *live) missed(r *reader) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := r.skipped
	r.skipped = 0
	return n
}

// follow answers with records as they come, a line of JSON each. A line {"skipped": n}
// says that the caller was too slow for n of them; an empty line says that all is well.
func (d *daemon) follow(most int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { d.stream(w, r, most) }
}

func (d *daemon) stream(w http.ResponseWriter, r *http.Request, most int) {
	q, err := api.ParseQuery(r.URL.Query(), d.isZone)
	if err != nil {
		refuse(w, err)
		return
	}
	me := d.live.join(q.Filter, most)
	if me == nil {
		fail(w, http.StatusTooManyRequests, "there are too many who watch: try again later")
		return
	}
	defer d.live.leave(me)
	conn := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	write := func(line []byte) bool {
		_ = conn.SetWriteDeadline(time.Now().Add(patience)) // a recorder in a test has none
		_, err := w.Write(append(line, '\n'))
		return err == nil
	}
	idle := time.NewTicker(alive)
	defer idle.Stop()
	for write(nil) && conn.Flush() == nil {
		select {
		case <-r.Context().Done():
			return
		case <-idle.C:
			continue
		case one := <-me.c:
			if !d.lines(me, one, write) {
				return
			}
		}
	}
}

// lines writes a record and all that wait behind it.
func (d *daemon) lines(me *reader, one record.Record, write func([]byte) bool) bool {
	for range queue {
		if n := d.live.missed(me); n > 0 {
			line, _ := json.Marshal(map[string]uint64{"skipped": n})
			if !write(line) {
				return false
			}
		}
		line, err := json.Marshal(one)
		if err != nil || !write(line) {
			return false
		}
		select {
		case one = <-me.c:
		default:
			return true
		}
	}
	return true
}
