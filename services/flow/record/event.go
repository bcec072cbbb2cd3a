package record

import "time"

// Event is something that people want to hear of, where a record is something that they
// may want to look up.
type Event struct {
	Time time.Time `json:"time"`
	Kind Kind      `json:"kind"`
	Side Side      `json:"side"`           // who or what it is about
	Peer Side      `json:"peer,omitzero"`  // the other side, if there is one
	Rule string    `json:"rule,omitempty"` // that refused, or the reason
	Text string    `json:"text"`           // a sentence; names in it are quoted, for strangers choose them
	// Key is what two events have in common that say the same: the second is no news.
	Key string `json:"key"`
}

// Kind is the kind of an [Event], as the configuration calls it.
type Kind string

// The kinds of events.
const (
	NewDevice    Kind = "new-device"    // seen for the first time, and not in the configuration
	ForeignDHCP  Kind = "foreign-dhcp"  // a zone has a DHCP server that is not the box
	CriticalHit  Kind = "critical"      // somebody was refused at a device with critical: true
	PortScan     Kind = "port-scan"     // one source was refused at many ports or addresses
	NewBehaviour Kind = "new-behaviour" // a device reached a port or a network that it never did
	Isolated     Kind = "isolated"      // a device was isolated or released
	Change       Kind = "change"        // of the configuration: confirmed or undone
	Trouble      Kind = "trouble"       // something of the box does not work
)

// Kinds lists the kinds of events.
var Kinds = []Kind{NewDevice, ForeignDHCP, CriticalHit, PortScan, NewBehaviour, Isolated, Change, Trouble}
