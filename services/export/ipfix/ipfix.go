// Package ipfix writes flow records as messages of IPFIX (RFC 7011), with the elements
// that IANA lists and no others: both directions in one record (RFC 5103), translated
// addresses as NAT devices report them (RFC 8158), and zones as named interfaces.
//
// It is told the time and sends nothing.
package ipfix

import (
	"encoding/binary"
	"time"

	"bulkhead/services/flow/record"
)

const (
	// MaxMessage bounds messages, in bytes: one fits into a datagram that no link on
	// the way has to take apart.
	MaxMessage = 1400
	// maxNames bounds the zones that have numbers. There are fewer in any file.
	maxNames = 1024
)

// From RFC 7011.
const (
	version     = 10
	headerBytes = 16
	setBytes    = 4 // of a set's header

	setTemplates = 2
	setOptions   = 3
	firstData    = 256 // the lowest ID of a template
)

// domain is the observation domain: the box is one.
const domain = 1

// Encoder makes the messages of one session: one connection, or one pair of UDP ports.
// It may not be used by several goroutines.
type Encoder struct {
	sequence uint32 // data records that were sent: RFC 7011 section 3.1
	zones    map[string]uint32
	names    []string // by number, from 1
}

// New returns an encoder. Zones get their numbers in the order of the names; others as
// they appear.
func New(zones ...string) *Encoder {
	e := &Encoder{zones: make(map[string]uint32)}
	for _, z := range zones {
		e.zone(z)
	}
	return e
}

// zone returns the number of a zone; 0 if it has none.
func (e *Encoder) zone(name string) uint32 {
	n := e.zones[name]
	if n == 0 && name != "" && len(e.names) < maxNames {
		e.names = append(e.names, name)
		n = uint32(len(e.names))
		e.zones[name] = n
	}
	return n
}

// Templates returns messages that say how to read those of [Encoder.Flows]. They go
// first, and again from time to time where they may get lost: RFC 7011 section 8.4.
func (e *Encoder) Templates(now time.Time) [][]byte {
	w := writer{e: e, now: now}
	for s := range shapes {
		if !s.used() {
			continue
		}
		fields := layouts[s]
		t := binary.BigEndian.AppendUint16(nil, s.template())
		t = binary.BigEndian.AppendUint16(t, uint16(len(fields)))
		for _, f := range fields {
			t = f.specify(t)
		}
		w.add(setTemplates, t)
	}
	// Options: the number of an interface is the scope of its name.
	t := binary.BigEndian.AppendUint16(nil, templateNames)
	t = binary.BigEndian.AppendUint16(t, 2) // fields
	t = binary.BigEndian.AppendUint16(t, 1) // of which scope
	t = field{id: ingressInterface, size: 4}.specify(t)
	t = field{id: interfaceName, size: variable}.specify(t)
	w.add(setOptions, t)
	for i, name := range e.names {
		e.sequence += w.add(templateNames, appendName(binary.BigEndian.AppendUint32(nil, uint32(i+1)), name))
	}
	return w.messages()
}

// appendName appends a text of variable length: RFC 7011 section 7.
func appendName(b []byte, s string) []byte {
	s = s[:min(len(s), 254)]
	return append(append(b, byte(len(s))), s...)
}

// Flows returns messages with the records.
func (e *Encoder) Flows(now time.Time, records []record.Record) [][]byte {
	w := writer{e: e, now: now}
	var b []byte
	for i := range records {
		v := valuesOf(e, &records[i])
		b = b[:0]
		for _, f := range layouts[v.shape] {
			b = f.put(b, &v)
		}
		e.sequence += w.add(v.shape.template(), b)
	}
	return w.messages()
}

// writer packs records into sets and sets into messages.
type writer struct {
	e    *Encoder
	now  time.Time
	done [][]byte
	buf  []byte // the message that is being made
	set  int    // where its last set begins; 0: it has none
}

// add appends one record to a set of the kind, and returns 1: how many it was.
func (w *writer) add(kind uint16, rec []byte) uint32 {
	if len(w.buf)+setBytes+len(rec) > MaxMessage {
		w.finish()
	}
	if w.buf == nil {
		w.buf = binary.BigEndian.AppendUint16(make([]byte, 0, MaxMessage), version)
		w.buf = binary.BigEndian.AppendUint16(w.buf, 0) // length
		w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(w.now.Unix()))
		w.buf = binary.BigEndian.AppendUint32(w.buf, w.e.sequence)
		w.buf = binary.BigEndian.AppendUint32(w.buf, domain)
	}
	if w.set == 0 || binary.BigEndian.Uint16(w.buf[w.set:]) != kind {
		w.set = len(w.buf)
		w.buf = binary.BigEndian.AppendUint16(w.buf, kind)
		w.buf = binary.BigEndian.AppendUint16(w.buf, 0)
	}
	w.buf = append(w.buf, rec...)
	binary.BigEndian.PutUint16(w.buf[w.set+2:], uint16(len(w.buf)-w.set))
	return 1
}

func (w *writer) finish() {
	if w.buf != nil {
		binary.BigEndian.PutUint16(w.buf[2:], uint16(len(w.buf)))
		w.done = append(w.done, w.buf)
	}
	w.buf, w.set = nil, 0
}

func (w *writer) messages() [][]byte {
	w.finish()
	return w.done
}
