// Package model holds a whole configuration as valid, immutable values.
//
// Only package conf makes them, after checking everything: whoever is handed a
// [Config] need not check again. The package never reads files and never decides
// what the policy means; that is policy's duty.
package model

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"bulkhead/netcfg/diag"
)

// Names that are endpoints without being declared.
const (
	Internet = "internet" // everything beyond the uplink
	Box      = "box"      // the appliance itself
)

// Config is one configuration file, complete. Slices keep the order of the file.
// Pointers between values (a device's zone) point into the same Config.
type Config struct {
	System    System
	Ports     []*Port
	Uplink    *Uplink // nil: no internet
	Resolvers []Resolver
	Zones     []*Zone
	Devices   []*Device
	Groups    []*Group
	Protocols []*Protocol // the file's own; the catalogue is not repeated here
	Allow     []*Rule
	Block     []*Rule
	Forwards  []*Forward
	Tests     []*Test
	Flows     Flows
	Exports   []*Export
	Alerts    []*Alert
	Secrets   []SecretUse // every place where the name of a secret stands
}

// System is what the box is called and where it stands.
type System struct {
	Name               string         // host name, one DNS label
	Domain             string         // the local domain, without a dot at the end: home.arpa
	Timezone           string         // IANA name
	Location           *time.Location // the same, loaded
	Updates            Updates
	ClientCertificates bool  // browsers and programs show a certificate of the box's, or get no further
	Push               *Push // nil: the history stays on the box
}

// Push is a git repository that the history of the configuration is taken to, over SSH.
type Push struct {
	User      string
	Device    *Device    // the host
	Address   netip.Addr // the host, without a device
	Port      uint16
	Path      string // letters, digits and ._/- only
	KnownHost string // the host's public key: ssh-ed25519 AAAA...
	Key       string // name of the secret that is the private key
	Pos       diag.Pos
}

// Updates is how the box may be updated, beside the way that is always open.
type Updates struct {
	Gokrazy bool // by gokrazy's protocol, whose images nobody signed
}

// Port is one of the box's sockets. Its MAC pins it, because kernel names move.
type Port struct {
	Name string
	MAC  MAC
	Pos  diag.Pos
}

// Mode says how an address family of the uplink is set up.
type Mode uint8

// The modes of an uplink's address family.
const (
	ModeNone      Mode = iota // the family is not used
	ModeDHCP                  // IPv4: DHCP
	ModeDelegated             // IPv6: DHCPv6 prefix delegation, RFC 7084
	ModeStatic
)

// Uplink is the way to the internet. It takes a whole port, or a VLAN of one.
type Uplink struct {
	Port *Port
	VLAN uint16 // 1 to 4094; 0: untagged
	IPv4 Family
	IPv6 Family
	Pos  diag.Pos
}

// Family is the addressing of one address family of the uplink. Address, Gateway
// and Resolvers are set for ModeStatic only.
type Family struct {
	Mode      Mode
	Address   netip.Prefix
	Gateway   netip.Addr
	Resolvers []netip.Addr
}

// Resolver is a DNS server that questions are forwarded to.
type Resolver struct {
	Addr netip.AddrPort // port 53, or 853 with TLS
	TLS  bool
	Name string // what the server's certificate must say; "" without TLS
	// Secret names the secret that holds all of the above, always with TLS; "": none.
	Secret string
	Pos    diag.Pos
}

// SecretKind is what the value of a secret must be, wherever it is named.
type SecretKind string

// The kinds of secrets.
const (
	SecretResolver SecretKind = "resolver" // of DNS over TLS: tls://ADDRESS#NAME
	SecretSSHKey   SecretKind = "ssh-key"  // a private key in OpenSSH's format, without a passphrase
	SecretToken    SecretKind = "token"    // that HTTP's Authorization carries
	SecretPath     SecretKind = "path"     // of an address of HTTP, from its first slash on
	SecretPassword SecretKind = "password" // of a mail server
)

// SecretUse is a place of the file where the name of a secret stands for its value.
// The value itself is not part of a configuration.
type SecretUse struct {
	Name string
	Kind SecretKind
	Path string // of the key: resolvers[0].secret
	Pos  diag.Pos
}

// Zone is one compartment of the network.
type Zone struct {
	Name    string
	Port    *Port
	VLAN    uint16       // 1 to 4094; 0: the whole port
	Subnet  netip.Prefix // IPv4, masked
	Gateway netip.Addr   // the box's address in Subnet
	Admin   bool         // reaches UI, API and metrics
	Ping    bool         // the box answers its pings
	IPv6    bool         // takes part in IPv6 where the uplink offers it
	DHCP    DHCP
	DNS     DNS
	Flows   Recorded
	// Observed is the first instant at which the zone is judged again. Until then it may
	// open every connection but to the box, and but those that a block names. Zero: it is
	// always judged.
	Observed time.Time
	Pos      diag.Pos
}

// Flows is what is kept of flow records.
type Flows struct {
	Keep time.Duration // whole days
	Size int64         // bytes
}

// Recorded is how much of a zone's flows is written down.
type Recorded uint8

// The ways to record, each less than the one before it.
const (
	RecordFull    Recorded = iota
	RecordNoNames          // addresses, but neither names of devices nor what they asked DNS for
	RecordCounts           // how much passed between zones
	RecordOff
)

var recorded = []string{"full", "no-names", "counts", "off"}

// ParseRecorded returns the way to record that a file calls s.
func ParseRecorded(s string) (Recorded, bool) {
	i := slices.Index(recorded, s)
	return Recorded(max(i, 0)), i >= 0
}

