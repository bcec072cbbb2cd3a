package inventory

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/netcfg/svcconf"
	"bulkhead/services/flow/record"
)

const (
	// Again is how long an event is no news after one that said the same.
	Again = 24 * time.Hour
	// hourly is how many events of a kind there are within an hour. The last says
	// that there would be more.
	hourly = 60
	// maxTold bounds the keys that are remembered.
	maxTold = 8192
)

// told is what was told lately.
type told struct {
	last map[string]time.Time // by key
	hour map[record.Kind]*hour
}

// hour is how much of a kind was told in one hour.
type hour struct {
	since time.Time
	n     int
}

func (t *told) expire(now time.Time) {
	for key, at := range t.last {
		if old := now.Sub(at); old >= Again || old < 0 {
			delete(t.last, key)
		}
	}
}

// tell makes an event that happens now, unless it is no news.
func (v *Inventory) tell(now time.Time, e record.Event) {
	if at, ok := v.told.last[e.Key]; ok && now.Sub(at) < Again && !at.After(now) {
		return
	}
	h := v.told.hour[e.Kind]
	if h == nil {
		h = new(hour)
		v.told.hour[e.Kind] = h
	}
	if old := now.Sub(h.since); old >= time.Hour || old < 0 {
		*h = hour{since: now}
	}
	if h.n++; h.n > hourly {
		return
	}
	if h.n == hourly {
		e.Text += fmt.Sprintf("; nothing more of this kind is said before %s", h.since.Add(time.Hour).UTC().Format("15:04 UTC"))
	}
	if len(v.told.last) >= maxTold {
		v.told.expire(now)
		for key := range v.told.last {
			if len(v.told.last) < maxTold {
				break
			}
			delete(v.told.last, key)
		}
	}
	v.told.last[e.Key] = now
	e.Time = now.UTC().Truncate(time.Millisecond)
	v.events = append(v.events, e)
	v.News++
}

// Events returns what there is to tell since it was last called.
func (v *Inventory) Events() []record.Event {
	list := v.events
	v.events = nil
	return list
}

// announce tells of a device that is not in the configuration.
func (v *Inventory) announce(now time.Time, d *device) {
	about := []string{d.MAC.String()}
	if d.Randomised {
		about[0] += " (made up)"
	}
	if d.Vendor != "" {
		about = append(about, "made by "+quote(d.Vendor))
	}
	if len(d.Hostnames) > 0 {
		about = append(about, "calls itself "+quote(d.Hostnames[0]))
	}
	if len(d.Addresses) > 0 {
		about = append(about, "has the address "+d.Addresses[0].Address.String())
	}
	v.tell(now, record.Event{
		Kind: record.NewDevice, Side: d.side(),
		Text: fmt.Sprintf("a device that is not in the configuration is in zone %s: %s", d.Zone, strings.Join(about, ", ")),
		Key:  fmt.Sprintf("%s/%s", record.NewDevice, d.MAC),
	})
}

// Server takes down a DHCP server that is not the box.
func (v *Inventory) Server(now time.Time, s svcconf.DHCPServer) {
	if _, ok := v.zones[s.Zone]; !ok || now.Sub(s.Seen) >= Again {
		return
	}
	side := record.Side{Zone: s.Zone, MAC: v.holders[s.Server], Addr: s.Server}
	peer := record.Side{Zone: s.Zone, MAC: s.Client, Device: v.known[s.Client].Name}
	v.tell(now, record.Event{
		Kind: record.ForeignDHCP, Side: side, Peer: peer,
		Text: fmt.Sprintf("zone %s has a DHCP server that is not the box: %s takes what %s offers it", s.Zone, s.Client, s.Server),
		Key:  fmt.Sprintf("%s/%s/%s", record.ForeignDHCP, s.Zone, s.Server),
	})
}

// critical tells of who was refused at a device that must not be touched. What a source
// tries there besides is in the records. The owner has asked for this device by name, so
// it is found by its address as well, in a zone that records no names.
func (v *Inventory) critical(now time.Time, r *record.Record) {
	mac := r.Dst.MAC
	if mac.IsZero() {
		mac = v.byName[r.Dst.Device]
	}
	if mac.IsZero() {
		mac = v.vital[r.Dst.Addr]
	}
	dst, ok := v.known[mac]
	if !ok || !dst.Critical {
		return
	}
	who := r.Src.Who()
	if r.Src.Zone == model.Internet {
		who = model.Internet // all of it is one
	}
	v.tell(now, record.Event{
		Kind: record.CriticalHit, Side: r.Src, Peer: r.Dst, Rule: cmp.Or(r.Rule, r.Reason),
		Text: fmt.Sprintf("%s in zone %s was refused at %s of %s, which is critical", quote(r.Src.Who()), r.Src.Zone, service(r.Proto, r.Dst.Port), quote(dst.Name)),
		Key:  fmt.Sprintf("%s/%s/%s/%s", record.CriticalHit, r.Src.Zone, who, dst.Name),
	})
}

// quoted is how a device is called in a sentence.
func (d *device) quoted() string { return quote(d.Title()) }

func quote(s string) string { return strconv.QuoteToASCII(s) }

// service is how people call a protocol and port.
func service(proto uint8, port uint16) string {
	switch proto {
	case 1, 58:
		if port == 8 || port == 128 {
			return "ping"
		}
		return fmt.Sprintf("icmp/%d", port)
	case 6:
		return fmt.Sprintf("tcp/%d", port)
	case 17:
		return fmt.Sprintf("udp/%d", port)
	case 132:
		return fmt.Sprintf("sctp/%d", port)
	}
	return fmt.Sprintf("protocol %d", proto)
}
