// Package svcconf is the slice of configuration that each service gets, and what
// services tell each other. The values are written as JSON to
// /run/bulkhead/<service>/config.json by netcfgd; a service never reads anything
// else about the configuration.
package svcconf

import (
	"fmt"
	"net/netip"
	"time"

	"bulkhead/netcfg/model"
)

// User is the system user of a daemon: its user and group ID, above all those that
// Debian or gokrazy give out.
type User struct {
	Name string
	ID   int
}

// The daemons' users. The ruleset names them (meta skuid), so they are fixed.
var (
	Wand   = User{"wand", 7101}
	Dhcpd  = User{"dhcpd", 7102}
	Rad    = User{"rad", 7103}
	Dnsd   = User{"dnsd", 7104}
	Flowd  = User{"flowd", 7105}
	Webuid = User{"webuid", 7106}
	Pushd  = User{"pushd", 7107}
	// Exportd sends out what flowd, which may change the kernel, must not.
	Exportd = User{"exportd", 7108}
	Authd   = User{"authd", 7109}
	// Diagd looks at what is on the links, and who answers there.
	Diagd = User{"diagd", 7110}
)

// Updated writes disks and mounts them, which takes root; nothing that it sends
// needs a rule of its own.
var Updated = User{"updated", 0}

// Users lists the daemons' users other than root.
var Users = []User{Wand, Dhcpd, Rad, Dnsd, Flowd, Webuid, Pushd, Exportd, Authd, Diagd}

// Files below the run directory (/run/bulkhead).
const (
	// ConfigFile is where a service finds its configuration: <service>/config.json,
	// owned by root, readable by the service's group. It is replaced by rename.
	ConfigFile = "config.json"
	// LeasesFile is the current DHCP leases, a [Leases], written by dhcpd into its
	// run directory <run>/dhcpd, replaced by rename, readable by dnsd's group.
	LeasesFile = "leases.json"
	// HistorySocket is where dhcpd tells root of the past, in <run>/dhcpd: to six bytes,
	// a MAC or zeros for everybody's, the answer is a [LeaseHistory], and the end.
	HistorySocket = "history.sock"
	// HeardFile is what dhcpd has heard of who is in the zones, a [DHCPHeard], written
	// into <run>/heard/dhcpd, replaced by rename, readable by flowd's group.
	HeardDir  = "heard"
	HeardFile = "heard.json"
	// RestoredFile is a [RestoredLeases], written by netcfgd into <run>/dhcpd when a
	// backup is restored. dhcpd removes it once its leases are on the disk.
	RestoredFile = "restored.json"
	// UplinkFile is a facts.Lease written by wand into <run>/wand, absent or
	// removed when there is none. netcfgd, being root, reads it.
	UplinkFile = "uplink.json"
	// StatusFile is what a service says about itself, for people: wand writes a
	// [WANStatus] into <run>/wand, at most once a second, and pushd a [PushStatus].
	StatusFile = "status.json"
	// AckFile is where a service acknowledges its configuration, in <run>/<service>:
	// the SHA-256 of the file that it serves, in hexadecimal.
	AckFile = "ack"
	// FlowsSocket is where flowd answers root and webuid, in <run>/flowd: HTTP and JSON.
	FlowsSocket = "flows.sock"
	// NamesSocket is where flowd is told by dnsd, in <run>/names, which names clients
	// asked for: datagrams that AppendNamed makes.
	NamesDir = "names"
	// FeedDir is where flowd answers exportd: <run>/feed/flows.sock, flows and events as
	// they come.
	FeedDir     = "feed"
	NamesSocket = "names.sock"
	// ExportSocket is where exportd tries alerts out for root and webuid, in
	// <run>/exportd: HTTP and JSON.
	ExportSocket = "export.sock"
	// DiagSocket is where diagd answers root, in <run>/diagd: HTTP and JSON.
	DiagSocket = "diag.sock"
	// ProbeSocket is where dhcpd and dnsd answer root as they would a client of a
	// zone, in <run>/<service>: package probe.
	ProbeSocket = "probe.sock"
)

