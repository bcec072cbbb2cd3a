package inventory

import (
	"fmt"
	"net/netip"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/record"
)

const (
	// LearnTime is how long a device is watched, while the box runs, before what it
	// does can be new.
	LearnTime = 7 * 24 * time.Hour
	// maxHabits is how many habits a device can have: one that does more than this
	// has none to speak of, as whoever surfs the web.
	maxHabits = 128
	// maxLearnt bounds the habits of all devices together.
	maxLearnt = 1 << 16
	// maxStrange is how many new things a device is told of for in a day.
	maxStrange = 3
)

// habits is what a device does.
type habits struct {
	time    time.Duration // for how long it was watched, up to LearnTime
	known   map[habit]struct{}
	varied  bool
	strange int       // events since then
	since   time.Time // when the first of them was
}

// habit is one thing that a device does: it uses a service of a zone, or it reaches a
// part of the internet: a country, or a network where no country is known.
type habit struct {
	Zone    string       `json:"zone"`
	Proto   uint8        `json:"proto,omitempty"`
	Port    uint16       `json:"port,omitempty"` // highPort stands for it and all above
	Net     netip.Prefix `json:"net,omitzero"`
	Country string       `json:"country,omitempty"`
}

// highPort is the first of the ports that programs use without having been given one.
const highPort = 32768

// learn adds to the time that devices were watched.
func (v *Inventory) learn(step time.Duration) {
	for _, d := range v.devices {
		if d.habits.time < LearnTime {
			d.habits.time = min(d.habits.time+step, LearnTime)
			v.Touches++
		}
	}
}

// habitsIn is what a connection shows of its source.
func (v *Inventory) habitsIn(r *record.Record) []habit {
	list := []habit{{Zone: r.Dst.Zone, Proto: r.Proto, Port: min(r.Dst.Port, highPort)}}
	if r.Dst.Zone != model.Internet || !r.Dst.Addr.IsValid() {
		return list
	}
	if c := v.lists.country(r.Dst.Addr); c != "" {
		return append(list, habit{Zone: r.Dst.Zone, Country: c})
	}
	if net := network(r.Dst.Addr); net.IsValid() {
		list = append(list, habit{Zone: r.Dst.Zone, Net: net})
	}
	return list
}

// network is the part of the internet that an address counts as.
func network(a netip.Addr) netip.Prefix {
	bits := 16
	if !a.Is4() {
		bits = 32 // what a provider has
	}
	net, _ := a.Prefix(bits)
	return net
}

// judge tells of a connection that is unlike all that its source had before. It is told
// of once: then it is a habit.
func (v *Inventory) judge(now time.Time, d *device, r *record.Record) {
	h := &d.habits
	if h.varied || r.Dst.Zone == "" {
		return
	}
	var strange []habit
	for _, b := range v.habitsIn(r) {
		if _, ok := h.known[b]; ok {
			continue
		}
		if len(h.known) == maxHabits || v.learnt == maxLearnt {
			v.learnt -= len(h.known)
			h.known, h.varied = nil, true
			v.News++
			return
		}
		if h.known == nil {
			h.known = make(map[habit]struct{})
		}
		h.known[b] = struct{}{}
		v.learnt++
		v.News++
		if b.Country != "" {
			// What was learnt while the box knew no countries.
			if _, ok := h.known[habit{Zone: b.Zone, Net: network(r.Dst.Addr)}]; ok {
				continue
			}
		}
		strange = append(strange, b)
	}
	if len(strange) > 0 && h.time >= LearnTime {
		v.strange(now, d, r, strange[0])
	}
}

// strange tells of a connection and of the first habit that it is not in.
func (v *Inventory) strange(now time.Time, d *device, r *record.Record, first habit) {
	h := &d.habits
	if since := now.Sub(h.since); since < 0 || since >= 24*time.Hour {
		h.strange, h.since = 0, now
	}
	if h.strange++; h.strange > maxStrange {
		return
	}
	what := fmt.Sprintf("%s of %s", service(r.Proto, r.Dst.Port), r.Dst.Zone)
	switch {
	case first.Country != "":
		what = "country " + first.Country
	case first.Net.IsValid():
		what = fmt.Sprintf("%s on the internet", first.Net)
	}
	text := fmt.Sprintf("%s reached %s (%s) for the first time", d.quoted(), what, quote(peer(r)))
	if h.strange == maxStrange {
		text += "; nothing more of this kind is said of it for a day"
	}
	v.tell(now, record.Event{
		Kind: record.NewBehaviour, Side: d.side(), Peer: r.Dst, Rule: r.Rule, Text: text,
		Key: fmt.Sprintf("%s/%s/%s", record.NewBehaviour, d.MAC, what),
	})
}
