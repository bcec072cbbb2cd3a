package svcconf

import (
	"net/netip"
	"time"
)

// Export configures exportd: what is sent to whom.
type Export struct {
	Box      string         `json:"box"`      // its name
	Timezone string         `json:"timezone"` // IANA name
	Zones    []string       `json:"zones"`    // that records name, in the order of the file
	Exports  []ExportTarget `json:"exports"`
	Alerts   []AlertTarget  `json:"alerts"`
}

// Peer is a host that exportd sends to. What its fields say is as in model.Peer.
type Peer struct {
	Scheme  string         `json:"scheme"`
	Address netip.AddrPort `json:"address"`
	Name    string         `json:"name,omitempty"`
	Path    string         `json:"path,omitempty"`
	CA      []string       `json:"ca,omitempty"`
}

// ExportTarget is where records and events are sent.
type ExportTarget struct {
	Name     string `json:"name"`
	Format   string `json:"format"` // one of model.ExportFormats
	To       Peer   `json:"to"`
	Flows    bool   `json:"flows,omitempty"`
	Refusals bool   `json:"refusals,omitempty"`
	Events   bool   `json:"events,omitempty"`
	Secret   string `json:"-"` // names the secret that Token is, before that is looked up
	Token    string `json:"token,omitempty"`
}

// AlertTarget is who is told of events.
type AlertTarget struct {
	Name       string   `json:"name"`
	By         string   `json:"by"` // one of model.AlertWays
	To         Peer     `json:"to"` // Path may be a secret, too
	Events     []string `json:"events,omitempty"`
	User       string   `json:"user,omitempty"`
	From       string   `json:"from,omitempty"`
	Recipients []string `json:"recipients,omitempty"`
	Again      Duration `json:"again"`
	Limit      int      `json:"limit"` // in an hour
	QuietFrom  int      `json:"quietFrom,omitempty"`
	QuietTo    int      `json:"quietTo,omitempty"` // minutes since midnight in Timezone

	// Names of the secrets behind what follows and behind To.Path.
	TokenSecret    string `json:"-"`
	PasswordSecret string `json:"-"`
	PathSecret     string `json:"-"`
	Token          string `json:"token,omitempty"`
	Password       string `json:"password,omitempty"`
}

// ExportStatus is what exportd says of itself.
type ExportStatus struct {
	Targets []TargetStatus `json:"targets"`
	// Missed counts records and events that flowd had and exportd was too slow for, or
	// could not read.
	Missed uint64 `json:"missed,omitempty"`
}

// TargetStatus is how sending to one goes.
type TargetStatus struct {
	Name    string    `json:"name"`
	Alert   bool      `json:"alert,omitempty"`  // it is one of Alerts
	Sent    uint64    `json:"sent"`             // records and events; of alerts messages
	Lost    uint64    `json:"lost,omitempty"`   // that there was no room for
	Queued  int       `json:"queued,omitempty"` // that wait
	At      time.Time `json:"at,omitzero"`      // when something was last sent
	Error   string    `json:"error,omitempty"`  // of the last attempt
	Failing time.Time `json:"failing,omitzero"` // since when
}

// AlertAnswer is what became of a test of an alert.
type AlertAnswer struct {
	Name   string `json:"name"`
	Answer string `json:"answer,omitempty"` // of who was told
	Error  string `json:"error,omitempty"`  // "": it was told
}