// DHCP configures dhcpd.
type DHCP struct {
	Zones []DHCPZone `json:"zones"` // only those with DHCP on
}

// DHCPZone is one zone's DHCP service.
type DHCPZone struct {
	Zone         string        `json:"zone"`
	Link         string        `json:"link"`    // kernel interface
	Address      netip.Prefix  `json:"address"` // the box's address in the zone, with the subnet's length
	First        netip.Addr    `json:"first"`   // pool, inclusive
	Last         netip.Addr    `json:"last"`
	Lease        Duration      `json:"lease"`
	Router       netip.Addr    `json:"router"`
	Resolvers    []netip.Addr  `json:"resolvers,omitempty"`
	Domain       string        `json:"domain"`
	NTP          []netip.Addr  `json:"ntp,omitempty"`
	Reservations []Reservation `json:"reservations,omitempty"`
}

// Reservation is an address kept for one MAC. It may lie inside or outside the
// pool, never outside the subnet.
type Reservation struct {
	Name    string     `json:"name"`
	MAC     model.MAC  `json:"mac"`
	Address netip.Addr `json:"address"`
}

// Leases is what dhcpd tells the others: every lease in force.
type Leases struct {
	Leases []Lease `json:"leases"`
}

// Lease is one address given to one client.
type Lease struct {
	Zone     string     `json:"zone"`
	Address  netip.Addr `json:"address"`
	MAC      model.MAC  `json:"mac"`
	ClientID string     `json:"clientId,omitempty"` // hexadecimal; "" if the client sent none
	Hostname string     `json:"hostname,omitempty"` // a valid DNS label, lower case; "" if the client sent none or nonsense
	Device   string     `json:"device,omitempty"`   // of a reservation
	Granted  time.Time  `json:"granted"`
	Expires  time.Time  `json:"expires"`
}

// MaxPastLeases is how many a [LeaseHistory] has at most.
const MaxPastLeases = 1000

// LeaseHistory is which addresses clients had, as far as dhcpd remembers: the last 16
// leases of a client.
type LeaseHistory struct {
	Leases []PastLease `json:"leases"`          // the one that was renewed last first
	Older  int         `json:"older,omitempty"` // how many more there are
}

// PastLease is an address that a client had for a time, or still has.
type PastLease struct {
	Zone     string     `json:"zone,omitempty"` // "": its address is in no zone any more
	Address  netip.Addr `json:"address"`
	MAC      model.MAC  `json:"mac"`
	Hostname string     `json:"hostname,omitempty"` // as in [Lease]; the last
	First    time.Time  `json:"first"`              // when it was given
	Renewed  time.Time  `json:"renewed"`            // last; First if it never was
	Ends     time.Time  `json:"ends"`               // or ended
}

// DHCPHeard is what dhcpd has heard of who is in the zones, besides the leases.
type DHCPHeard struct {
	Clients []DHCPClient `json:"clients"`
	Servers []DHCPServer `json:"servers"` // that are not the box
}

// DHCPClient is who asked for an address, whether or not it got one. It chooses what it
// says of itself.
type DHCPClient struct {
	Zone     string     `json:"zone"`
	MAC      model.MAC  `json:"mac"`
	Address  netip.Addr `json:"address,omitzero"`   // that it was last given
	Hostname string     `json:"hostname,omitempty"` // as in [Lease]
	Options  string     `json:"options,omitempty"`  // that it asks for (option 55), such as "1,3,6,15"
	Class    string     `json:"class,omitempty"`    // its vendor class (option 60): printable ASCII
	Seen     time.Time  `json:"seen"`
}

// DHCPServer is one that a client took an address of, and that is not the box.
type DHCPServer struct {
	Zone   string     `json:"zone"`
	Server netip.Addr `json:"server"`
	Client model.MAC  `json:"client"` // who did so last
	Seen   time.Time  `json:"seen"`
}

// RestoredLeases are leases that another box gave, which is replaced by this one.
type RestoredLeases struct {
	ID     string  `json:"id"` // of the attempt: two files are never the same
	Leases []Lease `json:"leases"`
}

