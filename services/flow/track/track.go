//go:build linux

// Package track makes records of what the kernel tells: it joins the beginning and the
// end of connections, cuts long ones, adds up refusals, and gives names to addresses and
// marks.
//
// It is pure: it is handed what was seen, with the time, and keeps nothing on disk. All
// that strangers can make more of is bounded.
package track

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/flow/capture"
	"bulkhead/services/flow/record"
)

// Bounds.
const (
	maxOpen  = 1 << 18 // connections: the kernel's own bound on a large box
	maxMarks = 1 << 14
	maxMACs  = 1 << 14
)

// Part is how long the parts are that long connections are recorded in.
const Part = time.Hour

// Tracker knows the connections that are open. It is not safe for concurrent use.
type Tracker struct {
	mac          func(netip.Addr) model.MAC // of who has an address of a zone; zero if not known
	where        where
	marks        map[uint32]string // rules by mark, of configurations before this one, too
	marksVersion uint64            // how often marks has changed

	open   map[key]connection
	parts  map[key]part     // of those in open that some of is recorded of
	gone   map[key]struct{} // those in open that a look at the table did not find
	recall bool             // what was recorded before this process began is not known yet
	found  map[found]key    // open, then
	held   []held           // long ones of open that have ended meanwhile
	names  names
	young  []young                  // of open, those whose name may be on its way, in order of age
	grown  int                      // how many of young are not any more
	macs   map[netip.Addr]model.MAC // of who was refused
	counts map[total]sums
	since  time.Time               // of counts
	before map[string]record.Count // named counters

	out   []record.Record
	Stats record.TrackStats
}

// key tells connections apart. The ID is the kernel's, since a port is used again.
type key struct {
	src, dst     [4]byte
	sport, dport uint16
	proto        uint8
	id           uint32
}

func keyOf(c *capture.Conn) key {
	o := &c.Orig
	return key{o.Src.Addr().As4(), o.Dst.Addr().As4(), o.Src.Port(), o.Dst.Port(), o.Proto, c.ID}
}

// connection is what is kept of an open one.
type connection struct {
	began int64  // milliseconds since 1970
	name  string // that the client had asked for
}

// young is a connection that began a moment ago.
type young struct {
	key   key
	began int64 // milliseconds since 1970
}

// Names come from dnsd a moment after the client has its answer, when the connection may
// be there already. For so long a name counts as one from before; maxYoung bounds how many
// connections wait for one.
const (
	nameLag  = 500 * time.Millisecond
	maxYoung = 1 << 14
)

// part is what is recorded of a connection already.
type part struct {
	until   int64 // milliseconds since 1970
	out, in record.Count
}

// New returns a tracker that knows nothing yet. mac says who has an address in a zone; it
// may be nil.
func New(now time.Time, mac func(netip.Addr) model.MAC) *Tracker {
	if mac == nil {
		mac = func(netip.Addr) model.MAC { return model.MAC{} }
	}
	return &Tracker{
		mac: mac, marks: map[uint32]string{}, open: map[key]connection{}, parts: map[key]part{},
		names: newNames(), macs: map[netip.Addr]model.MAC{}, counts: map[total]sums{}, since: now,
	}
}

// Configure says what links, addresses and marks are called from now on.
func (t *Tracker) Configure(c svcconf.Flow) {
	t.where = newWhere(c)
	if len(t.marks)+len(c.Rules) > maxMarks {
		clear(t.marks) // of rules that are long gone, mostly
		t.marksVersion++
	}
	for _, r := range c.Rules {
		if t.marks[r.Mark] != r.Name {
			t.marks[r.Mark] = r.Name
			t.marksVersion++
		}
	}
}

// Marks returns the names of marks, those of rules that are gone included, and Remember
// takes them back after a restart.
func (t *Tracker) Marks() map[uint32]string { return maps.Clone(t.marks) }

// MarksVersion is another once [Tracker.Marks] is.
func (t *Tracker) MarksVersion() uint64 { return t.marksVersion }

// Remember adds names of marks that rules had.
func (t *Tracker) Remember(marks map[uint32]string) {
	for mark, name := range marks {
		if _, ok := t.marks[mark]; !ok && len(t.marks) < maxMarks {
			t.marks[mark] = name
		}
	}
}

// Begin takes down a connection that is there. It may be called more than once for one.
func (t *Tracker) Begin(c *capture.Conn, now time.Time) {
	k := keyOf(c)
	if t.gone != nil {
		delete(t.gone, k)
	}
	if _, ok := t.open[k]; ok || c.Mark == 0 {
		return
	}
	if len(t.open) >= maxOpen {
		t.Stats.Crowded++ // its end still tells of it
		return
	}
	began := now
	if !c.Start.IsZero() {
		began = c.Start
	}
	t.open[k] = connection{began.UnixMilli(), t.names.of(c.Orig.Src.Addr(), c.Orig.Dst.Addr(), now)}
	if now.Sub(began) < nameLag {
		t.settle(now)
		if len(t.young) < maxYoung {
			t.young = append(t.young, young{k, began.UnixMilli()})
		}
	}
}

