package record

import "time"

// Measure is what [Top] is ordered by.
type Measure string

// The measures.
const (
	ByBytes       Measure = "bytes"       // both ways
	ByConnections Measure = "connections" // of a long one each part counts
	ByRefused     Measure = "refused"     // packets
)

// Group is what [Top] and [Sum] add up over.
type Group string

// The groups.
const (
	PerDevice      Group = "device"      // who began it
	PerDestination Group = "destination" // by DNS name where there is one
	PerRule        Group = "rule"
)

// Sum is what the records of one group add up to.
type Sum struct {
	Key  string `json:"key"`
	Zone string `json:"zone,omitempty"` // of a device or destination

	Connections uint64 `json:"connections"` // records of allowed connections
	Out         Count  `json:"out"`         // of these
	In          Count  `json:"in"`
	Refused     uint64 `json:"refused"` // packets

	Last time.Time `json:"last,omitzero"` // of a rule or reason: when it last decided
}

// Key returns the name and zone of the record's group.
func (g Group) Key(r *Record) (key, zone string) {
	switch {
	case g == PerDevice:
		return r.Src.Who(), r.Src.Zone
	case g == PerDestination && r.Name != "":
		return r.Name, r.Dst.Zone
	case g == PerDestination:
		return r.Dst.Who(), r.Dst.Zone
	case r.Rule != "":
		return r.Rule, ""
	}
	return r.Reason, ""
}

// Add adds a record.
func (s *Sum) Add(r *Record) {
	if r.Verdict == Refused {
		s.Refused += r.Out.Packets
		return
	}
	s.Connections++
	s.Out.Add(r.Out)
	s.In.Add(r.In)
}

// Value is what the measure orders by.
func (m Measure) Value(s *Sum) uint64 {
	switch m {
	case ByBytes:
		return s.Out.Bytes + s.In.Bytes
	case ByRefused:
		return s.Refused
	}
	return s.Connections
}
