// Package lease decides which client has which address of one zone, and until when.
//
// It is pure: time comes in as an argument, nothing is read or written, and nothing
// in it knows what a DHCP packet looks like. A [Table] is not safe for concurrent
// use. It never gives one address to two clients at the same time, whatever it is
// asked in whatever order; the tests hold it to that.
package lease

import (
	"net/netip"
	"time"

	"bulkhead/netcfg/model"
)

// State is what is the matter with an address.
type State uint8

// The states of an address. One that no client ever had has no [Lease] at all.
const (
	Free     State = iota // its last client has gone; kept for that client to come back to
	Offered               // held for a client that has not taken it yet
	Bound                 // acknowledged: the client's own until it expires
	Declined              // a client found somebody else using it: nobody's for a while
)

func (s State) String() string {
	switch s {
	case Free:
		return "free"
	case Offered:
		return "offered"
	case Bound:
		return "bound"
	case Declined:
		return "declined"
	}
	return "unknown"
}

// Client is who asks for an address.
type Client struct {
	MAC model.MAC
	ID  string // the client identifier's bytes (RFC 2132 section 9.14); "" if it sent none
}

// Lease is what is known about one address.
type Lease struct {
	Addr     netip.Addr
	State    State
	Client   Client // who has it, or had it last
	Hostname string // what the client calls itself: a DNS label, or ""
	// Granted is when the address was last acknowledged; zero for a mere offer.
	Granted time.Time
	// Until is when the state ends by itself. Of a Free address it is when it
	// became free.
	Until time.Time
}

// Config is what a [Table] may give out. Addresses are IPv4.
type Config struct {
	Subnet      netip.Prefix
	Box         netip.Addr // the appliance's own address, never given out
	First, Last netip.Addr // the pool, inclusive
	Lease       time.Duration
	// Reserved are addresses kept for one MAC each, inside or outside the pool.
	Reserved map[model.MAC]netip.Addr
}

// Bounds of a table.
const (
	// OfferHold is how long an offered address waits to be taken. A client that
	// takes longer gets it all the same unless somebody was faster, so it is short,
	// and a flood of made-up clients blocks the pool no longer than this.
	OfferHold = 15 * time.Second
	// Quarantine is how long a declined address is left alone.
	Quarantine = 10 * time.Minute
	// MaxLeases is how many addresses of one zone are ever in use, however large
	// its pool.
	MaxLeases = 1 << 16
)

// Rebase returns l as of now, for a lease read from a disk. It moves the times of a
// lease that claims to be from the future to begin now: in truth it was granted
// before, so that this errs on the long side, while trusting it could block the
// address for years.
//
// The times returned carry now's monotonic reading, so that from then on the lease
// runs by elapsed time, whatever becomes of the clock.
func (l Lease) Rebase(now time.Time) Lease {
	var length time.Duration
	if !l.Granted.IsZero() && l.Until.After(l.Granted) {
		length = l.Until.Sub(l.Granted)
	}
	if l.State == Declined {
		length = Quarantine
	}
	left := min(l.Until.Sub(now), length)
	if l.State == Free {
		left = min(l.Until.Sub(now), 0)
	}
	l.Until = now.Add(left)
	if !l.Granted.IsZero() {
		l.Granted = now.Add(min(l.Granted.Sub(now), 0))
	}
	return l
}

// Wall returns l with times as the clock reads now, for a disk or another process.
// They differ from l's own if the clock was set since those were taken.
func (l Lease) Wall(now time.Time) Lease {
	wall := now.Round(0) // without its monotonic reading
	l.Until = wall.Add(l.Until.Sub(now))
	if !l.Granted.IsZero() {
		l.Granted = wall.Add(l.Granted.Sub(now))
	}
	return l
}
