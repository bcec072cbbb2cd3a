// Package api is how programs talk to updated: JSON over HTTP, on a unix socket on the
// box, and through the box's own HTTPS from elsewhere. It holds the types and the
// client. It decides nothing.
package api

import (
	"time"

	"bulkhead/services/update/manifest"
)

// SocketFile is the socket's name in the run directory.
const SocketFile = "updated.sock"

// Daemons are the programs of the box that log.
var Daemons = []string{"netcfgd", "wand", "dhcpd", "dnsd", "flowd", "authd", "webuid", "consoled", "updated", "pushd", "exportd", "diagd"}

// Log is the last that a daemon has logged, since the box started.
type Log struct {
	Lines []string `json:"lines"` // the latest last
}

// LookupTypes are the types of DNS records that may be asked for.
var LookupTypes = []string{"A", "AAAA", "CNAME", "HTTPS", "MX", "NS", "PTR", "SOA", "SRV", "TXT"}

// Lookup is what a device in a zone is told if it asks the box's DNS server.
type Lookup struct {
	Question string         `json:"question"` // such as nas.home.arpa. A
	Code     string         `json:"code"`     // NOERROR, NXDOMAIN and so on
	Answers  []LookupAnswer `json:"answers"`
}

// LookupAnswer is one record, as zone files have it.
type LookupAnswer struct {
	Name string `json:"name"`
	Type string `json:"type"`
	TTL  uint32 `json:"ttl"` // seconds
	Data string `json:"data"`
}

// Status is how the box's two systems are.
type Status struct {
	Arch    string    `json:"arch"`
	Slot    string    `json:"slot"` // that runs: a or b
	Version string    `json:"version"`
	Built   time.Time `json:"built,omitzero"`
	Kernel  string    `json:"kernel"` // version
	Trial   bool      `json:"trial"`  // the running system has yet to prove itself
	Waiting []string  `json:"waiting,omitempty"`
	Other   Other     `json:"other"`
	Staging *Staging  `json:"staging,omitempty"`
	Last    *Outcome  `json:"last,omitempty"`
}

// Other is the system that does not run.
type Other struct {
	Version string    `json:"version,omitempty"`
	Built   time.Time `json:"built,omitzero"`
	// State is "good", "disabled" (nothing complete is there), "armed" (it is tried at
	// the next boot) or "failed".
	State string `json:"state"`
}

// Staging is an update that is being received.
type Staging struct {
	Version string    `json:"version"`
	Author  string    `json:"author,omitempty"`
	Started time.Time `json:"started"`
	Part    string    `json:"part,omitempty"` // that is being written or was last: kernel or root
	Done    int64     `json:"done"`           // bytes of the part
	Of      int64     `json:"of"`
	Ready   bool      `json:"ready"` // all of it is there and verified
}

// The outcomes of an update.
const (
	Kept      = "kept"
	Undone    = "undone"    // it was tried and is not the default
	Abandoned = "abandoned" // it was never tried
)

// Outcome is how the last update ended.
type Outcome struct {
	Outcome string    `json:"outcome"`
	Why     string    `json:"why,omitempty"`
	Version string    `json:"version"` // that was to be
	Author  string    `json:"author,omitempty"`
	Time    time.Time `json:"time"`
}

// Begin announces an update.
type Begin struct {
	Manifest       []byte               `json:"manifest"`
	Signatures     []manifest.Signature `json:"signatures"`
	AllowDowngrade bool                 `json:"allowDowngrade,omitempty"`
}

// Keys is what a box trusts.
type Keys struct {
	Keys  []Key  `json:"keys"`
	Nonce string `json:"nonce"` // for the next [manifest.KeyChange]
}

// Key is one trusted key.
type Key struct {
	ID    string             `json:"id"`
	Key   manifest.PublicKey `json:"key"`
	Name  string             `json:"name"`
	Added time.Time          `json:"added"`
	By    string             `json:"by,omitempty"` // the id of the key that vouched for it; "" for the first
}

// AddKey asks to trust a key. Only the first one needs no signature.
type AddKey struct {
	Key       manifest.PublicKey  `json:"key"`
	Name      string              `json:"name"`
	Signature *manifest.Signature `json:"signature,omitempty"`
}

// RemoveKey asks to trust a key no more.
type RemoveKey struct {
	Signature manifest.Signature `json:"signature"`
}

// Password sets the password of gokrazy's update protocol.
type Password struct {
	Password string `json:"password"`
}

// Check is one of the box's own programs that was asked as a client of it would ask.
type Check struct {
	What  string `json:"what"`            // such as DNS in zone iot
	Error string `json:"error,omitempty"` // why it does not answer; "": it does
}

// None is the answer to what needs none.
type None struct{}
