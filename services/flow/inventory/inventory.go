// Package inventory is which devices there are in the zones, and which of what they do
// is worth an event: who is new, who is refused where it should never knock, who tries
// one door after the other, who does what it never did.
//
// It is pure: what was seen is handed to it with the time, and nothing in it reads a
// file, asks the kernel or knows a clock. It is bounded in everything that strangers can
// make more of.
package inventory

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/flow/record"
)

// Bounds.
const (
	MaxDevices = 4096
	maxAddrs   = 8 // of a device, each the latest ones
	maxNames   = 4
	maxTalks   = 16 // of a device in the configuration
	maxNewTalk = 8  // of another: there may be as many of them as somebody likes
)

// Settling is how long after an inventory was begun devices are only taken down: those
// that are there already are no news.
const Settling = 10 * time.Minute

// introduction is how long a device has to tell its name before it is announced.
const introduction = 10 * time.Second

// Inventory is the devices that were seen. It is not safe for concurrent use.
type Inventory struct {
	lists Lists

	zones   map[string]model.Recorded // that devices are in
	links   map[string]string         // zones by link
	known   map[model.MAC]svcconf.FlowDevice
	byName  map[string]model.MAC     // known
	vital   map[netip.Addr]model.MAC // known and critical
	devices map[model.MAC]*device
	holders map[netip.Addr]model.MAC // who was last seen with an address

	began  time.Time
	ticked time.Time
	learnt int // entries of all devices' habits
	scans  map[source]*scan
	told   told
	events []record.Event

	// News counts what has to be on the disk soon; what is only later than it was
	// counts in Touches.
	News, Touches uint64
}

// device is a device with what is not for everybody.
type device struct {
	Device
	announced bool
	habits    habits
}

// Lists are what others know. Each says "" of what it does not know, and may be nil.
type Lists struct {
	Vendor  func(model.MAC) string  // who made a network card
	Country func(netip.Addr) string // where an address of the internet is, by ISO 3166-1: "DE"
}

func (l Lists) vendor(mac model.MAC) string {
	if l.Vendor == nil {
		return ""
	}
	return l.Vendor(mac)
}

func (l Lists) country(a netip.Addr) string {
	if l.Country == nil {
		return ""
	}
	return l.Country(a)
}

// New returns an empty inventory that begins now.
func New(now time.Time, lists Lists) *Inventory {
	return &Inventory{
		lists:   lists,
		devices: make(map[model.MAC]*device),
		holders: make(map[netip.Addr]model.MAC),
		scans:   make(map[source]*scan),
		told:    told{last: make(map[string]time.Time), hour: make(map[record.Kind]*hour)},
		began:   now,
	}
}

// Configure says which zones and devices there are. Devices that were seen stay.
func (v *Inventory) Configure(c svcconf.Flow) {
	v.zones = make(map[string]model.Recorded, len(c.Zones))
	v.links = make(map[string]string, len(c.Zones))
	for _, z := range c.Zones {
		v.zones[z.Zone], v.links[z.Link] = z.Record, z.Zone
	}
	v.known = make(map[model.MAC]svcconf.FlowDevice, len(c.Devices))
	v.byName = make(map[string]model.MAC, len(c.Devices))
	v.vital = make(map[netip.Addr]model.MAC)
	for _, d := range c.Devices {
		v.known[d.MAC], v.byName[d.Name] = d, d.MAC
		if d.Critical {
			v.vital[d.Address] = d.MAC
		}
	}
	for _, d := range v.devices {
		v.identify(d)
	}
}

// identify looks a device up in the configuration.
func (v *Inventory) identify(d *device) {
	k, ok := v.known[d.MAC]
	if d.Known != ok || d.Name != k.Name {
		v.News++
	}
	d.Known, d.Name, d.Critical = ok, k.Name, k.Critical
	if ok {
		d.announced = true // its owner knows
	}
}

// see returns the device with a MAC, which was in a zone at a time. It returns nil for a
// MAC that can be no device's, and for a zone that is none.
func (v *Inventory) see(at time.Time, mac model.MAC, zone string) *device {
	if _, ok := v.zones[zone]; !ok || mac.IsZero() || mac[0]&1 != 0 {
		return nil
	}
	d := v.devices[mac]
	if d == nil {
		v.makeRoom()
		d = &device{Device: Device{MAC: mac, Zone: zone, First: at, Last: at, Randomised: mac[0]&2 != 0}}
		if !d.Randomised {
			d.Vendor = v.lists.vendor(mac)
		}
		d.announced = at.Sub(v.began) < Settling
		v.devices[mac] = d
		v.identify(d)
		v.News++
	}
	if at.After(d.Last) {
		d.Last, d.Zone = at, zone
		v.Touches++
	}
	return d
}

// makeRoom forgets devices while there are too many: those that are not in the
// configuration first, and of these the ones that were not seen for longest. It forgets
// some at a time, so that a flood of made-up devices costs little each.
func (v *Inventory) makeRoom() {
	if len(v.devices) < MaxDevices {
		return
	}
	list := make([]*device, 0, len(v.devices))
	for _, d := range v.devices {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b *device) int {
		if a.Known != b.Known {
			if b.Known {
				return -1
			}
			return 1
		}
		return cmp.Or(a.Last.Compare(b.Last), slices.Compare(a.MAC[:], b.MAC[:]))
	})
	for _, d := range list[:MaxDevices/64] {
		v.forget(d)
	}
}