// settle gives the connections that are not young any more the names that they keep.
func (t *Tracker) settle(now time.Time) {
	for t.grown < len(t.young) && now.UnixMilli()-t.young[t.grown].began >= nameLag.Milliseconds() {
		k := t.young[t.grown].key
		if o, ok := t.open[k]; ok {
			t.open[k] = t.rename(k, o, now)
		}
		t.grown++
	}
	if t.grown > len(t.young)/2 {
		t.young = slices.Delete(t.young, 0, t.grown)
		t.grown = 0
	}
}

func (t *Tracker) rename(k key, o connection, now time.Time) connection {
	if name := t.names.of(netip.AddrFrom4(k.src), netip.AddrFrom4(k.dst), now); name != "" {
		o.name = name
	}
	return o
}

// End makes the record of a connection that has ended.
func (t *Tracker) End(c *capture.Conn, now time.Time) {
	k := keyOf(c)
	t.settle(now)
	o, seen := t.open[k]
	if seen && t.recall && now.UnixMilli()-o.began >= Part.Milliseconds() {
		delete(t.gone, k)
		t.held = append(t.held, held{*c, now})
		return
	}
	if seen && now.UnixMilli()-o.began < nameLag.Milliseconds() {
		o = t.rename(k, o, now)
	}
	p := t.parts[k]
	delete(t.open, k)
	delete(t.parts, k)
	delete(t.gone, k)
	t.Stats.Ended++
	switch {
	case c.Mark == 0:
		t.Stats.Unmarked++
		return
	case !seen:
		t.Stats.Unseen++
		o = connection{now.UnixMilli(), t.names.of(c.Orig.Src.Addr(), c.Orig.Dst.Addr(), now)}
	}
	if !c.Start.IsZero() {
		o.began = c.Start.UnixMilli()
	}
	stop := now
	if !c.Stop.IsZero() {
		stop = c.Stop
	}
	t.emit(c, o, p, stop, endOf(c))
}

// endOf says how a connection ended, by the state that it ended in. net/netfilter/nf_conntrack_proto_tcp.c.
func endOf(c *capture.Conn) record.End {
	switch {
	case c.Orig.Proto != model.ProtoTCP:
		return record.Unknown
	case c.TCP == capture.TCPTimeWait || c.TCP == capture.TCPLastAck:
		return record.Finished
	case c.TCP == capture.TCPClose:
		return record.Reset
	case c.TCP == capture.TCPSynSent || c.TCP == capture.TCPSynReceived || c.TCP == capture.TCPSynSent2:
		return record.Unopened
	case c.TCP == 0:
		return record.Unknown
	}
	return record.Expired
}

// emit makes a record of a connection up to stop, less what is recorded already.
func (t *Tracker) emit(c *capture.Conn, o connection, p part, stop time.Time, end record.End) {
	start := o.began
	if p.until > 0 {
		start = p.until
	}
	r := record.Record{
		Start: milli(start), End: milli(max(stop.UnixMilli(), start)), Began: milli(o.began),
		Src: t.side(c.Orig.Src), Dst: t.side(c.Reply.Src), Proto: c.Orig.Proto,
		Out: less(c.Out, p.out), In: less(c.In, p.in),
		Verdict: record.Allowed, Rule: t.rule(c.Mark), Ended: end, Name: o.name,
	}
	if c.Orig.Proto == model.ProtoICMP { // whose reply has another type, and whose ID is no port
		r.Src.Port, r.Dst.Port = 0, c.Orig.Dst.Port()
	}
	if c.Reply.Dst != c.Orig.Src && c.Orig.Proto != model.ProtoICMP || c.Reply.Dst.Addr() != c.Orig.Src.Addr() {
		r.NATSrc = c.Reply.Dst
	}
	if c.Orig.Dst != c.Reply.Src && c.Orig.Proto != model.ProtoICMP || c.Orig.Dst.Addr() != c.Reply.Src.Addr() {
		r.NATDst = c.Orig.Dst
	}
	r.App = model.Application(r.Proto, r.Dst.Port)
	t.keep(r)
}

func milli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// less takes off what is recorded. The kernel's counts only grow.
func less(c, recorded record.Count) record.Count {
	return record.Count{Packets: c.Packets - min(c.Packets, recorded.Packets), Bytes: c.Bytes - min(c.Bytes, recorded.Bytes)}
}

func (t *Tracker) rule(mark uint32) string {
	if name, ok := t.marks[mark]; ok {
		return name
	}
	return ""
}

// Due reports whether some connection is open for so long that a part of it is to be
// recorded: [Tracker.Cut] wants to see the table then.
func (t *Tracker) Due(now time.Time) bool {
	for k, o := range t.open {
		if t.due(k, o, now) {
			return true
		}
	}
	return false
}

