// Package api is the protocol of authd's socket: what one may ask of it, and a client.
// The values are JSON over HTTP.
package api

import (
	"encoding/json"
	"time"

	"bulkhead/services/auth/access"
	"bulkhead/services/auth/audit"
)

// SocketFile is the name of authd's socket below the run directory.
const SocketFile = "authd/auth.sock"

// ClientHeader carries the address that webuid was asked from.
const ClientHeader = "Bulkhead-Client"

// Kind is what a caller has shown.
type Kind string

// The kinds of callers.
const (
	ByToken   Kind = "token"
	BySession Kind = "user"
)

// Caller is who holds a token or a session.
type Caller struct {
	Kind    Kind           `json:"kind"`
	Name    string         `json:"name"` // of the token, or of the user
	ID      string         `json:"id"`   // of the token, or of the user; nobody of the same name has it later
	Scopes  []access.Scope `json:"scopes"`
	Role    access.Role    `json:"role,omitempty"`    // of a user
	Session string         `json:"session,omitempty"` // ID of the session
	Expires time.Time      `json:"expires,omitzero"`  // of a token
}

// Identity tells callers apart for good: a token may have the name of a user.
func (c Caller) Identity() string { return string(c.Kind) + ":" + c.Name }

// Holder is the caller as somebody to whom things belong that are there for longer.
func (c Caller) Holder() Holder { return Holder{c.Kind, c.Name, c.ID} }

// Holder is a user or a token, told apart from those that had the name before or will have
// it: names are used again.
type Holder struct {
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
	ID   string `json:"id"`
}

// Identity is that of [Caller], for people.
func (h Holder) Identity() string { return string(h.Kind) + ":" + h.Name }

// Holders asks which of them are still there, at most [MaxHolders].
type Holders struct {
	Holders []Holder `json:"holders"`
}

// MaxHolders is how many may be asked about at once.
const MaxHolders = 64

// Holding is one that is, and what it may: nothing, if it is a token that has expired. By
// another clock it may not have.
type Holding struct {
	Holder
	Scopes []access.Scope `json:"scopes"`
}

// CertificateNote has it written down that the caller had a client certificate made, or
// revoked one.
type CertificateNote struct {
	Revoked bool   `json:"revoked,omitempty"`
	Label   string `json:"label"`
	Of      string `json:"of"` // whose it is: an identity
}

// Check asks who holds a secret, and whether they may use what needs a scope.
type Check struct {
	Secret string       `json:"secret"`
	Need   access.Scope `json:"need,omitempty"` // "": none
	Use    bool         `json:"use,omitempty"`  // somebody asks who sits there: a session goes on
}

// Login asks for a session by a password and a code.
type Login struct {
	User     string `json:"user"`
	Password string `json:"password"`
	Code     string `json:"code"`
}

// Session is the only answer that ever holds its secret.
type Session struct {
	Secret string `json:"secret"`
	User   string `json:"user"`
}

// Site is where browsers know the box, for passkeys.
type Site = access.Site

// Options are what a browser's navigator.credentials is called with.
type Options struct {
	Options json.RawMessage `json:"options"`
}

// Answer is what it returned.
type Answer struct {
	Site   Site            `json:"site"`
	Label  string          `json:"label,omitempty"` // what the user calls a new passkey
	Answer json.RawMessage `json:"answer"`
}

// Code is the secret of an authenticator app that is to be set up.
type Code struct {
	Secret string `json:"secret"` // to type
	URI    string `json:"uri"`    // for a QR code
}

// NewPassword sets one. Both factors are set together.
type NewPassword struct {
	Password string `json:"password"`
	Secret   string `json:"secret"` // of Code
	Code     string `json:"code"`   // that the app shows now
}

// NewUser makes a user, who comes in by the invitation that is the answer.
type NewUser struct {
	Name string      `json:"name"`
	Role access.Role `json:"role"`
}

// NewRole changes what a user may do.
type NewRole struct {
	Role access.Role `json:"role"`
}

// Invitation lets a user in once, to make a passkey or to set a password.
type Invitation struct {
	User    string    `json:"user"`
	Code    string    `json:"code"`
	Expires time.Time `json:"expires"`
}

// Redeem asks for a session by an invitation.
type Redeem struct {
	Code string `json:"code"`
}

// Claim takes the box, by the code on its console: from a program, which shows that it
// knows the code and in which TLS session, for a token; or by a browser, which sends the
// code itself, for a session of the admin who is made.
type Claim struct {
	Name     string `json:"name"` // of the token or of the user
	Proof    []byte `json:"proof,omitempty"`
	Exporter []byte `json:"exporter,omitempty"`
	Code     string `json:"code,omitempty"`
}

// Claimed is what a right code brings.
type Claimed struct {
	Secret string `json:"secret"`          // of the token or the session
	Proof  []byte `json:"proof,omitempty"` // that the box knows the code
}

// Ownership is what the console is told.
type Ownership struct {
	Claimed bool   `json:"claimed"`
	Code    string `json:"code,omitempty"`
}

// Owner says whether the box has one, which anybody may know.
type Owner struct {
	Claimed bool `json:"claimed"`
}

// Audit is the newest entries.
type Audit struct {
	Entries []audit.Entry `json:"entries"`
	Damaged int           `json:"damaged,omitempty"` // entries that cannot be read
}

// None is nothing to say.
type None struct{}
