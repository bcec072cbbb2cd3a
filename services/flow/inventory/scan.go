package inventory

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/record"
)

const (
	// ScanTargets is at how many ports, or at how many addresses in the zones, one
	// source must have been refused within a minute to be a scan.
	ScanTargets = 20
	scanWindow  = time.Minute
	maxScans    = 1024 // sources looked at
)

// source is who is refused.
type source struct {
	zone string
	mac  model.MAC
	addr netip.Addr
}

// scan is what a source was refused at within the window.
type scan struct {
	last  time.Time
	ports map[portKey]time.Time
	addrs map[netip.Addr]time.Time
}

type portKey struct {
	proto uint8
	port  uint16
}

// scanned looks for a source that tries one door after the other. The internet does that
// all the time and is no news; and a device that looks for its maker's servers tries
// many addresses there, so only addresses in the zones count.
func (v *Inventory) scanned(now time.Time, r *record.Record) {
	if _, ok := v.zones[r.Src.Zone]; !ok || !r.Src.Addr.IsValid() {
		return
	}
	src := source{r.Src.Zone, r.Src.MAC, r.Src.Addr}
	s := v.scans[src]
	if s == nil {
		if len(v.scans) == maxScans {
			for other := range v.scans { // any: who scans comes back at once
				delete(v.scans, other)
				break
			}
		}
		s = &scan{ports: make(map[portKey]time.Time), addrs: make(map[netip.Addr]time.Time)}
		v.scans[src] = s
	}
	if r.Start.After(s.last) {
		s.last = r.Start
	}
	note(s.ports, portKey{r.Proto, r.Dst.Port}, r.Start, s.last)
	if r.Dst.Zone != model.Internet && r.Dst.Addr.IsValid() {
		note(s.addrs, r.Dst.Addr, r.Start, s.last)
	}
	switch {
	case len(s.ports) >= ScanTargets:
		v.scan(now, r, fmt.Sprintf("%d ports", len(s.ports)))
	case len(s.addrs) >= ScanTargets:
		v.scan(now, r, fmt.Sprintf("%d addresses", len(s.addrs)))
	default:
		return
	}
	delete(v.scans, src)
}

// note enters when a target was tried and, once there are enough for a scan, forgets
// those that are not in the window that ends with last.
func note[K comparable](m map[K]time.Time, k K, at, last time.Time) {
	m[k] = at
	if len(m) < ScanTargets {
		return
	}
	for k, t := range m {
		if last.Sub(t) >= scanWindow {
			delete(m, k)
		}
	}
}

func (v *Inventory) scan(now time.Time, r *record.Record, what string) {
	who := quote(r.Src.Who())
	v.tell(now, record.Event{
		Kind: record.PortScan, Side: r.Src, Peer: r.Dst, Rule: cmp.Or(r.Rule, r.Reason),
		Text: fmt.Sprintf("%s in zone %s was refused at %s or more within a minute, last at %s (%s)",
			who, r.Src.Zone, what, quote(r.Dst.Who()), service(r.Proto, r.Dst.Port)),
		Key: fmt.Sprintf("%s/%s/%s", record.PortScan, r.Src.Zone, who),
	})
}