func (t *Tracker) due(k key, o connection, now time.Time) bool {
	return now.UnixMilli()-max(o.began, t.parts[k].until) >= Part.Milliseconds()
}

// Cut records the part of a long connection up to now, if one is due. c is the connection
// as it is now.
func (t *Tracker) Cut(c *capture.Conn, now time.Time) {
	k := keyOf(c)
	o, ok := t.open[k]
	if !ok || !t.due(k, o, now) {
		return
	}
	t.emit(c, o, t.parts[k], now, record.Continues)
	t.parts[k] = part{now.UnixMilli(), c.Out, c.In}
}

// Oldest returns when the oldest of the open connections began; now, if there is none.
func (t *Tracker) Oldest(now time.Time) time.Time {
	oldest := now.UnixMilli()
	for _, o := range t.open {
		oldest = min(oldest, o.began)
	}
	return milli(oldest)
}

// Recall says that an earlier process may have recorded parts of connections that are open:
// each is told by [Tracker.Recorded], and after the last comes [Tracker.Recalled]. The ends
// of long connections wait for that.
func (t *Tracker) Recall() { t.recall = true }

// Recorded says that a part of a connection was recorded before this process began.
func (t *Tracker) Recorded(r *record.Record) {
	if r.Ended != record.Continues || r.Verdict != record.Allowed {
		return
	}
	if t.found == nil {
		t.found = make(map[found]key, len(t.open))
		for k, o := range t.open {
			t.found[foundOf(k, o)] = k
		}
	}
	dst := netip.AddrPortFrom(r.Dst.Addr, r.Dst.Port)
	if r.NATDst.IsValid() {
		dst = r.NATDst
	}
	k, ok := t.found[found{as4(r.Src.Addr), as4(dst.Addr()), r.Src.Port, dst.Port(), r.Proto, r.Began.UnixMilli()}]
	if _, open := t.open[k]; !ok || !open { // a connection that was lost, perhaps
		return
	}
	p := t.parts[k]
	p.out.Add(r.Out)
	p.in.Add(r.In)
	p.until = max(p.until, r.End.UnixMilli())
	t.parts[k] = p
}

// Recalled says that all parts have been told.
func (t *Tracker) Recalled() {
	t.recall, t.found = false, nil
	for _, h := range t.held {
		t.End(&h.conn, h.at)
	}
	t.held = nil
}

// held is the end of a connection that waits.
type held struct {
	conn capture.Conn
	at   time.Time
}

// found is how a connection looks in its records, which do not have the kernel's ID. The
// time at which it began stands for that.
type found struct {
	src, dst     [4]byte
	sport, dport uint16
	proto        uint8
	began        int64 // milliseconds since 1970
}

func foundOf(k key, o connection) found {
	if k.proto == model.ProtoICMP {
		k.sport = 0 // as in emit
	}
	return found{k.src, k.dst, k.sport, k.dport, k.proto, o.began}
}

func as4(a netip.Addr) [4]byte {
	if !a.Is4() {
		return [4]byte{}
	}
	return a.As4()
}

// Resync begins to look at the whole table, after events were lost: each connection there
// is handed to [Tracker.Begin], then all events that wait, and then comes Resynced.
func (t *Tracker) Resync() {
	t.Stats.Resyncs++
	t.gone = make(map[key]struct{}, len(t.open))
	for k := range t.open {
		t.gone[k] = struct{}{}
	}
	for i := range t.held { // the table does not have them any more, but their end is known
		delete(t.gone, keyOf(&t.held[i].conn))
	}
}

// Resynced makes records of the connections whose end was lost. What passed is not known.
func (t *Tracker) Resynced(now time.Time) {
	for k := range t.gone {
		o := t.open[k]
		t.Stats.Vanished++
		c := capture.Conn{Orig: capture.Tuple{
			Src: netip.AddrPortFrom(netip.AddrFrom4(k.src), k.sport), Dst: netip.AddrPortFrom(netip.AddrFrom4(k.dst), k.dport), Proto: k.proto,
		}}
		c.Reply = capture.Tuple{Src: c.Orig.Dst, Dst: c.Orig.Src, Proto: k.proto}
		t.emit(&c, o, t.parts[k], now, record.Lost)
		delete(t.open, k)
		delete(t.parts, k)
	}
	t.gone = nil
}

// Named takes down that a client was told a name's address. Names are those of the DNS,
// checked by who hands them in.
func (t *Tracker) Named(client, addr netip.Addr, name string, now time.Time) {
	t.settle(now) // what comes now is too late for them
	t.names.add(client, addr, name, now)
}

// Take returns the records that were made since it was called last.
func (t *Tracker) Take(now time.Time) []record.Record {
	t.Stats.Open = len(t.open)
	if now.Sub(t.since) >= Part {
		t.Sum(now)
	}
	list := t.out
	t.out = nil
	return list
}
