//go:build linux

package track

import (
	"net/netip"
	"strings"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/capture"
	"bulkhead/services/flow/record"
)

// Saw takes down a refused packet that the firewall's log shows, and returns it as a
// record of its own: for who watches, not to be kept. What is kept comes from the counts.
func (t *Tracker) Saw(p capture.Packet, now time.Time) record.Record {
	if !p.MAC.IsZero() && p.Party != model.Internet {
		if _, ok := t.macs[p.Src]; !ok && len(t.macs) >= maxMACs {
			clear(t.macs)
		}
		t.macs[p.Src] = p.MAC
	}
	r := t.refusal(capture.Refusal{
		Party: p.Party, Src: p.Src, Dst: p.Dst, Proto: p.Proto, Port: p.Port, Mark: p.Mark,
		Count: record.Count{Packets: 1, Bytes: uint64(max(p.Bytes, 0))},
	}, now, now)
	r.Src.Port = p.SrcPort
	return r
}

// Refused makes the records of what was refused from one moment to another: list is what
// the kernel counted of each kind, and counters are the named ones, read before.
func (t *Tracker) Refused(list []capture.Refusal, counters map[string]record.Count, from, to time.Time) {
	seen := make(map[string]record.Count, len(counters))
	for _, p := range list {
		r := t.refusal(p, from, to)
		t.Stats.Refused += p.Packets
		t.keep(r)
		name := r.Src.Zone + "_" + r.Dst.Zone
		if own := r.Src.Zone + "." + r.Reason; r.Reason != "" && counters[own] != (record.Count{}) {
			name = own // of packets that show a source which they may not have
		}
		c := seen[name]
		c.Add(p.Count)
		seen[name] = c
	}
	t.rest(seen, counters, from, to)
	t.before = counters
}

// rest makes a record of what the sets had no room for, of each counter.
func (t *Tracker) rest(seen, counters map[string]record.Count, from, to time.Time) {
	if t.before == nil {
		return // what was counted before this process began is not of now
	}
	for name, c := range counters {
		left := less(less(c, t.before[name]), seen[name])
		if left.Packets == 0 {
			continue
		}
		r := record.Record{
			Start: milli(from.UnixMilli()), End: milli(to.UnixMilli()), Began: milli(from.UnixMilli()),
			Out: left, Verdict: record.Refused,
		}
		if zone, reason, ok := strings.Cut(name, "."); ok {
			r.Src.Zone, r.Reason = zone, reason
		} else if from, to, ok := strings.Cut(name, "_"); ok {
			r.Src.Zone, r.Dst.Zone = from, to
		} else {
			r.Reason = name // of no party: compile's counterLost and counterAstray
		}
		t.Stats.Refused += left.Packets
		t.keep(r)
	}
}

// refusal is the record of packets that were refused.
func (t *Tracker) refusal(p capture.Refusal, from, to time.Time) record.Record {
	r := record.Record{
		Start: milli(from.UnixMilli()), End: milli(to.UnixMilli()), Began: milli(from.UnixMilli()),
		Src: record.Side{Zone: p.Party, Addr: p.Src}, Dst: t.side(netip.AddrPortFrom(p.Dst, p.Port)),
		Proto: p.Proto, Out: p.Count, Verdict: record.Refused, App: model.Application(p.Proto, p.Port),
	}
	r.Reason = t.where.reasons[p.Mark]
	if r.Reason == "" {
		r.Rule = t.rule(p.Mark)
	}
	// Who borrows an address is not whose it is: the log has seen the card.
	if mac, ok := t.macs[p.Src]; ok {
		r.Src.MAC = mac
		if d, known := t.where.devices[p.Src]; known && d.MAC == mac && d.Zone == p.Party {
			r.Src.Device = d.Name
		}
	} else {
		t.identify(&r.Src)
	}
	return r
}