func (v *Inventory) forget(d *device) {
	for _, a := range d.Addresses {
		if v.holders[a.Address] == d.MAC {
			delete(v.holders, a.Address)
		}
	}
	v.learnt -= len(d.habits.known)
	delete(v.devices, d.MAC)
}

// use notes that a device was seen with an address.
func (v *Inventory) use(at time.Time, d *device, addr netip.Addr) {
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() {
		return
	}
	addr = addr.WithZone("")
	i := slices.IndexFunc(d.Addresses, func(u Used) bool { return u.Address == addr })
	switch {
	case i >= 0:
		if at.After(d.Addresses[i].Last) {
			d.Addresses[i].Last = at
		}
	default:
		d.Addresses = append(d.Addresses, Used{addr, at})
		v.News++
	}
	slices.SortFunc(d.Addresses, func(a, b Used) int {
		return cmp.Or(b.Last.Compare(a.Last), a.Address.Compare(b.Address))
	})
	if len(d.Addresses) > maxAddrs {
		for _, u := range d.Addresses[maxAddrs:] {
			if v.holders[u.Address] == d.MAC {
				delete(v.holders, u.Address)
			}
		}
		d.Addresses = d.Addresses[:maxAddrs]
	}
	if d.Addresses[0].Address == addr || v.holders[addr].IsZero() {
		v.holders[addr] = d.MAC
	}
}

// Neighbour is a device that the kernel has spoken with on a link.
type Neighbour struct {
	Link string
	MAC  model.MAC
	Addr netip.Addr
	Seen time.Time // when it last answered, as far as the kernel tells
}

// Neighbour takes down who the kernel has spoken with.
func (v *Inventory) Neighbour(n Neighbour) {
	if d := v.see(n.Seen, n.MAC, v.links[n.Link]); d != nil {
		v.use(n.Seen, d, n.Addr)
	}
}

// Client takes down who asked the box for an address.
func (v *Inventory) Client(c svcconf.DHCPClient) {
	d := v.see(c.Seen, c.MAC, c.Zone)
	if d == nil {
		return
	}
	v.use(c.Seen, d, c.Address)
	if f := (Fingerprint{printable(c.Options), printable(c.Class)}); f != (Fingerprint{}) && f != d.Fingerprint {
		d.Fingerprint = f
		v.News++
	}
	name := printable(c.Hostname)
	if name == "" || len(d.Hostnames) > 0 && d.Hostnames[0] == name {
		return
	}
	d.Hostnames = slices.DeleteFunc(d.Hostnames, func(s string) bool { return s == name })
	d.Hostnames = slices.Insert(d.Hostnames, 0, name)
	d.Hostnames = d.Hostnames[:min(len(d.Hostnames), maxNames)]
	v.News++
}

// Tick does what has to be done without anything being seen. It is to be called at
// least once a minute.
func (v *Inventory) Tick(now time.Time) {
	// Habits are learnt while the box runs: a clock that is set teaches nothing.
	if step := now.Sub(v.ticked); !v.ticked.IsZero() && step > 0 {
		v.learn(min(step, time.Minute))
	}
	v.ticked = now
	for _, d := range v.devices {
		if !d.announced && !now.Before(d.First.Add(introduction)) {
			d.announced = true
			v.News++
			v.announce(now, d)
		}
		d.Talks = slices.DeleteFunc(d.Talks, func(t Talk) bool { return now.Sub(t.Last) > talkMemory })
	}
	v.told.expire(now)
	for src, s := range v.scans {
		if now.Sub(s.last) > scanWindow {
			delete(v.scans, src)
		}
	}
}

// Devices returns what was seen: the one that was seen last comes first.
func (v *Inventory) Devices() []Device {
	list := make([]Device, 0, len(v.devices))
	for _, d := range v.devices {
		list = append(list, d.public())
	}
	slices.SortFunc(list, func(a, b Device) int {
		return cmp.Or(b.Last.Compare(a.Last), slices.Compare(a.MAC[:], b.MAC[:]))
	})
	return list
}

// find returns the device that a side of a record is, nil if it cannot be told. In a zone
// that does not record names, none is looked for.
func (v *Inventory) find(at time.Time, s record.Side) *device {
	if r, ok := v.zones[s.Zone]; !ok || r != model.RecordFull {
		return nil
	}
	mac := s.MAC
	if mac.IsZero() {
		mac = v.byName[s.Device]
	}
	if mac.IsZero() {
		mac = v.holders[s.Addr]
		if d := v.devices[mac]; d == nil || d.Zone != s.Zone {
			return nil
		}
	}
	d := v.see(at, mac, s.Zone)
	if d != nil && !s.MAC.IsZero() {
		v.use(at, d, s.Addr)
	}
	return d
}

// Records takes down what was recorded of the devices' connections.
func (v *Inventory) Records(now time.Time, list []record.Record) {
	for i := range list {
		r := &list[i]
		src := v.find(r.End, r.Src)
		dst := v.find(r.End, r.Dst)
		switch r.Verdict {
		case record.Allowed:
			for _, d := range []*device{src, dst} {
				if d != nil {
					d.Traffic.add(now, r)
					v.Touches++
				}
			}
			if src != nil && r.Rule != svcconf.NoticeRule {
				src.talk(r)
				v.judge(now, src, r)
			}
		case record.Refused:
			v.critical(now, r)
			v.scanned(now, r)
		}
	}
}

// Holder returns the MAC of who was last seen with an address; zero if nobody was.
func (v *Inventory) Holder(a netip.Addr) model.MAC { return v.holders[a] }
