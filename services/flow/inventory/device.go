package inventory

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"bulkhead/netcfg/model"
	"bulkhead/services/flow/record"
)

// Device is one device that was seen in a zone, or would be: a MAC.
type Device struct {
	MAC      model.MAC `json:"mac"`
	Name     string    `json:"name,omitempty"` // in the configuration
	Known    bool      `json:"known"`          // it is in the configuration
	Critical bool      `json:"critical,omitempty"`
	Zone     string    `json:"zone"` // where it was seen last
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`

	Vendor      string      `json:"vendor,omitempty"`     // of the network card, as the IEEE has it
	Randomised  bool        `json:"randomised,omitempty"` // the MAC is made up (its locally administered bit is set)
	Hostnames   []string    `json:"hostnames,omitempty"`  // what it calls itself, the latest first: strangers choose them
	Addresses   []Used      `json:"addresses,omitempty"`  // the latest first
	Fingerprint Fingerprint `json:"fingerprint,omitzero"`
	Talks       []Talk      `json:"talks,omitempty"` // most bytes first
	Traffic     Traffic     `json:"traffic,omitzero"`
	Learning    bool        `json:"learning"` // what it does is not judged yet
	Varied      bool        `json:"varied,omitempty"`
}

// Used is an address that a device was seen with.
type Used struct {
	Address netip.Addr `json:"address"`
	Last    time.Time  `json:"last"`
}

// Fingerprint is what a device's DHCP client gives away of its make.
type Fingerprint struct {
	Options string `json:"options,omitempty"` // that it asks for (option 55), such as "1,3,6,15"
	Class   string `json:"class,omitempty"`   // its vendor class (option 60): it chooses it
}

// Talk is whom a device speaks with, about what.
type Talk struct {
	Peer        string    `json:"peer"` // a device's name in the configuration, a DNS name, an address or a zone
	Zone        string    `json:"zone"`
	Service     string    `json:"service"` // such as tcp/443
	App         string    `json:"app,omitempty"`
	Connections uint64    `json:"connections"` // parts of a long one count each
	Bytes       uint64    `json:"bytes"`       // both ways
	Last        time.Time `json:"last"`
}

// Title is how people call the device: its name in the configuration, what it calls
// itself, or its MAC.
func (d *Device) Title() string {
	switch {
	case d.Name != "":
		return d.Name
	case len(d.Hostnames) > 0:
		return d.Hostnames[0]
	}
	return d.MAC.String()
}

// public returns a copy that the device keeps nothing of.
func (d *device) public() Device {
	p := d.Device
	p.Hostnames, p.Addresses, p.Talks = slices.Clone(p.Hostnames), slices.Clone(p.Addresses), slices.Clone(p.Talks)
	p.Traffic.Bytes = slices.Clone(p.Traffic.Bytes)
	slices.SortStableFunc(p.Talks, func(a, b Talk) int { return cmp.Compare(b.Bytes, a.Bytes) })
	p.Learning, p.Varied = d.habits.time < LearnTime, d.habits.varied
	return p
}

// side is the device as one side of an event.
func (d *device) side() record.Side {
	s := record.Side{Zone: d.Zone, Device: d.Name, MAC: d.MAC}
	if len(d.Addresses) > 0 {
		s.Addr = d.Addresses[0].Address
	}
	return s
}

// talkMemory is how long a talk is remembered after its last connection.
const talkMemory = 30 * 24 * time.Hour

// talk adds a connection to those with the same peer and service. Where there are too
// many, the one with the fewest bytes makes room, of equals the one that is longest ago:
// those that matter stay.
func (d *device) talk(r *record.Record) {
	t := Talk{Peer: peer(r), Zone: r.Dst.Zone, Service: service(r.Proto, r.Dst.Port), App: r.App}
	i := slices.IndexFunc(d.Talks, func(o Talk) bool { return o.Peer == t.Peer && o.Zone == t.Zone && o.Service == t.Service })
	most := maxTalks
	if !d.Known {
		most = maxNewTalk
	}
	if i < 0 && len(d.Talks) >= most {
		least := slices.MinFunc(d.Talks, func(a, b Talk) int { return cmp.Or(cmp.Compare(a.Bytes, b.Bytes), a.Last.Compare(b.Last)) })
		i = slices.Index(d.Talks, least)
		d.Talks[i] = t
	} else if i < 0 {
		i = len(d.Talks)
		d.Talks = append(d.Talks, t)
	}
	o := &d.Talks[i]
	o.App = t.App
	o.Connections++
	o.Bytes += r.Out.Bytes + r.In.Bytes
	if r.End.After(o.Last) {
		o.Last = r.End
	}
}

// peer is how people call the destination of a connection.
func peer(r *record.Record) string {
	if r.Dst.Device == "" && r.Name != "" {
		return printable(r.Name)
	}
	return r.Dst.Who()
}

// maxText bounds what strangers say of themselves, in bytes. Hardly any name is longer.
const maxText = 100

// printable makes a text of a stranger's one line of plain ASCII.
func printable(s string) string {
	s = s[:min(len(s), maxText)]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