func (r Recorded) String() string { return recorded[r] }

// MarshalText implements [encoding.TextMarshaler].
func (r Recorded) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *Recorded) UnmarshalText(b []byte) error {
	v, ok := ParseRecorded(string(b))
	if !ok {
		return fmt.Errorf("%.20q is not one of %q", b, recorded)
	}
	*r = v
	return nil
}

// DHCP is what a zone's DHCP server hands out.
type DHCP struct {
	Enabled bool
	Pool    Range
	Lease   time.Duration // two minutes to 365 days
	NTP     []netip.Addr  // option 42; empty: not sent
}

// DNS is what a zone's resolver does.
type DNS struct {
	Enabled bool
	Block   []string // domains answered NXDOMAIN, with all below them
	Force   bool     // port 53 to anywhere is answered by the box
}

// Range is an inclusive range of addresses of one family.
type Range struct{ First, Last netip.Addr }

// Contains reports whether a lies in the range.
func (r Range) Contains(a netip.Addr) bool {
	return a.Is4() == r.First.Is4() && r.First.Compare(a) <= 0 && a.Compare(r.Last) <= 0
}

// Device is one machine of the inventory: a MAC and, together with it, an address.
type Device struct {
	Name     string
	Zone     *Zone
	MAC      MAC
	Address  netip.Addr // zero: given one out of the zone's pool at run time
	Owner    string
	Purpose  string
	Note     string
	Critical bool
	Pos      diag.Pos
}

// Group is a name for several endpoints. Members are flattened: no groups in it.
type Group struct {
	Name    string
	Members []Endpoint
	Pos     diag.Pos
}

// Protocol is a name for several services.
type Protocol struct {
	Name     string
	Services []Service
	Pos      diag.Pos
}

// Kind is the kind of an endpoint.
type Kind uint8

// The kinds of endpoints.
const (
	KindZone   Kind = iota + 1
	KindDevice      // by address and, on the way in, MAC
	KindPrefix      // addresses in one zone, or out on the internet
	KindInternet
	KindBox
)

// Endpoint is one side of a rule, groups resolved.
//
// A prefix lies wholly inside one zone's subnet (Zone is set) or touches none
// (Zone is nil: it is out on the internet). It is never an address of the box.
type Endpoint struct {
	Kind   Kind
	Zone   *Zone        // KindZone, KindDevice and KindPrefix inside a zone
	Device *Device      // KindDevice
	Prefix netip.Prefix // KindPrefix, masked; a single address has all bits
}

// Name is how the endpoint is written in the file.
func (e Endpoint) Name() string {
	switch e.Kind {
	case KindZone:
		return e.Zone.Name
	case KindDevice:
		return e.Device.Name
	case KindInternet:
		return Internet
	case KindBox:
		return Box
	}
	if e.Prefix.IsSingleIP() {
		return e.Prefix.Addr().String()
	}
	return e.Prefix.String()
}

// Party is the compartment the endpoint belongs to: a zone's name, [Internet] or
// [Box].
func (e Endpoint) Party() string {
	switch {
	case e.Kind == KindBox:
		return Box
	case e.Zone != nil:
		return e.Zone.Name
	}
	return Internet
}

// Rule is one line of allow or block: a set of connections and why.
type Rule struct {
	Name      string
	From, To  []Endpoint // groups resolved, no duplicates
	FromNames []string   // as written
	ToNames   []string   // as written
	Services  []Service
	Protocols []string // as written
	Why       string
	Owner     string
	Until     time.Time // first instant at which the rule is gone; zero: never
	Pos       diag.Pos
}

// Forward lets the internet open connections to one device, at the uplink's
// address and the same port. Translation and permission are one thing.
type Forward struct {
	Name      string
	To        *Device
	Services  []Service // TCP and UDP ports only
	Protocols []string  // as written
	Owner     string
	Why       string
	Until     time.Time // never zero
	Pos       diag.Pos
}

// Test is a statement about the policy that must hold.
type Test struct {
	From, To  []Endpoint
	FromNames []string
	ToNames   []string
	Services  []Service
	Protocols []string
	Allow     bool
	Pos       diag.Pos
}

// Zone returns the zone of that name, or nil.
func (c *Config) Zone(name string) *Zone {
	i := slices.IndexFunc(c.Zones, func(z *Zone) bool { return z.Name == name })
	if i < 0 {
		return nil
	}
	return c.Zones[i]
}

// Device returns the device of that name, or nil.
func (c *Config) Device(name string) *Device {
	i := slices.IndexFunc(c.Devices, func(d *Device) bool { return d.Name == name })
	if i < 0 {
		return nil
	}
	return c.Devices[i]
}

// EndpointNames returns the names that stand for endpoints: those of zones, devices and groups
// in the order of the file, [Internet] and [Box].
func (c *Config) EndpointNames() (names []string) {
	for _, z := range c.Zones {
		names = append(names, z.Name)
	}
	for _, d := range c.Devices {
		names = append(names, d.Name)
	}
	for _, g := range c.Groups {
		names = append(names, g.Name)
	}
	return append(names, Internet, Box)
}

// ZoneOf returns the zone whose subnet holds a, or nil.
func (c *Config) ZoneOf(a netip.Addr) *Zone {
	i := slices.IndexFunc(c.Zones, func(z *Zone) bool { return z.Subnet.Contains(a) })
	if i < 0 {
		return nil
	}
	return c.Zones[i]
}
