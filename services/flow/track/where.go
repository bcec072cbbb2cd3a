//go:build linux

package track

import (
	"net/netip"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/flow/record"
)

// where knows what addresses are called.
type where struct {
	zones   []svcconf.FlowZone
	records map[string]model.Recorded
	box     map[netip.Addr]bool
	devices map[netip.Addr]svcconf.FlowDevice
	reasons map[uint32]string
}

func newWhere(c svcconf.Flow) where {
	w := where{
		zones: c.Zones, records: map[string]model.Recorded{}, box: map[netip.Addr]bool{},
		devices: map[netip.Addr]svcconf.FlowDevice{}, reasons: map[uint32]string{},
	}
	for _, z := range c.Zones {
		w.records[z.Zone], w.box[z.Address] = z.Record, true
	}
	if a := c.Uplink.Address; a.IsValid() {
		w.box[a] = true
	}
	for _, d := range c.Devices {
		w.devices[d.Address] = d
	}
	for _, r := range c.Reasons {
		w.reasons[r.Mark] = r.Name
	}
	return w
}

// party returns the zone of an address.
func (w *where) party(a netip.Addr) string {
	if w.box[a] || a.IsLoopback() {
		return model.Box
	}
	for i := range w.zones {
		if w.zones[i].Subnet.Contains(a) {
			return w.zones[i].Zone
		}
	}
	return model.Internet
}

// side says whose an address is.
func (t *Tracker) side(a netip.AddrPort) record.Side {
	s := record.Side{Zone: t.where.party(a.Addr()), Addr: a.Addr(), Port: a.Port()}
	t.identify(&s)
	return s
}

func (t *Tracker) identify(s *record.Side) {
	d, ok := t.where.devices[s.Addr]
	switch {
	case s.Zone == model.Internet || s.Zone == model.Box:
	case ok && d.Zone == s.Zone:
		s.Device, s.MAC = d.Name, d.MAC
	default:
		s.MAC = t.mac(s.Addr)
	}
}

// keep keeps as much of a record as the zones of its sides want.
func (t *Tracker) keep(r record.Record) {
	switch max(t.where.records[r.Src.Zone], t.where.records[r.Dst.Zone]) {
	case model.RecordOff:
		return
	case model.RecordCounts:
		t.count(&r)
		return
	}
	for _, s := range []*record.Side{&r.Src, &r.Dst} {
		if t.where.records[s.Zone] == model.RecordNoNames {
			s.Device, s.MAC = "", model.MAC{}
			r.Name = ""
		}
	}
	t.out = append(t.out, r)
}

// total is what is added up where no more than that is recorded.
type total struct {
	src, dst, rule, reason string
	verdict                record.Verdict
}

type sums struct{ out, in record.Count }

func (t *Tracker) count(r *record.Record) {
	k := total{r.Src.Zone, r.Dst.Zone, r.Rule, r.Reason, r.Verdict}
	s := t.counts[k]
	s.out.Add(r.Out)
	s.in.Add(r.In)
	t.counts[k] = s
}

// Sum makes the records of sums. [Tracker.Take] does so once in an hour.
func (t *Tracker) Sum(now time.Time) {
	for k, s := range t.counts {
		t.out = append(t.out, record.Record{
			Start: milli(t.since.UnixMilli()), End: milli(now.UnixMilli()), Began: milli(t.since.UnixMilli()),
			Src: record.Side{Zone: k.src}, Dst: record.Side{Zone: k.dst}, Out: s.out, In: s.in,
			Verdict: k.verdict, Rule: k.rule, Reason: k.reason,
		})
	}
	clear(t.counts)
	t.since = now
}

// names is what clients were told of the DNS.
type names struct {
	list map[asked]answer
	ring []asked // in the order in which they came, the oldest at next
	next int
}

type asked struct{ client, addr netip.Addr }

type answer struct {
	name string
	at   int64 // seconds since 1970
}

// Bounds of names. A client holds on to an address for as long as it likes, mostly for
// less than a day.
const (
	maxNames = 1 << 15
	nameTime = 24 * time.Hour
)

func newNames() names { return names{list: map[asked]answer{}} }

func (n *names) add(client, addr netip.Addr, name string, now time.Time) {
	k := asked{client, addr}
	if _, ok := n.list[k]; !ok {
		if len(n.ring) < maxNames {
			n.ring = append(n.ring, k)
		} else {
			delete(n.list, n.ring[n.next])
			n.ring[n.next] = k
			n.next = (n.next + 1) % maxNames
		}
	}
	n.list[k] = answer{name, now.Unix()}
}

// of returns the name that a client was last told for an address; "" for none.
func (n *names) of(client, addr netip.Addr, now time.Time) string {
	a, ok := n.list[asked{client, addr}]
	if !ok || now.Unix()-a.at > int64(nameTime.Seconds()) {
		return ""
	}
	return a.name
}