// DNS configures dnsd.
type DNS struct {
	Domain    string           `json:"domain"` // local domain, without the final dot
	Name      string           `json:"name"`   // of the box: <name>.<domain> is the zone's own address of it
	Zones     []DNSZone        `json:"zones"`  // only those with DNS on
	Hosts     []Host           `json:"hosts"`  // devices with an address
	Resolvers []model.Resolver `json:"resolvers"`
	Notices   []Notice         `json:"notices,omitempty"` // while a machine is isolated: one in each zone
}

// Ports at which isolated machines are told that they are, whatever they ask for.
const (
	NoticeHTTP = 7180 // TCP
	NoticeDNS  = 7153 // UDP and TCP
)

// NoticeRule is the name of the rule that lets them ask. Whoever a record of that names as
// the destination has not heard of it.
const NoticeRule = "box:isolated"

// Notice is where isolated machines of a zone are told that they are.
type Notice struct {
	Zone    string     `json:"zone"`
	Link    string     `json:"link"`
	Address netip.Addr `json:"address"` // to listen on, at NoticeHTTP and NoticeDNS
}

// DNSZone is one zone's resolver.
type DNSZone struct {
	Zone    string       `json:"zone"`
	Link    string       `json:"link"`
	Address netip.Addr   `json:"address"` // to listen on, UDP and TCP port 53
	Subnet  netip.Prefix `json:"subnet"`  // clients from outside are refused
	Block   []string     `json:"block,omitempty"`
	Force   bool         `json:"force,omitempty"`
	Names   bool         `json:"names,omitempty"` // flowd is told what clients ask for
}

// Host is a local name.
type Host struct {
	Name    string     `json:"name"` // one label
	Address netip.Addr `json:"address"`
}

// WAN configures wand.
type WAN struct {
	Link     string     `json:"link"` // "": no uplink: the daemon waits
	Mode     model.Mode `json:"mode"` // of IPv4
	Hostname string     `json:"hostname"`
	// Static is the lease of a static uplink.
	Address   netip.Prefix `json:"address"`
	Gateway   netip.Addr   `json:"gateway"`
	Resolvers []netip.Addr `json:"resolvers,omitempty"`
}

// Flow configures flowd.
type Flow struct {
	Zones   []FlowZone   `json:"zones"` // of those whose link is there
	Uplink  FlowUplink   `json:"uplink"`
	Devices []FlowDevice `json:"devices,omitempty"`
	Rules   []FlowRule   `json:"rules"`   // in force, the box's own included
	Reasons []FlowRule   `json:"reasons"` // for which no rule refuses
	Keep    FlowKeep     `json:"keep"`
}

// FlowZone is a zone in whose name connections are recorded.
type FlowZone struct {
	Zone    string         `json:"zone"`
	Link    string         `json:"link"`
	Subnet  netip.Prefix   `json:"subnet"`
	Address netip.Addr     `json:"address"` // the box's
	Record  model.Recorded `json:"record"`
}

// FlowUplink is the way to the internet.
type FlowUplink struct {
	Link    string     `json:"link,omitempty"` // "": none
	Address netip.Addr `json:"address,omitzero"`
}

// FlowDevice is a device that has an address.
type FlowDevice struct {
	Name     string     `json:"name"`
	Zone     string     `json:"zone"`
	MAC      model.MAC  `json:"mac"`
	Address  netip.Addr `json:"address"`
	Critical bool       `json:"critical,omitempty"`
}

// FlowRule is the name behind the mark of a connection or of a refused packet: that of a
// rule, or a policy.Reason.
type FlowRule struct {
	Mark uint32 `json:"mark"`
	Name string `json:"name"`
}

// FlowKeep bounds what is kept.
type FlowKeep struct {
	Age  Duration `json:"age"`
	Size int64    `json:"size"` // bytes
}

