// Package news keeps the latest events, for those who ask what happened and those who
// want to hear at once. It never judges what an event is, and knows no files.
package news

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"bulkhead/services/flow/record"
)

// Bounds.
const (
	// Max is how many events are kept.
	Max = 1024
	// MaxFile is how large a saved log can be, in bytes.
	MaxFile = 8 << 20
	// queue is how many events wait for a reader before it misses some.
	queue = 64
)

// Log is the latest events. It may be used by several goroutines; the zero value is
// empty.
type Log struct {
	mu      sync.Mutex
	events  []record.Event // oldest first
	added   uint64
	readers map[*Reader]struct{}
}

// Add adds events, which readers hear of.
func (l *Log) Add(events ...record.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.added += uint64(len(events))
	l.events = append(l.events, events...)
	if n := len(l.events) - Max; n > 0 {
		l.events = slices.Delete(l.events, 0, n)
	}
	for r := range l.readers {
		for _, e := range events {
			select {
			case r.c <- e:
			default:
				r.skipped++
			}
		}
	}
}

// Added returns how many events were added since the start.
func (l *Log) Added() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.added
}

// Query picks events. Fields that are not zero must hold.
type Query struct {
	Since  time.Time
	Kind   record.Kind
	Device string // name in the configuration or MAC, on either side
	Zone   string // on either side
	Limit  int    // at most so many
}

func (q *Query) match(e *record.Event) bool {
	is := func(s record.Side) bool {
		return (q.Device == "" || s.Device == q.Device || !s.MAC.IsZero() && s.MAC.String() == q.Device) && (q.Zone == "" || s.Zone == q.Zone)
	}
	return !e.Time.Before(q.Since) && (q.Kind == "" || q.Kind == e.Kind) && (is(e.Side) || is(e.Peer))
}

// List returns the events that a query picks, the latest first.
func (l *Log) List(q Query) []record.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := []record.Event{}
	for _, e := range slices.Backward(l.events) {
		if q.Limit > 0 && len(list) == q.Limit {
			break
		}
		if q.match(&e) {
			list = append(list, e)
		}
	}
	return list
}

// Reader hears of events from when it was made on.
type Reader struct {
	log     *Log
	c       chan record.Event
	skipped uint64
}

// Listen returns a reader, which is to be closed.
func (l *Log) Listen() *Reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &Reader{log: l, c: make(chan record.Event, queue)}
	if l.readers == nil {
		l.readers = make(map[*Reader]struct{})
	}
	l.readers[r] = struct{}{}
	return r
}

// C is where events arrive. It is never closed.
func (r *Reader) C() <-chan record.Event { return r.c }

// Skipped returns how many events the reader was too slow for since it last asked.
func (r *Reader) Skipped() uint64 {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	n := r.skipped
	r.skipped = 0
	return n
}

// Close ends the reader.
func (r *Reader) Close() {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	delete(r.log.readers, r)
}

// Encode returns the events as they are kept: a line of JSON each, oldest first.
func (l *Log) Encode() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for i := range l.events {
		if err := enc.Encode(&l.events[i]); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// Decode returns the log that [Log.Encode] made. Lines that make no sense are left out:
// one event less is no reason to forget the others.
func Decode(data []byte) (l *Log, damaged int) {
	l = new(Log)
	for line := range bytes.Lines(data) {
		var e record.Event
		if json.Unmarshal(line, &e) != nil || !slices.Contains(record.Kinds, e.Kind) {
			damaged++
			continue
		}
		l.events = append(l.events, e)
	}
	l.events = l.events[max(0, len(l.events)-Max):]
	return l, damaged
}
