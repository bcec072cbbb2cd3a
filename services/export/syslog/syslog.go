// Package syslog writes flow records and events as messages of syslog (RFC 5424): a
// sentence for people, and all of it as structured data for programs.
//
// It sends nothing. Names in what it is given are chosen by strangers: none of them can
// end a message, a value or a line.
package syslog

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/record"
)

// From RFC 5424 section 6.2.1.
const (
	facility = 16 // local0: what is for no other
	warning  = 4
	notice   = 5
	info     = 6
)

const (
	maxValue   = 255 // of a name, in bytes: those of DNS have so many
	maxMessage = 512 // of the sentence
)

// enterprise is the number for documentation (RFC 5612): the box's makers have none.
const enterprise = "32473"

// writer makes a message.
type writer struct{ buf []byte }

// header begins a message: RFC 5424 section 6.2. host and id are names of ours.
func header(severity int, at time.Time, host, id string) *writer {
	const layout = "2006-01-02T15:04:05.000Z"
	return &writer{fmt.Appendf(nil, "<%d>1 %s %s bulkhead - %s", facility*8+severity, at.UTC().Format(layout), host, id)}
}

// element begins the structured data.
func (w *writer) element(name string) {
	w.buf = append(append(append(w.buf, " ["...), name...), "@"+enterprise...)
}

// value adds a parameter unless it is empty: RFC 5424 section 6.3.3.
func (w *writer) value(name, v string) {
	if v == "" {
		return
	}
	w.buf = append(append(append(w.buf, ' '), name...), `="`...)
	w.buf = append(append(w.buf, escapes.Replace(clean(v, maxValue))...), '"')
}

func (w *writer) number(name string, v uint64) { w.value(name, strconv.FormatUint(v, 10)) }

// end closes the structured data and adds the sentence. Everything but ASCII is replaced
// there: a message that has more is marked as such, which not all can read.
func (w *writer) end(sentence string) []byte {
	ascii := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, clean(sentence, maxMessage))
	return append(append(w.buf, "] "...), ascii...)
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`)

// clean makes a text safe to stand in a line, and bounds it.
func clean(s string, limit int) string {
	s = strings.ToValidUTF8(s[:min(len(s), limit)], "\ufffd")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return '\ufffd'
		}
		return r
	}, s)
}

// Flow is the message for a record. host is the box's name.
func Flow(host string, r *record.Record) []byte {
	severity, id := info, "flow"
	if r.Verdict == record.Refused {
		severity, id = notice, "refused"
	}
	w := header(severity, r.End, host, id)
	w.element("flow")
	w.value("start", stamp(r.Start))
	w.value("end", stamp(r.End))
	w.value("began", stamp(r.Began))
	w.side("src", r.Src)
	w.side("dst", r.Dst)
	if r.NATSrc.IsValid() {
		w.value("natSrc", r.NATSrc.String())
	}
	if r.NATDst.IsValid() {
		w.value("natDst", r.NATDst.String())
	}
	w.number("proto", uint64(r.Proto))
	w.number("outPackets", r.Out.Packets)
	w.number("outBytes", r.Out.Bytes)
	w.number("inPackets", r.In.Packets)
	w.number("inBytes", r.In.Bytes)
	w.value("verdict", r.Verdict.String())
	w.value("rule", r.Rule)
	w.value("reason", r.Reason)
	w.value("ended", r.Ended.String())
	w.value("name", r.Name)
	w.value("app", r.App)
	return w.end(sentence(r))
}

// sentence says what a record says, for people.
func sentence(r *record.Record) string {
	to := where(r.Dst)
	if r.Name != "" {
		to += " (" + r.Name + ")"
	}
	by := r.Rule
	if by == "" {
		by = r.Reason
	}
	if by != "" {
		by = " by " + by
	}
	if r.Verdict == record.Refused {
		return fmt.Sprintf("%s to %s, %s: refused%s, %d packets", where(r.Src), to, protocol(r), by, r.Out.Packets)
	}
	return fmt.Sprintf("%s to %s, %s: %s%s, %d bytes out, %d back", where(r.Src), to, protocol(r), r.Verdict, by, r.Out.Bytes, r.In.Bytes)
}

func protocol(r *record.Record) string {
	name := model.ProtoName(r.Proto)
	switch {
	case r.Proto == model.ProtoICMP || r.Proto == model.ProtoICMPv6:
		return fmt.Sprintf("%s type %d", name, r.Dst.Port)
	case r.Dst.Port != 0:
		return fmt.Sprintf("%s port %d", name, r.Dst.Port)
	}
	return name
}

// where says who and in which zone.
func where(s record.Side) string {
	who := s.Who()
	if who == s.Zone {
		return who
	}
	return who + " in " + s.Zone
}

func (w *writer) side(prefix string, s record.Side) {
	w.value(prefix+"Zone", s.Zone)
	w.value(prefix+"Device", s.Device)
	if !s.MAC.IsZero() {
		w.value(prefix+"Mac", s.MAC.String())
	}
	if s.Addr.IsValid() {
		w.value(prefix+"Ip", s.Addr.String())
	}
	if s.Port != 0 {
		w.number(prefix+"Port", uint64(s.Port))
	}
}

// Event is the message for an event. host is the box's name.
func Event(host string, e *record.Event) []byte {
	w := header(warning, e.Time, host, "event")
	w.element("event")
	w.value("kind", string(e.Kind))
	w.side("about", e.Side)
	w.side("peer", e.Peer)
	w.value("rule", e.Rule)
	w.value("key", e.Key)
	return w.end(e.Text)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// Frame makes a message ready for a stream, where its length goes before it: RFC 6587
// section 3.4.1, RFC 5425 section 4.3.
func Frame(message []byte) []byte {
	return append(strconv.AppendInt(nil, int64(len(message)), 10), append([]byte{' '}, message...)...)
}