// Web configures webuid.
type Web struct {
	Name    string         `json:"name"` // of the box
	Domain  string         `json:"domain"`
	Listen  []netip.Addr   `json:"listen"`         // the box's address in each admin zone whose link is there
	From    []netip.Prefix `json:"from,omitempty"` // networks of these zones: others are hung up on; none: nobody is
	Gokrazy bool           `json:"gokrazy"`        // pass gokrazy's update protocol on to updated
	// ClientCertificates says that who shows no certificate that the box has made gets no
	// further, whatever else they have.
	ClientCertificates bool `json:"clientCertificates,omitempty"`
}

// Update configures updated: what must work before a new image is kept.
type Update struct {
	Admin   []netip.Addr `json:"admin"`   // the box's addresses that must answer over HTTPS
	DHCP    []UpdateDHCP `json:"dhcp"`    // zones in which a client must get an offer
	DNS     []UpdateDNS  `json:"dns"`     // zones in which a question must get an answer
	Uplink  bool         `json:"uplink"`  // the configuration has one
	Gokrazy bool         `json:"gokrazy"` // take images by gokrazy's update protocol as well
}

// UpdateDHCP is a zone whose link is there and whose DHCP is on.
type UpdateDHCP struct {
	Zone    string       `json:"zone"`
	Link    string       `json:"link"`
	Address netip.Prefix `json:"address"` // the box's, with the subnet's length
}

// UpdateDNS is a zone whose link is there and whose DNS is on.
type UpdateDNS struct {
	Zone    string     `json:"zone"`
	Name    string     `json:"name"`    // to ask for: the box's own, without the final dot
	Address netip.Addr `json:"address"` // what the answer is: the box's in the zone
}

// Diag configures diagd: where it may look.
type Diag struct {
	Zones []DiagZone `json:"zones"` // whose link is there, the internet among them
}

// DiagZone is a party whose packets can be looked at.
type DiagZone struct {
	Zone    string     `json:"zone"`
	Link    string     `json:"link"`
	Address netip.Addr `json:"address,omitzero"` // the box's in the zone; zero for the internet
}

// Push configures pushd: where the history of the configuration is taken.
type Push struct {
	Repository string         `json:"repository"` // directory of the git repository to push; "": none
	Head       string         `json:"head"`       // the commit to push, in hexadecimal
	Remote     netip.AddrPort `json:"remote"`
	User       string         `json:"user"`
	Path       string         `json:"path"`      // at the remote: letters, digits and -._~/ only
	KnownHost  string         `json:"knownHost"` // the remote's public key: ssh-ed25519 AAAA...
	Secret     string         `json:"-"`         // names the secret that Key is, before that is looked up
	Key        string         `json:"key"`       // the private key that the remote lets in, in OpenSSH's format: a secret
}

// PushStatus is what became of the history that was to be pushed.
type PushStatus struct {
	Head    string    `json:"head,omitempty"` // the last commit that the remote has, as far as is known
	At      time.Time `json:"at,omitzero"`    // when it was last seen there
	Error   string    `json:"error,omitempty"`
	Failing time.Time `json:"failing,omitzero"` // since when
}

// WANStatus is how the uplink is doing.
type WANStatus struct {
	Link  string    `json:"link"`  // "": no uplink
	State string    `json:"state"` // "off", "static", "no link", "no carrier", or a DHCP client's state
	Since time.Time `json:"since"`

	// The lease in force; zero if there is none.
	Address netip.Prefix `json:"address,omitzero"`
	Server  netip.Addr   `json:"server,omitzero"`
	Expires time.Time    `json:"expires,omitzero"`

	Next   string    `json:"next,omitempty"` // what the daemon waits for or will do
	NextAt time.Time `json:"nextAt,omitzero"`

	LastError   string    `json:"lastError,omitempty"` // since the lease was last given
	LastErrorAt time.Time `json:"lastErrorAt,omitzero"`
	Refused     uint64    `json:"refused"` // answers that made no sense
}

// Duration is a [time.Duration] that is written as people do: "12h0m0s".
type Duration time.Duration

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("duration: %w", err)
	}
	*d = Duration(v)
	return nil
}
