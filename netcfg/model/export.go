package model

import (
	"net/netip"
	"time"

	"bulkhead/netcfg/diag"
)

// Peer is a host that the box sends to, and how.
type Peer struct {
	Scheme  string     // udp, tcp, tls, http, https, smtp (with STARTTLS) or smtps
	Device  *Device    // the host
	Address netip.Addr // the host, without a device: IPv4
	Port    uint16
	Name    string   // what its certificate must say, and what it is called by HTTP; "": its address
	Path    string   // of HTTP
	CA      []string // certificates that its own must come from, DER in base64; none: those that browsers trust
}

// Export is where flow records and events are sent.
type Export struct {
	Name   string
	Format string // one of [ExportFormats]
	To     Peer
	// What is sent.
	Flows, Refusals, Events bool
	Token                   string // name of the secret that HTTP's Authorization carries; "": none
	Pos                     diag.Pos
}

// The formats of exports.
const (
	FormatIPFIX  = "ipfix"
	FormatSyslog = "syslog"
	FormatJSON   = "json"
	FormatLoki   = "loki"
)

// ExportFormats lists them.
var ExportFormats = []string{FormatIPFIX, FormatSyslog, FormatJSON, FormatLoki}

// Alert is who is told of events.
type Alert struct {
	Name   string
	By     string // one of [AlertWays]
	To     Peer
	Path   string   // name of the secret that is the path of HTTP; "": it is in To
	Token  string   // as in [Export]
	Events []string // kinds, of [EventKinds]

	// Of mail.
	User, Password string // Password is the name of a secret; both "": nobody logs in
	From           string
	Recipients     []string

	Again time.Duration // for so long the same event is no news
	Limit int           // messages in an hour
	// Quiet hours, in minutes since midnight in the system's timezone; over midnight if
	// QuietFrom is the greater. None if both are equal.
	QuietFrom, QuietTo int
	Pos                diag.Pos
}

// The ways to tell of events.
const (
	ByWebhook = "webhook"
	ByNtfy    = "ntfy"
	ByMail    = "mail"
)

// AlertWays lists them.
var AlertWays = []string{ByWebhook, ByNtfy, ByMail}

// EventKinds lists the kinds of events that there are.
var EventKinds = []string{"new-device", "foreign-dhcp", "critical", "port-scan", "new-behaviour", "isolated", "change", "trouble"}
