//go:build linux

package reconcile

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/facts"
	"bulkhead/netcfg/model"
)

// The zone in which a box without a configuration waits for its owner.
const (
	setupZone  = "management"
	setupLease = 2 * time.Minute // short: a computer that moves to another port asks again soon
)

var (
	setupAddress = netip.MustParsePrefix("192.168.77.1/24") // the box's
	setupPool    = model.Range{First: netip.MustParseAddr("192.168.77.100"), Last: netip.MustParseAddr("192.168.77.199")}
)

// setupPatience is how long another DHCP server on a port has to show itself. wand
// begins within a second and looks whether its address is taken before it tells; a
// first question that was lost is repeated after four seconds.
const setupPatience = 8 * time.Second

// setup is how a box that never had a configuration lets its owner in: one port is a
// management zone. It is the first one found with a carrier, for as long as it has it.
//
// Behind the first cable may be the provider, or a network that is in use. A second
// DHCP server would break it, so the port is an uplink first, for wand to ask whether
// there is one: if so, another port is better, and without another one the box gives
// out no addresses.
type setup struct {
	port   string                // link that was chosen; "": none
	asked  time.Time             // since when wand asks there; zero: no longer
	lost   bool                  // the port is without a carrier: what comes back may be another cable
	others map[string]netip.Addr // links with a carrier where somebody else's DHCP server answers
}

// see takes in what the ports and the uplink's lease (or nil) have become.
func (s *setup) see(links []facts.Link, lease *facts.Lease, now time.Time) {
	carrier := func(name string) bool {
		return slices.ContainsFunc(links, func(l facts.Link) bool { return l.Name == name && l.Carrier })
	}
	maps.DeleteFunc(s.others, func(name string, _ netip.Addr) bool { return !carrier(name) })
	if !s.asked.IsZero() {
		switch {
		case lease != nil && lease.Link == s.port && carrier(s.port):
			if s.others == nil {
				s.others = map[string]netip.Addr{}
			}
			s.others[s.port], s.asked = lease.Server, time.Time{}
		case now.Sub(s.asked) >= setupPatience:
			s.asked = time.Time{}
		}
	}
	next := s.better(links)
	if next == s.port && !(s.lost && carrier(s.port)) {
		s.lost = !carrier(s.port)
		return
	}
	s.port, s.lost, s.asked = next, false, time.Time{}
	if _, known := s.others[next]; !known && next != "" {
		s.asked = now
	}
}

// better returns the port to take: the one that is taken, as long as no other is
// better; else the first that is.
func (s *setup) better(links []facts.Link) string {
	rank := func(l facts.Link) int {
		_, other := s.others[l.Name]
		switch {
		case l.Carrier && !other:
			return 2
		case l.Carrier:
			return 1
		}
		return 0
	}
	best, high := "", 0
	for _, l := range links {
		r := rank(l)
		if r > high || r == high && l.Name == s.port {
			best, high = l.Name, r
		}
	}
	return best
}

// config returns the configuration that says so.
func (s *setup) config(links []facts.Link) *model.Config {
	cfg := nothing()
	for _, l := range links {
		mac, err := model.ParseMAC(l.MAC)
		if err != nil {
			continue
		}
		port := &model.Port{Name: l.Name, MAC: mac}
		cfg.Ports = append(cfg.Ports, port)
		switch {
		case l.Name != s.port:
		case !s.asked.IsZero():
			cfg.Uplink = &model.Uplink{Port: port, IPv4: model.Family{Mode: model.ModeDHCP}}
		default:
			_, other := s.others[l.Name]
			cfg.Zones = []*model.Zone{{
				Name: setupZone, Port: port, Subnet: setupAddress.Masked(), Gateway: setupAddress.Addr(), Admin: true,
				DHCP: model.DHCP{Enabled: !other, Pool: setupPool, Lease: setupLease},
				DNS:  model.DNS{Enabled: true}, // for the box's name
			}}
		}
	}
	return cfg
}

// reason says what the owner can do.
func (s *setup) reason(links []facts.Link) string {
	none := errNone.Error() + ": "
	claim := "run: bulkhead claim " + setupAddress.Addr().String()
	other, known := s.others[s.port]
	switch {
	case len(links) == 0:
		return none + "the box has no network port"
	case s.port == "":
		var names []string
		for _, l := range links {
			names = append(names, l.Name)
		}
		return none + "plug a cable into one of its ports: " + strings.Join(names, ", ")
	case !s.asked.IsZero():
		return fmt.Sprintf("%slooking whether another DHCP server is on port %s", none, s.port)
	case known:
		return fmt.Sprintf("%sport %s leads to a network with a DHCP server of its own (%s); use another port, or give a computer there an address in %s and %s",
			none, s.port, other, setupAddress.Masked(), claim)
	}
	return fmt.Sprintf("%son a computer at port %s, %s", none, s.port, claim)
}

// socket reports whether a link is one that a cable goes into, and not one that the
// kernel made up. Namespaces have veths in their place.
func socket(l facts.Link) bool { return slices.Contains([]string{"", "dsa", "veth"}, l.Kind) }

// arrange makes the target of a box in setup fit what the ports have become.
func (r *Reconciler) arrange() {
	if !r.target.setup {
		return
	}
	links, _, err := r.o.Kernel.Facts()
	if err != nil {
		return // whoever compiles asks again, and tells
	}
	links = slices.DeleteFunc(links, func(l facts.Link) bool { return !socket(l) })
	lease, _ := r.lease.read(r.o.Wall()) // likewise
	r.setup.see(links, lease, time.Now())
	r.target.cfg, r.target.closed = r.setup.config(links), r.setup.reason(links)
}

// left returns how long another DHCP server has to show itself, and false if none is
// looked for.
func (s *setup) left() (time.Duration, bool) {
	return time.Until(s.asked.Add(setupPatience)), !s.asked.IsZero()
}
