// Package history remembers who had which address when, the last leases of each MAC,
// within bounds that no client can push.
//
// It is pure: it is told of leases and of the time, and reads and writes nothing. It
// decides nothing either: no lease is given or refused because of what is in it. A
// [Log] is not safe for concurrent use.
package history

import (
	"cmp"
	"container/list"
	"iter"
	"net/netip"
	"slices"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/dhcp/lease"
)

// Bounds of a [Log].
const (
	PerDevice = 16   // what ended first goes
	Devices   = 4096 // of the zone with the most, the one that was not heard of for longest goes
)

// Spell is the time for which one client had one address without a break.
type Spell struct {
	MAC      model.MAC
	Addr     netip.Addr
	Zone     string // "": not known yet; see [Log.NameZones]
	Hostname string // what the client called itself last
	First    time.Time
	Renewed  time.Time // last; First if it never was
	End      time.Time // when it ends or ended
}

// wall returns s with times as the clock reads now, as [lease.Lease.Wall] does. Times
// from a disk are the clock's already, and stay.
func (s Spell) wall(now time.Time) Spell {
	clock := now.Round(0) // without its monotonic reading
	for _, t := range []*time.Time{&s.First, &s.Renewed, &s.End} {
		*t = clock.Add(t.Sub(now))
	}
	return s
}

// Log is what is remembered. Its zero value is empty.
type Log struct {
	devices map[model.MAC]*device
	zones   map[string]*list.List // of *device, the one that was not heard of for longest first
}

type device struct {
	spells []Spell // never empty; in the order of First
	zone   string  // in whose list it is: the last that it was heard in
	place  *list.Element
}

// Note enters what became of a lease in a zone: that it was given or renewed, or that
// it ended. Mere offers are nothing.
func (g *Log) Note(zone string, l lease.Lease) {
	switch l.State {
	case lease.Bound:
		g.given(zone, l)
	case lease.Free:
		g.ended(l, l.Until)
	case lease.Declined:
		g.ended(l, l.Until.Add(-lease.Quarantine))
	}
}

// Replay enters what a journal says of a lease, which may be in the log already. A
// journal does not say in which zone that was.
func (g *Log) Replay(l lease.Lease) {
	known := func(s Spell) bool { return !s.Renewed.Before(l.Granted) }
	if l.State == lease.Bound && slices.ContainsFunc(g.spells(l.Client.MAC), known) {
		return
	}
	g.Note("", l)
}

// Restore enters a spell from a disk, behind those of its device that began before.
func (g *Log) Restore(s Spell) { g.add(s) }

func (g *Log) spells(mac model.MAC) []Spell {
	if d := g.devices[mac]; d != nil {
		return d.spells
	}
	return nil
}

func (g *Log) given(zone string, l lease.Lease) {
	spells := g.spells(l.Client.MAC)
	for i := range slices.Backward(spells) {
		s := &spells[i]
		if s.Addr != l.Addr || s.End.Before(l.Granted) {
			continue
		}
		s.Renewed, s.End = l.Granted, l.Until
		s.Zone, s.Hostname = cmp.Or(zone, s.Zone), cmp.Or(l.Hostname, s.Hostname)
		g.heard(g.devices[s.MAC], s.Zone)
		return
	}
	g.add(Spell{
		MAC: l.Client.MAC, Addr: l.Addr, Zone: zone, Hostname: l.Hostname,
		First: l.Granted, Renewed: l.Granted, End: l.Until,
	})
}

// ended notes that a lease ended early.
func (g *Log) ended(l lease.Lease, at time.Time) {
	spells := g.spells(l.Client.MAC)
	for i := range slices.Backward(spells) {
		s := &spells[i]
		if s.Addr != l.Addr || s.First.After(l.Granted) {
			continue // not this one: a later one, if it is from a journal
		}
		if at.Before(s.End) {
			s.End = at
		}
		return
	}
}

func (g *Log) add(s Spell) {
	d := g.devices[s.MAC]
	if d == nil {
		d = g.newDevice(s.MAC)
	}
	if len(d.spells) == PerDevice {
		first := 0
		for i := range d.spells {
			if d.spells[i].End.Before(d.spells[first].End) {
				first = i
			}
		}
		d.spells = slices.Delete(d.spells, first, first+1)
	}
	d.spells = append(d.spells, s)
	g.heard(d, s.Zone)
}

// newDevice makes room for one more device. The zone with the most of them loses the one
// that was not heard of for longest: strangers who make up clients cost the other zones
// nothing.
func (g *Log) newDevice(mac model.MAC) *device {
	if g.devices == nil {
		g.devices, g.zones = make(map[model.MAC]*device), make(map[string]*list.List)
	}
	if len(g.devices) == Devices {
		var largest *list.List
		for _, l := range g.zones {
			if largest == nil || l.Len() > largest.Len() {
				largest = l
			}
		}
		gone := largest.Front().Value.(*device)
		g.leave(gone)
		delete(g.devices, gone.spells[0].MAC)
	}
	d := new(device)
	g.devices[mac] = d
	return d
}

// heard makes a device the last one that was heard of in a zone.
func (g *Log) heard(d *device, zone string) {
	if d.place != nil && d.zone == zone {
		g.zones[zone].MoveToBack(d.place)
		return
	}
	g.leave(d)
	if g.zones[zone] == nil {
		g.zones[zone] = list.New()
	}
	d.zone, d.place = zone, g.zones[zone].PushBack(d)
}

// leave takes a device out of its zone's list.
func (g *Log) leave(d *device) {
	if d.place == nil {
		return
	}
	l := g.zones[d.zone]
	l.Remove(d.place)
	d.place = nil
	if l.Len() == 0 {
		delete(g.zones, d.zone) // zones come and go
	}
}

// NameZones gives spells whose zone is not known the one that their address lies in,
// as of returns it, or "".
func (g *Log) NameZones(of func(netip.Addr) string) {
	for _, d := range slices.Collect(g.inOrder()) {
		for i := range d.spells {
			if s := &d.spells[i]; s.Zone == "" {
				s.Zone = of(s.Addr)
			}
		}
		if d.zone == "" {
			g.heard(d, d.spells[len(d.spells)-1].Zone)
		}
	}
}

// inOrder returns the devices zone by zone, the one that was not heard of for longest
// first.
func (g *Log) inOrder() iter.Seq[*device] {
	return func(yield func(*device) bool) {
		for _, l := range g.zones {
			for e := l.Front(); e != nil; e = e.Next() {
				if !yield(e.Value.(*device)) {
					return
				}
			}
		}
	}
}

// All returns everything that there is as of now, for [Log.Restore], in the order in
// which it takes it: the devices of a zone that were not heard of for longest come first.
func (g *Log) All(now time.Time) iter.Seq[Spell] {
	return func(yield func(Spell) bool) {
		for d := range g.inOrder() {
			for _, s := range d.spells {
				if !yield(s.wall(now)) {
					return
				}
			}
		}
	}
}

// Of returns the spells of a device as of now, in the order in which they began.
func (g *Log) Of(mac model.MAC, now time.Time) []Spell {
	var spells []Spell
	for _, s := range g.spells(mac) {
		spells = append(spells, s.wall(now))
	}
	return spells
}
