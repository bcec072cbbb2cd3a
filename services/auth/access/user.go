package access

import (
	"net/netip"
	"time"
)

// User is somebody who may come in, as the others see them.
type User struct {
	ID       string    `json:"id"` // of this user alone, whoever has the name later
	Name     string    `json:"name"`
	Role     Role      `json:"role"`
	Created  time.Time `json:"created"`
	LastSeen time.Time `json:"lastSeen,omitzero"` // logged in, to the hour
	Password bool      `json:"password"`          // can log in by password and code
	Passkeys []Passkey `json:"passkeys"`
}

// Passkey is a key that a device of the user keeps.
type Passkey struct {
	ID    string    `json:"id"` // to remove it by
	Name  string    `json:"name"`
	Added time.Time `json:"added"`
	Used  time.Time `json:"used,omitzero"` // to the hour
}

// Session is a browser that somebody is logged in with.
type Session struct {
	ID      string     `json:"id"` // to end it by
	User    string     `json:"user"`
	How     string     `json:"how"` // password, passkey or claim
	From    netip.Addr `json:"from"`
	Agent   string     `json:"agent,omitempty"` // what the browser says that it is
	Created time.Time  `json:"created"`
	Used    time.Time  `json:"used"` // last
}

// Site is where a passkey is good for: the host name that browsers know the box by. An
// address is none (WebAuthn section 5.1.2: a relying party's ID is a domain).
type Site struct {
	Host   string // gw.home.arpa
	Origin string // https://gw.home.arpa
	Box    string // how the box is called, for people
}
