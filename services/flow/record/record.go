// Package record is what is known of a connection, or of packets that were refused: who
// spoke to whom, about what, how much, and which rule let it. The values are passed
// between the parts that make, keep, show and export them.
//
// The package is pure: it knows no clock, no files and no kernel.
package record

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"bulkhead/netcfg/model"
)

// Record is one of
//   - a connection that has ended,
//   - the part of a long connection that lies in one hour of it,
//   - the packets that one source sent to one destination and service within one minute
//     (of the clock, UTC), and that one rule or reason refused.
//
// Times are UTC and have milliseconds.
type Record struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	Began time.Time `json:"began"` // of the connection: before Start in all its parts but the first

	Src Side `json:"src"` // who began it
	Dst Side `json:"dst"` // who was meant: of a forward the device, not the address called

	// Translated addresses; zero where nothing was translated.
	NATSrc netip.AddrPort `json:"natSrc,omitzero"` // what the destination saw as the source
	NATDst netip.AddrPort `json:"natDst,omitzero"` // what the source called

	Proto uint8 `json:"proto"` // IP protocol number
	Out   Count `json:"out"`   // from Src to Dst
	In    Count `json:"in"`    // back; zero for refusals

	Verdict Verdict `json:"verdict"`
	Rule    string  `json:"rule,omitempty"`   // that decided; "" if none did
	Reason  string  `json:"reason,omitempty"` // of a refusal by no rule: a policy.Reason
	Ended   End     `json:"ended,omitempty"`

	Name string `json:"name,omitempty"` // that Src had asked for before it called Dst's address
	App  string `json:"app,omitempty"`  // of the destination port, out of the catalogue: a guess
}

// Side is one end.
type Side struct {
	Zone   string     `json:"zone"`             // model.Internet and model.Box are zones here; "" if not known
	Device string     `json:"device,omitempty"` // name in the configuration at that time; "" if it had none
	MAC    model.MAC  `json:"mac,omitzero"`     // zero if not known
	Addr   netip.Addr `json:"addr,omitzero"`    // zero in a zone that does not record them, and in the rest of a minute's refusals
	Port   uint16     `json:"port,omitempty"`   // of Dst the ICMP type, if the protocol is ICMP
}

// Count is what went one way. Bytes are those of the IP packets. Of a connection it is what
// the kernel counts, which leaves out the first packet of TCP where that is sent again.
type Count struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// Add adds o.
func (c *Count) Add(o Count) { c.Packets, c.Bytes = c.Packets+o.Packets, c.Bytes+o.Bytes }

// Who is how people call the side: its device's name, its address, or its zone.
func (s Side) Who() string {
	switch {
	case s.Device != "":
		return s.Device
	case s.Addr.IsValid():
		return s.Addr.String()
	}
	return s.Zone
}

// Verdict says whether packets were let through.
type Verdict uint8

// The verdicts. There is no record without one; the zero value stands for any in a
// [Filter].
const (
	Allowed Verdict = iota + 1
	Refused
)

var verdicts = []string{"", "allowed", "refused"}

// End says how a connection ended, as far as packets tell.
type End uint8

// The ends of connections.
const (
	Unknown   End = iota // no protocol that says so, a refusal
	Finished             // TCP: both sides said so
	Reset                // TCP: one side broke it off
	Expired              // TCP: it was open, and nothing came any more or no rule lets it be now
	Unopened             // TCP: never answered, or never complete
	Continues            // a part of a connection that goes on
	Lost                 // it was gone when flows were looked at again
)

var ends = []string{"", "finished", "reset", "expired", "unopened", "continues", "lost"}

func (v Verdict) String() string { return text(verdicts, int(v)) }
func (e End) String() string     { return text(ends, int(e)) }

// MarshalText implements [encoding.TextMarshaler].
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// MarshalText implements [encoding.TextMarshaler].
func (e End) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (v *Verdict) UnmarshalText(b []byte) error {
	i, err := index("verdict", verdicts, string(b))
	*v = Verdict(i)
	return err
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (e *End) UnmarshalText(b []byte) error {
	i, err := index("end", ends, string(b))
	*e = End(i)
	return err
}

func text(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprint(i)
}

func index(what string, names []string, s string) (int, error) {
	i := slices.Index(names, s)
	if i < 0 {
		return 0, fmt.Errorf("%s %.40q: one of %q is meant", what, s, names[1:])
	}
	return i, nil
}
